//! DHCP messages: a view of their octets, what they mean to a client, and a writer of a client's own (RFC 2131, 2132).
//!
//! Options may be anywhere in the message (52, overload) and in parts (RFC 3396): [`Options`] puts them together
//! first. A message with an option that is cut off is broken as a whole; an option whose value makes no sense is as
//! if it was not there.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::{DnsName, Subnet};

use crate::frame::{Mac, array, ip};
use crate::lease::{Configuration, Route, Term};

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const FIRST_OPTION: usize = 240;
/// Older relays and servers drop what is shorter than a BOOTP message (RFC 951).
const SHORTEST: usize = 300;
/// What we take, IP and UDP included: an Ethernet frame full.
const LONGEST: u16 = 1500;

/// Nobody needs more of them, however many a server sends.
const ADDRESSES_MAX: usize = 8;
const ROUTES_MAX: usize = 64;
const SEARCH_MAX: usize = 16;
/// The smallest that IPv4 works with (RFC 791).
const MTU_MIN: u16 = 68;
/// As much of a server's reason as fits a line.
const REASON_MAX: usize = 200;

/// Options' numbers.
mod code {
    pub(super) const MASK: u8 = 1;
    pub(super) const ROUTERS: u8 = 3;
    pub(super) const DNS: u8 = 6;
    pub(super) const HOSTNAME: u8 = 12;
    pub(super) const DOMAIN: u8 = 15;
    pub(super) const MTU: u8 = 26;
    pub(super) const NTP: u8 = 42;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const TERM: u8 = 51;
    pub(super) const OVERLOAD: u8 = 52;
    pub(super) const KIND: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const PARAMETERS: u8 = 55;
    pub(super) const REASON: u8 = 56;
    pub(super) const LONGEST: u8 = 57;
    pub(super) const RENEW: u8 = 58;
    pub(super) const REBIND: u8 = 59;
    pub(super) const CLIENT: u8 = 61;
    pub(super) const SEARCH: u8 = 119;
    pub(super) const ROUTES: u8 = 121;
    pub(super) const END: u8 = 255;
}

/// What we ask for. Classless routes come before routers (RFC 3442).
const PARAMETERS: [u8; 11] = [
    code::MASK,
    code::ROUTES,
    code::ROUTERS,
    code::DNS,
    code::DOMAIN,
    code::SEARCH,
    code::MTU,
    code::NTP,
    code::TERM,
    code::RENEW,
    code::REBIND,
];

/// What a message is for (option 53).
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
}

impl Kind {
    fn of(value: u8) -> Option<Self> {
        let all = [Self::Discover, Self::Offer, Self::Request, Self::Decline, Self::Ack, Self::Nak, Self::Release];
        all.into_iter().find(|kind| *kind as u8 == value)
    }
}

