//! Who reaches whom: from the host, from the container itself, from other networks, to the outside.

use lab::trial::{Need, Sentence};
use lab::{HOST4, HOST6, Lab, LabOptions, OUTSIDE4, OUTSIDE6, sentences};

use crate::words::{banner_comes, dual, get, ip4, ip6, knock, load, no_banner, peer, plain, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        the_host_reaches_a_published_port_by_its_own_address_and_by_127_0_0_1,
        the_host_reaches_a_published_port_by_its_own_ipv6_address,
        a_container_of_another_network_reaches_a_published_port_by_the_hosts_address,
        containers_of_one_network_reach_each_other,
        containers_of_two_networks_do_not_reach_each_other,
        what_leaves_a_container_carries_the_hosts_address,
        what_leaves_a_container_carries_the_hosts_ipv6_address,
        a_container_sees_the_real_address_of_its_client,
        an_internal_network_has_no_way_out_and_none_in,
        a_container_on_two_networks_reaches_both,
        network_none_has_only_loopback,
        the_host_network_is_the_hosts_own,
        a_container_in_anothers_sandbox_shares_its_addresses,
    ];
    all.extend(sentences![LabOptions::default(); &[Need::BridgeNetfilter];
        a_container_reaches_its_own_published_port_when_bridged_packets_pass_the_ip_hooks]);
    all.extend(sentences![plain(); &[];
        a_container_reaches_its_own_published_port_when_bridged_packets_pass_no_ip_hook,
        without_bridge_netfilter_networks_are_apart_as_well,
    ]);
    all
}

fn the_host_reaches_a_published_port_by_its_own_address_and_by_127_0_0_1(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    for address in [HOST4, "127.0.0.1", "127.0.0.2", &ip4(lab, "web").replace(".2", ".1")] {
        banner_comes(|| lab.host(&get(&format!("{address}:8080"))));
    }
}

fn the_host_reaches_a_published_port_by_its_own_ipv6_address(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual -p 8080:80 banner").ok();
    banner_comes(|| lab.host(&get(&format!("[{HOST6}]:8080"))));
}

fn hairpin(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.inside(&sandbox(lab, "web"), &get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.inside(&sandbox(lab, "web"), &get(&format!("[{HOST6}]:8080"))));
    lab.host("podwire run -d --name other --network dual banner").ok();
    banner_comes(|| lab.inside(&sandbox(lab, "other"), &get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.inside(&sandbox(lab, "other"), &get(&format!("[{HOST6}]:8080"))));
}

fn a_container_reaches_its_own_published_port_when_bridged_packets_pass_the_ip_hooks(lab: &Lab) {
    hairpin(lab);
}

fn a_container_reaches_its_own_published_port_when_bridged_packets_pass_no_ip_hook(lab: &Lab) {
    hairpin(lab);
}

fn a_container_of_another_network_reaches_a_published_port_by_the_hosts_address(lab: &Lab) {
    load(lab);
    lab.host("podwire network create other").ok();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    lab.host("podwire run -d --name asker --network other banner").ok();
    banner_comes(|| lab.inside(&sandbox(lab, "asker"), &get(&format!("{HOST4}:8080"))));
    no_banner(lab.inside(&sandbox(lab, "asker"), &knock(&format!("{}:80", ip4(lab, "web")))));
}

fn containers_of_one_network_reach_each_other(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual banner").ok();
    lab.host("podwire run -d --name asker --network dual banner").ok();
    let asker = sandbox(lab, "asker");
    banner_comes(|| lab.inside(&asker, &get(&ip4(lab, "web"))));
    banner_comes(|| lab.inside(&asker, &get(&format!("[{}]", ip6(lab, "web")))));
}

fn containers_of_two_networks_do_not_reach_each_other(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire network create --ipv6 --subnet 10.92.0.0/24 --subnet fd92::/64 second").ok();
    lab.host("podwire run -d --name web --network dual banner").ok();
    lab.host("podwire run -d --name near --network dual banner").ok();
    lab.host("podwire run -d --name far --network second banner").ok();
    banner_comes(|| lab.inside(&sandbox(lab, "near"), &get(&ip4(lab, "web"))));
    let far = sandbox(lab, "far");
    no_banner(lab.inside(&far, &knock(&ip4(lab, "web"))));
    no_banner(lab.inside(&far, &knock(&format!("[{}]", ip6(lab, "web")))));
    no_banner(lab.inside(&sandbox(lab, "web"), &knock(&ip4(lab, "far"))));
}

fn without_bridge_netfilter_networks_are_apart_as_well(lab: &Lab) {
    containers_of_two_networks_do_not_reach_each_other(lab);
}

fn what_leaves_a_container_carries_the_hosts_address(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner").ok();
    let mut server = lab.background_outside(&peer(lab, "http 9000"));
    server.until("listening");
    let seen = lab.inside(&sandbox(lab, "web"), &get(&format!("{OUTSIDE4}:9000"))).ok();
    assert_eq!(seen.out.trim(), HOST4);
}

fn what_leaves_a_container_carries_the_hosts_ipv6_address(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual banner").ok();
    let mut server = lab.background_outside(&peer(lab, "http 9000"));
    server.until("listening");
    let seen = lab.inside(&sandbox(lab, "web"), &get(&format!("[{OUTSIDE6}]:9000"))).ok();
    assert_eq!(seen.out.trim(), HOST6);
}

fn a_container_sees_the_real_address_of_its_client(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual -p 9000:9000 banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "http 9000"));
    server.until("listening");
    assert_eq!(lab.outside(&get(&format!("{HOST4}:9000"))).ok().out.trim(), OUTSIDE4);
    assert_eq!(lab.outside(&get(&format!("[{HOST6}]:9000"))).ok().out.trim(), OUTSIDE6);
}

