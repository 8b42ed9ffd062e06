//! The DHCP client under anything that servers, neighbours and the clock can do to it.
//!
//! The input is a run of steps: an octet that says what happens, one with its length, and that many octets.
#![no_main]

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::message::Reply;
use dhcp::{Begin, Chance, Client, Event, Identity, Output, frame};
use libfuzzer_sys::fuzz_target;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const SERVER: [u8; 6] = [2, 0, 0, 0, 1, 1];

fn client(begin: u8, now: Duration) -> Client {
    let wished = Ipv4Addr::new(192, 0, 2, begin);
    let begin = match begin % 3 {
        0 => Begin::Discover { wished: None },
        1 => Begin::Discover { wished: Some(wished) },
        _ => Begin::Reboot(wished),
    };
    let mac = model::MacAddr::new(MAC).expect("a station's address");
    let identity = Identity { mac, client_id: vec![0, 1, 2], hostname: Some("web".to_owned()) };
    let mut number = 1_u32;
    let next = move || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number
    };
    Client::new(identity, begin, Chance::new(next), now)
}

/// A frame to the client with ports the right way round.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = frame::write_message(SERVER, MAC, [192, 0, 2, 1].into(), Ipv4Addr::BROADCAST, message);
    frame[34..38].rotate_left(2);
    frame
}

/// A reply that is right in what is checked first: the transaction, the MAC, the cookie.
fn reply(transaction: u32, rest: &[u8]) -> Vec<u8> {
    let Some((kind, rest)) = rest.split_first() else { return Vec::new() };
    let (host, options) = rest.split_first().unwrap_or((&9, &[]));
    let mut message = vec![0; 236];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[4..8].copy_from_slice(&transaction.to_be_bytes());
    message[16..20].copy_from_slice(&[192, 0, 2, *host]);
    message[28..34].copy_from_slice(&MAC);
    message.extend([99, 130, 83, 99, 53, 1, *kind]);
    if kind & 0x80 != 0 {
        message[242] &= 7;
        message.extend([54, 4, 192, 0, 2, 1, 51, 4, 0, 0, 14, 16]);
    }
    message.extend(options);
    message
}

fn sent(output: &Output) -> Option<u32> {
    let message = match output {
        Output::Frame(frame) if frame[12..14] == [8, 0] => &frame[42..],
        Output::Datagram { message, .. } => &message[..],
        _ => return None,
    };
    message[4..8].try_into().ok().map(u32::from_be_bytes)
}

fuzz_target!(|input: &[u8]| {
    let _ = Reply::read(input);
    let _ = frame::read(input, MAC);
    let Some((begin, mut rest)) = input.split_first() else { return };
    let mut now = Duration::from_secs(1000);
    let mut client = client(*begin, now);
    let (mut transaction, mut has) = (0, false);
    while let [what, length, tail @ ..] = rest {
        let (step, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        match what % 6 {
            0 => client.handle(Event::Frame(step), now),
            1 => client.handle(Event::Frame(&framed(step)), now),
            2 | 3 => client.handle(Event::Frame(&framed(&reply(transaction, step))), now),
            4 => {
                now += Duration::from_millis(
                    step.iter().fold(1, |sum: u64, n| sum.wrapping_mul(16).wrapping_add((*n).into())) % 100_000_000,
                );
                client.handle(Event::Tick, now);
            }
            _ if step.is_empty() => client.handle(Event::Release, now),
            _ => {
                let host = |n: usize| Ipv4Addr::new(192, 0, 2, step.get(n).copied().unwrap_or(9));
                client.handle(Event::Frame(&frame::write_arp([2; 6], host(0), host(1))), now);
            }
        }
        let mut outputs = 0;
        while let Some(output) = client.poll() {
            outputs += 1;
            transaction = sent(&output).unwrap_or(transaction);
            match output {
                Output::Leased(lease) => {
                    assert!(lease.addr().is_ok() && !matches!(lease.address.octets()[0], 0 | 127 | 224..));
                    has = true;
                }
                Output::Lost(_) => assert!(std::mem::take(&mut has), "what was not there is not lost"),
                Output::Frame(frame) => assert!(frame.len() >= 60 && frame.len() <= 1514),
                Output::Datagram { message, .. } => assert!(message.len() >= 300),
            }
        }
        assert!(outputs <= 8);
        assert!(client.deadline().is_none_or(|deadline| deadline > now));
    }
});
