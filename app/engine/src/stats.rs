//! What containers use of the machine: read from their control groups and network stacks, at one moment.
//!
//! Where nobody counts something (a tree without the controller, an ordinary user without a tree), it is absent, and not 0.

use std::collections::BTreeMap;

use jiff::Timestamp;
use linux::cgroups::{Group, Version};
use model::{ContainerId, PodId};

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::record::{ContainerRecord, State};

/// What one container has used.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its pod.
    pub pod: Option<PodId>,
    /// When this was read.
    pub at: Timestamp,
    /// When it was started; absent when it does not run, and then has nothing else.
    pub started: Option<Timestamp>,
    /// Processor time in all, and of it in the kernel, in nanoseconds.
    pub cpu: Option<(u64, u64)>,
    /// Bytes of memory, without files that can be dropped at once.
    pub memory: Option<u64>,
    /// The most it may have, or what the machine has.
    pub memory_limit: u64,
    /// Its processes and threads.
    pub pids: Option<u64>,
    /// Bytes read from disks.
    pub block_input: u64,
    /// Bytes written to disks.
    pub block_output: u64,
    /// By the links of its own network stack.
    pub networks: BTreeMap<String, Traffic>,
}

/// What a link has received and sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received in error.
    pub rx_errors: u64,
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped before they were sent.
    pub tx_dropped: u64,
}

/// Whose [`Stats`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// Of all that run.
    Running,
    /// Of all.
    All,
    /// Of these: names or ids.
    Named(Vec<String>),
    /// Of the containers of these pods that run.
    Pods(Vec<PodId>),
}

impl Engine {
    /// What the containers have used, oldest first or in the order they are named. An error where nothing is counted.
    pub fn stats(&self, whose: &Measured) -> Result<Vec<Stats>> {
        let up = |record: &ContainerRecord| record.state == State::Running;
        let records = match whose {
            Measured::Named(names) => names.iter().map(|name| self.named(name)).collect::<Result<_>>()?,
            Measured::All => self.records()?,
            Measured::Running => self.records()?.into_iter().filter(up).collect(),
            Measured::Pods(pods) => {
                let mut found = Vec::new();
                for pod in pods {
                    let pod = self.pod(&pod.to_string())?;
                    found.extend(self.pod_containers(&pod)?.into_iter().filter(up));
                }
                found
            }
        };
        let machine = crate::about::memory("MemTotal");
        let all: Vec<Stats> = records.iter().map(|record| self.measure(record, machine)).collect();
        let is_dark = |stats: &&Stats| stats.started.is_some() && stats.cpu.is_none() && stats.pids.is_none();
        let counted = |(_, stats): &(&ContainerRecord, &Stats)| stats.started.is_some() && stats.cpu.is_some();
        let members = records.iter().zip(&all).filter(|(record, _)| up(record) && record.has_files());
        let dark = members.clone().find(|(_, stats)| is_dark(stats));
        match (dark, members.clone().any(|pair| counted(&pair)), whose) {
            (Some((record, _)), false, _) | (Some((record, _)), true, Measured::Named(_)) => {
                Err(self.not_counted(record))
            }
            _ => Ok(all),
        }
    }

    fn not_counted(&self, record: &ContainerRecord) -> Error {
        let why = if record.settings.limits.groups == crate::config::Groups::Disabled {
            "it has no control group (--cgroups=disabled)"
        } else if self.options().rootless {
            "an ordinary user can make no control group here, which is what counts: that takes control groups of version \
             2, and a session that has been given its own (systemd's user manager does)"
        } else {
            "podwire could make no control group for it, which is what counts"
        };
        Error::new(Kind::WrongState, format!("stats is not available for container {}: {why}", record.name))
    }

    fn measure(&self, record: &ContainerRecord, machine: u64) -> Stats {
        let mut stats = Stats {
            id: record.id,
            name: record.name.to_string(),
            pod: record.pod().copied(),
            at: Timestamp::now(),
            started: None,
            cpu: None,
            memory: None,
            memory_limit: 0,
            pids: None,
            block_input: 0,
            block_output: 0,
            networks: BTreeMap::new(),
        };
        let Some(init) = record.init.filter(|init| record.state == State::Running && init.alive()) else {
            return stats;
        };
        stats.started = record.started;
        if crate::spec::own_stack(&record.settings.network.mode) {
            let text = std::fs::read_to_string(format!("/proc/{}/net/dev", init.pid)).unwrap_or_default();
            stats.networks = traffic(&text);
        }
        if let Some(group) = crate::groups::of(&self.places(&record.id)).filter(|group| !group.is_nothing()) {
            stats.cpu = processor_time(&group);
            (stats.memory, stats.memory_limit) = memory(&group, machine);
            stats.pids = number(&group.read("pids", "pids.current")).or_else(|| Some(group.threads() as u64));
            (stats.block_input, stats.block_output) = blocks(&group);
        }
        stats
    }
}

