//! What containers and pods may have of the machine, and what they use of it.

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, sentences};

use crate::everyday_run::has;
use crate::words::{banner_comes, eventually, get, ip4, load, load_for_user};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        what_containers_use_is_shown_as_podman_shows_it,
        a_device_that_was_not_given_cannot_be_opened,
        a_pods_control_group_has_those_of_its_containers_and_goes_with_it,
        what_cannot_be_limited_is_refused_in_one_line,
    ];
    all.extend(sentences![LabOptions { cgroup2: false, ..LabOptions::default() }; &[];
        what_containers_use_is_shown_on_a_mixed_machine,
        a_device_that_was_not_given_cannot_be_opened_on_a_mixed_machine,
        a_pods_control_group_goes_with_it_on_a_mixed_machine,
        limits_change_while_a_container_runs_and_hold_when_it_starts_again,
        a_pods_limits_are_held_by_its_containers_together,
    ]);
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        an_ordinary_user_is_told_what_is_counted_or_why_nothing_is,
    ]);
    all
}

fn what_containers_use_is_shown_on_a_mixed_machine(lab: &Lab) {
    what_containers_use_is_shown_as_podman_shows_it(lab);
    if has(lab, "memory") {
        lab.host("podwire run -d --name limited --memory 64m banner").ok();
        lab.host("podwire stats --no-stream --format '{{.MemUsage}} {{.MemLimit}}' limited")
            .ok()
            .says("67.11MB 67108864");
    }
}

fn what_containers_use_is_shown_as_podman_shows_it(lab: &Lab) {
    load(lab);
    let web = lab.ok("podwire run -d --name web banner");
    lab.host("podwire create --name idle banner").ok();
    lab.host("podwire run -d --name busy banner sh -c 'while :; do :; done'").ok();
    let table = lab.ok("podwire stats --no-stream");
    let heading: Vec<&str> =
        table.lines().next().unwrap_or_default().split("  ").filter(|cell| !cell.is_empty()).collect();
    let heading: Vec<&str> = heading.iter().map(|cell| cell.trim()).collect();
    let columns =
        ["ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS", "CPU TIME", "AVG CPU %"];
    assert_eq!(heading, columns, "{table}");
    assert_eq!(table.lines().count(), 3, "those that run: {table}");
    assert!(!table.contains("idle") && table.contains(&web[..12]) && !table.contains(&web), "{table}");
    let all = lab
        .ok("podwire container stats -a --no-stream --no-trunc --format '{{.ID}} {{.Name}} {{.PIDS}} {{.MemUsage}}'");
    assert!(all.contains(&web) && all.contains(" idle -- -- / --"), "{all}");
    banner_comes(|| lab.host(&get(&ip4(lab, "web"))));
    let json = lab.ok("podwire stats --no-stream --format json web busy");
    let shown: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let keys: Vec<&String> = shown[0].as_object().expect("an object").keys().collect();
    let podmans = "id name cpu_time cpu_percent avg_cpu mem_usage mem_percent net_io block_io pids";
    assert_eq!(keys, podmans.split(' ').collect::<Vec<_>>(), "{json}");
    assert_eq!(
        (&shown[0]["name"], &shown[1]["name"], &shown[0]["id"]),
        (&"web".into(), &"busy".into(), &web[..12].into())
    );
    let io = shown[0]["net_io"].as_str().unwrap_or_default().to_owned();
    assert!(io.ends_with('B') && !io.starts_with("--"), "what it received and sent: {io}");
    assert_eq!(shown[0]["pids"], "1", "{json}");
    let number =
        |field: &str| lab.ok(&format!("podwire stats --no-stream --format '{{{{{field}}}}}' busy")).parse::<u64>();
    let before = number(".CPUNano").expect("a number");
    eventually(
        || lab.host("podwire stats --no-stream --format '{{.CPUNano}}' busy"),
        |run| run.out.trim().parse::<u64>().is_ok_and(|now| now > before),
    );
    assert!(lab.ok("podwire stats --no-stream --format '{{.CPUPerc}}' busy").ends_with('%'));
    let streamed = lab.host("timeout 4 podwire stats --interval 1 --no-reset --format '{{.Name}}' web");
    assert!(streamed.out.lines().filter(|line| *line == "web").count() >= 2, "{}", streamed.out);
    assert!(!streamed.out.contains('\u{1b}'), "{}", streamed.out);
    let cleared = lab.host("timeout 2 podwire stats web");
    assert!(cleared.out.starts_with("\u{1b}[2J\u{1b}[1;1HID"), "{:?}", cleared.out);
    assert!(lab.ok("podwire stats --latest --no-stream --format '{{.Name}}'").contains("busy"));
    lab.host("podwire stats --no-stream nope").refuses(125, "no such container");
    lab.host("podwire stats --no-stream -a web").refuses(125, "--all, --latest and containers cannot be used together");
    lab.host("podwire stats --no-stream --interval 0").refuses(125, "invalid interval");
    lab.host("podwire run -d --name dark --cgroups disabled banner").ok();
    lab.host("podwire stats --no-stream dark").refuses(125, "it has no control group (--cgroups=disabled)");
    lab.host("podwire stats --no-stream").ok().says("dark");
    lab.host("podwire pod create --name p").ok();
    lab.host("podwire run -d --pod p --name member banner").ok();
    let table = lab.ok("podwire pod stats --no-stream p");
    let first = table.lines().next().unwrap_or_default().to_owned();
    for column in ["POD", "CID", "NAME", "CPU %", "MEM USAGE/ LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS"] {
        assert!(first.contains(column), "{column} in {first}");
    }
    assert!(table.contains("member") && !table.contains("busy"), "{table}");
    lab.host("podwire pod stats --no-stream --format '{{.Name}} {{.PIDS}}'").ok().says("member 1");
    lab.host("podwire pod stats --no-stream nope").refuses(125, "no such pod");
}

