//! Published ports.

use model::{ContainerId, PortMapping};
use rusqlite::params;

use crate::{Result, Tx, text_of};

impl Tx<'_> {
    /// Records a container's mappings, beside those it has.
    pub fn ports_put(&self, container: &ContainerId, mappings: &[PortMapping]) -> Result<()> {
        let (container, sql) = (container.to_string(), "INSERT INTO port VALUES(?1, ?2, ?3, ?4, ?5)");
        mappings.iter().try_for_each(|mapping| {
            let (first, last) = span(mapping);
            self.change(sql, params![container, mapping.protocol.number(), first, last, text_of(mapping)]).map(drop)
        })
    }

    /// Forgets a container's mappings.
    pub fn ports_remove(&self, container: &ContainerId) -> Result<()> {
        self.change("DELETE FROM port WHERE container = ?1", [container.to_string()]).map(drop)
    }

    /// A container's mappings, in the order they were recorded.
    pub fn ports_of(&self, container: &ContainerId) -> Result<Vec<PortMapping>> {
        let sql = "SELECT mapping FROM port WHERE container = ?1 ORDER BY rowid";
        let rows = self.rows(sql, [container.to_string()], |row| row.get::<_, String>(0))?;
        rows.iter().map(|text| self.document("a port mapping", text)).collect()
    }

    /// A recorded mapping that clashes with `wanted`, and whose it is.
    pub fn port_clash(&self, wanted: &PortMapping) -> Result<Option<(ContainerId, PortMapping)>> {
        let single = "SELECT container, mapping FROM port INDEXED BY port_single
                      WHERE protocol = ?1 AND first = last AND first BETWEEN ?2 AND ?3 ORDER BY first";
        let range = "SELECT container, mapping FROM port INDEXED BY port_range
                     WHERE protocol = ?1 AND first < last AND first <= ?3 AND last >= ?2 ORDER BY first";
        let (first, last) = span(wanted);
        for sql in [single, range] {
            let mut statement = self.prepare(sql)?;
            let mut rows =
                statement.query(params![wanted.protocol.number(), first, last]).map_err(crate::error::at(self.path))?;
            while let Some(row) = rows.next().map_err(crate::error::at(self.path))? {
                let column = |n| row.get::<_, String>(n).map_err(crate::error::at(self.path));
                let mapping: PortMapping = self.document("a port mapping", &column(1)?)?;
                if mapping.clashes(wanted) {
                    return Ok(Some((self.parsed("a container id", &column(0)?)?, mapping)));
                }
            }
        }
        Ok(None)
    }
}

/// First and last host port.
fn span(mapping: &PortMapping) -> (u32, u32) {
    let first = u32::from(mapping.host_port);
    (first, first + u32::from(mapping.range.max(1)) - 1)
}
