//! What a container changed: `diff`, `commit`, `export`.
//!
//! ```text
//!   <root>/overlay-containers/ID/diff ─┐
//!   layers of the image ───────────────┴──> list of changes · an image · an archive
//! ```
//!
//! Its directories are read as they are on disk, so it may run or not. One that is down is ours meanwhile, and is not
//! removed under our hands; of one that runs we look afterwards whether it was.

use std::io::Write;
use std::path::{Path, PathBuf};

use images::{Change, DiffKind, Format, Image, Level, View};
use jiff::Timestamp;
use linux::userns::IdMaps;
use model::ImageId;
use serde_json::{Map, Value, json};

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::record::{ContainerRecord, State};
use crate::spec;
use crate::users::Users;

/// How `commit` makes an image of a container.
#[derive(Debug, Clone)]
pub struct CommitWish {
    /// The image's name, as typed; none leaves it nameless.
    pub name: Option<String>,
    /// `-c`
    pub changes: Vec<Change>,
    /// `-a`
    pub author: Option<String>,
    /// `-m`
    pub message: Option<String>,
    /// `-f`
    pub format: Format,
    /// `--squash`
    pub squash: bool,
    /// `--include-volumes`: what is mounted in the container are volumes of the image.
    pub include_volumes: bool,
    /// `-p`
    pub pause: bool,
}

impl Engine {
    /// What is different in a container or image from `other`, or from what it was made of.
    pub fn diff(&self, layers: &[PathBuf], other: Option<&[PathBuf]>) -> Result<Vec<(DiffKind, String)>> {
        Ok(images::diff(layers, other)?)
    }

    /// The directories of a container's files, topmost first: its own, then those it was made of.
    pub fn layers_of(&self, name: &str) -> Result<Vec<PathBuf>> {
        let record = self.named(name)?;
        let below = self.layers_below(&record)?;
        let mut layers = vec![self.upper(&record)?];
        layers.extend(below);
        Ok(layers)
    }

    /// What it was made of: its image's layers, topmost first, or the directory that `--rootfs` names.
    pub(crate) fn layers_below(&self, record: &ContainerRecord) -> Result<Vec<PathBuf>> {
        match &record.settings.rootfs {
            Some(rootfs) => Ok(vec![rootfs.path.clone()]),
            None => Ok(self.image_of(record)?.layers),
        }
    }

    /// Makes an image of what a container is now.
    pub fn commit(&mut self, name: &str, wish: &CommitWish) -> Result<ImageId> {
        let ContainerRecord { id, settings, .. } = self.named(name)?;
        if settings.rootfs.is_some() {
            return Err(Error::usage("cannot commit a container that uses an exploded rootfs"));
        }
        self.wait_settled(&id)?;
        let paused = wish.pause && self.record(&id)?.shown_state() == State::Running;
        if paused {
            self.pause(&id.to_string())?;
        }
        let done = self.with_still_files(&self.record(&id)?, |record, still_there| {
            let image = self.image_of(record)?;
            let owners = self.owners(record)?;
            let commit = images::Commit {
                image: &image,
                image_name: &record.image_name,
                upper: &self.upper(record)?,
                owners: owners.as_ref(),
                config: configuration(record, &image, wish.include_volumes),
                changes: &wish.changes,
                author: wish.author.as_deref(),
                message: wish.message.as_deref(),
                format: wish.format,
                squash: wish.squash,
                name: wish.name.as_deref(),
                created: Timestamp::now(),
            };
            Ok(self.images()?.commit(&commit, still_there)?)
        });
        if paused {
            let gone = |error: &Error| matches!(error.kind, Kind::NotFound | Kind::WrongState);
            self.unpause(&id.to_string()).map(drop).or_else(|error| if gone(&error) { Ok(()) } else { Err(error) })?;
        }
        let image = done?;
        self.event(&self.record(&id)?, "commit")?;
        Ok(image)
    }

    /// Writes all files of a container as an archive, without those of its volumes.
    pub fn export(&mut self, name: &str, out: impl Write) -> Result<()> {
        self.exported(name, |levels| Ok(images::pack(levels, View::Whole, out)?))
    }

    /// The same to a file, which is there when it is whole.
    pub fn export_to_file(&mut self, name: &str, path: &Path) -> Result<()> {
        self.exported(name, |levels| Ok(images::pack_to_file(levels, View::Whole, path)?))
    }

