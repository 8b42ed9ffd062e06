//! The values of `run`'s flags, `--network NAME:ip=…` among them: what is understood is stored and read again.
#![no_main]

use engine::config::NetworkConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| {
    let Some(network) = podwire::fuzzing::run(lines) else { return };
    let stored = serde_json::to_string(&network).expect("it can be stored");
    assert_eq!(serde_json::from_str::<NetworkConfig>(&stored).expect("it was stored"), network);
});
