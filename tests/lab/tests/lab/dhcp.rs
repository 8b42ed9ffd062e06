//! Containers that have their addresses from the LAN's own DHCP server.

use std::time::{Duration, Instant};

use lab::trial::{Need, Sentence};
use lab::{Background, Lab, LabOptions, Run, sentences};

use crate::sweep::{ON_A_LEASE, Who, options, sweep};
use crate::words::{banner_comes, eventually, get, ip4, load, patient, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[Need::Dnsmasq];
        several_networks_of_one_container_have_a_lease_each,
        the_guide_works_word_for_word_with_dnsmasq,
        two_containers_have_two_leases_and_the_host_keeps_its_address,
        a_container_has_the_same_address_after_a_restart_and_its_lease_ends_when_it_stops,
        an_address_is_kept_through_a_reboot_that_gave_nothing_back,
        on_a_bridge_of_others_an_address_is_leased_too,
        a_pod_on_a_lan_with_a_server_has_one_lease,
        a_running_container_joins_a_lan_with_a_server_and_leaves_it,
        twenty_containers_start_at_once_and_have_twenty_leases,
        where_the_router_says_so_ipv6_addresses_are_lent_and_given_back,
        where_the_router_only_tells_its_prefix_containers_make_their_own_addresses,
        without_being_asked_for_ipv6_is_off_on_a_lan,
    ];
    all.extend(sentences![patient(); &[Need::Dhcpd, Need::Tcpdump];
        ten_second_leases_of_iscs_server_are_renewed_over_a_minute_though_netd_is_killed]);
    all.extend(sentences![options(Who::Root); &[]; sweep_of_a_run_that_asks_for_a_lease]);
    all.extend(sentences![LabOptions::default(); &[Need::Dhcpd];
        what_iscs_server_says_about_the_network_is_in_the_container]);
    all.extend(sentences![LabOptions::default(); &[];
        without_a_server_a_run_fails_in_ten_seconds_and_leaves_nothing,
        a_server_that_refuses_is_named_with_its_reason,
        a_rogue_that_does_not_keep_its_word_is_left_for_the_good_server,
        broken_and_lying_answers_do_no_harm,
        an_address_that_a_neighbour_has_is_declined,
        when_a_renewal_changes_routers_and_servers_the_container_follows,
        a_lease_that_is_taken_back_gives_way_to_another_address,
        an_address_whose_lease_has_ended_is_removed_and_comes_back_with_the_server,
        a_silent_network_keeps_no_other_command_waiting,
        a_connection_without_a_server_leaves_the_container_as_it_was,
    ]);
    all
}

/// The range that servers here lend from.
const LENT: &str = "192.168.99.15";

/// A network on the lab's LAN without a subnet: the guide's.
fn lan(lab: &Lab) {
    load(lab);
    lab.host("podwire network create -d macvlan -o parent=eth0 webnetwork").ok();
}

fn web(lab: &Lab, name: &str) {
    lab.host(&format!("podwire run -dt --name {name} --network webnetwork banner")).ok();
}

/// dnsmasq on the neighbour. Its shortest lease is two minutes.
fn dnsmasq(lab: &Lab) -> Background {
    dnsmasq_on(lab, "eth0", "192.168.99", "--dhcp-option=option:router,192.168.99.1")
}

fn dnsmasq_on(lab: &Lab, link: &str, net: &str, options: &str) -> Background {
    let (leases, log) = (file(lab, "leases"), file(lab, "dnsmasq.log"));
    let mut server = lab.background_outside(&format!(
        "exec dnsmasq -k --port=0 --no-ping -C /dev/null --interface={link} --bind-interfaces --log-dhcp \
         --log-facility=- --dhcp-range={net}.150,{net}.190,255.255.255.0,2m --dhcp-option=option:dns-server,{net}.77 \
         --dhcp-leasefile={leases} --pid-file={log}.pid {options}"
    ));
    // Its sockets are there by then.
    server.until(&format!("DHCP, IP range {net}"));
    server
}

