//! `podwire pause` and `podwire unpause`

use engine::{Engine, State};

use super::each;
use crate::choice::Choice;
use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    which: Which,
}

#[derive(clap::Args)]
pub(crate) struct Unpause {
    #[command(flatten)]
    which: Which,
}

/// What both take.
#[derive(clap::Args)]
struct Which {
    /// All that can be
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    choice: Choice,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Pause {
    fn run(self, podwire: &Podwire) -> Outcome {
        self.which.each(podwire, State::Running, Engine::pause)
    }
}

impl Command for Unpause {
    fn run(self, podwire: &Podwire) -> Outcome {
        self.which.each(podwire, State::Paused, Engine::unpause)
    }
}

impl Which {
    fn each(
        self,
        podwire: &Podwire,
        wanted: State,
        act: fn(&mut Engine, &str) -> Result<model::ContainerId, engine::Error>,
    ) -> Outcome {
        self.choice.check(&self.arguments, self.all)?;
        let mut engine = podwire.engine()?;
        let names = self.choice.names(podwire, &engine, self.arguments, self.all, |c| c.state == wanted)?;
        each(&names, engine::Error::exit_code, |name| act(&mut engine, name).map(|_| Some(name.to_owned())))
    }
}
