//! IP packets as a TUN device gives and takes them.
//!
//! ```text
//!   Packet::parse(octets)          IPv4, options │ IPv6, extension headers │ fragments
//!     └ transport                  TCP │ UDP │ echo request │ other ICMP │ anything else
//!   reset(&packet)                 RST for a segment that nobody wants         RFC 9293 §3.10.7.1
//!   problem(&packet, what, from)   ICMP about it, with as much of it as fits   RFC 792, 1122, 1812, 4443
//!   datagram_problem(…)            the same about a datagram that was taken by a socket
//!   echo_reply(…)                  RFC 792, 4443
//! ```
//!
//! A [`Packet`] is a view of its octets; what it says was checked, checksums included.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IP protocol numbers (IANA).
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;

/// More extension headers than anybody needs; without an end, parsing would be quadratic work for nothing.
const EXTENSIONS_MAX: usize = 12;

/// How far our own packets may go.
const HOP_LIMIT: u8 = 64;

/// The largest ICMPv4 error (RFC 1812 §4.3.2.3).
const ERROR4_MAX: usize = 576;

/// The largest ICMPv6 error: the smallest MTU there may be (RFC 4443 §2.4 c).
const ERROR6_MAX: usize = 1280;

/// A packet whose headers make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Who sent it, or says so.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TTL, hop limit.
    pub hop_limit: u8,
    /// Is it one piece of a larger packet?
    pub fragment: Fragment,
    /// What it carries.
    pub transport: Transport<'a>,
    octets: &'a [u8],
    /// Where the octet is that says what it carries, and where that begins.
    protocol_at: usize,
    payload_at: usize,
}

/// Is a packet one piece of a larger one?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// No.
    Whole,
    /// Yes.
    Part {
        /// The same in all pieces of a packet (16 bits in IPv4).
        id: u32,
        /// Where this one's payload begins in the larger one's, octets.
        offset: u16,
        /// It is not the last one.
        more: bool,
    },
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport<'a> {
    /// TCP. In a first fragment: the header, and what data is here.
    Tcp(Segment<'a>),
    /// UDP. In a first fragment: the header, and what data is here.
    Udp(Datagram<'a>),
    /// An ICMP or ICMPv6 echo request.
    EchoRequest(Echo<'a>),
    /// Another ICMP or ICMPv6 message.
    Icmp {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// A piece of a larger packet that isn't the first.
    Rest,
    /// Another protocol, by its number; 59 when IPv6 says that there is nothing.
    Other(u8),
}

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Number of the first octet of data, or of the SYN.
    pub sequence: u32,
    /// The next number expected, if there is an ACK.
    pub acknowledgement: u32,
    /// What the segment means.
    pub flags: Flags,
    /// Octets the sender takes, unscaled.
    pub window: u16,
    /// Options as they came.
    pub options: &'a [u8],
    /// What it carries.
    pub data: &'a [u8],
}

/// The control bits of a TCP segment (RFC 9293 §3.1), CWR first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u8);

/// A UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// What it carries.
    pub data: &'a [u8],
}

/// An echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Which of the sender's pings.
    pub id: u16,
    /// Which request of it.
    pub sequence: u16,
    /// What is to come back.
    pub data: &'a [u8],
}

/// Why octets are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They end before something that should be there.
    Short,
    /// Neither IPv4 nor IPv6.
    Version(u8),
    /// A length says less than must be there, or more than there is.
    Length,
    /// A checksum is wrong.
    Checksum,
    /// More extension headers than we look through.
    Extensions,
}

/// What went wrong with a packet, to be told its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// There is no way to its network (ENETUNREACH).
    NetworkUnreachable,
    /// Its host does not answer (EHOSTUNREACH).
    HostUnreachable,
    /// Its host does not speak the protocol (ENOPROTOOPT).
    ProtocolUnreachable,
    /// Nobody is at the port (ECONNREFUSED).
    PortUnreachable,
    /// Somebody does not let it through (EACCES, EHOSTUNREACH).
    Prohibited,
    /// It may not be fragmented, and must be.
    TooBig {
        /// The largest packet that may.
        mtu: u32,
    },
    /// It went round for too long.
    HopLimitExceeded,
}

