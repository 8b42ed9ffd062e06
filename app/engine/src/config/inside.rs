//! What a container's processes find, beside files and networks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use linux::device_filter::DeviceRule;
use serde::{Deserialize, Serialize};

/// Namespaces, kernel settings, devices, and what each process begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inside {
    /// `--pid`
    pub pid: Space,
    /// `--ipc`
    pub ipc: Space,
    /// `--uts`
    pub uts: Space,
    /// `--cgroupns`
    pub cgroup: Space,
    /// `--shm-size`, in bytes; Podman's 65,536,000 when absent.
    pub shm_size: Option<u64>,
    /// `--sysctl`
    pub sysctls: BTreeMap<String, String>,
    /// `--device`
    pub devices: Vec<Device>,
    /// `--device-cgroup-rule`: devices that may be used beside those that are there.
    pub device_rules: Vec<DeviceRule>,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// `--umask`; 0022 when absent.
    pub umask: Option<u32>,
    /// `--group-add`: names or numbers.
    pub groups: Vec<String>,
    /// `--tz`: a name in /usr/share/zoneinfo, or `local`.
    pub timezone: Option<String>,
    /// `--oom-score-adj`
    pub oom_score_adj: Option<i32>,
}

/// Whose namespace of one kind a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Space {
    /// One of its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's, by name or id; by id in a record.
    Container(String),
    /// The one of this file.
    Path(PathBuf),
}

/// One `--device`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// A device file of the host, or a directory of such.
    pub host: PathBuf,
    /// Where it appears.
    pub target: String,
    /// Some of `r`, `w`, `m`.
    pub access: String,
}

/// One `--ulimit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`
    pub name: String,
    /// `u64::MAX` for none.
    pub soft: u64,
    /// `u64::MAX` for none.
    pub hard: u64,
}

/// The names of getrlimit(2), as `--ulimit` has them.
pub const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Space {
    /// As `inspect` shows it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Private => "private".to_owned(),
            Self::Host => "host".to_owned(),
            Self::Container(id) => format!("container:{id}"),
            Self::Path(path) => format!("ns:{}", path.display()),
        }
    }
}
