//! Connections to published ports.
//!
//! ```text
//!   client 203.0.113.9:4000 ──> listener outside ──accept──> a socket in the relay's namespace,
//!                                                            bound to 203.0.113.9:4000, connects to the container
//!   the container's answers ──gateway──> table `podwire_relay`, by the socket they belong to ──> that socket
//! ```
//!
//! Who cannot appear as itself appears as the container's gateway: a client on the host's loopback, a link-local one,
//! one of another family than the container's, one whose address is on one of the relay's own networks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use netlink::Protocol;
use netlink::rtnetlink::{MAIN_TABLE, TableRoute, routes};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, ipproto, socket_with, sockopt};

use crate::table::{self, SOCKET_MARK, Taken};
use crate::tcp::Share;
use crate::tcp::pump::{INNER, Pair, reset_on_close};
use crate::tcp::slots::Id;
use crate::tcp::wires::{BYTES, Bell, Happened, Joined, Wire, Wires, connect_now, prepare_inner};

/// Connections taken in a row.
const ROW: usize = 64;
/// SYNs to a container that does not answer: half a minute.
const SYN_COUNT: u8 = 4;
/// How old may be what is known of the relay's own networks?
const FRESH: Duration = Duration::from_secs(1);

const BELL: u32 = 0;
/// Listeners are told by their number after this.
const FIRST: u32 = 1;

/// Where a published port leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// At most one of each family.
    pub targets: Vec<SocketAddr>,
    /// As whom clients appear that cannot appear as themselves, one of each family.
    pub gateways: Vec<IpAddr>,
}

/// The thread, seen from others.
#[derive(Debug)]
pub struct Published {
    commands: Sender<(Command, SyncSender<io::Result<()>>)>,
    bell: Bell,
}

#[derive(Debug)]
enum Command {
    Serve { number: u32, listener: Option<OwnedFd>, door: Door },
    Hide { number: u32 },
    Forget { addresses: Vec<IpAddr> },
    Take { add: Vec<Taken>, remove: Vec<Taken> },
}

impl Published {
    /// Starts the thread in the caller's network namespace, which is the relay's, with a socket to its firewall.
    pub fn start(share: Share, firewall: netlink::Socket) -> io::Result<Self> {
        let bell = Bell::new()?;
        let (commands, received) = mpsc::channel();
        let wires = Wires::sharing(&share)?;
        wires.watch(&bell, BELL)?;
        let route = netlink::Socket::open(Protocol::Route)?;
        let neighbours = Neighbours { route, known: Vec::new(), looked: None };
        let doors = Doors { doors: HashMap::new(), neighbours, firewall, share };
        let mut serving = Loop { wires, doors, commands: received, bell: bell.clone() };
        super::spawn("published", move || serving.run())?;
        Ok(Self { commands, bell })
    }

    /// Accepts at a listening socket of the host, which does not block, from now on. The number must not be in use.
    pub fn serve(&self, number: u32, listener: OwnedFd, door: Door) -> io::Result<()> {
        self.ask(Command::Serve { number, listener: Some(listener), door })
    }

    /// Has a port lead elsewhere; connections that there are stay.
    pub fn redirect(&self, number: u32, door: Door) -> io::Result<()> {
        self.ask(Command::Serve { number, listener: None, door })
    }

    /// Serves a port no more, and ends its connections: when this returns, it is free.
    pub fn hide(&self, number: u32) -> io::Result<()> {
        self.ask(Command::Hide { number })
    }

    /// Ends all connections to containers with these addresses.
    pub fn forget(&self, addresses: Vec<IpAddr>) -> io::Result<()> {
        self.ask(Command::Forget { addresses })
    }

    /// Has the namespace's firewall give the relay what these containers send to these addresses of the namespace
    /// itself, or leave it to the namespace again.
    pub(crate) fn take(&self, add: Vec<Taken>, remove: Vec<Taken>) -> io::Result<()> {
        self.ask(Command::Take { add, remove })
    }

    fn ask(&self, command: Command) -> io::Result<()> {
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "the thread of published ports has ended");
        let (done, wait) = mpsc::sync_channel(1);
        self.commands.send((command, done)).map_err(|_| ended())?;
        self.bell.ring();
        wait.recv().map_err(|_| ended())?
    }
}

struct Loop {
    wires: Wires<Connecting>,
    doors: Doors,
    commands: Receiver<(Command, SyncSender<io::Result<()>>)>,
    bell: Bell,
}

