//! podwire as a whole: what it takes, what nobody uses, leaving no trace, runtimes, shells that complete.

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, USER, sentences};

use crate::words::{eventually, load, load_for_user};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        df_tells_what_images_containers_and_volumes_take,
        system_prune_removes_what_nobody_uses_after_asking,
        containers_are_pruned_by_filter_and_those_in_use_stay,
        a_reset_leaves_nothing_of_ours_on_the_machine,
        info_has_podmans_keys_in_templates_yaml_and_json,
        a_container_keeps_the_runtime_it_was_made_with,
        any_oci_runtime_is_taken_by_name_path_or_table_and_none_is_told,
        shells_complete_flags_and_names_and_manual_pages_are_written,
    ];
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        a_reset_leaves_nothing_of_an_ordinary_user_either,
    ]);
    all
}

fn df_tells_what_images_containers_and_volumes_take(lab: &Lab) {
    load(lab);
    let df = |format: &str| lab.ok(&format!("podwire system df --format '{format}'"));
    assert_eq!(df("{{.Type}} {{.Total}} {{.Active}}"), "Images 1 0\nContainers 0 0\nLocal Volumes 0 0");
    assert!(df("{{.Reclaimable}}").starts_with(&format!("{} (100%)\n", df("{{.Size}}").lines().next().unwrap_or("?"))));
    lab.host("podwire run --name old banner dd if=/dev/zero of=/big bs=1000 count=50").ok();
    lab.host("podwire run -d --name web -v data:/data banner sh -c 'echo 1234567 >/data/f; sleep 1000'").ok();
    lab.host("podwire volume create spare").ok();
    let ready = eventually(|| lab.host("podwire exec web cat /data/f"), |run| run.out.contains("1234567"));
    ready.ok();
    assert_eq!(df("{{.Type}} {{.Total}} {{.Active}}"), "Images 1 1\nContainers 2 1\nLocal Volumes 2 1");
    assert_eq!(df("{{.RawSize}} {{.RawReclaimable}}").lines().nth(1), Some("50000 50000"));
    assert_eq!(df("{{.Size}} {{.Reclaimable}}").lines().nth(2), Some("8B 0B (0%)"));
    let table = lab.ok("podwire system df");
    assert!(table.starts_with("TYPE           TOTAL       ACTIVE      SIZE        RECLAIMABLE\nImages  "), "{table}");
    let json: serde_json::Value = serde_json::from_str(&df("json")).expect("JSON");
    assert_eq!(json[1]["TotalCount"], 2);
    let verbose = lab.ok("podwire system df -v");
    for says in
        ["Images space usage:\n\nREPOSITORY", "SHARED SIZE", "Containers space usage:\n\nCONTAINER ID", "VOLUME NAME"]
    {
        assert!(verbose.contains(says), "{says}: {verbose}");
    }
    assert!(verbose.lines().any(|line| line.starts_with("data ") && line.ends_with("1           8B")), "{verbose}");
    lab.host("podwire system df -v --format json").refuses(125, "cannot combine --format and --verbose flags");
}

