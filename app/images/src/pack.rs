//! Files of a container as a tar archive: what it changed, or all that it sees.
//!
//! ```text
//!   levels, topmost first          View::Layer (one level)          View::Whole
//!   diff       /etc/new            etc/new                          etc/new
//!              /gone (0/0)         .wh.gone                         –
//!   layer 2    /etc/old /gone                                       etc/old
//! ```
//!
//! **How it works.** Nothing is mounted: overlayfs' rules for a name in several directories are few, and are applied here. So
//! it does not matter whether the container runs, or whose mount namespace it is in. A directory is opened by its path
//! from its level's root, no link followed, when its turn comes; however deep or many, two are open at once.
//!
//! **Invariants.** Owners in the archive are those inside the container. Same files, same bytes. What goes away
//! meanwhile is left out. No attribute of overlayfs gets into an archive.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use linux::userns::IdMaps;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use crate::error::{ImageError, Result};
use crate::layer::is_welcome;
use crate::package::Unnamed;
use crate::shift;
use crate::tree::{self, Seen};

/// A directory of a stack.
#[derive(Debug, Clone, Copy)]
pub struct Level<'a> {
    /// Where its files are.
    pub directory: &'a Path,
    /// Whose its files are inside, when they belong to others on disk.
    pub owners: Option<&'a IdMaps>,
}

/// What of a stack goes into the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// What the topmost level changes of those below, with whiteouts: a layer of an image.
    Layer,
    /// What there is.
    Whole,
    /// A directory as it is: names and devices mean nothing else.
    Plain,
}

/// Writes an archive of a stack of directories, topmost first.
pub fn pack(levels: &[Level<'_>], view: View, out: impl Write) -> Result<()> {
    let mut packer = Packer { levels, view, tar: Builder::new(out), linked: HashMap::new(), open: None };
    packer.everything()?;
    packer.tar.into_inner().and_then(|mut out| out.flush()).map_err(written)
}

/// The same to a file, which gets its name when it is whole; a pipe or device is written to as it is.
pub fn pack_to_file(levels: &[Level<'_>], view: View, path: &Path) -> Result<()> {
    let (file, unnamed) = Unnamed::create(path)?;
    pack(levels, view, BufWriter::with_capacity(1 << 16, file)).map_err(|error| match error {
        ImageError::Content(text) => ImageError::Content(format!("{}: {text}", path.display())),
        other => other,
    })?;
    unnamed.map_or(Ok(()), Unnamed::name)
}

/// Names of strangers are bytes, and so are paths made of them; relative to the root.
type Path8 = Vec<u8>;

struct Packer<'a, W: Write> {
    levels: &'a [Level<'a>],
    view: View,
    tar: Builder<W>,
    /// Where the first name is of files that have several.
    linked: HashMap<(u64, u64), Path8>,
    /// The directory looked at last, which mostly is the next one, too.
    open: Option<(usize, Path8, OwnedFd)>,
}

/// What the stack has at a name.
enum Found {
    /// It is not there any more.
    Gone,
    Directory {
        stat: Stat,
        /// The levels that it is merged of, topmost first.
        levels: Vec<usize>,
        /// Is nothing below the last of them seen?
        closed: bool,
    },
    Other {
        stat: Stat,
        level: usize,
    },
}