fn a_device_that_was_not_given_cannot_be_opened_on_a_mixed_machine(lab: &Lab) {
    a_device_that_was_not_given_cannot_be_opened(lab);
}

/// c 10:200 is /dev/net/tun, which anybody may open, once for each wish.
fn a_device_that_was_not_given_cannot_be_opened(lab: &Lab) {
    load(lab);
    let opens =
        |flags: &str, line: &str| lab.host(&format!("podwire run --rm --cap-add MKNOD {flags} banner sh -c '{line}'"));
    let made = "mknod /made c 10 200 && true </made";
    let refused = opens("", made).code(1);
    assert!(refused.err.contains("/made: Operation not permitted"), "made, and not opened: {}", refused.err);
    for usual in ["null", "zero", "full", "random", "urandom", "ptmx"] {
        opens("", &format!("true <>/dev/{usual}")).ok();
    }
    opens("--device /dev/net/tun", made).ok();
    opens("--device-cgroup-rule 'c 10:200 r'", made).ok();
    opens("--device-cgroup-rule 'c 10:* rw'", made).ok();
    opens("--device-cgroup-rule 'b *:* rwm'", made).code(1);
    opens("--privileged", made).ok();
    opens("--device /dev/net/tun:r", "true </dev/net/tun && ! true >/dev/net/tun").ok();
    lab.host("podwire run -d --name web --cap-add MKNOD banner").ok();
    lab.host(&format!("podwire exec web sh -c '{made}'")).code(1);
    lab.host("podwire run --rm --device-cgroup-rule nonsense banner true").refuses(125, "invalid device cgroup rule");
}

/// Directories of the machine's control groups with this name.
fn groups(lab: &Lab, name: &str) -> Vec<String> {
    let found = lab.ok(&format!("find /sys/fs/cgroup -maxdepth 7 -name '{name}' 2>/dev/null | sort"));
    found.lines().map(str::to_owned).collect()
}

fn a_pods_control_group_goes_with_it_on_a_mixed_machine(lab: &Lab) {
    a_pods_control_group_has_those_of_its_containers_and_goes_with_it(lab);
}

