//! Flights: queries of clients that upstreams are being asked for.
//!
//! ```text
//!   0      0.5     1       2       3      4 s
//!   ├─ try ─┬─ try ─┬─ try ─┬─ try ─┬─ try ─┤ SERVFAIL      upstreams in their order, round and round
//!   │       └ the first is still heard          └ at most three at once, each with a socket of its own
//!   └─ refused, or an answer that says SERVFAIL: the next one at once
//! ```

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::NetworkId;

use crate::answer::{self, Verdict};
use crate::health::Health;
use crate::message::{self, Answer, Code, Header, Query, Reply};
use crate::table::{Key, Table};
use crate::zones::Zones;
use crate::{Chance, Client, Counts, Limits, Output, Transport, Via};

/// An upstream that takes longer is slow: another is asked too.
const PATIENCE: Duration = Duration::from_millis(500);

/// So many tries are followed by another after [`PATIENCE`], the later ones after [`LATER`].
const EARLY: usize = 2;
const LATER: Duration = Duration::from_secs(1);

/// Before a resolver of libc does, after 5 s.
const GIVE_UP: Duration = Duration::from_secs(4);

/// Tries of one flight that are heard at once.
const AT_ONCE: usize = 3;

/// A socket for one question to one upstream. Never the same twice, so an event that comes late hurts nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket(Key);

impl Socket {
    /// A small number, less than twice [`Limits::in_flight`], that no other open socket has.
    pub fn index(&self) -> usize {
        self.0.slot as usize
    }
}

/// All flights with their tries.
#[derive(Debug)]
pub(crate) struct Flights {
    limits: Limits,
    flights: Table<Flight>,
    tries: Table<Try>,
    /// Of each client, oldest first.
    clients: HashMap<Payer, VecDeque<Key>>,
    wakes: BTreeSet<(Instant, Key)>,
    health: Health,
}

/// One query of a client.
#[derive(Debug)]
struct Flight {
    client: Client,
    payer: Payer,
    /// As forwarded, under the client's id; all that is still to be known of the query.
    message: Vec<u8>,
    began: Instant,
    wake: Instant,
    /// Next to be asked first; those that failed for good are gone.
    upstreams: VecDeque<SocketAddr>,
    /// How many of them have not been asked yet.
    fresh: usize,
    started: usize,
    /// Heard, oldest first.
    tries: VecDeque<Key>,
    /// The first answer that says failure, relayed when no other comes.
    failure: Option<Vec<u8>>,
}

/// One question to one upstream.
#[derive(Debug)]
struct Try {
    flight: Key,
    to: SocketAddr,
    transport: Transport,
    id: u16,
    began: Instant,
    /// It was too slow, and that has been held against the upstream.
    slow: bool,
}

/// Whose flights are counted together: a member's by address; all others of a network as one, since nobody vouches
/// for their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Payer {
    network: NetworkId,
    ip: IpAddr,
}

/// What a flight may use of the machine around it.
pub(crate) struct Around<'a> {
    pub(crate) now: Instant,
    pub(crate) chance: &'a mut Chance,
    pub(crate) out: &'a mut VecDeque<Output>,
    pub(crate) counts: &'a mut Counts,
}

impl Flights {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            flights: Table::new(limits.in_flight),
            tries: Table::new(limits.in_flight * 2),
            clients: HashMap::new(),
            wakes: BTreeSet::new(),
            health: Health::default(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wakes.first().map(|&(wake, _)| wake)
    }

    /// Takes a query, or answers SERVFAIL when there is no room for it.
    pub(crate) fn begin(
        &mut self,
        client: Client,
        query: &Query<'_>,
        upstreams: &[SocketAddr],
        is_member: bool,
        around: &mut Around<'_>,
    ) {
        let payer = Payer::of(&client, is_member);
        let message = query.forward();
        if self.is_repetition(&payer, &client, &message) {
            around.counts.repeated += 1;
            return;
        }
        if !self.make_room(&payer, around) {
            around.counts.overloaded += 1;
            let message = answer::error(query, Code::ServFail, client.via.transport());
            around.out.push_back(Output::Send { to: client, message });
            return;
        }
        let upstreams = VecDeque::from(self.health.order(upstreams, around.now));
        let flight = Flight {
            client,
            payer,
            message,
            began: around.now,
            wake: around.now,
            fresh: upstreams.len(),
            upstreams,
            started: 0,
            tries: VecDeque::new(),
            failure: None,
        };
        let Some(key) = self.flights.insert(flight) else { return };
        self.clients.entry(payer).or_default().push_back(key);
        self.wakes.insert((around.now, key));
        around.counts.forwarded += 1;
        self.ask_next(key, around);
    }

