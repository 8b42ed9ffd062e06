//! What users type: every value can be said, what is said is understood as that value, and no text does harm.

use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use podwire_model::network::{BridgeMode, IpamPolicy};
use podwire_model::port::Unpublish;
use podwire_model::{
    Addr, BridgeOptions, ContainerName, DnsName, Driver, HostAddress, Hostname, Isolation, LinkName, MacAddr, Network,
    NetworkId, NetworkName, NetworkSubnet, Pool, PortMapping, PortSpec, Protocol, Subnet,
};
use proptest::prelude::*;

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
        Just(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        Just(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        // An IPv4 address in IPv6's clothes has colons and dots.
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from(bits).to_ipv6_mapped())),
    ]
}

fn any_addr() -> impl Strategy<Value = Addr> {
    (any_ip(), any::<u8>())
        .prop_map(|(ip, len)| Addr::new(ip, len % if ip.is_ipv4() { 33 } else { 129 }).expect("a length of its family"))
}

fn any_spec() -> impl Strategy<Value = PortSpec> {
    let host = prop_oneof![Just(HostAddress::Any), any_ip().prop_map(HostAddress::Ip)];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let range = prop_oneof![3 => Just(1_u16), 2 => 2..=20_u16, 1 => Just(u16::MAX)];
    (host, any::<bool>(), any::<u16>(), any::<u16>(), range, protocol).prop_map(
        |(host, open, host_port, container_port, range, protocol)| {
            let first = |port: u16| port.clamp(1, u16::MAX - (range - 1));
            let host_port = (!open).then(|| first(host_port));
            PortSpec { host, host_port, container_port: first(container_port), range, protocol }
        },
    )
}

fn any_network() -> impl Strategy<Value = Network> {
    let isolate = prop_oneof![Just(Isolation::FromEverything), Just(Isolation::FromIsolated), Just(Isolation::None)];
    let options = (
        proptest::option::of(68..9000_u32),
        proptest::option::of(isolate),
        proptest::option::of(any::<u32>()),
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<u32>().prop_map(Ipv4Addr::from)),
        proptest::option::of(0..=4094_u16),
        proptest::option::of(Just(BridgeMode::Managed)),
    );
    let options = options.prop_map(|(mtu, isolate, metric, no_default_route, outbound_addr4, vlan, mode)| {
        BridgeOptions { mtu, isolate, metric, no_default_route, outbound_addr4, vlan, mode, ..BridgeOptions::default() }
    });
    let subnet = (any_addr(), any::<[bool; 2]>()).prop_map(|(addr, [gateway, pool])| {
        let subnet = addr.subnet();
        let pool = pool.then(|| Pool::new(subnet, addr.ip, subnet.last()).expect("inside"));
        NetworkSubnet { subnet, gateway: gateway.then_some(addr.ip), pool }
    });
    let subnets = proptest::collection::vec(subnet, 0..3);
    let labels = proptest::collection::btree_map(".{0,9}", ".{0,9}", 0..3);
    let dns_servers = proptest::collection::vec(any_ip(), 0..3);
    ("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", options, subnets, labels, dns_servers, any::<[bool; 4]>()).prop_map(
        |(name, options, subnets, labels, dns_servers, [ipv6, internal, dns, host_local])| Network {
            name: name.parse().expect("a name"),
            id: NetworkId::from_bytes([7; 32]),
            driver: Driver::Bridge(options),
            link: Some("podman1".parse().expect("a name")),
            created: "2026-11-24T12:00:00.5Z".to_owned(),
            ipv6: ipv6 || subnets.iter().any(|s| !s.subnet.is_ipv4()),
            subnets,
            routes: Vec::new(),
            internal,
            dns,
            dns_servers,
            labels,
            ipam: if host_local { IpamPolicy::HostLocal } else { IpamPolicy::None },
        },
    )
}

