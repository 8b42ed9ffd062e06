//! Networks: what attachments share.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Invalid, LinkName, NetworkId, NetworkName, Pool, Subnet};

/// A network: a driver with its options, subnets and names. Its serde form is Podman's JSON object
/// (`/etc/containers/networks/NAME.json`), key order included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Json", try_from = "Json")]
pub struct Network {
    /// What users call it.
    pub name: NetworkName,
    /// What never changes.
    pub id: NetworkId,
    /// The kind of network with its parsed options.
    pub driver: Driver,
    /// The bridge's link name, or the parent of a macvlan network.
    pub link: LinkName,
    /// When it was created, as RFC 3339 text with nanoseconds; for display only.
    pub created: String,
    /// At most one address per subnet goes to each attachment.
    pub subnets: Vec<NetworkSubnet>,
    /// Routes given to every attachment beside the default route.
    pub routes: Vec<NetworkRoute>,
    /// Was IPv6 asked for? (also true when a subnet is IPv6)
    pub ipv6: bool,
    /// No way out: no default route, no forwarding.
    pub internal: bool,
    /// Are names served on this network?
    pub dns: bool,
    /// Upstreams for names asked on this network.
    pub dns_servers: Vec<IpAddr>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Who chooses addresses.
    pub ipam: IpamPolicy,
}

/// The id of the default network: the SHA-256 of the text `podman`, as in Podman.
pub const DEFAULT_NETWORK_ID: &str = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9";

impl Network {
    /// Subnets of IPv4 (`true`) or IPv6.
    pub fn has_family(&self, ipv4: bool) -> bool {
        self.subnets.iter().any(|s| s.subnet.is_ipv4() == ipv4)
    }
}

/// One prefix of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkSubnet {
    /// The prefix.
    pub subnet: Subnet,
    /// The next hop for attachments: the bridge's own address. None on an internal network without DNS.
    pub gateway: Option<IpAddr>,
    /// Leases come from here; the whole subnet when absent.
    pub pool: Option<Pool>,
}

/// A route given to every attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkRoute {
    /// Where to.
    pub destination: Subnet,
    /// By which next hop.
    pub gateway: IpAddr,
    /// Preference, lower wins; the driver's default when absent.
    pub metric: Option<u32>,
}

/// Who chooses addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpamPolicy {
    /// podwire, from the subnets' pools.
    HostLocal,
    /// Nobody: attachments get no address.
    None,
}

/// The kind of network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A Linux bridge on this host.
    Bridge(BridgeOptions),
}

/// Which other networks' containers may talk to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// From every other network (`strict`, the default).
    #[default]
    FromEverything,
    /// From other isolated networks (`true`).
    FromIsolated,
    /// From none (`false`).
    None,
}

/// `-o` options of the bridge driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeOptions {
    /// Link MTU in bytes; that of the host's default route when absent.
    pub mtu: Option<u32>,
    /// Isolation from other networks; absent means the default and is not shown.
    pub isolate: Option<Isolation>,
    /// Metric of the default route in the sandbox; 100 when absent.
    pub metric: Option<u32>,
    /// `no_default_route=true`
    pub no_default_route: Option<bool>,
    /// Masquerade to this address instead of the uplink's.
    pub outbound_addr4: Option<Ipv4Addr>,
    /// As above for IPv6.
    pub outbound_addr6: Option<Ipv6Addr>,
}