fn number(text: &std::io::Result<String>) -> Option<u64> {
    text.as_ref().ok()?.trim().parse().ok()
}

/// `KEY NUMBER` in a file of such lines.
fn entry(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, number)| number.trim().parse().ok())
}

fn processor_time(group: &Group) -> Option<(u64, u64)> {
    if group.controller("cpuacct") == Some(Version::One) {
        let system = group.read("cpuacct", "cpuacct.usage_sys");
        return Some((number(&group.read("cpuacct", "cpuacct.usage"))?, number(&system).unwrap_or_default()));
    }
    // Version 2 counts it without any controller.
    let text = group.read_unified("cpu.stat").ok()?;
    let time = |key| entry(&text, key).map(|micros| micros.saturating_mul(1000));
    Some((time("usage_usec")?, time("system_usec").unwrap_or_default()))
}

/// Used, and the most there can be.
fn memory(group: &Group, machine: u64) -> (Option<u64>, u64) {
    let (used, limit, cache) = match group.controller("memory") {
        Some(Version::One) => ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
        Some(Version::Two) => ("memory.current", "memory.max", "inactive_file"),
        None => return (None, 0),
    };
    let Some(used) = number(&group.read("memory", used)) else { return (None, 0) };
    let cache = group.read("memory", "memory.stat").ok().and_then(|text| entry(&text, cache)).unwrap_or_default();
    // `max` is no number, and what version 1 has without a limit is more than any machine.
    let limit = number(&group.read("memory", limit)).filter(|limit| *limit > 0 && *limit < machine).unwrap_or(machine);
    (Some(used.saturating_sub(cache)), limit)
}

/// Bytes read and written, of all disks.
fn blocks(group: &Group) -> (u64, u64) {
    match group.controller("blkio") {
        Some(Version::One) => {
            let files = ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"];
            let text = files.iter().find_map(|file| group.read("blkio", file).ok()).unwrap_or_default();
            blocks_of_one(&text)
        }
        Some(Version::Two) => blocks_of_two(&group.read("blkio", "io.stat").unwrap_or_default()),
        None => (0, 0),
    }
}

/// `8:0 Read 4096`
fn blocks_of_one(text: &str) -> (u64, u64) {
    let sum = |word: &str| {
        let of_line = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            (words.next() == Some(word)).then(|| words.next()?.parse::<u64>().ok()).flatten()
        };
        text.lines().filter_map(of_line).fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 …`
fn blocks_of_two(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        values.filter_map(|value| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
    };
    (sum("rbytes"), sum("wbytes"))
}

/// Of all links but `lo` (proc_pid_net(5)).
fn traffic(text: &str) -> BTreeMap<String, Traffic> {
    let of_line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let name = name.trim();
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
            &numbers[..]
        else {
            return None;
        };
        let traffic =
            Traffic { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped };
        (name != "lo").then(|| (name.to_owned(), traffic))
    };
    text.lines().filter_map(of_line).collect()
}

/// Reads `text` as each of the kernel's statistics.
pub(crate) fn read_anything(text: &str) {
    let _ = (entry(text, "usage_usec"), blocks_of_one(text), blocks_of_two(text), traffic(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_disks_were_used_for_is_summed_in_both_versions() {
        let one = "8:0 Read 4096\n8:0 Write 100\n8:0 Sync 0\n8:16 Read 4\nTotal 4200\n";
        assert_eq!(blocks_of_one(one), (4100, 100));
        let two = "8:0 rbytes=4096 wbytes=100 rios=1 wios=2 dbytes=7 dios=0\n8:16 rbytes=4\n";
        assert_eq!(blocks_of_two(two), (4100, 100));
        assert_eq!((blocks_of_one(""), blocks_of_two("garbage")), ((0, 0), (0, 0)));
    }

    #[test]
    fn traffic_is_that_of_links_but_lo() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo\n    \
                    lo:      10       1    0    0    0     0          0         0       10       1    0    0    0     0 0 0\n  \
                    eth0:    1234      12    1    2    0     0          0         0      567       8    3    4    0     0 0 0\n";
        let all = traffic(text);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["eth0"]);
        let eth0 = all["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.rx_packets, eth0.rx_errors, eth0.rx_dropped), (1234, 12, 1, 2));
        assert_eq!((eth0.tx_bytes, eth0.tx_packets, eth0.tx_errors, eth0.tx_dropped), (567, 8, 3, 4));
    }

    #[test]
    fn lines_of_a_key_and_a_number_are_found_by_the_whole_key() {
        assert_eq!(entry("usage_usec 5\nuser_usec 3\n", "user_usec"), Some(3));
        assert_eq!(entry("usage_usec_x 5\n", "usage_usec"), None);
    }
}
