//! How layers and images become ours.
//!
//! ```text
//!   layer_begin ──> <root>/overlay/<n>/diff ──unpack──> copy the root's mode up ──> syncfs ──> one transaction
//!        │ a killed pull: a number without an image; the maker's process id is beside it     layer_done · image_put · name_set
//! ```
//!
//! **Why it is safe.** Before the transaction nothing refers to the directories, and [`Staged`] (or, after a kill,
//! [`Images::leftovers`]) removes them. syncfs comes before the transaction, so that not even a power cut
//! leaves a recorded layer incomplete. Another process may have finished the same layer meanwhile: then its
//! layer is used and ours removed. It may also have removed a layer that we meant to reuse: then we begin again.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use linux::HostLock;
use model::ImageId;
use rustix::fs::{Gid, Mode, Uid};

use crate::digest::{Digest, chain_id};
use crate::error::{ImageError, Result};
use crate::image::Document;
use crate::images::Images;
use crate::layer::{self, Limits, Unpacked};
use crate::parallel::{self, Stop};
use crate::progress::{Event, Progress};

/// How many layers are fetched and unpacked at once. More does not help: two saturate a usual link and disk.
pub(crate) const PARALLEL: usize = 3;

/// How often an image is begun again because a layer it shares was removed meanwhile.
const AGAIN: usize = 3;

/// An image whose layers' diff ids are known.
pub(crate) struct NewImage {
    pub(crate) id: ImageId,
    pub(crate) document: Document,
    /// Lowest first.
    pub(crate) layers: Vec<NewLayer>,
    /// Names it gets.
    pub(crate) names: Vec<String>,
    /// The event that tells of it: `pull`, `loadfromarchive`, `import`; a commit is the container's.
    pub(crate) arrival: Option<&'static str>,
}

/// A layer to be had.
#[derive(Debug, Clone)]
pub(crate) struct NewLayer {
    pub(crate) diff_id: Digest,
    /// Digest and size of the blob, where a manifest promised them.
    pub(crate) blob: Option<(Digest, u64)>,
    /// Bytes to come, for the progress bar.
    pub(crate) size: Option<u64>,
}

impl NewLayer {
    /// What the layer is called while it is copied.
    fn shown(&self) -> &Digest {
        self.blob.as_ref().map_or(&self.diff_id, |(digest, _)| digest)
    }
}

/// Gives the bytes of an image's layers; asked from several threads.
pub(crate) trait Source: Sync {
    /// The blob of the `n`th layer, lowest first.
    fn layer(&self, n: usize) -> Result<Box<dyn Read + '_>>;
}

/// Layers' directories in the making: removed when dropped, unless kept.
pub(crate) struct Staged<'a> {
    images: &'a Images<'a>,
    layers: Vec<(i64, PathBuf)>,
}

impl<'a> Staged<'a> {
    /// Begins `count` layers.
    pub(crate) fn begin(images: &'a Images<'a>, count: usize) -> Result<Self> {
        let numbers = match count {
            0 => Vec::new(),
            _ => images.store.write(|tx| (0..count).map(|_| tx.layer_begin()).collect::<Result<Vec<_>, _>>())?,
        };
        let layers: Vec<_> = numbers.into_iter().map(|n| (n, images.layer_directory(n))).collect();
        // From here on a failure removes what was made.
        let staged = Self { images, layers };
        for (_, diff) in &staged.layers {
            make_directory(diff.parent().unwrap_or(diff), 0o700)?;
            make_directory(diff, 0o755)?;
        }
        Ok(staged)
    }

    /// The number and directory of the `n`th.
    pub(crate) fn layer(&self, n: usize) -> (i64, &Path) {
        let (number, path) = &self.layers[n];
        (*number, path)
    }

    /// They are layers of an image now, except those `superseded`, whose directories go.
    fn keep(mut self, superseded: &[i64]) {
        let layers = std::mem::take(&mut self.layers);
        for (number, _) in layers.iter().filter(|(number, _)| superseded.contains(number)) {
            self.images.remove_directory(*number);
        }
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.layers.is_empty() {
            return;
        }
        self.layers.iter().for_each(|(number, _)| self.images.remove_directory(*number));
        let numbers = self.layers.iter().map(|(number, _)| *number);
        let forgotten = self.images.store.write(|tx| numbers.clone().try_for_each(|number| tx.layer_remove(number)));
        if let Err(error) = forgotten {
            // The next command's repair forgets them: their maker will be dead.
            tracing::debug!(%error, "unfinished layers are still in the store");
        }
    }
}

/// A layer of the image being installed: where it is, and what came out of it if it was unpacked now.
struct Ready {
    number: i64,
    chain: Digest,
    unpacked: Option<Unpacked>,
}

/// Why an image could not be recorded.
enum Refusal {
    /// A layer that was to be reused is gone.
    Begin,
    Failed(ImageError),
}

