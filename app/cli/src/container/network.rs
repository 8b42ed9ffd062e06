//! `--network`, `-p`, `--dns` and the like.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use engine::config::{AttachmentConfig, BaseHosts, Dns, HostEntry, HostInternal, NetworkConfig, NetworkMode, PortText};
use model::{DnsName, LinkName, MacAddr, PastaOptions, Protocol};

use crate::conf::NetworkDefaults;
use crate::flags::strings;
use crate::global::{Podwire, absolute};
use crate::outcome::Failure;

#[derive(clap::Args, Debug, Default)]
pub(crate) struct NetworkFlags {
    /// Connect the container: a network's NAME[:ip=,ip6=,mac=,alias=,interface_name=,host_interface_name=,gw_priority=], none, host, container:NAME, ns:PATH, pasta[:OPTIONS] or slirp4netns[:OPTIONS]
    #[arg(long, visible_alias = "net", value_name = "stringArray")]
    network: Vec<String>,
    /// A fixed IPv4 address
    #[arg(long, value_name = "string")]
    ip: Option<String>,
    /// A fixed IPv6 address
    #[arg(long, value_name = "string")]
    ip6: Option<String>,
    /// A fixed MAC address (92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string")]
    mac_address: Option<String>,
    /// Add a name for the container on its networks
    #[arg(long, value_name = "strings")]
    network_alias: Vec<String>,
    /// Publish a port or a range of ports to the host ([[IP:][HOSTPORT]:]PORT[/PROTOCOL])
    #[arg(short, long, value_name = "strings")]
    publish: Vec<String>,
    /// Publish all exposed ports to free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "strings")]
    expose: Vec<String>,
    /// Add a line to /etc/hosts (NAME[;NAME]:IP or NAME:host-gateway)
    #[arg(long, value_name = "strings")]
    add_host: Vec<String>,
    /// Do not make /etc/hosts, use the image's
    #[arg(long)]
    no_hosts: bool,
    /// What /etc/hosts begins with: a file, image or none (default: the host's)
    #[arg(long, value_name = "string")]
    hosts_file: Option<String>,
    /// DNS servers; none: use the image's /etc/resolv.conf
    #[arg(long, value_name = "strings")]
    dns: Vec<String>,
    /// DNS search domains; a dot: none
    #[arg(long, value_name = "strings")]
    dns_search: Vec<String>,
    /// DNS options
    #[arg(long, visible_alias = "dns-opt", value_name = "strings")]
    dns_option: Vec<String>,
}

/// Podman's code for a container that was made and could not be started.
const CANNOT_START: u8 = 126;

/// Network modes: no network may have such a name.
pub(crate) const MODES: &[&str] =
    &["none", "host", "bridge", "private", "slirp4netns", "pasta", "container", "ns", "default"];

impl NetworkFlags {
    /// Is anything published?
    pub(crate) fn publishes(&self) -> bool {
        !self.publish.is_empty() || self.publish_all
    }

    /// Refuses what a pod without an infra container has no place for.
    pub(crate) fn check_without_infra(&self) -> Result<(), Failure> {
        let exclusive = |flag| format!("NoInfra and {flag} are mutually exclusive pod options: invalid pod spec");
        let without = |flag| format!("cannot set {flag} without infra container: invalid argument");
        for (given, text) in [
            (self.no_hosts, "cannot specify --no-hosts without an infra container".to_owned()),
            (self.publishes(), "you must have an infra container to publish port bindings to the host".to_owned()),
            (!self.network.is_empty(), "NoInfra and network modes cannot be used together".to_owned()),
            (self.ip.is_some(), without("--ip")),
            (self.ip6.is_some(), without("--ip6")),
            (self.mac_address.is_some(), without("--mac")),
            (!self.network_alias.is_empty(), without("--network-alias")),
            (!self.expose.is_empty(), without("--expose")),
            (self.hosts_file.is_some(), exclusive("HostsFile")),
            (!self.add_host.is_empty(), exclusive("HostAdd")),
            (!self.dns.is_empty(), exclusive("DNSServer")),
            (!self.dns_search.is_empty(), exclusive("DNSSearch")),
            (!self.dns_option.is_empty(), exclusive("DNSOption")),
        ] {
            if given {
                return Err(Failure::new(text));
            }
        }
        Ok(())
    }