impl Problem {
    /// What an ICMP (`ipv4`) or ICMPv6 error says, with the number that some have; `None` for what is none.
    pub fn of_icmp(ipv4: bool, kind: u8, code: u8, number: u32) -> Option<Self> {
        Some(match (ipv4, kind, code) {
            (true, 3, 0 | 6 | 11) | (false, 1, 0) => Self::NetworkUnreachable,
            (true, 3, 2) | (false, 4, 1) => Self::ProtocolUnreachable,
            (true, 3, 3) | (false, 1, 4) => Self::PortUnreachable,
            (true, 3, 4) | (false, 2, _) => Self::TooBig { mtu: number },
            (true, 3, 9 | 10 | 13) | (false, 1, 1 | 5 | 6) => Self::Prohibited,
            (true, 3, _) | (false, 1, _) => Self::HostUnreachable,
            (true, 11, 0) | (false, 3, 0) => Self::HopLimitExceeded,
            _ => return None,
        })
    }

    /// What an error of connecting or sending says to whom it was done for; `None` for what is ours alone.
    pub fn of_error(error: std::io::ErrorKind) -> Option<Self> {
        use std::io::ErrorKind;
        match error {
            ErrorKind::ConnectionRefused => Some(Self::PortUnreachable),
            ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => Some(Self::NetworkUnreachable),
            ErrorKind::HostUnreachable => Some(Self::HostUnreachable),
            ErrorKind::PermissionDenied => Some(Self::Prohibited),
            _ => None,
        }
    }
}

