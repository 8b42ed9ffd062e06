//! `podwire healthcheck run`

use crate::flags::{self, Command};
use crate::global::{Podwire, say};
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct HealthcheckRun {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for HealthcheckRun {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let health = podwire.engine()?.check_health(&self.arguments[0])?;
        // What this one check found; what the container is by all of them is in `inspect`.
        if health.log.last().is_some_and(|check| check.exit_code == 0) {
            return Ok(0);
        }
        say("unhealthy")?;
        Ok(1)
    }
}
