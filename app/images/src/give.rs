//! Giving images away: what `save` and `push` have in common.
//!
//! ```text
//!   layers ──frame──> archive ──gzip──> spooled, digest known ──> there already? ──no──> Destination::blob
//!   configuration, as it came ─────────────────────────────────────────────────────────> Destination::blob
//!   manifest: as it came when nothing had to be packed anew, else with the new blobs ──> Destination::manifest
//! ```
//!
//! **How it works.** An archive is rebuilt from its frame ([`crate::frame`]) and compared with its diff id while it is packed
//! into a file without a name, because a registry and a tar header want to know size and digest first. A blob that the
//! destination has, under the digest it came by or that it went out by before, is not packed at all.
//!
//! **Invariants.** The configuration goes out as it came, so an image has the same id everywhere. Nothing is named
//! at the destination before all of it is there. The same layer packed twice has the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use model::ImageId;
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use crate::digest::{Digest, Hasher};
use crate::error::{ImageError, Result};
use crate::frame;
use crate::image::Document;
use crate::images::Images;
use crate::install::PARALLEL;
use crate::manifest::{self, OCI_MANIFEST};
use crate::parallel::{self, Stop};
use crate::progress::{Event, Progress};

/// How a layer's archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip: what everybody reads.
    Gzip,
    /// zstd: smaller and faster, for OCI manifests.
    Zstd,
}

impl Packing {
    /// What a layer's media type says.
    pub(crate) fn of(media_type: &Value) -> Self {
        match media_type.as_str() {
            Some(text) if text.ends_with("gzip") => Self::Gzip,
            Some(text) if text.ends_with("zstd") => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// The kind of manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/vnd.oci.image.manifest.v1+json`
    Oci,
    /// Docker's schema 2: `application/vnd.docker.distribution.manifest.v2+json`
    Docker,
}

impl Format {
    fn of(media_type: &str) -> Self {
        if media_type.starts_with("application/vnd.docker.") { Self::Docker } else { Self::Oci }
    }

    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    pub(crate) fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    pub(crate) fn layer(self, packing: Packing) -> &'static str {
        match (self, packing) {
            (Self::Oci, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Oci, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::Docker, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Self::Docker, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

/// What is asked of the way an image goes out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// The destination's own, or the image's, when not said.
    pub format: Option<Format>,
    /// The destination's own when not said.
    pub packing: Option<Packing>,
}

/// Where an image goes.
pub(crate) trait Destination: Sync {
    /// How layers are packed there when nothing else is wished.
    fn packing(&self) -> Packing;

    /// The only kind of manifest that is possible there, if there is only one.
    fn format(&self) -> Option<Format>;

    /// How many blobs may come at once.
    fn threads(&self) -> usize {
        PARALLEL
    }

    /// Is this blob there already?
    fn has(&self, blob: &Blob) -> Result<bool>;

    /// Has the destination take the blob from a place of its own; `false` when it cannot.
    fn borrow(&self, _: &Blob) -> Result<bool> {
        Ok(false)
    }

    /// Takes a blob.
    fn blob(&self, blob: &Blob, content: &Content<'_>, progress: &dyn Progress) -> Result<()>;

    /// Takes the manifest, the last of an image, and names the image.
    fn manifest(&self, manifest: &Built) -> Result<()>;
}

/// A blob by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) kind: BlobKind,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobKind {
    Layer(Packing),
    Configuration,
}

/// A blob's bytes.
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    /// A file of its own.
    Spooled(&'a File),
    /// A layer's archive, rebuilt while it is written.
    Archive(&'a Layer),
}

impl Content<'_> {
    /// All of it, to `out`; an archive is checked.
    pub(crate) fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let copied = match self {
            Self::Bytes(bytes) => out.write_all(bytes),
            Self::Spooled(file) => {
                let mut file: &File = file;
                file.seek(SeekFrom::Start(0)).and_then(|_| io::copy(&mut file, out)).map(drop)
            }
            Self::Archive(layer) => return layer.write_to(out),
        };
        copied.map_err(crate::layer::read_error)
    }
}

/// A manifest that is ready to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) config: Digest,
    /// Lowest first.
    pub(crate) layers: Vec<Blob>,
}

/// A layer of an image that goes out.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) diff_id: Digest,
    diff: PathBuf,
    /// The blob it came as, when it was packed.
    came_as: Option<(Digest, u64)>,
}

/// An image that goes out.
pub(crate) struct Outgoing {
    /// Where files without a name are made.
    overlay: PathBuf,
    document: Document,
    /// Lowest first.
    layers: Vec<Layer>,
}

impl Images<'_> {
    /// The image `id`, to be given away.
    pub(crate) fn outgoing(&self, id: &ImageId) -> Result<Outgoing> {
        let (document, numbers) =
            self.store.read(|tx| Ok::<_, ImageError>((self.document(tx, id)?, tx.image_layers(id)?)))?;
        let (_, diff_ids) = manifest::configuration(document.config.as_bytes())?;
        let parsed: Value = serde_json::from_str(&document.manifest).unwrap_or_default();
        let came = |n: usize| {
            let layer = parsed.pointer(&format!("/layers/{n}"))?;
            let digest: Digest = layer["digest"].as_str()?.parse().ok()?;
            Some((digest, layer["size"].as_u64()?))
        };
        let layers = diff_ids.into_iter().zip(numbers.iter().rev()).enumerate().map(|(n, (diff_id, number))| Layer {
            came_as: came(n).filter(|(digest, _)| *digest != diff_id),
            diff: self.layer_directory(*number),
            diff_id,
        });
        Ok(Outgoing { overlay: self.overlay(), layers: layers.collect(), document })
    }
}

