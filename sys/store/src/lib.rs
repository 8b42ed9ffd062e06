//! What podwire remembers: one SQLite file per root.
//!
//! ```text
//!   <root>/podwire.db ──Store::open──> Store ──write(|tx| …)──> Tx: networks · containers · attachments · pods
//!                                        │                          leases · kept addresses · LAN leases · ports · made
//!                                        └──────read(|tx| …)──> Tx  journal · images · layers · names · volumes · meta · events
//! ```
//!
//! **How it works.** A closure is a transaction: what it did is there whole when it returns `Ok`, not at all
//! when it returns `Err`, panics, or the process is killed. Columns are what is looked for, documents (JSON)
//! are what is found. Each table's methods are in its own file, all on [`Tx`].
//!
//! **Invariants.** An address has one holder, a name one container: the file refuses the second. Every
//! look-up goes by an index, so cost does not grow with the number of containers. A file that another
//! version wrote is migrated forward or refused, never guessed at.
//!
//! **Limits.** One transaction at a time per [`Store`], and they do not nest. A power cut may take the last
//! changes of [`Store::write`] with it, though never in part; those of [`Store::write_durable`] it does not.
//!
//! **Start reading** at [`Store`], then `schema.rs`.

mod containers;
mod error;
mod events;
mod images;
mod kept;
mod lan;
mod leases;
mod meta;
mod networks;
mod plans;
mod pods;
mod ports;
mod schema;
mod volumes;

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags};

pub use containers::{ContainerRow, Lookup};
pub use error::StoreError;
pub use events::{EVENTS_KEPT, Event};
pub use lan::LanLease;
pub use leases::{Lease, QUARANTINE};
pub use pods::PodRow;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The open file.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    instance: String,
}

/// A transaction.
#[derive(Debug)]
pub struct Tx<'a> {
    connection: &'a Connection,
    path: &'a Path,
    kind: Kind,
}

/// What a transaction's last changes must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Durable,
}

impl Store {
    /// The file's name in the root directory.
    pub const FILE: &str = "podwire.db";

    /// Opens `<root>/podwire.db`; makes it, and the directory, when missing.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join(Self::FILE);
        if !path.try_exists().map_err(|e| StoreError::io(&path, e))? {
            schema::create(root, &path)?;
        }
        let mut connection = connect(&path).map_err(error::at(&path))?;
        if schema::is_void(&connection).map_err(error::at(&path))? {
            drop(connection);
            schema::create(root, &path)?;
            connection = connect(&path).map_err(error::at(&path))?;
        }
        schema::migrate(&connection, &path)?;
        let mut store = Self { connection, path, instance: String::new() };
        store.instance = store.read(|tx| tx.meta_get("instance"))?.ok_or_else(|| StoreError::Damaged {
            path: store.path.clone(),
            what: "it has no instance id".to_owned(),
        })?;
        Ok(store)
    }

    /// Which store this is: 8 hexadecimal digits, made with the file; part of every mark.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets everything and removes the file, when `check` agrees. Whoever has it open gets errors from then on, so
    /// that nobody works on for a store that is gone; whoever opens it next gets a new one.
    pub fn destroy<E: From<StoreError>>(self, check: impl FnOnce(&Tx<'_>) -> Result<(), E>) -> Result<(), E> {
        self.write_durable(|tx| {
            check(tx)?;
            Ok::<_, E>(schema::make_void(tx.connection).map_err(error::at(tx.path))?)
        })?;
        let Self { connection, path, .. } = self;
        // All it holds is that it is void.
        drop(connection);
        Ok(schema::clear(&path)?)
    }

    /// A number that is another one when somebody else has changed the file since: cheaper than to read it again.
    pub fn version(&self) -> Result<i64> {
        let asked = self.connection.prepare_cached("PRAGMA data_version");
        asked.and_then(|mut statement| statement.query_row([], |row| row.get(0))).map_err(error::at(&self.path))
    }

    /// Runs `f` on one snapshot: what others change meanwhile is not seen. `f` must not change anything (it panics).
    pub fn read<T, E: From<StoreError>>(&self, f: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        self.transaction(Kind::Read, f)
    }

    /// Runs `f` alone among writers; its changes are kept when it returns `Ok`.
    pub fn write<T, E: From<StoreError>>(&self, f: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        self.transaction(Kind::Write, f)
    }

    /// As [`Store::write`], and on disk when it returns: for what nobody could make again, as a network's
    /// definition.
    pub fn write_durable<T, E: From<StoreError>>(&self, f: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        self.transaction(Kind::Durable, f)
    }

    fn transaction<T, E: From<StoreError>>(&self, kind: Kind, f: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let open = OpenTransaction::begin(&self.connection, kind).map_err(error::at(&self.path))?;
        let done = f(&Tx { connection: &self.connection, path: &self.path, kind })?;
        open.commit().map_err(error::at(&self.path))?;
        Ok(done)
    }
}

