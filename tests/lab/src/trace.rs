//! A ptrace tool that ends, or makes fail, one system call of one podwire process.
//!
//! ```text
//!   labtool trace --role 0 --at 137 --kill            -- podwire run -d banner
//!   labtool trace --role 1 --at 20  --errno ENOSPC    -- podwire run -d banner
//!   labtool trace --report FILE                       -- podwire run -d banner     counts only
//!   labtool trace --attach 4711 --at 9 --kill         -- podwire run -d banner     process 4711 meanwhile
//! ```
//!
//! With `--attach`, role 0 is a process that runs already, and the command itself is let alone. Else role 0 is the command itself, role 1 the next podwire image that one of its descendants executes (the
//! monitor), and so on. Other programs (the OCI runtime, the container) are let go when they are executed.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What happens at the chosen system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// Nothing: calls are only counted.
    Nothing,
    /// The process is killed before the call is done.
    Kill,
    /// The call is not done and fails with this number.
    Errno(i32),
}

/// Which system call of which process.
#[derive(Debug, Clone)]
pub struct Aim {
    /// The number of the user, and of his group, who runs the command; us when absent.
    pub user: Option<u32>,
    /// The process: 0 the command, 1 the monitor.
    pub role: usize,
    /// A process that runs already, instead of the command and what it starts.
    pub attach: Option<u32>,
    /// Its n-th system call, from 1.
    pub at: u64,
    /// What happens then.
    pub blow: Blow,
    /// Where `role<TAB>calls` lines are written, and `hit<TAB>number<TAB>first argument` of the call that was hit.
    pub report: Option<PathBuf>,
}

/// Runs the command under the tracer; its exit code.
pub fn run(aim: &Aim, argv: &[String]) -> Result<i32> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).args(argv).process_group(0);
    if let Some(user) = aim.user {
        command.uid(user).gid(user);
    }
    let child = command.spawn().context("/bin/sh")?;
    let child = Pid::from_raw(child.id().cast_signed());
    waitpid(child, Some(WaitPidFlag::WUNTRACED))?;
    let mut tracer = Tracer { aim: aim.clone(), tasks: HashMap::new(), calls: BTreeMap::new(), roles: 0, hit: None };
    let follow = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
    let all = follow | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACESYSGOOD;
    let attached = match aim.attach {
        None => ptrace::seize(child, all).map_err(Into::into),
        Some(running) => tracer.attach(running, all),
    };
    if attached.is_err() {
        // Else it would stand there for ever.
        let _ = kill(child, Signal::SIGKILL);
        attached?;
    }
    kill(child, Signal::SIGCONT)?;
    let code = tracer.follow(child)?;
    tracer.report()?;
    Ok(code)
}

/// One traced task (a thread or process).
#[derive(Debug, Clone, Copy, Default)]
struct Task {
    role: Option<usize>,
    /// Between a call's entry and its exit.
    in_call: bool,
    /// The exit of this call must show this error.
    fail: Option<i32>,
}

/// No full disk and no full table makes these fail.
const UNFAILING: [i64; 16] = [
    nix::libc::SYS_brk,
    nix::libc::SYS_close,
    nix::libc::SYS_munmap,
    nix::libc::SYS_rt_sigreturn,
    nix::libc::SYS_exit,
    nix::libc::SYS_futex,
    nix::libc::SYS_exit_group,
    nix::libc::SYS_getpid,
    nix::libc::SYS_gettid,
    nix::libc::SYS_getppid,
    nix::libc::SYS_getuid,
    nix::libc::SYS_geteuid,
    nix::libc::SYS_getgid,
    nix::libc::SYS_getegid,
    nix::libc::SYS_umask,
    nix::libc::SYS_getrandom,
];

