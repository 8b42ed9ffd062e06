//! The real kernel, in network and mount namespaces of their own; `ip` and `bridge` are the witnesses.
//!
//! Each test runs itself again under `unshare -n -m` with a tmpfs on /run. Without root it is skipped,
//! visibly.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use linux::NetNs;
use model::{Addr, LinkName, MacAddr, PortMapping, PortSpec, Subnet};
use plan::{
    Address, Bridge, Key, Mark, Object, Op, Place, Plan, Route, RouteKind, Ruleset, Sandbox, SandboxName, Seen, Sysctl,
    Veth, plan,
};
use podwire_host::{ApplyError, Host};

const INSIDE: &str = "PODWIRE_TEST_INSIDE";

/// Runs `body` as the only one in fresh namespaces.
fn alone(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {test}: needs root");
        return;
    }
    let enter = "mount -t tmpfs -o mode=755 none /run && ip link set lo up && exec \"$0\" \"$@\"";
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["-n", "-m", "--propagation", "private", "sh", "-c", enter])
        .arg(exe)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    eprintln!("{text}");
}

macro_rules! kernel_tests {
    ($(fn $name:ident() $body:block)*) => {$(
        #[test]
        fn $name() {
            alone(stringify!($name), || $body);
        }
    )*};
}

/// The output of a witness; empty when it fails (`ip link show` of a link that is not there).
fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything the kernel tells about links, addresses, routes and namespaces, without counters and ages.
fn everything() -> String {
    let view = "ip -d link; ip addr; ip route show table all; ip -6 route show table all; ls /run/netns 2>/dev/null; \
                cat /proc/sys/net/ipv4/ip_forward; nft list ruleset";
    // What changes by itself: the operational state follows the carrier later, timers run.
    let steady = "sed -E 's/NO-CARRIER,//; s/,LOWER_UP//; s/ state [A-Z]+//; s/timer +[0-9.]+/timer/g'";
    sh(&format!("({view}) | {steady}"))
}

fn sandbox() -> SandboxName {
    "podwire-0123456789ab".parse().unwrap()
}

fn link(name: &str) -> LinkName {
    name.parse().unwrap()
}

fn mac(text: &str) -> MacAddr {
    text.parse().unwrap()
}

fn mark() -> Mark {
    Mark::new("5eed5eed", "0123456789ab")
}

fn inside() -> Place {
    Place::Sandbox(sandbox())
}

fn bridge() -> Object {
    let (name, mac) = (link("podman0"), mac("02:00:00:00:00:01"));
    Object::Bridge(Bridge { name, mac, mtu: 1400, filters_vlans: false, vrf: None, mark: mark() })
}

fn veth() -> Veth {
    Veth {
        host: link("pw01234567890"),
        bridge: link("podman0"),
        sandbox: sandbox(),
        name: link("eth0"),
        mac: mac("02:00:00:00:00:02"),
        mtu: 1400,
        vlan: None,
        isolated: false,
        mark: mark(),
    }
}

fn address(place: Place, name: &str, addr: &str) -> Object {
    Object::Address(Address { place, link: link(name), addr: addr.parse::<Addr>().unwrap() })
}

fn default_route(destination: Subnet, gateway: &str) -> Object {
    let kind = RouteKind::Via(gateway.parse().unwrap());
    Object::Route(Route { place: inside(), destination, kind, metric: 100 })
}

fn sysctl(place: Place, path: &str, value: &str) -> Object {
    Object::Sysctl(Sysctl { place, path: path.into(), value: value.into() })
}

/// A bridge network with one container on it, in the planner's order.
fn wish() -> Vec<Object> {
    vec![
        Object::Sandbox(Sandbox { name: sandbox() }),
        sysctl(Place::Host, "net/ipv4/ip_forward", "1"),
        bridge(),
        sysctl(inside(), "net/ipv6/conf/default/accept_dad", "0"),
        Object::Veth(veth()),
        sysctl(inside(), "net/ipv4/conf/eth0/arp_notify", "1"),
        address(Place::Host, "podman0", "10.88.0.1/16"),
        address(Place::Host, "podman0", "fd00::1/64"),
        address(inside(), "eth0", "10.88.0.2/16"),
        address(inside(), "eth0", "fd00::2/64"),
        default_route(Subnet::ANY4, "10.88.0.1"),
        default_route(Subnet::ANY6, "fd00::1"),
    ]
}

