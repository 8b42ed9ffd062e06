//! Networks and attachments: from wishes to plans, journaled, applied, repaired.
//!
//! ```text
//!   network_up ──┐                    ┌─ leases, attachments, ports ─┐
//!   network_down ┼─ host lock ─ one transaction ─ plan ─ journal ────┴─> host::apply ─> made, journal_end
//!   repair ──────┘
//! ```
//!
//! Whoever makes or changes kernel objects holds the host lock from before the transaction until after the
//! journal entry is closed. A journal entry found while holding the lock therefore belongs to somebody who
//! died; [`Networking::repair`] takes back what it began. No step is recorded while a plan is applied:
//! observation and marks say what of it happened (docs/adr/0004).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use drivers::NetworkWish;
use host::Host;
use ipam::NetworkRequest;
use linux::ProcessRef;
use linux::lock::{self, HostLock};
use linux::userns::UserNs;
use model::{
    ContainerId, Driver, HostAddress, IpvlanOptions, LinkName, MacvlanOptions, Network, NetworkId, PortMapping,
    Protocol,
};
use plan::{Conflict, Key, Mark, Object, Op, Plan, SandboxName};
use store::{Store, StoreError, Tx};

use crate::config::AttachmentConfig;
use crate::definitions::{DEFAULT_NETWORK, not_for_users, unknown_network};
use crate::endpoints::{self, AttachedEndpoint, Identity, Newcomer, Parent};
use crate::engine::EngineOptions;
use crate::netd::Netd;
use crate::ports;
use crate::record::ContainerRecord;
use crate::relay_client::Relay;
use crate::rootless_net;
use crate::{Error, Kind, error::Result};

/// The owner of what every network needs: the firewall's rules, forwarding.
pub(crate) const BASE: &str = "base";

/// What a container's sandbox needs to be: its networks in order, or none of them.
pub(crate) struct SandboxWish<'a> {
    /// Whose it is.
    pub(crate) container: ContainerId,
    /// What it is called on its networks.
    pub(crate) identity: Identity,
    /// Empty for `--network none`.
    pub(crate) attachments: &'a [AttachmentConfig],
    /// Published on the first network that has a way out.
    pub(crate) ports: &'a [PortMapping],
    /// Whose it is to be; `None`: podwire's own.
    pub(crate) users: Option<&'a UserNs>,
}

/// A sandbox that is up.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// The namespace file.
    pub(crate) netns: PathBuf,
    /// One per attachment, in order.
    pub(crate) endpoints: Vec<AttachedEndpoint>,
}

/// What changes about a container that is up. The journal remembers which: a connect that was interrupted is
/// taken back, anything else is finished.
pub(crate) enum Change<'a> {
    /// Join one more network.
    Connect(&'a AttachmentConfig, &'a Identity),
    /// Leave a network.
    Disconnect(NetworkId),
    /// Have what a LAN's DHCP server lends there, or nothing.
    Lease(&'a NetworkId, &'a crate::dhcp::Given),
    /// Publish these ports and no others, of a container whose first process is this one.
    Ports(&'a [PortMapping], Option<ProcessRef>),
    /// Nothing: make the kernel as it should be.
    Reload,
}

/// One command's view of networks.
pub(crate) struct Networking<'a> {
    pub(crate) store: &'a Store,
    pub(crate) options: &'a EngineOptions,
    /// Which set of network definitions: the text of `--network-config-dir`.
    pub(crate) scope: &'a str,
}

/// Desired objects and whose they are.
#[derive(Default)]
pub(crate) struct Desired {
    pub(crate) objects: Vec<Object>,
    pub(crate) owners: BTreeMap<Key, String>,
    /// What stays as it is, there or not: its parent is not there.
    pub(crate) left: BTreeSet<Key>,
}

impl Desired {
    /// These are neither made nor removed now.
    pub(crate) fn leave(&mut self, objects: &[Object]) {
        self.left.extend(objects.iter().map(Object::key));
    }

    pub(crate) fn add(&mut self, owner: &str, objects: Vec<Object>) {
        for object in objects {
            // Two networks may want the same setting; the first owner keeps it.
            if self.owners.insert(object.key(), owner.to_owned()).is_none() {
                self.objects.push(object);
            }
        }
    }

    /// The plan from what was made, by the records and by a look at the kernel, to this; or who is in its way.
    pub(crate) fn plan(&self, recorded: &[Object], host: &mut Host) -> Result<Result<Plan, Conflict>> {
        let leaving = recorded.iter().filter(|object| !self.owners.contains_key(&object.key()));
        let asked: Vec<Object> = self.objects.iter().chain(leaving).cloned().collect();
        let observed = host.observe(&asked).map_err(usage)?;
        Ok(plan::plan(&self.objects, recorded, &observed))
    }
}

/// A container whose network is down, but for what the kernel still does on its own.
#[must_use]
pub(crate) struct Leaving {
    machine: Machine,
    journaled: Journaled,
}

/// The machine while it is ours to change.
pub(crate) struct Machine {
    pub(crate) _lock: HostLock,
    pub(crate) host: Host,
    /// Once it was needed: for the firewall, whose tables it owns, and for names.
    netd: Option<Netd>,
    /// Are the firewall's tables changed by the socket that netd has lent us?
    has_firewall: bool,
    /// An ordinary user's, once it was needed.
    pub(crate) relay: Option<Relay>,
}

/// A plan in the journal, with what must be written when it is done.
pub(crate) struct Journaled {
    pub(crate) id: i64,
    pub(crate) plan: Plan,
    pub(crate) owners: BTreeMap<Key, String>,
    /// What needs no record any more once the plan is applied.
    pub(crate) forgotten: Vec<Key>,
}

/// Why a transaction ended without being kept.
enum Stop {
    Failed(Error),
    /// Not a failure: `--dry-run` rolls back what it only asked about.
    DryRun(Plan),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a transaction with [`Intent::Apply`] has kept.
fn kept<T>(planned: Result<T, Stop>) -> Result<T> {
    planned.map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::DryRun(_) => unreachable!("only a dry run ends so"),
    })
}

/// The plan that a transaction with [`Intent::DryRun`] was rolled back with.
fn looked_at<T>(planned: Result<T, Stop>) -> Result<Plan> {
    match planned {
        Err(Stop::DryRun(plan)) => Ok(plan),
        Err(Stop::Failed(error)) => Err(error),
        Ok(_) => unreachable!("a dry run keeps nothing"),
    }
}

