//! Holding host ports by bound sockets, so that a second publisher, ours or not, is told.
//!
//! ```text
//!   8080/tcp on every address ──> one socket on [::]:8080 for both families, bound, never listening:
//!                                 others' bind() gets EADDRINUSE, a stray SYN gets RST
//! ```
//!
//! The traffic itself goes by DNAT before it would reach these sockets. What DNAT cannot serve is `[::1]`:
//! [`hold_relayed`] also makes a socket there that a relay can accept or receive by.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use model::{HostAddress, LinkName, Protocol};
use rustix::io::Errno;
use rustix::net::sockopt::{ipv6_v6only, set_ipv6_v6only, set_socket_reuseaddr, socket_protocol};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with};

use crate::fds;

/// Holds one port. Empty when there is nothing to hold it by: SCTP on a kernel without SCTP sockets,
/// where DNAT works all the same.
///
/// Errors: `AddrInUse`; `AddrNotAvailable` when the address is none of this host's. Connections that an
/// earlier server left in TIME_WAIT do not count as use.
pub fn hold(host: HostAddress, port: u16, protocol: Protocol) -> io::Result<Vec<OwnedFd>> {
    match bound_on(host, port, protocol) {
        Ok(socket) => Ok(vec![socket]),
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

/// As [`hold`], with a socket on `[::1]` for a relay where the host address includes that: for TCP it listens, so
/// that whoever connects waits for the relay, for UDP it receives. On a host without `::1`, as [`hold`] for those that
/// include other addresses. SCTP is not relayed.
pub fn hold_relayed(host: HostAddress, port: u16, protocol: Protocol) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = hold(host, port, protocol)?;
    if protocol == Protocol::Sctp || !includes_loopback6(host) {
        return Ok(sockets);
    }
    // Connections in TIME_WAIT do not count as use when it listens either.
    sockets.iter().try_for_each(|socket| set_socket_reuseaddr(socket, true))?;
    let relayed = match host.exact() {
        Some(_) => sockets.iter().try_for_each(|socket| serve(socket, protocol)),
        None => beside(port, protocol).map(|socket| sockets.push(socket)),
    };
    // From here on nobody binds beside them.
    sockets.iter().try_for_each(|socket| set_socket_reuseaddr(socket, false))?;
    match relayed {
        Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) | Ok(()) => Ok(sockets),
        Err(e) => Err(e.into()),
    }
}

/// Is `::1` among the host addresses?
pub fn includes_loopback6(host: HostAddress) -> bool {
    host.includes(false) && host.exact().is_none_or(|ip| ip.is_loopback())
}

/// A socket on `[::1]` beside one of the same port on every address, which lets it as long as both say so and
/// neither listens (inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c; udp_lib_lport_inuse in net/ipv4/udp.c).
fn beside(port: u16, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let socket = unbound(AddressFamily::INET6, protocol)?;
    set_ipv6_v6only(&socket, true)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port))?;
    serve(&socket, protocol)?;
    Ok(socket)
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

fn serve(socket: &OwnedFd, protocol: Protocol) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(socket, true)?;
    if protocol == Protocol::Tcp { listen(socket, BACKLOG) } else { Ok(()) }
}

/// Listens on a socket that has held its TCP port so far: nobody else binds beside it then either, and connections in
/// TIME_WAIT do not count as use.
pub fn listen_held(socket: impl AsFd, backlog: i32) -> io::Result<()> {
    set_socket_reuseaddr(&socket, true)?;
    let listening = listen(&socket, backlog);
    set_socket_reuseaddr(&socket, false)?;
    Ok(listening?)
}

/// Lets the port of an accepted connection be bound again while the connection is still being closed. Not said of
/// the listener, where it would let others bind beside it.
pub fn let_later_sockets_bind(accepted: impl AsFd) -> io::Result<()> {
    Ok(set_socket_reuseaddr(accepted, true)?)
}

