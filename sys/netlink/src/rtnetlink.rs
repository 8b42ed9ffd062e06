//! Links, addresses and routes: builders and readers, in the kernel's own terms.
//!
//! ```text
//!   ifinfomsg  family:u8 0:u8 type:u16 index:i32 flags:u32 change:u32         + IFLA_*
//!   ifaddrmsg  family:u8 prefix:u8 flags:u8 scope:u8 index:u32                + IFA_*
//!   rtmsg      family:u8 dst:u8 src:u8 tos:u8 table:u8 proto:u8 scope:u8 type:u8 flags:u32  + RTA_*
//! ```
//!
//! Every builder of a change asks for an ack. Numbers are from include/uapi/linux/{rtnetlink,if_link,if_addr}.h.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::message::u32_at;
use crate::{Message, Reply, flags};

/// Length of an `ifinfomsg`.
const IFINFOMSG: usize = 16;
/// Length of an `ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// Length of an `ndmsg`: family:u8 0:u8 0:u16 index:i32 state:u16 flags:u8 type:u8.
const NDMSG: usize = 12;
/// Length of an `rtmsg`.
const RTMSG: usize = 12;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// Known, and never asked for (include/uapi/linux/neighbour.h).
const NUD_PERMANENT: u16 = 0x80;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
/// Asks a table (include/uapi/linux/fib_rules.h).
const FR_ACT_TO_TBL: u8 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
/// Statistics are the larger half of a link's description.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_MULTI_BOOLOPT: u16 = 46;
/// A bit of struct br_boolopt_multi, which is values and a mask of those meant (if_bridge.h).
const BR_BOOLOPT_NO_LL_LEARN: u32 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
const IFLA_VRF_TABLE: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_MACVLAN_BC_CUTOFF: u16 = 9;
const IFLA_IPVLAN_MODE: u16 = 1;
/// In the `IFLA_AF_SPEC` of `AF_BRIDGE`: struct bridge_vlan_info, flags:u16 vid:u16 (if_bridge.h).
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 1 << 2;
/// Every VLAN of a bridge's ports, in a dump of `AF_BRIDGE`.
const RTEXT_FILTER_BRVLAN: u32 = 1 << 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IFLA_INET6_CONF: u16 = 2;
/// The place in IFLA_INET6_CONF, an array of numbers (include/uapi/linux/ipv6.h).
const DEVCONF_DISABLE_IPV6: usize = 26;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_HOST: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTN_PROHIBIT: u8 = 8;
/// `RTM_F_CLONED`: an entry of the route cache, not of the table.
const RTM_F_CLONED: u32 = 0x200;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;

/// `IFF_UP`
pub const UP: u32 = 1;
/// `IFF_LOOPBACK`
pub const LOOPBACK: u32 = 8;

/// Creates a bridge, down, with a fixed MAC address and in a link group, or refuses with `EEXIST`.
///
/// Not in this message: the MTU, which a bridge keeps when members come and go only if it is set on the
/// existing link (br_change_mtu in net/bridge/br_device.c); see [`finish_bridge`]. Without a forward delay
/// of 0 the first second's packets of a new member are lost.
pub fn create_bridge(name: &str, mac: [u8; 6], group: u32) -> Message {
    Message::new(RTM_NEWLINK, flags::ACK | flags::CREATE | flags::EXCL)
        .bytes(&ifinfomsg(0, 0, 0))
        .attr_str(IFLA_IFNAME, name)
        .attr(IFLA_ADDRESS, &mac)
        .attr_u32(IFLA_GROUP, group)
        .nest(IFLA_LINKINFO, bridge_kind)
}

/// Sets a bridge's MTU and alias and turns it up; refused with `EOPNOTSUPP` when the link of this name is of
/// another kind.
pub fn finish_bridge(name: &str, mtu: u32, alias: &str) -> Message {
    Message::new(RTM_NEWLINK, flags::ACK)
        .bytes(&ifinfomsg(0, UP, UP))
        .attr_str(IFLA_IFNAME, name)
        .attr_u32(IFLA_MTU, mtu)
        .attr(IFLA_IFALIAS, alias.as_bytes())
        .nest(IFLA_LINKINFO, bridge_kind)
}

fn bridge_kind(message: Message) -> Message {
    // The bridge would learn from LLDP and other link-local frames before any firewall rule sees them.
    let no_link_local_learn = [BR_BOOLOPT_NO_LL_LEARN.to_ne_bytes(); 2].concat();
    message.attr_str(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, |m| {
        m.attr_u32(IFLA_BR_FORWARD_DELAY, 0).attr(IFLA_BR_MULTI_BOOLOPT, &no_link_local_learn)
    })
}

/// Lets a bridge keep VLANs apart. A kernel that cannot refuses with `EOPNOTSUPP` or leaves it off; see
/// [`Link::filters_vlans`].
pub fn filter_vlans(name: &str) -> Message {
    Message::new(RTM_NEWLINK, flags::ACK)
        .bytes(&ifinfomsg(0, 0, 0))
        .attr_str(IFLA_IFNAME, name)
        .nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, |m| m.attr_u8(IFLA_BR_VLAN_FILTERING, 1))
        })
}

