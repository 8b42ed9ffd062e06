//! What servers on a LAN have lent to containers.

use model::{ContainerId, NetworkId};
use rusqlite::params;
use serde::Serialize;
use serde_json::Value;

use crate::{Result, Tx, text_of};

/// Something that a server on a LAN has lent to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanLease<T> {
    /// To whom.
    pub container: ContainerId,
    /// On which network.
    pub network: NetworkId,
    /// Of IPv4, or IPv6?
    pub ipv4: bool,
    /// It was not given back.
    pub held: bool,
    /// What.
    pub lease: T,
}

impl Tx<'_> {
    /// Records a lease that is held, in the place of the one before.
    pub fn lan_lease_put<T: Serialize>(
        &self,
        container: &ContainerId,
        network: &NetworkId,
        ipv4: bool,
        lease: &T,
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO lan_lease VALUES(?1, ?2, ?3, 1, ?4)";
        self.change(sql, params![container.to_string(), network.to_string(), ipv4, text_of(lease)]).map(drop)
    }

    /// The leases of one container, those given back included.
    pub fn lan_leases_of(&self, container: &ContainerId) -> Result<Vec<LanLease<Value>>> {
        let sql = "SELECT container, network, ipv4, held, doc FROM lan_lease WHERE container = ?1
                   ORDER BY network, ipv4 DESC";
        let rows = self.rows(sql, [container.to_string()], raw)?;
        rows.into_iter().map(|row| self.lan_lease(row)).collect()
    }

    /// All leases that are held.
    pub fn lan_leases_held(&self) -> Result<Vec<LanLease<Value>>> {
        let sql = "SELECT container, network, ipv4, held, doc FROM lan_lease ORDER BY network, container, ipv4 DESC";
        let held = self.rows(sql, [], raw)?.into_iter().filter(|(_, _, _, held, _)| *held);
        held.map(|row| self.lan_lease(row)).collect()
    }

    /// The container's leases on a network are not held any more. What they were is still known.
    pub fn lan_leases_release(&self, container: &ContainerId, network: &NetworkId) -> Result<()> {
        let sql = "UPDATE lan_lease SET held = 0 WHERE container = ?1 AND network = ?2";
        self.change(sql, [container.to_string(), network.to_string()]).map(drop)
    }

    /// One lease is not held any more.
    pub fn lan_lease_lost(&self, container: &ContainerId, network: &NetworkId, ipv4: bool) -> Result<()> {
        let sql = "UPDATE lan_lease SET held = 0 WHERE container = ?1 AND network = ?2 AND ipv4 = ?3";
        self.change(sql, params![container.to_string(), network.to_string(), ipv4]).map(drop)
    }

    /// What a container had on a network it will not come back to is forgotten.
    pub fn lan_leases_forget(&self, container: &ContainerId, network: &NetworkId) -> Result<()> {
        let sql = "DELETE FROM lan_lease WHERE container = ?1 AND network = ?2";
        self.change(sql, params![container.to_string(), network.to_string()]).map(drop)
    }

    fn lan_lease(&self, row: Raw) -> Result<LanLease<Value>> {
        let (container, network, ipv4, held, doc) = row;
        Ok(LanLease {
            container: self.parsed("a container id", &container)?,
            network: self.parsed("a network id", &network)?,
            ipv4,
            held,
            lease: self.document("a lease of a LAN's server", &doc)?,
        })
    }
}

type Raw = (String, String, bool, bool, String);

fn raw(row: &rusqlite::Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}
