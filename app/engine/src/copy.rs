//! Files in and out of containers: `cp`.
//!
//! ```text
//!   source: Tree + path ──pack──> tar stream ──unpack──> Tree + path: destination
//!           a directory, in which every path is looked up as its Way says
//! ```
//!
//! **How it works.** A running container's files are those its first process sees; one that is down is mounted in a
//! mount namespace of this thread, and is nobody else's meanwhile. Either way its root is a descriptor, and paths are
//! looked up below it by openat2(2): links are followed as in the container and lead nowhere else, whatever the
//! container does meanwhile.
//!
//! **Invariants.** What comes from a container is untrusted: below a destination on the host no link is followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use linux::{ProcessRef, mounts};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chmodat, chownat, fchmod,
    fchown, fstat, linkat, mkdirat, openat, openat2, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Builder, EntryType, Header};

use crate::engine::{Engine, Places, load, make_dir, save};
use crate::error::{Error, Kind, Result};
use crate::idmaps::outside;
use crate::record::{ContainerRecord, Fate, State};
use crate::users::Users;

/// A directory with a way of looking paths up in it.
pub struct Tree {
    root: OwnedFd,
    way: Way,
}

/// How links are followed on the way to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As by a process whose root directory it is.
    Container,
    /// As by anybody: of the host's own user, before anything came from a container.
    Host,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whose they were.
    Same,
    /// This user and group.
    These(u32, u32),
}

/// How a stream of files is written.
#[derive(Debug, Clone, Copy)]
pub struct Unpacking {
    /// Whose they become.
    pub owner: Owner,
    /// May a directory take the place of something else, and the other way round?
    pub overwrite: bool,
}

impl Tree {
    /// The host's own files.
    pub fn host() -> io::Result<Self> {
        Ok(Self { root: File::open("/")?.into(), way: Way::Host })
    }

    pub(crate) fn container(root: File) -> Self {
        Self { root: root.into(), way: Way::Container }
    }

