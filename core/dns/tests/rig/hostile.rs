//! Messages that are almost right.

use proptest::prelude::*;

use super::question;

pub fn any_question() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("db"),
        Just("many"),
        Just("web.dns.podman"),
        Just("example.com"),
        Just("dns.podman"),
        Just("2.1.89.10.in-addr.arpa"),
        Just("9.1.89.10.in-addr.arpa"),
        Just("."),
    ];
    let kind = prop_oneof![Just("A"), Just("AAAA"), Just("PTR"), Just("255"), Just("MX"), Just("SOA")];
    let rest = prop_oneof![Just(""), Just(" edns=0"), Just(" edns=700 do"), Just(" edns=9999 ad"), Just(" class=3")];
    (name, kind, rest).prop_map(|(name, kind, rest)| question(&format!("{name} {kind}{rest}")))
}

/// Some octets changed, cut, doubled or put in.
pub fn mutated(message: Vec<u8>, changes: &[(u8, u16, u8)]) -> Vec<u8> {
    changes.iter().fold(message, |mut message, &(how, at, byte)| {
        let at = usize::from(at) % (message.len() + 1);
        match how % 5 {
            0 => message.truncate(at),
            1 => message.insert(at, byte),
            2 => message.extend_from_within(at..),
            _ => {
                if let Some(octet) = message.get_mut(at) {
                    *octet = byte;
                }
            }
        }
        message
    })
}

pub fn any_changes() -> impl Strategy<Value = Vec<(u8, u16, u8)>> {
    prop::collection::vec((any::<u8>(), any::<u16>(), prop_oneof![any::<u8>(), Just(0xc0), Just(0x0c)]), 0..6)
}
