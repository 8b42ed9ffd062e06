//! One command's view of containers, images and networks.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ipam::SubnetPool;
use linux::ProcessRef;
use model::{ContainerId, ContainerName, Subnet};
use store::{ContainerRow, Lookup, Store, Tx};

use crate::error::{Error, Kind, Result};
use crate::events;
use crate::networking::Networking;
use crate::record::{ContainerRecord, State};

/// Where podwire keeps what, and with which runtime it runs containers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EngineOptions {
    /// `--root`: images, containers, the store.
    pub root: PathBuf,
    /// `--runroot`: what a reboot makes void.
    pub runroot: PathBuf,
    /// `--tmpdir`
    pub tmpdir: PathBuf,
    /// `--network-config-dir`: a set of network definitions of its own.
    pub network_config_dir: Option<PathBuf>,
    /// Do we work for an ordinary user, as root of a user namespace of his own? See [`crate::rootless`].
    #[serde(default)]
    pub rootless: bool,
    /// `--runtime`: a name in PATH or a path; crun, else runc, when absent.
    pub runtime: Option<String>,
    /// The default network's subnet, when it is first used; Podman's when absent.
    #[serde(default)]
    pub default_subnet: Option<Subnet>,
    /// What subnets of new networks are taken from; Podman's pools when absent.
    #[serde(default)]
    pub subnet_pools: Option<Vec<SubnetPool>>,
}

impl EngineOptions {
    pub(crate) fn pools(&self) -> &[SubnetPool] {
        self.subnet_pools.as_deref().unwrap_or(ipam::POOLS)
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/podwire"),
            runroot: PathBuf::from("/run/podwire"),
            tmpdir: PathBuf::from("/run/podwire/tmp"),
            network_config_dir: None,
            rootless: false,
            runtime: None,
            default_subnet: None,
            subnet_pools: None,
        }
    }
}

/// Containers, images and networks of one root.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    pub(crate) store: Store,
    /// The network definitions in use: the text of `--network-config-dir`.
    pub(crate) scope: String,
}

impl Engine {
    /// Opens the root, makes its directories when missing, and repairs what commands and monitors that died
    /// left behind.
    pub fn open(options: EngineOptions) -> Result<Self> {
        if !linux::process::is_root() {
            return Err(Error::usage("neither root nor in a user namespace: an engine can work nowhere else"));
        }
        if let Some(missing) = linux::process::missing_capability().map_err(Error::usage)? {
            return Err(Error::usage(format!("podwire needs the capability {missing}, which this process has not")));
        }
        let mut engine = Self::open_as_is(options)?;
        engine.repair()?;
        engine.read_network_files()?;
        Ok(engine)
    }

    /// As [`Engine::open`], without a look at what others left: for processes of ours that were just started.
    pub(crate) fn open_as_is(options: EngineOptions) -> Result<Self> {
        crate::rootless::settle(&options)?;
        for dir in [&options.root, &options.runroot, &options.tmpdir] {
            make_dir(dir)?;
        }
        let store = Store::open(&options.root)?;
        let scope = options.network_config_dir.as_ref().map_or(String::new(), |dir| dir.display().to_string());
        Ok(Self { options, store, scope })
    }

    /// What it was opened with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Images of this root.
    pub fn images(&self) -> Result<images::Images<'_>> {
        images::Images::open(&self.options.root, &self.store).map_err(Error::from)
    }

    pub(crate) fn networking(&self) -> Networking<'_> {
        Networking::new(&self.store, &self.options, &self.scope)
    }

    /// The container with this name, id, or only id that begins so.
    pub fn find(&self, name: &str) -> Result<ContainerId> {
        match self.store.read(|tx| tx.container_find(name))? {
            Lookup::Found(id) => Ok(id),
            Lookup::NotFound => Err(no_such_container(name)),
            Lookup::Ambiguous => Err(Error::usage(format!(
                "more than one result for container name or ID {name}: container already exists"
            ))),
        }
    }

    pub(crate) fn record(&self, id: &ContainerId) -> Result<ContainerRecord> {
        self.store.read(|tx| load(tx, id))?.ok_or_else(|| no_such_container(&id.to_string()))
    }

    /// The record of the container a user named.
    pub(crate) fn named(&self, name: &str) -> Result<ContainerRecord> {
        let id = self.find(name)?;
        self.record(&id)
    }

    /// All containers, oldest first.
    pub(crate) fn records(&self) -> Result<Vec<ContainerRecord>> {
        let rows = self.store.read(|tx| tx.containers())?;
        rows.into_iter()
            .map(|(row, doc)| serde_json::from_value(doc).map_err(|e| Error::at(format!("container {}", row.id), e)))
            .collect()
    }

    pub(crate) fn places(&self, id: &ContainerId) -> Places {
        let below = |base: &Path| base.join("overlay-containers").join(id.to_string());
        Places { root: below(&self.options.root), run: below(&self.options.runroot) }
    }

    /// Removes the record and every file of a container that is down, with its anonymous volumes if asked.
    pub(crate) fn forget(&self, record: &ContainerRecord, volumes: bool) -> Result<()> {
        let places = self.places(&record.id);
        // Files first: a record without files can be removed again, files without a record only be found.
        remove_tree(&places.run)?;
        remove_tree(&places.root)?;
        if let Some(path) = &record.settings.id_file {
            remove_if_says(path, &record.id.to_string());
        }
        if volumes {
            self.remove_anonymous_volumes(record)?;
        }
        Ok(self.store.write(|tx| {
            // Another process may have come to the end of this before us.
            match tx.container_remove(&record.id)? {
                true => tx.event_add(&events::of_container(record, "remove")),
                false => Ok(()),
            }
        })?)
    }
}

