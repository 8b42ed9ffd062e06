//! `podwire pod start`, `pod restart`

use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::Outcome;
use crate::pods::{PodNames, each};

#[derive(clap::Args)]
pub(crate) struct PodStart {
    #[command(flatten)]
    names: PodNames,
}

impl Command for PodStart {
    fn run(self, podwire: &Podwire) -> Outcome {
        let mut engine = podwire.engine()?;
        let pods = self.names.resolve(&engine, false)?;
        each(pods, |name, id| engine.start_pod(id).map(|_| name.to_owned()))
    }
}

#[derive(clap::Args)]
pub(crate) struct PodRestart {
    #[command(flatten)]
    names: PodNames,
}

impl Command for PodRestart {
    fn run(self, podwire: &Podwire) -> Outcome {
        let mut engine = podwire.engine()?;
        let pods = self.names.resolve(&engine, false)?;
        each(pods, |_, id| engine.restart_pod(id).map(|id| id.to_string()))
    }
}
