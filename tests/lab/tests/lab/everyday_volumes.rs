//! Volumes: made, shown, chosen, removed.

use lab::trial::Sentence;
use lab::{Lab, LabOptions, sentences};

use crate::words::load;

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        a_volume_is_made_shown_and_removed_as_podman_does_it,
        a_volume_in_use_is_removed_only_with_its_containers,
        prune_removes_the_volumes_that_no_container_names,
    ]
}

fn a_volume_is_made_shown_and_removed_as_podman_does_it(lab: &Lab) {
    load(lab);
    assert_eq!(lab.ok("podwire volume create --label a=b db"), "db");
    lab.host("podwire volume create db").refuses(125, "volume with name db already exists: volume already exists");
    assert_eq!(lab.ok("podwire volume create --ignore db"), "db");
    let random = lab.ok("podwire volume create");
    assert!(random.len() == 64 && random.bytes().all(|b| b.is_ascii_hexdigit()), "{random}");
    assert_eq!(lab.ok("podwire volume ls --filter name=^db$"), "DRIVER      VOLUME NAME\nlocal       db");
    assert_eq!(lab.ok("podwire volume ls -q --filter label=a=b"), "db");
    assert_eq!(
        lab.ok("podwire volume inspect --format '{{.Name}} {{.Driver}} {{.Labels}} {{.Scope}}' db"),
        "db local map[a:b] local"
    );
    let place = lab.ok("podwire volume inspect -f '{{.Mountpoint}}' db");
    lab.host("podwire run --rm -v db:/data banner sh -c 'echo kept >/data/file'").ok();
    assert_eq!(lab.ok(&format!("cat {place}/file")), "kept");
    lab.host("podwire volume exists db").ok();
    lab.host("podwire volume exists nope").code(1);
    lab.host("podwire volume inspect nope").refuses(125, "inspecting object: no such volume nope");
    lab.host("podwire volume rm nope").refuses(1, "no volume with name \"nope\" found: no such volume");
    lab.host("podwire volume ls --filter foo=1").refuses(125, "\"foo\" is an invalid volume filter");
    lab.host("podwire volume create -o foo=bar x").refuses(125, "invalid mount option foo for driver 'local'");
    lab.host("podwire volume create -d foo x").refuses(125, "no volume plugin with name foo available");
    assert_eq!(lab.ok("podwire volume rm db"), "db");
    lab.host(&format!("test ! -e {place}")).ok();
    assert_eq!(lab.ok(&format!("podwire volume rm {}", &random[..10])), random);
}

fn a_volume_in_use_is_removed_only_with_its_containers(lab: &Lab) {
    load(lab);
    let id = lab.ok("podwire run -d --name web -v db:/data banner");
    lab.host("podwire volume rm db")
        .refuses(2, &format!("volume db is being used by the following container(s): {id}"));
    assert_eq!(lab.ok("podwire volume inspect -f '{{.MountCount}}' db"), "1");
    assert_eq!(lab.ok("podwire volume rm -f -t 0 db"), "db");
    assert_eq!(lab.ok("podwire ps -aq"), "");
}

fn prune_removes_the_volumes_that_no_container_names(lab: &Lab) {
    load(lab);
    lab.host("podwire create -v used:/data banner").ok();
    lab.host("podwire volume create one && podwire volume create --label keep=yes two").ok();
    let asked = lab.host("podwire volume prune </dev/null").code(125);
    assert!(asked.out.contains("The following volumes will be removed:\none\ntwo\nAre you sure"), "{}", asked.out);
    assert_eq!(lab.ok("podwire volume prune -f --filter 'label!=keep'"), "one");
    assert_eq!(lab.ok("podwire volume ls -q"), "two\nused");
    assert_eq!(lab.ok("podwire volume ls -q --filter dangling=true"), "two");
}
