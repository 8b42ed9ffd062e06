//! The DHCPv6 client under anything that routers, servers, neighbours and the clock can do to it.
//!
//! The input is a run of steps: an octet that says what happens, one with its length, and that many octets.
#![no_main]

use std::net::Ipv6Addr;
use std::time::Duration;

use dhcp::message6::Reply6;
use dhcp::{Begin6, Chance, Client6, Event, Identity6, Output6, frame6};
use libfuzzer_sys::fuzz_target;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 1, 1];
const FROM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const LINK: u32 = 7;

/// A frame of IPv6 to the client whose checksum is right.
fn frame(protocol: u8, mut payload: Vec<u8>, sum_at: usize) -> Vec<u8> {
    let to = model::MacAddr::new(MAC).expect("a station's address").link_local();
    let words = |bytes: &[u8]| {
        let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        bytes.chunks(2).map(pair).sum::<u32>()
    };
    if let Some(field) = payload.get_mut(sum_at..sum_at + 2) {
        field.fill(0);
        let rest = words(&FROM.octets()) + words(&to.octets()) + u32::from(protocol);
        let mut sum = rest + payload.len() as u32 + words(&payload);
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        payload[sum_at..sum_at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    let length = (payload.len() as u16).to_be_bytes();
    let header = [&[0x86, 0xdd, 0x60, 0, 0, 0], &length[..], &[protocol, 255]].concat();
    [&MAC[..], &ROUTER, &header, &FROM.octets(), &to.octets(), &payload].concat()
}

fn datagram(message: &[u8]) -> Vec<u8> {
    let head = [547, 546, 8 + message.len() as u16, 0].map(u16::to_be_bytes).concat();
    frame(17, [head, message.to_vec()].concat(), 6)
}

fuzz_target!(|input: &[u8]| {
    let _ = Reply6::read(input, LINK);
    let _ = frame6::read(input, MAC);
    let mac = model::MacAddr::new(MAC).expect("a station's address");
    let identity = Identity6 { mac, duid: vec![0, 4, 9, 9], link: LINK };
    let mut number = 1_u32;
    let chance = Chance::new(move || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number
    });
    let mut now = Duration::from_secs(1000);
    let mut client = Client6::new(identity, Begin6::Ask(None), chance, now);
    let (mut transaction, mut has, mut rest) = ([0; 3], false, input);
    while let [what, length, tail @ ..] = rest {
        let (step, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        match what % 6 {
            0 => client.handle(Event::Frame(step), now),
            1 => client.handle(Event::Frame(&frame(58, step.to_vec(), 2)), now),
            2 => client.handle(Event::Frame(&datagram(step)), now),
            3 => {
                let kind = if what & 0x80 == 0 { 2 } else { 7 };
                let usual = [0, 1, 0, 4, 0, 4, 9, 9, 0, 2, 0, 3, 1, 2, 3];
                let message = [&[kind][..], &transaction, &usual, step].concat();
                client.handle(Event::Frame(&datagram(&message)), now);
            }
            4 => {
                let ms =
                    step.iter().fold(1, |sum: u64, n| sum.wrapping_mul(16).wrapping_add((*n).into())) % 100_000_000;
                now += Duration::from_millis(ms);
                client.handle(Event::Tick, now);
            }
            _ => client.handle(Event::Release, now),
        }
        let mut outputs = 0;
        while let Some(output) = client.poll() {
            outputs += 1;
            match output {
                Output6::Frame(frame) => {
                    assert!(frame.len() >= 60 && frame.len() <= 1514);
                    if frame[20] == 17 {
                        transaction = frame[63..66].try_into().expect("a message has a number");
                    }
                }
                Output6::Leased(lease) => {
                    assert!(!lease.address.is_multicast() && !lease.address.is_unspecified());
                    has = true;
                }
                Output6::Lost => assert!(std::mem::take(&mut has), "what was not there is not lost"),
                Output6::Told { dns, search } => assert!(dns.len() <= 8 && search.len() <= 16),
            }
        }
        assert!(outputs <= 8);
        assert!(client.deadline().is_none_or(|deadline| deadline > now));
    }
});
