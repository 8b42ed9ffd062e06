//! From the flags of `run` and `create` to a [`ContainerConfig`]: each value is parsed once, here.

pub(crate) mod care;
pub(crate) mod env;
pub(crate) mod inside;
mod limits;
mod mount;
mod network;
pub(crate) mod security;
pub(crate) mod users;
pub(crate) mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::config::{ContainerConfig, PodChoice, PullPolicy, Restart, Rootfs, Space, UnsetEnv, UsersWish};
use engine::pods::PodConfig;
use model::Hostname;

use crate::flags::{strings, unsigned};
use crate::global::{Podwire, complain};
use crate::outcome::Failure;

use care::CareFlags;
use engine::config::VolumeMount;
pub(crate) use env::environment;
use inside::InsideFlags;
use limits::LimitFlags;
pub(crate) use limits::{PodLimitFlags, ResourceFlags};
use mount::Mounted;
pub(crate) use mount::volumes_from;
pub(crate) use network::MODES;
pub(crate) use network::{NetworkFlags, Usual};
use security::SecurityFlags;
pub(crate) use users::UserFlags;

/// Flags that `run` and `create` have in common.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct ContainerFlags {
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    name: Option<String>,
    /// Set environment variables in the container
    #[arg(short, long, value_name = "stringArray")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "strings")]
    env_file: Vec<String>,
    /// Mount a directory, a named volume or a new volume into the container ([SOURCE:]TARGET[:OPTIONS])
    #[arg(short, long, value_name = "stringArray")]
    volume: Vec<String>,
    /// Mount a temporary file system (TARGET[:OPTIONS])
    #[arg(long, value_name = "stringArray")]
    tmpfs: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    /// User name or id, and group (USER[:GROUP])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Set the container's host name
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Allocate a pseudo-terminal
    #[arg(short, long)]
    tty: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Run the container in a pod: its name or id, or new:NAME for one that is made now
    #[arg(long, value_name = "string")]
    pod: Option<String>,
    /// Read the pod's ID from the file
    #[arg(long, value_name = "string")]
    pod_id_file: Option<PathBuf>,
    /// Remove the container after exit
    #[arg(long = "rm")]
    remove: bool,
    /// If a container with the same name exists, replace it
    #[arg(long)]
    replace: bool,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    cidfile: Option<PathBuf>,
    /// Write the container process ID to the file
    #[arg(long, value_name = "string")]
    pidfile: Option<PathBuf>,
    /// Overwrite the image's entry point: a word or a JSON array
    #[arg(long, value_name = "string")]
    entrypoint: Option<String>,
    /// Set metadata on the container
    #[arg(short, long, value_name = "stringArray")]
    label: Vec<String>,
    /// Add annotations to the container (key=value)
    #[arg(long, value_name = "strings")]
    annotation: Vec<String>,
    /// Signal that stops the container (default: the image's, else SIGTERM)
    #[arg(long, value_name = "string")]
    stop_signal: Option<String>,
    /// Seconds that `stop` waits before it kills (default 10)
    #[arg(long, value_name = "uint", value_parser = unsigned)]
    stop_timeout: Option<u32>,
    /// The first argument is no image but a directory of this host: the root file system (PATH[:O])
    #[arg(long)]
    rootfs: bool,
    /// When to pull the image: always, missing or never
    #[arg(long, value_name = "string", default_value = "missing", hide_default_value = true)]
    pull: String,
    /// Suppress the output of pulling
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Require HTTPS and verify certificates when pulling (default: not for registries on this host)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = crate::flags::switch)]
    tls_verify: Option<bool>,
    /// Mount something into the container (type=bind|volume|tmpfs,source=,target=,…)
    #[arg(long, value_name = "stringArray")]
    mount: Vec<String>,
    /// Mount the volumes of other containers (CONTAINER[:OPTIONS])
    #[arg(long, value_name = "stringArray")]
    volumes_from: Vec<String>,
    /// Pass podwire's own environment on
    #[arg(long)]
    env_host: bool,
    /// Variables that are not to be set, whoever would set them
    #[arg(long, value_name = "stringArray")]
    unsetenv: Vec<String>,
    /// Set no variable but those given here
    #[arg(long)]
    unsetenv_all: bool,
    /// Pass the variables for proxies on (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = crate::flags::switch)]
    http_proxy: Option<bool>,
    /// Read labels from a file
    #[arg(long, value_name = "strings")]
    label_file: Vec<String>,
    #[command(flatten)]
    platform: crate::commands::pull::PlatformFlags,
    #[command(flatten)]
    security: SecurityFlags,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    inside: InsideFlags,
    #[command(flatten)]
    care: CareFlags,
    #[command(flatten)]
    users: UserFlags,
    /// Show the plan for the machine's network; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    network: NetworkFlags,
    #[arg(trailing_var_arg = true, hide = true)]
    arguments: Vec<String>,
}

