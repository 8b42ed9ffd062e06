//! What the machine's administrator says about registries: registries.conf, and where credentials and certificates are.
//!
//! Read of [containers-registries.conf(5)](https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md):
//! `unqualified-search-registries`, `short-name-mode`, `[aliases]`, `credential-helpers`, and of `[[registry]]` `prefix`, `location`,
//! `insecure`, `blocked` and `mirror-by-digest-only`, and of its `[[registry.mirror]]` `location`, `insecure` and `pull-from-mirror`; the format of before 2019 is refused. First /etc/containers/registries.conf, then registries.conf.d/*.conf in the order of letters.

use std::collections::BTreeMap;
use std::env::var_os;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{ImageError, Result};
use crate::reference::{Reference, ShortName};

/// The files of a machine that say how to reach registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// registries.conf; perhaps not there.
    pub registries_conf: PathBuf,
    /// Directories of further `*.conf`; later ones win.
    pub registries_conf_d: Vec<PathBuf>,
    /// Files with credentials; earlier ones win.
    pub auth_files: Vec<PathBuf>,
    /// Bundles of certificates to trust; the first that is there counts. The Mozilla list built in, when none is.
    pub certificates: Vec<PathBuf>,
    /// Directories with a directory per registry that has certificates of its own (`*.crt`).
    pub certs_d: Vec<PathBuf>,
}

impl Machine {
    /// The files of this machine and this user, as containers/image looks for them.
    pub fn here() -> Self {
        let path = |variable: &str| var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let user = linux::userns::outer_uid();
        let home = path("HOME").or_else(|| linux::account::Account::of(user).home).unwrap_or_else(|| "/".into());
        let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let run = path("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/containers/{user}").into());
        // XDG_RUNTIME_DIR is used as it is, the other only when it has our own subdirectory.
        let run_auth =
            if var_os("XDG_RUNTIME_DIR").is_some() { run.join("containers/auth.json") } else { run.join("auth.json") };
        let auth_files = match path("REGISTRY_AUTH_FILE") {
            Some(only) => vec![only],
            None => vec![run_auth, config.join("containers/auth.json"), home.join(".docker/config.json")],
        };
        let bundles =
            ["ssl/certs/ca-certificates.crt", "pki/tls/certs/ca-bundle.crt", "ssl/ca-bundle.pem", "ssl/cert.pem"];
        // An ordinary user has files of his own; his registries.conf takes the place of the machine's.
        let own = (user != 0).then(|| config.join("containers"));
        let own_conf = own.as_ref().map(|own| own.join("registries.conf")).filter(|path| path.is_file());
        let below = |machines: &str, name: &str| {
            let own = own.iter().map(|own| own.join(name));
            std::iter::once(PathBuf::from(machines)).chain(own).collect::<Vec<_>>()
        };
        Self {
            registries_conf: path("CONTAINERS_REGISTRIES_CONF")
                .or(own_conf)
                .unwrap_or_else(|| "/etc/containers/registries.conf".into()),
            registries_conf_d: below("/etc/containers/registries.conf.d", "registries.conf.d"),
            auth_files,
            certificates: path("SSL_CERT_FILE").into_iter().chain(bundles.map(|b| Path::new("/etc").join(b))).collect(),
            // The user's own come first (containers-certs.d(5)).
            certs_d: own
                .iter()
                .map(|own| own.join("certs.d"))
                .chain(["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()])
                .collect(),
        }
    }
}

/// What registries.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// The main file, for messages.
    file: PathBuf,
    search: Vec<String>,
    /// Several search registries are for a human to choose from.
    enforcing: bool,
    aliases: BTreeMap<String, String>,
    /// Who has credentials, in the order in which they are asked.
    helpers: Vec<String>,
    /// By prefix.
    registries: BTreeMap<String, Place>,
}

/// Where images with some prefix are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Place {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    #[serde(rename = "mirror-by-digest-only")]
    by_digest_only: bool,
    mirror: Vec<Mirror>,
}

