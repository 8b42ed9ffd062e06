//! DNS messages: a view of a query, a writer of answers, a check of foreign answers (RFC 1035, 2308, 6891).
//!
//! Reading never copies and never panics: a [`Query`] borrows the datagram. A question's name cannot be compressed
//! (nothing but the header stands before it), so it is a plain slice. Names in foreign answers are followed through
//! at most [`HOPS_MAX`] pointers, each to before the part of the name that holds it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Length of a header.
const HEADER: usize = 12;

/// What we send by UDP and ask upstreams for, at most: fits an IPv6 packet of 1,280 octets (DNS flag day 2020).
pub const UDP_PAYLOAD: usize = 1232;

/// What everyone takes by UDP (RFC 1035 section 4.2.1).
const UDP_MINIMUM: usize = 512;

/// The length field before a TCP message has two octets.
const TCP_MAXIMUM: usize = 65_535;

/// More than an honest query has beside its question: OPT, TSIG, SIG(0).
const QUERY_RECORDS_MAX: u32 = 16;

/// Honest writers point to the first occurrence of a name, which costs a hop or two.
const HOPS_MAX: u32 = 32;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// After a length of two octets, which is the shell's to write and read.
    Tcp,
}

/// A record type, of a question or a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u16);

#[allow(missing_docs)]
impl Kind {
    pub const A: Self = Self(1);
    pub const SOA: Self = Self(6);
    pub const PTR: Self = Self(12);
    pub const AAAA: Self = Self(28);
    pub const OPT: Self = Self(41);
    pub const IXFR: Self = Self(251);
    pub const AXFR: Self = Self(252);
    pub const ANY: Self = Self(255);
}

/// The Internet, the only class served.
pub const CLASS_IN: u16 = 1;

/// How it went (RFC 1035 section 4.1.1, RFC 6891 section 9).
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
}

const QR: u16 = 0x8000;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;
const AD: u16 = 0x0020;
const CD: u16 = 0x0010;
const OPCODE: u16 = 0x7800;

/// The first twelve octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chosen by who asks, repeated by who answers.
    pub id: u16,
    flags: u16,
    questions: u16,
    /// Of answers, authority and additional records.
    records: [u16; 3],
}

impl Header {
    /// `None` when the message is shorter than a header.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let word = |at| word(message, at);
        Some(Self { id: word(0)?, flags: word(2)?, questions: word(4)?, records: [word(6)?, word(8)?, word(10)?] })
    }

    /// QR: is it an answer?
    pub fn is_response(&self) -> bool {
        self.flags & QR != 0
    }

    /// 0 is a standard query.
    pub fn opcode(&self) -> u8 {
        ((self.flags & OPCODE) >> 11) as u8
    }
}

/// A name as it stands in a question: labels with their lengths, ended by the root's zero, at most 255 octets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// The octets, the final zero included.
    pub fn wire(&self) -> &'a [u8] {
        self.0
    }

    /// Reads the uncompressed name at `at`.
    fn parse(message: &'a [u8], at: usize) -> Option<Self> {
        let mut end = at;
        loop {
            let length = usize::from(*message.get(end)?);
            end += 1 + length;
            if length > 63 || end - at > 255 {
                return None;
            }
            if length == 0 {
                return message.get(at..end).map(Self);
            }
        }
    }
}

impl fmt::Display for Name<'_> {
    /// With dots and escapes, as in a zone file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == [0] {
            return f.write_str(".");
        }
        while let Some((&length, tail)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let (label, tail) = tail.split_at(usize::from(length).min(tail.len()));
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
            rest = tail;
        }
        Ok(())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// Whose records.
    pub name: Name<'a>,
    /// Which records.
    pub kind: Kind,
    /// [`CLASS_IN`], or something we refuse.
    pub class: u16,
    /// All of it as octets.
    pub wire: &'a [u8],
}

impl<'a> Question<'a> {
    /// The question after the header.
    fn parse(message: &'a [u8]) -> Option<Self> {
        let name = Name::parse(message, HEADER)?;
        let after = HEADER + name.0.len();
        let wire = message.get(HEADER..after + 4)?;
        Some(Self { name, kind: Kind(word(message, after)?), class: word(message, after + 2)?, wire })
    }
}

