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
use ipam::request::Fresh;
use ipam::{NetworkRequest, Surroundings};
use linux::lock::{self, HostLock};
use model::network::DEFAULT_NETWORK_ID;
use model::{ContainerId, Driver, Network, NetworkId, PortMapping};
use plan::{Key, Mark, Object, Op, Plan, SandboxName};
use sha2::{Digest, Sha256};
use store::{Store, StoreError, Tx};

use crate::config::AttachmentConfig;
use crate::endpoints::{self, AttachedEndpoint, Newcomer};
use crate::{Error, Kind, error::Result};

/// The owner of what every network needs: the firewall's rules, forwarding.
const BASE: &str = "base";

/// The default network's name.
pub(crate) const DEFAULT_NETWORK: &str = "podman";

/// What a container's sandbox needs to be: its networks in order, or none of them.
pub(crate) struct SandboxWish<'a> {
    /// Whose it is.
    pub(crate) container: ContainerId,
    /// Empty for `--network none`.
    pub(crate) attachments: &'a [AttachmentConfig],
    /// Published on the first network that has a way out.
    pub(crate) ports: &'a [PortMapping],
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
    Connect(&'a AttachmentConfig),
    /// Leave a network.
    Disconnect(NetworkId),
    /// Nothing: make the kernel as it should be.
    Reload,
}

/// One command's view of networks.
pub(crate) struct Networking<'a> {
    store: &'a Store,
    /// Which set of network definitions: the text of `--network-config-dir`.
    scope: &'a str,
}

/// Desired objects and whose they are.
#[derive(Default)]
struct Desired {
    objects: Vec<Object>,
    owners: BTreeMap<Key, String>,
}

impl Desired {
    fn add(&mut self, owner: &str, objects: Vec<Object>) {
        for object in objects {
            // Two networks may want the same setting; the first owner keeps it.
            if self.owners.insert(object.key(), owner.to_owned()).is_none() {
                self.objects.push(object);
            }
        }
    }
}

/// A container whose network is down, but for what the kernel still does on its own.
#[must_use]
pub(crate) struct Leaving {
    _lock: HostLock,
    host: Host,
    journaled: Journaled,
}

/// A plan in the journal, with what must be written when it is done.
struct Journaled {
    id: i64,
    plan: Plan,
    owners: BTreeMap<Key, String>,
    /// What needs no record any more once the plan is applied.
    forgotten: Vec<Key>,
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
    pub(crate) fn new(store: &'a Store, scope: &'a str) -> Self {
        Self { store, scope }
    }

