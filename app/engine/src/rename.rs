//! `rename`

use model::ContainerName;
use store::StoreError;

use crate::engine::{Engine, load, no_such_container, save};
use crate::error::{Error, Result};
use crate::events;
use crate::record::State;

impl Engine {
    /// Gives a container another name. Where it runs, it is found by that on its networks when this returns,
    /// and by the old one no more.
    pub fn rename(&mut self, container: &str, name: &ContainerName) -> Result<()> {
        let id = self.find(container)?;
        self.wait_settled(&id)?;
        let before = self.record(&id)?;
        let renamed = self.networking().rename(&id, |tx| {
            let mut record = load(tx, &id)?.ok_or_else(|| no_such_container(&id.to_string()))?;
            tx.container_rename(&id, name.as_str()).map_err(|error| match error {
                StoreError::NameInUse { .. } => {
                    Error::usage(format!("name {:?} is in use: container already exists", name.as_str()))
                }
                other => other.into(),
            })?;
            record.name = name.clone();
            save(tx, &record)?;
            tx.event_add(&events::of_container(&record, "rename"))?;
            Ok(record)
        })?;
        if renamed.state != State::Running {
            return Ok(());
        }
        match renamed.settings.network.mode.is_networked() {
            true => self.rewrite_files(&renamed, &self.networking().endpoints_of(&id)?),
            false => self.rename_in_hosts(&before, &renamed),
        }
    }
}
