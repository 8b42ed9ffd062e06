//! Published ports of a container that runs: changed, moved, served on `[::1]`, in every form over both families.

use lab::trial::{Need, Sentence};
use lab::{HOST4, HOST6, Lab, LabOptions, sentences};

use crate::words::{banner_comes, dual, eventually, get, ip6, knock, load, no_banner, peer, plain, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        a_port_published_everywhere_is_on_localhost_in_both_families,
        a_port_on_loopback6_is_for_the_host_alone_whatever_family_the_container_has,
        a_relayed_connection_carries_every_byte_and_the_end_of_one_side,
        a_relayed_connection_to_a_container_that_refuses_is_reset_at_once,
        a_server_on_ipv4_alone_is_reached_through_loopback6,
        more_relayed_connections_than_allowed_are_reset_and_leave_the_others,
        a_udp_port_answers_on_loopback6,
        a_relayed_port_is_free_for_the_next_container_at_once,
        the_container_sees_its_gateway_when_its_host_comes_by_itself_or_by_loopback6,
        ports_move_with_their_relay_to_the_next_network,
        ports_of_a_running_container_change_while_a_connection_stays,
        what_is_unpublished_is_free_and_what_is_published_is_held,
        a_port_can_be_limited_to_this_host_in_one_step,
        a_range_loses_some_of_its_ports,
        a_range_of_equal_ports_is_cut_and_joined_while_a_connection_stays,
        a_udp_client_of_an_unpublished_port_is_answered_by_the_next_container,
        changed_ports_survive_restarts_and_the_death_of_the_monitor,
        ports_of_a_stopped_container_change_in_its_record,
        a_change_of_ports_that_cannot_be_is_refused_and_changes_nothing,
        an_address_that_is_not_there_cannot_be_published_on,
        parallel_changes_of_one_containers_ports_all_count,
        a_killed_update_is_all_or_nothing,
    ];
    all.extend(sentences![LabOptions::default(); &[Need::BridgeNetfilter];
        every_form_of_a_port_is_where_it_says_when_bridged_packets_pass_the_ip_hooks]);
    all.extend(sentences![plain(); &[];
        every_form_of_a_port_is_where_it_says_when_bridged_packets_pass_no_ip_hook]);
    all
}

fn a_port_published_everywhere_is_on_localhost_in_both_families(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    for address in ["127.0.0.1", "[::1]", HOST4] {
        banner_comes(|| lab.host(&get(&format!("{address}:8080"))));
    }
    lab.host("podwire ps").ok().says("0.0.0.0:8080->80/tcp");
    lab.host("podwire rm -f web").ok();
    assert_eq!(lab.host(&get("[::1]:8080")).code, 7, "refused when it is gone");
    before.same(lab, "after rm -f");
}

fn a_port_on_loopback6_is_for_the_host_alone_whatever_family_the_container_has(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name four -p '[::1]:8080:80' banner").ok();
    lab.host("podwire run -d --name both --network dual -p '[::1]:8081:80' banner").ok();
    for port in [8080, 8081] {
        banner_comes(|| lab.host(&get(&format!("[::1]:{port}"))));
        no_banner(lab.host(&knock(&format!("127.0.0.1:{port}"))));
        no_banner(lab.host(&knock(&format!("[{HOST6}]:{port}"))));
        no_banner(lab.outside(&knock(&format!("[{HOST6}]:{port}"))));
        no_banner(lab.inside(&sandbox(lab, "both"), &knock(&format!("[{HOST6}]:{port}"))));
    }
    lab.host("podwire ps").ok().says("::1:8080->80/tcp");
    lab.host("podwire port four").ok().says("80/tcp -> ::1:8080");
    let shown = "podwire inspect -f '{{json .NetworkSettings.Ports}}' four";
    lab.host(shown).ok().says(r#""HostIp":"::1","HostPort":"8080""#);
    lab.host("podwire run -d -p '[::1]:9:9/sctp' banner").refuses(126, "only tcp and udp");
}

fn a_relayed_connection_carries_every_byte_and_the_end_of_one_side(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 9000:90 banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "tcp-count 90"));
    server.until("listening");
    lab.host(&peer(lab, "tcp-push ::1 9000 50000000")).ok().says("50000000");
    lab.host(&peer(lab, "tcp-push ::1 9000 0")).ok().says("0");
}

fn a_relayed_connection_to_a_container_that_refuses_is_reset_at_once(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual -p 8081:81 banner").ok();
    // Who finds the container at all: that is not what is measured.
    lab.host(&get("[::1]:8081"));
    let run = lab.host(&get("[::1]:8081"));
    // A reset that is quick enough looks like a refusal.
    assert!(run.code == 56 || run.code == 7, "reset: {} [{}]", run.err, run.code);
}

