//! `podwire pod pause`, `pod unpause`

use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::Outcome;
use crate::pods::{PodNames, each};

#[derive(clap::Args)]
pub(crate) struct PodPause {
    #[command(flatten)]
    names: PodNames,
}

impl Command for PodPause {
    fn run(self, podwire: &Podwire) -> Outcome {
        let mut engine = podwire.engine()?;
        let pods = self.names.resolve(&engine, false)?;
        each(pods, |_, id| engine.pause_pod(id).map(|id| id.to_string()))
    }
}

#[derive(clap::Args)]
pub(crate) struct PodUnpause {
    #[command(flatten)]
    names: PodNames,
}

impl Command for PodUnpause {
    fn run(self, podwire: &Podwire) -> Outcome {
        let mut engine = podwire.engine()?;
        let pods = self.names.resolve(&engine, false)?;
        each(pods, |_, id| engine.unpause_pod(id).map(|id| id.to_string()))
    }
}
