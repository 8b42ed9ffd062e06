//! What the kernel has under the keys of some objects.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use linux::netns::{self, NetNs};
use model::{Addr, LinkName, MacAddr, Subnet};
use netlink::rtnetlink::{Link, LinkAddress, LinkNeighbour, MAIN_TABLE, RouteType, TableRoute};
use plan::{
    Address, Bridge, Element, Mark, Neighbour, Object, Observed, Place, Route, RouteKind, Sandbox, SandboxName, Seen,
    Sysctl, Veth,
};

use crate::child::marked_child;
use crate::stack::Stack;
use crate::{Host, HostError, LINK_GROUP, firewall};

impl Host {
    /// What is there under the keys of `objects`; keys under which nothing is are left out.
    ///
    /// Elements, links, addresses and routes say whether they are ours. Of a sandbox that does not exist
    /// nothing is there. Settings count as ours, for they have no owner to conflict with.
    pub fn observe(&mut self, objects: &[Object]) -> Result<Observed, HostError> {
        let mut observed = Observed::new();
        let mut view = View::of(objects);
        for object in objects.iter().filter(|object| !object.is_firewall()) {
            let key = object.key();
            let seen = self.look(&mut view, object)?;
            observed.extend(seen.map(|seen| (key, seen)));
        }
        let elements: Vec<_> = objects.iter().filter(|object| object.is_firewall()).collect();
        if !elements.is_empty() {
            let nft = |cause| HostError::io("the firewall", cause);
            let socket = self.netfilter().map_err(nft)?;
            observed.extend(firewall::observe(socket, &elements).map_err(nft)?);
        }
        Ok(observed)
    }

    /// Everything that carries the mark of this store: links, elements, and the sandboxes their owners have.
    ///
    /// Costs a dump of links and elements; for repair, under the host lock. Addresses and routes go with their
    /// links. Of a veth whose sandbox is gone, the peer's name and MAC address are those of the host's end.
    /// Empty files that stand for no sandbox, left by killed commands, are swept on the way.
    pub fn marked(&mut self, instance: &str) -> Result<Vec<Object>, HostError> {
        sweep_left_over_files();
        let links = self.here.links().map_err(|cause| HostError::io("links", cause))?;
        let mut objects = Vec::new();
        for link in links.iter().filter(|link| is_ours(link)) {
            let Some(mark) = Mark::read(&link.alias).filter(|mark| mark.instance() == instance) else { continue };
            objects.extend(self.marked_link(link, &links, mark)?);
        }
        let nft = |cause| HostError::io("the firewall", cause);
        let elements: Vec<Element> = firewall::marked(self.netfilter().map_err(nft)?).map_err(nft)?;
        objects.extend(elements.into_iter().filter(|e| e.mark.instance() == instance).map(Object::Element));
        let mut sandboxes: Vec<_> = objects.iter().filter_map(Object::mark).filter_map(sandbox_of).collect();
        sandboxes.sort_unstable();
        sandboxes.dedup();
        for name in sandboxes {
            if self.sandbox(&name)?.is_some() {
                objects.push(Object::Sandbox(Sandbox { name }));
            }
        }
        Ok(objects)
    }

    /// Has another store (`--root`) than `instance` elements in our tables? Costs a dump of all elements.
    pub fn used_by_others(&mut self, instance: &str) -> Result<bool, HostError> {
        let nft = |cause| HostError::io("the firewall", cause);
        let elements = firewall::marked(self.netfilter().map_err(nft)?).map_err(nft)?;
        Ok(elements.iter().any(|element| element.mark.instance() != instance))
    }

    fn marked_link(&mut self, link: &Link, links: &[Link], mark: Mark) -> Result<Option<Object>, HostError> {
        let Ok(name) = link.name.parse::<LinkName>() else { return Ok(None) };
        if link.kind == "bridge" {
            return Ok(bridge(link, name, mark).map(Object::Bridge));
        }
        if link.kind == "macvlan" {
            return Ok(marked_child(link, links, name, mark).map(Object::Child));
        }
        let Some(sandbox) = sandbox_of(&mark).filter(|_| link.kind == "veth") else { return Ok(None) };
        let master = links.iter().find(|l| Some(l.index) == link.master).and_then(|l| l.name.parse().ok());
        let bridge = master.unwrap_or_else(|| name.clone());
        Ok(self.veth(&mut View::default(), link, name, bridge, sandbox, mark)?.map(Object::Veth))
    }

