//! Socket options that rustix does not have: addresses of others, and how much waits to be sent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::io::Errno;

/// Lets a socket have addresses that are not this host's (IP_TRANSPARENT, IPV6_TRANSPARENT): to be bound to them, and
/// to be given what is sent to them. Takes CAP_NET_ADMIN or CAP_NET_RAW over the network namespace.
pub fn set_transparent(socket: impl AsFd, ipv4: bool) -> io::Result<()> {
    match ipv4 {
        true => set(socket, libc::SOL_IP, libc::IP_TRANSPARENT, 1),
        false => set(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1),
    }
}

/// Gives packets of a socket this mark (SO_MARK). Takes CAP_NET_ADMIN or CAP_NET_RAW over the network namespace.
pub fn set_mark(socket: impl AsFd, mark: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
}

/// A TCP socket takes no more than about so many octets beyond those that are under way (TCP_NOTSENT_LOWAT).
pub fn set_unsent_limit(socket: impl AsFd, octets: u32) -> io::Result<()> {
    set(socket, libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT, octets.cast_signed())
}

/// After how many unanswered SYNs a TCP socket gives up connecting (TCP_SYNCNT).
pub fn set_syn_count(socket: impl AsFd, count: u8) -> io::Result<()> {
    set(socket, libc::SOL_TCP, libc::TCP_SYNCNT, count.into())
}

/// A socket that is bound to an address without a port chooses it when it connects: the same one serves for
/// different destinations (IP_BIND_ADDRESS_NO_PORT).
pub fn set_late_port(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Is an address one of this host's, loopback and routed ones included? Tried with a socket of its family that is not
/// bound, and is not of use any more when it is. So that a doubt is a yes, an error other than "not mine" is one too.
pub fn is_ours(socket: impl AsFd, ip: IpAddr) -> bool {
    rustix::net::bind(socket, &SocketAddr::new(ip, 0)) != Err(Errno::ADDRNOTAVAIL)
}

/// The shortest time that something took to the other side of a TCP connection and back (TCP_INFO's `tcpi_min_rtt`);
/// `None` before there was any.
pub fn shortest_round_trip(socket: impl AsFd) -> io::Result<Option<Duration>> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: all of it are numbers, for which zero is one.
    let mut info: TcpInfo = unsafe { std::mem::zeroed() };
    let mut length = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` octets into `info`, and its length into `length`; `fd` is open.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length) };
    match done {
        // ~0 says that nothing was measured (tcp_min_rtt in include/net/tcp.h).
        0 => Ok(Some(info.min_rtt).filter(|us| ![0, u32::MAX].contains(us)).map(|us| Duration::from_micros(us.into()))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The part of `struct tcp_info` (include/uapi/linux/tcp.h) up to what is asked for.
#[repr(C)]
struct TcpInfo {
    _states: [u8; 8],
    _counts: [u32; 24],
    _totals: [u64; 4],
    _segments: [u32; 2],
    _notsent: u32,
    min_rtt: u32,
}

fn set(socket: impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads `length` octets from `value`, which lives until it returns; `fd` is open.
    match unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    use rustix::net::{AddressFamily, SocketType};

    #[test]
    fn loopback_is_ours_and_a_documentation_address_is_not() {
        for (ip, expected) in
            [("127.0.0.1", true), ("127.200.0.1", true), ("::1", true), ("192.0.2.77", false), ("2001:db8::77", false)]
        {
            let ip: IpAddr = ip.parse().unwrap();
            let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
            assert_eq!(is_ours(&socket, ip), expected, "{ip}");
        }
    }

    #[test]
    fn a_round_trip_on_loopback_is_short_and_none_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(shortest_round_trip(&listener).unwrap(), None);
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(shortest_round_trip(&stream).unwrap().unwrap() < Duration::from_secs(1));
    }

    #[test]
    fn a_tcp_socket_has_its_limits() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        set_unsent_limit(&socket, 128 << 10).unwrap();
        set_syn_count(&socket, 3).unwrap();
        set_late_port(&socket).unwrap();
        assert!(set_syn_count(std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), 3).is_err());
    }
}
