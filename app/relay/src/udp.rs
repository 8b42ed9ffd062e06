//! UDP, and echo: flows that have no end of their own, all on one thread.
//!
//! ```text
//!   container ─first datagram─tproxy─> `any` socket ──> Book::way ──> a flow: inner ── outer
//!             ─the next ones─────────> inner  speaks as the peer to the container      (the relay's namespace)
//!                                      outer  connected to where the flow goes         (the host's namespace)
//!   client outside ──> listener ──> a flow: inner speaks as the client to the container, the listener is its outer
//!   echo request ──TUN──> `icmp.rs` ──> a flow: a ping socket is its outer, the TUN its inner
//! ```
//!
//! **How it works.** One thread waits by epoll, level-triggered, in turns: each socket gives at most a batch, then
//! the others have theirs. Nothing in it blocks but, once for 32 new flows, the making of sockets outside. What has
//! one size goes on as one train of segments. Errors that the host got go to the container as ICMP.
//!
//! **Invariants.** Bounds are those of [`relay_core::flows`]; every flow has at most two descriptors. A datagram of
//! somebody else in a flow's socket is that other's first one. A datagram is dropped when a socket's buffer is full:
//! UDP has no other way to say it.
//!
//! **Limits.** A datagram too long for the way is told as such once for a flow, then sent in pieces by the host:
//! whether it allowed that is not to be seen on a socket. Groups and broadcast do not leave the relay's namespace.
//! That nobody listens on a published port is not told to the client.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linux::trains::{self, Arrival, Batch, Envelope, Fragmenting};
use linux::tun::Tun;
use model::{LinkName, Subnet};
use relay_core::flows::{Direction, Exchange, FlowId, Flows, Limits};
use relay_core::packet::{self, Problem};
use relay_core::target::{HostsOwn, Nowhere, Protocol, Way};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{bind, connect, getsockname};
use rustix::time::Timespec;

use crate::book::{Book, local_ip};
use crate::outside::Outside;
use crate::table::SOCKET_MARK;

/// What is usual: 4,096 flows have 8,192 descriptors.
pub const LIMITS: Limits = Limits { all: 4096, per_source: 1024, new_per_second: 5000 };

/// The same where not so many descriptors may be had: a quarter of them is for flows.
pub fn limits(descriptors: u64) -> Limits {
    let all = usize::try_from(descriptors / 8).unwrap_or(usize::MAX).clamp(16, LIMITS.all);
    Limits { all, per_source: all / 4, ..LIMITS }
}

/// Packets from the TUN that may wait for the thread; more are dropped.
const PACKETS: usize = 256;

/// Sockets made outside at a time.
const SPARE: usize = 32;

/// Events taken at a time.
const EVENTS: usize = 64;

/// A name server that has not answered for so long while it is asked again is passed over.
const SILENT: Duration = Duration::from_secs(2);

/// How old may be what is known of the relay's own networks?
const FRESH: Duration = Duration::from_secs(1);

/// Complaints read from a socket at a time.
const COMPLAINTS: usize = 16;

/// The memory that large datagrams took is given back after so long without any datagram.
const IDLE: Duration = Duration::from_secs(5);

/// A published UDP port, bound.
#[derive(Debug)]
pub struct Published {
    /// From [`bind_outside`].
    pub socket: OwnedFd,
    /// Where it leads, at most one of each family.
    pub targets: Vec<SocketAddr>,
    /// As whom clients appear that cannot appear as themselves, one of each family.
    pub gateways: Vec<IpAddr>,
}

/// Which published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(u32);

/// Binds a UDP port of the host.
///
/// Errors: those of bind(2).
pub fn bind_outside(outside: &Outside, address: SocketAddr) -> io::Result<OwnedFd> {
    outside.run(move || trains::on_host(address))
}

