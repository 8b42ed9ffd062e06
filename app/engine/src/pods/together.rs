//! Standing still, going on, and the processes of all containers of a pod.

use model::PodId;

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::record::{ContainerRecord, State};

impl Engine {
    /// Pauses its containers that run. The infra container does nothing that could be stopped.
    pub fn pause_pod(&mut self, name: &str) -> Result<PodId> {
        self.change_pod(name, "pause", State::Running, Self::pause)
    }

    /// Lets go on those that are paused.
    pub fn unpause_pod(&mut self, name: &str) -> Result<PodId> {
        self.change_pod(name, "unpause", State::Paused, Self::unpause)
    }

    fn change_pod(
        &mut self,
        name: &str,
        event: &str,
        wanted: State,
        act: fn(&mut Self, &str) -> Result<model::ContainerId>,
    ) -> Result<PodId> {
        let pod = self.pod(name)?;
        let is_wanted = |record: &&ContainerRecord| !record.is_infra() && record.shown_state() == wanted;
        for record in self.pod_containers(&pod)?.iter().filter(is_wanted) {
            match act(self, &record.id.to_string()) {
                // It has ended meanwhile, or somebody else has done it.
                Err(error) if matches!(error.kind, Kind::WrongState | Kind::NotFound) => {}
                done => drop(done?),
            }
        }
        self.pod_event(&pod, event)?;
        Ok(pod.id)
    }

    /// Headings, then a row per process of its containers that run, as [`Engine::top`] has them.
    pub fn top_pod(&self, name: &str, words: &[String]) -> Result<Vec<Vec<String>>> {
        let pod = self.pod(name)?;
        let mut rows: Vec<Vec<String>> = Vec::new();
        for record in self.pod_containers(&pod)?.iter().filter(|r| !r.is_infra() && r.state == State::Running) {
            match self.top(&record.id.to_string(), words) {
                Ok(Some(more)) => rows.extend(more.into_iter().skip(usize::from(!rows.is_empty()))),
                Ok(None) => return Err(Error::usage(format!("{}: unknown descriptor", words.join(" ")))),
                Err(error) if matches!(error.kind, Kind::WrongState | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        if rows.is_empty() {
            let text = "pod top can only be used on pods with at least one running container";
            return Err(Error::new(Kind::WrongState, text));
        }
        Ok(rows)
    }
}
