//! What an attachment becomes: link names, addresses, default routes, ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use drivers::Endpoint;
use ipam::address;
use model::{Addr, ContainerId, DnsName, Driver, LinkName, Network, NetworkId, NetworkName, PortMapping};
use plan::{Mark, SandboxName};
use serde::{Deserialize, Serialize};
use store::{StoreError, Tx};

use crate::config::AttachmentConfig;
use crate::error::{Error, Kind, Result};
use crate::networking::{cannot_start, usage};

/// The result of an attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AttachedEndpoint {
    /// The network's name when it was attached.
    pub(crate) network: NetworkName,
    /// The network's id.
    pub(crate) network_id: NetworkId,
    /// What the wish asked for, for `inspect`.
    pub(crate) aliases: Vec<DnsName>,
    /// Link, addresses, MAC.
    pub(crate) endpoint: Endpoint,
    /// The network's own gateways, also where they are not the sandbox's default route.
    pub(crate) network_gateways: Vec<IpAddr>,
    /// Is it a network without a way out?
    pub(crate) internal: bool,
}

/// A container that joins networks.
pub(crate) struct Newcomer<'a> {
    pub(crate) container: ContainerId,
    pub(crate) mark: Mark,
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
        asked: &AttachmentConfig,
    ) -> Result<AttachedEndpoint> {
        let taken = |link: &LinkName| members.iter().any(|(_, member)| member.endpoint.host_link == *link);
        let free = (0..u8::MAX).map_while(|n| Some((n, drivers::host_link(&self.container, n)?)));
        let Some((number, host_link)) = free.into_iter().find(|(_, link)| !taken(link)) else {
            return Err(Error::new(Kind::Usage, "a container can be on 36 networks at most"));
        };
        let addrs = lease_addresses(tx, network, asked, &self.container)?;
        let endpoint = Endpoint {
            sandbox: SandboxName::of(&self.container),
            link: self.link_name(members, asked)?,
            host_link,
            mac: asked.mac.unwrap_or(drivers::endpoint_mac(&network.id, &addrs, &self.container, number)),
            addrs,
            gateways: Vec::new(),
            ports: Vec::new(),
            mark: self.mark.clone(),
        };
        Ok(AttachedEndpoint {
            network: network.name.clone(),
            network_id: network.id,
            aliases: asked.aliases.clone(),
            endpoint,
            network_gateways: network.subnets.iter().filter_map(|s| s.gateway).collect(),
            internal: network.internal,
        })
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

/// Deals out what a sandbox has once: a default route per family, by the first network that gives one, and
/// its published ports, on the first network with a way out.
pub(crate) fn settle(members: &mut [(Network, AttachedEndpoint)], ports: &[PortMapping]) {
    let published = members.iter().position(|(network, _)| !network.internal);
    let mut routed = BTreeSet::new();
    for (index, (network, attached)) in members.iter_mut().enumerate() {
        attached.endpoint.gateways = default_routes(network, &attached.endpoint.addrs, &mut routed);
        attached.endpoint.ports = if published == Some(index) { ports.to_vec() } else { Vec::new() };
    }
}

/// Can every port be reached where it is published? A mapping that could not is refused, never ignored. An
/// internal network publishes nothing, as in Podman.
pub(crate) fn check_ports(members: &[(Network, AttachedEndpoint)], ports: &[PortMapping]) -> Result<()> {
    let Some((network, attached)) = members.iter().find(|(network, _)| !network.internal) else { return Ok(()) };
    for port in ports {
        let exact = port.host.exact();
        if exact.is_some_and(|ip| ip.is_ipv6() && ip.is_loopback()) {
            let text =
                "cannot publish on [::1]: not supported yet; publish on [::], or on 127.0.0.1 for this host alone";
            return Err(cannot_start(text));
        }
        let reaches = |ipv4: bool| port.host.includes(ipv4) && attached.endpoint.ip(ipv4).is_some();
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
    let leases = leases(tx, &network.id)?;
    let now = linux::machine::boottime();
    let mut addrs = Vec::new();
    for subnet in &network.subnets {
        let wished: Vec<IpAddr> = asked.static_ips.iter().copied().filter(|ip| subnet.subnet.contains(*ip)).collect();
        let ips = match wished.is_empty() {
            true => {
                let last = tx.last_lease(&network.id, &subnet.subnet)?;
                vec![address::choose(subnet, &leases, last, now).map_err(cannot_start)?]
            }
            false => wished,
        };
        for ip in ips {
            address::check(subnet, &leases, ip, container).map_err(cannot_start)?;
            tx.lease(&network.id, &ip, container)?;
            addrs.push(subnet.subnet.with(ip));
        }
    }
    Ok(addrs)
}

fn leases(tx: &Tx<'_>, network: &NetworkId) -> Result<address::Leases, StoreError> {
    let holder = |lease: &store::Lease| match (lease.holder, lease.released) {
        (Some(container), _) => address::Holder::Container(container),
        (None, released) => address::Holder::FreeSince(released.unwrap_or_default()),
    };
    Ok(tx.leases(network)?.iter().map(|lease| (lease.ip, holder(lease))).collect())
}

/// The network's gateways, for families that no earlier network routes and that the sandbox has an address of.
fn default_routes(network: &Network, addrs: &[Addr], routed: &mut BTreeSet<bool>) -> Vec<IpAddr> {
    let Driver::Bridge(options) = &network.driver;
    if !drivers::bridge::gives_default_route(options, network.internal) {
        return Vec::new();
    }
    let gateways = network.subnets.iter().filter_map(|s| s.gateway);
    gateways
        .filter(|gateway| addrs.iter().any(|a| a.ip.is_ipv4() == gateway.is_ipv4()))
        .filter(|gateway| routed.insert(gateway.is_ipv4()))
        .collect()
}
