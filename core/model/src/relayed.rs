//! `--network pasta[:…]` and `--network slirp4netns[:…]`: what the peers' option strings ask for, as the relay of an
//! ordinary user can give it.
//!
//! Every option of theirs is known here. One that asks for something is kept; one that asks for what is so anyway
//! (`--config-net`, `--no-dhcp`: the relay has no DHCP server) is accepted; any other is refused by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Addr, DnsName, HostAddress, Invalid, LinkName, MacAddr, PortMapping, Protocol, Subnet};

/// `--network pasta[:ARG,ARG…]`, with the meaning of pasta(1). The default is Podman's `pasta`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PastaOptions {
    /// `-a`, `--address`: the container's, at most one per family; without a length it is the class's, or 64.
    pub addresses: Vec<Addr>,
    /// `-g`, `--gateway`: at most one per family.
    pub gateways: Vec<IpAddr>,
    /// `-m`, `--mtu`, in bytes.
    pub mtu: Option<u32>,
    /// `-I`, `--ns-ifname`, else `-i`, `--interface`: the link's name in the container.
    pub link: Option<LinkName>,
    /// `--ns-mac-addr`: the MAC address of that link.
    pub mac: Option<MacAddr>,
    /// `-4`, `-6`: no addresses of the other family.
    pub only: Option<Family>,
    /// `--map-gw`: the gateway is the host's loopback address.
    pub map_gw: bool,
    /// `--map-host-loopback`: these are the host's loopback address.
    pub map_host_loopback: Vec<IpAddr>,
    /// `--map-guest-addr`: these are the host itself.
    pub map_guest_addr: Vec<IpAddr>,
    /// `--dns-forward`: what is asked of these, is asked of the host's servers.
    pub dns_forward: Vec<IpAddr>,
    /// `--dns-host`: whom the host's servers are then.
    pub dns_host: Vec<IpAddr>,
    /// `-D`, `--dns`: servers in the container's resolv.conf, after the one that forwards. `Some(vec![])`: none.
    pub dns: Option<Vec<IpAddr>>,
    /// `-S`, `--search`. `Some(vec![])`: none.
    pub search: Option<Vec<DnsName>>,
    /// `-o`, `--outbound`: the source address towards the outside, at most one per family.
    pub outbound: Vec<IpAddr>,
    /// `--outbound-if4`: by which link of the host to IPv4 addresses.
    pub outbound_link4: Option<LinkName>,
    /// `--outbound-if6`
    pub outbound_link6: Option<LinkName>,
    /// `--no-host`, which pasta does not have: no address of the host is reached but as the maps say.
    pub no_host: bool,
    /// `--no-tcp`
    pub no_tcp: bool,
    /// `--no-udp`
    pub no_udp: bool,
    /// `--no-icmp`
    pub no_icmp: bool,
    /// `-t`, `-u`: ports published besides those of `-p`.
    pub ports: Vec<PortMapping>,
}

/// One of the two families of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// IPv4
    Ip4,
    /// IPv6
    Ip6,
}

impl Family {
    /// Is an address that is one of IPv4 (`true`), or IPv6, of this family?
    pub fn is(self, ipv4: bool) -> bool {
        (self == Self::Ip4) == ipv4
    }
}

/// Options of pasta without a value that ask for what is so here anyway: the link is always configured, addresses
/// and routes are never the host's, there is neither DHCP nor NDP of ours nor are routers announced; which way
/// bytes take is not the user's business; and messages go to the log.
const PASTA_ANYWAY: &[&str] = &[
    "--config-net",
    "--no-copy-routes",
    "--no-copy-addrs",
    "--no-dhcp",
    "--no-dhcpv6",
    "--no-ndp",
    "--no-ra",
    "--no-splice",
    "-q",
    "--quiet",
    "-d",
    "--debug",
    "--trace",
];

