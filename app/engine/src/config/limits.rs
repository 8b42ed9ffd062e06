//! How much of the machine a container may have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Podman's default for `--pids-limit`, held where control groups allow it.
pub const PIDS: i64 = 2048;

/// Limits and weights; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// `--memory`, in bytes.
    pub memory: Option<u64>,
    /// `--memory-reservation`, in bytes.
    pub memory_reservation: Option<u64>,
    /// `--memory-swap`: memory and swap together, in bytes; -1 for as much as there is.
    pub memory_swap: Option<i64>,
    /// `--cpus`, in billionths of one.
    pub nano_cpus: Option<u64>,
    /// `--cpu-period`, in microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, in microseconds per period.
    pub cpu_quota: Option<i64>,
    /// `--cpu-shares`: 1024 is what one has without.
    pub cpu_shares: Option<u64>,
    /// `--cpuset-cpus`: `0-3,5`
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`: `0-1`
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`: 0 and -1 for no limit; [`PIDS`] when absent.
    pub pids: Option<i64>,
    /// `--cpu-rt-period`, in microseconds.
    pub cpu_rt_period: Option<u64>,
    /// `--cpu-rt-runtime`, in microseconds per period.
    pub cpu_rt_runtime: Option<i64>,
    /// `--memory-swappiness`: 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// `--oom-kill-disable`: processes that need more memory than there is wait.
    pub oom_kill_disable: bool,
    /// `--blkio-weight`: 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// `--blkio-weight-device`: of a disk.
    pub blkio_weight_device: Vec<(PathBuf, u16)>,
    /// `--device-read-bps` and the like.
    pub rates: Vec<DeviceRate>,
    /// `--cgroup-conf`: files of version 2, and what is written to them.
    pub conf: BTreeMap<String, String>,
    /// `--cgroups`
    pub groups: Groups,
    /// `--cgroup-parent`: the control group that the container's is made in.
    pub parent: Option<String>,
}

/// How fast a disk may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Its device file.
    pub device: PathBuf,
    /// What is limited.
    pub kind: RateKind,
    /// So much in a second.
    pub most: u64,
}

/// What of a disk's use is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateKind {
    /// `--device-read-bps`: bytes that are read.
    ReadBytes,
    /// `--device-write-bps`: bytes that are written.
    WriteBytes,
    /// `--device-read-iops`: readings.
    Reads,
    /// `--device-write-iops`: writings.
    Writes,
}

impl RateKind {
    /// The flag that users know it by.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::ReadBytes => "--device-read-bps",
            Self::WriteBytes => "--device-write-bps",
            Self::Reads => "--device-read-iops",
            Self::Writes => "--device-write-iops",
        }
    }
}

/// `--cgroups`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Groups {
    /// It has a control group of its own, where that can be.
    #[default]
    Enabled,
    /// It stays in the one that podwire was called in.
    Disabled,
}

impl Limits {
    /// Microseconds of processor time per period, and the period.
    pub(crate) fn cpu_time(&self) -> Option<(i64, u64)> {
        const PERIOD: u64 = 100_000;
        match (self.nano_cpus, self.cpu_quota, self.cpu_period) {
            (Some(nano), ..) => Some(((nano.saturating_mul(PERIOD) / 1_000_000_000) as i64, PERIOD)),
            (None, None, None) => None,
            (None, quota, period) => Some((quota.unwrap_or(-1), period.unwrap_or(PERIOD))),
        }
    }

    /// The most processes it may have.
    pub(crate) fn most_pids(&self) -> Option<i64> {
        Some(self.pids.unwrap_or(PIDS)).filter(|most| *most > 0)
    }