/// Puts a bridge member's untagged frames into this VLAN, which leaves the member untagged too.
pub fn add_port_vlan(index: u32, vlan: u16) -> Message {
    port_vlan_message(RTM_SETLINK, index, BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED, vlan)
}

/// Takes a bridge member out of this VLAN.
pub fn delete_port_vlan(index: u32, vlan: u16) -> Message {
    port_vlan_message(RTM_DELLINK, index, 0, vlan)
}

fn port_vlan_message(kind: u16, index: u32, flags: u16, vlan: u16) -> Message {
    let mut header = ifinfomsg(index, 0, 0);
    header[0] = AF_BRIDGE;
    let info = [flags.to_ne_bytes(), vlan.to_ne_bytes()].concat();
    Message::new(kind, flags::ACK).bytes(&header).nest(IFLA_AF_SPEC, |m| m.attr(IFLA_BRIDGE_VLAN_INFO, &info))
}

/// Asks for the VLANs of all bridges' members; for [`crate::Socket::dump`].
pub fn port_vlans() -> Message {
    let mut header = ifinfomsg(0, 0, 0);
    header[0] = AF_BRIDGE;
    Message::new(RTM_GETLINK, 0).bytes(&header).attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN)
}

/// The VLANs of a bridge's member as the kernel describes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortVlans {
    /// The member's index.
    pub index: u32,
    /// Each VLAN, and whether the member's untagged frames are in it and leave it untagged.
    pub vlans: Vec<(u16, bool)>,
}

impl PortVlans {
    /// Reads an `RTM_NEWLINK` of `AF_BRIDGE`; `None` for anything else.
    pub fn read(reply: &Reply) -> Option<Self> {
        if reply.kind != RTM_NEWLINK || reply.payload.first() != Some(&AF_BRIDGE) {
            return None;
        }
        let attrs = reply.attrs(IFINFOMSG);
        let both = BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED;
        let vlan = |info: &[u8]| match *info {
            [a, b, c, d] => Some((u16::from_ne_bytes([c, d]), u16::from_ne_bytes([a, b]) & both == both)),
            _ => None,
        };
        let infos = attrs.nested(IFLA_AF_SPEC).filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO);
        let vlans = infos.filter_map(|(_, info)| vlan(info)).collect();
        Some(Self { index: u32_at(&reply.payload, 4)?, vlans })
    }

    /// Is the member in this VLAN with its untagged frames, and in no other?
    pub fn is_only(&self, vlan: u16) -> bool {
        self.vlans == [(vlan, true)]
    }
}

/// The other end of a new veth pair, in the namespace `netns`.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// An open namespace file.
    pub netns: BorrowedFd<'a>,
    /// Its link name there.
    pub name: &'a str,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// Creates a veth pair, this end a member of the bridge with index `master`, or refuses with `EEXIST`.
///
/// Both ends are down: the kernel cannot open the peer before the pair is complete (veth_open gives
/// `ENOTCONN`), and this end is to have no IPv6 address of its own; see [`finish_member`] and [`set_up`].
pub fn create_veth(name: &str, master: u32, group: u32, mtu: u32, peer: &Peer<'_>) -> Message {
    Message::new(RTM_NEWLINK, flags::ACK | flags::CREATE | flags::EXCL)
        .bytes(&ifinfomsg(0, 0, 0))
        .attr_str(IFLA_IFNAME, name)
        .attr_u32(IFLA_MTU, mtu)
        .attr_u32(IFLA_MASTER, master)
        .attr_u32(IFLA_GROUP, group)
        .nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.bytes(&ifinfomsg(0, 0, 0))
                        .attr_str(IFLA_IFNAME, peer.name)
                        .attr_u32(IFLA_MTU, mtu)
                        .attr(IFLA_ADDRESS, &peer.mac)
                        .attr_u32(IFLA_NET_NS_FD, peer.netns.as_raw_fd().cast_unsigned())
                })
            })
        })
}

/// Sets a bridge member's alias and turns its hairpin mode on; `isolated` members exchange no frames (Linux 4.18).
/// Refused when it is a member of no bridge.
pub fn finish_member(name: &str, alias: &str, isolated: bool) -> Message {
    Message::new(RTM_NEWLINK, flags::ACK)
        .bytes(&ifinfomsg(0, 0, 0))
        .attr_str(IFLA_IFNAME, name)
        .attr(IFLA_IFALIAS, alias.as_bytes())
        .nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |m| {
                m.attr_u8(IFLA_BRPORT_MODE, 1).attr_u8(IFLA_BRPORT_ISOLATED, u8::from(isolated))
            })
        })
}

