//! Tables that a socket owns: who may change them, and what becomes of them when the socket goes. `nft` is the others.

mod inside;

use std::os::fd::AsFd;

use firewall::{NetworkFirewall, network_elements, publish_elements, version};
use inside::{alone_tests, sh};
use model::PortSpec;
use netlink::{Protocol, Socket};
use plan::{Element, Mark, Object, Op, Plan, Ruleset, Seen};
use podwire_host::{Adopted, ApplyError, Host, firewall_adopt};

fn mark() -> Mark {
    Mark::new("5eed5eed", "0123456789ab")
}

fn ruleset() -> Object {
    Object::Ruleset(Ruleset { version: version() })
}

fn apply(host: &mut Host, ops: Vec<Op>) -> Result<(), ApplyError> {
    host.apply(&Plan { ops, ..Plan::default() })
}

fn creating(objects: impl IntoIterator<Item = Object>) -> Vec<Op> {
    objects.into_iter().map(Op::Create).collect()
}

fn published(port: &str) -> Vec<Element> {
    let spec: PortSpec = port.parse().unwrap();
    publish_elements(&spec.at(spec.host_port.unwrap()), "10.88.0.2".parse().ok(), None, &mark())
}

fn objects(elements: &[Element]) -> impl Iterator<Item = Object> {
    elements.iter().cloned().map(Object::Element)
}

/// A network and its ports.
fn wish() -> Vec<Element> {
    let network = NetworkFirewall {
        bridge: "podman0".parse().unwrap(),
        subnets: vec!["10.88.0.0/16".parse().unwrap(), "fd00:88::/64".parse().unwrap()],
        gateways: vec!["10.88.0.1".parse().unwrap()],
        dns: Some(834),
        isolation: model::Isolation::default(),
        internal: false,
        relayed: false,
        apart: false,
        outbound4: None,
        outbound6: None,
        mark: mark(),
    };
    let mut elements = network_elements(&network);
    elements.extend(published("8080:80"));
    elements.extend(published("0.0.0.0:9000-9010:9000-9010/udp"));
    elements.sort();
    elements
}

/// A host that changes the firewall through this socket, as a command does that was passed it.
fn host_with(socket: &Socket) -> Host {
    let mut host = Host::open().unwrap();
    host.use_firewall_socket(Socket::from_fd(socket.as_fd().try_clone_to_owned().unwrap()).unwrap());
    host
}

fn netfilter() -> Socket {
    Socket::open(Protocol::Netfilter).unwrap()
}

/// Our tables owned by this socket, with elements.
fn owned(socket: &mut Socket) {
    assert_eq!(firewall_adopt(socket).unwrap(), Adopted::Absent);
    let mut host = host_with(socket);
    apply(&mut host, creating([ruleset()].into_iter().chain(objects(&wish())))).unwrap();
}

fn marked() -> Vec<Element> {
    let found = Host::open().unwrap().marked("5eed5eed").unwrap().into_iter();
    let mut elements: Vec<_> =
        found.filter_map(|object| if let Object::Element(element) = object { Some(element) } else { None }).collect();
    elements.sort();
    elements
}

fn is_whole() -> bool {
    let seen = Host::open().unwrap().observe(&[ruleset()]).unwrap().into_values().next();
    seen == Some(Seen::Object { object: ruleset(), ours: true }) && marked() == wish()
}

/// What a command that fails says.
fn refusal(command: &str) -> String {
    let output = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(!output.status.success(), "{command} was not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn flags() -> Vec<String> {
    let listed = sh("nft list ruleset");
    listed
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("flags ") && !line.contains("interval"))
        .map(str::to_owned)
        .collect()
}

