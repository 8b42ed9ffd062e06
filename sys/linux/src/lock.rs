//! The host lock: one command at a time changes a network namespace.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};

use crate::NsId;

/// Held until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

/// Where root's locks are.
pub const DIRECTORY: &str = "/run/lock";

static DIRECTORY_IN_USE: OnceLock<PathBuf> = OnceLock::new();

/// Where this process has its locks: [`DIRECTORY`], unless [`use_directory`] has said otherwise.
pub fn directory() -> &'static Path {
    DIRECTORY_IN_USE.get().map_or(Path::new(DIRECTORY), PathBuf::as_path)
}

/// Has locks in `path`. For the start of a process; `AlreadyExists` when another directory has been chosen before.
pub fn use_directory(path: &Path) -> io::Result<()> {
    crate::netns::choose(&DIRECTORY_IN_USE, path)
}

/// The lock file for all who change the network namespace `namespace`, whatever their stores.
pub fn path(namespace: NsId) -> PathBuf {
    directory().join(format!("podwire-{}.lock", namespace.ino))
}

impl HostLock {
    /// Waits for the lock at `path`; makes the file, and its directory when missing.
    pub fn take(path: &Path) -> io::Result<Self> {
        loop {
            let file = open(path)?;
            rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
            if still_there(path, &file)? {
                return Ok(Self { _file: file });
            }
        }
    }

    /// Waits for the lock on a directory itself, which needs no file and leaves none.
    pub fn take_directory(path: &Path) -> io::Result<Self> {
        let directory = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))?;
        Ok(Self { _file: directory })
    }

    /// The lock at `path` unless somebody has it.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                done => done?,
            }
            if still_there(path, &file)? {
                return Ok(Some(Self { _file: file }));
            }
        }
    }
}

/// A share in a lock: who takes the lock itself with [`HostLock::take`] waits until nobody has a share. Held until
/// dropped, or until the process ends in whatever way, with all programs it was [passed on](Share::pass_on) to.
#[derive(Debug)]
pub struct Share(File);

impl Share {
    /// Waits while somebody has the lock at `path`; makes the file, and its directory when missing.
    pub fn take(path: &Path) -> io::Result<Self> {
        loop {
            let file = open(path)?;
            rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockShared))?;
            if still_there(path, &file)? {
                return Ok(Self(file));
            }
        }
    }

    /// The program that takes the place of this one has it too, and what that starts.
    pub fn pass_on(&self) -> io::Result<()> {
        Ok(rustix::io::fcntl_setfd(&self.0, rustix::io::FdFlags::empty())?)
    }
}

/// /run/lock is writable by all on Debian, so a file put there by another user is not locked on: its owner
/// could hold the lock for ever.
fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    let ours = || OpenOptions::new().write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).clone();
    for _ in 0..8 {
        match ours().create_new(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
        // O_CREAT is left out: with fs.protected_regular it fails on another user's file in such a directory.
        match ours().custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
            Ok(file) if is_ours(&file)? => return Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            _ => std::fs::remove_file(path)?,
        }
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("somebody keeps replacing {}", path.display())))
}

fn is_ours(file: &File) -> io::Result<bool> {
    let meta = file.metadata()?;
    Ok(meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw())
}

/// False when the file was removed or replaced while we waited: its lock then keeps nobody out.
fn still_there(path: &Path, file: &File) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let _guard = crate::testing::undisturbed();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/lock/podwire-1.lock");
        let held = HostLock::take(&path).unwrap();
        assert!(HostLock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(HostLock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_waits_for_all_who_share_it() {
        let _guard = crate::testing::undisturbed();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let (first, second) = (Share::take(&path).unwrap(), Share::take(&path).unwrap());
        drop(first);
        assert!(HostLock::try_take(&path).unwrap().is_none());
        drop(second);
        assert!(HostLock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn who_waits_on_a_removed_file_locks_the_new_one() {
        let _guard = crate::testing::undisturbed();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let first = HostLock::take(&path).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| HostLock::take(&path).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::fs::remove_file(&path).unwrap();
            drop(first);
            let _second = waiter.join().unwrap();
            assert!(HostLock::try_take(&path).unwrap().is_none());
        });
    }

    #[test]
    fn another_users_file_or_a_symbolic_link_is_replaced() {
        let _guard = crate::testing::undisturbed();
        crate::testing::needs_root!();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let foreign = File::create(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        flock(&foreign, FlockOperation::LockExclusive).unwrap();
        assert!(HostLock::try_take(&path).unwrap().is_some());

        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(HostLock::try_take(&path).unwrap().is_some());
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    }
}
