//! What the kernel tells in /proc, some of which containers name themselves, and /etc/subuid.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    linux::fuzzing::process(text);
    linux::fuzzing::proc_files(text);
    engine::fuzzing::statistics(text);
});
