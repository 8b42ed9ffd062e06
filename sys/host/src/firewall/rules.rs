//! The ruleset as messages: what `nft` would send for the same text.
//!
//! A rule becomes a list of the kernel's little instructions: load into registers, compare, look up, decide.
//! `ip saddr` alone would also match IPv6 packets at the same offset, so a selector brings the tests it depends
//! on, once per rule; nft knows them and does not print them.

use firewall::{Chain, Family, FieldType, Hook, Is, Rule, Selector, Set, Statement, TableRules, Value, Verdict};
use model::Subnet;
use netlink::{Message, flags};
use plan::Table;

use super::wire::{self, DATA_VALUE, LIST_ELEM, NAME};

/// The messages that create a table with all there is in it, and what each is about. `flags` are the table's.
pub(super) fn create(table: &TableRules, version: &str, flags: u32) -> Vec<(Message, String)> {
    let mut messages = vec![(new_table(table.table, version, flags), format!("table {}", table.table))];
    let sets = (1..).zip(&table.sets).map(|(id, set)| (new_set(table.table, id, set), format!("set {}", set.name)));
    messages.extend(sets);
    // A chain must exist before a rule jumps to it.
    messages.extend(table.chains.iter().map(|chain| (new_chain(table.table, chain), format!("chain {}", chain.name))));
    for chain in &table.chains {
        messages.extend(chain.rules.iter().map(|rule| (new_rule(table.table, chain, rule), rule.to_string())));
    }
    messages
}

fn new_table(table: Table, version: &str, table_flags: u32) -> Message {
    let message = wire::message(wire::NEWTABLE, flags::CREATE | flags::EXCL, table).attr_str(wire::TABLE_NAME, NAME);
    let message = if table_flags == 0 { message } else { message.attr_be32(wire::TABLE_FLAGS, table_flags) };
    message.attr(wire::TABLE_USERDATA, &wire::version_comment(version))
}

// enum nft_set_attributes, nft_set_flags, nft_set_desc_attributes, nft_set_field_attributes
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LEN: u16 = 7;
const SET_DESC: u16 = 9;
const SET_ID: u16 = 10;
const SET_USERDATA: u16 = 13;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_CONCAT: u32 = 0x80;
const SET_DESC_CONCAT: u16 = 2;
const SET_FIELD_LEN: u16 = 1;
/// libnftnl's NFTNL_UDATA_SET_KEYBYTEORDER and …_DATABYTEORDER; nft's BYTEORDER_BIG_ENDIAN.
const UDATA_KEY_ORDER: u8 = 0;
const UDATA_DATA_ORDER: u8 = 1;
const BIG_ENDIAN: u32 = 2;

fn new_set(table: Table, id: u32, set: &Set) -> Message {
    let is_concat = set.key.len() > 1;
    let flags_of = [(set.is_interval(), SET_INTERVAL), (!set.data.is_empty(), SET_MAP), (is_concat, SET_CONCAT)];
    let bits = flags_of.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
    let mut message = wire::message(wire::NEWSET, flags::CREATE | flags::EXCL, table)
        .attr_str(SET_TABLE, NAME)
        .attr_str(SET_NAME, set.name)
        .attr_be32(SET_FLAGS, bits)
        .attr_be32(SET_KEY_TYPE, type_of(set.key))
        .attr_be32(SET_KEY_LEN, len_of(set.key));
    if !set.data.is_empty() {
        message = message.attr_be32(SET_DATA_TYPE, type_of(set.data)).attr_be32(SET_DATA_LEN, len_of(set.data));
    }
    if is_concat {
        message = message.nest(SET_DESC, |m| m.nest(SET_DESC_CONCAT, |m| set.key.iter().fold(m, field_len)));
    }
    message.attr_be32(SET_ID, id).attr(SET_USERDATA, &byte_orders(set))
}

fn field_len(message: Message, field: &FieldType) -> Message {
    message.nest(LIST_ELEM, |m| m.attr_be32(SET_FIELD_LEN, width(*field)))
}

