//! Starting a container: everything up to its monitor.
//!
//! ```text
//!   claim the record ─> hold ports ─> Networking::up ─> hosts, resolv.conf, hostname ─> monitor ─> Started
//!        └──────────── whoever fails takes back what is there, in one place: take_down ────────────┘
//! ```

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use linux::ProcessRef;
use linux::file::{Durability, write_atomic};
use model::ContainerId;
use rustix::fs::{CWD, Mode as Permissions, OFlags, ResolveFlags, openat, openat2};

use crate::config::{BaseHosts, ContainerConfig, HostInternal, NetworkMode};
use crate::endpoints::{AttachedEndpoint, Identity};
use crate::engine::{Engine, EngineOptions, load, make_dir, no_such_container, save};
use crate::error::{Error, Kind, Result};
use crate::files::{HostsFile, ResolvAround, ResolvConf, host_resolv_conf};
use crate::foreground::{self, Watch};
use crate::monitor::{self, Mode, Order};
use crate::networking::SandboxWish;
use crate::record::{ContainerRecord, Fate, State};
use crate::runtime::Runtime;
use crate::talk::{Attach, RunEnd, RunResult, Talk};
use crate::{config, rootless_net, spec};

/// More of an image's /etc/hosts is not read.
const HOSTS_MAX: u64 = 1 << 20;

impl Engine {
    /// Makes a container and starts it: all or nothing. Fails before the command runs and leaves no
    /// container, or the command ran.
    pub fn run(&mut self, config: ContainerConfig, attach: Attach, talk: &mut Talk<'_>) -> Result<RunResult> {
        let (config, pod) = self.make_pod_of(config, talk)?;
        self.run_in_its_pod(config, attach, talk).inspect_err(|_| self.unmake_pod(pod))
    }

    fn run_in_its_pod(&mut self, config: ContainerConfig, attach: Attach, talk: &mut Talk<'_>) -> Result<RunResult> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        let mut record = self.prepare(config, talk)?;
        self.start_needed(&record)?;
        record.state = State::Starting;
        record.owner = Some(me);
        record.fate = Some(Fate::Vanish { volumes: true });
        self.insert(&mut record)?;
        self.start_claimed(&record, me, attach)
    }

    /// Starts a container that is down; before it those whose network and namespaces it uses.
    pub fn start(&mut self, id: &ContainerId, attach: Attach) -> Result<RunResult> {
        // Whoever starts it at the same time is waited for: it then runs, or is ours to start.
        self.wait_settled(id)?;
        self.start_if(id, attach, |record| {
            record.restarts = 0;
            true
        })
    }

