//! Socket options that rustix does not have: addresses of others, and how much waits to be sent.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

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

/// Is an address one of this host's, loopback and routed ones included? So that a doubt is a yes, an error other
/// than "not mine" is one too.
pub fn is_ours(ip: IpAddr) -> bool {
    !matches!(std::net::UdpSocket::bind((ip, 0)), Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable)
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

    #[test]
    fn loopback_is_ours_and_a_documentation_address_is_not() {
        assert!(is_ours("127.0.0.1".parse().unwrap()) && is_ours("127.200.0.1".parse().unwrap()));
        assert!(!is_ours("192.0.2.77".parse().unwrap()) && !is_ours("2001:db8::77".parse().unwrap()));
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