/// These a signal interrupts, when they wait (signal(7)); reads and writes only of what is no file.
const INTERRUPTED: [i64; 22] = [
    nix::libc::SYS_read,
    nix::libc::SYS_readv,
    nix::libc::SYS_write,
    nix::libc::SYS_writev,
    nix::libc::SYS_poll,
    nix::libc::SYS_ppoll,
    nix::libc::SYS_select,
    nix::libc::SYS_pselect6,
    nix::libc::SYS_epoll_wait,
    nix::libc::SYS_epoll_pwait,
    nix::libc::SYS_nanosleep,
    nix::libc::SYS_clock_nanosleep,
    nix::libc::SYS_accept,
    nix::libc::SYS_accept4,
    nix::libc::SYS_connect,
    nix::libc::SYS_recvfrom,
    nix::libc::SYS_recvmsg,
    nix::libc::SYS_sendto,
    nix::libc::SYS_sendmsg,
    nix::libc::SYS_wait4,
    nix::libc::SYS_waitid,
    nix::libc::SYS_flock,
];

/// May this call fail with this number?
fn fails(pid: Pid, (call, argument): (i64, i64), errno: i32) -> bool {
    // Flags are told and locks given back whatever the machine is short of.
    if call == nix::libc::SYS_fcntl && ![nix::libc::F_DUPFD, nix::libc::F_DUPFD_CLOEXEC].contains(&asked_of_fcntl(pid))
    {
        return false;
    }
    if errno != nix::libc::EINTR {
        // What comes over a local socket is there already; std waits for the child when it cannot read of its exec.
        let unfailing = UNFAILING.contains(&call) || call == nix::libc::SYS_recvfrom && is_local_socket(pid, argument);
        return !unfailing;
    }
    let of_file = || {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{argument}")).unwrap_or_default();
        link.starts_with("/") && !link.starts_with("/dev")
    };
    let transfers = [nix::libc::SYS_read, nix::libc::SYS_readv, nix::libc::SYS_write, nix::libc::SYS_writev];
    INTERRUPTED.contains(&call) && !(transfers.contains(&call) && of_file())
}

/// Is it a unix(7) socket?
fn is_local_socket(pid: Pid, fd: i64) -> bool {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
    let link = link.to_string_lossy();
    let Some(inode) = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) else { return false };
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    table.lines().any(|line| line.split_whitespace().nth(6) == Some(inode))
}

struct Tracer {
    aim: Aim,
    tasks: HashMap<Pid, Task>,
    calls: BTreeMap<usize, u64>,
    roles: usize,
    /// The call that was hit, and its first argument.
    hit: Option<(i64, i64)>,
}

