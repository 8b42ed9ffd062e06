//! `podwire pull`

use images::PullOptions;

use crate::flags::{self, Command, switch};
use crate::global::{Podwire, complain, say};
use crate::outcome::{Outcome, USAGE};
use crate::progress::Voice;

#[derive(clap::Args)]
pub(crate) struct Pull {
    /// Suppress the output of pulling
    #[arg(short, long)]
    quiet: bool,
    /// Require HTTPS and verify certificates (default: not for registries on this host)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    tls_verify: Option<bool>,
    /// The image's platform (OS/ARCH[/VARIANT]; default: this machine's)
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Pull {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_least(1, &self.arguments)?;
        let platform = self.platform.as_deref().map(str::parse).transpose()?;
        let engine = podwire.engine()?;
        let images = engine.images()?;
        let options = PullOptions { tls_verify: self.tls_verify.unwrap_or(true), platform };
        let voice = Voice::new(self.quiet);
        let mut code = 0;
        for name in &self.arguments {
            match images.pull(name, &options, &voice) {
                Ok(id) => say(id)?,
                Err(error) => {
                    complain(format_args!("Error: {error}"));
                    code = USAGE;
                }
            }
        }
        Ok(code)
    }
}
