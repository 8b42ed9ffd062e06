//! Removing what nobody uses.

use model::ContainerId;

use crate::RemoveOptions;
use crate::engine::Engine;
use crate::error::{Kind, Result};
use crate::list::Summary;

impl Engine {
    /// Removes the containers that do not run, of those that are meant; each with the bytes it had written. A
    /// pod's own goes with its pod, and one that is needed by another that stays, stays too.
    pub fn prune_containers(&mut self, is_meant: impl Fn(&Summary) -> bool) -> Result<Vec<(ContainerId, u64)>> {
        let meant = |summary: &Summary| summary.state.at_rest() && !summary.is_infra && is_meant(summary);
        let ids: Vec<ContainerId> = self.list()?.iter().filter(|summary| meant(summary)).map(|s| s.id).collect();
        let mut removed = Vec::new();
        // The newest first: nobody uses the network of one that is made after him.
        for id in ids.iter().rev() {
            let written = self.written(id)?;
            match self.remove(&id.to_string(), &RemoveOptions::default()) {
                Ok(_) => removed.push((*id, written)),
                // Somebody has started it or removed it since, or needs it.
                Err(error) if matches!(error.kind, Kind::NotFound | Kind::WrongState | Kind::InUse) => {}
                Err(error) => return Err(error),
            }
        }
        removed.reverse();
        Ok(removed)
    }
}
