//! One client with its sockets.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::time::Duration;

use dhcp::{Begin, Chance, Client, Client6, Event, Identity, Identity6, Moment, Output, Output6, Stage, frame, frame6};
use engine::{Given, LanBegin, LanWish};
use linux::NetNs;
use linux::frames::{FrameSocket, Instruction};
use model::{ContainerId, MacAddr, NetworkId};
use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::serve::{Poller, Token};

/// Frames heard before others have their turn.
const FRAMES: usize = 16;

/// No DHCP message is longer than what we say that we take.
const FRAME_MAX: usize = 2048;

/// What is waited before a socket that could not be opened is tried again: doubled each time, up to a minute.
const RETRY: Duration = Duration::from_millis(500);
const RETRIES_DOUBLED: u32 = 7;

/// Which container on which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) container: ContainerId,
    pub(super) network: NetworkId,
    pub(super) ipv4: bool,
}

impl Place {
    pub(super) fn of(wish: &LanWish) -> Self {
        Self { container: wish.container, network: wish.network, ipv4: wish.ipv4() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ipv4 { "IPv4" } else { "IPv6" };
        write!(f, "{family} of container {} on network {}", self.container.short(), self.network.short())
    }
}

/// How far the container has what its client has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is nothing to have yet.
    Seeking,
    /// The follower is at it.
    Following(u64),
    /// It has.
    There,
    /// It cannot have it, and why.
    Failed(String),
}

/// The machine of either family.
enum Machine {
    Four(Client),
    Six(Client6),
}

impl Machine {
    fn handle(&mut self, event: Event<'_>, now: Moment) {
        match self {
            Self::Four(client) => client.handle(event, now),
            Self::Six(client) => client.handle(event, now),
        }
    }

    fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Four(client) => client.deadline(),
            Self::Six(client) => client.deadline(),
        }
    }

    fn is_listening(&self) -> bool {
        match self {
            Self::Four(client) => client.is_listening(),
            Self::Six(client) => client.is_listening(),
        }
    }

    fn poll(&mut self) -> Option<Todo> {
        match self {
            Self::Four(client) => client.poll().map(|output| match output {
                Output::Frame(frame) => Todo::Frame(frame),
                Output::Datagram { from, to, message } => Todo::Datagram(from, to, message),
                Output::Leased(lease) => Todo::Give(Given::Four(Some(lease))),
                Output::Lost(_) => Todo::Give(Given::Four(None)),
            }),
            Self::Six(client) => client.poll().map(|output| match output {
                Output6::Frame(frame) => Todo::Frame(frame),
                Output6::Leased(lease) => Todo::Give(Given::Six(Some(lease))),
                Output6::Lost => Todo::Give(Given::Six(None)),
                Output6::Told { dns, search } => Todo::Give(Given::Told(dns, search)),
            }),
        }
    }

    /// Does it need a socket of its port? To send by, or so that the kernel refuses nothing that is sent there.
    fn holds_port(&self) -> bool {
        match self {
            Self::Four(client) => client.stage() == Stage::Renewing,
            Self::Six(client) => client.is_listening(),
        }
    }
}

/// What a machine wants.
enum Todo {
    Frame(Vec<u8>),
    Datagram(Ipv4Addr, Ipv4Addr, Vec<u8>),
    Give(Given),
}

/// A client with its sockets.
pub(super) struct Seat {
    pub(super) wish: LanWish,
    pub(super) standing: Standing,
    namespace: Option<NetNs>,
    client: Option<Machine>,
    frames: Option<FrameSocket>,
    /// While the lender is asked to renew: answers that come by it are heard as frames.
    datagrams: Option<OwnedFd>,
    failures: u32,
    /// When to try again what failed.
    retry: Option<Moment>,
    /// Why there is no client or no socket.
    failure: Option<String>,
    token: Token,
}

impl Seat {
    pub(super) fn new(wish: LanWish, token: Token) -> Self {
        // What it has, its container has already.
        let standing =
            if matches!(wish.begin, LanBegin::Four(Begin::Resume(_))) { Standing::There } else { Standing::Seeking };
        Self {
            wish,
            standing,
            namespace: None,
            client: None,
            frames: None,
            datagrams: None,
            failures: 0,
            retry: None,
            failure: None,
            token,
        }
    }

    /// The client begins, in its own namespace, or in the one that is named so in the file system.
    pub(super) fn begin(&mut self, namespace: Option<NetNs>, poller: &Poller, now: Moment) -> Vec<Given> {
        if self.namespace.is_none() {
            self.namespace = namespace;
        }
        if self.client.is_none() {
            self.retry = None;
            match self.client(poller, now) {
                Ok(client) => self.client = Some(client),
                Err(error) => self.fail(&error, now),
            }
        }
        self.serve(poller, now)
    }

