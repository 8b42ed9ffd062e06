//! The networks of containers that name none: an ordinary user's by default, and those of `--network pasta` and
//! `slirp4netns`. Nobody sees them; each lasts as long as somebody is on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::network::IpamPolicy;
use model::{BridgeOptions, Driver, Invalid, LinkName, Network, NetworkId, NetworkSubnet, Subnet};

use crate::request::{Fresh, Surroundings, check_apart, first_address, used, whose};
use crate::subnet::{POOLS, choose_subnet4, ula};

/// What such a network has to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenRequest {
    /// Its name, which tells it from others that must be otherwise. No user's network can be called so.
    pub name: String,
    /// What its link's name begins with, before a number.
    pub link: &'static str,
    /// Its subnets, where they were said; they may hide the host's own.
    pub subnets: Vec<NetworkSubnet>,
    /// Choose an IPv4 subnet, too.
    pub ip4: bool,
    /// Choose an IPv6 subnet, too.
    pub ip6: bool,
    /// Addresses of it at which name servers seem to be.
    pub servers: Vec<IpAddr>,
    /// MTU of its links in bytes.
    pub mtu: u32,
}

/// Such a network, or which other has its subnet. `around` has all networks, hidden ones too.
pub fn hidden_network(
    request: &HiddenRequest,
    around: &Surroundings<'_>,
    fresh: &Fresh<'_>,
) -> Result<Network, Invalid> {
    check_apart(&request.subnets)?;
    // What the host has there is not reached by the container then, as with any of the peers.
    let configs = Surroundings { used: &[], ..*around };
    for NetworkSubnet { subnet, .. } in &request.subnets {
        if let Some(other) = used(&configs).iter().find(|other| other.overlaps(subnet)) {
            let text = format!("subnet {subnet} is in use by containers already: {}", whose(other, &configs));
            return Err(Invalid(text));
        }
    }
    let taken = used(around);
    let mut subnets = request.subnets.clone();
    if request.ip4 {
        let free = private_subnet4(&taken).or_else(|| choose_subnet4(POOLS, &taken));
        let subnet = free.ok_or_else(|| Invalid("no private IPv4 subnet is free on this host".to_owned()))?;
        subnets.push(NetworkSubnet { subnet, gateway: Some(first_address(subnet)?), pool: None });
    }
    if request.ip6 {
        let subnet = private_subnet6(&taken).unwrap_or_else(|| ula(fresh.prefix));
        subnets.push(NetworkSubnet { subnet, gateway: Some(first_address(subnet)?), pool: None });
    }
    let network = Network {
        name: request.name.parse()?,
        id: NetworkId::from_bytes(fresh.id),
        driver: Driver::Bridge(BridgeOptions { mtu: Some(request.mtu), ..BridgeOptions::default() }),
        link: Some(free_link(request.link, around)?),
        created: fresh.created.to_owned(),
        ipv6: subnets.iter().any(|s| !s.subnet.is_ipv4()),
        subnets,
        routes: Vec::new(),
        internal: false,
        dns: false,
        dns_servers: request.servers.clone(),
        labels: BTreeMap::new(),
        ipam: IpamPolicy::HostLocal,
    };
    Ok(network)
}

/// The first of 10.42.0.0/16 to 10.79.0.0/16 that nobody uses: below Podman's pools.
fn private_subnet4(used: &[Subnet]) -> Option<Subnet> {
    let pools = (42..80).filter_map(|n| Subnet::around(IpAddr::from(Ipv4Addr::new(10, n, 0, 0)), 16).ok());
    free(pools, used)
}

/// The first of `fd00:42::/64` to `fd00:4f::/64` that nobody uses.
fn private_subnet6(used: &[Subnet]) -> Option<Subnet> {
    let pools =
        (0x42..0x50).filter_map(|n| Subnet::around(IpAddr::from(Ipv6Addr::new(0xfd00, n, 0, 0, 0, 0, 0, 0)), 64).ok());
    free(pools, used)
}

