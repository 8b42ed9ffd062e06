//! Control groups: version 2, version 1, and both at once (cgroups(7), Documentation/admin-guide/cgroup-v2.rst).
//!
//! ```text
//!   /proc/self/mountinfo ─┐
//!   /proc/self/cgroup ────┴─> Trees ──group(name)──> Group ── make · write · procs · freeze · kill · remove
//!                                                     ├─ unified:  /sys/fs/cgroup/[unified/]…/name
//!                                                     └─ legacy:   /sys/fs/cgroup/memory/…/name, one per controller
//! ```
//!
//! A controller is in one tree at a time: in the version 2 tree, or in one of version 1. Freezing, killing and
//! processor time need no controller in the version 2 tree.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::device_filter::{self, DeviceRule};

/// The trees that this process sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trees {
    unified: Option<Tree>,
    /// By controller.
    legacy: BTreeMap<String, Tree>,
}

/// One tree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree {
    /// Where it is mounted.
    top: PathBuf,
    /// This process's own group.
    own: PathBuf,
}

/// The directories of one group. They need not be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    unified: Option<PathBuf>,
    /// By controller.
    legacy: BTreeMap<String, PathBuf>,
}

/// In which kind of tree a controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Version 1.
    One,
    /// Version 2.
    Two,
}

impl Trees {
    /// Those that are mounted here. A machine without any has none.
    pub fn find() -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mounts, &own, is_seen))
    }

    /// `seen`: is this what is mounted there, or is it hidden below another mount?
    fn parse(mounts: &str, own: &str, seen: impl Fn(&str, &str) -> bool) -> Self {
        let mut trees = Self::default();
        for line in mounts.lines() {
            // 36 35 98:0 /root /mount/point options - type source super-options (proc_pid_mountinfo(5))
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let front: Vec<&str> = front.split(' ').collect();
            let back: Vec<&str> = back.split(' ').collect();
            let ([_, _, device, root, top, ..], [kind, _, options, ..]) = (&front[..], &back[..]) else { continue };
            match *kind {
                "cgroup" | "cgroup2" if !seen(device, top) => {}
                "cgroup2" if trees.unified.is_none() => trees.unified = Some(Tree::new(top, root, path_of(own, ""))),
                "cgroup" => {
                    for controller in options.split(',').filter(|name| CONTROLLERS.contains(name)) {
                        let tree = Tree::new(top, root, path_of(own, controller));
                        trees.legacy.entry(controller.to_owned()).or_insert(tree);
                    }
                }
                _ => {}
            }
        }
        trees
    }

    /// Is there one of version 2?
    pub fn has_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// The directories of a group: below `parent` seen from the top of each tree, or where they can be made otherwise.
    /// Those of version 1 only for `wanted` controllers.
    pub fn group(&self, name: &str, parent: Option<&str>, wanted: &[&str]) -> Group {
        let below = |tree: &Tree| match parent {
            Some(parent) => tree.top.join(parent.trim_start_matches('/')).join(name),
            None => tree.own.join(name),
        };
        let wanted_of_two: Vec<&str> = wanted.iter().map(|name| name_of_two(name)).collect();
        let unified = self.unified.as_ref().map(|tree| match parent {
            Some(_) => below(tree),
            None => tree.place(&wanted_of_two).join(name),
        });
        let two: Vec<String> =
            self.unified.as_ref().map(|tree| words(&tree.top.join("cgroup.controllers"))).unwrap_or_default();
        let legacy = wanted
            .iter()
            .filter(|controller| !two.iter().any(|name| name == name_of_two(controller)))
            .filter_map(|controller| Some(((*controller).to_owned(), below(self.legacy.get(*controller)?))))
            .collect();
        Group { unified, legacy }
    }
}

