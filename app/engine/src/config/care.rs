//! How a container is looked after while it lives, and when it ends.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Restarts, checks, its log, the end of its time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Care {
    /// `--restart`
    pub restart: Restart,
    /// Was `--restart` given? A pod's policy is for those of its containers that say nothing.
    pub restart_given: bool,
    /// `--health-*`, or the image's.
    pub health: Option<HealthCheck>,
    /// `--no-healthcheck`: not even the image's. In no record.
    pub no_health: bool,
    /// `--timeout`: it is killed after so many seconds; 0 is never.
    pub timeout: u32,
    /// `--init`: the program on this machine that is its first process and reaps.
    pub init: Option<PathBuf>,
    /// `--log-driver`, `--log-opt`
    pub log: Log,
    /// `--requires`: containers that are started before it; by id in a record.
    pub requires: Vec<String>,
}

/// `--restart`: what follows when its first process ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// `no`
    #[default]
    No,
    /// `on-failure[:N]`: it is started again when the code is not 0, at most N times; 0 is without end.
    OnFailure(u32),
    /// `always`
    Always,
    /// `unless-stopped`
    UnlessStopped,
}

impl Restart {
    /// The word users know it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// How often at most; 0 is without end.
    pub fn retries(self) -> u32 {
        if let Self::OnFailure(most) = self { most } else { 0 }
    }

    /// Is a container that ended by itself with `code`, after it was started again `times` times, to be started?
    pub(crate) fn wants(self, code: i32, times: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && (most == 0 || times < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// A command in the container that tells by its exit code whether it is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is executed.
    pub command: Vec<String>,
    /// Was it given as a line for the shell?
    pub shell: bool,
    /// From the end of one check to the next; absent: only when it is asked for.
    pub interval: Option<Duration>,
    /// How long a check may take.
    pub timeout: Duration,
    /// How long failures do not count after the start.
    pub start_period: Duration,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
    /// `--health-on-failure`
    pub on_failure: OnUnhealthy,
}

/// `--health-on-failure`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// Nothing.
    #[default]
    None,
    /// It is killed.
    Kill,
    /// It is killed, and started again.
    Restart,
    /// It is stopped.
    Stop,
}

impl OnUnhealthy {
    /// The word users know it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

/// Where a container's output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `--log-driver`
    pub driver: LogDriver,
    /// `--log-opt path=`: instead of its own place.
    pub path: Option<PathBuf>,
    /// `--log-opt max-size=`: the file begins anew when it would grow beyond so many bytes.
    pub max_size: Option<u64>,
    /// `--log-opt tag=`: shown by `inspect`.
    pub tag: String,
}

/// `--log-driver`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// A file in Kubernetes' format.
    #[default]
    K8sFile,
    /// As Podman's: the same file under Docker's name.
    JsonFile,
    /// Nowhere.
    None,
}

impl LogDriver {
    /// The word users know it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::K8sFile => "k8s-file",
            Self::JsonFile => "json-file",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_wants_what_podmans_wants() {
        assert!(!Restart::No.wants(1, 0));
        assert!(Restart::Always.wants(0, 1000) && Restart::UnlessStopped.wants(0, 1000));
        assert!(!Restart::OnFailure(0).wants(0, 0) && Restart::OnFailure(0).wants(1, 1000));
        assert!(Restart::OnFailure(3).wants(1, 2) && !Restart::OnFailure(3).wants(1, 3));
    }
}
