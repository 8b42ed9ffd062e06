//! `podwire network reload`

use engine::{Error, Mode};

use super::each;
use crate::flags::Command;
use crate::global::{Podwire, complain, say};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct NetworkReload {
    /// All running containers that have networks
    #[arg(short, long)]
    all: bool,
    /// The container that was created last
    #[arg(short, long)]
    latest: bool,
    /// Show the plans for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkReload {
    fn run(self, podwire: &Podwire) -> Outcome {
        self.check()?;
        let mut engine = podwire.engine()?;
        if self.all {
            return self.reload_all(podwire, &engine);
        }
        let names = if self.latest { vec![latest(&engine)?] } else { self.arguments };
        each(&names, Error::exit_code, |name| match self.dry_run {
            true => Ok(Some(engine.plan_reload_network(name)?.to_string()).filter(|plan| !plan.is_empty())),
            false => Ok(Some(engine.reload_network(name)?.to_string())),
        })
    }
}

impl NetworkReload {
    /// In Podman's words (CheckAllLatestAndIDFile in cmd/podman/validate/args.go).
    fn check(&self) -> Result<(), Failure> {
        let wrong = match (self.all, self.latest, self.arguments.is_empty()) {
            (true, true, _) => "--all and --latest cannot be used together",
            (true, false, false) => "no arguments are needed with --all",
            (false, true, false) => "--latest and containers cannot be used together",
            (false, false, true) => "you must provide at least one name or id",
            _ => return Ok(()),
        };
        Err(Failure::new(wrong))
    }

    /// One plan for all, and a line for each that is as it should be.
    fn reload_all(&self, podwire: &Podwire, engine: &engine::Engine) -> Outcome {
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Apply };
        let healed = engine.reload_networks(mode)?;
        match mode {
            Mode::DryRun => podwire.show(&healed.plan).map(drop)?,
            Mode::Apply => healed.containers.iter().try_for_each(say)?,
        }
        let left_out = || healed.left_out.iter().chain(&healed.waiting);
        for left in left_out() {
            complain(format_args!("Error: {} cannot be reloaded: {}", left.what, left.error));
        }
        Ok(left_out().map(|left| left.error.exit_code()).max().unwrap_or(0))
    }
}

pub(super) fn latest(engine: &engine::Engine) -> Result<String, Failure> {
    let containers = engine.list()?;
    let latest = containers.iter().max_by_key(|container| container.created);
    // Podman's words (GetLatestContainer in libpod).
    latest
        .map(|container| container.id.to_string())
        .ok_or_else(|| Failure::new("no containers exist: no such container"))
}