    /// The flags of the limits that were asked for, in the order of Podman's manual.
    pub(crate) fn asked(&self) -> Vec<&'static str> {
        [
            ("--cpus", self.nano_cpus.is_some()),
            ("--cpu-period", self.cpu_period.is_some()),
            ("--cpu-quota", self.cpu_quota.is_some()),
            ("--cpu-shares", self.cpu_shares.is_some()),
            ("--cpuset-cpus", self.cpuset_cpus.is_some()),
            ("--cpuset-mems", self.cpuset_mems.is_some()),
            ("--memory", self.memory.is_some()),
            ("--memory-reservation", self.memory_reservation.is_some()),
            ("--memory-swap", self.memory_swap.is_some()),
            ("--pids-limit", self.pids.is_some_and(|pids| pids > 0)),
            ("--cpu-rt-period", self.cpu_rt_period.is_some()),
            ("--cpu-rt-runtime", self.cpu_rt_runtime.is_some()),
            ("--memory-swappiness", self.memory_swappiness.is_some()),
            ("--oom-kill-disable", self.oom_kill_disable),
            ("--blkio-weight", self.blkio_weight.is_some()),
            ("--blkio-weight-device", !self.blkio_weight_device.is_empty()),
            ("--cgroup-conf", !self.conf.is_empty()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .chain(self.rates.iter().map(|rate| rate.kind.flag()))
        .collect()
    }

    /// The controllers that must be there for all of them to be held, by version 1's names.
    pub(crate) fn controllers(&self) -> Vec<&'static str> {
        let cpu = self.cpu_time().is_some()
            || self.cpu_shares.is_some()
            || self.cpu_rt_period.is_some()
            || self.cpu_rt_runtime.is_some();
        let cpuset = self.cpuset_cpus.is_some() || self.cpuset_mems.is_some();
        // Without being asked: to tell what is used, and for the default limit of processes.
        let usual = [(true, "memory"), (true, "pids"), (true, "blkio")];
        [(cpu, "cpu"), (cpuset, "cpuset")]
            .into_iter()
            .chain(usual)
            .filter_map(|(is, name)| is.then_some(name))
            .collect()
    }

    /// With what `update` says: the rest stays.
    pub(crate) fn updated(&self, by: &Self) -> Self {
        let mut new = self.clone();
        let Self { memory, memory_reservation, memory_swap, nano_cpus, cpu_period, cpu_quota, .. } = by;
        let time = nano_cpus.is_some() || cpu_period.is_some() || cpu_quota.is_some();
        if nano_cpus.is_some() {
            // Two ways to say one thing.
            (new.nano_cpus, new.cpu_period, new.cpu_quota) = (*nano_cpus, None, None);
        } else if time {
            let (quota, period) = self.cpu_time().map_or((None, None), |(quota, period)| (Some(quota), Some(period)));
            (new.nano_cpus, new.cpu_period, new.cpu_quota) = (None, cpu_period.or(period), cpu_quota.or(quota));
        }
        fn put<T: Clone>(place: &mut Option<T>, wish: &Option<T>) {
            if wish.is_some() {
                place.clone_from(wish);
            }
        }
        put(&mut new.memory, memory);
        put(&mut new.memory_reservation, memory_reservation);
        put(&mut new.memory_swap, memory_swap);
        put(&mut new.cpu_shares, &by.cpu_shares);
        put(&mut new.cpuset_cpus, &by.cpuset_cpus);
        put(&mut new.cpuset_mems, &by.cpuset_mems);
        put(&mut new.pids, &by.pids);
        put(&mut new.cpu_rt_period, &by.cpu_rt_period);
        put(&mut new.cpu_rt_runtime, &by.cpu_rt_runtime);
        put(&mut new.memory_swappiness, &by.memory_swappiness);
        put(&mut new.blkio_weight, &by.blkio_weight);
        for (device, weight) in &by.blkio_weight_device {
            new.blkio_weight_device.retain(|(there, _)| there != device);
            new.blkio_weight_device.push((device.clone(), *weight));
        }
        for rate in &by.rates {
            new.rates.retain(|there| (&there.device, there.kind) != (&rate.device, rate.kind));
            new.rates.push(rate.clone());
        }
        new
    }
}
