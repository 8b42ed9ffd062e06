//! Images in files: what `save` writes, and `push` to anything but a registry.
//!
//! ```text
//!   docker-archive  <diff id>.tar · <image id>.json · manifest.json [{Config, RepoTags, Layers}]
//!   oci-archive     blobs/sha256/… · index.json · oci-layout                 the same in a directory: oci, oci-dir
//!   dir             <digest> · manifest.json · version                       docker-dir
//! ```
//!
//! **Invariants.** An archive gets its name when it is whole. Same images, same bytes: times are 1970, and layers go
//! into an archive one after the other.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::give::{Blob, BlobKind, Built, Content, Destination, Format, Packing};
use crate::install::PARALLEL;
use crate::progress::Progress;

/// How images lie in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `docker save`'s.
    DockerArchive,
    /// An OCI layout in a tar file.
    OciArchive,
    /// An OCI layout.
    OciDirectory,
    /// skopeo's `dir:`.
    Directory,
}

impl Layout {
    fn is_archive(self) -> bool {
        matches!(self, Self::DockerArchive | Self::OciArchive)
    }
}

/// Where a package is written.
pub(crate) enum Output<'a> {
    Path(&'a Path),
    Stream(&'a mut (dyn Write + Send)),
}

/// One or more images being written.
pub(crate) struct Package<'a> {
    layout: Layout,
    shelf: Shelf<'a>,
    /// Names of files that are there.
    written: Mutex<BTreeSet<String>>,
    /// What is in it, as the package's own table has it.
    table: Mutex<Vec<Value>>,
}

/// Where files go.
enum Shelf<'a> {
    Directory(PathBuf),
    Archive(Mutex<TarWriter<'a>>, Option<Unnamed>),
}

impl<'a> Package<'a> {
    /// Begins one.
    pub(crate) fn begin(layout: Layout, output: Output<'a>) -> Result<Self> {
        let shelf = match output {
            Output::Stream(out) if layout.is_archive() => Shelf::Archive(Mutex::new(TarWriter(Box::new(out))), None),
            Output::Stream(_) => {
                return Err(ImageError::Invalid("a directory cannot be written to a stream".to_owned()));
            }
            Output::Path(path) if layout.is_archive() => {
                if layout == Layout::DockerArchive && path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0)
                {
                    let text = "docker-archive doesn't support modifying existing images";
                    return Err(ImageError::Invalid(text.to_owned()));
                }
                let (file, unnamed) = Unnamed::create(path)?;
                Shelf::Archive(Mutex::new(TarWriter(Box::new(BufWriter::new(file)))), unnamed)
            }
            Output::Path(path) => {
                std::fs::create_dir_all(path).map_err(|e| ImageError::file(path, e))?;
                if layout == Layout::Directory {
                    clear(path)?;
                }
                Shelf::Directory(path.to_owned())
            }
        };
        Ok(Self { layout, shelf, written: Mutex::default(), table: Mutex::default() })
    }

    /// The place of one image, which will have these names.
    pub(crate) fn image(&self, names: Vec<String>) -> Place<'_, 'a> {
        Place { package: self, names }
    }

    /// Writes the table of contents.
    pub(crate) fn finish(self) -> Result<()> {
        let table = std::mem::take(&mut *lock(&self.table));
        match self.layout {
            Layout::Directory => self.text("version", "Directory Transport Version: 1.1\n")?,
            Layout::DockerArchive => self.text("manifest.json", &format!("{}\n", Value::from(table)))?,
            Layout::OciArchive | Layout::OciDirectory => {
                let all = json!({"schemaVersion": 2, "manifests": self.with_others(table)?});
                self.text("index.json", &all.to_string())?;
                self.text("oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#)?;
            }
        }
        match self.shelf {
            Shelf::Directory(_) => Ok(()),
            Shelf::Archive(tar, unnamed) => {
                let mut tar = tar.into_inner().unwrap_or_else(PoisonError::into_inner);
                tar.finish()?;
                drop(tar);
                unnamed.map_or(Ok(()), Unnamed::name)
            }
        }
    }

    /// The table of an OCI directory also has what was there before, except what has a name of ours now.
    fn with_others(&self, ours: Vec<Value>) -> Result<Vec<Value>> {
        let Shelf::Directory(path) = &self.shelf else { return Ok(ours) };
        let path = path.join("index.json");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ours),
            other => other.map_err(|e| ImageError::file(&path, e))?,
        };
        let before: Value = serde_json::from_slice(&text)
            .map_err(|_| ImageError::Content(format!("{}: is not valid JSON", path.display())))?;
        let name = |entry: &Value| entry.pointer("/annotations/org.opencontainers.image.ref.name").cloned();
        let others = before["manifests"].as_array().cloned().unwrap_or_default().into_iter();
        let mut all: Vec<Value> = others
            .filter(|other| ours.iter().all(|our| (name(our), &our["digest"]) != (name(other), &other["digest"])))
            .filter(|other| name(other).is_none() || ours.iter().all(|our| name(our) != name(other)))
            .collect();
        all.extend(ours);
        Ok(all)
    }

    fn text(&self, name: &str, text: &str) -> Result<()> {
        self.put(name, text.len() as u64, &Content::Bytes(text.as_bytes()))
    }

    fn put(&self, name: &str, size: u64, content: &Content<'_>) -> Result<()> {
        match &self.shelf {
            Shelf::Archive(tar, _) => lock(tar).entry(name, size, content)?,
            Shelf::Directory(directory) => {
                let path = directory.join(name);
                let parent = path.parent().unwrap_or(directory);
                std::fs::create_dir_all(parent).map_err(|e| ImageError::file(parent, e))?;
                let (file, unnamed) = Unnamed::replace(&path)?;
                let mut out = BufWriter::new(file);
                content.write_to(&mut out)?;
                out.flush().map_err(|e| ImageError::file(&path, e))?;
                drop(out);
                unnamed.name()?;
            }
        }
        lock(&self.written).insert(name.to_owned());
        Ok(())
    }

    fn name_of(&self, kind: BlobKind, digest: &Digest) -> String {
        match (self.layout, kind) {
            (Layout::DockerArchive, BlobKind::Layer(_)) => format!("{}.tar", digest.hex()),
            (Layout::DockerArchive, BlobKind::Configuration) => format!("{}.json", digest.hex()),
            (Layout::Directory, _) => digest.hex().to_owned(),
            (Layout::OciArchive | Layout::OciDirectory, _) => {
                format!("blobs/{}", digest.as_str().replacen(':', "/", 1))
            }
        }
    }
}

