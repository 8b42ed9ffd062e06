//! What both loops of TCP do with their sockets: wait for events, move bytes, count, end.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};
use rustix::time::Timespec;

use super::overflow::Overflow;
use super::pump::{Pair, Tools, Turn};
use super::slots::{Id, Slots, Token};
use super::{Counts, Share};

/// Events taken at a time.
const EVENTS: usize = 128;
/// What is not sent stays with the sender: the socket takes no more than this beyond what is under way.
pub(crate) const UNSENT: u32 = 128 << 10;
/// The congestion control of sockets that need none.
pub(crate) const UNPACED: &str = "reno";
/// What the names of those begin with that pace all they send.
const PACED_NAMES: &str = "bbr";
/// Nearer is the host itself, or what is in it; a network card and a switch take longer.
const NEAR: Duration = Duration::from_micros(100);
/// A connection on which nothing comes for so long is asked whether it is still there.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(600);
pub(crate) const KEEPALIVE_AGAIN: Duration = Duration::from_secs(60);
/// Unanswered, so many times, it is not.
pub(crate) const KEEPALIVE_TIMES: u32 = 5;

/// What is told of a socket with bytes, edge-triggered.
pub(super) const BYTES: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

/// Nothing more will come.
const ENDS: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

/// Sockets, those that are being connected (`C`) and those that are.
pub(super) struct Wires<C> {
    epoll: OwnedFd,
    pub(super) slots: Slots<Wire<C>>,
    tools: Tools,
    again: VecDeque<(Id, usize)>,
    /// Of this and the other loops.
    counts: Counts,
    /// Connections of this one, not counting those that are being made.
    here: Arc<AtomicUsize>,
    /// How many it keeps, and who takes the others.
    keeps: Option<(usize, Arc<Overflow>)>,
}

/// What is in a place.
pub(super) enum Wire<C> {
    Connecting(C),
    Connected {
        pair: Box<Pair>,
        /// The container's address.
        container: IpAddr,
        /// Whatever else the loop finds it by.
        tag: u32,
        /// Which sides tell when there is room again.
        armed: [bool; 2],
    },
}

/// A connection when it begins.
pub(super) struct Joined {
    pub(super) pair: Pair,
    pub(super) container: IpAddr,
    pub(super) tag: u32,
    pub(super) armed: [bool; 2],
}

impl<C> From<Joined> for Wire<C> {
    fn from(Joined { pair, container, tag, armed }: Joined) -> Self {
        Self::Connected { pair: Box::new(pair), container, tag, armed }
    }
}

/// What happened to a place.
pub(super) enum Happened {
    /// To a socket of the loop's own.
    Own(u32),
    /// To a socket that is being connected.
    Connecting(Id, EventFlags),
}

impl<C> Wires<C> {
    /// Tells in `here` how many connections it has.
    pub(super) fn new(counts: Counts, here: Arc<AtomicUsize>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let (slots, tools, again) = (Slots::new(), Tools::new(), VecDeque::new());
        Ok(Self { epoll, slots, tools, again, counts, here, keeps: None })
    }

    /// For a thread that has others to give connections to.
    pub(super) fn sharing(share: &Share) -> io::Result<Self> {
        let wires = Self::new(share.counts.clone(), Arc::default())?;
        Ok(Self { keeps: Some((share.bounds.own, Arc::clone(&share.overflow))), ..wires })
    }

