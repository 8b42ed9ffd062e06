//! `podwire network prune`

use std::io::BufRead as _;

use super::network_ls::Selection;
use crate::filters::Filters;
use crate::flags::{self, Command};
use crate::global::{Podwire, say, write};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct NetworkPrune {
    /// Remove what fits: label=, label!=, until=
    #[arg(long, value_name = "stringArray")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Show the plan for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkPrune {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = Filters::parse(&self.filter, &["label", "label!", "until"])?;
        let selection = Selection::new(&filters)?;
        let mut engine = podwire.engine()?;
        if !self.force && !self.dry_run && !confirmed()? {
            return Ok(0);
        }
        for network in engine.networks()? {
            let is_default = network.id.to_string() == model::network::DEFAULT_NETWORK_ID;
            if is_default || !selection.fits(&network, || Ok(false))? || engine.network_in_use(&network)? {
                continue;
            }
            if !self.dry_run {
                engine.remove_network(network.name.as_str(), false, None)?;
            }
            say(&network.name)?;
        }
        Ok(0)
    }
}

fn confirmed() -> Result<bool, Failure> {
    write(
        "WARNING! This will remove all networks not used by at least one container.\nAre you sure you want to continue? [y/N] ",
    )?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(Failure::new("EOF"));
    }
    Ok(answer.trim().to_ascii_lowercase().starts_with('y'))
}
