//! TCP connections of clients: bounded in number and in what each may hold.
//!
//! ```text
//!   client ──4 KiB a turn──> input ──[length][query]──> Server      no reading while output is above 64 KiB
//!          <──what it takes── output <──[length][answer]────┘       at 128 KiB the connection ends
//! ```
//!
//! A connection ends when it has been idle for ten seconds. Idle is who has neither sent a whole query nor read all
//! its answers: a client that sends or reads an octet now and then is idle. When there are too many connections,
//! the idlest ends: of the newcomer's address when that has its share, else of the address that has most.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use dns::{Client, Via};
use model::NetworkId;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_tcp_nodelay};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::budget::Budget;
use super::poller::{Poller, Token};

/// RFC 7766 section 6.2.3: in the order of seconds. More than any flight takes.
const IDLE: Duration = Duration::from_secs(10);

/// A longer query is none: a name has 255 octets, and few options have more than some dozens.
const QUERY_MAX: usize = 4096;

/// With more answers than this waiting no more queries are taken.
const OUTPUT_ENOUGH: usize = 64 << 10;

/// With more the connection ends: its queries in flight bring more answers than it reads.
const OUTPUT_MAX: usize = 128 << 10;

/// Read from one connection before the others have their turn.
const TURN: usize = 4096;

/// The connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over;

/// All connections.
#[derive(Debug)]
pub(super) struct Clients {
    connections: HashMap<u64, Connection>,
    next: u64,
    /// The idlest first, in all and of each address.
    idle: BTreeSet<(Instant, u64)>,
    idle_each: HashMap<Address, BTreeSet<(Instant, u64)>>,
    /// Those with something to do before the loop waits again.
    busy: Vec<u64>,
    max: usize,
    max_each: usize,
}

/// The same address on two networks need not be the same host.
type Address = (NetworkId, IpAddr);

#[derive(Debug)]
struct Connection {
    client: Client,
    fd: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    /// No more will come.
    has_ended: bool,
    /// Queries without answers so far.
    waiting: usize,
    active: Instant,
    interest: EventFlags,
}

