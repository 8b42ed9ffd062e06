//! Images: from registry bytes and archives to a root file system's layers on disk.
//!
//! ```text
//!   alpine ──registries.conf──> docker.io/library/alpine:latest
//!              pull │ registry: token · index · manifest · config        load │ docker-archive, oci-archive
//!                   v                                                         v
//!            blobs ──hash── gunzip ──hash── unpack ──> <root>/overlay/<n>/diff      import │ one tarball
//!                                                            │ every digest right? synced?
//!                                                            v
//!                                      store, one transaction: layers, image, names
//! ```
//!
//! **How it works.** Bytes are hashed while they are unpacked, several layers at once; directories of layers
//! have numbers that were never used before. Only when all layers of an image are whole, right and on disk
//! does one transaction make them layers, the image an image, and its name a name.
//!
//! **Invariants.** What is recorded is complete and has the digests its manifest promised, also after a kill or a
//! power cut; what is not recorded is nobody's, and [`Images::leftovers`] removes it. Nothing of an archive
//! reaches a path outside its layer. No byte of a stranger makes us panic or take unbounded memory or disk.
//!
//! **Limits.** Linux images; gzip, zstd or no compression. No signatures, mirrors or credential helpers; no
//! `push` and `save` yet.
//!
//! **Start reading** at [`Images`], then `install.rs`.

mod archive;
mod auth;
mod digest;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod images;
mod import;
mod install;
mod layer;
mod load;
mod manifest;
mod platform;
mod progress;
mod pull;
mod reference;
mod registries;
mod registry;
mod shift;
#[cfg(test)]
mod testing;
mod tree;

pub use digest::Digest;
pub use error::{ImageError, Result};
pub use image::Image;
pub use images::{Images, Removed};
pub use import::{Change, Import};
pub use layer::Limits;
pub use load::Input;
pub use platform::Platform;
pub use progress::{Event, Progress, Quiet};
pub use pull::PullOptions;
pub use reference::{Name, Reference, ShortName, Version};
pub use registries::{Machine, Registries};
pub use shift::{highest_owner, mapped_layer};
