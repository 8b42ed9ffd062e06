//! `podwire commit`

use std::path::PathBuf;

use engine::CommitWish;
use images::{Change, Format};

use crate::flags::Command;
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome, plain};

#[derive(clap::Args)]
pub(crate) struct Commit {
    /// Who made the image
    #[arg(short, long, value_name = "string")]
    author: Option<String>,
    /// Apply an instruction to the image: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "stringArray")]
    change: Vec<String>,
    /// The kind of manifest: oci or docker
    #[arg(short, long, value_name = "Format", default_value = "oci")]
    format: String,
    /// A file for the image's id
    #[arg(long, value_name = "file")]
    iidfile: Option<PathBuf>,
    /// Where volumes are mounted in the container, the image has volumes
    #[arg(long)]
    include_volumes: bool,
    /// What the image is about; with --format docker only
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Stop the container's processes meanwhile
    #[arg(short, long)]
    pause: bool,
    /// Accepted for Podman's sake: only the id is printed anyway
    #[arg(short, long)]
    quiet: bool,
    /// One layer with everything
    #[arg(short, long)]
    squash: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Commit {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (container, name) = match &self.arguments[..] {
            [container] => (container, None),
            [container, name] => (container, Some(name.clone())),
            other => return Err(Failure::new(format!("accepts between 1 and 2 arg(s), received {}", other.len()))),
        };
        let message = self.message.filter(|text| !text.is_empty());
        let format = match self.format.as_str() {
            "oci" if message.is_some() => {
                return Err(Failure::new("messages are only compatible with the docker image format (-f docker)"));
            }
            "oci" => Format::Oci,
            "docker" => Format::Docker,
            other => return Err(Failure::new(format!("unrecognized image format {other:?}"))),
        };
        let wish = CommitWish {
            name,
            changes: self.change.iter().map(|text| text.parse()).collect::<Result<Vec<Change>, _>>()?,
            author: self.author.filter(|text| !text.is_empty()),
            message,
            format,
            squash: self.squash,
            include_volumes: self.include_volumes,
            pause: self.pause,
        };
        let id = podwire.engine()?.commit(container, &wish)?;
        if let Some(path) = &self.iidfile {
            std::fs::write(path, id.to_string()).map_err(|e| {
                Failure::new(format!("failed to write image ID: open {}: {}", path.display(), plain(&e)))
            })?;
        }
        say(id)?;
        Ok(0)
    }
}
