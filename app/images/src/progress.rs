//! What is told while an image comes in.

use crate::Digest;

/// Listens. Called from several threads at once, often; must not block for long.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A registry is about to be asked for this name: Podman's `Trying to pull NAME...`.
    Trying(&'a str),
    /// A layer is about to be copied; its compressed size in bytes, when known.
    LayerBegun(&'a Digest, Option<u64>),
    /// So many bytes of the layer, in all, have come.
    LayerRead(&'a Digest, u64),
    /// The layer is whole and its digest right.
    LayerDone(&'a Digest),
    /// The layer is here already.
    LayerPresent(&'a Digest),
    /// The configuration is about to be copied.
    Configuration(&'a Digest),
    /// The image is about to be recorded.
    Recording,
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn event(&self, _: Event<'_>) {}
}
