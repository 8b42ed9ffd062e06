//! Packets of containers, as the relay's TUN gives them: read without panic, and what is answered is a packet that
//! needs no answer.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use relay_core::packet::{self, Packet, Problem, Transport};

const PROBLEMS: [Problem; 7] = [
    Problem::NetworkUnreachable,
    Problem::HostUnreachable,
    Problem::ProtocolUnreachable,
    Problem::PortUnreachable,
    Problem::Prohibited,
    Problem::TooBig { mtu: 1280 },
    Problem::HopLimitExceeded,
];

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert!(bytes.starts_with(packet.octets()) && packet.octets().ends_with(packet.payload()));
    assert_eq!(Packet::parse(packet.octets()), Ok(packet));
    for what in PROBLEMS {
        if let Some(error) = packet::problem(&packet, what, packet.destination) {
            goes_back(&packet, &error, true);
        }
    }
    if let Some(reset) = packet::reset(&packet) {
        goes_back(&packet, &reset, false);
        assert_eq!(Packet::parse(&reset).ok().and_then(|reset| packet::reset(&reset)), None);
    }
    match packet.transport {
        Transport::EchoRequest(echo) => {
            if let Some(reply) = packet::echo_reply(packet.destination, packet.source, echo) {
                goes_back(&packet, &reply, false);
            }
            let by = packet.destination;
            let what = Problem::HopLimitExceeded;
            if let Some(error) = packet::echo_problem(packet.source, packet.destination, echo, what, by) {
                goes_back(&packet, &error, true);
            }
        }
        Transport::Udp(datagram) => {
            let (from, to) = packet.ends().expect("a datagram has ports");
            let to: SocketAddr = to;
            let content = datagram.data;
            let error = packet::datagram_problem(from, to, content, content.len(), Problem::PortUnreachable, to.ip());
            if let Some(error) = error {
                goes_back(&packet, &error, true);
            }
        }
        _ => {}
    }
});

/// Is an answer one to `packet`, and if it is an error, nothing that could be answered by one?
fn goes_back(packet: &Packet<'_>, answer: &[u8], is_error: bool) {
    let answer = Packet::parse(answer).expect("our own packets are right");
    assert_eq!((answer.source, answer.destination), (packet.destination, packet.source));
    if is_error {
        assert!(answer.octets().len() <= if answer.source.is_ipv4() { 576 } else { 1280 });
        assert_eq!(packet::problem(&answer, Problem::HostUnreachable, answer.destination), None);
    }
}
