//! Plan stories: what happens to the machine, as text. `UPDATE=1 cargo test -p podwire-drivers --test drivers`
//! writes what is the case into the stories; read the difference before believing it.
//!
//! A story begins with what it is about. A line that begins with `$ ` is a command of ours, and the lines below
//! it are its plan, which is applied; `given: ` is a command whose plan other stories tell; `# ` is what somebody
//! else does; `$ show` shows the model kernel.

// Golden files are read here; the drivers themselves touch none.
#![allow(clippy::disallowed_methods)]

use std::path::Path;

use crate::machine::{Machine, Pending, Run, mapping};
use ipam::NetworkRequest;
use plan::Place;
use plan::world::Deed;

#[test]
fn the_first_container_brings_the_bridge_the_firewall_and_its_sandbox() {
    check("first");
}

#[test]
fn the_second_container_brings_only_its_own() {
    check("second");
}

#[test]
fn a_dual_stack_network_is_the_same_path_twice() {
    check("dual_stack");
}

#[test]
fn an_internal_network_has_no_way_out() {
    check("internal");
}

#[test]
fn published_ports_and_ranges_are_elements() {
    check("ports");
}

#[test]
fn several_networks_have_one_default_route() {
    check("several");
}

#[test]
fn options_of_a_network_reach_its_links_and_routes() {
    check("options");
}

#[test]
fn routes_lead_to_a_gateway_or_nowhere() {
    check("routes");
}

#[test]
fn vlans_share_a_bridge_that_goes_with_the_last_of_them() {
    check("vlan");
}

#[test]
fn a_bridge_is_in_the_vrf_that_its_network_names() {
    check("vrf");
}

#[test]
fn on_somebody_elses_bridge_a_container_is_a_member_and_that_is_all() {
    check("unmanaged");
}

#[test]
fn behind_a_relay_nothing_is_translated_and_members_may_be_kept_apart() {
    check("relayed");
}

#[test]
fn on_a_lan_a_container_has_a_link_of_its_own_and_the_firewall_no_part() {
    check("macvlan");
}

#[test]
fn ipvlan_has_its_parents_mac_address() {
    check("ipvlan");
}

#[test]
fn with_host_access_the_host_has_a_link_and_routes_that_go_with_the_last_container() {
    check("host_access");
}

#[test]
fn links_that_went_with_their_parent_come_back_with_it() {
    check("parent_gone");
}

#[test]
fn a_container_goes_and_the_others_stay() {
    check("detach");
}

#[test]
fn the_last_container_takes_everything_with_it() {
    check("last");
}

#[test]
fn what_others_changed_is_healed() {
    check("heal");
}

#[test]
fn an_address_removed_by_hand_comes_back_with_its_routes() {
    check("address_gone");
}

#[test]
fn healing_the_hosts_forwarding_opens_no_internal_network() {
    check("internal_heals");
}

#[test]
fn a_flushed_firewall_comes_back_in_one_transaction() {
    check("flush");
}

#[test]
fn a_bridge_deleted_by_hand_comes_back_and_gets_its_members_back() {
    check("bridge_gone");
}

#[test]
fn somebody_elses_link_is_never_touched() {
    check("conflict");
}

/// Plays the story and compares what happens with what it says.
fn check(story: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans").join(format!("{story}.txt"));
    let told = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let played = play(&told);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&path, played).unwrap();
    }
    assert_eq!(played, told, "\n--- {} ---\n{played}", path.display());
}

/// The story with each command's output as it is.
fn play(story: &str) -> String {
    let mut machine = Machine::new();
    let mut played = String::new();
    let mut about = true;
    for line in story.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            about = false;
            played += &format!("\n{line}\n{}", ours(&mut machine, command));
        } else if let Some(command) = line.strip_prefix("given: ") {
            about = false;
            let outcome = ours(&mut machine, command);
            assert!(!outcome.contains("error:") && !outcome.contains("conflict:"), "{command}: {outcome}");
            played += &format!("\n{line}\n");
        } else if let Some(deed) = line.strip_prefix("# ") {
            about = false;
            machine.world.by_hand(&theirs(deed));
            played += &format!("\n{line}\n");
        } else if about && !line.is_empty() {
            played += &format!("{line}\n");
        }
    }
    // The rules' version changes with the rules, which these stories are not about.
    played.replace(&firewall::version(), "VERSION")
}