/// For nft only: without it, nft prints some numbers the wrong way round.
fn byte_orders(set: &Set) -> Vec<u8> {
    let record = |kind| [&[kind, 4][..], &BIG_ENDIAN.to_ne_bytes()].concat();
    let data = if set.data.is_empty() { Vec::new() } else { record(UDATA_DATA_ORDER) };
    [record(UDATA_KEY_ORDER), data].concat()
}

/// nft's number of a type (enum datatypes in its include/datatype.h); of concatenations, 6 bits per part.
fn type_of(fields: &[FieldType]) -> u32 {
    fields.iter().fold(0, |all, field| {
        all << 6
            | match field {
                FieldType::Ip4 | FieldType::Net4 => 7,
                FieldType::Ip6 | FieldType::Net6 => 8,
                FieldType::Mac => 9,
                FieldType::Protocol => 12,
                FieldType::Port | FieldType::Ports => 13,
                FieldType::Link => 41,
            }
    })
}

/// Parts of concatenations fill whole registers of four bytes.
fn len_of(fields: &[FieldType]) -> u32 {
    match fields {
        [one] => width(*one),
        many => many.iter().map(|field| width(*field).next_multiple_of(4)).sum(),
    }
}

/// Length of a part in bytes.
pub(super) fn width(field: FieldType) -> u32 {
    match field {
        FieldType::Link => 16,
        FieldType::Ip4 | FieldType::Net4 => 4,
        FieldType::Ip6 | FieldType::Net6 => 16,
        FieldType::Protocol => 1,
        FieldType::Port | FieldType::Ports => 2,
        FieldType::Mac => 6,
    }
}

// enum nft_chain_attributes, nft_hook_attributes
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_HOOKNUM: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

fn new_chain(table: Table, chain: &Chain) -> Message {
    let message = wire::message(wire::NEWCHAIN, flags::CREATE | flags::EXCL, table)
        .attr_str(CHAIN_TABLE, NAME)
        .attr_str(CHAIN_NAME, chain.name);
    let Some(base) = &chain.base else { return message };
    let hook = match base.hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    };
    message
        .nest(CHAIN_HOOK, |m| m.attr_be32(HOOK_HOOKNUM, hook).attr_be32(HOOK_PRIORITY, base.priority.cast_unsigned()))
        .attr_be32(CHAIN_POLICY, NF_ACCEPT)
        .attr_str(CHAIN_TYPE, if base.nat { "nat" } else { "filter" })
}

// enum nft_rule_attributes, nft_expr_attributes
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;

fn new_rule(table: Table, chain: &Chain, rule: &Rule) -> Message {
    wire::message(wire::NEWRULE, flags::CREATE | flags::APPEND, table)
        .attr_str(wire::RULE_TABLE, NAME)
        .attr_str(RULE_CHAIN, chain.name)
        .nest(RULE_EXPRESSIONS, |m| {
            let mut program = Program { table, message: m, network: None, transport: None };
            rule.0.iter().for_each(|statement| program.statement(statement));
            program.message
        })
}

// enum nft_registers: four-byte registers, of which four make one of the old sixteen-byte ones.
const VERDICT: u32 = 0;
const REG32: u32 = 8;

// Attributes and numbers of the instructions.
const META_DREG: u16 = 1;
const META_KEY: u16 = 2;
const META_PROTOCOL: u32 = 1;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_IIFGROUP: u32 = 21;
/// In the input and forward hooks only; since Linux 5.6.
const META_SDIFNAME: u32 = 34;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const PAYLOAD_DREG: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LEN: u16 = 4;
const EXTHDR_DREG: u16 = 1;
const EXTHDR_TYPE: u16 = 2;
const EXTHDR_OFFSET: u16 = 3;
const EXTHDR_LEN: u16 = 4;
const NEXTHDR_FRAGMENT: u8 = 44;
/// The offset's bits beside those of flags.
const FRAGMENT_OFFSET: [u8; 2] = [0xff, 0xf8];
const CT_DREG: u16 = 1;
const CT_KEY: u16 = 2;
const CT_DIRECTION: u16 = 3;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_PROTO_DST: u32 = 12;
const ORIGINAL: u8 = 0;
const FIB_DREG: u16 = 1;
const FIB_RESULT: u16 = 2;
const FIB_FLAGS: u16 = 3;
const FIB_ADDRTYPE: u32 = 3;
const FIB_DADDR: u32 = 0x2;
const FIB_IIF: u32 = 0x8;
const CMP_SREG: u16 = 1;
const CMP_OP: u16 = 2;
const CMP_DATA: u16 = 3;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const CMP_GTE: u32 = 5;
const BITWISE_SREG: u16 = 1;
const BITWISE_DREG: u16 = 2;
const BITWISE_LEN: u16 = 3;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;
const LOOKUP_SET: u16 = 1;
const LOOKUP_SREG: u16 = 2;
const LOOKUP_DREG: u16 = 3;
const IMMEDIATE_DREG: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const NFT_JUMP: u32 = (-3_i32).cast_unsigned();
const NFT_GOTO: u32 = (-4_i32).cast_unsigned();
const NFT_RETURN: u32 = (-5_i32).cast_unsigned();
const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_REG_ADDR_MIN: u16 = 3;
const NAT_REG_ADDR_MAX: u16 = 4;
const NAT_REG_PROTO_MIN: u16 = 5;
const NAT_REG_PROTO_MAX: u16 = 6;
const NAT_SNAT: u32 = 0;
const NAT_DNAT: u32 = 1;

