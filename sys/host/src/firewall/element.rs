//! Elements as messages and back.
//!
//! ```text
//!   kind of set        one element is                                       in the kernel
//!   one part           KEY                                                  hash table
//!   several parts      KEY, each part on four-byte borders                  hash table
//!   one interval       KEY, and another with the address after the last     tree
//!   several, interval  KEY (first of each part) and KEY_END (last)          pipapo
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use firewall::{FieldType, Set};
use model::addr::offset;
use model::{MacAddr, Protocol, Subnet};
use netlink::{Attrs, Message, Reply, flags};
use plan::{Element, Field, Mark, Table};

use super::rules::{octets, padded, width};
use super::wire::{self, DATA_VALUE, ELEM_LIST_ELEMENTS, LIST_ELEM, NFGENMSG};

// enum nft_set_elem_attributes, nft_set_elem_flags
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const ELEM_FLAGS: u16 = 3;
const ELEM_USERDATA: u16 = 6;
const ELEM_KEY_END: u16 = 10;
const INTERVAL_END: u32 = 1;

/// The element is not one of a set of ours, or not of its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misfit;

/// A set and the table it is in.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) table: Table,
    pub(super) set: Set,
}

/// An element as it is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: Vec<Field>,
    pub(super) data: Vec<Field>,
    pub(super) comment: Option<String>,
}

impl Found {
    /// As a plan's element, of the same set as `like`.
    pub(super) fn element(self, like: &Element, mark: Mark) -> Element {
        Element { table: like.table, set: like.set.clone(), key: self.key, data: self.data, mark }
    }
}

pub(super) fn create(element: &Element) -> Result<Message, Misfit> {
    let head = wire::elements(wire::NEWSETELEM, flags::CREATE | flags::EXCL, element.table, &element.set);
    let shape = Shape::of(element.table, &element.set).ok_or(Misfit)?;
    let data = shape.data(element)?;
    shape.keyed(element, head, |m| {
        let m = if data.is_empty() { m } else { m.nest(ELEM_DATA, |m| m.attr(DATA_VALUE, &data)) };
        m.attr(ELEM_USERDATA, &wire::comment(element.mark.as_str()))
    })
}

pub(super) fn remove(element: &Element) -> Result<Message, Misfit> {
    by_key(element, wire::DELSETELEM)
}

/// Asks for one element; not for intervals of one part.
pub(super) fn get(element: &Element) -> Result<Message, Misfit> {
    by_key(element, wire::GETSETELEM)
}

fn by_key(element: &Element, kind: u16) -> Result<Message, Misfit> {
    let shape = Shape::of(element.table, &element.set).ok_or(Misfit)?;
    shape.keyed(element, wire::elements(kind, 0, element.table, &element.set), |m| m)
}

