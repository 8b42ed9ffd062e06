//! Loops for the connections of which the process's own table of descriptors has no more to spare.
//!
//! ```text
//!   outbound  ──┐ a pair that is joined, once there are many  ┌──> overflow 0    a table of its own
//!   published ──┴──────── SCM_RIGHTS ─────────────────────────┴──> overflow 1    a table of its own
//! ```
//!
//! The hard limit of descriptors (RLIMIT_NOFILE) holds for each table, and a thread may have one of its own. Where the
//! limit is high, as it is on most machines, there are no such loops.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use linux::fds;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::Counts;
use super::pump::Pair;
use super::wires::{BYTES, Bell, Happened, Joined, Wires};

const BELL: u32 = 0;
const ARRIVALS: u32 = 1;

/// The longest that tells of a pair: an address and a number, as JSON.
const MESSAGE_MAX: usize = 256;

/// All of them.
#[derive(Debug)]
pub(super) struct Overflow(Vec<Keeper>);

#[derive(Debug)]
struct Keeper {
    socket: OwnedFd,
    commands: Sender<Reset>,
    bell: Bell,
    /// How many connections it has, and may have.
    here: Arc<AtomicUsize>,
    room: usize,
}

/// Ends the connections of which container and tag are picked.
struct Reset {
    picks: Arc<dyn Fn(IpAddr, u32) -> bool + Send + Sync>,
    done: SyncSender<()>,
}

impl std::fmt::Debug for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reset")
    }
}

impl Overflow {
    /// Starts so many, each with room for so many connections.
    pub(super) fn start(loops: usize, room: usize, counts: &Counts) -> io::Result<Self> {
        (0..loops).map(|number| Keeper::start(number, room, counts.clone())).collect::<io::Result<Vec<_>>>().map(Self)
    }

    /// Gives a pair away, which counts already. False when nobody has room: it is still the caller's then.
    pub(super) fn take(&self, pair: &Pair, container: IpAddr, tag: u32) -> bool {
        let Some(keeper) = self.0.iter().find(|keeper| keeper.here.load(Ordering::Relaxed) < keeper.room) else {
            return false;
        };
        let Ok(message) = serde_json::to_vec(&(container, tag, pair.ended)) else { return false };
        // Before it is sent: it may end there at once.
        keeper.here.fetch_add(1, Ordering::Relaxed);
        let sent = fds::send_two(&keeper.socket, [pair.sides[0].as_fd(), pair.sides[1].as_fd()], &message).is_ok();
        if !sent {
            keeper.here.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }

    /// Ends those for which `picks` is true, and waits for it.
    pub(super) fn reset_those(&self, picks: impl Fn(IpAddr, u32) -> bool + Send + Sync + 'static) {
        let picks: Arc<dyn Fn(IpAddr, u32) -> bool + Send + Sync> = Arc::new(picks);
        let ask = |keeper: &Keeper| {
            let (done, wait) = mpsc::sync_channel(1);
            keeper.commands.send(Reset { picks: Arc::clone(&picks), done }).ok()?;
            keeper.bell.ring();
            Some(wait)
        };
        let waits: Vec<Receiver<()>> = self.0.iter().filter_map(ask).collect();
        // A loop that has ended ends the process.
        waits.into_iter().for_each(|wait| wait.recv().unwrap_or(()));
    }
}

impl Keeper {
    fn start(number: usize, room: usize, counts: Counts) -> io::Result<Self> {
        // Who gives waits until there is room: the other side does nothing but take.
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (bell, theirs) = (Bell::new()?, Arc::new(theirs));
        let here = Arc::new(AtomicUsize::new(0));
        let (commands, received) = mpsc::channel();
        let (ready, wait) = mpsc::sync_channel(1);
        let (count, ring, arrivals) = (Arc::clone(&here), bell.clone(), Arc::clone(&theirs));
        spawn(&format!("overflow {number}"), move || {
            let [arrivals, ring] = {
                let own = fds::own_table([&*arrivals, ring.fd()])?;
                // What is dropped here is not the last: its number is another table's.
                drop((arrivals, ring));
                own
            };
            let serving = (|| {
                let wires = Wires::new(counts, count)?;
                wires.watch(&ring, BELL)?;
                wires.watch(&arrivals, ARRIVALS)?;
                Ok::<_, io::Error>(wires)
            })();
            // Whoever starts us waits.
            let _ = ready.send(serving.is_ok());
            run(serving?, &arrivals, &Bell::from(ring), &received)
        })?;
        let is_ready = wait.recv().unwrap_or(false);
        drop(theirs);
        match is_ready {
            true => Ok(Self { socket, commands, bell, here, room }),
            false => Err(io::Error::other("a loop for many connections does not start")),
        }
    }
}

/// As `super::spawn`; but nothing is logged here, where the log's number is that of some connection.
fn spawn(name: &str, body: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let body = move || {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        std::process::abort();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

fn run(mut wires: Wires<()>, arrivals: &OwnedFd, bell: &Bell, commands: &Receiver<Reset>) -> io::Result<()> {
    loop {
        wires.wait(None, |wires, happened| match happened {
            Happened::Own(BELL) => {
                bell.hush();
                // What was given to us before is meant too.
                arrive(wires, arrivals);
                for Reset { picks, done } in commands.try_iter() {
                    wires.reset_those(&*picks);
                    let _ = done.send(());
                }
            }
            Happened::Own(_) => arrive(wires, arrivals),
            Happened::Connecting(..) => {}
        })?;
    }
}

fn arrive(wires: &mut Wires<()>, arrivals: &OwnedFd) {
    let mut room = [0; MESSAGE_MAX];
    while let Ok((length, sides)) = fds::receive_two(arrivals, &mut room) {
        let Ok((container, tag, ended)) = serde_json::from_slice(&room[..length]) else { continue };
        let mut pair = Pair::new(sides);
        pair.ended = ended;
        let id = wires.put(Joined { pair, container, tag, armed: [false; 2] });
        wires.register(id, [true; 2], BYTES);
    }
}
