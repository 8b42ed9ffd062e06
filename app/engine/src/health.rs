//! Health checks: a process beside the monitor runs them, a file in the container's directory remembers.
//!
//! ```text
//!   monitor ── starts ──> podwire-health ──every interval──> exec in the container ─> userdata/healthcheck.log
//!                              │ init ended: so does it          └─ unhealthy ──> kill, stop or restart
//!                              └ the monitor was killed: so is it, and the next monitor starts another
//! ```
//!
//! A check that takes too long is killed and counts as failed. Until the start period is over, failures do not count.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use linux::file::{Durability, write_atomic};
use linux::{HostLock, ProcessRef, Spawn};
use model::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::config::{HealthCheck, OnUnhealthy};
use crate::engine::{Engine, EngineOptions, Places};
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::exec::{ExecConfig, Session};
use crate::record::{ContainerRecord, State};

/// The name (`argv[0]`) under which the binary runs a container's checks.
pub const HEALTH_NAME: &str = "podwire-health";

/// What checks have found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    #[serde(rename = "Status")]
    pub status: String,
    /// How many checks in a row have failed.
    #[serde(rename = "FailingStreak")]
    pub failing_streak: u32,
    /// The last checks, oldest first.
    #[serde(rename = "Log")]
    pub log: Vec<Check>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When it began.
    #[serde(rename = "Start")]
    pub start: Timestamp,
    /// When it was over.
    #[serde(rename = "End")]
    pub end: Timestamp,
    /// 0 is well.
    #[serde(rename = "ExitCode")]
    pub exit_code: i32,
    /// What it printed, as far as that is short.
    #[serde(rename = "Output")]
    pub output: String,
}

/// Podman remembers so many checks …
const CHECKS: usize = 5;
/// … and so many bytes of the output of each.
const OUTPUT: usize = 500;

const STARTING: &str = "starting";
const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

fn file(places: &Places) -> PathBuf {
    places.static_data().join("healthcheck.log")
}

