//! Subnets, addresses, MAC addresses and pools.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::{Invalid, serde_as_text};

/// A prefix with no bits set after it: `10.88.0.0/16`, `fd00:1::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(IpNet);

impl Subnet {
    /// The subnet that `addr` lies in when it has a prefix of `len` bits; bits after the prefix are dropped.
    pub fn around(addr: IpAddr, len: u8) -> Result<Self, Invalid> {
        IpNet::new(addr, len)
            .map(|net| Self(net.trunc()))
            .map_err(|_| Invalid(format!("invalid prefix length {len} for {addr}")))
    }

    /// Everything: `0.0.0.0/0`.
    pub const ANY4: Self = Self(IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)));
    /// Everything: `::/0`.
    pub const ANY6: Self = Self(IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)));

    /// The first address, with no host bits.
    pub fn network(&self) -> IpAddr {
        self.0.network()
    }

    /// The last address: the broadcast address of an IPv4 subnet.
    pub fn last(&self) -> IpAddr {
        self.0.broadcast()
    }

    /// Length of the prefix in bits.
    #[expect(clippy::len_without_is_empty, reason = "the length of a prefix, not of a collection")]
    pub fn len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// True for `0.0.0.0/0` and `::/0`.
    pub fn is_default(&self) -> bool {
        self.len() == 0
    }

    /// True for IPv4.
    pub fn is_ipv4(&self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// Does `ip` lie in this subnet?
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }

    /// Do the two share any address?
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// `ip` with this subnet's prefix length.
    pub fn with(&self, ip: IpAddr) -> Addr {
        Addr { ip, len: self.len() }
    }

    /// The `n`th address after the network address, if it is inside.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        let ip = offset(self.network(), n)?;
        self.contains(ip).then_some(ip)
    }
}

/// `ip` plus `n`, if the family has such an address.
pub fn offset(ip: IpAddr, n: u128) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(v4) => {
            let n = u32::try_from(n).ok()?;
            Some(IpAddr::V4(Ipv4Addr::from(u32::from(v4).checked_add(n)?)))
        }
        IpAddr::V6(v6) => Some(IpAddr::V6(Ipv6Addr::from(u128::from(v6).checked_add(n)?))),
    }
}

impl FromStr for Subnet {
    type Err = Invalid;

    /// `ADDRESS/LENGTH`; host bits are dropped, as Podman does.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        IpNet::from_str(text).map(|net| Self(net.trunc())).map_err(|_| Invalid(format!("invalid CIDR address: {text}")))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One address *with* its prefix length; alone it is an [`IpAddr`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr {
    /// The address itself.
    pub ip: IpAddr,
    /// Length of the prefix in bits; at most 32 or 128 by family.
    len: u8,
}

impl Addr {
    /// An address with a prefix of `len` bits.
    pub fn new(ip: IpAddr, len: u8) -> Result<Self, Invalid> {
        Subnet::around(ip, len).map(|subnet| subnet.with(ip))
    }

    /// Length of the prefix in bits.
    #[expect(clippy::len_without_is_empty, reason = "the length of a prefix, not of a collection")]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// The subnet this address lies in.
    pub fn subnet(&self) -> Subnet {
        Subnet(IpNet::new_assert(self.ip, self.len).trunc())
    }
}

impl FromStr for Addr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let net = IpNet::from_str(text).map_err(|_| Invalid(format!("invalid CIDR address: {text}")))?;
        Ok(Self { ip: net.addr(), len: net.prefix_len() })
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.len)
    }
}

/// An Ethernet address of one station (not multicast, not all zero).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// Checks that `octets` can be the address of one station.
    pub fn new(octets: [u8; 6]) -> Result<Self, Invalid> {
        let mac = Self(octets);
        if octets == [0; 6] {
            return Err(Invalid(format!("address {mac}: invalid MAC address: Cannot assign requested address")));
        }
        if octets[0] & 1 == 1 {
            return Err(Invalid(format!("address {mac}: invalid MAC address: it is a multicast address")));
        }
        Ok(mac)
    }

    /// A locally administered unicast address made from six arbitrary bytes.
    pub fn local(mut octets: [u8; 6]) -> Self {
        octets[0] = octets[0] & 0xfc | 0x02;
        Self(octets)
    }

    /// The six octets in transmission order.
    pub fn octets(&self) -> [u8; 6] {
        self.0
    }

    /// The IPv6 link-local address the kernel derives from it (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let m = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]])
    }
}

impl FromStr for MacAddr {
    type Err = Invalid;

    /// Six hexadecimal pairs separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid(format!("address {text}: invalid MAC address"));
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Self::new(octets)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5])
    }
}

/// The part of a subnet that addresses are leased from: first to last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    first: IpAddr,
    last: IpAddr,
}

impl Pool {
    /// A pool inside `subnet`.
    pub fn new(subnet: Subnet, first: IpAddr, last: IpAddr) -> Result<Self, Invalid> {
        for (which, ip) in [("start_ip", first), ("end_ip", last)] {
            if !subnet.contains(ip) {
                return Err(Invalid(format!("lease range {which} {ip} not in subnet {subnet}")));
            }
        }
        if first > last {
            return Err(Invalid(format!("lease range start_ip {first} must be less than or equal to end_ip {last}")));
        }
        Ok(Self { first, last })
    }

    /// Podman's two spellings: `10.89.0.128/25` (its network address is left out) and `A-B`.
    pub fn parse(subnet: Subnet, text: &str) -> Result<Self, Invalid> {
        if let Some((first, last)) = text.split_once('-') {
            let ip = |which: &str, t: &str| {
                t.parse().map_err(|_| Invalid(format!("range {which} ip {t:?} is not a ip address")))
            };
            return Self::new(subnet, ip("start", first)?, ip("end", last)?);
        }
        let range: Subnet = text.parse()?;
        let first = offset(range.network(), 1).unwrap_or(range.network());
        Self::new(subnet, first.min(range.last()), range.last())
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.last
    }
}

serde_as_text!(Subnet, Addr, MacAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_drops_host_bits() {
        assert_eq!("10.88.3.4/16".parse::<Subnet>().unwrap().to_string(), "10.88.0.0/16");
        assert_eq!("10.200.1.0".parse::<Subnet>().unwrap_err().0, "invalid CIDR address: 10.200.1.0");
    }

    #[test]
    fn an_ip_range_in_prefix_form_leaves_out_its_network_address() {
        let subnet = "10.200.50.0/24".parse().unwrap();
        let pool = Pool::parse(subnet, "10.200.50.128/25").unwrap();
        assert_eq!(
            (pool.first().to_string(), pool.last().to_string()),
            ("10.200.50.129".into(), "10.200.50.255".into())
        );
    }

    #[test]
    fn a_pool_outside_its_subnet_is_refused_by_name() {
        let subnet = "10.200.2.0/24".parse().unwrap();
        assert_eq!(
            Pool::parse(subnet, "10.201.2.0/25").unwrap_err().0,
            "lease range start_ip 10.201.2.1 not in subnet 10.200.2.0/24"
        );
    }

    #[test]
    fn a_mac_must_be_unicast() {
        assert!("02:42:0a:58:00:02".parse::<MacAddr>().is_ok());
        assert!("02-42-0a-58-00-02".parse::<MacAddr>().is_ok());
        for bad in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "02:42:0a", "2:42:a:58:0:2", "02:42:0a:58:00:02:03"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn link_local_follows_the_mac() {
        let mac: MacAddr = "02:f7:97:8c:2d:5c".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::f7:97ff:fe8c:2d5c");
    }
}