impl Outgoing {
    /// Gives all of it to `to`.
    pub(crate) fn give(&self, to: &dyn Destination, wish: Wish, progress: &dyn Progress) -> Result<Built> {
        let packing = wish.packing.unwrap_or(to.packing());
        let format = match (to.format().or(wish.format), wish.packing) {
            (Some(format), _) => format,
            // Docker's manifests know no zstd.
            (None, Some(Packing::Zstd)) => Format::Oci,
            (None, _) => Format::of(&self.document.manifest_type),
        };
        if (format, packing) == (Format::Docker, Packing::Zstd) {
            return Err(ImageError::Invalid("zstd compression needs an OCI manifest: use --format oci".to_owned()));
        }
        let layers = parallel::each(self.layers.len(), to.threads(), |n, stop| {
            let layer = &self.layers[n];
            self.give_layer(layer, to, packing, wish.packing.is_some(), progress, stop).map_err(|error| match error {
                ImageError::Content(_) => error.within(&format!("layer {}", layer.diff_id)),
                other => other,
            })
        })?;
        let config = Blob {
            kind: BlobKind::Configuration,
            digest: Digest::of(self.document.config.as_bytes()),
            size: self.document.config.len() as u64,
        };
        progress.event(Event::Configuration(&config.digest));
        if !to.has(&config)? {
            to.blob(&config, &Content::Bytes(self.document.config.as_bytes()), progress)?;
        }
        let built = self.manifest(format, &config, layers);
        progress.event(Event::Recording);
        to.manifest(&built)?;
        Ok(built)
    }

    fn give_layer(
        &self,
        layer: &Layer,
        to: &dyn Destination,
        packing: Packing,
        wished: bool,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<Blob> {
        if packing == Packing::Plain {
            let size = frame::archive_size(&layer.diff)?;
            let blob = Blob { kind: BlobKind::Layer(packing), digest: layer.diff_id.clone(), size };
            return send(to, &blob, &Content::Archive(layer), progress).map(|()| blob);
        }
        for blob in layer.known().into_iter().filter(|blob| !wished || blob.kind == BlobKind::Layer(packing)) {
            if to.has(&blob)? || to.borrow(&blob)? {
                progress.event(Event::LayerPresent(&blob.digest));
                return Ok(blob);
            }
        }
        let (file, blob) = layer.pack(&self.overlay, packing, stop)?;
        send(to, &blob, &Content::Spooled(&file), progress)?;
        layer.remember(&blob);
        Ok(blob)
    }

    /// As it came, if it still says what is true; else with the blobs that went out.
    fn manifest(&self, format: Format, config: &Blob, layers: Vec<Blob>) -> Built {
        let mut parsed: Value = serde_json::from_str(&self.document.manifest).unwrap_or_default();
        let same_format = Format::of(&self.document.manifest_type) == format;
        let listed = layers.iter().enumerate().map(|(n, blob)| {
            let came = parsed.pointer(&format!("/layers/{n}"));
            match came.filter(|came| same_format && came["digest"].as_str() == Some(blob.digest.as_str())) {
                Some(came) => came.clone(),
                None => {
                    let BlobKind::Layer(packing) = blob.kind else { unreachable!("layers are layers") };
                    json!({"mediaType": format.layer(packing), "digest": blob.digest, "size": blob.size})
                }
            }
        });
        let listed: Vec<Value> = listed.collect();
        let unchanged = same_format && parsed["layers"].as_array() == Some(&listed);
        let bytes = match (unchanged, same_format) {
            (true, _) => self.document.manifest.clone().into_bytes(),
            (false, true) => {
                parsed["layers"] = listed.into();
                parsed.to_string().into_bytes()
            }
            (false, false) => json!({
                "schemaVersion": 2,
                "mediaType": format.manifest(),
                "config": {"mediaType": format.config(), "digest": config.digest, "size": config.size},
                "layers": listed,
            })
            .to_string()
            .into_bytes(),
        };
        let media_type = parsed["mediaType"].as_str().filter(|_| same_format).unwrap_or(format.manifest()).to_owned();
        Built { digest: Digest::of(&bytes), bytes, media_type, config: config.digest.clone(), layers }
    }
}

fn send(to: &dyn Destination, blob: &Blob, content: &Content<'_>, progress: &dyn Progress) -> Result<()> {
    if to.has(blob)? {
        progress.event(Event::LayerPresent(&blob.digest));
        return Ok(());
    }
    progress.event(Event::LayerBegun(&blob.digest, Some(blob.size)));
    to.blob(blob, content, progress)?;
    progress.event(Event::LayerDone(&blob.digest));
    Ok(())
}

/// The file beside a layer's files that has the blobs it went out as, one a line: `gzip sha256:… SIZE`.
const BLOBS: &str = "blobs";

/// So many lines are read of it.
const BLOBS_MAX: usize = 16;

impl Layer {
    /// Writes the archive and compares it with its diff id.
    pub(crate) fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut hashing = Hashing { inner: out, hasher: self.diff_id.hasher(), count: 0 };
        frame::rebuild(&self.diff, &mut hashing)?;
        let got = hashing.hasher.finish();
        match got == self.diff_id {
            true => Ok(()),
            false => Err(ImageError::Content(format!(
                "its files were changed since it was unpacked: they give {got}; remove the image and pull it again"
            ))),
        }
    }

