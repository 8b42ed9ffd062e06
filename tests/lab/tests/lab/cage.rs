//! What each process of ours may do: the table in SECURITY.md, compared with /proc.

use std::collections::{BTreeMap, BTreeSet};

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, sentences};

use crate::words::{eventually, load, load_for_user};

pub(crate) fn sentences() -> Vec<Sentence> {
    let user = || LabOptions { user: true, ..LabOptions::default() };
    let mut all = sentences![LabOptions::default(); &[];
        roots_processes_may_do_what_the_table_says_and_no_more,
        a_container_gets_no_descriptor_and_no_namespace_that_is_not_its_own,
    ];
    all.extend(sentences![user(); &[Need::UidMap];
        a_users_processes_may_do_what_the_table_says_and_no_more,
        a_stranger_on_this_machine_reaches_no_socket_no_record_and_no_log_of_ours,
    ]);
    all
}

/// The table that people read is the one that is tried.
const SECURITY: &str = include_str!("../../../../SECURITY.md");

/// One of each: terminal, input, health check, published ports, a pod.
const ONE_OF_EACH: &str = "podwire network create shop && \
    podwire run -dit --name web --network shop --health-cmd true -p 8080:80 -p [::1]:8081:80 banner sh && \
    podwire pod create --name pod && podwire run -d --pod pod banner";

fn roots_processes_may_do_what_the_table_says_and_no_more(lab: &Lab) {
    load(lab);
    lab.host(ONE_OF_EACH).ok();
    as_told(lab, "root");
    lab.host("podwire pod rm -f -t 0 pod; podwire rm -f -t 0 web").ok();
}

fn a_users_processes_may_do_what_the_table_says_and_no_more(lab: &Lab) {
    load_for_user(lab);
    lab.user(ONE_OF_EACH).ok();
    as_told(lab, "podrl");
    lab.user("podwire pod rm -f -t 0 pod; podwire rm -f -t 0 web").ok();
}

/// A row of the table: `process` or `process: thread`, then who has it, and what it may.
struct Row {
    whose: &'static str,
    cells: Vec<&'static str>,
}

fn table() -> BTreeMap<&'static str, Row> {
    let lines =
        SECURITY.lines().skip_while(|line| !line.starts_with("| process |")).take_while(|line| !line.is_empty());
    let rows = lines.skip(2).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        (cells[0], Row { whose: cells[1], cells: cells[2..].to_vec() })
    });
    rows.collect()
}

/// A line for each thread: process, its number, thread, capabilities (effective, permitted, inheritable, ambient,
/// bounding), no_new_privs, seccomp, network namespace, user.
const THREADS: &str = r#"for p in $(pgrep '^podwire-'); do for t in /proc/$p/task/*; do
    awk -v p="$(cat /proc/$p/comm)" -v n=$p -v c="$(cat $t/comm | tr ' ' _)" -v net=$(stat -Lc %i $t/ns/net) '
        /^Uid:/ {uid=$2} /^Cap/ {cap[$1]=$2} /^NoNewPrivs:/ {nnp=$2} /^Seccomp:/ {sec=$2}
        END {print p, n, c, cap["CapEff:"], cap["CapPrm:"], cap["CapInh:"], cap["CapAmb:"], cap["CapBnd:"], nnp, sec, net, uid}' $t/status
    done; done"#;

