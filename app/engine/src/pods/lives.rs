//! Starting, stopping, restarting and killing all containers of a pod.

use std::time::Duration;

use linux::Signal;
use model::{ContainerId, PodId};

use super::PodRecord;
use crate::control::{Ended, end};
use crate::engine::{Engine, load, save};
use crate::error::{Error, Kind, Result};
use crate::record::{ContainerRecord, Fate, State};

/// So many containers are waited for at a time, each by a thread.
const AT_ONCE: usize = 64;

/// So many are started at a time.
const STARTED_AT_ONCE: usize = 4;

impl Engine {
    /// Starts the infra container, then those of the others that do not run. Of several that cannot be started, each
    /// has its line.
    pub fn start_pod(&mut self, name: &str) -> Result<PodId> {
        let pod = self.pod(name)?;
        self.start_all(&pod)?;
        self.pod_event(&pod, "start")?;
        Ok(pod.id)
    }

    fn start_all(&mut self, pod: &PodRecord) -> Result<()> {
        let (infra, members): (Vec<_>, Vec<_>) =
            self.pod_containers(pod)?.into_iter().partition(|record| record.is_infra());
        // Without it no other can be started.
        infra.iter().try_for_each(|record| self.start_unless_up(&record.id))?;
        let failures = self.start_members(&members)?;
        if failures.is_empty() { Ok(()) } else { Err(Error::usage(failures.join("\nError: "))) }
    }

    /// Some at a time: a start is mostly waiting for its monitor and the runtime. What failed, in the members' order.
    fn start_members(&mut self, members: &[ContainerRecord]) -> Result<Vec<String>> {
        let start = |engine: &mut Self, record: &ContainerRecord| {
            let started = engine.start_unless_up(&record.id);
            started.err().map(|error| format!("starting container {}: {error}", record.id))
        };
        if members.len() == 1 {
            return Ok(members.iter().filter_map(|record| start(self, record)).collect());
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let options = self.options();
        let work = || {
            let mut engine = Self::open_as_is(options.clone())?;
            let mut failures = Vec::new();
            while let Some((n, record)) =
                Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).and_then(|n| Some((n, members.get(n)?)))
            {
                failures.extend(start(&mut engine, record).map(|failure| (n, failure)));
            }
            Ok::<_, Error>(failures)
        };
        let mut failures = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..STARTED_AT_ONCE.min(members.len())).map(|_| scope.spawn(work)).collect();
            let bug = |_| Err(Error::usage("a thread that starts containers has a bug"));
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(bug));
            ended.collect::<Result<Vec<_>>>().map(|all| all.concat())
        })?;
        failures.sort_unstable();
        Ok(failures.into_iter().map(|(_, failure)| failure).collect())
    }

    /// Stops all its containers, the infra container last. `timeout` in seconds, each container's own when absent.
    /// Podman's sentences about those that had to be killed.
    pub fn stop_pod(&mut self, name: &str, timeout: Option<u32>) -> Result<Vec<String>> {
        let pod = self.pod(name)?;
        let mut containers = self.pod_containers(&pod)?;
        containers.reverse();
        let warnings = self.stop_together(&containers, timeout)?;
        self.pod_event(&pod, "stop")?;
        Ok(warnings)
    }

    /// Stops and starts all its containers: with the same ports, and with the same addresses as far as nobody else
    /// has them.
    pub fn restart_pod(&mut self, name: &str) -> Result<PodId> {
        let pod = self.pod(name)?;
        let mut containers = self.pod_containers(&pod)?;
        containers.reverse();
        containers.iter().try_for_each(|record| self.keep_when_ended(&record.id))?;
        self.stop_together(&containers, None)?;
        self.start_all(&pod)?;
        self.pod_event(&pod, "restart")?;
        Ok(pod.id)
    }

    /// So that `--rm` does not remove it, nor its pod stop, before it is started again.
    pub(crate) fn keep_when_ended(&self, id: &ContainerId) -> Result<()> {
        self.store.write(|tx| {
            let Some(mut record) = load(tx, id)?.filter(|record| record.state == State::Running) else { return Ok(()) };
            record.fate = Some(Fate::Return(State::Exited));
            save(tx, &record)
        })
    }

    /// Sends a signal (`KILL` when absent) to the first processes of all its containers that run.
    pub fn kill_pod(&mut self, name: &str, signal: Option<&str>) -> Result<PodId> {
        let signal: Signal = signal.unwrap_or("KILL").parse()?;
        let pod = self.pod(name)?;
        let mut containers = self.pod_containers(&pod)?;
        containers.reverse();
        let running: Vec<_> = containers.iter().filter(|record| record.state == State::Running).collect();
        for record in &running {
            match self.kill(&record.id.to_string(), Some(&signal.to_string())) {
                // It has ended by itself meanwhile.
                Err(error) if error.kind == Kind::WrongState || error.kind == Kind::NotFound => {}
                killed => drop(killed?),
            }
        }
        self.pod_event(&pod, "kill")?;
        Ok(pod.id)
    }

    /// Stops those of the containers that run: the members all at once, then the infra container, which holds
    /// their sandbox.
    pub(super) fn stop_together(
        &mut self,
        containers: &[ContainerRecord],
        timeout: Option<u32>,
    ) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for is_infra in [false, true] {
            let mut running = Vec::new();
            for record in containers.iter().filter(|record| record.is_infra() == is_infra) {
                self.wait_settled(&record.id)?;
                self.mark_stopped(&record.id)?;
                let found = self.store.read(|tx| load(tx, &record.id))?.filter(|r| r.state == State::Running);
                found.iter().try_for_each(|record| self.thaw(record))?;
                running.extend(found);
            }
            for some in running.chunks(AT_ONCE) {
                warnings.extend(end_all(some, timeout)?);
            }
            for record in &running {
                self.wait_down(&record.id)?;
                self.event(record, "stop")?;
            }
        }
        Ok(warnings)
    }
}

/// Ends their first processes, all at the same time.
fn end_all(running: &[ContainerRecord], timeout: Option<u32>) -> Result<Vec<String>> {
    let end_one = |record: &ContainerRecord| {
        let Some(init) = record.init else { return Ok(None) };
        let signal = Signal::new(record.settings.stop_signal).unwrap_or(Signal::TERM);
        let seconds = timeout.unwrap_or(record.settings.stop_timeout);
        let late = end(init, signal, Duration::from_secs(seconds.into()))? == Ended::Late;
        Ok(late.then(|| {
            let name = &record.name;
            format!("StopSignal {signal} failed to stop container {name} in {seconds} seconds, resorting to SIGKILL")
        }))
    };
    let ended = std::thread::scope(|scope| {
        let threads: Vec<_> = running.iter().map(|record| scope.spawn(move || end_one(record))).collect();
        let bug = |_| Err(Error::usage("a thread that waits for a container has a bug"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(bug)).collect::<Result<Vec<_>>>()
    })?;
    Ok(ended.into_iter().flatten().collect())
}
