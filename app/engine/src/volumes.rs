//! Volumes: directories that outlive the containers that use them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use images::{Level, View};
use jiff::Timestamp;
use model::ContainerId;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, chownat, fstat, mkdirat, openat, readlinkat, statat, symlinkat};
use serde::{Deserialize, Serialize};

use crate::config::{VolumeMount, VolumeSource};
use crate::engine::{Engine, make_dir, remove_tree};
use crate::error::{Error, Kind, Result};
use crate::record::{ContainerRecord, Mount};
use crate::user::open_inside;

/// What is remembered of a volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Made for one container, and removed with it.
    pub anonymous: bool,
    /// `--label`
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A volume as it is shown.
#[derive(Debug, Clone)]
pub struct VolumeSummary {
    /// What is remembered of it.
    pub volume: Volume,
    /// Where its files are.
    pub mountpoint: PathBuf,
    /// The containers that name it.
    pub containers: Vec<ContainerId>,
    /// How many of them run.
    pub running: usize,
    /// Is there nothing in it yet?
    pub empty: bool,
}

/// How the directory of a volume that is being removed begins: no volume is called so. The remover's number follows.
const GONE: &str = ".gone-";

impl Engine {
    /// What a `-v` means; nothing is made yet.
    pub(crate) fn resolve_volume(&self, volume: &VolumeMount) -> Result<Mount> {
        let mount = |name: Option<String>, anonymous, source| Mount {
            volume: name,
            anonymous,
            source,
            target: volume.target.clone(),
            options: volume.options.clone(),
        };
        match &volume.source {
            VolumeSource::Bind(path) if !path.exists() => {
                Err(Error::usage(format!("statfs {}: no such file or directory", path.display())))
            }
            VolumeSource::Bind(path) => Ok(mount(None, false, path.clone())),
            VolumeSource::Named(name) => {
                check_name(name)?;
                Ok(mount(Some(name.clone()), false, self.volume_path(name)))
            }
            VolumeSource::Anonymous => {
                let name = crate::create::random_hex::<32>()?;
                let path = self.volume_path(&name);
                Ok(mount(Some(name), true, path))
            }
        }
    }

    /// Makes the container's volumes that are not there yet. Its record is: so whoever removes that removes
    /// the anonymous ones.
    pub(crate) fn make_volumes(&self, record: &ContainerRecord) -> Result<()> {
        for mount in &record.settings.mounts {
            if let Some(name) = &mount.volume {
                self.make_volume(name, mount.anonymous, &mount.source)?;
            }
        }
        Ok(())
    }

    fn make_volume(&self, name: &str, anonymous: bool, path: &Path) -> Result<()> {
        self.store.write(|tx| -> Result<()> {
            if tx.volume::<Volume>(name)?.is_none() {
                let volume =
                    Volume { name: name.to_owned(), created: Timestamp::now(), anonymous, labels: BTreeMap::new() };
                tx.volume_put(name, &volume)?;
                tx.event_add(&store::Event::volume("create", name))?;
            }
            Ok(())
        })?;
        make_directory(path)
    }

