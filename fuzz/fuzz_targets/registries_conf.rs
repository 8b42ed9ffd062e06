//! registries.conf, and auth.json: files of administrators and of other tools.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    images::fuzzing::auth(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        images::fuzzing::registries(text);
    }
});
