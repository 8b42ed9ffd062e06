//! Messages and attributes as bytes.
//!
//! ```text
//!   len:u32 kind:u16 flags:u16 seq:u32 port:u32 | fixed bytes | attribute | attribute | …
//!   attribute: len:u16 kind:u16 | value | zeros up to a multiple of 4
//! ```

use crate::flags;

const HEADER: usize = 16;
/// `NLA_F_NESTED`; the two top bits of an attribute's kind are flags (`NLA_TYPE_MASK`).
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// A request under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Message {
    /// A message of `kind` (`RTM_NEWLINK`, …); `NLM_F_REQUEST` is added to `flags`.
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | flags::REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        Self { bytes, too_long: false }
    }

    /// Appends a fixed part, padded to a multiple of 4.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        let start = self.open(kind);
        self.bytes.extend(value);
        self.close(start);
        self
    }

    /// Appends one byte.
    pub fn attr_u8(self, kind: u16, value: u8) -> Self {
        self.attr(kind, &[value])
    }

    /// Appends a number in the machine's byte order.
    pub fn attr_u16(self, kind: u16, value: u16) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a number in the machine's byte order.
    pub fn attr_u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order.
    pub fn attr_be16(self, kind: u16, value: u16) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a number in network byte order.
    pub fn attr_be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a number in network byte order.
    pub fn attr_be64(self, kind: u16, value: u64) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a text with a terminating NUL.
    pub fn attr_str(mut self, kind: u16, value: &str) -> Self {
        let start = self.open(kind);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    /// Appends an attribute made of what `inside` appends.
    pub fn nest(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.open(kind | NESTED);
        let mut message = inside(self);
        message.close(start);
        message
    }

    /// What was appended so far: to be put inside another message.
    pub fn appended(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    /// Length in bytes with the header, so that callers can stay below a limit.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Adds `flags` to those it has.
    pub fn with_flags(mut self, flags: u16) -> Self {
        let all = self.flags() | flags;
        self.bytes[6..8].copy_from_slice(&all.to_ne_bytes());
        self
    }

    /// Its `NLM_F_*` bits.
    pub fn flags(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]])
    }

    /// True when an attribute is longer than its 16 bit length can say; such a message is not sent.
    pub fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Appends the finished message with its length and sequence number.
    pub(crate) fn write(&self, seq: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(&self.bytes);
        out[start..start + 4].copy_from_slice(&u32::try_from(self.bytes.len()).unwrap_or(u32::MAX).to_ne_bytes());
        out[start + 8..start + 12].copy_from_slice(&seq.to_ne_bytes());
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(len) => self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `RTM_NEWLINK`, …
    pub kind: u16,
    /// `NLM_F_*`
    pub flags: u16,
    /// Which request it answers.
    pub seq: u32,
    /// Everything after the header.
    pub payload: Vec<u8>,
}

impl Reply {
    /// The attributes after a fixed part of `fixed` bytes.
    pub fn attrs(&self, fixed: usize) -> Attrs<'_> {
        Attrs::new(self.payload.get(fixed.next_multiple_of(4)..).unwrap_or_default())
    }

    /// Splits what one `recv` returned; stops at the first piece that is not a whole message.
    pub(crate) fn split(mut bytes: &[u8]) -> Vec<Self> {
        let mut replies = Vec::new();
        while let (Some(len), Some(kind), Some(flags), Some(seq)) =
            (u32_at(bytes, 0), u16_at(bytes, 4), u16_at(bytes, 6), u32_at(bytes, 8))
        {
            let len = len as usize;
            let Some(payload) = bytes.get(HEADER..len) else { break };
            replies.push(Self { kind, flags, seq, payload: payload.to_vec() });
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        replies
    }
}

/// The attributes in some bytes, as (kind without flags, value); ends at the first that is cut off.
#[derive(Debug, Clone)]
pub struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// Reads attributes from the first byte on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The value of the first attribute of this kind.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(k, value)| (k == kind).then_some(value))
    }

    /// The attributes inside the first attribute of this kind; none when there is none.
    pub fn nested(&self, kind: u16) -> Self {
        Self(self.find(kind).unwrap_or_default())
    }

    /// A number in the machine's byte order.
    pub fn u32(&self, kind: u16) -> Option<u32> {
        u32_at(self.find(kind)?, 0)
    }

    /// A number in network byte order.
    pub fn be16(&self, kind: u16) -> Option<u16> {
        u16_at(self.find(kind)?, 0).map(u16::from_be)
    }

    /// A number in network byte order.
    pub fn be32(&self, kind: u16) -> Option<u32> {
        u32_at(self.find(kind)?, 0).map(u32::from_be)
    }

    /// A text up to its first NUL; `None` when it is not UTF-8.
    pub fn text(&self, kind: u16) -> Option<&'a str> {
        text(self.find(kind)?)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = u16_at(self.0, 0)? as usize;
        let kind = u16_at(self.0, 2)? & KIND_MASK;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The text up to the first NUL.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.write(7, &mut out);
        out
    }

    #[test]
    fn a_message_is_what_iproute2_would_send() {
        // strace of `ip link set lo up`, on a little-endian machine.
        let message = Message::new(16, flags::ACK).bytes(&[0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        let header = [32, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(written(&message)[..16], header);
        assert_eq!(message.size(), 32);
    }

    #[test]
    fn attributes_are_padded_and_counted_without_their_padding() {
        let message = Message::new(0, 0).attr_str(3, "podman0").attr_u32(4, 1500).attr(5, &[9]);
        assert_eq!(
            written(&message)[16..],
            [[12, 0, 3, 0].as_slice(), b"podman0\0", &[8, 0, 4, 0, 0xdc, 5, 0, 0], &[5, 0, 5, 0, 9, 0, 0, 0]].concat()
        );
    }

    #[test]
    fn what_is_built_reads_back() {
        let message = Message::new(1, 0).nest(18, |m| m.attr_str(1, "veth").nest(2, |m| m.attr_be32(7, 0x0a58_0001)));
        let reply = Reply::split(&written(&message)).remove(0);
        let inside = reply.attrs(0).nested(18);
        assert_eq!((inside.text(1), inside.nested(2).be32(7)), (Some("veth"), Some(0x0a58_0001)));
    }

    #[test]
    fn several_messages_of_one_read_are_split() {
        let mut bytes = written(&Message::new(20, flags::MULTI).attr(1, &[1, 2, 3]));
        bytes.extend(written(&Message::new(3, flags::MULTI)));
        let kinds: Vec<_> = Reply::split(&bytes).iter().map(|r| r.kind).collect();
        assert_eq!(kinds, [20, 3]);
    }

    #[test]
    fn cut_off_or_lying_bytes_end_the_reading_and_never_panic() {
        let whole = written(&Message::new(20, 0).attr_str(1, "eth0").nest(2, |m| m.attr_u32(3, 4)));
        for end in 0..whole.len() {
            let _ = Reply::split(&whole[..end]).iter().map(|r| r.attrs(0).count()).sum::<usize>();
            let _ = Attrs::new(&whole[..end]).count();
        }
        for len in 0..=5_u8 {
            assert!(Attrs::new(&[len, 0, 1, 0]).count() <= 1, "length {len}");
        }
        assert_eq!(Reply::split(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), []);
    }

    #[test]
    fn an_attribute_of_64_kib_is_not_sent() {
        assert!(Message::new(0, 0).attr(1, &vec![0; 65_536]).is_too_long());
        assert!(!Message::new(0, 0).attr(1, &vec![0; 65_531]).is_too_long());
    }
}
