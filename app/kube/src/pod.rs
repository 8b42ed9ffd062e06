//! `Pod` and `Deployment`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::config::{Dns, HostEntry, NetworkConfig, NetworkMode, Restart};
use engine::pods::{ExitPolicy, PodConfig, Share};
use model::DnsName;

use crate::container::Setting;
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

    pub(crate) fn deployment(mut node: Node) -> Result<Self> {
        check_version(&mut node, "apps/v1")?;
        let name = node.needed_node("metadata")?.needed_text("name")?;
        let mut spec = node.needed_node("spec")?;
        node.pass_over(&["status"]);
        node.finish()?;
        let replicas: u32 = spec.number("replicas")?.unwrap_or(1);
        let mut template = spec.needed_node("template")?;
        spec.pass_over(&["selector", "strategy", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"]);
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
            user: user(spec)?,
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
        let pod = PodConfig {
            hostname: spec.text("hostname")?.map(|name| name.parse()).transpose().map_err(refused)?,
            labels: self.labels.clone(),
            share: share(spec)?,
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

fn share(spec: &mut Node) -> Result<Vec<Share>> {
    let mut share = Share::DEFAULT.to_vec();
    if spec.flag("shareProcessNamespace")? {
        share.push(Share::Pid);
    }
    Ok(share)
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

/// The pod's `securityContext`: the user that containers have which name none.
fn user(spec: &mut Node) -> Result<Option<String>> {
    let Some(mut context) = spec.node("securityContext")? else { return Ok(None) };
    let user = crate::container::user(&mut context)?;
    for key in ["fsGroup", "seLinuxOptions", "supplementalGroups", "sysctls", "seccompProfile", "windowsOptions"] {
        context.refuse(key, "is not supported by podwire yet")?;
    }
    context.pass_over(&["runAsNonRoot", "fsGroupChangePolicy"]);
    context.finish()?;
    Ok(user)
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
    for key in
        ["initContainers", "ephemeralContainers", "hostIPC", "hostPID", "subdomain", "setHostnameAsFQDN", "overhead"]
    {
        spec.refuse(key, "is not supported by podwire yet")?;
    }
    spec.refuse("activeDeadlineSeconds", "is not supported by podwire yet")?;
    // false asks for a user namespace of the pod's own.
    match spec.text("os")? {
        None => Ok(()),
        Some(_) => Err(Refused("spec.os must be a mapping".to_owned())),
    }
}
