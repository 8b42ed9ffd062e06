//! Everything that a container could leave behind on a machine, as text that compares.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Lab;

/// Where files are compared.
const ROOTS: [&str; 5] =
    ["/run/netns", "/run/podwire", "/var/lib/podwire", "/run/user/2000/podwire", "/home/podrl/.local/share/podwire"];

/// How long the kernel may take to follow.
const SETTLING: Duration = Duration::from_millis(1500);

/// What a lab's host looked like at one moment: one line per fact, each with its kind in front.
#[derive(Clone, PartialEq, Eq)]
pub struct State(BTreeSet<String>);

impl Lab {
    /// Links, addresses, routes, nft rules and elements, mounts, namespace files, processes and podwire's files.
    ///
    /// podwire's own nft tables count by their elements: the tables are constant, and stay.
    pub fn state(&self) -> State {
        let mut facts = BTreeSet::new();
        let script = "ip -d -o link; echo ---; ip -o addr; echo ---; \
                      ip route show table all; ip -6 route show table all; echo ---; nft -j list ruleset";
        let out = self.quietly(script).ok().out;
        let mut parts = out.split("---\n");
        let mut lines = |kind: &str, normal: fn(&str) -> String| {
            let part = parts.next().unwrap_or_default();
            facts.extend(part.lines().map(|line| format!("{kind}: {}", normal(line))));
        };
        lines("link", without_indices);
        lines("address", without_indices);
        lines("route", str::to_owned);
        // Every host that forwards IPv6 answers to its networks' anycast addresses; forwarding stays on.
        facts.retain(|fact| !fact.starts_with("route: anycast "));
        facts.extend(nft(parts.next().unwrap_or_default()));
        facts.extend(self.mountinfo().lines().map(mount));
        facts.extend(self.processes().into_iter().map(|name| format!("process: {name}")));
        for dir in ROOTS {
            files(&self.path(dir), dir, &mut facts);
        }
        State(facts)
    }

    /// The state, once it stays as it is: a monitor whose command has ended may live some 50 ms longer.
    pub fn settled_state(&self) -> State {
        let begun = Instant::now();
        let mut state = self.state();
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.state();
            if now.0 == state.0 || begun.elapsed() > SETTLING {
                return now;
            }
            state = now;
        }
    }

    /// The command lines of the lab's processes, but for its init, this look and what tests run beside.
    pub fn processes(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("/proc")).into_iter().flatten().flatten();
        let command = |entry: std::fs::DirEntry| {
            entry.file_name().to_str()?.parse::<u32>().ok().filter(|pid| *pid != 1)?;
            let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?.replace('\0', " ");
            let state = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // A dead process has no command line; one that waits for its parent counts as a leak.
            let name =
                if line.is_empty() { state.split_whitespace().take(3).collect::<Vec<_>>().join(" ") } else { line };
            // Whoever starts netd has options of its own to tell it.
            // One that follows a lookout that was killed is no copy of the relay.
            let relay = ["podwire-relay ", "podwire-lookout "].iter().any(|own| name.starts_with(own));
            let name = if relay { "podwire-relay".to_owned() } else { name };
            let told = ["podwire-netd", "podwire-holder"].into_iter().find(|own| name.starts_with(&format!("{own} ")));
            let name = told.unwrap_or(name.trim()).to_owned();
            let ours = [
                "peer.py",
                "dhcp.py",
                "dnsmasq",
                "dhcpd",
                "tcpdump",
                "docker-registry",
                "registry serve",
                "while ",
                "sleep ",
            ];
            (!ours.iter().any(|our| name.contains(our))).then_some(name)
        };
        entries.filter_map(command).collect()
    }
}

impl State {
    /// What `now` has more (`+`) or less (`-`) than this state; empty when they are the same.
    pub fn difference(&self, now: &Self) -> String {
        let gone = self.0.difference(&now.0).map(|fact| format!("- {fact}\n"));
        let new = now.0.difference(&self.0).map(|fact| format!("+ {fact}\n"));
        gone.chain(new).collect()
    }

    /// Fails with the difference when the lab is not as it was.
    #[track_caller]
    pub fn same(&self, lab: &Lab, why: &str) {
        let difference = self.left(lab);
        assert!(difference.is_empty(), "{why}: the state is not what it was:\n{difference}");
    }

