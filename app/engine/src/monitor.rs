//! The process that stays with a container.
//!
//! ```text
//!   container's stdout ──FIFO──┐                                ┌──> ctr.log
//!   container's stderr ──FIFO──┼──> Loop ── Stdout, Stderr ─────┼──> the command that started it (stdin: fd 0)
//!   (or its terminal)    pty ──┘      ^                         └──> commands that attached (userdata/attach)
//!   container's stdin  <──pipe────────┴── Stdin, StdinEnd, Resize ──────┘
//!   pidfd of its first process ──ended──> take_down ──> Exited
//! ```
//!
//! **How it works.** The binary re-executes itself with another name and an [`Order`]. Overlay and runtime
//! need a mount namespace of their own, but the network is taken down in the host's: a thread of the
//! monitor has the former and ends when the container runs, so nothing of it is left in the host's mount table.
//!
//! **Invariants.** It writes itself into the record as owner before it does anything, and does nothing when
//! the record is no longer its starter's. The container's ends of the FIFOs are open for reading and writing,
//! so a monitor that is killed leaves its container running, and another one takes over where it stood.
//!
//! Where that cannot be, with `-t` and `-i`, a [keeper](crate::keeper) holds the other end.
//!
//! **Limits.** What was typed and not yet taken by the container dies with its monitor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use jiff::Timestamp;
use linux::userns::{IdMaps, IdRange, UserNs};
use linux::{ProcessRef, Spawn, fds, mounts, userns};
use model::ContainerId;
use serde::{Deserialize, Serialize};

use crate::config::{LogDriver, NetworkMode};
use crate::engine::{Engine, EngineOptions, Places, change_if_owned, remove_if_says};
use crate::error::{Error, Result};
use crate::keeper::Keeper;
use crate::pods::pause::Pause;
use crate::pods::{Joined, Share, mount_shm};
use crate::ports::Holds;
use crate::pump::{Pump, Source};
use crate::record::{ContainerRecord, State};
use crate::revival::Guard;
use crate::runtime::Runtime;
use crate::stage::Stage;
use crate::{idmaps, spec, user, users};

/// The name (`argv[0]`) under which the binary is a monitor.
pub const MONITOR_NAME: &str = "podwire-monitor";

/// What a monitor is to do; its only argument, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// With the runtime as a path, so that ours is the one that was looked up.
    pub(crate) options: EngineOptions,
    pub(crate) id: ContainerId,
    pub(crate) mode: Mode,
}

/// How a monitor comes to its container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// It starts it.
    Start {
        /// Whose the record is until we have it.
        starter: ProcessRef,
        netns: Option<PathBuf>,
        /// Rows and columns of the starter's terminal.
        console: Option<(u16, u16)>,
        /// Does the starter want the output?
        watched: bool,
    },
    /// It runs already, and its monitor was killed.
    Adopt {
        /// Whose the record is until we have it.
        finder: ProcessRef,
    },
}

/// Starts a monitor. It keeps `ports` open; `starter` is the other end of its conversation.
///
/// It begins where this process began: from there it can bring back helpers whose sockets are to belong there.
pub(crate) fn spawn(order: &Order, ports: Vec<OwnedFd>, starter: Option<UnixStream>, places: &Places) -> Result<()> {
    let argument = serde_json::to_string(order).map_err(Error::usage)?;
    let wrong = |e| Error::at("cannot start the container's monitor", e);
    let complaints = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(places.run_data().join("monitor.log"))
        .map_err(wrong)?;
    let mut call = Spawn::ourselves(MONITOR_NAME);
    call.keep(ports);
    let command = call.command();
    command.arg(argument);
    command.stdin(starter.map_or_else(Stdio::null, |socket| OwnedFd::from(socket).into()));
    command.stdout(Stdio::null()).stderr(complaints);
    // Not waited for: it outlives us, and is nobody's business when it does not.
    linux::netns::home().run(|| call.spawn().map(drop)).map_err(wrong)
}

