//! `podwire network prune`

use engine::{Engine, Kind};

use super::each;
use super::network_ls::Selection;
use crate::confirm::confirmed;
use crate::filters::Filters;
use crate::flags::{self, Command};
use crate::global::Podwire;
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

const WARNING: &str = "WARNING! This will remove all networks not used by at least one container.";

impl Command for NetworkPrune {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = Filters::parse(&self.filter, &["label", "label!", "until"])?;
        let selection = Selection::new(&filters)?;
        let mut engine = podwire.engine()?;
        if !self.force && !self.dry_run && !confirmed(WARNING)? {
            return Ok(0);
        }
        each(&unused(&engine, &selection)?, engine::Error::exit_code, |name| {
            let removed = if self.dry_run { Ok(()) } else { engine.remove_network(name, false, None) };
            match removed {
                // Somebody has begun to use it, or has removed it, since it was looked at.
                Err(error) if matches!(error.kind, Kind::InUse | Kind::NotFound) => Ok(None),
                removed => removed.map(|()| Some(name.to_owned())),
            }
        })
    }
}

/// Networks that no container names.
pub(super) fn unused(engine: &Engine, selection: &Selection<'_>) -> Result<Vec<String>, Failure> {
    let mut unused = Vec::new();
    for network in engine.networks()? {
        if !network.is_default() && selection.fits(&network, || Ok(false))? && !engine.network_in_use(&network)? {
            unused.push(network.name.to_string());
        }
    }
    Ok(unused)
}
