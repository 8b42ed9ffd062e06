//! `podwire create`

use crate::container::ContainerFlags;
use crate::flags::Command;
use crate::global::{Podwire, say};
use crate::networks::make_default;
use crate::outcome::Outcome;
use crate::progress::talking;

#[derive(clap::Args)]
pub(crate) struct Create {
    #[command(flatten)]
    container: ContainerFlags,
}

impl Command for Create {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (quiet, dry_run) = (self.container.quiet, self.container.dry_run);
        let wish = self.container.wish(podwire)?;
        let mut engine = podwire.engine()?;
        if dry_run {
            return podwire.show(&engine.plan_run(&wish.config)?);
        }
        wish.remark();
        make_default(&mut engine, &wish.config.network.mode, podwire.conf()?)?;
        let id = talking(quiet, |talk| engine.create(wish.config, talk))?;
        say(id)?;
        Ok(0)
    }
}
