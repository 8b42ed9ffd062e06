//! Command lines that nobody would think of, made of each command's own flags: they are obeyed or refused in a clear
//! line, what is refused leaves nothing, and what is obeyed changes nothing but what it makes.

use std::cell::Cell;

use lab::trial::Sentence;
use lab::{Lab, Run, sentences};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::words::{big, load, patient};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![patient(); &[];
        no_command_line_changes_what_it_does_not_name,
        no_name_reaches_the_files_rules_or_names_of_other_containers,
    ]
}

/// A flag as `--help` shows it.
#[derive(Debug, Clone)]
struct Flag {
    name: String,
    takes_value: bool,
}

/// Flags that write where the user says, look for images elsewhere, or are there to change something that is there.
const LEFT_OUT: [&str; 12] = [
    "cidfile",
    "pidfile",
    "pod-id-file",
    "pod",
    "replace",
    "pull",
    "platform",
    "arch",
    "os",
    "variant",
    "infra-image",
    "infra-command",
];

fn flags(lab: &Lab, command: &str) -> Vec<Flag> {
    let help = lab.ok(&format!("podwire {command} --help"));
    let flag = |line: &str| {
        let (_, rest) = line.split_once("--")?;
        let (name, rest) = rest.split_once(' ')?;
        let takes_value = !rest.starts_with("  ");
        let is_wanted = line.starts_with("  ") && !LEFT_OUT.contains(&name);
        is_wanted.then(|| Flag { name: name.to_owned(), takes_value })
    };
    let found: Vec<Flag> = help.lines().filter_map(flag).collect();
    assert!(found.len() > 2, "flags of {command} in:\n{help}");
    found
}

/// What others are called, what means something to a shell, a path, a hosts file, a ruleset or a terminal, and what flags
/// take.
const VALUES: &[&str] = &[
    "",
    "a",
    "web",
    "shop",
    "v1",
    "grp",
    "WEB",
    "web.",
    "..",
    "../web",
    "/",
    "/etc/passwd",
    "a/b",
    "a b",
    "a\tb",
    "a\nb",
    "10.89.0.9 evil",
    "evil\n10.0.0.1 web",
    "é",
    "ｗｅｂ",
    "a'b",
    "\"",
    "$(touch /tmp/x)",
    ";",
    "%s",
    "{{.ID}}",
    "\u{1b}[31m",
    "*",
    "-",
    "--",
    "-1",
    "0",
    "1",
    "65536",
    "99999999999999999999",
    "1.5",
    "1e999",
    "true",
    "64m",
    "10.89.0.0/24",
    "10.77.0.0/16",
    "10.89.0.1",
    "10.89.0.2",
    "::1",
    "fd00::/64",
    "0.0.0.0/0",
    "92:d0:c6:0a:29:33",
    "web:10.0.0.1",
    "db;web:10.0.0.1",
    "a=b",
    "=",
    "=b",
    "a=",
    "a=b=c",
    "web=1",
    "eth0",
    "lo",
    "podman0",
    "podman1",
    "host",
    "none",
    "bridge",
    "container:web",
    "ns:/proc/1/ns/net",
    "shop:ip=10.89.0.2",
    "shop:alias=web",
    "shop:ip=10.89.0.9,mac=92:d0:c6:0a:29:33",
    "type=bind,source=/etc,target=/x",
    "v1:/data",
    "/etc:/host:ro",
    "/tmp",
    "8080:80",
    "80",
    "127.0.0.1::80/udp",
    "8080-8090:80-90",
    "macvlan",
    "ipvlan",
    "mtu=9000",
    "isolate=false",
    "vlan=5",
    "com.docker.network.bridge.name=podman0",
    "default",
    "dhcp",
    "on-failure:3",
    "always",
    "nofile=1024:2048",
    "net.ipv4.ip_forward=0",
    "kernel.msgmax=1",
    "auto",
    "keep-id",
    "0:0:1",
    "SIGKILL",
    "json-file",
    "k8s-file",
    "all",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(VALUES).prop_map(str::to_owned),
        1 => "[a-z0-9:/.,=_@-]{1,20}",
        1 => "[^\0]{1,12}",
        1 => "[a-zA-Z0-9_.-]{60,300}",
    ]
}

/// Words behind a command: flags, then `last`, then perhaps more.
fn line(flags: Vec<Flag>, last: Vec<&'static str>) -> impl Strategy<Value = Vec<String>> {
    let word = (select(flags), value()).prop_map(|(flag, value)| match flag.takes_value {
        true => format!("--{}={value}", flag.name),
        false => format!("--{}", flag.name),
    });
    let last: Vec<String> = last.into_iter().map(str::to_owned).collect();
    (proptest::collection::vec(word, 0..4), proptest::option::weighted(0.5, value())).prop_map(move |(flags, more)| {
        let mut words = flags;
        words.extend(last.iter().cloned());
        words.extend(more);
        words
    })
}

/// As a shell takes it.
fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!(" '{}'", word.replace('\'', "'\\''"))).collect()
}

