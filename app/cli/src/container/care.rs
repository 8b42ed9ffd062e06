//! `--restart`, `--health-cmd`, `--log-driver` and the like.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::config::{Care, HealthCheck, Log, LogDriver, OnUnhealthy, Restart};

use crate::ages;
use crate::flags::{strings, unsigned};
use crate::outcome::Failure;
use crate::sizes;

#[derive(clap::Args, Debug, Default)]
pub(crate) struct CareFlags {
    /// Containers that are started before it
    #[arg(long, value_name = "strings")]
    requires: Vec<String>,
    /// What follows when the container ends: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    restart: String,
    /// Kill the container after so many seconds (default 0, never)
    #[arg(long, value_name = "uint", value_parser = unsigned)]
    timeout: Option<u32>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// The init program on the host (default: catatonit)
    #[arg(long, value_name = "string")]
    init_path: Option<PathBuf>,
    /// Where output is kept: k8s-file, json-file or none
    #[arg(long, value_name = "string")]
    log_driver: Option<String>,
    /// Options of the log: path=, max-size=, tag=
    #[arg(long, value_name = "strings")]
    log_opt: Vec<String>,
    /// A command that tells by its exit code if the container is well; none for not even the image's
    #[arg(long, visible_alias = "healthcheck-command", value_name = "string")]
    health_cmd: Option<String>,
    /// Time between checks; disable for only when asked (default 30s)
    #[arg(
        long,
        visible_alias = "healthcheck-interval",
        value_name = "string",
        default_value = "30s",
        hide_default_value = true
    )]
    health_interval: String,
    /// Time that a check may take (default 30s)
    #[arg(
        long,
        visible_alias = "healthcheck-timeout",
        value_name = "string",
        default_value = "30s",
        hide_default_value = true
    )]
    health_timeout: String,
    /// Time after the start in which failures do not count (default 0s)
    #[arg(
        long,
        visible_alias = "healthcheck-start-period",
        value_name = "string",
        default_value = "0s",
        hide_default_value = true
    )]
    health_start_period: String,
    /// So many failures in a row make it unhealthy
    #[arg(long, visible_alias = "healthcheck-retries", value_name = "uint", value_parser = unsigned, default_value = "3")]
    health_retries: u32,
    /// What follows when it is unhealthy: none, kill, restart, stop
    #[arg(long, value_name = "string", default_value = "none", hide_default_value = true)]
    health_on_failure: String,
    /// No checks, not even the image's
    #[arg(long)]
    no_healthcheck: bool,
}

impl CareFlags {
    pub(crate) fn parse(&self) -> Result<Care, Failure> {
        let asked_off = self.health_cmd.as_deref().is_some_and(|cmd| cmd.eq_ignore_ascii_case("none"));
        if self.no_healthcheck && self.health_cmd.is_some() && !asked_off {
            return Err(Failure::new("cannot specify both --no-healthcheck and --health-cmd"));
        }
        let no_health = self.no_healthcheck || asked_off;
        let on_failure = on_unhealthy(&self.health_on_failure)?;
        if on_failure != OnUnhealthy::None && (self.health_cmd.is_none() || no_health) {
            return Err(Failure::new(
                "cannot set on-failure action to something other than none without a health check",
            ));
        }
        Ok(Care {
            restart: restart(&self.restart)?,
            restart_given: !self.restart.is_empty(),
            health: match self.health_cmd.as_deref().filter(|_| !no_health) {
                Some(command) => Some(self.check(command, on_failure)?),
                None => None,
            },
            no_health,
            timeout: self.timeout.unwrap_or(0),
            init: match (self.init, &self.init_path) {
                (true, Some(path)) => Some(program(path)?),
                (true, None) => Some(find_init()?),
                (false, _) => None,
            },
            requires: strings(&self.requires),
            log: log(self.log_driver.as_deref().unwrap_or_default(), &strings(&self.log_opt))?,
        })
    }

    fn check(&self, text: &str, on_failure: OnUnhealthy) -> Result<HealthCheck, Failure> {
        let (shell, command) = health_command(text);
        if command.is_empty() {
            return Err(Failure::new("must define a healthcheck command for all healthchecks"));
        }
        let interval = match self.health_interval.as_str() {
            "disable" | "0" => None,
            text => Some(time("healthcheck-interval", text)?),
        };
        if let Some(short) = interval.filter(|time| *time < Duration::from_secs(1)) {
            return Err(Failure::new(format!("healthcheck-interval must be at least 1 second, not {short:?}")));
        }
        let timeout = time("healthcheck-timeout", &self.health_timeout)?;
        if timeout < Duration::from_secs(1) {
            return Err(Failure::new("healthcheck-timeout must be at least 1 second"));
        }
        if self.health_retries < 1 {
            return Err(Failure::new("healthcheck-retries must be greater than 0"));
        }
        Ok(HealthCheck {
            command,
            shell,
            interval,
            timeout,
            start_period: time("healthcheck-start-period", &self.health_start_period)?,
            retries: self.health_retries,
            on_failure,
        })
    }
}

/// A JSON array of words (`["CMD", …]`, `["CMD-SHELL", …]` or the words alone), `CMD-SHELL line`, or a line for the
/// shell.
fn health_command(text: &str) -> (bool, Vec<String>) {
    if let Ok(words) = serde_json::from_str::<Vec<String>>(text) {
        return match words.split_first() {
            Some((kind, rest)) if kind == "CMD-SHELL" => (true, vec![rest.join(" ")]),
            Some((kind, rest)) if kind == "CMD" => (false, rest.to_vec()),
            _ => (false, words),
        };
    }
    let line = text.strip_prefix("CMD-SHELL ").or(text.strip_prefix("CMD ")).unwrap_or(text).trim();
    (true, if line.is_empty() { Vec::new() } else { vec![line.to_owned()] })
}

