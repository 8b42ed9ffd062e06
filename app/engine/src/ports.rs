//! Published ports: held while a container runs, and changed while it does.
//!
//! ```text
//!   update --publish-add 9090:90 --publish-rm 8080
//!     command ── Hold [all ports as they shall be] ──> monitor: binds what it has not ── Held | Failed
//!        └─ one transaction: record, ports, endpoint, journal ─> plan ─> apply
//!     command ── Settle ──────────────────────────────> monitor: closes what the store does not name ── Held
//! ```
//!
//! **How it works.** The monitor has a socket on every published port, so that nobody else binds it, and none may
//! bind what it would need: whatever is refused is refused before anything has changed. What it holds for a command
//! is the command's until that settles or is gone; then the monitor does as the store says, whichever moment the
//! command was killed at.
//!
//! **Invariants.** A port that stays published is never let go: neither its socket nor its element in the firewall
//! is touched. No moment has a published port that is not held, nor a new one that somebody else has.
//!
//! **Limits.** Besides every port of `[::1]` itself ([`RELAYED_MAX`] per mapping), the first [`RELAYED`] ports that
//! are published on all addresses are relayed from `[::1]`; a range is or is not, as a whole. A long range is held as
//! far as descriptors go ([`linux::ports::hold_range`]).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use linux::netns::home;
use linux::ports::{self, Claim};
use linux::{HostLock, ProcessRef};
use model::{ContainerId, HostAddress, PortMapping, PortSpec, Protocol, Unpublish};
use plan::Plan;
use store::{Store, Tx};

use crate::connect::Mode;
use crate::engine::{Engine, load, save};
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::networking::Change;
use crate::protocol::Frame;
use crate::record::{ContainerRecord, State};
use crate::relay::{Relay, loopback6};

/// Ports published on all addresses that are also served on `[::1]`, per container.
const RELAYED: usize = 64;

/// Ports of one mapping on `[::1]`.
pub(crate) const RELAYED_MAX: u16 = 1024;

/// `update --publish-add --publish-rm`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortsUpdate {
    /// To be published.
    pub add: Vec<PortSpec>,
    /// To be published no more. Taken out first: a port may be published anew in the same breath.
    pub remove: Vec<Unpublish>,
}

impl PortsUpdate {
    /// The ports afterwards, with those that were left open chosen.
    fn of(&self, before: &[PortMapping]) -> Result<Vec<PortMapping>> {
        let kept = self.remove.iter().try_fold(before.to_vec(), |ports, gone| gone.remains_of(&ports))?;
        let mut ports = kept;
        for spec in &self.add {
            let chosen = spec.host_port.map_or_else(|| choose(spec.host, spec.range, spec.protocol), Ok);
            let mapping = spec.at(chosen.map_err(|e| Error::usage(e.message))?);
            if let Some(other) = ports.iter().find(|other| other.clashes(&mapping)) {
                let whose = format!("published to {}/{} already", other.container_port, other.protocol);
                return Err(Error::usage(busy(
                    &mapping,
                    mapping.host_port,
                    &format!("address already in use ({whose})"),
                )));
            }
            ports.push(mapping);
        }
        Ok(ports)
    }
}

impl Engine {
    /// Publishes and unpublishes ports of a container: at once when it runs, else when it is started. Connections
    /// stay, those by an unpublished port included; UDP clients of it are forgotten.
    ///
    /// On failure nothing has changed. With [`Mode::DryRun`] the plan is what would change in the kernel.
    pub fn update_ports(&mut self, name: &str, update: &PortsUpdate, mode: Mode) -> Result<(ContainerId, Plan)> {
        let id = self.find(name)?;
        self.wait_settled(&id)?;
        let record = self.record(&id)?;
        if *update == PortsUpdate::default() {
            return Ok((id, Plan::default()));
        }
        can_publish(&record)?;
        let plan = match (record.state, mode) {
            (State::Running, Mode::DryRun) => self.plan_of_update(&record, update)?,
            (_, Mode::DryRun) => {
                update.of(&record.settings.ports)?;
                Plan::default()
            }
            (State::Running, Mode::Apply) => {
                self.update_running(&record, update)?;
                Plan::default()
            }
            (_, Mode::Apply) => {
                self.update_at_rest(&record, update)?;
                Plan::default()
            }
        };
        Ok((id, plan))
    }

