//! `--filter`, one a line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| podwire::fuzzing::filters(lines));