/// ISC's server on the neighbour, with ten-second leases.
fn dhcpd(lab: &Lab, options: &str) -> Background {
    let (conf, leases) = (file(lab, "dhcpd.conf"), file(lab, "leases"));
    let text = format!(
        "authoritative; ping-check off; min-lease-time 10; default-lease-time 10; max-lease-time 10;\n\
         option classless code 121 = array of integer 8;\n\
         subnet 192.168.99.0 netmask 255.255.255.0 {{ range 192.168.99.150 192.168.99.159; {options} }}\n"
    );
    std::fs::write(&conf, text).expect("the lab's directory");
    std::fs::write(&leases, "").expect("the lab's directory");
    let mut server = lab.background_outside(&format!("exec dhcpd -4 -d -cf {conf} -lf {leases} -pf {leases}.pid eth0"));
    server.until("Server starting service");
    server
}

/// The server that does what its file says.
struct Puppet {
    process: Background,
    file: String,
}

impl Puppet {
    fn new(lab: &Lab, name: &str, wish: &str) -> Self {
        let file = file(lab, name);
        std::fs::write(&file, wish).expect("the lab's directory");
        let mut process =
            lab.background_outside(&format!("exec python3 {}/dhcp.py serve eth0 {file}", lab.dir().display()));
        process.until("listening");
        Self { process, file }
    }

    /// From the next message on.
    fn wish(&self, wish: &str) {
        std::fs::write(format!("{}.new", self.file), wish).expect("the lab's directory");
        std::fs::rename(format!("{}.new", self.file), &self.file).expect("the lab's directory");
    }
}

const GOOD: &str = r#"{"server": "192.168.99.1", "address": "192.168.99.150", "seconds": 10,
                       "routers": ["192.168.99.1"], "dns": ["192.168.99.77"]}"#;

fn file(lab: &Lab, name: &str) -> String {
    lab.dir().join(name).display().to_string()
}

fn leases(lab: &Lab) -> String {
    std::fs::read_to_string(lab.dir().join("leases")).unwrap_or_default()
}

fn in_container(lab: &Lab, name: &str, line: &str) -> String {
    lab.ok(&format!("podwire exec {name} {line}"))
}

