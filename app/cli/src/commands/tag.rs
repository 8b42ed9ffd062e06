//! `podwire tag`, `podwire untag`

use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Tag {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Tag {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_least(2, &self.arguments)?;
        podwire.engine()?.images()?.tag(&self.arguments[0], &self.arguments[1..])?;
        Ok(0)
    }
}

#[derive(clap::Args)]
pub(crate) struct Untag {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Untag {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_least(1, &self.arguments)?;
        podwire.engine()?.images()?.untag(&self.arguments[0], &self.arguments[1..])?;
        Ok(0)
    }
}
