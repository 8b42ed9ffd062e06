//! Networks and containers that come and go all at once, and what stands beside them meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lab::trial::{Need, Sentence};
use lab::{Background, HOST4, Lab, sentences};

use crate::words::{banner_comes, big, get, ip4, load, no_orphan_leases, patient, peer, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![patient(); &[];
        thirty_loops_of_networks_and_containers_end_as_they_began,
        thirty_loops_over_three_shared_networks_are_refused_only_in_podmans_words,
        twenty_runs_and_twenty_network_creations_at_once_all_succeed,
        no_query_is_lost_while_containers_come_and_go,
    ];
    all.extend(sentences![patient(); &[Need::Big];
        a_hundred_runs_a_hundred_networks_and_a_thousand_churns_at_once_all_succeed,
    ]);
    all
}

/// How long a churn goes on.
fn seconds() -> u64 {
    if big() { 60 } else { 10 }
}

/// Shells that each do `round` again and again until the time is over, `$w` being the number of the shell. No
/// address is held twice meanwhile; what they said on standard error, a line each.
fn loops(lab: &Lab, shells: u32, round: &str) -> Vec<String> {
    let dir = lab.dir().display();
    let script = format!("while [ $(date +%s) -lt $end ]; do\n{round}\necho round over\ndone\n");
    std::fs::write(lab.dir().join("loop.sh"), script).expect("a file");
    let mut all = lab.background(&format!(
        "export end=$(($(date +%s) + {})); for w in $(seq {shells}); do \
         w=$w sh {dir}/loop.sh >{dir}/out$w 2>{dir}/err$w & done; wait; echo all over",
        seconds()
    ));
    no_address_twice(lab, &mut all);
    all.wait().ok();
    let rounds: u32 = lab.ok(&format!("cat {dir}/out* | grep -c '^round over'")).parse().expect("a number");
    assert!(rounds >= shells, "each loop went round: {rounds} rounds");
    lab.ok(&format!("cat {dir}/err*")).lines().map(str::to_owned).collect()
}

