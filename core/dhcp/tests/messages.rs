//! What messages mean, however they are written.

mod rig;

use std::net::Ipv4Addr;

use dhcp::Configuration;
use dhcp::message::{Draft, Kind, Loan, Message, Reply, Unusable};
use rig::{MAC, ip, reply};

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// An ACK with these options beside the server's name and a term.
fn ack(options: &[(u8, Vec<u8>)]) -> Reply {
    let usual = [(54, vec![192, 0, 2, 1]), (51, vec![0, 0, 14, 16])];
    Reply::read(&reply(5, 7, MAC, ip("192.0.2.9"), &[&usual, options].concat())).unwrap()
}

fn configuration(options: &[(u8, Vec<u8>)]) -> Configuration {
    ack(options).loan.unwrap().configuration
}

fn routes(configuration: &Configuration) -> Vec<String> {
    let text = |route: &dhcp::Route| format!("{} {:?}", route.destination, route.gateway);
    configuration.routes.iter().map(text).collect()
}

#[test]
fn all_that_servers_tell_is_understood() {
    let all = configuration(&[
        (1, vec![255, 255, 255, 128]),
        (3, vec![192, 0, 2, 1, 192, 0, 2, 2]),
        (6, vec![192, 0, 2, 53, 0, 0, 0, 0, 192, 0, 2, 53, 192, 0, 2, 54]),
        (15, b"lan.example\0".to_vec()),
        (26, vec![5, 120]),
        (42, vec![192, 0, 2, 123]),
        (119, b"\x03eng\x07example\x03com\0\x09marketing\xc0\x04".to_vec()),
    ]);
    assert_eq!(routes(&all), ["0.0.0.0/0 Some(192.0.2.1)"]);
    assert_eq!(all.mtu, Some(1400));
    assert_eq!(all.dns, [ip("192.0.2.53"), ip("192.0.2.54")]);
    assert_eq!(all.domain.unwrap().as_str(), "lan.example");
    assert_eq!(all.search.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["eng.example.com", "marketing.example.com"]);
    assert_eq!(all.ntp, [ip("192.0.2.123")]);
}

#[test]
fn classless_routes_take_the_place_of_routers() {
    let told = configuration(&[
        (3, vec![192, 0, 2, 1]),
        (121, vec![24, 10, 1, 2, 192, 0, 2, 7, 0, 192, 0, 2, 8, 16, 172, 16, 0, 0, 0, 0]),
    ]);
    assert_eq!(routes(&told), ["10.1.2.0/24 Some(192.0.2.7)", "0.0.0.0/0 Some(192.0.2.8)", "172.16.0.0/16 None"]);
    // Even when none of them leads out.
    assert_eq!(
        routes(&configuration(&[(3, vec![192, 0, 2, 1]), (121, vec![8, 10, 192, 0, 2, 7])])),
        ["10.0.0.0/8 Some(192.0.2.7)"]
    );
    for broken in [vec![33, 1, 2, 3, 4, 5, 192, 0, 2, 1], vec![24, 10, 1, 2, 192, 0, 2], vec![255], vec![24]] {
        let told = configuration(&[(3, vec![192, 0, 2, 1]), (121, broken)]);
        assert_eq!(routes(&told), ["0.0.0.0/0 Some(192.0.2.1)"]);
    }
    let many = (0..=255).flat_map(|n| [24, 10, 0, n, 192, 0, 2, 1]).collect::<Vec<u8>>();
    let parts: Vec<_> = many.chunks(250).map(|part| (121, part.to_vec())).collect();
    assert_eq!(configuration(&parts).routes.len(), 64);
}

#[test]
fn options_in_parts_are_joined_in_order() {
    let name = b"a-rather-long-domain.example".to_vec();
    let (one, two) = name.split_at(9);
    let told = configuration(&[(15, one.to_vec()), (6, vec![192, 0, 2, 53]), (15, two.to_vec())]);
    assert_eq!(told.domain.unwrap().as_str().as_bytes(), name);
}

#[test]
fn options_may_lie_in_the_fields_for_file_and_server_name() {
    for (overload, file, sname) in [(1, true, false), (2, false, true), (3, true, true), (0, false, false)] {
        let mut message = reply(5, 7, MAC, ip("192.0.2.9"), &[(51, vec![0, 0, 14, 16]), (52, vec![overload])]);
        message[108..117].copy_from_slice(&[15, 3, b'l', b'a', b'n', 52, 1, 3, 255]);
        message[44..51].copy_from_slice(&[6, 4, 192, 0, 2, 53, 255]);
        let told = Reply::read(&message).unwrap().loan.unwrap().configuration;
        assert_eq!((told.domain.is_some(), !told.dns.is_empty()), (file, sname), "{overload}");
    }
}