/// Reads `text` as `mountinfo` and, behind an empty line, `cgroup`: no group is outside of a tree that is mounted.
pub(crate) fn read_anything(text: &str) {
    let (mounts, own) = text.split_once("\n\n").unwrap_or((text, text));
    let trees = Trees::parse(mounts, own, |_, _| true);
    for tree in trees.unified.iter().chain(trees.legacy.values()) {
        let below = tree.own.strip_prefix(&tree.top).expect("what is ours is below the top");
        assert!(!below.components().any(|part| part == std::path::Component::ParentDir), "{tree:?}");
    }
}

fn is_seen(device: &str, top: &str) -> bool {
    rustix::fs::stat(top)
        .is_ok_and(|stat| format!("{}:{}", rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev)) == device)
}

/// Those of version 1 that we have a use for.
const CONTROLLERS: [&str; 8] = ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"];

/// What version 2 calls a controller.
fn name_of_two(name: &str) -> &str {
    if name == "blkio" { "io" } else { name }
}

/// This process's path in a tree: of version 2 when `controller` is empty.
fn path_of<'a>(own: &'a str, controller: &str) -> &'a str {
    let mut lines = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        Some((names, path))
    });
    lines.find(|(names, _)| names.split(',').any(|name| name == controller)).map_or("/", |(_, path)| path)
}

impl Tree {
    /// `root` is what of the tree is mounted at `top`; `own` our path in it.
    fn new(top: &str, root: &str, own: &str) -> Self {
        let top = PathBuf::from(top.replace("\\040", " "));
        // Seen from a namespace of control groups, ours may lie outside of what is mounted.
        let inner = if root == "/" { Some(own) } else { own.strip_prefix(root) };
        let inner = inner.filter(|path| !path.contains("..")).unwrap_or_default().trim_start_matches('/');
        let own = if inner.is_empty() { top.clone() } else { top.join(inner) };
        Self { top, own }
    }

    /// Where a group can be made that has the `wanted` controllers, as far as the tree has them: root's at the top, an
    /// ordinary user's as near to our own as the rule allows that a group has processes or gives controllers.
    fn place(&self, wanted: &[&str]) -> PathBuf {
        let all = words(&self.top.join("cgroup.controllers"));
        let wanted: Vec<&str> = wanted.iter().filter(|name| all.iter().any(|there| there == *name)).copied().collect();
        if wanted.is_empty() {
            return self.own.clone();
        }
        let up = self.own.ancestors().take_while(|path| path.starts_with(&self.top));
        let mut places: Vec<&Path> = up.collect();
        if crate::userns::is_initial() {
            places.reverse();
        }
        // Of places that have not all of them, the first with the most.
        let mut best = (self.own.as_path(), 0);
        for place in places {
            let given = enable(place, &wanted);
            if given > best.1 {
                best = (place, given);
            }
            if given == wanted.len() {
                break;
            }
        }
        best.0.to_path_buf()
    }
}

/// Lets groups below `place` have the controllers, as far as the kernel and the owner do; how many they have.
fn enable(place: &Path, wanted: &[&str]) -> usize {
    let file = place.join("cgroup.subtree_control");
    let given = words(&file);
    let enabled = |name: &&&str| given.iter().any(|there| there == *name) || write(&file, &format!("+{name}")).is_ok();
    wanted.iter().filter(enabled).count()
}

/// As [`enable`], by version 1's names, of those that the place has itself. What is missing then is missed by who sets
/// limits.
fn enable_some(place: &Path, wanted: &[&str]) {
    let there = words(&place.join("cgroup.controllers"));
    let wanted: Vec<&str> =
        wanted.iter().map(|name| name_of_two(name)).filter(|name| there.iter().any(|there| there == name)).collect();
    enable(place, &wanted);
}