/// Keep what a transaction wrote, or only look at its plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
    Apply,
    DryRun,
}

impl<'a> Networking<'a> {
    pub(crate) fn new(store: &'a Store, options: &'a EngineOptions, scope: &'a str) -> Self {
        Self { store, options, scope }
    }

    /// Makes the sandbox and its endpoints. On failure nothing of it remains.
    pub(crate) fn up(&self, wish: &SandboxWish<'_>) -> Result<Attached> {
        let mut machine = self.lock()?;
        self.repair_with(&mut machine)?;
        let attached = self.up_with(&mut machine, wish);
        if !wish.attachments.is_empty() {
            self.tell(&mut machine, Some(wish.container));
        }
        let attached = match attached {
            Ok(attached) => attached,
            Err(error) => {
                self.leave_if_unused(machine)?;
                return Err(error);
            }
        };
        // Others may go on while a server is waited for.
        drop(machine);
        self.with_leases(&wish.container, attached)
    }

    /// What was attached, with what LANs' servers have added to it; on failure nothing of it remains.
    fn with_leases(&self, container: &ContainerId, attached: Attached) -> Result<Attached> {
        match self.wait_for_leases(container) {
            Ok(()) => Ok(Attached { endpoints: self.endpoints_of(container)?, ..attached }),
            Err(error) => {
                let leaving = self.down(container)?;
                self.gone(leaving)?;
                Err(error)
            }
        }
    }

    fn up_with(&self, machine: &mut Machine, wish: &SandboxWish<'_>) -> Result<Attached> {
        if self.options.rootless {
            rootless_net::check_ports(wish.ports)?;
            if let Some(closed) = self.relay_for(machine, rootless_net::needs_relay(wish))? {
                tracing::warn!("{closed}");
            }
            self.hold_relayed(machine, &wish.container, wish.ports)?;
        }
        machine.host.give_sandboxes_to(wish.users).map_err(usage)?;
        let (journaled, attached) = kept(self.plan_up(machine, wish, Intent::Apply))?;
        match self.apply(machine, &journaled.plan)? {
            Ok(()) => {
                self.finish(&journaled)?;
                warn_of_open_ports(wish.ports, &attached.endpoints);
                machine.host.flush_udp(wish.ports, &container_ips(&attached.endpoints)).map_err(cannot_start)?;
                if let Err(error) = self.put_relayed(machine, &wish.container, &attached.endpoints) {
                    self.down_with(machine, &wish.container, &[])?;
                    return Err(error);
                }
                Ok(attached)
            }
            // The journal entry stays: whoever takes the lock next tries again to take back what remains.
            Err(error @ host::ApplyError::Stuck { .. }) => Err(cannot_start(error)),
            Err(error) => {
                self.store.write(|tx| {
                    forget(tx, &wish.container)?;
                    tx.journal_end(journaled.id)
                })?;
                Err(cannot_start(error))
            }
        }
    }

    /// The plan [`Networking::up`] would apply; changes nothing.
    pub(crate) fn plan_of_up(&self, wish: &SandboxWish<'_>) -> Result<Plan> {
        let mut machine = self.lock()?;
        let plan = looked_at(self.plan_up(&mut machine, wish, Intent::DryRun));
        self.leave_if_unused(machine)?;
        plan
    }

    /// Takes the container's endpoints and sandbox away, with whatever only they needed. Idempotent.
    ///
    /// When this returns, nothing of it can be seen or reached; [`Networking::gone`] waits until the kernel has
    /// answered that a bridge nobody needs any more is gone, and closes the journal. Until then the host lock
    /// is held, so that whoever repairs or starts something waits too.
    pub(crate) fn down(&self, container: &ContainerId) -> Result<Leaving> {
        let mut machine = self.lock_as_it_is()?;
        self.repair_with(&mut machine)?;
        let was_attached = !self.store.read(|tx| tx.attachments_of(container))?.is_empty();
        let journaled = self.begin_down(&mut machine, container, &[])?;
        if was_attached {
            self.tell(&mut machine, Some(*container));
        }
        Ok(Leaving { machine, journaled })
    }

    /// Ends what [`Networking::down`] began.
    pub(crate) fn gone(&self, mut leaving: Leaving) -> Result<()> {
        leaving.machine.host.settle().map_err(usage)?;
        self.finish(&leaving.journaled)?;
        self.leave_if_unused(leaving.machine)
    }

    /// The plan [`Networking::down`] would apply to these containers together; changes nothing.
    pub(crate) fn plan_of_down(&self, containers: &[ContainerId]) -> Result<Plan> {
        let mut machine = self.lock()?;
        looked_at(self.plan_down(&mut machine.host, containers, &[], Intent::DryRun))
    }

    /// Changes the networks of a container that is up; returns its endpoints as they are then. Endpoints that
    /// stay keep their links, addresses and connections. On failure all is as before.
    pub(crate) fn change(&self, container: &ContainerId, change: &Change<'_>) -> Result<Vec<AttachedEndpoint>> {
        let mut machine = self.lock()?;
        self.repair_with(&mut machine)?;
        let after = self.change_or_restore(&mut machine, container, change);
        self.tell(&mut machine, Some(*container));
        match (after, change) {
            (Ok(_), Change::Connect(asked, _)) => {
                drop(machine);
                self.with_lease_of(container, asked)
            }
            (after, _) => after,
        }
    }

    /// The endpoints, with what a LAN's server has added to the latest; without that one on failure.
    fn with_lease_of(&self, container: &ContainerId, asked: &AttachmentConfig) -> Result<Vec<AttachedEndpoint>> {
        match self.wait_for_leases(container) {
            Ok(()) => self.endpoints_of(container),
            Err(error) => {
                let network = self.get(asked.network.as_deref().unwrap_or(DEFAULT_NETWORK))?;
                self.change(container, &Change::Disconnect(network.id))?;
                Err(usage(error.message))
            }
        }
    }