struct Doors {
    doors: HashMap<u32, (OwnedFd, Door)>,
    neighbours: Neighbours,
    firewall: netlink::Socket,
    share: Share,
}

/// A client that waits for the container.
pub(super) struct Connecting {
    client: OwnedFd,
    socket: OwnedFd,
    container: IpAddr,
    number: u32,
}

impl Loop {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let Self { wires, doors, commands, bell } = self;
            wires.wait(None, |wires, happened| match happened {
                Happened::Own(BELL) => {
                    bell.hush();
                    for (command, done) in commands.try_iter() {
                        // Whoever asked may not wait any more.
                        let _ = done.send(doors.obey(wires, command));
                    }
                }
                Happened::Own(number) => doors.accept(wires, number - FIRST),
                Happened::Connecting(id, flags) => connecting(wires, id, flags),
            })?;
        }
    }
}

impl Doors {
    fn obey(&mut self, wires: &mut Wires<Connecting>, command: Command) -> io::Result<()> {
        match command {
            Command::Serve { number, listener: Some(listener), door } => {
                wires.watch(&listener, FIRST + number)?;
                self.doors.insert(number, (listener, door));
            }
            Command::Serve { number, listener: None, door } => {
                self.doors.entry(number).and_modify(|(_, old)| *old = door);
            }
            Command::Hide { number } => {
                if let Some((listener, _)) = self.doors.remove(&number) {
                    wires.unwatch(&listener)?;
                }
                end_those(wires, move |_, of| of == number);
            }
            Command::Forget { addresses } => {
                end_those(wires, move |container, tag| tag > 0 && addresses.contains(&container));
            }
            Command::Take { add, remove } => return table::take(&mut self.firewall, &add, &remove),
        }
        Ok(())
    }

    fn accept(&mut self, wires: &mut Wires<Connecting>, number: u32) {
        for _ in 0..ROW {
            let Some((listener, door)) = self.doors.get(&number) else { return };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let (client, from) = match acceptfrom_with(listener, flags) {
                Ok((client, Some(from))) => (client, from),
                Ok(_) | Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(_) => return,
            };
            let begun = SocketAddr::try_from(from).map_err(io::Error::from).and_then(|from| {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                // Else what is left of it would keep whoever comes after us from the port.
                linux::ports::let_later_sockets_bind(&client)?;
                let (appears, to) = self.neighbours.appearance(from, door)?;
                if !self.share.has_room(to.ip()) || wires.slots.len() >= self.share.bounds.places {
                    return Err(io::ErrorKind::QuotaExceeded.into());
                }
                Ok((speaking_as(appears, to)?, to))
            });
            match begun {
                Ok(((socket, is_connected), to)) => {
                    begin(wires, Connecting { client, socket, container: to.ip(), number }, is_connected);
                }
                Err(error) => {
                    tracing::debug!(%error, "a client is turned away");
                    reset_on_close(&client);
                }
            }
        }
    }
}

fn begin(wires: &mut Wires<Connecting>, of: Connecting, is_connected: bool) {
    let id = wires.slots.put(Wire::Connecting(of));
    if is_connected {
        return join(wires, id, false);
    }
    let Some(Wire::Connecting(Connecting { socket, .. })) = wires.slots.look(id) else { return };
    if wires.add(socket, id, INNER, BYTES | EventFlags::OUT).is_err() {
        turn_away(wires, id);
    }
}

fn connecting(wires: &mut Wires<Connecting>, id: Id, flags: EventFlags) {
    let Some(Wire::Connecting(connecting)) = wires.slots.look(id) else { return };
    match sockopt::socket_error(&connecting.socket) {
        Ok(Ok(())) if flags.contains(EventFlags::OUT) => {
            join(wires, id, true);
            // What came with the connection is not told again.
            wires.begin(id, INNER, flags);
        }
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => turn_away(wires, id),
    }
}

fn join(wires: &mut Wires<Connecting>, id: Id, is_watched: bool) {
    wires.join(id, |Connecting { client, socket, container, number }| Joined {
        pair: Pair::new([socket, client]),
        container,
        tag: number,
        armed: [is_watched, false],
    });
    wires.register(id, [!is_watched, true], BYTES);
}