/// Options of pasta that ask for what is not had here, and why.
const PASTA_REFUSED: &[(&[&str], &str)] = &[
    (&["-f", "--foreground"], "there is no process of its own to be in the foreground"),
    (&["-F", "--fd", "-c", "--conf-path", "-P", "--pid", "--runas", "--stats"], "there is no pasta process"),
    (&["-l", "--log-file", "--log-size"], "the relay has one log for all, relay.log in the run directory"),
    (&["-p", "--pcap"], "to see packets use `podwire unshare --rootless-netns tcpdump`"),
    (&["--userns", "--netns", "--netns-only", "--no-netns-quit", "--chroot-fallback"], "the namespaces are podwire's"),
    (&["-H", "--hostname", "--fqdn"], "it is sent by DHCP only; use --hostname of run and create"),
    (&["--dhcp-dns", "--dhcp-search"], "there is no DHCP server; resolv.conf says it"),
    (&["-M", "--mac-addr"], "the gateway's MAC address is the bridge's"),
    (&["--freebind"], "ports are published on addresses that the host has"),
    (&["--host-lo-to-ns-lo"], "what comes from the host's loopback address comes from the gateway"),
    (&["--splice-only"], "use --network none"),
];

impl PastaOptions {
    /// The arguments behind `pasta:`, separated by commas; an option's value is the next argument, or behind `=`, or,
    /// of a short option, right behind its letter.
    ///
    /// The error is what pasta, or podwire, says of it.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut args = Args(text.split(',').filter(|arg| !arg.is_empty()));
        let mut options = Self::default();
        let mut typed = Typed::default();
        while let Some(arg) = args.0.next() {
            options.take(&mut typed, arg, &mut args)?;
        }
        options.finish(typed)
    }

    fn take<'a>(
        &mut self,
        typed: &mut Typed,
        arg: &'a str,
        args: &mut Args<impl Iterator<Item = &'a str>>,
    ) -> Result<(), Invalid> {
        let (name, glued) = split_option(arg);
        let flag = |done: ()| match glued {
            None => Ok(done),
            Some(_) => Err(Invalid(format!("option '{name}' doesn't allow an argument"))),
        };
        let mut value = || glued.or_else(|| args.0.next()).ok_or_else(|| needs_value(name));
        match name {
            "-a" | "--address" => typed.addresses.push(value()?.to_owned()),
            "-n" | "--netmask" => typed.netmask = Some(netmask(value()?)?),
            "-g" | "--gateway" => put_one_per_family(&mut self.gateways, ip("gateway address", value()?)?),
            "-m" | "--mtu" => self.mtu = mtu(value()?)?,
            "-i" | "--interface" => typed.interface = Some(link(value()?)?),
            "-I" | "--ns-ifname" => self.link = Some(link(value()?)?),
            "--ns-mac-addr" => self.mac = Some(value()?.parse()?),
            "-4" | "--ipv4-only" => flag(typed.only.push(Family::Ip4))?,
            "-6" | "--ipv6-only" => flag(typed.only.push(Family::Ip6))?,
            "--map-gw" => flag(self.map_gw = true)?,
            "--no-map-gw" => flag(self.map_gw = false)?,
            "--map-host-loopback" => put_or_clear(&mut self.map_host_loopback, "address to remap", value()?)?,
            "--map-guest-addr" => put_or_clear(&mut self.map_guest_addr, "address to remap", value()?)?,
            "--dns-forward" => put_one_per_family(&mut self.dns_forward, ip("DNS forwarding address", value()?)?),
            "--dns-host" => put_one_per_family(&mut self.dns_host, ip("host nameserver address", value()?)?),
            "-D" | "--dns" => add_or_clear(&mut self.dns, value()?, |text| ip("DNS address", text))?,
            "-S" | "--search" => self.search = Some(search(value()?)?),
            "-o" | "--outbound" => put_one_per_family(&mut self.outbound, ip("outbound address", value()?)?),
            "--outbound-if4" => self.outbound_link4 = Some(link(value()?)?),
            "--outbound-if6" => self.outbound_link6 = Some(link(value()?)?),
            "--no-host" => flag(self.no_host = true)?,
            "--no-tcp" => flag(self.no_tcp = true)?,
            "--no-udp" => flag(self.no_udp = true)?,
            "--no-icmp" => flag(self.no_icmp = true)?,
            "-t" | "--tcp-ports" => self.add_ports(Protocol::Tcp, value()?)?,
            "-u" | "--udp-ports" => self.add_ports(Protocol::Udp, value()?)?,
            "-T" | "--tcp-ns" | "-U" | "--udp-ns" => to_host(name, value()?)?,
            _ if PASTA_ANYWAY.contains(&name) => flag(())?,
            _ => return Err(refused(name)),
        }
        Ok(())
    }

    fn add_ports(&mut self, protocol: Protocol, text: &str) -> Result<(), Invalid> {
        match forwarded(protocol, text)? {
            Some(mapping) => self.ports.push(mapping),
            None => self.ports.retain(|port| port.protocol != protocol),
        }
        Ok(())
    }

    fn finish(mut self, typed: Typed) -> Result<Self, Invalid> {
        self.only = match typed.only[..] {
            [] => None,
            [first, ..] if typed.only.iter().all(|family| *family == first) => Some(first),
            _ => return Err(Invalid("options ipv4-only and ipv6-only are mutually exclusive".to_owned())),
        };
        self.link = self.link.or(typed.interface);
        for text in &typed.addresses {
            let addr = address(text, typed.netmask)?;
            self.addresses.retain(|other| other.ip.is_ipv4() != addr.ip.is_ipv4());
            self.addresses.push(addr);
        }
        if typed.netmask.is_some() && !self.addresses.iter().any(|addr| addr.ip.is_ipv4()) {
            return Err(Invalid("option '--netmask' needs an IPv4 address by '--address'".to_owned()));
        }
        for gateway in &self.gateways {
            let on_link = |addr: &&Addr| addr.ip.is_ipv4() == gateway.is_ipv4() && addr.subnet().contains(*gateway);
            let Some(addr) = self.addresses.iter().find(on_link) else {
                return Err(Invalid(format!("gateway {gateway} is on no subnet of an address by '--address'")));
            };
            if addr.ip == *gateway {
                return Err(Invalid(format!("{gateway} cannot be both the container and its gateway")));
            }
        }
        let family = self.only;
        let other = |ip: &IpAddr| family.is_some_and(|only| !only.is(ip.is_ipv4()));
        if let Some(addr) = self.addresses.iter().find(|addr| other(&addr.ip)) {
            return Err(Invalid(format!("address {addr} is not of the only family that is asked for")));
        }
        Ok(self)
    }
}

