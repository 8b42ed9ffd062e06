//! Taking a plan's steps, and taking them back.
//!
//! ```text
//!   ops   + element …  + element …  + link …   + addr …  + addr …  + route …
//!         └──── one transaction ──┘ └ sends ┘  └───────── one send ────────┘
//!   a refusal in the third step: its own other successes are inverted, then Plan::undo_first is taken
//! ```
//!
//! rtnetlink goes on after a refused message of a send, so what was done is read off the answers, one by one.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use linux::netns::{self, NetNs};
use model::LinkName;
use netlink::rtnetlink::{self, Changes, Hop, Link, Peer, RouteType};
use netlink::{Errno, Message};
use plan::{
    Address, Bridge, Conflict, Key, Neighbour, Object, Op, Place, Plan, Route, RouteKind, Sandbox, Sysctl, Veth,
};

use crate::child::moved;
use crate::error::{ApplyError, HostError};
use crate::observe::{is_ours, other_link};
use crate::stack::Stack;
use crate::{Host, LINK_GROUP, firewall, sandbox_file};

impl Host {
    /// Takes the steps of a plan in their order.
    ///
    /// When one is refused, those before it are taken back. What is gone already counts as removed. When this
    /// returns, what vanishes with a removed link or sandbox has vanished.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), ApplyError> {
        self.begin(plan)?;
        self.settle()
    }

    /// As [`Host::apply`], but the removal of bridges, which come last, is only sent: the kernel takes some
    /// 40 ms for one. Whoever forgets a record of them must call [`Host::settle`] first.
    pub fn begin(&mut self, plan: &Plan) -> Result<(), ApplyError> {
        let (mut done, mut overwritten) = (0, Vec::new());
        for step in plan.ops.chunk_by(go_together) {
            step.iter().for_each(|op| tracing::debug!("{op}"));
            match self.take(step) {
                Ok(settings) => overwritten.extend(settings),
                Err(stop) => {
                    let op = step.get(stop.op).unwrap_or(&step[0]).clone();
                    let mut back: Vec<Op> = stop.beyond.into_iter().rev().map(inverse).collect();
                    back.extend(overwritten.into_iter().rev().map(inverse));
                    back.extend(plan.undo_first(done + stop.at).ops);
                    return Err(self.give_up(op, stop.failure, &back));
                }
            }
            done += step.len();
        }
        self.announce(plan);
        Ok(())
    }

    /// Lets neighbours hear who has a sandbox's new addresses: they may remember another's MAC address, and would
    /// send to nobody until they ask again. A MAC address that is set is announced with the link's addresses, even
    /// when it is the same (NETDEV_CHANGEADDR in net/ipv4/devinet.c and net/ipv6/ndisc.c), where the sandbox's
    /// `arp_notify` and `ndisc_notify` say so. Last, for what a port may say is an element of the firewall.
    fn announce(&mut self, plan: &Plan) {
        let links: BTreeSet<_> = plan.ops.iter().filter_map(announced).collect();
        for (place, name) in links {
            // That nobody heard of it is no reason to take anything back.
            let told = self.announce_link(&place, &name);
            told.unwrap_or_else(|failure| tracing::warn!("{name} was not announced: {}", failure.into_errno()));
        }
    }

    fn announce_link(&mut self, place: &Place, name: &LinkName) -> Result<(), Failure> {
        let stack = self.needed_stack(place)?;
        // Of an ipvlan link the address is its parent's, too.
        let announces = |link: &Link| ["veth", "macvlan"].contains(&link.kind.as_str());
        let Some(Link { index, mac: Some(mac), .. }) = stack.link(name.as_str())?.filter(announces) else {
            return Ok(());
        };
        let same = rtnetlink::change_link(index, &Changes { mac: Some(mac), ..Changes::default() });
        // A link whose MAC address is set forgets all neighbours (neigh_changeaddr), also those it was told of.
        let kept = stack.neighbours()?.into_iter().filter(|neighbour| neighbour.permanent && neighbour.index == index);
        let told_again = kept.map(|neighbour| rtnetlink::put_neighbour(index, neighbour.ip, neighbour.mac));
        let messages: Vec<Message> = std::iter::once(same).chain(told_again).collect();
        Ok(all(stack.batch(&messages)?)?)
    }

    /// Waits until the kernel has answered the removals that [`Host::begin`] sent.
    pub fn settle(&mut self) -> Result<(), ApplyError> {
        for (bridge, answer) in std::mem::take(&mut self.departing) {
            let answer = answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let errno = match answer {
                Ok(Ok(())) => continue,
                Ok(Err(errno)) if errno.code == libc::ENODEV => continue,
                Ok(Err(errno)) => errno,
                Err(error) => Failure::from(error).into_errno(),
            };
            return Err(ApplyError::Refused { op: Box::new(Op::Remove(Object::Bridge(bridge))), errno });
        }
        Ok(())
    }

    /// Takes back what was done, and says what happened.
    fn give_up(&mut self, op: Op, failure: Failure, back: &[Op]) -> ApplyError {
        let remain = self.take_back(back);
        let op = Box::new(op);
        match failure {
            failure if !remain.is_empty() => ApplyError::Stuck { op, errno: failure.into_errno(), remain },
            Failure::Occupied(what) => ApplyError::Conflict(conflict(&op, what)),
            Failure::Errno(errno) if errno.code == libc::EPERM => ApplyError::Denied { need: need(&op), op },
            Failure::Errno(errno) => ApplyError::Refused { op, errno },
        }
    }

    /// Takes the steps back; returns the keys of those that could not be. One by one where possible, so that
    /// one that fails does not keep the others from being taken back.
    fn take_back(&mut self, back: &[Op]) -> Vec<Key> {
        let mut remain = Vec::new();
        if let Err(ApplyError::Refused { op, .. }) = self.settle() {
            remain.push(op.object().key());
        }
        for step in back.chunk_by(|a, b| a.is_firewall() && b.is_firewall()) {
            step.iter().for_each(|op| tracing::debug!("taking back: {op}"));
            if self.take(step).is_err() {
                remain.extend(step.iter().map(|op| op.object().key()));
            }
        }
        remain
    }

    /// Takes ops that go together. Returns the settings that were overwritten and whose plan does not say so.
    fn take(&mut self, step: &[Op]) -> Result<Option<Op>, Stop> {
        let [first, ..] = step else { return Ok(None) };
        match kind(first) {
            Kind::Firewall => self.take_firewall(step).map(|()| None),
            Kind::Message => self.take_messages(step).map(|()| None),
            Kind::Single => self.take_one(first).map_err(|failure| Stop::unknown(step, failure)),
        }
    }

    /// One nf_tables transaction: all or nothing.
    fn take_firewall(&mut self, step: &[Op]) -> Result<(), Stop> {
        let mut sockets = self.firewall_sockets().map_err(|e| Stop::at(0, e.into()))?;
        firewall::apply(&mut sockets, step).map_err(|e| match e.op.filter(|n| *n < step.len()) {
            Some(op) => Stop { op, ..Stop::at(0, failure(&step[op], e.errno)) },
            None => Stop::unknown(step, e.errno.into()),
        })
    }

    /// Addresses and routes of one place, in one send.
    fn take_messages(&mut self, step: &[Op]) -> Result<(), Stop> {
        let (mut messages, mut senders, mut unsent) = (Vec::new(), Vec::new(), None);
        for (at, op) in step.iter().enumerate() {
            match self.messages(op) {
                Ok(of_op) => {
                    senders.extend(std::iter::repeat_n(at, of_op.len()));
                    messages.extend(of_op);
                }
                Err(failure) => {
                    unsent = Some(Stop::at(at, failure));
                    break;
                }
            }
        }
        let results = match self.stack(place(&step[0])).map_err(|e| Stop::at(0, e.into()))? {
            Some(stack) => stack.batch(&messages).map_err(|e| Stop::unknown(step, e.into()))?,
            // Of a sandbox that is gone everything is gone; a create in it is unsent.
            None => vec![Ok(()); messages.len()],
        };
        let sent = unsent.as_ref().map_or(step.len(), |stop| stop.at);
        let mut stop: Option<Stop> = None;
        for (at, op) in step[..sent].iter().enumerate() {
            let of_op: Vec<_> =
                senders.iter().zip(&results).filter(|(sender, _)| **sender == at).map(|(_, r)| r).collect();
            let refusal = of_op.iter().find_map(|r| r.as_ref().err().filter(|errno| !counts_as_done(op, errno)));
            match (&mut stop, refusal) {
                (None, None) => {}
                (Some(stop), None) => stop.beyond.push(op.clone()),
                (Some(stop), Some(_)) => stop.beyond.extend(half_done(op, &of_op)),
                (None, Some(errno)) => {
                    let beyond = half_done(op, &of_op).into_iter().collect();
                    stop = Some(Stop { beyond, ..Stop::at(at, failure(op, errno.clone())) });
                }
            }
        }
        stop.or(unsent).map_or(Ok(()), Err)
    }

    /// The messages of an op on an address or a route.
    fn messages(&mut self, op: &Op) -> Result<Vec<Message>, Failure> {
        match op {
            Op::Create(Object::Address(o)) => {
                let link = self.needed_link(&o.place, &o.link)?;
                Ok(vec![rtnetlink::add_address(link.index, o.addr.ip, o.addr.len())])
            }
            Op::Remove(Object::Address(o)) => match self.own_link(o)? {
                Some(link) => Ok(vec![rtnetlink::delete_address(link.index, o.addr.ip, o.addr.len())]),
                None => Ok(Vec::new()),
            },
            // IPv6 does not take the same address twice, so the old one has to go first.
            Op::Change { from: Object::Address(from), to: Object::Address(to) } => {
                let link = self.own_link(from)?.ok_or(Errno::new(libc::ENODEV))?;
                Ok(vec![
                    rtnetlink::delete_address(link.index, from.addr.ip, from.addr.len()),
                    rtnetlink::add_address(link.index, to.addr.ip, to.addr.len()),
                ])
            }
            Op::Create(Object::Neighbour(o)) | Op::Change { to: Object::Neighbour(o), .. } => {
                let link = self.needed_link(&o.place, &o.link)?;
                Ok(vec![rtnetlink::put_neighbour(link.index, o.ip, o.mac.octets())])
            }
            Op::Remove(Object::Neighbour(o)) => {
                match self.stack(&o.place)?.map(|s| s.link(o.link.as_str())).transpose()? {
                    Some(Some(link)) => Ok(vec![rtnetlink::delete_neighbour(link.index, o.ip)]),
                    _ => Ok(Vec::new()),
                }
            }
            Op::Create(Object::Route(o)) => {
                self.stack(&o.place)?.ok_or(Errno::new(libc::ENOENT))?;
                Ok(vec![self.route(rtnetlink::add_route, o)?])
            }
            // With its link it has gone.
            Op::Remove(Object::Route(o)) => match self.route(rtnetlink::delete_route, o) {
                Err(Failure::Errno(errno)) if errno.code == libc::ENODEV => Ok(Vec::new()),
                message => Ok(vec![message?]),
            },
            Op::Change { from: Object::Route(from), to: Object::Route(to) } => {
                Ok(match (from.kind.gateway(), to.kind.gateway()) {
                    (Some(_), Some(_)) => vec![self.route(rtnetlink::replace_route, to)?],
                    // IPv6 replaces no route by one of another type.
                    _ => vec![self.route(rtnetlink::delete_route, from)?, self.route(rtnetlink::add_route, to)?],
                })
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Takes one op that is neither firewall, address nor route; returns the setting it has overwritten.
    fn take_one(&mut self, op: &Op) -> Result<Option<Op>, Failure> {
        match op {
            Op::Create(Object::Sandbox(o)) => self.create_sandbox(o)?,
            Op::Create(Object::Bridge(o)) => self.create_bridge(o)?,
            Op::Create(Object::Veth(o)) => self.create_veth(o)?,
            Op::Create(Object::Child(o)) => self.create_child(o)?,
            Op::Create(Object::Sysctl(o)) => return self.set(o),
            // The plan itself says how to take it back.
            Op::Change { to: Object::Sysctl(o), .. } => return self.set(o).map(|_| None),
            Op::Remove(Object::Sandbox(o)) => self.remove_sandbox(o)?,
            Op::Remove(Object::Bridge(o)) => self.begin_removal(o)?,
            Op::Remove(Object::Veth(o)) => self.remove_link(&o.host)?,
            Op::Remove(Object::Child(o)) => self.remove_child(o)?,
            Op::Change { from: Object::Bridge(from), to: Object::Bridge(to) } => self.change_bridge(from, to)?,
            Op::Change { from: Object::Veth(from), to: Object::Veth(to) } => self.change_veth(from, to)?,
            Op::Change { from: Object::Child(_), to: Object::Child(to) } => self.change_child(to)?,
            Op::Change { from, to } if from.key() == to.key() => {
                self.remove_link_of(from)?;
                self.take_one(&Op::Create(to.clone()))?;
            }
            // Settings are not taken back: others may have come to rely on them.
            Op::Create(_) | Op::Change { .. } | Op::Remove(_) => {}
        }
        Ok(None)
    }

    fn create_sandbox(&mut self, wanted: &Sandbox) -> Result<(), Failure> {
        let file = sandbox_file(&wanted.name);
        let namespace = NetNs::create_in(&file, self.sandbox_owner.as_ref()).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Failure::Occupied(format!("netns {}", wanted.name)),
            _ => Failure::from(e),
        })?;
        let started = Stack::inside(namespace).and_then(|mut stack| {
            all(stack.batch(&[rtnetlink::set_up("lo")])?)?;
            Ok(stack)
        });
        match started {
            Ok(stack) => {
                self.keep_open(&wanted.name, stack);
                Ok(())
            }
            Err(e) => {
                // The error that matters is the first one.
                let _ = netns::remove(&file);
                Err(e.into())
            }
        }
    }

    /// Removes what crosses the sandbox's border, then its file. The namespace itself dies later, in the
    /// kernel's own time, and only when no process is left in it; its links must not live that long.
    fn remove_sandbox(&mut self, gone: &Sandbox) -> Result<(), Failure> {
        if let Some(stack) = self.sandbox(&gone.name)? {
            let links = stack.links()?;
            for link in links.iter().filter(|l| ["veth", "macvlan", "ipvlan"].contains(&l.kind.as_str())) {
                // Both ends of a pair may have been inside.
                stack.remove_link(link.index)?.or_else(|e| if e.code == libc::ENODEV { Ok(()) } else { Err(e) })?;
            }
        }
        self.sandboxes.remove(&gone.name);
        Ok(netns::remove(&sandbox_file(&gone.name))?)
    }

    fn create_bridge(&mut self, wanted: &Bridge) -> Result<(), Failure> {
        // Its name may be that of one which is leaving.
        self.settle().map_err(|refused| match refused {
            ApplyError::Refused { errno, .. } => Failure::Errno(errno),
            _ => Failure::Errno(Errno::new(libc::EBUSY)),
        })?;
        self.create_link(
            &wanted.name,
            rtnetlink::create_bridge(wanted.name.as_str(), wanted.mac.octets(), LINK_GROUP),
        )?;
        self.finish_bridge(wanted).map_err(|failure| self.discard(&wanted.name, failure.into_errno()))
    }

    /// MTU, alias and up. Until its link-local address has passed duplicate address detection, a bridge
    /// forwards no IPv6, for it asks its neighbours from that address (ndisc_send_ns in net/ipv6/ndisc.c): two
    /// seconds in which a container is not reachable. The address follows from a MAC address that is ours.
    fn finish_bridge(&mut self, bridge: &Bridge) -> Result<(), Failure> {
        self.prepare(&format!("net/ipv6/conf/{}/accept_dad", bridge.name), "0")?;
        self.filter_vlans(bridge)?;
        if let Some(vrf) = self.vrf_of(bridge)? {
            let index = self.needed_link(&Place::Host, &bridge.name)?.index;
            let enter = rtnetlink::change_link(index, &Changes { master: Some(vrf.index), ..Changes::default() });
            all(self.here.batch(&[enter])?)?;
        }
        let finish = rtnetlink::finish_bridge(bridge.name.as_str(), bridge.mtu, bridge.mark.as_str());
        Ok(all(self.here.batch(&[finish])?)?)
    }

    /// Lets a bridge keep VLANs apart, if it is to, and looks whether it does: a kernel without the code for it
    /// may take the request and do nothing.
    fn filter_vlans(&mut self, bridge: &Bridge) -> Result<(), Failure> {
        if !bridge.filters_vlans {
            return Ok(());
        }
        let asked = all(self.here.batch(&[rtnetlink::filter_vlans(bridge.name.as_str())])?);
        match asked {
            Ok(()) if self.needed_link(&Place::Host, &bridge.name)?.filters_vlans => Ok(()),
            Err(errno) if errno.code != libc::EOPNOTSUPP => Err(errno.into()),
            Ok(()) | Err(_) => Err(Failure::Errno(no_vlans())),
        }
    }

    /// The VRF that a bridge is to be a member of.
    fn vrf_of(&mut self, bridge: &Bridge) -> Result<Option<Link>, Failure> {
        let Some(name) = &bridge.vrf else { return Ok(None) };
        match self.here.link(name.as_str())? {
            Some(link) if link.kind == "vrf" => Ok(Some(link)),
            Some(link) => Err(no_such(libc::EINVAL, format!("{} is no vrf", other_link(&link, name)))),
            None => Err(no_such(libc::ENODEV, format!("vrf {name} does not exist on the host"))),
        }
    }

    fn create_veth(&mut self, wanted: &Veth) -> Result<(), Failure> {
        let bridge = self.bridge_for(wanted)?.index;
        let create = {
            let stack = self.needed_stack(&Place::Sandbox(wanted.sandbox.clone()))?;
            let peer = Peer { netns: stack.namespace.as_fd(), name: wanted.name.as_str(), mac: wanted.mac.octets() };
            rtnetlink::create_veth(wanted.host.as_str(), bridge, LINK_GROUP, wanted.mtu, &peer)
        };
        self.create_link(&wanted.host, create)?;
        self.finish_veth(wanted).map_err(|failure| self.discard(&wanted.host, failure.into_errno()))
    }

    /// The bridge that a veth is to be a member of; no other kind of link takes members by mistake.
    fn bridge_for(&mut self, veth: &Veth) -> Result<Link, Failure> {
        let link = self.needed_link(&Place::Host, &veth.bridge)?;
        match link.kind.as_str() {
            "bridge" => Ok(link),
            _ => Err(no_such(libc::EINVAL, format!("{} is no bridge", other_link(&link, &veth.bridge)))),
        }
    }

    /// Creates a link, with the first half of its mark. Alone in its send: the messages that finish it go by
    /// its name, and would hit a link of others that has the name already, for rtnetlink goes on after a
    /// refusal. A link that was not finished is observed as different from every wish.
    fn create_link(&mut self, name: &LinkName, create: Message) -> Result<(), Failure> {
        match all(self.here.batch(&[create])?) {
            Err(errno) if errno.code == libc::EEXIST => Err(match self.here.link(name.as_str())? {
                Some(link) => Failure::Occupied(other_link(&link, name)),
                // The name that is taken is the peer's, in the sandbox.
                None => errno.into(),
            }),
            Err(errno) if errno.code == libc::EXFULL => {
                let text = "its bridge has 1023 ports, and the kernel lets it have no more".to_owned();
                Err(Errno { text, ..errno }.into())
            }
            result => Ok(result?),
        }
    }

    /// Alias, hairpin mode, isolation and both ends up: what can be asked for only when the pair is there.
    fn finish_veth(&mut self, veth: &Veth) -> Result<(), Failure> {
        let (host, inside) = (veth.host.as_str(), Place::Sandbox(veth.sandbox.clone()));
        let results = self.here.batch(&[
            rtnetlink::finish_member(host, veth.mark.as_str(), veth.isolated),
            rtnetlink::no_link_local(host),
            rtnetlink::set_up(host),
        ])?;
        for (n, result) in results.into_iter().enumerate() {
            // Where there is no IPv6 there is no link-local address to keep off.
            result.or_else(|e| if n == 1 && e.code == libc::EAFNOSUPPORT { Ok(()) } else { Err(e) })?;
        }
        self.set_vlan(veth)?;
        all(self.needed_stack(&inside)?.batch(&[rtnetlink::set_up(veth.name.as_str())])?)?;
        self.awake(&inside, &veth.name)?;
        self.awake(&Place::Host, &veth.host)?;
        self.awake(&Place::Host, &veth.bridge)
    }

    /// Waits until a link sends. One whose carrier has just come drops everything until the kernel's link
    /// watch has noticed, which on a busy machine took more than a second; being asked about makes it notice
    /// (rtnl_getlink in net/core/rtnetlink.c, since Linux 6.8).
    fn awake(&mut self, place: &Place, link: &LinkName) -> Result<(), Failure> {
        self.needed_stack(place)?.link(link.as_str())?;
        Ok(())
    }

    /// Puts a bridge's member into its VLAN, and takes it out of every other.
    fn set_vlan(&mut self, veth: &Veth) -> Result<(), Failure> {
        let Some(vlan) = veth.vlan else { return Ok(()) };
        let index = self.needed_link(&Place::Host, &veth.host)?.index;
        let before = self.here.port_vlans(index)?.map(|port| port.vlans).unwrap_or_default();
        let others = before.iter().map(|(of_port, _)| *of_port).filter(|of_port| *of_port != vlan);
        let add = std::iter::once(rtnetlink::add_port_vlan(index, vlan));
        let messages: Vec<_> = add.chain(others.map(|other| rtnetlink::delete_port_vlan(index, other))).collect();
        match all(self.here.batch(&messages)?) {
            Err(errno) if errno.code == libc::EOPNOTSUPP => Err(Failure::Errno(no_vlans())),
            result => Ok(result?),
        }
    }

    /// Removes a link that could not be finished.
    fn discard(&mut self, link: &LinkName, errno: Errno) -> Failure {
        match self.remove_link(link) {
            Ok(()) => errno.into(),
            Err(_) => Errno { text: format!("{errno}; link {link} remains"), ..errno }.into(),
        }
    }

    fn change_bridge(&mut self, from: &Bridge, to: &Bridge) -> Result<(), Failure> {
        let link = self.own_host_link(&to.name)?.ok_or(Errno::new(libc::ENODEV))?;
        self.filter_vlans(to)?;
        let vrf = self.vrf_of(to)?.map_or(0, |vrf| vrf.index);
        let changes = Changes {
            master: (from.vrf != to.vrf).then_some(vrf),
            // 0 stands for unfinished, to which there is no way back.
            mtu: (from.mtu != to.mtu && to.mtu != 0).then_some(to.mtu),
            mac: (from.mac != to.mac).then(|| to.mac.octets()),
            alias: Some(to.mark.as_str()),
            ..Changes::default()
        };
        let change = rtnetlink::change_link(link.index, &changes);
        Ok(all(self.here.batch(&[change, rtnetlink::set_up(to.name.as_str())])?)?)
    }

    fn change_veth(&mut self, from: &Veth, to: &Veth) -> Result<(), Failure> {
        // A peer cannot be renamed while it is up, nor moved: it is another pair.
        if (&from.sandbox, &from.name) != (&to.sandbox, &to.name) {
            self.remove_link(&from.host)?;
            return self.create_veth(to);
        }
        if to.bridge == to.host {
            // An unfinished pair, to which there is no way back.
            return Ok(());
        }
        let link = self.own_host_link(&to.host)?.ok_or(Errno::new(libc::ENODEV))?;
        let master = self.bridge_for(to)?.index;
        let master = (link.master != Some(master)).then_some(master);
        let change = rtnetlink::change_link(link.index, &Changes { mtu: Some(to.mtu), master, ..Changes::default() });
        all(self.here.batch(&[change])?)?;
        let inside = Place::Sandbox(to.sandbox.clone());
        let index = self.needed_link(&inside, &to.name)?.index;
        let mac = (from.mac != to.mac).then(|| to.mac.octets());
        let change = rtnetlink::change_link(index, &Changes { mtu: Some(to.mtu), mac, ..Changes::default() });
        all(self.needed_stack(&inside)?.batch(&[change])?)?;
        self.finish_veth(to)
    }

    fn remove_link_of(&mut self, object: &Object) -> Result<(), Failure> {
        match object {
            Object::Bridge(Bridge { name, .. }) | Object::Veth(Veth { host: name, .. }) => self.remove_link(name),
            _ => Ok(()),
        }
    }

    /// Sends the removal of a bridge of ours; [`Host::settle`] hears the answer.
    fn begin_removal(&mut self, bridge: &Bridge) -> Result<(), Failure> {
        let Some(link) = self.own_host_link(&bridge.name)? else { return Ok(()) };
        let answer = self.here.departure()?.begin(link.index)?;
        self.departing.push((bridge.clone(), answer));
        Ok(())
    }

    /// Removes a link of ours by its index; not there is as good as removed.
    fn remove_link(&mut self, name: &LinkName) -> Result<(), Failure> {
        let Some(link) = self.own_host_link(name)? else { return Ok(()) };
        match self.here.remove_link(link.index)? {
            Err(errno) if errno.code == libc::ENODEV => Ok(()),
            result => Ok(result?),
        }
    }

    /// Writes a setting that has another value; returns what was done if there was one before.
    fn set(&mut self, wanted: &Sysctl) -> Result<Option<Op>, Failure> {
        let stack = self.needed_stack(&wanted.place)?;
        let before = stack.sysctl(&wanted.path)?;
        if stack.satisfies(before.as_deref(), &wanted.path, &wanted.value)? {
            return Ok(None);
        }
        stack.write_sysctl(&wanted.path, &wanted.value)?;
        let from = before.map(|value| Object::Sysctl(Sysctl { value, ..wanted.clone() }));
        Ok(from.map(|from| Op::Change { from, to: Object::Sysctl(wanted.clone()) }))
    }

    pub(crate) fn needed_stack(&mut self, place: &Place) -> Result<&mut Stack, Failure> {
        Ok(self.stack(place)?.ok_or(Errno::new(libc::ENOENT))?)
    }

    pub(crate) fn needed_link(&mut self, place: &Place, name: &LinkName) -> Result<Link, Failure> {
        Ok(self.needed_stack(place)?.link(name.as_str())?.ok_or(Errno::new(libc::ENODEV))?)
    }

    fn route(
        &mut self,
        build: fn(std::net::IpAddr, u8, Hop, u32) -> Message,
        route: &Route,
    ) -> Result<Message, Failure> {
        let hop = match &route.kind {
            RouteKind::Via(gateway) => Hop::Via(*gateway),
            RouteKind::ViaOn(gateway, link) => Hop::ViaOn(*gateway, self.needed_link(&route.place, link)?.index),
            RouteKind::On(link) => Hop::On(self.needed_link(&route.place, link)?.index),
            RouteKind::Blackhole => Hop::Nowhere(RouteType::Blackhole),
            RouteKind::Unreachable => Hop::Nowhere(RouteType::Unreachable),
            RouteKind::Prohibit => Hop::Nowhere(RouteType::Prohibit),
        };
        Ok(build(route.destination.network(), route.destination.len(), hop, route.metric))
    }

    /// A host link of ours; `None` when nothing has the name, refused when something of others has.
    fn own_host_link(&mut self, name: &LinkName) -> Result<Option<Link>, Failure> {
        match self.here.link(name.as_str())? {
            Some(link) if !is_ours(&link) || link.name != name.as_str() => {
                Err(Failure::Occupied(other_link(&link, name)))
            }
            link => Ok(link),
        }
    }

    /// The link an address of ours is on; `None` when the link or its sandbox is gone.
    fn own_link(&mut self, address: &Address) -> Result<Option<Link>, Failure> {
        match &address.place {
            Place::Host => self.own_host_link(&address.link),
            place => match self.stack(place)? {
                Some(stack) => Ok(stack.link(address.link.as_str())?),
                None => Ok(None),
            },
        }
    }
}

