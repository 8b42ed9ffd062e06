//! The relay's namespace made ready: its link, routes, rules, settings and table.
//!
//! ```text
//!   pwrelay   TUN, 169.254.1.3/32, fd70:7764:7265::1/128           default routes lead to it
//!   rules     10: mark of what is taken ──> table 7078, to pwrelay     IPv4 and IPv6 alike
//!             20: mark of the relay's ────> table 7077, all is local
//!             30: this namespace's addresses   (the kernel's rule 0, moved behind the two)
//!   table     inet podwire_relay (`table.rs`)
//! ```
//!
//! Everything is made so that what an earlier relay left is taken over.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use firewall::{RELAY_LINK, RELAY_MARK};
use linux::Tun;
use model::LinkName;
use netlink::rtnetlink::{self, Changes, LOCAL_TABLE, Link, MAIN_TABLE, RouteType};
use netlink::{Message, Protocol, Socket};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt};

use crate::table::{self, SOCKET_MARK, TAKEN_MARK};
use crate::tcp;

/// The link's own addresses: those of processes of this namespace when they go outside. Of IPv4's autoconfiguration
/// block (RFC 3927), beside those that mean the host; of a block of our own (RFC 4193).
pub const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 1, 3)), IpAddr::V6(Ipv6Addr::new(0xfd70, 0x7764, 0x7265, 0, 0, 0, 0, 1))];

const OURS_TABLE: u32 = 7077;
const TAKEN_TABLE: u32 = 7078;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Packets that may wait at the link. More than what any sender may send at once (`table.rs`): one that floods must not
/// have the others' dropped.
const QUEUE: u32 = 4096;

/// How often it is tried to make the link while somebody has it: a second.
const TRIES: u32 = 50;

/// What the loops work with.
#[derive(Debug)]
pub struct Place {
    /// Our end of the link.
    pub tun: Arc<Tun>,
    /// Transparent listeners, of IPv4 and IPv6, both on [`Self::port`].
    pub listeners: [OwnedFd; 2],
    port: u16,
    /// The link's number.
    link: u32,
}

impl Place {
    /// Makes the calling thread's network namespace ready but for [`Self::open`].
    pub fn make(mtu: u32) -> io::Result<Self> {
        settings()?;
        let name: LinkName = RELAY_LINK.parse().map_err(io::Error::other)?;
        let tun = create(&name).map_err(told)?;
        let mut route = Socket::open(Protocol::Route)?;
        let link = route.get(rtnetlink::link_named(RELAY_LINK))?.as_ref().and_then(Link::read);
        let index = link.ok_or(io::ErrorKind::NotFound)?.index;
        link_settings()?;
        let up = Changes { mtu: Some(mtu), queue: Some(QUEUE), ..Changes::default() };
        must(
            &mut route,
            &[rtnetlink::no_link_local(RELAY_LINK), rtnetlink::change_link(index, &up), rtnetlink::set_up(RELAY_LINK)],
        )?;
        let lo =
            route.get(rtnetlink::link_named("lo"))?.as_ref().and_then(Link::read).ok_or(io::ErrorKind::NotFound)?;
        must(&mut route, &ways(index, lo.index))?;
        may(&mut route, &rules())?;
        // Not before the same rule is there behind.
        may(&mut route, &[true, false].map(|ipv4| rtnetlink::delete_rule(ipv4, 0, None, LOCAL_TABLE)))?;
        let (listeners, port) = listeners()?;
        Ok(Self { tun: Arc::new(tun), listeners, port, link: index })
    }

    /// Has packets come to the listeners, and datagrams to `udp`. The socket is for what else there is to say to the
    /// firewall: to close it now would wait until the kernel has put away what was there before, ten milliseconds.
    pub fn open(&self, udp: u16) -> io::Result<Socket> {
        let mut firewall = Socket::open(Protocol::Netfilter)?;
        table::make(&mut firewall, self.link, self.port, udp)?;
        Ok(firewall)
    }
}

