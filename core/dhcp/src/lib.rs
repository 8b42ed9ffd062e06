//! A DHCP client's machine: an address from the server on a network, kept for as long as it is needed; no I/O.
//!
//! ```text
//!   Begin::{Discover, Reboot, Resume} ──> Client ── Output::Frame ──> DISCOVER, REQUEST, DECLINE, RELEASE; ARP
//!   link ── Event::Frame ── frame::read ──>  │  ── Output::Datagram ─> REQUEST to the server that lent the address
//!   timer ─ Event::Tick ──────────────────>  │  ── Output::Leased ──> configure this
//!   user ── Event::Release ───────────────>  │  ── Output::Lost ────> configure nothing
//!
//!   Rebooting ─┐ NAK, silence              ┌─ somebody has it: DECLINE
//!   Selecting <┴───────────────────────────┴── Probing <─ ACK ─ Requesting <─ OFFER ─ Selecting
//!       ^ NAK, end                                └──> Bound ─T1─> Renewing ─T2─> Rebinding
//!       └──────────────────────────────────────────────────────────── ACK: Bound again
//! ```
//!
//! **How it works.** [`Client::handle`] takes in a frame or the passing of time, [`Client::poll`] says what is to be
//! done, [`Client::deadline`] when time matters next. The moments are of CLOCK_BOOTTIME: a lease ends while the
//! machine sleeps, too. Chance is an argument. A [`Lease`] is all that needs to be kept: with it a client goes on in
//! another process ([`Begin::Resume`]), its address after a reboot ([`Begin::Reboot`]).
//!
//! **Why own code.** The crates there are come with sockets and a runtime of their own (mozim: RELEASE without
//! ciaddr, no probe, nothing kept), or parse and no more.
//!
//! **Invariants.** No panic on any bytes. Nothing is believed but what repeats our transaction's number and MAC, and
//! after a server was chosen comes from that one. Every text that leaves is a type of `model`. Frames are sent at most
//! at the pace of RFC 2131 section 4.1 (4, 8, 16, 32, 64 s, a second more or less), whatever comes in; a server that
//! refuses, and a neighbour who contests, are asked again ever more slowly.
//!
//! **Where it departs from the RFCs.** A container cannot wait for seven seconds: two ARP probes in a quarter of a
//! second instead of RFC 5227's three in up to seven, and the first two seconds of use watched. The first DECLINE
//! is followed by a DISCOVER at once, ten seconds are waited after the next ones. No random wait at the start.
//! Offers are not collected: the first good one is taken; one from another server is the way out when the first
//! does not keep its word.
//!
//! **Limits.** Ethernet. No authentication (RFC 3118), no FORCERENEW, no INFORM.
//!
//! **Start reading** at [`Client::handle`], then `message.rs`.

mod client;
mod client6;
pub mod frame;
pub mod frame6;
mod lease;
pub mod message;
pub mod message6;

pub use client::{Begin, Chance, Client, Event, Identity, Loss, Output, Stage, Trouble};
pub use client6::{Begin6, Client6, Identity6, Lease6, Output6};
pub use lease::{Configuration, Lease, Moment, Route, SHORTEST, Term};
