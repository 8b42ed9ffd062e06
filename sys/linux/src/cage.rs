//! Giving up what a process does not need any more. None of it can be taken back.
//!
//! ```text
//!   leave_shared()            mounts, IPC and host name of its own           the process, while it has one thread
//!   leave_mounts()            mounts of its own                              the process, while it has one thread
//!   stand_nowhere(at)         its root: an empty directory, read-only        the process
//!   keep_only(NET_ADMIN)      capabilities, no_new_privs                     this thread and those it starts
//!   touch_files(Files::None)  files by path: Landlock                        this thread and those it starts
//!   keep_secret() · limit_memory(octets)                                     the process
//!   call_only(&[read, …])     system calls: seccomp                          all threads there are
//! ```
//!
//! What a thread passes on to those it starts comes before them; [`call_only`] comes when all threads are there.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{DumpableBehavior, Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs};

use crate::mounts::{self, Depth, Propagation};

/// Moves the calling process, which has one thread, into mount, IPC and UTS namespaces of its own.
pub fn leave_shared() -> io::Result<()> {
    crate::netns::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS)?;
    mounts::propagate(Path::new("/"), Propagation::Slave, Depth::All)
}

/// As [`leave_shared`], of mounts alone.
pub fn leave_mounts() -> io::Result<()> {
    crate::netns::unshare(UnshareFlags::NEWNS)?;
    mounts::propagate(Path::new("/"), Propagation::Slave, Depth::All)
}

/// Gives the calling process an empty root that nobody can write to. `at` is any directory. After [`leave_shared`].
///
/// Descriptors that it has stay what they are.
pub fn stand_nowhere(at: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount("tmpfs", at, "tmpfs", flags, c"nr_inodes=2,nr_blocks=1,mode=555")?;
    rustix::process::chdir(at)?;
    match rustix::process::pivot_root(".", ".") {
        // The old root lies above the new one now.
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // Its root was no mount point (a chroot): then the way back is that nobody holds a directory of it.
        Err(Errno::INVAL) => rustix::process::chroot(".")?,
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::process::chdir("/")?)
}

/// Keeps others of the same user from looking into the process, and its memory out of core files.
pub fn keep_secret() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// The process has no more memory of its own than this (RLIMIT_DATA), or than it may have already.
pub fn limit_memory(octets: u64) -> io::Result<()> {
    let may = rustix::process::getrlimit(Resource::Data).maximum;
    let limit = Some(may.map_or(octets, |may| may.min(octets)));
    Ok(setrlimit(Resource::Data, Rlimit { current: limit, maximum: limit })?)
}

/// Leaves the calling thread these capabilities of those it has, and no way to get others: none in the bounding, the
/// inheritable and the ambient set, none by executing programs.
pub fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    let has = rustix::thread::capabilities(None)?;
    for number in 0..64 {
        let Some(one) = CapabilitySet::from_bits(1 << number) else { continue };
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // Not one that this kernel knows, or not ours to remove: then no_new_privs must do.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let kept = kept & has.permitted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

/// What of a file system may be touched by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Nothing.
    None,
    /// All may be read, as far as it could be before.
    Read,
}

// include/uapi/linux/landlock.h
const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
const LANDLOCK_RULE_PATH_BENEATH: u32 = 1;
const ACCESS_READ_FILE: u64 = 1 << 2;
const ACCESS_READ_DIR: u64 = 1 << 3;
/// Rights to files that the versions of Landlock know, the first one's first.
const ACCESS_OF_VERSIONS: [u64; 5] = [(1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1];
/// Abstract Unix sockets and signals of others, which version 6 knows.
const SCOPES: u64 = 0b11;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// Lets the calling thread touch no more than these files by path, and nobody's abstract sockets and signals but its
/// own. False on a kernel without Landlock, where all is as before. After [`keep_only`].
pub fn touch_files(files: Files) -> io::Result<bool> {
    // SAFETY: without attributes, and with this flag, the call takes no pointer and tells its version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    let Ok(version @ 1..) = usize::try_from(version) else { return Ok(false) };
    let handled_access_fs = ACCESS_OF_VERSIONS[version.min(ACCESS_OF_VERSIONS.len()) - 1];
    let scoped = if version >= 6 { SCOPES } else { 0 };
    let attr = RulesetAttr { handled_access_fs, handled_access_net: 0, scoped };
    // What an older kernel does not know is zero, and none of its business.
    let size = if version >= 6 { size_of::<RulesetAttr>() } else { size_of::<u64>() };
    // SAFETY: landlock_create_ruleset(2) reads `size` octets of `attr`, which has as many, and returns a descriptor.
    let ruleset = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0_u32) };
    let ruleset = i32::try_from(ruleset).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: new, and nobody else's.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    if files == Files::Read {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        allow_reading(&ruleset, &root)?;
    }
    // SAFETY: landlock_restrict_self(2) takes a descriptor and flags.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if done == 0 { Ok(true) } else { Err(io::Error::last_os_error()) }
}

