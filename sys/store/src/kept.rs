//! Addresses kept for containers that are down.

use std::net::IpAddr;

use model::{ContainerId, NetworkId};
use rusqlite::params;

use crate::leases::bytes;
use crate::{Result, Tx};

impl Tx<'_> {
    /// Keeps an address of a network for a container, beside those kept already. `fixed`: its user asked for
    /// it; several may want the same one. Else it is not kept any more for whoever had it before.
    pub fn address_keep(&self, container: &ContainerId, network: &NetworkId, ip: &IpAddr, fixed: bool) -> Result<()> {
        if !fixed {
            let sql = "DELETE FROM kept_address WHERE network = ?1 AND fixed = 0 AND ip = ?2";
            self.change(sql, params![network.to_string(), bytes(ip)])?;
        }
        let sql = "INSERT INTO kept_address VALUES(?1, ?2, ?3, ?4)
                   ON CONFLICT DO UPDATE SET fixed = max(fixed, excluded.fixed)";
        self.change(sql, params![container.to_string(), network.to_string(), bytes(ip), fixed]).map(drop)
    }

    /// The addresses of a network that a container had last without having asked for them.
    pub fn addresses_last(&self, container: &ContainerId, network: &NetworkId) -> Result<Vec<IpAddr>> {
        let sql = "SELECT ip FROM kept_address WHERE container = ?1 AND network = ?2 AND fixed = 0";
        let rows = self.rows(sql, [container.to_string(), network.to_string()], |row| row.get::<_, Vec<u8>>(0))?;
        rows.iter().map(|ip| self.ip(ip)).collect()
    }

    /// The addresses of a network that users asked for, with whose they are: running or not.
    pub fn addresses_fixed(&self, network: &NetworkId) -> Result<Vec<(IpAddr, ContainerId)>> {
        let sql = "SELECT ip, container FROM kept_address WHERE network = ?1 AND fixed = 1";
        let rows =
            self.rows(sql, [network.to_string()], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?)))?;
        rows.iter().map(|(ip, id)| Ok((self.ip(ip)?, self.parsed("a container id", id)?))).collect()
    }

    /// Keeps no address of the network for the container any more; `fixed` ones only when it says so.
    pub fn addresses_unkeep(&self, container: &ContainerId, network: &NetworkId, fixed: bool) -> Result<()> {
        let sql = "DELETE FROM kept_address WHERE container = ?1 AND network = ?2 AND fixed <= ?3";
        self.change(sql, params![container.to_string(), network.to_string(), fixed]).map(drop)
    }
}
