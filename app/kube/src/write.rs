//! What runs, as Kubernetes would write it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::Refused;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pod.
    Pod,
    /// A deployment with the pod as its template.
    Deployment,
}

/// Variables that every container has.
const USUAL: &[&str] = &["PATH", "container", "HOME", "HOSTNAME", "TERM"];

/// One pod: its name, its infra container, if it has one, and its containers, each with its image, as `inspect` shows
/// them.
pub fn write(
    name: &str,
    infra: Option<&Value>,
    containers: &[(Value, Value)],
    kind: Kind,
    now: Timestamp,
) -> Result<String, Refused> {
    let owner = infra.or(containers.first().map(|(container, _)| container)).unwrap_or(&Value::Null);
    let mut labels: Map<String, Value> = Map::from_iter([("app".to_owned(), json!(name))]);
    if let Some(own) = infra.and_then(|infra| infra["Config"]["Labels"].as_object()) {
        labels.extend(own.clone());
    }
    let spec = spec(name, owner, containers);
    let meta = json!({
        "creationTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "labels": labels.clone(),
        "name": name,
    });
    let document = match kind {
        Kind::Pod => json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec }),
        Kind::Deployment => {
            let mut whole = meta;
            whole["name"] = json!(format!("{name}-deployment"));
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": whole,
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": { "app": name } },
                    "template": { "metadata": { "labels": labels, "name": name }, "spec": spec },
                },
            })
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(
        "# Save the output of this file and use kubectl create -f to import\n# it into Kubernetes.\n#\n# Created with \
         podwire-{version}\n"
    );
    let options = serde_saphyr::SerializerOptions::default();
    let body = serde_saphyr::to_string_with_options(&document, options).map_err(|e| Refused(e.to_string()))?;
    Ok(head + &body)
}

