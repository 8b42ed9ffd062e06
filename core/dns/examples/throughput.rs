//! Prints how many local answers a second the machine gives on one core, without sockets.
//!
//!     cargo run --release -p podwire-dns --example throughput
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a measurement has a clock and prints")]

use std::sync::Arc;
use std::time::Instant;

use dns::{Chance, Client, Directory, Event, Limits, Member, Presence, Reach, Server, Via, ZoneNetwork, Zones};
use model::NetworkId;

const QUERIES: u32 = 2_000_000;

fn main() {
    for members in [1, 100, 1_000, 10_000] {
        let start = Instant::now();
        let zones = Arc::new(Zones::new(&directory(members)));
        let built = start.elapsed();
        let names = [
            ("a name", question(b"\x04c%04\0", 1, members)),
            ("no name", question(b"\x04x%04\x03dns\x06podman\0", 1, members)),
        ];
        for (what, messages) in names {
            println!(
                "{members:6} members, {what:8}: {:>9.0} q/s (index built in {built:.1?})",
                measure(&zones, &messages)
            );
        }
    }
}

fn measure(zones: &Arc<Zones>, messages: &[Vec<u8>]) -> f64 {
    let mut server = Server::new(Arc::clone(zones), Limits::default(), Chance::new(|| 1));
    let client = Client {
        network: NetworkId::from_bytes([1; 32]),
        address: "10.64.0.9:40000".parse().expect("an address"),
        via: Via::Udp { listener: 0 },
    };
    let start = Instant::now();
    let mut octets = 0;
    for message in messages.iter().cycle().take(QUERIES as usize) {
        server.handle(Event::Asked { client, message }, start);
        while let Some(dns::Output::Send { message, .. }) = server.poll() {
            octets += message.len();
        }
    }
    assert!(octets > 28 * QUERIES as usize, "every query has an answer");
    f64::from(QUERIES) / start.elapsed().as_secs_f64()
}

/// A thousand A queries with EDNS; `%04` in the name becomes a member's number.
fn question(name: &[u8], kind: u8, members: u32) -> Vec<Vec<u8>> {
    let number = |n: u32| {
        let at = name.windows(3).position(|w| w == b"%04").expect("a place for the number");
        let digits = format!("{:03}", n % members % 1000);
        [&name[..at], digits.as_bytes(), &name[at + 3..]].concat()
    };
    let message = |n| {
        let head = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01";
        [head, &*number(n), &[0, kind, 0, 1], b"\0\0\x29\x10\0\0\0\0\0\0\0"].concat()
    };
    (0..1000).map(message).collect()
}

fn directory(members: u32) -> Directory {
    let network = NetworkId::from_bytes([1; 32]);
    let member = |n: u32| Member {
        upstreams: Vec::new(),
        presences: vec![Presence {
            network,
            addresses: vec![format!("10.64.{}.{}", n / 250, n % 250 + 2).parse().expect("an address")],
            names: vec![format!("c{n:03}").parse().expect("a name"), format!("{n:012x}").parse().expect("a name")],
        }],
    };
    Directory {
        networks: vec![ZoneNetwork {
            id: network,
            name: "net".parse().expect("a name"),
            subnets: vec!["10.64.0.0/10".parse().expect("a subnet")],
            gateways: Vec::new(),
            reach: Reach::Outside,
            upstreams: Vec::new(),
        }],
        members: (0..members).map(member).collect(),
        ..Directory::new("dns.podman".parse().expect("a name"))
    }
}
