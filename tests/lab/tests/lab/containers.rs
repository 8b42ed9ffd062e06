//! A container and its networks over its life: names, files, routes, addresses, events.

use lab::trial::Sentence;
use lab::{HOST4, Lab, LabOptions, sentences};

use crate::words::{banner_comes, dual, get, ip4, load};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        the_network_with_the_highest_priority_gives_the_default_route_at_once,
        a_host_interface_name_is_given_and_refused_with_who_has_it,
        resolv_conf_names_the_gateways_of_networks_with_names_and_follows_them,
        a_restarted_container_has_its_addresses_and_ports_again,
        an_address_asked_for_waits_for_its_container_unless_nothing_else_is_free,
        a_clash_of_addresses_or_macs_names_the_holder,
        a_container_that_shares_a_network_follows_its_owner,
        a_foreign_namespace_is_used_shown_and_left_alone,
        names_that_could_break_a_file_are_refused_in_one_line,
        events_tell_a_life_in_order_and_are_followed,
        restart_keeps_a_container_that_rm_would_remove,
        a_renamed_container_is_found_by_its_new_name_alone,
        a_network_is_shared_through_a_container_that_shares_it,
    ]
}

fn the_network_with_the_highest_priority_gives_the_default_route_at_once(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.90.0.0/24 shop").ok();
    dual(lab);
    lab.host("podwire run -d --name web --network shop --network dual:gw_priority=1 banner").ok();
    lab.host("podwire exec web ip route").ok().says("default via 10.91.0.1");
    lab.host("podwire exec web ip -6 route").ok().says("default via fd91::1");
    lab.host("podwire network disconnect dual web").ok();
    lab.host("podwire exec web ip route").ok().says("default via 10.90.0.1");
    lab.host("podwire network connect dual web").ok();
    let routes = lab.ok("podwire exec web ip route");
    assert!(routes.contains("default via 10.90.0.1") && !routes.contains("via 10.91.0.1"), "{routes}");
    lab.host("podwire exec web ip -6 route").ok().says("default via fd91::1");
    lab.host("podwire network disconnect dual web").ok();
    lab.host("podwire network connect --gw-priority 7 dual web").ok();
    let routes = lab.ok("podwire exec web ip route");
    assert!(routes.contains("default via 10.91.0.1") && !routes.contains("via 10.90.0.1"), "{routes}");
}

fn a_host_interface_name_is_given_and_refused_with_who_has_it(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name web --network shop:host_interface_name=vethweb banner").ok();
    lab.host("ip link show vethweb").ok().says("master podman1");
    let before = lab.settled_state();
    let taken = lab.host("podwire run -d --network podman:host_interface_name=vethweb banner");
    taken.refuses(126, "host interface name \"vethweb\" is already used by container ID ");
    let taken = lab.host("podwire run -d --network podman:host_interface_name=podman1 banner");
    taken.refuses(126, "host interface name \"podman1\" is already used by network shop");
    lab.host("podwire run -d --network podman:host_interface_name=eth0 banner").refuses(126, "ip -d link show eth0");
    before.same(lab, "after names that were taken");
}

fn resolv_conf_names_the_gateways_of_networks_with_names_and_follows_them(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.90.0.0/24 shop").ok();
    dual(lab);
    let file = || lab.ok("podwire exec web cat /etc/resolv.conf");
    lab.host("podwire run -d --name web --network shop --dns 192.0.2.9 --dns-option ndots:2 banner").ok();
    let first = file();
    assert!(first.starts_with("search dns.podman"), "{first}");
    assert!(first.contains("nameserver 10.90.0.1\n") && !first.contains("192.0.2.9"), "{first}");
    assert!(first.ends_with("ndots:2"), "{first}");
    lab.host("podwire network connect dual web").ok();
    let both = file();
    assert!(both.contains("nameserver 10.90.0.1\nnameserver 10.91.0.1\nnameserver fd91::1\n"), "{both}");
    assert_eq!(both.matches("dns.podman").count(), 1, "{both}");
    lab.host("podwire network disconnect shop web").ok();
    assert!(!file().contains("10.90.0.1"), "{}", file());
    lab.host("podwire network disconnect dual web").ok();
    lab.host("podwire network connect podman web").ok();
    assert!(file().contains("nameserver 192.0.2.9\n") && !file().contains("dns.podman"), "{}", file());
    let search = lab.ok("podwire run --rm --network dual --dns-search a.example banner cat /etc/resolv.conf");
    assert!(search.starts_with("search a.example\nnameserver 10.91.0.1\nnameserver fd91::1"), "{search}");
}

