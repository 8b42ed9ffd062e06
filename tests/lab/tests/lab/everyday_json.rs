//! What is told as JSON: each key that Podman tells has podwire too, with a value of the same kind.

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, sentences};
use serde_json::Value;

use crate::words::{archive, eventually, load};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[Need::Podman];
        what_podman_tells_as_json_has_each_key_here_too,
    ];
    all.extend(sentences![LabOptions::default(); &[];
        sizes_namespaces_and_order_are_shown_by_ps,
        containers_that_do_not_run_are_pruned_and_cleaned_up,
        a_volume_goes_out_as_an_archive_and_comes_back,
        commands_that_run_in_a_container_are_told_and_have_what_they_ask_for,
    ]);
    all
}

/// What is not as in the Podman installed here, 4.3.1, and why.
const DIFFERENT: [(&str, &str); 13] = [
    ("inspect.Config.Annotations", "annotations of cri-o and of libpod's own are nobody's here"),
    ("inspect.Config.Entrypoint", "a list since Podman 5"),
    ("inspect.Config.StopSignal", "a word since Podman 5"),
    ("inspect.HostConfig.PortBindings", "published ports alone, as in Podman 5"),
    ("inspect.HostConfig.Tmpfs", "a map by path"),
    ("inspect.NetworkSettings.Networks", "a map by name"),
    ("inspect.NetworkSettings.Ports", "a map by port"),
    ("inspect.State.Health", "only of who has a check, as in Podman 5"),
    ("image inspect.GraphDriver.Data.WorkDir", "an image is never a directory to write to"),
    ("pod inspect", "a list since Podman 5"),
    ("ps.Created", "a text since Podman 5"),
    ("info.registries", "by registry, where there are any"),
    ("info.store.graphStatus", "what overlayfs needs to be known of"),
];

fn what_podman_tells_as_json_has_each_key_here_too(lab: &Lab) {
    load(lab);
    let theirs = "podman --root /run/lab/pm/root --runroot /run/lab/pm/run --storage-driver overlay --cgroup-manager cgroupfs --events-backend file";
    lab.host(&format!("mkdir -p /run/lab/pm && {theirs} load -q -i {}", archive().display())).ok();
    let mut wrong = Vec::new();
    for engine in [theirs, "podwire"] {
        let ok = |line: &str| lab.host(&format!("{engine} {line}")).ok();
        ok("volume create --label a=b named");
        ok("network create --label a=b --subnet 10.200.7.0/24 shop");
        ok("pod create --infra=false --name p --label a=b");
        ok(
            "create --name c --network shop:ip=10.200.7.7,alias=till -e B=2 -l x=y -v named:/named -v /tmp:/host:ro --tmpfs /t -w /etc -u 0:0 -p 8080:81 banner sleep 100",
        );
        ok("create --name e --pod p banner");
    }
    for (what, line) in [
        ("inspect", "inspect c"),
        ("inspect", "inspect e"),
        ("image inspect", "image inspect banner"),
        ("network inspect", "network inspect shop"),
        ("volume inspect", "volume inspect named"),
        ("pod inspect", "pod inspect p"),
        ("ps", "ps -a --format json"),
        ("images", "images --format json"),
        ("history", "history --format json banner"),
        ("network ls", "network ls --format json"),
        ("volume ls", "volume ls --format json"),
        ("pod ps", "pod ps --format json"),
        ("info", "info --format json"),
        ("version", "version --format json"),
    ] {
        let told = |engine: &str| -> Value {
            let text = lab.ok(&format!("{engine} {line}"));
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{engine} {line}: {e}: {text}"))
        };
        compare(what, &told(theirs), &told("podwire"), &mut wrong);
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "not as Podman tells it:\n{}", wrong.join("\n"));
}

/// Adds what is missing or of another kind; lists are compared by their first items, and null is of any kind.
fn compare(path: &str, theirs: &Value, ours: &Value, wrong: &mut Vec<String>) {
    if DIFFERENT.iter().any(|(known, _)| *known == path) {
        return;
    }
    match (theirs, ours) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let below = format!("{path}.{key}");
                match ours.get(key) {
                    Some(own) => compare(&below, value, own, wrong),
                    None if DIFFERENT.iter().any(|(known, _)| *known == below) => {}
                    None => wrong.push(format!("{below} is missing: {value}")),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            if let (Some(theirs), Some(ours)) = (theirs.first(), ours.first()) {
                compare(path, theirs, ours, wrong);
            }
        }
        _ if std::mem::discriminant(theirs) != std::mem::discriminant(ours) => {
            wrong.push(format!("{path} is of another kind: {theirs}, and not {ours}"));
        }
        _ => {}
    }
}

