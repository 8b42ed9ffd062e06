//! Connections that containers begin.
//!
//! ```text
//!   TUN ──SYN──> Syns::offer ─New─> Book::way ──> connect() outside, not waited for
//!                                                  │ refused ──> RST    unreachable ──> ICMP    silent ──> silence
//!                                                  └ connected ──> the SYN, back into the TUN
//!   transparent listener ──accept──> local address = where the container wants to go: the pair is complete
//! ```
//!
//! What else comes by the TUN is a segment of a connection that is gone, which is answered with a reset, or nothing
//! of TCP's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use linux::Tun;
use relay_core::packet::{self, Packet, Problem, Transport};
use relay_core::syns::{self, Ends, Offer, Syns};
use relay_core::target::{HostsOwn, Nowhere, Protocol, Way};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, getsockname, ipproto, socket_with, sockopt,
};

use crate::book::Book;
use crate::tcp::Share;
use crate::tcp::pump::{Pair, reset_on_close};
use crate::tcp::slots::Id;
use crate::tcp::wires::{BYTES, Bell, Happened, Joined, Wire, Wires, connect_now, prepare};
use crate::udp::Datagrams;

/// SYNs that may be held. The patience is longer than Linux's own with its SYNs, 127 s.
const SYNS: syns::Bounds = syns::Bounds {
    all: 4096,
    sender: 1024,
    shed_per_second: 1000,
    patience: Duration::from_secs(130),
    handshake: Duration::from_secs(5),
};

/// A name server that has not accepted for so long, when it is asked again, is passed over.
const SILENT: Duration = Duration::from_secs(2);

/// Packets and connections taken in a row.
const ROW: usize = 64;

/// The longest packet.
const PACKET_MAX: usize = 65_536;

const BELL: u32 = 0;
const TUN: u32 = 1;
const LISTENER: u32 = 2;

/// The tag of connections that containers begin; those of published ports have the number of their listener, from 1.
const OURS: u32 = 0;

/// The inner side of a pair, the first, is the container's.
const OUTER: usize = 1;

/// The thread, seen from others.
#[derive(Debug)]
pub struct Outbound {
    commands: Sender<Command>,
    bell: Bell,
}

#[derive(Debug)]
enum Command {
    Forget { addresses: Vec<IpAddr>, done: SyncSender<()> },
}

impl Outbound {
    /// Starts the thread in the caller's network namespace, which is the host's. `listeners` are the relay's
    /// namespace's transparent ones, one for each family. What is none of TCP's goes to `datagrams`, once they are
    /// there.
    pub fn start(
        tun: Arc<Tun>,
        listeners: [OwnedFd; 2],
        book: Book,
        share: Share,
        datagrams: Arc<OnceLock<Datagrams>>,
    ) -> io::Result<Self> {
        let bell = Bell::new()?;
        let (commands, received) = mpsc::channel();
        let wires = Wires::sharing(&share)?;
        wires.watch(&bell, BELL)?;
        wires.watch(&*tun, TUN)?;
        for (listener, number) in listeners.iter().zip(LISTENER..) {
            wires.watch(listener, number)?;
        }
        let syns = Syns::new(syns::Bounds { all: SYNS.all.min(share.bounds.held()), ..SYNS });
        let held = Held { tun, book, share, syns, released: [false; 2] };
        let mut serving = Loop { wires, held, listeners, datagrams, commands: received, bell: bell.clone() };
        super::spawn("outbound", move || serving.run())?;
        Ok(Self { commands, bell })
    }

    /// Ends all connections that containers with these addresses have begun.
    pub fn forget(&self, addresses: Vec<IpAddr>) -> io::Result<()> {
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "the thread of outbound connections has ended");
        let (done, wait) = mpsc::sync_channel(1);
        self.commands.send(Command::Forget { addresses, done }).map_err(|_| ended())?;
        self.bell.ring();
        wait.recv().map_err(|_| ended())
    }
}

