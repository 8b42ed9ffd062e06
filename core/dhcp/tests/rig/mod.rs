//! A client on a link with servers, neighbours, loss and a clock; what it says, as lines.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::frame::{self, BROADCAST};
use dhcp::message::{Kind, Message, Options};
use dhcp::{Begin, Chance, Client, Event, Identity, Lease, Moment, Output};

pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub const START: Moment = Duration::from_secs(100_000);

pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// A generator that always gives the same numbers.
pub fn chance(mut seed: u32) -> Chance {
    Chance::new(move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.rotate_left(16)
    })
}

pub fn identity() -> Identity {
    let client_id = [&[0], &b"0123456789ab"[..]].concat();
    Identity {
        mac: MAC.to_vec().try_into().map(|mac| model::MacAddr::new(mac).unwrap()).unwrap(),
        client_id,
        hostname: Some("web".to_owned()),
    }
}

/// A message of a server, written independently of the client's writer.
pub fn reply(kind: u8, transaction: u32, mac: [u8; 6], yours: Ipv4Addr, options: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut message = vec![0; 236];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[4..8].copy_from_slice(&transaction.to_be_bytes());
    message[16..20].copy_from_slice(&yours.octets());
    message[28..34].copy_from_slice(&mac);
    message.extend([99, 130, 83, 99, 53, 1, kind]);
    for (code, value) in options {
        message.extend([*code, value.len() as u8]);
        message.extend(value);
    }
    message.push(255);
    message
}

/// A frame that a server sends to the client.
pub fn framed(from_mac: [u8; 6], from: Ipv4Addr, to_mac: [u8; 6], message: &[u8]) -> Vec<u8> {
    let mut frame = frame::write_message(from_mac, to_mac, from, Ipv4Addr::BROADCAST, message);
    // A server's ports are the other way round; the checksum does not mind.
    let (a, b) = ([frame[34], frame[35]], [frame[36], frame[37]]);
    frame[34..36].copy_from_slice(&b);
    frame[36..38].copy_from_slice(&a);
    frame
}

/// A DHCP server as they are, and as they are not.
#[derive(Clone)]
pub struct Server {
    pub ip: Ipv4Addr,
    pub mac: [u8; 6],
    /// The next address for who has none.
    pub next: u8,
    pub seconds: u32,
    pub known: BTreeMap<Vec<u8>, Ipv4Addr>,
    pub declined: Vec<Ipv4Addr>,
    pub options: Vec<(u8, Vec<u8>)>,
    /// Does it say anything?
    pub up: bool,
    /// Does it answer a REQUEST by NAK?
    pub refuses: bool,
    /// Does it answer a REQUEST at all?
    pub keeps_word: bool,
}

impl Server {
    pub fn new(n: u8) -> Self {
        Self {
            ip: Ipv4Addr::new(192, 0, 2, n),
            mac: [2, 0, 0, 0, 1, n],
            next: 100,
            seconds: 3600,
            known: BTreeMap::new(),
            declined: Vec::new(),
            options: vec![(1, vec![255, 255, 255, 0]), (3, vec![192, 0, 2, n])],
            up: true,
            refuses: false,
            keeps_word: true,
        }
    }

    fn answer(&mut self, message: &Message<'_>, options: &Options) -> Option<Vec<u8>> {
        let id = options.get(61)?.to_vec();
        let mac = message.mac()?;
        let chosen = options.get(54).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(Ipv4Addr::from);
        let say = |kind, yours| {
            let mut all = vec![(54, self.ip.octets().to_vec())];
            if kind != 6 {
                all.push((51, self.seconds.to_be_bytes().to_vec()));
                all.extend(self.options.clone());
            }
            Some(reply(kind, message.transaction(), mac, yours, &all))
        };
        match options.kind()? {
            Kind::Discover => {
                let wished = options.requested().filter(|wish| wish.octets()[..3] == [192, 0, 2]);
                let fresh = Ipv4Addr::new(192, 0, 2, self.next);
                let usable = |ip: &Ipv4Addr| !self.declined.contains(ip);
                let address = self.known.get(&id).copied().or(wished).filter(usable).unwrap_or(fresh);
                say(2, address)
            }
            Kind::Request if !self.keeps_word || chosen.is_some_and(|chosen| chosen != self.ip) => None,
            Kind::Request if self.refuses => say(6, Ipv4Addr::UNSPECIFIED),
            Kind::Request => {
                let wanted = options.requested().unwrap_or(message.client());
                let known = self.known.get(&id).copied();
                match (chosen, known) {
                    // Not ours to judge.
                    (None, None) => None,
                    (None, Some(known)) if known != wanted => say(6, Ipv4Addr::UNSPECIFIED),
                    _ => {
                        let answer = say(5, wanted);
                        self.known.insert(id, wanted);
                        answer
                    }
                }
            }
            Kind::Decline => {
                self.known.remove(&id);
                self.declined.extend(options.requested());
                self.next += 1;
                None
            }
            Kind::Release if chosen == Some(self.ip) && self.known.get(&id) == Some(&message.client()) => {
                self.known.remove(&id);
                None
            }
            _ => None,
        }
    }
}

