//! Volumes.

use rusqlite::params;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Result, Tx, text_of};

impl Tx<'_> {
    /// Adds or replaces a volume.
    pub fn volume_put<T: Serialize>(&self, name: &str, doc: &T) -> Result<()> {
        self.change("INSERT OR REPLACE INTO volume VALUES(?1, ?2)", params![name, text_of(doc)]).map(drop)
    }

    /// A volume's document.
    pub fn volume<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let text = self.row("SELECT doc FROM volume WHERE name = ?1", [name], |row| row.get::<_, String>(0))?;
        text.map(|text| self.document(&format!("volume {name}"), &text)).transpose()
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<(String, Value)>> {
        let rows = self.rows("SELECT name, doc FROM volume ORDER BY name", [], |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?))
        })?;
        rows.into_iter().map(|(name, doc)| Ok((name, self.document("a volume", &doc)?))).collect()
    }

    /// Forgets a volume; `false` when there is none.
    pub fn volume_remove(&self, name: &str) -> Result<bool> {
        Ok(self.change("DELETE FROM volume WHERE name = ?1", [name])? > 0)
    }
}
