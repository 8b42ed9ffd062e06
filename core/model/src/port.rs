//! Port mappings: what `-p` says and what it means.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Invalid, serde_as_text};

/// A transport protocol whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The IANA protocol number (include/uapi/linux/in.h).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            other => Err(Invalid(format!("unrecognized protocol {other:?} in port mapping"))),
        }
    }
}

/// On which of the host's addresses a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostAddress {
    /// Every address of both families (`-p 80:80`).
    Any,
    /// Every address of one family (`0.0.0.0`, `[::]`), or just this one.
    Ip(IpAddr),
}

impl HostAddress {
    /// The one address it is limited to, if it is.
    pub fn exact(self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) if !ip.is_unspecified() => Some(ip),
            _ => None,
        }
    }

    /// Does it include addresses of IPv4 (`true`) or IPv6?
    pub fn includes(self, ipv4: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Ip(ip) => ip.is_ipv4() == ipv4,
        }
    }

    /// Could the two share an address?
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Ip(a), Self::Ip(b)) => {
                a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
            }
        }
    }
}

impl fmt::Display for HostAddress {
    /// Podman's text: empty for every address, otherwise the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl FromStr for HostAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        text.parse().map(Self::Ip).map_err(|_| Invalid(format!("cannot parse {text:?} as an IP address")))
    }
}

serde_as_text!(Protocol, HostAddress);

/// `range` ports from `host_port` on the host to as many from `container_port` in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's side.
    pub host: HostAddress,
    /// The first port on the host.
    pub host_port: u16,
    /// The first port in the sandbox.
    pub container_port: u16,
    /// How many ports: at least 1, and neither side goes beyond 65535.
    pub range: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

impl PortMapping {
    /// Would the two want the same port of the same address?
    pub fn clashes(&self, other: &Self) -> bool {
        let first = |m: &Self| u32::from(m.host_port);
        let end = |m: &Self| u32::from(m.host_port) + u32::from(m.range);
        self.protocol == other.protocol
            && self.host.overlaps(other.host)
            && first(self) < end(other)
            && first(other) < end(self)
    }

    /// The host's ports.
    pub fn host_ports(&self) -> impl Iterator<Item = u16> + use<> {
        (self.host_port..=u16::MAX).take(self.range.into())
    }

    /// `count` ports of it from the `skip`th on; nothing when that is none.
    fn part(&self, skip: u16, count: u16) -> Option<Self> {
        (count > 0).then(|| Self {
            host_port: self.host_port.saturating_add(skip),
            container_port: self.container_port.saturating_add(skip),
            range: count,
            ..*self
        })
    }
}

impl fmt::Display for PortMapping {
    /// As `-p` takes it, with everything said but an address that is every address: `127.0.0.1:8080:80/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = PortSpec {
            host: self.host,
            host_port: Some(self.host_port),
            container_port: self.container_port,
            range: self.range,
            protocol: self.protocol,
        };
        spec.fmt(f)
    }
}

/// What `-p` says: like [`PortMapping`], but the host's port may be left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortSpec {
    /// The host's side.
    pub host: HostAddress,
    /// The first port on the host; `None` means any free one.
    pub host_port: Option<u16>,
    /// The first port in the sandbox.
    pub container_port: u16,
    /// How many ports.
    pub range: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

impl PortSpec {
    /// The mapping with the host's first port chosen, or as said.
    pub fn at(&self, host_port: u16) -> PortMapping {
        PortMapping {
            host: self.host,
            host_port,
            container_port: self.container_port,
            range: self.range,
            protocol: self.protocol,
        }
    }
}

impl fmt::Display for PortSpec {
    /// As `-p` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            HostAddress::Any => {}
            HostAddress::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            HostAddress::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
        }
        match self.host_port {
            Some(port) => write!(f, "{}:", Span(port, self.range))?,
            None if self.host != HostAddress::Any => f.write_str(":")?,
            None => {}
        }
        write!(f, "{}/{}", Span(self.container_port, self.range), self.protocol)
    }
}

