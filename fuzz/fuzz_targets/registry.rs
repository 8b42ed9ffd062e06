//! Headers and answers of registries and token servers, and of programs that keep secrets.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    images::fuzzing::answers(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        images::fuzzing::headers(text);
    }
});
