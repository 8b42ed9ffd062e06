//! What `network create` was asked for, and what becomes of it.
//!
//! The words of refusals are Podman's (netavark's without their prefix), for scripts look for them; their
//! order is Podman's too: first what its command line checks, then what netavark checks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::network::{DEFAULT_NETWORK_ID, NetworkRoute};
use model::{
    BridgeOptions, Driver, Invalid, LinkName, Network, NetworkId, NetworkName, NetworkSubnet, Pool, Subnet,
    network::IpamPolicy,
};

use crate::subnet::{choose_subnet4, ula};

/// What was typed after `network create`, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRequest {
    /// The name; the bridge's when absent.
    pub name: Option<String>,
    /// `-d`; `bridge` is the usual one.
    pub driver: String,
    /// `--subnet`, in order.
    pub subnets: Vec<String>,
    /// `--gateway`: the nth belongs to the nth subnet.
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`: the nth belongs to the nth subnet.
    pub ranges: Vec<String>,
    /// `--route`
    pub routes: Vec<String>,
    /// `--interface-name`
    pub link: Option<String>,
    /// `--internal`
    pub internal: bool,
    /// `--ipv6`
    pub ipv6: bool,
    /// `--disable-dns`
    pub disable_dns: bool,
    /// `--dns`
    pub dns_servers: Vec<IpAddr>,
    /// `--ipam-driver`
    pub ipam: Option<String>,
    /// `-o`
    pub options: BTreeMap<String, String>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
}

impl Default for NetworkRequest {
    /// `network create` alone.
    fn default() -> Self {
        Self {
            name: None,
            driver: "bridge".to_owned(),
            subnets: Vec::new(),
            gateways: Vec::new(),
            ranges: Vec::new(),
            routes: Vec::new(),
            link: None,
            internal: false,
            ipv6: false,
            disable_dns: false,
            dns_servers: Vec::new(),
            ipam: None,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// What a new network has to get along with.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Every other network there is.
    pub networks: &'a [Network],
    /// Subnets of addresses and routes on the host's links.
    pub used: &'a [Subnet],
    /// The host's links.
    pub links: &'a [LinkName],
}

/// What a new network is made of beside the request.
#[derive(Debug, Clone, Copy)]
pub struct Fresh<'a> {
    /// Random: the id.
    pub id: [u8; 32],
    /// Random: for an IPv6 subnet (see [`ula`]).
    pub prefix: [u8; 7],
    /// Now, as RFC 3339 text with nanoseconds.
    pub created: &'a str,
}

/// Why there will be no such network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// `--ignore` is about this one.
    #[error("network already exists {0}")]
    Exists(NetworkName),
    /// Anything else, in one line (two where Podman has two).
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Names that mean something else after `--network`.
const RESERVED: [&str; 9] = ["none", "host", "bridge", "private", "slirp4netns", "pasta", "container", "ns", "default"];

/// The default network's name.
const DEFAULT_NETWORK: &str = "podman";

/// Are names served on networks? Not before there is a DNS server.
const DNS: bool = false;

/// The network asked for, or why not.
pub fn plan_network(
    request: &NetworkRequest,
    around: &Surroundings<'_>,
    fresh: &Fresh<'_>,
) -> Result<Network, RequestError> {
    request.resolve(around, fresh)
}

impl NetworkRequest {
    fn resolve(&self, around: &Surroundings<'_>, fresh: &Fresh<'_>) -> Result<Network, RequestError> {
        let subnets = self.typed_subnets()?;
        let routes = self.routes.iter().map(|text| route(text)).collect::<Result<Vec<_>, _>>()?;
        let name = self.checked_name(around)?;
        self.check_driver()?;
        let ipam = self.ipam_policy()?;
        let mut options = self.options.clone();
        let link = self.checked_link(&mut options, around)?;
        let driver = Driver::Bridge(BridgeOptions::parse(&options)?);
        self.check_dns()?;
        let subnets = match ipam {
            IpamPolicy::None => Vec::new(),
            IpamPolicy::HostLocal => self.complete(subnets, around, fresh)?,
        };
        Ok(Network {
            name: match name {
                Some(name) => name,
                None => link.as_str().parse()?,
            },
            id: NetworkId::from_bytes(fresh.id),
            driver,
            link,
            created: fresh.created.to_owned(),
            ipv6: self.ipv6 || subnets.iter().any(|s| !s.subnet.is_ipv4()),
            subnets,
            routes,
            internal: self.internal,
            dns: DNS && !self.disable_dns && ipam == IpamPolicy::HostLocal,
            dns_servers: self.dns_servers.clone(),
            labels: self.labels.clone(),
            ipam,
        })
    }

    /// Each `--subnet` with the gateway and pool that belong to it.
    fn typed_subnets(&self) -> Result<Vec<NetworkSubnet>, Invalid> {
        if let Some(reserved) = self.name.as_deref().filter(|name| RESERVED.contains(name)) {
            let text =
                format!("cannot create network with name {reserved:?} because it conflicts with a valid network mode");
            return Err(Invalid(text));
        }
        if self.subnets.is_empty() && !(self.gateways.is_empty() && self.ranges.is_empty()) {
            return Err(Invalid("cannot set gateway or range without subnet".to_owned()));
        }
        for (what, count) in [("gateways", self.gateways.len()), ("ranges", self.ranges.len())] {
            if count > self.subnets.len() {
                return Err(Invalid(format!("cannot set more {what} than subnets")));
            }
        }
        let one = |(n, text): (usize, &String)| {
            let subnet: Subnet = text.parse()?;
            let pool = self.ranges.get(n).map(|range| Pool::parse(subnet, range)).transpose()?;
            Ok(NetworkSubnet { subnet, gateway: self.gateways.get(n).copied(), pool })
        };
        self.subnets.iter().enumerate().map(one).collect()
    }

    fn checked_name(&self, around: &Surroundings<'_>) -> Result<Option<NetworkName>, RequestError> {
        let Some(text) = &self.name else { return Ok(None) };
        let name: NetworkName = text.parse()?;
        // The default network exists even before its first use.
        if name.as_str() == DEFAULT_NETWORK || around.networks.iter().any(|n| n.name == name) {
            return Err(RequestError::Exists(name));
        }
        Ok(Some(name))
    }

    fn check_driver(&self) -> Result<(), Invalid> {
        match self.driver.as_str() {
            "bridge" => Ok(()),
            "macvlan" | "ipvlan" => Err(Invalid(format!("network driver {} is not supported yet", self.driver))),
            other => Err(Invalid(format!("plugin for driver {other:?} not found in plugin directories"))),
        }
    }

    fn ipam_policy(&self) -> Result<IpamPolicy, Invalid> {
        match self.ipam.as_deref().unwrap_or("host-local") {
            "host-local" => Ok(IpamPolicy::HostLocal),
            "none" if self.subnets.is_empty() => Ok(IpamPolicy::None),
            "none" => Err(Invalid("None ipam driver is set but subnets are given".to_owned())),
            "dhcp" if !self.subnets.is_empty() => Err(Invalid("ipam driver dhcp set but subnets are set".to_owned())),
            "dhcp" => Err(Invalid("ipam driver dhcp is not supported yet".to_owned())),
            other => Err(Invalid(format!("Unsupported ipam driver: {other}"))),
        }
    }

    /// The bridge's link name: as asked for (Docker's option too), or the next free `podmanN`.
    fn checked_link(
        &self,
        options: &mut BTreeMap<String, String>,
        around: &Surroundings<'_>,
    ) -> Result<LinkName, Invalid> {
        let docker = options.remove("com.docker.network.bridge.name");
        let Some(text) = self.link.as_ref().or(docker.as_ref()) else { return free_link(around, 1) };
        let link: LinkName = text.parse()?;
        if is_taken(&link, around) {
            return Err(Invalid(format!("bridge name {link} already in use")));
        }
        if self.name.is_none() && around.networks.iter().any(|n| n.name.as_str() == link.as_str()) {
            return Err(Invalid(format!("bridge name {link} already in use as a network's name")));
        }
        Ok(link)
    }

    fn check_dns(&self) -> Result<(), Invalid> {
        match (self.dns_servers.is_empty(), self.disable_dns, DNS) {
            (true, _, _) | (false, false, true) => Ok(()),
            (false, true, _) => {
                Err(Invalid("cannot set NetworkDNSServers if DNS is not enabled for the network".to_owned()))
            }
            (false, false, false) => Err(Invalid(
                "network DNS servers (--dns) are not supported yet: no names are served on networks".to_owned(),
            )),
        }
    }

    /// Adds the subnets that were left to us, and the gateways; then checks them all.
    fn complete(
        &self,
        typed: Vec<NetworkSubnet>,
        around: &Surroundings<'_>,
        fresh: &Fresh<'_>,
    ) -> Result<Vec<NetworkSubnet>, Invalid> {
        let used = used(around);
        check_overlaps(&typed, &used)?;
        let has = |ipv4: bool| typed.iter().any(|s| s.subnet.is_ipv4() == ipv4);
        let (has4, has6) = (has(true), has(false));
        let mut subnets = typed;
        if subnets.is_empty() || self.ipv6 && !has4 {
            let taken: Vec<Subnet> = used.iter().copied().chain(subnets.iter().map(|s| s.subnet)).collect();
            let subnet = choose_subnet4(&taken)
                .ok_or_else(|| Invalid("could not find free subnet from subnet pools".to_owned()))?;
            subnets.push(NetworkSubnet { subnet, gateway: None, pool: None });
        }
        if self.ipv6 && !has6 {
            let subnet = ula(fresh.prefix);
            subnets.push(NetworkSubnet { subnet, gateway: None, pool: None });
        }
        subnets.into_iter().map(|s| self.with_gateway(s)).collect()
    }

    /// A gateway that was asked for has to lie in the subnet; otherwise it is the first address, or none where
    /// nobody would use it.
    fn with_gateway(&self, s: NetworkSubnet) -> Result<NetworkSubnet, Invalid> {
        let subnet = s.subnet;
        let gateway = match s.gateway {
            Some(gateway) if subnet.contains(gateway) => Some(gateway),
            Some(gateway) => return Err(Invalid(format!("gateway {gateway} not in subnet {subnet}"))),
            None if self.internal && self.disable_dns => None,
            None => Some(first_address(subnet)?),
        };
        Ok(NetworkSubnet { gateway, ..s })
    }
}

/// The default network, for its first use: Podman's subnet and link name where they are free, the next free
/// ones otherwise. `created` is now, as text.
pub fn default_network(around: &Surroundings<'_>, created: &str) -> Result<Network, Invalid> {
    let used = used(around);
    let wanted: Subnet = "10.88.0.0/16".parse()?;
    let free = !used.iter().any(|u| u.overlaps(&wanted));
    let subnet = free.then_some(wanted).or_else(|| choose_subnet4(&used));
    let subnet = subnet.ok_or_else(|| Invalid("could not find free subnet from subnet pools".to_owned()))?;
    Ok(Network {
        name: DEFAULT_NETWORK.parse()?,
        id: DEFAULT_NETWORK_ID.parse()?,
        driver: Driver::Bridge(BridgeOptions::default()),
        link: free_link(around, 0)?,
        created: created.to_owned(),
        subnets: vec![NetworkSubnet { subnet, gateway: Some(first_address(subnet)?), pool: None }],
        routes: Vec::new(),
        ipv6: false,
        internal: false,
        dns: false,
        dns_servers: Vec::new(),
        labels: BTreeMap::new(),
        ipam: IpamPolicy::HostLocal,
    })
}

/// The host's subnets and those of networks, whose links may not exist now.
fn used(around: &Surroundings<'_>) -> Vec<Subnet> {
    let networks = around.networks.iter().flat_map(|n| n.subnets.iter().map(|s| s.subnet));
    // A default route is no use of every address.
    around.used.iter().copied().filter(|s| !s.is_default()).chain(networks).collect()
}

fn check_overlaps(subnets: &[NetworkSubnet], used: &[Subnet]) -> Result<(), Invalid> {
    for (n, NetworkSubnet { subnet, .. }) in subnets.iter().enumerate() {
        for NetworkSubnet { subnet: other, .. } in &subnets[..n] {
            if other == subnet {
                return Err(Invalid(format!("duplicate subnet defined: {subnet}")));
            }
            if other.overlaps(subnet) {
                return Err(Invalid(format!("overlapping subnets: {other} and {subnet}")));
            }
        }
        if used.iter().any(|u| u.overlaps(subnet)) {
            return Err(Invalid(format!("subnet {subnet} is already used on the host or by another config")));
        }
        if subnet.network().is_loopback() || subnet.network().is_multicast() {
            return Err(Invalid(format!("subnet {subnet} cannot be a network's: its addresses have another meaning")));
        }
    }
    Ok(())
}

fn first_address(subnet: Subnet) -> Result<IpAddr, Invalid> {
    let limit = if subnet.is_ipv4() { 31 } else { 128 };
    subnet.nth(1).filter(|_| subnet.len() < limit).ok_or_else(|| {
        Invalid(format!(
            "could not create gateway for subnet {subnet} because it has a {limit} or greater subnet prefix"
        ))
    })
}

fn is_taken(link: &LinkName, around: &Surroundings<'_>) -> bool {
    around.links.contains(link) || around.networks.iter().any(|n| n.link == *link)
}

/// The first free `podmanN` from N = `from`: no link's, bridge's or network's name.
fn free_link(around: &Surroundings<'_>, from: u32) -> Result<LinkName, Invalid> {
    for n in from..1_000_000 {
        let link: LinkName = format!("podman{n}").parse()?;
        if !is_taken(&link, around) && !around.networks.iter().any(|net| net.name.as_str() == link.as_str()) {
            return Ok(link);
        }
    }
    Err(Invalid("could not find a free bridge name podmanN".to_owned()))
}

/// `DESTINATION,GATEWAY[,METRIC]`
fn route(text: &str) -> Result<NetworkRoute, Invalid> {
    let wrong = || {
        Invalid(format!("invalid route: {text}\nFormat: --route <destination in CIDR>,<gateway>,<metric (optional)>"))
    };
    let (destination, gateway, metric) = match text.split(',').collect::<Vec<_>>()[..] {
        [destination, gateway] => (destination, gateway, None),
        [destination, gateway, metric] => (destination, gateway, Some(metric)),
        _ => return Err(wrong()),
    };
    let typed: model::Addr =
        destination.parse().map_err(|_| Invalid(format!("invalid route destination {destination}")))?;
    let gateway: IpAddr = gateway.parse().map_err(|_| Invalid(format!("invalid route gateway {gateway}")))?;
    let metric = metric.map(|m| m.parse().map_err(|_| Invalid(format!("invalid route metric {m}")))).transpose()?;
    let destination = typed.subnet();
    // Host bits, or a next hop of the other family.
    if destination.network() != typed.ip || destination.is_ipv4() != gateway.is_ipv4() {
        return Err(Invalid("route destination invalid".to_owned()));
    }
    Ok(NetworkRoute { destination, gateway, metric })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command line after `network create`, in the few forms these tests need.
    fn request(line: &str) -> NetworkRequest {
        let mut request = NetworkRequest::default();
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            let mut value = || words.next().expect("a flag's value").to_owned();
            match word {
                "-d" => request.driver = value(),
                "--subnet" => request.subnets.push(value()),
                "--gateway" => request.gateways.push(value().parse().unwrap()),
                "--ip-range" => request.ranges.push(value()),
                "--route" => request.routes.push(value()),
                "--interface-name" => request.link = Some(value()),
                "--internal" => request.internal = true,
                "--ipv6" => request.ipv6 = true,
                "--disable-dns" => request.disable_dns = true,
                "--dns" => request.dns_servers.push(value().parse().unwrap()),
                "--ipam-driver" => request.ipam = Some(value()),
                "-o" => {
                    let (key, value) = words.next().unwrap().split_once('=').unwrap();
                    request.options.insert(key.to_owned(), value.to_owned());
                }
                name => request.name = Some(name.to_owned()),
            }
        }
        request
    }

    fn around(networks: &[Network]) -> Surroundings<'_> {
        Surroundings { networks, used: &[], links: &[] }
    }

    const FRESH: Fresh<'_> = Fresh { id: [0xa1; 32], prefix: [0xa1; 7], created: "now" };

    /// `NAME LINK SUBNET>GATEWAY[FIRST-LAST]…`, or the refusal.
    fn said(result: Result<Network, RequestError>) -> String {
        let network = match result {
            Ok(network) => network,
            Err(e) => return e.to_string(),
        };
        let subnets = network.subnets.iter().map(|s| {
            let gateway = s.gateway.map_or("-".to_owned(), |ip| ip.to_string());
            let pool = s.pool.map_or(String::new(), |p| format!("[{}-{}]", p.first(), p.last()));
            format!(" {}>{gateway}{pool}", s.subnet)
        });
        format!("{} {}{}", network.name, network.link, subnets.collect::<String>())
    }

    fn check(line: &str, expected: &str) {
        let default = default_network(&around(&[]), "now").unwrap();
        let na = request("na --subnet 10.200.1.0/24").resolve(&around(&[]), &FRESH).unwrap();
        let networks = [default, na];
        assert_eq!(said(plan_network(&request(line), &around(&networks), &FRESH)), expected, "network create {line}");
    }

    #[test]
    fn what_is_left_out_is_chosen() {
        check("", "podman2 podman2 10.89.0.0/24>10.89.0.1");
        check("nb", "nb podman2 10.89.0.0/24>10.89.0.1");
        check("nb --ipv6", "nb podman2 10.89.0.0/24>10.89.0.1 fda1:a1a1:a1a1:a1a1::/64>fda1:a1a1:a1a1:a1a1::1");
        check("nb --subnet fd01::/64", "nb podman2 fd01::/64>fd01::1");
        check("nb --ipv6 --subnet fd01::/64", "nb podman2 fd01::/64>fd01::1 10.89.0.0/24>10.89.0.1");
        check(
            "nb --ipv6 --subnet 10.3.0.0/24",
            "nb podman2 10.3.0.0/24>10.3.0.1 fda1:a1a1:a1a1:a1a1::/64>fda1:a1a1:a1a1:a1a1::1",
        );
        check("nb --internal", "nb podman2 10.89.0.0/24>10.89.0.1");
        check("nb --internal --disable-dns", "nb podman2 10.89.0.0/24>-");
        check("nb --ipam-driver none", "nb podman2");
        check("nb --interface-name br7", "nb br7 10.89.0.0/24>10.89.0.1");
        check("nb -o com.docker.network.bridge.name=br7", "nb br7 10.89.0.0/24>10.89.0.1");
        check(
            "nb --subnet 10.200.50.0/24 --gateway 10.200.50.3 --ip-range 10.200.50.128/25",
            "nb podman2 10.200.50.0/24>10.200.50.3[10.200.50.129-10.200.50.255]",
        );
        check("nb --subnet 10.200.2.0/31 --gateway 10.200.2.0", "nb podman2 10.200.2.0/31>10.200.2.0");
    }

    #[test]
    fn refusals_are_in_podmans_words() {
        check("na", "network already exists na");
        check("podman", "network already exists podman");
        check("nb --subnet 10.200.1.0/24", "subnet 10.200.1.0/24 is already used on the host or by another config");
        check("nb --subnet 10.200.1.0", "invalid CIDR address: 10.200.1.0");
        check("nb --subnet 10.200.2.0/24 --gateway 10.201.0.1", "gateway 10.201.0.1 not in subnet 10.200.2.0/24");
        check("nb --gateway 10.201.0.1", "cannot set gateway or range without subnet");
        check("nb --ip-range 10.200.2.0/25", "cannot set gateway or range without subnet");
        check(
            "nb --subnet 10.200.2.0/24 --gateway 10.200.2.1 --gateway 10.200.2.2",
            "cannot set more gateways than subnets",
        );
        check(
            "nb --subnet 10.200.2.0/24 --ip-range 10.200.2.0/25 --ip-range 10.200.2.0/26",
            "cannot set more ranges than subnets",
        );
        check(
            "nb --subnet 10.200.2.0/24 --ip-range 10.201.2.0/25",
            "lease range start_ip 10.201.2.1 not in subnet 10.200.2.0/24",
        );
        check(
            "nb --subnet 10.200.2.0/24 --ip-range 10.200.2.9-10.200.2.5",
            "lease range start_ip 10.200.2.9 must be less than or equal to end_ip 10.200.2.5",
        );
        check("nb --subnet 10.200.2.0/24 --subnet 10.200.2.0/24", "duplicate subnet defined: 10.200.2.0/24");
        check(
            "nb --subnet 10.200.2.0/24 --subnet 10.200.2.0/25",
            "overlapping subnets: 10.200.2.0/24 and 10.200.2.0/25",
        );
        for len in [31, 32] {
            check(
                &format!("nb --subnet 10.200.2.0/{len}"),
                &format!(
                    "could not create gateway for subnet 10.200.2.0/{len} because it has a 31 or greater subnet prefix"
                ),
            );
        }
        check("nb -d foo", "plugin for driver \"foo\" not found in plugin directories");
        check("nb -d macvlan", "network driver macvlan is not supported yet");
        check("../nb", "Invalid characters in network name \"../nb\": must match [a-zA-Z0-9][a-zA-Z0-9_.-]*");
        check("host", "cannot create network with name \"host\" because it conflicts with a valid network mode");
        check("nb --ipam-driver foo", "Unsupported ipam driver: foo");
        check("nb --ipam-driver none --subnet 10.2.0.0/24", "None ipam driver is set but subnets are given");
        check("nb --ipam-driver dhcp --subnet 10.2.0.0/24", "ipam driver dhcp set but subnets are set");
        check("nb --ipam-driver dhcp", "ipam driver dhcp is not supported yet");
        check("nb -o mtu=abc", "unable to parse \"mtu\": invalid digit found in string");
        check("nb -o foo=bar", "unsupported bridge network option: foo");
        check("nb -o isolate=maybe", "invalid isolate option \"maybe\"");
        check("nb --dns 8.8.8.8 --disable-dns", "cannot set NetworkDNSServers if DNS is not enabled for the network");
        check("nb --dns 8.8.8.8", "network DNS servers (--dns) are not supported yet: no names are served on networks");
        check(
            "nb --interface-name toolonginterfacename",
            "Interface name is too long: interface names must be 15 characters or less: toolonginterfacename",
        );
        check("nb --interface-name podman0", "bridge name podman0 already in use");
        check(
            "nb --subnet 127.5.0.0/16",
            "subnet 127.5.0.0/16 cannot be a network's: its addresses have another meaning",
        );
    }

    #[test]
    fn routes_are_destination_gateway_and_metric() {
        check("nb --route 10.1.0.0/24,10.89.0.9,77", "nb podman2 10.89.0.0/24>10.89.0.1");
        check(
            "nb --route bad",
            "invalid route: bad\nFormat: --route <destination in CIDR>,<gateway>,<metric (optional)>",
        );
        check("nb --route 10.1.0.0/24,bad", "invalid route gateway bad");
        check("nb --route 10.1.0.0/24,10.200.9.1,abc", "invalid route metric abc");
        check("nb --route 10.1.0.5/24,10.200.9.1", "route destination invalid");
    }

    #[test]
    fn the_default_network_gives_way_to_what_the_host_uses() {
        let check = |used: &[&str], links: &[&str], expected: &str| {
            let used: Vec<Subnet> = used.iter().map(|text| text.parse().unwrap()).collect();
            let links: Vec<LinkName> = links.iter().map(|text| text.parse().unwrap()).collect();
            let around = Surroundings { used: &used, links: &links, ..around(&[]) };
            assert_eq!(said(default_network(&around, "now").map_err(RequestError::from)), expected);
        };
        check(&["0.0.0.0/0", "192.168.1.0/24"], &["lo", "eth0"], "podman podman0 10.88.0.0/16>10.88.0.1");
        check(&["10.88.3.0/24"], &[], "podman podman0 10.89.0.0/24>10.89.0.1");
        check(&["10.88.0.0/15"], &["podman0"], "podman podman1 10.90.0.0/24>10.90.0.1");
    }
}