struct Loop {
    wires: Wires<Connecting>,
    held: Held,
    listeners: [OwnedFd; 2],
    datagrams: Arc<OnceLock<Datagrams>>,
    commands: Receiver<Command>,
    bell: Bell,
}

/// What happens before there is a connection.
struct Held {
    tun: Arc<Tun>,
    book: Book,
    share: Share,
    syns: Syns<Id>,
    /// Has one been written back, of IPv4 and of IPv6?
    released: [bool; 2],
}

/// A socket to the outside, for a SYN that is held.
pub(super) struct Connecting {
    socket: OwnedFd,
    ends: Ends,
    /// Where it connects to.
    to: SocketAddr,
    is_connected: bool,
    /// Is it told of already?
    is_watched: bool,
    /// What was told meanwhile, and is not told again.
    told: EventFlags,
}

/// Why a SYN goes nowhere.
enum Refusal {
    Reset,
    Problem(Problem),
    Silence,
}

impl Loop {
    fn run(&mut self) -> io::Result<()> {
        let mut room = vec![0; PACKET_MAX];
        loop {
            let now = Instant::now();
            while let Some(id) = self.held.syns.take_overdue(now) {
                give_up(&mut self.wires, id);
            }
            let timeout = self.held.syns.deadline().map(|due| due.saturating_duration_since(now));
            let Self { wires, held, listeners, datagrams, commands, bell } = self;
            wires.wait(timeout, |wires, happened| match happened {
                Happened::Own(BELL) => {
                    bell.hush();
                    commands.try_iter().for_each(|command| held.obey(wires, command));
                }
                Happened::Own(TUN) => {
                    held.packets(wires, listeners, &mut room, datagrams.get());
                    held.accept_released(wires, listeners);
                }
                Happened::Own(number) => {
                    let listener = listeners.get((number - LISTENER) as usize);
                    listener.into_iter().for_each(|listener| held.accept(wires, listener));
                }
                Happened::Connecting(id, flags) => {
                    held.connecting(wires, id, flags);
                    held.accept_released(wires, listeners);
                }
            })?;
        }
    }
}

impl Held {
    fn obey(&mut self, wires: &mut Wires<Connecting>, command: Command) {
        let Command::Forget { addresses, done } = command;
        let ended = addresses.clone();
        wires.reset_everywhere(move |container, tag| tag == OURS && ended.contains(&container));
        let theirs = |wire: &Wire<Connecting>| matches!(wire, Wire::Connecting(connecting) if addresses.contains(&connecting.ends.0.ip()));
        for id in wires.slots.pick(theirs) {
            if let Some(Wire::Connecting(connecting)) = wires.slots.look(id) {
                self.syns.take(&connecting.ends);
            }
            give_up(wires, id);
        }
        // Whoever asked may not wait any more.
        let _ = done.send(());
    }

    fn packets(
        &mut self,
        wires: &mut Wires<Connecting>,
        listeners: &[OwnedFd; 2],
        room: &mut [u8],
        datagrams: Option<&Datagrams>,
    ) {
        let now = Instant::now();
        for _ in 0..ROW {
            // Where few may be held, those that have their answer would give way to the next ones.
            if 4 * self.syns.len() >= self.share.bounds.held() {
                self.accept_released(wires, listeners);
            }
            let Ok(length) = self.tun.read(room) else { return };
            let octets = &room[..length];
            let Ok(packet) = Packet::parse(octets) else { continue };
            match packet.transport {
                Transport::Tcp(segment) if segment.opens() => self.syn(wires, &packet, segment.sequence, now),
                Transport::Tcp(_) => self.write(packet::reset(&packet)),
                _ => datagrams.into_iter().for_each(|datagrams| datagrams.packet(octets)),
            }
        }
    }

