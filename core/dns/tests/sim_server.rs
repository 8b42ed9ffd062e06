//! The machine in a simulated host: a clock, one processor with a price for everything, a socket buffer that
//! overflows, upstreams with latency and loss, and a seed. A minute passes in a moment, the same every time.

#![allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]

mod rig;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns::{Client, Directory, Event, Limits, Output, Server, Socket, Via, Zones};
use rig::{UP1, UP2, directory, member, question, with_address};

/// What the shell pays on one slow core: a datagram in or out, a socket made and sent on, a socket closed.
const DATAGRAM: Duration = Duration::from_micros(5);
const OPEN: Duration = Duration::from_micros(40);
const CLOSE: Duration = Duration::from_micros(10);

/// Datagrams that wait for a busy machine; the next one is lost.
const BUFFER: usize = 256;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// How an upstream behaves.
#[derive(Clone, Copy)]
enum Upstream {
    Silent,
    /// Nobody listens: the network says so.
    Refusing,
    /// `loss` per thousand, each way.
    Answers {
        latency: (u64, u64),
        loss: u64,
    },
}

enum Action {
    Datagram { client: Client, message: Vec<u8> },
    Answer { socket: Socket, from: SocketAddr, message: Vec<u8> },
    Refused { socket: Socket },
    Follow(Arc<Zones>),
    Become(SocketAddr, Upstream),
}

/// When, and in which order among those of the same time.
type Slot = Reverse<(Duration, u64)>;

/// One query and how it went.
struct Asked {
    text: String,
    at: Duration,
    answers: Vec<(Duration, Vec<u8>)>,
}

impl Asked {
    fn took(&self) -> Option<Duration> {
        self.answers.first().map(|(at, _)| *at - self.at)
    }

    fn code(&self) -> Option<u8> {
        self.answers.first().map(|(_, message)| message[3] & 0xf)
    }
}

struct Sim {
    server: Server,
    start: Instant,
    random: Box<dyn FnMut() -> u64>,
    sequence: u64,
    slots: BinaryHeap<Slot>,
    actions: HashMap<u64, Action>,
    waiting: VecDeque<Action>,
    /// Until then the processor is busy.
    busy: Duration,
    upstreams: BTreeMap<SocketAddr, Upstream>,
    open: HashMap<Socket, SocketAddr>,
    most_open: usize,
    asked: Vec<Asked>,
    by_client: HashMap<(SocketAddr, [u8; 2]), usize>,
    overflowed: u64,
}

impl Sim {
    fn new(seed: u64, directory: &Directory) -> Self {
        let server = Server::new(Arc::new(Zones::new(directory)), Limits::default(), rig::chance(seed));
        Self {
            server,
            start: Instant::now(),
            random: Box::new(rig::seeded(seed + 1)),
            sequence: 0,
            slots: BinaryHeap::new(),
            actions: HashMap::new(),
            waiting: VecDeque::new(),
            busy: Duration::ZERO,
            upstreams: BTreeMap::new(),
            open: HashMap::new(),
            most_open: 0,
            asked: Vec::new(),
            by_client: HashMap::new(),
            overflowed: 0,
        }
    }

    fn at(&mut self, at: Duration, action: Action) {
        self.sequence += 1;
        self.actions.insert(self.sequence, action);
        self.slots.push(Reverse((at, self.sequence)));
    }

    fn next(&mut self) -> u64 {
        (self.random)()
    }

    fn become_at(&mut self, at: Duration, upstream: &str, upstream_is: Upstream) {
        self.at(at, Action::Become(upstream.parse().unwrap(), upstream_is));
    }

    /// `source` asks from a port of its own.
    fn ask(&mut self, at: Duration, source: &str, text: &str) {
        let n = self.asked.len();
        let mut client = rig::client(source, Via::Udp { listener: 0 });
        client.address.set_port((1024 + n % 60_000) as u16);
        let message = question(&format!("{text} id={}", n / 60_000));
        self.by_client.insert((client.address, [message[0], message[1]]), n);
        self.asked.push(Asked { text: text.to_owned(), at, answers: Vec::new() });
        self.at(at, Action::Datagram { client, message });
    }

    /// Until nothing is left to happen.
    fn run(&mut self) {
        loop {
            let event = self.slots.peek().map(|Reverse((at, _))| *at);
            let tick = self.server.deadline().map(|deadline| deadline - self.start);
            let ready = if self.waiting.is_empty() { tick.map(|tick| tick.max(self.busy)) } else { Some(self.busy) };
            match (event, ready) {
                (None, None) => return,
                (Some(event), ready) if ready.is_none_or(|ready| event < ready) => self.arrive(),
                (_, Some(ready)) => self.work(ready),
                (Some(_), None) => unreachable!("an event without work is taken above"),
            }
        }
    }

