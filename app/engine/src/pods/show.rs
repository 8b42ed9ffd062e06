//! Pods as `pod ps` and `pod inspect` show them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{ContainerId, PodId};
use serde_json::{Value, json};

use super::{Common, PodRecord};
use crate::config::{DeviceRate, Dns, Limits, NetworkMode, RateKind, VolumeMount, VolumeSource};
use crate::engine::Engine;
use crate::error::Result;
use crate::inspect;
use crate::list::DEFAULT_NETWORK;
use crate::record::{ContainerRecord, State};

/// One pod in a list.
#[derive(Debug, Clone)]
pub struct PodSummary {
    /// Its id.
    pub id: PodId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Podman's word for what its containers do.
    pub status: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The container that holds its namespaces.
    pub infra: Option<ContainerId>,
    /// The networks it names.
    pub networks: Vec<String>,
    /// Its containers, the infra container first, then oldest first.
    pub containers: Vec<PodMember>,
}

/// A container in a pod's list.
#[derive(Debug, Clone)]
pub struct PodMember {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: State,
    /// Does it hold the pod's namespaces?
    pub is_infra: bool,
}

impl Engine {
    /// All pods, oldest first.
    pub fn pods(&self) -> Result<Vec<PodSummary>> {
        let pods: Vec<PodRecord> =
            self.store.read(|tx| tx.pods())?.into_iter().map(|(_, record): (_, PodRecord)| record).collect();
        if pods.is_empty() {
            return Ok(Vec::new());
        }
        let mut members: BTreeMap<PodId, Vec<ContainerRecord>> = BTreeMap::new();
        for record in self.records()? {
            if let Some(pod) = record.pod() {
                members.entry(*pod).or_default().push(record);
            }
        }
        Ok(pods.into_iter().map(|pod| summary(&members.remove(&pod.id).unwrap_or_default(), pod)).collect())
    }

    /// The pod as `podman pod inspect` shows it.
    pub fn inspect_pod(&self, name: &str) -> Result<Value> {
        let pod = self.pod(name)?;
        let containers = self.pod_containers(&pod)?;
        let infra = containers.iter().find(|record| record.is_infra());
        let shown = |record: &ContainerRecord| json!({ "Id": record.id.to_string(), "Name": record.name.as_str(), "State": record.shown_state().to_string() });
        let mut all = json!({
            "Id": pod.id.to_string(),
            "Name": pod.name.as_str(),
            "Created": pod.created.to_string(),
            "CreateCommand": pod.create_command,
            "ExitPolicy": pod.exit_policy.word(),
            "State": status(&states(&containers)),
            "Hostname": pod.hostname.as_ref().map_or_else(String::new, ToString::to_string),
        });
        if !pod.labels.is_empty() {
            all["Labels"] = json!(pod.labels);
        }
        all["CreateCgroup"] = json!(pod.shares_group);
        if let Some(path) = self.pod_group(&pod.id).and_then(|group| group.shown()) {
            let above =
                std::path::Path::new(&path).parent().map_or_else(String::new, |path| path.display().to_string());
            all["CgroupParent"] = json!(pod.limits.parent.clone().unwrap_or(above));
            all["CgroupPath"] = json!(path);
        } else if let Some(parent) = &pod.limits.parent {
            all["CgroupParent"] = json!(parent);
        }
        all["CreateInfra"] = json!(pod.infra.is_some());
        all["InfraContainerID"] = json!(pod.infra.map_or_else(String::new, |id| id.to_string()));
        if let Some(infra) = infra {
            all["InfraConfig"] = infra_config(&pod, infra);
        }
        if pod.common.restart != crate::config::Restart::No {
            all["RestartPolicy"] = json!(pod.common.restart.word());
        }
        all["SharedNamespaces"] = json!(pod.share.iter().map(|share| share.word()).collect::<Vec<_>>());
        all["NumContainers"] = json!(containers.len());
        all["Containers"] = json!(containers.iter().map(shown).collect::<Vec<_>>());
        limits(&pod.limits, &mut all);
        common(&pod.common, &mut all);
        all["LockNumber"] = json!(0);
        Ok(all)
    }
}

/// Those that were asked for, under Podman's keys.
fn limits(limits: &Limits, all: &mut Value) {
    let rates = |kind| {
        let rate = |rate: &&DeviceRate| rate.kind == kind;
        let shown = |rate: &DeviceRate| json!({ "Path": rate.device, "Rate": rate.most });
        limits.rates.iter().filter(rate).map(shown).collect::<Vec<_>>()
    };
    let weights = limits.blkio_weight_device.iter().map(|(path, weight)| json!({ "Path": path, "Weight": weight }));
    let time = limits.cpu_time();
    for (key, value) in [
        ("cpu_period", time.map(|(_, period)| json!(period))),
        ("cpu_quota", time.map(|(quota, _)| json!(quota))),
        ("cpu_shares", limits.cpu_shares.map(|shares| json!(shares))),
        ("cpuset_cpus", limits.cpuset_cpus.as_ref().map(|set| json!(set))),
        ("cpuset_mems", limits.cpuset_mems.as_ref().map(|set| json!(set))),
        ("device_read_bps", Some(json!(rates(RateKind::ReadBytes)))),
        ("device_write_bps", Some(json!(rates(RateKind::WriteBytes)))),
        ("memory_limit", limits.memory.map(|memory| json!(memory))),
        ("memory_swap", limits.memory_swap.map(|swap| json!(swap))),
        ("blkio_weight", limits.blkio_weight.map(|weight| json!(weight))),
        ("blkio_weight_device", Some(weights.collect())),
    ] {
        if let Some(value) = value.filter(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            all[key] = value;
        }
    }
}

