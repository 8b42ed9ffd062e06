//! Files that are there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::machine::random;

/// What a power cut may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: on disk when the call returns.
    PowerCut,
    /// Lose it: for what a reboot makes void anyway.
    ThisBoot,
}

/// Writes `content` to `path` by a temporary file beside it and a rename: readers see the old file or the
/// new one. Leaves no temporary file when it fails. `mode` is not reduced by the umask.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staged = Staged::create(directory, mode)?;
    (&staged.file).write_all(content)?;
    if durability == Durability::PowerCut {
        staged.file.sync_all()?;
    }
    std::fs::rename(&staged.path, path)?;
    staged.keep();
    if durability == Durability::PowerCut {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// A temporary file, removed when dropped unless kept.
struct Staged {
    path: PathBuf,
    file: File,
}

impl Staged {
    fn create(directory: &Path, mode: u32) -> io::Result<Self> {
        let path = directory.join(format!(".podwire-{:016x}", u64::from_ne_bytes(random()?)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let staged = Self { path, file };
        rustix::fs::fchmod(&staged.file, rustix::fs::Mode::from_raw_mode(mode))?;
        Ok(staged)
    }

    fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Nothing better to do: the caller already has an error to show.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_with_the_mode_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        write_atomic(&path, b"old, and longer", 0o600, Durability::ThisBoot).unwrap();
        write_atomic(&path, b"new", 0o666, Durability::PowerCut).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o666);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_directory_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        std::fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(write_atomic(&path, b"x", 0o644, Durability::ThisBoot).is_err());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }
}
