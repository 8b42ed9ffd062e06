//! TCP through the relay's own process, between namespaces of the test's own.
//!
//! ```text
//!   c1 10.42.0.2 ─┐                       ┌──────────────┐
//!   c2 10.42.0.3 ─┴ br0 10.42.0.1 [rns] ──┤ the relay    ├── [host] 198.51.100.10 ── eth0 ── [out] 198.51.100.20
//!                                         └──────────────┘
//! ```
//!
//! This program is also the relay, and the crowds at both ends of many connections: it starts itself again as those.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use engine::relay_client::{Answer, Order, RELAY_MTU, RelaySettings, Relayed, Request};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use linux::{NetNs, Packets, mounts};
use model::{ContainerId, PortMapping, Protocol};
use rustix::event::epoll;
use rustix::net::sockopt;

const SETUP: &str = "
    set -e
    for ns in host out rns c1 c2; do
        ip netns add $ns; ip netns exec $ns sysctl -qw net.ipv6.conf.default.accept_dad=0; ip -n $ns link set lo up
    done
    ip -n host link add eth0 type veth peer name eth0 netns out
    ip -n host addr add 198.51.100.10/24 dev eth0; ip -n host addr add 2001:db8:9::10/64 dev eth0 nodad
    ip -n out addr add 198.51.100.20/24 dev eth0; ip -n out addr add 2001:db8:9::20/64 dev eth0 nodad
    ip -n host link set eth0 up; ip -n out link set eth0 up
    ip -n host route add default via 198.51.100.20; ip -n host route add default via 2001:db8:9::20
    ip -n host route add unreachable 198.51.100.99; ip -n host route add unreachable 2001:db8:9::99
    ip netns exec out sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
    ip -n out route add blackhole 203.0.113.0/24
    ip -n rns link add br0 type bridge mcast_snooping 0
    ip -n rns addr add 10.42.0.1/16 dev br0; ip -n rns addr add fd00:42::1/64 dev br0 nodad
    ip -n rns link set br0 mtu 65520 up
    for n in 1 2; do
        ip -n rns link add v$n type veth peer name eth0 netns c$n
        ip -n rns link set v$n master br0 mtu 65520 up
        ip -n c$n addr add 10.42.0.$((n + 1))/16 dev eth0; ip -n c$n addr add fd00:42::$((n + 1))/64 dev eth0 nodad
        ip -n c$n link set eth0 mtu 65520 up
        ip -n c$n route add default via 10.42.0.1; ip -n c$n route add default via fd00:42::1
    done
";

/// The neighbour, as containers reach it, in both families.
const OUT: [&str; 2] = ["198.51.100.20", "[2001:db8:9::20]"];
/// The host, likewise.
const HOST: [&str; 2] = ["198.51.100.10", "[2001:db8:9::10]"];
/// The container `c1`.
const C1: [&str; 2] = ["10.42.0.2", "[fd00:42::2]"];

/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(20);

macro_rules! sentences {
    ($($name:ident),* $(,)?) => {
        vec![$(trial(stringify!($name), $name)),*]
    };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(order) if order.starts_with('{') => return ExitCode::from(relay::relay_main() as u8),
        Some("--crowd-of-servers") => return crowd_of_servers(&arguments[2..]),
        Some("--crowd-of-clients") => return crowd_of_clients(&arguments[2..]),
        _ => {}
    }
    let trials = sentences![
        what_is_refused_outside_is_refused_at_once,
        what_is_unreachable_stays_unreachable_and_what_is_silent_stays_silent,
        either_side_may_end_its_way_and_still_be_answered,
        a_reset_of_either_side_is_a_reset_for_the_other,
        a_slow_reader_holds_up_the_sender_and_nothing_is_kept_meanwhile,
        megabytes_arrive_as_they_were_sent_both_ways_at_once,
        small_messages_go_at_once,
        the_last_octets_and_the_end_arrive_whole,
        what_the_relay_passes_on_is_not_tracked,
        a_published_port_shows_the_client_as_it_is,
        a_client_on_the_hosts_loopback_appears_as_the_gateway,
        a_published_port_with_nobody_behind_it_resets,
        a_published_port_that_is_taken_back_is_free,
        a_container_that_is_removed_has_no_connections_left,
        many_idle_connections_all_echo_and_take_little,
        more_connections_than_fit_are_not_begun_and_those_there_are_go_on,
        a_relay_that_was_killed_is_started_again_and_serves_as_before,
        nothing_is_left_of_connections_that_ended,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &'static str, body: fn(&mut Rig)) -> Trial {
    Trial::ignorable_test(name, move || {
        if !linux::process::is_root() {
            return Ok(Completion::ignored_with("needs root"));
        }
        std::thread::scope(|scope| scope.spawn(|| rig(body)).join()).map_err(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            Failed::from(
                said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default(),
            )
        })?;
        Ok(Completion::Completed)
    })
}

