//! `podwire stop`

use engine::Kind;

use super::each;
use crate::choice::Choice;
use crate::flags::{Command, patience};
use crate::global::{Podwire, complain};
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Stop {
    /// All running containers
    #[arg(short, long)]
    all: bool,
    /// A container that is not there is no error
    #[arg(short, long)]
    ignore: bool,
    /// Seconds to wait before the container is killed (default: its own, else 10)
    #[arg(short, long, visible_alias = "timeout", value_name = "int", value_parser = patience)]
    time: Option<u32>,
    #[command(flatten)]
    choice: Choice,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Stop {
    fn run(self, podwire: &Podwire) -> Outcome {
        self.choice.check(&self.arguments, self.all)?;
        let mut engine = podwire.engine()?;
        let names = self.choice.names(podwire, &engine, self.arguments, self.all, |c| c.state.is_running())?;
        each(&names, engine::Error::exit_code, |name| match engine.stop(name, self.time) {
            Err(error) if self.ignore && error.kind == Kind::NotFound => Ok(None),
            stopped => {
                stopped?.warning.iter().for_each(complain);
                Ok(Some(name.to_owned()))
            }
        })
    }
}
