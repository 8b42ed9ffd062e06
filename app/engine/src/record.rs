//! What the store remembers of a container.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use linux::{NsId, ProcessRef};
use model::{ContainerId, ContainerName, ImageId, PortMapping, Protocol};
use serde::{Deserialize, Serialize};

use crate::config::{Care, Inside, Limits, NetworkConfig, Rootfs, SecurityConfig, UnsetEnv};
use crate::pods::PodPlace;
use crate::users::Users;
use crate::{Error, error::Result};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not run yet.
    Created,
    /// Somebody is starting it.
    Starting,
    /// Its init process runs.
    Running,
    /// It runs, and its processes are frozen. In no record: see [`ContainerRecord::paused`].
    Paused,
    /// Its init process has ended; somebody is taking it down.
    Stopping,
    /// It has run and is down.
    Exited,
}

impl State {
    /// The word in the store's state column.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
        }
    }

    /// Nobody needs to be alive for it.
    pub fn at_rest(self) -> bool {
        matches!(self, Self::Created | Self::Exited)
    }
}

impl fmt::Display for State {
    /// Podman's words; it has none for being started but `initialized`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::Starting { "initialized" } else { self.word() })
    }
}

impl FromStr for State {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Created, Self::Starting, Self::Running, Self::Paused, Self::Stopping, Self::Exited]
            .into_iter()
            .find(|state| state.to_string() == text || state.word() == text)
            .ok_or_else(|| Error::usage(format!("unknown container state: {text}: invalid argument")))
    }
}

/// What remains of a container when its start does not succeed, or who works on it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    /// Nothing: it was made by `run`, or is being removed; nor, then, of its anonymous volumes.
    Vanish {
        /// Do its anonymous volumes vanish with it?
        volumes: bool,
    },
    /// It stays, as it was before.
    Return(State),
}

/// One container, as the store remembers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: ContainerId,
    pub(crate) name: ContainerName,
    /// None of one with a `rootfs`, nor of a pod's own infra container.
    pub(crate) image: Option<ImageId>,
    /// The image's full name when it was created.
    pub(crate) image_name: String,
    pub(crate) image_digest: String,
    pub(crate) settings: Settings,
    pub(crate) created: Timestamp,
    pub(crate) state: State,
    /// Who is at work on it: must be alive unless it is at rest. The monitor, while it runs.
    pub(crate) owner: Option<ProcessRef>,
    /// Set while it is being started or removed.
    pub(crate) fate: Option<Fate>,
    /// Its first process.
    pub(crate) init: Option<ProcessRef>,
    /// The process that stays with it while it runs.
    pub(crate) monitor: Option<ProcessRef>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    /// 0 until it has run.
    pub(crate) exit_code: i32,
    /// Why it could not be started or watched to its end; mostly empty.
    pub(crate) error: String,
    /// Are its processes frozen, while it runs?
    #[serde(default)]
    pub(crate) paused: bool,
    /// Was one of its processes killed because it had no more memory, when it ran last?
    #[serde(default)]
    pub(crate) oom_killed: bool,
    /// How often it was started again by its policy since its user started it.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Has its user ended it? Its policy then lets it be.
    #[serde(default)]
    pub(crate) stopped_by_user: bool,
    /// The path of its OCI runtime; none where there was none when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<String>,
    /// Its network namespace while it runs; none with `host`.
    pub(crate) netns: Option<PathBuf>,
    /// Its mount namespace while it runs, where its processes are told by that alone: it shares their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mount_namespace: Option<NsId>,
}

impl ContainerRecord {
    /// One that has not been started, without an image.
    pub(crate) fn new(id: ContainerId, name: ContainerName, settings: Settings, created: Timestamp) -> Self {
        Self {
            id,
            name,
            image: None,
            image_name: String::new(),
            image_digest: String::new(),
            settings,
            created,
            state: State::Created,
            owner: None,
            fate: None,
            init: None,
            monitor: None,
            started: None,
            finished: None,
            exit_code: 0,
            error: String::new(),
            paused: false,
            oom_killed: false,
            restarts: 0,
            stopped_by_user: false,
            netns: None,
            runtime: None,
            mount_namespace: None,
        }
    }

    /// Has it a root file system, and so a command? Not a pod's own infra container, which is podwire's process.
    pub(crate) fn has_files(&self) -> bool {
        self.image.is_some() || self.settings.rootfs.is_some()
    }

    /// Its state as users see it.
    pub(crate) fn shown_state(&self) -> State {
        if self.paused && self.state == State::Running { State::Paused } else { self.state }
    }
}

/// What a user asked for joined with what the image says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// `--rootfs`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rootfs: Option<Rootfs>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    /// `NAME=VALUE`, in the order of the image's, then the user's.
    pub(crate) env: Vec<String>,
    pub(crate) user: String,
    pub(crate) workdir: String,
    pub(crate) hostname: String,
    /// Was `--hostname` given?
    pub(crate) hostname_given: bool,
    pub(crate) tty: bool,
    pub(crate) interactive: bool,
    /// `--rm`
    pub(crate) remove: bool,
    /// `--cidfile`
    #[serde(default)]
    pub(crate) id_file: Option<PathBuf>,
    /// `--pidfile`
    #[serde(default)]
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// As a number.
    pub(crate) stop_signal: i32,
    /// Seconds.
    pub(crate) stop_timeout: u32,
    pub(crate) security: SecurityConfig,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) inside: Inside,
    #[serde(default)]
    pub(crate) care: Care,
    #[serde(default)]
    pub(crate) unset_env: UnsetEnv,
    /// `None`: podwire's own.
    #[serde(default)]
    pub(crate) users: Option<Users>,
    /// Is whoever runs podwire one of the container's accounts?
    #[serde(default)]
    pub(crate) current_user: bool,
    pub(crate) network: NetworkConfig,
    /// Published ports, with the random ones chosen.
    pub(crate) ports: Vec<PortMapping>,
    /// Exposed ports, the image's and the user's: first, how many, protocol.
    pub(crate) expose: Vec<(u16, u16, Protocol)>,
    pub(crate) mounts: Vec<Mount>,
    /// `--tmpfs`: path and options.
    pub(crate) tmpfs: Vec<(String, String)>,
    pub(crate) create_command: Vec<String>,
    /// Its place in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<PodPlace>,
}

impl Settings {
    /// What is executed.
    pub(crate) fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.command).cloned().collect()
    }
}

/// One `-v`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// The volume's name, when it is one.
    pub(crate) volume: Option<String>,
    /// Made for this container alone.
    pub(crate) anonymous: bool,
    /// The directory or file on the host.
    pub(crate) source: PathBuf,
    /// An absolute path in the container.
    pub(crate) target: String,
    pub(crate) options: Vec<String>,
}

impl Mount {
    pub(crate) fn read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}
