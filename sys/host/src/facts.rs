//! What decisions need to know about the machine.

use std::io;
use std::net::IpAddr;

use model::{LinkName, Subnet};
use netlink::rtnetlink::{LOOPBACK, MAIN_TABLE, RouteType, TableRoute};

use crate::stack::{Stack, is_link_local};
use crate::{Host, HostError};

/// What decisions need to know about the machine. Everything is sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The link of the default route, if there is one.
    pub uplink: Option<LinkName>,
    /// Its MTU in bytes; 1500 without one.
    pub mtu: u32,
    /// Every prefix of an address or of a route in any table (those of VPNs have tables of their own): without
    /// default routes (nor halves of one), routes that lead nowhere, loopback, link-local and multicast.
    pub used: Vec<Subnet>,
    /// The names of all links that podwire could name so.
    pub links: Vec<LinkName>,
    /// The host's addresses, without loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
}

/// The link that traffic leaves by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its name; `None` when there is no default route.
    pub link: Option<LinkName>,
    /// Its MTU in bytes; 1500 without one.
    pub mtu: u32,
}

/// Ethernet's.
const DEFAULT_MTU: u32 = 1500;

impl Host {
    /// All facts. Costs a dump of links, addresses and routes; for [`Facts::mtu`] alone use [`Host::uplink`].
    pub fn facts(&mut self) -> Result<Facts, HostError> {
        gather(&mut self.here).map_err(|cause| HostError::io("the host's links, addresses and routes", cause))
    }

    /// The link of the main table's default route with the lowest metric; IPv4's before IPv6's.
    pub fn uplink(&mut self) -> Result<Uplink, HostError> {
        uplink(&mut self.here).map_err(|cause| HostError::io("the host's default route", cause))
    }
}

/// A link of others that a network of ours needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededLink {
    /// `bridge`, `vrf`, …; empty for hardware.
    pub kind: String,
    /// Its MTU in bytes; of a VRF that of its own table's uplink, 1500 without one.
    pub mtu: u32,
    /// Does this bridge keep VLANs apart?
    pub filters_vlans: bool,
}

impl Host {
    /// The link of this name, if there is one.
    pub fn needed_by_network(&mut self, name: &LinkName) -> Result<Option<NeededLink>, HostError> {
        let look = |stack: &mut Stack| -> io::Result<Option<NeededLink>> {
            let Some(link) = stack.link(name.as_str())? else { return Ok(None) };
            let mtu = match link.vrf_table {
                Some(table) => uplink_of(stack, table)?.mtu,
                None => link.mtu,
            };
            Ok(Some(NeededLink { kind: link.kind, mtu, filters_vlans: link.filters_vlans }))
        };
        look(&mut self.here).map_err(|cause| HostError::io(format_args!("link {name}"), cause))
    }
}

impl Host {
    /// The host's addresses on one of its links, without link-local ones; none when there is no such link.
    pub fn addresses_on(&mut self, name: &LinkName) -> Result<Vec<IpAddr>, HostError> {
        let look = |stack: &mut Stack| -> io::Result<Vec<IpAddr>> {
            let Some(link) = stack.link(name.as_str())? else { return Ok(Vec::new()) };
            let ips = stack.addresses(link.index)?.into_iter().map(|address| address.ip);
            Ok(sorted(ips.filter(|ip| !is_link_local(*ip))))
        };
        look(&mut self.here).map_err(|cause| HostError::io(format_args!("link {name}"), cause))
    }
}

fn gather(stack: &mut Stack) -> io::Result<Facts> {
    let uplink = uplink(stack)?;
    let links = stack.links()?;
    let loopback: Vec<_> = links.iter().filter(|l| l.flags & LOOPBACK != 0).map(|l| l.index).collect();
    let addresses = stack.addresses(0)?;
    let mut routes = stack.routes(true, None)?;
    routes.extend(stack.routes(false, None)?);
    let of_addresses = addresses.iter().filter(|a| !loopback.contains(&a.index)).map(|a| (a.ip, a.len));
    let leads = |r: &&TableRoute| match r.kind {
        RouteType::Unicast => true,
        // The host's own addresses are among `of_addresses`.
        RouteType::Local => r.len < if r.destination.is_ipv4() { 32 } else { 128 },
        // `unreachable 10.0.0.0/8` is a wall around private addresses, which a smaller prefix is to get through.
        RouteType::Blackhole | RouteType::Unreachable | RouteType::Prohibit => false,
    };
    let of_routes = routes.iter().filter(leads).map(|r| (r.destination, r.len));
    Ok(Facts {
        uplink: uplink.link,
        mtu: uplink.mtu,
        used: sorted(of_addresses.chain(of_routes).filter_map(|(ip, len)| used(ip, len))),
        links: sorted(links.iter().filter_map(|link| link.name.parse().ok())),
        addresses: sorted(stack.global_addresses()?),
    })
}

fn uplink(stack: &mut Stack) -> io::Result<Uplink> {
    uplink_of(stack, MAIN_TABLE)
}

fn uplink_of(stack: &mut Stack, table: u32) -> io::Result<Uplink> {
    for ipv4 in [true, false] {
        let Some(index) = default_link(&stack.routes(ipv4, Some(table))?) else { continue };
        let Some(link) = stack.link_at(index)? else { continue };
        return Ok(Uplink { link: link.name.parse().ok(), mtu: link.mtu });
    }
    Ok(Uplink { link: None, mtu: DEFAULT_MTU })
}

fn default_link(routes: &[TableRoute]) -> Option<u32> {
    let leads = |route: &&TableRoute| route.kind == RouteType::Unicast && route.len == 0 && route.link.is_some();
    let defaults = routes.iter().filter(leads);
    defaults.min_by_key(|route| route.metric)?.link
}

/// The prefix, when a new network must not overlap it. VPNs write a default route as halves (0.0.0.0/1,
/// 128.0.0.0/1) or as all global unicast (2000::/3); those leave room for everything, as a default route does.
fn used(ip: IpAddr, len: u8) -> Option<Subnet> {
    let everything = if ip.is_ipv4() { 1 } else { 3 };
    let special = ip.is_loopback() || ip.is_multicast() || is_link_local(ip);
    (len > everything && !special).then(|| Subnet::around(ip, len).ok()).flatten()
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort_unstable();
    items.dedup();
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_network_must_not_overlap() {
        let used = |text: &str| {
            let (ip, len) = text.split_once('/').unwrap();
            used(ip.parse().unwrap(), len.parse().unwrap()).map(|subnet| subnet.to_string())
        };
        assert_eq!(used("10.89.3.4/24").as_deref(), Some("10.89.3.0/24"));
        assert_eq!(used("fd00::1/64").as_deref(), Some("fd00::/64"));
        for free in ["0.0.0.0/0", "128.0.0.0/1", "2000::/3", "::/0", "127.0.0.1/8", "fe80::1/64", "ff00::/8"] {
            assert_eq!(used(free), None, "{free}");
        }
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_counts() {
        let route = |text: &str, len, link, metric| TableRoute {
            table: MAIN_TABLE,
            kind: RouteType::Unicast,
            destination: text.parse().unwrap(),
            len,
            gateway: None,
            link: Some(link),
            metric,
        };
        let routes = [route("0.0.0.0", 0, 2, 600), route("0.0.0.0", 0, 3, 100), route("10.0.0.0", 8, 4, 0)];
        assert_eq!((default_link(&routes), default_link(&routes[2..])), (Some(3), None));
    }
}