fn a_server_on_ipv4_alone_is_reached_through_loopback6(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual -p 8081:81 -p 5353:53/udp banner").ok();
    let inside = sandbox(lab, "web");
    let mut server = lab.background_inside(&inside, &peer(lab, "http 81 0.0.0.0"));
    server.until("listening");
    let mut names = lab.background_inside(&inside, &peer(lab, "udp-echo 53 four 0.0.0.0"));
    names.until("listening");
    assert_eq!(lab.host(&get("[::1]:8081")).ok().out.trim(), "10.91.0.1");
    lab.host(&peer(lab, "udp-ask ::1 5353")).ok().says("four");
}

fn more_relayed_connections_than_allowed_are_reset_and_leave_the_others(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 9000:90 banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "tcp-echo 90"));
    server.until("listening");
    lab.host(&peer(lab, "tcp-crowd ::1 9000 300")).ok().says("256 answered");
    let again = || lab.host(&peer(lab, "tcp-crowd ::1 9000 1"));
    eventually(again, |run| run.out.contains("1 answered")).ok().says("1 answered");
}

fn a_udp_port_answers_on_loopback6(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name four -p 5353:53/udp banner").ok();
    lab.host("podwire run -d --name both --network dual -p '[::1]:5354:53/udp' banner").ok();
    for (name, port) in [("four", 5353), ("both", 5354)] {
        let mut server = lab.background_inside(&sandbox(lab, name), &peer(lab, &format!("udp-echo 53 {name}")));
        server.until("listening");
        lab.host(&peer(lab, &format!("udp-ask ::1 {port}"))).ok().says(name);
    }
}

fn a_relayed_port_is_free_for_the_next_container_at_once(lab: &Lab) {
    load(lab);
    for _ in 0..3 {
        lab.host("podwire run -d --name web -p 8080:80 -p '[::1]:8081:80' banner").ok();
        // The server closes first, which leaves TIME_WAIT on its side.
        banner_comes(|| lab.host(&get("[::1]:8080")));
        banner_comes(|| lab.host(&get("[::1]:8081")));
        lab.host("podwire rm -f web").ok();
    }
}

fn the_container_sees_its_gateway_when_its_host_comes_by_itself_or_by_loopback6(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual -p 9000:9000 banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "http 9000"));
    server.until("listening");
    let seen = |url: &str| lab.host(&get(url)).ok().out.trim().to_owned();
    assert_eq!(seen("[::1]:9000"), "fd91::1");
    assert_eq!(seen(&format!("[{}]:9000", ip6(lab, "web"))), "fd91::1");
    assert_eq!(seen("127.0.0.1:9000"), "10.91.0.1");
}

fn ports_move_with_their_relay_to_the_next_network(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web -p 8080:80 -p '[::1]:8081:80' -p 5353:53/udp banner").ok();
    let mut names = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "udp-echo 53 web"));
    names.until("listening");
    let reached = || {
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
        banner_comes(|| lab.host(&get("127.0.0.1:8080")));
        banner_comes(|| lab.host(&get("[::1]:8080")));
        banner_comes(|| lab.host(&get("[::1]:8081")));
        lab.host(&peer(lab, "udp-ask ::1 5353")).ok().says("web");
    };
    reached();
    let mut client = lab.background(&peer(lab, "udp-keep ::1 5353 20"));
    client.until("web");
    lab.host("podwire network connect dual web").ok();
    lab.host("podwire network disconnect podman web").ok();
    reached();
    banner_comes(|| lab.outside(&get(&format!("[{HOST6}]:8080"))));
    // The same client, from the same port.
    drop(names);
    let mut names = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "udp-echo 53 moved"));
    names.until("listening");
    client.until("moved");
}