/// What an OPT record says of its sender (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram it takes, in octets.
    pub payload: u16,
    /// 0 is the only one there is.
    pub version: u8,
    /// DO: DNSSEC records are welcome.
    pub dnssec_ok: bool,
}

/// A well-formed message that asks one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// As sent.
    pub header: Header,
    /// The only one.
    pub question: Question<'a>,
    /// There iff the client speaks EDNS, which is to be answered in kind.
    pub edns: Option<Edns>,
}

/// A message with a header that is no well-formed query: FORMERR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Query<'a> {
    /// Reads a message that has `header`.
    pub fn parse(header: Header, message: &'a [u8]) -> Result<Self, Malformed> {
        let records = header.records.iter().map(|&n| u32::from(n)).sum::<u32>();
        if header.questions != 1 || records > QUERY_RECORDS_MAX {
            return Err(Malformed);
        }
        let question = Question::parse(message).ok_or(Malformed)?;
        let walk = Walk::over(header, message, HEADER + question.wire.len()).ok_or(Malformed)?;
        Ok(Self { header, question, edns: walk.edns })
    }

    /// The largest answer the client takes.
    pub fn limit(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Tcp, _) => TCP_MAXIMUM,
            (Transport::Udp, None) => UDP_MINIMUM,
            (Transport::Udp, Some(edns)) => usize::from(edns.payload).clamp(UDP_MINIMUM, UDP_PAYLOAD),
        }
    }

    /// The same question for an upstream, under the client's id: see [`set_id`]. Other records than OPT, and EDNS
    /// options, which are meant for us (RFC 7873 section 5.1), stay behind.
    pub fn forward(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + self.question.wire.len() + OPT_LENGTH);
        let flags = self.header.flags & (RD | AD | CD);
        for field in [self.header.id, flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            message.extend(field.to_be_bytes());
        }
        message.extend(self.question.wire);
        if let Some(edns) = self.edns {
            let payload = self.limit(Transport::Udp);
            message.extend(opt(payload, Code::NoError, edns.dnssec_ok));
        }
        message
    }
}

/// Writes `id` into a message's header.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(field) = message.get_mut(..2) {
        field.copy_from_slice(&id.to_be_bytes());
    }
}

/// A foreign answer that fits its question and is well-formed to the last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// TC: there is more over TCP.
    pub truncated: bool,
    /// The low four bits of the code.
    pub code: u8,
    /// Without what followed the last record.
    pub message: &'a [u8],
}

impl<'a> Answer<'a> {
    /// `None` unless `message` answers `asked`, a message of [`Query::forward`]. Case may differ in the name.
    pub fn parse(message: &'a [u8], asked: &[u8]) -> Option<Self> {
        let header = Header::parse(message)?;
        let question = Question::parse(message)?;
        let wanted = Question::parse(asked)?;
        let fits = header.is_response()
            && header.opcode() == 0
            && word(asked, 0) == Some(header.id)
            && header.questions == 1
            && question.wire.eq_ignore_ascii_case(wanted.wire)
            && (question.kind, question.class) == (wanted.kind, wanted.class);
        let walk = Walk::over(header, message, HEADER + question.wire.len()).filter(|_| fits)?;
        Some(Self {
            truncated: header.flags & TC != 0,
            code: (header.flags & 0xf) as u8,
            message: &message[..walk.end],
        })
    }

    /// The answer for the client that sent `query`: unchanged but for the id and the case of the question's name.
    pub fn relay(&self, query: &Query<'_>) -> Vec<u8> {
        let mut message = self.message.to_vec();
        set_id(&mut message, query.header.id);
        let question = HEADER..HEADER + query.question.wire.len();
        if let Some(field) = message.get_mut(question) {
            field.copy_from_slice(query.question.wire);
        }
        message
    }
}

/// What stands after the question.
struct Walk {
    /// Where the last record ends.
    end: usize,
    edns: Option<Edns>,
}