/// Where a payload's offset counts from (enum nft_payload_bases).
#[derive(Debug, Clone, Copy)]
enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// How a selector's value gets into a register.
#[derive(Debug, Clone, Copy)]
enum Load {
    Meta(u32),
    Payload(Header, u32),
    Ct(u32),
    /// Of a flow's first packet as it came.
    CtOriginal(u32),
    Fib(u32),
    /// From the fragment header, which is anywhere behind the IPv6 header.
    Fragment(u32),
}

/// The network protocols that selectors belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Ip,
    Ip6,
    Arp,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// How to load it, its length in bytes, and which protocols a packet must be of to have it.
fn facts(selector: Selector) -> (Load, u32, Option<Network>, Option<u8>) {
    use Header::{Link, Network as Net, Transport};
    use Load::{Ct, CtOriginal, Fib, Fragment, Meta, Payload};
    use Network::{Arp, Ip, Ip6};
    match selector {
        Selector::IifGroup => (Meta(META_IIFGROUP), 4, None, None),
        Selector::IifName => (Meta(META_IIFNAME), 16, None, None),
        Selector::SdifName => (Meta(META_SDIFNAME), 16, None, None),
        Selector::OifName => (Meta(META_OIFNAME), 16, None, None),
        Selector::Mark => (Meta(META_MARK), 4, None, None),
        Selector::NfProto => (Meta(META_NFPROTO), 1, None, None),
        Selector::L4Proto => (Meta(META_L4PROTO), 1, None, None),
        Selector::EtherDaddr => (Payload(Link, 0), 6, None, None),
        Selector::EtherSaddr => (Payload(Link, 6), 6, None, None),
        Selector::EtherType => (Payload(Link, 12), 2, None, None),
        Selector::ArpHtype => (Payload(Net, 0), 2, Some(Arp), None),
        Selector::ArpPtype => (Payload(Net, 2), 2, Some(Arp), None),
        Selector::ArpHlen => (Payload(Net, 4), 1, Some(Arp), None),
        Selector::ArpPlen => (Payload(Net, 5), 1, Some(Arp), None),
        Selector::ArpSaddrEther => (Payload(Net, 8), 6, Some(Arp), None),
        Selector::ArpSaddrIp => (Payload(Net, 14), 4, Some(Arp), None),
        Selector::IpSaddr => (Payload(Net, 12), 4, Some(Ip), None),
        Selector::IpDaddr => (Payload(Net, 16), 4, Some(Ip), None),
        Selector::Ip6Saddr => (Payload(Net, 8), 16, Some(Ip6), None),
        Selector::Ip6Daddr => (Payload(Net, 24), 16, Some(Ip6), None),
        Selector::FragOff => (Fragment(2), 2, Some(Ip6), None),
        Selector::IcmpType => (Payload(Transport, 0), 1, Some(Ip), Some(ICMP)),
        Selector::Icmpv6Type => (Payload(Transport, 0), 1, Some(Ip6), Some(ICMPV6)),
        Selector::Icmpv6Taddr => (Payload(Transport, 8), 16, Some(Ip6), Some(ICMPV6)),
        Selector::ThDport => (Payload(Transport, 2), 2, None, None),
        Selector::TcpDport => (Payload(Transport, 2), 2, None, Some(TCP)),
        Selector::UdpDport => (Payload(Transport, 2), 2, None, Some(UDP)),
        Selector::UdpSport => (Payload(Transport, 0), 2, None, Some(UDP)),
        Selector::CtState => (Ct(CT_STATE), 4, None, None),
        Selector::CtStatus => (Ct(CT_STATUS), 4, None, None),
        Selector::CtOriginalDport => (CtOriginal(CT_PROTO_DST), 2, None, None),
        Selector::FibDaddrType => (Fib(FIB_DADDR), 4, None, None),
        Selector::FibDaddrIifType => (Fib(FIB_DADDR | FIB_IIF), 4, None, None),
    }
}

