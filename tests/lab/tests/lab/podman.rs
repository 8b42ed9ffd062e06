//! What scripts written for Podman look at, where no other sentence does.

use lab::trial::Sentence;
use lab::{Lab, LabOptions, sentences};

use crate::words::{banner_comes, get, ip4, load};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        inspect_tells_names_ports_and_namespaces_as_podman_does,
        each_address_is_shown_with_the_gateway_of_its_subnet,
        a_container_that_comes_back_to_a_network_has_another_address,
        networks_described_by_files_are_there_and_follow_them,
        ports_are_read_together_and_a_conflict_among_them_is_named,
        what_is_published_on_all_of_ipv6_is_served_to_a_container_without_it,
        forced_and_ignoring_commands_fail_only_where_podmans_do,
    ]
}

fn inspect_tells_names_ports_and_namespaces_as_podman_does(lab: &Lab) {
    load(lab);
    let shown =
        |field: &str, name: &str| lab.ok(&format!("podwire inspect -f '{{{{{field}}}}}' {name}")).trim().to_owned();
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name web --hostname till --expose 99 -p 80:80 --network shop:alias=store banner").ok();
    let id = shown("slice .Id 0 12", "web");
    let names = shown("(index .NetworkSettings.Networks \"shop\").DNSNames", "web");
    assert_eq!(names, format!("[web store {id} till]"));
    lab.host("podwire run -d --name beside --network container:web --expose 100 banner").ok();
    let ports = shown(".NetworkSettings.Ports", "beside");
    assert!(ports.contains("80/tcp") && !ports.contains("99/tcp"), "{ports}");
    assert!(shown("json .Config.ExposedPorts", "beside").contains("100/tcp"));
    lab.host("podwire run -d --name host --network host --expose 99 banner").ok();
    assert_eq!(shown("json .NetworkSettings.Ports", "host"), "{}");
    lab.host("podwire run -d --name none --network none banner").ok();
    assert_eq!(shown(".NetworkSettings.SandboxKey", "none"), format!("/proc/{}/ns/net", shown(".State.Pid", "none")));
    lab.host("podwire stop -t 0 none").ok();
    assert_eq!(shown(".NetworkSettings.SandboxKey", "none"), "");
    lab.host("ip netns add theirs").ok();
    for line in ["link add eth0 type veth peer name peer", "link set eth0 up", "link set peer up"] {
        lab.host(&format!("ip -n theirs {line}")).ok();
    }
    lab.host("ip -n theirs addr add 10.7.0.2/24 dev eth0").ok();
    lab.host("ip -n theirs route add default via 10.7.0.1").ok();
    lab.host("podwire create --name guest --network ns:/run/netns/theirs banner").ok();
    assert_eq!(shown(".NetworkSettings.Gateway", "guest"), "10.7.0.1");
    lab.host("ip netns del theirs").ok();
    assert_eq!(shown(".NetworkSettings.Gateway", "guest"), "");
}

fn each_address_is_shown_with_the_gateway_of_its_subnet(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.92.0.0/24 --subnet 10.91.0.0/24 two").ok();
    lab.host("podwire run -d --name web --network two:ip=10.91.0.9,ip=10.92.0.9 banner").ok();
    let shown = lab.ok("podwire network inspect -f '{{json .Containers}}' two");
    assert!(
        shown.contains(
            r#"{"ipnet":"10.92.0.9/24","gateway":"10.92.0.1"},{"ipnet":"10.91.0.9/24","gateway":"10.91.0.1"}"#
        ),
        "{shown}"
    );
}

fn a_container_that_comes_back_to_a_network_has_another_address(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name web --network shop banner").ok();
    let address = |lab: &Lab| {
        let shown = "{{.NetworkSettings.Networks.shop.IPAddress}} {{.NetworkSettings.Networks.shop.MacAddress}}";
        lab.ok(&format!("podwire inspect -f '{shown}' web"))
    };
    let before = address(lab);
    lab.host("podwire network disconnect shop web").ok();
    lab.host("podwire network connect shop web").ok();
    let (ip, mac) = before.trim().split_once(' ').unwrap();
    let after = address(lab);
    assert!(!after.contains(ip) && !after.contains(mac), "{before}{after}");
}