    pub(crate) fn parse(mut self, usual: &Usual, remarks: &mut Vec<String>) -> Result<NetworkConfig, Failure> {
        // An empty value is no value.
        for flag in [&mut self.ip, &mut self.ip6, &mut self.mac_address] {
            *flag = flag.take().filter(|text| !text.is_empty());
        }
        let mut mode = usual.mode(&self.network)?;
        self.add_fixed(&mut mode)?;
        check_links(&mode)?;
        let mut publish = strings(&self.publish).iter().map(|p| p.parse()).collect::<Result<Vec<PortText>, _>>()?;
        if (!publish.is_empty() || self.publish_all) && !mode.is_networked() {
            publish.clear();
            remarks.push(format!(
                "Port mappings have been discarded because {:?} network namespace mode does not support them",
                mode.word()
            ));
        }
        let add_hosts = self.add_hosts(&mode)?;
        Ok(NetworkConfig {
            publish_all: self.publish_all && mode.is_networked(),
            publish,
            expose: strings(&self.expose).iter().map(|e| expose(e)).collect::<Result<_, _>>()?,
            add_hosts,
            no_hosts: self.no_hosts,
            base_hosts: self.base_hosts(usual)?,
            host_internal: usual.host_internal()?,
            dns: self.dns(&mode)?,
            dns_search: self.dns_search()?,
            dns_options: strings(&self.dns_option),
            mode,
        })
    }

    /// `--ip`, `--ip6`, `--mac-address`, `--network-alias`: into the one attachment, aliases into all.
    fn add_fixed(&self, mode: &mut NetworkMode) -> Result<(), Failure> {
        let aliases = names(&strings(&self.network_alias))?;
        let ips = [&self.ip, &self.ip6]
            .into_iter()
            .flatten()
            .map(|text| text.parse().map_err(|_| Failure::new(format!("{text:?} is not an ip address"))));
        let ips = ips.collect::<Result<Vec<IpAddr>, _>>()?;
        let mac = self.mac_address.as_deref().map(str::parse::<MacAddr>).transpose()?;
        let flags = [
            ("--ip", self.ip.is_some() || self.ip6.is_some()),
            ("--mac-address", mac.is_some()),
            ("--network-alias", !aliases.is_empty()),
        ];
        let attachments = match mode {
            NetworkMode::Networks(attachments) => attachments.as_mut_slice(),
            NetworkMode::Private(attachment) => std::slice::from_mut(attachment),
            _ => &mut [],
        };
        if attachments.is_empty() {
            return match flags.iter().find(|(_, given)| *given) {
                Some((flag, _)) => Err(Failure::new(format!(
                    "{flag} can only be set when the network mode is bridge: invalid argument"
                ))),
                None => Ok(()),
            };
        }
        for (flag, given) in &flags[..2] {
            if *given && attachments.len() > 1 {
                return Err(Failure::new(format!("{flag} can only be set for a single network: invalid argument")));
            }
        }
        for attachment in attachments.iter_mut() {
            if !aliases.is_empty() {
                attachment.aliases.clone_from(&aliases);
            }
            if !ips.is_empty() {
                attachment.static_ips.clone_from(&ips);
            }
            attachment.mac = mac.or(attachment.mac);
        }
        Ok(())
    }

    fn dns(&self, mode: &NetworkMode) -> Result<Dns, Failure> {
        let servers = strings(&self.dns);
        let given = [&self.dns, &self.dns_search, &self.dns_option].iter().any(|flags| !flags.is_empty());
        if given && matches!(mode, NetworkMode::None | NetworkMode::Container(_)) {
            return Err(Failure::new(format!("conflicting options: dns and the network mode: {}", mode.word())));
        }
        if servers.is_empty() {
            return Ok(Dns::Host);
        }
        if servers.iter().any(|s| s == "none") {
            if servers.len() > 1 {
                return Err(Failure::new("none is not allowed to be specified with other DNS ip addresses"));
            }
            if !self.dns_search.is_empty() || !self.dns_option.is_empty() {
                let other = if self.dns_search.is_empty() { "DNSOption" } else { "DNSSearch" };
                return Err(Failure::new(format!(
                    "invalid config provided: UseImageResolvConf and {other} are mutually exclusive options"
                )));
            }
            return Ok(Dns::Image);
        }
        let ip = |text: &String| text.parse().map_err(|_| Failure::new(format!("{text} is not an ip address")));
        Ok(Dns::Servers(servers.iter().map(ip).collect::<Result<_, _>>()?))
    }