    fn change_or_restore(
        &self,
        machine: &mut Machine,
        container: &ContainerId,
        change: &Change<'_>,
    ) -> Result<Vec<AttachedEndpoint>> {
        let before = self.endpoints_of(container)?;
        if let Change::Reload = change {
            check_parents(&mut machine.host, &before)?;
        }
        let ports = self.store.read(|tx| tx.ports_of(container))?;
        self.relay_for(machine, matches!(change, Change::Ports(..))).map_err(|error| usage(error.message))?;
        if let Change::Disconnect(network) = change {
            self.give_back(machine, container, Some(network));
        }
        if let (Change::Ports(now, _), true) = (change, self.options.rootless) {
            rootless_net::check_ports(now)?;
            let added: Vec<PortMapping> = now.iter().filter(|port| !ports.contains(port)).copied().collect();
            self.hold_relayed(machine, container, &added).map_err(|error| usage(error.message))?;
        }
        let (journaled, after) = kept(self.plan_change(machine, container, change, &[], Intent::Apply))?;
        match self.apply(machine, &journaled.plan)? {
            Ok(()) => {
                let moved = match change {
                    Change::Ports(now, _) => changed_ports(&ports, now),
                    _ => ports,
                };
                machine.host.flush_udp(&moved, &container_ips(&after)).map_err(usage)?;
                self.finish(&journaled)?;
                self.put_relayed(machine, container, &after)?;
                Ok(after)
            }
            Err(error @ host::ApplyError::Stuck { .. }) => Err(usage(error)),
            Err(error) => {
                self.store.write(|tx| {
                    restore(tx, container, &before, &ports)?;
                    if let Change::Ports(..) = change {
                        ports::record(tx, container, &ports, None)?;
                    }
                    tx.journal_end(journaled.id).map_err(Error::from)
                })?;
                Err(usage(error))
            }
        }
    }

    fn plan_change(
        &self,
        machine: &mut Machine,
        container: &ContainerId,
        change: &Change<'_>,
        begun: &[Object],
        intent: Intent,
    ) -> Result<(Journaled, Vec<AttachedEndpoint>), Stop> {
        let Machine { host, netd, .. } = self.with_netd(machine, intent)?;
        let mtu = self.usual_mtu(host)?;
        self.store.write(|tx| {
            let mut members = self.members(tx, container)?;
            let ports = match change {
                Change::Ports(ports, _) => ports.to_vec(),
                _ => tx.ports_of(container)?,
            };
            let mut owners = vec![owner_of(container), BASE.to_owned()];
            if !tx.made(&[&owners[0]])?.iter().any(|(_, object)| matches!(object, Object::Sandbox(_))) {
                return Err(
                    Error::new(Kind::WrongState, format!("the network of container {container} is down")).into()
                );
            }
            let mut journal = format!("fwd:{container}");
            match change {
                Change::Connect(asked, identity) => {
                    let network = self.resolve(tx, std::slice::from_ref(*asked), host)?.remove(0);
                    if members.iter().any(|(n, _)| n.id == network.id) {
                        let text = format!("container {container} is already connected to network {}", network.name);
                        let text = format!("{text}: network is already connected");
                        return Err(Error::new(Kind::Usage, text).into());
                    }
                    let parent = self.parent(tx, host, &network)?;
                    let newcomer = self.newcomer(*container, identity, &[]);
                    let joined = newcomer.join(tx, &members, &network, parent, asked)?;
                    journal = format!("att:{container}:{}", network.id);
                    members.push((network, joined));
                }
                Change::Disconnect(id) => {
                    members.retain(|(network, _)| network.id != *id);
                    tx.attachment_remove(container, id)?;
                    tx.leases_release_on(id, container, linux::machine::boottime())?;
                    tx.lan_leases_release(container, id)?;
                    owners.push(owner_of_network(id));
                }
                Change::Ports(ports, init) => {
                    let before = tx.ports_of(container)?;
                    let added: Vec<_> = ports.iter().filter(|port| !before.contains(port)).copied().collect();
                    endpoints::check_ports(&members, &added).map_err(|error| usage(error.message))?;
                    ports::record(tx, container, ports, *init)?;
                }
                Change::Lease(id, given) => {
                    let Some((_, attached)) = members.iter_mut().find(|(network, _)| network.id == **id) else {
                        let text = format!("container {container} is not on that network any more");
                        return Err(Error::new(Kind::WrongState, text).into());
                    };
                    crate::dhcp::learn(attached, given);
                    crate::dhcp::keep(tx, container, id, given)?;
                }
                Change::Reload => {}
            }
            endpoints::settle(&mut members, &ports);
            self.serve(tx, netd.as_mut(), &members)?;
            let mut desired = Desired::default();
            if behind_bridges(tx)? || host.used_by_others(self.store.instance()).map_err(usage)? {
                desired.add(BASE, drivers::base(self.options.rootless));
            }
            self.put(tx, container, &members, &ports, mtu, &mut desired)?;
            owners.extend(members.iter().map(|(network, _)| owner_of_network(&network.id)));
            if let Change::Disconnect(id) = change {
                let networks = tx.networks_of_all_scopes()?;
                let mut touched = BTreeSet::from([*id]);
                add_sharers(&networks, &mut touched);
                for network in networks.iter().filter(|n| touched.contains(&n.id)) {
                    let owner = owner_of_network(&network.id);
                    if tx.attachment_count(&network.id)? > 0 {
                        add_network(&mut desired, &owner, &self.network_wish(tx, network, mtu)?)?;
                    }
                    owners.push(owner);
                }
            }
            let journaled = self.journal(tx, host, &journal, desired, &owners, begun)?;
            match intent {
                Intent::DryRun => Err(Stop::DryRun(journaled.plan)),
                Intent::Apply => Ok((journaled, members.into_iter().map(|(_, endpoint)| endpoint).collect())),
            }
        })
    }

    /// The plan [`Networking::change`] would apply; changes nothing.
    pub(crate) fn plan_of_change(&self, container: &ContainerId, change: &Change<'_>) -> Result<Plan> {
        let mut machine = self.lock()?;
        looked_at(self.plan_change(&mut machine, container, change, &[], Intent::DryRun))
    }

    /// The container's networks with its endpoints on them, in order.
    fn members(&self, tx: &Tx<'_>, container: &ContainerId) -> Result<Vec<(Network, AttachedEndpoint)>> {
        let networks = tx.networks_of_all_scopes()?;
        let rows = tx.attachments_of(container)?;
        rows.into_iter()
            .map(|(id, _, document)| {
                let network = networks.iter().find(|n| n.id == id).cloned();
                let network = network.ok_or_else(|| unknown_network(&id.to_string()))?;
                Ok((network, serde_json::from_value(document).map_err(usage)?))
            })
            .collect()
    }

