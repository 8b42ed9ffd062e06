//! What is open and what breaks, beside podman: the tests of `tests/lab` that can be put in both programs' words.
//!
//! ```text
//!   lab of each ── the same commands ── the same questions, asked from the same places ──> one word each
//! ```
//!
//! `open` is what a stranger reached, `closed` what he did not; nothing is asserted, for the lab does that.

use std::time::{Duration, Instant};

use anyhow::Result;
use lab::{BANNER, HOST4, Lab, OUTSIDE4, Run, Sandboxed};

use crate::peers::Peer;

/// How something is asked of a program; the answer, in a word or few.
type Ask = fn(&Peer) -> String;

/// A question, in the words of `docs/book/reliability.md`, and how it is asked. One after the other, in one lab.
const QUESTIONS: [(&str, Ask); 15] = [
    ("control: a published port, from a neighbour", |peer| page(peer.lab.outside(&get(&format!("{HOST4}:8080"))))),
    ("a port published on 127.0.0.1, from a neighbour that sends 127.0.0.0/8 to us", |peer| {
        page(peer.lab.outside(&get("127.0.0.1:8081")))
    }),
    ("an unpublished port, from a neighbour with a route", |peer| page(peer.lab.outside(&get(&peer.ip("a"))))),
    ("a container of another network, by its address", |peer| {
        page(peer.lab.inside(&peer.sandbox("b"), &get(&peer.ip("a"))))
    }),
    ("names, asked by a neighbour with a route", |peer| {
        let ask = format!("dig @{} +short +tries=1 +time=1 a.dns.podman", peer.gateway("a"));
        opened(peer.lab.outside(&ask).out.contains(&peer.ip("a")))
    }),
    ("a service of the host, from a container, at its gateway", |peer| {
        let mut service = peer.lab.background(&program(&peer.lab, "http 7000"));
        service.until("listening");
        opened(peer.lab.inside(&peer.sandbox("a"), &get(&format!("{}:7000", peer.gateway("a")))).code == 0)
    }),
    ("a container claims its neighbour's address by ARP", |peer| {
        let (victim, liar, web) = (peer.sandbox("a2"), peer.sandbox("a3"), peer.ip("a"));
        peer.lab.inside(&victim, &get(&web));
        peer.lab.inside(&liar, &program(&peer.lab, &format!("arp eth0 {web}")));
        let own = peer.lab.inside(&liar, "ip -o link show eth0").out;
        let own = own.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?").to_owned();
        let believed = peer.lab.inside(&victim, &format!("ip neigh show {web}")).out.contains(&own);
        if believed { "believed" } else { "refused" }.to_owned()
    }),
    ("a name with a blank (`--network-alias 'x y'`)", |peer| {
        let run = peer.run("run -d --name odd --network n1 --network-alias 'x y' banner");
        let names = peer
            .lab
            .inside(&peer.sandbox("a2"), &format!("dig @{} +short +tries=1 +time=1 a.dns.podman", peer.gateway("a")));
        let works = if names.out.contains(&peer.ip("a")) { "names work" } else { "names of the network are down" };
        peer.quietly("rm -f -t 0 odd");
        format!("{}; {works}", if run.code == 0 { "accepted" } else { "refused" })
    }),
    ("a UDP client that keeps sending, after its container was replaced", |peer| {
        peer.run("run -d --name udp --network n1 -p 5353:53/udp banner");
        let keep = format!("udp-keep {HOST4} 5353 40");
        let mut client = peer.lab.background_outside(&program(&peer.lab, &keep));
        client.until("sending");
        peer.quietly("rm -f -t 0 udp");
        std::thread::sleep(Duration::from_millis(300));
        peer.run("run -d --name udp --network n1 -p 5353:53/udp banner");
        let mut server = peer.lab.background_inside(&peer.sandbox("udp"), &program(&peer.lab, "udp-echo 53 again"));
        server.until("listening");
        let answered = within(Duration::from_secs(15), || client.output().contains("again"));
        peer.quietly("rm -f -t 0 udp");
        answered.map_or("no answer in 15 s".to_owned(), |took| format!("answered after {:.1} s", took.as_secs_f32()))
    }),
    ("20 runs with ports at once", |peer| {
        let runs = format!(
            "for i in $(seq 20); do {} run -d --name p$i -p $((9000 + i)):80 banner & done; wait",
            peer.program()
        );
        let run = peer.lab.host(&runs);
        let ids = run.out.lines().filter(|line| line.len() == 64).count();
        peer.lab.host(&format!("{} rm -f -t 0 $(seq -f p%g 20)", peer.program()));
        format!("{ids} of 20")
    }),
    ("kill -9 of 20 `run`s in their first half second, then rm -fa of what is known: left behind", |peer| {
        let left = || {
            peer.lab
                .host("ls /run/netns | wc -l; ip -o link show type veth | wc -l")
                .out
                .split_whitespace()
                .map(|n| n.parse::<i64>().unwrap_or(0))
                .sum::<i64>()
        };
        let before = left();
        for n in 0..20 {
            let line = format!(
                "{p} run -d --name k{n} -p {port}:80 banner >/dev/null 2>&1 & pid=$!; sleep 0.{ms:03}; kill -9 $pid; wait",
                p = peer.program(),
                port = 9100 + n,
                ms = 25 * (n + 1)
            );
            peer.lab.host(&line);
        }
        peer.lab.host(&format!("{} rm -f -t 0 $(seq -f k%g 0 19) 2>/dev/null", peer.program()));
        format!("{} namespaces and links", (left() - before).max(0))
    }),
    ("the process that serves names killed, 5 s later, without a command", |peer| {
        peer.lab.host("kill -9 $(pgrep -x 'podwire-netd|aardvark-dns')");
        let (asker, gateway, ip) = (peer.sandbox("a2"), peer.gateway("a"), peer.ip("a"));
        let ask = || {
            peer.lab.inside(&asker, &format!("dig @{gateway} +short +tries=1 +time=1 a.dns.podman")).out.contains(&ip)
        };
        within(Duration::from_secs(5), ask).map_or("silent".to_owned(), |_| "answers".to_owned())
    }),
    // What follows is after `nft flush ruleset`.
    ("after a flush of all rules: the published port, 5 s later, without a command", |peer| {
        peer.lab.host("nft flush ruleset");
        let ask = || peer.lab.outside(&get(&format!("{HOST4}:8080"))).out.contains(BANNER);
        within(Duration::from_secs(5), ask).map_or("dead".to_owned(), |_| "answers".to_owned())
    }),
    ("after a flush: two networks with isolate=true", |peer| {
        page(peer.lab.inside(&peer.sandbox("i1"), &get(&peer.ip("i2"))))
    }),
    ("after a flush: whom the outside sees when a container asks", |peer| {
        let mut server = peer.lab.background_outside(&program(&peer.lab, "http 7000"));
        server.until("listening");
        let seen = peer.lab.inside(&peer.sandbox("a"), &get(&format!("{OUTSIDE4}:7000")));
        let seen = seen.out.trim().to_owned();
        if seen == HOST4 {
            "the host".to_owned()
        } else {
            format!("{} (no answer finds back)", if seen.is_empty() { "the container's own address" } else { &seen })
        }
    }),
];

