//! Ports: every form of `-p`, and what is left of them.

use lab::trial::{Need, Sentence};
use lab::{HOST4, HOST6, Lab, LabOptions, sentences};

use crate::words::{banner_comes, dual, eventually, get, ip4, knock, load, no_banner, peer, plain, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        the_guides_web_server_is_seen_outside_and_rm_leaves_everything_as_it_was,
        stopping_and_starting_again_serves_again_and_rm_leaves_everything_as_it_was,
        the_web_server_is_seen_outside_over_ipv6_too,
        a_port_on_one_host_address_is_on_no_other,
        a_port_on_127_0_0_1_is_for_the_host_alone,
        a_range_of_ports_maps_each_to_its_own,
        one_container_port_can_be_published_twice,
        a_udp_port_answers_from_the_address_that_was_asked,
        a_port_without_a_host_port_gets_a_free_one,
        publish_all_gives_every_exposed_port_a_free_one,
        the_port_command_tells_what_is_published,
        a_published_port_is_held_so_that_no_other_program_binds_it,
        a_udp_client_that_keeps_sending_is_answered_by_the_new_container_within_a_second,
        tcp_and_udp_share_a_port_number,
        a_port_that_is_freed_can_be_published_at_once_again,
    ];
    all.extend(sentences![plain(); &[];
        the_guides_web_server_works_with_private_mounts_and_the_machines_own_cgroups,
    ]);
    all.extend(sentences![LabOptions::default(); &[Need::Sctp]; an_sctp_port_answers]);
    all
}

fn the_guides_web_server_is_seen_outside_and_rm_leaves_everything_as_it_was(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let id = lab.ok("podwire run -dt --name webserver -p 8080:80 banner");
    assert_eq!(id.len(), 64, "run -d prints the container's id: {id}");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire ps").ok().says("webserver").says("0.0.0.0:8080->80/tcp");
    lab.host("podwire rm -f webserver").ok();
    let refused = lab.outside(&get(&format!("{HOST4}:8080")));
    assert_eq!(refused.code, 7, "refused, not silent: {}", refused.err);
    before.same(lab, "after rm -f");
}

fn the_guides_web_server_works_with_private_mounts_and_the_machines_own_cgroups(lab: &Lab) {
    the_guides_web_server_is_seen_outside_and_rm_leaves_everything_as_it_was(lab);
}

fn stopping_and_starting_again_serves_again_and_rm_leaves_everything_as_it_was(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire stop web").ok();
    no_banner(lab.outside(&knock(&format!("{HOST4}:8080"))));
    lab.host("podwire start web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire rm -f web").ok();
    before.same(lab, "after stop, start and rm -f");
}

fn the_web_server_is_seen_outside_over_ipv6_too(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    dual(lab);
    lab.host("podwire run -d --name web --network dual -p 8080:80 -p '[::]:8081:80' banner").ok();
    banner_comes(|| lab.outside(&get(&format!("[{HOST6}]:8080"))));
    banner_comes(|| lab.outside(&get(&format!("[{HOST6}]:8081"))));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire rm -f web").ok();
    lab.host("podwire network rm dual").ok();
    before.same(lab, "after rm -f and network rm");
}

fn a_port_on_one_host_address_is_on_no_other(lab: &Lab) {
    load(lab);
    lab.host("ip addr add 192.168.99.110/24 dev eth0").ok();
    lab.host(&format!("podwire run -d --name web -p {HOST4}:8080:80 banner")).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    no_banner(lab.outside(&knock("192.168.99.110:8080")));
    no_banner(lab.host(&knock("127.0.0.1:8080")));
    lab.host("podwire run -d --name web2 -p 192.168.99.110:8080:80 banner").ok();
    banner_comes(|| lab.outside(&get("192.168.99.110:8080")));
}

fn a_port_on_127_0_0_1_is_for_the_host_alone(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 127.0.0.1:8080:80 banner").ok();
    banner_comes(|| lab.host(&get("127.0.0.1:8080")));
    no_banner(lab.host(&knock(&format!("{HOST4}:8080"))));
    no_banner(lab.outside(&knock(&format!("{HOST4}:8080"))));
}

fn a_range_of_ports_maps_each_to_its_own(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8000-8003:80-83 banner").ok();
    let inside = sandbox(lab, "web");
    let _udp: Vec<_> = (81..=83).map(|port| serve(lab, &inside, port)).collect();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8000"))));
    for port in 81..=83 {
        lab.outside(&format!("curl -sS -m 5 http://{HOST4}:{}/page{port}", port + 7920))
            .ok()
            .says(&format!("/page{port} on {port}"));
    }
    lab.host("podwire ps").ok().says("0.0.0.0:8000-8003->80-83/tcp");
}

