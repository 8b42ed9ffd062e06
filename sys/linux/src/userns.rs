//! User namespaces of ordinary users: made with subordinate ids, and joined.
//!
//! ```text
//!   command ── starts ──> holder: unshare(CLONE_NEWUSER) ─┐           /etc/subuid   podrl:100000:65536
//!      └─ IdMaps::write(pid): newuidmap, newgidmap ───────┤           uid_map       0 1000 1
//!                                                         │                         1 100000 65536
//!   next command ── join(pidfd of holder) ──> root in there, in the same mount namespace
//! ```
//!
//! Only programs with privileges may map ids that are not the caller's own: newuidmap and newgidmap (package
//! `uidmap`), which check /etc/subuid and /etc/subgid again themselves.

mod held;

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Pid;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

use crate::netns::unshare;

pub use held::UserNs;

/// Ids that are the same ones seen from inside and outside: one line of /proc/PID/uid_map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first one inside.
    pub inside: u32,
    /// The same one outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Which ids a user namespace has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdMaps {
    /// Of users.
    pub uids: Vec<IdRange>,
    /// Of groups.
    pub gids: Vec<IdRange>,
}

/// Ids that somebody may use beside his own: first and number.
pub type Subordinate = (u32, u32);

/// The ranges of a file like /etc/subuid (subuid(5)) that belong to a user, by his name or his number.
pub fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<Subordinate> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owner == number || Some(owner) == name).then_some(range)
    };
    text.lines().filter_map(range).filter(|(_, count)| *count > 0).collect()
}

/// The own id as root, then the ranges from 1 on.
pub fn map_of(own: u32, ranges: &[Subordinate]) -> Vec<IdRange> {
    let mut map = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1_u32;
    for &(outside, count) in ranges {
        // What goes beyond 32 bits can have no id inside.
        let count = count.min(u32::MAX - next);
        map.push(IdRange { inside: next, outside, count });
        next += count;
    }
    map
}

/// Moves this process, which has one thread, into the user namespace that the descriptor stands for; it may do anything
/// there.
pub fn enter(namespace: impl AsFd) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::User))?)
}

/// The user namespace's map of user ids, as the calling thread's own /proc shows it.
pub fn uid_map() -> io::Result<Vec<IdRange>> {
    Ok(parse_map(&std::fs::read_to_string("/proc/thread-self/uid_map")?))
}

/// The user namespace's map of group ids.
pub fn gid_map() -> io::Result<Vec<IdRange>> {
    Ok(parse_map(&std::fs::read_to_string("/proc/thread-self/gid_map")?))
}

