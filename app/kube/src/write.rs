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

/// Texts of the files of volumes that go with the pod, by volume and name: those that nobody in the pod can write to.
pub type Files = BTreeMap<String, BTreeMap<String, String>>;

/// One pod, and how it is written.
#[derive(Debug)]
pub struct Written<'a> {
    /// Its name.
    pub name: &'a str,
    /// As `pod inspect` shows it, if it is one.
    pub pod: Option<&'a Value>,
    /// Its infra container, if it has one, as `inspect` shows it.
    pub infra: Option<&'a Value>,
    /// Its containers, each with its image.
    pub containers: &'a [(Value, Value)],
    /// What is in its volumes.
    pub files: &'a Files,
    /// As what.
    pub kind: Kind,
    /// `--replicas`, of a deployment.
    pub replicas: u32,
    /// `--service`: a document for a cluster that publishes its ports, too.
    pub service: bool,
    /// The time.
    pub now: Timestamp,
}

/// Variables that every container has.
const USUAL: &[&str] = &["PATH", "container", "HOME", "HOSTNAME", "TERM"];

/// Podman's seconds between the signal to stop and the kill, and Kubernetes' own.
const PATIENCE: u64 = 10;

/// The documents of one pod.
pub fn write(written: &Written<'_>) -> Result<String, Refused> {
    let Written { name, infra, containers, kind, .. } = *written;
    let owner = infra.or(containers.first().map(|(container, _)| container)).unwrap_or(&Value::Null);
    let mut labels: Map<String, Value> = Map::from_iter([("app".to_owned(), json!(name))]);
    if let Some(own) = infra.and_then(|infra| infra["Config"]["Labels"].as_object()) {
        labels.extend(own.clone());
    }
    let mut maps = BTreeMap::new();
    let spec = spec(written, owner, &mut maps);
    let time = written.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let meta = json!({ "creationTimestamp": time, "labels": labels.clone(), "name": name });
    let mut documents: Vec<Value> = maps
        .into_iter()
        .map(|(name, data)| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
        })
        .collect();
    documents.push(match kind {
        Kind::Pod => json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec }),
        Kind::Deployment => {
            let mut whole = meta.clone();
            // What is played of a deployment is called so.
            let base = name.strip_suffix("-pod").unwrap_or(name);
            whole["name"] = json!(format!("{base}-deployment"));
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": whole,
                "spec": {
                    "replicas": written.replicas,
                    "selector": { "matchLabels": { "app": labels["app"] } },
                    "template": { "metadata": { "labels": labels, "name": name }, "spec": spec },
                },
            })
        }
    });
    if written.service {
        documents.push(service(&meta, &ports(owner)));
    }
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "# Save the output of this file and use kubectl create -f to import\n# it into Kubernetes.\n#\n# Created with \
         podwire-{version}\n"
    );
    for (n, document) in documents.iter().enumerate() {
        if n > 0 {
            text += "---\n";
        }
        let options = serde_saphyr::SerializerOptions::default();
        text += &serde_saphyr::to_string_with_options(document, options).map_err(|e| Refused(e.to_string()))?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// The cluster chooses the ports of its nodes.
fn service(meta: &Value, ports: &[Value]) -> Value {
    let port = |port: &Value| {
        let mut shown = json!({
            "name": port["containerPort"].to_string(), "port": port["containerPort"], "targetPort": port["containerPort"],
        });
        if let Some(protocol) = port.get("protocol") {
            shown["protocol"] = protocol.clone();
        }
        shown
    };
    let ports: Vec<Value> = ports.iter().map(port).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": { "ports": ports, "selector": { "app": meta["labels"]["app"] }, "type": "NodePort" },
    })
}

