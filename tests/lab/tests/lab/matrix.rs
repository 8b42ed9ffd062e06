//! Who reaches whom: every kind of asker times every kind of target, closed unless a row says otherwise.
//!
//! ```text
//!   lan 192.168.99.1 ──── eth0 .109 ┌ pm1 strict   a (published) b     pm2 strict   c
//!   with routes to all       host   ├ pm3 true     t                   pm4 true     u
//!   our subnets                     ├ pm5 false    e (goes out as .200) pm6 false   g
//!                                   └ pm7 internal i                    10.8N.0.0/24, fd8N::/64, names on
//! ```
//!
//! Each of them serves TCP and UDP on port 81, says who it is and whom it sees. The tables are tried with frames
//! between ports hidden from and shown to the IP hooks, with each reverse path filter, beside a FORWARD chain of
//! others that drops, and while others flush the ruleset. `sys/host/tests/packets.rs` has the packets of the
//! firewall alone, and what is open without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lab::trial::{Need, Sentence};
use lab::{Background, HOST4, HOST6, Lab, LabOptions, sentences};

use crate::words::{load, peer, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[Need::BridgeNetfilter];
        who_reaches_whom_is_what_the_tables_say,
        a_flush_of_the_ruleset_opens_nothing_and_closes_nothing,
        a_udp_client_that_keeps_sending_is_answered_after_every_change_of_the_container,
    ]
}

/// What is open: asker, target, answer.
const OPEN: &str = "
    lan tcp:HOST4:8080 a saw 192.168.99.1
    lan udp:HOST4:8080 a saw 192.168.99.1
    lan tcp:[HOST6]:8080 a saw fd99::1
    lan udp:[HOST6]:8080 a saw fd99::1
    lan tcp:HOST4:8082 a saw 192.168.99.1
    lan tcp:[HOST6]:8084 a saw fd99::1
    lan tcp:HOST4:8090 e saw 192.168.99.1
    lan tcp:HOST4:7000 host saw 192.168.99.1
    lan tcp:[HOST6]:7000 host saw fd99::1
    host tcp:127.0.0.1:8080 a saw 10.81.0.1
    host udp:127.0.0.1:8080 a saw 10.81.0.1
    host tcp:127.0.0.1:8081 a saw 10.81.0.1
    host tcp:HOST4:8080 a saw HOST4
    host tcp:[HOST6]:8080 a saw HOST6
    host tcp:10.81.0.1:8080 a saw 10.81.0.1
    host tcp:10.81.0.2:81 a saw 10.81.0.1
    host udp:[fd81::2]:81 a saw fd81::1
    host tcp:[fd81::2]:81 a saw fd81::1
    host tcp:10.81.0.3:81 b saw 10.81.0.1
    host tcp:10.82.0.2:81 c saw 10.82.0.1
    host tcp:[fd82::2]:81 c saw fd82::1
    host tcp:10.83.0.2:81 t saw 10.83.0.1
    host tcp:[fd83::2]:81 t saw fd83::1
    host tcp:10.84.0.2:81 u saw 10.84.0.1
    host tcp:[fd84::2]:81 u saw fd84::1
    host tcp:10.87.0.2:81 i saw 10.87.0.1
    host tcp:[fd87::2]:81 i saw fd87::1
    host tcp:10.81.0.1:7000 host saw 10.81.0.1
    host udp:10.81.0.1:7000 host saw 10.81.0.1
    host tcp:[fd81::1]:7000 host saw fd81::1
    host tcp:[GATEWAY%pm1]:7000 host saw GATEWAY
    host tcp:10.87.0.1:7000 host saw 10.87.0.1
    host dns:10.81.0.1 answered
    host dns:fd81::1 answered
    host dns:10.82.0.1 answered
    host dns:fd82::1 answered
    host dns:10.87.0.1 answered
    b tcp:10.81.0.2:81 a saw 10.81.0.3
    b udp:10.81.0.2:81 a saw 10.81.0.3
    b tcp:[fd81::2]:81 a saw fd81::3
    a tcp:HOST4:8080 a saw 10.81.0.1
    b tcp:HOST4:8080 a saw 10.81.0.1
    b tcp:[HOST6]:8080 a saw fd81::1
    c tcp:HOST4:8080 a saw 10.82.0.2
    c udp:HOST4:8080 a saw 10.82.0.2
    c tcp:[HOST6]:8080 a saw fd82::2
    e tcp:HOST4:8082 a saw 10.85.0.2
    t tcp:HOST4:8090 e saw 10.83.0.2
    a dns:10.81.0.1 answered
    a dns:fd81::1 answered
    c dns:10.82.0.1 answered
    i dns:10.87.0.1 answered
    i dns:fd87::1 answered
    a ping:10.81.0.1 pong
    a tcp:192.168.99.1:81 lan saw HOST4
    a udp:192.168.99.1:81 lan saw HOST4
    a tcp:[fd99::1]:81 lan saw HOST6
    t tcp:192.168.99.1:81 lan saw HOST4
    e tcp:192.168.99.1:81 lan saw 192.168.99.200
    e udp:192.168.99.1:81 lan saw 192.168.99.200
    e tcp:[fd99::1]:81 lan saw fd99::200
    e tcp:10.86.0.2:81 g saw 10.85.0.2
    e tcp:[fd86::2]:81 g saw fd85::2
    g udp:10.85.0.2:81 e saw 10.86.0.2
    g tcp:10.85.0.2:81 e saw 10.86.0.2
    g tcp:[fd85::2]:81 e saw fd86::2
    e tcp:10.83.0.2:81 t saw 10.85.0.2
    t tcp:[fd85::2]:81 e saw fd83::2
