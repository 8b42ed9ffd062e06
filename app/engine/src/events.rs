//! What happened: written where it happens, told to whoever asks or follows.
//!
//! ```text
//!   change of a record ──same transaction──> event table ──events()──> the CLI
//!                                             podwire.db-wal ──inotify──┘ look again
//! ```
//!
//! A follower is woken when the store's log is written to, which is shortly before what was written can be
//! read; so it looks again as a writer, who is let in when the one before has finished.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use jiff::Timestamp;
use model::{ContainerId, Network};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use store::{Event, Store};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::list::Summary;
use crate::record::{ContainerRecord, State};

/// Which events are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventSpan {
    /// From this time on; from the beginning when absent, from now when following.
    pub since: Option<Timestamp>,
    /// Up to this time, which ends a following.
    pub until: Option<Timestamp>,
    /// Wait for more.
    pub follow: bool,
}

impl Engine {
    /// Tells the events of a span in their order. An error of `tell` ends it.
    pub fn events(&self, span: &EventSpan, tell: &mut dyn FnMut(&Event) -> io::Result<()>) -> Result<()> {
        let wrong = |e: io::Error| Error::at("telling events", e);
        // Watched before anything is read, so that what is written in between is not missed.
        let growth = span.follow.then(|| watch(&self.store)).transpose().map_err(wrong)?;
        let mut place = if span.follow && span.since.is_none() { self.store.read(|tx| tx.event_last())? } else { 0 };
        let mut events = self.store.read(|tx| tx.events_after(place))?;
        loop {
            for event in &events {
                place = event.seq;
                let time = Timestamp::from_nanosecond(event.time.into()).unwrap_or_default();
                if span.since.is_none_or(|since| time >= since) && span.until.is_none_or(|until| time < until) {
                    tell(event).map_err(wrong)?;
                }
            }
            let Some(growth) = &growth else { return Ok(()) };
            if !wait(growth, span.until).map_err(wrong)? {
                return Ok(());
            }
            events = self.store.write(|tx| tx.events_after(place))?;
        }
    }

    /// Waits until a container is as wished; its exit code then. One that is removed meanwhile is an error.
    pub fn wait_until(&self, id: &ContainerId, wished: &dyn Fn(&Summary) -> bool) -> Result<i32> {
        let wrong = |e: io::Error| Error::at("waiting for a container", e);
        let growth = watch(&self.store).map_err(wrong)?;
        loop {
            let found = self.list()?.into_iter().find(|container| container.id == *id);
            let found = found.ok_or_else(|| crate::engine::no_such_container(&id.to_string()))?;
            if wished(&found) {
                return Ok(found.exit_code);
            }
            wait(&growth, None).map_err(wrong)?;
            // Woken shortly before what was written can be read: after a writer of our own it can.
            self.store.write(|_| Ok::<(), Error>(()))?;
        }
    }

    /// Remembers that something happened to a container without changing its record.
    pub(crate) fn event(&self, record: &ContainerRecord, status: &str) -> Result<()> {
        Ok(self.store.write(|tx| tx.event_add(&of_container(record, status)))?)
    }
}

/// `status` happened to the container.
pub(crate) fn of_container(record: &ContainerRecord, status: &str) -> Event {
    Event {
        id: record.id.to_string(),
        name: record.name.to_string(),
        image: record.image_name.clone(),
        attributes: Some(record.settings.labels.clone()),
        ..Event::of("container", status)
    }
}

/// The container joined (`connect`) or left (`disconnect`) the network.
pub(crate) fn of_attachment(record: &ContainerRecord, status: &str, network: &Network) -> Event {
    Event {
        id: record.id.to_string(),
        name: record.name.to_string(),
        network: network.name.to_string(),
        ..Event::of("network", status)
    }
}

/// What happened to a container that was in the state `before`, in Podman's words.
pub(crate) fn of_change(before: State, now: &ContainerRecord) -> Vec<Event> {
    let happened = |statuses: &[&str]| statuses.iter().map(|status| of_container(now, status)).collect();
    match (before, now.state) {
        (State::Starting, State::Running) => happened(&["init", "start"]),
        (State::Running, State::Stopping) => {
            vec![Event { exit_code: Some(now.exit_code), ..of_container(now, "died") }]
        }
        (State::Starting | State::Stopping, State::Created | State::Exited) => happened(&["cleanup"]),
        _ => Vec::new(),
    }
}

/// Something to read when the store has been written to. The log file may be made anew: its directory stays.
fn watch(store: &Store) -> io::Result<OwnedFd> {
    let watcher = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let directory = store.path().parent().ok_or(io::ErrorKind::NotFound)?;
    inotify::add_watch(&watcher, directory, inotify::WatchFlags::MODIFY)?;
    Ok(watcher)
}

/// Waits for the next write, but not longer than `until`; `false` when that is over.
fn wait(growth: &OwnedFd, until: Option<Timestamp>) -> io::Result<bool> {
    let left = until.map(|until| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default());
    let left = left.map(|left| Timespec::try_from(left).map_err(io::Error::other)).transpose()?;
    let mut ready = [PollFd::new(growth, PollFlags::IN)];
    match poll(&mut ready, left.as_ref()) {
        Ok(0) => return Ok(false),
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    let mut events = [0; 4096];
    // Only that something was written matters, not what.
    while matches!(rustix::io::read(growth, &mut events), Ok(1..)) {}
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> (tempfile::TempDir, Engine) {
        let directory = tempfile::tempdir().unwrap();
        let options = crate::EngineOptions {
            root: directory.path().join("root"),
            runroot: directory.path().join("run"),
            tmpdir: directory.path().join("tmp"),
            ..crate::EngineOptions::default()
        };
        let engine = Engine::open_as_is(options).unwrap();
        (directory, engine)
    }

    fn told(engine: &Engine, span: &EventSpan) -> Vec<String> {
        let mut names = Vec::new();
        engine
            .events(span, &mut |event| {
                names.push(event.name.clone());
                Ok(())
            })
            .unwrap();
        names
    }

    fn happen(engine: &Engine, name: &str) {
        engine.store.write(|tx| tx.event_add(&Event::volume("create", name))).unwrap();
    }

    #[test]
    fn a_follower_hears_what_another_process_writes_until_its_time_is_over() {
        let (_directory, engine) = engine();
        happen(&engine, "before");
        let options = engine.options().clone();
        let until = Timestamp::now() + Duration::from_millis(600);
        let span = EventSpan { follow: true, until: Some(until), ..EventSpan::default() };
        let follower = std::thread::spawn(move || told(&Engine::open_as_is(options).unwrap(), &span));
        std::thread::sleep(Duration::from_millis(150));
        for name in ["one", "two", "three"] {
            happen(&engine, name);
        }
        assert_eq!(follower.join().unwrap(), ["one", "two", "three"]);
        assert_eq!(told(&engine, &EventSpan::default()), ["before", "one", "two", "three"]);
    }

    #[test]
    fn a_span_has_a_beginning_and_an_end() {
        let (_directory, engine) = engine();
        happen(&engine, "one");
        let between = Timestamp::now();
        happen(&engine, "two");
        assert_eq!(told(&engine, &EventSpan { since: Some(between), ..EventSpan::default() }), ["two"]);
        assert_eq!(told(&engine, &EventSpan { until: Some(between), ..EventSpan::default() }), ["one"]);
    }

    #[test]
    fn an_error_of_the_listener_ends_it() {
        let (_directory, engine) = engine();
        happen(&engine, "one");
        let refused = engine.events(&EventSpan::default(), &mut |_| Err(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(refused.unwrap_err().to_string(), "telling events: broken pipe");
    }
}
