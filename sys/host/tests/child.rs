//! Links on a parent, in the real kernel: made, seen, changed, finished when they were not, removed.

use model::{LinkName, MacAddr, MacvlanMode};
use plan::{
    Address, Child, ChildKind, Mark, Neighbour, Object, Op, Place, Plan, Route, RouteKind, Sandbox, SandboxName, Seen,
    plan,
};
use podwire_host::Host;

mod inside;
use inside::{alone_tests, sh};

fn sandbox() -> SandboxName {
    "podwire-0123456789ab".parse().unwrap()
}

fn link(name: &str) -> LinkName {
    name.parse().unwrap()
}

fn macvlan(mode: MacvlanMode, mac: Option<&str>) -> ChildKind {
    ChildKind::Macvlan { mode, mac: mac.map(|mac| mac.parse::<MacAddr>().unwrap()), bclim: None }
}

fn child(place: Place, name: &str, kind: ChildKind) -> Child {
    let unfinished = if place == Place::Host { link(name) } else { link("pw01234567890") };
    let mark = Mark::new("5eed5eed", "0123456789ab");
    Child { place, name: link(name), unfinished, parent: link("p0"), kind, mtu: 1400, mark }
}

fn within() -> Child {
    child(Place::Sandbox(sandbox()), "eth0", macvlan(MacvlanMode::Bridge, Some("02:00:00:00:00:02")))
}

fn planned(host: &mut Host, desired: &[Object], recorded: &[Object]) -> Plan {
    let asked: Vec<_> = desired.iter().chain(recorded).cloned().collect();
    plan(desired, recorded, &host.observe(&asked).unwrap()).unwrap()
}

/// A parent that is up, and a sandbox; what is there before there is a child.
fn begin() -> (Host, Object, String) {
    sh("ip link add p0 address 02:00:00:00:00:01 type veth peer name p1; ip link set p1 up; ip link set p0 up");
    let mut host = Host::open().unwrap();
    let place = Object::Sandbox(Sandbox { name: sandbox() });
    host.apply(&Plan { ops: vec![Op::Create(place.clone())], ..Plan::default() }).unwrap();
    (host, place, links())
}

fn links() -> String {
    let steady = "sed -E 's/promiscuity [0-9]+//; s/ state [A-Z]+//; s/NO-CARRIER,//; s/,LOWER_UP//'";
    sh(&format!("(ip -d link; ip -n podwire-0123456789ab -d link) | {steady}"))
}

