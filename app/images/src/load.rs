//! `load`: images from archives.
//!
//! ```text
//!   docker save, podman save    manifest.json ──> Config, RepoTags, Layers      (docker-archive)
//!   podman save --format oci-*  index.json ──> manifests ──> blobs/sha256/…     (oci-archive, oci directory)
//!   skopeo copy … dir:          manifest.json ──> <digest>                      (dir)
//! ```
//!
//! **How it works.** An archive's table comes last or anywhere, so the archive must be a file that can be read
//! twice: standard input and compressed archives are first written to a file without a name, in our own
//! directory. Then its entries are indexed by seeking, and layers are read from where they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use model::ImageId;
use serde::Deserialize;
use serde_json::json;

use crate::Digest;
use crate::archive::{Archive, Kind};
use crate::error::{ImageError, Result};
use crate::give::Format;
use crate::give::nameless;
use crate::image::Document;
use crate::images::Images;
use crate::install::{NewImage, NewLayer, Source};
use crate::layer::{self, Limits};
use crate::manifest::{self, CONFIG_MAX, Descriptor, MANIFEST_MAX, Manifest};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::pull::{image_id, new_image};
use crate::reference::Name;
use crate::tree::Beneath;

/// Where an archive comes from.
pub enum Input<'a> {
    /// A file, or an OCI image directory.
    Path(&'a Path),
    /// A stream: standard input.
    Reader(&'a mut dyn Read),
}

/// Which images of an archive, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    /// The one with this name only.
    pub(crate) name: Option<&'a str>,
    /// What machine it is for; this one when absent.
    pub(crate) platform: Option<Platform>,
}

impl Choice<'_> {
    fn platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }
}

impl Images<'_> {
    /// Loads all images of an archive, for this machine's platform. What each is called now: its names, or
    /// `sha256:ID` for one without (Podman prints `Loaded image: ` before each).
    pub fn load(&self, input: Input<'_>, progress: &dyn Progress) -> Result<Vec<String>> {
        let mut called = Vec::new();
        for (id, names) in self.load_chosen(input, &Choice::default(), progress)? {
            match names.is_empty() {
                true => called.push(format!("sha256:{id}")),
                false => called.extend(names),
            }
        }
        Ok(called)
    }

    /// Loads what was chosen: ids and names.
    pub(crate) fn load_chosen(
        &self,
        input: Input<'_>,
        choice: &Choice<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<(ImageId, Vec<String>)>> {
        let files = match input {
            Input::Path(path) if path.is_dir() => Files::Directory(path.to_owned()),
            Input::Path(path) => {
                let file = File::open(path).map_err(|e| ImageError::file(path, e))?;
                let regular = file.metadata().map_err(|e| ImageError::file(path, e))?.is_file();
                let plain = regular && !is_compressed(&file).map_err(|e| ImageError::file(path, e))?;
                let file = if plain { file } else { self.spool(&mut &file)? };
                Files::Archive(Index::of(file)?)
            }
            Input::Reader(reader) => Files::Archive(Index::of(self.spool(reader)?)?),
        };
        let mut loaded = Vec::new();
        for (image, paths) in images_in(&files, choice)? {
            let id = self.install(&image, &Local { files: &files, paths }, progress)?;
            loaded.push((id, image.names));
        }
        Ok(loaded)
    }

    /// Writes a stream, without its compression, to a file that has no name and so goes with us.
    fn spool(&self, source: &mut dyn Read) -> Result<File> {
        let overlay = self.overlay();
        let mut file = nameless(&overlay)?;
        let mut plain = layer::bounded(source, &Limits::STRANGERS).map_err(layer::read_error)?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let n = plain.read(&mut buffer).map_err(layer::read_error)?;
            if n == 0 {
                return Ok(file);
            }
            io::Write::write_all(&mut file, &buffer[..n]).map_err(|e| ImageError::file(&overlay, e))?;
        }
    }
}

/// An image, and where its layers are in the archive.
pub(crate) type Packed = (NewImage, Vec<String>);

pub(crate) fn images_in(files: &Files, choice: &Choice<'_>) -> Result<Vec<Packed>> {
    if files.has("index.json") && !files.has("manifest.json") {
        return oci_images(files, choice);
    }
    if !files.has("manifest.json") {
        return Err(no_format());
    }
    // `docker save` writes a list there, skopeo's dir: the image's manifest.
    let bytes = files.read("manifest.json", MANIFEST_MAX)?;
    match bytes.trim_ascii_start().starts_with(b"[") {
        true => docker_images(files, &bytes, choice),
        false => directory_image(files, bytes, choice).map(|image| vec![image]),
    }
}

