//! What the firewall lets through and what not, packet by packet, in a little world of namespaces.
//!
//! ```text
//!   lan 192.168.99.1 ── lan0 .109 ┐        ┌ p0 10.88.0.1  strict    a .2  b .3   (and fd00:88::/64)
//!   wan 198.51.100.1 ── wan0 .109 ┤  host  ├ p1 10.89.0.1  open      c .2
//!                                 │        ├ p2 10.91.0.1  open      d .2          (goes out as 192.168.99.200)
//!                                 │        ├ p3 10.92.0.1  isolated  e .2
//!                                 │        ├ p4 10.93.0.1  isolated  f .2
//!                                 │        └ p5 10.90.0.1  internal  i .2
//! ```
//!
//! Every host has a TCP and a UDP server on port 80 that says who it is and whom it sees; the tables below
//! compare what a client gets. `lan` has routes to everything behind the host, and to 127.0.0.0/8.

mod inside;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use firewall::{LINK_GROUP, NetworkFirewall, network_elements, port_elements, publish_elements, version};
use inside::{alone_tests, sh};
use model::addr::offset;
use model::{Isolation, MacAddr, PortSpec, Subnet};
use plan::{Element, Mark, Object, Op, Plan, Ruleset};
use podwire_host::Host;

/// One host of the world, ready for commands.
struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(name: &str, namespace: Option<&str>) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packets.py");
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "python3"]);
                command
            }
            None => Command::new("python3"),
        };
        let mut child =
            command.args(["-S", script, name]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, commands, answers }
    }

    fn ask(&mut self, command: &str) -> String {
        self.say(command);
        self.hear()
    }

    fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Containers: name, bridge, IPv4 address; also IPv6 on p0.
const CONTAINERS: [(&str, &str, Ipv4Addr); 7] = [
    ("a", "p0", Ipv4Addr::new(10, 88, 0, 2)),
    ("b", "p0", Ipv4Addr::new(10, 88, 0, 3)),
    ("c", "p1", Ipv4Addr::new(10, 89, 0, 2)),
    ("d", "p2", Ipv4Addr::new(10, 91, 0, 2)),
    ("e", "p3", Ipv4Addr::new(10, 92, 0, 2)),
    ("f", "p4", Ipv4Addr::new(10, 93, 0, 2)),
    ("i", "p5", Ipv4Addr::new(10, 90, 0, 2)),
];

/// Networks: bridge, subnet's first three numbers, isolation.
const NETWORKS: [(&str, &str, Isolation); 6] = [
    ("p0", "10.88.0", Isolation::FromEverything),
    ("p1", "10.89.0", Isolation::None),
    ("p2", "10.91.0", Isolation::None),
    ("p3", "10.92.0", Isolation::FromIsolated),
    ("p4", "10.93.0", Isolation::FromIsolated),
    ("p5", "10.90.0", Isolation::None),
];

/// Networks with names, which process "dns" of the host answers at port 834.
const DNS: [&str; 3] = ["p0", "p2", "p5"];

fn mark() -> Mark {
    Mark::new("5eed5eed", "0123456789ab")
}

fn mac_of(ip: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = ip.octets();
    MacAddr::new([2, 0x42, a, b, c, d]).unwrap()
}

fn ip6_of(bridge: &str, ip: Ipv4Addr) -> Option<IpAddr> {
    (bridge == "p0").then(|| format!("fd00:88::{}", ip.octets()[3]).parse().unwrap())
}

