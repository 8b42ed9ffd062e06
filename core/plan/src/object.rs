//! What can exist in the kernel because of us.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use model::{Addr, ContainerId, Invalid, IpvlanMode, LinkName, MacAddr, MacvlanMode, Protocol, Subnet};
use serde::{Deserialize, Serialize};

/// The name of a sandbox's namespace file under `/run/netns`: `podwire-` and 12 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxName(String);

impl SandboxName {
    /// The sandbox of the container that owns it.
    pub fn of(container: &ContainerId) -> Self {
        Self(format!("podwire-{}", container.short()))
    }

    /// The name as text; safe as one path component.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SandboxName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl FromStr for SandboxName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix("podwire-").unwrap_or_default();
        let ok = digits.len() == 12 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ok.then(|| Self(text.to_owned())).ok_or_else(|| Invalid(format!("invalid sandbox name {text:?}")))
    }
}

impl From<SandboxName> for String {
    fn from(name: SandboxName) -> Self {
        name.0
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// In which network namespace an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// The namespace podwire runs in.
    Host,
    /// A sandbox's own.
    Sandbox(SandboxName),
}

/// Whose an object is; written into the kernel wherever it has room for a text (a link's alias, a set
/// element's comment), so that what no record knows can still be told from other people's objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark(String);

impl Mark {
    /// `podwire:INSTANCE:OWNER`: the store's instance and a container's or network's short id.
    /// `instance` and `owner` are hexadecimal digits or plain words; at most 60 bytes together.
    pub fn new(instance: &str, owner: &str) -> Self {
        Self(format!("podwire:{instance}:{owner}"))
    }

    /// A mark read back from the kernel; `None` when the text is not one of podwire's.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let ours = parts.next() == Some("podwire") && parts.next().is_some() && parts.next().is_some();
        (ours && parts.next().is_none()).then(|| Self(text.to_owned()))
    }

    /// The mark as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which store made it.
    pub fn instance(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// The owner's short id.
    pub fn owner(&self) -> &str {
        self.0.split(':').nth(2).unwrap_or_default()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One thing in the kernel that we can create.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Object {
    /// A network namespace with its file, `lo` up.
    Sandbox(Sandbox),
    /// A kernel setting under `/proc/sys`.
    Sysctl(Sysctl),
    /// The constant part of the firewall: tables, chains, rules, empty sets.
    Ruleset(Ruleset),
    /// One element of one of its sets or maps.
    Element(Element),
    /// A bridge in the host place, up.
    Bridge(Bridge),
    /// A veth pair: one end a member of a bridge, the other in a sandbox; both up.
    Veth(Veth),
    /// A macvlan or ipvlan link on a link of the host, up.
    Child(Child),
    /// An address on a link.
    Address(Address),
    /// A neighbour's MAC address that is known and never asked for.
    Neighbour(Neighbour),
    /// A route.
    Route(Route),
}

/// A network namespace with its file, `lo` up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sandbox {
    /// The file under `/run/netns`.
    pub name: SandboxName,
}

/// A kernel setting. The path is relative to `/proc/sys` with `/` between parts. Compared before it is
/// written, so that a read-only /proc with right values is no error. Never taken back on removal: others
/// may have come to rely on it, and those of a link or sandbox vanish with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sysctl {
    /// Where.
    pub place: Place,
    /// For example `net/ipv4/conf/podman0/route_localnet`.
    pub path: String,
    /// The text to be there, without line end.
    pub value: String,
}

/// The constant part of the firewall.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ruleset {
    /// Digest of the rules; another version is replaced.
    pub version: String,
}

/// Which of our two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    /// `inet podwire`
    Inet,
    /// `bridge podwire`
    Bridge,
}

/// One element of a set, or of a map when `data` is not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Element {
    /// Which table.
    pub table: Table,
    /// The set's or map's name.
    pub set: String,
    /// The concatenated key.
    pub key: Vec<Field>,
    /// The concatenated data of a map element; empty for a set.
    pub data: Vec<Field>,
    /// Whose it is; the element's comment.
    pub mark: Mark,
}

/// One part of a key or of data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Field {
    /// One address.
    Ip(IpAddr),
    /// All addresses of a prefix.
    Net(Subnet),
    /// A transport protocol.
    Protocol(Protocol),
    /// One port.
    Port(u16),
    /// Ports first to last, both included.
    Ports(u16, u16),
    /// A link's name.
    Link(LinkName),
    /// A MAC address.
    Mac(MacAddr),
}

/// A bridge in the host place, up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bridge {
    /// Its link name.
    pub name: LinkName,
    /// Fixed, for else the kernel changes it with every member (br_stp_recalculate_bridge_id).
    pub mac: MacAddr,
    /// MTU in bytes.
    pub mtu: u32,
    /// Keeps VLANs apart (IFLA_BR_VLAN_FILTERING); off is not observed where it is not wished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filters_vlans: bool,
    /// The VRF it is a member of; `None` is not observed where none is wished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<LinkName>,
    /// Whose it is; the link's alias.
    pub mark: Mark,
}

