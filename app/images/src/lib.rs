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
//!
//!              commit │ upper directory ──pack──> as import, on the image's layers       export │ packed alone
//!
//!              diff + frame ──> archive, byte for byte ──gzip──> push │ registry        save │ archives, directories
//! ```
//!
//! **How it works.** Bytes are hashed while they are unpacked, several layers at once; directories of layers
//! have numbers that were never used before. Only when all layers of an image are whole, right and on disk
//! does one transaction make them layers, the image an image, and its name a name. What is not in a layer's files
//! is kept in its frame, so that its archive can be given away again with the same digest.
//!
//! **Invariants.** What is recorded is complete and has the digests its manifest promised, also after a kill or a
//! power cut; what is not recorded is nobody's, and [`Images::leftovers`] removes it. Nothing of an archive
//! reaches a path outside its layer. No byte of a stranger makes us panic or take unbounded memory or disk. What is
//! given away has the digests it came with.
//!
//! **Limits.** Linux images; gzip, zstd or no compression. No signatures.
//!
//! **Start reading** at [`Images`], then `install.rs` for what comes and `give.rs` for what goes.

mod access;
mod archive;
mod auth;
mod commit;
mod credential_program;
mod diff;
mod digest;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod give;
mod image;
mod images;
mod import;
mod install;
mod layer;
mod load;
mod login;
mod manifest;
mod names;
mod pack;
mod package;
mod parallel;
mod platform;
mod progress;
mod pull;
mod push;
mod reference;
mod registries;
mod registry;
mod search;
mod shift;
#[cfg(test)]
mod testing;
mod transport;
mod tree;
mod upload;

pub use access::Access;
pub use commit::Commit;
pub use diff::{Kind as DiffKind, diff, size_of};
pub use digest::Digest;
pub use error::{ImageError, Result};
pub use give::{Format, Packing, Wish};
pub use image::Image;
pub use images::{ImageUsage, Images, Removed};
pub use import::{Change, Import};
pub use layer::{Limits, unpack_plain};
pub use load::Input;
pub use login::{LoggedIn, Login, log_out_everywhere};
pub use pack::{Level, View, pack, pack_to_file};
pub use package::Layout;
pub use platform::Platform;
pub use progress::{Event, Progress, Quiet};
pub use pull::{Policy, PullOptions};
pub use push::{PushOptions, Save};
pub use reference::{Name, Reference, ShortName, Version};
pub use registries::{Machine, Registries};
pub use search::{Hit, Search};
pub use shift::{highest_owner, mapped_layer};
