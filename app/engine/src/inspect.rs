//! Objects as `inspect` shows them: Podman's fields in Podman's order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use images::Image;
use jiff::Timestamp;
use linux::Signal;
use model::{ContainerId, PortMapping, Protocol};
use serde_json::{Map, Value, json};

use crate::config::{Dns, HostEntry, NetworkMode};
use crate::endpoints::AttachedEndpoint;
use crate::engine::Engine;
use crate::error::Result;
use crate::list::DEFAULT_NETWORK;
use crate::record::{ContainerRecord, Mount, Settings, State};
use crate::spec;

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Nobody is anybody else than this in the image; only the environment's HOME depends on it.
fn root_user() -> crate::user::User {
    crate::user::User { uid: 0, gid: 0, groups: Vec::new(), home: "/root".to_owned() }
}

impl Engine {
    /// The container as `podman inspect` shows it.
    pub fn inspect(&self, id: &ContainerId) -> Result<Value> {
        let record = self.record(id)?;
        let settings = &record.settings;
        let places = self.places(id);
        let layers = self.images()?.by_id(&record.image).map(|image| image.layers).unwrap_or_default();
        let endpoints = if record.state.is_running() { self.networking().endpoints_of(id)? } else { Vec::new() };
        let capabilities = spec::capabilities(&settings.security);
        let argv = settings.argv();
        let lower: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
        Ok(json!({
            "Id": id.to_string(),
            "Created": record.created.to_string(),
            "Path": argv.first(),
            "Args": argv.get(1..).unwrap_or_default(),
            "State": state(&record),
            "Image": record.image.to_string(),
            "ImageDigest": record.image_digest,
            "ImageName": record.image_name,
            "Rootfs": "",
            "Pod": "",
            "ResolvConfPath": places.resolv_conf(),
            "HostnamePath": places.hostname(),
            "HostsPath": places.hosts(),
            "StaticDir": places.static_data(),
            "OCIConfigPath": places.static_data().join("config.json"),
            "OCIRuntime": self.runtime().map(|runtime| runtime.name).unwrap_or_default(),
            "ConmonPidFile": "",
            "PidFile": record.settings.pid_file.clone().unwrap_or_else(|| places.pid_file()),
            "Name": record.name.as_str(),
            "RestartCount": 0,
            "Driver": "overlay",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "EffectiveCaps": capabilities,
            "BoundingCaps": capabilities,
            "ExecIDs": [],
            "GraphDriver": {
                "Name": "overlay",
                "Data": {
                    "LowerDir": lower.join(":"),
                    "MergedDir": places.merged(),
                    "UpperDir": places.upper(),
                    "WorkDir": places.work(),
                },
            },
            "Mounts": settings.mounts.iter().map(mount).collect::<Vec<_>>(),
            "Dependencies": dependencies(settings),
            "NetworkSettings": network_settings(&record, &endpoints),
            "Namespace": "",
            "IsInfra": false,
            "IsService": false,
            "KubeExitCodePropagation": "invalid",
            "lockNumber": 0,
            "Config": config(&record),
            "HostConfig": host_config(&record, places.log()),
            "UseImageHosts": false,
            "UseImageHostname": false,
        }))
    }
}

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

fn state(record: &ContainerRecord) -> Value {
    let pid = |process: Option<linux::ProcessRef>| process.map_or(0, |process| process.pid);
    json!({
        "OciVersion": "1.0.2",
        "Status": record.state.to_string(),
        "Running": record.state == State::Running,
        "Paused": false,
        "Restarting": false,
        "OOMKilled": false,
        "Dead": false,
        "Pid": pid(record.init),
        "ConmonPid": pid(record.monitor),
        "ExitCode": record.exit_code,
        "Error": record.error,
        "StartedAt": time(record.started),
        "FinishedAt": time(record.finished),
        "CheckpointedAt": NEVER,
        "RestoredAt": NEVER,
    })
}

fn mount(mount: &Mount) -> Value {
    let mut shown = Map::new();
    shown.insert("Type".to_owned(), if mount.volume.is_some() { "volume" } else { "bind" }.into());
    if let Some(name) = &mount.volume {
        shown.insert("Name".to_owned(), name.as_str().into());
    }
    let driver = if mount.volume.is_some() { "local" } else { "" };
    for (key, value) in [
        ("Source", json!(mount.source)),
        ("Destination", json!(mount.target)),
        ("Driver", json!(driver)),
        ("Mode", json!("")),
        ("Options", json!(mount.options)),
        ("RW", json!(!mount.read_only())),
        ("Propagation", json!("rprivate")),
    ] {
        shown.insert(key.to_owned(), value);
    }
    Value::Object(shown)
}

