//! What a user asked for: everything `create` needs to know, parsed; stored as it is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipam::HiddenRequest;
use linux::userns::IdRange;
use model::{ContainerName, DnsName, Hostname, LinkName, MacAddr, PastaOptions, PortSpec, Protocol, SlirpOptions};
use serde::{Deserialize, Serialize};

mod care;
mod inside;
mod limits;

pub use care::{Care, HealthCheck, Log, LogDriver, OnUnhealthy, Restart};
pub use inside::{Device, Inside, Space, ULIMITS, Ulimit};
pub use limits::{DeviceRate, Groups, Limits, PIDS, RateKind};
pub use linux::device_filter::{DeviceKind, DeviceRule};

use crate::idmaps::IdMapWish;

/// Everything `create` needs to know.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// `--name`; a random one when absent.
    pub name: Option<ContainerName>,
    /// The image as typed; empty with a `rootfs`.
    pub image: String,
    /// `--rootfs`: what it has instead of an image.
    pub rootfs: Option<Rootfs>,
    /// The command and its arguments; the image's when empty.
    pub command: Vec<String>,
    /// `--entrypoint`: a JSON array or one word; `Some(vec![])` clears the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=VALUE` that are there unless the image or `-e` says otherwise.
    pub default_env: Vec<String>,
    /// `-e`: later ones win over earlier ones and over the image's. `None`: taken from podwire's own environment.
    pub env: Vec<(String, Option<String>)>,
    /// `--unsetenv`: not even the image's, nor our own.
    pub unset_env: UnsetEnv,
    /// `-v`
    pub volumes: Vec<VolumeMount>,
    /// `--volumes-from`: the volumes of these containers, with other options when there are any.
    pub volumes_from: Vec<(String, Vec<String>)>,
    /// `-w`
    pub workdir: Option<String>,
    /// `-u`: `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// `--hostname`
    pub hostname: Option<Hostname>,
    /// `-t`
    pub tty: bool,
    /// `-i`
    pub interactive: bool,
    /// `--pod`
    pub pod: Option<PodChoice>,
    /// `--rm`
    pub remove: bool,
    /// `--replace`: a container that has the name goes, as by `rm -f`.
    pub replace: bool,
    /// `--cidfile`: a file that must not be there yet, for the id, as long as the container is there.
    pub id_file: Option<PathBuf>,
    /// `--pidfile`: a file for the number of the first process.
    pub pid_file: Option<PathBuf>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--annotation`
    pub annotations: BTreeMap<String, String>,
    /// `--stop-signal`, a name or number as typed; the image's or SIGTERM when absent.
    pub stop_signal: Option<String>,
    /// `--stop-timeout` in seconds; 10 when absent.
    pub stop_timeout: Option<u32>,
    /// `--privileged`, `--read-only`, `--cap-add`, `--cap-drop` and the like.
    pub security: SecurityConfig,
    /// `--memory`, `--cpus` and the like.
    pub limits: Limits,
    /// `--pid`, `--ulimit`, `--device` and the like.
    pub inside: Inside,
    /// `--restart`, `--health-cmd` and the like.
    pub care: Care,
    /// `--network`, `-p` and the like.
    pub network: NetworkConfig,
    /// `--userns`, `--uidmap` and the like.
    pub users: UsersWish,
    /// `--tmpfs PATH[:OPTIONS]`
    pub tmpfs: Vec<(String, String)>,
    /// `--pull`
    pub pull: PullPolicy,
    /// `--platform`: what machine the image is for; this one when absent.
    pub platform: Option<images::Platform>,
    /// `--tls-verify=false` allows plain HTTP and unknown certificates when pulling.
    pub tls_verify: bool,
    /// The whole command line, for `inspect`.
    pub create_command: Vec<String>,
}

/// A directory of the host that is a container's root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// An absolute path.
    pub path: PathBuf,
    /// `:O`: changes are the container's and go with it; otherwise the directory itself is changed.
    pub overlay: bool,
}

/// Variables that are not to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsetEnv {
    /// `--unsetenv-all`: none that the user has not set.
    pub all: bool,
    /// `--unsetenv`
    pub names: Vec<String>,
}

/// `--pod`
#[derive(Debug, Clone)]
pub enum PodChoice {
    /// A name or an id: this one.
    Join(String),
    /// `new:NAME`: one that is made for the container, and goes again if that cannot be made or started.
    New(Box<crate::pods::PodConfig>),
}

/// Which users a container has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UsersWish {
    /// `host`, or nothing said: podwire's own, who are the host's for root.
    #[default]
    Host,
    /// `keep-id`: whoever runs podwire has his own ids in there, or these.
    KeepId {
        /// `uid=`
        uid: Option<u32>,
        /// `gid=`
        gid: Option<u32>,
        /// `size=`: how many ids in all.
        size: Option<u32>,
    },
    /// `nomap`: whoever runs podwire is nobody in there.
    NoMap,
    /// `auto`: ids that no other container has.
    Auto {
        /// `size=`: how many; what the image needs when absent.
        size: Option<u32>,
        /// `uidmapping=`
        uids: Vec<IdRange>,
        /// `gidmapping=`
        gids: Vec<IdRange>,
    },
    /// `--uidmap`, `--gidmap`, `--subuidname`, `--subgidname`
    Mapped {
        /// Of users; the groups' when empty.
        uids: Vec<IdMapWish>,
        /// Of groups; the users' when empty.
        gids: Vec<IdMapWish>,
        /// Whose ranges in /etc/subuid.
        subuid: Option<String>,
        /// Whose ranges in /etc/subgid.
        subgid: Option<String>,
    },
    /// `container:NAME`: another container's.
    Container(String),
    /// `ns:PATH`
    Path(PathBuf),
}

/// When to ask the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Every time.
    Always,
    /// When the image is not here.
    #[default]
    Missing,
    /// Never.
    Never,
    /// Every time, and the one that is here does when the registry has none or is not there.
    Newer,
}

/// What a container may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityConfig {
    /// `--privileged`
    pub privileged: bool,
    /// `--read-only`
    pub read_only: bool,
    /// `--cap-add`: names with or without `CAP_`, any case, or `all`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`: as above.
    pub cap_drop: Vec<String>,
    /// Instead of Podman's default ones, which `cap_add` and `cap_drop` then change.
    #[serde(default)]
    pub default: Option<Vec<String>>,
    /// `--security-opt no-new-privileges`
    #[serde(default)]
    pub no_new_privileges: bool,
    /// `--security-opt seccomp=`
    #[serde(default)]
    pub seccomp: Seccomp,
    /// `--security-opt mask=`: further paths that are hidden.
    #[serde(default)]
    pub mask: Vec<String>,
    /// `--security-opt unmask=`: paths that are neither hidden nor read-only; `ALL` for all of them.
    #[serde(default)]
    pub unmask: Vec<String>,
    /// The `--security-opt` as typed, for `inspect`.
    #[serde(default)]
    pub options: Vec<String>,
    /// `--read-only-tmpfs=false`: no writable places with `--read-only`.
    #[serde(default)]
    pub no_tmpfs: bool,
}

