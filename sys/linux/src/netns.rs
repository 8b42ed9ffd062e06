//! Network namespaces and the files that keep them.
//!
//! ```text
//!   /run/netns/NAME   an empty file, and on it a bind mount of /proc/thread-self/ns/net (nsfs):
//!                     the mount keeps the namespace; `ip netns exec NAME` finds it there
//! ```
//!
//! `ip netns add` also mounts /run/netns on itself, shared, so that other mount namespaces see the new
//! file. That is not done here: it would outlive the last container, and nothing of ours needs it, for the
//! kernel detaches a mount everywhere when the file below it is unlinked (`detach_mounts` in fs/namei.c).
//!
//! Who runs as an ordinary user has the files in a [`directory`] of his own. He can enter a namespace of his own
//! user namespace, but none but the host's root can go (back) to the host's: see [`leave_home`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::abort;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::userns::UserNs;

/// Where `ip netns` looks for namespaces.
pub const DIRECTORY: &str = "/run/netns";

static DIRECTORY_IN_USE: OnceLock<PathBuf> = OnceLock::new();

/// Where this process has the files of its namespaces: [`DIRECTORY`], unless [`use_directory`] has said otherwise.
pub fn directory() -> &'static Path {
    DIRECTORY_IN_USE.get().map_or(Path::new(DIRECTORY), PathBuf::as_path)
}

/// Has the files of namespaces in `path`. For the start of a process; `AlreadyExists` when another directory has
/// been chosen before.
pub fn use_directory(path: &Path) -> io::Result<()> {
    choose(&DIRECTORY_IN_USE, path)
}

/// Sets what is set once in a process's life.
pub(crate) fn choose(setting: &OnceLock<PathBuf>, path: &Path) -> io::Result<()> {
    let chosen = setting.get_or_init(|| path.to_owned());
    if chosen == path {
        return Ok(());
    }
    let text = format!("{} is in use already, so {} cannot be", chosen.display(), path.display());
    Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
}

/// A network namespace, held open: it exists as long as this does.
#[derive(Debug)]
pub struct NetNs(OwnedFd);

/// What tells namespaces apart: device and inode of their nsfs file. Unique among the living.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NsId {
    /// Device of nsfs.
    pub dev: u64,
    /// Inode; the number in `net:[4026531840]`.
    pub ino: u64,
}

impl NetNs {
    /// The calling thread's.
    pub fn current() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
    }

    /// A new namespace, kept by a file made at `path`; its directory is made when missing. `lo` is down.
    ///
    /// An empty file that is there already is taken over, for a command killed half-way leaves one; a
    /// file that keeps a namespace is `AlreadyExists`. Leaves nothing when it fails.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::create_in(path, None)
    }

    /// As [`NetNs::create`]; the namespace belongs to `owner` if one is given, whose root may then administer it.
    pub fn create_in(path: &Path, owner: Option<&UserNs>) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        // For reading: nsfs refuses to be opened for writing.
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o444))?);
        if is_nsfs(&file)? || file.metadata()?.len() > 0 {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", path.display())));
        }
        let made = match owner {
            None => on_fresh_thread(|| {
                unshare(UnshareFlags::NEWNET)?;
                let namespace = Self::current()?;
                mount_bind("/proc/thread-self/ns/net", path)?;
                Ok(namespace)
            }),
            Some(owner) => owner.with_new(UnshareFlags::NEWNET).and_then(|child| {
                let file = child.namespace_file("net");
                let namespace = Self(File::open(&file)?.into());
                mount_bind(&file, path)?;
                Ok(namespace)
            }),
        };
        if made.is_err() {
            // The error that matters is the first one.
            let _ = std::fs::remove_file(path);
        }
        made
    }

    /// The namespace kept by the file at `path`; `InvalidInput` when it keeps none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if is_nsfs(&file)? && namespace_type(&file)? == libc::CLONE_NEWNET {
            return Ok(Self(file.into()));
        }
        let what = format!("{} is not a network namespace", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    }

    /// What tells it apart from others.
    pub fn inode(&self) -> io::Result<NsId> {
        let stat = rustix::fs::fstat(&self.0)?;
        Ok(NsId { dev: stat.st_dev, ino: stat.st_ino })
    }

    /// Runs `f` with the calling thread in this namespace. Threads started by `f` stay in it.
    ///
    /// Ends the process when the way back is barred: going on in the wrong namespace would let the next
    /// change hit somebody else's links.
    pub fn within<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        struct Back(NetNs);
        impl Drop for Back {
            fn drop(&mut self) {
                if self.0.enter().is_err() {
                    abort();
                }
            }
        }
        let back = Back(Self::current()?);
        self.enter()?;
        let done = f();
        drop(back);
        Ok(done)
    }

    /// Moves the calling thread into it for good.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl NetNs {
    /// Holds the namespace open once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// A namespace that somebody has handed over; `InvalidInput` when it is something else.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        match is_nsfs(&file)? && namespace_type(&file)? == libc::CLONE_NEWNET {
            true => Ok(Self(file.into())),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a network namespace")),
        }
    }
}

