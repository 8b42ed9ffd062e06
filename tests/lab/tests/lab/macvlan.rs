//! Containers on the LAN themselves: macvlan, ipvlan and bridges of others, with addresses that are given out here.

use lab::trial::{Need, Sentence};
use lab::{HOST4, HOST6, Lab, LabOptions, OUTSIDE4, OUTSIDE6, Run, sentences};

use crate::words::{archive, banner_comes, eventually, get, ip4, ip6, knock, load, no_banner, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        a_container_on_the_lan_is_reached_there_and_reaches_it_and_the_host_forwards_nothing,
        containers_reach_each_other_in_mode_bridge_and_not_in_mode_private,
        the_host_and_its_containers_on_the_lan_reach_each_other_with_host_access_alone,
        the_hosts_own_link_answers_nobody_but_its_containers_and_goes_with_the_last_of_them,
        a_parent_that_is_missing_or_unfit_is_named_and_nothing_is_left_behind,
        of_one_that_passes_everything_through_there_is_one,
        a_running_container_joins_a_lan_and_leaves_it,
        two_networks_of_one_lan_are_told_apart_by_their_links,
        an_address_and_a_mac_address_that_were_asked_for_survive_a_restart,
        neighbours_learn_at_once_who_has_an_address,
        a_pod_on_the_lan_has_one_address_there_which_survives_its_restart,
        what_went_with_its_parent_comes_back_with_it,
        a_link_deleted_inside_comes_back_with_a_reload,
        ports_are_not_published_on_a_lan_and_that_is_said,
        networks_on_a_lan_are_listed_exported_and_imported,
        a_container_on_a_bridge_of_others_has_an_address_of_the_lan,
    ];
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        an_ordinary_user_has_no_networks_on_the_lan]);
    all.extend(sentences![LabOptions::default(); &[Need::Ipvlan];
        an_ipvlan_container_is_reached_with_its_parents_mac_address]);
    all
}

/// A network on the lab's LAN, with more options.
fn lan(lab: &Lab, name: &str, range: &str, more: &str) {
    let subnets = format!("--subnet 192.168.99.0/24 --ip-range 192.168.99.{range}");
    lab.host(&format!("podwire network create -d macvlan -o parent=eth0 {subnets} {more} {name}")).ok();
}

/// As [`lan`], with IPv6.
fn dual_lan(lab: &Lab, name: &str, more: &str) {
    lan(lab, name, "64/28", &format!("--subnet fd99::/64 --ip-range fd99::64:0/112 {more}"));
}

fn web(lab: &Lab, name: &str, network: &str) {
    lab.host(&format!("podwire run -d --name {name} --network {network} banner")).ok();
}

fn a_container_on_the_lan_is_reached_there_and_reaches_it_and_the_host_forwards_nothing(lab: &Lab) {
    load(lab);
    dual_lan(lab, "lan", "");
    let server = lab.background_outside("exec busybox httpd -f -p 8000");
    eventually(|| lab.outside(&get("127.0.0.1:8000/none")), |run| run.code == 0).ok();
    let before = lab.settled_state();
    web(lab, "web", "lan");
    assert_eq!((ip4(lab, "web").as_str(), ip6(lab, "web").as_str()), ("192.168.99.65", "fd99::64:1"));
    banner_comes(|| lab.outside(&get("192.168.99.65")));
    banner_comes(|| lab.outside(&get("[fd99::64:1]")));
    let inside = sandbox(lab, "web");
    for there in [OUTSIDE4.to_owned(), format!("[{OUTSIDE6}]")] {
        lab.inside(&inside, &get(&format!("{there}:8000/none"))).ok();
    }
    lab.inside(&inside, "ip -d link show eth0").ok().says("macvlan mode bridge").says("alias podwire:");
    lab.inside(&inside, "ip route").ok().says("default via 192.168.99.1 dev eth0 proto static metric 99");
    assert_eq!(lab.ok("cat /proc/sys/net/ipv4/ip_forward"), "0");
    assert_eq!(lab.ok("nft list tables"), "", "of a LAN's traffic nothing passes our rules");
    let second = lab.host("podwire network reload --dry-run web").ok();
    assert_eq!(second.out, "", "a second plan is empty");
    lab.host("podwire rm -f -t 0 web").ok();
    before.same(lab, "after the last container left the LAN");
    drop(server);
}

