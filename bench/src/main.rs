//! Measures podwire beside Debian's podman and netavark, where they are installed, and prints medians and ratios.
//!
//! ```text
//!   lab with podwire ──┐
//!   lab with podman  ──┼── one command each in turn, many rounds ──> median, ratio
//!   lab with netavark ─┘
//! ```
//!
//! **How it works.** Every peer has a lab of its own; rounds go through the peers in turn, so that what else the
//! machine does hits all alike. Times are taken inside the lab around one process. Nothing is asserted.
//!
//! **Limits.** Peers are left out of cases that take them minutes, and the line says so; `--all` measures those too.

mod images;
mod load;
mod names;
mod networks;
mod peers;
mod pods;
mod rootless;
mod table;

use anyhow::{Context, Result, bail};
use peers::Peer;
use table::{Case, Table};

/// What to measure.
struct Wish {
    /// Rounds of a case.
    rounds: usize,
    /// How many containers exist meanwhile.
    existing: Vec<usize>,
    /// Also what takes the peers minutes.
    all: bool,
    /// The rootless path alone.
    only_rootless: bool,
    /// It is only made ready.
    stays: bool,
    /// Of it the cases whose names contain one of these words.
    only_cases: String,
    /// Names alone.
    only_names: bool,
    /// Pulling a large image alone.
    only_images: bool,
    /// Commands of networks, and many published ports, alone.
    only_networks: bool,
    /// Pods alone.
    only_pods: bool,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == load::ARGUMENT) {
        return load::main(&arguments[2..]);
    }
    let wish = wish()?;
    if wish.only_rootless {
        if wish.stays {
            return rootless::stay();
        }
        table::machine(&[])?;
        return rootless::measure(wish.rounds, &wish.only_cases);
    }
    if wish.only_images {
        table::machine(&[])?;
        return images::measure(wish.rounds);
    }
    if wish.only_names {
        return names::measure(wish.rounds);
    }
    let peers = peers::found()?;
    table::machine(&peers)?;
    if wish.only_pods {
        return pods::measure(wish.rounds, &peers);
    }
    networks::commands(&wish, &peers);
    networks::published(&wish, &peers)?;
    if wish.only_networks {
        return Ok(());
    }
    one_command(&wish, &peers)?;
    with_others(&wish, &peers)?;
    with_ports(&wish, &peers)?;
    pods::measure(wish.rounds, &peers)?;
    names::measure(wish.rounds)?;
    images::measure(wish.rounds.min(3))?;
    rootless::measure(wish.rounds.min(7), "")?;
    peers::netavark_alone(wish.rounds)
}

fn wish() -> Result<Wish> {
    let mut wish = Wish {
        rounds: 15,
        existing: vec![0, 100, 500],
        all: false,
        only_rootless: false,
        stays: false,
        only_cases: String::new(),
        only_names: false,
        only_images: false,
        only_networks: false,
        only_pods: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--rounds" => wish.rounds = value()?.parse()?,
            "--existing" => wish.existing = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--all" => wish.all = true,
            "rootless" | "--rootless" => wish.only_rootless = true,
            "--stay" => wish.stays = true,
            "--only" => wish.only_cases = value()?,
            "--images" => wish.only_images = true,
            "--names" => wish.only_names = true,
            "--networks" => wish.only_networks = true,
            "--pods" => wish.only_pods = true,
            _ => {
                bail!(
                    "usage: ./x bench [--rounds 15] [--existing 0,100,500] [--all | --images | --names | --networks | --pods | rootless [--stay | --only WORD,WORD]]"
                )
            }
        }
    }
    Ok(wish)
}