impl Shape {
    /// All sets of the ruleset.
    pub(super) fn all() -> &'static [Self] {
        // Asked for every element of thousands.
        static ALL: LazyLock<Vec<Shape>> = LazyLock::new(|| {
            let tables = firewall::rules().tables.into_iter();
            tables.flat_map(|rules| rules.sets.into_iter().map(move |set| Shape { table: rules.table, set })).collect()
        });
        &ALL
    }

    pub(super) fn of(table: Table, name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|shape| shape.table == table && shape.set.name == name)
    }

    /// Is it a set of intervals of one part?
    pub(super) fn is_tree(&self) -> bool {
        self.set.is_interval() && self.set.key.len() == 1
    }

    /// Appends the element's key, and after it what `rest` appends.
    fn keyed(
        &self,
        element: &Element,
        head: Message,
        rest: impl FnOnce(Message) -> Message,
    ) -> Result<Message, Misfit> {
        let first = self.pack(&element.key, self.set.key, Bound::First)?;
        let last = self.pack(&element.key, self.set.key, Bound::Last)?;
        let after = if self.is_tree() { after(&element.key) } else { None };
        let is_range = self.set.is_interval() && !self.is_tree();
        Ok(head.nest(ELEM_LIST_ELEMENTS, |m| {
            let m = m.nest(LIST_ELEM, |m| {
                let m = value(m, ELEM_KEY, &first);
                rest(if is_range { value(m, ELEM_KEY_END, &last) } else { m })
            });
            let Some(after) = after else { return m };
            m.nest(LIST_ELEM, |m| value(m, ELEM_KEY, &octets(after)).attr_be32(ELEM_FLAGS, INTERVAL_END))
        }))
    }

    fn data(&self, element: &Element) -> Result<Vec<u8>, Misfit> {
        self.pack(&element.data, self.set.data, Bound::First)
    }

    /// The parts of a key or of data side by side.
    fn pack(&self, fields: &[Field], types: &[FieldType], bound: Bound) -> Result<Vec<u8>, Misfit> {
        if fields.len() != types.len() {
            return Err(Misfit);
        }
        let mut bytes = Vec::new();
        for (field, kind) in fields.iter().zip(types) {
            let part = pack(field, *kind, bound).ok_or(Misfit)?;
            bytes.extend(if types.len() > 1 { padded(&part, part.len().next_multiple_of(4)) } else { part });
        }
        Ok(bytes)
    }

    /// The elements in some messages; what is not of the set's shape is left out.
    pub(super) fn read(&self, replies: &[Reply]) -> Vec<Found> {
        let mut raw: Vec<Raw<'_>> = replies.iter().flat_map(raw_elements).collect();
        if !self.is_tree() {
            return raw.iter().filter_map(|raw| self.found(raw, raw.end.unwrap_or(raw.key))).collect();
        }
        // In the order of addresses; of two intervals that touch, the end of the first before the second's begin.
        raw.sort_by_key(|raw| (raw.key, !raw.is_end));
        let begins = raw.iter().enumerate().filter(|(_, raw)| !raw.is_end);
        begins
            .filter_map(|(n, begin)| {
                let end = raw.get(n + 1).filter(|next| next.is_end);
                let last = end.map_or_else(|| vec![0xff; begin.key.len()], |end| before(end.key));
                self.found(begin, &last)
            })
            .collect()
    }

    fn found(&self, raw: &Raw<'_>, last: &[u8]) -> Option<Found> {
        let key = unpack(raw.key, last, self.set.key)?;
        let data = unpack(raw.data, raw.data, self.set.data)?;
        Some(Found { key, data, comment: raw.udata.and_then(wire::read_comment) })
    }
}

fn value(message: Message, kind: u16, bytes: &[u8]) -> Message {
    message.nest(kind, |m| m.attr(DATA_VALUE, bytes))
}

/// An element's attributes.
struct Raw<'a> {
    key: &'a [u8],
    end: Option<&'a [u8]>,
    data: &'a [u8],
    udata: Option<&'a [u8]>,
    is_end: bool,
}

fn raw_elements(reply: &Reply) -> impl Iterator<Item = Raw<'_>> {
    reply.attrs(NFGENMSG).nested(ELEM_LIST_ELEMENTS).filter_map(|(_, element)| {
        let attrs = Attrs::new(element);
        Some(Raw {
            key: attrs.nested(ELEM_KEY).find(DATA_VALUE)?,
            end: attrs.nested(ELEM_KEY_END).find(DATA_VALUE),
            data: attrs.nested(ELEM_DATA).find(DATA_VALUE).unwrap_or_default(),
            udata: attrs.find(ELEM_USERDATA),
            is_end: attrs.be32(ELEM_FLAGS).unwrap_or_default() & INTERVAL_END != 0,
        })
    })
}

/// Which end of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    First,
    Last,
}

fn pack(field: &Field, kind: FieldType, bound: Bound) -> Option<Vec<u8>> {
    match (field, kind) {
        (Field::Ip(ip), FieldType::Ip4) if ip.is_ipv4() => Some(octets(*ip)),
        (Field::Ip(ip), FieldType::Ip6) if ip.is_ipv6() => Some(octets(*ip)),
        (Field::Net(net), FieldType::Net4) if net.is_ipv4() => Some(octets(edge(*net, bound))),
        (Field::Net(net), FieldType::Net6) if !net.is_ipv4() => Some(octets(edge(*net, bound))),
        (Field::Protocol(protocol), FieldType::Protocol) => Some(vec![protocol.number()]),
        (Field::Port(port), FieldType::Port) => Some(port.to_be_bytes().to_vec()),
        (Field::Ports(first, last), FieldType::Ports) => {
            Some(if bound == Bound::First { first } else { last }.to_be_bytes().to_vec())
        }
        (Field::Link(name), FieldType::Link) => Some(padded(name.as_str().as_bytes(), width(kind) as usize)),
        (Field::Mac(mac), FieldType::Mac) => Some(mac.octets().to_vec()),
        _ => None,
    }
}