fn a_pod_on_the_lan_has_one_address_there_which_survives_its_restart(lab: &Lab) {
    load(lab);
    dual_lan(lab, "lan", "");
    let before = lab.settled_state();
    lab.host("podwire pod create --name store --network lan --ip 192.168.99.70 --mac-address 02:00:00:00:00:70").ok();
    web_in(lab, "web");
    lab.host("podwire run -d --pod store --name db banner sleep 1000").ok();
    for name in ["web", "db"] {
        assert_eq!((ip4(lab, name).as_str(), ip6(lab, name).as_str()), ("192.168.99.70", "fd99::64:1"), "{name}");
    }
    banner_comes(|| lab.host("podwire exec db wget -qO- http://127.0.0.1/"));
    for there in ["192.168.99.70", "[fd99::64:1]"] {
        banner_comes(|| lab.outside(&get(there)));
    }
    lab.inside(&sandbox(lab, "db"), "ip -d link show eth0").ok().says("macvlan mode bridge").says("02:00:00:00:00:70");
    lab.host("podwire pod restart store").ok();
    assert_eq!(ip4(lab, "db"), "192.168.99.70");
    banner_comes(|| lab.outside(&get("192.168.99.70")));
    assert_eq!(lab.ok("nft list tables"), "", "of a LAN's traffic nothing passes our rules");
    lab.host("podwire pod rm -f -t 0 store").ok();
    before.same(lab, "after the pod left the LAN");
}

fn web_in(lab: &Lab, name: &str) {
    lab.host(&format!("podwire run -d --pod store --name {name} banner")).ok();
}

fn containers_reach_each_other_in_mode_bridge_and_not_in_mode_private(lab: &Lab) {
    load(lab);
    lan(lab, "open", "64/28", "");
    lan(lab, "closed", "80/28", "-o mode=private");
    for (name, network) in [("a", "open"), ("b", "open"), ("c", "closed"), ("d", "closed")] {
        web(lab, name, network);
    }
    banner_comes(|| lab.inside(&sandbox(lab, "a"), &get(&ip4(lab, "b"))));
    banner_comes(|| lab.outside(&get(&ip4(lab, "d"))));
    no_banner(lab.inside(&sandbox(lab, "c"), &knock(&ip4(lab, "d"))));
    no_banner(lab.inside(&sandbox(lab, "a"), &knock(&ip4(lab, "d"))));
}

fn the_host_and_its_containers_on_the_lan_reach_each_other_with_host_access_alone(lab: &Lab) {
    load(lab);
    lan(lab, "apart", "80/28", "");
    web(lab, "far", "apart");
    no_banner(lab.host(&knock(&ip4(lab, "far"))));
    dual_lan(lab, "near", "-o host_access=true");
    web(lab, "web", "near");
    for address in [ip4(lab, "web"), format!("[{}]", ip6(lab, "web"))] {
        banner_comes(|| lab.host(&get(&address)));
    }
    let page =
        "mkdir -p /run/lab/www && echo 'podwire: the web server in the container says hello' >/run/lab/www/index.html";
    lab.host(page).ok();
    let _server = lab.background("exec busybox httpd -f -p 8000 -h /run/lab/www");
    let inside = sandbox(lab, "web");
    banner_comes(|| lab.inside(&inside, &get(&format!("{HOST4}:8000"))));
    banner_comes(|| lab.inside(&inside, &get(&format!("[{HOST6}]:8000"))));
    no_banner(lab.inside(&sandbox(lab, "far"), &knock(&format!("{HOST4}:8000"))));
    lab.host("podwire exec web cat /etc/hosts").ok().says(&format!("{HOST4}\thost.containers.internal"));
    assert_eq!(lab.host("podwire network reload --dry-run web").ok().out, "", "a second plan is empty");
    lab.host("ip link del $(ip -br link show type macvlan | cut -d@ -f1)").ok();
    banner_comes(|| lab.host(&get(&ip4(lab, "web"))));
    banner_comes(|| lab.host(&get(&format!("[{}]", ip6(lab, "web")))));
}

