//! DHCPv6 messages: what servers' mean to a client, and a writer of a client's own (RFC 8415).

use std::net::Ipv6Addr;

use model::DnsName;

use crate::frame::array;
use crate::message::names;

/// Nobody needs more of them, however many a server sends.
const ADDRESSES_MAX: usize = 8;
/// RFC 8415 section 11.1.
const DUID_MAX: usize = 130;

mod code {
    pub(super) const CLIENT: u16 = 1;
    pub(super) const SERVER: u16 = 2;
    pub(super) const IA_NA: u16 = 3;
    pub(super) const IA_ADDRESS: u16 = 5;
    pub(super) const WANTED: u16 = 6;
    pub(super) const PREFERENCE: u16 = 7;
    pub(super) const ELAPSED: u16 = 8;
    pub(super) const STATUS: u16 = 13;
    pub(super) const DNS: u16 = 23;
    pub(super) const SEARCH: u16 = 24;
}

/// What a message is for.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind6 {
    Solicit = 1,
    Advertise = 2,
    Request = 3,
    Renew = 5,
    Rebind = 6,
    Reply = 7,
    Release = 8,
    Decline = 9,
    Information = 11,
}

/// Options in their order, of a message or inside another option; ends at one that is cut off, and says so.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        let read = || {
            let code = array(rest, 0).map(u16::from_be_bytes)?;
            let length = usize::from(array(rest, 2).map(u16::from_be_bytes)?);
            let (value, after) = rest.get(4..)?.split_at_checked(length)?;
            Some((code, value, after))
        };
        Some(read().map(|(code, value, after)| {
            self.0 = after;
            (code, value)
        }))
    }
}

/// What a server says to a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply6 {
    /// Is it a REPLY, or an ADVERTISE?
    pub is_reply: bool,
    /// The number it repeats.
    pub transaction: u32,
    /// The client's DUID, as it was said.
    pub client: Vec<u8>,
    /// Who says it.
    pub server: Vec<u8>,
    /// 255: take this one, wait for no other.
    pub preference: u8,
    /// Did it go well? Of the message, and of our association.
    pub success: bool,
    /// The addresses of our association.
    pub association: Option<Association>,
    /// Option 23.
    pub dns: Vec<Ipv6Addr>,
    /// Option 24.
    pub search: Vec<DnsName>,
}

/// IA_NA: what is lent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Association {
    /// Which one.
    pub id: u32,
    /// T1 in seconds; 0: as the client likes.
    pub renew: u32,
    /// T2 in seconds; 0: as the client likes.
    pub rebind: u32,
    /// Addresses with preferred and valid lifetime in seconds; all ones are for ever.
    pub addresses: Vec<(Ipv6Addr, u32, u32)>,
}

impl Reply6 {
    /// `None`: it is broken, or no server's. Of several associations that with `id` counts.
    pub fn read(octets: &[u8], id: u32) -> Option<Self> {
        let is_reply = match octets.first()? {
            2 => false,
            7 => true,
            _ => return None,
        };
        let [a, b, c] = array(octets, 1)?;
        let transaction = u32::from_be_bytes([0, a, b, c]);
        let mut reply = Self { is_reply, transaction, success: true, ..Self::default() };
        for option in Options(octets.get(4..)?) {
            let (code, value) = option?;
            match code {
                code::CLIENT => reply.client = value.to_vec(),
                code::SERVER if value.len() <= DUID_MAX => reply.server = value.to_vec(),
                code::PREFERENCE => reply.preference = value.first().copied().unwrap_or(0),
                code::STATUS => reply.success &= succeeded(value),
                code::DNS => reply.dns = value.chunks_exact(16).filter_map(host).take(ADDRESSES_MAX).collect(),
                code::SEARCH => reply.search = names(value),
                code::IA_NA => {
                    let (association, success) = Association::read(value)?;
                    if association.id == id {
                        reply.success &= success;
                        reply.association.get_or_insert(association);
                    }
                }
                _ => {}
            }
        }
        Some(reply)
    }
}

impl Association {
    fn read(value: &[u8]) -> Option<(Self, bool)> {
        let number = |at| array(value, at).map(u32::from_be_bytes);
        let mut read = Self { id: number(0)?, renew: number(4)?, rebind: number(8)?, addresses: Vec::new() };
        let mut success = true;
        for option in Options(value.get(12..)?) {
            match option? {
                (code::IA_ADDRESS, inner) => {
                    let lifetime = |at| array(inner, at).map(u32::from_be_bytes);
                    let (preferred, valid) = (lifetime(16)?, lifetime(20)?);
                    let fits = preferred <= valid && valid > 0 && read.addresses.len() < ADDRESSES_MAX;
                    let address = host(inner.get(..16)?).filter(|_| fits);
                    read.addresses.extend(address.map(|ip| (ip, preferred, valid)));
                }
                (code::STATUS, inner) => success &= succeeded(inner),
                _ => {}
            }
        }
        Some((read, success))
    }
}

fn succeeded(status: &[u8]) -> bool {
    array(status, 0) == Some([0, 0])
}

/// An address that one host can have on more than a link.
fn host(octets: &[u8]) -> Option<Ipv6Addr> {
    let ip = Ipv6Addr::from(array::<16>(octets, 0)?);
    let bad = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local();
    (!bad && ip.to_ipv4_mapped().is_none()).then_some(ip)
}

/// A message of a client.
#[derive(Debug, Clone, Copy)]
pub struct Draft6<'a> {
    /// What for.
    pub kind: Kind6,
    /// Its transaction's number: 24 bits.
    pub transaction: u32,
    /// Hundredths of a second since we began.
    pub elapsed: u16,
    /// Our DUID.
    pub client: &'a [u8],
    /// The server that is meant.
    pub server: Option<&'a [u8]>,
    /// Our association; none for who only wants to be told.
    pub association: Option<u32>,
    /// The address it has, or should have.
    pub address: Option<Ipv6Addr>,
}

impl Draft6<'_> {
    /// The octets.
    pub fn write(&self) -> Vec<u8> {
        let [_, a, b, c] = self.transaction.to_be_bytes();
        let mut message = vec![self.kind as u8, a, b, c];
        put(&mut message, code::CLIENT, self.client);
        if let Some(server) = self.server {
            put(&mut message, code::SERVER, server);
        }
        if let Some(id) = self.association {
            // T1, T2 and lifetimes are the server's to choose.
            let mut inner = [&id.to_be_bytes()[..], &[0; 8]].concat();
            if let Some(address) = self.address {
                put(&mut inner, code::IA_ADDRESS, &[&address.octets()[..], &[0; 8]].concat());
            }
            put(&mut message, code::IA_NA, &inner);
        }
        put(&mut message, code::ELAPSED, &self.elapsed.to_be_bytes());
        if !matches!(self.kind, Kind6::Release | Kind6::Decline) {
            put(&mut message, code::WANTED, &[code::DNS.to_be_bytes(), code::SEARCH.to_be_bytes()].concat());
        }
        message
    }
}

fn put(message: &mut Vec<u8>, code: u16, value: &[u8]) {
    message.extend(code.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
}
