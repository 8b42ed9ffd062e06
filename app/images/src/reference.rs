//! Names of images, as in `docker.io/library/alpine:3.20`.
//!
//! ```text
//!   127.0.0.1:5000/libpod/banner:v1@sha256:…
//!   └─registry───┘ └repository─┘ └tag └digest
//!
//!   alpine  (short)  ──> candidates: docker.io/library/alpine (alias), localhost/alpine, REGISTRY/alpine …
//! ```
//!
//! The grammar is [distribution/reference](https://github.com/distribution/reference/blob/v0.6.0/reference.go)'s.

use std::fmt;
use std::str::FromStr;

use model::Invalid;

use crate::Digest;

/// The longest name without tag and digest (distribution/reference: `NameTotalLengthMax`).
const NAME_MAX: usize = 255;

/// The longest tag.
const TAG_MAX: usize = 128;

/// A name as typed: perhaps without a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// It has a registry.
    Full(Reference),
    /// It has none: several references may be meant.
    Short(ShortName),
}

/// A full name: registry, repository, and a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    version: Version,
}

/// Which image of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `:TAG`; `latest` when nothing was typed.
    Tag(String),
    /// `@DIGEST`; a tag beside it is dropped, as Podman does.
    Digest(Digest),
}

/// A name without a registry, such as `alpine` or `libpod/banner:v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortName {
    repository: String,
    version: Version,
}

