//! Where flows go, for all who open them: the containers' settings, the host's name servers and addresses.
//!
//! ```text
//!   Put{container, settings} ──> settings ──┐
//!   /etc/resolv.conf ──lookout──> upstreams ├──> relay_core::target::Targets ──way()──> udp · icmp · tcp
//!   the host's own route outside ─> addresses┘
//! ```
//!
//! Looked at when somebody asks for them, so that nothing has to wait: what the lookout has said at each such flow, the
//! addresses once a second.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use relay_core::target::{Nowhere, Protocol, Settings, Targets, Way};
use rustix::net::{connect, getsockname};

use crate::lookout::Lookout;
use crate::outside::Outside;

/// How old may be what is known of the host's addresses?
const FRESH: Duration = Duration::from_secs(1);

/// Addresses of nobody (RFC 5737, RFC 3849), which are as far outside as any: the route to them is the usual one.
const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The same for all copies.
#[derive(Debug, Clone)]
pub struct Book(Arc<Mutex<Pages>>);

#[derive(Debug)]
struct Pages {
    targets: Targets,
    lookout: Lookout,
    outside: Outside,
    looked: Option<Instant>,
}

impl Book {
    /// Nobody is in it yet. The host's name servers are those that `lookout` tells of.
    pub fn new(outside: Outside, mut lookout: Lookout) -> Self {
        let targets = Targets { upstreams: lookout.first(), ..Targets::default() };
        Self(Arc::new(Mutex::new(Pages { targets, lookout, outside, looked: None })))
    }

    /// Has the lookout ended?
    pub fn is_alone(&self) -> bool {
        let mut pages = self.pages();
        pages.hear();
        pages.lookout.is_gone()
    }

    /// From now on this lookout tells of the host's name servers.
    pub fn follow(&self, lookout: Lookout) {
        let mut pages = self.pages();
        pages.lookout = lookout;
        pages.hear();
    }

    /// Containers by all their addresses.
    pub fn put(&self, containers: HashMap<IpAddr, Arc<Settings>>) {
        self.pages().targets.settings = containers;
    }

    /// Where goes what `from` sends `to`?
    pub fn way(&self, from: IpAddr, to: SocketAddr, protocol: Protocol) -> Result<Way, Nowhere> {
        let mut pages = self.pages();
        if pages.targets.means_dns(from, to) {
            pages.follow_servers(Instant::now());
        } else if pages.targets.means_host(from, to.ip()) {
            pages.follow_addresses(Instant::now());
        }
        pages.targets.way(from, to, protocol)
    }

    /// Does an address, for `from`, mean name servers of the host?
    pub fn means_dns(&self, from: IpAddr, to: SocketAddr) -> bool {
        self.pages().targets.means_dns(from, to)
    }

    /// A name server has not answered: another one is asked first.
    pub fn pass_over(&self, silent: SocketAddr) {
        tracing::debug!(%silent, "a name server does not answer");
        self.pages().targets.pass_over(silent);
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn follow_servers(&mut self, now: Instant) {
        self.lookout.look(now);
        self.hear();
    }

    fn hear(&mut self) {
        if let Some(servers) = self.lookout.news() {
            self.targets.upstreams = servers;
        }
    }

    fn follow_addresses(&mut self, now: Instant) {
        if self.looked.is_some_and(|looked| now < looked + FRESH) {
            return;
        }
        self.looked = Some(now);
        self.targets.addresses = self.outside.run(|| Ok(addresses())).unwrap_or_default();
    }
}

/// With which the calling thread's namespace goes outside: one per family at most. Nothing is sent.
fn addresses() -> Vec<IpAddr> {
    FAR.into_iter()
        .filter_map(|far| {
            let socket = linux::trains::to_outside(far.is_ipv4()).ok()?;
            connect(&socket, &SocketAddr::new(far, 9)).ok()?;
            local_ip(&socket)
        })
        .collect()
}

/// The address that a socket is bound to.
pub(crate) fn local_ip(socket: impl AsFd) -> Option<IpAddr> {
    Some(SocketAddr::try_from(getsockname(socket).ok()?).ok()?.ip())
}
