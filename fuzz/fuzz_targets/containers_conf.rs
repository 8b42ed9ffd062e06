//! containers.conf, and drop-ins behind lines of dashes: what they say is what flags could say.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    podwire::fuzzing::containers_conf(text);
    engine::fuzzing::settings(text);
});
