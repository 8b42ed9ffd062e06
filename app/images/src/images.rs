//! The images of one root directory: open, list, find, remove.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use linux::HostLock;
use model::ImageId;
use store::{Store, StoreError, Tx};

use crate::Digest;
use crate::error::{ImageError, Result};
use crate::image::{Document, Image};
use crate::install::CLAIM;
use crate::reference::{Name, Reference, ShortName};
use crate::registries::{Machine, Registries};
use crate::tree::{self, GOING};

/// The images of one root directory.
#[derive(Debug)]
pub struct Images<'s> {
    pub(crate) root: PathBuf,
    pub(crate) store: &'s Store,
    pub(crate) machine: Machine,
}

/// An image and the bytes of its layers.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Layers that other images have too.
    pub shared: u64,
    /// Layers that go with it.
    pub own: u64,
}

/// What `rmi` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names taken away: Podman's `Untagged: NAME`.
    pub untagged: Vec<String>,
    /// Images removed: Podman's `Deleted: ID`.
    pub deleted: Vec<ImageId>,
}

/// What a text means here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) image: ImageId,
    /// The name that was meant; none when it was an id or a digest.
    pub(crate) name: Option<String>,
}

impl<'s> Images<'s> {
    /// The images whose layers are in `<root>/overlay` and whose records are in `store`.
    pub fn open(root: &Path, store: &'s Store) -> Result<Self> {
        let images = Self { root: root.to_owned(), store, machine: Machine::here() };
        let overlay = images.overlay();
        if !overlay.is_dir() {
            // Only root may look inside: layers have set-user-id programs of any age.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&overlay);
            made.map_err(|e| ImageError::file(&overlay, e))?;
        }
        Ok(images)
    }

    /// The same, with another machine's configuration files.
    pub fn on(self, machine: Machine) -> Self {
        Self { machine, ..self }
    }

    /// All images, by id.
    pub fn list(&self) -> Result<Vec<Image>> {
        self.store.read(|tx| {
            let ids = tx.images()?.into_iter().map(|(id, _)| id);
            ids.map(|id| self.image(tx, &id)).collect()
        })
    }

    /// The image that `text` means: a name, the beginning of an id, or `sha256:` and an id. A short name is
    /// looked for as an alias of registries.conf, below `localhost/`, in the search registries, then
    /// anywhere, as Podman does.
    pub fn find(&self, text: &str) -> Result<Image> {
        self.store.read(|tx| {
            let found = self.resolve(tx, text)?;
            self.image(tx, &found.image)
        })
    }

    /// The image that `text` means, and the name that was meant; none when it was an id or a digest.
    pub(crate) fn find_named(&self, text: &str) -> Result<(ImageId, Option<String>)> {
        self.store.read(|tx| self.resolve(tx, text)).map(|found| (found.image, found.name))
    }

    /// The image with this id.
    pub fn by_id(&self, id: &ImageId) -> Result<Image> {
        self.store.read(|tx| self.image(tx, id))
    }

    /// The containers that use an image.
    pub fn users(&self, id: &ImageId) -> Result<Vec<model::ContainerId>> {
        Ok(self.store.read(|tx| tx.containers_of_image(id))?)
    }

    /// What registries.conf says, with the keys of Podman's `info`.
    pub fn registries_shown(&self) -> Result<serde_json::Value> {
        Ok(Registries::read(&self.machine)?.shown())
    }

    /// What the layers of each image take, and all layers of all images, each once.
    pub fn usage(&self) -> Result<(Vec<ImageUsage>, u64)> {
        self.store.read(|tx| {
            let ids: Vec<ImageId> = tx.images()?.into_iter().map(|(id, _)| id).collect();
            let mut users: BTreeMap<i64, usize> = BTreeMap::new();
            for id in &ids {
                tx.image_layers(id)?.into_iter().for_each(|layer| *users.entry(layer).or_default() += 1);
            }
            let size = |layer: i64| Ok::<_, StoreError>(tx.layer(layer)?.map_or(0, |(_, size)| size));
            let mut all = Vec::new();
            for id in &ids {
                let mut usage = ImageUsage { image: self.image(tx, id)?, shared: 0, own: 0 };
                for layer in tx.image_layers(id)? {
                    let part = if users[&layer] > 1 { &mut usage.shared } else { &mut usage.own };
                    *part += size(layer)?;
                }
                all.push(usage);
            }
            let sum = users.keys().map(|layer| size(*layer)).sum::<Result<u64, _>>()?;
            Ok((all, sum))
        })
    }