/// What must be seen together.
#[derive(Default)]
struct Typed {
    addresses: Vec<String>,
    netmask: Option<u8>,
    interface: Option<LinkName>,
    only: Vec<Family>,
}

/// The arguments that are left.
struct Args<I>(I);

/// The option's name, and the value that is written with it.
fn split_option(arg: &str) -> (&str, Option<&str>) {
    if arg.starts_with("--") {
        return arg.split_once('=').map_or((arg, None), |(name, value)| (name, Some(value)));
    }
    match arg.char_indices().nth(2) {
        Some((end, _)) if arg.starts_with('-') => (&arg[..end], Some(&arg[end..])),
        _ => (arg, None),
    }
}

fn needs_value(name: &str) -> Invalid {
    match name.strip_prefix("--") {
        Some(_) => Invalid(format!("option '{name}' requires an argument")),
        None => Invalid(format!("option requires an argument -- '{}'", name.trim_start_matches('-'))),
    }
}

fn refused(name: &str) -> Invalid {
    if let Some((_, why)) = PASTA_REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        return Invalid(format!("option '{name}' of pasta is not supported: {why}"));
    }
    match (name.strip_prefix("--"), name.strip_prefix('-')) {
        (Some(_), _) => Invalid(format!("unrecognized option '{name}'")),
        (None, Some(letter)) => Invalid(format!("invalid option -- '{letter}'")),
        (None, None) => Invalid(format!("unexpected argument '{name}'")),
    }
}

