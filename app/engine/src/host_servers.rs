//! The upstreams that the host's resolv.conf names, followed.
//!
//! ```text
//!   /etc/resolv.conf ─> ../run/systemd/resolve/stub-resolv.conf        links, each with its directory, watched
//!        └ nameserver 127.0.0.53 ─> that, then what /run/systemd/resolve/resolv.conf names
//! ```
//!
//! Directories are watched, not files: a file that is replaced by rename is another file. The directory that a
//! missing one would be in is watched instead. What inotify cannot see (a file mounted over, a watch that could
//! not be had) is found by looking again while queries come, at most once a second.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Where upstreams answer.
const PORT: u16 = 53;

/// A file is read when nothing has happened to it for so long: who writes it may not be done.
const QUIET: Duration = Duration::from_millis(20);

/// But not later than this after the first change.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often is looked without being told.
const GLANCE: Duration = Duration::from_secs(1);

/// A longer file is cut here.
const FILE_MAX: u64 = 64 << 10;

/// As many links in a row as the kernel follows (MAXSYMLINKS).
const LINKS_MAX: usize = 40;

/// The servers, and what is watched for changes of them.
#[derive(Debug)]
pub struct HostServers {
    conf: PathBuf,
    stubs_servers: PathBuf,
    inotify: Option<OwnedFd>,
    watches: BTreeSet<i32>,
    /// Names in watched directories that matter.
    names: BTreeSet<OsString>,
    servers: Vec<SocketAddr>,
    /// When to read, and when at the latest.
    due: Option<(Instant, Instant)>,
    glanced: Instant,
}

impl HostServers {
    /// Reads the file and begins to watch it.
    pub fn new(conf: &Path, stubs_servers: &Path, now: Instant) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .inspect_err(|error| tracing::warn!(%error, "resolv.conf is only looked at while queries come"));
        let mut new = Self {
            conf: conf.to_owned(),
            stubs_servers: stubs_servers.to_owned(),
            inotify: inotify.ok(),
            watches: BTreeSet::new(),
            names: BTreeSet::new(),
            servers: Vec::new(),
            due: None,
            glanced: now,
        };
        new.refresh();
        new
    }

    /// Those that the file named when it was read, in its order.
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// What to wait for.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// When [`Self::refresh`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.map(|(due, latest)| due.min(latest))
    }

    /// Something happened in a watched directory.
    pub fn noticed(&mut self, now: Instant) {
        if self.read_events() {
            self.changed(now);
        }
    }

    /// Looks whether the file says something else, if the last look was long ago.
    pub fn glance(&mut self, now: Instant) {
        if now >= self.glanced + GLANCE {
            self.glanced = now;
            if self.read().is_some_and(|servers| servers != self.servers) {
                self.changed(now);
            }
        }
    }

    /// Watches what there is to watch now and reads the file again: is anything different?
    pub fn refresh(&mut self) -> bool {
        self.due = None;
        // Watched first, so that no change comes between.
        self.watch();
        // While there is no file nothing new is known: programs that replace it may remove it first.
        let Some(servers) = self.read() else { return false };
        let is_new = servers != self.servers;
        if is_new {
            tracing::debug!(?servers, "upstreams of the host");
        }
        self.servers = servers;
        is_new
    }

    fn changed(&mut self, now: Instant) {
        let latest = self.due.map_or(now + PATIENCE, |(_, latest)| latest);
        self.due = Some((now + QUIET, latest));
    }

    /// Has anything happened that matters?
    fn read_events(&mut self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        let mut matters = false;
        while let Ok(event) = events.next() {
            // Without a name it is the directory itself, or events were lost. The end of a watch tells nothing: we
            // ended it, or the directory's own end was told before.
            matters |= match event.file_name() {
                Some(name) => self.names.contains(std::ffi::OsStr::from_bytes(name.to_bytes())),
                None => !event.events().contains(ReadFlags::IGNORED),
            };
        }
        matters
    }

    fn watch(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut directories = BTreeSet::new();
        self.names.clear();
        for path in [&self.conf, &self.stubs_servers] {
            places(path, &mut directories, &mut self.names);
        }
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let watches = directories.iter().filter_map(|path| inotify::add_watch(inotify, path, flags).ok()).collect();
        for gone in self.watches.difference(&watches) {
            // Of a directory that is gone the kernel has ended it.
            let _ = inotify::remove_watch(inotify, *gone);
        }
        self.watches = watches;
    }

    /// `None` when there is no file to read.
    fn read(&self) -> Option<Vec<SocketAddr>> {
        let mut servers = servers(&text(&self.conf)?);
        let stub = SocketAddr::new(crate::RESOLVED_STUB, PORT);
        if servers.contains(&stub) {
            // The stub knows which server is for which domain, so it is asked first. It may not be in this namespace.
            let asked_by_stub = text(&self.stubs_servers).map(|text| self::servers(&text));
            servers.extend(asked_by_stub.unwrap_or_default().into_iter().filter(|server| *server != stub));
        }
        Some(servers)
    }
}

fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn servers(text: &str) -> Vec<SocketAddr> {
    let server = |(ip, zone): (IpAddr, Option<&str>)| match (ip, zone) {
        (ip, None) => Some(SocketAddr::new(ip, PORT)),
        (IpAddr::V6(ip), Some(zone)) => Some(SocketAddrV6::new(ip, PORT, 0, link_index(zone)?).into()),
        (IpAddr::V4(_), Some(_)) => None,
    };
    crate::nameservers(text).filter_map(server).collect()
}

/// The number of a link, given by name or number.
fn link_index(zone: &str) -> Option<u32> {
    zone.parse().ok().or_else(|| {
        let link: model::LinkName = zone.parse().ok()?;
        let text = std::fs::read_to_string(format!("/sys/class/net/{link}/ifindex")).ok()?;
        text.trim().parse().ok()
    })
}

/// Every directory in which something has to happen before `path` reads otherwise, and the names there.
fn places(path: &Path, directories: &mut BTreeSet<PathBuf>, names: &mut BTreeSet<OsString>) {
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let mut below = at.as_path();
        while let (Some(directory), Some(name)) = (below.parent(), below.file_name()) {
            names.insert(name.to_owned());
            if directory.is_dir() {
                directories.insert(directory.to_owned());
                break;
            }
            below = directory;
        }
        match (std::fs::read_link(&at), at.parent()) {
            (Ok(target), Some(directory)) => at = directory.join(target),
            _ => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A host's files in a directory of their own, and who follows them.
    struct Rig {
        dir: tempfile::TempDir,
        host: HostServers,
    }

    impl Rig {
        fn new(prepare: impl FnOnce(&Path)) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("etc")).unwrap();
            fs::create_dir(dir.path().join("run")).unwrap();
            prepare(dir.path());
            let (conf, stubs) =
                (dir.path().join("etc/resolv.conf"), dir.path().join("run/systemd/resolve/resolv.conf"));
            let host = HostServers::new(&conf, &stubs, Instant::now());
            Self { dir, host }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        /// What is asked after all that has happened was noticed.
        fn servers(&mut self) -> Vec<String> {
            self.host.noticed(Instant::now());
            if self.host.deadline().is_some() {
                self.host.refresh();
            }
            self.host.servers().iter().map(|server| server.ip().to_string()).collect()
        }
    }

    #[test]
    fn a_file_is_followed_when_written_renamed_over_removed_and_back() {
        let mut rig = Rig::new(|root| fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.1").unwrap());
        assert_eq!(rig.servers(), ["192.0.2.1"]);
        rig.write("etc/resolv.conf", "nameserver 192.0.2.2\nnameserver 2001:db8::2\n");
        assert_eq!(rig.servers(), ["192.0.2.2", "2001:db8::2"]);
        for n in 3..6 {
            rig.write("etc/new", &format!("nameserver 192.0.2.{n}"));
            fs::rename(rig.path("etc/new"), rig.path("etc/resolv.conf")).unwrap();
            assert_eq!(rig.servers(), [format!("192.0.2.{n}")]);
        }
        fs::remove_file(rig.path("etc/resolv.conf")).unwrap();
        assert_eq!(rig.servers(), ["192.0.2.5"], "nothing better is known");
        rig.write("etc/resolv.conf", "nameserver 192.0.2.6");
        assert_eq!(rig.servers(), ["192.0.2.6"]);
        rig.write("etc/resolv.conf", "# offline\n");
        assert!(rig.servers().is_empty());
    }

    #[test]
    fn links_are_followed_wherever_they_lead() {
        let mut rig = Rig::new(|root| {
            fs::create_dir(root.join("run/a")).unwrap();
            fs::write(root.join("run/a/conf"), "nameserver 192.0.2.1").unwrap();
            symlink("../run/a/conf", root.join("etc/resolv.conf")).unwrap();
        });
        assert_eq!(rig.servers(), ["192.0.2.1"]);
        rig.write("run/a/conf", "nameserver 192.0.2.2");
        assert_eq!(rig.servers(), ["192.0.2.2"]);
        symlink(rig.path("run/b/conf"), rig.path("etc/link")).unwrap();
        fs::rename(rig.path("etc/link"), rig.path("etc/resolv.conf")).unwrap();
        assert_eq!(rig.servers(), ["192.0.2.2"], "leads nowhere yet");
        fs::create_dir(rig.path("run/b")).unwrap();
        rig.servers();
        rig.write("run/b/conf", "nameserver 192.0.2.3");
        assert_eq!(rig.servers(), ["192.0.2.3"]);
        fs::remove_dir_all(rig.path("run/b")).unwrap();
        rig.servers();
        fs::create_dir(rig.path("run/b")).unwrap();
        rig.write("run/b/conf", "nameserver 192.0.2.4");
        assert_eq!(rig.servers(), ["192.0.2.4"], "its directory made anew");
    }

    #[test]
    fn behind_the_stub_are_the_servers_that_it_asks() {
        let mut rig = Rig::new(|root| fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.53").unwrap());
        assert_eq!(rig.servers(), ["127.0.0.53"]);
        fs::create_dir_all(rig.path("run/systemd/resolve")).unwrap();
        rig.servers();
        rig.write("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.1\nnameserver 127.0.0.53");
        assert_eq!(rig.servers(), ["127.0.0.53", "192.0.2.1"]);
        rig.write("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.2");
        assert_eq!(rig.servers(), ["127.0.0.53", "192.0.2.2"]);
    }

    #[test]
    fn what_cannot_be_noticed_is_seen_at_a_glance() {
        let mut rig = Rig::new(|root| fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.1").unwrap());
        rig.host.inotify = None;
        rig.write("etc/resolv.conf", "nameserver 192.0.2.2");
        let now = Instant::now();
        rig.host.glance(now);
        assert_eq!(rig.host.deadline(), None, "not so soon");
        rig.host.glance(now + GLANCE);
        assert!(rig.host.deadline().is_some());
        assert_eq!(rig.servers(), ["192.0.2.2"]);
    }

    #[test]
    fn a_file_being_written_is_read_when_it_is_quiet_but_not_late() {
        let mut rig = Rig::new(|root| fs::write(root.join("etc/resolv.conf"), "").unwrap());
        let start = Instant::now();
        let mut due = Vec::new();
        for ms in [0, 15, 190] {
            rig.write("etc/resolv.conf", "nameserver 192.0.2.1");
            rig.host.noticed(start + Duration::from_millis(ms));
            due.push(rig.host.deadline().map(|at| (at - start).as_millis()));
        }
        assert_eq!(due, [Some(20), Some(35), Some(200)]);
    }

    #[test]
    fn other_files_beside_it_do_not_matter() {
        let mut rig = Rig::new(|root| fs::write(root.join("etc/resolv.conf"), "").unwrap());
        rig.write("etc/passwd", "x");
        rig.host.noticed(Instant::now());
        assert_eq!(rig.host.deadline(), None);
    }

    #[test]
    fn a_zone_index_is_a_name_or_a_number() {
        let scope = |text: &str| {
            servers(&format!("nameserver fe80::1%{text}")).first().map(|server| match server {
                SocketAddr::V6(server) => server.scope_id(),
                SocketAddr::V4(_) => 0,
            })
        };
        assert_eq!(scope("lo"), Some(1));
        assert_eq!(scope("7"), Some(7));
        assert_eq!(scope("nosuch"), None);
        assert!(servers("nameserver 192.0.2.1%lo").is_empty());
    }
}
