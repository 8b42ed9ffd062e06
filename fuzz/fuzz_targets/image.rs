//! Manifests and configurations of images, and the archives of layers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    images::fuzzing::archive(bytes);
    images::fuzzing::manifest(bytes);
});
