//! Which subnet, which address next, and whether a new network may be what was asked for.
//!
//! ```text
//!   used subnets ──> choose_subnet4() ──> 10.89.0.0/24
//!   leases, last ──> address::choose() ─> 10.89.0.5
//!   a wish ────────> address::check() ──> or whose it is
//!   NetworkRequest ─> plan_network() ───> Network, or Podman's words for why not
//! ```
//!
//! **How it works.** The store holds leases and networks; these functions only choose. Addresses go round:
//! the one after the last, wrapping at the end of the pool. One given back is not used again for
//! [`address::QUARANTINE`] seconds, unless the pool has no other; then the one given back longest ago is.
//!
//! **Invariants.** Pure: time and chance are arguments. Never the network's, the broadcast or the gateway's
//! address; never one that is held. A choice costs at most as many steps as there are leases, whatever the
//! size of the subnet.
//!
//! **Limits.** One address per subnet and attachment. No DHCP.
//!
//! **Start reading** at [`address::choose`], then [`NetworkRequest`].

pub mod address;
mod hidden;
pub mod request;
mod subnet;

pub use hidden::{HiddenRequest, hidden_network};
pub use request::{
    DEFAULT_SUBNET, NetworkRequest, RequestError, Surroundings, check_newcomer, default_network, plan_network,
};
pub use subnet::{POOLS, SubnetPool, choose_subnet4, ula};
