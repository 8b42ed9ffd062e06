//! `podwire volume prune`

use engine::{Engine, Kind};

use super::each;
use crate::confirm::confirmed;
use crate::filters::Filters;
use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};
use crate::volumes::{self, Selection};

#[derive(clap::Args)]
pub(crate) struct VolumePrune {
    /// Remove what fits: label=, label!=, until=
    #[arg(long, value_name = "stringArray")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for VolumePrune {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = volumes::parse(&self.filter)?;
        let mut engine = podwire.engine()?;
        let unused = unused(&engine, &filters)?;
        if !self.force {
            let mut warning = "WARNING! This will remove all volumes not used by at least one container.".to_owned();
            if !unused.is_empty() {
                warning += &format!(" The following volumes will be removed:\n{}", unused.join("\n"));
            }
            if !confirmed(&warning)? {
                return Ok(0);
            }
        }
        remove(&mut engine, &unused)
    }
}

/// Volumes that no container names.
pub(super) fn unused(engine: &Engine, filters: &Filters) -> Result<Vec<String>, Failure> {
    let selection = Selection::read(filters, engine)?;
    let fits = |summary: &engine::VolumeSummary| summary.containers.is_empty() && selection.fits(summary);
    Ok(engine.volumes()?.into_iter().filter(fits).map(|summary| summary.volume.name).collect())
}

pub(super) fn remove(engine: &mut Engine, names: &[String]) -> Outcome {
    each(names, engine::Error::exit_code, |name| match engine.remove_volume(name, false, None) {
        // Somebody has begun to use it, or has removed it, since it was looked at.
        Err(error) if matches!(error.kind, Kind::InUse | Kind::NotFound) => Ok(None),
        removed => removed.map(Some),
    })
}
