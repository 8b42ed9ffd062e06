//! Pods.

use model::{ContainerId, PodId};
use rusqlite::{Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Lookup, Result, Tx, text_of};

/// What pods are looked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRow {
    /// Never changes.
    pub id: PodId,
    /// No other pod has it.
    pub name: String,
    /// When it was made, in nanoseconds of Unix time; for display and order only.
    pub created: i64,
    /// Who removes it, in the engine's words.
    pub leaving: Option<String>,
}

/// A row as read, the id still text.
type Raw = (String, String, i64, Option<String>, String);

const COLUMNS: &str = "SELECT id, name, created, leaving, doc FROM pod";

impl Tx<'_> {
    /// Adds a pod; `false` when another one has its name.
    pub fn pod_insert<T: Serialize>(&self, row: &PodRow, doc: &T) -> Result<bool> {
        if self.pod_named(&row.name)?.is_some() {
            return Ok(false);
        }
        let values = params![row.id.to_string(), row.name, row.created, row.leaving, text_of(doc)];
        self.change("INSERT INTO pod VALUES(?1, ?2, ?3, ?4, ?5)", values)?;
        Ok(true)
    }

    /// Which pod has this name.
    pub fn pod_named(&self, name: &str) -> Result<Option<PodId>> {
        let id = self.row("SELECT id FROM pod WHERE name = ?1", [name], |row| row.get::<_, String>(0))?;
        id.map(|id| self.parsed("a pod id", &id)).transpose()
    }

    /// Which pod is meant by a name, an id or the beginning of an id, in this order.
    pub fn pod_find(&self, text: &str) -> Result<Lookup<PodId>> {
        if let Some(id) = self.pod_named(text)? {
            return Ok(Lookup::Found(id));
        }
        let sql = "SELECT id FROM pod WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2";
        self.begins_with(text, sql, "a pod id")
    }

    /// A pod with its document.
    pub fn pod_doc<T: DeserializeOwned>(&self, id: &PodId) -> Result<Option<(PodRow, T)>> {
        self.row(&format!("{COLUMNS} WHERE id = ?1"), [id.to_string()], raw)?.map(|raw| self.pod(raw)).transpose()
    }

    /// All pods, oldest first.
    pub fn pods<T: DeserializeOwned>(&self) -> Result<Vec<(PodRow, T)>> {
        let rows = self.rows(&format!("{COLUMNS} ORDER BY created, id"), [], raw)?;
        rows.into_iter().map(|raw| self.pod(raw)).collect()
    }

    /// Says who removes the pod; `false` when there is no such pod.
    pub fn pod_leave(&self, id: &PodId, who: &str) -> Result<bool> {
        Ok(self.change("UPDATE pod SET leaving = ?2 WHERE id = ?1", params![id.to_string(), who])? > 0)
    }

    /// The pods that somebody removes, and who.
    pub fn pods_leaving(&self) -> Result<Vec<(PodId, String)>> {
        let sql = "SELECT id, leaving FROM pod WHERE leaving > '' ORDER BY leaving, id";
        let rows = self.rows(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        rows.into_iter().map(|(id, who)| Ok((self.parsed("a pod id", &id)?, who))).collect()
    }

    /// Forgets a pod; `false` when it was not there. Its containers have rows of their own.
    pub fn pod_remove(&self, id: &PodId) -> Result<bool> {
        Ok(self.change("DELETE FROM pod WHERE id = ?1", [id.to_string()])? > 0)
    }

    /// The containers whose document says that they are of this pod, oldest first.
    pub fn containers_of_pod(&self, pod: &PodId) -> Result<Vec<ContainerId>> {
        let sql = "SELECT id FROM container WHERE doc ->> '$.settings.pod.id' = ?1 ORDER BY created, id";
        let ids = self.rows(sql, [pod.to_string()], |row| row.get::<_, String>(0))?;
        ids.iter().map(|id| self.parsed("a container id", id)).collect()
    }

    fn pod<T: DeserializeOwned>(&self, (id, name, created, leaving, doc): Raw) -> Result<(PodRow, T)> {
        let doc = self.document(&format!("pod {name}"), &doc)?;
        Ok((PodRow { id: self.parsed("a pod id", &id)?, name, created, leaving }, doc))
    }
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}
