//! Network definitions: which networks there are, by what name, and how they come and go in the store.
//!
//! ```text
//!   network create ── NetworkRequest ─┐
//!   import ── a file's Network ───────┼─ host lock ─ one transaction ─> networks of a scope
//!   first use of the default network ─┘                                    │ resolve(attachments)
//!                                                                          └─> Networking::up, change
//! ```
//!
//! Nothing in the kernel changes here: a network is made with its first container, and goes with its last.

use std::net::IpAddr;

use host::{Facts, Host};
use ipam::request::Fresh;
use ipam::{NetworkRequest, Surroundings};
use model::network::DEFAULT_NETWORK_ID;
use model::{Driver, Network, NetworkId, Subnet};
use sha2::{Digest, Sha256};
use store::{Event, Tx};

use crate::config::AttachmentConfig;
use crate::networking::{Networking, cannot_start, dns_key, usage};
use crate::{Error, Kind, error::Result};

/// The default network's name.
pub(crate) const DEFAULT_NETWORK: &str = "podman";

impl Networking<'_> {
    /// All networks by name, the default network among them whether it was used yet or not.
    pub(crate) fn list(&self) -> Result<Vec<Network>> {
        let networks = self.store.read(|tx| tx.networks(self.scope))?;
        if networks.iter().any(|n| n.name.as_str() == DEFAULT_NETWORK) {
            return Ok(networks);
        }
        let mut host = Host::open().map_err(usage)?;
        let facts = self.facts(&mut host)?;
        let default = self.store.read(|tx| self.fresh_default(tx, &facts))?;
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

    /// By name, id or the beginning of an id; the name wins.
    pub(crate) fn find(&self, tx: &Tx<'_>, text: &str) -> Result<Option<Network>> {
        find_in(tx.networks(self.scope)?, text)
    }

    /// The networks in the store.
    pub(crate) fn stored(&self) -> Result<Vec<Network>> {
        Ok(self.store.read(|tx| tx.networks(self.scope))?)
    }

    /// Makes a network; nothing in the kernel changes until a container joins it.
    pub(crate) fn create(&self, request: &NetworkRequest) -> Result<Network> {
        let mut machine = self.lock_as_it_is()?;
        self.store.write_durable(|tx| {
            let network = self.fresh(tx, &mut machine.host, request)?;
            tx.network_insert(self.scope, &network)?;
            tx.event_add(&Event::network("create", &network))?;
            Ok(network)
        })
    }

    /// Adds a network that was made elsewhere, with its id. One that is there already, exactly so, is left alone;
    /// a default network that nobody is on is replaced.
    pub(crate) fn adopt(&self, mut network: Network) -> Result<Network> {
        if network.name.as_str() == DEFAULT_NETWORK {
            network.id = self.default_id()?;
        }
        let _machine = self.lock_as_it_is()?;
        self.store.write_durable(|tx| {
            let mut networks = tx.networks(self.scope)?;
            if networks.contains(&network) {
                return Ok(network);
            }
            let is_default = network.name.as_str() == DEFAULT_NETWORK;
            let replaced = is_default && networks.iter().any(|n| n.id == network.id);
            if replaced && tx.attachment_count(&network.id)? > 0 {
                let text = format!("network {} has running containers, which must be stopped first", network.name);
                return Err(Error::new(Kind::InUse, text));
            }
            networks.retain(|n| !(is_default && n.id == network.id));
            let elsewhere =
                |n: &&Network| n.id == network.id && !replaced && !networks.iter().any(|here| here.id == n.id);
            if let Some(other) = tx.networks_of_all_scopes()?.iter().find(elsewhere) {
                let text = format!("network id {} is already that of network {}", other.id, other.name);
                return Err(Error::usage(format!("{text} of another --network-config-dir")));
            }
            let around = Surroundings { networks: &networks, used: &[], links: &[] };
            ipam::check_newcomer(&network, &around).map_err(usage)?;
            match replaced {
                true => tx.network_update(self.scope, &network)?,
                false => tx.network_insert(self.scope, &network)?,
            }
            tx.event_add(&Event::network(if replaced { "update" } else { "create" }, &network))?;
            Ok(network)
        })
    }

    /// Drops and adds upstreams for names that are asked on the network, each once and in order. Returns it as it
    /// is then, and whether that is a change.
    pub(crate) fn update_dns(&self, name: &str, add: &[IpAddr], remove: &[IpAddr]) -> Result<(Network, bool)> {
        let mut machine = self.lock_as_it_is()?;
        self.store.write_durable(|tx| {
            let found = self.find(tx, name)?;
            let found = found.map_or_else(|| self.store_default(tx, Some(name), &mut machine.host), Ok)?;
            let mut network = found.clone();
            let kept: Vec<IpAddr> = found.dns_servers.iter().copied().filter(|ip| !remove.contains(ip)).collect();
            network.dns_servers.clear();
            for ip in kept.iter().chain(add) {
                if !network.dns_servers.contains(ip) {
                    network.dns_servers.push(*ip);
                }
            }
            let changed = network != found;
            if changed {
                tx.network_update(self.scope, &network)?;
                tx.event_add(&Event::network("update", &network))?;
            }
            Ok((network, changed))
        })
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
        let mut machine = self.lock_as_it_is()?;
        self.repair_with(&mut machine)?;
        self.store.write_durable(|tx| {
            if tx.attachment_count(&network.id)? > 0 {
                return Err(in_use(network));
            }
            tx.meta_remove(&dns_key(&network.id))?;
            tx.network_remove(&network.id)?;
            Ok(tx.event_add(&Event::network("remove", network))?)
        })
    }

    /// The networks of these attachments, in order. The default network is stored at its first use.
    pub(crate) fn resolve(&self, tx: &Tx<'_>, wishes: &[AttachmentConfig], host: &mut Host) -> Result<Vec<Network>> {
        let mut networks: Vec<Network> = Vec::new();
        for wish in wishes {
            let network = match &wish.hidden {
                Some(request) => self.hidden(tx, request, host)?,
                None => match self.find(tx, wish.network.as_deref().unwrap_or(DEFAULT_NETWORK))? {
                    Some(network) => network,
                    None => self.store_default(tx, wish.network.as_deref(), host)?,
                },
            };
            check_needed_links(host, &network)?;
            if networks.iter().any(|n| n.id == network.id) {
                let text = format!("network {} is given twice: a container joins a network once", network.name);
                return Err(Error::new(Kind::Usage, text));
            }
            networks.push(network);
        }
        Ok(networks)
    }

    /// The default network, if that is what `text` means, with a subnet and a link that are free now.
    fn store_default(&self, tx: &Tx<'_>, text: Option<&str>, host: &mut Host) -> Result<Network> {
        if !text.is_none_or(means_default) {
            return Err(unknown_network(text.unwrap_or_default()));
        }
        let facts = self.facts(host)?;
        let network = self.fresh_default(tx, &facts)?;
        if let Some(told) = unusual_default(&network, self.options.default_subnet) {
            tracing::warn!("{told}");
        }
        tx.network_insert(self.scope, &network)?;
        Ok(network)
    }

    pub(crate) fn fresh(&self, tx: &Tx<'_>, host: &mut Host, request: &NetworkRequest) -> Result<Network> {
        if self.options.rootless && ["macvlan", "ipvlan"].contains(&request.driver.as_str()) {
            return Err(Error::usage(not_for_users(&request.driver)));
        }
        let facts = self.facts(host)?;
        let fresh = Fresh { id: random()?, prefix: random()?, created: &now(), pools: self.options.pools() };
        let mut networks = self.networks_around(tx)?;
        if !networks.iter().any(|n| n.name.as_str() == DEFAULT_NETWORK) {
            // Its name, subnet and link are kept free for it.
            networks.push(self.fresh_default(tx, &facts)?);
        }
        let around = Surroundings { networks: &networks, used: &facts.used, links: &facts.links };
        ipam::plan_network(request, &around, &fresh).map_err(usage)
    }

    fn fresh_default(&self, tx: &Tx<'_>, facts: &Facts) -> Result<Network> {
        let networks = self.networks_around(tx)?;
        let around = Surroundings { networks: &networks, used: &facts.used, links: &facts.links };
        let mut network =
            ipam::default_network(&around, self.options.default_subnet, self.options.pools(), &now()).map_err(usage)?;
        network.id = self.default_id()?;
        Ok(network)
    }

    fn default_id(&self) -> Result<NetworkId> {
        match self.scope.is_empty() {
            true => DEFAULT_NETWORK_ID.parse().map_err(usage),
            // Leases and attachments are told apart by the network's id alone.
            false => Ok(NetworkId::from_bytes(Sha256::digest(format!("{DEFAULT_NETWORK} {}", self.scope)).into())),
        }
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

pub(crate) fn unknown_network(text: &str) -> Error {
    Error::new(Kind::NotFound, format!("unable to find network with name or ID {text}: network not found"))
}

/// Why an ordinary user has no networks of this driver.
pub(crate) fn not_for_users(driver: &str) -> String {
    format!("network driver {driver} is not possible without root: an ordinary user has no right to the host's links")
}

/// Is what others must have made for the network there?
fn check_needed_links(host: &mut Host, network: &Network) -> Result<()> {
    let (Driver::Bridge(options), Some(link)) = (&network.driver, &network.link) else { return Ok(()) };
    let name = &network.name;
    if !network.is_managed() {
        let told = match host.needed_by_network(link).map_err(usage)? {
            None => format!("in unmanaged mode, the bridge must already exist on the host: {link}"),
            Some(found) if found.kind != "bridge" => format!("link {link} is no bridge, which network {name} needs"),
            Some(found) if options.vlan.is_some_and(|vlan| vlan != 0) && !found.filters_vlans => format!(
                "bridge {link} does not keep VLANs apart, which network {name} needs; to allow it: ip link set {link} \
                 type bridge vlan_filtering 1"
            ),
            Some(_) => return Ok(()),
        };
        return Err(cannot_start(told));
    }
    let Some(vrf) = &options.vrf else { return Ok(()) };
    match host.needed_by_network(vrf).map_err(usage)? {
        None => Err(cannot_start(format!("vrf {vrf} does not exist on the host, which network {name} needs"))),
        Some(found) if found.kind != "vrf" => {
            Err(cannot_start(format!("link {vrf} is no vrf, which network {name} needs")))
        }
        Some(_) => Ok(()),
    }
}

/// In one line, how the default network differs from Podman's because something else on the host is there.
fn unusual_default(network: &Network, wanted: Option<Subnet>) -> Option<String> {
    let subnet = network.subnets.first()?.subnet;
    let mut told = Vec::new();
    let wanted = wanted.map_or_else(|| ipam::DEFAULT_SUBNET.to_owned(), |subnet| subnet.to_string());
    if subnet.to_string() != wanted {
        told.push(format!(
            "its subnet is {subnet}, for {wanted} is in use on this host (see: ip route show table all)"
        ));
    }
    if let Some(link) = network.link.as_ref().filter(|link| link.as_str() != "podman0") {
        told.push(format!("its bridge is {link}, for the name podman0 is taken (see: ip link show podman0)"));
    }
    (!told.is_empty()).then(|| format!("network {}: {}", network.name, told.join("; ")))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    linux::machine::random().map_err(|e| usage(format!("no random numbers: {e}")))
}

/// Now, as Podman writes it: RFC 3339 with nanoseconds.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}
