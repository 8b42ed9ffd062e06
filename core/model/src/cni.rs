//! CNI configuration lists, as Podman wrote them before netavark (`/etc/cni/net.d/NAME.conflist`).
//!
//! Of the plugins only what a network of ours can be is read; every other plugin is refused by its name. What a
//! plugin is told beyond that, and keys nobody knows, are passed over, as Podman passed them over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::network::{IpamPolicy, NetworkRoute, RouteTarget, check_ipam};
use crate::{
    Addr, BridgeOptions, Driver, Invalid, IpvlanOptions, LinkName, MacvlanOptions, Network, NetworkId, NetworkName,
    NetworkSubnet, Pool, Subnet,
};

/// Plugins that say nothing about a network which ours do not do anyway.
const IMPLIED: [&str; 4] = ["portmap", "firewall", "tuning", "loopback"];

#[derive(Deserialize)]
struct List {
    name: NetworkName,
    #[serde(default)]
    args: Args,
    plugins: Vec<Plugin>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Args {
    podman_labels: BTreeMap<String, String>,
    podman_options: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plugin {
    #[serde(rename = "type")]
    kind: String,
    bridge: Option<LinkName>,
    /// Of the plugins `macvlan` and `ipvlan`: the parent, and the mode.
    master: Option<LinkName>,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    is_gateway: bool,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    ip_masq: bool,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    vlan: u16,
    #[serde(default)]
    ipam: Ipam,
    /// Of the plugin `firewall`.
    #[serde(default)]
    ingress_policy: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    #[serde(rename = "type")]
    kind: String,
    ranges: Vec<Vec<Range>>,
    routes: Vec<Route>,
    /// The older spelling of one range.
    #[serde(flatten)]
    range: Option<Range>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range {
    subnet: Subnet,
    gateway: Option<IpAddr>,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Route {
    dst: Addr,
    gw: Option<IpAddr>,
}

/// The network that a configuration list describes. CNI networks have no id and no time of creation: `id` follows
/// from the name (in Podman it is its SHA-256), `created` is RFC 3339 text.
pub fn read(text: &str, id: impl FnOnce(&NetworkName) -> NetworkId, created: &str) -> Result<Network, Invalid> {
    let List { name, args, mut plugins } = serde_json::from_str(text).map_err(|e| Invalid(e.to_string()))?;
    if plugins.is_empty() {
        return Err(Invalid("no plugins in the list".to_owned()));
    }
    let first = plugins.remove(0);
    check_first(&first)?;
    let known = |kind: &str| kind == "dnsname" || IMPLIED.contains(&kind);
    if let Some(unknown) = plugins.iter().find(|plugin| !known(&plugin.kind)) {
        return Err(Invalid(format!("CNI plugin {:?} is not supported", unknown.kind)));
    }
    let ipam = ipam_policy(&first.ipam)?;
    let subnets = subnets(&first)?;
    let options = options(&first, &plugins, args.podman_options, ipam);
    let driver = match first.kind.as_str() {
        "macvlan" => Driver::Macvlan(MacvlanOptions::parse(&options)?),
        "ipvlan" => Driver::Ipvlan(IpvlanOptions::parse(&options)?),
        _ => Driver::Bridge(BridgeOptions::parse(&options)?),
    };
    check_ipam(&driver, ipam)?;
    let link = match driver {
        Driver::Bridge(_) => Some(first.bridge.clone().map_or_else(|| "cni0".parse(), Ok)?),
        Driver::Macvlan(_) | Driver::Ipvlan(_) => first.master.clone(),
    };
    Ok(Network {
        id: id(&name),
        driver,
        link,
        created: created.to_owned(),
        routes: routes(&first.ipam, &subnets)?,
        ipv6: subnets.iter().any(|s| !s.subnet.is_ipv4()),
        subnets,
        internal: !first.is_gateway(),
        dns: plugins.iter().any(|plugin| plugin.kind == "dnsname"),
        dns_servers: Vec::new(),
        labels: args.podman_labels,
        ipam,
        name,
    })
}

impl Plugin {
    /// Has it a way out? On a LAN that is the LAN's.
    fn is_gateway(&self) -> bool {
        self.is_gateway || self.is_default_gateway || self.is_on_lan()
    }

    fn is_on_lan(&self) -> bool {
        matches!(self.kind.as_str(), "macvlan" | "ipvlan")
    }
}

fn check_first(plugin: &Plugin) -> Result<(), Invalid> {
    match plugin.kind.as_str() {
        "bridge" if plugin.is_gateway() && !plugin.ip_masq => {
            Err(Invalid("a bridge whose traffic is not masqueraded (ipMasq) is not supported".to_owned()))
        }
        "bridge" | "macvlan" | "ipvlan" => Ok(()),
        other => Err(Invalid(format!("CNI plugin {other:?} is not supported"))),
    }
}

fn ipam_policy(ipam: &Ipam) -> Result<IpamPolicy, Invalid> {
    match ipam.kind.as_str() {
        "" => Ok(IpamPolicy::None),
        named => named.parse(),
    }
}

/// Podman's own options, and what the plugins' settings are called there.
fn options(
    bridge: &Plugin,
    others: &[Plugin],
    mut options: BTreeMap<String, String>,
    ipam: IpamPolicy,
) -> BTreeMap<String, String> {
    for (key, value) in [("mtu", bridge.mtu), ("vlan", bridge.vlan.into())] {
        if value != 0 {
            options.insert(key.to_owned(), value.to_string());
        }
    }
    if bridge.is_on_lan() && !bridge.mode.is_empty() {
        options.insert("mode".to_owned(), bridge.mode.clone());
    }
    if others.iter().any(|plugin| plugin.ingress_policy == "same-bridge") {
        options.insert("isolate".to_owned(), "true".to_owned());
    }
    let has_default =
        bridge.is_default_gateway || bridge.ipam.routes.iter().any(|route| route.dst.subnet().is_default());
    if ipam == IpamPolicy::HostLocal && bridge.is_gateway() && !has_default {
        options.insert("no_default_route".to_owned(), "true".to_owned());
    }
    options
}

/// At most one range of each set, as CNI leases one address per set.
fn subnets(bridge: &Plugin) -> Result<Vec<NetworkSubnet>, Invalid> {
    let ipam = &bridge.ipam;
    if let Some(set) = ipam.ranges.iter().find(|set| set.len() > 1) {
        return Err(Invalid(format!("{} ranges in one set are not supported", set.len())));
    }
    let ranges = ipam.range.iter().chain(ipam.ranges.iter().flatten());
    ranges.map(|range| range.read(bridge.is_gateway())).collect()
}

impl Range {
    fn read(&self, has_gateway: bool) -> Result<NetworkSubnet, Invalid> {
        let subnet = self.subnet;
        if let Some(gateway) = self.gateway.filter(|gateway| !subnet.contains(*gateway)) {
            return Err(Invalid(format!("gateway {gateway} not in subnet {subnet}")));
        }
        let first = || subnet.nth(1).filter(|_| has_gateway);
        let pool = match (self.range_start, self.range_end) {
            (None, None) => None,
            (first, last) => Some(Pool::new(subnet, first.unwrap_or(subnet.network()), last.unwrap_or(subnet.last()))?),
        };
        Ok(NetworkSubnet { subnet, gateway: self.gateway.or_else(first), pool })
    }
}

/// The routes beside the default ones, which every network with a way out has.
fn routes(ipam: &Ipam, subnets: &[NetworkSubnet]) -> Result<Vec<NetworkRoute>, Invalid> {
    let gateway = |ipv4: bool| subnets.iter().filter(|s| s.subnet.is_ipv4() == ipv4).find_map(|s| s.gateway);
    let route = |route: &Route| {
        let destination = route.dst.subnet();
        let via = route.gw.or_else(|| gateway(destination.is_ipv4()));
        let via = via.ok_or_else(|| Invalid(format!("route {destination} requires a gateway for type unicast")))?;
        NetworkRoute::new(destination, RouteTarget::Via(via), None)
    };
    ipam.routes.iter().filter(|r| !r.dst.subnet().is_default()).map(route).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The network as Podman's JSON without name, id and creation, or why not.
    fn read_as_json(text: &str) -> String {
        let network = match read(text, |_| NetworkId::from_bytes([0xab; 32]), "now") {
            Ok(network) => network,
            Err(invalid) => return invalid.0,
        };
        let mut json = serde_json::to_value(network).unwrap();
        for key in ["id", "created", "ipam_options"] {
            json.as_object_mut().unwrap().remove(key);
        }
        json.to_string()
    }

    fn list(plugins: &str) -> String {
        format!(r#"{{"cniVersion":"0.4.0","name":"shop","plugins":[{plugins}]}}"#)
    }

    #[test]
    fn a_list_that_podman_wrote_is_read() {
        let text = r#"{
            "args": {"podman_labels": {"a": "b"}},
            "cniVersion": "0.4.0",
            "name": "shop",
            "plugins": [
                {"type": "bridge", "bridge": "cni-podman3", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                 "mtu": 1400, "vlan": 7, "capabilities": {"ips": true},
                 "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.5.0.0/16"}],
                          "ranges": [[{"subnet": "10.89.1.0/24", "gateway": "10.89.1.1", "rangeStart": "10.89.1.8",
                                       "rangeEnd": "10.89.1.99"}], [{"subnet": "fd00::/64"}]]}},
                {"type": "portmap", "capabilities": {"portMappings": true}},
                {"type": "firewall", "backend": "", "ingressPolicy": "same-bridge"},
                {"type": "tuning"},
                {"type": "dnsname", "domainName": "dns.podman", "capabilities": {"aliases": true}}
            ]
        }"#;
        let json = r#"{"name":"shop","driver":"bridge","network_interface":"cni-podman3","subnets":[{"subnet":"10.89.1.0/24","gateway":"10.89.1.1","lease_range":{"start_ip":"10.89.1.8","end_ip":"10.89.1.99"}},{"subnet":"fd00::/64","gateway":"fd00::1"}],"routes":[{"destination":"10.5.0.0/16","gateway":"10.89.1.1"}],"ipv6_enabled":true,"internal":false,"dns_enabled":true,"labels":{"a":"b"},"options":{"isolate":"true","mtu":"1400","vlan":"7"}}"#;
        let expected: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&read_as_json(text)).unwrap(), expected);
    }

    #[test]
    fn a_list_without_gateway_is_internal_and_one_without_default_route_has_none() {
        let ipam = r#""ipam":{"type":"host-local","subnet":"10.9.0.0/24"}"#;
        let internal = list(&format!(r#"{{"type":"bridge","bridge":"br9",{ipam}}}"#));
        assert!(read_as_json(&internal).contains(r#""internal":true"#), "{}", read_as_json(&internal));
        let closed = list(&format!(r#"{{"type":"bridge","bridge":"br9","isGateway":true,"ipMasq":true,{ipam}}}"#));
        assert!(read_as_json(&closed).contains(r#""no_default_route":"true""#), "{}", read_as_json(&closed));
        assert!(read_as_json(&closed).contains(r#""gateway":"10.9.0.1""#), "{}", read_as_json(&closed));
    }

    #[test]
    fn lists_of_macvlan_and_ipvlan_are_read_with_parent_and_mode() {
        let check = |plugin: &str, expected: serde_json::Value| {
            let read = read_as_json(&list(plugin));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&read).expect(&read), expected);
        };
        check(
            r#"{"type":"macvlan","master":"eth0","mode":"private","mtu":1400,"ipam":{"type":"dhcp"}}"#,
            serde_json::json!({
                "name": "shop", "driver": "macvlan", "network_interface": "eth0", "ipv6_enabled": false,
                "internal": false, "dns_enabled": false, "options": {"mode": "private", "mtu": "1400"}
            }),
        );
        let ipam = r#""ipam":{"type":"host-local","subnet":"10.9.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}"#;
        check(
            &format!(r#"{{"type":"ipvlan","mode":"l3s",{ipam}}}"#),
            serde_json::json!({
                "name": "shop", "driver": "ipvlan", "ipv6_enabled": false, "internal": false, "dns_enabled": false,
                "options": {"mode": "l3s"}, "subnets": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}]
            }),
        );
    }

    #[test]
    fn what_we_cannot_be_is_refused_by_name() {
        let check = |plugins: &str, why: &str| assert_eq!(read_as_json(&list(plugins)), why);
        check(r#"{"type":"ptp"}"#, r#"CNI plugin "ptp" is not supported"#);
        check(r#"{"type":"bridge"},{"type":"bandwidth"}"#, r#"CNI plugin "bandwidth" is not supported"#);
        check(r#"{"type":"bridge","ipam":{"type":"x"}}"#, "Unsupported ipam driver: x");
        check(r#"{"type":"ipvlan","ipam":{"type":"dhcp"}}"#, "ipam driver dhcp is not supported with ipvlan");
        check(r#"{"type":"macvlan","mode":"x"}"#, r#"invalid macvlan mode "x""#);
        check(
            r#"{"type":"bridge","isGateway":true}"#,
            "a bridge whose traffic is not masqueraded (ipMasq) is not supported",
        );
        check("", "no plugins in the list");
    }

    proptest! {
        #[test]
        fn whatever_the_text_there_is_an_answer(text in ".*", plugin in ".{0,40}") {
            let id = |_: &NetworkName| NetworkId::from_bytes([0; 32]);
            let _ = read(&text, id, "");
            let _ = read(&list(&plugin), id, "");
        }
    }
}