    /// Makes a volume, under a random name when none is given; its name. `ignore`: one that is there is no error.
    pub fn create_volume(&self, name: Option<&str>, labels: &BTreeMap<String, String>, ignore: bool) -> Result<String> {
        let name = name.map_or_else(crate::create::random_hex::<32>, |name| Ok(name.to_owned()))?;
        check_name(&name).map_err(|e| Error::usage(format!("running volume create option: {e}")))?;
        let made = self.store.write(|tx| -> Result<bool> {
            if tx.volume::<Volume>(&name)?.is_some() {
                return Ok(false);
            }
            let created = Timestamp::now();
            let volume = Volume { name: name.clone(), created, anonymous: false, labels: labels.clone() };
            tx.volume_put(&name, &volume)?;
            tx.event_add(&store::Event::volume("create", &name))?;
            Ok(true)
        })?;
        if !made && !ignore {
            return Err(Error::usage(format!("volume with name {name} already exists: volume already exists")));
        }
        make_directory(&self.volume_path(&name))?;
        Ok(name)
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<VolumeSummary>> {
        let rows = self.store.read(|tx| tx.volumes())?;
        let records = self.records()?;
        rows.into_iter()
            .map(|(name, doc)| {
                let volume = serde_json::from_value(doc).map_err(|e| Error::at(format!("volume {name}"), e))?;
                Ok(self.volume_summary(volume, &records))
            })
            .collect()
    }

    fn volume_summary(&self, volume: Volume, records: &[ContainerRecord]) -> VolumeSummary {
        let mountpoint = self.volume_path(&volume.name);
        let names = |record: &&ContainerRecord| {
            record.settings.mounts.iter().any(|mount| mount.volume.as_deref() == Some(&volume.name))
        };
        let users: Vec<&ContainerRecord> = records.iter().filter(names).collect();
        VolumeSummary {
            empty: is_empty(&mountpoint).unwrap_or(true),
            mountpoint,
            containers: users.iter().map(|record| record.id).collect(),
            running: users.iter().filter(|record| record.state.is_running()).count(),
            volume,
        }
    }

    /// The volume with this name, or the only one whose name begins so.
    pub fn volume(&self, name: &str) -> Result<VolumeSummary> {
        let all = self.volumes()?;
        if let Some(exact) = all.iter().find(|summary| summary.volume.name == name) {
            return Ok(exact.clone());
        }
        let mut like = all.iter().filter(|summary| !name.is_empty() && summary.volume.name.starts_with(name));
        match (like.next(), like.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => {
                Err(Error::usage(format!("more than one result for volume name {name:?}: volume already exists")))
            }
            (None, _) => Err(Error::new(Kind::NotFound, format!("no volume with name {name:?} found: no such volume"))),
        }
    }

    /// Writes a volume's files as an archive.
    pub fn export_volume(&self, name: &str, out: impl io::Write) -> Result<()> {
        self.exported_volume(name, |levels| Ok(images::pack(levels, View::Plain, out)?))
    }

    /// The same to a file, which is there when it is whole.
    pub fn export_volume_to_file(&self, name: &str, path: &Path) -> Result<()> {
        self.exported_volume(name, |levels| Ok(images::pack_to_file(levels, View::Plain, path)?))
    }

    fn exported_volume(&self, name: &str, pack: impl FnOnce(&[Level<'_>]) -> Result<()>) -> Result<()> {
        let directory = self.exact_volume(name)?;
        pack(&[Level { directory: &directory, owners: None }])
    }

    /// Adds the files of an archive, compressed or not, to those of a volume.
    pub fn import_volume(&self, name: &str, from: impl io::Read) -> Result<()> {
        let directory = self.exact_volume(name)?;
        Ok(images::unpack_plain(from, &directory, &images::Limits::STRANGERS)?)
    }

    /// Where the files of the volume with this whole name are.
    fn exact_volume(&self, name: &str) -> Result<PathBuf> {
        match check_name(name).is_ok() && self.store.read(|tx| tx.volume::<Volume>(name))?.is_some() {
            true => Ok(self.volume_path(name)),
            false => Err(Error::new(Kind::NotFound, format!("no such volume {name}"))),
        }
    }

    /// Removes a volume with its files; its name. `force`: with the containers that use it, which are stopped first
    /// when they run (`time` seconds after their stop signal they are killed).
    pub fn remove_volume(&mut self, name: &str, force: bool, time: Option<u32>) -> Result<String> {
        let found = self.volume(name)?;
        let name = found.volume.name;
        if force {
            for id in &found.containers {
                match self.remove_forced(id, time) {
                    Err(error) if error.kind == Kind::NotFound => {}
                    removed => removed?,
                }
            }
        }
        let directory = self.volumes_path().join(&name);
        let gone =
            self.volumes_path().join(format!("{GONE}{}-{}", std::process::id(), crate::create::random_hex::<4>()?));
        let moved = std::cell::Cell::new(false);
        // In one transaction with the look at who uses it: a container made in between would lose its files. One that is
        // made from now on under this name has none of them.
        let removed = self.store.write(|tx| -> Result<()> {
            let mut users = Vec::new();
            for (row, doc) in tx.containers()? {
                let record: ContainerRecord =
                    serde_json::from_value(doc).map_err(|e| Error::at(format!("container {}", row.id), e))?;
                if record.settings.mounts.iter().any(|mount| mount.volume.as_ref() == Some(&name)) {
                    users.push(record.id.to_string());
                }
            }
            if !users.is_empty() {
                let text = format!(
                    "volume {name} is being used by the following container(s): {}: volume is being used",
                    users.join(", ")
                );
                return Err(Error::new(Kind::InUse, text));
            }
            if tx.volume_remove(&name)? {
                tx.event_add(&store::Event::volume("remove", &name))?;
            }
            match std::fs::rename(&directory, &gone) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    Err(Error::at(format!("cannot remove {}", directory.display()), e))
                }
                done => {
                    moved.set(done.is_ok());
                    Ok(())
                }
            }
        });
        if removed.is_err() && moved.get() {
            std::fs::rename(&gone, &directory).map_err(|e| Error::at(directory.display(), e))?;
        }
        removed?;
        // Nobody has it any more. What cannot be removed now is a leftover.
        if let Err(error) = remove_tree(&gone) {
            tracing::warn!(%error, "a volume's files stay behind");
        }
        Ok(name)
    }

    /// Removes what removals that were killed have left of volumes.
    pub(crate) fn volume_leftovers(&self) -> Result<()> {
        let path = self.volumes_path();
        let entries = match std::fs::read_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|e| Error::at(path.display(), e))?,
        };
        for entry in entries {
            let name = entry.map_err(|e| Error::at(path.display(), e))?.file_name();
            let Some((pid, _)) = name.to_str().and_then(|name| name.strip_prefix(GONE)?.split_once('-')) else {
                continue;
            };
            // One that is at it still needs no help.
            if !pid.parse().is_ok_and(|pid: u32| Path::new("/proc").join(pid.to_string()).exists()) {
                remove_tree(&path.join(&name))?;
            }
        }
        Ok(())
    }

    /// Where volumes are: `NAME/_data` below it are the files of one.
    pub fn volumes_path(&self) -> PathBuf {
        self.options().root.join("volumes")
    }

    pub(crate) fn volume_path(&self, name: &str) -> PathBuf {
        self.volumes_path().join(name).join("_data")
    }

    /// Removes a named volume that no container has; `false` when there is none.
    pub fn remove_claimed_volume(&mut self, name: &str) -> Result<bool> {
        check_name(name)?;
        let has = |record: &ContainerRecord| record.settings.mounts.iter().any(|m| m.volume.as_deref() == Some(name));
        if let Some(record) = self.records()?.iter().find(|record| has(record)) {
            let text = format!(
                "volume {name} is being used by the following container(s): {}: volume is being used",
                record.id
            );
            return Err(Error::new(Kind::InUse, text));
        }
        if self.store.read(|tx| tx.volume::<Volume>(name))?.is_none() {
            return Ok(false);
        }
        remove_tree(&self.volumes_path().join(name))?;
        self.store.write(|tx| {
            tx.volume_remove(name)?;
            tx.event_add(&store::Event::volume("remove", name))
        })?;
        Ok(true)
    }

    /// Removes the volumes made for this container alone.
    pub(crate) fn remove_anonymous_volumes(&self, record: &ContainerRecord) -> Result<()> {
        for name in
            record.settings.mounts.iter().filter(|mount| mount.anonymous).filter_map(|mount| mount.volume.as_ref())
        {
            remove_tree(&self.options().root.join("volumes").join(name))?;
            self.store.write(|tx| {
                tx.volume_remove(name)?;
                tx.event_add(&store::Event::volume("remove", name))
            })?;
        }
        Ok(())
    }
}

