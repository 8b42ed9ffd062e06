//! UDP in bulk, at any address: datagrams received with where they were sent to, and passed on many at a time.
//!
//! ```text
//!   receive   recvmmsg ─> 48 slots, each a datagram, or a train of equal ones that the kernel kept together (UDP_GRO)
//!   pass_on   neighbours of one size ─one message, many pieces, UDP_SEGMENT─> one run through the stack for all
//! ```
//!
//! Sockets that speak as somebody else ([`at_any`], [`speaking_as`]) need CAP_NET_ADMIN or CAP_NET_RAW in the user
//! namespace of their network namespace (IP_TRANSPARENT, do_ip_setsockopt in net/ipv4/ip_sockglue.c).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, ipproto, socket_with, sockopt};

use crate::datagrams::Name;
use crate::transparent::{set_mark, set_transparent};

/// Slots of a batch: a full train of datagrams as long as Ethernet carries.
pub const SLOTS: usize = 48;

/// The longest datagram, and the longest train.
const SLOT: usize = 65_536;

/// The longest content of a datagram on IPv4; a train is not longer.
const TRAIN_MAX: usize = 65_507;

/// UDP_MAX_SEGMENTS (include/linux/udp.h) before Linux 6.9.
const SEGMENTS_MAX: usize = 64;

/// Octets that may wait in a socket: a few milliseconds of a fast link.
const BUFFER: usize = 4 << 20;

/// Messages in one call of sendmmsg(2).
const MESSAGES: usize = 64;

/// Datagrams that arrived together.
#[derive(Debug)]
pub struct Batch {
    /// Touched only as far as something has arrived.
    octets: Box<[u8]>,
    arrived: Vec<Arrival>,
}

/// What is known about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The sender.
    pub from: SocketAddr,
    /// Where it was sent to, of sockets from [`at_any`]; of sockets from [`on_host`] the address, with port 0.
    pub to: Option<SocketAddr>,
    /// All of it.
    pub length: usize,
    /// The length of each datagram in it but the last, which may be shorter.
    pub segment: usize,
}

/// Addresses of what is passed on; nothing for a connected socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Envelope {
    /// The receiver.
    pub to: Option<SocketAddr>,
    /// The sender, one of the namespace's own addresses.
    pub from: Option<IpAddr>,
}

/// Passing on stopped at one of the arrivals.
#[derive(Debug)]
pub struct Stopped {
    /// The first of which not everything went.
    pub at: usize,
    /// Why.
    pub error: io::Error,
}

impl Default for Batch {
    fn default() -> Self {
        Self { octets: vec![0; SLOTS * SLOT].into(), arrived: Vec::with_capacity(SLOTS) }
    }
}

