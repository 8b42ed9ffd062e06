//! `podwire version` and `podwire --version`

use engine::AS_PODMAN;

use crate::flags::{self, Command};
use crate::formats;
use crate::global::{Podwire, say};
use crate::outcome::Outcome;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct Version {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Command for Version {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let os_arch = format!("{}/{}", std::env::consts::OS, go_arch());
        if !self.format.is_empty() {
            formats::object("version", &self.format, &client(&os_arch))?;
            return Ok(0);
        }
        say(format_args!("Client:       Podwire Engine\nVersion:      {VERSION}\nOS/Arch:      {os_arch}"))?;
        Ok(0)
    }
}

/// One line, for `--version`; tools that drive Podman read its last word.
pub(crate) fn short() -> Outcome {
    say(format_args!("podwire version {VERSION}, as podman {AS_PODMAN}"))?;
    Ok(0)
}

/// Podman's object: the client's version; there is no server.
fn client(os_arch: &str) -> Value {
    let version = || {
        Value::record(
            "*define.Version",
            vec![
                Field::same("APIVersion", AS_PODMAN),
                Field::same("Version", VERSION),
                // podwire is not in Go, and no two builds of a version differ.
                Field::same("GoVersion", ""),
                Field::same("GitCommit", ""),
                Field::same("BuiltTime", "Thu Jan  1 00:00:00 1970"),
                Field::same("Built", 0_i64),
                Field::same("OsArch", os_arch),
                Field::same("Os", std::env::consts::OS),
            ],
        )
    };
    // A template that asks for the server is told of the client, as by Podman.
    let fields = vec![Field::same("Client", version()), Field::method("Server", version())];
    Value::record("entities.SystemVersionReport", fields)
}

/// Go's name of this machine's architecture.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