/// `run --rm IMAGE true`, and the parts of a container's life.
fn one_command(wish: &Wish, peers: &[Peer]) -> Result<()> {
    let mut table = Table::new("One command", peers);
    for (name, flags) in
        [("`run --rm IMAGE true`, bridge", ""), ("`run --rm IMAGE true`, `--network none`", "--network none")]
    {
        table.case(Case::new(name), wish.rounds, |peer, _| peer.time(&format!("run --rm {flags} banner true")));
    }
    table.case(Case::new("`run -d -p 8080:80`"), wish.rounds, |peer, _| {
        let took = peer.time("run -d --name web -p 8080:80 banner");
        peer.quietly("rm -f web");
        took
    });
    table.case(Case::new("`rm -f` of it"), wish.rounds, |peer, _| {
        peer.quietly("run -d --name web -p 8080:80 banner");
        peer.time("rm -f web")
    });
    table.case(Case::new("`exec web true`"), wish.rounds, |peer, round| {
        if round == 0 {
            peer.quietly("run -d --name web banner");
        }
        peer.time("exec web true")
    });
    peers.iter().for_each(|peer| peer.quietly("rm -f web"));
    table.case(Case::new("`ps`"), wish.rounds, |peer, _| peer.time("ps"));
    table.print();
    Ok(())
}

/// Set-up and tear-down of one container beside others.
fn with_others(wish: &Wish, peers: &[Peer]) -> Result<()> {
    let mut table = Table::new("One container more, beside others", peers);
    let mut there = vec![0; peers.len()];
    for &existing in &wish.existing {
        let takes_part = |peer: &Peer| peer.is_ours() || existing <= 100 || wish.all;
        for (peer, there) in peers.iter().zip(&mut there).filter(|(peer, _)| takes_part(peer)) {
            peer.fill(*there, existing);
            *there = existing;
        }
        let case = |what: &str| Case::new(&format!("{what}, {existing} existing")).only(takes_part);
        let rounds = wish.rounds.min(11);
        table.case(case("`run -d`, bridge"), rounds, |peer, _| {
            let took = peer.time("run -d --name one banner");
            peer.quietly("rm -f one");
            took
        });
        table.case(case("`run -d`, `--network none`"), rounds, |peer, _| {
            let took = peer.time("run -d --name one --network none banner");
            peer.quietly("rm -f one");
            took
        });
        table.case(case("`rm -f`, bridge"), rounds, |peer, _| {
            peer.quietly("run -d --name one banner");
            peer.time("rm -f one")
        });
        if existing > 0 {
            let rounds = wish.rounds.min(3);
            table.case(case("`network reload --all`"), rounds, |peer, _| peer.time("network reload --all"));
        }
    }
    table.print();
    networks::memory(&peers[0], there[0])?;
    peers.iter().for_each(|peer| peer.quietly("rm -f -a"));
    Ok(())
}

/// Set-up and tear-down of one container with many published ports.
fn with_ports(wish: &Wish, peers: &[Peer]) -> Result<()> {
    let mut table = Table::new("One container with many ports", peers);
    let single = |count: u32| (1..=count).map(|i| format!("-p {}:80", 10_000 + i)).collect::<Vec<_>>().join(" ");
    let cases = [
        ("1 port", single(1)),
        ("100 ports", single(100)),
        ("1,000 ports", single(1000)),
        ("one range of 20,000", "-p 20000-39999:20000-39999".to_owned()),
    ];
    for (what, flags) in cases {
        let slow = what.starts_with("1,000") || what.starts_with("one");
        let takes_part = |peer: &Peer| peer.is_ours() || !slow || wish.all;
        let rounds = if flags.len() < 100 && !slow { wish.rounds } else { 5 };
        table.case(Case::new(&format!("`run -d`, {what}")).only(takes_part), rounds, |peer, _| {
            let took = peer.time(&format!("run -d --name many {flags} banner"));
            peer.quietly("rm -f many");
            took
        });
        table.case(Case::new(&format!("`rm -f`, {what}")).only(takes_part), rounds, |peer, _| {
            peer.quietly(&format!("run -d --name many {flags} banner"));
            peer.time("rm -f many")
        });
    }
    table.print();
    Ok(())
}
