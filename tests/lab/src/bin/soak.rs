//! Hours of coming and going, for root and for an ordinary user at once, and what grew meanwhile: `soak [MINUTES]`.
//!
//! ```text
//!   residents: a container of each, asked from outside and for its name all the time
//!   workers:   network create · run -p · exec · names · connect · publish · stop · start · pod · rm, round after round
//!
//!   a fifth of the time ──quiet──> measured ── four fifths ──quiet──> measured again: the same, or it GREW
//! ```
//!
//! Measured are the processes that live through all of it: memory that is their own, descriptors, threads; and what
//! is on the host, which is to be what it was before the first round.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::{Background, HOST4, Lab, LabOptions, State, USER, USER_ID, image};

/// Loops of root, and of the user.
const WORKERS: [u16; 2] = [4, 3];

/// What memory may differ by: allocators keep what they have, in pages.
const SLACK_KIB: u64 = 256;

/// A round; `$w` is the worker, `$p` a port of its own. Whatever fails says so and ends the soak's good name.
const ROUND: &str = r"
podwire network create n$w >/dev/null
podwire run -d --name c$w --network n$w -p $p:80 banner >/dev/null
podwire exec c$w nslookup c$w >/dev/null
podwire network connect --alias known$w stay c$w
podwire exec c$w nslookup known$w >/dev/null
podwire exec c$w wget -q -O /dev/null http://resident/
podwire update --publish-add $((p + 1)):80 c$w >/dev/null
wget -q -O /dev/null http://127.0.0.1:$((p + 1))/
podwire network disconnect stay c$w
podwire stop -t 0 c$w >/dev/null
podwire start c$w >/dev/null
podwire pod create --name p$w -p $((p + 2)):80 >/dev/null
podwire run -dit --pod p$w --health-cmd true banner >/dev/null
podwire pod rm -f -t 0 p$w >/dev/null
podwire rm -f -t 0 c$w >/dev/null
podwire network rm n$w >/dev/null
";

fn main() -> Result<ExitCode> {
    let minutes = std::env::args().nth(1).map_or(Ok(60.0), |text| text.parse::<f64>());
    let minutes = minutes.ok().filter(|minutes| (1.0..=2880.0).contains(minutes));
    let minutes = minutes.context("usage: soak [MINUTES], 1 to 2880")?;
    let time = Duration::from_secs_f64(60.0 * minutes);
    let lab =
        Lab::with(&LabOptions { user: true, limit: time * 2 + Duration::from_secs(600), ..LabOptions::default() })?;
    let mut soak = Soak::begin(&lab)?;
    println!("{} workers, {:.0} minutes; residents:", WORKERS.iter().sum::<u16>(), minutes);
    soak.residents.iter().for_each(|one| println!("  {}", one.name));
    soak.churn(time / 5)?;
    let before = soak.quiet()?;
    soak.churn(time * 4 / 5)?;
    let after = soak.quiet()?;
    soak.verdict(&before, &after)
}

/// A process that lives through all of it.
struct Resident {
    name: String,
    pid: u32,
}

/// What one takes.
#[derive(Clone, Copy)]
struct Taken {
    /// Of its own (RssAnon): pages of the program's file come and go.
    kib: u64,
    descriptors: usize,
    threads: u64,
}

struct Soak<'l> {
    lab: &'l Lab,
    residents: Vec<Resident>,
    /// Who asks the residents, each until its input ends.
    askers: Vec<(&'static str, Background)>,
    state: State,
    rounds: u64,
    complaints: Vec<String>,
}

