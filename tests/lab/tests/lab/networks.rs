//! What `network create`, `update`, `import` and `export` are asked for, and what becomes of it.

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, OUTSIDE4, OUTSIDE6, Run, sentences};

use crate::words::{banner_comes, eventually, get, load, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        routes_to_a_gateway_and_to_nowhere_are_in_the_container,
        a_networks_options_reach_its_containers,
        a_container_has_an_address_of_each_subnet_and_reaches_out_by_both_families,
        a_subnet_that_any_table_of_the_host_routes_is_not_chosen,
        the_default_network_gives_way_and_says_so,
        on_a_bridge_of_others_a_container_is_a_member_and_leaves_no_trace,
        what_the_kernel_or_the_host_lacks_is_said_in_one_sentence,
        a_pool_that_is_used_up_says_by_whom,
        dns_servers_are_added_and_dropped,
        files_that_cannot_be_taken_are_named_and_the_others_are_taken,
        unused_networks_are_pruned_by_label_and_in_use_wins_over_unknown,
    ];
    all.extend(sentences![LabOptions::default(); &[Need::Podman];
        podmans_files_are_read_and_written_with_the_same_bytes,
    ]);
    all
}

fn routes_to_a_gateway_and_to_nowhere_are_in_the_container(lab: &Lab) {
    load(lab);
    let routes = "--route 10.1.0.0/24,10.91.0.9 --route 10.2.0.0/24,10.91.0.9,5 --route 10.3.0.0/24,blackhole \
                  --route 10.4.0.0/24,unreachable,9 --route 10.5.0.0/24,PROHIBIT --route fd77::/64,blackhole";
    lab.host(&format!("podwire network create --subnet 10.91.0.0/24 --ipv6 -o metric=7 {routes} shop")).ok();
    lab.host("podwire run -d --name web --network shop banner").ok();
    let shown = squeezed(&lab.ok("podwire exec web ip route"));
    for route in [
        "default via 10.91.0.1 dev eth0 metric 7",
        "10.1.0.0/24 via 10.91.0.9 dev eth0 metric 100",
        "10.2.0.0/24 via 10.91.0.9 dev eth0 metric 5",
        "blackhole 10.3.0.0/24 metric 100",
        "unreachable 10.4.0.0/24 metric 9",
        "prohibit 10.5.0.0/24 metric 100",
    ] {
        assert!(shown.contains(route), "{route} is not in:\n{shown}");
    }
    lab.host("podwire exec web ip -6 route").ok().says("blackhole fd77::/64");
    // Taken away by hand, they come back.
    let inside = "ip -n podwire-$(podwire inspect --format '{{.Id}}' web | cut -c 1-12)";
    lab.host(&format!("{inside} route del blackhole 10.3.0.0/24 metric 100")).ok();
    lab.host("podwire network reload web").ok();
    lab.host("podwire exec web ip route").ok().says("blackhole 10.3.0.0/24");
    lab.host("podwire network reload --dry-run web").ok();
    assert_eq!(lab.ok("podwire network reload --dry-run web").trim(), "");
}

fn a_networks_options_reach_its_containers(lab: &Lab) {
    load(lab);
    lab.host("podwire network create -o mtu=1300 -o no_default_route=true closed").ok();
    lab.host("podwire run -d --name a --network closed banner").ok();
    lab.host("podwire exec a cat /sys/class/net/eth0/mtu").ok().says("1300");
    assert!(!lab.ok("podwire exec a ip route").contains("default"));
    lab.host("podwire network create --internal --interface-name vault0 vault").ok();
    lab.host("podwire run -d --name b --network vault banner").ok();
    assert!(!lab.ok("podwire exec b ip route").contains("default"));
    lab.host("cat /proc/sys/net/ipv4/conf/vault0/forwarding").ok().says("0");
    // Docker's spellings.
    let docker = "-o com.docker.network.bridge.name=dock0 -o com.docker.network.driver.mtu=1400";
    lab.host(&format!("podwire network create {docker} dock")).ok();
    lab.host("podwire network inspect --format '{{.NetworkInterface}} {{.Options}}' dock")
        .ok()
        .says("dock0 map[mtu:1400]");
}

