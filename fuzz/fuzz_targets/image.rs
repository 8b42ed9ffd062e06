//! Names of images, registries' headers, manifests and configurations, layers' archives.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    images::fuzzing::archive(bytes);
    images::fuzzing::manifest(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        images::fuzzing::words(text);
    }
});
