//! Pods as Kubernetes writes them: YAML to what the engine makes, and back.
//!
//! ```text
//!   Pod, Deployment, DaemonSet, ConfigMap, Secret ──read──> Play: PodConfig + one ContainerConfig each ──engine──> a pod that runs
//!   `podwire inspect` of a pod ──write──> Pod, Deployment
//! ```
//!
//! **How it works.** A document is a tree of [`node::Node`]s that fields are taken out of: taking one is what makes
//! it known, and what is left over is refused by its path. What only a cluster can honour (where to schedule, who
//! may see it) is passed over by name.
//!
//! **Invariants.** Nothing is done here: no file, no engine, no clock. What cannot be honoured and would change what
//! a container does is refused, never ignored.
//!
//! **Limits.** One replica; no init containers. Secrets are values of the file, and are kept nowhere else. A `startupProbe` only lengthens its `livenessProbe`'s start.
//!
//! **Start reading** at [`read`], then `pod.rs`.

mod container;
mod node;
mod pod;
mod probe;
mod volume;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::config::{ContainerConfig, Log, NetworkConfig, PortText, UsersWish};
use engine::pods::PodConfig;
use serde_json::Value;

pub use write::{Files, Kind, Written, write};

use node::Node;

/// Why a file cannot be played: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

type Result<T, E = Refused> = std::result::Result<T, E>;

/// What the command line adds to the file.
#[derive(Debug, Clone)]
pub struct Around {
    /// `--network` and the like: what pods are on that do not ask for the host's network.
    pub network: NetworkConfig,
    /// `--publish`: in place of the file's mapping of the same container port.
    pub publish: Vec<PortText>,
    /// `--publish-all`: also ports without `hostPort`, by their own numbers.
    pub publish_all: bool,
    /// Where the engine keeps volumes: `NAME/_data` below it are the files of one.
    pub volumes: PathBuf,
    /// `--tls-verify`
    pub tls_verify: bool,
    /// `--log-driver`, `--log-opt`: of each container.
    pub log: Log,
    /// `--annotation`: of each container, beside the file's.
    pub annotations: BTreeMap<String, String>,
    /// `--userns`: of pods that ask for no users of their own.
    pub users: UsersWish,
    /// The whole command line, for `inspect`.
    pub create_command: Vec<String>,
}

/// One pod of a file.
#[derive(Debug, Clone)]
pub struct Play {
    /// The pod.
    pub pod: PodConfig,
    /// Its containers, in order.
    pub containers: Vec<ContainerConfig>,
    /// What has to be at a `hostPath`, or is made there.
    pub paths: Vec<(PathBuf, HostPath)>,
    /// Volumes that persist: what is claimed by name.
    pub claims: Vec<String>,
    /// What should be said about it.
    pub remarks: Vec<String>,
}

/// The `type` of a `hostPath`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPath {
    /// A directory, which is made where it is not there.
    DirectoryOrCreate,
    /// A file, which is made where it is not there.
    FileOrCreate,
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// A file of a device that is read in characters.
    CharDevice,
    /// A disk.
    BlockDevice,
}

/// Values by their keys.
pub(crate) type Values = BTreeMap<String, String>;

/// The values of `ConfigMap`s and `Secret`s, by their names.
#[derive(Debug, Default)]
pub(crate) struct ConfigMaps {
    maps: BTreeMap<String, Values>,
    secrets: BTreeMap<String, Values>,
}

/// What of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyed {
    /// A `ConfigMap`.
    Map,
    /// A `Secret`.
    Secret,
}

impl Keyed {
    /// The kind's name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Map => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl ConfigMaps {
    pub(crate) fn get(&self, kind: Keyed, name: &str) -> Option<&Values> {
        match kind {
            Keyed::Map => self.maps.get(name),
            Keyed::Secret => self.secrets.get(name),
        }
    }
}

/// Kinds that say how a cluster shows, places or guards what runs: nothing of them is a pod's.
const OF_A_CLUSTER: &[&str] = &[
    "ClusterRole",
    "ClusterRoleBinding",
    "HorizontalPodAutoscaler",
    "Ingress",
    "Namespace",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "Service",
    "ServiceAccount",
    "StorageClass",
];

