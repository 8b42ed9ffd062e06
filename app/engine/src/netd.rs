//! The engine's side of the conversation with netd, the process that stays while networks have containers.
//!
//! ```text
//!   command, holding the host lock                  podwire-netd ORDER
//!     Netd::ensure ── connect, or start it ───────> /run/lock/podwire-INODE/INSTANCE.sock
//!     Hello ──────────────────────────────────────> <── Done + the socket that owns our firewall tables
//!     Serve{network, gateways} ───────────────────> listens <── Port(834)
//!     … plan, apply, commit …
//!     Changed ────────────────────────────────────> reads the store, swaps its zones <── Done
//! ```
//!
//! **How it works.** netd keeps nothing that the store does not have: it can be killed at any moment, and
//! whoever needs it next starts it again. Each store has its own; those of one network namespace share one
//! firewall socket, since the tables can be owned by one socket only.
//!
//! **Invariants.** Only who holds the host lock starts netd, and says anything but [`Request::Hello`] to it.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use linux::{NsId, Packets, ProcessRef, Spawn};
use model::NetworkId;
use serde::{Deserialize, Serialize};

use crate::engine::EngineOptions;
use crate::error::{Error, Result};

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
    /// Attachments or networks changed in the store. Answered [`Answer::Done`] when names follow it. When nobody
    /// is attached any more, netd leaves after its answer.
    Changed,
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

/// A conversation with netd.
#[derive(Debug)]
pub struct Netd(Packets);

impl Netd {
    /// The netd that runs, or a new one. The caller holds the host lock of `namespace`.
    pub(crate) fn ensure(options: &EngineOptions, namespace: NsId, instance: &str) -> Result<Self> {
        match Self::find(namespace, instance)? {
            Some(running) => Ok(running),
            None => Self::start(options),
        }
    }

    /// The netd that runs.
    pub(crate) fn find(namespace: NsId, instance: &str) -> Result<Option<Self>> {
        Self::at(&socket_path(namespace, instance))
    }

    /// Whoever listens at `path`.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        match Packets::connect(path) {
            Ok(packets) => Ok(Some(Self(packets))),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
            Err(e) => Err(Error::at(format!("cannot talk to netd at {}", path.display()), e)),
        }
    }

    /// It answers when it is ready, or says why it is not.
    fn start(options: &EngineOptions) -> Result<Self> {
        let wrong = |e| Error::at("cannot start netd", e);
        let argument = serde_json::to_string(&Order { options: options.clone() }).map_err(Error::usage)?;
        let (ours, theirs) = Packets::pair().map_err(wrong)?;
        let mut call = Spawn::new("/proc/self/exe");
        call.new_session();
        let command = call.command();
        command.arg0(NETD_NAME).arg(argument).current_dir("/");
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        // Where its sockets to upstreams belong. Not waited for: it outlives us.
        linux::netns::home().run(|| call.spawn().map(drop)).map_err(wrong)?;
        Ok(Self(ours))
    }

    /// The socket that owns the firewall's tables.
    pub fn firewall(&mut self) -> Result<OwnedFd> {
        match self.ask(&Request::Hello)? {
            (Answer::Done, Some(socket)) => Ok(socket),
            (answer, _) => Err(unexpected(&answer)),
        }
    }

    /// Listens for DNS on the gateways of a network; the port.
    pub(crate) fn serve(&mut self, network: NetworkId, gateways: Vec<IpAddr>, wished: Option<u16>) -> Result<u16> {
        match self.ask(&Request::Serve { network, gateways, wished })? {
            (Answer::Port(port), _) => Ok(port),
            (answer, _) => Err(unexpected(&answer)),
        }
    }

    /// Names follow the store when this returns.
    pub(crate) fn changed(&mut self) -> Result<()> {
        match self.ask(&Request::Changed)? {
            (Answer::Done, _) => Ok(()),
            (answer, _) => Err(unexpected(&answer)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<(Answer, Option<OwnedFd>)> {
        let failed = |e| Error::at("cannot talk to netd", e);
        self.0.send(&serde_json::to_vec(request).map_err(Error::usage)?, None).map_err(failed)?;
        let Some((answer, fd)) = self.0.receive().map_err(failed)? else {
            return Err(Error::usage("netd has ended; netd.log in the run directory may say why"));
        };
        match serde_json::from_slice(&answer).map_err(|e| Error::at("netd's answer", e))? {
            Answer::Failed(why) => Err(Error::usage(why)),
            answer => Ok((answer, fd)),
        }
    }
}

/// Brings netd back when it died while containers need it. For who waits for a running container's end.
pub(crate) fn revive(options: &EngineOptions) -> Result<()> {
    let engine = crate::Engine::open_as_is(options.clone())?;
    engine.networking().revive()
}

/// Who netd is, when it says so: it may be dead.
pub(crate) fn process(namespace: NsId, instance: &str) -> Option<ProcessRef> {
    serde_json::from_slice(&std::fs::read(pid_path(namespace, instance)).ok()?).ok()
}

fn unexpected(answer: &Answer) -> Error {
    Error::usage(format!("netd answered {answer:?}, which is no answer to what it was asked"))
}