fn the_hosts_own_link_answers_nobody_but_its_containers_and_goes_with_the_last_of_them(lab: &Lab) {
    load(lab);
    dual_lan(lab, "lan", "-o host_access=true");
    let before = lab.settled_state();
    web(lab, "a", "lan");
    web(lab, "b", "lan");
    let mac = lab.ok("cat /sys/class/net/eth0/address");
    for (host, flags, web) in [(HOST4, "", ip4(lab, "a")), (HOST6, "-6", format!("[{}]", ip6(lab, "a")))] {
        // Each answer to a question that all links of the host hear, and nothing that the host itself says later.
        lab.outside(&format!("ip neigh flush all; busybox ping {flags} -c 1 -W 2 {host}")).ok();
        lab.outside(&format!("ip neigh show {host}")).ok().says(&mac);
        banner_comes(|| lab.host(&get(&web)));
        lab.outside(&format!("ip neigh show {host}")).ok().says(&mac);
    }
    lab.host("podwire rm -f -t 0 a").ok();
    lab.host("ip -br link show type macvlan").ok().says("pwh");
    banner_comes(|| lab.host(&get(&ip4(lab, "b"))));
    lab.host("podwire rm -f -t 0 b").ok();
    before.same(lab, "after the last container that the host had access to");
}

fn a_parent_that_is_missing_or_unfit_is_named_and_nothing_is_left_behind(lab: &Lab) {
    load(lab);
    let create = |parent: &str| {
        let subnet = "--subnet 192.168.7.0/24";
        lab.host(&format!(
            "podwire network rm -f bad; podwire network create -d macvlan -o parent={parent} {subnet} bad"
        ))
    };
    create("nope").refuses(125, "parent interface nope does not exist");
    lab.host("ip link add br0 type bridge; ip link add v0 type veth peer name v1; ip link set v0 master br0 up").ok();
    lab.host("podwire network create --interface-name podman7 ours && podwire run -d --name o --network ours banner")
        .ok();
    let before = lab.settled_state();
    for (parent, why) in [
        ("lo", "link lo can be no parent, for it carries no Ethernet frames"),
        ("v0", "link v0 can be no parent, for it is a member of br0: use br0 instead"),
        ("br0", "parent interface br0 is down; to turn it on: ip link set br0 up"),
        ("podman7", "link podman7 can be no parent, for podwire made it"),
    ] {
        create(parent).ok();
        lab.host("podwire run --rm --network bad banner true").refuses(126, why);
        lab.host("podwire run --rm --network bad --dry-run banner true").refuses(126, why);
    }
    lab.host("podwire network rm bad").ok();
    before.same(lab, "after parents were refused");
    lab.host("podwire network create -d macvlan -o mtu=9000 --subnet 192.168.7.0/24 --internal bad").ok();
    lab.host("podwire run --rm --network bad banner true")
        .refuses(126, "mtu 9000 is more than parent interface eth0 has: 1500");
    lab.host("ip route del default; ip -6 route del default; podwire run --rm --network bad banner true")
        .refuses(126, "network bad names no parent, and this host has no default route");
    assert_eq!(lab.ok("ls /run/netns | wc -l"), "1", "but for the one that is meant");
}

fn of_one_that_passes_everything_through_there_is_one(lab: &Lab) {
    load(lab);
    lan(lab, "lan", "64/28", "");
    lan(lab, "alone", "80/28", "-o mode=passthru");
    web(lab, "web", "lan");
    let before = lab.settled_state();
    let others = "in mode passthru there is one link on a parent, and eth0 has others";
    lab.host("podwire run --rm --network alone banner true").refuses(126, others);
    before.same(lab, "after a second link was refused");
    lab.host("podwire rm -f -t 0 web").ok();
    web(lab, "only", "alone");
    banner_comes(|| lab.outside(&get(&ip4(lab, "only"))));
    let mac = lab.ok("cat /sys/class/net/eth0/address");
    lab.host("podwire inspect -f '{{.NetworkSettings.Networks.alone.MacAddress}}' only").ok().says(&mac);
    lab.host("podwire run --rm --network alone banner true").refuses(126, others);
    let one = "parent interface eth0 takes no more macvlan links: one of mode passthru is on it";
    lab.host("podwire run --rm --network lan banner true").refuses(126, one);
    let theirs = "a MAC address is not possible on network alone";
    lab.host("podwire run --rm --network alone:mac=02:00:00:00:00:01 banner true").refuses(126, theirs);
}