    fn look(&mut self, view: &mut View, object: &Object) -> Result<Option<Seen>, HostError> {
        let what = |cause| HostError::io(object, cause);
        match object {
            Object::Sandbox(o) => {
                let there = self.sandbox(&o.name)?.is_some();
                Ok(there.then(|| ours(Object::Sandbox(o.clone()))))
            }
            Object::Sysctl(o) => self.look_at_sysctl(view, o),
            Object::Bridge(o) => {
                let link = view.link(self, &Place::Host, &o.name).map_err(what)?;
                link.map(|link| self.look_at_bridge(&link, o).map_err(what)).transpose()
            }
            Object::Veth(o) => match view.link(self, &Place::Host, &o.host).map_err(what)? {
                Some(link) => self.look_at_veth(view, &link, o),
                None => Ok(None),
            },
            Object::Child(o) => self.look_at_child(view, o),
            Object::Neighbour(o) => {
                self.stack(&o.place)?;
                let Some(link) = view.link(self, &o.place, &o.link).map_err(what)? else { return Ok(None) };
                let neighbours = view.neighbours(self, &o.place).map_err(what)?;
                Ok(look_at_neighbour(&link, neighbours, o))
            }
            Object::Address(o) => {
                // The error for a refused sandbox is worth more than that of the question.
                self.stack(&o.place)?;
                let Some(link) = view.link(self, &o.place, &o.link).map_err(what)? else { return Ok(None) };
                let addresses = view.addresses(self, &o.place, link.index).map_err(what)?;
                Ok(look_at_address(&link, addresses, o))
            }
            Object::Route(o) => {
                self.stack(&o.place)?;
                let routes = view.routes(self, &o.place, o.destination.is_ipv4()).map_err(what)?;
                let Some(route) = routes.iter().find(|route| is_route(route, o)).copied() else { return Ok(None) };
                self.look_at_route(&route, o).map_err(what)
            }
            Object::Ruleset(_) | Object::Element(_) => Ok(None),
        }
    }

    fn look_at_sysctl(&mut self, view: &mut View, wanted: &Sysctl) -> Result<Option<Seen>, HostError> {
        let what = |cause| HostError::io(&wanted.path, cause);
        let said = view.ipv6_switch(self, wanted).map_err(what)?;
        let Some(stack) = self.stack(&wanted.place)? else { return Ok(None) };
        let read = match said {
            Some(value) => Some(value),
            None => view.setting(stack, wanted).map_err(what)?,
        };
        let value = match read {
            before if stack.satisfies(before.as_deref(), &wanted.path, &wanted.value).map_err(what)? => {
                wanted.value.clone()
            }
            None => return Ok(None),
            Some(value) => value,
        };
        Ok(Some(ours(Object::Sysctl(Sysctl { value, ..wanted.clone() }))))
    }

    fn look_at_veth(&mut self, view: &mut View, link: &Link, wanted: &Veth) -> Result<Option<Seen>, HostError> {
        if link.kind != "veth" || link.name != wanted.host.as_str() {
            return Ok(Some(other(link, &wanted.host)));
        }
        let master = match link.master {
            Some(index) => {
                view.link_at(self, &Place::Host, index).map_err(|cause| HostError::io(&wanted.bridge, cause))?
            }
            None => None,
        };
        let bridge = master.and_then(|link| link.name.parse().ok()).unwrap_or_else(|| wanted.host.clone());
        let mark = mark_of(link, &wanted.mark);
        let vlan = match wanted.vlan {
            Some(vlan) => {
                let port = self.here.port_vlans(link.index).map_err(|cause| HostError::io(&wanted.host, cause))?;
                port.filter(|port| port.is_only(vlan)).map(|_| vlan)
            }
            None => None,
        };
        let seen = self.veth(view, link, wanted.host.clone(), bridge, wanted.sandbox.clone(), mark)?;
        Ok(seen.map(|veth| Seen::Object { object: Object::Veth(Veth { vlan, ..veth }), ours: is_ours(link) }))
    }

    fn look_at_bridge(&mut self, link: &Link, wanted: &Bridge) -> io::Result<Seen> {
        let same = link.kind == "bridge" && link.name == wanted.name.as_str();
        let Some(bridge) = bridge(link, wanted.name.clone(), mark_of(link, &wanted.mark)).filter(|_| same) else {
            return Ok(other(link, &wanted.name));
        };
        let vrf = match link.master.filter(|_| wanted.vrf.is_some()) {
            Some(index) => self.here.link_at(index)?.and_then(|master| master.name.parse().ok()),
            None => None,
        };
        let filters_vlans = wanted.filters_vlans && link.filters_vlans;
        let object = Object::Bridge(Bridge { filters_vlans, vrf, ..bridge });
        Ok(Seen::Object { object, ours: is_ours(link) })
    }

