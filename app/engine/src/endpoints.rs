//! What an attachment becomes: link names, addresses, default routes, ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use drivers::Endpoint;
use ipam::address;
use model::{
    Addr, ContainerId, DnsName, Driver, LinkName, MacAddr, MacvlanMode, Network, NetworkId, NetworkName, NetworkSubnet,
    PortMapping,
};
use plan::{Mark, SandboxName};
use serde::{Deserialize, Serialize};
use store::{StoreError, Tx};

use crate::config::{AttachmentConfig, Dns};
use crate::error::{Error, Kind, Result};
use crate::networking::{cannot_start, usage};
use crate::ports;
use crate::record::ContainerRecord;

/// The result of an attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AttachedEndpoint {
    /// The network's name when it was attached.
    pub(crate) network: NetworkName,
    /// The network's id.
    pub(crate) network_id: NetworkId,
    /// What the wish asked for, for `inspect`.
    pub(crate) aliases: Vec<DnsName>,
    /// What it is found by on the network.
    #[serde(default)]
    pub(crate) names: Vec<DnsName>,
    /// Whom the DNS server asks for it, instead of the network's and the host's upstreams.
    #[serde(default)]
    pub(crate) dns_servers: Vec<IpAddr>,
    /// Link, addresses, MAC.
    pub(crate) endpoint: Endpoint,
    /// The network's own gateways, also where they are not the sandbox's default route. Where a DHCP server chooses
    /// addresses, its routers, once it has answered; [`settle`] makes default routes of them.
    pub(crate) network_gateways: Vec<IpAddr>,
    /// Is it a network without a way out?
    pub(crate) internal: bool,
    /// Does the network's gateway answer for names?
    #[serde(default)]
    pub(crate) dns: bool,
    /// What the LAN's servers told, for its files; there from the beginning where they are to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) learned: Option<crate::dhcp::Learned>,
    /// As [`AttachmentConfig::gw_priority`].
    #[serde(default)]
    pub(crate) gw_priority: i32,
}

/// What a container is called, and where it asks for names that are not ours.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    /// Its name.
    pub(crate) name: Option<DnsName>,
    /// Its short id, its host name where it was given one.
    pub(crate) others: Vec<DnsName>,
    /// `--dns`
    pub(crate) dns_servers: Vec<IpAddr>,
}

impl Identity {
    pub(crate) fn of(record: &ContainerRecord) -> Self {
        let settings = &record.settings;
        let hostname = settings.hostname_given.then_some(settings.hostname.as_str());
        // A container may be called what no host can be: then it is found by its id.
        let name = |text: &str| text.parse::<DnsName>().ok();
        // Who looks for a pod looks for its infra container.
        let pod = settings.pod.as_ref().filter(|_| record.is_infra()).map(|place| place.name.as_str());
        let own = record.name.as_str();
        let short = record.id.short();
        let others = [Some(short.as_str()), hostname, pod.map(|_| own)];
        Self {
            name: name(pod.unwrap_or(own)),
            others: others.into_iter().flatten().filter_map(name).collect(),
            dns_servers: match &settings.network.dns {
                Dns::Servers(servers) => servers.clone(),
                Dns::Host | Dns::Image => Vec::new(),
            },
        }
    }

    /// The name, the aliases on a network, the others: each once.
    pub(crate) fn names_with(&self, aliases: &[DnsName]) -> Vec<DnsName> {
        let mut names: Vec<DnsName> = Vec::new();
        for name in self.name.iter().chain(aliases).chain(&self.others) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

impl AttachedEndpoint {
    /// Is it a link on a link of the host?
    pub(crate) fn is_on_lan(&self) -> bool {
        self.endpoint.parent.is_some()
    }

    /// The container is called otherwise.
    pub(crate) fn rename(&mut self, identity: &Identity) {
        self.names = identity.names_with(&self.aliases);
    }
}

/// The link below that which is to be on a LAN.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    pub(crate) link: LinkName,
    pub(crate) mac: MacAddr,
}

/// A container that joins networks.
pub(crate) struct Newcomer<'a> {
    pub(crate) container: ContainerId,
    pub(crate) mark: Mark,
    pub(crate) identity: &'a Identity,
    /// All that was asked for together: link names asked for are kept free.
    pub(crate) asked: &'a [AttachmentConfig],
}