/// One image of a package.
pub(crate) struct Place<'p, 'a> {
    package: &'p Package<'a>,
    names: Vec<String>,
}

impl Destination for Place<'_, '_> {
    fn packing(&self) -> Packing {
        match self.package.layout {
            Layout::DockerArchive | Layout::Directory => Packing::Plain,
            Layout::OciArchive | Layout::OciDirectory => Packing::Gzip,
        }
    }

    fn format(&self) -> Option<Format> {
        match self.package.layout {
            Layout::DockerArchive => Some(Format::Docker),
            Layout::OciArchive | Layout::OciDirectory => Some(Format::Oci),
            Layout::Directory => None,
        }
    }

    fn threads(&self) -> usize {
        if self.package.layout.is_archive() { 1 } else { PARALLEL }
    }

    fn has(&self, blob: &Blob) -> Result<bool> {
        let name = self.package.name_of(blob.kind, &blob.digest);
        let there_before = match &self.package.shelf {
            // It got its name when it was whole.
            Shelf::Directory(path) => path.join(&name).is_file(),
            Shelf::Archive(..) => false,
        };
        Ok(there_before || lock(&self.package.written).contains(&name))
    }

    fn blob(&self, blob: &Blob, content: &Content<'_>, _: &dyn Progress) -> Result<()> {
        self.package.put(&self.package.name_of(blob.kind, &blob.digest), blob.size, content)
    }

    fn manifest(&self, built: &Built) -> Result<()> {
        let package = self.package;
        let name = |kind, digest: &Digest| package.name_of(kind, digest);
        let entries = match package.layout {
            Layout::DockerArchive => vec![json!({
                "Config": name(BlobKind::Configuration, &built.config),
                "RepoTags": self.names,
                "Layers": built.layers.iter().map(|layer| name(layer.kind, &layer.digest)).collect::<Vec<_>>(),
            })],
            Layout::Directory => return package.text("manifest.json", &String::from_utf8_lossy(&built.bytes)),
            Layout::OciArchive | Layout::OciDirectory => {
                let file = name(BlobKind::Configuration, &built.digest);
                if !lock(&package.written).contains(&file) {
                    package.put(&file, built.bytes.len() as u64, &Content::Bytes(&built.bytes))?;
                }
                let entry = json!({"mediaType": built.media_type, "digest": built.digest, "size": built.bytes.len()});
                let called = |name: &String| {
                    let mut entry = entry.clone();
                    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
                    entry
                };
                if self.names.is_empty() { vec![entry] } else { self.names.iter().map(called).collect() }
            }
        };
        // An image that is there already, by another name.
        let mut table = lock(&package.table);
        for entry in entries {
            let same = |known: &&mut Value| entry.get("Config").is_some() && known["Config"] == entry["Config"];
            match table.iter_mut().find(same) {
                Some(known) => add_names(known, &entry),
                None => table.push(entry),
            }
        }
        Ok(())
    }
}