    /// Takes back what commands that died had begun. Costs one query when there is nothing to do.
    pub(crate) fn repair(&self) -> Result<()> {
        if self.store.read(|tx| tx.journal())?.is_empty() {
            return Ok(());
        }
        // Somebody alive may be in the middle of it: then the lock is held, and the entry gone when we get it.
        let mut machine = self.lock()?;
        self.repair_with(&mut machine)?;
        self.leave_if_unused(machine)
    }

    pub(crate) fn repair_with(&self, machine: &mut Machine) -> Result<()> {
        let journal = self.store.read(|tx| tx.journal())?;
        if journal.is_empty() {
            return Ok(());
        }
        let repaired = self.repair_each(machine, journal);
        self.tell(machine, None);
        repaired
    }

    fn repair_each(&self, machine: &mut Machine, journal: Vec<(i64, String, Plan)>) -> Result<()> {
        for (id, owner, plan) in journal {
            tracing::info!(%owner, "repairing what an interrupted command had begun");
            let begun: Vec<Object> = plan.ops.iter().map(|op| op.object().clone()).chain(plan.implied).collect();
            match owner.split(':').collect::<Vec<_>>()[..] {
                // Seen from here it would look gone, and be made anew under a container that has it.
                ["fwd" | "att", container, ..] if is_hidden(&container.parse()?) => continue,
                // The next look at everybody does it.
                [crate::heal::HEAL] => {}
                ["ctr", container] => self.down_with(machine, &container.parse()?, &begun)?,
                ["fwd", container] => self.change_with(machine, &container.parse()?, &Change::Reload, &begun)?,
                ["att", container, network] => {
                    self.change_with(machine, &container.parse()?, &Change::Disconnect(network.parse()?), &begun)?;
                }
                _ => {
                    let text = format!("the store's journal names an unknown owner {owner:?}");
                    return Err(Error::new(Kind::Usage, text));
                }
            }
            self.store.write(|tx| tx.journal_end(id))?;
        }
        Ok(())
    }

    fn change_with(
        &self,
        machine: &mut Machine,
        container: &ContainerId,
        change: &Change<'_>,
        begun: &[Object],
    ) -> Result<()> {
        match kept(self.plan_change(machine, container, change, begun, Intent::Apply)) {
            Ok((journaled, endpoints)) => {
                self.apply(machine, &journaled.plan)?.map_err(usage)?;
                // What it had before is not known any more: all its clients begin anew.
                let ips = container_ips(&endpoints);
                machine.host.flush_udp(&all_udp_of(&ips), &ips).map_err(usage)?;
                self.finish(&journaled)?;
                self.relay_for(machine, false)?;
                self.put_relayed(machine, container, &endpoints)
            }
            // It was taken down since: then nothing of what was begun has a place any more.
            Err(error) if error.kind == Kind::WrongState => self.down_with(machine, container, begun),
            Err(error) => Err(error),
        }
    }

    fn down_with(&self, machine: &mut Machine, container: &ContainerId, begun: &[Object]) -> Result<()> {
        let journaled = self.begin_down(machine, container, begun)?;
        machine.host.settle().map_err(usage)?;
        self.finish(&journaled)
    }

    /// `begun`: objects of an interrupted plan, which no record knows yet.
    fn begin_down(&self, machine: &mut Machine, container: &ContainerId, begun: &[Object]) -> Result<Journaled> {
        self.give_back(machine, container, None);
        let ports = self.store.read(|tx| tx.ports_of(container))?;
        let one = std::slice::from_ref(container);
        let journaled = kept(self.plan_down(&mut machine.host, one, begun, Intent::Apply))?;
        self.need_firewall(machine, &journaled.plan)?;
        machine.host.begin(&journaled.plan).map_err(usage)?;
        self.remove_relayed(machine, container)?;
        machine.host.flush_udp(&ports, &[]).map_err(usage)?;
        // In another mount namespace than the one it was made in (each `ip netns exec` has its own) the
        // namespace's file looks empty and is in no plan; unlinking it lifts the mount everywhere.
        linux::netns::remove(&host::sandbox_file(&SandboxName::of(container))).map_err(usage)?;
        Ok(journaled)
    }

    /// Records what the plan made and took away, and closes its journal entry.
    pub(crate) fn finish(&self, journaled: &Journaled) -> Result<()> {
        self.store.write(|tx| {
            let mut made: BTreeMap<&str, Vec<Object>> = BTreeMap::new();
            for op in &journaled.plan.ops {
                if let Op::Create(object) | Op::Change { to: object, .. } = op {
                    let owner = journaled.owners.get(&object.key()).map_or(BASE, String::as_str);
                    made.entry(owner).or_default().push(object.clone());
                }
            }
            tx.made_remove(&journaled.forgotten)?;
            for (owner, objects) in made {
                tx.made_put(owner, &objects)?;
            }
            tx.journal_end(journaled.id)
        })?;
        Ok(())
    }

    fn plan_up(
        &self,
        machine: &mut Machine,
        wish: &SandboxWish<'_>,
        intent: Intent,
    ) -> Result<(Journaled, Attached), Stop> {
        let intent_of_netd = if wish.attachments.is_empty() { Intent::DryRun } else { intent };
        let Machine { host, netd, .. } = self.with_netd(machine, intent_of_netd)?;
        let mtu = self.usual_mtu(host)?;
        self.store.write(|tx| {
            self.forget_hidden(tx)?;
            let owner = owner_of(&wish.container);
            let mut desired = Desired::default();
            let mut owners = vec![owner.clone()];
            let mut members = Vec::new();
            let newcomer = self.newcomer(wish.container, &wish.identity, wish.attachments);
            for (asked, network) in wish.attachments.iter().zip(self.resolve(tx, wish.attachments, host)?) {
                let parent = self.parent(tx, host, &network)?;
                let joined = newcomer.join(tx, &members, &network, parent, asked)?;
                members.push((network, joined));
            }
            endpoints::settle(&mut members, wish.ports);
            endpoints::check_ports(&members, wish.ports)?;
            self.serve(tx, netd.as_mut(), &members)?;
            if members.iter().any(|(network, _)| network.bridge().is_some()) {
                owners.push(BASE.to_owned());
            }
            self.put(tx, &wish.container, &members, wish.ports, mtu, &mut desired)?;
            owners.extend(members.iter().map(|(network, _)| owner_of_network(&network.id)));
            tx.leases_forget(linux::machine::boottime())?;
            let journaled = self.journal(tx, host, &owner, desired, &owners, &[])?;
            let netns = host::sandbox_file(&SandboxName::of(&wish.container));
            let endpoints = members.into_iter().map(|(_, endpoint)| endpoint).collect();
            match intent {
                Intent::DryRun => Err(Stop::DryRun(journaled.plan)),
                Intent::Apply => Ok((journaled, Attached { netns, endpoints })),
            }
        })
    }