/// A view of a message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    /// `None` when it is too short for one, or has not DHCP's cookie.
    pub fn new(octets: &'a [u8]) -> Option<Self> {
        (array(octets, FIRST_OPTION - 4)? == COOKIE).then_some(Self(octets))
    }

    /// Does a server say it?
    pub fn is_reply(&self) -> bool {
        self.0[0] == 2
    }

    /// The transaction's number.
    pub fn transaction(&self) -> u32 {
        array(self.0, 4).map_or(0, u32::from_be_bytes)
    }

    /// Seconds since the client began.
    pub fn seconds(&self) -> u16 {
        array(self.0, 8).map_or(0, u16::from_be_bytes)
    }

    /// `ciaddr`: the address that the client has.
    pub fn client(&self) -> Ipv4Addr {
        ip(self.0, 12).unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// `yiaddr`: the address that the client gets.
    pub fn yours(&self) -> Ipv4Addr {
        ip(self.0, 16).unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// `chaddr`, when it is an Ethernet address.
    pub fn mac(&self) -> Option<Mac> {
        (self.0[1..3] == [1, 6]).then(|| array(self.0, 28))?
    }

    /// All options, put together. `None`: one is cut off.
    pub fn options(&self) -> Option<Options> {
        let mut options = Options::default();
        options.add(&self.0[FIRST_OPTION..])?;
        let overload = options.octet(code::OVERLOAD).unwrap_or(0);
        if overload & 1 != 0 {
            options.add(&self.0[FILE])?;
        }
        if overload & 2 != 0 {
            options.add(&self.0[SNAME])?;
        }
        Some(options)
    }
}

/// Options by their numbers, the parts of each joined in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    fn add(&mut self, mut field: &[u8]) -> Option<()> {
        while let Some((&code, rest)) = field.split_first() {
            if code == code::END {
                break;
            }
            if code == 0 {
                field = rest;
                continue;
            }
            let (&length, rest) = rest.split_first()?;
            let (value, rest) = rest.split_at_checked(length.into())?;
            self.0.entry(code).or_default().extend(value);
            field = rest;
        }
        Some(())
    }

    /// An option's value.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    fn octet(&self, code: u8) -> Option<u8> {
        self.exact::<1>(code).map(|[octet]| octet)
    }

    fn number(&self, code: u8) -> Option<u32> {
        self.exact(code).map(u32::from_be_bytes)
    }

    /// What the message is for.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(self.octet(code::KIND)?)
    }

    /// Which address the client wants.
    pub fn requested(&self) -> Option<Ipv4Addr> {
        self.exact::<4>(code::REQUESTED).map(Ipv4Addr::from)
    }

    /// Whom it is from, or which server a client has chosen.
    pub fn server(&self) -> Option<Ipv4Addr> {
        self.exact::<4>(code::SERVER).map(Ipv4Addr::from).filter(|server| is_of_a_host(*server))
    }

    fn exact<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        self.get(code)?.try_into().ok()
    }

    /// Addresses that a host can have: the first few.
    fn hosts(&self, code: u8) -> Vec<Ipv4Addr> {
        let all = self.get(code).unwrap_or_default().chunks_exact(4).filter_map(|four| ip(four, 0));
        let mut hosts = Vec::new();
        for host in all.filter(|ip| is_of_a_host(*ip)) {
            if !hosts.contains(&host) && hosts.len() < ADDRESSES_MAX {
                hosts.push(host);
            }
        }
        hosts
    }

    fn term(&self) -> Option<Term> {
        Term::new(self.number(code::TERM)?, self.number(code::RENEW), self.number(code::REBIND))
    }

    /// The prefix's length; by the address's class where no mask was sent. `None`: no mask has holes.
    fn length(&self, address: Ipv4Addr) -> Option<u8> {
        let Some(mask) = self.get(code::MASK) else {
            return Some(match address.octets()[0] {
                0..=127 => 8,
                128..=191 => 16,
                _ => 24,
            });
        };
        let mask = u32::from_be_bytes(mask.try_into().ok()?);
        (mask != 0 && mask.leading_ones() + mask.trailing_zeros() == 32).then_some(mask.leading_ones() as u8)
    }

    fn configuration(&self) -> Configuration {
        Configuration {
            routes: self.classless_routes().unwrap_or_else(|| self.default_route()),
            mtu: self.exact(code::MTU).map(u16::from_be_bytes).filter(|mtu| *mtu >= MTU_MIN),
            dns: self.hosts(code::DNS),
            domain: self.get(code::DOMAIN).and_then(name),
            search: self.get(code::SEARCH).map(names).unwrap_or_default(),
            ntp: self.hosts(code::NTP),
        }
    }

    fn default_route(&self) -> Vec<Route> {
        let gateway = self.hosts(code::ROUTERS).into_iter().next();
        gateway.map(|gateway| Route { destination: Subnet::ANY4, gateway: Some(gateway) }).into_iter().collect()
    }

    /// Option 121. `None`: it is not there or broken, and then option 3 counts.
    fn classless_routes(&self) -> Option<Vec<Route>> {
        let mut rest = self.get(code::ROUTES)?;
        let mut routes: Vec<Route> = Vec::new();
        while let Some((&length, tail)) = rest.split_first() {
            let (significant, tail) = tail.split_at_checked(usize::from(length).div_ceil(8))?;
            let (gateway, tail) = tail.split_at_checked(4)?;
            let mut octets = [0; 4];
            octets.get_mut(..significant.len())?.copy_from_slice(significant);
            let destination = Subnet::around(Ipv4Addr::from(octets).into(), length).ok()?;
            let gateway = Some(ip(gateway, 0)?).filter(|ip| !ip.is_unspecified());
            let good = gateway.is_none_or(is_of_a_host) && !routes.iter().any(|r| r.destination == destination);
            if good && routes.len() < ROUTES_MAX {
                routes.push(Route { destination, gateway });
            }
            rest = tail;
        }
        Some(routes)
    }
}

/// An address that one host can have.
pub(crate) fn is_of_a_host(ip: Ipv4Addr) -> bool {
    !matches!(ip.octets()[0], 0 | 127 | 224..)
}

/// A name as text; servers end it with a dot, with NUL, or with nothing.
fn name(text: &[u8]) -> Option<DnsName> {
    let text = std::str::from_utf8(text).ok()?;
    text.trim_end_matches(['\0', '.']).parse().ok()
}

/// The names of a list as in DNS, up to the first that is broken (RFC 3397: compressed as in DNS).
pub(crate) fn names(wire: &[u8]) -> Vec<DnsName> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < wire.len() && found.len() < SEARCH_MAX {
        let Some((text, after)) = name_at(wire, at) else { break };
        found.extend(text.parse::<DnsName>().ok().filter(|name| !found.contains(name)));
        at = after;
    }
    found
}

