//! Where on the host's side a flow goes that a container began.
//!
//! ```text
//!   from 10.42.0.2 ─┬ to 169.254.1.1:53    ──> the host's name server                       192.0.2.53:53
//!   (its Settings)  ├ to 169.254.1.2:5432  ──> the host's address towards the outside       192.168.1.7:5432
//!                   ├ to 10.0.2.2:5432     ──> the host's loopback, for who may             127.0.0.1:5432
//!                   ├ to 127.0.0.1, ::, …  ──> nowhere
//!                   └ to 198.51.100.4:80   ──> there                                        198.51.100.4:80
//! ```
//!
//! The host's loopback is reached by none but an address that means it: what is looked at is where the flow would
//! really go. A container that may not reach the host at all must not reach it by one of its addresses either;
//! which those are the kernel knows, so [`Way::hosts_own`] is for whoever has the socket to heed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use model::LinkName;
use serde::{Deserialize, Serialize};

use crate::packet::Problem;

/// Where names are asked that the host's servers know.
pub const FORWARDER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The host itself: `host.containers.internal`.
pub const HOST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

/// Where name servers answer.
const DNS_PORT: u16 = 53;

/// What a container may reach through the relay, and how. Addresses may also be ones that the relay's namespace has
/// itself (a network's gateway).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// These mean the host's loopback address of their family. Nothing else ever reaches it.
    pub loopback: Vec<IpAddr>,
    /// These mean the host itself: its own address towards the outside.
    pub host: Vec<IpAddr>,
    /// What is asked at port 53 of these, UDP or TCP, is asked of the host's own servers.
    pub dns: Vec<IpAddr>,
    /// The servers that are asked then; empty for those of the host's resolv.conf, as it is at the moment.
    pub servers: Vec<IpAddr>,
    /// No address of the host is reached but as `loopback` and `dns` say.
    pub no_host: bool,
    /// Sockets to the outside have this address, if one of its family is here.
    pub outbound: Vec<IpAddr>,
    /// Sockets to IPv4 addresses outside are bound to this link of the host.
    pub outbound_link4: Option<LinkName>,
    /// As above for IPv6.
    pub outbound_link6: Option<LinkName>,
    /// TCP is not passed on.
    pub no_tcp: bool,
    /// UDP is not passed on.
    pub no_udp: bool,
    /// ICMP and ICMPv6 echo are not passed on.
    pub no_icmp: bool,
}

impl Default for Settings {
    /// What a container on an ordinary network has, and whoever is not known to the relay.
    fn default() -> Self {
        Self {
            loopback: Vec::new(),
            host: vec![HOST.into()],
            dns: vec![FORWARDER.into()],
            servers: Vec::new(),
            no_host: false,
            outbound: Vec::new(),
            outbound_link4: None,
            outbound_link6: None,
            no_tcp: false,
            no_udp: false,
            no_icmp: false,
        }
    }
}

/// What kinds of flows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo of ICMP and ICMPv6.
    Echo,
}

/// What all flows' targets depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Of containers, by each of their addresses.
    pub settings: HashMap<IpAddr, Arc<Settings>>,
    /// Of whoever isn't there, like our own processes beside the containers.
    pub usual: Arc<Settings>,
    /// The host's name servers, the one to ask first.
    pub upstreams: Vec<SocketAddr>,
    /// The host's addresses towards the outside, at most one of each family.
    pub addresses: Vec<IpAddr>,
}

/// Where a flow goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// There.
    pub to: SocketAddr,
    /// May that be an address of the host itself?
    pub hosts_own: HostsOwn,
    /// The address that the socket shall have.
    pub from: Option<IpAddr>,
    /// The link that the socket shall be bound to.
    pub link: Option<LinkName>,
}

/// Whether a flow's target may be the host itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostsOwn {
    /// It may.
    Allowed,
    /// Then the flow is answered with [`Problem::Prohibited`].
    Prohibited,
}

/// Why a flow goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nowhere {
    /// To be told whoever began it.
    Told(Problem),
    /// To a group, or to no host's address at all: nobody answers.
    Silent,
}