    /// A client that has heard nothing asks again: the flight goes on as it is.
    fn is_repetition(&self, payer: &Payer, client: &Client, message: &[u8]) -> bool {
        let same = |key: &Key| self.flights.get(*key).is_some_and(|f| f.client == *client && f.message == message);
        self.clients.get(payer).is_some_and(|flights| flights.iter().any(same))
    }

    /// Is there room for one more of `payer`, perhaps by ending another flight?
    fn make_room(&mut self, payer: &Payer, around: &mut Around<'_>) -> bool {
        let own = self.clients.get(payer).map_or(0, VecDeque::len);
        if own < self.limits.per_client && !self.flights.is_full() {
            return true;
        }
        let heaviest = self.clients.iter().max_by_key(|(payer, flights)| (flights.len(), **payer));
        let victim = match heaviest {
            Some((_, flights)) if own < self.limits.per_client && flights.len() > own + 1 => flights.front().copied(),
            _ => self.oldest_in_vain(payer, around.now),
        };
        if let Some(victim) = victim {
            around.counts.overloaded += 1;
            self.fail(victim, around);
        }
        victim.is_some()
    }

    /// The oldest flight of `payer`, when it has waited so long that its upstream must be silent. A client whose
    /// upstream answers would get nothing if its new queries pushed out the old ones.
    fn oldest_in_vain(&self, payer: &Payer, now: Instant) -> Option<Key> {
        let oldest = *self.clients.get(payer)?.front()?;
        let flight = self.flights.get(oldest)?;
        (now >= flight.began + PATIENCE).then_some(oldest)
    }

    /// Something came on a socket.
    pub(crate) fn answered(&mut self, socket: Socket, from: SocketAddr, message: &[u8], around: &mut Around<'_>) {
        let Some(attempt) = self.tries.get(socket.0) else { return };
        let Some(flight) = self.flights.get(attempt.flight) else { return };
        let (key, transport) = (attempt.flight, attempt.transport);
        let (from, to) = ((from.ip().to_canonical(), from.port()), (attempt.to.ip().to_canonical(), attempt.to.port()));
        let mut asked = flight.message.clone();
        message::set_id(&mut asked, attempt.id);
        let Some(answer) = Answer::parse(message, &asked).filter(|_| from == to) else {
            around.counts.mismatched += 1;
            // By TCP it can't be somebody else's.
            if transport == Transport::Tcp {
                self.failed(socket, around);
            }
            return;
        };
        if !attempt.slow {
            self.health.well(attempt.to);
        }
        let by_tcp = flight.client.via.transport() == Transport::Tcp;
        if answer.truncated && transport == Transport::Udp && by_tcp {
            self.ask_by_tcp(socket, around);
            return;
        }
        let Some(relayed) = flight.relay(&answer) else { return };
        if matches!(answer.code, 2 | 5) {
            self.said_failure(socket, relayed, around);
        } else {
            around.counts.relayed += 1;
            self.end(key, Some(relayed), around);
        }
    }

    /// The network refused, or the connection ended.
    pub(crate) fn failed(&mut self, socket: Socket, around: &mut Around<'_>) {
        if let Some(attempt) = self.tries.get(socket.0) {
            self.health.refused(attempt.to, around.now);
            self.give_up_on(socket, around);
        }
    }