fn ip(what: &str, text: &str) -> Result<IpAddr, Invalid> {
    let ip = text.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
    ip.ok_or_else(|| Invalid(format!("Invalid {what}: {text}")))
}

fn link(text: &str) -> Result<LinkName, Invalid> {
    text.parse().map_err(|_| Invalid(format!("Invalid interface name {text}")))
}

/// A later one of a family takes an earlier one's place.
fn put_one_per_family(list: &mut Vec<IpAddr>, ip: IpAddr) {
    list.retain(|other| other.is_ipv4() != ip.is_ipv4());
    list.push(ip);
}

/// `none` takes all back.
fn put_or_clear(list: &mut Vec<IpAddr>, what: &str, text: &str) -> Result<(), Invalid> {
    match text {
        "none" => list.clear(),
        text => put_one_per_family(list, ip(what, text)?),
    }
    Ok(())
}

fn add_or_clear<T>(
    list: &mut Option<Vec<T>>,
    text: &str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<(), Invalid> {
    match text {
        "none" => *list = Some(Vec::new()),
        text => list.get_or_insert_default().push(parse(text)?),
    }
    Ok(())
}

fn search(text: &str) -> Result<Vec<DnsName>, Invalid> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let domain = |text: &str| text.parse().map_err(|_| Invalid(format!("Invalid DNS search domain {text}")));
    text.split_whitespace().map(domain).collect()
}

/// 0 is to say nothing about it.
fn mtu(text: &str) -> Result<Option<u32>, Invalid> {
    let wrong = || Invalid(format!("Invalid MTU: {text}"));
    match text.parse::<u32>().map_err(|_| wrong())? {
        0 => Ok(None),
        mtu if (MTU_MIN..=MTU_MAX).contains(&mtu) => Ok(Some(mtu)),
        _ => Err(wrong()),
    }
}

/// The least that IPv4 allows (RFC 791).
const MTU_MIN: u32 = 68;
/// The most that a veth carries (ETH_MAX_MTU).
const MTU_MAX: u32 = 65535;

/// Bits, or dotted.
fn netmask(text: &str) -> Result<u8, Invalid> {
    let wrong = || Invalid(format!("Invalid netmask: {text}"));
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = u32::from(mask);
        let len = bits.leading_ones();
        let whole = bits.checked_shl(len).unwrap_or_default() == 0;
        return u8::try_from(len).ok().filter(|_| whole && (1..=30).contains(&len)).ok_or_else(wrong);
    }
    text.parse().ok().filter(|len| (1..=30).contains(len)).ok_or_else(wrong)
}

/// An address with its length: said with it, else by the netmask, else that of its class (pasta's conf.c), or 64.
fn address(text: &str, mask: Option<u8>) -> Result<Addr, Invalid> {
    let wrong = || Invalid(format!("Invalid address: {text}"));
    let (ip, len) = text.split_once('/').map_or((text, None), |(ip, len)| (ip, Some(len)));
    let ip = ip.parse::<IpAddr>().map_err(|_| wrong())?;
    let len = match (len, ip) {
        (Some(_), IpAddr::V4(_)) if mask.is_some() => {
            return Err(Invalid("Redundant prefix length specification".to_owned()));
        }
        (Some(len), _) => len.parse().map_err(|_| wrong())?,
        (None, IpAddr::V4(ip)) => mask.unwrap_or(class_len(ip)),
        (None, IpAddr::V6(_)) => 64,
    };
    // Room for a gateway beside it.
    let fits = len <= if ip.is_ipv4() { 30 } else { 126 };
    let unusual = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
    let addr = Addr::new(ip, len).ok().filter(|_| fits && !unusual && len > 0).ok_or_else(wrong)?;
    (addr.subnet().network() != ip).then_some(addr).ok_or_else(wrong)
}