impl<W: Write> Packer<'_, W> {
    fn everything(&mut self) -> Result<()> {
        let looked_at = if self.view == View::Layer { self.levels.len().min(1) } else { self.levels.len() };
        let mut waiting = vec![(Path8::new(), (0..looked_at).collect::<Vec<_>>())];
        while let Some((path, levels)) = waiting.pop() {
            let mut below = Vec::new();
            for (name, found) in self.names(&path, &levels)? {
                let full = joined(&path, &name);
                match found {
                    Found::Gone if self.view == View::Layer => {
                        self.marker(&joined(&path, &[b".wh.", &name[..]].concat()))?
                    }
                    Found::Gone => {}
                    Found::Directory { stat, levels, closed } => {
                        self.entry(&path, &name, &full, levels[0], &stat)?;
                        if closed && self.view == View::Layer && self.is_below(&full) {
                            self.marker(&joined(&full, b".wh..wh..opq"))?;
                        }
                        below.push((full, levels));
                    }
                    Found::Other { stat, level } => self.entry(&path, &name, &full, level, &stat)?,
                }
            }
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Is there such a directory below the topmost level? The kernel closes new ones, too.
    fn is_below(&self, path: &[u8]) -> bool {
        self.levels[1..].iter().any(|level| tree::open_below(level.directory, path).is_ok())
    }

    /// What a directory has, merged of its levels.
    fn names(&mut self, path: &Path8, levels: &[usize]) -> Result<BTreeMap<Path8, Found>> {
        let mut all: BTreeMap<Path8, Found> = BTreeMap::new();
        for &level in levels {
            let Some(directory) = self.directory(level, path)? else { continue };
            for name in tree::names(&directory).map_err(|e| self.failed(level, path, e))? {
                let seen = match self.view {
                    View::Plain => tree::plain(&directory, &name),
                    View::Layer | View::Whole => tree::seen(&directory, &name),
                };
                let seen = seen.map_err(|e| self.failed(level, path, e))?;
                let Some((name, seen)) = seen else { continue };
                match (all.get_mut(&name), seen) {
                    (None, Seen::Whiteout) => drop(all.insert(name, Found::Gone)),
                    (None, Seen::Directory { stat, opaque }) => {
                        all.insert(name, Found::Directory { stat, levels: vec![level], closed: opaque });
                    }
                    (None, Seen::Other(stat)) => drop(all.insert(name, Found::Other { stat, level })),
                    (Some(Found::Directory { levels, closed, .. }), seen) if !*closed => match seen {
                        Seen::Directory { opaque, .. } => {
                            levels.push(level);
                            *closed = opaque;
                        }
                        Seen::Whiteout | Seen::Other(_) => *closed = true,
                    },
                    (Some(_), _) => {}
                }
            }
        }
        Ok(all)
    }

    /// A directory of one level; `None` when it is no directory any more.
    fn directory(&mut self, level: usize, path: &Path8) -> Result<Option<OwnedFd>> {
        if let Some((known, at, fd)) = &self.open
            && *known == level
            && at == path
        {
            return fd.try_clone().map(Some).map_err(|e| self.failed(level, path, e));
        }
        match tree::open_below(self.levels[level].directory, path) {
            Ok(fd) => {
                let copy = fd.try_clone().map_err(|e| self.failed(level, path, e))?;
                self.open = Some((level, path.clone(), copy));
                Ok(Some(fd))
            }
            Err(error) if has_gone(&error) && !path.is_empty() => Ok(None),
            Err(error) => Err(self.failed(level, path, error)),
        }
    }

    /// Anything but a whiteout.
    fn entry(&mut self, parent: &Path8, name: &[u8], full: &Path8, level: usize, stat: &Stat) -> Result<()> {
        let Some(directory) = self.directory(level, parent)? else { return Ok(()) };
        let kind = tree::file_type(stat);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)).cloned() {
                let mut header = self.header(level, full, stat, EntryType::Link)?;
                return self.link(&mut header, full, &first);
            }
            self.linked.insert((stat.st_dev, stat.st_ino), full.clone());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |flags| match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
            Err(error) if has_gone(&error.into()) => Ok(None),
            opened => opened.map(Some).map_err(|e| self.failed(level, full, e.into())),
        };
        match kind {
            FileType::Directory => {
                let Some(fd) = open(flags | OFlags::DIRECTORY)? else { return Ok(()) };
                self.attributes(level, full, &fd)?;
                let mut header = self.header(level, full, stat, EntryType::Directory)?;
                self.append(&mut header, &[full, &b"/"[..]].concat(), io::empty())
            }
            FileType::RegularFile => {
                let Some(fd) = open(flags)? else { return Ok(()) };
                let now = rustix::fs::fstat(&fd).map_err(|e| self.failed(level, full, e.into()))?;
                if tree::file_type(&now) != FileType::RegularFile {
                    return Ok(());
                }
                self.attributes(level, full, &fd)?;
                let mut header = self.header(level, full, &now, EntryType::Regular)?;
                let size = now.st_size.cast_unsigned();
                header.set_size(size);
                // A file that grows or shrinks meanwhile is as long as it was at first, with zeros where it is no more.
                self.append(&mut header, full, File::from(fd).chain(io::repeat(0)).take(size))
            }
            FileType::Symlink => match rustix::fs::readlinkat(&directory, name, Vec::new()) {
                Err(error) if has_gone(&error.into()) => Ok(()),
                target => {
                    let target = target.map_err(|e| self.failed(level, full, e.into()))?;
                    let mut header = self.header(level, full, stat, EntryType::Symlink)?;
                    self.link(&mut header, full, target.as_bytes())
                }
            },
            kind => {
                let entry = match kind {
                    FileType::Fifo => EntryType::Fifo,
                    FileType::CharacterDevice => EntryType::Char,
                    FileType::BlockDevice => EntryType::Block,
                    // Sockets mean nothing to anybody else.
                    _ => return Ok(()),
                };
                let mut header = self.header(level, full, stat, entry)?;
                let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                header
                    .set_device_major(numbers.0)
                    .and_then(|()| header.set_device_minor(numbers.1))
                    .map_err(written)?;
                self.append(&mut header, full, io::empty())
            }
        }
    }

    /// An empty file whose name says something.
    fn marker(&mut self, path: &[u8]) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.append(&mut header, path, io::empty())
    }

    fn header(&self, level: usize, path: &[u8], stat: &Stat, kind: EntryType) -> Result<Header> {
        let (uid, gid) = match self.levels[level].owners {
            None => (stat.st_uid, stat.st_gid),
            Some(maps) => match (shift::inside(&maps.uids, stat.st_uid), shift::inside(&maps.gids, stat.st_gid)) {
                (Some(uid), Some(gid)) => (uid, gid),
                _ => {
                    return Err(ImageError::Content(format!(
                        "/{} belongs to {}:{}, whom the container's user namespace does not have",
                        String::from_utf8_lossy(path),
                        stat.st_uid,
                        stat.st_gid
                    )));
                }
            },
        };
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
        header.set_size(0);
        Ok(header)
    }

    /// Extended attributes, for the next entry.
    fn attributes(&mut self, level: usize, path: &[u8], fd: &OwnedFd) -> Result<()> {
        let mut all = Vec::new();
        for (name, value) in shift::attributes_of(fd).map_err(|e| self.failed(level, path, e))? {
            // Names in these records end at the first `=`.
            let Some(key) = str::from_utf8(&name).ok().filter(|key| is_welcome(key.as_bytes()) && !key.contains('='))
            else {
                continue;
            };
            let value = match self.levels[level].owners {
                None => value,
                Some(maps) => shift::attribute_inside(&name, value, maps),
            };
            all.push((format!("SCHILY.xattr.{key}"), value));
        }
        let records = all.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.tar.append_pax_extensions(records).map_err(written)
    }

    fn append(&mut self, header: &mut Header, path: &[u8], content: impl Read) -> Result<()> {
        self.tar.append_data(header, Path::new(OsStr::from_bytes(path)), content).map_err(written)
    }

    fn link(&mut self, header: &mut Header, path: &[u8], target: &[u8]) -> Result<()> {
        // As it is; the other way to write it cleans it.
        match header.set_link_name_literal(target) {
            Ok(()) => self.append(header, path, io::empty()),
            Err(_) => {
                let (path, target) = (Path::new(OsStr::from_bytes(path)), Path::new(OsStr::from_bytes(target)));
                self.tar.append_link(header, path, target).map_err(written)
            }
        }
    }

    fn failed(&self, level: usize, path: &[u8], error: io::Error) -> ImageError {
        ImageError::file(PathBuf::from(self.levels[level].directory).join(OsStr::from_bytes(path)), error)
    }
}

