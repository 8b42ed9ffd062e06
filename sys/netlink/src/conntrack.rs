//! Connection tracking entries: find those of a published port, delete them.
//!
//! ```text
//!   nfgenmsg family:u8 version:u8 0:be16 | CTA_TUPLE_ORIG{ IP{src,dst}, PROTO{num,sport,dport} } | CTA_TUPLE_REPLY{…}
//! ```
//!
//! A client that sends UDP to a published port before its container runs, or while it is replaced, has an
//! entry that sends its packets to nobody or to the old container; the kernel asks the NAT rules only
//! about new flows, and a client that keeps sending keeps its entry for ever. Deleted, its next packet is a new flow.
//!
//! Numbers are from include/uapi/linux/netfilter/nfnetlink_conntrack.h; the filter's flags, which are in
//! no public header, from net/netfilter/nf_internals.h.

use std::io;
use std::net::IpAddr;

use crate::rtnetlink::ip;
use crate::{Attrs, Errno, Message, Reply, Socket, flags};

/// `NFNL_SUBSYS_CTNETLINK << 8`
const CT: u16 = 1 << 8;
const CT_NEW: u16 = CT;
const CT_GET: u16 = CT | 1;
const CT_DELETE: u16 = CT | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;

const NFGENMSG: usize = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// One flow as the kernel remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The IANA number of its transport protocol.
    pub protocol: u8,
    /// Where the first packet was sent to.
    pub to: IpAddr,
    /// Which port it was sent to.
    pub to_port: u16,
    /// Who is expected to answer: differs from `to` when the destination was translated.
    pub answers: IpAddr,
    delete: Message,
}

impl Entry {
    /// Reads one entry of a dump; `None` for protocols without ports and everything else.
    pub(crate) fn read(reply: &Reply) -> Option<Self> {
        if reply.kind != CT_NEW {
            return None;
        }
        let attrs = reply.attrs(NFGENMSG);
        let original = attrs.nested(CTA_TUPLE_ORIG);
        let proto = original.nested(CTA_TUPLE_PROTO);
        Some(Self {
            protocol: *proto.find(CTA_PROTO_NUM)?.first()?,
            to: address(&original, Side::Destination)?,
            to_port: proto.be16(CTA_PROTO_DST_PORT)?,
            answers: address(&attrs.nested(CTA_TUPLE_REPLY), Side::Source)?,
            delete: delete(*reply.payload.first()?, &attrs)?,
        })
    }
}

/// The entries of one transport protocol and family whose first packet was sent to `port`, or to any when `None`.
///
/// The kernel filters (since 5.8); an older one, which refuses the filter, is asked for everything.
pub fn entries(socket: &mut Socket, ipv4: bool, protocol: u8, port: Option<u16>) -> io::Result<Vec<Entry>> {
    let replies = match socket.dump(request(ipv4, Some((protocol, port)))) {
        Err(e) if matches!(Errno::code_of(&e), libc::EOPNOTSUPP | libc::EINVAL) => socket.dump(request(ipv4, None))?,
        replies => replies?,
    };
    let wanted = |e: &Entry| e.protocol == protocol && port.is_none_or(|port| port == e.to_port);
    Ok(replies.iter().filter_map(Entry::read).filter(wanted).collect())
}

/// Deletes entries; those that are gone meanwhile count as deleted.
pub fn delete_all(socket: &mut Socket, entries: &[Entry]) -> io::Result<()> {
    for some in entries.chunks(512) {
        let messages: Vec<_> = some.iter().map(|entry| entry.delete.clone()).collect();
        for result in socket.batch(&messages)? {
            result.or_else(|e| if e.code == libc::ENOENT { Ok(()) } else { Err(e) })?;
        }
    }
    Ok(())
}

fn request(ipv4: bool, filter: Option<(u8, Option<u16>)>) -> Message {
    let message = Message::new(CT_GET, 0).bytes(&[if ipv4 { AF_INET } else { AF_INET6 }, 0, 0, 0]);
    let Some((protocol, port)) = filter else { return message };
    let flags = FILTER_PROTO_NUM | port.map_or(0, |_| FILTER_PROTO_DST_PORT);
    message
        .nest(CTA_TUPLE_ORIG, |m| {
            m.nest(CTA_TUPLE_PROTO, |m| {
                let m = m.attr_u8(CTA_PROTO_NUM, protocol);
                match port {
                    Some(port) => m.attr_be16(CTA_PROTO_DST_PORT, port),
                    None => m,
                }
            })
        })
        .nest(CTA_FILTER, |m| m.attr_u32(CTA_FILTER_ORIG_FLAGS, flags).attr_u32(CTA_FILTER_REPLY_FLAGS, 0))
}

/// Names the entry by its original tuple, its zone and its id, so that no successor is hit.
fn delete(family: u8, attrs: &Attrs<'_>) -> Option<Message> {
    const NESTED: u16 = 0x8000;
    let message = Message::new(CT_DELETE, flags::ACK)
        .bytes(&[family, 0, 0, 0])
        .attr(CTA_TUPLE_ORIG | NESTED, attrs.find(CTA_TUPLE_ORIG)?)
        .attr(CTA_ID, attrs.find(CTA_ID)?);
    Some(match attrs.find(CTA_ZONE) {
        Some(zone) => message.attr(CTA_ZONE, zone),
        None => message,
    })
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// `CTA_IP_V4_SRC` 1, `CTA_IP_V4_DST` 2, `CTA_IP_V6_SRC` 3, `CTA_IP_V6_DST` 4.
fn address(tuple: &Attrs<'_>, side: Side) -> Option<IpAddr> {
    let addresses = tuple.nested(CTA_TUPLE_IP);
    let (v4, v6) = match side {
        Side::Source => (1, 3),
        Side::Destination => (2, 4),
    };
    addresses.find(v4).or_else(|| addresses.find(v6)).and_then(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_where_the_packet_was_sent_and_who_answers() {
        let tuple = |m: Message, ips: [[u8; 4]; 2], ports: [u16; 2]| {
            m.nest(CTA_TUPLE_IP, |m| m.attr(1, &ips[0]).attr(2, &ips[1])).nest(CTA_TUPLE_PROTO, |m| {
                m.attr_u8(CTA_PROTO_NUM, 17).attr_be16(2, ports[0]).attr_be16(CTA_PROTO_DST_PORT, ports[1])
            })
        };
        let (client, host, container) = ([192, 0, 2, 9], [192, 0, 2, 1], [10, 88, 0, 2]);
        let message = Message::new(CT_NEW, 0)
            .bytes(&[AF_INET, 0, 0, 0])
            .nest(CTA_TUPLE_ORIG, |m| tuple(m, [client, host], [4000, 53]))
            .nest(CTA_TUPLE_REPLY, |m| tuple(m, [container, client], [5353, 4000]))
            .attr_be32(CTA_ID, 7);
        let mut bytes = Vec::new();
        message.write(1, &mut bytes);
        let entry = Entry::read(&Reply::split(&bytes)[0]).unwrap();
        assert_eq!((entry.protocol, entry.to, entry.to_port), (17, host.into(), 53));
        assert_eq!(entry.answers, IpAddr::from(container));
    }
}
