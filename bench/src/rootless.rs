//! The rootless path: podwire's relay beside pasta and slirp4netns, and plain veth as the limit, all in one lab.
//!
//! ```text
//!   outside 192.168.99.1 ──veth── the lab's host 192.168.99.109 ─┬─ relay ─────── a container of podwire's, for each MTU
//!                                                                ├─ pasta ─────── a namespace, for each MTU
//!                                                                ├─ slirp4netns ─ a namespace
//!                                                                └─ veth ──────── a namespace, forwarded by the kernel
//! ```
//!
//! **How it works.** All stand ready beside each other; each round does one short piece of work by each in turn, so
//! what else the machine does hits all alike. Ratios are medians of the rounds' own ratios. Who uses the paths is
//! `load.rs`, the same for all.
//!
//! **Limits.** The round-trip time is nearly zero, as between processes of one machine: pasta's uploads suffer from
//! that more than they do on real networks (docs/book/performance.md).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::{Background, HOST4, Lab, OUTSIDE4, USER_ID};

use crate::{load, peers};

/// The two of containers.
const MTUS: [u32; 2] = [1500, 65520];
/// Where the servers of all namespaces listen.
const PORT: u16 = 7000;
/// Milliseconds of one piece of work.
const WORK_MS: u32 = 300;
/// Where the peers' processes tell who they are.
const FILES: &str = "/run/bench";
/// The first of the peers' users, of which each has its own: two pastas of one take all the room for pipes that the
/// kernel gives a user (fs.pipe-user-pages-soft), and whoever else splices as that user has 16 pages for each.
const PEER_USER_ID: u32 = 3000;
/// Whose figures no goal hangs on, and which is slow: it takes part in the first round alone.
const ONCE: &str = "slirp4netns";

/// Whose goals they are.
const OURS: &str = "podwire";

/// One way between a namespace and the rest.
struct Via {
    name: &'static str,
    mtu: u32,
    /// A process in the namespace.
    pid: String,
    /// The process that does the work.
    worker: Option<String>,
    /// The host, and a published port, as seen from the namespace, the outside and the host.
    host: String,
    from_outside: String,
    from_host: String,
    /// What runs for it.
    _running: Vec<Background>,
}

/// Measures and prints.
///
/// Of the cases those whose names contain one of the words of `only`, which are separated by commas.
pub(crate) fn measure(rounds: usize, only: &str) -> Result<()> {
    let site = Site::make()?;
    let mut table = Table::new(&site.all);
    if "memory".contains(only) || only.is_empty() {
        table.goals.extend(site.memory()?);
    }
    if "start".contains(only) || only.is_empty() {
        table.goals.extend(site.starts(rounds)?);
    }
    let is_wanted = |case: &Case| only.split(',').any(|word| case.name.contains(word));
    for case in cases().into_iter().filter(is_wanted) {
        table.measure(&site, &case, rounds)?;
    }
    table.print();
    Ok(())
}

/// Has all stand ready, says how to use each, and waits for a line: for strace and perf.
pub(crate) fn stay() -> Result<()> {
    let site = Site::make()?;
    println!("load: {}", us());
    for Via { name, mtu, pid, worker, host, from_outside, from_host, .. } in &site.all {
        let worker = worker.as_deref().unwrap_or("-");
        println!("{name} {mtu} {pid} {worker} {OUTSIDE4}:{PORT} {host} {from_outside} {from_host}");
    }
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Who begins the connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Container,
    Outside,
    Host,
}

/// How somebody is started who makes a way out of a namespace.
struct Start {
    name: &'static str,
    user: u32,
    /// What leads into the user namespace that it works in.
    before: String,
    /// What leads into the namespace.
    enter: String,
    program: String,
}

/// One kind of work.
struct Case {
    name: String,
    from: From,
    /// To the host, where a container begins.
    to_host: bool,
    kind: &'static str,
    n: usize,
    unit: &'static str,
    goals: Vec<Goal>,
}

/// What podwire's figure is to be, as a multiple of another one of the same round.
#[derive(Clone, Copy)]
struct Goal {
    of: Of,
    bound: Bound,
}