    /// A veth with its peer as seen in `sandbox`. A peer that is not there reads as the host's end, which
    /// differs from every wish. A pair that is not finished (a bridge, an alias, hairpin mode missing, or an end
    /// down) reads as a member of itself.
    fn veth(
        &mut self,
        view: &mut View,
        link: &Link,
        host: LinkName,
        bridge: LinkName,
        sandbox: SandboxName,
        mark: Mark,
    ) -> Result<Option<Veth>, HostError> {
        let place = Place::Sandbox(sandbox.clone());
        let peer = match (self.stack(&place)?, link.peer) {
            (Some(_), Some(index)) => {
                view.link_at(self, &place, index).map_err(|cause| HostError::io(&sandbox, cause))?
            }
            _ => None,
        };
        let peer = peer.filter(|peer| peer.kind == "veth" && peer.peer == Some(link.index));
        let finished = link.is_up() && link.hairpin && has_mark(link) && peer.as_ref().is_none_or(Link::is_up);
        let bridge = if finished { bridge } else { host.clone() };
        let name = peer.as_ref().and_then(|peer| peer.name.parse().ok()).unwrap_or_else(|| host.clone());
        // Both ends have the MTU that was wished, or the one that differs is shown.
        let mtu = peer.as_ref().map_or(link.mtu, |peer| peer.mtu.min(link.mtu));
        let mac = peer.map_or(link.mac, |peer| peer.mac).and_then(|mac| MacAddr::new(mac).ok());
        Ok(mac.map(|mac| Veth { host, bridge, sandbox, name, mac, mtu, vlan: None, isolated: link.isolated, mark }))
    }

    fn look_at_route(&mut self, route: &TableRoute, wanted: &Route) -> io::Result<Option<Seen>> {
        let inside = wanted.place != Place::Host;
        let on_link = route.kind == RouteType::Unicast && (route.gateway.is_none() || wanted.kind.link().is_some());
        let link = match (route.link, self.stack(&wanted.place).map_err(io::Error::other)?) {
            (Some(index), Some(stack)) if !inside || on_link => stack.link_at(index)?,
            _ => None,
        };
        let by_link = wanted.kind.gateway().is_some() && wanted.kind.link().is_some();
        let Some(kind) = kind_of(route, link.as_ref(), by_link) else {
            let what = format!("{}route {} without a next hop", wanted.place, wanted.destination);
            return Ok(Some(Seen::Other { what }));
        };
        let object = Object::Route(Route { kind, ..wanted.clone() });
        Ok(Some(Seen::Object { object, ours: inside || link.as_ref().is_some_and(is_ours) }))
    }
}

/// True for a link of our group.
pub(crate) fn is_ours(link: &Link) -> bool {
    link.group == LINK_GROUP
}

/// What else has this name: `link podman0 type dummy`.
pub(crate) fn other_link(link: &Link, name: &LinkName) -> String {
    let kind = if link.kind.is_empty() { String::new() } else { format!(" type {}", link.kind) };
    let altname = if link.name == name.as_str() { String::new() } else { format!(" altname {name}") };
    format!("link {}{altname}{kind}", link.name)
}

/// How it forwards, if a route of ours can.
fn kind_of(route: &TableRoute, link: Option<&Link>, by_link: bool) -> Option<RouteKind> {
    let name = || link?.name.parse().ok();
    match route.kind {
        RouteType::Unicast => match route.gateway {
            Some(gateway) if by_link => name().map(|link| RouteKind::ViaOn(gateway, link)),
            Some(gateway) => Some(RouteKind::Via(gateway)),
            None => name().map(RouteKind::On),
        },
        RouteType::Blackhole => Some(RouteKind::Blackhole),
        RouteType::Unreachable => Some(RouteKind::Unreachable),
        RouteType::Prohibit => Some(RouteKind::Prohibit),
        RouteType::Local => None,
    }
}

/// Is this the route with the wish's key? IPv6 has no metric 0: the kernel makes it 1024 (IP6_RT_PRIO_USER).
pub(crate) fn is_route(route: &TableRoute, wanted: &Route) -> bool {
    let metric = if wanted.metric == 0 && !wanted.destination.is_ipv4() { 1024 } else { wanted.metric };
    let destination = Subnet::around(route.destination, route.len).ok();
    destination == Some(wanted.destination) && route.metric == metric
}

fn ours(object: Object) -> Seen {
    Seen::Object { object, ours: true }
}