impl From<NetNs> for OwnedFd {
    fn from(namespace: NetNs) -> Self {
        namespace.0
    }
}

/// The network namespace in which this process began, when it has been left for good.
static HOME: OnceLock<Mutex<mpsc::Sender<Errand>>> = OnceLock::new();

/// What is to be done at home, and who waits for it.
struct Errand {
    work: Box<dyn FnOnce() + Send>,
    done: mpsc::Sender<()>,
}

/// Moves the calling thread into `namespace` for good, with all threads and programs that it starts from now on.
/// A thread that stays behind does what is given to [`Home::run`].
///
/// For the main thread of an ordinary user's process while it has no other threads (they would stay behind too):
/// setns(2) back into the host's network namespace takes privileges over the host, so [`NetNs::within`] would
/// abort there. Doing it again with the same namespace does nothing; `AlreadyExists` with another one.
pub fn leave_home(namespace: &NetNs) -> io::Result<()> {
    if HOME.get().is_some() {
        return match NetNs::current()?.inode()? == namespace.inode()? {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::AlreadyExists, "home has been left for another namespace")),
        };
    }
    let (errands, received) = mpsc::channel::<Errand>();
    std::thread::Builder::new().name("home".to_owned()).spawn(move || {
        for Errand { work, done } in received {
            work();
            // Whoever waits is there: it waits without end.
            let _ = done.send(());
        }
    })?;
    // On failure the thread ends with `errands`.
    namespace.enter()?;
    let _ = HOME.set(Mutex::new(errands));
    Ok(())
}

/// The network namespace in which this process began.
pub fn home() -> Home {
    Home(())
}

/// Where the upstream sockets of an ordinary user's processes are opened, and where containers without a network
/// stack of their own are started. See [`leave_home`].
#[derive(Debug, Clone, Copy)]
pub struct Home(());

impl Home {
    /// Has this process been moved away?
    pub fn is_left(self) -> bool {
        HOME.get().is_some()
    }

    /// Runs `f` there and waits for it: on the calling thread when home has not been left, else on the thread
    /// that stays there, one at a time. Sockets it opens belong there wherever they are used; programs it starts
    /// run there, and outlive it. A panic of `f` goes on here. `f` must not call this again.
    pub fn run<T: Send>(self, f: impl FnOnce() -> T + Send) -> T {
        let Some(errands) = HOME.get() else { return f() };
        let mut result = None;
        let (done, wait) = mpsc::channel();
        let slot = &mut result;
        let work: Box<dyn FnOnce() + Send + '_> = Box::new(move || *slot = Some(catch_unwind(AssertUnwindSafe(f))));
        // SAFETY: only the lifetime of what `f` borrows changes. `work` is called, and so used up, before `done`
        // is sent, or dropped with the channel, and until then we wait below: nothing borrowed goes out of scope.
        let work = unsafe { std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Box<dyn FnOnce() + Send>>(work) };
        let sent = errands.lock().unwrap_or_else(PoisonError::into_inner).send(Errand { work, done });
        if sent.is_err() || wait.recv().is_err() {
            // The thread ends with the process and catches every panic.
            abort();
        }
        match result {
            Some(Ok(value)) => value,
            Some(Err(panic)) => resume_unwind(panic),
            None => abort(),
        }
    }

    /// It, held open. It cannot be entered by an ordinary user's process that has left it.
    pub fn namespace(self) -> io::Result<NetNs> {
        self.run(NetNs::current)
    }
}

