//! An ordinary user's networks: the relay's namespace, the networks that nobody sees, and what the relay is told.
//!
//! ```text
//!   host's network namespace            relay's namespace (rns): <runroot>/netns/rootless-netns
//!     main thread ──enter()───────────────> main thread: Networking::lock, plan, apply
//!     home thread: facts, upstream sockets    bridges, veths, tables, netd's listeners: "host" to every plan
//!     podwire-relay, one thread <──TUN──────> podwire-relay, the other
//! ```
//!
//! **How it works.** To plans, rns is the host place. It is made under a lock of its own by the first command that
//! has a container on networks, and removed by the one that takes the last away; that lock is also the host lock
//! of whoever works in it. What must be known of the real host (its routes, its servers, whether a port is free) is
//! asked by the thread that stays there.
//!
//! A container that names no network is on a *hidden* one: a network in the store that no list shows, whose members
//! are kept apart. It is forgotten when nobody is on it, so that its subnet is chosen anew.
//!
//! **Invariants.** Whoever is in the store's attachments is known to the relay before its container starts. A relay
//! that was not there is told of all of them before it is told anything else.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use host::{Facts, Host};
use ipam::request::Fresh;
use ipam::{HiddenRequest, Surroundings, hidden_network};
use linux::lock::Share;
use linux::netns::{self, home};
use linux::{HostLock, NetNs, NsId};
use model::addr::offset;
use model::relayed::{Family, Outbound, slirp_subnet6};
use model::{
    ContainerId, LinkName, Network, NetworkId, NetworkSubnet, PastaOptions, Pool, PortMapping, Protocol, SlirpOptions,
    Subnet,
};
use sha2::{Digest, Sha256};
use store::{StoreError, Tx};

use crate::config::{AttachmentConfig, NetworkMode};
use crate::definitions::{now, random};
use crate::endpoints::AttachedEndpoint;
use crate::engine::{Engine, EngineOptions, load};
use crate::error::{Error, Kind, Result};
use crate::networking::{Machine, Networking, SandboxWish, cannot_start, owner_of_network, usage};
use crate::relay_client::{
    FORWARDER, HOST, Order, RELAY_MTU, Refusal, Relay, RelaySettings, Relayed, pid_path, socket_path,
};
use crate::settings::{NetworkSettings, SETTINGS_FILE, Settings};

/// The scope of hidden networks: `--network-config-dir` cannot be this text.
pub(crate) const HIDDEN: &str = "\0hidden";

/// The file that keeps the relay's namespace.
pub(crate) fn namespace_path() -> PathBuf {
    netns::directory().join("rootless-netns")
}

/// Which namespace that is, if it is there.
pub(crate) fn namespace() -> Option<NsId> {
    NetNs::open(&namespace_path()).and_then(|namespace| namespace.inode()).ok()
}

/// Does an engine with these options work in the relay's namespace?
pub(crate) fn place_of_networks(options: &EngineOptions) -> io::Result<NsId> {
    match options.rootless {
        true => NetNs::open(&namespace_path())?.inode(),
        false => NetNs::current()?.inode(),
    }
}

/// Takes the lock of the relay's namespace, and moves the calling thread into it. Where that is not there it is made if
/// it is `needed`, which is asked under the lock: who held it may have removed the last that needed it.
pub(crate) fn enter(options: &EngineOptions, needed: impl FnOnce() -> Result<bool>) -> Result<HostLock> {
    let path = lock_path();
    let lock = HostLock::take(&path).map_err(|e| usage(format!("could not lock {}: {e}", path.display())))?;
    let wrong = |e| Error::at("cannot enter the network namespace of the relay", e);
    match NetNs::open(&namespace_path()) {
        Ok(namespace) => go(&namespace).map_err(wrong)?,
        Err(_) if needed()? => make(options)?,
        Err(_) => {}
    }
    Ok(lock)
}

fn lock_path() -> PathBuf {
    linux::lock::directory().join("rootless-netns.lock")
}

