//! The relay of an ordinary user's containers: their way to the outside, and the outside's to their ports.
//!
//! ```text
//!            the host's namespace            │            the relay's namespace (rns)
//!                                            │
//!   command ──relay.sock──> control          │   bridges, veths ── containers
//!                             │ Book, ports  │        │
//!   outside <── sockets ── outbound ─────────┼── TUN pwrelay, transparent listeners      containers' TCP
//!   clients ──> listeners ───────────────────┼── published ── transparent sockets        TCP to published ports
//!   outside <── sockets (by `outside`) ──────┼── datagrams ── transparent sockets        UDP, ICMP echo
//! ```
//!
//! **How it works.** The kernel runs TCP on both sides: a connection of a container ends in a socket of the relay that
//! has the remote's address, and its bytes go on by an ordinary socket of the host. The first SYN is held until that
//! one is connected, so the container learns what the host learns: refused, unreachable, or nothing. To a published
//! port's container the client appears as itself. See `tcp/mod.rs`, `udp.rs`, and `table.rs` for how packets get here.
//!
//! **Invariants.** Nothing is kept that the store does not have: a relay that was killed is started again and told
//! again. Memory and descriptors are bounded for each container and in all; what is above that is not begun. The host's loopback is reached by nobody who may not.
//!
//! **Limits.** Urgent data, TCP options and TTL end at the relay. A client of a published port is accepted before the
//! container is asked, and gets a reset when nobody listens there.
//!
//! **Start reading** at [`relay_main`], then `tcp/outbound.rs`.

pub mod book;
mod control;
mod icmp;
pub mod outside;
pub mod place;
mod table;
pub mod tcp;
pub mod udp;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};

use engine::relay_client::{Answer, Order, RELAY_NAME};
use linux::file::{Durability, write_atomic};
use linux::{NetNs, PacketListener, Packets, ProcessRef};

use book::Book;
use control::{Control, Parts};
use outside::Outside;
use place::Place;
use relay_core::flows::Limits;
use tcp::{Outbound, Published, Share};
use udp::Datagrams;

/// Where the host's name servers are.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where they are when that names the stub of systemd-resolved.
const STUBS_SERVERS: &str = "/run/systemd/resolve/resolv.conf";

/// What `main` runs when its own name is [`RELAY_NAME`]. Returns the process's exit code.
pub fn relay_main() -> i32 {
    // Started as /proc/self/exe, it would be shown as `exe`; nothing depends on the name.
    let _ = linux::process::set_name(RELAY_NAME);
    let Ok(first) = first_conversation() else {
        // Somebody has called it so by hand.
        return 1;
    };
    let started = order().and_then(|order| {
        log_to(&order.log);
        start(&order)
    });
    let served = match started {
        Ok((mut control, listener)) => control.serve(&listener, first),
        Err(error) => {
            tracing::error!(%error, "the relay cannot start");
            let answer = serde_json::to_vec(&Answer::Failed(error.to_string()));
            // Whoever started us may have gone already.
            let _ = answer.map(|answer| first.send(&answer, None));
            return 1;
        }
    };
    match served {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the relay ends");
            1
        }
    }
}

fn first_conversation() -> io::Result<Packets> {
    let packets = Packets::from_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    packets.wait_for_ever()?;
    Ok(packets)
}

fn order() -> io::Result<Order> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    serde_json::from_str(&argument).map_err(|error| io::Error::other(format!("the relay's order: {error}")))
}

/// Everything is in place when this returns: packets of containers are taken.
fn start(order: &Order) -> io::Result<(Control, PacketListener)> {
    let descriptors = linux::fds::raise_limit()?;
    let limits = udp::limits(descriptors);
    // A flow has two of them.
    let share = Share::start(descriptors, 2 * limits.all)?;
    let outside = Outside::here()?;
    let book = Book::new(outside.clone(), Path::new(RESOLV_CONF), Path::new(STUBS_SERVERS));
    let namespace = NetNs::open(&order.namespace)?;
    let inside = inside(namespace, order.mtu, outside.clone(), book.clone(), share.clone(), limits)?;
    let datagrams = Arc::new(OnceLock::from(inside.datagrams));
    let outbound = Outbound::start(inside.tun, inside.listeners, book.clone(), share, Arc::clone(&datagrams))?;
    let listener = listen(order)?;
    let parts = Parts { book, outside, outbound, published: inside.published, datagrams };
    Ok((Control::new(parts), listener))
}

/// What lives in the relay's namespace.
struct Inside {
    tun: Arc<linux::Tun>,
    listeners: [std::os::fd::OwnedFd; 2],
    published: Published,
    datagrams: Datagrams,
}

/// Makes the relay's namespace ready and starts the loops that live there, by a thread that goes into it and ends.
fn inside(
    namespace: NetNs,
    mtu: u32,
    outside: Outside,
    book: Book,
    share: Share,
    limits: Limits,
) -> io::Result<Inside> {
    let make = move || {
        namespace.enter()?;
        let place = Place::make(mtu)?;
        let tun = Arc::clone(&place.tun);
        let datagrams = Datagrams::start(outside, Arc::clone(&tun), book, limits)?;
        place.open(datagrams.port)?;
        let published = Published::start(share)?;
        Ok(Inside { tun, listeners: place.listeners, published, datagrams })
    };
    let (done, wait) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("inside".to_owned()).spawn(move || done.send(make()))?;
    wait.recv().map_err(|_| io::Error::other("the thread in the relay's namespace has ended"))?
}

/// From now on commands find us.
fn listen(order: &Order) -> io::Result<PacketListener> {
    let me = serde_json::to_vec(&ProcessRef::me()?)?;
    write_atomic(&order.pid, &me, 0o600, Durability::ThisBoot)?;
    PacketListener::bind(&order.socket)
}

/// Errors and warnings go to the file at `path`, for as long as it can be written.
fn log_to(path: &Path) {
    let Ok(file) = std::fs::OpenOptions::new().create(true).append(true).open(path) else { return };
    let told = tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(file)).with_target(false);
    // Only the first subscriber counts.
    let _ = told.with_max_level(tracing::Level::INFO).try_init();
}
