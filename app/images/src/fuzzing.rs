//! Doors for fuzzers: whatever the bytes, these return.

use std::fmt::{Debug, Display};
use std::fs::File;
use std::io::Read as _;
use std::str::FromStr;

use ureq::http::{HeaderMap, HeaderValue, header};

use crate::archive::Archive;
use crate::load::{Choice, Files, Index};
use crate::reference::{Name, Reference};
use crate::registries::Registries;
use crate::{
    Change, Digest, Image, Platform, Policy, auth, credential_program, manifest, push, registry, search, upload,
};

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

/// The image that has `config` as its configuration.
pub fn image(config: &str) -> Option<Image> {
    let document = crate::load::document(crate::Format::Oci, Vec::new(), config.as_bytes().to_vec()).ok()?;
    let id = crate::pull::image_id(config.as_bytes());
    document.image(id, vec!["docker.io/library/x:latest".to_owned()], Vec::new(), 0).ok()
}

/// Reads `text` as everything that names an image, or something about it: printed, it is read as the same.
pub fn names(text: &str) {
    if let Ok(name) = text.parse::<Name>() {
        let full = match &name {
            Name::Full(reference) => Ok(reference.clone()),
            Name::Short(short) => short.at("docker.io"),
        };
        for reference in full.into_iter().chain(name.local()) {
            let printed = reference.to_string();
            assert_eq!(printed.parse::<Reference>().as_ref(), Ok(&reference), "{text:?} is printed as {printed:?}");
            // It becomes part of a URL.
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@[]".contains(&b);
            assert!(printed.bytes().all(is_plain), "{printed:?}");
            assert!(reference.repository().split('/').all(|part| !matches!(part, "" | "." | "..")), "{printed:?}");
        }
    }
    if let Some(digest) = same::<Digest>(text) {
        assert!(digest.hex().bytes().all(|b| b.is_ascii_hexdigit()), "{digest}");
    }
    same::<Platform>(text);
    let _ = (text.parse::<Policy>(), text.parse::<Change>(), push::is_destination(text));
}

/// The value, after it was printed and read again.
fn same<T: FromStr + Display + Debug + PartialEq>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let printed = value.to_string();
    assert_eq!(printed.parse::<T>().ok().as_ref(), Some(&value), "{text:?} is printed as {printed:?}");
    Some(value)
}

/// Where registries are for whom it matters whether anybody listens.
const ORIGINS: [&str; 2] = ["https://q.io:5000", "http://localhost:5000"];

/// Reads `text` as each header of a registry that we look at: it can send us nowhere that its user would not go.
pub fn headers(text: &str) {
    let challenges = registry::challenges(text);
    assert!(challenges.len() <= text.len());
    let Ok(value) = HeaderValue::from_str(text) else { return };
    let headers = HeaderMap::from_iter([(header::LINK, value.clone()), (header::CONTENT_RANGE, value)]);
    let digest = Digest::of(b"");
    for origin in ORIGINS {
        if let Some(url) = registry::next_page(&headers, origin) {
            assert!(url.starts_with(&format!("{origin}/")), "{text:?} leads from {origin} to {url:?}");
        }
        let is_safe = |url: &String| {
            let scheme = url.split("://").next().unwrap_or_default();
            !origin.starts_with("https") || scheme.eq_ignore_ascii_case("https")
        };
        let place = upload::place(Some(text), origin, &digest);
        assert!(place.as_ref().ok().is_none_or(is_safe), "{text:?} leads from {origin} to {place:?}");
    }
    let _ = registry::continues(&headers, 7);
}

/// Reads `bytes` as each answer of a registry, a token server, or a program that keeps secrets.
pub fn answers(bytes: &[u8]) {
    if let Some(line) = registry::registry_message(bytes) {
        assert!(!line.chars().any(char::is_control) && line.chars().count() <= 300, "{line:?}");
    }
    if let Ok(token) = registry::token_in(bytes) {
        assert!(HeaderValue::from_str(&format!("Bearer {token}")).is_ok(), "{token:?}");
    }
    for hit in search::hits_in(bytes, "q.io").into_iter().flatten() {
        assert!(!format!("{}{}", hit.name, hit.description).chars().any(char::is_control), "{hit:?}");
    }
    let _ = credential_program::credentials_in("x", bytes);
}

/// Reads `text` as registries.conf and resolves a name by it.
pub fn registries(text: &str) {
    Registries::try_parse(text);
}

/// Reads `bytes` as auth.json and looks for a repository in it.
pub fn auth(bytes: &[u8]) {
    auth::try_parse(bytes, "docker.io/library/x");
}

/// Reads `file` as an archive of images: what it says its layers are is in it.
pub fn package(file: File) {
    let length = file.metadata().map_or(0, |meta| meta.len());
    let Ok(index) = Index::of(file) else { return };
    let files = Files::Archive(index);
    for name in [None, Some("docker.io/library/a:1"), Some("@0")] {
        let choice = Choice { name, platform: "linux/amd64".parse().ok() };
        for (image, paths) in crate::load::images_in(&files, &choice).into_iter().flatten() {
            assert_eq!(image.layers.len(), paths.len());
            image.names.iter().for_each(|name| names(name));
            for path in paths {
                let Ok((reader, size)) = files.open(&path) else { continue };
                let read = reader.take(length + 1).read_to_end(&mut Vec::new());
                assert!(read.is_ok_and(|read| read as u64 <= size && size <= length), "{path:?}");
            }
        }
    }
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
