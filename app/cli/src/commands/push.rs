//! `podwire push`

use std::path::PathBuf;

use images::{Format, Packing, PushOptions, Wish};

use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome, plain};
use crate::progress::Voice;
use crate::registry_access::RegistryUser;

#[derive(clap::Args)]
pub(crate) struct Push {
    #[command(flatten)]
    registry: RegistryUser,
    /// Compress layers that go to a dir: destination
    #[arg(long)]
    compress: bool,
    /// gzip or zstd
    #[arg(long, value_name = "string")]
    compression_format: Option<String>,
    /// Write the digest of the manifest to this file
    #[arg(long, value_name = "string")]
    digestfile: Option<PathBuf>,
    /// The kind of manifest: oci or v2s2
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Suppress the output
    #[arg(short, long)]
    quiet: bool,
    /// Images have no signatures here, so none is ever sent
    #[arg(long)]
    remove_signatures: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Push {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (name, to) = match &self.arguments[..] {
            [name] => (name.clone(), None),
            [name, to] => (name.clone(), Some(to.clone())),
            other => return Err(Failure::new(format!("accepts between 1 and 2 arg(s), received {}", other.len()))),
        };
        let directory = to.as_deref().is_some_and(|to| to.starts_with("dir:"));
        if self.compress && !directory {
            return Err(Failure::new(
                "--compress can be set only when pushing to a directory using the 'dir' transport",
            ));
        }
        let packing = match self.compression_format.as_deref() {
            None => self.compress.then_some(Packing::Gzip),
            Some("gzip") => Some(Packing::Gzip),
            Some("zstd") => Some(Packing::Zstd),
            Some(other) => {
                return Err(Failure::new(format!("compression format {other:?} is not supported: gzip and zstd are")));
            }
        };
        let format = match self.format.as_deref() {
            None => None,
            Some("oci") => Some(Format::Oci),
            Some("v2s2" | "docker") => Some(Format::Docker),
            Some("v2s1") => return Err(Failure::new("manifests of the outdated schema 1 are not supported: use v2s2")),
            Some(other) => {
                return Err(Failure::new(format!(
                    "unknown format {other:?}. Choose one of the supported formats: 'oci' or 'v2s2'"
                )));
            }
        };
        let options = PushOptions { access: self.registry.read()?, wish: Wish { format, packing } };
        let engine = podwire.engine()?;
        let digest = engine.images()?.push(&name, to.as_deref(), &options, &Voice::new(self.quiet))?;
        if let Some(path) = &self.digestfile {
            std::fs::write(path, digest.as_str())
                .map_err(|e| Failure::new(format!("{}: {}", path.display(), plain(&e))))?;
        }
        Ok(0)
    }
}