    /// As [`Engine::start`], if `wanted` still says so when the record is ours to change.
    pub(crate) fn start_if(
        &mut self,
        id: &ContainerId,
        attach: Attach,
        wanted: impl FnOnce(&mut ContainerRecord) -> bool,
    ) -> Result<RunResult> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        self.start_needed(&self.record(id)?)?;
        let record = self.store.write(|tx| {
            let mut record = load(tx, id)?.ok_or_else(|| no_such_container(&id.to_string()))?;
            if !record.state.at_rest() || !wanted(&mut record) {
                return Err(Error::new(
                    Kind::WrongState,
                    format!("container {id} is {}: container state improper", record.state),
                ));
            }
            record.fate = Some(Fate::Return(record.state));
            record.state = State::Starting;
            record.owner = Some(me);
            record.stopped_by_user = false;
            save(tx, &record)?;
            Ok(record)
        })?;
        self.start_claimed(&record, me, attach)
    }

    /// Those whose network and namespaces it uses.
    fn start_needed(&mut self, record: &ContainerRecord) -> Result<()> {
        for owner in self.needed_by(record)? {
            self.start_unless_up(&owner)?;
        }
        Ok(())
    }

    /// Also when somebody else starts it at the same time.
    pub(crate) fn start_unless_up(&mut self, id: &ContainerId) -> Result<()> {
        self.wait_settled(id)?;
        if !self.record(id)?.state.at_rest() {
            return Ok(());
        }
        match self.start(id, Attach::Detached) {
            Err(error) if error.kind == Kind::WrongState => {
                self.wait_settled(id)?;
                if self.record(id)?.state == State::Running { Ok(()) } else { Err(error) }
            }
            started => started.map(drop),
        }
    }

    fn start_claimed(&mut self, record: &ContainerRecord, me: ProcessRef, attach: Attach) -> Result<RunResult> {
        let watch = Watch::of(&record.settings, &attach);
        let launched = self.launch(record, me, watch.as_ref());
        let mut socket = match launched {
            Ok(socket) => socket,
            Err(error) => {
                // A second failure is repaired by the next command; the first is the one to tell.
                if let Err(undo) = self.take_down(&record.id, me, None) {
                    tracing::warn!("cannot undo the start of {}: {undo}", record.id);
                }
                return Err(error);
            }
        };
        let init = match foreground::wait_started(&mut socket) {
            Ok(init) => init,
            Err(error) => {
                // The monitor has taken everything back, unless it was killed.
                self.repair()?;
                return Err(error);
            }
        };
        let end = match watch {
            Some(watch) => foreground::follow(socket, watch, init)?,
            None => RunEnd::Detached,
        };
        Ok(RunResult { id: record.id, end })
    }

    /// Everything of a start up to the monitor, which then has the container.
    fn launch(
        &self,
        record: &ContainerRecord,
        me: ProcessRef,
        watch: Option<&Watch>,
    ) -> Result<foreground::Connection> {
        let runtime = self.runtime_of(record)?;
        self.make_volumes(record)?;
        let held = self.hold_ports(&record.settings.ports)?;
        let sandbox = self.sandbox(record)?;
        self.write_files(record, &sandbox)?;
        crate::health::begin(record, &self.places(&record.id))?;
        // A pod's own process is no burden to anybody.
        let wants_group = record.has_files();
        let warnings = wants_group.then(|| self.make_group(record)).transpose()?;
        for warning in warnings.unwrap_or_default() {
            tracing::warn!("{warning}");
        }
        let (ours, theirs) = UnixStream::pair().map_err(Error::usage)?;
        let order = Order {
            options: self.options_with(&runtime),
            id: record.id,
            mode: Mode::Start {
                starter: me,
                netns: sandbox.netns,
                console: watch.and_then(Watch::console),
                watched: watch.is_some(),
            },
        };
        monitor::spawn(&order, held, Some(theirs), &self.places(&record.id))?;
        Ok(foreground::Connection::new(ours))
    }

    /// The one that is asked for, or that new containers get.
    pub(crate) fn runtime(&self) -> Result<Runtime> {
        Runtime::find(self.options().runtime.as_deref(), &self.options().runroot)
    }

    /// The path of the one that a new container gets. None when none is installed and none was asked for: it may come.
    pub(crate) fn wished_runtime(&self) -> Result<Option<String>> {
        let path = |runtime: Runtime| runtime.path.display().to_string();
        match self.options().runtime {
            Some(_) => self.runtime().map(|runtime| Some(path(runtime))),
            None => Ok(self.runtime().ok().map(path)),
        }
    }

    /// A container's own, whatever is asked for now: no other knows what it has made.
    pub(crate) fn runtime_of(&self, record: &ContainerRecord) -> Result<Runtime> {
        match &record.runtime {
            Some(path) => Runtime::find(Some(path), &self.options().runroot),
            None => self.runtime(),
        }
    }

    /// For a monitor: with the runtime that was looked up.
    pub(crate) fn options_with(&self, runtime: &Runtime) -> EngineOptions {
        EngineOptions { runtime: Some(runtime.path.display().to_string()), ..self.options().clone() }
    }

    /// Makes or finds the network stack the record asks for.
    fn sandbox(&self, record: &ContainerRecord) -> Result<Sandbox> {
        let attachments = match &record.settings.network.mode {
            // The runtime makes it: without endpoints there is nothing to plan.
            NetworkMode::None if self.options().rootless => return Ok(Sandbox::default()),
            NetworkMode::None => Vec::new(),
            mode @ (NetworkMode::Networks(_)
            | NetworkMode::Private(_)
            | NetworkMode::Pasta(_)
            | NetworkMode::Slirp4netns(_)) => rootless_net::wishes(mode)?.unwrap_or_default(),
            NetworkMode::Host => return Ok(Sandbox::default()),
            NetworkMode::Path(path) => {
                linux::NetNs::open(path)
                    .map_err(|e| Error::cannot_start(format!("cannot use network namespace: {e}")))?;
                return Ok(Sandbox { netns: Some(path.clone()), ..Sandbox::default() });
            }
            NetworkMode::Container(name) => return self.sandbox_of(name),
        };
        let users = self.open_users(&record.settings)?;
        let wish = SandboxWish {
            container: record.id,
            identity: Identity::of(record),
            attachments: &attachments,
            ports: &record.settings.ports,
            users: users.as_ref(),
        };
        let attached = self.networking().up(&wish)?;
        self.warn_of_blockers(&attached.endpoints);
        Ok(Sandbox { netns: Some(attached.netns), endpoints: attached.endpoints, shared_with: None })
    }

    fn sandbox_of(&self, name: &str) -> Result<Sandbox> {
        let owner = self.named(name)?;
        if owner.state != State::Running {
            let text = format!(
                "cannot join the network of container {}, which is not running: container state improper",
                owner.id
            );
            return Err(Error::new(Kind::CannotStart, text));
        }
        if let NetworkMode::Container(name) = &owner.settings.network.mode {
            return Ok(Sandbox { shared_with: Some(owner.id), ..self.sandbox_of(name)? });
        }
        crate::connect::show_sandbox(&owner)?;
        let netns = match (owner.netns, owner.init, &owner.settings.network.mode) {
            (None, Some(init), NetworkMode::None) => Some(PathBuf::from(format!("/proc/{}/ns/net", init.pid))),
            (netns, ..) => netns,
        };
        Ok(Sandbox { netns, endpoints: Vec::new(), shared_with: Some(owner.id) })
    }

    /// `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname` and the directories they and all else lie in.
    fn write_files(&self, record: &ContainerRecord, sandbox: &Sandbox) -> Result<()> {
        let places = self.places(&record.id);
        let directories = [places.upper(), places.work(), places.merged(), places.static_data(), places.run_data()];
        directories.iter().try_for_each(|dir| make_dir(dir))?;
        // The root of the container's file system: the upper directory's mode is the one seen inside.
        std::fs::set_permissions(places.upper(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|e| Error::at(places.upper().display(), e))?;
        let put = |path: PathBuf, text: &str| {
            write_atomic(&path, text.as_bytes(), 0o644, Durability::ThisBoot)
                .map_err(|e| Error::at(format!("cannot write {}", path.display()), e))
        };
        put(places.hostname(), &format!("{}\n", record.settings.hostname))?;
        put(places.run_data().join(".containerenv"), "")?;
        if let Some(owner) = &sandbox.shared_with {
            return self.share_files(record, &places, &self.places(owner));
        }
        let network = &record.settings.network;
        if !network.no_hosts {
            let host_ip = self.host_ip(&network.mode, &sandbox.endpoints)?;
            put(places.hosts(), &self.hosts_text(record, &sandbox.endpoints, host_ip)?)?;
        }
        if wants_resolv_conf(network) {
            put(places.resolv_conf(), &resolv_conf_text(network, &sandbox.endpoints, self.options().rootless))?;
        }
        Ok(())
    }

    pub(crate) fn hosts_text(
        &self,
        record: &ContainerRecord,
        endpoints: &[AttachedEndpoint],
        host_ip: Option<IpAddr>,
    ) -> Result<String> {
        let settings = &record.settings;
        let base = match &settings.network.base_hosts {
            BaseHosts::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
            BaseHosts::Image => self.hosts_of_image(record)?,
            BaseHosts::File(path) => std::fs::read_to_string(path).map_err(|e| Error::at(path.display(), e))?,
            BaseHosts::Nothing => String::new(),
        };
        let host_ip = match settings.network.host_internal {
            HostInternal::Found => host_ip,
            HostInternal::Is(ip) => Some(ip),
            HostInternal::Nothing => None,
        };
        let own: Vec<IpAddr> = match settings.network.mode {
            NetworkMode::Host => Vec::new(),
            NetworkMode::None => vec![std::net::Ipv4Addr::LOCALHOST.into()],
            _ => endpoints.iter().flat_map(|e| &e.endpoint.addrs).map(|addr| addr.ip).collect(),
        };
        let file = HostsFile {
            added: &settings.network.add_hosts,
            host_file: &base,
            host_ip,
            own: &own,
            own_names: &[settings.hostname.as_str(), record.name.as_str()],
        };
        Ok(file.text())
    }

    /// The image's /etc/hosts, from its topmost layer that has one; no link in an image is followed.
    fn hosts_of_image(&self, record: &ContainerRecord) -> Result<String> {
        let layers = if record.has_files() { self.layers_below(record)? } else { Vec::new() };
        for layer in layers {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let found = openat(CWD, &layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Permissions::empty())
                .and_then(|layer| openat2(&layer, "etc/hosts", flags, Permissions::empty(), beneath));
            let Ok(file) = found.map(std::fs::File::from) else { continue };
            // Not a file: a whiteout, or nothing that lines are read from.
            let mut text = String::new();
            if file.metadata().is_ok_and(|meta| meta.is_file())
                && file.take(HOSTS_MAX).read_to_string(&mut text).is_err()
            {
                text.clear();
            }
            return Ok(text);
        }
        Ok(String::new())
    }

    /// The host as the container reaches it: the first network's gateway, IPv4 preferred. Behind an ordinary user's
    /// relay, an address that the relay knows; where no gateway is the host, the host's own.
    pub(crate) fn host_ip(&self, mode: &NetworkMode, endpoints: &[AttachedEndpoint]) -> Result<Option<IpAddr>> {
        match mode {
            NetworkMode::None => return self.own_address(),
            NetworkMode::Host => return Ok(Some(std::net::Ipv4Addr::LOCALHOST.into())),
            mode if self.options().rootless && mode.is_networked() => return Ok(Some(rootless_net::host_ip(mode))),
            _ => {}
        }
        // The gateway of a LAN is another machine.
        let ours = || endpoints.iter().filter(|attached| !attached.is_on_lan());
        let gateways = || ours().flat_map(|attached| &attached.network_gateways).copied();
        match gateways().find(IpAddr::is_ipv4).or_else(|| gateways().next()) {
            None if !endpoints.is_empty() && ours().next().is_none() => self.own_address(),
            gateway => Ok(gateway),
        }
    }

    /// The first of the host's addresses that is not a gateway of ours.
    fn own_address(&self) -> Result<Option<IpAddr>> {
        let facts =
            linux::netns::home().run(|| host::Host::open().map_err(Error::usage)?.facts().map_err(Error::usage))?;
        let networks = self.store.read(|tx| tx.networks(&self.scope))?;
        let gateways: Vec<_> = networks.iter().flat_map(|n| &n.subnets).filter_map(|subnet| subnet.gateway).collect();
        Ok(facts.addresses.into_iter().find(|ip| !gateways.contains(ip)))
    }

    /// Containers of one sandbox see the same files: hard links to the owner's.
    fn share_files(
        &self,
        record: &ContainerRecord,
        places: &crate::engine::Places,
        owner: &crate::engine::Places,
    ) -> Result<()> {
        use std::io::Write;
        let hosts = (!record.settings.network.no_hosts).then(|| (owner.hosts(), places.hosts()));
        for (theirs, ours) in hosts.into_iter().chain([(owner.resolv_conf(), places.resolv_conf())]) {
            match std::fs::hard_link(&theirs, &ours) {
                Err(e) if e.kind() != io::ErrorKind::NotFound && e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::at(format!("cannot share {}", theirs.display()), e));
                }
                _ => {}
            }
        }
        if record.settings.network.no_hosts || !places.hosts().exists() {
            return Ok(());
        }
        let line = sharer_line(record);
        let file = std::fs::OpenOptions::new().append(true).open(places.hosts());
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|e| Error::at(places.hosts().display(), e))
    }
}