/// Which system calls are filtered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// As Podman's default profile says.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// As this file says.
    Profile(PathBuf),
}

/// One `-v`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Where from.
    pub source: VolumeSource,
    /// An absolute path in the container.
    pub target: String,
    /// `ro`, `rw`, `z`, `exec` … as typed; checked at the door.
    pub options: Vec<String>,
}

/// Where a volume's files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// A path on the host, absolute.
    Bind(PathBuf),
    /// A named volume, made when it is not there.
    Named(String),
    /// A volume of its own, removed with the container when `--rm`.
    Anonymous,
}

/// What a container's network should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// `--network`
    pub mode: NetworkMode,
    /// `-p`
    pub publish: Vec<PortText>,
    /// `-P`
    pub publish_all: bool,
    /// `--expose`, beside the image's: first port, how many, protocol.
    pub expose: Vec<(u16, u16, Protocol)>,
    /// `--add-host`: names and the address, or the host's gateway.
    pub add_hosts: Vec<HostEntry>,
    /// `--no-hosts`
    pub no_hosts: bool,
    /// `--hosts-file`: what /etc/hosts begins with.
    #[serde(default)]
    pub base_hosts: BaseHosts,
    /// Which address is `host.containers.internal`.
    #[serde(default)]
    pub host_internal: HostInternal,
    /// `--dns`
    pub dns: Dns,
    /// `--dns-search`; `Some(vec![])` for `.`
    pub dns_search: Option<Vec<DnsName>>,
    /// `--dns-option`
    pub dns_options: Vec<String>,
}