/// All of it.
pub struct Rig {
    pub client: Client,
    pub servers: Vec<Server>,
    /// Addresses that neighbours have.
    pub taken: Vec<Ipv4Addr>,
    pub now: Moment,
    pub lines: Vec<String>,
    pub lease: Option<Lease>,
    /// Is this frame lost? Asked of every one, both ways.
    pub lost: Box<dyn FnMut() -> bool>,
}

impl Rig {
    pub fn new(begin: Begin, servers: Vec<Server>) -> Self {
        Self::seeded(begin, servers, 1)
    }

    pub fn seeded(begin: Begin, servers: Vec<Server>, seed: u32) -> Self {
        let lease = if let Begin::Resume(lease) = &begin { Some(lease.clone()) } else { None };
        let client = Client::new(identity(), begin, chance(seed), START);
        let (lines, taken) = (Vec::new(), Vec::new());
        Self { client, servers, taken, now: START, lines, lease, lost: Box::new(|| false) }
    }

    /// Runs until `until` after the start.
    pub fn run(&mut self, until: f64) -> &mut Self {
        let end = START + Duration::from_secs_f64(until);
        self.drain();
        while let Some(next) = self.client.deadline().filter(|next| *next <= end) {
            assert!(next >= self.now, "time goes back");
            self.now = next;
            self.client.handle(Event::Tick, self.now);
            self.drain();
        }
        self.now = end;
        self
    }

    pub fn release(&mut self) {
        self.client.handle(Event::Release, self.now);
        self.drain();
    }

    pub fn hear(&mut self, frame: &[u8]) {
        self.client.handle(Event::Frame(frame), self.now);
        self.drain();
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.client.poll() {
            let line = self.line(&output);
            self.lines.push(format!("{:.3} {line}", (self.now - START).as_secs_f64()));
            match output {
                Output::Frame(frame) => self.carry(&frame),
                Output::Datagram { to, message, .. } => self.serve(to, &message),
                Output::Leased(lease) => self.lease = Some(lease),
                Output::Lost(_) => self.lease = None,
            }
        }
    }

    fn carry(&mut self, frame: &[u8]) {
        if frame[12..14] == [8, 6] {
            let asked = Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]);
            let probes = frame[28..32] == [0; 4];
            if probes && self.taken.contains(&asked) && !(self.lost)() {
                let neighbour = [2, 0, 0, 0, 2, 2];
                let mut answer = frame::write_arp(neighbour, asked, ip("0.0.0.0"));
                answer[21] = 2;
                self.hear(&answer);
            }
            return;
        }
        let to = Ipv4Addr::new(frame[30], frame[31], frame[32], frame[33]);
        assert!(to == Ipv4Addr::BROADCAST || frame[..6] != BROADCAST);
        let length = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
        self.serve(to, &frame[42..34 + length]);
    }

    fn serve(&mut self, to: Ipv4Addr, message: &[u8]) {
        let message = Message::new(message).unwrap();
        let options = message.options().unwrap();
        for n in 0..self.servers.len() {
            let server = &mut self.servers[n];
            if !server.up || to != Ipv4Addr::BROADCAST && to != server.ip || (self.lost)() {
                continue;
            }
            let answer = server.answer(&message, &options).map(|m| framed(server.mac, server.ip, MAC, &m));
            if let Some(answer) = answer.filter(|_| !(self.lost)()) {
                self.client.handle(Event::Frame(&answer), self.now);
            }
        }
    }

    fn line(&self, output: &Output) -> String {
        match output {
            Output::Frame(frame) if frame[12..14] == [8, 6] => {
                let target = Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]);
                let is_probe = frame[28..32] == [0; 4];
                if is_probe { format!("arp probe {target}") } else { format!("arp announces {target}") }
            }
            Output::Frame(frame) => {
                let to = if frame[..6] == BROADCAST { String::new() } else { format!(" by frame to {}", frame[5]) };
                let length = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
                format!("{}{to}", described(&frame[42..34 + length]))
            }
            Output::Datagram { from, to, message } => format!("{} by datagram {from} > {to}", described(message)),
            Output::Leased(lease) => format!("leased {}/{}", lease.address, lease.length),
            Output::Lost(loss) => format!("lost {loss:?}"),
        }
    }

    /// Asserts what was said since the last time.
    pub fn said(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.lines), expected);
    }

    /// As [`Rig::said`], without the times.
    pub fn said_whenever(&mut self, expected: &[&str]) {
        let lines = std::mem::take(&mut self.lines);
        let untimed: Vec<_> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(untimed, expected);
    }
}

fn described(message: &[u8]) -> String {
    let message = Message::new(message).unwrap();
    assert!(!message.is_reply());
    let options = message.options().unwrap();
    assert_eq!(message.mac(), Some(MAC));
    assert_eq!(options.get(61), Some(&identity().client_id[..]));
    let mut text = format!("{:?}", options.kind().unwrap()).to_uppercase();
    for (name, address) in [
        ("has", Some(message.client()).filter(|ip| !ip.is_unspecified())),
        ("wants", options.requested()),
        ("from", options.get(54).map(|v| Ipv4Addr::from(<[u8; 4]>::try_from(v).unwrap()))),
    ] {
        text.extend(address.map(|address| format!(" {name} {address}")));
    }
    text
}