    fn newcomer<'n>(
        &self,
        container: ContainerId,
        identity: &'n Identity,
        asked: &'n [AttachmentConfig],
    ) -> Newcomer<'n> {
        Newcomer { container, mark: Mark::new(self.store.instance(), &container.short()), identity, asked }
    }

    /// Has the gateways of these networks listened at, and remembers where.
    fn serve(
        &self,
        tx: &Tx<'_>,
        netd: Option<&mut Netd>,
        members: &[(Network, AttachedEndpoint)],
    ) -> Result<(), Error> {
        let Some(netd) = netd else { return Ok(()) };
        for (network, _) in members.iter().filter(|(network, _)| network.serves_names()) {
            let gateways = network.subnets.iter().filter_map(|s| s.gateway).collect();
            let wished = dns_port(tx, &network.id)?;
            let port = netd.serve(network.id, gateways, wished)?;
            if wished != Some(port) {
                set_dns_port(tx, &network.id, port)?;
            }
        }
        Ok(())
    }

    /// For a change that is meant, netd is there and has given us the firewall's socket.
    fn with_netd<'m>(&self, machine: &'m mut Machine, intent: Intent) -> Result<&'m mut Machine> {
        if intent == Intent::Apply && machine.netd.is_none() {
            self.relay_for(machine, false)?;
            machine.netd = Some(Netd::ensure(self.options, machine.host.namespace(), self.store.instance())?);
        }
        Ok(machine)
    }

    fn need_firewall(&self, machine: &mut Machine, plan: &Plan) -> Result<()> {
        match plan.ops.iter().any(|op| op.object().is_firewall()) {
            true => self.take_firewall(machine),
            false => Ok(()),
        }
    }

    /// netd, which is there when this returns.
    pub(crate) fn netd<'m>(&self, machine: &'m mut Machine) -> Result<&'m mut Netd> {
        self.with_netd(machine, Intent::Apply)?.netd.as_mut().ok_or_else(|| usage("netd is not there"))
    }

    /// netd is there, and its socket is the one by which the firewall is changed.
    pub(crate) fn take_firewall(&self, machine: &mut Machine) -> Result<()> {
        let Machine { host, netd: Some(netd), has_firewall, .. } = self.with_netd(machine, Intent::Apply)? else {
            return Err(usage("netd is not there"));
        };
        if !*has_firewall {
            host.use_firewall_socket(netlink::Socket::from_fd(netd.firewall()?).map_err(usage)?);
            *has_firewall = true;
        }
        Ok(())
    }

    /// The outer error: netd could not be had, and nothing was tried.
    pub(crate) fn apply(&self, machine: &mut Machine, plan: &Plan) -> Result<Result<(), host::ApplyError>> {
        self.need_firewall(machine, plan)?;
        Ok(machine.host.apply(plan))
    }

    /// Lets netd know that the store has changed, about one container or about anything. It reads the store when it
    /// starts, so one that cannot be told now has missed nothing.
    pub(crate) fn tell(&self, machine: &mut Machine, container: Option<ContainerId>) {
        // It may leave after this, and the socket is another one's then.
        machine.has_firewall = false;
        let running = match machine.netd.take() {
            Some(netd) => Ok(Some(netd)),
            None => Netd::find(machine.host.namespace(), self.store.instance()),
        };
        if let Err(error) = running.and_then(|netd| netd.map_or(Ok(()), |mut netd| netd.changed(container))) {
            tracing::warn!(%error, "netd does not know of a change");
        }
    }

    /// Networks changed in the store: names and upstreams follow.
    pub(crate) fn announce_change(&self) -> Result<()> {
        let mut machine = self.lock_as_it_is()?;
        self.tell(&mut machine, None);
        Ok(())
    }

    /// Renames a container by `write`, and its endpoints with it, while nobody else changes them.
    pub(crate) fn rename(
        &self,
        container: &ContainerId,
        write: impl FnOnce(&Tx<'_>) -> Result<ContainerRecord>,
    ) -> Result<ContainerRecord> {
        let mut machine = self.lock_as_it_is()?;
        self.repair_with(&mut machine)?;
        let (record, attached) = self.store.write(|tx| {
            let record = write(tx)?;
            let members = self.members(tx, container)?;
            for (order, (network, mut attached)) in (0..).zip(members.clone()) {
                attached.rename(&Identity::of(&record));
                tx.attachment_put(container, &network.id, order, &serde_json::to_value(attached).map_err(usage)?)?;
            }
            Ok::<_, Error>((record, !members.is_empty()))
        })?;
        if attached {
            self.tell(&mut machine, Some(*container));
        }
        Ok(record)
    }

    /// Starts netd, and an ordinary user's relay, if somebody is attached and they are not there.
    pub(crate) fn revive(&self) -> Result<()> {
        let mut machine = self.lock_as_it_is()?;
        if self.store.read(|tx| tx.attachments_any())? {
            self.take_firewall(&mut machine)?;
        }
        Ok(())
    }

    /// The host lock first, then a look at the kernel. Of an ordinary user's networks, in the relay's namespace.
    pub(crate) fn lock(&self) -> Result<Machine> {
        self.lock_in(|| Ok(true))
    }

    /// As [`Networking::lock`], for what changes the store alone: there may be no relay's namespace then.
    pub(crate) fn lock_as_it_is(&self) -> Result<Machine> {
        self.lock_in(|| Ok(self.needs_a_place()?))
    }

    /// What is there, or was begun, has its place in the relay's namespace.
    pub(crate) fn needs_a_place(&self) -> Result<bool, StoreError> {
        self.store.read(|tx| Ok(tx.attachments_any()? || !tx.journal()?.is_empty() || !tx.made(&[BASE])?.is_empty()))
    }

    fn lock_in(&self, place_needed: impl FnOnce() -> Result<bool>) -> Result<Machine> {
        let open = || Host::open().map_err(|e| usage(format!("could not open a netlink socket: {e}")));
        if self.options.rootless {
            let lock = rootless_net::enter(self.options, place_needed)?;
            return Ok(Machine { _lock: lock, host: open()?, netd: None, has_firewall: false, relay: None });
        }
        let host = open()?;
        let path = lock::path(host.namespace());
        let lock = HostLock::take(&path).map_err(|e| usage(format!("could not lock {}: {e}", path.display())))?;
        Ok(Machine { _lock: lock, host, netd: None, has_firewall: false, relay: None })
    }

    /// Records the members as the container's attachments, and adds what they and its sandbox should be.
    fn put(
        &self,
        tx: &Tx<'_>,
        container: &ContainerId,
        members: &[(Network, AttachedEndpoint)],
        ports: &[PortMapping],
        mtu: u32,
        desired: &mut Desired,
    ) -> Result<()> {
        let owner = owner_of(container);
        let ipv6 = members.iter().any(|(network, _)| network.has_family(false));
        if members.iter().any(|(network, _)| network.bridge().is_some()) {
            desired.add(BASE, drivers::base(self.options.rootless));
        }
        desired.add(&owner, drivers::sandbox(&SandboxName::of(container), ipv6 || members.is_empty()));
        for (order, (network, attached)) in (0..).zip(members) {
            let wish = self.network_wish(tx, network, mtu)?;
            let (of_network, of_this) = (drivers::network(&wish), drivers::attachment(&wish, &attached.endpoint));
            match missing_parent(&wish, Some(attached))? {
                None => {
                    desired.add(&owner_of_network(&network.id), of_network);
                    desired.add(&owner, of_this);
                }
                Some(_) => [of_network, of_this].iter().for_each(|objects| desired.leave(objects)),
            }
            let document = serde_json::to_value(attached).map_err(usage)?;
            tx.attachment_put(container, &network.id, order, &document)?;
        }
        tx.ports_remove(container)?;
        Ok(tx.ports_put(container, ports)?)
    }

    fn plan_down(
        &self,
        host: &mut Host,
        containers: &[ContainerId],
        begun: &[Object],
        intent: Intent,
    ) -> Result<Journaled, Stop> {
        let mtu = self.usual_mtu(host)?;
        self.store.write(|tx| {
            let mut touched = BTreeSet::new();
            let mut owners: Vec<String> = Vec::new();
            for container in containers {
                touched.extend(tx.attachments_of(container)?.into_iter().map(|(network, _, _)| network));
                forget(tx, container)?;
                owners.push(owner_of(container));
            }
            let networks = tx.networks_of_all_scopes()?;
            if !begun.is_empty() {
                // What was begun may be of any network: those with somebody on them stay as they are.
                touched.extend(networks.iter().map(|n| n.id));
            }
            add_sharers(&networks, &mut touched);
            let mut desired = Desired::default();
            for network in networks.iter().filter(|n| touched.contains(&n.id)) {
                let owner = owner_of_network(&network.id);
                if tx.attachment_count(&network.id)? > 0 {
                    add_network(&mut desired, &owner, &self.network_wish(tx, network, mtu)?)?;
                }
                owners.push(owner);
            }
            if behind_bridges(tx)?
                || (!touched.is_empty() && host.used_by_others(self.store.instance()).map_err(usage)?)
            {
                desired.add(BASE, drivers::base(self.options.rootless));
            }
            owners.push(BASE.to_owned());
            let owner = owner_of(&containers[0]);
            let journaled = self.journal(tx, host, &owner, desired, &owners, begun)?;
            match intent {
                Intent::DryRun => Err(Stop::DryRun(journaled.plan)),
                Intent::Apply => Ok(journaled),
            }
        })
    }

    /// Plans from what these owners made to what is desired, and writes the intent.
    fn journal(
        &self,
        tx: &Tx<'_>,
        host: &mut Host,
        owner: &str,
        desired: Desired,
        owners: &[String],
        begun: &[Object],
    ) -> Result<Journaled, Stop> {
        let names: Vec<&str> = owners.iter().map(String::as_str).collect();
        let mut recorded: Vec<Object> = tx.made(&names)?.into_iter().map(|(_, object)| object).collect();
        let known: BTreeSet<Key> = recorded.iter().map(Object::key).collect();
        recorded.extend(begun.iter().filter(|o| !known.contains(&o.key())).cloned());
        recorded.retain(|object| !desired.left.contains(&object.key()));
        let plan = desired.plan(&recorded, host)?.map_err(|conflict| Stop::Failed(cannot_start(conflict)))?;
        let forgotten = plan::forgotten(&desired.objects, &recorded);
        // What an interrupted plan has made and is to stay is in no later plan: it would never be recorded.
        let begun: BTreeSet<Key> = begun.iter().map(Object::key).filter(|key| !known.contains(key)).collect();
        for object in desired.objects.iter().filter(|object| begun.contains(&object.key())) {
            let owner = desired.owners.get(&object.key()).map_or(BASE, String::as_str);
            tx.made_put(owner, std::slice::from_ref(object))?;
        }
        let id = tx.journal_begin(owner, &plan)?;
        Ok(Journaled { id, plan, owners: desired.owners, forgotten })
    }

    pub(crate) fn network_wish<'n>(&self, tx: &Tx<'_>, network: &'n Network, uplink: u32) -> Result<NetworkWish<'n>> {
        let (link, mtu) = match &network.driver {
            Driver::Bridge(options) => {
                let link = network.link.clone().ok_or_else(|| usage("the store holds a network without its bridge"))?;
                (link, self.bridge_mtu(tx, network, options.mtu, uplink)?)
            }
            Driver::Macvlan(MacvlanOptions { lan, .. }) | Driver::Ipvlan(IpvlanOptions { lan, .. }) => {
                let mut host = Host::open().map_err(usage)?;
                let link = parent_link(tx, &mut host, network)?;
                let parent = host.needed_by_network(&link).map_err(usage)?.map(|parent| parent.mtu);
                (link, lan.mtu.filter(|mtu| *mtu != 0).or(parent).unwrap_or(uplink))
            }
        };
        // What several networks share is nobody's alone.
        let shares = network.bridge().is_some() && network.may_share();
        let owner = if shares { drivers::shared_owner(&link) } else { network.id.short() };
        let mark = Mark::new(self.store.instance(), &owner);
        // Only asked about, it was never listened at: then the likely port.
        let port = dns_port(tx, &network.id)?.unwrap_or(DNS_PORT_FIRST);
        Ok(NetworkWish {
            host_addrs: host_addresses(network, &link)?,
            network,
            link,
            mtu,
            dns: network.serves_names().then_some(port),
            relayed: self.options.rootless,
            apart: self.options.rootless && rootless_net::is_hidden(tx, &network.id)?,
            mark,
        })
    }

    /// A bridge that is up keeps its MTU: its members have it too.
    fn bridge_mtu(&self, tx: &Tx<'_>, network: &Network, asked: Option<u32>, uplink: u32) -> Result<u32> {
        let made = tx.made(&[&owner_of_network(&network.id)])?;
        let as_made = made.iter().find_map(|(_, object)| match object {
            Object::Bridge(bridge) => Some(bridge.mtu),
            _ => None,
        });
        match asked.filter(|mtu| *mtu != 0).or(as_made) {
            Some(mtu) => Ok(mtu),
            None => Ok(mtu_around(network)?.unwrap_or(uplink)),
        }
    }

    /// What a link on this network will be on, of a network that is on a LAN; or why there can be none.
    fn parent(&self, tx: &Tx<'_>, host: &mut Host, network: &Network) -> Result<Option<Parent>> {
        if network.bridge().is_some() {
            return Ok(None);
        }
        if self.options.rootless {
            return Err(cannot_start(not_for_users(network.driver.word())));
        }
        let link = parent_link(tx, host, network)?;
        let fit = host.parent(&link).map_err(usage)?;
        let parent = fit.map_err(|why| cannot_start(format!("network {}: {why}", network.name)))?;
        Ok(Some(Parent { link, mac: parent.mac }))
    }

    /// The plan for such a network with nobody on it: what its first container would find made.
    pub(crate) fn plan_of_create(&self, request: &NetworkRequest) -> Result<Plan> {
        let mut machine = self.lock()?;
        let host = &mut machine.host;
        let mtu = self.usual_mtu(host)?;
        let planned = self.store.write(|tx| {
            let network = self.fresh(tx, host, request)?;
            let mut desired = Desired::default();
            if network.bridge().is_some() {
                desired.add(BASE, drivers::base(self.options.rootless));
            }
            desired.add(BASE, drivers::network(&self.network_wish(tx, &network, mtu)?));
            let journaled = self.journal(tx, host, BASE, desired, &[BASE.to_owned()], &[])?;
            // Nothing of this transaction is kept.
            Err::<(), Stop>(Stop::DryRun(journaled.plan))
        });
        self.leave_if_unused(machine)?;
        looked_at(planned)
    }

    /// The endpoints of the running containers of a network.
    pub(crate) fn endpoints_on(&self, network: &NetworkId) -> Result<Vec<(ContainerId, AttachedEndpoint)>> {
        let rows = self.store.read(|tx| tx.attachments_on(network))?;
        let parsed = rows.into_iter().map(|(id, doc)| Ok((id, serde_json::from_value(doc)?)));
        parsed
            .collect::<Result<_, serde_json::Error>>()
            .map_err(|e| usage(format!("the store holds a bad endpoint: {e}")))
    }

    /// The endpoints of a container, in order; empty when it is down.
    pub(crate) fn endpoints_of(&self, container: &ContainerId) -> Result<Vec<AttachedEndpoint>> {
        let rows = self.store.read(|tx| tx.attachments_of(container))?;
        let parsed = rows.into_iter().map(|(_, _, doc)| serde_json::from_value(doc));
        parsed.collect::<Result<_, _>>().map_err(|e| usage(format!("the store holds a bad endpoint: {e}")))
    }
}

