//! `podwire volume export`, `volume import`

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _};
use std::path::PathBuf;

use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome, plain};

#[derive(clap::Args)]
pub(crate) struct VolumeExport {
    /// Write to a file rather than to standard output
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for VolumeExport {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let name = &self.arguments[0];
        match self.output.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => podwire.engine()?.export_volume_to_file(name, &path)?,
            None if io::stdout().is_terminal() => {
                return Err(Failure::new("refusing to export to terminal. Use -o flag or redirect"));
            }
            None => podwire.engine()?.export_volume(name, BufWriter::with_capacity(1 << 16, io::stdout().lock()))?,
        }
        Ok(0)
    }
}

#[derive(clap::Args)]
pub(crate) struct VolumeImport {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for VolumeImport {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (name, source) = match &self.arguments[..] {
            [name] => (name, "-"),
            [name, source] => (name, source.as_str()),
            other => return Err(Failure::new(format!("accepts between 1 and 2 arg(s), received {}", other.len()))),
        };
        match source {
            "-" => podwire.engine()?.import_volume(name, io::stdin().lock())?,
            path => {
                let file = File::open(path).map_err(|e| Failure::new(format!("open {path}: {}", plain(&e))))?;
                podwire.engine()?.import_volume(name, file)?;
            }
        }
        Ok(0)
    }
}
