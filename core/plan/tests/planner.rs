//! What `plan()` decides, one rule at a time, in the words of `--dry-run`.

use model::{ContainerId, LinkName, Protocol};
use podwire_plan::world::{Deed, World};
use podwire_plan::{
    Address, Bridge, Conflict, Element, Field, Mark, Object, Op, Place, Plan, Route, RouteKind, Ruleset, Sandbox,
    SandboxName, Seen, Sysctl, Table, Veth, forgotten, plan,
};

fn link(name: &str) -> LinkName {
    name.parse().unwrap()
}

fn sandbox_name() -> SandboxName {
    SandboxName::of(&ContainerId::from_bytes([0xc1; 32]))
}

fn mark() -> Mark {
    Mark::new("5f", "c1c1")
}

fn bridge() -> Object {
    Object::Bridge(Bridge {
        name: link("podman0"),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: 1500,
        filters_vlans: false,
        vrf: None,
        mark: mark(),
    })
}

fn bridge_address() -> Object {
    Object::Address(Address { place: Place::Host, link: link("podman0"), addr: "10.88.0.1/16".parse().unwrap() })
}

fn sandbox() -> Object {
    Object::Sandbox(Sandbox { name: sandbox_name() })
}

fn veth() -> Object {
    Object::Veth(Veth {
        host: link("pw0"),
        bridge: link("podman0"),
        sandbox: sandbox_name(),
        name: link("eth0"),
        mac: "02:00:00:00:00:02".parse().unwrap(),
        mtu: 1500,
        vlan: None,
        isolated: false,
        mark: mark(),
    })
}

fn address() -> Object {
    let place = Place::Sandbox(sandbox_name());
    Object::Address(Address { place, link: link("eth0"), addr: "10.88.0.2/16".parse().unwrap() })
}

fn route() -> Object {
    Object::Route(Route {
        place: Place::Sandbox(sandbox_name()),
        destination: model::Subnet::ANY4,
        kind: RouteKind::Via("10.88.0.1".parse().unwrap()),
        metric: 100,
    })
}

fn sysctl(place: Place, path: &str, value: &str) -> Object {
    Object::Sysctl(Sysctl { place, path: path.to_owned(), value: value.to_owned() })
}

fn forwarding() -> Object {
    sysctl(Place::Host, "net/ipv4/ip_forward", "1")
}

fn ruleset(version: &str) -> Object {
    Object::Ruleset(Ruleset { version: version.to_owned() })
}

fn element(to: &str, mark: Mark) -> Object {
    Object::Element(Element {
        table: Table::Inet,
        set: "publish4".to_owned(),
        key: vec![Field::Protocol(Protocol::Tcp), Field::Port(8080)],
        data: vec![Field::Ip(to.parse().unwrap()), Field::Port(80)],
        mark,
    })
}

/// Everything a container needs, in no useful order.
fn all() -> Vec<Object> {
    let inside = sysctl(Place::Sandbox(sandbox_name()), "net/ipv4/conf/default/rp_filter", "2");
    let of_bridge = sysctl(Place::Host, "net/ipv4/conf/podman0/rp_filter", "2");
    let of_member = sysctl(Place::Host, "net/ipv6/conf/pw0/disable_ipv6", "1");
    vec![
        route(),
        address(),
        of_member,
        veth(),
        inside,
        of_bridge,
        bridge_address(),
        bridge(),
        forwarding(),
        sandbox(),
        element("10.88.0.2", mark()),
        ruleset("1"),
    ]
}

fn planned(world: &World, desired: &[Object], recorded: &[Object]) -> Result<Plan, Conflict> {
    let asked: Vec<Object> = desired.iter().chain(recorded).cloned().collect();
    plan(desired, recorded, &world.observe(&asked))
}

/// A world in which `objects` were made by us.
fn made(objects: &[Object]) -> World {
    let mut world = World::new();
    let plan = planned(&world, objects, &[]).unwrap();
    world.apply_all(&plan).unwrap();
    world
}