/// Shows the namespace of a process at `path`, when no namespace is to be seen there: each `ip netns exec` has
/// a mount namespace of its own, in which only the empty file is left of what another one mounted.
pub fn show(path: &Path, process: &crate::ProcessRef) -> io::Result<()> {
    if NetNs::open(path).is_ok() {
        return Ok(());
    }
    let theirs = format!("/proc/{}/ns/net", process.pid);
    // Opened before the process is known to be the one that is meant: its number cannot have been given away since.
    let namespace = NetNs::open(Path::new(&theirs))?;
    if !process.alive() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended"));
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o444)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    Ok(mount_bind(format!("/proc/self/fd/{}", namespace.0.as_raw_fd()), path)?)
}

/// Takes away the file at `path` and with it the hold on its namespace, which goes when nobody else
/// holds it. Nothing there is not an error. Works from any mount namespace that shows the file.
pub fn remove(path: &Path) -> io::Result<()> {
    detach(path)?;
    match std::fs::remove_file(path) {
        // A mount on the file is still there, hidden: somebody mounted the directory on itself later
        // (`ip netns add` does) without sharing. In a mount namespace of our own we may lift that cover.
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => on_fresh_thread(|| uncover_and_unlink(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Unmounts whatever is mounted on `path`; nothing is not an error.
fn detach(path: &Path) -> io::Result<()> {
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

fn uncover_and_unlink(path: &Path) -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    while unmount(directory, UnmountFlags::DETACH).is_ok() {
        detach(path)?;
        match std::fs::remove_file(path) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            done => return done,
        }
    }
    std::fs::remove_file(path)
}

fn is_nsfs(file: &File) -> io::Result<bool> {
    /// NSFS_MAGIC in include/uapi/linux/magic.h
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    Ok(rustix::fs::fstatfs(file)?.f_type as u64 == NSFS_MAGIC)
}

/// The `CLONE_NEW…` constant of a file in nsfs.
fn namespace_type(file: &File) -> io::Result<i32> {
    /// `_IO(0xb7, 0x3)`, NS_GET_NSTYPE in include/uapi/linux/nsfs.h
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument and returns the type as the call's result; the descriptor is
    // open for the length of the call, and `is_nsfs` has shown that it belongs to nsfs.
    match unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) } {
        -1 => Err(io::Error::last_os_error()),
        kind => Ok(kind),
    }
}

/// Moves the calling thread into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: unsafe only for CLONE_FILES, by which threads would lose sight of descriptors; no caller
    // in this crate passes it.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Runs `f` on a thread that ends afterwards, so that what it unshares touches nobody else.
pub(crate) fn on_fresh_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, f)?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Device and inode of the namespace kept at `path`, without opening it.
pub fn inode_at(path: &Path) -> io::Result<NsId> {
    let meta = std::fs::metadata(path)?;
    Ok(NsId { dev: meta.dev(), ino: meta.ino() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alone, needs_root};

    #[test]
    fn a_created_namespace_is_found_by_its_file_and_gone_after_removal() {
        needs_root!();
        alone(|| {
            let path = Path::new("/run/netns/podwire-0123456789ab");
            let made = NetNs::create(path).unwrap();
            assert_eq!(NetNs::open(path).unwrap().inode().unwrap(), made.inode().unwrap());
            assert_ne!(NetNs::current().unwrap().inode().unwrap(), made.inode().unwrap());
            assert_eq!(NetNs::create(path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            remove(path).unwrap();
            assert!(!path.exists());
            remove(path).unwrap();
        });
    }

    #[test]
    fn a_file_left_by_a_killed_command_is_no_namespace_and_is_taken_over() {
        needs_root!();
        alone(|| {
            let path = Path::new("/run/netns/podwire-0123456789ab");
            std::fs::create_dir_all("/run/netns").unwrap();
            std::fs::write(path, "").unwrap();
            assert_eq!(NetNs::open(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            NetNs::create(path).unwrap();
            assert!(NetNs::open(path).is_ok());
            remove(path).unwrap();
        });
    }

    #[test]
    fn a_namespace_of_another_kind_is_refused() {
        let e = NetNs::open(Path::new("/proc/self/ns/uts")).unwrap_err();
        assert_eq!(e.to_string(), "/proc/self/ns/uts is not a network namespace");
        assert!(NetNs::open(Path::new("/proc/self/ns/net")).is_ok());
    }

    #[test]
    fn a_thread_comes_back_even_from_a_panic() {
        needs_root!();
        alone(|| {
            let home = NetNs::current().unwrap().inode().unwrap();
            let other = NetNs::create(Path::new("/run/netns/other")).unwrap();
            let inside = other.within(|| NetNs::current().unwrap().inode().unwrap()).unwrap();
            assert_eq!(inside, other.inode().unwrap());
            let panicked = catch_unwind(|| other.within(|| resume_unwind(Box::new(()))));
            assert!(panicked.is_err());
            assert_eq!(NetNs::current().unwrap().inode().unwrap(), home);
        });
    }

    #[test]
    fn removal_works_below_a_later_mount_of_the_directory_on_itself() {
        needs_root!();
        alone(|| {
            let path = Path::new("/run/netns/podwire-0123456789ab");
            NetNs::create(path).unwrap();
            // What `ip netns add` does, here with private propagation.
            rustix::mount::mount_bind_recursive("/run/netns", "/run/netns").unwrap();
            remove(path).unwrap();
            assert!(!path.exists());
            unmount("/run/netns", UnmountFlags::DETACH).unwrap();
            assert!(!path.exists());
        });
    }

    #[test]
    fn another_directory_is_chosen_once() {
        let setting = OnceLock::new();
        choose(&setting, Path::new("/run/user/1000/podwire/netns")).unwrap();
        choose(&setting, Path::new("/run/user/1000/podwire/netns")).unwrap();
        let refused = choose(&setting, Path::new("/tmp/netns")).unwrap_err();
        assert_eq!(refused.to_string(), "/run/user/1000/podwire/netns is in use already, so /tmp/netns cannot be");
        // Of this process nobody has chosen one.
        assert_eq!(directory(), Path::new(DIRECTORY));
    }

    /// What it is called with says that this process is the test's own.
    const LEAVER: &str = "netns::tests::who_left_home_runs_errands_there";

    #[test]
    fn who_left_home_runs_errands_there() {
        needs_root!();
        // Home is left by a whole process, and for ever: another one is started for that.
        if std::env::var_os("PODWIRE_LEAVES_HOME").is_none() {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args([LEAVER, "--exact", "--nocapture"]).env("PODWIRE_LEAVES_HOME", "1");
            let _guard = crate::testing::starting_programs();
            assert!(command.output().unwrap().status.success());
            return;
        }
        alone(|| {
            let here = || NetNs::current().unwrap().inode().unwrap();
            let began = here();
            assert!(!home().is_left());
            assert_eq!(home().run(here), began);
            let other = NetNs::create(Path::new("/run/netns/other")).unwrap();
            leave_home(&other).unwrap();
            assert_eq!(here(), other.inode().unwrap());
            // What is borrowed may be changed, what is started is there too, a panic does not end the thread.
            let mut seen = Vec::new();
            home().run(|| seen.push(here()));
            assert_eq!((seen, home().namespace().unwrap().inode().unwrap()), (vec![began], began));
            assert!(catch_unwind(|| home().run(|| resume_unwind(Box::new(())))).is_err());
            let started = home().run(|| std::process::Command::new("readlink").arg("/proc/self/ns/net").output());
            assert_eq!(String::from_utf8_lossy(&started.unwrap().stdout).trim(), format!("net:[{}]", began.ino));
            leave_home(&other).unwrap();
            let third = NetNs::create(Path::new("/run/netns/third")).unwrap();
            assert_eq!(leave_home(&third).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(here(), other.inode().unwrap());
        });
    }

    #[test]
    fn a_failed_creation_leaves_nothing() {
        needs_root!();
        alone(|| {
            std::fs::create_dir_all("/run/netns").unwrap();
            let path = Path::new("/run/netns/podwire-0123456789ab");
            // Without CAP_SYS_ADMIN unshare is refused.
            let refused = crate::testing::without_capabilities(|| NetNs::create(path).map(|_| ()));
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
            assert!(!path.exists());
        });
    }
}