";

/// What is closed, though the target is there: some row above reaches it.
const CLOSED: &str = "
    lan tcp:10.81.0.2:81 silent
    lan udp:[fd81::2]:81 silent
    lan tcp:[fd81::2]:81 silent
    lan tcp:10.85.0.2:81 silent
    lan tcp:[fd85::2]:81 silent
    lan tcp:10.87.0.2:81 silent
    lan tcp:10.81.0.1:8080 silent
    lan tcp:10.81.0.1:7000 silent
    lan tcp:[fd81::1]:7000 silent
    lan dns:10.81.0.1 silent
    lan dns:fd81::1 silent
    a tcp:10.81.0.1:7000 silent
    a udp:10.81.0.1:7000 silent
    a tcp:[fd81::1]:7000 silent
    a tcp:[GATEWAY%eth0]:7000 silent
    a tcp:HOST4:7000 silent
    a tcp:[HOST6]:7000 silent
    a dns:10.82.0.1 silent
    a dns:fd82::1 silent
    c dns:10.81.0.1 silent
    e dns:10.81.0.1 silent
    a tcp:10.82.0.2:81 silent
    a tcp:[fd82::2]:81 silent
    c tcp:10.81.0.2:81 silent
    c udp:10.81.0.2:81 silent
    c tcp:[fd81::2]:81 silent
    a tcp:10.83.0.2:81 silent
    t tcp:10.81.0.2:81 silent
    t tcp:[fd81::2]:81 silent
    e tcp:10.81.0.2:81 silent
    e tcp:[fd81::2]:81 silent
    a tcp:10.85.0.2:81 silent
    t tcp:10.84.0.2:81 silent
    t tcp:[fd84::2]:81 silent
    u tcp:10.83.0.2:81 silent
    u tcp:[fd83::2]:81 silent
    e tcp:10.87.0.2:81 silent
    e tcp:[fd87::2]:81 silent
    i tcp:10.85.0.2:81 silent
    i tcp:[fd85::2]:81 silent
    i tcp:10.81.0.2:81 silent
    i tcp:192.168.99.1:81 silent
    i tcp:HOST4:8080 silent
    i tcp:HOST4:7000 silent
    i tcp:10.87.0.1:7000 silent
    i dns:10.81.0.1 silent
";

/// The askers, each a server too.
struct World<'l> {
    lab: &'l Lab,
    peers: BTreeMap<&'static str, Peer>,
    /// The link-local address of the bridge of a and b.
    gateway: String,
}

/// One program that serves and asks, as its standard input says.
struct Peer {
    program: Background,
    heard: usize,
}

impl Peer {
    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    fn say(&mut self, line: &str) {
        self.program.write(&format!("{line}\n"));
    }

