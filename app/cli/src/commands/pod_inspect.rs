//! `podwire pod inspect`

use engine::{Engine, Kind};

use super::inspect::show;
use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};
use crate::pods;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct PodInspect {
    /// Change the output format to JSON or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// The pod created last
    #[arg(short, long)]
    latest: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for PodInspect {
    fn run(mut self, podwire: &Podwire) -> Outcome {
        let engine = podwire.engine()?;
        if self.latest {
            self.arguments = vec![pods::one(&engine, &self.arguments, true)?.to_string()];
        }
        if self.arguments.is_empty() {
            return Err(Failure::new("no names or ids specified"));
        }
        show(&engine, &self.arguments, &self.format, pod)
    }
}

/// The pod of that name, or the words for that there is none.
pub(super) fn pod(engine: &Engine, name: &str) -> Result<Result<Value, String>, Failure> {
    match engine.inspect_pod(name) {
        Ok(json) => {
            let value = Value::from_json(&json, &["Labels", "PortBindings"]);
            let id = value.field_or_nil("Id");
            Ok(Ok(value.with(Field::method("ID", id))))
        }
        Err(error) if error.kind == Kind::NotFound => Ok(Err(format!("no such pod {name}"))),
        Err(error) => Err(error.into()),
    }
}
