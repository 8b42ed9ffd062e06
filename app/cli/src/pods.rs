//! What the commands for pods have in common: which pods are meant, and how each is told of.

use engine::{Engine, Kind};
use model::PodId;

use crate::flags;
use crate::global::{complain, say};
use crate::outcome::{Failure, Outcome};

/// Names, `--pod-id-file`, `--all` or `--latest`.
#[derive(clap::Args, Debug)]
pub(crate) struct PodNames {
    /// All pods
    #[arg(short, long)]
    all: bool,
    /// The pod created last
    #[arg(short, long)]
    latest: bool,
    /// Read the pod ID from the file
    #[arg(long, value_name = "stringArray")]
    pod_id_file: Vec<std::path::PathBuf>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl PodNames {
    /// The pods, each with what it was called. All must be there, unless `lenient`.
    pub(crate) fn resolve(&self, engine: &Engine, lenient: bool) -> Result<Vec<(String, PodId)>, Failure> {
        let mut names = self.arguments.clone();
        for path in &self.pod_id_file {
            names.push(read_id_file(path)?);
        }
        match (names.is_empty(), self.all, self.latest) {
            (_, true, true) => return Err(Failure::new("--all and --latest cannot be used together")),
            (false, true, _) => return Err(Failure::new("no arguments are needed with --all")),
            (false, _, true) => return Err(Failure::new("no arguments are needed with --latest")),
            (true, false, false) => return Err(Failure::new("you must provide at least one name or id")),
            (true, ..) => {
                let pods = engine.pods()?;
                let skipped = if self.latest { pods.len().saturating_sub(1) } else { 0 };
                if self.latest && pods.is_empty() {
                    return Err(Failure::new("no pods have been created: no such pod"));
                }
                return Ok(pods.iter().skip(skipped).map(|pod| (pod.id.to_string(), pod.id)).collect());
            }
            _ => {}
        }
        let mut found = Vec::new();
        for name in names {
            match engine.find_pod(&name) {
                Err(error) if lenient && error.kind == Kind::NotFound => {}
                id => found.push((name, id?)),
            }
        }
        Ok(found)
    }
}

/// The id in a file that `--pod-id-file` has written.
pub(crate) fn read_id_file(path: &std::path::Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format!("reading pod ID file: {}: {}", path.display(), crate::outcome::plain(&e))))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// One pod by name, or the latest.
pub(crate) fn one(engine: &Engine, arguments: &[String], latest: bool) -> Result<PodId, Failure> {
    match (arguments, latest) {
        ([name], false) => Ok(engine.find_pod(name)?),
        ([], true) => {
            let pods = engine.pods()?;
            pods.last().map(|pod| pod.id).ok_or_else(|| Failure::new("no pods have been created: no such pod"))
        }
        _ => {
            flags::exactly(1, arguments)?;
            Err(Failure::new("no arguments are needed with --latest"))
        }
    }
}

/// Does it to every pod; the worst exit code counts.
pub(crate) fn each(
    pods: Vec<(String, PodId)>,
    mut act: impl FnMut(&str, &str) -> Result<String, engine::Error>,
) -> Outcome {
    let mut worst = 0;
    for (name, id) in pods {
        match act(&name, &id.to_string()) {
            Ok(line) => say(line)?,
            Err(error) => {
                complain(format_args!("Error: {error}"));
                worst = worst.max(error.exit_code());
            }
        }
    }
    Ok(worst)
}
