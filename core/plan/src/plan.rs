//! From three sets of objects to ordered ops.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::{LinkName, MacvlanMode};
use serde::{Deserialize, Serialize};

use crate::{Child, ChildKind, Key, Object, Place, SandboxName};

/// One step: create, change or remove one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Nothing with this key is there yet. Creating a [`crate::Sysctl`] is writing it.
    Create(Object),
    /// The same key with other properties.
    Change {
        /// As it is.
        from: Object,
        /// As it should be.
        to: Object,
    },
    /// It is there and ours. Never a [`crate::Sysctl`].
    Remove(Object),
}

impl Op {
    /// The object as it should be after the step, or the removed one.
    pub fn object(&self) -> &Object {
        match self {
            Self::Create(object) | Self::Change { to: object, .. } | Self::Remove(object) => object,
        }
    }

    /// True for what goes into one nf_tables transaction.
    pub fn is_firewall(&self) -> bool {
        self.object().is_firewall()
    }

    /// Another version of the rules: in one transaction, the elements that are there stay.
    fn changes_rules(&self) -> bool {
        matches!(self, Self::Change { to: Object::Ruleset(_), .. })
    }

    /// The step back. `None` for a written sysctl: it had no value before, because its link or sandbox was
    /// not there, so it vanishes with that.
    fn inverse(&self) -> Option<Self> {
        match self {
            Self::Create(Object::Sysctl(_)) => None,
            Self::Create(object) => Some(Self::Remove(object.clone())),
            Self::Change { from, to } => Some(Self::Change { from: to.clone(), to: from.clone() }),
            Self::Remove(object) => Some(Self::Create(object.clone())),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(object) => write!(f, "+ {object}"),
            Self::Change { from, to } => write!(f, "~ {from} -> {to}"),
            Self::Remove(object) => write!(f, "- {object}"),
        }
    }
}

/// Ops in order: the firewall's first, as one transaction; then what is removed, what lies inside before what
/// it lies in; then what is created or changed, the other way round. (An undo's order is the reverse.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// First to last.
    pub ops: Vec<Op>,
    /// What vanishes, without an op of its own, with a link, sandbox or ruleset that `ops` remove. An undo has
    /// to make it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<Object>,
}

impl Plan {
    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The ops in the portions that succeed or fail whole: a run of firewall ops is one nf_tables
    /// transaction, every other op is alone.
    pub fn steps(&self) -> impl Iterator<Item = &[Op]> {
        self.ops.chunk_by(|a, b| a.is_firewall() && b.is_firewall())
    }

    /// The plan that takes this one back.
    pub fn undo(&self) -> Self {
        self.undo_first(self.ops.len())
    }

    /// The plan that takes back the first `done` ops, the others not having been applied.
    pub fn undo_first(&self, done: usize) -> Self {
        let done = &self.ops[..done.min(self.ops.len())];
        let removed: BTreeSet<Key> = done.iter().filter_map(removed_object).map(Object::key).collect();
        let nesting = Nesting::of(done.iter().filter_map(removed_object).chain(&self.implied));
        let vanished = |firewall: bool| {
            let of_this = self.implied.iter().filter(move |o| o.is_firewall() == firewall);
            of_this.filter(|o| nesting.vanishes(o, &removed)).map(|o| Op::Create(o.clone())).collect::<Vec<_>>()
        };
        let back = |keep: fn(&Op) -> bool| done.iter().rev().filter(move |op| keep(op)).filter_map(Op::inverse);

        let mut ops: Vec<Op> = back(|op| !op.is_firewall() && !matches!(op, Op::Remove(_))).collect();
        let mut again: Vec<Op> = back(|op| !op.is_firewall() && matches!(op, Op::Remove(_))).collect();
        again.extend(vanished(false));
        again.sort_by_key(|op| rank(op.object()));
        ops.extend(again);
        // New rules take the elements that are there with them, so the old ones come back before elements change.
        ops.extend(back(Op::changes_rules).chain(back(|op| op.is_firewall() && !op.changes_rules())));
        ops.extend(vanished(true));
        Self { ops, implied: Vec::new() }
    }
}

