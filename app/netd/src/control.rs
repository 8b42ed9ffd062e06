//! What commands say to netd, and what it then does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::error::Result;
use engine::netd::{self, Answer, Request};
use engine::{Engine, Error, Served};
use linux::file::{Durability, write_atomic};
use linux::{HostLock, NsId, PacketListener, Packets, ProcessRef};
use model::{ContainerId, NetworkId};
use netlink::Socket;

use crate::dhcp::Dhcp;
use crate::dns::Dns;
use crate::watch::Watch;

/// Conversations at a time; more than that are ended at once. Who waits for a lease has one for some seconds.
const CONVERSATIONS_MAX: usize = 256;

/// Where a netd is found.
#[derive(Debug)]
pub(crate) struct Places {
    socket: PathBuf,
    pid: PathBuf,
    directory: PathBuf,
    /// The host lock.
    lock: PathBuf,
}

impl Places {
    pub(crate) fn make(namespace: NsId, instance: &str) -> io::Result<Self> {
        let directory = netd::make_directory(namespace)?;
        let (socket, pid) = (netd::socket_path(namespace, instance), netd::pid_path(namespace, instance));
        Ok(Self { socket, pid, directory, lock: linux::lock::path(namespace) })
    }

    /// Sockets of other stores' netds in this network namespace.
    pub(crate) fn neighbours(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "sock") && path != self.socket {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn remove(&self) {
        for path in [&self.socket, &self.pid] {
            let gone = std::fs::remove_file(path);
            if let Err(error) = gone.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }) {
                tracing::warn!(%error, path = %path.display(), "cannot remove");
            }
        }
        // Another store's netd may be in it.
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// Everything netd has.
pub(crate) struct Control {
    engine: Mutex<Engine>,
    served: Mutex<Served>,
    firewall: Socket,
    /// For as long as we are there.
    _watch: Watch,
    dns: Dns,
    dhcp: Dhcp,
    places: Places,
    conversations: AtomicUsize,
}

impl Control {
    pub(crate) fn new(engine: Engine, firewall: Socket, watch: Watch, places: Places) -> Result<Self> {
        let dns = Dns::start(::dns::Limits::default()).map_err(|e| Error::at("cannot start the DNS server", e))?;
        let dhcp = Dhcp::start(engine.options().clone()).map_err(|e| Error::at("cannot start the DHCP clients", e))?;
        Ok(Self {
            engine: Mutex::new(engine),
            served: Mutex::default(),
            firewall,
            _watch: watch,
            dns,
            dhcp,
            places,
            conversations: AtomicUsize::new(0),
        })
    }

    /// From now on commands find us.
    pub(crate) fn listen(&self) -> Result<PacketListener> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        let text = serde_json::to_vec(&me).map_err(Error::usage)?;
        write_atomic(&self.places.pid, &text, 0o600, Durability::ThisBoot)
            .map_err(|e| Error::at(self.places.pid.display(), e))?;
        PacketListener::bind(&self.places.socket).map_err(|e| Error::at(self.places.socket.display(), e))
    }

    /// Listens and answers as the store says, where `container` has changed, or anything. Does anybody need us?
    pub(crate) fn follow_store(&self, container: Option<ContainerId>) -> Result<bool> {
        let mut served = lock(&self.served);
        let engine = lock(&self.engine);
        match container {
            Some(container) => engine.serve_again(&mut served, &container)?,
            None => *served = engine.served()?,
        }
        let directory = served.directory()?;
        for network in &directory.networks {
            let wished = served.port(&network.id);
            let port = self.listen_at(network.id, &network.gateways, wished)?;
            if Some(port) != wished {
                // The watch's first look puts it into the firewall's elements.
                engine.remember_dns_port(&network.id, port)?;
            }
        }
        self.dns.listen_only(directory.networks.iter().map(|network| network.id).collect());
        self.dns.follow(directory);
        let wishes = engine.lan_wishes(container.as_ref())?;
        self.dhcp.follow(container, wishes).map_err(Error::usage)?;
        Ok(served.is_anybody_attached())
    }

