//! The table `inet podwire_relay` of the relay's namespace: which packets are the relay's.
//!
//! ```text
//!   prerouting ── by pwrelay ──> from_relay:  a SYN that came back: to the transparent listener
//!              ── TCP ──> a SYN that would leave by pwrelay: let it, to be held
//!              │          of a connection that the relay has: to its socket, by mark
//!              ├─ UDP ──> of a flow that the relay has: to its socket; else to the wildcard socket
//!              └─ what else would leave by pwrelay: let it, so many a second
//!   output     ── of the relay's sockets: on to the container
//!              └─ of this namespace itself, leaving by pwrelay: back in by `lo`, but SYNs
//! ```
//!
//! All of it is exempt from connection tracking: both ends are sockets, or packets that the relay wrote. The rules
//! are the same always; which addresses of this namespace mean something else to a container is in two sets.
//!
//! A SYN, a flow's first datagram, or whatever else the relay has to read, costs it more than its sender, so the senders
//! (by the MAC address, which is assigned) have a rate each: one that floods loses its own.

use std::io;
use std::net::IpAddr;

use firewall::{RELAY_LINK, RELAY_MARK};
use netlink::{Message, Socket, flags};

/// The mark of what the relay's transparent sockets send: it never comes back to the relay.
pub(crate) const SOCKET_MARK: u32 = 0x7077_0002;
/// The mark of a SYN to an address of this namespace that means another one: it goes to the relay's link all the same.
pub(crate) const TAKEN_MARK: u32 = 0x7077_0003;

/// SYNs per second and sender that reach the relay, and how many may come at once.
const SYN_RATE: u64 = 25_000;
const SYN_BURST: u32 = 1_000;
/// First datagrams, likewise: what one may send at once is less than the socket's buffer holds, which is for all.
const FLOW_RATE: u64 = 5_000;
const FLOW_BURST: u32 = 200;
/// What else the relay reads, likewise: echo, segments of no connection.
const REST_RATE: u64 = 5_000;
const REST_BURST: u32 = 250;
/// Senders that are counted at a time; more than a bridge has ports, several times.
const SENDERS: u32 = 8192;
/// After so many milliseconds without one a sender is forgotten.
const SENDER_TIMEOUT_MS: u64 = 10_000;

const TABLE: &str = "podwire_relay";
const SYN_SENDERS: &str = "senders";
const FLOW_SENDERS: &str = "flow_senders";
const REST_SENDERS: &str = "rest_senders";
const TAKEN4: &str = "taken4";
const TAKEN6: &str = "taken6";

/// Makes the table anew, in one transaction. Connections are taken at `tcp`, datagrams at `udp`; `link` is the number of
/// the relay's link.
pub(crate) fn make(socket: &mut Socket, link: u32, tcp: u16, udp: u16) -> io::Result<()> {
    let mut messages =
        vec![begin(), table(NEWTABLE, flags::CREATE), table(DELTABLE, 0), table(NEWTABLE, flags::CREATE)];
    messages.extend([
        taken(1, TAKEN4, 7, 4),
        taken(2, TAKEN6, 8, 16),
        senders(3, SYN_SENDERS),
        senders(4, FLOW_SENDERS),
        senders(5, REST_SENDERS),
    ]);
    let chains = ["from_relay", "syn", "rest", "opens", "tcp", "flow", "udp"].map(|name| chain(name, None));
    messages.extend(chains);
    messages.push(chain("prerouting", Some(("filter", 0))));
    messages.push(chain("output", Some(("route", 3))));
    messages.extend(rules(link, tcp, udp));
    messages.push(end());
    transact(socket, &messages)
}

/// A container's address, and one that means another one to this container.
pub(crate) type Taken = (IpAddr, IpAddr);

/// Adds or removes addresses of this namespace that mean others to a container.
pub(crate) fn take(socket: &mut Socket, add: &[Taken], remove: &[Taken]) -> io::Result<()> {
    if add.is_empty() && remove.is_empty() {
        return Ok(());
    }
    let element = |kind, more, (from, to): &Taken| {
        let octets = [octets(*from), octets(*to)].concat();
        let set = if to.is_ipv4() { TAKEN4 } else { TAKEN6 };
        message(kind, more)
            .attr_str(1, TABLE)
            .attr_str(2, set)
            .nest(ELEMENTS, |m| m.nest(LIST_ELEM, |m| m.nest(ELEM_KEY, |m| m.attr(DATA_VALUE, &octets))))
    };
    let mut messages = vec![begin()];
    messages.extend(add.iter().map(|taken| element(NEWSETELEM, flags::CREATE, taken)));
    messages.extend(remove.iter().map(|taken| element(DELSETELEM, 0, taken)));
    messages.push(end());
    transact(socket, &messages)
}