fn system_prune_removes_what_nobody_uses_after_asking(lab: &Lab) {
    load(lab);
    lab.host("podwire run --name old --label shop=yes banner dd if=/dev/zero of=/big bs=1000 count=50").ok();
    lab.host("podwire run --name older banner true").ok();
    lab.host("podwire run -d --name web -v used:/data --network inuse banner").code(125);
    lab.host("podwire network create inuse && podwire network create spare && podwire volume create spare").ok();
    lab.host("podwire run -d --name web -v used:/data --network inuse banner").ok();
    let asked = lab.host("echo n | podwire system prune").ok();
    assert!(asked.out.starts_with("WARNING! This command removes:\n\t- all stopped containers\n"), "{}", asked.out);
    assert!(asked.out.ends_with("\n\nAre you sure you want to continue? [y/N] "), "{:?}", asked.out);
    lab.host("podwire system prune </dev/null").refuses(125, "EOF");
    assert_eq!(lab.ok("podwire ps -aq | wc -l"), "3");
    let pruned = lab.ok("podwire system prune -f --filter label=shop");
    assert!(pruned.starts_with("Deleted Containers\n") && pruned.ends_with("Total reclaimed space: 50kB"), "{pruned}");
    assert_eq!(lab.ok("podwire ps -a --format '{{.Names}}'"), "older\nweb");
    let pruned = lab.ok("echo y | podwire system prune -a --volumes");
    for says in ["Deleted Containers\n", "Deleted Volumes\nspare\n", "Deleted Networks\nspare\n"] {
        assert!(pruned.contains(says), "{says}: {pruned}");
    }
    assert_eq!(
        lab.ok("podwire ps -a --format '{{.Names}}'; podwire volume ls -q; podwire images -q | wc -l"),
        "web\nused\n1"
    );
    lab.host("podwire rm -f -t 0 web").ok();
    let pruned = lab.ok("podwire system prune -a -f");
    assert!(pruned.contains("Deleted Images\n") && pruned.contains("Deleted Networks\ninuse"), "{pruned}");
    assert_eq!(lab.ok("podwire images -q; podwire network ls -q; podwire volume ls -q"), "podman\nused");
    lab.host("podwire system prune -f --filter name=x").refuses(125, "name is an invalid filter");
    lab.host("podwire system prune --external && podwire system prune --external -a")
        .refuses(125, "cannot be combined");
}

fn containers_are_pruned_by_filter_and_those_in_use_stay(lab: &Lab) {
    load(lab);
    let id = lab.ok("podwire create --name owner banner");
    lab.host("podwire create --name user --network container:owner banner").ok();
    lab.host("podwire create --name new --label keep banner && podwire run -d --name web banner").ok();
    lab.host("echo n | podwire container prune").ok().says("WARNING! This will remove all non running containers.");
    assert_eq!(lab.ok("podwire container prune -f --filter until=1h"), "");
    let pruned = lab.ok("podwire container prune -f --filter label!=keep");
    assert_eq!(pruned.lines().count(), 2, "{pruned}");
    assert_eq!(pruned.lines().next(), Some(id.as_str()));
    assert_eq!(lab.ok("podwire ps -a --format '{{.Names}}' | sort"), "new\nweb");
    lab.host("podwire container prune -f --filter foo=bar").refuses(125, "foo is an invalid filter");
}

fn a_reset_leaves_nothing_of_ours_on_the_machine(lab: &Lab) {
    let files =
        || lab.ok("find /var/lib /run -name 'podwire*' -o -name 'crun' | grep -v /run/lab | sort; nft list tables");
    let before = (files(), lab.ok("ip -o link | wc -l"));
    load(lab);
    lab.host("podwire network create shop && podwire volume create db").ok();
    lab.host("podwire run -d --name web --network shop -v db:/data -p 8080:80 banner").ok();
    lab.host("podwire pod create --name p -p 8081:80 && podwire run -d --pod p --runtime runc banner").ok();
    lab.host("podwire system reset </dev/null").refuses(1, "EOF");
    let asked = lab.host("echo n | podwire system reset").ok();
    assert!(asked.out.contains("        - the graphRoot directory: \"/var/lib/podwire\"\n"), "{}", asked.out);
    assert_eq!(lab.ok("podwire ps -q | wc -l"), "3");
    lab.host("podwire system reset -f").ok();
    eventually(|| lab.host("pgrep -a podwire-"), |run| run.code == 1).code(1);
    assert_eq!((files(), lab.ok("ip -o link | wc -l")), before);
    assert_eq!(lab.ok("podwire ps -aq; podwire images -q; podwire volume ls -q; podwire network ls -q"), "podman");
    // What somebody else has in a directory that is a root stays.
    lab.host(
        "mkdir /run/mine && echo x >/run/mine/own && podwire --root /run/mine --runroot /run/mine/run volume create v",
    )
    .ok();
    lab.host("podwire --root /run/mine --runroot /run/mine/run system reset -f").ok();
    assert_eq!(lab.ok("ls /run/mine"), "own");
    load(lab);
    lab.host("podwire run --rm banner echo again").ok().says("again");
}