fn no_format() -> ImageError {
    ImageError::Content(
        "payload does not match any of the supported image formats (docker-archive, oci-archive, oci directory, dir)"
            .to_owned(),
    )
}

fn is_compressed(file: &File) -> io::Result<bool> {
    let mut magic = [0; 257 + 5];
    let n = file.read_at(&mut magic, 0)?;
    // A tar archive, even one whose first name looks like a compression's magic bytes.
    Ok(n < magic.len() || &magic[257..] != b"ustar")
}

/// Podman's word.
const LOADED: &str = "loadfromarchive";

/// Files by their names in the archive.
pub(crate) enum Files {
    Archive(Index),
    Directory(PathBuf),
}

impl Files {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Archive(index) => index.find(name).is_some(),
            Self::Directory(path) => path.join(name).is_file(),
        }
    }

    /// A file's content, to be read once, and its size.
    pub(crate) fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64)> {
        match self {
            Self::Archive(index) => {
                let missing = || ImageError::Content(format!("the archive has no {name:?}"));
                let (at, size) = index.find(name).ok_or_else(missing)?;
                Ok((Box::new(Window { file: &index.file, at, left: size }), size))
            }
            Self::Directory(directory) => {
                let path = directory.join(name);
                let file = File::open(&path).map_err(|e| ImageError::file(&path, e))?;
                let size = file.metadata().map_err(|e| ImageError::file(&path, e))?.len();
                Ok((Box::new(file), size))
            }
        }
    }

    fn read(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let (reader, size) = self.open(name)?;
        if size > most {
            return Err(ImageError::Content(format!("{name:?} has {size} bytes, more than {most}")));
        }
        let mut bytes = Vec::new();
        reader.take(most).read_to_end(&mut bytes).map_err(layer::read_error)?;
        Ok(bytes)
    }

    /// A small blob of an OCI layout, checked.
    fn blob(&self, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>> {
        self.checked(&blob_path(&descriptor.digest), descriptor, most)
    }

    fn checked(&self, name: &str, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>> {
        let bytes = self.read(name, most)?;
        match descriptor.digest.fits(&bytes) {
            true => Ok(bytes),
            false => Err(ImageError::Content(format!(
                "digest mismatch: {} came as {}",
                descriptor.digest,
                Digest::of(&bytes)
            ))),
        }
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}", digest.as_str().replacen(':', "/", 1))
}

/// The entries of an archive: where they begin and how long they are.
pub(crate) struct Index {
    file: File,
    entries: BTreeMap<Vec<u8>, Place>,
}

enum Place {
    File {
        at: u64,
        size: u64,
    },
    /// Old `docker save` archives have a layer once and links to it.
    Link(Vec<u8>),
}

/// How many entries an archive of images may have; a hundred images have some thousand.
const INDEX_MAX: usize = 20_000;

impl Index {
    pub(crate) fn of(mut file: File) -> Result<Self> {
        file.seek(SeekFrom::Start(0)).map_err(layer::read_error)?;
        let mut archive = Archive::new(BufReader::new(&file));
        let mut entries = BTreeMap::new();
        while let Some(entry) = archive.next_by_seeking().map_err(|e| unreadable(e, entries.is_empty()))? {
            let Some(path) = Beneath::clean(&entry.path) else { continue };
            let place = match entry.kind {
                Kind::File if entry.is_plain() => Place::File { at: entry.at, size: entry.size },
                Kind::HardLink => {
                    Place::Link(Beneath::clean(&entry.link).map_or_else(Vec::new, |l| l.as_bytes().to_vec()))
                }
                Kind::Symlink => {
                    let target = path.sibling(&entry.link);
                    Place::Link(Beneath::clean(target.as_bytes()).map_or_else(Vec::new, |l| l.as_bytes().to_vec()))
                }
                _ => continue,
            };
            entries.insert(path.as_bytes().to_vec(), place);
            if entries.len() > INDEX_MAX {
                return Err(ImageError::Content(format!("the archive has more than {INDEX_MAX} entries")));
            }
        }
        drop(archive);
        let length = file.metadata().map_err(layer::read_error)?.len();
        let ends = |place: &Place| matches!(place, Place::File { at, size } if at.checked_add(*size).is_none_or(|end| end > length));
        match entries.values().any(ends) {
            true => Err(ImageError::Content("unexpected end: the archive is cut short".to_owned())),
            false => Ok(Self { file, entries }),
        }
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = Beneath::clean(name.as_bytes())?.as_bytes().to_vec();
        // Links to links to … end somewhere, or are a loop.
        for _ in 0..8 {
            match self.entries.get(&name)? {
                Place::File { at, size } => return Some((*at, *size)),
                Place::Link(target) => name = target.clone(),
            }
        }
        None
    }
}

/// Bytes that do not even begin as an archive are no archive.
fn unreadable(error: io::Error, nothing_yet: bool) -> ImageError {
    match nothing_yet && error.kind() == io::ErrorKind::InvalidData {
        true => no_format(),
        false => layer::read_error(error),
    }
}

/// A part of a file, read without moving the file's own position: layers are read by several threads.
struct Window<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..room], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// The layers of one image, by their names in the archive.
struct Local<'a> {
    files: &'a Files,
    paths: Vec<String>,
}

