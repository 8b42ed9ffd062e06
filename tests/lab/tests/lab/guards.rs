//! What must not be possible, and is possible elsewhere: see docs/book/firewall.md.

use lab::trial::Sentence;
use lab::{HOST4, Lab, LabOptions, OUTSIDE4, OUTSIDE6, sentences};

use crate::words::{banner_comes, dual, get, ip4, ip6, knock, load, no_banner, peer, plain, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        a_neighbour_that_routes_127_0_0_0_8_to_us_does_not_reach_a_port_published_on_127_0_0_1,
        a_neighbour_that_routes_our_subnet_to_us_reaches_nothing_unpublished,
        a_neighbour_that_routes_our_ipv6_subnet_to_us_reaches_nothing_unpublished,
        a_container_can_not_claim_its_neighbours_address_by_arp,
        a_container_can_not_send_from_an_address_that_is_not_its_own,
        a_container_does_not_reach_services_of_the_host,
        ipv6_is_off_on_an_ipv4_only_network,
        rules_of_others_are_never_touched,
        a_device_in_an_image_is_no_way_to_the_machines_devices,
    ];
    all.extend(sentences![plain(); &[];
        without_bridge_netfilter_a_container_can_not_claim_its_neighbours_address_either,
        without_bridge_netfilter_a_container_can_not_send_from_anothers_address_either,
        without_bridge_netfilter_services_of_the_host_are_closed_as_well,
        with_strict_and_loose_reverse_path_filters_127_0_0_0_8_stays_local,
    ]);
    all
}

/// Makes the neighbour send 127.0.0.1 to our host, and asks.
fn ask_for_127(lab: &Lab) -> lab::Run {
    let steps = [
        // With the link down instead, it would still keep them to itself.
        "{ ip addr del 127.0.0.1/8 dev lo 2>/dev/null || :; }".to_owned(),
        "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet".to_owned(),
        format!("ip route replace 127.0.0.0/8 via {HOST4}"),
    ];
    lab.outside(&steps.join(" && ")).ok();
    lab.outside(&knock("127.0.0.1:8080"))
}

fn a_neighbour_that_routes_127_0_0_0_8_to_us_does_not_reach_a_port_published_on_127_0_0_1(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name local -p 127.0.0.1:8080:80 banner").ok();
    lab.host("podwire run -d --name open -p 9090:80 banner").ok();
    banner_comes(|| lab.host(&get("127.0.0.1:8080")));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:9090"))));
    no_banner(ask_for_127(lab));
    // Nor a service of the host that listens on 127.0.0.1.
    let mut service = lab.background(&peer(lab, "http 7000 127.0.0.1"));
    service.until("listening");
    lab.host(&get("127.0.0.1:7000")).ok();
    no_banner(lab.outside(&knock("127.0.0.1:7000")));
}

fn with_strict_and_loose_reverse_path_filters_127_0_0_0_8_stays_local(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name local -p 127.0.0.1:8080:80 banner").ok();
    banner_comes(|| lab.host(&get("127.0.0.1:8080")));
    for filter in [0, 1, 2] {
        lab.host(&format!("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {filter} >$f; done")).ok();
        no_banner(ask_for_127(lab));
        banner_comes(|| lab.host(&get("127.0.0.1:8080")));
    }
}

fn a_neighbour_that_routes_our_subnet_to_us_reaches_nothing_unpublished(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    lab.host("podwire run -d --name hidden banner").ok();
    lab.outside(&format!("ip route add 10.88.0.0/16 via {HOST4}")).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    no_banner(lab.outside(&knock(&ip4(lab, "hidden"))));
    // By its own address not even the published one.
    no_banner(lab.outside(&knock(&ip4(lab, "web"))));
    banner_comes(|| lab.host(&get(&ip4(lab, "hidden"))));
}

fn a_neighbour_that_routes_our_ipv6_subnet_to_us_reaches_nothing_unpublished(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name hidden --network dual banner").ok();
    lab.outside(&format!("ip route add fd91::/64 via {}", lab::HOST6)).ok();
    banner_comes(|| lab.host(&get(&format!("[{}]", ip6(lab, "hidden")))));
    no_banner(lab.outside(&knock(&format!("[{}]", ip6(lab, "hidden")))));
}

fn a_container_can_not_claim_its_neighbours_address_by_arp(lab: &Lab) {
    load(lab);
    for name in ["web", "victim", "liar"] {
        lab.host(&format!("podwire run -d --name {name} banner")).ok();
    }
    let (victim, liar, web) = (sandbox(lab, "victim"), sandbox(lab, "liar"), ip4(lab, "web"));
    banner_comes(|| lab.inside(&victim, &get(&web)));
    let neighbour = |ip: &str| lab.inside(&victim, &format!("ip neigh show {ip}")).ok().out;
    let believed = neighbour(&web);
    assert!(believed.contains("lladdr"), "the victim knows the web server: {believed}");
    lab.inside(&liar, &peer(lab, &format!("arp eth0 {web}"))).ok();
    let lies = mac(lab, &liar);
    assert!(!neighbour(&web).contains(&lies), "the lie is believed: {}", neighbour(&web));
    lab.inside(&liar, &peer(lab, "arp eth0 10.88.0.1")).ok();
    assert!(!neighbour("10.88.0.1").contains(&lies), "the lie is believed: {}", neighbour("10.88.0.1"));
    banner_comes(|| lab.inside(&victim, &get(&web)));
}

