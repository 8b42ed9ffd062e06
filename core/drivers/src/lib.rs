//! What exists in the kernel for a network and for an attachment.
//!
//! ```text
//!   Network ────────────> bridge  ─> bridge, its addresses and settings, firewall elements
//!                         macvlan ─> a link of the host's own on the parent, for who asked for it
//!   Network + Endpoint ─> bridge  ─> veth, addresses, routes, identity and publish elements
//!                         macvlan ─> a link on the parent, addresses, routes
//!                         ipvlan  ─> the same
//! ```
//!
//! **How it works.** A driver only describes objects; the planner compares them with what is there and
//! orders what is missing, the host applies it. Nothing here is ever taken down by hand: detaching is
//! the plan for a wish with one attachment fewer.
//!
//! **Invariants.** Pure. The same wish gives the same objects in the same order. A driver is one file
//! and one line in `driver_of`.
//!
//! **Limits.** Chooses no address and no name; see `ipam` and the engine. Where the host itself learns its
//! IPv6 default route from router advertisements, it stops believing them once IPv6 is forwarded, unless its
//! administrator has set `net.ipv6.conf.UPLINK.accept_ra=2` (Linux' ip-sysctl.rst, accept_ra): how the host is
//! configured is not for us to decide, so we do not set that. Forwarding stays on when the last container is
//! gone, for others may rely on it by then.
//!
//! **Start reading** at [`bridge`].

pub mod bridge;
mod ipvlan;
mod lan;
pub mod macvlan;

use std::net::IpAddr;

use model::network::IpamPolicy;
use model::{Addr, ContainerId, Driver, LinkName, MacAddr, Network, NetworkId, PortMapping, RouteTarget, Subnet};
use plan::{Address, Mark, Object, Place, Route, RouteKind, Ruleset, Sandbox, SandboxName, Sysctl};
use serde::{Deserialize, Serialize};

/// A network that should be there.
#[derive(Debug, Clone)]
pub struct NetworkWish<'a> {
    /// Its definition.
    pub network: &'a Network,
    /// The bridge, or the parent of its containers' links.
    pub link: LinkName,
    /// The host's own addresses on the parent, where containers are to know the host ([`macvlan`]).
    pub host_addrs: Vec<IpAddr>,
    /// MTU of its links in bytes: the option's, or that of the host's default route, or the parent's.
    pub mtu: u32,
    /// The port at which names are answered on its gateways; containers ask at port 53. `None`: it has no names.
    pub dns: Option<u16>,
    /// Its way out is the relay of an ordinary user, which also listens at its published ports.
    pub relayed: bool,
    /// Its members do not reach each other.
    pub apart: bool,
    /// Whose its objects are.
    pub mark: Mark,
}

/// The result of an attachment: link, addresses, MAC, next hops, ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// In which sandbox.
    pub sandbox: SandboxName,
    /// The link's name in the sandbox.
    pub link: LinkName,
    /// The name of its other end in the host place; of a link that has none, the name it is made with.
    pub host_link: LinkName,
    /// The link below it, of a link on a LAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<LinkName>,
    /// The MAC address of the link in the sandbox.
    pub mac: MacAddr,
    /// At most one per subnet of the network. Where a DHCP server chooses them, none before it has answered; what
    /// they are then is written here, and the objects follow.
    pub addrs: Vec<Addr>,
    /// Default routes: at most one per family. Those of a DHCP server are written here too.
    pub gateways: Vec<IpAddr>,
    /// Routes beside the default ones that a DHCP server told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<LearnedRoute>,
    /// The MTU that a DHCP server told, in bytes; the network's where that is smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Ports published to this endpoint.
    pub ports: Vec<PortMapping>,
    /// Whose its objects are.
    pub mark: Mark,
}

/// A route that a DHCP server told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedRoute {
    /// Where to.
    pub destination: Subnet,
    /// The next hop; `None`: it is on the link itself.
    pub gateway: Option<IpAddr>,
}

impl Endpoint {
    /// The MTU of its link, in bytes.
    fn mtu(&self, wish: &NetworkWish<'_>) -> u32 {
        self.mtu.map_or(wish.mtu, |mtu| mtu.min(wish.mtu))
    }

    /// Its first address of IPv4 (`true`) or IPv6.
    pub fn ip(&self, ipv4: bool) -> Option<IpAddr> {
        self.addrs.iter().map(|a| a.ip).find(|ip| ip.is_ipv4() == ipv4)
    }
}

