//! The real kernel: look at objects, and take a plan's steps.
//!
//! ```text
//!            ┌────────── Host ──────────────────────────────────────────────────────┐
//!   observe  │  here       Stack { namespace, rtnetlink socket }  links, addresses,  │
//!   apply    │  sandboxes  NAME ──> Stack                         routes, sysctls    │──> kernel
//!   marked   │  netfilter  nf_tables, conntrack                   elements, flows    │
//!   facts    └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! **How it works.** A [`Host`] holds one rtnetlink socket per network namespace it has to do with; sandboxes
//! are opened once and known by their inode. [`Host::observe`] asks for exactly the keys of the objects it
//! is given (a link by its name, the addresses of one link), never for all there is, so that its cost does not
//! grow with the number of containers. [`Host::apply`] takes the ops of a plan in order: firewall ops that
//! stand together as one nf_tables transaction, addresses and routes that stand together as one send.
//!
//! **Ours or not.** A link is ours when it is in link group 0x7077 ("pw"), which it is from its creation on;
//! whose it is says its alias. An alias that was changed by hand leaves it ours, of the owner we expect.
//! Everything inside a sandbox, and every address on a link of ours, is ours. Both are looked at again, and the
//! link then removed by its index, at the moment of removal.
//!
//! **Invariants.** The namespace podwire runs in, and that of process 1, are refused as sandboxes. A refused
//! plan leaves what was there before, or says in [`ApplyError::Stuck`] what it could not take back. What is gone
//! already counts as removed. Nothing outside `/proc/sys/net` is written.
//!
//! **Reachable.** What is new in a sandbox is announced to its neighbours last of all, and a link that has just
//! got its carrier is asked about until it sends: when `apply` returns, packets pass.
//!
//! **Unfinished.** A link that a killed command left without its alias or down, or that somebody turned down, is
//! observed as different from every wish (a bridge with an MTU of 0, a veth that is a member of itself), so that
//! a plan finishes it.
//!
//! **Limits.** Not for several threads at once, nor for two commands: the host lock is the caller's.
//!
//! **Start reading** at [`Host`], then `apply.rs`.

mod apply;
mod child;
mod elsewhere;
mod error;
mod facts;
mod firewall;
mod flows;
pub mod foreign;
#[doc(hidden)]
pub mod fuzzing;
mod observe;
mod stack;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use linux::netns::{self, NetNs, NsId};
use linux::userns::UserNs;
use netlink::{Protocol, Socket};
use plan::{Place, SandboxName};

pub use child::Parent;
pub use elsewhere::{ForeignLink, links_in};
pub use error::{ApplyError, HostError};
pub use facts::{Facts, NeededLink, Uplink};
pub use firewall::{Adopted, adopt as firewall_adopt};

use stack::Stack;

pub use ::firewall::LINK_GROUP;

/// The kernel of this machine, seen from the network namespace podwire runs in.
#[derive(Debug)]
pub struct Host {
    here: Stack,
    netfilter: Option<Socket>,
    /// The socket that owns the firewall's tables, when somebody has lent it to us.
    owner: Option<Socket>,
    sandboxes: BTreeMap<SandboxName, Stack>,
    /// The user namespace that new ones belong to; our own when absent.
    sandbox_owner: Option<UserNs>,
    /// Namespaces that are nobody's sandbox.
    refused: Vec<NsId>,
    /// Bridges whose removal the kernel has not answered yet.
    departing: Vec<Departing>,
}

/// A bridge whose removal was sent.
type Departing = (plan::Bridge, std::thread::JoinHandle<io::Result<Result<(), netlink::Errno>>>);

impl Host {
    /// Opens the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let here = Stack::here()?;
        let mut refused = vec![here.id];
        // Not readable in some containers; our own namespace is what counts there.
        refused.extend(netns::inode_at(Path::new("/proc/1/ns/net")));
        Ok(Self {
            here,
            netfilter: None,
            owner: None,
            sandboxes: BTreeMap::new(),
            sandbox_owner: None,
            refused,
            departing: Vec::new(),
        })
    }

    /// The inode of the namespace podwire runs in, which names the host lock.
    pub fn namespace(&self) -> NsId {
        self.here.id
    }

    /// From now on changes the firewall through this socket, which will own the tables that are created and must
    /// own those that are there. Without one, nobody owns the tables that are created.
    ///
    /// The socket is one of `NETLINK_NETFILTER`, opened in this namespace. See [`firewall_adopt`].
    pub fn use_firewall_socket(&mut self, socket: Socket) {
        self.owner = Some(socket);
    }

    /// From now on sandboxes that are made belong to this user namespace; to our own when absent.
    pub fn give_sandboxes_to(&mut self, owner: Option<&UserNs>) -> io::Result<()> {
        self.sandbox_owner = owner.map(UserNs::try_clone).transpose()?;
        Ok(())
    }

    /// The stack of a place; `None` when the sandbox does not exist.
    fn stack(&mut self, place: &Place) -> Result<Option<&mut Stack>, HostError> {
        match place {
            Place::Host => Ok(Some(&mut self.here)),
            Place::Sandbox(name) => self.sandbox(name),
        }
    }

    /// A sandbox by its file, opened at the first use. Its file is compared again at every use: the name
    /// may have been given to another namespace since.
    fn sandbox(&mut self, name: &SandboxName) -> Result<Option<&mut Stack>, HostError> {
        let path = sandbox_file(name);
        let now = netns::inode_at(&path).ok();
        if self.sandboxes.get(name).is_some_and(|stack| Some(stack.id) != now) {
            self.sandboxes.remove(name);
        }
        if !self.sandboxes.contains_key(name) {
            let Some(namespace) = open_sandbox(&path)? else { return Ok(None) };
            let stack = Stack::inside(namespace).map_err(|cause| HostError::io(path.display(), cause))?;
            if self.refused.contains(&stack.id) {
                return Err(HostError::OwnNamespace { path });
            }
            self.keep_open(name, stack);
        }
        Ok(self.sandboxes.get_mut(name))
    }

    /// Each open sandbox costs two descriptors, of which a process has 1,024 by default.
    fn keep_open(&mut self, name: &SandboxName, stack: Stack) {
        const OPEN_MAX: usize = 64;
        if self.sandboxes.len() >= OPEN_MAX {
            self.sandboxes.clear();
        }
        self.sandboxes.insert(name.clone(), stack);
    }

    /// The socket for connection tracking and to look at nf_tables.
    fn netfilter(&mut self) -> io::Result<&mut Socket> {
        self.firewall_sockets().map(|sockets| sockets.reading)
    }

    fn firewall_sockets(&mut self) -> io::Result<firewall::Sockets<'_>> {
        if self.netfilter.is_none() {
            self.netfilter = Some(Socket::open(Protocol::Netfilter)?);
        }
        let reading = self.netfilter.as_mut().ok_or(io::ErrorKind::NotFound)?;
        Ok(firewall::Sockets { reading, owner: self.owner.as_mut() })
    }
}

/// The file that keeps a sandbox's namespace.
pub fn sandbox_file(name: &SandboxName) -> PathBuf {
    netns::directory().join(name.as_str())
}

/// `None` when there is no file, or one left by a command that was killed before it was mounted on.
fn open_sandbox(path: &Path) -> Result<Option<NetNs>, HostError> {
    match NetNs::open(path) {
        Ok(namespace) => Ok(Some(namespace)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(None),
        Err(e) => Err(HostError::io(path.display(), e)),
    }
}
