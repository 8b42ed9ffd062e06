//! UDP and echo through the kernel, between namespaces of the test's own.
//!
//! ```text
//!   c1 10.42.0.2 ─┐                    ┌ tun pwrelay <──> reader ──> Datagrams::packet
//!   c2 10.42.0.3 ─┴ br0 10.42.0.1 [rns]┤
//!                                      └ Datagrams ──> [host] 198.51.100.10 ── eth0 ── [out] 198.51.100.20
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::relay_client::RelaySettings;
use linux::NetNs;
use linux::mounts;
use linux::trains::{self, Batch, Complaint, Envelope};
use linux::tun::Tun;
use relay::book::Book;
use relay::lookout::{self, Lookout};
use relay::outside::Outside;
use relay::place::Place;
use relay::udp::{self, Datagrams, Published};
use relay_core::flows::Limits;

const SETUP: &str = "
    set -e
    for ns in host out rns c1 c2; do
        ip netns add $ns; ip netns exec $ns sysctl -qw net.ipv6.conf.default.accept_dad=0; ip -n $ns link set lo up
    done
    ip -n host link add eth0 type veth peer name eth0 netns out
    ip -n host addr add 198.51.100.10/24 dev eth0; ip -n host addr add 2001:db8:9::10/64 dev eth0 nodad
    ip -n out addr add 198.51.100.20/24 dev eth0; ip -n out addr add 2001:db8:9::20/64 dev eth0 nodad
    ip -n out addr add 198.51.100.21/24 dev eth0; ip -n out addr add 203.0.113.1/32 dev lo
    ip -n host link set eth0 up; ip -n out link set eth0 up
    ip -n host route add default via 198.51.100.20; ip -n host route add default via 2001:db8:9::20
    ip -n host route add unreachable 198.51.100.99
    ip netns exec out sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
    ip -n out route add 203.0.113.0/24 dev lo
    ip netns exec out sysctl -qw net.ipv4.icmp_msgs_per_sec=10000 net.ipv4.icmp_msgs_burst=10000
    ip -n rns link add br0 type bridge mcast_snooping 0
    ip -n rns addr add 10.42.0.1/16 dev br0; ip -n rns addr add fd00:42::1/64 dev br0 nodad
    ip -n rns link set br0 mtu 65520 up
    for n in 1 2; do
        ip -n rns link add v$n type veth peer name eth0 netns c$n
        ip -n rns link set v$n master br0 mtu 65520 up
        ip -n c$n addr add 10.42.0.$((n + 1))/16 dev eth0; ip -n c$n addr add fd00:42::$((n + 1))/64 dev eth0 nodad
        ip -n c$n link set eth0 mtu 65520 up
        ip -n c$n route add default via 10.42.0.1; ip -n c$n route add default via fd00:42::1
        ip netns exec c$n sysctl -qw net.ipv4.ping_group_range='0 0'
    done
";

/// Namespaces, and the relay's part for datagrams at work between them.
struct Rig {
    datagrams: Arc<Datagrams>,
    book: Book,
    outside: Outside,
    over: Arc<AtomicBool>,
    resolv_conf: PathBuf,
}

/// Runs `test` with a rig in mount and network namespaces of its own.
fn rig(limits: Limits, test: impl FnOnce(&Rig) + Send) {
    if !linux::process::is_root() {
        // Not by eprintln!, which the test runner hides.
        let _ = io::Write::write_all(&mut io::stderr(), b"SKIPPED: needs root\n");
        return;
    }
    let body = || {
        mounts::enter_private_namespace().unwrap();
        mounts::tmpfs(Path::new("/run"), None, 0o755).unwrap();
        shell(SETUP);
        let rig = Rig::start(limits);
        test(&rig);
        rig.over.store(true, Ordering::Relaxed);
    };
    std::thread::scope(|scope| scope.spawn(body).join()).unwrap();
}

fn shell(script: &str) {
    let status = Command::new("sh").arg("-c").arg(script).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{script}");
}

fn shell_in(namespace: &str, script: &str) {
    within(namespace, || shell(script));
}

