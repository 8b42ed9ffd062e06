//! The loop: waits, hands what came to the server, does what it says.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dns::{Chance, Client, Counts, Directory, Event, Output, Server, Transport, Via, Zones};
use engine::HostServers;
use linux::datagrams::Inbox;
use model::NetworkId;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::budget::Budget;
use super::clients::{self, Clients};
use super::listeners::Listeners;
use super::poller::{Poller, Token};
use super::questions::{Heard, Questions};

/// A query by UDP is cut here, and then is none.
const QUERY_MAX: usize = 4096;

/// The longest message there is.
const MESSAGE_MAX: usize = 65_535;

/// Connections accepted before others have their turn.
const ACCEPTS: usize = 64;

/// Messages heard from one upstream before others have their turn.
const HEARD: usize = 4;

/// How long the loop pauses when it cannot even wait.
const PAUSE: Duration = Duration::from_millis(100);

/// What the handle says to the loop.
pub(super) enum Command {
    /// Listen for a network.
    Listen { network: NetworkId, gateways: Vec<IpAddr>, wished: Option<u16>, reply: SyncSender<io::Result<u16>> },
    /// For no others any more.
    ListenOnly { networks: BTreeSet<NetworkId>, reply: SyncSender<()> },
    /// Answer from `zones`, which were made from `directory`.
    Follow { directory: Directory, zones: Arc<Zones>, reply: SyncSender<()> },
    /// Tell what happened so far.
    Count { reply: SyncSender<Counts> },
    /// End.
    Stop,
}

/// The host's upstreams as the loop last read them, for whoever makes zones.
pub(super) type Upstreams = Arc<Mutex<Vec<SocketAddr>>>;

/// Everything the loop has.
pub(super) struct Loop {
    poller: Poller,
    bell: Arc<OwnedFd>,
    commands: Receiver<Command>,
    server: Server,
    directory: Directory,
    upstreams: Upstreams,
    host: HostServers,
    listeners: Listeners,
    clients: Clients,
    questions: Questions,
    inbox: Inbox,
    /// For messages of upstreams.
    buffer: Vec<u8>,
    now: Instant,
}

