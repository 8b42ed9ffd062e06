//! What the rootless relay decides, without any I/O.
//!
//! ```text
//!   TUN ─octets─> packet::Packet ──> a SYN, held until the host side is connected ──> the same octets back
//!                                └─> an echo request ──> a ping socket's payload
//!   what the host got ──> packet::reset · problem · datagram_problem · echo_reply ──octets──> TUN
//! ```
//!
//! **How it works.** [`packet`] reads the headers of what comes from a TUN device and writes the few packets that
//! only we can write, for on all other ways the kernel does.
//!
//! **Invariants.** No panic on any octets. Nothing is written that answers an answer: no reset to a reset, no ICMP
//! error about an ICMP error, none to a group or to nobody.
//!
//! **Start reading** at [`packet::Packet::parse`].

pub mod flows;
pub mod packet;
pub mod syns;
pub mod target;
