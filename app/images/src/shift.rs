//! Layers with other owners: for containers with users of their own, where the kernel cannot map owners in a mount.
//!
//! ```text
//!   overlay/<n>/diff ──copy, owners as outside──> overlay/<n>/making-<maps> ──syncfs, rename──> mapped-<maps>
//! ```
//!
//! A copy is made once for each layer and set of maps, and goes with the layer.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use linux::HostLock;
use linux::userns::{IdMaps, IdRange};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use sha2::{Digest as _, Sha256};

use crate::error::{ImageError, Result};
use crate::tree;

/// The beginning of the name of a copy that is whole, and of one that is not.
const WHOLE: &str = "mapped-";
const MAKING: &str = "making-";

/// The directory of a layer's copy, made when it is not there, in which an id of `layer`'s owners is what it is
/// outside of `maps`. Fails when an owner is not in them.
pub fn mapped_layer(layer: &Path, maps: &IdMaps) -> Result<PathBuf> {
    let name = name_of(maps);
    let beside = layer.parent().unwrap_or(layer);
    let whole = beside.join(format!("{WHOLE}{name}"));
    if whole.is_dir() {
        return Ok(whole);
    }
    let path = beside.join(format!("{MAKING}{name}.lock"));
    let lock = HostLock::take(&path).map_err(|e| ImageError::file(&path, e))?;
    let made = if whole.is_dir() { Ok(()) } else { make(layer, beside, &format!("{MAKING}{name}"), &whole, maps) };
    // While it is still ours: whoever waited for it notices that the file is another, and tries again.
    let _ = std::fs::remove_file(&path);
    drop(lock);
    made.map(|()| whole)
}

fn make(layer: &Path, beside: &Path, name: &str, whole: &Path, maps: &IdMaps) -> Result<()> {
    let directory = File::open(beside).map_err(|e| ImageError::file(beside, e))?;
    // What somebody left who was killed.
    tree::remove(directory.as_fd(), name.as_bytes()).map_err(|e| ImageError::file(beside, e))?;
    let copied = copy_layer(layer, &beside.join(name), maps);
    let done = copied
        .and_then(|()| Ok(rustix::fs::syncfs(&directory)?))
        .and_then(|()| std::fs::rename(beside.join(name), whole));
    done.map_err(|e| {
        // The error that matters is the first one.
        let _ = tree::remove(directory.as_fd(), name.as_bytes());
        ImageError::file(layer, e)
    })
}

/// The highest number of an owner, user or group, of the files of these layers; `nobody` does not count.
pub fn highest_owner(layers: &[PathBuf]) -> Result<u32> {
    const NOBODY: u32 = 65534;
    let mut highest = 0;
    for layer in layers {
        let mut pending = vec![layer.clone()];
        while let Some(directory) = pending.pop() {
            let failed = |e: io::Error| ImageError::file(&directory, e);
            for entry in std::fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let meta = entry.metadata().map_err(failed)?;
                let owner = |id: u32| if id == NOBODY { 0 } else { id };
                let (uid, gid) = {
                    use std::os::unix::fs::MetadataExt;
                    (meta.uid(), meta.gid())
                };
                highest = highest.max(owner(uid)).max(owner(gid));
                if meta.is_dir() {
                    pending.push(entry.path());
                }
            }
        }
    }
    Ok(highest)
}

/// Maps have names that fit a file's.
fn name_of(maps: &IdMaps) -> String {
    let text =
        |map: &[IdRange]| map.iter().map(|r| format!("{}:{}:{},", r.inside, r.outside, r.count)).collect::<String>();
    let digest = Sha256::digest(format!("{};{}", text(&maps.uids), text(&maps.gids)));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn copy_layer(from: &Path, to: &Path, maps: &IdMaps) -> io::Result<()> {
    std::fs::create_dir(to)?;
    let (source, target) = (
        tree::open_directory(CWD, from.as_os_str().as_bytes())?,
        tree::open_directory(CWD, to.as_os_str().as_bytes())?,
    );
    let mut copy = Copy { maps, root: target.try_clone()?, linked: HashMap::new(), path: PathBuf::new() };
    copy.directory(&source, &target)?;
    copy.dress(&source, &target, &rustix::fs::fstat(&source)?)
}

struct Copy<'a> {
    maps: &'a IdMaps,
    root: OwnedFd,
    /// Where the first name is of files that have several.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Where we are, from the root.
    path: PathBuf,
}

