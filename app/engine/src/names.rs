//! Who is called what, for the DNS server: the store's attachments as a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use dns::{Directory, Member, Presence, Reach, ZoneNetwork, Zones};
use model::{ContainerId, DnsName, Network, NetworkId, NetworkName};
use serde_json::Value;
use store::Tx;

use crate::endpoints::AttachedEndpoint;
use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, Result};
use crate::networking::{dns_port, set_dns_port};

/// The zone of all containers' names.
pub const DNS_SUFFIX: &str = "dns.podman";

const DNS_PORT: u16 = 53;

/// What netd serves: the store's view, kept from one change to the next.
#[derive(Debug, Default)]
pub struct Served {
    networks: Vec<ZoneNetwork>,
    members: BTreeMap<ContainerId, Member>,
    ports: BTreeMap<NetworkId, u16>,
}

impl Served {
    /// Names of the networks that have somebody on them; without the host's upstreams.
    pub fn directory(&self) -> Result<Directory> {
        let attached: BTreeSet<NetworkId> =
            self.members.values().flat_map(|member| &member.presences).map(|presence| presence.network).collect();
        let mut directory = Directory::new(DNS_SUFFIX.parse()?);
        directory.networks = self.networks.iter().filter(|network| attached.contains(&network.id)).cloned().collect();
        directory.members = self.members.values().cloned().collect();
        Ok(directory)
    }

    /// Where a network was listened at before.
    pub fn port(&self, network: &NetworkId) -> Option<u16> {
        self.ports.get(network).copied()
    }

    /// Is anybody on any network, with names or without?
    pub fn is_anybody_attached(&self) -> bool {
        !self.members.is_empty()
    }
}

impl Engine {
    /// As [`Engine::open`] for netd, which repairs nothing: whoever starts it is about to.
    pub fn open_for_netd(options: EngineOptions) -> Result<Self> {
        Self::open_as_is(options)
    }

    /// The store's instance, by which a netd is found.
    pub fn instance(&self) -> &str {
        self.store.instance()
    }

    /// Is anybody on any network? One look-up, however many there are.
    pub fn is_anybody_attached(&self) -> Result<bool> {
        Ok(self.store.read(|tx| tx.attachments_any())?)
    }

    /// What the store says now that netd is to serve.
    pub fn served(&self) -> Result<Served> {
        self.store.read(|tx| {
            let mut served = Served::default();
            for (container, network, endpoint) in tx.attachments_up()? {
                let member = served.members.entry(container).or_insert_with(nobody);
                add(member, &container, network, endpoint)?;
            }
            served.read_networks(tx)?;
            Ok(served)
        })
    }

    /// As [`Engine::served`], where only what concerns one container has changed: the cost does not grow with the
    /// number of the others.
    pub fn serve_again(&self, served: &mut Served, container: &ContainerId) -> Result<()> {
        self.store.read(|tx| {
            let mut member = nobody();
            for (network, _, endpoint) in tx.attachments_of(container)? {
                if !endpoint.is_null() {
                    add(&mut member, container, network, endpoint)?;
                }
            }
            match member.presences.is_empty() {
                true => served.members.remove(container),
                false => served.members.insert(*container, member),
            };
            served.read_networks(tx)
        })
    }

    /// Remembers where a network is listened at, for elements of the firewall say so.
    pub fn remember_dns_port(&self, network: &NetworkId, port: u16) -> Result<()> {
        Ok(self.store.write(|tx| set_dns_port(tx, network, port))?)
    }

    /// The addresses that containers on networks with DNS have under a name, bare or with `.dns.podman`.
    pub fn resolve_name(&self, name: &DnsName) -> Result<Vec<(NetworkName, IpAddr)>> {
        let zones = Zones::new(&self.served()?.directory()?);
        Ok(zones.resolve(name).into_iter().map(|(network, ip)| (network.clone(), ip)).collect())
    }
}

impl Served {
    fn read_networks(&mut self, tx: &Tx<'_>) -> Result<()> {
        let networks = tx.networks_of_all_scopes()?;
        self.networks = networks.iter().filter(|network| network.serves_names()).map(zone).collect();
        self.ports.clear();
        for network in &self.networks {
            self.ports.extend(dns_port(tx, &network.id)?.map(|port| (network.id, port)));
        }
        Ok(())
    }
}

/// A member that is nowhere yet.
fn nobody() -> Member {
    Member { upstreams: Vec::new(), presences: Vec::new() }
}

/// An attachment becomes a presence.
fn add(member: &mut Member, container: &ContainerId, network: NetworkId, endpoint: Value) -> Result<()> {
    let endpoint: AttachedEndpoint =
        serde_json::from_value(endpoint).map_err(|e| Error::at(format!("the endpoint of container {container}"), e))?;
    member.upstreams = endpoint.dns_servers.iter().map(|ip| upstream(*ip)).collect();
    let addresses = endpoint.endpoint.addrs.iter().map(|addr| addr.ip).collect();
    member.presences.push(Presence { network, addresses, names: endpoint.names });
    Ok(())
}

fn zone(network: &Network) -> ZoneNetwork {
    ZoneNetwork {
        id: network.id,
        name: network.name.clone(),
        subnets: network.subnets.iter().map(|s| s.subnet).collect(),
        gateways: network.subnets.iter().filter_map(|s| s.gateway).collect(),
        reach: if network.internal { Reach::Internal } else { Reach::Outside },
        upstreams: network.dns_servers.iter().map(|ip| upstream(*ip)).collect(),
    }
}

fn upstream(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, DNS_PORT)
}
