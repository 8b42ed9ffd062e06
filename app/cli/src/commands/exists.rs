//! `podwire container exists`, `podwire image exists`, `podwire volume exists`: the answer is the exit code.

use engine::Kind;

use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct ContainerExists {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for ContainerExists {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        match podwire.engine()?.find(&self.arguments[0]) {
            Ok(_) => Ok(0),
            Err(error) if error.kind == Kind::NotFound => Ok(1),
            Err(error) => Err(error.into()),
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct ImageExists {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for ImageExists {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        match podwire.engine()?.images()?.find(&self.arguments[0]) {
            Ok(_) => Ok(0),
            Err(images::ImageError::NotKnown(_)) => Ok(1),
            Err(error) => Err(error.into()),
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct VolumeExists {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for VolumeExists {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        match podwire.engine()?.volume(&self.arguments[0]) {
            Ok(_) => Ok(0),
            Err(error) if error.kind == Kind::NotFound => Ok(1),
            Err(error) => Err(error.into()),
        }
    }
}
