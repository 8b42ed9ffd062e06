//! Containers that join a pod.

use model::ContainerId;
use store::Tx;

use super::{PodPlace, Role, Share, no_such_pod};
use crate::config::{ContainerConfig, Dns, NetworkConfig, NetworkMode, PodChoice, UsersWish};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::record::{ContainerRecord, State};
use crate::talk::Talk;
use crate::users::Users;

/// What is said of what a member cannot have for itself.
const SHARED: &str = "network cannot be configured when it is shared with a pod";

/// Refuses a container whose pod is not there, or leaving; and one that is called as a pod is.
pub(crate) fn check_join(tx: &Tx<'_>, record: &ContainerRecord) -> Result<()> {
    if tx.pod_named(record.name.as_str())?.is_some() {
        let text =
            format!("adding container to state: name {:?} is in use: container already exists", record.name.as_str());
        return Err(Error::usage(text));
    }
    let Some(place) = record.settings.pod.as_ref().filter(|_| !record.is_infra()) else { return Ok(()) };
    match tx.pod_doc::<serde::de::IgnoredAny>(&place.id)? {
        Some((row, _)) if row.leaving.is_none() => Ok(()),
        _ => Err(no_such_pod(place.name.as_str())),
    }
}

impl Engine {
    /// Makes the pod of `--pod new:NAME`; the configuration with it as any other, and its id.
    pub(crate) fn make_pod_of(
        &mut self,
        mut config: ContainerConfig,
        talk: &mut Talk<'_>,
    ) -> Result<(ContainerConfig, Option<model::PodId>)> {
        let Some(PodChoice::New(pod)) = &config.pod else { return Ok((config, None)) };
        let id = self.create_pod(pod.as_ref().clone(), talk)?;
        config.pod = Some(PodChoice::Join(id.to_string()));
        Ok((config, Some(id)))
    }

    /// Takes back what [`Engine::make_pod_of`] made, for a container that came to nothing.
    pub(crate) fn unmake_pod(&mut self, made: Option<model::PodId>) {
        let Some(id) = made else { return };
        if let Err(error) = self.remove_pod(&id.to_string(), &super::PodRemoval { force: true, time: Some(0) }) {
            tracing::warn!(%error, pod = %id, "cannot take back the pod of a container that came to nothing");
        }
    }

    /// The configuration of a container in its pod, and its place there.
    pub(crate) fn place_in_pod(&self, config: &ContainerConfig) -> Result<Option<(ContainerConfig, PodPlace)>> {
        let Some(PodChoice::Join(name)) = &config.pod else { return Ok(None) };
        let pod = self.pod(name)?;
        let mut settled = config.clone();
        pod.common.add_to(&mut settled);
        let has = |share| pod.infra.is_some() && pod.share.contains(&share);
        if let (true, Some(infra)) = (has(Share::Net) && !is_own(&config.network.mode), &pod.infra) {
            settled.network = shared_network(&config.network, infra)?;
        }
        if has(Share::Uts) {
            if config.hostname.is_some() {
                return Err(Error::usage(
                    "invalid config provided: cannot set hostname when joining the pod UTS namespace: invalid configuration",
                ));
            }
            if pod.common.uts == crate::config::Space::Private {
                settled.hostname = Some(pod.shown_hostname().parse()?);
            }
        }
        if let (true, Some(infra), UsersWish::Host) = (pod.shares_users, &pod.infra, &settled.users) {
            settled.users = UsersWish::Container(infra.to_string());
        }
        let mut shares = super::create::held(&pod.share, &pod.common);
        shares.retain(|share| *share != Share::Net && pod.infra.is_some());
        let role = Role::Member { infra: pod.infra, shares };
        let place = PodPlace { id: pod.id, name: pod.name.clone(), role, exit_policy: pod.exit_policy };
        Ok(Some((settled, place)))
    }

