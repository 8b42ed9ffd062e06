//! A Linux bridge on this host.
//!
//! ```text
//!   sandbox                       host
//!   eth0 10.88.0.2/16 ──veth── pw… ─┐
//!   default via 10.88.0.1           ├─ podman0 10.88.0.1/16 ── firewall ── uplink
//!   eth0 10.88.0.3/16 ──veth── pw… ─┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall::NetworkFirewall;
use model::network::IpamPolicy;
use model::{BridgeOptions, Isolation};
use plan::{Address, Bridge, Element, Object, Place, Veth};

use crate::{Describe, Endpoint, NetworkWish, bridge_mac, inside, shared_mac, sysctl};

/// So many links can be members of a bridge (BR_MAX_PORTS in net/bridge/br_private.h, of which 0 is none).
pub const MEMBERS_MAX: u64 = 1023;

impl Describe for BridgeOptions {
    fn network(&self, wish: &NetworkWish<'_>) -> Vec<Object> {
        network(wish, self)
    }

    fn attachment(&self, wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object> {
        attachment(wish, self, endpoint)
    }
}

/// The bridge with its gateways' addresses, its settings and its place in the firewall.
///
/// Of a bridge that is somebody else's, nothing.
fn network(wish: &NetworkWish<'_>, options: &BridgeOptions) -> Vec<Object> {
    let network = wish.network;
    if !network.is_managed() {
        return Vec::new();
    }
    let bridge = Bridge {
        name: wish.link.clone(),
        // All networks that share a bridge want it alike.
        mac: if network.may_share() { shared_mac(&wish.link) } else { bridge_mac(&network.id) },
        mtu: wish.mtu,
        filters_vlans: options.vlan.is_some(),
        vrf: options.vrf.clone(),
        mark: wish.mark.clone(),
    };
    let gateways = network.subnets.iter().filter_map(|s| Some(s.subnet.with(s.gateway?)));
    // Of a network that nobody sees, these are addresses of its own, at which the relay answers.
    let servers = network.dns_servers.iter().filter(|_| wish.apart).filter_map(|ip| {
        let subnet = network.subnets.iter().map(|s| s.subnet).find(|subnet| subnet.contains(*ip))?;
        Some(subnet.with(*ip))
    });
    let addresses = gateways
        .chain(servers)
        .map(|addr| Object::Address(Address { place: Place::Host, link: wish.link.clone(), addr }));
    let mut objects = vec![Object::Bridge(bridge)];
    objects.extend(settings(wish));
    objects.extend(addresses);
    objects.extend(elements(firewall_of(wish, options)));
    objects
}

/// The veth pair with addresses and routes, what may come out of it, and what is published to it.
fn attachment(wish: &NetworkWish<'_>, options: &BridgeOptions, endpoint: &Endpoint) -> Vec<Object> {
    let mark = &endpoint.mark;
    let mut objects = vec![Object::Veth(Veth {
        host: endpoint.host_link.clone(),
        bridge: wish.link.clone(),
        sandbox: endpoint.sandbox.clone(),
        name: endpoint.link.clone(),
        mac: endpoint.mac,
        mtu: endpoint.mtu(wish),
        // VLAN 0 is no VLAN: the bridge's own one then.
        vlan: options.vlan.filter(|vlan| *vlan != 0),
        isolated: wish.apart,
        mark: mark.clone(),
    })];
    // A bridge's member needs no address of its own, and would speak to the sandbox from it.
    objects.push(sysctl(Place::Host, format!("net/ipv6/conf/{}/disable_ipv6", endpoint.host_link), "1"));
    objects.extend(inside(wish, endpoint));
    // Who asks a DHCP server for an address has none yet, and asks its neighbours whether they have it.
    let families = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let leased = |ip: &IpAddr| wish.network.ipam == IpamPolicy::Dhcp && wish.network.has_family(ip.is_ipv4());
    let none_yet = families.into_iter().filter(leased);
    let ips: Vec<IpAddr> = endpoint.addrs.iter().map(|a| a.ip).chain(none_yet).collect();
    objects.extend(elements(firewall::port_elements(&endpoint.host_link, endpoint.mac, &ips, mark)));
    objects.extend(published(wish, endpoint));
    objects
}

/// Nothing is published from an internal network, nor on somebody else's bridge, as in Podman. A relay listens at
/// the host's addresses itself.
fn published(wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object> {
    if !wish.network.publishes() || wish.relayed {
        return Vec::new();
    }
    let (ip4, ip6) = targets(endpoint);
    let publish = |mapping| firewall::publish_elements(mapping, ip4, ip6, &endpoint.mark);
    endpoint.ports.iter().flat_map(|mapping| elements(publish(mapping))).collect()
}

fn targets(endpoint: &Endpoint) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let ip4 = endpoint.ip(true).and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
    let ip6 = endpoint.ip(false).and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
    (ip4, ip6)
}

fn settings(wish: &NetworkWish<'_>) -> Vec<Object> {
    let network = wish.network;
    let link = &wish.link;
    let on4 = |key: &str, value: &str| sysctl(Place::Host, format!("net/ipv4/conf/{link}/{key}"), value);
    let on6 = |key: &str, value: &str| sysctl(Place::Host, format!("net/ipv6/conf/{link}/{key}"), value);
    let mut objects = Vec::new();
    if network.internal {
        objects.push(on4("forwarding", "0"));
    } else {
        // For ports published on 127.0.0.1; the firewall's first rule keeps 127.0.0.0/8 off every wire.
        objects.push(on4("route_localnet", "1"));
        // Loose: an answer to a published port may leave by another uplink than it came in by.
        objects.push(on4("rp_filter", "2"));
    }
    if !network.has_family(false) {
        objects.push(on6("disable_ipv6", "1"));
        return objects;
    }
    objects.push(match network.internal {
        true => on6("forwarding", "0"),
        false => sysctl(Place::Host, "net/ipv6/conf/all/forwarding", "1"),
    });
    // No container may pose as the host's router, and nobody waits for duplicate address detection.
    objects.extend(["accept_ra", "accept_dad"].map(|key| on6(key, "0")));
    objects
}

fn firewall_of(wish: &NetworkWish<'_>, options: &BridgeOptions) -> Vec<Element> {
    let network = wish.network;
    firewall::network_elements(&NetworkFirewall {
        bridge: wish.link.clone(),
        subnets: network.subnets.iter().map(|s| s.subnet).collect(),
        gateways: network.subnets.iter().filter_map(|s| s.gateway).collect(),
        dns: wish.dns,
        isolation: if wish.apart { Isolation::FromEverything } else { options.isolate.unwrap_or_default() },
        internal: network.internal,
        relayed: wish.relayed,
        apart: wish.apart,
        outbound4: options.outbound_addr4,
        outbound6: options.outbound_addr6,
        mark: wish.mark.clone(),
    })
}

fn elements(elements: Vec<Element>) -> impl Iterator<Item = Object> {
    elements.into_iter().map(Object::Element)
}
