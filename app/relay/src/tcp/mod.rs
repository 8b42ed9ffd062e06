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
mod published;
mod pump;
mod slots;
mod wires;

pub(crate) use wires::{prepare, prepare_inner};

pub use outbound::Outbound;
pub use published::{Door, Published};

/// How many connections there may be. Above them a connection is not begun: the SYN is not heard, a client outside
/// gets a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of a container.
    pub container: usize,
    /// In all.
    pub all: usize,
}

impl Bounds {
    /// For each of two threads, of whose connections each has two descriptors of the `descriptors` that there may be.
    pub fn of(descriptors: u64) -> Self {
        let all = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(SPARE) / 2;
        let all = all.min(CONNECTIONS_MAX);
        // One container with all of its own leaves others something.
        Self { container: all - all / 16, all }
    }
}

/// Descriptors for everything else.
const SPARE: usize = 64;
/// More connections than this are not counted on; each takes about a kilobyte here, and the kernel's own.
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