fn an_internal_network_has_no_way_out_and_none_in(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --internal inner").ok();
    lab.host("podwire run -d --name web --network inner banner").ok();
    lab.host("podwire run -d --name near --network inner banner").ok();
    banner_comes(|| lab.inside(&sandbox(lab, "near"), &get(&ip4(lab, "web"))));
    let mut server = lab.background_outside(&peer(lab, "http 9000"));
    server.until("listening");
    no_banner(lab.inside(&sandbox(lab, "web"), &knock(&format!("{OUTSIDE4}:9000"))));
    let subnet = ip4(lab, "web");
    lab.outside(&format!("ip route add {subnet}/32 via {HOST4}")).ok();
    no_banner(lab.outside(&knock(&subnet)));
}

fn a_container_on_two_networks_reaches_both(lab: &Lab) {
    load(lab);
    lab.host("podwire network create one").ok();
    lab.host("podwire network create two").ok();
    lab.host("podwire run -d --name web1 --network one banner").ok();
    lab.host("podwire run -d --name web2 --network two banner").ok();
    lab.host("podwire run -d --name both --network one --network two banner").ok();
    let both = sandbox(lab, "both");
    lab.inside(&both, "ip -br link").ok().says("eth0").says("eth1");
    banner_comes(|| lab.inside(&both, &get(&ip4(lab, "web1"))));
    banner_comes(|| lab.inside(&both, &get(&ip4(lab, "web2"))));
}

fn network_none_has_only_loopback(lab: &Lab) {
    load(lab);
    let links = lab.ok("podwire run --rm --network none banner ip -o link");
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains("lo: <LOOPBACK,UP"), "{links}");
}

fn the_host_network_is_the_hosts_own(lab: &Lab) {
    load(lab);
    lab.host("podwire run --rm --network host banner ip -o -4 addr").ok().says(HOST4);
    lab.host("podwire run -d --name web --network host banner").ok();
    banner_comes(|| lab.outside(&get(HOST4)));
    lab.host("podwire rm -f web").ok();
    lab.host("ip -o -4 addr").ok().says(HOST4);
}

fn a_container_in_anothers_sandbox_shares_its_addresses(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner").ok();
    lab.host("podwire run --rm --network container:web banner ip -o -4 addr").ok().says(&ip4(lab, "web"));
    lab.host("podwire run --rm --network container:web banner wget -qO- http://127.0.0.1/").ok().says(lab::BANNER);
}