    fn client(&mut self, poller: &Poller, now: Moment) -> io::Result<Machine> {
        if self.namespace.is_none() {
            self.namespace = Some(NetNs::open(&self.wish.sandbox)?);
        }
        let mac = MacAddr::new(self.open(poller)?.mac()).map_err(io::Error::other)?;
        let wish = &self.wish;
        let id = wish.client_id.clone();
        Ok(match wish.begin.clone() {
            LanBegin::Four(begin) => {
                let identity = Identity { mac, client_id: id, hostname: wish.hostname.clone() };
                Machine::Four(Client::new(identity, begin, chance()?, now))
            }
            LanBegin::Six(begin, link) => {
                let identity = Identity6 { mac, duid: id, link };
                Machine::Six(Client6::new(identity, begin, chance()?, now))
            }
        })
    }

    fn within<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.namespace.as_ref().ok_or(io::ErrorKind::NotFound)?.within(act)?
    }

    fn open(&mut self, poller: &Poller) -> io::Result<&FrameSocket> {
        let socket =
            self.within(|| FrameSocket::open(&self.wish.link, if self.wish.ipv4() { &FILTER } else { &FILTER6 }))?;
        poller.add(&socket, self.token, EventFlags::IN)?;
        (self.failures, self.failure, self.retry) = (0, None, None);
        Ok(self.frames.insert(socket))
    }

    fn fail(&mut self, error: &io::Error, now: Moment) {
        let text = format!("cannot open a socket on {}: {error}", self.wish.link);
        tracing::debug!(place = %Place::of(&self.wish), "{text}");
        self.failure = Some(text);
        self.retry = Some(now + RETRY * (1 << self.failures.min(RETRIES_DOUBLED)));
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let client = self.client.as_ref().and_then(Machine::deadline);
        client.into_iter().chain(self.retry).min()
    }

    /// The deadline is here.
    pub(super) fn tick(&mut self, poller: &Poller, now: Moment) -> Vec<Given> {
        if self.client.is_none() {
            return self.begin(None, poller, now);
        }
        self.handle(Event::Tick, now);
        self.serve(poller, now)
    }

    /// Something came in.
    pub(super) fn hear(&mut self, poller: &Poller, now: Moment) -> Vec<Given> {
        let mut room = [0; FRAME_MAX];
        for _ in 0..FRAMES {
            let Some(socket) = &self.frames else { break };
            match socket.receive(&mut room) {
                Ok(length) => self.handle(Event::Frame(&room[..length]), now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // The link was set down, or is gone.
                    self.frames = None;
                    self.fail(&error, now);
                }
            }
        }
        self.serve(poller, now)
    }

    /// Gives back what it has.
    pub(super) fn release(&mut self, poller: &Poller, now: Moment) {
        self.handle(Event::Release, now);
        self.serve(poller, now);
    }

    fn handle(&mut self, event: Event<'_>, now: Moment) {
        if let Some(client) = &mut self.client {
            client.handle(event, now);
        }
    }

    /// Does what the client says, and keeps open what it needs.
    fn serve(&mut self, poller: &Poller, now: Moment) -> Vec<Given> {
        let mut tasks = Vec::new();
        while let Some(todo) = self.client.as_mut().and_then(Machine::poll) {
            match todo {
                Todo::Frame(frame) => self.send(&frame, poller),
                Todo::Datagram(from, to, message) => self.send_datagram(from, to, &message),
                Todo::Give(given) => tasks.push(given),
            }
        }
        self.keep_open(poller, now);
        tasks
    }

    fn send(&mut self, frame: &[u8], poller: &Poller) {
        let sent = match &self.frames {
            Some(socket) => socket.send(frame),
            None => self.open(poller).and_then(|socket| socket.send(frame)),
        };
        if let Err(error) = sent {
            // As if it was lost on the way.
            self.failure = Some(format!("cannot send on {}: {error}", self.wish.link));
            tracing::debug!(place = %Place::of(&self.wish), %error, "cannot send");
        }
    }

    fn send_datagram(&mut self, from: Ipv4Addr, to: Ipv4Addr, message: &[u8]) {
        let kept = self.datagrams.take();
        let socket = kept.map_or_else(|| self.within(|| datagram_socket(&self.wish, from, to)), Ok);
        let sent = socket.and_then(|socket| {
            rustix::net::send(&socket, message, rustix::net::SendFlags::NOSIGNAL)?;
            self.datagrams = Some(socket);
            Ok(())
        });
        if let Err(error) = sent {
            // Somebody in the container has the port, or there is no route: all servers are asked later.
            tracing::debug!(place = %Place::of(&self.wish), %error, "cannot ask the lender");
        }
    }

    fn keep_open(&mut self, poller: &Poller, now: Moment) {
        let Some(client) = &self.client else { return };
        let (holds_port, is_listening) = (client.holds_port(), client.is_listening());
        if !holds_port {
            self.datagrams = None;
        } else if self.datagrams.is_none() && !self.wish.ipv4() {
            // Somebody in the container may have it; then that one answers for it.
            self.datagrams = self.within(|| port_socket6(&self.wish)).ok();
        }
        if !is_listening {
            (self.frames, self.retry) = (None, None);
        } else if self.frames.is_none()
            && self.retry.is_none_or(|retry| retry <= now)
            && let Err(error) = self.open(poller)
        {
            self.fail(&error, now);
        }
    }

    /// Why there is nothing yet, in half a sentence.
    pub(super) fn trouble(&self) -> Option<String> {
        let heard = match &self.client {
            Some(Machine::Four(client)) => client.trouble().map(ToString::to_string),
            Some(Machine::Six(_)) | None => None,
        };
        heard.or_else(|| self.failure.clone())
    }
}