fn sizes_namespaces_and_order_are_shown_by_ps(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name b --network none banner sleep 1000").ok();
    lab.host("podwire create --name a --network none --cidfile /run/a.cid banner true").ok();
    lab.host("podwire exec b sh -c 'head -c 3000 /dev/zero >/x; ln /x /y'").ok();
    assert_eq!(lab.ok("podwire inspect -s -f '{{.SizeRw}}' b"), "3000");
    lab.host("podwire ps -as").ok().says("3kB (virtual ");
    assert!(lab.ok("podwire ps --format '{{.Size}}'").starts_with("3kB (virtual "));
    let shown: Value = serde_json::from_str(&lab.ok("podwire ps -as --ns=false --format json --sort names")).unwrap();
    assert_eq!((&shown[0]["Size"]["rwSize"], &shown[0]["CIDFile"]), (&0.into(), &"/run/a.cid".into()));
    assert_eq!(shown[1]["Size"]["rwSize"], 3000);
    let pid = lab.ok("podwire inspect -f '{{.State.Pid}}' b");
    let number = lab.ok(&format!("stat -Lc %i /proc/{pid}/ns/mnt"));
    let table = lab.ok("podwire ps --ns");
    assert!(table.starts_with("CONTAINER ID  NAMES       PID         CGROUPNS") && table.contains(&number), "{table}");
    let order = |by: &str| lab.ok(&format!("podwire ps -a --sort {by} --format '{{{{.Names}}}}'"));
    assert_eq!((order("created"), order("names"), order("command")), ("b\na".into(), "a\nb".into(), "b\na".into()));
    assert_eq!(order("size"), "a\nb");
    lab.host("podwire ps --sort foo").refuses(
        125,
        "invalid argument \"foo\" for \"--sort\" flag: \"foo\" is not a valid value.  Choose from: \"command, created",
    );
    lab.host("podwire ps -s --ns").refuses(125, "size and namespace options conflict");
    assert_eq!(lab.ok("podwire ps -a --filter command=true --format '{{.Names}}'"), "a");
    assert_eq!(lab.ok("podwire ps -a --sync --external -q | wc -l"), "2");
    assert!(lab.host("timeout 2 podwire ps -w 1 -q").out.starts_with("\u{1b}[2J\u{1b}[1;1H"));
    assert_eq!(lab.ok("podwire inspect -l -f '{{.Name}}'"), "a");
}

fn containers_that_do_not_run_are_pruned_and_cleaned_up(lab: &Lab) {
    load(lab);
    for name in ["one", "two", "three"] {
        lab.host(&format!("podwire create --name {name} -l n={name} banner")).ok();
    }
    lab.host("podwire run -d --name up --network none banner sleep 1000").ok();
    lab.host("podwire container cleanup up")
        .refuses(125, "is running or paused, refusing to clean up: container state improper");
    assert_eq!(lab.ok("podwire container cleanup one"), "one");
    lab.host("podwire container cleanup --rm one && ! podwire container exists one").ok();
    lab.host("podwire container cleanup --exec 1 two").refuses(125, "--exec is not supported by podwire");
    let asked = lab.host("echo n | podwire container prune").ok();
    assert!(asked.out.starts_with("WARNING! This will remove all non running containers."), "{}", asked.out);
    let id = lab.ok("podwire inspect -f '{{.Id}}' two");
    assert_eq!(lab.ok("podwire container prune -f --filter label=n=two"), id);
    lab.host("podwire container prune --filter foo=1").refuses(125, "foo is an invalid filter");
    lab.host("echo y | podwire container prune").ok();
    assert_eq!(lab.ok("podwire ps -a --format '{{.Names}}'"), "up");
}

fn a_volume_goes_out_as_an_archive_and_comes_back(lab: &Lab) {
    load(lab);
    lab.host("podwire volume create one && podwire volume create two").ok();
    lab.host("podwire run --rm --network none -v one:/v banner sh -c 'echo text >/v/f; chown 5:6 /v/f; ln /v/f /v/.wh.g; mkdir /v/d; chmod 700 /v/d'").ok();
    lab.host("podwire volume export one -o /run/one.tar && podwire volume export one | cmp - /run/one.tar").ok();
    lab.host("podwire run --rm --network none -v two:/v banner sh -c 'echo old >/v/f; echo mine >/v/kept'").ok();
    lab.host("gzip -k /run/one.tar && podwire volume import two /run/one.tar.gz && podwire volume import two - </run/one.tar").ok();
    let listed = lab.ok("podwire run --rm --network none -v two:/v banner sh -c 'stat -c \"%u %g %h\" /v/f; cat /v/f /v/.wh.g /v/kept; stat -c %a /v/d'");
    assert_eq!(listed, "5 6 2\ntext\ntext\nmine\n700");
    lab.host("podwire volume export nope").refuses(125, "no such volume nope");
    lab.host("podwire volume import nope /run/one.tar").refuses(125, "no such volume nope");
    lab.host("podwire volume import two /no/file").refuses(125, "open /no/file: No such file or directory");
    lab.host("head -c 700 /run/one.tar | podwire volume import two").code(125);
}

fn commands_that_run_in_a_container_are_told_and_have_what_they_ask_for(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name c --network none banner sleep 1000").ok();
    let ids = || lab.ok("podwire inspect -f '{{len .ExecIDs}}' c");
    assert_eq!(ids(), "0");
    lab.host("podwire exec -d c sleep 30").ok();
    assert_eq!(ids(), "1");
    let attached = lab.background("podwire exec c sleep 31");
    eventually(|| lab.host("podwire inspect -f '{{len .ExecIDs}}' c"), |run| run.out.trim() == "2");
    assert_eq!(lab.ok("podwire inspect -f '{{len (index .ExecIDs 0)}}' c"), "64");
    lab.host("podwire exec c sh -c 'kill $(pidof sleep | tr \" \" \"\\n\" | grep -v ^1$)'").ok();
    let _ = attached.wait();
    eventually(|| lab.host("podwire inspect -f '{{len .ExecIDs}}' c"), |run| run.out.trim() == "0");
    assert_eq!(ids(), "0");
    lab.host("podwire exec -l echo latest").ok().says("latest");
    let capabilities = |flag: &str| lab.ok(&format!("podwire exec {flag} c grep CapEff /proc/self/status"));
    assert_ne!(capabilities(""), capabilities("--privileged"));
    lab.host("podwire exec --detach-keys ctrl-%,x c true").code(125);
}
