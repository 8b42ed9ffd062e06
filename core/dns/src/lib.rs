//! The DNS server's machine: names of containers answered, other names forwarded, no I/O.
//!
//! ```text
//!   store ──> Directory ──Zones::new──> Arc<Zones> ──follow()──┐ swapped whole
//!                                                             v
//!   web 10.89.0.2 ──Event::Asked──> Server ── answer::local ──┬─> Output::Send   db 10.89.0.3, NODATA, NXDOMAIN …
//!   192.0.2.53 ─────Event::Answered──^  │                     └─> Flights ──> Output::Ask, Close    example.com
//!   timer ──────────Event::Tick─────────┘ deadline()               │ socket 7, id 0x3fa2, to 192.0.2.53
//!                                                                  └─> Output::Send (relayed, or SERVFAIL)
//! ```
//!
//! **How it works.** [`Zones`] is an immutable index: who asks (network and source address) decides which networks'
//! names are told, and which upstreams are asked for the rest. [`Server::handle`] answers a local name at once,
//! without a place in any table, so that no flood of outside names can stop it. Every other name becomes a flight:
//! one socket with a fresh id and, by the shell, a fresh port per try; a second upstream after half a second; one
//! answer to the client, whatever happens. An upstream that is silent or slow is passed over for a while.
//!
//! **Why an own codec.** We read one question and an OPT record, write A, AAAA, PTR and SOA, and relay foreign
//! answers as bytes after a walk that checks them: 300 lines without a copy or an allocation while reading. The
//! `domain` crate (the best there is) would bring octseq, bytes, time and a random generator of its own for the
//! same; hickory-proto is the oracle of tests/oracle.rs, and reads what tests/hostile.rs makes us say.
//!
//! **Invariants.** No panic on any bytes. Nothing is answered that isn't a query from inside the network's subnets.
//! A client that is only on internal networks causes no [`Output::Ask`], ever, not even for a query that was in
//! flight when its way out was taken. A UDP answer is never larger than the client said, nor than
//! [`message::UDP_PAYLOAD`]. Every Ask is ended by exactly one Close. A query taken gets exactly one answer, unless
//! its client went away. At most [`Limits::in_flight`] flights and twice as many sockets.
//!
//! **At the bounds.** A client that has all its flights: its oldest gets SERVFAIL when it has waited half a second
//! (its upstream is silent), else the new one gets SERVFAIL. All flights taken: the oldest of whoever has most gets
//! SERVFAIL, if that is more than the asker has. All sources in a network that are no members are one client.
//!
//! **Limits.** No cache: an answer is as fresh as the upstream's. EDNS options (cookies, client subnet) are not
//! passed on. No DNSSEC validation; AD of an upstream is relayed. Private addresses in outside answers are not
//! filtered. No zone transfers. The shell owns sockets: accepting, idle times, and lengths of TCP messages.
//!
//! **Start reading** at [`Server::handle`], then [`zones::Zones`], then `answer.rs`.

mod answer;
mod forward;
mod health;
pub mod message;
pub mod server;
mod table;
pub mod zones;

pub use forward::Socket;
pub use message::Transport;
pub use server::{Chance, Client, Counts, Event, Limits, Output, Server, Via};
pub use zones::{Directory, Member, Presence, Reach, ZoneNetwork, Zones};