/// A veth pair: one end a member of a bridge with hairpin mode on, the other in a sandbox; both up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Veth {
    /// The end in the host place.
    pub host: LinkName,
    /// The bridge it is a member of.
    pub bridge: LinkName,
    /// The sandbox of the other end.
    pub sandbox: SandboxName,
    /// The name of the other end.
    pub name: LinkName,
    /// The MAC address of the other end.
    pub mac: MacAddr,
    /// MTU in bytes of both ends.
    pub mtu: u32,
    /// The VLAN on the bridge that the sandbox's untagged frames are in, and the only one; `None` is not observed
    /// where none is wished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Exchanges no frames with other members of the bridge that are so too (IFLA_BRPORT_ISOLATED).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Whose it is; the host end's alias.
    pub mark: Mark,
}

/// A macvlan or ipvlan link whose parent is in the host place, up. Nothing of it is in the host place, unless it is
/// there itself; it dies with its parent, whoever removes that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Child {
    /// Where it is.
    pub place: Place,
    /// Its name there.
    pub name: LinkName,
    /// Its name before it is finished: kernels before 6.15 make it in the parent's place, where the other one may be
    /// taken (rtnl_newlink_create in net/core/rtnetlink.c).
    pub unfinished: LinkName,
    /// The link below it.
    pub parent: LinkName,
    /// Which of the two, and how.
    pub kind: ChildKind,
    /// MTU in bytes; not more than the parent's.
    pub mtu: u32,
    /// Whose it is; the link's alias.
    pub mark: Mark,
}

/// Macvlan or ipvlan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChildKind {
    /// With a MAC address of its own.
    Macvlan {
        /// Who exchanges frames with whom.
        mode: MacvlanMode,
        /// `None`: the parent's, which is not observed; so it is in mode passthru.
        mac: Option<MacAddr>,
        /// `bclim`; `None` is the kernel's, and not observed.
        bclim: Option<i32>,
    },
    /// With its parent's MAC address.
    Ipvlan {
        /// How addresses are shared.
        mode: IpvlanMode,
    },
}

impl fmt::Display for ChildKind {
    /// In the words of `ip link`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Macvlan { mode, mac, bclim } => {
                write!(f, "macvlan mode {}", mode.word())?;
                bclim.iter().try_for_each(|bclim| write!(f, " bclim {bclim}"))?;
                mac.iter().try_for_each(|mac| write!(f, " address {mac}"))
            }
            Self::Ipvlan { mode } => write!(f, "ipvlan mode {}", mode.word()),
        }
    }
}

/// A neighbour's MAC address that is known and never asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Neighbour {
    /// Where it is known.
    pub place: Place,
    /// The link it is reached by.
    pub link: LinkName,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: MacAddr,
}

/// An address on a link. IPv6 addresses are added without duplicate address detection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Where the link is.
    pub place: Place,
    /// The link.
    pub link: LinkName,
    /// The address.
    pub addr: Addr,
}

/// A route in the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Where it is.
    pub place: Place,
    /// Where to.
    pub destination: Subnet,
    /// How.
    pub kind: RouteKind,
    /// Preference, lower wins.
    pub metric: u32,
}

/// How a route forwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RouteKind {
    /// By a next hop, which must be on a connected subnet.
    Via(IpAddr),
    /// By a next hop on this link, where other links may have the same subnet.
    ViaOn(IpAddr, LinkName),
    /// To neighbours on this link.
    On(LinkName),
    /// Not at all, without a word.
    Blackhole,
    /// Not at all: host unreachable.
    Unreachable,
    /// Not at all: administratively prohibited.
    Prohibit,
}

impl RouteKind {
    /// The next hop, if there is one.
    pub fn gateway(&self) -> Option<IpAddr> {
        match self {
            Self::Via(gateway) | Self::ViaOn(gateway, _) => Some(*gateway),
            Self::On(_) | Self::Blackhole | Self::Unreachable | Self::Prohibit => None,
        }
    }

    /// The link, if it is given by its name.
    pub fn link(&self) -> Option<&LinkName> {
        match self {
            Self::On(link) | Self::ViaOn(_, link) => Some(link),
            Self::Via(_) | Self::Blackhole | Self::Unreachable | Self::Prohibit => None,
        }
    }
}

impl fmt::Display for RouteKind {
    /// In the words of `ip route`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Via(gateway) => write!(f, "via {gateway}"),
            Self::ViaOn(gateway, link) => write!(f, "via {gateway} dev {link}"),
            Self::On(link) => write!(f, "dev {link}"),
            Self::Blackhole => f.write_str("blackhole"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Prohibit => f.write_str("prohibit"),
        }
    }
}

/// What makes two objects the same object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// A namespace file.
    Sandbox(SandboxName),
    /// A setting.
    Sysctl(Place, String),
    /// Our tables.
    Ruleset,
    /// An element, by its key.
    Element(Table, String, Vec<Field>),
    /// A link, by the name of its end in the host place.
    Link(LinkName),
    /// A link that has no end in the host place, by its name in a sandbox.
    Inside(SandboxName, LinkName),
    /// An address on a link.
    Address(Place, LinkName, IpAddr),
    /// A neighbour on a link.
    Neighbour(Place, LinkName, IpAddr),
    /// A route, by what the kernel tells routes apart by.
    Route(Place, Subnet, u32),
}