    /// Makes the sandbox and its endpoints. On failure nothing of it remains.
    pub(crate) fn up(&self, wish: &SandboxWish<'_>) -> Result<Attached> {
        let (_lock, mut host) = lock_host()?;
        self.repair_with(&mut host)?;
        let (journaled, attached) = kept(self.plan_up(&mut host, wish, Intent::Apply))?;
        match host.apply(&journaled.plan) {
            Ok(()) => {
                self.finish(&journaled)?;
                host.flush_udp(wish.ports, &container_ips(&attached.endpoints)).map_err(cannot_start)?;
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
        let (_lock, mut host) = lock_host()?;
        looked_at(self.plan_up(&mut host, wish, Intent::DryRun))
    }

    /// Takes the container's endpoints and sandbox away, with whatever only they needed. Idempotent.
    ///
    /// When this returns, nothing of it can be seen or reached; [`Networking::gone`] waits until the kernel has
    /// answered that a bridge nobody needs any more is gone, and closes the journal. Until then the host lock
    /// is held, so that whoever repairs or starts something waits too.
    pub(crate) fn down(&self, container: &ContainerId) -> Result<Leaving> {
        let (lock, mut host) = lock_host()?;
        self.repair_with(&mut host)?;
        let journaled = self.begin_down(&mut host, container, &[])?;
        Ok(Leaving { _lock: lock, host, journaled })
    }

    /// Ends what [`Networking::down`] began.
    pub(crate) fn gone(&self, mut leaving: Leaving) -> Result<()> {
        leaving.host.settle().map_err(usage)?;
        self.finish(&leaving.journaled)
    }

    /// The plan [`Networking::down`] would apply to these containers together; changes nothing.
    pub(crate) fn plan_of_down(&self, containers: &[ContainerId]) -> Result<Plan> {
        let (_lock, mut host) = lock_host()?;
        looked_at(self.plan_down(&mut host, containers, &[], Intent::DryRun))
    }

    /// Changes the networks of a container that is up; returns its endpoints as they are then. Endpoints that
    /// stay keep their links, addresses and connections. On failure all is as before.
    pub(crate) fn change(&self, container: &ContainerId, change: &Change<'_>) -> Result<Vec<AttachedEndpoint>> {
        let (_lock, mut host) = lock_host()?;
        self.repair_with(&mut host)?;
        let before = self.endpoints_of(container)?;
        let ports = self.store.read(|tx| tx.ports_of(container))?;
        let (journaled, after) = kept(self.plan_change(&mut host, container, change, &[], Intent::Apply))?;
        match host.apply(&journaled.plan) {
            Ok(()) => {
                self.finish(&journaled)?;
                host.flush_udp(&ports, &container_ips(&after)).map_err(usage)?;
                Ok(after)
            }
            Err(error @ host::ApplyError::Stuck { .. }) => Err(usage(error)),
            Err(error) => {
                self.store.write(|tx| {
                    restore(tx, container, &before, &ports)?;
                    tx.journal_end(journaled.id).map_err(Error::from)
                })?;
                Err(usage(error))
            }
        }
    }

    fn plan_change(
        &self,
        host: &mut Host,
        container: &ContainerId,
        change: &Change<'_>,
        begun: &[Object],
        intent: Intent,
    ) -> Result<(Journaled, Vec<AttachedEndpoint>), Stop> {
        let mtu = host.uplink().map_err(usage)?.mtu;
        self.store.write(|tx| {
            let mut members = self.members(tx, container)?;
            let ports = tx.ports_of(container)?;
            let mut owners = vec![owner_of(container), BASE.to_owned()];
            if !tx.made(&[&owners[0]])?.iter().any(|(_, object)| matches!(object, Object::Sandbox(_))) {
                return Err(
                    Error::new(Kind::WrongState, format!("the network of container {container} is down")).into()
                );
            }
            let mut journal = format!("fwd:{container}");
            match change {
                Change::Connect(asked) => {
                    let network = self.resolve(tx, std::slice::from_ref(*asked), host)?.remove(0);
                    if members.iter().any(|(n, _)| n.id == network.id) {
                        let text = format!("container {container} is already connected to network {}", network.name);
                        let text = format!("{text}: network is already connected");
                        return Err(Error::new(Kind::Usage, text).into());
                    }
                    let joined = self.newcomer(*container, &[]).join(tx, &members, &network, asked)?;
                    journal = format!("att:{container}:{}", network.id);
                    members.push((network, joined));
                }
                Change::Disconnect(id) => {
                    members.retain(|(network, _)| network.id != *id);
                    tx.attachment_remove(container, id)?;
                    tx.leases_release_on(id, container, linux::machine::boottime())?;
                    owners.push(owner_of_network(id));
                }
                Change::Reload => {}
            }
            endpoints::settle(&mut members, &ports);
            let mut desired = Desired::default();
            if tx.attachments_any()? || host.used_by_others(self.store.instance()).map_err(usage)? {
                desired.add(BASE, drivers::base());
            }
            self.put(tx, container, &members, &ports, mtu, &mut desired)?;
            owners.extend(members.iter().map(|(network, _)| owner_of_network(&network.id)));
            if let Change::Disconnect(id) = change
                && tx.attachment_count(id)? > 0
                && let Some(network) = tx.networks_of_all_scopes()?.into_iter().find(|n| n.id == *id)
            {
                desired.add(&owner_of_network(id), drivers::network(&self.network_wish(tx, &network, mtu)?));
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
        let (_lock, mut host) = lock_host()?;
        looked_at(self.plan_change(&mut host, container, change, &[], Intent::DryRun))
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
        let (_lock, mut host) = lock_host()?;
        self.repair_with(&mut host)
    }

    fn repair_with(&self, host: &mut Host) -> Result<()> {
        for (id, owner, plan) in self.store.read(|tx| tx.journal())? {
            tracing::info!(%owner, "repairing what an interrupted command had begun");
            let begun: Vec<Object> = plan.ops.iter().map(|op| op.object().clone()).chain(plan.implied).collect();
            match owner.split(':').collect::<Vec<_>>()[..] {
                // Seen from here it would look gone, and be made anew under a container that has it.
                ["fwd" | "att", container, ..] if is_hidden(&container.parse()?) => continue,
                ["ctr", container] => self.down_with(host, &container.parse()?, &begun)?,
                ["fwd", container] => self.change_with(host, &container.parse()?, &Change::Reload, &begun)?,
                ["att", container, network] => {
                    self.change_with(host, &container.parse()?, &Change::Disconnect(network.parse()?), &begun)?;
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
        host: &mut Host,
        container: &ContainerId,
        change: &Change<'_>,
        begun: &[Object],
    ) -> Result<()> {
        match kept(self.plan_change(host, container, change, begun, Intent::Apply)) {
            Ok((journaled, _)) => {
                host.apply(&journaled.plan).map_err(usage)?;
                self.finish(&journaled)
            }
            // It was taken down since: then nothing of what was begun has a place any more.
            Err(error) if error.kind == Kind::WrongState => self.down_with(host, container, begun),
            Err(error) => Err(error),
        }
    }

    fn down_with(&self, host: &mut Host, container: &ContainerId, begun: &[Object]) -> Result<()> {
        let journaled = self.begin_down(host, container, begun)?;
        host.settle().map_err(usage)?;
        self.finish(&journaled)
    }

    /// `begun`: objects of an interrupted plan, which no record knows yet.
    fn begin_down(&self, host: &mut Host, container: &ContainerId, begun: &[Object]) -> Result<Journaled> {
        let ports = self.store.read(|tx| tx.ports_of(container))?;
        let journaled = kept(self.plan_down(host, std::slice::from_ref(container), begun, Intent::Apply))?;
        host.begin(&journaled.plan).map_err(usage)?;
        host.flush_udp(&ports, &[]).map_err(usage)?;
        // In another mount namespace than the one it was made in (each `ip netns exec` has its own) the
        // namespace's file looks empty and is in no plan; unlinking it lifts the mount everywhere.
        linux::netns::remove(&host::sandbox_file(&SandboxName::of(container))).map_err(usage)?;
        Ok(journaled)
    }

    /// Records what the plan made and took away, and closes its journal entry.
    fn finish(&self, journaled: &Journaled) -> Result<()> {
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

    fn plan_up(&self, host: &mut Host, wish: &SandboxWish<'_>, intent: Intent) -> Result<(Journaled, Attached), Stop> {
        let mtu = host.uplink().map_err(usage)?.mtu;
        self.store.write(|tx| {
            let owner = owner_of(&wish.container);
            let mut desired = Desired::default();
            let mut owners = vec![owner.clone()];
            let mut members = Vec::new();
            for (asked, network) in wish.attachments.iter().zip(self.resolve(tx, wish.attachments, host)?) {
                let joined = self.newcomer(wish.container, wish.attachments).join(tx, &members, &network, asked)?;
                members.push((network, joined));
            }
            endpoints::settle(&mut members, wish.ports);
            endpoints::check_ports(&members, wish.ports)?;
            if !members.is_empty() {
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

    fn newcomer<'n>(&self, container: ContainerId, asked: &'n [AttachmentConfig]) -> Newcomer<'n> {
        Newcomer { container, mark: Mark::new(self.store.instance(), &container.short()), asked }
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
        if !members.is_empty() {
            desired.add(BASE, drivers::base());
        }
        desired.add(&owner, drivers::sandbox(&SandboxName::of(container), ipv6 || members.is_empty()));
        for (order, (network, attached)) in (0..).zip(members) {
            let wish = self.network_wish(tx, network, mtu)?;
            desired.add(&owner_of_network(&network.id), drivers::network(&wish));
            desired.add(&owner, drivers::attachment(&wish, &attached.endpoint));
            let document = serde_json::to_value(attached).map_err(usage)?;
            tx.attachment_put(container, &network.id, order, &document)?;
        }
        Ok(tx.ports_put(container, ports)?)
    }

    fn plan_down(
        &self,
        host: &mut Host,
        containers: &[ContainerId],
        begun: &[Object],
        intent: Intent,
    ) -> Result<Journaled, Stop> {
        let mtu = host.uplink().map_err(usage)?.mtu;
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
            let mut desired = Desired::default();
            for network in networks.iter().filter(|n| touched.contains(&n.id)) {
                let owner = owner_of_network(&network.id);
                if tx.attachment_count(&network.id)? > 0 {
                    desired.add(&owner, drivers::network(&self.network_wish(tx, network, mtu)?));
                }
                owners.push(owner);
            }
            if tx.attachments_any()?
                || (!touched.is_empty() && host.used_by_others(self.store.instance()).map_err(usage)?)
            {
                desired.add(BASE, drivers::base());
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
        let wanted: BTreeSet<Key> = desired.owners.keys().cloned().collect();
        let asked: Vec<Object> =
            desired.objects.iter().chain(recorded.iter().filter(|o| !wanted.contains(&o.key()))).cloned().collect();
        let observed = host.observe(&asked).map_err(usage)?;
        let plan = plan::plan(&desired.objects, &recorded, &observed)
            .map_err(|conflict| Stop::Failed(Error::new(Kind::CannotStart, conflict.to_string())))?;
        let forgotten = plan::forgotten(&desired.objects, &recorded);
        let id = tx.journal_begin(owner, &plan)?;
        Ok(Journaled { id, plan, owners: desired.owners, forgotten })
    }

    /// The networks of these attachments, in order. The default network is stored at its first use.
    fn resolve(&self, tx: &Tx<'_>, wishes: &[AttachmentConfig], host: &mut Host) -> Result<Vec<Network>> {
        let mut networks: Vec<Network> = Vec::new();
        for wish in wishes {
            let network = match self.find(tx, wish.network.as_deref().unwrap_or(DEFAULT_NETWORK))? {
                Some(network) => network,
                None => self.store_default(tx, wish.network.as_deref(), host)?,
            };
            if networks.iter().any(|n| n.id == network.id) {
                let text = format!("network {} is given twice: a container joins a network once", network.name);
                return Err(Error::new(Kind::Usage, text));
            }
            networks.push(network);
        }
        Ok(networks)
    }

    /// By name, id or the beginning of an id; the name wins.
    fn find(&self, tx: &Tx<'_>, text: &str) -> Result<Option<Network>> {
        find_in(tx.networks(self.scope)?, text)
    }

    /// The default network, if that is what `text` means, with a subnet and a link that are free now.
    fn store_default(&self, tx: &Tx<'_>, text: Option<&str>, host: &mut Host) -> Result<Network> {
        if !text.is_none_or(means_default) {
            return Err(unknown_network(text.unwrap_or_default()));
        }
        let network = self.fresh_default(tx, host)?;
        tx.network_insert(self.scope, &network)?;
        Ok(network)
    }

    fn fresh_default(&self, tx: &Tx<'_>, host: &mut Host) -> Result<Network> {
        let facts = host.facts().map_err(usage)?;
        let networks = tx.networks(self.scope)?;
        let around = Surroundings { networks: &networks, used: &facts.used, links: &facts.links };
        let mut network = ipam::default_network(&around, &now()).map_err(usage)?;
        if !self.scope.is_empty() {
            // Leases and attachments are told apart by the network's id alone.
            network.id = NetworkId::from_bytes(Sha256::digest(format!("{DEFAULT_NETWORK} {}", self.scope)).into());
        }
        Ok(network)
    }

    /// A bridge that is up keeps its MTU: its members have it too.
    fn network_wish<'n>(&self, tx: &Tx<'_>, network: &'n Network, uplink: u32) -> Result<NetworkWish<'n>, StoreError> {
        let Driver::Bridge(options) = &network.driver;
        let made = tx.made(&[&owner_of_network(&network.id)])?;
        let as_made = made.iter().find_map(|(_, object)| match object {
            Object::Bridge(bridge) => Some(bridge.mtu),
            _ => None,
        });
        let mtu = options.mtu.or(as_made).unwrap_or(uplink);
        let mark = Mark::new(self.store.instance(), &network.id.short());
        Ok(NetworkWish { network, mtu, mark })
    }

    /// All networks by name, the default network among them whether it was used yet or not.
    pub(crate) fn list(&self) -> Result<Vec<Network>> {
        let networks = self.store.read(|tx| tx.networks(self.scope))?;
        if networks.iter().any(|n| n.name.as_str() == DEFAULT_NETWORK) {
            return Ok(networks);
        }
        let mut host = Host::open().map_err(usage)?;
        let default = self.store.read(|tx| self.fresh_default(tx, &mut host))?;
        let mut networks: Vec<Network> = networks.into_iter().chain([default]).collect();
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(networks)
    }

    /// The network of that name, id, or beginning of an id.
    pub(crate) fn get(&self, text: &str) -> Result<Network> {
        if let Some(network) = self.store.read(|tx| self.find(tx, text))? {
            return Ok(network);
        }
        find_in(self.list()?, text)?.ok_or_else(|| unknown_network(text))
    }

    /// Makes a network; nothing in the kernel changes until a container joins it.
    pub(crate) fn create(&self, request: &NetworkRequest) -> Result<Network> {
        let (_lock, mut host) = lock_host()?;
        self.store.write_durable(|tx| {
            let network = self.fresh(tx, &mut host, request)?;
            tx.network_insert(self.scope, &network)?;
            Ok(network)
        })
    }

    /// The plan for such a network with nobody on it: what its first container would find made.
    pub(crate) fn plan_of_create(&self, request: &NetworkRequest) -> Result<Plan> {
        let (_lock, mut host) = lock_host()?;
        let mtu = host.uplink().map_err(usage)?.mtu;
        let planned = self.store.write(|tx| {
            let network = self.fresh(tx, &mut host, request)?;
            let mut desired = Desired::default();
            desired.add(BASE, drivers::base());
            desired.add(BASE, drivers::network(&self.network_wish(tx, &network, mtu)?));
            let journaled = self.journal(tx, &mut host, BASE, desired, &[BASE.to_owned()], &[])?;
            // Nothing of this transaction is kept.
            Err::<(), Stop>(Stop::DryRun(journaled.plan))
        });
        looked_at(planned)
    }

    fn fresh(&self, tx: &Tx<'_>, host: &mut Host, request: &NetworkRequest) -> Result<Network> {
        let facts = host.facts().map_err(usage)?;
        let fresh = Fresh { id: random()?, prefix: random()?, created: &now() };
        let mut networks = tx.networks(self.scope)?;
        if !networks.iter().any(|n| n.name.as_str() == DEFAULT_NETWORK) {
            // Its name, subnet and link are kept free for it.
            networks.push(self.fresh_default(tx, host)?);
        }
        let around = Surroundings { networks: &networks, used: &facts.used, links: &facts.links };
        ipam::plan_network(request, &around, &fresh).map_err(usage)
    }

    /// The default network cannot be removed.
    pub(crate) fn removable(&self, network: &Network) -> Result<()> {
        if network.name.as_str() == DEFAULT_NETWORK {
            return Err(Error::new(Kind::Usage, format!("default network {DEFAULT_NETWORK} cannot be removed")));
        }
        Ok(())
    }

    /// Forgets a network that no container refers to. The caller has checked that with its own records; what
    /// is attached at this moment is checked here.
    pub(crate) fn remove(&self, network: &Network) -> Result<()> {
        self.removable(network)?;
        let (_lock, mut host) = lock_host()?;
        self.repair_with(&mut host)?;
        self.store.write_durable(|tx| {
            if tx.attachment_count(&network.id)? > 0 {
                return Err(in_use(network));
            }
            Ok(tx.network_remove(&network.id)?)
        })
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

/// `--network podman`, or the default network's id or the beginning of it.
fn means_default(text: &str) -> bool {
    text == DEFAULT_NETWORK || (!text.is_empty() && DEFAULT_NETWORK_ID.starts_with(text))
}

pub(crate) fn find_in(networks: Vec<Network>, text: &str) -> Result<Option<Network>> {
    if let Some(named) = networks.iter().find(|n| n.name.as_str() == text) {
        return Ok(Some(named.clone()));
    }
    let mut matching = networks.into_iter().filter(|n| !text.is_empty() && n.id.to_string().starts_with(text));
    match (matching.next(), matching.next()) {
        (Some(_), Some(_)) => {
            Err(Error::new(Kind::Usage, format!("more than one result for network ID {text}: network already exists")))
        }
        (found, _) => Ok(found),
    }
}

pub(crate) fn in_use(network: &Network) -> Error {
    let text = format!(
        "{:?} has associated containers with it. Use -f to forcibly delete containers and pods: network is being used",
        network.name.as_str()
    );
    Error::new(Kind::InUse, text)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    linux::machine::random().map_err(|e| usage(format!("no random numbers: {e}")))
}

fn unknown_network(text: &str) -> Error {
    Error::new(Kind::NotFound, format!("unable to find network with name or ID {text}: network not found"))
}

/// Was the container's namespace mounted in another mount namespace, so that only its empty file is here?
fn is_hidden(container: &ContainerId) -> bool {
    let file = host::sandbox_file(&SandboxName::of(container));
    file.exists() && linux::NetNs::open(&file).is_err()
}

/// Where the endpoints are reached.
fn container_ips(endpoints: &[AttachedEndpoint]) -> Vec<IpAddr> {
    endpoints.iter().flat_map(|e| e.endpoint.addrs.iter().map(|a| a.ip)).collect()
}

/// The host lock first, then a look at the kernel.
fn lock_host() -> Result<(HostLock, Host)> {
    let host = Host::open().map_err(|e| usage(format!("could not open a netlink socket: {e}")))?;
    let path = lock::path(host.namespace());
    let lock = HostLock::take(&path).map_err(|e| usage(format!("could not lock {}: {e}", path.display())))?;
    Ok((lock, host))
}

/// Now, as Podman writes it: RFC 3339 with nanoseconds.
fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

fn owner_of(container: &ContainerId) -> String {
    format!("ctr:{container}")
}

fn owner_of_network(network: &NetworkId) -> String {
    format!("net:{network}")
}

/// Records the container's endpoints and ports as they were before a change that failed.
fn restore(tx: &Tx<'_>, container: &ContainerId, endpoints: &[AttachedEndpoint], ports: &[PortMapping]) -> Result<()> {
    forget(tx, container)?;
    for (order, attached) in (0..).zip(endpoints) {
        let document = serde_json::to_value(attached).map_err(usage)?;
        tx.attachment_put(container, &attached.network_id, order, &document)?;
        for addr in &attached.endpoint.addrs {
            tx.lease(&attached.network_id, &addr.ip, container)?;
        }
    }
    Ok(tx.ports_put(container, ports)?)
}

/// Drops the container's addresses (into quarantine), attachments and ports from the records.
fn forget(tx: &Tx<'_>, container: &ContainerId) -> Result<(), StoreError> {
    tx.leases_release(container, linux::machine::boottime())?;
    tx.attachments_remove(container)?;
    tx.ports_remove(container)
}

pub(crate) fn usage(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Usage, error.to_string())
}

pub(crate) fn cannot_start(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::CannotStart, error.to_string())
}