fn within<T>(namespace: &str, f: impl FnOnce() -> T) -> T {
    NetNs::open(Path::new(&format!("/run/netns/{namespace}"))).unwrap().within(f).unwrap()
}

impl Rig {
    fn start(limits: Limits) -> Self {
        let resolv_conf = PathBuf::from("/run/resolv.conf");
        std::fs::write(&resolv_conf, "nameserver 198.51.100.20\n").unwrap();
        let outside = within("host", Outside::here).unwrap();
        let (ours, theirs) = linux::Packets::pair().unwrap();
        let followed = resolv_conf.clone();
        std::thread::spawn(move || lookout::watch(&theirs, &followed, Path::new("/run/none")));
        let book = Book::new(outside.clone(), Lookout::of(ours));
        let over = Arc::new(AtomicBool::new(false));
        let datagrams = within("rns", || {
            let place = Place::make(65_520).unwrap();
            let tun = Arc::clone(&place.tun);
            let datagrams = Datagrams::start(outside.clone(), Arc::clone(&tun), book.clone(), limits).unwrap();
            place.open(datagrams.port).unwrap();
            let datagrams = Arc::new(datagrams);
            let (reader, over) = (Arc::clone(&datagrams), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut room = vec![0; 65_536];
                while !over.load(Ordering::Relaxed) {
                    match tun.read(&mut room) {
                        Ok(length) => reader.packet(&room[..length]),
                        Err(_) => std::thread::sleep(Duration::from_millis(1)),
                    }
                }
            });
            datagrams
        });
        Self { datagrams, book, outside, over, resolv_conf }
    }

    fn settings(&self, container: &str, settings: RelaySettings) {
        let addresses = vec![container.parse().unwrap()];
        self.book.put(HashMap::from([(addresses[0], Arc::new(settings))]));
        self.datagrams.forget(addresses).unwrap();
    }

    /// Publishes a port of the host; the number it gets.
    fn publish(&self, number: u32, address: &str, targets: &[&str]) -> udp::ListenerId {
        let socket = udp::bind_outside(&self.outside, address.parse().unwrap()).unwrap();
        let published = Published {
            socket,
            targets: targets.iter().map(|text| text.parse().unwrap()).collect(),
            gateways: ["10.42.0.1", "fd00:42::1"].map(|text| text.parse().unwrap()).to_vec(),
        };
        self.datagrams.serve(number, published).unwrap()
    }
}

const LIMITS: Limits = udp::LIMITS;

fn socket(namespace: &str, address: &str) -> UdpSocket {
    let socket = within(namespace, || UdpSocket::bind(address)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// Answers everything with the address it seems to come from, a colon, and what was said.
fn echo_server(namespace: &str, address: &str) -> SocketAddr {
    let server = socket(namespace, address);
    server.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let local = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut room = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut room) {
            let answer = [format!("{}|", from).as_bytes(), &room[..length]].concat();
            let _ = server.send_to(&answer, from);
        }
    });
    local
}

fn ask(client: &UdpSocket, to: &str, what: &str) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    client.send_to(what.as_bytes(), to)?;
    let mut room = vec![0; 65_536];
    let (length, from) = client.recv_from(&mut room)?;
    assert_eq!(from, to, "an answer comes from whom was asked");
    Ok(String::from_utf8_lossy(&room[..length]).into_owned())
}

