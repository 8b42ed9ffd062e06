//! Processes, known by number and start time, so that a number given to somebody else is noticed.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::Signal;
use crate::netns::{NsId, inode_at};

/// One process of this boot. Numbers come again, start times with the same number do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Its number in the PID namespace whose /proc we see.
    pub pid: u32,
    /// When it started, in clock ticks since boot: field 22 of /proc/PID/stat (proc_pid_stat(5)).
    pub start_time: u64,
}

impl ProcessRef {
    /// The process that has this number now; `NotFound` when there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::read(pid)?.ok_or_else(gone)?;
        Ok(Self { pid, start_time: stat.start_time })
    }

    /// This process.
    pub fn me() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Does it still run? A zombie does not.
    pub fn alive(&self) -> bool {
        // /proc that cannot be read says nothing; then it counts as alive, for the dead are cleaned up after.
        match Stat::read(self.pid) {
            Ok(Some(stat)) => stat.start_time == self.start_time && !stat.dead,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// A descriptor of the process itself, which no other can take the place of; `NotFound` when it has ended.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).map_err(not_found)?;
        // Checked after opening: from here on the descriptor and the number mean the same process.
        if self.alive() { Ok(fd) } else { Err(gone()) }
    }

    /// Sends `signal`; `NotFound` when it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        pidfd_send_signal(self.pidfd()?, signal.raw()).map_err(not_found)
    }

    /// Would `signal` do anything to it? The kernel drops one that the first process of a PID namespace neither
    /// handles nor blocks nor waits for (sig_task_ignored() in kernel/signal.c). `true` when it cannot be told.
    pub fn hears(&self, signal: Signal) -> bool {
        let forced = [Signal::KILL, Signal::STOP].contains(&signal);
        // sigtimedwait(2) takes what it waits for out of the mask that is shown, so it must not be at work
        // before nor after the look at the mask.
        let deaf = || Some(!self.waits_for_signals()? && !self.takes(signal)? && !self.waits_for_signals()?);
        forced || deaf() != Some(true) || !self.alive()
    }

    /// Does it handle the signal, or one of its threads block it? Also when it is not the first process of
    /// a PID namespace below ours.
    fn takes(&self, signal: Signal) -> Option<bool> {
        let bit = 1 << (signal.number() - 1);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let first = field(&status, "NSpid:")?.split_ascii_whitespace().skip(1).last() == Some("1");
        let mut takes = !first || mask(&status, "SigCgt:")? & bit != 0;
        for task in self.tasks()? {
            takes |= mask(&std::fs::read_to_string(task.join("status")).ok()?, "SigBlk:")? & bit != 0;
        }
        Some(takes)
    }

    /// Is one of its threads in sigtimedwait(2) or its like?
    fn waits_for_signals(&self) -> Option<bool> {
        /// Of 64-bit programs, of 32-bit ones on x86 and ARM, and of those with 64-bit times.
        const CALLS: [libc::c_long; 3] = [libc::SYS_rt_sigtimedwait, 177, 421];
        let mut waits = false;
        for task in self.tasks()? {
            let text = std::fs::read_to_string(task.join("syscall")).ok()?;
            // A word instead of a number when it runs.
            let call = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
            waits |= call.is_some_and(|call| CALLS.contains(&call));
        }
        Some(waits)
    }

    /// The /proc directories of its threads.
    fn tasks(&self) -> Option<Vec<PathBuf>> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        tasks.map(|task| task.map(|task| task.path()).ok()).collect()
    }

    /// The exit code, see [`exit_code`], of one that has ended and is not yet reaped, whoever's child it is.
    pub fn zombie_code(&self) -> Option<i32> {
        use rustix::thread::{CapabilitySet, capabilities};
        // Without it, the code of a process that may do more than we reads as 0.
        capabilities(None).ok().filter(|own| own.effective.contains(CapabilitySet::SYS_PTRACE))?;
        let stat = Stat::read(self.pid).ok()??;
        let code = exit_code(ExitStatus::from_raw(stat.status?));
        (stat.dead && stat.start_time == self.start_time).then_some(code)
    }

    /// Waits until it has ended: `true`, or `false` after `timeout` (`None`: for ever). Needs not be a child.
    pub fn wait_end(&self, timeout: Option<Duration>) -> io::Result<bool> {
        match self.pidfd() {
            Ok(fd) => readable(&fd, timeout),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(e),
        }
    }
}

/// Is the process `pid`, which may have ended, a child of ours, or one of a child's, so that it may become ours?
pub fn is_descendant(pid: u32) -> bool {
    let parent = |pid: u32| -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        field(&status, "PPid:")?.trim().parse().ok()
    };
    let us = std::process::id();
    let first = parent(pid);
    first == Some(us) || first.and_then(parent) == Some(us)
}

