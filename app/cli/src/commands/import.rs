//! `podwire import`

use std::fs::File;
use std::io::{IsTerminal as _, Read, stdin};

use super::pull::PlatformFlags;
use images::{Change, Platform};
use jiff::Timestamp;

use crate::flags::Command;
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome, plain};

#[derive(clap::Args)]
pub(crate) struct Import {
    /// Apply an instruction to the image: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "stringArray")]
    change: Vec<String>,
    /// Set the image's message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    #[command(flatten)]
    platform: PlatformFlags,
    /// Accepted for Podman's sake: only the id is printed anyway
    #[arg(short, long)]
    quiet: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Import {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (path, name) = match &self.arguments[..] {
            [path] => (path, None),
            [path, name] => (path, Some(name.as_str())),
            other => return Err(Failure::new(format!("accepts between 1 and 2 arg(s), received {}", other.len()))),
        };
        let changes = self.change.iter().map(|text| text.parse()).collect::<Result<Vec<Change>, _>>()?;
        let import = images::Import {
            name,
            changes: &changes,
            message: self.message.as_deref(),
            created: Timestamp::now(),
            platform: self.platform.read()?.unwrap_or_else(Platform::host),
        };
        let mut source = open(path)?;
        let engine = podwire.engine()?;
        let id = engine.images()?.import(&mut *source, &import)?;
        say(format_args!("sha256:{id}"))?;
        Ok(0)
    }
}

fn open(path: &str) -> Result<Box<dyn Read + Send>, Failure> {
    match path {
        "-" if stdin().is_terminal() => Err(Failure::new("cannot read from terminal, use command-line redirection")),
        "-" => Ok(Box::new(stdin())),
        url if url.starts_with("http://") || url.starts_with("https://") => {
            Err(Failure::new("importing from a URL is not supported by podwire yet"))
        }
        path => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(e) => Err(Failure::new(format!("open {path}: {}", plain(&e)))),
        },
    }
}