/// Whose figure.
#[derive(Clone, Copy)]
enum Of {
    /// The kernel's alone, at the same MTU.
    Veth,
    /// pasta's, at the same MTU.
    Pasta,
    /// pasta's, at the MTU with which it is better.
    PastaAtBest,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Veth => " of veth",
            Self::Pasta => " of pasta",
            Self::PastaAtBest => " of pasta at its best",
        }
    }
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

/// Of streams between these.
fn goals_of_streams(from: From, kind: &str) -> Vec<Goal> {
    let at_least = |of, least| Goal { of, bound: Bound::AtLeast(least) };
    match (from, kind) {
        (From::Container, "up") => vec![at_least(Of::Veth, 0.65), at_least(Of::PastaAtBest, 5.0)],
        (From::Container, _) => vec![at_least(Of::Veth, 0.65), at_least(Of::PastaAtBest, 1.4)],
        (From::Outside, _) => vec![at_least(Of::Veth, 0.85), at_least(Of::PastaAtBest, 1.0)],
        (From::Host, _) => vec![at_least(Of::PastaAtBest, 0.9)],
    }
}

/// Of new connections.
fn goals_of_connections(from: From) -> Vec<Goal> {
    let least = if from == From::Container { 1.2 } else { 1.8 };
    vec![Goal { of: Of::Pasta, bound: Bound::AtLeast(least) }]
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let sides = [
        ("container to outside", From::Container, false),
        ("container to host", From::Container, true),
        ("published, from outside", From::Outside, false),
        ("published, from the host's loopback", From::Host, false),
    ];
    for (side, from, to_host) in sides {
        for (n, streams) in [(1, "1 stream"), (4, "4 streams")] {
            for kind in ["up", "down"] {
                cases.push(Case {
                    name: format!("TCP {side}, {streams}, {kind}"),
                    from,
                    to_host,
                    kind,
                    n,
                    unit: "Gb/s",
                    goals: goals_of_streams(from, kind),
                });
            }
        }
    }
    for (side, from, to_host) in sides {
        cases.push(Case {
            name: format!("question and answer, {side}"),
            from,
            to_host,
            kind: "ask",
            n: 1,
            unit: "µs p50",
            goals: vec![Goal { of: Of::Pasta, bound: Bound::AtMost(1.0) }],
        });
        for n in [1, 16] {
            let name = format!("new connections, {side}, {n} at once");
            let goals = goals_of_connections(from);
            cases.push(Case { name, from, to_host, kind: "connect", n, unit: "per second", goals });
        }
    }
    for (kind, way) in [("udp-up", "out"), ("udp-down", "back")] {
        let name = format!("UDP of 1,400 B, container to outside, {way}");
        let goals = vec![Goal { of: Of::Pasta, bound: Bound::AtLeast(1.4) }];
        cases.push(Case { name, from: From::Container, to_host: false, kind, n: 1, unit: "1,000/s", goals });
    }
    cases
}

/// The lab with everything in it.
struct Site {
    lab: Lab,
    /// podwire's first.
    all: Vec<Via>,
    _servers: Vec<Background>,
}

impl Site {
    fn make() -> Result<Self> {
        let lab = peers::lab_with_user()?;
        lab.host(&format!("mkdir -m 1777 {FILES}"));
        let mut servers = vec![lab.background(&server()), lab.background_outside(&server())];
        let mut all = podwire(&lab)?;
        all.extend(pastas(&lab)?);
        all.extend(slirp(&lab)?);
        all.extend(veths(&lab)?);
        for via in &all {
            servers.push(lab.background(&format!("exec nsenter -t {} -n {}", via.pid, server())));
        }
        servers.iter_mut().for_each(|server| drop(server.until("listening")));
        first_of_all(&lab);
        Ok(Self { lab, all, _servers: servers })
    }