/// Links, addresses and routes, as the drivers make them.
fn build() {
    let mut script = String::from(
        "set -e; cd /proc/sys/net\necho 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding; echo 0 > ipv6/conf/default/accept_dad\n",
    );
    let mut add = |line: String| script += &(line + "\n");
    for (name, net4, net6) in [("lan", "192.168.99", "2001:db8:99::"), ("wan", "198.51.100", "2001:db8:98::")] {
        add(format!(
            "ip netns add {name}; ip netns exec {name} sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad'"
        ));
        add(format!("ip link add {name}0 address 02:00:00:00:99:00 type veth peer name eth0 netns {name}"));
        add(format!(
            "ip addr add {net4}.109/24 dev {name}0; ip addr add {net6}109/64 dev {name}0 nodad; ip link set {name}0 up"
        ));
        add(format!(
            "ip -n {name} link set lo up; ip -n {name} addr add {net4}.1/24 dev eth0; ip -n {name} link set eth0 up"
        ));
        add(format!("ip -n {name} addr add {net6}1/64 dev eth0 nodad"));
        add(format!("ip -n {name} route add default via {net4}.109; ip -n {name} -6 route add default via {net6}109"));
    }
    add("ip addr add 192.168.99.200/24 dev lan0".into());
    // The neighbour that wants to reach the host's loopback addresses.
    add("ip netns exec lan sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet'".into());
    add("ip -n lan addr del 127.0.0.1/8 dev lo; ip -n lan route add 127.0.0.0/8 via 192.168.99.109".into());
    for (bridge, net, _) in NETWORKS {
        add(format!(
            "ip link add {bridge} address 02:00:00:00:00:{:0>2} type bridge no_linklocal_learn 1",
            &bridge[1..]
        ));
        add(format!(
            "ip addr add {net}.1/24 dev {bridge}; ip link set {bridge} up; echo 1 > ipv4/conf/{bridge}/route_localnet"
        ));
    }
    add("ip addr add fd00:88::1/64 dev p0 nodad".into());
    for (name, bridge, ip) in CONTAINERS {
        let net = NETWORKS.iter().find(|network| network.0 == bridge).unwrap().1;
        add(format!(
            "ip netns add {name}; ip netns exec {name} sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad'"
        ));
        add(format!(
            "ip link add pw{name} group {LINK_GROUP} type veth peer name eth0 address {} netns {name}",
            mac_of(ip)
        ));
        add(format!("ip link set pw{name} master {bridge} up; ip link set pw{name} type bridge_slave hairpin on"));
        add(format!(
            "ip -n {name} link set lo up; ip -n {name} link set eth0 up; ip -n {name} addr add {ip}/24 dev eth0"
        ));
        add(format!("ip -n {name} route add default via {net}.1"));
        if let Some(ip6) = ip6_of(bridge, ip) {
            add(format!(
                "ip -n {name} addr add {ip6}/64 dev eth0 nodad; ip -n {name} -6 route add default via fd00:88::1"
            ));
        }
    }
    sh(&script);
}

/// The elements of all networks, container ports and published ports.
fn elements() -> Vec<Element> {
    let mut elements = Vec::new();
    for (bridge, net, isolation) in NETWORKS {
        let mut subnets = vec![format!("{net}.0/24").parse().unwrap()];
        subnets.extend((bridge == "p0").then(|| "fd00:88::/64".parse::<Subnet>().unwrap()));
        elements.extend(network_elements(&NetworkFirewall {
            bridge: bridge.parse().unwrap(),
            gateways: subnets.iter().map(|subnet| offset(subnet.network(), 1).unwrap()).collect(),
            subnets,
            dns: DNS.contains(&bridge).then_some(834),
            isolation,
            internal: bridge == "p5",
            relayed: false,
            apart: false,
            outbound4: (bridge == "p2").then(|| "192.168.99.200".parse().unwrap()),
            outbound6: None,
            mark: mark(),
        }));
    }
    for (name, bridge, ip) in CONTAINERS {
        let ips: Vec<_> = [Some(ip.into()), ip6_of(bridge, ip)].into_iter().flatten().collect();
        elements.extend(port_elements(&format!("pw{name}").parse().unwrap(), mac_of(ip), &ips, &mark()));
    }
    for (name, ports) in [
        ("a", "8080:80 8080:80/udp 127.0.0.1:8081:80 192.168.99.109:8082:80 9000-9100:9000-9100 6000:80 5353:80/udp"),
        ("a", "53:80/udp 127.0.0.1:9200-9210:9200-9210 192.168.99.109:9300-9310:9300-9310 8800-8801:80-81"),
        ("a", "[2001:db8:99::109]:8084:80 [2001:db8:99::109]:9400-9410:9400-9410"),
        ("c", "8090:80"),
        ("i", "8091:80"),
    ] {
        let (_, bridge, ip) = CONTAINERS.into_iter().find(|container| container.0 == name).unwrap();
        let ip6 = ip6_of(bridge, ip).map(|ip| ip.to_string().parse().unwrap());
        for port in ports.split(' ') {
            let spec: PortSpec = port.parse().unwrap();
            elements.extend(publish_elements(&spec.at(spec.host_port.unwrap()), Some(ip), ip6, &mark()));
        }
    }
    elements
}