fn a_restarted_container_has_its_addresses_and_ports_again(lab: &Lab) {
    load(lab);
    dual(lab);
    lab.host("podwire run -d --name web --network dual -p 80 banner").ok();
    lab.host("podwire run -d --name fixed --network dual:ip=10.91.0.77,mac=02:00:00:00:00:77 banner").ok();
    let shown = |name: &str| {
        let fields = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}} {{.MacAddress}}{{end}}";
        lab.ok(&format!("podwire inspect -f '{fields}' {name}"))
    };
    let before = [shown("web"), shown("fixed"), lab.ok("podwire port web")];
    assert!(before[1].starts_with("10.91.0.77 ") && before[1].ends_with(" 02:00:00:00:00:77"), "{}", before[1]);
    assert_eq!(lab.ok("podwire restart -t 0 web fixed"), "web\nfixed");
    assert_eq!([shown("web"), shown("fixed"), lab.ok("podwire port web")], before);
    lab.host("podwire stop -a").ok();
    lab.host("podwire run -d --name other --network dual banner").ok();
    lab.host("podwire start --all").ok();
    assert_eq!([shown("web"), shown("fixed"), lab.ok("podwire port web")], before);
    let port = before[2].rsplit(':').next().unwrap_or_default();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
}

fn an_address_asked_for_waits_for_its_container_unless_nothing_else_is_free(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.90.0.0/29 tiny").ok();
    lab.host("podwire create --name later --network tiny:ip=10.90.0.3 banner").ok();
    for (name, ip) in [("a", "10.90.0.2"), ("b", "10.90.0.4"), ("c", "10.90.0.5"), ("d", "10.90.0.6")] {
        lab.host(&format!("podwire run -d --name {name} --network tiny banner")).ok();
        assert_eq!(ip4(lab, name), ip);
    }
    lab.host("podwire run -d --name e --network tiny banner").ok();
    assert_eq!(ip4(lab, "e"), "10.90.0.3");
    lab.host("podwire start later")
        .refuses(126, "requested ip address 10.90.0.3 is already allocated to container ID ");
    lab.host("podwire run --rm --network tiny banner true").refuses(126, "failed to find free IP in range");
    lab.host("podwire rm -f e").ok();
    lab.host("podwire start later").ok();
    assert_eq!(ip4(lab, "later"), "10.90.0.3");
}

fn a_clash_of_addresses_or_macs_names_the_holder(lab: &Lab) {
    load(lab);
    let id = lab.ok("podwire run -d --name web --ip 10.88.7.7 --mac-address 02:00:00:00:00:07 banner");
    let before = lab.settled_state();
    let clash = lab.host("podwire run -d --ip 10.88.7.7 banner");
    clash.refuses(126, &format!("requested ip address 10.88.7.7 is already allocated to container ID {id} (web)"));
    let clash = lab.host("podwire run -d --mac-address 02:00:00:00:00:07 banner");
    clash.refuses(
        126,
        &format!(
            "requested mac address 02:00:00:00:00:07 is already used on network podman by container ID {id} (web)"
        ),
    );
    before.same(lab, "after clashes");
}

fn a_container_that_shares_a_network_follows_its_owner(lab: &Lab) {
    load(lab);
    dual(lab);
    let owner = lab.ok("podwire create --name owner banner");
    let sharer = lab.ok("podwire run -d --name sharer --network container:owner banner sleep 1000");
    lab.host("podwire exec sharer wget -qO- http://127.0.0.1/").ok().says(lab::BANNER);
    lab.host("podwire network connect dual owner").ok();
    lab.host("podwire exec sharer ip -4 addr show dev eth1").ok().says("10.91.0.2/24");
    let hosts = lab.ok("podwire exec owner cat /etc/hosts");
    assert!(hosts.contains("10.91.0.2\t") && hosts.ends_with("127.0.0.1\tsharer"), "{hosts}");
    assert_eq!(lab.ok("podwire exec sharer cat /etc/hosts"), hosts);
    lab.host("podwire exec sharer cat /etc/resolv.conf").ok().says("nameserver 10.91.0.1");
    let networks = "podwire inspect -f '{{json .NetworkSettings.Networks}}'";
    assert_eq!(lab.ok(&format!("{networks} sharer")), lab.ok(&format!("{networks} owner")));
    let dependent = format!(
        "container {owner} has dependent containers which must be removed before it: {sharer}: container already exists"
    );
    lab.host("podwire rm -f owner").refuses(125, &dependent);
    lab.host("podwire rm owner").refuses(2, "as it is running");
    lab.host("podwire stop -t 0 sharer").ok();
    assert!(!lab.ok("podwire exec owner cat /etc/hosts").contains("sharer"));
    lab.host("podwire stop owner").ok();
    let words = format!("some dependencies of container {sharer} are not started: {owner}: container state improper");
    lab.host("podwire restart sharer").refuses(125, &words);
    lab.host("podwire start sharer").ok();
    assert_eq!(lab.ok("podwire ps -q").lines().count(), 2);
    assert_eq!(lab.ok("podwire rm -f -t 0 --depend owner"), format!("{sharer}\nowner"));
}

