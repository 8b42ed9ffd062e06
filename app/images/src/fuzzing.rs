//! Doors for fuzzers: whatever the bytes, these return.

use crate::archive::Archive;
use crate::manifest;
use crate::reference::Name;

/// Reads `bytes` as a tar archive to its end or first error.
pub fn archive(bytes: &[u8]) {
    let mut archive = Archive::new(bytes);
    while let Ok(Some(entry)) = archive.next() {
        if archive.copy(&entry, |_, _| Ok(())).is_err() {
            return;
        }
    }
}

/// Reads `bytes` as a manifest and as a configuration.
pub fn manifest(bytes: &[u8]) {
    let _ = manifest::Manifest::parse(bytes, None);
    let _ = manifest::configuration(bytes);
}

/// Reads `text` as a name and as a `WWW-Authenticate` header.
pub fn words(text: &str) {
    let _ = text.parse::<Name>();
    let _ = crate::registry::challenges(text);
}
