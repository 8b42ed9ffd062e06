//! TCP: connections that containers begin, and those to their published ports.
//!
//! ```text
//!   container ──SYN──> TUN ──> outbound: held ── connect ──> outside          a thread in the host's namespace
//!             <═══ kernel's handshake, with the listener ═══ released
//!   client ──> listener outside ──> published: bind(client's address), connect ──> container   … in the relay's
//! ```
//!
//! A socket belongs to the namespace of the thread that made it, and is used from any: so each of the two threads has
//! everything of its connections, and they share nothing but the bounds they were given.

mod outbound;
mod overflow;
mod published;
mod pump;
mod slots;
mod wires;

pub(crate) use wires::{KEEPALIVE, KEEPALIVE_AGAIN, KEEPALIVE_TIMES, UNPACED, UNSENT, prepare, prepare_inner};

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use overflow::Overflow;

pub use outbound::Outbound;
pub use published::{Door, Published};

/// How many connections there may be, and who keeps them. Above that a connection is not begun: the SYN is not heard,
/// a client outside gets a reset.
#[derive(Debug, Clone)]
pub struct Share {
    bounds: Bounds,
    counts: Counts,
    overflow: Arc<Overflow>,
}

impl Share {
    /// For two threads beside each other in a process that may have so many descriptors, `others` of which are not for
    /// connections. Starts the loops that keep what is too much for its own table.
    pub fn start(descriptors: u64, others: usize) -> std::io::Result<Self> {
        let (bounds, loops, room) = Bounds::of(descriptors, others);
        let counts = Counts::default();
        let overflow = Arc::new(Overflow::start(loops, room, &counts)?);
        Ok(Self { bounds, counts, overflow })
    }

    /// How many connections there may be.
    pub fn connections(&self) -> usize {
        self.bounds.all
    }

    /// May one more begin for a container?
    fn has_room(&self, container: IpAddr) -> bool {
        let (of_container, all) = self.counts.of(container);
        of_container < self.bounds.container && all < self.bounds.all
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// Connections of a container.
    container: usize,
    /// In all.
    all: usize,
    /// That one of the two threads keeps itself.
    own: usize,
    /// With those that one of them is making.
    places: usize,
}

impl Bounds {
    /// Connections that one of the two threads may be making.
    fn held(&self) -> usize {
        self.places - self.own
    }

    /// With the number of other loops, and how many connections each may have.
    fn of(descriptors: u64, others: usize) -> (Self, usize, usize) {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX / 2).saturating_sub(SPARE);
        // Of each of the two threads; a quarter is for what is being made.
        let places = (descriptors.saturating_sub(others) / 4).max(2);
        let (own, room) = ((places * 3 / 4).max(1), (descriptors / 2).max(1));
        let loops = CONNECTIONS.saturating_sub(2 * own).div_ceil(room).min(LOOPS_MAX);
        let all = (2 * own + loops * room).min(CONNECTIONS_MAX);
        // One container with all of its own leaves others something.
        (Self { container: all - all / 16, all, own, places }, loops, room)
    }
}

/// Connections by the container that they count for, in all loops together.
#[derive(Debug, Clone, Default)]
struct Counts(Arc<Mutex<(HashMap<IpAddr, usize>, usize)>>);

impl Counts {
    /// Of a container, and all.
    fn of(&self, container: IpAddr) -> (usize, usize) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.0.get(&container).copied().unwrap_or_default(), counts.1)
    }

    fn add(&self, container: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.0.entry(container).or_default() += 1;
        counts.1 += 1;
    }

    fn remove(&self, container: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.1 = counts.1.saturating_sub(1);
        if let Some(count) = counts.0.get_mut(&container) {
            *count -= 1;
            if *count == 0 {
                counts.0.remove(&container);
            }
        }
    }
}

/// Descriptors for everything else.
const SPARE: usize = 64;
/// So many there shall be room for, if loops of their own are what it takes.
const CONNECTIONS: usize = 32_768;
const LOOPS_MAX: usize = 4;
/// More connections than this are not counted on; each takes about 200 octets here, and the kernel's own.
const CONNECTIONS_MAX: usize = 200_000;

/// Starts a loop that ends with the process only: others bring back a relay that is gone, but not one of which a part
/// is.
fn spawn(name: &str, body: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    let told = name.to_owned();
    let body = move || {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        tracing::error!(thread = told, error = ?done.ok(), "a loop of the relay has ended");
        std::process::abort();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_fits_into_the_tables() {
        for descriptors in [100, 400, 1024, 4096, 20_000, 524_288, 1 << 30] {
            let others = descriptors / 4;
            let (bounds, loops, room) = Bounds::of(descriptors as u64, others);
            let main = 4 * bounds.places + others;
            assert!(main <= descriptors.max(others + 8) && 2 * room <= descriptors, "{descriptors}: {bounds:?}");
            assert!(bounds.container < bounds.all && loops <= LOOPS_MAX, "{bounds:?}");
        }
        // The least that the issue asks for, where a process may have no more than this.
        assert!(Bounds::of(20_000, 5_000).0.container >= 10_000);
        assert_eq!(Bounds::of(524_288, 8192).1, 0);
    }
}