/// Something that is not as it must be, in a sentence of our own.
pub(crate) fn no_such(code: i32, text: String) -> Failure {
    Failure::Errno(Errno { code, text })
}

fn no_vlans() -> Errno {
    let text = "this kernel cannot keep VLANs apart on a bridge, which the network's option vlan needs: it was built \
                without CONFIG_BRIDGE_VLAN_FILTERING";
    Errno { code: libc::EOPNOTSUPP, text: text.to_owned() }
}

/// The link in a sandbox whose addresses are new, or belong to another MAC address now.
fn announced(op: &Op) -> Option<(Place, LinkName)> {
    match op {
        Op::Create(Object::Address(o)) | Op::Change { to: Object::Address(o), .. } if o.place != Place::Host => {
            Some((o.place.clone(), o.link.clone()))
        }
        Op::Change { from: Object::Veth(from), to: Object::Veth(to) } if from.mac != to.mac => {
            Some((Place::Sandbox(to.sandbox.clone()), to.name.clone()))
        }
        Op::Change { from: Object::Child(from), to: Object::Child(to) } if moved(from, to) => {
            Some((to.place.clone(), to.name.clone()))
        }
        _ => None,
    }
}

/// Where a step stopped.
struct Stop {
    /// How many of its first ops were done.
    at: usize,
    /// Which of its ops was refused.
    op: usize,
    failure: Failure,
    /// What was done after that.
    beyond: Vec<Op>,
}

