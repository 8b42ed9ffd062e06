//! `podwire unshare`

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command as Program, ExitStatus};

use engine::Engine;

use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome, plain};

#[derive(clap::Args)]
pub(crate) struct Unshare {
    /// Join the network namespace of rootless networks, too
    #[arg(long, alias = "rootless-cni")]
    rootless_netns: bool,
    #[arg(trailing_var_arg = true, hide = true)]
    arguments: Vec<String>,
}

/// As a shell has it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

impl Command for Unshare {
    fn run(self, podwire: &Podwire) -> Outcome {
        let options = podwire.options()?;
        if !options.rootless {
            return Err(Failure::new("please use unshare with rootless"));
        }
        engine::rootless::enter(options)?;
        // The namespaces stay until the program ends, whatever it starts.
        engine::rootless::pass_on()?;
        let shell = || vec![std::env::var("SHELL").ok().filter(|s| !s.is_empty()).unwrap_or("/bin/sh".to_owned())];
        let argv = if self.arguments.is_empty() { shell() } else { self.arguments };
        let mut program = Program::new(&argv[0]);
        program.args(&argv[1..]);
        // By these names scripts for Podman find them.
        program.env("CONTAINERS_GRAPHROOT", &options.root).env("CONTAINERS_RUNROOT", &options.runroot);
        let error = if self.rootless_netns {
            // Not in our place: the namespace is to go with it, where nobody else needs it.
            match Engine::open(options.clone())?.in_rootless_namespace(|| program.status())? {
                Ok(status) => return Ok(code_of(status)),
                Err(error) => error,
            }
        } else {
            program.exec()
        };
        let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
        Err(Failure::with(code, format_args!("cannot run {:?}: {}", argv[0], plain(&error))))
    }
}
