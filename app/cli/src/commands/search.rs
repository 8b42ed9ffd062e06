//! `podwire search`

use images::{Access, Hit, Search as How};

use crate::filters::Filters;
use crate::flags::{self, Command};
use crate::formats::{self, Listing};
use crate::global::{Podwire, write};
use crate::outcome::{Failure, Outcome};
use crate::registry_access::RegistryUser;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct Search {
    #[command(flatten)]
    registry: RegistryUser,
    /// Show stars and whether an image is official or automated
    #[arg(long)]
    compatible: bool,
    /// Show what fits: stars=, is-official=, is-automated=
    #[arg(short, long, value_name = "strings")]
    filter: Vec<String>,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// At most so many of each registry (default: 25)
    #[arg(long, value_name = "int", value_parser = flags::unsigned)]
    limit: Option<u32>,
    /// List the tags of a repository
    #[arg(long)]
    list_tags: bool,
    /// Show descriptions in full
    #[arg(long, visible_alias = "notruncate")]
    no_trunc: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Search {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let term = &self.arguments[0];
        let filters = Filters::parse(&flags::strings(&self.filter), &["stars", "is-official", "is-automated"])?;
        let wanted = Wanted::read(&filters)?;
        if self.list_tags && !self.filter.is_empty() {
            return Err(Failure::new("filters are not applicable to list tags result"));
        }
        let access: Access = self.registry.read()?;
        let how = How { access, limit: self.limit.map(|limit| limit as usize) };
        let engine = podwire.engine()?;
        let images = engine.images()?;
        let (rows, default) = match self.list_tags {
            true => {
                let (name, tags) = images.list_tags(term, &how)?;
                if self.format == "json" {
                    return tags_json(&name, &tags);
                }
                (tags.iter().map(|tag| tag_row(&name, tag)).collect(), "table {{.Name}}\t{{.Tag}}")
            }
            false => {
                let hits = images.search(term, &how)?.into_iter().filter(|hit| wanted.fits(hit));
                let rows: Vec<Value> = hits.map(|hit| row(&hit, self.no_trunc)).collect();
                if rows.is_empty() && self.format.is_empty() {
                    return Ok(0);
                }
                (
                    rows,
                    match self.compatible {
                        true => "table {{.Name}}\t{{.Description}}\t{{.Stars}}\t{{.Official}}\t{{.Automated}}",
                        false => "table {{.Name}}\t{{.Description}}",
                    },
                )
            }
        };
        if self.format == "json" {
            let list: serde_json::Value = rows.iter().map(Value::to_json).collect();
            return write(&formats::indented(&list, "    ")).map(|()| 0);
        }
        Listing { name: "search", format: &self.format, default, headings: &[], header: true }.print(&rows)?;
        Ok(0)
    }
}

/// The filters, read.
struct Wanted {
    stars: u64,
    official: Option<bool>,
    automated: Option<bool>,
}

impl Wanted {
    fn read(filters: &Filters) -> Result<Self, Failure> {
        let yes = |key: &'static str| {
            filters.one(key, move |text| {
                flags::switch(text).map_err(|e| Failure::new(format!("invalid value for {key} filter: {e}")))
            })
        };
        let stars = |text: &str| {
            text.parse().map_err(|_| Failure::new(format!("incorrect value type for stars filter: {text:?}")))
        };
        Ok(Self {
            stars: filters.one("stars", stars)?.unwrap_or(0),
            official: yes("is-official")?,
            automated: yes("is-automated")?,
        })
    }

    fn fits(&self, hit: &Hit) -> bool {
        hit.stars >= self.stars
            && self.official.is_none_or(|official| official == hit.official)
            && self.automated.is_none_or(|automated| automated == hit.automated)
    }
}

/// Podman cuts descriptions so.
const DESCRIPTION: usize = 44;

fn row(hit: &Hit, full: bool) -> Value {
    let description = match hit.description.chars().count() > DESCRIPTION && !full {
        true => format!("{}...", hit.description.chars().take(DESCRIPTION).collect::<String>()),
        false => hit.description.clone(),
    };
    let ok = |yes: bool| if yes { "[OK]" } else { "" };
    Value::record(
        "images.searchReport",
        vec![
            Field::same("Index", hit.index.clone()),
            Field::same("Name", hit.name.clone()),
            Field::same("Description", description),
            Field::same("Stars", Value::Int(i64::try_from(hit.stars).unwrap_or(i64::MAX))),
            Field::same("Official", ok(hit.official)),
            Field::same("Automated", ok(hit.automated)),
            Field::same("Tag", ""),
        ],
    )
}

fn tag_row(name: &str, tag: &str) -> Value {
    Value::record("images.searchReport", vec![Field::same("Name", name), Field::same("Tag", tag)])
}

fn tags_json(name: &str, tags: &[String]) -> Outcome {
    let list = serde_json::json!([{"Name": name, "Tags": tags}]);
    write(&formats::indented(&list, "    ")).map(|()| 0)
}