impl From<store::StoreError> for Refusal {
    fn from(error: store::StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Images<'_> {
    /// Brings in an image's layers, as far as they are not here, and records it.
    pub(crate) fn install(&self, image: &NewImage, source: &dyn Source, progress: &dyn Progress) -> Result<ImageId> {
        // Who wants the same image at the same time waits for the first, and finds its layers.
        let lock = Claim::take(self, &image.id)?;
        for _ in 0..AGAIN {
            match self.try_install(image, source, progress) {
                Err(Refusal::Begin) => {}
                Err(Refusal::Failed(error)) => return Err(error),
                Ok(()) => {
                    drop(lock);
                    return Ok(image.id);
                }
            }
        }
        Err(ImageError::Content("layers of this image were removed again and again meanwhile".to_owned()))
    }

    fn try_install(&self, image: &NewImage, source: &dyn Source, progress: &dyn Progress) -> Result<(), Refusal> {
        let chains = chains(image);
        let present = self.store.read(|tx| {
            chains.iter().map(|chain| tx.layer_by_chain(chain.as_str())).collect::<Result<Vec<_>, store::StoreError>>()
        })?;
        let missing: Vec<usize> = (0..present.len()).filter(|n| present[*n].is_none()).collect();
        for n in (0..present.len()).filter(|n| present[*n].is_some()) {
            progress.event(Event::LayerPresent(image.layers[n].shown()));
        }
        let staged = Staged::begin(self, missing.len()).map_err(Refusal::Failed)?;
        let mut unpacked = fetch(&image.layers, &missing, &staged, source, progress).map_err(Refusal::Failed)?;
        let mut ready = Vec::new();
        for (n, chain) in chains.into_iter().enumerate() {
            ready.push(match missing.iter().position(|m| *m == n) {
                Some(at) => Ready { number: staged.layer(at).0, chain, unpacked: unpacked[at].take() },
                None => Ready { number: present[n].unwrap_or_default(), chain, unpacked: None },
            });
        }
        progress.event(Event::Recording);
        self.settle(&ready)?;
        let superseded = self.record(image, &ready)?;
        staged.keep(&superseded);
        Ok(())
    }

    /// Records an image whose topmost layer is staged, and all others of which are here.
    pub(crate) fn install_staged(&self, image: &NewImage, staged: Staged<'_>, unpacked: Unpacked) -> Result<ImageId> {
        let mut chains = chains(image);
        let own = chains.pop().map(|chain| Ready { number: staged.layer(0).0, chain, unpacked: Some(unpacked) });
        let numbers = self.store.read(|tx| {
            chains.iter().map(|chain| tx.layer_by_chain(chain.as_str())).collect::<Result<Vec<_>, store::StoreError>>()
        })?;
        let gone = || ImageError::Content("a layer of the image was removed meanwhile".to_owned());
        let below = numbers.into_iter().zip(chains);
        let below = below.map(|(n, chain)| Ok(Ready { number: n.ok_or_else(gone)?, chain, unpacked: None }));
        let ready: Vec<Ready> = below.chain(own.map(Ok)).collect::<Result<_>>()?;
        match self.settle(&ready).and_then(|()| self.record(image, &ready)) {
            Ok(superseded) => staged.keep(&superseded),
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::Begin) => return Err(gone()),
        }
        Ok(image.id)
    }

    /// Makes roots alike and everything durable.
    fn settle(&self, ready: &[Ready]) -> Result<(), Refusal> {
        // Overlayfs takes the merged root's mode and owner from the topmost layer; most layers say nothing of it.
        for [below, layer] in ready.array_windows() {
            if layer.unpacked.as_ref().is_some_and(|unpacked| !unpacked.diff.has_root) {
                let from = self.layer_directory(below.number);
                if below.unpacked.is_none() && !from.is_dir() {
                    return Err(Refusal::Begin);
                }
                copy_root(&from, &self.layer_directory(layer.number)).map_err(Refusal::Failed)?;
            }
        }
        if ready.iter().all(|layer| layer.unpacked.is_none()) {
            return Ok(());
        }
        let overlay = self.overlay();
        let failed = |error: std::io::Error| Refusal::Failed(ImageError::file(&overlay, error));
        let directory = std::fs::File::open(&overlay).map_err(failed)?;
        rustix::fs::syncfs(directory.as_fd()).map_err(|e| failed(e.into()))
    }

