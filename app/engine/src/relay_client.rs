//! The engine's side of the conversation with the relay of an ordinary user, `podwire-relay`.
//!
//! ```text
//!   command, holding the lock of the relay's namespace            podwire-relay ORDER
//!     Relay::ensure ── connect, or start it at home ────────────> <runroot>/relay.sock
//!     Hello ────────────────────────────────────────────────────> device, routes, rules, tables are there <── Done
//!     Hold{container, ports} ───────────────────────────────────> binds, does not accept yet <── Done | Busy
//!     … plan, apply …
//!     Put{container, addresses, ports, settings} ───────────────> serves <── Done
//!     Remove{container} ────────────────────────────────────────> lets its ports and flows go <── Done
//!     Lookout + socket ─────────────────────────────────────────> follows this one, if it has said that it is alone
//!     Leave ────────────────────────────────────────────────────> <── Done, and ends
//! ```
//!
//! **How it works.** The relay keeps nothing that the store does not have: one that was killed is started again by
//! whoever needs it next, or by a container's monitor, and told again of all who are up. It is started in the
//! host's network namespace, where its sockets to the outside are, and goes into the relay's with one thread.
//!
//! **Invariants.** Only who holds the lock of the relay's namespace starts it and talks to it. What a conversation
//! holds and does not `Put`, is let go when the conversation ends. All that is asked may be asked again, so that who
//! finds the relay gone in the middle of it starts another one and goes on: see [`Refusal::Gone`].

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::{Packets, ProcessRef};
use model::{ContainerId, PortMapping};
pub use relay_core::target::{FORWARDER, HOST, Settings as RelaySettings};
use serde::{Deserialize, Serialize};

use crate::conversation::{self, Peer};
use crate::error::{Error, Result};

const PEER: Peer = Peer { name: "the relay", hint: "; relay.log in the run directory may say why" };

/// The name (`argv[0]`) under which the binary is the relay.
pub const RELAY_NAME: &str = "podwire-relay";

/// The name under which the binary is a lookout that follows one that was killed. Its standard input is its
/// conversation with the relay.
pub const LOOKOUT_NAME: &str = "podwire-lookout";

/// MTU in bytes of the relay's link and, unless they say otherwise, of the networks behind it: the most that a veth
/// and IPv4 carry, rounded down to words, as pasta has it.
pub const RELAY_MTU: u32 = 65520;

/// What the relay is started with: its only argument, as JSON. Its standard input is its first conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The file that keeps the relay's namespace.
    pub namespace: PathBuf,
    /// Where it listens for conversations: [`socket_path`].
    pub socket: PathBuf,
    /// Where it writes which process it is, as JSON of [`ProcessRef`]: [`pid_path`].
    pub pid: PathBuf,
    /// Where it writes what went wrong: `relay.log`.
    pub log: PathBuf,
    /// MTU of its link in bytes.
    pub mtu: u32,
}

impl Order {
    /// For the relay of this run directory.
    pub fn of(runroot: &Path, namespace: &Path) -> Self {
        Self {
            namespace: namespace.to_owned(),
            socket: socket_path(runroot),
            pid: pid_path(runroot),
            log: runroot.join("relay.log"),
            mtu: RELAY_MTU,
        }
    }
}

/// What the relay can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Answered [`Answer::Done`] when it is ready to serve, [`Answer::Alone`] when nobody tells it of name servers.
    Hello,
    /// The descriptor that comes along is its conversation with a new lookout.
    Lookout,
    /// Bind these ports in the host's namespace, without accepting yet, beside whatever the container has. All or
    /// nothing. They are the conversation's until it says [`Request::Put`] for the container, or ends.
    Hold {
        /// For whom.
        container: ContainerId,
        /// Which.
        ports: Vec<PortMapping>,
    },
    /// Serve this container so, and no otherwise. What stays as it was keeps its listeners, flows and connections;
    /// flows of ports and addresses that it has no more end. On failure all is as before.
    Put {
        /// Whom.
        container: ContainerId,
        /// How.
        relayed: Box<Relayed>,
    },
    /// Serve this container no more; nothing of it may be known.
    Remove {
        /// Whom.
        container: ContainerId,
    },
    /// End, after the answer: nobody is on any network.
    Leave,
}

/// What the relay answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is ready, and its lookout has ended.
    Alone,
    /// A port cannot be had.
    Busy {
        /// The mapping it is of.
        mapping: PortMapping,
        /// The host's port.
        port: u16,
        /// Why: `EADDRINUSE`, `EACCES`, …
        errno: i32,
    },
    /// It could not be done, and why.
    Failed(String),
}

/// A container as the relay sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed {
    /// Its addresses, on all its networks: whose flows these settings are for.
    pub addresses: Vec<IpAddr>,
    /// Whom a client on the host's own loopback seems to be, one per family: the gateways of the network that its
    /// ports are published on.
    pub gateways: Vec<IpAddr>,
    /// Where published ports lead, one per family.
    pub targets: Vec<IpAddr>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
    /// What it may reach, and how.
    pub settings: RelaySettings,
}

/// Where the relay listens.
pub fn socket_path(runroot: &Path) -> PathBuf {
    runroot.join("relay.sock")
}

