//! Addresses that the DHCP servers of LANs give: whom netd is to look after, and what follows from a lease.
//!
//! ```text
//!   up, connect ── plan 1: link without address ─ Changed ─> netd: Engine::lan_wishes ─> a client
//!       └── Lease{container} ── no host lock ────────────────> … DISCOVER, REQUEST …
//!                                                              Engine::follow_lease: lease kept ─ plan 2: address, routes
//!       <── Done, or why not ──────────────────────────────────┘ (the same when it changes later, or is lost)
//!   down, disconnect ── Release{container} ──────────────────> RELEASE ── Done ──> the plan that takes all away
//! ```
//!
//! **Invariants.** A lease is in the store before its address is on the link. Nobody holds the host lock while a server
//! is waited for.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use dhcp::{Begin, Configuration, Lease};
use drivers::LearnedRoute;
use model::network::IpamPolicy;
use model::{ContainerId, DnsName, LinkName, Network, NetworkId, NetworkName};
use plan::SandboxName;
use serde::{Deserialize, Serialize};
use store::{LanLease, Tx};

use crate::endpoints::AttachedEndpoint;
use crate::engine::{Engine, load};
use crate::error::{Error, Kind, Result};
use crate::netd::Netd;
use crate::networking::{Change, Machine, Networking, cannot_start, usage};
use crate::record::{ContainerRecord, State};

/// How long a container's start waits for a server: netavark's 8 seconds, and time for one more question.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A container that is to get an address from a LAN's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanWish {
    /// Which container.
    pub container: ContainerId,
    /// On which network.
    pub network: NetworkId,
    /// What that is called.
    pub network_name: NetworkName,
    /// Its link there, in its sandbox.
    pub link: LinkName,
    /// The file of its sandbox.
    pub sandbox: PathBuf,
    /// What servers are told as its name (option 12).
    pub hostname: Option<String>,
    /// What servers know it by (option 61): the same for all its runs. As netavark's, type 0 and the container's id;
    /// and its link but for `eth0`, since one server may serve several networks of a container.
    pub client_id: Vec<u8>,
    /// Where the client begins.
    pub begin: Begin,
}

/// What a container's files learn from a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// Whom to ask for names.
    pub(crate) dns: Vec<IpAddr>,
    /// Where to look for them.
    pub(crate) search: Vec<DnsName>,
}

/// A lease, for `network leases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// To whom.
    pub container: ContainerId,
    /// What that is called.
    pub container_name: String,
    /// On which network.
    pub network: NetworkId,
    /// What that is called.
    pub network_name: NetworkName,
    /// The lease.
    pub lease: Lease,
}

/// Does a LAN's server choose the addresses of the network's containers?
pub(crate) fn is_leased(network: &Network) -> bool {
    network.ipam == IpamPolicy::Dhcp
}

impl Engine {
    /// Whom netd has to look after: one container, or all that are up.
    pub fn lan_wishes(&self, container: Option<&ContainerId>) -> Result<Vec<LanWish>> {
        let wishes = self.store.read(|tx| {
            let networks: Vec<Network> = tx.networks_of_all_scopes()?.into_iter().filter(is_leased).collect();
            if networks.is_empty() {
                return Ok(Vec::new());
            }
            let attached = match container {
                Some(id) => tx.attachments_of(id)?.into_iter().map(|(network, _, doc)| (*id, network, doc)).collect(),
                None => tx.attachments_up()?,
            };
            let mut wishes = Vec::new();
            for (container, network, document) in attached.into_iter().filter(|(_, _, document)| !document.is_null()) {
                let Some(network) = networks.iter().find(|n| n.id == network) else { continue };
                let attached = serde_json::from_value(document).map_err(usage)?;
                wishes.push(lan_wish(tx, container, network, &attached)?);
            }
            Ok::<_, Error>(wishes)
        })?;
        for wish in &wishes {
            // Of one that is being started, whoever starts it hands us the namespace.
            self.shown(&wish.container);
        }
        Ok(wishes)
    }

