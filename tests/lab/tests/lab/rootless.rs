//! Networks of an ordinary user: the guide's words, what his containers reach and what they do not.

use lab::trial::{Need, Sentence};
use lab::{Background, HOST4, HOST6, Lab, LabOptions, OUTSIDE4, USER, sentences};

use crate::words::{banner_comes, eventually, get, knock, load_for_user as load, no_banner, peer};

pub(crate) fn sentences() -> Vec<Sentence> {
    let user = || LabOptions { user: true, ..LabOptions::default() };
    sentences![user(); &[Need::UidMap];
        the_guides_rootless_web_server_is_seen_by_a_second_container_and_outside_and_rm_leaves_nothing,
        a_port_below_1024_explains_itself_to_an_ordinary_user,
        a_port_that_somebody_has_is_refused_before_anything_is_made,
        an_ordinary_users_network_has_names_and_goes_when_it_is_removed,
        an_ordinary_users_published_port_shows_the_clients_own_address,
        an_ordinary_users_ports_change_while_the_container_runs,
        containers_that_name_no_network_are_kept_apart,
        an_ordinary_users_networks_are_kept_apart_and_internal_ones_have_no_way_out,
        the_hosts_loopback_address_is_reached_only_when_asked_for,
        pasta_and_slirp4netns_are_accepted_with_their_options,
        root_is_refused_what_is_an_ordinary_users,
        an_ordinary_users_names_are_asked_of_the_hosts_servers,
        unshare_shows_the_network_namespace_of_an_ordinary_users_networks,
        helpers_of_an_ordinary_user_that_are_killed_come_back,
        an_ordinary_users_network_keeps_clear_of_the_hosts_routes,
        where_users_are_given_no_tun_links_it_is_said_what_to_change_and_containers_still_reach_each_other,
        what_pasta_and_slirp4netns_options_ask_for_is_seen_outside,
        two_users_and_root_at_once_do_not_see_or_disturb_each_other,
    ]
}

/// What a user's command prints.
#[track_caller]
fn said(lab: &Lab, line: &str) -> String {
    lab.user(line).ok().out.trim_end().to_owned()
}

/// An address of a user's container, as it sees itself.
fn own_ip(lab: &Lab, name: &str) -> String {
    said(lab, &format!("podwire exec {name} hostname -i")).split(' ').next().unwrap_or_default().to_owned()
}

/// A web server that says whom it sees, in the network stack of a user's container.
fn whoami(lab: &Lab, name: &str, port: u16) -> Background {
    let pid = said(lab, &format!("podwire inspect -f '{{{{.State.Pid}}}}' {name}"));
    let mut server =
        lab.background(&format!("exec nsenter -t {pid} -n sh -c '{}'", peer(lab, &format!("http {port}"))));
    server.until("listening");
    server
}

/// The shell line by which a new container fetches a page. Its first process could not be ended from inside.
fn fetch(network: &str, url: &str) -> String {
    format!("podwire run --rm {network} banner sh -c 'timeout 2 wget -q -O - http://{url}/; exit $?'")
}

fn the_guides_rootless_web_server_is_seen_by_a_second_container_and_outside_and_rm_leaves_nothing(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let id = said(lab, "podwire run -dt --name webserver -p 8080:80 banner");
    assert_eq!(id.len(), 64, "run -d prints the container's id: {id}");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.outside(&get(&format!("[{HOST6}]:8080"))));
    banner_comes(|| lab.host(&get("127.0.0.1:8080")));
    banner_comes(|| lab.host(&get("[::1]:8080")));
    // "Rootless containers … the host's address and a port mapping".
    banner_comes(|| lab.user(&fetch("", &format!("{HOST4}:8080"))));
    banner_comes(|| lab.user(&fetch("", "host.containers.internal:8080")));
    lab.user("podwire ps").ok().says("webserver").says("0.0.0.0:8080->80/tcp");
    lab.user("podwire inspect -f '{{.HostConfig.NetworkMode}} {{json .NetworkSettings.Networks}}' webserver")
        .ok()
        .says("pasta {}");
    lab.user("podwire rm -f -t 0 webserver").ok();
    let refused = lab.outside(&get(&format!("{HOST4}:8080")));
    assert_eq!(refused.code, 7, "refused, not silent: {}", refused.err);
    before.same(lab, "after rm -f");
}

