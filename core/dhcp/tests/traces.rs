//! What a client says to servers, line by line.

mod rig;

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::{Begin, Event, Lease, Stage, Trouble, frame};
use rig::{MAC, Rig, START, Server, framed, ip, reply};

const NEW: Begin = Begin::Discover { wished: None };

/// A rig whose client has 192.0.2.100 for `seconds`, and is watched no more.
fn bound(seconds: u32) -> Rig {
    let mut rig = Rig::new(NEW, vec![Server { seconds, ..Server::new(1) }]);
    rig.run(4.5);
    assert_eq!(rig.client.stage(), Stage::Bound);
    rig.lines.clear();
    rig
}

fn lease() -> Lease {
    bound(3600).lease.unwrap()
}

#[test]
fn an_address_is_asked_for_probed_used_and_announced() {
    let mut rig = Rig::new(NEW, vec![Server::new(1)]);
    rig.run(10.0).said(&[
        "0.000 DISCOVER",
        "0.000 REQUEST wants 192.0.2.100 from 192.0.2.1",
        "0.000 arp probe 192.0.2.100",
        "0.120 arp probe 192.0.2.100",
        "0.240 leased 192.0.2.100/24",
        "0.240 arp announces 192.0.2.100",
        "2.240 arp announces 192.0.2.100",
    ]);
    assert!(!rig.client.is_listening());
}

#[test]
fn a_silent_network_is_asked_ever_more_slowly() {
    let mut rig = Rig::new(NEW, Vec::new());
    rig.run(400.0);
    let times: Vec<f64> = rig.lines.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    let pauses: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, usual) in pauses.iter().zip([4.0, 8.0, 16.0, 32.0, 64.0, 64.0, 64.0, 64.0]) {
        assert!((pause - usual).abs() <= 1.0, "{pauses:?}");
    }
    assert!((8..=9).contains(&pauses.len()));
    assert!(pauses.iter().any(|pause| pause.fract() != 0.0), "chance has a part in it");
}

#[test]
fn the_address_of_last_time_is_wished_and_one_that_was_kept_is_asked_for_again() {
    let mut rig = Rig::new(Begin::Discover { wished: Some(ip("192.0.2.77")) }, vec![Server::new(1)]);
    rig.run(0.2).said_whenever(&[
        "DISCOVER wants 192.0.2.77",
        "REQUEST wants 192.0.2.77 from 192.0.2.1",
        "arp probe 192.0.2.77",
        "arp probe 192.0.2.77",
    ]);
    let mut server = Server::new(1);
    server.known.insert(rig::identity().client_id, ip("192.0.2.77"));
    let mut rig = Rig::new(Begin::Reboot(ip("192.0.2.77")), vec![server]);
    rig.run(1.0).said_whenever(&[
        "REQUEST wants 192.0.2.77",
        "arp probe 192.0.2.77",
        "arp probe 192.0.2.77",
        "leased 192.0.2.77/24",
        "arp announces 192.0.2.77",
    ]);
}

#[test]
fn after_a_reboot_into_another_network_or_an_unknowing_one_a_new_address_is_asked_for() {
    let mut server = Server::new(1);
    server.known.insert(rig::identity().client_id, ip("192.0.2.50"));
    let mut rig = Rig::new(Begin::Reboot(ip("10.1.1.1")), vec![server]);
    rig.run(0.2).said_whenever(&[
        "REQUEST wants 10.1.1.1",
        "DISCOVER",
        "REQUEST wants 192.0.2.50 from 192.0.2.1",
        "arp probe 192.0.2.50",
        "arp probe 192.0.2.50",
    ]);
    let mut rig = Rig::new(Begin::Reboot(ip("192.0.2.77")), vec![Server::new(1)]);
    rig.run(2.0).said(&[
        "0.000 REQUEST wants 192.0.2.77",
        "2.000 DISCOVER wants 192.0.2.77",
        "2.000 REQUEST wants 192.0.2.77 from 192.0.2.1",
        "2.000 arp probe 192.0.2.77",
    ]);
}