/// The plan's text is `expected`; it can be applied; then nothing is left to do; and its undo restores.
fn check(world: &World, desired: &[Object], recorded: &[Object], expected: &str) {
    let plan = planned(world, desired, recorded).unwrap();
    let lines: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(plan.to_string().lines().collect::<Vec<_>>(), lines);
    let mut after = world.clone();
    after.apply_all(&plan).unwrap();
    assert_eq!(planned(&after, desired, recorded).unwrap().to_string(), "", "a second plan");
    after.apply_all(&plan.undo()).unwrap();
    assert_eq!(after.to_string(), world.to_string(), "undone");
}

fn check_conflict(world: &World, desired: &[Object], expected: &str) {
    assert_eq!(planned(world, desired, desired).unwrap_err().to_string(), expected);
}

#[test]
fn the_firewall_comes_first_and_what_is_needed_before_what_needs_it() {
    check(
        &World::new(),
        &all(),
        &[],
        "+ tables inet podwire, bridge podwire (rules 1)
         + element inet podwire publish4 { tcp . 8080 : 10.88.0.2 . 80 }
         ~ sysctl net.ipv4.ip_forward=0 -> sysctl net.ipv4.ip_forward=1
         + link podman0 type bridge address 02:00:00:00:00:01 mtu 1500
         + netns podwire-c1c1c1c1c1c1
         + [podwire-c1c1c1c1c1c1] sysctl net.ipv4.conf.default.rp_filter=2
         + link pw0 type veth master podman0 mtu 1500 peer [podwire-c1c1c1c1c1c1] eth0 address 02:00:00:00:00:02
         + sysctl net.ipv6.conf.pw0.disable_ipv6=1
         + sysctl net.ipv4.conf.podman0.rp_filter=2
         + [podwire-c1c1c1c1c1c1] addr 10.88.0.2/16 dev eth0
         + addr 10.88.0.1/16 dev podman0
         + [podwire-c1c1c1c1c1c1] route default via 10.88.0.1 metric 100",
    );
}

#[test]
fn what_vanishes_with_something_else_has_no_op_of_its_own() {
    let world = made(&all());
    check(
        &world,
        &[],
        &all(),
        "- tables inet podwire, bridge podwire (rules 1)
         - link pw0 type veth master podman0 mtu 1500 peer [podwire-c1c1c1c1c1c1] eth0 address 02:00:00:00:00:02
         - netns podwire-c1c1c1c1c1c1
         - link podman0 type bridge address 02:00:00:00:00:01 mtu 1500",
    );
    let stays = [sandbox(), ruleset("1"), bridge(), bridge_address()];
    check(
        &world,
        &stays,
        &all(),
        "- element inet podwire publish4 { tcp . 8080 : 10.88.0.2 . 80 }
         - link pw0 type veth master podman0 mtu 1500 peer [podwire-c1c1c1c1c1c1] eth0 address 02:00:00:00:00:02",
    );
}

#[test]
fn no_record_is_kept_of_what_is_gone() {
    let keys = forgotten(&[bridge()], &[bridge(), bridge_address(), forwarding()]);
    assert_eq!(keys, [bridge_address().key(), forwarding().key()]);
}

#[test]
fn what_is_there_already_is_left_alone() {
    let world = made(&all());
    check(&world, &all(), &all(), "");
    check(&world, &all(), &[], "");
    check(&world, &[], &[], "");
}

#[test]
fn what_others_changed_is_changed_back() {
    let mut world = made(&all());
    world.by_hand(&Deed::SetMtu(link("podman0"), 1400));
    world.by_hand(&Deed::NoMaster(link("pw0")));
    world.by_hand(&Deed::DeleteAddress(Place::Host, link("podman0"), "10.88.0.1/16".parse().unwrap()));
    world.by_hand(&Deed::AddAddress(link("podman0"), "10.88.0.1/24".parse().unwrap()));
    check(
        &world,
        &all(),
        &all(),
        "- addr 10.88.0.1/24 dev podman0
         ~ link podman0 type bridge address 02:00:00:00:00:01 mtu 1400 -> link podman0 type bridge address 02:00:00:00:00:01 mtu 1500
         ~ link pw0 type veth master pw0 mtu 1500 peer [podwire-c1c1c1c1c1c1] eth0 address 02:00:00:00:00:02 -> link pw0 type veth master podman0 mtu 1500 peer [podwire-c1c1c1c1c1c1] eth0 address 02:00:00:00:00:02
         + addr 10.88.0.1/16 dev podman0",
    );
}