impl fmt::Display for Plan {
    /// One op per line, as `--dry-run` shows it; what is implied is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

/// What the kernel has under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// An object as we could have made it. `ours`: it carries our mark, or lies in something that does.
    /// A veth whose host end has no master is shown as a member of itself, which no link can be.
    Object {
        /// As it is now.
        object: Object,
        /// Made by podwire, of any store.
        ours: bool,
    },
    /// Nothing with this key, but an element of podwire's whose interval includes its beginning: no place for both.
    Covered {
        /// That element.
        by: Object,
    },
    /// Something of another kind: for example a dummy link with our bridge's name.
    Other {
        /// What it is, in a few words: `link podman0 type dummy`.
        what: String,
    },
}

/// What is in the kernel, of the keys that were asked about.
pub type Observed = BTreeMap<Key, Seen>;

/// Somebody else's object is where ours should be. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is in the way of {wanted}; see: {show}")]
pub struct Conflict {
    /// What we want there.
    pub wanted: Box<Object>,
    /// What is there.
    pub what: String,
    /// The command that shows it.
    pub show: String,
}

/// The ops that lead from `observed` to `desired`, given what our own creates made (`recorded`).
///
/// Objects that are neither desired nor recorded are not touched. `observed` must have been asked about the
/// keys of both. Of two desired objects with one key the first counts. After the plan was applied nothing of
/// [`forgotten`] needs to be recorded any more.
pub fn plan(desired: &[Object], recorded: &[Object], observed: &Observed) -> Result<Plan, Conflict> {
    let mut known = BTreeSet::new();
    let desired: Vec<&Object> = desired.iter().filter(|o| known.insert(o.key())).collect();
    let records: BTreeMap<Key, &Object> = recorded.iter().map(|o| (o.key(), o)).collect();

    let leaving: Vec<&Object> = records
        .iter()
        .filter(|(key, _)| !known.contains(key))
        .filter_map(|(key, o)| leaves(o, observed.get(key)))
        .collect();
    let makes_place = |by: &Object| leaving.contains(&by);
    let verdicts = desired
        .iter()
        .map(|o| match observed.get(&o.key()) {
            Some(Seen::Covered { by }) if makes_place(by) => Ok((*o, Verdict::Create)),
            seen => judge(o, records.get(&o.key()).copied(), seen).map(|verdict| (*o, verdict)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let outgoing: Vec<&Object> = verdicts.iter().filter_map(|(_, v)| v.replaced()).chain(leaving).collect();

    let removed: BTreeSet<Key> = outgoing.iter().map(|o| o.key()).collect();
    let there: Vec<&Object> = observed.values().filter_map(seen_object).collect();
    let nesting = Nesting::of(there.iter().copied());
    let vanishes = |o: &Object| nesting.vanishes(o, &removed);

    let mut ops: Vec<Op> = outgoing.iter().filter(|o| !vanishes(o)).map(|o| Op::Remove((*o).clone())).collect();
    let switched = switched_forwarding(&verdicts);
    for (object, verdict) in &verdicts {
        ops.extend(match verdict {
            Verdict::Keep if !vanishes(object) && !undone_by(object, &switched) => None,
            Verdict::Change(from) if !vanishes(from) => {
                Some(Op::Change { from: (*from).clone(), to: (*object).clone() })
            }
            _ => Some(Op::Create((*object).clone())),
        });
    }
    let implied = there.into_iter().filter(|o| vanishes(o)).cloned().collect();
    Ok(Plan { ops: ordered(ops), implied })
}

/// The keys that need no record any more once the plan for these two sets was applied: removed, vanished with
/// what they lay in, gone before, or never removed (sysctls).
pub fn forgotten(desired: &[Object], recorded: &[Object]) -> Vec<Key> {
    let desired: BTreeSet<Key> = desired.iter().map(Object::key).collect();
    recorded.iter().map(Object::key).filter(|key| !desired.contains(key)).collect()
}

/// What becomes of one desired object.
enum Verdict<'a> {
    Create,
    Keep,
    /// Changed in place from this.
    Change(&'a Object),
    /// This is removed, the desired one created.
    Replace(&'a Object),
}

impl<'a> Verdict<'a> {
    fn replaced(&self) -> Option<&'a Object> {
        match self {
            Self::Replace(object) => Some(object),
            Self::Create | Self::Keep | Self::Change(_) => None,
        }
    }
}

fn judge<'a>(want: &Object, record: Option<&Object>, seen: Option<&'a Seen>) -> Result<Verdict<'a>, Conflict> {
    let (object, ours) = match seen {
        None => return Ok(Verdict::Create),
        Some(Seen::Other { what }) => return Err(conflict(want, what.clone())),
        Some(Seen::Covered { by }) => return Err(conflict(want, by.to_string())),
        Some(Seen::Object { object, ours }) => (object, *ours),
    };
    let may_change = match (want, want.mark()) {
        (Object::Sysctl(_) | Object::Ruleset(_), _) => true,
        (_, Some(_)) => ours && same_store(want, object),
        (_, None) => ours || record.is_some(),
    };
    match (object == want, may_change) {
        // What has no mark may have been there before us: an equal address or sandbox serves as well.
        (true, _) if want.mark().is_none() => Ok(Verdict::Keep),
        (_, false) => Err(conflict(want, describe(object, ours))),
        (true, true) => Ok(Verdict::Keep),
        (false, true) if changes_in_place(object, want) => Ok(Verdict::Change(object)),
        (false, true) => Ok(Verdict::Replace(object)),
    }
}

/// What is there under a recorded key that is desired no more, if it is to be removed.
fn leaves<'a>(record: &Object, seen: Option<&'a Seen>) -> Option<&'a Object> {
    let Some(Seen::Object { object, ours }) = seen else { return None };
    let may_remove = match record {
        Object::Sysctl(_) => false,
        _ if record.mark().is_some() => *ours && same_store(record, object),
        _ => true,
    };
    may_remove.then_some(object)
}

