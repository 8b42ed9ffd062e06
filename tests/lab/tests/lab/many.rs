//! Many containers, and many commands at the same time.

use std::collections::BTreeSet;

use lab::trial::{Need, Sentence};
use lab::{HOST4, Lab, LabOptions, sentences};

use crate::words::{banner_comes, get, ip4, load, patient, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        twenty_runs_at_once_give_twenty_containers_with_twenty_addresses,
        ten_runs_at_once_for_one_port_have_one_winner,
        ten_runs_at_once_for_one_name_have_one_winner,
        runs_and_removals_at_once_leave_everything_as_it_was,
        twenty_networks_made_at_once_have_twenty_subnets,
        a_container_with_a_thousand_ports_and_one_with_a_range_of_sixty_thousand_come_and_go,
    ];
    all.extend(sentences![patient(); &[]; thirty_containers_each_answer_on_a_port_of_their_own]);
    all.extend(
        sentences![patient(); &[Need::Big]; a_thousand_containers_on_one_bridge_each_answer_on_a_port_of_their_own],
    );
    all
}

fn twenty_runs_at_once_give_twenty_containers_with_twenty_addresses(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let run =
        lab.host("for i in $(seq 20); do podwire run -d --name web$i -p $((8000 + i)):80 banner & done; wait").ok();
    assert_eq!(run.err, "", "no error and no warning");
    assert_eq!(run.out.lines().count(), 20);
    assert_eq!(lab.ok("podwire ps -q").lines().count(), 20, "all of them run");
    let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}}";
    let addresses = lab.ok(&format!("podwire inspect -f '{template}' $(podwire ps -q)"));
    let distinct: BTreeSet<&str> = addresses.split_whitespace().collect();
    assert_eq!(distinct.len(), 40, "twenty addresses and twenty MACs:\n{addresses}");
    for port in 8001..=8020 {
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
    }
    lab.host("for i in $(seq 20); do podwire rm -f web$i & done; wait").ok();
    before.same(lab, "after twenty removals at once");
}

fn one_winner(lab: &Lab, line: &str, text: &str) {
    load(lab);
    let dir = lab.dir().display();
    lab.host(&format!(
        "for i in $(seq 10); do (podwire {line} >{dir}/out$i 2>{dir}/err$i; echo $? >{dir}/code$i) & done; wait"
    ))
    .ok();
    let codes = lab.ok(&format!("cat {dir}/code*"));
    assert_eq!(codes.lines().filter(|code| *code == "0").count(), 1, "one winner:\n{codes}");
    let errors = lab.ok(&format!("cat {dir}/err*"));
    assert_eq!(errors.lines().filter(|line| line.contains(text)).count(), 9, "nine are told why:\n{errors}");
    assert_eq!(lab.ok("podwire ps -aq").lines().count(), 1);
}

fn ten_runs_at_once_for_one_port_have_one_winner(lab: &Lab) {
    one_winner(lab, "run -d -p 8080:80 banner", "address already in use");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
}

fn ten_runs_at_once_for_one_name_have_one_winner(lab: &Lab) {
    one_winner(lab, "run -d --name web banner", "already in use");
}

fn runs_and_removals_at_once_leave_everything_as_it_was(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let churn = "for i in 1 2 3 4 5 6; do podwire run -d --name c$w -p $((8000 + w)):80 banner && podwire rm -f c$w || exit 1; done";
    lab.host(&format!("for w in 1 2 3 4 5 6; do ({churn}) >/dev/null & pids=\"$pids $!\"; done; for p in $pids; do wait $p || exit 1; done")).ok();
    before.same(lab, "after 36 containers came and went, six at a time");
}

fn twenty_networks_made_at_once_have_twenty_subnets(lab: &Lab) {
    lab.host("podwire network ls").ok();
    let before = lab.settled_state();
    let run = lab.host("for i in $(seq 20); do podwire network create net$i & done; wait").ok();
    assert_eq!(run.out.lines().count(), 20);
    let subnets = lab.ok("podwire network inspect -f '{{range .Subnets}}{{.Subnet}}{{end}}' $(seq -f net%g 20)");
    let distinct: BTreeSet<&str> = subnets.lines().collect();
    assert_eq!(distinct.len(), 20, "{subnets}");
    lab.host("podwire network rm $(seq -f net%g 20)").ok();
    before.same(lab, "after network rm");
}

fn a_container_with_a_thousand_ports_and_one_with_a_range_of_sixty_thousand_come_and_go(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let many = "$(for i in $(seq 1000); do printf -- '-p %d:80 ' $((10000 + i)); done)";
    lab.host(&format!("podwire run -d --name many {many} banner")).ok();
    for port in [10001, 10500, 11000] {
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:{port}"))));
    }
    lab.host("podwire run -d --name range -p 5000-64999:5000-64999/udp banner").ok();
    let inside = sandbox(lab, "range");
    let mut server = lab.background_inside(&inside, &crate::words::peer(lab, "udp-echo 33333 far"));
    server.until("listening");
    lab.outside(&crate::words::peer(lab, &format!("udp-ask {HOST4} 33333"))).ok().says("far");
    lab.host("podwire rm -f many range").ok();
    before.same(lab, "after rm -f of many ports");
}

fn each_answers(lab: &Lab, count: u16) {
    load(lab);
    let before = lab.settled_state();
    // So many in one command as may be in a lab's time for one.
    for first in (1..=count).step_by(100) {
        let last = count.min(first + 99);
        let some = format!(
            "for i in $(seq {first} {last}); do podwire run -d -p $((20000 + i)):80 banner >/dev/null || exit 1; done"
        );
        lab.host(&some).ok();
    }
    assert_eq!(lab.ok("podwire ps -q").lines().count(), usize::from(count));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:{}", 20000 + count))));
    let all = format!("for i in $(seq {count}); do curl -sS -m 5 http://{HOST4}:$((20000 + i))/ || exit 1; done");
    let pages = lab.outside(&all).ok().out;
    assert_eq!(pages.matches(lab::BANNER).count(), usize::from(count));
    // The first one and the last one, which is on the bridge's last port, hear each other.
    let names = lab.ok("podwire ps --noheading --format '{{.Names}}'");
    let ends = [names.lines().next().expect("some"), names.lines().last().expect("some")];
    for (from, to) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        banner_comes(|| lab.inside(&sandbox(lab, from), &get(&ip4(lab, to))));
    }
    let mut removed = 0;
    for _ in (0..count).step_by(100) {
        removed += lab.host("podwire rm -f -t 0 $(podwire ps -q | head -100)").ok().out.lines().count();
    }
    assert_eq!(removed, usize::from(count));
    before.same(lab, "after rm -f of all");
}

fn thirty_containers_each_answer_on_a_port_of_their_own(lab: &Lab) {
    each_answers(lab, 30);
}

fn a_thousand_containers_on_one_bridge_each_answer_on_a_port_of_their_own(lab: &Lab) {
    each_answers(lab, 1000);
}
