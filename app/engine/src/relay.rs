//! What is published on `[::1]`, which no address translation can serve: sockets of ours, joined.
//!
//! ```text
//!   host: curl http://[::1]:8080 ──> socket on [::1]:8080 ──accept──┐
//!                                                                  ├─ bytes both ways ─> 10.88.0.2:80
//!         a datagram to [::1]:53 ──> socket on [::1]:53 ──flow─────┘  or fd00:88::2, by the network's bridge
//! ```
//!
//! **How it works.** A thread of the container's monitor, in the host's network namespace, started with the first
//! such socket. Where to is looked up in the store at each connection, and when the store has changed at each
//! datagram: whatever network the container joins or leaves, and whatever port is published anew, the next one
//! goes there. IPv6 is tried first, then IPv4. The container sees its network's gateway as the client.
//!
//! **Invariants.** An end is passed on as an end, a reset as a reset; what one side does not take stops the other.
//! A container that refuses has its client reset at once. Nothing here waits but for all of its sockets.
//!
//! **Limits.** At most [`CONNECTIONS`] connections: the next one is taken in the place of the one that was silent
//! longest, if that was a minute, and else reset. At most [`FLOWS`] UDP clients: the next one takes the place of the
//! one that was silent longest. A container of which no address answers within [`PATIENCE`] has its client reset. A
//! client is accepted before the container is asked, so it sees a reset where a refusal was meant. No SCTP.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linux::ports::{self, Claim};
use model::{ContainerId, HostAddress, LinkName, PortMapping, Protocol};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustix::thread::CapabilitySet;
use store::Store;

use crate::endpoints::AttachedEndpoint;
use crate::error::{Error, Result};

/// Connections at a time.
const CONNECTIONS: usize = 256;

/// UDP clients at a time.
const FLOWS: usize = 256;

/// A connection this silent makes place for another.
const IDLE: Duration = Duration::from_secs(60);

/// How long one of a container's addresses may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a UDP client is remembered, before and after the container has answered: the kernel's own numbers
/// (nf_conntrack_udp_timeout, nf_conntrack_udp_timeout_stream).
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(120);

/// How long nothing is accepted when there are no descriptors or no memory for it.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes read at once, and kept at most per direction.
const CHUNK: usize = 1 << 16;

/// The first datagram of a client, up to this length, is said again to the next address when the first refuses.
const REPEATED: usize = 2048;

/// What is done for one socket before the others have their turn.
const TURN: usize = 16;

/// A monitor's handle on its relay.
pub(crate) struct Relay {
    orders: Option<Sender<Order>>,
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Serve(Claim, OwnedFd),
    /// Answered when they are closed.
    Leave(Vec<Claim>, Sender<()>),
}

impl Relay {
    /// Starts the thread. `root`: where the store is. Signals blocked now are blocked in it.
    pub(crate) fn start(root: PathBuf, container: ContainerId) -> Result<Self> {
        let wrong = |e: io::Error| Error::at("cannot start the relay for [::1]", e);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| wrong(e.into()))?;
        let (orders, received) = channel();
        let targets = Targets { root, container, store: None, known: None };
        let mut turns = Turns::new(wake.try_clone().map_err(wrong)?, received, targets).map_err(wrong)?;
        let thread = std::thread::Builder::new().name("relay".to_owned()).stack_size(256 << 10);
        let serve = move || {
            // It moves bytes of strangers, between sockets that anybody may have.
            linux::cage::keep_only(CapabilitySet::empty()).expect("a thread may give up privileges");
            turns.run();
        };
        let thread = thread.spawn(serve).map_err(wrong)?;
        Ok(Self { orders: Some(orders), wake, thread: Some(thread) })
    }

    /// Serves a socket that [`ports::hold_relayed`] has made.
    pub(crate) fn serve(&self, claim: Claim, socket: OwnedFd) {
        self.order(Order::Serve(claim, socket));
    }

    /// Closes these sockets; connections by them stay.
    pub(crate) fn leave(&self, claims: Vec<Claim>) {
        let (done, is_done) = channel();
        self.order(Order::Leave(claims, done));
        // An error: the thread has a bug and is gone, and the sockets with it.
        let _ = is_done.recv();
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
        self.wake();
    }

    fn wake(&self) {
        // Fails only when it has been woken so often that it cannot have slept.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Relay {
    /// All sockets are closed when it returns.
    fn drop(&mut self) {
        self.orders = None;
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where connections go.
struct Targets {
    root: PathBuf,
    container: ContainerId,
    /// Opened when first needed.
    store: Option<Store>,
    /// What the store said, and its version then.
    known: Option<(i64, Option<Target>)>,
}

/// A container's end of its published ports.
#[derive(Clone)]
struct Target {
    /// IPv6 first.
    ips: Vec<IpAddr>,
    /// The network's bridge.
    link: LinkName,
    ports: Vec<PortMapping>,
}

impl Targets {
    /// By which link and to which addresses, the first to be tried first. Nothing when the container is on no
    /// network that publishes.
    fn of(&mut self, claim: Claim) -> Option<(LinkName, Vec<SocketAddr>)> {
        let target = self.current()?;
        let port = target.container_port(claim)?;
        Some((target.link.clone(), target.ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()))
    }

    fn current(&mut self) -> Option<&Target> {
        if let Err(error) = self.look() {
            tracing::warn!(%error, "cannot look up where [::1] leads");
            self.known = None;
        }
        self.known.as_ref()?.1.as_ref()
    }

    fn look(&mut self) -> Result<()> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Store::open(&self.root)?,
        };
        // Before it is read: a change in between makes it read once more.
        let version = store.version()?;
        if self.known.as_ref().is_none_or(|(known, _)| *known != version) {
            self.known = Some((version, Target::of(&store, &self.container)?));
        }
        self.store = Some(store);
        Ok(())
    }
}

