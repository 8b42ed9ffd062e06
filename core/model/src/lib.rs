//! The nouns of container networking, each parsed once.
//!
//! ```text
//!   "10.88.0.0/16" ──FromStr──> Subnet      "8000-8010:80-90/udp" ──> PortSpec ──> PortMapping
//!   "02:42:…"      ──FromStr──> MacAddr     "podman0"             ──> LinkName
//! ```
//!
//! **How it works.** Every value that can be wrong has a type whose only constructors check it. Nobody
//! behind this door checks it again, and no string from outside reaches a path, a netlink attribute or a
//! hosts file without passing here (invariant I11).
//!
//! **Invariants.** Pure: no I/O, no clock, no chance. `Display` then `FromStr` gives the same value.
//!
//! **Limits.** Types that exist only for one driver or one tool live with it, not here.
//!
//! **Start reading** at [`network::Network`], then [`port::PortSpec`].

pub mod addr;
pub mod cni;
pub mod id;
pub mod lan;
pub mod name;
pub mod network;
pub mod port;
pub mod relayed;

pub use addr::{Addr, MacAddr, Pool, Subnet};
pub use id::{ContainerId, ImageId, NetworkId, PodId};
pub use lan::{IpvlanMode, IpvlanOptions, LanOptions, MacvlanMode, MacvlanOptions};
pub use name::{ContainerName, DnsName, Hostname, LinkName, NetworkName};
pub use network::{BridgeMode, BridgeOptions, Driver, Isolation, Network, NetworkRoute, NetworkSubnet, RouteTarget};
pub use port::{HostAddress, PortMapping, PortSpec, Protocol, Unpublish};
pub use relayed::{PastaOptions, SlirpOptions};

/// A value that was not what it should be: says what was wrong and what would be right, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// Implements serde by `Display` and `FromStr`, so that a stored value is checked like a typed one.
macro_rules! serde_as_text {
    ($($t:ty),*) => {$(
        impl serde::Serialize for $t {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.collect_str(self) }
        }
        impl<'de> serde::Deserialize<'de> for $t {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;