/// A line of /proc/PID/status without its name.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

fn mask(status: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(field(status, name)?.trim(), 16).ok()
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such process")
}

fn not_found(e: Errno) -> io::Error {
    if e == Errno::SRCH { gone() } else { e.into() }
}

/// Waits until there is something to read: `false` after `timeout`.
fn readable(fd: &OwnedFd, timeout: Option<Duration>) -> io::Result<bool> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// What /proc/PID/stat says.
struct Stat {
    dead: bool,
    start_time: u64,
    /// As wait(2) gives it, once it is dead.
    status: Option<i32>,
}

impl Stat {
    /// In one read, for every command looks at every running container's monitor: the kernel makes the line
    /// whole at the first read, and 52 numbers and a name of 64 characters at most are shorter than this.
    fn read(pid: u32) -> io::Result<Option<Self>> {
        let mut line = [0; 1536];
        let read = std::fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line));
        match read {
            Ok(len) => Ok(Self::parse(&String::from_utf8_lossy(&line[..len]))),
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The command's name stands in parentheses and may itself hold any character, so from the last `)` on.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let dead = matches!(fields.next()?, "Z" | "X" | "x");
        // The state is field 3, the start time field 22, the status field 52.
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(Self { dead, start_time, status: fields.nth(29).and_then(|text| text.parse().ok()) })
    }
}

/// What is read of a process does not depend on the name that it gives itself.
pub(crate) fn check_name(name: &str) {
    let mut numbers = vec!["0"; 49];
    (numbers[18], numbers[48]) = ("4711", "256");
    let stat = Stat::parse(&format!("7 ({name}) Z {}\n", numbers.join(" ")));
    let read = stat.map(|stat| (stat.dead, stat.start_time, stat.status));
    assert_eq!(read, Some((true, 4711, Some(256))), "{name:?}");
    let _ = Stat::parse(name);
}

impl ProcessRef {
    /// Its mount namespace.
    pub fn mount_namespace(&self) -> io::Result<NsId> {
        self.namespace("mnt")
    }

    fn namespace(&self, kind: &str) -> io::Result<NsId> {
        inode_at(Path::new(&format!("/proc/{}/ns/{kind}", self.pid)))
    }
}

/// How often [`kill_all_in`] looks anew: each time only what was started since the last look is left.
const LOOKS: usize = 100;

/// Kills every process in the PID namespace of `first`, which is its first process, that sees these mounts, and waits
/// for their ends. Those that have moved to other mounts are not found.
pub fn kill_all_in(mounts: NsId, first: &ProcessRef) -> io::Result<()> {
    let gone = |done: io::Result<()>| match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    for _ in 0..LOOKS {
        let numbers = first.namespace("pid");
        // When the first has ended, so have all, and the namespace's inode may be another one's.
        let Some(numbers) = numbers.ok().filter(|_| first.alive()) else { return Ok(()) };
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            // One that ends meanwhile, or is a zombie, is in no namespace any more.
            let Some(process) = pid.and_then(|pid| ProcessRef::of(pid).ok()) else { continue };
            let is_in = |kind, namespace| process.namespace(kind).is_ok_and(|found| found == namespace);
            if process != *first && is_in("pid", numbers) && is_in("mnt", mounts) {
                found.push(process);
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        found.iter().try_for_each(|process| gone(process.signal(Signal::KILL)))?;
        found.iter().try_for_each(|process| gone(process.wait_end(None).map(drop)))?;
    }
    Err(io::Error::other("its processes start others faster than they can be killed"))
}

/// Names the calling thread, which for the first thread of a process is what `ps` and `top` show; 15 bytes of it
/// (PR_SET_NAME in prctl(2)).
pub fn set_name(name: &str) -> io::Result<()> {
    let name = std::ffi::CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(rustix::thread::set_name(&name)?)
}

/// In which of two processes we are: see [`fork_alone`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// In the one that was there, whose child has this number.
    Parent(u32),
    /// In the child.
    Child,
}

/// Makes a child that is a copy of this process, which must have one thread: another one might hold a lock that nobody
/// opens in the child. The child is killed when this process ends, has all its descriptors, and ends with
/// [`std::process::exit`].
pub fn fork_alone() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process that has threads is not copied"));
    }
    // SAFETY: the child may do whatever its parent may, for no other thread has been stopped in the middle of anything.
    unsafe { fork() }
}

/// Children that end from now on are not waited for and leave no zombie; those started later neither.
pub fn forget_children() {
    // SAFETY: no handler is set, and the arguments are valid.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// # Safety
///
/// There is no other thread, or the child takes no lock that another thread may have had.
pub(crate) unsafe fn fork() -> io::Result<Fork> {
    let parent = rustix::process::getpid();
    // SAFETY: what the child may do is the caller's to heed.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 if crate::spawn::die_with(parent).is_err() => std::process::exit(1),
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent(child.cast_unsigned())),
    }
}

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub pid: u32,
    /// As a shell would say it: see [`exit_code`].
    pub code: i32,
}