/// The first port and how many: `80`, `80-83`.
struct Span(u16, u16);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(first, 0 | 1) => write!(f, "{first}"),
            Self(first, count) => write!(f, "{first}-{}", u32::from(first) + u32::from(count) - 1),
        }
    }
}

impl FromStr for PortSpec {
    type Err = Invalid;

    /// `[[IP:][hostPort]:]containerPort[/protocol]`, each port also as a range `A-B`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (ports, protocol) = split_protocol(text)?;
        let (host, host_port, container_port) = split_sides(ports)?;
        let host = match host {
            None => HostAddress::Any,
            Some("") => return Err(Invalid("must provide a non-empty container host IP to publish".to_owned())),
            Some(ip) => ip.parse()?,
        };
        if container_port.is_empty() {
            return Err(Invalid("must provide a non-empty container port to publish".to_owned()));
        }
        let (container_port, range) = port_range("container", container_port)?;
        let host_port = match host_port {
            None | Some("") => None,
            Some(text) => {
                let (first, host_range) = port_range("host", text)?;
                if host_range != range {
                    return Err(Invalid(format!(
                        "host and container port ranges have different lengths: {host_range} vs {range}"
                    )));
                }
                Some(first)
            }
        };
        Ok(Self { host, host_port, container_port, range, protocol })
    }
}

const FORMAT: &str = "invalid port format - format is [[hostIP:]hostPort:]containerPort";

fn split_protocol(text: &str) -> Result<(&str, Protocol), Invalid> {
    let mut parts = text.split('/');
    let ports = parts.next().unwrap_or_default();
    let protocol = match parts.next() {
        None => Protocol::Tcp,
        Some("") => return Err(Invalid("must provide a non-empty protocol to publish".to_owned())),
        Some(protocol) => protocol.parse()?,
    };
    match parts.next() {
        None => Ok((ports, protocol)),
        Some(_) => Err(Invalid("invalid port format - protocol can only be specified once".to_owned())),
    }
}

/// Host address, host port, container port, as far as they are there.
type Sides<'a> = (Option<&'a str>, Option<&'a str>, &'a str);

fn split_sides(text: &str) -> Result<Sides<'_>, Invalid> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or_else(|| Invalid(FORMAT.to_owned()))?;
        let rest = rest.strip_prefix(':').ok_or_else(|| {
            Invalid("invalid port format - IPv6 address must be followed by a colon (':')".to_owned())
        })?;
        let (host, container) = rest.split_once(':').ok_or_else(|| {
            Invalid("invalid port format - must provide host and destination port if specifying an IP".to_owned())
        })?;
        if ip.parse::<Ipv6Addr>().is_err() {
            return Err(Invalid(format!("cannot parse {ip:?} as an IP address")));
        }
        return Ok((Some(ip), Some(host), container));
    }
    match text.split(':').collect::<Vec<_>>()[..] {
        [container] => Ok((None, None, container)),
        [host, container] => Ok((None, Some(host), container)),
        [ip, host, container] => Ok((Some(ip), Some(host), container)),
        _ => Err(Invalid(FORMAT.to_owned())),
    }
}

/// The first port and how many.
fn port_range(side: &str, text: &str) -> Result<(u16, u16), Invalid> {
    let Some((first, last)) = text.split_once('-').filter(|(first, _)| !first.is_empty()) else {
        return Ok((port(side, text)?, 1));
    };
    if last.is_empty() {
        return Err(Invalid(format!("parsing {side} port: must provide ending number for port range")));
    }
    let (first, last) = (port(side, first)?, port(side, last)?);
    if last <= first {
        return Err(Invalid(format!(
            "parsing {side} port: the end port of a range must be higher than the start port - {last} is not higher than {first}"
        )));
    }
    // 1-65535 is 65,535 ports, which a u16 still holds.
    Ok((first, last - first + 1))
}

