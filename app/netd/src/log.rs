//! `netd.log` in the run directory: made when there is something to tell, and kept short.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is longer becomes `netd.log.1`, instead of the one before it.
const LENGTH_MAX: u64 = 1 << 20;

/// Logs to `netd.log` in `runroot` from now on, panics too.
pub(crate) fn start(runroot: &Path) {
    let path = runroot.join("netd.log");
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || Line(path.clone()))
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
}

/// One event. They are rare, so the file is opened for each.
struct Line(PathBuf);

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if std::fs::metadata(&self.0).is_ok_and(|meta: Metadata| meta.len() > LENGTH_MAX) {
            std::fs::rename(&self.0, self.0.with_extension("log.1"))?;
        }
        File::options().append(true).create(true).mode(0o600).open(&self.0)?.write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
