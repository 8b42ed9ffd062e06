//! `podwire network reload`

use super::each;
use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct NetworkReload {
    /// All running containers that have networks
    #[arg(short, long)]
    all: bool,
    /// Show the plans for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkReload {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.all && !self.arguments.is_empty() {
            return Err(Failure::new("no arguments are needed with --all"));
        }
        if !self.all && self.arguments.is_empty() {
            return Err(Failure::new("you must provide at least one name or id"));
        }
        let mut engine = podwire.engine()?;
        let names = match self.all {
            true => engine.reloadable()?.iter().map(ToString::to_string).collect(),
            false => self.arguments,
        };
        each(&names, engine::Error::exit_code, |name| match self.dry_run {
            true => Ok(Some(engine.plan_reload_network(name)?.to_string()).filter(|plan| !plan.is_empty())),
            false => Ok(Some(engine.reload_network(name)?.to_string())),
        })
    }
}
