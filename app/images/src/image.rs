//! What is known of an image on this machine.

use std::path::PathBuf;

use jiff::Timestamp;
use model::ImageId;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::error::Result;
use crate::manifest;
use crate::reference::Reference;

/// An image: a stack of layers and how to run something on it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its configuration.
    pub id: ImageId,
    /// Full names, in the order of letters: `localhost/banner:latest`. None for an image that lost its name.
    pub names: Vec<String>,
    /// The digest of its manifest.
    pub digest: Digest,
    /// All digests it may be asked for by: its manifest's and those of the indexes it was found in.
    pub digests: Vec<Digest>,
    /// Media type of its manifest.
    pub manifest_type: String,
    /// Its manifest as it came.
    pub(crate) manifest: String,
    /// How to run it. Exposed ports and volumes are in the order of letters.
    pub config: ImageConfiguration,
    /// The configuration as it came: it may have fields that `config` does not know.
    pub raw_config: String,
    /// Names it has or had, the newest first.
    pub history: Vec<String>,
    /// What its manifest says beside.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Directories of its layers, topmost first, as overlayfs takes them.
    pub layers: Vec<PathBuf>,
    /// Bytes of all files of all layers.
    pub size: u64,
    /// When it was built.
    pub created: Option<Timestamp>,
}

impl Image {
    /// `NAME@DIGEST` for each repository it has a name in and each of its digests, as `inspect` shows them.
    pub fn repo_digests(&self) -> Vec<String> {
        let names = self.names.iter().filter_map(|name| name.parse::<Reference>().ok()).map(|r| r.name());
        let mut all: Vec<String> =
            names.flat_map(|name| self.digests.iter().map(move |digest| format!("{name}@{digest}"))).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Names with a tag, as `inspect` shows them: those by digest are left out.
    pub fn repo_tags(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).filter(|name| !name.contains('@')).collect()
    }
}

/// The stored form of what cannot be derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) digests: Vec<Digest>,
    pub(crate) manifest_type: String,
    /// As it came, byte by byte: its digest is [`Document::digest`].
    pub(crate) manifest: String,
    /// As it came: its digest is the image's id.
    pub(crate) config: String,
    /// Names it has or had, the newest first.
    #[serde(default)]
    pub(crate) history: Vec<String>,
}

/// So many names of an image are remembered.
const HISTORY_MAX: usize = 100;

impl Document {
    /// It has this name from now on.
    pub(crate) fn called(&mut self, name: &str) {
        self.history.retain(|known| known != name);
        self.history.insert(0, name.to_owned());
        self.history.truncate(HISTORY_MAX);
    }

    /// The image, given what the store knows beside this.
    pub(crate) fn image(self, id: ImageId, names: Vec<String>, layers: Vec<PathBuf>, size: u64) -> Result<Image> {
        let (config, _) = manifest::configuration(self.config.as_bytes())?;
        let created = config.created().as_deref().and_then(|text| text.parse().ok());
        Ok(Image {
            id,
            names,
            digest: self.digest,
            digests: self.digests,
            manifest_type: self.manifest_type,
            config,
            raw_config: self.config,
            history: self.history,
            annotations: manifest::annotations(&self.manifest),
            manifest: self.manifest,
            layers,
            size,
            created,
        })
    }
}
