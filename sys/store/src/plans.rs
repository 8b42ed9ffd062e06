//! What our creates made, and the plans being applied.

use plan::{Key, Object, Plan};
use rusqlite::params;

use crate::{Result, Tx, text_of};

impl Tx<'_> {
    /// Records objects as made for `owner`. An object recorded before under the same key is replaced and
    /// changes owner.
    pub fn made_put(&self, owner: &str, objects: &[Object]) -> Result<()> {
        let sql = "INSERT INTO made(key, owner, object) VALUES(?1, ?2, ?3)
                   ON CONFLICT(key) DO UPDATE SET owner = excluded.owner, object = excluded.object";
        objects
            .iter()
            .try_for_each(|object| self.change(sql, params![text_of(&object.key()), owner, text_of(object)]).map(drop))
    }

    /// Forgets objects.
    pub fn made_remove(&self, keys: &[Key]) -> Result<()> {
        keys.iter().try_for_each(|key| self.change("DELETE FROM made WHERE key = ?1", [text_of(key)]).map(drop))
    }

    /// What was made for these owners, each in the order it was recorded.
    pub fn made(&self, owners: &[&str]) -> Result<Vec<(String, Object)>> {
        let sql = "SELECT owner, object FROM made WHERE owner = ?1 ORDER BY seq";
        let mut found = Vec::new();
        for owner in owners {
            found.extend(self.made_rows(sql, [owner])?);
        }
        Ok(found)
    }

    /// For whom the object with this key was made.
    pub fn made_for(&self, key: &Key) -> Result<Option<String>> {
        self.row("SELECT owner FROM made WHERE key = ?1", [text_of(key)], |row| row.get(0))
    }

    /// What was made for anybody, in the order it was recorded.
    pub fn made_all(&self) -> Result<Vec<(String, Object)>> {
        self.made_rows("SELECT owner, object FROM made ORDER BY seq", [])
    }

    fn made_rows(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<(String, Object)>> {
        let rows = self.rows(sql, params, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.into_iter().map(|(owner, text)| Ok((owner, self.document("an object made", &text)?))).collect()
    }

    /// Writes down that `plan` is about to be applied for `owner`; the number to end it by.
    pub fn journal_begin(&self, owner: &str, plan: &Plan) -> Result<i64> {
        self.change("INSERT INTO journal(owner, plan) VALUES(?1, ?2)", params![owner, text_of(plan)])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Writes down that a plan was applied or undone. One that has ended already is no error.
    pub fn journal_end(&self, id: i64) -> Result<()> {
        self.change("DELETE FROM journal WHERE id = ?1", [id]).map(drop)
    }

    /// Plans begun and not ended: with the host lock held, those of commands that died. Oldest first.
    pub fn journal(&self) -> Result<Vec<(i64, String, Plan)>> {
        let rows = self.rows("SELECT id, owner, plan FROM journal ORDER BY id", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))
        })?;
        rows.into_iter().map(|(id, owner, text)| Ok((id, owner, self.document("a plan", &text)?))).collect()
    }
}