    /// One piece of work; `None` when it fails.
    fn work(&self, via: &Via, case: &Case) -> Option<Done> {
        let to = match (case.from, case.to_host) {
            (From::Container, false) => format!("{OUTSIDE4}:{PORT}"),
            (From::Container, true) => via.host.clone(),
            (From::Outside, _) => via.from_outside.clone(),
            (From::Host, _) => via.from_host.clone(),
        };
        let line = format!("{} {} {to} {} {WORK_MS}", us(), case.kind, case.n);
        let before = self.cpu(via);
        let run = match case.from {
            From::Container => self.lab.quietly(&format!("exec nsenter -t {} -n {line}", via.pid)),
            From::Outside => self.lab.outside(&line),
            From::Host => self.lab.quietly(&line),
        };
        let cpu = self.cpu(via).zip(before).map(|(after, before)| after - before);
        let mut words = run.out.split_whitespace();
        let (value, octets) = (words.next()?.parse().ok()?, words.next()?.parse::<f64>().ok()?);
        let cpu_per_gb = cpu.filter(|_| case.unit == "Gb/s").map(|cpu| cpu / octets * 1e9);
        Some(Done { value, cpu_per_gb })
    }

    /// Seconds of processor time that the worker has had.
    fn cpu(&self, via: &Via) -> Option<f64> {
        let tasks = self.lab.path(&format!("/proc/{}/task", via.worker.as_ref()?)).read_dir().ok()?;
        let times = tasks.filter_map(|task| {
            let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<f64>().ok()
        });
        Some(times.sum::<f64>() / 1e9)
    }

    /// How long it takes from the start of who makes a way out of a namespace to the first octet that came by it. Prints,
    /// and says whether the goal for podwire's is met.
    fn starts(&self, rounds: usize) -> Result<Option<String>> {
        let mut goal = None;
        println!("\n## Start to first octet, ms\n\n| | median | longest |\n|---|---|---|");
        for start in [self.relay_start()?, self.pasta_start()?, self.slirp_start()?].into_iter().flatten() {
            let Start { name, user, before, enter, program } = start;
            let line = format!(
                "setpriv --reuid {user} --regid {user} --clear-groups {before} \
                 timeout 20 {} first {OUTSIDE4}:{PORT} '{enter}' {program}",
                us()
            );
            let mut times = Vec::new();
            for _ in 0..rounds.max(3) {
                let run = self.lab.quietly(&line);
                let took = run.out.lines().last().and_then(|line| line.trim().parse::<f64>().ok());
                times.push(took.with_context(|| format!("{name}: {}{}", run.out, run.err))?);
            }
            let longest = times.iter().copied().fold(0.0, f64::max);
            let median = median(times);
            println!("| {name} | {:.1} | {longest:.1} |", median.unwrap_or_default());
            if name == OURS {
                goal = Some(goal_line("ms from the relay's start to the first octet", "", median, Bound::AtMost(10.0)));
            }
        }
        Ok(goal)
    }

    /// A relay alone, with a namespace and one beside it whose way out it is.
    fn relay_start(&self) -> Result<Option<Start>> {
        let (user, inside, dir) = (PEER_USER_ID + 3, file("start.inside"), file("start"));
        let made = self.lab.host(&format!(
            "set -e
             mkdir -p {dir}; chown {user} {dir}; ln -s $(command -v podwire) {dir}/podwire-relay
             setpriv --reuid {user} --regid {user} --clear-groups unshare -Urn sh -c '
                 set -e
                 unshare -n sleep 7200 & echo $! >{inside}; echo $$ >{inside}.relay; sleep 0.3
                 inside=\"nsenter -t $! -n\"
                 ip link set lo up; $inside ip link set lo up
                 ip link add v0 mtu 65520 type veth peer name eth0 mtu 65520 netns $!
                 ip addr add 10.42.0.1/16 dev v0; ip link set v0 up
                 $inside ip addr add 10.42.0.2/16 dev eth0; $inside ip link set eth0 up
                 $inside ip route add default via 10.42.0.1
                 touch {inside}.done; exec sleep 7200' >/dev/null 2>&1 </dev/null &
             timeout 10 sh -c 'until [ -e {inside}.done ]; do sleep 0.05; done'"
        ));
        ensure!(made.code == 0, "{}{}", made.out, made.err);
        let read = |path: &str| self.lab.host(&format!("cat {path}")).out.trim().to_owned();
        let (inside, relay) = (read(&inside), read(&format!("{inside}.relay")));
        let order = format!(
            r#"{{"namespace":"/proc/{relay}/ns/net","socket":"{dir}/s","pid":"{dir}/p","log":"{dir}/l","mtu":65520}}"#
        );
        Ok(Some(Start {
            name: OURS,
            user,
            before: format!("nsenter -t {relay} -U --preserve-credentials"),
            enter: format!("nsenter -t {inside} -n"),
            program: format!("{dir}/podwire-relay '{order}'"),
        }))
    }

