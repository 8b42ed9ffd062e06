//! `podwire update`

use engine::{Mode, PortsUpdate, Update as Changes};

use crate::choice;
use crate::container::{ResourceFlags, care, environment, inside};
use crate::flags::{self, Command, strings};
use crate::global::{Podwire, complain, say};
use crate::outcome::{Failure, Outcome};

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
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    /// Set environment variables, from its next start on
    #[arg(short, long, value_name = "stringArray")]
    env: Vec<String>,
    /// Remove environment variables, from its next start on
    #[arg(long, value_name = "stringArray")]
    unsetenv: Vec<String>,
    /// What follows when the container ends: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    /// Limits of each process (NAME=SOFT[:HARD]), from its next start on
    #[arg(long, value_name = "strings")]
    ulimit: Vec<String>,
    #[command(flatten)]
    resources: ResourceFlags,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Update {
    fn run(self, podwire: &Podwire) -> Outcome {
        if !self.latest {
            flags::exactly(1, &self.arguments)?;
        }
        let ports = PortsUpdate {
            add: strings(&self.publish_add).iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            remove: strings(&self.publish_rm).iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        };
        let changes = Changes {
            limits: self.resources.parse()?,
            restart: self.restart.as_deref().map(care::restart).transpose()?,
            // One without a value has ours, where we have it.
            env: environment(&[], &self.env)?
                .into_iter()
                .filter_map(|(name, value)| value.or_else(|| std::env::var(&name).ok()).map(|value| (name, value)))
                .collect(),
            unset_env: self.unsetenv.clone(),
            ulimits: inside::ulimits(&strings(&self.ulimit))?,
        };
        let changed = changes != Changes::default();
        if changed && (self.dry_run || ports != PortsUpdate::default()) {
            return Err(Failure::new(
                "ports and other things cannot be changed at once: one of them could fail when the other is done. Use two \
                 commands",
            ));
        }
        let mut engine = podwire.engine()?;
        let name = choice::one(podwire, &engine, self.arguments.first(), self.latest)?;
        if changed {
            let (id, warnings) = engine.update(&name, &changes)?;
            warnings.iter().for_each(complain);
            return say(id).map(|()| 0);
        }
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Apply };
        let (id, plan) = engine.update_ports(&name, &ports, mode)?;
        match mode {
            Mode::Apply => say(id).map(|()| 0),
            Mode::DryRun => podwire.show(&plan),
        }
    }
}
