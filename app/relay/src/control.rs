//! What commands say to the relay, and what it then does.
//!
//! ```text
//!   Hold ──> ports bound outside, the conversation's           (nobody connects yet)
//!   Put  ──> the container's: listened at, lead to it; what it has no more ends; settings into the Book
//!   Remove ─> Put of nothing
//! ```
//!
//! One thread, one request at a time: who talks holds the lock of the relay's namespace anyway.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use engine::relay_client::{Answer, Relayed, Request};
use linux::{PacketListener, Packets};
use model::{ContainerId, HostAddress, PortMapping, Protocol};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::book::Book;
use crate::lookout::Lookout;
use crate::outside::Outside;
use crate::table::Taken;
use crate::tcp::{Door, Outbound, Published};
use crate::udp::{self, Datagrams, ListenerId};

/// Conversations at a time; more are ended at once.
const CONVERSATIONS_MAX: usize = 64;

/// When nobody can be accepted, for want of descriptors or memory, it is tried again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The parts of the relay.
pub(crate) struct Parts {
    pub(crate) book: Book,
    pub(crate) outside: Outside,
    pub(crate) outbound: Outbound,
    pub(crate) published: Published,
    pub(crate) datagrams: Arc<std::sync::OnceLock<Datagrams>>,
}

impl Parts {
    /// Waits until the thread of each has answered.
    pub(crate) fn are_at_work(&self) -> io::Result<()> {
        self.outside.run(|| Ok(()))?;
        self.outbound.forget(Vec::new())?;
        self.published.forget(Vec::new())?;
        self.datagrams()?.count().map(drop)
    }

    fn datagrams(&self) -> io::Result<&Datagrams> {
        self.datagrams.get().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Everything that is served.
pub(crate) struct Control {
    parts: Parts,
    containers: HashMap<ContainerId, Served>,
    taken: BTreeSet<Taken>,
    numbers: Numbers,
}

#[derive(Default)]
struct Served {
    relayed: Option<Relayed>,
    ports: HashMap<PortKey, Serving>,
}

/// On the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PortKey {
    host: HostAddress,
    port: u16,
    protocol: Protocol,
}

/// A port that is served: by which listeners, and the container's.
struct Serving {
    listeners: Vec<Listener>,
    port: u16,
}

enum Listener {
    Tcp(u32),
    Udp(ListenerId),
}

/// Ports that a conversation holds.
type Held = HashMap<(ContainerId, PortKey), Vec<OwnedFd>>;

/// Why something was not done.
enum Refusal {
    Busy { mapping: PortMapping, port: u16, error: io::Error },
    Failed(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("the relay: {error}"))
    }
}