/// What a container's /etc/hosts begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BaseHosts {
    /// The host's own lines.
    #[default]
    Host,
    /// The image's.
    Image,
    /// Those of a file.
    File(PathBuf),
    /// Nothing.
    Nothing,
}

/// The address of `host.containers.internal`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostInternal {
    /// Where the container reaches the host.
    #[default]
    Found,
    /// This one.
    Is(IpAddr),
    /// The name is not there.
    Nothing,
}

impl Default for NetworkConfig {
    /// What nothing said means.
    fn default() -> Self {
        Self {
            mode: NetworkMode::Private(AttachmentConfig::default()),
            publish: Vec::new(),
            publish_all: false,
            expose: Vec::new(),
            add_hosts: Vec::new(),
            no_hosts: false,
            base_hosts: BaseHosts::default(),
            host_internal: HostInternal::default(),
            dns: Dns::Host,
            dns_search: None,
            dns_options: Vec::new(),
        }
    }
}

/// A [`PortSpec`] in its serde form: the text it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortText {
    text: String,
    /// What it means.
    pub spec: PortSpec,
}

impl std::str::FromStr for PortText {
    type Err = model::Invalid;

    fn from_str(text: &str) -> Result<Self, model::Invalid> {
        Ok(Self { text: text.to_owned(), spec: text.parse()? })
    }
}

impl TryFrom<String> for PortText {
    type Error = model::Invalid;

    fn try_from(text: String) -> Result<Self, model::Invalid> {
        text.parse()
    }
}

impl From<PortText> for String {
    fn from(port: PortText) -> Self {
        port.text
    }
}

/// `--dns`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Dns {
    /// The host's servers.
    #[default]
    Host,
    /// These servers.
    Servers(Vec<IpAddr>),
    /// `none`: the image's own resolv.conf.
    Image,
}

/// One `--add-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// One or more names.
    pub names: Vec<DnsName>,
    /// Their address; `None` is `host-gateway`.
    pub ip: Option<IpAddr>,
}

/// `--network`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// `bridge`, a name, several names: attachments in the order given.
    Networks(Vec<AttachmentConfig>),
    /// `private`, `default`, or nothing said: [`NetworkMode::Networks`] for root, [`NetworkMode::Pasta`] for an
    /// ordinary user. In no record.
    Private(AttachmentConfig),
    /// `pasta[:OPTIONS]`: behind an ordinary user's relay, apart from all other containers.
    Pasta(PastaOptions),
    /// `slirp4netns[:OPTIONS]`: as above, with what these look like.
    Slirp4netns(SlirpOptions),
    /// `none`: a sandbox with only `lo`.
    None,
    /// `host`: the host's own namespace.
    Host,
    /// `container:NAME`: another container's sandbox.
    Container(String),
    /// `ns:PATH`
    Path(PathBuf),
}

impl NetworkMode {
    /// Has it endpoints of ours?
    pub fn is_networked(&self) -> bool {
        match self {
            Self::Networks(_) | Self::Private(_) | Self::Pasta(_) | Self::Slirp4netns(_) => true,
            Self::None | Self::Host | Self::Container(_) | Self::Path(_) => false,
        }
    }

    /// The word users know it by.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Networks(_) => "bridge",
            Self::Private(_) => "private",
            Self::Pasta(_) => "pasta",
            Self::Slirp4netns(_) => "slirp4netns",
            Self::None => "none",
            Self::Host => "host",
            Self::Container(_) => "container",
            Self::Path(_) => "ns",
        }
    }
}

/// The wish that a sandbox joins a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AttachmentConfig {
    /// The network's name or id; `None` is the default network.
    pub network: Option<String>,
    /// `ip=`, `ip6=`, `--ip`, `--ip6`
    pub static_ips: Vec<IpAddr>,
    /// `mac=`, `--mac-address`
    pub mac: Option<MacAddr>,
    /// `alias=`, `--network-alias`
    pub aliases: Vec<DnsName>,
    /// `interface_name=`; the next free `ethN` when absent.
    pub link: Option<LinkName>,
    /// `host_interface_name=`: the name of its other end; one that follows from the container's id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_link: Option<LinkName>,
    /// `gw_priority=`, `--gw-priority`: of a container's networks the one with the highest gives the default
    /// route; of equals the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gw_priority: i32,
    /// What a network is like that the engine makes for it, and nobody sees. In no record.
    #[doc(hidden)]
    #[serde(skip)]
    pub hidden: Option<HiddenRequest>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &i32) -> bool {
    *n == 0
}
