//! How much of the machine a container may have.

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
    /// `--cgroups`
    pub groups: Groups,
    /// `--cgroup-parent`: the control group that the container's is made in.
    pub parent: Option<String>,
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
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}
