//! `network connect`, `disconnect` and `reload`.

use model::{ContainerId, Network};
use plan::Plan;
use store::{StoreError, Tx};

use crate::config::{AttachmentConfig, NetworkMode};
use crate::definitions::DEFAULT_NETWORK;
use crate::endpoints::Identity;
use crate::engine::{Engine, load, no_such_container, save};
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::networking::Change;
use crate::networks::means;
use crate::record::{ContainerRecord, State};

/// Do it, or say what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Do it; the plan that comes back is empty.
    Apply,
    /// Change nothing; the plan says what would change in the kernel.
    DryRun,
}

impl Engine {
    /// Lets a container join one more network: at once when it runs, else when it is started. One that is on
    /// it already and does not run is left as it is, as in Podman.
    pub fn connect_network(
        &mut self,
        network: &str,
        container: &str,
        mut asked: AttachmentConfig,
        mode: Mode,
    ) -> Result<Plan> {
        loop {
            let record = self.changeable(container)?;
            let network = self.network(network)?;
            asked.network = Some(network.name.to_string());
            let networks = self.networks()?;
            if attachments(&record)?.iter().any(|a| means(&networks, a, &network)) {
                if record.state.at_rest() {
                    return Ok(Plan::default());
                }
                return Err(Error::usage(format!(
                    "container {} is already connected to network {}: network is already connected",
                    record.id, network.name
                )));
            }
            asked.fits(&network)?;
            let identity = Identity::of(&record);
            if mode == Mode::DryRun {
                return self.plan_change(&record, &Change::Connect(&asked, &identity));
            }
            match self.change(&record, &Change::Connect(&asked, &identity)) {
                Err(error) if error.kind == Kind::WrongState && self.has_moved_on(&record)? => continue,
                changed => changed?,
            }
            let written = self.change_attachments(&record, |tx, attachments| {
                for ip in &asked.static_ips {
                    tx.address_keep(&record.id, &network.id, ip, true)?;
                }
                attachments.push(asked.clone());
                tx.event_add(&events::of_attachment(&record, "connect", &network))
            });
            if written.inspect_err(|_| self.take_back(&record, &Change::Disconnect(network.id)))? {
                return Ok(Plan::default());
            }
        }
    }

    /// Takes a container off a network. The last one off leaves it with `lo` alone.
    pub fn disconnect_network(&mut self, network: &str, container: &str, mode: Mode) -> Result<Plan> {
        loop {
            let record = self.changeable(container)?;
            let network = self.network(network)?;
            let networks = self.networks()?;
            let Some(attachment) = attachments(&record)?.iter().find(|a| means(&networks, a, &network)) else {
                let text = format!("container {container} is not connected to network {}", network.name);
                return Err(Error::new(Kind::WrongState, text));
            };
            if mode == Mode::DryRun {
                return self.plan_change(&record, &Change::Disconnect(network.id));
            }
            match self.change(&record, &Change::Disconnect(network.id)) {
                Err(error) if error.kind == Kind::WrongState && self.has_moved_on(&record)? => continue,
                changed => changed?,
            }
            let written = self.change_attachments(&record, |tx, attachments| {
                tx.addresses_unkeep(&record.id, &network.id, true)?;
                tx.lan_leases_forget(&record.id, &network.id)?;
                attachments.retain(|a| !means(&networks, a, &network));
                tx.event_add(&events::of_attachment(&record, "disconnect", &network))
            });
            let identity = Identity::of(&record);
            if written.inspect_err(|_| self.take_back(&record, &Change::Connect(attachment, &identity)))? {
                return Ok(Plan::default());
            }
        }
    }

    /// A container whose networks can be changed, and that nobody is starting just now.
    fn changeable(&mut self, container: &str) -> Result<ContainerRecord> {
        let id = self.find(container)?;
        self.wait_settled(&id)?;
        let record = self.record(&id)?;
        attachments(&record)?;
        Ok(record)
    }

    /// Has it been started, stopped or removed since?
    fn has_moved_on(&self, seen: &ContainerRecord) -> Result<bool> {
        let now = self.store.read(|tx| load(tx, &seen.id))?;
        Ok(now.is_none_or(|now| now.state != seen.state || now.init != seen.init))
    }

    /// Makes the kernel as it should be for a container that runs: after a flushed firewall, a removed link.
    /// Changes nothing where nothing is amiss.
    pub fn reload_network(&mut self, container: &str) -> Result<ContainerId> {
        let record = self.reloadable_record(container)?;
        self.change(&record, &Change::Reload)?;
        Ok(record.id)
    }

    /// What a reload would change.
    pub fn plan_reload_network(&self, container: &str) -> Result<Plan> {
        self.plan_change(&self.reloadable_record(container)?, &Change::Reload)
    }