    fn dns_search(&self) -> Result<Option<Vec<DnsName>>, Failure> {
        let domains = strings(&self.dns_search);
        match domains.iter().any(|d| d == ".") {
            true if domains.len() > 1 => {
                Err(Failure::new("cannot pass additional search domains when also specifying '.'"))
            }
            true => Ok(Some(Vec::new())),
            false if domains.is_empty() => Ok(None),
            false => Ok(Some(names(&domains)?)),
        }
    }

    fn base_hosts(&self, usual: &Usual) -> Result<BaseHosts, Failure> {
        if self.no_hosts && self.hosts_file.is_some() {
            return Err(Failure::new("--no-hosts and --hosts-file cannot be set together"));
        }
        Ok(match self.hosts_file.as_deref().or(usual.set.base_hosts.as_deref()) {
            None | Some("") => BaseHosts::Host,
            Some("image") => BaseHosts::Image,
            Some("none") => BaseHosts::Nothing,
            Some(path) => BaseHosts::File(absolute(Path::new(path))?),
        })
    }

    fn add_hosts(&self, mode: &NetworkMode) -> Result<Vec<HostEntry>, Failure> {
        let entries = strings(&self.add_host);
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        if self.no_hosts {
            return Err(Failure::new("--no-hosts and --add-host cannot be set together"));
        }
        if matches!(mode, NetworkMode::Container(_)) {
            return Err(Failure::new(
                "invalid config provided: cannot set extra host entries when the container is joined to another containers network namespace: invalid configuration",
            ));
        }
        entries.iter().map(|e| host_entry(e)).collect()
    }
}

/// What is meant where nothing is typed: containers.conf, and who we are.
#[derive(Debug, Default)]
pub(crate) struct Usual {
    set: NetworkDefaults,
    rootless: bool,
    /// It is a pod's network that the container uses.
    of_pod: bool,
}

impl Usual {
    pub(crate) fn of(podwire: &Podwire, of_pod: bool) -> Result<Self, Failure> {
        Ok(Self { set: podwire.conf()?.network(), rootless: podwire.options()?.rootless, of_pod })
    }

    /// `--network`, as it is typed or else usual.
    fn mode(&self, typed: &[String]) -> Result<NetworkMode, Failure> {
        if self.of_pod && typed.is_empty() {
            return mode(typed);
        }
        let set = self.set.mode.as_slice();
        let flags: Vec<String> =
            if typed.is_empty() { set } else { typed }.iter().map(|f| self.with_options(f)).collect();
        let mut mode = mode(&flags)?;
        match &mut mode {
            NetworkMode::Private(_) if self.rootless => {
                let program = match self.set.rootless.as_deref() {
                    Some("slirp4netns") => "slirp4netns",
                    None | Some("pasta") if self.set.pasta.is_empty() => return Ok(mode),
                    None | Some("pasta") => "pasta",
                    Some(other) => {
                        let text = "containers.conf: default_rootless_network_cmd: pasta or slirp4netns, not";
                        return Err(Failure::new(format!("{text} {other:?}")));
                    }
                };
                let (name, options) = (program, self.with_options(program));
                return single_mode(name, options.split_once(':').map(|(_, options)| options));
            }
            NetworkMode::Private(one) => one.network = one.network.take().or_else(|| self.set.name.clone()),
            NetworkMode::Networks(several) => {
                for one in several.iter_mut().filter(|one| one.network.is_none()) {
                    one.network.clone_from(&self.set.name);
                }
            }
            _ => {}
        }
        Ok(mode)
    }

    /// `pasta` and `slirp4netns` with the options that are set, before those that are typed.
    fn with_options(&self, flag: &str) -> String {
        let (name, typed) = flag.split_once(':').map_or((flag, None), |(name, typed)| (name, Some(typed)));
        let set = match name {
            "pasta" => &self.set.pasta,
            "slirp4netns" => &self.set.slirp4netns,
            _ => return flag.to_owned(),
        };
        let options: Vec<&str> = set.iter().map(String::as_str).chain(typed).collect();
        if options.is_empty() { flag.to_owned() } else { format!("{name}:{}", options.join(",")) }
    }

