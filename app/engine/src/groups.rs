//! The control group of a container: made before its first process, which is born into it, removed after its last.
//!
//! ```text
//!   launch: Trees::find ─> group of podwire-ID ─> userdata/cgroup.json ─> mkdir ─> limits written
//!   monitor: userdata/cgroup.json ─> doors ─> the runtime's process joins, and with it all it starts
//!   take_down: kill what is left ─> rmdir
//! ```
//!
//! The runtime is told to leave control groups alone: crun refuses machines with both versions, and everything it would
//! do is a few files. Where no group can be made, a container runs all the same, and a limit that was asked for is
//! missed aloud.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use linux::cgroups::{Group, Trees, Version};
use linux::file::{Durability, write_atomic};

use crate::config::{Groups, Limits};
use crate::engine::{Engine, Places, load, save};
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::record::{ContainerRecord, State};

/// Those we have a use for without being asked.
const USUAL: [&str; 2] = ["memory", "pids"];

fn file(places: &Places) -> PathBuf {
    places.run_data().join("cgroup.json")
}

/// The group of a container that is up; `None` where it has none.
pub(crate) fn of(places: &Places) -> Option<Group> {
    serde_json::from_slice(&std::fs::read(file(places)).ok()?).ok()
}

/// What a process writes to in order to be in the container's group.
pub(crate) fn doors(places: &Places) -> Result<Vec<OwnedFd>> {
    let Some(group) = of(places) else { return Ok(Vec::new()) };
    group.doors().map_err(|e| Error::cannot_start(format!("cannot use the container's control group: {e}")))
}

/// Makes the group of a container that is being started, with its limits; a warning for each that cannot be held.
pub(crate) fn make(record: &ContainerRecord, places: &Places) -> Result<Vec<String>> {
    let limits = &record.settings.limits;
    if limits.groups == Groups::Disabled {
        return Ok(limits
            .asked()
            .into_iter()
            .map(|flag| format!("{flag} is not held with --cgroups=disabled"))
            .collect());
    }
    let mut wanted = USUAL.to_vec();
    wanted.extend(
        [("cpu", limits.cpu_time().is_some() || limits.cpu_shares.is_some())]
            .map(|(name, is)| if is { name } else { "" }),
    );
    if limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some() {
        wanted.push("cpuset");
    }
    wanted.retain(|name| !name.is_empty());
    if limits.parent.as_ref().is_some_and(|parent| parent.split('/').any(|part| part == "..")) {
        return Err(Error::usage(format!("--cgroup-parent {:?}: must be a path without ..", limits.parent)));
    }
    let trees = Trees::find().map_err(|e| Error::at("cannot look for control groups", e))?;
    let mut group = trees.group(&format!("podwire-{}", record.id), limits.parent.as_deref(), &wanted);
    // Remembered before it is there: what is killed in between is removed by whoever repairs.
    let text = serde_json::to_vec(&group).map_err(Error::usage)?;
    write_atomic(&file(places), &text, 0o600, Durability::ThisBoot)
        .map_err(|e| Error::at(file(places).display(), e))?;
    if limits.parent.is_some() {
        group.make_parents();
    }
    group.make();
    let text = serde_json::to_vec(&group).map_err(Error::usage)?;
    write_atomic(&file(places), &text, 0o600, Durability::ThisBoot)
        .map_err(|e| Error::at(file(places).display(), e))?;
    apply(&group, limits)
}

/// Kills what is left in the group and removes it.
pub(crate) fn remove(places: &Places) -> Result<()> {
    let Some(group) = of(places) else { return Ok(()) };
    let wrong = |e: io::Error| Error::at("cannot remove the container's control group", e);
    match group.remove() {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
            group.kill().map_err(wrong)?;
            wait_empty(&group);
            group.remove().map_err(wrong)
        }
        done => done.map_err(wrong),
    }
}

/// Processes that were killed are in the group until they have been reaped.
fn wait_empty(group: &Group) {
    for pid in group.processes() {
        if let Ok(process) = linux::ProcessRef::of(pid) {
            // Long enough for any that can end at all.
            let _ = process.wait_end(Some(std::time::Duration::from_secs(2)));
        }
    }
}