/// Runs `check` with `cases` command lines of each command.
fn for_each_line(lab: &Lab, cases: u32, commands: &[(&str, &[&'static str])], check: &dyn Fn(&str, &str)) {
    for (command, last) in commands {
        let strategy = line(flags(lab, command), last.to_vec());
        let cases = if big() { 20 * cases } else { cases };
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 30, ..Config::default() };
        let done = TestRunner::new(config).run(&strategy, |words| {
            check(command, &quoted(&words));
            Ok::<_, TestCaseError>(())
        });
        match done {
            Err(TestError::Fail(why, words)) => panic!("podwire {command}{}: {why}", quoted(&words)),
            done => done.expect("cases can be made"),
        }
    }
}

/// Obeyed, or refused with one of Podman's codes in few words.
fn is_clear(run: &Run) -> bool {
    let lines = run.err.lines().count();
    assert!(!run.err.contains("(a bug)") && !run.err.contains("panicked"), "{}\n{}", run.line, run.err);
    match run.code {
        0 => true,
        125..=127 | 1 => {
            assert!(run.err.contains("Error: ") && lines <= 12, "{}\n{}[{}]", run.line, run.err, run.code);
            false
        }
        code => panic!("{}\n{}[{code}]", run.line, run.err),
    }
}

/// What is there before: a container that runs, a network, a volume, a pod, and what is remembered of them.
fn neighbours(lab: &Lab) -> impl Fn() -> String + '_ {
    load(lab);
    lab.host("podwire network create --label a=b --subnet 10.89.0.0/24 shop").ok();
    lab.host("podwire volume create --label a=b v1").ok();
    lab.host("podwire run -d --name web --network shop:ip=10.89.0.2,alias=www --label a=b -p 9090:80 banner").ok();
    lab.host("podwire pod create --name grp --label a=b").ok();
    || {
        let script = "podwire inspect web; podwire volume inspect v1; \
                      podwire pod inspect grp; podwire port web; podwire network inspect -f \
                      '{{json .Subnets}} {{json .Labels}} {{json .Options}} {{json .Routes}} {{.NetworkInterface}}' shop; cat \
                      $(podwire inspect -f '{{.HostsPath}} {{.ResolvConfPath}}' web)";
        lab.quietly(script).ok().out
    }
}

fn no_command_line_changes_what_it_does_not_name(lab: &Lab) {
    let remembered = neighbours(lab);
    let before = lab.settled_state();
    let known = remembered();
    let (obeyed, refused) = (Cell::new(0), Cell::new(0));
    let commands: [(&str, &[&'static str]); 5] = [
        ("create", &["--pull=never", "banner"]),
        ("network create", &[]),
        ("pod create", &[]),
        ("volume create", &[]),
        ("network connect", &["shop"]),
    ];
    for_each_line(lab, 30, &commands, &|command, words| {
        let run = lab.quietly(&format!("podwire {command}{words} </dev/null"));
        if is_clear(&run) {
            obeyed.set(obeyed.get() + 1);
            // What it made goes again, whatever it is called; what was there stays.
            lab.quietly(
                "podwire ps -aq --no-trunc --filter status=created | while read id; do podwire rm -f -v $id; done; \
                 podwire pod ls --format '{{.Name}}' | grep -vx grp | while read name; do podwire pod rm -f \"$name\"; done; \
                 podwire network ls -q | grep -vx 'shop\\|podman' | while read name; do podwire network rm -f \"$name\"; done; \
                 podwire volume ls -q | grep -vx v1 | while read name; do podwire volume rm -f \"$name\"; done",
            );
        } else {
            refused.set(refused.get() + 1);
        }
        let left = before.left(lab);
        assert!(left.is_empty(), "podwire {command}{words} [{}] left:\n{left}", run.code);
        let now = remembered();
        assert!(now == known, "podwire {command}{words} [{}] changed\n{known}\nto\n{now}", run.code);
    });
    assert!(obeyed.get() > 10 && refused.get() > 10, "{} obeyed, {} refused", obeyed.get(), refused.get());
}

fn no_name_reaches_the_files_rules_or_names_of_other_containers(lab: &Lab) {
    let remembered = neighbours(lab);
    lab.host("podwire start web").ok();
    let known = remembered();
    let resolved = || lab.quietly("podwire network resolve web; podwire network resolve www").ok().out;
    let names = resolved();
    let before = lab.settled_state();
    let flags: Vec<Flag> =
        ["network-alias", "hostname", "name", "add-host", "label", "annotation", "dns-search", "dns-option"]
            .map(|name| Flag { name: name.to_owned(), takes_value: true })
            .into();
    let links: Vec<Flag> = flags.iter().filter(|flag| flag.name != "network-alias").cloned().collect();
    let started = Cell::new(0);
    let run = |flags: Vec<Flag>, network: &'static str, cases: u32| {
        let strategy = line(flags, vec![network, "--pull=never", "banner"]).prop_map(|mut words| {
            words.truncate(words.iter().position(|word| word == "banner").map_or(words.len(), |at| at + 1));
            words
        });
        let cases = if big() { 20 * cases } else { cases };
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 10, ..Config::default() };
        let done = TestRunner::new(config).run(&strategy, |words| {
            let words = quoted(&words);
            let run = lab.quietly(&format!("podwire run -d{words} </dev/null"));
            if is_clear(&run) {
                started.set(started.get() + 1);
                let id = run.out.trim();
                let now = remembered();
                assert!(now == known, "podwire run -d{words} changed\n{known}\nto\n{now}");
                // Its own name may be an alias beside; the one who had it keeps it.
                let ours = lab.quietly("podwire network resolve www").ok().out;
                assert!(names.contains("10.89.0.2") && ours.contains("10.89.0.2"), "podwire run -d{words}: {ours}");
                lab.quietly(&format!("podwire rm -f -v -t 0 {id}")).ok();
            }
            assert_eq!(resolved(), names, "podwire run -d{words}");
            let left = before.left(lab);
            assert!(left.is_empty(), "podwire run -d{words} [{}] left:\n{left}", run.code);
            Ok::<_, TestCaseError>(())
        });
        if let Err(error) = done {
            panic!("{error}");
        }
    };
    run(flags, "--network=shop", 20);
    run(links, "--network=podman", 10);
    assert!(started.get() > 3, "{} started", started.get());
}