fn a_running_container_joins_a_lan_and_leaves_it(lab: &Lab) {
    load(lab);
    lan(lab, "lan", "64/28", "");
    web(lab, "web", "podman");
    lab.host("podwire network connect --ip 192.168.99.70 --mac-address 02:00:00:00:00:70 lan web").ok();
    banner_comes(|| lab.outside(&get("192.168.99.70")));
    lab.host("podwire network inspect lan").ok().says("192.168.99.70/24").says("02:00:00:00:00:70");
    let routes = lab.ok("podwire exec web ip route");
    assert!(routes.contains("default via 192.168.99.1 dev eth1"), "who is on a LAN answers there: {routes}");
    lab.host("podwire network rm lan").refuses(2, "has associated containers with it");
    lab.host("podwire network disconnect lan web").ok();
    no_banner(lab.outside(&knock("192.168.99.70")));
    lab.host("podwire exec web ip route").ok().says("default via 10.88.0.1 dev eth0");
    lab.host("podwire network rm lan").ok();
}

fn two_networks_of_one_lan_are_told_apart_by_their_links(lab: &Lab) {
    load(lab);
    lan(lab, "one", "64/28", "");
    lan(lab, "two", "80/28", "");
    lab.host("podwire run -d --name web --network one:interface_name=lan0 --network two banner").ok();
    lab.host("podwire exec web ip route").ok().says("default via 192.168.99.1 dev lan0");
    for address in ["192.168.99.65", "192.168.99.81"] {
        banner_comes(|| lab.outside(&get(address)));
    }
    lab.host("podwire network disconnect one web").ok();
    banner_comes(|| lab.outside(&get("192.168.99.81")));
    lab.host("podwire exec web ip route").ok().says("default via 192.168.99.1 dev eth0");
    lab.host("podwire network connect one web").ok();
    lab.host("podwire network disconnect one web").ok();
    lab.host("podwire exec web ip route").ok().says("default via 192.168.99.1 dev eth0");
    assert_eq!(lab.host("podwire network reload --dry-run web").ok().out, "", "a second plan is empty");
}

fn an_address_and_a_mac_address_that_were_asked_for_survive_a_restart(lab: &Lab) {
    load(lab);
    lan(lab, "lan", "64/28", "");
    lab.host("podwire run -d --name web --network lan --ip 192.168.99.70 --mac-address 02:00:00:00:00:70 banner").ok();
    lab.host("podwire restart -t 0 web").ok();
    lab.inside(&sandbox(lab, "web"), "ip addr show eth0").ok().says("02:00:00:00:00:70").says("192.168.99.70/24");
    banner_comes(|| lab.outside(&get("192.168.99.70")));
    // The kernel gives a parent's MAC addresses back when it has the time: here nobody waits for that.
    for _ in 0..5 {
        lab.host("podwire restart -t 0 web").ok();
    }
    let other = "podwire run --rm --network lan --ip 192.168.99.71 --mac-address 02:00:00:00:00:70 banner true";
    lab.host(other).refuses(126, "requested mac address 02:00:00:00:00:70 is already used on network lan");
    lan(lab, "two", "80/28", "");
    let elsewhere = "podwire run --rm --network two --mac-address 02:00:00:00:00:70 banner true";
    lab.host(elsewhere).refuses(126, "MAC address 02:00:00:00:00:70 is that of another link on parent interface eth0");
}

fn neighbours_learn_at_once_who_has_an_address(lab: &Lab) {
    load(lab);
    dual_lan(lab, "lan", "");
    // A link that is new hears what is said to all a second after it came up.
    let hears = |run: &Run| run.out.contains("ff00::/8");
    eventually(|| lab.outside("ip -6 route show table local dev eth0"), hears).ok();
    for mac in ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"] {
        let addresses = format!("--ip 192.168.99.70 --ip6 fd99::70 --mac-address {mac}");
        lab.host(&format!("podwire run -d --replace --name web --network lan {addresses} banner")).ok();
        for address in ["192.168.99.70", "fd99::70"] {
            let known = || lab.outside(&format!("ip neigh show {address}"));
            let told = |run: &Run| run.out.trim().is_empty() || run.out.contains(mac);
            let run = eventually(known, told);
            assert!(told(&run), "{address} is at {mac}: {}", run.out);
        }
        banner_comes(|| lab.outside(&get("192.168.99.70")));
        banner_comes(|| lab.outside(&get("[fd99::70]")));
    }
}

