//! Tables, and how files of earlier versions become ours.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use linux::HostLock;
use rusqlite::Connection;

use crate::{Kind, OpenTransaction, Result, StoreError, connect, error};

/// What made the format `n + 1` out of the format `n`. Only ever added to.
const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    -- The default network has the same id in every scope.
    CREATE TABLE network(
        scope TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, doc TEXT NOT NULL,
        PRIMARY KEY(scope, name), UNIQUE(scope, id));
    CREATE INDEX network_id ON network(id);

    CREATE TABLE container(
        id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL, state TEXT NOT NULL,
        created INTEGER NOT NULL, doc TEXT NOT NULL);
    CREATE INDEX container_state ON container(state);
    CREATE INDEX container_image ON container(image);

    -- endpoint is JSON; 'null' until the attachment exists in the kernel.
    CREATE TABLE attachment(
        container TEXT NOT NULL, network TEXT NOT NULL, ord INTEGER NOT NULL, endpoint TEXT NOT NULL,
        PRIMARY KEY(container, network)) WITHOUT ROWID;
    CREATE INDEX attachment_network ON attachment(network, container);
    CREATE INDEX attachment_up ON attachment(network, container) WHERE endpoint <> 'null';

    -- ip is 4 or 16 bytes. container is NULL from release on, released is in seconds of CLOCK_BOOTTIME.
    -- seq grows with each lease of a network.
    CREATE TABLE lease(
        network TEXT NOT NULL, ip BLOB NOT NULL, container TEXT, released INTEGER, seq INTEGER NOT NULL,
        PRIMARY KEY(network, ip)) WITHOUT ROWID;
    CREATE INDEX lease_seq ON lease(network, seq);
    CREATE INDEX lease_container ON lease(container) WHERE container IS NOT NULL;
    CREATE INDEX lease_released ON lease(released) WHERE released IS NOT NULL;

    CREATE TABLE made(seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, object TEXT NOT NULL);
    CREATE INDEX made_owner ON made(owner);
    CREATE TABLE journal(id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, plan TEXT NOT NULL);

    -- Single ports and ranges are looked for apart: a single port by its number, ranges one by one.
    CREATE TABLE port(
        container TEXT NOT NULL, protocol INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        mapping TEXT NOT NULL);
    CREATE INDEX port_container ON port(container);
    CREATE INDEX port_single ON port(protocol, first) WHERE first = last;
    CREATE INDEX port_range ON port(protocol, first, last) WHERE first < last;

    CREATE TABLE image(id TEXT NOT NULL PRIMARY KEY, doc TEXT NOT NULL);
    CREATE TABLE image_layer(
        image TEXT NOT NULL, ord INTEGER NOT NULL, layer INTEGER NOT NULL, PRIMARY KEY(image, ord)) WITHOUT ROWID;
    CREATE INDEX image_layer_layer ON image_layer(layer);
    CREATE TABLE image_name(name TEXT NOT NULL PRIMARY KEY, image TEXT NOT NULL);
    CREATE INDEX image_name_image ON image_name(image);
    -- chain_id is NULL until the layer is whole. maker is the process that makes it, until an image has it.
    CREATE TABLE layer(
        id INTEGER PRIMARY KEY AUTOINCREMENT, diff_id TEXT, chain_id TEXT UNIQUE, size INTEGER, maker TEXT);

    CREATE TABLE volume(name TEXT NOT NULL PRIMARY KEY, doc TEXT NOT NULL);
",
    "
    -- Outlives the container's runs and the machine's. fixed: its user asked for it; else it had it last.
    CREATE TABLE kept_address(
        container TEXT NOT NULL, network TEXT NOT NULL, ip BLOB NOT NULL, fixed INTEGER NOT NULL,
        PRIMARY KEY(container, network, ip)) WITHOUT ROWID;
    CREATE INDEX kept_address_network ON kept_address(network, fixed, ip);
    CREATE INDEX attachment_host_link ON attachment(endpoint ->> '$.endpoint.host_link');
    CREATE INDEX container_sharer ON container(doc ->> '$.settings.network.mode.Container');
    CREATE INDEX attachment_mac ON attachment(network, endpoint ->> '$.endpoint.mac');

    -- time is in nanoseconds of Unix time.
    CREATE TABLE event(seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, doc TEXT NOT NULL);
",
    "
    -- Outlives the container's runs and the machine's. held: not given back.
    CREATE TABLE lan_lease(
        container TEXT NOT NULL, network TEXT NOT NULL, ipv4 INTEGER NOT NULL, held INTEGER NOT NULL,
        doc TEXT NOT NULL, PRIMARY KEY(container, network, ipv4)) WITHOUT ROWID;
    CREATE INDEX lan_lease_network ON lan_lease(network);
