//! smoltcp, an independent reader and writer of packets, sees in ours what we mean, and we see what it means.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use relay_core::packet::{self, Echo, Flags, Fragment, Malformed, Packet, Problem, Transport};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpAddress,
    IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

const V4: [&str; 2] = ["10.42.0.2", "192.0.2.7"];
const V6: [&str; 2] = ["fd00:42::2", "2001:db8::7"];

fn addresses([from, to]: [&str; 2]) -> (IpAddr, IpAddr) {
    (from.parse().unwrap(), to.parse().unwrap())
}

fn ip_repr(from: IpAddr, to: IpAddr, protocol: IpProtocol, length: usize) -> IpRepr {
    IpRepr::new(IpAddress::from(from), IpAddress::from(to), protocol, length, 61)
}

fn with_ip(repr: &IpRepr, write: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut octets = vec![0; repr.buffer_len()];
    repr.emit(&mut octets, &ChecksumCapabilities::default());
    write(&mut octets[repr.header_len()..]);
    octets
}

fn tcp(pair: [&str; 2], control: TcpControl, ack: Option<u32>, payload: &[u8]) -> Vec<u8> {
    let (from, to) = addresses(pair);
    let repr = TcpRepr {
        src_port: 40_000,
        dst_port: 80,
        control,
        seq_number: TcpSeqNumber(0xffff_fffe_u32 as i32),
        ack_number: ack.map(|ack| TcpSeqNumber(ack as i32)),
        window_len: 64_240,
        window_scale: (control == TcpControl::Syn).then_some(7),
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: control == TcpControl::Syn,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    with_ip(&ip_repr(from, to, IpProtocol::Tcp, repr.buffer_len()), |octets| {
        repr.emit(&mut TcpPacket::new_unchecked(octets), &from.into(), &to.into(), &ChecksumCapabilities::default());
    })
}

fn udp(pair: [&str; 2], payload: &[u8]) -> Vec<u8> {
    let (from, to) = addresses(pair);
    let repr = UdpRepr { src_port: 5000, dst_port: 53 };
    with_ip(&ip_repr(from, to, IpProtocol::Udp, repr.header_len() + payload.len()), |octets| {
        repr.emit(
            &mut UdpPacket::new_unchecked(octets),
            &from.into(),
            &to.into(),
            payload.len(),
            |room| room.copy_from_slice(payload),
            &ChecksumCapabilities::default(),
        );
    })
}

fn echo_request(pair: [&str; 2], data: &[u8]) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    match addresses(pair) {
        (from @ IpAddr::V4(_), to) => {
            let repr = Icmpv4Repr::EchoRequest { ident: 77, seq_no: 3, data };
            with_ip(&ip_repr(from, to, IpProtocol::Icmp, repr.buffer_len()), |octets| {
                repr.emit(&mut Icmpv4Packet::new_unchecked(octets), &checksums);
            })
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let repr = Icmpv6Repr::EchoRequest { ident: 77, seq_no: 3, data };
            with_ip(&ip_repr(from.into(), to.into(), IpProtocol::Icmpv6, repr.buffer_len()), |octets| {
                repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(octets), &checksums);
            })
        }
        _ => unreachable!(),
    }
}

/// What is behind the IP header of a packet of ours, after smoltcp has checked that.
fn read(octets: &[u8]) -> (IpAddr, IpAddr, IpProtocol, &[u8]) {
    match octets[0] >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(octets).unwrap();
            assert!(packet.verify_checksum());
            assert_eq!(usize::from(packet.total_len()), octets.len());
            (packet.src_addr().into(), packet.dst_addr().into(), packet.next_header(), packet.payload())
        }
        _ => {
            let packet = Ipv6Packet::new_checked(octets).unwrap();
            assert_eq!(packet.total_len(), octets.len());
            (packet.src_addr().into(), packet.dst_addr().into(), packet.next_header(), packet.payload())
        }
    }
}

/// Kind, code, the four octets behind the checksum, and the rest.
fn read_icmp(octets: &[u8]) -> (IpAddr, IpAddr, (u8, u8), [u8; 4], &[u8]) {
    let (from, to, protocol, message) = read(octets);
    match (from, to) {
        (IpAddr::V4(_), _) => {
            assert_eq!(protocol, IpProtocol::Icmp);
            assert!(Icmpv4Packet::new_checked(message).unwrap().verify_checksum());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            assert_eq!(protocol, IpProtocol::Icmpv6);
            assert!(Icmpv6Packet::new_checked(message).unwrap().verify_checksum(&from, &to));
        }
        _ => unreachable!(),
    }
    (from, to, (message[0], message[1]), message[4..8].try_into().unwrap(), &message[8..])
}

