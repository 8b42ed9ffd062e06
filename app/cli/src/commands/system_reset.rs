//! `podwire system reset`

use crate::confirm::confirmed;
use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct SystemReset {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for SystemReset {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let engine = podwire.engine()?;
        let options = engine.options();
        let warning = format!(
            "WARNING! This will remove:\n        - all containers\n        - all pods\n        - all images\n        \
             - all networks\n        - all build cache\n        - all machines\n        - all volumes\n        - the graphRoot \
             directory: {:?}\n        - the runRoot directory: {:?}",
            options.root.display().to_string(),
            options.runroot.display().to_string(),
        );
        // Podman's code when nobody answers.
        if !self.force && !confirmed(&warning).map_err(|failure| Failure { code: 1, ..failure })? {
            return Ok(0);
        }
        engine.reset()?;
        Ok(0)
    }
}