fn words(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

impl Group {
    /// Is there no directory at all?
    pub fn is_nothing(&self) -> bool {
        self.unified.is_none() && self.legacy.is_empty()
    }

    /// Are all of its directories there?
    pub fn is_there(&self) -> bool {
        self.directories().iter().all(|path| path.is_dir())
    }

    fn directories(&self) -> Vec<&Path> {
        let mut all: Vec<&Path> = self.unified.iter().chain(self.legacy.values()).map(PathBuf::as_path).collect();
        all.sort();
        // Of controllers that are mounted together.
        all.dedup();
        all
    }

    /// Makes what they lie in, where a user has named that, so that they can have the controllers.
    pub fn make_parents(&self, wanted: &[&str]) {
        for path in self.directories().into_iter().filter_map(Path::parent) {
            // Whether it succeeded is seen when the group itself is made.
            let _ = DirBuilder::new().recursive(true).mode(0o755).create(path);
        }
        let mut above: Vec<&Path> = self.unified.iter().flat_map(|path| path.ancestors().skip(1)).collect();
        above.retain(|path| path.join("cgroup.subtree_control").exists());
        above.iter().rev().for_each(|path| enable_some(path, wanted));
        for path in self.legacy.get("cpuset").iter().filter_map(|path| path.parent()) {
            // Of those that were made just now; the others have theirs.
            let mut new: Vec<&Path> = path.ancestors().take_while(|path| path.join("cpuset.cpus").exists()).collect();
            new.pop();
            for path in new.iter().rev() {
                let _ = inherit_set(path);
            }
        }
    }

    /// Makes the directories; those that cannot be made are left out from then on.
    pub fn make(&mut self) {
        let made = |path: &Path| match DirBuilder::new().mode(0o755).create(path) {
            // Left by one that was killed.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => true,
            made => made.is_ok(),
        };
        self.unified = self.unified.take().filter(|path| made(path));
        self.legacy.retain(|controller, path| {
            // Nobody can be in a group without processors and memory nodes, and a new one has none.
            made(path) && (controller != "cpuset" || inherit_set(path).is_ok())
        });
    }

    /// Where the group has the controller; `None` where it has it not.
    pub fn controller(&self, name: &str) -> Option<Version> {
        if self.legacy.contains_key(name) {
            return Some(Version::One);
        }
        let unified = self.unified.as_ref()?;
        let there = words(&unified.join("cgroup.controllers"));
        there.iter().any(|there| there == name_of_two(name)).then_some(Version::Two)
    }

    /// A group in this one, in the same trees. Version 2 only gives controllers to groups whose parent has no processes
    /// of its own.
    pub fn child(&self, name: &str, wanted: &[&str]) -> Self {
        if let Some(unified) = &self.unified {
            enable_some(unified, wanted);
        }
        let legacy = self.legacy.iter().filter(|(controller, _)| wanted.contains(&controller.as_str()));
        Self {
            unified: self.unified.as_ref().map(|path| path.join(name)),
            legacy: legacy.map(|(controller, path)| (controller.clone(), path.join(name))).collect(),
        }
    }

    /// The group with what `more`, the same group with other controllers, has beside it: what is missing is made, and its
    /// processes move there, too.
    pub fn extend(&mut self, mut more: Self, wanted: &[&str]) -> io::Result<()> {
        if let Some(parent) = self.unified.as_ref().and_then(|path| path.parent()) {
            enable_some(parent, wanted);
        }
        more.unified = None;
        more.legacy.retain(|controller, _| !self.legacy.contains_key(controller));
        more.make();
        // Until one look finds nobody who has not moved: what is born meanwhile is born where its parent is.
        for path in more.directories() {
            for _ in 0..64 {
                let moved = words(&path.join("cgroup.procs"));
                let left: Vec<u32> =
                    self.processes().into_iter().filter(|pid| !moved.contains(&pid.to_string())).collect();
                if left.is_empty() {
                    break;
                }
                for pid in left {
                    match write(&path.join("cgroup.procs"), &pid.to_string()) {
                        // It has ended.
                        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                        done => done?,
                    }
                }
            }
        }
        self.legacy.append(&mut more.legacy);
        Ok(())
    }

    /// Its processes may use these devices alone.
    pub fn allow_devices(&self, rules: &[DeviceRule]) -> io::Result<()> {
        if let Some(directory) = self.legacy.get("devices") {
            write(&directory.join("devices.deny"), "a")?;
            let mut lines = rules.iter().flat_map(DeviceRule::lines);
            return lines.try_for_each(|line| write(&directory.join("devices.allow"), &line));
        }
        let unified = self.unified.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        device_filter::attach(File::open(unified)?, rules)
    }

    /// Its path in the tree of version 2, or of memory: as `inspect` shows where it is.
    pub fn shown(&self) -> Option<String> {
        let path =
            self.unified.as_ref().or_else(|| self.legacy.get("memory")).or_else(|| self.legacy.values().next())?;
        let path = path.strip_prefix("/sys/fs/cgroup").ok()?;
        let first = path.components().next()?.as_os_str().to_str()?;
        let named = first == "unified" || CONTROLLERS.iter().any(|name| first.split(',').any(|part| part == *name));
        let rest = if named { path.strip_prefix(first).ok()? } else { path };
        Some(format!("/{}", rest.display()))
    }

    /// Writes to a controller's file; see [`Group::controller`] for which files there are.
    pub fn write(&self, controller: &str, file: &str, text: &str) -> io::Result<()> {
        let directory = self.legacy.get(controller).or(self.unified.as_ref()).ok_or(io::ErrorKind::NotFound)?;
        write(&directory.join(file), text)
    }

    /// A controller's file.
    pub fn read(&self, controller: &str, file: &str) -> io::Result<String> {
        let directory = self.legacy.get(controller).or(self.unified.as_ref()).ok_or(io::ErrorKind::NotFound)?;
        std::fs::read_to_string(directory.join(file))
    }

    /// Has it the file? See [`Group::write`].
    pub fn has(&self, controller: &str, file: &str) -> bool {
        self.legacy.get(controller).or(self.unified.as_ref()).is_some_and(|directory| directory.join(file).exists())
    }

    /// A file of the version 2 tree.
    pub fn read_unified(&self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(self.unified.as_ref().ok_or(io::ErrorKind::NotFound)?.join(file))
    }

    /// What a process writes `0` to in order to be in the group: for [`crate::Spawn::join`].
    pub fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |path: &Path| OpenOptions::new().write(true).open(path.join("cgroup.procs")).map(OwnedFd::from);
        self.directories().into_iter().map(open).collect()
    }

    /// The processes in it, by number.
    pub fn processes(&self) -> Vec<u32> {
        let Some(path) = self.directories().first().map(|path| path.join("cgroup.procs")) else { return Vec::new() };
        words(&path).iter().filter_map(|word| word.parse().ok()).collect()
    }

    /// How many threads are in it.
    pub fn threads(&self) -> usize {
        let text = self.unified.as_ref().map(|path| words(&path.join("cgroup.threads"))).filter(|all| !all.is_empty());
        let first = || self.legacy.values().next().map(|path| words(&path.join("tasks")));
        text.or_else(first).map_or(0, |all| all.len())
    }

    /// Stops all its processes, or lets them go on; waits until they have stopped.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        if let Some(unified) = &self.unified {
            write(&unified.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
            return if frozen { wait_frozen(&unified.join("cgroup.events")) } else { Ok(()) };
        }
        let freezer = self.legacy.get("freezer").ok_or(io::ErrorKind::Unsupported)?.join("freezer.state");
        write(&freezer, if frozen { "FROZEN" } else { "THAWED" })?;
        let wanted = if frozen { "FROZEN" } else { "THAWED" };
        // Version 1 tells of no change; each reading tries again (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
        let end = Instant::now() + PATIENCE;
        while std::fs::read_to_string(&freezer)?.trim() != wanted {
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Kills all its processes.
    pub fn kill(&self) -> io::Result<()> {
        if let Some(unified) = &self.unified
            && write(&unified.join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        // Before Linux 5.14, and in version 1: some may be born meanwhile, but not for ever.
        for _ in 0..64 {
            let all = self.processes();
            if all.is_empty() {
                break;
            }
            for pid in all {
                let process = crate::ProcessRef::of(pid);
                // Those that have ended need not be killed.
                let _ = process.and_then(|process| process.signal(crate::Signal::KILL));
            }
        }
        Ok(())
    }

    /// Removes the directories; those that are gone are no error. Its processes must have ended.
    pub fn remove(&self) -> io::Result<()> {
        let mut first = Ok(());
        for path in self.directories() {
            let removed = remove_tree(path, 0);
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }
}

/// Freezing takes as long as the longest system call that cannot be interrupted.
const PATIENCE: Duration = Duration::from_secs(10);

fn wait_frozen(events: &Path) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let file = File::open(events)?;
        let text = io::read_to_string(&file)?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // A change of the file is told by POLLPRI.
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&left)))?;
    }
}