fn check_reset(octets: &[u8], expected: Option<(u32, u32, bool)>) {
    let packet = Packet::parse(octets).unwrap();
    let Some(answer) = packet::reset(&packet) else { return assert_eq!(expected, None) };
    let (from, to, protocol, segment) = read(&answer);
    assert_eq!((from, to, protocol), (packet.destination, packet.source, IpProtocol::Tcp));
    let segment = TcpPacket::new_checked(segment).unwrap();
    assert!(segment.verify_checksum(&from.into(), &to.into()));
    assert!(segment.rst() && !segment.syn() && !segment.fin());
    assert_eq!((segment.src_port(), segment.dst_port()), (80, 40_000));
    let got = (segment.seq_number().0 as u32, segment.ack_number().0 as u32, segment.ack());
    assert_eq!(Some(got), expected);
}

#[test]
fn a_syn_is_read_with_ports_number_and_options() {
    for pair in [V4, V6] {
        let octets = tcp(pair, TcpControl::Syn, None, &[]);
        let packet = Packet::parse(&octets).unwrap();
        let (from, to) = addresses(pair);
        assert_eq!((packet.source, packet.destination, packet.hop_limit), (from, to, 61));
        assert_eq!(packet.ends(), Some((SocketAddr::new(from, 40_000), SocketAddr::new(to, 80))));
        let Transport::Tcp(segment) = packet.transport else { panic!("{packet:?}") };
        assert!(segment.opens());
        assert_eq!((segment.sequence, segment.window, segment.flags), (0xffff_fffe, 64_240, Flags::SYN));
        assert_eq!(segment.options[..4], [2, 4, 5, 180], "maximum segment size");
        assert_eq!(packet.octets(), octets);
    }
}

#[test]
fn only_a_bare_syn_opens() {
    for (control, ack) in [(TcpControl::Syn, Some(1)), (TcpControl::Rst, None), (TcpControl::Fin, Some(1))] {
        let octets = tcp(V4, control, ack, &[]);
        let Transport::Tcp(segment) = Packet::parse(&octets).unwrap().transport else { panic!() };
        assert!(!segment.opens(), "{segment:?}");
    }
}

#[test]
fn a_reset_acknowledges_what_was_not_acknowledged_else_takes_its_number() {
    for pair in [V4, V6] {
        check_reset(&tcp(pair, TcpControl::Syn, None, &[]), Some((0, 0xffff_ffff, true)));
        check_reset(&tcp(pair, TcpControl::Syn, None, b"fast"), Some((0, 3, true)));
        check_reset(&tcp(pair, TcpControl::Fin, Some(99), b"late"), Some((99, 0, false)));
        check_reset(&tcp(pair, TcpControl::Rst, Some(99), &[]), None);
        check_reset(&udp(pair, b"x"), None);
    }
}

#[test]
fn an_echo_request_is_read_and_answered() {
    for (pair, reply) in [(V4, 0), (V6, 129)] {
        let octets = echo_request(pair, b"abcde");
        let packet = Packet::parse(&octets).unwrap();
        let Transport::EchoRequest(echo) = packet.transport else { panic!("{packet:?}") };
        assert_eq!(echo, Echo { id: 77, sequence: 3, data: b"abcde" });
        let answer = packet::echo_reply(packet.destination, packet.source, echo).unwrap();
        let (from, to, kind, ids, data) = read_icmp(&answer);
        assert_eq!((from, to, kind, ids), (packet.destination, packet.source, (reply, 0), [0, 77, 0, 3]));
        assert_eq!(data, b"abcde");
        let packet = Packet::parse(&answer).unwrap();
        assert_eq!(packet.transport, Transport::Icmp { kind: reply, code: 0 });
    }
    let echo = Echo { id: 1, sequence: 1, data: &[0; 65_535] };
    let (from, to) = addresses(V4);
    assert_eq!(packet::echo_reply(from, to, echo), None, "longer than a packet");
    assert_eq!(packet::echo_reply(from, addresses(V6).1, Echo { data: &[], ..echo }), None);
}