/// One socket of each family on one port.
fn at_any() -> io::Result<([OwnedFd; 2], u16)> {
    let mut tries = 0;
    loop {
        let v4 = trains::at_any(true, 0)?;
        let port = SocketAddr::try_from(getsockname(&v4)?).map_err(io::Error::from)?.port();
        match trains::at_any(false, port) {
            Ok(v6) => return Ok(([v4, v6], port)),
            // Somebody else's is there.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 100 => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The thread, seen from others.
#[derive(Debug)]
pub struct Datagrams {
    commands: Sender<Command>,
    packets: SyncSender<Vec<u8>>,
    bell: Arc<OwnedFd>,
    /// The port of the sockets that take what goes to any address, of both families.
    pub port: u16,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    Serve { listener: ListenerId, published: Published, done: SyncSender<io::Result<()>> },
    Hide { listener: ListenerId, done: SyncSender<io::Result<()>> },
    Redirect { listener: ListenerId, targets: Vec<SocketAddr>, gateways: Vec<IpAddr>, done: SyncSender<io::Result<()>> },
    Forget { addresses: Vec<IpAddr>, done: SyncSender<io::Result<()>> },
    Count { done: SyncSender<io::Result<usize>> },
    Stop,
}

impl Datagrams {
    /// Starts the thread in the caller's network namespace, which is the relay's. `tun` is only
    /// written to.
    pub fn start(outside: Outside, tun: Arc<Tun>, book: Book, limits: Limits) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (commands, received) = mpsc::channel();
        let (packets, received_packets) = mpsc::sync_channel(PACKETS);
        let (any, port) = at_any()?;
        let mut serving = Loop {
            commands: received,
            packets: received_packets,
            bell: Arc::clone(&bell),
            any,
            batch: Batch::default(),
            received: Instant::now(),
            table: Table::new(outside, tun, book, limits)?,
        };
        let body = move || {
            // Others bring back a relay that is gone, but not one of which a part is.
            catch_unwind(AssertUnwindSafe(|| serving.run())).unwrap_or_else(|_| std::process::abort());
        };
        let thread = std::thread::Builder::new().name("datagrams".to_owned()).spawn(body)?;
        Ok(Self { commands, packets, bell, port, thread: Some(thread) })
    }

    /// A packet that came by the TUN and is none of TCP's. Dropped when too many wait.
    pub fn packet(&self, octets: &[u8]) {
        if self.packets.try_send(octets.to_vec()).is_ok() {
            self.ring();
        }
    }

    /// Serves a published port from now on. The number must not be in use.
    pub fn serve(&self, number: u32, published: Published) -> io::Result<ListenerId> {
        let listener = ListenerId(number);
        self.ask(|done| Command::Serve { listener, published, done })?;
        Ok(listener)
    }

    /// Serves it no more: when this returns, the port is free.
    pub fn hide(&self, listener: ListenerId) -> io::Result<()> {
        self.ask(|done| Command::Hide { listener, done })
    }

    /// Has a published port lead elsewhere; its flows end.
    pub fn redirect(&self, listener: ListenerId, targets: Vec<SocketAddr>, gateways: Vec<IpAddr>) -> io::Result<()> {
        self.ask(|done| Command::Redirect { listener, targets, gateways, done })
    }

    /// Ends all flows of containers with these addresses, for they are gone or their settings are others.
    pub fn forget(&self, addresses: Vec<IpAddr>) -> io::Result<()> {
        self.ask(|done| Command::Forget { addresses, done })
    }

    /// How many flows there are.
    pub fn count(&self) -> io::Result<usize> {
        self.ask(|done| Command::Count { done })
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<io::Result<T>>) -> Command) -> io::Result<T> {
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "the thread of the datagrams has ended");
        let (done, wait) = mpsc::sync_channel(1);
        self.commands.send(command(done)).map_err(|_| ended())?;
        self.ring();
        wait.recv().map_err(|_| ended())?
    }

    fn ring(&self) {
        // It cannot fail but when it has rung 2⁶⁴ times.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        let told = self.commands.send(Command::Stop).is_ok();
        self.ring();
        if let Some(thread) = self.thread.take().filter(|_| told) {
            let _ = thread.join();
        }
    }
}

/// Whose descriptor something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Bell,
    Any { ipv4: bool },
    Listener(ListenerId),
    Inner(FlowId),
    Outer(FlowId),
}

/// Of 64 bits the upper four say what a token is, 28 a flow's place, the lower 32 its serial.
const KIND: u32 = 60;
const PLACE: u32 = 32;

impl Token {
    fn word(self) -> u64 {
        let flow = |flow: FlowId| u64::from(flow.place) << PLACE | u64::from(flow.serial);
        let (kind, number) = match self {
            Self::Bell => (0, 0),
            Self::Any { ipv4 } => (1, ipv4.into()),
            Self::Listener(listener) => (2, listener.0.into()),
            Self::Inner(id) => (3, flow(id)),
            Self::Outer(id) => (4, flow(id)),
        };
        kind << KIND | number
    }

