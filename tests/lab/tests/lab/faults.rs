//! What breaks down at once: a monitor, a first process, everything, the machine. Single calls are `sweep`'s.

use lab::trial::Sentence;
use lab::{HOST4, Lab, LabOptions, sentences};

use crate::words::{banner_comes, get, load, no_banner};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        a_container_outlives_its_monitor_and_the_next_command_adopts_it,
        a_container_whose_first_process_is_killed_frees_everything,
        everything_of_podwires_killed_at_once_leaks_nothing,
        a_machine_that_went_down_hard_starts_its_containers_again,
    ]
}

/// The processes of the lab that are podwire's own, but for commands of this suite: monitors and netd.
fn own_processes(lab: &Lab) -> Vec<u32> {
    let entries = std::fs::read_dir(lab.path("/proc")).expect("the lab's /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let podwire = |pid: &u32| {
        let name = std::fs::read_to_string(lab.path(&format!("/proc/{pid}/comm"))).unwrap_or_default();
        name.trim_end() == "podwire-monitor"
    };
    pids.filter(podwire).collect()
}

fn a_container_outlives_its_monitor_and_the_next_command_adopts_it(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("kill -9 $(pgrep -x podwire-monitor)").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire ps").ok().says("web").says("Up");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire run -d -p 8080:80 banner").refuses(126, "address already in use");
    let bind = lab.host("python3 -c \"import socket; socket.socket().bind(('0.0.0.0', 8080))\"");
    assert!(bind.code != 0, "the port is held again");
    lab.host("podwire exec web true").ok();
    lab.host("podwire rm -f web").ok();
    before.same(lab, "after rm -f of an adopted container");
}

fn a_container_whose_first_process_is_killed_frees_everything(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    let pid = lab.ok("podwire inspect -f '{{.State.Pid}}' web");
    lab.host(&format!("kill -9 {pid}")).ok();
    let state = || lab.host("podwire inspect -f '{{.State.Status}} {{.State.ExitCode}}' web");
    assert_eq!(crate::words::eventually(state, |run| run.out.contains("exited")).out.trim(), "exited 137");
    no_banner(lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire rm web").ok();
    before.same(lab, "after rm");
}

fn everything_of_podwires_killed_at_once_leaks_nothing(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    for name in ["one", "two", "three"] {
        lab.host(&format!("podwire run -d --name {name} -P banner")).ok();
    }
    let pids: Vec<String> = own_processes(lab).iter().map(u32::to_string).collect();
    let inits = lab.ok("podwire inspect -f '{{.State.Pid}}' one two three").replace('\n', " ");
    // A process that was killed needs a moment of the CPU to die.
    let all = format!("{} {inits}", pids.join(" "));
    lab.host(&format!("kill -9 {all}; timeout 5 sh -c 'while kill -0 {all} 2>/dev/null; do sleep 0.01; done'")).ok();
    let ps = lab.ok("podwire ps -a --format '{{.Names}} {{.State}}'");
    assert_eq!(ps.matches("exited").count(), 3, "{ps}");
    lab.host("podwire run -d --name web -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire rm -f one two three web").ok();
    before.same(lab, "after rm -f of all");
}

/// As far as podwire can tell: no process, no link, no namespace, no rule and nothing in /run is left, and
/// the kernel gives another boot id.
fn a_machine_that_went_down_hard_starts_its_containers_again(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name web --network shop --ip 10.89.0.7 -p 8080:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let pids: Vec<String> = own_processes(lab).iter().map(u32::to_string).collect();
    let init = lab.ok("podwire inspect -f '{{.State.Pid}}' web");
    let crash = [
        format!("kill -9 {} {init}", pids.join(" ")),
        "for f in /run/netns/podwire-*; do umount $f; rm $f; done".to_owned(),
        "for l in $(ip -o link show type bridge | cut -d: -f2); do ip link del $l; done".to_owned(),
        "nft flush ruleset; rm -rf /run/podwire".to_owned(),
        format!("echo 11111111-2222-3333-4444-555555555555 >{}/boot_id", lab.dir().display()),
        format!("mount --bind {}/boot_id /proc/sys/kernel/random/boot_id", lab.dir().display()),
    ];
    lab.host(&crash.join("\n")).ok();
    lab.host("podwire ps -a").ok().says("web");
    lab.host("podwire start web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire rm -f web").ok();
    lab.host("podwire network rm shop").ok();
}
