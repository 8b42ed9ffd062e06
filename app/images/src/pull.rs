//! `pull`: an image from a registry.

use std::io::Read;
use std::str::FromStr;

use model::ImageId;

use crate::access::Access;
use crate::error::{ImageError, Result};
use crate::image::Document;
use crate::images::Images;
use crate::install::{NewImage, NewLayer, Source};
use crate::manifest::{self, CONFIG_MAX, Descriptor, ImageManifest, Manifest};
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::{Name, Reference, Version};
use crate::registries::{Location, Registries};
use crate::registry::{Client, Purpose, Raw};

/// How to pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// How to get at the registry.
    pub access: Access,
    /// What machine the image is for; this one when absent.
    pub platform: Option<Platform>,
    /// When to pull.
    pub policy: Policy,
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Whatever is here.
    #[default]
    Always,
    /// When it is not here.
    Missing,
    /// When the registry has another; what is here is good enough when the registry does not answer.
    Newer,
    /// It must be here.
    Never,
}

impl FromStr for Policy {
    type Err = model::Invalid;

    fn from_str(text: &str) -> Result<Self, model::Invalid> {
        match text.to_ascii_lowercase().as_str() {
            "always" | "true" | "1" => Ok(Self::Always),
            "missing" | "ifnotpresent" => Ok(Self::Missing),
            "newer" | "ifnewer" => Ok(Self::Newer),
            "never" | "false" | "0" => Ok(Self::Never),
            _ => Err(model::Invalid(format!("unsupported pull policy {text:?}"))),
        }
    }
}

impl Images<'_> {
    /// Pulls one image by a name as typed: from a registry, or the first of an archive (`docker-archive:PATH` …).
    pub fn pull(&self, name: &str, options: &PullOptions, progress: &dyn Progress) -> Result<ImageId> {
        let ids = self.pull_any(name, options, progress)?;
        ids.into_iter().next().ok_or_else(|| ImageError::NotKnown(name.to_owned()))
    }

    /// Pulls from a registry; a short name from those that registries.conf says, in turn.
    pub(crate) fn pull_registry(&self, name: &str, options: &PullOptions, progress: &dyn Progress) -> Result<ImageId> {
        let here = match options.policy {
            Policy::Always => None,
            Policy::Missing | Policy::Newer | Policy::Never => self.here(name, options)?,
        };
        match (options.policy, here) {
            (Policy::Never, None) => Err(ImageError::NotKnown(name.to_owned())),
            (Policy::Missing | Policy::Never, Some(id)) => Ok(id),
            (Policy::Newer, Some(id)) => match self.pull_first(name, options, progress) {
                Err(ImageError::Registry { message, .. }) => {
                    tracing::warn!("{message}; what is here is used");
                    Ok(id)
                }
                pulled => pulled,
            },
            (_, _) => self.pull_first(name, options, progress),
        }
    }

    /// The image of that name that is here, unless it is for another machine.
    fn here(&self, name: &str, options: &PullOptions) -> Result<Option<ImageId>> {
        let name = name.strip_prefix("docker://").unwrap_or(name);
        let image = match self.find(name) {
            Err(ImageError::NotKnown(_)) => return Ok(None),
            found => found?,
        };
        let is = |wanted: &Platform| {
            image.config.architecture().to_string() == wanted.architecture && image.config.os().to_string() == wanted.os
        };
        Ok(options.platform.as_ref().is_none_or(is).then_some(image.id))
    }

    fn pull_first(&self, name: &str, options: &PullOptions, progress: &dyn Progress) -> Result<ImageId> {
        let mut failures = Vec::new();
        for reference in &self.pull_candidates(name)? {
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

    /// Pulls all tags of a repository, one after the other.
    pub fn pull_all_tags(&self, name: &str, options: &PullOptions, progress: &dyn Progress) -> Result<Vec<ImageId>> {
        let text = name.strip_prefix("docker://").unwrap_or(name);
        let typed: Name = text.parse().map_err(|e: model::Invalid| ImageError::Invalid(e.0))?;
        if typed.has_version(text) {
            return Err(ImageError::Invalid("tag can't be used with --all-tags/-a".to_owned()));
        }
        let candidates = self.pull_candidates(text)?;
        let reference = candidates.first().ok_or_else(|| ImageError::Invalid(format!("{text:?} is nowhere")))?;
        let mut ids = Vec::new();
        for tag in self.tags(reference, &options.access)? {
            let tagged = format!("{}:{tag}", reference.name());
            ids.push(self.pull_registry(&tagged, options, progress)?);
        }
        ids.dedup();
        Ok(ids)
    }

    /// The tags of a repository, as its registry lists them.
    pub(crate) fn tags(&self, reference: &Reference, access: &Access) -> Result<Vec<String>> {
        let location = Registries::read(&self.machine)?.locate(reference)?;
        Client::connect(&location, Purpose::Pull, access, &self.machine)?.tags()
    }

    fn pull_candidates(&self, text: &str) -> Result<Vec<Reference>> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
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

    /// From the first of its mirrors that has it, else from where it is.
    fn pull_reference(&self, reference: &Reference, options: &PullOptions, progress: &dyn Progress) -> Result<ImageId> {
        let what = format!("initializing source docker://{reference}");
        let sources = Registries::read(&self.machine)?.sources(reference)?;
        let mut failed = Vec::new();
        for (n, location) in sources.iter().enumerate() {
            let error = match self.pull_from(location, reference, options, progress) {
                Err(error @ ImageError::Registry { .. }) => error,
                other => return other.map_err(|e| e.within(&what)),
            };
            if n + 1 < sources.len() {
                tracing::info!(mirror = %location.reference, %error, "the next source is asked");
                failed.push(format!("[{}: {error}]", location.reference));
                continue;
            }
            let mirrors = match failed.is_empty() {
                true => what,
                false => format!("{what}: (Mirrors also failed: {}): {}", failed.join(" "), location.reference),
            };
            return Err(error.within(&mirrors));
        }
        Err(ImageError::Invalid(format!("{what}: there is no place to ask")))
    }

    fn pull_from(
        &self,
        location: &Location,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<ImageId> {
        let version = location.reference.version().clone();
        let client = Client::connect(location, Purpose::Pull, &options.access, &self.machine)?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let (raw, image, digests) = manifest_for(&client, &version, &platform)?;
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
            history: Vec::new(),
        },
        layers,
        names,
        arrival: Some("pull"),
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