/// Published ports that shall not be published any more (`--publish-rm`): what is not said does not matter.
///
/// ```text
///   8080              host port 8080/tcp of whatever address; when there is none, the one host port that leads to 8080
///   8080:80/udp       host port 8080/udp of whatever address that leads to 80
///   127.0.0.1:8080:80 that of this address alone; 0.0.0.0 is also every address, as `port` and `ps` show it
///   :80               all that lead to 80/tcp
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpublish {
    spec: PortSpec,
    /// A number alone: which side it is of, the published ports tell.
    bare: bool,
}

impl FromStr for Unpublish {
    type Err = Invalid;

    /// The syntax of [`PortSpec`].
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self { spec: text.parse()?, bare: !text.contains(':') })
    }
}

impl fmt::Display for Unpublish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon =
            if self.bare || self.spec.host_port.is_some() || self.spec.host != HostAddress::Any { "" } else { ":" };
        write!(f, "{colon}{}", self.spec)
    }
}

/// Which of a mapping's ports a number is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Host,
    Container,
}

impl Unpublish {
    /// What remains of `published`; a range is cut where ports are taken out of it.
    ///
    /// An error when a port that was named is not published, or when a number alone means more than one.
    pub fn remains_of(&self, published: &[PortMapping]) -> Result<Vec<PortMapping>, Invalid> {
        let (first, side) = match self.spec.host_port {
            Some(port) => (port, Side::Host),
            None => (self.spec.container_port, Side::Container),
        };
        if self.bare {
            return match self.cut(published, first, Side::Host) {
                Cut { missing: None, rest, .. } => Ok(rest),
                _ => self.only_one(self.cut(published, first, Side::Container), published),
            };
        }
        let cut = self.cut(published, first, side);
        match cut.missing {
            None => Ok(cut.rest),
            Some(port) => Err(self.not_published(port, published)),
        }
    }

    fn only_one(&self, cut: Cut, published: &[PortMapping]) -> Result<Vec<PortMapping>, Invalid> {
        if let Some(port) = cut.missing {
            return Err(self.not_published(port, published));
        }
        if cut.taken > usize::from(self.spec.range) {
            return Err(Invalid(format!(
                "cannot unpublish {self}: more than one host port leads there ({}); name the host port",
                list(published)
            )));
        }
        Ok(cut.rest)
    }

    /// Takes out the ports that match, `side` of them being `first` and those after it.
    fn cut(&self, published: &[PortMapping], first: u16, side: Side) -> Cut {
        let wanted = u32::from(first)..u32::from(first) + u32::from(self.spec.range);
        let mut seen = vec![false; usize::from(self.spec.range)];
        let mut cut = Cut { rest: Vec::new(), taken: 0, missing: None };
        for mapping in published {
            let start = u32::from(if side == Side::Host { mapping.host_port } else { mapping.container_port });
            let from = start.max(wanted.start);
            let to = (start + u32::from(mapping.range)).min(wanted.end);
            if from >= to || !self.means(mapping) {
                cut.rest.push(*mapping);
                continue;
            }
            seen[(from - wanted.start) as usize..(to - wanted.start) as usize].fill(true);
            cut.taken += (to - from) as usize;
            // Both fit: a mapping has at most 65,535 ports.
            cut.rest.extend(mapping.part(0, (from - start) as u16));
            cut.rest.extend(mapping.part((to - start) as u16, mapping.range - (to - start) as u16));
        }
        // Fits: a port of the range.
        cut.missing = seen.iter().position(|seen| !seen).map(|n| first.saturating_add(n as u16));
        cut
    }

    /// Is the mapping one of this address and protocol, and does it lead where it should, if that was said?
    fn means(&self, mapping: &PortMapping) -> bool {
        let distance = |host: u16, container: u16| i32::from(host) - i32::from(container);
        let leads = self.spec.host_port.is_none_or(|port| {
            distance(port, self.spec.container_port) == distance(mapping.host_port, mapping.container_port)
        });
        let address = match self.spec.host {
            HostAddress::Any => true,
            HostAddress::Ip(ip) => {
                mapping.host == self.spec.host
                    || (mapping.host == HostAddress::Any && ip.is_ipv4() && ip.is_unspecified())
            }
        };
        leads && address && mapping.protocol == self.spec.protocol
    }