    /// The packed blobs that have this archive in them, as far as we have met them.
    fn known(&self) -> Vec<Blob> {
        let came = self.came_as.iter().map(|(digest, size)| (digest.clone(), *size, None));
        let text = std::fs::read_to_string(self.diff.with_file_name(BLOBS)).unwrap_or_default();
        let written = text.lines().take(BLOBS_MAX).filter_map(|line| {
            let mut words = line.split(' ');
            let packing = words.next().filter(|word| matches!(*word, "gzip" | "zstd"))?.to_owned();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, Some(packing)))
        });
        let blob = |(digest, size, packing): (Digest, u64, Option<String>)| Blob {
            kind: BlobKind::Layer(if packing.as_deref() == Some("zstd") { Packing::Zstd } else { Packing::Gzip }),
            digest,
            size,
        };
        came.chain(written).map(blob).collect()
    }

    /// Writes down that it went out as `blob`. What is lost of that costs time only.
    fn remember(&self, blob: &Blob) {
        let known = self.known();
        if known.len() >= BLOBS_MAX || known.contains(blob) {
            return;
        }
        let word = if blob.kind == BlobKind::Layer(Packing::Zstd) { "zstd" } else { "gzip" };
        let line = format!("{word} {} {}\n", blob.digest, blob.size);
        let opened = File::options().create(true).append(true).open(self.diff.with_file_name(BLOBS));
        if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            tracing::debug!(%error, "what a layer went out as is not remembered");
        }
    }

    /// Packs the archive into a file without a name.
    fn pack(&self, overlay: &Path, packing: Packing, stop: &Stop) -> Result<(File, Blob)> {
        let file = nameless(overlay)?;
        let blob = self.pack_into(&file, overlay, packing, stop)?;
        Ok((file, blob))
    }

    fn pack_into(&self, file: &File, overlay: &Path, packing: Packing, stop: &Stop) -> Result<Blob> {
        let failed = |error: io::Error| match error.downcast::<ImageError>() {
            Ok(ours) => ours,
            Err(error) => ImageError::file(overlay, error),
        };
        let out = Hashing { inner: BufWriter::new(file), hasher: Hasher::Sha256(Default::default()), count: 0 };
        let out = Stoppable { inner: out, stop };
        let out = match packing {
            Packing::Plain => unreachable!("a plain archive needs no packing"),
            Packing::Gzip => {
                let mut packed = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                self.write_to(&mut packed)?;
                packed.finish().map_err(failed)?
            }
            Packing::Zstd => {
                let mut packed = zstd::stream::write::Encoder::new(out, 3).map_err(failed)?;
                self.write_to(&mut packed)?;
                packed.finish().map_err(failed)?
            }
        };
        let Hashing { mut inner, hasher, count } = out.inner;
        inner.flush().map_err(failed)?;
        Ok(Blob { kind: BlobKind::Layer(packing), digest: hasher.finish(), size: count })
    }
}

/// A file in `directory` that has no name, and so goes with us.
pub(crate) fn nameless(directory: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600));
    Ok(File::from(file.map_err(|e| ImageError::file(directory, e))?))
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Ends when another layer failed.
struct Stoppable<'a, W> {
    inner: W,
    stop: &'a Stop,
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(ImageError::Content("stopped, because another layer failed".to_owned())));
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Tells how much of a blob has been read.
pub(crate) struct Told<'a, R> {
    pub(crate) inner: R,
    pub(crate) digest: &'a Digest,
    pub(crate) read: u64,
    pub(crate) progress: &'a dyn Progress,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read += n as u64;
        self.progress.event(Event::LayerRead(self.digest, self.read));
        Ok(n)
    }
}

/// How large the archive of the layer in `diff` is; that of its files, when its frame is missing.
pub(crate) fn shown_size(diff: &Path, files: u64) -> u64 {
    frame::archive_size(diff).unwrap_or(files)
}