    fn pasta_start(&self) -> Result<Option<Start>> {
        let program = |pid: &str| format!("pasta --config-net -t none -u none -T none -U none -f {pid}");
        self.peer_start("pasta", PEER_USER_ID, program)
    }

    fn slirp_start(&self) -> Result<Option<Start>> {
        self.peer_start("slirp4netns", PEER_USER_ID + 2, |pid| format!("slirp4netns -c -m 65520 {pid} tap0"))
    }

    /// One that is given a process in the namespace.
    fn peer_start(&self, name: &'static str, user: u32, program: impl Fn(&str) -> String) -> Result<Option<Start>> {
        if !Path::new("/usr/bin").join(name).exists() {
            return Ok(None);
        }
        let inside = file(&format!("{name}.start"));
        let made = self.lab.host(&format!(
            "setpriv --reuid {user} --regid {user} --clear-groups \
             unshare -Urn sh -c 'echo $$ >{inside}; exec sleep 7200' >/dev/null 2>&1 </dev/null &
             timeout 10 sh -c 'until [ -s {inside} ]; do sleep 0.05; done'; cat {inside}"
        ));
        let pid = made.out.trim();
        Ok(Some(Start {
            name,
            user,
            before: String::new(),
            enter: format!("nsenter -t {pid} -U -n --preserve-credentials"),
            program: program(pid),
        }))
    }

    /// How much memory the workers have with connections on which nothing happens. Prints, and says whether the goal
    /// for podwire's is met.
    fn memory(&self) -> Result<Option<String>> {
        let mut goal = None;
        println!("\n## Memory with idle connections, MB resident\n\n| | 0 | 1,000 | 10,000 |\n|---|---|---|---|");
        let largest = |via: &&Via| via.mtu > 1500 && via.worker.is_some();
        for via in self.all.iter().filter(largest) {
            let worker = via.worker.as_deref().context("it has one")?;
            let with = |count: usize| {
                let line = format!("{} idle {OUTSIDE4}:{PORT} {count} 200 {worker}", us());
                let run = self.lab.quietly(&format!("exec timeout 30 nsenter -t {} -n {line}", via.pid));
                run.out.split_whitespace().next().map_or_else(|| "fails".to_owned(), str::to_owned)
            };
            let all = [with(0), with(1000), with(10_000)];
            println!("| {} | {} |", via.name, all.join(" | "));
            if via.name == OURS {
                let most = Bound::AtMost(6.0);
                goal = Some(goal_line("MB resident with 10,000 idle connections", "", all[2].parse().ok(), most));
            }
        }
        Ok(goal)
    }
}

/// Has everything in the lab go before what else the machine does: with three processes on a path, theirs is waited
/// for more often than the kernel's alone (sched_autogroup in sched(7); without it, nothing changes).
fn first_of_all(lab: &Lab) {
    // The loads are children of ours.
    let _ = std::fs::write("/proc/self/autogroup", "-19");
    lab.host("for process in /proc/[0-9]*; do echo -19 >$process/autogroup; done 2>/dev/null; true");
}

/// This program as a load.
fn us() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("podwire-bench"));
    format!("{} {}", path.display(), load::ARGUMENT)
}

fn server() -> String {
    format!("{} serve 0.0.0.0:{PORT}", us())
}

fn file(name: &str) -> String {
    format!("{FILES}/{name}")
}

