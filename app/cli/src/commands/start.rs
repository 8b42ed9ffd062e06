//! `podwire start`

use engine::{Attach, Engine, Foreground, Kind, RunEnd, State};
use model::ContainerId;

use super::each;
use super::run::exit_status;
use crate::choice::Choice;
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
    /// Keys that detach from the container (default ctrl-p,ctrl-q)
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Pass signals on to the container (default: with --attach)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = crate::flags::switch)]
    sig_proxy: Option<bool>,
    /// Those that fit: as in ps
    #[arg(short, long, value_name = "strings")]
    filter: Vec<String>,
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Start {
    fn run(self, podwire: &Podwire) -> Outcome {
        match (self.arguments.is_empty() && self.filter.is_empty() && !self.latest, self.all) {
            (true, false) => return Err(Failure::new("start requires at least one argument")),
            (false, true) if !self.arguments.is_empty() || self.latest => {
                return Err(Failure::new("either start all containers or the container(s) provided in the arguments"));
            }
            (true, true) if self.attach || self.interactive => {
                return Err(Failure::new("you cannot start and attach multiple containers at once"));
            }
            _ => {}
        }
        let mut engine = podwire.engine()?;
        let choice = Choice { filter: self.filter, latest: self.latest, ..Choice::default() };
        if !(self.attach || self.interactive) {
            let names = choice.names(podwire, &engine, self.arguments, self.all, |c| !c.state.is_running())?;
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
        let names = choice.names(podwire, &engine, self.arguments, false, |_| true)?;
        let [name] = &names[..] else {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        };
        let id = engine.find(name)?;
        let attach = Attach::Foreground(Foreground {
            stdin: self.interactive,
            signals: self.sig_proxy.unwrap_or(true),
            detach_keys: self.detach_keys.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            ..Foreground::default()
        });
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
    // Whoever is starting it was faster; then it runs, or has failed.
    engine.wait_until(id, &|container| container.state != State::Starting)?;
    Ok(engine.list()?.iter().any(|c| c.id == *id && c.state == State::Running))
}
