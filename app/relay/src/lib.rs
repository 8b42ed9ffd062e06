//! The relay of an ordinary user's containers: their way to the outside, and the outside's to their ports.
//!
//! ```text
//!            the host's namespace            │            the relay's namespace (rns)
//!                                            │
//!   command ──relay.sock──> control          │   bridges, veths ── containers
//!   resolv.conf ── lookout ──>│ Book, ports  │        │
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
//! again. The host's loopback is reached by nobody who may not. Once it serves it is in its cage (`cage.rs`): no file
//! system, no capability but of the two threads in the relay's namespace, few system calls. Only the lookout beside it
//! opens files, and that never sees what containers send.
//!
//! **At the bounds.** Memory and descriptors are bounded for each container and in all. A container that has all its
//! held SYNs or flows loses its own oldest for a new one, so many times a second; when all places are taken, who has
//! most loses one (`relay_core::{syns, flows}`). Connections above the bound are not begun. What a container may have
//! the relay read is rationed by the kernel, before it gets here (`table.rs`).
//!
//! **Limits.** Urgent data, TCP options and TTL end at the relay. A client of a published port is accepted before the
//! container is asked, and gets a reset when nobody listens there.
//!
//! **Start reading** at [`relay_main`], then `tcp/outbound.rs`.

pub mod book;
mod cage;
mod control;
mod icmp;
mod log;
pub mod lookout;
pub mod outside;
pub mod place;
mod table;
pub mod tcp;
pub mod udp;

pub use cage::try_in_cage;
pub use lookout::lookout_main;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use engine::relay_client::{Answer, Order, RELAY_NAME};
use linux::file::{Durability, write_atomic};
use linux::{NetNs, PacketListener, Packets, ProcessRef};

use book::Book;
use control::{Control, Parts};
use lookout::Lookout;
use outside::{Errands, Outside};
use place::Place;
use tcp::{Outbound, Published, Share};
use udp::Datagrams;

/// What `main` runs when its own name is [`RELAY_NAME`]. Returns the process's exit code.
pub fn relay_main() -> i32 {
    // Started as /proc/self/exe, it would be shown as `exe`; nothing depends on the name.
    let _ = linux::process::set_name(RELAY_NAME);
    // Before anything is open that it would hold on to.
    let lookout = Lookout::beside(Path::new(engine::RESOLV_CONF), Path::new(engine::RESOLVED_SERVERS));
    let Ok(first) = first_conversation() else {
        // Somebody has called it so by hand.
        return 1;
    };
    let started = lookout.and_then(|lookout| start(&order()?, lookout));
    let served = match started {
        Ok((mut control, listener)) => control.serve(&listener, first),
        Err(error) => {
            tracing::error!(%error, "the relay cannot start");
            let answer = serde_json::to_vec(&Answer::Failed(error.to_string()));
            // Else what has been said and not heard would overtake the answer, as a reset. Whoever started us may have
            // gone already.
            let _ = first.receive();
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
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(packets)
}

fn order() -> io::Result<Order> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    serde_json::from_str(&argument).map_err(|error| io::Error::other(format!("the relay's order: {error}")))
}

/// Everything is in place when this returns: packets of containers are taken, and the cage is closed.
///
/// First comes what needs files, then what starts threads, which inherit the cage of who starts them.
fn start(order: &Order, lookout: Lookout) -> io::Result<(Control, PacketListener)> {
    log::to(&order.log);
    cage::begin()?;
    let descriptors = linux::fds::raise_limit()?;
    let limits = udp::limits(descriptors);
    // Of this thread there are no others: it starts those that live in the relay's namespace, and ends.
    let (inside, namespace, mtu) = (Errands::start("inside")?, NetNs::open(&order.namespace)?, order.mtu);
    let place = inside.run(move || {
        namespace.enter()?;
        Place::make(mtu)
    })?;
    let listener = listen(order)?;
    cage::of_outside(order.socket.parent().unwrap_or(Path::new("/")))?;
    let outside = Outside::here()?;
    // A flow has two of them. Its loops are threads, too.
    let share = Share::start(descriptors, 2 * limits.all)?;
    let theirs = share.clone();
    let book = Book::new(outside.clone(), lookout);
    let (out, pages) = (outside.clone(), book.clone());
    let (place, datagrams, published) = inside.run(move || {
        cage::of_inside()?;
        let datagrams = Datagrams::start(out, Arc::clone(&place.tun), pages, limits)?;
        let firewall = place.open(datagrams.port)?;
        Ok((place, datagrams, Published::start(theirs, firewall)?))
    })?;
    let datagrams = Arc::new(OnceLock::from(datagrams));
    let outbound = Outbound::start(place.tun, place.listeners, book.clone(), share.clone(), Arc::clone(&datagrams))?;
    let parts = Parts { book, outside, outbound, published, datagrams };
    parts.are_at_work()?;
    cage::of_all(share.connections())?;
    Ok((Control::new(parts), listener))
}

/// From now on commands find us.
fn listen(order: &Order) -> io::Result<PacketListener> {
    let me = serde_json::to_vec(&ProcessRef::me()?)?;
    write_atomic(&order.pid, &me, 0o600, Durability::ThisBoot)?;
    PacketListener::bind(&order.socket)
}