/// Held by who needs the namespace beside containers.
fn guests_path() -> PathBuf {
    linux::lock::directory().join("rootless-netns.guests")
}

fn go(namespace: &NetNs) -> io::Result<()> {
    if NetNs::current()?.inode()? == namespace.inode()? {
        return Ok(());
    }
    // From one namespace of ours to another there is a way.
    if home().is_left() { namespace.enter() } else { netns::leave_home(namespace) }
}

fn make(options: &EngineOptions) -> Result<()> {
    // A namespace that was lost has left its relay, which holds ports.
    if let Some(mut relay) = Relay::find(&options.runroot)? {
        relay.leave()?;
    }
    let wrong = |e| Error::at("cannot make the network namespace of the relay", e);
    let namespace = NetNs::create(&namespace_path()).map_err(wrong)?;
    go(&namespace).map_err(wrong)?;
    let mut socket = netlink::Socket::open(netlink::Protocol::Route).map_err(wrong)?;
    let up = socket.batch(&[netlink::rtnetlink::set_up("lo")]).map_err(wrong)?;
    up.into_iter().try_for_each(|done| done.map_err(|e| wrong(e.into())))
}

/// For netd, whose sockets to upstreams stay where it was started.
pub fn enter_for_netd(options: &EngineOptions) -> Result<()> {
    if !options.rootless {
        return Ok(());
    }
    crate::rootless::settle(options)?;
    let wrong = |e| Error::at("cannot enter the network namespace of the relay", e);
    go(&NetNs::open(&namespace_path()).map_err(wrong)?).map_err(wrong)
}

impl Engine {
    /// Runs `f` in the network namespace in which an ordinary user's networks are, with a way out to the outside,
    /// whether containers are on them or not.
    pub fn in_rootless_namespace<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let networking = self.networking();
        let mut machine = networking.lock()?;
        networking.ensure_relay(&mut machine).map_err(|error| Error::usage(error.message))?;
        let path = guests_path();
        let guest = Share::take(&path).map_err(|e| Error::at(path.display(), e))?;
        drop(machine);
        let done = f();
        drop(guest);
        networking.leave_if_unused(networking.lock()?)?;
        Ok(done)
    }
}

/// The attachments of a container in this mode; `None` when its network is none of ours to make.
pub(crate) fn wishes(mode: &NetworkMode) -> Result<Option<Vec<AttachmentConfig>>> {
    Ok(match mode {
        NetworkMode::Networks(attachments) => Some(attachments.clone()),
        NetworkMode::Private(attachment) => Some(vec![attachment.clone()]),
        NetworkMode::Pasta(options) => Some(vec![pasta_wish(options)?]),
        NetworkMode::Slirp4netns(options) => Some(vec![slirp_wish(options)?]),
        NetworkMode::None => Some(Vec::new()),
        NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Path(_) => None,
    })
}

/// What `private` means, and whether what was asked for can be had.
pub(crate) fn settle_mode(wish: &NetworkMode, rootless: bool) -> Result<NetworkMode> {
    match wish {
        NetworkMode::Private(attachment) if !rootless => Ok(NetworkMode::Networks(vec![attachment.clone()])),
        NetworkMode::Private(attachment) if *attachment == AttachmentConfig::default() => {
            Ok(NetworkMode::Pasta(PastaOptions::default()))
        }
        NetworkMode::Private(attachment) if !attachment.aliases.is_empty() => {
            Err(Error::usage("--network-alias can only be set when the network mode is bridge: invalid argument"))
        }
        NetworkMode::Private(_) => Err(Error::usage(
            "invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking",
        )),
        NetworkMode::Pasta(_) if !rootless => Err(Error::usage(
            "invalid config provided: pasta networking is only supported for rootless mode or when inside a nested userns",
        )),
        NetworkMode::Slirp4netns(_) if !rootless => {
            Err(Error::usage("slirp4netns networking is only supported for rootless mode"))
        }
        mode => Ok(mode.clone()),
    }
}

