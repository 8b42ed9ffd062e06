//! `podwire save`

use std::io::{BufWriter, IsTerminal as _, stdout};
use std::path::PathBuf;

use images::{Layout, Packing, Save as How};

use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};
use crate::progress::Voice;

#[derive(clap::Args)]
pub(crate) struct Save {
    /// Compress layers (docker-dir only)
    #[arg(long)]
    compress: bool,
    /// docker-archive, oci-archive, oci-dir or docker-dir
    #[arg(long, value_name = "string", default_value = "docker-archive")]
    format: String,
    /// Further arguments are images, not names for the first (docker-archive, oci-archive, oci-dir)
    #[arg(short, long)]
    multi_image_archive: bool,
    /// Write to this file or directory (default: standard output)
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Suppress the output
    #[arg(short, long)]
    quiet: bool,
    /// Do not compress layers (oci-archive, oci-dir)
    #[arg(long)]
    uncompressed: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Save {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.is_empty() {
            return Err(Failure::new("need at least 1 argument"));
        }
        let how = self.how()?;
        let engine = podwire.engine()?;
        let images = engine.images()?;
        let voice = Voice::new(self.quiet);
        match &self.output {
            Some(path) => images.save(&self.arguments, &how, path, &voice)?,
            None if stdout().is_terminal() => {
                return Err(Failure::new("refusing to save to terminal. Use -o flag or redirect"));
            }
            None if matches!(how.layout, Layout::OciDirectory | Layout::Directory) => {
                return Err(Failure::new(format!("--format {} needs --output DIRECTORY", self.format)));
            }
            None => images.save_stream(&self.arguments, &how, &mut BufWriter::new(stdout()), &voice)?,
        }
        Ok(0)
    }
}

impl Save {
    fn how(&self) -> Result<How, Failure> {
        let layout = match self.format.as_str() {
            "docker-archive" => Layout::DockerArchive,
            "oci-archive" => Layout::OciArchive,
            "oci-dir" => Layout::OciDirectory,
            "docker-dir" => Layout::Directory,
            _ => {
                return Err(Failure::new("format value must be one of oci-dir oci-archive docker-dir docker-archive"));
            }
        };
        let oci = matches!(layout, Layout::OciArchive | Layout::OciDirectory);
        let packing = match (self.compress, self.uncompressed) {
            (true, _) if layout != Layout::Directory => {
                return Err(Failure::new("--compress can only be set when --format is 'docker-dir'"));
            }
            (true, true) => return Err(Failure::new("--compress and --uncompressed cannot be set together")),
            (_, true) if !oci => {
                return Err(Failure::new("--uncompressed is for --format oci-archive and oci-dir"));
            }
            (true, false) => Some(Packing::Gzip),
            (false, true) => Some(Packing::Plain),
            (false, false) => None,
        };
        Ok(How { layout, several: self.multi_image_archive, packing })
    }
}
