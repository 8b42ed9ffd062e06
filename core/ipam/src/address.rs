//! Choosing addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{ContainerId, NetworkName, NetworkSubnet, addr::offset};

/// Seconds for which an address that was given back is not given to somebody else: neighbours' ARP caches and
/// clients that keep sending have forgotten it by then.
pub const QUARANTINE: i64 = 60;

/// The addresses of one network that somebody has, or had a short while ago.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases(BTreeMap<IpAddr, Holder>);

/// Who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// This container.
    Container(ContainerId),
    /// Nobody, since then: in seconds of the clock that [`choose`] is told.
    FreeSince(i64),
}

impl FromIterator<(IpAddr, Holder)> for Leases {
    fn from_iter<T: IntoIterator<Item = (IpAddr, Holder)>>(leases: T) -> Self {
        Self(leases.into_iter().collect())
    }
}

impl Leases {
    /// Free, and not in quarantine. What was given back in the future was given back before a reboot.
    fn is_free(&self, ip: IpAddr, now: i64) -> bool {
        match self.0.get(&ip) {
            None => true,
            Some(Holder::Container(_)) => false,
            Some(Holder::FreeSince(when)) => *when > now || now - when >= QUARANTINE,
        }
    }
}

/// Why there is no address; in Podman's words, which scripts look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// Every address of the pool is held.
    #[error("IPAM error: failed to find free IP in range: {first} - {last}")]
    Exhausted {
        /// Of the pool.
        first: IpAddr,
        /// Of the pool.
        last: IpAddr,
    },
    /// The wished address is somebody else's.
    #[error("IPAM error: requested ip address {ip} is already allocated to container ID {holder}")]
    Taken {
        /// Which.
        ip: IpAddr,
        /// Whose.
        holder: ContainerId,
    },
    /// The wished address can be nobody's.
    #[error("IPAM error: requested ip address {ip} is the {whose} address")]
    Reserved {
        /// Which.
        ip: IpAddr,
        /// `gateway's`, `network's` or `broadcast`.
        whose: &'static str,
    },
    /// The wished address is on no subnet of the network.
    #[error("requested static ip {ip} not in any subnet on network {network}")]
    Outside {
        /// Which.
        ip: IpAddr,
        /// On which network it was wished.
        network: NetworkName,
    },
}

/// May `container` have the address it asked for? A wish may be outside the pool and in quarantine, for whoever
/// wishes knows why.
pub fn check(subnet: &NetworkSubnet, leases: &Leases, ip: IpAddr, container: &ContainerId) -> Result<(), IpamError> {
    match (leases.0.get(&ip), reserved(subnet, ip)) {
        (Some(Holder::Container(holder)), _) if holder != container => Err(IpamError::Taken { ip, holder: *holder }),
        (_, Some(whose)) => Err(IpamError::Reserved { ip, whose }),
        (_, None) => Ok(()),
    }
}

/// The next address of the subnet's pool after `last`. `now` is in seconds of any clock that does not jump.
pub fn choose(subnet: &NetworkSubnet, leases: &Leases, last: Option<IpAddr>, now: i64) -> Result<IpAddr, IpamError> {
    let (first, end) = pool(subnet);
    let start = last.and_then(|ip| offset(ip, 1)).filter(|ip| (first..=end).contains(ip)).unwrap_or(first);
    // Each step that fails meets a lease or one of three reserved addresses, so this many find a free one, or
    // have met every address of the pool.
    let steps = leases.0.len() + 4;
    let round = std::iter::successors(Some(start), |ip| if *ip == end { Some(first) } else { offset(*ip, 1) });
    if let Some(ip) = round.take(steps).find(|ip| reserved(subnet, *ip).is_none() && leases.is_free(*ip, now)) {
        return Ok(ip);
    }
    let in_quarantine = leases.0.range(first..=end).filter_map(|(ip, holder)| match holder {
        Holder::FreeSince(when) if reserved(subnet, *ip).is_none() => Some((*when, *ip)),
        Holder::FreeSince(_) | Holder::Container(_) => None,
    });
    in_quarantine.min().map(|(_, ip)| ip).ok_or(IpamError::Exhausted { first, last: end })
}

/// First and last address to choose from. Of a whole IPv4 subnet the broadcast address is left out.
fn pool(subnet: &NetworkSubnet) -> (IpAddr, IpAddr) {
    if let Some(pool) = subnet.pool {
        return (pool.first(), pool.last());
    }
    let prefix = subnet.subnet;
    let first = prefix.nth(1).unwrap_or(prefix.network());
    let last = match prefix.last() {
        IpAddr::V4(last) if prefix.len() < 31 => IpAddr::from((u32::from(last) - 1).to_be_bytes()),
        last => last,
    };
    (first, last)
}