fn free(mut pools: impl Iterator<Item = Subnet>, used: &[Subnet]) -> Option<Subnet> {
    pools.find(|pool| !used.iter().any(|used| used.overlaps(pool)))
}

fn free_link(prefix: &str, around: &Surroundings<'_>) -> Result<LinkName, Invalid> {
    let taken =
        |link: &LinkName| around.links.contains(link) || around.networks.iter().any(|n| n.link.as_ref() == Some(link));
    let names = (0..1_000_000).map(|n| format!("{prefix}{n}").parse::<LinkName>());
    let free = names.map_while(Result::ok).find(|link| !taken(link));
    free.ok_or_else(|| Invalid(format!("could not find a free bridge name {prefix}N")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(subnets: &[&str], networks: &[&str], used: &[&str], means: &str) {
        let subnet = |text: &&str| -> NetworkSubnet {
            let subnet: Subnet = text.parse().unwrap();
            NetworkSubnet { subnet, gateway: Some(first_address(subnet).unwrap()), pool: None }
        };
        let request = HiddenRequest {
            name: "pasta".to_owned(),
            link: "pasta",
            subnets: subnets.iter().map(subnet).collect(),
            ip4: subnets.is_empty(),
            ip6: subnets.is_empty(),
            servers: Vec::new(),
            mtu: 65520,
        };
        let fresh = Fresh { id: [0xa1; 32], prefix: [0xa1; 7], created: "now", pools: POOLS };
        let mut others = Vec::new();
        for text in networks {
            let around = Surroundings { networks: &others, used: &[], links: &[] };
            let subnets = vec![subnet(text)];
            let request = HiddenRequest {
                name: format!("n{}", others.len()),
                subnets,
                ip4: false,
                ip6: false,
                ..request.clone()
            };
            let other = hidden_network(&request, &around, &Fresh { id: [0xb0; 32], ..fresh }).unwrap();
            others.push(other);
        }
        let used: Vec<Subnet> = used.iter().map(|text| text.parse().unwrap()).collect();
        let around = Surroundings { networks: &others, used: &used, links: &[] };
        let said = match hidden_network(&request, &around, &fresh) {
            Err(wrong) => wrong.0,
            Ok(network) => {
                let subnets = network.subnets.iter().map(|s| format!("{} via {}", s.subnet, s.gateway.unwrap()));
                format!("{} {}", network.link.as_ref().unwrap(), subnets.collect::<Vec<_>>().join(", "))
            }
        };
        assert_eq!(said, means);
    }

    #[test]
    fn a_hidden_network_keeps_clear_of_the_host_and_of_networks() {
        check(&[], &[], &[], "pasta0 10.42.0.0/16 via 10.42.0.1, fd00:42::/64 via fd00:42::1");
        check(
            &[],
            &["10.42.0.0/16"],
            &["10.43.7.0/24", "fd00:42::/32"],
            "pasta1 10.44.0.0/16 via 10.44.0.1, fd00:43::/64 via fd00:43::1",
        );
        check(
            &[],
            &[],
            &["10.0.0.0/9", "fd00::/16"],
            "pasta0 10.128.0.0/24 via 10.128.0.1, fda1:a1a1:a1a1:a1a1::/64 via fda1:a1a1:a1a1:a1a1::1",
        );
        check(&[], &[], &["10.0.0.0/8"], "no private IPv4 subnet is free on this host");
    }

    #[test]
    fn subnets_that_were_said_may_hide_the_hosts_but_no_networks() {
        check(&["10.0.2.0/24"], &[], &["10.0.2.0/24"], "pasta0 10.0.2.0/24 via 10.0.2.1");
        check(
            &["10.0.2.0/24"],
            &["10.0.0.0/16"],
            &[],
            "subnet 10.0.2.0/24 is in use by containers already: 10.0.0.0/16 of network n0",
        );
    }
}