/// Two stores (`--root`) on one host each keep to their own objects.
fn same_store(a: &Object, b: &Object) -> bool {
    let store = |o: &Object| o.mark().map(|mark| mark.instance().to_owned());
    store(a) == store(b)
}

/// Can the kernel lead `from` to `to` without its ever being absent? (An element is removed and added in one
/// transaction.)
fn changes_in_place(from: &Object, to: &Object) -> bool {
    match (from, to) {
        (Object::Sysctl(_), Object::Sysctl(_))
        | (Object::Ruleset(_), Object::Ruleset(_))
        | (Object::Element(_), Object::Element(_))
        | (Object::Bridge(_), Object::Bridge(_)) => true,
        (Object::Veth(from), Object::Veth(to)) => {
            (&from.sandbox, &from.name, from.mac) == (&to.sandbox, &to.name, to.mac)
        }
        // One of another parent or kind is another link.
        (Object::Child(from), Object::Child(to)) => from.parent == to.parent && child_changes(&from.kind, &to.kind),
        (Object::Neighbour(_), Object::Neighbour(_)) => true,
        _ => false,
    }
}

/// The kernel refuses to change to mode passthru and back (macvlan_changelink in drivers/net/macvlan.c).
fn child_changes(from: &ChildKind, to: &ChildKind) -> bool {
    let passes = |mode: &MacvlanMode| *mode == MacvlanMode::Passthru;
    match (from, to) {
        (ChildKind::Macvlan { mode: from, .. }, ChildKind::Macvlan { mode: to, .. }) => passes(from) == passes(to),
        (ChildKind::Ipvlan { .. }, ChildKind::Ipvlan { .. }) => true,
        _ => false,
    }
}