#[test]
fn each_problem_has_its_type_and_code() {
    let table = [
        (Problem::NetworkUnreachable, (3, 0), 0, (1, 0), 0),
        (Problem::HostUnreachable, (3, 1), 0, (1, 3), 0),
        (Problem::ProtocolUnreachable, (3, 2), 0, (4, 1), 6),
        (Problem::PortUnreachable, (3, 3), 0, (1, 4), 0),
        (Problem::Prohibited, (3, 13), 0, (1, 1), 0),
        (Problem::TooBig { mtu: 1400 }, (3, 4), 1400, (2, 0), 1400),
        (Problem::HopLimitExceeded, (11, 0), 0, (3, 0), 0),
    ];
    for (what, v4, extra4, v6, extra6) in table {
        for (pair, kind, extra) in [(V4, v4, extra4), (V6, v6, extra6)] {
            let about = udp(pair, &[7; 2000]);
            let packet = Packet::parse(&about).unwrap();
            let answer = packet::problem(&packet, what, packet.destination).unwrap();
            let (from, to, got, octets, quoted) = read_icmp(&answer);
            assert_eq!((from, to, got), (packet.destination, packet.source, kind), "{what:?}");
            assert_eq!(u32::from_be_bytes(octets), extra, "{what:?}");
            assert_eq!(answer.len(), if packet.source.is_ipv4() { 576 } else { 1280 });
            assert!(about.starts_with(quoted));
        }
    }
}

#[test]
fn smoltcp_finds_the_port_unreachable_that_a_datagram_met() {
    let (from, to) = addresses(V4);
    let (from, to) = (SocketAddr::new(from, 5000), SocketAddr::new(to, 53));
    let answer = packet::datagram_problem(from, to, b"hello", 5, Problem::PortUnreachable, to.ip()).unwrap();
    let (.., message) = read(&answer);
    let message = Icmpv4Packet::new_checked(message).unwrap();
    assert_eq!(message.msg_type(), Icmpv4Message::DstUnreachable);
    let Icmpv4Repr::DstUnreachable { reason, header, data } =
        Icmpv4Repr::parse(&message, &ChecksumCapabilities::default()).unwrap()
    else {
        panic!()
    };
    assert_eq!(reason, Icmpv4DstUnreachable::PortUnreachable);
    assert_eq!(
        (header.src_addr, header.dst_addr, header.payload_len),
        ("10.42.0.2".parse().unwrap(), "192.0.2.7".parse().unwrap(), 13)
    );
    let datagram = UdpPacket::new_checked(data).unwrap();
    assert_eq!((datagram.src_port(), datagram.dst_port(), datagram.payload()), (5000, 53, &b"hello"[..]));

    let (from, to) = addresses(V6);
    let (from, to) = (SocketAddr::new(from, 5000), SocketAddr::new(to, 53));
    let what = Problem::TooBig { mtu: 1280 };
    let answer = packet::datagram_problem(from, to, &[1; 1500], 4000, what, to.ip()).unwrap();
    let (.., message) = read(&answer);
    assert_eq!(Icmpv6Packet::new_checked(message).unwrap().msg_type(), Icmpv6Message::PktTooBig);
    assert_eq!(answer.len(), 1280);
    assert_eq!(&message[8 + 4..8 + 6], 4008_u16.to_be_bytes(), "the length that it had");
}

#[test]
fn nothing_answers_errors_groups_or_nobody() {
    let mut about = udp(V4, b"x");
    let packet = Packet::parse(&about).unwrap();
    let error = packet::problem(&packet, Problem::PortUnreachable, packet.destination).unwrap();
    let error = Packet::parse(&error).unwrap();
    assert_eq!(error.transport, Transport::Icmp { kind: 3, code: 3 });
    assert_eq!(packet::problem(&error, Problem::HostUnreachable, error.destination), None);
    assert_eq!(packet::problem(&packet, Problem::HostUnreachable, addresses(V6).0), None, "another family");
    for (from, to) in [
        ("10.0.0.1", "224.0.0.251"),
        ("0.0.0.0", "192.0.2.1"),
        ("127.0.0.1", "192.0.2.1"),
        ("255.255.255.255", "192.0.2.1"),
    ] {
        about = udp([from, to], b"x");
        let packet = Packet::parse(&about).unwrap();
        assert_eq!(
            packet::problem(&packet, Problem::PortUnreachable, "10.0.0.9".parse().unwrap()),
            None,
            "{from} {to}"
        );
    }
    for (from, to) in [("fd00::1", "ff02::1"), ("::", "2001:db8::1"), ("::1", "2001:db8::1")] {
        let (from, to) = (SocketAddr::new(from.parse().unwrap(), 1), SocketAddr::new(to.parse().unwrap(), 2));
        let by = "fd00::9".parse().unwrap();
        assert_eq!(packet::datagram_problem(from, to, &[], 0, Problem::PortUnreachable, by), None, "{from} {to}");
    }
}