impl Clients {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            connections: HashMap::new(),
            next: 0,
            idle: BTreeSet::new(),
            idle_each: HashMap::new(),
            busy: Vec::new(),
            max: budget.connections,
            max_each: budget.connections_each,
        }
    }

    /// Which connection ends before another of `address` on `network` begins, if any.
    pub(super) fn in_the_way(&self, network: NetworkId, address: IpAddr) -> Option<u64> {
        let own = self.idle_each.get(&(network, address));
        let idlest = |set: &BTreeSet<(Instant, u64)>| set.first().map(|&(_, connection)| connection);
        if own.is_some_and(|own| own.len() >= self.max_each) {
            return own.and_then(idlest);
        }
        if self.connections.len() < self.max {
            return None;
        }
        let most = self.idle_each.values().max_by_key(|set| set.len())?;
        if most.len() > 1 { idlest(most) } else { idlest(&self.idle) }
    }

    /// Takes a connection, for which there is room; its number.
    pub(super) fn admit(&mut self, poller: &Poller, fd: OwnedFd, mut client: Client, now: Instant) -> io::Result<u64> {
        let connection = self.next;
        self.next += 1;
        client.via = Via::Tcp { connection };
        // Several answers leave in one piece anyway; the last one shall not wait.
        set_tcp_nodelay(&fd, true)?;
        poller.add(&fd, Token::Client(connection), EventFlags::IN)?;
        let new = Connection {
            client,
            fd,
            input: Vec::new(),
            output: Vec::new(),
            has_ended: false,
            waiting: 0,
            active: now,
            interest: EventFlags::IN,
        };
        self.idle.insert((now, connection));
        self.idle_each.entry(new.address()).or_default().insert((now, connection));
        self.connections.insert(connection, new);
        Ok(connection)
    }

    /// Closes a connection; `false` when it was closed before.
    pub(super) fn close(&mut self, connection: u64) -> bool {
        let Some(closed) = self.connections.remove(&connection) else { return false };
        self.idle.remove(&(closed.active, connection));
        if let Some(set) = self.idle_each.get_mut(&closed.address()) {
            set.remove(&(closed.active, connection));
            if set.is_empty() {
                self.idle_each.remove(&closed.address());
            }
        }
        if !closed.output.is_empty() {
            // Reset: the kernel need not keep what nobody reads.
            let _ = set_socket_linger(&closed.fd, Some(Duration::ZERO));
        }
        true
    }

    /// Something is to be done for a connection before the loop waits again.
    pub(super) fn mark_busy(&mut self, connection: u64) {
        self.busy.push(connection);
    }

    /// Reads what is there, at most a turn's worth.
    pub(super) fn read(&mut self, connection: u64) -> Result<(), Over> {
        let Some(from) = self.connections.get_mut(&connection) else { return Ok(()) };
        let mut turn = [0; TURN];
        match recv(&from.fd, &mut turn, RecvFlags::empty()) {
            Ok((_, 0)) => from.has_ended = true,
            Ok((_, length)) => from.input.extend_from_slice(&turn[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Err(Over),
        }
        Ok(())
    }

    /// Takes the next whole query, if there is one and its sender reads the answers.
    pub(super) fn next_query(&mut self, connection: u64, now: Instant) -> Result<Option<(Client, Vec<u8>)>, Over> {
        let Some(from) = self.connections.get_mut(&connection) else { return Ok(None) };
        if from.output.len() > OUTPUT_ENOUGH {
            return Ok(None);
        }
        let Some(&[high, low]) = from.input.first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > QUERY_MAX {
            return Err(Over);
        }
        if from.input.len() < 2 + length {
            return Ok(None);
        }
        let query = from.input[2..2 + length].to_vec();
        from.input.drain(..2 + length);
        from.waiting += 1;
        let client = from.client;
        self.busy.push(connection);
        self.touch(connection, now);
        Ok(Some((client, query)))
    }

    /// Takes an answer to be sent by [`Self::write`].
    pub(super) fn queue(&mut self, connection: u64, message: &[u8]) -> Result<(), Over> {
        let Some(to) = self.connections.get_mut(&connection) else { return Ok(()) };
        to.waiting = to.waiting.saturating_sub(1);
        if to.output.len() + message.len() > OUTPUT_MAX {
            return Err(Over);
        }
        // Never longer than a length can say: the server keeps to it.
        to.output.extend_from_slice(&(message.len() as u16).to_be_bytes());
        to.output.extend_from_slice(message);
        self.busy.push(connection);
        Ok(())
    }

    /// One connection with something to do.
    pub(super) fn next_busy(&mut self) -> Option<u64> {
        self.busy.pop()
    }

    /// Sends what the client takes.
    pub(super) fn write(&mut self, poller: &Poller, connection: u64, now: Instant) -> Result<(), Over> {
        let Some(to) = self.connections.get_mut(&connection) else { return Ok(()) };
        let had_output = !to.output.is_empty();
        to.write()?;
        if to.has_ended && to.output.is_empty() && to.waiting == 0 {
            return Err(Over);
        }
        to.await_next(poller, connection)?;
        if had_output && to.output.is_empty() {
            self.touch(connection, now);
        }
        Ok(())
    }

    /// When [`Self::idlest`] is to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.idle.first().map(|&(active, _)| active + IDLE)
    }

    /// A connection that has been idle too long.
    pub(super) fn idlest(&self, now: Instant) -> Option<u64> {
        self.idle.first().filter(|&&(active, _)| active + IDLE <= now).map(|&(_, connection)| connection)
    }

    fn touch(&mut self, connection: u64, now: Instant) {
        let Some(touched) = self.connections.get_mut(&connection) else { return };
        let before = std::mem::replace(&mut touched.active, now);
        self.idle.remove(&(before, connection));
        self.idle.insert((now, connection));
        if let Some(set) = self.idle_each.get_mut(&touched.address()) {
            set.remove(&(before, connection));
            set.insert((now, connection));
        }
    }
}

impl Connection {
    fn address(&self) -> Address {
        (self.client.network, self.client.address.ip())
    }

    fn write(&mut self) -> Result<(), Over> {
        let mut at = 0;
        while at < self.output.len() {
            match send(&self.fd, &self.output[at..], SendFlags::NOSIGNAL) {
                Ok(sent) => at += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return Err(Over),
            }
        }
        self.output.drain(..at);
        Ok(())
    }

    /// Tells the kernel what is awaited now.
    fn await_next(&mut self, poller: &Poller, connection: u64) -> Result<(), Over> {
        let mut interest = EventFlags::empty();
        let takes_queries = self.output.len() <= OUTPUT_ENOUGH && self.input.len() < 2 + QUERY_MAX;
        interest.set(EventFlags::IN, !self.has_ended && takes_queries);
        interest.set(EventFlags::OUT, !self.output.is_empty());
        if interest != self.interest {
            poller.change(self.fd.as_fd(), Token::Client(connection), interest).map_err(|_| Over)?;
            self.interest = interest;
        }
        Ok(())
    }
}

/// One more client that waits to be accepted; `None` when there is none.
pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<Option<(OwnedFd, std::net::SocketAddr)>, Errno> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    match acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok((fd, address)) => Ok(address.and_then(|address| Some((fd, address.try_into().ok()?)))),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}