impl Newcomer<'_> {
    /// Link names, addresses (leased here) and MAC on one network, beside those it has. Default routes and
    /// ports come with [`settle`].
    pub(crate) fn join(
        &self,
        tx: &Tx<'_>,
        members: &[(Network, AttachedEndpoint)],
        network: &Network,
        parent: Option<Parent>,
        asked: &AttachmentConfig,
    ) -> Result<AttachedEndpoint> {
        let taken = |link: &LinkName| members.iter().any(|(_, member)| member.endpoint.host_link == *link);
        let free = (0..u8::MAX).map_while(|n| Some((n, drivers::host_link(&self.container, n)?)));
        let Some((number, host_link)) = free.into_iter().find(|(_, link)| !taken(link)) else {
            return Err(Error::new(Kind::Usage, "a container can be on 36 networks at most"));
        };
        check_possible(network, asked)?;
        let host_link = self.host_link(tx, members, asked)?.unwrap_or(host_link);
        room_for_one(tx, network)?;
        let addrs = lease_addresses(tx, network, asked, &self.container)?;
        let mac = match &parent {
            Some(parent) if has_parents_mac(network) => parent.mac,
            _ => asked.mac.unwrap_or(drivers::endpoint_mac(&network.id, &addrs, &self.container, number)),
        };
        if !has_parents_mac(network) {
            self.check_mac(tx, network, mac)?;
        }
        let endpoint = Endpoint {
            sandbox: SandboxName::of(&self.container),
            link: self.link_name(members, asked)?,
            host_link,
            parent: parent.map(|parent| parent.link),
            mac,
            addrs,
            gateways: Vec::new(),
            routes: Vec::new(),
            mtu: None,
            ports: Vec::new(),
            mark: self.mark.clone(),
        };
        Ok(AttachedEndpoint {
            network: network.name.clone(),
            network_id: network.id,
            aliases: asked.aliases.clone(),
            names: self.identity.names_with(&asked.aliases),
            dns_servers: self.identity.dns_servers.clone(),
            endpoint,
            network_gateways: network.subnets.iter().filter_map(|s| s.gateway).collect(),
            internal: network.internal,
            dns: network.serves_names(),
            learned: crate::dhcp::is_leased(network).then(Default::default),
            gw_priority: asked.gw_priority,
        })
    }

    /// The name asked for in the host's namespace, unless a container or a network of ours has it. What else
    /// has it, the planner finds.
    fn host_link(
        &self,
        tx: &Tx<'_>,
        members: &[(Network, AttachedEndpoint)],
        asked: &AttachmentConfig,
    ) -> Result<Option<LinkName>> {
        let Some(link) = &asked.host_link else { return Ok(None) };
        let taken =
            |by: String| cannot_start(format!("host interface name {:?} is already used by {by}", link.as_str()));
        if let Some((network, _)) = members.iter().find(|(_, member)| member.endpoint.host_link == *link) {
            return Err(taken(format!("this container on network {}", network.name)));
        }
        if let Some(holder) = tx.host_link_holder(link.as_str())?.filter(|holder| *holder != self.container) {
            return Err(taken(format!("container ID {}", with_name(tx, &holder)?)));
        }
        match tx.networks_of_all_scopes()?.iter().find(|network| network.link.as_ref() == Some(link)) {
            Some(network) => Err(taken(format!("network {}", network.name))),
            None => Ok(Some(link.clone())),
        }
    }

    /// Two containers with one MAC address on a network would take each other's frames.
    fn check_mac(&self, tx: &Tx<'_>, network: &Network, mac: MacAddr) -> Result<()> {
        match tx.mac_holder(&network.id, &mac.to_string())?.filter(|holder| *holder != self.container) {
            Some(holder) => Err(cannot_start(format!(
                "requested mac address {mac} is already used on network {} by container ID {}",
                network.name,
                with_name(tx, &holder)?
            ))),
            None => Ok(()),
        }
    }

    /// The name asked for, or the first `ethN` that is neither in use nor asked for.
    fn link_name(&self, members: &[(Network, AttachedEndpoint)], asked: &AttachmentConfig) -> Result<LinkName> {
        let in_use = |link: &LinkName| link.as_str() == "lo" || members.iter().any(|(_, m)| m.endpoint.link == *link);
        match &asked.link {
            Some(link) if in_use(link) => {
                let text = format!("network interface name {:?} is already assigned to another network", link.as_str());
                Err(Error::new(Kind::Usage, text))
            }
            Some(link) => Ok(link.clone()),
            None => {
                let reserved: BTreeSet<&LinkName> = self.asked.iter().filter_map(|a| a.link.as_ref()).collect();
                (0u32..)
                    .map_while(|n| format!("eth{n}").parse().ok())
                    .find(|link| !in_use(link) && !reserved.contains(link))
                    .ok_or_else(|| usage("no link name ethN is free"))
            }
        }
    }
}