    /// Opens what `path` leads to.
    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        match self.way {
            Way::Container => {
                retry(|| openat2(&self.root, inner(path), flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT))
            }
            Way::Host => Ok(openat(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty())?),
        }
    }

    /// What a path leads to, links followed.
    pub fn find(&self, path: &Path) -> io::Result<Found> {
        match self.open(path, OFlags::PATH) {
            Ok(fd) => Ok(match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
                FileType::Directory => Found::Directory,
                _ => Found::File,
            }),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Found::Nothing),
            Err(e) => Err(e),
        }
    }

    /// Writes what `path` leads to as a tar stream: a directory with all below it, each name beginning with `name`.
    /// An empty `name` leaves the directory's own entry out.
    pub fn pack(&self, path: &Path, name: &Path, out: impl Write) -> io::Result<()> {
        let mut archive = Builder::new(out);
        let fd = self.open(path, OFlags::PATH)?;
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            if !name.as_os_str().is_empty() {
                archive.append_data(&mut header(&stat, EntryType::Directory), with_slash(name), io::empty())?;
            }
            pack_directory(&mut archive, directory.as_fd(), name, 0)?;
        } else {
            let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
            pack_file(&mut archive, File::from(file), &stat, name)?;
        }
        archive.into_inner()?.flush()
    }

    /// Writes the files of a tar stream below `path`, which is a directory that is there.
    pub fn unpack(&self, path: &Path, from: impl Read, how: Unpacking) -> io::Result<()> {
        let top = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let target = match self.way {
            // Links that are there already are followed as the container follows them.
            Way::Container => Target { root: self.root.as_fd(), below: inner(path).to_owned(), resolve: IN_ROOT },
            Way::Host => Target { root: top.as_fd(), below: PathBuf::from("."), resolve: BELOW },
        };
        for entry in Archive::new(from).entries()? {
            target.put(&mut entry?, how)?;
        }
        Ok(())
    }

    /// Replaces the content of the file that `path` leads to by the only file of a tar stream.
    pub fn overwrite(&self, path: &Path, from: impl Read, how: Unpacking) -> io::Result<()> {
        let mut archive = Archive::new(from);
        let mut entry = archive.entries()?.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        if !entry.header().entry_type().is_file() {
            return Err(io::Error::other("cannot copy a directory to a file"));
        }
        let mut file = File::from(self.open(path, OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("the destination is neither a file nor a directory"));
        }
        io::copy(&mut entry, &mut file)?;
        let (uid, gid) = owner(how.owner, entry.header())?;
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        Ok(fchmod(&file, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?)
    }
}

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// Nothing above, and no link that something from outside could have put there.
const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// openat2(2) gives up when something is renamed meanwhile.
fn retry(mut open: impl FnMut() -> rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    for _ in 0..64 {
        match open() {
            Err(Errno::AGAIN) => {}
            done => return Ok(done?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// A path in a container is below its root, with or without the first slash.
fn inner(path: &Path) -> &Path {
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() { Path::new(".") } else { relative }
}

/// Deeper trees exist to harm.
const DEEPEST: u32 = 1024;

fn pack_directory(
    archive: &mut Builder<impl Write>,
    directory: BorrowedFd<'_>,
    name: &Path,
    depth: u32,
) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!("{}: directories are nested too deeply", name.display())));
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    for file in names {
        let below = name.join(OsStr::from_bytes(file.to_bytes()));
        // What is gone meanwhile is left out.
        let Ok(stat) = statat(directory, &file, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inner = openat(directory, &file, flags | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
                archive.append_data(&mut header(&stat, EntryType::Directory), with_slash(&below), io::empty())?;
                pack_directory(archive, inner.as_fd(), &below, depth + 1)?;
            }
            FileType::Symlink => {
                let target = readlinkat(directory, &file, Vec::new())?;
                let target = OsStr::from_bytes(target.to_bytes());
                archive.append_link(&mut header(&stat, EntryType::Symlink), &below, target)?;
            }
            FileType::RegularFile => {
                let file = openat(directory, &file, flags | OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
                pack_file(archive, File::from(file), &stat, &below)?;
            }
            kind => pack_special(archive, kind, &stat, &below)?,
        }
    }
    Ok(())
}

/// As tar(1) names directories.
fn with_slash(name: &Path) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push("/");
    PathBuf::from(name)
}

fn pack_file(archive: &mut Builder<impl Write>, file: File, stat: &rustix::fs::Stat, name: &Path) -> io::Result<()> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile {
        return pack_special(archive, kind, stat, name);
    }
    let mut header = header(stat, EntryType::Regular);
    let size = file.metadata()?.len();
    header.set_size(size);
    // A file that grows or shrinks meanwhile is what it was at first, with zeros where it is no more.
    archive.append_data(&mut header, name, file.chain(io::repeat(0)).take(size))
}

fn pack_special(
    archive: &mut Builder<impl Write>,
    kind: FileType,
    stat: &rustix::fs::Stat,
    name: &Path,
) -> io::Result<()> {
    let entry = match kind {
        FileType::Fifo => EntryType::Fifo,
        FileType::CharacterDevice => EntryType::Char,
        FileType::BlockDevice => EntryType::Block,
        // Sockets mean nothing to anybody else.
        _ => return Ok(()),
    };
    let mut header = header(stat, entry);
    header.set_device_major(rustix::fs::major(stat.st_rdev))?;
    header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
    archive.append_data(&mut header, name, io::empty())
}

fn header(stat: &rustix::fs::Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    header
}

/// Where a stream's files go.
struct Target<'a> {
    root: BorrowedFd<'a>,
    below: PathBuf,
    resolve: ResolveFlags,
}

