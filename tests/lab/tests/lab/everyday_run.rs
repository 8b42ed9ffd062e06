//! What run and create can be told: limits, namespaces, mounts, restarts, health.

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, Run, sentences};

use crate::words::{eventually, load, load_for_user};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        what_a_process_begins_with_is_as_asked,
        namespaces_of_others_are_joined,
        mounts_are_made_in_every_spelling,
        a_directory_is_a_containers_root_file_system,
        devices_and_privileges_are_given_and_kept,
        the_environment_is_what_was_asked_for_and_nothing_else,
        control_groups_go_with_their_containers,
        a_policy_starts_a_container_again_and_lets_it_be_when_it_was_stopped,
        a_check_finds_a_container_well_and_unwell,
        an_unhealthy_container_is_dealt_with_as_asked,
        a_container_is_killed_when_its_time_is_over,
        output_is_kept_where_and_as_long_as_asked,
        what_cannot_be_done_is_refused_in_podmans_words,
    ];
    // With whatever controllers the machine has.
    all.extend(sentences![LabOptions { cgroup2: false, ..LabOptions::default() }; &[];
        memory_and_processes_are_limited_where_control_groups_allow_it,
        control_groups_go_with_their_containers_on_a_mixed_machine,
    ]);
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        an_ordinary_users_directory_is_a_containers_root_file_system,
    ]);
    all
}

fn control_groups_go_with_their_containers_on_a_mixed_machine(lab: &Lab) {
    control_groups_go_with_their_containers(lab);
}

fn what_a_process_begins_with_is_as_asked(lab: &Lab) {
    load(lab);
    let run = |flags: &str, line: &str| lab.ok(&format!("podwire run --rm {flags} banner sh -c '{line}'"));
    assert_eq!(run("--ulimit nofile=100:200 --ulimit core=0", "ulimit -n; ulimit -Hn; ulimit -c"), "100\n200\n0");
    assert_eq!(run("--umask 077", "umask"), "0077");
    assert_eq!(run("--group-add web --group-add 1234", "id -G"), "0 33 1234");
    assert_eq!(
        run(
            "--sysctl net.ipv4.ip_forward=1 --sysctl kernel.shm_rmid_forced=1",
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced"
        ),
        "1\n1"
    );
    assert_eq!(run("--shm-size 2m", "df -m /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2"), "2");
    assert_eq!(run("--oom-score-adj 500", "cat /proc/self/oom_score_adj"), "500");
    assert_eq!(run("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status"), "NoNewPrivs:\t1");
    assert_eq!(run("--security-opt seccomp=unconfined", "grep ^Seccomp: /proc/self/status"), "Seccomp:\t0");
    assert_eq!(run("--security-opt unmask=/proc/keys", "mount | grep -c /proc/keys || true"), "0");
    lab.host("podwire run --rm --read-only banner touch /run/x").ok();
    lab.host("podwire run --rm --read-only --read-only-tmpfs=false banner touch /run/x").code(1);
    lab.host("test -e /usr/share/zoneinfo/Asia/Tokyo").ok();
    assert_eq!(run("--tz Asia/Tokyo", "date +%Z"), "JST");
}

fn namespaces_of_others_are_joined(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web --hostname shop banner").ok();
    let run = |flags: &str, line: &str| lab.ok(&format!("podwire run --rm {flags} banner sh -c '{line}'"));
    assert_eq!(run("--pid container:web", "cat /proc/1/cmdline | tr \"\\0\" \" \"").trim(), "httpd -f -p 80 -h /www");
    assert_eq!(run("--uts container:web", "hostname"), "shop");
    assert_eq!(run("--uts host", "hostname"), "labhost");
    lab.host("podwire exec web sh -c 'echo shared >/dev/shm/file'").ok();
    assert_eq!(run("--ipc container:web", "cat /dev/shm/file"), "shared");
    let host = lab.ok("cat /proc/1/cmdline | tr '\\0' ' '");
    assert_eq!(run("--pid host", "cat /proc/1/cmdline | tr \"\\0\" \" \"").trim(), host.trim());
    lab.host("podwire run -d --name below --pid container:web banner sleep 1000").ok();
    lab.host("podwire stop -t 0 below web && podwire start below").ok();
    assert_eq!(lab.ok("podwire ps -q").lines().count(), 2, "whose namespace it needs is started first");
    lab.host("podwire run --rm --uts host --hostname x banner true")
        .refuses(125, "cannot set hostname when running in the host UTS namespace");
    lab.host("podwire run --rm --pid container:nope banner true")
        .refuses(125, "looking up container to share pid namespace with");
}

