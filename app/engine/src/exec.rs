//! A second command in a running container.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use linux::ProcessRef;
use model::ContainerId;
use rustix::fs::OFlags;

use crate::engine::{Engine, Places};
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::foreground::{join_terminals, our_size};
use crate::monitor::Console;
use crate::record::{ContainerRecord, Settings, State};
use crate::runtime::Runtime;
use crate::talk::{Attach, Foreground, RunEnd};
use crate::{spec, user};

/// What to execute, and how.
#[derive(Debug, Clone, Default)]
pub struct ExecConfig {
    /// The command and its arguments; not empty.
    pub command: Vec<String>,
    /// `-e`, on top of the container's environment. `None`: taken from podwire's own.
    pub env: Vec<(String, Option<String>)>,
    /// `-u`; the container's when absent.
    pub user: Option<String>,
    /// `-w`; the container's when absent.
    pub workdir: Option<String>,
    /// `-t`
    pub tty: bool,
    /// `-i`
    pub interactive: bool,
    /// `--privileged`: with all capabilities.
    pub privileged: bool,
}

impl Engine {
    /// Runs a command in a running container, with this process's standard streams unless detached.
    pub fn exec(&mut self, id: &ContainerId, config: ExecConfig, attach: Attach) -> Result<RunEnd> {
        let record = self.record(id)?;
        if !record.has_files() {
            let text = format!("container {id} holds the namespaces of a pod and has no files to run a command from");
            return Err(Error::new(Kind::WrongState, text));
        }
        let places = self.places(id);
        let session = Session::prepare(&record, &places, &config)?;
        let runtime = self.runtime_of(&record)?;
        let mut call = runtime.call(&session.log());
        if runtime.wants_cgroup2() {
            call.runtime_mounts();
        }
        call.join(crate::groups::doors(&places)?);
        let command = call.command();
        command.arg("exec").arg("--process").arg(session.process());
        let foreground = match attach {
            Attach::Foreground(foreground) => foreground,
            Attach::Detached => {
                command
                    .arg("--pid-file")
                    .arg(session.pid())
                    .args(["--detach", &id.to_string()])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                let child = call.spawn().map_err(|e| Error::at(runtime.path.display(), e))?;
                self.tell(&events::of_container(&record, "exec"));
                session.finish(&runtime, child)?;
                session.goes_on();
                return Ok(RunEnd::Detached);
            }
        };
        session.lasts_as_long_as_we()?;
        if !config.tty {
            let stdin = if config.interactive && foreground.stdin { Stdio::inherit() } else { Stdio::null() };
            command.arg(id.to_string()).stdin(stdin);
            let child = call.spawn().map_err(|e| Error::at(runtime.path.display(), e))?;
            self.tell(&events::of_container(&record, "exec"));
            return session.finish(&runtime, child).map(|code| self.exec_ended(&record, code));
        }
        let console = Console::listen_as(&places, &format!("{}.console", session.name))?;
        command.arg("--console-socket").arg(&console.path).arg(id.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = call.spawn().map_err(|e| Error::at(runtime.path.display(), e))?;
        self.tell(&events::of_container(&record, "exec"));
        match session.on_terminal(&runtime, child, console, &foreground, config.interactive)? {
            RunEnd::Exited(code) => Ok(self.exec_ended(&record, code)),
            RunEnd::Detached => Ok(RunEnd::Detached),
        }
    }

    fn exec_ended(&self, record: &ContainerRecord, code: i32) -> RunEnd {
        self.tell(&store::Event { exit_code: Some(code), ..events::of_container(record, "exec_died") });
        RunEnd::Exited(code)
    }

    /// What is done is done: that it could not be written down, say because the disk is full, is said and no more.
    fn tell(&self, event: &store::Event) {
        if let Err(error) = self.store.write(|tx| tx.event_add(event)) {
            tracing::warn!(%error, "an event is not recorded");
        }
    }
}

/// The files of one call, removed when it is over.
///
/// `exec-ID.pid` is there while the command runs, with the number of a process that lasts as long, and when it began:
/// the command itself, or whoever passes on what it says.
pub(crate) struct Session {
    directory: PathBuf,
    name: String,
    goes_on: std::cell::Cell<bool>,
}

/// What the names of a session's files begin with; its id follows.
const NAME: &str = "exec-";

/// The ids of the commands that run in a container beside its first process.
pub(crate) fn sessions(places: &Places) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(places.run_data()) else { return Vec::new() };
    let alive = |path: &Path| {
        let text = std::fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace().map(str::parse);
        let (pid, start) = (words.next()?.ok()?, words.next()?.ok()?);
        u32::try_from(pid).ok().filter(|pid| ProcessRef { pid: *pid, start_time: start }.alive())
    };
    let mut ids: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_prefix(NAME)?.strip_suffix(".pid")?.to_owned();
            alive(&entry.path()).map(|_| id)
        })
        .collect();
    ids.sort();
    ids
}