impl Target {
    fn of(store: &Store, container: &ContainerId) -> Result<Option<Self>> {
        let (rows, networks) = store
            .read(|tx| Ok::<_, store::StoreError>((tx.attachments_of(container)?, tx.networks_of_all_scopes()?)))?;
        for (id, _, document) in rows {
            let attached: AttachedEndpoint = serde_json::from_value(document).map_err(Error::usage)?;
            let network = networks.iter().find(|network| network.id == id);
            let link = network.and_then(|network| network.link.clone());
            if let Some(link) = link.filter(|_| !attached.endpoint.ports.is_empty()) {
                let ips = [false, true].into_iter().filter_map(|ipv4| attached.endpoint.ip(ipv4)).collect();
                return Ok(Some(Self { ips, link, ports: attached.endpoint.ports }));
            }
        }
        Ok(None)
    }

    fn container_port(&self, claim: Claim) -> Option<u16> {
        let distance = |m: &PortMapping| claim.port.checked_sub(m.host_port).filter(|n| *n < m.range);
        let serves = |m: &&PortMapping| {
            m.protocol == claim.protocol && ports::includes_loopback6(m.host) && distance(m).is_some()
        };
        let mapping = self.ports.iter().find(serves)?;
        Some(mapping.container_port.saturating_add(distance(mapping)?))
    }
}

/// The claim of a relayed socket.
pub(crate) fn loopback6(port: u16, protocol: Protocol) -> Claim {
    Claim { host: HostAddress::Ip(Ipv6Addr::LOCALHOST.into()), port, protocol }
}

/// Who has something for us: a number and, in the lowest two bits, what it is a number of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Wake,
    Served(u64),
    Side(u64, usize),
    Flow(u64),
}

impl Token {
    fn pack(self) -> u64 {
        match self {
            Self::Wake => u64::MAX,
            Self::Served(n) => n << 2,
            // Two sides: 1 and 2.
            Self::Side(n, side) => (n << 2) | (side as u64 + 1),
            Self::Flow(n) => (n << 2) | 3,
        }
    }

    fn unpack(packed: u64) -> Self {
        match (packed, packed & 3) {
            (u64::MAX, _) => Self::Wake,
            (n, 0) => Self::Served(n >> 2),
            (n, 3) => Self::Flow(n >> 2),
            (n, side) => Self::Side(n >> 2, side as usize - 1),
        }
    }
}

/// A socket on `[::1]`.
struct Served {
    claim: Claim,
    socket: Door,
}