/// A macvlan or ipvlan link: of which kind, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// With a MAC address of its own.
    Macvlan {
        /// `MACVLAN_MODE_*`
        mode: u32,
        /// Its MAC address; the kernel's choice when absent.
        mac: Option<[u8; 6]>,
        /// `IFLA_MACVLAN_BC_CUTOFF`; a kernel before 6.3 passes it over.
        bclim: Option<i32>,
    },
    /// With its parent's MAC address.
    Ipvlan {
        /// `IPVLAN_MODE_*`
        mode: u16,
    },
}

impl ChildKind {
    fn mac(&self) -> Option<[u8; 6]> {
        match self {
            Self::Macvlan { mac, .. } => *mac,
            Self::Ipvlan { .. } => None,
        }
    }

    fn describe(self, message: Message) -> Message {
        match self {
            Self::Macvlan { mode, bclim, .. } => {
                message.attr_str(IFLA_INFO_KIND, "macvlan").nest(IFLA_INFO_DATA, |m| {
                    let m = m.attr_u32(IFLA_MACVLAN_MODE, mode);
                    bclim.map_or(m.clone(), |bclim| m.attr_u32(IFLA_MACVLAN_BC_CUTOFF, bclim.cast_unsigned()))
                })
            }
            Self::Ipvlan { mode } => {
                message.attr_str(IFLA_INFO_KIND, "ipvlan").nest(IFLA_INFO_DATA, |m| m.attr_u16(IFLA_IPVLAN_MODE, mode))
            }
        }
    }
}

/// Creates a macvlan or ipvlan link, down, on the link with index `parent`, which is in the socket's namespace; the
/// new link is in `netns`, or there too. Refused with `EEXIST` when the name is taken in the one or the other.
pub fn create_child(
    name: &str,
    parent: u32,
    group: u32,
    mtu: u32,
    kind: ChildKind,
    netns: Option<BorrowedFd<'_>>,
) -> Message {
    let mut message = Message::new(RTM_NEWLINK, flags::ACK | flags::CREATE | flags::EXCL)
        .bytes(&ifinfomsg(0, 0, 0))
        .attr_str(IFLA_IFNAME, name)
        .attr_u32(IFLA_LINK, parent)
        .attr_u32(IFLA_MTU, mtu)
        .attr_u32(IFLA_GROUP, group);
    if let Some(mac) = kind.mac() {
        message = message.attr(IFLA_ADDRESS, &mac);
    }
    if let Some(netns) = netns {
        message = message.attr_u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    }
    message.nest(IFLA_LINKINFO, |m| kind.describe(m))
}

/// Gives a macvlan or ipvlan link, by its index, its name, MTU, mode, MAC address and alias, and turns it up.
pub fn finish_child(index: u32, name: &str, mtu: u32, alias: &str, kind: ChildKind) -> Message {
    let mut message = Message::new(RTM_NEWLINK, flags::ACK)
        .bytes(&ifinfomsg(index, UP, UP))
        .attr_str(IFLA_IFNAME, name)
        .attr_u32(IFLA_MTU, mtu)
        .attr(IFLA_IFALIAS, alias.as_bytes());
    if let Some(mac) = kind.mac() {
        message = message.attr(IFLA_ADDRESS, &mac);
    }
    message.nest(IFLA_LINKINFO, |m| kind.describe(m))
}

/// Keeps the kernel from giving a link an IPv6 link-local address. `EAFNOSUPPORT` where IPv6 is off.
pub fn no_link_local(name: &str) -> Message {
    Message::new(RTM_NEWLINK, flags::ACK)
        .bytes(&ifinfomsg(0, 0, 0))
        .attr_str(IFLA_IFNAME, name)
        .nest(IFLA_AF_SPEC, |m| {
            m.nest(u16::from(AF_INET6), |m| m.attr_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE))
        })
}

/// Turns a link up, by name.
pub fn set_up(name: &str) -> Message {
    Message::new(RTM_NEWLINK, flags::ACK).bytes(&ifinfomsg(0, UP, UP)).attr_str(IFLA_IFNAME, name)
}

/// What to change of a link; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// How many packets wait to be sent by it.
    pub queue: Option<u32>,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// The index of the bridge it is a member of; 0 for none.
    pub master: Option<u32>,
    /// Its alias; empty for none.
    pub alias: Option<&'a str>,
    /// Its name; the link must be down on kernels before 6.2.
    pub name: Option<&'a str>,
}

/// Changes the link with this index.
pub fn change_link(index: u32, changes: &Changes<'_>) -> Message {
    let mut message = Message::new(RTM_NEWLINK, flags::ACK).bytes(&ifinfomsg(index, 0, 0));
    if let Some(name) = changes.name {
        message = message.attr_str(IFLA_IFNAME, name);
    }
    if let Some(mtu) = changes.mtu {
        message = message.attr_u32(IFLA_MTU, mtu);
    }
    if let Some(queue) = changes.queue {
        message = message.attr_u32(IFLA_TXQLEN, queue);
    }
    if let Some(mac) = changes.mac {
        message = message.attr(IFLA_ADDRESS, &mac);
    }
    if let Some(master) = changes.master {
        message = message.attr_u32(IFLA_MASTER, master);
    }
    if let Some(alias) = changes.alias {
        message = message.attr(IFLA_IFALIAS, alias.as_bytes());
    }
    message
}

