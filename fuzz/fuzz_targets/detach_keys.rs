//! `--detach-keys` and what is then typed. The first line are the keys, behind a number: how much comes at once.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return };
    let (piece, keys) = line.split_once(' ').unwrap_or(("1", line));
    engine::fuzzing::typed(keys, &bytes[end + 1..], piece.parse().unwrap_or(1));
});
