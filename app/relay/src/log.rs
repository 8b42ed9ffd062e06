//! `relay.log`: warnings and errors, in a file that is open since before the cage and never longer than [`LENGTH_MAX`].

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// In octets: some thousand lines.
const LENGTH_MAX: u64 = 256 << 10;

/// Errors and warnings go to the file at `path`, for as long as it can be written.
pub(crate) fn to(path: &Path) {
    let Ok(log) = Log::open(path) else { return };
    let told = tracing_subscriber::fmt().with_ansi(false).with_writer(Shared(Mutex::new(log))).with_target(false);
    // Only the first subscriber counts.
    let _ = told.with_max_level(tracing::Level::INFO).try_init();
}

struct Log {
    file: File,
    length: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).read(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// Keeps the newer half, from the beginning of a line on.
    fn shorten(&mut self) -> io::Result<()> {
        let mut rest = vec![0; (self.length.min(LENGTH_MAX) / 2) as usize];
        let from = self.length - rest.len() as u64;
        self.file.read_exact_at(&mut rest, from)?;
        let line = rest.iter().position(|octet| *octet == b'\n').map_or(rest.len(), |end| end + 1);
        self.file.set_len(0)?;
        self.length = 0;
        self.append(&rest[line..])
    }

    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets)?;
        self.length += octets.len() as u64;
        Ok(())
    }
}

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.length + octets.len() as u64 > LENGTH_MAX {
            self.shorten()?;
        }
        self.append(octets)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Shared(Mutex<Log>);

/// One line is written at a time.
struct Writer<'a>(MutexGuard<'a, Log>);

impl<'a> MakeWriter<'a> for Shared {
    type Writer = Writer<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Writer(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_never_too_long_and_its_last_lines_are_there() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        std::fs::write(path, "older\n".repeat(60_000)).unwrap();
        let mut log = Log::open(path).unwrap();
        let mut longest = 0;
        for n in 0..20_000 {
            writeln!(log, "line {n}, which is not very short").unwrap();
            longest = longest.max(path.metadata().unwrap().len());
        }
        assert!(longest <= LENGTH_MAX && longest > LENGTH_MAX / 2, "{longest}");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("line ") && text.ends_with("line 19999, which is not very short\n"));
        let first: usize = text[5..].split(',').next().unwrap().parse().unwrap();
        assert_eq!(text.lines().count(), 20_000 - first, "no line between is missing");
    }
}
