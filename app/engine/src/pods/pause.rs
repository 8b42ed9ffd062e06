//! The first process of a pod's own infra container: it holds namespaces, reaps, and waits to be stopped.
//!
//! ```text
//!   monitor ── a thread: enter the sandbox, new ipc, uts (pid) ──spawn──> podwire-pause ── shut in ──"ready"──┐
//!      └─<──────────────────────────────────────────────────────────────────────────────────────────────────┘
//!      the record says so ──"stay"──> it stays, whatever becomes of its monitor
//! ```
//!
//! **Invariants.** Until it is told to stay it ends with its monitor, for no record knows it yet. It has no file, no
//! right and no descriptor but its signals: with shared process numbers members see it as number 1.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use linux::cage::{self, Call};
use linux::held::{Held, hold, hold_in};
use linux::userns::UserNs;
use linux::{NetNs, ProcessRef, Signal, SignalFd, Spawn, process};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::CapabilitySet;

use super::Share;
use crate::config::NetworkMode;
use crate::error::{Error, Result};
use crate::record::ContainerRecord;

/// The name (`argv[0]`) under which the binary is a pod's first process.
pub const PAUSE_NAME: &str = "podwire-pause";

/// One that waits for its record.
pub(crate) struct Pause {
    pub(crate) init: ProcessRef,
    socket: UnixStream,
}

impl Pause {
    /// Starts one in the sandbox `netns`, in the host's network, or without any.
    pub(crate) fn start(record: &ContainerRecord, netns: Option<&Path>, users: Option<&UserNs>) -> Result<Self> {
        let held = Held {
            network: netns.is_none() && record.settings.network.mode == NetworkMode::None,
            processes: record.held().is_some_and(|held| held.contains(&Share::Pid)),
        };
        let start = || Self::start_in(netns, users, held, &record.settings.hostname);
        // A thread of its own, whose namespaces go with it.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, start)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug; see userdata/monitor.log")))
        })
        .map_err(|e| Error::cannot_start(format!("cannot start the pod's first process: {e}")))
    }

    fn start_in(netns: Option<&Path>, users: Option<&UserNs>, held: Held, hostname: &str) -> io::Result<Self> {
        if let Some(path) = netns {
            NetNs::open(path)?.enter()?;
        }
        match users {
            Some(users) => hold_in(users, held, hostname)?,
            None => hold(held, hostname)?,
        }
        if held.network {
            let done = netlink::Socket::open(netlink::Protocol::Route)?.batch(&[netlink::rtnetlink::set_up("lo")])?;
            done.into_iter().try_for_each(|done| done.map_err(io::Error::from))?;
        }
        let (mut ours, theirs) = UnixStream::pair()?;
        let mut call = Spawn::ourselves(PAUSE_NAME);
        call.command().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).env_clear();
        // Only a process of one thread may go there: it does so itself.
        call.command().args(users.map(UserNs::path));
        let child = call.spawn()?;
        let mut ready = [0];
        if ours.read(&mut ready)? == 0 {
            return Err(io::Error::other("it ended at once; see userdata/monitor.log"));
        }
        Ok(Self { init: ProcessRef::of(child.id())?, socket: ours })
    }

    /// It is known now.
    pub(crate) fn stay(mut self) -> Result<()> {
        self.socket.write_all(&[1]).map_err(|e| Error::at("the pod's first process", e))
    }
}

/// What `main` runs when its own name is [`PAUSE_NAME`]. Returns the process's exit code.
pub fn pause_main() -> i32 {
    let _ = process::set_name(PAUSE_NAME);
    match hold_on() {
        Ok(()) => 0,
        Err(error) => {
            // Standard error is its monitor's.
            let _ = writeln!(io::stderr(), "{PAUSE_NAME}: {error}");
            1
        }
    }
}

/// The system calls of a process that waits, of this one and of a [keeper](crate::keeper), and of the C library's end.
const ENOUGH: [i64; 21] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    // A keeper's.
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_dup3,
    libc::SYS_ppoll,
    libc::SYS_wait4,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_brk,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The calls that may be made for ever, whatever their arguments.
pub(crate) fn enough() -> Vec<Call> {
    let mut calls = ENOUGH.map(Call::always).to_vec();
    // Of the older architecture alone.
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_poll, libc::SYS_dup2].map(Call::always));
    calls
}

fn hold_on() -> io::Result<()> {
    let stops = [Signal::TERM, Signal::INT];
    // As number 1 it has the orphans.
    let mut signals = SignalFd::block(&[Signal::TERM, Signal::INT, Signal::CHLD])?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let users = std::env::args_os().nth(1).map(File::open).transpose()?;
    // Any directory that is everywhere will do for a root: it is covered, and gone with all else.
    cage::leave_mounts()?;
    cage::stand_nowhere(Path::new("/proc"))?;
    if let Some(users) = users {
        linux::userns::enter(&users)?;
    }
    cage::keep_only(CapabilitySet::empty())?;
    cage::keep_secret()?;
    cage::call_only(&enough(), &[])?;
    let mut monitor = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(&null)?;
    monitor.write_all(&[1])?;
    if monitor.read(&mut [0])? == 0 {
        return Ok(());
    }
    drop(monitor);
    rustix::stdio::dup2_stderr(&null)?;
    loop {
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&signals, PollFlags::IN)], None))?;
        while let Some(signal) = signals.next()? {
            if stops.contains(&signal) {
                return Ok(());
            }
        }
        while process::reap()?.is_some() {}
    }
}
