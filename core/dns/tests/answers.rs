//! What is answered at once: question in, answer out, read by hickory-proto.

mod rig;

use dns::{Directory, Event, Server, Transport, Via};
use rig::{Rig, directory, question, show};

/// `source` asks by UDP and gets exactly this; nobody else is asked.
#[track_caller]
fn check(source: &str, text: &str, answer: &str) {
    check_in(&directory(), source, text, answer);
}

#[track_caller]
fn check_in(directory: &Directory, source: &str, text: &str, answer: &str) {
    let mut rig = Rig::new(directory);
    let said = rig.ask_from(source, text);
    assert_eq!(said, [format!("{source} {answer}")], "{text}");
}

/// The octets `source` gets back.
fn raw(source: &str, via: Via, message: &[u8]) -> Option<Vec<u8>> {
    let mut rig = Rig::new(&directory());
    rig.server.handle(Event::Asked { client: rig::client(source, via), message }, rig.now);
    match rig.server.poll() {
        Some(dns::Output::Send { message, .. }) => Some(message),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

const UDP: Via = Via::Udp { listener: 0 };
const TCP: Via = Via::Tcp { connection: 1 };

#[test]
fn a_name_is_found_bare_and_with_the_suffix() {
    check("10.89.1.2", "db A", "NOERROR aa | db. A 10.89.1.3");
    check("10.89.1.2", "db AAAA", "NOERROR aa | db. AAAA fd00:1::3");
    check("10.89.1.2", "db.dns.podman A", "NOERROR aa | db.dns.podman. A 10.89.1.3");
    check("10.89.1.2", "0123456789ab A id=0", "NOERROR aa | 0123456789ab. A 10.89.1.2 | 0123456789ab. A 10.89.2.2");
}

#[test]
fn the_suffix_can_be_another() {
    let directory = Directory { suffix: "Lab.Example".parse().unwrap(), ..directory() };
    check_in(&directory, "10.89.1.2", "db.lab.example A", "NOERROR aa | db.lab.example. A 10.89.1.3");
    check_in(
        &directory,
        "10.89.1.2",
        "no.lab.example A",
        "NXDOMAIN aa | ! lab.example. SOA lab.example. nobody.invalid. 0",
    );
}

#[test]
fn case_does_not_matter_and_comes_back_as_asked() {
    check("10.89.1.2", "dB.dNs.PoDmAn A", "NOERROR aa | dB.dNs.PoDmAn. A 10.89.1.3");
}

#[test]
fn the_addresses_of_all_shared_networks_take_turns() {
    check("10.89.1.2", "web A id=0", "NOERROR aa | web. A 10.89.1.2 | web. A 10.89.2.2");
    check("10.89.1.2", "web A id=1", "NOERROR aa | web. A 10.89.2.2 | web. A 10.89.1.2");
    check("10.89.1.3", "web A", "NOERROR aa | web. A 10.89.1.2");
    check("10.89.1.3", "www AAAA id=0", "NOERROR aa | www. AAAA fd00:1::2 | www. AAAA fd00:1::3");
}

#[test]
fn an_ipv6_source_is_a_member_too() {
    check("fd00:1::2", "web A id=0", "NOERROR aa | web. A 10.89.1.2 | web. A 10.89.2.2");
}

#[test]
fn a_known_name_without_such_records_is_nodata_and_never_asked_outside() {
    for kind in ["MX", "TXT", "SRV", "HTTPS", "NS", "SOA", "CNAME", "DS", "65280"] {
        check("10.89.1.2", &format!("db {kind}"), "NOERROR aa | ! db. SOA db. nobody.invalid. 0");
    }
    check("10.89.1.2", "db.dns.podman MX", "NOERROR aa | ! dns.podman. SOA dns.podman. nobody.invalid. 0");
    check("10.89.1.2", "v4only AAAA", "NOERROR aa | ! v4only. SOA v4only. nobody.invalid. 0");
    check(
        "10.89.1.3",
        "3.1.89.10.in-addr.arpa A",
        "NOERROR aa | ! 1.89.10.in-addr.arpa. SOA 1.89.10.in-addr.arpa. nobody.invalid. 0",
    );
}

#[test]
fn any_is_answered_with_one_kind_of_address() {
    check("10.89.1.2", "db ANY", "NOERROR aa | db. A 10.89.1.3");
}

#[test]
fn what_is_not_in_our_own_zone_does_not_exist() {
    let denial = "NXDOMAIN aa | ! dns.podman. SOA dns.podman. nobody.invalid. 0";
    for text in ["nosuch.dns.podman A", "nosuch.dns.podman MX", "x.db.dns.podman A", "vault.dns.podman A"] {
        check("10.89.1.2", text, denial);
    }
}

#[test]
fn our_own_zone_has_an_soa() {
    check("10.89.1.2", "dns.podman SOA", "NOERROR aa | dns.podman. SOA dns.podman. nobody.invalid. 0");
    check("10.89.1.2", "dns.podman A", "NOERROR aa | ! dns.podman. SOA dns.podman. nobody.invalid. 0");
}

#[test]
fn an_address_has_its_member_s_names() {
    check(
        "10.89.1.3",
        "2.1.89.10.in-addr.arpa PTR",
        "NOERROR aa | 2.1.89.10.in-addr.arpa. PTR web. | 2.1.89.10.in-addr.arpa. PTR www. | 2.1.89.10.in-addr.arpa. PTR 0123456789ab.",
    );
    let name = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
    check("10.89.1.2", &format!("{name} PTR"), &format!("NOERROR aa | {name}. PTR db. | {name}. PTR www."));
}

#[test]
fn an_address_nobody_has_in_our_private_subnets_does_not_exist() {
    let denial = |zone: &str| format!("NXDOMAIN aa | ! {zone}. SOA {zone}. nobody.invalid. 0");
    check("10.89.1.2", "99.1.89.10.in-addr.arpa PTR", &denial("1.89.10.in-addr.arpa"));
    check("10.89.1.3", "2.2.89.10.in-addr.arpa PTR", &denial("2.89.10.in-addr.arpa"));
    check("10.89.1.2", "2.3.89.10.in-addr.arpa PTR", &denial("3.89.10.in-addr.arpa"));
}

#[test]
fn nothing_leaves_for_who_is_only_on_internal_networks() {
    check("10.89.3.2", "vault A", "NOERROR aa | vault. A 10.89.3.2");
    for text in ["example.com A", "nosuch A", "8.8.8.8.in-addr.arpa PTR", ". NS", "web A"] {
        check("10.89.3.2", text, "NXDOMAIN");
        check("10.89.3.77", text, "NXDOMAIN");
    }
}

#[test]
fn without_an_upstream_the_answer_is_servfail() {
    let directory = Directory { upstreams: Vec::new(), ..directory() };
    check_in(&directory, "10.89.1.2", "example.com A", "SERVFAIL");
    check_in(&directory, "10.89.1.2", "db A", "NOERROR aa | db. A 10.89.1.3");
}

#[test]
fn strangers_get_nothing_and_are_counted() {
    let mut rig = Rig::new(&directory());
    for source in ["192.168.1.7", "10.89.9.2", "127.0.0.1"] {
        let client = dns::Client { network: rig::network_id(1), ..rig::client(source, UDP) };
        for text in ["db A", "example.com A"] {
            assert_eq!(rig.handle(Event::Asked { client, message: &question(text) }), [""; 0], "{source}");
        }
    }
    assert_eq!(rig.server.counts().strangers, 6);
}

#[test]
fn a_mapped_ipv4_source_is_the_ipv4_source() {
    let mut rig = Rig::new(&directory());
    let client = dns::Client { network: rig::network_id(1), ..rig::client("::ffff:10.89.1.2", UDP) };
    assert_eq!(rig.handle(Event::Asked { client, message: &question("db A") }).len(), 1);
}

#[test]
fn answers_and_scraps_are_dropped() {
    let mut rig = Rig::new(&directory());
    let mut response = question("db A");
    response[2] |= 0x80;
    for message in [response.as_slice(), b"", b"\0", &question("db A")[..11]] {
        assert_eq!(rig.asked("10.89.1.2", UDP, message), [""; 0]);
    }
    assert_eq!(rig.server.counts().noise, 4);
}

#[test]
fn a_source_port_of_zero_is_nobody() {
    let mut rig = Rig::new(&directory());
    let mut client = rig::client("10.89.1.2", UDP);
    client.address.set_port(0);
    assert_eq!(rig.handle(Event::Asked { client, message: &question("db A") }), [""; 0]);
}

#[test]
fn other_opcodes_are_not_implemented() {
    for opcode in 1..16 {
        let mut message = question("db A");
        message[2] |= opcode << 3;
        let answer = raw("10.89.1.2", UDP, &message).unwrap();
        assert_eq!((answer.len(), answer[2], answer[3]), (12, 0x81 | opcode << 3, 0x84), "{opcode}");
    }
}

#[test]
fn other_classes_and_zone_transfers_are_refused() {
    check("10.89.1.2", "version.bind TXT class=3", "REFUSED");
    check("10.89.1.2", "db A class=3", "REFUSED");
    check("10.89.1.2", "db A class=255", "REFUSED");
    check("10.89.1.2", "dns.podman 252", "REFUSED");
    check("10.89.1.2", "example.com 251", "REFUSED");
}

#[test]
fn what_has_a_header_and_cannot_be_read_is_formerr() {
    let good = question("db A");
    let mut none = good.clone();
    none[5] = 0;
    let mut two = [&good[..], &good[12..]].concat();
    two[5] = 2;
    for message in [&good[..12], &good[..good.len() - 1], &none, &two] {
        assert_eq!(show(&raw("10.89.1.2", UDP, message).unwrap()), "FORMERR");
    }
}

#[test]
fn edns_is_answered_in_kind_with_our_own_size() {
    check("10.89.1.2", "db A edns=4096", "NOERROR aa | db. A 10.89.1.3 | edns=1232");
    check("10.89.1.2", "db A edns=512 do", "NOERROR aa | db. A 10.89.1.3 | edns=1232 do");
    check(
        "10.89.1.2",
        "no.dns.podman A edns=0",
        "NXDOMAIN aa | ! dns.podman. SOA dns.podman. nobody.invalid. 0 | edns=1232",
    );
    check("10.89.3.2", "example.com A edns=1232", "NXDOMAIN | edns=1232");
    check("10.89.1.2", "db A edns=1232 version=1", "BADVERS | edns=1232");
}

#[test]
fn ad_is_never_echoed_and_cd_and_rd_are() {
    check("10.89.1.2", "db A ad", "NOERROR aa | db. A 10.89.1.3");
    check("10.89.1.2", "db A ad cd", "NOERROR aa cd | db. A 10.89.1.3");
    assert_eq!(raw("10.89.1.2", UDP, &question("db A")).unwrap()[2] & 1, 1);
    assert_eq!(raw("10.89.1.2", UDP, &question("db A norec")).unwrap()[2] & 1, 0);
}

#[test]
fn an_answer_is_as_large_as_the_client_takes_and_tcp_has_it_all() {
    let sizes = |text: &str, via: Via| {
        let answer = raw("10.89.1.2", via, &question(text)).unwrap();
        let records = show(&answer).matches("many. A").count();
        (answer.len(), records, answer[2] & 2 != 0)
    };
    assert_eq!(sizes("many A", UDP), (502, 30, true));
    assert_eq!(sizes("many A edns=100", UDP), (497, 29, true));
    assert_eq!(sizes("many A edns=1000", UDP), (993, 60, true));
    assert_eq!(sizes("many A edns=65535", UDP), (1217, 74, true));
    assert_eq!(sizes("many A", TCP), (2422, 150, false));
    assert_eq!(TCP.transport(), Transport::Tcp);
}

#[test]
fn zones_are_swapped_whole_and_at_once() {
    let mut rig = Rig::new(&directory());
    let mut later = directory();
    later.members.remove(1);
    later.members.push(rig::member(&[1], 9, &["new"]));
    rig.server.follow(std::sync::Arc::new(dns::Zones::new(&later)), rig.now);
    assert_eq!(rig.ask_from("10.89.1.2", "new A"), ["10.89.1.2 NOERROR aa | new. A 10.89.1.9"]);
    assert_eq!(
        rig.ask_from("10.89.1.2", "db.dns.podman A"),
        ["10.89.1.2 NXDOMAIN aa | ! dns.podman. SOA dns.podman. nobody.invalid. 0"]
    );
}

#[test]
fn a_server_can_move_to_another_thread() {
    fn movable<T: Send>() {}
    movable::<Server>();
}
