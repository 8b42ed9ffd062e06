//! The processes of a container, as `top` shows them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;

use jiff::Timestamp;
use linux::ProcessRef;

use crate::durations::go_duration;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::record::State;
use crate::user::read_inside;

/// A column: the word users ask for, its heading, and what it shows of a process.
type Column = (&'static str, &'static str, fn(&Process, &Around) -> String);

/// psgo's words, as far as they mean something without SELinux and audit.
const COLUMNS: &[Column] = &[
    ("args", "COMMAND", |p, _| p.args.clone()),
    ("comm", "COMMAND", |p, _| p.comm.clone()),
    ("etime", "ELAPSED", |p, around| whole_seconds(around.uptime_ticks.saturating_sub(p.start))),
    ("group", "GROUP", |p, around| named(&around.groups, p.gids[1])),
    ("groups", "GROUPS", |p, around| {
        p.groups.iter().map(|id| named(&around.groups, *id)).collect::<Vec<_>>().join(",")
    }),
    ("hgroup", "HGROUP", |p, _| p.gids[1].to_string()),
    ("hpid", "HPID", |p, _| p.pid.to_string()),
    ("huser", "HUSER", |p, _| p.uids[1].to_string()),
    ("nice", "NI", |p, _| p.nice.clone()),
    ("pcpu", "%CPU", |p, around| {
        let lived = around.uptime_ticks.saturating_sub(p.start).max(1);
        format!("{:.3}", 100.0 * p.cpu as f64 / lived as f64)
    }),
    ("pgid", "PGID", |p, _| p.pgid.to_string()),
    ("pid", "PID", |p, _| p.inner_pid.to_string()),
    ("ppid", "PPID", |p, around| around.inner_pids.get(&p.ppid).copied().unwrap_or(0).to_string()),
    ("rgroup", "RGROUP", |p, around| named(&around.groups, p.gids[0])),
    ("rss", "RSS", |p, _| (p.rss_pages * 4).to_string()),
    ("ruser", "RUSER", |p, around| named(&around.users, p.uids[0])),
    ("seccomp", "SECCOMP", |p, _| match p.seccomp.as_str() {
        "1" => "strict".to_owned(),
        "2" => "filter".to_owned(),
        _ => "disabled".to_owned(),
    }),
    ("state", "STATE", |p, _| p.state.clone()),
    ("stime", "STIME", |p, around| {
        let ago = (around.uptime_ticks.saturating_sub(p.start) / HZ) as i64;
        (Timestamp::from_second(around.now.as_second() - ago).unwrap_or_default()).strftime("%H:%M:%S").to_string()
    }),
    ("time", "TIME", |p, _| whole_seconds(p.cpu)),
    ("tty", "TTY", |p, _| p.tty.clone()),
    ("user", "USER", |p, around| named(&around.users, p.uids[1])),
    ("vsz", "VSZ", |p, _| (p.vsize / 1024).to_string()),
];

/// What is shown without being asked.
const USUAL: [&str; 8] = ["user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"];

/// Ticks of a second in /proc, on every Linux (USER_HZ).
const HZ: u64 = 100;

struct Around {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
    uptime_ticks: u64,
    now: Timestamp,
    /// Numbers in the container by numbers here.
    inner_pids: BTreeMap<u32, u32>,
}

struct Process {
    pid: u32,
    inner_pid: u32,
    ppid: u32,
    pgid: u32,
    state: String,
    comm: String,
    args: String,
    tty: String,
    nice: String,
    /// Of user and kernel together, in ticks.
    cpu: u64,
    start: u64,
    vsize: u64,
    rss_pages: u64,
    /// Real and effective.
    uids: [u32; 2],
    gids: [u32; 2],
    groups: Vec<u32>,
    seccomp: String,
}

impl Engine {
    /// Headings, then a row per process. `None` when a word is no column, and so is meant for ps(1).
    pub fn top(&self, name: &str, words: &[String]) -> Result<Option<Vec<Vec<String>>>> {
        let record = self.named(name)?;
        let wrong = || Error::new(Kind::WrongState, "top can only be used on running containers".to_owned());
        let init = record.init.filter(|init| record.state == State::Running && init.alive()).ok_or_else(wrong)?;
        let words: Vec<&str> = words.iter().flat_map(|word| word.split(',')).collect();
        let words = if words.is_empty() { USUAL.to_vec() } else { words };
        let column = |word: &&str| COLUMNS.iter().find(|(known, ..)| known == word);
        let Some(columns) = words.iter().map(column).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let group = crate::groups::of(&self.places(&record.id));
        let processes = processes(&init, group.as_ref());
        let around = around(&init, &processes)?;
        let mut rows = vec![columns.iter().map(|(_, heading, _)| (*heading).to_owned()).collect()];
        rows.extend(processes.iter().map(|process| columns.iter().map(|(.., show)| show(process, &around)).collect()));
        Ok(Some(rows))
    }
}

