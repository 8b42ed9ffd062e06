//! `podwire network inspect`

use crate::flags::{self, Command};
use crate::formats;
use crate::global::{Podwire, complain};
use crate::networks;
use crate::outcome::{Outcome, USAGE};

#[derive(clap::Args)]
pub(crate) struct NetworkInspect {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkInspect {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_least(1, &self.arguments)?;
        let engine = podwire.engine()?;
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        for name in &self.arguments {
            match engine.network(name) {
                Ok(network) => found.push(networks::inspected(&network, networks::containers(&engine, &network)?)),
                Err(error) => unknown.push(format!("network {name}: {error}")),
            }
        }
        formats::inspect("inspect", &self.format, &found)?;
        unknown.iter().for_each(|message| complain(format_args!("Error: {message}")));
        Ok(if unknown.is_empty() { 0 } else { USAGE })
    }
}
