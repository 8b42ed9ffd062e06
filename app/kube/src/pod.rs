//! `Pod` and `Deployment`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::config::{Dns, HostEntry, NetworkConfig, NetworkMode, Restart, Space, UsersWish};
use engine::pods::{Common, ExitPolicy, PodConfig, Share};
use model::DnsName;

use crate::container::{Context, Setting};
use crate::node::Node;
use crate::volume::{self, Volumes};
use crate::{Around, ConfigMaps, Play, Refused, Result};

/// A pod of a document, not read yet but for its names.
pub(crate) struct Wanted {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    spec: Node,
    remarks: Vec<String>,
}

/// What only a cluster can honour, and what a cluster has written back.
const OF_A_CLUSTER: &[&str] = &[
    "affinity",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "imagePullSecrets",
    "nodeName",
    "nodeSelector",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "schedulerName",
    "serviceAccount",
    "serviceAccountName",
    "tolerations",
    "topologySpreadConstraints",
];

impl Wanted {
    pub(crate) fn pod(mut node: Node) -> Result<Self> {
        check_version(&mut node, "v1")?;
        let meta = node.needed_node("metadata")?;
        let spec = node.needed_node("spec")?;
        node.pass_over(&["status"]);
        node.finish()?;
        Self::of(meta, spec, None)
    }

    /// A `Deployment`, or a `DaemonSet`, of which every machine has one.
    pub(crate) fn templated(mut node: Node, kind: &str) -> Result<Self> {
        check_version(&mut node, "apps/v1")?;
        let name = node.needed_node("metadata")?.needed_text("name")?;
        let mut spec = node.needed_node("spec")?;
        node.pass_over(&["status"]);
        node.finish()?;
        let replicas: u32 = spec.number("replicas")?.unwrap_or(1);
        let mut template = spec.needed_node("template")?;
        spec.pass_over(&["selector", "minReadySeconds", "revisionHistoryLimit"]);
        spec.pass_over(if kind == "DaemonSet" {
            &["updateStrategy"]
        } else {
            &["strategy", "progressDeadlineSeconds", "paused"]
        });
        spec.finish()?;
        let meta = match template.node("metadata")? {
            Some(meta) => meta,
            None => Node::of(template.at("metadata"), serde_json::json!({}))?,
        };
        let pod_spec = template.needed_node("spec")?;
        template.finish()?;
        let mut wanted = Self::of(meta, pod_spec, Some(format!("{name}-pod")))?;
        match replicas {
            0 => return Err(Refused(format!("{}: podwire makes one replica, not none", spec_path("replicas")))),
            1 => {}
            _ => wanted
                .remarks
                .push("Limiting replica count to 1, more than one replica is not supported by podwire".to_owned()),
        }
        Ok(wanted)
    }

    fn of(mut meta: Node, spec: Node, name: Option<String>) -> Result<Self> {
        let own = meta.text("name")?;
        let name = name.or(own).ok_or_else(|| Refused(format!("{} is missing", meta.at("name"))))?;
        let (labels, annotations) = (meta.text_map("labels")?, meta.text_map("annotations")?);
        meta.pass_over(&[
            "creationTimestamp",
            "finalizers",
            "generateName",
            "generation",
            "managedFields",
            "namespace",
            "ownerReferences",
            "resourceVersion",
            "selfLink",
            "uid",
        ]);
        meta.finish()?;
        Ok(Self { name, labels, annotations, spec, remarks: Vec::new() })
    }

    /// Its name, and the volumes that it claims.
    pub(crate) fn names(mut self) -> Result<(String, Vec<String>)> {
        Ok((self.name, volume::claims(&mut self.spec)?))
    }