impl Loop {
    pub(super) fn new(
        budget: &Budget,
        directory: Directory,
        bell: Arc<OwnedFd>,
        commands: Receiver<Command>,
        upstreams: Upstreams,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&bell, Token::Bell, EventFlags::IN)?;
        let now = Instant::now();
        let host = HostServers::new(Path::new(engine::RESOLV_CONF), Path::new(engine::RESOLVED_SERVERS), now);
        if let Some(fd) = host.fd() {
            poller.add(fd, Token::HostServers, EventFlags::IN)?;
        }
        let server = Server::new(Arc::new(Zones::new(&directory)), budget.limits, chance()?);
        let mut new = Self {
            poller,
            bell,
            commands,
            server,
            directory,
            upstreams,
            host,
            listeners: Listeners::default(),
            clients: Clients::new(budget),
            questions: Questions::default(),
            inbox: Inbox::new(QUERY_MAX),
            buffer: vec![0; MESSAGE_MAX],
            now,
        };
        new.follow_host();
        Ok(new)
    }

    /// Serves until told to end.
    pub(super) fn run(mut self) {
        loop {
            let happened = self.poller.wait(self.timeout()).unwrap_or_else(|error| {
                tracing::error!(%error, "cannot wait for queries");
                std::thread::sleep(PAUSE);
                Vec::new()
            });
            self.now = Instant::now();
            for (token, flags) in happened {
                match token {
                    Token::Bell => {
                        if !self.obey() {
                            return;
                        }
                    }
                    Token::HostServers => self.host.noticed(self.now),
                    Token::Listener(number) => self.hear_clients(number),
                    Token::Client(connection) => self.hear_client(connection, flags),
                    Token::Question { place, serial } => self.hear_upstream(place, serial),
                }
            }
            self.keep_time();
            self.flush();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let deadlines =
            [self.server.deadline(), self.host.deadline(), self.listeners.deadline(), self.clients.deadline()];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn keep_time(&mut self) {
        if self.server.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.tell(Event::Tick);
        }
        self.host.glance(self.now);
        if self.host.deadline().is_some_and(|deadline| deadline <= self.now) && self.host.refresh() {
            self.follow_host();
        }
        self.listeners.wake(&self.poller, self.now);
        while let Some(connection) = self.clients.idlest(self.now) {
            self.end(connection);
        }
    }

    /// Does what the handle says; `false` at the end.
    fn obey(&mut self) -> bool {
        // First the bell: a command that comes from now on rings it again.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        while let Ok(command) = self.commands.try_recv() {
            // Who does not wait for the reply any more does not miss it.
            match command {
                Command::Listen { network, gateways, wished, reply } => {
                    let _ = reply.send(self.listeners.open(&self.poller, network, &gateways, wished));
                }
                Command::ListenOnly { networks, reply } => {
                    self.listeners.flush();
                    self.listeners.keep(&networks);
                    let _ = reply.send(());
                }
                Command::Follow { directory, zones, reply } => {
                    self.follow(directory, zones);
                    let _ = reply.send(());
                }
                Command::Count { reply } => {
                    let _ = reply.send(self.server.counts());
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn follow(&mut self, directory: Directory, zones: Arc<Zones>) {
        self.directory = directory;
        if self.directory.upstreams == self.host.servers() {
            self.server.follow(zones, self.now);
            self.act();
        } else {
            // They changed while the zones were being made.
            self.follow_host();
        }
    }

    /// The same names with the host's upstreams.
    fn follow_host(&mut self) {
        self.directory.upstreams = self.host.servers().to_vec();
        self.directory.upstreams.clone_into(&mut self.upstreams.lock().unwrap_or_else(PoisonError::into_inner));
        self.server.follow(Arc::new(Zones::new(&self.directory)), self.now);
        self.act();
    }

    fn hear_clients(&mut self, number: u32) {
        match self.listeners.listener(number).map(|listener| listener.transport) {
            Some(Transport::Udp) => self.hear_datagrams(number),
            Some(Transport::Tcp) => self.accept(number),
            None => {}
        }
    }

    fn hear_datagrams(&mut self, listener: u32) {
        let Some(socket) = self.listeners.listener(listener) else { return };
        let network = socket.network;
        let mut inbox = std::mem::take(&mut self.inbox);
        match inbox.receive(socket.fd()) {
            Ok(()) => {
                for (address, message) in inbox.datagrams() {
                    let client = Client { network, address, via: Via::Udp { listener } };
                    self.tell(Event::Asked { client, message });
                }
                self.listeners.flush();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot receive queries");
                self.listeners.rest(&self.poller, listener, self.now);
            }
        }
        self.inbox = inbox;
    }

    fn accept(&mut self, number: u32) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.listener(number) else { return };
            let network = listener.network;
            match clients::accept(listener.fd()) {
                Ok(Some((fd, address))) => {
                    if let Some(idlest) = self.clients.in_the_way(network, address.ip()) {
                        self.end(idlest);
                    }
                    let client = Client { network, address, via: Via::Tcp { connection: 0 } };
                    match self.clients.admit(&self.poller, fd, client, self.now) {
                        // Its query is mostly there already; answered now, no crowd behind it can push it out.
                        Ok(connection) => {
                            self.hear_client(connection, EventFlags::IN);
                            self.flush();
                        }
                        Err(error) => tracing::warn!(%error, "cannot take a connection"),
                    }
                }
                Ok(None) => return,
                // Nothing is amiss with us: it ended before we came, or its error is told here (accept(2)).
                Err(error) if !is_shortage(error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    self.listeners.rest(&self.poller, number, self.now);
                    return;
                }
            }
        }
    }

    fn hear_client(&mut self, connection: u64, flags: EventFlags) {
        let is_over = flags.intersects(EventFlags::ERR | EventFlags::HUP)
            || (flags.contains(EventFlags::IN) && self.clients.read(connection).is_err());
        if is_over {
            return self.end(connection);
        }
        self.clients.mark_busy(connection);
    }

    /// Has the queries answered that have come whole.
    fn converse(&mut self, connection: u64) {
        loop {
            match self.clients.next_query(connection, self.now) {
                Ok(Some((client, message))) => {
                    let before = self.server.counts();
                    self.tell(Event::Asked { client, message: &message });
                    let after = self.server.counts();
                    // Who sends what gets no answer has no reason to be connected.
                    if (before.strangers, before.noise) != (after.strangers, after.noise) {
                        return self.end(connection);
                    }
                }
                Ok(None) => return,
                Err(clients::Over) => return self.end(connection),
            }
        }
    }

    fn write(&mut self, connection: u64) {
        if self.clients.write(&self.poller, connection, self.now).is_err() {
            self.end(connection);
        }
    }

    fn end(&mut self, connection: u64) {
        if self.clients.close(connection) {
            self.tell(Event::Gone { connection });
        }
    }

    fn hear_upstream(&mut self, place: u32, serial: u32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..HEARD {
            match self.questions.hear(&self.poller, place, serial, &mut buffer) {
                Heard::Nothing => break,
                Heard::Message { socket, from, length } => {
                    self.tell(Event::Answered { socket, from, message: &buffer[..length] });
                }
                Heard::Failed { socket } => {
                    self.tell(Event::Failed { socket });
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Sends what is to be sent before the loop waits again.
    fn flush(&mut self) {
        while let Some(connection) = self.clients.next_busy() {
            // First what was to be said before: queries may wait for room.
            self.write(connection);
            self.converse(connection);
        }
        self.listeners.flush();
    }

    fn tell(&mut self, event: Event<'_>) {
        self.server.handle(event, self.now);
        self.act();
    }

    /// Does what the server says.
    fn act(&mut self) {
        while let Some(output) = self.server.poll() {
            match output {
                Output::Send { to: Client { via: Via::Udp { listener }, address, .. }, message } => {
                    self.listeners.queue(listener, address, message);
                }
                Output::Send { to: Client { via: Via::Tcp { connection }, .. }, message } => {
                    if self.clients.queue(connection, &message).is_err() && self.clients.close(connection) {
                        self.server.handle(Event::Gone { connection }, self.now);
                    }
                }
                Output::Ask { socket, to, transport, message } => {
                    if let Err(error) = self.questions.ask(&self.poller, socket, to, transport, &message) {
                        tracing::debug!(%error, %to, "cannot ask");
                        self.server.handle(Event::Failed { socket }, self.now);
                    }
                }
                Output::Close { socket } => self.questions.close(socket),
            }
        }
    }
}

/// Would the next call fail as well?
fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::BADF | Errno::INVAL)
}

/// Numbers of the kernel's, some hundreds at a time.
fn chance() -> io::Result<Chance> {
    let mut numbers = Vec::new();
    refill(&mut numbers)?;
    Ok(Chance::new(move || {
        if numbers.is_empty() {
            // Once it has worked it always does (getrandom(2)).
            refill(&mut numbers).expect("the kernel has random numbers");
        }
        numbers.pop().unwrap_or_default()
    }))
}

fn refill(numbers: &mut Vec<u16>) -> io::Result<()> {
    let octets = linux::machine::random::<512>()?;
    numbers.extend(octets.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])));
    Ok(())
}
