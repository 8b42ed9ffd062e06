//! Times, durations, sizes, numbers, lists, ports and paths, as flags of many commands take them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| podwire::fuzzing::values(text));
