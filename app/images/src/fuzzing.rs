//! Doors for fuzzers: whatever the bytes, these return.

use crate::archive::Archive;
use crate::auth;
use crate::manifest;
use crate::reference::Name;
use crate::registries::Registries;

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

/// Reads `text` as registries.conf and resolves a name by it.
pub fn registries(text: &str) {
    Registries::try_parse(text);
}

/// Reads `bytes` as auth.json and looks for a repository in it.
pub fn auth(bytes: &[u8]) {
    auth::try_parse(bytes, "docker.io/library/x");
}

/// Unpacks `bytes` as a layer into a directory that must be there, and compares what is given back.
pub fn layer(bytes: &[u8], diff: &std::path::Path) {
    let limits = crate::Limits { unpacked: 1 << 20, entries: 1000, ratio: 1000, ratio_free: 1 << 20 };
    if crate::layer::unpack(bytes, None, diff, &limits).is_ok() {
        let mut back = Vec::new();
        // A layer may have replaced what it linked to; then it says so.
        if crate::frame::rebuild(diff, &mut back).is_ok() && back.len() == bytes.len() {
            assert!(back == bytes, "a frame gave other bytes");
        }
    }
}
