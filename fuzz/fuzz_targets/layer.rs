//! A layer of a stranger: unpacked for real beneath a directory, and given back from its frame.
//!
//! Needs root, as unpacking does; run it where nothing is lost: it makes devices and set-user-id files below /tmp.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static PLACE: OnceLock<std::path::PathBuf> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let place = PLACE.get_or_init(|| std::env::temp_dir().join(format!("podwire-fuzz-{}", std::process::id())));
    let diff = place.join("diff");
    let _ = std::fs::remove_dir_all(place);
    std::fs::create_dir_all(&diff).expect("a directory can be made");
    images::fuzzing::layer(bytes, &diff);
    let _ = std::fs::remove_dir_all(place);
});
