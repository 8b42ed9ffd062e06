//! Containers, images and networks as a library that never prints.
//!
//! ```text
//!   cli ──> Engine ──┬─ containers: create, start, stop, remove, exec, logs, inspect
//!                    ├─ networking: desired() ─> plan ─> journal ─> host::apply
//!                    ├─ images (crate)
//!                    └─ monitor: the process that stays with a container
//! ```
//!
//! **Start reading** at [`Engine`], then [`config::ContainerConfig`].

pub mod config;
pub mod error;

pub use error::{Error, Kind};
