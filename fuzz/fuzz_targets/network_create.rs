//! `network create` with anything behind it: a network that could be stored and used, or a refusal.
//!
//! Each line is a flag without its dashes and its value, with a space between.
#![no_main]

use std::net::IpAddr;

use ipam::request::Fresh;
use ipam::{POOLS, NetworkRequest, Surroundings, default_network, plan_network};
use libfuzzer_sys::fuzz_target;
use model::{LinkName, Network, Subnet};

fn request(lines: &str) -> NetworkRequest {
    let mut request = NetworkRequest::default();
    for line in lines.lines() {
        let (flag, value) = line.split_once(' ').unwrap_or((line, ""));
        let text = value.to_owned();
        match flag {
            "name" => request.name = Some(text),
            "driver" => request.driver = text,
            "subnet" => request.subnets.push(text),
            "gateway" => request.gateways.extend(value.parse::<IpAddr>()),
            "ip-range" => request.ranges.push(text),
            "route" => request.routes.push(text),
            "interface-name" => request.link = Some(text),
            "internal" => request.internal = true,
            "ipv6" => request.ipv6 = true,
            "disable-dns" => request.disable_dns = true,
            "dns" => request.dns_servers.extend(value.parse::<IpAddr>()),
            "ipam-driver" => request.ipam = Some(text),
            "opt" => drop(value.split_once('=').map(|(k, v)| request.options.insert(k.to_owned(), v.to_owned()))),
            "label" => drop(value.split_once('=').map(|(k, v)| request.labels.insert(k.to_owned(), v.to_owned()))),
            _ => {}
        }
    }
    request
}

fn check(network: &Network, used: &[Subnet]) {
    let stored = serde_json::to_string(network).expect("JSON");
    assert_eq!(serde_json::from_str::<Network>(&stored).expect(&stored), *network);
    for (n, one) in network.subnets.iter().enumerate() {
        assert!(one.gateway.is_none_or(|gateway| one.subnet.contains(gateway)), "{stored}");
        let others = network.subnets[..n].iter().map(|other| &other.subnet).chain(used);
        others.for_each(|other| assert!(!other.overlaps(&one.subnet), "{other} in {stored}"));
    }
}

fuzz_target!(|lines: &str| {
    let used = ["192.168.1.0/24", "10.89.0.0/24", "fd99::/64"].map(|text| text.parse::<Subnet>().expect("a subnet"));
    let links = ["lo", "eth0"].map(|text| text.parse::<LinkName>().expect("a name"));
    let none = Surroundings { networks: &[], used: &used, links: &links };
    let default = default_network(&none, None, POOLS, "now").expect("there is room");
    check(&default, &used);
    let networks = [default];
    let around = Surroundings { networks: &networks, ..none };
    let fresh = Fresh { id: [0xa1; 32], prefix: [0xa1; 7], created: "now", pools: POOLS };
    match plan_network(&request(lines), &around, &fresh) {
        Ok(network) => {
            let taken: Vec<Subnet> = used.into_iter().chain(networks[0].subnets.iter().map(|s| s.subnet)).collect();
            // VLANs and bridges of others are kept apart by others.
            let shares = network.may_share();
            check(&network, if shares { &[] } else { &taken });
            assert!(network.name != networks[0].name && network.id != networks[0].id);
            assert!(shares || network.link != networks[0].link);
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
});
