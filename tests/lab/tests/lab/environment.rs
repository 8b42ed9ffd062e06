//! What befalls a host while containers run: settings changed by others, files broken, disks full, clocks that jump.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::trial::Sentence;
use lab::{BANNER, HOST4, Lab, LabOptions, Run, sentences};

use crate::words::{banner_comes, big, eventually, get, ip4, load, peer, sandbox};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        what_others_set_while_containers_run_does_no_harm_or_is_mended,
        a_clock_that_jumps_by_years_loses_nothing,
        the_hosts_own_namespace_handed_in_as_a_containers_is_left_as_it_is,
        the_hosts_own_namespace_in_the_place_of_a_containers_is_left_as_it_is,
        a_lost_run_directory_loses_no_container,
        on_a_full_disk_each_command_is_one_clear_line_or_works,
    ];
    all.extend(sentences![
        LabOptions { limit: Duration::from_secs(if big() { 3600 } else { 400 }), ..LabOptions::default() };
        &[]; each_file_of_ours_empty_cut_short_garbage_or_lost_is_told_of_or_made_again]);
    all
}

/// A web server with a name on a network, published.
fn shop(lab: &Lab) {
    load(lab);
    lab.host("podwire network create shop").ok();
    lab.host("podwire run -d --name web --network shop -p 8080:80 banner").ok();
    lab.host("podwire run -d --name db --network shop banner").ok();
    lab.host("podwire create --name idle banner").ok();
    lab.host("podwire volume create data").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
}

/// The port answers, containers know and reach each other, and the way out is open.
#[track_caller]
fn all_is_well(lab: &Lab, after: &str) {
    let outside = eventually(|| lab.outside(&get(&format!("{HOST4}:8080"))), |run| run.code == 0);
    assert!(outside.out.contains(BANNER), "from outside after {after}: {}{}", outside.out, outside.err);
    let named = eventually(|| lab.host("podwire exec web nslookup db"), |run| run.code == 0);
    assert!(named.code == 0, "a name after {after}: {}{}", named.out, named.err);
    let way_out = eventually(|| lab.inside(&sandbox(lab, "web"), &get("192.168.99.1:7070")), |run| run.code == 0);
    assert!(way_out.code == 0, "the way out after {after}: {}", way_out.err);
}

fn what_others_set_while_containers_run_does_no_harm_or_is_mended(lab: &Lab) {
    let mut server = lab.background_outside(&peer(lab, "http 7070"));
    server.until("listening");
    shop(lab);
    all_is_well(lab, "the start");
    let link = "$(ip -o link show type veth master podman1 | head -1 | sed -E 's/^[0-9]+: ([^@]+)@.*/\\1/')";
    let inside = sandbox(lab, "web");
    for harm in [
        "echo 0 >/proc/sys/net/ipv4/ip_forward",
        "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done",
        "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 2 >$f; done",
        "ip link set podman1 mtu 1280",
        "ip addr flush dev podman1",
        "ip link set podman1 down",
        &format!("ip link set {link} mtu 1280"),
        &format!("ip link set {link} down"),
        &format!("ip link set {link} address 02:00:00:00:00:bb"),
        // The host gets another address, and the old one is gone.
        "ip addr add 192.168.99.110/24 dev eth0 && ip addr del 192.168.99.110/24 dev eth0",
        "ip link set eth0 mtu 1400",
        "ip link set eth0 down; ip link set eth0 up; ip route replace default via 192.168.99.1",
        "for f in /proc/sys/net/ipv4/conf/*/route_localnet; do echo 0 >$f; done",
        "iptables -P FORWARD ACCEPT 2>/dev/null; nft flush ruleset",
    ] {
        lab.host(harm).ok();
        all_is_well(lab, harm);
    }
    // Whoever gives a container another identity is told nothing by it, until `reload` or a restart gives it its own.
    for harm in ["ip link set eth0 mtu 1280", "ip link set eth0 down", "ip route del default", "ip addr flush dev eth0"]
    {
        lab.inside(&inside, harm).ok();
        lab.host("podwire network reload web").ok();
        all_is_well(lab, &format!("{harm}, in the container"));
    }
}

/// A clock that the programs below it see so many seconds off.
const OFF: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *off = getenv("OFF");
    if (result == 0 && off && clock == CLOCK_REALTIME) now->tv_sec += atol(off);
    return result;
}
"#;