fn a_port_below_1024_explains_itself_to_an_ordinary_user(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let sentence = "rootlessport cannot expose privileged port 80, you can add \
                    'net.ipv4.ip_unprivileged_port_start=80' to /etc/sysctl.conf (currently 1024), or choose a larger \
                    port number (>= 1024): listen tcp 0.0.0.0:80: bind: permission denied";
    lab.user("podwire run --rm -p 80:80 banner true").refuses(126, sentence);
    lab.user("podwire run --rm --network podman -p 80:80 banner true").refuses(126, sentence);
    lab.user("podwire run --dry-run -p 80:80 banner true").refuses(126, sentence);
    before.same(lab, "after refusals");
    lab.host("echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    lab.user("podwire run -d --name web -p 80:80 banner").ok();
    banner_comes(|| lab.outside(&get(HOST4)));
    lab.user("podwire rm -f -t 0 web").ok();
}

fn a_port_that_somebody_has_is_refused_before_anything_is_made(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let mut server = lab.background(&peer(lab, "http 8080"));
    server.until("listening");
    lab.user("podwire run -d -p 8080:80 banner").refuses(126, "cannot bind tcp port :8080: address already in use");
    drop(server);
    lab.user("podwire run -d --name web -p 8080:80 banner").ok();
    lab.user("podwire run -d -p 8080:81 banner").refuses(126, "address already in use (by the container web)");
    lab.user("podwire run -d -p 8081:81/sctp banner").refuses(126, "can't forward protocol: sctp");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.user("podwire rm -fa -t 0").ok();
    before.same(lab, "after refusals");
}

fn an_ordinary_users_network_has_names_and_goes_when_it_is_removed(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    assert_eq!(said(lab, "podwire network create --ipv6 app"), "app");
    lab.user("podwire run -d --name db --network app --network-alias store -p 8080:80 banner").ok();
    banner_comes(|| lab.user(&fetch("--network app", "db")));
    banner_comes(|| lab.user(&fetch("--network app", "store.dns.podman")));
    banner_comes(|| lab.outside(&get(&format!("[{HOST6}]:8080"))));
    lab.user("podwire network create second").ok();
    lab.user("podwire network connect second db").ok();
    banner_comes(|| lab.user(&fetch("--network second", "db")));
    lab.user("podwire network disconnect app db").ok();
    // What is published follows to the network that is left.
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.user("podwire network reload db").ok();
    let names = said(lab, "podwire network ls --format '{{.Name}}'");
    assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["app", "podman", "second"]);
    lab.user("podwire network rm second").code(2);
    lab.user("podwire network rm -f -t 0 second app").ok();
    before.same(lab, "after network rm");
}

fn an_ordinary_users_published_port_shows_the_clients_own_address(lab: &Lab) {
    load(lab);
    for network in ["", "--network podman"] {
        lab.user(&format!("podwire run -d --name web {network} -p 8080:81 banner")).ok();
        let _server = whoami(lab, "web", 81);
        let seen = |run: lab::Run| run.ok().out.trim_end().to_owned();
        assert_eq!(seen(lab.outside(&get(&format!("{HOST4}:8080")))), OUTSIDE4);
        // The host's own loopback address is nobody's outside: then it is the gateway's.
        let gateway = said(lab, "podwire exec web ip route").split_whitespace().nth(2).unwrap_or_default().to_owned();
        assert_eq!(seen(lab.host(&get("127.0.0.1:8080"))), gateway);
        lab.user("podwire rm -f -t 0 web").ok();
    }
}

