//! Names: dnsperf through a veth and a bridge, against podwire's server and aardvark-dns in turn.
//!
//! aardvark-dns is asked without netavark's firewall, which is to its advantage.
//!
//! ```text
//!   lab 1: container c0 ──veth── bridge 10.91.0.1:53 ─DNAT─> podwire-netd     with all of podwire's firewall
//!   lab 2: namespace ask ──veth── bridge 10.91.0.1:53 ─────> aardvark-dns     with none
//! ```

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::{Lab, Sandboxed};

use crate::peers;

const AARDVARK: &str = "/usr/lib/podman/aardvark-dns";

const SERVER: &str = "10.91.0.1";

/// A server of some names, and who asks it.
struct Served {
    name: &'static str,
    lab: Lab,
    asker: Sandboxed,
    /// The server's.
    pid: String,
}

/// What one run of dnsperf came to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    /// Queries answered, per second of the server's processor time.
    per_core: f64,
    per_second: f64,
    /// Average, under all the load dnsperf can make.
    latency_ms: f64,
}

/// Measures and prints, where dnsperf is installed.
pub(crate) fn measure(rounds: usize) -> Result<()> {
    if !Path::new("/usr/bin/dnsperf").exists() {
        eprintln!("dnsperf is not installed: names are not measured");
        return Ok(());
    }
    println!("\n## Names\n\ndnsperf with 100 queries at a time from 4 sockets.");
    for names in [Names { each: 2 }, Names { each: 100 }] {
        compare(names, rounds)?;
    }
    Ok(())
}

fn compare(names: Names, rounds: usize) -> Result<()> {
    let mut servers = vec![podwire(names)?];
    if Path::new(AARDVARK).exists() {
        servers.push(aardvark(names)?);
    }
    let mut rates: Vec<Vec<Rate>> = vec![Vec::new(); servers.len()];
    let mut p99s: Vec<Vec<f64>> = vec![Vec::new(); servers.len()];
    for round in 0..rounds.min(5) {
        eprintln!("measuring {} names, round {} …", names.count(), round + 1);
        for ((server, rates), p99s) in servers.iter().zip(&mut rates).zip(&mut p99s) {
            rates.push(server.rate()?);
            p99s.push(server.p99()?);
        }
    }
    print(names, &servers, &rates, &p99s);
    Ok(())
}

fn print(names: Names, servers: &[Served], rates: &[Vec<Rate>], p99s: &[Vec<f64>]) {
    let columns: Vec<&str> = servers.iter().map(|server| server.name).collect();
    let title = format!("{} names on {CONTAINERS} containers", names.count());
    println!("\n| {title} | {} | ratio |\n|---|{}---|", columns.join(" | "), "---|".repeat(columns.len()));
    let of_rates = |what: fn(&Rate) -> f64| rates.iter().map(|all| median(all.iter().map(what))).collect::<Vec<_>>();
    row("queries per second of the server's processor time", &of_rates(|rate| rate.per_core), 0);
    row("queries per second", &of_rates(|rate| rate.per_second), 0);
    row("average latency under that load, ms", &of_rates(|rate| rate.latency_ms), 2);
    row(
        "p99 latency at 2,000 queries a second, ms",
        &p99s.iter().map(|all| median(all.iter().copied())).collect::<Vec<_>>(),
        2,
    );
}