enum Door {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// The thread's loop.
struct Turns {
    epoll: OwnedFd,
    wake: OwnedFd,
    orders: Receiver<Order>,
    targets: Targets,
    served: BTreeMap<u64, Served>,
    connections: BTreeMap<u64, Connection>,
    flows: BTreeMap<u64, Flow>,
    /// Which flow is of a client of a socket.
    clients: HashMap<(u64, SocketAddr), u64>,
    /// The next number.
    next: u64,
    /// Until when nothing is accepted.
    paused: Option<Instant>,
    buffer: Vec<u8>,
}

impl Turns {
    fn new(wake: OwnedFd, orders: Receiver<Order>, targets: Targets) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(Token::Wake.pack()), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            wake,
            orders,
            targets,
            served: BTreeMap::new(),
            connections: BTreeMap::new(),
            flows: BTreeMap::new(),
            clients: HashMap::new(),
            next: 0,
            paused: None,
            buffer: vec![0; CHUNK],
        })
    }

    fn run(&mut self) {
        let mut ready = Vec::with_capacity(64);
        loop {
            let wait = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            // A little later rather than a little too early, and then once more.
            let wait = wait.map(|wait| wait + Duration::from_millis(1));
            let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
            ready.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // Cannot be: the descriptor is ours.
                Err(_) => return,
            }
            for event in &ready {
                match Token::unpack(event.data.u64()) {
                    Token::Wake => {
                        if !self.obey() {
                            return;
                        }
                    }
                    Token::Served(n) => self.at_the_door(n),
                    Token::Side(n, _) => self.turn(n),
                    Token::Flow(n) => self.answer(n),
                }
            }
            self.expire(Instant::now());
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// `false`: our monitor wants us to end.
    fn obey(&mut self) -> bool {
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
        loop {
            match self.orders.try_recv() {
                Ok(Order::Serve(claim, socket)) => self.open(claim, socket),
                Ok(Order::Leave(claims, done)) => {
                    self.served.retain(|_, served| !claims.contains(&served.claim));
                    let left = |flow: &Flow| !self.served.contains_key(&flow.door);
                    let gone: Vec<u64> = self.flows.iter().filter(|(_, flow)| left(flow)).map(|(n, _)| *n).collect();
                    gone.into_iter().for_each(|n| drop(self.forget_flow(n)));
                    let _ = done.send(());
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn open(&mut self, claim: Claim, socket: OwnedFd) {
        let n = self.number();
        let socket = match claim.protocol {
            Protocol::Tcp => Door::Tcp(socket.into()),
            Protocol::Udp => Door::Udp(socket.into()),
            Protocol::Sctp => return,
        };
        let served = Served { claim, socket };
        if self.paused.is_none() || claim.protocol == Protocol::Udp {
            self.watch(served.socket.as_fd(), Token::Served(n), epoll::EventFlags::IN);
        }
        self.served.insert(n, served);
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: Token, flags: epoll::EventFlags) {
        let _ = epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.pack()), flags);
    }

    fn at_the_door(&mut self, n: u64) {
        match self.served.get(&n).map(|served| &served.socket) {
            Some(Door::Tcp(_)) => self.accept(n),
            Some(Door::Udp(_)) => self.receive(n),
            None => {}
        }
    }

    /// When something is to be done though nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let connecting = self.connections.values().filter(|c| c.connecting.is_some()).map(|c| c.last + PATIENCE);
        let flows = self.flows.values().map(Flow::until);
        connecting.chain(flows).chain(self.paused).min()
    }

    fn expire(&mut self, now: Instant) {
        let late = |c: &Connection| c.connecting.is_some() && c.last + PATIENCE <= now;
        let late: Vec<u64> = self.connections.iter().filter(|(_, c)| late(c)).map(|(n, _)| *n).collect();
        late.into_iter().for_each(|n| self.try_next(n));
        let old: Vec<u64> = self.flows.iter().filter(|(_, flow)| flow.until() <= now).map(|(n, _)| *n).collect();
        old.into_iter().for_each(|n| drop(self.forget_flow(n)));
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            self.each_listener(|turns, n, listener| turns.watch(listener, Token::Served(n), epoll::EventFlags::IN));
        }
    }

    fn each_listener(&self, act: impl Fn(&Self, u64, BorrowedFd<'_>)) {
        for (n, served) in &self.served {
            if let Door::Tcp(listener) = &served.socket {
                act(self, *n, listener.as_fd());
            }
        }
    }

    fn pause(&mut self) {
        if self.paused.is_none() {
            self.each_listener(|turns, _, listener| {
                let _ = epoll::delete(&turns.epoll, listener);
            });
        }
        self.paused = Some(Instant::now() + PAUSE);
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

/// The client's side of a connection, and the container's.
const CLIENT: usize = 0;
const CONTAINER: usize = 1;

/// A client and its container.
struct Connection {
    sides: [TcpStream; 2],
    /// What goes from each side to the other.
    ways: [Way; 2],
    /// What each side is waited for.
    watched: [epoll::EventFlags; 2],
    /// Not accepted by the container yet.
    connecting: Option<Attempt>,
    /// When it was last heard of.
    last: Instant,
}

/// Where to try next.
struct Attempt {
    link: LinkName,
    rest: Vec<SocketAddr>,
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Read and not yet taken.
    bytes: Vec<u8>,
    sent: usize,
    /// All was read, and the other side was told.
    ended: bool,
}

impl Way {
    fn waits(&self) -> bool {
        self.sent < self.bytes.len()
    }

    /// Moves what both sides allow, at most a turn's worth. `Ok(false)`: nothing has moved.
    fn go(&mut self, from: &TcpStream, to: &TcpStream, buffer: &mut [u8]) -> io::Result<bool> {
        let mut moved = false;
        for _ in 0..TURN {
            if self.waits() {
                match no_wait((&*to).write(&self.bytes[self.sent..]))? {
                    None => return Ok(moved),
                    Some(n) => self.sent += n,
                }
                moved = true;
                continue;
            }
            if self.ended {
                return Ok(moved);
            }
            let Some(length) = no_wait((&*from).read(buffer))? else { return Ok(moved) };
            moved = true;
            if length == 0 {
                to.shutdown(Shutdown::Write)?;
                self.ended = true;
                return Ok(moved);
            }
            let written = no_wait((&*to).write(&buffer[..length]))?.unwrap_or(0);
            if written < length {
                self.bytes.clear();
                self.bytes.extend_from_slice(&buffer[written..length]);
                self.sent = 0;
            } else if !self.bytes.is_empty() {
                self.bytes = Vec::new();
                self.sent = 0;
            }
        }
        Ok(moved)
    }
}

/// `None`: not now.
fn no_wait<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Turns {
    fn accept(&mut self, n: u64) {
        for _ in 0..TURN {
            let Some(Served { claim, socket: Door::Tcp(listener) }) = self.served.get(&n) else { return };
            match listener.accept() {
                Ok((client, _)) => self.join(*claim, client),
                Err(e) => match Errno::from_io_error(&e) {
                    Some(Errno::AGAIN) => return,
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return self.pause(),
                    // One that has gone again: the others wait.
                    _ => {}
                },
            }
        }
    }

    fn join(&mut self, claim: Claim, client: TcpStream) {
        if !self.make_place() {
            return reset(&client);
        }
        let ready = client.set_nonblocking(true).and_then(|()| client.set_nodelay(true));
        // Else what is left of this connection would keep the port from the next container.
        let ready = ready.and_then(|()| ports::let_later_sockets_bind(&client));
        let target = self.targets.of(claim).filter(|_| ready.is_ok());
        let begun = target.and_then(|(link, addresses)| begin(Attempt { link, rest: addresses }));
        let Some((container, attempt)) = begun else { return reset(&client) };
        let n = self.number();
        let connection = Connection {
            sides: [client, container],
            ways: Default::default(),
            watched: [epoll::EventFlags::empty(); 2],
            connecting: Some(attempt),
            last: Instant::now(),
        };
        self.connections.insert(n, connection);
        self.watch_connection(n);
    }

    /// `false`: everybody is busy.
    fn make_place(&mut self) -> bool {
        if self.connections.len() < CONNECTIONS {
            return true;
        }
        let silent = self.connections.iter().min_by_key(|(_, connection)| connection.last);
        let silent = silent.filter(|(_, c)| c.last.elapsed() >= IDLE).map(|(n, _)| *n);
        silent.inspect(|n| self.reset(*n)).is_some()
    }

    /// Something has happened on a side of a connection.
    fn turn(&mut self, n: u64) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        if connection.connecting.is_some() {
            return self.connected(n);
        }
        let [client, container] = &connection.sides;
        let [out, back] = &mut connection.ways;
        let moved = out
            .go(client, container, &mut self.buffer)
            .and_then(|moved| Ok(back.go(container, client, &mut self.buffer)? || moved));
        match moved {
            Err(_) => self.reset(n),
            Ok(_) if connection.ways.iter().all(|way| way.ended) => drop(self.connections.remove(&n)),
            Ok(moved) => {
                if moved {
                    connection.last = Instant::now();
                }
                self.watch_connection(n);
            }
        }
    }

    /// The container has accepted, or refused.
    fn connected(&mut self, n: u64) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        let container = &connection.sides[CONTAINER];
        match container.take_error() {
            // Not yet: an event of the time before.
            Ok(None) if container.peer_addr().is_err() => {}
            Ok(None) => {
                connection.connecting = None;
                self.turn(n);
            }
            Ok(Some(_)) | Err(_) => self.try_next(n),
        }
    }

    fn try_next(&mut self, n: u64) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        match connection.connecting.take().and_then(begin) {
            Some((container, attempt)) => {
                let _ = epoll::delete(&self.epoll, &connection.sides[CONTAINER]);
                connection.sides[CONTAINER] = container;
                connection.connecting = Some(attempt);
                connection.last = Instant::now();
                connection.watched[CONTAINER] = epoll::EventFlags::empty();
                self.watch_connection(n);
            }
            None => self.reset(n),
        }
    }

    /// Waits for what can be of use alone: a side that has nothing to do with is not watched at all, for its
    /// hang-up would be told again and again.
    fn watch_connection(&mut self, n: u64) {
        let Some(connection) = self.connections.get_mut(&n) else { return };
        for side in [CLIENT, CONTAINER] {
            let (from, to) = (&connection.ways[side], &connection.ways[1 - side]);
            let mut wanted = epoll::EventFlags::empty();
            if connection.connecting.is_some() {
                wanted.set(epoll::EventFlags::OUT, side == CONTAINER);
            } else {
                wanted.set(epoll::EventFlags::IN, !from.ended && !from.waits());
                wanted.set(epoll::EventFlags::OUT, to.waits());
            }
            let had = std::mem::replace(&mut connection.watched[side], wanted);
            let (socket, data) = (&connection.sides[side], epoll::EventData::new_u64(Token::Side(n, side).pack()));
            let _ = match (had.is_empty(), wanted.is_empty()) {
                _ if had == wanted => Ok(()),
                (true, _) => epoll::add(&self.epoll, socket, data, wanted),
                (false, true) => epoll::delete(&self.epoll, socket),
                (false, false) => epoll::modify(&self.epoll, socket, data, wanted),
            };
        }
    }

    fn reset(&mut self, n: u64) {
        if let Some(connection) = self.connections.remove(&n) {
            connection.sides.iter().for_each(reset);
        }
    }
}

