//! Removing pods, also those that somebody who died was about to remove.

use linux::ProcessRef;
use model::PodId;

use super::{PodRecord, load_pod, no_such_pod};
use crate::RemoveOptions;
use crate::engine::{Engine, load, remove_if_says};
use crate::error::{Error, Kind, Result};
use crate::record::ContainerRecord;

/// `pod rm`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodRemoval {
    /// Also when containers of it run: they are stopped.
    pub force: bool,
    /// Seconds between the stop signals and the kills; the containers' own when absent. With `force` only.
    pub time: Option<u32>,
}

impl Engine {
    /// Removes a pod with all its containers and their anonymous volumes; its id.
    pub fn remove_pod(&mut self, name: &str, options: &PodRemoval) -> Result<PodId> {
        let pod = self.pod(name)?;
        self.claim_pod(&pod, options.force)?;
        self.remove_claimed_pod(&pod, options)?;
        Ok(pod.id)
    }

    /// From now on nobody joins it, and whoever finds us dead goes on.
    fn claim_pod(&self, pod: &PodRecord, force: bool) -> Result<()> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        self.store.write(|tx| {
            for id in if force { Vec::new() } else { tx.containers_of_pod(&pod.id)? } {
                if let Some(record) = load(tx, &id)?.filter(|record| !record.state.at_rest() && !record.is_infra()) {
                    return Err(in_the_way(pod, &record));
                }
            }
            match tx.pod_leave(&pod.id, &format!("{} {}", me.pid, me.start_time))? {
                true => Ok(()),
                false => Err(no_such_pod(pod.name.as_str())),
            }
        })
    }

    fn remove_claimed_pod(&mut self, pod: &PodRecord, options: &PodRemoval) -> Result<()> {
        let mut containers = self.pod_containers(pod)?;
        // The one whose sandbox the others use goes last.
        containers.reverse();
        self.stop_together(&containers, options.time)?;
        let options = RemoveOptions { force: true, time: Some(0), volumes: true, depend: true };
        containers.iter().try_for_each(|record| self.remove_one(&record.id, &options))?;
        self.remove_pod_group(&pod.id)?;
        if let Some(path) = &pod.id_file {
            remove_if_says(path, &pod.id.to_string());
        }
        self.store.write(|tx| {
            if !tx.containers_of_pod(&pod.id)?.is_empty() {
                return Err(Error::usage(format!("pod {} has got another container while it was removed", pod.name)));
            }
            // Somebody else may have come to the end of this before us.
            if tx.pod_remove(&pod.id)? { Ok(tx.event_add(&pod.event("remove"))?) } else { Ok(()) }
        })
    }

    /// Goes on where those were who died removing pods.
    pub(crate) fn finish_removals(&mut self) -> Result<()> {
        for (id, who) in self.store.read(|tx| tx.pods_leaving())? {
            if owner(&who).is_some_and(|owner| owner.alive()) {
                continue;
            }
            let Some(pod) = self.store.read(|tx| load_pod(tx, &id))? else { continue };
            tracing::info!(pod = %pod.name, "removing a pod that a process that died was removing");
            self.claim_pod(&pod, true)?;
            self.remove_claimed_pod(&pod, &PodRemoval { force: true, time: Some(0) })?;
        }
        Ok(())
    }

    /// Removes the pods that have stopped, of those that are meant; their ids.
    pub fn prune_pods(&mut self, is_meant: impl Fn(&super::PodSummary) -> bool) -> Result<Vec<PodId>> {
        let ended = |pod: &super::PodSummary| matches!(pod.status, "Exited" | "Stopped") && is_meant(pod);
        let pods: Vec<PodId> = self.pods()?.iter().filter(|p| ended(p)).map(|p| p.id).collect();
        pods.iter().map(|id| self.remove_pod(&id.to_string(), &PodRemoval::default())).collect()
    }
}

fn owner(text: &str) -> Option<ProcessRef> {
    let (pid, start_time) = text.split_once(' ')?;
    Some(ProcessRef { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
}

fn in_the_way(pod: &PodRecord, record: &ContainerRecord) -> Error {
    let text = format!(
        "pod {} has containers that are not stopped: cannot remove container {} as it is {} - running or paused \
         containers cannot be removed without force: container state improper",
        pod.id, record.id, record.state
    );
    Error::new(Kind::WrongState, text)
}