/// Waits up to twenty seconds: leases here last ten.
#[track_caller]
fn in_time(lab: &Lab, line: &str, wish: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let run = lab.host(line);
        if wish(&run.out) {
            return run.out;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "not in time:\n# {line}\n{}{}", run.out, run.err);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn the_guide_works_word_for_word_with_dnsmasq(lab: &Lab) {
    let mut server = dnsmasq(lab);
    load(lab);
    lab.host("podwire network create -d macvlan -o parent=eth0 webnetwork").ok();
    lab.host("podwire run -dt --name webserver --network webnetwork banner").ok();
    let shown = lab.host("podwire exec webserver ip address show eth0").ok();
    assert!(shown.out.contains(&format!("inet {LENT}")) || shown.out.contains("inet 192.168.99.1"), "{}", shown.out);
    let ip = ip4(lab, "webserver");
    shown.says(&format!("inet {ip}/24"));
    banner_comes(|| lab.outside(&get(&ip)));
    server.until(&format!("DHCPACK(eth0) {ip}"));
    lab.host("podwire exec webserver ip route").ok().says("default via 192.168.99.1 dev eth0");
    assert_eq!(in_container(lab, "webserver", "cat /etc/resolv.conf"), "nameserver 192.168.99.77");
    lab.host("podwire network inspect webnetwork").ok().says(&format!("\"ipnet\": \"{ip}/24\""));
    lab.host("podwire network leases").ok().says(&format!("webserver   webnetwork  {ip}/24"));
    lab.host("podwire network leases --format '{{.Container}} {{.Server}} {{.DNS}}' webnetwork")
        .ok()
        .says("webserver 192.168.99.1 [192.168.99.77]");
    lab.host("podwire network leases nosuch").refuses(125, "unable to find network with name or ID nosuch");
    assert!(leases(lab).contains(&ip), "{}", leases(lab));
    lab.host("podwire rm -f -t 0 webserver").ok();
    server.until(&format!("DHCPRELEASE(eth0) {ip}"));
    assert_eq!(leases(lab), "");
    assert_eq!(lab.ok("podwire network leases -n"), "");
}

fn a_pod_on_a_lan_with_a_server_has_one_lease(lab: &Lab) {
    let mut server = dnsmasq(lab);
    lan(lab);
    let state = lab.settled_state();
    lab.host("podwire pod create --name store --network webnetwork").ok();
    lab.host("podwire run -d --pod store --name web banner").ok();
    lab.host("podwire run -d --pod store --name db banner sleep 1000").ok();
    let ip = ip4(lab, "web");
    assert_eq!(ip4(lab, "db"), ip, "one address for all");
    assert_eq!(leases(lab).lines().count(), 1, "{}", leases(lab));
    banner_comes(|| lab.outside(&get(&ip)));
    banner_comes(|| lab.host("podwire exec db wget -qO- http://127.0.0.1/"));
    assert_eq!(in_container(lab, "db", "cat /etc/resolv.conf"), "nameserver 192.168.99.77");
    lab.host("podwire restart -t 0 web").ok();
    assert_eq!(ip4(lab, "web"), ip);
    lab.host("podwire pod rm -f -t 0 store").ok();
    server.until(&format!("DHCPRELEASE(eth0) {ip}"));
    state.same(lab, "after the pod has left");
}

fn two_containers_have_two_leases_and_the_host_keeps_its_address(lab: &Lab) {
    let _server = dnsmasq(lab);
    lan(lab);
    let before = lab.ok("ip -o -4 addr; ip route");
    let state = lab.settled_state();
    web(lab, "a");
    web(lab, "b");
    let (a, b) = (ip4(lab, "a"), ip4(lab, "b"));
    assert_ne!(a, b);
    banner_comes(|| lab.outside(&get(&a)));
    banner_comes(|| lab.outside(&get(&b)));
    assert_eq!(leases(lab).lines().count(), 2, "{}", leases(lab));
    assert_eq!(lab.ok("ip -o -4 addr; ip route"), before);
    lab.host("podwire rm -f -t 0 a b").ok();
    assert_eq!(leases(lab), "");
    state.same(lab, "after both have left");
}

fn a_container_has_the_same_address_after_a_restart_and_its_lease_ends_when_it_stops(lab: &Lab) {
    let _server = dnsmasq(lab);
    lan(lab);
    lab.host("podwire run -d --name web --network webnetwork --mac-address 02:00:00:00:00:77 banner").ok();
    let ip = ip4(lab, "web");
    assert!(leases(lab).contains("02:00:00:00:00:77"), "{}", leases(lab));
    lab.host("podwire stop -t 0 web").ok();
    assert_eq!(leases(lab), "", "a container that is down has no lease");
    web(lab, "other");
    lab.host("podwire start web").ok();
    assert_eq!(ip4(lab, "web"), ip);
    lab.host("podwire restart -t 0 web").ok();
    assert_eq!(ip4(lab, "web"), ip);
    assert!(leases(lab).contains("02:00:00:00:00:77"), "{}", leases(lab));
}

fn an_address_is_kept_through_a_reboot_that_gave_nothing_back(lab: &Lab) {
    let mut server = dnsmasq(lab);
    lan(lab);
    web(lab, "web");
    web(lab, "later");
    let (ip, other) = (ip4(lab, "web"), ip4(lab, "later"));
    // All processes and everything of the kernel are gone at once, and the boot is another one.
    lab.host(
        "p=$(pgrep 'podwire|banner|crun'); kill -9 $p $(pgrep httpd); sleep 0.3; umount /run/netns/podwire-*; \
              rm -r /run/podwire /run/netns/podwire-* /run/lock/podwire-*; true",
    )
    .ok();
    lab.host("python3 -c \"import sqlite3; c = sqlite3.connect('/var/lib/podwire/podwire.db'); \
              c.execute(\\\"update meta set value = '00000000-0000-0000-0000-000000000000 1' where key = 'identity'\\\"); \
              c.commit()\"").ok();
    let heard = server.output().len();
    lab.host("podwire start later web").ok();
    assert_eq!((ip4(lab, "web"), ip4(lab, "later")), (ip.clone(), other));
    // By INIT-REBOOT: nothing was discovered.
    let said = server.output()[heard..].to_owned();
    assert!(said.contains(&format!("DHCPREQUEST(eth0) {ip}")) && !said.contains("DHCPDISCOVER"), "{said}");
    banner_comes(|| lab.outside(&get(&ip)));
}

fn on_a_bridge_of_others_an_address_is_leased_too(lab: &Lab) {
    // The host's own link becomes a member of a bridge, as hosts of virtual machines have it.
    lab.host(
        "ip link add br0 type bridge; ip addr del 192.168.99.109/24 dev eth0; ip link set eth0 master br0; \
              ip addr add 192.168.99.109/24 dev br0; ip link set br0 up",
    )
    .ok();
    let _server = dnsmasq(lab);
    load(lab);
    lab.host("podwire network create -d bridge -o mode=unmanaged --interface-name br0 --ipam-driver dhcp webnetwork")
        .ok();
    web(lab, "web");
    let ip = ip4(lab, "web");
    banner_comes(|| lab.outside(&get(&ip)));
    lab.host("podwire exec web ip route").ok().says("default via 192.168.99.1 dev eth0");
    // The guard against lies knows the leased address, and no other.
    let web = sandbox(lab, "web");
    lab.inside(&web, "ip addr add 192.168.99.222/24 dev eth0").ok();
    assert_ne!(lab.inside(&web, "busybox ping -c 1 -W 1 -I 192.168.99.222 192.168.99.1").code, 0);
    lab.inside(&web, "busybox ping -c 1 -W 2 192.168.99.1").ok();
    lab.host("podwire rm -f -t 0 web").ok();
    assert_eq!(leases(lab), "");
}

fn a_running_container_joins_a_lan_with_a_server_and_leaves_it(lab: &Lab) {
    let _server = dnsmasq(lab);
    lan(lab);
    lab.host("podwire run -d --name web banner").ok();
    lab.host("podwire network connect webnetwork web").ok();
    let shown = in_container(lab, "web", "ip -o -4 addr show eth1");
    let ip = shown.split_whitespace().nth(3).and_then(|addr| addr.strip_suffix("/24")).expect(&shown).to_owned();
    banner_comes(|| lab.outside(&get(&ip)));
    lab.host("podwire network disconnect webnetwork web").ok();
    assert_eq!(leases(lab), "");
    assert!(!in_container(lab, "web", "ip -o link").contains("eth1"));
}

fn twenty_containers_start_at_once_and_have_twenty_leases(lab: &Lab) {
    let _server = dnsmasq(lab);
    lan(lab);
    lab.host(
        "for n in $(seq 20); do podwire run -d --name c$n --network webnetwork banner & p=\"$p $!\"; done; \
              for p in $p; do wait $p || exit 1; done",
    )
    .ok();
    let all = lab.ok("podwire network leases --format '{{.Address}}'");
    let mut addresses: Vec<&str> = all.lines().collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 20, "{all}");
    lab.host("podwire rm -f -t 0 $(podwire ps -q)").ok();
    assert_eq!(leases(lab), "");
}

