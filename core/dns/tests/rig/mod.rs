//! A small host to serve, messages as text, and the machine with its clock.
//!
//! Questions are written by hand and answers read by hickory-proto, so that no test trusts our own codec.
#![allow(dead_code, unreachable_pub, reason = "each test file includes it and uses its part")]
#![allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]

pub mod hostile;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns::{
    Chance, Client, Directory, Event, Limits, Member, Output, Presence, Reach, Server, Socket, Transport, Via,
    ZoneNetwork, Zones,
};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use model::NetworkId;

pub fn network_id(n: u8) -> NetworkId {
    NetworkId::from_bytes([n; 32])
}

pub fn network(n: u8, reach: Reach) -> ZoneNetwork {
    ZoneNetwork {
        id: network_id(n),
        name: format!("net{n}").parse().unwrap(),
        subnets: vec![format!("10.89.{n}.0/24").parse().unwrap(), format!("fd00:{n}::/64").parse().unwrap()],
        gateways: vec![format!("10.89.{n}.1").parse().unwrap()],
        reach,
        upstreams: Vec::new(),
    }
}

/// Host number `host` on each of the networks, under the same names everywhere; with IPv6 below 100.
pub fn member(networks: &[u8], host: u8, names: &[&str]) -> Member {
    let ips = |n: u8| {
        let v6 = (host < 100).then(|| format!("fd00:{n}::{host}"));
        [format!("10.89.{n}.{host}")].into_iter().chain(v6).map(|text| text.parse().unwrap()).collect()
    };
    let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
    let presence = |&n: &u8| Presence { network: network_id(n), addresses: ips(n), names: names.clone() };
    Member { upstreams: Vec::new(), presences: networks.iter().map(presence).collect() }
}

pub const UP1: &str = "192.0.2.1:53";
pub const UP2: &str = "192.0.2.2:53";

/// web on 1 and 2, db on 1, v4only on 1, 150 × many on 1, vault on the internal 3; two upstreams.
pub fn directory() -> Directory {
    let mut members = vec![
        member(&[1, 2], 2, &["web", "www", "0123456789ab"]),
        member(&[1], 3, &["db", "www"]),
        member(&[1], 100, &["v4only"]),
        member(&[3], 2, &["vault"]),
    ];
    members.extend((101..251).map(|host| member(&[1], host, &["many"])));
    Directory {
        networks: vec![network(1, Reach::Outside), network(2, Reach::Outside), network(3, Reach::Internal)],
        members,
        upstreams: vec![UP1.parse().unwrap(), UP2.parse().unwrap()],
        ..Directory::new("dns.podman".parse().unwrap())
    }
}

/// Not random at all, which makes tests repeatable: xorshift (Marsaglia 2003).
pub fn seeded(seed: u64) -> impl FnMut() -> u64 + Send + 'static {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

pub fn chance(seed: u64) -> Chance {
    let mut next = seeded(seed);
    Chance::new(move || (next() >> 16) as u16)
}

/// `db A edns=1232 do ad cd id=7 class=3`: a query with RD, id 0x1234.
pub fn question(text: &str) -> Vec<u8> {
    let mut words = text.split(' ');
    let (name, kind) = (words.next().unwrap(), words.next().unwrap());
    let (mut id, mut class, mut edns, mut flags) = (0x1234_u16, 1_u16, None, 0x0100_u16);
    let (mut version, mut dnssec_ok) = (0, 0);
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("id", n) => id = n.parse().unwrap(),
            ("class", n) => class = n.parse().unwrap(),
            ("edns", n) => edns = Some(n.parse::<u16>().unwrap()),
            ("version", n) => version = n.parse().unwrap(),
            ("do", _) => dnssec_ok = 0x80,
            ("ad", _) => flags |= 0x20,
            ("cd", _) => flags |= 0x10,
            ("norec", _) => flags &= !0x0100,
            _ => panic!("{word}"),
        }
    }
    let mut message: Vec<u8> =
        [id, flags, 1, 0, 0, u16::from(edns.is_some())].into_iter().flat_map(u16::to_be_bytes).collect();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    let kind = kind.parse::<RecordType>().map(u16::from).unwrap_or_else(|_| kind.parse().unwrap());
    message.push(0);
    message.extend([kind, class].into_iter().flat_map(u16::to_be_bytes));
    if let Some(payload) = edns {
        message.extend([0, 0, 41]);
        message.extend(payload.to_be_bytes());
        message.extend([0, version, dnssec_ok, 0, 0, 0]);
    }
    message
}