fn dependencies(settings: &Settings) -> Vec<&str> {
    match &settings.network.mode {
        NetworkMode::Container(id) => vec![id.as_str()],
        _ => Vec::new(),
    }
}

/// Addresses of one endpoint, as the fields that Podman has for them.
#[derive(Default)]
struct Shown {
    gateway: String,
    ip: String,
    prefix: u8,
    gateway6: String,
    ip6: String,
    prefix6: u8,
    mac: String,
}

impl Shown {
    fn of(attached: &AttachedEndpoint) -> Self {
        let addrs = &attached.endpoint.addrs;
        let gateway = |v4: bool| {
            attached
                .network_gateways
                .iter()
                .find(|ip: &&IpAddr| ip.is_ipv4() == v4)
                .map_or_else(String::new, IpAddr::to_string)
        };
        let addr = |v4: bool| addrs.iter().find(|addr| addr.ip.is_ipv4() == v4);
        let text = |v4: bool| addr(v4).map_or_else(String::new, |addr| addr.ip.to_string());
        let prefix = |v4: bool| addr(v4).map_or(0, model::Addr::len);
        Self {
            gateway: gateway(true),
            ip: text(true),
            prefix: prefix(true),
            gateway6: gateway(false),
            ip6: text(false),
            prefix6: prefix(false),
            mac: attached.endpoint.mac.to_string(),
        }
    }
}

fn network_settings(record: &ContainerRecord, endpoints: &[AttachedEndpoint]) -> Value {
    // The top-level fields are filled for the default network alone.
    let only_default = matches!(endpoints, [one] if one.network.as_str() == DEFAULT_NETWORK);
    let top = endpoints.first().filter(|_| only_default).map(Shown::of).unwrap_or_default();
    json!({
        "EndpointID": "",
        "Gateway": top.gateway,
        "IPAddress": top.ip,
        "IPPrefixLen": top.prefix,
        "IPv6Gateway": top.gateway6,
        "GlobalIPv6Address": top.ip6,
        "GlobalIPv6PrefixLen": top.prefix6,
        "MacAddress": top.mac,
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": ports(&record.settings.ports, &record.settings.expose),
        "SandboxKey": record.netns.as_ref().map_or_else(String::new, |path| path.display().to_string()),
        "Networks": networks(record, endpoints),
    })
}

fn networks(record: &ContainerRecord, endpoints: &[AttachedEndpoint]) -> Value {
    let mut shown = Map::new();
    let pseudo = |name: &str| network_entry(&Shown::default(), name, &Value::Null);
    match &record.settings.network.mode {
        NetworkMode::Host => drop(shown.insert("host".to_owned(), pseudo("host"))),
        NetworkMode::None => drop(shown.insert("none".to_owned(), pseudo("none"))),
        NetworkMode::Networks(attachments) if endpoints.is_empty() => {
            for name in attachments.iter().map(|a| a.network.as_deref().unwrap_or(DEFAULT_NETWORK)) {
                shown.insert(name.to_owned(), pseudo(name));
            }
        }
        _ => {}
    }
    for attached in endpoints {
        let mut aliases: Vec<String> = attached.aliases.iter().map(ToString::to_string).collect();
        aliases.push(record.id.short());
        if record.settings.hostname_given {
            aliases.push(record.settings.hostname.clone());
        }
        let entry = network_entry(&Shown::of(attached), &attached.network_id.to_string(), &json!(aliases));
        shown.insert(attached.network.to_string(), entry);
    }
    Value::Object(shown)
}

fn network_entry(shown: &Shown, id: &str, aliases: &Value) -> Value {
    json!({
        "EndpointID": "",
        "Gateway": shown.gateway,
        "IPAddress": shown.ip,
        "IPPrefixLen": shown.prefix,
        "IPv6Gateway": shown.gateway6,
        "GlobalIPv6Address": shown.ip6,
        "GlobalIPv6PrefixLen": shown.prefix6,
        "MacAddress": shown.mac,
        "NetworkID": id,
        "DriverOpts": null,
        "IPAMConfig": null,
        "Links": null,
        "Aliases": aliases,
    })
}

/// `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`; exposed only: null.
fn ports(published: &[PortMapping], exposed: &[(u16, u16, Protocol)]) -> Value {
    let mut bindings: BTreeMap<(u16, Protocol), Vec<Value>> = BTreeMap::new();
    for &(first, range, protocol) in exposed {
        for port in (first..=u16::MAX).take(range.into()) {
            bindings.entry((port, protocol)).or_default();
        }
    }
    for mapping in published {
        for n in 0..mapping.range {
            let host = mapping.host.exact().map_or_else(|| any_address(mapping).to_owned(), |ip| ip.to_string());
            let binding = json!({ "HostIp": host, "HostPort": mapping.host_port.saturating_add(n).to_string() });
            bindings.entry((mapping.container_port.saturating_add(n), mapping.protocol)).or_default().push(binding);
        }
    }
    let shown = bindings.into_iter().map(|((port, protocol), list)| {
        (format!("{port}/{protocol}"), if list.is_empty() { Value::Null } else { Value::Array(list) })
    });
    Value::Object(shown.collect())
}