    fn update_at_rest(&self, record: &ContainerRecord, update: &PortsUpdate) -> Result<()> {
        self.store.write(|tx| {
            let mut record =
                load(tx, &record.id)?.filter(|record| record.state.at_rest()).ok_or_else(|| moved(record))?;
            record.settings.ports = update.of(&record.settings.ports)?;
            save(tx, &record)?;
            Ok(tx.event_add(&events::of_container(&record, "update"))?)
        })
    }

    fn update_running(&self, record: &ContainerRecord, update: &PortsUpdate) -> Result<()> {
        // One update at a time: each is computed from what the one before has left.
        let path = self.places(&record.id).run_data().join("ports.lock");
        let _lock = HostLock::take(&path).map_err(|e| Error::at(format!("cannot lock {}", path.display()), e))?;
        let record = self.record(&record.id)?;
        let after = update.of(&record.settings.ports)?;
        if self.options().rootless {
            // The relay holds them.
            return self.change(&record, &Change::Ports(&after, record.init));
        }
        let lost =
            || Error::usage(format!("the monitor of container {} does not answer: restart the container", record.id));
        let mut monitor = self.connect(&record.id)?.ok_or_else(lost)?;
        let mut ask = |frame: &Frame| {
            monitor.say(frame)?;
            loop {
                match monitor.next()? {
                    Some(Frame::Held) => return Ok(()),
                    Some(Frame::Failed(_, message)) => return Err(Error::usage(message)),
                    // It is told to everybody.
                    Some(Frame::Started(_)) => {}
                    Some(Frame::Exited(_)) => return Err(moved(&record)),
                    Some(_) | None => return Err(lost()),
                }
            }
        };
        ask(&Frame::Hold(after.clone()))?;
        self.change(&record, &Change::Ports(&after, record.init))?;
        // From here on it is done: one that has died settles with the store when it is replaced, or is down.
        if let Err(error) = ask(&Frame::Settle) {
            tracing::debug!(container = %record.id, %error, "its monitor cannot be told of its ports");
        }
        Ok(())
    }

    fn plan_of_update(&self, record: &ContainerRecord, update: &PortsUpdate) -> Result<Plan> {
        let before = &record.settings.ports;
        let after = update.of(before)?;
        // What the container itself holds now is no obstacle.
        for mapping in after.iter().filter(|mapping| !before.iter().any(|held| held.clashes(mapping))) {
            self.could_hold(&[*mapping]).map_err(|error| Error::usage(error.message))?;
        }
        self.plan_change(record, &Change::Ports(&after, record.init))
    }

    /// Sockets on all published ports; a busy one is refused before anything is made. An ordinary user's relay has
    /// them itself.
    pub(crate) fn hold_ports(&self, mappings: &[PortMapping]) -> Result<Vec<OwnedFd>> {
        if self.options().rootless {
            return Ok(Vec::new());
        }
        hold_all(mappings).map_err(|(mapping, e)| cannot_bind(&self.store, &mapping, &e))
    }

    /// Can all of them be had now? Where they are published.
    pub(crate) fn could_hold(&self, mappings: &[PortMapping]) -> Result<()> {
        let held = home().run(|| hold_all(mappings).map(drop));
        held.map_err(|(mapping, e)| cannot_bind(&self.store, &mapping, &e))
    }
}

/// Has it ports to publish?
fn can_publish(record: &ContainerRecord) -> Result<()> {
    if record.settings.network.mode.is_networked() {
        return Ok(());
    }
    let mode = record.settings.network.mode.word();
    let text =
        format!("cannot publish ports of container {}: network mode {mode:?} does not support them", record.name);
    Err(Error::usage(text))
}

