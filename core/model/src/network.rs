//! Networks: what attachments share.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::lan::{IpvlanOptions, MacvlanOptions};
use crate::{Addr, Invalid, LinkName, NetworkId, NetworkName, Pool, Subnet};

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
    /// The bridge, which every bridge network has; of a macvlan or ipvlan network the parent, `None` for the link of
    /// the host's default route.
    pub link: Option<LinkName>,
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

/// The name of the default network, which is there without having been created.
pub const DEFAULT_NETWORK: &str = "podman";

/// The id of the default network: the SHA-256 of the text `podman`, as in Podman.
pub const DEFAULT_NETWORK_ID: &str = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9";

impl Network {
    /// May its containers have addresses of IPv4 (`true`) or IPv6?
    pub fn has_family(&self, ipv4: bool) -> bool {
        match self.ipam {
            // Subnets are known to servers and routers alone; IPv6 is for who asked for it.
            IpamPolicy::Dhcp => ipv4 || self.ipv6,
            IpamPolicy::HostLocal | IpamPolicy::None => self.subnets.iter().any(|s| s.subnet.is_ipv4() == ipv4),
        }
    }

    /// The options of a bridge network.
    pub fn bridge(&self) -> Option<&BridgeOptions> {
        match &self.driver {
            Driver::Bridge(options) => Some(options),
            Driver::Macvlan(_) | Driver::Ipvlan(_) => None,
        }
    }

    /// Are its containers on a LAN themselves, with addresses of its own, rather than behind a bridge of ours?
    pub fn is_on_lan(&self) -> bool {
        !self.is_managed()
    }

    /// Does it give its sandboxes a default route?
    pub fn gives_default_route(&self) -> bool {
        let refused = match &self.driver {
            Driver::Bridge(options) => options.no_default_route,
            Driver::Macvlan(MacvlanOptions { lan, .. }) | Driver::Ipvlan(IpvlanOptions { lan, .. }) => {
                lan.no_default_route
            }
        };
        !self.internal && refused != Some(true)
    }

    /// Is it the default network?
    pub fn is_default(&self) -> bool {
        self.name.as_str() == DEFAULT_NETWORK
    }

    /// Is its bridge ours: made, given addresses, guarded by the firewall and removed by podwire?
    pub fn is_managed(&self) -> bool {
        self.bridge().is_some_and(|options| options.mode != Some(BridgeMode::Unmanaged))
    }

    /// Can ports be published to its containers? Not from an internal network, nor on a bridge that is not ours.
    pub fn publishes(&self) -> bool {
        !self.internal && self.is_managed()
    }

    /// Are names answered on its gateways? Where the bridge is not ours, the gateways are not either.
    pub fn serves_names(&self) -> bool {
        self.dns && self.is_managed() && self.subnets.iter().any(|s| s.gateway.is_some())
    }

    /// May its link be that of other networks too, and its subnets those of other networks on this host? So it
    /// is, as in Podman, where VLANs keep them apart or where the link is somebody else's.
    pub fn may_share(&self) -> bool {
        self.bridge().is_none_or(BridgeOptions::may_share)
    }

    /// The text of Podman's file `NAME.json`: five spaces per level, a line end, and what Go escapes escaped.
    pub fn to_podman_file(&self) -> String {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"     ");
        let written = self.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
        // Into a Vec, with text keys: neither can fail.
        debug_assert!(written.is_ok());
        let mut text = String::with_capacity(bytes.len() + 1);
        // These five are in no JSON outside of strings; Go's encoder escapes them for HTML's sake.
        for c in String::from_utf8_lossy(&bytes).chars() {
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => text.push(c),
            }
        }
        text.push('\n');
        text
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
    /// What becomes of packets to there.
    pub target: RouteTarget,
    /// Preference, lower wins; the driver's default when absent.
    pub metric: Option<u32>,
}

/// What becomes of packets that a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteTarget {
    /// They go to this next hop.
    Via(IpAddr),
    /// They vanish.
    Blackhole,
    /// They are refused: host unreachable.
    Unreachable,
    /// They are refused: administratively prohibited.
    Prohibit,
}