    /// Bytes of the layers' archives, lowest first: what `history` shows.
    pub fn layer_sizes(&self, image: &Image) -> Result<Vec<u64>> {
        let of_files = self.store.read(|tx| {
            let numbers = tx.image_layers(&image.id)?;
            numbers
                .iter()
                .map(|n| Ok(tx.layer(*n)?.map_or(0, |(_, size)| size)))
                .collect::<Result<Vec<_>, StoreError>>()
        })?;
        let sizes = image.layers.iter().zip(of_files).map(|(diff, files)| crate::give::shown_size(diff, files));
        let mut sizes: Vec<u64> = sizes.collect();
        sizes.reverse();
        Ok(sizes)
    }

    /// Takes away the name `text`, and the image with its last name. An image that a container uses is kept;
    /// `force` removes an image named by its id with all its names, but containers have to go first.
    pub fn remove(&self, text: &str, force: bool) -> Result<Removed> {
        // Durable before the files go: after a power cut no record may speak of files that are not there.
        let (removed, layers) = self.store.write_durable(|tx| self.forget(tx, text, force))?;
        layers.iter().for_each(|layer| self.remove_directory(*layer));
        Ok(removed)
    }

    /// Removes what killed commands left: layers of no image, directories of no layer. How many layers went.
    /// Not while this process brings in an image; other processes may.
    pub fn leftovers(&self) -> Result<usize> {
        // Directories first: one that is seen has had its record before.
        let names = self.overlay_names()?;
        let (known, unused) = self.store.read(|tx| Ok::<_, StoreError>((tx.layers()?, tx.layers_unused()?)))?;
        if !unused.is_empty() {
            self.store.write_durable(|tx| unused.iter().try_for_each(|layer| tx.layer_remove(*layer)))?;
        }
        let number = |name: &String| name.parse::<i64>().ok().filter(|n| n.to_string() == *name);
        let orphans = names.iter().filter_map(number).filter(|n| !known.contains(n));
        let gone: Vec<i64> = unused.iter().copied().chain(orphans).collect();
        gone.iter().for_each(|layer| self.remove_directory(*layer));
        for name in names.iter().filter(|name| name.starts_with(GOING)) {
            self.remove_from_overlay(name);
        }
        for name in names.iter().filter(|name| name.starts_with(CLAIM)) {
            let path = self.overlay().join(name);
            if let Ok(Some(_held)) = HostLock::try_take(&path) {
                let _ = std::fs::remove_file(&path); // nobody's; and if it stays, it is empty
            }
        }
        Ok(gone.len())
    }

    /// Where layers are.
    pub(crate) fn overlay(&self) -> PathBuf {
        self.root.join("overlay")
    }

    /// A layer's files.
    pub(crate) fn layer_directory(&self, layer: i64) -> PathBuf {
        self.overlay().join(layer.to_string()).join("diff")
    }

    /// Removes a layer's directory. What cannot be removed is an orphan, for [`Images::leftovers`].
    pub(crate) fn remove_directory(&self, layer: i64) {
        self.remove_from_overlay(&layer.to_string());
    }

    fn remove_from_overlay(&self, name: &str) {
        let overlay = self.overlay();
        let gone =
            std::fs::File::open(&overlay).and_then(|fd| tree::remove(std::os::fd::AsFd::as_fd(&fd), name.as_bytes()));
        if let Err(error) = gone {
            tracing::warn!(path = %overlay.join(name).display(), %error, "a layer's files stay behind");
        }
    }

    fn overlay_names(&self) -> Result<Vec<String>> {
        let overlay = self.overlay();
        let entries = std::fs::read_dir(&overlay).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = entries.map_err(|e| ImageError::file(&overlay, e))?;
        Ok(entries.iter().filter_map(|entry| OsStr::to_str(&entry.file_name()).map(str::to_owned)).collect())
    }

    fn image(&self, tx: &Tx<'_>, id: &ImageId) -> Result<Image> {
        let document = self.document(tx, id)?;
        let layers = tx.image_layers(id)?;
        let mut size = 0;
        for layer in &layers {
            size += tx.layer(*layer)?.map_or(0, |(_, size)| size);
        }
        let directories = layers.iter().map(|layer| self.layer_directory(*layer)).collect();
        document.image(*id, tx.names_of(id)?, directories, size)
    }

    pub(crate) fn document(&self, tx: &Tx<'_>, id: &ImageId) -> Result<Document> {
        tx.image_doc(id)?.ok_or_else(|| ImageError::NotKnown(id.to_string()))
    }

