//! Reading tar streams that strangers wrote.
//!
//! ```text
//!   bytes ──> header ─┬─ 'x' 'L' 'K' 'g' : remembered for the next entry (bounded)
//!                     └─ a file, link, device … ──> Entry ──> copy(|offset, bytes| …)
//! ```
//!
//! **How it works.** Headers are decoded by the `tar` crate's field accessors; what belongs *between* headers
//! (long names, PAX records, sparse maps) is read here, because here everything has a bound: an extension of
//! a gigabyte must not become a gigabyte of memory. POSIX ustar and pax, old GNU and GNU's two ways of sparse
//! files ([GNU tar manual, appendix D](https://www.gnu.org/software/tar/manual/html_section/Formats.html)).
//!
//! **Invariants.** Never panics, whatever the bytes; memory is bounded by [`EXTENSION_MAX`] and
//! [`SPARSE_MAX`]. Names come out as bytes, not yet checked: see [`crate::tree`].

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::frame::Tape;

/// The longest extensions (PAX records, long names) of one entry together, in bytes: names are at most 4 KiB, and
/// extended attributes at most 64 KiB each (`XATTR_SIZE_MAX`).
const EXTENSION_MAX: u64 = 1 << 20;

/// The longest map of a sparse file, in parts.
const SPARSE_MAX: usize = 1 << 16;

const BLOCK: usize = 512;

/// Content is handed on in pieces of at most this many bytes.
const BUFFER: usize = 128 * 1024;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharDevice,
    BlockDevice,
}

/// One entry of an archive, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// As written: perhaps absolute, perhaps with `..`.
    pub(crate) path: Vec<u8>,
    /// Target of a link, as written.
    pub(crate) link: Vec<u8>,
    /// Permissions with set-user-id, set-group-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u32),
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of the file, with holes.
    pub(crate) size: u64,
    /// Where the content's parts belong, when it has holes: offset and length.
    parts: Option<Vec<(u64, u64)>>,
    /// Where the content begins in the stream.
    pub(crate) at: u64,
}

impl Entry {
    /// Is the content in the archive as it will be in the file?
    pub(crate) fn is_plain(&self) -> bool {
        self.parts.is_none()
    }
}