impl RouteTarget {
    /// The word for one that leads nowhere.
    pub fn word(&self) -> Option<&'static str> {
        match self {
            Self::Via(_) => None,
            Self::Blackhole => Some("blackhole"),
            Self::Unreachable => Some("unreachable"),
            Self::Prohibit => Some("prohibit"),
        }
    }

    fn named(word: &str) -> Option<Self> {
        [Self::Blackhole, Self::Unreachable, Self::Prohibit].into_iter().find(|target| target.word() == Some(word))
    }
}

impl NetworkRoute {
    /// Refuses a next hop of the other family.
    pub fn new(destination: Subnet, target: RouteTarget, metric: Option<u32>) -> Result<Self, Invalid> {
        match target {
            RouteTarget::Via(gateway) if gateway.is_ipv4() != destination.is_ipv4() => {
                Err(Invalid(format!("route {destination} via {gateway}: the gateway is of another IP version")))
            }
            _ => Ok(Self { destination, target, metric }),
        }
    }
}

impl FromStr for NetworkRoute {
    type Err = Invalid;

    /// `DESTINATION,GATEWAY[,METRIC]` or `DESTINATION,TYPE[,METRIC]`, refused in Podman's words.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (destination, target, metric) = match text.split(',').collect::<Vec<_>>()[..] {
            [destination, target] => (destination, target, None),
            [destination, target, metric] => (destination, target, Some(metric)),
            _ => {
                return Err(Invalid(format!(
                    "invalid route: {text}\nFormat: --route <destination>,<gateway>[,<metric>] or --route \
                     <destination>,<type>[,<metric>] where type is blackhole, unreachable, or prohibit"
                )));
            }
        };
        let typed: Addr =
            destination.parse().map_err(|e| Invalid(format!("invalid route destination {destination}: {e}")))?;
        let target = match target.to_ascii_lowercase() {
            word if word == "unicast" => {
                return Err(Invalid(
                    "unicast route requires a gateway, format: --route <destination>,<gateway>[,<metric>]".to_owned(),
                ));
            }
            word => match RouteTarget::named(&word) {
                Some(target) => target,
                None => {
                    RouteTarget::Via(target.parse().map_err(|_| Invalid(format!("invalid route gateway {target}")))?)
                }
            },
        };
        let metric = metric.map(|m| m.parse().map_err(|_| Invalid(format!("invalid route metric {m}")))).transpose()?;
        if typed.subnet().network() != typed.ip {
            return Err(Invalid("route destination invalid".to_owned()));
        }
        Self::new(typed.subnet(), target, metric)
    }
}

impl fmt::Display for NetworkRoute {
    /// As it is typed after `--route`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},", self.destination)?;
        match self.target {
            RouteTarget::Via(gateway) => write!(f, "{gateway}")?,
            target => f.write_str(target.word().unwrap_or_default())?,
        }
        self.metric.iter().try_for_each(|metric| write!(f, ",{metric}"))
    }
}

/// Who chooses addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpamPolicy {
    /// podwire, from the subnets' pools.
    HostLocal,
    /// A DHCP server of the LAN, and its routers: attachments have no address until it has answered.
    Dhcp,
    /// Nobody: attachments get no address.
    None,
}

impl IpamPolicy {
    const WORDS: [(Self, &'static str); 3] =
        [(Self::HostLocal, "host-local"), (Self::Dhcp, "dhcp"), (Self::None, "none")];

    /// As it is typed after `--ipam-driver`.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(policy, _)| *policy == self).map_or("", |(_, word)| word)
    }
}

impl FromStr for IpamPolicy {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let known = Self::WORDS.iter().find(|(_, word)| *word == text);
        known.map(|(policy, _)| *policy).ok_or_else(|| Invalid(format!("Unsupported ipam driver: {text}")))
    }
}

/// The kind of network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A Linux bridge on this host.
    Bridge(BridgeOptions),
    /// Links of their own MAC addresses on a link of the host.
    Macvlan(MacvlanOptions),
    /// Links with the MAC address of a link of the host.
    Ipvlan(IpvlanOptions),
}

impl Driver {
    /// As it is typed after `-d`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Bridge(_) => "bridge",
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(_) => "ipvlan",
        }
    }
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

