//! The host's resolv.conf and hosts, whoever wrote them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    engine::fuzzing::resolv_conf(text);
    engine::fuzzing::hosts(text);
});