/// The link of a relay that was killed goes a moment after it.
fn create(name: &LinkName) -> io::Result<Tun> {
    let mut tries = 0;
    loop {
        match Tun::create(name) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TRIES => tries += 1,
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ways(link: u32, lo: u32) -> Vec<Message> {
    let mut messages = Vec::new();
    for ip in ADDRESSES {
        let (any, full) = match ip {
            IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32),
            IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
        };
        messages.push(rtnetlink::add_address(link, ip, full));
        messages.push(rtnetlink::replace_link_route(any, 0, RouteType::Unicast, link, MAIN_TABLE));
        messages.push(rtnetlink::replace_link_route(any, 0, RouteType::Unicast, link, TAKEN_TABLE));
        messages.push(rtnetlink::replace_link_route(any, 0, RouteType::Local, lo, OURS_TABLE));
    }
    messages
}

fn rules() -> Vec<Message> {
    let of = |ipv4| {
        [
            rtnetlink::add_rule(ipv4, 10, Some(TAKEN_MARK), TAKEN_TABLE),
            rtnetlink::add_rule(ipv4, 20, Some(RELAY_MARK), OURS_TABLE),
            rtnetlink::add_rule(ipv4, 30, None, LOCAL_TABLE),
        ]
    };
    [of(true), of(false)].concat()
}

/// Sends messages that must all be obeyed.
fn must(socket: &mut Socket, messages: &[Message]) -> io::Result<()> {
    let refused = socket.batch(messages)?.into_iter().find_map(Result::err);
    refused.map_or(Ok(()), |errno| Err(io::Error::other(format!("the relay's namespace: {errno}"))))
}

/// Sends messages that an earlier relay may have sent.
fn may(socket: &mut Socket, messages: &[Message]) -> io::Result<()> {
    let refused = socket.batch(messages)?.into_iter().filter_map(Result::err);
    match refused.into_iter().find(|errno| ![libc::EEXIST, libc::ENOENT].contains(&errno.code)) {
        None => Ok(()),
        Some(errno) => Err(io::Error::other(format!("the relay's namespace: {errno}"))),
    }
}

/// Those of the whole namespace.
///
/// A packet that early demultiplexing has given to a socket is not forwarded (ip_forward in net/ipv4/ip_forward.c): a
/// SYN with the ports of a connection in TIME_WAIT would be lost. Of UDP only connected sockets are found so, whose
/// datagrams are never forwarded, and no route needs to be looked for: a tenth of what sending one costs a container.
/// Where bridged packets are shown to the firewall as if they were routed, what it says about their sockets is
/// forgotten (ip_rcv_core in net/ipv4/ip_input.c).
fn settings() -> io::Result<()> {
    for (name, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/tcp_early_demux", "0"),
        ("net/ipv4/udp_early_demux", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
    ] {
        set(name, value)?;
    }
    for (name, value) in [
        // Between the relay and a container is nothing that could be overloaded, so nothing is gained by a congestion
        // control that paces, as BBR does (one timer for each packet). Reno is in every kernel, and allowed to all.
        ("tcp_congestion_control", tcp::UNPACED.to_owned()),
        ("tcp_notsent_lowat", tcp::UNSENT.to_string()),
        ("tcp_keepalive_time", tcp::KEEPALIVE.as_secs().to_string()),
        ("tcp_keepalive_intvl", tcp::KEEPALIVE_AGAIN.as_secs().to_string()),
        ("tcp_keepalive_probes", tcp::KEEPALIVE_TIMES.to_string()),
    ] {
        set(&format!("net/ipv4/{name}"), &value)?;
    }
    for name in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
        match set(name, "0") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// A SYN comes back by another link than its sender is on, and one of this namespace itself from an address of it.
fn link_settings() -> io::Result<()> {
    for (name, value) in [("rp_filter", "0"), ("accept_local", "1")] {
        set(&format!("net/ipv4/conf/{RELAY_LINK}/{name}"), value)?;
    }
    Ok(())
}

fn set(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{name}");
    std::fs::write(&path, value).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

fn told(error: io::Error) -> io::Error {
    let device = linux::tun::DEVICE;
    let what = match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{device} is closed to users (chmod 0666 {device} as root)"),
        io::ErrorKind::NotFound => format!("there is no {device} (modprobe tun as root)"),
        _ => format!("cannot make the link {RELAY_LINK}: {error}"),
    };
    io::Error::new(error.kind(), what)
}

/// On any address, and those that are none of ours.
fn listeners() -> io::Result<([OwnedFd; 2], u16)> {
    let mut tries = 0;
    loop {
        let four = listener((Ipv4Addr::UNSPECIFIED, 0).into())?;
        let port = SocketAddr::try_from(getsockname(&four)?).map_err(io::Error::from)?.port();
        match listener((Ipv6Addr::UNSPECIFIED, port).into()) {
            Ok(six) => return Ok(([four, six], port)),
            // Somebody else's is there.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 100 => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn listener(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    linux::transparent::set_transparent(&socket, address.is_ipv4())?;
    linux::transparent::set_mark(&socket, SOCKET_MARK)?;
    tcp::prepare_inner(&socket)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
