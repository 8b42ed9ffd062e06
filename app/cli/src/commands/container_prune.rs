//! `podwire container prune`

use engine::{Kind, RemoveOptions};

use super::{each, ps};
use crate::confirm::confirmed;
use crate::filters::Filters;
use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct ContainerPrune {
    /// Remove what fits: label=, label!=, until=
    #[arg(long, value_name = "stringArray")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for ContainerPrune {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = Filters::parse(&self.filter, &["label", "label!", "until"])?;
        let mut engine = podwire.engine()?;
        if !self.force && !confirmed("WARNING! This will remove all non running containers.")? {
            return Ok(0);
        }
        let containers = engine.list()?;
        let selection = ps::Selection::read(&filters, &containers)?;
        // A pod's own goes with its pod.
        let goes = |c: &&engine::Summary| c.state.at_rest() && !c.is_infra && selection.fits(c);
        let ids: Vec<String> = containers.iter().filter(goes).map(|c| c.id.to_string()).collect();
        each(&ids, engine::Error::exit_code, |id| match engine.remove(id, &RemoveOptions::default()) {
            // Somebody has started or removed it since it was looked at.
            Err(error) if matches!(error.kind, Kind::WrongState | Kind::NotFound) => Ok(None),
            removed => removed.map(|_| Some(id.to_owned())),
        })
    }
}