fn conflict(wanted: &Object, what: String) -> Conflict {
    let place = |place: &Place| match place {
        Place::Host => "ip".to_owned(),
        Place::Sandbox(name) => format!("ip -n {name}"),
    };
    let show = match wanted {
        Object::Sandbox(_) => "ip netns list".to_owned(),
        Object::Sysctl(o) => format!("sysctl {}", o.path),
        Object::Ruleset(_) => "nft list tables".to_owned(),
        Object::Element(o) => {
            let kind = if o.data.is_empty() { "set" } else { "map" };
            format!("nft list {kind} {} {}", o.table, o.set)
        }
        Object::Bridge(o) => format!("ip -d link show {}", o.name),
        Object::Veth(o) => format!("ip -d link show {}", o.host),
        Object::Child(o) => format!("{} -d link show {}", place(&o.place), o.name),
        Object::Address(o) => format!("{} addr show dev {}", place(&o.place), o.link),
        Object::Neighbour(o) => format!("{} neigh show dev {}", place(&o.place), o.link),
        Object::Route(o) => format!("{} route show", place(&o.place)),
    };
    Conflict { wanted: Box::new(wanted.clone()), what, show }
}

fn describe(object: &Object, ours: bool) -> String {
    match object.mark() {
        Some(mark) if ours => format!("{object} ({mark}, of another podwire store)"),
        _ => object.to_string(),
    }
}

fn seen_object(seen: &Seen) -> Option<&Object> {
    match seen {
        Seen::Object { object, .. } => Some(object),
        Seen::Covered { .. } | Seen::Other { .. } => None,
    }
}

fn removed_object(op: &Op) -> Option<&Object> {
    match op {
        Op::Remove(object) => Some(object),
        Op::Create(_) | Op::Change { .. } => None,
    }
}

/// What lies in what: the kernel removes an object together with its link, sandbox or table.
#[derive(Default)]
struct Nesting<'a> {
    /// Of links in sandboxes.
    host_ends: BTreeMap<(&'a SandboxName, &'a LinkName), &'a LinkName>,
    addresses: BTreeMap<&'a Place, Vec<&'a crate::Address>>,
}

impl<'a> Nesting<'a> {
    fn of(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut nesting = Self::default();
        for object in objects {
            match object {
                Object::Veth(veth) => {
                    nesting.host_ends.insert((&veth.sandbox, &veth.name), &veth.host);
                }
                Object::Address(address) => nesting.addresses.entry(&address.place).or_default().push(address),
                _ => {}
            }
        }
        nesting
    }

    /// Does `object` vanish when the objects with the `removed` keys are removed?
    fn vanishes(&self, object: &Object, removed: &BTreeSet<Key>) -> bool {
        match object {
            // A veth would go with its sandbox, but some time after the last process (cleanup_net in
            // net/core/net_namespace.c is a work item): until then its name is taken. So it has its own op.
            // A child's MAC address and mode would keep its parent from having others like it for as long.
            Object::Sandbox(_) | Object::Ruleset(_) | Object::Bridge(_) | Object::Veth(_) | Object::Child(_) => false,
            Object::Element(_) => removed.contains(&Key::Ruleset),
            Object::Sysctl(sysctl) => {
                self.place_vanishes(&sysctl.place, removed)
                    || sysctl_link(&sysctl.path).is_some_and(|link| self.link_vanishes(&sysctl.place, &link, removed))
            }
            Object::Address(address) => {
                self.place_vanishes(&address.place, removed)
                    || self.link_vanishes(&address.place, &address.link, removed)
            }
            Object::Neighbour(neighbour) => {
                self.place_vanishes(&neighbour.place, removed)
                    || self.link_vanishes(&neighbour.place, &neighbour.link, removed)
            }
            Object::Route(route) => {
                if let Some(link) = route.kind.link() {
                    return self.place_vanishes(&route.place, removed)
                        || self.link_vanishes(&route.place, link, removed);
                }
                let on = self.addresses.get(&route.place).into_iter().flatten();
                let reaches =
                    |subnet: model::Subnet| route.kind.gateway().is_some_and(|gateway| subnet.contains(gateway));
                self.place_vanishes(&route.place, removed)
                    || on
                        .filter(|address| reaches(address.addr.subnet()))
                        .any(|address| self.link_vanishes(&route.place, &address.link, removed))
            }
        }
    }