/// What a line as the user says.
fn said(lab: &Lab, line: &str) -> Result<String> {
    let run = lab.user(line);
    ensure!(run.code == 0, "{line}: {}{}", run.out, run.err);
    Ok(run.out.trim().to_owned())
}

fn podwire(lab: &Lab) -> Result<Vec<Via>> {
    let mut all = Vec::new();
    for (mtu, network, port) in [(1500, "--network pasta:--mtu,1500", 8101), (65520, "", 8102)] {
        said(lab, &format!("podwire run -d --name m{mtu} {network} -p {port}:{PORT} banner"))?;
        let pid = said(lab, &format!("podwire inspect -f '{{{{.State.Pid}}}}' m{mtu}"))?;
        all.push(Via {
            name: OURS,
            mtu,
            pid,
            worker: None,
            host: format!("{HOST4}:{PORT}"),
            from_outside: format!("{HOST4}:{port}"),
            from_host: format!("127.0.0.1:{port}"),
            _running: Vec::new(),
        });
    }
    let relay = lab.quietly(&format!("pgrep -u {USER_ID} -x podwire-relay")).out.trim().to_owned();
    ensure!(relay.parse::<u32>().is_ok(), "one relay expected: {relay:?}");
    all.iter_mut().for_each(|via| via.worker = Some(relay.clone()));
    Ok(all)
}

/// A namespace of a user's, and a program that serves it; the pids of a process in it, and of the program.
fn beside(lab: &Lab, name: &str, user: u32, program: &str) -> Result<(String, String, Background)> {
    let (inside, worker) = (file(&format!("{name}.inside")), file(&format!("{name}.worker")));
    let mut running = lab.background(&format!(
        "exec setpriv --reuid {user} --regid {user} --clear-groups sh -c \
         'unshare -Urn sleep 7200 & echo $! >{inside}; sleep 0.3; echo $$ >{worker}; exec {program}'"
    ));
    let link = format!(
        "timeout 10 sh -c 'until nsenter -t $(cat {inside}) -n ip route | grep -q default; do sleep 0.1; done'"
    );
    let there = lab.host(&link);
    ensure!(there.code == 0, "{name} does not come up: {}", running.output());
    let read = |path: &str| lab.host(&format!("cat {path}")).out.trim().to_owned();
    Ok((read(&inside), read(&worker), running))
}