fn pasta_wish(options: &PastaOptions) -> Result<AttachmentConfig> {
    let chosen = |ipv4| options.addresses.iter().all(|addr| addr.ip.is_ipv4() != ipv4);
    let wanted = |family: Family| options.only.is_none_or(|only| only == family);
    // Whoever names his address in one family only, has none in the other, as with pasta on a host without it.
    let request = HiddenRequest {
        name: String::new(),
        link: "pasta",
        subnets: options
            .addresses
            .iter()
            .map(|addr| pasta_subnet(options, addr.subnet(), addr.ip))
            .collect::<Result<_>>()?,
        ip4: wanted(Family::Ip4) && chosen(true),
        ip6: wanted(Family::Ip6) && chosen(false),
        servers: Vec::new(),
        mtu: options.mtu.unwrap_or(RELAY_MTU),
    };
    let is_usual = request.subnets.is_empty() && request.ip4 && request.ip6 && request.mtu == RELAY_MTU;
    Ok(AttachmentConfig {
        static_ips: options.addresses.iter().map(|addr| addr.ip).collect(),
        mac: options.mac,
        link: options.link.clone(),
        ..hidden("pasta", request, is_usual)
    })
}

/// With the gateway that was said, or the first address that is not the container's.
fn pasta_subnet(options: &PastaOptions, subnet: Subnet, own: IpAddr) -> Result<NetworkSubnet> {
    let said = options.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == own.is_ipv4());
    let first = || [1, 2].into_iter().filter_map(|n| subnet.nth(n)).find(|ip| *ip != own);
    let gateway = said.or_else(first).ok_or_else(|| usage(format!("subnet {subnet} has no room for a gateway")))?;
    Ok(NetworkSubnet { subnet, gateway: Some(gateway), pool: None })
}

/// slirp4netns' numbers: the gateway is .2, addresses begin at .100 (its main.c).
fn slirp_wish(options: &SlirpOptions) -> Result<AttachmentConfig> {
    let too_small = || usage(format!("invalid cidr \"{}\"", options.cidr));
    let nth = |n| offset(options.cidr.network(), n).ok_or_else(too_small);
    // All but the broadcast address; a cidr has room for 126 at least.
    let before_last = nth((1 << (32 - options.cidr.len())) - 2)?;
    let pool = Pool::new(options.cidr, nth(100)?, before_last).map_err(usage)?;
    let mut subnets = vec![NetworkSubnet { subnet: options.cidr, gateway: Some(nth(2)?), pool: Some(pool) }];
    if options.ipv6 {
        let subnet = slirp_subnet6();
        subnets.push(NetworkSubnet { subnet, gateway: subnet.nth(2), pool: None });
    }
    let servers = slirp_servers(options);
    let request = HiddenRequest {
        name: String::new(),
        link: "slirp",
        subnets,
        ip4: false,
        ip6: false,
        servers,
        mtu: options.mtu,
    };
    let usual = SlirpOptions::default();
    let is_usual = (options.cidr, options.mtu, options.ipv6) == (usual.cidr, usual.mtu, usual.ipv6);
    Ok(AttachmentConfig { link: Some("tap0".parse()?), ..hidden("slirp4netns", request, is_usual) })
}

/// Where slirp4netns answers as the host's name servers: .3 of its subnet, before its pool.
fn slirp_servers(options: &SlirpOptions) -> Vec<IpAddr> {
    offset(options.cidr.network(), 3).into_iter().collect()
}

/// An attachment to a hidden network: all that want it alike share it.
fn hidden(mode: &str, request: HiddenRequest, is_usual: bool) -> AttachmentConfig {
    let name = match is_usual {
        true => mode.to_owned(),
        false => {
            let digest = Sha256::digest(format!("{request:?}"));
            let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("{mode}-{digits}")
        }
    };
    AttachmentConfig {
        network: Some(name.clone()),
        hidden: Some(HiddenRequest { name, ..request }),
        ..AttachmentConfig::default()
    }
}