fn a_container_has_an_address_of_each_subnet_and_reaches_out_by_both_families(lab: &Lab) {
    load(lab);
    let subnets = "--subnet 10.91.0.0/24 --subnet 10.92.0.0/24 --subnet fd91::/64 --ip-range 10.91.0.128/25";
    lab.host(&format!("podwire network create {subnets} shop")).ok();
    let _server = lab.background_outside("python3 -m http.server --bind :: 8000");
    lab.host("podwire run -d --name web --network shop banner").ok();
    lab.host("podwire exec web ip addr show dev eth0")
        .ok()
        .says("10.91.0.129/24")
        .says("10.92.0.2/24")
        .says("fd91::2/64");
    let web = sandbox(lab, "web");
    for url in [format!("{OUTSIDE4}:8000"), format!("[{OUTSIDE6}]:8000")] {
        let run = eventually(|| lab.inside(&web, &get(&url)), |run| run.code == 0);
        assert_eq!(run.code, 0, "{url}: {}", run.err);
    }
}

fn a_subnet_that_any_table_of_the_host_routes_is_not_chosen(lab: &Lab) {
    lab.host("ip route add 10.89.0.0/16 dev eth0 table 51820").ok();
    lab.host("ip route add unreachable 10.0.0.0/8 metric 4000").ok();
    lab.host("podwire network create shop").ok();
    lab.host("podwire network inspect --format '{{range .Subnets}}{{.Subnet}}{{end}}' shop").ok().says("10.90.0.0/24");
    let asked = lab.host("podwire network create --subnet 10.89.7.0/24 mine");
    asked.refuses(
        125,
        "subnet 10.89.7.0/24 is already used on the host or by another config: 10.89.0.0/16 of this host's routes",
    );
    lab.host("ip route add 10.64.0.0/10 dev eth0 table 7; ip route add 10.128.0.0/9 dev eth0 table 7").ok();
    lab.host("podwire network create late").refuses(
        125,
        "could not find free subnet from subnet pools: they hold 10.128.0.0/9 of this host's routes, 10.64.0.0/10",
    );
}

fn the_default_network_gives_way_and_says_so(lab: &Lab) {
    load(lab);
    lab.host("ip link add podman0 type veth peer name other").ok();
    lab.host("ip addr add 10.88.3.1/24 dev podman0").ok();
    let run = lab.host("podwire run -d --name web banner").ok();
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert!(run.err.contains("10.88.0.0/16 is in use on this host"), "{}", run.err);
    assert!(run.err.contains("the name podman0 is taken"), "{}", run.err);
    lab.host("podwire network inspect --format '{{.NetworkInterface}}' podman").ok().says("podman1");
    // Said once: it keeps what it has.
    assert_eq!(lab.host("podwire run -d --name db banner").ok().err, "");
}

fn on_a_bridge_of_others_a_container_is_a_member_and_leaves_no_trace(lab: &Lab) {
    load(lab);
    let bridge = "--interface-name br0 -o mode=unmanaged --subnet 192.168.7.0/24 --gateway 192.168.7.1";
    lab.host(&format!("podwire network create {bridge} lan")).ok();
    lab.host("podwire network inspect --format '{{.DNSEnabled}}' lan").ok().says("false");
    let absent = lab.host("podwire run --rm --network lan banner true");
    absent.refuses(126, "in unmanaged mode, the bridge must already exist on the host: br0");
    lab.host("ip link add br0 type veth peer name other").ok();
    lab.host("podwire run --rm --network lan banner true").refuses(126, "link br0 is no bridge");
    lab.host("ip link del br0; ip link add br0 address 02:00:00:00:00:07 type bridge; ip link set br0 up").ok();
    lab.host("ip addr add 192.168.7.1/24 dev br0").ok();
    // A member of its own, so that the bridge does not lose its carrier with ours.
    lab.host(
        "ip link add wire type veth peer name end; ip link set wire addrgenmode none; ip link set end addrgenmode none",
    )
    .ok();
    lab.host("ip link set end up; ip link set wire master br0 up").ok();
    let ready = |run: &Run| run.out.contains("fe80") && !run.out.contains("linkdown") && !run.out.contains("tentative");
    eventually(|| lab.quietly("ip route; ip -6 addr show br0"), ready).ok();
    let before = lab.settled_state();
    lab.host("podwire run -d --name web --network lan --ip 192.168.7.20 -p 8080:80 banner").ok();
    lab.host("podwire exec web ip route").ok().says("default via 192.168.7.1");
    banner_comes(|| lab.host(&get("192.168.7.20")));
    assert!(!lab.ok("nft list ruleset").contains("192.168.7.0/24"), "nothing of it is hidden or isolated");
    assert!(!lab.ok("ip -d link show br0").contains("podwire"), "the bridge has no mark of ours");
    lab.host("podwire rm -f -t 0 web").ok();
    before.same(lab, "after the container left the bridge");
}

