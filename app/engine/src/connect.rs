//! `network connect`, `disconnect` and `reload`.

use std::io::Write;

use model::{ContainerId, Network};
use plan::Plan;

use crate::config::{AttachmentConfig, NetworkMode};
use crate::endpoints::AttachedEndpoint;
use crate::engine::{Engine, load, save};
use crate::error::{Error, Kind, Result};
use crate::networking::Change;
use crate::networks::means;
use crate::record::{ContainerRecord, State};
use crate::start::hosts_text;

/// Do it, or say what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Do it; the plan that comes back is empty.
    Apply,
    /// Change nothing; the plan says what would change in the kernel.
    DryRun,
}

impl Engine {
    /// Lets a container join one more network: at once when it runs, else when it is started.
    pub fn connect_network(
        &mut self,
        network: &str,
        container: &str,
        mut asked: AttachmentConfig,
        mode: Mode,
    ) -> Result<Plan> {
        let record = self.named(container)?;
        let network = self.network(network)?;
        asked.network = Some(network.name.to_string());
        let networks = self.networks()?;
        if attachments(&record)?.iter().any(|a| means(&networks, a, &network)) {
            return Err(Error::usage(format!(
                "container {} is already connected to network {}: network is already connected",
                record.id, network.name
            )));
        }
        asked.fits(&network)?;
        if mode == Mode::DryRun {
            return self.plan_change(&record, &Change::Connect(&asked));
        }
        self.change(&record, &Change::Connect(&asked))?;
        self.change_attachments(&record.id, |attachments| attachments.push(asked))?;
        Ok(Plan::default())
    }

    /// Takes a container off a network. The last one off leaves it with `lo` alone.
    pub fn disconnect_network(&mut self, network: &str, container: &str, mode: Mode) -> Result<Plan> {
        let record = self.named(container)?;
        let network = self.network(network)?;
        let networks = self.networks()?;
        if !attachments(&record)?.iter().any(|a| means(&networks, a, &network)) {
            let text = format!("container {container} is not connected to network {}", network.name);
            return Err(Error::new(Kind::WrongState, text));
        }
        if mode == Mode::DryRun {
            return self.plan_change(&record, &Change::Disconnect(network.id));
        }
        self.change(&record, &Change::Disconnect(network.id))?;
        self.change_attachments(&record.id, |attachments| attachments.retain(|a| !means(&networks, a, &network)))?;
        Ok(Plan::default())
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

    /// At once when it runs, with its hosts file; otherwise there is nothing to do yet.
    fn change(&self, record: &ContainerRecord, change: &Change<'_>) -> Result<()> {
        if record.state != State::Running {
            return Ok(());
        }
        show_sandbox(record)?;
        let endpoints = self.networking().change(&record.id, change)?;
        self.rewrite_hosts(record, &endpoints)
    }

    fn plan_change(&self, record: &ContainerRecord, change: &Change<'_>) -> Result<Plan> {
        if record.state != State::Running {
            return Ok(Plan::default());
        }
        show_sandbox(record)?;
        self.networking().plan_of_change(&record.id, change)
    }

    /// The running containers that have networks of ours.
    pub fn reloadable(&self) -> Result<Vec<ContainerId>> {
        let networked = |r: &ContainerRecord| {
            r.state == State::Running && matches!(r.settings.network.mode, NetworkMode::Networks(_))
        };
        Ok(self.records()?.into_iter().filter(networked).map(|record| record.id).collect())
    }

    fn change_attachments(&self, id: &ContainerId, change: impl FnOnce(&mut Vec<AttachmentConfig>)) -> Result<()> {
        self.store.write(|tx| {
            let Some(mut record) = load(tx, id)? else { return Ok(()) };
            if let NetworkMode::Networks(attachments) = &mut record.settings.network.mode {
                change(attachments);
            }
            save(tx, &record)
        })
    }

    /// In place: the file is mounted into the container, which would go on seeing a renamed one's old text.
    fn rewrite_hosts(&self, record: &ContainerRecord, endpoints: &[AttachedEndpoint]) -> Result<()> {
        if record.settings.network.no_hosts {
            return Ok(());
        }
        let path = self.places(&record.id).hosts();
        let file = std::fs::OpenOptions::new().write(true).truncate(true).open(&path);
        file.and_then(|mut file| file.write_all(hosts_text(record, endpoints).as_bytes()))
            .map_err(|e| Error::at(format!("cannot write {}", path.display()), e))
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

/// A running container's namespace may have been mounted where we do not see it.
pub(crate) fn show_sandbox(record: &ContainerRecord) -> Result<()> {
    match (&record.netns, &record.init) {
        (Some(netns), Some(init)) => linux::netns::show(netns, init)
            .map_err(|e| Error::at(format!("cannot open the network namespace of container {}", record.id), e)),
        _ => Ok(()),
    }
}

fn attachments(record: &ContainerRecord) -> Result<&[AttachmentConfig]> {
    match &record.settings.network.mode {
        NetworkMode::Networks(attachments) => Ok(attachments),
        NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Path(_) => {
            // Podman's sentence, with its empty name.
            Err(Error::usage("\"\" is not supported: invalid network mode"))
        }
    }
}
