//! What the relay writes to containers: packets about, and to, anything that comes from outside. They are read as what
//! they were made of.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use relay_core::packet::{self, Echo, Packet, Problem, Transport};

#[derive(Debug, Arbitrary)]
struct Outside<'a> {
    from: IpAddr,
    to: IpAddr,
    ports: (u16, u16),
    kind: (u8, u8, u32),
    id: (u16, u16),
    data: &'a [u8],
}

fuzz_target!(|outside: Outside<'_>| {
    let Outside { from, to, ports, kind, id, data } = outside;
    let echo = Echo { id: id.0, sequence: id.1, data };
    for kind in [0, 8, 128, 129] {
        let message = packet::echo_message(kind, echo);
        assert_eq!(packet::read_echo_message(kind, &message), Some(echo));
    }
    let _ = packet::read_echo_message(kind.0, data);
    if let Some(reply) = packet::echo_reply(from, to, echo) {
        let read = Packet::parse(&reply).expect("our own packets are right");
        assert_eq!((read.source, read.destination), (from, to));
    }
    let Some(what) = Problem::of_icmp(from.is_ipv4(), kind.0, kind.1, kind.2) else { return };
    let (asker, asked) = ((to, ports.0).into(), (from, ports.1).into());
    if let Some(error) = packet::datagram_problem(asker, asked, data, data.len(), what, from) {
        let read = Packet::parse(&error).expect("our own packets are right");
        assert_eq!((read.source, read.destination), (from, to));
        assert!(!matches!(read.transport, Transport::Udp(_)));
        assert_eq!(packet::problem(&read, what, to), None, "an error about an error");
    }
    if let Some(error) = packet::echo_problem(to, from, echo, what, from) {
        assert!(Packet::parse(&error).is_ok_and(|read| read.destination == to));
    }
});
