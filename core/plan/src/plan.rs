//! From three sets of objects to ordered ops.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Key, Object};

/// One step: create, change or remove one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Nothing with this key is there yet.
    Create(Object),
    /// The same key with other properties.
    Change {
        /// As it is.
        from: Object,
        /// As it should be.
        to: Object,
    },
    /// It is there and ours.
    Remove(Object),
}

/// Ops in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// First to last.
    pub ops: Vec<Op>,
}

/// What the kernel has under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// An object as we could have made it. `ours`: it carries our mark, or lies in something that does.
    Object {
        /// As it is now.
        object: Object,
        /// Made by podwire, of any store.
        ours: bool,
    },
    /// Something of another kind: for example a dummy link with our bridge's name.
    Other {
        /// What it is, in a few words: `link podman0 type dummy`.
        what: String,
    },
}

/// What is in the kernel, of the keys that were asked about.
pub type Observed = BTreeMap<Key, Seen>;

/// Somebody else's object is where ours should be. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is in the way of {wanted}; see: {show}")]
pub struct Conflict {
    /// What we want there.
    pub wanted: Box<Object>,
    /// What is there.
    pub what: String,
    /// The command that shows it.
    pub show: String,
}

/// The ops that lead from `observed` to `desired`, given what our own creates made (`recorded`).
///
/// Objects that are neither desired nor recorded are not touched.
pub fn plan(desired: &[Object], recorded: &[Object], observed: &Observed) -> Result<Plan, Conflict> {
    let _ = (desired, recorded, observed);
    Ok(Plan::default())
}