/// Another place that has the same images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Mirror {
    location: String,
    insecure: bool,
    #[serde(rename = "pull-from-mirror")]
    pulls: Pulls,
}

/// Which pulls a mirror is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pulls {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// Where to ask for a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) reference: Reference,
    /// Unknown certificates and plain HTTP are fine.
    pub(crate) insecure: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileToml {
    #[serde(rename = "unqualified-search-registries")]
    search: Option<Vec<String>>,
    #[serde(rename = "short-name-mode")]
    mode: Option<String>,
    aliases: BTreeMap<String, String>,
    #[serde(rename = "credential-helpers")]
    helpers: Option<Vec<String>>,
    registry: Vec<Place>,
    /// The old format's.
    registries: Option<toml::Table>,
}

impl Registries {
    /// Reads the files of `machine`. Missing files say nothing.
    pub fn read(machine: &Machine) -> Result<Self> {
        let mut all = Self { file: machine.registries_conf.clone(), ..Self::default() };
        let mut files = vec![machine.registries_conf.clone()];
        for directory in &machine.registries_conf_d {
            files.extend(configuration_files(directory)?);
        }
        for file in files {
            match std::fs::read_to_string(&file) {
                Ok(text) => all.add(&file, &text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ImageError::file(&file, error)),
            }
        }
        Ok(all)
    }

    /// By prefix, and where short names are searched, with the keys of Podman's `info`.
    pub(crate) fn shown(&self) -> serde_json::Value {
        let word = |pulls: Pulls| match pulls {
            Pulls::All => "",
            Pulls::DigestOnly => "digest-only",
            Pulls::TagOnly => "tag-only",
        };
        let mirror = |mirror: &Mirror| {
            serde_json::json!({
                "Location": mirror.location, "Insecure": mirror.insecure, "PullFromMirror": word(mirror.pulls),
            })
        };
        let place = |place: &Place| {
            serde_json::json!({
                "Prefix": place.prefix,
                "Location": place.location,
                "Insecure": place.insecure,
                "Mirrors": place.mirror.iter().map(mirror).collect::<Vec<_>>(),
                "Blocked": place.blocked,
                "MirrorByDigestOnly": place.by_digest_only,
                "PullFromMirror": "",
            })
        };
        let mut all: serde_json::Map<_, _> =
            self.registries.iter().map(|(at, what)| (at.clone(), place(what))).collect();
        if !self.search.is_empty() {
            all.insert("search".to_owned(), self.search.clone().into());
        }
        all.into()
    }

    /// Reads `text` and asks it for names, for fuzzing.
    pub(crate) fn try_parse(text: &str) {
        let mut all = Self::default();
        if all.add(Path::new("registries.conf"), text).is_err() {
            return;
        }
        for name in ["alpine", "docker.io/library/alpine:1", "a.b.example.com:5000/x/y"] {
            match name.parse() {
                Ok(crate::reference::Name::Short(short)) => {
                    let _ = (all.pull_candidates(&short), all.local_candidates(&short));
                }
                Ok(crate::reference::Name::Full(reference)) => drop(all.sources(&reference)),
                Err(_) => {}
            }
        }
    }

    /// Later files replace lists, and entries with the same key.
    fn add(&mut self, file: &Path, text: &str) -> Result<()> {
        let wrong = |what: &str| ImageError::Invalid(format!("{}: {what}", file.display()));
        let parsed: FileToml = toml::from_str(text).map_err(|e| wrong(&first_line(&e)))?;
        if parsed.registries.is_some() {
            return Err(wrong("[registries] is of the old format (version 1), which is not supported"));
        }
        match parsed.mode.as_deref() {
            None => {}
            Some("enforcing") => self.enforcing = true,
            Some("permissive" | "disabled" | "") => self.enforcing = false,
            Some(other) => return Err(wrong(&format!("invalid short-name-mode: {other:?}"))),
        }
        self.search = parsed.search.unwrap_or_else(|| std::mem::take(&mut self.search));
        self.aliases.extend(parsed.aliases);
        self.helpers = parsed.helpers.unwrap_or_else(|| std::mem::take(&mut self.helpers));
        for mut place in parsed.registry {
            match (place.prefix.is_empty(), place.location.is_empty()) {
                (true, true) => return Err(wrong("a [[registry]] has neither prefix nor location")),
                (true, false) => place.prefix = place.location.clone(),
                (false, true) if !place.prefix.starts_with("*.") => place.location = place.prefix.clone(),
                _ => {}
            }
            self.registries.insert(place.prefix.clone(), place);
        }
        Ok(())
    }