/// The same with its firewall.
fn whole_wish() -> Vec<Object> {
    let network = firewall::NetworkFirewall {
        bridge: link("podman0"),
        subnets: vec!["10.88.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()],
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
    let ips = ["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    let mut elements = firewall::network_elements(&network);
    elements.extend(firewall::port_elements(&veth().host, veth().mac, &ips, &mark()));
    for text in ["8080:80", "127.0.0.1:9000-9010:90-100/udp"] {
        let (ip4, ip6) = ("10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap());
        elements.extend(firewall::publish_elements(&mapping(text), Some(ip4), Some(ip6), &mark()));
    }
    let ruleset = Object::Ruleset(Ruleset { version: firewall::version() });
    std::iter::once(ruleset).chain(elements.into_iter().map(Object::Element)).chain(wish()).collect()
}

fn creating(objects: Vec<Object>) -> Plan {
    Plan { ops: objects.into_iter().map(Op::Create).collect(), ..Plan::default() }
}

fn planned(host: &mut Host, desired: &[Object], recorded: &[Object]) -> Plan {
    let asked: Vec<_> = desired.iter().chain(recorded).cloned().collect();
    plan(desired, recorded, &host.observe(&asked).unwrap()).unwrap()
}

/// A UDP socket on a port of the sandbox, and one on the host that sends to `to`.
fn udp_pair(listen: &str, to: &str) -> (UdpSocket, UdpSocket) {
    let file = Path::new("/run/netns").join(sandbox().as_str());
    let server = NetNs::open(&file).unwrap().within(|| UdpSocket::bind(listen)).unwrap().unwrap();
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let client = UdpSocket::bind(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
    client.connect(to).unwrap();
    (server, client)
}

fn arrives(server: &UdpSocket, client: &UdpSocket) -> bool {
    // The first send after an ICMP error only reports that error.
    while client.send(b"x").is_err() {}
    server.recv(&mut [0; 8]).is_ok()
}

/// Applies or removes the wish in a process that strace disturbs at the `when`th of these system calls; `None`
/// when there are not so many.
fn disturbed(test: &str, step: &str, calls: &str, how: &str, when: &str) -> Option<ExitStatus> {
    let log = "/run/strace";
    let output = Command::new("strace")
        .args(["-f", "-o", log, "-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{how}:when={when}")])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--test-threads=1"])
        .env(INSIDE, step)
        .output()
        .unwrap();
    let said = std::fs::read_to_string(log).unwrap();
    let happened = said.contains("(INJECTED)") || said.contains("killed by SIGKILL");
    happened.then_some(output.status)
}

/// The sweeps take each `short`th call; every one with PODWIRE_SWEEP=full, which takes half a minute.
fn stride(short: u32) -> u32 {
    if std::env::var_os("PODWIRE_SWEEP").is_some_and(|how| how == "full") { 1 } else { short }
}

fn be_killed() {
    let mut host = Host::open().unwrap();
    let desired = if std::env::var(INSIDE).is_ok_and(|step| step == "up") { whole_wish() } else { Vec::new() };
    let plan = planned(&mut host, &desired, &whole_wish());
    host.apply(&plan).unwrap();
}

fn mapping(text: &str) -> PortMapping {
    let spec: PortSpec = text.parse().unwrap();
    spec.at(spec.host_port.unwrap())
}

kernel_tests! {
    fn a_udp_client_that_keeps_sending_reaches_the_new_owner_of_a_port() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();
        for (gateway, container, dnat) in [("10.88.0.1", "10.88.0.2", "ip"), ("[fd00::1]", "[fd00::2]", "ip6")] {
            // The second rule is what makes the kernel track flows at all, as our constant ruleset does.
            sh(&format!(
                "nft 'add table inet t; add chain inet t out {{ type nat hook output priority -100; }}; \
                 add rule inet t out udp dport 1 dnat {dnat} to {container}'"
            ));
            let (server, client) = udp_pair(&format!("{container}:53"), &format!("{gateway}:5353"));
            let through = UdpSocket::bind(if dnat == "ip" { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            through.send_to(b"x", format!("{container}:5353")).unwrap();
            assert!(!arrives(&server, &client), "nobody has published the port yet");
            sh(&format!("nft add rule inet t out meta nfproto {} udp dport 5353 dnat {dnat} to '{container}:53'", if dnat == "ip" { "ipv4" } else { "ipv6" }));
            assert!(!arrives(&server, &client), "the kernel remembers the flow");

            for other in ["5354:53/udp", "5353:53/tcp", "127.0.0.1:5353:53/udp", "[::1]:5353:53/udp"] {
                host.flush_udp(&[mapping(other)], &[]).unwrap();
            }
            assert!(!arrives(&server, &client), "other mappings' flows are none of this one's");
            host.flush_udp(&[mapping("5350-5360:50-60/udp")], &[]).unwrap();
            assert!(arrives(&server, &client), "{gateway}");

            let family = if dnat == "ip" { "ipv4" } else { "ipv6" };
            let kept = sh(&format!("conntrack -L -f {family} -p udp -d {}", container.trim_matches(['[', ']'])));
            assert_eq!(kept.lines().count(), 1, "the flow that only passes through stays: {kept}");
            sh("nft delete table inet t");
        }
    }

    fn flows_that_a_container_was_to_answer_are_forgotten_whatever_they_were_sent_to() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();
        sh("nft 'add table inet t; add chain inet t out { type nat hook output priority -100; }; add rule inet t out udp dport 5353 dnat ip to 10.88.0.2:53'");
        sh("ip route add 203.0.113.0/24 via 10.88.0.2");
        let (server, client) = udp_pair("10.88.0.2:53", "203.0.113.9:5353");
        assert!(arrives(&server, &client));
        let count = || sh("conntrack -L -p udp -d 203.0.113.9").lines().count();
        host.flush_udp(&[mapping("5353:53/udp")], &["10.88.0.3".parse().unwrap()]).unwrap();
        assert_eq!(count(), 1);
        host.flush_udp(&[mapping("5353:53/udp")], &["10.88.0.2".parse().unwrap()]).unwrap();
        assert_eq!(count(), 0);
    }

    fn a_plan_becomes_links_addresses_and_routes_as_ip_shows_them() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();

        let bridge = sh("ip -d link show podman0");
        for word in ["UP", "mtu 1400", "02:00:00:00:00:01", "forward_delay 0", "group 28791", "alias podwire:5eed5eed:0123456789ab"] {
            assert!(bridge.contains(word), "{word} in {bridge}");
        }
        let port = sh("ip -d link show pw01234567890");
        for word in ["UP", "mtu 1400", "master podman0", "hairpin on", "group 28791", "addrgenmode none", "link-netns podwire-0123456789ab"] {
            assert!(port.contains(word), "{word} in {port}");
        }
        assert!(sh("ip -6 addr show pw01234567890").is_empty());
        let eth0 = sh("ip -n podwire-0123456789ab addr");
        for word in ["eth0@", "mtu 1400", "02:00:00:00:00:02", "inet 10.88.0.2/16 brd 10.88.255.255 scope global eth0", "inet6 fd00::2/64", "LOOPBACK,UP"] {
            assert!(eth0.contains(word), "{word} in {eth0}");
        }
        assert!(!eth0.contains("inet6 fd00::2/64 scope global tentative"), "{eth0}");
        assert_eq!(sh("ip -n podwire-0123456789ab route show default").trim(), "default via 10.88.0.1 dev eth0 proto static metric 100");
        assert!(sh("ip -n podwire-0123456789ab -6 route show default").contains("default via fd00::1 dev eth0 proto static metric 100"));
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
        assert_eq!(sh("ip netns exec podwire-0123456789ab cat /proc/sys/net/ipv4/conf/eth0/arp_notify").trim(), "1");
        assert!(sh("ip netns exec podwire-0123456789ab ping -c1 -W2 10.88.0.1").contains("1 received") || sh("which ping").is_empty());
    }

    fn what_was_applied_is_observed_and_needs_no_second_plan() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(whole_wish())).unwrap();
        let mut again = Host::open().unwrap();
        let observed = again.observe(&whole_wish()).unwrap();
        for object in whole_wish() {
            assert_eq!(observed.get(&object.key()), Some(&Seen::Object { object: object.clone(), ours: true }), "{object}");
        }
        assert_eq!(plan(&whole_wish(), &whole_wish(), &observed).unwrap().ops, []);
    }

    fn a_bridge_keeps_its_mtu_and_mac_when_members_come_and_go() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();
        host.apply(&Plan { ops: vec![Op::Remove(Object::Veth(veth()))], ..Plan::default() }).unwrap();
        let shown = sh("ip link show podman0");
        assert!(shown.contains("mtu 1400") && shown.contains("02:00:00:00:00:01"), "{shown}");
    }

    fn undo_leaves_the_namespace_as_it_was() {
        let before = everything();
        let mut host = Host::open().unwrap();
        let plan = planned(&mut host, &whole_wish(), &[]);
        host.apply(&plan).unwrap();
        assert_ne!(everything(), before);
        host.apply(&plan.undo()).unwrap();
        assert_eq!(everything(), before);
    }

    fn removing_a_sandbox_removes_its_links_at_once_though_a_process_is_left_in_it() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();
        let mut sleeper = Command::new("ip").args(["netns", "exec", sandbox().as_str(), "sleep", "60"]).spawn().unwrap();
        while !sh(&format!("cat /proc/{}/comm", sleeper.id())).contains("sleep") {
            std::thread::yield_now();
        }
        host.apply(&Plan { ops: vec![Op::Remove(wish().remove(0))], ..Plan::default() }).unwrap();
        assert_eq!((sh("ip link show pw01234567890"), sh("ls /run/netns")), (String::new(), String::new()));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    fn a_refusal_in_the_middle_takes_everything_back_and_names_the_step() {
        let before = everything();
        let mut host = Host::open().unwrap();
        let mut objects = whole_wish();
        // No link leads to this gateway.
        objects.push(default_route("192.0.2.0/24".parse().unwrap(), "198.51.100.1"));
        let error = host.apply(&creating(objects)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(&error, ApplyError::Refused { errno, .. } if errno.name() == "ENETUNREACH"), "{text}");
        assert_eq!(text, "could not create [podwire-0123456789ab] route 192.0.2.0/24 via 198.51.100.1 metric 100: ENETUNREACH: Nexthop has invalid gateway");
        assert_eq!(everything(), before);
    }

    fn after_an_error_in_any_system_call_nothing_is_left() {
        if std::env::var_os(INSIDE).is_some_and(|step| step != "1") {
            return be_killed();
        }
        if sh("which strace").is_empty() {
            eprintln!("SKIPPED an_error: needs strace");
            return;
        }
        let mut host = Host::open().unwrap();
        host.apply(&creating(vec![sysctl(Place::Host, "net/ipv4/ip_forward", "1")])).unwrap();
        let before = everything();
        let test = "after_an_error_in_any_system_call_nothing_is_left";
        let interrupted = disturbed(test, "up", "sendto,recvfrom", "error=EINTR", "1+2").unwrap();
        assert!(interrupted.success(), "interrupted calls are asked for again");
        let remove = planned(&mut host, &[], &whole_wish());
        host.apply(&remove).unwrap();
        let faults = [
            ("sendto", "ENOMEM"), ("sendto", "ENOBUFS"), ("recvfrom", "ENOMEM"), ("openat", "EMFILE"),
            ("socket", "EMFILE"), ("mount", "ENOSPC"), ("unshare", "ENOSPC"), ("setns", "ENOMEM"),
        ];
        for (call, errno) in faults {
            let (mut n, mut failed) = (1, 0);
            while let Some(status) = disturbed(test, "up", call, &format!("error={errno}"), &n.to_string()) {
                // It succeeds where the call was not needed; where setns does not lead back, the process ends
                // itself (`NetNs::within`), and the next command has to repair.
                if status.success() || status.code().is_none() {
                    let remove = planned(&mut host, &[], &whole_wish());
                    host.apply(&remove).unwrap();
                } else {
                    failed += 1;
                    // An empty file may be left where even its removal was refused; marked() sweeps it.
                    assert_eq!(host.marked("5eed5eed").unwrap(), [], "{call} {n}: {errno}");
                }
                assert_eq!(everything(), before, "{call} {n}: {errno}");
                n += stride(5);
            }
            let remove = planned(&mut host, &[], &whole_wish());
            host.apply(&remove).unwrap();
            eprintln!("{errno} at each {}. of {} calls of {call}, {failed} of them failed", stride(5), n - 1);
            assert!(n > 1, "{call} was never called");
        }
    }

    fn many_sandboxes_need_few_descriptors() {
        let name = |n: u32| format!("podwire-{n:012x}").parse::<SandboxName>().unwrap();
        let wish: Vec<_> = (0..150)
            .flat_map(|n| {
                let setting = sysctl(Place::Sandbox(name(n)), "net/ipv4/ip_forward", "1");
                [Object::Sandbox(Sandbox { name: name(n) }), setting]
            })
            .collect();
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish.clone())).unwrap();
        assert!(planned(&mut host, &wish, &[]).ops.is_empty());
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(open < 150, "{open}");
        let away = planned(&mut host, &[], &wish);
        host.apply(&away).unwrap();
        assert_eq!(sh("ls /run/netns"), "");
    }

    fn without_the_capability_it_is_said_which_one_is_needed() {
        if std::env::var_os(INSIDE).is_some_and(|step| step != "1") {
            let error = Host::open().unwrap().apply(&creating(vec![bridge()])).unwrap_err();
            assert!(matches!(error, ApplyError::Denied { .. }));
            eprintln!("{error}");
            return;
        }
        let output = Command::new("setpriv")
            .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
            .arg(std::env::current_exe().unwrap())
            .args(["without_the_capability_it_is_said_which_one_is_needed", "--exact", "--nocapture"])
            .env(INSIDE, "denied")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let line = "not permitted to create link podman0 type bridge address 02:00:00:00:00:01 mtu 1400: CAP_NET_ADMIN is needed";
        assert!(said.contains(line), "{said}");
    }

    fn what_cannot_be_taken_back_is_named() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();
        let mut lost = veth();
        lost.bridge = link("nobridge");
        let bad = address(Place::Host, "nolink", "10.0.0.1/24");
        let ops = vec![Op::Remove(Object::Veth(lost)), Op::Create(bad)];
        let error = host.apply(&Plan { ops, ..Plan::default() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not create addr 10.0.0.1/24 dev nolink: ENODEV: No such device; could not be taken back: link pw01234567890"
        );
        assert!(matches!(error, ApplyError::Stuck { remain, .. } if remain == [Key::Link(link("pw01234567890"))]));
    }

    fn after_a_kill_at_any_system_call_the_same_planner_finishes_or_removes() {
        if std::env::var_os(INSIDE).is_some_and(|step| step != "1") {
            return be_killed();
        }
        if sh("which strace").is_empty() {
            eprintln!("SKIPPED a_kill: needs strace");
            return;
        }
        // Once, so that the setting that is never taken back is what it will be.
        let mut host = Host::open().unwrap();
        host.apply(&creating(whole_wish())).unwrap();
        let away = planned(&mut host, &[], &whole_wish());
        host.apply(&away).unwrap();
        let before = everything();
        // strace counts per thread, and a namespace is made on a thread of its own.
        let changing = "sendto,umount2,unlink,unlinkat,write";
        for (step, calls, least) in [("up", changing, 15), ("up", "unshare", 1), ("up", "mount", 1), ("down", changing, 5)] {
            let mut kills = 0;
            loop {
                let mut host = Host::open().unwrap();
                if step == "down" {
                    let plan = planned(&mut host, &whole_wish(), &whole_wish());
                    host.apply(&plan).unwrap();
                }
                let test = "after_a_kill_at_any_system_call_the_same_planner_finishes_or_removes";
                if disturbed(test, step, calls, "signal=KILL", &(kills + 1).to_string()).is_none() {
                    break;
                }
                kills += stride(3);
                if kills % 2 == 0 {
                    let finish = planned(&mut host, &whole_wish(), &whole_wish());
                    host.apply(&finish).unwrap();
                    assert_eq!(planned(&mut host, &whole_wish(), &whole_wish()).to_string(), "", "{step} killed at {kills}");
                }
                let marked = host.marked("5eed5eed").unwrap();
                assert!(marked.iter().all(|o| whole_wish().iter().any(|w| w.key() == o.key())), "{marked:?}");
                let remove = planned(&mut host, &[], &whole_wish());
                host.apply(&remove).unwrap();
                assert_eq!(everything(), before, "{step} killed at {kills}, {remove}");
            }
            eprintln!("{step}: killed at each {}. of {kills} calls of {calls}", stride(3));
            assert!(kills >= least, "{step}: only {kills} kills at {calls}");
            let remove = planned(&mut host, &[], &whole_wish());
            host.apply(&remove).unwrap();
        }
    }

    fn steps_that_the_kernel_took_after_the_refused_one_of_a_send_are_taken_back_too() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(vec![bridge()])).unwrap();
        let before = everything();
        let twice = address(Place::Host, "podman0", "10.1.0.1/24");
        let ops = creating(vec![address(Place::Host, "podman0", "10.0.0.1/24"), twice.clone(), twice, address(Place::Host, "podman0", "10.2.0.1/24")]);
        assert!(matches!(host.apply(&ops).unwrap_err(), ApplyError::Conflict(_)));
        assert_eq!(everything(), before);
    }

    fn a_link_of_others_with_our_name_is_shown_and_not_touched() {
        sh("ip link add podman0 type bridge; ip link set podman0 alias theirs mtu 1333; ip link add other type veth peer name other2");
        let before = everything();
        let mut host = Host::open().unwrap();
        let observed = host.observe(&[bridge()]).unwrap();
        assert!(matches!(&observed[&bridge().key()], Seen::Object { ours: false, .. }));

        let error = host.apply(&creating(vec![Object::Sandbox(Sandbox { name: sandbox() }), bridge()])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "link podman0 type bridge is in the way of link podman0 type bridge address 02:00:00:00:00:01 mtu 1400; \
             see: ip -d link show podman0"
        );
        let mut of_veth = veth();
        of_veth.host = link("other");
        for object in [bridge(), Object::Veth(of_veth), address(Place::Host, "podman0", "10.88.0.1/16")] {
            let error = host.apply(&Plan { ops: vec![Op::Remove(object)], ..Plan::default() }).unwrap_err();
            assert!(matches!(error, ApplyError::Conflict(_)), "{error}");
        }
        let mut of_veth = veth();
        of_veth.host = link("other");
        let attached = creating(vec![Object::Sandbox(Sandbox { name: sandbox() }), Object::Veth(of_veth)]);
        assert!(matches!(host.apply(&attached).unwrap_err(), ApplyError::Conflict(_)));
        assert_eq!(everything(), before);
    }

    fn a_link_of_another_kind_or_an_alternative_name_is_something_else() {
        sh("ip link add podman0 type veth peer name x0; ip link add eth9 type bridge; ip link property add dev eth9 altname podman1");
        let mut host = Host::open().unwrap();
        let Object::Bridge(mut second) = bridge() else { unreachable!() };
        second.name = link("podman1");
        let observed = host.observe(&[bridge(), Object::Bridge(second)]).unwrap();
        let what = |name: &str| match &observed[&Key::Link(link(name))] {
            Seen::Other { what } => what.clone(),
            seen => format!("{seen:?}"),
        };
        assert_eq!((what("podman0").as_str(), what("podman1").as_str()), ("link podman0 type veth", "link eth9 altname podman1 type bridge"));
    }

    fn the_hosts_own_namespace_is_nobodys_sandbox() {
        sh("mkdir -p /run/netns; touch /run/netns/podwire-0123456789ab; mount --bind /proc/self/ns/net /run/netns/podwire-0123456789ab");
        sh("ip link add eth0 type veth peer name eth1");
        let before = everything();
        let mut host = Host::open().unwrap();
        for object in wish().into_iter().filter(|o| !matches!(o, Object::Bridge(_)) && !o.to_string().contains("podman0") && !o.to_string().contains("ip_forward")) {
            let error = host.observe(std::slice::from_ref(&object)).map(|_| ());
            if !matches!(object, Object::Veth(_)) {
                assert!(error.unwrap_err().to_string().contains("the host's own network namespace"), "{object}");
            }
            for op in [Op::Create(object.clone()), Op::Remove(object.clone())] {
                let gone = matches!(op, Op::Remove(Object::Veth(_) | Object::Sysctl(_)));
                let result = host.apply(&Plan { ops: vec![op], ..Plan::default() });
                assert_eq!(result.is_ok(), gone, "{object}: {result:?}");
            }
        }
        assert_eq!(everything(), before);
    }

    fn nothing_of_a_sandbox_that_does_not_exist_is_there() {
        let mut host = Host::open().unwrap();
        let inner: Vec<_> = wish().into_iter().filter(|o| o.to_string().starts_with('[')).collect();
        assert_eq!(host.observe(&inner).unwrap().len(), 0);
        let removal = Plan { ops: inner.into_iter().rev().map(Op::Remove).collect(), ..Plan::default() };
        host.apply(&removal).unwrap();
    }

    fn a_setting_that_is_right_is_not_written() {
        let mut host = Host::open().unwrap();
        sh("mount -t tmpfs none /mnt; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        let now = sh("cat /proc/sys/net/ipv4/ip_forward").trim().to_owned();
        host.apply(&creating(vec![sysctl(Place::Host, "net/ipv4/ip_forward", &now)])).unwrap();
        let other = if now == "0" { "1" } else { "0" };
        let error = host.apply(&creating(vec![sysctl(Place::Host, "net/ipv4/ip_forward", other)])).unwrap_err();
        assert!(matches!(&error, ApplyError::Refused { errno, .. } if errno.name() == "EROFS"), "{error}");
    }

    fn a_setting_outside_the_network_stack_is_refused() {
        let mut host = Host::open().unwrap();
        for path in ["kernel/core_pattern", "net/../kernel/core_pattern"] {
            let error = host.apply(&creating(vec![sysctl(Place::Host, path, "x")])).unwrap_err();
            assert!(error.to_string().contains("is not a setting of the network stack"), "{error}");
        }
    }

    fn a_changed_bridge_and_veth_are_changed_in_place() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();
        sh("ip link set podman0 mtu 1280; ip link set pw01234567890 nomaster; ip -n podwire-0123456789ab link set eth0 mtu 1300");
        let index = sh("cat /sys/class/net/pw01234567890/ifindex");
        let repair = planned(&mut host, &wish(), &wish());
        assert!(!repair.ops.is_empty() && !repair.ops.iter().any(|op| matches!(op, Op::Remove(_))), "{repair}");
        host.apply(&repair).unwrap();
        assert!(planned(&mut host, &wish(), &wish()).ops.is_empty());
        assert_eq!(sh("cat /sys/class/net/pw01234567890/ifindex"), index);
        assert!(sh("ip -d link show pw01234567890").contains("hairpin on"));
    }

    fn members_that_are_isolated_exchange_no_frames_and_stay_so() {
        let mut host = Host::open().unwrap();
        let isolated = |isolated| -> Vec<Object> {
            let mut wish = wish();
            let veth = wish.iter_mut().find(|o| matches!(o, Object::Veth(_))).unwrap();
            *veth = Object::Veth(Veth { isolated, ..self::veth() });
            wish
        };
        host.apply(&creating(isolated(true))).unwrap();
        assert!(sh("ip -d link show pw01234567890").contains("isolated on"));
        // Another member that is so, beside the bridge itself, which is not.
        sh("ip netns add other; ip link add p1 type veth peer name e1 netns other; ip link set p1 master podman0 up");
        sh("ip link set p1 type bridge_slave isolated on; ip -n other addr add 10.88.0.9/16 dev e1; ip -n other link set e1 up");
        let knows = |to: &str| {
            sh(&format!("ip -n other neigh flush all; ip netns exec other bash -c 'echo > /dev/udp/{to}/9'"));
            (0..20).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                sh(&format!("ip -n other neigh show {to}")).contains("lladdr")
            })
        };
        assert!(knows("10.88.0.1") && !knows("10.88.0.2"));
        // Turned off by hand it is turned on again; no wish any more, it is turned off.
        sh("bridge link set dev pw01234567890 isolated off");
        assert!(knows("10.88.0.2"));
        let repair = planned(&mut host, &isolated(true), &isolated(true));
        assert_eq!(repair.ops.len(), 1, "{repair}");
        host.apply(&repair).unwrap();
        assert!(!knows("10.88.0.2"));
        let release = planned(&mut host, &isolated(false), &isolated(true));
        host.apply(&release).unwrap();
        assert!(knows("10.88.0.2"));
        sh("ip netns del other");
    }

    fn links_left_unfinished_or_turned_down_are_finished() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();
        let breaks = [
            "ip link set podman0 down",
            "ip link set pw01234567890 down",
            "bridge link set dev pw01234567890 hairpin off",
            "ip link set pw01234567890 alias ''",
            "ip -n podwire-0123456789ab link set eth0 down",
        ];
        for command in breaks {
            sh(command);
            let repair = planned(&mut host, &wish(), &wish());
            assert!(!repair.ops.is_empty() && !repair.ops.iter().any(|op| matches!(op, Op::Remove(_))), "{command}: {repair}");
            host.apply(&repair).unwrap();
            assert_eq!(planned(&mut host, &wish(), &wish()).to_string(), "", "{command}");
        }
    }

    fn a_link_whose_alias_was_taken_away_is_still_ours() {
        let mut host = Host::open().unwrap();
        host.apply(&creating(wish())).unwrap();
        sh("ip link set podman0 alias ''");
        let repair = planned(&mut host, &wish(), &wish());
        assert_eq!(repair.ops.len(), 1, "{repair}");
        host.apply(&repair).unwrap();
        assert!(sh("ip link show podman0").contains("alias podwire:5eed5eed:0123456789ab\n"));
        sh("ip link set podman0 alias mine");
        let undo = planned(&mut host, &[], &wish());
        host.apply(&undo).unwrap();
        assert_eq!((sh("ip link show podman0"), sh("ls /run/netns")), (String::new(), String::new()));
    }

    fn facts_are_those_of_the_default_route_and_of_what_is_in_use() {
        sh("ip link add up0 type veth peer name up1; ip link set up0 mtu 1442 up; ip link set up1 up; ip addr add 198.51.100.2/24 dev up0");
        sh("ip -6 addr add 2001:db8:1::2/64 dev up0 nodad; ip route add default via 198.51.100.1; ip route add 10.89.0.0/16 via 198.51.100.1");
        // A VPN's table, addresses that are all this host's, and a wall around private addresses.
        sh("ip route add 10.90.0.0/16 dev up0 table 51820; ip route add local 10.91.0.0/24 dev lo; ip route add unreachable 10.0.0.0/8 metric 4000");
        let facts = Host::open().unwrap().facts().unwrap();
        assert_eq!((facts.uplink, facts.mtu), (Some(link("up0")), 1442));
        let used: Vec<_> = facts.used.iter().map(ToString::to_string).collect();
        assert_eq!(used, ["10.89.0.0/16", "10.90.0.0/16", "10.91.0.0/24", "198.51.100.0/24", "2001:db8:1::/64"]);
        let addresses: Vec<_> = facts.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["198.51.100.2", "2001:db8:1::2"]);
        assert!(facts.links.contains(&link("up1")) && facts.links.contains(&link("lo")));
    }

    fn routes_that_lead_nowhere_are_made_observed_changed_and_removed() {
        let mut host = Host::open().unwrap();
        let route = |destination: &str, kind| {
            let destination = destination.parse().unwrap();
            Object::Route(Route { place: inside(), destination, kind, metric: 7 })
        };
        let routes = |kinds: [RouteKind; 4]| {
            let [a, b, c, d] = kinds;
            vec![route("10.1.0.0/24", a), route("10.2.0.0/24", b), route("fd01::/64", c), route("fd02::/64", d)]
        };
        let nowhere = [RouteKind::Blackhole, RouteKind::Prohibit, RouteKind::Unreachable, RouteKind::Blackhole];
        let desired: Vec<Object> = wish().into_iter().chain(routes(nowhere)).collect();
        host.apply(&creating(desired.clone())).unwrap();
        let shown = sh("ip -n podwire-0123456789ab route; ip -n podwire-0123456789ab -6 route");
        for word in ["blackhole 10.1.0.0/24 proto static metric 7", "prohibit 10.2.0.0/24", "unreachable fd01::/64", "blackhole fd02::/64"] {
            assert!(shown.contains(word), "{word} in {shown}");
        }
        assert_eq!(planned(&mut host, &desired, &desired).to_string(), "");

        let via = |ip: &str| RouteKind::Via(ip.parse().unwrap());
        let elsewhere = [via("10.88.0.1"), RouteKind::Blackhole, via("fd00::1"), RouteKind::Prohibit];
        let changed: Vec<Object> = wish().into_iter().chain(routes(elsewhere.clone())).collect();
        let plan = planned(&mut host, &changed, &desired);
        host.apply(&plan).unwrap();
        assert_eq!(planned(&mut host, &changed, &changed).to_string(), "");
        // One op each, as a heal does it.
        let change = |from: Vec<Object>, to: Vec<Object>| {
            let ops = from.into_iter().zip(to).map(|(from, to)| Op::Change { from, to });
            Plan { ops: ops.collect(), ..Plan::default() }
        };
        let other = [RouteKind::Unreachable, via("10.88.0.1"), RouteKind::Blackhole, via("fd00::1")];
        host.apply(&change(routes(elsewhere), routes(other.clone()))).unwrap();
        let again: Vec<Object> = wish().into_iter().chain(routes(other)).collect();
        assert_eq!(planned(&mut host, &again, &again).to_string(), "");
        let plan = planned(&mut host, &wish(), &again);
        host.apply(&plan).unwrap();
        let left = sh("ip -n podwire-0123456789ab route; ip -n podwire-0123456789ab -6 route");
        assert!(!left.contains("metric 7"), "{left}");
    }

    fn a_bridge_that_cannot_be_as_wished_is_refused_in_a_sentence_and_leaves_nothing() {
        let mut host = Host::open().unwrap();
        let wished = |filters_vlans, vrf: Option<&str>| {
            let Object::Bridge(plain) = bridge() else { unreachable!("it is a bridge") };
            creating(vec![Object::Bridge(Bridge { filters_vlans, vrf: vrf.map(link), ..plain })])
        };
        match host.apply(&wished(true, None)) {
            Ok(()) => {
                assert!(sh("ip -d link show podman0").contains("vlan_filtering 1"));
                sh("ip link del podman0");
            }
            Err(refused) => assert!(refused.to_string().ends_with("without CONFIG_BRIDGE_VLAN_FILTERING"), "{refused}"),
        }
        let refused = host.apply(&wished(false, Some("red"))).unwrap_err().to_string();
        assert!(refused.ends_with("vrf red does not exist on the host"), "{refused}");
        sh("ip link add red type veth peer name other");
        let refused = host.apply(&wished(false, Some("red"))).unwrap_err().to_string();
        assert!(refused.ends_with("link red type veth is no vrf"), "{refused}");
        assert!(!sh("ip link").contains("podman0"));
    }

    fn without_a_default_route_the_mtu_is_ethernets() {
        let facts = Host::open().unwrap().facts().unwrap();
        assert_eq!((facts.uplink, facts.mtu, facts.used, facts.addresses), (None, 1500, vec![], vec![]));
    }
}
