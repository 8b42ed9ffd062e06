//! User namespaces of containers: made with maps of their own, or found, and held open.
//!
//! ```text
//!   us ──fork──> a child: unshare(CLONE_NEWUSER) ── waits ── killed
//!    └─ /proc/CHILD/uid_map, gid_map written; /proc/CHILD/ns/user opened: the descriptor keeps the namespace
//! ```
//!
//! setns(2) into a user namespace is for processes with one thread, so what is to be made *in* one (a network
//! namespace that it owns) is made by such a child too.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::{IdMaps, IdRange, parse_map};
use crate::netns::{NetNs, unshare};

/// A user namespace below our own, held open: it exists as long as this does.
#[derive(Debug)]
pub struct UserNs {
    fd: OwnedFd,
    maps: IdMaps,
}

impl UserNs {
    /// A new one. `maps` are in terms of our own user namespace, whose root we are: no helper is needed for them.
    pub fn create(maps: IdMaps) -> io::Result<Self> {
        let child = Apart::start(|| unshare(UnshareFlags::NEWUSER))?;
        // Groups first: a process that has users may be meddled with by them.
        child.write("gid_map", &split(&maps.gids, &super::gid_map()?))?;
        child.write("uid_map", &split(&maps.uids, &super::uid_map()?))?;
        Ok(Self { fd: child.namespace("user")?, maps })
    }

    /// The one that a file of nsfs stands for, such as /proc/PID/ns/user; `InvalidInput` when it is another kind
    /// of namespace, or our own.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?.into())
    }

    /// The one that owns a network namespace; `None` when that is our own.
    pub fn owner_of(namespace: &NetNs) -> io::Result<Option<Self>> {
        let owner = owner(namespace.as_fd())?;
        let ours = File::open("/proc/thread-self/ns/user")?;
        let identity = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        if identity(owner.as_fd())? == identity(ours.as_fd())? {
            return Ok(None);
        }
        Self::of(owner).map(Some)
    }

    fn of(fd: OwnedFd) -> io::Result<Self> {
        let child = Apart::start(|| Ok(move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::User))?))?;
        let maps = IdMaps { uids: child.read("uid_map")?, gids: child.read("gid_map")? };
        drop(child);
        Ok(Self { fd, maps })
    }

    /// The same one, held once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, maps: self.maps.clone() })
    }

    /// Its ids, in terms of our own user namespace.
    pub fn maps(&self) -> &IdMaps {
        &self.maps
    }

    /// A file that stands for it, for whom we start, as long as this value lives.
    pub fn path(&self) -> std::path::PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()).into()
    }

    /// A child of ours in namespaces that are new and belong to this user namespace.
    pub(crate) fn with_new(&self, kinds: UnshareFlags) -> io::Result<Apart> {
        Apart::start(|| {
            move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::User))?;
            unshare(kinds)
        })
    }
}