/// The pods of these texts, the file to play first, then those of `--configmap`, of which only the `ConfigMap`s count.
pub fn read(text: &str, config_maps: &[String], around: &Around) -> Result<Vec<Play>> {
    let documents = documents(text)?;
    let mut maps = ConfigMaps::default();
    for node in config_maps.iter().map(|text| self::documents(text)).collect::<Result<Vec<_>>>()?.into_iter().flatten()
    {
        maps.add(node)?;
    }
    let (mut pods, mut remarks) = (Vec::new(), Vec::new());
    for mut node in documents {
        match node.needed_text("kind")?.as_str() {
            "ConfigMap" => maps.add_contents(node)?,
            "Secret" => maps.add_secret(node)?,
            "Pod" => pods.push(pod::Wanted::pod(node)?),
            kind @ ("Deployment" | "DaemonSet") => pods.push(pod::Wanted::templated(node, kind)?),
            // Its volume is made for the first who claims it.
            "PersistentVolumeClaim" => drop(node.needed_node("metadata")?.needed_text("name")?),
            kind if OF_A_CLUSTER.contains(&kind) => {
                let name = node.node("metadata")?.map(|mut meta| meta.text("name")).transpose()?.flatten();
                let name = name.unwrap_or_default();
                let port = if kind == "Service" { "; hostPort and --publish publish ports" } else { "" };
                remarks.push(format!("{kind} {name} is passed over: it takes a cluster{port}"));
            }
            kind => {
                let text = "is not supported by podwire yet: Pod, Deployment, DaemonSet, ConfigMap, Secret and \
                            PersistentVolumeClaim are";
                return Err(Refused(format!("kind {kind} {text}")));
            }
        }
    }
    if pods.is_empty() {
        return Err(Refused("YAML document does not contain any supported kube kind".to_owned()));
    }
    let mut plays: Vec<Play> = pods.into_iter().map(|pod| pod.play(&maps, around)).collect::<Result<_>>()?;
    plays.iter_mut().take(1).for_each(|play| play.remarks.append(&mut remarks));
    let mut names: Vec<_> = plays.iter().filter_map(|play| play.pod.name.as_ref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refused(format!("two pods of the file are called {}", pair[0]))),
        None => Ok(plays),
    }
}

/// The pods that [`read`] would make of this text, by name, and the volumes they claim: for taking them down.
pub fn names(text: &str) -> Result<Vec<(String, Vec<String>)>> {
    let mut names = Vec::new();
    for mut node in documents(text)? {
        let wanted = match node.needed_text("kind")?.as_str() {
            "Pod" => pod::Wanted::pod(node)?,
            kind @ ("Deployment" | "DaemonSet") => pod::Wanted::templated(node, kind)?,
            _ => continue,
        };
        names.push(wanted.names()?);
    }
    Ok(names)
}

impl ConfigMaps {
    fn add(&mut self, mut node: Node) -> Result<()> {
        match node.needed_text("kind")?.as_str() {
            "ConfigMap" => self.add_contents(node),
            kind => Err(Refused(format!("--configmap: kind ConfigMap expected, kind {kind} found"))),
        }
    }

    fn add_contents(&mut self, mut node: Node) -> Result<()> {
        let mut meta = node.needed_node("metadata")?;
        let name = meta.needed_text("name")?;
        node.refuse("binaryData", "is not supported by podwire yet")?;
        let contents = node.text_map("data")?;
        node.pass_over(&["apiVersion", "immutable"]);
        node.finish()?;
        self.maps.insert(name, contents);
        Ok(())
    }

    fn add_secret(&mut self, mut node: Node) -> Result<()> {
        use base64::Engine as _;
        let name = node.needed_node("metadata")?.needed_text("name")?;
        let mut values = Values::new();
        for (key, text) in node.text_map("data")? {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
            let bytes = bytes.map_err(|_| Refused(format!("Secret {name}: the value of {key} must be base64")))?;
            let value = String::from_utf8(bytes)
                .map_err(|_| Refused(format!("Secret {name}: {key} is no text; podwire has no binary secrets yet")))?;
            values.insert(key, value);
        }
        values.extend(node.text_map("stringData")?);
        node.pass_over(&["apiVersion", "immutable", "type"]);
        node.finish()?;
        self.secrets.insert(name, values);
        Ok(())
    }
}

/// The documents of a YAML file that are not empty.
fn documents(text: &str) -> Result<Vec<Node>> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|e| Refused(format!("not YAML: {}", one_line(&e.to_string()))))?;
    values.into_iter().filter(|value| !value.is_null()).map(|value| Node::of(String::new(), value)).collect()
}

/// Parsers draw the place below their sentence.
fn one_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").trim()
}

#[cfg(test)]
mod tests;
