//! What the kernel announces: links, addresses, forwarding, rules.
//!
//! ```text
//!   RTNLGRP_LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_NETCONF, IPV6_NETCONF ──┐
//!                                                                        ├─> Listener ─> News ─> [Event, …]
//!   NFNLGRP_NFTABLES: DELTABLE … DELSETELEM, then NEWGEN (who it was) ───┘
//! ```
//!
//! A transaction's deletions come before the NEWGEN that ends it and names the process (nf_tables_commit in
//! net/netfilter/nf_tables_api.c).

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::message::u32_at;
use crate::rtnetlink::{self, Link};
use crate::socket::Listener;
use crate::{Errno, Protocol, Reply};

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`, and the bits of RTNLGRP_IPV4_NETCONF (24) and
/// RTNLGRP_IPV6_NETCONF (25), of include/uapi/linux/rtnetlink.h.
const ROUTE_GROUPS: u32 = rtnetlink::LINKS_GROUP | 0x10 | 0x100 | 1 << 23 | 1 << 24;
/// The bit of NFNLGRP_NFTABLES (7), include/uapi/linux/netfilter/nfnetlink.h.
const NFTABLES_GROUP: u32 = 1 << 6;

const RTM_DELADDR: u16 = 21;
const RTM_NEWNETCONF: u16 = 80;
const NETCONFMSG: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
/// NETCONFA_IFINDEX_ALL
const ALL_LINKS: u32 = (-1_i32).cast_unsigned();

const SUBSYS_NFTABLES: u16 = 10;
const NFGENMSG: usize = 4;
/// NFT_MSG_DELTABLE, DELCHAIN, DELRULE, DELSET, DELSETELEM.
const DELETIONS: [u16; 5] = [2, 5, 8, 11, 14];
const NEWGEN: u16 = 15;
const GEN_PROC_PID: u16 = 2;
const GEN_PROC_NAME: u16 = 3;
/// The table's name is the first attribute of all that is in it, and of itself.
const TABLE: u16 = 1;

/// Something that happened in this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link is new, or has changed.
    Link(Link),
    /// A link is gone, or was moved to another namespace.
    LinkGone(Link),
    /// A link, known by its index, has lost an address.
    AddressGone(u32),
    /// Forwarding is off: of one link, by its index, or (`None`) of the namespace.
    NotForwarding(Option<u32>),
    /// Tables, chains, rules, sets or elements were deleted, in one transaction.
    RulesGone {
        /// From which tables: `nfgen_family` (1 inet, 7 bridge) and name.
        tables: Vec<(u8, String)>,
        /// The name of the process, as in /proc/PID/comm.
        by: String,
        /// Its number.
        pid: u32,
    },
    /// More happened than could be remembered: anything may have.
    Lost,
}

/// Hears of changes in the network namespace it was opened in.
#[derive(Debug)]
pub struct News {
    route: Listener,
    /// `None` where the kernel has no nfnetlink.
    netfilter: Option<Listener>,
    /// Of the transaction that has not been ended yet.
    deleted: Vec<(u8, String)>,
}

impl News {
    /// Hears everything from now on.
    pub fn open() -> io::Result<Self> {
        let route = Listener::open_for(Protocol::Route, ROUTE_GROUPS)?;
        let netfilter = match Listener::open_for(Protocol::Netfilter, NFTABLES_GROUP) {
            Err(e) if Errno::code_of(&e) == libc::EPROTONOSUPPORT => None,
            opened => Some(opened?),
        };
        Ok(Self { route, netfilter, deleted: Vec::new() })
    }

    /// Waits for news, at most for `timeout`, or until `also` can be read: then `false`.
    pub fn wait(&self, also: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let mut fds = vec![PollFd::from_borrowed_fd(also, PollFlags::IN), PollFd::new(&self.route, PollFlags::IN)];
        fds.extend(self.netfilter.as_ref().map(|listener| PollFd::new(listener, PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        Ok(fds[0].revents().is_empty())
    }

    /// What has happened since the last call, in order as far as one kernel subsystem is concerned.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        for reply in hear(&mut self.route, &mut events)? {
            events.extend(route_event(&reply));
        }
        if let Some(listener) = &mut self.netfilter {
            for reply in hear(listener, &mut events)? {
                events.extend(self.rules_event(&reply));
            }
        }
        Ok(events)
    }

    fn rules_event(&mut self, reply: &Reply) -> Option<Event> {
        let kind = reply.kind.checked_sub(SUBSYS_NFTABLES << 8)?;
        let attrs = reply.attrs(NFGENMSG);
        if DELETIONS.contains(&kind) {
            let table = (*reply.payload.first()?, attrs.text(TABLE)?.to_owned());
            if !self.deleted.contains(&table) {
                self.deleted.push(table);
            }
        }
        if kind != NEWGEN || self.deleted.is_empty() {
            return None;
        }
        let tables = std::mem::take(&mut self.deleted);
        let by = attrs.text(GEN_PROC_NAME).unwrap_or_default().to_owned();
        Some(Event::RulesGone { tables, by, pid: attrs.be32(GEN_PROC_PID).unwrap_or_default() })
    }
}

/// All that is there; [`Event::Lost`] when there was more.
fn hear(listener: &mut Listener, events: &mut Vec<Event>) -> io::Result<Vec<Reply>> {
    let mut replies = Vec::new();
    loop {
        match listener.next() {
            Ok(Some(some)) => replies.extend(some),
            Ok(None) => return Ok(replies),
            Err(e) if Errno::code_of(&e) == libc::ENOBUFS => events.push(Event::Lost),
            Err(e) => return Err(e),
        }
    }
}

pub(crate) fn route_event(reply: &Reply) -> Option<Event> {
    match reply.kind {
        RTM_DELADDR => u32_at(&reply.payload, 4).map(Event::AddressGone),
        RTM_NEWNETCONF => {
            let attrs = reply.attrs(NETCONFMSG);
            let off = attrs.u32(NETCONFA_FORWARDING) == Some(0);
            let index = attrs.u32(NETCONFA_IFINDEX).filter(|_| off)?;
            // NETCONFA_IFINDEX_DEFAULT (-2) is about links to come.
            match index {
                ALL_LINKS => Some(Event::NotForwarding(None)),
                index => index.cast_signed().is_positive().then_some(Event::NotForwarding(Some(index))),
            }
        }
        _ => {
            let gone = || Link::read_departed(reply).map(Event::LinkGone);
            Link::read(reply).filter(|_| reply.payload.first() == Some(&0)).map(Event::Link).or_else(gone)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn reply(message: &Message) -> Reply {
        let mut bytes = Vec::new();
        message.write(1, &mut bytes);
        Reply::split(&bytes).remove(0)
    }

    fn netconf(index: u32, forwarding: u32) -> Option<Event> {
        let message = Message::new(RTM_NEWNETCONF, 0).bytes(&[2]);
        route_event(&reply(&message.attr_u32(NETCONFA_IFINDEX, index).attr_u32(NETCONFA_FORWARDING, forwarding)))
    }

    #[test]
    fn forwarding_is_of_the_namespace_or_of_one_link_or_of_links_to_come() {
        assert_eq!(netconf(ALL_LINKS, 0), Some(Event::NotForwarding(None)));
        assert_eq!(netconf(7, 0), Some(Event::NotForwarding(Some(7))));
        assert_eq!((netconf(7, 1), netconf((-2_i32).cast_unsigned(), 0)), (None, None));
    }

    #[test]
    fn a_transactions_deletions_are_told_with_who_made_it() {
        let mut news = News::open().unwrap();
        let nft = |kind: u16, family: u8| Message::new(SUBSYS_NFTABLES << 8 | kind, 0).bytes(&[family, 0, 0, 0]);
        for kind in [DELETIONS[4], DELETIONS[0]] {
            assert_eq!(news.rules_event(&reply(&nft(kind, 1).attr_str(TABLE, "podwire"))), None);
        }
        let end = reply(&nft(NEWGEN, 0).attr_be32(GEN_PROC_PID, 4711).attr_str(GEN_PROC_NAME, "nft"));
        let told = Event::RulesGone { tables: vec![(1, "podwire".to_owned())], by: "nft".to_owned(), pid: 4711 };
        assert_eq!(news.rules_event(&end), Some(told));
        assert_eq!(news.rules_event(&end), None);
    }

    #[test]
    fn cut_off_news_are_no_news_and_no_panic() {
        let mut news = News::open().unwrap();
        for kind in [RTM_DELADDR, RTM_NEWNETCONF, 16, 17, SUBSYS_NFTABLES << 8 | 2, SUBSYS_NFTABLES << 8 | NEWGEN] {
            for len in 0..20 {
                let short = Reply { kind, flags: 0, seq: 0, payload: vec![0; len] };
                assert_eq!(news.rules_event(&short), None);
                let heard = route_event(&short);
                assert!(matches!(heard, None | Some(Event::AddressGone(0))), "{heard:?}");
            }
        }
    }
}
