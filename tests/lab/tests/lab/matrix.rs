//! Who reaches whom: every kind of asker times every kind of target, closed unless a row says otherwise.
//!
//! ```text
//!   lan 192.168.99.1 ──── eth0 .109 ┌ pm1 strict   a (published) b     pm2 strict   c
//!   with routes to all       host   ├ pm3 true     t                   pm4 true     u
//!   our subnets                     ├ pm5 false    e (goes out as .200) pm6 false   g
//!                                   └ pm7 internal i                    10.8N.0.0/24, fd8N::/64, names on
//! ```
//!
//! Each of them serves TCP and UDP on port 81, says who it is and whom it sees. `docs/book/firewall.md` has the table
//! of who reaches whom; the table here says whom they see. They are tried with frames between ports hidden from and
//! shown to the IP hooks, with each reverse path filter, beside a FORWARD chain of others that drops, and while
//! others flush the ruleset; with LAB_BIG=1 in every combination. `sys/host/tests/packets.rs` has the packets of the
//! firewall alone, and what is open without it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lab::trial::{Need, Sentence};
use lab::{Background, HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Sandboxed, sentences};

use crate::words::{big, load, patient, peer, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![patient(); &[Need::BridgeNetfilter];
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

/// Who reaches whom: the table that people read is the one that is tried.
const POLICY: &str = include_str!("../../../../docs/book/firewall.md");

/// A column of [`POLICY`], and who asks.
const ASKERS: [(&str, &str); 8] = [
    ("the host", "host"),
    ("a neighbour", "stranger"),
    ("one with routes to us", "lan"),
    ("the same network", "b"),
    ("another, strict", "c"),
    ("`isolate=true`", "t"),
    ("`isolate=false`", "e"),
    ("internal", "i"),
];

/// An IPv4 and an IPv6 address.
type Pair = (String, String);

/// The `at`-th address of network `n`.
fn on(n: u8, at: u8) -> Pair {
    (format!("10.8{n}.0.{at}"), format!("fd8{n}::{at}"))
}

fn pair(v4: &str, v6: &str) -> Pair {
    (v4.to_owned(), v6.to_owned())
}

/// What a row of [`POLICY`] has `who` ask: TCP and UDP of both families, or names of both.
fn targets(row: &str, who: &str, link_locals: &[String; 2]) -> Vec<String> {
    let port = |(v4, v6): Pair, port: u16| {
        let both = [format!("{v4}:{port}"), format!("[{v6}]:{port}")];
        both.iter().flat_map(|at| [format!("tcp:{at}"), format!("udp:{at}")]).collect::<Vec<_>>()
    };
    let link_local = |at: usize, port: u16| {
        let link = if who == "host" { "pm1" } else { "eth0" };
        ["tcp", "udp"].map(|kind| format!("{kind}:[{}%{link}]:{port}", link_locals[at])).to_vec()
    };
    let names = |(v4, v6): Pair| vec![format!("dns:{v4}"), format!("dns:{v6}")];
    let own = match who {
        "c" => 2,
        "t" => 3,
        "e" => 5,
        "i" => 7,
        _ => 1,
    };
    let here = || pair(HOST4, HOST6);
    match row {
        "published on all addresses, at the host's" => port(here(), 8080),
        "published on one address, at that one" => port(here(), 8082),
        "published on one address, at another of the host" => port(pair("192.168.99.200", "fd99::200"), 8082),
        "published on 127.0.0.1 and ::1, there" => port(pair("127.0.0.1", "::1"), 8081),
        "published on 127.0.0.1 and ::1, at the host's address" => port(here(), 8081),
        "published on all addresses, at its network's gateway" => port(on(1, 1), 8080),
        "an unpublished port of a strict network" => port(on(1, 2), 81),
        "an unpublished port, `isolate=true`" => port(on(4, 2), 81),
        "an unpublished port, `isolate=false`" => port(on(6, 2), 81),
        "an unpublished port of an internal network" => port(on(9, 2), 81),
        "an unpublished port, at the container's link-local address" => link_local(1, 81),
        "a service of the host, at its address" => port(here(), 7000),
        "a service of the host, at a gateway" => port(on(own, 1), 7000),
        "a service of the host, at a gateway's link-local address" => link_local(0, 7000),
        "a service of the host on 127.0.0.1 and ::1" => port(pair("127.0.0.1", "::1"), 7001),
        "names, at its own network's gateway" => names(on(own, 1)),
        "names, at another network's gateway" => names(on(if own == 2 { 1 } else { 2 }, 1)),
        "a server outside" => port(pair("192.168.99.1", "fd99::1"), 81),
        _ => panic!("no target is known for ‘{row}’"),
    }
}

/// Rows of [`POLICY`]: what is asked, and a cell for each of [`ASKERS`].
fn policy() -> Vec<(&'static str, Vec<&'static str>)> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let mut lines = POLICY.lines().skip_while(|line| !line.starts_with("| what |")).take_while(|line| !line.is_empty());
    let heads = cells(lines.next().expect("a table that begins with ‘what’"));
    assert_eq!(heads[1..], ASKERS.map(|(head, _)| head));
    lines.skip(1).map(|line| (cells(line)[0], cells(line)[1..].to_vec())).collect()
}

/// The askers, each a server too.
struct World<'l> {
    lab: &'l Lab,
    peers: BTreeMap<&'static str, Peer>,
    /// The link-local addresses of the bridge of a and b, and of a.
    link_locals: [String; 2],
    /// What a raw frame of lan, and one of b, has to say: link, MAC of the host there, own addresses.
    raw: [(&'static str, String); 2],
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
            (1, "s1", "strict"),
            (2, "s2", "strict"),
            (3, "t1", "true"),
            (4, "t2", "true"),
            (5, "f1", "false -o outbound_addr4=192.168.99.200 -o outbound_addr6=fd99::200"),
            (6, "f2", "false"),
            (7, "in", "strict --internal"),
            (9, "in2", "strict --internal"),
        ];
        for (n, name, options) in networks {
            let net = format!("--ipv6 --subnet 10.8{n}.0.0/24 --subnet fd8{n}::/64 --interface-name pm{n}");
            lab.host(&format!("podwire network create {net} -o isolate={options} {name}")).ok();
        }
        lab.host("ip addr add 192.168.99.200/24 dev eth0; ip addr add fd99::200/64 dev eth0 nodad preferred_lft 0")
            .ok();
        let ports = ["8080", "HOST4:8082", "[HOST6]:8082", "[HOST6]:8084", "127.0.0.1:8081", "[::1]:8081"];
        let a: String = ports.iter().flat_map(|port| ["", "/udp"].map(|kind| format!("-p {port}:81{kind} "))).collect();
        let a = a.replace("HOST4", HOST4).replace("HOST6", HOST6);
        let containers = [("a", "s1", &*a), ("b", "s1", ""), ("c", "s2", ""), ("t", "t1", ""), ("u", "t2", "")];
        for (name, network, ports) in containers.into_iter().chain([
            ("e", "f1", "-p 8090:81"),
            ("g", "f2", ""),
            ("i", "in", ""),
            ("j", "in2", ""),
        ]) {
            lab.host(&format!("podwire run -d --name {name} --network {network} {ports} banner")).ok();
        }
        // A second neighbour, without routes; the first has them to everything here, and to what is nobody's but ours.
        lab.host("touch /run/lab/stranger && unshare --net=/run/lab/stranger true").ok();
        lab.outside("ip link add link eth0 name eth0 netns /run/lab/stranger type macvlan mode bridge").ok();
        let stranger = Sandboxed { name: "stranger".to_owned(), path: "/run/lab/stranger".to_owned() };
        let addresses =
            "ip link set eth0 up; ip addr add 192.168.99.2/24 dev eth0; ip addr add fd99::2/64 dev eth0 nodad";
        lab.inside(&stranger, addresses).ok();
        for (n, ..) in networks {
            lab.outside(&format!("ip route add 10.8{n}.0.0/24 via {HOST4}; ip route add fd8{n}::/64 via {HOST6}")).ok();
        }
        lab.outside(&format!(
            "ip link set lo down; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; \
             ip route add 127.0.0.0/8 via {HOST4}; ip route add ::1/128 via {HOST6}"
        ))
        .ok();
        // An internal network has no way out even for one that makes itself a route.
        lab.inside(&sandbox(lab, "i"), "ip route add default via 10.87.0.1; ip route add default via fd87::1").ok();
        let fe80 = |link: &str| format!("ip -6 -o addr show dev {link} scope link | sed 's/.*inet6 //; s,/.*,,'");
        let inside = |line: &str| lab.inside(&sandbox(lab, "a"), line).ok().out.trim().to_owned();
        let mac = |link: &str| lab.ok(&format!("ip -o link show dev {link} | sed 's,.*link/ether ,,; s, .*,,'"));
        let link_locals = [lab.ok(&fe80("pm1")), inside(&fe80("eth0"))];
        let raw = [
            ("lan", format!("eth0 {} {OUTSIDE4} {OUTSIDE6}", mac("eth0"))),
            ("b", format!("eth0 {} 10.81.0.3 fd81::3", mac("pm1"))),
        ];
        let mut world = Self { lab, peers: BTreeMap::new(), link_locals, raw };
        world.serve();
        world
    }

    fn serve(&mut self) {
        let program = self.lab.dir().join("packets.py");
        std::fs::write(&program, include_str!("../../../../sys/host/tests/packets.py")).unwrap();
        for name in ["lan", "stranger", "host", "a", "b", "c", "t", "u", "e", "g", "i", "j"] {
            let line = format!("exec python3 -S {} {name}", program.display());
            let program = match name {
                "lan" => self.lab.background_outside(&line),
                "host" => self.lab.background(&line),
                "stranger" => {
                    let at = Sandboxed { name: name.to_owned(), path: "/run/lab/stranger".to_owned() };
                    self.lab.background_inside(&at, &line)
                }
                _ => self.lab.background_inside(&sandbox(self.lab, name), &line),
            };
            let mut peer = Peer { program, heard: 0 };
            let port = if name == "host" { 7000 } else { 81 };
            assert_eq!(peer.ask(&format!("serve tcp {port}")), "ok");
            assert_eq!(peer.ask(&format!("serve udp {port}")), "ok");
            for (address, kind) in [("127.0.0.1", "tcp"), ("127.0.0.1", "udp"), ("::1", "tcp"), ("::1", "udp")] {
                if name == "host" {
                    assert_eq!(peer.ask(&format!("serve {kind} 7001 {address}")), "ok");
                }
            }
            self.peers.insert(name, peer);
        }
    }

    /// The rows of a table, by asker.
    fn rows(&self, table: &str) -> BTreeMap<String, Vec<(String, String)>> {
        let table = table.replace("HOST4", HOST4).replace("HOST6", HOST6).replace("GATEWAY", &self.link_locals[0]);
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

    /// Asks everything that [`POLICY`] tells of, all at once; returns what is not as it says. Where others drop what
    /// is forwarded, that may be closed, too.
    fn against_policy(&mut self, forwarding: bool) -> String {
        let mut wrong = String::new();
        for open in [true, false] {
            let mut asked = Vec::new();
            for (column, (_, who)) in ASKERS.into_iter().enumerate() {
                let cell = |cells: &[&str]| match cells[column] {
                    "open" => Some(true),
                    "closed" => Some(false),
                    "–" => None,
                    other => panic!("‘{other}’ is neither open nor closed"),
                };
                let rows = policy().into_iter().filter(|(row, cells)| {
                    let sure = forwarding || !open || who == "host" || needs_no_forwarding(row);
                    cell(cells) == Some(open) && sure
                });
                let targets: Vec<String> = rows.flat_map(|(row, _)| targets(row, who, &self.link_locals)).collect();
                let raw = self.raw.iter().find(|(name, _)| *name == who).map(|(_, how)| how.clone());
                asked.push((who, None, targets.clone()));
                // The host takes up what is sent to its MAC; what members of a bridge say to each other is not.
                let routed = |target: &String| {
                    !target.contains('%')
                        && !target.starts_with("dns")
                        && !target.contains("10.81.0.2:")
                        && !target.contains("fd81::2]")
                };
                asked.extend(raw.map(|how| (who, Some(how), targets.into_iter().filter(routed).collect())));
            }
            // Those with frames of their own making in a second round, for each peer does one thing at a time.
            for raw in [false, true] {
                let seconds = if open { 5.0 } else { 0.7 };
                let round: Vec<_> =
                    asked.iter().filter(|(_, how, targets)| how.is_some() == raw && !targets.is_empty()).collect();
                for (who, how, targets) in &round {
                    let command = how.as_ref().map_or(format!("probe {seconds}"), |how| format!("raw {seconds} {how}"));
                    self.peers.get_mut(who).unwrap().say(&format!("{command} {}", targets.join(" ")));
                }
                for (who, _, targets) in round {
                    let line = self.peers.get_mut(who).unwrap().hear();
                    for (target, answer) in targets.iter().zip(line.split(',')) {
                        let reached = answer.contains(" saw ") || answer == "answered";
                        if reached != open {
                            let how = if raw { "raw frames to " } else { "" };
                            wrong += &format!(
                                "{who} {how}{target}: {answer}, though {}\n",
                                if open { "open" } else { "closed" }
                            );
                        }
                    }
                }
            }
        }
        wrong
    }

    #[track_caller]
    fn is_as_told(&mut self, how: &str) {
        let seen = self.differences(5.0, OPEN);
        let policy = self.against_policy(true);
        assert!(seen.is_empty() && policy.is_empty(), "{how}:\n{seen}{policy}");
    }

    fn set(&self, call: u8, filter: u8) {
        self.lab.ok(&format!("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do echo {call} >$f; done"));
        self.lab.ok(&format!("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {filter} >$f; done"));
    }
}

/// Every way that frames between ports are shown to the IP hooks and that the kernel looks at sources itself.
const WAYS: [(u8, u8); 6] = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)];