/// Has what a socket sends leave by this link, and takes nothing that came in by another (SO_BINDTODEVICE): also
/// where the link is in a routing domain of its own (VRF).
pub fn by_link(socket: impl AsFd, link: &LinkName) -> io::Result<()> {
    let name = link.as_str().as_bytes();
    let length = name.len() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: setsockopt(2) reads `length` bytes from `name`, which lives until it returns; `fd` is open. The name
    // need not end with NUL (sock_setbindtodevice in net/core/sock.c).
    let rc = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_ptr().cast(), length) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a socket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// On which of the host's addresses.
    pub host: HostAddress,
    /// Its port.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

impl Claim {
    /// That of a socket bound here or by whoever gave it to us; `None` for anything else than such a socket.
    pub fn of(socket: &OwnedFd) -> Option<Self> {
        let address = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
        let protocol = match socket_protocol(socket).ok()?? {
            ipproto::TCP => Protocol::Tcp,
            ipproto::UDP => Protocol::Udp,
            ipproto::SCTP => Protocol::Sctp,
            _ => return None,
        };
        let ip = address.ip();
        let both = ip.is_ipv6() && ip.is_unspecified() && !ipv6_v6only(socket).ok()?;
        let host = if both { HostAddress::Any } else { HostAddress::Ip(ip) };
        Some(Self { host, port: address.port(), protocol })
    }
}

/// What [`hold_range`] holds.
#[derive(Debug)]
pub struct Held {
    /// The sockets; the ports are free again when all processes that have them have closed them.
    pub sockets: Vec<OwnedFd>,
    /// How many ports of the range they hold, from the first on. Fewer than asked for only when the limit
    /// on descriptors does not allow more.
    pub ports: u16,
}

/// Holds `range` ports from `first` on, as many as descriptors are left less [`SPARE`]; the others are only
/// seen to be free. On an error none is held.
pub fn hold_range(host: HostAddress, first: u16, range: u16, protocol: Protocol) -> io::Result<Held> {
    hold_range_or_busy(host, first, range, protocol).map_err(|(_, e)| e)
}

/// As [`hold_range`], each port by [`hold_relayed`].
pub fn hold_relayed_range(host: HostAddress, first: u16, range: u16, protocol: Protocol) -> io::Result<Held> {
    hold_each(hold_relayed, host, first, range, protocol).map_err(|(_, e)| e)
}

/// Descriptors kept free for everything else a process does.
pub const SPARE: u64 = 1000;

/// Ranges up to this need no look at the limit, which is never below 1024 in practice.
const SMALL: u16 = 64;

/// As [`hold_range`]; an error names the port it is about.
fn hold_range_or_busy(host: HostAddress, first: u16, range: u16, protocol: Protocol) -> Result<Held, (u16, io::Error)> {
    hold_each(hold, host, first, range, protocol)
}

fn hold_each(
    hold: impl Fn(HostAddress, u16, Protocol) -> io::Result<Vec<OwnedFd>>,
    host: HostAddress,
    first: u16,
    range: u16,
    protocol: Protocol,
) -> Result<Held, (u16, io::Error)> {
    let room = if range <= SMALL { u64::MAX } else { room().map_err(|e| (first, e))? };
    let mut held = Held { sockets: Vec::new(), ports: 0 };
    for port in (first..=u16::MAX).take(range.into()) {
        let sockets = hold(host, port, protocol).map_err(|e| (port, e))?;
        // Those that are too many are at least known to have been free.
        if (held.sockets.len() as u64) < room {
            held.sockets.extend(sockets);
            held.ports += 1;
        }
    }
    Ok(held)
}

/// How many descriptors may go into holding ports.
fn room() -> io::Result<u64> {
    Ok(fds::raise_limit()?.saturating_sub(fds::count()? + SPARE))
}

