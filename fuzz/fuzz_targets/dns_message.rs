//! The DNS machine under anything that clients, upstreams, the clock and other commands can do to it.
//!
//! The input is a run of steps: an octet that says what happens, one that says with what, and for messages one with
//! their length, and the message.
#![no_main]
#![allow(clippy::disallowed_methods, reason = "some instant to count from")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use dns::message::{Header, Query};
use dns::{
    Chance, Client, Directory, Event, Limits, Member, Output, Presence, Reach, Server, Socket, Transport, Via,
    ZoneNetwork, Zones,
};
use libfuzzer_sys::fuzz_target;
use model::NetworkId;

/// Small, so that bounds are reached.
const LIMITS: Limits = Limits { in_flight: 6, per_client: 3 };

/// Members of network 1 and of the internal network 3, a stranger on 1, no member, and one of no network at all.
const CLIENTS: [(u8, &str); 6] = [
    (1, "10.89.1.2:4000"),
    (1, "[fd00:1::2]:4001"),
    (3, "10.89.3.2:4000"),
    (1, "10.89.1.77:4000"),
    (1, "192.0.2.9:4000"),
    (9, "10.89.1.2:53"),
];
const INTERNAL: usize = 2;
const STRANGERS: usize = 4;

fn id(n: u8) -> NetworkId {
    NetworkId::from_bytes([n; 32])
}

fn network(n: u8, reach: Reach) -> ZoneNetwork {
    let subnets = [format!("10.89.{n}.0/24"), format!("fd00:{n}::/64")].map(|text| text.parse().expect("a subnet"));
    ZoneNetwork {
        id: id(n),
        name: format!("net{n}").parse().expect("a name"),
        subnets: subnets.to_vec(),
        gateways: vec![format!("10.89.{n}.1").parse().expect("an address")],
        reach,
        upstreams: Vec::new(),
    }
}

fn member(n: u8, host: u8, names: &[&str]) -> Member {
    let addresses =
        [format!("10.89.{n}.{host}"), format!("fd00:{n}::{host}")].map(|ip| ip.parse().expect("an address"));
    let names = names.iter().map(|name| name.parse().expect("a name")).collect();
    Member { upstreams: Vec::new(), presences: vec![Presence { network: id(n), addresses: addresses.to_vec(), names }] }
}

/// With the way out of network 1, and without.
static ZONES: LazyLock<[Arc<Zones>; 2]> = LazyLock::new(|| [Reach::Outside, Reach::Internal].map(zones));

fn zones(reach: Reach) -> Arc<Zones> {
    let mut members = vec![member(1, 2, &["web", "www"]), member(1, 3, &["db"]), member(3, 2, &["vault"])];
    members.extend((4..77).map(|host| member(1, host, &["many", "many.more"])));
    Arc::new(Zones::new(&Directory {
        networks: vec![network(1, reach), network(3, Reach::Internal)],
        members,
        upstreams: ["192.0.2.1:53", "192.0.2.2:53"].map(|ip| ip.parse().expect("an address")).to_vec(),
        ..Directory::new("dns.podman".parse().expect("a name"))
    }))
}

/// The machine, its sockets, and what its clients wait for.
struct Rig {
    server: Server,
    now: Instant,
    open: Vec<(Socket, SocketAddr, Vec<u8>)>,
    /// Questions of each client that may still be answered, by their ids.
    waiting: HashMap<(usize, u64), Vec<(u16, usize)>>,
    closed: bool,
    outsiders_asked: bool,
}

impl Rig {
    fn handle(&mut self, event: Event<'_>) {
        self.server.handle(event, self.now);
        self.drain();
        assert!(self.server.deadline().is_none_or(|deadline| deadline > self.now), "it would wake at once, for ever");
        assert!(self.server.in_flight() <= LIMITS.in_flight && self.open.len() <= 2 * LIMITS.in_flight);
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll() {
            match output {
                Output::Send { to, message } => self.sent(&to, &message),
                Output::Ask { socket, to, message, .. } => {
                    assert!(!self.closed && self.outsiders_asked, "nobody with a way out asked");
                    assert!(self.open.iter().all(|(open, ..)| open.index() != socket.index()), "{socket:?} is open");
                    let header = Header::parse(&message).expect("a header");
                    assert!(!header.is_response() && Query::parse(header, &message).is_ok());
                    self.open.push((socket, to, message));
                }
                Output::Close { socket } => {
                    let at = self.open.iter().position(|(open, ..)| *open == socket);
                    self.open.remove(at.expect("closed twice, or never opened"));
                }
            }
        }
    }

