//! The hosts file and resolv.conf that a running container sees, kept as they should be.
//!
//! Changed in place: they are mounted into the container, which would go on seeing a renamed file's old text.
//! Containers that share a network share them too, as hard links, so each change is seen by all.

use std::io::Write;
use std::path::Path;

use crate::config::NetworkMode;
use crate::endpoints::AttachedEndpoint;
use crate::engine::{Engine, load};
use crate::error::{Error, Result};
use crate::record::ContainerRecord;
use crate::start::{resolv_conf_text, sharer_line, wants_resolv_conf};

impl Engine {
    /// Writes the container's hosts and resolv.conf as they should be when it has these endpoints.
    pub(crate) fn rewrite_files(&self, record: &ContainerRecord, endpoints: &[AttachedEndpoint]) -> Result<()> {
        let places = self.places(&record.id);
        let network = &record.settings.network;
        let rootless = self.options().rootless;
        if !network.no_hosts {
            let sharers: String = self.sharers(record)?.iter().map(sharer_line).collect();
            let host_ip = self.host_ip(&network.mode, endpoints)?;
            put_in_place(&places.hosts(), &(self.hosts_text(record, endpoints, host_ip)? + &sharers))?;
        }
        if wants_resolv_conf(network) {
            put_in_place(&places.resolv_conf(), &resolv_conf_text(network, endpoints, rootless))?;
        }
        Ok(())
    }

    /// The containers that are up in this one's network, also through others, and have lines in its hosts file.
    fn sharers(&self, owner: &ContainerRecord) -> Result<Vec<ContainerRecord>> {
        let all = self.store.read(|tx| {
            let mut found = Vec::new();
            let mut owners = vec![owner.id];
            while let Some(owner) = owners.pop() {
                for id in tx.containers_sharing(&owner)? {
                    owners.push(id);
                    found.extend(load(tx, &id)?);
                }
            }
            Ok::<_, Error>(found)
        })?;
        let has_line = |sharer: &ContainerRecord| !sharer.state.at_rest() && !sharer.settings.network.no_hosts;
        Ok(all.into_iter().filter(has_line).collect())
    }

    /// Changes a container's name in its hosts file where that is not made of its endpoints: without a network,
    /// and in another's.
    pub(crate) fn rename_in_hosts(&self, before: &ContainerRecord, now: &ContainerRecord) -> Result<()> {
        let path = self.places(&now.id).hosts();
        // It is not there with --no-hosts.
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
        let line = |record: &ContainerRecord| match &record.settings.network.mode {
            NetworkMode::Container(_) => sharer_line(record),
            _ => format!("127.0.0.1\t{} {}\n", record.settings.hostname, record.name),
        };
        put_in_place(&path, &text.replacen(&line(before), &line(now), 1))
    }

    /// Takes the line of a container that goes out of the hosts file that it shared.
    pub(crate) fn unshare_hosts(&self, record: &ContainerRecord) -> Result<()> {
        let path = self.places(&record.id).hosts();
        if !matches!(record.settings.network.mode, NetworkMode::Container(_)) || record.settings.network.no_hosts {
            return Ok(());
        }
        // It is not there when the start was not successful.
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
        put_in_place(&path, &text.replacen(&sharer_line(record), "", 1))
    }
}

fn put_in_place(path: &Path, text: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let file = std::fs::OpenOptions::new().write(true).truncate(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Error::at(format!("cannot write {}", path.display()), e))
}
