//! `podwire images`

use ::images::Image;
use engine::Engine;
use jiff::Timestamp;

use crate::ages;
use crate::filters::{Filters, unsupported_for_images};
use crate::flags::{self, Command, switch};
use crate::formats::{self, Listing};
use crate::global::{Podwire, say, write};
use crate::outcome::{Failure, Outcome};
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct Images {
    /// Show all images (podwire makes no intermediate ones that could be hidden)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show what fits: reference=, id=, label=, label!=, dangling=, before=, since=, until=, containers=,
    /// intermediate=, readonly=
    #[arg(short, long, value_name = "strings")]
    filter: Vec<String>,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show the names that images had
    #[arg(long)]
    history: bool,
    /// Show ids in full
    #[arg(long, visible_alias = "notruncate")]
    no_trunc: bool,
    /// Print no headings
    #[arg(short, long)]
    noheading: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Sort by created, id, repository, size or tag
    #[arg(long, value_name = "string", default_value = "created")]
    sort: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// What images are asked for by.
pub(super) const FILTERS: &[&str] = &[
    "reference",
    "id",
    "label",
    "label!",
    "dangling",
    "before",
    "since",
    "after",
    "until",
    "containers",
    "intermediate",
    "readonly",
];

/// An image by one of its names; `None` for one without.
struct Row {
    image: Image,
    name: Option<String>,
    containers: usize,
}

impl Command for Images {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_most(1, &self.arguments)?;
        let sorted = order(&self.sort)?;
        let mut wishes = flags::strings(&self.filter);
        wishes.extend(self.arguments.iter().map(|name| format!("reference={name}")));
        let filters = Filters::parse_refusing(&wishes, FILTERS, unsupported_for_images)?;
        let engine = podwire.engine()?;
        let selection = Selection::read(&filters, &engine)?;
        let images = engine.images()?;
        let mut rows = Vec::new();
        for image in images.list()? {
            let containers = images.users(&image.id)?.len();
            if selection.containers.is_some_and(|used| used != (containers > 0)) {
                continue;
            }
            let names = selection.names(&image).into_iter().flatten();
            rows.extend(names.map(|name| Row { image: image.clone(), name, containers }));
        }
        rows.sort_by(sorted);
        self.print(&rows)
    }
}

impl Images {
    fn print(&self, rows: &[Row]) -> Outcome {
        if self.quiet {
            return quiet(rows, self.no_trunc);
        }
        if self.format == "json" {
            let list: serde_json::Value = rows.iter().map(|row| json(row).to_json()).collect();
            return write(&formats::indented(&list, "    ")).map(|()| 0);
        }
        let now = Timestamp::now();
        let rows: Vec<Value> = rows.iter().map(|row| shown(row, self.no_trunc, now)).collect();
        let mut default = "table {{.Repository}}\t{{.Tag}}".to_owned();
        if self.digests {
            default += "\t{{.Digest}}";
        }
        default += "\t{{.ID}}\t{{.Created}}\t{{.Size}}";
        if self.history {
            default += "\t{{.History}}";
        }
        let headings = &[("ID", "IMAGE ID")];
        let header = !self.noheading;
        Listing { name: "images", format: &self.format, default: &default, headings, header }.print(&rows)?;
        Ok(0)
    }
}

type Order = fn(&Row, &Row) -> std::cmp::Ordering;

fn order(by: &str) -> Result<Order, Failure> {
    let repository: Order = |a, b| parts(a).cmp(&parts(b));
    Ok(match by {
        "created" => |a, b| b.image.created.cmp(&a.image.created).then_with(|| a.name.cmp(&b.name)),
        "id" => |a, b| a.image.id.cmp(&b.image.id).then_with(|| a.name.cmp(&b.name)),
        "repository" => repository,
        "size" => |a, b| a.image.size.cmp(&b.image.size).then_with(|| a.name.cmp(&b.name)),
        "tag" => |a, b| parts(a).1.cmp(parts(b).1).then_with(|| a.name.cmp(&b.name)),
        other => {
            return Err(Failure::new(format!(
                "{other:?} is not a valid field for sorting. Choose from: created, id, repository, size, tag"
            )));
        }
    })
}