/// Chooses and holds `range` consecutive free ports: the first one, and the hold. `AddrInUse` when there
/// are no such ports.
pub fn free_ports(host: HostAddress, range: u16, protocol: Protocol) -> io::Result<(u16, Held)> {
    if range <= 1
        && let Some(found) = free_port(host, protocol)?
    {
        return Ok(found);
    }
    // From a random place on, once around: two commands at a time look at different ports.
    let last_start = u16::MAX.checked_sub(range.max(1) - 1).filter(|last| *last >= LOWEST).ok_or_else(none_free)?;
    let starts = u32::from(last_start - LOWEST) + 1;
    let begin = u32::from_ne_bytes(crate::machine::random()?) % starts;
    let mut step = 0;
    while step < starts {
        // Fits: below last_start.
        let first = LOWEST + ((begin + step) % starts) as u16;
        match hold_range_or_busy(host, first, range.max(1), protocol) {
            Ok(held) => return Ok((first, held)),
            // No range that includes the busy port will do.
            Err((port, e)) if e.kind() == io::ErrorKind::AddrInUse => step += u32::from(port - first) + 1,
            Err((_, e)) => return Err(e),
        }
    }
    Err(none_free())
}

/// The lowest port chosen: below are ports that have names.
const LOWEST: u16 = 10_000;

fn none_free() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "no free host ports")
}

/// One port, chosen by the kernel; `None` when it has no such sockets to choose with.
fn free_port(host: HostAddress, protocol: Protocol) -> io::Result<Option<(u16, Held)>> {
    match bound_on(host, 0, protocol) {
        Ok(socket) => {
            let port = SocketAddr::try_from(getsockname(&socket)?)?.port();
            Ok(Some((port, Held { sockets: vec![socket], ports: 1 })))
        }
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A socket bound to the host address; on a kernel without IPv6, `Any` is IPv4's.
fn bound_on(host: HostAddress, port: u16, protocol: Protocol) -> Result<OwnedFd, Errno> {
    match host {
        HostAddress::Ip(ip) => bound(SocketAddr::new(ip, port), Families::One, protocol),
        HostAddress::Any => match bound((Ipv6Addr::UNSPECIFIED, port).into(), Families::Both, protocol) {
            Err(Errno::AFNOSUPPORT) => bound((Ipv4Addr::UNSPECIFIED, port).into(), Families::One, protocol),
            done => done,
        },
    }
}

/// What a socket on an IPv6 address keeps others from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    One,
    /// `[::]` is also `0.0.0.0`: one descriptor in the place of two.
    Both,
}

fn bound(address: SocketAddr, families: Families, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = unbound(family, protocol)?;
    if address.is_ipv6() {
        // Said either way: the default is the host's to set (net.ipv6.bindv6only).
        set_ipv6_v6only(&socket, families == Families::One)?;
    }
    match bind(&socket, &address) {
        // Maybe only connections in TIME_WAIT. Allowed for this bind alone: with it left on, another socket
        // that has it could bind beside ours (inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c).
        // Never for UDP, where two such sockets share a port.
        Err(Errno::ADDRINUSE) if protocol != Protocol::Udp => {
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &address)?;
            set_socket_reuseaddr(&socket, false)?;
        }
        done => done?,
    }
    Ok(socket)
}

