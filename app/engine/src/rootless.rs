//! Ordinary users: where their things are, and the namespaces in which they are root.
//!
//! ```text
//!   podwire ──locate──> ~/.local/share/podwire, /run/user/1000/podwire
//!      │
//!      ├─ holder.json ──alive──> join its user and mount namespaces: root in there, with the user's own rights
//!      └─ none: start podwire-holder ── new user namespace ── newuidmap, newgidmap ── new mount namespace
//!                      └── stays while anybody has a share in holder-share.lock, or a container runs
//! ```
//!
//! **How it works.** All that podwire does for root works in a user namespace too, if it is one and the same for
//! all commands and monitors: mounts of one must be seen by the next. A *holder* keeps it. Every process of ours
//! in there has a share in a lock; the holder waits for the lock itself, and leaves when it gets it.
//!
//! **Invariants.** A process joins before it has a second thread, and before it has opened anything of the root.
//! Who has a share finds the namespaces alive, or makes new ones with `holder.lock` held. A holder that is
//! killed takes nothing with it: the next command joins a container's monitor, and starts a holder in there.
//!
//! **Limits.** When the holder and all monitors are killed together, the next command finds the user namespace by
//! a container's first process, but mounts (and so the files of network namespaces) are made anew.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

pub use linux::account::home;
use linux::account::{Account, home_of, is_own_directory};
use linux::file::{Durability, write_atomic};
use linux::lock::Share;
use linux::userns::{self, IdMaps, IdRange, MapError};
use linux::{HostLock, Packets, ProcessRef};
use rustix::fs::inotify;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use store::{Store, StoreError, Tx};

use crate::conversation::{self, Peer};
use crate::engine::{EngineOptions, FIRST_OWNED_STATE, owner_in};
use crate::error::{Error, Result};
use crate::record::ContainerRecord;

const PEER: Peer = Peer { name: "the holder of the user namespace", hint: "" };

/// The name (`argv[0]`) under which the binary is a holder.
pub const HOLDER_NAME: &str = "podwire-holder";