/// A tar stream being read.
pub(crate) struct Archive<R> {
    inner: R,
    position: u64,
    /// Bytes of the current entry's content not yet read.
    content: u64,
    /// Zeros after the content up to the next block.
    padding: u64,
    /// Kept between entries: most files are small, and a fresh buffer for each would cost more than they do.
    buffer: Vec<u8>,
    /// Where what is no file's content is written down.
    tape: Option<Tape>,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, position: 0, content: 0, padding: 0, buffer: Vec::new(), tape: None }
    }

    /// The same, written down on `tape`.
    pub(crate) fn taped(inner: R, tape: Tape) -> Self {
        Self { tape: Some(tape), ..Self::new(inner) }
    }

    /// The tape, if there is one.
    pub(crate) fn tape(&mut self) -> Option<&mut Tape> {
        self.tape.as_mut()
    }

    /// The next entry; what was not read of the previous one is skipped by reading.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        self.skip()?;
        self.entry()
    }

    /// Gives the current entry's content to `sink` with the offset it belongs to.
    pub(crate) fn copy(&mut self, entry: &Entry, mut sink: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let whole = [(0, entry.size)];
        let parts = entry.parts.as_deref().unwrap_or(&whole);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER, 0);
        for (offset, length) in parts {
            let (mut offset, end) = (*offset, offset + length);
            while offset < end {
                let n = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
                let n = self.read_content(&mut buffer[..n])?;
                if n == 0 {
                    return Err(malformed("a file's content is shorter than its map says"));
                }
                sink(offset, &buffer[..n])?;
                if let Some(tape) = &mut self.tape {
                    tape.content(offset, n as u64)?;
                }
                offset += n as u64;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Reads to the end of the stream, so that whoever hashes it below us has seen all of it; gives the tape.
    pub(crate) fn drain(mut self) -> io::Result<Option<Tape>> {
        let mut buffer = vec![0; BUFFER];
        while self.read_taped(&mut buffer)? > 0 {}
        Ok(self.tape)
    }

    fn entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extra = Extra::default();
        loop {
            let Some(header) = self.header()? else {
                return if extra.any { Err(malformed("the archive ends after an extension")) } else { Ok(None) };
            };
            let size = header.entry_size().map_err(|_| malformed("the size of an entry is not a number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.extension(size)?;
                    extra.take_pax(&records)?;
                }
                EntryType::GNULongName => extra.path = Some(until_nul(self.extension(size)?)),
                EntryType::GNULongLink => extra.link = Some(until_nul(self.extension(size)?)),
                // Defaults for all later entries; no image builder puts anything of use there (git: a comment).
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => return self.finish(&header, size, extra).map(Some),
            }
            extra.any = true;
            extra.bytes += size;
            if extra.bytes > EXTENSION_MAX {
                return Err(malformed(&format!("extensions of more than {EXTENSION_MAX} bytes for one entry")));
            }
        }
    }

    fn finish(&mut self, header: &Header, size: u64, extra: Extra) -> io::Result<Entry> {
        let path = extra.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = kind(header, &path)?;
        // POSIX: only files have content. Links sometimes carry the size of what they point to.
        let stored = if kind == Kind::File { extra.size.unwrap_or(size) } else { 0 };
        self.content = stored;
        self.padding = padding(stored);
        let old = header.as_old();
        let mut entry = Entry {
            kind,
            path,
            link: extra.link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default(),
            mode: field(&old.mode, header.mode().map(u64::from))
                .ok_or_else(|| malformed("an entry's mode is not a number"))?
                & 0o7777,
            uid: owner(extra.uid, &old.uid, header.uid())
                .ok_or_else(|| malformed("an entry's owner is not a number"))?,
            gid: owner(extra.gid, &old.gid, header.gid())
                .ok_or_else(|| malformed("an entry's group is not a number"))?,
            modified: extra.modified.unwrap_or((header.mtime().map_or(0, |t| i64::try_from(t).unwrap_or(0)), 0)),
            device: device(header),
            xattrs: extra.xattrs,
            size: stored,
            parts: None,
            at: 0,
        };
        match extra.sparse {
            Some(sparse) => self.pax_sparse(&mut entry, &sparse)?,
            None if header.entry_type() == EntryType::GNUSparse => self.gnu_sparse(header, &mut entry)?,
            None => {}
        }
        entry.at = self.position;
        Ok(entry)
    }

    /// The next header, or nothing at the end: two blocks of zeros, or the end of the stream between entries.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.read_taped(&mut block[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(truncated()),
                n => have += n,
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The sum is of unsigned bytes with the sum's own field as spaces (POSIX.1-2001, pax).
        let sum = block.iter().enumerate().map(|(i, b)| u32::from(if (148..156).contains(&i) { b' ' } else { *b }));
        match header.cksum() {
            Ok(said) if said == sum.sum::<u32>() => Ok(Some(header)),
            _ => Err(malformed("invalid tar header")),
        }
    }

    /// Reads an extension of `size` bytes and its padding.
    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(malformed(&format!("an extension of {size} bytes is longer than {EXTENSION_MAX}")));
        }
        self.content = size;
        self.padding = padding(size);
        let mut bytes = vec![0; size as usize];
        self.exact(&mut bytes)?;
        self.skip()?;
        Ok(bytes)
    }

    /// GNU's old way: parts in the header and in blocks after it.
    fn gnu_sparse(&mut self, header: &Header, entry: &mut Entry) -> io::Result<()> {
        let wrong = || malformed("a sparse file's map is not valid");
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let mut parts = Vec::new();
        let mut take = |sparse: &tar::GnuSparseHeader| -> io::Result<()> {
            if !sparse.is_empty() {
                parts.push((sparse.offset().map_err(|_| wrong())?, sparse.length().map_err(|_| wrong())?));
            }
            Ok(())
        };
        gnu.sparse.iter().try_for_each(&mut take)?;
        let mut more = gnu.is_extended();
        let stored = self.content;
        let mut blocks = 0;
        while more {
            blocks += 1;
            if blocks > SPARSE_MAX / 21 {
                return Err(wrong());
            }
            let mut block = tar::GnuExtSparseHeader::new();
            // These blocks are not part of the content.
            self.raw_exact(block.as_mut_bytes())?;
            block.sparse().iter().try_for_each(&mut take)?;
            more = block.is_extended();
        }
        entry.size = gnu.real_size().map_err(|_| wrong())?;
        entry.parts = Some(checked(parts, stored, entry.size)?);
        Ok(())
    }

    /// GNU's way in pax archives, version 1.0: the map is text at the beginning of the content.
    fn pax_sparse(&mut self, entry: &mut Entry, sparse: &PaxSparse) -> io::Result<()> {
        let wrong = || malformed("a sparse file's map is not valid");
        if (sparse.major, sparse.minor) != (1, 0) {
            return Err(malformed(
                "sparse files in pax format 0.x are not supported; GNU tar's --sparse-version=1.0 is",
            ));
        }
        let mut text = Vec::new();
        let mut lines = 0;
        let mut expected = None;
        while expected.is_none_or(|n| lines < 1 + 2 * n) {
            let mut block = [0; BLOCK];
            self.exact(&mut block)?;
            text.extend_from_slice(&block);
            lines = text.iter().filter(|b| **b == b'\n').count();
            if expected.is_none() && lines > 0 {
                expected = Some(number_line(&text).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?);
            }
            if text.len() > SPARSE_MAX * 16 || expected.is_some_and(|n| n > SPARSE_MAX) {
                return Err(wrong());
            }
        }
        let numbers = text.split(|b| *b == b'\n').skip(1).take(2 * expected.unwrap_or(0));
        let numbers: Option<Vec<u64>> = numbers.map(number_line).collect();
        let parts = numbers.ok_or_else(wrong)?.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        entry.size = sparse.size.ok_or_else(wrong)?;
        entry.path = sparse.name.clone().unwrap_or_else(|| entry.path.clone());
        entry.parts = Some(checked(parts, self.content, entry.size)?);
        Ok(())
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        if n == 0 {
            return Ok(0);
        }
        match self.read(&mut buffer[..n])? {
            0 => Err(truncated()),
            n => {
                self.content -= n as u64;
                Ok(n)
            }
        }
    }

    fn exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_content(buffer)? {
                0 => return Err(malformed("an entry is shorter than it should be")),
                n => {
                    self.write_down(&buffer[..n])?;
                    buffer = &mut buffer[n..];
                }
            }
        }
        Ok(())
    }

    fn raw_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_taped(buffer)? {
                0 => return Err(truncated()),
                n => buffer = &mut buffer[n..],
            }
        }
        Ok(())
    }

    fn skip(&mut self) -> io::Result<()> {
        let mut left = self.content.checked_add(self.padding).ok_or_else(|| malformed("an entry is too long"))?;
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let n = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.read_taped(&mut buffer[..n])? {
                0 => return Err(truncated()),
                n => left -= n as u64,
            }
        }
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads what is not a file's content.
    fn read_taped(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.read(buffer)?;
        self.write_down(&buffer[..n])?;
        Ok(n)
    }

    fn write_down(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tape.as_mut().map_or(Ok(()), |tape| tape.bytes(bytes))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(n) => {
                    self.position += n as u64;
                    return Ok(n);
                }
            }
        }
    }
}

