//! Links with the MAC address of a link of the host.
//!
//! ```text
//!   sandbox                                     host
//!   eth0 192.168.1.64/24 (MAC of the parent) ─┐
//!   eth0 192.168.1.65/24 (MAC of the parent) ─┴─ eth0, the parent ── LAN
//! ```

use model::IpvlanOptions;
use plan::{ChildKind, Object};

use crate::{Describe, Endpoint, NetworkWish, lan};

impl Describe for IpvlanOptions {
    fn network(&self, _: &NetworkWish<'_>) -> Vec<Object> {
        Vec::new()
    }

    fn attachment(&self, wish: &NetworkWish<'_>, endpoint: &Endpoint) -> Vec<Object> {
        lan::attachment(wish, endpoint, ChildKind::Ipvlan { mode: self.mode.unwrap_or_default() })
    }
}
