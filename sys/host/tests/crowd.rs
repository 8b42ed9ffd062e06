//! Many containers on one bridge, and containers that follow one another at an address.

mod inside;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use drivers::{Endpoint, NetworkWish};
use inside::{alone, sh};
use linux::NetNs;
use model::Network;
use plan::{Mark, Object, SandboxName, plan};
use podwire_host::{ApplyError, Host};

const NETWORK: &str = r#"{"name":"shop","id":"2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9","driver":"bridge",
    "network_interface":"podman0","created":"2026-11-24T00:00:00Z","ipv6_enabled":true,"internal":false,"dns_enabled":false,
    "subnets":[{"subnet":"10.88.0.0/16","gateway":"10.88.0.1"},{"subnet":"fd00::/64","gateway":"fd00::1"}],
    "ipam_options":{"driver":"host-local"}}"#;

/// For one of four tries: a machine may be busy; whoever believes an old MAC address does so for 5 s at least.
const PATIENCE: Duration = Duration::from_secs(1);

/// One test at a time: all namespaces of the machine share one table of neighbours, and a crowd fills it.
static NEIGHBOURS: Mutex<()> = Mutex::new(());

/// Runs a test when the machine's table of neighbours (1,024 entries, unless the host says otherwise) has room for it.
fn with_room(test: &str, body: fn()) {
    let _one = NEIGHBOURS.lock().unwrap_or_else(PoisonError::into_inner);
    let until = Instant::now() + Duration::from_secs(20);
    // Namespaces that ended give their entries back a little later.
    while ["arp_cache", "ndisc_cache"].iter().any(|table| neighbours(table) > 256) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    alone(test, body);
}

/// Entries of one family in all namespaces; the first column of each row (net/core/neighbour.c, neigh_stat_seq_show).
fn neighbours(table: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/net/stat/{table}")).unwrap_or_default();
    let first = text.lines().nth(1).and_then(|row| row.split(' ').next());
    first.map_or(0, |hex| u64::from_str_radix(hex, 16).unwrap())
}

/// A bridge without names.
fn wish(network: &Network) -> NetworkWish<'_> {
    NetworkWish {
        network,
        link: network.link.clone().unwrap(),
        host_addrs: Vec::new(),
        mtu: 1500,
        dns: None,
        relayed: false,
        apart: false,
        mark: Mark::new("5eed5eed", &network.id.short()),
    }
}

