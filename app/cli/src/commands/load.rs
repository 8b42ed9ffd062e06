//! `podwire load`

use std::io::IsTerminal as _;
use std::path::PathBuf;

use images::Input;

use crate::flags::{self, Command};
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};
use crate::progress::Voice;

#[derive(clap::Args)]
pub(crate) struct Load {
    /// The archive, or an OCI directory (default: standard input)
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Suppress the output
    #[arg(short, long)]
    quiet: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Load {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let mut stdin = std::io::stdin();
        let input = match &self.input {
            Some(path) => Input::Path(path),
            None if stdin.is_terminal() => {
                return Err(Failure::new(
                    "cannot read from terminal, use command-line redirection or the --input flag",
                ));
            }
            None => Input::Reader(&mut stdin),
        };
        let engine = podwire.engine()?;
        for name in engine.images()?.load(input, &Voice::new(self.quiet))? {
            say(format_args!("Loaded image: {name}"))?;
        }
        Ok(0)
    }
}
