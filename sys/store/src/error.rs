//! Errors by what callers do about them.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::ContainerId;
use rusqlite::ErrorCode;

/// Why the store could not be opened, read or changed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What the file holds is not what we wrote.
    #[error(
        "the store {} is damaged: {what}; restore it from a backup, or move it away to begin with an empty one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A later podwire wrote it.
    #[error("the store {} was written by a later podwire (format {found}, this one knows {known})", path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another container has the name.
    #[error("the container name {name:?} is already in use by {id}")]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        id: ContainerId,
    },
    /// Another network has the name, or the id.
    #[error("network name {name} already used")]
    NetworkExists {
        /// The name.
        name: String,
    },
    /// Another container holds the address.
    #[error("IP address {ip} is already in use by container {holder}")]
    AddressInUse {
        /// The address.
        ip: IpAddr,
        /// Who holds it.
        holder: ContainerId,
    },
    /// Somebody has been writing for half a minute.
    #[error("the store {} is in use by another process for too long", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space left on the file system of {}: free some and try again", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be reached, read or written.
    #[error("cannot use the store {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system or SQLite said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source: Box::new(e) },
        }
    }
}

/// Makes SQLite's errors ours.
pub(crate) fn at(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    move |e| {
        let path = path.to_owned();
        match e.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                StoreError::Damaged { path, what: e.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            // The shared-memory file beside it reports a full disk as an I/O error (SQLITE_IOERR_SHMSIZE).
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if no_space(&path) => StoreError::Full { path },
            // A column of another type or a missing table: the file's structure is not ours.
            None => StoreError::Damaged { path, what: e.to_string() },
            Some(ErrorCode::Unknown) if e.to_string().starts_with("no such") => {
                StoreError::Damaged { path, what: e.to_string() }
            }
            Some(_) => StoreError::Io { path, source: Box::new(e) },
        }
    }
}

/// Less than the file's log grows by at a time.
fn no_space(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(Path::new("/"));
    linux::machine::free_space(directory).is_ok_and(|bytes| bytes < 64 << 10)
}