impl Stop {
    fn at(op: usize, failure: Failure) -> Self {
        Self { at: op, op, failure, beyond: Vec::new() }
    }

    /// At the first op, of which nothing is known but that it was asked for.
    fn unknown(step: &[Op], failure: Failure) -> Self {
        Self { beyond: perhaps(step, &failure), ..Self::at(0, failure) }
    }
}

/// Why one op could not be taken.
pub(crate) enum Failure {
    Errno(Errno),
    /// Something of others is there.
    Occupied(String),
}

impl Failure {
    pub(crate) fn into_errno(self) -> Errno {
        match self {
            Self::Errno(errno) => errno,
            Self::Occupied(what) => Errno { code: libc::EEXIST, text: format!("{what} is in the way") },
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Errno(error.into())
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::OwnNamespace { path } => {
                Self::Occupied(format!("the host's own network namespace at {}", path.display()))
            }
            HostError::Io { what, cause } => {
                let errno = Errno::from(cause);
                Self::Errno(Errno { text: format!("{what}: {errno}"), ..errno })
            }
        }
    }
}

/// How ops are taken.
#[derive(PartialEq, Eq)]
enum Kind {
    Firewall,
    Message,
    Single,
}

fn kind(op: &Op) -> Kind {
    match op.object() {
        object if object.is_firewall() => Kind::Firewall,
        Object::Address(_) | Object::Neighbour(_) | Object::Route(_) => Kind::Message,
        _ => Kind::Single,
    }
}

