//! Echo requests: answered by whom they were meant for, by way of a ping socket of the host.
//!
//! ```text
//!   TUN ─echo request, id 77─> flow (container, peer, 77) ──> ping socket, id of the kernel's ──> peer
//!   TUN <─echo reply, id 77── from peer <──────────────────────────────────────────────── its reply
//!   TUN <─time exceeded, unreachable ── by whoever said so <──────────── the socket's error queue
//! ```
//!
//! **Limits.** Other ICMP is not passed on, nor a request that came in pieces (longer than the container's MTU).

use std::io;
use std::net::{IpAddr, SocketAddr};

use linux::trains::{self, Batch, Complaint};
use relay_core::flows::{Direction, Exchange, FlowId};
use relay_core::packet::{self, Echo, Fragment, Packet, Problem, Transport};
use relay_core::target::{Nowhere, Protocol};

use crate::udp::{Flow, Key, Source, Table, check_owner, nowhere};

impl Table {
    /// A packet from the TUN.
    pub(crate) fn packet(&mut self, octets: &[u8]) {
        let Ok(packet) = Packet::parse(octets) else { return };
        let (Transport::EchoRequest(echo), Fragment::Whole) = (packet.transport, packet.fragment) else { return };
        let key = Key::Echo { container: packet.source, peer: packet.destination, id: echo.id };
        let flow = match self.flows.find(&key) {
            Some(flow) => flow,
            None => {
                if !self.flows.admit(Source::Container(packet.source), self.now) {
                    return;
                }
                match self.begin_echo(packet.source, packet.destination, echo.id) {
                    Ok(flow) => flow,
                    Err(Nowhere::Silent) => return,
                    Err(Nowhere::Told(what)) => return self.write(packet::problem(&packet, what, packet.destination)),
                }
            }
        };
        self.request(flow, &packet, echo);
    }

    fn begin_echo(&mut self, container: IpAddr, peer: IpAddr, id: u16) -> Result<FlowId, Nowhere> {
        let way = self.book.way(container, SocketAddr::new(peer, 0), Protocol::Echo)?;
        let to = way.to.ip();
        let socket = self.outside.run(move || trains::ping(to));
        let (socket, _) = socket.map_err(|error| self.no_ping(error))?;
        check_owner(&socket, &way).map_err(nowhere)?;
        let flow = Flow {
            container: SocketAddr::new(container, 0),
            peer: SocketAddr::new(peer, 0),
            to: way.to,
            inner: None,
            outer: Some(socket),
            segment_max: 0,
            told_too_big: false,
            hops: None,
        };
        let key = Key::Echo { container, peer, id };
        self.put(key, Source::Container(container), Exchange::Open, flow).map_err(nowhere)
    }

    /// Where the host forbids it, it is silent, as a network is that drops echo.
    fn no_ping(&mut self, error: io::Error) -> Nowhere {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return nowhere(error);
        }
        if !std::mem::replace(&mut self.told_no_ping, true) {
            tracing::warn!(
                "containers cannot ping: no group of this user is in net.ipv4.ping_group_range (try `sysctl -w \
                 net.ipv4.ping_group_range='0 2147483647'`)"
            );
        }
        Nowhere::Silent
    }

    fn request(&mut self, id: FlowId, packet: &Packet<'_>, echo: Echo<'_>) {
        self.flows.went(id, Direction::Outward, self.now);
        for _ in 0..2 {
            let Some(flow) = self.part(id) else { return };
            let (Some(socket), ipv4) = (&flow.outer, flow.to.is_ipv4()) else { return };
            if flow.hops != Some(packet.hop_limit) && trains::set_hop_limit(socket, ipv4, packet.hop_limit).is_ok() {
                flow.hops = Some(packet.hop_limit);
            }
            let message = packet::echo_message(if ipv4 { 8 } else { 128 }, echo);
            let Err(error) = rustix::net::send(socket, &message, rustix::net::SendFlags::NOSIGNAL) else { return };
            // An earlier request's error: this one has not been sent.
            if !self.complaints(id) {
                let what = Problem::of_error(io::Error::from(error).kind());
                return self.write(what.and_then(|what| packet::problem(packet, what, packet.destination)));
            }
        }
    }

    /// Passes on what came by a ping socket. Is the flow one of echo?
    pub(crate) fn echo_replies(&mut self, flow: FlowId, batch: &Batch) -> bool {
        let Some(&Key::Echo { container, peer, id }) = self.flows.key(flow) else { return false };
        for number in 0..batch.arrivals().len() {
            let kind = if peer.is_ipv4() { 0 } else { 129 };
            let Some(reply) = packet::read_echo_message(kind, batch.content(number)) else { continue };
            self.flows.went(flow, Direction::Inward, self.now);
            self.write(packet::echo_reply(peer, container, Echo { id, ..reply }));
        }
        true
    }
}

/// What the container is told about a request of which a ping socket got a complaint, that quotes it with the socket's
/// own id.
pub(crate) fn problem(
    id: u16,
    container: IpAddr,
    peer: IpAddr,
    complaint: &Complaint,
    what: Problem,
    by: IpAddr,
) -> Option<Vec<u8>> {
    let kind = if peer.is_ipv4() { 8 } else { 128 };
    let echo = packet::read_echo_message(kind, &complaint.content)?;
    packet::echo_problem(container, peer, Echo { id, ..echo }, what, by)
}
