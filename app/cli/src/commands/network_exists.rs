//! `podwire network exists`

use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct NetworkExists {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkExists {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        Ok(u8::from(!podwire.engine()?.network_exists(&self.arguments[0])?))
    }
}