fn go_together(a: &Op, b: &Op) -> bool {
    match (kind(a), kind(b)) {
        (Kind::Firewall, Kind::Firewall) => true,
        (Kind::Message, Kind::Message) => place(a) == place(b),
        _ => false,
    }
}

fn place(op: &Op) -> &Place {
    match op.object() {
        Object::Sysctl(Sysctl { place, .. })
        | Object::Address(Address { place, .. })
        | Object::Neighbour(Neighbour { place, .. })
        | Object::Route(Route { place, .. }) => place,
        _ => &Place::Host,
    }
}

/// An errno as a failure: a create that finds its place taken is told by what.
fn failure(op: &Op, errno: Errno) -> Failure {
    match op {
        Op::Create(object) if errno.code == libc::EEXIST => Failure::Occupied(format!("another {object}")),
        _ => errno.into(),
    }
}

/// Creations that may have been done although they failed: where the machine is short of something, an answer
/// can be lost. They can be taken back at no risk: what was there before would have made them `Occupied`.
fn perhaps(step: &[Op], failure: &Failure) -> Vec<Op> {
    const SHORT: [i32; 7] =
        [libc::ENOMEM, libc::ENOBUFS, libc::EIO, libc::EAGAIN, libc::ETIMEDOUT, libc::EMFILE, libc::ENFILE];
    match failure {
        Failure::Errno(errno) if SHORT.contains(&errno.code) => {
            step.iter().filter(|op| matches!(op, Op::Create(_))).cloned().collect()
        }
        Failure::Errno(_) | Failure::Occupied(_) => Vec::new(),
    }
}

