//! `podwire network import`

use std::path::{Path, PathBuf};

use engine::{CNI_NETWORKS, Engine, PODMAN_NETWORKS};

use crate::flags::Command;
use crate::global::{Podwire, complain, say};
use crate::outcome::{Failure, Outcome, USAGE};

#[derive(clap::Args)]
pub(crate) struct NetworkImport {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkImport {
    fn run(self, podwire: &Podwire) -> Outcome {
        let mut engine = podwire.engine()?;
        let mut worst = 0;
        for file in self.files(&engine)? {
            match engine.import_network(&file) {
                Ok(network) => say(&network.name)?,
                Err(error) => {
                    complain(format_args!("Error: {}: {error}", file.display()));
                    worst = USAGE;
                }
            }
        }
        Ok(worst)
    }
}

impl NetworkImport {
    /// The files that were named, those in directories that were named, or those where Podman and CNI keep theirs.
    fn files(&self, engine: &Engine) -> Result<Vec<PathBuf>, Failure> {
        let mut files = Vec::new();
        if self.arguments.is_empty() {
            for dir in default_dirs(engine) {
                files.extend(Engine::network_files(&dir)?);
            }
        }
        for path in self.arguments.iter().map(Path::new) {
            match path.is_dir() {
                true => files.extend(Engine::network_files(path)?),
                false => files.push(path.to_owned()),
            }
        }
        Ok(files)
    }
}

/// With a set of networks of its own, the directory that it is named by, as in Podman.
fn default_dirs(engine: &Engine) -> Vec<PathBuf> {
    match &engine.options().network_config_dir {
        Some(dir) => vec![dir.clone()],
        None => [PODMAN_NETWORKS, CNI_NETWORKS].map(PathBuf::from).into(),
    }
}