/// A path and options.
type Tmpfs = (String, String);

/// What was asked for, and what should be said about it.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) config: ContainerConfig,
    /// Lines for standard error.
    pub(crate) remarks: Vec<String>,
}

impl Wish {
    /// Says what should be said before the work begins.
    pub(crate) fn remark(&self) {
        self.remarks.iter().for_each(complain);
    }
}

impl ContainerFlags {
    pub(crate) fn wish(self, podwire: &Podwire) -> Result<Wish, Failure> {
        let Some((image, command)) = self.arguments.split_first() else {
            return Err(Failure::new("requires at least 1 arg(s), only received 0"));
        };
        if self.replace && self.name.as_deref().unwrap_or_default().is_empty() {
            return Err(Failure::new("cannot replace container without --name being set"));
        }
        if self.replace && self.dry_run {
            return Err(Failure::new("--dry-run and --replace cannot be used together yet"));
        }
        let platform = self.platform.read()?;
        let (volumes, tmpfs) = self.volumes()?;
        let (env, labels) = (self.environment()?, self.labels()?);
        let inside = self.inside.parse()?;
        let care = self.care.parse()?;
        if care.restart != Restart::No && self.remove {
            return Err(Failure::new(
                "the --rm option conflicts with --restart, when the restartPolicy is not \"\" and \"no\"",
            ));
        }
        let in_pod = self.pod.as_ref().is_some_and(|pod| !pod.is_empty()) || self.pod_id_file.is_some();
        let conf = podwire.conf()?;
        let usual_users = std::env::var("PODMAN_USERNS").ok().or_else(|| conf.userns());
        let users = self.users.parse(usual_users.filter(|_| !in_pod))?;
        if in_pod && users != UsersWish::Host {
            return Err(Failure::new("--userns and --pod cannot be set together"));
        }
        let mut remarks = Vec::new();
        let makes_pod = self.pod.as_ref().is_some_and(|pod| pod.starts_with("new:"));
        let mut network = self.network.parse(&Usual::of(podwire, in_pod && !makes_pod)?, &mut remarks)?;
        let mut hostname =
            self.hostname.as_deref().filter(|h| !h.is_empty()).map(str::parse::<Hostname>).transpose()?;
        if inside.uts == Space::Host && hostname.is_some() {
            return Err(Failure::new(
                "invalid config provided: cannot set hostname when running in the host UTS namespace: invalid configuration",
            ));
        }
        let mut security = self.security.parse()?;
        security.default = conf.capabilities();
        let pod = match (self.pod.filter(|pod| !pod.is_empty()), self.pod_id_file) {
            (Some(_), Some(_)) => return Err(Failure::new("cannot specify both --pod and --pod-id-file")),
            (None, Some(path)) => Some(PodChoice::Join(crate::pods::read_id_file(&path)?)),
            (None, None) => None,
            (Some(pod), None) => Some(match pod.strip_prefix("new:") {
                Some("") => return Err(Failure::new("new pod name must be at least one character")),
                Some(_) if self.dry_run => {
                    return Err(Failure::new("--dry-run and --pod new: cannot be used together yet"));
                }
                // What it says of the network is said of the pod's.
                Some(name) => PodChoice::New(Box::new(PodConfig {
                    network: std::mem::take(&mut network),
                    hostname: hostname.take(),
                    create_command: podwire.argv.clone(),
                    ..PodConfig::named(name.parse()?)
                })),
                None => PodChoice::Join(pod),
            }),
        };
        let config = ContainerConfig {
            default_env: conf.env(),
            name: self.name.as_deref().filter(|name| !name.is_empty()).map(str::parse).transpose()?,
            image: if self.rootfs { String::new() } else { image.clone() },
            rootfs: self.rootfs.then(|| rootfs(image)).transpose()?,
            command: command.to_vec(),
            entrypoint: self.entrypoint.as_deref().map(entrypoint),
            env,
            unset_env: UnsetEnv { all: self.unsetenv_all, names: self.unsetenv.clone() },
            volumes,
            volumes_from: self.volumes_from.iter().map(|text| volumes_from(text)).collect::<Result<_, _>>()?,
            workdir: self.workdir.filter(|path| !path.is_empty()).map(absolute_inside).transpose()?,
            user: self.user.filter(|user| !user.is_empty()),
            hostname,
            tty: self.tty,
            interactive: self.interactive,
            pod,
            remove: self.remove,
            replace: self.replace,
            id_file: self.cidfile.as_deref().map(from_here).transpose()?,
            pid_file: self.pidfile.as_deref().map(from_here).transpose()?,
            labels,
            annotations: annotations(&strings(&self.annotation))?,
            stop_signal: self.stop_signal.filter(|signal| !signal.is_empty()),
            stop_timeout: self.stop_timeout,
            security,
            limits: self.limits.parse()?,
            inside,
            care,
            network,
            users,
            tmpfs,
            platform,
            pull: pull_policy(&self.pull)?,
            tls_verify: self.tls_verify.unwrap_or(true),
            create_command: podwire.argv.clone(),
        };
        Ok(Wish { config, remarks })
    }