alone_tests! {
    fn a_flush_by_others_skips_owned_tables_and_a_deletion_is_refused() {
        let mut socket = netfilter();
        owned(&mut socket);
        sh("nft add table ip others; nft flush ruleset");
        let tables = sh("nft list tables");
        assert_eq!(tables, "table inet podwire\ntable bridge podwire\n");
        for command in [
            "nft delete table inet podwire",
            "nft flush table inet podwire",
            "nft flush chain bridge podwire prerouting",
            "nft delete chain inet podwire forward",
            "nft insert rule inet podwire forward accept",
            "nft flush set inet podwire strict",
            "nft add element inet podwire publish4_any '{ tcp . 1 : 192.0.2.1 . 1 }'",
            "nft add table inet podwire '{ flags dormant; }'",
        ] {
            let words = refusal(command);
            assert!(words.contains("Operation not permitted"), "{command}: {words}");
        }
        assert!(is_whole());
    }

    fn owned_tables_read_like_others() {
        let mut socket = netfilter();
        owned(&mut socket);
        let listed = sh("nft list table inet podwire");
        for words in ["iifname @strict drop", "tcp . 8080 comment", "policy accept;", "progname"] {
            assert!(listed.contains(words), "{words} is not in\n{listed}");
        }
    }

    fn another_command_is_told_who_owns_the_tables() {
        let mut socket = netfilter();
        owned(&mut socket);
        let mut host = Host::open().unwrap();
        let error = apply(&mut host, creating(objects(&published("8081:80")))).unwrap_err();
        let said = error.to_string();
        let wanted = format!("process {} owns the table inet podwire", socket.port_id().unwrap());
        assert!(said.contains(&wanted), "{said}");
        assert_eq!(firewall_adopt(&mut netfilter()).unwrap(), Adopted::Taken(socket.port_id().unwrap()));
        // Whoever holds the socket may.
        let mut host = host_with(&socket);
        apply(&mut host, creating(objects(&published("8081:80")))).unwrap();
        apply(&mut host, objects(&published("8081:80")).map(Op::Remove).collect()).unwrap();
        assert!(is_whole());
        apply(&mut host, vec![Op::Remove(ruleset())]).unwrap();
        assert_eq!(sh("nft list tables"), "");
    }

    fn when_the_owner_dies_the_tables_stay_and_the_next_takes_them() {
        let mut first = netfilter();
        owned(&mut first);
        drop(first);
        assert!(is_whole(), "the tables went with their owner");
        let mut second = netfilter();
        assert_eq!(firewall_adopt(&mut second).unwrap(), Adopted::Owned);
        assert_eq!(firewall_adopt(&mut second).unwrap(), Adopted::Owned, "once more");
        sh("nft flush ruleset");
        assert!(is_whole());
        // A command that was passed the socket keeps it alive, and the tables owned.
        let mut host = host_with(&second);
        drop(second);
        assert!(refusal("nft delete table inet podwire").contains("not permitted"));
        apply(&mut host, creating(objects(&published("8081:80")))).unwrap();
    }

    /// The gap that cannot be closed from here: nobody owns the tables between two netds.
    fn orphans_can_be_flushed_by_others() {
        let mut first = netfilter();
        owned(&mut first);
        drop(first);
        sh("nft flush ruleset");
        assert_eq!(sh("nft list tables"), "");
        let mut second = netfilter();
        owned(&mut second);
        assert!(is_whole());
    }

    fn without_a_socket_nobody_owns_the_tables_and_they_are_taken_with_their_elements() {
        let mut host = Host::open().unwrap();
        apply(&mut host, creating([ruleset()].into_iter().chain(objects(&wish())))).unwrap();
        assert_eq!(flags(), Vec::<String>::new());
        let mut socket = netfilter();
        assert_eq!(firewall_adopt(&mut socket).unwrap(), Adopted::Owned);
        assert!(is_whole());
        sh("nft flush ruleset");
        assert!(is_whole());
        // And half of them.
        drop(socket);
        sh("nft delete table bridge podwire");
        let mut socket = netfilter();
        assert_eq!(firewall_adopt(&mut socket).unwrap(), Adopted::Owned);
        sh("nft flush ruleset");
        assert!(is_whole());
    }

    fn another_programs_table_is_left_alone() {
        sh("nft add table inet podwire '{ comment \"mine\"; }'");
        let before = sh("nft list ruleset");
        assert_eq!(firewall_adopt(&mut netfilter()).unwrap(), Adopted::Foreign);
        assert_eq!(sh("nft list ruleset"), before);
    }

    fn rules_of_another_version_are_replaced_in_owned_tables() {
        let mut socket = netfilter();
        owned(&mut socket);
        let mut host = host_with(&socket);
        let from = Object::Ruleset(Ruleset { version: "older".into() });
        // What others change meanwhile makes it try again, and is no harm.
        let storm = "while :; do nft add table ip others; nft delete table ip others; done";
        let mut storm = std::process::Command::new("sh").args(["-c", storm]).spawn().unwrap();
        let results: Vec<_> =
            (0..20).map(|_| apply(&mut host, vec![Op::Change { from: from.clone(), to: ruleset() }])).collect();
        storm.kill().unwrap();
        storm.wait().unwrap();
        results.into_iter().for_each(|result| result.unwrap());
        assert!(is_whole());
        assert!(refusal("nft delete table inet podwire").contains("not permitted"));
    }

    /// A command may be killed between its question and the answer, which is then the next one's to read.
    fn answers_that_a_killed_user_has_not_read_do_no_harm() {
        let mut socket = netfilter();
        owned(&mut socket);
        let killed = socket.as_fd().try_clone_to_owned().unwrap();
        // A message of a batch that is refused: DELTABLE of a family that is none; with the numbers we shall use.
        let message = |seq: u32| {
            let flags: u16 = 1 | 4;
            let kind: u16 = 10 << 8 | 2;
            [&20u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &seq.to_ne_bytes(), &[0; 4], &[99, 0, 0, 0]].concat()
        };
        let leave = |times: u32| {
            let sent = (0..times).filter(|seq| rustix::net::send(&killed, &message(*seq), rustix::net::SendFlags::empty()).is_ok());
            sent.count()
        };
        for times in [1, 50, 5000] {
            assert!(leave(times) > 0);
            let mut host = host_with(&socket);
            apply(&mut host, creating(objects(&published("8081:80")))).unwrap();
            leave(times);
            apply(&mut host, objects(&published("8081:80")).map(Op::Remove).collect()).unwrap();
            leave(times);
            assert!(matches!(apply(&mut host, creating(objects(&published("8080:80")))), Err(ApplyError::Conflict(_))));
        }
        assert!(is_whole());
    }

    fn what_is_no_netlink_socket_is_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = Socket::from_fd(one.into()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(Socket::from_fd(std::fs::File::open("/dev/null").unwrap().into()).is_err());
    }
}