fn firewall() {
    let mut host = Host::open().unwrap();
    let ruleset = Object::Ruleset(Ruleset { version: version() });
    let objects = [ruleset].into_iter().chain(elements().into_iter().map(Object::Element));
    host.apply(&Plan { ops: objects.map(Op::Create).collect(), ..Plan::default() }).unwrap();
}

struct World(BTreeMap<String, Peer>);

impl World {
    fn new() -> Self {
        build();
        firewall();
        let names = CONTAINERS.iter().map(|container| container.0).chain(["lan", "wan"]);
        let mut peers: BTreeMap<_, _> = names.map(|name| (name.to_owned(), Peer::start(name, Some(name)))).collect();
        peers.extend(["host", "dns"].map(|name| (name.to_owned(), Peer::start(name, None))));
        for (name, peer) in &mut peers {
            let services = match name.as_str() {
                "host" => "tcp 7000,udp 7000,tcp 7001 127.0.0.1,udp 7001 127.0.0.1,tcp 5300,tcp 53,udp 53",
                "dns" => "tcp 834,udp 834",
                "lan" => "tcp 80,udp 80,tcp 6000,udp 5353",
                "a" => "tcp 80,udp 80,tcp 81,tcp 9050,tcp 9205,tcp 9305,tcp 9405",
                _ => "tcp 80,udp 80",
            };
            for service in services.split(',') {
                assert_eq!(peer.ask(&format!("serve {service}")), "ok");
            }
        }
        Self(peers)
    }

    /// Lets b send true frames and lies; returns which, and which of them arrived where.
    fn lie(&mut self) -> (Vec<String>, BTreeMap<&'static str, Vec<String>>) {
        let watchers = ["a", "b", "lan", "host"];
        for name in watchers {
            let command = if name == "host" { "hear 4000" } else { "watch eth0" };
            self.0.get_mut(name).unwrap().ask(command);
        }
        let sent = self.0.get_mut("b").unwrap().ask(&format!(
            "lies eth0 me={}/10.88.0.3/fd00:88::3 victim={}/10.88.0.2/fd00:88::2 \
             gateway=02:00:00:00:00:00/10.88.0.1/fd00:88::1 lan=192.168.99.1",
            mac_of(CONTAINERS[1].2),
            mac_of(CONTAINERS[0].2),
        ));
        let seen = watchers.map(|name| (name, kinds(&self.0.get_mut(name).unwrap().ask("seen 0.4"))));
        (kinds(&sent), seen.into())
    }