/// Namespaces, and a relay at work between them.
struct Rig {
    relay: Child,
    talk: Packets,
    /// Descriptors that the relay may have; `None` for as many as there are.
    descriptors: Option<u64>,
}

/// Runs `test` with a rig in mount and network namespaces of its own.
fn rig(test: fn(&mut Rig)) {
    mounts::enter_private_namespace().unwrap();
    mounts::tmpfs(Path::new("/run"), None, 0o755).unwrap();
    shell(SETUP);
    let mut rig = Rig::start(None);
    test(&mut rig);
    assert!(rig.relay.try_wait().unwrap().is_none(), "the relay is alive: {}", rig.log());
}

impl Rig {
    fn start(descriptors: Option<u64>) -> Self {
        let (talk, theirs) = Packets::pair().unwrap();
        let run = |name: &str| Path::new("/run").join(name);
        let order = Order {
            namespace: run("netns/rns"),
            socket: run("relay.sock"),
            pid: run("relay.pid"),
            log: run("relay.log"),
            mtu: RELAY_MTU,
        };
        let order = serde_json::to_string(&order).unwrap();
        let relay = within("host", || {
            let limit = descriptors.map_or_else(String::new, |count| format!("{count}:{count}"));
            let mut command = match descriptors {
                Some(_) => Command::new("prlimit"),
                None => Command::new(ourselves()),
            };
            if descriptors.is_some() {
                command.arg(format!("--nofile={limit}")).arg(ourselves());
            }
            command.arg(order).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn().unwrap()
        });
        let rig = Self { relay, talk, descriptors };
        rig.ask(&Request::Hello);
        rig
    }

    /// Kills the relay, and starts another one.
    fn restart(&mut self) {
        self.end();
        // What it was told it does not know any more.
        let descriptors = self.descriptors;
        let _ = std::mem::replace(self, Self::start(descriptors));
    }

    /// Starts the relay again with other limits.
    fn limit(&mut self, descriptors: u64) {
        self.descriptors = Some(descriptors);
        self.restart();
    }

    fn end(&mut self) {
        self.relay.kill().unwrap();
        self.relay.wait().unwrap();
    }

    fn ask(&self, request: &Request) {
        self.talk.send(&serde_json::to_vec(request).unwrap(), None).unwrap();
        let (answer, _) = self.talk.receive().unwrap().unwrap_or_else(|| panic!("it has ended: {}", self.log()));
        assert_eq!(serde_json::from_slice::<Answer>(&answer).unwrap(), Answer::Done);
    }

    /// Publishes these ports of the host as ports of `c1`.
    fn publish(&self, ports: &[(u16, u16)]) {
        let mapping = |(host_port, container_port): &(u16, u16)| PortMapping {
            host: "".parse().unwrap(),
            host_port: *host_port,
            container_port: *container_port,
            range: 1,
            protocol: Protocol::Tcp,
        };
        let ips = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap()).to_vec();
        let relayed = Relayed {
            addresses: ips(["10.42.0.2", "fd00:42::2"]),
            gateways: ips(["10.42.0.1", "fd00:42::1"]),
            targets: ips(["10.42.0.2", "fd00:42::2"]),
            ports: ports.iter().map(mapping).collect(),
            settings: RelaySettings::default(),
        };
        self.ask(&Request::Put { container: container(), relayed: Box::new(relayed) });
    }

    fn log(&self) -> String {
        std::fs::read_to_string("/run/relay.log").unwrap_or_default()
    }

    /// Kilobytes of memory that are the relay's own.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.relay.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_matches([' ', '\t', 'k', 'B']).parse().unwrap()
    }

    fn descriptors(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.relay.id())).unwrap();
        let count = |task: io::Result<std::fs::DirEntry>| Some(task.ok()?.path().join("fd").read_dir().ok()?.count());
        // Threads may have tables of their own.
        tasks.filter_map(count).max().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.relay.kill();
        let _ = self.relay.wait();
    }
}

