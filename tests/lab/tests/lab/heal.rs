//! What others take away comes back: by netd's watch, without a command, and by `network reload`.

use std::time::Duration;

use lab::trial::Sentence;
use lab::{BANNER, HOST4, Lab, LabOptions, sentences};

use crate::words::{banner_comes, eventually, get, ip4, knock, load, no_banner, peer, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        a_flush_under_traffic_opens_nothing_closes_no_port_and_breaks_no_connection,
        a_deleted_bridge_comes_back_with_its_members,
        a_deleted_veth_comes_back_with_the_containers_address_and_mac,
        a_link_set_down_taken_off_its_bridge_or_robbed_of_its_address_is_mended,
        forwarding_that_is_switched_off_is_switched_on_again,
        a_killed_netd_comes_back_and_with_it_what_was_flushed_meanwhile,
        names_are_served_again_when_somebody_took_their_port_meanwhile,
        without_the_watch_reload_brings_back_what_was_flushed,
        twenty_containers_start_under_a_storm_of_flushes,
        a_foreign_link_in_the_place_of_one_bridge_keeps_no_other_network_from_being_mended,
        rules_of_others_that_drop_are_named_with_the_command_that_allows,
        names_that_the_hosts_own_filter_drops_are_told_with_the_command_that_allows,
    ]
}

/// The port is open again without a command. How soon is for the bench to say: on an idle machine in a tenth of a
/// second, here there may be other labs.
#[track_caller]
fn comes_back(lab: &Lab) {
    banner_comes(|| lab.outside(&format!("curl -sS -g --connect-timeout 0.2 -m 1 http://{HOST4}:8080/")));
}

fn start(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
}

/// The host's end of the container's link.
fn host_link(lab: &Lab) -> String {
    lab.ok("ip -o link show type veth master podman0 | sed -E 's/^[0-9]+: ([^@]+)@.*/\\1/'")
}

/// Kills netd and, before any monitor brings it back, flushes the rules that it owned.
const KILL_AND_FLUSH: &str = "m=$(pgrep -x podwire-monitor); kill -STOP $m; kill -9 $(pgrep -x podwire-netd); \
     for i in $(seq 100); do nft flush ruleset; [ -n \"$(nft list tables)\" ] || break; done; \
     nft list tables; kill -CONT $m";