fn a_foreign_namespace_is_used_shown_and_left_alone(lab: &Lab) {
    load(lab);
    lab.host("ip netns add theirs && ip -n theirs link add d0 type veth peer name d1").ok();
    lab.host("ip -n theirs addr add 198.51.100.1/24 dev d0 && ip -n theirs link set d0 up").ok();
    lab.host("ip -n theirs addr add fd51::1/64 dev d0 nodad && ip -n theirs addr add 198.51.100.9/24 dev d0").ok();
    lab.host("mkdir -p /etc/netns/theirs && echo nameserver 127.0.0.1 > /etc/netns/theirs/resolv.conf").ok();
    let whole = lab.ok("ip -n theirs -d addr; ip -n theirs route");
    lab.host("podwire run -d --name guest --network ns:/run/netns/theirs banner").ok();
    lab.host("podwire exec guest cat /etc/resolv.conf").ok().says("nameserver 127.0.0.1");
    lab.host("podwire exec guest ip -4 addr show dev d0").ok().says("198.51.100.1/24");
    let fields = "{{.IPAddress}} {{.GlobalIPv6Address}} {{.SecondaryIPAddresses}}";
    let shown = lab.ok(&format!("podwire inspect -f '{{{{with .NetworkSettings}}}}{fields}{{{{end}}}}' guest"));
    assert_eq!(shown, "198.51.100.1 fd51::1 [{198.51.100.9 24}]");
    lab.host("podwire rm -f -t 0 guest").ok();
    assert_eq!(lab.ok("ip -n theirs -d addr; ip -n theirs route"), whole);
    // The host's own, by its file.
    lab.host("podwire run --rm --network ns:/proc/self/ns/net banner ip -4 addr show dev eth0").ok().says(HOST4);
    lab.host("ip -4 addr show dev eth0").ok().says(HOST4);
}

fn names_that_could_break_a_file_are_refused_in_one_line(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name web banner").ok();
    let before = lab.settled_state();
    let long = "a".repeat(64);
    for alias in ["'a b'", "'a\n1.2.3.4 b'", "a..b", "-a", "''", "'a;b'", "$(printf 'a\\tb')", &long] {
        for command in ["run --rm --network-alias", "run --rm --network shop:alias="] {
            let gap = if command.ends_with('=') { "" } else { "=" };
            let line = format!("podwire {command}{gap}{alias} banner true");
            if alias == "''" && gap == "=" {
                // As in Podman an empty list is no list.
                continue;
            }
            let refused = lab.host(&line).code(125);
            assert_eq!(refused.err.lines().filter(|l| l.starts_with("Error: ")).count(), 1, "{line}: {}", refused.err);
        }
    }
    lab.host("podwire network connect --alias 'a b' shop web").refuses(125, "is not a valid domain");
    lab.host("podwire run --rm --hostname 'h\n1.2.3.4 evil' banner true").refuses(125, "invalid hostname");
    lab.host("podwire run --rm --add-host 'a b:1.2.3.4' banner true").refuses(125, "is not a valid domain");
    before.same(lab, "after names that were refused");
}

