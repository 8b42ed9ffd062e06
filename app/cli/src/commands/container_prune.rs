//! `podwire container prune`

use jiff::Timestamp;

use crate::ages;
use crate::confirm::confirmed;
use crate::filters::{Filters, is_invalid};
use crate::flags::{self, Command};
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct ContainerPrune {
    /// Remove what fits: label=, label!=, until=
    #[arg(long, value_name = "stringArray")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for ContainerPrune {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = parse(&self.filter)?;
        let selection = Selection::read(&filters)?;
        if !self.force && !confirmed("WARNING! This will remove all non running containers.")? {
            return Ok(0);
        }
        let removed = podwire.engine()?.prune_containers(|container| selection.fits(container))?;
        removed.iter().try_for_each(|(id, _)| say(id))?;
        Ok(0)
    }
}

/// What `--filter` may say.
pub(super) fn parse(flags: &[String]) -> Result<Filters, Failure> {
    Filters::parse_refusing(flags, &["label", "label!", "until"], is_invalid)
}

/// The filters, read.
pub(super) struct Selection<'a> {
    filters: &'a Filters,
    until: Option<Timestamp>,
}

impl<'a> Selection<'a> {
    pub(super) fn read(filters: &'a Filters) -> Result<Self, Failure> {
        let until = filters.one("until", |text| Ok(ages::parse_time(text, Timestamp::now())?))?;
        Ok(Self { filters, until })
    }

    pub(super) fn fits(&self, container: &engine::Summary) -> bool {
        self.filters.labels(&container.labels) && self.until.is_none_or(|until| container.created < until)
    }
}
