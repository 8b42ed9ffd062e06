//! Single facts, and whose machine and boot the run-time rows belong to.

use crate::{Result, Tx};

/// Under which key [`Tx::identity`] is kept.
const IDENTITY: &str = "identity";

impl Tx<'_> {
    /// The fact kept under `key`.
    pub fn meta_get(&self, key: &str) -> Result<Option<String>> {
        self.row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
    }

    /// Keeps a fact under `key`.
    pub fn meta_set(&self, key: &str, value: &str) -> Result<()> {
        self.change("INSERT OR REPLACE INTO meta VALUES(?1, ?2)", [key, value]).map(drop)
    }

    /// Forgets the fact kept under `key`.
    pub fn meta_remove(&self, key: &str) -> Result<()> {
        self.change("DELETE FROM meta WHERE key = ?1", [key]).map(drop)
    }

    /// Which boot and network namespace the run-time rows are about, as [`Tx::set_identity`] was told.
    pub fn identity(&self) -> Result<Option<String>> {
        self.meta_get(IDENTITY)
    }

    /// Says which boot and network namespace the run-time rows are about from now on.
    pub fn set_identity(&self, identity: &str) -> Result<()> {
        self.meta_set(IDENTITY, identity)
    }

    /// Forgets what a reboot made void: objects made, journal, leases, published ports, endpoints.
    /// Containers, networks, images, volumes and the wish to be attached stay.
    pub fn drop_runtime(&self) -> Result<()> {
        for sql in [
            "DELETE FROM made",
            "DELETE FROM journal",
            "DELETE FROM lease",
            "DELETE FROM port",
            "UPDATE attachment SET endpoint = 'null' WHERE endpoint <> 'null'",
        ] {
            self.change(sql, [])?;
        }
        Ok(())
    }
}
