//! `podwire pod top`

use crate::flags::Command;
use crate::global::{Podwire, write};
use crate::outcome::{Failure, Outcome};
use crate::{pods, table};

#[derive(clap::Args)]
pub(crate) struct PodTop {
    /// The pod created last
    #[arg(short, long)]
    latest: bool,
    #[arg(trailing_var_arg = true, hide = true)]
    arguments: Vec<String>,
}

impl Command for PodTop {
    fn run(self, podwire: &Podwire) -> Outcome {
        let engine = podwire.engine()?;
        let (pod, words) = match (self.latest, &self.arguments[..]) {
            (true, words) => (pods::one(&engine, &[], true)?, words),
            (false, [_, words @ ..]) => (pods::one(&engine, &self.arguments[..1], false)?, words),
            (false, []) => return Err(Failure::new("you must provide the name or id of a running pod")),
        };
        let rows = engine.top_pod(&pod.to_string(), words)?;
        let lines: String = rows.iter().map(|row| row.join("\t") + "\n").collect();
        write(&table::align(&lines))?;
        Ok(0)
    }
}