/// What the environment says about where a user's things are.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `HOME`
    pub home: Option<PathBuf>,
    /// `XDG_DATA_HOME`
    pub data_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`
    pub runtime_dir: Option<PathBuf>,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// For [`EngineOptions::root`].
    pub root: PathBuf,
    /// For [`EngineOptions::runroot`].
    pub runroot: PathBuf,
    /// For [`EngineOptions::rootless`].
    pub rootless: bool,
    /// What the user should know about the choice.
    pub warning: Option<String>,
}

/// Where whoever runs us has images, containers and their state: `root` and `runroot`, when he names them himself.
pub fn locate(root: Option<PathBuf>, runroot: Option<PathBuf>, environment: &Environment) -> Result<Located> {
    let Some(user) = user_from(&root, &runroot, environment)? else {
        let default = EngineOptions::default();
        let (root, runroot) = (root.unwrap_or(default.root), runroot.unwrap_or(default.runroot));
        return Ok(Located { root, runroot, rootless: false, warning: None });
    };
    user.locate(root, runroot, environment)
}

/// The user for whom we are to be root of a namespace; `None` when we are root already.
fn user_from(root: &Option<PathBuf>, runroot: &Option<PathBuf>, environment: &Environment) -> Result<Option<User>> {
    let own = rustix::process::geteuid().as_raw();
    if own != 0 {
        return Ok(Some(User::of(own)));
    }
    // Capabilities of another namespace than the host's do not count on the host, but there they do.
    if !linux::process::may_administer().map_err(Error::usage)? {
        return Ok(Some(User::of(own)));
    }
    if userns::is_initial() {
        return Ok(None);
    }
    // In `podwire unshare`, or in a user namespace of somebody else's making, whose root we are.
    let map = userns::uid_map().map_err(Error::usage)?;
    let outside = map.iter().find(|range| range.inside == 0).map(|range| range.outside);
    let Some(user) = outside.map(User::of) else { return Ok(None) };
    let located = user.locate(root.clone(), runroot.clone(), environment)?;
    let holder = holder_of(&located.runroot);
    Ok(holder.filter(|holder| holder.alive() && userns::shares_ours(holder.pid)).map(|_| user))
}

/// An ordinary user, as he is outside.
#[derive(Debug, Clone)]
struct User {
    uid: u32,
    name: Option<String>,
    home: Option<PathBuf>,
}

impl User {
    fn of(uid: u32) -> Self {
        let Account { name, home, .. } = Account::of(uid);
        Self { uid, name, home }
    }

    fn locate(&self, root: Option<PathBuf>, runroot: Option<PathBuf>, env: &Environment) -> Result<Located> {
        let root = match root {
            Some(root) => root,
            None => self.data_home(env)?.join("podwire"),
        };
        let (runroot, warning) = match runroot {
            Some(runroot) => (runroot, None),
            None => self.runroot(&root, env),
        };
        Ok(Located { root, runroot, rootless: true, warning })
    }

    fn data_home(&self, env: &Environment) -> Result<PathBuf> {
        if let Some(path) = env.data_home.as_ref().filter(|path| path.is_absolute()) {
            return Ok(path.clone());
        }
        home_of(env.home.as_deref(), || self.home.clone()).map(|home| home.join(".local/share")).ok_or_else(|| {
            Error::usage(format!("user {} has no home directory: set HOME, or name a place by --root", self.uid))
        })
    }

    /// The one that is in use, else the session's, else one that every user can have.
    fn runroot(&self, root: &Path, env: &Environment) -> (PathBuf, Option<String>) {
        if let Some(used) = std::fs::read_link(root.join(USED)).ok().filter(|path| is_own_directory(path))
            && holder_of(&used).is_some_and(|holder| holder.alive())
        {
            return (used, None);
        }
        let usual = PathBuf::from(format!("/run/user/{}", self.uid));
        let session = env.runtime_dir.iter().chain([&usual]).find(|path| path.is_absolute() && is_own_directory(path));
        if let Some(directory) = session {
            return (directory.join("podwire"), None);
        }
        let last = PathBuf::from(format!("/tmp/podwire-run-{}", self.uid));
        let warning = format!(
            "XDG_RUNTIME_DIR is not set to a directory of user {} and {} is not there: state of running containers \
             goes to {}. `loginctl enable-linger` makes {0} have it without a session",
            self.name.clone().unwrap_or_else(|| self.uid.to_string()),
            usual.display(),
            last.display(),
        );
        (last, Some(warning))
    }
}

/// The name of a group (group(5)).
pub(crate) fn group_name(gid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.len() > 2 && fields[2].parse() == Ok(gid)).map(|fields| fields[0].to_owned())
}

/// A link in the root to the runroot that its holder is in: sessions differ in what they have.
pub(crate) const USED: &str = "runroot";

/// What a holder says about itself, in `holder.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    holder: ProcessRef,
    /// Which namespaces it holds: the process that made them. Inode numbers are given away again at once.
    namespaces: ProcessRef,
}

impl Entry {
    /// The last holder's; it may be dead.
    fn read(runroot: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(runroot.join("holder.json")).ok()?).ok()
    }
}

fn holder_of(runroot: &Path) -> Option<ProcessRef> {
    Entry::read(runroot).map(|entry| entry.holder)
}

/// What tells the namespaces we are in from any others of this boot: what was made in the others is gone.
pub(crate) fn identity(options: &EngineOptions) -> Result<String> {
    let entry = Entry::read(&options.runroot).ok_or_else(|| {
        Error::usage(format!("{} says nothing of a holder of the user namespace", options.runroot.display()))
    })?;
    Ok(format!("{} {}", entry.namespaces.pid, entry.namespaces.start_time))
}

/// Our share in the namespaces; for the rest of the process.
static SHARE: OnceLock<Share> = OnceLock::new();