impl Targets {
    /// Where goes what `from` sends `to`? Echo goes to port 0.
    pub fn way(&self, from: IpAddr, to: SocketAddr, protocol: Protocol) -> Result<Way, Nowhere> {
        let settings = self.settings_of(from);
        let told = |problem| Err(Nowhere::Told(problem));
        if !settings.passes_on(protocol) {
            return told(Problem::Prohibited);
        }
        let within = |to| Ok(Way { to, hosts_own: HostsOwn::Allowed, from: None, link: None });
        if settings.dns.contains(&to.ip()) && (to.port() == DNS_PORT || !settings.means_host(to.ip())) {
            return match (to.port(), self.upstream(settings)) {
                (DNS_PORT, Some(upstream)) => within(upstream),
                (DNS_PORT, None) => told(Problem::HostUnreachable),
                _ => told(Problem::PortUnreachable),
            };
        }
        if settings.loopback.contains(&to.ip()) {
            return within(SocketAddr::new(loopback(to.ip()), to.port()));
        }
        if settings.host.contains(&to.ip()) {
            if settings.no_host {
                return told(Problem::Prohibited);
            }
            let address = self.addresses.iter().find(|ip| ip.is_ipv4() == to.is_ipv4());
            return address.map_or(told(Problem::HostUnreachable), |ip| within(SocketAddr::new(*ip, to.port())));
        }
        match kind(to.ip()) {
            Kind::Ours => told(Problem::Prohibited),
            Kind::Nobodys => Err(Nowhere::Silent),
            Kind::Others => Ok(Way {
                to,
                hosts_own: if settings.no_host { HostsOwn::Prohibited } else { HostsOwn::Allowed },
                from: settings.outbound.iter().copied().find(|ip| ip.is_ipv4() == to.is_ipv4()),
                link: if to.is_ipv4() { &settings.outbound_link4 } else { &settings.outbound_link6 }.clone(),
            }),
        }
    }

    /// Does an address, for `from`, mean name servers of the host?
    pub fn means_dns(&self, from: IpAddr, to: SocketAddr) -> bool {
        to.port() == DNS_PORT && self.settings_of(from).dns.contains(&to.ip())
    }

    /// Does an address, for `from`, mean the host?
    pub fn means_host(&self, from: IpAddr, to: IpAddr) -> bool {
        self.settings_of(from).host.contains(&to)
    }

    /// Another name server is asked first from now on, unless another one is already: `silent` has not answered.
    pub fn pass_over(&mut self, silent: SocketAddr) {
        if self.upstreams.first() == Some(&silent) {
            self.upstreams.rotate_left(1);
        }
    }

    fn settings_of(&self, ip: IpAddr) -> &Settings {
        self.settings.get(&ip).unwrap_or(&self.usual)
    }

    fn upstream(&self, settings: &Settings) -> Option<SocketAddr> {
        let own = settings.servers.first().map(|ip| SocketAddr::new(*ip, DNS_PORT));
        own.or(self.upstreams.first().copied())
    }
}

impl Settings {
    fn passes_on(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => !self.no_tcp,
            Protocol::Udp => !self.no_udp,
            Protocol::Echo => !self.no_icmp,
        }
    }

    fn means_host(&self, ip: IpAddr) -> bool {
        self.loopback.contains(&ip) || self.host.contains(&ip)
    }
}

/// Whose an address can be.
enum Kind {
    Others,
    /// The loopback of whoever looks.
    Ours,
    Nobodys,
}

