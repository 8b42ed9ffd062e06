//! Tar streams for `podwire cp`: nothing is written outside of what they are unpacked below.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static PLACE: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory can be made"));

fuzz_target!(|bytes: &[u8]| {
    let inside = PLACE.path().join("root");
    let _ = std::fs::remove_dir_all(&inside);
    std::fs::create_dir_all(inside.join("there")).expect("a directory can be made");
    engine::fuzzing::copy(bytes, &inside);
    let beside = std::fs::read_dir(PLACE.path()).expect("it is there").count();
    assert_eq!(beside, 1, "something is beside the container's files");
});
