//! `podwire rmi`

use images::ImageError;

use crate::flags::Command;
use crate::global::{Podwire, complain, say};
use crate::outcome::{Failure, Outcome, USAGE};

#[derive(clap::Args)]
pub(crate) struct Rmi {
    /// All images
    #[arg(short, long)]
    all: bool,
    /// Remove all its names, and the containers that use it
    #[arg(short, long)]
    force: bool,
    /// An image that is not there is no error
    #[arg(short, long)]
    ignore: bool,
    /// Keep images that this one was made from (podwire never removes those)
    #[arg(long)]
    no_prune: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Rmi {
    fn run(self, podwire: &Podwire) -> Outcome {
        match (self.arguments.is_empty(), self.all) {
            (true, false) => return Err(Failure::new("image name or ID must be specified")),
            (false, true) => {
                return Err(Failure::new("when using the --all switch, you may not pass any images names or IDs"));
            }
            _ => {}
        }
        let mut engine = podwire.engine()?;
        let names = match self.all {
            true => engine.images()?.list()?.iter().map(|image| image.id.to_string()).collect(),
            false => self.arguments,
        };
        // One id may have several names: with --all they go together.
        let force = self.force || self.all;
        let mut worst = 0;
        for name in &names {
            let removed = match engine.remove_image(name, force, self.force) {
                Ok(removed) => removed,
                Err(ImageError::NotKnown(_)) if self.ignore || self.force => continue,
                Err(error) => {
                    complain(format_args!("Error: {error}"));
                    worst = worst.max(exit_code(&error));
                    continue;
                }
            };
            removed.untagged.iter().try_for_each(|name| say(format_args!("Untagged: {name}")))?;
            removed.deleted.iter().try_for_each(|id| say(format_args!("Deleted: {id}")))?;
        }
        Ok(worst)
    }
}

/// Podman's: 1 for what is not there, 2 for what is in use.
fn exit_code(error: &ImageError) -> u8 {
    match error {
        ImageError::NotKnown(_) => 1,
        ImageError::InUse { .. } => 2,
        _ => USAGE,
    }
}
