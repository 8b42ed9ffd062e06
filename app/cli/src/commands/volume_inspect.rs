//! `podwire volume inspect`

use crate::flags::Command;
use crate::formats;
use crate::global::{Podwire, complain};
use crate::outcome::{Failure, Outcome, USAGE};
use crate::volumes;

#[derive(clap::Args)]
pub(crate) struct VolumeInspect {
    /// All volumes
    #[arg(short, long)]
    all: bool,
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for VolumeInspect {
    fn run(self, podwire: &Podwire) -> Outcome {
        super::volume_rm::names_or_all(&self.arguments, self.all)?;
        let engine = podwire.engine()?;
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        if self.all {
            found.extend(engine.volumes()?.iter().map(volumes::shown));
        }
        for name in &self.arguments {
            match engine.volume(name) {
                Ok(summary) => found.push(volumes::shown(&summary)),
                Err(error) if error.kind == engine::Kind::NotFound => {
                    unknown.push(Failure::new(format!("inspecting object: no such volume {name}")));
                }
                Err(error) => unknown.push(error.into()),
            }
        }
        formats::inspect("inspect", &self.format, &found)?;
        unknown.iter().for_each(|failure| complain(format_args!("Error: {}", failure.message)));
        Ok(if unknown.is_empty() { 0 } else { USAGE })
    }
}
