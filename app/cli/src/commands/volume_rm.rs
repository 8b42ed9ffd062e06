//! `podwire volume rm`

use engine::Kind;

use super::{each, removal_code};
use crate::flags::{Command, patience};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct VolumeRm {
    /// All volumes
    #[arg(short, long)]
    all: bool,
    /// Remove the containers that use it too, also when they run
    #[arg(short, long)]
    force: bool,
    /// Seconds to wait before running containers are killed (default: their own, else 10)
    #[arg(short, long, visible_alias = "timeout", value_name = "int", value_parser = patience)]
    time: Option<u32>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for VolumeRm {
    fn run(self, podwire: &Podwire) -> Outcome {
        names_or_all(&self.arguments, self.all)?;
        if self.time.is_some() && !self.force {
            return Err(Failure::new("--force option must be specified to use the --time option"));
        }
        let mut engine = podwire.engine()?;
        let names = match self.all {
            true => engine.volumes()?.into_iter().map(|summary| summary.volume.name).collect(),
            false => self.arguments,
        };
        let lenient = self.force || self.all;
        each(&names, removal_code, |name| match engine.remove_volume(name, self.force, self.time) {
            Err(error) if lenient && error.kind == Kind::NotFound => Ok(None),
            removed => removed.map(Some),
        })
    }
}

/// Podman's words for volumes.
pub(super) fn names_or_all(names: &[String], all: bool) -> Result<(), Failure> {
    if names.is_empty() != all {
        return Err(Failure::new("choose either one or more volumes or all"));
    }
    Ok(())
}
