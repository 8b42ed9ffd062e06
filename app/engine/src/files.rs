//! `/etc/hosts` and `/etc/resolv.conf` of a container, as texts.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use model::PastaOptions;

use crate::config::{Dns, HostEntry, NetworkConfig, NetworkMode};
use crate::dhcp::Learned;
use crate::names::DNS_SUFFIX;

/// What a hosts file is made of.
pub(crate) struct HostsFile<'a> {
    /// `--add-host`
    pub(crate) added: &'a [HostEntry],
    /// The host's own file.
    pub(crate) host_file: &'a str,
    /// The host as the container reaches it.
    pub(crate) host_ip: Option<IpAddr>,
    /// The container's own addresses.
    pub(crate) own: &'a [IpAddr],
    /// The names of its own addresses.
    pub(crate) own_names: &'a [&'a str],
}

impl HostsFile<'_> {
    /// Podman's order: what the user added, the host's file less what that overrides, `localhost` if that
    /// lacks it, the host, the container itself.
    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        for entry in self.added {
            if let Some(ip) = entry.ip.or(self.host_ip) {
                lines.push((ip.to_string(), entry.names.iter().map(|name| name.as_str()).collect::<Vec<_>>()));
                taken.extend(entry.names.iter().map(|name| name.as_str()));
            }
        }
        let base: Vec<(&str, Vec<&str>)> = self.host_file.lines().filter_map(host_line).collect();
        let has_localhost = base.iter().any(|(_, names)| names.contains(&"localhost"));
        for (ip, names) in base {
            let names: Vec<&str> = names.into_iter().filter(|name| !taken.contains(name)).collect();
            lines.push((ip.to_owned(), names));
        }
        if !has_localhost && !taken.contains("localhost") {
            lines.push((Ipv4Addr::LOCALHOST.to_string(), vec!["localhost"]));
            lines.push((Ipv6Addr::LOCALHOST.to_string(), vec!["localhost"]));
        }
        if let Some(ip) = self.host_ip {
            let names = ["host.containers.internal", "host.docker.internal"];
            lines.push((ip.to_string(), names.into_iter().filter(|name| !taken.contains(name)).collect()));
        }
        for ip in self.own {
            lines.push((ip.to_string(), self.own_names.to_vec()));
        }
        lines
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(ip, names)| format!("{ip}\t{}\n", names.join(" ")))
            .collect()
    }
}

/// Address and names of one line; `None` for comments, blank lines and what is no address.
fn host_line(line: &str) -> Option<(&str, Vec<&str>)> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let ip = words.next().filter(|text| text.parse::<IpAddr>().is_ok())?;
    Some((ip, words.collect()))
}

/// What a resolv.conf says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ResolvConf {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// Where a container is whose resolv.conf is made.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ResolvAround {
    /// Is it not in the host's network namespace?
    pub(crate) own_stack: bool,
    /// Has it any IPv6 address?
    pub(crate) ipv6: bool,
    /// Those of its networks with names.
    pub(crate) gateways: Vec<IpAddr>,
    /// Where an ordinary user's relay asks the host's servers for it, also those on the host's loopback address.
    pub(crate) forwarders: Vec<IpAddr>,
    /// What DHCP servers told, of each network.
    pub(crate) learned: Vec<Learned>,
}

