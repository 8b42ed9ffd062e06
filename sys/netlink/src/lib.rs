//! Netlink: bytes in both directions, one socket per protocol and namespace, one send per batch.
//!
//! ```text
//!   rtnetlink::create_bridge(…) ─┐                       ┌─> Ok(())
//!   rtnetlink::add_address(…)   ─┼─> Socket::batch ──────┼─> Ok(())
//!   rtnetlink::add_route(…)     ─┘   one sendmsg         └─> Err(EEXIST, "Route already exists")
//!
//!   rtnetlink::link_named("podman0") ──> Socket::get  ──> Option<Reply> ──> Link::read
//!   conntrack::dump(…)               ──> Socket::dump ──> [Reply, …]    ──> Attrs
//!
//!   what others do                   ──> News::read   ──> [Event, …]
//! ```
//!
//! **How it works.** A [`Message`] is a header, fixed bytes and attributes; builders append and pad. A
//! [`Socket`] sends one or many messages in one `sendmsg` and attributes the kernel's answers to them by
//! sequence number. The kernel handles all messages of a send before the call returns (netlink_rcv_skb in
//! net/netlink/af_netlink.c, nfnetlink_rcv in net/netfilter/nfnetlink.c), so a process killed meanwhile
//! leaves either all or none of a send done, and every answer can be read without waiting.
//!
//! **Invariants.** No bytes from the kernel can make a reader panic: everything short or odd is skipped or
//! an error. An interrupted dump (NLM_F_DUMP_INTR) is asked for again. No `unsafe`: descriptors are
//! owned from their first moment.
//!
//! **Limits.** rtnetlink does not stop at the first refused message of a send: callers must look at every
//! answer. Only what podwire needs of the protocols is here.
//!
//! **Start reading** at [`Socket`], then [`rtnetlink`].

pub mod conntrack;
mod departure;
mod errno;
#[doc(hidden)]
pub mod fuzzing;
mod message;
mod news;
pub mod rtnetlink;
mod socket;

pub use departure::Departure;
pub use errno::Errno;
pub use message::{Attrs, Message, Reply};
pub use news::{Event, News};
pub use socket::{Protocol, Socket};

/// `NLM_F_*` and `NLMSG_*` of include/uapi/linux/netlink.h.
pub mod flags {
    /// Added to every message by [`crate::Message::new`].
    pub const REQUEST: u16 = 0x1;
    /// Set on each part of an answer in several parts.
    pub const MULTI: u16 = 0x2;
    /// Answer also when all went well.
    pub const ACK: u16 = 0x4;
    /// In an answer: the dump saw a change halfway and may be inconsistent.
    pub const DUMP_INTR: u16 = 0x10;
    /// All there is (`NLM_F_ROOT | NLM_F_MATCH`).
    pub const DUMP: u16 = 0x300;
    /// For NEW requests: replace what is there.
    pub const REPLACE: u16 = 0x100;
    /// For NEW requests: refuse when it is there.
    pub const EXCL: u16 = 0x200;
    /// For NEW requests: create it when it is not there.
    pub const CREATE: u16 = 0x400;
    /// For NEW requests: add at the end.
    pub const APPEND: u16 = 0x800;
}