/// Do all links of the network have their parent's MAC address?
fn has_parents_mac(network: &Network) -> bool {
    match &network.driver {
        Driver::Bridge(_) => false,
        Driver::Macvlan(options) => options.mode == Some(MacvlanMode::Passthru),
        Driver::Ipvlan(_) => true,
    }
}

/// Can a link on the network be as it is asked for?
fn check_possible(network: &Network, asked: &AttachmentConfig) -> Result<()> {
    let impossible = |option: &str, why: &str| {
        let (name, driver) = (&network.name, network.driver.word());
        Err(cannot_start(format!("{option} is not possible on network {name} of driver {driver}: {why}")))
    };
    match asked {
        AttachmentConfig { mac: Some(_), .. } if has_parents_mac(network) => {
            impossible("a MAC address", "its links have that of their parent")
        }
        AttachmentConfig { host_link: Some(_), .. } if network.bridge().is_none() => {
            impossible("host_interface_name", "its links have no end on the host")
        }
        _ => Ok(()),
    }
}

/// Every attachment is a port of the network's bridge, of which the kernel has no more.
fn room_for_one(tx: &Tx<'_>, network: &Network) -> Result<()> {
    const LIMIT: u64 = drivers::bridge::MEMBERS_MAX;
    if network.bridge().is_none() || tx.attachment_count(&network.id)? < LIMIT {
        return Ok(());
    }
    let text = format!(
        "network {} is full: {LIMIT} containers are on it, and the kernel lets a bridge have no more ports",
        network.name
    );
    Err(Error::new(Kind::Usage, text))
}

/// Deals out what a sandbox has once: a default route per family, by the network with the highest priority that
/// gives one, of equals by that whose routes have the lowest metric, as in Podman; and its published ports, on the first network with a way out.
pub(crate) fn settle(members: &mut [(Network, AttachedEndpoint)], ports: &[PortMapping]) {
    let published = members.iter().position(|(network, _)| network.publishes());
    for (index, (_, attached)) in members.iter_mut().enumerate() {
        attached.endpoint.ports = if published == Some(index) { ports.to_vec() } else { Vec::new() };
    }
    let mut routed = BTreeSet::new();
    let mut by_priority: Vec<&mut (Network, AttachedEndpoint)> = members.iter_mut().collect();
    // Stable: of equals the first stays the first.
    by_priority.sort_by_key(|(network, attached)| (std::cmp::Reverse(attached.gw_priority), drivers::metric(network)));
    for (network, attached) in by_priority {
        attached.endpoint.gateways = default_routes(network, attached, &mut routed);
    }
}