/// What `main` runs when its own name is [`MONITOR_NAME`]. Returns the process's exit code.
pub fn monitor_main() -> i32 {
    // Started as /proc/self/exe, it would be shown as `exe`; nothing depends on the name.
    let _ = linux::process::set_name(MONITOR_NAME);
    match linux::spawn::take_inherited().map_err(Error::usage).and_then(|ports| Monitor::from_arguments(ports)?.run()) {
        Ok(()) => 0,
        Err(error) => {
            // Standard error is userdata/monitor.log.
            use std::io::Write;
            let _ = writeln!(io::stderr(), "{error}");
            1
        }
    }
}

struct Monitor {
    engine: Engine,
    order: Order,
    me: ProcessRef,
    places: Places,
    /// Sockets on the container's published ports, until the pump has them.
    ports: Vec<OwnedFd>,
    /// The starter's, for the container.
    oom_score_adj: i32,
}

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

impl Monitor {
    fn from_arguments(ports: Vec<OwnedFd>) -> Result<Self> {
        let argument = std::env::args().nth(1).unwrap_or_default();
        let order: Order = serde_json::from_str(&argument).map_err(|e| Error::at("a monitor's order", e))?;
        let engine = Engine::open_as_is(order.options.clone())?;
        let places = engine.places(&order.id);
        Ok(Self { engine, order, me: ProcessRef::me().map_err(Error::usage)?, places, ports, oom_score_adj: 0 })
    }

    fn run(mut self) -> Result<()> {
        linux::process::become_subreaper().map_err(Error::usage)?;
        let own = std::fs::read_to_string(OOM_SCORE_ADJ).unwrap_or_default();
        self.oom_score_adj = own.trim().parse().unwrap_or_default();
        // A container whose monitor the kernel chose to kill for memory would be worse off than one killed
        // itself. Not everybody may lower it.
        let _ = std::fs::write(OOM_SCORE_ADJ, "-999");
        match self.order.mode {
            Mode::Start { .. } => self.start(),
            Mode::Adopt { finder } => self.adopt(finder),
        }
    }

    fn start(&mut self) -> Result<()> {
        let Mode::Start { starter, watched, .. } = self.order.mode else { return Ok(()) };
        let claimed = change_if_owned(&self.engine.store, &self.order.id, starter, |record| {
            record.owner = Some(self.me);
            record.monitor = Some(self.me);
        })?;
        // Somebody found the starter dead and took the container back: nothing for us to do.
        let Some(record) = claimed else { return Ok(()) };
        let starter = starter_socket()?;
        let mut pump = self.pump(&record)?;
        let starter = starter.map(|socket| pump.add_client(socket, watched)).transpose()?;
        match self.bring_up(&record) {
            Ok(up) => self.stay(pump, up, &record),
            Err(error) => {
                pump.release_ports();
                self.engine.take_down(&self.order.id, self.me, None)?;
                pump.answer_failure(starter, &error);
                Ok(())
            }
        }
    }

    fn pump(&mut self, record: &ContainerRecord) -> Result<Pump> {
        let root = self.engine.options().root.clone();
        let limit = record.settings.care.log.max_size;
        let log = log_path(record, &self.places).unwrap_or_else(|| PathBuf::from("/dev/null"));
        Pump::new((&log, limit), Holds::new(root, self.order.id, std::mem::take(&mut self.ports)))
    }

