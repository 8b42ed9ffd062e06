//! `podwire kill`

use super::each;
use crate::choice::Choice;
use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Kill {
    /// All running containers
    #[arg(short, long)]
    all: bool,
    /// Signal to send: a name or a number
    #[arg(short, long, value_name = "string", default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    choice: Choice,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Kill {
    fn run(self, podwire: &Podwire) -> Outcome {
        self.choice.check(&self.arguments, self.all)?;
        let mut engine = podwire.engine()?;
        let names = self.choice.names(podwire, &engine, self.arguments, self.all, |c| c.state.is_running())?;
        each(&names, engine::Error::exit_code, |name| {
            engine.kill(name, Some(&self.signal))?;
            Ok(Some(name.to_owned()))
        })
    }
}