    fn syn(&mut self, wires: &mut Wires<Connecting>, packet: &Packet<'_>, sequence: u32, now: Instant) {
        let Some(ends) = packet.ends() else { return };
        let (mut offer, former) = self.syns.offer(ends, sequence, now);
        former.into_iter().for_each(|id| give_up(wires, id));
        if offer == Offer::Waits && self.is_left_by_its_server(wires, ends, now) {
            offer = Offer::New;
        }
        match offer {
            Offer::Again => return self.write(Some(packet.octets())),
            Offer::Waits | Offer::Shed => return,
            Offer::New => {}
        }
        if !self.share.has_room(ends.0.ip()) {
            return;
        }
        let (socket, to, is_connected) = match self.begin(ends) {
            Ok(begun) => begun,
            Err(refusal) => return self.refuse(packet, refusal),
        };
        let connecting =
            Connecting { socket, ends, to, is_connected, is_watched: !is_connected, told: EventFlags::empty() };
        let id = wires.slots.put(Wire::Connecting(connecting));
        let evicted = self.syns.hold(ends, sequence, packet.octets(), id, now);
        evicted.into_iter().for_each(|id| give_up(wires, id));
        if is_connected {
            return self.release(ends, now);
        }
        let Some(Wire::Connecting(Connecting { socket, .. })) = wires.slots.look(id) else { return };
        if wires.add(socket, id, OUTER, BYTES | EventFlags::OUT).is_err() {
            self.syns.take(&ends);
            wires.slots.take(id);
        }
    }

    /// Is a name server silent, of which this is asked again? Then another one is to be asked.
    fn is_left_by_its_server(&mut self, wires: &mut Wires<Connecting>, ends: Ends, now: Instant) -> bool {
        let is_silent = self.syns.since(&ends).is_some_and(|since| now >= since + SILENT);
        if !is_silent || !self.book.means_dns(ends.0.ip(), ends.1) {
            return false;
        }
        if let Some(Wire::Connecting(connecting)) = self.syns.take(&ends).and_then(|id| wires.slots.take(id)) {
            self.book.pass_over(connecting.to);
        }
        true
    }

    /// A socket to where the container wants to go, where that is, and whether it is there already.
    fn begin(&self, ends: Ends) -> Result<(OwnedFd, SocketAddr, bool), Refusal> {
        let way = self.book.way(ends.0.ip(), ends.1, Protocol::Tcp).map_err(|nowhere| match nowhere {
            Nowhere::Told(Problem::PortUnreachable) => Refusal::Reset,
            Nowhere::Told(problem) => Refusal::Problem(problem),
            Nowhere::Silent => Refusal::Silence,
        })?;
        let begun = connected(&way);
        if begun.is_err() {
            self.failed(ends, way.to);
        }
        begun.map(|(socket, is_connected)| (socket, way.to, is_connected)).map_err(refusal)
    }

    /// A server that does not accept: if it is one of names, another one is asked first from now on.
    fn failed(&self, ends: Ends, to: SocketAddr) {
        if self.book.means_dns(ends.0.ip(), ends.1) {
            self.book.pass_over(to);
        }
    }

    /// Something happened to a socket that is being connected, or is and waits for the container.
    fn connecting(&mut self, wires: &mut Wires<Connecting>, id: Id, flags: EventFlags) {
        let Some(Wire::Connecting(connecting)) = wires.slots.get(id) else { return };
        let ends = connecting.ends;
        connecting.told |= flags;
        if connecting.is_connected {
            return;
        }
        let problem = match sockopt::socket_error(&connecting.socket) {
            Ok(Ok(())) if flags.contains(EventFlags::OUT) => {
                connecting.is_connected = true;
                return self.release(ends, Instant::now());
            }
            Ok(Ok(())) => return,
            Ok(Err(error)) | Err(error) => refusal(error.into()),
        };
        let syn = self.syns.get(&ends).map(|(_, octets)| Box::<[u8]>::from(octets));
        self.syns.take(&ends);
        if let Some(Wire::Connecting(Connecting { to, .. })) = wires.slots.take(id) {
            self.failed(ends, to);
        }
        if let Some(packet) = syn.as_deref().and_then(|octets| Packet::parse(octets).ok()) {
            self.refuse(&packet, problem);
        }
    }

