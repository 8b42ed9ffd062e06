//! Any bytes from anywhere: no panic, no answer larger than allowed, no growth.

mod rig;

use std::str::FromStr;

use dns::message::{Header, Query};
use dns::{Event, Limits, Output, Transport, Via};
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, Record, rdata};
use proptest::prelude::*;
use rig::hostile::{any_changes, any_question, mutated};
use rig::{Rig, UP1, directory, question};

/// What a client may get: by TCP all, by UDP what its OPT record says, between 512 and our own bound.
fn allowed(message: &[u8], via: Via) -> usize {
    let edns = Header::parse(message).and_then(|header| Query::parse(header, message).ok()?.edns);
    match (via.transport(), edns) {
        (Transport::Tcp, _) => 65_535,
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(edns)) => usize::from(edns.payload).clamp(512, 1232),
    }
}

/// Sends `message` to a server; checks all that comes of it; returns the answer.
fn throw(rig: &mut Rig, via: Via, message: &[u8]) -> Option<Vec<u8>> {
    rig.server.handle(Event::Asked { client: rig::client("10.89.1.2", via), message }, rig.now);
    let mut answer = None;
    while let Some(output) = rig.server.poll() {
        match output {
            Output::Send { to, message: sent } if to.via == via => {
                assert!(sent.len() <= allowed(message, via), "{} octets", sent.len());
                assert!(sent[2] & 0x80 != 0, "an answer says that it is one");
                Message::from_vec(&sent).expect("an answer can be read");
                answer = Some(sent);
            }
            Output::Send { .. } | Output::Close { .. } => {}
            Output::Ask { message, .. } => drop(Message::from_vec(&message).expect("a question can be read")),
        }
    }
    answer
}

fn any_via() -> impl Strategy<Value = Via> {
    prop_oneof![Just(Via::Udp { listener: 0 }), Just(Via::Tcp { connection: 1 })]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(via in any_via(), message in prop::collection::vec(any::<u8>(), 0..600)) {
        throw(&mut Rig::new(&directory()), via, &message);
    }

    #[test]
    fn almost_right_queries_are_survived(via in any_via(), good in any_question(), changes in any_changes()) {
        let message = mutated(good, &changes);
        let answer = throw(&mut Rig::new(&directory()), via, &message);
        // What has a header and asks something is never met with silence, unless an upstream is asked.
        if message.len() < 12 || message[2] & 0x80 != 0 {
            prop_assert!(answer.is_none());
        }
    }

    #[test]
    fn almost_right_answers_are_survived(via in any_via(), changes in any_changes(), records in 0..200_u16) {
        let mut rig = Rig::new(&directory());
        let asked = question("example.com A edns=700");
        rig.asked("10.89.1.2", via, &asked);
        let (socket, from, _, message) = rig.socket_to(UP1);
        let mut answer = Message::from_vec(&message).unwrap().into_response();
        for n in 0..records {
            let data = RData::A(rdata::A::new(198, 51, 100, n as u8));
            answer.add_answer(Record::from_rdata(Name::from_str("example.com.").unwrap(), 300, data));
        }
        let answer = mutated(answer.to_vec().unwrap(), &changes);
        rig.server.handle(Event::Answered { socket, from, message: &answer }, rig.now);
        while let Some(output) = rig.server.poll() {
            if let Output::Send { message, .. } = output {
                prop_assert!(message.len() <= allowed(&asked, via));
                prop_assert_eq!(&message[..2], &asked[..2]);
            }
        }
    }
}

#[test]
fn nothing_grows_under_a_flood() {
    let mut rig = Rig::with(&directory(), Limits { in_flight: 16, per_client: 8 });
    let mut next = rig::seeded(7);
    let mut open = std::collections::BTreeSet::new();
    let mut settle = |rig: &mut Rig| {
        while let Some(output) = rig.server.poll() {
            match output {
                Output::Ask { socket, .. } => assert!(socket.index() < 32 && open.insert(socket)),
                Output::Close { socket } => assert!(open.remove(&socket)),
                Output::Send { .. } => {}
            }
        }
        assert!(rig.server.in_flight() <= 16 && open.len() <= 32);
        open.len()
    };
    for n in 0..100_000_u64 {
        let source = format!("10.89.1.{}", next() % 250 + 2);
        let message = match next() % 3 {
            0 => (0..next() % 60).map(|_| next() as u8).collect(),
            1 => mutated(question("example.com A"), &[(next() as u8, next() as u16, next() as u8)]),
            _ => question(&format!("x{}.example.com A id={}", next() % 1000, next() % 65_536)),
        };
        rig.now = rig.start + std::time::Duration::from_micros(100 * n);
        rig.server.handle(
            Event::Asked { client: rig::client(&source, Via::Udp { listener: 0 }), message: &message },
            rig.now,
        );
        settle(&mut rig);
    }
    rig.now += std::time::Duration::from_secs(60);
    rig.server.handle(Event::Tick, rig.now);
    assert_eq!((settle(&mut rig), rig.server.in_flight(), rig.server.deadline()), (0, 0, None));
}