    fn exported(&mut self, name: &str, pack: impl FnOnce(&[Level<'_>]) -> Result<()>) -> Result<()> {
        let id = self.named(name)?.id;
        self.wait_settled(&id)?;
        let record = self.record(&id)?;
        self.with_still_files(&record, |record, still_there| {
            let (layers, owners, upper) = (self.layers_below(record)?, self.owners(record)?, self.upper(record)?);
            let mut levels = vec![Level { directory: &upper, owners: owners.as_ref() }];
            // An image's files have the owners that they have inside.
            let below = owners.as_ref().filter(|_| record.settings.rootfs.is_some());
            levels.extend(layers.iter().map(|directory| Level { directory, owners: below }));
            pack(&levels)?;
            if still_there() { Ok(()) } else { Err(Error::usage("the container was removed while it was exported")) }
        })?;
        self.event(&record, "export")
    }

    /// Works on the files of a container; the work asks in the end whether they were there all the time.
    fn with_still_files<T>(
        &self,
        record: &ContainerRecord,
        work: impl FnOnce(&ContainerRecord, &dyn Fn() -> bool) -> Result<T>,
    ) -> Result<T> {
        if record.state.at_rest() {
            let before = self.borrow(record)?;
            let done = work(record, &|| true);
            self.give_back(record, before)?;
            return done;
        }
        // Whoever removes one says so before he begins.
        work(record, &|| self.record(&record.id).is_ok_and(|now| now.fate.is_none()))
    }

    fn image_of(&self, record: &ContainerRecord) -> Result<Image> {
        match &record.image {
            Some(image) => Ok(self.images()?.by_id(image)?),
            None => Err(Error::usage(format!("container {} has no files: it is a pod's own", record.id))),
        }
    }

    /// A container that was never started has none yet.
    fn upper(&self, record: &ContainerRecord) -> Result<PathBuf> {
        let upper = self.places(&record.id).upper();
        crate::engine::make_dir(&upper)?;
        Ok(upper)
    }

    /// Whose its files are inside, when they belong to others on disk.
    fn owners(&self, record: &ContainerRecord) -> Result<Option<IdMaps>> {
        let maps = match &record.settings.users {
            None => return Ok(None),
            Some(Users::Own { maps, .. }) => maps.clone(),
            Some(Users::Of(owner)) => return self.owners(&self.record(owner)?),
            Some(Users::At(path)) => linux::userns::UserNs::open(path)
                .map_err(|e| Error::at(format!("cannot read the user namespace {}", path.display()), e))?
                .maps()
                .clone(),
        };
        Ok(Some(maps).filter(|maps| !crate::monitor::has_only_ourselves(maps)))
    }
}

/// How the image is run, which is how the container is: the image's own words, with what its user asked for.
fn configuration(record: &ContainerRecord, image: &Image, include_volumes: bool) -> Map<String, Value> {
    let raw: Value = serde_json::from_str(&image.raw_config).unwrap_or_default();
    let mut config = raw["config"].as_object().cloned().unwrap_or_default();
    config.retain(|_, value| !value.is_null());
    let settings = &record.settings;
    let mut set = |key: &str, value: Value, wanted: bool| {
        if wanted { drop(config.insert(key.to_owned(), value)) } else { drop(config.remove(key)) }
    };
    set("Cmd", json!(settings.command), !settings.command.is_empty());
    set("Entrypoint", json!(settings.entrypoint), !settings.entrypoint.is_empty());
    set("Env", json!(spec::lasting_environment(settings)), true);
    set("User", json!(settings.user), !settings.user.is_empty());
    set("WorkingDir", json!(settings.workdir), true);
    set("Labels", json!(settings.labels), !settings.labels.is_empty());
    let ports = settings.expose.iter().flat_map(|(first, count, protocol)| {
        (*first..first.saturating_add(*count)).map(move |port| format!("{port}/{protocol}"))
    });
    let published = settings.ports.iter().flat_map(|port| {
        let last = port.container_port.saturating_add(port.range);
        (port.container_port..last).map(move |number| format!("{number}/{}", port.protocol))
    });
    let ports: Map<String, Value> = ports.chain(published).map(|port| (port, json!({}))).collect();
    set("ExposedPorts", json!(ports), !ports.is_empty());
    if include_volumes {
        let volumes = config.entry("Volumes").or_insert_with(|| json!({}));
        let mounts = settings.mounts.iter().map(|mount| &mount.target);
        mounts.for_each(|target| volumes[target] = json!({}));
    }
    config
}