fn edge(net: Subnet, bound: Bound) -> IpAddr {
    if bound == Bound::First { net.network() } else { net.last() }
}

/// The address after the interval; `None` when it goes to the end of all addresses.
fn after(key: &[Field]) -> Option<IpAddr> {
    match key {
        [Field::Net(net)] => offset(net.last(), 1),
        _ => None,
    }
}

/// The address before.
fn before(address: &[u8]) -> Vec<u8> {
    let mut bytes = address.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            break;
        }
    }
    bytes
}

fn unpack(first: &[u8], last: &[u8], types: &[FieldType]) -> Option<Vec<Field>> {
    let mut at = 0;
    let mut fields = Vec::new();
    for kind in types {
        let len = width(*kind) as usize;
        fields.push(unpack_one(first.get(at..at + len)?, last.get(at..at + len)?, *kind)?);
        at += if types.len() > 1 { len.next_multiple_of(4) } else { len };
    }
    Some(fields)
}

fn unpack_one(first: &[u8], last: &[u8], kind: FieldType) -> Option<Field> {
    Some(match kind {
        FieldType::Ip4 | FieldType::Ip6 => Field::Ip(address(first)?),
        FieldType::Net4 | FieldType::Net6 => Field::Net(prefix(address(first)?, address(last)?)?),
        FieldType::Protocol => Field::Protocol(protocol(first[0])?),
        FieldType::Port => Field::Port(port(first)?),
        FieldType::Ports => Field::Ports(port(first)?, port(last)?),
        FieldType::Mac => Field::Mac(MacAddr::new(first.try_into().ok()?).ok()?),
        FieldType::Link => {
            let name = first.split(|byte| *byte == 0).next()?;
            Field::Link(std::str::from_utf8(name).ok()?.parse().ok()?)
        }
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
    }
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.number() == number)
}

/// The subnet that goes from `first` to `last`, if one does.
fn prefix(first: IpAddr, last: IpAddr) -> Option<Subnet> {
    let bits = |ip| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    };
    let size = if first.is_ipv4() { 32 } else { 128 };
    let host_bits = 128 - (bits(first) ^ bits(last)).leading_zeros();
    let subnet = Subnet::around(first, u8::try_from(size - host_bits).ok()?).ok()?;
    (subnet.network() == first && subnet.last() == last).then_some(subnet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(set: &str, key: Vec<Field>, data: Vec<Field>) -> Element {
        Element { table: Table::Inet, set: set.to_owned(), key, data, mark: Mark::new("0badcafe", "1") }
    }

    fn net(text: &str) -> Field {
        Field::Net(text.parse().unwrap())
    }

    #[test]
    fn a_subnet_is_found_between_its_first_and_its_last_address() {
        let check = |first: &str, last: &str, means: Option<&str>| {
            let found = prefix(first.parse().unwrap(), last.parse().unwrap()).map(|subnet| subnet.to_string());
            assert_eq!(found.as_deref(), means, "{first}-{last}");
        };
        check("10.88.0.0", "10.88.255.255", Some("10.88.0.0/16"));
        check("10.88.0.1", "10.88.0.1", Some("10.88.0.1/32"));
        check("0.0.0.0", "255.255.255.255", Some("0.0.0.0/0"));
        check("fd00::", "fd00::ffff:ffff:ffff:ffff", Some("fd00::/64"));
        check("10.88.0.1", "10.88.0.2", None);
        check("10.88.0.0", "10.88.0.2", None);
    }

    #[test]
    fn the_address_before_borrows() {
        assert_eq!(before(&[10, 89, 0, 0]), [10, 88, 255, 255]);
        assert_eq!(before(&[10, 89, 0, 1]), [10, 89, 0, 0]);
    }

    #[test]
    fn an_element_of_no_set_or_of_another_shape_is_not_sent() {
        let link = Field::Link("eth0".parse().unwrap());
        for wrong in [
            element("nosuch", vec![link.clone()], vec![]),
            element("bridges", vec![Field::Port(1)], vec![]),
            element("bridges", vec![], vec![]),
            element("subnets4", vec![net("fd00::/64")], vec![]),
            element("bridges", vec![link.clone()], vec![link]),
        ] {
            assert_eq!(create(&wrong).map(|_| ()), Err(Misfit), "{wrong:?}");
        }
    }
}