impl<'l> Soak<'l> {
    fn begin(lab: &'l Lab) -> Result<Self> {
        let archive = lab.dir().join("banner.tar");
        image::docker_archive(&image::banner(), &archive)?;
        lab.host(&format!("podwire load -q -i {0} && install -m 644 {0} /home/{USER}/banner.tar", archive.display()))
            .ok();
        lab.user("podwire load -q -i banner.tar").ok();
        let start = |subnet: u8, port: u16| {
            format!(
                "podwire network create --subnet 10.{subnet}.0.0/24 stay && \
                 podwire run -d --name resident --network stay -p {port}:80 banner && \
                 podwire run -dit --name asker --network stay banner sh"
            )
        };
        lab.host(&start(91, 8080)).ok();
        lab.user(&start(92, 9080)).ok();
        // Whoever comes first makes networks' furniture.
        lab.host("podwire network ls").ok();
        let askers = vec![
            ("root's port", keep(lab, "tcp-keep", &format!("{HOST4} 8080"))),
            ("the user's port", keep(lab, "tcp-keep", &format!("{HOST4} 9080"))),
            ("root's names", names(lab, false)?),
            ("the user's names", names(lab, true)?),
        ];
        let state = lab.settled_state();
        Ok(Self { lab, residents: residents(lab)?, askers, state, rounds: 0, complaints: Vec::new() })
    }

    /// Rounds for so long, a line each minute.
    fn churn(&mut self, time: Duration) -> Result<()> {
        let dir = self.lab.dir().to_owned();
        let go = dir.join("go");
        std::fs::write(&go, "")?;
        std::fs::write(
            dir.join("round.sh"),
            format!("while [ -e {} ]; do\n{ROUND}\necho round over\ndone\n", go.display()),
        )?;
        self.lab.host(&format!("chmod 755 {0}; chmod 644 {0}/round.sh", dir.display())).ok();
        let mut workers: Vec<Background> = Vec::new();
        for (who, count) in WORKERS.into_iter().enumerate() {
            for n in 0..count {
                let port = 20_000 + 10_000 * who as u16 + 10 * n;
                let line = format!("w={n} p={port} sh {}/round.sh", dir.display());
                workers.push(if who == 0 { self.lab.background(&line) } else { self.lab.background_user(&line) });
            }
        }
        let begun = Instant::now();
        let mut told = begun;
        while begun.elapsed() < time {
            std::thread::sleep(Duration::from_millis(500).min(time));
            if told.elapsed() > Duration::from_secs(60) {
                told = Instant::now();
                let rounds: usize = workers.iter_mut().map(|worker| over(&worker.output())).sum();
                println!("{}", self.line(rounds)?);
            }
        }
        std::fs::remove_file(&go)?;
        for worker in workers {
            let said = worker.wait().out;
            self.rounds += over(&said) as u64;
            self.complaints.extend(said.lines().filter(|line| *line != "round over").map(str::to_owned));
        }
        Ok(())
    }

    fn line(&self, rounds: usize) -> Result<String> {
        let each = self.residents.iter().map(|one| {
            let taken = one.taken(self.lab)?;
            Ok(format!("{} {} KiB {} fds", one.name, taken.kib, taken.descriptors))
        });
        let each: Vec<String> = each.collect::<Result<_>>()?;
        Ok(format!("{} rounds: {}", self.rounds + rounds as u64, each.join(", ")))
    }

    /// What residents take once nothing goes on any more: what is closed lives on for a moment.
    fn quiet(&self) -> Result<Vec<Taken>> {
        let begun = Instant::now();
        let measure = || self.residents.iter().map(|one| one.taken(self.lab)).collect::<Result<Vec<_>>>();
        let mut best = measure()?;
        // Flows of datagrams are remembered for up to two minutes.
        while begun.elapsed() < Duration::from_secs(if self.rounds > 1000 { 130 } else { 20 }) {
            std::thread::sleep(Duration::from_secs(1));
            for (best, now) in best.iter_mut().zip(measure()?) {
                best.descriptors = best.descriptors.min(now.descriptors);
                best.kib = best.kib.min(now.kib);
                best.threads = best.threads.min(now.threads);
            }
        }
        Ok(best)
    }

