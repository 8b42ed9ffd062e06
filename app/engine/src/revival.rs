//! A container's monitor as the one who brings netd back.
//!
//! ```text
//!   alive (pidfd) ──ends──> reviving (a thread) ──done──> alive
//!        ^                       │      ^  └─failed─> waiting (1 s, 2 s … a minute) ─> reviving
//!        └── started by others ──┴─ not needed (a look every 5 s: nobody is on any network)
//! ```
//!
//! **How it works.** A monitor polls one descriptor more. When netd ends, each monitor waits a moment of its
//! own, and one of them gets the lock on netd's directory first; the others find it alive when they get it.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use linux::{HostLock, NsId};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::config::NetworkMode;
use crate::engine::{Engine, EngineOptions};
use crate::netd;
use crate::record::ContainerRecord;

/// The longest that a monitor waits before it tries: so that a thousand do not come at once.
const SPREAD_MS: u64 = 100;
/// How soon a netd that others have started is seen when there was no need for one.
const NOT_NEEDED: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Watches over netd while a container runs.
pub(crate) struct NetdGuard {
    options: EngineOptions,
    namespace: NsId,
    instance: String,
    state: State,
    failures: u32,
}

enum State {
    /// Readable when it has ended.
    Alive(OwnedFd),
    /// Readable when the thread has done what it could: one byte if that was enough.
    Reviving(std::fs::File),
    /// Readable when it is time to look again, and to try again if that is what it is for.
    Waiting { timer: OwnedFd, revive: bool },
    /// Nothing can be watched: this process is short of descriptors or memory.
    Blind,
}

impl NetdGuard {
    /// For a container that runs; `None` when its network needs no netd.
    pub(crate) fn of(engine: &Engine, record: &ContainerRecord) -> Option<Self> {
        let NetworkMode::Networks(_) = record.settings.network.mode else { return None };
        let namespace = linux::NetNs::current().and_then(|namespace| namespace.inode()).ok()?;
        let (options, instance) = (engine.options().clone(), engine.store.instance().to_owned());
        let mut guard = Self { options, namespace, instance, state: State::Blind, failures: 0 };
        guard.state = guard.alive().unwrap_or_else(|| guard.revive());
        Some(guard)
    }

    /// What to poll for reading; [`NetdGuard::step`] when it is.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Alive(fd) | State::Waiting { timer: fd, .. } => Some(fd.as_fd()),
            State::Reviving(done) => Some(done.as_fd()),
            State::Blind => None,
        }
    }

    /// Goes on after something has happened. Does not block.
    pub(crate) fn step(&mut self) {
        let alive = self.alive();
        let next = match &mut self.state {
            State::Alive(_) => alive.unwrap_or_else(|| self.revive()),
            State::Reviving(done) => match (alive, done.read(&mut [0])) {
                (Some(alive), _) => {
                    self.failures = 0;
                    alive
                }
                (None, Ok(1)) => wait(NOT_NEEDED, false),
                (None, _) => {
                    self.failures = self.failures.saturating_add(1);
                    let seconds = Duration::from_secs(1 << (self.failures - 1).min(6));
                    wait(seconds.min(LONGEST_WAIT), true)
                }
            },
            State::Waiting { revive: true, .. } => alive.unwrap_or_else(|| self.revive()),
            State::Waiting { revive: false, .. } => alive.unwrap_or_else(|| wait(NOT_NEEDED, false)),
            State::Blind => State::Blind,
        };
        self.state = next;
    }

    fn alive(&self) -> Option<State> {
        let process = netd::process(self.namespace, &self.instance)?;
        process.pidfd().ok().map(State::Alive)
    }

    /// On a thread, because it waits for locks.
    fn revive(&self) -> State {
        let (options, namespace, instance) = (self.options.clone(), self.namespace, self.instance.clone());
        let Ok((done, tell)) = std::io::pipe() else { return State::Blind };
        let work = move || {
            std::thread::sleep(Duration::from_millis(random_below(SPREAD_MS)));
            // Gone when the last netd has left in peace: then nobody else is about to start one either.
            let _first = HostLock::take_directory(&netd::directory(namespace));
            if netd::process(namespace, &instance).is_some_and(|process| process.alive()) {
                return;
            }
            match netd::revive(&options) {
                Ok(()) => drop(std::io::Write::write(&mut &tell, &[1])),
                Err(error) => tracing::warn!(%error, "cannot bring netd back"),
            }
        };
        match std::thread::Builder::new().name("podwire-revival".to_owned()).stack_size(512 << 10).spawn(work) {
            Ok(_) => State::Reviving(OwnedFd::from(done).into()),
            Err(_) => State::Blind,
        }
    }
}

fn wait(time: Duration, revive: bool) -> State {
    let set = || {
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec::try_from(time).unwrap_or(zero);
        rustix::time::timerfd_settime(
            &timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: zero, it_value: value },
        )?;
        Ok::<_, rustix::io::Errno>(timer)
    };
    set().map_or(State::Blind, |timer| State::Waiting { timer, revive })
}

fn random_below(limit: u64) -> u64 {
    // Without chance all come at once, and wait for each other.
    linux::machine::random().map_or(0, |bytes: [u8; 8]| u64::from_ne_bytes(bytes) % limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn guard(state: State) -> NetdGuard {
        let namespace = NsId { dev: 0, ino: u64::MAX };
        // No store can be opened below a file, so that nobody can be revived.
        let options = EngineOptions {
            root: "/proc/version/x".into(),
            runroot: "/proc/version/y".into(),
            ..EngineOptions::default()
        };
        NetdGuard { options, namespace, instance: "none".to_owned(), state, failures: 0 }
    }

    fn step_when_ready(guard: &mut NetdGuard) {
        let fd = guard.fd().unwrap();
        let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)), Ok(1));
        guard.step();
    }

    #[test]
    fn a_netd_that_cannot_be_brought_back_is_tried_again_ever_more_slowly() {
        let mut guard = guard(State::Blind);
        guard.state = guard.revive();
        step_when_ready(&mut guard);
        assert!(matches!(guard.state, State::Waiting { revive: true, .. }) && guard.failures == 1);
        step_when_ready(&mut guard);
        assert!(matches!(guard.state, State::Reviving(_)));
        step_when_ready(&mut guard);
        assert!(matches!(guard.state, State::Waiting { revive: true, .. }) && guard.failures == 2);
    }

    #[test]
    fn who_is_not_needed_is_only_looked_for() {
        let (done, mut tell) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut tell, &[1]).unwrap();
        let mut guard = guard(State::Reviving(OwnedFd::from(done).into()));
        step_when_ready(&mut guard);
        assert!(matches!(guard.state, State::Waiting { revive: false, .. }));
    }
}