alone_tests! {
    fn what_is_wished_is_made_and_a_second_plan_is_empty() {
        let (mut host, place, before) = begin();
        let own = child(Place::Host, "pwh0", macvlan(MacvlanMode::Bridge, Some("02:00:00:00:00:09")));
        let inside = || Place::Sandbox(sandbox());
        let address = |addr: &str| Object::Address(Address { place: inside(), link: link("eth0"), addr: addr.parse().unwrap() });
        let route = |place: Place, destination: &str, kind| {
            Object::Route(Route { place, destination: destination.parse().unwrap(), kind, metric: 99 })
        };
        let neighbour = |place: Place, name: &str, ip: &str| {
            let mac = "02:00:00:00:00:07".parse().unwrap();
            Object::Neighbour(Neighbour { place, link: link(name), ip: ip.parse().unwrap(), mac })
        };
        let via = |ip: &str| RouteKind::ViaOn(ip.parse().unwrap(), link("eth0"));
        let wish = [
            place.clone(),
            Object::Child(own),
            Object::Child(within()),
            address("192.168.99.65/24"),
            address("fd99::65/64"),
            neighbour(inside(), "eth0", "fd99::109"),
            neighbour(Place::Host, "pwh0", "192.168.99.65"),
            route(inside(), "0.0.0.0/0", via("192.168.99.1")),
            route(inside(), "::/0", via("fd99::1")),
            route(Place::Host, "192.168.99.65/32", RouteKind::On(link("pwh0"))),
            route(Place::Host, "fd99::65/128", RouteKind::On(link("pwh0"))),
        ];
        let first = planned(&mut host, &wish, &[]);
        host.apply(&first).unwrap();
        assert_eq!(planned(&mut host, &wish, &wish).to_string(), "");
        // As two witnesses see it.
        let seen = sh("ip -n podwire-0123456789ab -d link show eth0; ip -n podwire-0123456789ab route; ip route");
        for text in ["mtu 1400", "macvlan mode bridge", "alias podwire:5eed5eed:0123456789ab", "02:00:00:00:00:02"] {
            assert!(seen.contains(text), "{text}: {seen}");
        }
        assert!(seen.contains("default via 192.168.99.1 dev eth0"), "{seen}");
        assert!(seen.contains("192.168.99.65 dev pwh0"), "{seen}");
        // An announcement makes the kernel forget all neighbours of a link; it has come before.
        assert!(sh("ip -n podwire-0123456789ab neigh").contains("fd99::109 dev eth0 lladdr 02:00:00:00:00:07 PERMANENT"));
        let last = planned(&mut host, &[place], &wish);
        host.apply(&last).unwrap();
        assert_eq!(links(), before);
        host.apply(&last).unwrap();
    }

    fn what_others_change_of_it_is_changed_back() {
        let (mut host, place, _) = begin();
        let wish = [place, Object::Child(within())];
        let first = planned(&mut host, &wish, &[]);
        host.apply(&first).unwrap();
        for (deed, step) in [
            ("ip -n podwire-0123456789ab link set eth0 mtu 1300", "~"),
            ("ip -n podwire-0123456789ab link set eth0 down", "~"),
            ("ip -n podwire-0123456789ab link set eth0 alias ''", "~"),
            ("ip -n podwire-0123456789ab link set eth0 address 02:00:00:00:00:08", "~"),
            ("ip -n podwire-0123456789ab link set eth0 type macvlan mode private", "~"),
            ("ip -n podwire-0123456789ab link del eth0", "+"),
        ] {
            sh(deed);
            let again = planned(&mut host, &wish, &wish);
            assert!(again.ops.len() == 1 && again.to_string().starts_with(step), "{deed}: {again}");
            host.apply(&again).unwrap();
            assert_eq!(planned(&mut host, &wish, &wish).to_string(), "", "{deed}");
        }
        // On another parent it is another link.
        sh("ip link set p0 name other; ip link add p0 type veth peer name p2; ip link set p2 up; ip link set p0 up");
        let again = planned(&mut host, &wish, &wish);
        assert!(again.to_string().starts_with("- ") && again.ops.len() == 2, "{again}");
        host.apply(&again).unwrap();
        assert_eq!(planned(&mut host, &wish, &wish).to_string(), "");
    }

    fn one_that_was_not_finished_is_finished_or_removed() {
        let (mut host, place, before) = begin();
        let wish = [place.clone(), Object::Child(within())];
        // As it is when the command was killed between the two messages.
        let half = "ip link add link p0 name pw01234567890 group 28791 netns podwire-0123456789ab type macvlan mode bridge";
        sh(half);
        let again = planned(&mut host, &wish, &wish);
        assert!(again.to_string().starts_with("~ "), "{again}");
        host.apply(&again).unwrap();
        assert_eq!(planned(&mut host, &wish, &wish).to_string(), "");
        let gone = planned(&mut host, std::slice::from_ref(&place), &wish);
        host.apply(&gone).unwrap();
        sh(half);
        let gone = planned(&mut host, &[place], &wish);
        assert_eq!(gone.ops.len(), 1, "{gone}");
        host.apply(&gone).unwrap();
        assert_eq!(links(), before);
    }

    fn what_is_refused_is_said_in_a_sentence_and_leaves_nothing() {
        let (mut host, _, before) = begin();
        let refused = |host: &mut Host, child: Child| {
            let create = Plan { ops: vec![Op::Create(Object::Child(child))], ..Plan::default() };
            let said = host.apply(&create).unwrap_err().to_string();
            assert_eq!(links(), before, "{said}");
            said
        };
        let check = |said: String, text: &str| assert!(said.contains(text), "{said}");
        check(refused(&mut host, Child { parent: link("nope"), ..within() }), "parent interface nope does not exist");
        check(refused(&mut host, Child { parent: link("lo"), ..within() }), "link lo can be no parent");
        check(refused(&mut host, Child { mtu: 9000, ..within() }), "mtu 9000 is more than parent interface p0 has: 1500");
        check(refused(&mut host, Child { name: link("lo"), ..within() }), "link lo is in the way");
        // Somebody else's has the MAC address: told when the link is turned up, and it is taken away again.
        sh("ip link add link p0 name mv0 address 02:00:00:00:00:02 type macvlan mode bridge; ip link set mv0 up");
        let create = Plan { ops: vec![Op::Create(Object::Child(within()))], ..Plan::default() };
        let there = links();
        let said = host.apply(&create).unwrap_err().to_string();
        check(said, "MAC address 02:00:00:00:00:02 is that of another link on parent interface p0");
        assert_eq!(links(), there);
        let alone = Child { kind: macvlan(MacvlanMode::Passthru, None), ..within() };
        let create = Plan { ops: vec![Op::Create(Object::Child(alone))], ..Plan::default() };
        check(host.apply(&create).unwrap_err().to_string(), "in mode passthru there is one link on a parent, and p0 has others");
        assert_eq!(links(), there);
    }

    fn somebody_elses_link_of_its_name_is_never_taken_for_it() {
        let (mut host, place, _) = begin();
        sh("ip -n podwire-0123456789ab link add eth0 type bridge");
        let wish = [place, Object::Child(within())];
        let observed = host.observe(&wish).unwrap();
        assert!(matches!(observed.get(&wish[1].key()), Some(Seen::Other { .. })), "{observed:?}");
        sh("ip -n podwire-0123456789ab link del eth0; ip link add link p0 name eth0 netns podwire-0123456789ab type macvlan");
        let observed = host.observe(&wish).unwrap();
        assert!(matches!(observed.get(&wish[1].key()), Some(Seen::Object { ours: false, .. })), "{observed:?}");
        let said = plan(&wish, &wish, &observed).unwrap_err().to_string();
        assert!(said.contains("ip -n podwire-0123456789ab -d link show eth0"), "{said}");
    }
}