/// Container `n` at address `at`, with a MAC address that is only its own.
fn container(n: u16, at: u16) -> Vec<Object> {
    let network: Network = serde_json::from_str(NETWORK).unwrap();
    let wish = wish(&network);
    let [high, low] = n.to_be_bytes();
    let endpoint = Endpoint {
        sandbox: sandbox(n),
        link: "eth0".parse().unwrap(),
        host_link: format!("pw{n:011}").parse().unwrap(),
        parent: None,
        routes: Vec::new(),
        mtu: None,
        mac: model::MacAddr::new([2, 0, 0, 0, high, low]).unwrap(),
        addrs: vec![format!("{}/16", ip4(at)).parse().unwrap(), format!("fd00::{at:x}/64").parse().unwrap()],
        gateways: vec!["10.88.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        ports: Vec::new(),
        mark: Mark::new("5eed5eed", &format!("{n:012x}")),
    };
    drivers::sandbox(&sandbox(n), true).into_iter().chain(drivers::attachment(&wish, &endpoint)).collect()
}

/// The bridge and the rules.
fn network() -> Vec<Object> {
    let network: Network = serde_json::from_str(NETWORK).unwrap();
    let wish = wish(&network);
    drivers::base(false).into_iter().chain(drivers::network(&wish)).collect()
}

fn ip4(at: u16) -> Ipv4Addr {
    let [high, low] = at.to_be_bytes();
    Ipv4Addr::new(10, 88, high, low)
}

fn sandbox(n: u16) -> SandboxName {
    format!("podwire-{n:012x}").parse().unwrap()
}

/// From what is recorded to what is desired.
fn apply(host: &mut Host, desired: &[Object], recorded: &[Object]) -> Result<(), ApplyError> {
    let asked: Vec<_> = desired.iter().chain(recorded).cloned().collect();
    let plan = plan(desired, recorded, &host.observe(&asked).unwrap()).unwrap();
    host.apply(&plan)
}

fn within<T>(n: u16, f: impl FnOnce() -> T) -> T {
    NetNs::open(&Path::new("/run/netns").join(sandbox(n).as_str())).unwrap().within(f).unwrap()
}

/// Is one of a few datagrams from here heard by container `n` at address `at`, and its answer here?
///
/// The first may be lost: a new IPv6 address hears nobody until a work queue of the kernel has made its local route
/// (addrconf_dad_work in net/ipv6/addrconf.c), some milliseconds later. Containers take longer to start.
fn answered(asker: &UdpSocket, n: u16, at: u16) -> bool {
    let ipv4 = asker.local_addr().unwrap().is_ipv4();
    let container = socket(n, at, ipv4);
    let mut bytes = [0; 9];
    (0..4).any(|_| {
        let asked = asker.send_to(b"anybody?", address_of(at, ipv4)).and_then(|_| container.recv_from(&mut bytes));
        asked.and_then(|(_, from)| container.send_to(b"me", from)).and_then(|_| asker.recv_from(&mut bytes)).is_ok()
    })
}

/// A datagram socket of container `n` at address `at`.
fn socket(n: u16, at: u16, ipv4: bool) -> UdpSocket {
    let socket = within(n, || UdpSocket::bind(address_of(at, ipv4)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn address_of(at: u16, ipv4: bool) -> SocketAddr {
    let ip: IpAddr = if ipv4 { ip4(at).into() } else { format!("fd00::{at:x}").parse().unwrap() };
    SocketAddr::new(ip, 7)
}

/// Its neighbours and the host remember the MAC address of the one before.
#[test]
fn whoever_gets_an_address_is_reached_at_once() {
    with_room("whoever_gets_an_address_is_reached_at_once", || {
        let mut host = Host::open().unwrap();
        let neighbour = [network(), container(1, 2)].concat();
        apply(&mut host, &neighbour, &[]).unwrap();
        let askers = [true, false].map(|ipv4| {
            let here = UdpSocket::bind(if ipv4 { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            here.set_read_timeout(Some(PATIENCE)).unwrap();
            [("the host", here), ("a neighbour", socket(1, 2, ipv4))]
        });
        for n in 2..6 {
            // What they remember is as fresh as can be.
            apply(&mut host, &[neighbour.clone(), container(n, 3)].concat(), &neighbour).unwrap();
            for (who, asker) in askers.iter().flatten() {
                let family = if asker.local_addr().unwrap().is_ipv4() { "IPv4" } else { "IPv6" };
                assert!(answered(asker, n, 3), "{who} did not reach container {n} by {family}");
            }
            apply(&mut host, &neighbour, &[neighbour.clone(), container(n, 3)].concat()).unwrap();
        }
    });
}

/// The engine counts its own containers; others may have put links on the bridge.
#[test]
fn a_full_bridge_says_so_and_nothing_remains() {
    with_room("a_full_bridge_says_so_and_nothing_remains", || {
        let mut host = Host::open().unwrap();
        apply(&mut host, &network(), &[]).unwrap();
        // Both ends of pairs, but one.
        let pairs = (0..512).map(|n| format!("link add a{n} master podman0 type veth peer name b{n}\n"));
        let others = (0..511).map(|n| format!("link set b{n} master podman0\n"));
        let links = pairs.chain(others);
        std::fs::write("/run/links", links.collect::<String>()).unwrap();
        sh("ip -batch /run/links");
        let before = sh("ip netns; nft list ruleset");
        let error = apply(&mut host, &[network(), container(2, 2)].concat(), &network()).unwrap_err();
        let said = error.to_string();
        assert!(said.ends_with("its bridge has 1023 ports, and the kernel lets it have no more"), "{said}");
        assert_eq!(sh("ip netns; nft list ruleset"), before);
        assert!(!sh("ip -br link show type veth").contains("pw"));
        sh("ip link set b77 nomaster");
        apply(&mut host, &[network(), container(2, 2)].concat(), &network()).unwrap();
    });
}

/// Each speaks to some others. Another number of containers is CROWD; with more than the kernel's table of
/// neighbours has room for (1,024 pairs in all namespaces, unless the host says otherwise: `drivers::base`),
/// some wait until entries are five seconds old.
#[test]
fn many_containers_of_one_bridge_reach_each_other() {
    with_room("many_containers_of_one_bridge_reach_each_other", || {
        let mut host = Host::open().unwrap();
        let start = Instant::now();
        let count = std::env::var("CROWD").map_or(100, |n| n.parse().unwrap());
        let all: Vec<u16> = (2..2 + count).collect();
        let objects = all.iter().flat_map(|n| container(*n, *n));
        apply(&mut host, &network().into_iter().chain(objects).collect::<Vec<_>>(), &[]).unwrap();
        eprintln!("{} containers in {:?}", all.len(), start.elapsed());
        for ipv4 in [true, false] {
            let sockets: Vec<UdpSocket> = all.iter().map(|n| socket(*n, *n, ipv4)).collect();
            sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            for distance in [1, 37] {
                let start = Instant::now();
                let mut unheard: BTreeSet<usize> = (0..all.len()).collect();
                while !unheard.is_empty() {
                    assert!(
                        start.elapsed() < Duration::from_secs(60),
                        "{unheard:?} heard nothing, {distance} places off"
                    );
                    let before = unheard.len();
                    for place in &unheard {
                        let from = (place + all.len() - distance) % all.len();
                        // No place among the neighbours is an error here, and is tried again.
                        let _ = sockets[from].send_to(&[0], address_of(all[*place], ipv4));
                    }
                    std::thread::sleep(Duration::from_millis(300));
                    unheard.retain(|place| sockets[*place].recv_from(&mut [0]).is_err());
                    eprintln!(
                        "{distance} places off, IPv4 {ipv4}: {} of {before} heard, {:?}",
                        before - unheard.len(),
                        start.elapsed()
                    );
                }
            }
        }
    });
}
