//! Containers' output, and logs that a crash has cut off.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| engine::fuzzing::log(bytes));