/// A rule being written, and what its instructions so far say about the packet.
struct Program {
    table: Table,
    message: Message,
    network: Option<Network>,
    transport: Option<u8>,
}

impl Program {
    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match(selector, is, value) => self.compare(*selector, *is, *value),
            Statement::Has(selector) => {
                self.load(&[*selector]);
                self.cmp_with(CMP_GTE, &vec![0; facts(*selector).1 as usize]);
            }
            Statement::Masked(selector, mask, is, value) => {
                self.load(&[*selector]);
                self.mask(mask);
                self.cmp(*is, value);
            }
            Statement::AnyBit(selector, bits) => {
                let mask = bits.iter().fold(0, |all, bit| all | bit.0);
                self.load(&[*selector]);
                self.mask(&mask.to_ne_bytes());
                self.cmp(Is::NotEqual, &[0; 4]);
            }
            Statement::Lookup(key, set) => {
                self.load(key);
                self.put("lookup", |m| m.attr_str(LOOKUP_SET, set).attr_be32(LOOKUP_SREG, REG32));
            }
            Statement::Dnat(family, key, map) => self.nat(NAT_DNAT, *family, key, map),
            Statement::Snat(family, key, map) => self.nat(NAT_SNAT, *family, key, map),
            Statement::Masquerade => self.put("masq", |m| m),
            Statement::Verdict(verdict) => self.verdict(*verdict),
        }
    }

    fn compare(&mut self, selector: Selector, is: Is, value: Value) {
        let (load, width, ..) = facts(selector);
        match value {
            Value::Link(name) => {
                self.load(&[selector]);
                self.cmp(is, &padded(name.as_bytes(), 16));
            }
            Value::Net(net) => self.compare_prefix(selector, is, net),
            Value::Number(number) | Value::Symbol(firewall::Symbol(number, _)) => {
                self.load(&[selector]);
                let bytes = match load {
                    // What is not of the packet has the machine's byte order; of single bytes it does not matter.
                    Load::Ct(_) | Load::Fib(_) | Load::Meta(META_IIFGROUP | META_MARK) => number.to_ne_bytes().to_vec(),
                    Load::Meta(_) | Load::Payload(..) | Load::CtOriginal(_) => {
                        number.to_be_bytes()[4 - width as usize..].to_vec()
                    }
                    Load::Fragment(_) => {
                        self.mask(&FRAGMENT_OFFSET);
                        (number << 3).to_be_bytes()[4 - width as usize..].to_vec()
                    }
                };
                self.cmp(is, &bytes);
                self.learn(selector, is, number);
            }
        }
    }

    /// Of a prefix of whole octets only these are loaded; others are masked.
    fn compare_prefix(&mut self, selector: Selector, is: Is, net: Subnet) {
        let address = octets(net.network());
        if net.len().is_multiple_of(8) {
            let whole = usize::from(net.len() / 8);
            self.require(selector);
            self.instruction(facts(selector).0, u32::from(net.len() / 8), REG32);
            self.cmp(is, &address[..whole]);
        } else {
            self.load(&[selector]);
            self.mask(&netmask(net));
            self.cmp(is, &address);
        }
    }

    /// What a comparison says about the packet needs no test of its own later.
    fn learn(&mut self, selector: Selector, is: Is, number: u32) {
        match (selector, is, number) {
            (Selector::NfProto, Is::Equal, 2) => self.network = Some(Network::Ip),
            (Selector::NfProto, Is::Equal, 10) => self.network = Some(Network::Ip6),
            (Selector::L4Proto, Is::Equal, number) => self.transport = u8::try_from(number).ok(),
            _ => {}
        }
    }

    /// Loads the parts side by side, beginning at the first register.
    fn load(&mut self, key: &[Selector]) {
        key.iter().for_each(|selector| self.require(*selector));
        let mut register = REG32;
        for selector in key {
            let (load, width, ..) = facts(*selector);
            self.instruction(load, width, register);
            register += width.div_ceil(4);
        }
    }

    /// The packet must have what is to be loaded.
    fn require(&mut self, selector: Selector) {
        let (_, _, network, transport) = facts(selector);
        network.into_iter().for_each(|network| self.require_network(network));
        transport.into_iter().for_each(|transport| self.require_transport(transport));
    }

    fn require_network(&mut self, network: Network) {
        if self.network.replace(network) == Some(network) {
            return;
        }
        match (self.table, network) {
            (Table::Inet, Network::Ip) => self.test(META_NFPROTO, &[2]),
            (Table::Inet, Network::Ip6) => self.test(META_NFPROTO, &[10]),
            (Table::Inet, Network::Arp) | (Table::Bridge, Network::Arp) => self.test(META_PROTOCOL, &[0x08, 0x06]),
            (Table::Bridge, Network::Ip) => self.test(META_PROTOCOL, &[0x08, 0x00]),
            (Table::Bridge, Network::Ip6) => self.test(META_PROTOCOL, &[0x86, 0xdd]),
        }
    }

    fn require_transport(&mut self, transport: u8) {
        if self.transport.replace(transport) != Some(transport) {
            self.test(META_L4PROTO, &[transport]);
        }
    }

    fn test(&mut self, key: u32, value: &[u8]) {
        self.instruction(Load::Meta(key), 0, REG32);
        self.cmp(Is::Equal, value);
    }

    fn instruction(&mut self, load: Load, width: u32, register: u32) {
        match load {
            Load::Meta(key) => self.put("meta", |m| m.attr_be32(META_KEY, key).attr_be32(META_DREG, register)),
            Load::Ct(key) => self.put("ct", |m| m.attr_be32(CT_KEY, key).attr_be32(CT_DREG, register)),
            Load::CtOriginal(key) => self
                .put("ct", |m| m.attr_be32(CT_KEY, key).attr_be32(CT_DREG, register).attr_u8(CT_DIRECTION, ORIGINAL)),
            Load::Fib(flags) => self.put("fib", |m| {
                m.attr_be32(FIB_DREG, register).attr_be32(FIB_RESULT, FIB_ADDRTYPE).attr_be32(FIB_FLAGS, flags)
            }),
            Load::Fragment(offset) => self.put("exthdr", |m| {
                m.attr_be32(EXTHDR_DREG, register)
                    .attr_u8(EXTHDR_TYPE, NEXTHDR_FRAGMENT)
                    .attr_be32(EXTHDR_OFFSET, offset)
                    .attr_be32(EXTHDR_LEN, width)
            }),
            Load::Payload(header, offset) => self.put("payload", |m| {
                m.attr_be32(PAYLOAD_DREG, register)
                    .attr_be32(PAYLOAD_BASE, header as u32)
                    .attr_be32(PAYLOAD_OFFSET, offset)
                    .attr_be32(PAYLOAD_LEN, width)
            }),
        }
    }

    fn mask(&mut self, mask: &[u8]) {
        let len = u32::try_from(mask.len()).unwrap_or_default();
        self.put("bitwise", |m| {
            m.attr_be32(BITWISE_SREG, REG32)
                .attr_be32(BITWISE_DREG, REG32)
                .attr_be32(BITWISE_LEN, len)
                .nest(BITWISE_MASK, |m| m.attr(DATA_VALUE, mask))
                .nest(BITWISE_XOR, |m| m.attr(DATA_VALUE, &vec![0; mask.len()]))
        });
    }

    fn cmp(&mut self, is: Is, value: &[u8]) {
        self.cmp_with(if is == Is::Equal { CMP_EQ } else { CMP_NEQ }, value);
    }

    fn cmp_with(&mut self, op: u32, value: &[u8]) {
        self.put("cmp", |m| {
            m.attr_be32(CMP_SREG, REG32).attr_be32(CMP_OP, op).nest(CMP_DATA, |m| m.attr(DATA_VALUE, value))
        });
    }

    /// The map's data come to lie in the first registers: the address, and after it the port if there is one.
    fn nat(&mut self, kind: u32, family: Family, key: &[Selector], map: &str) {
        self.load(key);
        self.put("lookup", |m| m.attr_str(LOOKUP_SET, map).attr_be32(LOOKUP_SREG, REG32).attr_be32(LOOKUP_DREG, REG32));
        let (af, words) = match family {
            Family::Ip => (libc::AF_INET, 1),
            Family::Ip6 => (libc::AF_INET6, 4),
        };
        let with_port = firewall::rules()
            .tables
            .iter()
            .flat_map(|table| &table.sets)
            .any(|set| set.name == map && set.data.contains(&FieldType::Port));
        self.put("nat", |m| {
            let m = m
                .attr_be32(NAT_TYPE, kind)
                .attr_be32(NAT_FAMILY, af.cast_unsigned())
                .attr_be32(NAT_REG_ADDR_MIN, REG32)
                .attr_be32(NAT_REG_ADDR_MAX, REG32);
            if with_port {
                m.attr_be32(NAT_REG_PROTO_MIN, REG32 + words).attr_be32(NAT_REG_PROTO_MAX, REG32 + words)
            } else {
                m
            }
        });
    }

    fn verdict(&mut self, verdict: Verdict) {
        let (code, chain) = match verdict {
            Verdict::Accept => (NF_ACCEPT, None),
            Verdict::Drop => (NF_DROP, None),
            Verdict::Return => (NFT_RETURN, None),
            Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
            Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
        };
        self.put("immediate", |m| {
            m.attr_be32(IMMEDIATE_DREG, VERDICT).nest(IMMEDIATE_DATA, |m| {
                m.nest(DATA_VERDICT, |m| {
                    let m = m.attr_be32(VERDICT_CODE, code);
                    chain.map_or(m.clone(), |chain| m.attr_str(VERDICT_CHAIN, chain))
                })
            })
        });
    }

    fn put(&mut self, name: &str, data: impl FnOnce(Message) -> Message) {
        // A builder is consumed and returned; nobody sees the empty one in between.
        let message = std::mem::replace(&mut self.message, Message::new(0, 0));
        self.message = message.nest(LIST_ELEM, |m| m.attr_str(EXPR_NAME, name).nest(EXPR_DATA, data));
    }
}

