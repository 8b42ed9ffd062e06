//! kill -9 and failing system calls, anywhere: the next command finds or makes everything right.

use lab::trial::{Need, Sentence};
use lab::{Background, HOST4, Lab, LabOptions, Run, State, USER, USER_ID, sentences};

use crate::words::{archive, banner_comes, big, get, load, load_for_user, no_banner, patient, peer};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![patient(); &[];
        a_run_killed_at_any_system_call_leaks_nothing,
        a_run_whose_monitor_is_killed_at_any_system_call_leaks_nothing,
        a_removal_killed_at_any_system_call_leaks_nothing,
        a_stop_killed_at_any_system_call_leaks_nothing,
        a_network_creation_killed_at_any_system_call_leaks_nothing,
        a_load_killed_at_any_system_call_leaks_nothing,
        a_run_whose_system_calls_fail_works_or_leaks_nothing,
        a_removal_whose_system_calls_fail_leaks_nothing,
        a_network_creation_whose_system_calls_fail_leaks_nothing,
        a_run_with_users_of_its_own_killed_at_any_system_call_leaks_nothing,
        a_run_with_users_of_its_own_whose_monitor_is_killed_at_any_system_call_leaks_nothing,
    ];
    all.extend(sentences![LabOptions { user: true, ..patient() }; &[Need::UidMap];
        an_ordinary_users_run_killed_at_any_system_call_leaks_nothing,
        an_ordinary_users_run_whose_monitor_is_killed_at_any_system_call_leaks_nothing,
        an_ordinary_users_removal_killed_at_any_system_call_leaks_nothing,
        an_ordinary_users_first_run_whose_processes_are_killed_at_any_system_call_leaks_nothing,
        an_ordinary_users_run_with_keep_id_whose_monitor_is_killed_at_any_system_call_leaks_nothing,
    ]);
    all.extend(sentences![LabOptions::default(); &[];
        a_container_outlives_its_monitor_and_the_next_command_adopts_it,
        a_container_whose_first_process_is_killed_frees_everything,
        everything_of_podwires_killed_at_once_leaks_nothing,
        a_machine_that_went_down_hard_starts_its_containers_again,
    ]);
    all.extend(sentences![patient(); &[Need::Big]; a_start_killed_at_any_system_call_leaks_nothing]);
    all
}

/// One command that things happen to.
pub(crate) struct Victim {
    /// Makes what the command needs.
    pub(crate) arrange: &'static str,
    /// The command.
    pub(crate) command: &'static str,
    /// Must succeed after the next command, whatever happened.
    pub(crate) whole: &'static str,
    /// Takes away what is left when the command did what it should; says nothing otherwise.
    pub(crate) clear: &'static str,
}

pub(crate) const RUN: Victim = Victim {
    arrange: "true",
    command: "podwire run -d --name victim -p 8080:80 banner",
    whole: "true",
    clear: "podwire rm -f victim",
};
const REMOVE: Victim = Victim {
    arrange: "podwire run -d --name victim -p 8080:80 banner",
    command: "podwire rm -f victim",
    whole: "true",
    clear: "podwire rm -f victim",
};
const STOP: Victim = Victim {
    arrange: "podwire run -d --name victim -p 8080:80 banner",
    command: "podwire stop victim",
    whole: "true",
    clear: "podwire rm -f victim",
};
const START: Victim = Victim {
    arrange: "podwire run -d --name victim -p 8080:80 banner && podwire stop victim",
    command: "podwire start victim",
    whole: "true",
    clear: "podwire rm -f victim",
};
const CREATE_NETWORK: Victim = Victim {
    arrange: "true",
    command: "podwire network create --ipv6 victim",
    whole: "true",
    clear: "podwire network rm -f victim",
};

/// Which process is hit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whom {
    /// The command (0), or the nth podwire that it starts.
    Role(usize),
    /// The netd that runs already.
    Netd,
}

/// Whose containers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    /// The lab's ordinary user.
    User,
}

impl Who {
    fn runs(self, lab: &Lab, line: &str) -> Run {
        match self {
            Self::Root => lab.host(line),
            Self::User => lab.user(line),
        }
    }