/// Whose an address is that cannot be leased. A /31 or /127 has no network and broadcast addresses (RFC 3021,
/// RFC 6164).
fn reserved(subnet: &NetworkSubnet, ip: IpAddr) -> Option<&'static str> {
    let prefix = subnet.subnet;
    let width = if prefix.is_ipv4() { 32 } else { 128 };
    if subnet.gateway == Some(ip) {
        Some("gateway's")
    } else if prefix.len() + 1 >= width {
        None
    } else if ip == prefix.network() {
        Some("network's")
    } else if prefix.is_ipv4() && ip == prefix.last() {
        Some("broadcast")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::Pool;
    use proptest::prelude::*;

    use super::*;

    fn subnet(prefix: &str, gateway: &str, range: Option<&str>) -> NetworkSubnet {
        let subnet = prefix.parse().unwrap();
        let pool = range.map(|text| Pool::parse(subnet, text).unwrap());
        NetworkSubnet { subnet, gateway: Some(gateway.parse().unwrap()), pool }
    }

    fn who(n: u8) -> ContainerId {
        ContainerId::from_bytes([n; 32])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn held(ips: &[&str]) -> Leases {
        ips.iter().map(|text| (ip(text), Holder::Container(who(0xab)))).collect()
    }

    fn released(leases: &mut Leases, text: &str, when: i64) {
        leases.0.insert(ip(text), Holder::FreeSince(when));
    }

    fn said(result: Result<IpAddr, IpamError>) -> String {
        result.map_or_else(|e| e.to_string(), |ip| ip.to_string())
    }

    #[test]
    fn addresses_go_round() {
        let net = subnet("10.200.61.0/29", "10.200.61.1", None);
        let mut leases = Leases::default();
        let mut last = None;
        for expected in ["10.200.61.2", "10.200.61.3", "10.200.61.4", "10.200.61.5", "10.200.61.6"] {
            let ip = choose(&net, &leases, last, 0).unwrap();
            assert_eq!(ip.to_string(), expected);
            leases.0.insert(ip, Holder::Container(who(1)));
            last = Some(ip);
        }
        assert_eq!(
            said(choose(&net, &leases, last, 0)),
            "IPAM error: failed to find free IP in range: 10.200.61.1 - 10.200.61.6"
        );
        released(&mut leases, "10.200.61.4", 0);
        assert_eq!(said(choose(&net, &leases, last, 0)), "10.200.61.4");
    }

    #[test]
    fn an_address_given_back_rests_for_a_minute() {
        let net = subnet("10.89.0.0/24", "10.89.0.1", Some("10.89.0.2-10.89.0.4"));
        let mut leases = Leases::default();
        released(&mut leases, "10.89.0.2", 100);
        released(&mut leases, "10.89.0.3", 90);
        assert_eq!(said(choose(&net, &leases, None, 130)), "10.89.0.4");
        assert_eq!(said(choose(&net, &leases, None, 151)), "10.89.0.3");
        assert_eq!(said(choose(&net, &leases, None, 160)), "10.89.0.2");
        assert_eq!(said(choose(&net, &leases, None, 5)), "10.89.0.2", "after a reboot");
        leases.0.insert(ip("10.89.0.4"), Holder::Container(who(1)));
        assert_eq!(said(choose(&net, &leases, None, 130)), "10.89.0.3", "the longest at rest");
        assert_eq!(check(&net, &leases, ip("10.89.0.2"), &who(1)), Ok(()), "wished");
    }

    #[test]
    fn a_wish_is_granted_unless_somebody_has_it() {
        let net = subnet("10.88.0.0/16", "10.88.0.1", Some("10.88.1.0/24"));
        let leases = held(&["10.88.7.7"]);
        let asked = |text: &str, container: u8| {
            check(&net, &leases, ip(text), &who(container)).map_or_else(|e| e.to_string(), |()| "granted".to_owned())
        };
        assert_eq!(asked("10.88.7.8", 1), "granted");
        assert_eq!(asked("10.88.7.7", 0xab), "granted");
        assert_eq!(
            asked("10.88.7.7", 1),
            format!(
                "IPAM error: requested ip address 10.88.7.7 is already allocated to container ID {}",
                "ab".repeat(32)
            )
        );
        assert_eq!(asked("10.88.0.1", 1), "IPAM error: requested ip address 10.88.0.1 is the gateway's address");
        assert_eq!(
            asked("10.88.255.255", 1),
            "IPAM error: requested ip address 10.88.255.255 is the broadcast address"
        );
        let outside = IpamError::Outside { ip: ip("10.9.9.9"), network: "na".parse().unwrap() };
        assert_eq!(outside.to_string(), "requested static ip 10.9.9.9 not in any subnet on network na");
    }

    #[test]
    fn a_large_subnet_costs_no_more_than_a_small_one() {
        let net = subnet("fd00::/8", "fd00::1", None);
        assert_eq!(said(choose(&net, &Leases::default(), None, 0)), "fd00::2");
        assert_eq!(said(choose(&net, &Leases::default(), Some(net.subnet.last()), 0)), "fd00::2");
    }

    proptest! {
        #[test]
        fn leases_are_unique_and_never_reserved(
            len in 24u8..=30,
            steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0i64..40), 1..120),
        ) {
            let net = subnet(&format!("10.9.0.0/{len}"), "10.9.0.1", None);
            let (mut leases, mut last, mut now) = (Leases::default(), None, 0);
            let mut held: Vec<IpAddr> = Vec::new();
            let mut released: BTreeMap<IpAddr, i64> = BTreeMap::new();
            let size = (1usize << (32 - len)) - 3;
            for (give_back, which, wait) in steps {
                now += wait;
                if give_back && !held.is_empty() {
                    let ip = held.remove(which.index(held.len()));
                    leases.0.insert(ip, Holder::FreeSince(now));
                    released.insert(ip, now);
                    continue;
                }
                match choose(&net, &leases, last, now) {
                    Ok(ip) => {
                        prop_assert!(!held.contains(&ip), "{ip} twice");
                        prop_assert!(reserved(&net, ip).is_none() && net.subnet.contains(ip), "{ip} reserved");
                        let resting = |at: &i64| now - at < QUARANTINE;
                        if released.get(&ip).is_some_and(resting) {
                            let rested = released.iter().filter(|(_, at)| resting(at)).count();
                            prop_assert_eq!(held.len() + rested, size, "reused though others were free");
                        }
                        released.remove(&ip);
                        leases.0.insert(ip, Holder::Container(who(1)));
                        held.push(ip);
                        last = Some(ip);
                    }
                    Err(_) => prop_assert_eq!(held.len(), size),
                }
                let unique: BTreeSet<_> = held.iter().collect();
                prop_assert_eq!(unique.len(), held.len());
            }
        }
    }
}
