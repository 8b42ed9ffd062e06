//! Containers as `ps` shows them.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use model::{ContainerId, ContainerName, ImageId, NetworkId, PodId, PortMapping, Protocol};

use crate::config::{NetworkMode, Rootfs};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::record::{ContainerRecord, State};

/// One container in a list.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// `--rootfs`, which it has instead of an image.
    pub rootfs: Option<Rootfs>,
    /// Its image.
    pub image_id: Option<ImageId>,
    /// The image's name when it was created.
    pub image: String,
    /// Command and arguments, the entrypoint left out.
    pub command: Vec<String>,
    /// When it was created.
    pub created: Timestamp,
    /// Where it is in its life.
    pub state: State,
    /// Its first process, while it runs.
    pub pid: Option<u32>,
    /// When it was started last.
    pub started: Option<Timestamp>,
    /// When it ended last.
    pub finished: Option<Timestamp>,
    /// How it ended last.
    pub exit_code: i32,
    /// Published ports.
    pub ports: Vec<PortMapping>,
    /// Exposed ports: first, how many, protocol.
    pub exposed: Vec<(u16, u16, Protocol)>,
    /// The networks it names, by name.
    pub networks: Vec<(String, NetworkId)>,
    /// Its volumes.
    pub mounts: Vec<MountSummary>,
    /// The image's and the user's labels.
    pub labels: BTreeMap<String, String>,
    /// `--rm`
    pub auto_remove: bool,
    /// How often its policy has started it again since its user did.
    pub restarts: u32,
    /// `--restart`
    pub restart_policy: &'static str,
    /// Did its user end it?
    pub stopped_by_user: bool,
    /// How its health check finds it, while it runs and has one.
    pub health: Option<String>,
    /// Its pod, with its name.
    pub pod: Option<(PodId, String)>,
    /// Does it hold its pod's namespaces?
    pub is_infra: bool,
    /// `--cidfile`, or nothing.
    pub id_file: String,
}

/// One volume of a container in a list.
#[derive(Debug, Clone)]
pub struct MountSummary {
    /// The volume's name, when it is one.
    pub name: Option<String>,
    /// Where its files are on the host.
    pub source: String,
    /// Where they are in the container.
    pub target: String,
}

impl Summary {
    /// Does its policy want it to run after the machine has booted?
    pub fn starts_on_boot(&self) -> bool {
        self.restart_policy == "always" || (self.restart_policy == "unless-stopped" && !self.stopped_by_user)
    }
}

impl Engine {
    /// All containers of any state, oldest first.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let records = self.records()?;
        let networks = if records.is_empty() { Vec::new() } else { self.networks()? };
        let known = |wish: &str| {
            let found = networks.iter().find(|n| n.name.as_str() == wish);
            found
                .or_else(|| networks.iter().find(|n| n.id.to_string().starts_with(wish)))
                .map(|n| (n.name.to_string(), n.id))
        };
        // Who uses another's network is reached by that one's ports.
        let published: BTreeMap<String, Vec<PortMapping>> = records
            .iter()
            .filter(|record| !record.settings.ports.is_empty())
            .map(|record| (record.id.to_string(), record.settings.ports.clone()))
            .collect();
        let with_ports = |mut record: ContainerRecord| {
            if let NetworkMode::Container(owner) = &record.settings.network.mode {
                record.settings.ports = published.get(owner).cloned().unwrap_or_default();
            }
            record
        };
        Ok(records.into_iter().map(|record| summary(self.health_word(&record), with_ports(record), &known)).collect())
    }
}

impl Engine {
    /// Bytes of the files that a container has made or changed, and of all of its files.
    pub fn container_size(&self, container: &Summary) -> Result<(u64, u64)> {
        // A container that was never started has none of its own.
        let size = |files: &Path| if files.is_dir() { images::size_of(files) } else { Ok(0) };
        let upper = size(&self.places(&container.id).upper())?;
        let own = match &container.rootfs {
            Some(rootfs) if rootfs.overlay => return Ok((upper, upper + size(&rootfs.path)?)),
            Some(rootfs) => size(&rootfs.path)?,
            None => upper,
        };
        let image = container.image_id.map(|image| self.images()?.by_id(&image).map_err(Error::from)).transpose()?;
        Ok((own, own + image.map_or(0, |image| image.size)))
    }

    /// The numbers of a running container's namespaces, by Podman's names.
    pub fn namespaces(&self, container: &Summary) -> Vec<(&'static str, String)> {
        const KINDS: [(&str, &str); 7] = [
            ("CGROUPNS", "cgroup"),
            ("IPC", "ipc"),
            ("MNT", "mnt"),
            ("NET", "net"),
            ("PIDNS", "pid"),
            ("USERNS", "user"),
            ("UTS", "uts"),
        ];
        let Some(pid) = container.pid else { return Vec::new() };
        // `ipc:[4026531839]`; it may have ended by now.
        let number = |(name, kind): (&'static str, &str)| {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
            let text = link.to_str()?.split_once('[')?.1.trim_end_matches(']').to_owned();
            Some((name, text))
        };
        KINDS.into_iter().filter_map(number).collect()
    }
}

/// The default network's name, for attachments that name none.
pub(crate) const DEFAULT_NETWORK: &str = "podman";

fn summary(
    health: Option<String>,
    record: ContainerRecord,
    known: &dyn Fn(&str) -> Option<(String, NetworkId)>,
) -> Summary {
    let state = record.shown_state();
    let is_infra = record.is_infra();
    let settings = record.settings;
    let networks = match &settings.network.mode {
        NetworkMode::Networks(attachments) => {
            attachments.iter().filter_map(|a| known(a.network.as_deref().unwrap_or(DEFAULT_NETWORK))).collect()
        }
        _ => Vec::new(),
    };
    Summary {
        id: record.id,
        name: record.name,
        rootfs: settings.rootfs,
        image_id: record.image,
        image: record.image_name,
        command: if settings.command.is_empty() { settings.entrypoint } else { settings.command },
        created: record.created,
        state,
        pid: record.init.map(|init| init.pid),
        started: record.started,
        finished: record.finished,
        exit_code: record.exit_code,
        ports: settings.ports,
        exposed: settings.expose,
        networks,
        mounts: settings
            .mounts
            .into_iter()
            .map(|m| MountSummary { name: m.volume, source: m.source.display().to_string(), target: m.target })
            .collect(),
        labels: settings.labels,
        auto_remove: settings.remove,
        restarts: record.restarts,
        restart_policy: settings.care.restart.word(),
        stopped_by_user: record.stopped_by_user,
        health,
        pod: settings.pod.map(|place| (place.id, place.name.to_string())),
        is_infra,
        id_file: settings.id_file.map_or_else(String::new, |path| path.display().to_string()),
    }
}
