//! Networks as templates and JSON see them.

use std::net::IpAddr;

use engine::config::NetworkMode;
use engine::{Engine, NetworkRequest};
use jiff::Timestamp;
use model::{Network, NetworkSubnet, RouteTarget, Subnet};

use crate::ages;
use crate::conf::Conf;
use crate::outcome::Failure;
use crate::template::{Field, Value};

/// A row of `network ls`. There `.ID` is short and `.Labels` is text; JSON has both in full.
pub(crate) fn listed(network: &Network, truncate: bool) -> Value {
    let id = if truncate { network.id.short() } else { network.id.to_string() };
    let labels: Vec<String> = network.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut all = vec![Field::method("ID", id), Field::method("Labels", labels.join(","))];
    all.extend(fields(network));
    Value::record("network.ListPrintReports", all)
}

/// An object of `network inspect`, with its containers.
pub(crate) fn inspected(network: &Network, containers: Value) -> Value {
    let mut all = fields(network);
    // In Podman the network is a struct inside this one, and `.Id` is read as `.ID`.
    all.push(Field::method("Network", Value::record("types.Network", fields(network))));
    all.push(Field::method("Id", network.id.to_string()));
    all.push(Field::named("Containers", "containers", containers));
    Value::record("entities.NetworkInspectReport", all)
}

/// The running containers of a network, by id.
pub(crate) fn containers(engine: &Engine, network: &Network) -> Result<Value, Failure> {
    let json = serde_json::json!({ "Containers": engine.network_containers(network)? });
    Ok(Value::from_json(&json, &["Containers"]).field_or_nil("Containers"))
}

fn fields(network: &Network) -> Vec<Field> {
    // The options are written by the network's own JSON form: one list of names, not two.
    let json = serde_json::to_value(network).unwrap_or_default();
    let map = |key: &str| match &json[key] {
        serde_json::Value::Null => Value::text_map([]),
        some => Value::from_json(&serde_json::json!({ key: some }), &[key]).field_or_nil(key),
    };
    let created = match network.created.parse::<Timestamp>() {
        Ok(time) => Value::shown(ages::go_time(time), ages::go_time(time), network.created.clone()),
        Err(_) => Value::text(&network.created),
    };
    // Podman's template has an empty text where its JSON has no key.
    let link = match &network.link {
        Some(link) => Field::named("NetworkInterface", "network_interface", link.as_str()),
        None => Field::method("NetworkInterface", ""),
    };
    vec![
        Field::named("Name", "name", network.name.as_str()),
        Field::named("ID", "id", network.id.to_string()),
        Field::named("Driver", "driver", network.driver.word()),
        link,
        Field::named("Created", "created", created),
        Field::optional("Subnets", "subnets", Value::list(network.subnets.iter().map(subnet))),
        Field::optional("Routes", "routes", Value::list(network.routes.iter().map(route))),
        Field::named("IPv6Enabled", "ipv6_enabled", network.ipv6),
        Field::named("Internal", "internal", network.internal),
        Field::named("DNSEnabled", "dns_enabled", network.dns),
        Field::optional(
            "NetworkDNSServers",
            "network_dns_servers",
            Value::list(network.dns_servers.iter().map(|ip| Value::text(ip.to_string()))),
        ),
        Field::optional("Labels", "labels", map("labels")),
        Field::optional("Options", "options", map("options")),
        Field::optional("IPAMOptions", "ipam_options", map("ipam_options")),
    ]
}

fn subnet(s: &NetworkSubnet) -> Value {
    let range = s.pool.map_or(Value::Nil, |pool| {
        Value::record(
            "types.LeaseRange",
            vec![
                Field::named("StartIP", "start_ip", ip(Some(pool.first()))),
                Field::named("EndIP", "end_ip", ip(Some(pool.last()))),
            ],
        )
    });
    Value::record(
        "types.Subnet",
        vec![
            Field::named("Subnet", "subnet", cidr(&s.subnet)),
            Field::optional("Gateway", "gateway", ip(s.gateway)),
            Field::optional("LeaseRange", "lease_range", range),
        ],
    )
}

fn route(r: &model::network::NetworkRoute) -> Value {
    let gateway = match r.target {
        RouteTarget::Via(gateway) => Some(gateway),
        RouteTarget::Blackhole | RouteTarget::Unreachable | RouteTarget::Prohibit => None,
    };
    let metric = r.metric.map_or(Value::Nil, |m| Value::Int(m.into()));
    Value::record(
        "types.Route",
        vec![
            Field::named("Destination", "destination", cidr(&r.destination)),
            Field::optional("Gateway", "gateway", ip(gateway)),
            Field::optional("Metric", "metric", metric),
            Field::optional("RouteType", "route_type", r.target.word().map_or(Value::Nil, Value::text)),
        ],
    )
}