impl Source for Local<'_> {
    fn layer(&self, n: usize) -> Result<Box<dyn Read + '_>> {
        self.files.open(&self.paths[n]).map(|(reader, _)| reader)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn docker_images(files: &Files, table: &[u8], choice: &Choice<'_>) -> Result<Vec<Packed>> {
    let all: Vec<DockerImage> =
        serde_json::from_slice(table).map_err(|e| ImageError::Content(format!("malformed manifest.json: {e}")))?;
    if all.is_empty() {
        return Err(ImageError::Content("the archive has no image".to_owned()));
    }
    let Some(wanted) = choice.name else {
        return all.into_iter().map(|image| docker_image(files, image)).collect();
    };
    // `@N` is the Nth image of the archive (containers-transports(5)).
    let number = wanted.strip_prefix('@').and_then(|number| number.parse::<usize>().ok());
    let full = if number.is_some() { String::new() } else { local_name(wanted)? };
    let mut chosen = Vec::new();
    for (n, mut image) in all.into_iter().enumerate() {
        let mut tags = image.repo_tags.clone().unwrap_or_default();
        tags.retain(|tag| local_name(tag).is_ok_and(|name| name == full));
        if number == Some(n) {
            chosen.push(docker_image(files, image)?);
        } else if !tags.is_empty() {
            image.repo_tags = Some(tags);
            chosen.push(docker_image(files, image)?);
        }
    }
    match chosen.is_empty() {
        true => Err(ImageError::Content(format!("the archive has no image {wanted:?}"))),
        false => Ok(chosen),
    }
}

/// skopeo's `dir:`: one image without a name.
fn directory_image(files: &Files, manifest: Vec<u8>, choice: &Choice<'_>) -> Result<Packed> {
    let hex = |descriptor: &Descriptor| descriptor.digest.hex().to_owned();
    let checked = |descriptor: &Descriptor, most| files.checked(&hex(descriptor), descriptor, most);
    let (manifest, image) = match Manifest::parse(&manifest, None)? {
        Manifest::Image(image) => (manifest, image),
        Manifest::Index(list) => {
            let chosen = manifest::choose(&list, &choice.platform())?;
            let inner = files.checked(&format!("{}.manifest.json", hex(chosen)), chosen, MANIFEST_MAX)?;
            match Manifest::parse(&inner, Some(&chosen.media_type))? {
                Manifest::Image(image) => (inner, image),
                Manifest::Index(_) => return Err(index_in_index()),
            }
        }
    };
    let config = checked(&image.config, CONFIG_MAX)?;
    let paths = image.layers.iter().map(hex).collect();
    let new = new_image(manifest, image, config, Vec::new())?;
    Ok((NewImage { arrival: Some(LOADED), ..new }, paths))
}

fn index_in_index() -> ImageError {
    ImageError::Content("malformed index: it leads to another index".to_owned())
}