/// Removes the link with this index; its veth peer, addresses and routes go with it.
pub fn delete_link(index: u32) -> Message {
    Message::new(RTM_DELLINK, flags::ACK).bytes(&ifinfomsg(index, 0, 0))
}

/// `RTMGRP_LINK` (include/uapi/linux/rtnetlink.h): who listens to it hears of every new, changed and removed link.
pub const LINKS_GROUP: u32 = 1;

/// Does the kernel announce that the link with this index is gone? (A bridge's member that leaves is announced
/// with another family.)
pub fn is_departure(reply: &Reply, index: u32) -> bool {
    reply.kind == RTM_DELLINK && reply.payload.first() == Some(&0) && u32_at(&reply.payload, 4) == Some(index)
}

/// Asks for a link by its name or an alternative name; read the reply with [`Link::read`].
pub fn link_named(name: &str) -> Message {
    link_request(0).attr_str(IFLA_IFNAME, name)
}

/// Asks for a link by its index.
pub fn link_indexed(index: u32) -> Message {
    link_request(index)
}

/// Asks for all links; for [`crate::Socket::dump`].
pub fn links() -> Message {
    link_request(0)
}

fn link_request(index: u32) -> Message {
    Message::new(RTM_GETLINK, 0).bytes(&ifinfomsg(index, 0, 0)).attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
}

/// Adds an address to the link with this index, IPv6 without duplicate address detection; `EEXIST` when it is there.
pub fn add_address(index: u32, ip: IpAddr, len: u8) -> Message {
    let message = address_message(RTM_NEWADDR, flags::CREATE | flags::EXCL, index, ip, len);
    match ip {
        // /31 and /32 have no broadcast address (RFC 3021).
        IpAddr::V4(ip) if len <= 30 => {
            let broadcast = u32::from(ip) | u32::MAX.checked_shr(len.into()).unwrap_or(0);
            message.attr_be32(IFA_BROADCAST, broadcast)
        }
        _ => message,
    }
}

/// Removes an address from the link with this index.
pub fn delete_address(index: u32, ip: IpAddr, len: u8) -> Message {
    address_message(RTM_DELADDR, 0, index, ip, len)
}

/// Asks for the addresses of one link, or of all with index 0; for [`crate::Socket::dump`].
pub fn addresses(index: u32) -> Message {
    Message::new(RTM_GETADDR, 0).bytes(&ifaddrmsg(AF_UNSPEC, 0, 0, index))
}

fn address_message(kind: u16, more: u16, index: u32, ip: IpAddr, len: u8) -> Message {
    let no_dad = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
    let octets = octets(ip);
    Message::new(kind, flags::ACK | more)
        .bytes(&ifaddrmsg(family(ip), len, no_dad, index))
        .attr(IFA_LOCAL, &octets)
        .attr(IFA_ADDRESS, &octets)
}

/// Adds a neighbour that is never asked for, or gives it another MAC address.
pub fn put_neighbour(index: u32, ip: IpAddr, mac: [u8; 6]) -> Message {
    neighbour_message(RTM_NEWNEIGH, flags::ACK | flags::CREATE | flags::REPLACE, index, ip).attr(NDA_LLADDR, &mac)
}

/// Forgets a neighbour.
pub fn delete_neighbour(index: u32, ip: IpAddr) -> Message {
    neighbour_message(RTM_DELNEIGH, flags::ACK, index, ip)
}

/// Asks for all neighbours; for [`crate::Socket::dump`].
pub fn neighbours() -> Message {
    Message::new(RTM_GETNEIGH, 0).bytes(&[0; NDMSG])
}

fn neighbour_message(kind: u16, flags: u16, index: u32, ip: IpAddr) -> Message {
    let [a, b, c, d] = index.to_ne_bytes();
    let [low, high] = NUD_PERMANENT.to_ne_bytes();
    let header = [family(ip), 0, 0, 0, a, b, c, d, low, high, 0, 0];
    Message::new(kind, flags).bytes(&header).attr(NDA_DST, &octets(ip))
}

/// A neighbour as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkNeighbour {
    /// The link it is reached by.
    pub index: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Is it never asked for?
    pub permanent: bool,
}

impl LinkNeighbour {
    /// Reads an `RTM_NEWNEIGH`; `None` for one without a MAC address and anything else.
    pub fn read(reply: &Reply) -> Option<Self> {
        if reply.kind != RTM_NEWNEIGH {
            return None;
        }
        let attrs = reply.attrs(NDMSG);
        let state = u16::from_ne_bytes(*reply.payload.get(8..)?.first_chunk()?);
        Some(Self {
            index: u32_at(&reply.payload, 4)?,
            ip: ip(attrs.find(NDA_DST)?)?,
            mac: attrs.find(NDA_LLADDR)?.try_into().ok()?,
            permanent: state & NUD_PERMANENT != 0,
        })
    }
}