/// Which process it is, as JSON: for those who watch over it.
pub fn pid_path(runroot: &Path) -> PathBuf {
    runroot.join("relay.pid")
}

/// Who the relay is, when it says so: it may be dead.
pub(crate) fn process(runroot: &Path) -> Option<ProcessRef> {
    conversation::process(&pid_path(runroot))
}

/// How long the former relay's end is waited for, in which its link goes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A port is taken, or not ours to take.
    Port { mapping: PortMapping, port: u16, error: io::Error },
    /// The relay has ended, before or after it did it.
    Gone(Error),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A conversation with the relay.
#[derive(Debug)]
pub(crate) struct Relay(Packets);

impl Relay {
    /// The relay that runs: it has answered.
    pub(crate) fn find(runroot: &Path) -> Result<Option<Self>> {
        let Some(packets) = conversation::find(&socket_path(runroot), &PEER)? else { return Ok(None) };
        let mut relay = Self(packets);
        match relay.ask(&Request::Hello) {
            Ok(Answer::Alone) => relay.give_lookout().map(|()| Some(relay)),
            Ok(answer) => expect_done(answer).map(|()| Some(relay)),
            // It ends at this moment.
            Err(Refusal::Gone(_)) => Ok(None),
            Err(refusal) => Err(refusal.into_error()),
        }
    }

    /// Starts one, and waits until it is ready. The caller holds the lock of the relay's namespace and has seen that
    /// none runs.
    pub(crate) fn start(order: &Order) -> Result<Self> {
        let wrong = |e| Error::at("cannot start the relay", e);
        if let Some(former) = conversation::process(&order.pid) {
            former.wait_end(Some(PATIENCE)).map_err(wrong)?;
        }
        let (call, ours) = conversation::start(RELAY_NAME, order).map_err(wrong)?;
        // Not waited for: it outlives us.
        linux::netns::home().run(|| call.spawn().map(drop)).map_err(wrong)?;
        let mut relay = Self(ours);
        relay.done(&Request::Hello).map_err(Refusal::into_error)?;
        Ok(relay)
    }

    /// Starts a lookout for one whose own has been killed.
    fn give_lookout(&mut self) -> Result<()> {
        let wrong = |e| Error::at("cannot start a lookout for the relay", e);
        let (call, theirs) = conversation::start(LOOKOUT_NAME, &()).map_err(wrong)?;
        // Not waited for: it ends with the relay.
        linux::netns::home().run(|| call.spawn().map(drop)).map_err(wrong)?;
        let request = serde_json::to_vec(&Request::Lookout).map_err(Error::usage)?;
        self.0.send(&request, Some(theirs.as_fd())).map_err(wrong)?;
        let (answer, _) = conversation::hear(&self.0, &PEER)?;
        expect_done(answer)
    }

    /// Holds ports before anything is made that would have to be taken back.
    pub(crate) fn hold(&mut self, container: ContainerId, ports: &[PortMapping]) -> Result<(), Refusal> {
        self.ask_for_ports(&Request::Hold { container, ports: ports.to_vec() })
    }

    /// Serves the container so.
    pub(crate) fn put(&mut self, container: ContainerId, relayed: Relayed) -> Result<(), Refusal> {
        self.ask_for_ports(&Request::Put { container, relayed: Box::new(relayed) })
    }

    /// Serves the container no more. A relay that is gone does not either.
    pub(crate) fn remove(&mut self, container: ContainerId) -> Result<()> {
        self.done(&Request::Remove { container }).or_else(Refusal::unless_gone)
    }

    /// Has it end.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.done(&Request::Leave).or_else(Refusal::unless_gone)
    }

    fn ask_for_ports(&mut self, request: &Request) -> Result<(), Refusal> {
        match self.ask(request)? {
            Answer::Busy { mapping, port, errno } => {
                Err(Refusal::Port { mapping, port, error: io::Error::from_raw_os_error(errno) })
            }
            answer => Ok(expect_done(answer)?),
        }
    }

    fn done(&mut self, request: &Request) -> Result<(), Refusal> {
        Ok(expect_done(self.ask(request)?)?)
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, Refusal> {
        conversation::say(&self.0, &PEER, request).map_err(Refusal::of)?;
        Ok(conversation::hear(&self.0, &PEER).map_err(Refusal::of)?.0)
    }
}

impl Refusal {
    fn of(error: conversation::Broken) -> Self {
        if error.has_ended { Self::Gone(error.error) } else { Self::Other(error.error) }
    }

    fn unless_gone(self) -> Result<()> {
        match self {
            Self::Gone(_) => Ok(()),
            other => Err(other.into_error()),
        }
    }

    /// For what asks for no ports.
    fn into_error(self) -> Error {
        match self {
            Self::Port { mapping, error, .. } => Error::at(mapping, error),
            Self::Gone(error) | Self::Other(error) => error,
        }
    }
}

fn expect_done(answer: Answer) -> Result<()> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Failed(why) => Err(Error::usage(why)),
        Answer::Busy { .. } | Answer::Alone => {
            Err(Error::usage(format!("the relay answered {answer:?}, which was not asked")))
        }
    }
}
