//! A model kernel: refuses what the kernel refuses, and lets vanish what the kernel lets vanish.
//!
//! ```text
//!   Plan ──apply──> World ──observe──> Observed ──plan()──> (empty)
//!                     │ Display: the machine as text
//!                     └ by_hand(): what other programs do to it
//! ```
//!
//! It knows exactly as much of Linux as the plan engine's promises depend on. Where the kernel has two ways
//! (with NLM_F_EXCL or without), it refuses: our requests are exclusive. A namespace file is its namespace:
//! that processes can keep one alive is left out.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use model::{Addr, LinkName, MacAddr, MacvlanMode, Subnet};

use crate::plan::sysctl_link;
use crate::{
    Address, Bridge, Child, ChildKind, Element, Key, Mark, Neighbour, Object, Observed, Op, Place, Plan, Route,
    RouteKind, Ruleset, SandboxName, Seen, Sysctl, Veth,
};

/// The kernel said no; nothing was changed by this op.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{errno}: {op}")]
pub struct Refusal {
    /// What was asked.
    pub op: Box<Op>,
    /// The error's name, as in errno(3).
    pub errno: &'static str,
}

/// One machine's state, of the kinds podwire makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    sandboxes: BTreeSet<SandboxName>,
    links: BTreeMap<(Place, LinkName), Link>,
    addresses: BTreeMap<(Place, LinkName, IpAddr), Addr>,
    neighbours: BTreeMap<(Place, LinkName, IpAddr), MacAddr>,
    routes: BTreeMap<(Place, Subnet, u32), Hop>,
    sysctls: BTreeMap<(Place, String), String>,
    ruleset: Option<String>,
    elements: BTreeMap<Key, Element>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    kind: Kind,
    mtu: u32,
    mark: Option<Mark>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Bridge { mac: MacAddr, filters_vlans: bool, vrf: Option<LinkName> },
    HostEnd { sandbox: SandboxName, peer: LinkName, master: Option<LinkName>, vlan: Option<u16>, isolated: bool },
    SandboxEnd { host: LinkName, mac: MacAddr },
    Child { parent: LinkName, unfinished: LinkName, kind: ChildKind },
    Foreign { kind: String },
}

/// Where a route leads; one that leads nowhere is on no link.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hop {
    kind: RouteKind,
    link: Option<LinkName>,
}

impl Hop {
    fn is_on(&self, link: &LinkName) -> bool {
        self.link.as_ref() == Some(link)
    }
}

/// What other programs and people do, in their own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// `ip link add NAME type KIND`
    AddLink(LinkName, String),
    /// `ip link del NAME`
    DeleteLink(LinkName),
    /// `ip -n SANDBOX link del NAME`
    DeleteLinkInside(SandboxName, LinkName),
    /// `ip link set NAME mtu N`
    SetMtu(LinkName, u32),
    /// `ip link set NAME nomaster`
    NoMaster(LinkName),
    /// `ip addr add ADDR dev NAME`
    AddAddress(LinkName, Addr),
    /// `ip [-n SANDBOX] addr del ADDR dev NAME`
    DeleteAddress(Place, LinkName, Addr),
    /// `sysctl -w PATH=VALUE`, the path with slashes
    WriteSysctl(String, String),
    /// `nft flush ruleset`
    FlushRuleset,
    /// `ip netns del NAME`
    DeleteSandbox(SandboxName),
}

/// EXFULL comes with the 1,024th member (BR_MAX_PORTS in net/bridge/br_private.h, less the bridge itself).
const MEMBERS_MAX: usize = 1023;

/// A new namespace's settings, as far as drivers write them (net/ipv4/devinet.c, net/ipv6/addrconf.c).
const LINK_SYSCTLS: [(&str, &str, &str); 13] = [
    ("ipv4", "forwarding", "0"),
    ("ipv4", "route_localnet", "0"),
    ("ipv4", "rp_filter", "0"),
    ("ipv4", "arp_notify", "0"),
    ("ipv4", "arp_filter", "0"),
    ("ipv4", "arp_ignore", "0"),
    ("ipv4", "arp_announce", "0"),
    ("ipv6", "forwarding", "0"),
    ("ipv6", "disable_ipv6", "0"),
    ("ipv6", "accept_ra", "1"),
    ("ipv6", "accept_dad", "1"),
    ("ipv6", "autoconf", "1"),
    ("ipv6", "ndisc_notify", "0"),
];

