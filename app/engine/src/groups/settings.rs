//! Limits as files of control groups: by controller, and by version.

use std::io;
use std::path::Path;

use linux::cgroups::{Group, Version};

use crate::config::{Limits, RateKind};
use crate::error::{Error, Result};

/// Writes the limits; a sentence for each that the group cannot hold.
pub(crate) fn apply(group: &Group, limits: &Limits) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    let mut again = Vec::new();
    let settings = settings(limits)?;
    for setting in &settings {
        match put(group, setting) {
            Ok(Some(cannot)) if setting.asked && !missed.contains(&cannot) => missed.push(cannot),
            Ok(_) => {}
            // Of two limits of which one must not be below the other, which is to be written first depends on what is
            // there.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => again.push(setting),
            Err(e) => return Err(cannot_set(setting, &e)),
        }
    }
    for setting in again {
        put(group, setting).map_err(|e| cannot_set(setting, &e))?;
    }
    Ok(missed)
}

fn cannot_set(setting: &Setting, error: &io::Error) -> Error {
    Error::cannot_start(format!("cannot set {}: {error}", setting.flag))
}

/// Writes one; what to say when it cannot be held.
fn put(group: &Group, setting: &Setting) -> io::Result<Option<String>> {
    let Setting { flag, controller, .. } = setting;
    let away = || format!("{flag} is not held: the controller {controller} is not available to podwire here");
    let files = match group.controller(controller) {
        None => return Ok(Some(away())),
        Some(Version::One) => &setting.one,
        Some(Version::Two) => &setting.two,
    };
    let files = match files {
        Files::Elsewhere => return Ok(None),
        Files::Never => {
            return Ok(Some(format!(
                "{flag} is not held: control groups of this machine's version have no such thing"
            )));
        }
        Files::First(files) => files,
    };
    let Some((file, text)) = files.iter().find(|(file, _)| group.has(controller, file)) else {
        return Ok(Some(match files.first() {
            Some((file, _)) => format!("{flag} is not held: this machine's kernel has no {file}"),
            None => away(),
        }));
    };
    match group.write(controller, file, text) {
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            Ok(Some(away()))
        }
        done => done.map(|()| None),
    }
}

/// One limit.
struct Setting {
    flag: &'static str,
    /// Was it asked for, or is it a default?
    asked: bool,
    controller: &'static str,
    one: Files,
    two: Files,
}

/// Where a version has it.
enum Files {
    /// In the first of these that is there: file and text.
    First(Vec<(String, String)>),
    /// What comes nearest is another setting's.
    Elsewhere,
    /// Nowhere.
    Never,
}

fn file(name: &str, text: impl ToString) -> Files {
    Files::First(vec![(name.to_owned(), text.to_string())])
}