    /// Container running, record saying so, attach socket open.
    fn bring_up(&self, record: &ContainerRecord) -> Result<Up> {
        let netns = match &self.order.mode {
            Mode::Start { netns, .. } => netns.clone(),
            Mode::Adopt { .. } => None,
        };
        mount_shm(record, &self.places)?;
        let mut pause = None;
        let mut started = if record.has_files() {
            self.launch(record)?
        } else {
            let users = self.users(record)?;
            Up::without_streams(pause.insert(Pause::start(record, netns.as_deref(), users.as_ref())?).init)
        };
        // Before it counts as running: until then a monitor that is killed takes the container with it.
        started.keeper = started.kept().map(|kept| Keeper::start(&self.places, started.init, kept)).transpose()?;
        if let Some(path) = &record.settings.pid_file {
            std::fs::write(path, started.init.pid.to_string())
                .map_err(|e| Error::at(format!("cannot write the PID file {}", path.display()), e))?;
        }
        let shares_numbers = record.shares().is_some_and(|(_, shares)| shares.contains(&Share::Pid));
        // One that has ended already cannot be asked: what it left behind lives until the pod's end.
        let ended = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mounts = match shares_numbers.then(|| started.init.mount_namespace()).transpose() {
            Err(error) if !ended(&error) => return Err(Error::usage(error)),
            known => known.ok().flatten(),
        };
        let saved = change_if_owned(&self.engine.store, &record.id, self.me, |record| {
            record.state = State::Running;
            record.fate = None;
            record.init = Some(started.init);
            record.started = Some(Timestamp::now());
            record.finished = None;
            record.exit_code = 0;
            record.error.clear();
            record.netns = netns;
            record.mount_namespace = mounts;
        })?;
        if saved.is_none() {
            if let Some(path) = &record.settings.pid_file {
                remove_if_says(path, &started.init.pid.to_string());
            }
            return Err(Error::usage(format!("container {} was taken away while it was being started", record.id)));
        }
        if let Some(pause) = pause {
            pause.stay()?;
        }
        if matches!(self.order.mode, Mode::Start { watched: true, .. }) {
            // It runs: whoever cannot be told of it now does not stop it.
            if let Err(error) = self.engine.event(record, "attach") {
                tracing::warn!(%error, "an event is lost");
            }
        }
        Ok(started)
    }

    /// By the runtime, with a root file system.
    fn launch(&self, record: &ContainerRecord) -> Result<Up> {
        let launch = Launch {
            order: &self.order,
            places: &self.places,
            record,
            users: self.users(record)?,
            layers: self.engine.layers_below(record)?,
            runtime: self.engine.runtime_of(record)?,
            joined: Joined::of(&self.engine, record)?,
            // Here, where nothing is mounted over them.
            doors: crate::groups::doors(&self.places)?,
            oom_score_adj: self.oom_score_adj,
        };
        std::thread::scope(|scope| {
            let start = std::thread::Builder::new().spawn_scoped(scope, || launch.in_own_mounts());
            let joined = start.map_err(Error::usage)?.join();
            joined.unwrap_or_else(|_| Err(Error::usage("the container's monitor has a bug; see userdata/monitor.log")))
        })
    }

    /// The user namespace of the container, when it is not our own: the one that its network stack was made in.
    fn users(&self, record: &ContainerRecord) -> Result<Option<UserNs>> {
        let Mode::Start { netns, .. } = &self.order.mode else { return Ok(None) };
        match netns.as_ref().filter(|_| users::own_stack(&record.settings.network.mode)) {
            Some(path) if record.settings.users.is_some() => {
                let owner = linux::NetNs::open(path).and_then(|netns| UserNs::owner_of(&netns));
                owner.map_err(|e| Error::at("cannot find the container's user namespace", e))
            }
            _ => self.engine.open_users(&record.settings),
        }
    }

    /// Until its end, and then its end.
    fn stay(&mut self, mut pump: Pump, up: Up, record: &ContainerRecord) -> Result<()> {
        pump.listen(&self.places)?;
        pump.tell_started(up.init);
        pump.guards = Guard::of(&self.engine, record);
        self.begin_checks(&mut pump, record, up.init);
        let code = pump.run(up)?;
        self.end(pump, code)
    }

    /// The container runs with or without them.
    fn begin_checks(&self, pump: &mut Pump, record: &ContainerRecord, init: ProcessRef) {
        pump.timeout = timeout(record);
        match crate::health::Watcher::start(&self.engine, record, init) {
            Ok(watcher) => pump.health = watcher,
            Err(error) => tracing::warn!(%error, "the container's health is not checked"),
        }
    }

