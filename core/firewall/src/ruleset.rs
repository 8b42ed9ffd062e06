//! The ruleset itself. Read it beside `tests/ruleset.txt`, which is what it renders to.

use std::net::Ipv6Addr;

use plan::Table;
use sha2::{Digest, Sha256};

use crate::rule::{
    Base, Chain, Family, FieldType, Hook, Is, Rule, Rules, Selector, Selector::*, Set, Statement, Statement::*, Symbol,
    TableRules, Value, Value::Number, Verdict, ip4, ip6,
};

/// The link group of everything podwire creates: "pw". A member of a bridge that is no container's port, as a
/// tunnel would be, must be in another.
pub const LINK_GROUP: u32 = 0x7077;

/// The link of an ordinary user's relay, in the namespace where his bridges are: what leaves by it, the relay takes
/// up, and what it has to say comes from it.
pub const RELAY_LINK: &str = "pwrelay";

/// The mark of packets that the relay has taken up, whole: "pw", 1. It comes from the relay's own table in the same
/// namespace; a container cannot send one, for marks are taken off on the way through a veth (skb_scrub_packet in
/// net/core/skbuff.c).
pub const RELAY_MARK: u32 = 0x7077_0001;

/// The constant part of the firewall.
pub fn rules() -> Rules {
    Rules { tables: vec![inet(), bridge()] }
}