    /// SERVFAIL and REFUSED: another upstream may know better.
    fn said_failure(&mut self, socket: Socket, relayed: Vec<u8>, around: &mut Around<'_>) {
        let flight = self.tries.get(socket.0).and_then(|attempt| self.flights.get_mut(attempt.flight));
        if let Some(flight) = flight {
            flight.failure.get_or_insert(relayed);
            self.give_up_on(socket, around);
        }
    }

    /// The upstream asked by `socket` is out for this flight; the next one is asked, if any.
    fn give_up_on(&mut self, socket: Socket, around: &mut Around<'_>) {
        let Some(attempt) = self.close(socket.0, around.out) else { return };
        let key = attempt.flight;
        let Some(flight) = self.flights.get_mut(key) else { return };
        flight.tries.retain(|&other| other != socket.0);
        flight.upstreams.retain(|&other| other != attempt.to);
        if flight.fresh > 0 || (flight.tries.is_empty() && !flight.upstreams.is_empty()) {
            self.ask_next(key, around);
        } else if flight.tries.is_empty() {
            self.fail(key, around);
        }
    }

    /// Ends what is over and asks on where nobody has answered in time.
    pub(crate) fn wake(&mut self, around: &mut Around<'_>) {
        while let Some(&(wake, key)) = self.wakes.first()
            && wake <= around.now
        {
            self.hold_against_slow(key, around);
            match self.flights.get(key) {
                Some(flight) if flight.began + GIVE_UP > around.now => self.ask_next(key, around),
                _ => self.fail(key, around),
            }
        }
    }

    fn hold_against_slow(&mut self, key: Key, around: &Around<'_>) {
        let Some(flight) = self.flights.get(key) else { return };
        for &attempt in &flight.tries {
            if let Some(attempt) = self.tries.get_mut(attempt)
                && !attempt.slow
                && attempt.began + PATIENCE <= around.now
            {
                attempt.slow = true;
                self.health.silent(attempt.to, around.now);
            }
        }
    }

    /// Begins the next try, by UDP.
    fn ask_next(&mut self, key: Key, around: &mut Around<'_>) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        let Some(to) = flight.upstreams.pop_front() else { return self.fail(key, around) };
        flight.upstreams.push_back(to);
        flight.fresh = flight.fresh.saturating_sub(1);
        flight.started += 1;
        let gap = if flight.started <= EARLY { PATIENCE } else { LATER };
        let wake = (around.now + gap).min(flight.began + GIVE_UP);
        self.wakes.remove(&(flight.wake, key));
        flight.wake = wake;
        self.wakes.insert((wake, key));
        self.ask(key, to, Transport::Udp, around);
    }

    /// The same upstream again, since its answer to a TCP client did not fit a datagram.
    fn ask_by_tcp(&mut self, socket: Socket, around: &mut Around<'_>) {
        let Some(attempt) = self.close(socket.0, around.out) else { return };
        if let Some(flight) = self.flights.get_mut(attempt.flight) {
            flight.tries.retain(|&other| other != socket.0);
            self.ask(attempt.flight, attempt.to, Transport::Tcp, around);
        }
    }

    /// Opens a socket, for which a flight's oldest one makes room: each has one for sure, and there are as many
    /// again for whoever needs another.
    fn ask(&mut self, key: Key, to: SocketAddr, transport: Transport, around: &mut Around<'_>) {
        let Some(flight) = self.flights.get(key) else { return };
        let spare = self.tries.len().saturating_sub(self.flights.len()) < self.limits.in_flight;
        let oldest = flight.tries.front().copied();
        if let Some(oldest) = oldest
            && (flight.tries.len() >= AT_ONCE || !spare)
        {
            self.close(oldest, around.out);
        }
        let Some(flight) = self.flights.get_mut(key) else { return };
        flight.tries.retain(|&attempt| self.tries.get(attempt).is_some());
        let id = around.chance.next();
        let attempt = Try { flight: key, to, transport, id, began: around.now, slow: false };
        let Some(socket) = self.tries.insert(attempt) else { return };
        flight.tries.push_back(socket);
        let mut message = flight.message.clone();
        message::set_id(&mut message, id);
        around.counts.asked += 1;
        around.out.push_back(Output::Ask { socket: Socket(socket), to, transport, message });
    }