fn what_the_kernel_or_the_host_lacks_is_said_in_one_sentence(lab: &Lab) {
    load(lab);
    lab.host("podwire network create -o vlan=7 blue").ok();
    let run = lab.host("podwire run -d --network blue banner");
    if run.code == 0 {
        lab.host("bridge vlan show").ok().says("7 PVID Egress Untagged");
    } else {
        run.refuses(126, "built without CONFIG_BRIDGE_VLAN_FILTERING");
    }
    lab.host("podwire network create -o vrf=red far").ok();
    let absent = "vrf red does not exist on the host, which network far needs";
    lab.host("podwire run --network far banner true").refuses(126, absent);
    lab.host("ip link add red type veth peer name other").ok();
    let other = "link red is no vrf, which network far needs";
    lab.host("podwire run --network far banner true").refuses(126, other);
    assert_eq!(lab.ok("podwire ps -aq --filter network=far").trim(), "", "what could not run is not kept");
}

fn a_pool_that_is_used_up_says_by_whom(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.77.0.0/30 small").ok();
    lab.host("podwire run -d --name web --network small banner").ok();
    let full = "failed to find free IP in range: 10.77.0.1 - 10.77.0.2 of network small: web has 10.77.0.2";
    lab.host("podwire run --network small banner true").refuses(126, full);
    let tiny = lab.host("podwire network create --subnet 10.78.0.0/31 tiny");
    tiny.refuses(125, "could not create gateway for subnet 10.78.0.0/31 because it has a 31 or greater subnet prefix");
}

fn dns_servers_are_added_and_dropped(lab: &Lab) {
    lab.host("podwire network create --dns 9.9.9.9 shop").ok();
    let update = lab.ok("podwire network update shop --dns-add 1.1.1.1,1.0.0.1 --dns-add 1.1.1.1 --dns-drop 9.9.9.9");
    assert_eq!(update.trim(), "shop");
    let servers = "podwire network inspect --format '{{.NetworkDNSServers}}'";
    assert_eq!(lab.ok(&format!("{servers} shop")).trim(), "[1.1.1.1 1.0.0.1]");
    let wrong = lab.host("podwire network update shop --dns-add bad");
    wrong.refuses(125, "unable to parse ip bad specified in AddDNSServer: invalid argument");
    let wrong = lab.host("podwire network update shop --dns-drop bad");
    wrong.refuses(125, "unable to parse ip bad specified in RemoveDNSServer: invalid argument");
    let wrong = lab.host("podwire network update nope --dns-add 1.1.1.1");
    wrong.refuses(125, "unable to find network with name or ID nope: network not found");
    // The default network is in memory until it is changed.
    lab.host("podwire network update podman --dns-add 9.9.9.9").ok();
    assert_eq!(lab.ok(&format!("{servers} podman")).trim(), "[9.9.9.9]");
    let without = lab.host("podwire network create --dns 1.1.1.1 --disable-dns plain");
    without.refuses(125, "cannot set NetworkDNSServers if DNS is not enabled for the network");
}