    fn place_vanishes(&self, place: &Place, removed: &BTreeSet<Key>) -> bool {
        match place {
            Place::Host => false,
            Place::Sandbox(name) => removed.contains(&Key::Sandbox(name.clone())),
        }
    }

    fn link_vanishes(&self, place: &Place, link: &LinkName, removed: &BTreeSet<Key>) -> bool {
        let key = match place {
            Place::Host => Key::Link(link.clone()),
            Place::Sandbox(sandbox) => match self.host_ends.get(&(sandbox, link)) {
                Some(end) => Key::Link((*end).clone()),
                None => Key::Inside(sandbox.clone(), link.clone()),
            },
        };
        removed.contains(&key)
    }
}

/// The link whose setting it is: `net/ipv4/conf/podman0/rp_filter` → `podman0`.
pub(crate) fn sysctl_link(path: &str) -> Option<LinkName> {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["net", _, "conf" | "neigh", "all" | "default", _] => None,
        ["net", _, "conf" | "neigh", link, _] => link.parse().ok(),
        _ => None,
    }
}

/// The families whose forwarding is switched for the whole host. The kernel then writes every link's own
/// switch too (inet_forward_change in net/ipv4/devinet.c, addrconf_fixup_forwarding in net/ipv6/addrconf.c).
fn switched_forwarding(verdicts: &[(&Object, Verdict<'_>)]) -> Vec<&'static str> {
    let switched = |path: &str| {
        verdicts.iter().any(|(object, verdict)| match object {
            Object::Sysctl(sysctl) => sysctl.path == path && matches!(verdict, Verdict::Change(_)),
            _ => false,
        })
    };
    let switches = [("net/ipv4/ip_forward", "net/ipv4/conf/"), ("net/ipv6/conf/all/forwarding", "net/ipv6/conf/")];
    switches.into_iter().filter(|(path, _)| switched(path)).map(|(_, links)| links).collect()
}

/// Is it a link's own forwarding, equal now but overwritten by the host's switch?
fn undone_by(object: &Object, switched: &[&str]) -> bool {
    match object {
        Object::Sysctl(sysctl) => {
            sysctl.place == Place::Host
                && sysctl.path.ends_with("/forwarding")
                && sysctl_link(&sysctl.path).is_some()
                && switched.iter().any(|links| sysctl.path.starts_with(links))
        }
        _ => false,
    }
}

/// Creation order. What an object lies in, or needs, has a lower rank.
fn rank(object: &Object) -> u8 {
    match object {
        Object::Ruleset(_) => 0,
        Object::Element(_) => 1,
        Object::Sysctl(o) if o.place == Place::Host && sysctl_link(&o.path).is_none() => 2,
        // Before the sandbox, so that it goes last: nobody needs to wait for that (host::Host::begin).
        Object::Bridge(_) | Object::Child(Child { place: Place::Host, .. }) => 3,
        Object::Sandbox(_) => 4,
        // A sandbox's defaults are what its links start with, so they come before its links.
        Object::Sysctl(o) if sysctl_link(&o.path).is_none() => 5,
        Object::Veth(_) | Object::Child(_) => 6,
        Object::Sysctl(_) => 7,
        Object::Address(_) => 8,
        Object::Neighbour(_) => 9,
        Object::Route(_) => 10,
    }
}

/// Into the order that [`Plan`] promises; what has one rank keeps its order.
fn ordered(mut ops: Vec<Op>) -> Vec<Op> {
    ops.sort_by_key(|op| {
        let rank = rank(op.object());
        match (op.is_firewall(), op) {
            (true, Op::Change { to: Object::Ruleset(_), .. }) => (0, 0),
            (true, Op::Remove(Object::Element(_))) => (1, 0),
            (true, _) => (1, rank + 1),
            (false, Op::Remove(_)) => (2, u8::MAX - rank),
            (false, Op::Create(_) | Op::Change { .. }) => (3, rank),
        }
    });
    ops
}