    /// Each question is answered once, to whom asked it, with what they can take.
    fn sent(&mut self, to: &Client, message: &[u8]) {
        let (number, _) = CLIENTS
            .iter()
            .enumerate()
            .find(|(_, (n, address))| to.network == id(*n) && to.address == address.parse().expect("an address"))
            .expect("one of the clients");
        assert!(number < STRANGERS, "a stranger is answered");
        let header = Header::parse(message).expect("a header");
        assert!(header.is_response());
        let waiting = self.waiting.entry((number, connection(to.via))).or_default();
        let at = waiting.iter().position(|(id, limit)| *id == header.id && message.len() <= *limit);
        waiting
            .swap_remove(at.unwrap_or_else(|| panic!("{} octets to {to:?}, who waits for {waiting:?}", message.len())));
    }

    fn ask(&mut self, with: u8, message: &[u8]) {
        let number = usize::from(with) % CLIENTS.len();
        let (network, address) = CLIENTS[number];
        let via = match with & 0x80 {
            0 => Via::Udp { listener: 0 },
            _ => Via::Tcp { connection: u64::from(with & 0x40) },
        };
        if let Some(header) = Header::parse(message) {
            self.waiting.entry((number, connection(via))).or_default().push((header.id, allowed(header, message, via)));
        }
        self.outsiders_asked |= number != INTERNAL && number < STRANGERS;
        let client = Client { network: id(network), address: address.parse().expect("an address"), via };
        self.handle(Event::Asked { client, message });
    }

    /// `message` behind the header and question that were sent, so that it is more than noise; or alone.
    fn answer(&mut self, with: u8, message: &[u8]) {
        let Some((socket, from, asked)) = self.open.get(usize::from(with & 0x0f)).cloned() else { return };
        let mut answer = message.to_vec();
        if let (0, Some(flags)) = (with & 0x80, message.get(..8)) {
            // Their flags and counts, our id and question.
            answer = [&asked[..2], &[flags[0] | 0x80], &flags[1..2], &asked[4..6], &flags[2..8], &asked[12..]].concat();
            answer.extend(&message[8..]);
        }
        let from = if with & 0x40 == 0 { from } else { "192.0.2.7:53".parse().expect("an address") };
        self.handle(Event::Answered { socket, from, message: &answer });
    }
}

fn connection(via: Via) -> u64 {
    match via {
        Via::Udp { .. } => u64::MAX,
        Via::Tcp { connection } => connection,
    }
}

fn allowed(header: Header, message: &[u8], via: Via) -> usize {
    match (via.transport(), Query::parse(header, message).ok().and_then(|query| query.edns)) {
        (Transport::Tcp, _) => 65_535,
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(edns)) => usize::from(edns.payload).clamp(512, 1232),
    }
}

/// The first octets, and the rest.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count.min(bytes.len()));
    *bytes = rest;
    taken
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut id = 0_u16;
    let chance = Chance::new(move || {
        id = id.wrapping_add(0x1357);
        id
    });
    let mut rig = Rig {
        server: Server::new(Arc::clone(&ZONES[0]), LIMITS, chance),
        now: Instant::now(),
        open: Vec::new(),
        waiting: HashMap::new(),
        closed: false,
        outsiders_asked: false,
    };
    while let [what, with, more @ ..] = rest {
        rest = more;
        let mut message = || {
            let length = take(&mut rest, 1).first().map_or(0, |length| usize::from(*length));
            take(&mut rest, length)
        };
        match what % 8 {
            0..=2 => rig.ask(*with, message()),
            3 | 4 => rig.answer(*with, message()),
            5 => match rig.open.get(usize::from(with & 0x0f)) {
                Some((socket, ..)) => rig.handle(Event::Failed { socket: *socket }),
                None => {
                    let connection = u64::from(with & 0x40);
                    rig.waiting.retain(|(_, on), _| *on != connection);
                    rig.handle(Event::Gone { connection });
                }
            },
            6 => {
                rig.now += Duration::from_millis(u64::from(*with) * 20);
                rig.handle(Event::Tick);
            }
            _ => {
                rig.closed = with % 2 == 1;
                rig.server.follow(Arc::clone(&ZONES[usize::from(rig.closed)]), rig.now);
                rig.drain();
            }
        }
    }
    // Whatever is still asked for ends, by itself, soon.
    for _ in 0..1_000 {
        let Some(deadline) = rig.server.deadline() else { break };
        rig.now = rig.now.max(deadline);
        rig.handle(Event::Tick);
    }
    assert!(rig.server.in_flight() == 0 && rig.open.is_empty(), "{} sockets are left", rig.open.len());
});
