//! A layer: from the bytes of its tar archive to the directory that overlayfs mounts.
//!
//! ```text
//!   blob ──hash──> digest          ┌ files, links, devices   as they are
//!     └──> gunzip · unzstd ──hash──┤ .wh.NAME                a character device 0/0 called NAME
//!                          diff_id └ .wh..wh..opq            trusted.overlay.opaque=y on its directory (user. …)
//! ```
//!
//! **How it works.** One pass: what is hashed is what is unpacked, and both digests are compared when the last
//! byte has gone by. A layer whose digest is wrong is never recorded; its directory goes with [`crate::staged`].
//!
//! **Invariants.** Nothing outside the directory is written, read or linked, whatever the archive says (see
//! [`crate::tree`]). Attributes that mean something to overlayfs never come from an archive.
//!
//! **Limits.** [`Limits::STRANGERS`]; security labels of other hosts are dropped.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linux::{mounts, userns};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::archive::{Archive, Entry, Kind};
use crate::digest::{Digest, Hasher, HashingReader};
use crate::error::{ImageError, Result, plain};
use crate::frame::Tape;
use crate::tree::{self, Beneath, Tree};

/// How much one layer may ask of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its archive, without compression.
    pub unpacked: u64,
    /// Entries, made-up parent directories included.
    pub entries: u64,
    /// How many times its compressed size it may grow, once it is past `ratio_free`.
    pub ratio: u64,
    /// Up to this size in bytes any ratio is fine: a small layer may well hold an empty disk image.
    pub ratio_free: u64,
}

impl Limits {
    /// For strangers' layers. The largest in use (machine learning) are about 20 GiB; a large distribution has 500,000
    /// entries. Program text is compressed to a tenth, logs to a thirtieth; deflate cannot pass 1,032, zstd can.
    pub const STRANGERS: Self = Self { unpacked: 64 << 30, entries: 4_000_000, ratio: 250, ratio_free: 1 << 30 };
}

/// What came out of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Digest and size in bytes of the blob as it came; none when nobody promised one.
    pub(crate) blob: Option<(Digest, u64)>,
    /// What its archive was.
    pub(crate) diff: Diff,
}

/// What a layer's archive was, without compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diff {
    /// Its digest.
    pub(crate) id: Digest,
    /// Its bytes.
    pub(crate) archive: u64,
    /// Bytes of all files.
    pub(crate) size: u64,
    /// Did it say what the root directory itself is like?
    pub(crate) has_root: bool,
}

/// Unpacks the blob read from `source` into the empty directory `to`, and writes its frame beside it. Only if a digest is `promised` is the blob's
/// own computed: it costs as much as all the rest.
pub(crate) fn unpack(mut source: impl Read, promised: Option<&Digest>, to: &Path, limits: &Limits) -> Result<Unpacked> {
    let Some(promised) = promised else {
        return Ok(Unpacked { blob: None, diff: unpack_blob(&mut source, to, limits)? });
    };
    let mut blob = HashingReader::new(source, promised.hasher());
    let diff = unpack_blob(&mut blob, to, limits)?;
    Ok(Unpacked { blob: Some(blob.finish()), diff })
}

fn unpack_blob(blob: &mut impl Read, to: &Path, limits: &Limits) -> Result<Diff> {
    let plain = bounded(&mut *blob, limits).map_err(read_error)?;
    let mut plain = HashingReader::new(plain, Hasher::Sha256(Default::default()));
    let (size, has_root) = extract(&mut plain, to, limits)?;
    let (id, archive) = plain.finish();
    // Whatever follows the compressed stream belongs to the blob, and so to its digest.
    io::copy(blob, &mut io::sink()).map_err(read_error)?;
    Ok(Diff { id, archive, size, has_root })
}

/// Unpacks an archive, compressed or not, into a directory that may have files already: files of any name are files, none
/// of them a whiteout.
pub fn unpack_plain(source: impl Read, to: &Path, limits: &Limits) -> Result<()> {
    let mut archive = Archive::new(bounded(source, limits).map_err(read_error)?);
    let mut layer = Layer { plain: true, ..Layer::open(to, limits)? };
    layer.take_all(&mut archive)?;
    archive.drain().map_err(read_error)?;
    layer.finish().map(drop)
}