/// Where a static route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// To this next hop.
    Via(IpAddr),
    /// To this next hop on the link with this index.
    ViaOn(IpAddr, u32),
    /// To neighbours on the link with this index.
    On(u32),
    /// Nowhere: `blackhole`, `unreachable` or `prohibit`.
    Nowhere(RouteType),
}

/// Adds a static route of the main table; `EEXIST` when one with this destination and metric is there.
pub fn add_route(destination: IpAddr, len: u8, hop: Hop, metric: u32) -> Message {
    route_message(RTM_NEWROUTE, flags::CREATE | flags::EXCL, destination, len, hop, metric)
}

/// Gives the route with this destination and metric another next hop, in one step.
pub fn replace_route(destination: IpAddr, len: u8, hop: Hop, metric: u32) -> Message {
    route_message(RTM_NEWROUTE, flags::CREATE | flags::REPLACE, destination, len, hop, metric)
}

/// Removes that route.
pub fn delete_route(destination: IpAddr, len: u8, hop: Hop, metric: u32) -> Message {
    route_message(RTM_DELROUTE, 0, destination, len, hop, metric)
}

/// The number of the main table.
pub const MAIN_TABLE: u32 = RT_TABLE_MAIN as u32;

/// Asks for the routes of one family, of one table or of all with `None`; for [`crate::Socket::dump`].
pub fn routes(ipv4: bool, table: Option<u32>) -> Message {
    let family = if ipv4 { AF_INET } else { AF_INET6 };
    let message = Message::new(RTM_GETROUTE, 0).bytes(&[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    match table {
        Some(table) => message.attr_u32(RTA_TABLE, table),
        None => message,
    }
}

/// Has `table` send packets for a prefix out by the link with this index ([`RouteType::Unicast`]), or take them for
/// this host's own ([`RouteType::Local`], by the loopback link); a route that is there is replaced.
pub fn replace_link_route(destination: IpAddr, len: u8, of_type: RouteType, index: u32, table: u32) -> Message {
    let scope = if of_type == RouteType::Local { RT_SCOPE_HOST } else { SCOPE_LINK };
    // IPv6 has no scopes of routes.
    let scope = if destination.is_ipv4() { scope } else { 0 };
    let header = [family(destination), len, 0, 0, 0, RTPROT_STATIC, scope, of_type.number(), 0, 0, 0, 0];
    let message = Message::new(RTM_NEWROUTE, flags::ACK | flags::CREATE | flags::REPLACE).bytes(&header);
    let message = if len > 0 { message.attr(RTA_DST, &octets(destination)) } else { message };
    message.attr_u32(RTA_OIF, index).attr_u32(RTA_TABLE, table)
}

/// Asks `table` about packets of one family, all of them or those with a mark, after all rules with lower
/// priorities; `EEXIST` when the same rule is there.
pub fn add_rule(ipv4: bool, priority: u32, mark: Option<u32>, table: u32) -> Message {
    rule_message(RTM_NEWRULE, flags::CREATE | flags::EXCL, ipv4, priority, mark, table)
}

/// Removes that rule.
pub fn delete_rule(ipv4: bool, priority: u32, mark: Option<u32>, table: u32) -> Message {
    rule_message(RTM_DELRULE, 0, ipv4, priority, mark, table)
}

/// The number of the table of this host's own addresses.
pub const LOCAL_TABLE: u32 = 255;

fn rule_message(kind: u16, more: u16, ipv4: bool, priority: u32, mark: Option<u32>, table: u32) -> Message {
    let family = if ipv4 { AF_INET } else { AF_INET6 };
    let message = Message::new(kind, flags::ACK | more)
        .bytes(&[family, 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0])
        .attr_u32(FRA_PRIORITY, priority)
        .attr_u32(FRA_TABLE, table);
    mark.map_or(message.clone(), |mark| message.attr_u32(FRA_FWMARK, mark))
}

fn route_message(kind: u16, more: u16, destination: IpAddr, len: u8, hop: Hop, metric: u32) -> Message {
    let of_route = match hop {
        Hop::Via(_) | Hop::ViaOn(..) | Hop::On(_) => RouteType::Unicast,
        Hop::Nowhere(of_route) => of_route,
    };
    // IPv6 has no scopes of routes.
    let scope = if matches!(hop, Hop::On(_)) && destination.is_ipv4() { SCOPE_LINK } else { 0 };
    let header = [family(destination), len, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, of_route.number(), 0, 0, 0, 0];
    let mut message = Message::new(kind, flags::ACK | more).bytes(&header);
    if len > 0 {
        message = message.attr(RTA_DST, &octets(destination));
    }
    message = match hop {
        Hop::Via(gateway) => message.attr(RTA_GATEWAY, &octets(gateway)),
        Hop::ViaOn(gateway, index) => message.attr(RTA_GATEWAY, &octets(gateway)).attr_u32(RTA_OIF, index),
        Hop::On(index) => message.attr_u32(RTA_OIF, index),
        Hop::Nowhere(_) => message,
    };
    message.attr_u32(RTA_PRIORITY, metric)
}

fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG] {
    let mut bytes = [0; IFINFOMSG];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn ifaddrmsg(family: u8, len: u8, flags: u8, index: u32) -> [u8; IFADDRMSG] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, len, flags, 0, a, b, c, d]
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address in 4 or 16 octets.
pub(crate) fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A link as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name; not the alternative names.
    pub name: String,
    /// `bridge`, `veth`, …; empty for links without a kind (hardware, loopback).
    pub kind: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its MAC address, if it has one of six octets.
    pub mac: Option<[u8; 6]>,
    /// Its group; 0 by default.
    pub group: u32,
    /// Its alias; empty when it has none.
    pub alias: String,
    /// The index of the bridge it is a member of, if any.
    pub master: Option<u32>,
    /// The index of a veth's peer, in the peer's namespace; of a macvlan or ipvlan link's parent, in the parent's.
    pub peer: Option<u32>,
    /// The mode of a macvlan link (`MACVLAN_MODE_*`).
    pub macvlan_mode: Option<u32>,
    /// A macvlan link's `IFLA_MACVLAN_BC_CUTOFF`, where the kernel has one.
    pub bclim: Option<i32>,
    /// The mode of an ipvlan link (`IPVLAN_MODE_*`).
    pub ipvlan_mode: Option<u16>,
    /// `IFF_*`
    pub flags: u32,
    /// Hairpin mode of a bridge member.
    pub hairpin: bool,
    /// Does this bridge member exchange no frames with others that are so?
    pub isolated: bool,
    /// Does this bridge keep VLANs apart?
    pub filters_vlans: bool,
    /// The routing table of a VRF.
    pub vrf_table: Option<u32>,
    /// Its setting `disable_ipv6`; `None` when the kernel says nothing of IPv6.
    pub disable_ipv6: Option<i32>,
}