impl Reference {
    /// `docker.io`, `127.0.0.1:5000`, `localhost` …
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/alpine`
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag or digest.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Registry and repository: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag, if it is not a digest.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The digest, if it is not a tag.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }

    /// Is this what `short` may mean, whatever the registry and its namespaces: `quay.io/libpod/banner` for `banner`?
    pub(crate) fn ends_with(&self, short: &ShortName) -> bool {
        self.version == short.version && self.path_ends_with(short)
    }

    /// As [`Reference::ends_with`], whatever the tag.
    pub(crate) fn path_ends_with(&self, short: &ShortName) -> bool {
        self.repository.strip_suffix(&short.repository).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    }
}

impl ShortName {
    /// The path without tag or digest, as aliases in registries.conf are keyed.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag or digest.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// This name at `registry`.
    pub fn at(&self, registry: &str) -> Result<Reference, Invalid> {
        qualified(&format!("{registry}/{}", self.repository), self.version.clone())
    }

    /// The full name that an alias stands for, with our tag or digest.
    pub(crate) fn aliased(&self, target: &str) -> Result<Reference, Invalid> {
        qualified(target, self.version.clone())
    }
}

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (name, version) = split(text)?;
        match name.split_once('/') {
            Some((first, _)) if is_registry(first) => qualified(name, version).map(Self::Full),
            _ => {
                check_path(name)?;
                Ok(Self::Short(ShortName { repository: name.to_owned(), version }))
            }
        }
    }
}

impl FromStr for Reference {
    type Err = Invalid;

    /// A full name. A short one is refused: which registry is meant is not this type's to decide.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse()? {
            Name::Full(reference) => Ok(reference),
            Name::Short(_) => Err(Invalid(format!("{text:?} names no registry"))),
        }
    }
}

impl Name {
    /// Was a tag or a digest typed in `text`, which this was made of? Without one it means `latest`.
    pub(crate) fn has_version(&self, text: &str) -> bool {
        let version = match self {
            Self::Full(reference) => reference.version(),
            Self::Short(short) => short.version(),
        };
        text.ends_with(&version.to_string())
    }

    /// The name an image gets that comes from an archive or a tarball: `localhost/NAME` for a short one.
    pub fn local(&self) -> Result<Reference, Invalid> {
        match self {
            Self::Full(reference) => Ok(reference.clone()),
            Self::Short(short) => short.at("localhost"),
        }
    }
}

/// Cuts `NAME[:TAG][@DIGEST]`.
fn split(text: &str) -> Result<(&str, Version), Invalid> {
    let invalid = || Invalid("invalid reference format".to_owned());
    if text.is_empty() {
        return Err(Invalid("repository name must have at least one component".to_owned()));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|_| invalid())?)),
        None => (text, None),
    };
    // A colon before the last slash is a port's.
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[last..].split_once(':') {
        Some((base, tag)) => (&rest[..last + base.len()], Some(tag)),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(invalid());
    }
    let tag = tag.unwrap_or("latest").to_owned();
    Ok((name, digest.map_or(Version::Tag(tag), Version::Digest)))
}

/// A name with its registry; `docker.io` and `index.docker.io` are one, and its official images are in `library/`.
fn qualified(name: &str, version: Version) -> Result<Reference, Invalid> {
    let invalid = || Invalid("invalid reference format".to_owned());
    let (registry, repository) = name.split_once('/').ok_or_else(invalid)?;
    if !is_host(registry) {
        return Err(invalid());
    }
    check_path(repository)?;
    let (registry, repository) = match registry {
        "docker.io" | "index.docker.io" if !repository.contains('/') => ("docker.io", format!("library/{repository}")),
        "index.docker.io" => ("docker.io", repository.to_owned()),
        _ => (registry, repository.to_owned()),
    };
    if registry.len() + 1 + repository.len() > NAME_MAX {
        return Err(Invalid(format!("repository name must not be more than {NAME_MAX} characters")));
    }
    Ok(Reference { registry: registry.to_owned(), repository, version })
}

/// Docker's rule: the first component is a registry if it has a dot or a colon, or is `localhost`.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// `HOST[:PORT]` or `[IPv6][:PORT]`
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, rest)) => {
            if ip.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Components of lower-case letters and digits, separated inside by `.`, `_`, `__` or dashes.
fn check_path(path: &str) -> Result<(), Invalid> {
    if path.len() > NAME_MAX {
        return Err(Invalid(format!("repository name must not be more than {NAME_MAX} characters")));
    }
    if path.split('/').all(is_component) {
        return Ok(());
    }
    let lower = path.to_ascii_lowercase();
    match lower != path && lower.split('/').all(is_component) {
        true => Err(Invalid("repository name must be lowercase".to_owned())),
        false => Err(Invalid("invalid reference format".to_owned())),
    }
}

fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<u8>| b.is_some_and(word);
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends(text.bytes().next())
        && ends(text.bytes().last())
        && separators.into_iter().all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.version)
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository, self.version)
    }
}

impl fmt::Display for Version {
    /// With its sign: `:TAG` or `@DIGEST`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, means: &str) {
        let said = match text.parse::<Name>() {
            Ok(Name::Full(reference)) => reference.to_string(),
            Ok(Name::Short(short)) => format!("short {short}"),
            Err(error) => error.0,
        };
        assert_eq!(said, means, "{text:?}");
    }

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_name_is_short_or_has_a_registry() {
        check("alpine", "short alpine:latest");
        check("libpod/banner:v1", "short libpod/banner:v1");
        check("docker.io/alpine", "docker.io/library/alpine:latest");
        check("index.docker.io/me/alpine:3", "docker.io/me/alpine:3");
        check("quay.io/libpod/banner", "quay.io/libpod/banner:latest");
        check("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest");
        check("localhost/x:y", "localhost/x:y");
        check("[::1]:5000/x", "[::1]:5000/x:latest");
        check(&format!("quay.io/x@{DIGEST}"), &format!("quay.io/x@{DIGEST}"));
        check(&format!("quay.io/x:tag@{DIGEST}"), &format!("quay.io/x@{DIGEST}"));
        check("a/b__c/d---e.f", "short a/b__c/d---e.f:latest");
    }

    #[test]
    fn wrong_names_are_refused_in_podmans_words() {
        check("", "repository name must have at least one component");
        check("Foo", "repository name must be lowercase");
        check("127.0.0.1:1/Foo", "repository name must be lowercase");
        for bad in [
            "a b",
            "foo:",
            "foo@sha256:12",
            "a//b",
            "foo:-bad",
            "foo:tag@sha256:1",
            "/x",
            "x/",
            "a..b",
            "-a",
            "a-",
            "a___b",
            "host:99999/x",
            "host:/x",
            "host:0/x",
            "[::g]/x",
            "a/../b",
            "x:y:z",
            "é",
            "foo\n",
            "quay.io/../etc",
        ] {
            check(bad, "invalid reference format");
        }
        let long = format!("quay.io/{}", "a/".repeat(130) + "a");
        check(&long, "repository name must not be more than 255 characters");
    }

    #[test]
    fn an_unqualified_name_of_an_archive_becomes_a_local_one() {
        let local = |text: &str| text.parse::<Name>().unwrap().local().unwrap().to_string();
        assert_eq!(local("banner"), "localhost/banner:latest");
        assert_eq!(local("quay.io/banner:2"), "quay.io/banner:2");
    }

    #[test]
    fn a_short_name_ends_a_full_one_only_at_a_slash() {
        let full: Reference = "example.com/foo/bar".parse().unwrap();
        let ends = |text: &str| match text.parse().unwrap() {
            Name::Short(short) => full.ends_with(&short),
            Name::Full(_) => panic!("{text}"),
        };
        assert!(ends("bar") && ends("foo/bar"));
        assert!(!ends("oo/bar") && !ends("bar:v2") && !ends("com/foo/bar"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_an_error(text in ".{0,80}") {
            let _ = text.parse::<Name>();
        }

        #[test]
        fn what_is_printed_parses_to_the_same(text in "[a-zA-Z0-9.:/@_-]{1,40}") {
            if let Ok(Name::Full(reference)) = text.parse() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
