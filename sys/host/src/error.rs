//! What can go wrong while looking and while applying.

use std::fmt;
use std::io;
use std::path::PathBuf;

use netlink::Errno;
use plan::{Conflict, Key, Op};

/// Why the kernel could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A sandbox's file keeps the namespace podwire itself or process 1 runs in. Nothing was touched.
    #[error("{path} keeps the host's own network namespace, which is nobody's sandbox")]
    OwnNamespace {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused a question.
    #[error("could not look at {what}: {cause}")]
    Io {
        /// What was looked at.
        what: String,
        /// Why not.
        cause: io::Error,
    },
}

impl HostError {
    pub(crate) fn io(what: impl fmt::Display, cause: io::Error) -> Self {
        Self::Io { what: what.to_string(), cause }
    }
}

/// Why a plan stopped, and what that left behind.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The caller may not do this. Nothing was changed.
    #[error("not permitted to {}: {need} is needed", Step(op))]
    Denied {
        /// The op that was refused.
        op: Box<Op>,
        /// The capability.
        need: &'static str,
    },
    /// Somebody else's object is in the way, or took the place since it was looked at. Nothing was changed.
    #[error(transparent)]
    Conflict(Conflict),
    /// The kernel said no. The steps before `op` were taken back.
    #[error("could not {}: {errno}", Step(op))]
    Refused {
        /// The op that was refused.
        op: Box<Op>,
        /// Why, in the kernel's words where it has some.
        errno: Errno,
    },
    /// As above, but taking back failed too: these objects remain.
    #[error("could not {}: {errno}; could not be taken back: {}", Step(op), Keys(remain))]
    Stuck {
        /// The op that was refused.
        op: Box<Op>,
        /// Why.
        errno: Errno,
        /// What is still as the plan's first steps made it.
        remain: Vec<Key>,
    },
}

impl ApplyError {
    /// The op that was refused; none for a conflict.
    pub fn op(&self) -> Option<&Op> {
        match self {
            Self::Denied { op, .. } | Self::Refused { op, .. } | Self::Stuck { op, .. } => Some(op),
            Self::Conflict(_) => None,
        }
    }
}

/// An op as part of a sentence.
struct Step<'a>(&'a Op);

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Op::Create(object) => write!(f, "create {object}"),
            Op::Change { from, to } => write!(f, "change {from} to {to}"),
            Op::Remove(object) => write!(f, "remove {object}"),
        }
    }
}

struct Keys<'a>(&'a [Key]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, key) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            match key {
                Key::Sandbox(name) => write!(f, "{comma}netns {name}")?,
                Key::Sysctl(place, path) => write!(f, "{comma}{place}sysctl {}", path.replace('/', "."))?,
                Key::Ruleset => write!(f, "{comma}the tables inet podwire and bridge podwire")?,
                Key::Element(table, set, _) => write!(f, "{comma}an element of {table} {set}")?,
                Key::Link(name) => write!(f, "{comma}link {name}")?,
                Key::Inside(sandbox, name) => write!(f, "{comma}[{sandbox}] link {name}")?,
                Key::Neighbour(place, link, ip) => write!(f, "{comma}{place}neigh {ip} dev {link}")?,
                Key::Address(place, link, ip) => write!(f, "{comma}{place}addr {ip} dev {link}")?,
                Key::Route(place, destination, _) => write!(f, "{comma}{place}route {destination}")?,
            }
        }
        Ok(())
    }
}
