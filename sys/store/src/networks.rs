//! Network definitions, and who is attached to them.

use model::{ContainerId, Network, NetworkId};
use rusqlite::params;
use serde_json::Value;

use crate::{Result, StoreError, Tx, text_of};

impl Tx<'_> {
    /// All networks of a scope (`--network-config-dir` as text, or empty), by name.
    pub fn networks(&self, scope: &str) -> Result<Vec<Network>> {
        self.rows("SELECT doc FROM network WHERE scope = ?1 ORDER BY name", [scope], |row| row.get::<_, String>(0))?
            .iter()
            .map(|text| self.document("a network", text))
            .collect()
    }

    /// All networks of all scopes: for repair, which takes back what others began.
    pub fn networks_of_all_scopes(&self) -> Result<Vec<Network>> {
        self.rows("SELECT doc FROM network ORDER BY scope, name", [], |row| row.get::<_, String>(0))?
            .iter()
            .map(|text| self.document("a network", text))
            .collect()
    }

    /// The network of that name.
    pub fn network(&self, scope: &str, name: &str) -> Result<Option<Network>> {
        let text = self.row("SELECT doc FROM network WHERE scope = ?1 AND name = ?2", [scope, name], |row| {
            row.get::<_, String>(0)
        })?;
        text.map(|text| self.document("a network", &text)).transpose()
    }

    /// Adds a network; `NetworkExists` when the scope has its name or id already.
    pub fn network_insert(&self, scope: &str, network: &Network) -> Result<()> {
        let taken = "SELECT 1 FROM network WHERE scope = ?1 AND (name = ?2 OR id = ?3)";
        let (name, id) = (network.name.as_str(), network.id.to_string());
        if self.row(taken, params![scope, name, id], |_| Ok(()))?.is_some() {
            return Err(StoreError::NetworkExists { name: name.to_owned() });
        }
        self.change("INSERT INTO network VALUES(?1, ?2, ?3, ?4)", params![scope, name, id, text_of(network)]).map(drop)
    }

    /// Replaces the network with the same id.
    pub fn network_update(&self, scope: &str, network: &Network) -> Result<()> {
        let sql = "UPDATE network SET name = ?3, doc = ?4 WHERE scope = ?1 AND id = ?2";
        let (name, id) = (network.name.as_str(), network.id.to_string());
        self.change(sql, params![scope, id, name, text_of(network)]).map(drop)
    }

    /// Forgets a network. Its leases and attachments must have gone before, as far as they matter.
    pub fn network_remove(&self, id: &NetworkId) -> Result<()> {
        self.change("DELETE FROM network WHERE id = ?1", [id.to_string()])?;
        self.change("DELETE FROM kept_address WHERE network = ?1", [id.to_string()])?;
        self.change("DELETE FROM lan_lease WHERE network = ?1", [id.to_string()])?;
        self.change("DELETE FROM lease WHERE network = ?1", [id.to_string()]).map(drop)
    }

    /// Says that a container is on a network, as its `order`th; `endpoint` is JSON `null` until it exists in
    /// the kernel. Replaces what was said before of the two.
    pub fn attachment_put(
        &self,
        container: &ContainerId,
        network: &NetworkId,
        order: u32,
        endpoint: &Value,
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO attachment VALUES(?1, ?2, ?3, ?4)";
        let row = params![container.to_string(), network.to_string(), order, text_of(endpoint)];
        self.change(sql, row).map(drop)
    }

    /// The networks of a container, in order.
    pub fn attachments_of(&self, container: &ContainerId) -> Result<Vec<(NetworkId, u32, Value)>> {
        let sql = "SELECT network, ord, endpoint FROM attachment WHERE container = ?1 ORDER BY ord, network";
        let rows = self.rows(sql, [container.to_string()], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, String>(2)?))
        })?;
        rows.iter()
            .map(|(network, order, endpoint)| {
                Ok((self.parsed("a network id", network)?, *order, self.document("an endpoint", endpoint)?))
            })
            .collect()
    }

    /// The containers of a network with their endpoints, by id. Grows with their number: to ask whether
    /// there are any, see [`Tx::endpoint_on`] and [`Tx::attachment_count`].
    pub fn attachments_on(&self, network: &NetworkId) -> Result<Vec<(ContainerId, Value)>> {
        let sql = "SELECT container, endpoint FROM attachment WHERE network = ?1 ORDER BY container";
        let rows =
            self.rows(sql, [network.to_string()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.iter()
            .map(|(container, endpoint)| {
                Ok((self.parsed("a container id", container)?, self.document("an endpoint", endpoint)?))
            })
            .collect()
    }

    /// The attachments of all containers that exist in the kernel, each container's together and in order.
    pub fn attachments_up(&self) -> Result<Vec<(ContainerId, NetworkId, Value)>> {
        let sql = "SELECT container, network, endpoint FROM attachment WHERE endpoint <> 'null'
                   ORDER BY container, ord, network";
        let rows = self
            .rows(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
        rows.iter()
            .map(|(container, network, endpoint)| {
                Ok((
                    self.parsed("a container id", container)?,
                    self.parsed("a network id", network)?,
                    self.document("an endpoint", endpoint)?,
                ))
            })
            .collect()
    }

    /// How many containers are attached to a network, running or not.
    pub fn attachment_count(&self, network: &NetworkId) -> Result<u64> {
        let sql = "SELECT count(*) FROM attachment WHERE network = ?1";
        Ok(self.row(sql, [network.to_string()], |row| row.get(0))?.unwrap_or(0))
    }

    /// Is any container attached to any network?
    pub fn attachments_any(&self) -> Result<bool> {
        Ok(self.row("SELECT 1 FROM attachment LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    /// A container other than `but` that has an endpoint on the network: one look-up, however many there are.
    pub fn endpoint_on(&self, network: &NetworkId, but: Option<&ContainerId>) -> Result<Option<ContainerId>> {
        let sql = "SELECT container FROM attachment INDEXED BY attachment_up
                   WHERE network = ?1 AND endpoint <> 'null' AND container <> ?2 LIMIT 1";
        let but = but.map_or(String::new(), ContainerId::to_string);
        let found = self.row(sql, [network.to_string(), but], |row| row.get::<_, String>(0))?;
        found.map(|id| self.parsed("a container id", &id)).transpose()
    }

    /// The container whose link has this name in the host's namespace.
    pub fn host_link_holder(&self, link: &str) -> Result<Option<ContainerId>> {
        let sql = "SELECT container FROM attachment WHERE endpoint ->> '$.endpoint.host_link' = ?1 LIMIT 1";
        let id = self.row(sql, [link], |row| row.get::<_, String>(0))?;
        id.map(|id| self.parsed("a container id", &id)).transpose()
    }

    /// The container that has this MAC address on a network.
    pub fn mac_holder(&self, network: &NetworkId, mac: &str) -> Result<Option<ContainerId>> {
        let sql = "SELECT container FROM attachment WHERE network = ?1 AND endpoint ->> '$.endpoint.mac' = ?2 LIMIT 1";
        let id = self.row(sql, params![network.to_string(), mac], |row| row.get::<_, String>(0))?;
        id.map(|id| self.parsed("a container id", &id)).transpose()
    }

    /// Takes a container off a network.
    pub fn attachment_remove(&self, container: &ContainerId, network: &NetworkId) -> Result<()> {
        let sql = "DELETE FROM attachment WHERE container = ?1 AND network = ?2";
        self.change(sql, [container.to_string(), network.to_string()]).map(drop)
    }

    /// Takes a container off all networks.
    pub fn attachments_remove(&self, container: &ContainerId) -> Result<()> {
        self.change("DELETE FROM attachment WHERE container = ?1", [container.to_string()]).map(drop)
    }
}