/// Is it a network that no list shows?
pub(crate) fn is_hidden(tx: &Tx<'_>, network: &NetworkId) -> Result<bool, StoreError> {
    Ok(tx.networks(HIDDEN)?.iter().any(|hidden| hidden.id == *network))
}

/// The relay's view of a container.
fn relayed(mode: &NetworkMode, endpoints: &[AttachedEndpoint], set: &NetworkSettings) -> Relayed {
    let publishing = endpoints.iter().find(|attached| !attached.endpoint.ports.is_empty());
    Relayed {
        addresses: endpoints.iter().flat_map(|attached| attached.endpoint.addrs.iter().map(|addr| addr.ip)).collect(),
        gateways: publishing.map(|attached| attached.network_gateways.clone()).unwrap_or_default(),
        targets: publishing
            .map(|attached| attached.endpoint.addrs.iter().map(|addr| addr.ip).collect())
            .unwrap_or_default(),
        ports: publishing.map(|attached| attached.endpoint.ports.clone()).unwrap_or_default(),
        settings: settings(mode, endpoints, set),
    }
}

fn settings(mode: &NetworkMode, endpoints: &[AttachedEndpoint], set: &NetworkSettings) -> RelaySettings {
    let usual = RelaySettings { no_host: !set.host_services, ..RelaySettings::default() };
    let gateways = || endpoints.iter().flat_map(|attached| attached.network_gateways.iter().copied());
    match mode {
        NetworkMode::Pasta(options) => {
            let or = |said: &[IpAddr], usual: Vec<IpAddr>| if said.is_empty() { usual } else { said.to_vec() };
            RelaySettings {
                loopback: gateways().filter(|_| options.map_gw).chain(options.map_host_loopback.clone()).collect(),
                host: or(&options.map_guest_addr, usual.host),
                dns: or(&options.dns_forward, usual.dns),
                servers: options.dns_host.clone(),
                no_host: options.no_host || usual.no_host,
                outbound: options.outbound.clone(),
                outbound_link4: options.outbound_link4.clone(),
                outbound_link6: options.outbound_link6.clone(),
                no_tcp: options.no_tcp,
                no_udp: options.no_udp,
                no_icmp: options.no_icmp,
            }
        }
        NetworkMode::Slirp4netns(options) => {
            let outbound = || [&options.outbound4, &options.outbound6].into_iter().flatten();
            let address = |outbound: &Outbound| if let Outbound::Address(ip) = outbound { Some(*ip) } else { None };
            RelaySettings {
                loopback: gateways().filter(|_| options.allow_host_loopback).collect(),
                dns: slirp_servers(options),
                outbound: outbound().filter_map(address).collect(),
                outbound_link4: outbound_link(&options.outbound4).cloned(),
                outbound_link6: outbound_link(&options.outbound6).cloned(),
                ..usual
            }
        }
        _ => usual,
    }
}

fn outbound_link(outbound: &Option<Outbound>) -> Option<&LinkName> {
    match outbound {
        Some(Outbound::Link(link)) => Some(link),
        Some(Outbound::Address(_)) | None => None,
    }
}

/// Are the links of the host there, by which traffic is to leave?
pub(crate) fn check_outbound(mode: &NetworkMode) -> Result<()> {
    let (named, flags) = match mode {
        NetworkMode::Pasta(options) => {
            ([options.outbound_link4.as_ref(), options.outbound_link6.as_ref()], ["--outbound-if4", "--outbound-if6"])
        }
        NetworkMode::Slirp4netns(options) => (
            [outbound_link(&options.outbound4), outbound_link(&options.outbound6)],
            ["outbound_addr", "outbound_addr6"],
        ),
        _ => return Ok(()),
    };
    let named: Vec<_> = named.into_iter().zip(flags).filter_map(|(link, flag)| Some((link?, flag))).collect();
    if named.is_empty() {
        return Ok(());
    }
    let links = home().run(|| Host::open().map_err(usage)?.facts().map_err(usage))?.links;
    match named.iter().find(|(link, _)| !links.contains(link)) {
        Some((link, flag)) => Err(cannot_start(format!("invalid {flag} \"{link}\": the host has no such interface"))),
        None => Ok(()),
    }
}