fn class_len(ip: Ipv4Addr) -> u8 {
    match ip.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

/// `[ADDR/]PORT[-LAST][:PORT[-LAST]]`, as a mapping; `none` is none.
fn forwarded(protocol: Protocol, text: &str) -> Result<Option<PortMapping>, Invalid> {
    let wrong = || Invalid(format!("Invalid port specifier {text}"));
    let flag = if protocol == Protocol::Tcp { "-t" } else { "-u" };
    let not = |what: &str| {
        Err(Invalid(format!("option '{flag}' of pasta is not supported with {what}: name the ports, or use -p")))
    };
    let (address, ports) = text.rsplit_once('/').map_or((None, text), |(address, ports)| (Some(address), ports));
    match ports {
        "none" if address.is_none() => return Ok(None),
        "all" | "auto" => return not(&format!("'{ports}'")),
        _ if ports.starts_with('~') => return not("exclusions"),
        _ => {}
    }
    let host = match address {
        None => HostAddress::Any,
        Some(address) if address.contains('%') => return not("an interface"),
        Some(address) => HostAddress::Ip(address.parse().map_err(|_| wrong())?),
    };
    let span = |text: &str| -> Result<(u16, u16), Invalid> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let (first, last) = (number(first)?, number(last)?);
        Ok((first, last.checked_sub(first).ok_or_else(wrong)?))
    };
    let (from, to) = ports.split_once(':').unwrap_or((ports, ports));
    let ((host_port, more), (container_port, others)) = (span(from)?, span(to)?);
    if more != others || more == u16::MAX {
        return Err(wrong());
    }
    Ok(Some(PortMapping { host, host_port, container_port, range: more + 1, protocol }))
}

/// Ports of the container's own loopback address that are the host's: only `none` of them.
fn to_host(flag: &str, text: &str) -> Result<(), Invalid> {
    match text {
        "none" => Ok(()),
        _ => Err(Invalid(format!(
            "option '{flag}' of pasta is not supported: the container's loopback address is its own; with --map-gw or \
             --map-host-loopback an address of the network is the host's loopback address"
        ))),
    }
}

/// `--network slirp4netns[:KEY=VALUE,…]`, with the meaning of Podman 5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlirpOptions {
    /// `allow_host_loopback`: the gateway is the host's loopback address.
    pub allow_host_loopback: bool,
    /// `cidr`: of the container, beginning with its address .100, gateway .2 and DNS .3.
    pub cidr: Subnet,
    /// `mtu`, in bytes.
    pub mtu: u32,
    /// `enable_ipv6`
    pub ipv6: bool,
    /// `outbound_addr`: an address of the host, or the link whose addresses to use.
    pub outbound4: Option<Outbound>,
    /// `outbound_addr6`
    pub outbound6: Option<Outbound>,
}

/// Where from traffic to the outside seems to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outbound {
    /// An address of the host.
    Address(IpAddr),
    /// A link of the host. That it is there, is for others to see.
    Link(LinkName),
}

impl Default for SlirpOptions {
    fn default() -> Self {
        let cidr = Subnet::around(Ipv4Addr::new(10, 0, 2, 0).into(), 24).unwrap_or(Subnet::ANY4);
        Self { allow_host_loopback: false, cidr, mtu: 65520, ipv6: true, outbound4: None, outbound6: None }
    }
}

impl FromStr for SlirpOptions {
    type Err = Invalid;