/// dnsmasq as a router of IPv6, too.
fn router(lab: &Lab, range: &str) -> Background {
    // The host would learn from it too.
    lab.host("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_ra").ok();
    let names = "--dhcp-option=option6:dns-server,[fd99::77] --dhcp-option=option6:domain-search,six.example";
    let more = format!("--enable-ra --ra-param=eth0,4 --dhcp-range={range} {names}");
    let server = dnsmasq_on(lab, "eth0", "192.168.99", &more);
    load(lab);
    lab.host("podwire network create -d macvlan --ipv6 -o parent=eth0 webnetwork").ok();
    server
}

fn where_the_router_says_so_ipv6_addresses_are_lent_and_given_back(lab: &Lab) {
    let mut server = router(lab, "fd99::100,fd99::1ff,64,2m");
    let before = lab.settled_state();
    web(lab, "web");
    let ip =
        in_time(lab, "podwire inspect -f '{{.NetworkSettings.Networks.webnetwork.GlobalIPv6Address}}' web", |out| {
            out.starts_with("fd99::1")
        });
    let ip = ip.trim();
    banner_comes(|| lab.outside(&get(&format!("[{ip}]"))));
    in_time(lab, "podwire exec web cat /etc/resolv.conf", |out| {
        out == "search six.example\nnameserver 192.168.99.77\nnameserver fd99::77\n"
    });
    lab.host("podwire exec web ip -6 route").ok().says("default via fe80::");
    lab.host("podwire network leases").ok().says(&format!("{ip}/128"));
    assert_eq!(lab.ok("podwire network reload --dry-run web"), "", "a second plan is empty");
    // Another netd goes on with both.
    lab.host("kill -9 $(pgrep -x podwire-netd)").ok();
    in_time(lab, "pgrep -x podwire-netd", |out| !out.is_empty());
    assert_eq!(lab.ok("podwire network leases -n").lines().count(), 2);
    lab.host("podwire rm -f -t 0 web").ok();
    server.until("DHCPRELEASE(eth0) 00:04:");
    assert!(!leases(lab).contains("fd99::1"), "{}", leases(lab));
    before.same(lab, "after the last container left");
}

