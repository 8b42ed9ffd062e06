//! `podwire update`

use engine::{Mode, PortsUpdate};

use crate::flags::{self, Command, strings};
use crate::global::{Podwire, say};
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Update {
    /// Publish a port: [[IP:][hostPort]:]containerPort[/protocol]
    #[arg(long, value_name = "strings")]
    publish_add: Vec<String>,
    /// Publish a port no more: hostPort[/protocol], or as it was published
    #[arg(long, value_name = "strings")]
    publish_rm: Vec<String>,
    /// Show the plan for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Update {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let update = PortsUpdate {
            add: strings(&self.publish_add).iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            remove: strings(&self.publish_rm).iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        };
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Apply };
        let (id, plan) = podwire.engine()?.update_ports(&self.arguments[0], &update, mode)?;
        match mode {
            Mode::Apply => say(id).map(|()| 0),
            Mode::DryRun => podwire.show(&plan),
        }
    }
}