/// Printed and read again, it is the same.
#[track_caller]
fn said<T: FromStr<Err: Debug> + Display + Debug + PartialEq>(value: &T) {
    let text = value.to_string();
    assert_eq!(&text.parse::<T>().unwrap_or_else(|e| panic!("{text}: {e:?}")), value, "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_port_mapping_can_be_said(spec in any_spec()) {
        said(&spec);
        let unpublish: Unpublish = spec.to_string().parse().unwrap();
        said(&unpublish);
        let mapping = spec.at(spec.host_port.unwrap_or(spec.container_port));
        prop_assert!(mapping.clashes(&mapping));
        prop_assert_eq!(mapping.host_ports().count(), usize::from(spec.range));
    }

    #[test]
    fn what_is_taken_back_is_gone_and_nothing_else(
        host_port in 1..500_u16, container_port in 1..500_u16, range in 1..30_u16, first in 0..30_u16, count in 1..30_u16,
    ) {
        let first = first % range;
        let count = count.min(range - first);
        let published = PortMapping { host: HostAddress::Any, host_port, container_port, range, protocol: Protocol::Tcp };
        let text = match count {
            1 => format!("{}", host_port + first),
            more => format!("{0}-{1}:{2}-{3}", host_port + first, host_port + first + (more - 1),
                container_port + first, container_port + first + (more - 1)),
        };
        let remaining = text.parse::<Unpublish>().unwrap().remains_of(&[published]).unwrap();
        let pairs = |mappings: &[PortMapping]| -> Vec<(u16, u16)> {
            let each = |m: &PortMapping| (0..m.range).map(|n| (m.host_port + n, m.container_port + n)).collect::<Vec<_>>();
            mappings.iter().flat_map(each).collect()
        };
        let taken = host_port + first..host_port + first + count;
        let expected: Vec<_> = pairs(&[published]).into_iter().filter(|(host, _)| !taken.contains(host)).collect();
        prop_assert_eq!(pairs(&remaining), expected, "{} of {:?}", text, published);
    }

    #[test]
    fn every_address_and_subnet_can_be_said(addr in any_addr(), octets in any::<[u8; 6]>()) {
        said(&addr);
        said(&addr.subnet());
        said(&MacAddr::local(octets));
        prop_assert!(addr.subnet().contains(addr.ip));
    }

    #[test]
    fn a_range_lies_in_its_subnet_or_is_refused(subnet in any_addr(), range in any_addr(), dash in any::<bool>()) {
        let subnet = subnet.subnet();
        let text = if dash { format!("{}-{}", range.ip, range.subnet().last()) } else { range.to_string() };
        if let Ok(pool) = Pool::parse(subnet, &text) {
            prop_assert!(subnet.contains(pool.first()) && subnet.contains(pool.last()) && pool.first() <= pool.last());
        }
    }

    #[test]
    fn a_network_is_the_same_after_podmans_json(network in any_network()) {
        let json = serde_json::to_string(&network).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Network>(&json).unwrap(), &network, "{}", json);
        let file = network.to_podman_file();
        prop_assert_eq!(&serde_json::from_str::<Network>(&file).unwrap(), &network, "{}", file);
    }

    #[test]
    fn a_name_is_nothing_but_a_name(text in "[a-zA-Z0-9./_ :;\n\0\"'$`{}\\\\é-]{0,20}") {
        let names = [
            text.parse::<NetworkName>().map(|n| n.to_string()),
            text.parse::<ContainerName>().map(|n| n.to_string()),
            text.parse::<LinkName>().map(|n| n.to_string()),
            text.parse::<DnsName>().map(|n| n.to_string()),
            text.parse::<Hostname>().map(|n| n.to_string()),
        ];
        for name in names.into_iter().flatten() {
            prop_assert_eq!(&name, &text);
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && name != "..");
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "([0-9]{1,6}|[:/.,=-]|\\[|\\]|tcp|udp|fd00::1|10\\.88\\.0\\.0|é|\n|[a-z]{1,3}){0,9}") {
        let _ = (text.parse::<PortSpec>(), text.parse::<Unpublish>(), text.parse::<Subnet>(), text.parse::<Addr>());
        let _ = (text.parse::<MacAddr>(), text.parse::<HostAddress>(), text.parse::<Protocol>());
    }
}