/// Waits for the end of any child, own or adopted; `None` when there are no children.
pub fn wait_any() -> io::Result<Option<Ended>> {
    wait_with(WaitOptions::empty())
}

/// A child that has ended already, if there is one; never waits.
pub fn reap() -> io::Result<Option<Ended>> {
    wait_with(WaitOptions::NOHANG)
}

/// Waits for the end of the child `pid`, own or adopted; its exit code, see [`exit_code`].
pub fn wait_child(pid: u32) -> io::Result<i32> {
    let child = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(code_of(status)),
            Ok(None) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn wait_with(options: WaitOptions) -> io::Result<Option<Ended>> {
    loop {
        match rustix::process::wait(options) {
            Ok(Some((pid, status))) => {
                return Ok(Some(Ended { pid: pid.as_raw_nonzero().get().unsigned_abs(), code: code_of(status) }));
            }
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn code_of(status: rustix::process::WaitStatus) -> i32 {
    exit_code(ExitStatus::from_raw(status.as_raw()))
}

/// The status a shell would show: the code, or 128 and the number of the signal that ended it.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// The exit code of a process that has ended, by its descriptor: also of one that was never our child.
/// `None` when the kernel does not tell: before Linux 6.15, or while it is not yet reaped.
pub fn exit_code_by(pidfd: impl AsFd) -> Option<i32> {
    /// `_IOWR(0xff, 11, struct pidfd_info)` with the 64 bytes of its first version, and the bit that asks
    /// for the exit code (include/uapi/linux/pidfd.h)
    const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    let mut info = [0_u64; 8];
    info[0] = PIDFD_INFO_EXIT;
    // SAFETY: PIDFD_GET_INFO reads and writes as many bytes as its number says, 64; `info` has them.
    let done = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO, info.as_mut_ptr()) };
    if done != 0 || info[0] & PIDFD_INFO_EXIT == 0 {
        return None;
    }
    // exit_code is the last 32-bit field of the 64 bytes.
    let status = u32::from_ne_bytes(info[7].to_ne_bytes()[4..].try_into().ok()?);
    Some(exit_code(ExitStatus::from_raw(status.cast_signed())))
}

/// From now on, orphaned descendants become children of this process instead of PID 1's.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Is the effective user root?
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// May it do in its user namespace what root usually may (CAP_SYS_ADMIN in capabilities(7))?
pub fn may_administer() -> io::Result<bool> {
    use rustix::thread::{CapabilitySet, capabilities};
    Ok(capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// The first capability that setting up containers needs and this process has not.
pub fn missing_capability() -> io::Result<Option<&'static str>> {
    use rustix::thread::{CapabilitySet, capabilities};
    let effective = capabilities(None)?.effective;
    let needed = [(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];
    Ok(needed.iter().find(|(capability, _)| !effective.contains(*capability)).map(|(_, name)| *name))
}

/// Lets go of the pages of the program's file and of its libraries that are mapped and cannot be written to: those that are used again come
/// back by themselves, mostly from memory.
///
/// Errors: those of madvise(2).
pub fn forget_program_pages() -> io::Result<()> {
    unsafe extern "C" fn of_object(info: *mut libc::dl_phdr_info, _: usize, parts: *mut libc::c_void) -> libc::c_int {
        // SAFETY: dl_iterate_phdr(3) gives a valid description for the length of the call, whose `dlpi_phdr` points to
        // `dlpi_phnum` headers; `parts` is what was given to it below.
        let (info, headers, parts) = unsafe {
            let headers = std::slice::from_raw_parts((*info).dlpi_phdr, (*info).dlpi_phnum.into());
            (&*info, headers, &mut *parts.cast::<Vec<(usize, usize)>>())
        };
        let is_read_only = |part: &&libc::Elf64_Phdr| part.p_type == libc::PT_LOAD && part.p_flags & libc::PF_W == 0;
        let range = |part: &libc::Elf64_Phdr| (info.dlpi_addr as usize + part.p_vaddr as usize, part.p_memsz as usize);
        parts.extend(headers.iter().filter(is_read_only).map(range));
        0
    }
    let mut parts: Vec<(usize, usize)> = Vec::new();
    // SAFETY: `of_object` gets a pointer to `parts`, which lives until the call returns and nobody else has.
    unsafe { libc::dl_iterate_phdr(Some(of_object), (&raw mut parts).cast()) };
    // SAFETY: it reads and writes nothing of ours. Pages are powers of two.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?;
    for (start, length) in parts {
        let (from, to) = (start.next_multiple_of(page), (start + length) & !(page - 1));
        if from < to {
            // SAFETY: a private mapping of a file (or of the vDSO) that was never written to, so what is read again is what
            // was there; the pages are whole ones of it.
            let rc = unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
            if rc != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Sets variables of this process's environment, while it has no second thread.
pub fn set_environment(variables: &[(String, String)]) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the environment cannot be changed while there are threads"));
    }
    for (name, value) in variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a variable")));
        }
        // SAFETY: nobody reads the environment meanwhile: this is the only thread, as was just seen.
        unsafe { std::env::set_var(name, value) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_on_without_the_pages_of_its_file() {
        let pages = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim_matches([' ', '\t', 'k', 'B']).parse::<u64>().unwrap()
        };
        // Other tests have theirs mapped meanwhile.
        let fewer = (0..50).any(|_| {
            let before = pages();
            forget_program_pages().unwrap();
            pages() < before
        });
        assert!(fewer);
    }

    #[test]
    fn children_and_theirs_are_descendants_also_when_they_have_ended() {
        let _guard = crate::testing::starting_programs();
        let mut child = Command::new("sh")
            .args(["-c", "sleep 9 & echo $!; read _"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let theirs: u32 = line.trim().parse().unwrap();
        assert!(is_descendant(child.id()) && is_descendant(theirs) && !is_descendant(1));
        rustix::process::kill_process(Pid::from_raw(theirs.cast_signed()).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        child.kill().unwrap();
        // Not reaped yet.
        assert!(is_descendant(child.id()));
        child.wait().unwrap();
        assert!(!is_descendant(child.id()));
    }
    use std::process::Command;

    #[test]
    fn a_command_name_full_of_parentheses_misleads_nobody() {
        let text = format!("7 (a) Z (b)) S{} 4711 0", " 0".repeat(18));
        let stat = Stat::parse(&text).unwrap();
        assert!(!stat.dead);
        assert_eq!(stat.start_time, 4711);
    }

    #[test]
    fn the_first_process_of_a_namespace_does_not_hear_what_it_does_not_handle() {
        let _guard = crate::testing::starting_programs();
        crate::testing::needs_root!();
        let wait = "import signal; signal.sigtimedwait([signal.SIGTERM], 60)";
        let block = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); time.sleep(60)";
        let programs: [(&[&str], bool); 4] = [
            (&["sleep", "60"], false),
            (&["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"], true),
            (&["python3", "-c", wait], true),
            (&["python3", "-c", block], true),
        ];
        for (program, hears) in programs {
            let mut parent =
                Command::new("unshare").args(["--pid", "--fork", "--kill-child"]).args(program).spawn().unwrap();
            let child = || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.id())).ok();
            let begin = Instant::now();
            let seen = loop {
                let process = child().and_then(|text| ProcessRef::of(text.trim().parse().ok()?).ok());
                let seen = process.map(|process| process.hears(Signal::TERM));
                if begin.elapsed() > Duration::from_secs(5)
                    || (seen == Some(hears) && (hears || begin.elapsed() > Duration::from_secs(1)))
                {
                    break seen;
                }
                std::thread::sleep(Duration::from_millis(10));
            };
            parent.kill().unwrap();
            parent.wait().unwrap();
            assert_eq!(seen, Some(hears), "{program:?}");
        }
        assert!(ProcessRef::me().unwrap().hears(Signal::TERM), "not the first of its namespace");
    }

    #[test]
    fn a_zombie_is_dead() {
        let _guard = crate::testing::starting_programs();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessRef::of(child.id()).unwrap();
        assert!(process.alive());
        assert!(!process.wait_end(Some(Duration::from_millis(1))).unwrap());
        process.signal(Signal::KILL).unwrap();
        assert!(process.wait_end(None).unwrap());
        assert!(!process.alive(), "not waited for yet, so a zombie");
        assert_eq!(process.zombie_code(), is_root().then_some(137));
        assert_eq!(process.signal(Signal::KILL).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(exit_code(child.wait().unwrap()), 137);
        assert!(!process.alive());
    }

    #[test]
    fn a_number_given_to_somebody_else_is_noticed() {
        let me = ProcessRef::me().unwrap();
        let earlier = ProcessRef { start_time: me.start_time - 1, ..me };
        assert!(me.alive() && !earlier.alive());
        assert_eq!(earlier.signal(Signal::TERM).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "waited for by wait_child")]
    fn a_childs_code_is_a_shells() {
        let _guard = crate::testing::starting_programs();
        for (script, code) in [("exit 3", 3), ("kill -TERM $$", 143)] {
            let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            assert_eq!(wait_child(child.id()).unwrap(), code, "{script}");
        }
    }
}
