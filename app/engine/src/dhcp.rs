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

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use dhcp::{Begin, Begin6, Configuration, Lease, Lease6, Moment};
use drivers::LearnedRoute;
use model::network::IpamPolicy;
use model::{Addr, ContainerId, DnsName, LinkName, Network, NetworkId, NetworkName};
use plan::SandboxName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
    pub begin: LanBegin,
}

impl LanWish {
    /// For IPv4, or for IPv6?
    pub fn ipv4(&self) -> bool {
        matches!(self.begin, LanBegin::Four(_))
    }
}

/// Where a client begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LanBegin {
    /// For IPv4.
    Four(Begin),
    /// For IPv6, with the number of the link (IAID).
    Six(Begin6, u32),
}

/// What a container is to have from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// This of IPv4, or nothing.
    Four(Option<Lease>),
    /// This of IPv6, or nothing.
    Six(Option<Lease6>),
    /// These IPv6 servers for names, and where to look; its addresses routers tell it.
    Told(Vec<Ipv6Addr>, Vec<DnsName>),
}

/// What a container's files learn from a LAN, of IPv4 and of IPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Learned {
    four: Names,
    six: Names,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Names {
    /// Whom to ask for names.
    dns: Vec<IpAddr>,
    /// Where to look for them.
    search: Vec<DnsName>,
}

impl Learned {
    /// Whom to ask for names.
    pub(crate) fn dns(&self) -> impl Iterator<Item = &IpAddr> {
        self.four.dns.iter().chain(&self.six.dns)
    }

    /// Where to look for them.
    pub(crate) fn search(&self) -> impl Iterator<Item = &DnsName> {
        self.four.search.iter().chain(&self.six.search)
    }
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
    /// The address, and the length of its prefix; 128 where routers say which prefix is on the link.
    pub address: Addr,
    /// The server's address; of IPv6, its DUID in hexadecimal digits.
    pub server: String,
    /// Since when, on the clock of [`crate::since_boot`].
    pub obtained: Moment,
    /// Until when; `None`: for ever.
    pub end: Option<Moment>,
    /// What came along; of IPv6, names alone.
    pub configuration: Configuration,
    /// Servers for names, of either family.
    pub dns: Vec<IpAddr>,
}

/// Does a LAN's server choose the addresses of the network's containers?
pub(crate) fn is_leased(network: &Network) -> bool {
    network.ipam == IpamPolicy::Dhcp
}

/// Is it an endpoint that is there, and that LANs' servers give something? Without reading all of it.
fn is_asked_for(document: &Value) -> bool {
    document.get("learned").is_some()
}