fn who_reaches_whom_is_what_the_tables_say(lab: &Lab) {
    for (row, cells) in policy() {
        // What is published at one address is reached there, which another row says.
        let control = cells.contains(&"open") || row.starts_with("published on");
        assert!(control, "nobody reaches ‘{row}’: a closed door proves nothing");
    }
    let mut world = World::new(lab);
    for (call, filter) in WAYS {
        world.set(call, filter);
        world.is_as_told(&format!("bridge-nf-call {call}, rp_filter {filter}"));
    }
    // Beside somebody who lets nothing through, nothing is more open, and what needs no forwarding works.
    lab.ok("nft add table inet others; nft 'add chain inet others f { type filter hook forward priority 10; policy drop; }'");
    for (call, filter) in if big() { &WAYS[..] } else { &WAYS[2..4] } {
        world.set(*call, *filter);
        let wrong = world.against_policy(false);
        assert!(wrong.is_empty(), "beside a policy of drop, bridge-nf-call {call}, rp_filter {filter}:\n{wrong}");
    }
    lab.ok("nft delete table inet others");
    world.is_as_told("when the others are gone");
}

/// A row of [`POLICY`] whose packets end at the host.
fn needs_no_forwarding(row: &str) -> bool {
    row.starts_with("names") || row.starts_with("a service of the host")
}

fn a_flush_of_the_ruleset_opens_nothing_and_closes_nothing(lab: &Lab) {
    let mut world = World::new(lab);
    world.is_as_told("before");
    for (call, filter) in if big() { &WAYS[..] } else { &[(1, 0), (0, 2)] } {
        world.set(*call, *filter);
        let flushes = lab.background("while :; do nft flush ruleset; echo flushed; sleep 0.1; done");
        world.is_as_told(&format!("while others flush, bridge-nf-call {call}, rp_filter {filter}"));
        assert!({ flushes }.output().lines().count() > 5, "they did flush");
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
