//! From networks, container ports and published ports to elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Isolation, LinkName, MacAddr, PortMapping, Subnet};
use plan::{Element, Field, Mark, Table};

/// What the firewall must know of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFirewall {
    /// Its bridge.
    pub bridge: LinkName,
    /// All its subnets.
    pub subnets: Vec<Subnet>,
    /// The host's addresses on its bridge.
    pub gateways: Vec<IpAddr>,
    /// The port of the gateways at which names are answered; they are asked at port 53. `None`: no names.
    pub dns: Option<u16>,
    /// From whom it is kept apart.
    pub isolation: Isolation,
    /// Nothing goes out and nothing comes in.
    pub internal: bool,
    /// What goes out, a relay takes up by its sockets: it must see whose it is, so no address is changed.
    pub relayed: bool,
    /// Its members do not reach each other, not by way of this host either; with isolation from everything.
    pub apart: bool,
    /// Masquerade as this address instead of the uplink's.
    pub outbound4: Option<Ipv4Addr>,
    /// As above for IPv6.
    pub outbound6: Option<Ipv6Addr>,
    /// Whose the elements are.
    pub mark: Mark,
}

/// What a network needs: its bridge and subnets known, hidden, isolated.
pub fn network_elements(network: &NetworkFirewall) -> Vec<Element> {
    let make = maker(Table::Inet, &network.mark);
    let bridge = || Field::Link(network.bridge.clone());
    let mut elements = vec![make("bridges", vec![bridge()], vec![])];
    if network.internal {
        elements.push(make("internal", vec![bridge()], vec![]));
    }
    match network.isolation {
        Isolation::FromEverything => elements.push(make("strict", vec![bridge()], vec![])),
        Isolation::FromIsolated => elements.push(make("isolated", vec![bridge()], vec![])),
        Isolation::None => {}
    }
    if !network.apart {
        elements.push(make("lanes", vec![bridge(), bridge()], vec![]));
    }
    for subnet in &network.subnets {
        let net = Field::Net(*subnet);
        elements.push(make(&family("subnets", subnet), vec![net.clone()], vec![]));
        // Two subnets of one network are one LAN: its members reach each other without a router.
        for to in network.subnets.iter().filter(|to| to.is_ipv4() == subnet.is_ipv4()) {
            elements.push(make(&family("lan", subnet), vec![net.clone(), Field::Net(*to)], vec![]));
        }
        if !network.internal && !network.relayed {
            elements.push(match outbound(network, subnet) {
                None => make(&family("hidden", subnet), vec![net], vec![]),
                Some(ip) => make(&family("outbound", subnet), vec![net], vec![Field::Ip(ip)]),
            });
        }
    }
    elements.extend(network.dns.iter().flat_map(|port| network.gateways.iter().map(|ip| (*ip, *port))).map(
        |(ip, port)| {
            let name = if ip.is_ipv4() { "dns4" } else { "dns6" };
            make(name, vec![Field::Ip(ip)], vec![Field::Ip(ip), Field::Port(port)])
        },
    ));
    elements
}

fn outbound(network: &NetworkFirewall, subnet: &Subnet) -> Option<IpAddr> {
    if subnet.is_ipv4() { network.outbound4.map(IpAddr::V4) } else { network.outbound6.map(IpAddr::V6) }
}

/// The identity of a container's port: what may leave it. With IPv6 addresses also the link-local one, and the
/// unspecified one, which duplicate address detection and MLD use (RFC 4862, RFC 3810).
pub fn port_elements(host_link: &LinkName, mac: MacAddr, ips: &[IpAddr], mark: &Mark) -> Vec<Element> {
    let make = maker(Table::Bridge, mark);
    let port = || Field::Link(host_link.clone());
    let mut elements = vec![make("macs", vec![port(), Field::Mac(mac)], vec![])];
    let mut all = ips.to_vec();
    if ips.iter().any(IpAddr::is_ipv6) {
        all.extend([IpAddr::from(mac.link_local()), IpAddr::from(Ipv6Addr::UNSPECIFIED)]);
    }
    // Somebody may have been given the very link-local address.
    all.sort_unstable();
    all.dedup();
    let name = |ip: &IpAddr| if ip.is_ipv4() { "addr4" } else { "addr6" };
    elements.extend(all.iter().map(|ip| make(name(ip), vec![port(), Field::Ip(*ip)], vec![])));
    elements
}