    /// The full names to try when `short` is to be pulled.
    pub(crate) fn pull_candidates(&self, short: &ShortName) -> Result<Vec<Reference>> {
        if let Some(target) = self.aliases.get(short.repository()) {
            return Ok(vec![short.aliased(target).map_err(|e| self.invalid(&e.0))?]);
        }
        if self.search.is_empty() {
            return Err(ImageError::Invalid(format!(
                "short-name {:?} did not resolve to an alias and no unqualified-search registries are defined in {:?}",
                typed(short),
                self.file.display().to_string()
            )));
        }
        if self.enforcing && self.search.len() > 1 {
            return Err(ImageError::Invalid(format!(
                "short-name {:?} may be in {}: short-name-mode is enforcing, so name the registry",
                typed(short),
                self.search.join(" or ")
            )));
        }
        self.search.iter().map(|registry| short.at(registry).map_err(|e| self.invalid(&e.0))).collect()
    }

    /// The full names that `short` may have on this machine, likeliest first.
    pub(crate) fn local_candidates(&self, short: &ShortName) -> Result<Vec<Reference>> {
        let alias = self.aliases.get(short.repository()).map(|target| short.aliased(target));
        let searched = self.search.iter().map(|registry| short.at(registry));
        let all = alias.into_iter().chain([short.at("localhost")]).chain(searched);
        all.map(|reference| reference.map_err(|e| self.invalid(&e.0))).collect()
    }

    /// `credential-helpers`: none are set where auth.json alone is asked.
    pub(crate) fn helpers(&self) -> &[String] {
        &self.helpers
    }

    /// Where short names are searched.
    pub fn search(&self) -> &[String] {
        &self.search
    }

    /// Are unknown certificates and plain HTTP fine at `name`: a registry, or a repository at one?
    pub(crate) fn is_insecure(&self, name: &str) -> bool {
        self.place(name).is_some_and(|(_, place)| place.insecure)
    }

    /// The longest prefix of `name`: how much of it is covered, and what is said of it.
    fn place(&self, name: &str) -> Option<(usize, &Place)> {
        let matching = self.registries.values().filter_map(|place| Some((matches(&place.prefix, name)?, place)));
        matching.max_by_key(|(length, _)| *length)
    }

    /// Where `reference` is: what is pushed goes there.
    pub(crate) fn locate(&self, reference: &Reference) -> Result<Location> {
        let name = reference.name();
        let Some((length, place)) = self.place(&name) else {
            return Ok(Location { reference: reference.clone(), insecure: false });
        };
        if place.blocked {
            return Err(ImageError::Invalid(format!(
                "registry {} is blocked in {}",
                place.prefix,
                self.file.display()
            )));
        }
        let reference = match place.location.is_empty() || place.location == place.prefix {
            true => reference.clone(),
            false => self.moved(reference, length, &place.location)?,
        };
        Ok(Location { reference, insecure: place.insecure })
    }