fn spec(written: &Written<'_>, owner: &Value, maps: &mut BTreeMap<String, Value>) -> Value {
    let Written { name, containers, .. } = *written;
    let mut spec = Map::new();
    let mut volumes = Volumes { written, named: BTreeMap::new(), maps };
    let mut shown: Vec<Value> =
        containers.iter().map(|(shown, image)| container(name, shown, image, &mut volumes)).collect();
    let volumes = volumes.named;
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
    let first = containers.first().map_or(&Value::Null, |(first, _)| first);
    let policy = match first["HostConfig"]["RestartPolicy"]["Name"].as_str().unwrap_or_default() {
        "always" | "unless-stopped" => "Always",
        "on-failure" => "OnFailure",
        _ => "Never",
    };
    spec.insert("restartPolicy".to_owned(), json!(policy));
    let shared = written.pod.map_or(&Value::Null, |pod| &pod["SharedNamespaces"]);
    if shared.as_array().is_some_and(|list| list.iter().any(|name| name == "pid")) {
        let of_host = written.pod.is_some_and(|pod| pod["InfraConfig"]["pid_ns"] == "host");
        spec.insert(if of_host { "hostPID" } else { "shareProcessNamespace" }.to_owned(), json!(true));
    }
    if let Some(seconds) = first["Config"]["StopTimeout"].as_u64().filter(|seconds| *seconds != PATIENCE) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(seconds));
    }
    if !volumes.is_empty() {
        spec.insert("volumes".to_owned(), volumes.into_values().collect());
    }
    Value::Object(spec)
}

fn container(pod: &str, shown: &Value, image: &Value, volumes: &mut Volumes<'_>) -> Value {
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
    put(
        "livenessProbe",
        probe(&config["Healthcheck"]).filter(|_| config["Healthcheck"] != image["Config"]["Healthcheck"]),
    );
    put("name", Some(json!(name.strip_prefix(&format!("{pod}-")).unwrap_or(name))));
    put("resources", resources(&shown["HostConfig"]));
    put("securityContext", security(shown));
    put("stdin", (config["OpenStdin"] == true).then(|| json!(true)));
    put("tty", (config["Tty"] == true).then(|| json!(true)));
    let mut mounts: Vec<Value> =
        shown["Mounts"].as_array().into_iter().flatten().map(|mount| volumes.mount(name, mount)).collect();
    let devices = shown["HostConfig"]["Devices"].as_array().into_iter().flatten();
    mounts.extend(devices.map(|device| volumes.device(name, device)));
    put("volumeMounts", (!mounts.is_empty()).then(|| json!(mounts)));
    let workdir = config["WorkingDir"].as_str().filter(|dir| *dir != "/" && image["Config"]["WorkingDir"] != **dir);
    put("workingDir", workdir.map(|dir| json!(dir)));
    Value::Object(out)
}

/// A check as a probe that decides over life.
fn probe(check: &Value) -> Option<Value> {
    let words: Vec<&str> = check["Test"].as_array()?.iter().filter_map(Value::as_str).collect();
    let command = match words.split_first()? {
        (&"CMD-SHELL", rest) => ["/bin/sh", "-c"].iter().chain(rest).copied().collect(),
        (&"CMD", rest) => rest.to_vec(),
        (&"NONE", _) => return None,
        _ => words.clone(),
    };
    let mut probe = json!({ "exec": { "command": command } });
    for (key, from) in
        [("initialDelaySeconds", "StartPeriod"), ("periodSeconds", "Interval"), ("timeoutSeconds", "Timeout")]
    {
        let seconds =
            check[from].as_u64().map(|nanoseconds| nanoseconds / 1_000_000_000).filter(|seconds| *seconds > 0);
        if let Some(seconds) = seconds {
            probe[key] = json!(seconds);
        }
    }
    if let Some(retries) = check["Retries"].as_u64().filter(|retries| *retries > 0) {
        probe["failureThreshold"] = json!(retries);
    }
    Some(probe)
}

/// What it has at most, and what is kept for it.
fn resources(host: &Value) -> Option<Value> {
    let number = |key: &str| host[key].as_u64().filter(|number| *number > 0);
    let of_quota = || {
        let (quota, period) = (number("CpuQuota")?, number("CpuPeriod")?);
        Some(quota.saturating_mul(1_000_000_000) / period)
    };
    let (mut most, mut least) = (Map::new(), Map::new());
    if let Some(nano) = number("NanoCpus").or_else(of_quota) {
        most.insert("cpu".to_owned(), json!(cpus(nano)));
    }
    if let Some(bytes) = number("Memory") {
        most.insert("memory".to_owned(), json!(memory(bytes)));
    }
    if let Some(bytes) = number("MemoryReservation") {
        least.insert("memory".to_owned(), json!(memory(bytes)));
    }
    let mut resources = Map::new();
    for (key, amounts) in [("limits", most), ("requests", least)] {
        if !amounts.is_empty() {
            resources.insert(key.to_owned(), amounts.into());
        }
    }
    (!resources.is_empty()).then_some(Value::Object(resources))
}