    /// Has a container have what was leased for it, or nothing: the store first, then the kernel, then its files. For
    /// netd. Does nothing when it was taken down since.
    pub fn follow_lease(&self, container: &ContainerId, network: &NetworkId, lease: Option<&Lease>) -> Result<()> {
        if self.store.write(|tx| is_only_renewed(tx, container, network, lease))? {
            return Ok(());
        }
        let Some(record) = self.store.read(|tx| load(tx, container))? else { return Ok(()) };
        if record.state == State::Running {
            crate::connect::show_sandbox(&record)?;
        }
        match self.networking().change(container, &Change::Lease(network, lease)) {
            // It was taken down since.
            Err(error) if error.kind == Kind::WrongState => Ok(()),
            Err(error) => Err(error),
            // Else whoever starts it writes its files.
            Ok(endpoints) if record.state == State::Running => self.rewrite_files(&record, &endpoints),
            Ok(_) => Ok(()),
        }
    }

    /// All leases that are held, or those on one network.
    pub fn leases(&self, network: Option<&NetworkId>) -> Result<Vec<LeaseRow>> {
        self.store.read(|tx| {
            let networks = tx.networks_of_all_scopes()?;
            let mut rows = Vec::new();
            for held in tx.lan_leases_held::<Lease>()? {
                let known = networks.iter().find(|n| n.id == held.network);
                let Some(known) = known.filter(|n| network.is_none_or(|id| n.id == *id)) else { continue };
                // What a boot that ended abruptly has left is not held: it is asked for again.
                let has =
                    tx.attachments_of(&held.container)?.iter().any(|(id, _, doc)| *id == known.id && !doc.is_null());
                let Some(record) = load(tx, &held.container)?.filter(|_| has) else { continue };
                rows.push(LeaseRow {
                    container: held.container,
                    container_name: record.name.to_string(),
                    network: known.id,
                    network_name: known.name.clone(),
                    lease: held.lease,
                });
            }
            Ok(rows)
        })
    }
}

fn lan_wish(
    tx: &Tx<'_>,
    container: ContainerId,
    network: &Network,
    attached: &AttachedEndpoint,
) -> Result<LanWish, Error> {
    let record: Option<ContainerRecord> = load(tx, &container)?;
    let leases = tx.lan_leases_of::<Lease>(&container)?;
    let known = leases.into_iter().find(|lease| lease.network == network.id && lease.ipv4);
    Ok(LanWish {
        container,
        network: network.id,
        network_name: network.name.clone(),
        link: attached.endpoint.link.clone(),
        sandbox: host::sandbox_file(&SandboxName::of(&container)),
        hostname: record.map(|record| record.settings.hostname.to_string()).filter(|name| !name.is_empty()),
        client_id: client_id(&container, &attached.endpoint.link),
        begin: begin(known, attached),
    })
}

fn client_id(container: &ContainerId, link: &LinkName) -> Vec<u8> {
    let link = if link.as_str() == "eth0" { String::new() } else { format!(".{link}") };
    format!("\0{container}{link}").into_bytes()
}

/// What the last one, in whatever process, has left to go on from.
fn begin(known: Option<LanLease<Lease>>, attached: &AttachedEndpoint) -> Begin {
    match known {
        None => Begin::Discover { wished: None },
        Some(LanLease { held: false, lease, .. }) => Begin::Discover { wished: Some(lease.address) },
        Some(LanLease { lease, .. }) => {
            let has = attached.endpoint.addrs.iter().any(|addr| addr.ip == IpAddr::V4(lease.address));
            if has { Begin::Resume(lease) } else { Begin::Reboot(lease.address) }
        }
    }
}

/// Writes the lease down if that is all there is to do.
fn is_only_renewed(
    tx: &Tx<'_>,
    container: &ContainerId,
    network: &NetworkId,
    lease: Option<&Lease>,
) -> Result<bool, Error> {
    let attachments = tx.attachments_of(container)?;
    let document = attachments.into_iter().find(|(id, _, doc)| id == network && !doc.is_null());
    let Some((_, _, document)) = document else { return Ok(true) };
    let Some(lease) = lease else { return Ok(false) };
    let before: AttachedEndpoint = serde_json::from_value(document).map_err(usage)?;
    let mut after = before.clone();
    learn(&mut after, Some(lease));
    let same = serde_json::to_value(&before).ok() == serde_json::to_value(&after).ok();
    if same {
        tx.lan_lease_put(container, network, true, lease)?;
    }
    Ok(same)
}

