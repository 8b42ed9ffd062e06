//! The relay's tables under any order of what containers send, the outside answers, and time: bounds hold, what is told to
//! end was there, and where flows go is never the host's loopback unless that was meant.
#![no_main]
#![allow(clippy::disallowed_methods, reason = "some instant to count from")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use relay_core::flows::{Direction, Exchange, FlowId, Flows, Limits};
use relay_core::syns::{Bounds, Offer, Syns};
use relay_core::target::{Protocol, Settings, Targets};

const LIMITS: Limits = Limits { all: 6, per_source: 3, new_per_second: 20 };
const BOUNDS: Bounds = Bounds {
    all: 6,
    sender: 3,
    shed_per_second: 2,
    patience: Duration::from_secs(5),
    handshake: Duration::from_secs(2),
};

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Debug, Arbitrary)]
enum Step {
    Datagram { source: u8, key: u8, question: bool },
    Went { nth: u8, inward: bool },
    Close { nth: u8 },
    Syn { source: u8, port: u8, sequence: u8 },
    Release { nth: u8 },
    Answer { nth: u8 },
    Wait { ms: u16 },
    Go { to: IpAddr, port: u16, udp: bool, meant: bool },
}

struct Rig {
    flows: Flows<u8, u8>,
    open: BTreeMap<FlowId, u8>,
    syns: Syns<u32>,
    held: BTreeMap<(SocketAddr, SocketAddr), u32>,
    next: u32,
    now: Instant,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut rig = Rig {
        flows: Flows::new(LIMITS),
        open: BTreeMap::new(),
        syns: Syns::new(BOUNDS),
        held: BTreeMap::new(),
        next: 0,
        now: *BEGIN,
    };
    for step in steps {
        rig.take(step);
        assert!(rig.flows.len() <= LIMITS.all && rig.flows.len() == rig.open.len());
        assert!(rig.syns.len() <= BOUNDS.all && rig.syns.len() == rig.held.len());
        assert_eq!(rig.flows.deadline().is_some(), !rig.open.is_empty());
        assert_eq!(rig.syns.deadline().is_some(), !rig.held.is_empty());
    }
});

impl Rig {
    fn take(&mut self, step: Step) {
        let nth_flow = |nth: u8| self.open.keys().nth(nth.into()).copied();
        let nth_syn = |nth: u8| self.held.keys().nth(nth.into()).copied();
        match step {
            Step::Datagram { source, key, question } => self.datagram(source % 4, key % 16, question),
            Step::Went { nth, inward } => {
                let direction = if inward { Direction::Inward } else { Direction::Outward };
                nth_flow(nth).into_iter().for_each(|flow| self.flows.went(flow, direction, self.now));
            }
            Step::Close { nth } => {
                let Some(flow) = nth_flow(nth) else { return };
                assert_eq!(self.flows.close(flow), self.open.remove(&flow));
                assert_eq!(self.flows.close(flow), None);
            }
            Step::Syn { source, port, sequence } => self.syn(source % 4, port % 8, sequence.into()),
            Step::Release { nth } => {
                let Some(ends) = nth_syn(nth) else { return };
                let octets = self.syns.release(&ends, self.now).map(<[u8]>::to_vec);
                assert!(octets.is_none_or(|octets| octets == [1, 2, 3]));
            }
            Step::Answer { nth } => {
                let Some(ends) = nth_syn(nth) else { return };
                assert_eq!(self.syns.take(&ends), self.held.remove(&ends));
            }
            Step::Wait { ms } => {
                self.now += Duration::from_millis(ms.into());
                while let Some((flow, key)) = self.flows.expired(self.now) {
                    assert_eq!(self.open.remove(&flow), Some(key));
                }
                while let Some(what) = self.syns.take_overdue(self.now) {
                    self.let_go(what);
                }
                assert!(self.flows.deadline().is_none_or(|deadline| deadline > self.now));
                assert!(self.syns.deadline().is_none_or(|deadline| deadline > self.now));
            }
            Step::Go { to, port, udp, meant } => go(to, port, udp, meant),
        }
    }

    fn datagram(&mut self, source: u8, key: u8, question: bool) {
        let key = source * 16 + key;
        if self.flows.find(&key).is_some() || !self.flows.admit(source, self.now) {
            return;
        }
        let exchange = if question { Exchange::Question } else { Exchange::Open };
        let opened = self.flows.open(key, source, exchange, self.now);
        if let Some((gone, key)) = opened.instead_of {
            assert_eq!(self.open.remove(&gone), Some(key));
        }
        assert_eq!(self.open.insert(opened.flow, key), None);
        assert_eq!(self.flows.key(opened.flow), Some(&key));
        let of_source = self.open.values().filter(|other| **other / 16 == source).count();
        assert!(of_source <= LIMITS.per_source);
    }

    fn syn(&mut self, source: u8, port: u8, sequence: u32) {
        let from = SocketAddr::from(([10, 0, 0, source], 1000 + u16::from(port)));
        let ends = (from, SocketAddr::from(([192, 0, 2, 1], 80)));
        let (offer, former) = self.syns.offer(ends, sequence, self.now);
        if let Some(former) = former {
            assert_eq!(self.held.remove(&ends), Some(former));
        }
        match offer {
            Offer::Waits | Offer::Again => assert!(self.held.contains_key(&ends)),
            Offer::Shed => {}
            Offer::New => {
                self.next += 1;
                if let Some(gone) = self.syns.hold(ends, sequence, &[1, 2, 3], self.next, self.now) {
                    self.let_go(gone);
                }
                assert_eq!(self.held.insert(ends, self.next), None);
            }
        }
    }

    fn let_go(&mut self, what: u32) {
        let ends = self.held.iter().find(|(_, held)| **held == what).map(|(ends, _)| *ends);
        self.held.remove(&ends.expect("it was held"));
    }
}

fn go(to: IpAddr, port: u16, udp: bool, meant: bool) {
    let container = IpAddr::from([10, 42, 0, 2]);
    let loopback = if meant { vec![to] } else { Vec::new() };
    let settings = Settings { loopback, ..Settings::default() };
    let targets = Targets {
        settings: [(container, Arc::new(settings))].into(),
        upstreams: vec![SocketAddr::from(([192, 0, 2, 53], 53))],
        addresses: vec![IpAddr::from([192, 0, 2, 7])],
        ..Targets::default()
    };
    let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
    let Ok(way) = targets.way(container, SocketAddr::new(to, port), protocol) else { return };
    let reached = way.to.ip().to_canonical();
    let nowhere: BTreeSet<IpAddr> = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].into();
    assert!(!nowhere.contains(&reached) && !reached.is_multicast(), "{to} leads to {reached}");
    assert!(meant || !reached.is_loopback(), "{to} leads to {reached}");
}