/// Digest of the rules' text: 16 hexadecimal digits.
pub fn version() -> String {
    Sha256::digest(rules().to_string()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

const ACCEPT: Statement = Verdict(Verdict::Accept);
const DROP: Statement = Verdict(Verdict::Drop);
const RETURN: Statement = Verdict(Verdict::Return);

const fn jump(chain: &'static str) -> Statement {
    Verdict(Verdict::Jump(chain))
}

const fn goto(chain: &'static str) -> Statement {
    Verdict(Verdict::Goto(chain))
}

const fn is(selector: Selector, value: Value) -> Statement {
    Match(selector, Is::Equal, value)
}

const fn not(selector: Selector, value: Value) -> Statement {
    Match(selector, Is::NotEqual, value)
}

const fn word(number: u32, word: &'static str) -> Value {
    Value::Symbol(Symbol(number, word))
}

const fn set(name: &'static str, key: &'static [FieldType]) -> Set {
    Set { name, key, data: &[] }
}

const fn map(name: &'static str, key: &'static [FieldType], data: &'static [FieldType]) -> Set {
    Set { name, key, data }
}

fn base(name: &'static str, hook: Hook, priority: i32, rules: Vec<Vec<Statement>>) -> Chain {
    chain(name, Some(Base { nat: false, hook, priority }), rules)
}

fn nat(name: &'static str, hook: Hook, priority: i32, rules: Vec<Vec<Statement>>) -> Chain {
    chain(name, Some(Base { nat: true, hook, priority }), rules)
}

fn plain(name: &'static str, rules: Vec<Vec<Statement>>) -> Chain {
    chain(name, None, rules)
}

fn chain(name: &'static str, base: Option<Base>, rules: Vec<Vec<Statement>>) -> Chain {
    Chain { name, base, rules: rules.into_iter().map(Rule).collect() }
}

// Addresses, by nft's way of writing them. `Lookup`s of one family are false for packets of the other.

fn loopback4() -> Value {
    ip4([127, 0, 0, 0], 8)
}

fn loopback6() -> Value {
    ip6(Ipv6Addr::LOCALHOST, 128)
}

fn link_local6() -> Value {
    ip6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)
}

// Numbers: enum ip_conntrack_info bits as NF_CT_STATE_BIT makes them (include/uapi/linux/netfilter/
// nf_conntrack_common.h), IPS_DST_NAT, RTN_LOCAL (rtnetlink.h), NFPROTO_* (netfilter.h).
const INVALID: &[Symbol] = &[Symbol(1, "invalid")];
const ESTABLISHED: &[Symbol] = &[Symbol(2, "established"), Symbol(4, "related")];
const DNATED: &[Symbol] = &[Symbol(1 << 5, "dnat")];
const LOCAL: Value = word(2, "local");
const IPV4: Value = word(2, "ipv4");
const IPV6: Value = word(10, "ipv6");
const TCP: Value = word(6, "tcp");
const UDP: Value = word(17, "udp");
const ICMPV6: Value = word(58, "ipv6-icmp");

const LINK: &[FieldType] = &[FieldType::Link];
const NET4: &[FieldType] = &[FieldType::Net4];
const NET6: &[FieldType] = &[FieldType::Net6];
const PORT: &[FieldType] = &[FieldType::Protocol, FieldType::Port];
const PORTS: &[FieldType] = &[FieldType::Protocol, FieldType::Ports];
const FROM_TO4: &[Selector] = &[IpSaddr, IpDaddr];
const FROM_TO6: &[Selector] = &[Ip6Saddr, Ip6Daddr];
const PORT_OF4: &[Selector] = &[IpDaddr, L4Proto, ThDport];
const PORT_OF6: &[Selector] = &[Ip6Daddr, L4Proto, ThDport];
const PORT_ALONE: &[Selector] = &[L4Proto, ThDport];

fn inet() -> TableRules {
    use FieldType::{Ip4, Ip6, Link, Net4, Net6, Port, Ports, Protocol};
    let sets = vec![
        set("bridges", LINK),
        set("internal", LINK),
        set("strict", LINK),
        set("isolated", LINK),
        set("lanes", &[Link, Link]),
        set("subnets4", NET4),
        set("subnets6", NET6),
        set("lan4", &[Net4, Net4]),
        set("lan6", &[Net6, Net6]),
        set("hidden4", NET4),
        set("hidden6", NET6),
        map("outbound4", NET4, &[Ip4]),
        map("outbound6", NET6, &[Ip6]),
        map("dns4", &[Ip4], &[Ip4, Port]),
        map("dns6", &[Ip6], &[Ip6, Port]),
        map("publish4", &[Ip4, Protocol, Port], &[Ip4, Port]),
        map("publish6", &[Ip6, Protocol, Port], &[Ip6, Port]),
        map("publish4_any", PORT, &[Ip4, Port]),
        map("publish6_any", PORT, &[Ip6, Port]),
        map("publish4_range", &[Ip4, Protocol, Ports], &[Ip4]),
        map("publish6_range", &[Ip6, Protocol, Ports], &[Ip6]),
        map("publish4_any_range", PORTS, &[Ip4]),
        map("publish6_any_range", PORTS, &[Ip6]),
    ];
    let mut chains = vec![raw()];
    chains.extend(publish());
    chains.push(postrouting());
    chains.extend(forward());
    chains.extend(input());
    TableRules { table: Table::Inet, sets, chains }
}

/// Before connection tracking: loopback addresses only on `lo`, and our subnets only from our bridges (I6).
/// Replies to masqueraded flows still carry the host's own address here. What the relay sends in a container's
/// name, or to one, comes by its link.
fn raw() -> Chain {
    base(
        "raw",
        Hook::Prerouting,
        -310,
        vec![
            vec![is(IifName, Value::Link("lo")), ACCEPT],
            vec![is(IpDaddr, loopback4()), DROP],
            vec![is(IpSaddr, loopback4()), DROP],
            vec![is(Ip6Daddr, loopback6()), DROP],
            vec![is(Ip6Saddr, loopback6()), DROP],
            vec![Lookup(&[IifName], "bridges"), ACCEPT],
            vec![is(IifName, Value::Link(RELAY_LINK)), ACCEPT],
            vec![Lookup(&[IpDaddr], "subnets4"), DROP],
            vec![Lookup(&[IpSaddr], "subnets4"), DROP],
            vec![Lookup(&[Ip6Daddr], "subnets6"), DROP],
            vec![Lookup(&[Ip6Saddr], "subnets6"), DROP],
        ],
    )
}

/// DNS and published ports, for what is addressed to this host and nothing else: not for broadcasts, not for what
/// passes through. Names are asked at port 53 of the gateway that the question comes in by, whatever is published
/// there, and answered at another port. From outside, a port of one address only by the link that has it; a
/// container may use any address of its host. `::1` and link-local sources cannot leave the link, so they are left
/// to the socket that holds the port.
fn publish() -> Vec<Chain> {
    let dns = |port| {
        let asked = move || is(port, Number(53));
        [vec![asked(), Dnat(Family::Ip, &[IpDaddr], "dns4")], vec![asked(), Dnat(Family::Ip6, &[Ip6Daddr], "dns6")]]
    };
    let exact = vec![
        vec![Dnat(Family::Ip, PORT_OF4, "publish4")],
        vec![Dnat(Family::Ip, PORT_OF4, "publish4_range")],
        vec![Dnat(Family::Ip6, PORT_OF6, "publish6")],
        vec![Dnat(Family::Ip6, PORT_OF6, "publish6_range")],
    ];
    let any = vec![
        vec![is(NfProto, IPV4), Dnat(Family::Ip, PORT_ALONE, "publish4_any")],
        vec![is(NfProto, IPV4), Dnat(Family::Ip, PORT_ALONE, "publish4_any_range")],
        vec![is(NfProto, IPV6), Dnat(Family::Ip6, PORT_ALONE, "publish6_any")],
        vec![is(NfProto, IPV6), Dnat(Family::Ip6, PORT_ALONE, "publish6_any_range")],
    ];
    let prerouting = vec![
        vec![not(FibDaddrType, LOCAL), ACCEPT],
        vec![is(Ip6Daddr, link_local6()), ACCEPT],
        vec![Lookup(&[IifName], "bridges"), is(FibDaddrIifType, LOCAL), jump("dns")],
        vec![Lookup(&[IifName], "bridges"), jump("publish")],
        vec![is(FibDaddrIifType, LOCAL), jump("publish")],
        vec![goto("publish_any")],
    ];
    let output = vec![
        vec![not(FibDaddrType, LOCAL), ACCEPT],
        vec![is(Ip6Daddr, loopback6()), ACCEPT],
        vec![is(Ip6Daddr, link_local6()), ACCEPT],
        vec![jump("dns")],
        vec![jump("publish")],
        vec![goto("publish_any")],
    ];
    vec![
        plain("dns", [UdpDport, TcpDport].into_iter().flat_map(dns).collect()),
        plain("publish", exact),
        plain("publish_any", any),
        nat("prerouting", Hook::Prerouting, -100, prerouting),
        nat("output", Hook::Output, -100, output),
    ]
}

/// Whose source address is changed: of flows that were translated back into the network they came from (the
/// answer would else go straight to the client, from an address it never asked), of the host's loopback
/// flows, and of hidden subnets going out. What stays on `lo` needs no other address.
fn postrouting() -> Chain {
    nat(
        "postrouting",
        Hook::Postrouting,
        100,
        vec![
            vec![is(OifName, Value::Link("lo")), ACCEPT],
            vec![AnyBit(CtStatus, DNATED), Lookup(FROM_TO4, "lan4"), Masquerade],
            vec![AnyBit(CtStatus, DNATED), Lookup(FROM_TO6, "lan6"), Masquerade],
            vec![Lookup(&[OifName], "bridges"), is(IpSaddr, loopback4()), Masquerade],
            vec![Lookup(&[OifName], "bridges"), ACCEPT],
            vec![is(IpDaddr, ip4([224, 0, 0, 0], 4)), ACCEPT],
            vec![is(Ip6Daddr, ip6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)), ACCEPT],
            vec![Snat(Family::Ip, &[IpSaddr], "outbound4")],
            vec![Snat(Family::Ip6, &[Ip6Saddr], "outbound6")],
            vec![Lookup(&[IpSaddr], "hidden4"), Masquerade],
            vec![Lookup(&[Ip6Saddr], "hidden6"), Masquerade],
        ],
    )
}