    fn listen_at(&self, network: NetworkId, gateways: &[std::net::IpAddr], wished: Option<u16>) -> Result<u16> {
        self.dns
            .listen(network, gateways, wished)
            .map_err(|e| Error::at(format!("cannot serve names on network {}", network.short()), e))
    }

    /// Talks with one client on a thread of its own, to the end.
    pub(crate) fn converse(self: &Arc<Self>, packets: Packets) {
        if self.conversations.fetch_add(1, Ordering::Relaxed) >= CONVERSATIONS_MAX {
            self.conversations.fetch_sub(1, Ordering::Relaxed);
            refuse(&packets, &Error::usage("netd talks with too many commands at once"));
            return;
        }
        let control = Arc::clone(self);
        let talk = move || {
            if let Err(error) = control.talk(&packets) {
                tracing::debug!(%error, "a conversation ended");
            }
            drop(packets);
            if let Err(error) = control.leave_if_forgotten() {
                tracing::warn!(%error, "cannot tell whether anybody needs netd");
            }
            control.conversations.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = std::thread::Builder::new().name("control".to_owned()).spawn(talk) {
            self.conversations.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%error, "cannot talk with a command");
        }
    }

    fn talk(&self, packets: &Packets) -> io::Result<()> {
        // A command may hold the host lock for as long as it works.
        packets.wait_for_ever()?;
        while let Some((message, descriptor)) = packets.receive()? {
            let request = serde_json::from_slice(&message).map_err(|e| Error::at("what netd was told", e));
            let (answer, then) = request
                .and_then(|request| self.handle(request, descriptor))
                .unwrap_or_else(|error| (Answer::Failed(error.to_string()), Then::Listen));
            let lent = (then == Then::Lend).then(|| self.firewall.as_fd());
            packets.send(&serde_json::to_vec(&answer)?, lent)?;
            if then == Then::Leave {
                tracing::debug!("nobody needs names or a watch any more");
                std::process::exit(0);
            }
        }
        Ok(())
    }

    /// A command that was killed may have started us for a container that never came to be. Whoever has the host
    /// lock now will tell us what it did, or end like that one.
    fn leave_if_forgotten(&self) -> Result<()> {
        if lock(&self.engine).is_anybody_attached()? {
            return Ok(());
        }
        let wrong = |e: io::Error| Error::at(self.places.lock.display(), e);
        let Some(_lock) = HostLock::try_take(&self.places.lock).map_err(wrong)? else { return Ok(()) };
        if !lock(&self.engine).is_anybody_attached()? {
            self.places.remove();
            std::process::exit(0);
        }
        Ok(())
    }

    fn handle(&self, request: Request, descriptor: Option<OwnedFd>) -> Result<(Answer, Then)> {
        match request {
            Request::Hello => Ok((Answer::Done, Then::Lend)),
            Request::Serve { network, gateways, wished } => {
                Ok((Answer::Port(self.listen_at(network, &gateways, wished)?), Then::Listen))
            }
            Request::Lease { container, patience } => {
                let waited = self.dhcp.wait(container, Duration::from_millis(patience), descriptor);
                waited.map_err(Error::usage)?.map_err(Error::usage)?;
                Ok((Answer::Done, Then::Listen))
            }
            Request::Release { container, network } => {
                self.dhcp.release(container, network).map_err(Error::usage)?;
                Ok((Answer::Done, Then::Listen))
            }
            Request::Changed { container } if self.follow_store(container)? => Ok((Answer::Done, Then::Listen)),
            Request::Changed { .. } => {
                // Before the answer: whoever takes the host lock next must not find us.
                self.places.remove();
                Ok((Answer::Done, Then::Leave))
            }
        }
    }
}

/// What goes with an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing.
    Listen,
    /// The firewall's socket.
    Lend,
    /// It is the last one.
    Leave,
}

/// Tells a client that it is not served.
pub(crate) fn refuse(packets: &Packets, error: &Error) {
    let Ok(text) = serde_json::to_vec(&Answer::Failed(error.to_string())) else { return };
    // It may have gone already.
    let _ = packets.send(&text, None);
}

/// A thread that panicked has changed nothing halfway that the next look at the store does not set right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