    /// The banner image in his store.
    fn loads(self, lab: &Lab) {
        match self {
            Self::Root => load(lab),
            Self::User => {
                load_for_user(lab);
            }
        }
    }

    /// The tracer, which traces what it starts as him. It is root's: who gains privileges is traced by nobody else.
    fn tracer(self) -> String {
        match self {
            Self::Root => "labtool trace".to_owned(),
            Self::User => format!(
                "cd /home/{USER}; export HOME=/home/{USER} XDG_RUNTIME_DIR=/run/user/{USER_ID} PATH=/run/lab/bin:$PATH; \
                 labtool trace --user {USER_ID}"
            ),
        }
    }

    fn root(self) -> String {
        match self {
            Self::Root => "/var/lib/podwire".to_owned(),
            Self::User => format!("/home/{USER}/.local/share/podwire"),
        }
    }
}

/// How one blow went.
#[derive(Debug)]
pub(crate) struct Blow {
    whom: Whom,
    at: u64,
    errno: Option<&'static str>,
}

/// A lab with a neighbour container, if any, that is asked all the time, and the state with it.
pub(crate) struct Watched<'lab> {
    lab: &'lab Lab,
    who: Who,
    asker: Option<Background>,
    before: State,
}

impl<'lab> Watched<'lab> {
    pub(crate) fn new(lab: &'lab Lab) -> Self {
        Self::of(Who::Root, lab)
    }

    pub(crate) fn of(who: Who, lab: &'lab Lab) -> Self {
        who.loads(lab);
        who.runs(lab, "podwire run -d --name neighbour -p 9090:80 banner").ok();
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:9090"))));
        let mut asker = lab.background_outside(&peer(lab, &format!("tcp-keep {HOST4} 9090")));
        asker.until("asking");
        // Directories that the first published container needs stay; they are no leak.
        who.runs(lab, "podwire run --rm --name first -p 8080:80 banner true").ok();
        Self { lab, who, asker: Some(asker), before: lab.settled_state() }
    }

    /// Without a neighbour: whatever the command needs, it has to start itself.
    pub(crate) fn alone(lab: &'lab Lab) -> Self {
        Self::alone_of(Who::Root, lab)
    }

    pub(crate) fn alone_of(who: Who, lab: &'lab Lab) -> Self {
        who.loads(lab);
        who.runs(lab, "podwire run --rm --name first -p 8080:80 banner true").ok();
        Self { lab, who, asker: None, before: lab.settled_state() }
    }

    /// The tracer's words for who is hit.
    fn aim(&self, whom: Whom) -> String {
        match whom {
            Whom::Role(role) => format!("--role {role}"),
            Whom::Netd => format!("--attach {}", self.lab.ok("pgrep -xo podwire-netd")),
        }
    }

    /// How many system calls each role makes, or netd alone.
    fn count(&self, victim: &Victim, whom: Whom) -> Vec<u64> {
        let report = self.lab.dir().join("calls");
        self.who.runs(self.lab, victim.arrange).ok();
        let (tracer, whom) = (self.who.tracer(), self.aim(whom));
        self.lab.host(&format!("{tracer} {whom} --report {} -- {}", report.display(), victim.command)).ok();
        self.who.runs(self.lab, victim.clear);
        let text = std::fs::read_to_string(&report).expect("the tracer reports");
        text.lines().filter_map(|line| line.split_once('\t')?.1.parse().ok()).collect()
    }

    /// Strikes once; whether the command reported success.
    fn strike(&self, victim: &Victim, blow: &Blow) -> (bool, String) {
        self.who.runs(self.lab, victim.arrange).ok();
        let report = self.lab.dir().join("hit");
        let how = blow.errno.map_or("--kill".to_owned(), |errno| format!("--errno {errno}"));
        let aim = format!("{} --at {} {how} --report {}", self.aim(blow.whom), blow.at, report.display());
        let run = self.lab.host(&format!("{} {aim} -- {}", self.who.tracer(), victim.command));
        // Before main() begins, the standard library can only abort.
        let ours = run.err.contains("panicked") && !run.err.contains("library/std/src/sys/");
        assert!(!ours, "a panic at {aim}:\n{}", run.err);
        let hit = std::fs::read_to_string(&report).unwrap_or_default();
        (run.code == 0, hit.lines().find(|line| line.starts_with("hit")).unwrap_or("hit\tnothing").to_owned())
    }