/// The connection ends with a reset when it is closed.
fn reset(socket: impl AsFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// A connection to the first address that does not refuse at once.
fn begin(mut attempt: Attempt) -> Option<(TcpStream, Attempt)> {
    while !attempt.rest.is_empty() {
        let address = attempt.rest.remove(0);
        let Ok(socket) = socket_to(SocketType::STREAM, address, &attempt.link) else { continue };
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {
                let stream = TcpStream::from(socket);
                let _ = stream.set_nodelay(true);
                return Some((stream, attempt));
            }
            Err(_) => {}
        }
    }
    None
}

/// By the network's bridge and no other way: an address that has left it leads nowhere.
fn socket_to(kind: SocketType, address: SocketAddr, link: &LinkName) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    ports::by_link(&socket, link)?;
    Ok(socket)
}

/// A UDP client and its container.
struct Flow {
    /// The socket that the client sent to.
    door: u64,
    client: SocketAddr,
    /// Connected to the container.
    socket: UdpSocket,
    to: SocketAddr,
    /// Where to try when it refuses the first datagram.
    next: Attempt,
    /// That datagram, when it is short.
    first: Vec<u8>,
    answered: bool,
    /// When it was last heard of.
    last: Instant,
}

impl Flow {
    fn until(&self) -> Instant {
        self.last + if self.answered { ANSWERED } else { UNANSWERED }
    }
}