    pub(crate) fn play(mut self, maps: &ConfigMaps, around: &Around) -> Result<Play> {
        let spec = &mut self.spec;
        let is_host = spec.flag("hostNetwork")?;
        let volumes = Volumes::read(spec, &self.name, maps)?;
        let containers = spec.nodes("containers")?;
        if containers.is_empty() {
            return Err(Refused(format!("{} has no containers", spec.at("containers"))));
        }
        let mut network = network(spec, is_host, around)?;
        let setting = Setting {
            pod: &self.name,
            labels: &self.labels,
            annotations: &self.annotations,
            maps,
            volumes: &volumes,
            around,
            context: context(spec)?,
            ipc: if spec.flag("hostIPC")? { Space::Host } else { Space::Private },
            stop_timeout: spec.number("terminationGracePeriodSeconds")?,
            restart: restart(spec)?,
        };
        let mut configs = Vec::new();
        for node in containers {
            let (config, ports) = setting.container(node, is_host)?;
            if configs.iter().any(|other: &engine::config::ContainerConfig| other.name == config.name) {
                let name = config.name.map_or_else(String::new, |name| name.to_string());
                return Err(Refused(format!("two containers of the pod are called {name}")));
            }
            configs.push(config);
            network.publish.extend(ports);
        }
        for port in &around.publish {
            let same = |other: &engine::config::PortText| {
                other.spec.container_port == port.spec.container_port && other.spec.protocol == port.spec.protocol
            };
            network.publish.retain(|other| !same(other));
        }
        network.publish.extend(around.publish.iter().cloned());
        let (mut share, pid) = share(spec)?;
        share.retain(|share| *share != Share::Ipc || setting.ipc == Space::Private);
        let common = Common { sysctls: setting.context.sysctls.clone(), pid, ..Common::default() };
        let users = match spec.flag_if_said("hostUsers")? {
            None => around.users.clone(),
            Some(true) => UsersWish::Host,
            Some(false) => UsersWish::Auto { size: None, uids: Vec::new(), gids: Vec::new() },
        };
        let pod = PodConfig {
            common,
            users,
            hostname: spec.text("hostname")?.map(|name| name.parse()).transpose().map_err(refused)?,
            labels: self.labels.clone(),
            share,
            network,
            exit_policy: ExitPolicy::Stop,
            volumes: volumes.of_pod(),
            create_command: around.create_command.clone(),
            ..PodConfig::named(self.name.parse().map_err(refused)?)
        };
        refuse_the_rest(spec)?;
        spec.pass_over(OF_A_CLUSTER);
        self.spec.finish()?;
        Ok(Play { pod, containers: configs, paths: volumes.paths(), claims: volumes.claims(), remarks: self.remarks })
    }
}

pub(crate) fn refused(invalid: impl std::fmt::Display) -> Refused {
    Refused(invalid.to_string())
}

fn spec_path(key: &str) -> String {
    format!("spec.{key}")
}

fn check_version(node: &mut Node, expected: &str) -> Result<()> {
    match node.needed_text("apiVersion")? {
        version if version == expected => Ok(()),
        version => Err(Refused(format!("apiVersion {version} is not known for this kind: {expected} is"))),
    }
}

/// And whose process numbers the containers have.
fn share(spec: &mut Node) -> Result<(Vec<Share>, Space)> {
    let mut share = Share::DEFAULT.to_vec();
    let of_host = spec.flag("hostPID")?;
    if spec.flag("shareProcessNamespace")? {
        if of_host {
            return Err(Refused("spec.shareProcessNamespace and spec.hostPID cannot be used together".to_owned()));
        }
        share.push(Share::Pid);
    }
    if of_host {
        share.push(Share::Pid);
        return Ok((share, Space::Host));
    }
    Ok((share, Space::Private))
}

/// `restartPolicy`; Kubernetes' default is to begin anew, and so it is Podman's.
fn restart(spec: &mut Node) -> Result<Restart> {
    match spec.text("restartPolicy")?.as_deref() {
        None | Some("Always") => Ok(Restart::Always),
        Some("OnFailure") => Ok(Restart::OnFailure(0)),
        Some("Never") => Ok(Restart::No),
        Some(other) => Err(Refused(format!("restartPolicy {other} is not known: Always, OnFailure and Never are"))),
    }
}

