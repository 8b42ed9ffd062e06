//! Containers.

use model::{ContainerId, ImageId};
use rusqlite::{Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Result, StoreError, Tx, text_of};

/// What containers are looked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRow {
    /// Never changes.
    pub id: ContainerId,
    /// Nobody else has it.
    pub name: String,
    /// What it was made from; a pod's infra container is mostly made from nothing.
    pub image: Option<ImageId>,
    /// The engine's word for what it does now.
    pub state: String,
    /// When it was made, in nanoseconds of Unix time; for display and order only.
    pub created: i64,
}

/// What a name, an id or the beginning of one stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T = ContainerId> {
    /// This one.
    Found(T),
    /// None.
    NotFound,
    /// The beginning of several ids.
    Ambiguous,
}

/// A row as read, ids still text.
type Raw = (String, String, String, String, i64, String);

impl Tx<'_> {
    /// Adds a container; `NameInUse` says who has its name.
    pub fn container_insert<T: Serialize>(&self, row: &ContainerRow, doc: &T) -> Result<()> {
        if let Some(id) = self.container_named(&row.name)? {
            return Err(StoreError::NameInUse { name: row.name.clone(), id });
        }
        let (id, image) = (row.id.to_string(), row.image.map_or_else(String::new, |image| image.to_string()));
        let values = params![id, row.name, image, row.state, row.created, text_of(doc)];
        self.change("INSERT INTO container VALUES(?1, ?2, ?3, ?4, ?5, ?6)", values).map(drop)
    }

    /// Who has this name.
    pub fn container_named(&self, name: &str) -> Result<Option<ContainerId>> {
        let id = self.row("SELECT id FROM container WHERE name = ?1", [name], |row| row.get::<_, String>(0))?;
        id.map(|id| self.parsed("a container id", &id)).transpose()
    }

    /// Who is meant by a name, an id or the beginning of an id, in this order.
    pub fn container_find(&self, text: &str) -> Result<Lookup> {
        if let Some(id) = self.container_named(text)? {
            return Ok(Lookup::Found(id));
        }
        let sql = "SELECT id FROM container WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2";
        self.begins_with(text, sql, "a container id")
    }

    /// Whose id begins with this text. The statement selects two ids of at least that and less than that with a 'g'
    /// behind it, which follows every hexadecimal digit; `what` they are is for the message about damage.
    pub(crate) fn begins_with<T: std::str::FromStr>(&self, text: &str, sql: &str, what: &str) -> Result<Lookup<T>> {
        if text.is_empty() || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Lookup::NotFound);
        }
        match &self.rows(sql, [text], |row| row.get::<_, String>(0))?[..] {
            [] => Ok(Lookup::NotFound),
            [id] => Ok(Lookup::Found(self.parsed(what, id)?)),
            _ => Ok(Lookup::Ambiguous),
        }
    }

    /// A container with its document.
    pub fn container_doc<T: DeserializeOwned>(&self, id: &ContainerId) -> Result<Option<(ContainerRow, T)>> {
        let sql = "SELECT id, name, image, state, created, doc FROM container WHERE id = ?1";
        self.row(sql, [id.to_string()], raw)?.map(|raw| self.container(raw)).transpose()
    }

    /// Replaces a container's state and document; `false` when there is no such container.
    pub fn container_update<T: Serialize>(&self, id: &ContainerId, state: &str, doc: &T) -> Result<bool> {
        let sql = "UPDATE container SET state = ?2, doc = ?3 WHERE id = ?1";
        Ok(self.change(sql, params![id.to_string(), state, text_of(doc)])? > 0)
    }

    /// Gives a container another name; `NameInUse` says who has it.
    pub fn container_rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        match self.container_named(name)? {
            Some(holder) if holder != *id => Err(StoreError::NameInUse { name: name.to_owned(), id: holder }),
            _ => self.change("UPDATE container SET name = ?2 WHERE id = ?1", params![id.to_string(), name]).map(drop),
        }
    }

    /// Forgets a container's row and what was kept for it; `false` when it was not there. Its attachments,
    /// leases, ports and objects are rows of their own.
    pub fn container_remove(&self, id: &ContainerId) -> Result<bool> {
        self.change("DELETE FROM kept_address WHERE container = ?1", [id.to_string()])?;
        self.change("DELETE FROM lan_lease WHERE container = ?1", [id.to_string()])?;
        Ok(self.change("DELETE FROM container WHERE id = ?1", [id.to_string()])? > 0)
    }

    /// All containers, oldest first.
    pub fn containers(&self) -> Result<Vec<(ContainerRow, Value)>> {
        let sql = "SELECT id, name, image, state, created, doc FROM container ORDER BY created, id";
        self.rows(sql, [], raw)?.into_iter().map(|raw| self.container(raw)).collect()
    }

    /// Containers in one of these states, oldest first in each.
    pub fn containers_in_state(&self, states: &[&str]) -> Result<Vec<(ContainerRow, Value)>> {
        let sql = "SELECT id, name, image, state, created, doc FROM container WHERE state = ?1 ORDER BY created, id";
        let mut found = Vec::new();
        for state in states {
            for raw in self.rows(sql, [state], raw)? {
                found.push(self.container(raw)?);
            }
        }
        Ok(found)
    }

    /// Ids and states of the containers whose state sorts at or after `from`; their documents are not read.
    pub fn container_states_from(&self, from: &str) -> Result<Vec<(ContainerId, String)>> {
        let sql = "SELECT id, state FROM container WHERE state >= ?1 ORDER BY state, id";
        let rows = self.rows(sql, [from], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        rows.into_iter().map(|(id, state)| Ok((self.parsed("a container id", &id)?, state))).collect()
    }

    /// How many containers are in a state.
    pub fn container_count(&self, state: &str) -> Result<u64> {
        Ok(self.row("SELECT count(*) FROM container WHERE state = ?1", [state], |row| row.get(0))?.unwrap_or(0))
    }

    /// Containers made from an image, by id.
    pub fn containers_of_image(&self, image: &ImageId) -> Result<Vec<ContainerId>> {
        let sql = "SELECT id FROM container WHERE image = ?1 ORDER BY id";
        let ids = self.rows(sql, [image.to_string()], |row| row.get::<_, String>(0))?;
        ids.iter().map(|id| self.parsed("a container id", id)).collect()
    }

    /// Containers whose document says that they use the network of `owner`, oldest first.
    pub fn containers_sharing(&self, owner: &ContainerId) -> Result<Vec<ContainerId>> {
        let sql = "SELECT id FROM container WHERE doc ->> '$.settings.network.mode.Container' = ?1
                   ORDER BY created, id";
        let ids = self.rows(sql, [owner.to_string()], |row| row.get::<_, String>(0))?;
        ids.iter().map(|id| self.parsed("a container id", id)).collect()
    }

    fn container<T: DeserializeOwned>(&self, (id, name, image, state, created, doc): Raw) -> Result<(ContainerRow, T)> {
        let doc = self.document(&format!("container {name}"), &doc)?;
        let id = self.parsed("a container id", &id)?;
        let image = if image.is_empty() { None } else { Some(self.parsed("an image id", &image)?) };
        Ok((ContainerRow { id, name, image, state, created }, doc))
    }
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}
