//! The bytes of one connection: from each of two sockets to the other.
//!
//! ```text
//!   one socket ──read──> a buffer that all share ──write──> the other    few bytes at a time
//!              ──splice──> a borrowed pipe ──splice──> the other         many: they never enter our memory
//! ```
//!
//! **How it works.** A way begins with reads; after [`BULK_AFTER`] that filled the buffer it splices, until there is
//! little to splice. What the other side does not take waits in the pipe, or in memory of the way's own while there
//! is some left; when there is none, it is left in the socket: looked at, written, and only then taken out. So the
//! sender feels the receiver's window, and memory is bounded by [`PIPES_MAX`] and [`LEFT_OVER_MAX`] for all together.
//!
//! **Invariants.** A pipe is borrowed only while bytes are in it. The end of one way is the end of the other's socket
//! for writing (half-close); an error ends both with a reset.
//!
//! **Limits.** Urgent data become ordinary ones.

use std::io;
use std::os::fd::OwnedFd;

use super::wires::pace_if_far;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Octets of the shared buffer.
const BUFFER: usize = 64 << 10;
/// Octets of a pipe: the most that users may have (fs.pipe-max-size). Half as many cost a third more time per octet.
const PIPE: usize = 1 << 20;
/// A pipe that turns out smaller is slower than copying.
const PIPE_MIN: usize = 64 << 10;
/// Pipes at a time, of each of two threads. All of a user's pipes, in all programs, may have 64 MiB together
/// (fs.pipe-user-pages-soft).
const PIPES_MAX: usize = 16;
/// Idle pipes that are kept.
const PIPES_IDLE: usize = 4;
/// Octets that all ways together may have taken and not written.
const LEFT_OVER_MAX: usize = 4 << 20;
/// Buffers as full as [`BULK_MIN`] after which a way splices. The kernel's largest packets are a little shorter than
/// the buffer, and what comes in them is read one by one.
const BULK_AFTER: u8 = 3;
/// A splice of fewer octets ends that.
const BULK_MIN: usize = 32 << 10;
/// After so many buffers or pipes others have their turn.
const TURNS: usize = 8;

/// The container's side, the first; the other one is a socket of the host.
pub(super) const INNER: usize = 0;

/// What all connections of a thread share.
#[derive(Debug)]
pub(super) struct Tools {
    buffer: Vec<u8>,
    idle: Vec<Pipe>,
    /// That exist.
    pipes: usize,
    left_over: usize,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Tools {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::with_capacity(BUFFER), idle: Vec::new(), pipes: 0, left_over: 0 }
    }

    fn borrow(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.pipes >= PIPES_MAX {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Refused when the user has too many; then it is as small as it was made.
        let size = fcntl_setpipe_size(&write, PIPE).or_else(|_| rustix::pipe::fcntl_getpipe_size(&write)).ok()?;
        if size < PIPE_MIN {
            return None;
        }
        self.pipes += 1;
        Some(Pipe { read, write, size })
    }

    /// Takes back an empty pipe.
    fn give_back(&mut self, pipe: Pipe) {
        if self.idle.len() < PIPES_IDLE {
            self.idle.push(pipe);
        } else {
            self.pipes -= 1;
        }
    }
}

/// Two connected sockets, and what is between them.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) sides: [OwnedFd; 2],
    /// There may be something to read. Edge-triggered: set by an event, unset by a read that finds nothing.
    pub(super) readable: [bool; 2],
    /// The other side has ended its way, so that a short read does not mean that there is no more.
    pub(super) ended: [bool; 2],
    /// Writing found no room: an event will say when there is some.
    pub(super) blocked: [bool; 2],
    ways: [Way; 2],
}

#[derive(Debug, Default)]
struct Way {
    waiting: Waiting,
    /// Buffers in a row that were as good as full.
    full: u8,
    /// More went than the other side takes at once, or was spliced.
    was_much: bool,
    /// There will be no more to read.
    is_ended: bool,
    /// And all of it is written.
    is_done: bool,
}

/// What was taken from one socket and not yet written to the other.
#[derive(Debug, Default)]
enum Waiting {
    #[default]
    Nothing,
    /// The octets from `.1` on.
    Octets(Box<(Box<[u8]>, usize)>),
    /// So many.
    Piped(Box<Pipe>, usize),
}

/// How far a way came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// An event will say when it goes on.
    Waits,
    /// It has had its turn.
    More,
}

impl Pair {
    pub(super) fn new(sides: [OwnedFd; 2]) -> Self {
        let ways = Default::default();
        Self { sides, readable: [true; 2], ended: [false; 2], blocked: [false; 2], ways }
    }

    /// Nothing will come any more, either way.
    pub(super) fn is_done(&self) -> bool {
        self.ways.iter().all(|way| way.is_done)
    }

    /// Moves what there is from one side to the other. An error is the connection's end.
    pub(super) fn pump(&mut self, from: usize, tools: &mut Tools) -> io::Result<Turn> {
        let to = 1 - from;
        if self.ways[from].is_done {
            return Ok(Turn::Waits);
        }
        for _ in 0..TURNS {
            if !self.flush(from, tools)? {
                self.blocked[to] = true;
                self.is_much(from);
                return Ok(Turn::Waits);
            }
            if self.ways[from].is_ended {
                // At the end of both ways closing says the same.
                if !self.ways[to].is_done {
                    shutdown(&self.sides[to], Shutdown::Write)?;
                }
                self.ways[from].is_done = true;
                return Ok(Turn::Waits);
            }
            if !self.readable[from] {
                return Ok(Turn::Waits);
            }
            match self.ways[from].full {
                BULK_AFTER.. => self.splice_in(from, tools)?,
                _ => self.copy(from, tools)?,
            }
        }
        Ok(Turn::More)
    }

