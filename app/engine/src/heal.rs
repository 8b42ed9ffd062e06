//! The kernel as it should be, for everybody at once: `network reload --all`, and what netd does when it hears
//! that something of ours has vanished.
//!
//! ```text
//!   netd's watch ── Suspicion ──> wanted at all? (store) ── host lock ──> missing? ──┐
//!   network reload --all ────────────────────────────────── host lock ───────────────┴─> one plan ─> apply
//!                                                               conflict about X: the plan without X <┘
//! ```
//!
//! **How it works.** Commands of ours make links vanish all the time, and each is heard of. So a suspicion is
//! first compared with the store, which costs a look-up; then, with the lock held, with the kernel, which costs a
//! look at one owner's objects; only then is everything looked at. The plan is computed from the endpoints as
//! they were recorded: healing chooses no address, no name and no port.
//!
//! **Invariants.** Somebody else's object in the way of one container or network keeps nobody else from being
//! healed. A container whose namespace cannot be seen from here is left alone: seen from here it would look
//! gone. What was on a parent that is not there waits until it is. A plan that was interrupted is dropped (owner `heal` in the journal): the next one does it.
//!
//! **Limits.** What root inside a container does to its own links is seen only when something else is amiss.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use host::{ApplyError, Host};
use model::{ContainerId, HostAddress, LinkName, Network, NetworkId, PortMapping, Protocol};
use plan::{Field, Key, Object, Op, Plan, SandboxName};

use crate::connect::{Mode, show_sandbox};
use crate::endpoints::AttachedEndpoint;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::networking::{
    BASE, Desired, Journaled, Machine, Networking, add_network, container_ips, missing_parent, owner_of,
    owner_of_network, usage,
};

/// What may be amiss.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspicion {
    /// Anything: rules were deleted, forwarding was switched off, or some news were missed.
    pub everything: bool,
    /// Links in the host place that were deleted or changed, or lost an address.
    pub links: BTreeSet<LinkName>,
    /// Links of others that are there and up since: what was on one of this name went with it.
    pub parents: BTreeSet<LinkName>,
}

