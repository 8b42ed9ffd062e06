//! Choosing subnets.

use std::net::{IpAddr, Ipv6Addr};

use model::Subnet;

/// Podman's pools: where they start, their prefix length. Each is cut into /24.
const POOLS: [([u8; 4], u8); 5] =
    [([10, 89, 0, 0], 16), ([10, 90, 0, 0], 15), ([10, 92, 0, 0], 14), ([10, 96, 0, 0], 11), ([10, 128, 0, 0], 9)];

/// The first /24 of Podman's pools that overlaps none of `used`.
pub fn choose_subnet4(used: &[Subnet]) -> Option<Subnet> {
    let used: Vec<(u32, u32)> = used.iter().filter_map(range4).collect();
    for (base, len) in POOLS {
        let (mut at, last) = (u32::from_be_bytes(base), u32::from_be_bytes(base) | (u32::MAX >> len));
        // Behind whatever is in the way, instead of one /24 after the other: a used /9 has 32,768 of them.
        while let Some((_, end)) = used.iter().find(|(first, end)| *first <= at | 0xff && at <= *end).copied() {
            match (end | 0xff).checked_add(1) {
                Some(next) if next <= last => at = next,
                _ => {
                    at = u32::MAX;
                    break;
                }
            }
        }
        if at <= last {
            return Subnet::around(IpAddr::from(at.to_be_bytes()), 24).ok();
        }
    }
    None
}

/// Does it take anything from Podman's pools?
pub(crate) fn in_pools(subnet: &Subnet) -> bool {
    let pool = |(base, len): ([u8; 4], u8)| Subnet::around(IpAddr::from(base), len);
    POOLS.into_iter().filter_map(|part| pool(part).ok()).any(|part| part.overlaps(subnet))
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
        assert_eq!(choose_subnet4(&used).map_or("none".to_owned(), |s| s.to_string()), chosen, "{used:?}");
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
