//! `podwire image prune`

use images::ImageError;

use super::images::{FILTERS, Selection};
use crate::confirm::confirmed;
use crate::filters::Filters;
use crate::flags::{self, Command};
use crate::global::{Podwire, say};
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct ImagePrune {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove what fits: label=, label!=, until=, reference=, id=, before=, since=, dangling=
    #[arg(long, value_name = "stringArray")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for ImagePrune {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = Filters::parse_calling("unsupported image filter", &self.filter, FILTERS)?;
        let warning = match self.all {
            true => "WARNING! This command removes all images without at least one container associated with them.",
            false => "WARNING! This command removes all dangling images.",
        };
        if !self.force && !confirmed(warning)? {
            return Ok(0);
        }
        let mut engine = podwire.engine()?;
        let selection = Selection::read(&filters, &engine)?;
        let fitting: Vec<_> = engine
            .images()?
            .list()?
            .into_iter()
            .filter(|image| self.all || image.names.is_empty())
            .filter(|image| selection.names(image).is_some())
            .collect();
        for image in fitting {
            match engine.remove_image(&image.id.to_string(), true, false) {
                Ok(removed) => removed.deleted.iter().try_for_each(say)?,
                // A container uses it, or somebody has removed it since it was looked at.
                Err(ImageError::InUse { .. } | ImageError::NotKnown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }
}