    fn end(&mut self, mut pump: Pump, code: i32) -> Result<()> {
        // Before anybody can know of the end: the next container may want them at once.
        pump.release_ports();
        let leaving = self.engine.begin_take_down(&self.order.id, self.me, Some(code))?;
        pump.tell_exited(code);
        leaving.map_or(Ok(()), |leaving| self.engine.networking().gone(leaving))?;
        // What is started next gets what this one got.
        let _ = std::fs::write(OOM_SCORE_ADJ, self.oom_score_adj.to_string());
        crate::restart::follow_end(&mut self.engine, &self.order.id)
    }

    fn adopt(&mut self, finder: ProcessRef) -> Result<()> {
        let claimed = change_if_owned(&self.engine.store, &self.order.id, finder, |record| {
            record.owner = Some(self.me);
            record.monitor = Some(self.me);
        })?;
        let Some(record) = claimed else { return Ok(()) };
        let Some(init) = record.init else { return Ok(()) };
        let mut pump = self.pump(&record)?;
        let up = self.find_up(&record, init)?;
        if let Some(socket) = starter_socket()? {
            pump.add_client(socket, false)?;
        }
        pump.listen(&self.places)?;
        pump.tell_started(init);
        pump.guards = Guard::of(&self.engine, &record);
        self.begin_checks(&mut pump, &record, init);
        let code = pump.run(up)?;
        self.end(pump, code)
    }

    /// Our ends of the streams of a container that runs, of those that have outlived its monitor.
    fn find_up(&self, record: &ContainerRecord, init: ProcessRef) -> Result<Up> {
        if !record.has_files() {
            return Ok(Up::without_streams(init));
        }
        let mut sources = if record.settings.tty { Vec::new() } else { Streams::reopen(&self.places)? };
        let (keeper, kept) = Keeper::find(&self.places, init).unzip();
        let stdin = match kept {
            Some(master) if record.settings.tty => {
                sources.push(Source::terminal(master)?);
                None
            }
            stdin => stdin,
        };
        Ok(Up { init, sources, stdin, keeper })
    }
}

/// Where a container's output is kept; `None` for nowhere.
pub(crate) fn log_path(record: &ContainerRecord, places: &Places) -> Option<PathBuf> {
    let log = &record.settings.care.log;
    (log.driver != LogDriver::None).then(|| log.path.clone().unwrap_or_else(|| places.log()))
}

/// When `--timeout` is over, which counts from the start.
fn timeout(record: &ContainerRecord) -> Option<std::time::Instant> {
    let seconds = Some(record.settings.care.timeout).filter(|seconds| *seconds > 0)?;
    let run = record.started.map_or(0, |started| Timestamp::now().duration_since(started).as_secs().max(0) as u64);
    Some(std::time::Instant::now() + std::time::Duration::from_secs(u64::from(seconds).saturating_sub(run)))
}

/// What it takes to start a container, for a thread of its own.
struct Launch<'a> {
    order: &'a Order,
    places: &'a Places,
    record: &'a ContainerRecord,
    /// Its user namespace, when it is not our own.
    users: Option<UserNs>,
    /// Topmost first.
    layers: Vec<PathBuf>,
    runtime: Runtime,
    /// Of its control group.
    doors: Vec<OwnedFd>,
    joined: Joined,
    oom_score_adj: i32,
}