/// What a container is told about a datagram, or a request.
fn complaint(socket: impl AsFd) -> Option<Complaint> {
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        match trains::complaint(&socket) {
            Ok(complaint) => return Some(complaint),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    None
}

fn complaint_about(namespace: &str, to: &str, content: &[u8]) -> Option<(u8, u8, u32, Option<String>)> {
    let to: SocketAddr = to.parse().unwrap();
    let socket = within(namespace, || trains::to_outside(to.is_ipv4())).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    rustix::net::send(&socket, content, rustix::net::SendFlags::empty()).unwrap();
    let said = complaint(&socket)?;
    Some((said.kind, said.code, said.number, said.by.map(|by| by.to_string())))
}

#[test]
fn datagrams_go_out_and_their_answers_come_back() {
    rig(LIMITS, |_| {
        echo_server("out", "198.51.100.20:7000");
        echo_server("out", "[2001:db8:9::20]:7000");
        for (own, to, host) in [
            ("10.42.0.2:4000", "198.51.100.20:7000", "198.51.100.10"),
            ("[fd00:42::2]:4000", "[2001:db8:9::20]:7000", "[2001:db8:9::10]"),
        ] {
            let client = socket("c1", own);
            for text in ["one", "two", ""] {
                let answer = ask(&client, to, text).unwrap();
                assert!(answer.starts_with(host) && answer.ends_with(&format!("|{text}")), "{answer}");
            }
        }
        // Another container with the same port is somebody else.
        let (c1, c2) = (socket("c1", "10.42.0.2:4001"), socket("c2", "10.42.0.3:4001"));
        assert_ne!(ask(&c1, "198.51.100.20:7000", "x").unwrap(), ask(&c2, "198.51.100.20:7000", "x").unwrap());
    });
}

#[test]
fn long_datagrams_arrive_whole_and_the_container_learns_how_long_they_may_be() {
    rig(LIMITS, |_| {
        echo_server("out", "198.51.100.20:7000");
        echo_server("out", "[2001:db8:9::20]:7000");
        for (own, to) in [("10.42.0.2:0", "198.51.100.20:7000"), ("[fd00:42::2]:0", "[2001:db8:9::20]:7000")] {
            for length in [1472, 1473, 9000, 60_000] {
                let text = "x".repeat(length);
                let answer = ask(&socket("c1", own), to, &text).unwrap();
                assert!(answer.ends_with(&format!("|{text}")), "{length}");
            }
        }
        assert_eq!(
            complaint_about("c2", "198.51.100.20:7000", &[1; 3000]),
            Some((3, 4, 1500, Some("198.51.100.20".to_owned())))
        );
        assert_eq!(
            complaint_about("c2", "[2001:db8:9::20]:7000", &[1; 3000]),
            Some((2, 0, 1500, Some("2001:db8:9::20".to_owned())))
        );
    });
}

#[test]
fn what_the_host_got_the_container_gets() {
    rig(LIMITS, |_| {
        let by = |text: &str| Some(text.to_owned());
        for (to, expected) in [
            ("198.51.100.20:9", (3, 3, 0, by("198.51.100.20"))),
            ("[2001:db8:9::20]:9", (1, 4, 0, by("2001:db8:9::20"))),
            ("198.51.100.99:9", (3, 1, 0, by("198.51.100.99"))),
            ("203.0.113.9:9", (3, 1, 0, by("198.51.100.20"))),
        ] {
            if to.starts_with("203") {
                shell_in("out", "ip route replace unreachable 203.0.113.0/24");
            }
            // Datagrams, and routers' words about them, may be lost on a busy machine.
            let told = (0..3).find_map(|_| complaint_about("c1", to, b"hello"));
            assert_eq!(told, Some(expected), "{to}");
        }
        shell_in("host", "ip route del default");
        assert_eq!(complaint_about("c1", "192.0.2.9:9", b"x"), Some((3, 0, 0, by("192.0.2.9"))));
        // As an ordinary program sees it.
        let client = socket("c1", "10.42.0.2:0");
        client.connect("198.51.100.20:9").unwrap();
        client.send(b"x").unwrap();
        assert_eq!(client.recv(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_published_port_shows_the_client_as_it_is() {
    rig(LIMITS, |rig| {
        echo_server("c1", "10.42.0.2:7000");
        echo_server("c1", "[fd00:42::2]:7000");
        let targets = ["10.42.0.2:7000", "[fd00:42::2]:7000"];
        let v4 = rig.publish(1, "0.0.0.0:8080", &targets);
        rig.publish(2, "[::]:8080", &targets);
        for (namespace, own, to, seen) in [
            ("out", "198.51.100.20:4000", "198.51.100.10:8080", "198.51.100.20:4000|x"),
            ("out", "198.51.100.21:4000", "198.51.100.10:8080", "198.51.100.21:4000|x"),
            ("out", "[2001:db8:9::20]:4000", "[2001:db8:9::10]:8080", "[2001:db8:9::20]:4000|x"),
            ("host", "198.51.100.10:4001", "198.51.100.10:8080", "198.51.100.10:4001|x"),
        ] {
            let client = socket(namespace, own);
            for _ in 0..3 {
                assert_eq!(
                    ask(&client, to, "x").map_err(|error| format!("{own} to {to}: {error}")),
                    Ok(seen.to_owned())
                );
            }
        }
        for (own, to, gateway) in
            [("127.0.0.1:0", "127.0.0.1:8080", "10.42.0.1:"), ("[::1]:0", "[::1]:8080", "[fd00:42::1]:")]
        {
            let seen = ask(&socket("host", own), to, "x").unwrap();
            assert!(seen.starts_with(gateway), "{seen}");
        }
        rig.datagrams.hide(v4).unwrap();
        within("host", || UdpSocket::bind("0.0.0.0:8080")).unwrap();
    });
}

#[test]
fn a_client_of_another_family_or_with_an_inside_address_appears_as_the_gateway() {
    rig(LIMITS, |rig| {
        echo_server("c1", "10.42.0.2:7000");
        rig.publish(1, "0.0.0.0:8080", &["10.42.0.2:7000"]);
        rig.publish(2, "[::]:8080", &["10.42.0.2:7000"]);
        shell_in("out", "ip addr add 10.42.0.77/32 dev eth0");
        shell_in("host", "ip route add 10.42.0.77 dev eth0");
        for (own, to) in [("10.42.0.77:4000", "198.51.100.10:8080"), ("[2001:db8:9::20]:4000", "[2001:db8:9::10]:8080")]
        {
            let seen = ask(&socket("out", own), to, "x").unwrap();
            assert!(seen.starts_with("10.42.0.1:"), "{seen}");
        }
    });
}

#[test]
fn name_servers_are_the_hosts_as_they_are_now_and_silent_ones_are_passed_over() {
    rig(LIMITS, |rig| {
        // Bound, and silent.
        let silent = socket("out", "198.51.100.21:53");
        let seen = |port: u16| {
            let client = socket("c1", &format!("10.42.0.2:{port}"));
            client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            ask(&client, "169.254.1.1:53", "q")
        };
        assert_eq!(complaint_about("c1", "169.254.1.1:53", b"q").map(|(kind, code, ..)| (kind, code)), Some((3, 3)));
        echo_server("out", "198.51.100.20:53");
        assert!(seen(4000).unwrap().ends_with("|q"));
        std::fs::write(&rig.resolv_conf, "nameserver 198.51.100.21\nnameserver 198.51.100.20\n").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let _ = seen(4001);
        std::thread::sleep(Duration::from_millis(50));
        assert!(seen(4002).is_err());
        assert!(silent.recv(&mut [0; 9]).is_ok(), "it was asked");
        // The client asks again by the same socket, as resolvers do.
        let client = socket("c1", "10.42.0.2:4003");
        client.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let answered = (0..6).filter(|_| ask(&client, "169.254.1.1:53", "q").is_ok()).count();
        assert!((1..6).contains(&answered), "{answered}");
        assert!(seen(4004).is_ok(), "the other one is first now");
    });
}

#[test]
fn the_host_is_reached_as_far_as_the_settings_say() {
    rig(LIMITS, |rig| {
        echo_server("host", "198.51.100.10:7000");
        echo_server("host", "127.0.0.1:7001");
        let can = |to: &str| {
            let client = socket("c1", "10.42.0.2:0");
            client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            ask(&client, to, "x").is_ok()
        };
        assert!(can("169.254.1.2:7000") && !can("169.254.1.2:7001"));
        assert!(can("198.51.100.10:7000"));
        let loopback = vec!["169.254.1.4".parse().unwrap()];
        rig.settings("10.42.0.2", RelaySettings { loopback, ..RelaySettings::default() });
        assert!(can("169.254.1.4:7001") && can("169.254.1.2:7000"));
        rig.settings("10.42.0.2", RelaySettings { no_host: true, ..RelaySettings::default() });
        assert!(!can("169.254.1.2:7000") && !can("198.51.100.10:7000") && !can("169.254.1.4:7001"));
        assert_eq!(
            complaint_about("c1", "198.51.100.10:7000", b"x").map(|(kind, code, ..)| (kind, code)),
            Some((3, 13))
        );
        rig.settings("10.42.0.2", RelaySettings { no_udp: true, ..RelaySettings::default() });
        echo_server("out", "198.51.100.20:7000");
        assert!(!can("198.51.100.20:7000"));
        let outbound = vec!["198.51.100.11".parse().unwrap()];
        shell_in("host", "ip addr add 198.51.100.11/24 dev eth0");
        rig.settings("10.42.0.2", RelaySettings { outbound, ..RelaySettings::default() });
        assert!(ask(&socket("c1", "10.42.0.2:0"), "198.51.100.20:7000", "x").unwrap().starts_with("198.51.100.11:"));
    });
}

/// Pings by a ping socket of a container; what came back.
fn ping(namespace: &str, to: &str, hops: u8, data: &[u8]) -> Result<Vec<u8>, Option<Complaint>> {
    let to: IpAddr = to.parse().unwrap();
    let (socket, _) = within(namespace, || trains::ping(to)).unwrap();
    trains::set_hop_limit(&socket, to.is_ipv4(), hops).unwrap();
    let message = [&[if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 7], data].concat();
    rustix::net::send(&socket, &message, rustix::net::SendFlags::empty()).unwrap();
    let mut batch = Batch::default();
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        if batch.receive(&socket).is_ok() {
            return Ok(batch.content(0).to_vec());
        }
        if let Ok(complaint) = trains::complaint(&socket) {
            return Err(Some(complaint));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(None)
}

#[test]
fn echo_is_answered_by_whom_it_was_meant_for() {
    rig(LIMITS, |rig| {
        assert!(matches!(ping("c1", "198.51.100.20", 64, b"x"), Err(None)), "the host forbids it");
        shell_in("host", "sysctl -qw net.ipv4.ping_group_range='0 0'");
        for to in ["198.51.100.20", "2001:db8:9::20", "169.254.1.2", "198.51.100.10"] {
            for length in [0, 56, 1472, 20_000] {
                let data: Vec<u8> = (0..length).map(|n| n as u8).collect();
                let reply = ping("c1", to, 64, &data).unwrap_or_else(|said| panic!("{to} {length}: {said:?}"));
                assert_eq!(
                    (reply[0], &reply[6..8], &reply[8..]),
                    (if to.contains(':') { 129 } else { 0 }, &[0, 7][..], &data[..])
                );
            }
        }
        // One hop is the relay's namespace's, the next one is `out`, which is not there yet.
        let Err(Some(said)) = ping("c1", "203.0.113.9", 2, b"x") else { panic!("no complaint") };
        assert_eq!((said.kind, said.code, said.by), (11, 0, Some("198.51.100.20".parse().unwrap())));
        let Err(Some(said)) = ping("c1", "198.51.100.99", 64, b"x") else { panic!("no complaint") };
        assert_eq!((said.kind, said.code), (3, 1));
        rig.settings("10.42.0.2", RelaySettings { no_icmp: true, ..RelaySettings::default() });
        let Err(Some(said)) = ping("c1", "198.51.100.20", 64, b"x") else { panic!("no complaint") };
        assert_eq!((said.kind, said.code), (3, 13));
    });
}

#[test]
fn trains_of_datagrams_arrive_in_order() {
    rig(LIMITS, |_| {
        let server = socket("out", "198.51.100.20:7000");
        let client = socket("c1", "10.42.0.2:4000");
        client.connect("198.51.100.20:7000").unwrap();
        let mut room = vec![0; 65_536];
        for round in 0..20_u16 {
            // Less than a socket's buffer holds.
            let sizes: Vec<usize> =
                (0..60).map(|n: usize| if n.is_multiple_of(13) { 0 } else { 1400 - n % 3 * 500 }).collect();
            for (n, size) in sizes.iter().enumerate() {
                client.send(&[&[round as u8, n as u8][..], &vec![0; *size]].concat()).unwrap();
            }
            let mut from = None;
            for (n, size) in sizes.iter().enumerate() {
                let (length, address) = server.recv_from(&mut room).unwrap();
                from = Some(address);
                assert_eq!((length, room[0], room[1]), (size + 2, round as u8, n as u8));
            }
            for n in 0..60_u8 {
                server.send_to(&[n; 1200], from.unwrap()).unwrap();
            }
            for n in 0..60_u8 {
                assert_eq!((client.recv(&mut room).unwrap(), room[0]), (1200, n));
            }
        }
        // As the container's own segmentation makes them.
        let (c1, mut batch) = (within("c1", || trains::to_outside(true)).unwrap(), Batch::default());
        rustix::net::connect(&c1, &"198.51.100.20:7000".parse::<SocketAddr>().unwrap()).unwrap();
        let filler = within("c1", || trains::to_outside(true)).unwrap();
        let sink = within("c1", || trains::to_outside(true)).unwrap();
        rustix::net::bind(&sink, &"127.0.0.1:9999".parse::<SocketAddr>().unwrap()).unwrap();
        rustix::net::connect(&filler, &"127.0.0.1:9999".parse::<SocketAddr>().unwrap()).unwrap();
        for n in 0..40_u8 {
            rustix::net::send(&filler, &[n; 1300], rustix::net::SendFlags::empty()).unwrap();
        }
        batch.receive(&sink).unwrap();
        let count = batch.arrivals().len();
        batch.pass_on(0..count, &c1, Envelope::default(), 1472).unwrap();
        for n in 0..40_u8 {
            assert_eq!((server.recv(&mut room).unwrap(), room[0]), (1300, n));
        }
    });
}

#[test]
fn bounds_hold_for_each_container_and_in_all() {
    let limits = Limits { all: 48, per_source: 32, new_per_second: 4000 };
    rig(limits, |rig| {
        echo_server("out", "0.0.0.0:7000");
        let keep = socket("c2", "10.42.0.3:4000");
        ask(&keep, "198.51.100.20:7000", "x").unwrap();
        for port in 0..200 {
            ask(&socket("c1", &format!("10.42.0.2:{}", 5000 + port)), "198.51.100.20:7000", "x").unwrap();
        }
        assert_eq!(rig.datagrams.count().unwrap(), 33);
        for port in 0..200 {
            ask(&socket("c2", &format!("10.42.0.3:{}", 5000 + port)), "198.51.100.20:7000", "x").unwrap();
        }
        assert!(rig.datagrams.count().unwrap() <= 48);
        rig.datagrams.forget(vec!["10.42.0.2".parse().unwrap(), "10.42.0.3".parse().unwrap()]).unwrap();
        assert_eq!(rig.datagrams.count().unwrap(), 0);
    });
}

#[test]
fn a_flood_from_one_container_leaves_others_served() {
    rig(LIMITS, |rig| {
        shell_in("host", "sysctl -qw net.ipv4.ping_group_range='0 0'");
        echo_server("out", "198.51.100.20:7000");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // One thread uses one flow, the other a new one for each datagram.
            for way in 0..2 {
                let over = &over;
                scope.spawn(move || {
                    let flooder = socket("c2", &format!("10.42.0.3:{}", 5000 + way));
                    let mut sent = 0_u32;
                    while !over.load(Ordering::Relaxed) {
                        let port = if way == 0 { 9000 } else { 10_000 + sent % 50_000 };
                        let _ = flooder.send_to(&[0; 100], ("198.51.100.20", port as u16));
                        sent += 1;
                    }
                    // Far fewer than where nobody else works.
                    assert!(sent > 1000, "{sent}");
                });
            }
            std::thread::sleep(Duration::from_millis(200));
            let mut served = 0;
            for n in 0..100 {
                // A new flow each; again when one is lost.
                let client = socket("c1", &format!("10.42.0.2:{}", 4000 + n));
                client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                served += u32::from((0..4).any(|_| ask(&client, "198.51.100.20:7000", "x").is_ok()));
            }
            let pinged = (0..20).filter(|_| ping("c1", "198.51.100.20", 64, b"x").is_ok()).count();
            over.store(true, Ordering::Relaxed);
            assert!(served >= 95 && pinged >= 18, "{served} {pinged}");
        });
        assert!(rig.datagrams.count().unwrap() <= LIMITS.per_source + 100 + 20);
        let begun = Instant::now();
        ask(&socket("c2", "10.42.0.3:0"), "198.51.100.20:7000", "x").unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "the flooder itself is served again soon: {took:?}");
    });
}

/// Numbers that look random and are the same every time (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn a_hundred_thousand_mutated_packets_do_no_harm() {
    rig(LIMITS, |rig| {
        shell_in("host", "sysctl -qw net.ipv4.ping_group_range='0 0'");
        echo_server("out", "198.51.100.20:7000");
        // A container's end of a link, raw.
        let raw = within("rns", || Tun::create(&"raw0".parse().unwrap())).unwrap();
        shell_in(
            "rns",
            "ip addr add 10.43.0.1/24 dev raw0; ip addr add fd00:43::1/64 dev raw0 nodad; ip link set raw0 up",
        );
        let mut seeds = seeds();
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        let client = socket("c1", "10.42.0.2:4000");
        for n in 0..100_000 {
            let count = seeds.len();
            let mut packet = seeds[chance.next() as usize % count].clone();
            for _ in 0..chance.next() % 4 {
                let at = chance.next() as usize % packet.len();
                packet[at] = chance.next() as u8;
            }
            if chance.next().is_multiple_of(8) {
                packet.truncate(chance.next() as usize % packet.len() + 1);
            }
            // Half of them with a sum that is right, so that they get further; and straight to the thread, as if the
            // kernel had let them through.
            if chance.next().is_multiple_of(2) && packet.len() >= 20 && packet[0] >> 4 == 4 {
                fix_sum(&mut packet);
            }
            let _ = raw.write(&packet);
            if n % 16 == 0 {
                rig.datagrams.packet(&packet);
            }
            if n % 10_000 == 0 {
                ask(&client, "198.51.100.20:7000", "x").unwrap();
            }
            if seeds.len() < 64 {
                seeds.push(packet);
            }
        }
        ask(&client, "198.51.100.20:7000", "x").unwrap();
        assert!(ping("c1", "198.51.100.20", 64, b"x").is_ok());
        assert!(rig.datagrams.count().unwrap() <= LIMITS.all);
    });
}

fn fix_sum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let words = packet[..20].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// UDP, echo requests and more, from 10.43.0.2 and fd00:43::2.
fn seeds() -> Vec<Vec<u8>> {
    let v4 = |protocol: u8, to: [u8; 4], payload: &[u8]| {
        let length = (20 + payload.len()) as u16;
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 43, 0, 2];
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet.extend(to);
        fix_sum_of(&mut packet);
        packet.extend(payload);
        packet
    };
    let v6 = |next: u8, payload: &[u8]| {
        let from: std::net::Ipv6Addr = "fd00:43::2".parse().unwrap();
        let to: std::net::Ipv6Addr = "2001:db8:9::20".parse().unwrap();
        let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
        packet.extend(from.octets());
        packet.extend(to.octets());
        packet.extend(payload);
        packet
    };
    // Without a checksum, which is right for IPv4.
    let udp = [0x13, 0x88, 0x1b, 0x58, 0, 12, 0, 0, 1, 2, 3, 4];
    let echo = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
    vec![
        v4(17, [198, 51, 100, 20], &udp),
        v4(17, [169, 254, 1, 1], &udp),
        v4(17, [127, 0, 0, 1], &udp),
        v4(1, [198, 51, 100, 20], &echo),
        v4(6, [198, 51, 100, 20], &[0; 20]),
        v6(17, &udp),
        v6(58, &[128, 0, 0, 0, 0, 1, 0, 1]),
        v6(0, &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]),
        v6(44, &[17, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4]),
    ]
}

fn fix_sum_of(header: &mut [u8]) {
    fix_sum(header);
}
