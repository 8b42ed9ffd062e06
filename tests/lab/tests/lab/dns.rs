//! Names of containers, on real networks; dig is the witness.

use lab::trial::{Need, Sentence};
use lab::{HOST4, Lab, LabOptions, OUTSIDE4, Run, Sandboxed, sentences};

use crate::words::{banner_comes, dual, eventually, get, ip4, load, peer, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[Need::Dig];
        a_container_has_all_its_names_in_both_families_and_each_kind_of_question_its_answer,
        a_name_is_there_when_run_returns_and_gone_when_its_container_stops,
        names_of_other_networks_are_not_told_and_the_lan_gets_no_answer,
        other_names_are_asked_outside_but_none_leaves_an_internal_network,
        what_does_not_fit_a_datagram_comes_by_tcp,
        port_53_is_the_hosts_and_the_containers_to_use,
        the_hosts_resolv_conf_is_followed,
        servers_of_a_container_and_of_a_network_are_asked_before_the_hosts,
        the_thread_that_reads_queries_may_bind_low_ports_and_nothing_else,
    ]
}

/// The gateway of the network `dual`.
const GATEWAY: &str = "10.91.0.1";

/// The answers alone, or the kind of answer; `question` as dig takes it.
fn dig(lab: &Lab, asker: &Sandboxed, server: &str, question: &str) -> String {
    said(&lab.inside(asker, &dig_line(server, question)))
}

fn dig_line(server: &str, question: &str) -> String {
    format!("dig @{server} +tries=1 +time=2 +noall +comments +answer +nocookie {question}")
}

/// `NOERROR 10.91.0.2`, or `silence`.
fn said(run: &Run) -> String {
    if run.code != 0 {
        return "silence".to_owned();
    }
    let status = run.out.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("?");
    let records = run.out.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let mut data: Vec<&str> = records.filter_map(|line| line.split_whitespace().last()).collect();
    data.sort_unstable();
    [&[status], data.as_slice()].concat().join(" ")
}

fn a_container_has_all_its_names_in_both_families_and_each_kind_of_question_its_answer(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name db --hostname store --network dual:alias=data banner").ok();
    lab.host("podwire run -d --name web --network dual banner").ok();
    let (web, v4, v6) = (sandbox(lab, "web"), ip4(lab, "db"), crate::words::ip6(lab, "db"));
    let id = lab.ok("podwire inspect -f '{{.Id}}' db")[..12].to_owned();
    for name in ["db", "data", "store", &id, "DB.dns.podman"] {
        assert_eq!(dig(lab, &web, GATEWAY, &format!("A {name}")), format!("NOERROR {v4}"));
        assert_eq!(dig(lab, &web, "fd91::1", &format!("AAAA {name}")), format!("NOERROR {v6}"));
    }
    assert_eq!(dig(lab, &web, GATEWAY, "+tcp A db"), format!("NOERROR {v4}"));
    for address in [&v4, &v6] {
        let mut names = ["db.", "data.", "store.", &format!("{id}.")].map(str::to_owned);
        names.sort_unstable();
        assert_eq!(dig(lab, &web, GATEWAY, &format!("-x {address}")), format!("NOERROR {}", names.join(" ")));
    }
    assert_eq!(dig(lab, &web, GATEWAY, "MX db"), "NOERROR", "no such data is not no such name");
    assert_eq!(dig(lab, &web, GATEWAY, "nobody.dns.podman"), "NXDOMAIN");
    assert_eq!(dig(lab, &web, GATEWAY, "-x 10.91.0.200"), "NXDOMAIN", "whose else could it be");
    let soa = lab.inside(&web, &format!("dig @{GATEWAY} +noall +authority MX db")).ok();
    soa.says("SOA");
    // The guide's words, by the C library's resolver.
    lab.host("podwire exec web cat /etc/resolv.conf").ok().says("search dns.podman").says("nameserver 10.91.0.1");
    lab.host("podwire exec web nslookup db").ok().says(&v4);
    assert_eq!(said(&lab.host(&dig_line(GATEWAY, "db"))), format!("NOERROR {v4}"), "the host itself may ask");
}

fn a_name_is_there_when_run_returns_and_gone_when_its_container_stops(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual banner").ok();
    lab.host("podwire run -d --name late --network podman banner").ok();
    let web = sandbox(lab, "web");
    let ask = |name: &str| dig(lab, &web, GATEWAY, &format!("{name}.dns.podman"));
    for n in 0..3 {
        lab.host(&format!("podwire run -d --name db{n} --network dual banner")).ok();
        assert_eq!(ask(&format!("db{n}")), format!("NOERROR {}", ip4(lab, &format!("db{n}"))));
    }
    lab.host("podwire stop -t 0 db1").ok();
    assert_eq!(ask("db1"), "NXDOMAIN");
    lab.host("podwire start db1").ok();
    assert_ne!(ask("db1"), "NXDOMAIN");
    lab.host("podwire rm -f -t 0 db1").ok();
    assert_eq!(ask("db1"), "NXDOMAIN");
    lab.host("podwire network connect --alias soon dual late").ok();
    assert_eq!(ask("soon"), ask("late"));
    assert!(ask("soon").starts_with("NOERROR 10.91.0."));
    lab.host("podwire network disconnect dual late").ok();
    assert_eq!(ask("soon"), "NXDOMAIN");
}

