//! What a monitor and the commands that watch its container say to each other. The first octet is how much comes at once.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((piece, frames)) = bytes.split_first() {
        engine::fuzzing::frames(frames, (*piece).into());
    }
});