#[test]
fn a_link_that_cannot_be_changed_is_made_anew_with_all_that_was_on_it() {
    let world = made(&all());
    let Object::Veth(mut other) = veth() else { unreachable!() };
    other.mac = "02:00:00:00:00:09".parse().unwrap();
    let desired: Vec<Object> =
        all().into_iter().map(|o| if o.key() == veth().key() { Object::Veth(other.clone()) } else { o }).collect();
    check(
        &world,
        &desired,
        &all(),
        "- link pw0 type veth master podman0 mtu 1500 peer [podwire-c1c1c1c1c1c1] eth0 address 02:00:00:00:00:02
         + link pw0 type veth master podman0 mtu 1500 peer [podwire-c1c1c1c1c1c1] eth0 address 02:00:00:00:00:09
         + sysctl net.ipv6.conf.pw0.disable_ipv6=1
         + [podwire-c1c1c1c1c1c1] addr 10.88.0.2/16 dev eth0
         + [podwire-c1c1c1c1c1c1] route default via 10.88.0.1 metric 100",
    );
}

#[test]
fn other_rules_keep_the_elements_and_come_before_changes_to_them() {
    let world = made(&all());
    let newer = |objects: Vec<Object>| -> Vec<Object> {
        objects.into_iter().map(|o| if o == ruleset("1") { ruleset("2") } else { o }).collect()
    };
    check(
        &world,
        &newer(all()),
        &all(),
        "~ tables inet podwire, bridge podwire (rules 1) -> tables inet podwire, bridge podwire (rules 2)",
    );
    let mut fewer = newer(all());
    fewer.retain(|o| *o != element("10.88.0.2", mark()));
    check(
        &world,
        &fewer,
        &all(),
        "~ tables inet podwire, bridge podwire (rules 1) -> tables inet podwire, bridge podwire (rules 2)
         - element inet podwire publish4 { tcp . 8080 : 10.88.0.2 . 80 }",
    );
}

#[test]
fn an_element_of_ours_gets_other_data_in_one_transaction() {
    let world = made(&[ruleset("1"), element("10.88.0.2", mark())]);
    let desired = [ruleset("1"), element("10.88.0.3", mark())];
    check(
        &world,
        &desired,
        &desired,
        "~ element inet podwire publish4 { tcp . 8080 : 10.88.0.2 . 80 } -> element inet podwire publish4 { tcp . 8080 : 10.88.0.3 . 80 }",
    );
}

#[test]
fn a_links_own_forwarding_is_written_again_after_the_hosts_switch() {
    let closed = sysctl(Place::Host, "net/ipv4/conf/podman0/forwarding", "0");
    let desired = [forwarding(), bridge(), closed];
    let mut world = made(&desired);
    world.by_hand(&Deed::WriteSysctl("net/ipv4/ip_forward".to_owned(), "0".to_owned()));
    check(
        &world,
        &desired,
        &desired,
        "~ sysctl net.ipv4.ip_forward=0 -> sysctl net.ipv4.ip_forward=1
         + sysctl net.ipv4.conf.podman0.forwarding=0",
    );
}

#[test]
fn somebody_elses_link_is_a_conflict_even_when_we_have_a_record() {
    let mut world = World::new();
    world.by_hand(&Deed::AddLink(link("podman0"), "dummy".to_owned()));
    check_conflict(
        &world,
        &[bridge()],
        "link podman0 type dummy is in the way of link podman0 type bridge address 02:00:00:00:00:01 mtu 1500; \
         see: ip -d link show podman0",
    );
    check(&world, &[], &[bridge()], "");
}

#[test]
fn an_equal_bridge_without_our_mark_is_not_adopted() {
    let seen = Seen::Object { object: bridge(), ours: false };
    let observed = [(bridge().key(), seen)].into();
    let refused = plan(&[bridge()], &[bridge()], &observed).unwrap_err().to_string();
    assert!(refused.ends_with("see: ip -d link show podman0"), "{refused}");
    assert!(plan(&[], &[bridge()], &observed).unwrap().is_empty());
}