fn container() -> ContainerId {
    "c1".repeat(32).parse().unwrap()
}

/// This program; its path stays what it is though /run changes.
fn ourselves() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::current_exe().unwrap()).clone()
}

fn shell(script: &str) {
    let status = Command::new("sh").arg("-c").arg(script).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{script}");
}

fn within<T>(namespace: &str, f: impl FnOnce() -> T) -> T {
    NetNs::open(Path::new(&format!("/run/netns/{namespace}"))).unwrap().within(f).unwrap()
}

fn listen(namespace: &str, ip: &str, port: u16) -> TcpListener {
    within(namespace, || TcpListener::bind(format!("{ip}:{port}"))).unwrap()
}

fn connect(namespace: &str, to: &str) -> io::Result<TcpStream> {
    connect_within(namespace, to, PATIENCE)
}

fn connect_within(namespace: &str, to: &str, time: Duration) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let stream = within(namespace, || TcpStream::connect_timeout(&to, time))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = accept_from(listener);
    stream
}

fn accept_from(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    sockopt::set_socket_timeout(listener, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    let (stream, from) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    (stream, from)
}

/// Connections from `c1` to the outside and from there to `c1`, in both families: who began it, and the other end.
fn each_sort(rig: &Rig) -> Vec<(String, TcpStream, TcpStream)> {
    rig.publish(&[(8080, 7000)]);
    let mut pairs = Vec::new();
    for (family, name) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let outside = listen("out", OUT[family], 7000);
        let client = connect("c1", &format!("{}:7000", OUT[family])).unwrap();
        pairs.push((format!("out, {name}"), client, accept(&outside)));
        let inside = listen("c1", C1[family], 7000);
        let client = connect("out", &format!("{}:8080", HOST[family])).unwrap();
        pairs.push((format!("published, {name}"), client, accept(&inside)));
    }
    pairs
}

