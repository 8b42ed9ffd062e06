//! What the watch hears in a real kernel, in namespaces of its own.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use engine::Suspicion;
use podwire_netd::watch::{Outcome, Watch};

#[path = "../../../sys/host/tests/inside/mod.rs"]
#[macro_use]
mod inside;
use inside::sh;

/// A watch whose looks come out of the channel, and always find nothing amiss.
fn watch(outcome: Outcome) -> (Watch, Receiver<Suspicion>) {
    let (tell, told): (Sender<Suspicion>, _) = channel();
    let look = move |suspicion: &Suspicion| {
        tell.send(suspicion.clone()).unwrap();
        outcome
    };
    let watch = Watch::start(look).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(2)).unwrap(), Suspicion::of_everything(), "the first look");
    (watch, told)
}

#[track_caller]
fn suspects(told: &Receiver<Suspicion>, harm: &str, expected: &Suspicion) {
    sh(harm);
    assert_eq!(&told.recv_timeout(Duration::from_secs(4)).expect(harm), expected, "{harm}");
}

#[track_caller]
fn suspects_nothing(told: &Receiver<Suspicion>, harmless: &str) {
    sh(harmless);
    assert_eq!(told.recv_timeout(Duration::from_millis(250)).ok(), None, "{harmless}");
}

fn link(name: &str) -> Suspicion {
    Suspicion { links: [name.parse().unwrap()].into(), ..Suspicion::default() }
}

alone_tests! {
    fn links_of_ours_that_are_harmed_are_suspected_those_of_others_are_not() {
        sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
        // The group is that of our links.
        sh("ip link add podman0 type bridge && ip link set podman0 group 28791 up");
        let (watch, told) = watch(Outcome::Fine);
        suspects_nothing(&told, "ip link add pw0 group 28791 type veth peer name x0 && ip link set pw0 master podman0 up");
        suspects_nothing(&told, "ip addr add 10.88.0.1/16 dev podman0");
        suspects_nothing(&told, "ip link add docker0 type bridge && ip addr add 10.77.0.1/16 dev docker0 && ip link del docker0");
        suspects(&told, "ip addr del 10.88.0.1/16 dev podman0", &link("podman0"));
        suspects(&told, "ip link set pw0 nomaster", &link("pw0"));
        suspects(&told, "ip link set pw0 down", &link("pw0"));
        suspects(&told, "ip link del x0", &link("pw0"));
        suspects(&told, "ip link set podman0 mtu 1280", &link("podman0"));
        suspects(&told, "echo 0 >/proc/sys/net/ipv4/conf/podman0/forwarding", &link("podman0"));
        suspects(&told, "ip link del podman0", &link("podman0"));
        // The end of the bridge is still being told of.
        sh("echo 0 >/proc/sys/net/ipv4/ip_forward");
        while !told.recv_timeout(Duration::from_secs(4)).unwrap().everything {}
        drop(watch);
    }

    fn rules_of_ours_that_others_delete_are_suspected() {
        sh("nft 'add table inet podwire; add set inet podwire s { type ipv4_addr; }; add element inet podwire s { 10.0.0.1, 10.0.0.2 }'");
        sh("nft 'add table inet other; add set inet other s { type ipv4_addr; }; add element inet other s { 10.0.0.1 }'");
        let (watch, told) = watch(Outcome::Fine);
        let everything = Suspicion::of_everything();
        suspects_nothing(&told, "nft delete element inet other s '{ 10.0.0.1 }'");
        suspects_nothing(&told, "nft add element inet podwire s '{ 10.0.0.3 }'");
        suspects(&told, "nft delete element inet podwire s '{ 10.0.0.1 }'", &everything);
        // As a command of ours would.
        sh("cp $(command -v nft) /run/podwire");
        suspects_nothing(&told, "/run/podwire delete element inet podwire s '{ 10.0.0.2 }'");
        suspects(&told, "nft flush ruleset", &everything);
        drop(watch);
    }

    fn a_look_that_fails_is_taken_again_though_nothing_more_happens() {
        let (watch, told) = watch(Outcome::Failed);
        let again = told.recv_timeout(Duration::from_secs(4)).unwrap();
        assert_eq!(again, Suspicion::of_everything());
        let begun = Instant::now();
        drop(watch);
        assert!(begun.elapsed() < Duration::from_secs(1), "it ends at once, though it waits to look again");
    }

    fn five_hundred_changes_at_once_are_a_few_looks() {
        sh("ip link add podman0 type bridge && ip link set podman0 group 28791 up");
        let (watch, told) = watch(Outcome::Fine);
        sh("for i in $(seq 250); do echo addr add 10.88.$i.1/24 dev podman0; echo addr del 10.88.$i.1/24 dev podman0; done | ip -batch -");
        std::thread::sleep(Duration::from_millis(400));
        let looks = told.try_iter().collect::<Vec<_>>();
        assert!((1..=8).contains(&looks.len()) && looks.iter().all(|look| *look == link("podman0")), "{looks:?}");
        drop(watch);
    }
}