fn a_flush_under_traffic_opens_nothing_closes_no_port_and_breaks_no_connection(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 -p 8081:81 banner").ok();
    lab.host("podwire network create other").ok();
    lab.host("podwire run -d --name stranger --network other banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let (stranger, web) = (sandbox(lab, "stranger"), ip4(lab, "web"));
    let mut server = lab.background_inside(&sandbox(lab, "web"), &peer(lab, "tcp-echo 81"));
    server.until("listening");
    let mut kept = lab.background_outside(&peer(lab, &format!("tcp-talk {HOST4} 8081")));
    kept.until("connected");
    let attempts = format!("for i in $(seq 40); do curl -s -m 1 --connect-timeout 0.05 http://{web}/; done");
    let knocking = lab.background_inside(&stranger, &attempts);
    let mut asking = lab.background_outside(&peer(lab, &format!("tcp-keep {HOST4} 8080")));
    asking.until("asking");
    lab.host("for i in $(seq 40); do nft flush ruleset; sleep 0.05; done").ok();
    asking.close_stdin();
    let (knocked, asked) = (knocking.wait(), asking.wait());
    assert!(!knocked.out.contains(BANNER), "the stranger got in:\n{}", knocked.out);
    assert!(asked.out.contains(" 0 failed") && !asked.out.contains("\n0 asked"), "{}", asked.out);
    kept.write("still here\n");
    kept.until("still here");
}

fn a_deleted_bridge_comes_back_with_its_members(lab: &Lab) {
    start(lab);
    let before = lab.settled_state();
    lab.host("ip link delete podman0").ok();
    comes_back(lab);
    before.same(lab, "after the bridge is back");
}

fn a_deleted_veth_comes_back_with_the_containers_address_and_mac(lab: &Lab) {
    start(lab);
    let web = sandbox(lab, "web");
    let inside = |lab: &Lab| {
        let shown =
            lab.inside(&web, "ip -o addr show dev eth0; ip -o link show dev eth0; ip route; ip -6 route").ok().out;
        // Without indices and what counts time.
        shown
            .lines()
            .map(|line| line.split_once(": ").map_or(line, |(_, rest)| rest).replace("@if", "@"))
            .collect::<Vec<_>>()
    };
    let words = |lines: Vec<String>| -> Vec<String> {
        let address = |word: &&str| word.contains("10.88.0.") || word.matches(':').count() == 5;
        lines.iter().flat_map(|line| line.split_whitespace()).filter(address).map(str::to_owned).collect()
    };
    let before = words(inside(lab));
    lab.host(&format!("ip link delete {}", host_link(lab))).ok();
    comes_back(lab);
    assert_eq!(words(inside(lab)), before);
    // From the other end, too.
    lab.inside(&web, "ip link delete eth0").ok();
    comes_back(lab);
    assert_eq!(words(inside(lab)), before);
}

fn a_link_set_down_taken_off_its_bridge_or_robbed_of_its_address_is_mended(lab: &Lab) {
    start(lab);
    let link = host_link(lab);
    for harm in [
        "ip link set podman0 down".to_owned(),
        format!("ip link set {link} nomaster"),
        format!("ip link set {link} down"),
        "ip addr flush dev podman0".to_owned(),
    ] {
        lab.host(&harm).ok();
        comes_back(lab);
    }
    lab.host("ip link set podman0 mtu 1280").ok();
    eventually(|| lab.quietly("ip -o link show podman0"), |run| run.out.contains("mtu 1500")).says("mtu 1500");
}

fn forwarding_that_is_switched_off_is_switched_on_again(lab: &Lab) {
    start(lab);
    lab.host("echo 0 >/proc/sys/net/ipv4/ip_forward").ok();
    comes_back(lab);
    assert_eq!(lab.ok("cat /proc/sys/net/ipv4/ip_forward"), "1");
}

fn a_killed_netd_comes_back_and_with_it_what_was_flushed_meanwhile(lab: &Lab) {
    start(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name db --network shop banner").ok();
    let whole = lab.ok("nft list ruleset");
    let resolves = || lab.host("podwire exec db nslookup db");
    eventually(resolves, |run| run.code == 0).ok();
    // Tables whose owner is dead belong to nobody: the flush takes them.
    assert_eq!(lab.ok(KILL_AND_FLUSH), "");
    comes_back(lab);
    eventually(resolves, |run| run.code == 0).ok();
    let listed = || lab.quietly("nft list ruleset");
    assert_eq!(eventually(listed, |run| run.out.trim_end() == whole).out.trim_end(), whole);
    assert_eq!(lab.ok("pgrep -cx podwire-netd"), "1", "one netd for all monitors");
    // The new one owns them again.
    lab.host("nft flush ruleset").ok();
    assert_eq!(lab.ok("nft list ruleset"), whole);
}

fn names_are_served_again_when_somebody_took_their_port_meanwhile(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.91.0.0/24 shop").ok();
    lab.host("podwire run -d --name db --network shop banner").ok();
    let port = "nft list map inet podwire dns4 | grep -o '10.91.0.1 . [0-9]*' | tail -1";
    let before = lab.ok(port);
    let squatter = format!(
        "m=$(pgrep -x podwire-monitor); kill -STOP $m; kill -9 $(pgrep -x podwire-netd); python3 -c 'import socket, time
port = int(\"{before}\".split()[-1])
for kind in socket.SOCK_DGRAM, socket.SOCK_STREAM:
    for attempt in range(200):
        taken = socket.socket(socket.AF_INET, kind)
        try: taken.bind((\"10.91.0.1\", port)); break
        except OSError: time.sleep(0.01)
    globals()[str(kind)] = taken
print(\"taken\", flush=True)
time.sleep(60)' & sleep 1; kill -CONT $m; wait"
    );
    let mut squatting = lab.background(&squatter);
    squatting.until("taken");
    eventually(|| lab.host("podwire exec db nslookup db 10.91.0.1"), |run| run.code == 0).ok();
    assert_ne!(lab.ok(port), before);
}

fn without_the_watch_reload_brings_back_what_was_flushed(lab: &Lab) {
    // An /etc of the lab's own.
    lab.host("mkdir -p /run/etc/up /run/etc/work && mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work /etc").ok();
    lab.host("mkdir -p /etc/podwire && printf '[network]\\nheal = false\\n' >/etc/podwire/podwire.conf").ok();
    start(lab);
    let whole = lab.ok("nft list ruleset");
    assert_eq!(lab.ok(&format!("ip link delete {}; {KILL_AND_FLUSH}", host_link(lab))), "");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(lab.ok("nft list ruleset"), "", "nobody heals");
    no_banner(lab.outside(&knock(&format!("{HOST4}:8080"))));
    lab.host("podwire network reload --dry-run --all").ok().says("publish4_any").says("type veth");
    assert_eq!(lab.ok("nft list ruleset"), "", "a dry run changes nothing");
    lab.host("podwire network reload --all").ok();
    assert_eq!(lab.ok("nft list ruleset"), whole);
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    assert_eq!(lab.ok("podwire network reload --dry-run --all"), "", "nothing is amiss any more");
    lab.host("podwire network reload --latest").ok();
    lab.host("podwire network reload --all --latest").refuses(125, "--all and --latest cannot be used together");
    lab.host("podwire network reload --latest web").refuses(125, "--latest and containers cannot be used together");
    lab.host("podwire network reload --all web").refuses(125, "no arguments are needed with --all");
    lab.host("podwire network reload").refuses(125, "you must provide at least one name or id");
}

fn twenty_containers_start_under_a_storm_of_flushes(lab: &Lab) {
    start(lab);
    let storm = lab.background(&format!(
        "while [ ! -e {dir}/over ]; do nft flush ruleset; ip link set podman0 down; sleep 0.03; done",
        dir = lab.dir().display()
    ));
    let runs = lab.host("for i in $(seq 20); do podwire run -d -p $((9000 + i)):80 banner & done; wait");
    lab.host(&format!("touch {}/over", lab.dir().display())).ok();
    storm.wait();
    assert_eq!((runs.out.lines().count(), runs.err.as_str()), (20, ""), "twenty ids and no error");
    for port in (9001..=9020).chain([8080]) {
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
    }
}

fn a_foreign_link_in_the_place_of_one_bridge_keeps_no_other_network_from_being_mended(lab: &Lab) {
    start(lab);
    lab.host("podwire network create --interface-name shop0 shop").ok();
    lab.host("podwire run -d --name db --network shop banner").ok();
    // In one go, before anybody sees that the name is free.
    let steps = "link set shop0 down\nlink set shop0 name old0\nlink add shop0 type bridge\naddr flush dev podman0\n";
    lab.host(&format!("printf '{steps}' | ip -batch -")).ok();
    comes_back(lab);
    let run = lab.host("podwire network reload --all").refuses(125, "network shop cannot be reloaded: ");
    assert!(run.err.contains("ip -d link show shop0"), "how to see what is in the way: {}", run.err);
    lab.host("ip link delete shop0; ip link delete old0").ok();
    lab.host("podwire network reload --all").ok();
    let db = ip4(lab, "db");
    banner_comes(|| lab.host(&get(&db)));
}

fn rules_of_others_that_drop_are_named_with_the_command_that_allows(lab: &Lab) {
    load(lab);
    lab.host(
        "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
    )
    .ok();
    lab.host("nft add rule ip filter FORWARD ct state established,related accept").ok();
    let told = lab.host("podwire run -d --name web -p 8080:80 banner").ok().err;
    assert!(told.contains("chain FORWARD of table ip filter drops what containers on network podman send"), "{told}");
    no_banner(lab.outside(&knock(&format!("{HOST4}:8080"))));
    let commands = told.trim_end().split_once("to allow it: ").expect("a command that allows it").1.to_owned();
    lab.host(&commands).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    assert_eq!(lab.host("podwire network reload --all").ok().err, "", "nothing is dropped any more");
    assert_eq!(lab.host("podwire run -d banner").ok().err, "");
}

fn names_that_the_hosts_own_filter_drops_are_told_with_the_command_that_allows(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host(
        "nft 'add table inet filter; add chain inet filter input { type filter hook input priority 0; policy drop; }'",
    )
    .ok();
    lab.host("nft add rule inet filter input ct state established,related accept").ok();
    let told = lab.host("podwire run -d --name web --network shop banner").ok().err;
    assert!(told.contains("chain input of table inet filter drops queries for names from network shop"), "{told}");
    let commands = told.trim_end().split_once("to allow it: ").expect("a command that allows it").1.to_owned();
    lab.host(&commands).ok();
    eventually(|| lab.host("podwire exec web nslookup web"), |run| run.code == 0).ok();
    assert_eq!(lab.host("podwire run -d --network shop banner").ok().err, "");
}