/// Repository and tag.
fn parts(row: &Row) -> (&str, &str) {
    row.name.as_deref().map_or(("<none>", "<none>"), split)
}

/// Each id once.
fn quiet(rows: &[Row], full: bool) -> Outcome {
    let mut said = std::collections::HashSet::new();
    for Row { image, .. } in rows.iter().filter(|row| said.insert(row.image.id)) {
        match full {
            true => say(format_args!("sha256:{}", image.id))?,
            false => say(image.id.short())?,
        }
    }
    Ok(0)
}

/// The filters, read.
pub(super) struct Selection {
    filters: Filters,
    dangling: Option<bool>,
    intermediate: Option<bool>,
    readonly: Option<bool>,
    containers: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Selection {
    pub(super) fn read(filters: &Filters, engine: &Engine) -> Result<Self, Failure> {
        let created = |name: &str| Ok(engine.images()?.find(name)?.created.unwrap_or(Timestamp::UNIX_EPOCH));
        let yes = |key: &'static str| {
            filters.one(key, move |text| {
                let wrong = |e| Failure::new(format!("non-boolean value {text:?} for {key} filter: {e}"));
                switch(text).map_err(wrong)
            })
        };
        // No image is of a container that another tool made.
        let containers = |text: &str| match text {
            "external" => Ok(false),
            text => switch(text).map_err(|_| {
                Failure::new(format!("unsupported value {text:?} for containers filter: true, false or external"))
            }),
        };
        let since = filters.one("since", created)?;
        Ok(Self {
            dangling: yes("dangling")?,
            intermediate: yes("intermediate")?,
            readonly: yes("readonly")?,
            containers: filters.one("containers", containers)?,
            before: filters.one("before", created)?,
            since: if since.is_some() { since } else { filters.one("after", created)? },
            until: filters.one("until", |text| Ok(ages::parse_time(text, Timestamp::now())?))?,
            filters: filters.clone(),
        })
    }

    /// The image's names that fit (one `None` for an image without a name), or nothing of it.
    pub(super) fn names(&self, image: &Image) -> Option<Vec<Option<String>>> {
        let id = image.id.to_string();
        let created = image.created.unwrap_or(Timestamp::UNIX_EPOCH);
        let labels = labels(image);
        let fits = self.filters.any("id", |prefix| id.starts_with(prefix.as_str()))
            && self.filters.labels(&labels)
            && self.dangling.is_none_or(|dangling| dangling == image.names.is_empty())
            // There are none of these.
            && self.intermediate != Some(true)
            && self.readonly != Some(true)
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created < until);
        let patterns = self.filters.values("reference");
        let by_id = patterns.iter().any(|p| id.starts_with(p.as_str()));
        let names: Vec<Option<String>> = image
            .names
            .iter()
            .filter(|name| patterns.is_empty() || by_id || patterns.iter().any(|pattern| is_called(name, pattern)))
            .cloned()
            .map(Some)
            .collect();
        match names.is_empty() {
            _ if !fits => None,
            true if image.names.is_empty() && (patterns.is_empty() || by_id) => Some(vec![None]),
            true => None,
            false => Some(names),
        }
    }
}

pub(super) fn labels(image: &Image) -> std::collections::BTreeMap<String, String> {
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone());
    labels.unwrap_or_default().into_iter().collect()
}

/// Does the pattern fit the name, or its end from a `/` on, with or without the tag?
fn is_called(name: &str, pattern: &str) -> bool {
    let bare = split(name).0;
    let ends = |text: &str| {
        let parts: Vec<&str> = text.split('/').collect();
        (0..parts.len()).map(|n| parts[n..].join("/")).collect::<Vec<_>>()
    };
    ends(name).iter().chain(&ends(bare)).any(|end| fits(end.as_bytes(), pattern.as_bytes()))
}