/// Where everybody may look in, as in an image.
fn make_directory(path: &Path) -> Result<()> {
    if !path.exists() {
        make_dir(path)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|e| Error::at(path.display(), e))?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name.bytes().all(plain) && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Error::usage("names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"))
}

/// Fills volumes that are still empty with what the image has in their place, as Podman does.
/// `owner`: whose the new ones are, when not the image's.
pub(crate) fn copy_up(record: &ContainerRecord, root: &File, owner: Option<(u32, u32)>) -> Result<()> {
    for mount in record.settings.mounts.iter().filter(|mount| mount.volume.is_some()) {
        if mount.options.iter().any(|option| option == "nocopy") || !is_empty(&mount.source)? {
            continue;
        }
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&mount.source, Some(uid), Some(gid))
                .map_err(|e| Error::at(mount.source.display(), e))?;
        }
        // The image has nothing there, or no directory: nothing to copy.
        let Ok(from) = open_inside(root.as_fd(), Path::new(&mount.target), OFlags::RDONLY | OFlags::DIRECTORY) else {
            continue;
        };
        let wrong = |e: io::Error| Error::cannot_start(format!("cannot fill the volume at {}: {e}", mount.target));
        let to = File::open(&mount.source).map_err(wrong)?;
        copy_attributes(&from, &to).map_err(wrong)?;
        copy_directory(&from, &to).map_err(wrong)?;
    }
    Ok(())
}