/// As an IPv4 router would cut it.
fn fragments(octets: &[u8], size: usize) -> Vec<Vec<u8>> {
    let whole = Ipv4Packet::new_unchecked(octets);
    let pieces: Vec<&[u8]> = whole.payload().chunks(size).collect();
    let count = pieces.len();
    pieces
        .iter()
        .enumerate()
        .map(|(number, piece)| {
            let mut octets = [&octets[..20], piece].concat();
            let length = octets.len() as u16;
            let mut packet = Ipv4Packet::new_unchecked(&mut octets);
            packet.set_total_len(length);
            packet.set_ident(0xabcd);
            packet.set_dont_frag(false);
            packet.set_more_frags(number + 1 < count);
            packet.set_frag_offset((number * size) as u16);
            packet.fill_checksum();
            octets
        })
        .collect()
}

#[test]
fn pieces_are_known_as_such() {
    let octets = udp(V4, &[9; 3000]);
    let pieces = fragments(&octets, 1480);
    let parsed: Vec<_> = pieces.iter().map(|piece| Packet::parse(piece).unwrap()).collect();
    let part = |offset, more| Fragment::Part { id: 0xabcd, offset, more };
    assert_eq!(
        parsed.iter().map(|packet| packet.fragment).collect::<Vec<_>>(),
        [part(0, true), part(1480, true), part(2960, false)]
    );
    let Transport::Udp(first) = parsed[0].transport else { panic!() };
    assert_eq!((first.source_port, first.destination_port, first.data.len()), (5000, 53, 1472));
    assert_eq!([parsed[1].transport, parsed[2].transport], [Transport::Rest; 2]);
    let about = |packet| packet::problem(packet, Problem::PortUnreachable, addresses(V4).1);
    assert!(about(&parsed[0]).is_some() && about(&parsed[1]).is_none());
}

/// An IPv6 packet with `headers` (first number, octets) before a datagram.
fn extended(first: u8, headers: &[u8]) -> Vec<u8> {
    let plain = udp(V6, b"hello");
    let mut octets = [&plain[..40], headers, &plain[40..]].concat();
    let length = (octets.len() - 40) as u16;
    octets[4..6].copy_from_slice(&length.to_be_bytes());
    octets[6] = first;
    octets
}