/// `*` and `?`, which do not stand for `/`.
fn fits(text: &[u8], pattern: &[u8]) -> bool {
    match (text, pattern) {
        ([], []) => true,
        (_, [b'*', rest @ ..]) => {
            let end = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=end).any(|n| fits(&text[n..], rest))
        }
        ([t, text @ ..], [p, pattern @ ..]) => (*p == b'?' && *t != b'/' || p == t) && fits(text, pattern),
        _ => false,
    }
}

/// `quay.io/a/b:tag` → repository and tag; a name with a digest has no tag.
pub(super) fn split(name: &str) -> (&str, &str) {
    if let Some((repository, _)) = name.split_once('@') {
        return (repository, "<none>");
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

fn shown(row: &Row, full: bool, now: Timestamp) -> Value {
    let (repository, tag) = parts(row);
    let image = &row.image;
    let id = if full { format!("sha256:{}", image.id) } else { image.id.short() };
    let created = image.created.unwrap_or(Timestamp::UNIX_EPOCH);
    let whole = Timestamp::from_second(created.as_second()).unwrap_or(created);
    let mut fields = vec![
        Field::method("ID", id),
        Field::method("Repository", repository),
        Field::method("Tag", tag),
        Field::method("Created", ages::ago(created, now)),
        Field::method("CreatedSince", ages::ago(created, now)),
        Field::method("CreatedAt", ages::go_time(whole)),
        Field::method("CreatedTime", ages::go_time(whole)),
        Field::method("Size", ages::human_size(image.size)),
        Field::method("Digest", image.digest.to_string()),
        Field::method("History", image.history.join(", ")),
        Field::method("Dangling", image.names.is_empty()),
        Field::method("ReadOnly", false),
    ];
    fields.extend(common(row));
    Value::record("images.imageReporter", fields)
}

/// An object of `--format json`.
fn json(row: &Row) -> Value {
    let created = row.image.created.unwrap_or(Timestamp::UNIX_EPOCH);
    let whole = Timestamp::from_second(created.as_second()).unwrap_or(created);
    let mut fields = common(row);
    fields.push(Field::same("Created", created.as_second()));
    fields.push(Field::same("CreatedAt", whole.to_string()));
    Value::record("images.imageReporter", fields)
}

fn common(row: &Row) -> Vec<Field> {
    let Row { image, containers, .. } = row;
    let labels = labels(image);
    vec![
        Field::same("Id", image.id.to_string()),
        Field::same("ParentId", ""),
        Field::same("RepoTags", Value::Nil),
        Field::same("RepoDigests", Value::texts(image.repo_digests())),
        Field::same("Size", Value::Int(image.size as i64)),
        Field::same("SharedSize", Value::Int(0)),
        Field::same("VirtualSize", Value::Int(image.size as i64)),
        Field::same("Labels", if labels.is_empty() { Value::Nil } else { Value::text_map(&labels) }),
        Field::same("Containers", *containers as i64),
        Field::optional("Dangling", "Dangling", image.names.is_empty()),
        Field::optional("Names", "Names", Value::texts(&image.names)),
        Field::same("Digest", image.digest.to_string()),
        Field::optional("History", "History", Value::texts(&image.history)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_its_tag_not_at_its_port() {
        assert_eq!(split("quay.io/libpod/banner:latest"), ("quay.io/libpod/banner", "latest"));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", "<none>"));
        assert_eq!(split("localhost:5000/a:1"), ("localhost:5000/a", "1"));
        assert_eq!(split("a@sha256:00"), ("a", "<none>"));
    }

    #[test]
    fn references_are_patterns_for_the_name_or_its_end() {
        let name = "quay.io/libpod/banner:latest";
        for fitting in
            ["banner", "banner:latest", "libpod/banner", "quay.io/libpod/banner:latest", "ban*", "*/banner", "banne?"]
        {
            assert!(is_called(name, fitting), "{fitting}");
        }
        for other in ["ban", "quay.io", "banner:2", "*banner:1"] {
            assert!(!is_called(name, other), "{other}");
        }
    }
}
