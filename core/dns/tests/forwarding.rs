//! What upstreams are asked, and what becomes of their answers: event in, outputs out.

mod rig;

use std::sync::Arc;

use dns::{Directory, Event, Limits, Reach, Transport, Via, Zones};
use rig::{Rig, UP1, UP2, directory, member, question, with_address, with_code, with_truncation};

const NOTHING: [&str; 0] = [];
const TCP: Via = Via::Tcp { connection: 1 };
const UDP: Via = Via::Udp { listener: 0 };
const SHOWN: &str = "NOERROR | example.com. 300 A 198.51.100.7";

fn rig() -> Rig {
    Rig::new(&directory())
}

#[test]
fn an_outside_name_is_asked_and_the_answer_relayed_unchanged_but_for_the_id() {
    let mut rig = rig();
    assert_eq!(rig.ask_from("10.89.1.2", "Example.com A ad cd"), ["ask 192.0.2.1 by Udp"]);
    let (_, _, _, asked) = rig.socket_to(UP1);
    assert_eq!(asked[2..], question("Example.com A ad cd")[2..]);
    let mut answer = asked;
    answer[2] |= 0x84;
    answer[3] |= 0xa0;
    with_address(&mut answer);
    let (socket, from, ..) = rig.socket_to(UP1);
    rig.server.handle(Event::Answered { socket, from, message: &answer }, rig.now);
    assert_eq!(rig.server.poll(), Some(dns::Output::Close { socket }));
    let Some(dns::Output::Send { message, .. }) = rig.server.poll() else { panic!("no answer") };
    assert_eq!((&message[..2], &message[2..]), (b"\x12\x34".as_slice(), &answer[2..]));
}

#[test]
fn every_question_has_another_id_and_a_socket_of_its_own() {
    let mut rig = rig();
    (0..100).for_each(|id| drop(rig.ask_from("10.89.1.2", &format!("example.com A id={id}"))));
    let ids: std::collections::BTreeSet<_> = rig.open.iter().map(|open| open.3[..2].to_vec()).collect();
    let sockets: std::collections::BTreeSet<_> = rig.open.iter().map(|open| open.0.index()).collect();
    assert_eq!((ids.len(), sockets.len()), (100, 100));
}

#[test]
fn options_and_other_records_stay_here_and_the_size_is_ours() {
    let mut rig = rig();
    let mut message = question("example.com A edns=4096 do");
    // A cookie and a TSIG-like record behind it.
    *message.last_mut().unwrap() = 12;
    message.extend(b"\0\x0a\0\x08cookies!");
    message[11] = 2;
    message.extend(b"\x03key\0\0\xfa\0\xff\0\0\0\0\0\0");
    rig.asked("10.89.1.2", UDP, &message);
    assert_eq!(rig.socket_to(UP1).3[2..], question("example.com A edns=1232 do")[2..]);
}

#[test]
fn the_case_of_the_question_comes_back_even_if_the_upstream_changed_it() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "eXample.com A");
    let said = rig.answer(UP1, |message| {
        message[12..25].make_ascii_lowercase();
        with_address(message);
    });
    assert_eq!(said[1], "10.89.1.2 NOERROR | eXample.com. 300 A 198.51.100.7");
}

#[test]
fn after_half_a_second_another_upstream_is_asked_and_the_first_is_still_heard() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    assert_eq!(rig.tick_at(499), NOTHING);
    assert_eq!(rig.tick_at(500), ["ask 192.0.2.2 by Udp"]);
    let said = rig.answer(UP1, with_address);
    assert_eq!(said, ["close 192.0.2.1".into(), "close 192.0.2.2".into(), format!("10.89.1.2 {SHOWN}")]);
    assert_eq!((rig.server.in_flight(), rig.server.deadline()), (0, None));
}

#[test]
fn three_are_heard_at_once_and_after_four_seconds_it_is_servfail() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A edns=1232");
    assert_eq!(rig.tick_at(500), ["ask 192.0.2.2 by Udp"]);
    assert_eq!(rig.tick_at(1000), ["ask 192.0.2.1 by Udp"]);
    assert_eq!(rig.tick_at(2000), ["close 192.0.2.1", "ask 192.0.2.2 by Udp"]);
    assert_eq!(rig.tick_at(3000), ["close 192.0.2.2", "ask 192.0.2.1 by Udp"]);
    assert_eq!(rig.tick_at(3999), NOTHING);
    let said = rig.tick_at(4000);
    assert_eq!(said.last().unwrap(), "10.89.1.2 SERVFAIL | edns=1232");
    assert!(rig.open.is_empty());
}

