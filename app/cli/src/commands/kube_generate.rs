//! `podwire kube generate`

use std::path::PathBuf;

use engine::{Engine, inspect_image};
use jiff::Timestamp;
use kube::{Files, Kind, Written};
use serde_json::Value;

use crate::flags::{self, Command, unsigned};
use crate::global::{Podwire, write};
use crate::outcome::{Failure, Outcome, plain};

#[derive(clap::Args)]
pub(crate) struct KubeGenerate {
    /// Write to this file, which must not be there yet
    #[arg(short, long, value_name = "string")]
    filename: Option<PathBuf>,
    /// How many replicas a cluster is to run, of a deployment
    #[arg(short, long, value_name = "int", value_parser = unsigned)]
    replicas: Option<u32>,
    /// Write a service, too, by which a cluster publishes the ports
    #[arg(short, long)]
    service: bool,
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
        if self.replicas.is_some() && kind != Kind::Deployment {
            return Err(Failure::new("--replicas can only be set when --type is set to deployment"));
        }
        let engine = podwire.engine()?;
        let text = self.generate(&engine, kind)?;
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

impl KubeGenerate {
    /// One pod, or containers that are to be one.
    fn generate(&self, engine: &Engine, kind: Kind) -> Result<String, Failure> {
        let names = &self.arguments[..];
        let found = engine.find_pod(&names[0]).ok();
        let pod = found.map(|id| engine.inspect_pod(&id.to_string())).transpose()?;
        let (name, infra, members) = match (found, names) {
            (Some(pod), [_]) => {
                let all = engine.pods()?;
                let pod = all
                    .into_iter()
                    .find(|p| p.id == pod)
                    .ok_or_else(|| Failure::new("the pod was removed meanwhile"))?;
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
            if shown["Rootfs"] != "" {
                let name = shown["Name"].as_str().unwrap_or_default();
                return Err(Failure::new(format!("container {name} has no image that a cluster could run it from")));
            }
            let image = shown["Image"].as_str().and_then(|image| images.find(image).ok());
            containers.push((shown, image.map_or(Value::Null, |image| inspect_image(&image))));
        }
        if containers.is_empty() {
            return Err(Failure::new(format!("pod {name} has no containers to write")));
        }
        let files = files(engine, infra.as_ref(), &containers);
        let written = Written {
            name: &name,
            pod: pod.as_ref(),
            infra: infra.as_ref(),
            containers: &containers,
            files: &files,
            kind,
            replicas: self.replicas.unwrap_or(1),
            service: self.service,
            now: Timestamp::now(),
        };
        kube::write(&written).map_err(Failure::new)
    }
}

/// What is in the volumes of the pod that none of its containers can write to: what a ConfigMap or a Secret was.
fn files(engine: &Engine, infra: Option<&Value>, containers: &[(Value, Value)]) -> Files {
    let mounts = |shown: &Value| shown["Mounts"].as_array().cloned().unwrap_or_default();
    let mut found = Files::new();
    for volume in infra.map(mounts).unwrap_or_default() {
        let Some(name) = volume["Name"].as_str() else { continue };
        let is_written = |mount: &Value| mount["Name"] == name && mount["RW"] != false;
        if containers.iter().any(|(shown, _)| mounts(shown).iter().any(is_written)) {
            continue;
        }
        let entries = std::fs::read_dir(engine.volumes_path().join(name).join("_data")).into_iter().flatten().flatten();
        let text = |entry: std::fs::DirEntry| {
            Some((entry.file_name().into_string().ok()?, std::fs::read_to_string(entry.path()).ok()?))
        };
        let texts: std::collections::BTreeMap<_, _> = entries.filter_map(text).collect();
        if !texts.is_empty() {
            found.insert(name.to_owned(), texts);
        }
    }
    found
}