fn transact(socket: &mut Socket, messages: &[Message]) -> io::Result<()> {
    let results = socket.batch(messages)?;
    match results.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some(errno) => {
            let kind = io::Error::from_raw_os_error(errno.code).kind();
            Err(io::Error::new(kind, format!("the relay's firewall table: {errno}")))
        }
    }
}

fn rules(link: u32, tcp: u16, udp: u16) -> Vec<Message> {
    let is_tcp = || Rule::new().meta(META_L4PROTO).equals(&[6]);
    let is_udp = || Rule::new().meta(META_L4PROTO).equals(&[17]);
    let syn = |rule: Rule| rule.payload(TRANSPORT, 13, 1).masked(&[0x17]).equals(&[0x02]);
    // A handshake's too, of which nothing else can be asked (nft_socket_eval in net/netfilter/nft_socket.c).
    let ours = |rule: Rule| rule.socket(SOCKET_TRANSPARENT).equals(&[1]);
    let out = |rule: Rule| rule.meta(META_OIFNAME).equals(&link_name());
    // Both addresses at once, which lie side by side.
    let taken4 = || Rule::new().meta(META_NFPROTO).equals(&[2]).payload(NETWORK, 12, 8).within(TAKEN4);
    let taken6 = || Rule::new().meta(META_NFPROTO).equals(&[10]).payload(NETWORK, 8, 32).within(TAKEN6);
    let marked = |mark| Rule::new().meta(META_MARK).equals(&u32::to_ne_bytes(mark));
    let groups = || {
        [
            Rule::new().meta(META_NFPROTO).equals(&[2]).payload(NETWORK, 16, 1).masked(&[0xf0]).equals(&[0xe0]),
            Rule::new().meta(META_NFPROTO).equals(&[10]).payload(NETWORK, 24, 1).equals(&[0xff]),
        ]
    };
    let [group4, group6] = groups();
    let rules = vec![
        ("from_relay", Rule::new().notrack()),
        ("from_relay", syn(is_tcp()).tproxy(tcp).mark(RELAY_MARK).verdict(ACCEPT)),
        ("from_relay", Rule::new().verdict(ACCEPT)),
        // A flood ends here, each sender's own.
        ("syn", Rule::new().limit_sender(SYN_SENDERS, SYN_RATE, SYN_BURST).verdict(DROP)),
        ("syn", Rule::new().notrack().verdict(ACCEPT)),
        ("opens", Rule::new().leaves().go("syn")),
        ("opens", taken4().mark(TAKEN_MARK).go("syn")),
        ("opens", taken6().mark(TAKEN_MARK).go("syn")),
        ("opens", Rule::new().verdict(ACCEPT)),
        ("tcp", syn(Rule::new()).go("opens")),
        ("tcp", ours(Rule::new()).notrack().mark(RELAY_MARK).verdict(ACCEPT)),
        // Of no connection: the relay says so.
        ("tcp", Rule::new().leaves().go("rest")),
        ("rest", Rule::new().limit_sender(REST_SENDERS, REST_RATE, REST_BURST).verdict(DROP)),
        ("rest", Rule::new().notrack().verdict(ACCEPT)),
        ("flow", Rule::new().limit_sender(FLOW_SENDERS, FLOW_RATE, FLOW_BURST).verdict(DROP)),
        ("flow", Rule::new().notrack().tproxy(udp).mark(RELAY_MARK).verdict(ACCEPT)),
        // First, for most are of a flow that is there.
        ("udp", ours(Rule::new()).notrack().mark(RELAY_MARK).verdict(ACCEPT)),
        ("udp", group4.verdict(ACCEPT)),
        ("udp", group6.verdict(ACCEPT)),
        ("udp", Rule::new().leaves().go("flow")),
        ("udp", taken4().go("flow")),
        ("udp", taken6().go("flow")),
        // This namespace's own, from `output`.
        ("udp", marked(RELAY_MARK).notrack().tproxy(udp).verdict(ACCEPT)),
        ("prerouting", Rule::new().meta(META_IIF).equals(&link.to_ne_bytes()).go("from_relay")),
        ("prerouting", is_tcp().go("tcp")),
        ("prerouting", is_udp().go("udp")),
        ("prerouting", Rule::new().leaves().go("rest")),
        // Of the relay's sockets. Those of a container that is gone: what the relay still has for it goes nowhere.
        ("output", out(marked(SOCKET_MARK)).verdict(DROP)),
        ("output", marked(SOCKET_MARK).notrack().verdict(ACCEPT)),
        ("output", syn(out(is_tcp())).notrack().verdict(ACCEPT)),
        ("output", out(is_tcp()).notrack().mark(RELAY_MARK)),
        ("output", out(is_udp()).notrack().mark(RELAY_MARK)),
    ];
    let mut messages = Vec::with_capacity(rules.len());
    for (chain, rule) in &rules {
        messages.push(rule.message(chain));
    }
    messages
}

