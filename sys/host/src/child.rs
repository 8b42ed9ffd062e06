//! Macvlan and ipvlan links: what can be their parent, how they are made, what is seen of them.
//!
//! ```text
//!   sandbox: eth0 ───┐ one message makes it inside, down, under a name that nobody has;
//!   sandbox: eth0 ───┤ a second one gives it its name, its mark, and turns it up
//!   host: pwh… ──────┴─ eth0, the parent
//! ```
//!
//! One that was not finished is found by its first name, and seen with an MTU of 0.

use std::os::fd::AsFd;

use model::{IpvlanMode, LinkName, MacAddr, MacvlanMode};
use netlink::Errno;
use netlink::rtnetlink::{self, LOOPBACK, Link};
use plan::{Child, ChildKind, Mark, Object, Place, Seen};

use crate::apply::{Failure, all, no_such};
use crate::observe::{View, has_mark, is_ours, mark_of, other, other_link};
use crate::{Host, HostError, LINK_GROUP};

/// A link of the host that macvlan or ipvlan links can be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its MTU in bytes, which those on it can have at most.
    pub mtu: u32,
    /// Its MAC address.
    pub mac: MacAddr,
}

impl Host {
    /// The link of this name as a parent; or in a sentence why it can be none.
    pub fn parent(&mut self, name: &LinkName) -> Result<Result<Parent, String>, HostError> {
        let fit = self.fit_parent(name).map_err(|cause| HostError::io(format_args!("link {name}"), cause))?;
        Ok(fit.and_then(|link| {
            let mac = link.mac.and_then(|mac| MacAddr::new(mac).ok());
            mac.map(|mac| Parent { mtu: link.mtu, mac }).ok_or_else(|| no_ethernet(name))
        }))
    }

    fn fit_parent(&mut self, name: &LinkName) -> std::io::Result<Result<Link, String>> {
        let Some(link) = self.here.link(name.as_str())? else {
            return Ok(Err(format!("parent interface {name} does not exist")));
        };
        if let Some(master) = link.master.map(|index| self.here.link_at(index)).transpose()?.flatten() {
            // A VRF has members too, and leaves their frames to them.
            if master.kind != "vrf" {
                let text = format!("link {name} can be no parent, for it is a member of {}", master.name);
                return Ok(Err(format!("{text}: use {} instead", master.name)));
            }
        }
        Ok(match link {
            link if link.flags & LOOPBACK != 0 || link.mac.is_none() => Err(no_ethernet(name)),
            link if is_ours(&link) => Err(format!("link {name} can be no parent, for podwire made it")),
            link if !link.is_up() => {
                Err(format!("parent interface {name} is down; to turn it on: ip link set {name} up"))
            }
            link => Ok(link),
        })
    }

    pub(crate) fn create_child(&mut self, wanted: &Child) -> Result<(), Failure> {
        let parent = self.fit_parent(&wanted.parent)?.map_err(|text| no_such(libc::ENODEV, text))?;
        if wanted.mtu > parent.mtu {
            let text = format!("mtu {} is more than parent interface {} has: {}", wanted.mtu, parent.name, parent.mtu);
            return Err(no_such(libc::EINVAL, text));
        }
        if let Some(link) = self.needed_stack(&wanted.place)?.link(wanted.name.as_str())? {
            return Err(Failure::Occupied(other_link(&link, &wanted.name)));
        }
        let create = {
            let stack = self.needed_stack(&wanted.place)?;
            let netns = (wanted.place != Place::Host).then(|| stack.namespace.as_fd());
            let (name, kind) = (wanted.unfinished.as_str(), kind_of(&wanted.kind));
            rtnetlink::create_child(name, parent.index, LINK_GROUP, wanted.mtu, kind, netns)
        };
        all(self.here.batch(&[create])?).map_err(|errno| refused(errno, wanted))?;
        self.finish_child(wanted).map_err(|failure| {
            let errno = failure.into_errno();
            match self.remove_child(wanted) {
                Ok(()) => refused(errno, wanted),
                Err(_) => Errno { text: format!("{errno}; link {} remains", wanted.name), ..errno }.into(),
            }
        })
    }

