//! The engine's side of the conversation with netd, the process that stays while networks have containers.
//!
//! ```text
//!   command, holding the host lock                  podwire-netd ORDER
//!     Netd::ensure ── connect, or start it ───────> /run/lock/podwire-INODE/INSTANCE.sock
//!     Hello ──────────────────────────────────────>
//!     … plan …                                      <── Done + the socket that owns our firewall tables
//!     Serve{network, gateways} ───────────────────> listens <── Port(834)
//!     … apply, commit …
//!     Changed{container} ─────────────────────────> reads the store, swaps its zones <── Done
//! ```
//!
//! **How it works.** netd keeps nothing that the store does not have: it can be killed at any moment, and
//! whoever needs it next starts it again. Each store has its own; those of one network namespace share one
//! firewall socket, since the tables can be owned by one socket only.
//!
//! **Invariants.** Only who holds the host lock starts netd, and says anything but [`Request::Hello`] and
//! [`Request::Lease`] to it.

use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::{NsId, Packets, ProcessRef};
use model::{ContainerId, NetworkId};
use serde::{Deserialize, Serialize};

use crate::conversation::{self, Peer, hear, say};
use crate::engine::EngineOptions;
use crate::error::{Error, Result};

const PEER: Peer = Peer { name: "netd", hint: "; netd.log in the run directory may say why" };

/// The name (`argv[0]`) under which the binary is netd.
pub const NETD_NAME: &str = "podwire-netd";

/// What netd is started with: its only argument, as JSON. Its standard input is its first conversation.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// Whose networks it looks after.
    pub options: EngineOptions,
}

/// What netd can be told.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Answered [`Answer::Done`], with the socket that owns the firewall's tables.
    Hello,
    /// Listen for DNS on these addresses, which the host may not have yet. Answered [`Answer::Port`].
    Serve {
        /// Whose gateways they are.
        network: NetworkId,
        /// Where to listen.
        gateways: Vec<IpAddr>,
        /// The port it had before.
        wished: Option<u16>,
    },
    /// Answered [`Answer::Done`] when the container has all that the servers of LANs lend it, or [`Answer::Failed`]. Its
    /// network namespace comes along. Said without the host lock.
    Lease {
        /// Whose leases are waited for.
        container: ContainerId,
        /// How long, in milliseconds.
        patience: u64,
    },
    /// Give back what servers of LANs have lent to the container. Answered [`Answer::Done`] when they are told.
    Release {
        /// Whose.
        container: ContainerId,
        /// On this network; on all, when there is none.
        network: Option<NetworkId>,
    },
    /// The store has changed. Answered [`Answer::Done`] when names follow it. When nobody is attached any more, netd
    /// leaves after its answer.
    Changed {
        /// Only what this container is attached to; anything, when there is none.
        container: Option<ContainerId>,
    },
}

/// What netd answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// It listens on this port.
    Port(u16),
    /// It could not be done, and why.
    Failed(String),
}

/// Where the netds of a network namespace are found.
pub fn directory(namespace: NsId) -> PathBuf {
    linux::lock::path(namespace).with_extension("d")
}

/// Where the netd of one store listens.
pub fn socket_path(namespace: NsId, instance: &str) -> PathBuf {
    directory(namespace).join(format!("{instance}.sock"))
}

/// Which process it is, as JSON: for those who watch over it.
pub fn pid_path(namespace: NsId, instance: &str) -> PathBuf {
    directory(namespace).join(format!("{instance}.pid"))
}

/// Makes [`directory`], for us alone: what lies in /run/lock, everybody can make.
pub fn make_directory(namespace: NsId) -> io::Result<PathBuf> {
    let path = directory(namespace);
    match std::fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let meta = std::fs::symlink_metadata(&path)?;
            if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
                let text = format!("{} belongs to somebody else", path.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            Ok(path)
        }
        made => made.map(|()| path),
    }
}

/// A conversation with netd. It begins with [`Request::Hello`], whose answer is only waited for when something
/// depends on it: a netd that is being started has the time until then.
#[derive(Debug)]
pub struct Netd {
    packets: Packets,
    /// What Hello is answered with; `None` while that is still to come.
    greeting: Option<OwnedFd>,
}