    /// The containers that must run before this one.
    pub(crate) fn needed_by(&self, record: &ContainerRecord) -> Result<Vec<ContainerId>> {
        let mut needed = Vec::new();
        if let NetworkMode::Container(name) = &record.settings.network.mode {
            needed.push(self.named(name)?.id);
        }
        if let Some(Users::Of(id)) = &record.settings.users {
            needed.push(*id);
        }
        if let Some((infra, _)) = record.shares().filter(|(infra, _)| !needed.contains(infra)) {
            needed.push(*infra);
        }
        for name in crate::lookup::needs(record) {
            let id = self.named(&name)?.id;
            if !needed.contains(&id) {
                needed.push(id);
            }
        }
        Ok(needed)
    }

    /// Kills what is left of a member that has its process numbers from its pod, where no PID namespace ends with its
    /// first process.
    pub(crate) fn kill_in_pod(&self, record: &ContainerRecord) -> Result<()> {
        let (Some(mounts), Some((infra, _))) = (record.mount_namespace, record.shares()) else { return Ok(()) };
        let infra = self.store.read(|tx| crate::engine::load(tx, infra))?;
        let Some(first) = infra.and_then(|infra| infra.init) else { return Ok(()) };
        linux::process::kill_all_in(mounts, &first)
            .map_err(|e| Error::at(format!("cannot kill container {}", record.id), e))
    }

    /// When the last member of a pod that is to stop then has ended: stops it. Its monitor does the rest.
    ///
    /// To be called while the member's record still says that somebody is at work on it: killed in between, whoever
    /// repairs it comes by here again. Of two that end at once, one at least sees that the other has ended.
    pub(crate) fn end_with_last_member(&self, record: &ContainerRecord) -> Result<()> {
        let Some(PodPlace { id, role: Role::Member { infra: Some(infra), .. }, exit_policy, .. }) =
            &record.settings.pod
        else {
            return Ok(());
        };
        // It is about to be started again.
        let returns = matches!(record.fate, Some(crate::record::Fate::Return(_))) || crate::restart::follows(record);
        if *exit_policy == super::ExitPolicy::Continue || returns {
            return Ok(());
        }
        let (others, infra) = self.store.read(|tx| {
            let mut others = Vec::new();
            for other in tx.containers_of_pod(id)?.into_iter().filter(|other| *other != record.id && other != infra) {
                others.extend(crate::engine::load(tx, &other)?);
            }
            Ok::<_, Error>((others, crate::engine::load(tx, infra)?))
        })?;
        let goes_on = |other: &ContainerRecord| {
            matches!(other.state, State::Starting | State::Running) || crate::restart::wants(other)
        };
        if others.iter().any(goes_on) {
            return Ok(());
        }
        match infra.and_then(|infra| infra.init).map(|init| init.signal(linux::Signal::TERM)) {
            Some(Err(e)) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::at("cannot stop the pod", e)),
            _ => Ok(()),
        }
    }
}

/// Was a network asked for that is not the pod's?
fn is_own(mode: &NetworkMode) -> bool {
    !matches!(mode, NetworkMode::Private(_))
}

/// The network of the infra container, of which a member can choose nothing.
fn shared_network(wish: &NetworkConfig, infra: &ContainerId) -> Result<NetworkConfig> {
    let refuse = |what: &str| Err(Error::usage(format!("invalid config provided: {what}: {SHARED}")));
    if !wish.publish.is_empty() || wish.publish_all || !wish.expose.is_empty() {
        return refuse("published or exposed ports must be defined when the pod is created");
    }
    if wish.mode != NetworkMode::Private(crate::config::AttachmentConfig::default()) {
        return refuse("networks must be defined when the pod is created");
    }
    if !wish.add_hosts.is_empty() {
        return refuse("extra host entries must be specified on the pod");
    }
    if wish.dns != Dns::Host || wish.dns_search.is_some() || !wish.dns_options.is_empty() {
        return refuse("DNS servers, search domains and options must be defined when the pod is created");
    }
    Ok(NetworkConfig { mode: NetworkMode::Container(infra.to_string()), ..wish.clone() })
}
