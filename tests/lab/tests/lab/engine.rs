//! Containers as such: commands, terminals, logs, codes.

use lab::trial::Sentence;
use lab::{Lab, LabOptions, sentences};

use crate::words::{banner_comes, get, ip4, load, peer};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        run_prints_what_the_command_prints_and_ends_with_its_code,
        standard_input_reaches_the_command_with_i_alone,
        a_terminal_is_a_terminal,
        exec_runs_a_second_command_in_the_container,
        logs_are_what_the_container_said,
        stop_ends_a_container_that_will_not_hear_within_its_time,
        kill_sends_the_signal_that_was_named,
        environment_directory_user_and_volumes_are_as_asked,
        files_of_a_container_name_it_and_its_servers,
        a_file_system_change_stays_in_its_container,
        dry_run_shows_the_plan_and_changes_nothing,
        rm_without_force_refuses_a_running_container,
        names_and_prefixes_find_a_container,
        a_container_that_ends_frees_its_port_and_keeps_its_logs,
        two_roots_do_not_see_each_other,
        no_descriptor_of_ours_reaches_the_container,
    ]
}

fn run_prints_what_the_command_prints_and_ends_with_its_code(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let run = lab.host("podwire run --rm banner sh -c 'echo out; echo err >&2; exit 7'").code(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
    lab.host("podwire run --rm banner true").ok();
    let long = lab.ok("podwire run --rm banner sh -c 'seq 1 20000'");
    assert_eq!(long.lines().count(), 20000);
    before.same(lab, "after run --rm");
}

fn standard_input_reaches_the_command_with_i_alone(lab: &Lab) {
    load(lab);
    lab.host("echo hello | podwire run --rm -i banner cat").ok().says("hello");
    assert_eq!(lab.ok("echo hello | podwire run --rm banner cat"), "");
    let sum = lab.ok("seq 1 200000 | podwire run --rm -i banner md5sum");
    assert_eq!(sum, lab.ok("seq 1 200000 | md5sum"));
}

fn a_terminal_is_a_terminal(lab: &Lab) {
    load(lab);
    lab.host(&peer(lab, "pty podwire run --rm -it banner sh -c 'tty; stty size; exit 3'")).code(3).says("/dev/pts/0");
    lab.host("podwire run --rm -t banner sh -c 'test -t 1 && echo yes'").ok().says("yes");
    lab.host("podwire run --rm banner sh -c 'test -t 1 || echo no'").ok().says("no");
}

fn exec_runs_a_second_command_in_the_container(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner").ok();
    lab.host("podwire exec web wget -qO- http://127.0.0.1/").ok().says(lab::BANNER);
    lab.host("podwire exec web sh -c 'exit 5'").code(5);
    lab.host("echo hello | podwire exec -i web cat").ok().says("hello");
    lab.host("podwire exec -e A=b -w /www web sh -c 'echo $A; pwd'").ok().says("b\n/www");
    lab.host("podwire exec web /no/such").code(127);
    lab.host("podwire exec web /etc/passwd").code(126);
    lab.host("podwire stop web").ok();
    lab.host("podwire exec web true").code(255);
}

fn logs_are_what_the_container_said(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name talker banner sh -c 'echo one; echo two >&2; sleep 0.2; echo three; sleep 1000'")
        .ok();
    let said = crate::words::eventually(|| lab.host("podwire logs talker"), |run| run.out.contains("three"));
    assert_eq!((said.out.as_str(), said.err.as_str()), ("one\nthree\n", "two\n"));
    assert_eq!(lab.ok("podwire logs --tail 1 talker"), "three");
    let mut follower = lab.background("podwire logs -f talker");
    follower.until("three");
    lab.host("podwire kill talker").ok();
    assert_eq!(follower.wait().code, 0, "logs -f ends with its container");
}

fn stop_ends_a_container_that_will_not_hear_within_its_time(lab: &Lab) {
    load(lab);
    lab.host(
        "podwire run -d --name deaf --stop-signal TERM banner sh -c 'trap : TERM; while true; do sleep 0.1; done'",
    )
    .ok();
    let run = lab.host("podwire stop -t 1 deaf").ok();
    assert!((900..8000).contains(&run.took.as_millis()), "{:?}", run.took);
    assert_eq!(lab.ok("podwire inspect -f '{{.State.Status}} {{.State.ExitCode}}' deaf"), "exited 137");
}

fn kill_sends_the_signal_that_was_named(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name ears banner sh -c 'trap \"echo heard; exit 9\" USR1; echo ready; while true; do sleep 0.1; done'").ok();
    crate::words::eventually(|| lab.host("podwire logs ears"), |run| run.out.contains("ready"));
    lab.host("podwire kill -s USR1 ears").ok();
    let state = || lab.host("podwire inspect -f '{{.State.Status}} {{.State.ExitCode}}' ears");
    assert_eq!(crate::words::eventually(state, |run| run.out.contains("exited")).out.trim(), "exited 9");
    lab.host("podwire logs ears").ok().says("heard");
}

fn environment_directory_user_and_volumes_are_as_asked(lab: &Lab) {
    load(lab);
    let shared = lab.dir().join("shared");
    std::fs::create_dir(&shared).expect("the lab's directory");
    let shared = shared.display();
    lab.host("podwire run --rm -e GREETING=hi -w /www banner sh -c 'echo $GREETING; pwd'").ok().says("hi\n/www");
    lab.host("podwire run --rm -u web banner id").ok().says("uid=33(web) gid=33(web)");
    lab.host(&format!("podwire run --rm -v {shared}:/data banner sh -c 'echo kept >/data/file'")).ok();
    assert_eq!(lab.ok(&format!("cat {shared}/file")), "kept");
    let refused = lab.host(&format!("podwire run --rm -v {shared}:/data:ro banner touch /data/more"));
    assert!(refused.code != 0 && refused.err.contains("Read-only"), "{}", refused.err);
    lab.host("podwire run --rm -v stuff:/data banner sh -c 'echo kept >/data/file'").ok();
    lab.host("podwire run --rm -v stuff:/data banner cat /data/file").ok().says("kept");
}

fn files_of_a_container_name_it_and_its_servers(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web --hostname shop --add-host db:10.1.2.3 banner").ok();
    let hosts = lab.ok("podwire exec web cat /etc/hosts");
    let ip = ip4(lab, "web");
    assert!(hosts.lines().any(|line| line.starts_with("10.1.2.3\tdb")), "{hosts}");
    assert!(hosts.lines().any(|line| line == format!("{ip}\tshop web")), "{hosts}");
    assert!(hosts.contains("host.containers.internal"), "{hosts}");
    assert_eq!(lab.ok("podwire exec web cat /etc/hostname"), "shop");
    assert_eq!(lab.ok("podwire exec web hostname"), "shop");
    assert!(lab.ok("podwire exec web cat /etc/resolv.conf").contains("nameserver 192.168.99.1"));
    let dns = lab.ok("podwire run --rm --dns 9.9.9.9 --dns-search shop.example banner cat /etc/resolv.conf");
    assert!(dns.contains("nameserver 9.9.9.9") && dns.contains("search shop.example"), "{dns}");
}

fn a_file_system_change_stays_in_its_container(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name one banner sh -c 'echo changed >/www/index.html; rm /etc/group; sleep 1000'").ok();
    lab.host("podwire run --rm banner sh -c 'cat /www/index.html /etc/group'").ok().says(lab::BANNER);
    lab.host("podwire stop one").ok();
    assert_eq!(lab.ok("podwire start one && podwire exec one cat /www/index.html"), "one\nchanged");
}

fn dry_run_shows_the_plan_and_changes_nothing(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let run = lab.host("podwire run --dry-run -d --name web -p 8080:80 banner").ok();
    run.says("podman0").says("type bridge").says("8080");
    before.same(lab, "after run --dry-run");
    lab.host("podwire network create --dry-run shop").ok();
    before.same(lab, "after network create --dry-run");
    assert!(!lab.ok("podwire network ls").contains("shop"));
    lab.host("podwire run -d --name other banner").ok();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    let running = lab.settled_state();
    lab.host("podwire rm -f --dry-run web").ok().says("- ").says("8080");
    running.same(lab, "after rm --dry-run");
    banner_comes(|| lab.outside(&get("192.168.99.109:8080")));
}

fn rm_without_force_refuses_a_running_container(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner").ok();
    let before = lab.settled_state();
    lab.host("podwire rm web").refuses(2, "running");
    before.same(lab, "after a refused rm");
    lab.host("podwire stop web && podwire rm web").ok();
    assert_eq!(lab.ok("podwire ps -aq"), "");
}

fn names_and_prefixes_find_a_container(lab: &Lab) {
    load(lab);
    let id = lab.ok("podwire run -d --name web banner");
    for name in ["web", &id, &id[..12], &id[..5]] {
        assert_eq!(lab.ok(&format!("podwire inspect -f '{{{{.Id}}}}' {name}")), id);
    }
    lab.host("podwire run -d --name web banner").refuses(125, "the container name \"web\" is already in use");
}

fn a_container_that_ends_frees_its_port_and_keeps_its_logs(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name short -p 8080:80 banner sh -c 'echo done; sleep 0.2; exit 4'").ok();
    let state = || lab.host("podwire inspect -f '{{.State.Status}} {{.State.ExitCode}}' short");
    assert_eq!(crate::words::eventually(state, |run| run.out.contains("exited")).out.trim(), "exited 4");
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get("192.168.99.109:8080")));
    lab.host("podwire logs short").ok().says("done");
    lab.host("podwire ps -a").ok().says("Exited (4)");
}

