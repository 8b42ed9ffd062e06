//! Addresses given to containers.

use std::net::IpAddr;

use model::{ContainerId, NetworkId, Subnet};
use rusqlite::params;

use crate::{Result, StoreError, Tx};

/// An address of a network that somebody has or had a short while ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub ip: IpAddr,
    /// Who has it; nobody after release.
    pub holder: Option<ContainerId>,
    /// When it was released, in seconds of CLOCK_BOOTTIME.
    pub released: Option<i64>,
}

impl Tx<'_> {
    /// Gives an address to a container; `AddressInUse` when another has it.
    pub fn lease(&self, network: &NetworkId, ip: &IpAddr, container: &ContainerId) -> Result<()> {
        if let Some(holder) = self.lease_taken(network, ip)?
            && holder != *container
        {
            return Err(StoreError::AddressInUse { ip: *ip, holder });
        }
        let sql = "INSERT OR REPLACE INTO lease VALUES(?1, ?2, ?3, NULL,
                   (SELECT coalesce(max(seq), 0) + 1 FROM lease WHERE network = ?1))";
        self.change(sql, params![network.to_string(), bytes(ip), container.to_string()]).map(drop)
    }

    /// The addresses of a network that are held or were, in the order of addresses, IPv4 first.
    pub fn leases(&self, network: &NetworkId) -> Result<Vec<Lease>> {
        let sql = "SELECT ip, container, released FROM lease WHERE network = ?1 ORDER BY length(ip), ip";
        let rows = self.rows(sql, [network.to_string()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?))
        })?;
        rows.into_iter()
            .map(|(ip, holder, released)| {
                let holder = holder.map(|id| self.parsed("a container id", &id)).transpose()?;
                Ok(Lease { ip: self.ip(&ip)?, holder, released })
            })
            .collect()
    }

    /// Who has an address.
    pub fn lease_taken(&self, network: &NetworkId, ip: &IpAddr) -> Result<Option<ContainerId>> {
        let sql = "SELECT container FROM lease WHERE network = ?1 AND ip = ?2 AND container IS NOT NULL";
        let holder = self.row(sql, params![network.to_string(), bytes(ip)], |row| row.get::<_, String>(0))?;
        holder.map(|id| self.parsed("a container id", &id)).transpose()
    }

    /// Releases all addresses of a container at `now`, in seconds of CLOCK_BOOTTIME.
    pub fn leases_release(&self, container: &ContainerId, now: i64) -> Result<()> {
        let sql = "UPDATE lease SET container = NULL, released = ?2 WHERE container = ?1";
        self.change(sql, params![container.to_string(), now]).map(drop)
    }

    /// Releases a container's addresses of one network.
    pub fn leases_release_on(&self, network: &NetworkId, container: &ContainerId, now: i64) -> Result<()> {
        let sql = "UPDATE lease SET container = NULL, released = ?3 WHERE network = ?1 AND container = ?2";
        self.change(sql, params![network.to_string(), container.to_string(), now]).map(drop)
    }

    /// The address of `subnet` that was given last, if it is still remembered.
    pub fn last_lease(&self, network: &NetworkId, subnet: &Subnet) -> Result<Option<IpAddr>> {
        // Newest first until one lies in the subnet: mostly the first or the second.
        let sql = "SELECT ip FROM lease INDEXED BY lease_seq WHERE network = ?1 AND length(ip) = length(?2)
                   AND ip BETWEEN ?2 AND ?3 ORDER BY seq DESC LIMIT 1";
        let range = params![network.to_string(), bytes(&subnet.network()), bytes(&subnet.last())];
        let ip = self.row(sql, range, |row| row.get::<_, Vec<u8>>(0))?;
        ip.map(|ip| self.ip(&ip)).transpose()
    }

    /// Forgets leases released [`QUARANTINE`] or longer before `now`, except each network's latest of a
    /// family, from which the next choice goes on.
    pub fn leases_forget(&self, now: i64) -> Result<()> {
        let sql = "DELETE FROM lease WHERE released <= ?1 AND EXISTS (
                       SELECT 1 FROM lease AS later WHERE later.network = lease.network AND later.seq > lease.seq
                       AND length(later.ip) = length(lease.ip))";
        self.change(sql, [now - QUARANTINE]).map(drop)
    }

    pub(crate) fn ip(&self, bytes: &[u8]) -> Result<IpAddr> {
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
            .map_err(|_| self.damaged(format!("a leased address has {} bytes", bytes.len())))
    }
}

/// How many seconds an address rests after its release (invariant I4).
pub const QUARANTINE: i64 = 60;

/// In network order, so that bytes sort as addresses do.
pub(crate) fn bytes(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