fn settings(limits: &Limits) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    let mut add = |flag, controller, one: Files, two: Files| {
        all.push(Setting { flag, asked: true, controller, one, two });
    };
    if let Some(memory) = limits.memory {
        add("--memory", "memory", file("memory.limit_in_bytes", memory), file("memory.max", memory));
    }
    if let Some(low) = limits.memory_reservation {
        add("--memory-reservation", "memory", file("memory.soft_limit_in_bytes", low), file("memory.low", low));
    }
    match (limits.memory, limits.memory_swap) {
        (_, Some(-1)) => {
            add("--memory-swap", "memory", file("memory.memsw.limit_in_bytes", "-1"), file("memory.swap.max", "max"))
        }
        // Version 1 counts both together, version 2 swap alone.
        (Some(memory), Some(both)) => {
            let swap = both.saturating_sub(i64::try_from(memory).unwrap_or(i64::MAX)).max(0);
            add("--memory-swap", "memory", file("memory.memsw.limit_in_bytes", both), file("memory.swap.max", swap));
        }
        // As much again, as Podman has it.
        (Some(memory), None) => {
            let both = file("memory.memsw.limit_in_bytes", memory.saturating_mul(2));
            add(DEFAULT_SWAP, "memory", both, file("memory.swap.max", memory));
        }
        (None, _) => {}
    }
    if let Some(swappiness) = limits.memory_swappiness {
        add("--memory-swappiness", "memory", file("memory.swappiness", swappiness), Files::Never);
    }
    if limits.oom_kill_disable {
        add("--oom-kill-disable", "memory", file("memory.oom_control", 1), Files::Never);
    }
    if let Some((quota, period)) = limits.cpu_time() {
        let flag = if limits.nano_cpus.is_some() { "--cpus" } else { "--cpu-quota" };
        let two = if quota < 0 { format!("max {period}") } else { format!("{quota} {period}") };
        add(flag, "cpu", file("cpu.cfs_period_us", period), Files::Elsewhere);
        add(flag, "cpu", file("cpu.cfs_quota_us", quota), file("cpu.max", two));
    }
    if let Some(shares) = limits.cpu_shares {
        // From 2 … 262,144 to 1 … 10,000, as runtimes do it.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142;
        add("--cpu-shares", "cpu", file("cpu.shares", shares), file("cpu.weight", weight));
    }
    if let Some(period) = limits.cpu_rt_period {
        add("--cpu-rt-period", "cpu", file("cpu.rt_period_us", period), Files::Never);
    }
    if let Some(runtime) = limits.cpu_rt_runtime {
        add("--cpu-rt-runtime", "cpu", file("cpu.rt_runtime_us", runtime), Files::Never);
    }
    if let Some(set) = &limits.cpuset_cpus {
        add("--cpuset-cpus", "cpuset", file("cpuset.cpus", set), file("cpuset.cpus", set));
    }
    if let Some(set) = &limits.cpuset_mems {
        add("--cpuset-mems", "cpuset", file("cpuset.mems", set), file("cpuset.mems", set));
    }
    if let Some(weight) = limits.blkio_weight {
        let either = |one: &str, bfq: &str, text: String, bfq_text: String| {
            Files::First(vec![(one.to_owned(), text), (bfq.to_owned(), bfq_text)])
        };
        let (text, two) = (weight.to_string(), format!("default {}", weight_of_two(weight)));
        let bfq = |name| either(name, "blkio.bfq.weight", text.clone(), text.clone());
        add("--blkio-weight", "blkio", bfq("blkio.weight"), either("io.weight", "io.bfq.weight", two, text.clone()));
    }
    for (device, weight) in &limits.blkio_weight_device {
        let number = number_of(device)?;
        let (text, two) = (format!("{number} {weight}"), format!("{number} {}", weight_of_two(*weight)));
        let files = |list: &[(&str, &str)]| {
            Files::First(list.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
        };
        let one = files(&[("blkio.weight_device", &text), ("blkio.bfq.weight_device", &text)]);
        add("--blkio-weight-device", "blkio", one, files(&[("io.weight", &two), ("io.bfq.weight", &text)]));
    }
    for rate in &limits.rates {
        let (one, key) = match rate.kind {
            RateKind::ReadBytes => ("blkio.throttle.read_bps_device", "rbps"),
            RateKind::WriteBytes => ("blkio.throttle.write_bps_device", "wbps"),
            RateKind::Reads => ("blkio.throttle.read_iops_device", "riops"),
            RateKind::Writes => ("blkio.throttle.write_iops_device", "wiops"),
        };
        let number = number_of(&rate.device)?;
        let two = format!("{number} {key}={}", rate.most);
        add(rate.kind.flag(), "blkio", file(one, format!("{number} {}", rate.most)), file("io.max", two));
    }
    for (name, text) in &limits.conf {
        // The controller is the first part of a file's name.
        let known = ["memory", "cpu", "cpuset", "pids", "io"];
        let first = name.split('.').next().unwrap_or_default();
        let controller = known.into_iter().find(|known| *known == first).unwrap_or("memory");
        add("--cgroup-conf", if controller == "io" { "blkio" } else { controller }, Files::Never, file(name, text));
    }
    if let Some(most) = limits.most_pids() {
        add("--pids-limit", "pids", file("pids.max", most), file("pids.max", most));
    }
    for setting in &mut all {
        setting.asked = match setting.flag {
            DEFAULT_SWAP => false,
            "--pids-limit" => limits.pids.is_some(),
            _ => true,
        };
    }
    Ok(all)
}

/// What nobody asked for.
const DEFAULT_SWAP: &str = "--memory-swap of as much again as --memory";

/// From 10 … 1000 to 1 … 10,000, as runtimes do it.
fn weight_of_two(weight: u16) -> u32 {
    1 + (u32::from(weight.clamp(10, 1000)) - 10) * 9_999 / 990
}

/// `8:0`: a disk by its device file.
fn number_of(device: &Path) -> Result<String> {
    let wrong = |why: &dyn std::fmt::Display| Error::usage(format!("{}: {why}", device.display()));
    let stat = rustix::fs::stat(device).map_err(|e| wrong(&io::Error::from(e)))?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::BlockDevice => {
            Ok(format!("{}:{}", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
        }
        _ => Err(wrong(&"not a block device, of which a limit could be held")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limits: &Limits, one: &[&str], two: &[&str]) {
        let show = |pick: fn(&Setting) -> &Files| -> Vec<String> {
            let settings = settings(limits).unwrap();
            let files = settings.iter().filter_map(|s| match pick(s) {
                Files::First(files) => files.first(),
                Files::Elsewhere | Files::Never => None,
            });
            files.map(|(file, text)| format!("{file} {text}")).collect()
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

    #[test]
    fn limits_of_disks_are_by_number_and_in_each_versions_scale() {
        let weight = Limits { blkio_weight: Some(500), pids: Some(-1), ..Limits::default() };
        check(&weight, &["blkio.weight 500"], &["io.weight default 4950"]);
        assert_eq!((weight_of_two(10), weight_of_two(1000)), (1, 10_000));
        assert!(number_of(Path::new("/dev/null")).unwrap_err().message.contains("not a block device"));
    }

    #[test]
    fn what_a_version_does_not_have_is_said() {
        let only_one = Limits {
            memory_swappiness: Some(10),
            oom_kill_disable: true,
            cpu_rt_period: Some(1000),
            pids: Some(-1),
            ..Limits::default()
        };
        check(&only_one, &["memory.swappiness 10", "memory.oom_control 1", "cpu.rt_period_us 1000"], &[]);
        let conf =
            Limits { conf: [("memory.high".to_owned(), "1G".to_owned())].into(), pids: Some(0), ..Limits::default() };
        check(&conf, &[], &["memory.high 1G"]);
    }
}
