//! Ending, waiting for, joining and removing containers.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use images::{ImageError, Removed};
use linux::{ProcessRef, Signal};
use model::{ContainerId, PortMapping};

use crate::config::{NetworkMode, Restart};
use crate::engine::{Engine, load, no_such_container, save};
use crate::error::{Error, Kind, Result};
use crate::foreground::{self, Connection, Watch};
use crate::monitor::through;
use crate::pods::PodRemoval;
use crate::protocol::Frame;
use crate::pump::ATTACH;
use crate::record::{ContainerRecord, State};
use crate::talk::{Attach, RunEnd, RunResult};

/// What became of a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The container.
    pub id: ContainerId,
    /// Podman's sentence when the stop signal was waited for in vain.
    pub warning: Option<String>,
}

/// `rm`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Also when it runs: it is stopped.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
    /// Seconds between the stop signal and the kill; the container's own when absent. With `force` only.
    pub time: Option<u32>,
    /// With the containers that use its network.
    pub depend: bool,
}

impl Engine {
    /// Sends the stop signal, after `timeout` seconds (the container's own when absent) the kill, and waits
    /// until the container is down. One that cannot hear the signal is killed at once. One that does not run
    /// is left as it is.
    pub fn stop(&mut self, name: &str, timeout: Option<u32>) -> Result<Stopped> {
        let id = self.named(name)?.id;
        self.wait_settled(&id)?;
        let record = self.record(&id)?;
        let mut stopped = Stopped { id: record.id, warning: None };
        self.mark_stopped(&id)?;
        self.thaw(&record)?;
        if record.state == State::Running
            && let Some(init) = record.init
        {
            let signal = Signal::new(record.settings.stop_signal).unwrap_or(Signal::TERM);
            let seconds = timeout.unwrap_or(record.settings.stop_timeout);
            if end(init, signal, Duration::from_secs(seconds.into()))? == Ended::Late {
                stopped.warning = Some(format!(
                    "StopSignal {signal} failed to stop container {} in {seconds} seconds, resorting to SIGKILL",
                    record.name
                ));
            }
            self.wait_down(&record.id)?;
            self.event(&record, "stop")?;
        }
        self.wait_down(&record.id)?;
        Ok(stopped)
    }

    /// Stops a container as [`Engine::stop`] does and starts it again, with the same ports, and with the same
    /// addresses as far as nobody else has them; one that does not run is started. `--rm` does not remove it.
    pub fn restart(&mut self, name: &str, timeout: Option<u32>) -> Result<Stopped> {
        let record = self.named(name)?;
        self.wait_settled(&record.id)?;
        if let NetworkMode::Container(owner) = &record.settings.network.mode
            && self.named(owner)?.state != State::Running
        {
            let text = format!(
                "some dependencies of container {} are not started: {owner}: container state improper",
                record.id
            );
            return Err(Error::new(Kind::WrongState, text));
        }
        self.event(&record, "restart")?;
        self.keep_when_ended(&record.id)?;
        let stopped = self.stop(&record.id.to_string(), timeout)?;
        match self.start(&record.id, Attach::Detached) {
            // Somebody else was faster: it was started anew, as was wished.
            Err(error) if error.kind == Kind::WrongState && self.record(&record.id)?.state == State::Running => {}
            started => drop(started?),
        }
        Ok(stopped)
    }