    /// The one transaction; gives the numbers of staged layers that somebody else's are used instead of.
    fn record(&self, image: &NewImage, ready: &[Ready]) -> Result<Vec<i64>, Refusal> {
        self.store.write(|tx| {
            let mut numbers = Vec::new();
            let mut superseded = Vec::new();
            for layer in ready {
                let number = match &layer.unpacked {
                    Some(new) => {
                        tx.layer_done(layer.number, new.diff.id.as_str(), layer.chain.as_str(), new.diff.size)?
                    }
                    None if tx.layer_by_chain(layer.chain.as_str())? == Some(layer.number) => layer.number,
                    None => return Err(Refusal::Begin),
                };
                if number != layer.number {
                    superseded.push(layer.number);
                }
                numbers.push(number);
            }
            numbers.reverse();
            let mut document = image.document.clone();
            if let Some(known) = tx.image_doc::<Document>(&image.id)? {
                document.digests.extend(known.digests);
                document.digests.sort();
                document.digests.dedup();
                document.history = known.history;
            }
            image.names.iter().for_each(|name| document.called(name));
            tx.image_put(&image.id, &document, &numbers)?;
            image.names.iter().try_for_each(|name| tx.name_set(name, &image.id))?;
            let name = image.names.first().map_or("", String::as_str);
            if let Some(arrival) = image.arrival {
                tx.event_add(&store::Event::image(arrival, &image.id.to_string(), name))?;
            }
            Ok(superseded)
        })
    }
}

/// Chain ids, lowest first.
fn chains(image: &NewImage) -> Vec<Digest> {
    let mut below = None;
    let mut all = Vec::new();
    for layer in &image.layers {
        let chain = chain_id(below.as_ref(), &layer.diff_id);
        below = Some(chain.clone());
        all.push(chain);
    }
    all
}

/// Fetches and unpacks the `missing` layers by a few threads. The first failure stops all.
fn fetch(
    layers: &[NewLayer],
    missing: &[usize],
    staged: &Staged<'_>,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<Vec<Option<Unpacked>>> {
    let directories: Vec<&Path> = (0..missing.len()).map(|at| staged.layer(at).1).collect();
    parallel::each(missing.len(), PARALLEL, |at, stop| {
        let n = missing[at];
        fetch_one(&layers[n], n, directories[at], source, progress, stop).map(Some)
    })
}

fn fetch_one(
    layer: &NewLayer,
    n: usize,
    to: &Path,
    source: &dyn Source,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Unpacked> {
    let shown = layer.shown();
    progress.event(Event::LayerBegun(shown, layer.size));
    let reader = Watched { inner: source.layer(n)?, shown, read: 0, told: 0, progress, stop };
    let unpacked = layer::unpack(reader, layer.blob.as_ref().map(|(digest, _)| digest), to, &Limits::STRANGERS)
        .map_err(|error| match error {
            ImageError::Content(_) => error.within(&format!("layer {shown}")),
            other => other,
        })?;
    check(layer, &unpacked)?;
    progress.event(Event::LayerDone(shown));
    Ok(unpacked)
}

/// Is it what was promised?
fn check(layer: &NewLayer, unpacked: &Unpacked) -> Result<()> {
    if let (Some((digest, size)), Some((got, got_size))) = (&layer.blob, &unpacked.blob) {
        if got_size != size {
            let text = format!("layer {digest} has {got_size} bytes and not {size}, as its manifest says");
            return Err(ImageError::Content(text));
        }
        mismatch("layer", digest, got)?;
    }
    mismatch("content of layer", &layer.diff_id, &unpacked.diff.id)
}

fn mismatch(what: &str, wanted: &Digest, got: &Digest) -> Result<()> {
    match wanted == got {
        true => Ok(()),
        false => Err(ImageError::Content(format!("digest mismatch: {what} {wanted} came as {got}"))),
    }
}

/// Tells how far a layer is, and stops when another failed.
struct Watched<'a, R> {
    inner: R,
    shown: &'a Digest,
    read: u64,
    told: u64,
    progress: &'a dyn Progress,
    stop: &'a Stop,
}

/// How many bytes apart progress is told.
const STEP: u64 = 64 * 1024;

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(std::io::Error::other(ImageError::Content("stopped, because another layer failed".to_owned())));
        }
        let n = self.inner.read(buffer)?;
        self.read += n as u64;
        if self.read - self.told >= STEP || (n == 0 && self.told != self.read) {
            self.told = self.read;
            self.progress.event(Event::LayerRead(self.shown, self.read));
        }
        Ok(n)
    }
}

/// The right to bring in an image, one process at a time. Its file goes with it.
struct Claim {
    path: PathBuf,
    _lock: HostLock,
}

/// The beginning of the names of claims' files.
pub(crate) const CLAIM: &str = "pull-";

impl Claim {
    fn take(images: &Images<'_>, id: &ImageId) -> Result<Self> {
        let path = images.overlay().join(format!("{CLAIM}{}", id.short()));
        let lock = HostLock::take(&path).map_err(|e| ImageError::file(&path, e))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Removed while still held: whoever waited for it notices that the file is another, and tries again.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn copy_root(from: &Path, to: &Path) -> Result<()> {
    let stat = rustix::fs::stat(from).map_err(|e| ImageError::file(from, e))?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chown(to, Some(owner.0), Some(owner.1)).map_err(|e| ImageError::file(to, e))?;
    rustix::fs::chmod(to, Mode::from_raw_mode(stat.st_mode)).map_err(|e| ImageError::file(to, e))
}

/// A directory with exactly this mode, whatever the umask.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode)).map_err(|e| ImageError::file(path, e))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(|e| ImageError::file(path, e))
}