fn add_names(known: &mut Value, entry: &Value) {
    let new = entry["RepoTags"].as_array().cloned().unwrap_or_default();
    if let Some(tags) = known["RepoTags"].as_array_mut() {
        for tag in new {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }
}

/// A `dir:` of before is emptied; a directory that has other things is refused.
fn clear(path: &Path) -> Result<()> {
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|e| ImageError::file(path, e))?;
    if entries.is_empty() {
        return Ok(());
    }
    let version = std::fs::read_to_string(path.join("version")).unwrap_or_default();
    if !version.starts_with("Directory Transport Version: ") {
        return Err(ImageError::Invalid(format!(
            "{}: is not a container image directory and not empty",
            path.display()
        )));
    }
    let is_blob = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_blob(&name) || name == "manifest.json" || name == "version" {
            std::fs::remove_file(entry.path()).map_err(|e| ImageError::file(entry.path(), e))?;
        }
    }
    Ok(())
}

/// So many names beside a file are tried: what was killed left some.
const NAMES_MAX: u32 = 32;

/// A file that is removed when dropped, unless it got its name.
pub(crate) struct Unnamed {
    temporary: PathBuf,
    path: PathBuf,
}

impl Unnamed {
    /// For an archive: a pipe or device is written to as it is.
    pub(crate) fn create(path: &Path) -> Result<(File, Option<Self>)> {
        let failed = |e: io::Error| ImageError::file(path, e);
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Err(ImageError::Invalid(format!("{}: is a directory", path.display()))),
            Ok(meta) if !meta.is_file() => Ok((File::options().write(true).open(path).map_err(failed)?, None)),
            _ => Self::replace(path).map(|(file, unnamed)| (file, Some(unnamed))),
        }
    }

    fn replace(path: &Path) -> Result<(File, Self)> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for n in 0..NAMES_MAX {
            let temporary = path.with_file_name(format!(".{name}.podwire-{}-{n}", std::process::id()));
            match File::create_new(&temporary) {
                Ok(file) => return Ok((file, Self { temporary, path: path.to_owned() })),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ImageError::file(path, error)),
            }
        }
        Err(ImageError::file(path, io::Error::from(io::ErrorKind::AlreadyExists)))
    }

    pub(crate) fn name(mut self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.path).map_err(|e| ImageError::file(&self.path, e))?;
        self.temporary = PathBuf::new();
        Ok(())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.temporary); // it may be gone with its directory
        }
    }
}

/// Writes plain files into a tar archive.
struct TarWriter<'a>(Box<dyn Write + Send + 'a>);

impl TarWriter<'_> {
    fn entry(&mut self, name: &str, size: u64, content: &Content<'_>) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(name).map_err(|e| ImageError::Content(format!("{name:?} is no name for an archive: {e}")))?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o444);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.0.write_all(header.as_bytes()).map_err(written)?;
        let mut counted = Exact { inner: &mut self.0, left: size };
        content.write_to(&mut counted)?;
        if counted.left != 0 {
            return Err(ImageError::Content(format!("{name} is shorter than was announced")));
        }
        let padding = usize::try_from(size.wrapping_neg() % 512).unwrap_or(0);
        self.0.write_all(&[0; 512][..padding]).map_err(written)
    }

    fn finish(&mut self) -> Result<()> {
        self.0.write_all(&[0; 1024]).and_then(|()| self.0.flush()).map_err(written)
    }
}

fn written(error: io::Error) -> ImageError {
    ImageError::Output(error)
}

/// Takes no more than was announced.
struct Exact<W> {
    inner: W,
    left: u64,
}

impl<W: Write> Write for Exact<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other(ImageError::Content("a blob is longer than was announced".to_owned())));
        }
        let n = self.inner.write(bytes).map_err(|e| io::Error::other(written(e)))?;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