fn networks_described_by_files_are_there_and_follow_them(lab: &Lab) {
    load(lab);
    let podwire = "podwire --network-config-dir /run/own";
    let dns = || lab.ok(&format!("{podwire} network inspect -f '{{{{.DNSEnabled}}}}' podman")).trim().to_owned();
    let change = |to: &str| {
        lab.host(&format!("sed -i 's/\"dns_enabled\":[a-z]*/\"dns_enabled\":{to}/' /run/own/podman.json")).ok();
    };
    lab.host("mkdir /run/own").ok();
    // As Podman's manual changes the default network; the shell makes the file first.
    lab.host(&format!("{podwire} network inspect -f '{{{{json .}}}}' podman > /run/own/podman.json")).ok();
    assert_eq!(dns(), "false");
    change("true");
    assert_eq!(dns(), "true");
    lab.host(&format!("{podwire} run -d --name web banner")).ok();
    lab.host(&format!("{podwire} run --rm banner nslookup web")).ok().says("10.88.0.");
    change("false");
    assert_eq!(dns(), "true");
    lab.host(&format!("{podwire} rm -f -t 0 web")).ok();
    assert_eq!(dns(), "false");
    lab.host("sed 's/\"podman\"/\"shop\"/; s/\"id\":\"../\"id\":\"ab/; s/10[.]88/10.94/g; s/podman0/shop0/' /run/own/podman.json > /run/own/shop.json").ok();
    assert_eq!(lab.ok(&format!("{podwire} network ls -q")), "podman\nshop");
    lab.host(&format!("{podwire} network rm shop")).ok();
    assert_eq!(lab.ok(&format!("{podwire} network ls -q")), "podman");
    lab.host("echo nonsense > /run/own/bad.json").ok();
    let told = lab.host(&format!("{podwire} ps"));
    assert!(told.code == 0 && told.err.contains("/run/own/bad.json is not used"), "{}", told.err);
    assert_eq!(lab.host(&format!("{podwire} ps")).err, "");
}

fn ports_are_read_together_and_a_conflict_among_them_is_named(lab: &Lab) {
    load(lab);
    let ports = |name: &str| lab.ok(&format!("podwire ps -a -q --filter name={name} --format '{{{{.Ports}}}}'"));
    lab.host("podwire create --name web -p 8080-8081:80-81 -p 8081:81 -p 8080:80 banner").ok();
    assert_eq!(ports("web"), "0.0.0.0:8080-8081->80-81/tcp");
    lab.host("podwire create --name two -p 8080:80 -p 8090:80 banner").ok();
    assert_eq!(ports("two"), "0.0.0.0:8080->80/tcp, 0.0.0.0:8090->80/tcp");
    let ranges = "podwire create -p 1000-2000:2000-3000 -p 1999-2999:3001-4001 banner";
    lab.host(ranges).refuses(125, "conflicting port mappings for host port 1999 (protocol tcp)");
    lab.host("podwire run -p 8080:80 -p 8080:81 banner").refuses(126, "address already in use");
}

fn what_is_published_on_all_of_ipv6_is_served_to_a_container_without_it(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p '[::]:8080:80' -p 0.0.0.0:8080:80 banner").ok();
    banner_comes(|| lab.host(&get("[::1]:8080")));
    banner_comes(|| lab.host(&get("127.0.0.1:8080")));
    lab.host("podwire run -d -p '[fd99::109]:8081:80' banner").refuses(126, "gives the container no IPv6 address");
}

fn forced_and_ignoring_commands_fail_only_where_podmans_do(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    lab.host("podwire network disconnect -f shop web").ok();
    lab.host("podwire network disconnect -f nope web").refuses(125, "unable to find network with name or ID nope");
    lab.host("podwire network rm nope").refuses(1, "unable to find network with name or ID nope");
    assert_eq!(lab.ok("podwire network rm -t -1 -f nope"), "");
    assert_eq!(lab.ok("podwire network rm --ignore nope shop"), "shop");
    assert_eq!(lab.ok("podwire port -l"), "80/tcp -> 0.0.0.0:8080");
    assert_eq!(lab.ok("podwire port -l 80"), "0.0.0.0:8080");
    assert_eq!(
        lab.ok("podwire network ls --format 'table {{.Name}} {{ .Driver }}'"),
        "NAME        DRIVER\npodman      bridge"
    );
    assert_eq!(lab.ok("podwire network prune -f --filter until=5000000000000"), "");
    assert!(ip4(lab, "web").starts_with("10.88."));
}
