//! What the loop waits for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

/// Events taken at a time.
const EVENTS: usize = 64;

/// An epoll instance, level-triggered: what is not read yet is told again.
#[derive(Debug)]
pub(super) struct Poller(OwnedFd);

/// Whose descriptor something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// A command came.
    Bell,
    /// The host's resolv.conf changed.
    HostServers,
    /// A query or a connection came.
    Listener(u32),
    /// A client's connection.
    Client(u64),
    /// A socket to an upstream: its place, and which one in that place.
    Question { place: u32, serial: u32 },
}

/// Of 64 bits the upper four say what a token is.
const KIND: u32 = 60;
const NUMBER: u64 = (1 << KIND) - 1;
const PLACE: u32 = 32;

impl Token {
    fn word(self) -> u64 {
        let (kind, number) = match self {
            Self::Bell => (0, 0),
            Self::HostServers => (1, 0),
            Self::Listener(number) => (2, number.into()),
            Self::Client(number) => (3, number),
            Self::Question { place, serial } => (4, u64::from(place) << PLACE | u64::from(serial)),
        };
        kind << KIND | number & NUMBER
    }

    fn parse(word: u64) -> Option<Self> {
        let number = word & NUMBER;
        match word >> KIND {
            0 => Some(Self::Bell),
            1 => Some(Self::HostServers),
            2 => Some(Self::Listener(number as u32)),
            3 => Some(Self::Client(number)),
            4 => Some(Self::Question { place: (number >> PLACE) as u32, serial: number as u32 }),
            _ => None,
        }
    }
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    pub(super) fn add(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token.word()), flags)?)
    }

    pub(super) fn change(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token.word()), flags)?)
    }

    /// Errors and hang-ups are told of every descriptor that is in, so one that shall be quiet has to go.
    pub(super) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits until something happens, at most `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(Token, EventFlags)>> {
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
        let told = |event: &Event| Some((Token::parse(event.data.u64())?, event.flags));
        Ok(events[..count].iter().filter_map(told).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Bell,
            Token::HostServers,
            Token::Listener(u32::MAX),
            Token::Client(NUMBER),
            Token::Question { place: 511, serial: u32::MAX },
        ] {
            assert_eq!(Token::parse(token.word()), Some(token));
        }
    }
}
