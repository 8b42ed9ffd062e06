//! `podwire run`

use engine::{Attach, RunEnd};

use crate::container::ContainerFlags;
use crate::flags::Command;
use crate::foreground::AttachFlags;
use crate::global::{Podwire, say};
use crate::networks::make_default;
use crate::outcome::Outcome;
use crate::progress::talking;

#[derive(clap::Args)]
pub(crate) struct Run {
    /// Run the container in the background and print its id
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    attach: AttachFlags,
    #[command(flatten)]
    container: ContainerFlags,
}

impl Command for Run {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (quiet, dry_run) = (self.container.quiet, self.container.dry_run);
        let attach = match self.detach {
            true => Attach::Detached,
            false => Attach::Foreground(self.attach.foreground()?),
        };
        let wish = self.container.wish(podwire)?;
        let mut engine = podwire.engine()?;
        if dry_run {
            return podwire.show(&engine.plan_run(&wish.config)?);
        }
        wish.remark();
        make_default(&mut engine, &wish.config.network.mode, podwire.conf()?)?;
        let result = talking(quiet, |talk| engine.run(wish.config, attach, talk))?;
        match result.end {
            RunEnd::Exited(code) => Ok(exit_status(code)),
            RunEnd::Detached if self.detach => {
                say(result.id)?;
                Ok(0)
            }
            RunEnd::Detached => Ok(0),
        }
    }
}

/// Exit statuses have eight bits.
pub(super) fn exit_status(code: i32) -> u8 {
    (code & 0xff) as u8
}