fn moved(record: &ContainerRecord) -> Error {
    let text = format!("container {} was started or stopped at the same time: container state improper", record.id);
    Error::new(Kind::WrongState, text)
}

/// Records a container's ports as they shall be. `init`: of a container whose first process it is; absent when a
/// change is taken back.
pub(crate) fn record(
    tx: &Tx<'_>,
    container: &ContainerId,
    ports: &[PortMapping],
    init: Option<ProcessRef>,
) -> Result<()> {
    let Some(mut record) = load(tx, container)? else { return Ok(()) };
    if init.is_some() && record.init != init {
        return Err(moved(&record));
    }
    record.settings.ports = ports.to_vec();
    save(tx, &record)?;
    if init.is_some() {
        tx.event_add(&events::of_container(&record, "update"))?;
    }
    Ok(())
}

/// Chooses host ports for what was published without one.
pub(crate) fn choose(host: HostAddress, range: u16, protocol: Protocol) -> Result<u16> {
    home()
        .run(|| ports::free_ports(host, range, protocol))
        .map(|(first, _)| first)
        .map_err(|e| Error::cannot_start(format!("cannot find a free {protocol} port: {e}")))
}

/// Why a port cannot be held, in Podman's words, with the container that has it.
fn cannot_bind(store: &Store, mapping: &PortMapping, error: &io::Error) -> Error {
    cannot_bind_port(store, mapping, busy_port(mapping), error)
}

/// As above, of a port that is known.
pub(crate) fn cannot_bind_port(store: &Store, mapping: &PortMapping, port: u16, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Error::cannot_start(privileged(mapping, port));
    }
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        _ => error.to_string(),
    };
    let holder = store.read(|tx| {
        let clash = tx.port_clash(mapping)?;
        clash.map(|(id, _)| load(tx, &id)).transpose().map(Option::flatten)
    });
    let holder = holder.ok().flatten().filter(|_| error.kind() == io::ErrorKind::AddrInUse);
    let holder = holder.map_or_else(String::new, |record| format!(" (by the container {})", record.name));
    Error::cannot_start(busy(mapping, port, &format!("{reason}{holder}")))
}

/// What an ordinary user is told, in Podman's words.
fn privileged(mapping: &PortMapping, port: u16) -> String {
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = home().run(read).ok().and_then(|text| text.trim().parse::<u16>().ok()).unwrap_or(1024);
    let ip = mapping.host.exact().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    format!(
        "rootlessport cannot expose privileged port {port}, you can add 'net.ipv4.ip_unprivileged_port_start={port}' to \
         /etc/sysctl.conf (currently {first}), or choose a larger port number (>= {first}): listen {} {}: bind: \
         permission denied",
        mapping.protocol,
        SocketAddr::new(ip, port)
    )
}

fn busy(mapping: &PortMapping, port: u16, reason: &str) -> String {
    let at = match mapping.host.exact() {
        Some(ip) => SocketAddr::new(ip, port).to_string(),
        None => format!(":{port}"),
    };
    format!("cannot bind {} port {at}: {reason}", mapping.protocol)
}

/// The first port of the mapping that somebody has; the first one when that cannot be told.
fn busy_port(mapping: &PortMapping) -> u16 {
    let busy = |port: &u16| ports::hold(mapping.host, *port, mapping.protocol).is_err();
    home().run(|| mapping.host_ports().find(busy)).unwrap_or(mapping.host_port)
}

/// All or nothing; the mapping that cannot be held.
fn hold_all(mappings: &[PortMapping]) -> Result<Vec<OwnedFd>, (PortMapping, io::Error)> {
    let mut held = Vec::new();
    for (mapping, relayed) in with_relay(mappings) {
        held.extend(hold(&mapping, relayed).map_err(|e| (mapping, e))?);
    }
    Ok(held)
}

/// Those that nobody else has.
pub(crate) fn hold_what_is_free(mappings: &[PortMapping]) -> Vec<OwnedFd> {
    with_relay(mappings).flat_map(|(mapping, relayed)| hold(&mapping, relayed).unwrap_or_default()).collect()
}