#[test]
fn a_refused_upstream_is_followed_by_the_next_at_once() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    let (socket, ..) = rig.socket_to(UP1);
    assert_eq!(rig.handle(Event::Failed { socket }), ["close 192.0.2.1", "ask 192.0.2.2 by Udp"]);
    let (socket, ..) = rig.socket_to(UP2);
    assert_eq!(rig.handle(Event::Failed { socket }), ["close 192.0.2.2", "10.89.1.2 SERVFAIL"]);
    assert_eq!(rig.handle(Event::Failed { socket }), NOTHING, "a late event of a closed socket");
}

#[test]
fn servfail_and_refused_of_one_upstream_are_for_another_to_mend() {
    for code in [2, 5] {
        let mut rig = rig();
        rig.ask_from("10.89.1.2", "example.com A");
        assert_eq!(rig.answer(UP1, with_code(code)), ["close 192.0.2.1", "ask 192.0.2.2 by Udp"]);
        assert_eq!(rig.answer(UP2, with_address), ["close 192.0.2.2".into(), format!("10.89.1.2 {SHOWN}")]);
    }
}

#[test]
fn when_all_say_failure_the_first_one_s_is_relayed() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    rig.answer(UP1, with_code(5));
    assert_eq!(rig.answer(UP2, with_code(2)), ["close 192.0.2.2", "10.89.1.2 REFUSED"]);
}

#[test]
fn nxdomain_is_an_answer() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    assert_eq!(rig.answer(UP1, with_code(3)), ["close 192.0.2.1", "10.89.1.2 NXDOMAIN"]);
}

#[test]
fn a_silent_upstream_is_passed_over_and_tried_again_later() {
    let mut rig = rig();
    let ask = |rig: &mut Rig, milliseconds: u64| {
        let mut said = rig.tick_at(milliseconds);
        said.extend(rig.ask_from("10.89.1.2", "example.com A"));
        said
    };
    for at in [0, 600] {
        assert_eq!(ask(&mut rig, at), ["ask 192.0.2.1 by Udp"]);
        assert_eq!(rig.tick_at(at + 500), ["ask 192.0.2.2 by Udp"]);
        rig.answer(UP2, with_address);
    }
    for at in [1_200, 6_000] {
        assert_eq!(ask(&mut rig, at), ["ask 192.0.2.2 by Udp"]);
        rig.answer(UP2, with_address);
    }
    assert_eq!(ask(&mut rig, 6_200), ["ask 192.0.2.1 by Udp"], "after the pause");
    rig.answer(UP1, with_address);
    assert_eq!(ask(&mut rig, 6_300), ["ask 192.0.2.1 by Udp"]);
}

#[test]
fn a_slow_upstream_is_passed_over_too_though_its_answers_count() {
    let mut rig = rig();
    for at in [0, 1_000] {
        rig.tick_at(at);
        assert_eq!(rig.ask_from("10.89.1.2", "example.com A"), ["ask 192.0.2.1 by Udp"]);
        rig.tick_at(at + 500);
        rig.now += std::time::Duration::from_millis(100);
        assert_eq!(rig.answer(UP1, with_address).last(), Some(&format!("10.89.1.2 {SHOWN}")));
    }
    assert_eq!(rig.ask_from("10.89.1.2", "example.com A"), ["ask 192.0.2.2 by Udp"]);
}

#[test]
fn what_does_not_fit_the_question_is_counted_and_not_believed() {
    type Change = fn(&mut Vec<u8>);
    let forgeries: [(&str, Change); 6] = [
        ("another id", |m| m[1] ^= 1),
        ("a query", |m| m[2] &= 0x7f),
        ("another name", |m| m[13] = b'X' - 1),
        ("another type", |m| m[26] = 28),
        ("a record is missing", |m| m[7] = 1),
        ("empty", Vec::clear),
    ];
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    for (why, change) in forgeries {
        assert_eq!(rig.answer(UP1, change), NOTHING, "{why}");
    }
    let (socket, _, _, mut message) = rig.socket_to(UP1);
    message[2] |= 0x80;
    for from in [UP2, "192.0.2.1:54"] {
        assert_eq!(rig.handle(Event::Answered { socket, from: from.parse().unwrap(), message: &message }), NOTHING);
    }
    assert_eq!(rig.server.counts().mismatched, 8);
    assert_eq!(rig.answer(UP1, with_address)[1], format!("10.89.1.2 {SHOWN}"), "the right one still counts");
}

