//! Frames of IPv6: DHCPv6 messages, routers' advertisements, and the question whether anybody has an address.

use std::net::Ipv6Addr;

use model::{DnsName, MacAddr};

use crate::frame::{Mac, array, ethernet, fold, sum, word};
use crate::message::names;

/// Where clients listen.
pub const CLIENT_PORT: u16 = 546;
/// Where servers and relays listen.
pub const SERVER_PORT: u16 = 547;

const IPV6: u16 = 0x86dd;
const ETHERNET: usize = 14;
const HEADER: usize = 40;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const SOLICIT_ROUTERS: u8 = 133;
const ADVERTISE_ROUTER: u8 = 134;
const SOLICIT_NEIGHBOUR: u8 = 135;
const ADVERTISE_NEIGHBOUR: u8 = 136;

/// All servers and relays (RFC 8415 section 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// What a frame holds that concerns a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard6<'a> {
    /// A datagram from a server's port to a client's.
    Message(&'a [u8]),
    /// A router tells about the link.
    Router(Router),
    /// Somebody has this address, or is about to take it.
    Taken(Ipv6Addr),
}

/// A router's advertisement (RFC 4861 section 4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Router {
    /// M: addresses are lent by DHCPv6.
    pub managed: bool,
    /// O: other things are told by DHCPv6.
    pub other: bool,
    /// RDNSS (RFC 8106).
    pub dns: Vec<Ipv6Addr>,
    /// DNSSL (RFC 8106).
    pub search: Vec<DnsName>,
}

/// Reads a frame that came to `ours`. `None`: it does not concern us, or is broken. As with IPv4, the checksum of UDP
/// is not looked at.
pub fn read(frame: &[u8], ours: Mac) -> Option<Heard6<'_>> {
    let (to, from) = (array::<6>(frame, 0)?, array::<6>(frame, 6)?);
    if to != ours && to[..2] != [0x33, 0x33] || from == ours || word(frame, 12)? != IPV6 {
        return None;
    }
    let packet = frame.get(ETHERNET..)?;
    let payload = packet.get(HEADER..HEADER.checked_add(word(packet, 4)?.into())?)?;
    let source = Ipv6Addr::from(array::<16>(packet, 8)?);
    match packet[6] {
        UDP => {
            let length = usize::from(word(payload, 4)?);
            let ports = (word(payload, 0)?, word(payload, 2)?);
            (ports == (SERVER_PORT, CLIENT_PORT)).then(|| payload.get(8..length).map(Heard6::Message))?
        }
        // Nobody outside of the link can send with this hop limit (RFC 4861 section 6.1.2).
        ICMPV6 if packet[7] == 255 && fold(sum(payload, pseudo(packet, payload.len())?)) == 0 => {
            read_icmp(payload, source)
        }
        _ => None,
    }
}

fn pseudo(packet: &[u8], length: usize) -> Option<u32> {
    Some(sum(packet.get(8..HEADER)?, length as u32 + u32::from(packet[6])))
}

fn read_icmp(payload: &[u8], source: Ipv6Addr) -> Option<Heard6<'_>> {
    match (payload.first()?, payload.get(1)?) {
        (&ADVERTISE_ROUTER, 0) if source.is_unicast_link_local() => Router::read(payload).map(Heard6::Router),
        (&ADVERTISE_NEIGHBOUR, 0) => Some(Heard6::Taken(array::<16>(payload, 8)?.into())),
        (&SOLICIT_NEIGHBOUR, 0) if source.is_unspecified() => Some(Heard6::Taken(array::<16>(payload, 8)?.into())),
        _ => None,
    }
}

impl Router {
    fn read(payload: &[u8]) -> Option<Self> {
        const OPTIONS: usize = 16;
        let flags = *payload.get(5)?;
        let mut router = Self { managed: flags & 0x80 != 0, other: flags & 0x40 != 0, ..Self::default() };
        let mut rest = payload.get(OPTIONS..)?;
        while let [kind, length, ..] = *rest {
            let (option, after) =
                rest.split_at_checked(usize::from(length) * 8).filter(|(option, _)| !option.is_empty())?;
            let is_lasting = array::<4>(option, 4).is_some_and(|lifetime| lifetime != [0; 4]);
            match kind {
                25 if is_lasting => {
                    let all = option.get(8..)?.chunks_exact(16).filter_map(|ip| array::<16>(ip, 0));
                    // A link-local one would need the link's name in resolv.conf.
                    router
                        .dns
                        .extend(all.map(Ipv6Addr::from).filter(|ip| !ip.is_unicast_link_local() && !ip.is_multicast()));
                    router.dns.truncate(8);
                }
                31 if is_lasting => {
                    router.search.extend(names(option.get(8..)?));
                    router.search.truncate(16);
                }
                _ => {}
            }
            rest = after;
        }
        Some(router)
    }
}

/// A frame with a message to all servers.
pub fn write_message(mac: MacAddr, message: &[u8]) -> Vec<u8> {
    let length = (8 + message.len()) as u16;
    let mut datagram = [CLIENT_PORT, SERVER_PORT, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(message);
    write(mac, mac.link_local(), SERVERS, UDP, 1, datagram, 6)
}

/// A frame that asks all routers to tell about the link.
pub fn write_router_question(mac: MacAddr) -> Vec<u8> {
    let mut payload = vec![SOLICIT_ROUTERS, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    payload.extend(mac.octets());
    write(mac, mac.link_local(), ALL_ROUTERS, ICMPV6, 255, payload, 2)
}

/// A frame that asks whether anybody has the address (RFC 4862 section 5.4.2).
pub fn write_probe(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    let mut payload = vec![SOLICIT_NEIGHBOUR, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(address.octets());
    let [.., a, b, c] = address.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    write(mac, Ipv6Addr::UNSPECIFIED, group, ICMPV6, 255, payload, 2)
}

/// `sum_at`: where the payload's checksum is, as zeros.
fn write(
    mac: MacAddr,
    from: Ipv6Addr,
    to: Ipv6Addr,
    protocol: u8,
    hops: u8,
    mut payload: Vec<u8>,
    sum_at: usize,
) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let mut packet = [&[0x60, 0, 0, 0], &length[..], &[protocol, hops]].concat();
    packet.extend(from.octets());
    packet.extend(to.octets());
    let checksum = match fold(sum(&payload, pseudo(&packet, payload.len()).unwrap_or(0))) {
        // RFC 8200 section 8.1.
        0 => u16::MAX,
        checksum => checksum,
    };
    payload[sum_at..sum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    let [.., a, b, c, d] = to.octets();
    ethernet(mac.octets(), [0x33, 0x33, a, b, c, d], IPV6, &packet)
}
