//! The firewall in the kernel; `nft` is the witness.

mod inside;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use firewall::{NetworkFirewall, network_elements, port_elements, publish_elements, rules, version};
use inside::{alone_tests, sh};
use model::{Isolation, PortSpec};
use plan::{Element, Mark, Object, Op, Plan, Ruleset, Seen};
use podwire_host::{ApplyError, Host};

fn mark() -> Mark {
    Mark::new("5eed5eed", "0123456789ab")
}

fn ruleset() -> Object {
    Object::Ruleset(Ruleset { version: version() })
}

fn apply(host: &mut Host, ops: Vec<Op>) -> Result<(), ApplyError> {
    host.apply(&Plan { ops, ..Plan::default() })
}

fn create(host: &mut Host, elements: &[Element]) -> Result<(), ApplyError> {
    apply(host, elements.iter().cloned().map(Object::Element).map(Op::Create).collect())
}

fn remove(host: &mut Host, elements: &[Element]) -> Result<(), ApplyError> {
    apply(host, elements.iter().cloned().map(Object::Element).map(Op::Remove).collect())
}

/// A host whose ruleset is in place.
fn ready() -> Host {
    let mut host = Host::open().unwrap();
    apply(&mut host, vec![Op::Create(ruleset())]).unwrap();
    host
}

fn published(ports: &str) -> Vec<Element> {
    let (ip4, ip6) = ("10.88.0.2".parse().ok(), "fd00:88::2".parse().ok());
    let elements = ports.split(' ').flat_map(|port| {
        let spec: PortSpec = port.parse().unwrap();
        publish_elements(&spec.at(spec.host_port.unwrap()), ip4, ip6, &mark())
    });
    elements.collect()
}

fn network(bridge: &str, subnets: &[&str]) -> NetworkFirewall {
    NetworkFirewall {
        bridge: bridge.parse().unwrap(),
        subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
        gateways: Vec::new(),
        dns: None,
        isolation: Isolation::FromEverything,
        internal: false,
        relayed: false,
        apart: false,
        outbound4: None,
        outbound6: None,
        mark: mark(),
    }
}

/// At least one element of every set, and intervals that touch.
fn one_of_each() -> Vec<Element> {
    let ips: [IpAddr; 2] = ["10.88.0.2".parse().unwrap(), "fd00:88::2".parse().unwrap()];
    let mut elements = network_elements(&NetworkFirewall {
        gateways: vec!["10.88.0.1".parse().unwrap(), "fd00:88::1".parse().unwrap()],
        dns: Some(834),
        ..network("podman0", &["10.88.0.0/16", "10.89.0.0/24", "fd00:88::/64"])
    });
    elements.extend(network_elements(&NetworkFirewall {
        isolation: Isolation::FromIsolated,
        internal: true,
        ..network("podman1", &["10.89.1.0/24", "192.0.2.7/32"])
    }));
    elements.extend(network_elements(&NetworkFirewall {
        isolation: Isolation::None,
        outbound4: "198.51.100.7".parse().ok(),
        outbound6: "2001:db8::7".parse().ok(),
        ..network("podman2", &["10.89.2.0/24", "10.89.3.0/24", "fd00:89::/64", "fd00:88:0:1::/64"])
    }));
    elements.extend(port_elements(
        &"pw0123456789ab0".parse().unwrap(),
        "02:42:0a:58:00:02".parse().unwrap(),
        &ips,
        &mark(),
    ));
    elements
        .extend(published("8080:80 8080:80/udp 127.0.0.1:53:53/udp [2001:db8::1]:443:443 9000-9010:9000-9010/sctp"));
    elements
        .extend(published("192.0.2.1:30000-30009:30000-30009 [2001:db8::1]:30000-30009:30000-30009 7000-7002:70-72"));
    elements
}

/// Compares two lists of elements without regard to order.
fn same(mut left: Vec<Element>, mut right: Vec<Element>) {
    left.sort();
    right.sort();
    let show = |all: &[Element]| all.iter().map(|e| format!("{}\n", Object::Element(e.clone()))).collect::<String>();
    assert!(left == right, "{}\n--- is not ---\n{}", show(&left), show(&right));
}

/// The elements of `host` as they are observed, all of them ours.
fn observed(host: &mut Host, elements: &[Element]) -> Vec<Element> {
    let objects: Vec<_> = elements.iter().cloned().map(Object::Element).collect();
    let seen = host.observe(&objects).unwrap().into_values();
    seen.map(|seen| match seen {
        Seen::Object { object: Object::Element(element), ours: true } => element,
        other => panic!("{other:?}"),
    })
    .collect()
}