#[test]
fn a_truncated_answer_is_relayed_by_udp_and_asked_for_again_by_tcp() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    assert_eq!(rig.answer(UP1, with_truncation()), ["close 192.0.2.1", "10.89.1.2 NOERROR tc"]);

    assert_eq!(rig.asked("10.89.1.2", TCP, &question("example.com A")), ["ask 192.0.2.1 by Udp"]);
    assert_eq!(rig.answer(UP1, with_truncation()), ["close 192.0.2.1", "ask 192.0.2.1 by Tcp"]);
    assert_eq!(rig.open[0].2, Transport::Tcp);
    assert_eq!(rig.answer(UP1, with_address), ["close 192.0.2.1".into(), format!("10.89.1.2 {SHOWN}")]);
}

#[test]
fn an_upstream_without_tcp_is_followed_by_the_next() {
    let mut rig = rig();
    rig.asked("10.89.1.2", TCP, &question("example.com A"));
    rig.answer(UP1, with_truncation());
    let (socket, ..) = rig.socket_to(UP1);
    assert_eq!(rig.handle(Event::Failed { socket }), ["close 192.0.2.1", "ask 192.0.2.2 by Udp"]);
}

#[test]
fn an_answer_larger_than_the_client_takes_becomes_a_truncated_one() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    let said = rig.answer(UP1, |message| (0..31).for_each(|_| with_address(message)));
    assert_eq!(said, ["close 192.0.2.1", "10.89.1.2 NOERROR tc"]);
}

#[test]
fn the_container_s_own_upstreams_are_asked_instead_of_its_networks_and_the_host_s() {
    let mut directory = directory();
    directory.networks[0].upstreams = vec!["192.0.2.10:53".parse().unwrap()];
    directory.members[0].upstreams = vec!["[2001:db8::53]:53".parse().unwrap()];
    let mut rig = Rig::new(&directory);
    assert_eq!(rig.ask_from("10.89.1.2", "example.com A"), ["ask 2001:db8::53 by Udp"]);
    assert_eq!(rig.ask_from("10.89.1.3", "example.com A"), ["ask 192.0.2.10 by Udp"]);
    assert_eq!(rig.ask_from("10.89.2.9", "example.com A"), ["ask 192.0.2.1 by Udp"]);
}

#[test]
fn reverse_names_of_other_addresses_are_asked() {
    let mut rig = rig();
    for name in ["8.8.8.8.in-addr.arpa PTR", "1.0.0.10.in-addr.arpa PTR", "1.168.192.in-addr.arpa SOA"] {
        assert_eq!(rig.ask_from("10.89.1.2", name), ["ask 192.0.2.1 by Udp"], "{name}");
    }
}

#[test]
fn a_client_that_asks_again_takes_no_second_place() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    assert_eq!(rig.ask_from("10.89.1.2", "example.com A"), NOTHING);
    assert_eq!((rig.server.in_flight(), rig.server.counts().repeated), (1, 1));
    assert_eq!(rig.answer(UP1, with_address).len(), 2, "one close, one answer");
}

#[test]
fn a_connection_that_ends_takes_its_queries_along() {
    let mut rig = rig();
    rig.asked("10.89.1.2", TCP, &question("example.com A"));
    rig.ask_from("10.89.1.2", "example.com A");
    assert_eq!(rig.handle(Event::Gone { connection: 1 }), ["close 192.0.2.1"]);
    assert_eq!(rig.server.in_flight(), 1);
}

fn limited(in_flight: usize, per_client: usize) -> Rig {
    Rig::with(&directory(), Limits { in_flight, per_client })
}

fn ask(rig: &mut Rig, source: &str, id: u32) -> Vec<String> {
    rig.ask_from(source, &format!("example.com A id={id}"))
}

#[test]
fn a_client_at_its_bound_gets_servfail_until_its_oldest_has_waited_in_vain() {
    let mut rig = limited(8, 2);
    ask(&mut rig, "10.89.1.2", 1);
    ask(&mut rig, "10.89.1.2", 2);
    assert_eq!(ask(&mut rig, "10.89.1.2", 3), ["10.89.1.2 SERVFAIL"]);
    assert_eq!(ask(&mut rig, "10.89.1.3", 1), ["ask 192.0.2.1 by Udp"], "others are not concerned");
    rig.tick_at(600);
    let said = ask(&mut rig, "10.89.1.2", 4);
    assert_eq!(said[2..], ["10.89.1.2 SERVFAIL", "ask 192.0.2.2 by Udp"], "the oldest made room");
}