    fn parse(word: u64) -> Option<Self> {
        let number = word & ((1 << KIND) - 1);
        let flow = FlowId { place: (number >> PLACE) as u32, serial: number as u32 };
        match word >> KIND {
            0 => Some(Self::Bell),
            1 => Some(Self::Any { ipv4: number == 1 }),
            2 => Some(Self::Listener(ListenerId(number as u32))),
            3 => Some(Self::Inner(flow)),
            4 => Some(Self::Outer(flow)),
            _ => None,
        }
    }
}

struct Loop {
    commands: Receiver<Command>,
    packets: Receiver<Vec<u8>>,
    bell: Arc<OwnedFd>,
    /// For IPv4 and IPv6.
    any: [OwnedFd; 2],
    batch: Batch,
    /// When there was something in it.
    received: Instant,
    table: Table,
}

impl Loop {
    fn run(&mut self) {
        let started = self
            .table
            .wait_for(&self.bell, Token::Bell)
            .and_then(|()| self.table.wait_for(&self.any[0], Token::Any { ipv4: true }))
            .and_then(|()| self.table.wait_for(&self.any[1], Token::Any { ipv4: false }));
        if let Err(error) = started {
            tracing::error!(%error, "UDP is not passed on");
            return;
        }
        while self.turn() {}
    }

    /// Is there to be another one?
    fn turn(&mut self) -> bool {
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        let timeout = self.table.timeout(self.received);
        let count = match epoll::wait(&self.table.epoll, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => {
                tracing::error!(%error, "UDP is not passed on any more");
                return false;
            }
        };
        self.table.now = Instant::now();
        for event in &events[..count] {
            match Token::parse(event.data.u64()) {
                Some(Token::Bell) if !self.bell() => return false,
                Some(Token::Bell) => {}
                Some(Token::Any { ipv4 }) => self.any(ipv4),
                Some(Token::Listener(listener)) => self.listener(listener, event.flags),
                Some(Token::Inner(flow)) => self.inner(flow),
                Some(Token::Outer(flow)) => self.outer(flow, event.flags),
                None => {}
            }
        }
        self.table.expire();
        if count > 0 {
            self.received = self.table.now;
        } else if self.table.now >= self.received + IDLE {
            self.received = self.table.now + Duration::from_secs(3600);
            self.batch.shrink();
        }
        true
    }

    fn bell(&mut self) -> bool {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Serve { listener, published, done } => {
                    let _ = done.send(self.table.serve(listener, published));
                }
                Command::Hide { listener, done } => {
                    self.table.hide(listener);
                    let _ = done.send(Ok(()));
                }
                Command::Redirect { listener, targets, gateways, done } => {
                    self.table.redirect(listener, targets, gateways);
                    let _ = done.send(Ok(()));
                }
                Command::Forget { addresses, done } => {
                    self.table.forget(&addresses);
                    let _ = done.send(Ok(()));
                }
                Command::Count { done } => {
                    let _ = done.send(Ok(self.table.flows.len()));
                }
                Command::Stop => return false,
            }
        }
        for _ in 0..PACKETS {
            let Ok(packet) = self.packets.try_recv() else { return true };
            self.table.packet(&packet);
        }
        // There may be more.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        true
    }

    fn any(&mut self, ipv4: bool) {
        let Ok(()) = self.batch.receive(&self.any[usize::from(!ipv4)]) else { return };
        let table = &mut self.table;
        runs(self.batch.arrivals(), |arrival, range| {
            let Some(to) = arrival.to else { return };
            table.first(&self.batch, range, arrival.from, to);
        });
    }

    fn inner(&mut self, id: FlowId) {
        let Some((container, peer, socket)) = self.table.inner(id) else { return };
        // That nobody listens in the container is not told outside.
        let Ok(()) = self.batch.receive(socket) else { return };
        let table = &mut self.table;
        let mut flow = Some(id);
        runs(self.batch.arrivals(), |arrival, range| match flow {
            Some(id) if arrival.from == container => {
                if table.is_left_by_its_server(id) {
                    flow = None;
                    table.first(&self.batch, range, container, peer);
                } else {
                    table.outward(id, &self.batch, range);
                }
            }
            _ => table.first(&self.batch, range, arrival.from, peer),
        });
    }

    fn outer(&mut self, id: FlowId, flags: EventFlags) {
        if flags.contains(EventFlags::ERR) {
            self.table.complaints(id);
        }
        let Some(socket) = self.table.outer(id) else { return };
        let Ok(()) = self.batch.receive(socket) else { return };
        self.table.inward(id, &self.batch, 0..self.batch.arrivals().len());
    }

    fn listener(&mut self, listener: ListenerId, flags: EventFlags) {
        if flags.contains(EventFlags::ERR) {
            self.table.listener_complaints(listener);
        }
        let Some(socket) = self.table.listeners.get(&listener) else { return };
        let Ok(()) = self.batch.receive(&socket.socket) else { return };
        let table = &mut self.table;
        runs(self.batch.arrivals(), |arrival, range| {
            let Some(local) = arrival.to else { return };
            if let Some(flow) = table.published(listener, arrival.from, local.ip()) {
                table.inward(flow, &self.batch, range);
            }
        });
    }
}