fn ports_of_a_running_container_change_while_a_connection_stays(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 9000:90 -p 8080:80 banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "tcp-echo 90"));
    server.until("listening");
    let mut kept = lab.background_outside(&peer(lab, &format!("tcp-talk {HOST4} 9000")));
    let mut relayed = lab.background(&peer(lab, "tcp-talk ::1 9000"));
    kept.until("connected");
    relayed.until("connected");
    let id = lab.ok("podwire inspect -f '{{.Id}}' web");
    assert_eq!(lab.ok("podwire update --publish-add 8081:80,8082:80/tcp --publish-rm 8080 web"), id);
    for port in [8081, 8082] {
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
        banner_comes(|| lab.host(&get(&format!("[::1]:{port}"))));
    }
    for address in [HOST4, "[::1]", "127.0.0.1"] {
        assert_eq!(lab.host(&get(&format!("{address}:8080"))).code, 7, "refused on {address}");
    }
    for client in [&mut kept, &mut relayed] {
        client.write("still here\n");
        client.until("still here");
    }
    lab.host("podwire ps").ok().says("0.0.0.0:8081->80/tcp, 0.0.0.0:8082->80/tcp, 0.0.0.0:9000->90/tcp");
    lab.host("podwire port web").ok().says("80/tcp -> 0.0.0.0:8081");
    let shown = "podwire inspect -f '{{json .HostConfig.PortBindings}}{{json .NetworkSettings.Ports}}' web";
    let shown = lab.ok(shown);
    assert!(shown.matches("\"8082\"").count() == 2 && !shown.contains("8080"), "{shown}");
    lab.host("podwire update --publish-add 80 web").ok();
    let chosen = lab.ok("podwire port web 80").lines().last().map(str::to_owned).expect("a port was chosen");
    banner_comes(|| lab.outside(&get(&chosen.replace("0.0.0.0", HOST4))));
}

fn binds(lab: &Lab, port: u16) -> bool {
    // With SO_REUSEADDR, as servers do.
    let line = format!(
        "python3 -c \"import socket; [socket.create_server((a, {port}), family=f) for f, a in \
         ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::1'))]\""
    );
    let run = lab.host(&line);
    assert!(run.code == 0 || run.err.contains("Address already in use"), "{}", run.err);
    run.code == 0
}

fn what_is_unpublished_is_free_and_what_is_published_is_held(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    assert!(!binds(lab, 8080));
    lab.host("podwire update --publish-rm 8080 --publish-add 8081:80 web").ok();
    assert!(binds(lab, 8080), "what is unpublished is free");
    assert!(!binds(lab, 8081), "what is published is held");
    lab.host("podwire run -d --name other -p 8081:80 banner").refuses(126, "(by the container web)");
    lab.host("podwire run -d --name other -p 8080:80 banner").ok();
    lab.host("podwire rm -f web").ok();
    assert!(binds(lab, 8081));
}

fn a_port_can_be_limited_to_this_host_in_one_step(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire update --publish-rm 8080 --publish-add 127.0.0.1:8080:80 web").ok();
    no_banner(lab.outside(&knock(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.host(&get("127.0.0.1:8080")));
    assert_eq!(lab.host(&get("[::1]:8080")).code, 7);
    lab.host("podwire update --publish-rm 8080 --publish-add 8080:80 web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.host(&get("[::1]:8080")));
    lab.host("podwire update --publish-rm 8080 --publish-add 8080:81 web").ok();
    assert_eq!(lab.ok("podwire port web"), "81/tcp -> 0.0.0.0:8080");
}

fn a_range_loses_some_of_its_ports(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8000-8009:80-89 banner").ok();
    lab.host("podwire update --publish-rm 8003-8004 web").ok();
    lab.host("podwire ps").ok().says("0.0.0.0:8000-8002->80-82/tcp, 0.0.0.0:8005-8009->85-89/tcp");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8000"))));
    assert!(binds(lab, 8003) && binds(lab, 8004) && !binds(lab, 8002) && !binds(lab, 8005));
    lab.host("podwire update --publish-rm :80 web").ok();
    assert_eq!(lab.outside(&get(&format!("{HOST4}:8000"))).code, 7, "refused");
}

fn a_range_of_equal_ports_is_cut_and_joined_while_a_connection_stays(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 9000-9009:9000-9009 banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "tcp-echo 9005"));
    server.until("listening");
    let mut kept = lab.background_outside(&peer(lab, &format!("tcp-talk {HOST4} 9005")));
    kept.until("connected");
    lab.host("podwire update --publish-rm 9003-9004 web").ok();
    lab.host("podwire ps").ok().says("0.0.0.0:9000-9002->9000-9002/tcp, 0.0.0.0:9005-9009->9005-9009/tcp");
    lab.outside(&peer(lab, &format!("tcp-crowd {HOST4} 9005 1"))).ok().says("1 answered");
    assert!(binds(lab, 9003));
    lab.host("podwire update --publish-rm 9000-9002,9005-9009 --publish-add 9000-9009:9000-9009 web").ok();
    lab.outside(&peer(lab, &format!("tcp-crowd {HOST4} 9005 1"))).ok().says("1 answered");
    assert!(!binds(lab, 9003));
    kept.write("still here\n");
    kept.until("still here");
}

fn a_udp_client_of_an_unpublished_port_is_answered_by_the_next_container(lab: &Lab) {
    load(lab);
    let mut servers = Vec::new();
    for name in ["first", "second"] {
        lab.host(&format!("podwire run -d --name {name} banner")).ok();
        let mut server = lab.background_inside(&sandbox(lab, name), &peer(lab, &format!("udp-echo 53 {name}")));
        server.until("listening");
        servers.push(server);
    }
    let mut client = lab.background_outside(&peer(lab, &format!("udp-keep {HOST4} 5353 20")));
    let mut local = lab.background(&peer(lab, "udp-keep ::1 5353 20"));
    client.until("sending");
    lab.host("podwire update --publish-add 5353:53/udp first").ok();
    client.until("first");
    local.until("first");
    lab.host("podwire update --publish-rm 5353/udp first").ok();
    lab.host("podwire update --publish-add 5353:53/udp second").ok();
    client.until("second");
    local.until("second");
}

fn changed_ports_survive_restarts_and_the_death_of_the_monitor(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    lab.host("podwire update --publish-rm 8080 --publish-add 8081:80,5353:53/udp web").ok();
    let there = |why: &str| {
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:8081"))));
        banner_comes(|| lab.host(&get("[::1]:8081")));
        assert!(binds(lab, 8080) && !binds(lab, 8081), "{why}");
        assert_eq!(lab.ok("podwire port web"), "80/tcp -> 0.0.0.0:8081\n53/udp -> 0.0.0.0:5353", "{why}");
    };
    banner_comes(|| lab.host(&get("[::1]:8081")));
    lab.host("m=$(pgrep -f '^podwire-monitor'); kill -9 $m; while [ -d /proc/$m ]; do sleep 0.01; done").ok();
    lab.host("podwire ps").ok();
    there("after the monitor was killed");
    lab.host("podwire stop -t 0 web").ok();
    lab.host("podwire start web").ok();
    there("after a restart");
}

fn ports_of_a_stopped_container_change_in_its_record(lab: &Lab) {
    load(lab);
    lab.host("podwire create --name web -p 8080:80 banner").ok();
    lab.host("podwire update --publish-add 8081:80 --publish-rm 81 web").refuses(125, "published are 8080:80/tcp");
    let before = lab.settled_state();
    lab.host("podwire update --publish-rm 8080 --publish-add 8081:80 web").ok();
    assert_eq!(before.difference(&lab.state()), "", "nothing in the kernel");
    lab.host("podwire inspect -f '{{json .HostConfig.PortBindings}}' web").ok().says("8081");
    lab.host("podwire start web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8081"))));
    assert_eq!(lab.outside(&get(&format!("{HOST4}:8080"))).code, 7);
}