/// The container does not answer: the client gets what it would get if nobody listened here.
fn turn_away(wires: &mut Wires<Connecting>, id: Id) {
    if let Some(Wire::Connecting(Connecting { client, socket, .. })) = wires.slots.take(id) {
        // The container may have answered meanwhile.
        [client, socket].iter().for_each(reset_on_close);
    }
}

fn end_those(wires: &mut Wires<Connecting>, picks: impl Fn(IpAddr, u32) -> bool + Clone + Send + Sync + 'static) {
    wires.reset_everywhere(picks.clone());
    let theirs = |wire: &Wire<Connecting>| matches!(wire, Wire::Connecting(of) if picks(of.container, of.number));
    for id in wires.slots.pick(theirs) {
        turn_away(wires, id);
    }
}

/// A socket that is bound to `from`, an address of somebody else, and connects to a container; is it connected already?
fn speaking_as(from: SocketAddr, to: SocketAddr) -> io::Result<(OwnedFd, bool)> {
    match connect_as(from, to) {
        // The client has a connection to the same port of the container, by another port of the host, or had.
        Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => Ok(connect_as(SocketAddr::new(from.ip(), 0), to)?),
        done => Ok(done?),
    }
}

fn connect_as(from: SocketAddr, to: SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
    linux::transparent::set_transparent(&socket, to.is_ipv4()).map_err(errno)?;
    linux::transparent::set_mark(&socket, SOCKET_MARK).map_err(errno)?;
    linux::transparent::set_syn_count(&socket, SYN_COUNT).map_err(errno)?;
    linux::transparent::set_late_port(&socket).map_err(errno)?;
    prepare_inner(&socket).map_err(errno)?;
    // One client may have connections to many ports.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &from)?;
    let is_connected = connect_now(&socket, &to)?;
    Ok((socket, is_connected))
}

/// The networks of the relay's namespace: whoever is on one is not looked for behind a gateway.
struct Neighbours {
    route: netlink::Socket,
    known: Vec<(IpAddr, u8)>,
    looked: Option<Instant>,
}

impl Neighbours {
    /// As whom a client appears, and to whom.
    fn appearance(&mut self, client: SocketAddr, door: &Door) -> io::Result<(SocketAddr, SocketAddr)> {
        let same = door.targets.iter().find(|target| target.is_ipv4() == client.is_ipv4());
        let to = *same.or(door.targets.first()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let is_far = same.is_some() && !is_near(client.ip()) && !self.are_with(client.ip());
        if is_far {
            return Ok((client, to));
        }
        let gateway = door.gateways.iter().find(|gateway| gateway.is_ipv4() == to.is_ipv4());
        // Without a gateway the kernel chooses.
        let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) };
        Ok((SocketAddr::new(*gateway.unwrap_or(&any), 0), to))
    }

    fn are_with(&mut self, ip: IpAddr) -> bool {
        if self.looked.is_none_or(|looked| looked.elapsed() > FRESH) {
            self.look();
        }
        self.known.iter().any(|(net, len)| is_within(ip, *net, *len))
    }

    fn look(&mut self) {
        self.looked = Some(Instant::now());
        let all = [true, false].into_iter().filter_map(|ipv4| self.route.dump(routes(ipv4, Some(MAIN_TABLE))).ok());
        let routes: Vec<TableRoute> = all.flatten().filter_map(|reply| TableRoute::read(&reply)).collect();
        self.known =
            routes.into_iter().filter(|route| route.len > 0).map(|route| (route.destination, route.len)).collect();
    }
}

/// Is it the host itself, or only known on a link?
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    }
}

fn is_within(ip: IpAddr, net: IpAddr, len: u8) -> bool {
    let (ip, net, width) = match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => (u128::from(ip.to_bits()), u128::from(net.to_bits()), 32_u32),
        (IpAddr::V6(ip), IpAddr::V6(net)) => (ip.to_bits(), net.to_bits(), 128),
        _ => return false,
    };
    let below = width.saturating_sub(len.into());
    ip.checked_shr(below) == net.checked_shr(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_within_a_network_of_its_family() {
        let within = |ip: &str, net: &str, len| is_within(ip.parse().unwrap(), net.parse().unwrap(), len);
        assert!(within("10.42.3.4", "10.42.0.0", 16) && within("fd00::1", "fd00::", 64) && within("::1", "::1", 128));
        assert!(!within("10.43.0.1", "10.42.0.0", 16) && !within("fd00::1", "0.0.0.0", 0));
        assert!(within("1.2.3.4", "0.0.0.0", 0));
    }
}