    /// In the order in which later ones win: the proxies, all of ours, files, `-e`.
    fn environment(&self) -> Result<Vec<(String, Option<String>)>, Failure> {
        let mut all = if self.http_proxy.unwrap_or(true) { env::proxies() } else { Vec::new() };
        if self.env_host {
            all.extend(env::ours());
        }
        all.extend(environment(&strings(&self.env_file), &self.env)?);
        Ok(all)
    }

    fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        labels(&self.label_file, &self.label)
    }

    fn volumes(&self) -> Result<(Vec<VolumeMount>, Vec<Tmpfs>), Failure> {
        let mut volumes = self.volume.iter().map(|v| volume::parse(v)).collect::<Result<Vec<_>, _>>()?;
        let mut tmpfs = self.tmpfs.iter().map(|t| volume::tmpfs(t)).collect::<Result<Vec<_>, _>>()?;
        for text in &self.mount {
            match mount::parse(text)? {
                Mounted::Volume(mount) => volumes.push(mount),
                Mounted::Tmpfs(target, options) => tmpfs.push((target, options)),
            }
        }
        let mut targets: Vec<&str> =
            volumes.iter().map(|v| v.target.as_str()).chain(tmpfs.iter().map(|(target, _)| target.as_str())).collect();
        targets.sort_unstable();
        match targets.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(Failure::new(format!("{}: duplicate mount destination", twice[0]))),
            None => Ok((volumes, tmpfs)),
        }
    }
}

/// `PATH[:O]`; any other colon is the path's own.
fn rootfs(text: &str) -> Result<Rootfs, Failure> {
    let (path, option) = text.rsplit_once(':').unwrap_or((text, ""));
    if option == "idmap" || option.starts_with("idmap=") {
        return Err(Failure::new(format!("--rootfs {path}:idmap is not supported by podwire")));
    }
    let overlay = option == "O";
    Ok(Rootfs { path: from_here(Path::new(if overlay { path } else { text }))?, overlay })
}

/// A JSON array of words, or one word; nothing clears the image's.
pub(crate) fn entrypoint(text: &str) -> Vec<String> {
    match serde_json::from_str(text) {
        Ok(words) => words,
        Err(_) if text.is_empty() => Vec::new(),
        Err(_) => vec![text.to_owned()],
    }
}

/// Of the files, then the given ones, which win.
pub(crate) fn labels(files: &[String], given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for path in strings(files) {
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Failure::new(format!("open {path}: {}", crate::outcome::plain(&e))))?;
        all.extend(labels_of_file(&text));
    }
    all.extend(given.iter().map(|l| label(l)));
    Ok(all)
}

/// The labels of one file.
pub(crate) fn labels_of_file(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(label)
}

/// `key=value` or `key`.
pub(crate) fn label(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

pub(crate) fn annotations(list: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Failure::new("annotations must be formatted KEY=VALUE")),
    };
    list.iter().map(pair).collect()
}

