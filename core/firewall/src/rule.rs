//! The vocabulary of the ruleset. `Display` is nft's syntax, as `nft -y list table` prints it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use model::Subnet;
use plan::Table;

/// All tables of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// In the order they are created.
    pub tables: Vec<TableRules>,
}

/// One table. Rules name sets and chains, so these are created before any rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRules {
    /// Which.
    pub table: Table,
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains with their rules.
    pub chains: Vec<Chain>,
}

/// A set, or a map when it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name; at most 15 characters, so that older tools can show it.
    pub name: &'static str,
    /// The concatenated key.
    pub key: &'static [FieldType],
    /// The concatenated data of a map.
    pub data: &'static [FieldType],
}

impl Set {
    /// Are its keys intervals?
    pub fn is_interval(&self) -> bool {
        self.key.iter().any(|field| matches!(field, FieldType::Net4 | FieldType::Net6 | FieldType::Ports))
    }
}

/// What a part of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A link's name.
    Link,
    /// One IPv4 address.
    Ip4,
    /// One IPv6 address.
    Ip6,
    /// An IPv4 subnet.
    Net4,
    /// An IPv6 subnet.
    Net6,
    /// A transport protocol.
    Protocol,
    /// One port.
    Port,
    /// Ports from first to last.
    Ports,
    /// A MAC address.
    Mac,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where packets enter it; `None` for one that is only jumped to.
    pub base: Option<Base>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Where packets enter a chain. The policy is always accept: what we drop, we drop by a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// May it translate addresses? Then it sees only the first packet of a flow.
    pub nat: bool,
    /// At which point of a packet's way.
    pub hook: Hook,
    /// Lower is earlier (include/uapi/linux/netfilter_ipv4.h, netfilter_bridge.h).
    pub priority: i32,
}

/// A point of a packet's way; the same numbers in both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "nft's words")]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Statements, each evaluated when all before it were true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(pub Vec<Statement>);

/// One part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `ip daddr 127.0.0.0/8`, `meta l4proto != 0`
    Match(Selector, Is, Value),
    /// `th dport >= 0`: true of whatever has it.
    Has(Selector),
    /// `ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00`
    Masked(Selector, [u8; 6], Is, [u8; 6]),
    /// `ct state established,related`: any of these bits.
    AnyBit(Selector, &'static [Symbol]),
    /// `iifname . oifname @lanes`
    Lookup(&'static [Selector], &'static str),
    /// `dnat ip to ip daddr . meta l4proto . th dport map @publish4`; the next rule when there is no such element.
    Dnat(Family, &'static [Selector], &'static str),
    /// `snat ip to ip saddr map @outbound4`; the next rule when there is no such element.
    Snat(Family, &'static [Selector], &'static str),
    /// `masquerade`
    Masquerade,
    /// The end of the rule.
    Verdict(Verdict),
}

/// Equal or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// `==`, which nft does not print where it is implied.
    Equal,
    /// `!=`
    NotEqual,
}

/// Of which family the addresses are that NAT writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    Ip,
    /// IPv6
    Ip6,
}

/// What happens to the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing more in this base chain; other tables may still drop it.
    Accept,
    /// Gone.
    Drop,
    /// Back to the rule after the jump.
    Return,
    /// Into another chain and, if nothing there decides, back.
    Jump(&'static str),
    /// Into another chain, not back.
    Goto(&'static str),
}

/// What of a packet is looked at. A rule is false when the packet does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "nft's words")]
pub enum Selector {
    /// The group of the link a packet came by.
    IifGroup,
    IifName,
    /// The link that a packet came by, when it is in a VRF: `iifname` is the VRF then.
    SdifName,
    OifName,
    Mark,
    NfProto,
    L4Proto,
    EtherSaddr,
    EtherDaddr,
    EtherType,
    ArpHtype,
    ArpPtype,
    ArpHlen,
    ArpPlen,
    ArpSaddrEther,
    ArpSaddrIp,
    IpSaddr,
    IpDaddr,
    Ip6Saddr,
    Ip6Daddr,
    /// Where in the packet a fragment's content belongs, in units of eight octets (RFC 8200 section 4.5).
    FragOff,
    IcmpType,
    Icmpv6Type,
    /// The address a neighbour solicitation or advertisement is about (RFC 4861 section 4.3).
    Icmpv6Taddr,
    ThDport,
    TcpDport,
    UdpDport,
    UdpSport,
    CtState,
    CtStatus,
    /// The port that a flow's first packet was sent to, before any translation.
    CtOriginalDport,
    /// The kind of the destination address, by the local routing table.
    FibDaddrType,
    /// The same, if the address is on the link the packet came by.
    FibDaddrIifType,
}

/// What a selector is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A link's name.
    Link(&'static str),
    /// An address or a prefix.
    Net(Subnet),
    /// A number and its word in nft.
    Symbol(Symbol),
    /// A number.
    Number(u32),
}

/// A number and its word in nft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol(pub u32, pub &'static str);

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tables.iter().try_for_each(|table| table.fmt(f))
    }
}

