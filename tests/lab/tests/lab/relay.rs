//! An ordinary user's relay: its cage, and what goes on in it.

use lab::trial::{Need, Sentence};
use lab::{HOST4, Lab, LabOptions, OUTSIDE4, sentences};

use crate::words::{banner_comes, eventually, get, load_for_user as load, peer};

pub(crate) fn sentences() -> Vec<Sentence> {
    let user = || LabOptions { user: true, ..LabOptions::default() };
    sentences![user(); &[Need::UidMap];
        the_relay_has_no_file_no_capability_outside_its_namespace_and_few_system_calls,
        a_caged_relay_follows_the_hosts_name_servers_links_and_routes,
        a_relay_that_is_killed_under_load_comes_back_and_no_command_notices,
        others_are_answered_while_a_container_floods_and_itself_right_afterwards,
        an_unreachable_host_is_told_of_at_once_and_a_refusing_name_server_passed_over,
        seven_hundred_and_more_ports_are_published_one_by_one,
    ]
}

/// The number of a process by its name.
fn pid(lab: &Lab, name: &str) -> String {
    lab.ok(&format!("pgrep -x {name}"))
}

/// What /proc says of each of its threads, a line `NAME FIELD VALUE` for each field.
fn threads(lab: &Lab, pid: &str) -> Vec<(String, String, String)> {
    let awk = "awk '/^Name:/ {name=$2} /^(Cap|NoNewPrivs|Seccomp:)/ {print name, $1, $2}'";
    let said = lab.ok(&format!("cat /proc/{pid}/task/*/status | {awk}"));
    let words = |line: &str| -> Option<_> {
        let mut words = line.split(' ').map(|word| word.trim_end_matches(':').to_owned());
        Some((words.next()?, words.next()?, words.next()?))
    };
    said.lines().filter_map(words).collect()
}

