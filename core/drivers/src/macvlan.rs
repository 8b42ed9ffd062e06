//! Links with MAC addresses of their own on a link of the host.
//!
//! ```text
//!   sandbox                          host
//!   eth0 192.168.1.64/24 ─┐
//!   eth0 192.168.1.65/24 ─┼─ eth0, the parent ── LAN
//!   (host_access) pwh… ───┘   route 192.168.1.64/32 dev pwh…
//! ```
//!
//! The kernel passes no frames between a parent and the links on it. With `host_access` the host has a link of its own
//! there, without an address, by which it reaches each container's address. A container finds the host by asking for
//! the host's own address: over IPv4 the host answers on whatever link it is asked, and with `arp_filter` only whom it
//! would answer by that link, which are our containers and nobody else on the LAN. Over IPv6 a link answers for its own
//! addresses alone, and if this link had the host's, it would answer the whole LAN: so containers are told the host's
//! MAC address instead. The host in turn is told those of the containers: it would ask for them in the name of its own
//! address, and the whole LAN would believe that the host is where it asked from.

use std::net::IpAddr;

use model::{LinkName, MacvlanMode, MacvlanOptions, NetworkId, Subnet};
use plan::{Child, ChildKind, Neighbour, Object, Place, Route, RouteKind};

use crate::{Describe, Endpoint, METRIC, NetworkWish, bridge_mac, lan, sysctl};

impl Describe for MacvlanOptions {
    fn network(&self, wish: &NetworkWish<'_>) -> Vec<Object> {
        if self.host_access == Some(true) { host_link(wish) } else { Vec::new() }
    }

    fn attachment(&self, wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object> {
        let mode = self.mode.unwrap_or_default();
        // It has the parent's MAC address, and would change that with its own.
        let mac = (mode != MacvlanMode::Passthru).then_some(endpoint.mac);
        let mut objects = lan::attachment(wish, endpoint, ChildKind::Macvlan { mode, mac, bclim: self.bclim });
        if self.host_access == Some(true) {
            objects.extend(from_host(wish, endpoint));
            objects.extend(to_host(wish, endpoint));
        }
        objects
    }
}

/// The name of the host's own link on the parent of a network with `host_access`.
pub fn access_link(network: &NetworkId) -> Option<LinkName> {
    format!("pwh{}", &network.short()[..10]).parse().ok()
}

fn host_link(wish: &NetworkWish<'_>) -> Vec<Object> {
    let Some(name) = access_link(&wish.network.id) else { return Vec::new() };
    let on4 = |key: &str, value: &str| sysctl(Place::Host, format!("net/ipv4/conf/{name}/{key}"), value);
    let on6 = |key: &str, value: &str| sysctl(Place::Host, format!("net/ipv6/conf/{name}/{key}"), value);
    let mut objects = vec![on4("arp_filter", "1")];
    match wish.network.has_family(false) {
        // The LAN's routers are heard on the parent already.
        true => objects.extend([on6("accept_ra", "0"), on6("autoconf", "0")]),
        false => objects.push(on6("disable_ipv6", "1")),
    }
    let mac = Some(bridge_mac(&wish.network.id));
    objects.push(Object::Child(Child {
        place: Place::Host,
        unfinished: name.clone(),
        name,
        parent: wish.link.clone(),
        kind: ChildKind::Macvlan { mode: MacvlanMode::Bridge, mac, bclim: None },
        mtu: wish.mtu,
        mark: wish.mark.clone(),
    }));
    objects
}

/// How the host reaches the container.
fn from_host(wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object> {
    let Some(link) = access_link(&wish.network.id) else { return Vec::new() };
    let one = |ip: IpAddr| Subnet::around(ip, if ip.is_ipv4() { 32 } else { 128 }).ok();
    let way = |ip: IpAddr| {
        let (place, kind) = (Place::Host, RouteKind::On(link.clone()));
        let route = one(ip).map(|destination| Object::Route(Route { place, destination, kind, metric: METRIC }));
        let neighbour = Neighbour { place: Place::Host, link: link.clone(), ip, mac: endpoint.mac };
        [Object::Neighbour(neighbour)].into_iter().chain(route)
    };
    endpoint.addrs.iter().flat_map(|addr| way(addr.ip)).collect()
}

/// How the container reaches the host.
fn to_host(wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object> {
    let seen = |ip: &&IpAddr| ip.is_ipv6() && endpoint.addrs.iter().any(|addr| addr.subnet().contains(**ip));
    let neighbour = |ip: &IpAddr| {
        Object::Neighbour(Neighbour {
            place: Place::Sandbox(endpoint.sandbox.clone()),
            link: endpoint.link.clone(),
            ip: *ip,
            mac: bridge_mac(&wish.network.id),
        })
    };
    wish.host_addrs.iter().filter(seen).map(neighbour).collect()
}