    /// `FROM TARGET RESULT`, line by line. What answers is given time to; what must not, is asked all at once.
    fn check(&mut self, seconds: f32, table: &str) {
        let mut rows: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.splitn(3, ' ');
            let (from, target, result) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            rows.entry(from).or_default().push((target, result));
        }
        for (from, rows) in &rows {
            let targets: Vec<_> = rows.iter().map(|row| row.0).collect();
            self.0.get_mut(*from).unwrap().say(&format!("probe {seconds} {}", targets.join(" ")));
        }
        let mut wrong = String::new();
        for (from, rows) in &rows {
            let answer = self.0.get_mut(*from).unwrap().hear();
            let answers: Vec<_> = answer.split(',').collect();
            assert_eq!(answers.len(), rows.len(), "{from}: {answer}");
            for ((target, result), answer) in rows.iter().zip(answers) {
                if *result != answer {
                    wrong += &format!("{from} to {target}: {answer}, not {result}\n");
                }
            }
        }
        let settings = "bridge/bridge-nf-call-iptables ipv4/conf/lan0/rp_filter";
        assert!(wrong.is_empty(), "{wrong}{}", sh(&format!("cd /proc/sys/net; grep . {settings}")));
    }
}

/// The kinds of frames `names` says, in order.
fn kinds(names: &str) -> Vec<String> {
    let mut names: Vec<_> = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// Runs `f` with frames between ports hidden from the IP firewall and shown to it, and with each way of the
/// kernel's own check of sources.
fn any_way(f: impl Fn(&mut World)) {
    let mut world = World::new();
    for (call, rp_filter) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)] {
        sh(&format!("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do echo {call} > $f; done"));
        sh(&format!("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {rp_filter} > $f; done"));
        f(&mut world);
    }
}