impl Target<'_> {
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        retry(|| openat2(self.root, self.below.join(path), flags, Mode::empty(), self.resolve))
    }

    /// As [`Target::directory`], with those made that are missing.
    fn made_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.directory(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(e) };
                match mkdirat(self.made_directory(parent)?, name, Mode::from_raw_mode(0o755)) {
                    Err(Errno::EXIST) | Ok(()) => self.directory(path),
                    Err(e) => Err(e.into()),
                }
            }
            done => done,
        }
    }

    fn put(&self, entry: &mut tar::Entry<'_, impl Read>, how: Unpacking) -> io::Result<()> {
        let path = relative(&entry.path()?)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return Ok(()); // the top itself
        };
        let parent = self.made_directory(path.parent().unwrap_or(Path::new("")))?;
        let there =
            statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| FileType::from_raw_mode(stat.st_mode));
        self.make_room(&parent, &name, there, kind, how, &path)?;
        let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        self.make(entry, &parent, &name, kind).map_err(at)?;
        if kind != EntryType::Link {
            attributes(entry.header(), &parent, &name, kind, how).map_err(at)?;
        }
        Ok(())
    }

    /// What is in the way goes, unless it is a directory in the way of something else.
    fn make_room(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        there: Option<FileType>,
        kind: EntryType,
        how: Unpacking,
        path: &Path,
    ) -> io::Result<()> {
        match (there, kind) {
            (None, _) => Ok(()),
            (Some(FileType::Directory), EntryType::Directory) => Ok(()),
            (Some(FileType::Directory), _) if how.overwrite => remove_tree(parent.as_fd(), name, 0),
            (Some(FileType::Directory), _) => {
                Err(io::Error::other(format!("cannot overwrite directory {} with non-directory", path.display())))
            }
            // A link to a directory stays one: what is in the stream goes where it leads.
            (Some(FileType::Symlink), EntryType::Directory) if self.directory(path).is_ok() => Ok(()),
            (Some(_), EntryType::Directory) if !how.overwrite => {
                Err(io::Error::other(format!("cannot overwrite non-directory {} with directory", path.display())))
            }
            (Some(_), _) => Ok(unlinkat(parent, name, AtFlags::empty())?),
        }
    }

    fn make(
        &self,
        entry: &mut tar::Entry<'_, impl Read>,
        parent: &OwnedFd,
        name: &OsStr,
        kind: EntryType,
    ) -> io::Result<()> {
        match kind {
            EntryType::Directory => match mkdirat(parent, name, Mode::RWXU) {
                Err(Errno::EXIST) | Ok(()) => Ok(()),
                Err(e) => Err(e.into()),
            },
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
                Ok(symlinkat(target.as_os_str(), parent, name)?)
            }
            EntryType::Link => {
                let target = relative(&entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?)?;
                let theirs = self.directory(target.parent().unwrap_or(Path::new("")))?;
                let file = target.file_name().ok_or(io::ErrorKind::InvalidData)?;
                Ok(linkat(theirs, file, parent, name, AtFlags::empty())?)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let header = entry.header();
                let file = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(
                    header.device_major()?.unwrap_or_default(),
                    header.device_minor()?.unwrap_or_default(),
                );
                // Devices of the host are no business of a container's, nor the other way round.
                if file != FileType::Fifo {
                    return Err(io::Error::other("is a device, which is not copied"));
                }
                Ok(rustix::fs::mknodat(parent, name, file, Mode::RUSR | Mode::WUSR, device)?)
            }
            _ => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(entry, &mut file).map(drop)
            }
        }
    }
}

fn attributes(header: &Header, parent: &OwnedFd, name: &OsStr, kind: EntryType, how: Unpacking) -> io::Result<()> {
    // A link to a directory that was there keeps what it has.
    let link = kind == EntryType::Symlink;
    let there = FileType::from_raw_mode(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    if !link && there == FileType::Symlink {
        return Ok(());
    }
    let (uid, gid) = owner(how.owner, header)?;
    chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
    if !link {
        chmodat(parent, name, Mode::from_raw_mode(header.mode()? & 0o7777), AtFlags::empty())?;
    }
    let time = Timespec { tv_sec: i64::try_from(header.mtime()?).unwrap_or_default(), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn owner(owner: Owner, header: &Header) -> io::Result<(u32, u32)> {
    let id = |id: u64| u32::try_from(id).map_err(io::Error::other);
    match owner {
        Owner::Same => Ok((id(header.uid()?)?, id(header.gid()?)?)),
        Owner::These(uid, gid) => Ok((uid, gid)),
    }
}

/// Without `/` and `.`; `..` is refused.
fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other(format!("{}: leads out of the directory", path.display())));
            }
        }
    }
    Ok(clean)
}

fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr, depth: u32) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let below = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if below == "." || below == ".." {
            continue;
        }
        let stat = statat(&directory, &below, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => remove_tree(directory.as_fd(), &below, depth + 1)?,
            _ => unlinkat(&directory, &below, AtFlags::empty())?,
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

impl Engine {
    /// Works on the files of a container, whether it runs or not; `work` is given them and whose they are to be: the
    /// user's and group's that its first process has.
    pub fn with_files<T: Send>(
        &mut self,
        name: &str,
        work: impl FnOnce(&Tree, (u32, u32)) -> Result<T> + Send,
    ) -> Result<T> {
        let record = self.named(name)?;
        self.wait_settled(&record.id)?;
        let record = self.record(&record.id)?;
        if record.state == State::Running
            && let Some(init) = record.init
        {
            let root =
                File::open(format!("/proc/{}/root", init.pid)).map_err(|e| Error::at("the container's files", e))?;
            // The number may have been given to somebody else before we opened it; not if it lives on now.
            if init.alive() {
                return work_on(&record, root, work);
            }
        }
        self.with_mounted_files(&record, work)
    }

    /// A file without a name, for a stream that cannot be read while it is written.
    pub fn spool(&self) -> Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let made = openat(rustix::fs::CWD, &self.options().tmpdir, flags, Mode::RUSR | Mode::WUSR);
        made.map(File::from).map_err(|e| Error::at(self.options().tmpdir.display(), e))
    }

    /// Of one that is down: mounted for a thread of ours, and nobody starts or removes it meanwhile.
    fn with_mounted_files<T: Send>(
        &mut self,
        record: &ContainerRecord,
        work: impl FnOnce(&Tree, (u32, u32)) -> Result<T> + Send,
    ) -> Result<T> {
        let places = self.places(&record.id);
        let layers = self.layers_below(record)?;
        let before = self.borrow(record)?;
        let rootless = self.options().rootless;
        let done = std::thread::scope(|scope| {
            let run = || {
                mounts::enter_private_namespace().map_err(|e| Error::at("cannot make a mount namespace", e))?;
                let root = mount(record, &places, &layers, rootless)?;
                work_on(record, root, work)
            };
            let thread = std::thread::Builder::new().spawn_scoped(scope, run).map_err(Error::usage)?;
            thread.join().unwrap_or_else(|_| Err(Error::usage("the files of a container cannot be worked on: a bug")))
        });
        self.give_back(record, before)?;
        done
    }

    /// Makes this process the owner of a container at rest; its state until then.
    pub(crate) fn borrow(&self, record: &ContainerRecord) -> Result<State> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        self.store.write(|tx| {
            let found = load(tx, &record.id)?.filter(|record| record.state.at_rest());
            let Some(mut record) = found else {
                let text = format!("container {} is being started or removed: container state improper", record.id);
                return Err(Error::new(Kind::WrongState, text));
            };
            let before = record.state;
            record.fate = Some(Fate::Return(before));
            record.state = State::Starting;
            record.owner = Some(me);
            save(tx, &record)?;
            Ok(before)
        })
    }

    pub(crate) fn give_back(&self, record: &ContainerRecord, before: State) -> Result<()> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        self.store.write(|tx| {
            let Some(mut record) = load(tx, &record.id)?.filter(|record| record.owner == Some(me)) else {
                return Ok(());
            };
            record.fate = None;
            record.state = before;
            record.owner = None;
            save(tx, &record)
        })
    }
}

fn work_on<T>(record: &ContainerRecord, root: File, work: impl FnOnce(&Tree, (u32, u32)) -> Result<T>) -> Result<T> {
    // Somebody who is not in the image's files owns nothing there: root does.
    let user = crate::user::resolve(&record.settings.user, &root).map_or((0, 0), |user| (user.uid, user.gid));
    let user = match &record.settings.users {
        // As they are on disk.
        Some(Users::Own { maps, .. }) => {
            (outside(&maps.uids, user.0).unwrap_or(user.0), outside(&maps.gids, user.1).unwrap_or(user.1))
        }
        _ => user,
    };
    work(&Tree::container(root), user)
}

