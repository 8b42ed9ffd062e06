//! Configurations of images: shown by `inspect`, with their health checks.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| engine::fuzzing::image_config(text));
