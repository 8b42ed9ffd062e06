//! Giving up what a process does not need any more.
//!
//! ```text
//!   keep_only(&[NET_ADMIN])   capabilities of this thread and of those it starts; no_new_privs
//!   see_only(&["/etc"])       files, likewise: Landlock
//!   call_only(&[read, …])     system calls of all threads: seccomp
//! ```
//!
//! None of it can be taken back. The first two are of the calling thread and inherited, so they come before other
//! threads are started; the last is for all of them, once they are there.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

/// Leaves the calling thread these capabilities of those it has, and no way to get others: none in the bounding set,
/// none by executing programs.
pub fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    let has = rustix::thread::capabilities(None)?;
    for number in 0..64 {
        let Some(one) = CapabilitySet::from_bits(1 << number).filter(|one| !kept.contains(*one)) else { continue };
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // Not one that this kernel knows, or not ours to remove: then no_new_privs must do.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let kept = kept & has.permitted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

// include/uapi/linux/landlock.h
const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
const LANDLOCK_RULE_PATH_BENEATH: u32 = 1;
const ACCESS_READ_FILE: u64 = 1 << 2;
const ACCESS_READ_DIR: u64 = 1 << 3;
/// Rights to files that the versions of Landlock know, the first one's first.
const ACCESS_OF_VERSIONS: [u64; 5] = [(1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1];

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// Lets the calling thread read what is beneath these directories, those of them that there are, and touch no other
/// file by its path. False on a kernel without Landlock, where all is as before. After [`keep_only`].
pub fn see_only(directories: &[&Path]) -> io::Result<bool> {
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
    let attr = RulesetAttr { handled_access_fs };
    // SAFETY: landlock_create_ruleset(2) reads `attr`, whose size is given, and returns a new descriptor.
    let ruleset =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size_of::<RulesetAttr>(), 0_u32) };
    let ruleset = i32::try_from(ruleset).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: new, and nobody else's.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    for directory in directories {
        match rustix::fs::open(*directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(directory) => allow_reading(&ruleset, &directory)?,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::ACCESS | rustix::io::Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // SAFETY: landlock_restrict_self(2) takes a descriptor and flags.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if done == 0 { Ok(true) } else { Err(io::Error::last_os_error()) }
}

fn allow_reading(ruleset: &OwnedFd, directory: &OwnedFd) -> io::Result<()> {
    let allowed_access = ACCESS_READ_FILE | ACCESS_READ_DIR;
    let attr = PathBeneathAttr { allowed_access, parent_fd: directory.as_fd().as_raw_fd() };
    let fd = ruleset.as_fd().as_raw_fd();
    // SAFETY: landlock_add_rule(2) reads `attr`, of the type that the rule's kind says, and keeps no descriptor.
    let done =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &raw const attr, 0_u32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A system call that is allowed, with some first arguments alone where there are any: their number (from 0), and
/// which values.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// `SYS_*`
    pub number: i64,
    /// Of which argument what is allowed; nothing for everything.
    pub argument: Option<(u32, &'static [u32])>,
}

// include/uapi/linux/{seccomp,audit,bpf_common}.h
const SET_MODE_FILTER: u32 = 1;
const FILTER_FLAG_TSYNC: u32 = 1;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
/// Offsets in struct seccomp_data.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// Lets all threads of this process make these system calls; all others fail with `EPERM`, and those of another
/// architecture end the process. After [`keep_only`] by the calling thread.
pub fn call_only(calls: &[Call]) -> io::Result<()> {
    let mut filter = program(calls);
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: seccomp(2) reads `program`, and the `length` instructions it points to; both outlive the call.
    match unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, FILTER_FLAG_TSYNC, &raw const program) } {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

fn program(calls: &[Call]) -> Vec<libc::sock_filter> {
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let (load, back) = (|at| step(LOAD_WORD, at, 0, 0), |what| step(RETURN, what, 0, 0));
    let refuse = RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut steps = vec![load(ARCHITECTURE_AT), step(JUMP_EQUAL, ARCHITECTURE, 1, 0), back(RET_KILL_PROCESS)];
    steps.push(load(NUMBER_AT));
    for call in calls {
        // Numbers of system calls are small.
        let number = call.number as u32;
        match call.argument {
            None => steps.extend([step(JUMP_EQUAL, number, 0, 1), back(RET_ALLOW)]),
            Some((argument, values)) => {
                // One load, two steps a value, and the refusal are skipped.
                let rest = u8::try_from(2 + 2 * values.len()).unwrap_or(u8::MAX);
                steps.extend([step(JUMP_EQUAL, number, 0, rest), load(ARGUMENTS_AT + 8 * argument)]);
                for value in values {
                    steps.extend([step(JUMP_EQUAL, *value, 0, 1), back(RET_ALLOW)]);
                }
                steps.push(back(refuse));
            }
        }
    }
    steps.push(back(refuse));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::needs_root;

    /// In a thread that ends with it.
    fn caged(f: impl FnOnce() + Send + 'static) {
        std::thread::spawn(f).join().unwrap();
    }

    #[test]
    fn a_thread_reads_what_it_may_see_and_nothing_else() {
        let seen = tempfile::tempdir().unwrap();
        let hidden = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(seen.path().join("file"), "text").unwrap();
        caged(move || {
            keep_only(CapabilitySet::empty()).unwrap();
            if !see_only(&[seen.path(), Path::new("/nonexistent")]).unwrap() {
                eprintln!("SKIPPED: no Landlock here");
                return;
            }
            assert_eq!(std::fs::read_to_string(seen.path().join("file")).unwrap(), "text");
            let denied = |done: io::Result<()>| assert_eq!(done.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            denied(std::fs::read(hidden.path()).map(drop));
            denied(std::fs::write(seen.path().join("file"), "other"));
            denied(std::fs::remove_file(seen.path().join("file")));
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
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        });
    }

    /// What the filter says: the kernel's interpreter, in small.
    fn verdict(calls: &[Call], number: u32, arguments: [u32; 2]) -> u32 {
        let (steps, mut at, mut word) = (program(calls), 0, 0);
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
                _ => return step.k,
            }
        }
    }

    #[test]
    fn a_call_is_allowed_by_its_number_and_arguments() {
        let calls = [
            Call { number: 1, argument: None },
            Call { number: 41, argument: Some((1, &[2, 10])) },
            Call { number: 3, argument: None },
        ];
        let refused = RET_ERRNO | 1;
        for (number, argument, expected) in [
            (1, 0, RET_ALLOW),
            (3, 7, RET_ALLOW),
            (41, 2, RET_ALLOW),
            (41, 10, RET_ALLOW),
            (41, 16, refused),
            (59, 0, refused),
        ] {
            assert_eq!(verdict(&calls, number, [99, argument]), expected, "{number} {argument}");
        }
    }
}
