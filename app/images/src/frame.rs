//! A layer's frame: its archive without what is in its files, so that the very same archive can be given back.
//!
//! ```text
//!   tar   [header a][content of a][pad][header b][content of b][pad][zeros]
//!   frame [header a]  a: 0..5     [pad][header b]  b: 0..9     [pad][zeros]      <root>/overlay/<n>/frame, zstd
//!   files              diff/a                       diff/b
//! ```
//!
//! **How it works.** While an archive is unpacked, [`Tape`] writes down every byte of it except those that go to a
//! file. [`rebuild`] reads the frame and takes the rest from the files. An image that is pushed or saved so keeps its
//! diff ids, and with them its id; packing the files anew would give other bytes. An entry that a later one of the
//! same archive replaces is moved to `<root>/overlay/<n>/replaced`, and the frame says when.
//!
//! **Invariants.** What is rebuilt is compared with the diff id by whoever reads it ([`crate::export`]): a layer whose files
//! were changed is an error, never another layer.
//!
//! **Limits.** Layers unpacked by podwire before it wrote frames cannot be given back.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{ImageError, Result};
use crate::tree::{Beneath, Tree};

/// The file beside a layer's files.
const FRAME: &str = "frame";

/// The directory beside a layer's files that has what later entries replaced.
const REPLACED: &str = "replaced";

/// The frame's first bytes: what it is, and of which version.
const MAGIC: &[u8; 16] = b"podwire frame 1\n";

/// Headers and zeros, which is all there is, become a tenth at any level; this is the fastest.
const LEVEL: i32 = 1;

/// Bytes between contents are written in pieces of about this size.
const PIECE: usize = 64 * 1024;

/// No path and no piece in a frame is longer: a frame is our own, but a damaged one must not fill memory.
const ITEM_MAX: u64 = 4 << 20;

const BYTES: u8 = b'b';
const FILE: u8 = b'f';
const CONTENT: u8 = b'c';
const REPLACE: u8 = b'r';

/// One step of a frame.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    /// Bytes of the archive.
    Bytes(Vec<u8>),
    /// The file that contents are from, until the next one.
    File(Vec<u8>),
    /// So many bytes of the archive are in the file, from an offset on.
    Content { at: u64, length: u64 },
    /// What was at this path until now is `replaced/N`.
    Replaced { path: Vec<u8>, number: u64 },
}

/// Writes a frame while its archive is unpacked.
pub(crate) struct Tape {
    path: PathBuf,
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    pending: Vec<u8>,
    /// A content that may go on.
    content: Option<(u64, u64)>,
    replaced: Option<OwnedFd>,
    count: u64,
}

impl Tape {
    /// The frame of the layer whose files are in `diff`.
    pub(crate) fn beside(diff: &Path) -> Result<Self> {
        let path = diff.with_file_name(FRAME);
        let begun = File::create_new(&path).and_then(|file| {
            let mut out = zstd::stream::write::Encoder::new(BufWriter::new(file), LEVEL)?;
            out.write_all(MAGIC)?;
            Ok(out)
        });
        let out = begun.map_err(|e| ImageError::file(&path, e))?;
        Ok(Self { path, out, pending: Vec::new(), content: None, replaced: None, count: 0 })
    }

    /// Bytes of the archive that are in no file.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.end_content()?;
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE { self.end_bytes() } else { Ok(()) }
    }

    /// What comes next may be content of this file.
    pub(crate) fn file(&mut self, path: &Beneath) -> io::Result<()> {
        self.end()?;
        self.put(&[&[FILE], &length(path.as_bytes()), path.as_bytes()])
    }

    /// The archive's next `length` bytes are in the file from `at` on.
    pub(crate) fn content(&mut self, at: u64, length: u64) -> io::Result<()> {
        match &mut self.content {
            Some((from, so_far)) if *from + *so_far == at => *so_far += length,
            _ => {
                self.end()?;
                self.content = Some((at, length));
            }
        }
        Ok(())
    }

    /// Moves away what is at `name` in `parent`, which is `path`, because something else comes there.
    pub(crate) fn replace(&mut self, path: &Beneath, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        self.end()?;
        let number = self.count;
        self.count += 1;
        let replaced = match &mut self.replaced {
            Some(replaced) => replaced,
            none => none.insert(make_replaced(&self.path.with_file_name(REPLACED))?),
        };
        rustix::fs::renameat(parent, name, replaced.as_fd(), number.to_string())?;
        self.put(&[&[REPLACE], &length(path.as_bytes()), path.as_bytes(), &number.to_le_bytes()])
    }

    /// The frame is whole.
    pub(crate) fn finish(mut self) -> Result<()> {
        let path = self.path.clone();
        let finished = self.end().and_then(|()| self.out.finish()).and_then(|mut out| out.flush());
        finished.map_err(|e| ImageError::file(path, e))
    }

    fn end(&mut self) -> io::Result<()> {
        self.end_content()?;
        self.end_bytes()
    }

    fn end_content(&mut self) -> io::Result<()> {
        let Some((at, length)) = self.content.take() else { return Ok(()) };
        self.put(&[&[CONTENT], &at.to_le_bytes(), &length.to_le_bytes()])
    }

    fn end_bytes(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.put(&[&[BYTES], &length(&pending), &pending])?;
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    /// What fails here is our disk, not the archive.
    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let written = parts.iter().try_for_each(|part| self.out.write_all(part));
        written.map_err(|e| io::Error::other(ImageError::file(&self.path, e)))
    }
}