/// Can every port be reached where it is published? A mapping that could not is refused, never ignored. An
/// internal network publishes nothing, as in Podman.
pub(crate) fn check_ports(members: &[(Network, AttachedEndpoint)], wanted: &[PortMapping]) -> Result<()> {
    let Some((network, attached)) = members.iter().find(|(network, _)| network.publishes()) else { return Ok(()) };
    for port in wanted {
        if let Some(reason) = ports::cannot_relay(port) {
            return Err(cannot_start(reason));
        }
        // The relay from `[::1]` may go over to IPv4.
        let relayed = ports::is_relayed_whole(port);
        let reaches = |ipv4: bool| (relayed || port.host.includes(ipv4)) && attached.endpoint.ip(ipv4).is_some();
        if !reaches(true) && !reaches(false) {
            let family = if port.host.includes(true) { "IPv4" } else { "IPv6" };
            let text = format!(
                "cannot publish {} port {} on {}: network {} gives the container no {family} address",
                port.protocol, port.host_port, port.host, network.name
            );
            return Err(cannot_start(text));
        }
    }
    Ok(())
}

/// One address of each subnet: the one asked for, or the next.
fn lease_addresses(
    tx: &Tx<'_>,
    network: &Network,
    asked: &AttachmentConfig,
    container: &ContainerId,
) -> Result<Vec<Addr>> {
    if let Some(ip) = asked.static_ips.iter().find(|ip| !network.subnets.iter().any(|s| s.subnet.contains(**ip))) {
        let outside = address::IpamError::Outside { ip: *ip, network: network.name.clone() };
        return Err(cannot_start(outside));
    }
    let pool = Pool::of(tx, &network.id, container)?;
    let mut addrs = Vec::new();
    tx.addresses_unkeep(container, &network.id, false)?;
    for subnet in &network.subnets {
        let wished: Vec<IpAddr> = asked.static_ips.iter().copied().filter(|ip| subnet.subnet.contains(*ip)).collect();
        let ips = if wished.is_empty() { vec![pool.choose(tx, network, subnet, container)?] } else { wished };
        for ip in ips {
            address::check(subnet, &pool.leases, ip, container).map_err(|e| taken(tx, e))?;
            tx.lease(&network.id, &ip, container)?;
            tx.address_keep(container, &network.id, &ip, asked.static_ips.contains(&ip))?;
            addrs.push(subnet.subnet.with(ip));
        }
    }
    Ok(addrs)
}

/// What a container can be given on a network.
struct Pool {
    leases: address::Leases,
    /// Those, and what the users of other containers asked for: not given away while those are down, unless
    /// nothing else is left.
    careful: address::Leases,
    /// What it had last: it gets that again where nobody else has it.
    last: Vec<IpAddr>,
}

impl Pool {
    fn of(tx: &Tx<'_>, network: &NetworkId, container: &ContainerId) -> Result<Self> {
        let leases = leases(tx, network)?;
        let fixed = tx.addresses_fixed(network)?.into_iter().filter(|(_, whose)| whose != container);
        let fixed = fixed.map(|(ip, whose)| (ip, address::Holder::Container(whose)));
        Ok(Self {
            // Later ones win: who has it now.
            careful: fixed.chain(leases.iter().copied()).collect(),
            leases: leases.into_iter().collect(),
            last: tx.addresses_last(container, network)?,
        })
    }

    /// An address of the subnet for a container that did not ask for one.
    fn choose(
        &self,
        tx: &Tx<'_>,
        network: &Network,
        subnet: &NetworkSubnet,
        container: &ContainerId,
    ) -> Result<IpAddr> {
        let granted = |ip: &IpAddr| address::check(subnet, &self.careful, *ip, container).is_ok();
        let free = |ip: &&IpAddr| subnet.subnet.contains(**ip) && granted(ip);
        if let Some(ip) = self.last.iter().find(free) {
            return Ok(*ip);
        }
        let last = tx.last_lease(&network.id, &subnet.subnet)?;
        let now = linux::machine::boottime();
        let choose = |leases| address::choose(subnet, leases, last, now);
        choose(&self.careful).or_else(|_| choose(&self.leases)).map_err(|e| exhausted(tx, network, e))
    }
}