impl<R: Read + io::Seek> Archive<R> {
    /// As [`Archive::next`], but what was not read is skipped by seeking.
    pub(crate) fn next_by_seeking(&mut self) -> io::Result<Option<Entry>> {
        let left = self.content.checked_add(self.padding).and_then(|n| self.position.checked_add(n));
        let to = left.ok_or_else(|| malformed("an entry is too long"))?;
        if to != self.position {
            self.position = self.inner.seek(io::SeekFrom::Start(to))?;
            (self.content, self.padding) = (0, 0);
        }
        self.entry()
    }
}

/// What extensions said about the next entry.
#[derive(Default)]
struct Extra {
    any: bool,
    /// How long they were together.
    bytes: u64,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Option<PaxSparse>,
}

#[derive(Default)]
struct PaxSparse {
    major: u64,
    minor: u64,
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extra {
    /// PAX records: `LENGTH KEY=VALUE\n`, the length counting itself.
    fn take_pax(&mut self, mut records: &[u8]) -> io::Result<()> {
        let wrong = || malformed("a pax record is not valid");
        while !records.is_empty() {
            let space = records.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = number_line(&records[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?;
            // The shortest record is `5 a=\n`.
            if length < space + 3 || length > records.len() || records[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &records[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            self.record(&record[..equals], &record[equals + 1..]).ok_or_else(wrong)?;
            records = &records[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(without_nul(value)?),
            b"linkpath" => self.link = Some(without_nul(value)?),
            b"size" => self.size = Some(number_line(value)?),
            b"uid" => self.uid = Some(number_line(value)?),
            b"gid" => self.gid = Some(number_line(value)?),
            b"mtime" => self.modified = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.get_or_insert_default().major = number_line(value)?,
            b"GNU.sparse.minor" => self.sparse.get_or_insert_default().minor = number_line(value)?,
            b"GNU.sparse.name" => self.sparse.get_or_insert_default().name = Some(without_nul(value)?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.get_or_insert_default().size = Some(number_line(value)?);
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((without_nul(name)?, value.to_vec()));
                }
            }
        }
        Some(())
    }
}

fn kind(header: &Header, path: &[u8]) -> io::Result<Kind> {
    Ok(match header.entry_type() {
        // Before POSIX a directory was a file whose name ends in a slash.
        EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => Kind::CharDevice,
        EntryType::Block => Kind::BlockDevice,
        other => {
            return Err(malformed(&format!("an entry of type {:?} is not supported", char::from(other.as_byte()))));
        }
    })
}

/// A number of the header; a field left blank is 0.
fn field(bytes: &[u8], value: io::Result<u64>) -> Option<u32> {
    match value {
        Ok(number) => u32::try_from(number).ok(),
        Err(_) => bytes.iter().all(|b| matches!(b, 0 | b' ')).then_some(0),
    }
}

fn owner(pax: Option<u64>, bytes: &[u8], value: io::Result<u64>) -> Option<u32> {
    pax.map_or_else(|| field(bytes, value), |number| u32::try_from(number).ok())
}

/// Devices' numbers; archives older than ustar have none.
fn device(header: &Header) -> (u32, u32) {
    let number = |value: io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
    (number(header.device_major()), number(header.device_minor()))
}

/// A map whose parts are in order, inside the file, and as long together as what is stored.
fn checked(parts: Vec<(u64, u64)>, stored: u64, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut end = 0;
    let mut sum = 0_u64;
    for (offset, length) in &parts {
        let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
        end = next.ok_or_else(|| malformed("a sparse file's map is not valid"))?;
        sum += length; // cannot overflow: parts do not overlap below `size`
    }
    if sum != stored {
        return Err(malformed("a sparse file's map does not fit its content"));
    }
    Ok(parts)
}

/// `1700000000.123456789`, perhaps negative.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = seconds.parse::<i64>().ok()?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos = digits.parse::<u32>().ok()?;
    match (text.starts_with('-'), nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}

/// The decimal number at the beginning of `text`, up to its end or a newline.
fn number_line(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|b| *b == b'\n').unwrap_or(text.len());
    let digits = &text[..end];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn without_nul(bytes: &[u8]) -> Option<Vec<u8>> {
    (!bytes.contains(&0)).then(|| bytes.to_vec())
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed archive: {what}"))
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Tar, pax_record};

    fn entries(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let mut archive = Archive::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = archive.next()? {
            let mut content = vec![0; usize::try_from(entry.size).unwrap().min(1 << 20)];
            archive.copy(&entry, |at, bytes| {
                let at = usize::try_from(at).unwrap();
                if let Some(place) = content.get_mut(at..at + bytes.len()) {
                    place.copy_from_slice(bytes);
                }
                Ok(())
            })?;
            all.push((entry, content));
        }
        Ok(all)
    }

    #[test]
    fn long_names_come_from_gnu_and_pax_extensions() {
        let long = "d/".repeat(120) + "file";
        let gnu = Tar::new().file(&long, b"x").bytes();
        assert_eq!(entries(&gnu).unwrap()[0].0.path, long.as_bytes());
        let pax = Tar::new().pax(&pax_record("path", long.as_bytes())).file("short", b"x").bytes();
        assert_eq!(entries(&pax).unwrap()[0].0.path, long.as_bytes());
    }

    #[test]
    fn pax_records_give_times_owners_and_attributes() {
        let records = [
            pax_record("mtime", b"-1.5"),
            pax_record("uid", b"4000000000"),
            pax_record("SCHILY.xattr.user.x", b"a\0\nb"),
        ]
        .concat();
        let all = entries(&Tar::new().pax(&records).file("f", b"hello").bytes()).unwrap();
        let (entry, content) = &all[0];
        assert_eq!((entry.modified, entry.uid), ((-2, 500_000_000), 4_000_000_000));
        assert_eq!(entry.xattrs, [(b"user.x".to_vec(), b"a\0\nb".to_vec())]);
        assert_eq!(content, b"hello");
    }

    #[test]
    fn a_sparse_file_in_pax_format_has_its_parts_in_place() {
        let records = [
            pax_record("GNU.sparse.major", b"1"),
            pax_record("GNU.sparse.minor", b"0"),
            pax_record("GNU.sparse.name", b"holes"),
            pax_record("GNU.sparse.realsize", b"20"),
        ]
        .concat();
        let mut stored = b"2\n3\n2\n10\n1\n".to_vec();
        stored.resize(BLOCK, 0);
        stored.extend_from_slice(b"abc");
        let all = entries(&Tar::new().pax(&records).file("GNUSparseFile.0/holes", &stored).bytes()).unwrap();
        assert_eq!((all[0].0.path.as_slice(), all[0].0.size), (&b"holes"[..], 20));
        assert_eq!(all[0].1, b"\0\0\0ab\0\0\0\0\0c\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn sparse_files_of_a_real_tar_come_out_whole_in_both_formats() {
        let dir = tempfile::tempdir().unwrap();
        let mut content = vec![0_u8; 3 << 20];
        // More parts than fit into one header, a hole at the end, and one at the beginning.
        (1..40).for_each(|n| content[n * 65_536..n * 65_536 + 10].copy_from_slice(b"0123456789"));
        let file = std::fs::File::create(dir.path().join("holes")).unwrap();
        use std::os::unix::fs::FileExt;
        (1..40).for_each(|n| file.write_all_at(b"0123456789", n * 65_536).unwrap());
        file.set_len(3 << 20).unwrap();
        for format in ["gnu", "posix"] {
            let mut tar = std::process::Command::new("tar");
            tar.args(["--sparse", "--format", format, "-cf", "-", "holes"]).current_dir(dir.path());
            let archive = tar.output().expect("Debian has tar").stdout;
            assert!(archive.len() < 1 << 20, "{format}: tar saw no holes, so this shows nothing");
            let mut archive = Archive::new(archive.as_slice());
            let entry = archive.next().unwrap().unwrap();
            let mut out = vec![0; content.len()];
            archive
                .copy(&entry, |at, bytes| {
                    let at = usize::try_from(at).unwrap();
                    out[at..at + bytes.len()].copy_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
            assert_eq!((entry.path.as_slice(), entry.size), (&b"holes"[..], 3 << 20), "{format}");
            assert!(out == content, "{format}");
            assert_eq!(archive.next().unwrap(), None, "{format}");
        }
    }

    #[test]
    fn many_extensions_that_together_would_fill_memory_are_refused() {
        let records = pax_record("SCHILY.xattr.user.x", &[7; 300_000]);
        let archive = (0..5).fold(Tar::new(), |tar, _| tar.pax(&records)).file("f", b"").bytes();
        let said = entries(&archive).unwrap_err().to_string();
        assert_eq!(said, "malformed archive: extensions of more than 1048576 bytes for one entry");
    }

    #[test]
    fn an_extension_that_would_fill_memory_is_refused() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let said = entries(header.as_bytes()).unwrap_err().to_string();
        assert_eq!(said, "malformed archive: an extension of 1099511627776 bytes is longer than 1048576");
    }

    #[test]
    fn a_stream_cut_anywhere_inside_an_entry_is_an_error() {
        let whole = Tar::new().dir("d").file("d/f", &[7; 1000]).bytes();
        for end in [1, 511, 513, 1024 + 100, 1024 + 1000] {
            let said = entries(&whole[..end]).unwrap_err().to_string();
            assert_eq!(said, "the archive is cut short", "cut at {end}");
        }
        assert_eq!(entries(&whole).unwrap().len(), 2);
    }

    #[test]
    fn garbage_is_not_a_header() {
        let said = entries(&[b'x'; 2048]).unwrap_err().to_string();
        assert_eq!(said, "malformed archive: invalid tar header");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let _ = entries(&bytes);
        }

        #[test]
        fn a_damaged_archive_never_panics(at in 0_usize..4096, value: u8, sum: bool) {
            let records = [pax_record("GNU.sparse.major", b"1"), pax_record("mtime", b"1.5")].concat();
            let mut bytes = Tar::new().pax(&records).file("a", b"1\n0\n1\n").symlink("b", "a").bytes();
            let at = at % bytes.len();
            bytes[at] = value;
            if sum {
                let block = at / BLOCK * BLOCK;
                let mut header = Header::from_byte_slice(&bytes[block..block + BLOCK]).clone();
                header.set_cksum();
                bytes[block..block + BLOCK].copy_from_slice(header.as_bytes());
            }
            let _ = entries(&bytes);
        }
    }
}