/// What every kind of network must say.
trait Describe {
    /// What a network needs, whoever is attached to it.
    fn network(&self, wish: &NetworkWish<'_>) -> Vec<Object>;
    /// What one attachment needs beside its network and its sandbox.
    fn attachment(&self, wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object>;
}

/// The drivers, one line each.
fn driver_of(driver: &Driver) -> &dyn Describe {
    match driver {
        Driver::Bridge(options) => options,
        Driver::Macvlan(options) => options,
        Driver::Ipvlan(options) => options,
    }
}

/// What a network needs, whoever is attached to it.
pub fn network(wish: &NetworkWish<'_>) -> Vec<Object> {
    driver_of(&wish.network.driver).network(wish)
}

/// What one attachment needs beside its network and its sandbox.
pub fn attachment(wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object> {
    driver_of(&wish.network.driver).attachment(wish, endpoint)
}

/// What every network needs of the host: the firewall's rules, forwarding, and room for neighbours. `relayed`: by
/// way of an ordinary user's relay; then the room is for the machine's administrator to make.
///
/// The kernel's tables of neighbours are one for all namespaces, and full with 1,024 of them by default: 300
/// containers that spoke to two others each had to wait for 5 s, and so had everybody else on the machine.
pub fn base(relayed: bool) -> Vec<Object> {
    let room = ["ipv4", "ipv6"].into_iter().flat_map(|family| NEIGHBOURS.map(|(key, least)| (family, key, least)));
    let room = room.map(|(family, key, least)| sysctl(Place::Host, format!("net/{family}/neigh/default/{key}"), least));
    let rules = Object::Ruleset(Ruleset { version: firewall::version() });
    let room = room.filter(|_| !relayed);
    [rules, sysctl(Place::Host, "net/ipv4/ip_forward", "1")].into_iter().chain(room).collect()
}

/// Soft and hard limit of a table of neighbours (Linux' ip-sysctl.rst), each of some 400 bytes. The host keeps
/// higher ones.
const NEIGHBOURS: [(&str, &str); 2] = [("gc_thresh2", "16384"), ("gc_thresh3", "32768")];

/// A sandbox, with the settings that links made in it later start with.
///
/// Without IPv6 among its networks, links come up without even a link-local address: on an IPv4-only
/// network fe80 would be a way around every rule about IPv4 (reliability-security.md 1.2). `lo` keeps `::1`.
pub fn sandbox(name: &SandboxName, ipv6: bool) -> Vec<Object> {
    let place = || Place::Sandbox(name.clone());
    let mut objects = vec![
        Object::Sandbox(Sandbox { name: name.clone() }),
        // Loose: with two networks the answer may leave by another link than the question came in by, and a new
        // namespace starts with what the host has (devinet_init_net in net/ipv4/devinet.c).
        sysctl(place(), "net/ipv4/conf/default/rp_filter", "2"),
        // Its addresses are announced when a link goes down and up again and when its MAC address is set, as the
        // host does after its addresses were added (inetdev_event in net/ipv4/devinet.c).
        sysctl(place(), "net/ipv4/conf/default/arp_notify", "1"),
    ];
    if ipv6 {
        // Routers are not believed: a neighbour could pose as one.
        objects.push(sysctl(place(), "net/ipv6/conf/default/accept_ra", "0"));
        objects.push(sysctl(place(), "net/ipv6/conf/default/autoconf", "0"));
        objects.push(sysctl(place(), "net/ipv6/conf/default/accept_dad", "0"));
        objects.push(sysctl(place(), "net/ipv6/conf/default/ndisc_notify", "1"));
    } else {
        objects.push(sysctl(place(), "net/ipv6/conf/default/disable_ipv6", "1"));
    }
    objects
}

/// The name of the host end of a container's nth attachment: `pw`, ten digits of its id, the number.
///
/// Fits 15 characters up to attachment 35 (in base 36), which is more than any container has.
pub fn host_link(container: &ContainerId, index: u8) -> Option<LinkName> {
    let digit = char::from_digit(u32::from(index), 36)?;
    format!("pw{}{digit}", &container.short()[..10]).parse().ok()
}

/// The MAC of an endpoint that asked for none: always the same for an address on a network.
///
/// Whoever is leased an address that somebody else had is then reachable at once by neighbours that remember it.
/// With another MAC they would first believe their cache: 11 s without an answer were measured from a host to a
/// new container on a bridge that kept its carrier and its MAC. Without addresses it follows from the container's
/// id and the attachment's number.
pub fn endpoint_mac(network: &NetworkId, addrs: &[Addr], container: &ContainerId, index: u8) -> MacAddr {
    let net = digits(&network.to_string());
    let ips = || addrs.iter().map(|addr| addr.ip);
    match ips().find(IpAddr::is_ipv4).or_else(|| ips().next()) {
        Some(IpAddr::V4(ip)) => {
            let [a, b, c, d] = ip.octets();
            MacAddr::local([net[0], net[1], a, b, c, d])
        }
        Some(IpAddr::V6(ip)) => {
            let [.., a, b, c, d, e] = ip.octets();
            MacAddr::local([net[0], a, b, c, d, e])
        }
        None => {
            let [a, b, c, d, e, f] = digits(&container.to_string());
            MacAddr::local([a, b, c, d, e, f ^ index])
        }
    }
}

/// A bridge's MAC: fixed, else the kernel changes it with every member.
pub fn bridge_mac(network: &NetworkId) -> MacAddr {
    MacAddr::local(digits(&network.to_string()))
}

/// The MAC of a bridge that several networks share: it follows from the bridge's name.
pub fn shared_mac(link: &LinkName) -> MacAddr {
    MacAddr::local(shared_digits(link))
}

/// Whose the objects are that belong to a bridge rather than to one of the networks that share it: twelve
/// hexadecimal digits, for [`Mark::new`].
pub fn shared_owner(link: &LinkName) -> String {
    shared_digits(link).iter().map(|octet| format!("{octet:02x}")).collect()
}

/// FNV-1a of the name, of which 48 bits are plenty for the few bridges of a host.
fn shared_digits(link: &LinkName) -> [u8; 6] {
    let hash = link
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let [a, b, c, d, e, f, ..] = hash.to_be_bytes();
    [a, b, c, d, e, f]
}

/// The first six octets of an id's text.
fn digits(id: &str) -> [u8; 6] {
    let octet = |n: usize| id.get(2 * n..2 * n + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    std::array::from_fn(|n| octet(n).unwrap_or_default())
}

/// The link's IPv6 switch, its addresses and its routes: whatever kind of link it is.
fn inside(wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object> {
    let place = || Place::Sandbox(endpoint.sandbox.clone());
    // Whatever the sandbox's default is, which its first networks chose: on a network without IPv6, fe80 would
    // be a way around the rules; on one with it, the address would be refused.
    let no_ipv6 = if wish.network.has_family(false) { "0" } else { "1" };
    let mut objects = vec![sysctl(place(), format!("net/ipv6/conf/{}/disable_ipv6", endpoint.link), no_ipv6)];
    if wish.network.is_on_lan() {
        // Another link may be on the same LAN: each answers for its own addresses and asks from them, or neighbours
        // would remember the one for the other's.
        let on4 = |key: &str, value: &str| sysctl(place(), format!("net/ipv4/conf/{}/{key}", endpoint.link), value);
        objects.extend([on4("arp_ignore", "1"), on4("arp_announce", "2")]);
    }
    if wish.network.ipam == IpamPolicy::Dhcp && wish.network.has_family(false) {
        objects.extend(learns(wish.network, &place(), &endpoint.link));
    }
    let address = |&addr| Object::Address(Address { place: place(), link: endpoint.link.clone(), addr });
    objects.extend(endpoint.addrs.iter().map(address));
    objects.extend(routes(wish.network, endpoint));
    objects
}

/// The LAN's routers are believed: their prefixes are on the link, and they are the way out. On a bridge a container
/// speaks from what it was lent alone, and makes no addresses of its own.
fn learns(network: &Network, place: &Place, link: &LinkName) -> [Object; 3] {
    let set =
        |key: &str, on: bool| sysctl(place.clone(), format!("net/ipv6/conf/{link}/{key}"), if on { "1" } else { "0" });
    [
        set("accept_ra", true),
        set("autoconf", network.bridge().is_none()),
        set("accept_ra_defrtr", network.gives_default_route()),
    ]
}

/// Metric of routes given to a sandbox, where nothing is said about it (netavark's). The network's option is about
/// default routes alone.
const METRIC: u32 = 100;

fn routes(network: &Network, endpoint: &Endpoint) -> Vec<Object> {
    let any = |gateway: &IpAddr| if gateway.is_ipv4() { Subnet::ANY4 } else { Subnet::ANY6 };
    // Another network of the container may have the same subnet.
    let via = |gateway: IpAddr| match network.may_share() {
        true => RouteKind::ViaOn(gateway, endpoint.link.clone()),
        false => RouteKind::Via(gateway),
    };
    let kind_of = |target| match target {
        RouteTarget::Via(gateway) => via(gateway),
        RouteTarget::Blackhole => RouteKind::Blackhole,
        RouteTarget::Unreachable => RouteKind::Unreachable,
        RouteTarget::Prohibit => RouteKind::Prohibit,
    };
    let defaults = endpoint.gateways.iter().map(|gateway| (any(gateway), via(*gateway), metric(network)));
    let learned = endpoint.routes.iter().map(|route| {
        let kind = route.gateway.map_or_else(|| RouteKind::On(endpoint.link.clone()), via);
        (route.destination, kind, metric(network))
    });
    let typed = network.routes.iter().map(|r| (r.destination, kind_of(r.target), r.metric.unwrap_or(METRIC)));
    // A next hop is reachable by an address of its family; to lead nowhere, none is needed.
    let reachable = |(_, kind, _): &(Subnet, RouteKind, u32)| {
        kind.gateway().is_none_or(|gateway| endpoint.ip(gateway.is_ipv4()).is_some())
    };
    let route = |(destination, kind, metric)| {
        let place = Place::Sandbox(endpoint.sandbox.clone());
        Object::Route(Route { place, destination, kind, metric })
    };
    on_link(endpoint, metric(network))
        .chain(defaults)
        .chain(learned)
        .chain(typed)
        .filter(reachable)
        .map(route)
        .collect()
}

/// Next hops that a DHCP server told and that no address has in its subnet are on the link themselves: so it is where
/// every host has a subnet of its own (RFC 3442).
fn on_link(endpoint: &Endpoint, metric: u32) -> impl Iterator<Item = (Subnet, RouteKind, u32)> + '_ {
    let near = |ip: &IpAddr| endpoint.addrs.iter().any(|addr| addr.subnet().contains(*ip));
    let told =
        |ip: &IpAddr| endpoint.routes.iter().any(|route| route.destination.contains(*ip) && route.gateway.is_none());
    let hops = endpoint.routes.iter().filter_map(|route| route.gateway).chain(endpoint.gateways.iter().copied());
    let hops: std::collections::BTreeSet<IpAddr> = hops.filter(|ip| !near(ip) && !told(ip)).collect();
    let alone = |ip: IpAddr| Subnet::around(ip, if ip.is_ipv4() { 32 } else { 128 }).ok();
    hops.into_iter().filter_map(alone).map(move |hop| (hop, RouteKind::On(endpoint.link.clone()), metric))
}

/// The metric of the default routes that a network gives. A LAN's is lower, so that it wins over a bridge's: who is on
/// a LAN is asked from there, and has to answer there.
pub fn metric(network: &Network) -> u32 {
    let (asked, usual) = match &network.driver {
        Driver::Bridge(options) => (options.metric, METRIC),
        Driver::Macvlan(options) => (options.lan.metric, METRIC - 1),
        Driver::Ipvlan(options) => (options.lan.metric, METRIC - 1),
    };
    asked.unwrap_or(usual)
}

fn sysctl(place: Place, path: impl Into<String>, value: &str) -> Object {
    Object::Sysctl(Sysctl { place, path: path.into(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_macs_follow_from_ids() {
        let id = ContainerId::from_bytes([0xab; 32]);
        assert_eq!(host_link(&id, 0).unwrap().as_str(), "pwababababab0");
        assert_eq!(host_link(&id, 35).unwrap().as_str(), "pwabababababz");
        assert_eq!(host_link(&id, 36), None);
        let network = NetworkId::from_bytes([0xa7; 32]);
        let mac = |addrs: &[&str]| {
            let addrs: Vec<Addr> = addrs.iter().map(|text| text.parse().unwrap()).collect();
            endpoint_mac(&network, &addrs, &id, 1).to_string()
        };
        assert_eq!(mac(&["fd00::1:2/64", "10.88.0.2/16"]), "a6:a7:0a:58:00:02");
        assert_eq!(mac(&["fd00::1:2/64"]), "a6:00:00:01:00:02");
        assert_eq!(mac(&[]), "aa:ab:ab:ab:ab:aa");
        assert_eq!(bridge_mac(&network).to_string(), "a6:a7:a7:a7:a7:a7");
    }
}
