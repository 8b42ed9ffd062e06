//! Networks: their commands, many published ports, and what netd takes of memory.

use anyhow::{Context, Result};
use lab::HOST4;

use crate::Wish;
use crate::peers::Peer;
use crate::table::{Case, Table};

/// The life of a network, with a container that joins and leaves it; names are served on all of them.
pub(crate) fn commands(wish: &Wish, peers: &[Peer]) {
    let mut table = Table::new("Networks", peers);
    let all = |command: &str| peers.iter().for_each(|peer| peer.quietly(command));
    all("network create first");
    all("run -d --name member --network first banner");
    table.case(Case::new("`network create`"), wish.rounds, |peer, _| {
        let took = peer.time("network create shop");
        peer.quietly("network rm shop");
        took
    });
    table.case(Case::new("`network rm`"), wish.rounds, |peer, _| {
        peer.quietly("network create shop");
        peer.time("network rm shop")
    });
    all("network create shop");
    table.case(Case::new("`network connect`"), wish.rounds, |peer, _| {
        let took = peer.time("network connect shop member");
        peer.quietly("network disconnect shop member");
        took
    });
    table.case(Case::new("`network disconnect`"), wish.rounds, |peer, _| {
        peer.quietly("network connect shop member");
        peer.time("network disconnect shop member")
    });
    table.case(Case::new("`run -d`, names served"), wish.rounds, |peer, _| {
        let took = peer.time("run -d --name one --network shop banner");
        peer.quietly("rm -f one");
        took
    });
    table.case(Case::new("`update --publish-add`").only(Peer::is_ours), wish.rounds, |peer, _| {
        let took = peer.time("update --publish-add 8080:80 member");
        peer.quietly("update --publish-rm 8080 member");
        took
    });
    table.print();
    all("rm -f member");
    all("network rm shop");
    all("network rm first");
}

/// Each of some containers publishes a thousand ports.
const CONTAINERS: u32 = 5;

/// One container more beside 5,000 published ports; and connecting through the first and the last of 2,000 that one
/// container has. The peers would take many minutes to publish as much.
pub(crate) fn published(wish: &Wish, peers: &[Peer]) -> Result<()> {
    let mut table = Table::new("Beside 5,000 published ports", &peers[..1]);
    let ours = &peers[0];
    let one = |table: &mut Table<'_>, when: &str| {
        table.case(Case::new(&format!("`run -d -p 8080:80`, {when}")), wish.rounds, |peer, _| {
            let took = peer.time("run -d --name one -p 8080:80 banner");
            peer.quietly("rm -f one");
            took
        });
    };
    ours.quietly("run -d --name other0 banner");
    one(&mut table, "none published");
    for n in 0..CONTAINERS {
        ours.quietly(&format!("run -d --name ports{n} {} banner", single(10_001 + 1000 * n, 1000)));
    }
    one(&mut table, "5,000 published");
    table.print();
    ours.quietly("rm -f -a");
    ours.quietly(&format!("run -d --name web {} banner", single(10_001, 2000)));
    let (first, last) = ours.connects(10_001, 12_000)?;
    println!(
        "\nTCP connect from another host, median of 500: through the first of 2,000 published ports {first:.0} µs, through the last {last:.0} µs."
    );
    ours.quietly("rm -f -a");
    Ok(())
}

fn single(first: u32, count: u32) -> String {
    (first..first + count).map(|port| format!("-p {port}:80")).collect::<Vec<_>>().join(" ")
}

/// How much memory netd has, with the containers there are.
pub(crate) fn memory(ours: &Peer, containers: usize) -> Result<()> {
    let status = ours.lab.quietly("cat /proc/$(pgrep -xo podwire-netd)/status").out;
    let size = |key: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("{key} in {status}"))?;
        Ok::<f64, anyhow::Error>(line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<f64>()? / 1024.0)
    };
    let (all, own) = (size("VmRSS")?, size("RssAnon")?);
    println!("\nnetd beside {containers} containers: {all:.1} MB resident, {own:.1} MB of them its own.");
    Ok(())
}

impl Peer {
    /// Median microseconds of a TCP connect from another host, through one port and another in turn.
    fn connects(&self, first: u16, last: u16) -> Result<(f64, f64)> {
        let script = format!(
            "python3 - <<'END'
import socket, statistics, time
def connect(port):
    with socket.socket() as s:
        begun = time.perf_counter()
        s.connect(('{HOST4}', port))
        return (time.perf_counter() - begun) * 1e6
times = [(connect({first}), connect({last})) for _ in range(500)]
print(*(statistics.median(t) for t in zip(*times)))
END"
        );
        let run = self.lab.outside(&script);
        let mut medians = run.out.split_whitespace().map(str::parse::<f64>);
        match (medians.next(), medians.next()) {
            (Some(Ok(first)), Some(Ok(last))) => Ok((first, last)),
            _ => Err(anyhow::anyhow!("connecting through published ports: {}{}", run.out, run.err)),
        }
    }
}
