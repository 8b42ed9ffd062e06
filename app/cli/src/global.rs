//! What every command takes, and what it is given to work with.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use engine::rootless::{Environment, Located};
use engine::{Engine, EngineOptions, Summary};

use crate::conf::Conf;
use crate::flags;
use crate::outcome::{Failure, Outcome};

/// Flags of `podwire` itself; they may also stand behind the command.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Global {
    /// Where images, containers and networks are kept
    #[arg(long, value_name = "string")]
    pub(crate) root: Option<PathBuf>,
    /// Where the state of running containers is kept; gone after a reboot
    #[arg(long, value_name = "string")]
    pub(crate) runroot: Option<PathBuf>,
    /// Where temporary files go (default: tmp in the runroot)
    #[arg(long, value_name = "string")]
    pub(crate) tmpdir: Option<PathBuf>,
    /// Log messages above this level: trace, debug, info, warn, error
    #[arg(long, value_name = "string", default_value = "warn")]
    pub(crate) log_level: String,
    /// A set of networks of its own, named by a directory
    #[arg(long, alias = "cni-config-dir", value_name = "string")]
    pub(crate) network_config_dir: Option<PathBuf>,
    /// The OCI runtime: a name or a path (default: crun, else runc)
    #[arg(long, value_name = "string")]
    pub(crate) runtime: Option<String>,
    /// Podman's monitor of containers; podwire is its own, and runs no other
    #[arg(long, value_name = "string")]
    pub(crate) conmon: Option<PathBuf>,
    /// How layers are stored: overlay
    #[arg(long, value_name = "string")]
    pub(crate) storage_driver: Option<String>,
    /// Where events are kept: file, which is podwire's store
    #[arg(long, value_name = "string")]
    pub(crate) events_backend: Option<String>,
    /// How control groups are managed: cgroupfs
    #[arg(long, value_name = "string")]
    pub(crate) cgroup_manager: Option<String>,
    /// What makes networks: netavark, which here means podwire itself
    #[arg(long, value_name = "string")]
    pub(crate) network_backend: Option<String>,
    /// What records are kept in: sqlite
    #[arg(long, value_name = "string")]
    pub(crate) db_backend: Option<String>,
    /// Help for podwire
    #[arg(long)]
    pub(crate) help: bool,
}

impl Global {
    /// Podman's choices of which podwire has one: it is taken, and any other refused.
    fn check_choices(&self) -> Result<(), Failure> {
        for (flag, chosen, there_is) in [
            ("storage-driver", &self.storage_driver, "overlay"),
            ("events-backend", &self.events_backend, "file"),
            ("cgroup-manager", &self.cgroup_manager, "cgroupfs"),
            ("network-backend", &self.network_backend, "netavark"),
            ("db-backend", &self.db_backend, "sqlite"),
        ] {
            if let Some(other) = chosen.as_deref().filter(|chosen| *chosen != there_is) {
                return Err(Failure::new(format!("--{flag} {other} is not supported: podwire has {there_is}")));
            }
        }
        if let Some(conmon) = &self.conmon {
            tracing::debug!(conmon = %conmon.display(), "podwire is its own monitor");
        }
        Ok(())
    }
}

/// Commands that make or start containers, or something in them, or speak of the runtime.
const RUNTIME_CALLERS: &[&str] = &[
    "run",
    "create",
    "start",
    "restart",
    "exec",
    "info",
    "container run",
    "container create",
    "container start",
    "container restart",
    "container exec",
    "kube play",
    "play kube",
    "system info",
];

/// What a command is given.
pub(crate) struct Podwire {
    pub(crate) global: Global,
    /// The whole command line.
    pub(crate) argv: Vec<String>,
    /// The command's name as called: `network ls`.
    pub(crate) command: &'static str,
    conf: OnceLock<Conf>,
    options: OnceLock<EngineOptions>,
}

impl Podwire {
    pub(crate) fn new(global: Global, argv: Vec<String>, command: &'static str) -> Result<Self, Failure> {
        let podwire = Self { global, argv, command, conf: OnceLock::new(), options: OnceLock::new() };
        podwire.start_log()?;
        podwire.global.check_choices()?;
        let own = podwire.conf()?.own_env();
        if !own.is_empty() {
            engine::set_environment(&own)?;
        }
        Ok(podwire)
    }

    /// containers.conf, which is read once.
    pub(crate) fn conf(&self) -> Result<&Conf, Failure> {
        if let Some(conf) = self.conf.get() {
            return Ok(conf);
        }
        let conf = Conf::read()?;
        Ok(self.conf.get_or_init(|| conf))
    }

