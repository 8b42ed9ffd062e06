//! Where a runtime finds the files of a container that has users of its own.
//!
//! ```text
//!   ~/.local/share/podwire (0700) ──bind, shifted──> /mnt/1  ┐ in the monitor's own mount namespace
//!   overlay of the image's layers ─────────────────> /mnt/2  ┴──> config.json
//! ```
//!
//! The runtime sets a container up as its root, who is nobody outside, and may not go through directories that
//! are the user's or root's alone. Podman opens these to everybody; we show what is in them at another place
//! instead, which nobody else sees.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use linux::mounts::{self, Access, Depth};
use linux::userns::UserNs;

use crate::error::{Error, Result};

/// Directories that every machine has some of, and everybody may enter.
const PLACES: [&str; 9] = ["/mnt", "/media", "/srv", "/opt", "/boot", "/home", "/root", "/var/tmp", "/tmp"];

/// A directory in the calling thread's mount namespace, for mounts.
pub(crate) struct Stage {
    place: PathBuf,
    taken: u32,
}

impl Stage {
    /// In a place where nothing of `needed` is.
    pub(crate) fn open(needed: &[&Path]) -> Result<Self> {
        let free = |place: &&Path| {
            place.symlink_metadata().is_ok_and(|meta| meta.is_dir())
                && !needed.iter().any(|path| path.starts_with(place))
        };
        let place = PLACES.iter().map(Path::new).find(free).ok_or_else(|| {
            Error::cannot_start(format!("no place for a container with users of its own: one of {PLACES:?} is needed"))
        })?;
        mounts::tmpfs(place, Some(1 << 20), 0o711).map_err(Error::cannot_start)?;
        Ok(Self { place: place.to_owned(), taken: 0 })
    }

    /// A new directory.
    pub(crate) fn directory(&mut self) -> Result<PathBuf> {
        let path = self.next();
        std::fs::create_dir(&path).map_err(|e| Error::at(path.display(), e)).map(|()| path)
    }

    /// Shows a file or directory there, with what is mounted below it.
    pub(crate) fn show(&mut self, source: &Path) -> Result<PathBuf> {
        let target = self.like(source)?;
        mounts::bind(source, &target, Depth::All, Access::ReadWrite).map_err(Error::cannot_start)?;
        Ok(target)
    }

    /// As [`Stage::show`], with its owners mapped to those of `users`.
    pub(crate) fn show_mapped(&mut self, source: &Path, users: &UserNs) -> io::Result<PathBuf> {
        let target = self.like(source).map_err(|e| io::Error::other(e.message))?;
        mounts::bind_mapped(source, &target, Depth::All, users).map(|()| target)
    }

    /// What `source` can be mounted on.
    fn like(&mut self, source: &Path) -> Result<PathBuf> {
        if source.is_dir() {
            return self.directory();
        }
        let path = self.next();
        File::create(&path).map_err(|e| Error::at(path.display(), e)).map(|_| path)
    }

    fn next(&mut self) -> PathBuf {
        self.taken += 1;
        self.place.join(self.taken.to_string())
    }
}