/// Makes a port mapping effective for the container addresses given. Nothing is made for `::1` as the host's
/// address, which cannot be translated.
pub fn publish_elements(
    mapping: &PortMapping,
    ip4: Option<Ipv4Addr>,
    ip6: Option<Ipv6Addr>,
    mark: &Mark,
) -> Vec<Element> {
    let containers = [ip4.map(IpAddr::V4), ip6.map(IpAddr::V6)];
    let served = |ip: &IpAddr| mapping.host.includes(ip.is_ipv4());
    if mapping.host.exact().is_some_and(|host| host.is_ipv6() && host.is_loopback()) {
        return Vec::new();
    }
    containers.into_iter().flatten().filter(served).flat_map(|ip| publish(mapping, ip, mark)).collect()
}

fn publish(mapping: &PortMapping, container: IpAddr, mark: &Mark) -> Vec<Element> {
    let make = maker(Table::Inet, mark);
    let family = if container.is_ipv4() { "publish4" } else { "publish6" };
    let exact = mapping.host.exact();
    let name = if exact.is_some() { family.to_owned() } else { format!("{family}_any") };
    let key = |port: Field| exact.map(Field::Ip).into_iter().chain([Field::Protocol(mapping.protocol), port]).collect();
    if mapping.range > 1 && mapping.host_port == mapping.container_port {
        let last = mapping.host_port.saturating_add(mapping.range - 1);
        let ports = Field::Ports(mapping.host_port, last);
        return vec![make(&format!("{name}_range"), key(ports), vec![Field::Ip(container)])];
    }
    let ports =
        (0..mapping.range).map(|n| (mapping.host_port.saturating_add(n), mapping.container_port.saturating_add(n)));
    ports.map(|(from, to)| make(&name, key(Field::Port(from)), vec![Field::Ip(container), Field::Port(to)])).collect()
}

fn maker(table: Table, mark: &Mark) -> impl Fn(&str, Vec<Field>, Vec<Field>) -> Element {
    move |set, key, data| Element { table, set: set.to_owned(), key, data, mark: mark.clone() }
}