    /// On a machine where nothing is set, for tests.
    pub(crate) fn where_nothing_is_set(global: Global, command: &'static str) -> Self {
        Self {
            global,
            argv: Vec::new(),
            command,
            conf: OnceLock::from(Conf::default()),
            options: OnceLock::new(),
        }
    }

    fn start_log(&self) -> Result<(), Failure> {
        let level = match self.global.log_level.to_ascii_lowercase().as_str() {
            "trace" => tracing::Level::TRACE,
            "debug" => tracing::Level::DEBUG,
            "info" => tracing::Level::INFO,
            "warn" | "warning" => tracing::Level::WARN,
            "error" | "fatal" | "panic" => tracing::Level::ERROR,
            other => {
                return Err(Failure::new(format!(
                    "log level {other:?} is not supported, choose from: trace, debug, info, warn, warning, error, fatal, panic"
                )));
            }
        };
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .init();
        Ok(())
    }

    /// Opens the engine with the global flags.
    pub(crate) fn engine(&self) -> Result<Engine, Failure> {
        let options = self.options()?;
        engine::rootless::enter(options)?;
        Ok(Engine::open(options.clone())?)
    }

    /// What the global flags and the environment say; looked up, and warned about, once.
    pub(crate) fn options(&self) -> Result<&EngineOptions, Failure> {
        if let Some(options) = self.options.get() {
            return Ok(options);
        }
        let options = self.look_up_options()?;
        Ok(self.options.get_or_init(|| options))
    }

    fn look_up_options(&self) -> Result<EngineOptions, Failure> {
        let Global { root, runroot, tmpdir, network_config_dir, runtime, .. } = &self.global;
        let conf = self.conf()?;
        let given = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let located = locate(given(root)?, given(runroot)?)?;
        if let Some(warning) = located.warning {
            tracing::warn!("{warning}");
        }
        Ok(EngineOptions {
            tmpdir: given(tmpdir)?.unwrap_or_else(|| located.runroot.join("tmp")),
            root: located.root,
            runroot: located.runroot,
            network_config_dir: given(network_config_dir)?.or_else(|| conf.network_config_dir()),
            rootless: located.rootless,
            runtime: match runtime {
                // Only those that call it ask for it.
                None if !RUNTIME_CALLERS.contains(&self.command) => None,
                typed => conf.runtime(typed.as_deref()),
            },
            default_subnet: conf.default_subnet()?,
            subnet_pools: conf.subnet_pools()?,
        })
    }

    /// The containers named; with `--all`, the ids of those that are `wanted`.
    pub(crate) fn targets(
        &self,
        engine: &Engine,
        names: Vec<String>,
        all: bool,
        wanted: impl Fn(&Summary) -> bool,
    ) -> Result<Vec<String>, Failure> {
        if !all {
            return Ok(names);
        }
        let containers = engine.list()?;
        Ok(containers.iter().filter(|c| wanted(c)).map(|c| c.id.to_string()).collect())
    }

    /// The container created last, for `--latest`.
    pub(crate) fn latest(&self, engine: &Engine) -> Result<String, Failure> {
        let last = engine.list()?.into_iter().max_by_key(|container| container.created);
        last.map(|container| container.id.to_string())
            .ok_or_else(|| Failure::new("no containers found: no such container"))
    }

    /// A plan, for `--dry-run`.
    pub(crate) fn show(&self, plan: &impl std::fmt::Display) -> Outcome {
        let text = plan.to_string();
        if !text.is_empty() {
            say(text.trim_end())?;
        }
        Ok(0)
    }

    /// A flag's value is wrong: with Podman's second line.
    pub(crate) fn usage(&self, message: impl std::fmt::Display) -> Failure {
        flags::usage(self.command, message)
    }
}

/// Where things are, by the flags and the environment.
pub(crate) fn locate(root: Option<PathBuf>, runroot: Option<PathBuf>) -> Result<Located, Failure> {
    let set = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let environment =
        Environment { home: set("HOME"), data_home: set("XDG_DATA_HOME"), runtime_dir: set("XDG_RUNTIME_DIR") };
    Ok(engine::rootless::locate(root, runroot, &environment)?)
}

/// An absolute path; what does not exist yet is taken from the current directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// Text on standard output, now: what goes to standard error next must not overtake it.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// One line on standard output.
pub(crate) fn say(text: impl std::fmt::Display) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// One line on standard error; nobody is left to tell when that fails.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
