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
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Inspect {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.is_empty() {
            return Err(Failure::new("no names or ids specified"));
        }
        let look = match self.kind.as_str() {
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
        show(&podwire.engine()?, &self.arguments, &self.format, look)
    }
}

#[derive(clap::Args)]
pub(crate) struct InspectContainer {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for InspectContainer {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_least(1, &self.arguments)?;
        show(&podwire.engine()?, &self.arguments, &self.format, container)
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

fn container(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    match engine.find(name) {
        Ok(id) => {
            let json = serde_json::to_value(engine.inspect(&id)?).map_err(Failure::new)?;
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