fn unbound(family: AddressFamily, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alone, loopback_up, needs_root};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn check_taken(protocol: Protocol) {
        let held = hold(HostAddress::Any, 8080, protocol).unwrap();
        for ip in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
            let exact = HostAddress::Ip(ip.parse().unwrap());
            assert_eq!(hold(exact, 8080, protocol).unwrap_err().kind(), io::ErrorKind::AddrInUse, "{ip}");
        }
        drop(held);
        for one in ["0.0.0.0", "::", "127.0.0.1", "::1"] {
            let held = hold(HostAddress::Ip(one.parse().unwrap()), 8080, protocol).unwrap();
            let e = hold(HostAddress::Any, 8080, protocol).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::AddrInUse, "any beside {one}");
            drop(held);
        }
        // Families are apart when asked for apart.
        let _four = hold(HostAddress::Ip("0.0.0.0".parse().unwrap()), 8080, protocol).unwrap();
        assert_eq!(hold(HostAddress::Ip("::".parse().unwrap()), 8080, protocol).unwrap().len(), 1);
    }

    #[test]
    fn a_port_is_held_where_ipv6_is_switched_off() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
            loopback_up();
            let _held = hold(HostAddress::Any, 8080, Protocol::Tcp).unwrap();
            assert_eq!(TcpListener::bind("127.0.0.1:8080").unwrap_err().kind(), io::ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn a_held_port_is_taken_on_both_families_until_let_go() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            check_taken(Protocol::Tcp);
            check_taken(Protocol::Udp);
        });
    }

    #[test]
    fn a_held_port_can_be_listened_at_though_its_last_connections_are_in_time_wait() {
        needs_root!();
        alone(|| {
            loopback_up();
            let address = || HostAddress::Ip(Ipv4Addr::LOCALHOST.into());
            for _ in 0..2 {
                let socket = hold(address(), 8080, Protocol::Tcp).unwrap().remove(0);
                listen_held(&socket, 8).unwrap();
                let listener = TcpListener::from(socket);
                let client = TcpStream::connect("127.0.0.1:8080").unwrap();
                let (accepted, _) = listener.accept().unwrap();
                let_later_sockets_bind(&accepted).unwrap();
                // Who closes first is in TIME_WAIT.
                drop(accepted);
                drop(client);
                assert!(hold(address(), 8080, Protocol::Tcp).is_err());
            }
        });
    }

    #[test]
    fn a_server_with_reuseaddr_is_refused_beside_a_hold_and_a_hold_beside_it() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            let held = hold(HostAddress::Any, 8080, Protocol::Tcp).unwrap();
            // std's listener sets SO_REUSEADDR, as servers do.
            assert_eq!(TcpListener::bind("127.0.0.1:8080").unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(held);
            let _server = TcpListener::bind("127.0.0.1:8080").unwrap();
            let e = hold(HostAddress::Any, 8080, Protocol::Tcp).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn a_connection_in_time_wait_does_not_keep_a_port() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            let server = TcpListener::bind("127.0.0.1:8080").unwrap();
            let client = TcpStream::connect("127.0.0.1:8080").unwrap();
            let (accepted, _) = server.accept().unwrap();
            drop((accepted, server)); // closes first, so TIME_WAIT is on port 8080
            drop(client);
            let held = hold(HostAddress::Any, 8080, Protocol::Tcp).unwrap();
            assert_eq!(TcpListener::bind("127.0.0.1:8080").unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(held);
        });
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            let e = hold(HostAddress::Ip("203.0.113.9".parse().unwrap()), 8080, Protocol::Tcp).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::AddrNotAvailable);
        });
    }

    #[test]
    fn a_free_range_steps_over_a_port_in_use() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            let any = HostAddress::Any;
            let (one, held) = free_ports(any, 1, Protocol::Udp).unwrap();
            assert_eq!(held.ports, 1);
            assert!(UdpSocket::bind(("127.0.0.1", one)).is_err());
            drop(held);
            let _busy = hold(any, 40_000, Protocol::Tcp).unwrap();
            // So long that every range but those on either side includes the busy port.
            let (first, held) = free_ports(any, 20_000, Protocol::Tcp).unwrap();
            assert!(first > 40_000 || first + 19_999 < 40_000, "{first}");
            assert!(held.ports > 0);
            assert!(free_ports(any, 60_000, Protocol::Tcp).is_err(), "longer than what may be chosen from");
        });
    }

    #[test]
    fn a_long_range_is_held_as_far_as_descriptors_go() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            let held = hold_range(HostAddress::Any, 20_000, 20_000, Protocol::Udp).unwrap();
            let limit = fds::raise_limit().unwrap();
            assert_eq!(held.sockets.len(), usize::from(held.ports));
            assert!(fds::count().unwrap() <= limit - SPARE);
            assert!(held.ports == 20_000 || held.sockets.len() as u64 > limit / 2);
            let busy = HostAddress::Ip("127.0.0.1".parse().unwrap());
            let _server = UdpSocket::bind("127.0.0.1:10050").unwrap();
            assert!(hold_range(busy, 10_000, 100, Protocol::Udp).is_err(), "all or nothing");
            assert!(hold(busy, 10_000, Protocol::Udp).is_ok());
        });
    }

    #[test]
    fn a_relayed_port_is_served_on_loopback_and_taken_for_everybody_else() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            for host in
                [HostAddress::Any, HostAddress::Ip("::".parse().unwrap()), HostAddress::Ip("::1".parse().unwrap())]
            {
                let held = hold_relayed(host, 8080, Protocol::Tcp).unwrap();
                let client = TcpStream::connect("[::1]:8080").unwrap();
                let listener = TcpListener::from(held.last().unwrap().try_clone().unwrap());
                let (accepted, _) = listener.accept().unwrap();
                let_later_sockets_bind(&accepted).unwrap();
                assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap(), "{host}");
                // std's listeners set SO_REUSEADDR.
                assert_eq!(TcpListener::bind("[::1]:8080").unwrap_err().kind(), io::ErrorKind::AddrInUse);
                if host == HostAddress::Any {
                    assert_eq!(TcpListener::bind("127.0.0.1:8080").unwrap_err().kind(), io::ErrorKind::AddrInUse);
                    assert_eq!(TcpListener::bind("0.0.0.0:8080").unwrap_err().kind(), io::ErrorKind::AddrInUse);
                }
                if host.exact().is_none() {
                    assert_eq!(TcpListener::bind("[::]:8080").unwrap_err().kind(), io::ErrorKind::AddrInUse);
                    assert!(TcpStream::connect("127.0.0.1:8080").is_err(), "the hold itself does not listen");
                }
                assert_eq!(hold_relayed(host, 8080, Protocol::Tcp).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            }
        });
    }

    #[test]
    fn a_relayed_udp_port_receives_on_loopback_and_shares_with_nobody() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            let held = hold_relayed(HostAddress::Any, 8080, Protocol::Udp).unwrap();
            assert_eq!(held.len(), 2);
            let client = UdpSocket::bind("[::1]:0").unwrap();
            client.send_to(b"hello", "[::1]:8080").unwrap();
            let relay = UdpSocket::from(held[1].try_clone().unwrap());
            let mut bytes = [0; 16];
            let (length, from) = relay.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..length], from), (&b"hello"[..], client.local_addr().unwrap()));
            for address in ["[::1]:8080", "[::]:8080", "127.0.0.1:8080"] {
                let address: SocketAddr = address.parse().unwrap();
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let other = unbound(family, Protocol::Udp).unwrap();
                set_socket_reuseaddr(other.as_fd(), true).unwrap();
                assert_eq!(bind(&other, &address).unwrap_err(), Errno::ADDRINUSE, "{address}");
            }
            drop(held);
            drop(relay);
            let other = unbound(AddressFamily::INET6, Protocol::Udp).unwrap();
            set_socket_reuseaddr(&other, true).unwrap();
            // A program that would share the port with others that would.
            bind(&other, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080))).unwrap();
            let e = hold_relayed(HostAddress::Any, 8080, Protocol::Udp).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn a_relayed_port_can_be_held_again_after_connections_that_we_closed_first() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            let held = hold_relayed(HostAddress::Any, 8080, Protocol::Tcp).unwrap();
            let client = TcpStream::connect("[::1]:8080").unwrap();
            let listener = TcpListener::from(held[1].try_clone().unwrap());
            let (accepted, _) = listener.accept().unwrap();
            let_later_sockets_bind(&accepted).unwrap();
            drop((accepted, listener, held));
            drop(client);
            hold_relayed(HostAddress::Any, 8080, Protocol::Tcp).unwrap();
        });
    }

    #[test]
    fn a_host_without_loopback_ipv6_is_held_without_a_relay() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
            loopback_up();
            let held = hold_relayed(HostAddress::Any, 8080, Protocol::Tcp).unwrap();
            assert_eq!(held.len(), 1);
            assert_eq!(TcpListener::bind("127.0.0.1:8080").unwrap_err().kind(), io::ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn a_held_socket_says_what_it_holds() {
        let _guard = crate::testing::undisturbed();
        needs_root!();
        alone(|| {
            loopback_up();
            for host in [HostAddress::Any]
                .into_iter()
                .chain(["0.0.0.0", "::", "::1"].map(|ip| HostAddress::Ip(ip.parse().unwrap())))
            {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let held = hold(host, 8080, protocol).unwrap();
                    assert_eq!(Claim::of(&held[0]), Some(Claim { host, port: 8080, protocol }));
                }
            }
            let (file, _) = io::pipe().unwrap();
            assert_eq!(Claim::of(&file.into()), None);
        });
    }
}