fn netmask(net: Subnet) -> Vec<u8> {
    let size = if net.is_ipv4() { 4 } else { 16 };
    let bits = u32::from(net.len());
    (0..size).map(|n| !0xff_u8.checked_shr(bits.saturating_sub(n * 8)).unwrap_or(0)).collect()
}

/// An address in network byte order.
pub(super) fn octets(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Zeros up to `len`.
pub(super) fn padded(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(len, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netmask_has_as_many_bits_as_the_prefix() {
        for (net, mask) in [("127.0.0.0/8", [255, 0, 0, 0]), ("224.0.0.0/4", [240, 0, 0, 0]), ("10.0.0.1/32", [255; 4])]
        {
            assert_eq!(netmask(net.parse().unwrap()), mask, "{net}");
        }
        assert_eq!(netmask("fe80::/10".parse().unwrap())[..3], [255, 192, 0]);
        assert_eq!(netmask("::/0".parse().unwrap()), [0; 16]);
    }

    #[test]
    fn a_concatenation_has_nfts_number_and_whole_registers() {
        use FieldType::{Ip4, Link, Mac, Port, Protocol};
        assert_eq!((type_of(&[Ip4, Protocol, Port]), len_of(&[Ip4, Protocol, Port])), (7 << 12 | 12 << 6 | 13, 12));
        assert_eq!((type_of(&[Link, Mac]), len_of(&[Link, Mac])), (41 << 6 | 9, 24));
        assert_eq!(len_of(&[Port]), 2);
    }
}