fn length(bytes: &[u8]) -> [u8; 8] {
    (bytes.len() as u64).to_le_bytes()
}

fn make_replaced(path: &Path) -> io::Result<OwnedFd> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(0o700))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// How many bytes the archive of the layer in `diff` has.
pub(crate) fn archive_size(diff: &Path) -> Result<u64> {
    let mut size = 0;
    each(diff, |item| {
        match item {
            Item::Bytes(bytes) => size += bytes.len() as u64,
            Item::Content { length, .. } => size += length,
            Item::File(_) | Item::Replaced { .. } => {}
        }
        Ok(())
    })?;
    Ok(size)
}

/// Writes the archive of the layer whose files are in `diff`.
pub(crate) fn rebuild(diff: &Path, out: &mut dyn Write) -> Result<()> {
    let mut files = Files::of(diff)?;
    each(diff, |item| match item {
        Item::Bytes(bytes) => out.write_all(&bytes),
        Item::File(path) => files.open(path),
        Item::Content { at, length } => files.copy(at, length, out),
        Item::Replaced { .. } => {
            files.step += 1;
            Ok(())
        }
    })
}

fn each(diff: &Path, mut act: impl FnMut(Item) -> io::Result<()>) -> Result<()> {
    let path = diff.with_file_name(FRAME);
    let failed = |error: io::Error| match error.downcast::<ImageError>() {
        Ok(ours) => ours,
        Err(error) => ImageError::file(&path, error),
    };
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::Content(
            "the layer was brought in by an older podwire, which did not keep what is needed to give it away; \
             remove the image and pull or load it again"
                .to_owned(),
        ),
        _ => failed(error),
    })?;
    let mut frame = zstd::stream::read::Decoder::new(BufReader::new(file)).map_err(failed)?;
    let mut magic = [0; MAGIC.len()];
    frame.read_exact(&mut magic).map_err(failed)?;
    if magic != *MAGIC {
        return Err(failed(damaged()));
    }
    let mut frame = BufReader::new(frame);
    while let Some(item) = next(&mut frame).map_err(failed)? {
        act(item).map_err(failed)?;
    }
    Ok(())
}

fn next(frame: &mut impl Read) -> io::Result<Option<Item>> {
    let mut tag = [0];
    if frame.read(&mut tag)? == 0 {
        return Ok(None);
    }
    Ok(Some(match tag[0] {
        BYTES => Item::Bytes(block(frame)?),
        FILE => Item::File(block(frame)?),
        CONTENT => Item::Content { at: number(frame)?, length: number(frame)? },
        REPLACE => Item::Replaced { path: block(frame)?, number: number(frame)? },
        _ => return Err(damaged()),
    }))
}