    /// Has the loop woken when there is something in a socket of its own; level-triggered.
    pub(super) fn watch(&self, socket: impl AsFd, number: u32) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(Token::Own(number).word()), EventFlags::IN)?)
    }

    /// Leaves a socket of its own alone.
    pub(super) fn unwatch(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    pub(super) fn add(&self, socket: impl AsFd, id: Id, side: usize, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(Token::Side(id, side).word()), flags)?)
    }

    /// A socket that was being connected is one side of a pair from now on. What is there to be read goes at once.
    pub(super) fn join(&mut self, id: Id, pair: impl FnOnce(C) -> Joined) {
        let mut container = None;
        self.slots.replace(id, |wire| match wire {
            Wire::Connecting(connecting) => {
                let joined = pair(connecting);
                container = Some(joined.container);
                Wire::from(joined)
            }
            connected => connected,
        });
        let Some(container) = container else { return };
        self.counts.add(container);
        self.here.fetch_add(1, Ordering::Relaxed);
        self.give_away(id);
    }

    /// Moves what was told to be there before the sides were a pair; what comes later is another event.
    pub(super) fn begin(&mut self, id: Id, side: usize, flags: EventFlags) {
        let Some(Wire::Connected { pair, .. }) = self.slots.get(id) else { return };
        pair.ended[side] |= flags.intersects(ENDS);
        pair.readable[side] = pair.ended[side] || flags.contains(EventFlags::IN);
        self.pump(id, side);
    }

    /// A pair from another loop, where it was counted.
    pub(super) fn put(&mut self, joined: Joined) -> Id {
        self.slots.put(Wire::from(joined))
    }

    /// Has the loop told of sides of a connection, and of what is there already.
    pub(super) fn register(&mut self, id: Id, sides: [bool; 2], flags: EventFlags) {
        let Some(Wire::Connected { pair, .. }) = self.slots.look(id) else { return };
        let new = [0, 1].into_iter().filter(|side| sides[*side]);
        let registered = new.map(|side| self.add(&pair.sides[side], id, side, flags));
        if registered.collect::<io::Result<()>>().is_err() {
            self.reset(id);
        }
    }

    /// Gives a connection to another loop, if there are enough here.
    fn give_away(&mut self, id: Id) {
        let Some((_, overflow)) = self.keeps.as_ref().filter(|(own, _)| self.here.load(Ordering::Relaxed) > *own)
        else {
            return;
        };
        let Some(Wire::Connected { pair, container, tag, .. }) = self.slots.look(id) else { return };
        if overflow.take(pair, *container, *tag) {
            // Closing would not do it: the sockets live on.
            for side in &pair.sides {
                // One of them may not be there yet.
                let _ = epoll::delete(&self.epoll, side);
            }
            self.slots.take(id);
            self.here.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.reset(id);
        }
    }

    /// Waits, at most for `timeout`, moves bytes, and tells of what is the loop's.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut tell: impl FnMut(&mut Self, Happened),
    ) -> io::Result<()> {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        let timeout = if self.again.is_empty() { timeout } else { Some(Duration::ZERO) };
        // Milliseconds, rounded up: else the last part of one would be spent awake.
        let timeout = timeout.map(|time| {
            let ms = time.as_nanos().div_ceil(1_000_000).min(60_000) as i64;
            Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
        });
        let count = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Err(Errno::INTR) => 0,
            other => other?,
        };
        for event in &events[..count] {
            match Token::parse(event.data.u64()) {
                Token::Own(number) => tell(self, Happened::Own(number)),
                Token::Side(id, side) => match self.slots.get(id) {
                    Some(Wire::Connecting(_)) => tell(self, Happened::Connecting(id, event.flags)),
                    Some(Wire::Connected { .. }) => self.happened(id, side, event.flags),
                    // Of one that ended in this round.
                    None => {}
                },
            }
        }
        for _ in 0..self.again.len() {
            let Some((id, from)) = self.again.pop_front() else { break };
            self.pump(id, from);
        }
        Ok(())
    }

    /// Something happened to one side of a connection.
    fn happened(&mut self, id: Id, side: usize, flags: EventFlags) {
        let Some(Wire::Connected { pair, .. }) = self.slots.get(id) else { return };
        if flags.contains(EventFlags::ERR) {
            // Bytes that came before a reset are not worth more than the reset.
            if let Ok(Err(_)) = sockopt::socket_error(&pair.sides[side]) {
                return self.reset(id);
            }
        }
        let ended = flags.intersects(ENDS);
        pair.ended[side] |= ended;
        let reads = flags.contains(EventFlags::IN) || ended;
        pair.readable[side] |= reads;
        let writes = flags.contains(EventFlags::OUT) && pair.blocked[side];
        if writes {
            pair.unblock(side);
        }
        if reads {
            self.pump(id, side);
        }
        if writes {
            self.pump(id, 1 - side);
        }
    }

    /// Moves bytes that come from one side.
    pub(super) fn pump(&mut self, id: Id, from: usize) {
        let Some(Wire::Connected { pair, armed, .. }) = self.slots.get(id) else { return };
        let to = 1 - from;
        if pair.blocked[to] && armed[to] {
            return;
        }
        match pair.pump(from, &mut self.tools) {
            Ok(Turn::More) => self.again.push_back((id, from)),
            Ok(Turn::Waits) if pair.is_done() => self.end(id),
            Ok(Turn::Waits) => {
                if pair.blocked[to] && !armed[to] {
                    armed[to] = true;
                    let data = EventData::new_u64(Token::Side(id, to).word());
                    // Tells at once when there is room already.
                    if epoll::modify(&self.epoll, &pair.sides[to], data, BYTES | EventFlags::OUT).is_err() {
                        self.reset(id);
                    }
                }
            }
            Err(_) => self.reset(id),
        }
    }

    /// Ends a connection of which both ways are done.
    fn end(&mut self, id: Id) {
        if let Some(pair) = self.part(id) {
            pair.put_away(&mut self.tools);
        }
    }

    /// Ends a connection with a reset to both sides, or one that is being made.
    pub(super) fn reset(&mut self, id: Id) {
        if let Some(pair) = self.part(id) {
            pair.reset(&mut self.tools);
        }
    }

    fn part(&mut self, id: Id) -> Option<Box<Pair>> {
        let Wire::Connected { pair, container, .. } = self.slots.take(id)? else { return None };
        self.here.fetch_sub(1, Ordering::Relaxed);
        self.counts.remove(container);
        Some(pair)
    }

    /// Ends all connections that `picks` picks by container and tag, in this loop.
    pub(super) fn reset_those(&mut self, picks: impl Fn(IpAddr, u32) -> bool) {
        let theirs = |wire: &Wire<C>| matches!(wire, Wire::Connected { container, tag, .. } if picks(*container, *tag));
        for id in self.slots.pick(theirs) {
            self.reset(id);
        }
    }

    /// The same, also of those that were given away.
    pub(super) fn reset_everywhere(&mut self, picks: impl Fn(IpAddr, u32) -> bool + Send + Sync + 'static) {
        self.reset_those(&picks);
        if let Some((_, overflow)) = &self.keeps {
            overflow.reset_those(picks);
        }
    }
}