fn a_pods_control_group_has_those_of_its_containers_and_goes_with_it(lab: &Lab) {
    load(lab);
    let pod = lab.ok("podwire pod create --name p");
    let id = lab.ok("podwire run -d --pod p --name a banner");
    let name = format!("podwire-pod-{pod}");
    let own = groups(lab, &format!("podwire-{id}"));
    assert!(!own.is_empty() && own.iter().all(|path| path.contains(&format!("/{name}/podwire-"))), "{own:?}");
    let shown = lab.ok("podwire pod inspect -f '{{.CreateCgroup}} {{.CgroupPath}}' p");
    assert_eq!(shown, format!("true /{name}"));
    lab.host("podwire pod restart p").ok();
    lab.host("podwire pod stop -t 0 p").ok();
    assert!(groups(lab, &format!("podwire-{id}")).is_empty());
    lab.host("podwire pod rm p").ok();
    assert!(groups(lab, &name).is_empty());
    let apart = lab.ok("podwire pod create --name apart --share-parent=false");
    let id = lab.ok("podwire run -d --pod apart --name b banner");
    assert!(
        !groups(lab, &format!("podwire-{id}")).is_empty() && groups(lab, &format!("podwire-pod-{apart}")).is_empty()
    );
    assert_eq!(lab.ok("podwire pod inspect -f '{{.CreateCgroup}}' apart"), "false");
    let parent = format!("/lab-{}", &apart[..12]);
    let below = lab.ok(&format!("podwire pod create --name below --cgroup-parent {parent}"));
    lab.host("podwire run -d --pod below --name c banner").ok();
    assert!(groups(lab, &format!("podwire-pod-{below}")).iter().all(|path| path.contains(&parent)));
    assert_eq!(
        lab.ok("podwire pod inspect -f '{{.CgroupParent}} {{.CgroupPath}}' below"),
        format!("{parent} {parent}/podwire-pod-{below}")
    );
    lab.host("podwire pod rm -f -t 0 apart below").ok();
    assert!(groups(lab, "podwire-pod-*").iter().all(|path| !path.contains(&below) && !path.contains(&apart)));
    for left in groups(lab, parent.trim_start_matches('/')) {
        lab.host(&format!("rmdir {left}")).ok();
    }
}

/// A file of the group that has this controller.
fn file(lab: &Lab, controller: &str, group: &str, file: &str) -> String {
    lab.ok(&format!("cat $(find /sys/fs/cgroup/{controller} -maxdepth 7 -type d -name '{group}')/{file}"))
}

fn limits_change_while_a_container_runs_and_hold_when_it_starts_again(lab: &Lab) {
    load(lab);
    let id = lab.ok("podwire run -d --name web banner");
    let group = format!("podwire-{id}");
    let update = lab.host(
        "podwire update --memory 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 20 \
         --restart on-failure:3 --env COLOR=blue --ulimit nofile=100:200 web",
    );
    assert_eq!(update.ok().out.trim(), id);
    let held = |when: &str| {
        for (controller, name, text) in [
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.shares", "512"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "20"),
        ] {
            if lab.quietly(&format!("test -d /sys/fs/cgroup/{controller}")).code == 0 {
                assert_eq!(file(lab, controller, &group, name), text, "{name} {when}");
                assert_ne!(file(lab, controller, &group, "cgroup.procs"), "", "{controller} {when}");
            }
        }
    };
    held("at once");
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} \
                 {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    let inspect = || lab.ok(&format!("podwire inspect -f '{shown}' web"));
    assert_eq!(inspect(), "67108864 500000000 512 0 20 on-failure 3");
    lab.host("podwire update --cpuset-cpus 4000 web").refuses(125, "cannot set --cpuset-cpus");
    held("after one that failed");
    assert_eq!(inspect(), "67108864 500000000 512 0 20 on-failure 3");
    lab.host("podwire restart -t 0 web").ok();
    held("after a restart");
    lab.host("podwire exec web sh -c 'ulimit -n; env'").ok().says("100").says("COLOR=blue");
    lab.host("podwire update --memory 128m --pids-limit -1 web").ok();
    assert!(inspect().starts_with("134217728 500000000 512 0 0"), "{}", inspect());
    lab.host("podwire update --cpu-quota 20000 web").ok();
    if has(lab, "cpu") {
        assert_eq!(file(lab, "cpu", &group, "cpu.cfs_quota_us"), "20000");
    }
    lab.host("podwire stop -t 0 web").ok();
    lab.host("podwire update --memory 32m --unsetenv COLOR web").ok();
    lab.host("podwire start web").ok();
    assert!(!lab.ok("podwire exec web env").contains("COLOR"));
    assert!(inspect().starts_with("33554432 "), "{}", inspect());
    lab.host("podwire events --stream=false --filter event=update").ok().says("container update");
    lab.host("podwire update nope --memory 1g").refuses(125, "no such container");
    lab.host("podwire run -d --name dark --cgroups disabled banner").ok();
    lab.host("podwire update --memory 1g dark").refuses(125, "it has no control group");
}