/// The address of a container's link; /sys would show the host's.
fn mac(lab: &Lab, inside: &lab::Sandboxed) -> String {
    let shown = lab.inside(inside, "ip -o link show eth0").ok().out;
    let mac = shown.split_once("link/ether ").and_then(|(_, rest)| rest.split_whitespace().next());
    mac.unwrap_or_else(|| panic!("a MAC: {shown}")).to_owned()
}

fn without_bridge_netfilter_a_container_can_not_claim_its_neighbours_address_either(lab: &Lab) {
    a_container_can_not_claim_its_neighbours_address_by_arp(lab);
}

fn a_container_can_not_send_from_an_address_that_is_not_its_own(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner").ok();
    lab.host("podwire run -d --name liar banner").ok();
    let (web, liar) = (sandbox(lab, "web"), sandbox(lab, "liar"));
    let mac = mac(lab, &web);
    let mut listener = lab.background_inside(&web, &peer(lab, "udp-wait 5555 3"));
    listener.until("listening");
    let send = |source: &str| {
        let target = ip4(lab, "web");
        lab.inside(&liar, &peer(lab, &format!("spoof eth0 {mac} {source} {target} 5555"))).ok();
    };
    send("10.88.0.77");
    send("198.51.100.7");
    // What is true arrives: the frames above were well-formed.
    send(&ip4(lab, "liar"));
    let heard = listener.wait().out;
    assert!(heard.contains(&format!("{} spoofed", ip4(lab, "liar"))), "a true datagram arrives: {heard}");
    assert_eq!(heard.lines().filter(|line| line.contains("spoofed")).count(), 1, "lies arrive: {heard}");
}

fn without_bridge_netfilter_a_container_can_not_send_from_anothers_address_either(lab: &Lab) {
    a_container_can_not_send_from_an_address_that_is_not_its_own(lab);
}

fn a_container_does_not_reach_services_of_the_host(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual banner").ok();
    let mut service = lab.background(&peer(lab, "http 7000"));
    service.until("listening");
    lab.outside(&get(&format!("{HOST4}:7000"))).ok();
    let web = sandbox(lab, "web");
    for address in [HOST4, "10.91.0.1", "[fd91::1]", "[fd99::109]"] {
        no_banner(lab.inside(&web, &knock(&format!("{address}:7000"))));
    }
    let mut outside = lab.background_outside(&peer(lab, "http 7000"));
    outside.until("listening");
    lab.inside(&web, &get(&format!("{OUTSIDE4}:7000"))).ok();
    lab.inside(&web, &get(&format!("[{OUTSIDE6}]:7000"))).ok();
}

fn without_bridge_netfilter_services_of_the_host_are_closed_as_well(lab: &Lab) {
    a_container_does_not_reach_services_of_the_host(lab);
}

fn ipv6_is_off_on_an_ipv4_only_network(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner").ok();
    let web = sandbox(lab, "web");
    assert_eq!(lab.inside(&web, "ip -6 -o addr show dev eth0").ok().out, "");
    assert_eq!(lab.host("ip -6 -o addr show dev podman0").ok().out, "");
}

fn rules_of_others_are_never_touched(lab: &Lab) {
    load(lab);
    lab.host("nft 'add table ip nat; add chain ip nat DOCKER; add rule ip nat DOCKER tcp dport 8080 accept'").ok();
    lab.host("nft 'add table inet filter; add chain inet filter input { type filter hook input priority 0; policy accept; }'").ok();
    let before = lab.settled_state();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    let foreign = lab.state();
    assert_eq!(before.of("nft"), foreign.of("nft"));
    lab.host("podwire rm -f web").ok();
    before.same(lab, "after rm -f beside others' rules");
}

fn a_device_in_an_image_is_no_way_to_the_machines_devices(lab: &Lab) {
    let make = "mkdir -p /run/i/bin && cp /bin/busybox /run/i/bin/sh && mknod -m 666 /run/i/zero c 1 5 && \
                tar -C /run/i -cf /run/i.tar . && podwire import -q /run/i.tar devices";
    lab.host(make).ok();
    let read = "podwire run --rm --network none devices sh -c 'read -n 1 octet <";
    lab.host(&format!("{read}/dev/zero; echo read'")).ok().says("read");
    let refused = lab.host(&format!("{read}/zero && echo read'"));
    assert!(refused.code != 0 && refused.err.contains("can't open /zero"), "{}{}", refused.out, refused.err);
    // An archive of the image has it still.
    let list = "podwire save -q -o /run/o.tar devices && tar -xOf /run/o.tar --wildcards '[0-9a-f]*.tar' | tar -tv";
    lab.host(list).ok().says("1,5");
}
