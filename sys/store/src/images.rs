//! Images, their layers and their names.
//!
//! ```text
//!   name ──> image ──> layers (top or bottom first: the caller's order)
//!                        └ whole once it has a chain id; nobody's until an image has it
//! ```

use linux::ProcessRef;
use model::ImageId;
use rusqlite::params;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Result, StoreError, Tx, text_of};

impl Tx<'_> {
    /// Adds or replaces an image, with its layers in the caller's order. They are its from now on.
    pub fn image_put<T: Serialize>(&self, id: &ImageId, doc: &T, layers: &[i64]) -> Result<()> {
        let id = id.to_string();
        self.change("INSERT OR REPLACE INTO image VALUES(?1, ?2)", params![id, text_of(doc)])?;
        self.change("DELETE FROM image_layer WHERE image = ?1", [&id])?;
        for (n, layer) in layers.iter().enumerate() {
            self.change("INSERT INTO image_layer VALUES(?1, ?2, ?3)", params![id, n, layer])?;
            self.change("UPDATE layer SET maker = NULL WHERE id = ?1", [layer])?;
        }
        Ok(())
    }

    /// An image's document.
    pub fn image_doc<T: DeserializeOwned>(&self, id: &ImageId) -> Result<Option<T>> {
        let text = self.row("SELECT doc FROM image WHERE id = ?1", [id.to_string()], |row| row.get::<_, String>(0))?;
        text.map(|text| self.document(&format!("image {}", id.short()), &text)).transpose()
    }

    /// An image's layers, in the order they were put.
    pub fn image_layers(&self, id: &ImageId) -> Result<Vec<i64>> {
        let sql = "SELECT layer FROM image_layer WHERE image = ?1 ORDER BY ord";
        self.rows(sql, [id.to_string()], |row| row.get(0))
    }

    /// All images, by id.
    pub fn images(&self) -> Result<Vec<(ImageId, Value)>> {
        let rows = self.rows("SELECT id, doc FROM image ORDER BY id", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        rows.iter().map(|(id, doc)| Ok((self.parsed("an image id", id)?, self.document("an image", doc)?))).collect()
    }

    /// Images whose id begins with `text`, at most two: enough to see that it is ambiguous.
    pub fn images_beginning(&self, text: &str) -> Result<Vec<ImageId>> {
        if text.is_empty() || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Vec::new());
        }
        // 'g' follows every hexadecimal digit.
        let sql = "SELECT id FROM image WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2";
        let ids = self.rows(sql, [text], |row| row.get::<_, String>(0))?;
        ids.iter().map(|id| self.parsed("an image id", id)).collect()
    }

    /// Forgets an image and its names. Layers that no other image has become unused.
    pub fn image_remove(&self, id: &ImageId) -> Result<()> {
        let id = id.to_string();
        self.change("DELETE FROM image_name WHERE image = ?1", [&id])?;
        self.change("DELETE FROM image_layer WHERE image = ?1", [&id])?;
        self.change("DELETE FROM image WHERE id = ?1", [&id]).map(drop)
    }

    /// Gives an image a name, taking it from another.
    pub fn name_set(&self, name: &str, image: &ImageId) -> Result<()> {
        self.change("INSERT OR REPLACE INTO image_name VALUES(?1, ?2)", params![name, image.to_string()]).map(drop)
    }

    /// Takes a name away; `false` when no image has it.
    pub fn name_remove(&self, name: &str) -> Result<bool> {
        Ok(self.change("DELETE FROM image_name WHERE name = ?1", [name])? > 0)
    }

    /// The image that has a name.
    pub fn name_get(&self, name: &str) -> Result<Option<ImageId>> {
        let sql = "SELECT image FROM image_name WHERE name = ?1";
        let id = self.row(sql, [name], |row| row.get::<_, String>(0))?;
        id.map(|id| self.parsed("an image id", &id)).transpose()
    }

    /// An image's names, in the order of letters.
    pub fn names_of(&self, image: &ImageId) -> Result<Vec<String>> {
        let sql = "SELECT name FROM image_name WHERE image = ?1 ORDER BY name";
        self.rows(sql, [image.to_string()], |row| row.get(0))
    }

    /// All names with their images.
    pub fn names(&self) -> Result<Vec<(String, ImageId)>> {
        let rows = self.rows("SELECT name, image FROM image_name ORDER BY name", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        rows.into_iter().map(|(name, id)| Ok((name, self.parsed("an image id", &id)?))).collect()
    }

    /// Begins a layer, made by this process: a number no layer ever had.
    pub fn layer_begin(&self) -> Result<i64> {
        let maker = ProcessRef::me().map_err(|e| StoreError::io(self.path, e))?;
        self.change("INSERT INTO layer(maker) VALUES(?1)", [text_of(&maker)])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Says that a layer is whole. The layer to use: another one when somebody finished the same chain
    /// first; then `layer` is forgotten here, and its directory is the caller's to remove.
    pub fn layer_done(&self, layer: i64, diff_id: &str, chain_id: &str, size: u64) -> Result<i64> {
        match self.layer_by_chain(chain_id)? {
            Some(first) if first != layer => self.layer_remove(layer).map(|()| first),
            _ => {
                let sql = "UPDATE layer SET diff_id = ?2, chain_id = ?3, size = ?4 WHERE id = ?1";
                self.change(sql, params![layer, diff_id, chain_id, i64::try_from(size).unwrap_or(i64::MAX)])?;
                Ok(layer)
            }
        }
    }

    /// The whole layer with this chain id.
    pub fn layer_by_chain(&self, chain_id: &str) -> Result<Option<i64>> {
        self.row("SELECT id FROM layer WHERE chain_id = ?1", [chain_id], |row| row.get(0))
    }

    /// A whole layer's diff id and size in bytes.
    pub fn layer(&self, layer: i64) -> Result<Option<(String, u64)>> {
        let sql = "SELECT diff_id, size FROM layer WHERE id = ?1 AND chain_id IS NOT NULL";
        let found = self.row(sql, [layer], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
        Ok(found.map(|(diff_id, size)| (diff_id, size.unsigned_abs())))
    }

    /// All layers, whole or not.
    pub fn layers(&self) -> Result<Vec<i64>> {
        self.rows("SELECT id FROM layer ORDER BY id", [], |row| row.get(0))
    }

    /// Layers that no image has, whole or not, except those that another living process is at.
    pub fn layers_unused(&self) -> Result<Vec<i64>> {
        let sql = "SELECT id, maker FROM layer WHERE NOT EXISTS (SELECT 1 FROM image_layer WHERE image_layer.layer = layer.id)
                   ORDER BY id";
        let rows = self.rows(sql, [], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))?;
        let me = std::process::id();
        let busy =
            |maker: &str| serde_json::from_str::<ProcessRef>(maker).is_ok_and(|maker| maker.pid != me && maker.alive());
        Ok(rows.into_iter().filter(|(_, maker)| !maker.as_deref().is_some_and(busy)).map(|(id, _)| id).collect())
    }

    /// Forgets a layer.
    pub fn layer_remove(&self, layer: i64) -> Result<()> {
        self.change("DELETE FROM layer WHERE id = ?1", [layer]).map(drop)
    }
}