    /// Where to ask for `reference`: its mirrors in the order written, then where it is.
    pub(crate) fn sources(&self, reference: &Reference) -> Result<Vec<Location>> {
        let last = self.locate(reference)?;
        let name = reference.name();
        let Some((length, place)) = self.place(&name) else { return Ok(vec![last]) };
        let by_digest = reference.digest().is_some();
        let suits = |mirror: &&Mirror| match mirror.pulls {
            Pulls::All => by_digest || !place.by_digest_only,
            Pulls::DigestOnly => by_digest,
            Pulls::TagOnly => !by_digest && !place.by_digest_only,
        };
        let mirrors = place.mirror.iter().filter(suits).map(|mirror| {
            let reference = self.moved(reference, length, &mirror.location)?;
            Ok(Location { reference, insecure: mirror.insecure })
        });
        mirrors.chain([Ok(last)]).collect()
    }

    /// `reference` with `location` for the first `length` bytes of its name.
    fn moved(&self, reference: &Reference, length: usize, location: &str) -> Result<Reference> {
        let moved = format!("{location}{}{}", &reference.name()[length..], reference.version());
        moved.parse().map_err(|e: model::Invalid| self.invalid(&format!("location {location:?}: {}", e.0)))
    }

    fn invalid(&self, what: &str) -> ImageError {
        ImageError::Invalid(format!("{}: {what}", self.file.display()))
    }
}

/// How many bytes of `name` a prefix covers, if it is one of it: `HOST[/PATH]` up to a slash, or `*.DOMAIN`.
fn matches(prefix: &str, name: &str) -> Option<usize> {
    let host_end = name.find('/').unwrap_or(name.len());
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = &name[..host_end];
        return (host.ends_with(domain) && host.len() > domain.len()).then_some(host_end);
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
}

/// As typed: `:latest` is what was not.
fn typed(short: &ShortName) -> String {
    let text = short.to_string();
    text.strip_suffix(":latest").map_or(text.clone(), str::to_owned)
}

fn configuration_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::file(directory, error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(|e| ImageError::file(directory, e))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    Ok(paths)
}