/// The engine is not where the user is.
pub(crate) fn from_here(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

fn absolute_inside(path: String) -> Result<String, Failure> {
    if path.starts_with('/') {
        return Ok(path);
    }
    Err(Failure::new(format!("the working directory {path:?} is invalid, it needs to be an absolute path")))
}

pub(crate) fn pull_policy(text: &str) -> Result<PullPolicy, Failure> {
    match text.to_ascii_lowercase().as_str() {
        "always" => Ok(PullPolicy::Always),
        "missing" | "ifmissing" | "ifnotpresent" | "" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        "newer" | "ifnewer" => Ok(PullPolicy::Newer),
        _ => Err(Failure::new(format!("unsupported pull policy {text:?}"))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    /// The configuration for this line, behind `podwire run`.
    pub(in crate::container) fn wish(line: &[&str]) -> Result<Wish, Failure> {
        let entry = crate::commands::COMMANDS.iter().find(|e| e.names[0] == "create").unwrap();
        let matches = entry.clap().try_get_matches_from(std::iter::once("create").chain(line.iter().copied())).unwrap();
        let global = crate::global::Global::from_arg_matches(
            &crate::flags::global_clap().try_get_matches_from(["podwire"]).unwrap(),
        );
        let podwire = Podwire::where_nothing_is_set(global.unwrap(), "create");
        ContainerFlags::from_arg_matches(&matches).unwrap().wish(&podwire)
    }

    fn config(line: &[&str]) -> ContainerConfig {
        wish(line).unwrap().config
    }

    #[test]
    fn everything_behind_the_image_is_the_command() {
        let config = config(&["-it", "--name", "web", "img", "sh", "-c", "echo", "--name", "x", "--", "-d"]);
        assert_eq!(config.image, "img");
        assert_eq!(config.command, ["sh", "-c", "echo", "--name", "x", "--", "-d"]);
        assert!(config.interactive && config.tty && !config.remove);
        assert_eq!(config.name.unwrap().as_str(), "web");
    }

    #[test]
    fn switches_take_values_and_the_last_flag_counts() {
        let config =
            config(&["--rm=false", "--rm", "-i=true", "-t=false", "--name=a", "--name=b", "--tls-verify=false", "img"]);
        assert!(config.remove && config.interactive && !config.tty && !config.tls_verify);
        assert_eq!(config.name.unwrap().as_str(), "b");
    }

    #[test]
    fn a_directory_is_the_root_file_system_with_or_without_what_is_changed() {
        let rootfs = |text: &str| config(&["--rootfs", text, "sh"]).rootfs.map(|it| (it.path, it.overlay));
        assert_eq!(rootfs("/srv/a"), Some(("/srv/a".into(), false)));
        assert_eq!(rootfs("/srv/a:O"), Some(("/srv/a".into(), true)));
        assert_eq!(rootfs("/srv/a:b"), Some(("/srv/a:b".into(), false)));
        assert_eq!(rootfs("a"), Some((std::path::absolute("a").unwrap(), false)));
        let refused = wish(&["--rootfs", "/srv/a:idmap", "sh"]).unwrap_err();
        assert_eq!(refused.message, "--rootfs /srv/a:idmap is not supported by podwire");
        let config = config(&["--rootfs", "/srv/a", "sh", "-c", "x"]);
        assert_eq!(
            (config.image.as_str(), config.command),
            ("", vec!["sh".to_owned(), "-c".to_owned(), "x".to_owned()])
        );
    }

    #[test]
    fn an_entrypoint_is_a_word_or_a_json_array() {
        assert_eq!(config(&["--entrypoint", "[\"a\",\"b c\"]", "img"]).entrypoint.unwrap(), ["a", "b c"]);
        assert_eq!(config(&["--entrypoint", "a b", "img"]).entrypoint.unwrap(), ["a b"]);
        assert_eq!(config(&["--entrypoint", "", "img"]).entrypoint.unwrap(), [""; 0]);
        assert_eq!(config(&["img"]).entrypoint, None);
    }

    #[test]
    fn wrong_values_are_answered_in_podmans_words() {
        let check = |line: &[&str], message: &str| assert_eq!(wish(line).unwrap_err().message, message, "{line:?}");
        check(&[], "requires at least 1 arg(s), only received 0");
        check(&["--replace", "img"], "cannot replace container without --name being set");
        check(&["--userns", "foo", "img"], "unrecognized namespace mode foo passed");
        assert!(wish(&["--userns", "host", "img"]).is_ok());
        check(&["--pull", "foo", "img"], "unsupported pull policy \"foo\"");
        check(&["--name", "a b", "img"], "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument");
        check(&["--annotation", "a", "img"], "annotations must be formatted KEY=VALUE");
        check(&["-w", "tmp", "img"], "the working directory \"tmp\" is invalid, it needs to be an absolute path");
        check(&["-v", "a:b:c:d", "img"], "incorrect volume format, should be [host-dir:]ctr-dir[:option]");
        check(&["-e", "=x", "img"], "invalid variable: \"=x\"");
        check(&["-p", "80:80:80:80", "img"], "invalid port format - format is [[hostIP:]hostPort:]containerPort");
    }
}