fn names_of_other_networks_are_not_told_and_the_lan_gets_no_answer(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire network create --subnet 10.92.0.0/24 other").ok();
    lab.host("podwire run -d --name web --network dual banner").ok();
    lab.host("podwire run -d --name both --network dual,other banner").ok();
    lab.host("podwire run -d --name far --network other banner").ok();
    let (web, both) = (sandbox(lab, "web"), sandbox(lab, "both"));
    assert_eq!(dig(lab, &web, GATEWAY, "far.dns.podman"), "NXDOMAIN");
    assert_eq!(dig(lab, &web, GATEWAY, &format!("-x {}", ip4(lab, "far"))), "NXDOMAIN");
    assert_eq!(dig(lab, &web, "10.92.0.1", "far"), "silence", "by the other network's server");
    assert_eq!(dig(lab, &web, "10.92.0.1", "+tcp far"), "silence");
    assert!(dig(lab, &both, GATEWAY, "far").starts_with("NOERROR 10.92.0."), "who is on both is told");
    let port = lab.ok("ss -Hlun src 10.91.0.1");
    let port = port.split_whitespace().nth(3).and_then(|local| local.rsplit(':').next()).unwrap_or_default();
    lab.outside(&format!("ip route add 10.91.0.0/24 via {HOST4}")).ok();
    lab.outside(&format!("ip route add fd91::/64 via {}", lab::HOST6)).ok();
    for server in ["10.91.0.1", "fd91::1", HOST4] {
        for how in ["", "+tcp", &format!("-p {port}"), &format!("-p {port} +tcp")] {
            let line = dig_line(server, &format!("+time=1 {how} web"));
            assert_eq!(said(&lab.outside(&line)), "silence", "{line}");
        }
    }
    assert_eq!(dig(lab, &web, GATEWAY, &format!("-p {port} web")), "silence", "only port 53, as the firewall maps it");
}

fn other_names_are_asked_outside_but_none_leaves_an_internal_network(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire network create --internal --subnet 10.93.0.0/24 vault").ok();
    let mut upstream = lab.background_outside(&peer(lab, &format!("dns-serve {OUTSIDE4} 198.51.100.7")));
    upstream.until("serving");
    lab.host("podwire run -d --name web --network dual banner").ok();
    lab.host("podwire run -d --name safe --network vault banner").ok();
    let (web, safe) = (sandbox(lab, "web"), sandbox(lab, "safe"));
    assert_eq!(dig(lab, &web, GATEWAY, "example.org"), "NOERROR 198.51.100.7");
    assert_eq!(dig(lab, &web, GATEWAY, "+tcp example.net"), "NOERROR 198.51.100.7");
    assert!(dig(lab, &safe, "10.93.0.1", "safe").starts_with("NOERROR 10.93.0."));
    for question in ["secret.example", "+tcp secret.example", "-x 192.0.2.1", "TXT secret.example"] {
        assert_eq!(dig(lab, &safe, "10.93.0.1", question), "NXDOMAIN");
    }
    assert_eq!(dig(lab, &safe, OUTSIDE4, "secret.example"), "silence");
    let asked = upstream.output();
    assert!(asked.contains("udp example.org") && asked.contains("example.net"), "{asked}");
    assert!(!asked.contains("secret") && !asked.contains("192"), "{asked}");
    assert!(!asked.contains("dns.podman"), "{asked}");
}

fn what_does_not_fit_a_datagram_comes_by_tcp(lab: &Lab) {
    load(lab);
    dual(lab);
    let mut upstream = lab.background_outside(&peer(lab, &format!("dns-serve {OUTSIDE4} 198.51.100.7")));
    upstream.until("serving");
    let aliases: String = (0..60).map(|n| format!(",alias=a-rather-long-alias-of-this-container-{n}")).collect();
    lab.host(&format!("podwire run -d --name many --network dual{} banner", aliases.replacen(',', ":", 1))).ok();
    let many = sandbox(lab, "many");
    let cut = |question: &str| {
        let line = dig_line(GATEWAY, &format!("+ignore {question}"));
        lab.inside(&many, &line).ok().out.lines().any(|line| line.starts_with(";; flags:") && line.contains(" tc "))
    };
    let reverse = format!("-x {}", ip4(lab, "many"));
    assert!(cut(&reverse) && cut("big.example") && !cut("example.org"));
    // dig asks again by TCP.
    assert_eq!(dig(lab, &many, GATEWAY, &reverse).split(' ').count(), 1 + 60 + 2, "aliases, name and id");
    assert_eq!(dig(lab, &many, GATEWAY, "big.example").split(' ').count(), 1 + 100);
}