impl Turns {
    fn receive(&mut self, n: u64) {
        for _ in 0..TURN {
            let Some(Served { claim, socket: Door::Udp(socket) }) = self.served.get(&n) else { return };
            let claim = *claim;
            match socket.recv_from(&mut self.buffer) {
                Ok((length, client)) => self.pass_on(n, claim, client, length),
                Err(_) => return,
            }
        }
    }

    /// A datagram of `length` in the buffer goes to the container.
    fn pass_on(&mut self, door: u64, claim: Claim, client: SocketAddr, length: usize) {
        let Some((link, addresses)) = self.targets.of(claim) else { return };
        if let Some(n) = self.clients.get(&(door, client)).copied() {
            let known = self.flows.get_mut(&n).filter(|flow| addresses.contains(&flow.to) && flow.next.link == link);
            if let Some(flow) = known {
                flow.last = Instant::now();
                match flow.socket.send(&self.buffer[..length]) {
                    Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return self.refused(n),
                    // Lost, as datagrams are.
                    _ => return,
                }
            }
            // The container is elsewhere now.
            self.forget_flow(n);
        }
        if self.flows.len() >= FLOWS
            && let Some(n) = self.flows.iter().min_by_key(|(_, flow)| flow.last).map(|(n, _)| *n)
        {
            self.forget_flow(n);
        }
        let first = if length <= REPEATED { self.buffer[..length].to_vec() } else { Vec::new() };
        let Some((socket, to, next)) = begin_flow(Attempt { link, rest: addresses }, &self.buffer[..length]) else {
            return;
        };
        let flow = Flow { door, client, socket, to, next, first, answered: false, last: Instant::now() };
        self.open_flow(flow);
    }

