//! Archives for `load`: docker-archive, oci-archive, skopeo's dir.
//!
//! Either the octets of a tar archive, or a text that one is made of: `=== NAME` and below it the file's content, in which
//! `{NAME}` is the digest of an earlier file (64 hexadecimal digits). `=== NAME -> TARGET` is a hard link.
#![no_main]

use std::io::{Seek as _, Write as _};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let made = std::str::from_utf8(bytes).ok().filter(|text| text.starts_with("=== ")).map(archive);
    let Ok(mut file) = tempfile::tempfile() else { return };
    file.write_all(made.as_deref().unwrap_or(bytes)).expect("there is room");
    file.rewind().expect("a file");
    images::fuzzing::package(file);
});

fn archive(text: &str) -> Vec<u8> {
    let mut digests: Vec<(String, String)> = Vec::new();
    let filled = |text: &str, digests: &[(String, String)]| {
        digests.iter().fold(text.to_owned(), |text, (name, digest)| text.replace(&format!("{{{name}}}"), digest))
    };
    let mut builder = tar::Builder::new(Vec::new());
    for part in text.strip_prefix("=== ").unwrap_or(text).split("\n=== ") {
        let (head, content) = part.split_once('\n').unwrap_or((part, ""));
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some((name, target)) = head.split_once(" -> ") {
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            let _ = builder.append_link(&mut header, filled(name, &digests), filled(target, &digests));
            continue;
        }
        let (name, content) = (filled(head, &digests), filled(content, &digests));
        header.set_size(content.len() as u64);
        let _ = builder.append_data(&mut header, &name, content.as_bytes());
        digests.push((head.to_owned(), images::Digest::of(content.as_bytes()).hex().to_owned()));
    }
    builder.into_inner().unwrap_or_default()
}