/// Writes a lease into an endpoint, or that there is none.
pub(crate) fn learn(attached: &mut AttachedEndpoint, lease: Option<&Lease>) {
    let endpoint = &mut attached.endpoint;
    let Some(lease) = lease else {
        (endpoint.addrs, endpoint.routes, endpoint.mtu) = (Vec::new(), Vec::new(), None);
        (attached.network_gateways, attached.learned) = (Vec::new(), None);
        return;
    };
    let Configuration { routes, mtu, dns, domain, search, .. } = &lease.configuration;
    endpoint.addrs = lease.addr().into_iter().collect();
    endpoint.mtu = mtu.map(u32::from);
    let (defaults, others): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.destination.is_default());
    let learned =
        |route: &dhcp::Route| LearnedRoute { destination: route.destination, gateway: route.gateway.map(IpAddr::V4) };
    endpoint.routes = others.into_iter().map(learned).collect();
    attached.network_gateways = defaults.into_iter().filter_map(|route| route.gateway).map(IpAddr::V4).collect();
    // The domain is where names are looked for when no search list is told (RFC 3397 section 2).
    let search = if search.is_empty() { domain.iter().cloned().collect() } else { search.clone() };
    attached.learned = Some(Learned { dns: dns.iter().copied().map(IpAddr::V4).collect(), search });
}

impl Networking<'_> {
    /// Waits until the container has all that LANs' servers give it. Whoever calls holds no host lock.
    pub(crate) fn wait_for_leases(&self, container: &ContainerId) -> Result<()> {
        let wishes = self.store.read(|tx| {
            let networks = tx.networks_of_all_scopes()?;
            let of_container = tx.attachments_of(container)?;
            let leased = |id: &NetworkId| networks.iter().any(|n| n.id == *id && is_leased(n));
            Ok::<_, store::StoreError>(of_container.iter().filter(|(id, _, _)| leased(id)).count())
        })?;
        if wishes == 0 {
            return Ok(());
        }
        // A netd that was killed meanwhile is brought back once; the other one goes on where it was.
        match self.ask_for_leases(container)? {
            Some(answer) => answer,
            None => {
                self.revive()?;
                self.ask_for_leases(container)?
                    .unwrap_or_else(|| Err(cannot_start("netd ended while it asked for a lease")))
            }
        }
    }

    /// `None`: netd is not there, or has ended.
    fn ask_for_leases(&self, container: &ContainerId) -> Result<Option<Result<()>>> {
        let namespace = host::Host::open().map_err(usage)?.namespace();
        let Some(mut netd) = Netd::find(namespace, self.store.instance())? else { return Ok(None) };
        let sandbox = linux::NetNs::open(&host::sandbox_file(&SandboxName::of(container))).map_err(usage)?;
        Ok(netd.lease(*container, PATIENCE, sandbox.as_fd()).transpose().map(|done| done.map_err(cannot_start)))
    }

    /// Gives back what LANs' servers have lent to the container, before its links go. What cannot be given back ends
    /// by itself, some time: no reason to keep a container.
    pub(crate) fn give_back(&self, machine: &mut Machine, container: &ContainerId, network: Option<&NetworkId>) {
        if let Err(error) = self.try_give_back(machine, container, network) {
            tracing::warn!(%container, %error, "a lease was not given back");
        }
    }

    fn try_give_back(&self, machine: &mut Machine, container: &ContainerId, network: Option<&NetworkId>) -> Result<()> {
        let leased = self.store.read(|tx| {
            let networks = tx.networks_of_all_scopes()?;
            let up = tx.attachments_of(container)?.into_iter().filter(|(_, _, document)| !document.is_null());
            let mut up = up.filter(|(id, _, _)| network.is_none_or(|network| network == id));
            Ok::<_, Error>(up.any(|(id, _, _)| networks.iter().any(|n| n.id == id && is_leased(n))))
        })?;
        match leased {
            true => self.netd(machine)?.release(*container, network.copied()),
            false => Ok(()),
        }
    }
}
