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

/// How the name of something begins that is there for a moment. The number of the process whose it is follows.
const PASSING: &str = ".podwire-";

/// A name that nothing else has, for what this process is making or taking away: [`remove_leftovers`] knows it.
pub fn passing_name() -> io::Result<String> {
    Ok(format!("{PASSING}{}-{:016x}", std::process::id(), u64::from_ne_bytes(random()?)))
}

/// Removes what processes that have died have left in a directory under a [`passing_name`].
pub fn remove_leftovers(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PASSING)?.split_once('-')?.0.parse::<u32>().ok());
        let is_left = owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        let removed = match entry.file_type() {
            _ if !is_left => Ok(()),
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
            _ => std::fs::remove_file(entry.path()),
        };
        // Somebody else was faster.
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
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
        let path = directory.join(passing_name()?);
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
    fn what_the_dead_have_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let own = passing_name().unwrap();
        // No process has so high a number (PID_MAX_LIMIT in include/linux/threads.h).
        for name in [&own, ".podwire-4194305-1", ".podwire-x", "podwire-4194305-1"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        std::fs::create_dir_all(directory.path().join(".podwire-4194306-1/below")).unwrap();
        remove_leftovers(directory.path()).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut kept = vec![own, ".podwire-x".to_owned(), "podwire-4194305-1".to_owned()];
        kept.sort();
        assert_eq!(left, kept);
        remove_leftovers(&directory.path().join("nothing")).unwrap();
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