fn docker_image(files: &Files, image: DockerImage) -> Result<Packed> {
    let paths = image.layers.unwrap_or_default();
    let config = files.read(&image.config, CONFIG_MAX)?;
    let (_, diff_ids) = manifest::configuration(&config)?;
    if diff_ids.len() != paths.len() || paths.len() > manifest::LAYERS_MAX {
        return Err(ImageError::Content(format!(
            "malformed image: manifest.json has {} layers, its configuration {}",
            paths.len(),
            diff_ids.len()
        )));
    }
    let mut layers = Vec::new();
    let mut descriptors = Vec::new();
    for (diff_id, path) in diff_ids.into_iter().zip(&paths) {
        let size = files.open(path)?.1;
        descriptors
            .push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id, "size": size}));
        layers.push(NewLayer { diff_id, blob: None, size: Some(size) });
    }
    let document = document(Format::Oci, descriptors, config.clone())?;
    let names = image.repo_tags.unwrap_or_default().iter().map(|tag| local_name(tag)).collect::<Result<_>>()?;
    Ok((NewImage { id: image_id(&config), document, layers, names, arrival: Some(LOADED) }, paths))
}

/// The record of an image that came without a manifest: it gets one.
pub(crate) fn document(format: Format, layers: Vec<serde_json::Value>, config: Vec<u8>) -> Result<Document> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": format.manifest(),
        "config": {
            "mediaType": format.config(),
            "digest": Digest::of(&config),
            "size": config.len(),
        },
        "layers": layers,
    })
    .to_string();
    let digest = Digest::of(manifest.as_bytes());
    let config = String::from_utf8(config);
    Ok(Document {
        digests: vec![digest.clone()],
        digest,
        manifest_type: format.manifest().to_owned(),
        manifest,
        config: config.map_err(|_| ImageError::Content("malformed configuration: it is not UTF-8".to_owned()))?,
        history: Vec::new(),
    })
}

fn oci_images(files: &Files, choice: &Choice<'_>) -> Result<Vec<Packed>> {
    let Manifest::Index(list) = Manifest::parse(&files.read("index.json", MANIFEST_MAX)?, None)? else {
        return Err(ImageError::Content("malformed index.json: it is no index".to_owned()));
    };
    let named = list.iter().any(|d| d.name().or(d.full_name()).is_some());
    let chosen: Vec<&Descriptor> = match (choice.name, named, list.len()) {
        (_, _, 0) => return Err(ImageError::Content("the archive has no image".to_owned())),
        (Some(wanted), ..) => {
            let is = |d: &&Descriptor| [d.name(), d.full_name()].contains(&Some(wanted));
            let one = list.iter().find(is);
            vec![one.ok_or_else(|| ImageError::Content(format!("the archive has no image {wanted:?}")))?]
        }
        // One image for several platforms, rather than several images.
        (None, false, 2..) => vec![manifest::choose(&list, &choice.platform())?],
        _ => list.iter().collect(),
    };
    // The same image under several names is there once per name.
    let mut all: Vec<Packed> = Vec::new();
    for descriptor in chosen {
        let (image, paths) = oci_image(files, descriptor, choice)?;
        match all.iter_mut().find(|(known, _)| known.id == image.id) {
            Some((known, _)) => known.names.extend(image.names),
            None => all.push((image, paths)),
        }
    }
    Ok(all)
}

fn oci_image(files: &Files, descriptor: &Descriptor, choice: &Choice<'_>) -> Result<Packed> {
    let mut bytes = files.blob(descriptor, MANIFEST_MAX)?;
    let mut parsed = Manifest::parse(&bytes, Some(&descriptor.media_type))?;
    if let Manifest::Index(list) = &parsed {
        let chosen = manifest::choose(list, &choice.platform())?.clone();
        bytes = files.blob(&chosen, MANIFEST_MAX)?;
        parsed = Manifest::parse(&bytes, Some(&chosen.media_type))?;
    }
    let Manifest::Image(image) = parsed else { return Err(index_in_index()) };
    let config = files.blob(&image.config, CONFIG_MAX)?;
    let paths = image.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
    let names = descriptor.full_name().or(descriptor.name()).map(local_name).transpose()?;
    let new = new_image(bytes, image, config, names.into_iter().collect())?;
    Ok((NewImage { arrival: Some(LOADED), ..new }, paths))
}

/// The full name of an image that comes with `text` written on it.
pub(crate) fn local_name(text: &str) -> Result<String> {
    let name: Name = text.parse().map_err(|e: model::Invalid| ImageError::Invalid(e.0))?;
    name.local().map(|reference| reference.to_string()).map_err(|e| ImageError::Invalid(e.0))
}