/// Writes the limits; a sentence for each that the group cannot hold.
pub(crate) fn apply(group: &Group, limits: &Limits) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    for setting in settings(limits) {
        let written = match group.controller(setting.controller) {
            None => None,
            Some(version) => Some(match version {
                Version::One => setting.one.as_ref(),
                Version::Two => setting.two.as_ref(),
            }),
        };
        let done = match written {
            None => Err(io::ErrorKind::NotFound.into()),
            // The version has no such thing, and what comes nearest is there without.
            Some(None) => Ok(()),
            Some(Some((file, text))) => group.write(setting.controller, file, text),
        };
        match done {
            Ok(()) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                let cannot = format!(
                    "{} is not held: the controller {} is not available to podwire here",
                    setting.flag, setting.controller
                );
                if setting.asked && !missed.contains(&cannot) {
                    missed.push(cannot);
                }
            }
            Err(e) => return Err(Error::cannot_start(format!("cannot set {}: {e}", setting.flag))),
        }
    }
    Ok(missed)
}

/// One file of a controller, by version.
struct Setting {
    flag: &'static str,
    /// Was it asked for, or is it a default?
    asked: bool,
    controller: &'static str,
    one: Option<(&'static str, String)>,
    two: Option<(&'static str, String)>,
}

fn settings(limits: &Limits) -> Vec<Setting> {
    let mut all = Vec::new();
    let add = |all: &mut Vec<Setting>, flag, controller, one: (&'static str, String), two: (&'static str, String)| {
        all.push(Setting {
            flag,
            asked: true,
            controller,
            one: Some(one).filter(|(name, _)| !name.is_empty()),
            two: Some(two).filter(|(name, _)| !name.is_empty()),
        });
    };
    let none = || ("", String::new());
    if let Some(memory) = limits.memory {
        add(
            &mut all,
            "--memory",
            "memory",
            ("memory.limit_in_bytes", memory.to_string()),
            ("memory.max", memory.to_string()),
        );
    }
    if let Some(low) = limits.memory_reservation {
        add(
            &mut all,
            "--memory-reservation",
            "memory",
            ("memory.soft_limit_in_bytes", low.to_string()),
            ("memory.low", low.to_string()),
        );
    }
    match (limits.memory, limits.memory_swap) {
        (_, Some(-1)) => add(
            &mut all,
            "--memory-swap",
            "memory",
            ("memory.memsw.limit_in_bytes", "-1".to_owned()),
            ("memory.swap.max", "max".to_owned()),
        ),
        // Version 1 counts both together, version 2 swap alone.
        (Some(memory), Some(both)) => {
            let swap = both.saturating_sub(i64::try_from(memory).unwrap_or(i64::MAX)).max(0);
            add(
                &mut all,
                "--memory-swap",
                "memory",
                ("memory.memsw.limit_in_bytes", both.to_string()),
                ("memory.swap.max", swap.to_string()),
            );
        }
        // As much again, as Podman has it.
        (Some(memory), None) => all.push(Setting {
            flag: "--memory-swap",
            asked: false,
            controller: "memory",
            one: Some(("memory.memsw.limit_in_bytes", memory.saturating_mul(2).to_string())),
            two: Some(("memory.swap.max", memory.to_string())),
        }),
        (None, _) => {}
    }
    if let Some((quota, period)) = limits.cpu_time() {
        let flag = if limits.nano_cpus.is_some() { "--cpus" } else { "--cpu-quota" };
        let two = if quota < 0 { format!("max {period}") } else { format!("{quota} {period}") };
        add(&mut all, flag, "cpu", ("cpu.cfs_period_us", period.to_string()), none());
        add(&mut all, flag, "cpu", ("cpu.cfs_quota_us", quota.to_string()), ("cpu.max", two));
    }
    if let Some(shares) = limits.cpu_shares {
        // From 2 … 262,144 to 1 … 10,000, as runtimes do it.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142;
        add(&mut all, "--cpu-shares", "cpu", ("cpu.shares", shares.to_string()), ("cpu.weight", weight.to_string()));
    }
    if let Some(set) = &limits.cpuset_cpus {
        add(&mut all, "--cpuset-cpus", "cpuset", ("cpuset.cpus", set.clone()), ("cpuset.cpus", set.clone()));
    }
    if let Some(set) = &limits.cpuset_mems {
        add(&mut all, "--cpuset-mems", "cpuset", ("cpuset.mems", set.clone()), ("cpuset.mems", set.clone()));
    }
    if let Some(most) = limits.most_pids() {
        let text = ("pids.max", most.to_string());
        all.push(Setting {
            flag: "--pids-limit",
            asked: limits.pids.is_some(),
            controller: "pids",
            one: Some(text.clone()),
            two: Some(text),
        });
    }
    all
}

/// Did the kernel kill one of its processes because it had no more memory?
pub(crate) fn ran_out_of_memory(places: &Places) -> bool {
    let Some(group) = of(places) else { return false };
    let file = match group.controller("memory") {
        Some(Version::One) => "memory.oom_control",
        Some(Version::Two) => "memory.events",
        None => return false,
    };
    let text = group.read("memory", file).unwrap_or_default();
    text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
}

impl Engine {
    /// Stops all processes of a running container where they are.
    pub fn pause(&mut self, name: &str) -> Result<model::ContainerId> {
        self.set_paused(name, true)
    }

    /// Lets them go on.
    pub fn unpause(&mut self, name: &str) -> Result<model::ContainerId> {
        self.set_paused(name, false)
    }

    fn set_paused(&mut self, name: &str, paused: bool) -> Result<model::ContainerId> {
        let record = self.named(name)?;
        let wrong = |what: &str| Error::new(Kind::WrongState, format!("{what}: container state improper"));
        if paused && (record.state != State::Running || record.paused) {
            return Err(wrong(&format!("{:?} is not running, can't pause", record.shown_state().to_string())));
        }
        if !paused && !record.paused {
            return Err(wrong(&format!("{:?} is not paused, can't unpause", record.id.to_string())));
        }
        let group = of(&self.places(&record.id)).filter(|group| !group.is_nothing()).ok_or_else(|| {
            Error::usage(
                "cannot pause the container: podwire could make no control group for it, which is what can be frozen",
            )
        })?;
        group.freeze(paused).map_err(|e| Error::at("cannot freeze the container's control group", e))?;
        self.store.write(|tx| -> Result<()> {
            let Some(mut record) = load(tx, &record.id)?.filter(|record| record.state == State::Running) else {
                return Ok(());
            };
            record.paused = paused;
            save(tx, &record)?;
            Ok(tx.event_add(&events::of_container(&record, if paused { "pause" } else { "unpause" }))?)
        })?;
        Ok(record.id)
    }

    /// Before a signal: what is frozen hears none.
    pub(crate) fn thaw(&mut self, record: &ContainerRecord) -> Result<()> {
        if record.paused {
            self.set_paused(&record.id.to_string(), false)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limits: &Limits, one: &[&str], two: &[&str]) {
        let show = |pick: fn(&Setting) -> &Option<(&'static str, String)>| -> Vec<String> {
            settings(limits)
                .iter()
                .filter_map(|s| pick(s).as_ref().map(|(file, text)| format!("{file} {text}")))
                .collect()
        };
        assert_eq!(show(|s| &s.one), one);
        assert_eq!(show(|s| &s.two), two);
    }

    #[test]
    fn limits_are_files_of_both_versions() {
        check(&Limits::default(), &["pids.max 2048"], &["pids.max 2048"]);
        let some = Limits {
            memory: Some(1 << 20),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: Some(1024),
            pids: Some(-1),
            ..Limits::default()
        };
        check(
            &some,
            &[
                "memory.limit_in_bytes 1048576",
                "memory.memsw.limit_in_bytes 2097152",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us 150000",
                "cpu.shares 1024",
            ],
            &["memory.max 1048576", "memory.swap.max 1048576", "cpu.max 150000 100000", "cpu.weight 39"],
        );
        let swap = Limits { memory: Some(100), memory_swap: Some(150), pids: Some(0), ..Limits::default() };
        check(
            &swap,
            &["memory.limit_in_bytes 100", "memory.memsw.limit_in_bytes 150"],
            &["memory.max 100", "memory.swap.max 50"],
        );
    }
}