fn as_told(lab: &Lab, user: &str) {
    let table = table();
    // A container's helpers come one after the other.
    let all = || lab.host("pgrep -x podwire-health && pgrep -x podwire-pause && pgrep -x podwire-keeper");
    eventually(all, |run| run.code == 0).ok();
    let host_net = lab.ok("stat -Lc %i /proc/1/ns/net");
    let said = lab.ok(THREADS);
    let (mut met, mut numbers, mut wrong) = (BTreeSet::new(), BTreeMap::new(), String::new());
    for line in said.lines() {
        let [process, number, thread, eff, prm, inh, amb, bnd, nnp, seccomp, net, uid] =
            line.split(' ').collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{line}"));
        let own_row = format!("{process}: {thread}");
        let key = if table.contains_key(&*own_row) { own_row.as_str() } else { process };
        let Some((key, row)) = table.get_key_value(key) else {
            wrong += &format!("{line}: the table does not know {key}\n");
            continue;
        };
        met.insert(*key);
        numbers.insert(number.to_owned(), *key);
        let mut compare = |what: &str, is: &str, told: &str| {
            if is != told {
                wrong += &format!("{key}: {what} is {is}, not {told}: {line}\n");
            }
        };
        let net = if net == host_net { "host's" } else { "own" };
        compare("capabilities", &names(eff), row.cells[0]);
        compare("permitted", &names(prm), row.cells[0]);
        compare("inheritable and ambient", &format!("{} {}", names(inh), names(amb)), "none none");
        compare("bounding set", &names(bnd), row.cells[1]);
        compare("no_new_privs", if nnp == "1" { "yes" } else { "no" }, row.cells[2]);
        compare("system calls", if seccomp == "2" { "listed" } else { "all" }, row.cells[3]);
        let told = row.cells[5].split(", ").find_map(|cell| match cell.split_once(' ') {
            Some((net, whose)) => (whose == if user == "root" { "(root)" } else { "(user)" }).then_some(net),
            None => Some(cell),
        });
        compare("network", net, told.unwrap_or("nothing"));
        compare("user", uid, if user == "root" { "0" } else { "2000" });
    }
    for (number, key) in &numbers {
        wrong += &roots_and_files(lab, number, key, &table[key.split(':').next().unwrap_or(key)]);
    }
    assert!(wrong.is_empty(), "{wrong}");
    let whose = |row: &Row| row.whose == "both" || row.whose == if user == "root" { "root" } else { "user" };
    let missing: Vec<_> =
        table.iter().filter(|(key, row)| whose(row) && !met.contains(*key)).map(|row| row.0).collect();
    assert!(missing.is_empty(), "none of these is there: {missing:?} in\n{said}");
}

/// In the words of the table.
fn names(set: &str) -> String {
    let bits = u64::from_str_radix(set, 16).expect("a capability set is a hexadecimal number");
    // include/uapi/linux/capability.h
    let known = [(10, "NET_BIND_SERVICE"), (12, "NET_ADMIN"), (13, "NET_RAW"), (21, "SYS_ADMIN")];
    let few: Vec<&str> = known.iter().filter(|(bit, _)| bits & 1 << bit != 0).map(|(_, name)| *name).collect();
    match bits.count_ones() as usize {
        0 => "none".to_owned(),
        n if n == few.len() => few.join(", "),
        // As many as whoever started it has.
        n if n > 30 => "all".to_owned(),
        _ => set.to_owned(),
    }
}

/// Is the root as the table says, and is nothing else open?
fn roots_and_files(lab: &Lab, number: &str, key: &str, row: &Row) -> String {
    let mut wrong = String::new();
    let root = lab.ok(&format!("ls -A /proc/{number}/root/ | wc -l"));
    let root = if root == "0" { "empty" } else { "host's" };
    if root != row.cells[4] {
        wrong += &format!("{key}: its root is {root}, not {}\n", row.cells[4]);
    }
    let told: BTreeSet<&str> = row.cells[6].split(", ").collect();
    let files = format!(
        "for fd in /proc/{number}/fd/*; do echo \"$(stat -L -c '%F' $fd 2>/dev/null | tr ' ' _) $(readlink $fd)\"; done"
    );
    // A descriptor may be closed while we look.
    for line in lab.ok(&files).lines().filter(|line| !line.starts_with(' ')) {
        let (kind, path) = line.split_once(' ').unwrap_or((line, ""));
        let word = match (kind, path) {
            (_, "/dev/null") => continue,
            ("socket", _) => "sockets",
            ("fifo", _) => "pipes",
            (_, path) if path.starts_with("anon_inode:") => "events",
            ("character_special_file", path) if path.ends_with("ptmx") => "terminal",
            // Its own root does not show it.
            ("character_special_file", "/" | "/dev/net/tun") => "TUN",
            (_, path) if path.contains("/podwire.db") => "database",
            (_, path) if path.ends_with(".lock") => "lock",
            (_, path) if path.ends_with(".log") => "log",
            _ => line,
        };
        if !told.contains(word) {
            wrong += &format!("{key} has this open: {word} ({line})\n");
        }
    }
    wrong
}

