//! The `/dev/shm` that the members of a pod share.
//!
//! Mounted where the host's other mounts are, for members find it by its path; gone with its infra container.

use std::path::PathBuf;

use linux::mounts;

use super::{Role, Share};
use crate::engine::{Places, make_dir};
use crate::error::{Error, Result};
use crate::record::ContainerRecord;
use crate::spec::SHM_SIZE;

impl Places {
    pub(crate) fn shm(&self) -> PathBuf {
        self.run_data().join("shm")
    }
}

/// For an infra container that holds it; nothing for others.
pub(crate) fn mount_shm(record: &ContainerRecord, places: &Places) -> Result<()> {
    let Some(Role::Infra { holds, shm_size }) = record.settings.pod.as_ref().map(|place| &place.role) else {
        return Ok(());
    };
    if !holds.contains(&Share::Ipc) {
        return Ok(());
    }
    let target = places.shm();
    make_dir(&target)?;
    mounts::tmpfs(&target, Some(shm_size.unwrap_or(SHM_SIZE)), 0o1777)
        .map_err(|e| Error::cannot_start(format!("the pod's /dev/shm: {e}")))
}

/// Nothing there is not an error.
pub(crate) fn unmount_shm(record: &ContainerRecord, places: &Places) -> Result<()> {
    if record.held().is_some_and(|held| held.contains(&Share::Ipc)) {
        mounts::unmount(&places.shm()).map_err(|e| Error::at("the pod's /dev/shm", e))?;
    }
    Ok(())
}