impl Netd {
    /// The netd that runs, or a new one. The caller holds the host lock of `namespace`.
    pub(crate) fn ensure(options: &EngineOptions, namespace: NsId, instance: &str) -> Result<Self> {
        match Self::find(namespace, instance)? {
            Some(running) => Ok(running),
            None => Self::begin(Self::start(options)?),
        }
    }

    /// The netd that runs.
    pub(crate) fn find(namespace: NsId, instance: &str) -> Result<Option<Self>> {
        Self::at(&socket_path(namespace, instance))
    }

    /// Whoever listens at `path`.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        conversation::find(path, &PEER)?.map(Self::begin).transpose()
    }

    fn begin(packets: Packets) -> Result<Self> {
        say(&packets, &PEER, &Request::Hello)?;
        Ok(Self { packets, greeting: None })
    }

    /// It answers when it is ready, or says why it is not.
    fn start(options: &EngineOptions) -> Result<Packets> {
        let wrong = |e| Error::at("cannot start netd", e);
        let order = Order { options: options.clone() };
        let (call, ours) = conversation::start(NETD_NAME, &order).map_err(wrong)?;
        // Where its sockets to upstreams belong. Not waited for: it outlives us.
        linux::netns::home().run(|| call.spawn().map(drop)).map_err(wrong)?;
        Ok(ours)
    }

    /// The socket that owns the firewall's tables.
    pub fn firewall(&mut self) -> Result<OwnedFd> {
        self.greeting()?.try_clone().map_err(|e| Error::at("netd's firewall socket", e))
    }

    fn greeting(&mut self) -> Result<&OwnedFd> {
        if self.greeting.is_none() {
            self.greeting = match hear(&self.packets, &PEER)? {
                (Answer::Done, Some(socket)) => Some(socket),
                (answer, _) => return Err(unexpected(answer)),
            };
        }
        self.greeting.as_ref().ok_or_else(|| Error::usage("netd has not answered"))
    }

    /// Listens for DNS on the gateways of a network; the port.
    pub(crate) fn serve(&mut self, network: NetworkId, gateways: Vec<IpAddr>, wished: Option<u16>) -> Result<u16> {
        match self.ask(&Request::Serve { network, gateways, wished })? {
            Answer::Port(port) => Ok(port),
            answer => Err(unexpected(answer)),
        }
    }

    /// Names follow the store when this returns.
    pub(crate) fn changed(&mut self, container: Option<ContainerId>) -> Result<()> {
        match self.ask(&Request::Changed { container })? {
            Answer::Done => Ok(()),
            answer => Err(unexpected(answer)),
        }
    }

    /// Waits until the container has what servers of LANs lend it. `None`: netd has ended.
    pub(crate) fn lease(
        &mut self,
        container: ContainerId,
        patience: Duration,
        sandbox: BorrowedFd<'_>,
    ) -> Result<Option<()>> {
        let Ok(_) = self.greeting() else { return Ok(None) };
        let request = Request::Lease { container, patience: patience.as_millis() as u64 };
        let text = serde_json::to_vec(&request).map_err(Error::usage)?;
        if self.packets.send(&text, Some(sandbox)).is_err() {
            return Ok(None);
        }
        match self.packets.receive() {
            Ok(Some((answer, _))) => match serde_json::from_slice(&answer).map_err(Error::usage)? {
                Answer::Done => Ok(Some(())),
                answer => Err(unexpected(answer)),
            },
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// Gives back what servers of LANs have lent to the container.
    pub(crate) fn release(&mut self, container: ContainerId, network: Option<NetworkId>) -> Result<()> {
        match self.ask(&Request::Release { container, network })? {
            Answer::Done => Ok(()),
            answer => Err(unexpected(answer)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer> {
        self.greeting()?;
        say(&self.packets, &PEER, request)?;
        Ok(hear(&self.packets, &PEER)?.0)
    }
}

/// Brings netd back when it died while containers need it. For who waits for a running container's end.
pub(crate) fn revive(options: &EngineOptions) -> Result<()> {
    let engine = crate::Engine::open_as_is(options.clone())?;
    engine.networking().revive()
}

/// Who netd is, when it says so: it may be dead.
pub(crate) fn process(namespace: NsId, instance: &str) -> Option<ProcessRef> {
    conversation::process(&pid_path(namespace, instance))
}

fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Failed(why) => Error::usage(why),
        answer => Error::usage(format!("netd answered {answer:?}, which is no answer to what it was asked")),
    }
}
