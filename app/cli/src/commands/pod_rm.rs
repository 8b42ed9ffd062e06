//! `podwire pod rm`, `pod prune`, `pod exists`

use engine::Kind;
use engine::pods::PodRemoval;

use crate::confirm::confirmed;
use crate::flags::{self, Command, patience};
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};
use crate::pods::{PodNames, each};

use super::pod_ps::{Selection, filters};

#[derive(clap::Args)]
pub(crate) struct PodRm {
    /// Stop its containers when they run
    #[arg(short, long)]
    force: bool,
    /// A pod that is not there is no error
    #[arg(short, long)]
    ignore: bool,
    /// Seconds to wait before running containers are killed (default: their own, else 10)
    #[arg(short, long, visible_alias = "timeout", value_name = "int", value_parser = patience)]
    time: Option<u32>,
    #[command(flatten)]
    names: PodNames,
}

/// Podman's code of `pod rm` for a pod that is not there.
const NO_SUCH_POD: u8 = 1;

impl Command for PodRm {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.time.is_some() && !self.force {
            return Err(Failure::new("--force option must be specified to use the --time option"));
        }
        let mut engine = podwire.engine()?;
        let pods = self.names.resolve(&engine, self.ignore || self.force).map_err(|failure| {
            let code = if failure.message.ends_with(": no such pod") { NO_SUCH_POD } else { failure.code };
            Failure { code, ..failure }
        })?;
        let options = PodRemoval { force: self.force, time: self.time };
        each(pods, |_, id| engine.remove_pod(id, &options).map(|id| id.to_string()))
    }
}

#[derive(clap::Args)]
pub(crate) struct PodPrune {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Of those only the ones that fit: as pod ps has it
    #[arg(long, value_name = "strings")]
    filter: Vec<String>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

const WARNING: &str = "WARNING! This will remove all stopped/exited pods..";

impl Command for PodPrune {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = filters(&self.filter)?;
        let selection = Selection::read(&filters)?;
        let mut engine = podwire.engine()?;
        if !self.force && !confirmed(WARNING)? {
            return Ok(0);
        }
        engine.prune_pods(|pod| selection.fits(pod))?.iter().try_for_each(say)?;
        Ok(0)
    }
}

#[derive(clap::Args)]
pub(crate) struct PodExists {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for PodExists {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        match podwire.engine()?.find_pod(&self.arguments[0]) {
            Ok(_) => Ok(0),
            Err(error) if error.kind == Kind::NotFound => Ok(1),
            Err(error) => Err(error.into()),
        }
    }
}