fn a_pods_limits_are_held_by_its_containers_together(lab: &Lab) {
    load(lab);
    let pod = lab
        .ok("podwire pod create --name p --cpus 0.5 --memory 64m --cpu-shares 100 --cpuset-cpus 0 --memory-swap 64m");
    let id = lab.ok("podwire run -d --pod p --name a --memory 32m banner");
    let (whole, part) = (format!("podwire-pod-{pod}"), format!("podwire-{id}"));
    for (controller, group, name, text) in [
        ("memory", &whole, "memory.limit_in_bytes", "67108864"),
        ("cpu", &whole, "cpu.cfs_quota_us", "50000"),
        ("cpu", &whole, "cpu.shares", "100"),
        ("cpuset", &whole, "cpuset.cpus", "0"),
        ("memory", &part, "memory.limit_in_bytes", "33554432"),
    ] {
        if lab.quietly(&format!("test -d /sys/fs/cgroup/{controller}")).code == 0 {
            assert_eq!(file(lab, controller, group, name), text, "{name}");
        }
    }
    assert_eq!(
        lab.ok("podwire pod inspect -f '{{.MemoryLimit}} {{.CPUQuota}} {{.CPUShares}} {{.CPUSetCPUs}}' p"),
        "67108864 50000 100 0"
    );
    if has(lab, "memory") {
        lab.host(
            "podwire run --pod p --name big banner sh -c 'dd if=/dev/zero of=/tmp/x bs=1M count=1; tail /dev/zero'",
        )
        .code(137);
        lab.host("podwire inspect -f '{{.State.Status}}' a").ok().says("running");
    }
    lab.host("podwire update --cpus 0.1 a").ok();
    if has(lab, "cpu") {
        assert_eq!(file(lab, "cpu", &part, "cpu.cfs_quota_us"), "10000");
    }
    lab.host("podwire pod rm -f -t 0 p").ok();
    assert!(groups(lab, &whole).is_empty());
}

fn what_cannot_be_limited_is_refused_in_one_line(lab: &Lab) {
    load(lab);
    let refuses =
        |flags: &str, words: &str| lab.host(&format!("podwire run --rm {flags} banner true")).refuses(125, words);
    refuses("--blkio-weight 5", "range of blkio weight is from 10 to 1000");
    refuses("--device-read-bps nonsense", "bad format: nonsense");
    refuses("--memory-swappiness 101", "valid memory swappiness range is 0-100");
    refuses("--cgroup-conf nonsense", "invalid --cgroup-conf");
    refuses("--cgroup-parent ../x", "must be a path without ..");
    lab.host("podwire pod create --memory x").refuses(125, "invalid size");
    lab.host("podwire pod create --memory 2m --memory-swap 1m")
        .refuses(125, "minimum memoryswap limit should be larger");
    lab.host("podwire pod create --pid host").refuses(125, "--pid of a pod needs --share pid");
    lab.host("podwire pod create --pid container:x").refuses(125, "takes private, host or ns:PATH");
    let warned = lab.host("podwire run --rm --memory-swappiness 10 banner true").ok();
    assert!(warned.err.contains("--memory-swappiness is not held"), "{}", warned.err);
    lab.host("podwire run --rm --device-read-bps /dev/null:1m banner true").code(125);
    assert!(lab.ok("podwire ps -aq").is_empty() && lab.ok("podwire pod ps -q").is_empty());
}

fn an_ordinary_user_is_told_what_is_counted_or_why_nothing_is(lab: &Lab) {
    load_for_user(lab);
    lab.user("podwire run -d --name web banner").ok();
    let stats = lab.user("podwire stats --no-stream web");
    match stats.code {
        0 => drop(stats.says("web")),
        _ => drop(
            stats.refuses(125, "stats is not available for container web: an ordinary user can make no control group"),
        ),
    }
    lab.user("podwire run --rm --device-cgroup-rule 'c 1:11 r' banner true")
        .refuses(125, "--device-cgroup-rule takes root");
    lab.user("podwire run --rm --device /dev/null:/dev/nix:r banner true").refuses(125, "cannot be held to \"r\"");
    lab.user("podwire pod create --name p --cpus 0.5").ok();
    let run = lab.user("podwire run --rm --pod p banner true").ok();
    let has_cpu = lab.user("podwire run --rm --cpus 0.5 banner true").ok().err.is_empty();
    assert_eq!(run.err.contains("--cpus is not held"), !has_cpu, "{}", run.err);
    lab.user("podwire pod rm -f p").ok();
}
