//! A machine for tests: the model kernel, and the books an engine keeps (networks, attachments, leases, what was
//! made), with nothing else in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipam::address::{Holder, Leases, check, choose};
use ipam::request::Fresh;
use ipam::{NetworkRequest, Surroundings, default_network, plan_network};
use model::{
    Addr, ContainerId, Driver, IpvlanOptions, LinkName, MacvlanOptions, Network, NetworkSubnet, PortMapping, PortSpec,
};
use plan::world::World;
use plan::{Key, Mark, Object, Plan, SandboxName, forgotten, plan};
use podwire_drivers::{
    Endpoint, NetworkWish, attachment, base, endpoint_mac, host_link, network, sandbox, shared_owner,
};

const INSTANCE: &str = "5f0c2a91";
const BASE: &str = "base";
/// The link of the host's default route, once a story has it.
const UPLINK: &str = "eth0";

/// The model kernel and the books.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) world: World,
    networks: BTreeMap<String, Network>,
    containers: BTreeMap<String, Vec<(String, Endpoint)>>,
    made: BTreeMap<Key, (String, Object)>,
    /// An ordinary user's: his relay is the way out.
    pub(crate) relayed: bool,
    /// The host's own addresses on its uplink.
    pub(crate) host_addrs: Vec<IpAddr>,
}

/// What `run` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) networks: Vec<String>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) ports: Vec<PortMapping>,
}