#[test]
fn extension_headers_are_looked_through() {
    let hop_by_hop_then_options = [[60, 0, 1, 4, 0, 0, 0, 0], [17, 0, 1, 4, 0, 0, 0, 0]].concat();
    let authentication = [17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let fragment_for_nothing = [17, 0, 0, 0, 1, 2, 3, 4];
    for (first, headers) in [(0, &hop_by_hop_then_options[..]), (51, &authentication), (44, &fragment_for_nothing)] {
        let octets = extended(first, headers);
        let packet = Packet::parse(&octets).unwrap();
        let Transport::Udp(datagram) = packet.transport else { panic!("{packet:?}") };
        assert_eq!((datagram.data, packet.fragment, packet.protocol()), (&b"hello"[..], Fragment::Whole, 17));
    }
    let octets = extended(44, &[17, 0, 0x05, 0xa9, 1, 2, 3, 4]);
    let packet = Packet::parse(&octets).unwrap();
    assert_eq!(packet.fragment, Fragment::Part { id: 0x0102_0304, offset: 1448, more: true });
    assert_eq!(packet.transport, Transport::Rest);
    let many = [60, 0, 1, 4, 0, 0, 0, 0].repeat(100);
    assert_eq!(Packet::parse(&extended(60, &many)), Err(Malformed::Extensions));
    assert_eq!(Packet::parse(&extended(60, &[17, 9, 1, 4, 0, 0, 0, 0])), Err(Malformed::Short));
    // What the receiver does not know is pointed at (RFC 4443 §3.4).
    let octets = extended(60, &[132, 0, 1, 4, 0, 0, 0, 0]);
    let packet = Packet::parse(&octets).unwrap();
    let answer = packet::problem(&packet, Problem::ProtocolUnreachable, packet.destination).unwrap();
    assert_eq!(read_icmp(&answer).3, 40_u32.to_be_bytes());
}

#[test]
fn a_wrong_octet_anywhere_is_noticed() {
    for octets in [
        tcp(V4, TcpControl::Syn, None, b"odd"),
        udp(V4, b"odd"),
        echo_request(V4, b"odd"),
        tcp(V6, TcpControl::Syn, None, b"odd"),
        udp(V6, b"odd"),
        echo_request(V6, b"odd"),
    ] {
        let whole = Packet::parse(&octets).unwrap();
        for at in 0..octets.len() {
            let mut wrong = octets.clone();
            wrong[at] ^= 0x10;
            // Class and label, hop limit and version of IPv6 are under no checksum.
            let unguarded = whole.source.is_ipv6() && matches!(at, 0..8);
            assert!(unguarded || Packet::parse(&wrong).is_err(), "octet {at} of {whole:?}");
        }
        for length in 0..octets.len() {
            assert!(Packet::parse(&octets[..length]).is_err());
        }
        let longer = [&octets[..], &[0; 6]].concat();
        assert_eq!(Packet::parse(&longer), Ok(whole), "padding is no part of it");
    }
}

/// Anything that may be said about a packet is said in a packet that smoltcp takes, and ends there.
fn check_answers(octets: &[u8]) {
    let Ok(packet) = Packet::parse(octets) else { return };
    assert!(octets.starts_with(packet.octets()) && packet.octets().ends_with(packet.payload()));
    let mut answers: Vec<Vec<u8>> = packet::reset(&packet).into_iter().collect();
    for what in [Problem::PortUnreachable, Problem::TooBig { mtu: 576 }, Problem::ProtocolUnreachable] {
        answers.extend(packet::problem(&packet, what, packet.destination));
    }
    if let Transport::EchoRequest(echo) = packet.transport {
        answers.extend(packet::echo_reply(packet.destination, packet.source, echo));
    }
    for answer in answers {
        read(&answer);
        let answer = Packet::parse(&answer).unwrap();
        assert_eq!((answer.source, answer.destination), (packet.destination, packet.source));
        assert_eq!(packet::reset(&answer), None);
        let is_reply = matches!(answer.transport, Transport::Icmp { kind: 0 | 129, .. } | Transport::Tcp(_));
        assert!(is_reply || packet::problem(&answer, Problem::HostUnreachable, answer.destination).is_none());
    }
}

proptest! {
    #[test]
    fn any_octets_are_read_without_panic(octets in proptest::collection::vec(any::<u8>(), 0..200), first in 0_usize..3) {
        let mut octets = octets;
        if let Some(octet) = octets.first_mut() {
            *octet = [*octet, 0x45, 0x60][first];
        }
        check_answers(&octets);
    }

    #[test]
    fn mutated_packets_are_read_without_panic(kind in 0_usize..8, at in 0_usize..120, octet: u8, cut in 0_usize..120, sums: bool) {
        let mut octets = match kind {
            0 => tcp(V4, TcpControl::Syn, None, b"x"),
            1 => tcp(V6, TcpControl::Fin, Some(1), b"x"),
            2 => udp(V4, b"hello"),
            3 => udp(V6, b"hello"),
            4 => echo_request(V4, b"hello"),
            5 => echo_request(V6, b"hello"),
            6 => extended(0, &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]),
            _ => fragments(&udp(V4, &[9; 3000]), 1480).remove(1),
        };
        let at = at % octets.len();
        octets[at] = octet;
        octets.truncate(octets.len().saturating_sub(cut / 4));
        if sums && octets.len() > 20 && octets[0] >> 4 == 4 {
            let mut packet = Ipv4Packet::new_unchecked(&mut octets);
            if usize::from(packet.header_len()) <= packet.as_ref().len() {
                packet.fill_checksum();
            }
        }
        check_answers(&octets);
    }

    #[test]
    fn what_smoltcp_writes_is_read_as_it_is(data in proptest::collection::vec(any::<u8>(), 0..1500), v6: bool) {
        let pair = if v6 { V6 } else { V4 };
        let octets = udp(pair, &data);
        let Transport::Udp(datagram) = Packet::parse(&octets).unwrap().transport else { panic!() };
        prop_assert_eq!(datagram.data, &data[..]);
        let octets = tcp(pair, TcpControl::Psh, Some(5), &data);
        let Transport::Tcp(segment) = Packet::parse(&octets).unwrap().transport else { panic!() };
        prop_assert_eq!(segment.data, &data[..]);
        let octets = echo_request(pair, &data);
        let Transport::EchoRequest(echo) = Packet::parse(&octets).unwrap().transport else { panic!() };
        prop_assert_eq!(echo.data, &data[..]);
    }
}

/// Unused imports of smoltcp's types would hide that the oracle reads less than we think.
#[test]
fn the_oracle_itself_refuses_a_wrong_checksum() {
    let mut octets = udp(V4, b"x");
    *octets.last_mut().unwrap() ^= 1;
    let (from, to, _, datagram) = read(&octets);
    assert!(!UdpPacket::new_checked(datagram).unwrap().verify_checksum(&from.into(), &to.into()));
}
