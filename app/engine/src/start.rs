//! Starting a container: everything up to its monitor.
//!
//! ```text
//!   claim the record ─> hold ports ─> Networking::up ─> hosts, resolv.conf, hostname ─> monitor ─> Started
//!        └──────────── whoever fails takes back what is there, in one place: take_down ────────────┘
//! ```

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use linux::file::{Durability, write_atomic};
use linux::{ProcessRef, ports};
use model::{ContainerId, HostAddress, PortMapping, Protocol};

use crate::config::{ContainerConfig, NetworkMode};
use crate::endpoints::AttachedEndpoint;
use crate::engine::{Engine, EngineOptions, load, make_dir, no_such_container, save};
use crate::error::{Error, Kind, Result};
use crate::files::{HostsFile, host_resolv_conf};
use crate::foreground::{self, Watch};
use crate::monitor::{self, Mode, Order};
use crate::networking::SandboxWish;
use crate::record::{ContainerRecord, Fate, State};
use crate::talk::{Attach, RunEnd, RunResult, Talk};
use crate::{config, spec};

impl Engine {
    /// Makes a container and starts it: all or nothing. Fails before the command runs and leaves no
    /// container, or the command ran.
    pub fn run(&mut self, config: ContainerConfig, attach: Attach, talk: &mut Talk<'_>) -> Result<RunResult> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        let mut record = self.prepare(config, talk)?;
        record.state = State::Starting;
        record.owner = Some(me);
        record.fate = Some(Fate::Vanish { volumes: true });
        self.insert(&record)?;
        self.start_claimed(&record, me, attach)
    }

    /// Starts a container that is down.
    pub fn start(&mut self, id: &ContainerId, attach: Attach) -> Result<RunResult> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        let record = self.store.write(|tx| {
            let mut record = load(tx, id)?.ok_or_else(|| no_such_container(&id.to_string()))?;
            if !record.state.at_rest() {
                return Err(Error::new(
                    Kind::WrongState,
                    format!("container {id} is {}: container state improper", record.state),
                ));
            }
            record.fate = Some(Fate::Return(record.state));
            record.state = State::Starting;
            record.owner = Some(me);
            save(tx, &record)?;
            Ok(record)
        })?;
        self.start_claimed(&record, me, attach)
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
        let runtime = self.runtime()?;
        self.make_volumes(record)?;
        let held = self.hold_ports(&record.settings.ports)?;
        let sandbox = self.sandbox(record)?;
        self.write_files(record, &sandbox)?;
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

    pub(crate) fn runtime(&self) -> Result<crate::runtime::Runtime> {
        crate::runtime::Runtime::find(self.options().runtime.as_deref(), &self.options().runroot)
    }

    /// For a monitor: with the runtime that was looked up.
    pub(crate) fn options_with(&self, runtime: &crate::runtime::Runtime) -> EngineOptions {
        EngineOptions { runtime: Some(runtime.path.display().to_string()), ..self.options().clone() }
    }

    /// Sockets on all published ports; a busy one is refused before anything is made.
    pub(crate) fn hold_ports(&self, mappings: &[PortMapping]) -> Result<Vec<OwnedFd>> {
        let mut held = Vec::new();
        for mapping in mappings {
            let hold = ports::hold_range(mapping.host, mapping.host_port, mapping.range, mapping.protocol);
            held.extend(hold.map_err(|e| self.cannot_bind(mapping, &e))?.sockets);
        }
        Ok(held)
    }

