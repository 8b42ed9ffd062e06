//! `podwire export`

use std::io::{self, BufWriter, IsTerminal as _};
use std::path::PathBuf;

use crate::flags::{self, Command};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct Export {
    /// Write to a file rather than to standard output
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Export {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let name = &self.arguments[0];
        match self.output.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) if path.to_string_lossy().contains(':') => {
                return Err(Failure::new(format!(
                    "invalid filename (should not contain ':') {:?}",
                    path.display().to_string()
                )));
            }
            Some(path) => podwire.engine()?.export_to_file(name, &path)?,
            None if io::stdout().is_terminal() => {
                return Err(Failure::new("refusing to export to terminal. Use -o flag or redirect"));
            }
            None => podwire.engine()?.export(name, BufWriter::with_capacity(1 << 16, io::stdout().lock()))?,
        }
        Ok(0)
    }
}
