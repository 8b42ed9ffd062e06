//! `podwire pull`

use images::{Platform, Policy, PullOptions};

use crate::flags::{self, Command};
use crate::global::{Podwire, complain, say};
use crate::outcome::{Failure, Outcome, USAGE};
use crate::progress::Voice;
use crate::registry_access::RegistryUser;

#[derive(clap::Args)]
pub(crate) struct Pull {
    #[command(flatten)]
    registry: RegistryUser,
    /// Pull all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    #[command(flatten)]
    platform: PlatformFlags,
    /// When to pull: always, missing, newer or never
    #[arg(long, value_name = "string", default_value = "always")]
    policy: String,
    /// Suppress the output of pulling
    #[arg(short, long)]
    quiet: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// What machine an image is for.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct PlatformFlags {
    /// The architecture (default: this machine's)
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// The operating system (default: linux)
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// OS/ARCH[/VARIANT] in one
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// The variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
}

impl PlatformFlags {
    /// `None` when nothing was said.
    pub(crate) fn read(&self) -> Result<Option<Platform>, Failure> {
        let Self { arch, os, platform, variant } = self;
        match platform {
            Some(_) if arch.is_some() || os.is_some() => {
                Err(Failure::new("--platform option can not be specified with --arch or --os"))
            }
            Some(text) => Ok(Some(text.parse()?)),
            None => Ok(Platform::said(os.as_deref(), arch.as_deref(), variant.as_deref())?),
        }
    }
}

impl Command for Pull {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_least(1, &self.arguments)?;
        let policy: Policy = self.policy.parse()?;
        let options = PullOptions { platform: self.platform.read()?, access: self.registry.read()?, policy };
        let engine = podwire.engine()?;
        let images = engine.images()?;
        let voice = Voice::new(self.quiet);
        let mut code = 0;
        for name in &self.arguments {
            let pulled = match self.all_tags {
                true => images.pull_all_tags(name, &options, &voice),
                false => images.pull_any(name, &options, &voice),
            };
            match pulled {
                Ok(ids) => ids.iter().try_for_each(say)?,
                Err(error) => {
                    complain(format_args!("Error: {error}"));
                    code = USAGE;
                }
            }
        }
        Ok(code)
    }
}