#[test]
fn ten_second_leases_are_renewed_at_half_time() {
    let mut rig = bound(10);
    rig.run(15.5).said(&[
        "5.000 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "5.000 leased 192.0.2.100/24",
        "10.000 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "10.000 leased 192.0.2.100/24",
        "15.000 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "15.000 leased 192.0.2.100/24",
    ]);
    assert_eq!(rig.lease.as_ref().unwrap().end(), Some(START + Duration::from_secs(25)));
}

#[test]
fn a_server_that_is_gone_is_asked_at_t1_all_at_t2_and_then_the_address_is_given_up() {
    let mut rig = bound(3600);
    rig.servers[0].up = false;
    rig.run(3600.0).said(&[
        "1800.000 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "2475.000 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "2812.500 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "2981.250 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "3065.625 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "3125.625 REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "3150.000 REQUEST has 192.0.2.100",
        "3375.000 REQUEST has 192.0.2.100",
        "3487.500 REQUEST has 192.0.2.100",
        "3547.500 REQUEST has 192.0.2.100",
        "3600.000 lost Ended",
        "3600.000 DISCOVER wants 192.0.2.100",
    ]);
}

#[test]
fn another_server_may_rebind() {
    let mut rig = bound(100);
    rig.servers[0].up = false;
    rig.servers.push(Server { known: rig.servers[0].known.clone(), ..Server::new(2) });
    rig.run(90.0);
    assert_eq!(rig.lease.as_ref().unwrap().server, ip("192.0.2.2"));
    assert_eq!(rig.client.stage(), Stage::Bound);
}

#[test]
fn a_lease_for_ever_is_never_renewed() {
    let mut rig = bound(u32::MAX);
    rig.run(1e9).said(&[]);
    assert_eq!(rig.client.deadline(), None);
    assert_eq!(rig.lease.as_ref().unwrap().end(), None);
}

#[test]
fn a_server_that_takes_the_address_back_is_asked_for_another_one() {
    let mut rig = bound(100);
    rig.servers[0].refuses = true;
    rig.run(50.0).said_whenever(&[
        "REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1",
        "lost Refused",
        "DISCOVER",
        "REQUEST wants 192.0.2.100 from 192.0.2.1",
    ]);
}

#[test]
fn a_server_that_offers_and_refuses_is_asked_ever_more_slowly() {
    let mut rig = Rig::new(NEW, vec![Server { refuses: true, ..Server::new(1) }]);
    rig.run(500.0);
    // A refusing server's offers are taken when a pause has passed without a better one.
    let discovers = rig.lines.iter().filter(|line| line.ends_with("DISCOVER")).count();
    assert!((6..=16).contains(&discovers), "{:#?}", rig.lines);
    assert_eq!(rig.client.trouble(), Some(&Trouble::Refused { server: ip("192.0.2.1"), reason: None }));
}

#[test]
fn an_offer_that_is_not_kept_gives_way_to_another_servers() {
    for bad in [Server { keeps_word: false, ..Server::new(66) }, Server { refuses: true, ..Server::new(66) }] {
        let mut rig = Rig::new(NEW, vec![bad, Server::new(1)]);
        rig.run(6.0);
        assert_eq!(rig.lease.as_ref().map(|lease| lease.server), Some(ip("192.0.2.1")), "{:#?}", rig.lines);
    }
}

#[test]
fn a_server_without_words_is_asked_four_times_then_for_other_offers() {
    let mut rig = Rig::new(NEW, vec![Server { keeps_word: false, ..Server::new(66) }]);
    rig.run(70.0);
    assert_eq!(rig.client.trouble(), Some(&Trouble::Silent(ip("192.0.2.66"))));
    // Another one that comes later has it, though the silent one still offers first.
    rig.servers.push(Server::new(1));
    rig.run(140.0);
    assert_eq!(rig.lease.as_ref().map(|lease| lease.server), Some(ip("192.0.2.1")), "{:#?}", rig.lines);
}

