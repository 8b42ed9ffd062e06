//! What other programs' nf_tables rules say at the hooks where packets of containers pass: read, never written.
//!
//! ```text
//!   GETCHAIN ──> base chains of others at input and forward? ── none: that was all
//!                  └ GETRULE of their tables ──> ForeignTable { chains { rules { steps } } }
//! ```
//!
//! iptables-nft (and with it Docker's, ufw's and firewalld's rules) is read too; iptables-legacy is not.
//! Numbers are from include/uapi/linux/netfilter/nf_tables.h and nf_tables_compat.h.

use std::collections::BTreeMap;
use std::io;

use netlink::{Attrs, Errno, Message, Reply};

use crate::{Host, HostError};

/// One table of others that has a base chain at input or forward.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignTable {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its name.
    pub name: String,
    /// Its chains, by name.
    pub chains: BTreeMap<String, ForeignChain>,
}

/// One chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignChain {
    /// Where it is hooked in; `None` for one that is only jumped to.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Vec<Step>>,
}

/// A base chain's hook, and what becomes of packets at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Where.
    pub hook: Hook,
    /// Is its policy to drop?
    pub drops: bool,
}

/// The hooks that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Packets for this host.
    Input,
    /// Packets that pass through.
    Forward,
}

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Puts something about the packet into a register.
    Load(u32, Loaded),
    /// Register, and what is kept of its bits.
    Mask(u32, Vec<u8>),
    /// The rule ends here unless the register is (`true`) or is not (`false`) this.
    Is(u32, bool, Vec<u8>),
    /// The rule ends here unless the register is (`true`) or is not (`false`) one of these.
    IsOneOf(u32, bool, Vec<Vec<u8>>),
    /// The rule ends here unless the flow has one of these `XT_CONNTRACK_STATE_…` bits.
    FlowStates(u32),
    /// What becomes of a packet that came so far.
    Verdict(Verdict),
    /// Matches something that is not understood.
    Unknown,
    /// Changes nothing: counters, comments, logs.
    Nothing,
}

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// The name of the link it came in by, with zeros up to 16 bytes.
    InLink,
    /// The name of the link it goes out by.
    OutLink,
    /// `NFPROTO_…`, one byte.
    Family,
    /// The protocol's number, one byte.
    Protocol,
    /// Bits of connection tracking's state, a number of this machine.
    State,
    /// `IPS_…` bits of connection tracking, a number of this machine.
    Status,
    /// Bytes of the network header: offset and length.
    Network(u32, u32),
    /// Bytes of the transport header.
    Transport(u32, u32),
    /// Something else.
    Other,
}

/// The end of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As far as this table is concerned, it passes.
    Accept,
    /// It is dropped or rejected.
    Drop,
    /// Goes on in another chain, and comes back.
    Jump(String),
    /// Goes on in another chain for good.
    Goto(String),
    /// Goes on where it was called from.
    Return,
}

const SUBSYS_NFTABLES: u16 = 10;
const NFGENMSG: usize = 4;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const GETSETELEM: u16 = 13;
/// NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6.
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];
const OURS: &str = "podwire";
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
/// NF_INET_LOCAL_IN, NF_INET_FORWARD.
const HOOKS: [(u32, Hook); 2] = [(1, Hook::Input), (2, Hook::Forward)];
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_ELEMENTS: u16 = 3;
const SET_ELEM_KEY: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// The length of a link's name in a register.
const IFNAMSIZ: usize = 16;

impl Host {
    /// The tables of others that have something to say about packets to this host or through it.
    ///
    /// One dump of chains when there is none such; else one of the rules of each.
    pub fn foreign_tables(&mut self) -> Result<Vec<ForeignTable>, HostError> {
        self.read_foreign().map_err(|cause| HostError::io("rules of others", cause))
    }

    fn read_foreign(&mut self) -> io::Result<Vec<ForeignTable>> {
        let mut tables: BTreeMap<(u8, String), ForeignTable> = BTreeMap::new();
        for reply in self.ask(message(GETCHAIN, 0))? {
            let (family, attrs) = (reply.payload.first().copied().unwrap_or_default(), reply.attrs(NFGENMSG));
            let Some((_, family_name)) = FAMILIES.iter().find(|(number, _)| *number == family) else { continue };
            let (Some(table), Some(chain)) = (attrs.text(CHAIN_TABLE), attrs.text(CHAIN_NAME)) else { continue };
            if table == OURS {
                continue;
            }
            let of = ForeignTable { family: family_name, name: table.to_owned(), chains: BTreeMap::new() };
            let found = tables.entry((family, table.to_owned())).or_insert(of);
            found.chains.entry(chain.to_owned()).or_default().base = base(&attrs);
        }
        tables.retain(|_, table| table.chains.values().any(|chain| chain.base.is_some()));
        for ((family, name), table) in &mut tables {
            self.read_rules(*family, name, table)?;
        }
        Ok(tables.into_values().collect())
    }