    /// Sends a signal (`KILL` when absent) to a running container's first process.
    pub fn kill(&mut self, name: &str, signal: Option<&str>) -> Result<ContainerId> {
        let signal: Signal = signal.unwrap_or("KILL").parse()?;
        let record = self.named(name)?;
        let wrong = || {
            let text = format!(
                "can only kill running containers. {} is in state {}: container state improper",
                record.id, record.state
            );
            Error::new(Kind::WrongState, text)
        };
        let init = record.init.filter(|_| record.state == State::Running).ok_or_else(wrong)?;
        self.mark_stopped(&record.id)?;
        if signal == Signal::KILL {
            self.thaw(&record)?;
        }
        match init.signal(signal) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(wrong()),
            done => done.map_err(|e| Error::at(format!("cannot send {signal} to container {}", record.id), e))?,
        }
        self.event(&record, "kill")?;
        if signal == Signal::KILL {
            self.wait_down(&record.id)?;
        }
        Ok(record.id)
    }

    /// Its user ends it: its policy is to let it be.
    pub(crate) fn mark_stopped(&self, id: &ContainerId) -> Result<()> {
        self.store.write(|tx| match load(tx, id)? {
            Some(mut record) if record.settings.care.restart != Restart::No && !record.stopped_by_user => {
                record.stopped_by_user = true;
                save(tx, &record)
            }
            _ => Ok(()),
        })
    }

    /// Waits until the container has ended and is down; its exit code.
    pub fn wait(&mut self, name: &str) -> Result<i32> {
        let record = self.named(name)?;
        if record.state == State::Created {
            // Podman waits until it has been started and has ended; nobody can be waited for yet.
            return Err(Error::new(
                Kind::WrongState,
                format!("container {} was never started: container state improper", record.id),
            ));
        }
        if let Some(code) = self.connect(&record.id)?.map(exit_code).transpose()?.flatten() {
            return Ok(code);
        }
        self.wait_down(&record.id)?;
        self.record(&record.id).map(|record| record.exit_code)
    }

    /// Joins the streams of a running container.
    pub fn attach(&mut self, name: &str, attach: &Attach) -> Result<RunResult> {
        let record = self.named(name)?;
        let wrong = || Error::new(Kind::WrongState, "you can only attach to running containers".to_owned());
        let init = record.init.filter(|_| record.state == State::Running).ok_or_else(wrong)?;
        let mut connection = self.connect(&record.id)?.ok_or_else(wrong)?;
        let Some(watch) = Watch::of(&record.settings, attach) else {
            return Ok(RunResult { id: record.id, end: RunEnd::Detached });
        };
        connection.say(&Frame::Watch)?;
        self.event(&record, "attach")?;
        Ok(RunResult { id: record.id, end: foreground::follow(connection, watch, init)? })
    }

    /// Published ports of a running container, or of the one whose network it uses; none when it does not run.
    pub fn port(&self, name: &str) -> Result<Vec<PortMapping>> {
        let record = self.named(name)?;
        if let NetworkMode::Container(owner) = &record.settings.network.mode
            && record.state == State::Running
        {
            return self.port(owner);
        }
        Ok(if record.state == State::Running { record.settings.ports } else { Vec::new() })
    }

    /// Removes a container; those that were removed, in that order.
    pub fn remove(&mut self, name: &str, options: &RemoveOptions) -> Result<Vec<ContainerId>> {
        let record = self.named(name)?;
        if let Some(pod) = record.pod().filter(|_| record.is_infra()) {
            return Err(Error::usage(format!(
                "container {} is the infra container of pod {pod} and cannot be removed without removing the pod",
                record.id
            )));
        }
        if !record.state.at_rest() && !options.force {
            return Err(in_the_way(&record));
        }
        let mut removed = Vec::new();
        let dependants = self.dependants(&record)?;
        if !dependants.is_empty() && !options.depend {
            let ids: Vec<String> = dependants.iter().map(ToString::to_string).collect();
            let ids = ids.join(", ");
            let text = format!(
                "container {} has dependent containers which must be removed before it: {ids}: container already exists",
                record.id
            );
            return Err(Error::usage(text));
        }
        for id in dependants {
            removed.extend(self.remove(&id.to_string(), options)?);
        }
        self.remove_one(&record.id, options)?;
        removed.push(record.id);
        Ok(removed)
    }

    /// Removes a container whatever it does, `time` seconds after its stop signal; with an infra container its pod.
    pub(crate) fn remove_forced(&mut self, id: &ContainerId, time: Option<u32>) -> Result<()> {
        let record = self.record(id)?;
        if let Some(pod) = record.pod().filter(|_| record.is_infra()) {
            return self.remove_pod(&pod.to_string(), &PodRemoval { force: true, time }).map(drop);
        }
        let options = RemoveOptions { force: true, time, depend: true, volumes: false };
        self.remove(&id.to_string(), &options).map(drop)
    }

    /// Removes an image, or one of its names. With `force` all its names, with `containers` also the
    /// containers that use it.
    pub fn remove_image(&mut self, name: &str, force: bool, containers: bool) -> Result<Removed, ImageError> {
        let users = match self.images_or_error()?.remove(name, force) {
            Err(ImageError::InUse { containers: users, .. }) if containers => users,
            done => return done,
        };
        for id in users {
            let removed = self.remove_forced(&id, None);
            removed.map_err(|e| ImageError::Invalid(format!("cannot remove container {id}: {e}")))?;
        }
        self.images_or_error()?.remove(name, force)
    }

    fn images_or_error(&self) -> Result<images::Images<'_>, ImageError> {
        images::Images::open(&self.options().root, &self.store)
    }

    pub(crate) fn remove_one(&mut self, id: &ContainerId, options: &RemoveOptions) -> Result<()> {
        loop {
            let Some(record) = self.store.read(|tx| load(tx, id))? else { return Ok(()) };
            if !record.state.at_rest() && !options.force {
                return Err(in_the_way(&record));
            }
            if let Some(record) = self.claim_for_removal(id, options.volumes)? {
                return self.forget(&record, options.volumes);
            }
            if record.state == State::Starting {
                self.wait_settled(id)?;
                continue;
            }
            self.end_by_force(&record, options)?;
            self.wait_down(id)?;
        }
    }

    fn end_by_force(&mut self, record: &ContainerRecord, options: &RemoveOptions) -> Result<()> {
        self.mark_stopped(&record.id)?;
        self.thaw(record)?;
        let Some(init) = record.init else { return Ok(()) };
        let signal = Signal::new(record.settings.stop_signal).unwrap_or(Signal::TERM);
        let seconds = options.time.unwrap_or(record.settings.stop_timeout);
        end(init, signal, Duration::from_secs(seconds.into())).map(drop)
    }

    /// The containers that use this one's network.
    fn dependants(&self, record: &ContainerRecord) -> Result<Vec<ContainerId>> {
        Ok(self.store.read(|tx| tx.containers_sharing(&record.id))?)
    }

    /// Waits for the end of a container through its monitor; `false` when there is none to ask.
    pub(crate) fn hear_end(&self, id: &ContainerId) -> Result<bool> {
        Ok(self.connect(id)?.map(exit_code).transpose()?.flatten().is_some())
    }

    /// A conversation with the container's monitor, if there is one.
    pub(crate) fn connect(&self, id: &ContainerId) -> Result<Option<Connection>> {
        let Ok(directory) = File::open(self.places(id).run_data()) else { return Ok(None) };
        match UnixStream::connect(through(&directory, ATTACH)) {
            Ok(socket) => Ok(Some(Connection::new(socket))),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
            Err(e) => Err(Error::at("cannot ask the container's monitor", e)),
        }
    }

    /// The id of a container a user named in `--network container:NAME`, which must be there.
    pub(crate) fn network_owner(&self, name: &str) -> Result<ContainerId> {
        self.find(name).map_err(|e| match e.kind {
            Kind::NotFound => {
                Error::usage(format!("looking up container to share net namespace with: {}", no_such_container(name)))
            }
            _ => e,
        })
    }
}

