//! `-u` in an image's own /etc/passwd and /etc/group. The first line is the wish, a line of dashes is between the files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (wish, files) = text.split_once('\n').unwrap_or((text, ""));
    let (passwd, group) = files.split_once("---\n").unwrap_or((files, files));
    engine::fuzzing::user(wish, passwd, group);
});
