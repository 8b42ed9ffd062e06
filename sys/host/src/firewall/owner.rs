//! Who owns the tables: a socket of netd, so that nobody else can take the walls down by accident.
//!
//! ```text
//!                      NEWTABLE owner|persist
//!   absent ───────────────────────────────────────> owned ──────────────> orphan ──adopt──> owned
//!   plain  ──adopt: one batch, elements kept──────> owned   socket gone     │
//!                                                                           └─ nft flush ruleset: absent
//! ```
//!
//! `nft flush ruleset` of others skips an owned table, and everything else they ask of it is refused with `EPERM`;
//! `nft list ruleset` shows it (nft_table_lookup and nft_flush in net/netfilter/nf_tables_api.c). The owner is a
//! socket's port id; whoever has been passed the socket is the owner too. An orphan keeps filtering and is open to
//! everybody, so the next netd takes it at once. Flags cannot be added to a table that has none: it is replaced.

use std::io;

use netlink::{Errno, Message, Socket, flags};
use plan::{Object, Op, Ruleset, Table};

use super::wire::{self, NFGENMSG, OWNER, PERSIST, TABLES};
use super::{FirewallError, Sockets, apply, get};

/// What became of the tables that were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// Both are the socket's now.
    Owned,
    /// There are none. Those made through the socket will be its own, if the kernel has owners.
    Absent,
    /// The kernel has no owners, or none that tables outlive (Linux before 6.9): everybody may change the tables.
    Unsupported,
    /// Another socket owns one; its port id, which is mostly its process.
    Taken(u32),
    /// One is another program's: it does not say that it is ours.
    Foreign,
}

/// Makes `socket` the owner of our tables where the kernel has owners, in one transaction: orphans are taken
/// as they are, tables without flags (of a command without netd) are replaced, and keep their elements.
///
/// Under the host lock. `socket` must have been opened in the host's namespace.
pub fn adopt(socket: &mut Socket) -> io::Result<Adopted> {
    let mut found = Vec::new();
    for (table, _) in TABLES {
        found.extend(Found::look(socket, table)?.map(|found| (table, found)));
    }
    if found.is_empty() {
        return Ok(Adopted::Absent);
    }
    if found.iter().any(|(_, found)| found.version.is_none()) {
        return Ok(Adopted::Foreign);
    }
    // Bound by now: it has asked.
    let own = socket.port_id()?;
    if let Some(other) = found.iter().find_map(|(_, found)| found.owner.filter(|owner| *owner != own)) {
        return Ok(Adopted::Taken(other));
    }
    let whole = found.len() == TABLES.len() && found.iter().all(|(_, found)| found.flags & PERSIST != 0);
    if whole {
        take(socket, found.iter().filter(|(_, found)| found.owner.is_none()).map(|(table, _)| *table))
    } else {
        replace(socket)
    }
}

/// One of our tables as it is.
struct Found {
    flags: u32,
    owner: Option<u32>,
    version: Option<String>,
}

impl Found {
    fn look(socket: &mut Socket, table: Table) -> io::Result<Option<Self>> {
        let reply = get(socket, wire::table(wire::GETTABLE, table))?;
        Ok(reply.map(|reply| {
            let attrs = reply.attrs(NFGENMSG);
            Self {
                flags: attrs.be32(wire::TABLE_FLAGS).unwrap_or_default(),
                owner: attrs.be32(wire::TABLE_OWNER),
                version: wire::version(attrs.find(wire::TABLE_USERDATA)),
            }
        }))
    }
}

/// Orphans change their owner and nothing else.
fn take(socket: &mut Socket, orphans: impl Iterator<Item = Table>) -> io::Result<Adopted> {
    let own = |table| wire::table(wire::NEWTABLE, table).attr_be32(wire::TABLE_FLAGS, OWNER | PERSIST);
    let mut messages: Vec<Message> = orphans.map(|table| own(table).with_flags(flags::ACK)).collect();
    if !messages.is_empty() {
        messages.insert(0, wire::begin(None));
        messages.push(wire::end());
        socket.batch(&messages)?.into_iter().collect::<Result<(), Errno>>()?;
    }
    Ok(Adopted::Owned)
}

/// Tables without flags, or one that has lost its other half, give way to owned ones with the same elements.
fn replace(socket: &mut Socket) -> io::Result<Adopted> {
    let ruleset = || Object::Ruleset(Ruleset { version: ::firewall::version() });
    let mut reading = Socket::open(netlink::Protocol::Netfilter)?;
    let change = Op::Change { from: ruleset(), to: ruleset() };
    apply(&mut Sockets { reading: &mut reading, owner: Some(socket) }, &[change])
        .map_err(|e| io::Error::from(e.errno))?;
    let flags = Found::look(socket, Table::Inet)?.map_or(0, |found| found.flags);
    Ok(if flags & OWNER != 0 { Adopted::Owned } else { Adopted::Unsupported })
}

/// A refusal because of an owner says who that is, which `EPERM` alone does not.
pub(super) fn named(sockets: &mut Sockets<'_>, error: FirewallError) -> FirewallError {
    let own = sockets.owner.as_ref().and_then(|owner| owner.port_id().ok());
    let of = |(table, name): (Table, &str)| {
        let owner = Found::look(sockets.reading, table).ok()??.owner.filter(|owner| Some(*owner) != own)?;
        Some(format!("process {owner} owns the table {name}"))
    };
    match TABLES.into_iter().find_map(of) {
        Some(text) => FirewallError { errno: Errno { code: libc::EBUSY, text }, ..error },
        None => error,
    }
}