fn around(init: &ProcessRef, processes: &[Process]) -> Result<Around> {
    let root = File::open(format!("/proc/{}/root", init.pid)).map_err(|e| Error::at("the container's root", e))?;
    let names = |file: &str| {
        let text = read_inside(root.as_fd(), file).unwrap_or_default();
        let entry = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        // Of two names for a number the first counts.
        text.lines().rev().filter_map(entry).collect()
    };
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    Ok(Around {
        users: names("etc/passwd"),
        groups: names("etc/group"),
        uptime_ticks: (seconds * HZ as f64) as u64,
        now: Timestamp::now(),
        inner_pids: processes.iter().map(|process| (process.pid, process.inner_pid)).collect(),
    })
}

/// Those of the container's control group where it has one, else of its PID namespace, by number.
fn processes(init: &ProcessRef, group: Option<&linux::cgroups::Group>) -> Vec<Process> {
    let space = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = space(init.pid);
    let mut pids: Vec<u32> = match group.map(linux::cgroups::Group::processes).filter(|pids| !pids.is_empty()) {
        Some(pids) => pids,
        None => {
            let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            numbers.filter(|pid| ours.is_some() && space(*pid) == ours).collect()
        }
    };
    pids.sort_unstable();
    // One that ends meanwhile is left out.
    pids.into_iter().filter_map(process).collect()
}

/// From /proc (proc_pid_stat(5), proc_pid_status(5)).
fn process(pid: u32) -> Option<Process> {
    let read = |file: &str| {
        std::fs::read(format!("/proc/{pid}/{file}")).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stat, status) = (read("stat")?, read("status")?);
    let comm = stat.get(stat.find('(')? + 1..stat.rfind(')')?)?.to_owned();
    // From the third field on.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split_whitespace().collect();
    let number = |n: usize| fields.get(n - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let line = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or_default().trim()
    };
    let ids = |key: &str| {
        let mut ids = line(key).split_whitespace().map(|text| text.parse().unwrap_or_default());
        [ids.next().unwrap_or_default(), ids.next().unwrap_or_default()]
    };
    let args = read("cmdline").unwrap_or_default().trim_end_matches('\0').replace('\0', " ");
    Some(Process {
        pid,
        inner_pid: line("NSpid").split_whitespace().last().and_then(|text| text.parse().ok()).unwrap_or(pid),
        ppid: number(4) as u32,
        pgid: number(5) as u32,
        state: fields.first().copied().unwrap_or_default().to_owned(),
        args: if args.is_empty() { format!("[{comm}]") } else { args },
        comm,
        tty: terminal(number(7)),
        nice: fields.get(16).copied().unwrap_or_default().to_owned(),
        cpu: number(14) + number(15),
        start: number(22),
        vsize: number(23),
        rss_pages: number(24),
        uids: ids("Uid"),
        gids: ids("Gid"),
        groups: line("Groups").split_whitespace().filter_map(|text| text.parse().ok()).collect(),
        seccomp: line("Seccomp").to_owned(),
    })
}

/// Pseudo-terminals have the major numbers 136 to 143 (Documentation/admin-guide/devices.txt).
fn terminal(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        _ => "?".to_owned(),
    }
}

fn named(names: &BTreeMap<u32, String>, id: u32) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// A number of ticks as Go's `Duration`, without fractions.
fn whole_seconds(ticks: u64) -> String {
    go_duration((ticks / HZ).saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read_from_proc() {
        let me = process(std::process::id()).unwrap();
        assert_eq!(me.pid, std::process::id());
        assert!(me.args.contains("engine") && me.vsize > 0 && me.start > 0, "{}", me.args);
        assert_eq!(whole_seconds(3723 * HZ), "1h2m3s");
        assert_eq!((terminal(34816), terminal(0)), ("pts/0".to_owned(), "?".to_owned()));
    }
}
