//! `podwire network export`

use std::path::PathBuf;

use engine::PODMAN_NETWORKS;

use crate::flags::Command;
use crate::global::{Podwire, complain, say};
use crate::outcome::{Outcome, USAGE};

#[derive(clap::Args)]
pub(crate) struct NetworkExport {
    /// Where the files are written; where Podman keeps its own by default
    #[arg(long, value_name = "string")]
    dir: Option<PathBuf>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkExport {
    fn run(self, podwire: &Podwire) -> Outcome {
        let engine = podwire.engine()?;
        let of_scope = || engine.options().network_config_dir.clone();
        let dir = self.dir.or_else(of_scope).unwrap_or_else(|| PathBuf::from(PODMAN_NETWORKS));
        let names: Vec<String> = match self.arguments.is_empty() {
            true => engine.stored_networks()?.iter().map(|network| network.name.to_string()).collect(),
            false => self.arguments,
        };
        let mut worst = 0;
        for name in names {
            match engine.network(&name).and_then(|network| engine.export_network(&network, &dir)) {
                Ok(path) => say(path.display())?,
                Err(error) => {
                    complain(format_args!("Error: network {name}: {error}"));
                    worst = USAGE;
                }
            }
        }
        Ok(worst)
    }
}