/// Makes this process root of the user's own namespaces, which are made when nobody is in them. Nothing is done
/// for root, nor for who is there already. For the main thread, before there are others.
pub fn enter(options: &EngineOptions) -> Result<()> {
    if !options.rootless {
        return Ok(());
    }
    own_directory(&options.runroot)?;
    let inside = linux::process::is_root() && !userns::is_initial() && {
        let holder = holder_of(&options.runroot);
        holder.is_some_and(|holder| userns::shares_ours(holder.pid))
    };
    take_share(&options.runroot)?;
    if inside || join_holder(&options.runroot)? {
        return Ok(());
    }
    let path = options.runroot.join("holder.lock");
    let starting = HostLock::take(&path).map_err(|e| Error::at(path.display(), e))?;
    if join_holder(&options.runroot)? {
        return Ok(());
    }
    Holder::start(options, join_survivor(options)?)?;
    if !join_holder(&options.runroot)? {
        return Err(Error::usage("the holder of the user namespace has ended at once"));
    }
    drop(starting);
    remember_runroot(options)
}

/// What the processes that are started in there have to know; see [`EngineOptions::rootless`].
pub(crate) fn settle(options: &EngineOptions) -> Result<()> {
    if !options.rootless {
        return Ok(());
    }
    let wrong = |e: io::Error| Error::usage(e);
    linux::netns::use_directory(&options.runroot.join("netns")).map_err(wrong)?;
    linux::lock::use_directory(&options.runroot.join("lock")).map_err(wrong)?;
    take_share(&options.runroot)
}

/// The namespaces stay while the program runs that takes this process's place.
pub fn pass_on() -> Result<()> {
    SHARE.get().map_or(Ok(()), |share| share.pass_on().map_err(Error::usage))
}

fn take_share(runroot: &Path) -> Result<()> {
    if SHARE.get().is_none() {
        let path = runroot.join("holder-share.lock");
        let share = Share::take(&path).map_err(|e| Error::at(path.display(), e))?;
        let _ = SHARE.set(share);
    }
    Ok(())
}

/// Makes the runroot, for us alone: below /tmp everybody could have made it.
fn own_directory(path: &Path) -> Result<()> {
    let at = |e| Error::at(format!("cannot make the directory {}", path.display()), e);
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)?;
    let meta = std::fs::symlink_metadata(path).map_err(at)?;
    let ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    if !ours || meta.mode() & 0o022 != 0 {
        return Err(Error::usage(format!(
            "{} is not a directory of ours alone: remove it, or name another by --runroot",
            path.display()
        )));
    }
    Ok(())
}

/// `false` when there is no holder.
fn join_holder(runroot: &Path) -> Result<bool> {
    let Some(pidfd) = holder_of(runroot).and_then(|holder| holder.pidfd().ok()) else { return Ok(false) };
    userns::join(pidfd).map_err(cannot_join)?;
    Ok(true)
}

fn cannot_join(error: io::Error) -> Error {
    Error::at("cannot join the user namespace of podwire's holder", error)
}

/// Joins what is left of the namespaces of a holder that was killed; says what a new holder has to make.
fn join_survivor(options: &EngineOptions) -> Result<Start> {
    let owners = owners(options);
    if let Some(monitor) = owners.iter().find_map(|owner| owner.pidfd().ok()) {
        userns::join(monitor).map_err(cannot_join)?;
        return Ok(Start::Inside);
    }
    // Nobody was at work: then no container runs either.
    if owners.is_empty() {
        return Ok(Start::New);
    }
    match first_processes(options).iter().find_map(|init| init.pidfd().ok()) {
        Some(init) => {
            userns::join_user(init).map_err(cannot_join)?;
            Ok(Start::NewMounts)
        }
        None => Ok(Start::New),
    }
}

/// Who is at work on containers of the root, dead ones too.
fn owners(options: &EngineOptions) -> Vec<ProcessRef> {
    let states = look(options, |tx| tx.container_states_from(FIRST_OWNED_STATE));
    states.iter().filter_map(|(_, column)| owner_in(column)).collect()
}

/// The containers' first processes.
fn first_processes(options: &EngineOptions) -> Vec<ProcessRef> {
    let record = |document| serde_json::from_value::<ContainerRecord>(document).ok();
    look(options, |tx| tx.containers()).into_iter().filter_map(|(_, document)| record(document)?.init).collect()
}