/// The name at `at` with dots, and where the next one begins. A pointer leads backwards, else it is broken.
fn name_at(wire: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut text, mut after, mut begin) = (String::new(), None, at);
    loop {
        let length = usize::from(*wire.get(at)?);
        match length {
            0 => return Some((text, after.unwrap_or(at + 1))),
            1..=63 => {
                let label = std::str::from_utf8(wire.get(at + 1..at + 1 + length)?).ok()?;
                let dot = if text.is_empty() { "" } else { "." };
                text = format!("{text}{dot}{label}");
                at += 1 + length;
                if text.len() > 255 {
                    return None;
                }
            }
            0xc0.. => {
                let to = (length & 0x3f) << 8 | usize::from(*wire.get(at + 1)?);
                after.get_or_insert(at + 2);
                if to >= begin {
                    return None;
                }
                (at, begin) = (to, to);
            }
            _ => return None,
        }
    }
}

/// What a server says to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// OFFER, ACK or NAK.
    pub kind: Kind,
    /// The number it repeats.
    pub transaction: u32,
    /// The MAC it repeats.
    pub mac: Mac,
    /// Who says it, when it says so.
    pub server: Option<Ipv4Addr>,
    /// What is lent, when it can be used.
    pub loan: Result<Loan, Unusable>,
    /// Why not, in the server's words.
    pub reason: Option<String>,
}

/// What an OFFER or an ACK is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loan {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its prefix.
    pub length: u8,
    /// For how long.
    pub term: Term,
    /// What comes along.
    pub configuration: Configuration,
}

/// Why an OFFER or an ACK cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Its address is not one that a host can have: none, or a broadcast, loopback or multicast address.
    Address(Ipv4Addr),
    /// Its mask has holes.
    Mask,
    /// It has no term, or one that ends at once.
    Term,
}

impl Reply {
    /// `None`: it is broken, or no server's.
    pub fn read(octets: &[u8]) -> Option<Self> {
        let message = Message::new(octets).filter(Message::is_reply)?;
        let options = message.options()?;
        let kind = options.kind().filter(|kind| matches!(kind, Kind::Offer | Kind::Ack | Kind::Nak))?;
        Some(Self {
            kind,
            transaction: message.transaction(),
            mac: message.mac()?,
            server: options.server(),
            loan: Loan::read(message.yours(), &options),
            reason: options.get(code::REASON).and_then(shown),
        })
    }
}

impl Loan {
    fn read(address: Ipv4Addr, options: &Options) -> Result<Self, Unusable> {
        let length = options.length(address).ok_or(Unusable::Mask)?;
        if !is_of_a_host(address) || is_edge(address, length) {
            return Err(Unusable::Address(address));
        }
        let term = options.term().ok_or(Unusable::Term)?;
        Ok(Self { address, length, term, configuration: options.configuration() })
    }
}

/// Is it the network's own address, or its broadcast address? Not where there are none (RFC 3021).
fn is_edge(address: Ipv4Addr, length: u8) -> bool {
    let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
    length < 31 && matches!(u32::from(address) & host, edge if edge == 0 || edge == host)
}

/// A server's text on one line of plain characters.
fn shown(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let plain: String = text.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
    (!plain.trim().is_empty()).then(|| plain.trim().to_owned())
}

/// A message of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draft<'a> {
    /// What for.
    pub kind: Kind,
    /// Its transaction's number.
    pub transaction: u32,
    /// Seconds since we began.
    pub seconds: u16,
    /// Our MAC.
    pub mac: Mac,
    /// The address that we have: in RENEWING, REBINDING, and when it is given back.
    pub client: Option<Ipv4Addr>,
    /// The address that we want, or don't.
    pub requested: Option<Ipv4Addr>,
    /// The server that is meant.
    pub server: Option<Ipv4Addr>,
    /// Option 61, whole; at most 255 octets.
    pub client_id: &'a [u8],
    /// Option 12; at most 255 octets.
    pub hostname: Option<&'a str>,
}

impl Draft<'_> {
    /// The octets.
    pub fn write(&self) -> Vec<u8> {
        // A request, over Ethernet, whose addresses have six octets.
        let mut message = vec![1, 1, 6, 0];
        message.extend(self.transaction.to_be_bytes());
        message.extend(self.seconds.to_be_bytes());
        message.extend([0, 0]);
        message.extend(self.client.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        message.resize(28, 0);
        message.extend(self.mac);
        message.resize(FIRST_OPTION - 4, 0);
        message.extend(COOKIE);
        self.write_options(&mut message);
        message.resize(message.len().max(SHORTEST), 0);
        message
    }

    fn write_options(&self, message: &mut Vec<u8>) {
        let mut put = |code: u8, value: &[u8]| {
            let value = &value[..value.len().min(u8::MAX.into())];
            message.extend([code, value.len() as u8]);
            message.extend(value);
        };
        put(code::KIND, &[self.kind as u8]);
        put(code::CLIENT, self.client_id);
        if let Some(address) = self.requested {
            put(code::REQUESTED, &address.octets());
        }
        if let Some(server) = self.server {
            put(code::SERVER, &server.octets());
        }
        if matches!(self.kind, Kind::Discover | Kind::Request) {
            put(code::LONGEST, &LONGEST.to_be_bytes());
            if let Some(hostname) = self.hostname {
                put(code::HOSTNAME, hostname.as_bytes());
            }
            put(code::PARAMETERS, &PARAMETERS);
        }
        message.push(code::END);
    }
}
