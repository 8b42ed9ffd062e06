//! Where queries come in: UDP and TCP on every gateway of a network, all on one port number.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use dns::Transport;
use linux::datagrams;
use model::NetworkId;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_ip_freebind, set_ipv6_freebind, set_ipv6_v6only, set_socket_recv_buffer_size,
    set_socket_recv_buffer_size_force, set_socket_reuseaddr, set_socket_send_buffer_size,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

use super::poller::{Poller, Token};

/// Tried when nothing is wished for: below 1,024, where no program of a user's gets in the way, and unassigned.
const PREFERRED: std::ops::RangeInclusive<u16> = 834..=846;

/// Ports of the kernel's choice that are tried when one of the gateways has them taken.
const TRIES: usize = 32;

/// Room for queries that wait while others are answered: some thousands.
const QUEUE: usize = 2 << 20;

/// Of one connection, each way: a slow reader shall not hold more of the kernel's memory than of ours.
const STREAM_BUFFER: usize = 64 << 10;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long a socket is left alone after an error that would come again at once.
const REST: Duration = Duration::from_millis(100);

/// All listening sockets.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    networks: HashMap<NetworkId, Serving>,
    sockets: HashMap<u32, Listener>,
    /// Numbers are never used again: an answer that comes late must not leave by another network's socket.
    next: u32,
    resting: Vec<(Instant, u32)>,
    /// Those with answers to send.
    full: Vec<u32>,
}

/// How one network is served.
#[derive(Debug)]
struct Serving {
    gateways: Vec<IpAddr>,
    port: u16,
    numbers: Vec<u32>,
}

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) network: NetworkId,
    pub(super) transport: Transport,
    fd: OwnedFd,
    answers: Vec<(SocketAddr, Vec<u8>)>,
}

impl Listener {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Listeners {
    /// Listens for a network, or goes on to; the port.
    pub(super) fn open(
        &mut self,
        poller: &Poller,
        network: NetworkId,
        gateways: &[IpAddr],
        wished: Option<u16>,
    ) -> io::Result<u16> {
        let mut gateways = gateways.to_vec();
        gateways.sort_unstable();
        gateways.dedup();
        let before = self.networks.get(&network);
        if let Some(serving) = before.filter(|serving| serving.gateways == gateways) {
            return Ok(serving.port);
        }
        let wished = wished.or(before.map(|serving| serving.port));
        self.close(&network);
        let (port, sockets) = bound_anywhere(&gateways, wished)?;
        let numbers = (self.next..).take(sockets.len());
        let numbered: Vec<_> = numbers.zip(sockets).collect();
        for (number, (_, fd)) in &numbered {
            poller.add(fd, Token::Listener(*number), EventFlags::IN)?;
        }
        self.next += numbered.len() as u32;
        self.networks.insert(network, Serving { gateways, port, numbers: numbered.iter().map(|(n, _)| *n).collect() });
        let listener = |(transport, fd)| Listener { network, transport, fd, answers: Vec::new() };
        self.sockets.extend(numbered.into_iter().map(|(number, socket)| (number, listener(socket))));
        Ok(port)
    }

    /// Listens no more for any other networks.
    pub(super) fn keep(&mut self, networks: &BTreeSet<NetworkId>) {
        let gone: Vec<NetworkId> =
            self.networks.keys().filter(|network| !networks.contains(network)).copied().collect();
        gone.iter().for_each(|network| self.close(network));
    }

    fn close(&mut self, network: &NetworkId) {
        for number in self.networks.remove(network).map_or_else(Vec::new, |serving| serving.numbers) {
            self.sockets.remove(&number);
        }
    }

    pub(super) fn listener(&self, number: u32) -> Option<&Listener> {
        self.sockets.get(&number)
    }

    /// Takes an answer to be sent with the next [`Self::flush`].
    pub(super) fn queue(&mut self, number: u32, to: SocketAddr, message: Vec<u8>) {
        let Some(listener) = self.sockets.get_mut(&number) else { return };
        if listener.answers.is_empty() {
            self.full.push(number);
        }
        listener.answers.push((to, message));
    }