/// Limits of the whole kernel, which only its first namespace shows (net/ipv4/arp.c, net/ipv6/ndisc.c).
const LIMITS: [(&str, &str); 4] = [
    ("net/ipv4/neigh/default/gc_thresh2", "512"),
    ("net/ipv4/neigh/default/gc_thresh3", "1024"),
    ("net/ipv6/neigh/default/gc_thresh2", "512"),
    ("net/ipv6/neigh/default/gc_thresh3", "1024"),
];

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A machine that only has its own `lo`, and forwards nothing.
    pub fn new() -> Self {
        let mut world = Self {
            sandboxes: BTreeSet::new(),
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            routes: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            ruleset: None,
            elements: BTreeMap::new(),
        };
        world.start_place(&Place::Host);
        let limits = LIMITS.map(|(path, value)| ((Place::Host, path.to_owned()), value.to_owned()));
        world.sysctls.extend(limits);
        world
    }

    /// Takes one step, or says no and changes nothing.
    pub fn apply(&mut self, op: &Op) -> Result<(), Refusal> {
        let done = match op {
            Op::Create(object) => self.create(object),
            Op::Change { from, to } => self.change(from, to),
            Op::Remove(object) => self.remove(object),
        };
        done.map_err(|errno| Refusal { op: Box::new(op.clone()), errno })
    }

    /// Takes the plan's first `count` steps (see [`Plan::steps`]), each whole or not at all. Returns how many
    /// ops they are.
    pub fn apply_steps(&mut self, plan: &Plan, count: usize) -> Result<usize, Refusal> {
        let mut done = 0;
        for step in plan.steps().take(count) {
            let before = (step.len() > 1).then(|| self.clone());
            if let Err(refusal) = step.iter().try_for_each(|op| self.apply(op)) {
                before.into_iter().for_each(|before| *self = before);
                return Err(refusal);
            }
            done += step.len();
        }
        Ok(done)
    }

    /// Takes all of the plan's steps.
    pub fn apply_all(&mut self, plan: &Plan) -> Result<(), Refusal> {
        self.apply_steps(plan, usize::MAX).map(|_| ())
    }

    /// What is there under the keys of `objects`.
    pub fn observe(&self, objects: &[Object]) -> Observed {
        objects.iter().filter_map(|object| Some((object.key(), self.see(object)?))).collect()
    }

    /// Somebody else does something. What cannot be done is not done.
    pub fn by_hand(&mut self, deed: &Deed) {
        // People get the kernel's refusals too; nothing depends on them here.
        let _ = match deed {
            Deed::AddLink(name, kind) => self.add_link(
                Place::Host,
                name,
                Link { kind: Kind::Foreign { kind: kind.clone() }, mtu: 1500, mark: None },
            ),
            Deed::DeleteLink(name) => self.delete_link(&Place::Host, name),
            Deed::DeleteLinkInside(sandbox, name) => self.delete_link(&Place::Sandbox(sandbox.clone()), name),
            Deed::SetMtu(name, mtu) => self.link_mut(&Place::Host, name).map(|link| link.mtu = *mtu),
            Deed::NoMaster(name) => self.link_mut(&Place::Host, name).map(|link| {
                if let Kind::HostEnd { master, .. } = &mut link.kind {
                    *master = None;
                }
            }),
            Deed::AddAddress(link, addr) => {
                self.add_address(&Address { place: Place::Host, link: link.clone(), addr: *addr })
            }
            Deed::DeleteAddress(place, link, addr) => self.delete_address(place, link, addr.ip),
            Deed::WriteSysctl(path, value) => self.write_sysctl(&Place::Host, path, value),
            Deed::FlushRuleset => {
                self.ruleset = None;
                self.elements.clear();
                Ok(())
            }
            Deed::DeleteSandbox(name) => self.delete_sandbox(name),
        };
    }

    fn create(&mut self, object: &Object) -> Result<(), &'static str> {
        match object {
            Object::Sandbox(o) => {
                if !self.sandboxes.insert(o.name.clone()) {
                    return Err("EEXIST");
                }
                self.start_place(&Place::Sandbox(o.name.clone()));
                Ok(())
            }
            Object::Sysctl(o) => self.write_sysctl(&o.place, &o.path, &o.value),
            Object::Ruleset(o) => match self.ruleset {
                Some(_) => Err("EEXIST"),
                None => {
                    self.ruleset = Some(o.version.clone());
                    Ok(())
                }
            },
            Object::Element(o) => self.add_element(o),
            Object::Bridge(o) => {
                self.may_be_in(o.vrf.as_ref())?;
                let kind = Kind::Bridge { mac: o.mac, filters_vlans: o.filters_vlans, vrf: o.vrf.clone() };
                self.add_link(Place::Host, &o.name, Link { kind, mtu: o.mtu, mark: Some(o.mark.clone()) })
            }
            Object::Veth(o) => self.add_veth(o),
            Object::Child(o) => self.add_child(o),
            Object::Neighbour(o) => self.add_neighbour(o),
            Object::Address(o) => self.add_address(o),
            Object::Route(o) => self.add_route(o),
        }
    }

    fn change(&mut self, from: &Object, to: &Object) -> Result<(), &'static str> {
        match to {
            Object::Sysctl(o) => self.write_sysctl(&o.place, &o.path, &o.value),
            // The elements that are there are put into the new tables in the same transaction (sys/host).
            Object::Ruleset(o) => self.ruleset.replace(o.version.clone()).map(|_| ()).ok_or("ENOENT"),
            Object::Element(_) => {
                self.remove(from)?;
                self.create(to)
            }
            Object::Bridge(o) => {
                self.may_be_in(o.vrf.as_ref())?;
                let link = self.link_mut(&Place::Host, &o.name)?;
                let Kind::Bridge { mac, filters_vlans, vrf } = &mut link.kind else { return Err("EOPNOTSUPP") };
                (*mac, *filters_vlans, *vrf) = (o.mac, o.filters_vlans, o.vrf.clone());
                (link.mtu, link.mark) = (o.mtu, Some(o.mark.clone()));
                Ok(())
            }
            Object::Veth(o) => {
                // An undo may lead back to "member of itself": no master.
                let new_master = (o.bridge != o.host).then(|| o.bridge.clone());
                if let Some(bridge) = &new_master {
                    self.may_join(bridge)?;
                }
                let link = self.link_mut(&Place::Host, &o.host)?;
                let Kind::HostEnd { master, vlan, isolated, .. } = &mut link.kind else { return Err("EOPNOTSUPP") };
                // A port's VLANs and flags go with its membership (del_nbp in net/bridge/br_if.c).
                *vlan = o.vlan.filter(|_| new_master.is_some());
                *isolated = o.isolated && new_master.is_some();
                *master = new_master;
                (link.mtu, link.mark) = (o.mtu, Some(o.mark.clone()));
                self.link_mut(&Place::Sandbox(o.sandbox.clone()), &o.name)?.mtu = o.mtu;
                Ok(())
            }
            Object::Child(o) => {
                let link = self.link_mut(&o.place, &o.name)?;
                let Kind::Child { kind, .. } = &mut link.kind else { return Err("EOPNOTSUPP") };
                kind.clone_from(&o.kind);
                (link.mtu, link.mark) = (o.mtu, Some(o.mark.clone()));
                Ok(())
            }
            Object::Neighbour(o) => {
                let key = (o.place.clone(), o.link.clone(), o.ip);
                self.neighbours.get_mut(&key).map(|mac| *mac = o.mac).ok_or("ENOENT")
            }
            Object::Sandbox(_) | Object::Address(_) | Object::Route(_) => Err("EOPNOTSUPP"),
        }
    }

    fn remove(&mut self, object: &Object) -> Result<(), &'static str> {
        match object {
            Object::Sandbox(o) => self.delete_sandbox(&o.name),
            Object::Sysctl(_) => Err("EPERM"),
            Object::Ruleset(_) => {
                self.elements.clear();
                self.ruleset.take().map(|_| ()).ok_or("ENOENT")
            }
            Object::Element(_) => self.elements.remove(&object.key()).map(|_| ()).ok_or("ENOENT"),
            Object::Bridge(o) => self.delete_link(&Place::Host, &o.name),
            Object::Veth(o) => self.delete_link(&Place::Host, &o.host),
            Object::Child(o) => self.delete_link(&o.place, &o.name),
            Object::Neighbour(o) => {
                self.neighbours.remove(&(o.place.clone(), o.link.clone(), o.ip)).map(|_| ()).ok_or("ENOENT")
            }
            Object::Address(o) => self.delete_address(&o.place, &o.link, o.addr.ip),
            Object::Route(o) => {
                self.routes.remove(&(o.place.clone(), o.destination, o.metric)).map(|_| ()).ok_or("ESRCH")
            }
        }
    }

    fn see(&self, object: &Object) -> Option<Seen> {
        let seen = |object, ours| Some(Seen::Object { object, ours });
        match object {
            Object::Sandbox(o) => self.sandboxes.contains(&o.name).then(|| ours(object.clone())),
            Object::Sysctl(o) => {
                let value = self.sysctls.get(&(o.place.clone(), o.path.clone()))?.clone();
                seen(Object::Sysctl(Sysctl { value, ..o.clone() }), true)
            }
            Object::Ruleset(_) => {
                let version = self.ruleset.clone()?;
                seen(Object::Ruleset(Ruleset { version }), true)
            }
            Object::Element(_) => self.elements.get(&object.key()).map(|e| ours(Object::Element(e.clone()))),
            Object::Bridge(o) => self.see_link(&Place::Host, &o.name),
            Object::Veth(o) => self.see_link(&Place::Host, &o.host),
            Object::Child(o) => self.see_link(&o.place, &o.name),
            Object::Neighbour(o) => {
                let mac = *self.neighbours.get(&(o.place.clone(), o.link.clone(), o.ip))?;
                seen(Object::Neighbour(Neighbour { mac, ..o.clone() }), self.is_ours(&o.place, &o.link))
            }
            Object::Address(o) => {
                let addr = *self.addresses.get(&(o.place.clone(), o.link.clone(), o.addr.ip))?;
                seen(Object::Address(Address { addr, ..o.clone() }), self.is_ours(&o.place, &o.link))
            }
            Object::Route(o) => {
                let hop = self.routes.get(&(o.place.clone(), o.destination, o.metric))?;
                let ours = hop.link.as_ref().map_or(o.place != Place::Host, |link| self.is_ours(&o.place, link));
                seen(Object::Route(Route { kind: hop.kind.clone(), ..o.clone() }), ours)
            }
        }
    }

    fn see_link(&self, place: &Place, name: &LinkName) -> Option<Seen> {
        let link = self.links.get(&(place.clone(), name.clone()))?;
        let other = |kind: &str| Seen::Other { what: format!("link {name} type {kind}") };
        Some(match (&link.kind, link.mark.clone()) {
            (Kind::Bridge { mac, filters_vlans, vrf }, Some(mark)) => ours(Object::Bridge(Bridge {
                name: name.clone(),
                mac: *mac,
                mtu: link.mtu,
                filters_vlans: *filters_vlans,
                vrf: vrf.clone(),
                mark,
            })),
            (Kind::HostEnd { sandbox, peer, master, vlan, isolated }, Some(mark)) => {
                let end = &self.links[&(Place::Sandbox(sandbox.clone()), peer.clone())];
                let Kind::SandboxEnd { mac, .. } = end.kind else { unreachable!("the two ends know each other") };
                ours(Object::Veth(Veth {
                    host: name.clone(),
                    bridge: master.clone().unwrap_or_else(|| name.clone()),
                    sandbox: sandbox.clone(),
                    name: peer.clone(),
                    mac,
                    // As sys/host sees it: both ends have the MTU that was wished, or the smaller is shown.
                    mtu: link.mtu.min(end.mtu),
                    vlan: *vlan,
                    isolated: *isolated,
                    mark,
                }))
            }
            (Kind::Child { parent, unfinished, kind }, Some(mark)) => ours(Object::Child(Child {
                place: place.clone(),
                name: name.clone(),
                unfinished: unfinished.clone(),
                parent: parent.clone(),
                kind: kind.clone(),
                mtu: link.mtu,
                mark,
            })),
            (Kind::Foreign { kind }, _) => other(kind),
            (Kind::Child { kind, .. }, None) => other(&kind.to_string()),
            (Kind::Bridge { .. }, None) => other("bridge"),
            (Kind::HostEnd { .. } | Kind::SandboxEnd { .. }, _) => other("veth"),
        })
    }

    fn is_ours(&self, place: &Place, link: &LinkName) -> bool {
        *place != Place::Host || self.links.get(&(place.clone(), link.clone())).is_some_and(|l| l.mark.is_some())
    }

    fn start_place(&mut self, place: &Place) {
        for (family, key, value) in LINK_SYSCTLS {
            for scope in ["all", "default"] {
                self.sysctls.insert((place.clone(), format!("net/{family}/conf/{scope}/{key}")), value.to_owned());
            }
        }
        self.sysctls.insert((place.clone(), "net/ipv4/ip_forward".to_owned()), "0".to_owned());
    }

    /// A new link starts with its namespace's defaults.
    fn start_link_sysctls(&mut self, place: &Place, name: &LinkName) {
        for (family, key, _) in LINK_SYSCTLS {
            let default = self.sysctls[&(place.clone(), format!("net/{family}/conf/default/{key}"))].clone();
            self.sysctls.insert((place.clone(), format!("net/{family}/conf/{name}/{key}")), default);
        }
    }

    fn write_sysctl(&mut self, place: &Place, path: &str, value: &str) -> Result<(), &'static str> {
        let entry = self.sysctls.get_mut(&(place.clone(), path.to_owned())).ok_or("ENOENT")?;
        let before = std::mem::replace(entry, value.to_owned());
        if before == value {
            return Ok(());
        }
        match path {
            "net/ipv4/ip_forward" => self.switch_forwarding(place, "net/ipv4/conf/", value),
            "net/ipv6/conf/all/forwarding" => self.switch_forwarding(place, "net/ipv6/conf/", value),
            _ => {}
        }
        if path.ends_with("/disable_ipv6")
            && value == "1"
            && let Some(link) = sysctl_link(path)
        {
            self.addresses.retain(|(p, l, ip), _| (p, l, ip.is_ipv6()) != (place, &link, true));
            self.routes.retain(|(p, to, _), hop| p != place || to.is_ipv4() || !hop.is_on(&link));
        }
        Ok(())
    }

    /// The host's switch writes every link's own (inet_forward_change, addrconf_fixup_forwarding).
    fn switch_forwarding(&mut self, place: &Place, family: &str, value: &str) {
        for ((p, path), old) in &mut self.sysctls {
            if p == place && path.starts_with(family) && path.ends_with("/forwarding") {
                *old = value.to_owned();
            }
        }
    }

    fn link_mut(&mut self, place: &Place, name: &LinkName) -> Result<&mut Link, &'static str> {
        self.links.get_mut(&(place.clone(), name.clone())).ok_or("ENODEV")
    }

    fn add_link(&mut self, place: Place, name: &LinkName, link: Link) -> Result<(), &'static str> {
        if name.as_str() == "lo" || self.links.contains_key(&(place.clone(), name.clone())) {
            return Err("EEXIST");
        }
        self.start_link_sysctls(&place, name);
        self.links.insert((place, name.clone()), link);
        Ok(())
    }

    fn add_veth(&mut self, veth: &Veth) -> Result<(), &'static str> {
        let inside = Place::Sandbox(veth.sandbox.clone());
        if !self.sandboxes.contains(&veth.sandbox) {
            return Err("ENOENT");
        }
        if veth.bridge != veth.host {
            self.may_join(&veth.bridge)?;
        }
        if self.links.contains_key(&(inside.clone(), veth.name.clone())) || veth.name.as_str() == "lo" {
            return Err("EEXIST");
        }
        let kind = Kind::HostEnd {
            sandbox: veth.sandbox.clone(),
            peer: veth.name.clone(),
            master: (veth.bridge != veth.host).then(|| veth.bridge.clone()),
            vlan: veth.vlan.filter(|_| veth.bridge != veth.host),
            isolated: veth.isolated && veth.bridge != veth.host,
        };
        self.add_link(Place::Host, &veth.host, Link { kind, mtu: veth.mtu, mark: Some(veth.mark.clone()) })?;
        let kind = Kind::SandboxEnd { host: veth.host.clone(), mac: veth.mac };
        self.add_link(inside, &veth.name, Link { kind, mtu: veth.mtu, mark: None })
    }

    fn add_child(&mut self, child: &Child) -> Result<(), &'static str> {
        let parent = self.links.get(&(Place::Host, child.parent.clone())).ok_or("ENODEV")?;
        if child.mtu > parent.mtu {
            return Err("EINVAL");
        }
        if let Place::Sandbox(sandbox) = &child.place
            && !self.sandboxes.contains(sandbox)
        {
            return Err("ENOENT");
        }
        self.may_be_on(child)?;
        let (parent, unfinished) = (child.parent.clone(), child.unfinished.clone());
        let kind = Kind::Child { parent, unfinished, kind: child.kind.clone() };
        self.add_link(child.place.clone(), &child.name, Link { kind, mtu: child.mtu, mark: Some(child.mark.clone()) })
    }

    /// Macvlan and ipvlan do not go together on one parent; where one passes everything through, it is alone
    /// (macvlan_common_newlink); and no two have the same MAC address (macvlan_addr_busy).
    fn may_be_on(&self, child: &Child) -> Result<(), &'static str> {
        let passes = |kind: &ChildKind| matches!(kind, ChildKind::Macvlan { mode: MacvlanMode::Passthru, .. });
        for link in self.links.values() {
            let Kind::Child { parent, kind, .. } = &link.kind else { continue };
            match (kind, &child.kind) {
                _ if *parent != child.parent => {}
                (one, other) if passes(one) || passes(other) => return Err("EINVAL"),
                (ChildKind::Macvlan { mac: one, .. }, ChildKind::Macvlan { mac: other, .. }) if one == other => {
                    return Err("EADDRINUSE");
                }
                (ChildKind::Macvlan { .. }, ChildKind::Ipvlan { .. })
                | (ChildKind::Ipvlan { .. }, ChildKind::Macvlan { .. }) => return Err("EBUSY"),
                _ => {}
            }
        }
        Ok(())
    }

    fn may_join(&self, bridge: &LinkName) -> Result<(), &'static str> {
        let link = self.links.get(&(Place::Host, bridge.clone())).ok_or("ENODEV")?;
        match &link.kind {
            Kind::Bridge { .. } => {}
            Kind::Foreign { kind } if kind == "bridge" => {}
            _ => return Err("EINVAL"),
        }
        let joined = |l: &&Link| matches!(&l.kind, Kind::HostEnd { master: Some(m), .. } if m == bridge);
        if self.links.values().filter(joined).count() >= MEMBERS_MAX { Err("EXFULL") } else { Ok(()) }
    }

    fn may_be_in(&self, vrf: Option<&LinkName>) -> Result<(), &'static str> {
        let Some(vrf) = vrf else { return Ok(()) };
        match self.links.get(&(Place::Host, vrf.clone())).map(|link| &link.kind) {
            None => Err("ENODEV"),
            Some(Kind::Foreign { kind }) if kind == "vrf" => Ok(()),
            Some(_) => Err("EOPNOTSUPP"),
        }
    }

    /// Its addresses, routes and settings vanish; a veth's other end too; a bridge's members stay, alone.
    fn delete_link(&mut self, place: &Place, name: &LinkName) -> Result<(), &'static str> {
        let link = self.links.remove(&(place.clone(), name.clone())).ok_or("ENODEV")?;
        self.addresses.retain(|(p, l, _), _| (p, l) != (place, name));
        self.neighbours.retain(|(p, l, _), _| (p, l) != (place, name));
        self.routes.retain(|(p, _, _), hop| p != place || !hop.is_on(name));
        if *place == Place::Host {
            self.delete_children(name);
        }
        self.sysctls.retain(|(p, path), _| p != place || sysctl_link(path).as_ref() != Some(name));
        match link.kind {
            Kind::HostEnd { sandbox, peer, .. } => {
                // Already gone when it was the other end that was deleted.
                let _ = self.delete_link(&Place::Sandbox(sandbox), &peer);
            }
            Kind::SandboxEnd { host, .. } => {
                let _ = self.delete_link(&Place::Host, &host);
            }
            Kind::Bridge { .. } => {
                for member in self.links.values_mut() {
                    if let Kind::HostEnd { master, vlan, isolated, .. } = &mut member.kind
                        && master.take_if(|m| m == name).is_some()
                    {
                        (*vlan, *isolated) = (None, false);
                    }
                }
            }
            Kind::Child { .. } | Kind::Foreign { .. } => {}
        }
        Ok(())
    }

    /// They go with their parent, wherever they are.
    fn delete_children(&mut self, of: &LinkName) {
        let on =
            |(_, link): &(&(Place, LinkName), &Link)| matches!(&link.kind, Kind::Child { parent, .. } if parent == of);
        let children: Vec<(Place, LinkName)> = self.links.iter().filter(on).map(|(key, _)| key.clone()).collect();
        for (place, name) in children {
            let _ = self.delete_link(&place, &name);
        }
    }

    fn delete_sandbox(&mut self, name: &SandboxName) -> Result<(), &'static str> {
        let place = Place::Sandbox(name.clone());
        if !self.sandboxes.remove(name) {
            return Err("ENOENT");
        }
        let inside: Vec<LinkName> = self.links.keys().filter(|(p, _)| *p == place).map(|(_, l)| l.clone()).collect();
        inside.iter().try_for_each(|link| self.delete_link(&place, link))?;
        self.sysctls.retain(|(p, _), _| *p != place);
        self.routes.retain(|(p, _, _), _| *p != place);
        Ok(())
    }

    fn add_address(&mut self, address: &Address) -> Result<(), &'static str> {
        let Address { place, link, addr } = address;
        self.link_mut(place, link)?;
        let off = self.sysctls.get(&(place.clone(), format!("net/ipv6/conf/{link}/disable_ipv6")));
        if addr.ip.is_ipv6() && off.is_some_and(|value| value == "1") {
            return Err("EACCES");
        }
        let key = (place.clone(), link.clone(), addr.ip);
        if self.addresses.contains_key(&key) {
            return Err("EEXIST");
        }
        self.addresses.insert(key, *addr);
        Ok(())
    }

    /// With a link's last IPv4 address its IPv4 routes vanish (fib_disable_ip in net/ipv4/fib_frontend.c).
    fn delete_address(&mut self, place: &Place, link: &LinkName, ip: IpAddr) -> Result<(), &'static str> {
        self.addresses.remove(&(place.clone(), link.clone(), ip)).ok_or("EADDRNOTAVAIL")?;
        let more = self.addresses.keys().any(|(p, l, ip)| (p, l, ip.is_ipv4()) == (place, link, true));
        if ip.is_ipv4() && !more {
            self.routes.retain(|(p, to, _), hop| p != place || !to.is_ipv4() || !hop.is_on(link));
        }
        Ok(())
    }

    fn add_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), &'static str> {
        let Neighbour { place, link, ip, mac } = neighbour;
        self.link_mut(place, link)?;
        match self.neighbours.entry((place.clone(), link.clone(), *ip)) {
            Entry::Occupied(_) => Err("EEXIST"),
            Entry::Vacant(free) => {
                free.insert(*mac);
                Ok(())
            }
        }
    }

    fn add_route(&mut self, route: &Route) -> Result<(), &'static str> {
        let key = (route.place.clone(), route.destination, route.metric);
        if self.routes.contains_key(&key) {
            return Err("EEXIST");
        }
        let link = match (route.kind.gateway(), route.kind.link()) {
            (None, None) => None,
            (None, Some(link)) => {
                self.link_mut(&route.place, link)?;
                Some(link.clone())
            }
            (Some(gateway), on) => {
                let connected = |((place, link, _), addr): &(&(Place, LinkName, IpAddr), &Addr)| {
                    *place == route.place && on.is_none_or(|on| on == link) && addr.subnet().contains(gateway)
                };
                let ((_, link, _), _) = self.addresses.iter().find(connected).ok_or("ENETUNREACH")?;
                Some(link.clone())
            }
        };
        self.routes.insert(key, Hop { kind: route.kind.clone(), link });
        Ok(())
    }

    fn add_element(&mut self, element: &Element) -> Result<(), &'static str> {
        let key = Object::Element(element.clone()).key();
        if self.ruleset.is_none() {
            return Err("ENOENT");
        }
        if self.elements.contains_key(&key) {
            return Err("EEXIST");
        }
        self.elements.insert(key, element.clone());
        Ok(())
    }
}