    fn finish_child(&mut self, child: &Child) -> Result<(), Failure> {
        if child.place == Place::Host {
            self.quieten(&child.name)?;
        }
        let link = self.child_link(child)?.ok_or(Errno::new(libc::ENODEV))?;
        let kind = kind_of(&child.kind);
        let finish = rtnetlink::finish_child(link.index, child.name.as_str(), child.mtu, child.mark.as_str(), kind);
        let stack = self.needed_stack(&child.place)?;
        all(stack.batch(&[finish])?)?;
        // Being asked about makes the kernel notice its carrier: see `Host::awake`.
        stack.link_at(link.index)?;
        Ok(())
    }

    /// What a link of the host's own must not do from its first moment: answer the LAN for the host's addresses, and
    /// believe its routers a second time. Nor does it wait: before its link-local address has passed duplicate address
    /// detection, the host asks no neighbours over IPv6.
    fn quieten(&mut self, name: &LinkName) -> Result<(), Failure> {
        self.prepare(&format!("net/ipv4/conf/{name}/arp_filter"), "1")?;
        self.prepare(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
        self.prepare(&format!("net/ipv6/conf/{name}/accept_dad"), "0")
    }

    /// Sets what is there and otherwise.
    pub(crate) fn prepare(&mut self, setting: &str, wanted: &str) -> Result<(), Failure> {
        if self.here.sysctl(setting)?.is_some_and(|value| value != wanted) {
            self.here.write_sysctl(setting, wanted)?;
        }
        Ok(())
    }

    pub(crate) fn change_child(&mut self, to: &Child) -> Result<(), Failure> {
        // 0 stands for unfinished, to which there is no way back.
        if to.mtu == 0 { Ok(()) } else { self.finish_child(to).map_err(|failure| refused(failure.into_errno(), to)) }
    }

    /// Not there is as good as removed.
    pub(crate) fn remove_child(&mut self, gone: &Child) -> Result<(), Failure> {
        let Some(link) = self.child_link(gone)?.filter(is_ours) else { return Ok(()) };
        match self.needed_stack(&gone.place)?.remove_link(link.index)? {
            Err(errno) if errno.code == libc::ENODEV => Ok(()),
            result => Ok(result?),
        }
    }

    /// The link, by its name or by that which it had before it was finished.
    fn child_link(&mut self, child: &Child) -> Result<Option<Link>, Failure> {
        let Some(stack) = self.stack(&child.place)? else { return Ok(None) };
        match stack.link(child.name.as_str())? {
            Some(link) => Ok(Some(link)),
            None => Ok(stack.link(child.unfinished.as_str())?),
        }
    }

    pub(crate) fn look_at_child(&mut self, view: &mut View, wanted: &Child) -> Result<Option<Seen>, HostError> {
        let what = |cause| HostError::io(&wanted.name, cause);
        let link = match view.link(self, &wanted.place, &wanted.name).map_err(what)? {
            Some(link) => link,
            None => match view.link(self, &wanted.place, &wanted.unfinished).map_err(what)? {
                Some(link) if is_ours(&link) => link,
                _ => return Ok(None),
            },
        };
        let below = view.link(self, &Place::Host, &wanted.parent).map_err(what)?;
        let child = child_of(&link, wanted, below.as_ref());
        Ok(Some(match child {
            Some(child) => Seen::Object { object: Object::Child(child), ours: is_ours(&link) },
            None => other(&link, &wanted.name),
        }))
    }
}

/// The link as a child; `None` when it is something else.
fn child_of(link: &Link, wanted: &Child, parent: Option<&Link>) -> Option<Child> {
    let kind = kind_seen(link, &wanted.kind)?;
    let finished = link.name == wanted.name.as_str() && link.is_up() && has_mark(link);
    // Of a parent that is macvlan itself, the kernel takes the link below (macvlan_common_newlink).
    let below = parent.and_then(|parent| if parent.kind == "macvlan" { parent.peer } else { Some(parent.index) });
    // One on another parent is shown on itself, which no link can be.
    let parent = if below.is_some() && below == link.peer { &wanted.parent } else { &wanted.name };
    Some(Child {
        parent: parent.clone(),
        kind,
        mtu: if finished { link.mtu } else { 0 },
        mark: mark_of(link, &wanted.mark),
        ..wanted.clone()
    })
}

fn kind_seen(link: &Link, wanted: &ChildKind) -> Option<ChildKind> {
    match (wanted, link.kind.as_str()) {
        (ChildKind::Macvlan { mac, bclim, .. }, "macvlan") => Some(ChildKind::Macvlan {
            mode: MODES.iter().find(|(_, number)| Some(*number) == link.macvlan_mode).map(|(mode, _)| *mode)?,
            mac: mac.and_then(|_| MacAddr::new(link.mac?).ok()),
            // A kernel that has none says none.
            bclim: bclim.map(|bclim| link.bclim.unwrap_or(bclim)),
        }),
        (ChildKind::Ipvlan { .. }, "ipvlan") => Some(ChildKind::Ipvlan {
            mode: IPVLAN_MODES.iter().find(|(_, number)| Some(*number) == link.ipvlan_mode).map(|(mode, _)| *mode)?,
        }),
        _ => None,
    }
}

/// A child in the host place by its mark.
pub(crate) fn marked_child(link: &Link, links: &[Link], name: LinkName, mark: Mark) -> Option<Child> {
    let mode = MODES.iter().find(|(_, number)| Some(*number) == link.macvlan_mode).map(|(mode, _)| *mode)?;
    let parent = links.iter().find(|parent| Some(parent.index) == link.peer)?.name.parse().ok()?;
    let kind = ChildKind::Macvlan { mode, mac: MacAddr::new(link.mac?).ok(), bclim: None };
    Some(Child { place: Place::Host, unfinished: name.clone(), name, parent, kind, mtu: link.mtu, mark })
}

/// MACVLAN_MODE_* (include/uapi/linux/if_link.h)
const MODES: [(MacvlanMode, u32); 5] = [
    (MacvlanMode::Private, 1),
    (MacvlanMode::Vepa, 2),
    (MacvlanMode::Bridge, 4),
    (MacvlanMode::Passthru, 8),
    (MacvlanMode::Source, 16),
];

/// IPVLAN_MODE_*
const IPVLAN_MODES: [(IpvlanMode, u16); 3] = [(IpvlanMode::L2, 0), (IpvlanMode::L3, 1), (IpvlanMode::L3s, 2)];

fn kind_of(kind: &ChildKind) -> rtnetlink::ChildKind {
    match kind {
        ChildKind::Macvlan { mode, mac, bclim } => rtnetlink::ChildKind::Macvlan {
            mode: MODES.iter().find(|(known, _)| known == mode).map_or(0, |(_, number)| *number),
            mac: mac.map(|mac| mac.octets()),
            bclim: *bclim,
        },
        ChildKind::Ipvlan { mode } => rtnetlink::ChildKind::Ipvlan {
            mode: IPVLAN_MODES.iter().find(|(known, _)| known == mode).map_or(0, |(_, number)| *number),
        },
    }
}

fn no_ethernet(name: &LinkName) -> String {
    format!("link {name} can be no parent, for it carries no Ethernet frames")
}

/// What the kernel says in one word, in a sentence.
fn refused(errno: Errno, wanted: &Child) -> Failure {
    let Child { parent, kind, .. } = wanted;
    let passes = matches!(kind, ChildKind::Macvlan { mode: MacvlanMode::Passthru, .. });
    let text = match (errno.code, kind) {
        (libc::EEXIST, _) => return Failure::Occupied(format!("another link {}", wanted.unfinished)),
        (libc::EINVAL, _) if passes => {
            format!("in mode passthru there is one link on a parent, and {parent} has others")
        }
        (libc::EINVAL, ChildKind::Macvlan { .. }) => {
            format!("parent interface {parent} takes no more macvlan links: one of mode passthru is on it")
        }
        (libc::EBUSY, _) => {
            format!(
                "parent interface {parent} takes no {} links: others on it, or its own use, exclude them",
                word(kind)
            )
        }
        (libc::EADDRINUSE, ChildKind::Macvlan { mac: Some(mac), .. }) => {
            format!("MAC address {mac} is that of another link on parent interface {parent}")
        }
        (libc::EOPNOTSUPP, _) => format!("this kernel has no {0} links; see: modprobe {0}", word(kind)),
        _ => return errno.into(),
    };
    Failure::Errno(Errno { text, ..errno })
}

fn word(kind: &ChildKind) -> &'static str {
    match kind {
        ChildKind::Macvlan { .. } => "macvlan",
        ChildKind::Ipvlan { .. } => "ipvlan",
    }
}

/// Has its MAC address changed?
pub(crate) fn moved(from: &Child, to: &Child) -> bool {
    match (&from.kind, &to.kind) {
        (ChildKind::Macvlan { mac: from, .. }, ChildKind::Macvlan { mac: to, .. }) => from != to,
        _ => false,
    }
}