#[test]
fn nonsense_is_as_if_it_was_not_there() {
    let told = configuration(&[
        (3, vec![127, 0, 0, 1, 224, 0, 0, 1, 255, 255, 255, 255]),
        (6, vec![1, 2, 3]),
        (15, b"evil\nnameserver 192.0.2.66".to_vec()),
        (26, vec![0, 20]),
        (119, b"\xc0\x00\x03abc\0".to_vec()),
    ]);
    assert_eq!(told, Configuration::default());
    let loops = configuration(&[(119, b"\x01a\0\x01b\xc0\x05\xc0\x03\x03x y\0\x01c\0".to_vec())]);
    assert_eq!(loops.search.len(), 1);
    assert_eq!(ack(&[(56, b"no\x1b[2Jway\n".to_vec())]).reason.as_deref(), Some("no[2Jway"));
}

#[test]
fn what_cannot_be_used_is_named() {
    let loan = |yours: &str, options: &[(u8, Vec<u8>)]| {
        Reply::read(&reply(2, 7, MAC, ip(yours), options)).unwrap().loan.map(|Loan { length, .. }| length)
    };
    let hour = (51, vec![0, 0, 14, 16]);
    let mask = |last| (1, vec![255, 255, 255, last]);
    assert_eq!(loan("192.0.2.9", &[hour.clone(), mask(0)]), Ok(24));
    assert_eq!(loan("192.0.2.9", &[hour.clone(), mask(255)]), Ok(32));
    assert_eq!(loan("192.0.2.9", std::slice::from_ref(&hour)), Ok(24));
    assert_eq!(loan("10.0.2.9", std::slice::from_ref(&hour)), Ok(8));
    assert_eq!(loan("192.0.2.8", &[hour.clone(), mask(254)]), Ok(31));
    assert_eq!(loan("192.0.2.9", &[hour.clone(), mask(253)]), Err(Unusable::Mask));
    assert_eq!(loan("192.0.2.9", &[hour.clone(), (1, vec![255, 255])]), Err(Unusable::Mask));
    assert_eq!(loan("192.0.2.9", &[mask(0)]), Err(Unusable::Term));
    for edge in ["192.0.2.0", "192.0.2.255", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        assert_eq!(loan(edge, &[hour.clone(), mask(0)]), Err(Unusable::Address(ip(edge))));
    }
}

#[test]
fn a_message_that_ends_within_an_option_is_broken() {
    let whole = reply(5, 7, MAC, ip("192.0.2.9"), &[(51, vec![0, 0, 14, 16])]);
    assert!(Reply::read(&whole).is_some());
    // The last octet only says that it is the end.
    assert!(Reply::read(&whole[..whole.len() - 1]).is_some());
    for length in (0..240).chain(241..243).chain(244..whole.len() - 1) {
        assert_eq!(Reply::read(&whole[..length]), None, "{length}");
    }
    for (at, value) in [(0, 1), (1, 6), (2, 16), (236, 0), (242, 1), (242, 9)] {
        let mut bad = whole.clone();
        bad[at] = value;
        assert_eq!(Reply::read(&bad), None, "octet {at}");
    }
}

#[test]
fn a_clients_message_has_what_servers_look_for() {
    let id = [&[0][..], &[b'a'; 64]].concat();
    let draft = Draft {
        kind: Kind::Request,
        transaction: 0x0102_0304,
        seconds: 9,
        mac: MAC,
        client: None,
        requested: Some(ip("192.0.2.9")),
        server: Some(ip("192.0.2.1")),
        client_id: &id,
        hostname: Some("web"),
    };
    let octets = draft.write();
    let message = Message::new(&octets).unwrap();
    let options = message.options().unwrap();
    assert!(octets.len() >= 300 && !message.is_reply());
    assert_eq!((message.transaction(), message.seconds(), message.client()), (0x0102_0304, 9, NOBODY));
    assert_eq!((options.get(12), options.get(61)), (Some(&b"web"[..]), Some(&id[..])));
    assert_eq!((options.requested(), options.server()), (Some(ip("192.0.2.9")), Some(ip("192.0.2.1"))));
    let asked = options.get(55).unwrap();
    let place = |code| asked.iter().position(|c| *c == code);
    assert!(place(121) < place(3) && [1, 3, 6, 15, 26, 42, 119, 121].iter().all(|code| place(*code).is_some()));
    // A release asks for nothing, and says no name.
    let release = Draft { kind: Kind::Release, requested: None, client: Some(ip("192.0.2.9")), ..draft }.write();
    let message = Message::new(&release).unwrap();
    let options = message.options().unwrap();
    assert_eq!(
        (message.client(), options.get(55), options.get(12), options.get(50)),
        (ip("192.0.2.9"), None, None, None)
    );
}