/// What is remembered of a container's checks.
pub(crate) fn remembered(places: &Places) -> Health {
    let read = std::fs::read(file(places)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    read.unwrap_or_else(|| Health { status: STARTING.to_owned(), ..Health::default() })
}

fn remember(places: &Places, health: &Health) -> Result<()> {
    let text = serde_json::to_vec(health).map_err(Error::usage)?;
    write_atomic(&file(places), &text, 0o600, Durability::ThisBoot).map_err(|e| Error::at(file(places).display(), e))
}

/// A container that is started begins anew.
pub(crate) fn begin(record: &ContainerRecord, places: &Places) -> Result<()> {
    match record.settings.care.health {
        Some(_) => remember(places, &Health { status: STARTING.to_owned(), ..remembered(places) }),
        None => Ok(()),
    }
}

impl Engine {
    /// The word that `ps` shows behind the state.
    pub(crate) fn health_word(&self, record: &ContainerRecord) -> Option<String> {
        let checked = record.settings.care.health.is_some() && record.state == State::Running && !record.paused;
        checked.then(|| remembered(&self.places(&record.id)).status)
    }

    /// Runs the container's check once; what it has found.
    pub fn check_health(&mut self, name: &str) -> Result<Health> {
        let record = self.named(name)?;
        let check = record.settings.care.health.clone().ok_or_else(|| {
            Error::usage(format!("has no defined healthcheck: container {} has no defined healthcheck", record.id))
        })?;
        if record.shown_state() != State::Running {
            return Err(Error::new(Kind::WrongState, format!("container {} is not running", record.id)));
        }
        let found = self.run_check(&record, &check)?;
        self.note(&record, &check, found)
    }

    /// Adds a check to what is known.
    fn note(&self, record: &ContainerRecord, check: &HealthCheck, found: Check) -> Result<Health> {
        let places = self.places(&record.id);
        // By hand and by the clock at once: one after the other.
        let _lock =
            HostLock::take_directory(&places.static_data()).map_err(|e| Error::at("a container's checks", e))?;
        let mut health = remembered(&places);
        let begun = record.started.unwrap_or(record.created);
        let young = found.start.duration_since(begun) < check.start_period.try_into().unwrap_or_default();
        judge(&mut health, found, check.retries, young);
        remember(&places, &health)?;
        let mut event = events::of_container(record, "health_status");
        event.health = Some(health.status.clone());
        self.store.write(|tx| tx.event_add(&event))?;
        Ok(health)
    }

    fn run_check(&self, record: &ContainerRecord, check: &HealthCheck) -> Result<Check> {
        let places = self.places(&record.id);
        let command = match check.shell {
            true => ["/bin/sh".to_owned(), "-c".to_owned()].into_iter().chain(check.command.iter().cloned()).collect(),
            false => check.command.clone(),
        };
        let start = Timestamp::now();
        let done = |exit_code, output: String| Check { start, end: Timestamp::now(), exit_code, output };
        let config = ExecConfig { command, ..ExecConfig::default() };
        let session = match Session::prepare(record, &places, &config) {
            // No such command in the container: it is not well.
            Err(error) if matches!(error.kind, Kind::CannotStart | Kind::CommandNotFound) => {
                return Ok(done(i32::from(error.exit_code()), error.message));
            }
            session => session?,
        };
        let runtime = self.runtime_of(record)?;
        let mut call = runtime.call(&session.log());
        if runtime.wants_cgroup2() {
            call.runtime_mounts();
        }
        call.join(crate::groups::doors(&places)?);
        let pid_file = places.run_data().join(format!("{}.pid", session.name()));
        let (mut output, theirs) = std::io::pipe().map_err(Error::usage)?;
        let errors = theirs.try_clone().map_err(Error::usage)?;
        let line = call.command();
        line.arg("exec")
            .arg("--process")
            .arg(session.process())
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(record.id.to_string());
        line.stdin(Stdio::null()).stdout(theirs).stderr(errors);
        let child = call.spawn().map_err(|e| Error::at(runtime.path.display(), e))?;
        let read = read_until(&mut output, Instant::now() + check.timeout);
        if read.is_none() {
            let pid = std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
            let killed =
                pid.and_then(|pid| ProcessRef::of(pid).ok()).map(|process| process.signal(linux::Signal::KILL));
            tracing::debug!(?killed, container = %record.id, "a health check took too long");
        }
        let code = session.finish(&runtime, child);
        let _ = std::fs::remove_file(&pid_file);
        Ok(match (read, code) {
            (None, _) => done(-1, format!("health check exceeded its timeout of {:?}", check.timeout)),
            (Some(text), Ok(code)) => done(code, text),
            (Some(_), Err(error)) => done(i32::from(error.exit_code()), error.message),
        })
    }
}

/// What comes before the end of the output; `None` when that does not come in time.
fn read_until(output: &mut std::io::PipeReader, end: Instant) -> Option<String> {
    let mut kept = Vec::new();
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok()?;
        let ready =
            rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&*output, PollFlags::IN)], Some(&left))).ok()?;
        if ready == 0 {
            return None;
        }
        let mut bytes = [0; 4096];
        match output.read(&mut bytes) {
            Ok(0) => return Some(String::from_utf8_lossy(&kept).into_owned()),
            // The rest is read, so that nobody waits for it to be, and forgotten.
            Ok(length) => kept.extend_from_slice(&bytes[..length.min(OUTPUT - kept.len().min(OUTPUT))]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn judge(health: &mut Health, found: Check, retries: u32, young: bool) {
    if found.exit_code == 0 {
        health.failing_streak = 0;
        health.status = HEALTHY.to_owned();
    } else if !young || health.status == HEALTHY {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            health.status = UNHEALTHY.to_owned();
        }
    }
    health.log.push(found);
    let surplus = health.log.len().saturating_sub(CHECKS);
    health.log.drain(..surplus);
}

/// What one such process is to do; its only argument, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    options: EngineOptions,
    id: ContainerId,
    init: ProcessRef,
    task: Task,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Task {
    /// Check again and again.
    Watch,
    /// It is unhealthy.
    Act(OnUnhealthy),
}

/// The process that runs a container's checks; of its monitor.
pub(crate) struct Watcher {
    order: String,
    init: ProcessRef,
    /// As a number, when it runs.
    pid: u32,
    started: Instant,
}

/// One that ends sooner than this after its start is not started again.
const SOON: Duration = Duration::from_secs(1);

impl Watcher {
    /// `None` for a container without checks that run by themselves. On the monitor's main thread, with which it ends.
    pub(crate) fn start(engine: &Engine, record: &ContainerRecord, init: ProcessRef) -> Result<Option<Self>> {
        if record.settings.care.health.as_ref().is_none_or(|check| check.interval.is_none()) {
            return Ok(None);
        }
        let options = engine.options_with(&engine.runtime_of(record)?);
        let order = Order { options, id: record.id, init, task: Task::Watch };
        let order = serde_json::to_string(&order).map_err(Error::usage)?;
        let pid = call(&order, true)?;
        Ok(Some(Self { order, init, pid, started: Instant::now() }))
    }

    /// A child of the monitor's has ended: when it was this one, another takes its place.
    pub(crate) fn ended(&mut self, pid: u32) {
        if pid == self.pid && self.init.alive() && self.started.elapsed() > SOON {
            self.started = Instant::now();
            // Without it everything goes on but the checks.
            self.pid = call(&self.order, true).unwrap_or(0);
        }
    }
}

fn call(order: &str, bound: bool) -> Result<u32> {
    let mut call = Spawn::ourselves(HEALTH_NAME);
    if bound {
        call.dies_with_us();
    }
    call.command().arg(order).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    Ok(call.spawn().map_err(|e| Error::at("cannot start the container's health checks", e))?.id())
}

/// What `main` runs when its own name is [`HEALTH_NAME`]. Returns the process's exit code.
pub fn health_main() -> i32 {
    let _ = linux::process::set_name(HEALTH_NAME);
    match run() {
        Ok(()) => 0,
        Err(error) => {
            // Standard error is the monitor's, userdata/monitor.log.
            let _ = writeln!(std::io::stderr(), "health checks: {error}");
            1
        }
    }
}

fn run() -> Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let order: Order = serde_json::from_str(&argument).map_err(|e| Error::at("an order for health checks", e))?;
    let mut engine = Engine::open_as_is(order.options.clone())?;
    match order.task {
        Task::Watch => watch(&mut engine, &order),
        Task::Act(action) => act(&mut engine, &order.id.to_string(), action),
    }
}