fn joined(path: &[u8], name: &[u8]) -> Path8 {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// It was there a moment ago, or it was something else.
fn has_gone(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::STALE, Errno::NXIO]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whoever takes the archive may have failed himself, and says so.
fn written(error: io::Error) -> ImageError {
    match error.downcast::<ImageError>() {
        Ok(ours) => ours,
        Err(error) => ImageError::Content(format!("writing an archive: {}", crate::error::plain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use linux::userns::IdRange;
    use rustix::fs::{CWD, XattrFlags};

    use super::*;
    use crate::testing::root;

    fn names(archive: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
        let entries = entries.map(|entry| {
            let link = entry.link_name().unwrap().map_or(String::new(), |link| format!(" -> {}", link.display()));
            format!("{}{link}", entry.path().unwrap().display())
        });
        entries.collect()
    }

    fn packed(levels: &[Level<'_>], view: View) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(levels, view, &mut bytes).unwrap();
        bytes
    }

    /// Of what is in it nothing is seen that is below.
    fn close(path: &Path) {
        rustix::fs::setxattr(path, linux::mounts::OPAQUE, b"y", XattrFlags::empty()).unwrap();
    }

    fn whiteout(path: PathBuf) {
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    #[test]
    fn a_layer_tells_what_is_gone_and_the_whole_leaves_it_out() {
        if !root("a_layer_tells_what_is_gone_and_the_whole_leaves_it_out") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in ["etc", "var/old", "gone", "same"] {
            std::fs::create_dir_all(lower.join(path)).unwrap();
        }
        for path in ["etc/a", "etc/b", "var/old/x", "gone/x", "same/x", "file"] {
            std::fs::write(lower.join(path), path).unwrap();
        }
        for path in ["etc", "var", "new"] {
            std::fs::create_dir_all(upper.join(path)).unwrap();
        }
        std::fs::write(upper.join("etc/a"), "changed").unwrap();
        std::fs::hard_link(upper.join("etc/a"), upper.join("hard")).unwrap();
        std::os::unix::fs::symlink("/a//strange/./target/", upper.join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
        whiteout(upper.join("etc/b"));
        whiteout(upper.join("gone"));
        std::fs::create_dir(upper.join("file.d")).unwrap();
        close(&upper.join("var"));
        // As the kernel has it for directories that were made anew.
        close(&upper.join("new"));
        let levels = [&upper, &lower].map(|directory| Level { directory, owners: None });
        let layer = packed(&levels, View::Layer);
        let told = [
            "etc/",
            "file.d/",
            ".wh.gone",
            "hard",
            "link -> /a//strange/./target/",
            "new/",
            "var/",
            "var/.wh..wh..opq",
            "etc/a -> hard",
            "etc/.wh.b",
        ];
        assert_eq!(names(&layer), told);
        let whole = packed(&levels, View::Whole);
        let there = [
            "etc/",
            "file",
            "file.d/",
            "hard",
            "link -> /a//strange/./target/",
            "new/",
            "same/",
            "var/",
            "etc/a -> hard",
            "same/x",
        ];
        assert_eq!(names(&whole), there);
        assert_eq!(packed(&levels, View::Whole), whole, "same files, same bytes");
        // What became of the layer is what it was.
        let again = dir.path().join("again/diff");
        std::fs::create_dir_all(&again).unwrap();
        crate::layer::unpack(&layer[..], None, &again, &crate::Limits::STRANGERS).unwrap();
        let levels = [&again, &lower].map(|directory| Level { directory, owners: None });
        assert_eq!(names(&packed(&levels, View::Whole)), there);
        assert_eq!(names(&packed(&levels, View::Layer)), told);
    }

    #[test]
    fn owners_and_capabilities_are_those_inside() {
        if !root("owners_and_capabilities_are_those_inside") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower, back) = (dir.path().join("upper"), dir.path().join("lower"), dir.path().join("back/diff"));
        [&upper, &lower, &back].iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
        let file = upper.join("ping");
        std::fs::write(&file, "text").unwrap();
        chown(&file, Some(100_033), Some(100_005)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o4755)).unwrap();
        let set = |name: &str, value: &[u8]| {
            rustix::fs::setxattr(&file, name, value, XattrFlags::empty()).unwrap();
        };
        // Version 3, CAP_NET_RAW, of the root that is 100000 outside.
        let mut capability = vec![1, 0, 0, 3, 0, 0x20];
        capability.resize(20, 0);
        capability.extend(100_000_u32.to_le_bytes());
        set("security.capability", &capability);
        set("user.colour", b"blue");
        std::fs::write(lower.join("theirs"), "text").unwrap();
        chown(lower.join("theirs"), Some(7), Some(8)).unwrap();
        let map = vec![IdRange { inside: 0, outside: 100_000, count: 1000 }];
        let maps = IdMaps { uids: map.clone(), gids: map };
        let levels = [Level { directory: &upper, owners: Some(&maps) }, Level { directory: &lower, owners: None }];
        crate::layer::unpack(&packed(&levels, View::Whole)[..], None, &back, &crate::Limits::STRANGERS).unwrap();
        let meta = |name: &str| back.join(name).metadata().unwrap();
        assert_eq!((meta("ping").uid(), meta("ping").gid(), meta("ping").mode() & 0o7777), (33, 5, 0o4755));
        assert_eq!((meta("theirs").uid(), meta("theirs").gid()), (7, 8));
        let attributes = shift::attributes_of(&File::open(back.join("ping")).unwrap().into()).unwrap();
        let value = |name: &str| attributes.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| &value[..]);
        let mut expected = vec![1, 0, 0, 2, 0, 0x20];
        expected.resize(20, 0);
        assert_eq!((value("security.capability"), value("user.colour")), (Some(&expected[..]), Some(&b"blue"[..])));
        // Whom nobody inside is, is told.
        chown(&file, Some(5), Some(100_005)).unwrap();
        let said = pack(&levels, View::Whole, io::sink()).unwrap_err().to_string();
        assert_eq!(said, "/ping belongs to 5:100005, whom the container's user namespace does not have");
    }
}
