//! Images made here, from Debian's busybox: no Internet is needed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::BANNER;

/// What an image runs and offers.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Name and tag.
    pub name: String,
    /// `CMD`
    pub command: Vec<String>,
    /// `EXPOSE`, like `80/tcp`
    pub exposed: Vec<String>,
    /// Further files: path without the leading slash, and content.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A web server on port 80 that answers with [`BANNER`], as the guide's `quay.io/libpod/banner`.
pub fn banner() -> Recipe {
    Recipe {
        name: "localhost/banner:latest".to_owned(),
        command: ["httpd", "-f", "-p", "80", "-h", "/www"].map(str::to_owned).into(),
        exposed: vec!["80/tcp".to_owned()],
        files: BTreeMap::from([("www/index.html".to_owned(), format!("{BANNER}\n").into_bytes())]),
    }
}

/// Writes an image as `docker save` does.
pub fn docker_archive(recipe: &Recipe, path: &Path) -> Result<()> {
    let layer = rootfs(recipe)?;
    let layer_digest = hex(&Sha256::digest(&layer));
    let config = serde_json::to_vec(&json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {
            "Cmd": recipe.command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "ExposedPorts": recipe.exposed.iter().map(|port| (port.clone(), json!({}))).collect::<serde_json::Map<_, _>>(),
            // busybox as a container's first process ignores SIGTERM.
            "StopSignal": "SIGKILL",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "podwire's lab"}],
    }))?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let layer_name = format!("{layer_digest}/layer.tar");
    let manifest = json!([{"Config": config_name, "RepoTags": [recipe.name], "Layers": [layer_name]}]);
    let mut archive = tar::Builder::new(File::create(path)?);
    file(&mut archive, &config_name, 0o644, &config)?;
    file(&mut archive, &layer_name, 0o644, &layer)?;
    file(&mut archive, "manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
    archive.into_inner()?.flush()?;
    Ok(())
}

/// The file tree of an image, as a tarball (which `podwire import` takes).
pub fn rootfs(recipe: &Recipe) -> Result<Vec<u8>> {
    let busybox = std::fs::read("/bin/busybox").context("Debian's busybox-static is needed")?;
    let mut archive = tar::Builder::new(Vec::new());
    for (dir, mode) in
        [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("www", 0o755)]
    {
        entry(&mut archive, dir, tar::EntryType::Directory, mode, None, &[])?;
    }
    file(&mut archive, "bin/busybox", 0o755, &busybox)?;
    for applet in applets()? {
        entry(&mut archive, &format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, Some("busybox"), &[])?;
    }
    file(&mut archive, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/www:/bin/sh\n")?;
    file(&mut archive, "etc/group", 0o644, b"root:x:0:\nweb:x:33:\n")?;
    for (path, content) in &recipe.files {
        file(&mut archive, path, 0o644, content)?;
    }
    Ok(archive.into_inner()?)
}

fn applets() -> Result<Vec<String>> {
    let out = Command::new("/bin/busybox").arg("--list").output().context("Debian's busybox-static is needed")?;
    let text = String::from_utf8(out.stdout)?;
    Ok(text.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

fn file<W: Write>(archive: &mut tar::Builder<W>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    entry(archive, path, tar::EntryType::Regular, mode, None, content)
}

fn entry<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    link: Option<&str>,
    content: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_767_225_600);
    header.set_size(content.len() as u64);
    match link {
        Some(target) => archive.append_link(&mut header, path, target)?,
        None => archive.append_data(&mut header, path, content)?,
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
