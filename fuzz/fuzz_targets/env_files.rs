//! Files of `--env-file` and `--label-file`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| podwire::fuzzing::env_files(text));