    fn read_rules(&mut self, family: u8, name: &str, table: &mut ForeignTable) -> io::Result<()> {
        for reply in self.ask(message(GETRULE, family).attr_str(RULE_TABLE, name))? {
            let attrs = reply.attrs(NFGENMSG);
            // A kernel without strict checks ignores the filter.
            let Some(chain) = attrs.text(RULE_CHAIN).filter(|_| attrs.text(RULE_TABLE) == Some(name)) else { continue };
            let mut rule = Vec::new();
            for (_, expression) in attrs.nested(RULE_EXPRESSIONS) {
                let expression = Attrs::new(expression);
                let (what, data) = (expression.text(EXPR_NAME).unwrap_or_default(), expression.nested(EXPR_DATA));
                let step = match what {
                    "lookup" => self.look_up(family, name, &rule, &data)?,
                    _ => step(what, &data),
                };
                rule.push(step);
            }
            table.chains.entry(chain.to_owned()).or_default().rules.push(rule);
        }
        Ok(())
    }

    /// Of sets, those of link names are understood.
    fn look_up(&mut self, family: u8, table: &str, rule: &[Step], data: &Attrs<'_>) -> io::Result<Step> {
        const SET: u16 = 1;
        const SREG: u16 = 2;
        const DREG: u16 = 3;
        const FLAGS: u16 = 5;
        let register = data.be32(SREG).unwrap_or_default();
        let loaded = rule.iter().rev().find_map(|step| match step {
            Step::Load(to, loaded) if *to == register => Some(*loaded),
            _ => None,
        });
        let names = matches!(loaded, Some(Loaded::InLink | Loaded::OutLink)) && data.find(DREG).is_none();
        let Some(set) = data.text(SET).filter(|_| names) else { return Ok(Step::Unknown) };
        let mut keys = Vec::new();
        for reply in self.ask(message(GETSETELEM, family).attr_str(SET_TABLE, table).attr_str(SET_NAME, set))? {
            for (_, element) in reply.attrs(NFGENMSG).nested(SET_ELEMENTS) {
                let element = Attrs::new(element);
                // An interval (a wildcard) is stored by its ends, and understood by nobody here.
                let is_interval = element.find(SET_ELEM_FLAGS).is_some() || element.find(SET_ELEM_KEY_END).is_some();
                match element.nested(SET_ELEM_KEY).find(DATA_VALUE).filter(|key| key.len() == IFNAMSIZ && !is_interval)
                {
                    Some(key) => keys.push(key.to_vec()),
                    None => return Ok(Step::Unknown),
                }
            }
        }
        Ok(Step::IsOneOf(register, data.be32(FLAGS) != Some(1), keys))
    }

    /// A kernel without nf_tables has no rules of it; what is gone meanwhile has none either.
    fn ask(&mut self, request: Message) -> io::Result<Vec<Reply>> {
        let absent = |e: &io::Error| [libc::ENOENT, libc::EOPNOTSUPP].contains(&Errno::code_of(e));
        self.netfilter()?.dump(request).or_else(|e| if absent(&e) { Ok(Vec::new()) } else { Err(e) })
    }
}

const SET_ELEM_FLAGS: u16 = 3;
const SET_ELEM_KEY_END: u16 = 10;

fn message(kind: u16, family: u8) -> Message {
    Message::new(SUBSYS_NFTABLES << 8 | kind, 0).bytes(&[family, 0, 0, 0])
}

fn base(chain: &Attrs<'_>) -> Option<Base> {
    let number = chain.nested(CHAIN_HOOK).be32(HOOK_NUMBER)?;
    let (_, hook) = HOOKS.iter().find(|(known, _)| *known == number)?;
    Some(Base { hook: *hook, drops: chain.be32(CHAIN_POLICY) == Some(0) })
}

