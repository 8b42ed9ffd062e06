//! The values of `pod create`'s flags, one a line: what is understood is stored and read again.
#![no_main]

use engine::config::NetworkConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| {
    let Some(network) = podwire::fuzzing::pod(lines) else { return };
    let stored = serde_json::to_string(&network).expect("it can be stored");
    assert_eq!(serde_json::from_str::<NetworkConfig>(&stored).expect("it was stored"), network);
});
