//! Credentials from auth.json
//! ([containers-auth.json(5)](https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md)); never written.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::error::{ImageError, Result};
use crate::reference::Reference;

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

/// The credentials for `reference` in the first of `files` that has any.
pub(crate) fn find(files: &[PathBuf], reference: &Reference) -> Result<Option<Credentials>> {
    for file in files {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => continue,
            Err(error) => return Err(ImageError::file(file, error)),
        };
        // What is wrong in it is not shown: it holds secrets.
        let wrong = |what: &str| ImageError::Invalid(format!("{}: {what}", file.display()));
        let parsed: AuthJson =
            serde_json::from_slice(&text).map_err(|e| wrong(&format!("is not valid JSON at line {}", e.line())))?;
        for key in keys(reference) {
            if let Some(entry) = parsed.auths.get(&key) {
                match credentials(entry).ok_or_else(|| wrong(&format!("the entry for {key} is not valid")))? {
                    Some(found) => return Ok(Some(found)),
                    None => continue,
                }
            }
            if parsed.cred_helpers.contains_key(&key) || parsed.creds_store.is_some() && parsed.auths.contains_key(&key)
            {
                tracing::warn!(registry = key, file = %file.display(), "credential helpers are not supported; going on without");
            }
        }
    }
    Ok(None)
}

/// Keys in the order they count: repository, its namespaces, registry, the registry in Docker's old spellings.
fn keys(reference: &Reference) -> Vec<String> {
    let mut keys = vec![reference.name()];
    while let Some(slash) = keys[keys.len() - 1].rfind('/') {
        keys.push(keys[keys.len() - 1][..slash].to_owned());
    }
    let registry = reference.registry();
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
        let found = find(&[dir.path().join("missing"), file], &reference.parse().unwrap());
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
        check(r#"{"auths": {"q.io": {}}, "credsStore": "pass"}"#, "q.io/x", "nobody");
    }

    #[test]
    fn a_malformed_file_is_named_and_its_secrets_are_not_shown() {
        check("{\"auths\": hunter2}", "q.io/x", "/auth.json: is not valid JSON at line 1");
        check(r#"{"auths": {"q.io": {"auth": "hunter2!"}}}"#, "q.io/x", "/auth.json: the entry for q.io is not valid");
    }
}
