//! The loop of the DHCP clients: sockets inside containers' sandboxes around the machine in `core/dhcp`.
//!
//! ```text
//!   store ─ Engine::lan_wishes ─> Dhcp::follow ─> a seat for each container on each network with DHCP
//!   eth0 in its sandbox ─FrameSocket─> Seat ─Event─> dhcp::Client ─Output─> frames; a UDP socket to renew
//!   timerfd (CLOCK_BOOTTIME) ────────────^                          └─Leased, Lost─> follower ─> Engine::follow_lease
//!   run, network connect ── Dhcp::wait ──> an answer when the container has what was leased       (host lock, plan)
//!   stop, rm ── Dhcp::release ──> RELEASE is on the wire when it returns
//! ```
//!
//! **How it works.** One thread waits for everything and never for a lock; what a lease changes in the kernel is done
//! by another one, the follower, which is to the store and the kernel as a command is. A socket is open only while
//! something is heard or said: a seat whose lease rests costs its namespace's descriptor and nothing else.
//!
//! **Invariants.** What is known here follows from the store: another netd goes on with the same leases. A container
//! that was given back is looked after no more, whatever its follower still does.
//!
//! **At the bounds.** [`SEATS_MAX`] clients, fewer where descriptors are few; one more is told so, whoever waits for it. Of one socket a batch of frames
//! at a time, then the others have their turn. A socket that cannot be opened is tried again ever more slowly.
//!
//! **Start reading** at [`Dhcp`], then `serve.rs`, then `seat.rs`.

mod follower;
mod seat;
mod serve;

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::time::Duration;

use engine::{EngineOptions, LanWish};
use model::{ContainerId, NetworkId};
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::CapabilitySet;

use serve::{Command, Loop};

/// Clients at a time, where there are descriptors enough.
const SEATS_MAX: u64 = 1024;

/// A seat's namespace, its frames, its port.
const DESCRIPTORS_EACH: u64 = 3;

/// How many clients there can be in a process of so many descriptors.
fn seats(descriptors: u64) -> u64 {
    (descriptors / 16).clamp(8, SEATS_MAX)
}

/// What others have to leave to us of so many descriptors.
pub(crate) fn share(descriptors: u64) -> u64 {
    seats(descriptors) * DESCRIPTORS_EACH
}

/// The clients, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Dhcp {
    handle: Handle,
}

/// Speaks to the thread.
#[derive(Debug, Clone)]
struct Handle {
    commands: Sender<Command>,
    bell: Arc<OwnedFd>,
}

impl Dhcp {
    /// Starts the threads; nobody is looked after yet.
    pub(crate) fn start(options: EngineOptions) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (commands, receiver) = mpsc::channel();
        let handle = Handle { commands, bell: Arc::clone(&bell) };
        let jobs = follower::start(options, handle.clone())?;
        let seats = seats(linux::fds::raise_limit()?) as usize;
        let clients = Loop::new(seats, bell, receiver, jobs)?;
        std::thread::Builder::new().name("dhcp".to_owned()).spawn(|| {
            let served = catch_unwind(AssertUnwindSafe(|| {
                // To enter sandboxes, and open sockets for frames and port 68 there.
                let kept = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::NET_BIND_SERVICE;
                crate::read_strangers(kept).expect("a thread may give up privileges");
                clients.run();
            }));
            // The panic itself has been told; others bring back a netd that is gone.
            served.unwrap_or_else(|_| std::process::abort());
        })?;
        Ok(Self { handle })
    }

    /// Looks after these and nobody else; with a container, of that one.
    pub(crate) fn follow(&self, container: Option<ContainerId>, wishes: Vec<LanWish>) -> io::Result<()> {
        self.handle.ask(|reply| Command::Follow { container, wishes, reply })
    }

    /// Waits until the container has everything that is to be leased for it, for at most `patience`. `namespace`: its
    /// own, where that is not seen from here.
    ///
    /// The inner error says what is missing, in a sentence.
    pub(crate) fn wait(
        &self,
        container: ContainerId,
        patience: Duration,
        namespace: Option<OwnedFd>,
    ) -> io::Result<Result<(), String>> {
        self.handle.ask(|reply| Command::Wait { container, patience, namespace, reply })
    }

    /// Gives back what the container has, on one network or on all, and looks after it no more.
    pub(crate) fn release(&self, container: ContainerId, network: Option<NetworkId>) -> io::Result<()> {
        self.handle.ask(|reply| Command::Release { container, network, reply })
    }
}

impl Handle {
    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> io::Result<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.say(command(reply))?;
        answer.recv().map_err(|_| ended())
    }

    fn say(&self, command: Command) -> io::Result<()> {
        self.commands.send(command).map_err(|_| ended())?;
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the DHCP clients' thread has ended")
}