fn mounts_are_made_in_every_spelling(lab: &Lab) {
    load(lab);
    let dir = lab.dir().join("shared");
    std::fs::create_dir(&dir).expect("the lab's directory");
    let dir = dir.display();
    lab.host(&format!("podwire run --rm --mount type=bind,source={dir},target=/data banner sh -c 'echo x >/data/f'"))
        .ok();
    assert_eq!(lab.ok(&format!("cat {dir}/f")), "x");
    let refused =
        lab.host(&format!("podwire run --rm --mount type=bind,src={dir},dst=/data,ro=true banner touch /data/g"));
    assert!(refused.err.contains("Read-only"), "{}", refused.err);
    lab.host("podwire run --rm --mount type=volume,source=v,target=/data banner sh -c 'echo y >/data/f'").ok();
    lab.host("podwire run --rm -v v:/data banner cat /data/f").ok().says("y");
    let size = "podwire run --rm --mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777 banner sh -c 'stat -c %a /t; df -k /t | tail -1'";
    lab.host(size).ok().says("1777").says("1024");
    lab.host(&format!("podwire run -d --name first -v v:/one -v {dir}:/two banner")).ok();
    lab.host("podwire run --rm --volumes-from first banner cat /one/f /two/f").ok().says("y\nx");
    lab.host("podwire run --rm --volumes-from first:ro banner touch /one/g").code(1);
    lab.host("podwire run --rm -v v:/data --mount type=tmpfs,target=/data banner true")
        .refuses(125, "/data: duplicate mount destination");
    lab.host("podwire run --rm --mount type=foo,target=/x banner true").refuses(125, "invalid filesystem type \"foo\"");
}

fn a_directory_is_a_containers_root_file_system(lab: &Lab) {
    load(lab);
    let dir = lab.dir().display();
    tried_as_rootfs(&|line| lab.host(&format!("cd {dir}; {line}")));
    let check = |flags: &str, words: &str| {
        lab.host(&format!("cd {dir}; podwire run --rm {flags}")).refuses(125, words);
    };
    check(
        "--rootfs /nonexistent true",
        "running container create option: stat /nonexistent: no such file or directory",
    );
    check("--rootfs tree", "no command or entrypoint provided, and no CMD or ENTRYPOINT from image");
    check("--rootfs tree/word true", &format!("--rootfs takes a directory: {dir}/tree/word is none"));
    check("--rootfs tree:idmap true", "--rootfs tree:idmap is not supported by podwire");
    // Files of users whom the container does not have are nobody's there.
    let mapped =
        format!("podwire run --rm --uidmap 0:100000:1000 --rootfs {dir}/tree sh -c 'stat -c %u /word; touch /new'");
    lab.host(&mapped).code(1).says("65534");
    lab.host(&format!("chown -R 100000:100000 {dir}/tree; {mapped}")).ok().says("0");
    assert_eq!(lab.ok(&format!("stat -c %u:%g {dir}/tree/new; podwire ps -aq")), "100000:100000");
}

fn an_ordinary_users_directory_is_a_containers_root_file_system(lab: &Lab) {
    load_for_user(lab);
    tried_as_rootfs(&|line| lab.user(line));
    let kept = "podwire run --rm --userns keep-id --rootfs tree sh -c 'id -u; touch /mine; stat -c %u /mine'";
    let id = lab.user("id -u").ok().out;
    assert_eq!(lab.user(kept).ok().out, format!("{id}{id}"));
    assert_eq!(lab.user("stat -c %u tree/mine").ok().out, id);
}