/// The middle one of the times that `what` takes.
fn median(mut what: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..31)
        .map(|_| {
            let begun = Instant::now();
            what();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn what_is_refused_outside_is_refused_at_once(_: &mut Rig) {
    for to in OUT.iter().chain(&HOST).map(|ip| format!("{ip}:9")) {
        let refused = |namespace: &str| {
            let error = connect(namespace, &to).expect_err("nobody listens there");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{to} from {namespace}");
        };
        let directly = median(|| refused("host"));
        let relayed = median(|| refused("c1"));
        // The issue's words: "within 5 ms of the host's answer".
        assert!(relayed < directly + Duration::from_millis(5), "{to}: {relayed:?}, directly {directly:?}");
    }
}

fn what_is_unreachable_stays_unreachable_and_what_is_silent_stays_silent(_: &mut Rig) {
    let error = |to: &str| connect_within("c1", to, Duration::from_millis(700)).map(drop).unwrap_err();
    for to in ["198.51.100.99:9", "[2001:db8:9::99]:9"] {
        assert_eq!(error(to).raw_os_error(), Some(libc::EHOSTUNREACH), "{to}");
    }
    assert_eq!(error("203.0.113.9:9").kind(), io::ErrorKind::TimedOut);
    shell("ip -n host route del default; ip -n host -6 route del default");
    assert_eq!(error("192.0.2.9:9").raw_os_error(), Some(libc::ENETUNREACH));
    assert_eq!(error("[2001:db8:77::9]:9").raw_os_error(), Some(libc::ENETUNREACH));
}

fn either_side_may_end_its_way_and_still_be_answered(rig: &mut Rig) {
    for client_first in [true, false] {
        for (sort, client, server) in each_sort(rig) {
            let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
            first.write_all(b"the question").unwrap();
            first.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            second.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "the question", "{sort}, client first: {client_first}");
            second.write_all(&[b'x'; 300_000]).unwrap();
            drop(second);
            let mut answer = Vec::new();
            first.read_to_end(&mut answer).unwrap();
            assert!(answer == [b'x'; 300_000], "{sort}, client first: {client_first}: {}", answer.len());
        }
    }
}

/// Closes with a reset.
fn slam(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

fn a_reset_of_either_side_is_a_reset_for_the_other(rig: &mut Rig) {
    for client_first in [true, false] {
        for (sort, mut client, mut server) in each_sort(rig) {
            // Both know each other.
            client.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
            let (first, mut second) = if client_first { (client, server) } else { (server, client) };
            slam(first);
            let error = second.read(&mut [0; 9]).expect_err("a reset");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{sort}, client first: {client_first}");
        }
    }
}

/// Octets that look random and are the same for the same seed (xorshift).
struct Stream(u64);

impl Stream {
    fn fill(&mut self, room: &mut [u8]) {
        for word in room.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

/// FNV-1a of 64 bits.
fn hash(mut so_far: u64, octets: &[u8]) -> u64 {
    for octet in octets {
        so_far = (so_far ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3);
    }
    so_far
}

const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;

/// Sends so many octets and ends its way; their hash.
fn send(mut to: &TcpStream, seed: u64, mut length: usize) -> u64 {
    let (mut stream, mut room, mut sum) = (Stream(seed), vec![0; 100_000], EMPTY);
    let mut size = 1;
    while length > 0 {
        // Of all sizes.
        size = (size * 7 + 13) % room.len() / 8 * 8 + 8;
        let part = &mut room[..size.min(length)];
        stream.fill(part);
        sum = hash(sum, part);
        to.write_all(part).unwrap();
        length -= part.len();
    }
    to.shutdown(Shutdown::Write).unwrap();
    sum
}

/// What comes until the end: its hash and length.
fn receive(mut from: &TcpStream) -> (u64, usize) {
    let (mut room, mut sum, mut length) = (vec![0; 256 << 10], EMPTY, 0);
    loop {
        match from.read(&mut room).unwrap() {
            0 => return (sum, length),
            got => {
                sum = hash(sum, &room[..got]);
                length += got;
            }
        }
    }
}

fn megabytes_arrive_as_they_were_sent_both_ways_at_once(rig: &mut Rig) {
    const LENGTH: usize = 24_000_000;
    let pairs = each_sort(rig);
    std::thread::scope(|scope| {
        for (number, (sort, client, server)) in pairs.iter().enumerate() {
            for (way, from, to) in [(0, client, server), (1, server, client)] {
                let sent = scope.spawn(move || send(from, (number * 2 + way + 1) as u64, LENGTH));
                scope.spawn(move || {
                    let (sum, length) = receive(to);
                    assert_eq!((sum, length), (sent.join().unwrap(), LENGTH), "{sort}, way {way}");
                });
            }
        }
    });
}

fn a_slow_reader_holds_up_the_sender_and_nothing_is_kept_meanwhile(rig: &mut Rig) {
    let before = rig.memory();
    for (sort, client, server) in each_sort(rig) {
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let (mut stream, mut room, mut sent, mut sum) = (Stream(7), vec![0; 64 << 10], 0, EMPTY);
        let left = loop {
            stream.fill(&mut room);
            match (&client).write(&room) {
                Ok(taken) if taken == room.len() => (sent, sum) = (sent + taken, hash(sum, &room)),
                Ok(taken) => {
                    (sent, sum) = (sent + taken, hash(sum, &room[..taken]));
                    break room.split_off(taken);
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{sort}");
                    break room;
                }
            }
            assert!(sent < 64 << 20, "{sort}: nobody reads, and all of it is taken");
        };
        assert!(rig.memory() < before + 8_000, "{sort}: {} kB, {before} before", rig.memory());
        // Nothing of it is lost, and it goes on.
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&server));
            (&client).write_all(&left).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(receiver.join().unwrap(), (hash(sum, &left), sent + left.len()), "{sort}");
        });
    }
}