    fn hear(&mut self) -> String {
        let begun = Instant::now();
        loop {
            if let Some(line) = self.program.output().lines().nth(self.heard) {
                self.heard += 1;
                return line.to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no answer: {}", self.program.output());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl<'l> World<'l> {
    fn new(lab: &'l Lab) -> Self {
        load(lab);
        let networks = [
            ("s1", "strict"),
            ("s2", "strict"),
            ("t1", "true"),
            ("t2", "true"),
            ("f1", "false -o outbound_addr4=192.168.99.200 -o outbound_addr6=fd99::200"),
            ("f2", "false"),
            ("in", "strict --internal"),
        ];
        for (n, (name, options)) in (1..).zip(networks) {
            let net = format!("--ipv6 --subnet 10.8{n}.0.0/24 --subnet fd8{n}::/64 --interface-name pm{n}");
            lab.host(&format!("podwire network create {net} -o isolate={options} {name}")).ok();
        }
        let a = format!("-p 8080:81 -p 8080:81/udp -p {HOST4}:8082:81 -p 127.0.0.1:8081:81 -p [{HOST6}]:8084:81");
        let containers = [("a", "s1", &*a), ("b", "s1", ""), ("c", "s2", ""), ("t", "t1", ""), ("u", "t2", "")];
        for (name, network, ports) in
            containers.into_iter().chain([("e", "f1", "-p 8090:81"), ("g", "f2", ""), ("i", "in", "")])
        {
            lab.host(&format!("podwire run -d --name {name} --network {network} {ports} banner")).ok();
        }
        lab.host("ip addr add 192.168.99.200/24 dev eth0; ip addr add fd99::200/64 dev eth0 nodad preferred_lft 0")
            .ok();
        for n in 1..=7 {
            lab.outside(&format!("ip route add 10.8{n}.0.0/24 via {HOST4}; ip route add fd8{n}::/64 via {HOST6}")).ok();
        }
        // An internal network has no way out even for one that makes itself a route.
        lab.inside(&sandbox(lab, "i"), "ip route add default via 10.87.0.1; ip route add default via fd87::1").ok();
        let gateway = lab.ok("ip -6 -o addr show dev pm1 scope link | sed 's/.*inet6 //; s,/.*,,'");
        let mut world = Self { lab, peers: BTreeMap::new(), gateway };
        world.serve();
        world
    }

    fn serve(&mut self) {
        let program = self.lab.dir().join("packets.py");
        std::fs::write(&program, include_str!("../../../../sys/host/tests/packets.py")).unwrap();
        for name in ["lan", "host", "a", "b", "c", "t", "u", "e", "g", "i"] {
            let line = format!("exec python3 -S {} {name}", program.display());
            let program = match name {
                "lan" => self.lab.background_outside(&line),
                "host" => self.lab.background(&line),
                _ => self.lab.background_inside(&sandbox(self.lab, name), &line),
            };
            let mut peer = Peer { program, heard: 0 };
            let port = if name == "host" { 7000 } else { 81 };
            assert_eq!(peer.ask(&format!("serve tcp {port}")), "ok");
            assert_eq!(peer.ask(&format!("serve udp {port}")), "ok");
            self.peers.insert(name, peer);
        }
    }

    /// The rows of a table, by asker.
    fn rows(&self, table: &str) -> BTreeMap<String, Vec<(String, String)>> {
        let table = table.replace("HOST4", HOST4).replace("HOST6", HOST6).replace("GATEWAY", &self.gateway);
        let mut rows: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let (Some(who), Some(target), Some(answer)) = (words.next(), words.next(), words.next()) else { continue };
            rows.entry(who).or_default().push((target, answer));
        }
        rows
    }

    /// Asks everybody all at once; returns what is not as the table says.
    fn differences(&mut self, seconds: f32, table: &str) -> String {
        let rows = self.rows(table);
        for (who, rows) in &rows {
            let targets: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
            self.peers.get_mut(who.as_str()).unwrap().say(&format!("probe {seconds} {}", targets.join(" ")));
        }
        let mut wrong = String::new();
        for (who, rows) in &rows {
            let line = self.peers.get_mut(who.as_str()).unwrap().hear();
            let answers: Vec<&str> = line.split(',').collect();
            assert_eq!(answers.len(), rows.len(), "{who}: {line}");
            for ((target, wanted), answer) in rows.iter().zip(answers) {
                if wanted != answer {
                    wrong += &format!("{who} {target} {answer}, not {wanted}\n");
                }
            }
        }
        wrong
    }

    #[track_caller]
    fn is_as_told(&mut self, how: &str) {
        let open = self.differences(5.0, OPEN);
        let closed = self.differences(0.7, CLOSED);
        assert!(open.is_empty() && closed.is_empty(), "{how}:\n{open}{closed}");
    }
}

/// Targets without the link that a link-local address is asked through.
fn targets(table: &str) -> BTreeSet<String> {
    let target = |line: &str| {
        let target = line.split_whitespace().nth(1)?;
        Some(target.replace("%pm1", "").replace("%eth0", ""))
    };
    table.lines().filter_map(target).collect()
}

fn who_reaches_whom_is_what_the_tables_say(lab: &Lab) {
    let without_control: Vec<String> = targets(CLOSED).difference(&targets(OPEN)).cloned().collect();
    assert!(without_control.is_empty(), "nobody reaches {without_control:?}: a closed door proves nothing");
    let mut world = World::new(lab);
    for (call, filter) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)] {
        lab.ok(&format!("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do echo {call} >$f; done"));
        lab.ok(&format!("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {filter} >$f; done"));
        world.is_as_told(&format!("bridge-nf-call {call}, rp_filter {filter}"));
    }
    // Beside somebody who lets nothing through, nothing is more open, and what needs no forwarding works.
    lab.ok("nft add table inet others; nft 'add chain inet others f { type filter hook forward priority 10; policy drop; }'");
    for call in [0, 1] {
        lab.ok(&format!("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do echo {call} >$f; done"));
        let closed = world.differences(0.7, CLOSED);
        let local: String =
            OPEN.lines().filter(|line| needs_no_forwarding(line)).map(|line| format!("{line}\n")).collect();
        let open = world.differences(5.0, &local);
        assert!(
            closed.is_empty() && open.is_empty(),
            "beside a policy of drop, bridge-nf-call {call}:\n{closed}{open}"
        );
    }
    lab.ok("nft delete table inet others");
    world.is_as_told("when the others are gone");
}