/// The host as an ordinary user's container reaches it.
pub(crate) fn host_ip(mode: &NetworkMode) -> IpAddr {
    match mode {
        NetworkMode::Pasta(options) => options.map_guest_addr.first().copied().unwrap_or(HOST.into()),
        _ => HOST.into(),
    }
}

/// Where an ordinary user's container asks names that the host's servers know.
pub(crate) fn forwarders(mode: &NetworkMode) -> Vec<IpAddr> {
    match mode {
        NetworkMode::Pasta(options) if !options.dns_forward.is_empty() => options.dns_forward.clone(),
        NetworkMode::Slirp4netns(options) => slirp_servers(options),
        _ => vec![FORWARDER.into()],
    }
}

/// Is a container of no use without the relay? It has ports published, or is on a network of its own.
pub(crate) fn needs_relay(wish: &SandboxWish<'_>) -> bool {
    !wish.ports.is_empty() || wish.attachments.iter().any(|attachment| attachment.hidden.is_some())
}

/// Why there is no relay, and what would change that.
fn closed(error: &io::Error) -> Error {
    let device = linux::tun::DEVICE;
    let (what, remedy) = match error.kind() {
        io::ErrorKind::PermissionDenied => ("is closed to users", format!("chmod 0666 {device}")),
        _ => ("is not there", "modprobe tun".to_owned()),
    };
    cannot_start(format!(
        "{device} {what}, so containers of an ordinary user have no way out: as root, `{remedy}`. Without it there are \
         --network none, --network host, and bridge networks whose containers reach each other"
    ))
}

/// Can an ordinary user's relay publish these?
pub(crate) fn check_ports(ports: &[PortMapping]) -> Result<()> {
    match ports.iter().any(|port| port.protocol == Protocol::Sctp) {
        // pasta's words.
        true => Err(cannot_start("can't forward protocol: sctp")),
        false => Ok(()),
    }
}

