//! Pods: containers that share a sandbox, and more of what containers otherwise have each for itself.
//!
//! ```text
//!   pod row ── settings.pod.id ──> infra container ── its wish for networks, ports, names ──> the sandbox
//!                        │              └─ first process: podwire-pause (pause.rs), which holds ipc, uts (pid)
//!                        └───────> members ── network mode container:INFRA, namespaces of its first process
//! ```
//!
//! **How it works.** What a pod has in the kernel is its infra container's: a container like any other, with a
//! monitor, a journaled plan, held ports and repair, only without a file system. A member joins its sandbox as
//! `--network container:` does. The pod itself is a row with what all of it have in common.
//!
//! **Invariants.** A pod and its infra container are made in one transaction. A pod that is being removed says by
//! whom; whoever finds that process dead goes on removing it. No member joins a pod that is being removed.
//!
//! A pod's control group is made with the group of its first container, and goes with the pod.

mod common;
mod create;
mod joined;
mod lives;
mod member;
pub(crate) mod pause;
mod removal;
mod shm;
mod show;
mod together;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use model::{ContainerId, ContainerName, Hostname, PodId};
use serde::{Deserialize, Serialize};
use store::{Event, Lookup, Tx};

use crate::config::{Limits, NetworkConfig, PullPolicy, UsersWish};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::record::ContainerRecord;

pub use common::Common;
pub(crate) use joined::Joined;
pub(crate) use member::check_join;
pub use pause::{PAUSE_NAME, pause_main};
pub use removal::PodRemoval;
pub(crate) use shm::{mount_shm, unmount_shm};
pub use show::{PodMember, PodSummary};