impl Walk {
    /// Over all records the header promises. `None` when one is cut off, a name is wrong, or OPT isn't alone, of
    /// the root and among the additional records.
    fn over(header: Header, message: &[u8], start: usize) -> Option<Self> {
        let mut walk = Self { end: start, edns: None };
        for (section, count) in header.records.iter().enumerate() {
            for _ in 0..*count {
                walk.record(message, section == 2)?;
            }
        }
        Some(walk)
    }

    fn record(&mut self, message: &[u8], additional: bool) -> Option<()> {
        let fields = name_end(message, self.end)?;
        let end = fields + 10 + usize::from(word(message, fields + 8)?);
        message.get(fields..end)?;
        if word(message, fields)? == Kind::OPT.0 {
            let root = message.get(self.end) == Some(&0);
            if !additional || !root || self.edns.is_some() {
                return None;
            }
            self.edns = Some(Edns {
                payload: word(message, fields + 2)?,
                version: *message.get(fields + 5)?,
                dnssec_ok: word(message, fields + 6)? & 0x8000 != 0,
            });
        }
        self.end = end;
        Some(())
    }
}

/// Where the name that begins at `start` ends in the message, if it is one.
fn name_end(message: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut part, mut end) = (start, start, None);
    let (mut length, mut hops) = (1, 0);
    loop {
        let byte = *message.get(at)?;
        match byte {
            0 => return Some(end.unwrap_or(at + 1)),
            1..=63 => {
                at += 1 + usize::from(byte);
                length += 1 + usize::from(byte);
            }
            0xc0.. => {
                let target = usize::from(word(message, at)? & 0x3fff);
                end = end.or(Some(at + 2));
                hops += 1;
                // Only backwards, so it ends; and never into the header, which holds no name.
                if target >= part || target < HEADER || hops > HOPS_MAX {
                    return None;
                }
                (at, part) = (target, target);
            }
            _ => return None,
        }
        if length > 255 {
            return None;
        }
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

const OPT_LENGTH: usize = 11;

/// An OPT record without options.
fn opt(payload: usize, code: Code, dnssec_ok: bool) -> [u8; OPT_LENGTH] {
    let [high, low] = (payload as u16).to_be_bytes();
    [0, 0, Kind::OPT.0 as u8, high, low, (code as u16 >> 4) as u8, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]
}

/// Everything of an SOA after its MNAME: nobody.invalid. (RFC 6303 section 3), serial 1, times, nothing cached.
const SOA_REST: &[u8] = b"\x06nobody\x07invalid\0\
    \0\0\0\x01\0\0\x0e\x10\0\0\x04\xb0\0\x09\x3a\x80\0\0\0\0";

/// A pointer to where a question's name stands.
const POINTER: u16 = 0xc000 | HEADER as u16;

/// An answer of our own in the making. What doesn't fit is left out, and TC says so.
#[derive(Debug)]
pub struct Reply {
    bytes: Vec<u8>,
    /// For all but the OPT record.
    limit: usize,
    opt: Option<[u8; OPT_LENGTH]>,
    flags: u16,
    answers: u16,
    authority: u16,
}

impl Reply {
    /// An answer to `query`, not larger than the client takes by `transport`.
    pub fn new(query: &Query<'_>, code: Code, transport: Transport) -> Self {
        let opt = query.edns.map(|edns| opt(UDP_PAYLOAD, code, edns.dnssec_ok));
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; HEADER]);
        bytes[..2].copy_from_slice(&query.header.id.to_be_bytes());
        bytes.extend(query.question.wire);
        Self {
            bytes,
            limit: query.limit(transport) - if opt.is_some() { OPT_LENGTH } else { 0 },
            opt,
            flags: QR | RA | query.header.flags & (RD | CD) | code as u16 & 0xf,
            answers: 0,
            authority: 0,
        }
    }

    /// An answer to a message that is no query we could read: the header alone.
    pub fn bare(header: Header, code: Code) -> Vec<u8> {
        let flags = QR | RA | header.flags & (OPCODE | RD | CD) | code as u16 & 0xf;
        [header.id, flags, 0, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
    }

    /// AA: we are who knows.
    pub fn authoritative(mut self) -> Self {
        self.flags |= AA;
        self
    }

    /// TC: ask again by TCP.
    pub fn truncated(mut self) -> Self {
        self.flags |= TC;
        self
    }

    /// An address of the name asked for.
    pub fn a(&mut self, ip: Ipv4Addr) {
        self.answer(Kind::A, &ip.octets());
    }

    /// An address of the name asked for.
    pub fn aaaa(&mut self, ip: Ipv6Addr) {
        self.answer(Kind::AAAA, &ip.octets());
    }

    /// A name of the address asked for, as octets with the final zero.
    pub fn ptr(&mut self, name: &[u8]) {
        self.answer(Kind::PTR, name);
    }

    /// The SOA as an answer. `apex`: where in the question's name its zone's begins.
    pub fn soa_asked(&mut self, apex: usize) {
        self.answers += self.soa(apex);
    }

    /// The SOA that goes with NODATA and NXDOMAIN (RFC 2308).
    pub fn soa_denial(&mut self, apex: usize) {
        self.authority += self.soa(apex);
    }

    /// The message.
    pub fn finish(mut self) -> Vec<u8> {
        let additional = u16::from(self.opt.is_some());
        let fields = [self.flags, 1, self.answers, self.authority, additional];
        for (at, field) in fields.into_iter().enumerate() {
            self.bytes[2 + 2 * at..][..2].copy_from_slice(&field.to_be_bytes());
        }
        self.bytes.extend(self.opt.iter().flatten());
        self.bytes
    }

    fn answer(&mut self, kind: Kind, data: &[u8]) {
        self.answers += self.record(POINTER, kind, &[data]);
    }

    fn soa(&mut self, apex: usize) -> u16 {
        let zone = POINTER + apex as u16;
        self.record(zone, Kind::SOA, &[&zone.to_be_bytes(), SOA_REST])
    }

    /// 1 when the record fits, else 0. Its TTL is 0: containers come and go.
    fn record(&mut self, owner: u16, kind: Kind, data: &[&[u8]]) -> u16 {
        let length = data.iter().map(|part| part.len()).sum::<usize>();
        if self.flags & TC != 0 || self.bytes.len() + HEADER + length > self.limit {
            self.flags |= TC;
            return 0;
        }
        let [owner, kind] = [owner, kind.0].map(u16::to_be_bytes);
        let [high, low] = (length as u16).to_be_bytes();
        self.bytes.extend([owner[0], owner[1], kind[0], kind[1], 0, CLASS_IN as u8, 0, 0, 0, 0, high, low]);
        data.iter().for_each(|part| self.bytes.extend(*part));
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `web.` asked for its A records, id 7, RD.
    const WEB: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";

    fn query(message: &[u8]) -> Result<Query<'_>, Malformed> {
        Query::parse(Header::parse(message).unwrap(), message)
    }

    /// `WEB` with other counts and something behind it.
    fn with(counts: [u8; 4], tail: &[u8]) -> Vec<u8> {
        let mut message = WEB.to_vec();
        for (at, count) in counts.into_iter().enumerate() {
            message[5 + 2 * at] = count;
        }
        message.extend(tail);
        message
    }

    #[test]
    fn a_query_is_read_as_it_stands() {
        let query = query(WEB).unwrap();
        assert_eq!((query.header.id, query.question.name.to_string().as_str()), (7, "web."));
        assert_eq!((query.question.kind, query.question.class, query.edns), (Kind::A, CLASS_IN, None));
    }

    #[test]
    fn zero_or_two_questions_are_malformed() {
        assert_eq!(query(&with([0, 0, 0, 0], b"")), Err(Malformed));
        assert_eq!(query(&with([2, 0, 0, 0], &WEB[12..])), Err(Malformed));
    }

    #[test]
    fn every_shorter_prefix_is_malformed() {
        for length in 12..WEB.len() {
            assert_eq!(query(&WEB[..length]), Err(Malformed), "{length}");
        }
    }

    #[test]
    fn opt_stands_once_among_the_additional_records_and_is_of_the_root() {
        let opt = opt(4096, Code::NoError, true);
        let edns = query(&with([1, 0, 0, 1], &opt)).unwrap().edns.unwrap();
        assert_eq!(edns, Edns { payload: 4096, version: 0, dnssec_ok: true });

        assert_eq!(query(&with([1, 0, 0, 2], &[opt, opt].concat())), Err(Malformed));
        assert_eq!(query(&with([1, 1, 0, 0], &opt)), Err(Malformed));
        let owned = [b"\x01x", opt.as_slice()].concat();
        assert_eq!(query(&with([1, 0, 0, 1], &owned)), Err(Malformed));
    }

    #[test]
    fn names_longer_than_255_octets_or_with_a_pointer_are_no_question() {
        let name = |label: &[u8], times: usize| {
            let mut message = with([1, 0, 0, 0], b"");
            message.truncate(HEADER);
            message.extend(label.repeat(times));
            message.extend(b"\0\0\x01\0\x01");
            message
        };
        assert!(query(&name(b"\x01a", 127)).is_ok(), "255 octets");
        assert_eq!(query(&name(b"\x01a", 128)), Err(Malformed));
        assert_eq!(query(&name(b"\xc0\x0c", 1)), Err(Malformed));
        assert_eq!(query(&name(b"\x40a", 1)), Err(Malformed));
    }

    #[test]
    fn a_pointer_goes_backwards_or_nowhere() {
        let message = |tail: &[u8]| [&[0; 12], b"\x01a\0".as_slice(), tail].concat();
        assert_eq!(name_end(&message(b"\x01b\xc0\x0c."), 15), Some(19));
        for (bad, why) in [(b"\xc0\x0f", "to itself"), (b"\xc0\x10", "forwards"), (b"\xc0\x00", "into the header")] {
            assert_eq!(name_end(&message(bad), 15), None, "{why}");
        }
        // A chain of pointers, each to the one before: short is well, long is a bomb.
        let chain =
            |n: u8| message(&(0..n).flat_map(|i| [0xc0, 12 + if i == 0 { 0 } else { 1 + 2 * i }]).collect::<Vec<_>>());
        assert!(name_end(&chain(32), 15 + 62).is_some());
        assert_eq!(name_end(&chain(33), 15 + 64), None);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_said() {
        let mut reply = Reply::new(&query(WEB).unwrap(), Code::NoError, Transport::Udp);
        (0..200).for_each(|n| reply.a(Ipv4Addr::new(10, 0, 0, n)));
        let message = reply.finish();
        let header = Header::parse(&message).unwrap();
        assert_eq!((message.len(), header.flags & TC, header.records), (501, TC, [30, 0, 0]));
    }

    #[test]
    fn a_bare_reply_repeats_opcode_and_rd() {
        let header = Header::parse(b"\x12\x34\x29\x00\0\0\0\0\0\0\0\0").unwrap();
        assert_eq!(Reply::bare(header, Code::NotImp), b"\x12\x34\xa9\x84\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_name_is_printed_with_escapes() {
        assert_eq!(Name(b"\0").to_string(), ".");
        assert_eq!(Name(b"\x05a.b\\ \x01\xff\0").to_string(), "a\\.b\\\\\\032.\\255.");
    }

    #[test]
    fn an_answer_fits_by_id_question_and_sections() {
        let answer = [
            b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0\x03wEb\0\0\x01\0\x01".as_slice(),
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x01\x02\x03\x04",
        ]
        .concat();
        let good = Answer::parse(&answer, WEB).unwrap();
        assert_eq!((good.truncated, good.code, good.message.len()), (false, 0, answer.len()));
        assert_eq!(&good.relay(&query(WEB).unwrap())[12..17], b"\x03web\0");

        let changed = |at: usize, to: u8| {
            let mut message = answer.clone();
            message[at] = to;
            message
        };
        for (at, to, why) in [
            (1, 8, "another id"),
            (2, 0x01, "a query"),
            (2, 0x89, "another opcode"),
            (5, 2, "two questions"),
            (14, b'x', "another name"),
            (18, 28, "another type"),
            (20, 3, "another class"),
            (7, 2, "a record is missing"),
            (32, 5, "a record is cut off"),
            (22, 0x15, "a pointer goes forwards"),
        ] {
            assert_eq!(Answer::parse(&changed(at, to), WEB), None, "{why}");
        }
        assert_eq!(Answer::parse(&[&answer, b"tail".as_slice()].concat(), WEB).unwrap().message.len(), answer.len());
    }
}