/// Neighbours between the same two go together.
fn runs(arrivals: &[Arrival], mut each: impl FnMut(Arrival, Range<usize>)) {
    let mut start = 0;
    for run in arrivals.chunk_by(|a, b| (a.from, a.to) == (b.from, b.to)) {
        each(run[0], start..start + run.len());
        start += run.len();
    }
}

/// What makes two flows the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Out { container: SocketAddr, peer: SocketAddr },
    In { listener: ListenerId, client: SocketAddr, local: IpAddr },
    Echo { container: IpAddr, peer: IpAddr, id: u16 },
}

/// Whose bounds a flow counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Container(IpAddr),
    Listener(ListenerId),
}

#[derive(Debug)]
pub(crate) struct Flow {
    /// The container's end, and whom it believes to talk to; ports are 0 for echo.
    pub(crate) container: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// Whom it talks to.
    pub(crate) to: SocketAddr,
    /// None for echo.
    pub(crate) inner: Option<OwnedFd>,
    /// None for published ports, which have the listener's.
    pub(crate) outer: Option<OwnedFd>,
    /// The longest datagram that goes out in a train.
    pub(crate) segment_max: usize,
    /// The container was told that a datagram was too long for the way.
    pub(crate) told_too_big: bool,
    /// Echo: how far the requests may go.
    pub(crate) hops: Option<u8>,
}

/// All flows, and what they need.
pub(crate) struct Table {
    epoll: OwnedFd,
    pub(crate) outside: Outside,
    tun: Arc<Tun>,
    pub(crate) book: Book,
    pub(crate) flows: Flows<Key, Source>,
    parts: HashMap<FlowId, Flow>,
    listeners: BTreeMap<ListenerId, Published>,
    inside: Inside,
    /// For IPv4 and IPv6.
    spare: [Vec<OwnedFd>; 2],
    /// Since when a name server is asked without an answer.
    asked: BTreeMap<SocketAddr, Instant>,
    pub(crate) now: Instant,
    /// What is said only once.
    pub(crate) told_no_ping: bool,
}