impl Control {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, containers: HashMap::new(), taken: BTreeSet::new(), numbers: Numbers::default() }
    }

    /// Talks with whoever comes, until somebody says that it is over.
    pub(crate) fn serve(&mut self, listener: &PacketListener, first: Packets) -> io::Result<()> {
        let mut conversations = vec![(first, Held::new())];
        let mut gate = Gate { listener, reserve: None, is_shut: false };
        loop {
            for number in gate.ready(&conversations)? {
                let Some(number) = number else {
                    let packets = gate.accept().filter(|_| conversations.len() < CONVERSATIONS_MAX);
                    conversations.extend(packets.map(|packets| (packets, Held::new())));
                    continue;
                };
                let (packets, held) = &mut conversations[number];
                match self.answer(packets, held) {
                    Ok(Goes::On) => {}
                    // In its place comes the last one, which has had its turn: numbers come from the end.
                    Ok(Goes::Ends) | Err(_) => drop(conversations.swap_remove(number)),
                    Ok(Goes::Away) => return Ok(()),
                }
            }
        }
    }

    fn answer(&mut self, packets: &Packets, held: &mut Held) -> io::Result<Goes> {
        let Some((message, fd)) = packets.receive()? else { return Ok(Goes::Ends) };
        let request = serde_json::from_slice(&message);
        let leaves = matches!(request, Ok(Request::Leave));
        let greets = matches!(request, Ok(Request::Hello));
        let done = match request {
            Ok(Request::Lookout) => self.follow(fd),
            Ok(request) => self.handle(request, held),
            Err(error) => Err(Refusal::Failed(format!("what the relay was told: {error}"))),
        };
        let answer = match done {
            Ok(()) if greets && self.parts.book.is_alone() => Answer::Alone,
            Ok(()) => Answer::Done,
            Err(Refusal::Busy { mapping, port, error }) => {
                Answer::Busy { mapping, port, errno: error.raw_os_error().unwrap_or(libc::EIO) }
            }
            Err(Refusal::Failed(why)) => Answer::Failed(why),
        };
        packets.send(&serde_json::to_vec(&answer)?, None)?;
        Ok(if leaves { Goes::Away } else { Goes::On })
    }

    fn follow(&self, lookout: Option<OwnedFd>) -> Result<(), Refusal> {
        let Some(fd) = lookout else { return Err(Refusal::Failed("a lookout comes with its socket".to_owned())) };
        self.parts.book.follow(Lookout::of(Packets::from_fd(fd)?));
        Ok(())
    }

    fn handle(&mut self, request: Request, held: &mut Held) -> Result<(), Refusal> {
        match request {
            Request::Hello | Request::Leave | Request::Lookout => Ok(()),
            Request::Hold { container, ports } => self.hold(container, &ports, held),
            Request::Put { container, relayed } => self.put(container, *relayed, held),
            Request::Remove { container } => {
                held.retain(|(of, _), _| *of != container);
                self.remove(container)
            }
        }
    }

    fn hold(&self, container: ContainerId, ports: &[PortMapping], held: &mut Held) -> Result<(), Refusal> {
        let mut new = Held::new();
        let has = |key: &PortKey| self.containers.get(&container).is_some_and(|served| served.ports.contains_key(key));
        for (mapping, key, _) in keys(ports) {
            if !has(&key) && !held.contains_key(&(container, key)) {
                new.insert((container, key), self.bind(mapping, key)?);
            }
        }
        held.extend(new);
        Ok(())
    }

    /// Sockets on a port outside.
    fn bind(&self, mapping: PortMapping, key: PortKey) -> Result<Vec<OwnedFd>, Refusal> {
        let busy = |error| Refusal::Busy { mapping, port: key.port, error };
        match key.protocol {
            // This thread is outside.
            Protocol::Tcp => linux::ports::hold(key.host, key.port, Protocol::Tcp).map_err(busy),
            Protocol::Udp => {
                let addresses = match key.host {
                    HostAddress::Ip(ip) => vec![ip],
                    HostAddress::Any => vec![IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])],
                };
                let bound = addresses.into_iter().map(|ip| {
                    match udp::bind_outside(&self.parts.outside, SocketAddr::new(ip, key.port)) {
                        // A host without IPv6.
                        Err(error) if key.host == HostAddress::Any && is_without_family(&error) => Ok(None),
                        done => done.map(Some),
                    }
                });
                Ok(bound.collect::<io::Result<Vec<_>>>().map_err(busy)?.into_iter().flatten().collect())
            }
            Protocol::Sctp => Err(Refusal::Failed(format!("the relay cannot pass on SCTP ({mapping})"))),
        }
    }

    fn put(&mut self, container: ContainerId, relayed: Relayed, held: &mut Held) -> Result<(), Refusal> {
        // All that can fail comes first.
        self.hold(container, &relayed.ports, held)?;
        let mut served = self.containers.remove(&container).unwrap_or_default();
        let done = self.serve_ports(container, &relayed, &mut served, held);
        let before = served.relayed.replace(relayed);
        self.containers.insert(container, served);
        self.follow_settings(before.as_ref(), container)?;
        done
    }

    fn serve_ports(
        &mut self,
        container: ContainerId,
        relayed: &Relayed,
        served: &mut Served,
        held: &mut Held,
    ) -> Result<(), Refusal> {
        let wished: HashMap<PortKey, u16> = keys(&relayed.ports).map(|(_, key, port)| (key, port)).collect();
        let gone: Vec<PortKey> = served.ports.keys().filter(|key| !wished.contains_key(key)).copied().collect();
        for key in gone {
            if let Some(serving) = served.ports.remove(&key) {
                self.hide(serving)?;
            }
        }
        let is_elsewhere = served
            .relayed
            .as_ref()
            .is_none_or(|old| (&old.targets, &old.gateways) != (&relayed.targets, &relayed.gateways));
        for (key, port) in wished {
            let door = Door {
                targets: relayed.targets.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
                gateways: relayed.gateways.clone(),
            };
            match served.ports.get_mut(&key) {
                Some(serving) if is_elsewhere || serving.port != port => {
                    serving.port = port;
                    self.redirect(serving, &door)?;
                }
                Some(_) => {}
                None => {
                    let sockets = held.remove(&(container, key)).unwrap_or_default();
                    served.ports.insert(key, self.show(key.protocol, port, sockets, &door)?);
                }
            }
        }
        Ok(())
    }

    fn show(&mut self, protocol: Protocol, port: u16, sockets: Vec<OwnedFd>, door: &Door) -> io::Result<Serving> {
        let mut listeners = Vec::new();
        for socket in sockets {
            let number = self.numbers.next();
            listeners.push(match protocol {
                Protocol::Udp => {
                    let published =
                        udp::Published { socket, targets: door.targets.clone(), gateways: door.gateways.clone() };
                    Listener::Udp(self.parts.datagrams()?.serve(number, published)?)
                }
                Protocol::Tcp | Protocol::Sctp => {
                    crate::tcp::prepare(&socket)?;
                    rustix::io::ioctl_fionbio(&socket, true)?;
                    linux::ports::listen_held(&socket, BACKLOG)?;
                    self.parts.published.serve(number, socket, door.clone())?;
                    Listener::Tcp(number)
                }
            });
        }
        Ok(Serving { listeners, port })
    }

    fn redirect(&mut self, serving: &mut Serving, door: &Door) -> io::Result<()> {
        for listener in &mut serving.listeners {
            match listener {
                Listener::Tcp(number) => self.parts.published.redirect(*number, door.clone())?,
                Listener::Udp(listener) => {
                    self.parts.datagrams()?.redirect(*listener, door.targets.clone(), door.gateways.clone())?;
                }
            }
        }
        Ok(())
    }

    fn hide(&mut self, serving: Serving) -> io::Result<()> {
        for listener in serving.listeners {
            match listener {
                Listener::Tcp(number) => {
                    self.parts.published.hide(number)?;
                    self.numbers.free(number);
                }
                Listener::Udp(listener) => self.parts.datagrams()?.hide(listener)?,
            }
        }
        Ok(())
    }

    fn remove(&mut self, container: ContainerId) -> Result<(), Refusal> {
        let Some(served) = self.containers.remove(&container) else { return Ok(()) };
        for (_, serving) in served.ports {
            self.hide(serving)?;
        }
        self.follow_settings(served.relayed.as_ref(), container)
    }

    /// After a container has other addresses and settings than `before`.
    fn follow_settings(&mut self, before: Option<&Relayed>, container: ContainerId) -> Result<(), Refusal> {
        let all = self.containers.values().filter_map(|served| served.relayed.as_ref());
        let mut book = HashMap::new();
        let mut taken = BTreeSet::new();
        for relayed in all {
            let meaning = Arc::new(relayed.settings.clone());
            let others = [&meaning.loopback, &meaning.host, &meaning.dns].into_iter().flatten();
            let pairs = others.flat_map(|to| relayed.addresses.iter().map(|from| (*from, *to)));
            taken.extend(pairs.filter(|(from, to)| from.is_ipv4() == to.is_ipv4()));
            book.extend(relayed.addresses.iter().map(|ip| (*ip, Arc::clone(&meaning))));
        }
        self.parts.book.put(book);
        let (add, remove) = (&taken - &self.taken, &self.taken - &taken);
        self.parts.published.take(add.into_iter().collect(), remove.into_iter().collect())?;
        self.taken = taken;
        let now = self.containers.get(&container).and_then(|served| served.relayed.as_ref());
        let others = before.filter(|before| now.is_none_or(|now| now.settings != before.settings));
        let of_before = before.map(|before| before.addresses.as_slice()).unwrap_or_default();
        let stays = |ip: &&IpAddr| others.is_some() || now.is_none_or(|now| !now.addresses.contains(ip));
        let ended: Vec<IpAddr> = of_before.iter().filter(stays).copied().collect();
        if !ended.is_empty() {
            self.parts.outbound.forget(ended.clone())?;
            self.parts.datagrams()?.forget(ended.clone())?;
        }
        let gone: Vec<IpAddr> =
            ended.into_iter().filter(|ip| now.is_none_or(|now| !now.addresses.contains(ip))).collect();
        if !gone.is_empty() {
            self.parts.published.forget(gone)?;
        }
        Ok(())
    }
}

