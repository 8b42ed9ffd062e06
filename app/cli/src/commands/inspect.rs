//! `podwire inspect`, `podwire container inspect`, `podwire image inspect`

use engine::{Engine, Kind};
use images::ImageError;

use crate::flags::{self, Command};
use crate::formats;
use crate::global::{Podwire, complain};
use crate::networks;
use crate::outcome::{Failure, Outcome, USAGE};
use crate::template::{Field, Value};
use crate::volumes;

#[derive(clap::Args)]
pub(crate) struct Inspect {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// What to look for: all, container, image, network, pod, volume
    #[arg(short = 't', long = "type", value_name = "string", default_value = "all")]
    kind: String,
    #[command(flatten)]
    container: ContainerFlags,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// What is about containers alone.
#[derive(clap::Args)]
struct ContainerFlags {
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    /// Show the size of what a container has changed, and of all its files
    #[arg(short, long)]
    size: bool,
}

impl ContainerFlags {
    /// The names that are meant.
    fn names(&self, podwire: &Podwire, engine: &Engine, named: Vec<String>) -> Result<Vec<String>, Failure> {
        match (self.latest, named.is_empty()) {
            (true, false) => Err(Failure::new("--latest and arguments cannot be used together")),
            (true, true) => Ok(vec![podwire.latest(engine)?]),
            (false, _) => Ok(named),
        }
    }
}

impl Command for Inspect {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.is_empty() && !self.container.latest {
            return Err(Failure::new("no names or ids specified"));
        }
        let kind = if self.container.latest { "container" } else { self.kind.as_str() };
        let look = match kind {
            "all" if self.container.size => anything_with_size,
            "container" if self.container.size => container_with_size,
            _ if self.container.size => return Err(Failure::new("size is not supported for type ".to_owned() + kind)),
            "all" => anything,
            "container" => container,
            "image" => image,
            "network" => network,
            "pod" => super::pod_inspect::pod,
            "volume" => volume,
            other => {
                return Err(Failure::new(format!(
                    "invalid type {other:?}, must be one of all, container, image, network, pod or volume"
                )));
            }
        };
        let engine = podwire.engine()?;
        let names = self.container.names(podwire, &engine, self.arguments)?;
        show(&engine, &names, &self.format, look)
    }
}

#[derive(clap::Args)]
pub(crate) struct InspectContainer {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[command(flatten)]
    container: ContainerFlags,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for InspectContainer {
    fn run(self, podwire: &Podwire) -> Outcome {
        if !self.container.latest {
            flags::at_least(1, &self.arguments)?;
        }
        let engine = podwire.engine()?;
        let names = self.container.names(podwire, &engine, self.arguments)?;
        show(&engine, &names, &self.format, if self.container.size { container_with_size } else { container })
    }
}

#[derive(clap::Args)]
pub(crate) struct InspectImage {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for InspectImage {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_least(1, &self.arguments)?;
        show(&podwire.engine()?, &self.arguments, &self.format, image)
    }
}

/// The object of that name; `None` when there is none, with the words for it.
pub(super) type Look = fn(&Engine, &str) -> Result<Result<Value, String>, Failure>;

/// What is found is printed, then what is not.
pub(super) fn show(engine: &Engine, names: &[String], format: &str, look: Look) -> Outcome {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        match look(engine, name)? {
            Ok(value) => found.push(value),
            Err(message) => unknown.push(message),
        }
    }
    formats::inspect("inspect", format, &found)?;
    unknown.iter().for_each(|message| complain(format_args!("Error: {message}")));
    Ok(if unknown.is_empty() { 0 } else { USAGE })
}

fn anything(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    for look in [container, image, network, super::pod_inspect::pod as Look, volume] {
        if let Ok(value) = look(engine, name)? {
            return Ok(Ok(value));
        }
    }
    Ok(Err(format!("no such object: {name:?}")))
}

fn anything_with_size(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    match container_with_size(engine, name)? {
        Ok(value) => Ok(Ok(value)),
        Err(_) => anything(engine, name),
    }
}

fn container(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    inspected(engine, name, false)
}

fn container_with_size(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    inspected(engine, name, true)
}

fn inspected(engine: &Engine, name: &str, with_size: bool) -> Result<Result<Value, String>, Failure> {
    match engine.find(name) {
        Ok(id) => {
            let mut json = engine.inspect(&id)?;
            if let Some(summary) = engine.list()?.into_iter().find(|summary| with_size && summary.id == id) {
                let (own, all) = engine.container_size(&summary)?;
                json["SizeRw"] = own.into();
                json["SizeRootFs"] = all.into();
            }
            Ok(Ok(with_id(Value::from_json(&json, MAPS))))
        }
        Err(error) if error.kind == Kind::NotFound => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn image(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    match engine.images()?.find(name) {
        Ok(image) => Ok(Ok(with_id(Value::from_json(&engine::inspect_image(&image), MAPS)))),
        Err(error @ ImageError::NotKnown(_)) => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn network(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    match engine.network(name) {
        Ok(network) => Ok(Ok(networks::inspected(&network, networks::containers(engine, &network)?))),
        Err(error) if error.kind == Kind::NotFound => Ok(Err(format!("network {name}: {error}"))),
        Err(error) => Err(error.into()),
    }
}

fn volume(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    match engine.volume(name) {
        Ok(summary) => Ok(Ok(volumes::shown(&summary))),
        Err(error) if error.kind == Kind::NotFound => Ok(Err(format!("inspecting object: no such volume {name}"))),
        Err(error) => Err(error.into()),
    }
}

/// Keys of objects that are maps in Podman: a template may ask them for a key they do not have.
const MAPS: &[&str] = &[
    "Labels",
    "Annotations",
    "Networks",
    "Ports",
    "PortBindings",
    "ExposedPorts",
    "Volumes",
    "Tmpfs",
    "Data",
    "Sysctls",
    "DriverOpts",
];

/// Podman's templates know `.ID` for `.Id`.
fn with_id(value: Value) -> Value {
    let id = value.field_or_nil("Id");
    value.with(Field::method("ID", id))
}