/// A container's directories.
pub(crate) struct Places {
    /// What outlives a reboot.
    root: PathBuf,
    /// What does not.
    run: PathBuf,
}

impl Places {
    /// What does not.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.root.join("diff")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub(crate) fn merged(&self) -> PathBuf {
        self.root.join("merged")
    }

    pub(crate) fn static_data(&self) -> PathBuf {
        self.root.join("userdata")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.static_data().join("ctr.log")
    }

    pub(crate) fn run_data(&self) -> PathBuf {
        self.run.join("userdata")
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.run_data().join("hosts")
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.run_data().join("resolv.conf")
    }

    pub(crate) fn hostname(&self) -> PathBuf {
        self.run_data().join("hostname")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.run_data().join("pidfile")
    }
}

pub(crate) fn no_such_container(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("no container with name or ID {name:?} found: no such container"))
}

pub(crate) fn load(tx: &Tx<'_>, id: &ContainerId) -> Result<Option<ContainerRecord>> {
    Ok(tx.container_doc::<ContainerRecord>(id)?.map(|(_, record)| record))
}

pub(crate) fn insert(tx: &Tx<'_>, record: &ContainerRecord) -> Result<()> {
    let row = ContainerRow {
        id: record.id,
        name: record.name.to_string(),
        image: record.image,
        state: state_column(record),
        created: i64::try_from(record.created.as_nanosecond()).unwrap_or(i64::MAX),
    };
    crate::pods::check_join(tx, record)?;
    tx.container_insert(&row, record).map_err(|e| name_in_use(&record.name, e))?;
    Ok(tx.event_add(&events::of_container(record, "create"))?)
}

pub(crate) fn save(tx: &Tx<'_>, record: &ContainerRecord) -> Result<()> {
    tx.container_update(&record.id, &state_column(record), record)?;
    Ok(())
}

fn name_in_use(name: &ContainerName, error: store::StoreError) -> Error {
    match error {
        store::StoreError::NameInUse { id, .. } => Error::usage(format!(
            "creating container storage: the container name \"{name}\" is already in use by {id}. You have to remove \
             that container to be able to reuse that name: that name is already in use, or use --replace to instruct \
             podwire to do so."
        )),
        other => other.into(),
    }
}

/// The state's word; while somebody must be alive for it, with that process: `running 4711 12345`. So that
/// whoever looks for the dead need not read the documents of the living.
fn state_column(record: &ContainerRecord) -> String {
    match record.owner {
        Some(owner) if !record.state.at_rest() => format!("{} {} {}", record.state.word(), owner.pid, owner.start_time),
        _ => record.state.word().to_owned(),
    }
}

/// The process in a state column.
pub(crate) fn owner_in(column: &str) -> Option<ProcessRef> {
    let mut words = column.split(' ').skip(1);
    Some(ProcessRef { pid: words.next()?.parse().ok()?, start_time: words.next()?.parse().ok()? })
}

/// The first word of all states that need somebody alive is `running`, `starting` or `stopping`: these sort
/// after those at rest.
pub(crate) const FIRST_OWNED_STATE: &str = "r";

/// A record changed by whoever owns it. `change` says `false` when it does not want to after all.
pub(crate) fn change_if_owned(
    store: &Store,
    id: &ContainerId,
    owner: ProcessRef,
    change: impl FnOnce(&mut ContainerRecord),
) -> Result<Option<ContainerRecord>> {
    store.write(|tx| {
        let Some(mut record) = load(tx, id)?.filter(|record| record.owner == Some(owner)) else { return Ok(None) };
        let before = record.state;
        change(&mut record);
        if record.state.at_rest() {
            record.owner = None;
        }
        save(tx, &record)?;
        events::of_change(before, &record).iter().try_for_each(|event| tx.event_add(event))?;
        Ok(Some(record))
    })
}

/// Makes a directory for root alone, with its parents.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::at(format!("cannot make the directory {}", path.display()), e))
}

/// Removes a directory with all below it; nothing there is not an error.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::at(format!("cannot remove {}", path.display()), e)),
        _ => Ok(()),
    }
}

/// Removes a file that a user asked for, if nobody has written something else to it since.
pub(crate) fn remove_if_says(path: &Path, text: &str) {
    if std::fs::read(path).is_ok_and(|found| found == text.as_bytes())
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove a file of a container");
    }
}

impl State {
    /// Does its first process run?
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_need_somebody_alive_sort_after_those_at_rest() {
        for state in [State::Created, State::Starting, State::Running, State::Stopping, State::Exited] {
            assert_eq!(state.word() >= FIRST_OWNED_STATE, !state.at_rest(), "{state}");
        }
    }

    #[test]
    fn an_owner_is_read_back_from_the_state_column() {
        assert_eq!(owner_in("running 4711 12345"), Some(ProcessRef { pid: 4711, start_time: 12345 }));
        assert_eq!(owner_in("exited"), None);
    }
}
