//! One constant nftables ruleset, and the set and map elements that make it mean something.
//!
//! ```text
//!                     table inet podwire                               table bridge podwire
//!   outside ──> raw ──> prerouting ──> forward ──> postrouting     member port ──> prerouting ──> forward
//!               │ 127/8,    │ dns…,       │ lanes       │ lan, hidden               │ macs          │ macs
//!               │ subnets   │ publish…    │ internal    │ outbound                  │ addr4, addr6  │
//!               v drop      v             v isolation   v masquerade                v drop          v drop
//!   container ─────────────────────────> input: ping, ND, names asked at the own gateway
//!   host process ──> output: dns…, publish… : dnat
//!
//!   network ──> network_elements()     container ──> port_elements()     -p ──> publish_elements()
//! ```
//!
//! **How it works.** [`rules()`] is the whole ruleset as a value: tables, sets, chains, rules, in a small
//! vocabulary whose `Display` is nft's syntax and which `sys/host` encodes for the kernel. It never depends on
//! what is published: networks, containers and ports are only elements, so that publishing one port costs the
//! same beside 10 and beside 10,000. [`version()`] is a digest of the text; another version is replaced.
//!
//! **Who is published where.** `publish*_any` are for every local address, `publish*` for one: from outside
//! only on the link that has it (I6). Single ports are in hash maps; a range whose ports are the same on both
//! sides is one interval (`*_range`), however long; a shifted range is one element per port.
//!
//! **Names.** A network's server listens at each gateway on a port of its own (`dns4`, `dns6`), so that nothing at
//! port 53 is in its way, on the host or published. A question to port 53 of the gateway it came in by is
//! translated there before published ports are looked at; the port itself, and other gateways', is closed.
//!
//! **No lies on the wire (I7).** A frame of a container's port passes with the port's MAC address, as ARP
//! sender too, and with the port's IPv4 or IPv6 source. A header the kernel cannot parse, IPv6 extension headers
//! walked to the last one, is dropped; so are router advertisements, redirects, neighbour advertisements of
//! another's address, DHCP servers, VLAN tags, bridge control frames and other protocols than ARP, IPv4, IPv6.
//!
//! **Invariants.** No rule sees traffic that neither comes from nor goes to a bridge of ours, save two: nothing
//! from outside carries a loopback address, and nobody outside speaks to or for our subnets. No marks are set; one is
//! asked for, the relay's ([`RELAY_MARK`]). Same input, same elements, in the same order.
//!
//! **Where a relay is the way out** (an ordinary user's networks), packets reach it as they are: nothing is hidden,
//! and ports are published by its sockets, not by elements ([`NetworkFirewall::relayed`]).
//!
//! **Limits.** `::1` and link-local IPv6 addresses cannot be translated to a container's. A port published on one
//! address that the host has on `lo` (an anycast address) is not reached from outside. A frame to LLDP's group
//! address is learned from before any rule (br_handle_frame in net/bridge/br_input.c): the bridge must be told
//! `no_linklocal_learn`. Multicast is not forwarded between networks. In a VRF, addresses are local to its own
//! table, which the kernel's `fib` asks only with a link: there no names are served, and ports published on every
//! address are reached by the host's other tables alone.
//!
//! **Start reading** at [`rules()`], in `ruleset.rs`.

mod elements;
pub mod rule;
mod ruleset;

pub use elements::{NetworkFirewall, network_elements, port_elements, publish_elements};
pub use rule::{
    Base, Chain, Family, FieldType, Hook, Is, Rule, Rules, Selector, Set, Statement, Symbol, TableRules, Value, Verdict,
};
pub use ruleset::{LINK_GROUP, RELAY_LINK, RELAY_MARK, rules, version};