    fn reloadable_record(&self, container: &str) -> Result<ContainerRecord> {
        let record = self.named(container)?;
        if let mode @ (NetworkMode::Pasta(_) | NetworkMode::Slirp4netns(_)) = &record.settings.network.mode {
            return Err(Error::usage(format!("{:?} is not supported: invalid network mode", mode.word())));
        }
        if !matches!(record.settings.network.mode, NetworkMode::Networks(_)) {
            let text = format!(
                "container {} network is not configured, refusing to reload: container state improper",
                record.id
            );
            return Err(Error::new(Kind::WrongState, text));
        }
        if record.state != State::Running {
            let text = "cannot reload network unless container network has been configured: container state improper";
            return Err(Error::new(Kind::WrongState, text));
        }
        Ok(record)
    }

    /// At once when it runs, with the files that it sees; otherwise there is nothing to do yet.
    pub(crate) fn change(&self, record: &ContainerRecord, change: &Change<'_>) -> Result<()> {
        if record.state != State::Running {
            return Ok(());
        }
        show_sandbox(record)?;
        let endpoints = self.networking().change(&record.id, change)?;
        self.warn_of_blockers(&endpoints);
        let written = self.rewrite_files(record, &endpoints);
        if let (Err(_), Change::Connect(asked, _)) = (&written, change) {
            let network = self.network(asked.network.as_deref().unwrap_or(DEFAULT_NETWORK))?;
            self.take_back(record, &Change::Disconnect(network.id));
        }
        written
    }

    /// After a change that could not be written down. What cannot be taken back either, a reload or a restart
    /// puts right; the first failure is the one to tell.
    fn take_back(&self, record: &ContainerRecord, change: &Change<'_>) {
        if record.state != State::Running {
            return;
        }
        let taken_back = self.networking().change(&record.id, change);
        if let Err(error) = taken_back.and_then(|endpoints| self.rewrite_files(record, &endpoints)) {
            tracing::warn!(container = %record.id, %error, "a change of its networks cannot be taken back");
        }
    }

    pub(crate) fn plan_change(&self, record: &ContainerRecord, change: &Change<'_>) -> Result<Plan> {
        if record.state != State::Running {
            return Ok(Plan::default());
        }
        show_sandbox(record)?;
        self.networking().plan_of_change(&record.id, change)
    }

    /// The running containers that have networks of ours.
    pub fn reloadable(&self) -> Result<Vec<ContainerId>> {
        let networked = |r: &ContainerRecord| r.state == State::Running && r.settings.network.mode.is_networked();
        Ok(self.records()?.into_iter().filter(networked).map(|record| record.id).collect())
    }

    /// `false`, and nothing is written, when the container has been started or started anew since `seen`: then
    /// it is on other networks than was thought.
    fn change_attachments(
        &self,
        seen: &ContainerRecord,
        change: impl FnOnce(&Tx<'_>, &mut Vec<AttachmentConfig>) -> Result<(), StoreError>,
    ) -> Result<bool> {
        self.store.write(|tx| {
            let mut record = load(tx, &seen.id)?.ok_or_else(|| no_such_container(&seen.id.to_string()))?;
            let same_run = !seen.state.at_rest() && record.init == seen.init;
            if !record.state.at_rest() && !same_run {
                return Ok(false);
            }
            if let NetworkMode::Networks(attachments) = &mut record.settings.network.mode {
                change(tx, attachments)?;
            }
            save(tx, &record)?;
            Ok(true)
        })
    }
}

impl AttachmentConfig {
    /// Do the fixed addresses lie in the network?
    fn fits(&self, network: &Network) -> Result<()> {
        let outside = |ip: &&std::net::IpAddr| !network.subnets.iter().any(|s| s.subnet.contains(**ip));
        match self.static_ips.iter().find(outside) {
            Some(ip) => {
                Err(Error::usage(format!("requested static ip {ip} not in any subnet on network {}", network.name)))
            }
            None => Ok(()),
        }
    }
}

/// A running container's namespace may have been mounted where we do not see it. Files of namespaces that are
/// not its own are left alone: they may stand for others by now.
pub(crate) fn show_sandbox(record: &ContainerRecord) -> Result<()> {
    if !record.settings.network.mode.is_networked() && record.settings.network.mode != NetworkMode::None {
        return Ok(());
    }
    match (&record.netns, &record.init) {
        (Some(netns), Some(init)) => linux::netns::show(netns, init)
            .map_err(|e| Error::at(format!("cannot open the network namespace of container {}", record.id), e)),
        _ => Ok(()),
    }
}

fn attachments(record: &ContainerRecord) -> Result<&[AttachmentConfig]> {
    match &record.settings.network.mode {
        NetworkMode::Networks(attachments) => Ok(attachments),
        mode @ (NetworkMode::Pasta(_) | NetworkMode::Slirp4netns(_)) => {
            Err(Error::usage(format!("{:?} is not supported: invalid network mode", mode.word())))
        }
        NetworkMode::None
        | NetworkMode::Host
        | NetworkMode::Container(_)
        | NetworkMode::Path(_)
        | NetworkMode::Private(_) => {
            // Podman's sentence, with its empty name.
            Err(Error::usage("\"\" is not supported: invalid network mode"))
        }
    }
}