/// The ratio is ours to theirs.
fn row(what: &str, values: &[f64], digits: usize) {
    let shown: Vec<String> = values.iter().map(|value| format!("{value:.digits$}")).collect();
    let ratio = values.get(1).map_or_else(|| "–".to_owned(), |theirs| format!("{:.2}×", values[0] / theirs));
    println!("| {what} | {} | {ratio} |", shown.join(" | "));
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

const CONTAINERS: usize = 10;

/// Which names there are: so many of each container.
#[derive(Debug, Clone, Copy)]
struct Names {
    each: usize,
}

impl Names {
    fn count(self) -> usize {
        CONTAINERS * self.each
    }

    fn of(self, container: usize) -> Vec<String> {
        (0..self.each).map(|n| format!("c{container}-{n}")).collect()
    }
}

fn podwire(names: Names) -> Result<Served> {
    let lab = peers::lab_with_banner()?;
    lab.quietly(&format!("podwire network create --subnet {SERVER}/24 --gateway {SERVER} shop")).ok();
    for n in 0..CONTAINERS {
        let aliases = names.of(n).join(",alias=");
        lab.quietly(&format!("podwire run -d --name c{n} --network shop:alias={aliases} banner")).ok();
    }
    let path = lab.quietly("podwire inspect -f '{{.NetworkSettings.SandboxKey}}' c0").ok().out.trim().to_owned();
    let asker = Sandboxed { name: "c0".to_owned(), path };
    let pid = lab.quietly("pgrep -o -f ^podwire-netd").ok().out.trim().to_owned();
    served("podwire", names, lab, asker, pid)
}

fn aardvark(names: Names) -> Result<Served> {
    let lab = peers::lab()?;
    let steps = [
        "ip netns add ask",
        "ip link add br0 type bridge",
        &format!("ip addr add {SERVER}/24 dev br0"),
        "ip link set br0 up",
        "ip link add ask0 type veth peer name eth0 netns ask",
        "ip link set ask0 master br0 up",
        "ip -n ask addr add 10.91.0.2/24 dev eth0",
        "ip -n ask link set eth0 up",
        "mkdir /run/names",
    ];
    lab.quietly(&steps.join(" && ")).ok();
    let line = |n: usize| format!("{n:064x} 10.91.0.{}  {}\n", n + 2, names.of(n).join(","));
    let config = format!("{SERVER}\n{}", (0..CONTAINERS).map(line).collect::<String>());
    std::fs::write(lab.path("/run/names/shop"), config)?;
    // It stays, after it has begun to serve, with the descriptors it was given.
    lab.quietly(&format!("{AARDVARK} --config /run/names -p 53 run </dev/null >/dev/null 2>&1 & sleep 1")).ok();
    let pid = lab.quietly("cat /run/names/aardvark.pid").ok().out.trim().to_owned();
    let asker = Sandboxed { name: "ask".to_owned(), path: "/run/netns/ask".to_owned() };
    served("aardvark-dns", names, lab, asker, pid)
}

fn served(name: &'static str, names: Names, lab: Lab, asker: Sandboxed, pid: String) -> Result<Served> {
    let all = (0..CONTAINERS).flat_map(|n| names.of(n));
    let questions: String = all.map(|name| format!("{name}.dns.podman A\n")).collect();
    std::fs::write(lab.dir().join("questions"), questions)?;
    Ok(Served { name, lab, asker, pid })
}

impl Served {
    fn rate(&self) -> Result<Rate> {
        let before = self.ticks()?;
        let out = self.dnsperf("-l 3 -c 4 -q 100")?;
        let ticks = self.ticks()? - before;
        rate(&out, ticks).with_context(|| format!("{}: {out}", self.name))
    }

    /// Milliseconds, at a rate that leaves everybody time.
    fn p99(&self) -> Result<f64> {
        let out = self.dnsperf("-v -Q 2000 -l 2")?;
        let answers = out.lines().filter(|line| line.starts_with("> NOERROR"));
        let mut times: Vec<f64> = answers.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        times.sort_by(f64::total_cmp);
        let p99 = times.get(times.len() * 99 / 100).with_context(|| format!("{}: no answers: {out}", self.name))?;
        Ok(p99 * 1000.0)
    }

    fn dnsperf(&self, flags: &str) -> Result<String> {
        let questions = self.lab.dir().join("questions");
        let run = self.lab.inside(&self.asker, &format!("dnsperf -s {SERVER} -d {} {flags}", questions.display()));
        ensure!(run.code == 0, "{}{}", run.out, run.err);
        Ok(run.out)
    }

    /// The server's processor time in hundredths of a second (proc_pid_stat(5), fields 14 and 15).
    fn ticks(&self) -> Result<f64> {
        let line = format!("awk '{{print $14 + $15}}' /proc/{}/stat", self.pid);
        Ok(self.lab.quietly(&line).ok().out.trim().parse()?)
    }
}

/// Reads dnsperf's statistics.
fn rate(out: &str, ticks: f64) -> Option<Rate> {
    let number = |what: &str| {
        let rest = out.lines().find_map(|line| line.trim_start().strip_prefix(what))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let answered = number("Queries completed:")?;
    Some(Rate {
        per_core: answered * 100.0 / ticks.max(1.0),
        per_second: number("Queries per second:")?,
        latency_ms: number("Average Latency (s):")? * 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dnsperfs_statistics_are_read() {
        let out = "Statistics:\n\n  Queries sent:         1000\n  Queries completed:    900 (90.00%)\n\
                   \x20 Queries per second:   449.5\n\n  Average Latency (s):  0.000500 (min 0.000020, max 0.001913)\n";
        let expected = Rate { per_core: 1800.0, per_second: 449.5, latency_ms: 0.5 };
        assert_eq!(rate(out, 50.0), Some(expected));
        assert_eq!(rate("nothing", 50.0), None);
    }
}