fn hold(mapping: &PortMapping, relayed: bool) -> io::Result<Vec<OwnedFd>> {
    let hold = if relayed { ports::hold_relayed_range } else { ports::hold_range };
    Ok(hold(mapping.host, mapping.host_port, mapping.range, mapping.protocol)?.sockets)
}

/// Each with whether it is relayed from `[::1]`.
fn with_relay(mappings: &[PortMapping]) -> impl Iterator<Item = (PortMapping, bool)> {
    let mut room = RELAYED;
    mappings.iter().map(move |mapping| {
        let count = usize::from(mapping.range);
        let relayed = is_relayable(mapping) && (mapping.host.exact().is_some() || count <= room);
        if relayed && mapping.host.exact().is_none() {
            room -= count;
        }
        (*mapping, relayed)
    })
}

/// Is every port of the mapping relayed from `[::1]`, whatever else is published with it?
pub(crate) fn is_relayed_whole(mapping: &PortMapping) -> bool {
    is_relayable(mapping) && (mapping.host.exact().is_some() || usize::from(mapping.range) <= RELAYED)
}

fn is_relayable(mapping: &PortMapping) -> bool {
    mapping.protocol != Protocol::Sctp && ports::includes_loopback6(mapping.host)
}

/// Why a mapping on `[::1]` cannot be served, if it cannot.
pub(crate) fn cannot_relay(mapping: &PortMapping) -> Option<String> {
    mapping.host.exact().filter(|ip| ip.is_ipv6() && ip.is_loopback())?;
    if mapping.protocol == Protocol::Sctp {
        return Some(format!("cannot publish {mapping}: on [::1] only tcp and udp can be published"));
    }
    (mapping.range > RELAYED_MAX)
        .then(|| format!("cannot publish {mapping}: at most {RELAYED_MAX} ports at a time can be published on [::1]"))
}

/// What a monitor holds of its container's ports.
pub(crate) struct Holds {
    /// Where the store is.
    root: PathBuf,
    container: ContainerId,
    sockets: Vec<Hold>,
    /// What commands that are still there want beside what the store says.
    wishes: Vec<(u64, Vec<PortMapping>)>,
    relay: Option<Relay>,
    /// Does it pass on what comes to `[::1]`?
    serving: bool,
}

/// One socket.
struct Hold {
    claim: Claim,
    /// `None` when the relay has it.
    socket: Option<OwnedFd>,
}

impl Holds {
    /// `sockets`: given by whoever has started the monitor.
    pub(crate) fn new(root: PathBuf, container: ContainerId, sockets: Vec<OwnedFd>) -> Self {
        let mut holds = Self { root, container, sockets: Vec::new(), wishes: Vec::new(), relay: None, serving: false };
        holds.take(sockets);
        holds
    }

    /// Passes on what comes to `[::1]` from now on. To be called when SIGCHLD is blocked: the relay's thread must
    /// not be the one that hears it.
    pub(crate) fn serve(&mut self) {
        self.serving = true;
        self.hand_over();
    }

    /// Lets everything go.
    pub(crate) fn release(&mut self) {
        self.relay = None;
        self.sockets.clear();
        self.serving = false;
    }

    /// Holds what `ports` need beside what is held, for a command. On an error all is as before.
    pub(crate) fn hold(&mut self, command: u64, ports: &[PortMapping]) -> Result<()> {
        match self.add(ports) {
            Ok(()) => {
                self.wishes.push((command, ports.to_vec()));
                Ok(())
            }
            Err((mapping, error)) => {
                let error = match Store::open(&self.root) {
                    Ok(store) => cannot_bind(&store, &mapping, &error),
                    Err(unreadable) => unreadable.into(),
                };
                self.settle_with_store();
                Err(error)
            }
        }
    }

    /// The command is done, or gone: what it wished counts only as far as the store says so.
    pub(crate) fn settle(&mut self, command: u64) {
        let wishes = self.wishes.len();
        self.wishes.retain(|(whose, _)| *whose != command);
        if self.wishes.len() < wishes {
            self.settle_with_store();
        }
    }

