//! What the rootless relay decides, without any I/O.
//!
//! ```text
//!   TUN ─octets─> packet::Packet ──> a SYN, held until the host side is connected ──> the same octets back
//!                                └─> an echo request ──> a ping socket's payload
//!   what the host got ──> packet::reset · problem · datagram_problem · echo_reply ──octets──> TUN
//!   a flow begins ──> target::Targets::way ──> where on the host's side it goes, or why nowhere
//!                 └─> flows::Flows ──> its place, which one has to go for it, when it is over      (UDP, echo)
//! ```
//!
//! **How it works.** [`packet`] reads the headers of what comes from a TUN device and writes the few packets that
//! only we can write, for on all other ways the kernel does. [`target`] knows what of the host a container may reach.
//! [`flows`] and [`syns`] are the tables whose bounds keep one container from taking what is for all: at its bound it
//! loses its own oldest, and when all places are taken, who has most loses one.
//!
//! **Invariants.** The host's loopback is reached by no address but one that a container's settings name. No panic on any octets. Nothing is written that answers an answer: no reset to a reset, no ICMP
//! error about an ICMP error, none to a group or to nobody.
//!
//! **Start reading** at [`packet::Packet::parse`].

pub mod flows;
pub mod packet;
pub mod syns;
pub mod target;