impl Suspicion {
    /// That anything may be amiss.
    pub fn of_everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// No suspicion?
    pub fn is_empty(&self) -> bool {
        !self.everything && self.links.is_empty() && self.parents.is_empty()
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Healed {
    /// The steps that were taken, or would be; empty when nothing was amiss.
    pub plan: Plan,
    /// The containers that were looked at and are as they should be now.
    pub containers: Vec<ContainerId>,
    /// What could not be healed: a container or a network, and why.
    pub left_out: Vec<LeftOut>,
    /// What can not be healed before a link of others is there again.
    pub waiting: Vec<LeftOut>,
}

/// Something that could not be healed.
#[derive(Debug)]
pub struct LeftOut {
    /// `container ID`, or `network NAME` with all who are on it.
    pub what: String,
    /// Why.
    pub error: Error,
}

impl Engine {
    /// Makes the kernel as it should be for all running containers, if there is something to the suspicion.
    ///
    /// `firewall`: the socket that owns the firewall's tables, for who has it; everybody else asks netd for it.
    pub fn heal(&self, suspicion: &Suspicion, firewall: Option<OwnedFd>) -> Result<Healed> {
        let networking = self.networking();
        if !networking.anything_wanted(suspicion)? {
            return Ok(Healed::default());
        }
        let mut machine = networking.lock_as_it_is()?;
        // What was suspected may have been removed while the lock was waited for.
        if !networking.anything_wanted(suspicion)? {
            return Ok(Healed::default());
        }
        let owner = match firewall {
            Some(socket) => {
                machine.host.use_firewall_socket(netlink::Socket::from_fd(socket).map_err(usage)?);
                Firewall::Given
            }
            None => Firewall::Asked,
        };
        if !networking.is_amiss(&mut machine.host, suspicion)? {
            return Ok(Healed::default());
        }
        networking.heal(&mut machine, owner, Mode::Apply, &|id| self.shown(id))
    }

    /// `network reload --all`: as [`Engine::heal`] without a suspicion. Tells of others' rules that block.
    pub fn reload_networks(&self, mode: Mode) -> Result<Healed> {
        let networking = self.networking();
        let mut machine = networking.lock()?;
        let healed = networking.heal(&mut machine, Firewall::Asked, mode, &|id| self.shown(id))?;
        if mode == Mode::Apply {
            networking.put_all_relayed(&mut machine)?;
            networking.tell(&mut machine, None);
            networking.leave_if_unused(machine)?;
            self.warn_of_blockers(&self.one_of_each_network()?);
        }
        Ok(healed)
    }

    /// Can the container's namespace be seen from here? Made so, where it is mounted somewhere else.
    pub(crate) fn shown(&self, id: &ContainerId) -> bool {
        let file = host::sandbox_file(&SandboxName::of(id));
        if linux::NetNs::open(&file).is_ok() {
            return true;
        }
        match self.record(id).and_then(|record| show_sandbox(&record)) {
            Ok(()) => linux::NetNs::open(&file).is_ok(),
            Err(error) => {
                tracing::debug!(container = %id, %error, "not looked at");
                false
            }
        }
    }

    /// An endpoint on each network that is in use.
    fn one_of_each_network(&self) -> Result<Vec<AttachedEndpoint>> {
        let mut seen = BTreeSet::new();
        let attached = self.store.read(|tx| tx.attachments_up())?.into_iter();
        let first = attached.filter(|(_, network, _)| seen.insert(*network));
        first.map(|(_, _, document)| serde_json::from_value(document).map_err(usage)).collect()
    }
}

/// Where the socket comes from that owns the firewall's tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Firewall {
    /// The machine has it already: we are netd.
    Given,
    /// From netd, which is started when it is not there.
    Asked,
}

/// Why a plan for everybody was not made or not taken, and because of whom.
struct Obstacle {
    /// The owner in the records; `None`: it is nobody's alone.
    owner: Option<String>,
    error: Error,
}

impl<E: Into<Error>> From<E> for Obstacle {
    fn from(error: E) -> Self {
        Self { owner: None, error: error.into() }
    }
}

/// What should be there for all who are not left out.
#[derive(Default)]
struct Everybody {
    desired: Desired,
    recorded: Vec<Object>,
    containers: BTreeMap<ContainerId, Vec<AttachedEndpoint>>,
    /// Owners of links whose parent is not there, and went with it.
    waiting: BTreeMap<String, Error>,
}

impl Networking<'_> {
    /// Is anything that is suspected to be amiss recorded as made by us? Takes no lock.
    fn anything_wanted(&self, suspicion: &Suspicion) -> Result<bool> {
        match suspicion.everything {
            true => Ok(self.store.read(|tx| tx.attachments_any())?),
            false => Ok(!self.suspects(suspicion)?.is_empty()),
        }
    }

    /// The owners of the links, and of those on the parents.
    fn suspects(&self, suspicion: &Suspicion) -> Result<BTreeSet<String>> {
        let owners = self.store.read(|tx| {
            let mut owners = BTreeSet::new();
            for link in &suspicion.links {
                owners.extend(tx.made_for(&Key::Link(link.clone()))?);
            }
            if suspicion.parents.is_empty() {
                return Ok(owners);
            }
            // Whose parent was left to be found may be on any.
            let may_be_on = |network: &&Network| {
                let parent = network.link.as_ref();
                network.bridge().is_none() && parent.is_none_or(|parent| suspicion.parents.contains(parent))
            };
            for network in tx.networks_of_all_scopes()?.iter().filter(may_be_on) {
                owners.extend(tx.attachments_on(&network.id)?.iter().map(|(container, _)| owner_of(container)));
            }
            Ok::<_, store::StoreError>(owners)
        })?;
        Ok(owners)
    }