fn in_the_way(record: &ContainerRecord) -> Error {
    let text = format!(
        "cannot remove container {} as it is {} - running or paused containers cannot be removed without force: \
         container state improper",
        record.id, record.state
    );
    Error::new(Kind::WrongState, text)
}

/// Listens until the end; `None` when the monitor dies before.
fn exit_code(mut connection: Connection) -> Result<Option<i32>> {
    while let Some(frame) = connection.next()? {
        if let Frame::Exited(code) = frame {
            return Ok(Some(code));
        }
    }
    Ok(None)
}

/// How a first process was ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Without waiting in vain.
    InTime,
    /// By SIGKILL, after it had its time.
    Late,
}

/// Sends `signal`, and after `patience` SIGKILL; SIGKILL at once when waiting is futile. Waits for the end.
pub(crate) fn end(init: ProcessRef, signal: Signal, patience: Duration) -> Result<Ended> {
    let gone = |result: io::Result<()>| match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|e| Error::at("cannot signal the container", e)),
    };
    let mut ended = Ended::InTime;
    if signal != Signal::KILL && !patience.is_zero() && init.hears(signal) {
        gone(init.signal(signal))?;
        if init.wait_end(Some(patience)).map_err(Error::usage)? {
            return Ok(ended);
        }
        ended = Ended::Late;
    }
    gone(init.signal(Signal::KILL))?;
    init.wait_end(None).map_err(Error::usage)?;
    Ok(ended)
}
