//! Medians and ratios, as a Markdown table.

use anyhow::Result;

use crate::peers::Peer;

/// One line of a table.
pub(crate) struct Case<'a> {
    name: String,
    takes_part: Box<dyn Fn(&Peer) -> bool + 'a>,
}

impl<'a> Case<'a> {
    /// A case that every peer takes part in.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), takes_part: Box::new(|_| true) }
    }

    /// For these peers alone: the others would take minutes.
    pub(crate) fn only(self, takes_part: impl Fn(&Peer) -> bool + 'a) -> Self {
        Self { takes_part: Box::new(takes_part), ..self }
    }
}

/// Lines of cases; the first peer is podwire, and ratios are to it.
pub(crate) struct Table<'a> {
    title: String,
    peers: &'a [Peer],
    lines: Vec<String>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(title: &str, peers: &'a [Peer]) -> Self {
        Self { title: title.to_owned(), peers, lines: Vec::new() }
    }

    /// Measures: each round asks every peer once, in turn. `None` is a command that failed.
    pub(crate) fn case(&mut self, case: Case, rounds: usize, mut measure: impl FnMut(&Peer, usize) -> Option<f64>) {
        eprintln!("measuring {} …", case.name);
        let mut times: Vec<Vec<Option<f64>>> = vec![Vec::new(); self.peers.len()];
        for round in 0..rounds {
            for (peer, times) in self.peers.iter().zip(&mut times).filter(|(peer, _)| (case.takes_part)(peer)) {
                times.push(measure(peer, round));
            }
        }
        let medians: Vec<Result<f64, &str>> = times.into_iter().map(median).collect();
        let shown: Vec<String> =
            medians.iter().map(|m| m.map_or_else(str::to_owned, |ms| format!("{ms:.1}"))).collect();
        let ratio = |other: &Result<f64, &str>| match (medians[0], other) {
            (Ok(ours), Ok(theirs)) => format!("{:.1}×", theirs / ours),
            _ => "–".to_owned(),
        };
        let ratios: Vec<String> = medians.iter().skip(1).map(ratio).collect();
        self.lines.push(format!(
            "| {} | {} |",
            case.name,
            shown.iter().chain(&ratios).cloned().collect::<Vec<_>>().join(" | ")
        ));
    }

    /// Shows it.
    pub(crate) fn print(&self) {
        let names: Vec<String> = self.peers.iter().map(|peer| format!("{} ms", peer.name)).collect();
        let ratios: Vec<String> = self.peers.iter().skip(1).map(|peer| format!("{}/podwire", peer.name)).collect();
        let columns: Vec<String> = names.into_iter().chain(ratios).collect();
        println!("\n## {}\n\n| | {} |\n|---|{}", self.title, columns.join(" | "), "---|".repeat(columns.len()));
        self.lines.iter().for_each(|line| println!("{line}"));
    }
}

/// The median, or why there is none.
fn median(times: Vec<Option<f64>>) -> Result<f64, &'static str> {
    if times.is_empty() {
        return Err("not measured");
    }
    let mut times: Vec<f64> = times.into_iter().collect::<Option<_>>().ok_or("fails")?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Says on what this was measured.
pub(crate) fn machine(peers: &[Peer]) -> Result<()> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, model)| model));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = std::thread::available_parallelism()?;
    println!(
        "Kernel {}, {cores} × {}. Medians of single commands in milliseconds.\n",
        kernel.trim(),
        model.unwrap_or("unknown CPU")
    );
    for peer in peers {
        println!("* {}: {}", peer.name, peer.version());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn one_failure_makes_no_median() {
        assert_eq!(median(vec![Some(1.0), None]), Err("fails"));
        assert_eq!(median(vec![]), Err("not measured"));
        assert_eq!(median(vec![Some(3.0), Some(1.0), Some(2.0)]), Ok(2.0));
    }
}