fn step(name: &str, data: &Attrs<'_>) -> Step {
    match name {
        "meta" => load(data, |key| match key {
            6 => Loaded::InLink,
            7 => Loaded::OutLink,
            15 => Loaded::Family,
            16 => Loaded::Protocol,
            _ => Loaded::Other,
        }),
        "ct" => load(data, |key| match key {
            0 => Loaded::State,
            2 => Loaded::Status,
            _ => Loaded::Other,
        }),
        "payload" => payload(data),
        "bitwise" => mask(data),
        "cmp" => compare(data),
        "immediate" => immediate(data),
        "reject" => Step::Verdict(Verdict::Drop),
        "counter" | "log" => Step::Nothing,
        "match" => match data.text(1) {
            Some("comment") => Step::Nothing,
            Some("conntrack") => flow_states(data.find(3)).map_or(Step::Unknown, Step::FlowStates),
            Some("state") => data.u32(3).map_or(Step::Unknown, Step::FlowStates),
            _ => Step::Unknown,
        },
        "target" => match data.text(1) {
            Some("REJECT") => Step::Verdict(Verdict::Drop),
            _ => Step::Nothing,
        },
        _ => Step::Unknown,
    }
}

/// Of struct xt_conntrack_mtinfo3 (include/uapi/linux/netfilter/xt_conntrack.h), where it asks for states alone.
fn flow_states(info: Option<&[u8]>) -> Option<u32> {
    const STATE: u16 = 1;
    let at = |offset: usize| Some(u16::from_ne_bytes(*info?.get(offset..)?.first_chunk()?));
    let (asked, inverted, states) = (at(146)?, at(148)?, at(150)?);
    (asked == STATE && inverted == 0).then_some(states.into())
}

/// NFTA_META_DREG and _KEY; those of ct have the same numbers.
fn load(data: &Attrs<'_>, what: impl FnOnce(u32) -> Loaded) -> Step {
    match (data.be32(1), data.be32(2)) {
        (Some(register), Some(key)) => Step::Load(register, what(key)),
        // Without a destination it sets something.
        _ => Step::Nothing,
    }
}

/// NFTA_PAYLOAD_DREG, _BASE (1 network, 2 transport header), _OFFSET, _LEN.
fn payload(data: &Attrs<'_>) -> Step {
    let (Some(register), Some(offset), Some(len)) = (data.be32(1), data.be32(3), data.be32(4)) else {
        return Step::Nothing;
    };
    let loaded = match data.be32(2) {
        Some(1) => Loaded::Network(offset, len),
        Some(2) => Loaded::Transport(offset, len),
        _ => Loaded::Other,
    };
    Step::Load(register, loaded)
}

/// NFTA_BITWISE_SREG, _DREG, _MASK, _XOR.
fn mask(data: &Attrs<'_>) -> Step {
    let no_xor = data.nested(5).find(DATA_VALUE).is_none_or(|xor| xor.iter().all(|byte| *byte == 0));
    match (data.be32(1), data.be32(2), data.nested(4).find(DATA_VALUE)) {
        (Some(from), Some(to), Some(mask)) if from == to && no_xor => Step::Mask(from, mask.to_vec()),
        (_, Some(to), _) => Step::Load(to, Loaded::Other),
        _ => Step::Unknown,
    }
}

/// NFTA_CMP_SREG, _OP (0 equal, 1 not equal), _DATA.
fn compare(data: &Attrs<'_>) -> Step {
    match (data.be32(1), data.be32(2), data.nested(3).find(DATA_VALUE)) {
        (Some(register), Some(op @ (0 | 1)), Some(value)) => Step::Is(register, op == 0, value.to_vec()),
        _ => Step::Unknown,
    }
}

/// NFTA_IMMEDIATE_DREG, _DATA: a verdict, or a constant.
fn immediate(data: &Attrs<'_>) -> Step {
    let verdict = data.nested(2).nested(DATA_VERDICT);
    let chain = || verdict.text(VERDICT_CHAIN).unwrap_or_default().to_owned();
    // NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO, NFT_RETURN.
    match verdict.be32(VERDICT_CODE).map(u32::cast_signed) {
        Some(0) => Step::Verdict(Verdict::Drop),
        Some(1) => Step::Verdict(Verdict::Accept),
        Some(-3) => Step::Verdict(Verdict::Jump(chain())),
        Some(-4) => Step::Verdict(Verdict::Goto(chain())),
        Some(-5) => Step::Verdict(Verdict::Return),
        Some(_) => Step::Unknown,
        None => data.be32(1).map_or(Step::Unknown, |register| Step::Load(register, Loaded::Other)),
    }
}