/// A look into the store before it is opened for work. One that cannot be read is the next command's to tell about.
fn look<T>(options: &EngineOptions, read: impl FnOnce(&Tx<'_>) -> Result<Vec<T>, StoreError>) -> Vec<T> {
    if !options.root.join("podwire.db").exists() {
        return Vec::new();
    }
    Store::open(&options.root).and_then(|store| store.read(read)).unwrap_or_default()
}

fn remember_runroot(options: &EngineOptions) -> Result<()> {
    let link = options.root.join(USED);
    if std::fs::read_link(&link).is_ok_and(|used| used == options.runroot) {
        return Ok(());
    }
    crate::engine::make_dir(&options.root)?;
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&options.runroot, &link).map_err(|e| Error::at(link.display(), e))
}

/// How a holder comes to its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Start {
    /// It makes them.
    New,
    /// It is started in the user namespace, and makes a mount namespace.
    NewMounts,
    /// It is started in them.
    Inside,
}

/// A holder's only argument, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    options: EngineOptions,
    start: Start,
}

/// What a holder and its starter say to each other, in this order.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Holder: it is in a new user namespace, without ids.
    Unshared,
    /// Starter: it has written the maps.
    Mapped,
    /// Starter: there is one id only; the holder may map it itself.
    MapOwn { uid: u32, gid: u32 },
    /// Holder: it can be joined.
    Ready,
    /// Holder: it cannot, and why.
    Failed(String),
}

/// A holder being started.
struct Holder {
    child: std::process::Child,
    talk: Packets,
}

impl Holder {
    /// It can be joined when this returns. It is the caller's to see that there is no other.
    fn start(options: &EngineOptions, start: Start) -> Result<()> {
        let wrong = |e| Error::at("cannot start the holder of the user namespace", e);
        let order = Order { options: options.clone(), start };
        let (call, ours) = conversation::start(HOLDER_NAME, &order).map_err(wrong)?;
        let mut holder = Self { child: call.spawn().map_err(wrong)?, talk: ours };
        let done = holder.bring_up(start);
        if done.is_err() {
            let _ = holder.child.kill();
            let _ = holder.child.wait();
        }
        // Not waited for: it outlives us.
        done
    }

    fn bring_up(&mut self, start: Start) -> Result<()> {
        if start == Start::New {
            self.hear(|word| matches!(word, Word::Unshared))?;
            let word = match self.map_ids()? {
                true => Word::Mapped,
                false => {
                    Word::MapOwn { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
                }
            };
            say(&self.talk, &word)?;
        }
        self.hear(|word| matches!(word, Word::Ready))
    }

    fn hear(&self, expected: impl FnOnce(&Word) -> bool) -> Result<()> {
        match hear(&self.talk)? {
            Word::Failed(why) => Err(Error::usage(why)),
            word if expected(&word) => Ok(()),
            word => Err(Error::usage(format!("the holder of the user namespace says {word:?} out of turn"))),
        }
    }

    /// `false` when there are no ids to map but one's own.
    fn map_ids(&self) -> Result<bool> {
        let user = User::of(rustix::process::geteuid().as_raw());
        let Some(maps) = user.maps() else {
            tracing::warn!("{}", user.without_ranges());
            return Ok(false);
        };
        match maps.write(self.child.id()) {
            Ok(()) => Ok(true),
            Err(MapError::NoHelper(helper)) => {
                tracing::warn!(
                    "{helper} is not installed (on Debian: apt-get install uidmap): containers have one user, root, only"
                );
                Ok(false)
            }
            Err(error) => Err(Error::usage(format!(
                "cannot use the ranges of {} in /etc/subuid and /etc/subgid: {error}{}",
                user.shown(),
                hint(&error)
            ))),
        }
    }
}

/// Why newuidmap may have been refused what it is installed for.
fn hint(error: &MapError) -> &'static str {
    let MapError::Refused { said, .. } = error else { return "" };
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return ". This session may not gain privileges (no_new_privs): start podwire from another one";
    }
    let denied = said.contains("not permitted") || said.contains("Permission denied");
    if denied { ". Is newuidmap set-user-id root, and its file system not mounted nosuid?" } else { "" }
}