fn on_unhealthy(text: &str) -> Result<OnUnhealthy, Failure> {
    match text {
        "" | "none" => Ok(OnUnhealthy::None),
        "kill" => Ok(OnUnhealthy::Kill),
        "restart" => Ok(OnUnhealthy::Restart),
        "stop" => Ok(OnUnhealthy::Stop),
        other => Err(Failure::new(format!(
            "invalid on-failure action {other:?} for health check: supported actions are kill,none,restart,stop"
        ))),
    }
}

fn time(flag: &str, text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::new(format!("invalid {flag}: time: invalid duration {text:?}"));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    Duration::try_from(ages::parse_duration(text).ok_or_else(wrong)?).map_err(|_| wrong())
}

pub(crate) fn restart(text: &str) -> Result<Restart, Failure> {
    match text.split_once(':') {
        None => match text {
            "" | "no" | "never" => Ok(Restart::No),
            "on-failure" => Ok(Restart::OnFailure(0)),
            "always" => Ok(Restart::Always),
            "unless-stopped" => Ok(Restart::UnlessStopped),
            other => Err(Failure::new(format!("{other:?} is not a valid restart policy: invalid argument"))),
        },
        Some(("on-failure", retries)) => match retries.parse::<u32>() {
            Ok(retries) => Ok(Restart::OnFailure(retries)),
            Err(_) => Err(Failure::new(format!(
                "parsing restart policy retry count: strconv.Atoi: parsing {retries:?}: invalid syntax"
            ))),
        },
        Some(("no" | "always" | "unless-stopped", _)) => Err(Failure::new(
            "restart policy retries can only be specified with on-failure restart policy: invalid argument",
        )),
        Some((other, _)) => Err(Failure::new(format!("{other:?} is not a valid restart policy: invalid argument"))),
    }
}

/// `--log-driver` and `--log-opt`.
pub(crate) fn log(driver: &str, options: &[String]) -> Result<Log, Failure> {
    let mut log = Log {
        driver: match driver {
            "" | "k8s-file" => LogDriver::K8sFile,
            "json-file" => LogDriver::JsonFile,
            "none" => LogDriver::None,
            "journald" | "passthrough" | "passthrough-tty" => {
                return Err(Failure::new(format!(
                    "--log-driver {driver} is not supported by podwire: it has k8s-file, json-file and none"
                )));
            }
            other => {
                return Err(Failure::new(format!(
                    "running container create option: invalid log driver {other:?}: invalid argument"
                )));
            }
        },
        ..Log::default()
    };
    for option in options {
        match option.split_once('=') {
            Some(("path", path)) => log.path = Some(std::path::absolute(path).map_err(Failure::new)?),
            Some(("max-size", size)) => {
                let bytes = sizes::parse(size).ok_or_else(|| Failure::new(format!("invalid size: '{size}'")))?;
                log.max_size = Some(bytes).filter(|bytes| *bytes > 0);
            }
            Some(("tag", tag)) => log.tag = tag.to_owned(),
            _ => {
                return Err(Failure::new(format!(
                    "unknown log option {option:?}: podwire has path=, max-size= and tag="
                )));
            }
        }
    }
    Ok(log)
}

/// Where distributions put programs that do nothing but start one other, forward signals and reap.
const INITS: [&str; 7] = [
    "/usr/libexec/podman/catatonit",
    "/usr/bin/catatonit",
    "/usr/local/libexec/podman/catatonit",
    "/usr/local/bin/catatonit",
    "/usr/bin/tini-static",
    "/usr/bin/dumb-init",
    "/usr/bin/tini",
];

fn find_init() -> Result<PathBuf, Failure> {
    let found = INITS.iter().map(Path::new).find(|path| path.is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::new("--init needs a program that is there: install the package catatonit, or name one by --init-path")
    })
}

fn program(path: &Path) -> Result<PathBuf, Failure> {
    match path.is_absolute() && path.is_file() {
        true => Ok(path.to_owned()),
        false => Err(Failure::new(format!(
            "container-init binary not found on the host: stat {}: no such file or directory",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_podmans() {
        let said = |text: &str| restart(text).map_or_else(|f| f.message, |r| format!("{} {}", r.word(), r.retries()));
        assert_eq!(said("on-failure:3"), "on-failure 3");
        assert_eq!(said(""), "no 0");
        assert_eq!(said("foo"), "\"foo\" is not a valid restart policy: invalid argument");
        assert!(said("always:3").contains("only be specified with on-failure"));
        assert!(said("on-failure:x").contains("strconv.Atoi: parsing \"x\""));
    }

    #[test]
    fn a_check_is_a_line_for_the_shell_or_words() {
        assert_eq!(health_command("curl -f x || exit 1"), (true, vec!["curl -f x || exit 1".to_owned()]));
        assert_eq!(health_command("CMD-SHELL a b"), (true, vec!["a b".to_owned()]));
        assert_eq!(health_command(r#"["CMD","a","b c"]"#), (false, vec!["a".to_owned(), "b c".to_owned()]));
        assert_eq!(health_command(r#"["CMD-SHELL","a b"]"#), (true, vec!["a b".to_owned()]));
    }
}