impl<'a> Packet<'a> {
    /// Reads all headers. Octets behind the length that the packet says are no part of it.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        match octets.first().ok_or(Malformed::Short)? >> 4 {
            4 => Self::parse_v4(octets),
            6 => Self::parse_v6(octets),
            version => Err(Malformed::Version(version)),
        }
    }

    /// The whole packet.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The number of the protocol of what it carries.
    pub fn protocol(&self) -> u8 {
        self.octets.get(self.protocol_at).copied().unwrap_or_default()
    }

    /// What it carries, as it came.
    pub fn payload(&self) -> &'a [u8] {
        self.octets.get(self.payload_at..).unwrap_or_default()
    }

    /// Address and port of both sides, sender first, for TCP and UDP.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (from, to) = match self.transport {
            Transport::Tcp(segment) => (segment.source_port, segment.destination_port),
            Transport::Udp(datagram) => (datagram.source_port, datagram.destination_port),
            _ => return None,
        };
        Some((SocketAddr::new(self.source, from), SocketAddr::new(self.destination, to)))
    }

    fn parse_v4(octets: &'a [u8]) -> Result<Self, Malformed> {
        let header: &[u8; IPV4_HEADER] = octets.first_chunk().ok_or(Malformed::Short)?;
        let (header_length, length) = (usize::from(header[0] & 0x0f) * 4, usize::from(u16_at(header, 2)));
        if header_length < IPV4_HEADER || length < header_length {
            return Err(Malformed::Length);
        }
        let octets = octets.get(..length).ok_or(Malformed::Short)?;
        if sum(0, &octets[..header_length]) != 0xffff {
            return Err(Malformed::Checksum);
        }
        let fragment = match u16_at(header, 6) & 0x3fff {
            0 => Fragment::Whole,
            bits => {
                Fragment::Part { id: u16_at(header, 4).into(), offset: (bits & 0x1fff) * 8, more: bits & 0x2000 != 0 }
            }
        };
        Self {
            source: Ipv4Addr::from(u32_at(header, 12)).into(),
            destination: Ipv4Addr::from(u32_at(header, 16)).into(),
            hop_limit: header[8],
            fragment,
            transport: Transport::Rest,
            octets,
            protocol_at: 9,
            payload_at: header_length,
        }
        .with_transport()
    }

    fn parse_v6(octets: &'a [u8]) -> Result<Self, Malformed> {
        let header: &[u8; IPV6_HEADER] = octets.first_chunk().ok_or(Malformed::Short)?;
        let octets = octets.get(..IPV6_HEADER + usize::from(u16_at(header, 4))).ok_or(Malformed::Short)?;
        let address = |at: usize| Ipv6Addr::from_bits(u128_at(header, at)).into();
        let mut packet = Self {
            source: address(8),
            destination: address(24),
            hop_limit: header[7],
            fragment: Fragment::Whole,
            transport: Transport::Rest,
            octets,
            protocol_at: 6,
            payload_at: IPV6_HEADER,
        };
        packet.skip_extensions()?;
        packet.with_transport()
    }

    /// Goes behind the extension headers (RFC 8200 §4) that are not of the payload.
    fn skip_extensions(&mut self) -> Result<(), Malformed> {
        for _ in 0..EXTENSIONS_MAX {
            let here = self.payload();
            let length = match self.protocol() {
                // Behind another piece's fragment header is payload, whatever that begins with.
                _ if matches!(self.fragment, Fragment::Part { offset: 1.., .. }) => return Ok(()),
                // Hop-by-hop and destination options, routing, mobility, HIP, shim6.
                0 | 43 | 60 | 135 | 139 | 140 => 8 + 8 * usize::from(*here.get(1).ok_or(Malformed::Short)?),
                // Authentication (RFC 4302 §2.2).
                51 => 8 + 4 * usize::from(*here.get(1).ok_or(Malformed::Short)?),
                44 => {
                    let header: &[u8; 8] = here.first_chunk().ok_or(Malformed::Short)?;
                    let bits = u16_at(header, 2);
                    // One that is all there is carries a fragment header for nothing (RFC 6946).
                    if bits & 0xfff9 != 0 {
                        let (offset, more) = (bits & 0xfff8, bits & 1 != 0);
                        self.fragment = Fragment::Part { id: u32_at(header, 4), offset, more };
                    }
                    8
                }
                _ => return Ok(()),
            };
            if length > here.len() {
                return Err(Malformed::Short);
            }
            self.protocol_at = self.payload_at;
            self.payload_at += length;
        }
        Err(Malformed::Extensions)
    }

    fn with_transport(mut self) -> Result<Self, Malformed> {
        self.transport = match (self.fragment, self.protocol()) {
            (Fragment::Part { offset: 1.., .. }, _) => Transport::Rest,
            (_, protocol::TCP) => Transport::Tcp(self.segment()?),
            (_, protocol::UDP) => Transport::Udp(self.datagram()?),
            (_, protocol::ICMP) if self.source.is_ipv4() => self.icmp(8)?,
            (_, protocol::ICMPV6) if self.source.is_ipv6() => self.icmp(128)?,
            (_, other) => Transport::Other(other),
        };
        Ok(self)
    }

    fn segment(&self) -> Result<Segment<'a>, Malformed> {
        let payload = self.payload();
        let header: &[u8; TCP_HEADER] = payload.first_chunk().ok_or(Malformed::Short)?;
        let header_length = usize::from(header[12] >> 4) * 4;
        if header_length < TCP_HEADER {
            return Err(Malformed::Length);
        }
        let options = payload.get(TCP_HEADER..header_length).ok_or(Malformed::Short)?;
        self.check_sum(payload)?;
        Ok(Segment {
            source_port: u16_at(header, 0),
            destination_port: u16_at(header, 2),
            sequence: u32_at(header, 4),
            acknowledgement: u32_at(header, 8),
            flags: Flags(header[13]),
            window: u16_at(header, 14),
            options,
            data: &payload[header_length..],
        })
    }

    fn datagram(&self) -> Result<Datagram<'a>, Malformed> {
        let payload = self.payload();
        let header: &[u8; UDP_HEADER] = payload.first_chunk().ok_or(Malformed::Short)?;
        let length = usize::from(u16_at(header, 4));
        if length < UDP_HEADER {
            return Err(Malformed::Length);
        }
        let datagram = match self.fragment {
            Fragment::Whole => payload.get(..length).ok_or(Malformed::Length)?,
            Fragment::Part { .. } => &payload[..length.min(payload.len())],
        };
        // Without a checksum, which IPv6 does not allow (RFC 8200 §8.1).
        let unsummed = u16_at(header, 6) == 0;
        if unsummed && self.source.is_ipv6() {
            return Err(Malformed::Checksum);
        }
        if !unsummed {
            self.check_sum(datagram)?;
        }
        Ok(Datagram {
            source_port: u16_at(header, 0),
            destination_port: u16_at(header, 2),
            data: &datagram[UDP_HEADER..],
        })
    }

    fn icmp(&self, echo_request: u8) -> Result<Transport<'a>, Malformed> {
        let payload = self.payload();
        let header: &[u8; ICMP_HEADER] = payload.first_chunk().ok_or(Malformed::Short)?;
        match self.source.is_ipv4() {
            true if self.fragment == Fragment::Whole && sum(0, payload) != 0xffff => return Err(Malformed::Checksum),
            true => {}
            false => self.check_sum(payload)?,
        }
        if (header[0], header[1]) != (echo_request, 0) {
            return Ok(Transport::Icmp { kind: header[0], code: header[1] });
        }
        let (id, sequence) = (u16_at(header, 4), u16_at(header, 6));
        Ok(Transport::EchoRequest(Echo { id, sequence, data: &payload[ICMP_HEADER..] }))
    }

    /// Of a fragment it cannot be known.
    fn check_sum(&self, payload: &[u8]) -> Result<(), Malformed> {
        let is_right = self.fragment != Fragment::Whole
            || sum(pseudo_header(self.source, self.destination, self.protocol(), payload.len()), payload) == 0xffff;
        is_right.then_some(()).ok_or(Malformed::Checksum)
    }

    /// May its sender be told that something went wrong with it (RFC 1122 §3.2.2, RFC 4443 §2.4 e)?
    fn is_answerable(&self) -> bool {
        let is_error = match (self.transport, self.source.is_ipv4()) {
            (Transport::Icmp { kind, .. }, true) => matches!(kind, 3 | 4 | 5 | 11 | 12),
            // Redirects too.
            (Transport::Icmp { kind, .. }, false) => kind < 128 || kind == 137,
            (transport, _) => transport == Transport::Rest,
        };
        !is_error && is_a_host(self.source) && !is_a_group(self.destination)
    }
}