fn pastas(lab: &Lab) -> Result<Vec<Via>> {
    if !Path::new("/usr/bin/pasta").exists() {
        eprintln!("pasta (package passt) is not installed: it is not measured");
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for (mtu, port, user) in [(1500, 8201, PEER_USER_ID), (65520, 8202, PEER_USER_ID + 1)] {
        // Its gateway address means the host; the neighbour's own shall stay the neighbour.
        let ports = format!("-t {port}:{PORT} -u none -T none -U none");
        let program = format!("pasta --config-net -g 192.168.99.254 --mtu {mtu} {ports} -f $!");
        let (pid, worker, running) = beside(lab, &format!("pasta{mtu}"), user, &program)?;
        all.push(Via {
            name: "pasta",
            mtu,
            pid,
            worker: Some(worker),
            host: format!("192.168.99.254:{PORT}"),
            from_outside: format!("{HOST4}:{port}"),
            from_host: format!("127.0.0.1:{port}"),
            _running: vec![running],
        });
    }
    Ok(all)
}

fn slirp(lab: &Lab) -> Result<Option<Via>> {
    if !Path::new("/usr/bin/slirp4netns").exists() {
        eprintln!("slirp4netns is not installed: it is not measured");
        return Ok(None);
    }
    let (port, api) = (8302, file("slirp.api"));
    let program = format!("slirp4netns -c -m 65520 --api-socket {api} $! tap0");
    let (pid, worker, running) = beside(lab, "slirp", PEER_USER_ID + 2, &program)?;
    let request = format!(
        r#"{{"execute":"add_hostfwd","arguments":{{"proto":"tcp","host_addr":"0.0.0.0","host_port":{port},"guest_addr":"10.0.2.100","guest_port":{PORT}}}}}"#
    );
    let script = format!(
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"{api}\"); s.send(b\"\"\"{request}\"\"\"); s.shutdown(1); print(s.recv(999))"
    );
    let wait = format!("timeout 10 sh -c 'until [ -S {api} ]; do sleep 0.05; done'");
    let told = lab.host(&format!("{wait}; python3 -c '{script}'"));
    ensure!(told.out.contains("return"), "slirp4netns: {}{}", told.out, told.err);
    Ok(Some(Via {
        name: "slirp4netns",
        mtu: 65520,
        pid,
        worker: Some(worker),
        host: format!("10.0.2.2:{PORT}"),
        from_outside: format!("{HOST4}:{port}"),
        from_host: format!("127.0.0.1:{port}"),
        _running: vec![running],
    }))
}

/// The kernel alone: nobody's process is between.
fn veths(lab: &Lab) -> Result<Vec<Via>> {
    let made = lab.host(&format!(
        "set -e
         echo 1 >/proc/sys/net/ipv4/ip_forward
         for mtu in 1500 65520; do
             net=10.77.$((mtu / 1000))
             ip netns add v$mtu
             ip link add v$mtu mtu $mtu type veth peer name eth0 mtu $mtu netns v$mtu
             ip addr add $net.1/24 dev v$mtu; ip link set v$mtu up
             ip -n v$mtu link set lo up; ip -n v$mtu addr add $net.2/24 dev eth0; ip -n v$mtu link set eth0 up
             ip -n v$mtu route add default via $net.1
             nsenter --net=/run/lab/outside ip route add $net.0/24 via {HOST4}
         done"
    ));
    ensure!(made.code == 0, "veth: {}", made.err);
    let mut all = Vec::new();
    for mtu in [1500, 65520] {
        let net = format!("10.77.{}", mtu / 1000);
        let inside = file(&format!("veth{mtu}.inside"));
        let running = lab.background(&format!("echo $$ >{inside}; exec ip netns exec v{mtu} sleep 7200"));
        let pid = lab.host(&format!("timeout 10 sh -c 'until [ -s {inside} ]; do sleep 0.05; done'; cat {inside}"));
        let there = format!("{net}.2:{PORT}");
        all.push(Via {
            name: "veth",
            mtu,
            pid: pid.out.trim().to_owned(),
            worker: None,
            host: format!("{net}.1:{PORT}"),
            from_outside: there.clone(),
            from_host: there,
            _running: vec![running],
        });
    }
    // `ip netns exec` enters before it becomes `sleep`.
    lab.host("sleep 0.2");
    Ok(all)
}

/// One piece of work.
#[derive(Debug, Clone, Copy)]
struct Done {
    value: f64,
    cpu_per_gb: Option<f64>,
}

struct Table<'a> {
    all: &'a [Via],
    lines: Vec<String>,
    cpu: Vec<String>,
    goals: Vec<String>,
}

impl<'a> Table<'a> {
    fn new(all: &'a [Via]) -> Self {
        Self { all, lines: Vec::new(), cpu: Vec::new(), goals: Vec::new() }
    }