#[test]
fn when_all_is_taken_whoever_has_most_makes_room() {
    let mut rig = limited(4, 4);
    (0..4).for_each(|id| drop(ask(&mut rig, "10.89.1.2", id)));
    let said = ask(&mut rig, "10.89.1.3", 1);
    assert_eq!(said, ["close 192.0.2.1", "10.89.1.2 SERVFAIL", "ask 192.0.2.1 by Udp"]);
    assert_eq!(ask(&mut rig, "10.89.1.3", 2).len(), 3);
    assert_eq!(ask(&mut rig, "10.89.1.3", 3), ["10.89.1.3 SERVFAIL"], "two each is fair");
    assert_eq!(rig.server.in_flight(), 4);
}

#[test]
fn sources_that_are_no_members_share_one_bound() {
    let mut rig = limited(8, 2);
    assert_eq!(ask(&mut rig, "10.89.2.50", 1).len(), 1);
    assert_eq!(ask(&mut rig, "10.89.2.51", 1).len(), 1);
    assert_eq!(ask(&mut rig, "10.89.2.52", 1), ["10.89.2.52 SERVFAIL"]);
}

#[test]
fn local_names_need_no_place() {
    let mut rig = limited(0, 0);
    assert_eq!(ask(&mut rig, "10.89.1.2", 1), ["10.89.1.2 SERVFAIL"]);
    assert_eq!(rig.ask_from("10.89.1.2", "db A"), ["10.89.1.2 NOERROR aa | db. A 10.89.1.3"]);
}

#[test]
fn there_are_never_more_sockets_than_twice_the_flights() {
    let mut rig = limited(4, 4);
    (0..4).for_each(|id| drop(ask(&mut rig, "10.89.1.2", id)));
    for at in [500, 1000, 2000, 3000] {
        rig.tick_at(at);
        assert!(rig.open.len() <= 8 && rig.open.iter().all(|open| open.0.index() < 8), "{at}");
    }
    rig.tick_at(4000);
    assert_eq!((rig.open.len(), rig.server.in_flight()), (0, 0));
}

#[test]
fn a_new_flight_has_a_socket_however_many_the_others_would_like() {
    let mut rig = limited(4, 4);
    (0..3).for_each(|id| drop(ask(&mut rig, "10.89.1.2", id)));
    rig.tick_at(500);
    rig.tick_at(1000);
    assert_eq!(rig.open.len(), 7);
    assert_eq!(ask(&mut rig, "10.89.1.2", 3), ["ask 192.0.2.1 by Udp"]);
}

fn follow(rig: &mut Rig, directory: &Directory) -> Vec<String> {
    rig.server.follow(Arc::new(Zones::new(directory)), rig.now);
    rig.drain()
}

#[test]
fn a_swap_of_zones_leaves_queries_in_flight_alone() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    assert_eq!(follow(&mut rig, &directory()), NOTHING);
    assert_eq!(rig.answer(UP1, with_address)[1], format!("10.89.1.2 {SHOWN}"));
}

#[test]
fn a_name_that_comes_while_it_is_asked_outside_is_answered() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "new A");
    let mut later = directory();
    later.members.push(member(&[1], 9, &["new"]));
    assert_eq!(follow(&mut rig, &later), ["close 192.0.2.1", "10.89.1.2 NOERROR aa | new. A 10.89.1.9"]);
}

#[test]
fn nobody_is_asked_any_more_once_the_way_out_is_closed() {
    let mut rig = rig();
    rig.ask_from("10.89.1.3", "example.com A");
    let mut later = directory();
    later.networks[0].reach = Reach::Internal;
    assert_eq!(follow(&mut rig, &later), ["close 192.0.2.1", "10.89.1.3 NXDOMAIN"]);
    assert_eq!(rig.tick_at(10_000), NOTHING);
}

#[test]
fn an_upstream_that_is_gone_from_resolv_conf_is_not_waited_for() {
    let mut rig = rig();
    rig.ask_from("10.89.1.2", "example.com A");
    let later = Directory { upstreams: vec!["192.0.2.9:53".parse().unwrap()], ..directory() };
    assert_eq!(follow(&mut rig, &later), ["close 192.0.2.1", "ask 192.0.2.9 by Udp"]);
}