impl Link {
    /// Reads an `RTM_NEWLINK`; `None` for anything else.
    pub fn read(reply: &Reply) -> Option<Self> {
        if reply.kind == RTM_NEWLINK { Self::described(reply) } else { None }
    }

    /// Reads an `RTM_DELLINK`, which describes the link as it was. (A bridge's member that leaves is announced
    /// with another family.)
    pub fn read_departed(reply: &Reply) -> Option<Self> {
        if reply.kind == RTM_DELLINK && reply.payload.first() == Some(&0) { Self::described(reply) } else { None }
    }

    fn described(reply: &Reply) -> Option<Self> {
        let attrs = reply.attrs(IFINFOMSG);
        let linkinfo = attrs.nested(IFLA_LINKINFO);
        let member = linkinfo.nested(IFLA_INFO_SLAVE_DATA);
        let kind = linkinfo.text(IFLA_INFO_KIND).unwrap_or_default().to_owned();
        let data = linkinfo.nested(IFLA_INFO_DATA);
        Some(Self {
            filters_vlans: kind == "bridge" && data.find(IFLA_BR_VLAN_FILTERING) == Some(&[1]),
            macvlan_mode: data.u32(IFLA_MACVLAN_MODE).filter(|_| kind == "macvlan"),
            bclim: data.u32(IFLA_MACVLAN_BC_CUTOFF).filter(|_| kind == "macvlan").map(u32::cast_signed),
            ipvlan_mode: data
                .find(IFLA_IPVLAN_MODE)
                .filter(|_| kind == "ipvlan")
                .and_then(|mode| Some(u16::from_ne_bytes(*mode.first_chunk()?))),
            vrf_table: data.u32(IFLA_VRF_TABLE).filter(|_| kind == "vrf"),
            index: u32_at(&reply.payload, 4)?,
            name: attrs.text(IFLA_IFNAME)?.to_owned(),
            kind,
            mtu: attrs.u32(IFLA_MTU).unwrap_or_default(),
            mac: attrs.find(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
            group: attrs.u32(IFLA_GROUP).unwrap_or_default(),
            alias: attrs.text(IFLA_IFALIAS).unwrap_or_default().to_owned(),
            master: attrs.u32(IFLA_MASTER),
            peer: attrs.u32(IFLA_LINK),
            flags: u32_at(&reply.payload, 8)?,
            hairpin: member.find(IFLA_BRPORT_MODE) == Some(&[1]),
            isolated: member.find(IFLA_BRPORT_ISOLATED) == Some(&[1]),
            disable_ipv6: u32_at(
                attrs.nested(IFLA_AF_SPEC).nested(u16::from(AF_INET6)).find(IFLA_INET6_CONF).unwrap_or_default(),
                4 * DEVCONF_DISABLE_IPV6,
            )
            .map(u32::cast_signed),
        })
    }

    /// Whether it is up (administratively).
    pub fn is_up(&self) -> bool {
        self.flags & UP != 0
    }
}

/// An address as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// Its link.
    pub index: u32,
    /// The address of this end.
    pub ip: IpAddr,
    /// Length of its prefix in bits.
    pub len: u8,
    /// Scope link or smaller: `fe80::/64`, `127.0.0.0/8`.
    pub local_scope: bool,
}

