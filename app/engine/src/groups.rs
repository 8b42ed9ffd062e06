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
//! missed aloud. The containers of a pod have theirs in the pod's, which is made with the first of them and goes with the
//! pod.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use linux::cgroups::{Group, Trees, Version};
use linux::file::{Durability, write_atomic};
use model::PodId;
use serde::{Deserialize, Serialize};

use crate::config::{Groups, Limits};
use crate::devices::allowed;
use crate::engine::{Engine, Places, load, make_dir, save};
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::pods::load_pod;
use crate::record::{ContainerRecord, State};

mod settings;
mod update;

use settings::apply;
pub use update::Update;

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

/// The controllers that a group has to have, by version 1's names: those of its limits, and what counts and holds.
fn wanted(mut controllers: Vec<&'static str>, trees: &Trees) -> Vec<&'static str> {
    if !trees.has_unified() {
        // Version 2 counts processor time, freezes and keeps from devices without any.
        controllers.extend(["cpuacct", "devices", "freezer"]);
    }
    controllers
}

/// Whatever the containers of a pod may be limited in.
const LIMITING: [&str; 5] = ["memory", "pids", "cpu", "cpuset", "blkio"];

fn remember(group: &impl Serialize, file: &Path) -> Result<()> {
    let text = serde_json::to_vec(group).map_err(Error::usage)?;
    write_atomic(file, &text, 0o600, Durability::ThisBoot).map_err(|e| Error::at(file.display(), e))
}

fn check_parent(limits: &Limits) -> Result<()> {
    match &limits.parent {
        Some(parent) if parent.split('/').any(|part| part == "..") => {
            Err(Error::usage(format!("--cgroup-parent {parent:?}: must be a path without ..")))
        }
        _ => Ok(()),
    }
}

/// A pod's group, as it is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct PodGroup {
    #[serde(flatten)]
    group: Group,
    /// Not yet when who made it was killed then.
    #[serde(default)]
    has_limits: bool,
}

/// Makes the directories of a group that `file` tells of. Remembered before they are there: what is killed in between
/// is removed by whoever repairs.
fn make_at(mut group: Group, limits: &Limits, file: &Path) -> Result<Group> {
    remember(&group, file)?;
    if limits.parent.is_some() {
        group.make_parents(&limits.controllers());
    }
    group.make();
    remember(&group, file)?;
    Ok(group)
}

impl Engine {
    /// Makes the group of a container that is being started, with its limits; a warning for each that cannot be held.
    pub(crate) fn make_group(&self, record: &ContainerRecord) -> Result<Vec<String>> {
        let limits = &record.settings.limits;
        if limits.groups == Groups::Disabled {
            let asked = limits.asked();
            return Ok(asked.iter().map(|flag| format!("{flag} is not held with --cgroups=disabled")).collect());
        }
        check_parent(limits)?;
        let trees = Trees::find().map_err(|e| Error::at("cannot look for control groups", e))?;
        let (name, wanted) = (format!("podwire-{}", record.id), wanted(limits.controllers(), &trees));
        let mut warnings = Vec::new();
        let group = match record.pod().filter(|_| limits.parent.is_none()) {
            Some(pod) => match self.make_pod_group(pod, &trees)? {
                Some((group, missed)) => {
                    warnings = missed;
                    group.child(&name, &wanted)
                }
                None => trees.group(&name, None, &wanted),
            },
            None => trees.group(&name, limits.parent.as_deref(), &wanted),
        };
        let group = make_at(group, limits, &file(&self.places(&record.id)))?;
        warnings.extend(apply(&group, limits)?);
        warnings.extend(self.keep_from_devices(record, &group)?);
        Ok(warnings)
    }

    /// An ordinary user's containers can open what their user can: their files of devices are the host's own.
    fn keep_from_devices(&self, record: &ContainerRecord, group: &Group) -> Result<Option<String>> {
        let settings = &record.settings;
        if self.options().rootless || settings.security.privileged {
            return Ok(None);
        }
        let asked = !settings.inside.device_rules.is_empty();
        match group.allow_devices(&allowed(&settings.inside)) {
            Ok(()) => Ok(None),
            Err(error) if asked => Ok(Some(format!("--device-cgroup-rule is not held: {error}"))),
            Err(error) => {
                tracing::debug!(%error, "the container is not kept from devices");
                Ok(None)
            }
        }
    }

    fn pod_group_file(&self, pod: &PodId) -> PathBuf {
        self.pod_groups_path().join(format!("{pod}.json"))
    }

    pub(crate) fn pod_groups_path(&self) -> PathBuf {
        self.options().runroot.join("pods")
    }

    /// A pod's group, where it has been made.
    pub(crate) fn pod_group(&self, pod: &PodId) -> Option<Group> {
        self.remembered_pod_group(pod).map(|remembered| remembered.group)
    }

    fn remembered_pod_group(&self, pod: &PodId) -> Option<PodGroup> {
        serde_json::from_slice(&std::fs::read(self.pod_group_file(pod)).ok()?).ok()
    }

    /// Makes the group that the pod's containers have theirs in, with the pod's limits; `None` when each has its own.
    fn make_pod_group(&self, pod: &PodId, trees: &Trees) -> Result<Option<(Group, Vec<String>)>> {
        if let Some(made) = self.remembered_pod_group(pod).filter(|made| made.has_limits && made.group.is_there()) {
            return Ok(Some((made.group, Vec::new())));
        }
        let file = self.pod_group_file(pod);
        make_dir(file.parent().unwrap_or(&file))?;
        // One at a time: of two that look for a place at once each could find another.
        self.store.write(|tx| {
            let Some(record) = load_pod(tx, pod)?.filter(|record| record.shares_group) else { return Ok(None) };
            let limits = &record.limits;
            let wanted = wanted(LIMITING.to_vec(), trees);
            let new = || trees.group(&format!("podwire-pod-{pod}"), limits.parent.as_deref(), &wanted);
            let group = make_at(self.pod_group(pod).unwrap_or_else(new), limits, &file)?;
            let missed = apply(&group, limits)?;
            let made = PodGroup { group, has_limits: true };
            remember(&made, &file)?;
            Ok(Some((made.group, missed)))
        })
    }

    /// The groups of all its containers have gone before.
    pub(crate) fn remove_pod_group(&self, pod: &PodId) -> Result<()> {
        let Some(group) = self.pod_group(pod) else { return Ok(()) };
        remove_for_sure(&group)?;
        let file = self.pod_group_file(pod);
        std::fs::remove_file(&file).map_err(|e| Error::at(file.display(), e))
    }
}

/// Kills what is left in the group and removes it.
pub(crate) fn remove(places: &Places) -> Result<()> {
    of(places).map_or(Ok(()), |group| remove_for_sure(&group))
}

fn remove_for_sure(group: &Group) -> Result<()> {
    let wrong = |e: io::Error| Error::at("cannot remove a control group", e);
    match group.remove() {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
            group.kill().map_err(wrong)?;
            wait_empty(group);
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