pub(crate) fn other(link: &Link, name: &LinkName) -> Seen {
    Seen::Other { what: other_link(link, name) }
}

/// The owner's sandbox: a container's mark and its sandbox both have its short id.
fn sandbox_of(mark: &Mark) -> Option<SandboxName> {
    format!("podwire-{}", mark.owner()).parse().ok()
}

pub(crate) fn has_mark(link: &Link) -> bool {
    Mark::read(&link.alias).is_some()
}

/// The link's mark. An alias that is missing or not ours is no reason to give a link of our group up: it
/// is then taken for the one we expect.
pub(crate) fn mark_of(link: &Link, expected: &Mark) -> Mark {
    Mark::read(&link.alias).unwrap_or_else(|| expected.clone())
}

/// A bridge of ours that is not finished (an alias missing, or down) reads as one with an MTU of 0.
fn bridge(link: &Link, name: LinkName, mark: Mark) -> Option<Bridge> {
    let mac = MacAddr::new(link.mac?).ok()?;
    let finished = !is_ours(link) || (link.is_up() && has_mark(link));
    let mtu = if finished { link.mtu } else { 0 };
    Some(Bridge { name, mac, mtu, filters_vlans: false, vrf: None, mark })
}

/// An address may be there with several prefix lengths; the wished one counts first.
fn look_at_address(link: &Link, addresses: &[LinkAddress], wanted: &Address) -> Option<Seen> {
    let same: Vec<Addr> = of_ip(addresses, wanted.addr.ip);
    let addr = *same.iter().find(|addr| **addr == wanted.addr).or(same.first())?;
    let ours = wanted.place != Place::Host || is_ours(link);
    Some(Seen::Object { object: Object::Address(Address { addr, ..wanted.clone() }), ours })
}

/// One that the kernel has learned is as good as none: ours takes its place.
fn look_at_neighbour(link: &Link, neighbours: &[LinkNeighbour], wanted: &Neighbour) -> Option<Seen> {
    let same = |n: &&LinkNeighbour| n.permanent && n.index == link.index && n.ip == wanted.ip;
    let mac = MacAddr::new(neighbours.iter().find(same)?.mac).ok()?;
    let ours = wanted.place != Place::Host || is_ours(link);
    Some(Seen::Object { object: Object::Neighbour(Neighbour { mac, ..wanted.clone() }), ours })
}

fn of_ip(addresses: &[LinkAddress], ip: IpAddr) -> Vec<Addr> {
    addresses.iter().filter(|a| a.ip == ip).filter_map(|a| Addr::new(a.ip, a.len).ok()).collect()
}

/// The link that IPv6 is off for by this setting.
fn ipv6_switch_of(path: &str) -> Option<&str> {
    path.strip_prefix("net/ipv6/conf/")?
        .strip_suffix("/disable_ipv6")
        .filter(|link| *link != "all" && *link != "default")
}

/// What one look has asked for already, and what it will ask for.
#[derive(Default)]
pub(crate) struct View {
    /// The settings that are asked for in each place: read together, for each change of namespace costs.
    asked: BTreeMap<Place, Vec<String>>,
    /// So many of the host's links are asked for that all are read at once.
    many_links: bool,
    settings: BTreeMap<(Place, String), Option<String>>,
    /// All links of places where they were read at once.
    all_links: BTreeMap<Place, Vec<Link>>,
    links: BTreeMap<(Place, LinkName), Option<Link>>,
    addresses: BTreeMap<(Place, u32), Vec<LinkAddress>>,
    neighbours: BTreeMap<Place, Vec<LinkNeighbour>>,
    routes: BTreeMap<(Place, bool), Vec<TableRoute>>,
}

impl View {
    fn of(objects: &[Object]) -> Self {
        /// From here on a dump of a host's links is cheaper than to ask for each.
        const MANY: usize = 16;
        let many_links = objects.iter().filter(|o| matches!(o, Object::Veth(_) | Object::Bridge(_))).count() > MANY;
        let mut view = Self { many_links, ..Self::default() };
        for object in objects {
            let Object::Sysctl(sysctl) = object else { continue };
            let said_by_links = ipv6_switch_of(&sysctl.path).is_some() && (many_links || sysctl.place != Place::Host);
            if !said_by_links {
                view.asked.entry(sysctl.place.clone()).or_default().push(sysctl.path.clone());
            }
        }
        view
    }

