//! Names and addresses of containers: whoever is on a network is found by each of its names, and by nothing else.
//!
//! Each line is `ADDRESS NAME[ NAME…]`: a member on every network that has the address.
#![no_main]

use std::net::IpAddr;

use dns::{Directory, Member, Presence, Reach, ZoneNetwork, Zones};
use libfuzzer_sys::fuzz_target;
use model::{DnsName, NetworkId};

const SUFFIX: &str = "dns.podman";

fn networks() -> Vec<ZoneNetwork> {
    let network = |n: u8, subnets: &[&str], reach: Reach| ZoneNetwork {
        id: NetworkId::from_bytes([n; 32]),
        name: format!("net{n}").parse().expect("a name"),
        subnets: subnets.iter().map(|text| text.parse().expect("a subnet")).collect(),
        gateways: Vec::new(),
        reach,
        upstreams: Vec::new(),
    };
    vec![
        network(1, &["10.89.1.0/24", "fd00:1::/64"], Reach::Outside),
        network(2, &["10.89.0.0/16"], Reach::Outside),
        network(3, &["10.90.0.0/24"], Reach::Internal),
    ]
}

fuzz_target!(|lines: &str| {
    let networks = networks();
    let mut members = Vec::new();
    for line in lines.lines().take(50) {
        let Some((ip, names)) = line.split_once(' ') else { continue };
        let Ok(ip) = ip.parse::<IpAddr>() else { continue };
        let names: Vec<DnsName> = names.split(' ').filter_map(|name| name.parse().ok()).collect();
        let on = networks.iter().filter(|network| network.subnets.iter().any(|subnet| subnet.contains(ip)));
        let presences = on.map(|n| Presence { network: n.id, addresses: vec![ip], names: names.clone() }).collect();
        members.push(Member { upstreams: Vec::new(), presences });
    }
    let directory = Directory { networks, members, ..Directory::new(SUFFIX.parse().expect("a name")) };
    let zones = Zones::new(&directory);
    for presence in directory.members.iter().flat_map(|member| &member.presences) {
        let network = directory.networks.iter().find(|n| n.id == presence.network).expect("one of ours");
        for name in &presence.names {
            // A name in our own zone is looked up without the suffix.
            let lower = name.as_str().to_ascii_lowercase();
            if lower == SUFFIX || lower.ends_with(".dns.podman") {
                continue;
            }
            let with_suffix = format!("{name}.{SUFFIX}").parse::<DnsName>().ok();
            for asked in [Some(name.clone()), with_suffix].into_iter().flatten() {
                let found = zones.resolve(&asked);
                let here = found.iter().any(|(on, ip)| **on == network.name && *ip == presence.addresses[0]);
                assert!(here, "{asked} has not {} on {} but {found:?}", presence.addresses[0], network.name);
            }
        }
    }
});