impl Launch<'_> {
    /// Mounts, `config.json`, runtime. On a thread of its own, whose mount namespace ends with it.
    fn in_own_mounts(&self) -> Result<Up> {
        let record = self.record;
        mounts::enter_private_namespace().map_err(|e| Error::at("cannot make a mount namespace", e))?;
        let mut stage = self.users.as_ref().map(|_| self.stage()).transpose()?;
        let merged = match (&mut stage, &self.users) {
            (Some(stage), Some(users)) => self.mount_mapped_root(stage, users)?,
            _ => {
                let merged = self.places.merged();
                mount_root(record, self.places, &self.layers, &merged, self.order.options.rootless)?;
                merged
            }
        };
        let cgroup = Path::new("/sys/fs/cgroup");
        if self.runtime.wants_cgroup2() && cgroup.is_dir() && !mounts::is_cgroup2(cgroup) {
            match mounts::cgroup2(cgroup) {
                // The runtime says itself whether it can do without.
                Err(e) if self.order.options.rootless => tracing::debug!(%e, "no version 2 control groups"),
                done => done.map_err(Error::cannot_start)?,
            }
        }
        let root = File::open(&merged).map_err(|e| Error::at(merged.display(), e))?;
        if record.settings.current_user {
            users::add_current_user(record, &root)?;
        }
        let user = user::of_container(&record.settings, &record.settings.user, &root).map_err(Error::cannot_start)?;
        let owner = self.outside(user.uid, user.gid);
        crate::volumes::copy_up(record, &root, owner)?;
        let (uid, gid) = owner.unwrap_or((user.uid, user.gid));
        crate::volumes::give_to(record, uid, gid)?;
        let memory = self.joined.memory.as_ref().map(|owner| self.shared_memory(owner)).transpose()?;
        self.write_spec(&user, &merged, memory, stage)?;
        let streams = if record.settings.tty { Streams::Terminal } else { Streams::pipes(record, self.places, owner)? };
        self.call_runtime(streams)
    }

    /// Another container's /dev/shm, where the runtime finds it.
    fn shared_memory(&self, owner: &ProcessRef) -> Result<PathBuf> {
        let wrong = |e| Error::cannot_start(format!("cannot share /dev/shm: {e}"));
        let place = self.places.run_data().join("shm");
        crate::engine::make_dir(&place)?;
        let copy = mounts::copy_of(owner, Path::new("/dev/shm")).map_err(wrong)?;
        mounts::put(&copy, &place).map_err(wrong)?;
        Ok(place)
    }

    fn stage(&self) -> Result<Stage> {
        let (options, settings) = (&self.order.options, &self.record.settings);
        let places = [&options.root, &options.runroot, &options.tmpdir, &self.runtime.path];
        let netns = match &self.order.mode {
            Mode::Start { netns, .. } => netns.as_ref(),
            Mode::Adopt { .. } => None,
        };
        let needed = places.into_iter().chain(netns).chain(settings.mounts.iter().map(|mount| &mount.source));
        let needed = needed.chain(settings.rootfs.iter().map(|rootfs| &rootfs.path));
        Stage::open(&needed.map(PathBuf::as_path).collect::<Vec<_>>())
    }

    /// The root file system with the owners that `users` have outside: where the kernel can, layers are mounted with
    /// other owners than they have on disk; else there are copies of them that have those. Changes have them on disk,
    /// and so has all of a directory of the host's.
    fn mount_mapped_root(&self, stage: &mut Stage, users: &UserNs) -> Result<PathBuf> {
        let root = stage.directory()?;
        if has_only_ourselves(users.maps()) {
            // All files are ours already: there is nobody else.
            mount_root(self.record, self.places, &self.layers, &root, self.order.options.rootless)?;
            return Ok(root);
        }
        let layers = match &self.record.settings.rootfs {
            Some(_) => self.layers.clone(),
            None => self.mapped_layers(stage, users)?,
        };
        let upper = self.places.upper();
        let (uid, gid) = (idmaps::outside(&users.maps().uids, 0), idmaps::outside(&users.maps().gids, 0));
        std::os::unix::fs::chown(&upper, uid, gid).map_err(|e| Error::at(upper.display(), e))?;
        mount_root(self.record, self.places, &layers, &root, self.order.options.rootless)?;
        Ok(root)
    }

    fn mapped_layers(&self, stage: &mut Stage, users: &UserNs) -> Result<Vec<PathBuf>> {
        let shifted = self.layers.iter().map(|layer| stage.show_mapped(layer, users));
        shifted.collect::<io::Result<Vec<_>>>().or_else(|error| {
            tracing::debug!(%error, "layers are copied to have other owners");
            let copies = self.layers.iter().map(|layer| images::mapped_layer(layer, users.maps()));
            let copies = copies.collect::<Result<Vec<_>, _>>();
            copies.map_err(|e| Error::cannot_start(Error::from(e).message))
        })
    }

    /// Whom the container's ids are outside; `None` when they are the same ones.
    fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let maps = self.users.as_ref()?.maps();
        Some((idmaps::outside(&maps.uids, uid)?, idmaps::outside(&maps.gids, gid)?))
    }

    /// What the runtime mounts into the container, where its root can see it.
    fn show_all(
        &self,
        stage: &mut Stage,
        record: &mut ContainerRecord,
        files: &mut [(PathBuf, &'static str)],
    ) -> Result<()> {
        for (path, _) in files {
            *path = stage.show(path)?;
        }
        for mount in &mut record.settings.mounts {
            mount.source = match &self.users {
                Some(users) if mount.options.iter().any(|option| option == "idmap") => {
                    let shown = stage.show_mapped(&mount.source, users);
                    shown.map_err(|e| Error::cannot_start(format!("the volume option \"idmap\": {e}")))?
                }
                _ => stage.show(&mount.source)?,
            };
        }
        Ok(())
    }

    fn write_spec(
        &self,
        user: &user::User,
        root: &Path,
        mut memory: Option<PathBuf>,
        stage: Option<Stage>,
    ) -> Result<()> {
        let mut record = self.record.clone();
        let Mode::Start { netns, console, .. } = &self.order.mode else { return Ok(()) };
        let candidates = [
            (self.places.hosts(), "/etc/hosts"),
            (self.places.resolv_conf(), "/etc/resolv.conf"),
            (self.places.hostname(), "/etc/hostname"),
            (self.places.run_data().join(".containerenv"), "/run/.containerenv"),
        ];
        let taken = |place: &str| record.settings.mounts.iter().any(|mount| mount.target == place);
        let mut files: Vec<_> = candidates.into_iter().filter(|(path, place)| path.exists() && !taken(place)).collect();
        if let Some(mut stage) = stage {
            self.show_all(&mut stage, &mut record, &mut files)?;
            memory = memory.map(|path| stage.show(&path)).transpose()?;
        }
        let around = spec::Surroundings {
            root,
            user,
            stack: match (netns, &record.settings.network.mode) {
                (Some(path), _) => spec::Stack::At(path),
                (None, NetworkMode::None) => spec::Stack::New,
                (None, _) => spec::Stack::Host,
            },
            joined: &self.joined,
            groups: crate::rootless::id_maps().map(|(_, gids)| userns::mapped(&gids)),
            users: self.users.as_ref(),
            owns_stack: self.users.is_none() || users::own_stack(&record.settings.network.mode),
            files: &files,
            console: *console,
            memory: memory.as_deref(),
            oom_score_adj: self.oom_score_adj,
        };
        let text = spec::document(&record, &around)?.to_string();
        let path = self.places.static_data().join("config.json");
        std::fs::write(&path, text).map_err(|e| Error::at(format!("cannot write {}", path.display()), e))
    }

    fn call_runtime(&self, streams: Streams) -> Result<Up> {
        let (runtime, record) = (&self.runtime, self.record);
        let log = self.places.run_data().join("runtime.log");
        let console = if record.settings.tty { Some(Console::listen(self.places)?) } else { None };
        let mut call = runtime.call(&log);
        // The runtime must not go on when we are killed: nobody would know of what it starts.
        call.dies_with_us();
        for door in &self.doors {
            call.join([door.try_clone().map_err(Error::usage)?]);
        }
        let command = call.command();
        command.args(["run", "--detach", "--bundle"]).arg(self.places.static_data());
        command.arg("--pid-file").arg(self.places.pid_file());
        if let Some(console) = &console {
            command.arg("--console-socket").arg(&console.path);
        }
        let (stdin, output) = streams.give(command);
        command.arg(record.id.to_string());
        let mut child = call.spawn().map_err(|e| Error::at(runtime.path.display(), e))?;
        let terminal = match console {
            // Waits for the runtime to connect, or to end without doing so.
            Some(console) => console.receive(&mut child)?,
            None => None,
        };
        let status = child.wait().map_err(|e| Error::at(runtime.path.display(), e))?;
        if !status.success() {
            return Err(runtime.failure(&log));
        }
        let init = self.init()?;
        match terminal {
            Some(master) => Ok(Up { init, sources: vec![Source::terminal(master)?], stdin: None, keeper: None }),
            None => Ok(Up { init, sources: output, stdin, keeper: None }),
        }
    }

    fn init(&self) -> Result<ProcessRef> {
        let path = self.places.pid_file();
        let text = std::fs::read_to_string(&path).map_err(|e| Error::at(path.display(), e))?;
        let pid = text.trim().parse().map_err(|_| Error::usage(format!("{} holds no number", path.display())))?;
        // A child of ours by now, so even one that has ended already still has its number.
        ProcessRef::of(pid).map_err(|e| Error::at("the container's first process", e))
    }
}

/// Mounts a container's root file system, in the mount namespace of this thread.
pub(crate) fn mount_root(
    record: &ContainerRecord,
    places: &Places,
    layers: &[PathBuf],
    merged: &Path,
    rootless: bool,
) -> Result<()> {
    if let Some(rootfs) = record.settings.rootfs.as_ref().filter(|rootfs| !rootfs.overlay) {
        let bound = mounts::bind(&rootfs.path, merged, mounts::Depth::All, mounts::Access::ReadWrite);
        return bound.map_err(Error::cannot_start);
    }
    let (upper, work) = (places.upper(), places.work());
    match mounts::overlay(layers, &upper, &work, merged) {
        Err(native) if rootless => crate::fuse::overlay(layers, &upper, &work, merged)
            .map_err(|fuse| Error::cannot_start(format!("{native}. The way around that: {fuse}"))),
        done => done.map_err(Error::cannot_start),
    }
}

/// Is it one of a user without subordinate ids?
pub(crate) fn has_only_ourselves(maps: &IdMaps) -> bool {
    let only_ours = |map: &[IdRange]| matches!(map, [IdRange { outside: 0, count: 1, .. }]);
    only_ours(&maps.uids) && only_ours(&maps.gids) && users::we_have_one_id()
}

/// The conversation with the command that started us: our standard input.
fn starter_socket() -> Result<Option<UnixStream>> {
    let stdin = io::stdin();
    let fd = stdin.as_fd().try_clone_to_owned().map_err(Error::usage)?;
    let null = File::open("/dev/null").map_err(Error::usage)?;
    // So that the end of the conversation is seen when our one other copy closes.
    rustix::stdio::dup2_stdin(&null).map_err(Error::usage)?;
    let socket = UnixStream::from(fd);
    Ok(socket.peer_addr().is_ok().then_some(socket))
}

/// A container that runs, with our ends of its streams.
pub(crate) struct Up {
    pub(crate) init: ProcessRef,
    pub(crate) sources: Vec<Source>,
    /// When it is a pipe.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) keeper: Option<Keeper>,
}

impl Up {
    /// A pod's own first process.
    fn without_streams(init: ProcessRef) -> Self {
        Self { init, sources: Vec::new(), stdin: None, keeper: None }
    }

    /// What must not be closed before the container has ended.
    fn kept(&self) -> Option<BorrowedFd<'_>> {
        let terminal = || self.sources.iter().find_map(Source::as_terminal);
        self.stdin.as_ref().map(AsFd::as_fd).or_else(terminal)
    }
}