fn small_messages_go_at_once(rig: &mut Rig) {
    for (sort, mut client, mut server) in each_sort(rig) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let begun = Instant::now();
        for n in 0..500_u32 {
            let mut heard = [0; 4];
            // In two parts: held back, the second would wait for an answer to the first.
            client.write_all(&n.to_be_bytes()[..2]).unwrap();
            client.write_all(&n.to_be_bytes()[2..]).unwrap();
            server.read_exact(&mut heard).unwrap();
            assert_eq!(u32::from_be_bytes(heard), n);
            server.write_all(&heard).unwrap();
            client.read_exact(&mut heard).unwrap();
        }
        // 40 ms each where something waits for an acknowledgement.
        assert!(begun.elapsed() < Duration::from_secs(5), "{sort}: {:?}", begun.elapsed());
    }
}

/// An urgent octet ends a read as the end does, and there is more behind.
fn the_last_octets_and_the_end_arrive_whole(rig: &mut Rig) {
    for _ in 0..20 {
        for (sort, client, server) in each_sort(rig) {
            for (mut from, mut to) in [(&server, &client), (&client, &server)] {
                from.write_all(b"the last ").unwrap();
                rustix::net::send(from, b"u", rustix::net::SendFlags::OOB).unwrap();
                from.write_all(b" octets").unwrap();
                from.shutdown(Shutdown::Write).unwrap();
                let mut heard = Vec::new();
                to.read_to_end(&mut heard).unwrap();
                assert_eq!(heard, b"the last u octets", "{sort}");
            }
        }
    }
}

