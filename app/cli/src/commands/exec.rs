//! `podwire exec`

use engine::{Attach, ExecConfig, Foreground, Kind, RunEnd};

use super::run::exit_status;
use crate::container::environment;
use crate::flags::{Command, strings};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct Exec {
    /// Run the process in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach from the command (default ctrl-p,ctrl-q)
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "stringArray")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "strings")]
    env_file: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// In the container created last
    #[arg(short, long)]
    latest: bool,
    /// Give the command all capabilities
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-terminal
    #[arg(short, long)]
    tty: bool,
    /// User name or id, and group (USER[:GROUP])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    #[arg(trailing_var_arg = true, hide = true)]
    arguments: Vec<String>,
}

impl Command for Exec {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (name, command) = match self.arguments.split_first() {
            _ if self.latest => (None, &self.arguments[..]),
            Some((name, command)) => (Some(name), command),
            None => return Err(Failure::new("exec requires the name or ID of a container or the --latest flag")),
        };
        let config = ExecConfig {
            command: command.to_vec(),
            env: environment(&strings(&self.env_file), &self.env)?,
            user: self.user,
            workdir: self.workdir,
            tty: self.tty,
            interactive: self.interactive,
            privileged: self.privileged,
        };
        let attach = match self.detach {
            true => Attach::Detached,
            false => Attach::Foreground(Foreground {
                stdin: self.interactive,
                detach_keys: self.detach_keys.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
                ..Foreground::default()
            }),
        };
        let mut engine = podwire.engine()?;
        let id = match name {
            Some(name) => engine.find(name)?,
            None => engine.find(&podwire.latest(&engine)?)?,
        };
        if config.command.is_empty() {
            return Err(Failure::new("must provide a non-empty command to start an exec session: invalid argument"));
        }
        match engine.exec(&id, config, attach) {
            Ok(RunEnd::Exited(code)) => Ok(exit_status(code)),
            Ok(RunEnd::Detached) => Ok(0),
            // Podman's code for a container that does not run.
            Err(error) if error.kind == Kind::WrongState => Err(Failure::with(255, error)),
            Err(error) => Err(error.into()),
        }
    }
}
