//! A look into network namespaces that are not ours.

use std::io;
use std::net::IpAddr;

use linux::NetNs;
use model::{Addr, MacAddr, Subnet};
use netlink::rtnetlink::{LOOPBACK, MAIN_TABLE, TableRoute};

use crate::stack::{Stack, is_link_local};

/// A link of somebody's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignLink {
    /// Its name, which may be one that we would not give.
    pub name: String,
    /// Its MAC address, if it has a usual one.
    pub mac: Option<MacAddr>,
    /// Its addresses, without link-local ones.
    pub addrs: Vec<Addr>,
    /// Where its default routes lead, the preferred one first.
    pub gateways: Vec<IpAddr>,
}

/// The links of a namespace but loopback, by name. Changes nothing there.
pub fn links_in(namespace: NetNs) -> io::Result<Vec<ForeignLink>> {
    let mut stack = Stack::inside(namespace)?;
    let addresses = stack.addresses(0)?;
    let mut defaults = stack.routes(true, Some(MAIN_TABLE))?;
    defaults.extend(stack.routes(false, Some(MAIN_TABLE))?);
    defaults.retain(|route| route.len == 0);
    defaults.sort_by_key(|route| route.metric);
    let links = stack.links()?.into_iter().filter(|link| link.flags & LOOPBACK == 0);
    let gateway = |route: &TableRoute| route.gateway;
    let foreign = links.map(|link| ForeignLink {
        mac: link.mac.and_then(|octets| MacAddr::new(octets).ok()),
        addrs: addresses
            .iter()
            .filter(|a| a.index == link.index && !is_link_local(a.ip))
            .filter_map(|a| Subnet::around(a.ip, a.len).ok().map(|subnet| subnet.with(a.ip)))
            .collect(),
        gateways: defaults.iter().filter(|r| r.link == Some(link.index)).filter_map(gateway).collect(),
        name: link.name,
    });
    let mut foreign: Vec<_> = foreign.collect();
    foreign.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(foreign)
}