/// `source` without its compression, and not without end.
pub(crate) fn bounded<'a>(source: impl Read + 'a, limits: &Limits) -> io::Result<Box<dyn Read + 'a>> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: source, taken: taken.clone() };
    let inner = decompress(BufReader::with_capacity(64 * 1024, counted))?;
    Ok(Box::new(Bounded { inner, given: 0, taken, limits: *limits }))
}

/// `source` without its compression, which its first bytes tell.
fn decompress<'a, R: io::BufRead + 'a>(mut source: R) -> io::Result<Box<dyn Read + 'a>> {
    let unsupported = |what: &str, tool: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{what} compression is not supported; decompress it with {tool} first"),
        )
    };
    // A pipe may give less than six bytes at first; then it is taken for a plain archive, unless it is none either.
    Ok(match source.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        // 0x184D2A50-5F: a skippable frame, with which zstd:chunked and pzstd streams begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(source)?)
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return Err(unsupported("xz", "xz -d")),
        [b'B', b'Z', b'h', ..] => return Err(unsupported("bzip2", "bzip2 -d")),
        _ => Box::new(source),
    })
}

/// Unpacks a plain archive: bytes of all files, and whether the root itself was in it.
fn extract(source: impl Read, to: &Path, limits: &Limits) -> Result<(u64, bool)> {
    let mut archive = Archive::taped(source, Tape::beside(to)?);
    let mut layer = Layer::open(to, limits)?;
    layer.take_all(&mut archive)?;
    if let Some(tape) = archive.drain().map_err(read_error)? {
        tape.finish()?;
    }
    layer.finish()
}

/// The error of a read: perhaps one of ours that came through `io::Error`.
pub(crate) fn read_error(error: io::Error) -> ImageError {
    match error.downcast::<ImageError>() {
        Ok(ours) => ours,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ImageError::Content(format!("unexpected end: {}", plain(&error)))
        }
        Err(error) => ImageError::Content(plain(&error)),
    }
}

/// A layer's directory being filled.
struct Layer {
    tree: Tree,
    root: PathBuf,
    size: u64,
    has_root: bool,
    limits: Limits,
    /// Is it no layer, but a directory in which names mean nothing else?
    plain: bool,
    /// Directories' times, which every file made in them would change.
    times: BTreeMap<Beneath, (i64, u32)>,
    /// Bytes of those directories' paths.
    remembered: usize,
}

/// How long the paths of a layer's directories may be together: they are kept in memory until the end. Half a
/// million of usual length have 30 MiB.
const REMEMBERED_MAX: usize = 256 << 20;

/// Where an entry goes: an open directory and a name in it.
struct Place {
    parent: Rc<OwnedFd>,
    name: Vec<u8>,
}

impl Layer {
    fn open(root: &Path, limits: &Limits) -> Result<Self> {
        let tree = Tree::open(root).map_err(|e| ImageError::file(root, e))?;
        Ok(Self {
            tree,
            root: root.to_owned(),
            size: 0,
            has_root: false,
            limits: *limits,
            plain: false,
            times: BTreeMap::new(),
            remembered: 0,
        })
    }

    fn take_all<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<()> {
        let mut count = 0;
        while let Some(entry) = archive.next().map_err(read_error)? {
            count += 1;
            if count + self.tree.made > self.limits.entries {
                return Err(ImageError::Content(format!("the layer has more than {} entries", self.limits.entries)));
            }
            self.take(&entry, archive)?;
        }
        Ok(())
    }