/// Sets what the sockets of connections have in common; those that are accepted have it from their listener.
pub(crate) fn prepare(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    prepare_inner(socket)?;
    if paced().is_some() {
        sockopt::set_tcp_congestion(socket, UNPACED)?;
    }
    linux::transparent::set_unsent_limit(socket, UNSENT)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_AGAIN)?;
    Ok(sockopt::set_tcp_keepcnt(socket, KEEPALIVE_TIMES)?)
}

/// As [`prepare`], for a socket of the relay's namespace, of which the rest is set for all (`place.rs`).
pub(crate) fn prepare_inner(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_oobinline(socket, true)?;
    Ok(sockopt::set_socket_keepalive(socket, true)?)
}

/// Connects a socket that does not block: is it connected already? On one machine it mostly is, for the kernel has the
/// other side answer meanwhile.
pub(super) fn connect_now(socket: &OwnedFd, to: &SocketAddr) -> Result<bool, Errno> {
    match connect(socket, to) {
        Err(Errno::INPROGRESS) => {}
        done => return done.map(|()| true),
    }
    match connect(socket, to) {
        // An ICMP message that came while connect(2) had the socket is not told otherwise (tcp_v6_err() in
        // net/ipv6/tcp_ipv6.c): the next one would be the answer to the second SYN, a second later.
        Err(Errno::ALREADY) => sockopt::socket_error(socket)?.map(|()| false),
        done => done.map(|()| true),
    }
}

/// The host's own choice of a congestion control, if it paces. To somebody who is so near that there is no network
/// between, pacing is of no use and costs a timer for each packet; and a socket that was paced once always is
/// (sk_pacing_status in Linux). So sockets begin without, see [`pace_if_far`].
///
/// First asked in the host's namespace.
fn paced() -> Option<&'static str> {
    static PACED: OnceLock<Option<String>> = OnceLock::new();
    let look = || {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP)).ok()?;
        sockopt::tcp_congestion(&socket).ok().filter(|name| name.starts_with(PACED_NAMES))
    };
    PACED.get_or_init(look).as_deref()
}

/// Gives a socket of the host's, to which much is sent, what the host has chosen, unless the other side is near.
pub(super) fn pace_if_far(socket: &OwnedFd) {
    let is_near = || linux::transparent::shortest_round_trip(socket).is_ok_and(|time| time.is_some_and(|t| t < NEAR));
    if let Some(paced) = paced().filter(|_| !is_near()) {
        // As it was, it is right, and may be slower.
        let _ = sockopt::set_tcp_congestion(socket, paced);
    }
}

/// How others wake a loop.
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    pub(super) fn ring(&self) {
        // It cannot fail but when it has rung 2⁶⁴ times.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(super) fn hush(&self) {
        // Nothing to read is as quiet.
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

impl Bell {
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

impl From<OwnedFd> for Bell {
    fn from(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