impl Tracer {
    /// Every thread of a process that runs; those it starts meanwhile are followed.
    fn attach(&mut self, process: u32, options: Options) -> Result<()> {
        for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let thread = Pid::from_raw(entry?.file_name().to_string_lossy().parse()?);
            ptrace::seize(thread, options)?;
            self.tasks.insert(thread, Task { role: Some(0), ..Task::default() });
            // Its next stop begins the counting: the call it may be in is made again.
            ptrace::interrupt(thread)?;
        }
        self.roles = 1;
        Ok(())
    }

    /// Until the command has ended; then whatever else is traced is let go by our own end.
    fn follow(&mut self, main: Pid) -> Result<i32> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Err(Errno::ECHILD) => bail!("the command vanished"),
                other => other?,
            };
            match status {
                WaitStatus::Exited(pid, code) if pid == main => return Ok(code),
                WaitStatus::Signaled(pid, signal, _) if pid == main => return Ok(128 + signal as i32),
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.tasks.remove(&pid);
                }
                WaitStatus::PtraceSyscall(pid) => self.call(pid),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
                WaitStatus::Stopped(pid, signal) => resume(pid, Some(signal)),
                _ => {}
            }
        }
    }

    fn event(&mut self, pid: Pid, event: i32) {
        const EXEC: i32 = nix::libc::PTRACE_EVENT_EXEC;
        const FORKS: [i32; 3] =
            [nix::libc::PTRACE_EVENT_FORK, nix::libc::PTRACE_EVENT_VFORK, nix::libc::PTRACE_EVENT_CLONE];
        match event {
            EXEC => self.executed(pid),
            fork if FORKS.contains(&fork) => {
                // The child may have reported before its parent: only its role is set here.
                if let (Ok(child), Some(parent)) = (ptrace::getevent(pid), self.tasks.get(&pid).copied()) {
                    let child = self.tasks.entry(Pid::from_raw(i32::try_from(child).unwrap_or(0))).or_default();
                    child.role = child.role.or(parent.role);
                }
                resume(pid, None);
            }
            _ => resume(pid, None),
        }
    }

    /// A new program: another podwire is the next role, anything else is let go.
    fn executed(&mut self, pid: Pid) {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let is_podwire = exe.file_name().is_some_and(|name| name == "podwire");
        if !is_podwire {
            let _ = ptrace::detach(pid, None);
            self.tasks.remove(&pid);
            return;
        }
        // An exec event lies between the entry and the exit of execve.
        self.tasks.insert(pid, Task { role: Some(self.roles), in_call: true, fail: None });
        self.roles += 1;
        resume(pid, None);
    }

    fn call(&mut self, pid: Pid) {
        let task = self.tasks.entry(pid).or_default();
        task.in_call = !task.in_call;
        if !task.in_call {
            if let Some(errno) = task.fail.take() {
                set_result(pid, errno);
            }
            return resume(pid, None);
        }
        let Some(role) = task.role else { return resume(pid, None) };
        let count = self.calls.entry(role).or_default();
        *count += 1;
        if (role, *count) != (self.aim.role, self.aim.at) || self.hit.is_some() {
            return resume(pid, None);
        }
        match self.aim.blow {
            Blow::Nothing => {}
            Blow::Kill => {
                self.hit = Some(described(pid));
                let _ = kill(group(pid), Signal::SIGKILL);
            }
            // These do not fail: the next one will.
            Blow::Errno(errno) if !fails(pid, described(pid), errno) => self.aim.at += 1,
            Blow::Errno(errno) => {
                self.hit = Some(described(pid));
                task.fail = Some(errno);
                skip_call(pid);
            }
        }
        resume(pid, None);
    }

    fn report(&self) -> Result<()> {
        let Some(path) = &self.aim.report else { return Ok(()) };
        let mut text: String = self.calls.iter().map(|(role, calls)| format!("{role}\t{calls}\n")).collect();
        if let Some((number, argument)) = self.hit {
            text += &format!("hit\t{number}\t{argument}\n");
        }
        Ok(std::fs::write(path, text)?)
    }
}

/// A task that was killed meanwhile says ESRCH; its end is reported by the next wait.
fn resume(pid: Pid, signal: Option<Signal>) {
    let _ = ptrace::syscall(pid, signal);
}

/// The process that a thread belongs to.
fn group(pid: Pid) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    tgid.map_or(pid, Pid::from_raw)
}

#[cfg(target_arch = "x86_64")]
fn described(pid: Pid) -> (i64, i64) {
    ptrace::getregs(pid).map_or((-1, -1), |regs| (regs.orig_rax.cast_signed(), regs.rdi.cast_signed()))
}

#[cfg(target_arch = "x86_64")]
fn asked_of_fcntl(pid: Pid) -> i32 {
    ptrace::getregs(pid).map_or(-1, |regs| regs.rsi as i32)
}

#[cfg(target_arch = "x86_64")]
fn skip_call(pid: Pid) {
    if let Ok(mut regs) = ptrace::getregs(pid) {
        regs.orig_rax = u64::MAX;
        let _ = ptrace::setregs(pid, regs);
    }
}

#[cfg(target_arch = "x86_64")]
fn set_result(pid: Pid, errno: i32) {
    if let Ok(mut regs) = ptrace::getregs(pid) {
        regs.rax = i64::from(-errno).cast_unsigned();
        let _ = ptrace::setregs(pid, regs);
    }
}

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the tracer knows the registers of x86_64 only");