/// On a LAN nothing is published, as in Podman: a container's own ports are open there, at its own address.
fn warn_of_open_ports(ports: &[PortMapping], endpoints: &[AttachedEndpoint]) {
    let on_lan = endpoints.iter().find(|attached| attached.endpoint.parent.is_some());
    let published = endpoints.iter().any(|attached| !attached.endpoint.ports.is_empty());
    if let Some(attached) = on_lan.filter(|_| !ports.is_empty() && !published) {
        let ips = container_ips(std::slice::from_ref(attached));
        let at = ips.first().map_or_else(|| "its own address".to_owned(), IpAddr::to_string);
        tracing::warn!("ports are not published on network {}: the container's own are open at {at}", attached.network);
    }
}

/// Was the container's namespace mounted in another mount namespace, so that only its empty file is here?
pub(crate) fn is_hidden(container: &ContainerId) -> bool {
    let file = host::sandbox_file(&SandboxName::of(container));
    file.exists() && linux::NetNs::open(&file).is_err()
}

/// Where the endpoints are reached.
pub(crate) fn container_ips(endpoints: &[AttachedEndpoint]) -> Vec<IpAddr> {
    endpoints.iter().flat_map(|e| e.endpoint.addrs.iter().map(|a| a.ip)).collect()
}

/// The port that netd tries first to serve names on: one that IANA has assigned to nobody.
pub(crate) const DNS_PORT_FIRST: u16 = 834;