    /// What is different, for good: the kernel ends a namespace, and finds an address to be the only one, a moment
    /// after it was asked to.
    pub fn left(&self, lab: &Lab) -> String {
        let begun = Instant::now();
        loop {
            let difference = self.difference(&lab.state());
            if difference.is_empty() || begun.elapsed() > SETTLING {
                return difference;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The facts of one kind.
    pub fn of(&self, kind: &str) -> Vec<&str> {
        self.0.iter().filter_map(|fact| fact.strip_prefix(kind)?.strip_prefix(": ")).collect()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fact| writeln!(f, "{fact}"))
    }
}

/// `7: eth0@if2: <…> mtu` → `eth0 <…> mtu`: link numbers differ from one creation to the next.
fn without_indices(line: &str) -> String {
    let line = line.split_once(": ").map_or(line, |(_, rest)| rest);
    let words = line.split_whitespace().map(|word| word.split_once("@if").map_or(word, |(name, _)| name));
    let mut kept: Vec<String> = Vec::new();
    for word in words.map(|word| word.trim_matches(['\\', ':'])) {
        // A bridge shows its running timers; the state of its carrier follows its members a moment later.
        let varies = kept.last().is_some_and(|last| last.ends_with("_timer") || last == "state");
        kept.push(if varies { "…".to_owned() } else { word.replace(",LOWER_UP", "").replace("NO-CARRIER,", "") });
    }
    kept.retain(|word| !word.is_empty() && word != "tentative");
    kept.join(" ")
}

/// The text of a mount without its numbers.
fn mount(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let kept = words.iter().skip(3).filter(|word| !["shared:", "master:"].iter().any(|p| word.starts_with(p)));
    format!("mount: {}", kept.copied().collect::<Vec<_>>().join(" "))
}

/// Foreign rules as they are; of podwire's tables only the elements of sets and maps.
fn nft(json: &str) -> BTreeSet<String> {
    // nft 1.0.6 prints no JSON for the flags of a table whose owner has just died.
    let Ok(value) = serde_json::from_str::<serde_json::Value>(json) else {
        return BTreeSet::from(["nft: it prints something that is not JSON".to_owned()]);
    };
    let objects = value["nftables"].as_array().into_iter().flatten().filter(|o| o.get("metainfo").is_none());
    objects.flat_map(nft_facts).collect()
}

fn nft_facts(object: &serde_json::Value) -> Vec<String> {
    let (kind, body) = object.as_object().and_then(|o| o.iter().next()).expect("nft prints objects with one key");
    let ours = body["table"] == "podwire" || (kind == "table" && body["name"] == "podwire");
    if !ours {
        return vec![format!("nft: {kind} {}", without_handle(body))];
    }
    let elements = body["elem"].as_array().into_iter().flatten();
    elements.map(|element| format!("nft element: {} {} {element}", body["family"], body["name"])).collect()
}

fn without_handle(body: &serde_json::Value) -> String {
    let mut body = body.clone();
    forget_numbers(&mut body);
    body.to_string()
}

/// Handles differ from one creation to the next, counters count.
fn forget_numbers(value: &mut serde_json::Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !["handle", "packets", "bytes"].contains(&key.as_str()));
        map.values_mut().for_each(forget_numbers);
    }
    value.as_array_mut().into_iter().flatten().for_each(forget_numbers);
}

/// All names below a directory, but for the records themselves, whose content is compared by what they say, and
/// for the directories right below it: they are furniture, and stay.
fn files(dir: &Path, shown: &str, facts: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let shown_entry = format!("{shown}/{name}");
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let furniture = is_dir && ROOTS.contains(&shown);
        // The log of netd tells what was, like any log.
        let record = name.starts_with("podwire.db")
            || name.ends_with(".lock")
            || name == "netd.log"
            || name == "relay.log"
            || name == "runroot";
        if !furniture && !record {
            facts.insert(format!("file: {shown_entry}"));
        }
        if is_dir {
            files(&entry.path(), &shown_entry, facts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_line_is_the_same_whatever_its_number() {
        let line = |n: u32| format!("{n}: eth0@if{}: <UP> mtu 1500 \\    link/ether 02:00:00:00:00:01", n + 1);
        assert_eq!(without_indices(&line(3)), without_indices(&line(7)));
        assert!(without_indices(&line(3)).starts_with("eth0 <UP> mtu 1500"), "{}", without_indices(&line(3)));
    }

    #[test]
    fn elements_of_our_tables_count_and_their_constant_rules_do_not() {
        let facts =
            nft(r#"{"nftables": [{"metainfo": {}}, {"table": {"family": "inet", "name": "podwire", "handle": 1}},
                {"set": {"family": "inet", "name": "hidden", "table": "podwire", "handle": 2, "elem": ["10.88.0.0"]}},
                {"table": {"family": "ip", "name": "nat", "handle": 7}}]}"#);
        let facts: Vec<String> = facts.into_iter().collect();
        assert_eq!(
            facts,
            [r#"nft element: "inet" "hidden" "10.88.0.0""#, r#"nft: table {"family":"ip","name":"nat"}"#]
        );
    }
}