fn kind(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() || ip.octets()[0] == 0 => Kind::Ours,
        IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => Kind::Nobodys,
        IpAddr::V4(_) => Kind::Others,
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

fn kind_v6(ip: Ipv6Addr) -> Kind {
    // ::/96 and ::ffff:0:0/96 mean IPv4 to sockets; ::1 and :: are among the former.
    let high = ip.to_bits() >> 32;
    if high == 0 || high == 0xffff {
        return Kind::Ours;
    }
    // Of links in the host's namespace a container has no numbers.
    if ip.is_multicast() || ip.is_unicast_link_local() { Kind::Nobodys } else { Kind::Others }
}

fn loopback(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn usual() -> Settings {
        let usual = Settings::default();
        assert_eq!((&usual.host, &usual.dns), (&vec![ip("169.254.1.2")], &vec![ip("169.254.1.1")]));
        usual
    }

    /// 10.42.0.2 is an ordinary container, .3 may reach nothing of the host, 10.0.2.100 also its loopback, .4 is bound
    /// to a link, and pings nobody.
    fn targets() -> Targets {
        let slirp = Settings {
            loopback: vec![ip("10.0.2.2"), ip("fd00::2")],
            dns: vec![ip("10.0.2.3"), ip("10.0.2.2")],
            ..usual()
        };
        let bound = Settings {
            outbound: vec![ip("192.168.1.9")],
            outbound_link6: Some("eth1".parse().unwrap()),
            servers: vec![ip("192.0.2.99")],
            no_icmp: true,
            ..usual()
        };
        let settings =
            [("10.42.0.3", Settings { no_host: true, ..usual() }), ("10.0.2.100", slirp), ("10.42.0.4", bound)];
        Targets {
            settings: settings.into_iter().map(|(text, settings)| (ip(text), Arc::new(settings))).collect(),
            usual: Arc::new(usual()),
            upstreams: ["192.0.2.53:53", "127.0.0.53:53"].map(|text| text.parse().unwrap()).to_vec(),
            addresses: vec![ip("192.168.1.7")],
        }
    }

    fn show(way: Result<Way, Nowhere>) -> String {
        match way {
            Ok(Way { to, hosts_own, from, link }) => {
                let unless = if hosts_own == HostsOwn::Prohibited { " unless host's" } else { "" };
                let from = from.map(|from| format!(" as {from}")).unwrap_or_default();
                let link = link.map(|link| format!(" by {link}")).unwrap_or_default();
                format!("{to}{unless}{from}{link}")
            }
            Err(Nowhere::Told(problem)) => format!("{problem:?}"),
            Err(Nowhere::Silent) => "nobody".to_owned(),
        }
    }

    fn check(from: &str, to: &str, expected: &str) {
        let way = targets().way(ip(from), to.parse().unwrap(), Protocol::Udp);
        assert_eq!(show(way), expected, "{from} to {to}");
    }

    #[test]
    fn what_means_the_host_or_its_name_servers_goes_there_as_far_as_allowed() {
        for (from, to, expected) in [
            ("10.42.0.2", "169.254.1.1:53", "192.0.2.53:53"),
            ("10.42.0.2", "169.254.1.1:80", "PortUnreachable"),
            ("10.42.0.2", "169.254.1.2:5432", "192.168.1.7:5432"),
            ("10.42.0.3", "169.254.1.1:53", "192.0.2.53:53"),
            ("10.42.0.3", "169.254.1.2:5432", "Prohibited"),
            ("10.0.2.100", "10.0.2.3:53", "192.0.2.53:53"),
            ("10.0.2.100", "10.0.2.2:53", "192.0.2.53:53"),
            ("10.0.2.100", "10.0.2.2:5432", "127.0.0.1:5432"),
            ("10.0.2.100", "169.254.1.2:5432", "192.168.1.7:5432"),
            ("10.0.2.100", "[fd00::2]:5432", "[::1]:5432"),
            ("10.42.0.4", "169.254.1.1:53", "192.0.2.99:53"),
        ] {
            check(from, to, expected);
        }
    }

    #[test]
    fn the_hosts_loopback_is_not_reached_in_any_spelling() {
        for to in ["127.0.0.1:80", "127.8.8.8:80", "0.0.0.0:80", "0.1.2.3:80", "[::1]:80", "[::]:80"] {
            check("10.42.0.2", to, "Prohibited");
            check("10.0.2.100", to, "Prohibited");
        }
        check("10.42.0.2", "[::ffff:127.0.0.1]:80", "Prohibited");
        check("10.42.0.2", "[::127.0.0.1]:80", "Prohibited");
        check("10.42.0.2", "[fe80::1]:80", "nobody");
    }

    #[test]
    fn others_are_reached_as_the_settings_say_and_groups_are_not() {
        check("10.42.0.2", "198.51.100.4:80", "198.51.100.4:80");
        check("10.42.0.3", "198.51.100.4:80", "198.51.100.4:80 unless host's");
        check("10.42.0.2", "[2001:db8::4]:80", "[2001:db8::4]:80");
        check("10.42.0.4", "198.51.100.4:80", "198.51.100.4:80 as 192.168.1.9");
        check("10.42.0.4", "[2001:db8::4]:80", "[2001:db8::4]:80 by eth1");
        for to in ["224.0.0.251:5353", "255.255.255.255:67", "[ff02::fb]:5353"] {
            check("10.42.0.2", to, "nobody");
        }
        let to = "198.51.100.4:0".parse().unwrap();
        assert_eq!(show(targets().way(ip("10.42.0.4"), to, Protocol::Echo)), "Prohibited");
    }

    #[test]
    fn a_silent_name_server_is_passed_over_once() {
        let mut targets = targets();
        let (from, to) = (ip("10.42.0.2"), "169.254.1.1:53".parse().unwrap());
        let first = targets.way(from, to, Protocol::Udp).unwrap().to;
        targets.pass_over(first);
        targets.pass_over(first);
        assert_eq!(show(targets.way(from, to, Protocol::Udp)), "127.0.0.53:53");
        targets.upstreams.clear();
        assert_eq!(show(targets.way(from, to, Protocol::Udp)), "HostUnreachable");
    }
}