#[test]
fn an_address_that_a_neighbour_has_is_declined_and_another_asked_for() {
    let mut rig = Rig::new(NEW, vec![Server::new(1)]);
    rig.taken = vec![ip("192.0.2.100")];
    rig.run(1.0).said_whenever(&[
        "DISCOVER",
        "REQUEST wants 192.0.2.100 from 192.0.2.1",
        "arp probe 192.0.2.100",
        "DECLINE wants 192.0.2.100 from 192.0.2.1",
        "DISCOVER",
        "REQUEST wants 192.0.2.101 from 192.0.2.1",
        "arp probe 192.0.2.101",
        "arp probe 192.0.2.101",
        "leased 192.0.2.101/24",
        "arp announces 192.0.2.101",
    ]);
}

#[test]
fn a_neighbour_who_contests_everything_makes_it_slow_but_not_busy() {
    let mut rig = Rig::new(NEW, vec![Server::new(1)]);
    rig.taken = (0..=255).map(|n| Ipv4Addr::new(192, 0, 2, n)).collect();
    rig.run(300.0);
    let declines = rig.lines.iter().filter(|line| line.contains("DECLINE")).count();
    // One at once, eight after ten seconds each, then one a minute.
    assert!((10..=14).contains(&declines), "{declines}");
    assert!(matches!(rig.client.trouble(), Some(Trouble::InUse { .. })));
}

#[test]
fn an_address_that_is_contested_in_its_first_seconds_is_given_up() {
    let mut rig = Rig::new(NEW, vec![Server::new(1)]);
    rig.run(1.0).lines.clear();
    rig.hear(&frame::write_arp([2, 0, 0, 0, 2, 2], ip("192.0.2.100"), ip("192.0.2.100")));
    rig.said_whenever(&[
        "lost Contested",
        "DECLINE wants 192.0.2.100 from 192.0.2.1",
        "DISCOVER",
        "REQUEST wants 192.0.2.101 from 192.0.2.1",
        "arp probe 192.0.2.101",
    ]);
}

#[test]
fn an_address_is_given_back_with_itself_and_the_server_named() {
    let mut rig = bound(3600);
    rig.release();
    rig.said_whenever(&["RELEASE has 192.0.2.100 from 192.0.2.1 by frame to 1"]);
    assert!(rig.servers[0].known.is_empty());
    assert_eq!((rig.client.stage(), rig.client.deadline(), rig.client.lease()), (Stage::Released, None, None));
    rig.release();
    rig.run(10_000.0).said(&[]);
    // Who has nothing gives nothing back.
    let mut rig = Rig::new(NEW, Vec::new());
    rig.release();
    rig.said_whenever(&["DISCOVER"]);
}

#[test]
fn another_process_goes_on_where_one_ended() {
    let old = lease();
    let resume = |elapsed: u64| {
        let obtained = START - Duration::from_secs(elapsed);
        let mut rig = Rig::new(Begin::Resume(Lease { obtained, ..old.clone() }), Vec::new());
        rig.run(0.0);
        rig
    };
    resume(1799).said(&[]);
    resume(1801).said_whenever(&["REQUEST has 192.0.2.100 by datagram 192.0.2.100 > 192.0.2.1"]);
    resume(3151).said_whenever(&["REQUEST has 192.0.2.100"]);
    resume(3600).said_whenever(&["lost Ended", "DISCOVER wants 192.0.2.100"]);
}

#[test]
fn a_machine_that_slept_past_the_end_gives_the_address_up_at_once() {
    let mut rig = bound(3600);
    rig.now = START + Duration::from_secs(90_000);
    rig.client.handle(Event::Tick, rig.now);
    rig.drain();
    rig.said_whenever(&[
        "lost Ended",
        "DISCOVER wants 192.0.2.100",
        "REQUEST wants 192.0.2.100 from 192.0.2.1",
        "arp probe 192.0.2.100",
    ]);
}