    /// The next command works and, once what was wanted is taken away, everything is as it was.
    #[track_caller]
    fn settled(&self, victim: &Victim, blow: &Blow, hit: &str) {
        let what = format!("{} with {blow:?} ({hit})", victim.command);
        let next = self.who.runs(self.lab, "podwire ps -a --no-trunc");
        assert!(next.code == 0, "the next command after {what}:\n{}{}", next.out, next.err);
        let whole = self.who.runs(self.lab, victim.whole);
        assert!(whole.code == 0, "not whole after {what}:\n{}{}", whole.out, whole.err);
        if next.out.contains("victim") || victim.clear.contains("network") {
            let cleared = self.who.runs(self.lab, victim.clear);
            let absent = cleared.err.contains("no such") || cleared.err.contains("not found");
            assert!(cleared.code == 0 || absent, "{} after {what}:\n{}", victim.clear, cleared.err);
        }
        let difference = self.before.left(self.lab);
        assert!(difference.is_empty(), "after {what}:\n{difference}");
    }

    /// The neighbour must not have missed anything.
    fn over(mut self) {
        let Some(mut asker) = self.asker.take() else { return };
        asker.write("over\n");
        let told = asker.wait().out;
        assert!(told.contains(", 0 failed"), "the neighbour container was disturbed:\n{told}");
    }
}

/// Places spread over `calls`, different in every part, the same in every run; so many when there is little time.
fn places(calls: u64, few: u64) -> Vec<u64> {
    let points = calls.min(if big() { 400 } else { few });
    let width = calls / points.max(1);
    let jitter = |k: u64| k.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) % width.max(1);
    (0..points).map(|k| 1 + k * calls / points + jitter(k)).collect()
}

fn kill_anywhere(lab: &Lab, victim: &Victim, role: usize) {
    kill_sampled(lab, Watched::new(lab), victim, Whom::Role(role), 24);
}

/// Kills at places all over, at `few` of them when there is little time.
pub(crate) fn kill_sampled(lab: &Lab, watched: Watched<'_>, victim: &Victim, whom: Whom, few: u64) {
    let calls = watched.count(victim, whom);
    watched.before.same(lab, "after the counted run");
    let role = if let Whom::Role(role) = whom { role } else { 0 };
    let calls =
        *calls.get(role).unwrap_or_else(|| panic!("{} has no process of role {role}: {calls:?}", victim.command));
    for at in places(calls, few) {
        let blow = Blow { whom, at, errno: None };
        let (_, hit) = watched.strike(victim, &blow);
        watched.settled(victim, &blow, &hit);
    }
    no_orphans(lab, watched.who);
    watched.over();
}

fn fail_anywhere(lab: &Lab, victim: &Victim) {
    let watched = Watched::new(lab);
    let calls = *watched.count(victim, Whom::Role(0)).first().expect("the command's own calls");
    for (place, at) in places(calls, 24).into_iter().enumerate() {
        let errno = ["ENOSPC", "EMFILE", "EIO"][place % 3];
        let blow = Blow { whom: Whom::Role(0), at, errno: Some(errno) };
        let (worked, hit) = watched.strike(victim, &blow);
        if worked && victim.command == RUN.command {
            banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
        }
        watched.settled(victim, &blow, &hit);
    }
    no_orphan_leases(lab);
    watched.over();
}

/// No address and no port is held by a container that does not exist.
pub(crate) fn no_orphan_leases(lab: &Lab) {
    no_orphans(lab, Who::Root);
}