impl Copy<'_> {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(from)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            self.path.push(OsString::from_vec(name.clone()));
            self.entry(from, to, &name)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.path.display())))?;
            self.path.pop();
        }
        Ok(())
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                return Ok(rustix::fs::linkat(&self.root, first, to, name, AtFlags::empty())?);
            }
            self.linked.insert((stat.st_dev, stat.st_ino), self.path.clone());
        }
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let (below, copy) = (tree::open_directory(from, name)?, tree::open_directory(to, name)?);
                self.directory(&below, &copy)?;
                self.dress(&below, &copy, &stat)
            }
            FileType::RegularFile => {
                let original = rustix::fs::openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
                let made = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let copy = rustix::fs::openat(to, name, made, Mode::RUSR | Mode::WUSR)?;
                // Shares the blocks where the file system can (copy_file_range(2)).
                io::copy(&mut File::from(original.try_clone()?), &mut File::from(copy.try_clone()?))?;
                self.dress(&original, &copy, &stat)
            }
            FileType::Symlink => {
                rustix::fs::symlinkat(rustix::fs::readlinkat(from, name, Vec::new())?, to, name)?;
                self.dress_unopened(to, name, &stat)
            }
            // Whiteouts among them.
            _ => {
                rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
                self.dress_unopened(to, name, &stat)?;
                Ok(rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?)
            }
        }
    }

    fn owner(&self, stat: &Stat) -> io::Result<(Uid, Gid)> {
        match (outside(&self.maps.uids, stat.st_uid), outside(&self.maps.gids, stat.st_gid)) {
            (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => Err(io::Error::other(ImageError::Content(format!(
                "potentially insufficient UIDs or GIDs available in user namespace (requested {}:{} for /{}): \
                 the container's user namespace does not have them",
                stat.st_uid,
                stat.st_gid,
                self.path.display()
            )))),
        }
    }

    /// Owner, then permissions (a change of owner clears set-user-id), then attributes (it clears capabilities
    /// too), then times.
    fn dress(&self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
        let (uid, gid) = self.owner(stat)?;
        rustix::fs::fchown(to, Some(uid), Some(gid))?;
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
        self.attributes(from, to)?;
        Ok(rustix::fs::futimens(to, &times(stat))?)
    }

    fn dress_unopened(&self, to: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<()> {
        let (uid, gid) = self.owner(stat)?;
        rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn attributes(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        for (name, value) in attributes_of(from)? {
            let value = match &name[..] {
                b"security.capability" => self.capability(value),
                _ if name.starts_with(b"system.posix_acl_") => {
                    access_list(value, &self.maps.uids, &self.maps.gids, outside)
                }
                _ => value,
            };
            rustix::fs::fsetxattr(to, &name[..], &value, rustix::fs::XattrFlags::empty())?;
        }
        Ok(())
    }

    /// A program's capabilities count where the root is whom they name (capabilities(7), "version 3"): the
    /// container's.
    fn capability(&self, mut value: Vec<u8>) -> Vec<u8> {
        let (Some(magic), Some(root)) =
            (value.first_chunk::<4>(), self.maps.uids.iter().find(|range| range.inside == 0))
        else {
            return value;
        };
        let magic = u32::from_le_bytes(*magic);
        if magic & REVISION_MASK == REVISION_2 && value.len() == 20 {
            value[..4].copy_from_slice(&(magic & !REVISION_MASK | REVISION_3).to_le_bytes());
            value.extend(root.outside.to_le_bytes());
        }
        value
    }
}

/// VFS_CAP_REVISION_MASK, VFS_CAP_REVISION_2 and _3 in include/uapi/linux/capability.h
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// What `id` inside is outside.
fn outside(map: &[IdRange], id: u32) -> Option<u32> {
    let range = map.iter().find(|range| id.checked_sub(range.inside).is_some_and(|n| n < range.count))?;
    Some(range.outside + (id - range.inside))
}

/// What `id` outside is inside.
pub(crate) fn inside(map: &[IdRange], id: u32) -> Option<u32> {
    let range = map.iter().find(|range| id.checked_sub(range.outside).is_some_and(|n| n < range.count))?;
    Some(range.inside + (id - range.outside))
}

/// An attribute on disk of a file of a container that has these users, as it is inside.
pub(crate) fn attribute_inside(name: &[u8], mut value: Vec<u8>, maps: &IdMaps) -> Vec<u8> {
    match name {
        b"security.capability" => {
            if let Some(magic) = value.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
                && magic & REVISION_MASK == REVISION_3
                && value.len() == 24
            {
                value[..4].copy_from_slice(&(magic & !REVISION_MASK | REVISION_2).to_le_bytes());
                value.truncate(20);
            }
            value
        }
        _ if name.starts_with(b"system.posix_acl_") => access_list(value, &maps.uids, &maps.gids, inside),
        _ => value,
    }
}

/// Users and groups that an access control list names (include/uapi/linux/posix_acl_xattr.h), as `map` has them.
fn access_list(
    mut value: Vec<u8>,
    uids: &[IdRange],
    gids: &[IdRange],
    map: fn(&[IdRange], u32) -> Option<u32>,
) -> Vec<u8> {
    /// ACL_USER and ACL_GROUP in include/uapi/linux/posix_acl.h
    const NAMED: [u16; 2] = [0x02, 0x08];
    for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        if let Some(id) = map(if tag == NAMED[0] { uids } else { gids }, id).filter(|_| NAMED.contains(&tag)) {
            entry[4..].copy_from_slice(&id.to_le_bytes());
        }
    }
    value
}

/// A file's attributes, those of overlayfs among them; none where the file system has none.
pub(crate) fn attributes_of(file: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let names = match read(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOTSUP.raw_os_error()) => return Ok(Vec::new()),
        names => names?,
    };
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| Ok((name.to_vec(), read(|buffer| rustix::fs::fgetxattr(file, name, buffer))?))).collect()
}