fn where_the_router_only_tells_its_prefix_containers_make_their_own_addresses(lab: &Lab) {
    let _server = router(lab, "fd99::,ra-only");
    web(lab, "web");
    let shown = in_time(lab, "podwire exec web ip -o -6 addr show eth0", |out| out.contains("inet6 fd99::"));
    let ip = shown.split_whitespace().find(|word| word.starts_with("fd99::")).expect(&shown);
    let ip = ip.split('/').next().unwrap_or_default().to_owned();
    banner_comes(|| lab.outside(&get(&format!("[{ip}]"))));
    lab.host("podwire exec web ip -6 route").ok().says("default via fe80::");
    assert_eq!(lab.ok("podwire network leases -n").lines().count(), 1);
}

fn without_being_asked_for_ipv6_is_off_on_a_lan(lab: &Lab) {
    let _server = dnsmasq_on(lab, "eth0", "192.168.99", "--enable-ra --dhcp-range=fd99::,ra-only --ra-param=eth0,4");
    lan(lab);
    web(lab, "web");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(in_container(lab, "web", "ip -o -6 addr show eth0"), "");
}

fn ten_second_leases_of_iscs_server_are_renewed_over_a_minute_though_netd_is_killed(lab: &Lab) {
    let _server = dhcpd(lab, "option routers 192.168.99.1;");
    let mut witness = lab.background_outside("exec tcpdump -lnvvi eth0 port 67 or port 68");
    witness.until("listening on");
    lan(lab);
    web(lab, "web");
    let ip = ip4(lab, "web");
    let kind = |kind: &str| format!("DHCP-Message (53), length 1: {kind}");
    let dora = witness.until(&kind("ACK"));
    let places = ["Discover", "Offer", "Request", "ACK"].map(|said| dora.find(&kind(said)).expect(&dora));
    assert!(places.is_sorted(), "{dora}");
    let begun = Instant::now();
    let mut killed = 0;
    while begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(900));
        // A lost address would be a lost connection.
        lab.outside(&format!("busybox ping -c 1 -W 2 {ip}")).ok();
        if begun.elapsed() > Duration::from_secs(15 * (killed + 1)) && killed < 3 {
            lab.host("kill -9 $(pgrep -x podwire-netd)").ok();
            killed += 1;
        }
    }
    let renewals = witness.output().matches(&format!("{ip}.68 > 192.168.99.1.67")).count();
    assert!((9..=30).contains(&renewals), "{renewals} renewals\n{}", witness.output());
    assert_eq!(ip4(lab, "web"), ip);
    in_time(lab, "podwire network leases", |out| out.contains(&ip));
    lab.host("podwire rm -f -t 0 web").ok();
    let released = witness.until(&kind("Release"));
    let last = released.rfind("Client-IP").map(|at| released[at..].to_owned()).unwrap_or_default();
    assert!(
        last.contains(&format!("Client-IP {ip}")) && last.contains("Server-ID (54), length 4: 192.168.99.1"),
        "{last}"
    );
    in_time(lab, &format!("tail -n 9 {}", file(lab, "leases")), |out| out.contains("binding state free"));
}

