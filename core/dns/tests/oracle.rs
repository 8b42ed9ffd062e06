//! We and hickory-proto read each other's messages and agree on what they say.

mod rig;

use std::str::FromStr;

use dns::message::{Answer, Header, Query};
use hickory_proto::op::{Edns, Message, OpCode, Query as Asked};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use proptest::prelude::*;
use rig::hostile::{any_changes, any_question, mutated};
use rig::question;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_we_take_hickory_takes(good in any_question(), changes in any_changes()) {
        let message = mutated(good, &changes);
        let Some(header) = Header::parse(&message) else { return Ok(()) };
        if let (Ok(ours), Ok(theirs)) = (Query::parse(header, &message), Message::from_vec(&message)) {
            let [asked] = &theirs.queries[..] else { panic!("one question") };
            prop_assert_eq!(u16::from(asked.query_type()), ours.question.kind.0);
            prop_assert_eq!(theirs.edns.map(|edns| edns.version()), ours.edns.map(|edns| edns.version));
        }
    }

    #[test]
    fn what_hickory_asks_we_read(labels in prop::collection::vec("[a-zA-Z0-9_]{1,40}", 1..6), kind in 1..70_u16, payload in any::<u16>()) {
        let mut theirs = Message::query();
        let name = Name::from_str(&format!("{}.", labels.join("."))).unwrap();
        // OPT is no question.
        let kind = if kind == 41 { 1 } else { kind };
        theirs.add_query(Asked::query(name.clone(), RecordType::from(kind)));
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_version(0).set_dnssec_ok(true);
        theirs.set_edns(edns);
        let message = theirs.to_vec().unwrap();
        let ours = Query::parse(Header::parse(&message).unwrap(), &message).unwrap();
        prop_assert_eq!(ours.question.name.to_string(), name.to_ascii());
        prop_assert_eq!((ours.question.kind.0, ours.question.class), (kind, 1));
        let edns = ours.edns.unwrap();
        prop_assert_eq!((usize::from(edns.payload), edns.version, edns.dnssec_ok), (usize::from(payload).max(512), 0, true));
        // And what we ask upstreams, hickory reads as the same question.
        let forwarded = Message::from_vec(&ours.forward()).unwrap();
        prop_assert_eq!((&forwarded.queries, forwarded.metadata.op_code), (&theirs.queries, OpCode::Query));
    }

    #[test]
    fn what_hickory_answers_we_accept(hosts in prop::collection::vec("[a-z]{1,20}", 0..30), compressed in any::<bool>()) {
        let asked = question("www.example.com A");
        let mut answer = Message::from_vec(&asked).unwrap().into_response();
        let zone = if compressed { "example.com." } else { "example.net." };
        for host in &hosts {
            let name = Name::from_str(&format!("{host}.{zone}")).unwrap();
            answer.add_answer(Record::from_rdata(name.clone(), 60, RData::CNAME(rdata::CNAME(name))));
        }
        answer.set_edns(Edns::new());
        let message = answer.to_vec().unwrap();
        let ours = Answer::parse(&message, &asked).unwrap();
        prop_assert_eq!((ours.message.len(), ours.code, ours.truncated), (message.len(), 0, false));
    }
}