    /// From now on it matters how one way's octets are sent.
    fn is_much(&mut self, from: usize) {
        if !std::mem::replace(&mut self.ways[from].was_much, true) && from == INNER {
            pace_if_far(&self.sides[1 - from]);
        }
    }

    /// Writes what waits; false when there is no room for all of it.
    fn flush(&mut self, from: usize, tools: &mut Tools) -> io::Result<bool> {
        let (way, to) = (&mut self.ways[from], &self.sides[1 - from]);
        match &mut way.waiting {
            Waiting::Nothing => return Ok(true),
            Waiting::Octets(octets) => {
                let (octets, at) = &mut **octets;
                while *at < octets.len() {
                    match write(to, &octets[*at..], SendFlags::empty())? {
                        0 => return Ok(false),
                        sent => *at += sent,
                    }
                }
                tools.left_over -= octets.len();
            }
            Waiting::Piped(pipe, length) => {
                while *length > 0 {
                    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                    match splice(&pipe.read, None, to, None, *length, flags) {
                        Ok(sent) => *length -= sent,
                        Err(Errno::AGAIN) => return Ok(false),
                        Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        if let Waiting::Piped(pipe, _) = std::mem::take(&mut way.waiting) {
            tools.give_back(*pipe);
        }
        Ok(true)
    }

    fn splice_in(&mut self, from: usize, tools: &mut Tools) -> io::Result<()> {
        let Some(pipe) = tools.borrow() else { return self.copy(from, tools) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        match splice(&self.sides[from], None, &pipe.write, None, pipe.size, flags) {
            Ok(0) => {
                self.ways[from].is_ended = true;
                tools.give_back(pipe);
            }
            Ok(length) => {
                if length < BULK_MIN {
                    self.ways[from].full = 0;
                }
                self.ways[from].waiting = Waiting::Piped(Box::new(pipe), length);
            }
            // The pipe is empty, so it is the socket that is too.
            Err(Errno::AGAIN) => {
                self.readable[from] = false;
                tools.give_back(pipe);
            }
            Err(error) => {
                tools.give_back(pipe);
                if error != Errno::INTR {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, from: usize, tools: &mut Tools) -> io::Result<()> {
        // Where there is no room for what the other side does not take, it stays in the socket until it has.
        let peeks = tools.left_over + BUFFER > LEFT_OVER_MAX;
        let flags = RecvFlags::DONTWAIT | if peeks { RecvFlags::PEEK } else { RecvFlags::empty() };
        tools.buffer.clear();
        let got = match recv(&self.sides[from], spare_capacity(&mut tools.buffer), flags) {
            Ok((_, got)) => got,
            Err(Errno::AGAIN) => {
                self.readable[from] = false;
                return Ok(());
            }
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let way = &mut self.ways[from];
        match got {
            0 => {
                way.is_ended = true;
                return Ok(());
            }
            BULK_MIN.. => {
                way.full = way.full.saturating_add(1);
                if way.full == BULK_AFTER {
                    self.is_much(from);
                }
            }
            _ => way.full = 0,
        }
        let way = &mut self.ways[from];
        // The last octets wait for the end, which is read next, and both go in one segment.
        let is_last = self.ended[from] && got < BUFFER;
        let more = if is_last { SendFlags::MORE } else { SendFlags::empty() };
        let sent = write(&self.sides[1 - from], &tools.buffer, more)?;
        if peeks {
            discard(&self.sides[from], sent)?;
            self.blocked[1 - from] |= sent < got;
            // Nothing waits, so the next round would look at the same again.
            self.readable[from] = sent == got;
            return Ok(());
        }
        if got < BUFFER && !self.ended[from] {
            // What comes after this read is another event.
            self.readable[from] = false;
        }
        if sent < got {
            let left: Box<[u8]> = tools.buffer[sent..].into();
            tools.left_over += left.len();
            way.waiting = Waiting::Octets(Box::new((left, 0)));
        }
        Ok(())
    }

    /// There is room again at one side.
    pub(super) fn unblock(&mut self, side: usize) {
        if std::mem::take(&mut self.blocked[side]) {
            // It may have been left unread for want of room.
            self.readable[1 - side] = true;
        }
    }

    /// Ends it for both sides at once, unread and unsent bytes included.
    pub(super) fn reset(self, tools: &mut Tools) {
        self.sides.iter().for_each(reset_on_close);
        self.put_away(tools);
    }

    /// Closes both sides; what was written is still sent.
    pub(super) fn put_away(self, tools: &mut Tools) {
        for way in self.ways {
            match way.waiting {
                Waiting::Nothing => {}
                Waiting::Octets(octets) => tools.left_over -= octets.0.len(),
                // With something in it, it is of no use to anybody.
                Waiting::Piped(..) => tools.pipes -= 1,
            }
        }
    }
}

/// Closing `socket` will be a reset (RFC 9293 §3.10.4).
pub(super) fn reset_on_close(socket: &OwnedFd) {
    // A socket that is not connected any more has nothing to reset.
    let _ = sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}

/// How many octets went.
fn write(socket: &OwnedFd, octets: &[u8], more: SendFlags) -> io::Result<usize> {
    match send(socket, octets, more | SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Takes octets out of a TCP socket that were looked at before.
fn discard(socket: &OwnedFd, mut length: usize) -> io::Result<()> {
    while length > 0 {
        // TCP copies nothing then (tcp_recvmsg_locked in net/ipv4/tcp.c).
        let room = &mut [std::mem::MaybeUninit::uninit(); BUFFER][..length.min(BUFFER)];
        let (_, gone) = recv(socket, room, RecvFlags::TRUNC | RecvFlags::DONTWAIT)?;
        match gone {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            gone => length -= gone.min(length),
        }
    }
    Ok(())
}