#[test]
fn only_the_server_that_was_chosen_is_believed() {
    let mut rig = Rig::new(NEW, vec![Server { keeps_word: false, ..Server::new(1) }]);
    rig.run(0.1);
    assert_eq!(rig.client.stage(), Stage::Requesting);
    let transaction = first_transaction();
    let address = ip("192.0.2.100");
    let terms = |server: [u8; 4]| vec![(54, server.to_vec()), (51, vec![0, 0, 14, 16]), (1, vec![255, 255, 255, 0])];
    let (good, rogue) = ([192, 0, 2, 1], [192, 0, 2, 66]);
    for (kind, number, mac, yours, server) in [
        (5, transaction, MAC, address, rogue),
        (6, transaction, MAC, Ipv4Addr::UNSPECIFIED, rogue),
        (5, transaction ^ 1, MAC, address, good),
        (6, transaction ^ 1, MAC, Ipv4Addr::UNSPECIFIED, good),
        (5, transaction, [9; 6], address, good),
        (5, transaction, MAC, ip("192.0.2.101"), good),
        (5, transaction, MAC, Ipv4Addr::UNSPECIFIED, good),
        (2, transaction, MAC, address, good),
    ] {
        rig.hear(&framed([2, 0, 0, 0, 1, 66], ip("192.0.2.66"), MAC, &reply(kind, number, mac, yours, &terms(server))));
        assert_eq!(rig.client.stage(), Stage::Requesting, "{kind} {server:?}");
    }
    rig.hear(&framed([2, 0, 0, 0, 1, 1], ip("192.0.2.1"), MAC, &reply(5, transaction, MAC, address, &terms(good))));
    assert_eq!(rig.client.stage(), Stage::Probing);
}

/// The number that `rig::chance(1)` gives first.
fn first_transaction() -> u32 {
    1_u32.wrapping_mul(1_664_525).wrapping_add(1_013_904_223).rotate_left(16)
}

#[test]
fn when_renewing_only_the_lender_may_refuse() {
    let mut rig = bound(3600);
    rig.servers[0].up = false;
    rig.servers.push(Server { refuses: true, ..Server::new(66) });
    rig.run(2000.0);
    assert_eq!(rig.client.stage(), Stage::Renewing);
    assert!(rig.lease.is_some());
}

#[test]
fn offers_that_cannot_be_used_are_passed_over_and_said() {
    let hopeless: [(u8, Vec<u8>); 3] = [(51, vec![0, 0, 0, 1]), (1, vec![255, 0, 255, 0]), (1, vec![0, 0, 0, 0])];
    for (code, value) in hopeless {
        let mut bad = Server::new(66);
        bad.options.retain(|(other, _)| *other != code);
        if code == 51 {
            bad.seconds = 1;
        } else {
            bad.options.push((code, value));
        }
        let mut rig = Rig::new(NEW, vec![bad]);
        rig.run(1.0).said_whenever(&["DISCOVER"]);
        assert!(matches!(rig.client.trouble(), Some(Trouble::Unusable(_))));
        rig.servers.push(Server::new(1));
        rig.run(6.0);
        assert_eq!(rig.lease.as_ref().map(|lease| lease.server), Some(ip("192.0.2.1")));
    }
    for next in [0, 255] {
        let mut rig = Rig::new(NEW, vec![Server { next, ..Server::new(66) }]);
        rig.run(1.0).said_whenever(&["DISCOVER"]);
    }
}

/// Loses so many of 256 frames.
fn losing(seed: u32, of_256: u32) -> Box<dyn FnMut() -> bool> {
    let mut number = seed;
    Box::new(move || {
        number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        number >> 16 & 0xff < of_256
    })
}

#[test]
fn with_a_third_of_all_frames_lost_there_is_an_address_in_the_end_and_with_a_seventh_it_is_kept() {
    for seed in 0..200 {
        let mut rig = Rig::seeded(NEW, vec![Server::new(1)], seed);
        rig.lost = losing(seed, 85);
        rig.run(3_000.0);
        assert!(rig.lease.is_some(), "seed {seed}: {:#?}", rig.lines);
        rig.lost = losing(seed, 37);
        rig.lines.clear();
        rig.run(40_000.0);
        let times = rig.lines.iter().filter(|line| line.contains("leased")).count();
        assert!(times > 15 && !rig.lines.iter().any(|line| line.contains("lost")), "seed {seed}: {:#?}", rig.lines);
    }
}
