//! The machine: events in, outputs and a deadline out.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use model::NetworkId;

use crate::answer::{self, Dropped, Verdict};
use crate::forward::{Around, Flights};
use crate::zones::Zones;
use crate::{Socket, Transport};

/// Where message ids come from: each call another number that nobody can guess. A seeded generator in tests.
pub struct Chance(Box<dyn FnMut() -> u16 + Send>);

impl Chance {
    /// Wraps a generator.
    pub fn new(next: impl FnMut() -> u16 + Send + 'static) -> Self {
        Self(Box::new(next))
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance")
    }
}

impl Chance {
    pub(crate) fn next(&mut self) -> u16 {
        (self.0)()
    }
}

/// Who asks, and how an answer gets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Whose listener heard it.
    pub network: NetworkId,
    /// Where it came from.
    pub address: SocketAddr,
    /// By what.
    pub via: Via,
}

/// The way of a query, and back of its answer. The numbers are the shell's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A datagram on a socket; the answer has to leave by the same.
    Udp {
        /// Which socket.
        listener: u32,
    },
    /// A message on a connection. Answers may overtake each other (RFC 7766 section 7).
    Tcp {
        /// Which connection; never the same number twice.
        connection: u64,
    },
}

impl Via {
    /// UDP or TCP.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Udp { .. } => Transport::Udp,
            Self::Tcp { .. } => Transport::Tcp,
        }
    }
}

/// What happened. TCP messages are without their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message of a client.
    Asked {
        /// Whose.
        client: Client,
        /// All of it.
        message: &'a [u8],
    },
    /// A client's connection ended: nothing more can be sent there.
    Gone {
        /// As in [`Via::Tcp`].
        connection: u64,
    },
    /// A message from an upstream.
    Answered {
        /// Where it came in.
        socket: Socket,
        /// Who sent it.
        from: SocketAddr,
        /// All of it.
        message: &'a [u8],
    },
    /// A socket that couldn't be opened, whose peer is unreachable, or whose connection ended. It gets its Close.
    Failed {
        /// Which one.
        socket: Socket,
    },
    /// The deadline is here.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An answer.
    Send {
        /// Whose.
        to: Client,
        /// All of it, without a length.
        message: Vec<u8>,
    },
    /// Open a socket with a random port of its own, connected, and send.
    Ask {
        /// What the answer's event has to name.
        socket: Socket,
        /// The upstream.
        to: SocketAddr,
        /// UDP first; TCP for what doesn't fit.
        transport: Transport,
        /// All of it, without a length.
        message: Vec<u8>,
    },
    /// Close a socket: once for every Ask.
    Close {
        /// Which one.
        socket: Socket,
    },
}

/// The bounds of what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries being forwarded. The shell needs twice as many descriptors.
    pub in_flight: usize,
    /// As above, of one client.
    pub per_client: usize,
}

impl Default for Limits {
    /// 512 descriptors, half of the usual 1,024; the 100 queries of one dnsperf.
    fn default() -> Self {
        Self { in_flight: 256, per_client: 128 }
    }
}

/// What happened how often, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered from what we know.
    pub local: u64,
    /// Queries taken for upstreams.
    pub forwarded: u64,
    /// Questions to upstreams, all tries counted.
    pub asked: u64,
    /// Answers of upstreams passed on.
    pub relayed: u64,
    /// Flights that ended in failure.
    pub failed: u64,
    /// Queries answered SERVFAIL at a bound.
    pub overloaded: u64,
    /// Queries that were already in flight.
    pub repeated: u64,
    /// Foreign answers that fit no question: forged, or broken.
    pub mismatched: u64,
    /// Messages from outside the network, dropped.
    pub strangers: u64,
    /// Answers and scraps sent to us as queries, dropped.
    pub noise: u64,
}

/// The DNS server.
#[derive(Debug)]
pub struct Server {
    zones: Arc<Zones>,
    flights: Flights,
    chance: Chance,
    out: VecDeque<Output>,
    counts: Counts,
}

impl Server {
    /// A server of `zones`.
    pub fn new(zones: Arc<Zones>, limits: Limits, chance: Chance) -> Self {
        let (flights, out, counts) = (Flights::new(limits), VecDeque::new(), Counts::default());
        Self { zones, flights, chance, out, counts }
    }

    /// Takes in what happened. Drain [`Self::poll`] after each event: outputs wait in order, without a bound.
    pub fn handle(&mut self, event: Event<'_>, now: Instant) {
        self.expire(now);
        match event {
            Event::Asked { client, message } => self.asked(client, message, now),
            Event::Gone { connection } => self.split(now, |flights, around| flights.gone(connection, around)),
            Event::Answered { socket, from, message } => {
                self.split(now, |flights, around| flights.answered(socket, from, message, around));
            }
            Event::Failed { socket } => self.split(now, |flights, around| flights.failed(socket, around)),
            Event::Tick => {}
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.flights.deadline()
    }

    /// From now on other zones. Queries in flight are judged by them too: a name that has come is answered, and
    /// nobody is asked for a client whose way out is closed.
    pub fn follow(&mut self, zones: Arc<Zones>, now: Instant) {
        self.zones = Arc::clone(&zones);
        self.split(now, |flights, around| flights.follow(&zones, around));
    }

    /// The zones being served.
    pub fn zones(&self) -> &Arc<Zones> {
        &self.zones
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Queries that wait for upstreams.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn asked(&mut self, client: Client, message: &[u8], now: Instant) {
        match answer::judge(&self.zones, &client, message) {
            Verdict::Drop(Dropped::Stranger) => self.counts.strangers += 1,
            Verdict::Drop(Dropped::Noise) => self.counts.noise += 1,
            Verdict::Reply(message) => {
                self.counts.local += 1;
                self.out.push_back(Output::Send { to: client, message });
            }
            Verdict::Forward { query, upstreams, is_member } => {
                self.split(now, |flights, around| flights.begin(client, &query, &upstreams, is_member, around));
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.split(now, Flights::wake);
        }
    }

    fn split(&mut self, now: Instant, act: impl FnOnce(&mut Flights, &mut Around<'_>)) {
        let Self { flights, chance, out, counts, .. } = self;
        act(flights, &mut Around { now, chance, out, counts });
    }
}