/// An attribute, or the list of their names, whatever its length.
fn read(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match get(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel allows 64 KiB (XATTR_SIZE_MAX, XATTR_LIST_MAX).
            Err(rustix::io::Errno::RANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 4, 0),
            Err(e) => return Err(e.into()),
        }
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    fn maps() -> IdMaps {
        let map = vec![range(0, 100_000, 10), range(33, 7, 1)];
        IdMaps { uids: map.clone(), gids: map }
    }

    /// Version 2, CAP_NET_RAW permitted and effective.
    const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn layer() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let layer = directory.path().join("diff");
        std::fs::create_dir_all(layer.join("a")).unwrap();
        std::fs::write(layer.join("a/ping"), "text").unwrap();
        std::os::unix::fs::chown(layer.join("a/ping"), Some(33), Some(5)).unwrap();
        std::fs::set_permissions(layer.join("a/ping"), PermissionsExt::from_mode(0o4755)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(layer.join("a/ping"), "security.capability", &CAPABILITY, flags).unwrap();
        std::fs::hard_link(layer.join("a/ping"), layer.join("same")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layer.join("link")).unwrap();
        rustix::fs::mknodat(CWD, layer.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        (directory, layer)
    }

    #[test]
    fn a_copy_has_other_owners_and_is_else_the_same() {
        if !linux::process::is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let (_directory, layer) = layer();
        let copy = mapped_layer(&layer, &maps()).unwrap();
        let meta = |name: &str| copy.join(name).symlink_metadata().unwrap();
        let owner = |name: &str| (meta(name).uid(), meta(name).gid());
        assert_eq!(
            (owner("a"), owner("a/ping"), owner("link"), owner("gone")),
            ((100_000, 100_000), (7, 100_005), (100_000, 100_000), (100_000, 100_000))
        );
        assert_eq!(meta("a/ping").mode() & 0o7777, 0o4755);
        assert_eq!(meta("a/ping").ino(), meta("same").ino());
        assert_eq!(meta("a/ping").mtime_nsec(), layer.join("a/ping").metadata().unwrap().mtime_nsec());
        assert_eq!(std::fs::read_link(copy.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(tree::is_whiteout(&rustix::fs::stat(copy.join("gone")).unwrap()));
        // The program's capability is for the container's root.
        let file = File::open(copy.join("a/ping")).unwrap();
        let value = read(|buffer| rustix::fs::fgetxattr(&file, "security.capability", buffer)).unwrap();
        assert_eq!((value[3], &value[20..]), (3, &100_000_u32.to_le_bytes()[..]));
        assert_eq!(highest_owner(std::slice::from_ref(&layer)).unwrap(), 33);
        assert_eq!(mapped_layer(&layer, &maps()).unwrap(), copy);
    }

    #[test]
    fn an_owner_who_is_not_in_the_maps_is_told_and_nothing_stays() {
        if !linux::process::is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let (directory, layer) = layer();
        let few = IdMaps { uids: vec![range(0, 100_000, 10)], ..maps() };
        let error = mapped_layer(&layer, &few).unwrap_err().to_string();
        assert!(
            error.contains("potentially insufficient UIDs or GIDs available in user namespace (requested 33:5 for /"),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
