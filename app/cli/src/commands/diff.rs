//! `podwire diff`, `container diff`, `image diff`

use std::path::PathBuf;

use engine::{Engine, Kind};
use images::DiffKind;
use serde_json::json;

use crate::flags::Command;
use crate::formats;
use crate::global::{Podwire, say, write};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    container: ContainerDiff,
}

#[derive(clap::Args)]
pub(crate) struct ContainerDiff {
    /// json
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct ImageDiff {
    /// json
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// What names are names of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Both,
    Containers,
    Images,
}

impl Command for Diff {
    fn run(self, podwire: &Podwire) -> Outcome {
        self.container.show(podwire, Of::Both)
    }
}

impl Command for ContainerDiff {
    fn run(self, podwire: &Podwire) -> Outcome {
        self.show(podwire, Of::Containers)
    }
}

impl Command for ImageDiff {
    fn run(self, podwire: &Podwire) -> Outcome {
        check(&self.format, &self.arguments)?;
        show(&podwire.engine()?, &self.arguments, Of::Images, &self.format)
    }
}

impl ContainerDiff {
    fn show(self, podwire: &Podwire, of: Of) -> Outcome {
        match (self.latest, self.arguments.is_empty()) {
            (true, false) => return Err(Failure::new("--latest and containers cannot be used together")),
            (false, true) => {
                return Err(Failure::new(r#""podwire diff" requires a name, id, or the "--latest" flag"#));
            }
            (true, true) => check(&self.format, &[String::new()])?,
            (false, false) => check(&self.format, &self.arguments)?,
        }
        let engine = podwire.engine()?;
        let names = if self.latest { vec![podwire.latest(&engine)?] } else { self.arguments };
        show(&engine, &names, of, &self.format)
    }
}

fn check(format: &str, names: &[String]) -> Result<(), Failure> {
    if !(1..=2).contains(&names.len()) {
        return Err(Failure::new(format!("accepts between 1 and 2 arg(s), received {}", names.len())));
    }
    match format {
        "" | "json" => Ok(()),
        _ => Err(Failure::new("only supported value for '--format' is 'json'")),
    }
}

fn show(engine: &Engine, names: &[String], of: Of, format: &str) -> Outcome {
    let mut stacks = names.iter().map(|name| layers(engine, name, of));
    let (first, second) = (stacks.next().transpose()?.unwrap_or_default(), stacks.next().transpose()?);
    let container = of != Of::Images && engine.find(&names[0]).is_ok();
    let mut changes = engine.diff(&first, second.as_deref())?;
    changes.retain(|(_, path)| !(container && OURS.contains(&path.as_str())));
    if format == "json" {
        let mut object = serde_json::Map::new();
        for (key, kind) in [("changed", DiffKind::Changed), ("added", DiffKind::Added), ("deleted", DiffKind::Deleted)]
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

/// What is mounted over in every container, where the runtime leaves something to mount on; as in Podman.
const OURS: [&str; 12] = [
    "/dev",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/run",
    "/run/.containerenv",
    "/run/notify",
    "/run/podman-init",
    "/run/secrets",
    "/sys",
];

/// The directories of what has this name, topmost first.
fn layers(engine: &Engine, name: &str, of: Of) -> Result<Vec<PathBuf>, Failure> {
    let missing = |what: &str| Failure::new(format!("{name} not found: {what} not known"));
    if of != Of::Images {
        match engine.layers_of(name) {
            Err(error) if error.kind != Kind::NotFound => return Err(error.into()),
            Ok(layers) => return Ok(layers),
            Err(_) if of == Of::Containers => return Err(missing("container")),
            Err(_) => {}
        }
    }
    match engine.images()?.find(name) {
        Err(images::ImageError::NotKnown(_)) if of == Of::Both => Err(missing("layer")),
        found => Ok(found?.layers),
    }
}
