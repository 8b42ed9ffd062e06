//! What the kernel sends: links, addresses, routes, flows, elements of sets, errors and their words.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| host::fuzzing::replies(bytes));