impl Networking<'_> {
    /// What a new network has to keep clear of: the host's, and the links where it will be.
    pub(crate) fn facts(&self, here: &mut Host) -> Result<Facts> {
        if !self.options.rootless {
            return here.facts().map_err(usage);
        }
        let at_home = || Host::open().map_err(usage)?.facts().map_err(usage);
        let mut facts = home().run(at_home)?;
        let is_away = namespace().is_some_and(|namespace| namespace == here.namespace());
        let around = is_away.then(|| here.facts()).transpose().map_err(usage)?;
        // The names of the host's links are nobody's in the relay's namespace.
        facts.links = around.map(|around| around.links).unwrap_or_default();
        Ok(facts)
    }

    /// MTU of networks that say nothing about it.
    pub(crate) fn usual_mtu(&self, host: &mut Host) -> Result<u32> {
        match self.options.rootless {
            true => Ok(RELAY_MTU),
            false => Ok(host.uplink().map_err(usage)?.mtu),
        }
    }

    /// The networks that a new one has to keep clear of.
    pub(crate) fn networks_around(&self, tx: &Tx<'_>) -> Result<Vec<Network>, StoreError> {
        let mut networks = tx.networks(self.scope)?;
        networks.extend(tx.networks(HIDDEN)?);
        Ok(networks)
    }

    /// The hidden network that is wished, made when it is not there.
    pub(crate) fn hidden(&self, tx: &Tx<'_>, wish: &HiddenRequest, host: &mut Host) -> Result<Network> {
        if let Some(network) = tx.network(HIDDEN, &wish.name)? {
            return Ok(network);
        }
        let facts = self.facts(host)?;
        let networks = self.networks_around(tx)?;
        let around = Surroundings { networks: &networks, used: &facts.used, links: &facts.links };
        let fresh = Fresh { id: random()?, prefix: random()?, created: &now(), pools: ipam::POOLS };
        let network = hidden_network(wish, &around, &fresh).map_err(cannot_start)?;
        tx.network_insert(HIDDEN, &network)?;
        Ok(network)
    }

    /// Forgets the hidden networks that nobody is on, once they are gone from the kernel.
    pub(crate) fn forget_hidden(&self, tx: &Tx<'_>) -> Result<(), StoreError> {
        for network in tx.networks(HIDDEN)? {
            let used = tx.attachment_count(&network.id)? > 0 || !tx.made(&[&owner_of_network(&network.id)])?.is_empty();
            if !used {
                tx.network_remove(&network.id)?;
            }
        }
        Ok(())
    }

    /// The relay that runs, or a new one that knows of all who are up.
    pub(crate) fn ensure_relay(&self, machine: &mut Machine) -> Result<()> {
        if !self.options.rootless || machine.relay.is_some() {
            return Ok(());
        }
        let runroot: &Path = &self.options.runroot;
        if let Some(relay) = Relay::find(runroot)? {
            machine.relay = Some(relay);
            return Ok(());
        }
        linux::tun::check().map_err(|e| closed(&e))?;
        machine.relay = Some(Relay::start(&Order::of(runroot, &namespace_path()))?);
        self.put_all_relayed(machine)
    }

    /// As [`Networking::ensure_relay`], for who may do without where users are given no TUN links: then what is
    /// to be said about it. A container's monitor goes on trying.
    pub(crate) fn relay_for(&self, machine: &mut Machine, needed: bool) -> Result<Option<Error>> {
        match self.ensure_relay(machine) {
            Err(error) if !needed && linux::tun::check().is_err() => Ok(Some(error)),
            done => done.map(|()| None),
        }
    }

    /// Has the relay serve everybody who is up, as they are now.
    pub(crate) fn put_all_relayed(&self, machine: &mut Machine) -> Result<()> {
        let Some(relay) = &mut machine.relay else { return Ok(()) };
        for (container, relayed) in self.all_relayed()? {
            // What one of them cannot have any more must not keep the others from it.
            if let Err(refusal) = relay.put(container, relayed) {
                tracing::warn!(%container, "the relay does not serve it: {}", self.refused(refusal));
            }
        }
        Ok(())
    }

    /// Who is up, as the relay sees them.
    fn all_relayed(&self) -> Result<BTreeMap<ContainerId, Relayed>> {
        self.store.read(|tx| {
            let mut all: BTreeMap<ContainerId, Vec<AttachedEndpoint>> = BTreeMap::new();
            for (container, _, document) in tx.attachments_up()? {
                all.entry(container).or_default().push(serde_json::from_value(document).map_err(usage)?);
            }
            let set = Settings::read(Path::new(SETTINGS_FILE))?.network;
            let mode = |id: &ContainerId| load(tx, id).map(|record| record.map(|record| record.settings.network.mode));
            all.into_iter()
                .map(|(id, endpoints)| Ok((id, relayed(&mode(&id)?.unwrap_or(NetworkMode::None), &endpoints, &set))))
                .collect::<Result<_>>()
        })
    }

    /// Has the relay hold ports for a container, before anything is made.
    pub(crate) fn hold_relayed(&self, machine: &mut Machine, id: &ContainerId, ports: &[PortMapping]) -> Result<()> {
        if ports.is_empty() { Ok(()) } else { self.ask_relay(machine, |relay| relay.hold(*id, ports)) }
    }

    /// Has the relay serve a container as it is now.
    pub(crate) fn put_relayed(
        &self,
        machine: &mut Machine,
        id: &ContainerId,
        endpoints: &[AttachedEndpoint],
    ) -> Result<()> {
        if machine.relay.is_none() {
            return Ok(());
        }
        let record = self.store.read(|tx| load(tx, id))?;
        let mode = record.map_or(NetworkMode::None, |record| record.settings.network.mode);
        let relayed = relayed(&mode, endpoints, &Settings::read(Path::new(SETTINGS_FILE))?.network);
        self.ask_relay(machine, |relay| relay.put(*id, relayed.clone()))
    }

    /// Asks the machine's relay, if it has one; another one, once, when that one is gone.
    fn ask_relay(&self, machine: &mut Machine, ask: impl Fn(&mut Relay) -> Result<(), Refusal>) -> Result<()> {
        let Some(relay) = &mut machine.relay else { return Ok(()) };
        let mut done = ask(relay);
        if let Err(Refusal::Gone(_)) = done {
            machine.relay = None;
            self.ensure_relay(machine)?;
            done = machine.relay.as_mut().map_or(Ok(()), ask);
        }
        done.map_err(|refusal| self.refused(refusal))
    }

    /// Has the relay forget a container. One that is not there has forgotten it.
    pub(crate) fn remove_relayed(&self, machine: &mut Machine, id: &ContainerId) -> Result<()> {
        if !self.options.rootless {
            return Ok(());
        }
        if machine.relay.is_none() {
            machine.relay = Relay::find(&self.options.runroot)?;
        }
        machine.relay.as_mut().map_or(Ok(()), |relay| relay.remove(*id))
    }

    fn refused(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Port { mapping, port, error } => {
                crate::ports::cannot_bind_port(self.store, &mapping, port, &error)
            }
            Refusal::Gone(error) | Refusal::Other(error) => Error::new(Kind::CannotStart, error.message),
        }
    }

    /// Removes the relay's namespace when nobody is on any network, nor in it by `unshare`.
    pub(crate) fn leave_if_unused(&self, machine: Machine) -> Result<()> {
        if !self.options.rootless || self.needs_a_place()? {
            return Ok(());
        }
        let Some(namespace) = namespace() else { return Ok(()) };
        let path = guests_path();
        let guests = HostLock::try_take(&path).map_err(|e| Error::at(path.display(), e))?;
        if guests.is_none() {
            return Ok(());
        }
        let relay = match machine.relay {
            Some(relay) => Some(relay),
            None => Relay::find(&self.options.runroot)?,
        };
        relay.map_or(Ok(()), |mut relay| relay.leave())?;
        netns::remove(&namespace_path()).map_err(|e| Error::at("cannot remove the relay's network namespace", e))?;
        // Under the lock that is still held; whoever waits for it makes another file.
        let runroot = &self.options.runroot;
        // From its cage the relay cannot remove its own.
        let files = [path, lock_path(), linux::lock::path(namespace), socket_path(runroot), pid_path(runroot)];
        for file in files {
            match std::fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%e, path = %file.display(), "cannot remove");
                }
                _ => {}
            }
        }
        // One that was killed leaves it; one that is leaving finds it gone.
        crate::engine::remove_tree(&crate::netd::directory(namespace))?;
        drop(machine._lock);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(mode: &NetworkMode) -> HiddenRequest {
        wishes(mode).unwrap().unwrap().remove(0).hidden.unwrap()
    }

    fn pasta(text: &str) -> NetworkMode {
        NetworkMode::Pasta(PastaOptions::parse(text).unwrap())
    }

    fn slirp(text: &str) -> NetworkMode {
        NetworkMode::Slirp4netns(text.parse().unwrap())
    }

    fn shown(mode: &NetworkMode) -> String {
        let request = request(mode);
        let subnets = request.subnets.iter().map(|s| {
            let pool = s.pool.map_or(String::new(), |pool| format!(" {}-{}", pool.first(), pool.last()));
            format!(" {} via {}{pool}", s.subnet, s.gateway.unwrap())
        });
        let name = if request.name.contains('-') { "other" } else { &request.name };
        let chosen =
            [(request.ip4, " +4"), (request.ip6, " +6")].iter().filter(|c| c.0).map(|c| c.1).collect::<String>();
        format!("{name}{}{chosen} mtu {}", subnets.collect::<String>(), request.mtu)
    }

    #[test]
    fn who_asks_for_nothing_shares_one_hidden_network() {
        assert_eq!(shown(&pasta("")), "pasta +4 +6 mtu 65520");
        assert_eq!(shown(&pasta("--map-gw,-I,eth7")), "pasta +4 +6 mtu 65520");
        assert_eq!(
            shown(&slirp("allow_host_loopback=true")),
            "slirp4netns 10.0.2.0/24 via 10.0.2.2 10.0.2.100-10.0.2.254 fd00::/64 via fd00::2 mtu 65520"
        );
    }

    #[test]
    fn who_asks_for_something_has_another_and_the_same_as_who_asks_for_the_same() {
        assert_eq!(shown(&pasta("-4")), "other +4 mtu 65520");
        assert_eq!(shown(&pasta("-m,1500")), "other +4 +6 mtu 1500");
        assert_eq!(shown(&pasta("-a,10.5.0.9,-n,24,-g,10.5.0.254,-4")), "other 10.5.0.0/24 via 10.5.0.254 mtu 65520");
        assert_eq!(shown(&pasta("-a,10.5.0.1/24")), "other 10.5.0.0/24 via 10.5.0.2 +6 mtu 65520");
        assert_eq!(
            shown(&slirp("cidr=10.41.0.0/24,enable_ipv6=false,mtu=1500")),
            "other 10.41.0.0/24 via 10.41.0.2 10.41.0.100-10.41.0.254 mtu 1500"
        );
        assert_eq!(request(&pasta("-4,-m,1500")).name, request(&pasta("-m,1500,-4,--map-gw")).name);
        assert_ne!(request(&pasta("-4")).name, request(&pasta("-6")).name);
    }

    #[test]
    fn a_private_network_is_a_users_own_way() {
        let said =
            |mode, rootless| settle_mode(&mode, rootless).map_or_else(|e| e.message, |mode| mode.word().to_owned());
        let fixed = AttachmentConfig { static_ips: vec![HOST.into()], ..AttachmentConfig::default() };
        assert_eq!(said(NetworkMode::Private(AttachmentConfig::default()), false), "bridge");
        assert_eq!(said(NetworkMode::Private(AttachmentConfig::default()), true), "pasta");
        assert_eq!(said(NetworkMode::Private(fixed.clone()), false), "bridge");
        assert_eq!(
            said(NetworkMode::Private(fixed), true),
            "invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking"
        );
        assert_eq!(
            said(pasta(""), false),
            "invalid config provided: pasta networking is only supported for rootless mode or when inside a nested userns"
        );
        assert_eq!(said(slirp(""), false), "slirp4netns networking is only supported for rootless mode");
        assert_eq!((said(pasta(""), true), said(slirp(""), true)), ("pasta".to_owned(), "slirp4netns".to_owned()));
    }

    #[test]
    fn the_relay_is_told_what_the_options_mean() {
        let settings = |mode: &NetworkMode| settings(mode, &[], &NetworkSettings::default());
        assert_eq!(settings(&pasta("")), RelaySettings::default());
        let server = vec!["10.0.2.3".parse().unwrap()];
        assert_eq!(settings(&slirp("")), RelaySettings { dns: server, ..RelaySettings::default() });
        assert_eq!(forwarders(&slirp("cidr=10.41.0.0/24")), ["10.41.0.3".parse::<IpAddr>().unwrap()]);
        let mapped =
            settings(&pasta("--map-host-loopback,10.9.9.9,--map-guest-addr,10.9.9.8,--dns-forward,10.9.9.7,--no-udp"));
        let ip = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
        assert_eq!((mapped.loopback, mapped.host, mapped.dns), (ip("10.9.9.9"), ip("10.9.9.8"), ip("10.9.9.7")));
        assert!(mapped.no_udp && !mapped.no_tcp && !mapped.no_host && settings(&pasta("--no-host")).no_host);
        let closed = NetworkSettings { host_services: false, ..NetworkSettings::default() };
        assert!(super::settings(&slirp(""), &[], &closed).no_host && super::settings(&pasta(""), &[], &closed).no_host);
        let out = settings(&slirp("outbound_addr=eth0,outbound_addr6=fd99::9"));
        assert_eq!((out.outbound_link4.unwrap().as_str(), out.outbound), ("eth0", ip("fd99::9")));
    }
}
