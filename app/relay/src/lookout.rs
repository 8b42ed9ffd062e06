//! The name servers of the host, followed by a process beside the relay, which itself can open no file.
//!
//! ```text
//!   podwire-lookout                                             podwire-relay, in its cage
//!   /etc/resolv.conf ──inotify──> HostServers ──["192.0.2.53:53"]──> Lookout::news ──> Book
//!                                             <─────────"look"────── at most once a second, while names are asked
//! ```
//!
//! **How it works.** The child is a copy of the relay from before it had any thread. It reads files and writes to the
//! socket, and has no other call, no capability and no file it could write to; no octet of a container ever comes to
//! it. Numbers of links (`fe80::1%eth0`) are those of the host, where it lives.
//!
//! **Limits.** When it is killed the relay goes on with the servers it knows, until it is asked whether all is well:
//! then it says that it is alone, and whoever asked starts another one, which is no copy of the relay.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use engine::HostServers;
use engine::relay_client::LOOKOUT_NAME as NAME;
use linux::Packets;
use linux::process::Fork;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cage;

/// How long the first servers are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is asked to look without having been told of a change: not all changes can be seen to happen.
const GLANCE: Duration = Duration::from_secs(1);

/// Servers in a message; more are not asked.
const SERVERS_MAX: usize = 64;

/// The process, seen from the relay.
#[derive(Debug)]
pub struct Lookout {
    packets: Packets,
    asked: Option<Instant>,
    /// It has ended.
    is_gone: bool,
}

impl Lookout {
    /// Starts it. The calling process has one thread.
    ///
    /// # Errors
    ///
    /// Those of fork(2) and socketpair(2), and that of a process with more threads.
    pub fn beside(conf: &Path, stubs_servers: &Path) -> io::Result<Self> {
        let (ours, theirs) = Packets::pair()?;
        linux::process::forget_children();
        match linux::process::fork_alone()? {
            Fork::Parent(_) => Ok(Self::of(ours)),
            Fork::Child => {
                // It is our end of the socket that tells it of our end.
                drop(ours);
                let done = alone(&theirs, conf, stubs_servers);
                std::process::exit(i32::from(done.is_err()))
            }
        }
    }

    /// The one at the other end: see [`watch`].
    pub fn of(packets: Packets) -> Self {
        Self { packets, asked: None, is_gone: false }
    }

    /// The first servers, which are waited for.
    pub fn first(&mut self) -> Vec<SocketAddr> {
        let _ = wait(&self.packets, PollFlags::IN, None, Some(PATIENCE));
        self.news().unwrap_or_default()
    }

    /// The servers, if they are others than before.
    pub fn news(&mut self) -> Option<Vec<SocketAddr>> {
        let mut news = None;
        while !self.is_gone && is_ready(&self.packets, PollFlags::IN) {
            match self.packets.receive() {
                Ok(Some((message, _))) => news = serde_json::from_slice(&message).ok().or(news),
                _ => self.lost(),
            }
        }
        news
    }

    /// Names are asked: it is to look again, if it has not for a while.
    pub fn look(&mut self, now: Instant) {
        let is_due = self.asked.is_none_or(|asked| now >= asked + GLANCE);
        if self.is_gone || !is_due || !is_ready(&self.packets, PollFlags::OUT) {
            return;
        }
        self.asked = Some(now);
        if self.packets.send(b"look", None).is_err() {
            self.lost();
        }
    }

    /// Has it ended, as far as has been noticed?
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    fn lost(&mut self) {
        self.is_gone = true;
        tracing::warn!("{NAME} has ended: changes of the host's resolv.conf are not followed any more");
    }
}

/// What `main` runs when its own name is [`NAME`]: one that follows a lookout that was killed. Returns the exit code.
pub fn lookout_main() -> i32 {
    let of_relay = crate::first_conversation();
    let (conf, stubs_servers) = (Path::new(engine::RESOLV_CONF), Path::new(engine::RESOLVED_SERVERS));
    i32::from(of_relay.and_then(|theirs| alone(&theirs, conf, stubs_servers)).is_err())
}

/// The life of the process.
fn alone(theirs: &Packets, conf: &Path, stubs_servers: &Path) -> io::Result<()> {
    linux::process::set_name(NAME)?;
    // Else whoever talks to the relay by it would not see its end.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    // Before the cage, in which no inotify is made.
    let host = HostServers::new(conf, stubs_servers, Instant::now());
    cage::of_lookout()?;
    tell(theirs, host)
}

/// Follows the files until the other end is gone, and tells it of the servers they name.
pub fn watch(theirs: &Packets, conf: &Path, stubs_servers: &Path) -> io::Result<()> {
    tell(theirs, HostServers::new(conf, stubs_servers, Instant::now()))
}

fn tell(theirs: &Packets, mut host: HostServers) -> io::Result<()> {
    let mut is_told = false;
    loop {
        let now = Instant::now();
        if host.deadline().is_some_and(|due| due <= now) && host.refresh() {
            is_told = false;
        }
        // Who does not want to hear it now hears the newest when he does.
        if !is_told && is_ready(theirs, PollFlags::OUT) {
            say(theirs, &host)?;
            is_told = true;
        }
        let wanted = if is_told { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let left = host.deadline().map(|due| due.saturating_duration_since(now));
        wait(theirs, wanted, host.fd(), left)?;
        let now = Instant::now();
        host.noticed(now);
        if is_ready(theirs, PollFlags::IN) {
            let Some(_) = theirs.receive()? else { return Ok(()) };
            host.glance(now);
        }
    }
}

fn say(theirs: &Packets, host: &HostServers) -> io::Result<()> {
    let servers = host.servers();
    let message = serde_json::to_vec(&servers[..servers.len().min(SERVERS_MAX)])?;
    theirs.send(&message, None)
}

/// Waits until the socket is ready, or there is something to read at the other descriptor.
fn wait(
    packets: &Packets,
    flags: PollFlags,
    other: Option<BorrowedFd<'_>>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let mut fds = vec![PollFd::from_borrowed_fd(packets.as_fd(), flags)];
    fds.extend(other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)));
    // Rounded up: else the last part of a millisecond would be spent awake.
    let ms = timeout.map(|timeout| timeout.as_nanos().div_ceil(1_000_000).min(60_000) as i64);
    let timeout = ms.map(|ms| Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_ready(packets: &Packets, flags: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(packets.as_fd(), flags)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
