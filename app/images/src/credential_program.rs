//! Programs that others installed to keep secrets: `docker-credential-pass`, `docker-credential-ecr-login` …
//!
//! auth.json names them (`credHelpers`, `credsStore`); the protocol is
//! [docker-credential-helpers](https://github.com/docker/docker-credential-helpers#development)': a word as argument,
//! a registry or JSON on standard input, JSON on standard output.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use crate::auth::Credentials;
use crate::error::{ImageError, Result, plain};

/// The longest answer.
const ANSWER_MAX: u64 = 1 << 20;

/// What helpers say when they have nothing for a registry; the only way they have to say it.
const NOTHING: &str = "credentials not found in native keychain";

/// The user's name under which a helper gives an OAuth 2 token instead of a password.
const TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// What `docker-credential-NAME` has for `key`.
pub(crate) fn get(name: &str, key: &str) -> Result<Option<Credentials>> {
    let Some(said) = run(name, "get", key)? else { return Ok(None) };
    credentials_in(name, &said)
}

/// What `docker-credential-NAME` has answered.
pub(crate) fn credentials_in(name: &str, said: &[u8]) -> Result<Option<Credentials>> {
    // What it said is not shown: it may be a secret.
    let answer: Answer = serde_json::from_slice(said)
        .map_err(|_| ImageError::Invalid(format!("docker-credential-{name} get: the answer is not valid")))?;
    Ok(match answer {
        Answer { username, secret } if username == TOKEN => Some(Credentials::IdentityToken(secret)),
        Answer { username, secret } if username.is_empty() && secret.is_empty() => None,
        Answer { username, secret } => Some(Credentials::Password { user: username, password: secret }),
    })
}

/// Has `docker-credential-NAME` keep a password.
pub(crate) fn store(name: &str, key: &str, user: &str, password: &str) -> Result<()> {
    let entry = json!({ "ServerURL": key, "Username": user, "Secret": password }).to_string();
    run(name, "store", &entry).map(drop)
}

/// Has `docker-credential-NAME` forget `key`.
pub(crate) fn erase(name: &str, key: &str) -> Result<()> {
    run(name, "erase", key).map(drop)
}

/// Runs it to its end; nothing when it has nothing. It may ask the user, so there is no limit of time.
fn run(name: &str, word: &str, input: &str) -> Result<Option<Vec<u8>>> {
    let program = format!("docker-credential-{name}");
    let failed = |what: String| ImageError::Invalid(format!("{program} {word}: {what}"));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(ImageError::Invalid(format!("{name:?} is no name of a credential helper")));
    }
    let mut command = Command::new(&program);
    command.arg(word).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| failed(plain(&e)))?;
    // One that ends without reading has its reasons, which its exit code tells.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let mut said = Vec::new();
    let read = child.stdout.take().map_or(Ok(0), |out| out.take(ANSWER_MAX).read_to_end(&mut said));
    let mut complaint = Vec::new();
    let heard = child.stderr.take().map_or(Ok(0), |err| err.take(ANSWER_MAX).read_to_end(&mut complaint));
    let status = child.wait().map_err(|e| failed(plain(&e)))?;
    read.and(heard).map_err(|e| failed(plain(&e)))?;
    if status.success() {
        return Ok(Some(said));
    }
    // Helpers complain on standard output.
    let words = if said.is_empty() { complaint } else { said };
    let words: String = String::from_utf8_lossy(&words).trim().lines().next().unwrap_or_default().to_owned();
    match words.starts_with(NOTHING) {
        true => Ok(None),
        false => Err(failed(if words.is_empty() { status.to_string() } else { words })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_a_name_and_never_a_path() {
        for bad in ["", "../../bin/sh", "a b", "a/b"] {
            let said = get(bad, "q.io").err().unwrap().to_string();
            assert_eq!(said, format!("{bad:?} is no name of a credential helper"));
        }
    }

    #[test]
    fn a_helper_that_is_not_installed_is_named() {
        let said = get("podwire-has-no-such", "q.io").err().unwrap().to_string();
        assert_eq!(said, "docker-credential-podwire-has-no-such get: No such file or directory");
    }
}