fn a_clock_that_jumps_by_years_loses_nothing(lab: &Lab) {
    let dir = lab.dir().display().to_string();
    std::fs::write(lab.dir().join("off.c"), OFF).expect("a file of the lab");
    lab.host(&format!("cc -shared -fPIC -o {dir}/off.so {dir}/off.c -ldl")).ok();
    shop(lab);
    let years = |years: i64| format!("LD_PRELOAD={dir}/off.so OFF={} ", years * 31_557_600);
    assert!(lab.ok(&format!("{} date +%Y", years(10))) > lab.ok("date +%Y"), "the clock is off");
    let address = ip4(lab, "web");
    for jump in [10, -40, 60, -5] {
        let at = years(jump);
        let each = |line: &str| lab.host(&format!("{at} podwire {line}")).ok();
        each("ps -a").says("web").says("idle");
        each("run -d --name late --network shop banner");
        each("network reload --all");
        each("restart -t 0 web");
        each("events --stream=false --since 1h");
        each("image prune -f --filter until=1h");
        each("system df || podwire images");
        lab.host("podwire inspect late").ok();
        // Without the jump again: what was made then is there, and goes.
        lab.host("podwire rm -f -t 0 late").ok();
        assert_eq!(ip4(lab, "web"), address);
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
        lab.host("podwire exec web nslookup db").ok();
    }
}

/// The host's link, address and routes.
fn uplink(lab: &Lab) -> String {
    lab.ok("ip -o addr show dev eth0 scope global; ip route | grep eth0; readlink /proc/1/ns/net; cat /proc/sys/net/ipv4/conf/lo/forwarding")
}

fn the_hosts_own_namespace_handed_in_as_a_containers_is_left_as_it_is(lab: &Lab) {
    shop(lab);
    let before = uplink(lab);
    let state = lab.settled_state();
    lab.host("touch /run/netns/host && mount --bind /proc/1/ns/net /run/netns/host").ok();
    for path in ["/proc/1/ns/net", "/run/netns/host"] {
        let run = lab.host(&format!("podwire run -d --name guest --network ns:{path} banner sleep 1000"));
        if run.code == 0 {
            // As on the host's network: it is joined, and nothing in it is ours.
            lab.host("podwire exec guest ip -o link show dev eth0").ok();
            lab.host("podwire network connect shop guest").code(125);
            lab.host("podwire network reload --all").ok();
            lab.host("podwire restart -t 0 guest").ok();
            lab.host("podwire rm -f -t 0 guest").ok();
        } else {
            run.refuses(125, path);
        }
        assert_eq!(uplink(lab), before, "with {path}");
    }
    lab.host("umount /run/netns/host && rm /run/netns/host").ok();
    state.same(lab, "after a container in the host's namespace");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
}

/// The file that names the container's namespace is made to name the host's: nothing may be deleted there.
fn the_hosts_own_namespace_in_the_place_of_a_containers_is_left_as_it_is(lab: &Lab) {
    for end in
        ["rm -f -t 0 web", "stop -t 0 web", "network reload web", "network disconnect shop web", "restart -t 0 web"]
    {
        shop(lab);
        let before = uplink(lab);
        let file = sandbox(lab, "web").path;
        lab.host(&format!("umount {file}; touch {file}; mount --bind /proc/1/ns/net {file}")).ok();
        let run = lab.host(&format!("podwire {end}"));
        assert!(!run.err.contains("panicked"), "{}", run.err);
        assert_eq!(uplink(lab), before, "after {end}: {}{}", run.out, run.err);
        // Refused, as is every other command that would work in there, until the file names its own again, or none.
        lab.host("podwire rm -f -t 0 web");
        assert_eq!(uplink(lab), before, "after {end} and a first rm");
        lab.host(&format!("umount {file}; true")).ok();
        lab.host("podwire rm -f -t 0 web db idle").ok();
        assert_eq!(uplink(lab), before, "after {end} and rm");
        assert_eq!(lab.ok("ip -o link show type veth | grep -v eth0; true"), "", "after {end}");
        lab.host("podwire network rm shop && podwire volume rm data").ok();
    }
}

fn a_lost_run_directory_loses_no_container(lab: &Lab) {
    shop(lab);
    lab.host("rm -rf /run/podwire").ok();
    let listed = lab.ok("podwire ps -a --format '{{.Names}}'");
    assert_eq!(listed.split('\n').collect::<BTreeSet<_>>(), BTreeSet::from(["web", "db", "idle"]));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire run --rm --network shop banner nslookup web").ok();
    lab.host("podwire restart -t 0 web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire rm -f -t 0 web db idle").ok();
    lab.host("podwire network rm shop").ok();
}

/// One line that says what is wrong, or success; never a panic, a signal or silence.
fn clear(run: &Run) -> Result<(), String> {
    let shown = || format!("# {}\n{}{}[{}]", run.line, run.out, run.err, run.code);
    let errors = run.err.lines().filter(|line| line.starts_with("Error: ")).count();
    let told = run.code == 0 || (run.code < 124 && errors > 0) || (125..128).contains(&run.code) && errors > 0;
    if told && !run.err.contains("panicked") { Ok(()) } else { Err(shown()) }
}

