//! `pull`: an image from a registry.

use std::io::Read;

use model::ImageId;

use crate::auth;
use crate::error::{ImageError, Result};
use crate::image::Document;
use crate::images::Images;
use crate::install::{NewImage, NewLayer, Source};
use crate::manifest::{self, CONFIG_MAX, Descriptor, ImageManifest, Manifest};
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::{Name, Reference, Version};
use crate::registries::Registries;
use crate::registry::{Client, Raw};

/// How to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOptions {
    /// Certificates must be known and plain HTTP is refused, except on loopback.
    pub tls_verify: bool,
    /// What machine the image is for; this one when absent.
    pub platform: Option<Platform>,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { tls_verify: true, platform: None }
    }
}

impl Images<'_> {
    /// Pulls `name`, as typed; a short name from the registries that registries.conf says, in turn.
    pub fn pull(&self, name: &str, options: &PullOptions, progress: &dyn Progress) -> Result<ImageId> {
        let candidates = self.pull_candidates(name)?;
        let mut failures = Vec::new();
        for reference in &candidates {
            progress.event(Event::Trying(&reference.to_string()));
            match self.pull_reference(reference, options, progress) {
                Ok(id) => return Ok(id),
                // Another registry does not help against a full disk.
                Err(error @ (ImageError::File { .. } | ImageError::Store(_))) => return Err(error),
                Err(error) => failures.push(error),
            }
        }
        match failures.len() {
            1 => Err(failures.remove(0)),
            _ => {
                let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
                Err(ImageError::Registry { message: all.join("; "), transient: false })
            }
        }
    }

    fn pull_candidates(&self, text: &str) -> Result<Vec<Reference>> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        if let Some(transport) =
            ["oci:", "oci-archive:", "docker-archive:", "docker-daemon:", "dir:", "containers-storage:"]
                .iter()
                .find(|transport| text.starts_with(**transport))
        {
            return Err(ImageError::Invalid(format!(
                "pulling from {transport:?} is not supported; only registries are, and `load` for archives"
            )));
        }
        if text.strip_prefix("sha256:").unwrap_or(text).parse::<ImageId>().is_ok() {
            return Err(ImageError::Invalid(format!(
                "pull policy is always but image has been referred to by ID ({text})"
            )));
        }
        match text.parse().map_err(|e: model::Invalid| ImageError::Invalid(e.0))? {
            Name::Full(reference) => Ok(vec![reference]),
            Name::Short(short) => Registries::read(&self.machine)?.pull_candidates(&short),
        }
    }

    fn pull_reference(&self, reference: &Reference, options: &PullOptions, progress: &dyn Progress) -> Result<ImageId> {
        let what = format!("initializing source docker://{reference}");
        let location = Registries::read(&self.machine)?.locate(reference)?;
        let credentials = auth::find(&self.machine.auth_files, &location.reference)?;
        let version = location.reference.version().clone();
        let client =
            Client::connect(location, options.tls_verify, &self.machine, credentials).map_err(|e| e.within(&what))?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let (raw, image, digests) = manifest_for(&client, &version, &platform).map_err(|e| e.within(&what))?;
        progress.event(Event::Configuration(&image.config.digest));
        let config = client.small_blob(&image.config, CONFIG_MAX)?;
        let new = new_image(raw.bytes, image, config, vec![reference.to_string()])?;
        let new = NewImage { document: Document { digest: raw.digest, digests, ..new.document }, ..new };
        self.install(&new, &Remote { client: &client, layers: &new.layers }, progress)
    }
}

/// The image's manifest, and the digests it was found by.
fn manifest_for(
    client: &Client,
    version: &Version,
    platform: &Platform,
) -> Result<(Raw, ImageManifest, Vec<crate::Digest>)> {
    let raw = client.manifest(version)?;
    match Manifest::parse(&raw.bytes, raw.media_type.as_deref())? {
        Manifest::Image(image) => {
            let digests = vec![raw.digest.clone()];
            Ok((raw, image, digests))
        }
        Manifest::Index(list) => {
            let chosen = manifest::choose(&list, platform)?;
            let inner = client.manifest(&Version::Digest(chosen.digest.clone()))?;
            match Manifest::parse(&inner.bytes, inner.media_type.as_deref())? {
                Manifest::Image(image) => Ok((inner, image, sorted(vec![raw.digest, chosen.digest.clone()]))),
                Manifest::Index(_) => Err(ImageError::Content("malformed index: it leads to another index".to_owned())),
            }
        }
    }
}

fn sorted(mut digests: Vec<crate::Digest>) -> Vec<crate::Digest> {
    digests.sort();
    digests.dedup();
    digests
}

/// An image made of a manifest and its configuration.
pub(crate) fn new_image(
    manifest: Vec<u8>,
    image: ImageManifest,
    config: Vec<u8>,
    names: Vec<String>,
) -> Result<NewImage> {
    let (_, diff_ids) = manifest::configuration(&config)?;
    if diff_ids.len() != image.layers.len() {
        return Err(ImageError::Content(format!(
            "malformed image: its manifest has {} layers, its configuration {}",
            image.layers.len(),
            diff_ids.len()
        )));
    }
    let layer = |(diff_id, blob): (crate::Digest, &Descriptor)| NewLayer {
        diff_id,
        blob: Some((blob.digest.clone(), blob.size)),
        size: Some(blob.size),
    };
    let layers = diff_ids.into_iter().zip(&image.layers).map(layer).collect();
    let digest = crate::Digest::of(&manifest);
    Ok(NewImage {
        id: image_id(&config),
        document: Document {
            digests: vec![digest.clone()],
            digest,
            manifest_type: image.media_type,
            manifest: text(manifest, "manifest")?,
            config: text(config, "configuration")?,
        },
        layers,
        names,
        arrival: "pull",
    })
}

/// An image's id is the sha256 of its configuration, whatever algorithm its manifest uses.
pub(crate) fn image_id(config: &[u8]) -> ImageId {
    use sha2::Digest;
    ImageId::from_bytes(sha2::Sha256::digest(config).into())
}

fn text(bytes: Vec<u8>, what: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| ImageError::Content(format!("malformed {what}: it is not UTF-8")))
}

struct Remote<'a> {
    client: &'a Client,
    layers: &'a [NewLayer],
}

impl Source for Remote<'_> {
    fn layer(&self, n: usize) -> Result<Box<dyn Read + '_>> {
        match &self.layers[n].blob {
            Some((digest, size)) => Ok(Box::new(self.client.blob(digest, *size))),
            None => Err(ImageError::Content("a layer without a digest cannot be pulled".to_owned())),
        }
    }
}