    fn take<R: Read>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        let path = Beneath::clean(&entry.path).ok_or_else(|| outside("entry", &entry.path))?;
        let Some((parent, name)) = path.split() else {
            return self.root_directory(entry);
        };
        if let Some(hidden) = name.strip_prefix(b".wh.").filter(|_| !self.plain) {
            return self.whiteout(&path, &parent, hidden);
        }
        let parent = self.tree.make(&parent).map_err(|e| self.failed(&path, e))?;
        let place = Place { parent, name: name.to_vec() };
        self.make(entry, &path, &place, archive).map_err(|error| match error.downcast::<ImageError>() {
            Ok(ours) => ours,
            Err(error) => self.failed(&path, error),
        })
    }

    /// `./`: what the root directory itself is like.
    fn root_directory(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(ImageError::Content("malformed archive: an entry without a name".to_owned()));
        }
        self.has_root = true;
        let path = Beneath::clean(b"").expect("the root is beneath itself");
        let root = self.tree.root().try_clone_to_owned().map_err(|e| ImageError::file(&self.root, e))?;
        self.times.insert(path, entry.modified);
        dress(&root, entry).map_err(|error| match error.downcast::<ImageError>() {
            Ok(ours) => ours,
            Err(error) => ImageError::file(&self.root, error),
        })
    }

    fn make<R: Read>(
        &mut self,
        entry: &Entry,
        path: &Beneath,
        place: &Place,
        archive: &mut Archive<R>,
    ) -> io::Result<()> {
        let before = tree::stat(&*place.parent, &place.name)?;
        let was_directory = before.as_ref().is_some_and(|stat| tree::file_type(stat) == FileType::Directory);
        let was_whiteout = before.as_ref().is_some_and(tree::is_whiteout);
        if before.is_some() && !(was_directory && entry.kind == Kind::Directory) {
            self.replace(path, place, archive)?;
        }
        match entry.kind {
            Kind::File => self.file(entry, path, place, archive),
            Kind::Directory => {
                self.remember(path, entry)?;
                place.directory(entry, !was_directory, was_whiteout)
            }
            Kind::Symlink => place.symlink(entry),
            Kind::HardLink => self.hard_link(entry, place),
            Kind::Fifo => place.node(entry, FileType::Fifo),
            Kind::CharDevice => place.node(entry, FileType::CharacterDevice),
            Kind::BlockDevice => place.node(entry, FileType::BlockDevice),
        }
    }

    /// Takes away what an earlier entry made. What may be a file with content is only moved: see [`crate::frame`].
    fn replace<R>(&mut self, path: &Beneath, place: &Place, archive: &mut Archive<R>) -> io::Result<()>
    where
        R: Read,
    {
        let before = tree::stat(&*place.parent, &place.name)?;
        let kept =
            before.is_some_and(|stat| matches!(tree::file_type(&stat), FileType::RegularFile | FileType::Directory));
        self.tree.forget();
        match archive.tape().filter(|_| kept) {
            Some(tape) => tape.replace(path, place.parent.as_fd(), &place.name),
            None => self.tree.remove(&place.parent, &place.name),
        }
    }

    fn remember(&mut self, path: &Beneath, entry: &Entry) -> io::Result<()> {
        self.remembered += path.as_bytes().len();
        if self.remembered > REMEMBERED_MAX {
            let text = format!("the paths of the layer's directories have more than {} MiB", REMEMBERED_MAX >> 20);
            return Err(io::Error::other(ImageError::Content(text)));
        }
        self.times.insert(path.clone(), entry.modified);
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        path: &Beneath,
        place: &Place,
        archive: &mut Archive<R>,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*place.parent, place.name.as_slice(), flags, Mode::from_raw_mode(0o600))?;
        // An error of the sink is about our disk, one of the source about the archive: they must not be mixed up.
        let ours = |error: io::Error| io::Error::other(self.failed(path, error));
        if entry.size > self.limits.unpacked {
            return Err(io::Error::other(too_large(&self.limits)));
        }
        let mut end = 0;
        if let Some(tape) = archive.tape() {
            tape.file(path)?;
        }
        let copied = archive.copy(entry, |at, bytes| {
            end = write_with_holes(&file, at, bytes).map_err(&ours)?.max(end);
            Ok(())
        });
        copied.map_err(|error| io::Error::other(read_error(error)))?;
        if end < entry.size {
            rustix::fs::ftruncate(&file, entry.size).map_err(|e| ours(e.into()))?;
        }
        self.size += entry.size;
        dress(&file, entry)?;
        Ok(rustix::fs::futimens(&file, &times(entry.modified))?)
    }

    /// Links only to what is in this layer already, and never through a symlink at the end.
    fn hard_link(&mut self, entry: &Entry, place: &Place) -> io::Result<()> {
        let refuse = || io::Error::other(outside("hard link to", &entry.link));
        let target = Beneath::clean(&entry.link).ok_or_else(refuse)?;
        let (parent, name) = target.split().ok_or_else(refuse)?;
        let linked = self.tree.directory(&parent).and_then(|parent| {
            rustix::fs::linkat(parent, name, &*place.parent, place.name.as_slice(), AtFlags::empty())?;
            Ok(())
        });
        match linked {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(io::Error::other(ImageError::Content(format!(
                "hard link to {}, which is not in this layer",
                String::from_utf8_lossy(&entry.link)
            )))),
            other => other,
        }
    }

    /// What a layer below has is not here any more
    /// ([layer.md](https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md#whiteouts)).
    fn whiteout(&mut self, path: &Beneath, parent: &Beneath, hidden: &[u8]) -> Result<()> {
        let done = match hidden {
            b".wh..opq" => self.tree.make(parent).and_then(|directory| opaque(&directory)),
            // Other things of aufs (.wh..wh.plnk, .wh..wh.aufs) mean nothing outside it.
            hidden if hidden.starts_with(b".wh.") => Ok(()),
            b"" | b"." | b".." => return Err(outside("whiteout", path.as_bytes())),
            hidden => self.hide(parent, hidden),
        };
        done.map_err(|e| self.failed(path, e))
    }

    fn hide(&mut self, parent: &Beneath, hidden: &[u8]) -> io::Result<()> {
        let parent = self.tree.make(parent)?;
        match tree::stat(&*parent, hidden)? {
            None => Ok(rustix::fs::mknodat(&*parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)?),
            // A whiteout is about the layers below. What this layer has itself stays, and hides them already,
            // except that a directory would be merged with theirs.
            Some(stat) if tree::file_type(&stat) == FileType::Directory => {
                opaque(&tree::open_directory(&*parent, hidden)?)
            }
            Some(_) => Ok(()),
        }
    }

    fn finish(self) -> Result<(u64, bool)> {
        for (path, modified) in self.times.iter().rev() {
            let parent_and_name = path.split();
            let opened = match &parent_and_name {
                None => self.tree.directory(path),
                Some((parent, name)) => self.tree.directory(parent).and_then(|fd| tree::open_directory(fd, name)),
            };
            // It may have been replaced by something else since: then its times are those.
            if let Ok(directory) = opened {
                rustix::fs::futimens(&directory, &times(*modified)).map_err(|e| self.failed(path, e.into()))?;
            }
        }
        Ok((self.size, self.has_root))
    }

    fn failed(&self, path: &Beneath, error: io::Error) -> ImageError {
        use std::os::unix::ffi::OsStrExt;
        ImageError::file(self.root.join(std::ffi::OsStr::from_bytes(path.as_bytes())), error)
    }
}