impl Table {
    fn new(outside: Outside, tun: Arc<Tun>, book: Book, limits: Limits) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            outside,
            tun,
            book,
            flows: Flows::new(limits),
            parts: HashMap::new(),
            listeners: BTreeMap::new(),
            inside: Inside { route: netlink::Socket::open(netlink::Protocol::Route)?, known: Vec::new(), looked: None },
            spare: [Vec::new(), Vec::new()],
            asked: BTreeMap::new(),
            now: Instant::now(),
            told_no_ping: false,
        })
    }

    fn wait_for(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token.word()), EventFlags::IN)?)
    }

    /// Until a flow may be over, or the memory given back.
    fn timeout(&self, received: Instant) -> Option<Timespec> {
        let idle = received + IDLE;
        let due = self.flows.deadline().map_or(idle, |due| due.min(idle));
        let ms = due.saturating_duration_since(Instant::now()).as_millis().min(60_000) as i64 + 1;
        Some(Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 })
    }

    fn inner(&self, id: FlowId) -> Option<(SocketAddr, SocketAddr, BorrowedFd<'_>)> {
        let flow = self.parts.get(&id)?;
        Some((flow.container, flow.peer, flow.inner.as_ref()?.as_fd()))
    }

    fn outer(&self, id: FlowId) -> Option<BorrowedFd<'_>> {
        Some(self.parts.get(&id)?.outer.as_ref()?.as_fd())
    }

    /// Datagrams of a container outside of any flow's socket.
    fn first(&mut self, batch: &Batch, range: Range<usize>, container: SocketAddr, peer: SocketAddr) {
        let flow = match self.flows.find(&Key::Out { container, peer }) {
            Some(flow) => flow,
            None => {
                if !self.flows.admit(Source::Container(container.ip()), self.now) {
                    return;
                }
                match self.begin(container, peer) {
                    Ok(flow) => flow,
                    Err(Nowhere::Silent) => return,
                    Err(Nowhere::Told(problem)) => {
                        let content = batch.content(range.start);
                        let answer =
                            packet::datagram_problem(container, peer, content, content.len(), problem, peer.ip());
                        return self.write(answer);
                    }
                }
            }
        };
        self.outward(flow, batch, range);
    }

    fn begin(&mut self, container: SocketAddr, peer: SocketAddr) -> Result<FlowId, Nowhere> {
        let way = self.book.way(container.ip(), peer, Protocol::Udp)?;
        let outer = self.connected(&way).map_err(nowhere)?;
        let inner = trains::speaking_as(peer, container, SOCKET_MARK).map_err(nowhere)?;
        if self.book.means_dns(container.ip(), peer) {
            self.asked.entry(way.to).or_insert(self.now);
        }
        let exchange = if peer.port() == 53 { Exchange::Question } else { Exchange::Open };
        let mtu = trains::path_mtu(&outer, way.to.is_ipv4()).unwrap_or(1280);
        let flow = Flow {
            container,
            peer,
            to: way.to,
            inner: Some(inner),
            outer: Some(outer),
            segment_max: segment_max(mtu, way.to),
            told_too_big: false,
            hops: None,
        };
        self.put(Key::Out { container, peer }, Source::Container(container.ip()), exchange, flow).map_err(nowhere)
    }

    /// A socket of the host's namespace, connected.
    fn connected(&mut self, way: &Way) -> io::Result<OwnedFd> {
        let ipv4 = way.to.is_ipv4();
        let spare = &mut self.spare[usize::from(!ipv4)];
        if spare.is_empty() {
            *spare = self.outside.run(move || (0..SPARE).map(|_| trains::to_outside(ipv4)).collect())?;
        }
        let socket = spare.pop().ok_or(io::ErrorKind::OutOfMemory)?;
        if let Some(link) = &way.link {
            linux::ports::by_link(&socket, link)?;
        }
        if let Some(from) = way.from {
            bind(&socket, &SocketAddr::new(from, 0))?;
        }
        connect(&socket, &way.to)?;
        check_owner(&socket, way)?;
        Ok(socket)
    }

    pub(crate) fn put(&mut self, key: Key, source: Source, exchange: Exchange, flow: Flow) -> io::Result<FlowId> {
        let opened = self.flows.open(key, source, exchange, self.now);
        if let Some((gone, _)) = opened.instead_of {
            self.parts.remove(&gone);
        }
        let id = opened.flow;
        let inner = flow.inner.as_ref().map_or(Ok(()), |socket| self.wait_for(socket, Token::Inner(id)));
        let outer = flow.outer.as_ref().map_or(Ok(()), |socket| self.wait_for(socket, Token::Outer(id)));
        if let Err(error) = inner.and(outer) {
            self.flows.close(id);
            return Err(error);
        }
        self.parts.insert(id, flow);
        Ok(id)
    }

    pub(crate) fn part(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.parts.get_mut(&id)
    }

    pub(crate) fn end(&mut self, id: FlowId) {
        self.flows.close(id);
        self.parts.remove(&id);
    }

    fn expire(&mut self) {
        while let Some((id, _)) = self.flows.expired(self.now) {
            self.parts.remove(&id);
        }
    }

    fn forget(&mut self, addresses: &[IpAddr]) {
        let is_theirs = |flow: &Flow| addresses.contains(&flow.container.ip());
        let gone: Vec<FlowId> = self.parts.iter().filter(|(_, flow)| is_theirs(flow)).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.end(id));
    }

    /// Is the flow one to a name server that is silent, while it is asked again? Then the flow is over, and another
    /// server is to be asked.
    fn is_left_by_its_server(&mut self, id: FlowId) -> bool {
        let Some(since) = self.flows.unanswered_since(id) else { return false };
        let Some(flow) = self.parts.get(&id) else { return false };
        let (container, peer, to) = (flow.container.ip(), flow.peer, flow.to);
        if self.now < since + SILENT || !self.book.means_dns(container, peer) {
            return false;
        }
        let silent_since = self.asked.get(&to).copied();
        if silent_since.is_some_and(|since| self.now >= since + SILENT) {
            self.asked.remove(&to);
            self.book.pass_over(to);
        }
        self.end(id);
        true
    }

    /// Sends to the outside.
    fn outward(&mut self, id: FlowId, batch: &Batch, range: Range<usize>) {
        self.flows.went(id, Direction::Outward, self.now);
        let mut at = range.start;
        let mut tried = None;
        while at < range.end {
            let Some((socket, envelope, segment_max)) = self.way_out(id) else { return };
            let Err(stopped) = batch.pass_on(at..range.end, socket, envelope, segment_max) else { return };
            let again = tried != Some(stopped.at);
            (at, tried) = (stopped.at, Some(stopped.at));
            match Errno::from_io_error(&stopped.error) {
                // The buffer is full.
                Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return,
                Some(Errno::MSGSIZE | Errno::INVAL | Errno::IO) if segment_max > 0 || self.is_whole(id) => {
                    let is_too_long = stopped.error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error());
                    self.too_long(id, is_too_long.then(|| batch.content(at)));
                }
                // An earlier datagram's error: this one has not been sent.
                _ if again => {
                    if !self.complaints(id) {
                        self.tell_error(id, &stopped.error, batch.content(at));
                    }
                }
                _ => at += 1,
            }
        }
    }

    fn way_out(&self, id: FlowId) -> Option<(BorrowedFd<'_>, Envelope, usize)> {
        let flow = self.parts.get(&id)?;
        if let Some(outer) = &flow.outer {
            return Some((outer.as_fd(), Envelope::default(), flow.segment_max));
        }
        let Key::In { listener, client, local } = *self.flows.key(id)? else { return None };
        let envelope = Envelope { to: Some(client), from: Some(local) };
        Some((self.listeners.get(&listener)?.socket.as_fd(), envelope, flow.segment_max))
    }

    /// Has nothing been cut yet?
    fn is_whole(&self, id: FlowId) -> bool {
        self.parts.get(&id).is_some_and(|flow| !flow.told_too_big && flow.outer.is_some())
    }

    /// Something was too long, in a train or alone: tells the container how long it may be, once, and sends on in
    /// pieces; then without trains.
    fn too_long(&mut self, id: FlowId, content: Option<&[u8]>) {
        let Some(flow) = self.parts.get_mut(&id) else { return };
        let Some(outer) = flow.outer.as_ref().filter(|_| !flow.told_too_big) else {
            flow.segment_max = 0;
            return;
        };
        let mtu = trains::path_mtu(outer, flow.to.is_ipv4()).unwrap_or(1280);
        let shorter = segment_max(mtu, flow.to);
        let Some(content) = content.filter(|content| content.len() > shorter) else {
            // It was the train: its segments were longer than they may be by now, or cannot be made here.
            flow.segment_max = if shorter < flow.segment_max { shorter } else { 0 };
            flow.told_too_big |= flow.segment_max == 0;
            return;
        };
        flow.segment_max = shorter;
        flow.told_too_big = true;
        let _ = trains::set_fragmenting(outer, flow.to.is_ipv4(), Fragmenting::Here);
        let what = Problem::TooBig { mtu };
        let answer = packet::datagram_problem(flow.container, flow.peer, content, content.len(), what, flow.peer.ip());
        self.write(answer);
    }

    /// Sends to the container.
    fn inward(&mut self, id: FlowId, batch: &Batch, range: Range<usize>) {
        if self.echo_replies(id, batch) {
            return;
        }
        let Some(flow) = self.parts.get(&id) else { return };
        let (to, Some(inner)) = (flow.to, &flow.inner) else { return };
        let mtu = trains::path_mtu(inner, flow.container.is_ipv4()).unwrap_or(1280);
        let mut segment_max = segment_max(mtu, flow.container);
        let (mut at, mut tried) = (range.start, None);
        while at < range.end {
            let Err(stopped) = batch.pass_on(at..range.end, inner, Envelope::default(), segment_max) else { break };
            at = stopped.at;
            match Errno::from_io_error(&stopped.error) {
                Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => break,
                Some(Errno::MSGSIZE | Errno::INVAL | Errno::IO) if segment_max > 0 => segment_max = 0,
                // Nobody listened to an earlier one, which the kernel says only once: this one has not been sent.
                _ if tried != Some(at) => tried = Some(at),
                _ => at += 1,
            }
        }
        self.flows.went(id, Direction::Inward, self.now);
        self.asked.remove(&to);
    }

    /// Passes on what the network said about what was sent. Was there anything?
    pub(crate) fn complaints(&mut self, id: FlowId) -> bool {
        let mut any = false;
        for _ in 0..COMPLAINTS {
            let Some((socket, ..)) = self.way_out(id) else { break };
            let Ok(complaint) = trains::complaint(socket) else { break };
            any |= self.complain(id, &complaint);
        }
        any
    }

    fn listener_complaints(&mut self, listener: ListenerId) {
        for _ in 0..COMPLAINTS {
            let Some(published) = self.listeners.get(&listener) else { return };
            let Ok(complaint) = trains::complaint(&published.socket) else { return };
            let about = complaint.about;
            let is_meant = |key: &Key| matches!(key, Key::In { listener: of, client, .. } if *of == listener && Some(*client) == about);
            let meant = self.flows.iter().find(|(key, _)| is_meant(key)).map(|(_, id)| id);
            if let Some(id) = meant {
                self.complain(id, &complaint);
            }
        }
    }

    fn complain(&mut self, id: FlowId, complaint: &trains::Complaint) -> bool {
        if complaint.origin != trains::Origin::Icmp {
            // Who sent has been told by the call.
            return false;
        }
        let Some(flow) = self.parts.get_mut(&id) else { return false };
        let ipv4 = flow.to.is_ipv4();
        let problem = Problem::of_icmp(ipv4, complaint.kind, complaint.code, complaint.number);
        let Some(problem) = problem else { return true };
        if let Problem::TooBig { mtu } = problem {
            flow.segment_max = flow.segment_max.min(segment_max(mtu, flow.to));
        }
        // Whoever is hidden behind another address is named by that one.
        let by = complaint.by.filter(|by| *by != flow.to.ip() && by.is_ipv4() == flow.peer.is_ipv4());
        let by = by.unwrap_or(flow.peer.ip());
        let (container, peer) = (flow.container, flow.peer);
        let answer = match self.flows.key(id) {
            Some(Key::Echo { id, .. }) => crate::icmp::problem(*id, container.ip(), peer.ip(), complaint, problem, by),
            _ => {
                let content = &complaint.content;
                packet::datagram_problem(container, peer, content, content.len(), problem, by)
            }
        };
        self.write(answer);
        true
    }

    fn tell_error(&self, id: FlowId, error: &io::Error, content: &[u8]) {
        let (Some(flow), Some(problem)) = (self.parts.get(&id), Problem::of_error(error.kind())) else { return };
        let (container, peer) = (flow.container, flow.peer);
        self.write(packet::datagram_problem(container, peer, content, content.len(), problem, peer.ip()));
    }

    /// To the containers, by the TUN. What it does not take is lost, as on any link.
    pub(crate) fn write(&self, packet: Option<Vec<u8>>) {
        if let Some(packet) = packet {
            let _ = self.tun.write(&packet);
        }
    }

    fn serve(&mut self, listener: ListenerId, published: Published) -> io::Result<()> {
        if self.listeners.contains_key(&listener) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.wait_for(&published.socket, Token::Listener(listener))?;
        self.listeners.insert(listener, published);
        Ok(())
    }

    fn redirect(&mut self, listener: ListenerId, targets: Vec<SocketAddr>, gateways: Vec<IpAddr>) {
        self.end_flows_of(listener);
        if let Some(published) = self.listeners.get_mut(&listener) {
            published.targets = targets;
            published.gateways = gateways;
        }
    }

    fn hide(&mut self, listener: ListenerId) {
        self.end_flows_of(listener);
        self.listeners.remove(&listener);
    }

    fn end_flows_of(&mut self, listener: ListenerId) {
        let is_of_it = |key: &Key| matches!(key, Key::In { listener: of, .. } if *of == listener);
        let gone: Vec<FlowId> = self.flows.iter().filter(|(key, _)| is_of_it(key)).map(|(_, id)| id).collect();
        gone.into_iter().for_each(|id| self.end(id));
    }

    /// The flow of a client that sent to a published port at `local`.
    fn published(&mut self, listener: ListenerId, client: SocketAddr, local: IpAddr) -> Option<FlowId> {
        let key = Key::In { listener, client, local };
        if let Some(id) = self.flows.find(&key) {
            return Some(id);
        }
        let source = Source::Listener(listener);
        if !self.flows.admit(source, self.now) {
            return None;
        }
        let is_inside = self.inside.has(client.ip(), self.now);
        let published = self.listeners.get(&listener)?;
        let same_family = published.targets.iter().find(|target| target.is_ipv4() == client.is_ipv4());
        let container = *same_family.or(published.targets.first())?;
        let shown = shown(client, is_inside, container, &published.gateways)?;
        let inner = trains::speaking_as(shown, container, SOCKET_MARK)
            .inspect_err(|error| tracing::debug!(%error, %client, "a client cannot be shown as it is"))
            .ok()?;
        let peer = SocketAddr::try_from(getsockname(&inner).ok()?).ok()?;
        let flow = Flow {
            container,
            peer,
            to: client,
            inner: Some(inner),
            outer: None,
            // What Ethernet carries; what the way to each client carries is not known.
            segment_max: segment_max(1500, client),
            told_too_big: false,
            hops: None,
        };
        self.put(key, source, Exchange::Open, flow).ok()
    }
}