/// Else the table of connections, which is for all, would have one for each of the relay's.
fn what_the_relay_passes_on_is_not_tracked(rig: &mut Rig) {
    shell(
        "ip netns exec rns nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state new counter'",
    );
    for (_, mut client, mut server) in each_sort(rig) {
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        server.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let known = within("rns", || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap());
        assert_eq!(known.lines().filter(|line| line.contains(" tcp ")).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

fn a_published_port_shows_the_client_as_it_is(rig: &mut Rig) {
    rig.publish(&[(8080, 7000), (8081, 7000)]);
    for (family, local) in [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])].into_iter().enumerate() {
        let server = listen("c1", C1[family], 7000);
        // The same client at two ports of the host is the same client for one port of the container.
        for port in [8080, 8081] {
            for namespace in ["out", "host"] {
                let client = connect(namespace, &format!("{}:{port}", HOST[family])).unwrap();
                let (_stream, seen) = accept_from(&server);
                assert_ne!(client.local_addr().unwrap().ip(), local);
                assert_eq!(seen, client.local_addr().unwrap(), "{namespace} at {port}");
            }
        }
    }
}

fn a_client_on_the_hosts_loopback_appears_as_the_gateway(rig: &mut Rig) {
    rig.publish(&[(8080, 7000)]);
    for (family, (to, gateway)) in
        [("127.0.0.1:8080", "10.42.0.1"), ("[::1]:8080", "fd00:42::1")].into_iter().enumerate()
    {
        let server = listen("c1", C1[family], 7000);
        let _client = connect("host", to).unwrap();
        let (_stream, seen) = accept_from(&server);
        assert_eq!(seen.ip().to_string(), gateway);
    }
}

fn a_published_port_with_nobody_behind_it_resets(rig: &mut Rig) {
    rig.publish(&[(8080, 7000)]);
    for host in HOST {
        let error = connect("out", &format!("{host}:8080")).and_then(|mut client| client.read(&mut [0]));
        let kind = error.expect_err("nobody listens in the container").kind();
        assert!([io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionRefused].contains(&kind), "{kind}");
    }
}

fn a_published_port_that_is_taken_back_is_free(rig: &mut Rig) {
    rig.publish(&[(8080, 7000)]);
    let server = listen("c1", C1[0], 7000);
    let mut client = connect("out", &format!("{}:8080", HOST[0])).unwrap();
    let _stream = accept(&server);
    rig.publish(&[(8081, 7000)]);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    listen("host", "0.0.0.0", 8080);
    let _client = connect("out", &format!("{}:8081", HOST[0])).unwrap();
    accept(&server);
}

fn a_container_that_is_removed_has_no_connections_left(rig: &mut Rig) {
    let pairs = each_sort(rig);
    rig.ask(&Request::Remove { container: container() });
    for (sort, mut client, mut server) in pairs {
        for end in [&mut client, &mut server] {
            let error = end.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(error, Err(io::ErrorKind::ConnectionReset), "{sort}");
        }
    }
    connect("out", &format!("{}:8080", HOST[0])).expect_err("it is served no more");
}

fn a_relay_that_was_killed_is_started_again_and_serves_as_before(rig: &mut Rig) {
    let pairs = each_sort(rig);
    rig.restart();
    // Outsiders are told by the kernel; the container when it says something.
    for (sort, mut client, mut server) in pairs {
        let end = |stream: &mut TcpStream| {
            (0..100).any(|_| {
                std::thread::sleep(Duration::from_millis(5));
                stream.write_all(b"x").is_err()
            })
        };
        assert!(end(&mut client) && end(&mut server), "{sort}: it is over");
    }
    for (sort, mut client, mut server) in each_sort(rig) {
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap_or_else(|error| panic!("{sort}: {error}"));
    }
}

fn nothing_is_left_of_connections_that_ended(rig: &mut Rig) {
    rig.publish(&[(8080, 7000)]);
    let outside = listen("out", OUT[0], 7000);
    let inside = listen("c1", C1[0], 7000);
    let round = |namespace: &str, to: &str, server: &TcpListener| {
        for n in 0..300 {
            let mut client = connect(namespace, to).unwrap();
            let mut stream = accept(server);
            client.write_all(&[7; 5000]).unwrap();
            stream.read_exact(&mut [0; 5000]).unwrap();
            // Ended by one, by the other, by a reset, or by both.
            match n % 4 {
                0 => {
                    drop(client);
                    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
                }
                1 => {
                    drop(stream);
                    assert_eq!(client.read(&mut [0]).unwrap(), 0);
                }
                2 => slam(client),
                _ => drop((client, stream)),
            }
        }
    };
    let both = || {
        round("c1", "198.51.100.20:7000", &outside);
        round("out", "198.51.100.10:8080", &inside);
    };
    both();
    let settled = |most: usize| {
        let until = Instant::now() + PATIENCE;
        while rig.descriptors() > most && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        rig.descriptors()
    };
    // What ended last takes a moment.
    let before = settled(60);
    both();
    assert!(settled(before) <= before, "{} descriptors, {before} before", rig.descriptors());
}

/// A crowd at one end of many connections, in a namespace.
struct Crowd(Child, BufReader<std::process::ChildStdout>);

impl Crowd {
    fn start(namespace: &str, arguments: &[&str]) -> Self {
        let command = || {
            let mut command = Command::new(ourselves());
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut child = within(namespace, command);
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    /// What it says next.
    fn said(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Has it go on; what it says then.
    fn go_on(&mut self) -> String {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.said()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Echoes at an address, until its standard input ends.
fn crowd_of_servers(arguments: &[String]) -> ExitCode {
    linux::fds::raise_limit().unwrap();
    let listener = TcpListener::bind(&*arguments[0]).unwrap();
    let wait = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let watch = |fd: &dyn AsFdDyn, number: u64| {
        epoll::add(&wait, fd.fd(), epoll::EventData::new_u64(number), epoll::EventFlags::IN).unwrap();
    };
    watch(&listener, 0);
    println!("listening");
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut room = vec![0; 64 << 10];
    loop {
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let count = epoll::wait(&wait, &mut events, None).unwrap();
        for event in &events[..count] {
            match event.data.u64() {
                0 => {
                    let (stream, _) = listener.accept().unwrap();
                    streams.push(Some(stream));
                    watch(streams[streams.len() - 1].as_ref().unwrap(), streams.len() as u64);
                }
                number => {
                    let place = &mut streams[number as usize - 1];
                    let Some(stream) = place else { continue };
                    match stream.read(&mut room) {
                        Ok(length) if length > 0 => stream.write_all(&room[..length]).unwrap(),
                        _ => *place = None,
                    }
                }
            }
        }
    }
}

/// For closures, which have no type parameters.
trait AsFdDyn {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdDyn for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

/// Begins so many connections to an address; says how many there are; at each line of its standard input has all of
/// them echo, and says how many did so rightly.
fn crowd_of_clients(arguments: &[String]) -> ExitCode {
    linux::fds::raise_limit().unwrap();
    let (to, count): (SocketAddr, usize) = (arguments[0].parse().unwrap(), arguments[1].parse().unwrap());
    let time = Duration::from_millis(arguments[2].parse().unwrap());
    let mut failed = 0;
    let mut streams = Vec::new();
    while streams.len() < count && failed < 5 {
        match TcpStream::connect_timeout(&to, time) {
            Ok(stream) => streams.push(stream),
            Err(_) => failed += 1,
        }
    }
    println!("{}", streams.len());
    for (round, _) in (1..).zip(io::stdin().lines()) {
        let octets = |number: usize| {
            let mut octets = [0; 1024];
            Stream((number * 1000 + round) as u64).fill(&mut octets);
            octets
        };
        for (number, stream) in streams.iter_mut().enumerate() {
            // Else it does not echo, and is not counted.
            let _ = stream.write_all(&octets(number));
        }
        let mut right = 0;
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut heard = [0; 1024];
            let _ = stream.set_read_timeout(Some(time));
            let whole = stream.read_exact(&mut heard).is_ok();
            right += usize::from(whole && hash(EMPTY, &heard) == hash(EMPTY, &octets(number)));
        }
        println!("{right}");
    }
    ExitCode::SUCCESS
}

const CLIENT_MS: &str = "10000";

/// 2,000 connections each way; 10,000 with LAB_BIG=1.
fn many_idle_connections_all_echo_and_take_little(rig: &mut Rig) {
    rig.publish(&[(8080, 7000)]);
    let count = if std::env::var_os("LAB_BIG").is_some() { 10_000 } else { 2_000 };
    let mut outside = Crowd::start("out", &["--crowd-of-servers", "198.51.100.20:7000"]);
    let mut inside = Crowd::start("c1", &["--crowd-of-servers", "10.42.0.2:7000"]);
    assert_eq!((outside.said(), inside.said()), ("listening".to_owned(), "listening".to_owned()));
    let before = (rig.memory(), rig.descriptors());
    let text = count.to_string();
    for (namespace, to) in [("c1", "198.51.100.20:7000"), ("out", "198.51.100.10:8080")] {
        let mut clients = Crowd::start(namespace, &["--crowd-of-clients", to, &text, CLIENT_MS]);
        assert_eq!(clients.said(), text, "{}", rig.log());
        let idle = (rig.memory(), rig.descriptors());
        for _ in 0..3 {
            assert_eq!(clients.go_on(), text);
        }
        eprintln!("{count} from {namespace}: {before:?} before, {idle:?} idle, {} kB after echo", rig.memory());
        // The issue asks for 10,000 in 100 MB; this is a twentieth of that.
        assert!(idle.0 < before.0 + count / 2, "{idle:?} kB and descriptors, {before:?} before");
        assert!(rig.memory() < before.0 + count / 2 + 2_000);
    }
}

fn more_connections_than_fit_are_not_begun_and_those_there_are_go_on(rig: &mut Rig) {
    rig.limit(400);
    rig.publish(&[(8080, 7000)]);
    let mut outside = Crowd::start("out", &["--crowd-of-servers", "198.51.100.20:7000"]);
    let mut inside = Crowd::start("c1", &["--crowd-of-servers", "10.42.0.2:7000"]);
    assert_eq!((outside.said(), inside.said()), ("listening".to_owned(), "listening".to_owned()));
    for (namespace, to) in [("c1", "198.51.100.20:7000"), ("out", "198.51.100.10:8080")] {
        let mut clients = Crowd::start(namespace, &["--crowd-of-clients", to, "1000", "300"]);
        let begun: usize = clients.said().parse().unwrap();
        let echoed: usize = clients.go_on().parse().unwrap();
        // A client outside is accepted by the kernel before the relay knows.
        assert!(
            (100..1000).contains(&echoed) && (echoed == begun || namespace == "out"),
            "{namespace}: {echoed} of {begun}"
        );
        // One container that has all of its own leaves another something.
        let other = connect("c2", "198.51.100.20:7000").map(drop);
        assert!(other.is_ok(), "{other:?}");
        drop(clients);
        let until = Instant::now() + PATIENCE;
        while connect_within("c1", "198.51.100.20:7000", Duration::from_millis(300)).is_err() {
            assert!(Instant::now() < until, "there is room again");
        }
    }
}