impl Segment<'_> {
    /// Does it ask for a new connection?
    pub fn opens(&self) -> bool {
        self.flags.0 & (Flags::SYN.0 | Flags::ACK.0 | Flags::RST.0 | Flags::FIN.0) == Flags::SYN.0
    }

    /// Octets of the sequence space that it takes up.
    fn length(&self) -> u32 {
        let marks = u32::from(self.flags.has(Flags::SYN)) + u32::from(self.flags.has(Flags::FIN));
        // Not longer than an IP packet.
        marks.wrapping_add(u32::try_from(self.data.len()).unwrap_or_default())
    }
}

impl Flags {
    /// The sender is done.
    pub const FIN: Self = Self(0x01);
    /// A new connection.
    pub const SYN: Self = Self(0x02);
    /// The connection does not exist any more.
    pub const RST: Self = Self(0x04);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);

    /// Are all of `others` set?
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let set = names.into_iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| name);
        f.write_str(&set.collect::<Vec<_>>().join("|"))
    }
}

/// The reset that says nobody wants a TCP segment (RFC 9293 §3.10.7.1); `None` for what must not be answered.
pub fn reset(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let Transport::Tcp(segment) = packet.transport else { return None };
    if segment.flags.has(Flags::RST) || !packet.is_answerable() {
        return None;
    }
    let (sequence, acknowledgement, flags) = match segment.flags.has(Flags::ACK) {
        true => (segment.acknowledgement, 0, Flags::RST),
        false => (0, segment.sequence.wrapping_add(segment.length()), Flags(Flags::RST.0 | Flags::ACK.0)),
    };
    let mut header = [0; TCP_HEADER];
    header[0..2].copy_from_slice(&segment.destination_port.to_be_bytes());
    header[2..4].copy_from_slice(&segment.source_port.to_be_bytes());
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    header[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
    header[12] = (TCP_HEADER as u8 / 4) << 4;
    header[13] = flags.0;
    put_sum(&mut header, 16, pseudo_header(packet.destination, packet.source, protocol::TCP, TCP_HEADER));
    ip_packet(packet.destination, packet.source, protocol::TCP, &header)
}

/// The ICMP or ICMPv6 error about `packet`, sent by `from`; `None` for what must not be answered, or when `from` is
/// of another family.
pub fn problem(packet: &Packet<'_>, what: Problem, from: IpAddr) -> Option<Vec<u8>> {
    if !packet.is_answerable() {
        return None;
    }
    let pointer = u32::try_from(packet.protocol_at).unwrap_or_default();
    error(packet.source, packet.octets, what, pointer, from)
}

/// The same about a UDP datagram of which a socket gave the content: the headers in front of it are made anew.
/// Of its `length` octets the first ones suffice as `content`.
pub fn datagram_problem(
    source: SocketAddr,
    destination: SocketAddr,
    content: &[u8],
    length: usize,
    what: Problem,
    from: IpAddr,
) -> Option<Vec<u8>> {
    if !is_a_host(source.ip()) || is_a_group(destination.ip()) {
        return None;
    }
    let udp_length = u16::try_from(UDP_HEADER + length).ok()?;
    let mut udp = Vec::with_capacity(ERROR6_MAX);
    udp.extend(source.port().to_be_bytes());
    udp.extend(destination.port().to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    // The checksum that it had is not known, nor looked at by who gets this.
    udp.extend([0; 2]);
    udp.extend(&content[..content.len().min(length).min(ERROR6_MAX)]);
    let mut quoted = ip_header(source.ip(), destination.ip(), protocol::UDP, udp_length.into())?;
    quoted.extend(udp);
    error(source.ip(), &quoted, what, 6, from)
}

/// The same about an echo request.
pub fn echo_problem(
    source: IpAddr,
    destination: IpAddr,
    echo: Echo<'_>,
    what: Problem,
    from: IpAddr,
) -> Option<Vec<u8>> {
    if !is_a_host(source) || is_a_group(destination) {
        return None;
    }
    let kind = if source.is_ipv4() { 8 } else { 128 };
    let quoted = icmp_packet(source, destination, echo_message(kind, echo))?;
    error(source, &quoted, what, 6, from)
}

/// What an echo request says, for a socket that fills in id and checksum.
pub fn echo_message(kind: u8, echo: Echo<'_>) -> Vec<u8> {
    let mut message = Vec::with_capacity(ICMP_HEADER + echo.data.len());
    message.extend([kind, 0, 0, 0]);
    message.extend(echo.id.to_be_bytes());
    message.extend(echo.sequence.to_be_bytes());
    message.extend(echo.data);
    message
}

/// Reads the echo message of a given type that a socket gives; `None` when it is another one.
pub fn read_echo_message(kind: u8, message: &[u8]) -> Option<Echo<'_>> {
    let (header, data) = message.split_first_chunk::<ICMP_HEADER>()?;
    let is_that = (header[0], header[1]) == (kind, 0);
    is_that.then(|| Echo { id: u16_at(header, 4), sequence: u16_at(header, 6), data })
}

/// The answer of `from` to an echo request that `to` sent; `None` when they are not of one family, or `data` is
/// longer than a packet.
pub fn echo_reply(from: IpAddr, to: IpAddr, echo: Echo<'_>) -> Option<Vec<u8>> {
    let kind = if from.is_ipv4() { 0 } else { 129 };
    icmp_packet(from, to, echo_message(kind, echo))
}

fn error(to: IpAddr, about: &[u8], what: Problem, pointer: u32, from: IpAddr) -> Option<Vec<u8>> {
    let is_v4 = from.is_ipv4();
    let (kind, code, extra) = match (what, is_v4) {
        (Problem::NetworkUnreachable, true) => (3, 0, 0),
        (Problem::HostUnreachable, true) => (3, 1, 0),
        (Problem::ProtocolUnreachable, true) => (3, 2, 0),
        (Problem::PortUnreachable, true) => (3, 3, 0),
        // 16 bits (RFC 1191 §4); a larger one is no problem.
        (Problem::TooBig { mtu }, true) => (3, 4, mtu.min(0xffff)),
        (Problem::Prohibited, true) => (3, 13, 0),
        (Problem::HopLimitExceeded, true) => (11, 0, 0),
        (Problem::NetworkUnreachable, false) => (1, 0, 0),
        (Problem::Prohibited, false) => (1, 1, 0),
        (Problem::HostUnreachable, false) => (1, 3, 0),
        (Problem::PortUnreachable, false) => (1, 4, 0),
        (Problem::TooBig { mtu }, false) => (2, 0, mtu),
        (Problem::HopLimitExceeded, false) => (3, 0, 0),
        (Problem::ProtocolUnreachable, false) => (4, 1, pointer),
    };
    let room = match is_v4 {
        true => ERROR4_MAX - IPV4_HEADER - ICMP_HEADER,
        false => ERROR6_MAX - IPV6_HEADER - ICMP_HEADER,
    };
    let mut message = Vec::with_capacity(ERROR6_MAX);
    message.extend([kind, code, 0, 0]);
    message.extend(extra.to_be_bytes());
    message.extend(&about[..about.len().min(room)]);
    icmp_packet(from, to, message)
}

fn icmp_packet(from: IpAddr, to: IpAddr, mut message: Vec<u8>) -> Option<Vec<u8>> {
    let (protocol, start) = match from.is_ipv4() {
        true => (protocol::ICMP, 0),
        false => (protocol::ICMPV6, pseudo_header(from, to, protocol::ICMPV6, message.len())),
    };
    put_sum(&mut message, 2, start);
    ip_packet(from, to, protocol, &message)
}

fn ip_packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let mut packet = ip_header(from, to, protocol, payload.len())?;
    packet.extend(payload);
    Some(packet)
}

