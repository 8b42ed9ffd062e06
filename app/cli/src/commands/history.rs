//! `podwire history`

use engine::inspect_image;
use images::Image;
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::ages;
use crate::flags::{self, Command};
use crate::formats::Listing;
use crate::global::{Podwire, say, write};
use crate::outcome::Outcome;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct History {
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show sizes and dates for a human reader
    #[arg(short = 'H', long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value = "true", value_parser = crate::flags::switch)]
    human: bool,
    /// Show all of each line
    #[arg(long, visible_alias = "notruncate")]
    no_trunc: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// One step of how an image was made.
struct Step {
    /// The image's, for its last step.
    id: Option<String>,
    created: Option<Timestamp>,
    by: String,
    size: u64,
    comment: String,
}

impl Command for History {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let engine = podwire.engine()?;
        let images = engine.images()?;
        let image = images.find(&self.arguments[0])?;
        let steps = steps(&image, &images.layer_sizes(&image)?);
        if self.format == "json" {
            let list: Json = steps.iter().map(|step| self.row(step, Timestamp::now()).to_json()).collect();
            return write(&format!("{list}\n")).map(|()| 0);
        }
        if self.quiet {
            steps.iter().try_for_each(|step| say(self.shown_id(step)))?;
            return Ok(0);
        }
        let now = Timestamp::now();
        let rows: Vec<Value> = steps.iter().map(|step| self.row(step, now)).collect();
        let default = "table {{.ID}}\t{{.Created}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
        let headings = &[("CreatedBy", "CREATED BY")];
        Listing { name: "history", format: &self.format, default, headings, header: true }.print(&rows)?;
        Ok(0)
    }
}

impl History {
    fn shown_id(&self, step: &Step) -> String {
        match &step.id {
            Some(id) if self.no_trunc => id.clone(),
            Some(id) => id.chars().take(12).collect(),
            None => "<missing>".to_owned(),
        }
    }

    fn row(&self, step: &Step, now: Timestamp) -> Value {
        let created = step.created.unwrap_or(Timestamp::UNIX_EPOCH);
        // Without fractions of a second, as Podman.
        let second = Timestamp::from_second(created.as_second()).unwrap_or(created);
        let since = ages::ago(created, now);
        let size = if self.human { ages::human_size(step.size) } else { step.size.to_string() };
        let by = match self.no_trunc {
            true => step.by.clone(),
            false => shortened(&step.by),
        };
        Value::record(
            "images.historyReporter",
            vec![
                Field::named("Id", "id", step.id.clone().unwrap_or_else(|| "<missing>".to_owned())),
                Field::named("created", "created", created.to_string()),
                Field::named("createdBy", "CreatedBy", step.by.clone()),
                Field::named("size", "size", Value::Int(i64::try_from(step.size).unwrap_or(i64::MAX))),
                Field::named("comment", "comment", step.comment.clone()),
                Field::named("CreatedJson", "Created", second.to_string()),
                Field::method("ID", self.shown_id(step)),
                Field::method("Created", if self.human { since.clone() } else { second.to_string() }),
                Field::method("CreatedAt", ages::go_time(second)),
                Field::method("CreatedSince", since),
                Field::method("CreatedBy", by),
                Field::method("Size", size),
                Field::method("Comment", step.comment.clone()),
                Field::method("Tags", Value::texts(Vec::<String>::new())),
            ],
        )
    }
}

/// Podman's way with long lines: 45 characters.
fn shortened(text: &str) -> String {
    match text.chars().count() {
        0..=45 => text.to_owned(),
        _ => format!("{}...", text.chars().take(42).collect::<String>()),
    }
}

/// The newest first. `sizes` are of the layers, lowest first.
fn steps(image: &Image, sizes: &[u64]) -> Vec<Step> {
    let shown = inspect_image(image);
    let history = shown["History"].as_array().cloned().unwrap_or_default();
    let text = |step: &Json, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let mut sizes = sizes.iter().copied();
    let mut steps: Vec<Step> = history
        .iter()
        .map(|step| Step {
            id: None,
            created: step["created"].as_str().and_then(|text| text.parse().ok()),
            by: text(step, "created_by"),
            size: if step["empty_layer"] == true { 0 } else { sizes.next().unwrap_or(0) },
            comment: text(step, "comment"),
        })
        .collect();
    // Layers that the history does not know: an image without one.
    steps.extend(sizes.map(|size| Step {
        id: None,
        created: image.created,
        by: String::new(),
        size,
        comment: String::new(),
    }));
    steps.reverse();
    if let Some(last) = steps.first_mut() {
        last.id = Some(image.id.to_string());
    }
    steps
}