impl Object {
    /// What makes it the same object as another.
    pub fn key(&self) -> Key {
        match self {
            Self::Sandbox(o) => Key::Sandbox(o.name.clone()),
            Self::Sysctl(o) => Key::Sysctl(o.place.clone(), o.path.clone()),
            Self::Ruleset(_) => Key::Ruleset,
            Self::Element(o) => Key::Element(o.table, o.set.clone(), o.key.clone()),
            Self::Bridge(o) => Key::Link(o.name.clone()),
            Self::Veth(o) => Key::Link(o.host.clone()),
            Self::Child(o) => match &o.place {
                Place::Host => Key::Link(o.name.clone()),
                Place::Sandbox(sandbox) => Key::Inside(sandbox.clone(), o.name.clone()),
            },
            Self::Neighbour(o) => Key::Neighbour(o.place.clone(), o.link.clone(), o.ip),
            Self::Address(o) => Key::Address(o.place.clone(), o.link.clone(), o.addr.ip),
            Self::Route(o) => Key::Route(o.place.clone(), o.destination, o.metric),
        }
    }

    /// True for what goes into one nf_tables transaction.
    pub fn is_firewall(&self) -> bool {
        matches!(self, Self::Ruleset(_) | Self::Element(_))
    }

    /// Its mark, where the kernel has room for one.
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Element(o) => Some(&o.mark),
            Self::Bridge(o) => Some(&o.mark),
            Self::Veth(o) => Some(&o.mark),
            Self::Child(o) => Some(&o.mark),
            Self::Sandbox(_) | Self::Sysctl(_) | Self::Ruleset(_) => None,
            Self::Address(_) | Self::Neighbour(_) | Self::Route(_) => None,
        }
    }
}

impl fmt::Display for Place {
    /// Nothing for the host, `[NAME] ` for a sandbox: the prefix of an op's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => Ok(()),
            Self::Sandbox(name) => write!(f, "[{name}] "),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet podwire",
            Self::Bridge => "bridge podwire",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Net(subnet) => subnet.fmt(f),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Ports(first, last) => write!(f, "{first}-{last}"),
            Self::Link(name) => write!(f, "{:?}", name.as_str()),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}

fn concatenation(f: &mut fmt::Formatter<'_>, fields: &[Field]) -> fmt::Result {
    for (n, field) in fields.iter().enumerate() {
        if n > 0 {
            f.write_str(" . ")?;
        }
        fmt::Display::fmt(field, f)?;
    }
    Ok(())
}

impl fmt::Display for Object {
    /// In the words of `ip` and `nft`, one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sandbox(o) => write!(f, "netns {}", o.name),
            Self::Sysctl(o) => write!(f, "{}sysctl {}={}", o.place, o.path.replace('/', "."), o.value),
            Self::Ruleset(o) => write!(f, "tables inet podwire, bridge podwire (rules {})", o.version),
            Self::Element(o) => {
                write!(f, "element {} {} {{ ", o.table, o.set)?;
                concatenation(f, &o.key)?;
                if !o.data.is_empty() {
                    f.write_str(" : ")?;
                    concatenation(f, &o.data)?;
                }
                f.write_str(" }")
            }
            Self::Bridge(o) => {
                write!(f, "link {} type bridge address {} mtu {}", o.name, o.mac, o.mtu)?;
                if o.filters_vlans {
                    f.write_str(" vlan_filtering 1")?;
                }
                o.vrf.iter().try_for_each(|vrf| write!(f, " master {vrf}"))
            }
            Self::Veth(o) => {
                write!(f, "link {} type veth master {}", o.host, o.bridge)?;
                o.vlan.iter().try_for_each(|vlan| write!(f, " vlan {vlan}"))?;
                if o.isolated {
                    f.write_str(" isolated on")?;
                }
                write!(f, " mtu {} peer [{}] {} address {}", o.mtu, o.sandbox, o.name, o.mac)
            }
            Self::Child(o) => write!(f, "{}link {} link {} type {} mtu {}", o.place, o.name, o.parent, o.kind, o.mtu),
            Self::Neighbour(o) => write!(f, "{}neigh {} lladdr {} dev {} nud permanent", o.place, o.ip, o.mac, o.link),
            Self::Address(o) => write!(f, "{}addr {} dev {}", o.place, o.addr, o.link),
            Self::Route(o) => {
                let destination =
                    if o.destination.is_default() { "default".to_owned() } else { o.destination.to_string() };
                match &o.kind {
                    RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {
                        write!(f, "{}route {} {destination} metric {}", o.place, o.kind, o.metric)
                    }
                    kind => write!(f, "{}route {destination} {kind} metric {}", o.place, o.metric),
                }
            }
        }
    }
}