// Numbers of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h.
const SUBSYS_NFTABLES: u16 = 10;
const NFPROTO_INET: u8 = 1;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;
const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const ELEMENTS: u16 = 3;
const ELEM_KEY: u16 = 1;
/// Beside connection tracking's -200, after the namespace's own check at -310.
const PRIORITY: i32 = -305;

fn message(kind: u16, more: u16) -> Message {
    Message::new(SUBSYS_NFTABLES << 8 | kind, more).bytes(&[NFPROTO_INET, 0, 0, 0])
}

fn begin() -> Message {
    Message::new(16, 0).bytes(&[0, 0, 0, 10])
}

fn end() -> Message {
    Message::new(17, 0).bytes(&[0, 0, 0, 10])
}

fn table(kind: u16, more: u16) -> Message {
    message(kind, more).attr_str(1, TABLE)
}

/// A set of senders with a rate each: NFT_SET_TIMEOUT | NFT_SET_EVAL, keys of ether_addr.
fn senders(id: u32, name: &str) -> Message {
    set(id, name, 9, 6).attr_be32(3, 0x10 | 0x20).nest(9, |m| m.attr_be32(1, SENDERS))
}

/// A set of pairs of addresses: NFT_SET_CONCAT.
fn taken(id: u32, name: &str, of_type: u32, width: u32) -> Message {
    let part = |m: Message| m.nest(LIST_ELEM, |m| m.attr_be32(1, width));
    let message = set(id, name, of_type << 6 | of_type, 2 * width).attr_be32(3, 0x80);
    message.nest(9, |m| m.nest(2, |m| part(part(m))))
}

fn set(id: u32, name: &str, of_type: u32, width: u32) -> Message {
    let message = message(NEWSET, flags::CREATE).attr_str(1, TABLE).attr_str(2, name);
    message.attr_be32(4, of_type).attr_be32(5, width).attr_be32(10, id)
}

fn chain(name: &str, base: Option<(&str, u32)>) -> Message {
    let message = message(NEWCHAIN, flags::CREATE).attr_str(1, TABLE).attr_str(3, name);
    let Some((of_type, hook)) = base else { return message };
    message
        .nest(4, |m| m.attr_be32(1, hook).attr_be32(2, PRIORITY.cast_unsigned()))
        .attr_be32(5, 1)
        .attr_str(7, of_type)
}

const REGISTER: u32 = 8;
const VERDICT: u32 = 0;
const META_MARK: u32 = 3;
const META_IIF: u32 = 4;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const SOCKET_TRANSPARENT: u32 = 0;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const GOTO: u32 = (-4_i32).cast_unsigned();