    fn cannot_bind(&self, mapping: &PortMapping, error: &io::Error) -> Error {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            _ => error.to_string(),
        };
        let port = busy_port(mapping);
        let at = match mapping.host.exact() {
            Some(ip) => std::net::SocketAddr::new(ip, port).to_string(),
            None => format!(":{port}"),
        };
        let holder = match self.store.read(|tx| tx.port_clash(mapping)) {
            Ok(Some((id, _))) => self.record(&id).ok(),
            _ => None,
        };
        let holder = holder.map_or_else(String::new, |record| format!(" (by the container {})", record.name));
        Error::cannot_start(format!("cannot bind {} port {at}: {reason}{holder}", mapping.protocol))
    }

    /// Makes or finds the network stack the record asks for.
    fn sandbox(&self, record: &ContainerRecord) -> Result<Sandbox> {
        let attachments = match &record.settings.network.mode {
            NetworkMode::Networks(attachments) => attachments.as_slice(),
            NetworkMode::None => &[],
            NetworkMode::Host => return Ok(Sandbox::default()),
            NetworkMode::Path(path) => {
                linux::NetNs::open(path)
                    .map_err(|e| Error::cannot_start(format!("cannot use network namespace: {e}")))?;
                return Ok(Sandbox { netns: Some(path.clone()), ..Sandbox::default() });
            }
            NetworkMode::Container(name) => return self.sandbox_of(name),
        };
        let wish = SandboxWish { container: record.id, attachments, ports: &record.settings.ports };
        let attached = self.networking().up(&wish)?;
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
        crate::connect::show_sandbox(&owner)?;
        Ok(Sandbox { netns: owner.netns, endpoints: Vec::new(), shared_with: Some(owner.id) })
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
            let host_ip = match &network.mode {
                NetworkMode::None => self.own_address()?,
                mode => host_ip(mode, &sandbox.endpoints),
            };
            put(places.hosts(), &hosts_text_with(record, &sandbox.endpoints, host_ip))?;
        }
        if wants_resolv_conf(network) {
            let ipv6 = sandbox.endpoints.iter().any(|e| e.endpoint.addrs.iter().any(|addr| addr.ip.is_ipv6()));
            let own_stack = spec::own_stack(&network.mode);
            put(places.resolv_conf(), &host_resolv_conf().for_container(network, own_stack, ipv6).text())?;
        }
        Ok(())
    }

    /// The first of the host's addresses that is not a gateway of ours.
    fn own_address(&self) -> Result<Option<IpAddr>> {
        let facts = host::Host::open().map_err(Error::usage)?.facts().map_err(Error::usage)?;
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
        for (theirs, ours) in [(owner.hosts(), places.hosts()), (owner.resolv_conf(), places.resolv_conf())] {
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
        let line = format!("127.0.0.1\t{}\n", record.name);
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
fn wants_resolv_conf(network: &config::NetworkConfig) -> bool {
    network.mode != NetworkMode::None && network.dns != config::Dns::Image
}

pub(crate) fn hosts_text(record: &ContainerRecord, endpoints: &[AttachedEndpoint]) -> String {
    hosts_text_with(record, endpoints, host_ip(&record.settings.network.mode, endpoints))
}

fn hosts_text_with(record: &ContainerRecord, endpoints: &[AttachedEndpoint], host_ip: Option<IpAddr>) -> String {
    let settings = &record.settings;
    let host_file = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let own: Vec<IpAddr> = match settings.network.mode {
        NetworkMode::Host => Vec::new(),
        NetworkMode::None => vec![std::net::Ipv4Addr::LOCALHOST.into()],
        _ => endpoints.iter().flat_map(|e| &e.endpoint.addrs).map(|addr| addr.ip).collect(),
    };
    let file = HostsFile {
        added: &settings.network.add_hosts,
        host_file: &host_file,
        host_ip,
        own: &own,
        own_names: &[settings.hostname.as_str(), record.name.as_str()],
    };
    file.text()
}

/// The host as the container reaches it: the first network's gateway, IPv4 preferred.
fn host_ip(mode: &NetworkMode, endpoints: &[AttachedEndpoint]) -> Option<IpAddr> {
    if *mode == NetworkMode::Host {
        return Some(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let gateways = || endpoints.iter().flat_map(|endpoint| &endpoint.network_gateways).copied();
    gateways().find(IpAddr::is_ipv4).or_else(|| gateways().next())
}

/// The first port of the mapping that somebody has; the first one when that cannot be told.
fn busy_port(mapping: &PortMapping) -> u16 {
    let busy = |port: &u16| ports::hold(mapping.host, *port, mapping.protocol).is_err();
    let last = mapping.host_port.saturating_add(mapping.range.saturating_sub(1));
    (mapping.host_port..=last).find(busy).unwrap_or(mapping.host_port)
}

/// Chooses host ports for what was published without one, and checks those that were.
pub(crate) fn choose_port(host: HostAddress, range: u16, protocol: Protocol) -> Result<u16> {
    ports::free_ports(host, range, protocol)
        .map(|(first, _)| first)
        .map_err(|e| Error::cannot_start(format!("cannot find a free {protocol} port: {e}")))
}