    fn host_internal(&self) -> Result<HostInternal, Failure> {
        Ok(match self.set.host_internal.as_deref() {
            None | Some("") => HostInternal::Found,
            Some("none") => HostInternal::Nothing,
            Some(text) => HostInternal::Is(text.parse().map_err(|_| {
                Failure::new(format!("containers.conf: host_containers_internal_ip: {text:?} is no address, nor none"))
            })?),
        })
    }
}

/// All `--network` flags together.
fn mode(flags: &[String]) -> Result<NetworkMode, Failure> {
    let Some((first, rest)) = flags.split_first() else {
        return Ok(NetworkMode::Private(AttachmentConfig::default()));
    };
    let (name, options) = first.split_once(':').map_or((first.as_str(), None), |(n, o)| (n, Some(o)));
    let mut attachments = match name {
        "none" | "host" | "container" | "ns" | "pasta" | "slirp4netns" => {
            return alone(single_mode(name, options)?, rest);
        }
        "private" | "default" if rest.is_empty() => return Ok(NetworkMode::Private(attachment(None, options)?)),
        "" if options.is_none() && rest.is_empty() => return Ok(NetworkMode::Private(AttachmentConfig::default())),
        "bridge" | "private" | "default" => vec![attachment(None, options)?],
        "" if options.is_none() => vec![AttachmentConfig::default()],
        "" => return Err(Failure::new("network name cannot be empty")),
        name if options.is_some() => vec![attachment(Some(name), options)?],
        names => names.split(',').map(|name| attachment(Some(name), None)).collect::<Result<_, _>>()?,
    };
    for flag in rest {
        let (name, options) = flag.split_once(':').map_or((flag.as_str(), None), |(n, o)| (n, Some(o)));
        if MODES.contains(&name) {
            return Err(Failure::new(format!(
                "can only set extra network names, selected mode {name} conflicts with bridge: invalid argument"
            )));
        }
        attachments.push(attachment(Some(name), options)?);
    }
    Ok(NetworkMode::Networks(attachments))
}

fn single_mode(name: &str, options: Option<&str>) -> Result<NetworkMode, Failure> {
    let value = options.unwrap_or_default();
    match name {
        "none" | "host" if options.is_some() => {
            Err(Failure::new(format!("--network {name} takes no options, got {value:?}")))
        }
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        // Podman hears of it only when the container is started.
        "pasta" => PastaOptions::parse(value)
            .map(NetworkMode::Pasta)
            .map_err(|wrong| Failure::with(CANNOT_START, format!("pasta failed with exit code 1:\n{wrong}"))),
        "slirp4netns" => value
            .parse()
            .map(NetworkMode::Slirp4netns)
            .map_err(|wrong: model::Invalid| Failure::with(CANNOT_START, wrong)),
        "container" if value.is_empty() => {
            Err(Failure::new("invalid config provided: namespace mode container requires a value"))
        }
        "container" => Ok(NetworkMode::Container(value.to_owned())),
        _ if value.is_empty() => Err(Failure::new("invalid config provided: namespace mode path requires a value")),
        _ if !Path::new(value).exists() => Err(Failure::new(format!(
            "cannot find specified network namespace path: faccessat {value}: no such file or directory"
        ))),
        _ => Ok(NetworkMode::Path(PathBuf::from(value))),
    }
}

fn alone(mode: NetworkMode, rest: &[String]) -> Result<NetworkMode, Failure> {
    if rest.is_empty() {
        return Ok(mode);
    }
    Err(Failure::new(format!(
        "cannot set multiple networks without bridge network mode, selected mode {}: invalid argument",
        mode.word()
    )))
}

/// `NAME[:ip=…,mac=…]`
fn attachment(name: Option<&str>, options: Option<&str>) -> Result<AttachmentConfig, Failure> {
    if name == Some("") {
        return Err(Failure::new("network name cannot be empty"));
    }
    let mut wish = AttachmentConfig { network: name.map(str::to_owned), ..AttachmentConfig::default() };
    for option in options.unwrap_or_default().split(',').filter(|o| !o.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "ip" | "ip6" => {
                let ip = value.parse().map_err(|_| Failure::new(format!("invalid ip address {value:?}")))?;
                wish.static_ips.push(ip);
            }
            "mac" => wish.mac = Some(value.parse()?),
            "alias" if value.is_empty() => return Err(Failure::new("alias cannot be empty")),
            "alias" => wish.aliases.push(value.parse()?),
            "interface_name" if value.is_empty() => return Err(Failure::new("interface_name cannot be empty")),
            "interface_name" => wish.link = Some(value.parse()?),
            "host_interface_name" if value.is_empty() => {
                return Err(Failure::new("host_interface_name cannot be empty"));
            }
            "host_interface_name" => wish.host_link = Some(value.parse()?),
            // Docker's spelling too.
            "gw_priority" | "gw-priority" => {
                let wrong = |_| Failure::new(format!("invalid gw_priority {value:?}: must be a whole number"));
                wish.gw_priority = value.parse().map_err(wrong)?;
            }
            other => return Err(Failure::new(format!("unknown bridge network option: {other}"))),
        }
    }
    Ok(wish)
}

