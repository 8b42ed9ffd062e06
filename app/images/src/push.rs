//! `save` and `push`: which image goes where.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Digest;
use crate::access::Access;
use crate::error::{ImageError, Result};
use crate::give::{Blob, BlobKind, Built, Content, Destination, Format, Packing, Wish};
use crate::images::Images;
use crate::package::{Layout, Output, Package};
use crate::progress::Progress;
use crate::reference::{Name, Reference, Version};
use crate::registries::Registries;
use crate::registry::{Client, Purpose};

/// How to save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Save {
    /// How images lie in the file.
    pub layout: Layout,
    /// Further names are images of their own, not names for the first.
    pub several: bool,
    /// How layers are packed; the layout's own way when not said.
    pub packing: Option<Packing>,
}

/// How to push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// How to get at the registry.
    pub access: Access,
    /// The kind of manifest and of compression.
    pub wish: Wish,
}

impl Images<'_> {
    /// Writes images to a file or directory.
    pub fn save(&self, names: &[String], save: &Save, to: &Path, progress: &dyn Progress) -> Result<()> {
        self.save_to(names, save, Output::Path(to), progress)
    }

    /// Writes images as an archive to a stream.
    pub fn save_stream(
        &self,
        names: &[String],
        save: &Save,
        to: &mut (dyn Write + Send),
        progress: &dyn Progress,
    ) -> Result<()> {
        self.save_to(names, save, Output::Stream(to), progress)
    }

    fn save_to(&self, names: &[String], save: &Save, output: Output<'_>, progress: &dyn Progress) -> Result<()> {
        // All images are found before anything is written.
        let mut wanted = Vec::new();
        for (n, text) in names.iter().enumerate() {
            if n == 0 || save.several {
                let (image, name) = self.find_named(text)?;
                wanted.push((image, Vec::from_iter(name)));
            } else {
                let name: Name = text.parse().map_err(|e: model::Invalid| ImageError::Invalid(e.0))?;
                let name = name.local().map_err(|e| ImageError::Invalid(e.0))?;
                wanted[0].1.push(name.to_string());
            }
        }
        if save.layout == Layout::Directory && wanted.len() > 1 {
            return Err(ImageError::Invalid("a directory of this format holds one image".to_owned()));
        }
        let package = Package::begin(save.layout, output)?;
        let format = (save.layout == Layout::Directory).then_some(Format::Docker);
        for (id, names) in &wanted {
            let place = package.image(names.clone());
            self.outgoing(id)?.give(&place, Wish { format, packing: save.packing }, progress)?;
        }
        package.finish()?;
        self.store.write(|tx| {
            wanted.iter().try_for_each(|(id, names)| {
                let name = names.first().map_or("", String::as_str);
                tx.event_add(&store::Event::image("save", &id.to_string(), name)).map(drop)
            })
        })?;
        Ok(())
    }

    /// Pushes an image to `to`, or to where its own name says; gives the digest of its manifest there.
    pub fn push(&self, name: &str, to: Option<&str>, options: &PushOptions, progress: &dyn Progress) -> Result<Digest> {
        let (id, own) = self.find_named(name)?;
        let to = match (to, own) {
            (Some(to), _) => To::parse(to)?,
            (None, Some(own)) => To::parse(&own)?,
            (None, None) => {
                return Err(ImageError::Invalid(format!(
                    "{name} is no name; say where to push it to: REGISTRY/NAME:TAG"
                )));
            }
        };
        let outgoing = self.outgoing(&id)?;
        let built = match &to {
            To::Registry(reference) => {
                let what = format!("pinging container registry {}", reference.registry());
                let location = Registries::read(&self.machine)?.locate(reference)?;
                let client = Client::connect(&location, Purpose::Push, &options.access, &self.machine);
                let client = client.map_err(|e| e.within(&what))?;
                let version = location.reference.version().clone();
                let there = There { client, version, neighbours: self.neighbours(&id, &location.reference)? };
                outgoing.give(&there, options.wish, progress)?
            }
            To::File(layout, path, name) => {
                let package = Package::begin(*layout, Output::Path(path))?;
                let built = outgoing.give(&package.image(name.clone()), options.wish, progress)?;
                package.finish()?;
                built
            }
        };
        self.store.write(|tx| tx.event_add(&store::Event::image("push", &id.to_string(), name)))?;
        Ok(built.digest)
    }

    /// Other repositories of the same registry that the image has a name in.
    fn neighbours(&self, id: &model::ImageId, reference: &Reference) -> Result<Vec<String>> {
        let names = self.store.read(|tx| tx.names_of(id))?;
        let mut all: Vec<String> = names
            .iter()
            .filter_map(|name| name.parse::<Reference>().ok())
            .filter(|other| other.registry() == reference.registry() && other.repository() != reference.repository())
            .map(|other| other.repository().to_owned())
            .collect();
        all.dedup();
        Ok(all)
    }
}