/// A change made of a removal that was done and a creation that was refused.
fn half_done(op: &Op, results: &[&Result<(), Errno>]) -> Option<Op> {
    match (op, results) {
        (Op::Change { from, .. }, [Ok(()), Err(_)]) => Some(Op::Remove(from.clone())),
        _ => None,
    }
}

fn inverse(op: Op) -> Op {
    match op {
        Op::Create(object) => Op::Remove(object),
        Op::Remove(object) => Op::Create(object),
        Op::Change { from, to } => Op::Change { from: to, to: from },
    }
}

/// What is gone already counts as removed.
fn counts_as_done(op: &Op, errno: &Errno) -> bool {
    let gone = [libc::ENOENT, libc::ENODEV, libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENETDOWN];
    matches!(op, Op::Remove(_)) && gone.contains(&errno.code)
}

pub(crate) fn all(results: Vec<Result<(), Errno>>) -> Result<(), Errno> {
    results.into_iter().collect()
}

/// The capability an op takes.
fn need(op: &Op) -> &'static str {
    match op.object() {
        Object::Sandbox(_) => "CAP_SYS_ADMIN",
        _ => "CAP_NET_ADMIN",
    }
}

fn conflict(op: &Op, what: String) -> Conflict {
    let wanted = op.object().clone();
    Conflict { show: show(&wanted), wanted: Box::new(wanted), what }
}

/// The command that shows what is under an object's key.
fn show(object: &Object) -> String {
    let ip = |place: &Place| match place {
        Place::Host => "ip".to_owned(),
        Place::Sandbox(name) => format!("ip -n {name}"),
    };
    match object {
        Object::Sandbox(o) => format!("ip netns pids {}", o.name),
        Object::Sysctl(o) => format!("sysctl {}", o.path.replace('/', ".")),
        Object::Ruleset(_) => "nft list ruleset".to_owned(),
        Object::Element(o) => format!("nft list map {} {}", o.table, o.set),
        Object::Bridge(o) => format!("ip -d link show {}", o.name),
        Object::Veth(o) => format!("ip -d link show {}", o.host),
        Object::Child(o) => format!("{} -d link show {}", ip(&o.place), o.name),
        Object::Neighbour(o) => format!("{} neigh show dev {}", ip(&o.place), o.link),
        Object::Address(o) => format!("{} addr show {}", ip(&o.place), o.link),
        Object::Route(o) => format!("{} route show {}", ip(&o.place), o.destination),
    }
}