/// A rule being written, as the kernel's little instructions.
struct Rule(Vec<(&'static str, Message)>);

impl Rule {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn put(mut self, name: &'static str, data: impl FnOnce(Message) -> Message) -> Self {
        // Only its attributes are taken.
        self.0.push((name, data(Message::new(0, 0))));
        self
    }

    fn message(&self, chain: &str) -> Message {
        let message = message(NEWRULE, flags::CREATE | flags::APPEND).attr_str(1, TABLE).attr_str(2, chain);
        message.nest(4, |mut m| {
            for (name, data) in &self.0 {
                m = m.nest(LIST_ELEM, |m| m.attr_str(1, name).nest(2, |m| m.bytes(data.appended())));
            }
            m
        })
    }

    fn meta(self, key: u32) -> Self {
        self.put("meta", |m| m.attr_be32(1, REGISTER).attr_be32(2, key))
    }

    fn mark(self, mark: u32) -> Self {
        let rule = self.immediate(&mark.to_ne_bytes());
        rule.put("meta", |m| m.attr_be32(2, META_MARK).attr_be32(3, REGISTER))
    }

    fn payload(self, header: u32, offset: u32, len: u32) -> Self {
        self.put("payload", |m| m.attr_be32(1, REGISTER).attr_be32(2, header).attr_be32(3, offset).attr_be32(4, len))
    }

    /// Matches what would leave by the relay's link.
    ///
    /// A function, and not a closure in [`rules`]: that one rustc 1.95 compiles with `-O` so that two rules get the
    /// same buffer (the release test of tests/datagrams.rs crashes then; nightly 1.97 is right).
    fn leaves(self) -> Self {
        let rule = self.put("fib", |m| m.attr_be32(1, REGISTER).attr_be32(2, 2).attr_be32(3, 2));
        rule.equals(&link_name())
    }

    fn socket(self, key: u32) -> Self {
        self.put("socket", |m| m.attr_be32(1, key).attr_be32(2, REGISTER))
    }

    fn masked(self, mask: &[u8]) -> Self {
        self.put("bitwise", |m| {
            let m = m.attr_be32(1, REGISTER).attr_be32(2, REGISTER).attr_be32(3, mask.len() as u32);
            m.nest(4, |m| m.attr(DATA_VALUE, mask)).nest(5, |m| m.attr(DATA_VALUE, &vec![0; mask.len()]))
        })
    }

    fn equals(self, value: &[u8]) -> Self {
        self.put("cmp", |m| m.attr_be32(1, REGISTER).attr_be32(2, 0).nest(3, |m| m.attr(DATA_VALUE, value)))
    }

    fn within(self, set: &str) -> Self {
        self.put("lookup", |m| m.attr_str(1, set).attr_be32(2, REGISTER))
    }

    fn immediate(self, value: &[u8]) -> Self {
        self.put("immediate", |m| m.attr_be32(1, REGISTER).nest(2, |m| m.attr(DATA_VALUE, value)))
    }

    fn notrack(self) -> Self {
        self.put("notrack", |m| m)
    }

    /// Gives the packet to the transparent socket at `port`, of the packet's own family.
    fn tproxy(self, port: u16) -> Self {
        let rule = self.immediate(&port.to_be_bytes());
        rule.put("tproxy", |m| m.attr_be32(1, 0).attr_be32(3, REGISTER))
    }

    /// Matches when the sender has sent too many.
    fn limit_sender(self, set: &str, rate: u64, burst: u32) -> Self {
        let rule = self.payload(LINK, 6, 6);
        rule.put("dynset", |m| {
            let m = m.attr_str(1, set).attr_be32(3, 1).attr_be32(4, REGISTER).attr_be64(6, SENDER_TIMEOUT_MS);
            m.nest(7, |m| {
                m.attr_str(1, "limit").nest(2, |m| {
                    let m = m.attr_be64(1, rate).attr_be64(2, 1).attr_be32(3, burst);
                    m.attr_be32(4, 0).attr_be32(5, 1)
                })
            })
        })
    }

    fn verdict(self, code: u32) -> Self {
        self.put("immediate", |m| m.attr_be32(1, VERDICT).nest(2, |m| m.nest(2, |m| m.attr_be32(1, code))))
    }

    fn go(self, chain: &str) -> Self {
        self.put("immediate", |m| {
            m.attr_be32(1, VERDICT).nest(2, |m| m.nest(2, |m| m.attr_be32(1, GOTO).attr_str(2, chain)))
        })
    }
}

fn link_name() -> [u8; 16] {
    let mut name = [0; 16];
    name[..RELAY_LINK.len()].copy_from_slice(RELAY_LINK.as_bytes());
    name
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
