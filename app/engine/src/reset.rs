//! Leaving a machine as if we had never been there, and moving containers to another runtime.
//!
//! ```text
//!   pods, containers ──> volumes ──> host lock ── store void and gone ──> layers, directories
//!                                                (whoever had it open fails)      └─ an ordinary user's run
//!                                                                                    directory: its holder
//! ```
//!
//! **How it works.** What has a record goes as it always goes, so that nothing in the kernel is left; killed until
//! then, a reset has only removed some. With the store goes the memory of the rest: layers without a record are what
//! every command removes, and directories that are left empty hold nothing.
//!
//! **Invariants.** Only names that we give are removed: `--root` may name a directory that has other things in it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::ContainerId;

use crate::engine::{Engine, EngineOptions, remove_tree, save};
use crate::error::{Error, Kind, Result};
use crate::netd;
use crate::pods::PodRemoval;
use crate::runtime::Runtime;

/// What we have in a root, beside the store.
const ROOT: &[&str] = &["overlay-containers", "overlay", "volumes", crate::rootless::USED];

/// What we have in a run root; what its holder needs goes with him.
const RUN: &[&str] =
    &["overlay-containers", "pods", "netd.log", "relay.log", "relay.sock", "relay.pid", "netns", "crun", "runc"];

impl Engine {
    /// Removes all containers, pods, images, volumes and networks, and every file of ours.
    pub fn reset(mut self) -> Result<()> {
        let (store, options) = (self.store.instance().to_owned(), self.options().clone());
        let runtimes = self.runtimes()?;
        self.remove_all()?;
        for volume in self.volumes()? {
            self.remove_volume(&volume.volume.name, true, Some(0)).map(drop).or_else(gone)?;
        }
        let machine = self.networking().lock_as_it_is()?;
        let namespace = machine.host.namespace();
        // It leaves with the last attachment.
        if let Some(netd) = netd::process(namespace, &store) {
            netd.wait_end(Some(Duration::from_secs(5))).map_err(Error::usage)?;
        }
        self.store.destroy(|tx| match tx.containers()?.is_empty() {
            true => Ok(()),
            false => Err(Error::new(Kind::InUse, "somebody has made a container meanwhile: reset once more")),
        })?;
        for name in ROOT {
            remove(&options.root.join(name))?;
        }
        for name in RUN.iter().copied().chain(runtimes.iter().map(String::as_str)) {
            remove(&options.runroot.join(name))?;
        }
        if options.tmpdir.starts_with(&options.runroot) {
            remove(&options.tmpdir)?;
        }
        if !options.rootless {
            remove(&linux::lock::path(namespace))?;
        }
        for directory in [netd::directory(namespace), options.root, options.runroot] {
            // Not empty: somebody else's things are in it, or the holder's; or it is a mount point.
            let _ = std::fs::remove_dir(directory);
        }
        drop(machine);
        Ok(())
    }

    fn remove_all(&mut self) -> Result<()> {
        loop {
            for pod in self.pods()? {
                let removal = PodRemoval { force: true, time: Some(0) };
                self.remove_pod(&pod.id.to_string(), &removal).map(drop).or_else(gone)?;
            }
            let records = self.records()?;
            for record in &records {
                self.remove_forced(&record.id, Some(0)).or_else(gone)?;
            }
            if records.is_empty() {
                return Ok(());
            }
        }
    }

    /// The names under which runtimes keep their records.
    fn runtimes(&self) -> Result<Vec<String>> {
        let paths = self.records()?.into_iter().filter_map(|record| record.runtime);
        let names = paths.filter_map(|path| Some(Path::new(&path).file_name()?.to_string_lossy().into_owned()));
        Ok(names.chain(self.runtime().map(|runtime| runtime.name)).collect())
    }

    /// Stops all containers and, when one is named, gives them another runtime; calls `stopped` for each that ran.
    pub fn migrate(&mut self, runtime: Option<&str>, mut stopped: impl FnMut(&ContainerId)) -> Result<()> {
        let runtime = runtime.map(|name| Runtime::find(Some(name), &self.options().runroot)).transpose()?;
        for record in self.records()? {
            if !record.state.at_rest() {
                self.stop(&record.id.to_string(), None).map(drop).or_else(gone)?;
                stopped(&record.id);
            }
        }
        let Some(runtime) = runtime else { return Ok(()) };
        let path = runtime.path.display().to_string();
        self.store.write(|tx| {
            for (row, _) in tx.containers()? {
                let Some(mut record) = crate::engine::load(tx, &row.id)? else { continue };
                if !record.state.at_rest() {
                    let text = format!("container {} has been started meanwhile: migrate once more", record.name);
                    return Err(Error::new(Kind::WrongState, text));
                }
                // A pod's own process needs none.
                if record.has_files() {
                    record.runtime = Some(path.clone());
                    save(tx, &record)?;
                }
            }
            Ok(())
        })
    }
}

/// What somebody else has removed meanwhile is no error.
fn gone(error: Error) -> Result<()> {
    if error.kind == Kind::NotFound { Ok(()) } else { Err(error) }
}

fn remove(path: &PathBuf) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove_tree(path),
        Ok(_) => std::fs::remove_file(path).map_err(|e| Error::at(format!("cannot remove {}", path.display()), e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::at(path.display(), e)),
    }
}

/// With the namespaces that it held goes what a reset could not remove while it was in there.
pub(crate) fn left_by_reset(options: &EngineOptions) {
    if options.root.join(store::Store::FILE).exists() {
        return;
    }
    for name in ["lock", "holder.lock", "holder-share.lock"] {
        let _ = remove(&options.runroot.join(name));
    }
    let _ = std::fs::remove_dir(&options.runroot);
}