impl Place {
    fn directory(&self, entry: &Entry, fresh: bool, hides_below: bool) -> io::Result<()> {
        if fresh {
            rustix::fs::mkdirat(&*self.parent, self.name.as_slice(), Mode::from_raw_mode(0o700))?;
        }
        let directory = tree::open_directory(&*self.parent, &self.name)?;
        if hides_below {
            opaque(&directory)?;
        }
        dress(&directory, entry)
    }

    fn symlink(&self, entry: &Entry) -> io::Result<()> {
        rustix::fs::symlinkat(entry.link.as_slice(), &*self.parent, self.name.as_slice())?;
        self.dress_unopened(entry)
    }

    /// Devices are left out, but 0/0, which answers nobody: no device control group holds a container to those of its
    /// own /dev, and what else is a device nobody misses. An archive of the image has them still.
    fn node(&self, entry: &Entry, kind: FileType) -> io::Result<()> {
        if kind != FileType::Fifo && entry.device != (0, 0) {
            let path = String::from_utf8_lossy(&entry.path);
            tracing::info!(%path, "a device of an image is left out");
            return Ok(());
        }
        rustix::fs::mknodat(&*self.parent, self.name.as_slice(), kind, Mode::from_raw_mode(0o600), 0)?;
        self.dress_unopened(entry)
    }