/// Who may talk through this host (I8). A lane is a bridge to itself: seen here when bridge-nf-call-iptables
/// is 1, and for hairpins. What came by a bridge in a VRF seems to come by the VRF from here on, and by the bridge
/// as `meta sdifname` (vrf_ip_rcv in drivers/net/vrf.c). An invalid packet would leave with a container's address, since NAT does not see it.
fn forward() -> Vec<Chain> {
    let forward = vec![
        vec![Lookup(&[IifName, OifName], "lanes"), ACCEPT],
        vec![Lookup(&[SdifName, OifName], "lanes"), ACCEPT],
        vec![Lookup(&[IifName], "internal"), DROP],
        vec![Lookup(&[SdifName], "internal"), DROP],
        vec![Lookup(&[OifName], "internal"), DROP],
        vec![Lookup(&[IifName], "bridges"), AnyBit(CtState, INVALID), DROP],
        vec![Lookup(&[SdifName], "bridges"), AnyBit(CtState, INVALID), DROP],
        vec![Lookup(&[OifName], "bridges"), goto("to_container")],
    ];
    let to_container = vec![
        // Answers that the relay has written, untracked.
        vec![is(IifName, Value::Link(RELAY_LINK)), ACCEPT],
        vec![AnyBit(CtState, ESTABLISHED), ACCEPT],
        vec![AnyBit(CtStatus, DNATED), ACCEPT],
        vec![Lookup(&[IifName], "strict"), DROP],
        vec![Lookup(&[SdifName], "strict"), DROP],
        vec![Lookup(&[OifName], "strict"), DROP],
        vec![Lookup(&[IifName], "isolated"), Lookup(&[OifName], "isolated"), DROP],
        vec![Lookup(&[SdifName], "isolated"), Lookup(&[OifName], "isolated"), DROP],
        vec![Lookup(&[IifName], "bridges"), ACCEPT],
        vec![Lookup(&[SdifName], "bridges"), ACCEPT],
        vec![DROP],
    ];
    vec![base("forward", Hook::Forward, 0, forward), plain("to_container", to_container)]
}

