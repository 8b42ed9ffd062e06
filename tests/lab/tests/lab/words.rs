//! The words that the sentences of this suite are made of.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lab::{BANNER, Lab, LabOptions, Mounts, Run, Sandboxed, USER, image};

/// Makes the banner image known to a lab's podwire.
pub(crate) fn load(lab: &Lab) {
    lab.host(&format!("podwire load -q -i {}", archive().display())).ok();
}

/// As [`load`], in the store of the lab's ordinary user, who may not read where the archive is.
pub(crate) fn load_for_user(lab: &Lab) {
    lab.host(&format!("install -m 644 {} /home/{USER}/banner.tar", archive().display())).ok();
    lab.user("podwire load -q -i banner.tar").ok();
}

/// The banner image as `docker save` writes it; made once.
pub(crate) fn archive() -> PathBuf {
    static MADE: OnceLock<tempfile::TempPath> = OnceLock::new();
    let path = MADE.get_or_init(|| {
        let path = tempfile::NamedTempFile::new().expect("a temporary file").into_temp_path();
        image::docker_archive(&image::banner(), &path).expect("the image is made of busybox");
        path
    });
    path.to_path_buf()
}

/// The shell line that fetches a page, in at most five seconds.
pub(crate) fn get(url: &str) -> String {
    format!("curl -sS -g --connect-timeout 2 -m 5 http://{url}/")
}

/// As [`get`], for a page that must not come: a dropped packet shall not cost two seconds.
pub(crate) fn knock(url: &str) -> String {
    format!("curl -sS -g --connect-timeout 0.7 -m 2 http://{url}/")
}

/// Fetches until the banner comes: a server needs a moment to listen after its start.
#[track_caller]
pub(crate) fn banner_comes(fetch: impl Fn() -> Run) {
    let run = eventually(fetch, |run| run.code == 0);
    assert!(run.out.contains(BANNER), "the banner expected:\n# {}\n{}{}[{}]", run.line, run.out, run.err, run.code);
}

/// Tries until it is as wished, or five seconds have passed; the last try.
pub(crate) fn eventually(attempt: impl Fn() -> Run, wish: impl Fn(&Run) -> bool) -> Run {
    let begun = Instant::now();
    loop {
        let run = attempt();
        if wish(&run) || begun.elapsed() > Duration::from_secs(5) {
            return run;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A page that must not be had.
#[track_caller]
pub(crate) fn no_banner(run: Run) {
    assert!(run.code != 0 && !run.out.contains(BANNER), "no page expected:\n# {}\n{}[{}]", run.line, run.out, run.code);
}

/// The network namespace of a container.
pub(crate) fn sandbox(lab: &Lab, name: &str) -> Sandboxed {
    let path = lab.ok(&format!("podwire inspect -f '{{{{.NetworkSettings.SandboxKey}}}}' {name}"));
    assert!(path.starts_with("/run/netns/"), "the namespace file of {name}: {path}");
    Sandboxed { name: name.to_owned(), path }
}

/// The container's first IPv4 address.
pub(crate) fn ip4(lab: &Lab, name: &str) -> String {
    field(lab, name, "IPAddress")
}

/// The container's first IPv6 address.
pub(crate) fn ip6(lab: &Lab, name: &str) -> String {
    field(lab, name, "GlobalIPv6Address")
}

fn field(lab: &Lab, name: &str, field: &str) -> String {
    let template = format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}");
    let value = lab.ok(&format!("podwire inspect -f '{template}' {name}"));
    assert!(!value.is_empty(), "{name} has no {field}");
    value
}

/// The shell line that runs the other end of a conversation.
pub(crate) fn peer(lab: &Lab, arguments: &str) -> String {
    format!("exec python3 {}/peer.py {arguments}", lab.dir().display())
}

/// A lab where bridged packets do not pass the IP hooks, with private mounts and the machine's cgroups.
pub(crate) fn plain() -> LabOptions {
    LabOptions { bridge_nf: false, mounts: Mounts::Private, cgroup2: false, ..LabOptions::default() }
}

/// A lab that may take some minutes.
pub(crate) fn patient() -> LabOptions {
    LabOptions { limit: Duration::from_secs(if big() { 1800 } else { 240 }), ..LabOptions::default() }
}

/// Is there time?
pub(crate) fn big() -> bool {
    std::env::var_os("LAB_BIG").is_some()
}

/// The dual-stack network that IPv6 tests use.
pub(crate) fn dual(lab: &Lab) {
    lab.host("podwire network create --ipv6 --subnet 10.91.0.0/24 --subnet fd91::/64 dual").ok();
}

/// No address and no port is held by a container that does not exist.
#[track_caller]
pub(crate) fn no_orphan_leases(lab: &Lab) {
    let ask = "python3 - <<'END'
import sqlite3
db = sqlite3.connect('file:/var/lib/podwire/podwire.db?mode=ro', uri=True)
for table in ('lease', 'port'):
    for row in db.execute(f'select * from {table} where container is not null and container not in (select id from container)'):
        print(table, row)
END";
    assert_eq!(lab.ok(ask), "", "addresses or ports held by nobody");
}