fn ours(object: Object) -> Seen {
    Seen::Object { object, ours: true }
}

impl fmt::Display for World {
    /// Namespaces, links, addresses, routes, settings that are not a new namespace's, rules and elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sandboxes.iter().try_for_each(|name| writeln!(f, "netns {name}"))?;
        for ((place, name), link) in &self.links {
            write!(f, "{place}link {name} ")?;
            match &link.kind {
                Kind::Bridge { mac, filters_vlans, vrf } => {
                    write!(f, "type bridge address {mac}")?;
                    if *filters_vlans {
                        f.write_str(" vlan_filtering 1")?;
                    }
                    vrf.iter().try_for_each(|vrf| write!(f, " master {vrf}"))
                }
                Kind::HostEnd { sandbox, peer, master, vlan, isolated } => {
                    write!(f, "type veth peer [{sandbox}] {peer}")?;
                    master.iter().try_for_each(|master| write!(f, " master {master}"))?;
                    vlan.iter().try_for_each(|vlan| write!(f, " vlan {vlan}"))?;
                    f.write_str(if *isolated { " isolated on" } else { "" })
                }
                Kind::SandboxEnd { mac, .. } => write!(f, "type veth address {mac}"),
                Kind::Child { parent, kind, .. } => write!(f, "link {parent} type {kind}"),
                Kind::Foreign { kind } => write!(f, "type {kind}"),
            }?;
            write!(f, " mtu {}", link.mtu)?;
            writeln!(f, "{}", link.mark.as_ref().map_or(String::new(), |mark| format!(" alias {mark}")))?;
        }
        for ((place, link, _), addr) in &self.addresses {
            writeln!(f, "{place}addr {addr} dev {link}")?;
        }
        for ((place, link, ip), mac) in &self.neighbours {
            writeln!(f, "{place}neigh {ip} lladdr {mac} dev {link} nud permanent")?;
        }
        for ((place, destination, metric), hop) in &self.routes {
            match &hop.link {
                Some(_) if hop.kind.link().is_some() => {
                    writeln!(f, "{place}route {destination} {} metric {metric}", hop.kind)?;
                }
                Some(link) => writeln!(f, "{place}route {destination} {} dev {link} metric {metric}", hop.kind)?,
                None => writeln!(f, "{place}route {} {destination} metric {metric}", hop.kind)?,
            }
        }
        for ((place, path), value) in &self.sysctls {
            let key = path.rsplit('/').next().unwrap_or_default();
            let usual =
                LINK_SYSCTLS.iter().find(|(family, k, _)| *k == key && path.starts_with(&format!("net/{family}")));
            let limit = LIMITS.iter().find(|(limit, _)| limit == path).map(|(_, value)| *value);
            if value != usual.map(|(_, _, value)| *value).or(limit).unwrap_or("0") {
                writeln!(f, "{place}sysctl {}={value}", path.replace('/', "."))?;
            }
        }
        self.ruleset.iter().try_for_each(|version| writeln!(f, "ruleset {version}"))?;
        self.elements.values().try_for_each(|e| writeln!(f, "{} # {}", Object::Element(e.clone()), e.mark))
    }
}