fn no_orphans(lab: &Lab, who: Who) {
    let ask = "python3 - <<'END'
import sqlite3
db = sqlite3.connect('file:ROOT/podwire.db?mode=ro', uri=True)
for row in db.execute('select * from lease where container is not null and container not in (select id from container)'):
    print(row)
for row in db.execute('select * from port where container not in (select id from container)'):
    print(row)
END";
    assert_eq!(lab.ok(&ask.replace("ROOT", &who.root())), "", "addresses or ports held by nobody");
}

fn a_run_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_anywhere(lab, &RUN, 0);
}

fn a_run_whose_monitor_is_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_anywhere(lab, &RUN, 1);
}

const MAPPED_RUN: Victim =
    Victim { command: "podwire run -d --name victim --uidmap 0:100000:2000 -p 8080:80 banner", ..RUN };
const KEPT_RUN: Victim =
    Victim { command: "podwire run -d --name victim --userns keep-id -u 0 -p 8080:80 banner", ..RUN };

fn a_run_with_users_of_its_own_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_sampled(lab, Watched::new(lab), &MAPPED_RUN, Whom::Role(0), 12);
}

fn a_run_with_users_of_its_own_whose_monitor_is_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_sampled(lab, Watched::new(lab), &MAPPED_RUN, Whom::Role(1), 12);
}

fn an_ordinary_users_run_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_sampled(lab, Watched::of(Who::User, lab), &RUN, Whom::Role(0), 12);
}

fn an_ordinary_users_run_whose_monitor_is_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_sampled(lab, Watched::of(Who::User, lab), &RUN, Whom::Role(1), 12);
}

fn an_ordinary_users_removal_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_sampled(lab, Watched::of(Who::User, lab), &REMOVE, Whom::Role(0), 12);
}

/// The command, and whatever it starts: holder, relay, netd, monitor.
fn an_ordinary_users_first_run_whose_processes_are_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    for role in 0..5 {
        kill_sampled(lab, Watched::alone_of(Who::User, lab), &RUN, Whom::Role(role), 5);
    }
}

fn an_ordinary_users_run_with_keep_id_whose_monitor_is_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    Who::User.loads(lab);
    lab.user(KEPT_RUN.command).ok();
    lab.user(KEPT_RUN.clear).ok();
    kill_sampled(lab, Watched::of(Who::User, lab), &KEPT_RUN, Whom::Role(1), 12);
}

fn a_removal_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_anywhere(lab, &REMOVE, 0);
}

fn a_stop_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_anywhere(lab, &STOP, 0);
}

fn a_start_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_anywhere(lab, &START, 0);
}

fn a_network_creation_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    kill_anywhere(lab, &CREATE_NETWORK, 0);
}

fn a_load_killed_at_any_system_call_leaks_nothing(lab: &Lab) {
    lab.host("podwire images").ok();
    let before = lab.settled_state();
    let load = format!("podwire load -q -i {}", archive().display());
    let report = lab.dir().join("calls");
    lab.host(&format!("labtool trace --report {} -- {load}", report.display())).ok();
    lab.host("podwire rmi banner").ok();
    before.same(lab, "after rmi");
    let text = std::fs::read_to_string(&report).expect("the tracer reports");
    let calls = text.lines().find_map(|line| line.strip_prefix("0\t")?.parse().ok()).expect("calls of role 0");
    for at in places(calls, 24) {
        lab.host(&format!("labtool trace --role 0 --at {at} --kill -- {load}"));
        if lab.ok("podwire images -q").is_empty() {
            before.same(lab, &format!("after a load killed at call {at}"));
        } else {
            lab.host("podwire run --rm banner true").ok();
            lab.host("podwire rmi banner").ok();
        }
    }
    lab.host(&load).ok();
    lab.host("podwire run --rm banner true").ok();
}

fn a_run_whose_system_calls_fail_works_or_leaks_nothing(lab: &Lab) {
    fail_anywhere(lab, &RUN);
}

fn a_removal_whose_system_calls_fail_leaks_nothing(lab: &Lab) {
    fail_anywhere(lab, &REMOVE);
}

fn a_network_creation_whose_system_calls_fail_leaks_nothing(lab: &Lab) {
    fail_anywhere(lab, &CREATE_NETWORK);
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
