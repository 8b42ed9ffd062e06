//! `podwire start`

use engine::{Attach, Engine, Foreground, Kind, RunEnd, State};
use model::ContainerId;

use super::each;
use super::run::exit_status;
use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct Start {
    /// All containers that do not run
    #[arg(long)]
    all: bool,
    /// Attach to the container's output
    #[arg(short, long)]
    attach: bool,
    /// Attach to its input too
    #[arg(short, long)]
    interactive: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Start {
    fn run(self, podwire: &Podwire) -> Outcome {
        match (self.arguments.is_empty(), self.all) {
            (true, false) => return Err(Failure::new("start requires at least one argument")),
            (false, true) => {
                return Err(Failure::new("either start all containers or the container(s) provided in the arguments"));
            }
            (true, true) if self.attach || self.interactive => {
                return Err(Failure::new("you cannot start and attach multiple containers at once"));
            }
            _ => {}
        }
        let mut engine = podwire.engine()?;
        if !(self.attach || self.interactive) {
            let names = podwire.targets(&engine, self.arguments, self.all, |c| !c.state.is_running())?;
            return each(&names, engine::Error::exit_code, |name| {
                let id = engine.find(name)?;
                match engine.start(&id, Attach::Detached) {
                    // Podman starts what runs already without a word.
                    Err(error) if error.kind == Kind::WrongState && runs(&engine, &id)? => {}
                    started => drop(started?),
                }
                Ok(Some(name.to_owned()))
            });
        }
        let [name] = &self.arguments[..] else {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        };
        let id = engine.find(name)?;
        let attach = Attach::Foreground(Foreground { stdin: self.interactive, ..Foreground::default() });
        let result = match engine.start(&id, attach.clone()) {
            Err(error) if error.kind == Kind::WrongState && runs(&engine, &id)? => engine.attach(name, &attach)?,
            started => started?,
        };
        match result.end {
            RunEnd::Exited(code) => Ok(exit_status(code)),
            RunEnd::Detached => Ok(0),
        }
    }
}

fn runs(engine: &Engine, id: &ContainerId) -> Result<bool, engine::Error> {
    Ok(engine.list()?.iter().any(|c| c.id == *id && c.state == State::Running))
}
