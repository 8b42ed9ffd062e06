//! Choosing subnets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::Subnet;
use serde::{Deserialize, Serialize};

/// A range of IPv4 addresses that subnets are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetPool {
    /// Its first address.
    pub first: Ipv4Addr,
    /// Its prefix length.
    pub len: u8,
    /// The prefix length of its pieces; not shorter.
    pub size: u8,
}

const fn podmans(a: u8, b: u8, len: u8) -> SubnetPool {
    SubnetPool { first: Ipv4Addr::new(a, b, 0, 0), len, size: 24 }
}

/// Podman's.
pub const POOLS: &[SubnetPool] =
    &[podmans(10, 89, 16), podmans(10, 90, 15), podmans(10, 92, 14), podmans(10, 96, 11), podmans(10, 128, 9)];

impl SubnetPool {
    /// Pieces of `size` of `base`; `None` where that cannot be.
    pub fn new(base: Subnet, size: u8) -> Option<Self> {
        let IpAddr::V4(first) = base.network() else { return None };
        (size <= 30 && base.len() <= size && base.len() > 0).then_some(Self { first, len: base.len(), size })
    }

    /// The first piece that overlaps none of `used`.
    fn choose(&self, used: &[(u32, u32)]) -> Option<Subnet> {
        let (first, rest) = (u32::from(self.first), u32::MAX >> self.size);
        let (mut at, last) = (first, first | (u32::MAX >> self.len));
        // Behind whatever is in the way, instead of one piece after the other: a used /9 has 32,768 /24 of them.
        while let Some((_, end)) = used.iter().find(|(first, end)| *first <= at | rest && at <= *end) {
            at = (end | rest).checked_add(1).filter(|next| *next <= last)?;
        }
        Subnet::around(IpAddr::from(at.to_be_bytes()), self.size).ok()
    }
}

/// The first subnet of the pools that overlaps none of `used`.
pub fn choose_subnet4(pools: &[SubnetPool], used: &[Subnet]) -> Option<Subnet> {
    let used: Vec<(u32, u32)> = used.iter().filter_map(range4).collect();
    pools.iter().find_map(|pool| pool.choose(&used))
}

/// Does it take anything from the pools?
pub(crate) fn in_pools(pools: &[SubnetPool], subnet: &Subnet) -> bool {
    let pool = |pool: &SubnetPool| Subnet::around(IpAddr::from(pool.first), pool.len).ok();
    pools.iter().filter_map(pool).any(|pool| pool.overlaps(subnet))
}

/// First and last address as numbers, of an IPv4 subnet.
fn range4(subnet: &Subnet) -> Option<(u32, u32)> {
    match (subnet.network(), subnet.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some((first.into(), last.into())),
        _ => None,
    }
}

/// A unique local /64 made of seven random bytes (RFC 4193; as in Podman the subnet id is random too).
pub fn ula(random: [u8; 7]) -> Subnet {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    Subnet::around(Ipv6Addr::from(octets).into(), 64).expect("64 is a length of an IPv6 prefix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(used: &[&str], chosen: &str) {
        let used: Vec<Subnet> = used.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(choose_subnet4(POOLS, &used).map_or("none".to_owned(), |s| s.to_string()), chosen, "{used:?}");
    }

    #[test]
    fn pools_of_ones_own_have_pieces_of_their_size() {
        let pool = |base: &str, size| SubnetPool::new(base.parse().unwrap(), size);
        let own = [pool("172.20.0.0/23", 24).unwrap(), pool("172.30.0.0/16", 20).unwrap()];
        let chosen = |used: &[&str]| {
            let used: Vec<Subnet> = used.iter().map(|text| text.parse().unwrap()).collect();
            choose_subnet4(&own, &used).map(|subnet| subnet.to_string()).unwrap_or_default()
        };
        assert_eq!(chosen(&[]), "172.20.0.0/24");
        assert_eq!(chosen(&["172.20.0.0/24"]), "172.20.1.0/24");
        assert_eq!(chosen(&["172.20.0.0/16", "172.30.0.7/32"]), "172.30.16.0/20");
        assert_eq!(chosen(&["172.16.0.0/12"]), "");
        assert_eq!((pool("10.0.0.0/16", 8), pool("fd00::/64", 80), pool("10.0.0.0/31", 31)), (None, None, None));
    }

    #[test]
    fn subnets_come_from_podmans_pools_in_order() {
        check(&[], "10.89.0.0/24");
        check(&["10.88.0.0/16", "fd00::/8", "10.89.0.0/24"], "10.89.1.0/24");
        check(&["10.89.0.128/25", "10.89.1.4/32"], "10.89.2.0/24");
        check(&["10.89.0.0/16"], "10.90.0.0/24");
        check(&["10.89.0.0/24", "10.89.1.0/24", "10.89.0.0/16", "10.90.0.0/15", "10.92.0.0/16"], "10.93.0.0/24");
        check(&["10.89.0.0/16", "10.90.0.0/15", "10.92.0.0/14", "10.96.0.0/11"], "10.128.0.0/24");
        check(&["10.0.0.0/8"], "none");
        check(&["0.0.0.0/0"], "none");
    }

    #[test]
    fn a_random_subnet_is_unique_local() {
        let subnet = ula([0x92, 0xb6, 0xe7, 0xb5, 0x4c, 0x05, 0x64]);
        assert_eq!(subnet.to_string(), "fd92:b6e7:b54c:564::/64");
    }
}
