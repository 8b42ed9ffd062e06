//! `podwire volume ls`

use crate::flags::{self, Command, strings};
use crate::formats::Listing;
use crate::global::{Podwire, say};
use crate::outcome::Outcome;
use crate::volumes::{self, Selection};

#[derive(clap::Args)]
pub(crate) struct VolumeLs {
    /// Show what fits: name=, driver=, scope=, label=, label!=, opt=, dangling=, until=, since=
    #[arg(short, long, value_name = "strings")]
    filter: Vec<String>,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Print no headings
    #[arg(short, long)]
    noheading: bool,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for VolumeLs {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = volumes::parse(&strings(&self.filter))?;
        let engine = podwire.engine()?;
        let selection = Selection::read(&filters, &engine)?;
        let all = engine.volumes()?;
        let chosen: Vec<_> = all.iter().filter(|summary| selection.fits(summary)).collect();
        if self.quiet && self.format.is_empty() {
            chosen.iter().try_for_each(|summary| say(&summary.volume.name))?;
            return Ok(0);
        }
        let rows: Vec<_> = chosen.into_iter().map(volumes::shown).collect();
        Listing {
            name: "ls",
            format: &self.format,
            default: "table {{.Driver}}\t{{.Name}}",
            headings: &[("Name", "VOLUME NAME")],
            header: !self.noheading,
        }
        .print(&rows)?;
        Ok(0)
    }
}