/// A plan, and what the books say when it was applied.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) plan: Plan,
    desired: Vec<(String, Object)>,
    forgotten: Vec<Key>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let podman =
            default_network(&Surroundings { networks: &[], used: &[], links: &[] }, None, ipam::POOLS, "").unwrap();
        Self {
            world: World::new(),
            networks: BTreeMap::from([("podman".to_owned(), podman)]),
            containers: BTreeMap::new(),
            made: BTreeMap::new(),
            relayed: false,
            host_addrs: vec!["192.168.99.109".parse().unwrap(), "fd99::109".parse().unwrap()],
        }
    }

    pub(crate) fn create_network(&mut self, request: &NetworkRequest) -> Result<(), String> {
        let networks: Vec<Network> = self.networks.values().cloned().collect();
        let name = request.name.clone().unwrap();
        let links = [UPLINK.parse().unwrap()];
        let around = Surroundings { networks: &networks, used: &[], links: &links };
        let fresh = Fresh { id: spelt(&name), prefix: spelt(&name), created: "", pools: ipam::POOLS };
        let network = plan_network(request, &around, &fresh).map_err(|e| e.to_string())?;
        self.networks.insert(name, network);
        Ok(())
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        self.containers.keys().cloned().collect()
    }

    /// The plan that starts a container. The books know of its attachments from here on, as they do when a plan
    /// is journaled.
    pub(crate) fn run(&mut self, name: &str, run: &Run) -> Result<Pending, String> {
        let before = self.containers.clone();
        let pending = self.endpoints(name, run).and_then(|endpoints| {
            self.containers.insert(name.to_owned(), endpoints);
            let mut owners: Vec<String> = run.networks.iter().map(|n| net_owner(n)).collect();
            owners.extend([BASE.to_owned(), ctr_owner(name)]);
            self.plan(&owners, &[])
        });
        if pending.is_err() {
            self.containers = before;
        }
        pending
    }

    /// The plan that takes a container away. `begun`: objects of a plan that was interrupted.
    pub(crate) fn rm(&mut self, name: &str, begun: &[Object]) -> Result<Pending, String> {
        let endpoints = self.containers.remove(name).unwrap_or_default();
        let links: BTreeSet<&Option<LinkName>> =
            endpoints.iter().map(|(network, _)| &self.networks[network].link).collect();
        let sharers = self.networks.iter().filter(|(_, network)| links.contains(&network.link));
        let mut owners: Vec<String> = sharers.map(|(name, _)| net_owner(name)).collect();
        owners.extend([BASE.to_owned(), ctr_owner(name)]);
        self.plan(&owners, begun)
    }

    /// The plan that makes everything as it should be.
    pub(crate) fn reload(&self) -> Result<Pending, String> {
        let mut owners: Vec<String> = self.networks.keys().map(|n| net_owner(n)).collect();
        owners.extend(self.containers.keys().map(|c| ctr_owner(c)));
        owners.push(BASE.to_owned());
        self.plan(&owners, &[])
    }

    /// Writes down that a plan was applied.
    pub(crate) fn finish(&mut self, pending: &Pending) {
        for key in &pending.forgotten {
            self.made.remove(key);
        }
        let made = pending.desired.iter().map(|made| (made.1.key(), made.clone()));
        self.made.extend(made);
    }

    pub(crate) fn apply(&mut self, pending: &Pending) -> Result<(), String> {
        self.world.apply_all(&pending.plan).map_err(|refusal| refusal.to_string())?;
        self.finish(pending);
        Ok(())
    }

    /// Whether somebody here needs what all bridges share: a container on the LAN alone does not.
    pub(crate) fn needs_base(&self) -> bool {
        let behind_bridge = |(network, _): &(String, Endpoint)| self.networks[network].bridge().is_some();
        self.containers.values().any(|endpoints| endpoints.is_empty() || endpoints.iter().any(behind_bridge))
    }

    /// Everything of these owners that should be there, in the order of the drivers.
    fn desired(&self, owners: &[String]) -> Vec<(String, Object)> {
        let mut desired = Vec::new();
        let mut known = BTreeSet::new();
        let mut add = |owner: &str, objects: Vec<Object>| {
            if owners.iter().any(|o| o == owner) {
                for object in objects.into_iter().filter(|o| known.insert(o.key())) {
                    desired.push((owner.to_owned(), object));
                }
            }
        };
        if self.needs_base() {
            add(BASE, base(self.relayed));
        }
        for (name, endpoints) in &self.containers {
            let ipv6 = endpoints.iter().any(|(n, _)| self.networks[n].has_family(false));
            add(&ctr_owner(name), sandbox(&sandbox_name(name), ipv6));
            for (net, endpoint) in endpoints {
                let wish = self.wish(net);
                add(&net_owner(net), network(&wish));
                add(&ctr_owner(name), attachment(&wish, endpoint));
            }
        }
        desired
    }

    fn plan(&self, owners: &[String], begun: &[Object]) -> Result<Pending, String> {
        let desired = self.desired(owners);
        let objects: Vec<Object> = desired.iter().map(|(_, object)| object.clone()).collect();
        let made = self.made.values().filter(|(owner, _)| owners.contains(owner)).map(|(_, object)| object);
        let known: BTreeSet<&Key> = self.made.keys().collect();
        let recorded: Vec<Object> = made.chain(begun.iter().filter(|o| !known.contains(&o.key()))).cloned().collect();
        let asked: Vec<Object> = objects.iter().chain(&recorded).cloned().collect();
        let plan = plan(&objects, &recorded, &self.world.observe(&asked)).map_err(|c| format!("conflict: {c}"))?;
        Ok(Pending { plan, forgotten: forgotten(&objects, &recorded), desired })
    }

    fn wish(&self, net: &str) -> NetworkWish<'_> {
        let network = &self.networks[net];
        let mtu = match &network.driver {
            Driver::Bridge(options) => options.mtu,
            Driver::Macvlan(MacvlanOptions { lan, .. }) | Driver::Ipvlan(IpvlanOptions { lan, .. }) => lan.mtu,
        };
        let link = network.link.clone().unwrap_or_else(|| UPLINK.parse().unwrap());
        let shares = network.bridge().is_some() && network.may_share();
        let owner = if shares { shared_owner(&link) } else { network.id.short() };
        NetworkWish {
            network,
            link,
            host_addrs: self.host_addrs.clone(),
            mtu: mtu.unwrap_or(1500),
            dns: None,
            relayed: self.relayed,
            apart: net == "apart",
            mark: Mark::new(INSTANCE, &owner),
        }
    }

    fn endpoints(&self, name: &str, run: &Run) -> Result<Vec<(String, Endpoint)>, String> {
        let id = container_id(name);
        let mut routed = BTreeSet::new();
        let one = |(n, net): (usize, &String)| {
            let network = self.networks.get(net).ok_or_else(|| format!("no network {net}"))?;
            let addrs = self.addresses(net, &id, if n == 0 { &run.ips } else { &[] })?;
            let endpoint = Endpoint {
                sandbox: sandbox_name(name),
                link: format!("eth{n}").parse().unwrap(),
                host_link: host_link(&id, n as u8).unwrap(),
                parent: network.bridge().is_none().then(|| UPLINK.parse().unwrap()),
                mac: endpoint_mac(&network.id, &addrs, &id, n as u8),
                addrs,
                gateways: gateways(network, &mut routed),
                routes: Vec::new(),
                mtu: None,
                ports: if n == 0 { run.ports.clone() } else { Vec::new() },
                mark: Mark::new(INSTANCE, &id.short()),
            };
            Ok((net.clone(), endpoint))
        };
        run.networks.iter().enumerate().map(one).collect()
    }

    fn addresses(&self, net: &str, id: &ContainerId, wishes: &[IpAddr]) -> Result<Vec<Addr>, String> {
        let holders = self.containers.iter().flat_map(|(name, endpoints)| {
            let here = endpoints.iter().filter(|(n, _)| n == net).flat_map(|(_, e)| &e.addrs);
            here.map(|addr| (addr.ip, Holder::Container(container_id(name))))
        });
        let leases: Leases = holders.collect();
        let one = |subnet: &NetworkSubnet| {
            let wish = wishes.iter().find(|ip| subnet.subnet.contains(**ip));
            let ip = match wish {
                Some(ip) => check(subnet, &leases, *ip, id).map(|()| *ip),
                None => choose(subnet, &leases, None, 0),
            };
            ip.map(|ip| subnet.subnet.with(ip)).map_err(|e| e.to_string())
        };
        self.networks[net].subnets.iter().map(one).collect()
    }
}

/// The network's gateways, for families that no earlier network routes.
fn gateways(network: &Network, routed: &mut BTreeSet<bool>) -> Vec<IpAddr> {
    let gateways = network.subnets.iter().filter_map(|s| s.gateway).filter(|_| network.gives_default_route());
    gateways.filter(|gateway| routed.insert(gateway.is_ipv4())).collect()
}

/// Bytes in which the name can be read, over and over.
fn spelt<const N: usize>(name: &str) -> [u8; N] {
    std::array::from_fn(|n| name.as_bytes()[n % name.len()])
}

pub(crate) fn container_id(name: &str) -> ContainerId {
    ContainerId::from_bytes(spelt(name))
}

pub(crate) fn sandbox_name(name: &str) -> SandboxName {
    SandboxName::of(&container_id(name))
}

pub(crate) fn member(name: &str) -> LinkName {
    host_link(&container_id(name), 0).unwrap()
}

pub(crate) fn mapping(text: &str) -> PortMapping {
    let spec: PortSpec = text.parse().unwrap();
    spec.at(spec.host_port.unwrap())
}

fn ctr_owner(name: &str) -> String {
    format!("ctr:{name}")
}

fn net_owner(name: &str) -> String {
    format!("net:{name}")
}