fn any_address(mapping: &PortMapping) -> &'static str {
    match mapping.host {
        model::HostAddress::Ip(ip) if ip.is_ipv6() => "::",
        _ => "0.0.0.0",
    }
}

fn config(record: &ContainerRecord) -> Value {
    let settings = &record.settings;
    let mut config = json!({
        "Hostname": settings.hostname,
        "Domainname": "",
        "User": settings.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": settings.tty,
        "OpenStdin": settings.interactive,
        "StdinOnce": false,
        "Env": spec::environment(settings, &root_user()),
        "Cmd": settings.command,
        "Image": record.image_name,
        "Volumes": null,
        "WorkingDir": settings.workdir,
        "Entrypoint": if settings.entrypoint.is_empty() { Value::Null } else { json!(settings.entrypoint) },
        "OnBuild": null,
        "Labels": if settings.labels.is_empty() { Value::Null } else { json!(settings.labels) },
        "Annotations": annotations(settings),
        "StopSignal": Signal::new(settings.stop_signal).map_or_else(String::new, |signal| signal.to_string()),
        "HealthcheckOnFailureAction": "none",
        "HealthLogDestination": "local",
        "HealthcheckMaxLogCount": 5,
        "HealthcheckMaxLogSize": 500,
        "CreateCommand": settings.create_command,
        "Umask": "0022",
        "Timeout": 0,
        "StopTimeout": settings.stop_timeout,
        "Passwd": true,
        "sdNotifyMode": "container",
    });
    let all = ports(&settings.ports, &settings.expose);
    if let Some(all) = all.as_object().filter(|all| !all.is_empty()) {
        config["ExposedPorts"] = all.keys().map(|port| (port.clone(), json!({}))).collect::<Map<_, _>>().into();
    }
    config
}

fn annotations(settings: &Settings) -> Value {
    let mut all = settings.annotations.clone();
    all.insert("org.opencontainers.image.stopSignal".to_owned(), settings.stop_signal.to_string());
    json!(all)
}

fn host_config(record: &ContainerRecord, log: std::path::PathBuf) -> Value {
    let settings = &record.settings;
    let network = &settings.network;
    let binds: Vec<String> = settings.mounts.iter().map(bind_text).collect();
    let dns = match &network.dns {
        Dns::Servers(servers) => servers.iter().map(ToString::to_string).collect(),
        Dns::Host | Dns::Image => Vec::new(),
    };
    let hard = |resource| rustix::process::getrlimit(resource).maximum;
    let ulimit = |name: &str, resource, wish: u64| {
        let limit = hard(resource).unwrap_or(u64::MAX).min(wish);
        json!({ "Name": name, "Soft": limit, "Hard": limit })
    };
    let mut shown = json!({
        "Binds": binds,
        "CgroupManager": "disabled",
        "CgroupMode": "private",
        "ContainerIDFile": settings.id_file.as_deref().unwrap_or(std::path::Path::new("")),
        "LogConfig": { "Type": "k8s-file", "Config": null, "Path": log, "Tag": "", "Size": "-1B" },
        "NetworkMode": mode_text(&network.mode),
        "PortBindings": ports(&settings.ports, &[]),
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "AutoRemove": settings.remove,
        "AutoRemoveImage": false,
        "Annotations": annotations(settings),
        "VolumeDriver": "",
        "VolumesFrom": null,
        "CapAdd": settings.security.cap_add,
        "CapDrop": settings.security.cap_drop,
        "Dns": dns,
        "DnsOptions": network.dns_options,
        "DnsSearch": network.dns_search.iter().flatten().map(ToString::to_string).collect::<Vec<_>>(),
        "ExtraHosts": network.add_hosts.iter().map(host_text).collect::<Vec<_>>(),
        "HostsFile": "",
        "GroupAdd": [],
        "IpcMode": "shareable",
        "Cgroup": "",
        "Cgroups": "disabled",
        "Links": null,
        "OomScoreAdj": 0,
        "PidMode": "private",
        "Privileged": settings.security.privileged,
        "PublishAllPorts": network.publish_all,
        "ReadonlyRootfs": settings.security.read_only,
        "SecurityOpt": [],
        "Tmpfs": settings.tmpfs.iter().cloned().collect::<BTreeMap<_, _>>(),
        "UTSMode": "private",
        "UsernsMode": "",
        "ShmSize": 65_536_000,
        "Runtime": "oci",
        "ConsoleSize": [0, 0],
        "Isolation": "",
    });
    let zeros = [
        "CpuShares",
        "Memory",
        "NanoCpus",
        "CgroupParent",
        "BlkioWeight",
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
        "CpuPeriod",
        "CpuQuota",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
        "CpusetCpus",
        "CpusetMems",
        "Devices",
        "DiskQuota",
        "KernelMemory",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "OomKillDisable",
        "PidsLimit",
        "Ulimits",
        "CpuCount",
        "CpuPercent",
        "IOMaximumIOps",
        "IOMaximumBandwidth",
        "CgroupConf",
    ];
    for name in zeros {
        shown[name] = match name {
            "CgroupParent" | "CpusetCpus" | "CpusetMems" => json!(""),
            "OomKillDisable" => json!(false),
            "Devices" => json!([]),
            "BlkioWeightDevice"
            | "BlkioDeviceReadBps"
            | "BlkioDeviceWriteBps"
            | "BlkioDeviceReadIOps"
            | "BlkioDeviceWriteIOps"
            | "MemorySwappiness"
            | "CgroupConf" => Value::Null,
            "Ulimits" => json!([
                ulimit("RLIMIT_NOFILE", rustix::process::Resource::Nofile, 1 << 20),
                ulimit("RLIMIT_NPROC", rustix::process::Resource::Nproc, 1 << 22),
            ]),
            _ => json!(0),
        };
    }
    shown
}