/// Where to push to.
#[derive(Debug, PartialEq, Eq)]
enum To {
    Registry(Reference),
    File(Layout, PathBuf, Vec<String>),
}

/// Can be pushed to this?
pub(crate) fn is_destination(text: &str) -> bool {
    To::parse(text).is_ok()
}

impl To {
    /// `REGISTRY/NAME:TAG` or `TRANSPORT:…` (containers-transports(5)).
    fn parse(text: &str) -> Result<Self> {
        let invalid = |e: model::Invalid| ImageError::Invalid(e.0);
        let layouts = [
            ("docker-archive:", Layout::DockerArchive),
            ("oci-archive:", Layout::OciArchive),
            ("oci:", Layout::OciDirectory),
        ];
        for (transport, layout) in layouts {
            if let Some(rest) = text.strip_prefix(transport) {
                let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
                if path.is_empty() {
                    return Err(ImageError::Invalid(format!("{text:?}: a path must follow {transport}")));
                }
                let name = match (layout, name) {
                    // A docker-archive has full names; in an OCI layout any text is one.
                    (Layout::DockerArchive, Some(name)) => {
                        let name: Name = name.parse().map_err(invalid)?;
                        Some(name.local().map_err(invalid)?.to_string())
                    }
                    (_, name) => name.filter(|name| !name.is_empty()).map(str::to_owned),
                };
                return Ok(Self::File(layout, path.into(), Vec::from_iter(name)));
            }
        }
        if let Some(path) = text.strip_prefix("dir:") {
            return Ok(Self::File(Layout::Directory, path.into(), Vec::new()));
        }
        for transport in ["docker-daemon:", "containers-storage:", "ostree:", "sif:", "tarball:"] {
            if text.starts_with(transport) {
                return Err(ImageError::Invalid(format!(
                    "pushing to {transport} is not supported; a registry, dir:, oci:, oci-archive: and docker-archive: are"
                )));
            }
        }
        match text.strip_prefix("docker://").unwrap_or(text).parse().map_err(invalid)? {
            Name::Full(reference) => Ok(Self::Registry(reference)),
            Name::Short(short) => short.at("docker.io").map(Self::Registry).map_err(invalid),
        }
    }
}

/// A repository at a registry, and what the image is called there.
struct There {
    client: Client,
    version: Version,
    neighbours: Vec<String>,
}

impl Destination for There {
    fn packing(&self) -> Packing {
        Packing::Gzip
    }

    fn format(&self) -> Option<Format> {
        None
    }

    fn has(&self, blob: &Blob) -> Result<bool> {
        self.client.has_blob(&blob.digest)
    }

    fn borrow(&self, blob: &Blob) -> Result<bool> {
        for neighbour in &self.neighbours {
            if self.client.mount(&blob.digest, neighbour)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn blob(&self, blob: &Blob, content: &Content<'_>, progress: &dyn Progress) -> Result<()> {
        debug_assert!(blob.kind == BlobKind::Configuration || !matches!(content, Content::Archive(_)));
        self.client.send_blob(blob, content, progress)
    }

    fn manifest(&self, manifest: &Built) -> Result<()> {
        self.client.send_manifest(&self.version, manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, means: &str) {
        let said = match To::parse(text) {
            Ok(To::Registry(reference)) => format!("registry {reference}"),
            Ok(To::File(layout, path, names)) => format!("{layout:?} {} {}", path.display(), names.join(" ")),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, means, "{text}");
    }

    #[test]
    fn destinations_are_written_as_in_containers_transports() {
        check("docker://q.io/a:1", "registry q.io/a:1");
        check("q.io:5000/a", "registry q.io:5000/a:latest");
        check("me/a", "registry docker.io/me/a:latest");
        check("dir:/tmp/x", "Directory /tmp/x ");
        check("oci:/tmp/x:v1", "OciDirectory /tmp/x v1");
        check("oci-archive:/tmp/x.tar", "OciArchive /tmp/x.tar ");
        check("docker-archive:/tmp/x.tar:a:1", "DockerArchive /tmp/x.tar localhost/a:1");
        check("oci::x", "\"oci::x\": a path must follow oci:");
        check(
            "docker-daemon:x",
            "pushing to docker-daemon: is not supported; a registry, dir:, oci:, oci-archive: and docker-archive: are",
        );
    }
}
