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
use ureq::http::{Response, StatusCode, header};

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
        let url = self.place(&response, &blob.digest)?;
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

    /// Where the registry wants the blob.
    fn place(&self, response: &Response<ureq::Body>, digest: &Digest) -> Result<String> {
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| self.broken("the registry does not say where to send a blob", false))?;
        let absolute =
            if location.starts_with('/') { format!("{}{location}", self.origin()) } else { location.to_owned() };
        let absolute = self.kept_secure(absolute)?;
        let sign = if absolute.contains('?') { '&' } else { '?' };
        Ok(format!("{absolute}{sign}digest={digest}"))
    }

    /// A registry behind a proxy that does TLS for it often thinks that it is reached without: then it is asked in the
    /// way that it was reached. Anywhere else nothing goes without TLS that came with it.
    fn kept_secure(&self, url: String) -> Result<String> {
        let Some(host) = self.origin().strip_prefix("https://") else { return Ok(url) };
        match url.strip_prefix("http://") {
            None => Ok(url),
            Some(rest) if rest.strip_prefix(host).is_some_and(|path| path.starts_with('/')) => {
                Ok(format!("https://{rest}"))
            }
            Some(_) => Err(self.broken("the registry wants the blob sent elsewhere without TLS", false)),
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