/// The directory is `tree`, where the lines are run.
fn tried_as_rootfs(run: &dyn Fn(&str) -> Run) {
    let ok = |line: &str| run(line).ok().out.trim().to_owned();
    ok(
        "mkdir tree; podwire create --name from banner; podwire export from | tar x --no-same-owner -C tree; podwire rm from",
    );
    // What is written is written to it, whether by the container or from outside.
    ok("podwire run -d --name web -v data:/data --rootfs tree sh -c 'echo one >>/word; sleep 1000'");
    assert_eq!(eventually(|| run("cat tree/word"), |run| run.out == "one\n").out, "one\n");
    assert_eq!(ok("podwire exec web sh -c 'echo two >>/word; cat /word; touch /data/in'"), "one\ntwo");
    ok("podwire stop -t 0 web; podwire cp tree/word web:/copy");
    assert_eq!(ok("cat tree/copy; ls tree/data"), "one\ntwo");
    ok("podwire restart web");
    assert_eq!(eventually(|| run("cat tree/word"), |run| run.out.lines().count() == 3).out, "one\ntwo\none\n");
    assert_eq!(ok("podwire diff web; podwire ps --format '{{.Image}}'"), "");
    let tree = ok("readlink -f tree");
    assert_eq!(ok("podwire inspect -f '{{.Rootfs}},{{.Image}},{{.ImageName}}' web"), format!("{tree},,"));
    run("podwire commit web made").refuses(125, "cannot commit a container that uses an exploded rootfs");
    run("podwire kube generate web").refuses(125, "container web has no image");
    assert_eq!(ok("podwire export web | tar xO word"), "one\ntwo\none");
    ok("podwire rm -f -t 0 web");
    // Over it lies what is the container's own, from one start to the next.
    ok("podwire run --name over --rootfs tree:O sh -c 'echo over >>/word; touch /new'");
    assert_eq!(ok("podwire start -a over; podwire export over | tar xO word"), "one\ntwo\none\nover\nover");
    assert_eq!(ok("podwire diff over | sort"), "A /new\nC /word");
    ok("podwire rm over");
    assert_eq!(ok("cat tree/word; ls tree | grep new || true"), "one\ntwo\none");
}

fn devices_and_privileges_are_given_and_kept(lab: &Lab) {
    load(lab);
    lab.host("podwire run --rm --device /dev/null:/dev/nothing banner sh -c 'echo x >/dev/nothing; stat -c %t:%T /dev/nothing'").ok().says("1:3");
    lab.host("podwire run --rm --device /dev/nope banner true")
        .refuses(125, "stat /dev/nope: no such file or directory");
    lab.host("podwire run --rm --device /dev/null:x banner true").refuses(125, "/dev/null:x");
    let all = lab.ok("podwire run --rm --privileged banner sh -c 'ls /dev | wc -l'").parse::<u32>().unwrap_or_default();
    let few = lab.ok("podwire run --rm banner sh -c 'ls /dev | wc -l'").parse::<u32>().unwrap_or_default();
    assert!(all > few, "{all} {few}");
}

fn the_environment_is_what_was_asked_for_and_nothing_else(lab: &Lab) {
    load(lab);
    let env = |before: &str, flags: &str| lab.ok(&format!("{before} podwire run --rm {flags} banner /bin/env"));
    assert!(env("MINE=yes", "--env-host").contains("MINE=yes"));
    assert!(!env("MINE=yes", "").contains("MINE"));
    assert!(env("http_proxy=http://proxy:8080", "").contains("http_proxy=http://proxy:8080"));
    assert!(!env("http_proxy=http://proxy:8080", "--http-proxy=false").contains("proxy"));
    assert!(!env("", "--unsetenv container").contains("container="));
    // The runtime itself adds HOME.
    assert_eq!(env("", "--unsetenv-all -e A=b"), "A=b\nHOME=/root");
    lab.host("printf 'a=1\\n# no\\nb\\n' >/run/labels").ok();
    lab.host("podwire create --name l --label-file /run/labels --label a=2 banner").ok();
    assert_eq!(lab.ok("podwire inspect -f '{{.Config.Labels}}' l"), "map[a:2 b:]");
}

/// Is there a tree of control groups that has the controller?
pub(crate) fn has(lab: &Lab, controller: &str) -> bool {
    lab.quietly(&format!(
        "test -d /sys/fs/cgroup/{controller} || grep -q {controller} /sys/fs/cgroup/cgroup.controllers"
    ))
    .code
        == 0
}

fn memory_and_processes_are_limited_where_control_groups_allow_it(lab: &Lab) {
    load(lab);
    for (controller, flag) in
        [("memory", "--memory 64m"), ("pids", "--pids-limit 10"), ("cpu", "--cpus 0.5"), ("cpuset", "--cpuset-cpus 0")]
    {
        let run = lab.host(&format!("podwire run --rm {flag} banner true")).ok();
        let warned = run.err.contains(&format!("the controller {controller} is not available"));
        assert_eq!(warned, !has(lab, controller), "{flag}: {}", run.err);
    }
    if has(lab, "memory") {
        lab.host("podwire run --name big --memory 16m banner sh -c 'dd if=/dev/zero of=/dev/shm/file bs=1M count=60'")
            .code(137);
        assert_eq!(lab.ok("podwire inspect -f '{{.State.OOMKilled}} {{.HostConfig.Memory}}' big"), "true 16777216");
    }
    if has(lab, "pids") {
        let many = lab
            .host("podwire run --rm --pids-limit 5 banner sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait'");
        assert!(many.err.contains("can't fork"), "{}", many.err);
    }
}