fn an_ordinary_users_ports_change_while_the_container_runs(lab: &Lab) {
    load(lab);
    lab.user("podwire run -d --name web -p 8080:80 banner").ok();
    lab.user("podwire update --publish-add 8081:80 --publish-rm 8080 web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8081"))));
    assert_eq!(lab.outside(&get(&format!("{HOST4}:8080"))).code, 7);
    lab.user("podwire update --publish-add 81:80 web").refuses(125, "rootlessport cannot expose privileged port 81");
    assert_eq!(said(lab, "podwire port web"), "80/tcp -> 0.0.0.0:8081");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8081"))));
    lab.user("podwire rm -f -t 0 web").ok();
}

fn containers_that_name_no_network_are_kept_apart(lab: &Lab) {
    load(lab);
    lab.user("podwire run -d --name a banner").ok();
    lab.user("podwire run -d --name b --cap-add NET_ADMIN banner").ok();
    let (a, b) = (own_ip(lab, "a"), own_ip(lab, "b"));
    assert!(a.starts_with("10.42.") && b.starts_with("10.42."), "{a} {b}");
    let knock_from_b = format!("podwire exec b timeout 1 wget -q -O - http://{a}/");
    no_banner(lab.user(&knock_from_b));
    // Nor by way of the gateway.
    lab.user(&format!("podwire exec b ip route add {a}/32 via 10.42.0.1")).ok();
    no_banner(lab.user(&knock_from_b));
    lab.user("podwire run --rm --cap-add NET_RAW banner ping -c 1 -W 1 10.42.0.1").ok();
    lab.user("podwire rm -fa -t 0").ok();
}

fn an_ordinary_users_networks_are_kept_apart_and_internal_ones_have_no_way_out(lab: &Lab) {
    load(lab);
    let mut server = lab.background_outside(&peer(lab, "http 7000"));
    server.until("listening");
    lab.user("podwire network create a; podwire network create b; podwire network create --internal c").ok();
    lab.user("podwire run -d --name web --network a -p 8080:80 banner").ok();
    let web = own_ip(lab, "web");
    no_banner(lab.user(&fetch("--network b", &web).replace("timeout 2", "timeout 1")));
    let outside = format!("{OUTSIDE4}:7000");
    assert_eq!(lab.user(&fetch("--network a", &outside)).ok().out.trim_end(), HOST4);
    assert_eq!(lab.user(&fetch("", &outside)).ok().out.trim_end(), HOST4);
    // On an internal network even who makes himself a route stays inside.
    let routed =
        format!("sh -c 'ip route add default via 10.89.2.1; timeout 1 wget -q -O - http://{outside}/; exit $?'");
    assert_ne!(lab.user(&format!("podwire run --rm --network c --cap-add NET_ADMIN banner {routed}")).code, 0);
    // A published port is for everybody, by the host's address.
    banner_comes(|| lab.user(&fetch("--network b", &format!("{HOST4}:8080"))));
    lab.user("podwire rm -fa -t 0 && podwire network rm a b c").ok();
}

fn the_hosts_loopback_address_is_reached_only_when_asked_for(lab: &Lab) {
    load(lab);
    let mut server = lab.background(&peer(lab, "http 7000 127.0.0.1"));
    server.until("listening");
    let mut open = lab.background(&peer(lab, &format!("http 7001 {HOST4}")));
    open.until("listening");
    let code = |network: &str, url: &str| lab.user(&fetch(network, url).replace("timeout 2", "timeout 1")).code;
    for url in ["169.254.1.2:7000", "10.42.0.1:7000", "10.0.2.2:7000", "127.0.0.1:7000", &format!("{HOST4}:7000")] {
        assert_ne!(code("", url), 0, "{url}");
        assert_ne!(code("--network slirp4netns", url), 0, "{url}");
    }
    assert_eq!(code("--network slirp4netns:allow_host_loopback=true", "10.0.2.2:7000"), 0);
    assert_eq!(code("--network pasta:--map-gw", "10.42.0.1:7000"), 0);
    assert_eq!(code("--network pasta:--map-host-loopback,10.9.9.9", "10.9.9.9:7000"), 0);
    // What listens at the host's own address is open to all, unless it is closed.
    assert_eq!(code("", "host.containers.internal:7001"), 0);
    assert_ne!(code("--network pasta:--no-host", &format!("{HOST4}:7001")), 0);
}