/// Looks, until the loops are over, whether two links of containers have one address.
fn no_address_twice(lab: &Lab, all: &mut Background) {
    let mut most = 0;
    while !all.output().contains("all over") {
        let live = live_addresses(lab);
        let distinct: BTreeSet<&String> = live.iter().collect();
        assert_eq!(distinct.len(), live.len(), "an address is held twice: {live:?}");
        most = most.max(live.len());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(most > 3, "there was something to see");
}

/// The IPv4 addresses that links of containers may use now: one set, which nft reads as of one moment.
fn live_addresses(lab: &Lab) -> Vec<String> {
    let listed = lab.quietly("nft list set bridge podwire addr4 2>/dev/null").out;
    let elements = listed.split_once("elements = {").map_or("", |(_, elements)| elements);
    elements
        .split(',')
        .filter_map(|element| Some(element.split_once(" . ")?.1.split_whitespace().next()?.to_owned()))
        .collect()
}

fn thirty_loops_of_networks_and_containers_end_as_they_began(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name neighbour -p 9090:80 banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:9090"))));
    let mut asker = lab.background_outside(&peer(lab, &format!("tcp-keep {HOST4} 9090")));
    asker.until("asking");
    let before = lab.settled_state();
    // A network and a container that nobody else knows, and the default network that all share.
    let told = loops(
        lab,
        30,
        "podwire network create net$w
         podwire run -d --name c$w --network net$w banner
         podwire network connect podman c$w
         podwire network disconnect net$w c$w
         podwire network connect net$w c$w
         podwire rm -f -t 0 c$w
         podwire network rm net$w",
    );
    assert_eq!(told, Vec::<String>::new(), "no error and no warning");
    asker.write("over\n");
    let asked = asker.wait().out;
    assert!(asked.contains(", 0 failed"), "the neighbour was disturbed:\n{asked}");
    before.same(lab, "after thirty loops");
    no_orphan_leases(lab);
}

/// What may be said when others take away or make what one is about to use.
const REFUSALS: [&str; 5] = [
    "network already exists",
    "network not found",
    "is being used",
    "is not connected to network",
    "network is already connected",
];

fn thirty_loops_over_three_shared_networks_are_refused_only_in_podmans_words(lab: &Lab) {
    load(lab);
    lab.host("podwire network ls").ok();
    lab.host("podwire run --rm banner true").ok();
    let before = lab.settled_state();
    let told = loops(
        lab,
        30,
        "podwire network create shared$((w % 3))
         podwire run -d --name c$w banner
         podwire network connect shared$((w % 3)) c$w
         podwire network connect shared$(((w + 1) % 3)) c$w
         podwire network rm shared$((w % 3))
         podwire network disconnect shared$((w % 3)) c$w
         podwire rm -f -t 0 c$w",
    );
    let strange: Vec<&String> = told.iter().filter(|line| !REFUSALS.iter().any(|known| line.contains(known))).collect();
    assert!(strange.is_empty(), "only these refusals are due: {REFUSALS:?}\n{strange:#?}");
    assert!(told.len() > 3, "they were in each other's way");
    for n in 0..3 {
        lab.host(&format!("podwire network rm shared{n}"));
    }
    before.same(lab, "after thirty loops over shared networks");
    no_orphan_leases(lab);
}

fn twenty_runs_and_twenty_network_creations_at_once_all_succeed(lab: &Lab) {
    all_succeed(lab, 20, 0);
}

fn a_hundred_runs_a_hundred_networks_and_a_thousand_churns_at_once_all_succeed(lab: &Lab) {
    all_succeed(lab, 100, 10);
}

/// `count` runs and network creations at once, beside `workers` that each start and remove a hundred containers.
fn all_succeed(lab: &Lab, count: usize, workers: usize) {
    load(lab);
    lab.host("podwire network ls").ok();
    let before = lab.settled_state();
    let churn = "for i in $(seq 100); do podwire run -d --name w$w.$i banner && podwire rm -f -t 0 w$w.$i; done";
    let mut churns = lab.background(&format!("for w in $(seq {workers}); do ({churn}) & done; wait; echo over"));
    let both = format!(
        "for i in $(seq {count}); do podwire run -d --name c$i -p $((8000 + i)):80 banner & \
         podwire network create net$i & done; wait"
    );
    let run = lab.host(&both).ok();
    assert_eq!((run.out.lines().count(), run.err.as_str()), (2 * count, ""), "all succeed");
    let connect = format!("for i in $(seq {count}); do podwire network connect net$i c$i & done; wait");
    assert_eq!(lab.host(&connect).ok().err, "");
    let begun = Instant::now();
    while !churns.output().contains("over") && begun.elapsed() < Duration::from_secs(1200) {
        std::thread::sleep(Duration::from_millis(200));
    }
    let said = churns.output();
    // Of each its number, and its name when it has gone.
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("Error")).collect();
    assert_eq!((said.lines().count(), errors), (2 * 100 * workers + 1, Vec::new()));
    let live = live_addresses(lab);
    assert_eq!((live.len(), live.iter().collect::<BTreeSet<_>>().len()), (2 * count, 2 * count), "{live:?}");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:{}", 8000 + count))));
    let gone = format!(
        "for i in $(seq {count}); do podwire rm -f -t 0 c$i & done; wait; podwire network rm $(seq -f net%g {count})"
    );
    assert_eq!(lab.host(&gone).ok().err, "");
    before.same(lab, "after all are gone");
    no_orphan_leases(lab);
}

fn no_query_is_lost_while_containers_come_and_go(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.91.0.0/24 shop").ok();
    lab.host("podwire run -d --name db --network shop banner").ok();
    lab.host("podwire run -d --name web --network shop banner").ok();
    let before = lab.settled_state();
    let ask = peer(lab, &format!("dns-keep 10.91.0.1 db {}", ip4(lab, "db")));
    let mut asker = lab.background_inside(&sandbox(lab, "web"), &ask);
    asker.until("asking");
    let told = loops(lab, 4, "podwire run -d --name c$w --network shop banner && podwire rm -f -t 0 c$w");
    assert_eq!(told, Vec::<String>::new(), "no error and no warning");
    let rounds: u32 =
        lab.ok(&format!("cat {}/out* | grep -c '^round over'", lab.dir().display())).parse().expect("a number");
    asker.write("over\n");
    let asked = asker.wait().out;
    assert!(asked.contains(", 0 failed"), "while {rounds} containers came and went:\n{asked}");
    before.same(lab, "after the last has gone");
}