fn a_container_gets_no_descriptor_and_no_namespace_that_is_not_its_own(lab: &Lab) {
    load(lab);
    let run = |name: &str, how: &str| lab.host(&format!("podwire run -d --name {name} {how} banner sleep 1000")).ok();
    run("web", "-p 8080:80 -p [::1]:8081:80");
    run("terminal", "-it --network none");
    for name in ["web", "terminal"] {
        let pid = lab.ok(&format!("podwire inspect -f '{{{{.State.Pid}}}}' {name}"));
        assert_eq!(lab.ok(&format!("ls /proc/{pid}/fd | xargs")), "0 1 2", "{name}");
        // The one that is more is the directory that ls reads.
        assert_eq!(
            lab.ok(&format!("podwire exec {name} sh -c 'ls /proc/self/fd' | xargs")),
            "0 1 2 3",
            "exec in {name}"
        );
        for space in ["net", "mnt", "pid", "ipc", "uts", "cgroup"] {
            let both = lab.ok(&format!("stat -Lc %i /proc/{pid}/ns/{space} /proc/1/ns/{space}"));
            let (its, hosts) = both.split_once('\n').expect("two lines");
            assert_ne!(its, hosts, "{name} is in the host's {space} namespace");
        }
        let inherited = lab.ok(&format!("awk '/^Cap(Inh|Amb)/ {{print $2}}' /proc/{pid}/status | sort -u"));
        assert_eq!(inherited, "0000000000000000", "{name}");
    }
    lab.host("podwire rm -fa -t 0").ok();
}

/// Also where directories above ours are open to all.
fn a_stranger_on_this_machine_reaches_no_socket_no_record_and_no_log_of_ours(lab: &Lab) {
    load(lab);
    load_for_user(lab);
    lab.host(ONE_OF_EACH).ok();
    lab.user(&ONE_OF_EACH.replace(":808", ":908").replace("8080:", "9080:")).ok();
    lab.host("chmod 755 /run/user/2000 /home/podrl /home/podrl/.local /home/podrl/.local/share").ok();
    let kinds = "\\( -type s -writable -o -type p -readable -o -type f -readable \\)";
    let places = "/run/podwire /run/lock /var/lib/podwire /run/user/2000 /home/podrl/.local/share/podwire";
    let find = format!("find {places} {kinds} -print 2>/dev/null; true");
    for kind in ["-type s", "-type p", "-name 'podwire.db'", "-name '*.log'"] {
        let ours: u32 = lab.ok(&format!("find {places} {kind} | wc -l")).parse().expect("a number");
        assert!(ours > 1, "there is {ours} of {kind}");
    }
    assert!(lab.host(&find).out.lines().count() > 10, "root does");
    let as_stranger = |line: &str| format!("setpriv --reuid=3000 --regid=3000 --clear-groups sh -c '{line}'");
    let reached = lab.host(&as_stranger(&find.replace('\'', "")));
    assert_eq!(reached.out, "", "a stranger reaches these");
    // Nor by the way of a process.
    let look = "for p in $(pgrep ^podwire-); do ls /proc/$p/fd /proc/$p/root/ 2>/dev/null; done; true";
    assert_eq!(lab.host(&as_stranger(look)).out, "");
    lab.user("podwire pod rm -fa -t 0; podwire rm -fa -t 0").ok();
    lab.host("podwire pod rm -fa -t 0; podwire rm -fa -t 0").ok();
}
