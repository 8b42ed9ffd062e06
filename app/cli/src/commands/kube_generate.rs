//! `podwire kube generate`

use std::path::PathBuf;

use engine::{Engine, inspect_image};
use jiff::Timestamp;
use kube::Kind;
use serde_json::Value;

use crate::flags::{self, Command};
use crate::global::{Podwire, write};
use crate::outcome::{Failure, Outcome, plain};

#[derive(clap::Args)]
pub(crate) struct KubeGenerate {
    /// Write to this file, which must not be there yet
    #[arg(short, long, value_name = "string")]
    filename: Option<PathBuf>,
    /// What to write: pod or deployment
    #[arg(short = 't', long = "type", value_name = "string", default_value = "pod")]
    kind: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for KubeGenerate {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_least(1, &self.arguments)?;
        let kind = match self.kind.as_str() {
            "pod" => Kind::Pod,
            "deployment" => Kind::Deployment,
            other => {
                return Err(Failure::new(format!(
                    "--type {other} is not supported by podwire yet: pod and deployment are"
                )));
            }
        };
        let engine = podwire.engine()?;
        let text = generate(&engine, &self.arguments, kind)?;
        let Some(path) = &self.filename else {
            write(&text)?;
            return Ok(0);
        };
        let file =
            std::fs::File::create_new(path).and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        file.map_err(|e| Failure::new(format!("cannot write {}: {}", path.display(), plain(&e))))?;
        Ok(0)
    }
}

/// One pod, or containers that are to be one.
fn generate(engine: &Engine, names: &[String], kind: Kind) -> Result<String, Failure> {
    let found = engine.find_pod(&names[0]).ok();
    let (name, infra, members) = match (found, names) {
        (Some(pod), [_]) => {
            let all = engine.pods()?;
            let pod =
                all.into_iter().find(|p| p.id == pod).ok_or_else(|| Failure::new("the pod was removed meanwhile"))?;
            let infra = pod.infra.map(|id| engine.inspect(&id)).transpose()?;
            let members = pod.containers.iter().filter(|member| !member.is_infra).map(|member| member.id).collect();
            (pod.name, infra, members)
        }
        (Some(_), _) => return Err(Failure::new("one pod at a time: a file describes one")),
        (None, names) => {
            let members = names.iter().map(|name| engine.find(name)).collect::<Result<Vec<_>, _>>()?;
            let first = engine.inspect(&members[0])?;
            (format!("{}-pod", first["Name"].as_str().unwrap_or_default()), None, members)
        }
    };
    let images = engine.images()?;
    let mut containers = Vec::new();
    for id in members {
        let shown = engine.inspect(&id)?;
        let image = shown["Image"].as_str().and_then(|image| images.find(image).ok());
        containers.push((shown, image.map_or(Value::Null, |image| inspect_image(&image))));
    }
    if containers.is_empty() {
        return Err(Failure::new(format!("pod {name} has no containers to write")));
    }
    kube::write(&name, infra.as_ref(), &containers, kind, Timestamp::now()).map_err(Failure::new)
}