impl BridgeOptions {
    /// Parses `-o key=value` pairs; any key left over is an error that names it.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        let mut options = Options(options.clone());
        let mut parsed = Self {
            mtu: options.take("mtu")?,
            isolate: options.take_with("isolate", isolation)?,
            metric: options.take("metric")?,
            no_default_route: options.take_with("no_default_route", |text| {
                text.parse().map_err(|e| Invalid(format!("unable to parse \"no_default_route\": {e}")))
            })?,
            outbound_addr4: options.take("outbound_addr4")?,
            outbound_addr6: options.take("outbound_addr6")?,
        };
        if let Some(mtu) = options.take("com.docker.network.driver.mtu")? {
            parsed.mtu = Some(mtu);
        }
        for later in ["vlan", "vrf", "mode"] {
            if options.0.contains_key(later) && options.0.get(later).map(String::as_str) != Some("managed") {
                return Err(Invalid(format!("bridge network option {later} is not supported yet")));
            }
            options.0.remove(later);
        }
        match options.0.keys().next() {
            Some(unknown) => Err(Invalid(format!("unsupported bridge network option: {unknown}"))),
            None => Ok(parsed),
        }
    }

    fn to_map(&self) -> BTreeMap<String, String> {
        let isolate = self.isolate.map(|i| match i {
            Isolation::FromEverything => "strict".to_owned(),
            Isolation::FromIsolated => "true".to_owned(),
            Isolation::None => "false".to_owned(),
        });
        [
            ("mtu", self.mtu.map(|v| v.to_string())),
            ("isolate", isolate),
            ("metric", self.metric.map(|v| v.to_string())),
            ("no_default_route", self.no_default_route.map(|v| v.to_string())),
            ("outbound_addr4", self.outbound_addr4.map(|v| v.to_string())),
            ("outbound_addr6", self.outbound_addr6.map(|v| v.to_string())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
    }
}

/// Options as typed; taking one is what makes it known.
struct Options(BTreeMap<String, String>);

impl Options {
    fn take<T: FromStr<Err: std::fmt::Display>>(&mut self, key: &str) -> Result<Option<T>, Invalid> {
        self.take_with(key, |text| text.parse().map_err(|e| Invalid(format!("unable to parse {key:?}: {e}"))))
    }

    fn take_with<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Result<Option<T>, Invalid> {
        self.0.remove(key).map(|text| parse(&text)).transpose()
    }
}

fn isolation(text: &str) -> Result<Isolation, Invalid> {
    match text {
        "strict" => Ok(Isolation::FromEverything),
        "true" => Ok(Isolation::FromIsolated),
        "false" => Ok(Isolation::None),
        _ => Err(Invalid(format!("invalid isolate option {text:?}"))),
    }
}

/// Podman's JSON object, field by field; what it holds is checked on the way into [`Network`].
#[derive(Serialize, Deserialize)]
struct Json {
    name: NetworkName,
    id: NetworkId,
    driver: String,
    network_interface: LinkName,
    created: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subnets: Vec<JsonSubnet>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<JsonRoute>,
    #[serde(default)]
    ipv6_enabled: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    dns_enabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    network_dns_servers: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
    #[serde(default)]
    ipam_options: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct JsonSubnet {
    subnet: Subnet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease_range: Option<JsonRange>,
}

#[derive(Serialize, Deserialize)]
struct JsonRange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_ip: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_ip: Option<IpAddr>,
}

#[derive(Serialize, Deserialize)]
struct JsonRoute {
    destination: Subnet,
    gateway: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metric: Option<u32>,
}

impl From<Network> for Json {
    fn from(n: Network) -> Self {
        let (driver, options) = match &n.driver {
            Driver::Bridge(options) => ("bridge", options.to_map()),
        };
        let ipam = match n.ipam {
            IpamPolicy::HostLocal => "host-local",
            IpamPolicy::None => "none",
        };
        Self {
            name: n.name,
            id: n.id,
            driver: driver.to_owned(),
            network_interface: n.link,
            created: n.created,
            subnets: n.subnets.iter().map(JsonSubnet::from).collect(),
            routes: n
                .routes
                .iter()
                .map(|r| JsonRoute { destination: r.destination, gateway: r.gateway, metric: r.metric })
                .collect(),
            ipv6_enabled: n.ipv6,
            internal: n.internal,
            dns_enabled: n.dns,
            network_dns_servers: n.dns_servers,
            labels: n.labels,
            options,
            ipam_options: BTreeMap::from([("driver".to_owned(), ipam.to_owned())]),
        }
    }
}

impl From<&NetworkSubnet> for JsonSubnet {
    fn from(s: &NetworkSubnet) -> Self {
        Self {
            subnet: s.subnet,
            gateway: s.gateway,
            lease_range: s.pool.map(|p| JsonRange { start_ip: Some(p.first()), end_ip: Some(p.last()) }),
        }
    }
}

impl TryFrom<JsonSubnet> for NetworkSubnet {
    type Error = Invalid;

    fn try_from(s: JsonSubnet) -> Result<Self, Invalid> {
        if let Some(gateway) = s.gateway.filter(|g| !s.subnet.contains(*g)) {
            return Err(Invalid(format!("gateway {gateway} not in subnet {}", s.subnet)));
        }
        let pool = s
            .lease_range
            .map(|r| {
                let first = r.start_ip.unwrap_or(s.subnet.network());
                Pool::new(s.subnet, first, r.end_ip.unwrap_or(s.subnet.last()))
            })
            .transpose()?;
        Ok(Self { subnet: s.subnet, gateway: s.gateway, pool })
    }
}

impl TryFrom<Json> for Network {
    type Error = Invalid;

    fn try_from(j: Json) -> Result<Self, Invalid> {
        let driver = match j.driver.as_str() {
            "bridge" => Driver::Bridge(BridgeOptions::parse(&j.options)?),
            other => return Err(Invalid(format!("plugin for driver {other:?} not found in plugin directories"))),
        };
        let ipam = match j.ipam_options.get("driver").map_or("host-local", String::as_str) {
            "host-local" => IpamPolicy::HostLocal,
            "none" => IpamPolicy::None,
            other => return Err(Invalid(format!("Unsupported ipam driver: {other}"))),
        };
        let subnets = j.subnets.into_iter().map(NetworkSubnet::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            ipv6: j.ipv6_enabled || subnets.iter().any(|s| !s.subnet.is_ipv4()),
            name: j.name,
            id: j.id,
            driver,
            link: j.network_interface,
            created: j.created,
            subnets,
            routes: j
                .routes
                .into_iter()
                .map(|r| NetworkRoute { destination: r.destination, gateway: r.gateway, metric: r.metric })
                .collect(),
            internal: j.internal,
            dns: j.dns_enabled,
            dns_servers: j.network_dns_servers,
            labels: j.labels,
            ipam,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_json_is_read_and_written_in_its_key_order() {
        let json = r#"{"name":"opts","id":"e56d4ed691e4901bd9e2b1ebc2fb851b4ce8abaf9cc567f250b628af17b14e0a","driver":"bridge","network_interface":"podman1","created":"2026-11-23T18:13:23.717651301Z","subnets":[{"subnet":"10.200.50.0/24","gateway":"10.200.50.3","lease_range":{"start_ip":"10.200.50.129","end_ip":"10.200.50.255"}}],"routes":[{"destination":"10.5.0.0/16","gateway":"10.200.50.9","metric":77}],"ipv6_enabled":false,"internal":false,"dns_enabled":true,"options":{"isolate":"strict","metric":"50","no_default_route":"true"},"ipam_options":{"driver":"host-local"}}"#;
        let network: Network = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&network).unwrap(), json);
    }

    #[test]
    fn an_unknown_option_is_named() {
        let options = BTreeMap::from([("foo".to_owned(), "bar".to_owned())]);
        assert_eq!(BridgeOptions::parse(&options).unwrap_err().0, "unsupported bridge network option: foo");
        let options = BTreeMap::from([("mtu".to_owned(), "abc".to_owned())]);
        assert_eq!(
            BridgeOptions::parse(&options).unwrap_err().0,
            "unable to parse \"mtu\": invalid digit found in string"
        );
        let options = BTreeMap::from([("no_default_route".to_owned(), "1".to_owned())]);
        assert_eq!(
            BridgeOptions::parse(&options).unwrap_err().0,
            "unable to parse \"no_default_route\": provided string was not `true` or `false`"
        );
    }
}