    /// The options behind `slirp4netns:`, in Podman's words where they are wrong.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut options = Self::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').ok_or_else(|| unknown_slirp(option))?;
            let switch = || match value {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(Invalid(format!("invalid value of {key} for slirp4netns: {value:?}"))),
            };
            match key {
                "cidr" => options.cidr = slirp_cidr(value)?,
                "mtu" => options.mtu = slirp_mtu(value)?,
                "allow_host_loopback" => options.allow_host_loopback = switch()?,
                "enable_ipv6" => options.ipv6 = switch()?,
                "outbound_addr" => options.outbound4 = Some(slirp_outbound(key, value, true)?),
                "outbound_addr6" => options.outbound6 = Some(slirp_outbound(key, value, false)?),
                // The relay does for both what rootlesskit's cannot: the client's address is seen.
                "port_handler" if matches!(value, "rootlesskit" | "slirp4netns") => {}
                "port_handler" => return Err(Invalid(format!("unknown port_handler for slirp4netns: {value:?}"))),
                _ => return Err(unknown_slirp(option)),
            }
        }
        Ok(options)
    }
}

fn unknown_slirp(option: &str) -> Invalid {
    Invalid(format!("unknown option for slirp4netns: {option:?}"))
}

/// With room for .100 (slirp4netns' main.c).
fn slirp_cidr(text: &str) -> Result<Subnet, Invalid> {
    let wrong = || Invalid(format!("invalid cidr {text:?}"));
    let (ip, len) = text.split_once('/').ok_or_else(wrong)?;
    let (ip, len) = (ip.parse::<Ipv4Addr>().map_err(|_| wrong())?, len.parse::<u8>().map_err(|_| wrong())?);
    Subnet::around(ip.into(), len).ok().filter(|_| (1..=25).contains(&len)).ok_or_else(wrong)
}

fn slirp_mtu(text: &str) -> Result<u32, Invalid> {
    let mtu = text.parse().ok().filter(|mtu| (MTU_MIN..=65521).contains(mtu));
    mtu.ok_or_else(|| Invalid(format!("invalid mtu {text:?}")))
}

fn slirp_outbound(key: &str, text: &str, ipv4: bool) -> Result<Outbound, Invalid> {
    let wrong = || Invalid(format!("invalid {key} {text:?}"));
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv4() == ipv4 && !ip.is_unspecified() => Ok(Outbound::Address(ip)),
        Ok(_) => Err(wrong()),
        Err(_) => text.parse().map(Outbound::Link).map_err(|_| wrong()),
    }
}

