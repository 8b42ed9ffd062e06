//! `podwire images`

use ::images::Image;
use jiff::Timestamp;

use crate::ages;
use crate::filters::{self, Filters};
use crate::flags::{self, Command};
use crate::formats::Listing;
use crate::global::{Podwire, say};
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
    /// Show what fits: reference=, id=, label=, label!=, dangling=, before=, since=
    #[arg(short, long, value_name = "strings")]
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
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Images {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_most(1, &self.arguments)?;
        let mut wishes = flags::strings(&self.filter);
        wishes.extend(self.arguments.iter().map(|name| format!("reference={name}")));
        let known = &["reference", "id", "label", "label!", "dangling", "before", "since"];
        let selection = Selection::read(&Filters::parse(&wishes, known)?, podwire)?;
        let engine = podwire.engine()?;
        let mut images = engine.images()?.list()?;
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.names.cmp(&b.names)));
        let now = Timestamp::now();
        let shown: Vec<(Image, Vec<Option<String>>)> =
            images.into_iter().filter_map(|image| selection.names(&image).map(|names| (image, names))).collect();
        if self.quiet {
            return quiet(&shown, self.no_trunc);
        }
        let rows: Vec<Value> = match self.format == "json" {
            true => shown.iter().map(|(image, _)| json(image)).collect(),
            false => shown
                .iter()
                .flat_map(|(image, names)| names.iter().map(|n| row(image, n.as_deref(), self.no_trunc, now)))
                .collect(),
        };
        let default = match self.digests {
            true => "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.Created}}\t{{.Size}}",
            false => "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Created}}\t{{.Size}}",
        };
        let headings = &[("ID", "IMAGE ID")];
        Listing { name: "images", format: &self.format, default, headings, header: !self.noheading }.print(&rows)?;
        Ok(0)
    }
}

/// Each id once.
fn quiet(shown: &[(Image, Vec<Option<String>>)], full: bool) -> Outcome {
    for (image, _) in shown {
        match full {
            true => say(format_args!("sha256:{}", image.id))?,
            false => say(image.id.short())?,
        }
    }
    Ok(0)
}

/// The filters, read.
struct Selection {
    filters: Filters,
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Selection {
    fn read(filters: &Filters, podwire: &Podwire) -> Result<Self, Failure> {
        let created = |name: &str| {
            let engine = podwire.engine()?;
            Ok(engine.images()?.find(name)?.created.unwrap_or(Timestamp::UNIX_EPOCH))
        };
        Ok(Self {
            dangling: filters.one("dangling", filters::dangling)?,
            before: filters.one("before", created)?,
            since: filters.one("since", created)?,
            filters: filters.clone(),
        })
    }

    /// The image's names that fit (one `None` for an image without a name), or nothing of it.
    fn names(&self, image: &Image) -> Option<Vec<Option<String>>> {
        let id = image.id.to_string();
        let created = image.created.unwrap_or(Timestamp::UNIX_EPOCH);
        let labels = labels(image);
        let fits = self.filters.any("id", |prefix| id.starts_with(prefix.as_str()))
            && self.filters.labels(&labels)
            && self.dangling.is_none_or(|dangling| dangling == image.names.is_empty())
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since);
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

fn labels(image: &Image) -> std::collections::BTreeMap<String, String> {
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
fn split(name: &str) -> (&str, &str) {
    if let Some((repository, _)) = name.split_once('@') {
        return (repository, "<none>");
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

fn row(image: &Image, name: Option<&str>, full: bool, now: Timestamp) -> Value {
    let (repository, tag) = name.map_or(("<none>", "<none>"), split);
    let id = if full { format!("sha256:{}", image.id) } else { image.id.short() };
    let created = image.created.unwrap_or(Timestamp::UNIX_EPOCH);
    let mut fields = vec![
        Field::method("ID", id),
        Field::method("Repository", repository),
        Field::method("Tag", tag),
        Field::method("Created", ages::ago(created, now)),
        Field::method("CreatedSince", ages::ago(created, now)),
        Field::method("CreatedAt", ages::go_time(created)),
        Field::method("CreatedTime", ages::go_time(created)),
        Field::method("Size", ages::human_size(image.size)),
        Field::method("Digest", image.digest.to_string()),
    ];
    fields.extend(common(image));
    Value::record("images.imageReporter", fields)
}

/// An object of `--format json`.
fn json(image: &Image) -> Value {
    let created = image.created.unwrap_or(Timestamp::UNIX_EPOCH);
    let mut fields = common(image);
    fields.push(Field::same("Created", created.as_second()));
    fields.push(Field::same("CreatedAt", created.to_string()));
    Value::record("images.imageReporter", fields)
}

fn common(image: &Image) -> Vec<Field> {
    vec![
        Field::same("Id", image.id.to_string()),
        Field::same("ParentId", ""),
        Field::same("RepoTags", if image.names.is_empty() { Value::Nil } else { Value::texts(&image.names) }),
        Field::same("RepoDigests", Value::texts(image.repo_digests())),
        Field::same("Size", Value::Int(image.size as i64)),
        Field::same("SharedSize", Value::Int(0)),
        Field::same("VirtualSize", Value::Int(image.size as i64)),
        Field::same("Labels", Value::text_map(&labels(image))),
        Field::same("Names", Value::texts(&image.names)),
        Field::same("Digest", image.digest.to_string()),
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
