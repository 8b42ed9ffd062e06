//! What the bridge driver describes, on a real kernel: a published port answers another host.

mod inside;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use drivers::{Endpoint, NetworkWish};
use inside::{alone, sh};
use linux::NetNs;
use model::{Network, PortSpec};
use plan::{Mark, Object, Plan, SandboxName, plan};
use podwire_host::Host;

const NETWORK: &str = r#"{"name":"shop","id":"2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9","driver":"bridge",
    "network_interface":"podman0","created":"2026-11-24T00:00:00Z","ipv6_enabled":true,"internal":false,"dns_enabled":false,
    "subnets":[{"subnet":"10.88.0.0/16","gateway":"10.88.0.1"},{"subnet":"fd00::/64","gateway":"fd00::1"}],
    "ipam_options":{"driver":"host-local"}}"#;

/// Everything one container on the network needs, its port 80 published as 8080.
fn wish() -> Vec<Object> {
    let network: Network = serde_json::from_str(NETWORK).unwrap();
    let mark = Mark::new("5eed5eed", &network.id.short());
    let wish = NetworkWish {
        network: &network,
        link: network.link.clone().unwrap(),
        host_addrs: Vec::new(),
        mtu: 1500,
        dns: None,
        relayed: false,
        apart: false,
        mark,
    };
    let spec: PortSpec = "8080:80".parse().unwrap();
    let endpoint = Endpoint {
        sandbox: sandbox(),
        link: "eth0".parse().unwrap(),
        host_link: "pw01234567890".parse().unwrap(),
        parent: None,
        routes: Vec::new(),
        mtu: None,
        mac: "02:00:00:00:00:02".parse().unwrap(),
        addrs: vec!["10.88.0.2/16".parse().unwrap(), "fd00::2/64".parse().unwrap()],
        gateways: vec!["10.88.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        ports: vec![spec.at(8080)],
        mark: Mark::new("5eed5eed", "0123456789ab"),
    };
    let mut objects = drivers::base(false);
    objects.extend(drivers::sandbox(&sandbox(), true));
    objects.extend(drivers::network(&wish));
    objects.extend(drivers::attachment(&wish, &endpoint));
    objects
}

fn sandbox() -> SandboxName {
    "podwire-0123456789ab".parse().unwrap()
}

fn planned(host: &mut Host, desired: &[Object], recorded: &[Object]) -> Plan {
    let asked: Vec<_> = desired.iter().chain(recorded).cloned().collect();
    plan(desired, recorded, &host.observe(&asked).unwrap()).unwrap()
}

fn within<T>(namespace: &str, f: impl FnOnce() -> T) -> T {
    NetNs::open(&Path::new("/run/netns").join(namespace)).unwrap().within(f).unwrap()
}

fn page(address: &str) -> String {
    let connected = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2));
    let mut text = String::new();
    match connected.and_then(|mut stream| stream.read_to_string(&mut text)) {
        Ok(_) => text,
        Err(e) => e.kind().to_string(),
    }
}

#[test]
fn a_published_port_answers_other_hosts_and_is_refused_after_removal() {
    alone("a_published_port_answers_other_hosts_and_is_refused_after_removal", || {
        // Another host: its namespace, and a cable; its links wait for no duplicate address detection, ours have to.
        let dad = |value| sh(&format!("echo {value} > /proc/sys/net/ipv6/conf/default/accept_dad"));
        dad(0);
        sh("ip netns add outside; ip link add up0 type veth peer name up1 netns outside; \
            ip addr add 192.0.2.1/24 dev up0; ip -6 addr add 2001:db8::1/64 dev up0 nodad; ip link set up0 up; \
            ip -n outside addr add 192.0.2.2/24 dev up1; ip -n outside -6 addr add 2001:db8::2/64 dev up1 nodad; \
            ip -n outside link set up1 up");
        dad(1);
        let mut host = Host::open().unwrap();
        let up = planned(&mut host, &wish(), &[]);
        host.apply(&up).unwrap();
        assert_eq!(planned(&mut host, &wish(), &wish()).to_string(), "");
        let marked: BTreeSet<_> = host.marked("5eed5eed").unwrap().iter().map(Object::key).collect();
        for object in wish().iter().filter(|o| o.mark().is_some() || matches!(o, Object::Sandbox(_))) {
            assert!(marked.contains(&object.key()), "{object}");
        }

        let server = within(sandbox().as_str(), || TcpListener::bind("[::]:80").unwrap());
        std::thread::spawn(move || {
            server.incoming().flatten().for_each(|mut client| client.write_all(b"banner").unwrap())
        });
        for address in ["[2001:db8::1]:8080", "192.0.2.1:8080"] {
            assert_eq!(within("outside", || page(address)), "banner", "{address} from outside");
            assert_eq!(page(address), "banner", "{address} from the host");
            assert_eq!(within(sandbox().as_str(), || page(address)), "banner", "{address} from the container itself");
        }
        assert_eq!(page("127.0.0.1:8080"), "banner");

        let down = planned(&mut host, &[], &wish());
        host.apply(&down).unwrap();
        assert_eq!(within("outside", || page("192.0.2.1:8080")), "connection refused");
        assert_eq!(host.marked("5eed5eed").unwrap(), []);
        assert_eq!((sh("nft list ruleset"), sh("ls /run/netns")), (String::new(), "outside\n".to_owned()));
        assert!(!sh("ip link").contains("podman0"));
    });
}
