//! Documents of the store: containers, pods, attachments, volumes, health, leases, control groups.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| engine::fuzzing::record(text));