fn port_53_is_the_hosts_and_the_containers_to_use(lab: &Lab) {
    load(lab);
    dual(lab);
    let mut service = lab.background(&peer(lab, "dns-serve 0.0.0.0 203.0.113.5"));
    service.until("serving");
    lab.host("podwire run -d --name web --network dual banner").ok();
    let web = sandbox(lab, "web");
    assert_eq!(dig(lab, &web, GATEWAY, "web"), format!("NOERROR {}", ip4(lab, "web")));
    assert_eq!(said(&lab.outside(&dig_line(HOST4, "example.org"))), "NOERROR 203.0.113.5", "the host's own server");
    drop(service);
    lab.host("podwire run -d --name dns -p 53:53/udp -p 53:53/tcp --network dual banner").ok();
    let server = sandbox(lab, "dns");
    let mut contained =
        lab.background_inside(&server, &peer(lab, &format!("dns-serve {} 203.0.113.6", ip4(lab, "dns"))));
    contained.until("serving");
    for how in ["", "+tcp"] {
        let asked = said(&lab.outside(&dig_line(HOST4, &format!("{how} example.org"))));
        assert_eq!(asked, "NOERROR 203.0.113.6", "the container's server, published");
        assert_eq!(dig(lab, &web, GATEWAY, &format!("{how} web")), format!("NOERROR {}", ip4(lab, "web")));
        assert_eq!(dig(lab, &web, &ip4(lab, "dns"), &format!("{how} example.org")), "NOERROR 203.0.113.6");
    }
    banner_comes(|| lab.host(&get(&ip4(lab, "web"))));
}

fn the_hosts_resolv_conf_is_followed(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual banner").ok();
    let web = sandbox(lab, "web");
    let serving = |address: &str, says: &str| {
        lab.outside(&format!("ip addr add {address}/32 dev lo")).ok();
        lab.host(&format!("ip route add {address} via {OUTSIDE4}")).ok();
        let mut server = lab.background_outside(&peer(lab, &format!("dns-serve {address} {says}")));
        server.until("serving");
        server
    };
    let _servers =
        [serving("192.0.2.1", "203.0.113.1"), serving("192.0.2.2", "203.0.113.2"), serving("192.0.2.3", "203.0.113.3")];
    let comes = |answer: &str| {
        let ask = || lab.inside(&web, &dig_line(GATEWAY, "+time=1 example.org"));
        let last = eventually(ask, |run| said(run).ends_with(answer));
        assert!(said(&last).ends_with(answer), "{answer} expected: {}", said(&last));
    };
    // The lab's own file is mounted over the machine's: written in place, it is another file's event.
    lab.host("echo nameserver 192.0.2.1 >/etc/resolv.conf").ok();
    comes("203.0.113.1");
    lab.host("mkdir -p /run/systemd/resolve; echo nameserver 192.0.2.2 >/run/systemd/resolve/resolv.conf").ok();
    lab.host("echo nameserver 127.0.0.53 >/etc/resolv.conf").ok();
    comes("203.0.113.2");
    lab.host("echo nameserver 192.0.2.3 >/run/new && mv /run/new /run/systemd/resolve/resolv.conf").ok();
    comes("203.0.113.3");
}

fn servers_of_a_container_and_of_a_network_are_asked_before_the_hosts(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.91.0.0/24 --dns 192.0.2.1 shop").ok();
    lab.outside("ip addr add 192.0.2.1/32 dev lo; ip addr add 192.0.2.2/32 dev lo").ok();
    let serve = |address: &str, says: &str| {
        let mut server = lab.background_outside(&peer(lab, &format!("dns-serve {address} {says}")));
        server.until("serving");
        server
    };
    let _servers = [serve("192.0.2.1", "203.0.113.1"), serve("192.0.2.2", "203.0.113.2")];
    lab.host("podwire run -d --name web --network shop banner").ok();
    lab.host("podwire run -d --name own --network shop --dns 192.0.2.2 banner").ok();
    assert_eq!(dig(lab, &sandbox(lab, "web"), GATEWAY, "example.org"), "NOERROR 203.0.113.1");
    assert_eq!(dig(lab, &sandbox(lab, "own"), GATEWAY, "example.org"), "NOERROR 203.0.113.2");
    lab.host("podwire exec own cat /etc/resolv.conf").ok().says("nameserver 10.91.0.1");
    let own = dig(lab, &sandbox(lab, "own"), GATEWAY, "web");
    assert_eq!(own, format!("NOERROR {}", ip4(lab, "web")), "names of containers all the same");
}

fn the_thread_that_reads_queries_may_bind_low_ports_and_nothing_else(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name db --network shop banner").ok();
    let threads = "grep -lx dns /proc/$(pgrep -x podwire-netd)/task/*/comm | xargs dirname";
    let status = lab.ok(&format!("cat $({threads})/status"));
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).map(str::to_owned);
    // Bit 10 is CAP_NET_BIND_SERVICE (include/uapi/linux/capability.h).
    for set in ["CapEff:", "CapPrm:"] {
        assert_eq!(line(set).as_deref(), Some("0000000000000400"), "{set} {status}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(line(set).as_deref(), Some("0000000000000000"), "{set} {status}");
    }
    assert_eq!(line("NoNewPrivs:").as_deref(), Some("1"));
}
