//! Any frames at any time: no panic, no flood, nothing configured that no host can have.

mod rig;

use std::time::Duration;

use dhcp::message::Reply;
use dhcp::{Begin, Client, Event, Output, frame};
use proptest::prelude::*;
use rig::{MAC, START, chance, framed, identity, ip, reply};

fn any_option() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let code = prop_oneof![
        prop::sample::select(vec![1_u8, 3, 6, 15, 26, 42, 50, 51, 52, 53, 54, 56, 58, 59, 61, 119, 121, 0, 255]),
        any::<u8>()
    ];
    (code, prop::collection::vec(any::<u8>(), 0..40))
}

/// A message that is right in what is checked first, so that the rest is reached.
fn any_reply() -> impl Strategy<Value = (u8, Vec<(u8, Vec<u8>)>, bool, u8)> {
    (prop::sample::select(vec![2_u8, 5, 5, 6]), prop::collection::vec(any_option(), 0..8), any::<bool>(), any::<u8>())
}

#[derive(Debug, Clone)]
enum Step {
    Bytes(Vec<u8>),
    Message(Vec<u8>),
    Reply { kind: u8, options: Vec<(u8, Vec<u8>)>, usual: bool, host: u8 },
    Arp { sender: u8, target: u8, asks: bool },
    Time(u32),
    Release,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..400).prop_map(Step::Bytes),
        1 => prop::collection::vec(any::<u8>(), 0..400).prop_map(Step::Message),
        6 => any_reply().prop_map(|(kind, options, usual, host)| Step::Reply { kind, options, usual, host }),
        2 => (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(sender, target, asks)| Step::Arp { sender, target, asks }),
        3 => prop_oneof![0..2_000_u32, 0..20_000_000_u32].prop_map(Step::Time),
        1 => Just(Step::Release),
    ]
}

/// The number of the last transaction that was sent by broadcast or datagram.
fn transaction(output: &Output) -> Option<u32> {
    let message = match output {
        Output::Frame(frame) if frame[12..14] == [8, 0] => &frame[42..],
        Output::Datagram { message, .. } => &message[..],
        _ => return None,
    };
    Some(u32::from_be_bytes(message[4..8].try_into().unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_can_be_read(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Reply::read(&octets);
        let _ = frame::read(&octets, MAC);
    }

    #[test]
    fn a_client_outlives_whatever_it_hears(begin in 0..2_u8, steps in prop::collection::vec(any_step(), 1..60), seed: u32) {
        let begin = if begin == 0 { Begin::Discover { wished: None } } else { Begin::Reboot(ip("192.0.2.9")) };
        let mut now = START;
        let mut client = Client::new(identity(), begin, chance(seed), now);
        let (mut number, mut has, mut sent, mut heard, mut slept) = (0, false, 0, 0_usize, Duration::ZERO);
        for step in steps {
            match step {
                Step::Bytes(octets) => client.handle(Event::Frame(&octets), now),
                Step::Message(octets) => {
                    let frame = framed([2, 0, 0, 0, 1, 1], ip("192.0.2.1"), MAC, &octets);
                    client.handle(Event::Frame(&frame), now);
                }
                Step::Reply { kind, mut options, usual, host } => {
                    if usual {
                        options.extend([(54, vec![192, 0, 2, 1]), (51, vec![0, 0, 14, 16])]);
                    }
                    let message = reply(kind, number, MAC, [192, 0, 2, host].into(), &options);
                    let frame = framed([2, 0, 0, 0, 1, 1], ip("192.0.2.1"), MAC, &message);
                    client.handle(Event::Frame(&frame), now);
                }
                Step::Arp { sender, target, asks } => {
                    let mut frame = frame::write_arp([2; 6], [192, 0, 2, sender].into(), [192, 0, 2, target].into());
                    frame[21] = if asks { 1 } else { 2 };
                    client.handle(Event::Frame(&frame), now);
                }
                Step::Time(ms) => {
                    now += Duration::from_millis(ms.into());
                    slept += Duration::from_millis(ms.into());
                    client.handle(Event::Tick, now);
                }
                Step::Release => client.handle(Event::Release, now),
            }
            heard += 1;
            while let Some(output) = client.poll() {
                sent += usize::from(matches!(output, Output::Frame(_) | Output::Datagram { .. }));
                number = transaction(&output).unwrap_or(number);
                match output {
                    Output::Leased(lease) => {
                        has = true;
                        prop_assert!(lease.addr().is_ok());
                        prop_assert!(!matches!(lease.address.octets()[0], 0 | 127 | 224..));
                        prop_assert!(lease.end().is_none_or(|end| end > lease.obtained));
                    }
                    Output::Lost(_) => {
                        prop_assert!(has, "what was not there is not lost");
                        has = false;
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(client.lease().is_some(), has && client.stage() != dhcp::Stage::Released);
            prop_assert!(client.deadline().is_none_or(|deadline| deadline > now));
        }
        // Each step is answered by a few frames at most, however it is made.
        prop_assert!(sent <= 2 + heard * 4, "{sent} frames for {heard} steps in {slept:?}");
    }
}