impl Engine {
    /// Whom netd has to look after: one container, or all that are up.
    pub fn lan_wishes(&self, container: Option<&ContainerId>) -> Result<Vec<LanWish>> {
        let wishes = self.store.read(|tx| {
            let mut attached = match container {
                Some(id) => tx.attachments_of(id)?.into_iter().map(|(network, _, doc)| (*id, network, doc)).collect(),
                None => tx.attachments_up()?,
            };
            attached.retain(|(_, _, document)| is_asked_for(document));
            if attached.is_empty() {
                return Ok(Vec::new());
            }
            let networks = tx.networks_of_all_scopes()?;
            let mut wishes = Vec::new();
            for (container, network, document) in attached {
                let Some(network) = networks.iter().find(|n| n.id == network) else { continue };
                let attached = serde_json::from_value(document).map_err(usage)?;
                wishes.extend(lan_wishes_of(tx, container, network, &attached)?);
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
    pub fn follow_lease(&self, container: &ContainerId, network: &NetworkId, given: &Given) -> Result<()> {
        if self.store.write(|tx| is_only_renewed(tx, container, network, given))? {
            return Ok(());
        }
        let Some(record) = self.store.read(|tx| load(tx, container))? else { return Ok(()) };
        if record.state == State::Running {
            crate::connect::show_sandbox(&record)?;
        }
        match self.networking().change(container, &Change::Lease(network, given)) {
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
            for held in tx.lan_leases_held()? {
                let known = networks.iter().find(|n| n.id == held.network);
                let Some(known) = known.filter(|n| network.is_none_or(|id| n.id == *id)) else { continue };
                // What a boot that ended abruptly has left is not held: it is asked for again.
                let up = tx.attachments_of(&held.container)?.into_iter().filter(|(_, _, document)| !document.is_null());
                let has = up.into_iter().any(|(id, _, _)| id == known.id);
                let Some(record) = load(tx, &held.container)?.filter(|_| has) else { continue };
                rows.push(row(held, record.name.to_string(), known.name.clone())?);
            }
            Ok(rows)
        })
    }
}

fn row(held: LanLease<Value>, container_name: String, network_name: NetworkName) -> Result<LeaseRow> {
    let LanLease { container, network, ipv4, lease, .. } = held;
    let names = |container_name, network_name, address, server, obtained, end, configuration, dns| LeaseRow {
        container,
        container_name,
        network,
        network_name,
        address,
        server,
        obtained,
        end,
        configuration,
        dns,
    };
    if ipv4 {
        let lease: Lease = serde_json::from_value(lease).map_err(usage)?;
        let (address, end) = (lease.addr()?, lease.end());
        let dns = lease.configuration.dns.iter().copied().map(IpAddr::V4).collect();
        let server = lease.server.to_string();
        return Ok(names(container_name, network_name, address, server, lease.obtained, end, lease.configuration, dns));
    }
    let lease: Lease6 = serde_json::from_value(lease).map_err(usage)?;
    let server = lease.server.iter().map(|octet| format!("{octet:02x}")).collect();
    let (address, end) = (Addr::new(lease.address.into(), 128)?, lease.end());
    let dns = lease.dns.iter().copied().map(IpAddr::V6).collect();
    let configuration = Configuration { search: lease.search.clone(), ..Configuration::default() };
    Ok(names(container_name, network_name, address, server, lease.obtained, end, configuration, dns))
}

/// For IPv4, and for IPv6 where the network has it.
fn lan_wishes_of(
    tx: &Tx<'_>,
    container: ContainerId,
    network: &Network,
    attached: &AttachedEndpoint,
) -> Result<Vec<LanWish>, Error> {
    let record: Option<ContainerRecord> = load(tx, &container)?;
    let mut known = tx.lan_leases_of(&container)?;
    known.retain(|lease| lease.network == network.id);
    let link = &attached.endpoint.link;
    let four = LanWish {
        container,
        network: network.id,
        network_name: network.name.clone(),
        link: link.clone(),
        sandbox: host::sandbox_file(&SandboxName::of(&container)),
        hostname: record.map(|record| record.settings.hostname.to_string()).filter(|name| !name.is_empty()),
        client_id: client_id(&container, link),
        begin: LanBegin::Four(begin(known.iter().find(|lease| lease.ipv4), attached)?),
    };
    let six = || {
        let number = u32::from_str_radix(&network.id.to_string()[..8], 16).map_err(usage)?;
        let begin = begin6(known.iter().find(|lease| !lease.ipv4), attached)?;
        Ok::<_, Error>(LanWish { client_id: duid(&container), begin: LanBegin::Six(begin, number), ..four.clone() })
    };
    let six = network.has_family(false).then(six).transpose()?;
    Ok([four].into_iter().chain(six).collect())
}

/// A DUID of the sort UUID (RFC 6355): half of the container's id.
fn duid(container: &ContainerId) -> Vec<u8> {
    let id = container.to_string();
    let octet = |n: usize| u8::from_str_radix(&id[2 * n..2 * n + 2], 16).unwrap_or_default();
    [0, 4].into_iter().chain((0..16).map(octet)).collect()
}

fn client_id(container: &ContainerId, link: &LinkName) -> Vec<u8> {
    let link = if link.as_str() == "eth0" { String::new() } else { format!(".{link}") };
    format!("\0{container}{link}").into_bytes()
}

/// What the last one, in whatever process, has left to go on from.
fn begin(known: Option<&LanLease<Value>>, attached: &AttachedEndpoint) -> Result<Begin> {
    let Some(known) = known else { return Ok(Begin::Discover { wished: None }) };
    let lease: Lease = serde_json::from_value(known.lease.clone()).map_err(usage)?;
    let has = attached.endpoint.addrs.iter().any(|addr| addr.ip == IpAddr::V4(lease.address));
    Ok(match (known.held, has) {
        (false, _) => Begin::Discover { wished: Some(lease.address) },
        (true, true) => Begin::Resume(lease),
        (true, false) => Begin::Reboot(lease.address),
    })
}

fn begin6(known: Option<&LanLease<Value>>, attached: &AttachedEndpoint) -> Result<Begin6> {
    let Some(known) = known else { return Ok(Begin6::Ask(None)) };
    let lease: Lease6 = serde_json::from_value(known.lease.clone()).map_err(usage)?;
    let has = attached.endpoint.addrs.iter().any(|addr| addr.ip == IpAddr::V6(lease.address));
    Ok(if known.held && has { Begin6::Resume(lease) } else { Begin6::Ask(Some(lease.address)) })
}

/// Writes the lease down if that is all there is to do.
fn is_only_renewed(tx: &Tx<'_>, container: &ContainerId, network: &NetworkId, given: &Given) -> Result<bool, Error> {
    let attachments = tx.attachments_of(container)?;
    let document = attachments.into_iter().find(|(id, _, doc)| id == network && !doc.is_null());
    let Some((_, _, document)) = document else { return Ok(true) };
    let before: AttachedEndpoint = serde_json::from_value(document).map_err(usage)?;
    let mut after = before.clone();
    learn(&mut after, given);
    let same = serde_json::to_value(&before).ok() == serde_json::to_value(&after).ok();
    if same {
        keep(tx, container, network, given)?;
    }
    Ok(same)
}

/// Writes down what is held, or that nothing is.
pub(crate) fn keep(tx: &Tx<'_>, container: &ContainerId, network: &NetworkId, given: &Given) -> Result<(), Error> {
    match given {
        Given::Four(Some(lease)) => tx.lan_lease_put(container, network, true, lease)?,
        Given::Six(Some(lease)) => tx.lan_lease_put(container, network, false, lease)?,
        Given::Four(None) => tx.lan_lease_lost(container, network, true)?,
        Given::Six(None) => tx.lan_lease_lost(container, network, false)?,
        Given::Told(..) => {}
    }
    Ok(())
}

/// Writes into an endpoint what its container is to have.
pub(crate) fn learn(attached: &mut AttachedEndpoint, given: &Given) {
    let learned = attached.learned.get_or_insert_default();
    let six = |dns: &[Ipv6Addr], search: &[DnsName]| Names {
        dns: dns.iter().copied().map(IpAddr::V6).collect(),
        search: search.to_vec(),
    };
    match given {
        Given::Four(lease) => {
            learned.four = lease.as_ref().map(|lease| names(&lease.configuration)).unwrap_or_default();
            learn_four(attached, lease.as_ref());
        }
        Given::Six(lease) => {
            learned.six = lease.as_ref().map(|lease| six(&lease.dns, &lease.search)).unwrap_or_default();
            let address = lease.as_ref().and_then(|lease| Addr::new(lease.address.into(), 128).ok());
            attached.endpoint.addrs.retain(|addr| addr.ip.is_ipv4());
            attached.endpoint.addrs.extend(address);
        }
        Given::Told(dns, search) => learned.six = six(dns, search),
    }
}

fn learn_four(attached: &mut AttachedEndpoint, lease: Option<&Lease>) {
    let endpoint = &mut attached.endpoint;
    endpoint.addrs.retain(|addr| !addr.ip.is_ipv4());
    (endpoint.routes, endpoint.mtu, attached.network_gateways) = (Vec::new(), None, Vec::new());
    let Some(lease) = lease else { return };
    let Configuration { routes, mtu, .. } = &lease.configuration;
    endpoint.addrs.splice(0..0, lease.addr().ok());
    endpoint.mtu = mtu.map(u32::from);
    let (defaults, others): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.destination.is_default());
    let learned =
        |route: &dhcp::Route| LearnedRoute { destination: route.destination, gateway: route.gateway.map(IpAddr::V4) };
    endpoint.routes = others.into_iter().map(learned).collect();
    attached.network_gateways = defaults.into_iter().filter_map(|route| route.gateway).map(IpAddr::V4).collect();
}

/// The domain is where names are looked for when no search list is told (RFC 3397 section 2).
fn names(configuration: &Configuration) -> Names {
    let Configuration { dns, domain, search, .. } = configuration;
    let search = if search.is_empty() { domain.iter().cloned().collect() } else { search.clone() };
    Names { dns: dns.iter().copied().map(IpAddr::V4).collect(), search }
}

impl Networking<'_> {
    /// Waits until the container has all that LANs' servers give it. Whoever calls holds no host lock.
    pub(crate) fn wait_for_leases(&self, container: &ContainerId) -> Result<()> {
        if !self.is_leased_to(container, None)? {
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

    /// Do LANs' servers give the container anything, on one network or on any?
    fn is_leased_to(&self, container: &ContainerId, network: Option<&NetworkId>) -> Result<bool> {
        let attached = self.store.read(|tx| tx.attachments_of(container))?;
        let mut meant = attached.iter().filter(|(id, _, _)| network.is_none_or(|network| network == id));
        Ok(meant.any(|(_, _, document)| is_asked_for(document)))
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
        match self.is_leased_to(container, network)? {
            true => self.netd(machine)?.release(*container, network.copied()),
            false => Ok(()),
        }
    }
}