fn events_tell_a_life_in_order_and_are_followed(lab: &Lab) {
    load(lab);
    let mut follower = lab.background("podwire events --format '{{.Type}} {{.Status}} {{.Name}}{{.Network}}'");
    // It is there when it has told the first.
    for n in 0..50 {
        lab.host(&format!("podwire network create first{n}")).ok();
        lab.host(&format!("podwire network rm first{n}")).ok();
        if follower.output().contains("network create first") {
            break;
        }
    }
    lab.host("podwire network create --subnet 10.90.0.0/24 shop").ok();
    lab.host("podwire run -d --name web --label a=b banner").ok();
    lab.host("podwire network connect shop web").ok();
    lab.host("podwire exec web true").ok();
    lab.host("podwire network disconnect shop web").ok();
    lab.host("podwire restart -t 0 web").ok();
    lab.host("podwire kill -s TERM web").ok();
    lab.host("podwire stop -t 0 web").ok();
    lab.host("podwire rm web").ok();
    lab.host("podwire network rm shop").ok();
    let told = follower.until("network remove shop");
    let life: Vec<&str> = told.lines().filter(|line| !line.contains("first")).collect();
    let container = |status: &str| format!("container {status} web");
    let expected = [
        "network create shop".to_owned(),
        container("create"),
        container("init"),
        container("start"),
        "network connect webshop".to_owned(),
        container("exec"),
        container("exec_died"),
        "network disconnect webshop".to_owned(),
        container("restart"),
        container("died"),
        container("cleanup"),
        container("stop"),
        container("init"),
        container("start"),
        container("kill"),
        container("died"),
        container("cleanup"),
        container("stop"),
        container("remove"),
        "network remove shop".to_owned(),
    ];
    assert_eq!(life, expected);
    let remembered = "podwire events --stream=false --filter container=web --filter event=died --filter label=a=b";
    let died = lab.ok(&format!("{remembered} --format '{{{{.ContainerExitCode}}}} {{{{.Attributes}}}}'"));
    assert_eq!(died, "137 map[a:b]\n137 map[a:b]");
    let until = lab.ok("podwire events --since 0s --until 2099-01-01T00:00:00Z --stream=false");
    assert_eq!(until, "");
}

fn restart_keeps_a_container_that_rm_would_remove(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --rm --name web -p 8080:80 banner").ok();
    lab.host("podwire restart web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire restart").refuses(125, "you must provide at least one name or id");
    lab.host("podwire restart -a web").refuses(125, "no arguments are needed with --all");
    lab.host("podwire restart nope").refuses(125, "no container with name or ID \"nope\" found: no such container");
    lab.host("podwire create --name still banner").ok();
    assert_eq!(lab.ok("podwire restart --running").lines().count(), 1);
    lab.host("podwire stop web").ok();
    assert_eq!(lab.ok("podwire ps -a --format '{{.Names}}'"), "still");
    assert_eq!(lab.ok("podwire restart --running"), "");
}

fn a_renamed_container_is_found_by_its_new_name_alone(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.90.0.0/24 shop").ok();
    lab.host("podwire run -d --name web --network shop:alias=www banner").ok();
    lab.host("podwire run -d --name db --network none banner").ok();
    lab.host("podwire rename web front").ok();
    assert_eq!(lab.ok("podwire network resolve front"), lab.ok("podwire network resolve www"));
    lab.host("podwire network resolve web").code(1);
    lab.host("podwire exec front cat /etc/hosts").ok().says(" front\n");
    let peers = "podwire run --rm --network shop banner nslookup -type=a front.dns.podman";
    lab.host(peers).ok().says("10.90.0.2");
    lab.host("podwire rename db front").refuses(125, "name \"front\" is in use: container already exists");
    lab.host("podwire rename db 'a b'").refuses(125, "names must match");
    lab.host("podwire rename nope x").refuses(125, "no such container");
    lab.host("podwire rename db data").ok();
    let hosts = lab.ok("podwire exec data cat /etc/hosts");
    assert!(hosts.ends_with(" data"), "{hosts}");
    lab.host("podwire stop front").ok();
    lab.host("podwire rename front web").ok();
    lab.host("podwire start web").ok();
    lab.host("podwire network resolve web").ok();
}

fn a_network_is_shared_through_a_container_that_shares_it(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name one --network none banner").ok();
    lab.host("podwire run -d --name two --network container:one banner sleep 1000").ok();
    lab.host("podwire run -d --name three --network container:two banner sleep 1000").ok();
    lab.host("podwire exec three wget -qO- http://127.0.0.1/").ok().says(lab::BANNER);
    let hosts = lab.ok("podwire exec one cat /etc/hosts");
    assert!(hosts.ends_with("127.0.0.1\ttwo\n127.0.0.1\tthree"), "{hosts}");
    lab.host("podwire run -d --name guest --network host banner sleep 1000").ok();
    let seen = lab.ok("podwire run --rm --network container:guest banner ip -4 addr show dev eth0");
    assert!(seen.contains(HOST4), "{seen}");
    lab.host("podwire stop -t 0 -a").ok();
    lab.host("podwire start three").ok();
    assert_eq!(lab.ok("podwire ps -q").lines().count(), 3);
    lab.host("podwire exec three wget -qO- http://127.0.0.1/").ok().says(lab::BANNER);
    assert_eq!(lab.ok("podwire rm -f -t 0 --depend one").lines().count(), 3);
}