fn marked(host: &mut Host) -> Vec<Element> {
    let objects = host.marked("5eed5eed").unwrap().into_iter();
    objects.filter_map(|object| if let Object::Element(element) = object { Some(element) } else { None }).collect()
}

/// What nft shows, where 1.0.6 does not know icmpv6's target, nor that protocol 0 is not IP.
fn listed() -> String {
    sh("nft -y list ruleset")
        .replace("meta l4proto ipv6-icmp iifname . @th,64,128", "iifname . icmpv6 taddr")
        .replace("l4proto != ip", "l4proto != 0")
}

/// Tables, sets and chains with their rules as the kernel's instructions, without handles.
fn instructions() -> String {
    let listing = sh("nft --debug=netlink list ruleset");
    let end = listing.find("table inet").unwrap_or(listing.len());
    let without_handles = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [family, table, chain, ..] if !line.starts_with(' ') => format!("{family} {table} {chain}"),
        _ => line.to_owned(),
    };
    listing[..end].lines().map(|line| without_handles(line) + "\n").collect()
}

/// Where nft says the same in other instructions: a byte order of one byte, the protocol read from the frame,
/// neighbouring fields of ARP compared at once, and the rule that was replaced.
fn in_our_words(instructions: &str) -> String {
    let text: String =
        instructions.lines().filter(|line| !line.contains("byteorder")).map(|line| format!("{line}\n")).collect();
    let arp = |field: &str| {
        let (load, value) = field.split_once(' ').unwrap();
        let (offset, size) = load.split_once('/').unwrap();
        format!("  [ payload load {size}b @ network header + {offset} => reg 1 ]\n  [ cmp eq reg 1 {value} ]\n")
    };
    let content = text.find("bridge podwire content6").unwrap();
    let (head, tail) = text.split_at(content);
    let tail = tail
        .replace("payload load 2b @ link header + 12", "meta load protocol")
        .replace(&arp("0/4 0x00080100"), &(arp("0/2 0x00000100") + &arp("2/2 0x00000008")))
        .replace(&arp("4/2 0x00000406"), &(arp("4/1 0x00000006") + &arp("5/1 0x00000004")))
        .replace(
            "  [ meta load iifname => reg 1 ]\n  [ payload load 16b @ network header + 24 => reg 2 ]",
            "  [ meta load l4proto => reg 1 ]\n  [ cmp eq reg 1 0x0000003a ]\n  [ meta load iifname => reg 1 ]\n  [ payload load 16b @ transport header + 8 => reg 2 ]",
        );
    head.to_owned() + &tail
}

/// The first lines that differ.
fn difference(left: &str, right: &str) -> String {
    let pairs = left.lines().zip(right.lines()).enumerate();
    let different = pairs.filter(|(_, (left, right))| left != right).take(5);
    let lines: String =
        different.map(|(n, (left, right))| format!("line {}: {left:?} is not {right:?}\n", n + 1)).collect();
    format!("{lines}{} and {} lines", left.lines().count(), right.lines().count())
}