fn two_roots_do_not_see_each_other(lab: &Lab) {
    load(lab);
    let other = "podwire --root /var/lib/other --runroot /run/other --tmpdir /run/other/tmp";
    lab.host(&format!("{other} load -q -i {}", crate::words::archive().display())).ok();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    lab.host(&format!("{other} run -d --name web -p 9090:80 banner")).ok();
    banner_comes(|| lab.outside(&get("192.168.99.109:8080")));
    banner_comes(|| lab.outside(&get("192.168.99.109:9090")));
    assert_ne!(lab.ok("podwire ps -q"), lab.ok(&format!("{other} ps -q")));
    lab.host(&format!("{other} run -d -p 8080:80 banner")).refuses(126, "address already in use");
    lab.host("podwire rm -f web").ok();
    banner_comes(|| lab.outside(&get("192.168.99.109:9090")));
    lab.host(&format!("{other} rm -f web")).ok();
}

fn no_descriptor_of_ours_reaches_the_container(lab: &Lab) {
    load(lab);
    let open = lab.ok("podwire run --rm -p 8080:80 banner sh -c 'ls /proc/self/fd'");
    let open: Vec<&str> = open.split_whitespace().collect();
    assert_eq!(open, ["0", "1", "2", "3"], "3 is the directory that ls reads");
}