/// `NOERROR aa | db. A 10.89.1.3`: code, flags, then answers, authority (`!`), OPT. RA is expected, RD not shown.
pub fn show(message: &[u8]) -> String {
    let read = Message::from_vec(message).unwrap_or_else(|e| panic!("{e}: {message:02x?}"));
    let head = &read.metadata;
    assert!(head.recursion_available, "RA is missing");
    let code = match head.response_code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        // 16 is also BADSIG, in TSIG records.
        ResponseCode::BADVERS | ResponseCode::BADSIG => "BADVERS".to_owned(),
        other => format!("{other:?}"),
    };
    let flags = [
        (head.authoritative, "aa"),
        (head.truncation, "tc"),
        (head.authentic_data, "ad"),
        (head.checking_disabled, "cd"),
    ];
    let mut text = flags.iter().filter(|(set, _)| *set).fold(code, |text, (_, flag)| text + " " + flag);
    for record in &read.answers {
        text += &format!(" | {}", show_record(record));
    }
    for record in &read.authorities {
        text += &format!(" | ! {}", show_record(record));
    }
    if let Some(edns) = &read.edns {
        let dnssec_ok = if edns.flags().dnssec_ok { " do" } else { "" };
        text += &format!(" | edns={}{dnssec_ok}", edns.max_payload());
    }
    text
}

fn show_record(record: &Record) -> String {
    let data = match &record.data {
        RData::SOA(soa) => format!("{} {} {}", soa.mname, soa.rname, soa.minimum),
        other => other.to_string(),
    };
    let ttl = if record.ttl == 0 { String::new() } else { format!(" {}", record.ttl) };
    format!("{}{ttl} {} {data}", record.name, record.record_type())
}

/// The machine, its clock and what it has asked for.
pub struct Rig {
    pub server: Server,
    pub start: Instant,
    pub now: Instant,
    /// Open sockets, oldest first, with what was sent.
    pub open: Vec<(Socket, SocketAddr, Transport, Vec<u8>)>,
}

impl Rig {
    pub fn new(directory: &Directory) -> Self {
        Self::with(directory, Limits::default())
    }

    pub fn with(directory: &Directory, limits: Limits) -> Self {
        let server = Server::new(Arc::new(Zones::new(directory)), limits, chance(1));
        let now = Instant::now();
        Self { server, start: now, now, open: Vec::new() }
    }

    /// Passes `event`; returns what happens, in words.
    pub fn handle(&mut self, event: Event<'_>) -> Vec<String> {
        self.server.handle(event, self.now);
        self.drain()
    }

    pub fn drain(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(output) = self.server.poll() {
            words.push(match output {
                Output::Send { to, message } => {
                    assert!(message.len() <= if to.via.transport() == Transport::Udp { 1232 } else { 65535 });
                    format!("{} {}", to.address.ip(), show(&message))
                }
                Output::Ask { socket, to, transport, message } => {
                    assert!(self.open.iter().all(|open| open.0.index() != socket.index()), "{socket:?} is open");
                    self.open.push((socket, to, transport, message));
                    format!("ask {} by {transport:?}", to.ip())
                }
                Output::Close { socket } => {
                    let at = self.open.iter().position(|open| open.0 == socket).expect("an open socket");
                    format!("close {}", self.open.remove(at).1.ip())
                }
            });
        }
        words
    }

    /// A datagram from `source` to the listener of its network (the third octet's).
    pub fn ask_from(&mut self, source: &str, text: &str) -> Vec<String> {
        self.asked(source, Via::Udp { listener: 0 }, &question(text))
    }

    pub fn asked(&mut self, source: &str, via: Via, message: &[u8]) -> Vec<String> {
        self.handle(Event::Asked { client: client(source, via), message })
    }

    pub fn tick_at(&mut self, milliseconds: u64) -> Vec<String> {
        self.now = self.start + Duration::from_millis(milliseconds);
        self.handle(Event::Tick)
    }

    /// The open socket to `upstream` answers with what `change` makes of an empty NOERROR answer.
    pub fn answer(&mut self, upstream: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let (socket, from, _, asked) = self.socket_to(upstream);
        let mut message = asked;
        message[2] |= 0x80;
        message[3] |= 0x80;
        change(&mut message);
        self.handle(Event::Answered { socket, from, message: &message })
    }

    pub fn socket_to(&self, upstream: &str) -> (Socket, SocketAddr, Transport, Vec<u8>) {
        let upstream: SocketAddr = upstream.parse().unwrap();
        self.open.iter().rev().find(|open| open.1 == upstream).expect("asked").clone()
    }
}

pub fn client(source: &str, via: Via) -> Client {
    let ip: IpAddr = source.parse().unwrap();
    let n = match ip {
        IpAddr::V4(ip) => ip.octets()[2],
        IpAddr::V6(ip) => ip.octets()[3],
    };
    Client { network: network_id(n), address: SocketAddr::new(ip, 40_000), via }
}

/// Adds an A record of the question's name, TTL 300, to an answer without EDNS.
pub fn with_address(message: &mut Vec<u8>) {
    message[7] += 1;
    message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xc6\x33\x64\x07");
}

pub fn with_code(code: u8) -> impl FnOnce(&mut Vec<u8>) {
    move |message| message[3] = message[3] & 0xf0 | code
}

pub fn with_truncation() -> impl FnOnce(&mut Vec<u8>) {
    |message| message[2] |= 0x02
}
