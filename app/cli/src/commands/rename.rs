//! `podwire rename`

use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Rename {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Rename {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(2, &self.arguments)?;
        let name = self.arguments[1].parse()?;
        podwire.engine()?.rename(&self.arguments[0], &name)?;
        Ok(0)
    }
}