fn spec(name: &str, owner: &Value, containers: &[(Value, Value)]) -> Value {
    let mut spec = Map::new();
    let mut volumes = BTreeMap::new();
    let mut shown: Vec<Value> =
        containers.iter().map(|(shown, image)| container(name, shown, image, &mut volumes)).collect();
    if let (Some(first), ports @ [_, ..]) = (shown.first_mut(), &ports(owner)[..]) {
        first["ports"] = json!(ports);
    }
    spec.insert("containers".to_owned(), shown.into());
    let host = &owner["HostConfig"];
    let texts = |key: &str| -> Vec<String> {
        host[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut dns = Map::new();
    for (key, list) in [("nameservers", texts("Dns")), ("searches", texts("DnsSearch"))] {
        if !list.is_empty() {
            dns.insert(key.to_owned(), json!(list));
        }
    }
    let options = texts("DnsOptions");
    if !options.is_empty() {
        let option = |text: &String| match text.split_once(':') {
            Some((name, value)) => json!({ "name": name, "value": value }),
            None => json!({ "name": text }),
        };
        dns.insert("options".to_owned(), options.iter().map(option).collect());
    }
    if !dns.is_empty() {
        spec.insert("dnsConfig".to_owned(), dns.into());
    }
    let alias = |text: &String| {
        let (names, ip) = text.split_once(':')?;
        ip.parse::<std::net::IpAddr>().ok()?;
        Some(json!({ "hostnames": names.split(';').collect::<Vec<_>>(), "ip": ip }))
    };
    let aliases: Vec<Value> = texts("ExtraHosts").iter().filter_map(alias).collect();
    if !aliases.is_empty() {
        spec.insert("hostAliases".to_owned(), json!(aliases));
    }
    if host["NetworkMode"] == "host" {
        spec.insert("hostNetwork".to_owned(), json!(true));
    }
    if owner["IsInfra"] == true && owner["Config"]["Hostname"] != name {
        spec.insert("hostname".to_owned(), owner["Config"]["Hostname"].clone());
    }
    let policy = containers.first().map_or(&Value::Null, |(first, _)| &first["HostConfig"]["RestartPolicy"]["Name"]);
    let policy = match policy.as_str().unwrap_or_default() {
        "always" | "unless-stopped" => "Always",
        "on-failure" => "OnFailure",
        _ => "Never",
    };
    spec.insert("restartPolicy".to_owned(), json!(policy));
    if !volumes.is_empty() {
        spec.insert("volumes".to_owned(), volumes.into_values().collect());
    }
    Value::Object(spec)
}

fn container(pod: &str, shown: &Value, image: &Value, volumes: &mut BTreeMap<String, Value>) -> Value {
    let mut out = Map::new();
    let config = &shown["Config"];
    let own = |key: &str| {
        let value = &config[key];
        let is_empty = value.as_array().is_none_or(Vec::is_empty);
        (!is_empty && *value != image["Config"][key]).then(|| value.clone())
    };
    let mut put = |key: &str, value: Option<Value>| drop(value.map(|value| out.insert(key.to_owned(), value)));
    put("args", own("Cmd"));
    put("command", own("Entrypoint"));
    let of_image: Vec<&str> =
        image["Config"]["Env"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let variable = |text: &str| {
        let (name, value) = text.split_once('=')?;
        let is_own = !of_image.contains(&text) && !USUAL.contains(&name);
        is_own.then(|| json!({ "name": name, "value": value }))
    };
    let env: Vec<Value> =
        config["Env"].as_array().into_iter().flatten().filter_map(Value::as_str).filter_map(variable).collect();
    put("env", (!env.is_empty()).then(|| json!(env)));
    put("image", Some(shown["ImageName"].clone()));
    let name = shown["Name"].as_str().unwrap_or_default();
    // As it would be called again when this is played.
    put("name", Some(json!(name.strip_prefix(&format!("{pod}-")).unwrap_or(name))));
    put("securityContext", security(shown));
    put("stdin", (config["OpenStdin"] == true).then(|| json!(true)));
    put("tty", (config["Tty"] == true).then(|| json!(true)));
    let mounts: Vec<Value> =
        shown["Mounts"].as_array().into_iter().flatten().map(|mount| volume(name, mount, volumes)).collect();
    put("volumeMounts", (!mounts.is_empty()).then(|| json!(mounts)));
    let workdir = config["WorkingDir"].as_str().filter(|dir| *dir != "/" && image["Config"]["WorkingDir"] != **dir);
    put("workingDir", workdir.map(|dir| json!(dir)));
    Value::Object(out)
}

/// The mount; its volume is added to `volumes`.
fn volume(container: &str, mount: &Value, volumes: &mut BTreeMap<String, Value>) -> Value {
    let (name, source) = match (mount["Type"].as_str(), mount["Name"].as_str()) {
        (Some("volume"), Some(volume)) => {
            (format!("{volume}-pvc"), json!({ "persistentVolumeClaim": { "claimName": volume } }))
        }
        _ => {
            let count = volumes.len();
            let path = mount["Source"].as_str().unwrap_or_default();
            let same = |other: &&String| volumes[*other]["hostPath"]["path"] == path;
            let name = volumes.keys().find(same).cloned().unwrap_or_else(|| format!("{container}-host-{count}"));
            (name, json!({ "hostPath": { "path": path } }))
        }
    };
    let mut volume = source;
    volume["name"] = json!(name);
    volumes.insert(name.clone(), volume);
    let mut mounted = json!({ "mountPath": mount["Destination"], "name": name });
    if mount["RW"] == false {
        mounted["readOnly"] = json!(true);
    }
    mounted
}

fn security(shown: &Value) -> Option<Value> {
    let host = &shown["HostConfig"];
    let mut context = Map::new();
    let list = |key: &str| host[key].as_array().filter(|list| !list.is_empty()).cloned();
    let mut capabilities = Map::new();
    for (key, from) in [("add", "CapAdd"), ("drop", "CapDrop")] {
        if let Some(list) = list(from) {
            capabilities.insert(key.to_owned(), json!(list));
        }
    }
    if !capabilities.is_empty() {
        context.insert("capabilities".to_owned(), capabilities.into());
    }
    if host["Privileged"] == true {
        context.insert("privileged".to_owned(), json!(true));
    }
    if host["ReadonlyRootfs"] == true {
        context.insert("readOnlyRootFilesystem".to_owned(), json!(true));
    }
    let (user, group) = split_user(shown["Config"]["User"].as_str().unwrap_or_default());
    for (key, id) in [("runAsGroup", group), ("runAsUser", user)] {
        if let Some(id) = id {
            context.insert(key.to_owned(), json!(id));
        }
    }
    (!context.is_empty()).then_some(Value::Object(context))
}

/// Kubernetes knows no names.
fn split_user(text: &str) -> (Option<u32>, Option<u32>) {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    (user.parse().ok(), group.parse().ok())
}

fn ports(owner: &Value) -> Vec<Value> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u16>().ok());
    let mut ports = Vec::new();
    for (port, bindings) in owner["HostConfig"]["PortBindings"].as_object().into_iter().flatten() {
        let (inside, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        for binding in bindings.as_array().into_iter().flatten() {
            let (inside, outside) = (number(Some(inside)), number(binding["HostPort"].as_str()));
            let (Some(inside), Some(outside)) = (inside, outside) else { continue };
            let mut shown = json!({ "containerPort": inside, "hostPort": outside });
            match binding["HostIp"].as_str() {
                None | Some("" | "0.0.0.0") => {}
                Some(ip) => shown["hostIP"] = json!(ip),
            }
            if protocol != "tcp" {
                shown["protocol"] = json!(protocol.to_ascii_uppercase());
            }
            ports.push(shown);
        }
    }
    ports
}
