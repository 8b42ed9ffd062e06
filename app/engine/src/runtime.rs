//! The OCI runtime: which program, how it is called, what its failures mean.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use linux::Spawn;
use model::ContainerId;
use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// A runtime that is installed.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    /// `crun`, `runc` …
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Its own records.
    state: PathBuf,
}

/// Where programs are looked for when PATH is not set, and besides it: root's PATH in `su` has no sbin.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Runtime {
    /// `wish`: a name in PATH or a path; crun, else runc, when absent.
    pub(crate) fn find(wish: Option<&str>, runroot: &Path) -> Result<Self> {
        let at = |path: PathBuf| {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            Self { state: runroot.join(&name), name, path }
        };
        match wish {
            Some(path) if path.contains('/') => {
                let path = PathBuf::from(path);
                if is_program(&path) {
                    return Ok(at(path));
                }
                Err(Error::usage(format!("the OCI runtime {} is not an executable file", path.display())))
            }
            Some(name) => {
                in_path(name).map(at).ok_or_else(|| Error::usage(format!("OCI runtime {name:?} not found in $PATH")))
            }
            None => in_path("crun").or_else(|| in_path("runc")).map(at).ok_or_else(|| {
                Error::usage(
                    "no OCI runtime is installed: install the package crun (or runc), or name one by --runtime",
                )
            }),
        }
    }

    fn is_crun(&self) -> bool {
        self.name.starts_with("crun")
    }

    /// Does it refuse a host whose control groups are a mixture of versions?
    pub(crate) fn wants_cgroup2(&self) -> bool {
        self.is_crun()
    }

    /// A call of it; `log` gets the reason when it fails.
    pub(crate) fn call(&self, log: &Path) -> Spawn {
        let mut call = Spawn::new(&self.path);
        let command = call.command();
        command.arg("--root").arg(&self.state).arg("--log").arg(log).arg("--log-format=json");
        if self.is_crun() {
            command.arg("--cgroup-manager=disabled");
        }
        call
    }

    /// Drops its records of a container whose processes have ended.
    pub(crate) fn forget(&self, id: &ContainerId) -> Result<()> {
        let state = self.state.join(id.to_string());
        if self.is_crun() {
            // All that `crun delete` does when it manages no control groups; a process start less.
            return crate::engine::remove_tree(&state);
        }
        if state.exists() { self.kill(id) } else { Ok(()) }
    }

    /// Kills the container's processes, if any, and drops its records.
    pub(crate) fn kill(&self, id: &ContainerId) -> Result<()> {
        if !self.state.join(id.to_string()).exists() {
            return Ok(());
        }
        let mut call = self.call(Path::new("/dev/null"));
        call.command().args(["delete", "--force", &id.to_string()]);
        call.command().stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        call.command().stderr(std::process::Stdio::null());
        call.spawn().and_then(|mut child| child.wait()).map_err(|e| Error::at(self.path.display(), e))?;
        crate::engine::remove_tree(&self.state.join(id.to_string()))
    }

    /// Did a call write an error to its log?
    pub(crate) fn complained(&self, log: &Path) -> bool {
        std::fs::metadata(log).is_ok_and(|meta| meta.len() > 0)
    }

    /// What a failed call wrote to its log, as an error of Podman's kind and words.
    pub(crate) fn failure(&self, log: &Path) -> Error {
        let mut text = String::new();
        // What it wrote before dying may be cut off or not UTF-8; then the reason is only unknown.
        let _ = std::fs::File::open(log).and_then(|file| file.take(1 << 16).read_to_string(&mut text));
        explain(&self.name, &text)
    }
}

#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    msg: String,
}

/// The last error in a log; with Podman's translation of causes.
pub(crate) fn explain(name: &str, log: &str) -> Error {
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
    let last = lines.find(|line| line.level != "warning" && line.level != "debug");
    let reason = last.map_or_else(|| "ended without saying why".to_owned(), |line| line.msg);
    let reason = reason.trim().trim_start_matches("runc create failed: ").to_owned();
    let lower = reason.to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    let (kind, meaning) = if says(&["permission denied", "operation not permitted"]) {
        (Kind::CannotStart, "OCI permission denied")
    } else if says(&["not found in", "no such file or directory", "open executable"]) {
        (Kind::CommandNotFound, "OCI runtime attempted to invoke a command that was not found")
    } else {
        (Kind::CannotStart, "OCI runtime error")
    };
    Error::new(kind, format!("{name}: {reason}: {meaning}"))
}

/// A program by its name.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = std::env::split_paths(USUAL).collect::<Vec<_>>();
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let meta: io::Result<_> = path.metadata();
    meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, code: u8, text: &str) {
        let log = serde_json::json!({ "level": "error", "msg": message, "time": "t" }).to_string();
        let error = explain("crun", &log);
        assert_eq!((error.exit_code(), error.message.as_str()), (code, text));
    }

    #[test]
    fn failures_have_podmans_codes_and_words() {
        check(
            "executable file `x` not found in $PATH: No such file or directory",
            127,
            "crun: executable file `x` not found in $PATH: No such file or directory: \
             OCI runtime attempted to invoke a command that was not found",
        );
        check(
            "open executable: Permission denied",
            126,
            "crun: open executable: Permission denied: OCI permission denied",
        );
        check("something else", 126, "crun: something else: OCI runtime error");
    }

    #[test]
    fn a_runtime_that_dies_silently_is_still_an_error() {
        assert_eq!(explain("crun", "garbage\n").message, "crun: ended without saying why: OCI runtime error");
    }
}