/// `500m`, `2`
fn cpus(nano: u64) -> String {
    match (nano % 1_000_000_000, nano % 1_000_000) {
        (0, _) => (nano / 1_000_000_000).to_string(),
        (_, 0) => format!("{}m", nano / 1_000_000),
        _ => format!("{nano}n"),
    }
}

/// `64Mi`, in the largest unit that fits.
fn memory(bytes: u64) -> String {
    let units = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match units.iter().find(|(size, _)| bytes.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

/// The volumes of a pod that is being written.
struct Volumes<'a> {
    written: &'a Written<'a>,
    /// By the names that mounts have for them.
    named: BTreeMap<String, Value>,
    /// `ConfigMap`s that they need.
    maps: &'a mut BTreeMap<String, Value>,
}

impl Volumes<'_> {
    /// The mount; its volume is added.
    fn mount(&mut self, container: &str, mount: &Value) -> Value {
        let (name, source) = match (mount["Type"].as_str(), mount["Name"].as_str()) {
            (Some("volume"), Some(volume)) => self.volume(volume),
            _ => self.host_path(container, mount["Source"].as_str().unwrap_or_default(), None),
        };
        self.add(name, source, &mount["Destination"], mount["RW"] == false)
    }

    fn device(&mut self, container: &str, device: &Value) -> Value {
        let access = device["CgroupPermissions"].as_str().unwrap_or("rwm");
        let path = device["PathOnHost"].as_str().unwrap_or_default();
        let (name, source) = self.host_path(container, path, Some("CharDevice"));
        self.add(name, source, &device["PathInContainer"], !access.contains('w'))
    }

    fn add(&mut self, name: String, mut source: Value, target: &Value, read_only: bool) -> Value {
        let mut mounted = json!({ "mountPath": target, "name": name });
        if read_only {
            mounted["readOnly"] = json!(true);
        }
        source["name"] = json!(name);
        self.named.insert(name, source);
        mounted
    }

    /// One that goes with the pod is empty at first, or has what a `ConfigMap` says.
    fn volume(&mut self, volume: &str) -> (String, Value) {
        let mounts = self.written.infra.map_or(&Value::Null, |infra| &infra["Mounts"]);
        if !mounts.as_array().into_iter().flatten().any(|mount| mount["Name"] == volume) {
            return (format!("{volume}-pvc"), json!({ "persistentVolumeClaim": { "claimName": volume } }));
        }
        let name = volume.strip_prefix(&format!("{}-", self.written.name)).unwrap_or(volume).to_owned();
        match self.written.files.get(volume) {
            None => (name, json!({ "emptyDir": {} })),
            Some(files) => {
                self.maps.insert(name.clone(), json!(files));
                (name.clone(), json!({ "configMap": { "name": name } }))
            }
        }
    }

    fn host_path(&self, container: &str, path: &str, kind: Option<&str>) -> (String, Value) {
        let count = self.named.len();
        let same = |other: &&String| self.named[*other]["hostPath"]["path"] == path;
        let name = self.named.keys().find(same).cloned().unwrap_or_else(|| format!("{container}-host-{count}"));
        let mut source = json!({ "hostPath": { "path": path } });
        if let Some(kind) = kind {
            source["hostPath"]["type"] = json!(kind);
        }
        (name, source)
    }
}

fn security(shown: &Value) -> Option<Value> {
    let host = &shown["HostConfig"];
    let mut context = Map::new();
    let options: Vec<&str> = host["SecurityOpt"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if options.iter().any(|option| option.starts_with("no-new-privileges") && !option.ends_with("false")) {
        context.insert("allowPrivilegeEscalation".to_owned(), json!(false));
    }
    if options.iter().any(|option| matches!(*option, "seccomp=unconfined" | "seccomp:unconfined")) {
        context.insert("seccompProfile".to_owned(), json!({ "type": "Unconfined" }));
    }
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