fn pasta_and_slirp4netns_are_accepted_with_their_options(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let ask =
        |network: &str, question: &str| said(lab, &format!("podwire run --rm --network {network} banner {question}"));
    let slirp = ask("slirp4netns", "sh -c 'ip addr show tap0; ip route; cat /etc/hosts'");
    for word in
        ["inet 10.0.2.100/24", "inet6 fd00::", "default via 10.0.2.2 dev tap0", "169.254.1.2\thost.containers.internal"]
    {
        assert!(slirp.contains(word), "{word} in {slirp}");
    }
    let small = ask("slirp4netns:cidr=10.41.0.0/24,mtu=1400,enable_ipv6=false", "ip addr show tap0");
    assert!(small.contains("10.41.0.100/24") && small.contains("mtu 1400") && !small.contains("fd00"), "{small}");
    let pasta = ask("pasta:-a,10.5.0.9,-n,24,-g,10.5.0.1,-I,in0,-4", "sh -c 'ip addr show in0; ip route'");
    for word in ["inet 10.5.0.9/24", "default via 10.5.0.1 dev in0", "mtu 65520"] {
        assert!(pasta.contains(word) && !pasta.contains("inet6 fd"), "{word} in {pasta}");
    }
    // Two at once have addresses of their own on the same subnet.
    lab.user("podwire run -d --name one --network slirp4netns banner && podwire run -d --name two --network slirp4netns banner").ok();
    assert_eq!((own_ip(lab, "one"), own_ip(lab, "two")), ("10.0.2.100".to_owned(), "10.0.2.101".to_owned()));
    lab.user("podwire run -d --name three --network pasta:-t,8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.user("podwire network connect podman one")
        .refuses(125, "\"slirp4netns\" is not supported: invalid network mode");
    lab.user("podwire network reload three").refuses(125, "\"pasta\" is not supported: invalid network mode");
    lab.user("podwire network reload -a").ok();
    lab.user("podwire network inspect pasta").code(125);
    lab.user("podwire rm -fa -t 0").ok();
    for (network, words) in [
        ("pasta:--bogus", "pasta failed with exit code 1:\nunrecognized option '--bogus'"),
        ("slirp4netns:foo=bar", "unknown option for slirp4netns: \"foo=bar\""),
        ("slirp4netns:port_handler=foo", "unknown port_handler for slirp4netns: \"foo\""),
        ("slirp4netns:cidr=bad", "invalid cidr \"bad\""),
        ("slirp4netns:outbound_addr=eth7", "invalid outbound_addr \"eth7\": the host has no such interface"),
    ] {
        lab.user(&format!("podwire run --rm --network {network} banner true")).refuses(126, words);
    }
    lab.user("podwire run --rm --ip 10.42.0.9 banner true").refuses(
        125,
        "invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking",
    );
    before.same(lab, "after pasta and slirp4netns");
}

fn root_is_refused_what_is_an_ordinary_users(lab: &Lab) {
    crate::words::load(lab);
    lab.host("podwire run --rm --network pasta banner true").refuses(
        125,
        "invalid config provided: pasta networking is only supported for rootless mode or when inside a nested userns",
    );
    lab.host("podwire run --rm --network slirp4netns banner true")
        .refuses(125, "slirp4netns networking is only supported for rootless mode");
    lab.host("podwire unshare --rootless-netns true").refuses(125, "please use unshare with rootless");
}

fn an_ordinary_users_names_are_asked_of_the_hosts_servers(lab: &Lab) {
    load(lab);
    lab.host("echo nameserver 127.0.0.1 >/run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf").ok();
    let mut server = lab.background(&peer(lab, "dns-serve 127.0.0.1 192.0.2.7"));
    server.until("serving");
    lab.user("podwire network create app").ok();
    for network in ["", "--network app", "--network podman", "--network slirp4netns"] {
        let ask = format!("podwire run --rm {network} banner nslookup www.example");
        eventually(|| lab.user(&ask), |run| run.out.contains("192.0.2.7")).says("192.0.2.7");
    }
    assert_eq!(said(lab, "podwire run --rm banner cat /etc/resolv.conf"), "nameserver 169.254.1.1");
    // As slirp4netns: the third address of its subnet, which is asked as any server.
    for (mode, server) in [("slirp4netns", "10.0.2.3"), ("slirp4netns:cidr=10.41.0.0/24", "10.41.0.3")] {
        let conf = said(lab, &format!("podwire run --rm --network {mode} banner cat /etc/resolv.conf"));
        assert_eq!(conf, format!("nameserver {server}"));
        let ask = format!("podwire run --rm --network {mode} banner nslookup www.example {server}");
        eventually(|| lab.user(&ask), |run| run.out.contains("192.0.2.7")).says("192.0.2.7");
    }
    lab.user("podwire network rm app").ok();
}

fn unshare_shows_the_network_namespace_of_an_ordinary_users_networks(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    // As in Podman also without any container; then it goes with the command.
    lab.user("podwire unshare --rootless-netns ip -br link").ok().says("pwrelay");
    lab.user("podwire unshare --rootless-netns sh -c 'exit 7'").code(7);
    lab.user("podwire unshare --rootless-netns /nowhere").code(127);
    before.same(lab, "after unshare");
    let mut server = lab.background_outside(&peer(lab, "http 7000"));
    server.until("listening");
    lab.user("podwire run -d --name web banner").ok();
    lab.user("podwire unshare --rootless-cni ip -br addr").ok().says("10.42.0.1/16");
    lab.user(&format!("podwire unshare --rootless-netns {}", get(&format!("{OUTSIDE4}:7000")))).ok().says(HOST4);
    // Containers that end meanwhile leave it to who is in there.
    let mut guest = lab.background_user("podwire unshare --rootless-netns sh -c 'echo in; read _; ip -br link'");
    guest.until("in");
    lab.user("podwire rm -f -t 0 web").ok();
    guest.write("\n");
    guest.wait().ok().says("pwrelay");
    before.same(lab, "after unshare and rm");
}

fn helpers_of_an_ordinary_user_that_are_killed_come_back(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.user("podwire network create app").ok();
    lab.user("podwire run -d --name web --network app -p 8080:80 banner").ok();
    lab.user("podwire run -d --name two --network app banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    for killed in ["podwire-relay", "podwire-netd", "podwire-(relay|netd)"] {
        lab.host(&format!("pkill -9 -f '^{killed}'")).ok();
        banner_comes(|| lab.outside(&knock(&format!("{HOST4}:8080"))));
        banner_comes(|| lab.user("podwire exec two timeout 2 wget -q -O - http://web/"));
        banner_comes(|| lab.user(&fetch("", &format!("{HOST4}:8080"))));
    }
    // Without a monitor the next command does it.
    lab.host("pkill -9 -f '^podwire-(monitor|relay)'").ok();
    lab.user("podwire ps").ok();
    banner_comes(|| lab.outside(&knock(&format!("{HOST4}:8080"))));
    lab.user("podwire rm -fa -t 0 && podwire network rm app").ok();
    before.same(lab, "after helpers were killed");
}

fn an_ordinary_users_network_keeps_clear_of_the_hosts_routes(lab: &Lab) {
    load(lab);
    lab.host("ip route add 10.89.0.0/16 via 192.168.99.1; ip route add 10.42.0.0/16 via 192.168.99.1").ok();
    lab.user("podwire network create app").ok();
    lab.user("podwire network inspect app").ok().says("10.90.0.0/24");
    lab.user("podwire run -d --name web banner").ok();
    assert!(own_ip(lab, "web").starts_with("10.43."), "{}", own_ip(lab, "web"));
    // What the host reaches there, the container does.
    lab.host("ip route del 10.42.0.0/16 via 192.168.99.1").ok();
    lab.user("podwire rm -f -t 0 web && podwire network rm app").ok();
}

fn where_users_are_given_no_tun_links_it_is_said_what_to_change_and_containers_still_reach_each_other(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("mount -t tmpfs -o mode=755,dev tmpfs /dev/net && mknod -m 600 /dev/net/tun c 10 200").ok();
    let sentence = "/dev/net/tun is closed to users, so containers of an ordinary user have no way out: as root, \
                    `chmod 0666 /dev/net/tun`. Without it there are --network none, --network host, and bridge networks";
    lab.user("podwire run --rm banner true").refuses(126, sentence);
    lab.user("podwire run --rm --network podman -p 8080:80 banner true").refuses(126, sentence);
    lab.user("podwire unshare --rootless-netns true").refuses(125, sentence);
    lab.user("podwire run --rm --network none banner true && podwire run --rm --network host banner true").ok();
    lab.user("podwire network create app && podwire network create second").ok();
    let told = lab.user("podwire run -d --name web --network app banner").ok();
    assert!(told.err.contains(sentence) && told.err.lines().count() == 1, "{}", told.err);
    banner_comes(|| lab.user(&fetch("--network app", "web")));
    lab.user("podwire network connect second web").ok();
    banner_comes(|| lab.user(&fetch("--network second", "web")));
    lab.user("podwire update --publish-add 8080:80 web").refuses(125, "/dev/net/tun is closed to users");
    // Once it is open, there is a way out, for those too who are up.
    lab.host("chmod 0666 /dev/net/tun").ok();
    let mut server = lab.background_outside(&peer(lab, "http 7000"));
    server.until("listening");
    lab.user(&fetch("", &format!("{OUTSIDE4}:7000"))).ok().says(HOST4);
    lab.user(&format!("podwire exec web timeout 2 wget -q -O - http://{OUTSIDE4}:7000/")).ok().says(HOST4);
    lab.user("podwire rm -fa -t 0 && podwire network rm app second").ok();
    lab.host("rm /dev/net/tun").ok();
    lab.user("podwire run --rm banner true").refuses(
        126,
        "/dev/net/tun is not there, so containers of an ordinary user have no way out: as root, `modprobe tun`",
    );
    lab.host("umount /dev/net").ok();
    before.same(lab, "after days without TUN links");
}

fn what_pasta_and_slirp4netns_options_ask_for_is_seen_outside(lab: &Lab) {
    load(lab);
    lab.host("ip addr add 192.168.99.110/24 dev eth0; ip -6 addr add fd99::110/64 dev eth0 nodad").ok();
    let mut server = lab.background_outside(&peer(lab, "http 7000"));
    server.until("listening");
    let seen = |network: &str, at: &str| said(lab, &fetch(&format!("--network {network}"), &format!("{at}:7000")));
    assert_eq!(seen("slirp4netns", OUTSIDE4), HOST4);
    assert_eq!(seen("slirp4netns:outbound_addr=192.168.99.110", OUTSIDE4), "192.168.99.110");
    assert_eq!(seen("slirp4netns:outbound_addr=eth0", OUTSIDE4), HOST4);
    assert_eq!(seen("pasta:-o,192.168.99.110", OUTSIDE4), "192.168.99.110");
    assert_eq!(seen("pasta:--outbound-if4,eth0", OUTSIDE4), HOST4);
    // An address that the host has not.
    assert_ne!(lab.user(&fetch("--network slirp4netns:outbound_addr=192.0.2.9", &format!("{OUTSIDE4}:7000"))).code, 0);
    for handler in ["rootlesskit", "slirp4netns"] {
        let run = format!(
            "podwire run -d --name web --network slirp4netns:cidr=10.41.0.0/24,port_handler={handler} -p 8080:81 banner"
        );
        lab.user(&run).ok();
        assert_eq!(own_ip(lab, "web"), "10.41.0.100");
        let _server = whoami(lab, "web", 81);
        assert_eq!(lab.outside(&get(&format!("{HOST4}:8080"))).ok().out.trim_end(), OUTSIDE4);
        lab.user("podwire rm -f -t 0 web").ok();
    }
}

/// The line by which a second ordinary user runs another one; he is made when he is not there.
fn as_second(line: &str) -> String {
    let make = "id second >/dev/null 2>&1 || { echo second:x:2001:2001::/home/second:/bin/sh >>/etc/passwd; \
                echo second:x:2001: >>/etc/group; for f in subuid subgid; do echo second:300000:65536 >>/etc/$f; done; \
                install -d -m 700 -o 2001 -g 2001 /home/second /run/user/2001; }";
    let quoted = line.replace('\'', "'\\''");
    format!(
        "{make}; cd /home/second && setpriv --reuid=second --regid=second --init-groups --reset-env env \
         XDG_RUNTIME_DIR=/run/user/2001 PATH=/run/lab/bin:$PATH sh -c '{quoted}'"
    )
}

fn two_users_and_root_at_once_do_not_see_or_disturb_each_other(lab: &Lab) {
    load(lab);
    crate::words::load(lab);
    let first = |line: &str| lab.user(line);
    let second = |line: &str| lab.host(&as_second(line));
    let root = |line: &str| lab.host(line);
    second("true").ok();
    lab.host(&format!("install -m 644 -o second /home/{USER}/banner.tar /home/second/")).ok();
    second("podwire load -q -i banner.tar").ok();
    let before = lab.settled_state();
    type Runs<'a> = &'a dyn Fn(&str) -> lab::Run;
    let all: [(Runs<'_>, u16); 3] = [(&first, 8081), (&second, 8082), (&root, 8083)];
    // The same names, and the same subnets, are three different ones.
    for (run, port) in all {
        run("podwire network create --subnet 10.89.7.0/24 app").ok();
        run(&format!("podwire run -d --name web --network app -p {port}:80 banner")).ok();
    }
    for (run, port) in all {
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
        banner_comes(|| run(&fetch("--network app", "web")));
        assert_eq!(
            run("podwire ps --format '{{.Names}} {{.Ports}}'").ok().out.trim(),
            format!("web 0.0.0.0:{port}->80/tcp")
        );
        assert_eq!(run("podwire ps -aq").ok().out.lines().count(), 1);
        for (_, other) in all.iter().filter(|(_, other)| *other != port) {
            run(&format!("podwire run -d -p {other}:80 banner")).refuses(126, "address already in use");
            // By the host's address a user's reach the others', as anybody does; what listens on the host, a user's
            // relay too, is closed to root's.
            if port != 8083 {
                banner_comes(|| run(&fetch("", &format!("{HOST4}:{other}"))));
            }
        }
    }
    // One's helpers and commands are nobody else's.
    second("podwire rm -f -t 0 nobodys").code(0);
    first("kill -9 $(pgrep -u $(id -u) podwire-relay) $(pgrep -u $(id -u) podwire-netd)").ok();
    for port in [8081, 8082, 8083] {
        banner_comes(|| lab.outside(&knock(&format!("{HOST4}:{port}"))));
    }
    first("podwire rm -fa -t 0 && podwire network rm app").ok();
    for (run, port) in &all[1..] {
        banner_comes(|| lab.outside(&knock(&format!("{HOST4}:{port}"))));
        banner_comes(|| run(&fetch("--network app", "web")));
    }
    root("podwire rm -fa -t 0 && podwire network rm app").ok();
    banner_comes(|| lab.outside(&knock(&format!("{HOST4}:8082"))));
    second("podwire rm -fa -t 0 && podwire network rm app").ok();
    before.same(lab, "after two users and root");
}
