//! What a loop waits for.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

/// Events taken at a time.
const EVENTS: usize = 64;

/// Whose descriptor something happened to; the kernel keeps it as a word.
pub(crate) trait Token: Copy {
    fn word(self) -> u64;
    fn parse(word: u64) -> Option<Self>;
}

/// An epoll instance, level-triggered: what is not read yet is told again.
#[derive(Debug)]
pub(crate) struct Poller<T>(OwnedFd, PhantomData<T>);

impl<T: Token> Poller<T> {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?, PhantomData))
    }

    pub(crate) fn add(&self, fd: impl AsFd, token: T, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token.word()), flags)?)
    }

    pub(crate) fn change(&self, fd: impl AsFd, token: T, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token.word()), flags)?)
    }

    /// Errors and hang-ups are told of every descriptor that is in, so one that shall be quiet has to go.
    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits until something happens, at most `timeout`.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(T, EventFlags)>> {
        let mut events: [Event; EVENTS] = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        // Milliseconds, rounded up: else the last part of one would be spent awake.
        let timeout = timeout.map(|time| {
            let ms = time.as_nanos().div_ceil(1_000_000).min(60_000) as i64;
            Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
        });
        let count = match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => 0,
            other => other?,
        };
        let told = |event: &Event| Some((T::parse(event.data.u64())?, event.flags));
        Ok(events[..count].iter().filter_map(told).collect())
    }
}