/// The network stack of a container that is being started.
#[derive(Default)]
struct Sandbox {
    /// `None`: the host's.
    netns: Option<PathBuf>,
    endpoints: Vec<AttachedEndpoint>,
    /// The container whose it is.
    shared_with: Option<ContainerId>,
}

/// Podman gives a container without network no resolv.conf.
pub(crate) fn wants_resolv_conf(network: &config::NetworkConfig) -> bool {
    network.mode != NetworkMode::None && network.dns != config::Dns::Image
}

/// The container's resolv.conf, when it is on these networks. `rootless`: behind an ordinary user's relay.
pub(crate) fn resolv_conf_text(
    network: &config::NetworkConfig,
    endpoints: &[AttachedEndpoint],
    rootless: bool,
) -> String {
    let ipv6 = endpoints.iter().any(|e| e.endpoint.ip(false).is_some());
    let reachable = |attached: &AttachedEndpoint, ip: &IpAddr| attached.endpoint.ip(ip.is_ipv4()).is_some();
    let named = endpoints.iter().filter(|attached| attached.dns);
    let gateways: Vec<IpAddr> = named
        .flat_map(|attached| attached.network_gateways.iter().filter(|ip| reachable(attached, ip)).copied())
        .collect();
    if let NetworkMode::Path(path) = &network.mode
        && let Some(conf) = ResolvConf::of_namespace(path)
    {
        return conf.for_container(network, &ResolvAround { ipv6: true, ..ResolvAround::default() }).text();
    }
    let forwarders =
        if rootless && network.mode.is_networked() { rootless_net::forwarders(&network.mode) } else { Vec::new() };
    let learned = endpoints.iter().filter_map(|attached| attached.learned.clone()).collect();
    let around = ResolvAround { own_stack: spec::own_stack(&network.mode), ipv6, gateways, forwarders, learned };
    host_resolv_conf().for_container(network, &around).text()
}

/// How a container that shares another's network is found there.
pub(crate) fn sharer_line(record: &ContainerRecord) -> String {
    format!("127.0.0.1\t{}\n", record.name)
}