impl Batch {
    /// Takes what has arrived on a UDP or ping socket, in the place of what was taken before. An error when there is
    /// nothing (`WouldBlock`), or the socket's pending one.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<()> {
        self.arrived.clear();
        let mut names = [Name::NONE; SLOTS];
        let mut controls = [const { Control::NONE }; SLOTS];
        let mut pieces = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; SLOTS];
        let mut headers = [HEADER; SLOTS];
        for (number, slot) in self.octets.chunks_exact_mut(SLOT).enumerate() {
            pieces[number] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT };
            let header = &mut headers[number].msg_hdr;
            header.msg_iov = &raw mut pieces[number];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut names[number]).cast();
            header.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_control = (&raw mut controls[number]).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: recvmmsg(2) writes through SLOTS headers, each of which points to one piece, that points to one slot
        // with its length, to one name and to one control buffer with their sizes; all are ours and outlive the call.
        let received = unsafe {
            libc::recvmmsg(fd, headers.as_mut_ptr(), SLOTS as libc::c_uint, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (name, header) in names.iter().zip(&headers).take(received) {
            let length = header.msg_len as usize;
            let from = name.read().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
            let mut arrival = Arrival { from, to: None, length, segment: length };
            each_control(&header.msg_hdr, |level, kind, data| match (level, kind, data) {
                (libc::SOL_UDP, libc::UDP_GRO, [a, b, c, d]) => {
                    // Of one datagram alone nothing is said; then a part of nothing cannot be.
                    arrival.segment = (i32::from_ne_bytes([*a, *b, *c, *d]).max(1) as usize).min(length);
                }
                (libc::SOL_IP, libc::IP_ORIGDSTADDR, data) | (libc::SOL_IPV6, IPV6_ORIGDSTADDR, data) => {
                    arrival.to = Name::from_octets(data).and_then(|name| name.read());
                }
                (libc::SOL_IP, libc::IP_PKTINFO, [_, _, _, _, _, _, _, _, a, b, c, d]) if arrival.to.is_none() => {
                    arrival.to = Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), 0));
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO, data) if arrival.to.is_none() => {
                    let ip = data.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets));
                    arrival.to = ip.map(|ip| SocketAddr::new(ip.into(), 0));
                }
                _ => {}
            });
            self.arrived.push(arrival);
        }
        Ok(())
    }

    /// In the order they came.
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrived
    }

    /// What the one of this number carries.
    pub fn content(&self, number: usize) -> &[u8] {
        let length = self.arrived.get(number).map_or(0, |arrival| arrival.length.min(SLOT));
        let start = number.min(SLOTS - 1) * SLOT;
        &self.octets[start..start + length]
    }

    /// Gives back the memory that large arrivals took.
    pub fn shrink(&mut self) {
        self.octets = vec![0; SLOTS * SLOT].into();
        self.arrived.clear();
    }

    /// Sends those of `range` on `socket`, datagram by datagram as they came. Those not longer than `segment_max` go
    /// together as far as they may.
    pub fn pass_on(
        &self,
        range: Range<usize>,
        socket: impl AsFd,
        envelope: Envelope,
        segment_max: usize,
    ) -> Result<(), Stopped> {
        let trains = self.trains(range.clone(), segment_max);
        let mut name = Name::NONE;
        let name_length = envelope.to.map_or(0, |to| name.write(to));
        let mut sent = 0;
        while sent < trains.len() {
            let coming = &trains[sent..trains.len().min(sent + MESSAGES)];
            match send(socket.as_fd(), coming, &mut name, name_length, envelope.from) {
                Ok(count) => sent += count,
                Err(error) => return Err(Stopped { at: coming[0].first, error }),
            }
        }
        Ok(())
    }

    fn trains(&self, range: Range<usize>, segment_max: usize) -> Vec<Train<'_>> {
        let mut trains: Vec<Train<'_>> = Vec::with_capacity(range.len());
        for number in range {
            let Some(arrival) = self.arrived.get(number) else { break };
            let content = self.content(number);
            if arrival.segment > segment_max && arrival.segment < content.len() {
                let single = |octets| Train::new(number, octets, arrival.segment);
                trains.extend(content.chunks(arrival.segment).map(single));
                continue;
            }
            match trains.last_mut().filter(|train| arrival.segment <= segment_max && train.takes(arrival)) {
                Some(train) => train.append(content),
                None => trains.push(Train::new(number, content, arrival.segment)),
            }
        }
        trains
    }
}

/// What goes by one message.
struct Train<'a> {
    /// The arrival that it begins with.
    first: usize,
    pieces: Vec<io::IoSlice<'a>>,
    length: usize,
    segment: usize,
}

impl<'a> Train<'a> {
    fn new(first: usize, octets: &'a [u8], segment: usize) -> Self {
        Self { first, pieces: vec![io::IoSlice::new(octets)], length: octets.len(), segment }
    }

    /// All before are whole segments, for only the last may be shorter.
    fn takes(&self, next: &Arrival) -> bool {
        let length = self.length + next.length;
        self.segment > 0
            && self.length.is_multiple_of(self.segment)
            && (next.segment == self.segment || next.length < self.segment && next.segment == next.length)
            && next.length > 0
            && length <= TRAIN_MAX
            && length.div_ceil(self.segment) <= SEGMENTS_MAX
    }

    fn append(&mut self, octets: &'a [u8]) {
        self.pieces.push(io::IoSlice::new(octets));
        self.length += octets.len();
    }
}

