//! `/etc/hosts` and `/etc/resolv.conf` of a container, as texts.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Dns, HostEntry, NetworkConfig};

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

impl ResolvConf {
    /// Reads a file; lines that are not understood are skipped, as the C library does. A zone index of an
    /// IPv6 server (`fe80::1%eth0`) names a link of the host, so that server is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(|ip| ip.parse::<IpAddr>().ok())),
                // The last of these lines counts (resolv.conf(5)).
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// The container's, made from the host's. `ipv6`: has the container any IPv6 address?
    pub(crate) fn for_container(mut self, network: &NetworkConfig, own_stack: bool, ipv6: bool) -> Self {
        match &network.dns {
            Dns::Servers(servers) => self.servers = servers.clone(),
            Dns::Host | Dns::Image if own_stack => {
                self.servers.retain(|ip| !ip.is_loopback() && (ip.is_ipv4() || ipv6));
                if self.servers.is_empty() {
                    self.servers = fallback(ipv6);
                }
            }
            Dns::Host | Dns::Image => {}
        }
        if let Some(search) = &network.dns_search {
            self.search = search.iter().map(|domain| domain.to_string()).collect();
        }
        self.options.extend(network.dns_options.iter().cloned());
        self
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

/// Podman's choice when the host has no server that a container can reach.
fn fallback(ipv6: bool) -> Vec<IpAddr> {
    let mut servers = vec![Ipv4Addr::new(8, 8, 8, 8).into(), Ipv4Addr::new(8, 8, 4, 4).into()];
    if ipv6 {
        servers.push(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888).into());
        servers.push(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844).into());
    }
    servers
}

/// The host's resolv.conf; behind systemd-resolved's stub, the file with the servers it asks.
pub(crate) fn host_resolv_conf() -> ResolvConf {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let conf = ResolvConf::parse(&read("/etc/resolv.conf"));
    let stub = IpAddr::from(Ipv4Addr::new(127, 0, 0, 53));
    if conf.servers.contains(&stub) { ResolvConf::parse(&read("/run/systemd/resolve/resolv.conf")) } else { conf }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetworkMode;

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
        }
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

    fn check(host: &str, dns: Dns, ipv6: bool, expected: &str) {
        assert_eq!(ResolvConf::parse(host).for_container(&network(dns), true, ipv6).text(), expected);
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
        assert_eq!(conf.clone().for_container(&wish, true, false).search, ["c.example"]);
        wish.dns_search = Some(Vec::new());
        assert!(conf.for_container(&wish, true, false).search.is_empty());
    }
}