/// A server in a sandbox that answers with the path that was asked and its own port.
fn serve(lab: &Lab, inside: &lab::Sandboxed, port: u16) -> lab::Background {
    let line = format!(
        "exec python3 -uc \"
from http.server import *
class A(BaseHTTPRequestHandler):
    def do_GET(self):
        self.wfile.write(('HTTP/1.0 200 OK\\r\\n\\r\\n' + self.path + ' on {port}').encode())
    def log_message(self, *a): pass
server = HTTPServer(('0.0.0.0', {port}), A)
print('listening')
server.serve_forever()\""
    );
    let mut server = lab.background_inside(inside, &line);
    server.until("listening");
    server
}

fn one_container_port_can_be_published_twice(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 -p 9090:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:9090"))));
}

fn a_udp_port_answers_from_the_address_that_was_asked(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 5353:53/udp banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "udp-echo 53 first"));
    server.until("listening");
    // A connected socket takes answers from the address it asked alone.
    lab.outside(&peer(lab, &format!("udp-ask {HOST4} 5353"))).ok().says("first");
    lab.host(&peer(lab, &format!("udp-ask {HOST4} 5353"))).ok().says("first");
    lab.host(&peer(lab, "udp-ask 127.0.0.1 5353")).ok().says("first");
    lab.host("podwire ps").ok().says("0.0.0.0:5353->53/udp");
}

fn a_port_without_a_host_port_gets_a_free_one(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 80 banner").ok();
    let shown = lab.ok("podwire port web 80");
    let port: u16 =
        shown.strip_prefix("0.0.0.0:").and_then(|p| p.parse().ok()).unwrap_or_else(|| panic!("a port: {shown}"));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
}

fn publish_all_gives_every_exposed_port_a_free_one(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -P banner").ok();
    let shown = lab.ok("podwire port web");
    let port = shown.strip_prefix("80/tcp -> 0.0.0.0:").unwrap_or_else(|| panic!("one port: {shown}"));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
}

fn the_port_command_tells_what_is_published(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 -p 127.0.0.1:5353:53/udp banner").ok();
    assert_eq!(lab.ok("podwire port web 80"), "0.0.0.0:8080");
    assert_eq!(lab.ok("podwire port web 53/udp"), "127.0.0.1:5353");
    lab.host("podwire port web").ok().says("80/tcp -> 0.0.0.0:8080").says("53/udp -> 127.0.0.1:5353");
    lab.host("podwire port web 81").refuses(125, "failed to find published port \"81\"");
}

fn a_published_port_is_held_so_that_no_other_program_binds_it(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 -p 8081:80/udp banner").ok();
    let bind = |kind: &str, port: u16| {
        lab.host(&format!(
            "python3 -c \"import socket; socket.socket(socket.AF_INET, socket.{kind}).bind(('0.0.0.0', {port}))\""
        ))
    };
    for (kind, port) in [("SOCK_STREAM", 8080), ("SOCK_DGRAM", 8081)] {
        let run = bind(kind, port);
        assert!(run.code != 0 && run.err.contains("Address already in use"), "{kind} {port}: {}", run.err);
    }
    lab.host("podwire rm -f web").ok();
    bind("SOCK_STREAM", 8080).ok();
    bind("SOCK_DGRAM", 8081).ok();
}

fn a_udp_client_that_keeps_sending_is_answered_by_the_new_container_within_a_second(lab: &Lab) {
    load(lab);
    let serve = |name: &str, at: &str| {
        lab.host(&format!("podwire run -d --name {name} --ip {at} -p 5353:53/udp banner")).ok();
        let mut server = lab.background_inside(&sandbox(lab, name), &peer(lab, &format!("udp-echo 53 {name}")));
        server.until("listening");
        server
    };
    let mut client = lab.background_outside(&peer(lab, &format!("udp-keep {HOST4} 5353 20")));
    client.until("sending");
    let first = serve("first", "10.88.0.10");
    client.until("first");
    drop(first);
    lab.host("podwire rm -f first").ok();
    let _second = serve("second", "10.88.0.20");
    let up = std::time::Instant::now();
    client.until("second");
    assert!(up.elapsed().as_millis() < 5000, "answered after {:?}", up.elapsed());
}

fn tcp_and_udp_share_a_port_number(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80/tcp banner").ok();
    lab.host("podwire run -d --name dns -p 8080:53/udp banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "dns"), &peer(lab, "udp-echo 53 names"));
    server.until("listening");
    lab.outside(&peer(lab, &format!("udp-ask {HOST4} 8080"))).ok().says("names");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
}

fn a_port_that_is_freed_can_be_published_at_once_again(lab: &Lab) {
    load(lab);
    for _ in 0..3 {
        lab.host("podwire run -d --name web -p 8080:80 banner").ok();
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
        lab.host("podwire rm -f web").ok();
    }
}

fn an_sctp_port_answers(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 9999:99/sctp banner").ok();
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "sctp-serve 99 association"));
    server.until("listening");
    let ask = || lab.outside(&peer(lab, &format!("sctp-ask {HOST4} 9999")));
    eventually(ask, |run| run.code == 0).ok().says("association");
    assert!(!ip4(lab, "web").is_empty());
}