/// Whose a bridge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BridgeMode {
    /// Ours: made, addressed, guarded and removed by podwire.
    #[default]
    Managed,
    /// Somebody else's: containers become members of it, and that is all.
    Unmanaged,
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
    /// Whose the bridge is; absent means ours and is not shown.
    pub mode: Option<BridgeMode>,
    /// The VLAN of containers on the bridge, which filters VLANs then; 0 to 4094.
    pub vlan: Option<u16>,
    /// The VRF that the bridge is a member of.
    pub vrf: Option<LinkName>,
}

impl BridgeOptions {
    /// Parses `-o key=value` pairs; any key left over is an error that names it.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        let mut options = Options(options.clone());
        let mut parsed = Self {
            mtu: options.take("mtu")?,
            isolate: options.take_with("isolate", isolation)?,
            metric: options.take("metric")?,
            no_default_route: options.take_switch("no_default_route")?,
            outbound_addr4: options.take("outbound_addr4")?,
            outbound_addr6: options.take("outbound_addr6")?,
            mode: options.take_with("mode", bridge_mode)?,
            vlan: options.take("vlan")?,
            vrf: options.take("vrf")?,
        };
        if let Some(mtu) = options.take("com.docker.network.driver.mtu")? {
            parsed.mtu = Some(mtu);
        }
        parsed.check()?;
        options.none_left("bridge").map(|()| parsed)
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.vlan.is_some_and(|vlan| vlan > VLAN_MAX) {
            return Err(Invalid(format!("vlan must be between 0 and {VLAN_MAX}")));
        }
        // ETH_MIN_MTU and the largest that a bridge takes (br_dev_setup in net/bridge/br_device.c).
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu != 0 && !(68..=65535).contains(mtu)) {
            return Err(Invalid(format!("mtu {mtu} is not possible on a bridge: it must be between 68 and 65535")));
        }
        if self.mode == Some(BridgeMode::Unmanaged) && self.vrf.is_some() {
            return Err(Invalid(
                "option vrf cannot be set with mode unmanaged: the bridge is not podwire's".to_owned(),
            ));
        }
        Ok(())
    }

    fn may_share(&self) -> bool {
        self.vlan.is_some() || self.mode == Some(BridgeMode::Unmanaged)
    }

    fn to_map(&self) -> BTreeMap<String, String> {
        let isolate = self.isolate.map(|i| match i {
            Isolation::FromEverything => "strict".to_owned(),
            Isolation::FromIsolated => "true".to_owned(),
            Isolation::None => "false".to_owned(),
        });
        let mode = self.mode.map(|mode| match mode {
            BridgeMode::Managed => "managed".to_owned(),
            BridgeMode::Unmanaged => "unmanaged".to_owned(),
        });
        [
            ("mtu", self.mtu.map(|v| v.to_string())),
            ("isolate", isolate),
            ("metric", self.metric.map(|v| v.to_string())),
            ("no_default_route", self.no_default_route.map(|v| v.to_string())),
            ("outbound_addr4", self.outbound_addr4.map(|v| v.to_string())),
            ("outbound_addr6", self.outbound_addr6.map(|v| v.to_string())),
            ("mode", mode),
            ("vlan", self.vlan.map(|v| v.to_string())),
            ("vrf", self.vrf.as_ref().map(|v| v.to_string())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
    }
}

/// Options as typed; taking one is what makes it known.
pub(crate) struct Options(pub(crate) BTreeMap<String, String>);

impl Options {
    pub(crate) fn take<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Result<Option<T>, Invalid> {
        self.take_with(key, |text| text.parse().map_err(|e| Invalid(format!("unable to parse {key:?}: {e}"))))
    }

    pub(crate) fn take_with<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Invalid> {
        self.0.remove(key).map(|text| parse(&text)).transpose()
    }

    pub(crate) fn take_switch(&mut self, key: &str) -> Result<Option<bool>, Invalid> {
        self.take_with(key, |text| match text {
            // Podman's manual has `1`; up to its version 5 Go's words were taken.
            "1" => Ok(true),
            "0" => Ok(false),
            _ => text.parse().map_err(|e| Invalid(format!("unable to parse {key:?}: {e}"))),
        })
    }

    /// Netavark has a colon here for bridges alone.
    pub(crate) fn none_left(&self, driver: &str) -> Result<(), Invalid> {
        let colon = if driver == "bridge" { ":" } else { "" };
        match self.0.keys().next() {
            Some(unknown) => Err(Invalid(format!("unsupported {driver} network option{colon} {unknown}"))),
            None => Ok(()),
        }
    }
}

/// VLAN 4095 is reserved (IEEE 802.1Q).
const VLAN_MAX: u16 = 4094;

fn bridge_mode(text: &str) -> Result<BridgeMode, Invalid> {
    match text {
        "" | "managed" => Ok(BridgeMode::Managed),
        "unmanaged" => Ok(BridgeMode::Unmanaged),
        _ => Err(Invalid(format!("invalid bridge mode {text:?}"))),
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
    /// Of a macvlan network that has the uplink for its parent there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network_interface: Option<LinkName>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metric: Option<u32>,
    /// Left out for `unicast`, which it means then, so that every Podman reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route_type: Option<String>,
}

impl From<Network> for Json {
    fn from(n: Network) -> Self {
        let options = match &n.driver {
            Driver::Bridge(options) => options.to_map(),
            Driver::Macvlan(options) => options.to_map(),
            Driver::Ipvlan(options) => options.to_map(),
        };
        Self {
            name: n.name,
            id: n.id,
            driver: n.driver.word().to_owned(),
            network_interface: n.link,
            created: n.created,
            subnets: n.subnets.iter().map(JsonSubnet::from).collect(),
            routes: n.routes.iter().map(JsonRoute::from).collect(),
            ipv6_enabled: n.ipv6,
            internal: n.internal,
            dns_enabled: n.dns,
            network_dns_servers: n.dns_servers,
            labels: n.labels,
            options,
            ipam_options: BTreeMap::from([("driver".to_owned(), n.ipam.word().to_owned())]),
        }
    }
}

/// The option `parent` is the network's link, as in netavark.
pub fn take_parent(options: &mut BTreeMap<String, String>) -> Result<Option<LinkName>, Invalid> {
    options.remove("parent").filter(|text| !text.is_empty()).map(|text| text.parse()).transpose()
}

/// Can who chooses addresses choose them for this driver's links?
pub fn check_ipam(driver: &Driver, ipam: IpamPolicy) -> Result<(), Invalid> {
    match (driver, ipam) {
        // A DHCP server tells its clients apart by their MAC addresses, which are all the parent's.
        (Driver::Ipvlan(_), IpamPolicy::Dhcp) => {
            Err(Invalid("ipam driver dhcp is not supported with ipvlan".to_owned()))
        }
        (Driver::Bridge(options), IpamPolicy::Dhcp) if options.mode != Some(BridgeMode::Unmanaged) => {
            let text = "ipam driver dhcp is not supported on a bridge of podwire's own, where no DHCP server is: say \
                        -o mode=unmanaged for a bridge that is on a LAN";
            Err(Invalid(text.to_owned()))
        }
        _ => Ok(()),
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

impl From<&NetworkRoute> for JsonRoute {
    fn from(r: &NetworkRoute) -> Self {
        let gateway = match r.target {
            RouteTarget::Via(gateway) => Some(gateway),
            RouteTarget::Blackhole | RouteTarget::Unreachable | RouteTarget::Prohibit => None,
        };
        let route_type = r.target.word().map(str::to_owned);
        Self { destination: r.destination, gateway, metric: r.metric, route_type }
    }
}

impl TryFrom<JsonRoute> for NetworkRoute {
    type Error = Invalid;

    fn try_from(r: JsonRoute) -> Result<Self, Invalid> {
        let destination = r.destination;
        let target = match (r.route_type.as_deref().unwrap_or_default(), r.gateway) {
            ("" | "unicast", Some(gateway)) => RouteTarget::Via(gateway),
            ("" | "unicast", None) => {
                return Err(Invalid(format!("route {destination} requires a gateway for type unicast")));
            }
            (word, gateway) => {
                let target = RouteTarget::named(word).ok_or_else(|| Invalid(format!("invalid route type {word:?}")))?;
                if gateway.is_some() {
                    return Err(Invalid(format!("route {destination} must not have a gateway for type {word}")));
                }
                target
            }
        };
        Self::new(destination, target, r.metric)
    }
}

impl TryFrom<Json> for Network {
    type Error = Invalid;

    fn try_from(j: Json) -> Result<Self, Invalid> {
        let mut link = j.network_interface;
        let driver = match j.driver.as_str() {
            "bridge" => Driver::Bridge(BridgeOptions::parse(&j.options)?),
            driver @ ("macvlan" | "ipvlan") => {
                let mut options = j.options;
                link = take_parent(&mut options)?.or(link);
                if driver == "macvlan" {
                    Driver::Macvlan(MacvlanOptions::parse(&options)?)
                } else {
                    Driver::Ipvlan(IpvlanOptions::parse(&options)?)
                }
            }
            other => return Err(Invalid(format!("plugin for driver {other:?} not found in plugin directories"))),
        };
        if link.is_none() && matches!(driver, Driver::Bridge(_)) {
            return Err(Invalid("network_interface is missing".to_owned()));
        }
        let ipam: IpamPolicy = j.ipam_options.get("driver").map_or("host-local", String::as_str).parse()?;
        check_ipam(&driver, ipam)?;
        if let Some(unknown) = j.ipam_options.keys().find(|key| *key != "driver") {
            return Err(Invalid(format!("unsupported ipam option: {unknown}")));
        }
        let subnets = j.subnets.into_iter().map(NetworkSubnet::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            ipv6: j.ipv6_enabled || subnets.iter().any(|s| !s.subnet.is_ipv4()),
            name: j.name,
            id: j.id,
            driver,
            link,
            created: j.created,
            subnets,
            routes: j.routes.into_iter().map(NetworkRoute::try_from).collect::<Result<_, _>>()?,
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
    use proptest::prelude::*;

    use super::*;

    fn route() -> impl Strategy<Value = NetworkRoute> {
        let target = prop_oneof![
            any::<u32>().prop_map(|ip| RouteTarget::Via(IpAddr::from(ip.to_be_bytes()))),
            Just(RouteTarget::Blackhole),
            Just(RouteTarget::Unreachable),
            Just(RouteTarget::Prohibit),
        ];
        (any::<u32>(), 0u8..=32, target, proptest::option::of(any::<u32>())).prop_map(|(ip, len, target, metric)| {
            let destination = Subnet::around(IpAddr::from(ip.to_be_bytes()), len).unwrap();
            NetworkRoute { destination, target, metric }
        })
    }

    fn options() -> impl Strategy<Value = BridgeOptions> {
        let isolate =
            prop_oneof![Just(Isolation::FromEverything), Just(Isolation::FromIsolated), Just(Isolation::None),];
        let numbers = (proptest::option::of(68u32..=65535), proptest::option::of(any::<u32>()));
        let rest = (proptest::option::of(0..=VLAN_MAX), any::<Option<bool>>(), any::<Option<u32>>());
        (numbers, proptest::option::of(isolate), rest, any::<Option<bool>>()).prop_map(
            |((mtu, metric), isolate, (vlan, no_default_route, outbound), managed)| BridgeOptions {
                mtu,
                isolate,
                metric,
                no_default_route,
                outbound_addr4: outbound.map(Ipv4Addr::from),
                outbound_addr6: outbound.map(|n| Ipv6Addr::from(u128::from(n) << 64)),
                mode: managed.map(|managed| if managed { BridgeMode::Managed } else { BridgeMode::Unmanaged }),
                vlan,
                vrf: None,
            },
        )
    }

    proptest! {
        #[test]
        fn a_route_is_read_as_it_is_printed(route in route()) {
            prop_assert_eq!(route.to_string().parse::<NetworkRoute>(), Ok(route));
        }

        #[test]
        fn whatever_is_typed_for_a_route_is_answered(text in "[0-9a-f.:/,]{0,40}|.{0,20}") {
            if let Ok(route) = text.parse::<NetworkRoute>() {
                prop_assert_eq!(route.to_string().parse::<NetworkRoute>(), Ok(route));
            }
        }

        #[test]
        fn options_are_read_as_they_are_written(options in options()) {
            prop_assert_eq!(BridgeOptions::parse(&options.to_map()), Ok(options));
        }

        #[test]
        fn a_networks_file_is_read_as_it_is_written(
            options in options(),
            routes in proptest::collection::vec(route(), 0..3),
            labels in proptest::collection::btree_map(".{0,8}", ".{0,8}", 0..3),
            flags in any::<[bool; 3]>(),
        ) {
            let subnet: Subnet = "10.9.0.0/24".parse().unwrap();
            let pool = flags[0].then(|| Pool::parse(subnet, "10.9.0.128/25").unwrap());
            let network = Network {
                name: "na".parse().unwrap(),
                id: NetworkId::from_bytes([7; 32]),
                driver: Driver::Bridge(options),
                link: Some("podman1".parse().unwrap()),
                created: "2026-11-23T18:13:23.7Z".to_owned(),
                subnets: vec![NetworkSubnet { subnet, gateway: subnet.nth(1), pool }],
                routes,
                ipv6: false,
                internal: flags[1],
                dns: flags[2],
                dns_servers: vec!["9.9.9.9".parse().unwrap()],
                labels,
                ipam: IpamPolicy::HostLocal,
            };
            prop_assert_eq!(serde_json::from_str::<Network>(&network.to_podman_file()).unwrap(), network);
        }
    }

    /// What `podman network create` 4.3.1 wrote.
    const FILE: &str = r#"{
     "name": "full",
     "id": "153fabda9f327c03970b17eb33cd972f4277ec044a43873fefba05bc7acabcf1",
     "driver": "bridge",
     "network_interface": "podman3",
     "created": "2026-11-23T18:10:33.7403+01:00",
     "subnets": [
          {
               "subnet": "10.89.0.0/24",
               "gateway": "10.89.0.1"
          }
     ],
     "ipv6_enabled": false,
     "internal": false,
     "dns_enabled": true,
     "labels": {
          "a": "\u003cb\u003e \u0026 c"
     },
     "options": {
          "mtu": "1400"
     },
     "ipam_options": {
          "driver": "host-local"
     }
}
"#;

    #[test]
    fn a_file_of_podmans_is_written_with_the_same_bytes() {
        let network: Network = serde_json::from_str(FILE).unwrap();
        assert_eq!(network.labels["a"], "<b> & c");
        assert_eq!(network.to_podman_file(), FILE);
    }

    #[test]
    fn keys_of_other_versions_are_passed_over() {
        let other = FILE.replacen("{\n", "{\n     \"network_interface_group\": {\"x\": [1]},\n", 1);
        assert_eq!(serde_json::from_str::<Network>(&other).unwrap().to_podman_file(), FILE);
    }

    #[test]
    fn routes_that_lead_nowhere_have_a_type_and_no_gateway() {
        let json = |routes: &str| {
            FILE.replacen("     \"ipv6_enabled\"", &format!("     \"routes\": [{routes}],\n     \"ipv6_enabled\""), 1)
        };
        let read = |routes: &str| {
            let network = serde_json::from_str::<Network>(&json(routes)).map_err(|e| e.to_string())?;
            Ok::<_, String>(serde_json::to_value(network).unwrap()["routes"].to_string())
        };
        let hole = r#"[{"destination":"10.1.0.0/24","metric":7,"route_type":"blackhole"}]"#;
        let same = |a: Result<String, String>, b: &str| {
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&a.unwrap()).unwrap(),
                serde_json::from_str::<serde_json::Value>(b).unwrap()
            );
        };
        same(read(r#"{"destination":"10.1.0.0/24","metric":7,"route_type":"blackhole"}"#), hole);
        same(
            read(r#"{"destination":"10.1.0.0/24","gateway":"10.89.0.9","route_type":"unicast"}"#),
            r#"[{"destination":"10.1.0.0/24","gateway":"10.89.0.9"}]"#,
        );
        let wrong = |routes: &str, why: &str| assert!(read(routes).unwrap_err().starts_with(why), "{:?}", read(routes));
        wrong(r#"{"destination":"10.1.0.0/24"}"#, "route 10.1.0.0/24 requires a gateway for type unicast");
        wrong(
            r#"{"destination":"10.1.0.0/24","gateway":"10.89.0.9","route_type":"prohibit"}"#,
            "route 10.1.0.0/24 must not have a gateway for type prohibit",
        );
        wrong(r#"{"destination":"10.1.0.0/24","route_type":"throw"}"#, "invalid route type \"throw\"");
    }

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
        assert_eq!(BridgeOptions::parse(&options).unwrap().no_default_route, Some(true));
        let options = BTreeMap::from([("no_default_route".to_owned(), "yes".to_owned())]);
        assert_eq!(
            BridgeOptions::parse(&options).unwrap_err().0,
            "unable to parse \"no_default_route\": provided string was not `true` or `false`"
        );
    }
}