fn family(name: &str, subnet: &Subnet) -> String {
    format!("{name}{}", if subnet.is_ipv4() { 4 } else { 6 })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::PortSpec;
    use plan::Object;

    use super::*;
    use crate::{FieldType, rules};

    /// Compares with nft's words, and every element's shape with its set's.
    fn check(elements: &[Element], means: &str) {
        let lines: Vec<_> = elements.iter().map(|e| Object::Element(e.clone()).to_string()).collect();
        let lines: Vec<_> = lines.iter().map(|line| line.trim_start_matches("element ")).collect();
        let means: Vec<_> = means.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, means);
        let keys: BTreeSet<_> = elements.iter().map(|e| (e.table, &e.set, &e.key)).collect();
        assert_eq!(keys.len(), elements.len(), "an element twice");
        for element in elements {
            let tables = rules().tables;
            let table = tables.iter().find(|table| table.table == element.table).unwrap();
            let set = table.sets.iter().find(|set| set.name == element.set).expect(&element.set);
            assert!(fits(&element.key, set.key) && fits(&element.data, set.data), "{element:?}");
        }
    }

    fn fits(fields: &[Field], types: &[FieldType]) -> bool {
        fields.len() == types.len()
            && fields.iter().zip(types).all(|(field, kind)| match field {
                Field::Ip(ip) => *kind == if ip.is_ipv4() { FieldType::Ip4 } else { FieldType::Ip6 },
                Field::Net(net) => *kind == if net.is_ipv4() { FieldType::Net4 } else { FieldType::Net6 },
                Field::Protocol(_) => *kind == FieldType::Protocol,
                Field::Port(_) => *kind == FieldType::Port,
                Field::Ports(..) => *kind == FieldType::Ports,
                Field::Link(_) => *kind == FieldType::Link,
                Field::Mac(_) => *kind == FieldType::Mac,
            })
    }

    fn mark() -> Mark {
        Mark::new("0badcafe", "123456789abc")
    }

    fn network(subnets: &[&str]) -> NetworkFirewall {
        NetworkFirewall {
            bridge: "podman0".parse().unwrap(),
            subnets: subnets.iter().map(|s| s.parse().unwrap()).collect(),
            gateways: Vec::new(),
            dns: None,
            isolation: Isolation::FromEverything,
            internal: false,
            relayed: false,
            apart: false,
            outbound4: None,
            outbound6: None,
            mark: mark(),
        }
    }

    fn published(port: &str, ip4: &str, ip6: &str) -> Vec<Element> {
        let spec: PortSpec = port.parse().unwrap();
        publish_elements(&spec.at(spec.host_port.unwrap()), ip4.parse().ok(), ip6.parse().ok(), &mark())
    }

    #[test]
    fn a_network_is_hidden_and_kept_apart_in_both_families() {
        check(
            &network_elements(&network(&["10.88.0.0/16", "fd00:88::/64"])),
            r#"inet podwire bridges { "podman0" }
               inet podwire strict { "podman0" }
               inet podwire lanes { "podman0" . "podman0" }
               inet podwire subnets4 { 10.88.0.0/16 }
               inet podwire lan4 { 10.88.0.0/16 . 10.88.0.0/16 }
               inet podwire hidden4 { 10.88.0.0/16 }
               inet podwire subnets6 { fd00:88::/64 }
               inet podwire lan6 { fd00:88::/64 . fd00:88::/64 }
               inet podwire hidden6 { fd00:88::/64 }"#,
        );
    }

    #[test]
    fn an_internal_network_is_not_hidden_since_it_does_not_go_out() {
        let internal =
            NetworkFirewall { internal: true, isolation: Isolation::FromIsolated, ..network(&["10.89.0.0/24"]) };
        check(
            &network_elements(&internal),
            r#"inet podwire bridges { "podman0" }
               inet podwire internal { "podman0" }
               inet podwire isolated { "podman0" }
               inet podwire lanes { "podman0" . "podman0" }
               inet podwire subnets4 { 10.89.0.0/24 }
               inet podwire lan4 { 10.89.0.0/24 . 10.89.0.0/24 }"#,
        );
    }

    #[test]
    fn behind_a_relay_nobody_is_hidden_and_no_address_chosen() {
        let relayed = NetworkFirewall {
            relayed: true,
            isolation: Isolation::None,
            outbound4: Some(Ipv4Addr::new(192, 0, 2, 7)),
            ..network(&["10.89.0.0/24", "fd00:88::/64"])
        };
        check(
            &network_elements(&relayed),
            r#"inet podwire bridges { "podman0" }
               inet podwire lanes { "podman0" . "podman0" }
               inet podwire subnets4 { 10.89.0.0/24 }
               inet podwire lan4 { 10.89.0.0/24 . 10.89.0.0/24 }
               inet podwire subnets6 { fd00:88::/64 }
               inet podwire lan6 { fd00:88::/64 . fd00:88::/64 }"#,
        );
    }

    #[test]
    fn members_that_are_kept_apart_have_no_lane_through_this_host() {
        let apart = NetworkFirewall { relayed: true, apart: true, ..network(&["10.89.0.0/24"]) };
        check(
            &network_elements(&apart),
            r#"inet podwire bridges { "podman0" }
               inet podwire strict { "podman0" }
               inet podwire subnets4 { 10.89.0.0/24 }
               inet podwire lan4 { 10.89.0.0/24 . 10.89.0.0/24 }"#,
        );
    }

    #[test]
    fn names_are_asked_at_port_53_of_every_gateway_and_answered_at_another() {
        let gateways = vec!["10.89.0.1".parse().unwrap(), "fd00:88::1".parse().unwrap()];
        let without = network(&["10.89.0.0/24", "fd00:88::/64"]);
        let named = NetworkFirewall { gateways: gateways.clone(), dns: Some(834), ..without.clone() };
        let elements = network_elements(&named);
        let others = network_elements(&NetworkFirewall { gateways, ..without });
        check(
            &elements[others.len()..],
            "inet podwire dns4 { 10.89.0.1 : 10.89.0.1 . 834 }
             inet podwire dns6 { fd00:88::1 : fd00:88::1 . 834 }",
        );
        assert_eq!(elements[..others.len()], others);
    }

    #[test]
    fn an_outbound_address_replaces_masquerading_in_its_family() {
        let open = NetworkFirewall {
            isolation: Isolation::None,
            outbound4: Some(Ipv4Addr::new(192, 0, 2, 7)),
            ..network(&["10.89.0.0/24", "10.90.0.0/24", "fd00:88::/64"])
        };
        check(
            &network_elements(&open),
            r#"inet podwire bridges { "podman0" }
               inet podwire lanes { "podman0" . "podman0" }
               inet podwire subnets4 { 10.89.0.0/24 }
               inet podwire lan4 { 10.89.0.0/24 . 10.89.0.0/24 }
               inet podwire lan4 { 10.89.0.0/24 . 10.90.0.0/24 }
               inet podwire outbound4 { 10.89.0.0/24 : 192.0.2.7 }
               inet podwire subnets4 { 10.90.0.0/24 }
               inet podwire lan4 { 10.90.0.0/24 . 10.89.0.0/24 }
               inet podwire lan4 { 10.90.0.0/24 . 10.90.0.0/24 }
               inet podwire outbound4 { 10.90.0.0/24 : 192.0.2.7 }
               inet podwire subnets6 { fd00:88::/64 }
               inet podwire lan6 { fd00:88::/64 . fd00:88::/64 }
               inet podwire hidden6 { fd00:88::/64 }"#,
        );
    }

    #[test]
    fn a_port_may_say_only_its_own_addresses() {
        let (link, mac) = ("pw0123456789".parse().unwrap(), "02:42:0a:58:00:02".parse().unwrap());
        check(
            &port_elements(&link, mac, &["10.88.0.2".parse().unwrap()], &mark()),
            r#"bridge podwire macs { "pw0123456789" . 02:42:0a:58:00:02 }
               bridge podwire addr4 { "pw0123456789" . 10.88.0.2 }"#,
        );
        check(
            &port_elements(&link, mac, &["fd00:88::2".parse().unwrap()], &mark()),
            r#"bridge podwire macs { "pw0123456789" . 02:42:0a:58:00:02 }
               bridge podwire addr6 { "pw0123456789" . :: }
               bridge podwire addr6 { "pw0123456789" . fd00:88::2 }
               bridge podwire addr6 { "pw0123456789" . fe80::42:aff:fe58:2 }"#,
        );
    }

    #[test]
    fn a_port_is_published_in_the_families_that_both_sides_have() {
        check(
            &published("8080:80", "10.88.0.2", "fd00:88::2"),
            "inet podwire publish4_any { tcp . 8080 : 10.88.0.2 . 80 }
             inet podwire publish6_any { tcp . 8080 : fd00:88::2 . 80 }",
        );
        check(&published("8080:80", "10.88.0.2", ""), "inet podwire publish4_any { tcp . 8080 : 10.88.0.2 . 80 }");
        check(
            &published("0.0.0.0:8080:80/udp", "10.88.0.2", "fd00:88::2"),
            "inet podwire publish4_any { udp . 8080 : 10.88.0.2 . 80 }",
        );
        check(
            &published("[2001:db8::1]:8080:80/sctp", "10.88.0.2", "fd00:88::2"),
            "inet podwire publish6 { 2001:db8::1 . sctp . 8080 : fd00:88::2 . 80 }",
        );
        check(
            &published("127.0.0.1:8080:80", "10.88.0.2", "fd00:88::2"),
            "inet podwire publish4 { 127.0.0.1 . tcp . 8080 : 10.88.0.2 . 80 }",
        );
        check(&published("[::1]:8080:80", "10.88.0.2", "fd00:88::2"), "");
    }

    #[test]
    fn a_range_with_the_same_ports_on_both_sides_is_one_element() {
        check(
            &published("1-65535:1-65535", "10.88.0.2", ""),
            "inet podwire publish4_any_range { tcp . 1-65535 : 10.88.0.2 }",
        );
        check(
            &published("192.0.2.1:30000-49999:30000-49999/udp", "10.88.0.2", ""),
            "inet podwire publish4_range { 192.0.2.1 . udp . 30000-49999 : 10.88.0.2 }",
        );
    }

    #[test]
    fn a_shifted_range_is_one_element_per_port() {
        check(
            &published("8000-8002:80-82", "10.88.0.2", ""),
            "inet podwire publish4_any { tcp . 8000 : 10.88.0.2 . 80 }
             inet podwire publish4_any { tcp . 8001 : 10.88.0.2 . 81 }
             inet podwire publish4_any { tcp . 8002 : 10.88.0.2 . 82 }",
        );
        assert_eq!(published("1-65534:2-65535", "10.88.0.2", "").len(), 65_534);
    }
}
