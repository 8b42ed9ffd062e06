//! Which crate of ours depends on which, as `cargo metadata` tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Crate directory (`core/plan`) → directories of the crates it needs to be built; those for tests alone do not count.
pub(crate) type Graph = BTreeMap<String, BTreeSet<String>>;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Asks cargo.
pub(crate) fn metadata() -> Result<Graph> {
    let out = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .context("cargo metadata")?;
    ensure!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    graph(&serde_json::from_slice(&out.stdout)?)
}

fn graph(metadata: &Value) -> Result<Graph> {
    let home = Path::new(metadata["workspace_root"].as_str().context("workspace_root")?);
    let place = |path: &Value| Some(Path::new(path.as_str()?).strip_prefix(home).ok()?.to_string_lossy().into_owned());
    let packages = metadata["packages"].as_array().context("packages")?;
    let entry = |package: &Value| {
        let manifest = place(&package["manifest_path"])?;
        let name = manifest.strip_suffix("/Cargo.toml")?.to_owned();
        let needs = package["dependencies"].as_array()?.iter().filter(|dependency| dependency["kind"].is_null());
        Some((name, needs.filter_map(|dependency| place(&dependency["path"])).collect()))
    };
    Ok(packages.iter().filter_map(entry).collect())
}

/// What stands before the block, and after it.
const FENCES: (&str, &str) = ("<!-- dependencies -->\n```text\n", "```");

/// Puts the block into ARCHITECTURE.md.
pub(crate) fn write() -> Result<()> {
    let path = root().join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path)?;
    let block = block(&metadata()?);
    let written = written(&text)?;
    std::fs::write(&path, text.replace(&format!("{}{written}", FENCES.0), &format!("{}{block}", FENCES.0)))?;
    print!("{block}");
    Ok(())
}

/// The block as it is written there.
pub(crate) fn written(text: &str) -> Result<&str> {
    let (_, rest) = text.split_once(FENCES.0).context("ARCHITECTURE.md has no dependency block")?;
    Ok(rest.split_once(FENCES.1).context("the dependency block has no end")?.0)
}

/// The text that stands in ARCHITECTURE.md.
pub(crate) fn block(graph: &Graph) -> String {
    let line = |(name, needs): (&String, &BTreeSet<String>)| {
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        let line = format!("{name:<14} -> {}", needs.join(" "));
        format!("{}\n", line.trim_end().trim_end_matches(" ->").trim_end())
    };
    graph.iter().map(line).collect()
}
