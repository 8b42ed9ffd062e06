//! Wrong input: one clear line, the right code, nothing left.

use lab::trial::Sentence;
use lab::{Lab, LabOptions, sentences};

use crate::words::{banner_comes, get, ip4, load};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        wrong_input_is_one_clear_line_and_leaves_nothing,
        a_port_in_use_by_a_container_is_refused_with_126_and_leaves_nothing,
        a_port_in_use_by_another_program_is_refused_with_126_and_leaves_nothing,
        an_address_outside_the_subnet_or_taken_is_refused_and_leaves_nothing,
        fixed_addresses_and_mac_are_given,
        a_network_in_use_is_not_removed,
        a_malformed_archive_is_one_clear_line_and_leaves_nothing,
        a_corrupt_store_is_one_clear_line_that_names_the_file,
        a_command_that_is_not_there_or_can_not_be_run_leaves_no_container,
        a_missing_or_broken_runtime_is_one_clear_line_and_leaves_nothing,
        somebody_elses_link_where_ours_should_be_is_a_conflict_and_stays,
    ]
}

fn wrong_input_is_one_clear_line_and_leaves_nothing(lab: &Lab) {
    load(lab);
    lab.host("podwire network create used").ok();
    let before = lab.settled_state();
    let cases: &[(&str, i32, &str)] = &[
        ("run nosuchregistry.invalid/nothing", 125, "nosuchregistry.invalid"),
        ("run localhost/unknown", 125, "localhost/unknown"),
        ("run --pull never unknown", 125, "unknown"),
        ("run localhost/UPPER", 125, "lowercase"),
        ("run 'banner:bad tag'", 125, "invalid reference format"),
        ("run --network unknown banner", 125, "unknown"),
        ("run -p abc banner", 125, "abc"),
        ("run -p 80:abc banner", 125, "abc"),
        ("run -p 70000:80 banner", 125, "70000"),
        ("run -p 8000-8010:80-85 banner", 125, "range"),
        ("run -p 1.2.3:8080:80 banner", 125, "1.2.3"),
        ("run -p 8080:80/icmp banner", 125, "icmp"),
        ("run --ip bad banner", 125, "\"bad\""),
        ("run --mac-address zz:00:00:00:00:00 banner", 125, "zz:00:00:00:00:00"),
        ("run --name 'bad name' banner", 125, "names must match"),
        ("run --network container:nobody banner", 125, "nobody"),
        ("run --network ns:/nowhere banner", 125, "/nowhere"),
        ("run --dns bad banner", 125, "bad"),
        ("run --add-host bad banner", 125, "bad"),
        ("run --no-such-flag banner", 125, "no-such-flag"),
        ("rm nobody", 1, "nobody"),
        ("stop nobody", 125, "nobody"),
        ("exec nobody true", 125, "nobody"),
        ("inspect nobody", 125, "nobody"),
        ("logs nobody", 125, "nobody"),
        ("rmi nothing", 1, "nothing"),
        ("network rm nothing", 1, "nothing"),
        ("network inspect nothing", 125, "nothing"),
        ("network create --subnet 10.200.1.0 new", 125, "invalid CIDR address: 10.200.1.0"),
        ("network create --subnet 10.200.1.0/24 --gateway 10.201.0.1 new", 125, "gateway 10.201.0.1 not in subnet"),
        ("network create used", 125, "already"),
        ("network create host", 125, "conflicts with a valid network mode"),
        ("network create --driver foo new", 125, "foo"),
        ("network create -o mtu=many new", 125, "mtu"),
        ("network create --subnet 192.168.99.0/24 new", 125, "192.168.99.0/24"),
        ("load -i /nonexistent.tar", 125, "/nonexistent.tar"),
        ("nosuchcommand", 125, "nosuchcommand"),
    ];
    let mut wrong = Vec::new();
    for (line, code, text) in cases {
        let run = lab.host(&format!("podwire {line}"));
        let verdict = std::panic::catch_unwind(|| run.refuses(*code, text));
        if let Err(panic) = verdict {
            wrong.push(panic.downcast_ref::<String>().cloned().unwrap_or_default());
        }
        let difference = before.left(lab);
        if !difference.is_empty() {
            wrong.push(format!("{line} left:\n{difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

fn a_port_in_use_by_a_container_is_refused_with_126_and_leaves_nothing(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    let before = lab.settled_state();
    for clash in ["8080:81", "127.0.0.1:8080:80", "8000-9000:8000-9000", "192.168.99.109:8080:1"] {
        lab.host(&format!("podwire run -d -p {clash} banner")).refuses(126, "address already in use");
    }
    before.same(lab, "after refused clashes");
    lab.host("podwire ps -aq --no-trunc").ok();
    banner_comes(|| lab.outside(&get("192.168.99.109:8080")));
}

fn a_port_in_use_by_another_program_is_refused_with_126_and_leaves_nothing(lab: &Lab) {
    load(lab);
    let mut service = lab.background(&crate::words::peer(lab, "http 8080"));
    service.until("listening");
    let before = lab.settled_state();
    lab.host("podwire run -d -p 8080:80 banner").refuses(126, "address already in use");
    lab.host("podwire run -d -p 8081:81 -p 8080:80 banner").refuses(126, "address already in use");
    before.same(lab, "after a refused clash with another program");
}

fn an_address_outside_the_subnet_or_taken_is_refused_and_leaves_nothing(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web --ip 10.88.0.50 banner").ok();
    let before = lab.settled_state();
    lab.host("podwire run -d --ip 10.99.0.5 banner")
        .refuses(126, "requested static ip 10.99.0.5 not in any subnet on network podman");
    lab.host("podwire run -d --ip 10.88.0.50 banner").refuses(126, "10.88.0.50");
    lab.host("podwire run -d --ip 10.88.0.1 banner").refuses(126, "10.88.0.1");
    lab.host("podwire run -d --ip 10.88.255.255 banner").refuses(126, "10.88.255.255");
    before.same(lab, "after refused addresses");
}

fn fixed_addresses_and_mac_are_given(lab: &Lab) {
    load(lab);
    crate::words::dual(lab);
    let fixed = "--ip 10.91.0.50 --ip6 fd91::50 --mac-address 92:d0:c6:0a:29:33";
    let shown = lab.ok(&format!("podwire run --rm --network dual {fixed} banner ip addr show eth0"));
    for text in ["10.91.0.50/24", "fd91::50/64", "92:d0:c6:0a:29:33"] {
        assert!(shown.contains(text), "{text} expected:\n{shown}");
    }
}

fn a_network_in_use_is_not_removed(lab: &Lab) {
    load(lab);
    lab.host("podwire network create used").ok();
    lab.host("podwire run -d --name web --network used banner").ok();
    let before = lab.settled_state();
    lab.host("podwire network rm used").refuses(2, "used");
    before.same(lab, "after a refused network rm");
    lab.host("podwire network rm -f used").ok();
    assert_eq!(lab.ok("podwire ps -aq"), "");
}

fn a_malformed_archive_is_one_clear_line_and_leaves_nothing(lab: &Lab) {
    lab.host("podwire ps").ok();
    let before = lab.settled_state();
    let dir = lab.dir().display().to_string();
    let make = [
        format!("cd {dir}"),
        "printf 'not a tarball' >text.tar".to_owned(),
        ": >empty.tar".to_owned(),
        "printf '[{\"Config\": 7' >manifest.json; tar cf badjson.tar manifest.json".to_owned(),
        "printf '[{\"Config\":\"x.json\",\"RepoTags\":[\"a:b\"],\"Layers\":[\"y.tar\"]}]' >manifest.json; tar cf missing.tar manifest.json".to_owned(),
        "printf '{}' >x.json; printf 'junk' >y.tar; tar cf badlayer.tar manifest.json x.json y.tar".to_owned(),
        format!("head -c 400000 {} >cut.tar", crate::words::archive().display()),
    ];
    lab.host(&make.join("\n")).ok();
    for archive in ["text", "empty", "badjson", "missing", "badlayer", "cut"] {
        lab.host(&format!("podwire load -q -i {dir}/{archive}.tar")).refuses(125, "");
        before.same(lab, &format!("after load of {archive}.tar"));
    }
}

fn a_corrupt_store_is_one_clear_line_that_names_the_file(lab: &Lab) {
    load(lab);
    lab.host("podwire ps").ok();
    lab.host("rm -f /var/lib/podwire/podwire.db-wal /var/lib/podwire/podwire.db-shm; printf 'this is no database, not at all' >/var/lib/podwire/podwire.db").ok();
    for command in ["ps", "run -d -p 8080:80 banner", "network ls", "images"] {
        lab.host(&format!("podwire {command}")).refuses(125, "/var/lib/podwire/podwire.db");
    }
}

fn a_command_that_is_not_there_or_can_not_be_run_leaves_no_container(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire run -p 8080:80 banner /no/such/command").refuses(127, "/no/such/command");
    lab.host("podwire run -d -p 8080:80 banner /etc/passwd").refuses(126, "ermission denied");
    assert_eq!(lab.ok("podwire ps -aq"), "");
    before.same(lab, "after 126 and 127");
}

fn a_missing_or_broken_runtime_is_one_clear_line_and_leaves_nothing(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire --runtime /no/such/runtime run -d -p 8080:80 banner").refuses(125, "/no/such/runtime");
    let run = lab.host("podwire --runtime /bin/false run -d -p 8080:80 banner");
    assert!((125..=127).contains(&run.code), "{}", run.code);
    assert!(run.err.starts_with("Error: "), "{}", run.err);
    before.same(lab, "after a missing and a failing runtime");
}

fn somebody_elses_link_where_ours_should_be_is_a_conflict_and_stays(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --interface-name br-shop shop").ok();
    lab.host("ip link add br-shop type bridge").ok();
    let before = lab.settled_state();
    lab.host("podwire run -d --network shop banner").refuses(126, "br-shop");
    before.same(lab, "after a conflict");
    lab.host("ip link del br-shop").ok();
    lab.host("podwire run -d --name web --network shop banner").ok();
    assert!(!ip4(lab, "web").is_empty());
}
