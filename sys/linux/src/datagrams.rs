//! Many datagrams by one system call: recvmmsg(2) and sendmmsg(2), which rustix does not have.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// At most so many in one call.
pub const BATCH: usize = 64;

/// Room for datagrams that arrive together.
#[derive(Debug, Default)]
pub struct Inbox {
    /// One slot of `size` for each.
    octets: Box<[u8]>,
    size: usize,
    arrived: Vec<(SocketAddr, usize)>,
}

impl Inbox {
    /// Longer datagrams than `size` are cut there.
    pub fn new(size: usize) -> Self {
        Self { octets: vec![0; size * BATCH].into(), size, arrived: Vec::with_capacity(BATCH) }
    }

    /// Takes what has arrived on a UDP socket, in the place of what was taken before; `WouldBlock` when there is
    /// nothing and the socket is non-blocking.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.arrived.clear();
        let mut names = [Name::NONE; BATCH];
        let mut pieces = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
        let mut headers = [HEADER; BATCH];
        let slots = self.octets.chunks_exact_mut(self.size.max(1));
        let mut count = 0;
        for (((slot, name), piece), header) in slots.zip(&mut names).zip(&mut pieces).zip(&mut headers) {
            *piece = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<Name>() as libc::socklen_t;
            count += 1;
        }
        // SAFETY: recvmmsg(2) writes through `count` headers, each of which points to one piece, that points to one
        // slot with its length, and to one name with its size; all of them are exclusively ours and outlive the call.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (name, header) in names.iter().zip(&headers).take(received) {
            // A datagram without an address cannot be answered; it keeps its place in the slots.
            let from = name.read().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
            self.arrived.push((from, header.msg_len as usize));
        }
        Ok(())
    }

    /// Each with its sender, in the order they came.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = (SocketAddr, &[u8])> {
        let slots = self.octets.chunks_exact(self.size.max(1));
        self.arrived.iter().zip(slots).map(|(&(from, length), slot)| (from, &slot[..length.min(slot.len())]))
    }
}

/// Sends the first [`BATCH`] of `datagrams` on a UDP socket; how many went. An error is that of the first one, and
/// then none went.
pub fn send(socket: BorrowedFd<'_>, datagrams: &[(SocketAddr, Vec<u8>)]) -> io::Result<usize> {
    let mut names = [Name::NONE; BATCH];
    let mut pieces = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
    let mut headers = [HEADER; BATCH];
    let mut count = 0;
    for (((&(to, ref message), name), piece), header) in
        datagrams.iter().zip(&mut names).zip(&mut pieces).zip(&mut headers)
    {
        let length = name.write(to);
        // Only read by the kernel, in spite of the type.
        *piece = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        header.msg_hdr.msg_iov = piece;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut *name).cast();
        header.msg_hdr.msg_namelen = length;
        count += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: sendmmsg(2) reads through `count` headers, each of which points to one piece, that points to a message
    // with its length, and to one name with its length; all outlive the call. It writes only `msg_len` of headers.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

// SAFETY: mmsghdr is integers and pointers, for all of which zero is a value (no name, no pieces, no control data).
const HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

/// A socket's address as the kernel reads and writes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    // SAFETY: all variants are integers, for which zero is a value; family 0 is AF_UNSPEC.
    pub(crate) const NONE: Self = unsafe { std::mem::zeroed() };

    pub(crate) fn read(&self) -> Option<SocketAddr> {
        // SAFETY: every variant begins with the family (POSIX), and all octets are initialised.
        match i32::from(unsafe { self.family }) {
            libc::AF_INET => {
                // SAFETY: integers alone, all initialised; the kernel wrote this variant.
                let name = unsafe { self.v4 };
                let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let name = unsafe { self.v6 };
                let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// The one that the kernel wrote as data of a control message; `None` when it isn't all there.
    pub(crate) fn from_octets(octets: &[u8]) -> Option<Self> {
        let mut name = Self::NONE;
        let family = libc::sa_family_t::from_ne_bytes(*octets.first_chunk()?);
        let length = match i32::from(family) {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
            _ => return None,
        };
        let octets = octets.get(..length)?;
        // SAFETY: both are at least `length` octets long, and the union may have any octets.
        unsafe { ptr::copy_nonoverlapping(octets.as_ptr(), (&raw mut name).cast(), length) };
        Some(name)
    }

    /// The length of what was written.
    pub(crate) fn write(&mut self, to: SocketAddr) -> libc::socklen_t {
        match to {
            SocketAddr::V4(to) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: to.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(to) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: to.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                    sin6_scope_id: to.scope_id(),
                };
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn check_there_and_back(address: &str) {
        let (server, client) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        let to = server.local_addr().unwrap();
        let sent: Vec<(SocketAddr, Vec<u8>)> = (0..BATCH + 10).map(|n| (to, vec![n as u8; n])).collect();
        assert_eq!(send(client.as_fd(), &sent).unwrap(), BATCH);
        assert_eq!(send(client.as_fd(), &sent[BATCH..]).unwrap(), 10);
        let mut inbox = Inbox::new(60);
        let mut got = Vec::new();
        while inbox.receive(server.as_fd()).is_ok() {
            got.extend(inbox.datagrams().map(|(from, message)| (from, message.to_vec())));
        }
        let from = client.local_addr().unwrap();
        let expected: Vec<_> =
            sent.iter().map(|(_, message)| (from, message[..message.len().min(60)].to_vec())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn datagrams_arrive_whole_or_cut_in_order_with_their_sender() {
        check_there_and_back("127.0.0.1:0");
        check_there_and_back("[::1]:0");
    }

    #[test]
    fn an_empty_socket_would_block() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut inbox = Inbox::new(512);
        assert_eq!(inbox.receive(socket.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(inbox.datagrams().len(), 0);
    }

    #[test]
    fn an_address_that_cannot_be_reached_is_the_error_of_the_first() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = |text: &str| (text.parse().unwrap(), b"x".to_vec());
        let datagrams = [to("127.0.0.1:9"), to("[::1]:9"), to("127.0.0.1:9")];
        assert_eq!(send(socket.as_fd(), &datagrams).unwrap(), 1);
        assert!(send(socket.as_fd(), &datagrams[1..]).is_err());
        assert_eq!(send(socket.as_fd(), &datagrams[2..]).unwrap(), 1);
    }
}
