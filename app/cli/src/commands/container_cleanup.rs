//! `podwire container cleanup`

use engine::{Engine, Error, Kind, RemoveOptions};

use super::each;
use crate::choice::Choice;
use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct ContainerCleanup {
    /// All containers that do not run
    #[arg(short, long)]
    all: bool,
    /// Not supported: podwire keeps nothing of a process that exec ran
    #[arg(long, value_name = "string")]
    exec: Option<String>,
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    /// Then remove them
    #[arg(long)]
    rm: bool,
    /// Then remove them and their images
    #[arg(long)]
    rmi: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for ContainerCleanup {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.exec.is_some() {
            return Err(Failure::new("--exec is not supported by podwire: nothing is left of a process that exec ran"));
        }
        let choice = Choice { latest: self.latest, ..Choice::default() };
        choice.check(&self.arguments, self.all)?;
        // Opening takes away what is left of any: of monitors and commands that died.
        let mut engine = podwire.engine()?;
        let names = choice.names(podwire, &engine, self.arguments, self.all, |c| c.state.at_rest() && !c.is_infra)?;
        each(&names, Error::exit_code, |name| cleaned(&mut engine, name, self.rm || self.rmi, self.rmi))
    }
}

fn cleaned(engine: &mut Engine, name: &str, rm: bool, rmi: bool) -> Result<Option<String>, Error> {
    let id = engine.find(name)?;
    let containers = engine.list()?;
    let Some(container) = containers.iter().find(|c| c.id == id) else { return Ok(None) };
    if !container.state.at_rest() {
        let text = format!("container {id} is running or paused, refusing to clean up: container state improper");
        return Err(Error::new(Kind::WrongState, text));
    }
    if rm {
        engine.remove(&id.to_string(), &RemoveOptions::default())?;
    }
    if let Some(image) = container.image_id.filter(|_| rmi) {
        engine.remove_image(&image.to_string(), false, false).map_err(Error::from)?;
    }
    Ok(Some(name.to_owned()))
}