fn number(frame: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    frame.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn block(frame: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = number(frame)?;
    if length > ITEM_MAX {
        return Err(damaged());
    }
    let mut bytes = vec![0; length as usize];
    frame.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the layer's frame is damaged")
}

/// A layer's files, found as they were when the archive spoke of them.
struct Files {
    tree: Tree,
    replaced: PathBuf,
    /// Path and number of each replacement, in order.
    replacements: Vec<(Vec<u8>, u64)>,
    /// How many replacements have been passed.
    step: usize,
    current: Option<File>,
    buffer: Vec<u8>,
}

impl Files {
    fn of(diff: &Path) -> Result<Self> {
        let mut replacements = Vec::new();
        each(diff, |item| {
            if let Item::Replaced { path, number } = item {
                replacements.push((path, number));
            }
            Ok(())
        })?;
        let tree = Tree::open(diff).map_err(|e| ImageError::file(diff, e))?;
        let replaced = diff.with_file_name(REPLACED);
        Ok(Self { tree, replaced, replacements, step: 0, current: None, buffer: vec![0; PIECE] })
    }

    fn open(&mut self, path: Vec<u8>) -> io::Result<()> {
        let later = self.replacements[self.step.min(self.replacements.len())..].iter();
        let moved = later.filter_map(|(from, number)| Some((below(&path, from)?, *number))).next();
        let fd = match moved {
            None => open_file(&mut self.tree, &path)?,
            Some((b"", number)) => open_at(CWD, self.replaced.join(number.to_string()))?,
            Some((rest, number)) => open_file(&mut Tree::open(&self.replaced.join(number.to_string()))?, rest)?,
        };
        self.current = Some(File::from(fd));
        Ok(())
    }

    fn copy(&mut self, at: u64, length: u64, out: &mut dyn Write) -> io::Result<()> {
        let file = self.current.as_ref().ok_or_else(damaged)?;
        let end = at.checked_add(length).ok_or_else(damaged)?;
        let mut at = at;
        while at < end {
            let room = self.buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            match file.read_at(&mut self.buffer[..room], at) {
                Ok(0) => {
                    let text = "a file of the layer is shorter than it was when it was unpacked".to_owned();
                    return Err(io::Error::other(ImageError::Content(text)));
                }
                Ok(n) => {
                    out.write_all(&self.buffer[..n])?;
                    at += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The rest of `path` below `from`: empty for itself.
fn below<'a>(path: &'a [u8], from: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(from)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

fn open_file(tree: &mut Tree, path: &[u8]) -> io::Result<OwnedFd> {
    let path = Beneath::clean(path).ok_or_else(damaged)?;
    let (parent, name) = path.split().ok_or_else(damaged)?;
    open_at(&*tree.known(&parent)?, name)
}

/// Never follows, and never waits for whoever is at the other end of a pipe.
fn open_at(directory: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{self, Limits};
    use crate::testing::{Tar, pax_record, root};

    /// The archive comes back byte by byte, whatever else is in the layer.
    fn check(name: &str, archive: &[u8]) {
        let dir = tempfile::tempdir().unwrap();
        let diff = dir.path().join("diff");
        std::fs::create_dir(&diff).unwrap();
        layer::unpack(archive, None, &diff, &Limits::STRANGERS).unwrap();
        let mut back = Vec::new();
        rebuild(&diff, &mut back).unwrap();
        assert!(back == archive, "{name}: {} bytes came back of {}", back.len(), archive.len());
        assert_eq!(archive_size(&diff).unwrap(), archive.len() as u64, "{name}");
    }

    #[test]
    fn an_archive_comes_back_byte_by_byte() {
        if !root("an_archive_comes_back_byte_by_byte") {
            return;
        }
        check("empty", &Tar::new().bytes());
        check("nothing at all", b"");
        let big: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let long = "d/".repeat(120) + "file";
        let ordinary = Tar::new()
            .dir("./")
            .dir("a")
            .file("a/b", b"hello")
            .file("a/empty", b"")
            .file("a/big", &big)
            .link("a/hard", "a/b")
            .symlink("link", "a")
            .file("link/through", b"the link")
            .file(".wh.gone", b"")
            .file("zeros", &[0; 20_000])
            .pax(&pax_record("SCHILY.xattr.user.x", b"y"))
            .file(&long, b"x");
        check("ordinary", &ordinary.bytes());
        // Builders write some zeros more than they must, and some write other things after the end.
        let mut more = Tar::new().file("f", b"1").bytes();
        more.extend([0; 10_240]);
        more.extend(b"and a word");
        check("more after the end", &more);
    }

    #[test]
    fn what_later_entries_replaced_comes_back_too() {
        if !root("what_later_entries_replaced_comes_back_too") {
            return;
        }
        let twice = Tar::new().file("f", b"one").file("g", b"between").file("f", b"two").file("f", b"three");
        check("a file three times", &twice.bytes());
        let tree = Tar::new()
            .dir("d")
            .file("d/inner", b"old")
            .dir("d/deep")
            .file("d/deep/er", b"older")
            .file("d", b"a file now")
            .symlink("d", "elsewhere")
            .dir("d")
            .file("d/inner", b"new");
        check("a directory, a file, a link, a directory", &tree.bytes());
        let linked = Tar::new().file("a", b"shared").link("b", "a").file("a", b"other").link("c", "b");
        check("hard links outlive what they were made of", &linked.bytes());
    }

    #[test]
    fn sparse_files_come_back_as_their_archive_had_them() {
        if !root("sparse_files_come_back_as_their_archive_had_them") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("holes")).unwrap();
        (1..40).for_each(|n| file.write_all_at(b"0123456789", n * 65_536).unwrap());
        file.set_len(3 << 20).unwrap();
        for format in ["gnu", "posix"] {
            let mut tar = std::process::Command::new("tar");
            tar.args(["--sparse", "--format", format, "-cf", "-", "holes"]).current_dir(dir.path());
            check(format, &tar.output().expect("Debian has tar").stdout);
        }
    }

    #[test]
    fn a_changed_or_missing_file_is_an_error() {
        if !root("a_changed_or_missing_file_is_an_error") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let diff = dir.path().join("diff");
        std::fs::create_dir(&diff).unwrap();
        layer::unpack(Tar::new().file("f", b"hello").bytes().as_slice(), None, &diff, &Limits::STRANGERS).unwrap();
        std::fs::write(diff.join("f"), "he").unwrap();
        let said = rebuild(&diff, &mut io::sink()).unwrap_err().to_string();
        assert_eq!(said, "a file of the layer is shorter than it was when it was unpacked");
        std::fs::remove_file(dir.path().join(FRAME)).unwrap();
        let said = rebuild(&diff, &mut io::sink()).unwrap_err().to_string();
        assert!(said.contains("brought in by an older podwire"), "{said}");
    }
}
