//! Objects as `inspect` shows them: Podman's fields in Podman's order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use images::Image;
use jiff::Timestamp;
use linux::Signal;
use linux::userns::IdRange;
use model::{Addr, ContainerId, DnsName, MacAddr, PortMapping, Protocol};
use serde_json::{Map, Value, json};

use crate::config::{Device, Dns, Groups, HealthCheck, HostEntry, Limits, LogDriver, NetworkMode, RateKind, Space};
use crate::endpoints::{AttachedEndpoint, Identity};
use crate::engine::{Engine, Places};
use crate::error::Result;
use crate::list::DEFAULT_NETWORK;
use crate::record::{ContainerRecord, Mount, Settings, State};
use crate::spec;
use crate::users::Users;

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
        let images = self.images()?;
        let image = record.image.and_then(|image| images.by_id(&image).ok());
        let layers = image.map(|image| image.layers).unwrap_or_default();
        let capabilities = spec::capabilities(&settings.security);
        let argv = settings.argv();
        let lower: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
        Ok(json!({
            "Id": id.to_string(),
            "Created": record.created.to_string(),
            "Path": argv.first(),
            "Args": argv.get(1..).unwrap_or_default(),
            "State": state_with_health(&record, &places),
            "Image": record.image.map_or_else(String::new, |image| image.to_string()),
            "ImageDigest": record.image_digest,
            "ImageName": record.image_name,
            "Rootfs": settings.rootfs.as_ref().map_or_else(Default::default, |rootfs| rootfs.path.clone()),
            "Pod": record.pod().map_or_else(String::new, |pod| pod.to_string()),
            "ResolvConfPath": places.resolv_conf(),
            "HostnamePath": places.hostname(),
            "HostsPath": places.hosts(),
            "StaticDir": places.static_data(),
            "OCIConfigPath": places.static_data().join("config.json"),
            "OCIRuntime": self.runtime_of(&record).map(|runtime| runtime.name).unwrap_or_default(),
            "ConmonPidFile": "",
            "PidFile": record.settings.pid_file.clone().unwrap_or_else(|| places.pid_file()),
            "Name": record.name.as_str(),
            "RestartCount": record.restarts,
            "Driver": "overlay",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "EffectiveCaps": capabilities,
            "BoundingCaps": capabilities,
            "ExecIDs": crate::exec::sessions(&places),
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
            "Dependencies": dependencies(&record),
            "NetworkSettings": self.network_settings(&record)?,
            "Namespace": "",
            "IsInfra": record.is_infra(),
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

/// What is shown of a container's network.
impl Engine {
    /// Of a container that uses another's network, that one's.
    fn network_settings(&self, record: &ContainerRecord) -> Result<Value> {
        if let NetworkMode::Container(owner) = &record.settings.network.mode {
            let mut settings = self.network_settings(&self.record(&owner.parse()?)?)?;
            if let Some(ports) = settings.get_mut("Ports").and_then(Value::as_object_mut) {
                // What the owner merely exposes is its own affair.
                ports.retain(|_, bindings| !bindings.is_null());
            }
            return Ok(settings);
        }
        let endpoints =
            if record.state.is_running() { self.networking().endpoints_of(&record.id)? } else { Vec::new() };
        let networks = self.network_entries(record, &endpoints)?;
        let top = match &record.settings.network.mode {
            NetworkMode::Path(path) => Shown::of_namespace(path),
            // Filled for the default network alone.
            _ => match &endpoints[..] {
                [one] if one.network.as_str() == DEFAULT_NETWORK => Shown::of(one),
                _ => Shown::default(),
            },
        };
        let exposed = match &record.settings.network.mode {
            NetworkMode::Host => &[][..],
            _ => &record.settings.expose,
        };
        let mut settings = top.fields();
        for (key, value) in [
            ("Bridge", json!("")),
            ("SandboxID", json!("")),
            ("HairpinMode", json!(false)),
            ("LinkLocalIPv6Address", json!("")),
            ("LinkLocalIPv6PrefixLen", json!(0)),
            ("Ports", ports(&record.settings.ports, exposed)),
            ("SandboxKey", json!(sandbox_key(record))),
        ] {
            settings.insert(key.to_owned(), value);
        }
        settings.insert("Networks".to_owned(), Value::Object(networks));
        Ok(Value::Object(settings))
    }

    /// One entry per network that it is on, or will be.
    fn network_entries(&self, record: &ContainerRecord, endpoints: &[AttachedEndpoint]) -> Result<Map<String, Value>> {
        let mut shown = Map::new();
        match &record.settings.network.mode {
            NetworkMode::Host => drop(shown.insert("host".to_owned(), Shown::default().entry("host"))),
            NetworkMode::None => drop(shown.insert("none".to_owned(), Shown::default().entry("none"))),
            NetworkMode::Networks(attachments) if endpoints.is_empty() => {
                for attachment in attachments {
                    let wish = attachment.network.as_deref().unwrap_or(DEFAULT_NETWORK);
                    // One that was removed by force in between is shown as it was typed.
                    let known = self.networking().get(wish).ok();
                    let (name, id) = known.map_or_else(
                        || (wish.to_owned(), wish.to_owned()),
                        |network| (network.name.to_string(), network.id.to_string()),
                    );
                    let entry = Shown::default().entry(&id);
                    shown.insert(name, with_wish(entry, record, &attachment.aliases, attachment.gw_priority));
                }
            }
            _ => {}
        }
        // Podman shows no network of who is on none by name.
        let named = matches!(record.settings.network.mode, NetworkMode::Networks(_));
        for attached in endpoints.iter().filter(|_| named) {
            let entry = Shown::of(attached).entry(&attached.network_id.to_string());
            let entry = with_wish(entry, record, &attached.aliases, attached.gw_priority);
            shown.insert(attached.network.to_string(), entry);
        }
        Ok(shown)
    }
}

/// The file of its network namespace. Podman's `none` has only the process's.
fn sandbox_key(record: &ContainerRecord) -> String {
    match (&record.settings.network.mode, &record.init, &record.netns) {
        (NetworkMode::None, Some(init), _) => format!("/proc/{}/ns/net", init.pid),
        (NetworkMode::None, None, _) | (_, _, None) => String::new(),
        (_, _, Some(path)) => path.display().to_string(),
    }
}

/// With the names it has there, in Podman's order, and its priority.
fn with_wish(mut entry: Value, record: &ContainerRecord, aliases: &[DnsName], gw_priority: i32) -> Value {
    let mut names: Vec<String> = aliases.iter().map(ToString::to_string).collect();
    names.push(record.id.short());
    if record.settings.hostname_given {
        names.push(record.settings.hostname.clone());
    }
    entry["Aliases"] = json!(names);
    entry["DNSNames"] = json!(Identity::of(record).names_with(aliases));
    entry["GwPriority"] = json!(gw_priority);
    entry
}

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

/// With what its health check has found, when it has one.
fn state_with_health(record: &ContainerRecord, places: &Places) -> Value {
    let mut state = state(record);
    if record.settings.care.health.is_some() {
        state["Health"] = json!(crate::health::remembered(places));
    }
    state
}

pub(crate) fn state(record: &ContainerRecord) -> Value {
    let pid = |process: Option<linux::ProcessRef>| process.map_or(0, |process| process.pid);
    json!({
        "OciVersion": "1.0.2",
        "Status": record.shown_state().to_string(),
        "Running": record.shown_state() == State::Running,
        "Paused": record.paused,
        "Restarting": false,
        "OOMKilled": record.oom_killed,
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

pub(crate) fn mount(mount: &Mount) -> Value {
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

fn dependencies(record: &ContainerRecord) -> Vec<String> {
    let mut all = crate::lookup::needs(record);
    if let NetworkMode::Container(id) = &record.settings.network.mode {
        all.push(id.clone());
    }
    all.sort();
    all.dedup();
    all
}

/// Addresses of one endpoint, as the fields that Podman has for them.
#[derive(Default)]
struct Shown {
    gateway: String,
    ip: String,
    prefix: u8,
    /// More IPv4 addresses.
    others: Vec<Addr>,
    gateway6: String,
    ip6: String,
    prefix6: u8,
    /// More IPv6 addresses.
    others6: Vec<Addr>,
    mac: String,
    /// Of more links.
    other_macs: Vec<String>,
}

impl Shown {
    fn of(attached: &AttachedEndpoint) -> Self {
        let gateway = |v4: bool| {
            let gateways = &attached.network_gateways;
            gateways.iter().find(|ip| ip.is_ipv4() == v4).map_or_else(String::new, IpAddr::to_string)
        };
        let mut shown = Self { gateway: gateway(true), gateway6: gateway(false), ..Self::default() };
        shown.add(&attached.endpoint.addrs, Some(attached.endpoint.mac));
        shown
    }

    /// What is in somebody else's namespace; nothing when it cannot be looked into.
    fn of_namespace(path: &Path) -> Self {
        let links = linux::NetNs::open(path).and_then(host::links_in).unwrap_or_default();
        let gateway = |v4: bool| {
            links
                .iter()
                .flat_map(|link| &link.gateways)
                .find(|ip| ip.is_ipv4() == v4)
                .map_or_else(String::new, IpAddr::to_string)
        };
        let mut shown = Self { gateway: gateway(true), gateway6: gateway(false), ..Self::default() };
        for link in links.iter().filter(|link| !link.addrs.is_empty()) {
            shown.add(&link.addrs, link.mac);
        }
        shown
    }

    /// The first of each kind has fields of its own.
    fn add(&mut self, addrs: &[Addr], mac: Option<MacAddr>) {
        for addr in addrs {
            let (ip, prefix, others) = match addr.ip.is_ipv4() {
                true => (&mut self.ip, &mut self.prefix, &mut self.others),
                false => (&mut self.ip6, &mut self.prefix6, &mut self.others6),
            };
            if ip.is_empty() {
                *ip = addr.ip.to_string();
                *prefix = addr.len();
            } else {
                others.push(*addr);
            }
        }
        match mac.map(|mac| mac.to_string()) {
            Some(mac) if self.mac.is_empty() => self.mac = mac,
            more => self.other_macs.extend(more),
        }
    }

    fn fields(&self) -> Map<String, Value> {
        let secondary = |addrs: &[Addr]| {
            let shown = |addr: &Addr| json!({ "Addr": addr.ip.to_string(), "PrefixLength": addr.len() });
            json!(addrs.iter().map(shown).collect::<Vec<_>>())
        };
        let all = [
            ("EndpointID", json!("")),
            ("Gateway", json!(self.gateway)),
            ("IPAddress", json!(self.ip)),
            ("IPPrefixLen", json!(self.prefix)),
            ("SecondaryIPAddresses", secondary(&self.others)),
            ("IPv6Gateway", json!(self.gateway6)),
            ("GlobalIPv6Address", json!(self.ip6)),
            ("GlobalIPv6PrefixLen", json!(self.prefix6)),
            ("SecondaryIPv6Addresses", secondary(&self.others6)),
            ("MacAddress", json!(self.mac)),
            ("AdditionalMACAddresses", json!(self.other_macs)),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
    }

    fn entry(&self, network: &str) -> Value {
        let mut fields = self.fields();
        fields.insert("NetworkID".to_owned(), network.into());
        for nothing in ["DriverOpts", "IPAMConfig", "Links", "Aliases", "DNSNames"] {
            fields.insert(nothing.to_owned(), Value::Null);
        }
        Value::Object(fields)
    }
}

/// `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`; exposed only: null.
pub(crate) fn ports(published: &[PortMapping], exposed: &[(u16, u16, Protocol)]) -> Value {
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

pub(crate) fn config(record: &ContainerRecord) -> Value {
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
        "HealthcheckOnFailureAction": settings.care.health.as_ref().map_or("none", |check| check.on_failure.word()),
        "HealthLogDestination": "local",
        "HealthcheckMaxLogCount": 5,
        "HealthcheckMaxLogSize": 500,
        "CreateCommand": settings.create_command,
        "Umask": format!("{:04o}", settings.inside.umask.unwrap_or(0o022)),
        "Timeout": settings.care.timeout,
        "StopTimeout": settings.stop_timeout,
        "Passwd": true,
        "sdNotifyMode": "container",
    });
    if let Some(check) = &settings.care.health {
        config["Healthcheck"] = health_check(check);
    }
    if let Some(zone) = &settings.inside.timezone {
        config["Timezone"] = json!(zone);
    }
    let all = ports(&settings.ports, &settings.expose);
    if let Some(all) = all.as_object().filter(|all| !all.is_empty()) {
        config["ExposedPorts"] = all.keys().map(|port| (port.clone(), json!({}))).collect::<Map<_, _>>().into();
    }
    config
}

/// As images have it: times in nanoseconds.
fn health_check(check: &HealthCheck) -> Value {
    let kind = if check.shell { "CMD-SHELL" } else { "CMD" };
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "Test": std::iter::once(kind).chain(check.command.iter().map(String::as_str)).collect::<Vec<_>>(),
        "StartPeriod": nanoseconds(check.start_period),
        "Interval": check.interval.map_or(0, nanoseconds),
        "Timeout": nanoseconds(check.timeout),
        "Retries": check.retries,
    })
}

pub(crate) fn users_text(users: Option<&Users>) -> String {
    match users {
        None => String::new(),
        Some(Users::Of(id)) => format!("container:{id}"),
        Some(Users::Own { .. } | Users::At(_)) => "private".to_owned(),
    }
}

/// Podman shows none of who has no user namespace of its own making.
fn id_mappings(users: Option<&Users>) -> Option<Value> {
    let Some(Users::Own { maps, .. }) = users else { return None };
    let shown = |map: &[IdRange]| -> Value {
        map.iter().map(|r| json!(format!("{}:{}:{}", r.inside, r.outside, r.count))).collect()
    };
    Some(json!({ "UidMap": shown(&maps.uids), "GidMap": shown(&maps.gids) }))
}

fn annotations(settings: &Settings) -> Value {
    let mut all = settings.annotations.clone();
    all.insert("org.opencontainers.image.stopSignal".to_owned(), settings.stop_signal.to_string());
    json!(all)
}

pub(crate) fn host_config(record: &ContainerRecord, log: std::path::PathBuf) -> Value {
    let settings = &record.settings;
    let network = &settings.network;
    let binds: Vec<String> = settings.mounts.iter().map(bind_text).collect();
    let dns = match &network.dns {
        Dns::Servers(servers) => servers.iter().map(ToString::to_string).collect(),
        Dns::Host | Dns::Image => Vec::new(),
    };
    let limits = &settings.limits;
    let inside = &settings.inside;
    let care = &settings.care;
    let log = if care.log.driver == LogDriver::None {
        std::path::PathBuf::new()
    } else {
        care.log.path.clone().unwrap_or(log)
    };
    let size = care.log.max_size.map_or_else(|| "-1B".to_owned(), |size| format!("{size}B"));
    let mut shown = json!({
        "Binds": binds,
        "CgroupManager": "cgroupfs",
        "CgroupMode": inside.cgroup.text(),
        "ContainerIDFile": settings.id_file.as_deref().unwrap_or(Path::new("")),
        "LogConfig": {
            "Type": care.log.driver.word(), "Config": null, "Path": log, "Tag": care.log.tag, "Size": size,
        },
        "NetworkMode": mode_text(&network.mode),
        "PortBindings": ports(&settings.ports, &[]),
        "RestartPolicy": { "Name": care.restart.word(), "MaximumRetryCount": care.restart.retries() },
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
        "GroupAdd": inside.groups,
        "IpcMode": if inside.ipc == Space::Private { "shareable".to_owned() } else { inside.ipc.text() },
        "Cgroup": "",
        "Cgroups": if limits.groups == Groups::Disabled { "disabled" } else { "default" },
        "Links": null,
        "OomScoreAdj": inside.oom_score_adj.unwrap_or(0),
        "PidMode": inside.pid.text(),
        "Privileged": settings.security.privileged,
        "PublishAllPorts": network.publish_all,
        "ReadonlyRootfs": settings.security.read_only,
        "SecurityOpt": settings.security.options,
        "Tmpfs": settings.tmpfs.iter().map(|(path, options)| (path, spec::tmpfs_text(options))).collect::<BTreeMap<_, _>>(),
        "UTSMode": inside.uts.text(),
        "UsernsMode": users_text(settings.users.as_ref()),
        "ShmSize": inside.shm_size.unwrap_or(spec::SHM_SIZE),
        "Runtime": "oci",
        "ConsoleSize": [0, 0],
        "Isolation": "",
    });
    if let Some(maps) = id_mappings(settings.users.as_ref()) {
        shown["IDMappings"] = maps;
    }
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
            "CgroupParent" => json!(limits.parent.as_deref().unwrap_or_default()),
            "CpusetCpus" => json!(limits.cpuset_cpus.as_deref().unwrap_or_default()),
            "CpusetMems" => json!(limits.cpuset_mems.as_deref().unwrap_or_default()),
            "OomKillDisable" => json!(limits.oom_kill_disable),
            "Devices" => inside.devices.iter().map(device).collect(),
            "Memory" => json!(limits.memory.unwrap_or(0)),
            "MemoryReservation" => json!(limits.memory_reservation.unwrap_or(0)),
            // Podman's own default is shown too.
            "MemorySwap" => json!(limits.memory_swap.unwrap_or(limits.memory.unwrap_or(0).saturating_mul(2) as i64)),
            "NanoCpus" => json!(limits.nano_cpus.unwrap_or(0)),
            "CpuShares" => json!(limits.cpu_shares.unwrap_or(0)),
            "CpuPeriod" => json!(limits.cpu_time().map_or(0, |(_, period)| period)),
            "CpuQuota" => json!(limits.cpu_time().map_or(0, |(quota, _)| quota)),
            "PidsLimit" => json!(limits.most_pids().unwrap_or(0)),
            "BlkioWeight" => json!(limits.blkio_weight.unwrap_or(0)),
            "BlkioWeightDevice" if !limits.blkio_weight_device.is_empty() => {
                let weights = limits.blkio_weight_device.iter();
                weights.map(|(path, weight)| json!({ "Path": path, "Weight": weight })).collect()
            }
            "BlkioDeviceReadBps" => rates(limits, RateKind::ReadBytes),
            "BlkioDeviceWriteBps" => rates(limits, RateKind::WriteBytes),
            "BlkioDeviceReadIOps" => rates(limits, RateKind::Reads),
            "BlkioDeviceWriteIOps" => rates(limits, RateKind::Writes),
            "CpuRealtimePeriod" => json!(limits.cpu_rt_period.unwrap_or(0)),
            "CpuRealtimeRuntime" => json!(limits.cpu_rt_runtime.unwrap_or(0)),
            "MemorySwappiness" => limits.memory_swappiness.map_or(Value::Null, |number| json!(number)),
            "CgroupConf" if !limits.conf.is_empty() => json!(limits.conf),
            "BlkioWeightDevice" | "CgroupConf" => Value::Null,
            "Ulimits" => spec::rlimits(&inside.ulimits)
                .into_iter()
                .map(|limit| json!({ "Name": limit["type"], "Soft": limit["soft"], "Hard": limit["hard"] }))
                .collect(),
            _ => json!(0),
        };
    }
    shown
}

fn rates(limits: &Limits, kind: RateKind) -> Value {
    let all = limits.rates.iter().filter(|rate| rate.kind == kind);
    let shown: Vec<Value> = all.map(|rate| json!({ "Path": rate.device, "Rate": rate.most })).collect();
    if shown.is_empty() { Value::Null } else { json!(shown) }
}

pub(crate) fn device(device: &Device) -> Value {
    json!({ "PathOnHost": device.host, "PathInContainer": device.target, "CgroupPermissions": device.access })
}

fn bind_text(mount: &Mount) -> String {
    let source = mount.volume.clone().unwrap_or_else(|| mount.source.display().to_string());
    let mut options = vec![if mount.read_only() { "ro" } else { "rw" }, "rprivate"];
    options
        .extend(mount.options.iter().map(String::as_str).filter(|option| !["ro", "rw", "rprivate"].contains(option)));
    format!("{source}:{}:{}", mount.target, options.join(","))
}

pub(crate) fn host_text(entry: &HostEntry) -> String {
    let names: Vec<&str> = entry.names.iter().map(|name| name.as_str()).collect();
    format!("{}:{}", names.join(";"), entry.ip.map_or_else(|| "host-gateway".to_owned(), |ip| ip.to_string()))
}

fn mode_text(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Path(path) => format!("ns:{}", path.display()),
        mode => mode.word().to_owned(),
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
        "Comment": comment(&raw),
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
        "Annotations": image.annotations,
        "ManifestType": image.manifest_type,
        "User": raw.pointer("/config/User").cloned().unwrap_or_else(|| "".into()),
        "History": says("history"),
        "NamesHistory": image.history,
    })
}

/// Docker's configurations have one; of the others it is that of their first step.
fn comment(raw: &Value) -> Value {
    let first = || raw.pointer("/history/0/comment");
    raw.get("comment").or_else(first).cloned().unwrap_or_else(|| "".into())
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