/// Where names of a network are served, once they were.
pub(crate) fn dns_port(tx: &Tx<'_>, network: &NetworkId) -> Result<Option<u16>, StoreError> {
    Ok(tx.meta_get(&dns_key(network))?.and_then(|text| text.parse().ok()))
}

pub(crate) fn set_dns_port(tx: &Tx<'_>, network: &NetworkId, port: u16) -> Result<(), StoreError> {
    tx.meta_set(&dns_key(network), &port.to_string())
}

pub(crate) fn dns_key(network: &NetworkId) -> String {
    format!("dns:{network}")
}

/// Adds the networks that share their bridge with one of these.
fn add_sharers(networks: &[Network], ids: &mut BTreeSet<NetworkId>) {
    let shared = |n: &&Network| n.bridge().is_some() && n.may_share() && ids.contains(&n.id);
    let links: BTreeSet<&LinkName> = networks.iter().filter(shared).filter_map(|n| n.link.as_ref()).collect();
    let shares = |n: &&Network| n.bridge().is_some() && n.link.as_ref().is_some_and(|link| links.contains(link));
    ids.extend(networks.iter().filter(shares).map(|n| n.id));
}

/// Is anybody on a network that needs the firewall and forwarding?
fn behind_bridges(tx: &Tx<'_>) -> Result<bool, StoreError> {
    if !tx.attachments_any()? {
        return Ok(false);
    }
    for network in tx.networks_of_all_scopes()?.iter().filter(|network| network.bridge().is_some()) {
        if tx.attachment_count(&network.id)? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The parent of a network on a LAN: the one that was said, else that which its containers have, else the link of the
/// host's default route.
fn parent_link(tx: &Tx<'_>, host: &mut Host, network: &Network) -> Result<LinkName> {
    if let Some(link) = &network.link {
        return Ok(link.clone());
    }
    for (_, document) in tx.attachments_on(&network.id)? {
        let attached: Option<AttachedEndpoint> = serde_json::from_value(document).map_err(usage)?;
        if let Some(parent) = attached.and_then(|attached| attached.endpoint.parent) {
            return Ok(parent);
        }
    }
    let uplink = host.uplink().map_err(usage)?.link;
    uplink.ok_or_else(|| {
        let name = &network.name;
        cannot_start(format!("network {name} names no parent, and this host has no default route whose link to take"))
    })
}

/// What a network needs; left as it is while its parent is not there.
pub(crate) fn add_network(desired: &mut Desired, owner: &str, wish: &NetworkWish<'_>) -> Result<()> {
    let objects = drivers::network(wish);
    match missing_parent(wish, None)? {
        None => desired.add(owner, objects),
        Some(_) => desired.leave(&objects),
    }
    Ok(())
}

/// The parent of such an attachment, or of the network, if it has one that is not there. What was on it went with it,
/// or is there still when it was only given another name.
pub(crate) fn missing_parent(wish: &NetworkWish<'_>, attached: Option<&AttachedEndpoint>) -> Result<Option<LinkName>> {
    if wish.network.bridge().is_some() {
        return Ok(None);
    }
    let parent = attached.and_then(|attached| attached.endpoint.parent.as_ref()).unwrap_or(&wish.link);
    let there = Host::open().map_err(usage)?.needed_by_network(parent).map_err(usage)?.is_some();
    Ok((!there).then(|| parent.clone()))
}

/// Nothing could be made on a parent that is not there.
fn check_parents(host: &mut Host, endpoints: &[AttachedEndpoint]) -> Result<()> {
    for attached in endpoints {
        let Some(parent) = &attached.endpoint.parent else { continue };
        if host.needed_by_network(parent).map_err(usage)?.is_none() {
            return Err(usage(format!("network {}: parent interface {parent} does not exist", attached.network)));
        }
    }
    Ok(())
}

/// The host's addresses on a parent, for containers that are to reach it there.
fn host_addresses(network: &Network, parent: &LinkName) -> Result<Vec<IpAddr>> {
    match &network.driver {
        Driver::Macvlan(options) if options.host_access == Some(true) => {
            Host::open().map_err(usage)?.addresses_on(parent).map_err(usage)
        }
        _ => Ok(Vec::new()),
    }
}

/// The MTU that a bridge gets from a link of others: the bridge that is not ours, or the VRF's own uplink.
fn mtu_around(network: &Network) -> Result<Option<u32>> {
    let Some(options) = network.bridge() else { return Ok(None) };
    let needed = if network.is_managed() { options.vrf.as_ref() } else { network.link.as_ref() };
    let Some(link) = needed else { return Ok(None) };
    let mut host = Host::open().map_err(usage)?;
    Ok(host.needed_by_network(link).map_err(usage)?.map(|link| link.mtu))
}

pub(crate) fn owner_of(container: &ContainerId) -> String {
    format!("ctr:{container}")
}

pub(crate) fn owner_of_network(network: &NetworkId) -> String {
    format!("net:{network}")
}

/// What was published and is not any more, and the other way round.
fn changed_ports(before: &[PortMapping], after: &[PortMapping]) -> Vec<PortMapping> {
    let gone = before.iter().filter(|port| !after.contains(port));
    gone.chain(after.iter().filter(|port| !before.contains(port))).copied().collect()
}

/// Every UDP port of these addresses, and with them whatever was translated to one of them.
fn all_udp_of(ips: &[IpAddr]) -> Vec<PortMapping> {
    let all = |ip: &IpAddr| PortMapping {
        host: HostAddress::Ip(*ip),
        host_port: 1,
        container_port: 1,
        range: u16::MAX,
        protocol: Protocol::Udp,
    };
    ips.iter().map(all).collect()
}

/// Records the container's endpoints and ports as they were before a change that failed.
fn restore(tx: &Tx<'_>, container: &ContainerId, endpoints: &[AttachedEndpoint], ports: &[PortMapping]) -> Result<()> {
    forget(tx, container)?;
    for (order, attached) in (0..).zip(endpoints) {
        let document = serde_json::to_value(attached).map_err(usage)?;
        tx.attachment_put(container, &attached.network_id, order, &document)?;
        // Of addresses that a LAN's server lends, it keeps the book.
        for addr in attached.endpoint.addrs.iter().filter(|_| attached.learned.is_none()) {
            tx.lease(&attached.network_id, &addr.ip, container)?;
        }
    }
    Ok(tx.ports_put(container, ports)?)
}

/// Drops the container's addresses (into quarantine), attachments and ports from the records.
fn forget(tx: &Tx<'_>, container: &ContainerId) -> Result<(), StoreError> {
    tx.leases_release(container, linux::machine::boottime())?;
    // What a boot that ended abruptly has left is asked for again.
    for (network, _, _) in tx.attachments_of(container)?.iter().filter(|(_, _, document)| !document.is_null()) {
        tx.lan_leases_release(container, network)?;
    }
    tx.attachments_remove(container)?;
    tx.ports_remove(container)
}

pub(crate) fn usage(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Usage, error.to_string())
}

pub(crate) fn cannot_start(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::CannotStart, error.to_string())
}