/// The streams of a container that is not yet started.
enum Streams {
    Terminal,
    Pipes { ours: Vec<Source>, theirs: [File; 2], stdin: Option<(OwnedFd, OwnedFd)> },
}

const FIFOS: [&str; 2] = ["stdout", "stderr"];

impl Streams {
    /// `owner`: who may open the container's ends anew, when it is not we.
    fn pipes(record: &ContainerRecord, places: &Places, owner: Option<(u32, u32)>) -> Result<Self> {
        for name in FIFOS {
            let path = places.run_data().join(name);
            let made = rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0);
            made.map_err(|e| Error::at(format!("cannot make {}", path.display()), e))?;
            if let Some((uid, gid)) = owner {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(|e| Error::at(path.display(), e))?;
            }
        }
        let ours = Self::reopen(places)?;
        let theirs = FIFOS.map(|name| File::options().read(true).write(true).open(places.run_data().join(name)));
        let [out, err] = theirs;
        let theirs = [out.map_err(Error::usage)?, err.map_err(Error::usage)?];
        let stdin = if record.settings.interactive {
            let (read, write) = io::pipe().map_err(Error::usage)?;
            Some((read.into(), write.into()))
        } else {
            None
        };
        Ok(Self::Pipes { ours, theirs, stdin })
    }

    /// Our ends of the FIFOs of a container.
    fn reopen(places: &Places) -> Result<Vec<Source>> {
        let open = |name: &str| {
            let path = places.run_data().join(name);
            let file =
                File::options().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(&path);
            file.map_err(|e| Error::at(format!("cannot open {}", path.display()), e))
        };
        Ok(vec![Source::output(open(FIFOS[0])?), Source::error(open(FIFOS[1])?)])
    }

    /// Gives the container's ends to the runtime; what is left is ours.
    fn give(self, command: &mut std::process::Command) -> (Option<OwnedFd>, Vec<Source>) {
        match self {
            Self::Terminal => {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                (None, Vec::new())
            }
            Self::Pipes { ours, theirs: [out, err], stdin } => {
                command.stdout(out).stderr(err);
                let (theirs, kept) = stdin.map_or((None, None), |(read, write)| (Some(read), Some(write)));
                command.stdin(theirs.map_or_else(Stdio::null, Stdio::from));
                (kept, ours)
            }
        }
    }
}