fn parse_map(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        Some(IdRange { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(range).collect()
}

/// Reads `text` as a map and as /etc/subuid: the ranges that a map is made of follow one another inside.
pub(crate) fn read_anything(text: &str) {
    let _ = mapped(&parse_map(text));
    let map = map_of(1000, &subordinate(text, Some("me"), 1000));
    for pair in map.windows(2) {
        assert_eq!(u64::from(pair[0].inside) + u64::from(pair[0].count), u64::from(pair[1].inside), "{map:?}");
    }
}

/// Does the calling thread live in the host's own user namespace?
pub fn is_initial() -> bool {
    /// PROC_USER_INIT_INO in include/linux/proc_ns.h
    const FIRST: u64 = 0xefff_fffd;
    // Kernels without user namespaces have no such file.
    std::fs::metadata("/proc/thread-self/ns/user").map_or(true, |meta| meta.ino() == FIRST)
}

/// The user whom root of this user namespace is outside: the caller's own id where that is the host's.
pub fn outer_uid() -> u32 {
    let own = rustix::process::geteuid().as_raw();
    let map = if is_initial() { Vec::new() } else { uid_map().unwrap_or_default() };
    let range = map.iter().find(|range| own.checked_sub(range.inside).is_some_and(|n| n < range.count));
    range.map_or(own, |range| range.outside + (own - range.inside))
}

/// How many ids, the first ones, are mapped.
pub fn mapped(map: &[IdRange]) -> u32 {
    let mut next = 0_u32;
    // The kernel shows them in the order they were written in, which is ours.
    for range in map {
        if range.inside == next {
            next = next.saturating_add(range.count);
        }
    }
    next
}

/// Moves the calling process, which has one thread, into a new user namespace without ids.
pub fn enter_new() -> io::Result<()> {
    unshare(UnshareFlags::NEWUSER)
}

/// Moves the calling process into a new mount namespace that the user namespace owns; the host's later mounts
/// appear in it, and none of its own on the host.
pub fn enter_new_mounts() -> io::Result<()> {
    crate::mounts::enter_private_namespace()
}

/// Moves the calling process, which must have one thread only, into the user and mount namespaces of the process
/// that `pidfd` is. It is root there afterwards, if its own id is root's there. The working directory stays, by
/// its path.
pub fn join(pidfd: impl AsFd) -> io::Result<()> {
    let both = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT;
    match join_these(&pidfd, both) {
        // Nobody can enter the user namespace he is in (userns_install() in kernel/user_namespace.c).
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => join_these(pidfd, ThreadNameSpaceType::MOUNT),
        joined => joined,
    }
}

/// As [`join`], into its user namespace only.
pub fn join_user(pidfd: impl AsFd) -> io::Result<()> {
    join_these(pidfd, ThreadNameSpaceType::USER)
}

fn join_these(pidfd: impl AsFd, which: ThreadNameSpaceType) -> io::Result<()> {
    // The kernel puts it at the root of the mount namespace (mntns_install() in fs/namespace.c).
    let directory = std::env::current_dir();
    move_into_thread_name_spaces(pidfd.as_fd(), which)?;
    directory.and_then(std::env::set_current_dir).or_else(|_| std::env::set_current_dir("/"))
}

/// Why ids could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// newuidmap or newgidmap is not installed.
    #[error("{0} is not installed")]
    NoHelper(&'static str),
    /// It did not want to, and what it said.
    #[error("{helper} failed: {said}")]
    Refused {
        /// Which of them.
        helper: &'static str,
        /// Its own words.
        said: String,
    },
    /// It could not be started.
    #[error("{helper}: {source}")]
    Start {
        /// Which of them.
        helper: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl IdMaps {
    /// Writes them for a process of ours that is in a new user namespace, with newuidmap(1) and newgidmap(1).
    ///
    /// Nothing is written when one of these is missing.
    pub fn write(&self, pid: u32) -> Result<(), MapError> {
        let program = |helper| find(helper).ok_or(MapError::NoHelper(helper)).map(|path| (helper, path));
        let (users, groups) = (program("newuidmap")?, program("newgidmap")?);
        write_with(groups, pid, &self.gids)?;
        write_with(users, pid, &self.uids)
    }
}

fn write_with((helper, program): (&'static str, PathBuf), pid: u32, map: &[IdRange]) -> Result<(), MapError> {
    let numbers = map.iter().flat_map(|range| [range.inside, range.outside, range.count]);
    let mut command = Command::new(program);
    command.arg(pid.to_string()).args(numbers.map(|number| number.to_string()));
    let done = command.stdin(Stdio::null()).output().map_err(|source| MapError::Start { helper, source })?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().trim_start_matches(&format!("{helper}: ")).to_owned();
    Err(MapError::Refused { helper, said })
}

/// In PATH, and where Debian has it, for PATH may be that of a bare session.
fn find(helper: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = OsStr::new("/usr/bin:/bin:/usr/local/bin");
    let places = std::env::split_paths(&path).chain(std::env::split_paths(usual)).collect::<Vec<_>>();
    let programs = places.into_iter().map(|directory| directory.join(helper));
    programs.into_iter().find(|program| program.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0))
}

/// Maps root to the caller's own ids and nothing else, in the user namespace that the calling process has just
/// made: needs no helper. Groups cannot be changed in it.
pub fn map_own_ids(uid: u32, gid: u32) -> io::Result<()> {
    let write = |file: &str, text: String| std::fs::write(Path::new("/proc/self").join(file), text);
    // Else who is kept out by a group would get rid of it (user_namespaces(7), "setgroups").
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

/// Is the process that `pid` is in the calling process's user namespace? `false` too when it has ended.
pub fn shares_ours(pid: u32) -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user"));
    let valid = i32::try_from(pid).ok().and_then(Pid::from_raw).is_some();
    valid && of("self").is_ok_and(|ours| of(&pid.to_string()).is_ok_and(|theirs| theirs == ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "root:1:9\npodrl:100000:65536\n\nbroken\n1001:400000:65536\npodrl:x:1\npodrl:300000:10\n7:5:0\n";

    #[test]
    fn ranges_are_found_by_name_and_by_number_and_no_others() {
        assert_eq!(subordinate(FILE, Some("podrl"), 1001), [(100_000, 65536), (400_000, 65536), (300_000, 10)]);
        assert_eq!(subordinate(FILE, None, 1001), [(400_000, 65536)]);
        assert_eq!(subordinate(FILE, Some("nobody"), 7), []);
    }

    #[test]
    fn ids_inside_are_without_gaps() {
        let map = map_of(1000, &[(100_000, 65536), (300_000, 10)]);
        let inside: Vec<_> = map.iter().map(|range| (range.inside, range.outside, range.count)).collect();
        assert_eq!(inside, [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 10)]);
        assert_eq!(mapped(&map), 65547);
        assert_eq!(map_of(0, &[(1, u32::MAX)]).last().unwrap().count, u32::MAX - 1);
    }

    #[test]
    fn the_kernels_table_is_read_with_its_blanks() {
        let map = parse_map("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(map, map_of(1000, &[(100_000, 65536)]));
        assert_eq!(parse_map("0 0 4294967295\n"), [IdRange { inside: 0, outside: 0, count: u32::MAX }]);
    }

    #[test]
    fn a_process_of_the_same_namespace_is_known() {
        assert!(shares_ours(std::process::id()));
        assert!(!shares_ours(0) && !shares_ours(u32::MAX));
    }
}