fn control_groups_go_with_their_containers(lab: &Lab) {
    load(lab);
    let id = lab.ok("podwire run -d --name web banner");
    let groups = || lab.ok(&format!("find /sys/fs/cgroup -maxdepth 6 -name 'podwire-{id}' 2>/dev/null | wc -l"));
    assert_ne!(groups(), "0");
    assert_ne!(
        lab.ok(&format!(
            "cat $(find /sys/fs/cgroup -maxdepth 6 -name 'podwire-{id}' | grep -v unified | head -1)/cgroup.procs"
        )),
        ""
    );
    lab.host("podwire exec -d web sleep 1000").ok();
    lab.host("podwire stop -t 0 web").ok();
    assert_eq!(groups(), "0");
    lab.host("podwire start web").ok();
    let monitor = lab.ok("podwire inspect -f '{{.State.ConmonPid}}' web");
    lab.host(&format!("kill -9 {monitor}")).ok();
    lab.host("podwire rm -f -t 0 web").ok();
    assert_eq!(groups(), "0");
    let shared = lab.ok("podwire run -d --name shared --pid host banner sh -c 'sleep 4711 & sleep 4712'");
    lab.host("podwire rm -f -t 0 shared").ok();
    assert_eq!(lab.ok("pgrep -fc 'sleep 471[12]' || true"), "0", "{shared}");
    let run = lab.host("podwire run --rm --cgroups disabled --memory 1g banner true").ok();
    assert!(run.err.contains("--memory is not held with --cgroups=disabled"), "{}", run.err);
}

fn a_policy_starts_a_container_again_and_lets_it_be_when_it_was_stopped(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name bad --restart on-failure:2 banner sh -c 'echo run; exit 3'").ok();
    let inspect = |name: &str| {
        let line =
            format!("podwire inspect -f '{{{{.State.Status}}}} {{{{.RestartCount}}}} {{{{.State.ExitCode}}}}' {name}");
        lab.host(&line)
    };
    eventually(|| inspect("bad"), |run| run.out.trim() == "exited 2 3");
    assert_eq!(lab.ok("podwire logs bad | wc -l"), "3");
    lab.host("podwire run -d --name good --restart on-failure banner true").ok();
    eventually(|| inspect("good"), |run| run.out.trim() == "exited 0 0");
    lab.host("podwire run -d --name ever --restart always -p 8080:80 banner sh -c 'sleep 0.2'").ok();
    eventually(
        || inspect("ever"),
        |run| run.out.split(' ').nth(1).is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n >= 2)),
    );
    lab.host("podwire stop -t 0 ever").ok();
    lab.host("sleep 1.2").ok();
    assert!(inspect("ever").out.starts_with("exited"), "{}", inspect("ever").out);
    lab.host("podwire start ever && podwire rm -f -t 0 ever").ok();
    lab.host("sleep 0.5").ok();
    assert_eq!(lab.ok("podwire ps -aq --filter name=ever"), "");
    lab.host("podwire run --rm --restart always banner true").refuses(125, "the --rm option conflicts with --restart");
    lab.host("podwire run --restart foo banner true").refuses(125, "\"foo\" is not a valid restart policy");
}

