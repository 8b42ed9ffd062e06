//! `podwire pod logs`

use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};
use crate::pods;

use super::logs::LogFlags;

#[derive(clap::Args)]
pub(crate) struct PodLogs {
    /// Only of this container of the pod
    #[arg(short, long, value_name = "string")]
    container: Option<String>,
    /// The pod created last
    #[arg(short, long)]
    latest: bool,
    #[command(flatten)]
    flags: LogFlags,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for PodLogs {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.is_empty() && !self.latest {
            return Err(Failure::new("specify at least one pod name or ID to log"));
        }
        let engine = podwire.engine()?;
        let id = pods::one(&engine, &self.arguments, self.latest)?;
        let pod = engine.pods()?.into_iter().find(|pod| pod.id == id);
        let members = pod.into_iter().flat_map(|pod| pod.containers).filter(|member| !member.is_infra);
        let mut names: Vec<String> = members.map(|member| member.name).collect();
        if let Some(wish) = &self.container {
            let wanted = engine.find(wish)?;
            names.retain(|name| engine.find(name).is_ok_and(|id| id == wanted));
            if names.is_empty() {
                return Err(Failure::new(format!("container {wish} is not in pod {id}")));
            }
        }
        self.flags.print(&engine, &names)
    }
}
