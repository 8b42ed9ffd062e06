//! `podwire image prune`

use engine::Engine;
use images::ImageError;
use model::ImageId;

use super::images::{FILTERS, Selection};
use crate::confirm::confirmed;
use crate::filters::{Filters, unsupported_for_images};
use crate::flags::{self, Command};
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};

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
        let filters = Filters::parse_refusing(&self.filter, FILTERS, unsupported_for_images)?;
        let warning = match self.all {
            true => "WARNING! This command removes all images without at least one container associated with them.",
            false => "WARNING! This command removes all dangling images.",
        };
        if !self.force && !confirmed(warning)? {
            return Ok(0);
        }
        let mut engine = podwire.engine()?;
        remove_unused(&mut engine, &filters, self.all)?.iter().try_for_each(say)?;
        Ok(0)
    }
}

/// Removes the images that no container uses and that fit; without `all` only those without a name. Their ids.
pub(super) fn remove_unused(engine: &mut Engine, filters: &Filters, all: bool) -> Result<Vec<ImageId>, Failure> {
    let selection = Selection::read(filters, engine)?;
    let images = engine.images()?.list()?.into_iter();
    let fitting: Vec<_> =
        images.filter(|image| all || image.names.is_empty()).filter(|image| selection.names(image).is_some()).collect();
    let mut deleted = Vec::new();
    for image in fitting {
        match engine.remove_image(&image.id.to_string(), true, false) {
            Ok(removed) => deleted.extend(removed.deleted),
            // A container uses it, or somebody has removed it since it was looked at.
            Err(ImageError::InUse { .. } | ImageError::NotKnown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(deleted)
}