    /// Ends a flight with the best there is: an upstream's failure, or our own.
    fn fail(&mut self, key: Key, around: &mut Around<'_>) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        let message = flight.failure.take().or_else(|| flight.error(Code::ServFail));
        around.counts.failed += 1;
        self.end(key, message, around);
    }

    /// Ends a flight; `None` for a client that is gone.
    fn end(&mut self, key: Key, message: Option<Vec<u8>>, around: &mut Around<'_>) {
        let Some(flight) = self.flights.remove(key) else { return };
        self.wakes.remove(&(flight.wake, key));
        if let Some(flights) = self.clients.get_mut(&flight.payer) {
            flights.retain(|&other| other != key);
            if flights.is_empty() {
                self.clients.remove(&flight.payer);
            }
        }
        for attempt in flight.tries {
            self.close(attempt, around.out);
        }
        if let Some(message) = message {
            around.out.push_back(Output::Send { to: flight.client, message });
        }
    }

    fn close(&mut self, socket: Key, out: &mut VecDeque<Output>) -> Option<Try> {
        let attempt = self.tries.remove(socket)?;
        out.push_back(Output::Close { socket: Socket(socket) });
        Some(attempt)
    }

    /// A client's connection is no more.
    pub(crate) fn gone(&mut self, connection: u64, around: &mut Around<'_>) {
        let of_it = |flight: &Flight| matches!(flight.client.via, Via::Tcp { connection: c } if c == connection);
        for key in self.keys(of_it) {
            self.end(key, None, around);
        }
    }

    /// Judges every flight anew: its name may be known now, its client's way out closed.
    pub(crate) fn follow(&mut self, zones: &Zones, around: &mut Around<'_>) {
        for key in self.keys(|_| true) {
            let Some(flight) = self.flights.get(key) else { continue };
            match answer::judge(zones, &flight.client, &flight.message) {
                Verdict::Forward { upstreams, .. } => self.follow_upstreams(key, &upstreams, around),
                Verdict::Reply(message) => self.end(key, Some(message), around),
                Verdict::Drop(_) => self.end(key, None, around),
            }
        }
    }

    /// Nobody is asked any more who is no upstream any more.
    fn follow_upstreams(&mut self, key: Key, upstreams: &Arc<[SocketAddr]>, around: &mut Around<'_>) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        let before = flight.upstreams.len();
        flight.upstreams.retain(|upstream| upstreams.contains(upstream));
        if flight.upstreams.len() == before {
            return;
        }
        let left: Vec<Key> = flight.tries.iter().copied().collect();
        flight.upstreams = upstreams.iter().copied().collect();
        flight.fresh = upstreams.len();
        for attempt in left {
            if self.tries.get(attempt).is_some_and(|attempt| !upstreams.contains(&attempt.to)) {
                self.close(attempt, around.out);
            }
        }
        self.ask_next(key, around);
    }

    fn keys(&self, which: impl Fn(&Flight) -> bool) -> Vec<Key> {
        self.flights.iter().filter(|(_, flight)| which(flight)).map(|(key, _)| key).collect()
    }
}

impl Payer {
    fn of(client: &Client, is_member: bool) -> Self {
        let ip = if is_member { client.address.ip() } else { Ipv4Addr::UNSPECIFIED.into() };
        Self { network: client.network, ip }
    }
}

impl Flight {
    /// What the client asked.
    fn query(&self) -> Option<Query<'_>> {
        Query::parse(Header::parse(&self.message)?, &self.message).ok()
    }

    fn error(&self, code: Code) -> Option<Vec<u8>> {
        Some(answer::error(&self.query()?, code, self.client.via.transport()))
    }

    /// `answer` for the client; when it is more than the client takes, only that there is more.
    fn relay(&self, answer: &Answer<'_>) -> Option<Vec<u8>> {
        let (query, transport) = (self.query()?, self.client.via.transport());
        if answer.message.len() > query.limit(transport) {
            return Some(Reply::new(&query, Code::NoError, transport).truncated().finish());
        }
        Some(answer.relay(&query))
    }
}