/// `RT_SCOPE_LINK`; higher numbers are narrower.
const SCOPE_LINK: u8 = 253;

impl LinkAddress {
    /// Reads an `RTM_NEWADDR`; `None` for anything else.
    pub fn read(reply: &Reply) -> Option<Self> {
        if reply.kind != RTM_NEWADDR {
            return None;
        }
        let attrs = reply.attrs(IFADDRMSG);
        // On point-to-point links IFA_ADDRESS is the other end; IPv6 often has only IFA_ADDRESS.
        let octets = attrs.find(IFA_LOCAL).or_else(|| attrs.find(IFA_ADDRESS))?;
        Some(Self {
            index: u32_at(&reply.payload, 4)?,
            ip: ip(octets)?,
            len: *reply.payload.get(1)?,
            local_scope: *reply.payload.get(3)? >= SCOPE_LINK,
        })
    }
}

/// What a route does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteType {
    /// Sends them on.
    Unicast,
    /// Takes them for this host's own.
    Local,
    /// Drops them.
    Blackhole,
    /// Refuses them: host unreachable.
    Unreachable,
    /// Refuses them: administratively prohibited.
    Prohibit,
}

impl RouteType {
    const ALL: [(u8, Self); 5] = [
        (RTN_UNICAST, Self::Unicast),
        (RTN_LOCAL, Self::Local),
        (RTN_BLACKHOLE, Self::Blackhole),
        (RTN_UNREACHABLE, Self::Unreachable),
        (RTN_PROHIBIT, Self::Prohibit),
    ];

    fn number(self) -> u8 {
        match self {
            Self::Unicast => RTN_UNICAST,
            Self::Local => RTN_LOCAL,
            Self::Blackhole => RTN_BLACKHOLE,
            Self::Unreachable => RTN_UNREACHABLE,
            Self::Prohibit => RTN_PROHIBIT,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == number).map(|(_, kind)| kind)
    }
}

/// A route of any table as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRoute {
    /// The number of its table.
    pub table: u32,
    /// What it does.
    pub kind: RouteType,
    /// The destination; all zero for the default route.
    pub destination: IpAddr,
    /// Length of its prefix in bits.
    pub len: u8,
    /// The next hop; `None` for connected subnets and several next hops.
    pub gateway: Option<IpAddr>,
    /// The outgoing link; the first one's of several next hops.
    pub link: Option<u32>,
    /// Preference, lower wins.
    pub metric: u32,
}

