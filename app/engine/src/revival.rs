//! A container's monitor as the one who brings netd back, and an ordinary user's relay.
//!
//! ```text
//!   alive (pidfd) ──ends──> reviving (a thread) ──done──> alive
//!        ^                       │      ^  └─failed─> waiting (1 s, 2 s … a minute) ─> reviving
//!        └── started by others ──┴─ not needed (a look every 5 s: nobody is on any network)
//! ```
//!
//! **How it works.** A monitor polls one descriptor more for each of them. When netd ends, each monitor waits a
//! moment of its own, and one of them gets the lock on netd's directory first; the others find it alive when they get
//! it. Of the relay it is the lock of the relay's namespace.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use linux::{HostLock, NsId, ProcessRef};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::engine::{Engine, EngineOptions};
use crate::record::ContainerRecord;
use crate::{netd, relay_client, rootless_net};

/// The longest that a monitor waits before it tries: so that a thousand do not come at once.
const SPREAD_MS: u64 = 100;
/// How soon a netd that others have started is seen when there was no need for one.
const NOT_NEEDED: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Watches over a helper while a container runs.
pub(crate) struct Guard {
    options: EngineOptions,
    helper: Helper,
    state: State,
    failures: u32,
}

/// Who has to be there while containers are on networks.
#[derive(Debug, Clone)]
enum Helper {
    Netd { namespace: NsId, instance: String },
    Relay,
}

impl Helper {
    /// Who it is, when it says so.
    fn process(&self, options: &EngineOptions) -> Option<ProcessRef> {
        match self {
            Self::Netd { namespace, instance } => netd::process(*namespace, instance),
            Self::Relay => relay_client::process(&options.runroot),
        }
    }

    /// Whose turn it is to bring it back. A directory is gone when the last netd has left in peace: then nobody
    /// else is about to start one either.
    fn turn(&self) -> Option<HostLock> {
        match self {
            Self::Netd { namespace, .. } => HostLock::take_directory(&netd::directory(*namespace)).ok(),
            Self::Relay => None,
        }
    }
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

impl Guard {
    /// For a container that runs; none when its network needs nobody.
    pub(crate) fn of(engine: &Engine, record: &ContainerRecord) -> Vec<Self> {
        let options = engine.options();
        if !record.settings.network.mode.is_networked() {
            return Vec::new();
        }
        let Ok(namespace) = rootless_net::place_of_networks(options) else { return Vec::new() };
        let netd = Helper::Netd { namespace, instance: engine.store.instance().to_owned() };
        let helpers = [netd].into_iter().chain(options.rootless.then_some(Helper::Relay));
        let guard = |helper| {
            let mut guard = Self { options: options.clone(), helper, state: State::Blind, failures: 0 };
            guard.state = guard.alive().unwrap_or_else(|| guard.revive());
            guard
        };
        helpers.map(guard).collect()
    }

    /// What to poll for reading; [`Guard::step`] when it is.
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
        let process = self.helper.process(&self.options)?;
        process.pidfd().ok().map(State::Alive)
    }

    /// On a thread, because it waits for locks.
    fn revive(&self) -> State {
        let (options, helper) = (self.options.clone(), self.helper.clone());
        let Ok((done, tell)) = std::io::pipe() else { return State::Blind };
        let work = move || {
            std::thread::sleep(Duration::from_millis(random_below(SPREAD_MS)));
            let _first = helper.turn();
            if helper.process(&options).is_some_and(|process| process.alive()) {
                return;
            }
            match netd::revive(&options) {
                Ok(()) => drop(std::io::Write::write(&mut &tell, &[1])),
                Err(error) => tracing::warn!(%error, ?helper, "cannot bring a helper back"),
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

    fn guard(state: State) -> Guard {
        let namespace = NsId { dev: 0, ino: u64::MAX };
        // No store can be opened below a file, so that nobody can be revived.
        let options = EngineOptions {
            root: "/proc/version/x".into(),
            runroot: "/proc/version/y".into(),
            ..EngineOptions::default()
        };
        Guard { options, helper: Helper::Netd { namespace, instance: "none".to_owned() }, state, failures: 0 }
    }

    fn step_when_ready(guard: &mut Guard) {
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
