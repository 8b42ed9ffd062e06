//! `commit`: an image of what a container changed.
//!
//! ```text
//!   container's upper directory ──pack──> pipe ──unpack──> a layer of its own, with its frame
//!   the image's layers ────────────────────────────────────> below it; with squash, all in one
//! ```

use std::io::{self, BufWriter};
use std::path::Path;

use jiff::Timestamp;
use linux::userns::IdMaps;
use model::ImageId;
use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::frame;
use crate::give::{Format, Packing};
use crate::image::Image;
use crate::images::Images;
use crate::import::{Change, apply};
use crate::install::{NewImage, NewLayer, Staged};
use crate::layer::{self, Limits, Unpacked};
use crate::load::{document, local_name};
use crate::pack::{self, Level, View};
use crate::pull::image_id;

/// What becomes an image, and what it is to be like.
#[derive(Debug)]
pub struct Commit<'a> {
    /// What the container was made of.
    pub image: &'a Image,
    /// How that was called.
    pub image_name: &'a str,
    /// The container's own files.
    pub upper: &'a Path,
    /// Whose these are inside, when they belong to others on disk.
    pub owners: Option<&'a IdMaps>,
    /// How the image is run: `config` of its configuration.
    pub config: Map<String, Value>,
    /// `-c`: what is changed of that.
    pub changes: &'a [Change],
    /// `-a`
    pub author: Option<&'a str>,
    /// `-m`, which only Docker's configurations have a place for.
    pub message: Option<&'a str>,
    /// `-f`
    pub format: Format,
    /// `--squash`: one layer with everything.
    pub squash: bool,
    /// Its name, as typed; none leaves it nameless.
    pub name: Option<&'a str>,
    /// When: now.
    pub created: Timestamp,
}

impl Images<'_> {
    /// Makes the image. `still_there`, asked when all is read, says whether the container's files were there all the time.
    pub fn commit(&self, commit: &Commit<'_>, still_there: impl FnOnce() -> bool) -> Result<ImageId> {
        let names: Vec<String> = commit.name.map(local_name).transpose()?.into_iter().collect();
        let staged = Staged::begin(self, 1)?;
        let unpacked = packed(commit, staged.layer(0).1).map_err(|e| e.within("committing"))?;
        if !still_there() {
            return Err(ImageError::Content("the container was removed while it was committed".to_owned()));
        }
        let (mut below, mut blobs) = if commit.squash { (Vec::new(), Vec::new()) } else { layers_of(commit)? };
        let own = unpacked.diff.id.clone();
        blobs.push(json!({
            "mediaType": commit.format.layer(Packing::Plain),
            "digest": own,
            "size": unpacked.diff.archive,
        }));
        below.push(own);
        let config = configuration(commit, &below).to_string().into_bytes();
        let layers = below.into_iter().map(|diff_id| NewLayer { diff_id, blob: None, size: None });
        let new = NewImage {
            id: image_id(&config),
            layers: layers.collect(),
            document: document(commit.format, blobs, config)?,
            names,
            arrival: None,
        };
        self.install_staged(&new, staged, unpacked)
    }
}

/// The container's files as a layer in `to`.
fn packed(commit: &Commit<'_>, to: &Path) -> Result<Unpacked> {
    let mut levels = vec![Level { directory: commit.upper, owners: commit.owners }];
    levels.extend(commit.image.layers.iter().map(|directory| Level { directory, owners: None }));
    let view = if commit.squash { View::Whole } else { View::Layer };
    let (mut reader, writer) = io::pipe().map_err(|e| ImageError::Content(format!("no pipe: {e}")))?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let pack = scope.spawn(|| pack::pack(&levels, view, BufWriter::with_capacity(1 << 16, writer)));
        let unpacked = layer::unpack(&mut reader, None, to, &Limits::STRANGERS);
        // Whoever packs is not to fail because nobody takes it.
        let _ = io::copy(&mut reader, &mut io::sink());
        let packed = pack.join().unwrap_or_else(|_| Err(ImageError::Content("packing failed: a bug".to_owned())));
        (packed, unpacked)
    });
    packed.and(unpacked)
}

/// Diff ids and blobs of the image's own layers, lowest first.
fn layers_of(commit: &Commit<'_>) -> Result<(Vec<Digest>, Vec<Value>)> {
    let (_, diff_ids) = crate::manifest::configuration(commit.image.raw_config.as_bytes())?;
    let manifest: Value = serde_json::from_str(&commit.image.manifest).unwrap_or_default();
    let came = manifest["layers"].as_array().filter(|list| list.len() == diff_ids.len());
    let blobs = diff_ids.iter().zip(commit.image.layers.iter().rev()).enumerate();
    let blobs = blobs.map(|(n, (diff_id, directory))| {
        let blob = came.map(|list| &list[n]).filter(|blob| blob["digest"].is_string() && blob["size"].is_u64());
        let (packing, digest, size) = match blob {
            Some(blob) => (Packing::of(&blob["mediaType"]), blob["digest"].clone(), blob["size"].clone()),
            None => (Packing::Plain, json!(diff_id), json!(frame::archive_size(directory)?)),
        };
        Ok(json!({ "mediaType": commit.format.layer(packing), "digest": digest, "size": size }))
    });
    let blobs = blobs.collect::<Result<Vec<_>>>()?;
    Ok((diff_ids, blobs))
}

fn configuration(commit: &Commit<'_>, diff_ids: &[Digest]) -> Value {
    let base: Value = serde_json::from_str(&commit.image.raw_config).unwrap_or_default();
    let created = commit.created.to_string();
    let mut config = commit.config.clone();
    config.retain(|_, value| !value.is_null());
    apply(commit.changes, &mut config);
    let mut history = if commit.squash { Vec::new() } else { base["history"].as_array().cloned().unwrap_or_default() };
    let mut step =
        json!({ "created": created, "created_by": "/bin/sh", "comment": format!("FROM {}", commit.image_name) });
    let mut all = json!({ "created": created, "config": config, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    if let Some(author) = commit.author {
        step["author"] = json!(author);
        all["author"] = json!(author);
    }
    history.push(step);
    all["history"] = json!(history);
    for key in ["architecture", "os", "variant", "os.version", "os.features"] {
        if let Some(value) = base.get(key).filter(|value| !value.is_null()) {
            all[key] = value.clone();
        }
    }
    if let Some(message) = commit.message {
        all["comment"] = json!(message);
    }
    all
}