impl Session {
    pub(crate) fn prepare(record: &ContainerRecord, places: &Places, config: &ExecConfig) -> Result<Self> {
        let wrong = || {
            let text = "can only create exec sessions on running containers: container state improper";
            Error::new(Kind::WrongState, text)
        };
        let init =
            record.init.filter(|init| record.shown_state() == State::Running && init.alive()).ok_or_else(wrong)?;
        let root = File::open(format!("/proc/{}/root", init.pid)).map_err(|_| wrong())?;
        // The number may have been given to somebody else before we opened it; not if it lives on now.
        if !init.alive() {
            return Err(wrong());
        }
        let wish = config.user.as_ref().unwrap_or(&record.settings.user);
        let user = user::of_container(&record.settings, wish, &root).map_err(Error::cannot_start)?;
        let workdir = config.workdir.as_deref().unwrap_or(&record.settings.workdir);
        let mut settings = Settings { tty: config.tty, ..record.settings.clone() };
        settings.security.privileged |= config.privileged;
        let mut env = spec::environment(&settings, &user);
        for (name, value) in &config.env {
            if let Some(value) = value.clone().or_else(|| std::env::var(name).ok()) {
                spec::set_env(&mut env, name, &value);
            }
        }
        if let Some(name) = config.command.first() {
            check_command(&root, workdir, &env, name)?;
        }
        let mut process = spec::process(&settings, &user, &config.command, &env, Some(workdir));
        if let Some(size) = our_size().filter(|_| config.tty) {
            process["consoleSize"] = serde_json::json!({ "height": size.rows, "width": size.columns });
        }
        let name = format!("{NAME}{}", crate::create::random_hex::<32>()?);
        let session = Self { directory: places.run_data(), name, goes_on: false.into() };
        std::fs::write(session.process(), process.to_string())
            .map_err(|e| Error::at(session.process().display(), e))?;
        Ok(session)
    }

    /// Its name, among those of this container.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn process(&self) -> PathBuf {
        self.directory.join(format!("{}.json", self.name))
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    fn pid(&self) -> PathBuf {
        self.directory.join(format!("{}.pid", self.name))
    }

    /// We pass on what the command says: whoever sees us sees it.
    fn lasts_as_long_as_we(&self) -> Result<()> {
        self.lasts_as_long_as(ProcessRef::me().map_err(Error::usage)?)
    }

    fn lasts_as_long_as(&self, process: ProcessRef) -> Result<()> {
        std::fs::write(self.pid(), format!("{} {}", process.pid, process.start_time))
            .map_err(|e| Error::at(self.pid().display(), e))
    }

    /// The command stays; the runtime has written its number. If it has ended already there is nothing to tell.
    fn goes_on(&self) {
        let number = std::fs::read_to_string(self.pid()).ok().and_then(|text| text.trim().parse().ok());
        let known = number.and_then(|pid| ProcessRef::of(pid).ok());
        self.goes_on.set(known.is_some_and(|process| self.lasts_as_long_as(process).is_ok()));
    }

    /// The command's exit code, or what kept the runtime from running it.
    pub(crate) fn finish(&self, runtime: &Runtime, mut child: Child) -> Result<i32> {
        let status = child.wait().map_err(|e| Error::at(runtime.path.display(), e))?;
        if !status.success() && runtime.complained(&self.log()) {
            return Err(runtime.failure(&self.log()));
        }
        Ok(linux::process::exit_code(status))
    }

    fn on_terminal(
        &self,
        runtime: &Runtime,
        mut child: Child,
        console: Console,
        foreground: &Foreground,
        interactive: bool,
    ) -> Result<RunEnd> {
        let ended = ProcessRef::of(child.id()).and_then(|process| process.pidfd());
        if let Some(master) = console.receive(&mut child)?
            && let Ok(ended) = ended
            && join_terminals(&master, &ended, interactive && foreground.stdin, &foreground.detach_keys)?
                == RunEnd::Detached
        {
            return Ok(RunEnd::Detached);
        }
        self.finish(runtime, child).map(RunEnd::Exited)
    }
}

/// Finds out before the runtime does that there is no such command: crun would tell it on the standard error
/// that the command shares, besides what we say. Whatever is not plainly wrong is left to the runtime.
fn check_command(root: &File, workdir: &str, env: &[String], name: &str) -> Result<()> {
    let path = env.iter().rev().find_map(|set| set.strip_prefix("PATH=")).unwrap_or_default();
    let candidates: Vec<PathBuf> = match name.contains('/') {
        true => vec![PathBuf::from(workdir).join(name)],
        false => path.split(':').map(|dir| PathBuf::from(workdir).join(dir).join(name)).collect(),
    };
    let mut not_executable = false;
    for candidate in candidates {
        match user::open_inside(root.as_fd(), &candidate, OFlags::PATH).and_then(|file| file.metadata()) {
            Ok(meta) if meta.is_file() && meta.mode() & 0o111 != 0 => return Ok(()),
            Ok(_) => not_executable = true,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(_) => return Ok(()),
        }
    }
    if not_executable {
        return Err(Error::cannot_start("crun: open executable: Permission denied: OCI permission denied"));
    }
    let text = format!(
        "crun: executable file `{name}` not found in $PATH: No such file or directory: OCI runtime attempted to invoke \
         a command that was not found"
    );
    Err(Error::new(Kind::CommandNotFound, text))
}

impl Drop for Session {
    fn drop(&mut self) {
        // What cannot be removed goes with the container.
        let _ = std::fs::remove_file(self.process());
        let _ = std::fs::remove_file(self.log());
        if !self.goes_on.get() {
            let _ = std::fs::remove_file(self.pid());
        }
    }
}
