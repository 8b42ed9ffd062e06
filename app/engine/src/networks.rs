//! The `network` verbs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipam::NetworkRequest;
use model::{ContainerId, LinkName, Network};
use plan::Plan;
use serde::Serialize;

use crate::config::{AttachmentConfig, NetworkMode};
use crate::definitions::{DEFAULT_NETWORK, find_in, in_use};
use crate::endpoints::AttachedEndpoint;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::record::ContainerRecord;

/// A running container as `network inspect` shows it; the keys are Podman's.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkContainer {
    /// The container's name.
    pub name: String,
    /// Its links on the network.
    pub interfaces: BTreeMap<LinkName, NetworkInterface>,
}

/// One link of a container on a network.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkInterface {
    /// Its addresses.
    pub subnets: Vec<InterfaceAddress>,
    /// Its MAC address.
    pub mac_address: String,
}

/// One address of a link.
#[derive(Debug, Clone, Serialize)]
pub struct InterfaceAddress {
    /// The address with its prefix length.
    pub ipnet: String,
    /// The gateway of its subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl Engine {
    /// All networks by name.
    pub fn networks(&self) -> Result<Vec<Network>> {
        self.networking().list()
    }

    /// The network of that name, id, or beginning of an id.
    pub fn network(&self, name: &str) -> Result<Network> {
        self.networking().get(name)
    }

    /// Is there such a network?
    pub fn network_exists(&self, name: &str) -> Result<bool> {
        match self.network(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a network. Nothing in the kernel changes until a container joins it.
    pub fn create_network(&mut self, request: &NetworkRequest) -> Result<Network> {
        self.networking().create(request)
    }

    /// What the first container that joins such a network would find made for it.
    pub fn plan_create_network(&self, request: &NetworkRequest) -> Result<Plan> {
        self.networking().plan_of_create(request)
    }

    /// Does any container, running or not, name this network?
    pub fn network_in_use(&self, network: &Network) -> Result<bool> {
        Ok(!self.users(network)?.is_empty())
    }

    /// The running containers of a network, by id.
    pub fn network_containers(&self, network: &Network) -> Result<BTreeMap<ContainerId, NetworkContainer>> {
        let endpoints = self.networking().endpoints_on(&network.id)?;
        let shown = endpoints.into_iter().map(|(id, attached)| {
            let name = self.record(&id)?.name.to_string();
            Ok((id, NetworkContainer { name, interfaces: BTreeMap::from([shown(&attached)]) }))
        });
        shown.collect()
    }

    /// Changes the DNS servers of a network; `add` and `remove` as they were typed. Returns it as it is then.
    pub fn update_network(&mut self, name: &str, add: &[String], remove: &[String]) -> Result<Network> {
        // Podman looks for the network first.
        let network = self.network(name)?;
        let read = |text: &String, list: &str| {
            text.parse::<IpAddr>()
                .map_err(|_| Error::usage(format!("unable to parse ip {text} specified in {list}: invalid argument")))
        };
        let added = add.iter().map(|text| read(text, "AddDNSServer")).collect::<Result<Vec<_>>>()?;
        let removed = remove.iter().map(|text| read(text, "RemoveDNSServer")).collect::<Result<Vec<_>>>()?;
        let (network, changed) = self.networking().update_dns(network.name.as_str(), &added, &removed)?;
        if changed {
            self.networking().announce_change()?;
        }
        Ok(network)
    }

    /// Forgets a network. One that containers name is refused, unless `force`: then they are removed too,
    /// after `time` seconds to stop in.
    pub fn remove_network(&mut self, name: &str, force: bool, time: Option<u32>) -> Result<()> {
        let network = self.network(name)?;
        self.networking().removable(&network)?;
        let users = self.users(&network)?;
        if !users.is_empty() && !force {
            return Err(in_use(&network));
        }
        for user in users {
            self.remove_forced(&user.id, time)?;
        }
        self.networking().remove(&network)
    }

    /// What removing it would change in the kernel.
    pub fn plan_remove_network(&self, name: &str, force: bool) -> Result<Plan> {
        let network = self.network(name)?;
        self.networking().removable(&network)?;
        let users = self.users(&network)?;
        if !users.is_empty() && !force {
            return Err(in_use(&network));
        }
        let ids: Vec<ContainerId> = users.iter().map(|user| user.id).collect();
        if ids.is_empty() { Ok(Plan::default()) } else { self.networking().plan_of_down(&ids) }
    }

    /// The containers whose configuration names the network.
    fn users(&self, network: &Network) -> Result<Vec<ContainerRecord>> {
        let networks = self.networks()?;
        let names = |record: &ContainerRecord| match &record.settings.network.mode {
            NetworkMode::Networks(attachments) => attachments.iter().any(|a| means(&networks, a, network)),
            _ => false,
        };
        Ok(self.records()?.into_iter().filter(names).collect())
    }
}

/// Is it this network that an attachment names?
pub(crate) fn means(networks: &[Network], attachment: &AttachmentConfig, network: &Network) -> bool {
    let name = attachment.network.as_deref().unwrap_or(DEFAULT_NETWORK);
    find_in(networks.to_vec(), name).is_ok_and(|found| found.is_some_and(|n| n.id == network.id))
}

fn shown(attached: &AttachedEndpoint) -> (LinkName, NetworkInterface) {
    let gateway = |addr: &model::Addr| attached.network_gateways.iter().copied().find(|g| addr.subnet().contains(*g));
    let address = |addr: &model::Addr| InterfaceAddress { ipnet: addr.to_string(), gateway: gateway(addr) };
    let endpoint = &attached.endpoint;
    let subnets = endpoint.addrs.iter().map(address).collect();
    (endpoint.link.clone(), NetworkInterface { subnets, mac_address: endpoint.mac.to_string() })
}