impl User {
    fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("user {}", self.uid))
    }

    /// `None` without ranges for users, or for groups.
    fn maps(&self) -> Option<IdMaps> {
        let ranges = |file: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let ranges = userns::subordinate(&text, self.name.as_deref(), self.uid);
            (!ranges.is_empty()).then_some(ranges)
        };
        let (uids, gids) = (ranges("/etc/subuid")?, ranges("/etc/subgid")?);
        let gid = rustix::process::getegid().as_raw();
        Some(IdMaps { uids: userns::map_of(self.uid, &uids), gids: userns::map_of(gid, &gids) })
    }

    fn without_ranges(&self) -> String {
        format!(
            "{} has no range in /etc/subuid or none in /etc/subgid: containers have one user, root, only. As root, \
             `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}` gives some",
            self.shown(),
            self.name.as_deref().unwrap_or("USER"),
        )
    }
}

fn say(talk: &Packets, word: &Word) -> Result<()> {
    Ok(conversation::say(talk, &PEER, word)?)
}

fn hear(talk: &Packets) -> Result<Word> {
    Ok(conversation::hear(talk, &PEER)?.0)
}

/// What `main` runs when its own name is [`HOLDER_NAME`]. Returns the process's exit code.
pub fn holder_main() -> i32 {
    // Started as /proc/self/exe, it would be shown as `exe`; nothing depends on the name.
    let _ = linux::process::set_name(HOLDER_NAME);
    let talk = io::stdin().as_fd().try_clone_to_owned().and_then(Packets::from_fd);
    // Somebody has called it so by hand.
    let Ok(talk) = talk else { return 1 };
    match take_up(&talk) {
        Ok(options) => {
            // Else the copy that is standard input would keep the starter's socket open.
            drop(talk);
            let _ = File::open("/dev/null").map(rustix::stdio::dup2_stdin);
            i32::from(hold(&options).is_err())
        }
        Err(error) => {
            let _ = say(&talk, &Word::Failed(error.message));
            1
        }
    }
}

/// In its namespaces, and known to be.
fn take_up(talk: &Packets) -> Result<EngineOptions> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let Order { options, start } = serde_json::from_str(&argument).map_err(|e| Error::at("a holder's order", e))?;
    if start == Start::New {
        userns::enter_new().map_err(|e| refused(&e))?;
        say(talk, &Word::Unshared)?;
        if let Word::MapOwn { uid, gid } = hear(talk)? {
            userns::map_own_ids(uid, gid).map_err(|e| refused(&e))?;
        }
    }
    if start != Start::Inside {
        userns::enter_new_mounts().map_err(|e| refused(&e))?;
    }
    let holder = ProcessRef::me().map_err(Error::usage)?;
    let kept = Entry::read(&options.runroot).filter(|_| start != Start::New);
    let entry = Entry { holder, namespaces: kept.map_or(holder, |entry| entry.namespaces) };
    let entry = serde_json::to_vec(&entry).map_err(Error::usage)?;
    let path = options.runroot.join("holder.json");
    write_atomic(&path, &entry, 0o600, Durability::ThisBoot).map_err(|e| Error::at(path.display(), e))?;
    say(talk, &Word::Ready)?;
    Ok(options)
}

/// Why the kernel lets this user have no namespace, and what would change that.
fn refused(error: &io::Error) -> Error {
    let says = |file: &str, value: &str| std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let switched_off = |sysctl: &str, value: &str| {
        Error::usage(format!(
            "ordinary users may not make user namespaces on this machine, which containers need: as root, \
             `sysctl -w {sysctl}={value}` allows it"
        ))
    };
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC) if says("/proc/sys/user/max_user_namespaces", "0") => {
            switched_off("user.max_user_namespaces", "15000")
        }
        Some(Errno::NOSPC) => Error::usage(
            "cannot make a user namespace: there are too many of them (user.max_user_namespaces), or too many inside each other",
        ),
        _ if says("/proc/sys/kernel/unprivileged_userns_clone", "0") => {
            switched_off("kernel.unprivileged_userns_clone", "1")
        }
        _ if says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") => {
            switched_off("kernel.apparmor_restrict_unprivileged_userns", "0")
        }
        _ => Error::at("cannot make a user namespace", error),
    }
}