    /// The world's turn.
    fn arrive(&mut self) {
        let Some(Reverse((at, number))) = self.slots.pop() else { return };
        match self.actions.remove(&number) {
            Some(Action::Become(upstream, upstream_is)) => drop(self.upstreams.insert(upstream, upstream_is)),
            Some(Action::Follow(zones)) => self.waiting.push_front(Action::Follow(zones)),
            Some(action) if self.waiting.len() < BUFFER => self.waiting.push_back(action),
            Some(_) => self.overflowed += 1,
            None => {}
        }
        self.busy = self.busy.max(at);
    }

    /// The machine's turn.
    fn work(&mut self, at: Duration) {
        let now = self.start + at;
        self.busy = at + DATAGRAM;
        match self.waiting.pop_front() {
            Some(Action::Datagram { client, message }) => {
                self.server.handle(Event::Asked { client, message: &message }, now);
            }
            // A socket that is closed by now gets nothing.
            Some(Action::Answer { socket, from, message }) if self.open.contains_key(&socket) => {
                self.server.handle(Event::Answered { socket, from, message: &message }, now);
            }
            Some(Action::Refused { socket }) if self.open.contains_key(&socket) => {
                self.server.handle(Event::Failed { socket }, now);
            }
            Some(Action::Follow(zones)) => self.server.follow(zones, now),
            Some(_) => {}
            None => self.server.handle(Event::Tick, now),
        }
        while let Some(output) = self.server.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { to, message } => {
                self.busy += DATAGRAM;
                let asked = self.by_client[&(to.address, [message[0], message[1]])];
                self.asked[asked].answers.push((self.busy, message));
            }
            Output::Ask { socket, to, message, .. } => {
                self.busy += OPEN;
                assert!(self.open.insert(socket, to).is_none());
                self.most_open = self.most_open.max(self.open.len());
                self.upstream_takes(socket, to, message);
            }
            Output::Close { socket } => {
                self.busy += CLOSE;
                assert!(self.open.remove(&socket).is_some());
            }
        }
    }

    fn upstream_takes(&mut self, socket: Socket, to: SocketAddr, mut message: Vec<u8>) {
        match self.upstreams[&to] {
            Upstream::Silent => {}
            Upstream::Refusing => self.at(self.busy + DATAGRAM, Action::Refused { socket }),
            Upstream::Answers { latency: (least, most), loss } => {
                let lost = self.next() % 1000 < loss || self.next() % 1000 < loss;
                let latency = Duration::from_micros(1000 * least + self.next() % (1000 * (most - least) + 1));
                message[2] |= 0x80;
                message[3] |= 0x80;
                with_address(&mut message);
                if !lost {
                    self.at(self.busy + latency, Action::Answer { socket, from: to, message });
                }
            }
        }
    }

    /// What must hold after every run: one answer each, in time, and nothing left.
    #[track_caller]
    fn check(&self) {
        for asked in &self.asked {
            assert_eq!(asked.answers.len(), 1, "{} asked at {:?}", asked.text, asked.at);
            assert!(asked.took() <= Some(ms(4_100)), "{} took {:?}", asked.text, asked.took());
        }
        assert_eq!((self.open.len(), self.server.in_flight(), self.overflowed), (0, 0, 0));
        assert!(self.most_open <= 512);
    }

    fn of<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Asked> {
        self.asked.iter().filter(move |asked| asked.text == text)
    }
}

const FAST: Upstream = Upstream::Answers { latency: (5, 30), loss: 0 };

#[test]
fn a_silent_first_upstream_costs_a_moment_and_then_nothing() {
    let mut sim = Sim::new(1, &directory());
    sim.become_at(ms(0), UP1, Upstream::Silent);
    sim.become_at(ms(0), UP2, FAST);
    (1..3_000).for_each(|n| sim.ask(ms(20 * n), "10.89.1.2", "example.com A"));
    sim.run();
    sim.check();
    let slow: Vec<_> = sim.of("example.com A").filter(|asked| asked.took() > Some(ms(100))).collect();
    let early = slow.iter().filter(|asked| asked.at < ms(600)).count();
    assert!(early >= 20, "until the silence is noticed, half a second: {early}");
    assert!(slow.len() - early <= 4, "later, one query a pause: {}", slow.len() - early);
    assert!(sim.asked.iter().all(|asked| asked.code() == Some(0) && asked.took() < Some(ms(600))));
}

#[test]
fn an_upstream_that_comes_back_is_used_again() {
    let mut sim = Sim::new(2, &directory());
    sim.become_at(ms(0), UP1, Upstream::Refusing);
    sim.become_at(ms(0), UP2, FAST);
    sim.become_at(ms(10_000), UP1, FAST);
    sim.become_at(ms(30_000), UP2, Upstream::Silent);
    (1..4_000).for_each(|n| sim.ask(ms(10 * n), "10.89.1.2", "example.com A"));
    sim.run();
    sim.check();
    assert!(sim.asked.iter().all(|asked| asked.code() == Some(0) && asked.took() < Some(ms(100))));
}

