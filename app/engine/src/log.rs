//! A container's log in Kubernetes' format, as Podman's `k8s-file` driver writes it.
//!
//! ```text
//!   2026-11-24T15:28:45.123456789+00:00 stdout F a whole line
//!   2026-11-24T15:28:45.223456789+00:00 stderr P the beginning of one, to be continued
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;

/// Which of a container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and a terminal's output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Appends to a log.
pub(crate) struct LogWriter {
    file: File,
    /// Whether it was said already that it cannot be written.
    complained: bool,
    buffer: Vec<u8>,
    /// The most bytes the file may have, and how many it has.
    limit: Option<u64>,
    size: u64,
}

impl LogWriter {
    /// `limit`: the file begins anew before it would have more bytes.
    pub(crate) fn open(path: &Path, limit: Option<u64>) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, complained: false, buffer: Vec::new(), limit, size })
    }

    /// Writes what was read at once. A container must not stop for a log that cannot be written (full disk).
    pub(crate) fn write(&mut self, now: Timestamp, stream: Stream, bytes: &[u8]) {
        self.buffer.clear();
        format_chunk(&mut self.buffer, now, stream, bytes);
        if let Err(error) = self.write_buffer()
            && !std::mem::replace(&mut self.complained, true)
        {
            // Standard error is userdata/monitor.log.
            let _ = writeln!(io::stderr(), "the log cannot be written: {error}");
        }
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let Some(limit) = self.limit else { return self.file.write_all(&self.buffer) };
        for line in self.buffer.split_inclusive(|byte| *byte == b'\n') {
            let length = line.len() as u64;
            if self.size + length > limit {
                self.file.set_len(0)?;
                self.size = 0;
            }
            self.file.write_all(line)?;
            self.size += length;
        }
        Ok(())
    }
}

pub(crate) fn format_chunk(out: &mut Vec<u8>, now: Timestamp, stream: Stream, bytes: &[u8]) {
    let time = now.strftime("%Y-%m-%dT%H:%M:%S%.9f+00:00").to_string();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.ends_with(b"\n");
        out.extend_from_slice(time.as_bytes());
        out.push(b' ');
        out.extend_from_slice(stream.word().as_bytes());
        out.extend_from_slice(if whole { b" F " } else { b" P " });
        out.extend_from_slice(line);
        if !whole {
            out.push(b'\n');
        }
    }
}

/// One line of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// When it was written: RFC 3339, nine digits after the second.
    pub time: &'a str,
    /// Where to.
    pub stream: Stream,
    /// Is it the end of a line of the container's, or will it be continued?
    pub whole: bool,
    /// What was written, with its line end when it has one.
    pub text: &'a [u8],
}

impl<'a> LogLine<'a> {
    /// Reads one line, its line end included. `None` for what is none: the rest of a line cut off by a crash.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let whole = match parts.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        let text = parts.next()?;
        let text = if whole { text } else { text.strip_suffix(b"\n").unwrap_or(text) };
        Some(Self { time, stream, whole, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_pieces_of_lines_are_written_as_kubernetes_reads_them() {
        let now: Timestamp = "2026-11-24T15:28:45.1234Z".parse().unwrap();
        let mut out = Vec::new();
        format_chunk(&mut out, now, Stream::Stdout, b"one\n\nbegin");
        format_chunk(&mut out, now, Stream::Stderr, b"x\n");
        let expected = "2026-11-24T15:28:45.123400000+00:00 stdout F one\n\
                        2026-11-24T15:28:45.123400000+00:00 stdout F \n\
                        2026-11-24T15:28:45.123400000+00:00 stdout P begin\n\
                        2026-11-24T15:28:45.123400000+00:00 stderr F x\n";
        assert_eq!(String::from_utf8(out.clone()).unwrap(), expected);
        let texts: Vec<_> =
            out.split_inclusive(|b| *b == b'\n').map(|l| LogLine::parse(l).unwrap().text.to_vec()).collect();
        assert_eq!(texts, [b"one\n".to_vec(), b"\n".to_vec(), b"begin".to_vec(), b"x\n".to_vec()]);
    }

    #[test]
    fn what_is_no_line_of_a_log_is_told() {
        for wrong in [&b""[..], b"2026 stdout", b"2026 stdfoo F x\n", b"2026 stdout X x\n", b"\xff stdout F x\n"] {
            assert_eq!(LogLine::parse(wrong), None);
        }
    }
}
