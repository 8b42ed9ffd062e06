//! `podwire network disconnect`

use engine::{Kind, Mode};

use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct NetworkDisconnect {
    /// A container that is not connected is no error
    #[arg(short, long)]
    force: bool,
    /// Show the plan for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkDisconnect {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(2, &self.arguments)?;
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Apply };
        let mut engine = podwire.engine()?;
        match engine.disconnect_network(&self.arguments[0], &self.arguments[1], mode) {
            Err(error) if self.force && error.kind == Kind::WrongState => Ok(0),
            done => podwire.show(&done?),
        }
    }
}