fn ip(ip: Option<IpAddr>) -> Value {
    ip.map_or(Value::Nil, |ip| Value::text(ip.to_string()))
}

/// Go prints a prefix inside a struct as address and mask.
fn cidr(subnet: &Subnet) -> Value {
    let bits: u32 = if subnet.is_ipv4() { 32 } else { 128 };
    let mask = u128::MAX.checked_shl(bits - u32::from(subnet.len())).unwrap_or(0) & (u128::MAX >> (128 - bits));
    let nested = format!("{{{{{} {mask:0width$x}}}}}", subnet.network(), width = bits as usize / 4);
    Value::shown(subnet.to_string(), nested, subnet.to_string())
}

/// Makes the network that containers.conf has instead of Podman's default one, when it is first used.
pub(crate) fn make_default(engine: &mut Engine, mode: &NetworkMode, conf: &Conf) -> Result<(), Failure> {
    let Some(name) = conf.network().name else { return Ok(()) };
    let attachments = match mode {
        NetworkMode::Private(one) => std::slice::from_ref(one),
        NetworkMode::Networks(several) => several,
        _ => return Ok(()),
    };
    // As an ordinary user, what is private has no network of ours.
    let private = matches!(mode, NetworkMode::Private(_)) && engine.options().rootless;
    if private || !attachments.iter().any(|one| one.network.as_ref() == Some(&name)) || engine.network_exists(&name)? {
        return Ok(());
    }
    let subnets = conf.default_subnet()?.iter().map(ToString::to_string).collect();
    let request =
        NetworkRequest { name: Some(name.clone()), driver: "bridge".to_owned(), subnets, ..NetworkRequest::default() };
    match engine.create_network(&request) {
        Err(_) if engine.network_exists(&name)? => Ok(()),
        made => Ok(made.map(drop)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    const JSON: &str = r#"{"name":"full","id":"153fabda9f327c03970b17eb33cd972f4277ec044a43873fefba05bc7acabcf1","driver":"bridge","network_interface":"podman3","created":"2026-11-23T18:10:33.740310197Z","subnets":[{"subnet":"10.89.0.0/24","gateway":"10.89.0.1"},{"subnet":"fd92:b6e7:b54c:564::/64","gateway":"fd92:b6e7:b54c:564::1"}],"ipv6_enabled":true,"internal":false,"dns_enabled":true,"network_dns_servers":["9.9.9.9"],"labels":{"a":"b","c":""},"options":{"mtu":"1400"},"ipam_options":{"driver":"host-local"}}"#;

    fn render(template: &str) -> String {
        let network: Network = serde_json::from_str(JSON).unwrap();
        let mut out = String::new();
        Template::parse("ls", template, 0).unwrap().render(&listed(&network, true), &mut out).unwrap();
        out
    }

    #[test]
    fn a_row_prints_as_recorded_from_podman() {
        assert_eq!(
            render(
                "{{.Name}} {{.ID}} {{.Driver}} {{.Labels}} {{.Created}} {{.Internal}} {{.IPv6Enabled}} {{.DNSEnabled}} {{.NetworkInterface}} {{.Options}} {{.IPAMOptions}} {{.Subnets}}"
            ),
            "full 153fabda9f32 bridge a=b,c= 2026-11-23 18:10:33.740310197 +0000 UTC false true true podman3 map[mtu:1400] map[driver:host-local] [{{{10.89.0.0 ffffff00}} 10.89.0.1 <nil>} {{{fd92:b6e7:b54c:564:: ffffffffffffffff0000000000000000}} fd92:b6e7:b54c:564::1 <nil>}]"
        );
        assert_eq!(
            render("{{range .Subnets}}{{.Gateway}} {{.Subnet}};{{end}}"),
            "10.89.0.1 10.89.0.0/24;fd92:b6e7:b54c:564::1 fd92:b6e7:b54c:564::/64;"
        );
        assert_eq!(render("{{.NetworkDNSServers}}{{.Routes}}"), "[9.9.9.9][]");
    }

    #[test]
    fn an_inspected_network_is_also_seen_through_its_other_names() {
        let network: Network = serde_json::from_str(JSON).unwrap();
        let value = inspected(&network, Value::text_map([]));
        let mut out = String::new();
        Template::parse("inspect", "{{.Network.Name}} {{.Id}}", 0).unwrap().render(&value, &mut out).unwrap();
        assert_eq!(out, format!("full {}", network.id));
        assert_eq!(
            value.to_json().to_string(),
            format!("{},\"containers\":{{}}}}", JSON.trim_end_matches('}').to_owned() + "}")
        );
    }

    #[test]
    fn its_json_is_podmans_whole_object() {
        assert_eq!(render("{{json .}}"), JSON);
    }
}