/// Gives all files of the volumes that say so (`U`) to this user and group.
pub(crate) fn give_to(record: &ContainerRecord, uid: u32, gid: u32) -> Result<()> {
    for mount in record.settings.mounts.iter().filter(|mount| mount.options.iter().any(|option| option == "U")) {
        give_tree(&mount.source, uid, gid)
            .map_err(|e| Error::cannot_start(format!("cannot change the owner of {}: {e}", mount.source.display())))?;
    }
    Ok(())
}

/// Never follows a symbolic link. What is somebody's already is left alone: a change clears set-user-id.
fn give_tree(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = path.symlink_metadata()?;
        if (meta.uid(), meta.gid()) != (uid, gid) {
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid))?;
        }
        if meta.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
    }
    Ok(())
}

fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(path).map_err(|e| Error::at(path.display(), e))?;
    Ok(entries.next().is_none())
}

/// Owner and mode.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let stat = fstat(from)?;
    rustix::fs::fchown(to, Some(rustix::fs::Uid::from_raw(stat.st_uid)), Some(rustix::fs::Gid::from_raw(stat.st_gid)))?;
    Ok(rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

/// Directories, files and symbolic links; devices and sockets have no business in a volume. Never follows a
/// symbolic link.
fn copy_directory(from: &File, to: &File) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let below = File::from(openat(from, name, flags | OFlags::DIRECTORY, Mode::empty())?);
                let copy = File::from(openat(to, name, flags | OFlags::DIRECTORY, Mode::empty())?);
                copy_directory(&below, &copy)?;
                copy_attributes(&below, &copy)?;
            }
            FileType::RegularFile => {
                let mut original = File::from(openat(from, name, flags, Mode::empty())?);
                let made =
                    openat(to, name, flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
                let mut copy = File::from(made);
                io::copy(&mut original, &mut copy)?;
                copy_attributes(&original, &copy)?;
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
                let owner = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
                chownat(to, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_copy_has_the_same_files_modes_and_links() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("a/b")).unwrap();
        std::fs::write(from.path().join("a/b/file"), "text").unwrap();
        std::fs::set_permissions(from.path().join("a/b/file"), PermissionsExt::from_mode(0o4711)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.path().join("a/link")).unwrap();
        copy_directory(&File::open(from.path()).unwrap(), &File::open(to.path()).unwrap()).unwrap();
        assert_eq!(std::fs::read(to.path().join("a/b/file")).unwrap(), b"text");
        assert_eq!(std::fs::metadata(to.path().join("a/b/file")).unwrap().permissions().mode() & 0o7777, 0o4711);
        assert_eq!(std::fs::read_link(to.path().join("a/link")).unwrap(), Path::new("/etc/passwd"));
    }
}