/// What its containers have of it, under Podman's keys.
fn common(common: &Common, all: &mut Value) {
    let mount = |volume: &VolumeMount| {
        let (kind, name, source) = match &volume.source {
            VolumeSource::Bind(path) => ("bind", "", path.display().to_string()),
            VolumeSource::Named(name) => ("volume", name.as_str(), name.clone()),
            VolumeSource::Anonymous => ("volume", "", String::new()),
        };
        json!({
            "Type": kind, "Name": name, "Source": source, "Destination": volume.target, "Driver": "", "Mode": "",
            "Options": volume.options, "RW": !volume.options.iter().any(|option| option == "ro"), "Propagation": "",
        })
    };
    let lists = [
        ("mounts", common.volumes.iter().map(mount).collect::<Vec<_>>()),
        ("devices", common.devices.iter().map(inspect::device).collect()),
        ("volumes_from", common.volumes_from.iter().map(|(name, _)| json!(name)).collect()),
        ("security_opt", common.security.options.iter().map(|option| json!(option)).collect()),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        all[key] = json!(list);
    }
}

fn summary(containers: &[ContainerRecord], pod: PodRecord) -> PodSummary {
    let (infra, members): (Vec<_>, Vec<_>) = containers.iter().partition(|record| record.is_infra());
    let networks = infra.first().map(|infra| networks(infra)).unwrap_or_default();
    let member = |record: &&ContainerRecord| PodMember {
        id: record.id,
        name: record.name.to_string(),
        state: record.shown_state(),
        is_infra: record.is_infra(),
    };
    PodSummary {
        id: pod.id,
        name: pod.name.to_string(),
        created: pod.created,
        status: status(&states(containers)),
        labels: pod.labels,
        infra: pod.infra,
        networks,
        containers: infra.iter().chain(&members).map(member).collect(),
    }
}

fn networks(infra: &ContainerRecord) -> Vec<String> {
    match &infra.settings.network.mode {
        NetworkMode::Networks(attachments) => {
            attachments.iter().map(|a| a.network.clone().unwrap_or_else(|| DEFAULT_NETWORK.to_owned())).collect()
        }
        _ => Vec::new(),
    }
}

/// The infra container stands still with the others: it has nothing to do.
fn states(containers: &[ContainerRecord]) -> Vec<State> {
    let (infra, members): (Vec<_>, Vec<_>) = containers.iter().partition(|record| record.is_infra());
    let mut states: Vec<State> = members.iter().map(|record| record.shown_state()).collect();
    let stands = !states.is_empty() && states.iter().all(|state| *state == State::Paused);
    states.extend(infra.iter().map(|record| if stands { State::Paused } else { record.state }));
    states
}

/// Podman's rules (libpod's pod status): what all do, or what some do.
fn status(containers: &[State]) -> &'static str {
    let count = |wanted: fn(State) -> bool| containers.iter().filter(|state| wanted(**state)).count();
    let running = count(|state| matches!(state, State::Running | State::Stopping));
    let ended = count(|state| state == State::Exited);
    match containers.len() {
        0 => "Created",
        all if running == all => "Running",
        all if count(|state| state == State::Paused) == all => "Paused",
        _ if running > 0 => "Degraded",
        all if ended == all => "Exited",
        _ if ended > 0 => "Stopped",
        _ => "Created",
    }
}

fn infra_config(pod: &PodRecord, infra: &ContainerRecord) -> Value {
    let network = &infra.settings.network;
    let some = |list: Vec<String>| if list.is_empty() { Value::Null } else { json!(list) };
    let servers = match &network.dns {
        Dns::Servers(servers) => servers.iter().map(ToString::to_string).collect(),
        Dns::Host | Dns::Image => Vec::new(),
    };
    json!({
        "PortBindings": inspect::ports(&infra.settings.ports, &[]),
        "HostNetwork": network.mode == NetworkMode::Host,
        "StaticIP": "",
        "StaticMAC": "",
        "NoManageResolvConf": network.dns == Dns::Image,
        "DNSServer": some(servers),
        "DNSSearch": some(network.dns_search.iter().flatten().map(ToString::to_string).collect()),
        "DNSOption": some(network.dns_options.clone()),
        "NoManageHostname": false,
        "NoManageHosts": network.no_hosts,
        "HostAdd": some(network.add_hosts.iter().map(inspect::host_text).collect()),
        "HostsFile": "",
        "Networks": some(networks(infra)),
        "NetworkOptions": Value::Null,
        "pid_ns": pod.common.pid.text(),
        "userns": infra.settings.users.as_ref().map_or_else(|| "host".to_owned(), |users| inspect::users_text(Some(users))),
        "uts_ns": pod.common.uts.text(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Created, Exited, Paused, Running, Stopping};

    fn check(states: &[State], word: &str) {
        assert_eq!(status(states), word, "{states:?}");
    }

    #[test]
    fn a_pods_status_is_podmans_word_for_what_its_containers_do() {
        check(&[], "Created");
        check(&[Created, Created], "Created");
        check(&[Running, Running], "Running");
        check(&[Running, Stopping], "Running");
        check(&[Running, Exited], "Degraded");
        check(&[Running, Created], "Degraded");
        check(&[Paused, Paused], "Paused");
        check(&[Running, Paused], "Degraded");
        check(&[Exited, Exited], "Exited");
        check(&[Exited, Created], "Stopped");
    }
}