/// No address is left; with the names of the first who have them.
fn exhausted(tx: &Tx<'_>, network: &Network, error: address::IpamError) -> Error {
    const NAMED: usize = 5;
    let address::IpamError::Exhausted { first, last } = error else { return cannot_start(error) };
    let mut holders: Vec<(IpAddr, ContainerId)> = Vec::new();
    for (ip, holder) in leases(tx, &network.id).unwrap_or_default() {
        if let address::Holder::Container(container) = holder
            && (first..=last).contains(&ip)
        {
            holders.push((ip, container));
        }
    }
    let named = holders.iter().take(NAMED).map(|(ip, id)| {
        let name = name_of(tx, id).ok().flatten().unwrap_or_else(|| id.short());
        format!("{name} has {ip}")
    });
    let mut named: Vec<String> = named.collect();
    if holders.len() > NAMED {
        named.push(format!("{} more", holders.len() - NAMED));
    }
    let text = format!("{error} of network {}", network.name);
    cannot_start(if named.is_empty() { text } else { format!("{text}: {}", named.join(", ")) })
}

/// An address that cannot be had; with the name of who has it.
fn taken(tx: &Tx<'_>, error: address::IpamError) -> Error {
    let name = match &error {
        address::IpamError::Taken { holder, .. } => name_of(tx, holder).ok().flatten(),
        _ => None,
    };
    cannot_start(format!("{error}{}", name.map_or_else(String::new, |name| format!(" ({name})"))))
}

/// `ID (NAME)`
fn with_name(tx: &Tx<'_>, id: &ContainerId) -> Result<String> {
    Ok(name_of(tx, id)?.map_or_else(|| id.to_string(), |name| format!("{id} ({name})")))
}

fn name_of(tx: &Tx<'_>, id: &ContainerId) -> Result<Option<String>> {
    Ok(tx.container_doc::<serde::de::IgnoredAny>(id)?.map(|(row, _)| row.name))
}

fn leases(tx: &Tx<'_>, network: &NetworkId) -> Result<Vec<(IpAddr, address::Holder)>, StoreError> {
    let holder = |lease: &store::Lease| match (lease.holder, lease.released) {
        (Some(container), _) => address::Holder::Container(container),
        (None, released) => address::Holder::FreeSince(released.unwrap_or_default()),
    };
    Ok(tx.leases(network)?.iter().map(|lease| (lease.ip, holder(lease))).collect())
}