#[test]
fn local_names_are_answered_whatever_is_asked_outside() {
    let mut sim = Sim::new(3, &directory());
    sim.become_at(ms(0), UP1, Upstream::Silent);
    sim.become_at(ms(0), UP2, Upstream::Silent);
    // 10 s of 10,000 outside names a second from four clients, and 500 local ones from a fifth.
    for n in 0..100_000_u64 {
        let source = ["10.89.1.2", "10.89.1.100", "10.89.1.150", "10.89.2.2"][(n % 4) as usize];
        sim.ask(Duration::from_micros(100 * n + 1), source, &format!("x{}.example.com A", n % 1000));
    }
    (0..5_000).for_each(|n| sim.ask(Duration::from_micros(2_000 * n + 7), "10.89.1.3", "web A"));
    sim.run();
    sim.check();
    let in_time = |asked: &&Asked| asked.code() == Some(0) && asked.took() < Some(ms(10));
    assert!(sim.of("web A").filter(in_time).count() >= 4_995);
    assert_eq!(sim.server.counts().local, 5_000);
}

#[test]
fn under_a_flood_of_one_client_others_still_reach_outside() {
    let mut sim = Sim::new(4, &directory());
    let mut directory = directory();
    directory.members[0].upstreams = vec!["192.0.2.66:53".parse().unwrap()];
    sim.at(ms(0), Action::Follow(Arc::new(Zones::new(&directory))));
    sim.become_at(ms(0), "192.0.2.66:53", Upstream::Silent);
    sim.become_at(ms(0), UP1, FAST);
    (1..50_000)
        .for_each(|n| sim.ask(Duration::from_micros(200 * n), "10.89.1.2", &format!("x{}.example.com A", n % 1000)));
    (1..1_000).for_each(|n| sim.ask(ms(10 * n), "10.89.1.3", "example.com A"));
    sim.run();
    sim.check();
    assert!(sim.of("example.com A").all(|asked| asked.code() == Some(0) && asked.took() < Some(ms(60))));
}

#[test]
fn no_query_is_lost_while_members_come_and_go_twenty_times_a_second() {
    for seed in 0..5 {
        let mut sim = Sim::new(seed, &directory());
        sim.become_at(ms(0), UP1, Upstream::Answers { latency: (1, 80), loss: 0 });
        let mut with = directory();
        with.members.push(member(&[1], 9, &["guest"]));
        let zones = [Arc::new(Zones::new(&with)), Arc::new(Zones::new(&directory()))];
        for n in 0..200 {
            sim.at(ms(50 * n), Action::Follow(Arc::clone(&zones[(n % 2) as usize])));
            // Just after it came, or went.
            sim.ask(ms(50 * n + 1), "10.89.1.3", if n % 2 == 0 { "guest A" } else { "guest.dns.podman A" });
        }
        for n in 0..10_000 {
            let text = ["db A", "web AAAA", "example.com A", "guest A"][(n % 4) as usize];
            sim.ask(Duration::from_micros(1_000 * n + 333), "10.89.1.2", text);
        }
        sim.run();
        sim.check();
        assert!(sim.of("db A").chain(sim.of("web AAAA")).all(|asked| asked.took() < Some(ms(1))));
        for asked in sim.asked.iter().take(200) {
            let gone = asked.text == "guest.dns.podman A";
            assert_eq!((asked.code(), asked.took() < Some(ms(1))), (Some(if gone { 3 } else { 0 }), true));
        }
    }
}

#[test]
fn every_query_is_answered_once_over_networks_that_lose_a_fifth() {
    for seed in 0..20 {
        let mut sim = Sim::new(seed, &directory());
        sim.become_at(ms(0), UP1, Upstream::Answers { latency: (1, 300), loss: 200 });
        sim.become_at(ms(0), UP2, Upstream::Answers { latency: (1, 700), loss: 200 });
        (1..1_000).for_each(|n| sim.ask(ms(25 * n), "10.89.1.2", "example.com A"));
        sim.run();
        sim.check();
        let good = sim.asked.iter().filter(|asked| asked.code() == Some(0)).count();
        assert!(good >= 975, "seed {seed}: {good}");
    }
}

#[test]
fn an_internal_network_asks_nobody_whatever_happens_around_it() {
    // No upstream is there: to ask one would panic.
    let mut sim = Sim::new(6, &directory());
    for n in 0..2_000 {
        sim.ask(
            ms(n),
            "10.89.3.2",
            ["example.com A", "web A", "8.8.8.8.in-addr.arpa PTR", "vault A"][(n % 4) as usize],
        );
    }
    (0..20).for_each(|n| sim.at(ms(100 * n), Action::Follow(Arc::new(Zones::new(&directory())))));
    sim.run();
    sim.check();
    assert_eq!((sim.most_open, sim.server.counts().asked), (0, 0));
}