/// TOML's errors draw a picture; one line is enough.
fn first_line(error: &toml::de::Error) -> String {
    error.message().lines().next().unwrap_or("is not valid TOML").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Name;

    fn registries(texts: &[&str]) -> Result<Registries> {
        let file = Path::new("/etc/containers/registries.conf");
        let mut all = Registries { file: file.to_owned(), ..Registries::default() };
        texts.iter().try_for_each(|text| all.add(file, text))?;
        Ok(all)
    }

    fn short(text: &str) -> ShortName {
        match text.parse().unwrap() {
            Name::Short(short) => short,
            Name::Full(_) => panic!("{text}"),
        }
    }

    fn names(list: Result<Vec<Reference>>) -> Vec<String> {
        list.unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_search_registries_a_short_name_is_refused_in_podmans_words() {
        assert_eq!(
            registries(&[]).unwrap().pull_candidates(&short("x/y")).unwrap_err().to_string(),
            "short-name \"x/y\" did not resolve to an alias and no unqualified-search registries are defined in \"/etc/containers/registries.conf\""
        );
    }

    #[test]
    fn an_alias_wins_over_search_registries() {
        let conf =
            "unqualified-search-registries = ['docker.io', 'quay.io']\n[aliases]\nalpine = 'docker.io/library/alpine'";
        let all = registries(&[conf]).unwrap();
        assert_eq!(names(all.pull_candidates(&short("alpine:3"))), ["docker.io/library/alpine:3"]);
        assert_eq!(names(all.pull_candidates(&short("x"))), ["docker.io/library/x:latest", "quay.io/x:latest"]);
        assert_eq!(
            names(all.local_candidates(&short("alpine"))),
            [
                "docker.io/library/alpine:latest",
                "localhost/alpine:latest",
                "docker.io/library/alpine:latest",
                "quay.io/alpine:latest"
            ]
        );
    }

    #[test]
    fn nobody_is_guessed_for_who_wants_to_be_asked() {
        let conf = "short-name-mode = 'enforcing'\nunqualified-search-registries = ['a.io', 'b.io']";
        let said = registries(&[conf]).unwrap().pull_candidates(&short("x")).unwrap_err().to_string();
        assert_eq!(said, "short-name \"x\" may be in a.io or b.io: short-name-mode is enforcing, so name the registry");
    }

    #[test]
    fn a_later_file_replaces_the_list_and_single_entries() {
        let first = "unqualified-search-registries = ['a.io']\n[aliases]\nx = 'a.io/x'\ny = 'a.io/y'";
        let all = registries(&[first, "[aliases]\nx = 'b.io/x'"]).unwrap();
        assert_eq!(names(all.pull_candidates(&short("x"))), ["b.io/x:latest"]);
        assert_eq!(names(all.pull_candidates(&short("y"))), ["a.io/y:latest"]);
        let all = registries(&[first, "unqualified-search-registries = ['b.io']"]).unwrap();
        assert_eq!(names(all.pull_candidates(&short("z"))), ["b.io/z:latest"]);
    }

    #[test]
    fn the_longest_prefix_says_where_to_ask() {
        let all = registries(&["
            [[registry]]
            location = 'example.com'
            insecure = true
            [[registry]]
            prefix = 'example.com/moved'
            location = 'other.io:5000/new'
            [[registry]]
            prefix = '*.evil.io'
            blocked = true"])
        .unwrap();
        let locate = |text: &str| match all.locate(&text.parse().unwrap()) {
            Ok(location) => format!("{} {}", location.reference, location.insecure),
            Err(error) => error.to_string(),
        };
        assert_eq!(locate("example.com/x"), "example.com/x:latest true");
        assert_eq!(locate("example.com/moved/x:1"), "other.io:5000/new/x:1 false");
        assert_eq!(locate("example.com.org/x"), "example.com.org/x:latest false");
        assert_eq!(locate("a.evil.io/x"), "registry *.evil.io is blocked in /etc/containers/registries.conf");
        assert_eq!(locate("evil.io/x"), "evil.io/x:latest false");
    }

    #[test]
    fn mirrors_come_before_the_registry_itself() {
        let all = registries(&["
            [[registry]]
            prefix = 'q.io/team'
            location = 'real.io/team'
            [[registry.mirror]]
            location = 'near.local:5000/cache'
            insecure = true
            [[registry.mirror]]
            location = 'digests.io'
            pull-from-mirror = 'digest-only'
            [[registry]]
            location = 'strict.io'
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = 'm.io'"])
        .unwrap();
        let sources = |text: &str| {
            let all = all.sources(&text.parse().unwrap()).unwrap();
            let shown = |l: &Location| format!("{}{}", l.reference, if l.insecure { " insecure" } else { "" });
            all.iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(sources("q.io/team/x:1"), "near.local:5000/cache/x:1 insecure, real.io/team/x:1");
        let digest = format!("sha256:{:064}", 0);
        assert_eq!(
            sources(&format!("q.io/team/x@{digest}")),
            format!("near.local:5000/cache/x@{digest} insecure, digests.io/x@{digest}, real.io/team/x@{digest}")
        );
        assert_eq!(sources("strict.io/x"), "strict.io/x:latest");
        assert_eq!(sources(&format!("strict.io/x@{digest}")), format!("m.io/x@{digest}, strict.io/x@{digest}"));
        assert_eq!(sources("other.io/x"), "other.io/x:latest");
        assert!(registries(&["[[registry]]\nlocation='a.io'\n[[registry.mirror]]\npull-from-mirror='maybe'"]).is_err());
    }

    #[test]
    fn a_malformed_file_is_one_line_that_names_it() {
        let said = registries(&["unqualified-search-registries = 3"]).unwrap_err().to_string();
        assert!(said.starts_with("/etc/containers/registries.conf: invalid type"), "{said}");
        assert!(!said.contains('\n'));
        assert!(registries(&["[[registry]]\ninsecure = true"]).is_err());
        let old = registries(&["[registries.search]\nregistries = ['docker.io']"]).unwrap_err().to_string();
        assert!(old.contains("old format"), "{old}");
    }
}