/// The network's gateways, for families that no earlier network routes and that the sandbox has an address of.
fn default_routes(network: &Network, attached: &AttachedEndpoint, routed: &mut BTreeSet<bool>) -> Vec<IpAddr> {
    if !network.gives_default_route() {
        return Vec::new();
    }
    let gateways = attached.network_gateways.iter().copied();
    gateways
        .filter(|gateway| attached.endpoint.ip(gateway.is_ipv4()).is_some())
        .filter(|gateway| routed.insert(gateway.is_ipv4()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A network `10.N.0.0/16`, with IPv6 if it is said, and an endpoint on it.
    fn member(n: u8, ipv6: bool, internal: bool, gw_priority: i32) -> (Network, AttachedEndpoint) {
        let mut subnets = vec![json!({"subnet": format!("10.{n}.0.0/16"), "gateway": format!("10.{n}.0.1")})];
        if ipv6 {
            subnets.push(json!({"subnet": format!("fd00:{n}::/64"), "gateway": format!("fd00:{n}::1")}));
        }
        let network: Network = serde_json::from_value(json!({
            "name": format!("n{n}"), "id": NetworkId::from_bytes([n; 32]), "driver": "bridge",
            "network_interface": format!("podman{n}"), "created": "2026-11-24T15:00:00Z", "subnets": subnets,
            "ipv6_enabled": ipv6, "internal": internal, "dns_enabled": true, "ipam_options": {"driver": "host-local"}
        }))
        .unwrap();
        let container = ContainerId::from_bytes([7; 32]);
        let addrs: Vec<Addr> = network
            .subnets
            .iter()
            .map(|s| s.subnet.with(address::choose(s, &address::Leases::default(), None, 0).unwrap()))
            .collect();
        let endpoint = Endpoint {
            sandbox: SandboxName::of(&container),
            link: format!("eth{n}").parse().unwrap(),
            host_link: drivers::host_link(&container, n).unwrap(),
            parent: None,
            mac: drivers::endpoint_mac(&network.id, &addrs, &container, n),
            addrs,
            gateways: Vec::new(),
            routes: Vec::new(),
            mtu: None,
            ports: Vec::new(),
            mark: Mark::new("00000000", "070707070707"),
        };
        let attached = AttachedEndpoint {
            network: network.name.clone(),
            network_id: network.id,
            aliases: Vec::new(),
            names: Vec::new(),
            dns_servers: Vec::new(),
            endpoint,
            network_gateways: network.subnets.iter().filter_map(|s| s.gateway).collect(),
            internal,
            dns: true,
            learned: None,
            gw_priority,
        };
        (network, attached)
    }

    fn check(mut members: Vec<(Network, AttachedEndpoint)>, routes: &str) {
        settle(&mut members, &[]);
        let routed = members.iter().filter(|(_, attached)| !attached.endpoint.gateways.is_empty());
        let shown = routed.map(|(network, attached)| {
            let gateways: Vec<String> = attached.endpoint.gateways.iter().map(ToString::to_string).collect();
            format!("{}: {}", network.name, gateways.join(" "))
        });
        assert_eq!(shown.collect::<Vec<_>>().join(", "), routes);
    }

    #[test]
    fn of_equals_the_first_network_gives_each_familys_default_route() {
        check(vec![member(1, false, false, 0), member(2, true, false, 0)], "n1: 10.1.0.1, n2: fd00:2::1");
        check(vec![member(1, true, true, 0), member(2, false, false, 0)], "n2: 10.2.0.1");
    }

    #[test]
    fn the_highest_priority_gives_the_default_routes_wherever_it_stands() {
        let three = |a, b, c| vec![member(1, true, false, a), member(2, false, false, b), member(3, true, false, c)];
        check(three(0, 5, 1), "n2: 10.2.0.1, n3: fd00:3::1");
        check(three(-1, -1, -1), "n1: 10.1.0.1 fd00:1::1");
        check(three(-1, -2, 0), "n3: 10.3.0.1 fd00:3::1");
    }

    #[test]
    fn a_network_without_a_way_out_gives_no_default_route_whatever_its_priority() {
        check(vec![member(1, true, true, 9), member(2, true, false, 0)], "n2: 10.2.0.1 fd00:2::1");
    }

    #[test]
    fn a_full_network_is_refused_by_name_before_anything_is_made() {
        let root = tempfile::tempdir().unwrap();
        let store = store::Store::open(root.path()).unwrap();
        let (network, _) = member(1, false, false, 0);
        let container = |n: u16| {
            let [high, low] = n.to_be_bytes();
            ContainerId::from_bytes(std::array::from_fn(|at| [high, low].get(at).copied().unwrap_or_default()))
        };
        let join = |n: u16| {
            store.write(|tx| {
                room_for_one(tx, &network)?;
                tx.attachment_put(&container(n), &network.id, 0, &json!({})).map_err(Error::from)
            })
        };
        store.write(|tx| tx.network_insert("", &network)).unwrap();
        (1..=1023).for_each(|n| join(n).unwrap());
        assert_eq!(
            join(1024).unwrap_err().to_string(),
            "network n1 is full: 1023 containers are on it, and the kernel lets a bridge have no more ports"
        );
        store.write(|tx| tx.attachments_remove(&container(7))).unwrap();
        join(1024).unwrap();
    }
}
