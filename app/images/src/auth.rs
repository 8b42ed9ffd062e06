//! Credentials: auth.json
//! ([containers-auth.json(5)](https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md)), read and, by
//! [`login`](crate::login), written; and the `docker-credential-*` programs it names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use linux::HostLock;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::credential_program;
use crate::error::{ImageError, Result};

/// Who we are to a registry. Not `Debug`: it must not get into a log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// For basic authentication.
    Password { user: String, password: String },
    /// What `docker login` got instead of a password (OAuth 2 refresh token).
    IdentityToken(String),
}

impl Credentials {
    /// The value of an `Authorization` header.
    pub(crate) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            Self::IdentityToken(_) => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AuthJson {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    identitytoken: String,
}

/// What `credential-helpers` of registries.conf has for the files.
const FILES: &str = "containers-auth.json";

/// The credentials for `name`, a registry or a repository at one, from the first of `helpers` that has any: the files,
/// or a program. The files alone, when there are no helpers.
pub(crate) fn find(helpers: &[String], files: &[PathBuf], name: &str) -> Result<Option<Credentials>> {
    if helpers.is_empty() {
        return in_files(files, name);
    }
    for helper in helpers {
        let found = match helper.as_str() {
            FILES => in_files(files, name),
            // They know registries only.
            program => credential_program::get(program, registry_of(name)),
        };
        match found {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            // Another may have them; without any, the registry says so.
            Err(error) => tracing::warn!(%error, "credential-helpers: {helper} is passed over"),
        }
    }
    Ok(None)
}

fn registry_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// Writes them down where the first of `helpers` that can keeps them.
pub(crate) fn keep(helpers: &[String], file: &Path, key: &str, user: &str, password: &str) -> Result<()> {
    let mut failed = None;
    for helper in helpers {
        let kept = match helper.as_str() {
            FILES => store(file, key, user, password),
            program => credential_program::store(program, registry_of(key), user, password),
        };
        match kept {
            Ok(()) => return Ok(()),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or_else(|| store(file, key, user, password), Err)
}

/// Has all of `helpers` forget the credentials of `key`; `false` when the file had none and no program was asked.
pub(crate) fn forget(helpers: &[String], file: &Path, key: &str) -> Result<bool> {
    let mut known = (helpers.is_empty() || helpers.iter().any(|helper| helper == FILES)) && erase(file, key)?;
    for program in helpers.iter().filter(|helper| *helper != FILES) {
        let registry = registry_of(key);
        if credential_program::get(program, registry)?.is_some() {
            credential_program::erase(program, registry)?;
            known = true;
        }
    }
    Ok(known)
}

/// In the first of `files` that has any.
fn in_files(files: &[PathBuf], name: &str) -> Result<Option<Credentials>> {
    for file in files {
        let Some(parsed) = read(file)? else { continue };
        if let Some(found) = parsed.find(file, name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl AuthJson {
    fn find(&self, file: &Path, name: &str) -> Result<Option<Credentials>> {
        let keys = keys(name);
        // Helpers for a registry come before what is written down; the store for all of them is for the rest.
        for key in &keys {
            if let Some(helper) = self.cred_helpers.get(key)
                && let Some(found) = credential_program::get(helper, key)?
            {
                return Ok(Some(found));
            }
        }
        for key in &keys {
            let Some(entry) = self.auths.get(key) else { continue };
            let wrong = || ImageError::Invalid(format!("{}: the entry for {key} is not valid", file.display()));
            if let Some(found) = credentials(entry).ok_or_else(wrong)? {
                return Ok(Some(found));
            }
            if let Some(store) = &self.creds_store
                && let Some(found) = credential_program::get(store, key)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// A file that is not there, or that is another's, says nothing.
fn read(file: &Path) -> Result<Option<AuthJson>> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(ImageError::file(file, error)),
    };
    parse(&text).map(Some).map_err(|what| ImageError::Invalid(format!("{}: {what}", file.display())))
}

/// What is wrong in it is not shown: it holds secrets.
fn parse<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Result<T, String> {
    match text.trim_ascii().is_empty() {
        // `touch auth.json`: containers/image takes it, too.
        true => serde_json::from_slice(b"{}").map_err(|e| e.to_string()),
        false => serde_json::from_slice(text).map_err(|e| format!("is not valid JSON at line {}", e.line())),
    }
}

/// Reads `text` as auth.json says, for fuzzing.
pub(crate) fn try_parse(text: &[u8], name: &str) {
    if let Ok(parsed) = parse::<AuthJson>(text) {
        let entries = keys(name).into_iter().filter_map(|key| parsed.auths.get(&key));
        entries.for_each(|entry| drop(credentials(entry)));
    }
}

/// Writes `user` and `password` for `key` into `file`, or has the helper that is in charge of it keep them.
pub(crate) fn store(file: &Path, key: &str, user: &str, password: &str) -> Result<()> {
    let parsed = read(file)?.unwrap_or_default();
    match parsed.cred_helpers.get(key).or(parsed.creds_store.as_ref()) {
        Some(helper) => {
            credential_program::store(helper, key, user, password)?;
            // As Docker does: an empty entry says that the store has one.
            change(file, |auths| drop(auths.insert(key.to_owned(), json!({}))))
        }
        None => {
            let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
            change(file, |auths| drop(auths.insert(key.to_owned(), json!({ "auth": auth }))))
        }
    }
}

/// Forgets the credentials of `key`; `false` when there were none.
pub(crate) fn erase(file: &Path, key: &str) -> Result<bool> {
    let parsed = read(file)?.unwrap_or_default();
    let helper = parsed.cred_helpers.get(key).or(parsed.creds_store.as_ref());
    let known = parsed.auths.contains_key(key);
    if let Some(helper) = helper.filter(|_| known || parsed.cred_helpers.contains_key(key)) {
        credential_program::erase(helper, key)?;
    }
    if known {
        change(file, |auths| drop(auths.remove(key)))?;
    }
    Ok(known || helper.is_some() && parsed.cred_helpers.contains_key(key))
}

/// Forgets all credentials written in `file`; the keys that a helper keeps are erased there.
pub(crate) fn erase_all(file: &Path) -> Result<()> {
    let parsed = read(file)?.unwrap_or_default();
    let keys = parsed.auths.keys().chain(parsed.cred_helpers.keys());
    keys.cloned().collect::<std::collections::BTreeSet<_>>().iter().try_for_each(|key| erase(file, key).map(drop))
}

/// Rewrites the entries of `file`, which is made if need be; whatever else is in it stays. One writer at a time.
fn change(file: &Path, act: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: io::Error| ImageError::file(file, error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let _lock = HostLock::take_directory(directory).map_err(failed)?;
    let text = match std::fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(failed)?,
    };
    let wrong = |what: String| ImageError::Invalid(format!("{}: {what}", file.display()));
    let mut all: serde_json::Map<String, Value> = parse(&text).map_err(wrong)?;
    let auths = all.entry("auths").or_insert_with(|| json!({}));
    act(auths.as_object_mut().ok_or_else(|| wrong("\"auths\" is not an object".to_owned()))?);
    let mut out = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let written = serde::Serialize::serialize(&all, &mut serde_json::Serializer::with_formatter(&mut out, tabs));
    written.map_err(|e| wrong(e.to_string()))?;
    linux::file::write_atomic(file, &out, 0o600, linux::file::Durability::PowerCut).map_err(failed)
}

/// Keys in the order they count: repository, its namespaces, registry, the registry in Docker's old spellings.
fn keys(name: &str) -> Vec<String> {
    let mut keys = vec![name.to_owned()];
    while let Some(slash) = keys[keys.len() - 1].rfind('/') {
        keys.push(keys[keys.len() - 1][..slash].to_owned());
    }
    let registry = keys[keys.len() - 1].clone();
    keys.push(format!("https://{registry}"));
    if registry == "docker.io" {
        keys.extend(
            ["index.docker.io", "https://index.docker.io/v1/", "https://index.docker.io/v1", "registry-1.docker.io"]
                .map(str::to_owned),
        );
    }
    keys
}

/// Nothing for an empty entry (a credential helper's), an error for a malformed one.
fn credentials(entry: &Entry) -> Option<Option<Credentials>> {
    if !entry.identitytoken.is_empty() {
        return Some(Some(Credentials::IdentityToken(entry.identitytoken.clone())));
    }
    if entry.auth.is_empty() {
        return Some(None);
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(entry.auth.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    // Docker pads what it encodes with NULs.
    let password = password.trim_end_matches('\0').to_owned();
    Some(Some(Credentials::Password { user: user.to_owned(), password }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, reference: &str, means: &str) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth.json");
        std::fs::write(&file, json).unwrap();
        let found = find(&[], &[dir.path().join("missing"), file], reference);
        let said = match found {
            Ok(None) => "nobody".to_owned(),
            Ok(Some(Credentials::IdentityToken(token))) => format!("token {token}"),
            Ok(Some(Credentials::Password { user, password })) => format!("{user} {password}"),
            Err(error) => error.to_string().replace(&dir.path().display().to_string(), ""),
        };
        assert_eq!(said, means, "{json}");
    }

    #[test]
    fn the_most_specific_entry_counts() {
        // a:b, c:d
        let json = r#"{"auths": {"quay.io": {"auth": "YTpi"}, "quay.io/team": {"auth": "Yzpk"}}}"#;
        check(json, "quay.io/x", "a b");
        check(json, "quay.io/team/x", "c d");
        check(json, "quay.io/teammate/x", "a b");
        check(json, "other.io/x", "nobody");
        check(r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}}}"#, "docker.io/library/x", "a b");
        check(r#"{"auths": {"q.io": {"identitytoken": "t"}}}"#, "q.io/x", "token t");
        // Kept by a program that is not installed.
        let kept = r#"{"auths": {"q.io": {}}, "credsStore": "podwire-none"}"#;
        check(kept, "q.io/x", "docker-credential-podwire-none get: No such file or directory");
        check(kept, "other.io/x", "nobody");
    }

    #[test]
    fn what_is_stored_is_found_and_what_is_erased_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made/auth.json");
        let files = [file.clone()];
        store(&file, "q.io/team", "a", "b:c").unwrap();
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replacen('{', "{\"other\": [1],", 1)).unwrap();
        store(&file, "r.io", "d", "e").unwrap();
        let found = |name| match find(&[], &files, name).unwrap() {
            Some(Credentials::Password { user, password }) => format!("{user} {password}"),
            _ => "nobody".to_owned(),
        };
        assert_eq!(
            (found("q.io/team/x").as_str(), found("q.io/x").as_str(), found("r.io/x").as_str()),
            ("a b:c", "nobody", "d e")
        );
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(erase(&file, "r.io").unwrap());
        assert!(!erase(&file, "r.io").unwrap());
        assert_eq!((found("q.io/team/x").as_str(), found("r.io/x").as_str()), ("a b:c", "nobody"));
        erase_all(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "{\n\t\"other\": [\n\t\t1\n\t],\n\t\"auths\": {}\n}");
    }

    #[test]
    fn a_malformed_file_is_named_and_its_secrets_are_not_shown() {
        check("{\"auths\": hunter2}", "q.io/x", "/auth.json: is not valid JSON at line 1");
        check(r#"{"auths": {"q.io": {"auth": "hunter2!"}}}"#, "q.io/x", "/auth.json: the entry for q.io is not valid");
    }
}
