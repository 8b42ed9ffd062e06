//! A door for fuzzers: whatever the bytes, this returns.

use crate::conntrack::Entry;
use crate::message::Reply;
use crate::news::route_event;
use crate::rtnetlink::{Link, LinkAddress, PortVlans, TableRoute, is_departure};
use crate::socket::{answer, done};

/// Reads `bytes` as what one `recv` returned, and each message as everything it could be.
pub fn replies(bytes: &[u8]) -> Vec<Reply> {
    let replies = Reply::split(bytes);
    for reply in &replies {
        let _ = (Link::read(reply), LinkAddress::read(reply), TableRoute::read(reply), Entry::read(reply));
        let _ = (answer(reply), done(reply), is_departure(reply, 7), PortVlans::read(reply), route_event(reply));
    }
    replies
}