fn a_reset_leaves_nothing_of_an_ordinary_user_either(lab: &Lab) {
    load_for_user(lab);
    lab.user("podwire run -d --name web -v db:/data -p 8080:80 banner").ok();
    lab.user("podwire network create shop && podwire run -d --network shop banner").ok();
    lab.user("podwire system reset -f").ok();
    let left = || lab.host(&format!("pgrep -a podwire-; find /home/{USER}/.local /run/user -name 'podwire*'"));
    let left = eventually(left, |run| run.out.is_empty());
    assert_eq!(left.out, "");
    lab.user("podwire ps -aq && podwire images -q").ok();
}

fn info_has_podmans_keys_in_templates_yaml_and_json(lab: &Lab) {
    let info = |format: &str| lab.ok(&format!("podwire info --format '{format}'"));
    assert_eq!(info("{{.Host.OCIRuntime.Name}} {{.Host.OS}} {{.Host.NetworkBackend}}"), "crun linux podwire");
    assert_eq!(
        info("{{.Store.GraphRoot}} {{.Store.RunRoot}} {{.Store.GraphDriverName}}"),
        "/var/lib/podwire /run/podwire overlay"
    );
    assert_eq!(
        info("{{.Host.Security.Rootless}} {{.Host.CgroupsVersion}} {{.Host.DatabaseBackend}}"),
        "false v2 sqlite"
    );
    assert!(info("{{.Host.Security.DefaultCapabilities}}").starts_with("CAP_CHOWN,"));
    assert!(info("{{.Host.OCIRuntime.Version}}").contains("crun version"));
    assert_eq!(
        info("{{.Version.Version}} {{json .Plugins.Volume}}"),
        format!("{} [\"local\"]", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(lab.ok("podwire system info -f '{{.Store.ContainerStore.Number}}'"), "0");
    lab.host("podwire info -f '{{.Nope}}'").refuses(125, "can't evaluate field Nope in type");
    let json: serde_json::Value = serde_json::from_str(&info("json")).expect("JSON");
    for (of, keys) in [
        (
            "host",
            "arch buildahVersion cgroupControllers conmon cpuUtilization distribution eventLogger idMappings \
                  linkmode logDriver memFree ociRuntime pasta remoteSocket rootlessNetworkCmd security slirp4netns swapFree uptime",
        ),
        ("store", "configFile graphOptions graphRootAllocated graphRootUsed graphStatus imageCopyTmpDir volumePath"),
        ("version", "APIVersion Built BuiltTime GitCommit GoVersion Os OsArch Version"),
        ("plugins", "authorization log network volume"),
    ] {
        for key in keys.split_whitespace() {
            assert!(json[of].get(key).is_some(), "{of}.{key}");
        }
    }
    let yaml = lab.ok("podwire info");
    assert!(yaml.starts_with("host:\n  arch: ") && yaml.contains("\n  ociRuntime:\n    name: crun\n"), "{yaml}");
}

fn a_container_keeps_the_runtime_it_was_made_with(lab: &Lab) {
    load(lab);
    lab.host("podwire create --name r --runtime runc banner && podwire run -d --name c banner").ok();
    lab.host("podwire start r").ok();
    let runtimes = || lab.ok("podwire inspect -f '{{.OCIRuntime}}' r c");
    assert_eq!(runtimes(), "runc\ncrun");
    lab.host("podwire exec r echo inside && podwire --runtime runc exec c echo inside").ok().says("inside\ninside");
    // Whoever finds its monitor killed takes it down with its own runtime.
    let monitor = lab.ok("podwire inspect -f '{{.State.ConmonPid}}' r");
    lab.host(&format!("kill -9 {monitor}; podwire restart -t 0 r && podwire exec r true")).ok();
    assert_eq!(lab.ok("podwire system migrate --new-runtime crun | wc -l"), "2");
    assert_eq!(runtimes(), "crun\ncrun");
    assert_eq!(lab.ok("podwire ps -q"), "");
    lab.host("podwire start r && podwire exec r true && podwire rm -f -t 0 r c").ok();
    lab.host("podwire system renumber").ok();
    lab.host("podwire system migrate --new-runtime nope").refuses(125, "\"nope\" not found in $PATH");
}

fn any_oci_runtime_is_taken_by_name_path_or_table_and_none_is_told(lab: &Lab) {
    load(lab);
    lab.host("printf '#!/bin/sh\\necho called >>/run/called\\nexec crun \"$@\"\\n' >/run/mine && chmod +x /run/mine")
        .ok();
    lab.host("podwire --runtime /run/mine run --rm banner echo out").ok().says("out");
    assert_ne!(lab.ok("cat /run/called"), "");
    lab.host("printf '[engine]\\nruntime = \"own\"\\n[engine.runtimes]\\nown = [\"/nope\", \"/run/mine\"]\\n' >/run/conf && rm /run/called").ok();
    lab.host("CONTAINERS_CONF=/run/conf podwire run --rm banner echo out && cat /run/called").ok().says("called");
    lab.host("CONTAINERS_CONF=/run/conf podwire run -d --name own banner && podwire inspect -f '{{.OCIRuntime}}' own")
        .ok()
        .says("mine");
    lab.host("podwire --runtime nope run --rm banner true").refuses(125, "OCI runtime \"nope\" not found in $PATH");
    lab.host("podwire --runtime /etc/passwd run --rm banner true")
        .refuses(125, "/etc/passwd is not an executable file");
    // With runc alone, and with none; podwire looks in the usual places beside PATH.
    let hide = |names: &str| {
        let hidden =
            names.split(' ').map(|name| format!("mount --bind /dev/null $(command -v {name})")).collect::<Vec<_>>();
        hidden.join(" && ")
    };
    let run = "podwire run --rm banner echo out";
    lab.host(&format!(
        "unshare -m sh -c '{} && podwire info -f \"{{{{.Host.OCIRuntime.Name}}}}\" && {run}'",
        hide("crun")
    ))
    .ok()
    .says("runc")
    .says("out");
    lab.host(&format!("unshare -m sh -c '{} && {run}'", hide("crun runc")))
        .refuses(125, "no OCI runtime is installed: install the package crun (or runc), or name one by --runtime");
    assert_eq!(lab.ok("podwire ps -a --format '{{.Names}}'"), "own");
}

fn shells_complete_flags_and_names_and_manual_pages_are_written(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop && podwire run -d --name web banner && podwire create --name old banner")
        .ok();
    // What bash does at a TAB, without a terminal.
    let tab = |line: &str| {
        let words = line.split(' ').collect::<Vec<_>>();
        let (index, last) = (words.len() - 1, words[words.len() - 1]);
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let script = format!(
            "source <(podwire completion bash); COMP_WORDS=({}); COMP_CWORD={index}; COMP_TYPE=9; \
             _clap_complete_podwire podwire \"{last}\" 2>/dev/null; printf \"%s\\n\" \"${{COMPREPLY[@]}}\"",
            quoted.join(" ")
        );
        lab.ok(&format!("bash -c '{script}'"))
    };
    assert_eq!(tab("podwire netwo"), "network");
    assert_eq!(tab("podwire run --network sh"), "shop");
    assert_eq!(tab("podwire stop we"), "web");
    assert_eq!(tab("podwire start ol"), "old");
    assert_eq!(tab("podwire rm -f ol"), "old");
    assert_eq!(tab("podwire network create --sub"), "--subnet");
    lab.host("podwire completion zsh -f /run/_podwire && head -1 /run/_podwire").ok().says("#compdef podwire");
    lab.host("podwire completion fish --no-desc").ok().says("complete --keep-order");
    lab.host("podwire completion tcsh").refuses(125, "invalid argument \"tcsh\" for \"podwire completion\"");
    lab.host("podwire completion").refuses(125, "accepts 1 arg(s), received 0");
    lab.host("podwire man /run/man && ls /run/man").ok().says("podwire-network-create.1").says("podwire-run.1");
    lab.host("grep -c volume /run/man/podwire-run.1").ok();
    assert!(!lab.ok("podwire --help").contains("\n  man "));
}