/// How many of `trains`, at most [`MESSAGES`], went. An error is that of the first.
fn send(
    socket: BorrowedFd<'_>,
    trains: &[Train<'_>],
    name: &mut Name,
    name_length: libc::socklen_t,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    let mut controls = [const { Control::NONE }; MESSAGES];
    let mut headers = [HEADER; MESSAGES];
    for ((train, control), header) in trains.iter().zip(&mut controls).zip(&mut headers) {
        let header = &mut header.msg_hdr;
        if name_length > 0 {
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = name_length;
        }
        // IoSlice has the layout of iovec (its documentation). Only read by the kernel, in spite of the type.
        header.msg_iov = train.pieces.as_ptr().cast_mut().cast();
        header.msg_iovlen = train.pieces.len() as _;
        let mut length = 0;
        if train.length > train.segment {
            // At most TRAIN_MAX.
            let segment = train.segment as u16;
            length += control.put(length, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        match from {
            Some(IpAddr::V4(ip)) => {
                let [a, b, c, d] = ip.octets();
                let info = [0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0];
                length += control.put(length, libc::SOL_IP, libc::IP_PKTINFO, &info);
            }
            Some(IpAddr::V6(ip)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                length += control.put(length, libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        if length > 0 {
            header.msg_control = (&raw mut *control).cast();
            header.msg_controllen = length as _;
        }
    }
    let count = trains.len().min(MESSAGES) as libc::c_uint;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: sendmmsg(2) reads through `count` headers, whose pieces, name and control buffers live until it returns
    // with the lengths given, and writes only `msg_len` of headers.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What the network, or this host, said about something that was sent.
#[derive(Debug, Clone)]
pub struct Complaint {
    /// The error number that goes with it.
    pub error: io::ErrorKind,
    /// Who says so.
    pub origin: Origin,
    /// With [`Origin::Icmp`] type and code, and with some of them a number, like the MTU.
    pub kind: u8,
    /// See there.
    pub code: u8,
    /// See there.
    pub number: u32,
    /// Who sent the ICMP message.
    pub by: Option<IpAddr>,
    /// To whom was sent what this is about.
    pub about: Option<SocketAddr>,
    /// How that began, as far as it was quoted.
    pub content: Vec<u8>,
}

/// Who says that something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This host.
    Local,
    /// ICMP or ICMPv6.
    Icmp,
}

/// As much of what a complaint is about as matters to anyone.
const QUOTED: usize = 1280;

/// The oldest complaint on a socket that collects them; `WouldBlock` when there is none.
pub fn complaint(socket: impl AsFd) -> io::Result<Complaint> {
    let mut name = Name::NONE;
    let mut control = ErrorControl([0; 512]);
    let mut content = vec![0; QUOTED];
    let mut piece = libc::iovec { iov_base: content.as_mut_ptr().cast(), iov_len: content.len() };
    let mut header = HEADER.msg_hdr;
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<Name>() as libc::socklen_t;
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<ErrorControl>() as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: recvmsg(2) writes through one header that points to one piece, a name and a control buffer with their
    // sizes; all are ours and outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    content.truncate(length);
    let mut complaint = Complaint {
        error: io::ErrorKind::Other,
        origin: Origin::Local,
        kind: 0,
        code: 0,
        number: 0,
        by: None,
        about: name.read(),
        content,
    };
    each_control(&header, |level, kind, data| {
        let is_error = matches!((level, kind), (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR));
        // struct sock_extended_err (include/uapi/linux/errqueue.h), and the address of who complains.
        let (true, Some((head, offender))) = (is_error, data.split_first_chunk::<16>()) else { return };
        let [e0, e1, e2, e3, origin, icmp_kind, icmp_code, _, n0, n1, n2, n3, ..] = *head;
        complaint.error = io::Error::from_raw_os_error(i32::from_ne_bytes([e0, e1, e2, e3])).kind();
        complaint.number = u32::from_ne_bytes([n0, n1, n2, n3]);
        if matches!(origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6) {
            (complaint.origin, complaint.kind, complaint.code) = (Origin::Icmp, icmp_kind, icmp_code);
            complaint.by = Name::from_octets(offender).and_then(|name| name.read()).map(|by| by.ip());
        }
    });
    Ok(complaint)
}

/// A UDP socket that takes datagrams for any address and port which the firewall hands it (`tproxy`), with where they
/// were sent to. On port 0 of the kernel's choosing.
pub fn at_any(ipv4: bool, port: u16) -> io::Result<OwnedFd> {
    let socket = udp(ipv4)?;
    set_transparent(&socket, ipv4)?;
    if ipv4 {
        set(&socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1)?;
    } else {
        sockopt::set_ipv6_v6only(&socket, true)?;
        set(&socket, libc::SOL_IPV6, IPV6_ORIGDSTADDR, 1)?;
    }
    collect(&socket)?;
    bind(&socket, &SocketAddr::new(unspecified(ipv4), port))?;
    Ok(socket)
}

/// A UDP socket that speaks to `to` as `from`, which need not be an address of this namespace, with marked packets.
///
/// Between the two steps of making it datagrams of others to `from` may get into it: see [`Arrival::from`].
pub fn speaking_as(from: SocketAddr, to: SocketAddr, mark: u32) -> io::Result<OwnedFd> {
    let socket = udp(from.is_ipv4())?;
    set_transparent(&socket, from.is_ipv4())?;
    set_mark(&socket, mark)?;
    // Each conversation with `from` has one.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    collect(&socket)?;
    bind(&socket, &from)?;
    connect(&socket, &to)?;
    Ok(socket)
}

/// A UDP socket for one outside peer, to be connected. It collects complaints, and neither fragments nor cuts.
pub fn to_outside(ipv4: bool) -> io::Result<OwnedFd> {
    let socket = udp(ipv4)?;
    collect(&socket)?;
    set_complaints(&socket, ipv4)?;
    set_fragmenting(&socket, ipv4, Fragmenting::Never)?;
    Ok(socket)
}

/// A UDP socket on a port of this host, that says to which address a datagram came.
///
/// Errors: those of bind(2).
pub fn on_host(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = udp(address.is_ipv4())?;
    collect(&socket)?;
    set_complaints(&socket, address.is_ipv4())?;
    match address {
        SocketAddr::V4(_) => set(&socket, libc::SOL_IP, libc::IP_PKTINFO, 1)?,
        SocketAddr::V6(_) => {
            sockopt::set_ipv6_v6only(&socket, true)?;
            set(&socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// A socket for echo requests to `to` (ping socket), which collects complaints, and the id that its requests have.
///
/// Errors: `PermissionDenied` when this user's groups are not in net.ipv4.ping_group_range.
pub fn ping(to: IpAddr) -> io::Result<(OwnedFd, u16)> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(protocol))?;
    set_complaints(&socket, to.is_ipv4())?;
    connect(&socket, &SocketAddr::new(to, 0))?;
    let id = SocketAddr::try_from(getsockname(&socket)?).map_err(io::Error::from)?.port();
    Ok((socket, id))
}

/// Whether datagrams that are too long for the way are sent in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragmenting {
    /// No: the error is EMSGSIZE.
    Never,
    /// By this host, and not on the way.
    Here,
}

/// Says so of a socket.
pub fn set_fragmenting(socket: impl AsFd, ipv4: bool, fragmenting: Fragmenting) -> io::Result<()> {
    let (level, option) = match ipv4 {
        true => (libc::SOL_IP, libc::IP_MTU_DISCOVER),
        false => (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    // The numbers are the same for IPv6 (include/uapi/linux/in6.h).
    let how = match fragmenting {
        Fragmenting::Never => libc::IP_PMTUDISC_DO,
        Fragmenting::Here => libc::IP_PMTUDISC_WANT,
    };
    set(socket, level, option, how)
}

/// How far what a socket sends may go.
pub fn set_hop_limit(socket: impl AsFd, ipv4: bool, hops: u8) -> io::Result<()> {
    match ipv4 {
        true => set(socket, libc::SOL_IP, libc::IP_TTL, hops.into()),
        false => set(socket, libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS, hops.into()),
    }
}

/// The largest packet that goes all the way to whom a socket is connected to, as far as is known.
pub fn path_mtu(socket: impl AsFd, ipv4: bool) -> io::Result<u32> {
    let (level, option) = match ipv4 {
        true => (libc::SOL_IP, libc::IP_MTU),
        false => (libc::SOL_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: getsockopt(2) writes an int, whose size `length` says, and `length`; both outlive the call.
    let rc = unsafe { libc::getsockopt(fd, level, option, (&raw mut mtu).cast(), &raw mut length) };
    if rc == 0 { Ok(mtu.unsigned_abs()) } else { Err(io::Error::last_os_error()) }
}

/// IPV6_RECVORIGDSTADDR is the same number (include/uapi/linux/in6.h); libc has it not on all targets.
const IPV6_ORIGDSTADDR: libc::c_int = 74;

fn udp(ipv4: bool) -> io::Result<OwnedFd> {
    let family = if ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    // As far as net.core.rmem_max and wmem_max allow.
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    Ok(socket)
}

fn unspecified(ipv4: bool) -> IpAddr {
    if ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Has the kernel keep equal datagrams together.
fn collect(socket: &OwnedFd) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

fn set_complaints(socket: &OwnedFd, ipv4: bool) -> io::Result<()> {
    match ipv4 {
        true => set(socket, libc::SOL_IP, libc::IP_RECVERR, 1),
        false => set(socket, libc::SOL_IPV6, libc::IPV6_RECVERR, 1),
    }
}

fn set(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads an int, whose size `length` says; it outlives the call.
    let rc = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// SAFETY: mmsghdr is integers and pointers, for all of which zero is a value (no name, no pieces, no control data).
const HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

/// Room for control messages: those asked for by the functions above take at most 24 + 48 + 40 octets.
#[repr(C, align(8))]
struct Control([u8; 128]);

#[repr(C, align(8))]
struct ErrorControl([u8; 512]);

/// The header of a control message (cmsg(3)), a multiple of what they are aligned to.
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();

impl Control {
    const NONE: Self = Self([0; 128]);

    /// Writes one message at `at`, and says how much room it takes. As the macros of cmsg(3) do, without pointers.
    fn put(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        let length = CONTROL_HEADER + data.len();
        let word = size_of::<usize>();
        let octets = &mut self.0[at..at + length.next_multiple_of(word)];
        octets[..word].copy_from_slice(&length.to_ne_bytes());
        octets[word..word + 4].copy_from_slice(&level.to_ne_bytes());
        octets[word + 4..word + 8].copy_from_slice(&kind.to_ne_bytes());
        octets[CONTROL_HEADER..length].copy_from_slice(data);
        octets.len()
    }
}

/// Level, type and data of each control message that the kernel wrote.
fn each_control(header: &libc::msghdr, mut told: impl FnMut(libc::c_int, libc::c_int, &[u8])) {
    if header.msg_control.is_null() {
        return;
    }
    // SAFETY: `msg_control` points to a buffer of ours that outlives `header`'s use here, and the kernel has left in
    // `msg_controllen` how much of it there is; all of it was initialised before.
    let mut rest = unsafe { std::slice::from_raw_parts(header.msg_control.cast::<u8>(), header.msg_controllen) };
    let word = size_of::<usize>();
    while let Some((head, _)) = rest.split_first_chunk::<CONTROL_HEADER>() {
        let int = |at: usize| i32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = head.first_chunk().map_or(0, |octets| usize::from_ne_bytes(*octets));
        let Some(data) = rest.get(CONTROL_HEADER..length) else { return };
        told(int(word), int(word + 4), data);
        rest = rest.get(length.next_multiple_of(word)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    /// A receiver, and a socket connected to it.
    fn pair(ipv4: bool) -> (OwnedFd, OwnedFd) {
        let loopback: IpAddr = if ipv4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let receiver = on_host(SocketAddr::new(loopback, 0)).unwrap();
        let sender = to_outside(ipv4).unwrap();
        connect(&sender, &address(&receiver)).unwrap();
        (receiver, sender)
    }

    fn address(socket: &OwnedFd) -> SocketAddr {
        SocketAddr::try_from(getsockname(socket).unwrap()).unwrap()
    }

    fn send_all(sender: &OwnedFd, sizes: &[usize]) {
        for (number, size) in sizes.iter().enumerate() {
            rustix::net::send(sender, &vec![number as u8; *size], rustix::net::SendFlags::empty()).unwrap();
        }
    }

    /// The datagrams that wait, trains taken apart.
    fn received(socket: &OwnedFd) -> Vec<Vec<u8>> {
        let mut batch = Batch::default();
        let mut datagrams = Vec::new();
        while batch.receive(socket).is_ok() {
            for (number, arrival) in batch.arrivals().iter().enumerate() {
                match arrival.segment {
                    0 => datagrams.push(Vec::new()),
                    segment => datagrams.extend(batch.content(number).chunks(segment).map(<[u8]>::to_vec)),
                }
            }
        }
        datagrams
    }

    /// What comes by one pair goes on by another one, whatever the longest segment of a train may be.
    #[test]
    fn datagrams_of_all_sizes_are_passed_on_one_by_one_in_order() {
        let sizes = [100, 100, 100, 40, 100, 0, 0, 1400, 1400, 1, 9000, 9000, 300, 1400, 1401, 1401, 60_000];
        for (ipv4, segment_max) in [(true, 65_507), (false, 65_487), (true, 1400), (false, 99), (true, 0)] {
            let ((first, sender), (last, middle)) = (pair(ipv4), pair(ipv4));
            send_all(&sender, &sizes);
            let mut batch = Batch::default();
            batch.receive(&first).unwrap();
            let count = batch.arrivals().len();
            assert!(batch.arrivals().iter().all(|arrival| arrival.from == address(&sender)));
            batch.pass_on(0..count, &middle, Envelope::default(), segment_max).unwrap();
            let expected: Vec<_> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
            assert!(received(&last) == expected, "{ipv4} {segment_max}");
        }
    }

    #[test]
    fn a_train_is_taken_as_one_and_passed_on_as_one() {
        let ((first, sender), (second, middle)) = (pair(true), pair(true));
        send_all(&sender, &[1000; 40]);
        let mut batch = Batch::default();
        batch.receive(&first).unwrap();
        assert_eq!(batch.arrivals().len(), 40);
        batch.pass_on(0..40, &middle, Envelope::default(), 1472).unwrap();
        batch.receive(&second).unwrap();
        let [train] = batch.arrivals() else { panic!("{:?}", batch.arrivals()) };
        assert_eq!((train.length, train.segment), (40_000, 1000));
        let (last, third) = pair(true);
        batch.pass_on(0..1, &third, Envelope::default(), 999).unwrap();
        assert_eq!(received(&last).iter().map(Vec::len).collect::<Vec<_>>(), [1000; 40], "too long for a train");
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        let host = on_host("127.0.0.1:0".parse().unwrap()).unwrap();
        let any = on_host("0.0.0.0:0".parse().unwrap()).unwrap();
        let asked: SocketAddr = format!("127.0.0.9:{}", address(&any).port()).parse().unwrap();
        rustix::net::sendto(&host, b"x", rustix::net::SendFlags::empty(), &asked).unwrap();
        let mut batch = Batch::default();
        batch.receive(&any).unwrap();
        let arrival = batch.arrivals()[0];
        assert_eq!((arrival.from, arrival.to), (address(&host), Some("127.0.0.9:0".parse().unwrap())));
        let envelope = Envelope { to: Some(arrival.from), from: arrival.to.map(|to| to.ip()) };
        batch.pass_on(0..1, &any, envelope, 0).unwrap();
        batch.receive(&host).unwrap();
        assert_eq!(batch.arrivals()[0].from, asked);
    }

    #[test]
    fn that_nobody_listens_is_told_with_what_it_is_about() {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sender = to_outside(true).unwrap();
        connect(&sender, &gone).unwrap();
        send_all(&sender, &[5]);
        let told = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            complaint(&sender).ok()
        });
        let told = told.unwrap();
        assert_eq!(
            (told.origin, told.kind, told.code, told.error),
            (Origin::Icmp, 3, 3, io::ErrorKind::ConnectionRefused)
        );
        assert_eq!((told.by, told.about), (Some(Ipv4Addr::LOCALHOST.into()), Some(gone)));
        assert_eq!(told.content, [0; 5]);
        assert_eq!(complaint(&sender).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_datagram_longer_than_the_way_is_refused_until_it_may_be_cut() {
        crate::testing::needs_root!();
        let _no_closing = crate::testing::starting_programs();
        crate::testing::alone(|| {
            crate::testing::loopback_up();
            let status = std::process::Command::new("ip").args(["link", "set", "lo", "mtu", "1500"]).status().unwrap();
            assert!(status.success());
            let (receiver, sender) = pair(true);
            assert_eq!(path_mtu(&sender, true).unwrap(), 1500);
            let too_long = rustix::net::send(&sender, &[0; 3000], rustix::net::SendFlags::empty());
            assert_eq!(too_long, Err(rustix::io::Errno::MSGSIZE));
            set_fragmenting(&sender, true, Fragmenting::Here).unwrap();
            send_all(&sender, &[3000]);
            assert_eq!(received(&receiver).iter().map(Vec::len).collect::<Vec<_>>(), [3000]);
        });
    }
}