/// Opens an existing file; reads nothing yet.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_handler(Some(wait_a_little))?;
    // A checkpoint at the end of every command would cost it two fsyncs.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // The first command after another reads the whole log again, so it is kept short (in pages of 4 KiB).
    connection.execute_batch("PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=200")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// SQLite's own handler soon waits 100 ms at a time; writers here take about one.
fn wait_a_little(attempt: i32) -> bool {
    const SECONDS: i32 = 30;
    let milliseconds = if attempt < 50 { 1 } else { 5 };
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    attempt < SECONDS * 200
}

/// Rolls back when dropped unless committed.
struct OpenTransaction<'a> {
    connection: &'a Connection,
    kind: Kind,
}

impl<'a> OpenTransaction<'a> {
    fn begin(connection: &'a Connection, kind: Kind) -> rusqlite::Result<Self> {
        connection.execute_batch(match kind {
            Kind::Read => "BEGIN",
            Kind::Write => "BEGIN IMMEDIATE",
            // The pragma has no effect inside a transaction.
            Kind::Durable => "PRAGMA synchronous=FULL; BEGIN IMMEDIATE",
        })?;
        Ok(Self { connection, kind })
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.connection.execute_batch("COMMIT")
    }
}

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        // An error that ended the transaction already (a full disk) makes the rollback fail; that is all
        // it can fail by.
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        if self.kind == Kind::Durable {
            let _ = self.connection.execute_batch("PRAGMA synchronous=NORMAL");
        }
    }
}

/// What each table's methods are made of. SQL texts are literals, prepared once per [`Store`].
impl Tx<'_> {
    fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql).map_err(error::at(self.path))
    }

    /// Changes rows; how many.
    fn change(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        // It would make the snapshot a writer half-way, which fails as soon as another has written.
        assert!(self.kind != Kind::Read, "a change inside Store::read: {sql}");
        self.prepare(sql)?.execute(params).map_err(error::at(self.path))
    }

    /// The first row, if there is one.
    fn row<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params).map_err(error::at(self.path))?;
        rows.next().and_then(|row| row.map(read).transpose()).map_err(error::at(self.path))
    }

    /// All rows.
    fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(params, read).map_err(error::at(self.path))?;
        rows.collect::<rusqlite::Result<_>>().map_err(error::at(self.path))
    }

    /// A row's document. `what` names the row for when it cannot be read.
    fn document<T: serde::de::DeserializeOwned>(&self, what: &str, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|e| self.damaged(format!("{what} cannot be read ({e})")))
    }

    /// A column's text as the type it was made from.
    fn parsed<T: std::str::FromStr>(&self, what: &str, text: &str) -> Result<T> {
        text.parse().map_err(|_| self.damaged(format!("{what} {text:?} cannot be read")))
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.to_owned(), what }
    }
}

/// A document as it is kept.
fn text_of(document: &(impl serde::Serialize + ?Sized)) -> String {
    // Fails only for maps whose keys are no texts and for types that refuse themselves: a mistake in ours.
    serde_json::to_string(document).expect("documents have a JSON form")
}