    fn verdict(mut self, before: &[Taken], after: &[Taken]) -> Result<ExitCode> {
        println!("\n| after {} rounds | KiB before | after | descriptors | after | threads | after | |", self.rounds);
        println!("|---|---|---|---|---|---|---|---|");
        let mut good = true;
        for ((one, before), after) in self.residents.iter().zip(before).zip(after) {
            let flat = after.kib <= before.kib * 105 / 100 + SLACK_KIB
                && after.descriptors <= before.descriptors
                && after.threads <= before.threads;
            let word = if flat { "flat" } else { "GREW" };
            println!(
                "| {} | {} | {} | {} | {} | {} | {} | {word} |",
                one.name, before.kib, after.kib, before.descriptors, after.descriptors, before.threads, after.threads
            );
            good &= flat;
        }
        println!(
            "\nstore: {}",
            self.lab
                .ok(&format!("du -h /var/lib/podwire/podwire.db /home/{USER}/.local/share/podwire/podwire.db | xargs"))
        );
        for (name, mut asker) in self.askers {
            asker.write("over\n");
            let said = asker.wait().out;
            let last = said.lines().last().unwrap_or_default().to_owned();
            println!("{name}: {last}");
            good &= last.ends_with(" 0 failed");
        }
        let left = self.state.left(self.lab);
        let left: String =
            left.lines().filter(|line| !line.contains("peer.py")).map(|line| format!("{line}\n")).collect();
        println!("left on the host: {}", if left.is_empty() { "nothing" } else { &left });
        self.complaints.dedup();
        self.complaints.iter().take(20).for_each(|line| println!("said: {line}"));
        good &= left.is_empty() && self.complaints.is_empty();
        println!("\nverdict: {}", if good { "flat, nothing lost, nothing left" } else { "FAILED" });
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Resident {
    fn taken(&self, lab: &Lab) -> Result<Taken> {
        let proc = lab.path(&format!("/proc/{}", self.pid));
        let status =
            std::fs::read_to_string(proc.join("status")).with_context(|| format!("{} has ended", self.name))?;
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        let descriptors = std::fs::read_dir(proc.join("fd"))?.count();
        Ok(Taken { kib: number("RssAnon:"), descriptors, threads: number("Threads:") })
    }
}

/// Those that are there before the first round.
fn residents(lab: &Lab) -> Result<Vec<Resident>> {
    let said =
        lab.ok("for p in $(pgrep '^podwire-'); do echo $p $(cat /proc/$p/comm) $(stat -c %u /proc/$p/task); done");
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let one = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [pid, name, _] = words[..] else { return Ok(None) };
        let status = std::fs::read_to_string(lab.path(&format!("/proc/{pid}/status")))?;
        let user = status.lines().any(|line| line.starts_with(&format!("Uid:\t{USER_ID}\t")));
        let name = format!("{}{}", name.trim_start_matches("podwire-"), if user { " (user)" } else { "" });
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        let name = if *count > 1 { format!("{name} {count}") } else { name };
        Ok(Some(Resident { name, pid: pid.parse()? }))
    };
    said.lines().map(one).filter_map(Result::transpose).collect()
}

fn over(said: &str) -> usize {
    said.lines().filter(|line| *line == "round over").count()
}

/// Asks from outside until its input ends.
fn keep(lab: &Lab, what: &str, arguments: &str) -> Background {
    let mut asker = lab.background_outside(&format!("exec python3 {}/peer.py {what} {arguments}", lab.dir().display()));
    asker.until("asking");
    asker
}

/// Asks for the resident's name from the container `asker`.
fn names(lab: &Lab, user: bool) -> Result<Background> {
    let run = |line: &str| if user { lab.user(line) } else { lab.host(line) };
    let template = "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.Gateway}} {{.IPAddress}}{{end}}";
    let said = run(&format!("podwire inspect -f '{template}' asker resident")).ok().out;
    let words: Vec<&str> = said.split_whitespace().collect();
    let [pid, gateway, _, _, _, address] = words[..] else { anyhow::bail!("inspect says {said}") };
    let peer = format!("python3 {}/peer.py dns-keep {gateway} resident {address}", lab.dir().display());
    let mut asker = lab.background(&format!("exec nsenter -t {pid} -n {peer}"));
    asker.until("asking");
    Ok(asker)
}