/// What a container may ask its host: ping, neighbour discovery, and DNS of its own network's gateway, which came
/// to port 53 and was translated. Published ports were translated too, and do not come here. What goes out by the
/// relay ends in a socket of the host, which is no way out for an internal network.
fn input() -> Vec<Chain> {
    let from_container = vec![
        vec![AnyBit(CtState, ESTABLISHED), ACCEPT],
        vec![is(IcmpType, word(8, "echo-request")), ACCEPT],
        vec![is(Icmpv6Type, word(128, "echo-request")), ACCEPT],
        vec![is(Icmpv6Type, word(135, "nd-neighbor-solicit")), ACCEPT],
        vec![is(Icmpv6Type, word(136, "nd-neighbor-advert")), ACCEPT],
        vec![AnyBit(CtStatus, DNATED), Lookup(FROM_TO4, "lan4"), jump("asks_names")],
        vec![AnyBit(CtStatus, DNATED), Lookup(FROM_TO6, "lan6"), jump("asks_names")],
        vec![DROP],
    ];
    let asked = |protocol| vec![is(L4Proto, protocol), is(CtOriginalDport, Number(53)), ACCEPT];
    vec![
        base(
            "input",
            Hook::Input,
            0,
            vec![
                vec![Lookup(&[IifName], "internal"), goto("from_container")],
                vec![Lookup(&[SdifName], "internal"), goto("from_container")],
                vec![is(Mark, word(RELAY_MARK, "0x70770001")), ACCEPT],
                vec![Lookup(&[IifName], "bridges"), goto("from_container")],
                vec![Lookup(&[SdifName], "bridges"), goto("from_container")],
            ],
        ),
        plain("from_container", from_container),
        plain("asks_names", vec![asked(UDP), asked(TCP)]),
    ]
}

fn bridge() -> TableRules {
    use FieldType::{Ip4, Ip6, Link, Mac};
    TableRules {
        table: Table::Bridge,
        // Not `ip4`, `ip6`, which are keywords and could not be typed at nft's command line.
        sets: vec![set("macs", &[Link, Mac]), set("addr4", &[Link, Ip4]), set("addr6", &[Link, Ip6])],
        chains: identity(),
    }
}