/// What a pod is to be.
#[derive(Debug, Clone)]
pub struct PodConfig {
    /// `--name`; a random one when absent.
    pub name: Option<ContainerName>,
    /// `--hostname`; the pod's name when absent.
    pub hostname: Option<Hostname>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--network`, `-p` and the like.
    pub network: NetworkConfig,
    /// `--share`; nothing without an infra container.
    pub share: Vec<Share>,
    /// None with `--infra=false`.
    pub infra: Option<InfraConfig>,
    /// `--exit-policy`
    pub exit_policy: ExitPolicy,
    /// `--pod-id-file`: a file that must not be there yet, for the id, as long as the pod is there.
    pub id_file: Option<PathBuf>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// What its containers have unless they say otherwise.
    pub common: Common,
    /// Volumes that live as long as the pod. They need an infra container.
    pub volumes: Vec<PodVolume>,
    /// `--memory` and the like: of all its containers together.
    pub limits: Limits,
    /// `--userns`, `--uidmap` and the like: of the infra container, and of all that say nothing else.
    pub users: UsersWish,
    /// `--share-parent`: its containers have their control groups in the pod's.
    pub shares_group: bool,
    /// `--replace`: a pod that has the name goes, as by `pod rm -f`.
    pub replace: bool,
    /// The whole command line, for `inspect`.
    pub create_command: Vec<String>,
}

impl PodConfig {
    /// Podman's defaults.
    pub fn named(name: ContainerName) -> Self {
        Self {
            name: Some(name),
            hostname: None,
            labels: BTreeMap::new(),
            network: NetworkConfig::default(),
            share: Share::DEFAULT.to_vec(),
            infra: Some(InfraConfig::default()),
            exit_policy: ExitPolicy::Continue,
            id_file: None,
            shm_size: None,
            common: Common::default(),
            volumes: Vec::new(),
            limits: Limits::default(),
            users: UsersWish::Host,
            shares_group: true,
            replace: false,
            create_command: Vec::new(),
        }
    }
}

/// A volume that goes with its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodVolume {
    /// Nobody else's.
    pub name: String,
    /// What is in it from the start.
    pub files: Vec<PodFile>,
}

/// A file of such a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFile {
    /// Below the volume, of plain names only.
    pub path: String,
    /// Its mode, as a number.
    pub mode: u32,
    /// Its contents.
    pub text: String,
}

/// The container that holds a pod's namespaces.
#[derive(Debug, Clone, Default)]
pub struct InfraConfig {
    /// `--infra-name`; the pod's short id and `-infra` when absent.
    pub name: Option<ContainerName>,
    /// `--infra-image`; a process of podwire's own when absent.
    pub image: Option<String>,
    /// `--infra-command`, of the image.
    pub command: Vec<String>,
    /// When to pull the image.
    pub pull: PullPolicy,
}

/// One `--share`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// System V IPC, POSIX message queues, `/dev/shm`.
    Ipc,
    /// The network stack.
    Net,
    /// Process numbers.
    Pid,
    /// The host's name.
    Uts,
}

impl Share {
    const ALL: [Self; 4] = [Self::Ipc, Self::Net, Self::Pid, Self::Uts];
    /// Podman's default.
    pub const DEFAULT: [Self; 3] = [Self::Ipc, Self::Net, Self::Uts];

    /// The word users know it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Uts => "uts",
        }
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(share) = Self::ALL.into_iter().find(|share| share.word() == text) {
            return Ok(share);
        }
        Err(Error::usage(match text {
            "cgroup" => "--share cgroup is not supported by podwire yet".to_owned(),
            "user" => "--share user is not supported by podwire yet".to_owned(),
            _ => format!("invalid kernel namespace to share: {text}. Options are: cgroup, ipc, net, pid, uts or none"),
        }))
    }
}

/// What becomes of a pod when the last of its members has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitPolicy {
    /// It goes on.
    #[default]
    Continue,
    /// It is stopped.
    Stop,
}

impl ExitPolicy {
    /// The word users know it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for ExitPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "continue" | "" => Ok(Self::Continue),
            "stop" => Ok(Self::Stop),
            _ => Err(Error::usage(format!("invalid pod exit policy: {text:?}"))),
        }
    }
}

/// One pod, as the store remembers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub(crate) id: PodId,
    pub(crate) name: ContainerName,
    pub(crate) created: Timestamp,
    pub(crate) labels: BTreeMap<String, String>,
    /// As it was given.
    pub(crate) hostname: Option<Hostname>,
    pub(crate) share: Vec<Share>,
    pub(crate) infra: Option<ContainerId>,
    pub(crate) exit_policy: ExitPolicy,
    pub(crate) id_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) common: Common,
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Have its containers the users of its infra container?
    #[serde(default)]
    pub(crate) shares_users: bool,
    /// Have its containers their control groups in the pod's?
    #[serde(default)]
    pub(crate) shares_group: bool,
    pub(crate) create_command: Vec<String>,
}

impl PodRecord {
    /// What its containers see as the host's name, where they share it.
    pub(crate) fn shown_hostname(&self) -> String {
        self.hostname.as_ref().map_or_else(|| self.name.to_string(), Hostname::to_string)
    }

    fn event(&self, status: &str) -> Event {
        Event {
            id: self.id.to_string(),
            name: self.name.to_string(),
            attributes: Some(self.labels.clone()),
            ..Event::of("pod", status)
        }
    }
}

/// A container's place in a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodPlace {
    pub(crate) id: PodId,
    /// The pod's name, which it keeps for life.
    pub(crate) name: ContainerName,
    pub(crate) role: Role,
    pub(crate) exit_policy: ExitPolicy,
}

/// What a container is to its pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Role {
    /// It holds these for the members.
    Infra {
        holds: Vec<Share>,
        /// Bytes of `/dev/shm`.
        shm_size: Option<u64>,
    },
    /// It has these of that container, beside the network, which its network mode tells.
    Member { infra: Option<ContainerId>, shares: Vec<Share> },
}

impl ContainerRecord {
    /// Its pod.
    pub(crate) fn pod(&self) -> Option<&PodId> {
        self.settings.pod.as_ref().map(|place| &place.id)
    }

    /// Does it hold its pod's namespaces?
    pub(crate) fn is_infra(&self) -> bool {
        self.held().is_some()
    }

    /// What it holds for its pod.
    pub(crate) fn held(&self) -> Option<&[Share]> {
        match &self.settings.pod.as_ref()?.role {
            Role::Infra { holds, .. } => Some(holds),
            Role::Member { .. } => None,
        }
    }

    /// The container whose namespaces it uses, and which, beside the network.
    pub(crate) fn shares(&self) -> Option<(&ContainerId, &[Share])> {
        match &self.settings.pod.as_ref()?.role {
            Role::Member { infra: Some(infra), shares } if !shares.is_empty() => Some((infra, shares)),
            _ => None,
        }
    }
}

pub(crate) fn no_such_pod(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("no pod with name or ID {name} found: no such pod"))
}

impl Engine {
    /// The pod with this name, id, or only id that begins so.
    pub fn find_pod(&self, name: &str) -> Result<PodId> {
        match self.store.read(|tx| tx.pod_find(name))? {
            Lookup::Found(id) => Ok(id),
            Lookup::NotFound => Err(no_such_pod(name)),
            Lookup::Ambiguous => {
                Err(Error::usage(format!("more than one result for pod name or ID {name}: pod already exists")))
            }
        }
    }

    pub(crate) fn pod(&self, name: &str) -> Result<PodRecord> {
        let id = self.find_pod(name)?;
        self.store.read(|tx| load_pod(tx, &id))?.ok_or_else(|| no_such_pod(name))
    }

    /// The containers of a pod, its infra container first, then oldest first.
    pub(crate) fn pod_containers(&self, pod: &PodRecord) -> Result<Vec<ContainerRecord>> {
        self.store.read(|tx| {
            let mut found = Vec::new();
            for id in tx.containers_of_pod(&pod.id)? {
                found.extend(crate::engine::load(tx, &id)?);
            }
            found.sort_by_key(|record: &ContainerRecord| !record.is_infra());
            Ok(found)
        })
    }

    fn pod_event(&self, pod: &PodRecord, status: &str) -> Result<()> {
        Ok(self.store.write(|tx| tx.event_add(&pod.event(status)))?)
    }
}

pub(crate) fn load_pod(tx: &Tx<'_>, id: &PodId) -> Result<Option<PodRecord>> {
    Ok(tx.pod_doc::<PodRecord>(id)?.map(|(_, record)| record))
}