fn what_went_with_its_parent_comes_back_with_it(lab: &Lab) {
    load(lab);
    lan(lab, "lan", "64/28", "-o host_access=true");
    web(lab, "web", "lan");
    banner_comes(|| lab.outside(&get("192.168.99.65")));
    // With another name it is not found, and what is on it is left alone.
    lab.host("ip link set eth0 down; ip link set eth0 name lan0; ip link set lan0 up").ok();
    for which in ["--all", "web"] {
        lab.host(&format!("podwire network reload {which}")).refuses(125, "parent interface eth0 does not exist");
        banner_comes(|| lab.outside(&get("192.168.99.65")));
    }
    lab.host("ip link set lan0 down; ip link set lan0 name eth0; ip link set eth0 up").ok();
    assert_eq!(lab.host("podwire network reload --all --dry-run").ok().out, "", "it is as it was");
    lab.host("ip link del eth0").ok();
    let gone = lab.host("podwire network reload --all");
    gone.refuses(125, "cannot be reloaded: parent interface eth0 does not exist");
    lab.host("podwire network reload --all --dry-run").code(125);
    // As when a driver is loaded again, or a cable of a laptop's dock is plugged in.
    lab.host(
        "ip link add eth0 type veth peer name eth0 netns /run/lab/outside; ip addr add 192.168.99.109/24 dev eth0",
    )
    .ok();
    lab.outside("ip addr add 192.168.99.1/24 dev eth0; ip link set eth0 up").ok();
    lab.host("ip link set eth0 up").ok();
    banner_comes(|| lab.outside(&get("192.168.99.65")));
    banner_comes(|| lab.host(&get("192.168.99.65")));
    assert_eq!(lab.host("podwire network reload --all --dry-run").ok().out, "", "nothing is left to do");
}

fn a_link_deleted_inside_comes_back_with_a_reload(lab: &Lab) {
    load(lab);
    dual_lan(lab, "lan", "-o host_access=true");
    web(lab, "web", "lan");
    lab.inside(&sandbox(lab, "web"), "ip link del eth0").ok();
    no_banner(lab.outside(&knock("192.168.99.65")));
    lab.host("podwire network reload web").ok();
    banner_comes(|| lab.outside(&get("192.168.99.65")));
    lab.inside(&sandbox(lab, "web"), "ip link set eth0 down").ok();
    lab.host("podwire network reload --all").ok();
    banner_comes(|| lab.outside(&get("[fd99::64:1]")));
    banner_comes(|| lab.host(&get("[fd99::64:1]")));
    assert_eq!(lab.host("podwire network reload --dry-run web").ok().out, "", "a second plan is empty");
}

fn ports_are_not_published_on_a_lan_and_that_is_said(lab: &Lab) {
    load(lab);
    lan(lab, "lan", "64/28", "");
    let run = lab.host("podwire run -d --name web --network lan -p 8080:80 banner").ok();
    let said = "ports are not published on network lan: the container's own are open at 192.168.99.65";
    assert!(run.err.contains(said), "{}", run.err);
    banner_comes(|| lab.outside(&get("192.168.99.65")));
    no_banner(lab.outside(&knock(&format!("{HOST4}:8080"))));
    // On a bridge beside the LAN they are.
    let run = lab.host("podwire run -d --name both --network lan --network podman -p 8081:80 banner").ok();
    assert_eq!(run.err, "");
    banner_comes(|| lab.host(&get("127.0.0.1:8081")));
}

