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

    #[test]
    fn mappings_clash_when_one_port_of_one_address_is_wanted_twice() {
        let mapping = |text: &str| {
            let spec: PortSpec = text.parse().unwrap();
            spec.at(spec.host_port.unwrap())
        };
        assert!(mapping("8080:80").clashes(&mapping("127.0.0.1:8080:81")));
        assert!(mapping("8000-8010:80-90").clashes(&mapping("8010:1")));
        assert!(!mapping("8000-8010:80-90").clashes(&mapping("8011:1")));
        assert!(!mapping("8080:80").clashes(&mapping("8080:80/udp")));
        assert!(!mapping("0.0.0.0:8080:80").clashes(&mapping("[::]:8080:80")));
    }
}