fn on_a_full_disk_each_command_is_one_clear_line_or_works(lab: &Lab) {
    load(lab);
    lab.host("mount -o remount,size=8g /run && podwire run --rm -p 8080:80 banner true").ok();
    let before = lab.settled_state();
    for full in ["/var/lib", "/run"] {
        shop(lab);
        lab.host(&format!("mount -o remount,size=$(($(df --output=used -B1 {full} | tail -1) + 32768)) {full}")).ok();
        lab.host(&peer(lab, &format!("fill {full}"))).ok();
        for command in [
            "run -d --name new -p 8081:80 banner",
            "create --name new -v newdata:/x banner",
            "network create new",
            "pod create new",
            "volume create new",
            "network connect podman web",
            "exec web true",
            "rename idle renamed",
            "rename renamed idle",
            "restart -t 0 db",
            "network reload --all",
            "ps -a",
        ] {
            let run = lab.host(&format!("podwire {command}"));
            clear(&run).unwrap_or_else(|shown| panic!("with {full} full:\n{shown}"));
        }
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
        // What is in the way can always be taken away.
        lab.host(&format!("rm -f {full}/filler; mount -o remount,size=8g {full}")).ok();
        lab.host("podwire network disconnect podman web");
        lab.host("podwire pod rm -f new; podwire rm -f -t 0 new; podwire network rm -f new; podwire volume rm -f new newdata");
        lab.host("podwire start web db").ok();
        banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
        lab.host("podwire rm -f -t 0 web db idle && podwire network rm shop && podwire volume rm data").ok();
        before.same(lab, &format!("after {full} was full"));
    }
}

/// What is done to a file; `$f` is its name.
const DAMAGES: [&str; 4] =
    [": >$f", "truncate -s $(($(stat -c %s $f) / 2)) $f", "printf '\\377\\000\\001{\"garbage' >$f", "rm $f"];

fn each_file_of_ours_empty_cut_short_garbage_or_lost_is_told_of_or_made_again(lab: &Lab) {
    shop(lab);
    lab.host("podwire run -d --pod new:p --name member banner").ok();
    lab.host("mkdir -p /etc/podwire 2>/dev/null; true").ok();
    let all = ["web", "db", "idle", "member"];
    let files = lab.ok("find /run/podwire /var/lib/podwire -type f -not -path '*/overlay/*/diff/*' | sort");
    // Of the same file of several containers, one is enough.
    let mut kinds = BTreeSet::new();
    let kind = |file: &str| file.split('/').filter(|part| part.len() != 64).collect::<Vec<_>>().join("/");
    let files: Vec<&str> = files.lines().filter(|file| big() || kinds.insert(kind(file))).collect();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (place, file) in files.into_iter().enumerate() {
        for (kind, damage) in DAMAGES.iter().enumerate() {
            // Records that are gone or empty begin anew, and what they told of is removed: nothing to put them back to.
            let is_records = file.ends_with("/podwire.db");
            if (is_records && [0, 3].contains(&kind)) || (!big() && !is_records && kind != place % DAMAGES.len()) {
                continue;
            }
            tried += 1;
            let kept = format!("{}/kept", lab.dir().display());
            lab.host(&format!("rm -rf {kept}; mkdir {kept}; cp -a {file} /var/lib/podwire/podwire.db* {kept}")).ok();
            lab.host(&format!("f={file}; {damage}")).ok();
            for command in [
                "ps -a",
                "inspect web idle",
                "network ls",
                "images",
                "exec web true",
                "logs db",
                "run --rm banner true",
                "restart -t 0 db",
                "network reload --all",
            ] {
                let run = lab.host(&format!("podwire {command}"));
                wrong.extend(clear(&run).err().map(|shown| format!("{file} with {damage}: {shown}")));
            }
            // The records themselves are put back, with the log that belongs to them and nobody who has them open;
            // whatever is made from them must come back by itself.
            if file.contains("/podwire.db") {
                lab.host("for p in $(pgrep -x podwire-netd; pgrep -x podwire-monitor); do kill -9 $p; done").ok();
                let back = "cd /var/lib/podwire && rm -f podwire.db*";
                lab.host(&format!("{back} && cp -a {kept}/podwire.db {kept}/podwire.db-wal .")).ok();
            }
            let listed = lab.host("podwire ps -a --format '{{.Names}}'");
            let missing: Vec<_> = all.iter().filter(|name| !listed.out.lines().any(|line| line == **name)).collect();
            if !missing.is_empty() {
                wrong.push(format!("{file} with {damage}: {missing:?} lost: {}{}", listed.out, listed.err));
            }
            let again = lab.host("podwire restart -t 0 web db");
            if again.code != 0 {
                wrong.push(format!("{file} with {damage}: does not start again: {}", again.err));
            }
        }
    }
    println!("environment: {tried} files damaged, {} faults", wrong.len());
    assert!(wrong.is_empty(), "{} faults in {tried}:\n{}", wrong.len(), wrong.join("\n"));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire pod rm -f -t 0 p && podwire rm -f -t 0 web db idle").ok();
}