    fn not_published(&self, port: u16, published: &[PortMapping]) -> Invalid {
        let which = if self.spec.range > 1 { format!(" (port {port})") } else { String::new() };
        match published {
            [] => Invalid(format!("cannot unpublish {self}: no port is published")),
            _ => Invalid(format!("cannot unpublish {self}{which}: published are {}", list(published))),
        }
    }
}

/// Published ports with some taken out.
struct Cut {
    rest: Vec<PortMapping>,
    /// How many were.
    taken: usize,
    /// The first that was to be and is not published.
    missing: Option<u16>,
}

fn list(published: &[PortMapping]) -> String {
    published.iter().map(PortMapping::to_string).collect::<Vec<_>>().join(", ")
}

/// One port in decimal; the messages are Podman's (Go's strconv.Atoi among them).
pub fn port(side: &str, text: &str) -> Result<u16, Invalid> {
    let number: i64 = text.parse().map_err(|_| {
        Invalid(format!("parsing {side} port: invalid port number: strconv.Atoi: parsing {text:?}: invalid syntax"))
    })?;
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ if number < 0 => Err(Invalid(format!("parsing {side} port: port numbers cannot be negative"))),
        _ => Err(Invalid(format!(
            "parsing {side} port: port numbers must be between 1 and 65535 (inclusive), got {number}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, means: &str) {
        let said = match text.parse::<PortSpec>() {
            Err(e) => e.0,
            Ok(s) => {
                let host_port = s.host_port.map_or("any".to_owned(), |p| p.to_string());
                format!("{}|{host_port}>{}x{}/{}", s.host, s.container_port, s.range, s.protocol)
            }
        };
        assert_eq!(said, means, "-p {text}");
    }

    #[test]
    fn publish_syntax_is_podmans() {
        check("80", "|any>80x1/tcp");
        check(":80", "|any>80x1/tcp");
        check("8080:80", "|8080>80x1/tcp");
        check("8080:80/UDP", "|8080>80x1/udp");
        check("127.0.0.1:8080:80", "127.0.0.1|8080>80x1/tcp");
        check("127.0.0.1::80", "127.0.0.1|any>80x1/tcp");
        check("[::1]:8080:80/sctp", "::1|8080>80x1/sctp");
        check("8000-8010:80-90", "|8000>80x11/tcp");
        check("80-82", "|any>80x3/tcp");
        check("1-65535:1-65535", "|1>1x65535/tcp");
    }

    #[test]
    fn wrong_syntax_is_answered_in_podmans_words() {
        let format = "invalid port format - format is [[hostIP:]hostPort:]containerPort";
        check("80:80:80:80", format);
        check("::1:8080:80", format);
        check("[::1:8080:80", format);
        check("abc", "parsing container port: invalid port number: strconv.Atoi: parsing \"abc\": invalid syntax");
        check("0", "parsing container port: port numbers must be between 1 and 65535 (inclusive), got 0");
        check("70000", "parsing container port: port numbers must be between 1 and 65535 (inclusive), got 70000");
        check("-80", "parsing container port: port numbers cannot be negative");
        check("8080:80/foo", "unrecognized protocol \"foo\" in port mapping");
        check("80/tcp/udp", "invalid port format - protocol can only be specified once");
        check("8080-8081:80", "host and container port ranges have different lengths: 2 vs 1");
        check(
            "8081-8080:80-81",
            "parsing host port: the end port of a range must be higher than the start port - 8080 is not higher than 8081",
        );
        check("8080-8081:80-", "parsing container port: must provide ending number for port range");
        check("1.2.3:8080:80", "cannot parse \"1.2.3\" as an IP address");
        check(
            "127.0.0.1:80",
            "parsing host port: invalid port number: strconv.Atoi: parsing \"127.0.0.1\": invalid syntax",
        );
        check("[::1]:80", "invalid port format - must provide host and destination port if specifying an IP");
        check("[::1]8080:80", "invalid port format - IPv6 address must be followed by a colon (':')");
        check("8080:", "must provide a non-empty container port to publish");
        check("8080:80/", "must provide a non-empty protocol to publish");
        check("::80", "must provide a non-empty container host IP to publish");
    }

    fn mapping(text: &str) -> PortMapping {
        let spec: PortSpec = text.parse().unwrap();
        spec.at(spec.host_port.unwrap())
    }

    /// `published -- removed = what remains`, or why not.
    fn unpublished(published: &str, removed: &str, remains: &str) {
        let published: Vec<_> = published.split_whitespace().map(mapping).collect();
        let said = match removed.parse::<Unpublish>().unwrap().remains_of(&published) {
            Ok(rest) => list(&rest),
            Err(e) => e.0,
        };
        assert_eq!(said, remains, "--publish-rm {removed}");
    }

    #[test]
    fn what_is_not_said_of_a_port_does_not_matter_when_it_is_unpublished() {
        unpublished("8080:80 9090:80", "8080", "9090:80/tcp");
        unpublished("127.0.0.1:8080:80 9090:80", "8080", "9090:80/tcp");
        unpublished("8080:80 8080:80/udp", "8080:80/udp", "8080:80/tcp");
        unpublished("127.0.0.1:8080:80 [::1]:8080:80", "[::1]:8080:80", "127.0.0.1:8080:80/tcp");
        unpublished("8080:80", "0.0.0.0:8080:80", "");
        unpublished("8080:80 9090:80 5:5", ":80", "5:5/tcp");
        unpublished("127.0.0.1:8080:80 9090:80", "127.0.0.1::80", "9090:80/tcp");
    }

    #[test]
    fn a_number_alone_is_a_host_port_and_else_the_only_port_that_leads_there() {
        unpublished("8080:80 80:8080", "8080", "80:8080/tcp");
        unpublished("8080:80 53:53/udp", "80", "53:53/udp");
        unpublished("8080:80 53:53/udp", "80/tcp", "53:53/udp");
        unpublished(
            "8080:80 9090:80",
            "80",
            "cannot unpublish 80/tcp: more than one host port leads there (8080:80/tcp, 9090:80/tcp); name the host port",
        );
    }

    #[test]
    fn a_range_is_cut_where_ports_are_taken_out() {
        unpublished("8000-8010:80-90", "8003", "8000-8002:80-82/tcp, 8004-8010:84-90/tcp");
        unpublished("8000-8010:80-90", "8000-8004:80-84", "8005-8010:85-90/tcp");
        unpublished("8000:80 8001:81", "8000-8001", "");
        unpublished("1-65535:1-65535", "65535", "1-65534:1-65534/tcp");
    }

    #[test]
    fn what_is_not_published_is_refused_with_what_is() {
        unpublished("", "8080", "cannot unpublish 8080/tcp: no port is published");
        unpublished("8080:80", "8081", "cannot unpublish 8081/tcp: published are 8080:80/tcp");
        unpublished("8080:80", "8080:81", "cannot unpublish 8080:81/tcp: published are 8080:80/tcp");
        unpublished("8080:80", "8080/udp", "cannot unpublish 8080/udp: published are 8080:80/tcp");
        unpublished("8080:80", "8080-8081", "cannot unpublish 8080-8081/tcp (port 8080): published are 8080:80/tcp");
        unpublished(
            "8080:80",
            "127.0.0.1:8080:80",
            "cannot unpublish 127.0.0.1:8080:80/tcp: published are 8080:80/tcp",
        );
    }

    #[test]
    fn mappings_clash_when_one_port_of_one_address_is_wanted_twice() {
        assert!(mapping("8080:80").clashes(&mapping("127.0.0.1:8080:81")));
        assert!(mapping("8000-8010:80-90").clashes(&mapping("8010:1")));
        assert!(!mapping("8000-8010:80-90").clashes(&mapping("8011:1")));
        assert!(!mapping("8080:80").clashes(&mapping("8080:80/udp")));
        assert!(!mapping("0.0.0.0:8080:80").clashes(&mapping("[::]:8080:80")));
    }

    use proptest::prelude::*;

    fn specs() -> impl Strategy<Value = PortSpec> {
        let host = prop_oneof![
            Just(HostAddress::Any),
            any::<std::net::Ipv4Addr>().prop_map(|ip| HostAddress::Ip(ip.into())),
            any::<Ipv6Addr>().prop_map(|ip| HostAddress::Ip(ip.into())),
        ];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
        (host, proptest::option::of(1..=u16::MAX), 1..=u16::MAX, any::<u16>(), protocol).prop_map(
            |(host, host_port, container_port, range, protocol)| {
                let room = u16::MAX - host_port.unwrap_or(1).max(container_port);
                PortSpec { host, host_port, container_port, range: 1 + range % (room.max(1)), protocol }
            },
        )
    }

    /// Mappings on few ports, so that they meet.
    fn mappings() -> impl Strategy<Value = Vec<PortMapping>> {
        let hosts = prop_oneof![
            Just(HostAddress::Any),
            Just(HostAddress::Ip(Ipv6Addr::LOCALHOST.into())),
            Just(HostAddress::Ip(std::net::Ipv4Addr::LOCALHOST.into())),
        ];
        let one = (hosts, 1..30u16, 1..30u16, 1..6u16, any::<bool>()).prop_map(
            |(host, host_port, container_port, range, udp)| {
                let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
                PortMapping { host, host_port, container_port, range, protocol }
            },
        );
        proptest::collection::vec(one, 0..6)
    }

    fn single(mappings: &[PortMapping]) -> Vec<(HostAddress, u16, u16, Protocol)> {
        let each = |m: &PortMapping| {
            let (host, first, container, protocol) = (m.host, m.host_port, m.container_port, m.protocol);
            (0..m.range).map(move |n| (host, first + n, container + n, protocol))
        };
        let mut all: Vec<_> = mappings.iter().flat_map(each).collect();
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn what_is_printed_of_a_port_is_read_back(spec in specs()) {
            prop_assert_eq!(spec.to_string().parse::<PortSpec>().unwrap(), spec);
        }

        #[test]
        fn no_text_makes_the_port_syntaxes_panic(text in "[-0-9:./\\[\\]a-z%]{0,24}|\\PC{0,24}") {
            let _ = text.parse::<PortSpec>();
            if let Ok(unpublish) = text.parse::<Unpublish>() {
                prop_assert_eq!(unpublish.to_string().parse::<Unpublish>().unwrap(), unpublish);
                let _ = unpublish.remains_of(&[]);
            }
        }

        #[test]
        fn unpublishing_takes_out_what_matches_and_nothing_else(published in mappings(), host in 1..30u16, count in 1..6u16) {
            let span = if count == 1 { host.to_string() } else { format!("{host}-{}", host + count - 1) };
            let named = |port: u16| (host..host + count).contains(&port);
            for (text, gone) in [
                (span.clone(), None),
                (format!(":{span}"), Some(false)),
                (format!("{span}/udp"), None),
            ] {
                let Ok(rest) = text.parse::<Unpublish>().unwrap().remains_of(&published) else { continue };
                let before = single(&published);
                let after = single(&rest);
                prop_assert!(after.len() < before.len());
                let mut left = after.iter().peekable();
                for port in &before {
                    if left.peek() == Some(&port) {
                        left.next();
                    } else {
                        let fits = if gone == Some(false) { named(port.2) } else { named(port.1) || named(port.2) };
                        prop_assert!(fits, "{:?} went by {}", port, text);
                    }
                }
                prop_assert!(left.next().is_none(), "nothing is made up");
            }
        }
    }
}