fn what_iscs_server_says_about_the_network_is_in_the_container(lab: &Lab) {
    let options = "option routers 192.168.99.2; option domain-name-servers 192.168.99.77, 192.168.99.78; \
                   option domain-name \"lan.example\"; option domain-search \"eng.lan.example\", \"lan.example\"; \
                   option interface-mtu 1400; option ntp-servers 192.168.99.5; \
                   option classless 24, 10,9,8, 192,168,99,5, 16, 172,16, 10,0,0,1, 0, 192,168,99,1;";
    let _server = dhcpd(lab, options);
    lan(lab);
    web(lab, "web");
    let route = lab.host("podwire exec web ip route").ok();
    // Option 121 takes the place of the router; a next hop in no subnet is on the link.
    route
        .says("default via 192.168.99.1 dev eth0")
        .says("10.9.8.0/24 via 192.168.99.5 dev eth0")
        .says("10.0.0.1 dev eth0")
        .says("172.16.0.0/16 via 10.0.0.1 dev eth0");
    assert_eq!(in_container(lab, "web", "cat /sys/class/net/eth0/mtu"), "1400");
    assert_eq!(
        in_container(lab, "web", "cat /etc/resolv.conf"),
        "search eng.lan.example lan.example\nnameserver 192.168.99.77\nnameserver 192.168.99.78"
    );
    lab.host("podwire network leases --format '{{.Domain}} {{.Search}} {{.NTP}} {{.MTU}}'")
        .ok()
        .says("lan.example [eng.lan.example lan.example] [192.168.99.5] 1400");
    // --dns and --dns-search win.
    lab.host("podwire run --rm --network webnetwork --dns 192.168.99.9 --dns-search mine.example banner cat /etc/resolv.conf")
        .ok()
        .says("search mine.example\nnameserver 192.168.99.9\n");
    // A second plan is empty.
    assert_eq!(lab.host("podwire network reload --dry-run web").ok().out, "");
}

fn without_a_server_a_run_fails_in_ten_seconds_and_leaves_nothing(lab: &Lab) {
    lan(lab);
    let before = lab.settled_state();
    let run = lab.host("podwire run -d --name web --network webnetwork banner");
    let took = run.took;
    run.refuses(126, "no DHCP server answered on eth0 (network webnetwork) within 10 seconds");
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    before.same(lab, "after a run without a server");
    assert_eq!(lab.ok("podwire ps -aq"), "");
}