alone_tests! {
    fn nft_lists_the_ruleset_as_we_render_it() {
        let _host = ready();
        let comment = format!(" {{\n\tcomment \"podwire rules {}\"\n\tset ", version());
        let wanted = rules().to_string().replace("podwire {\n\tset ", &format!("podwire{comment}"));
        let listed = listed();
        assert!(listed == wanted, "{}", difference(&wanted, &listed));
    }

    fn the_kernel_runs_what_nft_makes_of_our_text() {
        let host = ready();
        let ours = instructions();
        drop(host);
        sh("nft flush ruleset");
        // nft 1.0.6 has no word for the target of a solicitation: that rule is taken from a pair that loads the same.
        let text = rules().to_string().replace("iifname . icmpv6 taddr @addr6 return", "iifname . ip6 daddr @addr6 return");
        std::fs::write("/run/text", text).unwrap();
        sh("nft -f /run/text");
        let nfts = in_our_words(&instructions());
        assert!(ours == nfts, "{}", difference(&ours, &nfts));
    }

    fn elements_are_created_seen_and_removed() {
        let mut host = ready();
        let empty = sh("nft list ruleset");
        let all = one_of_each();
        assert_eq!(observed(&mut host, &all), []);
        create(&mut host, &all).unwrap();
        same(observed(&mut host, &all), all.clone());
        same(marked(&mut host), all.clone());
        assert_eq!(host.marked("another0").unwrap(), []);
        let listed = sh("nft list ruleset");
        for words in [
            r#""podman0" comment "podwire:5eed5eed:0123456789ab""#,
            r#""podman0" . "podman0" comment"#,
            "10.89.0.0/24 . 10.88.0.0/16 comment",
            "192.0.2.7 comment",
            r#"10.89.2.0/24 comment "podwire:5eed5eed:0123456789ab" : 198.51.100.7"#,
            r#"tcp . 8080 comment "podwire:5eed5eed:0123456789ab" : 10.88.0.2 . 80"#,
            r#"127.0.0.1 . udp . 53 comment"#,
            r#"10.88.0.1 comment "podwire:5eed5eed:0123456789ab" : 10.88.0.1 . 834"#,
            r#"sctp . 9000-9010 comment "podwire:5eed5eed:0123456789ab" : fd00:88::2"#,
            r#""pw0123456789ab0" . 02:42:0a:58:00:02 comment"#,
            r#""pw0123456789ab0" . fe80::42:aff:fe58:2 comment"#,
        ] {
            assert!(listed.contains(words), "{words} is not in\n{listed}");
        }
        remove(&mut host, &all).unwrap();
        assert_eq!(sh("nft list ruleset"), empty);
    }

    fn what_is_gone_counts_as_removed() {
        let mut host = ready();
        let all = one_of_each();
        create(&mut host, &all[..all.len() / 2]).unwrap();
        remove(&mut host, &all).unwrap();
        same(marked(&mut host), vec![]);
        create(&mut host, &all).unwrap();
        sh("nft flush ruleset");
        remove(&mut host, &all).unwrap();
        apply(&mut host, vec![Op::Remove(ruleset())]).unwrap();
        assert_eq!(sh("nft list ruleset"), "");
    }

    fn a_transaction_is_all_or_nothing_and_names_the_op() {
        let mut host = ready();
        create(&mut host, &published("8080:80")).unwrap();
        let before = sh("nft list ruleset");
        let second = published("8081:80 8080:81 8082:80");
        match create(&mut host, &second) {
            Err(ApplyError::Conflict(conflict)) => assert_eq!(*conflict.wanted, Object::Element(second[2].clone())),
            other => panic!("{other:?}"),
        }
        assert_eq!(sh("nft list ruleset"), before);
    }

    fn an_element_changes_in_one_step() {
        let mut host = ready();
        let first = &published("8080:80")[..1];
        create(&mut host, first).unwrap();
        let second = Element { mark: Mark::new("5eed5eed", "other"), ..published("8080:81")[0].clone() };
        let object = |element: &Element| Object::Element(element.clone());
        apply(&mut host, vec![Op::Change { from: object(&first[0]), to: object(&second) }]).unwrap();
        assert_eq!(observed(&mut host, first), [second]);
    }

    fn a_damaged_ruleset_is_replaced_and_keeps_its_elements() {
        let mut host = ready();
        let whole = sh("nft list ruleset");
        let all = one_of_each();
        create(&mut host, &all).unwrap();
        for damage in ["nft flush chain inet podwire raw", "nft delete table bridge podwire"] {
            sh(damage);
            let there = marked(&mut host);
            let observed = host.observe(&[ruleset()]).unwrap().into_values().next();
            let Some(Seen::Object { object: from, ours: true }) = observed else { panic!("{observed:?}") };
            assert_ne!(from, ruleset(), "{damage}");
            apply(&mut host, vec![Op::Change { from, to: ruleset() }]).unwrap();
            assert_eq!(host.observe(&[ruleset()]).unwrap().into_values().next(), Some(Seen::Object { object: ruleset(), ours: true }));
            same(marked(&mut host), there);
        }
        let left = marked(&mut host);
        remove(&mut host, &left).unwrap();
        assert_eq!(sh("nft list ruleset"), whole);
    }

    fn a_replacement_is_tried_again_while_others_change_their_rules() {
        let mut host = ready();
        let all = one_of_each();
        create(&mut host, &all).unwrap();
        let storm = "while :; do nft add table ip others; nft delete table ip others; done";
        let mut storm = std::process::Command::new("sh").args(["-c", storm]).spawn().unwrap();
        let change = || Op::Change { from: ruleset(), to: ruleset() };
        let results: Vec<_> = (0..40).map(|_| apply(&mut host, vec![change()])).collect();
        storm.kill().unwrap();
        storm.wait().unwrap();
        results.into_iter().for_each(|result| result.unwrap());
        same(marked(&mut host), all);
    }

    fn many_elements_of_a_set_are_seen_like_few() {
        let mut host = ready();
        let all = published("1-20000:2-20001");
        let start = Instant::now();
        create(&mut host, &all).unwrap();
        let created = start.elapsed();
        assert_eq!(observed(&mut host, &all).len(), all.len());
        let seen = start.elapsed() - created;
        let start = Instant::now();
        remove(&mut host, &all).unwrap();
        eprintln!("{} elements: created in {created:?}, seen in {seen:?}, removed in {:?}", all.len(), start.elapsed());
        same(marked(&mut host), vec![]);
    }

    fn another_programs_table_and_elements_are_not_ours() {
        sh("nft add table inet podwire '{ comment \"mine\"; }'");
        let mut host = Host::open().unwrap();
        let seen = host.observe(&[ruleset()]).unwrap().into_values().next();
        assert_eq!(seen, Some(Seen::Other { what: "table inet podwire of another program".to_owned() }));
        assert!(matches!(apply(&mut host, vec![Op::Create(ruleset())]), Err(ApplyError::Conflict(_))));
        sh("nft delete table inet podwire");
        apply(&mut host, vec![Op::Create(ruleset())]).unwrap();
        sh("nft add element inet podwire publish4_any '{ tcp . 8080 : 192.0.2.1 . 1 }'");
        let object = Object::Element(published("8080:80")[0].clone());
        let seen = host.observe(&[object]).unwrap().into_values().next();
        let what = "element inet podwire publish4_any { tcp . 8080 : 192.0.2.1 . 1 }".to_owned();
        assert_eq!(seen, Some(Seen::Other { what }));
        same(marked(&mut host), vec![]);
    }

    fn overlapping_ranges_are_seen_as_in_the_way() {
        let mut host = ready();
        create(&mut host, &published("0.0.0.0:8000-8010:8000-8010")).unwrap();
        let overlapping = published("0.0.0.0:8005-8020:8005-8020");
        let seen = host.observe(&[Object::Element(overlapping[0].clone())]).unwrap().into_values().next();
        let by = Object::Element(published("0.0.0.0:8000-8010:8000-8010")[0].clone());
        assert_eq!(seen, Some(Seen::Covered { by }));
        assert!(create(&mut host, &overlapping).is_err());
    }

    fn a_range_is_cut_and_joined_again_in_one_transaction() {
        let mut host = ready();
        let whole = published("0.0.0.0:8000-8010:8000-8010");
        let parts = [published("0.0.0.0:8000-8003:8000-8003"), published("0.0.0.0:8005-8010:8005-8010")].concat();
        let objects = |elements: &[Element]| elements.iter().cloned().map(Object::Element).collect::<Vec<_>>();
        create(&mut host, &whole).unwrap();
        for (from, to) in [(&whole, &parts), (&parts, &whole)] {
            let (from, to) = (objects(from), objects(to));
            let observed = host.observe(&[from.clone(), to.clone()].concat()).unwrap();
            let plan = plan::plan(&to, &from, &observed).unwrap();
            host.apply(&plan).unwrap();
            host.apply(&plan.undo()).unwrap();
            host.apply(&plan).unwrap();
            let observed = host.observe(&[from, to.clone()].concat()).unwrap();
            assert!(plan::plan(&to, &to, &observed).unwrap().is_empty());
        }
        same(marked(&mut host), whole);
    }

    fn a_port_more_costs_the_same_beside_five_thousand() {
        let mut host = ready();
        let one = |host: &mut Host, first: u16| {
            let times = (0..9).map(|n| {
                let port = published(&format!("{}:80", first + n));
                let start = Instant::now();
                create(host, &port).unwrap();
                start.elapsed()
            });
            let mut times: Vec<_> = times.collect();
            times.sort();
            times[4]
        };
        let alone = one(&mut host, 60_001);
        let start = Instant::now();
        create(&mut host, &published("10000-14999:20000-24999")).unwrap();
        let many = start.elapsed();
        let beside = one(&mut host, 60_101);
        let start = Instant::now();
        create(&mut host, &published("0.0.0.0:20001-40000:20001-40000")).unwrap();
        let range = start.elapsed();
        eprintln!("one port alone {alone:?}, beside 10,000 elements {beside:?}; these at once {many:?}; a range of 20,000 {range:?}");
        assert!(beside < alone * 4 + Duration::from_millis(5), "{beside:?} against {alone:?}");
        assert!(range < Duration::from_millis(500) && many < Duration::from_secs(10), "{range:?} {many:?}");
    }
}