    /// Owner, permissions, attributes and times of what must not be opened (a device would answer) or cannot be.
    fn dress_unopened(&self, entry: &Entry) -> io::Result<()> {
        let (parent, name) = (&*self.parent, self.name.as_slice());
        let (uid, gid) = owner(entry);
        let owned = rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        as_far_as_mapped(owned, entry)?;
        if entry.kind != Kind::Symlink {
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        if !entry.xattrs.is_empty() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            attributes(&rustix::fs::openat(parent, name, flags, Mode::empty())?, entry)?;
        }
        Ok(rustix::fs::utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Owner, then permissions (a change of owner clears set-user-id), then attributes (it clears capabilities too).
fn dress(fd: &OwnedFd, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = owner(entry);
    as_far_as_mapped(rustix::fs::fchown(fd, Some(uid), Some(gid)), entry)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    attributes(fd, entry)
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

/// In a user namespace some ids are nobody's. Where there is one user only, everything belongs to him; where there
/// are some, an image that needs more is refused, for its files would be another's.
fn as_far_as_mapped(changed: rustix::io::Result<()>, entry: &Entry) -> io::Result<()> {
    match changed {
        Err(Errno::INVAL) if !userns::is_initial() => {
            if userns::mapped(&userns::uid_map()?) == 1 {
                return Ok(());
            }
            Err(io::Error::other(ImageError::Content(format!(
                "potentially insufficient UIDs or GIDs available in user namespace (requested {}:{} for /{}): \
                 check /etc/subuid and /etc/subgid",
                entry.uid,
                entry.gid,
                String::from_utf8_lossy(&entry.path).trim_start_matches(['.', '/']),
            ))))
        }
        changed => Ok(changed?),
    }
}

/// Extended attributes, as far as they may come from a stranger.
fn attributes(fd: &OwnedFd, entry: &Entry) -> io::Result<()> {
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_welcome(name)) {
        match tree::set_attribute(fd, name, value) {
            // The file system has none, or not on this kind of file: Podman goes on as well.
            Err(error) if error.raw_os_error() == Some(Errno::NOTSUP.raw_os_error()) => {
                tracing::warn!(attribute = %String::from_utf8_lossy(name), "the file system does not keep this attribute");
            }
            other => other?,
        }
    }
    Ok(())
}

/// `trusted.overlay.*`, `user.overlay.*` and fuse-overlayfs' own would tell them to look elsewhere (redirect, metacopy); labels
/// and integrity hashes belong to the host the image was made on.
pub(crate) fn is_welcome(name: &[u8]) -> bool {
    let of_overlays = [&b"user.overlay."[..], b"user.fuseoverlayfs."].iter().any(|begin| name.starts_with(begin));
    (name.starts_with(b"user.") && !of_overlays)
        || name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
}

fn opaque(directory: &OwnedFd) -> io::Result<()> {
    let name = if userns::is_initial() { mounts::OPAQUE } else { mounts::OPAQUE_FOR_USERS };
    tree::set_attribute(directory, name.as_bytes(), b"y")
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// The unit in which zeros become holes: a page, below which no file system has any.
const PAGE: usize = 4096;

/// Writes what is not zero; gives where the last written byte is.
fn write_with_holes(file: &OwnedFd, at: u64, bytes: &[u8]) -> io::Result<u64> {
    let is_hole = |page: &[u8]| page.len() == PAGE && page.iter().all(|b| *b == 0);
    let mut end = 0;
    let mut start = 0;
    while start < bytes.len() {
        let mut stop = start;
        let page = |from: usize| &bytes[from..bytes.len().min(from + PAGE)];
        while stop < bytes.len() && !is_hole(page(stop)) {
            stop += page(stop).len();
        }
        if stop > start {
            write_all(file, at + start as u64, &bytes[start..stop])?;
            end = at + stop as u64;
        }
        while stop < bytes.len() && is_hole(page(stop)) {
            stop += PAGE;
        }
        start = stop;
    }
    Ok(end)
}

fn write_all(file: &OwnedFd, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file.as_fd(), bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => (at, bytes) = (at + n as u64, &bytes[n..]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Counts the compressed bytes that were taken.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Stops a layer that grows without end.
struct Bounded<R> {
    inner: R,
    given: u64,
    taken: Arc<AtomicU64>,
    limits: Limits,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.given += n as u64;
        let Limits { unpacked, ratio, ratio_free, .. } = self.limits;
        if self.given > unpacked {
            return Err(io::Error::other(too_large(&self.limits)));
        }
        if self.given > ratio_free && self.given / ratio > self.taken.load(Ordering::Relaxed) {
            return Err(io::Error::other(ImageError::Content(format!(
                "the layer unpacks to more than {ratio} times its size; refused as a decompression bomb"
            ))));
        }
        Ok(n)
    }
}

fn too_large(limits: &Limits) -> ImageError {
    ImageError::Content(format!("the layer unpacks to more than {} MiB", limits.unpacked >> 20))
}

fn outside(what: &str, path: &[u8]) -> ImageError {
    ImageError::Content(format!("malformed layer: {what} {:?} leads outside", String::from_utf8_lossy(path)))
}

#[cfg(test)]
mod tests;
