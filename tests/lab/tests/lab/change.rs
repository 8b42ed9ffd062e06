//! Networks of a container that runs: joined, left, made again.

use lab::trial::Sentence;
use lab::{HOST4, Lab, LabOptions, sentences};

use crate::words::{banner_comes, get, load, no_banner};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        a_running_container_joins_and_leaves_networks_with_its_port_open_throughout,
        leaving_the_last_network_leaves_loopback_and_nothing_on_the_host,
        a_stopped_container_joins_a_network_when_it_starts,
        a_container_started_in_another_mount_namespace_is_changed_shared_and_removed,
        reload_changes_nothing_where_nothing_is_amiss,
        joining_and_leaving_are_refused_in_podmans_words,
        a_dry_run_of_joining_leaving_and_reloading_shows_the_plan_and_changes_nothing,
    ]
}

fn a_running_container_joins_and_leaves_networks_with_its_port_open_throughout(lab: &Lab) {
    let before = lab.settled_state();
    load(lab);
    lab.host("podwire network create --subnet 10.91.0.0/24 shop").ok();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    lab.host("podwire network connect --ip 10.91.0.9 --alias till shop web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire exec web ip -4 addr show dev eth1").ok().says("10.91.0.9/24");
    lab.host("podwire exec web cat /etc/hosts").ok().says("10.91.0.9");
    lab.host("podwire network disconnect podman web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire exec web ip route").ok().says("default via 10.91.0.1");
    lab.host("podwire rm -f -t 0 web").ok();
    lab.host("podwire network rm shop").ok();
    lab.host("podwire rmi banner").ok();
    before.same(lab, "after the container was on two networks");
}

fn leaving_the_last_network_leaves_loopback_and_nothing_on_the_host(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    lab.host("podwire network disconnect podman web").ok();
    assert_eq!(lab.ok("podwire exec web ls /sys/class/net").trim(), "lo");
    assert_eq!(lab.ok("nft list ruleset").trim(), "");
    no_banner(lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire network connect podman web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
}

fn a_stopped_container_joins_a_network_when_it_starts(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire create --name web banner").ok();
    lab.host("podwire network connect shop web").ok();
    lab.host("podwire start web").ok();
    assert_eq!(lab.ok("podwire inspect --format '{{len .NetworkSettings.Networks}}' web").trim(), "2");
    lab.host("podwire network rm shop").code(2);
}

fn a_container_started_in_another_mount_namespace_is_changed_shared_and_removed(lab: &Lab) {
    let before = lab.settled_state();
    load(lab);
    lab.host("podwire network create shop").ok();
    // As each `ip netns exec` does.
    lab.host("unshare -m podwire run -d --name web -p 8080:80 banner").ok();
    lab.host("podwire network connect shop web").ok();
    lab.host("podwire exec web ip -4 addr show dev eth1").ok();
    lab.host("podwire run --rm --network container:web banner ip -4 addr show dev eth1").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("unshare -m podwire rm -f web").ok();
    lab.host("podwire network rm shop").ok();
    lab.host("podwire rmi banner").ok();
    before.same(lab, "after a container in another mount namespace");
}

fn reload_changes_nothing_where_nothing_is_amiss(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    let before = lab.settled_state();
    lab.host("podwire network reload web").ok();
    before.same(lab, "after a reload");
}

fn joining_and_leaving_are_refused_in_podmans_words(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.91.0.0/24 shop").ok();
    lab.host("podwire run -d --name web banner").ok();
    lab.host("podwire run -d --name alone --network none banner").ok();
    let before = lab.settled_state();
    lab.host("podwire network connect podman web").refuses(125, "network is already connected");
    lab.host("podwire network connect nope web").refuses(125, "network not found");
    lab.host("podwire network connect shop nope").refuses(125, "no such container");
    lab.host("podwire network connect shop alone").refuses(125, "invalid network mode");
    lab.host("podwire network connect --ip 10.99.0.5 shop web").refuses(125, "not in any subnet on network shop");
    lab.host("podwire network disconnect shop web").refuses(125, "container web is not connected to network shop");
    lab.host("podwire network reload alone").refuses(125, "refusing to reload");
    before.same(lab, "after refusals");
}

fn a_dry_run_of_joining_leaving_and_reloading_shows_the_plan_and_changes_nothing(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.91.0.0/24 shop").ok();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    let before = lab.settled_state();
    let join = lab.host("podwire network connect --dry-run shop web").ok();
    join.says("eth1").says("10.91.0.2/24");
    lab.host("podwire network disconnect --dry-run podman web").ok().says("- link podman0");
    assert_eq!(lab.ok("podwire network reload --dry-run web").trim(), "");
    before.same(lab, "after dry runs");
}