fn the_relay_has_no_file_no_capability_outside_its_namespace_and_few_system_calls(lab: &Lab) {
    load(lab);
    lab.user("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let relay = pid(lab, "podwire-relay");
    let threads = threads(lab, &relay);
    // NET_BIND_SERVICE and NET_ADMIN, where sockets speak as clients and peers.
    let inside = ["datagrams", "published"];
    for (name, field, value) in &threads {
        let expected = match field.as_str() {
            "NoNewPrivs" => "1",
            "Seccomp" => "2",
            "CapEff" | "CapPrm" if inside.contains(&name.as_str()) => "0000000000001400",
            _ => "0000000000000000",
        };
        assert_eq!(value, expected, "{field} of {name} in {threads:?}");
    }
    for name in ["podwire-relay", "outside", "outbound", "datagrams", "published"] {
        assert_eq!(threads.iter().filter(|(of, ..)| of == name).count(), 7, "{name} in {threads:?}");
    }
    assert_eq!(lab.ok(&format!("ls -A /proc/{relay}/root/ | wc -l; readlink /proc/{relay}/cwd")), "0\n/");
    let mounts = lab.ok(&format!("cat /proc/{relay}/mounts"));
    assert!(mounts.lines().count() == 1 && mounts.contains("tmpfs ro,nosuid,nodev,noexec"), "{mounts}");
    lab.host(&format!("mkdir /proc/{relay}/root/x")).code(1);
    // Its log is the only file, and no directory is open; the rest are sockets, the TUN, and the kernel's own kinds.
    let files = lab.ok(&format!("for fd in /proc/{relay}/fd/*; do stat -L -c '%F' $fd; done | sort | uniq -c"));
    let kinds: Vec<&str> = files.lines().map(str::trim).collect();
    assert!(kinds.iter().any(|kind| kind.ends_with(" regular empty file") || *kind == "1 regular file"), "{files}");
    assert!(!files.contains("directory") && !files.contains("symbolic"), "{files}");
    let limits = lab.ok(&format!("grep -E 'core file|data size' /proc/{relay}/limits"));
    assert!(limits.contains("Max core file size        0 ") && !limits.contains("unlimited"), "{limits}");
    let lookout = pid(lab, "podwire-lookout");
    for (name, field, value) in self::threads(lab, &lookout) {
        let expected = if field == "NoNewPrivs" {
            "1"
        } else if field == "Seccomp" {
            "2"
        } else {
            "0000000000000000"
        };
        assert_eq!(value, expected, "{field} of {name}");
    }
    let sockets = lab.ok(&format!("ls -l /proc/{lookout}/fd | grep -c socket:"));
    assert_eq!(sockets, "1", "the one to the relay");
    lab.user("podwire rm -f -t 0 web").ok();
    eventually(|| lab.host("pgrep -x 'podwire-(relay|lookout)'"), |run| run.code == 1).code(1);
}

fn a_caged_relay_follows_the_hosts_name_servers_links_and_routes(lab: &Lab) {
    load(lab);
    lab.host("echo >/run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf").ok();
    lab.user("podwire run -d --name box banner").ok();
    let serve = |address: &str, ip: &str| {
        let mut server = lab.background_outside(&peer(lab, &format!("dns-serve {address} {ip}")));
        server.until("serving");
        server
    };
    let asked = |ip: &str| {
        eventually(|| lab.user("podwire exec box nslookup www.example"), |run| run.out.contains(ip)).says(ip);
    };
    let link_local = lab.outside("ip -6 -br addr show dev eth0 scope link | grep -o 'fe80[^/]*'").ok().out;
    let link_local = link_local.trim();
    let _first = serve(OUTSIDE4, "192.0.2.7");
    let _second = serve(&format!("{link_local}%eth0"), "192.0.2.8");
    let write = |text: &str| lab.host(&format!("echo '{text}' >/run/resolv.conf")).ok();
    write(&format!("nameserver {OUTSIDE4}"));
    asked("192.0.2.7");
    // Of the host's link by its name, which in the relay's namespace would be nobody's.
    write(&format!("nameserver {link_local}%eth0"));
    asked("192.0.2.8");
    // A VPN comes, whose address is the host's towards the outside from then on.
    let mut server = lab.background(&peer(lab, "http 7000"));
    server.until("listening");
    let fetch = "podwire exec box timeout 2 wget -q -O - http://169.254.1.2:7000/";
    eventually(|| lab.user(fetch), |run| run.out.contains(HOST4)).says(HOST4);
    lab.host(
        "ip link add vpn0 type veth peer name vpn1; ip addr add 10.99.0.1/24 dev vpn0; ip link set vpn0 up; \
              ip link set vpn1 up; ip route replace default via 10.99.0.2 dev vpn0",
    )
    .ok();
    eventually(|| lab.user(fetch), |run| run.out.contains("10.99.0.1")).says("10.99.0.1");
    lab.host("ip link del vpn0; ip route replace default via 192.168.99.1").ok();
    eventually(|| lab.user(fetch), |run| run.out.contains(HOST4)).says(HOST4);
    lab.user("podwire rm -f -t 0 box").ok();
}

fn a_relay_that_is_killed_under_load_comes_back_and_no_command_notices(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.user("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let mut load = lab.background_outside(&peer(lab, &format!("tcp-keep {HOST4} 8080")));
    load.until("asking");
    for round in 0..5 {
        lab.host("pkill -9 -x podwire-relay").ok();
        // At once: the old one dies, a monitor and this command want a new one.
        lab.user(&format!("podwire run --rm --name c{round} -p 808{}:80 banner true", round + 1)).ok();
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
        let still = lab.user("podwire inspect -f '{{.State.Status}} {{.RestartCount}}' web").ok();
        assert_eq!(still.out.trim(), "running 0");
    }
    load.close_stdin();
    load.wait().ok().says("asked");
    lab.user("podwire rm -f -t 0 web").ok();
    before.same(lab, "after the relay was killed");
}

fn seven_hundred_and_more_ports_are_published_one_by_one(lab: &Lab) {
    load(lab);
    let ports = (0..1500).fold(String::new(), |text, n| format!("{text} -p {}:{}", 10_000 + 2 * n, 80 + 2 * n));
    lab.user(&format!("podwire run -d --name web {ports} banner")).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:10000"))));
    let refused = lab.outside(&get(&format!("{HOST4}:10002")));
    assert_ne!(refused.code, 28, "answered: {}", refused.err);
    lab.user("podwire rm -f -t 0 web").ok();
    let refused = lab.outside(&get(&format!("{HOST4}:10000")));
    assert_eq!(refused.code, 7, "{}", refused.err);
}

/// Two containers, a server outside, and addresses there that swallow everything. Of random senders and receivers on
/// a link the kernel would remember one each (its table of neighbours is for all namespaces): there are none here.
fn others_are_answered_while_a_container_floods_and_itself_right_afterwards(lab: &Lab) {
    load(lab);
    lab.outside("ip route add blackhole 203.0.113.0/24").ok();
    let mut server = lab.background_outside(&peer(lab, "http 7000"));
    server.until("listening");
    lab.user("podwire run -d --name one banner && podwire run -d --name two banner").ok();
    let inside = |name: &str, line: &str| {
        let pid = lab.user(&format!("podwire inspect -f '{{{{.State.Pid}}}}' {name}")).ok().out;
        format!("exec nsenter -t {} -n {line}", pid.trim())
    };
    let fetch = inside("one", &format!("curl -sS -m 5 http://{OUTSIDE4}:7000/"));
    lab.host(&fetch).ok().says(HOST4);
    let said = |line: &str| lab.ok(&inside("one", line));
    let own = said("hostname -I").split(' ').next().unwrap_or_default().to_owned();
    let gateway =
        said("ip neigh").split("lladdr ").nth(1).unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
    let relay = pid(lab, "podwire-relay");
    let most_held = || lab.ok(&format!("grep VmHWM /proc/{relay}/status")).split_whitespace().nth(1).map(str::to_owned);
    for (source, target, kind) in [
        (own.as_str(), OUTSIDE4, "syn"),
        (&own, "203.0.113.5", "syn"),
        ("random", "203.0.113.5", "syn"),
        ("random", OUTSIDE4, "syn"),
        (&own, OUTSIDE4, "ack"),
        (&own, "203.0.113.5", "udp"),
        (&own, OUTSIDE4, "echo"),
        (&own, OUTSIDE4, "mutated"),
    ] {
        let what = format!("{kind} of {source} to {target}");
        let keep = inside("two", &format!("python3 {}/peer.py tcp-keep {OUTSIDE4} 7000", lab.dir().display()));
        let mut keep = lab.background(&keep);
        keep.until("asking");
        let seconds = if kind == "mutated" { 4 } else { 2 };
        let flood = format!("flood eth0 {gateway} {source} {target} {kind} {seconds}");
        let sent = lab.host(&inside("one", &format!("python3 {}/peer.py {flood}", lab.dir().display()))).ok();
        // The limit of a second is what is promised; curl itself takes a part of it.
        let begun = std::time::Instant::now();
        lab.host(&fetch).ok().says(HOST4);
        let recovered = begun.elapsed();
        assert!(recovered.as_millis() < 3000, "{what}: {recovered:?} after {}", sent.out);
        keep.close_stdin();
        keep.wait().ok().says(" 0 failed");
        assert_eq!(pid(lab, "podwire-relay"), relay, "{what}: the relay has not ended");
    }
    let held: u64 = most_held().and_then(|kib| kib.parse().ok()).unwrap_or(u64::MAX);
    assert!(held < 100 << 10, "{held} KiB");
    lab.user("podwire rm -fa -t 0").ok();
}

fn an_unreachable_host_is_told_of_at_once_and_a_refusing_name_server_passed_over(lab: &Lab) {
    load(lab);
    lab.outside("ip route add unreachable 203.0.113.0/24; ip -6 route add unreachable 2001:db8:f::/48").ok();
    lab.outside("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").ok();
    lab.user("podwire run -d --name one --network slirp4netns banner").ok();
    let container = lab.user("podwire inspect -f '{{.State.Pid}}' one").ok().out;
    for address in ["203.0.113.5", "[2001:db8:f::5]"] {
        // Word that comes while connect(2) still has the container's socket is kept until the SYN is repeated
        // (tcp_v6_err() in net/ipv6/tcp_ipv6.c), a second later: one of three is enough.
        let told_at_once = (0..3).any(|_| {
            let begun = std::time::Instant::now();
            let ask = format!("exec nsenter -t {} -n curl -sS -g -m 5 http://{address}:80/", container.trim());
            let run = lab.host(&ask);
            assert_eq!(run.code, 7, "{}", run.err);
            begun.elapsed().as_millis() < 900
        });
        assert!(told_at_once, "{address}");
    }
    // The first one refuses TCP.
    lab.host(&format!("printf 'nameserver {HOST4}\nnameserver {OUTSIDE4}\n' >/run/resolv.conf")).ok();
    lab.host("mount --bind /run/resolv.conf /etc/resolv.conf").ok();
    let mut server = lab.background_outside(&peer(lab, &format!("dns-serve {OUTSIDE4} 192.0.2.7")));
    server.until("serving");
    let ask = format!(
        "exec nsenter -t {} -n python3 -c \"import socket; s = socket.create_connection(('10.0.2.3', 53), 2); print('accepted')\"",
        container.trim()
    );
    eventually(|| lab.host(&ask), |run| run.code == 0).ok().says("accepted");
    lab.user("podwire rm -fa -t 0").ok();
}