/// What becomes of a conversation.
enum Goes {
    On,
    Ends,
    /// The whole relay.
    Away,
}

/// Where conversations begin.
struct Gate<'a> {
    listener: &'a PacketListener,
    /// A descriptor to be given up for a conversation when there is no other: connections of containers must not keep
    /// commands out.
    reserve: Option<OwnedFd>,
    /// Nobody can be accepted for a moment.
    is_shut: bool,
}

impl Gate<'_> {
    /// Who has something to say: `None` for a new conversation, else which one, the last first.
    fn ready(&mut self, conversations: &[(Packets, Held)]) -> io::Result<Vec<Option<usize>>> {
        if self.reserve.is_none() {
            self.reserve = self.listener.as_fd().try_clone_to_owned().ok();
        }
        let mut fds: Vec<PollFd<'_>> =
            conversations.iter().map(|(packets, _)| PollFd::from_borrowed_fd(packets.as_fd(), PollFlags::IN)).collect();
        let wanted = if self.is_shut { PollFlags::empty() } else { PollFlags::IN };
        fds.push(PollFd::from_borrowed_fd(self.listener.as_fd(), wanted));
        let again = Timespec { tv_sec: 0, tv_nsec: AGAIN.as_nanos() as i64 };
        match poll(&mut fds, self.is_shut.then_some(&again)) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            done => done?,
        };
        self.is_shut = false;
        let told = |(number, fd): (usize, &PollFd<'_>)| (!fd.revents().is_empty()).then_some(number);
        let numbers = fds.iter().enumerate().rev().filter_map(told);
        // A new conversation last, so that the numbers of the others stay what they are.
        let (new, old): (Vec<_>, Vec<_>) = numbers.partition(|number| *number == conversations.len());
        Ok(old.into_iter().map(Some).chain(new.into_iter().map(|_| None)).collect())
    }

    fn accept(&mut self) -> Option<Packets> {
        let mut tried = self.listener.accept();
        if matches!(&tried, Err(error) if is_want(error)) && self.reserve.take().is_some() {
            tried = self.listener.accept();
        }
        tried
            .inspect_err(|error| {
                tracing::warn!(%error, "nobody can talk to the relay for a moment");
                self.is_shut = is_want(error);
            })
            .ok()
    }
}

/// Is it one of descriptors or memory? Else it is about who came.
fn is_want(error: &io::Error) -> bool {
    let wants = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|errno| wants.contains(&errno))
}

fn keys(ports: &[PortMapping]) -> impl Iterator<Item = (PortMapping, PortKey, u16)> {
    ports.iter().flat_map(|mapping| {
        let to = mapping.container_port..=u16::MAX;
        let key = |port| PortKey { host: mapping.host, port, protocol: mapping.protocol };
        mapping.host_ports().zip(to).map(move |(port, to)| (*mapping, key(port), to))
    })
}

fn is_without_family(error: &io::Error) -> bool {
    [Some(libc::EAFNOSUPPORT), Some(libc::EADDRNOTAVAIL)].contains(&error.raw_os_error())
}

/// Numbers that are in nobody's use.
#[derive(Debug, Default)]
struct Numbers {
    last: u32,
    free: Vec<u32>,
}

impl Numbers {
    fn next(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }

    fn free(&mut self, number: u32) {
        self.free.push(number);
    }
}