fn a_check_finds_a_container_well_and_unwell(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web --health-cmd 'echo looking; test -e /ok' --health-interval 1s --health-retries 2 banner").ok();
    let status = || lab.host("podwire ps --format '{{.Status}}'");
    assert!(status().out.contains("(starting)") || status().out.contains("(unhealthy)"), "{}", status().out);
    eventually(status, |run| run.out.contains("(unhealthy)"));
    let unwell = lab.host("podwire healthcheck run web").code(1);
    assert_eq!(unwell.out.trim(), "unhealthy");
    lab.host("podwire exec web touch /ok").ok();
    lab.host("podwire healthcheck run web").ok();
    assert_eq!(
        lab.ok("podwire inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' web"),
        "healthy 0"
    );
    lab.host("podwire inspect -f '{{range .State.Health.Log}}{{.ExitCode}}:{{.Output}}{{end}}' web")
        .ok()
        .says("0:looking");
    assert_eq!(lab.ok("podwire ps --filter health=healthy --format '{{.Names}}'"), "web");
    lab.host("podwire events --stream=false --filter event=health_status").ok().says("health_status=healthy");
    assert_eq!(
        lab.ok("podwire inspect -f '{{.Config.Healthcheck.Test}}' web"),
        "[CMD-SHELL echo looking; test -e /ok]"
    );
    lab.host("podwire run -d --name plain banner && podwire healthcheck run plain")
        .refuses(125, "has no defined healthcheck");
    // A monitor that was killed takes its checks along; the next one has its own.
    let monitor = lab.ok("podwire inspect -f '{{.State.ConmonPid}}' web");
    lab.host(&format!("kill -9 {monitor}; podwire exec web rm /ok")).ok();
    eventually(
        || lab.host("podwire ps --format '{{.Status}}' --filter name=web"),
        |run| run.out.contains("(unhealthy)"),
    );
    lab.host("podwire rm -f -t 0 web").ok();
    eventually(|| lab.host("pgrep -c podwire-health || true"), |run| run.out.trim() == "0");
}

fn an_unhealthy_container_is_dealt_with_as_asked(lab: &Lab) {
    load(lab);
    let run = |action: &str| {
        let flags = "--health-cmd false --health-interval 1s --health-retries 1";
        lab.host(&format!("podwire run -d --name {action} {flags} --health-on-failure {action} banner")).ok();
    };
    run("kill");
    run("restart");
    let state = |name: &str, field: &str| lab.host(&format!("podwire inspect -f '{{{{.State.{field}}}}}' {name}"));
    eventually(|| state("kill", "Status"), |run| run.out.trim() == "exited");
    let event = "podwire events --stream=false --filter container=restart --filter event=restart";
    eventually(|| lab.host(event), |run| !run.out.is_empty());
    eventually(|| state("restart", "Status"), |run| run.out.trim() == "running");
}

fn a_container_is_killed_when_its_time_is_over(lab: &Lab) {
    load(lab);
    let run = lab.host("podwire run --rm --timeout 1 banner sleep 60").code(137);
    assert!((900..20_000).contains(&run.took.as_millis()), "{:?}", run.took);
}

fn output_is_kept_where_and_as_long_as_asked(lab: &Lab) {
    load(lab);
    lab.host("podwire run --name none --log-driver none banner echo said").ok().says("said");
    lab.host("podwire logs none").refuses(125, "this container is using the 'none' log driver, cannot read logs");
    lab.host("podwire run --name there --log-opt path=/run/its.log --log-driver json-file banner echo said").ok();
    assert!(lab.ok("cat /run/its.log").ends_with("stdout F said"));
    lab.host("podwire logs there").ok().says("said");
    lab.host("podwire run -d --name short --log-opt max-size=2k banner sh -c 'for i in $(seq 500); do echo line $i; done; sleep 1000'").ok();
    let last = eventually(|| lab.host("podwire logs --tail 1 short"), |run| run.out.contains("line 500"));
    assert!(last.out.contains("line 500") && lab.ok("podwire logs short | wc -l").parse::<u32>().is_ok_and(|n| n < 60));
}

fn what_cannot_be_done_is_refused_in_podmans_words(lab: &Lab) {
    load(lab);
    let check = |flags: &str, words: &str| {
        lab.host(&format!("podwire run --rm {flags} banner true")).refuses(125, words);
    };
    check("--log-driver journald", "--log-driver journald is not supported by podwire");
    check("--log-driver foo", "invalid log driver \"foo\"");
    check("--ulimit foo=1", "invalid ulimit type: foo");
    check("--umask 99", "invalid umask string 99");
    check("--memory 1x", "invalid size: '1x'");
    check("--pid foo", "unrecognized pid namespace mode \"foo\" passed");
    check("--tz Nowhere/City", "finding timezone for container");
    check("--platform linux/arm64 --arch arm64", "--platform option can not be specified with --arch or --os");
    check("--security-opt foo", "invalid --security-opt");
    check("--health-interval 1ms --health-cmd true", "healthcheck-interval must be at least 1 second");
    assert_eq!(lab.ok("podwire ps -aq"), "");
}