/// No lies on the wire (I7), before the bridge learns and before br_netfilter. What is allowed is named and the
/// rest dropped, so that a packet too short for a rule does not pass. `meta l4proto != 0` is true for every
/// packet whose headers the kernel could walk to the last one: a router advertisement behind extension
/// headers is one of ICMPv6 here.
///
/// A port is known by its link's group, which it has from its creation to its end: while a container comes or
/// goes, when its elements are not there, it may say nothing at all.
fn identity() -> Vec<Chain> {
    let to_switch = Masked(EtherDaddr, [0xff, 0xff, 0xff, 0xff, 0xff, 0xf0], Is::Equal, [1, 0x80, 0xc2, 0, 0, 0]);
    let port = is(IifGroup, Number(LINK_GROUP));
    let to_many = Masked(EtherDaddr, [1, 0, 0, 0, 0, 0], Is::NotEqual, [0; 6]);
    let identity =
        vec![vec![to_switch.clone(), DROP], vec![Lookup(&[IifName, EtherSaddr], "macs"), goto("content")], vec![DROP]];
    let content = vec![
        vec![is(EtherType, word(0x0800, "ip")), goto("content4")],
        vec![is(EtherType, word(0x86dd, "ip6")), goto("content6")],
        vec![is(EtherType, word(0x0806, "arp")), goto("content_arp")],
        vec![DROP],
    ];
    let content4 = vec![
        vec![is(UdpSport, Number(67)), DROP],
        vec![not(L4Proto, Number(0)), Lookup(&[IifName, IpSaddr], "addr4"), ACCEPT],
        vec![DROP],
    ];
    // A later fragment says nothing of what it is part of; the first one must say all, so that neither does
    // harm without the other (RFC 7112).
    let content6 = vec![
        vec![not(FragOff, Number(0)), not(L4Proto, Number(0)), Lookup(&[IifName, Ip6Saddr], "addr6"), ACCEPT],
        vec![is(L4Proto, ICMPV6), jump("content_icmpv6")],
        vec![is(UdpSport, Number(547)), DROP],
        vec![Has(ThDport), Lookup(&[IifName, Ip6Saddr], "addr6"), ACCEPT],
        vec![DROP],
    ];
    // A solicitation from `::` is duplicate address detection: it makes the address's owner give it up.
    let icmpv6 = vec![
        vec![is(Icmpv6Type, word(134, "nd-router-advert")), DROP],
        vec![is(Icmpv6Type, word(137, "nd-redirect")), DROP],
        vec![is(Icmpv6Type, word(136, "nd-neighbor-advert")), jump("own_target")],
        vec![
            is(Ip6Saddr, ip6(Ipv6Addr::UNSPECIFIED, 128)),
            is(Icmpv6Type, word(135, "nd-neighbor-solicit")),
            jump("own_target"),
        ],
    ];
    let own_target = vec![vec![Lookup(&[IifName, Icmpv6Taddr], "addr6"), RETURN], vec![DROP]];
    let arp = vec![
        vec![
            is(ArpHtype, Number(1)),
            is(ArpPtype, word(0x0800, "ip")),
            is(ArpHlen, Number(6)),
            is(ArpPlen, Number(4)),
            Lookup(&[IifName, ArpSaddrEther], "macs"),
            Lookup(&[IifName, ArpSaddrIp], "addr4"),
            ACCEPT,
        ],
        vec![DROP],
    ];
    vec![
        base("prerouting", Hook::Prerouting, -310, vec![vec![port.clone(), jump("identity")]]),
        // Control frames that are not forwarded come here instead, and are learned from too.
        base("input", Hook::Input, -310, vec![vec![port, to_switch, DROP]]),
        // Hairpin mode would send a container its own broadcasts back.
        base("forward", Hook::Forward, -310, vec![vec![to_many, Lookup(&[OifName, EtherSaddr], "macs"), DROP]]),
        plain("identity", identity),
        plain("content", content),
        plain("content4", content4),
        plain("content6", content6),
        plain("content_icmpv6", icmpv6),
        plain("own_target", own_target),
        plain("content_arp", arp),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_that_a_rule_names_is_there_and_used() {
        for table in rules().tables {
            let mut used = Vec::new();
            for statement in table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.0) {
                if let Lookup(key, name) | Dnat(_, key, name) | Snat(_, key, name) = statement {
                    let set = table.sets.iter().find(|set| set.name == *name).expect(name);
                    assert_eq!(set.key.len(), key.len(), "{statement}");
                    assert_eq!(matches!(statement, Lookup(..)), set.data.is_empty(), "{statement}");
                    used.push(*name);
                }
            }
            for set in &table.sets {
                assert!(used.contains(&set.name), "nobody looks into {}", set.name);
            }
        }
    }

    #[test]
    fn every_chain_that_is_not_a_base_chain_is_jumped_to() {
        for table in rules().tables {
            let statements: Vec<_> =
                table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| rule.0.clone()).collect();
            for chain in &table.chains {
                let reached = statements.contains(&jump(chain.name)) || statements.contains(&goto(chain.name));
                assert_eq!(reached, chain.base.is_none(), "{}", chain.name);
            }
        }
    }

    #[test]
    fn the_version_changes_with_the_rules_only() {
        assert_eq!(version(), version());
        assert_eq!(version().len(), 16);
    }
}
