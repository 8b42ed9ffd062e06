//! `podwire image diff`

use images::DiffKind;
use serde_json::json;

use crate::flags::Command;
use crate::formats;
use crate::global::{Podwire, say, write};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct ImageDiff {
    /// json
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for ImageDiff {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (name, other) = match &self.arguments[..] {
            [name] => (name, None),
            [name, other] => (name, Some(other)),
            other => return Err(Failure::new(format!("accepts between 1 and 2 arg(s), received {}", other.len()))),
        };
        if !matches!(self.format.as_str(), "" | "json") {
            return Err(Failure::new("only supported value for '--format' is 'json'"));
        }
        let engine = podwire.engine()?;
        let images = engine.images()?;
        let image = images.find(name)?;
        let other = other.map(|other| images.find(other)).transpose()?;
        let changes = images.diff(&image, other.as_ref())?;
        if self.format == "json" {
            let mut object = serde_json::Map::new();
            for (key, kind) in
                [("changed", DiffKind::Changed), ("added", DiffKind::Added), ("deleted", DiffKind::Deleted)]
            {
                let paths: Vec<&String> = changes.iter().filter(|(k, _)| *k == kind).map(|(_, path)| path).collect();
                if !paths.is_empty() {
                    object.insert(key.to_owned(), json!(paths));
                }
            }
            return write(&formats::indented(&object.into(), "     ")).map(|()| 0);
        }
        // Podman's order: changes, additions, deletions.
        for wanted in [DiffKind::Changed, DiffKind::Added, DiffKind::Deleted] {
            for (kind, path) in changes.iter().filter(|(kind, _)| *kind == wanted) {
                let letter = match kind {
                    DiffKind::Changed => 'C',
                    DiffKind::Added => 'A',
                    DiffKind::Deleted => 'D',
                };
                say(format_args!("{letter} {path}"))?;
            }
        }
        Ok(0)
    }
}