fn bind_text(mount: &Mount) -> String {
    let source = mount.volume.clone().unwrap_or_else(|| mount.source.display().to_string());
    let mut options = vec![if mount.read_only() { "ro" } else { "rw" }, "rprivate"];
    options
        .extend(mount.options.iter().map(String::as_str).filter(|option| !["ro", "rw", "rprivate"].contains(option)));
    format!("{source}:{}:{}", mount.target, options.join(","))
}

fn host_text(entry: &HostEntry) -> String {
    let names: Vec<&str> = entry.names.iter().map(|name| name.as_str()).collect();
    format!("{}:{}", names.join(";"), entry.ip.map_or_else(|| "host-gateway".to_owned(), |ip| ip.to_string()))
}

fn mode_text(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Networks(_) => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Path(path) => format!("ns:{}", path.display()),
    }
}

/// An image as `podman image inspect` shows it.
pub fn inspect_image(image: &Image) -> Value {
    let raw: Value = serde_json::from_str(&image.raw_config).unwrap_or_default();
    let says = |key: &str| raw.get(key).cloned().unwrap_or_default();
    let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let config = says("config");
    let labels = config.get("Labels").cloned().unwrap_or_default();
    let layers: Vec<String> = image.layers.iter().map(|layer| layer.display().to_string()).collect();
    let mut data = Map::new();
    if let Some(lower) = layers.get(1..).filter(|lower| !lower.is_empty()) {
        data.insert("LowerDir".to_owned(), lower.join(":").into());
    }
    data.insert("UpperDir".to_owned(), layers.first().cloned().unwrap_or_default().into());
    json!({
        "Id": image.id.to_string(),
        "Digest": image.digest.to_string(),
        "RepoTags": image.repo_tags(),
        "RepoDigests": image.repo_digests(),
        "Parent": "",
        "Comment": last_comment(&raw),
        "Created": raw.get("created").cloned().unwrap_or_else(|| NEVER.into()),
        "Config": config,
        "Version": text("docker_version"),
        "Author": text("author"),
        "Architecture": text("architecture"),
        "Os": text("os"),
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": { "Name": "overlay", "Data": data },
        "RootFS": { "Type": "layers", "Layers": raw.pointer("/rootfs/diff_ids").cloned().unwrap_or_default() },
        "Labels": labels,
        "Annotations": {},
        "ManifestType": image.manifest_type,
        "User": raw.pointer("/config/User").cloned().unwrap_or_else(|| "".into()),
        "History": says("history"),
        "NamesHistory": image.names,
    })
}

fn last_comment(raw: &Value) -> Value {
    let last = raw.get("history").and_then(Value::as_array).and_then(|history| history.last());
    last.and_then(|step| step.get("comment")).cloned().unwrap_or_else(|| "".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_shown_as_podman_shows_them() {
        let mapping = |text: &str| {
            let spec: model::PortSpec = text.parse().unwrap();
            spec.at(spec.host_port.unwrap())
        };
        let shown = ports(
            &[mapping("8080-8081:80-81"), mapping("[::1]:53:53/udp")],
            &[(99, 1, Protocol::Tcp), (80, 1, Protocol::Tcp)],
        );
        let expected = json!({
            "53/udp": [{ "HostIp": "::1", "HostPort": "53" }],
            "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }],
            "81/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8081" }],
            "99/tcp": null,
        });
        assert_eq!(shown.to_string(), expected.to_string());
    }
}