fn ip_header(from: IpAddr, to: IpAddr, protocol: u8, payload: usize) -> Option<Vec<u8>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(IPV4_HEADER + payload).ok()?;
            let mut header = vec![0; IPV4_HEADER];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&length.to_be_bytes());
            header[8] = HOP_LIMIT;
            header[9] = protocol;
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            put_sum(&mut header, 10, 0);
            Some(header)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = Vec::with_capacity(IPV6_HEADER + payload);
            header.extend([0x60, 0, 0, 0]);
            header.extend(u16::try_from(payload).ok()?.to_be_bytes());
            header.extend([protocol, HOP_LIMIT]);
            header.extend(from.octets());
            header.extend(to.octets());
            Some(header)
        }
        _ => None,
    }
}

/// Can it be one host's (RFC 1122 §3.2.2)?
fn is_a_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified() && ip.octets()[0] < 224,
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast(),
    }
}

fn is_a_group(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The part of an upper protocol's checksum that the IP header gives (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> u64 {
    let addresses = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => sum(0, &from.octets()) + sum(0, &to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => sum(0, &from.octets()) + sum(0, &to.octets()),
        _ => 0,
    };
    addresses + u64::from(protocol) + length as u64
}

/// Writes the checksum of `octets` at `at`, where zeros are.
fn put_sum(octets: &mut [u8], at: usize, start: u64) {
    // Folded to 16 bits.
    let sum = !(sum(start, octets) as u16);
    octets[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The one's complement sum (RFC 1071) of `octets` on top of `start`, folded to 16 bits; 0xffff over a right
/// checksum.
fn sum(start: u64, octets: &[u8]) -> u64 {
    let words = octets.chunks_exact(4);
    let mut last = [0; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let sum: u64 = words.map(|word| u64::from(u32_at(word, 0))).sum();
    let mut sum = sum + start + u64::from(u32::from_be_bytes(last));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// Callers have looked that they are there.
fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from(u16_at(octets, at)) << 16 | u32::from(u16_at(octets, at + 2))
}

fn u128_at(octets: &[u8], at: usize) -> u128 {
    (0..4).fold(0, |bits, word| bits << 32 | u128::from(u32_at(octets, at + 4 * word)))
}