/// No two attachments may ask for the same link.
fn check_links(mode: &NetworkMode) -> Result<(), Failure> {
    let NetworkMode::Networks(attachments) = mode else { return Ok(()) };
    let named: [fn(&AttachmentConfig) -> Option<&LinkName>; 2] = [|a| a.link.as_ref(), |a| a.host_link.as_ref()];
    for name in named {
        let links: Vec<_> = attachments.iter().filter_map(name).collect();
        if let Some((_, link)) = links.iter().enumerate().find(|(n, link)| links[..*n].contains(link)) {
            let text = format!("network interface name \"{link}\" is already assigned to another network");
            return Err(Failure::new(text));
        }
    }
    Ok(())
}

fn names(texts: &[String]) -> Result<Vec<DnsName>, Failure> {
    Ok(texts.iter().map(|t| t.parse()).collect::<Result<_, _>>()?)
}

/// `80`, `80/udp`, `100-101/udp`: first port, how many, protocol.
fn expose(text: &str) -> Result<(u16, u16, Protocol), Failure> {
    let wrong = |why: String| Failure::new(format!("invalid range format for --expose: {text}: {why}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol: Protocol = protocol.parse()?;
    let number = |side: &str, text: &str| {
        text.parse::<u16>().map_err(|e| match e.kind() {
            std::num::IntErrorKind::PosOverflow => {
                Failure::new(format!("port numbers must be between 1 and 65535 (inclusive), got {text}"))
            }
            _ => wrong(format!("invalid {side} port '{text}': invalid syntax")),
        })
    };
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (number("start", first)?, number("end", last)?),
        None => (number("start", ports)?, number("start", ports)?),
    };
    if first == 0 {
        return Err(Failure::new("port numbers must be between 1 and 65535 (inclusive), got 0"));
    }
    if last < first {
        return Err(wrong(format!("invalid port range: {ports}")));
    }
    Ok((first, last - first + 1, protocol))
}

/// `name[;name]:IP` or `name:host-gateway`.
fn host_entry(text: &str) -> Result<HostEntry, Failure> {
    let (hosts, ip) = text
        .split_once(':')
        .filter(|(hosts, _)| !hosts.is_empty())
        .ok_or_else(|| Failure::new(format!("bad format for add-host: {text:?}")))?;
    let ip = match ip {
        "host-gateway" => None,
        ip => {
            let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
            Some(bare.parse().map_err(|_| Failure::new(format!("invalid IP address in add-host: {ip:?}")))?)
        }
    };
    let hosts: Vec<String> = hosts.split(';').map(str::to_owned).collect();
    Ok(HostEntry { names: names(&hosts)?, ip })
}

#[cfg(test)]
mod tests {
    use super::super::tests::wish;

    fn check(flags: &str, means: &str) {
        let line: Vec<&str> = flags.split_whitespace().chain(["img"]).collect();
        let said = match wish(&line) {
            Err(failure) => failure.message,
            Ok(wish) => {
                let n = wish.config.network;
                let publish: Vec<String> = n.publish.into_iter().map(String::from).collect();
                let shown =
                    serde_json::json!([n.mode, publish, n.publish_all, n.expose, n.add_hosts, n.dns, n.dns_search]);
                let remarks: String = wish.remarks.iter().map(|r| format!(" ({r})")).collect();
                let parts: Vec<String> = shown
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(ToString::to_string)
                    .filter(|t| !matches!(t.as_str(), "[]" | "false" | "null" | "\"Host\"") || flags.contains("search"))
                    .collect();
                parts.join(" ") + &remarks
            }
        };
        assert_eq!(said, means, "{flags}");
    }

    fn default(network: &str, ips: &str, rest: &str) -> String {
        format!("{{\"Networks\":[{{\"network\":{network},\"static_ips\":[{ips}],{rest}}}]}}")
    }

    fn private_default(ips: &str) -> String {
        format!("{{\"Private\":{{\"network\":null,\"static_ips\":[{ips}],\"mac\":null,\"aliases\":[],\"link\":null}}}}")
    }

    #[test]
    fn networks_are_named_with_options_or_in_a_list() {
        let plain = "\"mac\":null,\"aliases\":[],\"link\":null";
        check("--net m1", &default("\"m1\"", "", plain));
        check("--network bridge", &default("null", "", plain));
        for private in ["--network=", "--network default", "--network private", "--rm"] {
            check(private, &private_default(""));
        }
        check(
            "--network m1:ip=10.89.0.9,mac=92:d0:c6:0a:29:33,alias=foo,alias=b,interface_name=ethx",
            &default(
                "\"m1\"",
                "\"10.89.0.9\"",
                "\"mac\":\"92:d0:c6:0a:29:33\",\"aliases\":[\"foo\",\"b\"],\"link\":\"ethx\"",
            ),
        );
        check("--ip 10.88.7.8 --ip 10.88.7.9", &private_default("\"10.88.7.9\""));
        check("--network bridge --ip 10.88.7.9", &default("null", "\"10.88.7.9\"", plain));
        check(
            "--network m1:alias=al1 --network-alias al2",
            &default("\"m1\"", "", "\"mac\":null,\"aliases\":[\"al2\"],\"link\":null"),
        );
        let host = "\"mac\":null,\"aliases\":[],\"link\":null,\"host_link\":\"v0\",\"gw_priority\":-3";
        check("--network m1:host_interface_name=v0,gw_priority=-3", &default("\"m1\"", "", host));
        check("--network none", "\"None\"");
        check("--network container:web", "{\"Container\":\"web\"}");
        let two = "{\"Networks\":[{\"network\":\"m1\",\"static_ips\":[],\"mac\":null,\"aliases\":[],\"link\":null},{\"network\":\"m2\",\"static_ips\":[],\"mac\":null,\"aliases\":[],\"link\":null}]}";
        check("--network m1,m2", two);
        check("--network m1 --network m2", two);
    }

    #[test]
    fn wrong_networks_are_answered_in_podmans_words() {
        check(
            "--network host --network na",
            "cannot set multiple networks without bridge network mode, selected mode host: invalid argument",
        );
        check(
            "--network na --network host",
            "can only set extra network names, selected mode host conflicts with bridge: invalid argument",
        );
        check("--network bridge:ip=bad", "invalid ip address \"bad\"");
        check("--network bridge:mac=bad", "address bad: invalid MAC address");
        check("--network bridge:alias=", "alias cannot be empty");
        check("--network bridge:interface_name=", "interface_name cannot be empty");
        check("--network bridge:foo=bar", "unknown bridge network option: foo");
        check("--network bridge:host_interface_name=", "host_interface_name cannot be empty");
        check("--network bridge:gw_priority=high", "invalid gw_priority \"high\": must be a whole number");
        check("--network bridge:gw_priority=9999999999", "invalid gw_priority \"9999999999\": must be a whole number");
        check("--network bridge:alias=a_b!c", "a_b!c is not a valid domain");
        check("--network-alias a,,b", "\"\" is not a valid domain");
        check(
            "--network m1:interface_name=abcdefghijklmnop",
            "Interface name is too long: interface names must be 15 characters or less: abcdefghijklmnop",
        );
        check(
            "--network m1:host_interface_name=v0 --network m2:host_interface_name=v0",
            "network interface name \"v0\" is already assigned to another network",
        );
        check(
            "--network m1:interface_name=e1 --network m2:interface_name=e1",
            "network interface name \"e1\" is already assigned to another network",
        );
        check("--network container:", "invalid config provided: namespace mode container requires a value");
        check("--network ns:", "invalid config provided: namespace mode path requires a value");
        check(
            "--network ns:/does/not/exist",
            "cannot find specified network namespace path: faccessat /does/not/exist: no such file or directory",
        );
        check("--network pasta:--bogus", "pasta failed with exit code 1:\nunrecognized option '--bogus'");
        check("--network slirp4netns:foo=bar", "unknown option for slirp4netns: \"foo=bar\"");
        check(
            "--network pasta --network m1",
            "cannot set multiple networks without bridge network mode, selected mode pasta: invalid argument",
        );
        check(
            "--network slirp4netns --ip 10.0.2.9",
            "--ip can only be set when the network mode is bridge: invalid argument",
        );
        check(
            "--ip 10.88.0.200 --network host",
            "--ip can only be set when the network mode is bridge: invalid argument",
        );
        check(
            "--network-alias x --network host",
            "--network-alias can only be set when the network mode is bridge: invalid argument",
        );
        check(
            "--network m1 --network m2 --ip 10.89.0.9",
            "--ip can only be set for a single network: invalid argument",
        );
        check("--ip bad", "\"bad\" is not an ip address");
        check("--mac-address bad", "address bad: invalid MAC address");
    }

    #[test]
    fn an_empty_name_with_options_is_no_network() {
        check("--network :ip=1.2.3.4", "network name cannot be empty");
    }

    #[test]
    fn ports_are_published_in_lists_and_only_on_networks() {
        let bridge = private_default("");
        check("-p 8080:80,81 -p 82/udp", &format!("{bridge} [\"8080:80\",\"81\",\"82/udp\"]"));
        check("-P --expose 99 --expose 100-101/udp", &format!("{bridge} true [[99,1,\"tcp\"],[100,2,\"udp\"]]"));
        check("--network host -p 8080:80", "\"Host\" (Port mappings have been discarded because \"host\" network namespace mode does not support them)".trim_start_matches("\"Host\""));
        check(
            "--network container:a -p 80:80",
            "{\"Container\":\"a\"} (Port mappings have been discarded because \"container\" network namespace mode does not support them)",
        );
        check(
            "-p 8080:80/tcp,udp",
            "parsing container port: invalid port number: strconv.Atoi: parsing \"udp\": invalid syntax",
        );
        check("--expose abc", "invalid range format for --expose: abc: invalid start port 'abc': invalid syntax");
        check("--expose 0", "port numbers must be between 1 and 65535 (inclusive), got 0");
        check("--expose 90-80", "invalid range format for --expose: 90-80: invalid port range: 90-80");
    }

    #[test]
    fn hosts_and_dns_are_podmans() {
        check("--add-host a", "bad format for add-host: \"a\"");
        check("--add-host a:", "invalid IP address in add-host: \"\"");
        check("--add-host :1.2.3.4", "bad format for add-host: \":1.2.3.4\"");
        check("--add-host a:bad", "invalid IP address in add-host: \"bad\"");
        check("--no-hosts --add-host a:1.2.3.4", "--no-hosts and --add-host cannot be set together");
        check(
            "--network container:a1 --add-host x:1.2.3.4",
            "invalid config provided: cannot set extra host entries when the container is joined to another containers network namespace: invalid configuration",
        );
        let bridge = private_default("");
        check(
            "--add-host b;c:5.6.7.8 --add-host gw:host-gateway --add-host v6:fd00::1",
            &format!(
                "{bridge} [{{\"names\":[\"b\",\"c\"],\"ip\":\"5.6.7.8\"}},{{\"names\":[\"gw\"],\"ip\":null}},{{\"names\":[\"v6\"],\"ip\":\"fd00::1\"}}]"
            ),
        );
        check("--dns 1.2.3.4 --dns 5.6.7.8", &format!("{bridge} {{\"Servers\":[\"1.2.3.4\",\"5.6.7.8\"]}}"));
        check("--dns none", &format!("{bridge} \"Image\""));
        check("--dns none --dns 1.2.3.4", "none is not allowed to be specified with other DNS ip addresses");
        check(
            "--dns none --dns-search foo",
            "invalid config provided: UseImageResolvConf and DNSSearch are mutually exclusive options",
        );
        check("--dns bad", "bad is not an ip address");
        check("--network none --dns 1.2.3.4", "conflicting options: dns and the network mode: none");
        check("--network none --dns-search a.b", "conflicting options: dns and the network mode: none");
        check("--network container:a --dns-opt debug", "conflicting options: dns and the network mode: container");
        check("--dns-search . --dns-search foo.com", "cannot pass additional search domains when also specifying '.'");
        check("--dns-search b@d", "b@d is not a valid domain");
    }
}
