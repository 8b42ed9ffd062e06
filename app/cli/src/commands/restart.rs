//! `podwire restart`

use super::each;
use crate::choice::Choice;
use crate::flags::{Command, patience};
use crate::global::{Podwire, complain};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct Restart {
    /// All containers, whatever their state
    #[arg(short, long)]
    all: bool,
    /// Only those that run
    #[arg(long)]
    running: bool,
    /// Seconds to wait before a container is killed (default: its own, else 10)
    #[arg(short, long, visible_alias = "timeout", value_name = "int", value_parser = patience)]
    time: Option<u32>,
    #[command(flatten)]
    choice: Choice,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Restart {
    fn run(self, podwire: &Podwire) -> Outcome {
        match (self.arguments.is_empty(), self.all || self.running || self.choice.is_made()) {
            (false, true) if self.all => return Err(Failure::new("no arguments are needed with --all")),
            (true, false) => return Err(Failure::new("you must provide at least one name or id")),
            _ => {}
        }
        if !self.running {
            self.choice.check(&self.arguments, self.all)?;
        }
        let mut engine = podwire.engine()?;
        let names = match self.running {
            true => {
                let named = self.arguments.iter().map(|name| engine.find(name)).collect::<Result<Vec<_>, _>>()?;
                podwire.targets(&engine, Vec::new(), true, |c| {
                    c.state.is_running() && (named.is_empty() || named.contains(&c.id))
                })?
            }
            false => self.choice.names(podwire, &engine, self.arguments, self.all, |_| true)?,
        };
        each(&names, engine::Error::exit_code, |name| {
            engine.restart(name, self.time)?.warning.iter().for_each(complain);
            Ok(Some(name.to_owned()))
        })
    }
}