    fn measure(&mut self, site: &Site, case: &Case, rounds: usize) -> Result<()> {
        eprintln!("measuring {} …", case.name);
        let takes_part = |via: &Via, round| round == 0 || via.name != ONCE;
        let of_round =
            |round| self.all.iter().map(|via| takes_part(via, round).then(|| site.work(via, case))).collect();
        let all: Vec<Vec<Option<Option<Done>>>> = (0..rounds).map(of_round).collect();
        let of_via = |at: usize| all.iter().filter_map(move |round| round[at]);
        let value = |round: usize, at: usize| all[round][at].flatten().map(|done| done.value);
        let ratio =
            |round, ours: Option<usize>, theirs: Option<usize>| Some(value(round, ours?)? / value(round, theirs?)?);
        let digits = if case.unit == "Gb/s" { 1 } else { 0 };
        let values = |at| of_via(at).map(|done| done.map(|done| done.value));
        let mut shown: Vec<String> = (0..self.all.len()).map(|at| cell(values(at), digits)).collect();
        for (name, mtu) in [("veth", 1500), ("veth", 65520), ("pasta", 1500), ("pasta", 65520)] {
            let (ours, theirs) = (self.at(OURS, mtu), self.at(name, mtu));
            shown.push(cell((0..rounds).map(|round| ratio(round, ours, theirs)), 2));
        }
        self.lines.push(format!("| {}, {} | {} |", case.name, case.unit, shown.join(" | ")));
        for (mtu, goal) in MTUS.iter().flat_map(|mtu| case.goals.iter().map(move |goal| (*mtu, goal))) {
            let ours = self.at(OURS, mtu);
            let of = |round: usize| {
                let to = |name, mtu| ratio(round, ours, self.at(name, mtu));
                match goal.of {
                    Of::Veth => to("veth", mtu),
                    Of::Pasta => to("pasta", mtu),
                    Of::PastaAtBest => MTUS.into_iter().filter_map(|mtu| to("pasta", mtu)).min_by(f64::total_cmp),
                }
            };
            let measured = median((0..rounds).filter_map(of).collect());
            self.goals.push(goal_line(&format!("{}, MTU {mtu}", case.name), goal.of.name(), measured, goal.bound));
        }
        if case.unit == "Gb/s" {
            let cpu = |at| cell(of_via(at).map(|done| done.and_then(|done| done.cpu_per_gb)), 3);
            let cells: Vec<String> = self.workers().map(|(at, _)| cpu(at)).collect();
            self.cpu.push(format!("| {} | {} |", case.name, cells.join(" | ")));
        }
        Ok(())
    }

    fn at(&self, name: &str, mtu: u32) -> Option<usize> {
        self.all.iter().position(|via| via.name == name && via.mtu == mtu)
    }

    fn workers(&self) -> impl Iterator<Item = (usize, &Via)> {
        self.all.iter().enumerate().filter(|(_, via)| via.worker.is_some())
    }

    fn print(&self) {
        let name = |via: &Via| format!("{} {}", via.name, via.mtu);
        let mut columns: Vec<String> = self.all.iter().map(name).collect();
        columns
            .extend(["/veth 1500", "/veth 65520", "/pasta 1500", "/pasta 65520"].map(|text| format!("podwire{text}")));
        println!("\n## The rootless path\n\n| | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len()));
        self.lines.iter().for_each(|line| println!("{line}"));
        let columns: Vec<String> = self.workers().map(|(_, via)| name(via)).collect();
        println!(
            "\n## Seconds of the worker's processor time per GB\n\n| | {} |\n|---|{}",
            columns.join(" | "),
            "---|".repeat(columns.len())
        );
        self.cpu.iter().for_each(|line| println!("{line}"));
        println!("\n## Goals\n\n| | measured | goal | |\n|---|---|---|---|");
        self.goals.iter().for_each(|line| println!("{line}"));
    }
}

/// A row of the table of goals.
fn goal_line(what: &str, of: &str, measured: Option<f64>, bound: Bound) -> String {
    let (shown, is_met) = match measured {
        Some(value) => (format!("{value:.2}{of}"), if bound.holds(value) { "met" } else { "not met" }),
        None => ("–".to_owned(), "not measured"),
    };
    format!("| {what} | {shown} | {bound}{of} | {is_met} |")
}

fn median(mut there: Vec<f64>) -> Option<f64> {
    there.sort_by(f64::total_cmp);
    there.get(there.len() / 2).copied()
}

/// The median, or what there is instead.
fn cell(values: impl Iterator<Item = Option<f64>>, digits: usize) -> String {
    let all: Vec<Option<f64>> = values.collect();
    let failed = all.iter().filter(|value| value.is_none()).count();
    let Some(median) = median(all.iter().flatten().copied().collect()) else { return "–".to_owned() };
    let failures = if failed > 0 { format!(" ({failed} of {} failed)", all.len()) } else { String::new() };
    format!("{median:.digits$}{failures}")
}
