//! Volumes as Podman shows and chooses them.

use engine::{Engine, VolumeSummary};
use jiff::Timestamp;
use regex_lite::Regex;

use crate::ages;
use crate::filters::{self, Filters};
use crate::outcome::Failure;
use crate::template::{Field, Value};

/// Filters of `volume ls`; `volume prune` takes them too, but for `dangling`.
pub(crate) const KNOWN: &[&str] =
    &["name", "driver", "scope", "label", "label!", "opt", "dangling", "until", "since", "after"];

/// What templates see of a volume, and its JSON object.
pub(crate) fn shown(summary: &VolumeSummary) -> Value {
    let volume = &summary.volume;
    let mut fields = vec![
        Field::same("Name", volume.name.as_str()),
        Field::same("Driver", "local"),
        Field::same("Mountpoint", summary.mountpoint.display().to_string()),
        Field::same(
            "CreatedAt",
            Value::shown(ages::go_time(volume.created), ages::go_time(volume.created), volume.created.to_string()),
        ),
        Field::same("Labels", Value::text_map(&volume.labels)),
        Field::same("Scope", "local"),
        Field::same("Options", Value::text_map([])),
    ];
    if volume.anonymous {
        fields.push(Field::same("Anonymous", true));
    }
    fields.extend([
        Field::same("MountCount", summary.running as i64),
        Field::same("NeedsCopyUp", summary.empty),
        Field::same("NeedsChown", summary.empty),
        Field::same("LockNumber", 0_i64),
    ]);
    Value::record("define.InspectVolumeData", fields)
}

/// The filters, read.
pub(crate) struct Selection<'a> {
    filters: &'a Filters,
    names: Vec<Regex>,
    dangling: Option<bool>,
    until: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl<'a> Selection<'a> {
    pub(crate) fn read(filters: &'a Filters, engine: &Engine) -> Result<Self, Failure> {
        let since = |name: &str| Ok(engine.volume(name)?.volume.created);
        Ok(Self {
            filters,
            names: filters.patterns("name")?,
            dangling: filters.one("dangling", filters::dangling)?,
            until: filters.one("until", |text| Ok(ages::parse_time(text, Timestamp::now())?))?,
            since: filters.one("since", since)?.or(filters.one("after", since)?),
        })
    }

    pub(crate) fn fits(&self, summary: &VolumeSummary) -> bool {
        let volume = &summary.volume;
        filters::matches(&self.names, &volume.name)
            && self.filters.any("driver", |driver| driver == "local")
            && self.filters.any("scope", |scope| scope == "local")
            // Ours have no options.
            && !self.filters.has("opt")
            && self.filters.labels(&volume.labels)
            && self.dangling.is_none_or(|dangling| summary.containers.is_empty() == dangling)
            && self.until.is_none_or(|until| volume.created < until)
            && self.since.is_none_or(|since| volume.created > since)
    }
}

/// Podman's words for a filter that volumes do not have.
pub(crate) fn parse(flags: &[String]) -> Result<Filters, Failure> {
    let key = |flag: &String| flag.split('=').next().unwrap_or_default().to_owned();
    match flags.iter().map(key).find(|key| !KNOWN.contains(&key.as_str())) {
        Some(wrong) => Err(Failure::new(format!("{wrong:?} is an invalid volume filter"))),
        None => Filters::parse(flags, KNOWN),
    }
}