/// A container may have made groups in its own; kernel limits keep them from being deep.
fn remove_tree(path: &Path, depth: u32) -> io::Result<()> {
    if depth < 32
        && let Ok(entries) = std::fs::read_dir(path)
    {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_tree(&entry.path(), depth + 1)?;
        }
    }
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn inherit_set(path: &Path) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let theirs = std::fs::read_to_string(parent.join(file))?;
        if std::fs::read_to_string(path.join(file))?.trim().is_empty() {
            write(&path.join(file), theirs.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 /jail /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";
    const OWN: &str = "9:name=systemd:/s\n4:memory:/jail/a/b\n2:cpu,cpuacct:/c\n0::/u\n";

    #[test]
    fn the_trees_of_a_mixed_machine_are_found_with_our_place_in_each() {
        let trees = Trees::parse(HYBRID, OWN, |_, _| true);
        let own = |controller: &str| trees.legacy[controller].own.clone();
        assert_eq!(own("memory"), Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(own("cpu"), Path::new("/sys/fs/cgroup/cpu,cpuacct/c"));
        assert_eq!(trees.unified.as_ref().unwrap().own, Path::new("/sys/fs/cgroup/unified/u"));
        let group = trees.group("x", None, &["memory", "cpu", "cpuacct", "pids"]);
        let directories: Vec<_> = group.directories().iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            directories,
            ["/sys/fs/cgroup/cpu,cpuacct/c/x", "/sys/fs/cgroup/memory/a/b/x", "/sys/fs/cgroup/unified/u/x"]
        );
        let below = trees.group("x", Some("/shop"), &["memory"]);
        assert_eq!(below.legacy["memory"], Path::new("/sys/fs/cgroup/memory/shop/x"));
    }

    #[test]
    fn a_place_outside_of_what_is_mounted_is_not_used() {
        let trees = Trees::parse("1 2 0:3 / /sys/fs/cgroup rw - cgroup2 none rw", "0::/../../x\n", |_, _| true);
        assert_eq!(trees.unified.unwrap().own, Path::new("/sys/fs/cgroup"));
        let hidden = Trees::parse(HYBRID, OWN, |_, top| !top.ends_with("/memory"));
        assert!(!hidden.legacy.contains_key("memory") && hidden.legacy.contains_key("cpu"));
        assert_eq!(Trees::parse("", "", |_, _| true), Trees::default());
    }

    #[test]
    fn a_process_that_joins_is_frozen_goes_on_and_is_killed() {
        crate::testing::needs_root!();
        let mut group = Trees::find().unwrap().group(&format!("podwire-test-{}", std::process::id()), None, &["pids"]);
        group.make();
        if group.is_nothing() {
            return eprintln!("skipped: no control group can be made here");
        }
        let mut call = crate::Spawn::new("sleep");
        call.command().arg("100");
        call.join(group.doors().unwrap());
        let mut child = call.spawn().unwrap();
        assert_eq!(group.processes(), [child.id()]);
        group.freeze(true).unwrap();
        group.freeze(false).unwrap();
        group.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        group.remove().unwrap();
        group.remove().unwrap();
    }
}
