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
        if health.status == "healthy" {
            return Ok(0);
        }
        say(health.status)?;
        Ok(1)
    }
}
