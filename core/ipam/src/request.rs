//! What `network create` was asked for, and what becomes of it.
//!
//! The words of refusals are Podman's (netavark's without their prefix), for scripts look for them; their
//! order is Podman's too: first what its command line checks, then what netavark checks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::network::{DEFAULT_NETWORK, DEFAULT_NETWORK_ID, IpamPolicy, check_ipam, take_parent};
use model::{
    BridgeMode, BridgeOptions, Driver, Invalid, IpvlanOptions, LinkName, MacvlanOptions, Network, NetworkId,
    NetworkName, NetworkSubnet, Pool, Subnet,
};

use crate::subnet::{SubnetPool, choose_subnet4, in_pools, ula};

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
    /// Where an IPv4 subnet is taken from when none is asked for.
    pub pools: &'a [SubnetPool],
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
        let routes = self.routes.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?;
        let name = self.checked_name(around)?;
        let (driver, link) = self.driver_and_link(around)?;
        let ipam = self.ipam_policy(&driver)?;
        check_ipam(&driver, ipam)?;
        let serves = matches!(&driver, Driver::Bridge(options) if options.mode != Some(BridgeMode::Unmanaged));
        // Names of containers on a LAN are for the LAN's own servers.
        let dns = !self.disable_dns && ipam == IpamPolicy::HostLocal && serves;
        if !dns && !self.dns_servers.is_empty() {
            let text = "cannot set NetworkDNSServers if DNS is not enabled for the network";
            return Err(Invalid(text.to_owned()).into());
        }
        let mut network = Network {
            name: name.map_or_else(|| free_link(around, 1)?.as_str().parse(), Ok)?,
            id: NetworkId::from_bytes(fresh.id),
            driver,
            link,
            created: fresh.created.to_owned(),
            ipv6: self.ipv6,
            subnets: Vec::new(),
            routes,
            internal: self.internal,
            dns,
            dns_servers: self.dns_servers.clone(),
            labels: self.labels.clone(),
            ipam,
        };
        check_link(&network, around)?;
        if ipam == IpamPolicy::HostLocal {
            network.subnets = self.complete(&network, subnets, around, fresh)?;
        }
        network.ipv6 |= network.has_family(false);
        Ok(network)
    }

    /// Each `--subnet` with the gateway and pool that belong to it.
    fn typed_subnets(&self) -> Result<Vec<NetworkSubnet>, Invalid> {
        if let Some(reserved) = self.name.as_deref().filter(|name| RESERVED.contains(name)) {
            return Err(self::reserved(reserved));
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

    /// The driver with its options, and the network's link: a bridge has one in any case, the parent of a macvlan or
    /// ipvlan network may be left to be found when it is needed.
    fn driver_and_link(&self, around: &Surroundings<'_>) -> Result<(Driver, Option<LinkName>), Invalid> {
        let mut typed = self.options.clone();
        match self.driver.as_str() {
            "bridge" => {
                let docker_name = typed.remove("com.docker.network.bridge.name");
                let options = BridgeOptions::parse(&typed)?;
                let link = self.typed_link(docker_name)?.map_or_else(|| free_link(around, 1), Ok)?;
                Ok((Driver::Bridge(options), Some(link)))
            }
            driver @ ("macvlan" | "ipvlan") => {
                let parent = take_parent(&mut typed)?.map_or_else(|| self.typed_link(None), |link| Ok(Some(link)))?;
                if let Some(parent) = parent.as_ref().filter(|parent| !around.links.contains(parent)) {
                    return Err(Invalid(format!("parent interface {parent} does not exist")));
                }
                let options = match driver {
                    "macvlan" => Driver::Macvlan(MacvlanOptions::parse(&typed)?),
                    _ => Driver::Ipvlan(IpvlanOptions::parse(&typed)?),
                };
                Ok((options, parent))
            }
            other => Err(Invalid(format!("plugin for driver {other:?} not found in plugin directories"))),
        }
    }

    /// Who chooses addresses: on a LAN without a subnet that is said, its DHCP server.
    fn ipam_policy(&self, driver: &Driver) -> Result<IpamPolicy, Invalid> {
        let is_bridge = matches!(driver, Driver::Bridge(_));
        let ipam = match &self.ipam {
            Some(text) => text.parse()?,
            None if !is_bridge && self.subnets.is_empty() => IpamPolicy::Dhcp,
            None => IpamPolicy::HostLocal,
        };
        match (ipam, self.subnets.is_empty()) {
            (IpamPolicy::None, false) => Err(Invalid("None ipam driver is set but subnets are given".to_owned())),
            (IpamPolicy::Dhcp, false) => Err(Invalid("ipam driver dhcp set but subnets are set".to_owned())),
            (IpamPolicy::HostLocal, true) if !is_bridge => Err(Invalid(format!(
                "{} driver needs at least one subnet specified when the host-local ipam driver is set",
                driver.word()
            ))),
            _ => Ok(ipam),
        }
    }

    /// The bridge's link name that was asked for; Docker's option wins, as in netavark.
    fn typed_link(&self, docker_name: Option<String>) -> Result<Option<LinkName>, Invalid> {
        docker_name.as_ref().or(self.link.as_ref()).map(|text| text.parse()).transpose()
    }

    /// Adds the subnets that were left to us, and the gateways; then checks them all.
    fn complete(
        &self,
        network: &Network,
        typed: Vec<NetworkSubnet>,
        around: &Surroundings<'_>,
        fresh: &Fresh<'_>,
    ) -> Result<Vec<NetworkSubnet>, Invalid> {
        let used = used(around);
        check_apart(&typed)?;
        check_others(network, &typed, around)?;
        let has = |ipv4: bool| typed.iter().any(|s| s.subnet.is_ipv4() == ipv4);
        let (has4, has6) = (has(true), has(false));
        let mut subnets = typed;
        // Of a LAN's subnets none is ours to choose.
        let chooses = network.bridge().is_some();
        if chooses && (subnets.is_empty() || self.ipv6 && !has4) {
            let taken: Vec<Subnet> = used.iter().copied().chain(subnets.iter().map(|s| s.subnet)).collect();
            let subnet = choose_subnet4(fresh.pools, &taken).ok_or_else(|| no_free_subnet(fresh.pools, around))?;
            subnets.push(NetworkSubnet { subnet, gateway: None, pool: None });
        }
        if chooses && self.ipv6 && !has6 {
            let subnet = ula(fresh.prefix);
            subnets.push(NetworkSubnet { subnet, gateway: None, pool: None });
        }
        subnets.into_iter().map(|s| with_gateway(network, s)).collect()
    }
}

/// A gateway that was asked for has to lie in the subnet; otherwise it is the first address, or none where nobody
/// would use it.
fn with_gateway(network: &Network, s: NetworkSubnet) -> Result<NetworkSubnet, Invalid> {
    let subnet = s.subnet;
    let gateway = match s.gateway {
        Some(gateway) if subnet.contains(gateway) => Some(gateway),
        Some(gateway) => return Err(Invalid(format!("gateway {gateway} not in subnet {subnet}"))),
        None if network.internal && !network.dns => None,
        None => Some(first_address(subnet)?),
    };
    Ok(NetworkSubnet { gateway, ..s })
}

/// May a network that was made elsewhere be added beside those that are there? `around.used` is not looked at: it
/// was in use on this host before.
pub fn check_newcomer(network: &Network, around: &Surroundings<'_>) -> Result<(), RequestError> {
    if RESERVED.contains(&network.name.as_str()) {
        return Err(reserved(network.name.as_str()).into());
    }
    for other in around.networks {
        if other.name == network.name {
            return Err(RequestError::Exists(network.name.clone()));
        }
        if other.id == network.id {
            return Err(Invalid(format!("network id {} is already that of network {}", other.id, other.name)).into());
        }
    }
    match (network.ipam, network.subnets.is_empty()) {
        (IpamPolicy::None | IpamPolicy::Dhcp, false) => {
            let text = format!("{} ipam driver is set but subnets are given", network.ipam.word());
            return Err(Invalid(text).into());
        }
        (IpamPolicy::HostLocal, true) => {
            return Err(Invalid("ipam driver host-local is set but no subnet is given".to_owned()).into());
        }
        _ => {}
    }
    check_apart(&network.subnets)?;
    let configs = Surroundings { used: &[], links: &[], ..*around };
    check_others(network, &network.subnets, &configs)?;
    Ok(check_link(network, &configs)?)
}

fn reserved(name: &str) -> Invalid {
    Invalid(format!("cannot create network with name {name:?} because it conflicts with a valid network mode"))
}

/// The default network's subnet, as in Podman.
pub const DEFAULT_SUBNET: &str = "10.88.0.0/16";

/// The default network, for its first use: the `wanted` subnet (none: Podman's) and Podman's link name where they are
/// free, the next free ones otherwise. `created` is now, as text.
pub fn default_network(
    around: &Surroundings<'_>,
    wanted: Option<Subnet>,
    pools: &[SubnetPool],
    created: &str,
) -> Result<Network, Invalid> {
    let used = used(around);
    let wanted = wanted.map_or_else(|| DEFAULT_SUBNET.parse(), Ok)?;
    let free = !used.iter().any(|u| u.overlaps(&wanted));
    let subnet = free.then_some(wanted).or_else(|| choose_subnet4(pools, &used));
    let subnet = subnet.ok_or_else(|| no_free_subnet(pools, around))?;
    Ok(Network {
        name: DEFAULT_NETWORK.parse()?,
        id: DEFAULT_NETWORK_ID.parse()?,
        driver: Driver::Bridge(BridgeOptions::default()),
        link: Some(free_link(around, 0)?),
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
pub(crate) fn used(around: &Surroundings<'_>) -> Vec<Subnet> {
    let networks = around.networks.iter().flat_map(|n| n.subnets.iter().map(|s| s.subnet));
    // A default route is no use of every address.
    around.used.iter().copied().filter(|s| !s.is_default()).chain(networks).collect()
}

/// Do the subnets of one network keep clear of each other?
pub(crate) fn check_apart(subnets: &[NetworkSubnet]) -> Result<(), Invalid> {
    for (n, NetworkSubnet { subnet, .. }) in subnets.iter().enumerate() {
        for NetworkSubnet { subnet: other, .. } in &subnets[..n] {
            if other == subnet {
                return Err(Invalid(format!("duplicate subnet defined: {subnet}")));
            }
            if other.overlaps(subnet) {
                return Err(Invalid(format!("overlapping subnets: {other} and {subnet}")));
            }
        }
        if subnet.network().is_loopback() || subnet.network().is_multicast() {
            return Err(Invalid(format!("subnet {subnet} cannot be a network's: its addresses have another meaning")));
        }
    }
    Ok(())
}

/// Are the subnets nobody else's, where the network must have them alone? On a LAN they are the host's own too; but
/// two networks that give out the same addresses there would give them twice.
fn check_others(network: &Network, subnets: &[NetworkSubnet], around: &Surroundings<'_>) -> Result<(), Invalid> {
    if !network.may_share() {
        return check_unused(subnets, around);
    }
    if network.bridge().is_some() {
        return Ok(());
    }
    for other in around.networks {
        let clash = |s: &&NetworkSubnet| match other.is_on_lan() {
            true => other.subnets.iter().any(|o| given_out(s).0 <= given_out(o).1 && given_out(o).0 <= given_out(s).1),
            false => other.subnets.iter().any(|o| o.subnet.overlaps(&s.subnet)),
        };
        let Some(s) = subnets.iter().find(clash) else { continue };
        let hint = if other.is_on_lan() { "; to have both, give each an --ip-range of its own" } else { "" };
        return Err(Invalid(format!("subnet {} is already used by network {}{hint}", s.subnet, other.name)));
    }
    Ok(())
}

/// The first and the last address that containers get without asking for one. (Of families IPv4 comes first.)
fn given_out(s: &NetworkSubnet) -> (IpAddr, IpAddr) {
    s.pool.map_or((s.subnet.network(), s.subnet.last()), |pool| (pool.first(), pool.last()))
}

/// Does nobody else use them?
fn check_unused(subnets: &[NetworkSubnet], around: &Surroundings<'_>) -> Result<(), Invalid> {
    let used = used(around);
    for NetworkSubnet { subnet, .. } in subnets {
        if let Some(other) = used.iter().find(|u| u.overlaps(subnet)) {
            return Err(Invalid(format!(
                "subnet {subnet} is already used on the host or by another config: {}",
                whose(other, around)
            )));
        }
    }
    Ok(())
}

/// `10.89.0.0/24 of network na`, or that the host has it.
pub(crate) fn whose(used: &Subnet, around: &Surroundings<'_>) -> String {
    let holds = |network: &&Network| network.subnets.iter().any(|s| s.subnet == *used);
    match around.networks.iter().find(holds) {
        Some(network) => format!("{used} of network {}", network.name),
        None => format!("{used} of this host's routes"),
    }
}

/// Who holds the pools: the widest first, for these are the reason.
fn no_free_subnet(pools: &[SubnetPool], around: &Surroundings<'_>) -> Invalid {
    const NAMED: usize = 8;
    let mut holders: Vec<Subnet> = used(around).into_iter().filter(|subnet| in_pools(pools, subnet)).collect();
    holders.sort_by_key(|subnet| (subnet.len(), *subnet));
    holders.dedup();
    let mut named: Vec<String> = holders.iter().take(NAMED).map(|subnet| whose(subnet, around)).collect();
    if holders.len() > NAMED {
        named.push(format!("{} more", holders.len() - NAMED));
    }
    Invalid(format!("could not find free subnet from subnet pools: they hold {}", named.join(", ")))
}

pub(crate) fn first_address(subnet: Subnet) -> Result<IpAddr, Invalid> {
    let limit = if subnet.is_ipv4() { 31 } else { 128 };
    subnet.nth(1).filter(|_| subnet.len() < limit).ok_or_else(|| {
        Invalid(format!(
            "could not create gateway for subnet {subnet} because it has a {limit} or greater subnet prefix"
        ))
    })
}

fn is_taken(link: &LinkName, around: &Surroundings<'_>) -> bool {
    around.links.contains(link) || around.networks.iter().any(|n| n.link.as_ref() == Some(link))
}

/// May the network have its bridge? One that keeps VLANs apart may be that of several networks, if they agree
/// about everything that the bridge has once; a bridge that is somebody else's is to be there already.
///
/// A parent may be that of as many networks as want it; a bridge too, of ours or of others.
fn check_link(network: &Network, around: &Surroundings<'_>) -> Result<(), Invalid> {
    let (Some(_), Some(link)) = (network.bridge(), &network.link) else { return Ok(()) };
    let has_it = |n: &&Network| n.bridge().is_some() && n.link.as_ref() == Some(link);
    let holders = || around.networks.iter().filter(has_it);
    if let Some(other) = holders().find(|n| !(n.may_share() && network.may_share())) {
        return Err(Invalid(format!("bridge name {link} already in use by network {}", other.name)));
    }
    if let Some(other) = holders().find(|n| bridge_of(n) != bridge_of(network)) {
        return Err(Invalid(format!(
            "bridge name {link} already in use by network {}, which differs in internal or in the options mode, mtu, \
             vrf, isolate or outbound_addr",
            other.name
        )));
    }
    if !network.may_share() && around.links.contains(link) {
        return Err(Invalid(format!("bridge name {link} already in use")));
    }
    Ok(())
}

/// What a bridge has once, whatever number of networks share it.
fn bridge_of(network: &Network) -> (bool, Option<BridgeOptions>) {
    let of_bridge =
        |options: &BridgeOptions| BridgeOptions { vlan: None, metric: None, no_default_route: None, ..options.clone() };
    (network.internal, network.bridge().map(of_bridge))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::subnet::POOLS;

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

    const FRESH: Fresh<'_> = Fresh { id: [0xa1; 32], prefix: [0xa1; 7], created: "now", pools: POOLS };

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
        let link = network.link.map_or_else(|| "-".to_owned(), |link| link.to_string());
        format!("{} {link}{}", network.name, subnets.collect::<String>())
    }

    fn check(line: &str, expected: &str) {
        let default = default_network(&around(&[]), None, POOLS, "now").unwrap();
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
        check(
            "nb --subnet 10.200.1.0/24",
            "subnet 10.200.1.0/24 is already used on the host or by another config: 10.200.1.0/24 of network na",
        );
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
        check("../nb", "Invalid characters in network name \"../nb\": must match [a-zA-Z0-9][a-zA-Z0-9_.-]*");
        check("host", "cannot create network with name \"host\" because it conflicts with a valid network mode");
        check("nb --ipam-driver foo", "Unsupported ipam driver: foo");
        check("nb --ipam-driver none --subnet 10.2.0.0/24", "None ipam driver is set but subnets are given");
        check("nb --ipam-driver dhcp --subnet 10.2.0.0/24", "ipam driver dhcp set but subnets are set");
        check("nb -o mtu=abc", "unable to parse \"mtu\": invalid digit found in string");
        check("nb -o foo=bar", "unsupported bridge network option: foo");
        check("nb -o isolate=maybe", "invalid isolate option \"maybe\"");
        check("nb --dns 8.8.8.8 --disable-dns", "cannot set NetworkDNSServers if DNS is not enabled for the network");
        check(
            "nb --dns 8.8.8.8 -o mode=unmanaged",
            "cannot set NetworkDNSServers if DNS is not enabled for the network",
        );
        check(
            "nb --interface-name toolonginterfacename",
            "Interface name is too long: interface names must be 15 characters or less: toolonginterfacename",
        );
        check("nb --interface-name podman0", "bridge name podman0 already in use by network podman");
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
            "invalid route: bad\nFormat: --route <destination>,<gateway>[,<metric>] or --route \
             <destination>,<type>[,<metric>] where type is blackhole, unreachable, or prohibit",
        );
        check("nb --route 10.1.0.0/24,bad", "invalid route gateway bad");
        check("nb --route 10.1.0.0/24,10.200.9.1,abc", "invalid route metric abc");
        check("nb --route 10.1.0.5/24,10.200.9.1", "route destination invalid");
        check(
            "nb --route 10.1.0/24,10.200.9.1",
            "invalid route destination 10.1.0/24: invalid CIDR address: 10.1.0/24",
        );
        check(
            "nb --route 10.1.0.0/24,unicast",
            "unicast route requires a gateway, format: --route <destination>,<gateway>[,<metric>]",
        );
        check("nb --route 10.1.0.0/24,fd00::1", "route 10.1.0.0/24 via fd00::1: the gateway is of another IP version");
        check("nb --route 10.1.0.0/24,BlackHole,7 --route fd00::/8,prohibit", "nb podman2 10.89.0.0/24>10.89.0.1");
    }

    #[test]
    fn networks_on_a_lan_have_a_parent_and_addresses_of_the_lan() {
        let links: Vec<LinkName> = vec!["eth0".parse().unwrap()];
        let used: Vec<Subnet> = vec!["192.168.1.0/24".parse().unwrap()];
        let na = request("na").resolve(&around(&[]), &FRESH).unwrap();
        let lan = "lan -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 --ip-range 192.168.1.64/28";
        let with = |networks: &[Network], line: &str| {
            request(line).resolve(&Surroundings { networks, used: &used, links: &links }, &FRESH)
        };
        let networks = [na.clone(), with(&[na], lan).unwrap()];
        let check = |line: &str, expected: &str| {
            let network = with(&networks, line);
            let ipam = network.as_ref().map_or("", |network| network.ipam.word());
            assert_eq!(format!("{} {ipam}", said(network.clone())).trim_end(), expected, "{line}");
        };
        check("nb -d macvlan", "nb - dhcp");
        check("nb -d macvlan -o parent=eth0 --ipv6", "nb eth0 dhcp");
        check("nb -d macvlan --interface-name eth0 --ipam-driver dhcp", "nb eth0 dhcp");
        check("nb -d macvlan --ipam-driver none -o host_access=true", "nb - none");
        check("nb -d ipvlan -o mode=l3 --subnet 192.168.2.0/24", "nb - 192.168.2.0/24>192.168.2.1 host-local");
        check("nb -d ipvlan --internal --subnet 192.168.2.0/24", "nb - 192.168.2.0/24>- host-local");
        check("nb -o mode=unmanaged --interface-name br0 --ipam-driver dhcp", "nb br0 dhcp");
        check("nb -d macvlan -o parent=eth1", "parent interface eth1 does not exist");
        check("nb -d ipvlan", "ipam driver dhcp is not supported with ipvlan");
        check(
            "nb -d macvlan --ipam-driver host-local",
            "macvlan driver needs at least one subnet specified when the host-local ipam driver is set",
        );
        check("nb -d macvlan --ipam-driver dhcp --subnet 192.168.2.0/24", "ipam driver dhcp set but subnets are set");
        check(
            "nb -d macvlan --subnet 192.168.2.0/24 --dns 9.9.9.9",
            "cannot set NetworkDNSServers if DNS is not enabled for the network",
        );
        check(
            "nb --ipam-driver dhcp",
            "ipam driver dhcp is not supported on a bridge of podwire's own, where no DHCP server is: say \
             -o mode=unmanaged for a bridge that is on a LAN",
        );
        let subnet = "nb -d macvlan -o mode=private --subnet 192.168.1.0/24";
        let twice = "subnet 192.168.1.0/24 is already used by network lan; to have both, give each an --ip-range of \
                     its own";
        check(subnet, twice);
        check(&format!("{subnet} --ip-range 192.168.1.72/29"), twice);
        check(
            &format!("{subnet} --ip-range 192.168.1.80/28"),
            "nb - 192.168.1.0/24>192.168.1.1[192.168.1.81-192.168.1.95] host-local",
        );
        check("nb -d macvlan --subnet 10.89.0.0/16", "subnet 10.89.0.0/16 is already used by network na");
    }

    #[test]
    fn names_are_served_where_podman_serves_them() {
        let serves = |line: &str| {
            let network = request(line).resolve(&around(&[]), &FRESH).unwrap();
            (network.dns, network.serves_names())
        };
        assert_eq!(serves("nb"), (true, true));
        assert_eq!(serves("nb --internal"), (true, true));
        assert_eq!(serves("nb --dns 9.9.9.9"), (true, true));
        assert_eq!(serves("nb --disable-dns"), (false, false));
        assert_eq!(serves("nb --ipam-driver none"), (false, false));
        assert_eq!(serves("nb -o mode=unmanaged --interface-name br0"), (false, false));
        assert!(!default_network(&around(&[]), None, POOLS, "now").unwrap().dns);
    }

    #[test]
    fn networks_with_vlans_may_share_subnet_and_bridge() {
        check("nb -o vlan=7 --subnet 10.200.1.0/24", "nb podman2 10.200.1.0/24>10.200.1.1");
        check("nb -o mode=unmanaged --subnet 10.200.1.0/24", "nb podman2 10.200.1.0/24>10.200.1.1");
        check("nb -o vlan=7 --interface-name podman1", "bridge name podman1 already in use by network na");
        let blue = request("blue -o vlan=7 --interface-name br0").resolve(&around(&[]), &FRESH).unwrap();
        let networks = [blue];
        let check = |line: &str, expected: &str| {
            assert_eq!(said(request(line).resolve(&around(&networks), &FRESH)), expected, "network create {line}");
        };
        check("red -o vlan=8 --interface-name br0 -o metric=5", "red br0 10.89.1.0/24>10.89.1.1");
        let differs = "bridge name br0 already in use by network blue, which differs in internal or in the options \
                       mode, mtu, vrf, isolate or outbound_addr";
        check("red -o vlan=8 --interface-name br0 -o mtu=1400", differs);
        check("red -o vlan=8 --interface-name br0 --internal", differs);
        check("red -o mode=unmanaged --interface-name br0", differs);
        check("red --interface-name br0", "bridge name br0 already in use by network blue");
    }

    #[test]
    fn options_are_checked_in_podmans_words() {
        check("nb -o vlan=4095", "vlan must be between 0 and 4094");
        check("nb -o vlan=x", "unable to parse \"vlan\": invalid digit found in string");
        check("nb -o mode=foo", "invalid bridge mode \"foo\"");
        check("nb -o sticky=true", "unsupported bridge network option: sticky");
        check(
            "nb -o com.docker.network.bridge.enable_icc=true",
            "unsupported bridge network option: com.docker.network.bridge.enable_icc",
        );
        check("nb -o mtu=70000", "mtu 70000 is not possible on a bridge: it must be between 68 and 65535");
        check(
            "nb -o mode=unmanaged -o vrf=red",
            "option vrf cannot be set with mode unmanaged: the bridge is not podwire's",
        );
        check("nb -o vrf=red -o vlan=0 -o mtu=0 -o mode=managed", "nb podman2 10.89.0.0/24>10.89.0.1");
    }

    #[test]
    fn exhausted_pools_say_who_holds_them() {
        let used: Vec<Subnet> =
            ["10.90.0.0/15", "10.0.0.0/9", "10.128.0.0/9", "192.168.0.0/16"].map(|s| s.parse().unwrap()).into();
        let na = request("na --subnet 10.89.0.0/24").resolve(&around(&[]), &FRESH).unwrap();
        let networks = [na];
        let around = Surroundings { used: &used, ..around(&networks) };
        assert_eq!(
            said(request("nb").resolve(&around, &FRESH)),
            "could not find free subnet from subnet pools: they hold 10.0.0.0/9 of this host's routes, 10.128.0.0/9 of \
             this host's routes, 10.90.0.0/15 of this host's routes, 10.89.0.0/24 of network na"
        );
    }

    #[test]
    fn a_network_made_elsewhere_must_not_clash_with_ours() {
        let default = default_network(&around(&[]), None, POOLS, "now").unwrap();
        let na = request("na --subnet 10.200.1.0/24").resolve(&around(&[]), &FRESH).unwrap();
        let networks = [default, na.clone()];
        let check = |network: &Network, expected: &str| {
            let said =
                check_newcomer(network, &around(&networks)).map_or_else(|e| e.to_string(), |()| "added".to_owned());
            assert_eq!(said, expected);
        };
        let other = Fresh { id: [0xb2; 32], ..FRESH };
        let new = |line: &str| request(line).resolve(&around(&[]), &other).unwrap();
        check(&na, "network already exists na");
        check(
            &Network { name: "nb".parse().unwrap(), ..na.clone() },
            &format!("network id {} is already that of network na", "a1".repeat(32)),
        );
        check(
            &new("nb --subnet 10.200.0.0/16 --interface-name br9"),
            "subnet 10.200.0.0/16 is already used on the host or by another config: 10.200.1.0/24 of network na",
        );
        check(
            &new("nb --subnet 10.201.0.0/16 --interface-name podman0"),
            "bridge name podman0 already in use by network podman",
        );
        check(&new("nb --subnet 10.201.0.0/16 --interface-name br9"), "added");
        let bare = Network { subnets: Vec::new(), ..new("nb --interface-name br9") };
        check(&bare, "ipam driver host-local is set but no subnet is given");
        let host = Network { name: "host".parse().unwrap(), ..bare };
        check(&host, "cannot create network with name \"host\" because it conflicts with a valid network mode");
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_is_answered(
            subnets in proptest::collection::vec("[0-9a-f.:/-]{0,20}", 0..3),
            ranges in proptest::collection::vec("[0-9a-f.:/-]{0,20}", 0..3),
            routes in proptest::collection::vec("[0-9a-z.:/,]{0,24}", 0..3),
            options in proptest::collection::btree_map("(mtu|vlan|vrf|mode|isolate|metric|no_default_route|.{0,5})", ".{0,8}", 0..4),
            name in proptest::option::of(".{0,12}"),
            link in proptest::option::of(".{0,17}"),
            ipv6 in any::<bool>(),
        ) {
            let request = NetworkRequest { name, link, subnets, ranges, routes, options, ipv6, ..NetworkRequest::default() };
            if let Ok(network) = request.resolve(&around(&[]), &FRESH) {
                prop_assert!(check_newcomer(&network, &around(&[])).is_ok(), "{network:?}");
            }
        }
    }

    #[test]
    fn the_default_network_gives_way_to_what_the_host_uses() {
        let check = |used: &[&str], links: &[&str], expected: &str| {
            let used: Vec<Subnet> = used.iter().map(|text| text.parse().unwrap()).collect();
            let links: Vec<LinkName> = links.iter().map(|text| text.parse().unwrap()).collect();
            let around = Surroundings { used: &used, links: &links, ..around(&[]) };
            assert_eq!(said(default_network(&around, None, POOLS, "now").map_err(RequestError::from)), expected);
        };
        check(&["0.0.0.0/0", "192.168.1.0/24"], &["lo", "eth0"], "podman podman0 10.88.0.0/16>10.88.0.1");
        check(&["10.88.3.0/24"], &[], "podman podman0 10.89.0.0/24>10.89.0.1");
        check(&["10.88.0.0/15"], &["podman0"], "podman podman1 10.90.0.0/24>10.90.0.1");
    }
}
