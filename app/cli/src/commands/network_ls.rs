//! `podwire network ls`

use jiff::Timestamp;
use model::Network;

use crate::ages;
use crate::filters::{self, Filters};
use crate::flags::{self, Command};
use crate::formats::Listing;
use crate::global::{Podwire, say};
use crate::networks;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct NetworkLs {
    /// Show what fits: name=, id=, driver=, label=, label!=, until=, dangling=
    #[arg(short, long, value_name = "stringArray")]
    filter: Vec<String>,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show ids in full
    #[arg(long, visible_alias = "notruncate")]
    no_trunc: bool,
    /// Print no headings
    #[arg(short, long)]
    noheading: bool,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkLs {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let known = &["name", "id", "driver", "label", "label!", "until", "dangling"];
        let filters = Filters::parse(&self.filter, known)?;
        let selection = Selection::new(&filters)?;
        let engine = podwire.engine()?;
        let mut networks = Vec::new();
        for network in engine.networks()? {
            if selection.fits(&network, || Ok(engine.network_in_use(&network)?))? {
                networks.push(network);
            }
        }
        if self.quiet && self.format.is_empty() {
            networks.iter().try_for_each(|network| say(&network.name))?;
            return Ok(0);
        }
        let rows: Vec<_> = networks.iter().map(|n| networks::listed(n, !self.no_trunc)).collect();
        Listing {
            name: "ls",
            format: &self.format,
            default: "table {{.ID}}\t{{.Name}}\t{{.Driver}}",
            headings: &[("ID", "NETWORK ID")],
            header: !self.noheading,
        }
        .print(&rows)?;
        Ok(0)
    }
}

/// The filters of `ls` and `prune`, read.
pub(super) struct Selection<'a> {
    filters: &'a Filters,
    names: Vec<regex_lite::Regex>,
    until: Option<Timestamp>,
    dangling: Option<bool>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(filters: &'a Filters) -> Result<Self, Failure> {
        let until = |text: &str| Ok(ages::parse_time(text, Timestamp::now())?);
        Ok(Self {
            filters,
            names: filters.patterns("name")?,
            until: filters.one("until", until)?,
            dangling: filters.one("dangling", filters::dangling)?,
        })
    }

    /// `in_use` is asked only when a filter wants to know.
    pub(super) fn fits(
        &self,
        network: &Network,
        in_use: impl FnOnce() -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let driver = serde_json::to_value(network).unwrap_or_default();
        let id = network.id.to_string();
        let created = network.created.parse::<Timestamp>();
        let plain = filters::matches(&self.names, network.name.as_str())
            && self.filters.any("id", |prefix| id.starts_with(prefix))
            && self.filters.any("driver", |name| driver["driver"] == **name)
            && self.filters.labels(&network.labels)
            && self.until.is_none_or(|until| created.is_ok_and(|created| created < until));
        let Some(dangling) = self.dangling.filter(|_| plain) else { return Ok(plain) };
        Ok((!network.is_default() && !in_use()?) == dangling)
    }
}