/// The pod's `securityContext`: what containers have that say nothing else.
fn context(spec: &mut Node) -> Result<Context> {
    let Some(mut node) = spec.node("securityContext")? else { return Ok(Context::default()) };
    let mut context = Context {
        user: crate::container::user(&mut node)?,
        seccomp: crate::container::seccomp(&mut node)?,
        ..Context::default()
    };
    for mut sysctl in node.nodes("sysctls")? {
        let (name, value) = (sysctl.needed_text("name")?, sysctl.needed_text("value")?);
        sysctl.finish()?;
        context.sysctls.insert(name, value);
    }
    context.groups = node.numbers("supplementalGroups")?.iter().map(u32::to_string).collect();
    for key in ["fsGroup", "seLinuxOptions", "windowsOptions", "appArmorProfile"] {
        node.refuse(key, "is not supported by podwire yet")?;
    }
    node.pass_over(&["runAsNonRoot", "fsGroupChangePolicy", "supplementalGroupsPolicy"]);
    node.finish()?;
    Ok(context)
}

fn network(spec: &mut Node, is_host: bool, around: &Around) -> Result<NetworkConfig> {
    let base = NetworkConfig { publish: Vec::new(), ..around.network.clone() };
    let mut network = if is_host { NetworkConfig { mode: NetworkMode::Host, ..base } } else { base };
    for mut alias in spec.nodes("hostAliases")? {
        let ip = ip(&alias.at("ip"), &alias.needed_text("ip")?)?;
        let names = alias.texts("hostnames")?.unwrap_or_default();
        let names = names.iter().map(|name| name.parse()).collect::<Result<Vec<DnsName>, _>>().map_err(refused)?;
        alias.finish()?;
        network.add_hosts.push(HostEntry { names, ip: Some(ip) });
    }
    let policy = spec.text("dnsPolicy")?;
    let config = spec.node("dnsConfig")?;
    match (policy.as_deref().unwrap_or("ClusterFirst"), &config) {
        ("ClusterFirst" | "ClusterFirstWithHostNet" | "Default", _) | ("None", Some(_)) => {}
        ("None", None) => return Err(Refused("dnsPolicy None needs a dnsConfig with nameservers".to_owned())),
        (other, _) => {
            let known = "ClusterFirst, ClusterFirstWithHostNet, Default and None";
            return Err(Refused(format!("dnsPolicy {other} is not known: {known} are")));
        }
    }
    if let Some(config) = config {
        dns(&mut network, config)?;
    }
    Ok(network)
}

fn dns(network: &mut NetworkConfig, mut config: Node) -> Result<()> {
    let place = config.at("nameservers");
    let servers = config.texts("nameservers")?.unwrap_or_default();
    if !servers.is_empty() {
        network.dns = Dns::Servers(servers.iter().map(|text| ip(&place, text)).collect::<Result<_>>()?);
    }
    if let Some(searches) = config.texts("searches")? {
        network.dns_search = Some(searches.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(refused)?);
    }
    for mut option in config.nodes("options")? {
        let name = option.needed_text("name")?;
        network.dns_options.push(match option.text("value")? {
            Some(value) => format!("{name}:{value}"),
            None => name,
        });
        option.finish()?;
    }
    config.finish()
}

fn ip(place: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Refused(format!("{place}: {text:?} is not an ip address")))
}

fn refuse_the_rest(spec: &mut Node) -> Result<()> {
    for key in ["initContainers", "ephemeralContainers", "subdomain", "setHostnameAsFQDN", "overhead"] {
        spec.refuse(key, "is not supported by podwire yet")?;
    }
    spec.refuse("activeDeadlineSeconds", "is not supported by podwire yet")?;
    let Some(mut os) = spec.node("os")? else { return Ok(()) };
    match os.needed_text("name")?.as_str() {
        "linux" => os.finish(),
        other => Err(Refused(format!("spec.os.name {other} is not this machine's: linux is"))),
    }
}