/// Where the runtime hands over the container's terminal.
pub(crate) struct Console {
    listener: UnixListener,
    /// Its name, short enough for a socket whatever the length of runroot.
    pub(crate) path: PathBuf,
    /// The directory that `path` goes through.
    _directory: File,
}

impl Console {
    pub(crate) fn listen(places: &Places) -> Result<Self> {
        Self::listen_as(places, &format!("console-{}", std::process::id()))
    }

    pub(crate) fn listen_as(places: &Places, name: &str) -> Result<Self> {
        let wrong = |e: io::Error| Error::at("cannot make the console socket", e);
        let directory = File::open(places.run_data()).map_err(wrong)?;
        let path = through(&directory, name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(wrong)?;
        Ok(Self { listener, path, _directory: directory })
    }

    /// The terminal's master; `None` when `child` ends without handing one over.
    pub(crate) fn receive(self, child: &mut std::process::Child) -> Result<Option<OwnedFd>> {
        use rustix::event::{PollFd, PollFlags, poll};
        let wrong = |e: io::Error| Error::at("cannot receive the container's terminal", e);
        let runtime = ProcessRef::of(child.id()).and_then(|process| process.pidfd());
        let arrived = match &runtime {
            Ok(ended) => {
                let mut wait = [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
                rustix::io::retry_on_intr(|| poll(&mut wait, None)).map_err(|e| wrong(e.into()))?;
                !wait[0].revents().is_empty()
            }
            // It has ended already.
            Err(_) => {
                self.listener.set_nonblocking(true).map_err(wrong)?;
                true
            }
        };
        let received = match arrived.then(|| self.listener.accept()) {
            Some(Ok((socket, _))) => Some(fds::receive(&socket).map_err(wrong)?),
            Some(Err(e)) if e.kind() != io::ErrorKind::WouldBlock => return Err(wrong(e)),
            _ => None,
        };
        let _ = std::fs::remove_file(&self.path);
        Ok(received)
    }
}

/// A name for `name` in `directory` that fits a socket's address (108 bytes, unix(7)) wherever that is, and
/// that our children understand too.
pub(crate) fn through(directory: &File, name: &str) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/{}/fd/{}/{name}", std::process::id(), directory.as_raw_fd()))
}