fn watch(engine: &mut Engine, order: &Order) -> Result<()> {
    let Ok(ended) = order.init.pidfd() else { return Ok(()) };
    let record = engine.record(&order.id)?;
    let Some(check) = record.settings.care.health.clone() else { return Ok(()) };
    let interval = check.interval.unwrap_or(Duration::MAX);
    // At once, but not sooner than an interval after the last one: a container that is started again because it is
    // unhealthy has that time to become well.
    let places = engine.places(&order.id);
    let since = remembered(&places).log.last().map(|last| Timestamp::now().duration_since(last.end));
    let since = since.and_then(|since| Duration::try_from(since).ok()).unwrap_or(interval);
    if wait(ended.as_fd(), interval.saturating_sub(since))? {
        return Ok(());
    }
    loop {
        match engine.check_health(&order.id.to_string()) {
            Ok(health) if health.status == UNHEALTHY && check.on_failure != OnUnhealthy::None => {
                let act = Order {
                    options: order.options.clone(),
                    id: order.id,
                    init: order.init,
                    task: Task::Act(check.on_failure),
                };
                // Another process, for this one ends with the container's monitor.
                call(&serde_json::to_string(&act).map_err(Error::usage)?, false)?;
                return Ok(());
            }
            // Paused, or at its end.
            Err(error) if error.kind == Kind::WrongState => {}
            Err(error) if error.kind == Kind::NotFound => return Ok(()),
            Err(error) => drop(writeln!(std::io::stderr(), "a health check: {error}")),
            Ok(_) => {}
        }
        if wait(ended.as_fd(), interval)? {
            return Ok(());
        }
    }
}

/// Waits; `true` when the container has ended meanwhile.
fn wait(ended: impl AsFd, interval: Duration) -> Result<bool> {
    let interval = Timespec::try_from(interval).map_err(Error::usage)?;
    let ready = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&interval)));
    Ok(ready.map_err(Error::usage)? > 0)
}

fn act(engine: &mut Engine, id: &str, action: OnUnhealthy) -> Result<()> {
    match action {
        OnUnhealthy::None => Ok(()),
        OnUnhealthy::Kill => engine.kill(id, None).map(drop),
        OnUnhealthy::Stop => engine.stop(id, None).map(drop),
        OnUnhealthy::Restart => engine.restart(id, None).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exit_code: i32) -> Check {
        Check { start: Timestamp::UNIX_EPOCH, end: Timestamp::UNIX_EPOCH, exit_code, output: String::new() }
    }

    #[test]
    fn enough_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let mut health = Health { status: STARTING.to_owned(), ..Health::default() };
        let mut status = |code, young| {
            judge(&mut health, check(code), 2, young);
            health.status.clone()
        };
        assert_eq!(status(1, true), STARTING);
        assert_eq!(status(1, true), STARTING);
        assert_eq!(status(1, false), STARTING);
        assert_eq!(status(1, false), UNHEALTHY);
        assert_eq!(status(0, false), HEALTHY);
        assert_eq!(status(1, true), HEALTHY);
        assert_eq!(status(1, true), UNHEALTHY);
        assert_eq!(health.log.len(), CHECKS);
    }
}
