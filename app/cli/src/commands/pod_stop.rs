//! `podwire pod stop`, `pod kill`

use crate::flags::{Command, patience};
use crate::global::{Podwire, complain};
use crate::outcome::Outcome;
use crate::pods::{PodNames, each};

#[derive(clap::Args)]
pub(crate) struct PodStop {
    /// A pod that is not there is no error
    #[arg(short, long)]
    ignore: bool,
    /// Seconds to wait before containers are killed (default: their own, else 10)
    #[arg(short, long, visible_alias = "timeout", value_name = "int", value_parser = patience)]
    time: Option<u32>,
    #[command(flatten)]
    names: PodNames,
}

impl Command for PodStop {
    fn run(self, podwire: &Podwire) -> Outcome {
        let mut engine = podwire.engine()?;
        let pods = self.names.resolve(&engine, self.ignore)?;
        each(pods, |name, id| {
            engine.stop_pod(id, self.time)?.iter().for_each(complain);
            Ok(name.to_owned())
        })
    }
}

#[derive(clap::Args)]
pub(crate) struct PodKill {
    /// Signal to send: a name or a number
    #[arg(short, long, value_name = "string", default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    names: PodNames,
}

impl Command for PodKill {
    fn run(self, podwire: &Podwire) -> Outcome {
        let mut engine = podwire.engine()?;
        let pods = self.names.resolve(&engine, false)?;
        each(pods, |_, id| engine.kill_pod(id, Some(&self.signal)).map(|id| id.to_string()))
    }
}