#[test]
fn a_range_takes_the_place_of_one_that_goes_and_of_no_other() {
    let range = |first, last| {
        let Object::Element(element) = element("10.88.0.2", mark()) else { unreachable!() };
        let key = vec![Field::Protocol(Protocol::Tcp), Field::Ports(first, last)];
        Object::Element(Element { set: "publish4_range".to_owned(), key, ..element })
    };
    let (whole, part) = (range(8000, 8010), range(8000, 8003));
    let observed = [
        (whole.key(), Seen::Object { object: whole.clone(), ours: true }),
        (part.key(), Seen::Covered { by: whole.clone() }),
    ];
    let observed = observed.into();
    let cut = plan(std::slice::from_ref(&part), std::slice::from_ref(&whole), &observed).unwrap();
    assert_eq!(cut.ops, [Op::Remove(whole.clone()), Op::Create(part.clone())]);
    let refused = plan(&[whole, part], &[], &observed).unwrap_err().to_string();
    assert!(refused.contains("{ tcp . 8000-8010 : 10.88.0.2 . 80 } is in the way"), "{refused}");
}

#[test]
fn another_stores_objects_are_a_conflict_and_stay() {
    let other = Mark::new("6e", "c1c1");
    let world = made(&[ruleset("1"), element("10.88.0.2", other)]);
    check_conflict(
        &world,
        &[ruleset("1"), element("10.88.0.2", mark())],
        "element inet podwire publish4 { tcp . 8080 : 10.88.0.2 . 80 } (podwire:6e:c1c1, of another podwire store) \
         is in the way of element inet podwire publish4 { tcp . 8080 : 10.88.0.2 . 80 }; \
         see: nft list map inet podwire publish4",
    );
    check(&world, &[ruleset("1")], &[element("10.88.0.2", mark())], "");
}

#[test]
fn any_prefix_is_taken_back_exactly() {
    let empty = World::new();
    let full = made(&all());
    for (world, desired, recorded) in [(&empty, all(), vec![]), (&full, vec![], all())] {
        let plan = planned(world, &desired, &recorded).unwrap();
        for steps in 0..=plan.steps().count() {
            let mut now = world.clone();
            let done = now.apply_steps(&plan, steps).unwrap();
            now.apply_all(&plan.undo_first(done)).unwrap();
            assert_eq!(now.to_string(), world.to_string(), "after {done} ops of\n{plan}");
        }
    }
}

#[test]
fn a_plan_survives_the_journal() {
    let plan = planned(&made(&all()), &[], &all()).unwrap();
    assert!(!plan.implied.is_empty());
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    assert!(plan.ops.iter().all(|op| matches!(op, Op::Remove(_))));
}

#[test]
fn the_model_kernel_refuses_what_the_kernel_refuses() {
    let refused = |world: &World, op: Op| world.clone().apply(&op).map_or_else(|r| r.errno, |()| "done");
    let (empty, full) = (World::new(), made(&all()));
    for (object, alone) in [
        (sandbox(), "done"),
        (bridge(), "done"),
        (veth(), "ENOENT"),
        (address(), "ENODEV"),
        (route(), "ENETUNREACH"),
        (ruleset("1"), "done"),
        (element("10.88.0.2", mark()), "ENOENT"),
    ] {
        assert_eq!(refused(&empty, Op::Create(object.clone())), alone, "{object}");
        assert_eq!(refused(&full, Op::Create(object.clone())), "EEXIST", "{object}");
        assert_ne!(refused(&empty, Op::Remove(object.clone())), "done", "{object}");
        assert_eq!(refused(&full, Op::Remove(object.clone())), "done", "{object}");
    }
    let mut off = full;
    let ipv6 = Address { place: Place::Host, link: link("pw0"), addr: "fd00::1/64".parse().unwrap() };
    assert_eq!(refused(&off, Op::Create(Object::Address(ipv6))), "EACCES");
    off.by_hand(&Deed::DeleteLink(link("podman0")));
    let orphan = planned(&off, &[veth()], &[]);
    assert!(orphan.unwrap().to_string().contains("~ link pw0 type veth master pw0"), "members stay, alone");
}
