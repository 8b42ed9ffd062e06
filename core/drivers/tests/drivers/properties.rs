//! Properties of drivers, plan and model kernel together, over random histories.

use crate::machine::{Machine, Pending, Run, mapping, member, sandbox_name};
use ipam::NetworkRequest;
use model::LinkName;
use plan::world::{Deed, World};
use plan::{Object, Op, Place};
use proptest::prelude::*;

const CONTAINERS: [&str; 4] = ["web", "db", "api", "log"];
const NETWORKS: [&str; 10] = ["podman", "shop", "vault", "plain", "blue", "red", "lan", "far", "near", "quiet"];

/// A machine with ten kinds of networks, set already as every network needs it, for that is never taken back.
fn machine() -> Machine {
    let mut machine = Machine::new();
    for (name, internal, ipv6, isolate) in
        [("shop", false, true, "strict"), ("vault", true, true, "true"), ("plain", false, false, "false")]
    {
        let options = [("isolate".to_owned(), isolate.to_owned())].into();
        let routes = vec!["10.1.0.0/24,blackhole".to_owned(), "fd77::/64,prohibit,7".to_owned()];
        let name = Some(name.to_owned());
        let request = NetworkRequest { name, internal, ipv6, options, routes, ..NetworkRequest::default() };
        machine.create_network(&request).unwrap();
    }
    // Two that share a bridge, one on a bridge of others, one in a VRF of others.
    for (name, link, (option, value)) in [
        ("blue", Some("br0"), ("vlan", "7")),
        ("red", Some("br0"), ("vlan", "8")),
        ("lan", Some("br9"), ("mode", "unmanaged")),
        ("far", None, ("vrf", "vrf0")),
    ] {
        let (name, link) = (Some(name.to_owned()), link.map(str::to_owned));
        let options = [(option.to_owned(), value.to_owned())].into();
        machine.create_network(&NetworkRequest { name, link, options, ..NetworkRequest::default() }).unwrap();
    }
    // Two on the host's LAN, of which the host reaches one.
    for (name, (option, value), subnets) in [
        ("near", ("host_access", "true"), &["192.168.99.0/24", "fd99::/64"][..]),
        ("quiet", ("mode", "private"), &["192.168.98.0/24"][..]),
    ] {
        machine
            .create_network(&NetworkRequest {
                name: Some(name.to_owned()),
                driver: "macvlan".to_owned(),
                options: [(option.to_owned(), value.to_owned())].into(),
                subnets: subnets.iter().map(|&subnet| subnet.to_owned()).collect(),
                ..NetworkRequest::default()
            })
            .unwrap();
    }
    for (name, kind) in [("br9", "bridge"), ("vrf0", "vrf")] {
        machine.world.by_hand(&Deed::AddLink(link(name), kind.to_owned()));
    }
    machine.world.by_hand(&Deed::WriteSysctl("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned()));
    for object in podwire_drivers::base(false) {
        if let Object::Sysctl(sysctl) = object {
            machine.world.by_hand(&Deed::WriteSysctl(sysctl.path, sysctl.value));
        }
    }
    for family in ["ipv4", "ipv6"] {
        for (key, value) in [("gc_thresh2", "16384"), ("gc_thresh3", "32768")] {
            let path = format!("net/{family}/neigh/default/{key}");
            machine.world.by_hand(&Deed::WriteSysctl(path, value.to_owned()));
        }
    }
    machine.world.by_hand(&Deed::AddLink(link("eth0"), "physical".to_owned()));
    machine.world.by_hand(&Deed::AddAddress(link("eth0"), "192.168.99.109/24".parse().unwrap()));
    machine
}

fn link(name: &str) -> LinkName {
    name.parse().unwrap()
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// Starts the nth container, or takes it away when it is there.
    Toggle { container: usize, networks: Vec<usize>, ports: bool },
    /// Somebody else breaks something of ours, and it is healed.
    Heal(Vec<Deed>),
}

fn step() -> impl Strategy<Value = Step> {
    let networks = proptest::sample::subsequence((0..NETWORKS.len()).collect::<Vec<_>>(), 0..=3);
    let toggle = (0..CONTAINERS.len(), networks, any::<bool>()).prop_map(|(container, networks, ports)| Step::Toggle {
        container,
        networks,
        ports,
    });
    let heal = proptest::collection::vec(deed(), 1..4).prop_map(Step::Heal);
    prop_oneof![4 => toggle, 1 => heal]
}

fn deed() -> impl Strategy<Value = Deed> {
    let bridge = prop_oneof![Just("podman0"), Just("podman1"), Just("podman2"), Just("br0")].prop_map(link);
    let container = (0..CONTAINERS.len()).prop_map(|n| CONTAINERS[n]);
    prop_oneof![
        Just(Deed::FlushRuleset),
        bridge.clone().prop_map(Deed::DeleteLink),
        bridge.prop_map(|link| Deed::SetMtu(link, 1280)),
        container.clone().prop_map(|c| Deed::NoMaster(member(c))),
        container.clone().prop_map(|c| Deed::DeleteLink(member(c))),
        container.clone().prop_map(|c| Deed::DeleteLinkInside(sandbox_name(c), link("eth0"))),
        // The host's own link on the LAN.
        Just(Deed::DeleteLink(link("pwh6e6561726e"))),
        container.clone().prop_map(|c| Deed::SetMtu(member(c), 1280)),
        container.prop_map(|c| Deed::DeleteSandbox(sandbox_name(c))),
        Just(Deed::DeleteAddress(Place::Host, link("podman0"), "10.88.0.1/16".parse().unwrap())),
        Just(Deed::DeleteAddress(Place::Sandbox(sandbox_name("web")), link("eth0"), "10.88.0.2/16".parse().unwrap())),
        Just(Deed::WriteSysctl("net/ipv4/conf/podman0/rp_filter".to_owned(), "1".to_owned())),
        Just(Deed::WriteSysctl("net/ipv6/conf/podman0/disable_ipv6".to_owned(), "0".to_owned())),
        Just(Deed::WriteSysctl("net/ipv4/ip_forward".to_owned(), "0".to_owned())),
    ]
}

/// What a container with these choices asks for. Each container has ports of its own.
fn wish(container: usize, networks: &[usize], ports: bool) -> Run {
    let port = 8000 + 100 * container;
    let ports = match ports {
        true => vec![mapping(&format!("{port}:80")), mapping(&format!("{}-{}:1-9/udp", port + 1, port + 9))],
        false => Vec::new(),
    };
    Run { networks: networks.iter().map(|n| NETWORKS[*n].to_owned()).collect(), ports, ..Run::default() }
}

/// Plays a history; `at` is shown every transition: the machine before, the container, and what it asked for
/// (`None`: to go).
fn play(steps: &[Step], mut at: impl FnMut(&Machine, &str, Option<&Run>)) -> Machine {
    let mut machine = machine();
    for step in steps {
        match step {
            Step::Toggle { container, networks, ports } => {
                let name = CONTAINERS[*container];
                let run = wish(*container, networks, *ports);
                let going = machine.containers().iter().any(|c| c == name);
                at(&machine, name, (!going).then_some(&run));
                let pending = if going { machine.rm(name, &[]) } else { machine.run(name, &run) };
                machine.apply(&pending.unwrap()).unwrap();
            }
            Step::Heal(deeds) => {
                let whole = machine.world.clone();
                // Forwarding that nobody here needs is the host's to switch off: no damage, and not healed.
                let forward_off = Deed::WriteSysctl("net/ipv4/ip_forward".to_owned(), "0".to_owned());
                let needed = machine.needs_base();
                let damage = deeds.iter().filter(|deed| needed || **deed != forward_off);
                damage.for_each(|deed| machine.world.by_hand(deed));
                let pending = machine.reload().unwrap();
                machine.apply(&pending).unwrap();
                if !machine.containers().is_empty() {
                    same(&machine.world, &whole, || format!("healed by\n{}", pending.plan));
                } else {
                    machine.world = whole;
                }
            }
        }
        let again = machine.reload().unwrap().plan;
        assert!(again.is_empty(), "a second plan:\n{again}");
    }
    machine
}

/// Compared as text only when they differ: the text is for the reader.
fn same(is: &World, should_be: &World, after: impl Fn() -> String) {
    if is != should_be {
        assert_eq!(is.to_string(), should_be.to_string(), "{}", after());
    }
}

/// The transition's plan, and the books as they are while it is applied.
fn begin(before: &Machine, name: &str, run: Option<&Run>) -> (Machine, Pending) {
    let mut now = before.clone();
    let pending = match run {
        Some(run) => now.run(name, run).unwrap(),
        None => now.rm(name, &[]).unwrap(),
    };
    (now, pending)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_world_follows_and_ends_as_it_began(steps in proptest::collection::vec(step(), 1..12)) {
        let mut machine = play(&steps, |_, _, _| {});
        for name in machine.containers() {
            let pending = machine.rm(&name, &[]).unwrap();
            machine.apply(&pending).unwrap();
        }
        prop_assert_eq!(machine.world.to_string(), self::machine().world.to_string());
    }

    #[test]
    fn the_undo_of_any_prefix_restores_exactly(steps in proptest::collection::vec(step(), 1..8)) {
        play(&steps, |before, name, run| {
            let (_, pending) = begin(before, name, run);
            for count in 0..=pending.plan.steps().count() {
                let mut world = before.world.clone();
                let done = world.apply_steps(&pending.plan, count).unwrap();
                world.apply_all(&pending.plan.undo_first(done)).unwrap();
                same(&world, &before.world, || format!("after {count} steps of\n{}", pending.plan));
            }
        });
    }

    #[test]
    fn stopped_anywhere_and_planned_again_it_arrives(steps in proptest::collection::vec(step(), 1..8)) {
        play(&steps, |before, name, run| {
            let (books, pending) = begin(before, name, run);
            let mut whole = before.world.clone();
            whole.apply_all(&pending.plan).unwrap();
            for count in 0..pending.plan.steps().count() {
                // Who died while starting is in the books already, who died while going is not gone from them.
                let mut now = if run.is_some() { books.clone() } else { before.clone() };
                now.world = before.world.clone();
                now.world.apply_steps(&pending.plan, count).unwrap();
                let again = if run.is_some() { now.reload() } else { now.rm(name, &[]) }.unwrap();
                now.apply(&again).unwrap();
                same(&now.world, &whole, || format!("{count} steps of\n{}then\n{}", pending.plan, again.plan));
            }
        });
    }

    #[test]
    fn stopped_anywhere_and_planned_backwards_nothing_remains(steps in proptest::collection::vec(step(), 1..8)) {
        play(&steps, |before, name, run| {
            let Some(_) = run else { return };
            let (books, pending) = begin(before, name, run);
            for count in 0..=pending.plan.steps().count() {
                let mut now = books.clone();
                now.world.apply_steps(&pending.plan, count).unwrap();
                let back = now.rm(name, &objects(&pending.plan)).unwrap();
                now.apply(&back).unwrap();
                same(&now.world, &before.world, || format!("{count} steps of\n{}then\n{}", pending.plan, back.plan));
            }
        });
    }

    #[test]
    fn what_is_not_ours_is_never_removed(
        steps in proptest::collection::vec(step(), 1..8),
        usurped in proptest::sample::subsequence(vec!["podman0", "podman1", "podman2", "podman3"], 1..4),
    ) {
        let mut machine = play(&steps, |_, _, _| {});
        for name in &usurped {
            machine.world.by_hand(&Deed::DeleteLink(link(name)));
            machine.world.by_hand(&Deed::AddLink(link(name), "dummy".to_owned()));
        }
        for (n, name) in CONTAINERS.into_iter().enumerate() {
            let there = machine.containers().iter().any(|c| c == name);
            let pending = if there { machine.rm(name, &[]) } else { machine.run(name, &wish(n, &[n], true)) };
            if let Ok(pending) = pending {
                let links = pending.plan.ops.iter().filter_map(|op| match op {
                    Op::Remove(Object::Bridge(bridge)) => Some(bridge.name.to_string()),
                    _ => None,
                });
                for bridge in links {
                    prop_assert!(!usurped.contains(&bridge.as_str()), "{}", pending.plan);
                }
                machine.apply(&pending).unwrap();
            }
        }
        let world = machine.world.to_string();
        prop_assert!(world.contains("link eth0 type physical") && world.contains("addr 192.168.99.109/24 dev eth0"));
        for name in usurped {
            let there = world.contains(&format!("link {name} type dummy"));
            prop_assert!(there, "{} is gone from\n{}", name, world);
        }
    }
}

fn objects(plan: &plan::Plan) -> Vec<Object> {
    plan.ops.iter().map(|op| op.object().clone()).collect()
}