    fn settle_with_store(&mut self) {
        let ports = Store::open(&self.root).and_then(|store| store.read(|tx| tx.ports_of(&self.container)));
        let ports = match ports {
            Ok(ports) => ports,
            // Too many are held then, until the next time.
            Err(error) => return tracing::warn!(%error, "cannot look up the published ports"),
        };
        let wanted: Vec<PortMapping> = self.wishes.iter().flat_map(|(_, ports)| ports).chain(&ports).copied().collect();
        self.close(|claim| !wanted.iter().any(|mapping| needs(mapping, claim)));
        for mapping in &ports {
            if let Err((mapping, error)) = self.add(std::slice::from_ref(mapping)) {
                tracing::warn!(%mapping, %error, "a published port is not held");
            }
        }
    }

    /// Binds what is not held yet. Sockets in the way are closed: `ports` do not clash with each other, so those
    /// are of ports that shall not be published any more.
    fn add(&mut self, ports: &[PortMapping]) -> Result<(), (PortMapping, io::Error)> {
        for (mapping, relayed) in with_relay(ports) {
            for run in self.missing(&mapping) {
                self.close(|claim| {
                    claim.protocol == run.protocol && has(&run, claim.port) && run.host.overlaps(claim.host)
                });
                let sockets = hold(&run, relayed).map_err(|e| (run, e))?;
                self.take(sockets);
            }
        }
        Ok(())
    }

    /// The parts of the mapping whose ports are not held.
    fn missing(&self, mapping: &PortMapping) -> Vec<PortMapping> {
        let claims: BTreeSet<Claim> = self.sockets.iter().map(|hold| hold.claim).collect();
        let held = |host: HostAddress, port: u16| claims.contains(&Claim { host, port, protocol: mapping.protocol });
        let is_held = |port: u16| held(mapping.host, port) || (mapping.host == HostAddress::Any && held(ANY4, port));
        let mut runs: Vec<PortMapping> = Vec::new();
        for port in mapping.host_ports().filter(|port| !is_held(*port)) {
            match runs.last_mut().filter(|run| u32::from(run.host_port) + u32::from(run.range) == u32::from(port)) {
                Some(run) => run.range += 1,
                None => {
                    let container_port = mapping.container_port.saturating_add(port - mapping.host_port);
                    runs.push(PortMapping { host_port: port, container_port, range: 1, ..*mapping });
                }
            }
        }
        runs
    }

    fn take(&mut self, sockets: Vec<OwnedFd>) {
        let claims = sockets.into_iter().filter_map(|socket| Some((Claim::of(&socket)?, socket)));
        self.sockets.extend(claims.map(|(claim, socket)| Hold { claim, socket: Some(socket) }));
        self.hand_over();
    }

    /// Gives the relay what is its.
    fn hand_over(&mut self) {
        let waits = |hold: &Hold| hold.socket.is_some() && is_relayed(&hold.claim);
        if !self.serving || !self.sockets.iter().any(waits) {
            return;
        }
        if self.relay.is_none() {
            match Relay::start(self.root.clone(), self.container) {
                Ok(relay) => self.relay = Some(relay),
                Err(error) => return tracing::warn!(%error, "nothing is served on [::1]"),
            }
        }
        let Some(relay) = &self.relay else { return };
        for hold in self.sockets.iter_mut().filter(|hold| waits(hold)) {
            if let Some(socket) = hold.socket.take() {
                relay.serve(hold.claim, socket);
            }
        }
    }

    fn close(&mut self, goes: impl Fn(&Claim) -> bool) {
        let (gone, kept): (Vec<Hold>, Vec<Hold>) = self.sockets.drain(..).partition(|hold| goes(&hold.claim));
        self.sockets = kept;
        let relayed: Vec<Claim> = gone.iter().filter(|hold| hold.socket.is_none()).map(|hold| hold.claim).collect();
        if let Some(relay) = self.relay.as_ref().filter(|_| !relayed.is_empty()) {
            relay.leave(relayed);
        }
    }
}