/// Until nobody needs the namespaces any more.
fn hold(options: &EngineOptions) -> Result<()> {
    let (share, me) = (options.runroot.join("holder-share.lock"), options.runroot.join("holder.json"));
    let visits = Visits::to(&me);
    loop {
        let alone = HostLock::take(&share).map_err(|e| Error::at(share.display(), e))?;
        if owners(options).is_empty() {
            // Still with the lock: whoever gets his share next finds no holder.
            std::fs::remove_file(&me).map_err(|e| Error::at(me.display(), e))?;
            crate::reset::left_by_reset(options);
            return Ok(());
        }
        drop(alone);
        // Containers whose monitors were killed have no share; the next command gives them monitors again.
        visits.wait();
    }
}

/// Whoever joins has a share, and then looks who the holder is.
struct Visits(Option<OwnedFd>);

impl Visits {
    fn to(path: &Path) -> Self {
        let watch = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            inotify::add_watch(&watch, path, inotify::WatchFlags::CLOSE_NOWRITE)?;
            Ok::<_, Errno>(watch)
        };
        Self(watch().ok())
    }

    /// Until there was one since the last time.
    fn wait(&self) {
        let mut events = [0; 4096];
        match &self.0 {
            Some(watch) if rustix::io::retry_on_intr(|| rustix::io::read(watch, &mut events)).is_ok() => {}
            // The user has too many of them: then we look now and then.
            _ => std::thread::sleep(Duration::from_secs(5)),
        }
    }
}

/// The ids of this namespace, for `info`.
pub(crate) fn id_maps() -> Option<(Vec<IdRange>, Vec<IdRange>)> {
    if userns::is_initial() {
        return None;
    }
    Some((userns::uid_map().ok()?, userns::gid_map().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nweb:x:1001:1001:,,,:/srv/web:/bin/sh\n";

    fn user(uid: u32) -> User {
        let Account { name, home, .. } = Account::in_text(PASSWD, uid);
        User { uid, name, home }
    }

    #[test]
    fn data_is_in_the_users_own_home_whatever_su_left_in_the_environment() {
        let home = |user: &User, env: Environment| user.data_home(&env).map_err(|e| e.message);
        let ours = rustix::process::geteuid().as_raw();
        let directory = tempfile::tempdir().unwrap();
        let given = Environment { home: Some(directory.path().into()), ..Environment::default() };
        assert_eq!(home(&user(ours), given.clone()).unwrap(), directory.path().join(".local/share"));
        // /proc/1 is never the user's, so HOME is another's.
        let other = Environment { home: Some("/nonexistent".into()), ..Environment::default() };
        assert_eq!(home(&user(1001), other).unwrap(), Path::new("/srv/web/.local/share"));
        let data = Environment { data_home: Some("/data".into()), ..given };
        assert_eq!(home(&user(1001), data).unwrap(), Path::new("/data"));
        let nothing = home(&user(4711), Environment::default()).unwrap_err();
        assert_eq!(nothing, "user 4711 has no home directory: set HOME, or name a place by --root");
    }

    #[test]
    fn without_a_session_state_goes_below_tmp_and_that_is_said() {
        let nobody = user(4_000_000_000);
        let foreign = Environment { runtime_dir: Some("/nonexistent".into()), ..Environment::default() };
        let located = nobody.locate(Some("/r".into()), None, &foreign).unwrap();
        assert_eq!(located.runroot, Path::new("/tmp/podwire-run-4000000000"));
        assert!(located.warning.unwrap().starts_with("XDG_RUNTIME_DIR is not set to a directory of user 4000000000"));
        let asked = nobody.locate(Some("/r".into()), Some("/x".into()), &foreign).unwrap();
        assert_eq!((asked.runroot, asked.warning), (PathBuf::from("/x"), None));
    }

    #[test]
    fn a_session_has_its_own_place() {
        let directory = tempfile::tempdir().unwrap();
        let ours = user(rustix::process::geteuid().as_raw());
        let env = Environment { runtime_dir: Some(directory.path().into()), ..Environment::default() };
        let located = ours.locate(Some("/r".into()), None, &env).unwrap();
        assert_eq!((located.runroot, located.warning), (directory.path().join("podwire"), None));
    }
}
