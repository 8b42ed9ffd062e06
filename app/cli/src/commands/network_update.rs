//! `podwire network update`

use crate::flags::{self, Command, strings};
use crate::global::{Podwire, say};
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct NetworkUpdate {
    /// Add DNS servers for names that are not served on the network
    #[arg(long, value_name = "strings")]
    dns_add: Vec<String>,
    /// Remove DNS servers
    #[arg(long, value_name = "strings")]
    dns_drop: Vec<String>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkUpdate {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let name = &self.arguments[0];
        podwire.engine()?.update_network(name, &strings(&self.dns_add), &strings(&self.dns_drop))?;
        // As it was typed, as Podman does.
        say(name)?;
        Ok(0)
    }
}
