//! Floods, and what is full: descriptors, memory, the kernel's table of connections.
//!
//! The floods of frames against the relay are in `relay.rs`; many containers, ports and commands in `many.rs` and
//! `churn.rs`. LAB_BIG=1 makes them longer, and the crowds larger.

use lab::trial::{Need, Sentence};
use lab::{Background, HOST4, Lab, LabOptions, OUTSIDE4, sentences};

use crate::words::{banner_comes, big, eventually, get, ip4, load, load_for_user, patient, peer, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let user = || LabOptions { user: true, ..patient() };
    let mut all = sentences![patient(); &[];
        names_are_answered_with_few_descriptors_and_little_memory_whatever_others_send,
    ];
    all.extend(sentences![user(); &[Need::UidMap];
        a_relay_with_few_descriptors_serves_others_beside_a_crowd_and_everybody_afterwards,
    ]);
    all.extend(sentences![user(); &[Need::UidMap, Need::Big]; ten_thousand_connections_live_at_once_through_a_relay]);
    all.extend(sentences![patient(); &[Need::Big];
        a_port_is_answered_while_the_kernels_table_of_connections_is_full_of_strangers,
    ]);
    all
}

/// What a process of ours takes: descriptors, and KiB of memory at most so far.
fn taken(lab: &Lab, name: &str) -> (usize, u64) {
    let pid = lab.ok(&format!("pgrep -x {name}"));
    let said = lab.quietly(&format!("ls /proc/{pid}/fd | wc -l; awk '/^VmHWM/ {{print $2}}' /proc/{pid}/status")).out;
    let mut numbers = said.split_whitespace().map(|word| word.parse::<u64>().expect("a number"));
    (numbers.next().unwrap_or(0) as usize, numbers.next().unwrap_or(0))
}

/// The descriptors go back to what they were.
#[track_caller]
fn descriptors_back(lab: &Lab, name: &str, before: usize) {
    let count = || lab.quietly(&format!("ls /proc/$(pgrep -x {name})/fd | wc -l"));
    let now = |run: &lab::Run| run.out.trim().parse::<usize>().unwrap_or(usize::MAX);
    let last = now(&eventually(count, |run| now(run) <= before));
    assert!(last <= before, "{name} has {last} descriptors, {before} before");
}

fn names_are_answered_with_few_descriptors_and_little_memory_whatever_others_send(lab: &Lab) {
    load(lab);
    // An upstream that nothing comes back from.
    lab.outside("ip route add blackhole 192.0.2.1").ok();
    lab.host("ip route add 192.0.2.1 via 192.168.99.1; echo nameserver 192.0.2.1 >/etc/resolv.conf").ok();
    lab.host("podwire network create --subnet 10.91.0.0/24 shop").ok();
    // Of whoever starts netd; 20 MiB and what its threads' stacks may be.
    lab.host("ulimit -n 1024; podwire run -d --name db --network shop banner").ok();
    for name in ["web", "bad"] {
        lab.host(&format!("podwire run -d --name {name} --network shop banner")).ok();
    }
    let netd = lab.ok("pgrep -x podwire-netd");
    lab.host(&format!(
        "prlimit --pid {netd} --data=$((64 << 20)) && grep 'open files *1024 *1024 ' /proc/{netd}/limits"
    ))
    .ok();
    let (web, bad, db) = (sandbox(lab, "web"), sandbox(lab, "bad"), ip4(lab, "db"));
    let (before, _) = taken(lab, "podwire-netd");
    let seconds = if big() { 20 } else { 2 };
    let hold = |kind: &str, count: u32| -> Background {
        let mut held = lab.background_inside(&bad, &peer(lab, &format!("dns-hold 10.91.0.1 {kind} {count}")));
        held.until(" held");
        held
    };
    let mut asker = lab.background_inside(&web, &peer(lab, &format!("dns-keep 10.91.0.1 db {db}")));
    asker.until("asking");
    // All at once in the end: what holds connections stays while datagrams come.
    let held = [hold("idle", 1000), hold("half", 1000), hold("deaf", 100), hold("broken", 1000)];
    for (kind, rate) in [("outside", 10_000), ("broken", 50_000)] {
        let flood = peer(lab, &format!("dns-flood 10.91.0.1 {kind} {seconds} {rate}"));
        lab.inside(&bad, &flood).ok().says(" sent");
    }
    // By TCP as well, though the other has taken all that it may have.
    let by_tcp = |run: &lab::Run| run.code == 0 && run.out.contains(&db);
    let ask = || lab.inside(&web, "dig @10.91.0.1 +tcp +short +tries=1 +time=2 db.dns.podman");
    eventually(ask, by_tcp).says(&db);
    asker.write("over\n");
    let asked = asker.wait().out;
    let counts = asked.lines().find_map(|line| line.strip_suffix(" failed")?.split_once(" asked, "));
    let (all, failed) = counts.unwrap_or_else(|| panic!("{asked}"));
    let (all, failed): (u32, u32) = (all.parse().expect("a number"), failed.parse().expect("a number"));
    assert!(all > 100 && failed * 1000 <= all, "one of a thousand may be lost:\n{asked}");
    drop(held);
    assert_eq!(lab.ok("pgrep -x podwire-netd"), netd, "it is the same netd");
    descriptors_back(lab, "podwire-netd", before + 8);
    let (_, most) = taken(lab, "podwire-netd");
    assert!(most < 40 << 10, "it took {most} KiB");
    lab.host("podwire rm -fa -t 0").ok();
}