    /// Sends what was queued.
    pub(super) fn flush(&mut self) {
        for number in self.full.drain(..) {
            if let Some(listener) = self.sockets.get_mut(&number) {
                listener.flush();
            }
        }
    }

    /// Leaves a socket alone for a while.
    pub(super) fn rest(&mut self, poller: &Poller, number: u32, now: Instant) {
        if let Some(listener) = self.sockets.get(&number)
            && poller.remove(&listener.fd).is_ok()
        {
            self.resting.push((now + REST, number));
        }
    }

    /// When [`Self::wake`] is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.resting.iter().map(|(until, _)| *until).min()
    }

    /// Ends rests that are over.
    pub(super) fn wake(&mut self, poller: &Poller, now: Instant) {
        let Self { resting, sockets, .. } = self;
        resting.retain_mut(|(until, number)| {
            let Some(listener) = sockets.get(number) else { return false };
            if *until > now {
                return true;
            }
            // Without memory for it, later.
            *until = now + REST;
            poller.add(&listener.fd, Token::Listener(*number), EventFlags::IN).is_err()
        });
    }
}

impl Listener {
    fn flush(&mut self) {
        let mut at = 0;
        while at < self.answers.len() {
            match datagrams::send(self.fd.as_fd(), &self.answers[at..]) {
                Ok(sent) => at += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // This one cannot be sent: its address is gone, or there is no memory. The client asks again.
                Err(_) => at += 1,
            }
        }
        self.answers.clear();
    }
}

type Sockets = Vec<(Transport, OwnedFd)>;

/// On the first port that is free on all gateways.
fn bound_anywhere(gateways: &[IpAddr], wished: Option<u16>) -> io::Result<(u16, Sockets)> {
    if gateways.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a network without a gateway has nowhere to listen"));
    }
    let kernels_choice = std::iter::repeat_n(0, TRIES);
    let mut last = Errno::ADDRINUSE;
    for port in wished.into_iter().chain(PREFERRED).chain(kernels_choice) {
        match bound(gateways, port) {
            Ok(bound) => return Ok(bound),
            // Without CAP_NET_BIND_SERVICE low ports are not ours.
            Err(error @ (Errno::ADDRINUSE | Errno::ACCESS)) => last = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// All sockets on `port`; for 0 on one that the kernel chooses for the first of them.
fn bound(gateways: &[IpAddr], mut port: u16) -> Result<(u16, Sockets), Errno> {
    let mut sockets = Vec::new();
    for &gateway in gateways {
        for transport in [Transport::Udp, Transport::Tcp] {
            let socket = listening(SocketAddr::new(gateway, port), transport)?;
            if port == 0 {
                port = SocketAddr::try_from(getsockname(&socket)?)?.port();
            }
            sockets.push((transport, socket));
        }
    }
    Ok((port, sockets))
}

fn listening(address: SocketAddr, transport: Transport) -> Result<OwnedFd, Errno> {
    let kind = match transport {
        Transport::Udp => SocketType::DGRAM,
        Transport::Tcp => SocketType::STREAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, flags, None)?;
    // The bridge may not be there yet, nor its address be usable.
    if address.is_ipv4() {
        set_ip_freebind(&socket, true)?;
    } else {
        set_ipv6_v6only(&socket, true)?;
        set_ipv6_freebind(&socket, true)?;
    }
    match transport {
        Transport::Udp => {
            enlarge(&socket);
            bind(&socket, &address)?;
        }
        Transport::Tcp => {
            // Connections that an earlier server left in TIME_WAIT don't count. Another listener still does.
            set_socket_reuseaddr(&socket, true)?;
            set_socket_recv_buffer_size(&socket, STREAM_BUFFER)?;
            set_socket_send_buffer_size(&socket, STREAM_BUFFER)?;
            bind(&socket, &address)?;
            listen(&socket, BACKLOG)?;
        }
    }
    Ok(socket)
}

/// Beyond net.core.rmem_max where we may; what we get is good enough.
fn enlarge(socket: &OwnedFd) {
    let _ = set_socket_recv_buffer_size_force(socket, QUEUE)
        .or_else(|_| set_socket_recv_buffer_size(socket, QUEUE))
        .and_then(|()| set_socket_send_buffer_size(socket, QUEUE));
}