impl AsFd for UserNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The same map in ranges each of which is in one of `ours`: the kernel takes no others (map_write() in
/// kernel/user_namespace.c).
fn split(map: &[IdRange], ours: &[IdRange]) -> Vec<IdRange> {
    let (mut pieces, mut pending) = (Vec::new(), map.iter().rev().copied().collect::<Vec<_>>());
    while let Some(range) = pending.pop() {
        let end = |r: &IdRange, of: u32| u64::from(of) + u64::from(r.count);
        let within = ours.iter().find(|r| r.inside <= range.outside && u64::from(range.outside) < end(r, r.inside));
        let room = within.map_or(u64::MAX, |r| end(r, r.inside) - u64::from(range.outside));
        let count = u32::try_from(room).map_or(range.count, |room| range.count.min(room));
        pieces.push(IdRange { count, ..range });
        if count < range.count {
            let (inside, outside) = (range.inside + count, range.outside + count);
            pending.push(IdRange { inside, outside, count: range.count - count });
        }
    }
    pieces
}

/// The user namespace that owns `namespace`.
fn owner(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `_IO(0xb7, 0x1)`, NS_GET_USERNS in include/uapi/linux/nsfs.h
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: NS_GET_USERNS takes no argument; the descriptor is open for the length of the call.
    match unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor, close-on-exec (open_related_ns() in fs/nsfs.c), and nobody's yet.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// A child of ours that waits in namespaces of its own, until this is dropped.
pub(crate) struct Apart {
    pid: Pid,
}

impl Apart {
    /// `enter` runs in the child, where only system calls are allowed: this process may have threads.
    fn start(enter: impl FnOnce() -> io::Result<()>) -> io::Result<Self> {
        let (mut told, mut tell) = io::pipe()?;
        // SAFETY: the child of a process with threads may make async-signal-safe calls only (fork(2)). `enter` is
        // setns and unshare, `wait_apart` writes, pauses and exits; neither allocates nor returns here.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => wait_apart(enter(), &mut tell),
            pid => {
                drop(tell);
                let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
                let child = Self { pid };
                let mut errno = [0; 4];
                told.read_exact(&mut errno)?;
                match i32::from_ne_bytes(errno) {
                    0 => Ok(child),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        format!("/proc/{}/{name}", self.pid.as_raw_pid()).into()
    }

    /// One write: the kernel takes a map once (user_namespaces(7)).
    fn write(&self, name: &str, map: &[IdRange]) -> io::Result<()> {
        let line = |range: &IdRange| format!("{} {} {}\n", range.inside, range.outside, range.count);
        std::fs::write(self.file(name), map.iter().map(line).collect::<String>())
    }

    fn read(&self, name: &str) -> io::Result<Vec<IdRange>> {
        Ok(parse_map(&std::fs::read_to_string(self.file(name))?))
    }

    /// The file of its namespace of this kind.
    pub(crate) fn namespace_file(&self, kind: &str) -> std::path::PathBuf {
        self.file(&format!("ns/{kind}"))
    }

    fn namespace(&self, kind: &str) -> io::Result<OwnedFd> {
        Ok(File::open(self.namespace_file(kind))?.into())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Ours until it is waited for, so the number is its own.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::empty()));
    }
}

/// The rest of the child's life: it says how it went, and waits to be killed, also by our own end.
fn wait_apart(entered: io::Result<()>, tell: &mut io::PipeWriter) -> ! {
    let mortal = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let errno =
        entered.and(mortal.map_err(io::Error::from)).map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0);
    let told = tell.write_all(&errno.to_ne_bytes());
    while errno == 0 && told.is_ok() {
        // SAFETY: pause takes nothing and may always be called.
        unsafe { libc::pause() };
    }
    // SAFETY: _exit ends the process without running anything of it.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alone, needs_root};

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    fn maps() -> IdMaps {
        IdMaps { uids: vec![range(0, 100_000, 10), range(10, 7, 1)], gids: vec![range(0, 200_000, 5)] }
    }

    #[test]
    fn a_new_namespace_has_the_ids_it_was_made_with() {
        needs_root!();
        alone(|| {
            let made = UserNs::create(maps()).unwrap();
            assert_eq!(UserNs::open(&made.path()).unwrap().maps(), &maps());
            let overlapping = IdMaps { uids: vec![range(0, 1, 5), range(4, 9, 1)], ..maps() };
            assert_eq!(UserNs::create(overlapping).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        });
    }

    #[test]
    fn a_network_namespace_belongs_to_the_user_namespace_it_was_made_in() {
        needs_root!();
        alone(|| {
            let made = UserNs::create(maps()).unwrap();
            let path = Path::new("/run/netns/podwire-0123456789ab");
            let network = NetNs::create_in(path, Some(&made)).unwrap();
            assert_eq!(UserNs::owner_of(&network).unwrap().unwrap().maps(), &maps());
            assert_eq!(NetNs::open(path).unwrap().inode().unwrap(), network.inode().unwrap());
            assert!(UserNs::owner_of(&NetNs::current().unwrap()).unwrap().is_none());
            crate::netns::remove(path).unwrap();
        });
    }

    #[test]
    fn a_range_that_crosses_ours_is_written_in_pieces() {
        let ours = [range(0, 1000, 1), range(1, 100_000, 65536)];
        assert_eq!(split(&[range(0, 0, 6)], &ours), [range(0, 0, 1), range(1, 1, 5)]);
        assert_eq!(split(&[range(0, 1, 6)], &ours), [range(0, 1, 6)]);
        assert_eq!(split(&[range(0, 0, u32::MAX)], &[range(0, 0, u32::MAX)]), [range(0, 0, u32::MAX)]);
    }

    #[test]
    fn another_kind_of_namespace_is_refused() {
        assert_eq!(UserNs::open(Path::new("/proc/self/ns/uts")).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
