//! Any line behind `podwire`, one word a line: understood, or refused in words.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| podwire::fuzzing::command_line(&lines.lines().map(str::to_owned).collect::<Vec<_>>()));
