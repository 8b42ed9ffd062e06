//! A directory that nothing written through it can leave.
//!
//! ```text
//!   "./usr/../bin/sh" ──clean──> bin/sh        "../../etc/passwd" ──clean──> refused
//!   bin/sh ──parent──> openat2(root, "bin", RESOLVE_IN_ROOT)  +  "sh" (never followed)
//! ```
//!
//! **How it works.** The kernel resolves parents as if our root were `/` (openat2, Linux 5.6): a hostile symlink
//! to `/etc` or `../../..` ends beneath the root, as it would in a chroot. The last component is only ever
//! used by calls that do not follow it.
//!
//! **Invariants.** No path of a stranger reaches a call that starts anywhere but at the root's descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use linux::mounts;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// `PATH_MAX`: what the kernel takes in one call, with the terminating NUL.
const PATH_MAX: usize = 4096;

/// A path beneath the root: cleaned, relative, without `.` and `..`; empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Beneath(Vec<u8>);

impl Beneath {
    /// Cleans a path as a tar archive has it: a leading `/` means the root, `..` is applied to the text.
    /// `None` when it leads above the root, has a NUL, or is longer than the kernel takes.
    pub(crate) fn clean(path: &[u8]) -> Option<Self> {
        if path.len() >= PATH_MAX || path.contains(&0) {
            return None;
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()?),
                part => parts.push(part),
            }
        }
        Some(Self(parts.join(&b'/')))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Parent and last component; `None` for the root itself.
    pub(crate) fn split(&self) -> Option<(Beneath, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self(Vec::new()), &self.0),
        })
    }

    /// A neighbour in the same directory.
    pub(crate) fn sibling(&self, name: &[u8]) -> Self {
        let parent = self.split().map(|(parent, _)| parent.0).unwrap_or_default();
        Self(if parent.is_empty() { name.to_vec() } else { [&parent, &b"/"[..], name].concat() })
    }
}

/// A root directory and the directory used last in it.
pub(crate) struct Tree {
    root: Rc<OwnedFd>,
    last: Option<(Beneath, Rc<OwnedFd>)>,
    /// How many directories were made without being asked for.
    pub(crate) made: u64,
}

impl Tree {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
        Ok(Self { root: Rc::new(root), last: None, made: 0 })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory `path`, which must be there.
    pub(crate) fn directory(&self, path: &Beneath) -> io::Result<OwnedFd> {
        let path = if path.0.is_empty() { b"." } else { path.0.as_slice() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // EAGAIN: something on the host was renamed meanwhile, and `..` could not be trusted. Try again.
        for _ in 0..16 {
            match rustix::fs::openat2(&*self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The directory `path`, made with all its parents when it is not there.
    pub(crate) fn make(&mut self, path: &Beneath) -> io::Result<Rc<OwnedFd>> {
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return Ok(fd.clone());
        }
        let fd = match (self.directory(path), path.split()) {
            (Err(error), Some((parent, name))) if error.kind() == io::ErrorKind::NotFound => {
                let parent = self.make(&parent)?;
                rustix::fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o755))?;
                self.made += 1;
                let made = open_directory(&*parent, name)?;
                // Whatever the umask.
                rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                Rc::new(made)
            }
            (other, _) => Rc::new(other?),
        };
        self.last = Some((path.clone(), fd.clone()));
        Ok(fd)
    }

    /// The directory `path`, which must be there; cheap when it was the last one, too.
    pub(crate) fn known(&mut self, path: &Beneath) -> io::Result<Rc<OwnedFd>> {
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return Ok(fd.clone());
        }
        let fd = Rc::new(self.directory(path)?);
        self.last = Some((path.clone(), fd.clone()));
        Ok(fd)
    }

    /// A directory may be elsewhere from now on.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// Removes whatever is at `name`, with everything in it.
    pub(crate) fn remove(&mut self, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        self.last = None; // it may be what goes
        remove(parent.as_fd(), name)
    }
}

/// What is at `name` in `parent`, not followed; `None` for nothing.
pub(crate) fn stat(parent: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Is it what overlayfs takes for "not here any more": a character device 0/0?
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// What a level of an overlay has at a name.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// What is below is not seen.
    Whiteout,
    Directory {
        stat: Stat,
        /// Is what levels below have in it not seen?
        opaque: bool,
    },
    Other(Stat),
}