",
    "
    -- leaving: who removes it, `4711 12345`; NULL while it is to stay.
    CREATE TABLE pod(
        id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, leaving TEXT,
        doc TEXT NOT NULL);
    CREATE INDEX pod_leaving ON pod(leaving) WHERE leaving IS NOT NULL;
    CREATE INDEX container_pod ON container(doc ->> '$.settings.pod.id');
",
];

/// The format this podwire writes.
const FORMAT: u32 = MIGRATIONS.len() as u32;

/// Makes the file at `path` and its directory, unless another process has meanwhile.
///
/// It is made whole under another name and then renamed, so that an empty or half file at `path` is always
/// damage, never a creation that was killed.
pub(crate) fn create(root: &Path, path: &Path) -> Result<()> {
    let io = |e| StoreError::io(path, e);
    DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io)?;
    let _lock = HostLock::take_directory(root).map_err(io)?;
    match path.try_exists().map_err(io)? && !connect(path).and_then(|file| is_void(&file)).map_err(error::at(path))? {
        true => Ok(()),
        false => create_alone(root, path),
    }
}

/// The `user_version` of a file whose remover may have died before it was gone.
const VOID: u32 = i32::MAX as u32;

/// Is it only waiting to be removed?
pub(crate) fn is_void(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(format(connection)? == VOID)
}

/// Drops all tables; within a transaction.
pub(crate) fn make_void(connection: &Connection) -> rusqlite::Result<()> {
    connection.flush_prepared_statement_cache();
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    names.iter().try_for_each(|name| connection.execute_batch(&format!("DROP TABLE {name}")))?;
    connection.execute_batch(&format!("PRAGMA user_version={VOID}"))
}

/// Removes a file that is void, unless somebody has made a new one meanwhile.
pub(crate) fn clear(path: &Path) -> Result<()> {
    let io = |e| StoreError::io(path, e);
    let root = path.parent().unwrap_or(Path::new("/"));
    let _lock = HostLock::take_directory(root).map_err(io)?;
    match path.try_exists().map_err(io)? && connect(path).and_then(|file| is_void(&file)).map_err(error::at(path))? {
        true => remove(path).map_err(io),
        false => Ok(()),
    }
}

fn create_alone(root: &Path, path: &Path) -> Result<()> {
    let staged = path.with_extension("db.new");
    let io = |e| StoreError::io(path, e);
    remove(&staged).map_err(io)?;
    // Nor may what SQLite kept beside an earlier file be taken for the new one's.
    remove(path).map_err(io)?;
    let made = fill(&staged, path).and_then(|()| put(&staged, path, root).map_err(io));
    if made.is_err() {
        // The error that matters is the first one.
        let _ = remove(&staged);
    }
    made
}

/// Errors speak of `path`, which users know.
fn fill(staged: &Path, path: &Path) -> Result<()> {
    // Made by us first: the files that SQLite puts beside it get the same mode.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged);
    drop(file.map_err(|e| StoreError::io(path, e))?);
    let connection = connect(staged).map_err(error::at(path))?;
    upgrade(&connection).map_err(error::at(path))?;
    let instance = linux::machine::random::<4>().map_err(|e| StoreError::io(path, e))?;
    let instance = format!("{:08x}", u32::from_be_bytes(instance));
    connection.execute("INSERT INTO meta VALUES('instance', ?1)", [instance]).map_err(error::at(path))?;
    // Kept in the file: whoever opens it finds it in this mode.
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).map_err(error::at(path))?;
    connection.close().map_err(|(_, e)| error::at(path)(e))
}

fn put(staged: &Path, path: &Path, root: &Path) -> io::Result<()> {
    File::open(staged)?.sync_all()?;
    std::fs::rename(staged, path)?;
    File::open(root)?.sync_all()
}

/// Removes the file, then what SQLite keeps beside it.
fn remove(staged: &Path) -> io::Result<()> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = staged.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Brings an existing file to the format of this podwire.
pub(crate) fn migrate(connection: &Connection, path: &Path) -> Result<()> {
    match format(connection).map_err(error::at(path))? {
        FORMAT => Ok(()),
        0 => Err(StoreError::Damaged { path: path.to_owned(), what: "it is empty or not podwire's".to_owned() }),
        found if found > FORMAT => Err(StoreError::Later { path: path.to_owned(), found, known: FORMAT }),
        _ => upgrade(connection).map_err(error::at(path)),
    }
}

fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = OpenTransaction::begin(connection, Kind::Durable)?;
    // Read inside, for another process may have done it before we were let in.
    let found = format(connection)?;
    MIGRATIONS.iter().skip(found as usize).try_for_each(|sql| connection.execute_batch(sql))?;
    connection.execute_batch(&format!("PRAGMA user_version={FORMAT}"))?;
    transaction.commit()
}

fn format(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}