fn ours(machine: &mut Machine, command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    match words[..] {
        ["network", "create", ref rest @ ..] => match machine.create_network(&request(rest)) {
            Ok(()) => String::new(),
            Err(error) => format!("error: {error}\n"),
        },
        ["run", ref rest @ ..] => {
            let (name, run) = run(rest);
            let pending = machine.run(&name, &run);
            applied(machine, pending)
        }
        ["rm", name] => {
            let pending = machine.rm(name, &[]);
            applied(machine, pending)
        }
        ["network", "reload"] => {
            let pending = machine.reload();
            applied(machine, pending)
        }
        ["relay"] => {
            machine.relayed = true;
            String::new()
        }
        ["show"] => machine.world.to_string(),
        _ => panic!("unknown command {command:?}"),
    }
}

fn applied(machine: &mut Machine, pending: Result<Pending, String>) -> String {
    match pending.and_then(|pending| machine.apply(&pending).map(|()| pending.plan)) {
        Ok(plan) if plan.is_empty() => "(nothing to do)\n".to_owned(),
        Ok(plan) => plan.to_string(),
        Err(error) => format!("{error}\n"),
    }
}

/// `NAME [--network A,B] [--ip IP] [-p PORTS]`
fn run(words: &[&str]) -> (String, Run) {
    let mut run = Run { networks: vec!["podman".to_owned()], ..Run::default() };
    for flag in words[1..].chunks(2) {
        match flag {
            ["--network", names] => run.networks = names.split(',').map(str::to_owned).collect(),
            ["--ip", ip] => run.ips.push(ip.parse().unwrap()),
            ["-p", ports] => run.ports.push(mapping(ports)),
            _ => panic!("unknown flag {flag:?}"),
        }
    }
    (words[0].to_owned(), run)
}

/// `NAME [FLAGS]`
fn request(words: &[&str]) -> NetworkRequest {
    let mut request = NetworkRequest { name: Some(words[0].to_owned()), ..NetworkRequest::default() };
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        match *word {
            "--internal" => request.internal = true,
            "--ipv6" => request.ipv6 = true,
            "--disable-dns" => request.disable_dns = true,
            "-d" => request.driver = (*rest.next().unwrap()).to_owned(),
            "--ip-range" => request.ranges.push((*rest.next().unwrap()).to_owned()),
            "--subnet" => request.subnets.push((*rest.next().unwrap()).to_owned()),
            "--interface-name" => request.link = Some((*rest.next().unwrap()).to_owned()),
            "--route" => request.routes.push((*rest.next().unwrap()).to_owned()),
            "-o" => {
                let (key, value) = rest.next().unwrap().split_once('=').unwrap();
                request.options.insert(key.to_owned(), value.to_owned());
            }
            other => panic!("unknown flag {other:?}"),
        }
    }
    request
}

/// The few commands that others give.
fn theirs(command: &str) -> Deed {
    let words: Vec<&str> = command.split(' ').collect();
    match words[..] {
        ["ip", "link", "add", name, "type", kind] => Deed::AddLink(name.parse().unwrap(), kind.to_owned()),
        ["ip", "-n", sandbox, "link", "del", name] => {
            Deed::DeleteLinkInside(sandbox.parse().unwrap(), name.parse().unwrap())
        }
        ["ip", "link", "del", name] => Deed::DeleteLink(name.parse().unwrap()),
        ["ip", "link", "set", name, "mtu", mtu] => Deed::SetMtu(name.parse().unwrap(), mtu.parse().unwrap()),
        ["ip", "link", "set", name, "nomaster"] => Deed::NoMaster(name.parse().unwrap()),
        ["ip", "addr", "add", addr, "dev", name] => Deed::AddAddress(name.parse().unwrap(), addr.parse().unwrap()),
        ["ip", "addr", "del", addr, "dev", name] => {
            Deed::DeleteAddress(Place::Host, name.parse().unwrap(), addr.parse().unwrap())
        }
        ["ip", "-n", sandbox, "addr", "del", addr, "dev", name] => {
            let place = Place::Sandbox(sandbox.parse().unwrap());
            Deed::DeleteAddress(place, name.parse().unwrap(), addr.parse().unwrap())
        }
        ["nft", "flush", "ruleset"] => Deed::FlushRuleset,
        ["sysctl", setting] => {
            let (path, value) = setting.split_once('=').unwrap();
            Deed::WriteSysctl(path.replace('.', "/"), value.to_owned())
        }
        _ => panic!("unknown command {command:?}"),
    }
}