impl fmt::Display for TableRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {{", self.table)?;
        for set in &self.sets {
            writeln!(f, "{set}")?;
        }
        for (n, chain) in self.chains.iter().enumerate() {
            let gap = if n == 0 { "" } else { "\n" };
            write!(f, "{gap}{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.data.is_empty() { "set" } else { "map" };
        write!(f, "\t{noun} {} {{\n\t\ttype ", self.name)?;
        joined(f, self.key, " . ")?;
        if !self.data.is_empty() {
            f.write_str(" : ")?;
            joined(f, self.data, " . ")?;
        }
        let flags = if self.is_interval() { "\n\t\tflags interval" } else { "" };
        writeln!(f, "{flags}\n\t}}")
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "ifname",
            Self::Ip4 | Self::Net4 => "ipv4_addr",
            Self::Ip6 | Self::Net6 => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port | Self::Ports => "inet_service",
            Self::Mac => "ether_addr",
        })
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = &self.base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.nat { "nat" } else { "filter" };
        write!(f, "type {kind} hook {} priority {}; policy accept;", self.hook, self.priority)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        joined(f, &self.0, " ")
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(left, is, right) => write!(f, "{left} {is}{right}"),
            Self::Has(left) => write!(f, "{left} >= 0"),
            Self::Masked(left, mask, is, value) => {
                let sign = if *is == Is::Equal { "==" } else { "!=" };
                write!(f, "{left} & {} {sign} {}", Octets(mask), Octets(value))
            }
            Self::AnyBit(left, bits) => {
                write!(f, "{left} ")?;
                joined(f, bits, ",")
            }
            Self::Lookup(key, set) => {
                joined(f, key, " . ")?;
                write!(f, " @{set}")
            }
            Self::Dnat(family, key, map) => nat(f, "dnat", *family, key, map),
            Self::Snat(family, key, map) => nat(f, "snat", *family, key, map),
            Self::Masquerade => f.write_str("masquerade"),
            Self::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

fn nat(f: &mut fmt::Formatter<'_>, verb: &str, family: Family, key: &[Selector], map: &str) -> fmt::Result {
    let family = match family {
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
    };
    write!(f, "{verb} {family} to ")?;
    joined(f, key, " . ")?;
    write!(f, " map @{map}")
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Equal { "" } else { "!= " })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IifGroup => "iifgroup",
            Self::IifName => "iifname",
            Self::SdifName => "meta sdifname",
            Self::OifName => "oifname",
            Self::Mark => "meta mark",
            Self::NfProto => "meta nfproto",
            Self::L4Proto => "meta l4proto",
            Self::EtherSaddr => "ether saddr",
            Self::EtherDaddr => "ether daddr",
            Self::EtherType => "ether type",
            Self::ArpHtype => "arp htype",
            Self::ArpPtype => "arp ptype",
            Self::ArpHlen => "arp hlen",
            Self::ArpPlen => "arp plen",
            Self::ArpSaddrEther => "arp saddr ether",
            Self::ArpSaddrIp => "arp saddr ip",
            Self::IpSaddr => "ip saddr",
            Self::IpDaddr => "ip daddr",
            Self::Ip6Saddr => "ip6 saddr",
            Self::Ip6Daddr => "ip6 daddr",
            Self::FragOff => "frag frag-off",
            Self::IcmpType => "icmp type",
            Self::Icmpv6Type => "icmpv6 type",
            Self::Icmpv6Taddr => "icmpv6 taddr",
            Self::ThDport => "th dport",
            Self::TcpDport => "tcp dport",
            Self::UdpDport => "udp dport",
            Self::UdpSport => "udp sport",
            Self::CtState => "ct state",
            Self::CtStatus => "ct status",
            Self::CtOriginalDport => "ct original proto-dst",
            Self::FibDaddrType => "fib daddr type",
            Self::FibDaddrIifType => "fib daddr . iif type",
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "\"{name}\""),
            Self::Net(net) if net.len() == if net.is_ipv4() { 32 } else { 128 } => net.network().fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::Symbol(symbol) => symbol.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

struct Octets<'a>(&'a [u8; 6]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|octet| write!(f, ":{octet:02x}"))
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[impl fmt::Display], between: &str) -> fmt::Result {
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            f.write_str(between)?;
        }
        part.fmt(f)?;
    }
    Ok(())
}

/// One IPv4 address as a value.
pub(crate) fn ip4(octets: [u8; 4], len: u8) -> Value {
    net(Subnet::around(Ipv4Addr::from(octets).into(), len))
}

/// An IPv6 address as a value.
pub(crate) fn ip6(ip: Ipv6Addr, len: u8) -> Value {
    net(Subnet::around(ip.into(), len))
}

/// Only called with the constants of the ruleset, which a test renders.
fn net(subnet: Result<Subnet, model::Invalid>) -> Value {
    Value::Net(subnet.expect("a constant prefix of the ruleset"))
}