/// Asks and prints.
pub(crate) fn measure(peers: &[Peer]) -> Result<()> {
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    println!("\n## What is open, and what breaks\n\n| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    peers.iter().for_each(set_up);
    for (question, ask) in QUESTIONS {
        let answers: Vec<String> = peers.iter().map(ask).collect();
        println!("| {question} | {} |", answers.join(" | "));
    }
    Ok(())
}

/// Two networks as they are by default, two with isolate=true, and a neighbour with routes to all.
fn set_up(peer: &Peer) {
    for (name, n, options) in
        [("n1", 1, ""), ("n2", 2, ""), ("iso1", 3, "-o isolate=true"), ("iso2", 4, "-o isolate=true")]
    {
        peer.run(&format!("network create --subnet 10.9{n}.0.0/24 {options} {name}"));
        peer.lab.outside(&format!("ip route add 10.9{n}.0.0/24 via {HOST4}"));
    }
    for (name, network, ports) in [
        ("a", "n1", "-p 8080:80 -p 127.0.0.1:8081:80"),
        ("a2", "n1", ""),
        ("a3", "n1", ""),
        ("b", "n2", ""),
        ("i1", "iso1", ""),
        ("i2", "iso2", ""),
    ] {
        peer.run(&format!("run -d --name {name} --network {network} {ports} banner"));
    }
    peer.lab.outside(&format!(
        "ip addr del 127.0.0.1/8 dev lo; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip route add 127.0.0.0/8 via {HOST4}"
    ));
}

impl Peer {
    fn run(&self, command: &str) -> Run {
        self.lab.host(&format!("{} {command}", self.program()))
    }

    fn field(&self, name: &str, template: &str) -> String {
        self.run(&format!("inspect -f '{template}' {name}")).out.trim().to_owned()
    }

    fn ip(&self, name: &str) -> String {
        self.field(name, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }

    fn gateway(&self, name: &str) -> String {
        self.field(name, "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}")
    }

    fn sandbox(&self, name: &str) -> Sandboxed {
        Sandboxed { name: name.to_owned(), path: self.field(name, "{{.NetworkSettings.SandboxKey}}") }
    }
}

fn get(url: &str) -> String {
    format!("curl -sS -g --connect-timeout 1 -m 3 http://{url}/")
}

fn program(lab: &Lab, arguments: &str) -> String {
    format!("exec python3 {}/peer.py {arguments}", lab.dir().display())
}

fn page(run: Run) -> String {
    opened(run.out.contains(BANNER))
}

fn opened(open: bool) -> String {
    if open { "open" } else { "closed" }.to_owned()
}

/// How long it took until `is` held; `None` when it never did.
fn within(patience: Duration, mut is: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if is() {
            return Some(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}
