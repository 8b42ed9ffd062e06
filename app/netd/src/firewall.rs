//! The socket that owns our tables.
//!
//! The tables of one network namespace are owned by one socket. Stores that share the namespace each have a netd,
//! and these share the socket: the first one opens it, the others ask for it; it is closed, and the tables
//! orphaned, when the last one ends.

use std::io;
use std::time::{Duration, Instant};

use engine::error::Result;
use engine::netd::Netd;
use host::Adopted;
use netlink::{Protocol, Socket};

use crate::control::Places;

/// The socket of another netd here, or a new one that owns the tables that are there.
pub(crate) fn take(places: &Places) -> Result<Socket> {
    let wrong = |e: io::Error| engine::Error::at("cannot own the firewall's tables", e);
    for path in places.neighbours().map_err(wrong)? {
        // One that is dying is no reason to fail: then the tables are orphans, or about to be.
        let lent = Netd::at(&path).and_then(|found| found.map(|mut netd| netd.firewall()).transpose());
        match lent {
            Ok(Some(socket)) => return Socket::from_fd(socket).map_err(wrong),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, path = %path.display(), "cannot share a firewall socket"),
        }
    }
    let mut socket = Socket::open(Protocol::Netfilter).map_err(wrong)?;
    match adopt(&mut socket).map_err(wrong)? {
        Adopted::Taken(owner) => tracing::warn!(owner, "another process owns the firewall's tables"),
        Adopted::Unsupported => tracing::warn!(
            "this kernel has no nf_tables owner and persist flags: what another program's flush removes is put back by \
             the watcher"
        ),
        adopted => tracing::debug!(?adopted, "firewall tables"),
    }
    Ok(socket)
}

/// How long a netd that was killed may take to be gone: it closes one socket after the other, and may have stopped
/// listening while it still owns the tables.
const DYING: Duration = Duration::from_secs(1);

fn adopt(socket: &mut Socket) -> io::Result<Adopted> {
    let begun = Instant::now();
    loop {
        match host::firewall_adopt(socket)? {
            Adopted::Taken(_) if begun.elapsed() < DYING => std::thread::sleep(Duration::from_millis(2)),
            adopted => return Ok(adopted),
        }
    }
}
