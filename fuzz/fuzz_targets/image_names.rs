//! References, digests, platforms, destinations of `push`, changes of `import`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| images::fuzzing::names(text));
