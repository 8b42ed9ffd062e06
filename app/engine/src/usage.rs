//! What takes how much of the disk.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use images::ImageUsage;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::list::Summary;

/// Bytes of everything in a root.
#[derive(Debug, Clone)]
pub struct DiskUsage {
    /// Images by id.
    pub images: Vec<(ImageUsage, usize)>,
    /// All layers of all images, each once.
    pub layers: u64,
    /// Containers, oldest first.
    pub containers: Vec<ContainerUsage>,
    /// Volumes by name.
    pub volumes: Vec<VolumeUsage>,
}

/// A container and its bytes.
#[derive(Debug, Clone)]
pub struct ContainerUsage {
    /// The container.
    pub summary: Summary,
    /// What it wrote over its image.
    pub written: u64,
    /// How many volumes it has.
    pub volumes: usize,
}

/// A volume and its bytes.
#[derive(Debug, Clone)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// How many containers name it.
    pub users: usize,
    /// Its files.
    pub size: u64,
}

impl Engine {
    /// What images, containers and volumes take; `df`. Walks through all files of containers and volumes.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let images = self.images()?;
        let (of_images, layers) = images.usage()?;
        let with_users = |usage: ImageUsage| Ok((images.users(&usage.image.id)?.len(), usage));
        let of_images: Vec<_> = of_images.into_iter().map(with_users).collect::<Result<_>>()?;
        let containers = self.list()?.into_iter().map(|summary| {
            let written = self.written(&summary.id)?;
            let volumes = summary.mounts.iter().filter(|mount| mount.name.is_some()).count();
            Ok(ContainerUsage { summary, written, volumes })
        });
        let volumes = self.volumes()?.into_iter().map(|volume| {
            let size = size_of(&volume.mountpoint).map_err(|e| Error::at(volume.mountpoint.display(), e))?;
            Ok(VolumeUsage { name: volume.volume.name, users: volume.containers.len(), size })
        });
        Ok(DiskUsage {
            images: of_images.into_iter().map(|(users, usage)| (usage, users)).collect(),
            layers,
            containers: containers.collect::<Result<_>>()?,
            volumes: volumes.collect::<Result<_>>()?,
        })
    }

    /// Bytes that a container wrote over its image.
    pub(crate) fn written(&self, id: &model::ContainerId) -> Result<u64> {
        let upper = self.places(id).upper();
        size_of(&upper).map_err(|e| Error::at(upper.display(), e))
    }
}

/// Bytes of all files below a directory, those with several names once. What is not there, or goes meanwhile, has none.
/// No link leads out of it: containers change these trees while we look.
pub(crate) fn size_of(directory: &Path) -> io::Result<u64> {
    let mut seen = HashSet::new();
    // Directories wait here, not on the stack: anybody can nest them.
    let mut waiting: Vec<OwnedFd> = open(CWD, directory)?.into_iter().collect();
    let mut size = 0;
    while let Some(directory) = waiting.pop() {
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => continue,
                stat => stat?,
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                waiting.extend(open(directory.as_fd(), name)?);
            } else if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
                size += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
    }
    Ok(size)
}

fn open(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(at, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once_and_links_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("in")).unwrap();
        std::fs::write(path("in/file"), "12345").unwrap();
        std::fs::hard_link(path("in/file"), path("again")).unwrap();
        std::os::unix::fs::symlink("/usr", path("link")).unwrap();
        assert_eq!(size_of(directory.path()).unwrap(), 5 + "/usr".len() as u64);
        assert_eq!(size_of(&path("nothing")).unwrap(), 0);
    }
}