    fn open_flow(&mut self, flow: Flow) {
        let n = self.number();
        self.watch(flow.socket.as_fd(), Token::Flow(n), epoll::EventFlags::IN);
        self.clients.insert((flow.door, flow.client), n);
        self.flows.insert(n, flow);
    }

    /// The container says something.
    fn answer(&mut self, n: u64) {
        for _ in 0..TURN {
            let Some(flow) = self.flows.get_mut(&n) else { return };
            match flow.socket.recv(&mut self.buffer) {
                Ok(length) => {
                    flow.last = Instant::now();
                    flow.answered = true;
                    flow.first = Vec::new();
                    if let Some(Served { socket: Door::Udp(door), .. }) = self.served.get(&flow.door) {
                        // Lost, as datagrams are, when it is not taken.
                        let _ = door.send_to(&self.buffer[..length], flow.client);
                    }
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
                Err(_) => return self.refused(n),
            }
        }
    }

    /// Nobody listens there: the first datagram goes to the next address, if there is one.
    fn refused(&mut self, n: u64) {
        let Some(flow) = self.forget_flow(n) else { return };
        if flow.answered || flow.first.is_empty() {
            return;
        }
        if let Some((socket, to, next)) = begin_flow(flow.next, &flow.first) {
            self.open_flow(Flow { socket, to, next, ..flow });
        }
    }

    fn forget_flow(&mut self, n: u64) -> Option<Flow> {
        let flow = self.flows.remove(&n)?;
        self.clients.remove(&(flow.door, flow.client));
        // Its socket closes with it, and with that it is not watched any more.
        Some(flow)
    }
}

/// A socket to the first address that takes the datagram.
fn begin_flow(mut attempt: Attempt, datagram: &[u8]) -> Option<(UdpSocket, SocketAddr, Attempt)> {
    while !attempt.rest.is_empty() {
        let address = attempt.rest.remove(0);
        let socket = socket_to(SocketType::DGRAM, address, &attempt.link).map(UdpSocket::from);
        let sent = socket.and_then(|socket| {
            socket.connect(address)?;
            socket.send(datagram)?;
            Ok(socket)
        });
        if let Ok(socket) = sent {
            return Some((socket, address, attempt));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_apart() {
        let all = [Token::Wake, Token::Served(7), Token::Side(7, CLIENT), Token::Side(7, CONTAINER), Token::Flow(7)];
        for token in all {
            assert!(Token::unpack(token.pack()) == token);
        }
    }

    #[test]
    fn a_port_on_loopback6_leads_where_its_mapping_says() {
        let mapping = |text: &str| {
            let spec: model::PortSpec = text.parse().unwrap();
            spec.at(spec.host_port.unwrap())
        };
        let target = Target {
            ips: Vec::new(),
            link: "podman0".parse().unwrap(),
            ports: ["127.0.0.1:8080:1", "[::1]:8080:80", "9000-9009:90-99", "9000:53/udp", "0.0.0.0:7:7"]
                .map(mapping)
                .to_vec(),
        };
        let leads = |port, protocol| target.container_port(loopback6(port, protocol));
        assert_eq!(leads(8080, Protocol::Tcp), Some(80));
        assert_eq!(leads(9009, Protocol::Tcp), Some(99));
        assert_eq!(leads(9010, Protocol::Tcp), None);
        assert_eq!(leads(9000, Protocol::Udp), Some(53));
        assert_eq!(leads(7, Protocol::Tcp), None);
    }
}