impl ResolvConf {
    /// Reads a file; lines that are not understood are skipped, as the C library does. A zone index of an
    /// IPv6 server (`fe80::1%eth0`) names a link of the host, so that server is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let servers = nameservers(text).filter(|(_, zone)| zone.is_none()).map(|(ip, _)| ip).collect();
        let mut conf = Self { servers, ..Self::default() };
        for mut words in text.lines().map(resolv_conf_words) {
            match words.next() {
                // The last of these lines counts (resolv.conf(5)).
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// The container's, made from the host's. The gateways of networks with names ask whom `--dns` names, or else
    /// the host's servers.
    pub(crate) fn for_container(mut self, network: &NetworkConfig, around: &ResolvAround) -> Self {
        let ipv6 = around.ipv6;
        match &network.dns {
            _ if !around.gateways.is_empty() => {
                self.servers.clone_from(&around.gateways);
                self.search.retain(|domain| domain != DNS_SUFFIX);
                self.search.insert(0, DNS_SUFFIX.to_owned());
            }
            Dns::Servers(servers) => self.servers = servers.clone(),
            // As a host does that is on that LAN: the host's own servers may not be reached from there.
            Dns::Host if around.learned.iter().any(|learned| learned.dns().next().is_some()) => {
                self.servers = each_once(around.learned.iter().flat_map(Learned::dns));
            }
            Dns::Host | Dns::Image if around.own_stack => {
                if let NetworkMode::Pasta(PastaOptions { dns: Some(servers), .. }) = &network.mode {
                    self.servers.clone_from(servers);
                }
                self.servers.retain(|ip| !ip.is_loopback() && (ip.is_ipv4() || ipv6));
                self.servers.splice(0..0, around.forwarders.iter().copied());
                if self.servers.is_empty() {
                    self.servers = fallback(ipv6);
                }
            }
            Dns::Host | Dns::Image => {}
        }
        if let NetworkMode::Pasta(PastaOptions { search: Some(search), .. }) = &network.mode {
            self.search = search.iter().map(|domain| domain.to_string()).collect();
        }
        let learned = each_once(around.learned.iter().flat_map(Learned::search));
        if !learned.is_empty() && around.gateways.is_empty() {
            self.search = learned.iter().map(ToString::to_string).collect();
        }
        if let Some(search) = &network.dns_search {
            self.search = search.iter().map(|domain| domain.to_string()).collect();
        }
        self.options.extend(network.dns_options.iter().cloned());
        self
    }

    /// The one made for a namespace by name, as `ip netns exec` uses it (ip-netns(8)).
    pub(crate) fn of_namespace(path: &Path) -> Option<Self> {
        let name = ["/run/netns", "/var/run/netns"].iter().find_map(|dir| path.strip_prefix(dir).ok())?;
        let text = std::fs::read_to_string(Path::new("/etc/netns").join(name).join("resolv.conf")).ok()?;
        Some(Self::parse(&text))
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// The servers that a resolv.conf names, in its order, each with the zone index it may have: `eth0` of
/// `fe80::1%eth0`.
pub fn nameservers(text: &str) -> impl Iterator<Item = (IpAddr, Option<&str>)> {
    text.lines().filter_map(|line| {
        let mut words = resolv_conf_words(line);
        let server = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        let (ip, zone) = server.split_once('%').map_or((server, None), |(ip, zone)| (ip, Some(zone)));
        Some((ip.parse().ok()?, zone))
    })
}

fn resolv_conf_words(line: &str) -> impl Iterator<Item = &str> {
    line.split(['#', ';']).next().unwrap_or_default().split_whitespace()
}

fn each_once<'a, T: Clone + PartialEq + 'a>(all: impl Iterator<Item = &'a T>) -> Vec<T> {
    let mut once = Vec::new();
    for one in all {
        if !once.contains(one) {
            once.push(one.clone());
        }
    }
    once
}

/// Podman's choice when the host has no server that a container can reach.
fn fallback(ipv6: bool) -> Vec<IpAddr> {
    let mut servers = vec![Ipv4Addr::new(8, 8, 8, 8).into(), Ipv4Addr::new(8, 8, 4, 4).into()];
    if ipv6 {
        servers.push(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888).into());
        servers.push(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844).into());
    }
    servers
}

/// The host's.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where systemd-resolved answers; only programs in the host's own network namespace reach it.
pub const RESOLVED_STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

/// Where systemd-resolved writes down the servers it asks.
pub const RESOLVED_SERVERS: &str = "/run/systemd/resolve/resolv.conf";

/// The host's resolv.conf; behind systemd-resolved's stub, the file with the servers it asks.
pub(crate) fn host_resolv_conf() -> ResolvConf {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let conf = ResolvConf::parse(&read(RESOLV_CONF));
    if conf.servers.contains(&RESOLVED_STUB) { ResolvConf::parse(&read(RESOLVED_SERVERS)) } else { conf }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(dns: Dns) -> NetworkConfig {
        NetworkConfig {
            mode: NetworkMode::Networks(Vec::new()),
            publish: Vec::new(),
            publish_all: false,
            expose: Vec::new(),
            add_hosts: Vec::new(),
            no_hosts: false,
            dns,
            dns_search: None,
            dns_options: Vec::new(),
            ..NetworkConfig::default()
        }
    }

    fn around(ipv6: bool) -> ResolvAround {
        ResolvAround { own_stack: true, ipv6, ..ResolvAround::default() }
    }

    #[test]
    fn behind_a_relay_the_hosts_servers_are_asked_by_way_of_it_even_those_on_its_loopback_address() {
        let relayed = ResolvAround { forwarders: vec!["169.254.1.1".parse().unwrap()], ..around(false) };
        let text = |host: &str, wish: &NetworkConfig| ResolvConf::parse(host).for_container(wish, &relayed).text();
        let (stub, plain) = ("nameserver 127.0.0.53\n", "nameserver 192.0.2.1\nnameserver 2001:db8::1\n");
        assert_eq!(text(stub, &network(Dns::Host)), "nameserver 169.254.1.1\n");
        assert_eq!(text(plain, &network(Dns::Host)), "nameserver 169.254.1.1\nnameserver 192.0.2.1\n");
        assert_eq!(text(plain, &network(Dns::Servers(vec!["192.0.2.9".parse().unwrap()]))), "nameserver 192.0.2.9\n");
        let mode = NetworkMode::Pasta(PastaOptions::parse("-D,192.0.2.7,-S,a.example").unwrap());
        let wish = NetworkConfig { mode, ..network(Dns::Host) };
        assert_eq!(text(plain, &wish), "search a.example\nnameserver 169.254.1.1\nnameserver 192.0.2.7\n");
    }

    fn entry(names: &[&str], ip: Option<&str>) -> HostEntry {
        HostEntry {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            ip: ip.map(|ip| ip.parse().unwrap()),
        }
    }

    #[test]
    fn a_hosts_file_has_podmans_lines_in_podmans_order() {
        let added = [entry(&["db", "vm"], Some("10.1.2.3")), entry(&["gate"], None)];
        let file = HostsFile {
            added: &added,
            host_file: "# comment\n127.0.0.1 localhost\n127.0.0.1\tvm runsc # us\n\nnonsense here\n",
            host_ip: Some("10.88.0.1".parse().unwrap()),
            own: &["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            own_names: &["shop", "web"],
        };
        let expected = "10.1.2.3\tdb vm\n10.88.0.1\tgate\n127.0.0.1\tlocalhost\n127.0.0.1\trunsc\n\
                        10.88.0.1\thost.containers.internal host.docker.internal\n\
                        10.88.0.2\tshop web\nfd00::2\tshop web\n";
        assert_eq!(file.text(), expected);
    }

    #[test]
    fn localhost_is_added_where_the_host_has_none() {
        let file = HostsFile { added: &[], host_file: "", host_ip: None, own: &[], own_names: &[] };
        assert_eq!(file.text(), "127.0.0.1\tlocalhost\n::1\tlocalhost\n");
    }

    #[test]
    fn nameservers_have_the_zone_index_they_may_have() {
        let text =
            "nameserver 192.0.2.1 # ours\n;nameserver 192.0.2.2\nnameserver\nnameserver fe80::1%eth0\nnameserver x";
        let found: Vec<_> = nameservers(text).map(|(ip, zone)| format!("{ip} {zone:?}")).collect();
        assert_eq!(found, ["192.0.2.1 None", "fe80::1 Some(\"eth0\")"]);
    }

    fn check(host: &str, dns: Dns, ipv6: bool, expected: &str) {
        assert_eq!(ResolvConf::parse(host).for_container(&network(dns), &around(ipv6)).text(), expected);
    }

    #[test]
    fn servers_a_container_cannot_reach_are_left_out() {
        let host = "nameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example.org\n";
        check(host, Dns::Host, false, "search example.org\nnameserver 192.0.2.1\n");
        check(host, Dns::Host, true, "search example.org\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n");
        check(
            "nameserver 127.0.0.1\noptions ndots:2",
            Dns::Host,
            false,
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\noptions ndots:2\n",
        );
        check("nameserver fe80::1%eth0", Dns::Host, false, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn servers_asked_for_replace_the_hosts() {
        check(
            "nameserver 192.0.2.1",
            Dns::Servers(vec!["127.0.0.1".parse().unwrap()]),
            false,
            "nameserver 127.0.0.1\n",
        );
    }

    #[test]
    fn search_domains_asked_for_replace_the_hosts_and_a_dot_means_none() {
        let conf = ResolvConf::parse("search a.example b.example\nnameserver 192.0.2.1");
        let mut wish = network(Dns::Host);
        wish.dns_search = Some(vec!["c.example".parse().unwrap()]);
        assert_eq!(conf.clone().for_container(&wish, &around(false)).search, ["c.example"]);
        wish.dns_search = Some(Vec::new());
        assert!(conf.for_container(&wish, &around(false)).search.is_empty());
    }

    #[test]
    fn on_networks_with_names_their_gateways_are_asked_and_their_domain_is_searched_first() {
        let host = ResolvConf::parse("search example.org dns.podman\nnameserver 192.0.2.1\noptions ndots:2");
        let gateways = ["10.89.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let text = |wish: &NetworkConfig| {
            host.clone().for_container(wish, &ResolvAround { gateways: gateways.to_vec(), ..around(true) }).text()
        };
        let servers = "nameserver 10.89.0.1\nnameserver fd00::1\noptions ndots:2\n";
        assert_eq!(text(&network(Dns::Host)), format!("search dns.podman example.org\n{servers}"));
        let mut wish = network(Dns::Servers(vec!["1.2.3.4".parse().unwrap()]));
        wish.dns_search = Some(vec!["c.example".parse().unwrap()]);
        assert_eq!(text(&wish), format!("search c.example\n{servers}"));
    }
}
