//! Processes of ours beside commands (netd, the relay, the holder): how they are started, found and talked to.
//!
//! ```text
//!   start(NAME, order) ──> this binary again ─ argv[0] NAME, argv[1] the order as JSON, standard input ─┐
//!   find(path) ──────────> the socket it listens at ────────────────────────────────────────────────────┴─> Packets
//!                                                                                      say(…) ──> <── hear(…)
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use linux::{Packets, ProcessRef, Spawn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Who is at the other end, for error texts.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What follows when it has ended: where to look.
    pub(crate) hint: &'static str,
}

/// A call that starts this binary again under another name, with the other end of a conversation as its standard
/// input; nothing it prints is seen.
pub(crate) fn start(name: &str, order: &impl Serialize) -> io::Result<(Spawn, Packets)> {
    let (ours, theirs) = Packets::pair()?;
    let mut call = Spawn::ourselves(name);
    let command = call.command();
    command.arg(serde_json::to_string(order)?);
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    Ok((call, ours))
}

/// Whoever listens at `path`.
pub(crate) fn find(path: &Path, peer: &Peer) -> Result<Option<Packets>> {
    match Packets::connect(path) {
        Ok(packets) => Ok(Some(packets)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(e) => Err(Error::at(format!("cannot talk to {} at {}", peer.name, path.display()), e)),
    }
}

/// Who a process is that has written so to `path`, as JSON: it may be dead.
pub(crate) fn process(path: &Path) -> Option<ProcessRef> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Why a conversation does not go on.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) error: Error,
    /// Is it that the other side has ended?
    pub(crate) has_ended: bool,
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        broken.error
    }
}

pub(crate) fn say(packets: &Packets, peer: &Peer, message: &impl Serialize) -> Result<(), Broken> {
    let text = serde_json::to_vec(message).map_err(|e| Broken { error: Error::usage(e), has_ended: false })?;
    packets.send(&text, None).map_err(|e| cannot_talk(peer, e))
}

/// The next message, with the descriptor that came along.
pub(crate) fn hear<T: DeserializeOwned>(packets: &Packets, peer: &Peer) -> Result<(T, Option<OwnedFd>), Broken> {
    // Who ends without having read all we said leaves an error before his last words (unix_release_sock() in
    // net/unix/af_unix.c).
    let received = packets.receive().or_else(|e| match e.kind() {
        io::ErrorKind::ConnectionReset => packets.receive(),
        _ => Err(e),
    });
    let Some((text, fd)) = received.map_err(|e| cannot_talk(peer, e))? else {
        let error = Error::usage(format!("{} has ended{}", peer.name, peer.hint));
        return Err(Broken { error, has_ended: true });
    };
    let wrong = |e| Broken { error: Error::at(format!("what {} said", peer.name), e), has_ended: false };
    Ok((serde_json::from_slice(&text).map_err(wrong)?, fd))
}

fn cannot_talk(peer: &Peer, error: io::Error) -> Broken {
    let has_ended = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
    Broken { error: Error::at(format!("cannot talk to {}", peer.name), error), has_ended }
}