fn allow_reading(ruleset: &OwnedFd, directory: &OwnedFd) -> io::Result<()> {
    let allowed_access = ACCESS_READ_FILE | ACCESS_READ_DIR;
    let attr = PathBeneathAttr { allowed_access, parent_fd: directory.as_raw_fd() };
    let fd = ruleset.as_raw_fd();
    // SAFETY: landlock_add_rule(2) reads `attr`, of the type that the rule's kind says, and keeps no descriptor.
    let done =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &raw const attr, 0_u32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A system call that may be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// `SYS_*`
    pub number: i64,
    /// When.
    pub when: When,
}

/// With which arguments a system call may be made; 32 bits of one of them, counted from 0, are looked at.
#[derive(Debug, Clone)]
pub enum When {
    /// With any.
    Always,
    /// With one of these values.
    Is(u32, Vec<u32>),
    /// With none of these values.
    IsNot(u32, Vec<u32>),
    /// With none of these bits.
    Lacks(u32, u32),
}

impl Call {
    /// Whatever its arguments.
    pub fn always(number: i64) -> Self {
        Self { number, when: When::Always }
    }
}

// include/uapi/linux/{seccomp,audit,bpf_common}.h
const SET_MODE_FILTER: u32 = 1;
const FILTER_FLAG_TSYNC: u32 = 1;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const REFUSED: u32 = RET_ERRNO | libc::EPERM.cast_unsigned();
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
/// Offsets in struct seccomp_data.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// Lets all threads of this process make these system calls. The `deadly` ones, and those of another architecture,
/// end the process with SIGSYS; all others fail with `EPERM`. After [`keep_only`] by the calling thread. False on a
/// kernel without seccomp's filters, where all is as before.
pub fn call_only(allowed: &[Call], deadly: &[i64]) -> io::Result<bool> {
    let mut filter = program(allowed, deadly);
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: seccomp(2) reads `program`, and the `length` instructions it points to; both outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, FILTER_FLAG_TSYNC, &raw const program) };
    match done {
        0 => Ok(true),
        -1 => match io::Error::last_os_error() {
            error if [Some(libc::ENOSYS), Some(libc::EINVAL)].contains(&error.raw_os_error()) => Ok(false),
            error => Err(error),
        },
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

/// The kernel remembers which calls are always allowed, and does not run this for them (seccomp_cache_check_allow() in
/// kernel/seccomp.c).
fn program(allowed: &[Call], deadly: &[i64]) -> Vec<libc::sock_filter> {
    let mut steps = vec![load(ARCHITECTURE_AT), step(JUMP_EQUAL, ARCHITECTURE, 1, 0), back(RET_KILL_PROCESS)];
    steps.push(load(NUMBER_AT));
    for call in allowed {
        let then = verdict_of(&call.when);
        // Longer ones would be refused whole by the kernel.
        let past = u8::try_from(then.len()).unwrap_or(u8::MAX);
        steps.push(step(JUMP_EQUAL, call.number as u32, 0, past));
        steps.extend(then);
    }
    for number in deadly {
        steps.extend([step(JUMP_EQUAL, *number as u32, 0, 1), back(RET_KILL_PROCESS)]);
    }
    steps.push(back(REFUSED));
    steps
}

/// The steps of a call that is on the list; each way through them returns.
fn verdict_of(when: &When) -> Vec<libc::sock_filter> {
    let argument = |number: &u32| load(ARGUMENTS_AT + 8 * number);
    let among = |values: &[u32], verdict| -> Vec<_> {
        values.iter().flat_map(|value| [step(JUMP_EQUAL, *value, 0, 1), back(verdict)]).collect()
    };
    match when {
        When::Always => vec![back(RET_ALLOW)],
        When::Is(at, values) => [vec![argument(at)], among(values, RET_ALLOW), vec![back(REFUSED)]].concat(),
        When::IsNot(at, values) => [vec![argument(at)], among(values, REFUSED), vec![back(RET_ALLOW)]].concat(),
        When::Lacks(at, bits) => vec![argument(at), step(JUMP_SET, *bits, 1, 0), back(RET_ALLOW), back(REFUSED)],
    }
}

fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn load(at: u32) -> libc::sock_filter {
    step(LOAD_WORD, at, 0, 0)
}

fn back(verdict: u32) -> libc::sock_filter {
    step(RETURN, verdict, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Fork, fork};
    use crate::testing::needs_root;

    /// In a thread that ends with it.
    fn caged(f: impl FnOnce() + Send + 'static) {
        std::thread::spawn(f).join().unwrap();
    }

    /// The exit code of a child that does this.
    fn code_of(f: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child takes no lock of another thread but the allocator's, which C libraries open in a child.
        match unsafe { fork() }.unwrap() {
            // SAFETY: ends the process at once, whatever others registered to be done at its end.
            Fork::Child => unsafe { libc::_exit(f()) },
            Fork::Parent(child) => crate::process::wait_child(child).unwrap(),
        }
    }

    #[test]
    fn a_thread_reads_at_most_and_then_touches_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "text").unwrap();
        caged(move || {
            keep_only(CapabilitySet::empty()).unwrap();
            if !touch_files(Files::Read).unwrap() {
                eprintln!("SKIPPED: no Landlock here");
                return;
            }
            let denied = |done: io::Result<()>| assert_eq!(done.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
            denied(std::fs::write(&file, "other"));
            denied(std::fs::remove_file(&file));
            touch_files(Files::None).unwrap();
            denied(std::fs::read(&file).map(drop));
            denied(std::fs::read_dir("/").map(drop));
        });
    }

    #[test]
    fn capabilities_that_are_not_kept_are_gone() {
        needs_root!();
        caged(|| {
            keep_only(CapabilitySet::NET_ADMIN).unwrap();
            let has = rustix::thread::capabilities(None).unwrap();
            assert_eq!((has.effective, has.permitted), (CapabilitySet::NET_ADMIN, CapabilitySet::NET_ADMIN));
            assert!(set_capabilities(None, CapabilitySets { permitted: CapabilitySet::all(), ..has }).is_err());
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            for line in ["NoNewPrivs:\t1", "CapBnd:\t0000000000000000", "CapInh:\t0000000000000000"] {
                assert!(status.contains(line), "{status}");
            }
        });
    }

    #[test]
    fn nowhere_is_an_empty_place_that_nothing_can_be_made_in() {
        needs_root!();
        let at = tempfile::tempdir().unwrap();
        let code = code_of(|| {
            let caged = leave_shared().and_then(|()| stand_nowhere(at.path()));
            let is_empty = || Some(std::fs::read_dir("/").ok()?.count() == 0 && !Path::new("/../etc").exists());
            let cannot_write = || std::fs::write("/file", "x").is_err() && std::fs::create_dir("/a").is_err();
            i32::from(caged.is_err() || is_empty() != Some(true) || !cannot_write())
        });
        assert_eq!(code, 0);
        assert!(std::fs::read_dir(at.path()).unwrap().next().is_none() && Path::new("/etc").exists());
    }

    #[test]
    fn calls_that_are_not_allowed_fail_or_kill() {
        let allowed = || {
            let usual = [libc::SYS_exit_group, libc::SYS_exit, libc::SYS_munmap, libc::SYS_sigaltstack];
            let usual = usual.map(Call::always).into_iter();
            usual.chain([Call { number: libc::SYS_socket, when: When::Is(0, vec![2]) }]).collect::<Vec<_>>()
        };
        let domain = |domain| rustix::net::socket(domain, rustix::net::SocketType::STREAM, None).map(drop);
        let refused = code_of(|| {
            let caged = set_no_new_privs(true).is_ok() && call_only(&allowed(), &[]).is_ok_and(|done| done);
            let unix = domain(rustix::net::AddressFamily::UNIX) == Err(Errno::PERM);
            i32::from(!(caged && unix && rustix::pipe::pipe().is_err_and(|error| error == Errno::PERM)))
        });
        assert_eq!(refused, 0);
        let killed = code_of(|| {
            let caged = set_no_new_privs(true).is_ok() && call_only(&allowed(), &[libc::SYS_getppid]).is_ok();
            // SAFETY: takes nothing.
            let _ = unsafe { libc::syscall(libc::SYS_getppid) };
            i32::from(!caged)
        });
        assert_eq!(killed, 128 + libc::SIGSYS);
    }

    /// What the filter says: the kernel's interpreter, in small.
    fn verdict(calls: &[Call], deadly: &[i64], number: u32, arguments: [u32; 2]) -> u32 {
        let (steps, mut at, mut word) = (program(calls, deadly), 0, 0);
        loop {
            let step = steps[at];
            at += 1;
            match step.code {
                LOAD_WORD => {
                    word = match step.k {
                        NUMBER_AT => number,
                        ARCHITECTURE_AT => ARCHITECTURE,
                        other => arguments[(other as usize - 16) / 8],
                    }
                }
                JUMP_EQUAL => at += usize::from(if word == step.k { step.jt } else { step.jf }),
                JUMP_SET => at += usize::from(if word & step.k != 0 { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn a_call_is_allowed_by_its_number_and_arguments() {
        let calls = [
            Call::always(1),
            Call { number: 41, when: When::Is(1, vec![2, 10]) },
            Call { number: 9, when: When::Lacks(0, 0b100) },
            Call { number: 54, when: When::IsNot(1, vec![64, 65]) },
            Call::always(3),
        ];
        for (number, arguments, expected) in [
            (1, [0, 0], RET_ALLOW),
            (3, [0, 7], RET_ALLOW),
            (41, [0, 2], RET_ALLOW),
            (41, [0, 10], RET_ALLOW),
            (41, [2, 16], REFUSED),
            (9, [0b011, 0], RET_ALLOW),
            (9, [0b111, 0], REFUSED),
            (54, [0, 63], RET_ALLOW),
            (54, [0, 65], REFUSED),
            (60, [0, 0], REFUSED),
            (59, [0, 0], RET_KILL_PROCESS),
            (0x4000_0001, [0, 0], REFUSED),
        ] {
            assert_eq!(verdict(&calls, &[59], number, arguments), expected, "{number} {arguments:?}");
        }
    }
}