fn a_change_of_ports_that_cannot_be_is_refused_and_changes_nothing(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    lab.host("podwire run -d --name alone --network none banner").ok();
    lab.host("podwire run -d --name other -p 8090:80 banner").ok();
    let mut server = lab.background(&peer(lab, "http 7777 0.0.0.0"));
    server.until("listening");
    let before = lab.settled_state();
    let refused = |arguments: &str, text: &str| {
        lab.host(&format!("podwire update {arguments}")).refuses(125, text);
    };
    let busy = "cannot bind tcp port :7777: address already in use";
    refused("--publish-add 8081:80,7777:80 web", busy);
    // What would be let go of is held as before.
    refused("--publish-rm 8080 --publish-add 127.0.0.1:8080:80,7777:80 web", busy);
    refused("--publish-add 8090:80 web", "address already in use (by the container other)");
    refused("--publish-add 8080:81 web", "address already in use");
    refused("--publish-rm 8081 web", "cannot unpublish 8081/tcp: published are 8080:80/tcp");
    refused("--publish-add abc web", "invalid port number");
    refused("--publish-add 1:1 alone", "network mode \"none\" does not support them");
    refused("--publish-add '[::1]:9:9/sctp' web", "only tcp and udp");
    refused("--health-cmd true web", "--health-cmd is not supported by podwire yet");
    refused("nope", "no such container");
    let plan = lab.host("podwire update --dry-run --publish-add 8081:80 --publish-rm 8080 web").ok();
    plan.says("publish4_any { tcp . 8081").says("publish4_any { tcp . 8080");
    before.same(lab, "after refusals and a dry run");
    assert!(!binds(lab, 8080) && binds(lab, 8081), "held as before");
    assert_eq!(lab.ok("podwire port web"), "80/tcp -> 0.0.0.0:8080");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.host(&get("[::1]:8080")));
}

