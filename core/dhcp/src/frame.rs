//! Ethernet frames around DHCP messages, and ARP: what goes over a link whose address is not known yet.

use std::net::Ipv4Addr;

/// A link-layer address.
pub type Mac = [u8; 6];

/// To everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// Where clients listen.
pub const CLIENT_PORT: u16 = 68;
/// Where servers and relays listen.
pub const SERVER_PORT: u16 = 67;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const UDP: u8 = 17;
const ETHERNET: usize = 14;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Without the four octets of the frame check sequence (IEEE 802.3).
const SHORTEST: usize = 60;

/// What a frame holds that concerns a DHCP client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A datagram from a server's port to a client's.
    Message {
        /// Who sent the frame: the server, or what routes or relays for it.
        mac: Mac,
        /// Who sent the datagram.
        from: Ipv4Addr,
        /// All of it.
        message: &'a [u8],
    },
    /// An ARP packet for IPv4.
    Arp(Arp),
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Does it ask?
    pub asks: bool,
    /// Who says so.
    pub mac: Mac,
    /// Which address it says it has; unspecified when it only asks whether anybody has `target`.
    pub sender: Ipv4Addr,
    /// Which address it is about.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Has somebody else this address, or is about to take it (RFC 5227 section 2.1.1)?
    pub fn contests(&self, address: Ipv4Addr, ours: Mac) -> bool {
        let probes = self.asks && self.sender.is_unspecified() && self.target == address;
        self.mac != ours && (self.sender == address || probes)
    }
}

/// Reads a frame that came to `ours`. `None`: it does not concern us, or is broken. The checksum of UDP is not
/// looked at: a server on the same machine leaves it to hardware that does not exist.
pub fn read(frame: &[u8], ours: Mac) -> Option<Heard<'_>> {
    let (to, mac) = (array::<6>(frame, 0)?, array::<6>(frame, 6)?);
    if to != ours && to != BROADCAST || mac == ours {
        return None;
    }
    match word(frame, 12)? {
        IPV4 => read_datagram(frame.get(ETHERNET..)?, mac),
        ARP => read_arp(frame.get(ETHERNET..)?).map(Heard::Arp),
        _ => None,
    }
}

fn read_datagram(packet: &[u8], mac: Mac) -> Option<Heard<'_>> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let whole = packet.get(..usize::from(word(packet, 2)?))?;
    let is_fragment = word(packet, 6)? & 0x3fff != 0;
    if packet[0] >> 4 != 4 || header < IP_HEADER || is_fragment || *packet.get(9)? != UDP {
        return None;
    }
    if checksum(whole.get(..header)?, 0) != 0 {
        return None;
    }
    let datagram = whole.get(header..)?;
    let length = usize::from(word(datagram, 4)?);
    if word(datagram, 0)? != SERVER_PORT || word(datagram, 2)? != CLIENT_PORT {
        return None;
    }
    Some(Heard::Message { mac, from: ip(packet, 12)?, message: datagram.get(UDP_HEADER..length)? })
}

fn read_arp(packet: &[u8]) -> Option<Arp> {
    // Ethernet, IPv4, and the lengths of their addresses.
    if packet.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    Some(Arp { asks: word(packet, 6)? == 1, mac: array(packet, 8)?, sender: ip(packet, 14)?, target: ip(packet, 24)? })
}

/// A frame with a DHCP message from `source`, which may be unspecified.
pub fn write_message(from: Mac, to: Mac, source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let udp_length = (UDP_HEADER + message.len()) as u16;
    let mut datagram = Vec::with_capacity(UDP_HEADER + message.len());
    for field in [CLIENT_PORT, SERVER_PORT, udp_length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(message);
    let pseudo = [&source.octets()[..], &destination.octets(), &[0, UDP], &udp_length.to_be_bytes()].concat();
    let sum = match checksum(&datagram, sum(&pseudo, 0)) {
        // Zero would mean that there is none (RFC 768).
        0 => u16::MAX,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());

    let length = (IP_HEADER + datagram.len()) as u16;
    // Version and header length, service, length; identification, don't fragment; 64 hops.
    let mut header = [&[0x45, 0], &length.to_be_bytes()[..], &[0, 0, 0x40, 0, 64, UDP, 0, 0]].concat();
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum(&header, 0);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(from, to, IPV4, &[header, datagram].concat())
}

/// A frame that asks everybody for `target`: a probe when `sender` is unspecified, an announcement when both are one.
pub fn write_arp(from: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(from);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(from, BROADCAST, ARP, &packet)
}

pub(crate) fn ethernet(from: Mac, to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

pub(crate) fn sum(bytes: &[u8], begun: u32) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
    // 2^16 words at most: no overflow.
    begun + words.sum::<u32>()
}

/// The Internet checksum (RFC 1071), going on from the sum of what came before.
fn checksum(bytes: &[u8], begun: u32) -> u16 {
    fold(sum(bytes, begun))
}

pub(crate) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

pub(crate) fn ip(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    array::<4>(bytes, at).map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];
    const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    /// As a server's answer would be: ports the other way round.
    fn answer(message: &[u8]) -> Vec<u8> {
        let mut frame = write_message(B, A, [192, 0, 2, 1].into(), [192, 0, 2, 9].into(), message);
        frame.copy_within(34..36, 38);
        frame[34..36].copy_from_slice(&SERVER_PORT.to_be_bytes());
        frame[36..38].copy_from_slice(&CLIENT_PORT.to_be_bytes());
        let length = (UDP_HEADER + message.len()) as u16;
        frame[38..40].copy_from_slice(&length.to_be_bytes());
        frame
    }

    #[test]
    fn a_discover_is_a_broadcast_with_right_sums() {
        let frame = write_message(A, BROADCAST, NOBODY, Ipv4Addr::BROADCAST, b"odd");
        assert_eq!(&frame[..14], [&BROADCAST[..], &A, &[8, 0]].concat());
        assert_eq!(checksum(&frame[14..34], 0), 0);
        let pseudo = sum(&frame[26..34], u32::from(UDP) + 11);
        assert_eq!(checksum(&frame[34..45], pseudo), 0);
        assert_eq!(&frame[42..45], b"odd");
        assert_eq!(frame.len(), 60);
    }

    #[test]
    fn an_answer_is_heard_and_the_padding_is_not() {
        let frame = answer(b"hello");
        let heard = read(&frame, A).unwrap();
        assert_eq!(heard, Heard::Message { mac: B, from: [192, 0, 2, 1].into(), message: b"hello" });
    }

    #[test]
    fn what_is_not_for_us_or_broken_is_not_heard() {
        let good = answer(b"hello");
        assert_eq!(read(&good, [9; 6]), None);
        assert_eq!(read(&good, B), None);
        for (at, value) in [(12, 9), (14, 0x55), (14, 0x44), (17, 200), (20, 0x20), (21, 1), (23, 6), (24, 1), (37, 69)]
        {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(read(&bad, A), None, "octet {at}");
        }
        for length in 0..good.len() - 18 {
            assert_eq!(read(&good[..length], A), None, "{length}");
        }
    }

    #[test]
    fn an_address_is_contested_by_who_has_it_and_by_who_probes_for_it() {
        let (mine, other) = (Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(192, 0, 2, 8));
        let heard = |mac, sender, target| match read(&write_arp(mac, sender, target), A) {
            Some(Heard::Arp(arp)) => arp.contests(mine, A),
            _ => false,
        };
        assert!(heard(B, mine, other) && heard(B, mine, mine) && heard(B, NOBODY, mine));
        assert!(!heard(B, other, mine) && !heard(B, NOBODY, other) && !heard(A, mine, mine));
    }
}