impl TableRoute {
    /// Reads an `RTM_NEWROUTE`; `None` for other types (broadcast, multicast, …) and everything else.
    pub fn read(reply: &Reply) -> Option<Self> {
        let [family, len, _, _, table, _, _, kind, ..] = *reply.payload.first_chunk::<RTMSG>()?;
        let attrs = reply.attrs(RTMSG);
        let flags = u32_at(&reply.payload, 8)?;
        if reply.kind != RTM_NEWROUTE || flags & RTM_F_CLONED != 0 {
            return None;
        }
        let zero: &[u8] = if family == AF_INET { &[0; 4] } else { &[0; 16] };
        Some(Self {
            table: attrs.u32(RTA_TABLE).unwrap_or(table.into()),
            kind: RouteType::of(kind)?,
            destination: ip(attrs.find(RTA_DST).unwrap_or(zero))?,
            len,
            gateway: attrs.find(RTA_GATEWAY).and_then(ip),
            // The first rtnexthop: len:u16 flags:u8 hops:u8 index:i32.
            link: attrs.u32(RTA_OIF).or_else(|| u32_at(attrs.find(RTA_MULTIPATH)?, 4)),
            metric: attrs.u32(RTA_PRIORITY).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if the kernel had sent what we sent: the formats are the same.
    fn echo(message: &Message) -> Reply {
        let mut bytes = Vec::new();
        message.write(1, &mut bytes);
        Reply::split(&bytes).remove(0)
    }

    #[test]
    fn a_link_reads_as_it_was_built() {
        let link = Link::read(&echo(&create_bridge("podman0", [2, 0, 0, 0, 0, 1], 0x7077))).unwrap();
        assert_eq!((link.name.as_str(), link.kind.as_str()), ("podman0", "bridge"));
        assert_eq!((link.mac, link.group, link.is_up()), (Some([2, 0, 0, 0, 0, 1]), 0x7077, false));
        let member = Link::read(&echo(&finish_member("pw0123456789a0", "podwire:a:b", true))).unwrap();
        assert_eq!((member.alias.as_str(), member.hairpin, member.is_up()), ("podwire:a:b", true, false));
        assert!(member.isolated && !Link::read(&echo(&finish_member("pw0", "", false))).unwrap().isolated);
    }

    #[test]
    fn a_child_reads_as_it_was_built() {
        let kind = ChildKind::Macvlan { mode: 4, mac: Some([2, 0, 0, 0, 0, 1]), bclim: Some(-1) };
        let link = Link::read(&echo(&create_child("pw0", 2, 0x7077, 1400, kind, None))).unwrap();
        assert_eq!((link.kind.as_str(), link.peer, link.mtu, link.is_up()), ("macvlan", Some(2), 1400, false));
        assert_eq!((link.macvlan_mode, link.bclim, link.ipvlan_mode), (Some(4), Some(-1), None));
        let link = Link::read(&echo(&finish_child(7, "eth0", 1400, "m", ChildKind::Ipvlan { mode: 1 }))).unwrap();
        assert_eq!((link.index, link.name.as_str(), link.alias.as_str(), link.is_up()), (7, "eth0", "m", true));
        assert_eq!((link.macvlan_mode, link.ipvlan_mode, link.mac), (None, Some(1), None));
    }

    #[test]
    fn a_neighbour_reads_as_it_was_built() {
        for text in ["192.168.99.109", "fd99::109"] {
            let (ip, mac) = (text.parse().unwrap(), [2, 0, 0, 0, 0, 1]);
            let read = LinkNeighbour::read(&echo(&put_neighbour(4, ip, mac))).unwrap();
            assert_eq!(read, LinkNeighbour { index: 4, ip, mac, permanent: true });
        }
    }

    #[test]
    fn an_address_reads_as_it_was_built() {
        for (text, len) in [("10.88.0.1", 16), ("fd00::1", 64)] {
            let ip = text.parse().unwrap();
            let address = LinkAddress::read(&echo(&add_address(4, ip, len))).unwrap();
            assert_eq!(address, LinkAddress { index: 4, ip, len, local_scope: false });
        }
    }

    #[test]
    fn an_ipv4_address_has_a_broadcast_address_unless_its_subnet_is_too_small() {
        let broadcast = |ip: &str, len| {
            let reply = echo(&add_address(4, ip.parse().unwrap(), len));
            reply.attrs(IFADDRMSG).find(IFA_BROADCAST).and_then(super::ip).map(|ip| ip.to_string())
        };
        assert_eq!(broadcast("10.88.0.2", 16).as_deref(), Some("10.88.255.255"));
        assert_eq!(broadcast("10.88.0.2", 30).as_deref(), Some("10.88.0.3"));
        assert_eq!(
            (broadcast("10.88.0.2", 31), broadcast("10.88.0.2", 32), broadcast("fd00::2", 64)),
            (None, None, None)
        );
    }

    #[test]
    fn a_route_reads_as_it_was_built() {
        let (any, gateway) = ("0.0.0.0".parse().unwrap(), "10.88.0.1".parse().unwrap());
        let route = TableRoute::read(&echo(&add_route(any, 0, Hop::Via(gateway), 100))).unwrap();
        let default = TableRoute {
            table: MAIN_TABLE,
            kind: RouteType::Unicast,
            destination: any,
            len: 0,
            gateway: Some(gateway),
            link: None,
            metric: 100,
        };
        assert_eq!(route, default);
        let subnet = "fd01::".parse().unwrap();
        for kind in [RouteType::Blackhole, RouteType::Unreachable, RouteType::Prohibit] {
            let route = TableRoute::read(&echo(&add_route(subnet, 64, Hop::Nowhere(kind), 7))).unwrap();
            assert_eq!((route.destination, route.len, route.metric), (subnet, 64, 7));
            assert_eq!((route.kind, route.gateway), (kind, None));
        }
    }

    #[test]
    fn a_ports_vlans_read_as_they_are_set() {
        let mut set = echo(&add_port_vlan(4, 7));
        // Asked for with RTM_SETLINK, told with RTM_NEWLINK.
        set.kind = RTM_NEWLINK;
        let vlans = PortVlans::read(&set).unwrap();
        assert_eq!(vlans, PortVlans { index: 4, vlans: vec![(7, true)] });
        assert!(vlans.is_only(7) && !vlans.is_only(8));
        let also = PortVlans { index: 4, vlans: vec![(1, false), (7, true)] };
        assert!(!also.is_only(7), "frames of VLAN 1 would still leave by this port");
        assert_eq!(PortVlans::read(&echo(&create_bridge("podman0", [2, 0, 0, 0, 0, 1], 0))), None);
    }

    #[test]
    fn a_bridge_that_filters_vlans_reads_so() {
        let read = |message| Link::read(&echo(&message)).unwrap().filters_vlans;
        assert!(read(filter_vlans("podman1")));
        assert!(!read(create_bridge("podman1", [2, 0, 0, 0, 0, 1], 0)));
    }

    #[test]
    fn short_or_foreign_replies_read_as_nothing() {
        for kind in [RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, 99] {
            for len in 0..24 {
                let reply = Reply { kind, flags: 0, seq: 0, payload: vec![0; len] };
                assert_eq!(
                    (Link::read(&reply), LinkAddress::read(&reply), TableRoute::read(&reply)),
                    (None, None, None)
                );
            }
        }
    }
}
