//! What goes to a registry
//! ([distribution specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#push)).
//!
//! ```text
//!   HEAD /v2/…/blobs/DIGEST ──404──> POST /v2/…/blobs/uploads/ ──202 Location──> PUT LOCATION?digest=DIGEST
//!   PUT /v2/…/manifests/TAG
//! ```

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::time::Duration;

use ureq::SendBody;
use ureq::http::{StatusCode, header};

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::give::{Blob, Built, Content, Told};
use crate::progress::Progress;
use crate::reference::Version;
use crate::registry::{Client, authorized, refusal};

/// How often a blob is sent; a registry that is being restarted needs a moment.
const TRIES: u32 = 4;

impl Client {
    /// Does the repository have the blob?
    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let url = self.url(&format!("/blobs/{digest}"));
        let what = format!("checking whether a blob {digest} exists in {}", self.name());
        let response = self.ask(&|right| authorized(self.agent().head(&url), right).call())?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(response, "").within(&what)),
        }
    }

    /// Has the registry take the blob from another of its repositories; `false` when it does not.
    pub(crate) fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        let url = self.url(&format!("/blobs/uploads/?mount={digest}&from={from}"));
        let response = self.ask(&|right| authorized(self.agent().post(&url), right).send_empty())?;
        // 202: an upload was begun instead. Nobody ends it; registries drop those after a while.
        Ok(response.status() == StatusCode::CREATED)
    }

    /// Sends a blob.
    pub(crate) fn send_blob(&self, blob: &Blob, content: &Content<'_>, progress: &dyn Progress) -> Result<()> {
        let what = format!("writing blob {} to {}", blob.digest, self.name());
        let mut failures = 0;
        loop {
            let error = match self.try_blob(blob, content, progress) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            failures += 1;
            let transient = matches!(error, ImageError::Registry { transient: true, .. });
            if !transient || failures >= TRIES {
                return Err(error.within(&what));
            }
            tracing::info!(digest = %blob.digest, %error, "sending it again");
            std::thread::sleep(Duration::from_millis(200 << failures));
        }
    }

    fn try_blob(&self, blob: &Blob, content: &Content<'_>, progress: &dyn Progress) -> Result<()> {
        let begin = self.url("/blobs/uploads/");
        let response = self.ask(&|right| authorized(self.agent().post(&begin), right).send_empty())?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(refusal(response, "name unknown"));
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let url = place(location, self.origin(), &blob.digest).map_err(|why| self.broken(why, false))?;
        let ours = url.starts_with(&format!("{}/", self.origin()));
        let response = self.ask(&|right| {
            let request = authorized(self.agent().put(&url), right.filter(|_| ours))
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, blob.size);
            match content {
                Content::Bytes(bytes) => request.send(*bytes),
                Content::Spooled(file) => {
                    let mut file: &File = file;
                    file.seek(SeekFrom::Start(0))?;
                    let mut told = Told { inner: file, digest: &blob.digest, read: 0, progress };
                    request.send(SendBody::from_reader(&mut told))
                }
                Content::Archive(_) => unreachable!("registries get packed layers"),
            }
        })?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(refusal(response, "blob upload unknown")),
        }
    }

    /// Gives the manifest its name there.
    pub(crate) fn send_manifest(&self, version: &Version, manifest: &Built) -> Result<()> {
        let name = match version {
            Version::Tag(tag) => tag.clone(),
            Version::Digest(digest) if *digest == manifest.digest => digest.to_string(),
            Version::Digest(digest) => {
                let text = format!("the manifest to be pushed has the digest {}, not {digest}", manifest.digest);
                return Err(ImageError::Invalid(text));
            }
        };
        let url = self.url(&format!("/manifests/{name}"));
        let response = self.ask(&|right| {
            let request = authorized(self.agent().put(&url), right);
            request.header(header::CONTENT_TYPE, &manifest.media_type).send(&manifest.bytes)
        })?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(refusal(response, "name unknown").within(&format!("writing manifest {name} to {}", self.name()))),
        }
    }
}

/// Where the registry wants the blob.
pub(crate) fn place(location: Option<&str>, origin: &str, digest: &Digest) -> Result<String, &'static str> {
    let location = location.ok_or("the registry does not say where to send a blob")?;
    let absolute = if location.starts_with('/') { format!("{origin}{location}") } else { location.to_owned() };
    let absolute = kept_secure(absolute, origin)?;
    let sign = if absolute.contains('?') { '&' } else { '?' };
    Ok(format!("{absolute}{sign}digest={digest}"))
}

/// A registry behind a proxy that does TLS for it often thinks that it is reached without: then it is asked in the way
/// that it was reached. Anywhere else nothing goes without TLS that came with it.
fn kept_secure(url: String, origin: &str) -> Result<String, &'static str> {
    let Some(host) = origin.strip_prefix("https://") else { return Ok(url) };
    let is_at = |rest: &str| rest.strip_prefix(host).is_some_and(|path| path.starts_with('/'));
    // Of a scheme the case does not matter (RFC 3986 §3.1), to whoever is asked for it neither.
    match url.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => Ok(url),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") && is_at(rest) => Ok(format!("https://{rest}")),
        _ => Err("the registry wants the blob sent elsewhere without TLS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_goes_nowhere_without_tls_that_came_with_it() {
        let digest = Digest::of(b"");
        let check = |location: &str, goes: Result<&str, &str>| {
            let url = place(Some(location), "https://q.io", &digest);
            assert_eq!(
                url.as_deref().map(|url| url.split("digest=").next().unwrap()),
                goes.as_ref().copied(),
                "{location}"
            );
        };
        let refused = Err("the registry wants the blob sent elsewhere without TLS");
        check("/v2/a/1", Ok("https://q.io/v2/a/1?"));
        check("http://q.io/v2/a/1?x=y", Ok("https://q.io/v2/a/1?x=y&"));
        check("https://cdn.q.io/1", Ok("https://cdn.q.io/1?"));
        check("http://evil.io/1", refused);
        check("HTTP://evil.io/1", refused);
        check("http://q.io.evil.io/1", refused);
        check("v2/a/1", refused);
        assert!(place(None, "https://q.io", &digest).is_err());
        assert!(place(Some("http://other/1"), "http://q.io", &digest).is_ok());
    }
}