/// From or to the host itself.
fn needs_no_forwarding(line: &str) -> bool {
    line.trim_start().starts_with("host ") || line.contains(" dns:") || line.contains(" host saw ")
}

fn a_flush_of_the_ruleset_opens_nothing_and_closes_nothing(lab: &Lab) {
    let mut world = World::new(lab);
    world.is_as_told("before");
    for _ in 0..3 {
        let mut flushes =
            lab.background("for i in 1 2 3 4 5 6 7 8 9 10; do nft flush ruleset; sleep 0.1; done; echo flushed");
        world.is_as_told("while others flush");
        flushes.until("flushed");
    }
    world.is_as_told("after");
}

fn a_udp_client_that_keeps_sending_is_answered_after_every_change_of_the_container(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.81.0.0/24 n1").ok();
    lab.host("podwire network create --subnet 10.82.0.0/24 n2").ok();
    lab.host("podwire run -d --name web --network n1 -p 5353:53/udp banner").ok();
    lab.host("podwire run -d --name asker --network n2 banner").ok();
    let keep = |seconds| peer(lab, &format!("udp-keep {HOST4} 5353 {seconds}"));
    let mut clients = [
        lab.background_outside(&keep(60)),
        lab.background(&peer(lab, "udp-keep 127.0.0.1 5353 60")),
        lab.background(&keep(60)),
        lab.background_inside(&sandbox(lab, "asker"), &keep(60)),
    ];
    clients.iter_mut().for_each(|client| {
        client.until("sending");
    });
    // Answers tell their number, for a client prints only what is new.
    let steps = [
        "true",
        "podwire stop -t 0 web && podwire start web",
        "podwire network connect n2 web && podwire network disconnect n1 web",
        "podwire network connect n1 web && podwire network disconnect n2 web",
        "podwire rm -f -t 0 web && podwire run -d --name web --network n2 -p 5353:53/udp banner",
        "podwire rm -f -t 0 web && podwire run -d --name web --network n1 -p 5353:153/udp banner",
    ];
    for (n, step) in steps.into_iter().enumerate() {
        lab.host(step).ok();
        let port = if step.contains(":153/udp") { 153 } else { 53 };
        let mut server =
            lab.background_inside(&sandbox(lab, "web"), &peer(lab, &format!("udp-echo {port} answer{n}.")));
        server.until("listening");
        let up = Instant::now();
        for client in &mut clients {
            client.until(&format!("answer{n}."));
        }
        assert!(up.elapsed() < Duration::from_secs(5), "after {step}: answered after {:?}", up.elapsed());
        // Ends with the namespace it is in, or here.
        drop(server);
    }
}