fn a_relay_with_few_descriptors_serves_others_beside_a_crowd_and_everybody_afterwards(lab: &Lab) {
    load_for_user(lab);
    let mut server = lab.background_outside(&peer(lab, "http 7000"));
    server.until("listening");
    let mut echo = lab.background_outside(&format!("ulimit -n 20000; {}", peer(lab, "tcp-echo 7001")));
    echo.until("listening");
    lab.user("ulimit -n 1024; podwire run -d --name one banner && podwire run -d --name two -p 8080:80 banner").ok();
    let relay = lab.ok("pgrep -x podwire-relay");
    lab.host(&format!("grep 'open files *1024 *1024 ' /proc/{relay}/limits")).ok();
    let (before, _) = taken(lab, "podwire-relay");
    let inside = |name: &str, line: &str| {
        let pid = lab.user(&format!("podwire inspect -f '{{{{.State.Pid}}}}' {name}")).ok().out;
        let line = line.trim_start_matches("exec ");
        format!("ulimit -n 20000; exec nsenter -t {} -n {line}", pid.trim())
    };
    let mut keep = lab.background(&inside("two", &peer(lab, &format!("tcp-keep {OUTSIDE4} 7000"))));
    keep.until("asking");
    let mut published = lab.background_outside(&peer(lab, &format!("tcp-keep {HOST4} 8080")));
    published.until("asking");
    // More than there are descriptors; those that find none are refused, and it goes on.
    let crowd = peer(lab, &format!("tcp-crowd {OUTSIDE4} 7001 4000"));
    let mut crowd = lab.background(&inside("one", &crowd));
    crowd.until("answered");
    for mut asker in [keep, published] {
        asker.close_stdin();
        asker.wait().ok().says(" 0 failed");
    }
    let crowd = crowd.wait().out;
    let answered: u32 = crowd.split(' ').next().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    assert!((900..4000).contains(&answered), "{crowd}");
    assert_eq!(lab.ok("pgrep -x podwire-relay"), relay, "it is the same relay");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let fetch = inside("one", &format!("curl -sS -m 5 http://{OUTSIDE4}:7000/"));
    eventually(|| lab.host(&fetch), |run| run.code == 0).ok();
    descriptors_back(lab, "podwire-relay", before + 8);
    lab.user("podwire rm -fa -t 0").ok();
}

fn ten_thousand_connections_live_at_once_through_a_relay(lab: &Lab) {
    load_for_user(lab);
    let mut echo = lab.background_outside(&format!("ulimit -n 20000; {}", peer(lab, "tcp-echo 7001")));
    echo.until("listening");
    lab.user("ulimit -Hn 25000 2>/dev/null; podwire run -d --name one banner").ok();
    let relay = lab.ok("pgrep -x podwire-relay");
    let pid = lab.user("podwire inspect -f '{{.State.Pid}}' one").ok().out;
    let line = peer(lab, &format!("tcp-crowd {OUTSIDE4} 7001 10000"));
    let line = format!("ulimit -n 20000; exec nsenter -t {} -n {}", pid.trim(), line.trim_start_matches("exec "));
    lab.host(&line).ok().says("10000 answered");
    assert_eq!(lab.ok("pgrep -x podwire-relay"), relay, "it is the same relay");
    let (_, most) = taken(lab, "podwire-relay");
    assert!(most < 100 << 10, "it took {most} KiB");
    lab.user("podwire rm -fa -t 0").ok();
}

/// The limit is the machine's, the table a network namespace's: it can be filled here without harm to others. The
/// kernel makes room for new connections among those that nobody has answered (early_drop() in
/// net/netfilter/nf_conntrack_core.c).
fn a_port_is_answered_while_the_kernels_table_of_connections_is_full_of_strangers(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -p 8080:80 -p 5353:53/udp banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let most: u64 = lab.ok("cat /proc/sys/net/netfilter/nf_conntrack_max").parse().expect("a number");
    assert!(most < 1 << 20, "with {most} connections it would take too long");
    let mac = lab.ok("cat /sys/class/net/eth0/address");
    let mut strangers = lab.background_outside(&peer(lab, &format!("strangers eth0 {mac} {HOST4} 5353")));
    let count = || lab.quietly("cat /proc/sys/net/netfilter/nf_conntrack_count").out.trim().parse::<u64>().unwrap_or(0);
    let begun = std::time::Instant::now();
    while count() < most - 100 {
        assert!(begun.elapsed().as_secs() < 180, "{} of {most} after {:?}", count(), begun.elapsed());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut keep = lab.background_outside(&peer(lab, &format!("tcp-keep {HOST4} 8080")));
    keep.until("asking");
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(count() > most - 1000, "it is full still");
    keep.close_stdin();
    let asked = keep.wait().ok().out;
    strangers.output();
    assert!(asked.contains(" 0 failed"), "{asked}");
}