    /// Forgets a name or an image in the store; the layers whose files may go.
    fn forget(&self, tx: &Tx<'_>, text: &str, force: bool) -> Result<(Removed, Vec<i64>)> {
        let Found { image, name } = self.resolve(tx, text)?;
        let names = tx.names_of(&image)?;
        match name {
            // A name among several is only a name, also of an image in use.
            Some(name) if names.len() > 1 => {
                tx.name_remove(&name)?;
                tx.event_add(&store::Event::image("untag", &image.to_string(), &name))?;
                return Ok((Removed { untagged: vec![name], deleted: Vec::new() }, Vec::new()));
            }
            None if names.len() > 1 && !force => return Err(ImageError::SeveralNames { image, names }),
            _ => {}
        }
        let containers = tx.containers_of_image(&image)?;
        if !containers.is_empty() {
            return Err(ImageError::InUse { image, containers });
        }
        let own = tx.image_layers(&image)?;
        tx.image_remove(&image)?;
        let unused: Vec<i64> = tx.layers_unused()?.into_iter().filter(|layer| own.contains(layer)).collect();
        unused.iter().try_for_each(|layer| tx.layer_remove(*layer))?;
        for name in &names {
            tx.event_add(&store::Event::image("untag", &image.to_string(), name))?;
        }
        let name = names.first().map_or("", String::as_str);
        tx.event_add(&store::Event::image("remove", &image.to_string(), name))?;
        Ok((Removed { untagged: names, deleted: vec![image] }, unused))
    }

    pub(crate) fn resolve(&self, tx: &Tx<'_>, text: &str) -> Result<Found> {
        let unknown = || ImageError::NotKnown(text.to_owned());
        let id = |id: ImageId| Found { image: id, name: None };
        let bare = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(full) = bare.parse::<ImageId>() {
            return tx.images_beginning(bare)?.contains(&full).then(|| id(full)).ok_or_else(unknown);
        }
        let name: Name = text.parse().map_err(|e: model::Invalid| ImageError::Invalid(e.0))?;
        for candidate in self.candidates(&name)? {
            if let Some(found) = exact(tx, &candidate)? {
                return Ok(found);
            }
        }
        match tx.images_beginning(text)?.as_slice() {
            [one] => return Ok(id(*one)),
            [_, _, ..] => return Err(ImageError::Ambiguous(text.to_owned())),
            [] => {}
        }
        match &name {
            Name::Short(short) => anywhere(tx, short)?.ok_or_else(unknown),
            Name::Full(_) => Err(unknown()),
        }
    }

    /// The full names that a name may have here, in the order they are looked for.
    pub(crate) fn candidates(&self, name: &Name) -> Result<Vec<Reference>> {
        match name {
            Name::Full(reference) => Ok(vec![reference.clone()]),
            Name::Short(short) => Registries::read(&self.machine)?.local_candidates(short),
        }
    }
}

/// The image with exactly this name, or, by digest, one of its repository.
fn exact(tx: &Tx<'_>, reference: &Reference) -> Result<Option<Found>> {
    let name = reference.to_string();
    if let Some(image) = tx.name_get(&name)? {
        return Ok(Some(Found { image, name: Some(name) }));
    }
    match reference.digest() {
        None => Ok(None),
        Some(digest) => by_digest(tx, digest, |named| named.name() == reference.name()),
    }
}

/// The image that has a name ending in `short`, whatever the registry.
fn anywhere(tx: &Tx<'_>, short: &ShortName) -> Result<Option<Found>> {
    if let crate::Version::Digest(digest) = short.version() {
        return by_digest(tx, digest, |named| named.path_ends_with(short));
    }
    for (name, image) in tx.names()? {
        if name.parse::<Reference>().is_ok_and(|reference| reference.ends_with(short)) {
            return Ok(Some(Found { image, name: Some(name) }));
        }
    }
    Ok(None)
}

fn by_digest(tx: &Tx<'_>, digest: &Digest, fits: impl Fn(&Reference) -> bool) -> Result<Option<Found>> {
    for (name, image) in tx.names()? {
        if name.parse::<Reference>().is_ok_and(|named| fits(&named)) {
            let document: Option<Document> = tx.image_doc(&image)?;
            if document.is_some_and(|document| document.digests.contains(digest)) {
                return Ok(Some(Found { image, name: None }));
            }
        }
    }
    Ok(None)
}