/// slirp4netns' own IPv6 subnet, `fd00::/64`.
pub fn slirp_subnet6() -> Subnet {
    Subnet::around(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0).into(), 64).unwrap_or(Subnet::ANY6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not as by default, as JSON; or what is wrong.
    fn pasta(text: &str) -> String {
        shown(PastaOptions::parse(text), &PastaOptions::default())
    }

    fn slirp(text: &str) -> String {
        shown(text.parse::<SlirpOptions>(), &SlirpOptions::default())
    }

    fn shown<T: Serialize>(parsed: Result<T, Invalid>, default: &T) -> String {
        let parsed = match parsed {
            Ok(parsed) => serde_json::to_value(parsed).unwrap(),
            Err(wrong) => return wrong.0,
        };
        let usual = serde_json::to_value(default).unwrap();
        let changed = parsed.as_object().unwrap().iter().filter(|(key, value)| usual[*key] != **value);
        changed.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ").replace('"', "")
    }

    #[test]
    fn pastas_values_come_next_or_behind_an_equals_sign_or_a_letter() {
        for text in ["-m,1500", "--mtu,1500", "--mtu=1500", "-m1500"] {
            assert_eq!(pasta(text), "mtu=1500", "{text}");
        }
        assert_eq!(pasta(""), "");
        assert_eq!(pasta("-m"), "option requires an argument -- 'm'");
        assert_eq!(pasta("--mtu"), "option '--mtu' requires an argument");
        assert_eq!(pasta("--map-gw=yes"), "option '--map-gw' doesn't allow an argument");
        assert_eq!(pasta("web"), "unexpected argument 'web'");
        assert_eq!(pasta("--bogus"), "unrecognized option '--bogus'");
        assert_eq!(pasta("-x"), "invalid option -- 'x'");
    }

    #[test]
    fn pastas_addresses_have_a_length_from_somewhere() {
        assert_eq!(pasta("-a,10.5.0.9,-n,24,-g,10.5.0.1"), "addresses=[10.5.0.9/24] gateways=[10.5.0.1]");
        assert_eq!(pasta("-n,255.255.0.0,-a,10.5.0.9"), "addresses=[10.5.0.9/16]");
        assert_eq!(pasta("-a,10.5.0.9/28,-a,fd05::9"), "addresses=[10.5.0.9/28,fd05::9/64]");
        assert_eq!(pasta("-a,10.5.0.9"), "addresses=[10.5.0.9/8]");
        assert_eq!(pasta("-a,10.5.0.9/24,-n,24"), "Redundant prefix length specification");
        assert_eq!(pasta("-n,24"), "option '--netmask' needs an IPv4 address by '--address'");
        assert_eq!(pasta("-n,255.0.255.0,-a,10.5.0.9"), "Invalid netmask: 255.0.255.0");
        assert_eq!(pasta("-g,10.5.0.1"), "gateway 10.5.0.1 is on no subnet of an address by '--address'");
        assert_eq!(pasta("-a,10.5.0.1/24,-g,10.5.0.1"), "10.5.0.1 cannot be both the container and its gateway");
        for wrong in ["10.5.0.0/24", "10.5.0.9/31", "0.0.0.0/8", "127.0.0.2", "x", "10.5.0.9/x", "224.0.0.1/4"] {
            assert_eq!(pasta(&format!("-a,{wrong}")), format!("Invalid address: {wrong}"));
        }
    }

    #[test]
    fn pastas_families_links_and_maps() {
        assert_eq!(pasta("-4,--ipv4-only"), "only=Ip4");
        assert_eq!(pasta("-4,-6"), "options ipv4-only and ipv6-only are mutually exclusive");
        assert_eq!(pasta("-6,-a,10.5.0.9/24"), "address 10.5.0.9/24 is not of the only family that is asked for");
        assert_eq!(pasta("-i,eth7"), "link=eth7");
        assert_eq!(pasta("-I,in0,-i,eth7"), "link=in0");
        assert_eq!(pasta("--map-gw"), "map_gw=true");
        assert_eq!(pasta("--map-gw,--no-map-gw"), "");
        assert_eq!(pasta("--no-host"), "no_host=true");
        assert_eq!(
            pasta("--map-host-loopback,10.0.0.1,--map-host-loopback,10.0.0.2,--map-host-loopback,fd00::7"),
            "map_host_loopback=[10.0.0.2,fd00::7]"
        );
        assert_eq!(pasta("--map-host-loopback,10.0.0.1,--map-host-loopback,none"), "");
        assert_eq!(pasta("--ns-mac-addr,02:00:00:00:00:07"), "mac=02:00:00:00:00:07");
        assert_eq!(
            pasta("-o,192.0.2.7,--outbound-if4,eth1,--no-tcp,--no-udp,--no-icmp"),
            "outbound=[192.0.2.7] outbound_link4=eth1 no_tcp=true no_udp=true no_icmp=true"
        );
    }

    #[test]
    fn pastas_names_are_resolv_confs() {
        assert_eq!(pasta("-D,192.0.2.53,-D,fd00::53"), "dns=[192.0.2.53,fd00::53]");
        assert_eq!(pasta("-D,none"), "dns=[]");
        assert_eq!(pasta("-S,a.example b.example"), "search=[a.example,b.example]");
        assert_eq!(
            pasta("--dns-forward,169.254.9.9,--dns-host,192.0.2.53"),
            "dns_forward=[169.254.9.9] dns_host=[192.0.2.53]"
        );
        assert_eq!(pasta("-D,here"), "Invalid DNS address: here");
    }

    #[test]
    fn pastas_ports_are_published_ports() {
        let ports = |text: &str| {
            PastaOptions::parse(text)
                .map(|options| options.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
                .unwrap_or_else(|wrong| wrong.0)
        };
        assert_eq!(ports("-t,8080:80,-u,53"), "8080:80/tcp 53:53/udp");
        assert_eq!(ports("-t,::1/8081-8083:81-83"), "[::1]:8081-8083:81-83/tcp");
        assert_eq!(ports("-t,127.0.0.1/9000"), "127.0.0.1:9000:9000/tcp");
        assert_eq!(ports("-t,80,-u,53,-t,none"), "53:53/udp");
        assert_eq!(ports("-t,auto"), "option '-t' of pasta is not supported with 'auto': name the ports, or use -p");
        assert_eq!(ports("-u,~25"), "option '-u' of pasta is not supported with exclusions: name the ports, or use -p");
        assert_eq!(
            ports("-t,192.0.2.1%eth0/22"),
            "option '-t' of pasta is not supported with an interface: name the ports, or use -p"
        );
        for wrong in ["0", "80-70", "80-81:80", "x/80", "80:x", "65536"] {
            assert_eq!(ports(&format!("-t,{wrong}")), format!("Invalid port specifier {wrong}"));
        }
        assert_eq!(ports("-T,none,-U,none"), "");
        assert!(
            ports("-T,5201").starts_with("option '-T' of pasta is not supported: the container's loopback address")
        );
    }

    #[test]
    fn what_pasta_would_do_and_the_relay_does_not_is_refused_by_name() {
        assert_eq!(pasta(&PASTA_ANYWAY.join(",")), "");
        for (names, why) in PASTA_REFUSED {
            for name in *names {
                assert_eq!(pasta(&format!("{name},x")), format!("option '{name}' of pasta is not supported: {why}"));
            }
        }
    }

    #[test]
    fn slirp4netns_options_are_podmans() {
        assert_eq!(slirp(""), "");
        assert_eq!(
            slirp(
                "allow_host_loopback=true,mtu=1500,cidr=10.0.5.0/24,enable_ipv6=false,outbound_addr=10.99.0.1,port_handler=slirp4netns"
            ),
            "allow_host_loopback=true cidr=10.0.5.0/24 mtu=1500 ipv6=false outbound4={Address:10.99.0.1}"
        );
        assert_eq!(
            slirp("outbound_addr=eth0,outbound_addr6=fd99::9"),
            "outbound4={Link:eth0} outbound6={Address:fd99::9}"
        );
        for (text, wrong) in [
            ("foo=bar", "unknown option for slirp4netns: \"foo=bar\""),
            ("mtu", "unknown option for slirp4netns: \"mtu\""),
            ("port_handler=foo", "unknown port_handler for slirp4netns: \"foo\""),
            ("cidr=bad", "invalid cidr \"bad\""),
            ("cidr=fd00::/64", "invalid cidr \"fd00::/64\""),
            ("cidr=10.0.2.0/26", "invalid cidr \"10.0.2.0/26\""),
            ("mtu=67", "invalid mtu \"67\""),
            ("mtu=big", "invalid mtu \"big\""),
            ("enable_ipv6=yes", "invalid value of enable_ipv6 for slirp4netns: \"yes\""),
            ("allow_host_loopback=1", "invalid value of allow_host_loopback for slirp4netns: \"1\""),
            ("outbound_addr=fd00::1", "invalid outbound_addr \"fd00::1\""),
            ("outbound_addr6=10.0.0.1", "invalid outbound_addr6 \"10.0.0.1\""),
        ] {
            assert_eq!(slirp(text), wrong);
        }
    }
}
