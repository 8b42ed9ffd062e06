//! The DNS server's loop: sockets around the machine in `core/dns`.
//!
//! ```text
//!   web 10.89.0.2 ─udp─> listeners ─recvmmsg─┐                              ┌─> questions ──> 192.0.2.53
//!                 ─tcp─> listeners ─> clients┴─Event─> dns::Server ─Output─┤   (a socket each)
//!                 <────────────────sendmmsg, write──────────────────────────┘
//!   Dns::listen, follow ──bell──┐
//!   /etc/resolv.conf ─inotify─> HostServers ─> Zones anew
//! ```
//!
//! **How it works.** One thread waits by epoll for everything, in turns: each socket gives at most a batch, then the
//! others have theirs. Nothing in it blocks. [`Dns`] speaks to the thread through a channel and waits for its reply.
//!
//! **Invariants.** No error ends a listener: one that would come again at once makes it rest for a moment. Every
//! other error of a socket ends that socket. Descriptors are divided beforehand (`budget.rs`), so that neither
//! upstreams nor connections take those that listeners need. An answer leaves by the socket its query came in by.
//!
//! **Limits.** A panic in the thread (no bytes are known that cause one) ends the process: others bring back a netd
//! that is gone, but not one that only answers nothing.
//!
//! **Start reading** at [`Dns`], then `serve.rs`.

mod budget;
mod clients;
mod listeners;
mod poller;
mod questions;
mod serve;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use dns::{Counts, Directory, Limits, Zones};
use model::NetworkId;
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::CapabilitySet;

use budget::Budget;
use serve::{Command, Loop, Upstreams};

/// The DNS server, on a thread of its own, in the network namespace of the thread that starts it.
#[derive(Debug)]
pub struct Dns {
    commands: Sender<Command>,
    bell: Arc<OwnedFd>,
    upstreams: Upstreams,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Starts the thread; nobody is served yet. `limits` are lowered to what the limit on descriptors allows, which
    /// is raised as far as it goes.
    pub fn start(limits: Limits) -> io::Result<Self> {
        let descriptors = linux::fds::raise_limit()?;
        let budget = Budget::new(descriptors - crate::dhcp::share(descriptors).min(descriptors), limits);
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (commands, receiver) = mpsc::channel();
        let upstreams = Upstreams::default();
        let nobody = Directory::new(engine::DNS_SUFFIX.parse().map_err(io::Error::other)?);
        let serving = Loop::new(&budget, nobody, Arc::clone(&bell), receiver, Arc::clone(&upstreams))?;
        let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(|| {
            let served = catch_unwind(AssertUnwindSafe(|| {
                // A question may leave by a port below 1024.
                crate::read_strangers(CapabilitySet::NET_BIND_SERVICE).expect("a thread may give up privileges");
                serving.run();
            }));
            // The panic itself has been told.
            served.unwrap_or_else(|_| std::process::abort());
        })?;
        Ok(Self { commands, bell, upstreams, thread: Some(thread) })
    }

    /// Listens for `network` by UDP and TCP on every one of its `gateways`, which need not be there yet, all on one
    /// port: the `wished` one if it is free everywhere, else another. The port; for gateways that are being listened
    /// on already, the one they have.
    ///
    /// Errors: there is no such port; no descriptors are left; IPv6 is not in this kernel.
    pub fn listen(&self, network: NetworkId, gateways: &[IpAddr], wished: Option<u16>) -> io::Result<u16> {
        let gateways = gateways.to_vec();
        self.ask(|reply| Command::Listen { network, gateways, wished, reply })?
    }

    /// Listens for no other networks any more; queries that are being forwarded for those get no answer.
    pub fn listen_only(&self, networks: BTreeSet<NetworkId>) {
        self.say(|reply| Command::ListenOnly { networks, reply });
    }

    /// Other names: when this returns, queries are answered from them. The directory's upstreams are replaced by
    /// those of the host's resolv.conf, now and whenever that changes.
    pub fn follow(&self, mut directory: Directory) {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).clone_into(&mut directory.upstreams);
        // Here and not in the loop, which would answer nobody meanwhile.
        let zones = Arc::new(Zones::new(&directory));
        self.say(|reply| Command::Follow { directory, zones, reply });
    }

    /// What happened how often since the start.
    pub fn counts(&self) -> Counts {
        self.ask(|reply| Command::Count { reply }).unwrap_or_default()
    }

    fn say(&self, command: impl FnOnce(SyncSender<()>) -> Command) {
        if let Err(error) = self.ask(command) {
            tracing::error!(%error, "names are served no more");
        }
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> io::Result<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "the DNS server's thread has ended");
        self.commands.send(command(reply)).map_err(|_| ended())?;
        self.ring()?;
        answer.recv().map_err(|_| ended())
    }

    fn ring(&self) -> io::Result<()> {
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let told = self.commands.send(Command::Stop).is_ok() && self.ring().is_ok();
        if let Some(thread) = self.thread.take().filter(|_| told) {
            let _ = thread.join();
        }
    }
}