    /// Is the kernel not as we made it? Under the lock, so that nobody of ours is in the middle of a change.
    fn is_amiss(&self, host: &mut Host, suspicion: &Suspicion) -> Result<bool> {
        if suspicion.everything {
            return Ok(true);
        }
        for owner in self.suspects(suspicion)? {
            let made: Vec<Object> = self.store.read(|tx| tx.made(&[&owner]))?.into_iter().map(|(_, o)| o).collect();
            let observed = host.observe(&made).map_err(usage)?;
            // A conflict is something amiss, too: it is told when everything is looked at.
            if !plan::plan(&made, &made, &observed).is_ok_and(|plan| plan.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One plan for all running containers on networks. `shown`: can a container's namespace be seen from here?
    fn heal(
        &self,
        machine: &mut Machine,
        firewall: Firewall,
        mode: Mode,
        shown: &dyn Fn(&ContainerId) -> bool,
    ) -> Result<Healed> {
        if firewall == Firewall::Asked && mode == Mode::Apply {
            self.repair_with(machine)?;
            self.take_firewall(machine)?;
        }
        let mut obstacles: BTreeMap<String, Error> = BTreeMap::new();
        loop {
            match self.heal_without(machine, &obstacles, mode, shown) {
                Ok((plan, Everybody { containers, waiting, .. })) => {
                    let left_out = self.name_obstacles(obstacles)?;
                    let waiting = self.name_obstacles(waiting)?;
                    return Ok(Healed { plan, containers: containers.into_keys().collect(), left_out, waiting });
                }
                Err(Obstacle { owner: Some(owner), error }) if owner != BASE && !obstacles.contains_key(&owner) => {
                    obstacles.insert(owner, error);
                }
                Err(Obstacle { error, .. }) => return Err(error),
            }
        }
    }

    fn heal_without(
        &self,
        machine: &mut Machine,
        obstacles: &BTreeMap<String, Error>,
        mode: Mode,
        shown: &dyn Fn(&ContainerId) -> bool,
    ) -> Result<(Plan, Everybody), Obstacle> {
        let host = &mut machine.host;
        let mut everybody = self.everybody(host, obstacles, shown)?;
        let (desired, recorded) = (std::mem::take(&mut everybody.desired), std::mem::take(&mut everybody.recorded));
        let owner_of_key = |key: &Key| desired.owners.get(key).cloned();
        let plan = desired
            .plan(&recorded, host)?
            .map_err(|conflict| Obstacle { owner: owner_of_key(&conflict.wanted.key()), error: usage(&conflict) })?;
        if plan.is_empty() || mode == Mode::DryRun {
            return Ok((plan, everybody));
        }
        log(&plan);
        let forgotten = plan::forgotten(&desired.objects, &recorded);
        let id = self.store.write(|tx| tx.journal_begin(HEAL, &plan))?;
        let journaled = Journaled { id, plan, owners: desired.owners, forgotten };
        match host.apply(&journaled.plan) {
            Ok(()) => {}
            // What remains of it is found by the next look, by its mark.
            Err(error) => {
                self.store.write(|tx| tx.journal_end(id))?;
                let owner = refused_key(&error).and_then(|key| journaled.owners.get(&key).cloned());
                return Err(Obstacle { owner, error: usage(error) });
            }
        }
        self.finish(&journaled)?;
        self.flush_published(host, &journaled, &everybody.containers)?;
        Ok((journaled.plan, everybody))
    }

    /// What the records say that should be there, and what was made, without those who are left out.
    fn everybody(
        &self,
        host: &mut Host,
        obstacles: &BTreeMap<String, Error>,
        shown: &dyn Fn(&ContainerId) -> bool,
    ) -> Result<Everybody> {
        let mtu = self.usual_mtu(host)?;
        self.store.read(|tx| {
            let mut everybody = Everybody::default();
            let attached = tx.attachments_up()?;
            if attached.is_empty() {
                return Ok(everybody);
            }
            let used: BTreeSet<NetworkId> = attached.iter().map(|(_, network, _)| *network).collect();
            let networks: Vec<Network> =
                tx.networks_of_all_scopes()?.into_iter().filter(|n| used.contains(&n.id)).collect();
            let mut wishes = BTreeMap::new();
            let mut owners = BTreeSet::from([BASE.to_owned()]);
            if networks.iter().any(|network| network.bridge().is_some()) {
                everybody.desired.add(BASE, drivers::base(self.options.rootless));
            }
            for network in networks.iter().filter(|n| !obstacles.contains_key(&owner_of_network(&n.id))) {
                let (owner, wish) = (owner_of_network(&network.id), self.network_wish(tx, network, mtu)?);
                add_network(&mut everybody.desired, &owner, &wish)?;
                owners.insert(owner);
                wishes.insert(network.id, wish);
            }
            for attachments in attached.chunk_by(|a, b| a.0 == b.0) {
                let id = attachments[0].0;
                let owner = owner_of(&id);
                let reachable = attachments.iter().all(|(_, network, _)| wishes.contains_key(network));
                if obstacles.contains_key(&owner) || !reachable || !shown(&id) {
                    continue;
                }
                let endpoints = attachments.iter().map(|(_, _, document)| serde_json::from_value(document.clone()));
                let endpoints: Vec<AttachedEndpoint> = endpoints.collect::<Result<_, _>>().map_err(usage)?;
                let members = || attachments.iter().map(|(_, network, _)| &wishes[network]);
                // What links made in it start with is set when it is made, and root inside may have changed it since.
                let sandbox = Object::Sandbox(plan::Sandbox { name: SandboxName::of(&id) });
                everybody.desired.add(&owner, vec![sandbox]);
                for (wish, attached) in members().zip(&endpoints) {
                    let objects = drivers::attachment(wish, &attached.endpoint);
                    if let Some(parent) = missing_parent(wish, Some(attached))? {
                        everybody.desired.leave(&objects);
                        let why = usage(format!("parent interface {parent} does not exist"));
                        everybody.waiting.insert(owner.clone(), why);
                    } else {
                        everybody.desired.add(&owner, objects);
                    }
                }
                owners.insert(owner);
                everybody.containers.insert(id, endpoints);
            }
            let made = tx.made_all()?.into_iter().filter(|(owner, _)| owners.contains(owner)).map(|(_, object)| object);
            // A setting that is not desired is left as it is in any case.
            let Desired { owners: wanted, left, .. } = &everybody.desired;
            let is_setting = |o: &Object| matches!(o, Object::Sysctl(_));
            let matters = |o: &Object| !left.contains(&o.key()) && (!is_setting(o) || wanted.contains_key(&o.key()));
            everybody.recorded = made.filter(matters).collect();
            Ok(everybody)
        })
    }

    /// Clients that went on sending datagrams while nobody was published have flows to nowhere.
    fn flush_published(
        &self,
        host: &mut Host,
        journaled: &Journaled,
        containers: &BTreeMap<ContainerId, Vec<AttachedEndpoint>>,
    ) -> Result<()> {
        let elements = journaled.plan.ops.iter().filter(|op| matches!(op, Op::Create(Object::Element(_))));
        let owners: BTreeSet<&str> =
            elements.filter_map(|op| Some(journaled.owners.get(&op.object().key())?.as_str())).collect();
        let again: Vec<_> = containers.iter().filter(|(id, _)| owners.contains(owner_of(id).as_str())).collect();
        let mut ports = Vec::new();
        self.store.read(|tx| {
            again.iter().try_for_each(|(id, _)| {
                ports.extend(tx.ports_of(id)?);
                Ok::<_, store::StoreError>(())
            })
        })?;
        ports.extend(journaled.plan.ops.iter().filter_map(moved_names));
        let ips: Vec<_> = again.iter().flat_map(|(_, endpoints)| container_ips(endpoints)).collect();
        host.flush_udp(&ports, &ips).map_err(usage)
    }

    fn name_obstacles(&self, obstacles: BTreeMap<String, Error>) -> Result<Vec<LeftOut>> {
        if obstacles.is_empty() {
            return Ok(Vec::new());
        }
        let networks = self.store.read(|tx| tx.networks_of_all_scopes())?;
        let name = |owner: String| match networks.iter().find(|n| owner_of_network(&n.id) == owner) {
            Some(network) => format!("network {}", network.name),
            None => owner.replacen("ctr:", "container ", 1),
        };
        Ok(obstacles.into_iter().map(|(owner, error)| LeftOut { what: name(owner), error }).collect())
    }
}

/// The plan as text, though a thousand containers shall not fill the log.
fn log(plan: &Plan) {
    const LINES: usize = 40;
    plan.ops.iter().take(LINES).for_each(|op| tracing::info!("healing: {op}"));
    if let Some(more) = plan.ops.len().checked_sub(LINES).filter(|more| *more > 0) {
        tracing::info!("healing: and {more} steps more");
    }
}

/// The gateway's port 53, where names are served on another port than before: whoever asks from the same port
/// again would go on asking the old one.
fn moved_names(op: &Op) -> Option<PortMapping> {
    let Op::Change { to: Object::Element(element), .. } = op else { return None };
    let Some(Field::Ip(gateway)) = element.key.first().filter(|_| ["dns4", "dns6"].contains(&element.set.as_str()))
    else {
        return None;
    };
    let (host, protocol) = (HostAddress::Ip(*gateway), Protocol::Udp);
    Some(PortMapping { host, host_port: 53, container_port: 53, range: 1, protocol })
}

/// Who has plans for everybody in the journal.
pub(crate) const HEAL: &str = "heal";

/// The object whose step was refused.
fn refused_key(error: &ApplyError) -> Option<Key> {
    match error {
        ApplyError::Denied { op, .. } | ApplyError::Refused { op, .. } => Some(op.object().key()),
        ApplyError::Conflict(conflict) => Some(conflict.wanted.key()),
        ApplyError::Stuck { .. } => None,
    }
}
