//! `podwire top`

use engine::{Attach, ExecConfig, Foreground, RunEnd};

use super::run::exit_status;
use crate::choice;
use crate::flags::Command;
use crate::global::{Podwire, write};
use crate::outcome::{Failure, Outcome};
use crate::table;

#[derive(clap::Args)]
pub(crate) struct Top {
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    #[arg(trailing_var_arg = true, hide = true)]
    arguments: Vec<String>,
}

impl Command for Top {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.is_empty() && !self.latest {
            return Err(Failure::new("you must provide the name or id of a running container"));
        }
        let mut engine = podwire.engine()?;
        let (name, words) = match self.latest {
            true => (choice::one(podwire, &engine, None, true)?, &self.arguments[..]),
            false => (self.arguments[0].clone(), &self.arguments[1..]),
        };
        if let Some(rows) = engine.top(&name, words)? {
            let lines: String = rows.iter().map(|row| row.join("\t") + "\n").collect();
            write(&table::align(&lines))?;
            return Ok(0);
        }
        // As Podman: what are no columns of ours are the container's own ps(1)'s arguments.
        let command = std::iter::once("ps".to_owned()).chain(words.iter().cloned()).collect();
        let id = engine.find(&name)?;
        let config = ExecConfig { command, ..ExecConfig::default() };
        match engine.exec(&id, config, Attach::Foreground(Foreground { stdin: false, ..Foreground::default() }))? {
            RunEnd::Exited(code) => Ok(exit_status(code)),
            RunEnd::Detached => Ok(0),
        }
    }
}
