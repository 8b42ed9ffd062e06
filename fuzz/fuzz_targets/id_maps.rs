//! `--uidmap`, one a line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| engine::fuzzing::id_map(lines));