/// As whom a client appears in the container: as itself, unless an answer to it would not come out, for it is of the
/// host or inside. Of a gateway any port will do.
fn shown(client: SocketAddr, is_inside: bool, container: SocketAddr, gateways: &[IpAddr]) -> Option<SocketAddr> {
    let is_of_others = match client.ip() {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    if is_of_others && client.is_ipv4() == container.is_ipv4() && !is_inside {
        return Some(client);
    }
    let gateway = gateways.iter().find(|ip| ip.is_ipv4() == container.is_ipv4())?;
    Some(SocketAddr::new(*gateway, 0))
}

/// The networks of the relay's namespace, in which we are: whoever has an address of one is looked for there by a
/// container.
struct Inside {
    route: netlink::Socket,
    known: Vec<Subnet>,
    looked: Option<Instant>,
}

impl Inside {
    fn has(&mut self, ip: IpAddr, now: Instant) -> bool {
        if self.looked.is_none_or(|looked| now >= looked + FRESH) {
            self.looked = Some(now);
            // Without an answer it is as it was.
            let addresses = self.route.dump(netlink::rtnetlink::addresses(0));
            if let Ok(addresses) = addresses {
                let addresses = addresses.iter().filter_map(netlink::rtnetlink::LinkAddress::read);
                self.known = addresses.filter_map(|address| Subnet::around(address.ip, address.len).ok()).collect();
            }
        }
        self.known.iter().any(|subnet| subnet.contains(ip))
    }
}

/// A socket whose own address is its peer's talks to the host itself.
pub(crate) fn check_owner(socket: &OwnedFd, way: &Way) -> io::Result<()> {
    match way.hosts_own {
        HostsOwn::Prohibited if local_ip(socket) == Some(way.to.ip()) => Err(io::ErrorKind::PermissionDenied.into()),
        _ => Ok(()),
    }
}

/// What the container is to know of an error of making a flow.
pub(crate) fn nowhere(error: io::Error) -> Nowhere {
    tracing::debug!(%error, "a flow cannot begin");
    Problem::of_error(error.kind()).map_or(Nowhere::Silent, Nowhere::Told)
}

/// The longest content of a datagram in a packet of this size.
fn segment_max(mtu: u32, to: SocketAddr) -> usize {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    (mtu as usize).saturating_sub(headers)
}

/// That of a link's mapping, for callers who bind a listener to it.
pub fn bind_outside_by(outside: &Outside, address: SocketAddr, link: LinkName) -> io::Result<OwnedFd> {
    outside.run(move || {
        let socket = trains::on_host(address)?;
        linux::ports::by_link(&socket, &link)?;
        Ok(socket)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_have_a_quarter_of_few_descriptors() {
        let bounds = |descriptors| (limits(descriptors).all, limits(descriptors).per_source);
        assert_eq!([bounds(1 << 20), bounds(1024), bounds(64)], [(4096, 1024), (128, 32), (16, 4)]);
    }

    #[test]
    fn tokens_survive_the_kernel() {
        let flow = FlowId { place: (1 << 28) - 1, serial: u32::MAX };
        let tokens = [
            Token::Bell,
            Token::Any { ipv4: true },
            Token::Any { ipv4: false },
            Token::Listener(ListenerId(u32::MAX)),
            Token::Inner(flow),
            Token::Outer(flow),
        ];
        for token in tokens {
            assert_eq!(Token::parse(token.word()), Some(token));
        }
    }
}