/// What [`HostAddress::Any`] is held by on a kernel without IPv6.
const ANY4: HostAddress = HostAddress::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// Is it a socket for the relay?
fn is_relayed(claim: &Claim) -> bool {
    claim.protocol != Protocol::Sctp && *claim == loopback6(claim.port, claim.protocol)
}

/// Is the socket there for the sake of this mapping?
fn needs(mapping: &PortMapping, claim: &Claim) -> bool {
    let holds = claim.host == mapping.host || (mapping.host == HostAddress::Any && claim.host == ANY4);
    claim.protocol == mapping.protocol
        && has(mapping, claim.port)
        && (holds || (is_relayed(claim) && is_relayable(mapping)))
}

fn has(mapping: &PortMapping, port: u16) -> bool {
    port.checked_sub(mapping.host_port).is_some_and(|n| n < mapping.range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> PortMapping {
        let spec: PortSpec = text.parse().unwrap();
        spec.at(spec.host_port.unwrap())
    }

    fn relayed(ports: &[&str], which: &[bool]) {
        let ports: Vec<_> = ports.iter().map(|text| mapping(text)).collect();
        assert_eq!(with_relay(&ports).map(|(_, relayed)| relayed).collect::<Vec<_>>(), which);
    }

    #[test]
    fn the_first_ports_on_all_addresses_and_every_one_on_loopback_are_relayed() {
        relayed(&["8080:80", "[::]:8081:80", "0.0.0.0:8082:80", "127.0.0.1:8083:80"], &[true, true, false, false]);
        relayed(&["8080:80/udp", "8080:80/sctp", "[fd99::109]:8080:80"], &[true, false, false]);
        relayed(&["1000-1060:1000-1060", "2000-2009:2000-2009", "3000:80"], &[true, false, true]);
        relayed(&["[::1]:1000-1100:1000-1100", "3000:80"], &[true, true]);
    }

    #[test]
    fn sockets_are_kept_for_the_ports_they_are_of() {
        let claim = |host: &str, port| Claim { host: host.parse().unwrap(), port, protocol: Protocol::Tcp };
        assert!(needs(&mapping("8080-8081:80-81"), &claim("", 8081)));
        assert!(!needs(&mapping("8080-8081:80-81"), &claim("", 8082)));
        assert!(needs(&mapping("8080:80"), &claim("0.0.0.0", 8080)));
        assert!(needs(&mapping("8080:80"), &claim("::1", 8080)));
        assert!(!needs(&mapping("127.0.0.1:8080:80"), &claim("::1", 8080)));
        assert!(!needs(&mapping("127.0.0.1:8080:80"), &claim("", 8080)));
        assert!(!needs(&mapping("8080:80/udp"), &claim("", 8080)));
    }

    #[test]
    fn an_update_takes_out_first_and_then_adds() {
        let after = |before: &[&str], remove: &[&str], add: &[&str]| {
            let update = PortsUpdate {
                add: add.iter().map(|text| text.parse().unwrap()).collect(),
                remove: remove.iter().map(|text| text.parse().unwrap()).collect(),
            };
            let before: Vec<_> = before.iter().map(|text| mapping(text)).collect();
            match update.of(&before) {
                Ok(ports) => ports.iter().map(PortMapping::to_string).collect::<Vec<_>>().join(" "),
                Err(error) => error.message,
            }
        };
        assert_eq!(after(&["8080:80"], &["8080"], &["127.0.0.1:8080:80"]), "127.0.0.1:8080:80/tcp");
        assert_eq!(after(&["8080:80"], &[], &["9090:80"]), "8080:80/tcp 9090:80/tcp");
        assert_eq!(
            after(&["8080:80"], &[], &["127.0.0.1:8080:81"]),
            "cannot bind tcp port 127.0.0.1:8080: address already in use (published to 80/tcp already)"
        );
        assert_eq!(after(&["8080:80"], &["81"], &[]), "cannot unpublish 81/tcp: published are 8080:80/tcp");
    }
}