/// What a level has at `name` in `parent`, and the name that is about: fuse-overlayfs, where it may not make devices, has
/// files `.wh.NAME` for whiteouts and `.wh..wh..opq` for opaque. `None` when there is nothing, or nothing of its own.
pub(crate) fn seen(parent: &OwnedFd, name: &[u8]) -> io::Result<Option<(Vec<u8>, Seen)>> {
    let Some(found) = stat(parent, name)? else { return Ok(None) };
    let kind = file_type(&found);
    match name.strip_prefix(b".wh.") {
        Some(b".wh..opq") if kind == FileType::RegularFile => return Ok(None),
        Some(hidden) if kind == FileType::RegularFile && !hidden.is_empty() => {
            return Ok(Some((hidden.to_vec(), Seen::Whiteout)));
        }
        _ => {}
    }
    let seen = match kind {
        _ if is_whiteout(&found) => Seen::Whiteout,
        FileType::Directory => match open_directory(parent, name) {
            Ok(directory) => Seen::Directory { stat: found, opaque: is_opaque(&directory)? },
            // Somebody removes it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        },
        _ => Seen::Other(found),
    };
    Ok(Some((name.to_vec(), seen)))
}

/// As [`seen`], where nothing means anything but what it is.
pub(crate) fn plain(parent: &OwnedFd, name: &[u8]) -> io::Result<Option<(Vec<u8>, Seen)>> {
    let directory = |stat: &Stat| file_type(stat) == FileType::Directory;
    Ok(stat(parent, name)?.map(|stat| {
        let seen = if directory(&stat) { Seen::Directory { stat, opaque: false } } else { Seen::Other(stat) };
        (name.to_vec(), seen)
    }))
}

fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    let attribute = [mounts::OPAQUE, mounts::OPAQUE_FOR_USERS, "user.fuseoverlayfs.opaque"].iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::fgetxattr(directory.as_fd(), *name, &mut value[..]).is_ok_and(|n| n == 1 && value == *b"y")
    });
    Ok(attribute || stat(directory, b".wh..wh..opq")?.is_some())
}

/// The directory `path` below `root`, where no part of it is a link.
pub(crate) fn open_below(root: &Path, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fd = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        fd = open_directory(&fd, name)?;
    }
    Ok(fd)
}

pub(crate) fn open_directory(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Sets an attribute of what a descriptor opened with `O_PATH` stands for, symlinks and devices included.
pub(crate) fn set_attribute(fd: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty())?)
}

/// Removes `name` in `parent` with everything in it, however deep: directories inside are first moved up, so
/// that neither the stack nor the number of open files grows with the depth.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    if unlink(parent, name)? {
        return Ok(());
    }
    let mut directories = vec![name.to_vec()];
    let mut moved = 0_u64;
    while let Some(directory) = directories.pop() {
        let fd = open_directory(parent, &directory)?;
        for child in names(&fd)? {
            if !unlink(fd.as_fd(), &child)? {
                directories.push(move_up(parent, fd.as_fd(), &child, &mut moved)?);
            }
        }
        rustix::fs::unlinkat(parent, &directory, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// The beginning of names that directories get on their way out; what a killed removal left has it.
pub(crate) const GOING: &str = ".going-";

fn move_up(parent: BorrowedFd<'_>, from: BorrowedFd<'_>, name: &[u8], moved: &mut u64) -> io::Result<Vec<u8>> {
    loop {
        *moved += 1;
        let to = format!("{GOING}{}-{moved}", std::process::id()).into_bytes();
        match rustix::fs::renameat_with(from, name, parent, to.as_slice(), rustix::fs::RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(to),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// `false` for a directory, `true` when it is gone.
fn unlink(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The names in a directory.
pub(crate) fn names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            all.push(name.to_vec());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_or_refused() {
        let clean = |text: &str| Beneath::clean(text.as_bytes()).map(|p| String::from_utf8(p.0).unwrap());
        assert_eq!(clean("./a//b/./c/").as_deref(), Some("a/b/c"));
        assert_eq!(clean("/etc/passwd").as_deref(), Some("etc/passwd"));
        assert_eq!(clean("a/../b").as_deref(), Some("b"));
        assert_eq!(clean(".").as_deref(), Some(""));
        assert_eq!(clean(".."), None);
        assert_eq!(clean("a/../../etc"), None);
        assert_eq!(clean("a\0b"), None);
        assert_eq!(clean(&"a/".repeat(2100)), None);
    }

    #[test]
    fn symlinks_in_parents_end_beneath_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink("../../../../../..", inside.join("up")).unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.join("absolute")).unwrap();
        let mut tree = Tree::open(&inside).unwrap();
        let same = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        let root = rustix::fs::fstat(tree.root()).unwrap().st_ino;
        assert_eq!(same(&tree.directory(&Beneath::clean(b"up").unwrap()).unwrap()), root);
        // The target does not exist beneath the root, so this is a dead end rather than a way out.
        assert!(tree.make(&Beneath::clean(b"absolute/x").unwrap()).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_tree_deeper_than_descriptors_and_paths_go_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::File::open(dir.path()).unwrap();
        let mut fd = OwnedFd::from(top.try_clone().unwrap());
        for _ in 0..3000 {
            rustix::fs::mkdirat(&fd, "deep", Mode::from_raw_mode(0o700)).unwrap();
            fd = open_directory(&fd, b"deep").unwrap();
        }
        remove(top.as_fd(), b"deep").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
