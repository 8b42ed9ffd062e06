//! Who is called what, for the DNS server: the store's attachments as a directory.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use dns::{Directory, Member, Presence, Reach, ZoneNetwork, Zones};
use model::{ContainerId, DnsName, Network, NetworkId, NetworkName};

use crate::endpoints::AttachedEndpoint;
use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, Result};
use crate::networking::{dns_port, set_dns_port};

/// The zone of all containers' names.
pub(crate) const DNS_SUFFIX: &str = "dns.podman";

const DNS_PORT: u16 = 53;

/// What netd serves.
#[derive(Debug)]
pub struct Served {
    /// Names of the networks that have somebody on them; without the host's upstreams.
    pub directory: Directory,
    /// Where a network was listened at before.
    pub ports: BTreeMap<NetworkId, u16>,
    /// Is anybody on any network, with names or without?
    pub is_anybody_attached: bool,
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

    /// What the store says now that netd is to serve.
    pub fn served(&self) -> Result<Served> {
        self.store.read(|tx| {
            let rows = tx.attachments_up()?;
            let is_anybody_attached = !rows.is_empty();
            let networks = tx.networks_of_all_scopes()?;
            let mut directory = Directory::new(DNS_SUFFIX.parse()?);
            let mut ports = BTreeMap::new();
            let attached = |id: &NetworkId| rows.iter().any(|(_, network, _)| network == id);
            for network in networks.iter().filter(|network| network.serves_names() && attached(&network.id)) {
                ports.extend(dns_port(tx, &network.id)?.map(|port| (network.id, port)));
                directory.networks.push(zone(network));
            }
            let mut members: BTreeMap<ContainerId, Member> = BTreeMap::new();
            for (container, network, endpoint) in rows {
                let endpoint: AttachedEndpoint = serde_json::from_value(endpoint)
                    .map_err(|e| Error::at(format!("the endpoint of container {container}"), e))?;
                let member =
                    members.entry(container).or_insert(Member { upstreams: Vec::new(), presences: Vec::new() });
                member.upstreams = endpoint.dns_servers.iter().map(|ip| upstream(*ip)).collect();
                member.presences.push(Presence {
                    network,
                    addresses: endpoint.endpoint.addrs.iter().map(|addr| addr.ip).collect(),
                    names: endpoint.names,
                });
            }
            directory.members = members.into_values().collect();
            Ok(Served { directory, ports, is_anybody_attached })
        })
    }

    /// Remembers where a network is listened at, for elements of the firewall say so.
    pub fn remember_dns_port(&self, network: &NetworkId, port: u16) -> Result<()> {
        Ok(self.store.write(|tx| set_dns_port(tx, network, port))?)
    }

    /// The addresses that containers on networks with DNS have under a name, bare or with `.dns.podman`.
    pub fn resolve_name(&self, name: &DnsName) -> Result<Vec<(NetworkName, IpAddr)>> {
        let zones = Zones::new(&self.served()?.directory);
        Ok(zones.resolve(name).into_iter().map(|(network, ip)| (network.clone(), ip)).collect())
    }
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