fn a_server_that_refuses_is_named_with_its_reason(lab: &Lab) {
    let server = Puppet::new(lab, "server", &GOOD.replace("{", r#"{"nak": true, "#));
    lan(lab);
    lab.host("podwire run -d --name web --network webnetwork banner")
        .refuses(126, "within 10 seconds: server 192.168.99.1 refused: \"not you\"");
    server.wish(GOOD);
    web(lab, "web");
    assert_eq!(ip4(lab, "web"), "192.168.99.150");
}

fn a_rogue_that_does_not_keep_its_word_is_left_for_the_good_server(lab: &Lab) {
    let rogue =
        r#"{"server": "192.168.99.66", "address": "192.168.99.200", "seconds": 3600, "routers": ["192.168.99.66"], "#;
    let _rogue = Puppet::new(lab, "rogue", &format!("{rogue} \"deaf\": true}}"));
    let _good = Puppet::new(lab, "good", GOOD);
    lan(lab);
    web(lab, "web");
    assert_eq!(ip4(lab, "web"), "192.168.99.150");
    // It renews with the one that lent it, whatever the other says: over two terms.
    std::thread::sleep(Duration::from_secs(12));
    lab.host("podwire network leases").ok().says("192.168.99.150/24").says("192.168.99.1 ");
    lab.host("podwire exec web ip route").ok().says("default via 192.168.99.1 ");
}

fn broken_and_lying_answers_do_no_harm(lab: &Lab) {
    let dir = lab.dir().display().to_string();
    let mut liars: Vec<Background> =
        (0..3).map(|seed| lab.background_outside(&format!("exec python3 {dir}/dhcp.py hostile eth0 {seed}"))).collect();
    liars.iter_mut().for_each(|liar| drop(liar.until("listening")));
    lan(lab);
    let before = lab.settled_state();
    let run = lab.host("podwire run -d --name web --network webnetwork banner");
    assert_eq!(run.code, 126, "{}", run.err);
    assert!(run.err.lines().count() == 1 && run.err.contains("no DHCP lease on eth0"), "{}", run.err);
    before.same(lab, "after a run among liars");
    // A good server among them is found.
    let _good = Puppet::new(lab, "good", GOOD);
    web(lab, "web");
    assert_eq!(ip4(lab, "web"), "192.168.99.150");
}

fn an_address_that_a_neighbour_has_is_declined(lab: &Lab) {
    let mut claim =
        lab.background_outside(&format!("exec python3 {}/dhcp.py claim eth0 192.168.99.150", lab.dir().display()));
    claim.until("listening");
    let mut server = Puppet::new(lab, "server", GOOD);
    lan(lab);
    let refused = lab.host("podwire run -d --name web --network webnetwork banner");
    refused.refuses(126, "the address 192.168.99.150 that was offered is in use by");
    server.process.until("DECLINE 0.0.0.0 192.168.99.150 192.168.99.1");
    server.wish(&GOOD.replace("99.150", "99.151"));
    web(lab, "web");
    assert_eq!(ip4(lab, "web"), "192.168.99.151");
}

fn when_a_renewal_changes_routers_and_servers_the_container_follows(lab: &Lab) {
    let server = Puppet::new(lab, "server", GOOD);
    lan(lab);
    web(lab, "web");
    lab.host("podwire exec web ip route").ok().says("default via 192.168.99.1 dev eth0");
    server.wish(&GOOD.replace(r#"["192.168.99.1"]"#, r#"["192.168.99.2"]"#).replace("99.77", "99.88"));
    in_time(lab, "podwire exec web ip route", |out| out.contains("default via 192.168.99.2 "));
    in_time(lab, "podwire exec web cat /etc/resolv.conf", |out| out == "nameserver 192.168.99.88\n");
    assert!(!in_container(lab, "web", "ip route").contains("via 192.168.99.1 "));
    assert_eq!(ip4(lab, "web"), "192.168.99.150");
}

fn a_lease_that_is_taken_back_gives_way_to_another_address(lab: &Lab) {
    let mut server = Puppet::new(lab, "server", GOOD);
    lan(lab);
    web(lab, "web");
    server.wish(&GOOD.replace("99.150", "99.160"));
    in_time(lab, "podwire exec web ip -o -4 addr show eth0", |out| out.contains("192.168.99.160/24"));
    assert!(!in_container(lab, "web", "ip -o -4 addr show eth0").contains("192.168.99.150"));
    in_time(lab, "podwire exec web cat /etc/hosts", |out| out.contains("192.168.99.160") && !out.contains("99.150"));
    assert_eq!(ip4(lab, "web"), "192.168.99.160");
    lab.host("podwire rm -f -t 0 web").ok();
    server.process.until("RELEASE 192.168.99.160 - 192.168.99.1");
}

fn an_address_whose_lease_has_ended_is_removed_and_comes_back_with_the_server(lab: &Lab) {
    let server = Puppet::new(lab, "server", GOOD);
    lan(lab);
    web(lab, "web");
    server.wish(&GOOD.replace("{", r#"{"mute": true, "#));
    in_time(lab, "podwire exec web ip -o -4 addr show eth0", str::is_empty);
    assert_eq!(lab.ok("podwire network leases -n"), "");
    assert!(!in_container(lab, "web", "ip route").contains("default"));
    server.wish(GOOD);
    in_time(lab, "podwire exec web ip route", |out| out.contains("default via 192.168.99.1"));
    banner_comes(|| lab.outside(&get("192.168.99.150")));
}

fn several_networks_of_one_container_have_a_lease_each(lab: &Lab) {
    lab.host("ip link add eth1 type veth peer name eth1 netns /run/lab/outside; ip link set eth1 up").ok();
    lab.outside("ip addr add 192.168.98.1/24 dev eth1; ip link set eth1 up").ok();
    let second = "--interface=eth1 --dhcp-range=192.168.98.150,192.168.98.160,255.255.255.0,2m \
                  --dhcp-option=interface:eth1,option:router,192.168.98.1";
    let _server = dnsmasq_on(lab, "eth0", "192.168.99", second);
    lan(lab);
    lab.host("podwire network create -d macvlan -o parent=eth1 second").ok();
    lab.host("podwire run -d --name web --network webnetwork --network second banner").ok();
    let shown = lab.host("podwire exec web ip -o -4 addr").ok();
    shown.says("eth0    inet 192.168.99.1").says("eth1    inet 192.168.98.1");
    let routes = in_container(lab, "web", "ip route");
    assert_eq!(routes.matches("default").count(), 1, "{routes}");
    assert_eq!(lab.ok("podwire network leases -n").lines().count(), 2);
    lab.host("podwire network leases -n second").ok().says("192.168.98.1");
    assert_eq!(leases(lab).lines().count(), 2, "{}", leases(lab));
    lab.host("podwire network disconnect second web").ok();
    assert_eq!(leases(lab).lines().count(), 1, "{}", leases(lab));
    // Two links on one LAN, of one server.
    lab.host("podwire network create -d macvlan -o parent=eth0 third").ok();
    lab.host("podwire network connect third web").ok();
    let all = lab.ok("podwire network leases --format '{{.Address}}'");
    let (one, other) = all.split_once('\n').expect(&all);
    assert_ne!(one, other);
    lab.host("podwire rm -f -t 0 web").ok();
    assert_eq!(leases(lab), "");
}

fn a_silent_network_keeps_no_other_command_waiting(lab: &Lab) {
    lan(lab);
    let waiting = lab.background("podwire run -d --name web --network webnetwork banner");
    eventually(|| lab.host("podwire ps -a --format '{{.Names}}'"), |run| run.out.contains("web"));
    std::thread::sleep(Duration::from_millis(300));
    let run = lab.host("podwire run -d --name other banner").ok();
    assert!(run.took < Duration::from_secs(5), "{:?}", run.took);
    assert_eq!(waiting.wait().code, 126);
    lab.host("podwire ps -a --format '{{.Names}}'").ok().says("other");
}

fn sweep_of_a_run_that_asks_for_a_lease(lab: &Lab) {
    let _server = Puppet::new(lab, "server", &GOOD.replace("\"seconds\": 10", "\"seconds\": 600"));
    lan(lab);
    sweep(lab, &ON_A_LEASE);
    assert_eq!(lab.ok("podwire network leases -n"), "");
}

fn a_connection_without_a_server_leaves_the_container_as_it_was(lab: &Lab) {
    lan(lab);
    lab.host("podwire run -d --name web banner").ok();
    let before = lab.settled_state();
    let run: Run = lab.host("podwire network connect webnetwork web");
    run.refuses(125, "no DHCP server answered on eth1 (network webnetwork) within 10 seconds");
    before.same(lab, "after a connection that failed");
    lab.host("podwire inspect -f '{{len .NetworkSettings.Networks}}' web").ok().says("1");
}