alone_tests! {
    fn published_ports_are_reached_and_the_client_is_seen() {
        any_way(|world| world.check(5.0, "
            lan tcp:192.168.99.109:8080 a saw 192.168.99.1
            lan udp:192.168.99.109:8080 a saw 192.168.99.1
            lan tcp:[2001:db8:99::109]:8080 a saw 2001:db8:99::1
            lan tcp:[2001:db8:99::109]:9050 a saw 2001:db8:99::1
            lan tcp:[2001:db8:99::109]:8084 a saw 2001:db8:99::1
            lan tcp:[2001:db8:99::109]:9405 a saw 2001:db8:99::1
            lan tcp:192.168.99.109:8082 a saw 192.168.99.1
            lan tcp:192.168.99.109:9050 a saw 192.168.99.1
            lan tcp:192.168.99.109:9305 a saw 192.168.99.1
            lan tcp:192.168.99.109:8801 a saw 192.168.99.1
            lan tcp:192.168.99.109:8090 c saw 192.168.99.1
            wan tcp:198.51.100.109:8080 a saw 198.51.100.1
            wan tcp:192.168.99.109:8080 a saw 198.51.100.1
            host tcp:127.0.0.1:8080 a saw 10.88.0.1
            host udp:127.0.0.1:8080 a saw 10.88.0.1
            host tcp:127.0.0.1:8081 a saw 10.88.0.1
            host tcp:127.0.0.1:9205 a saw 10.88.0.1
            host tcp:127.0.0.1:8091 i saw 10.90.0.1
            host tcp:192.168.99.109:8080 a saw 192.168.99.109
            host tcp:192.168.99.109:8082 a saw 192.168.99.109
            host tcp:10.88.0.1:8080 a saw 10.88.0.1
            host tcp:10.89.0.1:8080 a saw 10.89.0.1
            host tcp:[2001:db8:99::109]:8080 a saw 2001:db8:99::109
            host tcp:10.88.0.2:80 a saw 10.88.0.1
            host tcp:[::1]:8080 refused
            host tcp:[fe80::ff:fe00:9900%lan0]:8080 refused
            lan tcp:[fe80::ff:fe00:9900%eth0]:8080 refused
            a tcp:192.168.99.109:8080 a saw 10.88.0.1
            a udp:192.168.99.109:8080 a saw 10.88.0.1
            a tcp:10.88.0.1:8080 a saw 10.88.0.1
            a tcp:192.168.99.109:8082 a saw 10.88.0.1
            a tcp:192.168.99.109:9050 a saw 10.88.0.1
            a tcp:[2001:db8:99::109]:8080 a saw fd00:88::1
            a tcp:[fd00:88::1]:8080 a saw fd00:88::1
            b tcp:192.168.99.109:8080 a saw 10.88.0.1
            b tcp:[2001:db8:99::109]:8080 a saw fd00:88::1
            b tcp:192.168.99.109:8090 c saw 10.88.0.3
            c tcp:192.168.99.109:8080 a saw 10.89.0.2
            c tcp:192.168.99.109:8082 a saw 10.89.0.2
            c tcp:10.89.0.1:8080 a saw 10.89.0.2
            c tcp:192.168.99.109:8090 c saw 10.89.0.1
        "));
    }

    fn what_is_allowed_works() {
        any_way(|world| world.check(5.0, "
            b tcp:10.88.0.2:80 a saw 10.88.0.3
            b tcp:[fd00:88::2]:80 a saw fd00:88::3
            a tcp:192.168.99.1:80 lan saw 192.168.99.109
            a udp:192.168.99.1:80 lan saw 192.168.99.109
            a tcp:[2001:db8:99::1]:80 lan saw 2001:db8:99::109
            d tcp:192.168.99.1:80 lan saw 192.168.99.200
            c tcp:192.168.99.1:6000 lan saw 192.168.99.109
            c udp:192.168.99.1:5353 lan saw 192.168.99.109
            wan tcp:192.168.99.1:6000 lan saw 198.51.100.1
            host tcp:192.168.99.1:6000 lan saw 192.168.99.109
            host udp:192.168.99.1:5353 lan saw 192.168.99.109
            lan tcp:192.168.99.109:7000 host saw 192.168.99.1
            lan udp:192.168.99.109:7000 host saw 192.168.99.1
            a ping:10.88.0.1 pong
            a ping:fd00:88::1 pong
            b ping:10.88.0.2 pong
            a ping:192.168.99.1 pong
            a udp:10.88.0.1:53 dns saw 10.88.0.2
            a tcp:10.88.0.1:53 dns saw 10.88.0.2
            b udp:[fd00:88::1]:53 dns saw fd00:88::3
            b tcp:[fd00:88::1]:53 dns saw fd00:88::3
            i udp:10.90.0.1:53 dns saw 10.90.0.2
            host udp:10.88.0.1:53 dns saw 10.88.0.1
            host tcp:10.90.0.1:53 dns saw 10.90.0.1
            host udp:[fd00:88::1]:53 dns saw fd00:88::1
            host tcp:127.0.0.1:53 host saw 127.0.0.1
            lan udp:192.168.99.109:53 a saw 192.168.99.1
            a udp:192.168.99.109:53 a saw 10.88.0.1
            c udp:10.89.0.1:53 a saw 10.89.0.2
            c udp:10.88.0.1:53 a saw 10.89.0.2
            c tcp:10.91.0.2:80 d saw 10.89.0.2
            c tcp:10.92.0.2:80 e saw 10.89.0.2
            e tcp:10.89.0.2:80 c saw 10.92.0.2
        "));
    }

    fn what_the_relay_has_taken_up_comes_in_but_not_from_an_internal_network() {
        any_way(|world| {
            sh("nft 'add table inet relay; add chain inet relay p { type filter hook prerouting priority -150; }; \
                flush chain inet relay p; add rule inet relay p th dport 7000 meta mark set 0x70770001'");
            world.check(1.0, "
                a tcp:10.88.0.1:7000 host saw 10.88.0.2
                c udp:10.89.0.1:7000 host saw 10.89.0.2
                i tcp:10.90.0.1:7000 silent
                i udp:10.90.0.1:7000 silent
                c tcp:10.89.0.1:5300 silent
            ");
        });
    }

    fn nothing_else_is_reached() {
        any_way(|world| {
            let outside = ["lan", "c", "i"];
            for name in outside {
                world.0.get_mut(name).unwrap().ask("watch eth0");
            }
            world.check(1.0, "
            lan tcp:127.0.0.1:8081 silent
            lan tcp:127.0.0.1:9205 silent
            lan tcp:127.0.0.1:8080 silent
            lan tcp:127.0.0.1:7001 silent
            lan tcp:192.168.99.109:8081 refused
            lan tcp:192.168.99.109:9205 refused
            lan tcp:192.168.99.109:8999 refused
            lan tcp:10.88.0.2:80 silent
            lan tcp:[fd00:88::2]:80 silent
            lan tcp:10.88.0.1:53 silent
            lan tcp:[fd00:88::1]:53 silent
            lan tcp:10.88.0.1:8080 silent
            lan tcp:10.92.0.2:80 silent
            lan tcp:10.90.0.2:80 silent
            lan tcp:192.168.99.109:8091 silent
            wan tcp:192.168.99.109:8082 refused
            wan tcp:192.168.99.109:9305 refused
            wan tcp:10.88.0.2:80 silent
            a tcp:127.0.0.1:8081 refused
            a tcp:10.88.0.1:7000 silent
            a udp:10.88.0.1:7000 silent
            a tcp:192.168.99.109:7000 silent
            a tcp:192.168.99.109:8081 silent
            a tcp:[fd00:88::1]:7000 silent
            a tcp:[fe80::ff:fe00:0%eth0]:7000 silent
            a tcp:[fe80::ff:fe00:0%eth0]:8080 silent
            a tcp:10.88.0.1:5300 silent
            a tcp:10.88.0.1:834 silent
            a udp:10.88.0.1:834 silent
            a tcp:[fd00:88::1]:834 silent
            c tcp:10.89.0.1:834 silent
            c udp:10.88.0.1:834 silent
            lan udp:10.88.0.1:834 silent
            lan udp:10.88.0.1:53 silent
            a tcp:10.89.0.1:53 silent
            a tcp:192.168.99.109:53 silent
            a tcp:10.89.0.2:80 silent
            a tcp:10.92.0.2:80 silent
            c tcp:10.88.0.2:80 silent
            c tcp:10.88.0.1:53 silent
            e tcp:10.93.0.2:80 silent
            f tcp:10.92.0.2:80 silent
            e tcp:10.88.0.2:80 silent
            c tcp:10.90.0.2:80 silent
            c tcp:192.168.99.109:8091 silent
            i tcp:10.89.0.2:80 silent
            i tcp:192.168.99.1:80 silent
            i tcp:192.168.99.109:8080 silent
            i tcp:10.90.0.1:7000 silent
            i udp:192.168.99.1:80 silent
            i udp:10.89.0.2:80 silent
            c udp:10.90.0.2:80 silent
            ");
            // Not even one way.
            let seen = outside.map(|name| world.0.get_mut(name).unwrap().ask("seen 0.1"));
            assert_eq!(seen, ["", "", ""]);
        });
    }

    fn no_lie_leaves_a_containers_port() {
        any_way(|world| {
            let (sent, seen_by) = world.lie();
            let to_victim: Vec<_> = sent.into_iter().filter(|name| name.starts_with("true-") && name != "true-out").collect();
            assert_eq!(seen_by["a"], to_victim);
            assert_eq!(seen_by["lan"], ["true-out"]);
            assert_eq!(seen_by["b"], [""; 0], "its own frames came back");
            assert_eq!(seen_by["host"], [""; 0]);
            let victim = mac_of(CONTAINERS[0].2).to_string();
            let learned = sh("bridge fdb show br p0");
            let places: Vec<_> = learned.lines().filter(|line| line.contains(&victim)).collect();
            assert!(places.iter().all(|line| line.contains("dev pwa ")), "{places:?}");
        });
    }

    fn a_port_without_elements_says_nothing() {
        let mut world = World::new();
        let lies = |world: &mut World| world.lie().1["a"].len();
        assert_ne!(lies(&mut world), 0);
        let mut host = Host::open().unwrap();
        let port = elements().into_iter().filter(|element| element.key[0].to_string() == "\"pwb\"").map(Object::Element);
        host.apply(&Plan { ops: port.map(Op::Remove).collect(), ..Plan::default() }).unwrap();
        assert_eq!(lies(&mut world), 0);
    }

    fn nobody_outside_speaks_for_a_container() {
        let mut world = World::new();
        // So that the neighbours know each other's addresses.
        world.check(5.0, "
            lan tcp:[2001:db8:99::109]:7000 host saw 2001:db8:99::1
            lan tcp:192.168.99.109:7000 host saw 192.168.99.1
        ");
        let mut pretend = |sources: &[&str]| {
            world.0.get_mut("host").unwrap().ask("hear 4000");
            for source in sources {
                let host = if source.contains(':') { "2001:db8:99::109" } else { "192.168.99.109" };
                world.0.get_mut("lan").unwrap().ask(&format!("pretend {source} {host} 4000"));
            }
            kinds(&world.0.get_mut("host").unwrap().ask("seen 0.4"))
        };
        sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done; echo 1 > /proc/sys/net/ipv4/conf/lan0/route_localnet");
        let liars = ["10.88.0.77", "10.90.0.2", "127.0.0.2", "fd00:88::77"];
        let others = ["203.0.113.9", "2001:db8:5::9"];
        assert_eq!(pretend(&[&liars[..], &others].concat()), ["2001:db8:5::9", "203.0.113.9"]);
        sh("nft delete table inet podwire");
        assert_eq!(pretend(&liars), liars, "the firewall was not what stopped them");
    }

    /// What the other tests call closed is open when only the firewall is taken away: they would notice.
    fn without_the_firewall_everything_is_reached() {
        let mut world = World::new();
        sh("nft delete table inet podwire; nft delete table bridge podwire; echo 1 > /proc/sys/net/ipv4/conf/lan0/route_localnet");
        // br_netfilter has checks of its own.
        sh("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do echo 0 > $f; done");
        world.check(5.0, "
            lan tcp:127.0.0.1:7001 host saw 192.168.99.1
            lan tcp:10.88.0.2:80 a saw 192.168.99.1
            lan tcp:[fd00:88::2]:80 a saw 2001:db8:99::1
            lan tcp:10.88.0.1:53 host saw 192.168.99.1
            lan tcp:10.88.0.1:834 dns saw 192.168.99.1
            lan tcp:10.90.0.2:80 i saw 192.168.99.1
            a tcp:10.88.0.1:7000 host saw 10.88.0.2
            a tcp:[fe80::ff:fe00:0%eth0]:7000 host saw fe80::42:aff:fe58:2
            a tcp:10.89.0.1:53 host saw 10.88.0.2
            c tcp:10.88.0.2:80 a saw 10.89.0.2
            e tcp:10.93.0.2:80 f saw 10.92.0.2
            i tcp:192.168.99.1:80 lan saw 10.90.0.2
        ");
        let (sent, seen_by) = world.lie();
        // Control frames of switches are not forwarded by any bridge; replies to the bridge's own addresses are not the victim's.
        let to_host = ["loopback", "from-loopback", "mac-of-victim", "ip-outwards", "invalid", "true-out", "pause", "lldp"];
        let expected: Vec<_> = sent.iter().filter(|name| !to_host.contains(&name.as_str())).cloned().collect();
        assert_eq!(seen_by["a"], expected);
        assert_eq!(seen_by["lan"], ["invalid", "ip-outwards", "mac-of-victim", "true-out"]);
        assert!(seen_by["b"].contains(&"true-broadcast".to_owned()));
        assert!(seen_by["host"].contains(&"loopback".to_owned()));
    }
}