/// Mounts a container's layers and volumes where this thread alone sees them.
fn mount(record: &ContainerRecord, places: &Places, layers: &[PathBuf], rootless: bool) -> Result<File> {
    for directory in [places.upper(), places.work(), places.merged()] {
        make_dir(&directory)?;
    }
    let merged = places.merged();
    crate::monitor::mount_root(record, places, layers, &merged, rootless)?;
    let root = File::open(&merged).map_err(|e| Error::at(merged.display(), e))?;
    let tree = Target { root: root.as_fd(), below: PathBuf::from("."), resolve: IN_ROOT };
    for volume in &record.settings.mounts {
        let place = inner(Path::new(&volume.target));
        if !volume.source.is_dir() {
            continue;
        }
        let wrong = |e: io::Error| Error::at(format!("cannot mount the volume at {}", volume.target), e);
        let place = tree.made_directory(place).map_err(wrong)?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
        let access = if volume.read_only() { mounts::Access::ReadOnly } else { mounts::Access::ReadWrite };
        mounts::bind(&volume.source, &place, mounts::Depth::All, access).map_err(wrong)?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const SAME: Unpacking = Unpacking { owner: Owner::Same, overwrite: false };

    fn tree(path: &Path, way: Way) -> Tree {
        Tree { root: File::open(path).unwrap().into(), way }
    }

    fn stream(make: impl FnOnce(&mut Builder<&mut Vec<u8>>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut builder = Builder::new(&mut bytes);
        make(&mut builder);
        builder.finish().unwrap();
        drop(builder);
        bytes
    }

    fn add(builder: &mut Builder<&mut Vec<u8>>, kind: EntryType, path: &str, content: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(0);
        // By hand, for the crate refuses to write what is wrong.
        let name = header.as_gnu_mut().unwrap();
        name.name[..path.len()].copy_from_slice(path.as_bytes());
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            name.linkname[..content.len()].copy_from_slice(content.as_bytes());
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_was_packed_is_unpacked_the_same() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("a/b")).unwrap();
        std::fs::write(from.path().join("a/b/file"), "text").unwrap();
        symlink("/etc/passwd", from.path().join("a/link")).unwrap();
        let mut bytes = Vec::new();
        tree(from.path(), Way::Container).pack(Path::new("/a"), Path::new("copy"), &mut bytes).unwrap();
        tree(to.path(), Way::Container).unpack(Path::new("/"), &bytes[..], SAME).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("copy/b/file")).unwrap(), "text");
        assert_eq!(std::fs::read_link(to.path().join("copy/link")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn links_of_a_container_lead_nowhere_else() {
        let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        symlink(outside.path(), inside.path().join("out")).unwrap();
        symlink("../../../../../../../..", inside.path().join("up")).unwrap();
        let container = tree(inside.path(), Way::Container);
        assert_eq!(container.find(&Path::new("/out").join("secret")).unwrap(), Found::Nothing);
        let up = Path::new("/up").join(outside.path().strip_prefix("/").unwrap());
        assert_eq!(container.find(&up).unwrap(), Found::Nothing);
        let bytes = stream(|builder| add(builder, EntryType::Regular, "out/new", "x"));
        let _ = container.unpack(Path::new("/"), &bytes[..], SAME);
        assert!(!outside.path().join("new").exists());
    }

    #[test]
    fn a_stream_from_a_container_writes_below_its_destination_alone() {
        let (outside, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = |bytes: &[u8]| Tree::host().unwrap().unpack(to.path(), bytes, SAME);
        let through = stream(|builder| {
            add(builder, EntryType::Symlink, "link", outside.path().to_str().unwrap());
            add(builder, EntryType::Regular, "link/file", "x");
        });
        assert!(host(&through).is_err());
        assert!(host(&stream(|builder| add(builder, EntryType::Regular, "../file", "x"))).is_err());
        assert!(host(&stream(|builder| add(builder, EntryType::Link, "hard", "../../etc/passwd"))).is_err());
        assert!(host(&stream(|builder| add(builder, EntryType::Char, "device", ""))).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        host(&stream(|builder| add(builder, EntryType::Regular, "/abs", "x"))).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("abs")).unwrap(), "x");
    }
}