    fn release(&mut self, ends: Ends, now: Instant) {
        if let Some(octets) = self.syns.release(&ends, now) {
            // Full queues of the kernel: the sender asks again.
            let _ = self.tun.write(octets);
            self.released[usize::from(ends.0.is_ipv6())] = true;
        }
    }

    /// The container's kernel has mostly answered before the write is over.
    fn accept_released(&mut self, wires: &mut Wires<Connecting>, listeners: &[OwnedFd; 2]) {
        for (released, listener) in std::mem::take(&mut self.released).into_iter().zip(listeners) {
            if released {
                self.accept(wires, listener);
            }
        }
    }

    fn refuse(&self, packet: &Packet<'_>, refusal: Refusal) {
        match refusal {
            Refusal::Reset => self.write(packet::reset(packet)),
            Refusal::Problem(problem) => self.write(packet::problem(packet, problem, packet.destination)),
            Refusal::Silence => {}
        }
    }

    fn write(&self, packet: Option<impl AsRef<[u8]>>) {
        if let Some(packet) = packet {
            // As lost as it would be on a busy network.
            let _ = self.tun.write(packet.as_ref());
        }
    }

    fn accept(&mut self, wires: &mut Wires<Connecting>, listener: &OwnedFd) {
        for _ in 0..ROW {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let (inner, from) = match acceptfrom_with(listener, flags) {
                Ok((inner, Some(from))) => (inner, from),
                Ok(_) | Err(Errno::CONNABORTED | Errno::INTR) => continue,
                // Of descriptors there are enough: they were counted before the handshake.
                Err(_) => return,
            };
            let ends =
                || Some((SocketAddr::try_from(from).ok()?, SocketAddr::try_from(getsockname(&inner).ok()?).ok()?));
            let found = ends().and_then(|ends| self.syns.take(&ends));
            match found {
                Some(id) => join(wires, id, inner),
                // Asked for by nobody whose SYN was held.
                None => reset_on_close(&inner),
            }
        }
    }
}

/// Both sides are there.
fn join(wires: &mut Wires<Connecting>, id: Id, inner: OwnedFd) {
    let (mut watched, mut before) = (true, EventFlags::empty());
    wires.join(id, |Connecting { socket, ends, is_watched, told, .. }| {
        (watched, before) = (is_watched, told);
        Joined { pair: Pair::new([inner, socket]), container: ends.0.ip(), tag: OURS, armed: [false, is_watched] }
    });
    wires.register(id, [true, !watched], BYTES);
    if watched {
        // What came before is not told again.
        wires.begin(id, OUTER, before);
    }
}

/// The container, or the outside, is not waited for any more.
fn give_up(wires: &mut Wires<Connecting>, id: Id) {
    if let Some(Wire::Connecting(connecting)) = wires.slots.take(id) {
        reset_on_close(&connecting.socket);
    }
}

/// A socket on this way, and whether it is connected already.
fn connected(way: &Way) -> io::Result<(OwnedFd, bool)> {
    let socket = to_outside(way)?;
    let is_connected = connect_now(&socket, &way.to)?;
    Ok((socket, is_connected))
}

fn to_outside(way: &Way) -> io::Result<OwnedFd> {
    let family = if way.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    prepare(&socket)?;
    if way.hosts_own == HostsOwn::Prohibited && linux::transparent::is_ours(&socket, way.to.ip()) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if let Some(link) = &way.link {
        linux::ports::by_link(&socket, link)?;
    }
    if let Some(from) = way.from {
        linux::transparent::set_late_port(&socket)?;
        bind(&socket, &SocketAddr::new(from, 0))?;
    }
    Ok(socket)
}

fn refusal(error: io::Error) -> Refusal {
    match Problem::of_error(error.kind()) {
        Some(Problem::PortUnreachable) => Refusal::Reset,
        Some(problem) => Refusal::Problem(problem),
        None => Refusal::Silence,
    }
}