/// From port 68 of the leased address to the server, by the container's own routes.
fn datagram_socket(wish: &LanWish, from: Ipv4Addr, to: Ipv4Addr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Another link of the container may lead to the server, too; the answer is awaited on this one.
    linux::ports::by_link(&socket, &wish.link)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(from, frame::CLIENT_PORT))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(to, frame::SERVER_PORT))?;
    Ok(socket)
}

/// Holds the port of DHCPv6 clients on the link.
fn port_socket6(wish: &LanWish) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None)?;
    linux::ports::by_link(&socket, &wish.link)?;
    rustix::net::bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, frame6::CLIENT_PORT, 0, 0))?;
    Ok(socket)
}

fn chance() -> io::Result<Chance> {
    // Asked once now, so that a kernel without chance is told here.
    linux::machine::random::<4>()?;
    Ok(Chance::new(|| linux::machine::random().map_or(0, u32::from_ne_bytes)))
}

/// ARP, and UDP over IPv4 to a client's port that is no later fragment (Linux' networking/filter.rst; the machine
/// looks at all of it again).
const FILTER: [Instruction; 12] = [
    instruction(LOAD_HALF, 12, 0, 0),
    instruction(EQUAL, 0x0806, ACCEPT - 2, 0),
    instruction(EQUAL, 0x0800, 0, REJECT - 3),
    instruction(LOAD_OCTET, 23, 0, 0),
    instruction(EQUAL, 17, 0, REJECT - 5),
    instruction(LOAD_HALF, 20, 0, 0),
    instruction(ANY_OF, 0x1fff, REJECT - 7, 0),
    instruction(HEADER_LENGTH, 14, 0, 0),
    instruction(LOAD_HALF_AFTER, 16, 0, 0),
    instruction(EQUAL, frame::CLIENT_PORT as u32, 0, REJECT - 10),
    instruction(RETURN, 0xffff, 0, 0),
    instruction(RETURN, 0, 0, 0),
];

/// UDP over IPv6 to a client's port, router advertisements, and questions and answers about neighbours' addresses.
const FILTER6: [Instruction; 12] = [
    instruction(LOAD_HALF, 12, 0, 0),
    instruction(EQUAL, 0x86dd, 0, REJECT - 2),
    instruction(LOAD_OCTET, 20, 0, 0),
    instruction(EQUAL, 58, 3, 0),
    instruction(EQUAL, 17, 0, REJECT - 5),
    instruction(LOAD_HALF, 56, 0, 0),
    instruction(EQUAL, frame6::CLIENT_PORT as u32, ACCEPT - 7, REJECT - 7),
    instruction(LOAD_OCTET, 54, 0, 0),
    instruction(AT_LEAST, 134, 0, REJECT - 9),
    instruction(MORE, 136, REJECT - 10, 0),
    instruction(RETURN, 0xffff, 0, 0),
    instruction(RETURN, 0, 0, 0),
];

const ACCEPT: u8 = 10;
const REJECT: u8 = 11;

// BPF_LD | BPF_H | BPF_ABS and so on, as in include/uapi/linux/bpf_common.h.
const LOAD_HALF: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
const LOAD_HALF_AFTER: u16 = 0x48;
const HEADER_LENGTH: u16 = 0xb1;
const EQUAL: u16 = 0x15;
const ANY_OF: u16 = 0x45;
const AT_LEAST: u16 = 0x35;
const MORE: u16 = 0x25;
const RETURN: u16 = 0x06;

const fn instruction(code: u16, operand: u32, then: u8, otherwise: u8) -> Instruction {
    Instruction { code, then, otherwise, operand }
}