fn podmans_files_are_read_and_written_with_the_same_bytes(lab: &Lab) {
    let podman = "podman --network-config-dir /run/lab/podman network";
    lab.host("mkdir /run/lab/podman").ok();
    let flags = "--subnet 10.66.0.0/24 --ip-range 10.66.0.128/25 --gateway 10.66.0.3 --ipv6 -o mtu=1400";
    lab.host(&format!("{podman} create {flags} --label 'a=<b> & c' old")).ok();
    lab.host(&format!("{podman} create --internal inner")).ok();
    assert_eq!(lab.ok("podwire network import /run/lab/podman").trim(), "inner\nold");
    lab.host("podwire network export --dir /run/lab/ours").ok().says("/run/lab/ours/old.json");
    lab.host("for n in old inner; do cmp /run/lab/podman/$n.json /run/lab/ours/$n.json || exit 1; done").ok();
    assert_eq!(lab.ok("stat -c %a /run/lab/ours/old.json").trim(), "644");
    lab.host("podwire network create --subnet 10.67.0.0/24 -o metric=5 fresh").ok();
    lab.host("podwire network export --dir /run/lab/podman fresh").ok();
    lab.host(&format!("{podman} inspect fresh")).ok().says("10.67.0.1").says(r#""metric": "5""#);
    let clash = lab.host("podwire network rm old; podwire network create --subnet 10.68.0.0/24 old; podwire network export --dir /run/lab/podman old");
    clash.refuses(125, "is there already, of another network");
}

fn files_that_cannot_be_taken_are_named_and_the_others_are_taken(lab: &Lab) {
    lab.host("mkdir /run/lab/in").ok();
    lab.host("podwire network create --subnet 10.91.0.0/24 shop").ok();
    let network = |name: &str, id: &str, more: &str| {
        format!(
            r#"{{"name":"{name}","id":"{id}","driver":"bridge","network_interface":"br{name}","created":"2026-11-23T18:10:33Z",{more},"ipv6_enabled":false,"internal":false,"dns_enabled":true,"some_day":[1]}}"#
        )
    };
    let ids = |digit: &str| digit.repeat(64);
    let file = |name: &str, text: &str| {
        lab.host(&format!("cat >/run/lab/in/{name} <<'E'\n{text}\nE")).ok();
    };
    let subnet = |subnet: &str| format!(r#""subnets":[{{"subnet":"{subnet}"}}]"#);
    file("a.json", &network("a", &ids("a"), &subnet("10.93.0.0/24")));
    file("b.json", &network("b", &ids("b"), &format!(r#"{},"options":{{"sticky":"true"}}"#, subnet("10.94.0.0/24"))));
    file("c.json", &network("c", &ids("c"), &subnet("10.91.0.0/16")));
    file("d.json", &network("shop", &ids("d"), &subnet("10.95.0.0/24")));
    let on_lan = network("e", &ids("e"), &format!(r#"{},"options":{{"mode":"x"}}"#, subnet("10.96.0.0/24")));
    file("e.json", &on_lan.replace("bridge\"", "macvlan\""));
    file("f.json", &network("f", &ids("a"), &subnet("10.97.0.0/24")));
    file("g.json", "{");
    let dhcp = network("i", &ids("e"), r#""ipam_options":{"driver":"dhcp"}"#);
    file("i.json", &dhcp.replace("bridge\"", "ipvlan\""));
    file(
        "h.conflist",
        r#"{"cniVersion":"0.4.0","name":"h","plugins":[{"type":"bridge","bridge":"cni-podman7","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.98.0.0/24","gateway":"10.98.0.1"}]]}},{"type":"portmap"},{"type":"firewall"},{"type":"dnsname"}]}"#,
    );
    let run = lab.host("podwire network import /run/lab/in").code(125);
    assert_eq!(run.out.trim(), "a\nh");
    for said in [
        "b.json: unsupported bridge network option: sticky",
        "c.json: subnet 10.91.0.0/16 is already used on the host or by another config: 10.91.0.0/24 of network shop",
        "d.json: network already exists shop",
        "e.json: invalid macvlan mode \"x\"",
        "f.json: network id aaaaaaaaaa",
        "g.json: ",
        "i.json: ipam driver dhcp is not supported with ipvlan",
    ] {
        assert!(run.err.contains(said), "{said:?} is not in:\n{}", run.err);
    }
    lab.host("podwire network inspect h").ok().says("cni-podman7").says(r#""dns_enabled": true"#).says("10.98.0.1");
    assert_eq!(lab.ok("podwire network import /run/lab/in/a.json").trim(), "a", "what is there already is no error");
    // From where Podman keeps its own, when nothing is said.
    lab.host("mkdir -p /run/lab/own && cp /run/lab/in/a.json /run/lab/own/").ok();
    lab.host("podwire network rm a").ok();
    lab.host("podwire --network-config-dir /run/lab/own network import").ok().says("a");
}

fn unused_networks_are_pruned_by_label_and_in_use_wins_over_unknown(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --label tier=back a").ok();
    lab.host("podwire network create --label tier=front b").ok();
    lab.host("podwire network create c").ok();
    lab.host("podwire create --name web --network c banner").ok();
    lab.host("podwire network prune </dev/null").refuses(125, "EOF");
    assert_eq!(lab.ok("podwire network prune -f --filter label=tier=back").trim(), "a");
    lab.host("echo n | podwire network prune").ok();
    assert_eq!(lab.ok("podwire network ls -q --filter dangling=true").trim(), "b");
    assert_eq!(lab.ok("podwire network prune -f").trim(), "b");
    lab.host("podwire network rm c nope").code(2);
    lab.host("podwire network rm podman nope").code(1);
    assert_eq!(lab.ok("podwire network rm -f -t 0 c nope").trim(), "c");
    assert_eq!(lab.ok("podwire network ls -q").trim(), "podman");
    assert_eq!(lab.ok("podwire ps -aq").trim(), "");
}

/// Several blanks as one, for columns differ between versions of `ip`.
fn squeezed(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}