    /// The value of `net/ipv6/conf/LINK/disable_ipv6`, which a description of the link has with it: to open a
    /// setting's file takes the longer the more namespaces there are, for /proc has one list of them.
    fn ipv6_switch(&mut self, host: &mut Host, wanted: &Sysctl) -> io::Result<Option<String>> {
        let Some(link) = ipv6_switch_of(&wanted.path) else { return Ok(None) };
        let all = self.all_links(host, &wanted.place)?.unwrap_or_default();
        let link = all.iter().find(|known| known.name == link);
        Ok(link.and_then(|link| link.disable_ipv6).map(|value| value.to_string()))
    }

    /// The value of a setting; those of the same place are read with it.
    fn setting(&mut self, stack: &Stack, wanted: &Sysctl) -> io::Result<Option<String>> {
        if let Some(paths) = self.asked.remove(&wanted.place) {
            let values = stack.sysctls(&paths)?;
            let keys = paths.into_iter().map(|path| (wanted.place.clone(), path));
            self.settings.extend(keys.zip(values));
        }
        match self.settings.get(&(wanted.place.clone(), wanted.path.clone())) {
            Some(value) => Ok(value.clone()),
            None => stack.sysctl(&wanted.path),
        }
    }

    /// All links of a place, if they are worth being read at once: those of sandboxes are few.
    fn all_links(&mut self, host: &mut Host, place: &Place) -> io::Result<Option<&[Link]>> {
        if *place == Place::Host && !self.many_links {
            return Ok(None);
        }
        if !self.all_links.contains_key(place) {
            let links = host.stack(place).map_err(io::Error::other)?.map(Stack::links);
            self.all_links.insert(place.clone(), links.transpose()?.unwrap_or_default());
        }
        Ok(self.all_links.get(place).map(Vec::as_slice))
    }

    fn link_at(&mut self, host: &mut Host, place: &Place, index: u32) -> io::Result<Option<Link>> {
        if let Some(all) = self.all_links(host, place)? {
            return Ok(all.iter().find(|link| link.index == index).cloned());
        }
        match host.stack(place).map_err(io::Error::other)? {
            Some(stack) => stack.link_at(index),
            None => Ok(None),
        }
    }

    pub(crate) fn link(&mut self, host: &mut Host, place: &Place, name: &LinkName) -> io::Result<Option<Link>> {
        let key = (place.clone(), name.clone());
        if let Some(link) = self.links.get(&key) {
            return Ok(link.clone());
        }
        let all = self.all_links(host, place)?.unwrap_or_default();
        let link = match all.iter().find(|link| link.name == name.as_str()) {
            Some(link) => Some(link.clone()),
            // It may be an alternative name.
            None => match host.stack(place).map_err(io::Error::other)? {
                Some(stack) => stack.link(name.as_str())?,
                None => None,
            },
        };
        self.links.insert(key, link.clone());
        Ok(link)
    }

    fn addresses(&mut self, host: &mut Host, place: &Place, index: u32) -> io::Result<&[LinkAddress]> {
        let key = (place.clone(), index);
        if !self.addresses.contains_key(&key) {
            let found = host.stack(place).map_err(io::Error::other)?.map(|stack| stack.addresses(index));
            self.addresses.insert(key.clone(), found.transpose()?.unwrap_or_default());
        }
        Ok(&self.addresses[&key])
    }

    fn neighbours(&mut self, host: &mut Host, place: &Place) -> io::Result<&[LinkNeighbour]> {
        if !self.neighbours.contains_key(place) {
            let found = host.stack(place).map_err(io::Error::other)?.map(Stack::neighbours);
            self.neighbours.insert(place.clone(), found.transpose()?.unwrap_or_default());
        }
        Ok(&self.neighbours[place])
    }

    fn routes(&mut self, host: &mut Host, place: &Place, ipv4: bool) -> io::Result<&[TableRoute]> {
        let key = (place.clone(), ipv4);
        if !self.routes.contains_key(&key) {
            let found = host.stack(place).map_err(io::Error::other)?.map(|stack| stack.routes(ipv4, Some(MAIN_TABLE)));
            self.routes.insert(key.clone(), found.transpose()?.unwrap_or_default());
        }
        Ok(&self.routes[&key])
    }
}

/// Takes away the empty files that commands killed while making a sandbox have left. One that has become a
/// sandbox meanwhile is a mount point and stays (`EBUSY`).
fn sweep_left_over_files() {
    for entry in std::fs::read_dir(netns::directory()).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.parse::<SandboxName>().is_ok());
        let path = entry.path();
        if ours && NetNs::open(&path).is_err_and(|e| e.kind() == io::ErrorKind::InvalidInput) {
            let empty = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
            // What cannot be removed now is an empty file, and the next repair tries again.
            let _ = empty.then(|| std::fs::remove_file(&path));
        }
    }
}