fn networks_on_a_lan_are_listed_exported_and_imported(lab: &Lab) {
    lab.host("podwire network create -d macvlan --subnet 192.168.99.0/24 -o mode=vepa -o bclim=-1 lan").ok();
    lab.host("podwire network create -d ipvlan --interface-name eth0 --subnet 192.168.7.0/24 -o mode=l3s l3").ok();
    lab.host("podwire network create -d macvlan -o parent=eth0 leased").ok();
    let form = "{{.Name}} {{.Driver}} [{{.NetworkInterface}}] {{.DNSEnabled}} {{.Options}} {{.IPAMOptions}}";
    let list = lab.ok(&format!("podwire network ls --filter driver=macvlan --filter driver=ipvlan --format '{form}'"));
    assert_eq!(
        list,
        "l3 ipvlan [eth0] false map[mode:l3s] map[driver:host-local]\n\
         lan macvlan [] false map[bclim:-1 mode:vepa] map[driver:host-local]\n\
         leased macvlan [eth0] false map[] map[driver:dhcp]"
    );
    lab.host("podwire network export --dir /run/lab/out lan l3 leased").ok();
    assert!(!lab.ok("podwire network inspect lan").contains("network_interface"));
    lab.host("podwire network rm lan l3 leased && podwire network import /run/lab/out").ok();
    assert_eq!(
        lab.ok(&format!("podwire network ls --filter driver=macvlan --filter driver=ipvlan --format '{form}'")),
        list
    );
}

fn a_container_on_a_bridge_of_others_has_an_address_of_the_lan(lab: &Lab) {
    load(lab);
    lab.host("ip link add br0 type bridge forward_delay 0 && ip addr flush dev eth0 && ip link set eth0 master br0")
        .ok();
    lab.host(&format!(
        "ip addr add {HOST4}/24 dev br0 && ip link set br0 up && ip route replace default via {OUTSIDE4}"
    ))
    .ok();
    let subnet = "--subnet 192.168.99.0/24 --ip-range 192.168.99.64/28";
    lab.host(&format!("podwire network create --interface-name br0 -o mode=unmanaged {subnet} lan")).ok();
    web(lab, "web", "lan");
    assert_eq!(ip4(lab, "web"), "192.168.99.65");
    banner_comes(|| lab.outside(&get("192.168.99.65")));
    banner_comes(|| lab.host(&get("192.168.99.65")));
    lab.host("podwire exec web ip route").ok().says("default via 192.168.99.1 dev eth0");
    let _server = lab.background_outside("exec busybox httpd -f -p 8000");
    let answered = |run: &Run| run.code == 0;
    eventually(|| lab.inside(&sandbox(lab, "web"), &get(&format!("{OUTSIDE4}:8000/none"))), answered).ok();
}

fn an_ordinary_user_has_no_networks_on_the_lan(lab: &Lab) {
    lab.host(&format!("install -m 644 {} /run/lab/banner.tar", archive().display())).ok();
    lab.user("podwire load -q -i /run/lab/banner.tar").ok();
    for driver in ["macvlan", "ipvlan"] {
        let create = format!("podwire network create -d {driver} -o parent=eth0 --subnet 192.168.99.0/24 lan");
        lab.user(&create).refuses(125, &format!("network driver {driver} is not possible without root"));
    }
    lab.host("podwire network create -d macvlan --subnet 192.168.99.0/24 lan").ok();
    lab.host("podwire network export --dir /run/lab/out lan && chmod -R a+rX /run/lab/out").ok();
    lab.user("podwire network import /run/lab/out").ok();
    lab.user("podwire run --rm --network lan banner true")
        .refuses(126, "network driver macvlan is not possible without root");
}

fn an_ipvlan_container_is_reached_with_its_parents_mac_address(lab: &Lab) {
    load(lab);
    let subnet = "--subnet 192.168.99.0/24 --ip-range 192.168.99.64/28";
    lab.host(&format!("podwire network create -d ipvlan -o parent=eth0 {subnet} lan")).ok();
    web(lab, "web", "lan");
    banner_comes(|| lab.outside(&get("192.168.99.65")));
    let mac = lab.ok("cat /sys/class/net/eth0/address");
    lab.inside(&sandbox(lab, "web"), "ip link show eth0").ok().says(&mac);
    lab.host("podwire run --rm --network lan:mac=02:00:00:00:00:01 banner true")
        .refuses(126, "a MAC address is not possible");
}