fn an_address_that_is_not_there_cannot_be_published_on(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d -p 203.0.113.9:8080:80 banner")
        .refuses(126, "cannot bind tcp port 203.0.113.9:8080: cannot assign requested address");
    lab.host("podwire run -d --network dual -p '[2001:db8::9]:8080:80' banner")
        .refuses(126, "cannot bind tcp port [2001:db8::9]:8080: cannot assign requested address");
    lab.host("podwire run -d --name web banner").ok();
    lab.host("podwire update --publish-add 203.0.113.9:8080:80 web").refuses(125, "cannot assign requested address");
}

fn parallel_changes_of_one_containers_ports_all_count(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner").ok();
    let line = "for n in 1 2 3 4 5 6 7 8; do podwire update --publish-add 808$n:80 web & done; wait";
    lab.host(line).ok();
    assert_eq!(lab.ok("podwire port web").lines().count(), 8);
    for port in [8081, 8088] {
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
        assert!(!binds(lab, port));
    }
}

fn a_killed_update_is_all_or_nothing(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let (mut old, mut new) = ("8080".to_owned(), "8081".to_owned());
    for delay in ["0.002", "0.004", "0.006", "0.008", "0.010", "0.012", "0.014", "0.016", "0.02", "0.024", "0.03"] {
        lab.host(&format!(
            "timeout -s KILL {delay} podwire update --publish-rm {old} --publish-add {new}:80 web || true"
        ))
        .ok();
        let shown = lab.ok("podwire port web");
        if shown == format!("80/tcp -> 0.0.0.0:{new}") {
            std::mem::swap(&mut old, &mut new);
        } else {
            assert_eq!(shown, format!("80/tcp -> 0.0.0.0:{old}"), "after {delay} s");
        }
        let (is, is_not): (u16, u16) = (old.parse().expect("a port"), new.parse().expect("a port"));
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:{is}"))));
        banner_comes(|| lab.host(&get(&format!("[::1]:{is}"))));
        assert_eq!(lab.outside(&get(&format!("{HOST4}:{is_not}"))).code, 7, "after {delay} s");
        assert!(!binds(lab, is) && binds(lab, is_not), "held: {is} alone, after {delay} s");
    }
}

/// Who asks: the neighbour, the host, a container of another network, the container itself.
fn every_form(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire network create --ipv6 --subnet 10.92.0.0/24 --subnet fd92::/64 second").ok();
    let forms = format!(
        "-p 8080:80 -p '[::]:8081:80' -p '[{HOST6}]:8082:80' -p 0.0.0.0:8083:80 -p {HOST4}:8084:80 -p '[::1]:8085:80'"
    );
    lab.host(&format!("podwire run -d --name web --network dual {forms} banner")).ok();
    lab.host("podwire run -d --name far --network second banner").ok();
    lab.host("podwire run -d --name near --network dual banner").ok();
    banner_comes(|| lab.host(&get("127.0.0.1:8080")));
    let outer = [(HOST4.to_owned(), [8080, 8083, 8084].as_slice()), (format!("[{HOST6}]"), &[8080, 8081, 8082])];
    let own = [("127.0.0.1".to_owned(), [8080, 8083].as_slice()), ("[::1]".to_owned(), &[8080, 8081, 8085])];
    let urls = |addresses: &[(String, &[u16])]| -> Vec<(String, bool)> {
        let each = |(address, open): &(String, &[u16])| {
            let open = open.to_vec();
            let address = address.clone();
            (8080..=8085).map(move |port| (format!("http://{address}:{port}/"), open.contains(&port)))
        };
        addresses.iter().flat_map(each).collect()
    };
    let check = |who: &str, ask: &dyn Fn(&str) -> lab::Run, urls: Vec<(String, bool)>| {
        // All in one go: what is closed is refused, or not answered for a second.
        let each = |(url, _): &(String, bool)| {
            format!("(curl -s -g -o /dev/null --connect-timeout 1 -m 3 {url} && echo '{url} open') & ")
        };
        let script: String = urls.iter().map(each).collect();
        let said = ask(&format!("{script} wait")).out;
        for (url, open) in urls {
            assert_eq!(said.contains(&format!("{url} open")), open, "{who} {url}:\n{said}");
        }
    };
    check("outside", &|line| lab.outside(line), urls(&outer));
    check("the host", &|line| lab.host(line), [urls(&outer), urls(&own)].concat());
    for name in ["far", "near", "web"] {
        let inside = sandbox(lab, name);
        check(name, &|line| lab.inside(&inside, line), urls(&outer));
    }
}

fn every_form_of_a_port_is_where_it_says_when_bridged_packets_pass_the_ip_hooks(lab: &Lab) {
    every_form(lab);
}

fn every_form_of_a_port_is_where_it_says_when_bridged_packets_pass_no_ip_hook(lab: &Lab) {
    every_form(lab);
}
