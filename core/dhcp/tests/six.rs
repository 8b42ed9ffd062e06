//! IPv6: what a client says to routers and servers, line by line; and any frames at any time.

mod rig;

use std::net::Ipv6Addr;
use std::time::Duration;

use dhcp::frame6::{self, Heard6};
use dhcp::message6::Reply6;
use dhcp::{Begin6, Client6, Event, Identity6, Lease6, Moment, Output6};
use model::MacAddr;
use proptest::prelude::*;
use rig::{MAC, START, chance};

const LINK: u32 = 7;
const DUID: [u8; 4] = [0, 4, 9, 9];
const SERVER: [u8; 6] = [0, 3, 0, 1, 5, 5];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 1, 1];

fn mac() -> MacAddr {
    MacAddr::new(MAC).unwrap()
}

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn association(renew: u32, rebind: u32, address: Ipv6Addr, preferred: u32, valid: u32) -> Vec<u8> {
    let inner = [&address.octets()[..], &preferred.to_be_bytes(), &valid.to_be_bytes()].concat();
    let head = [LINK, renew, rebind].map(u32::to_be_bytes).concat();
    option(3, &[head, option(5, &inner)].concat())
}

/// A frame from the router, with any payload that ICMPv6 or UDP carries.
fn frame(protocol: u8, hops: u8, source: Ipv6Addr, mut payload: Vec<u8>, sum_at: usize) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let to = mac().link_local();
    let words = |bytes: &[u8]| {
        let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        bytes.chunks(2).map(pair).sum::<u32>()
    };
    let mut sum =
        words(&source.octets()) + words(&to.octets()) + payload.len() as u32 + u32::from(protocol) + words(&payload);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    payload[sum_at..sum_at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    [
        &MAC[..],
        &ROUTER,
        &[0x86, 0xdd, 0x60, 0, 0, 0],
        &length,
        &[protocol, hops],
        &source.octets(),
        &to.octets(),
        &payload,
    ]
    .concat()
}

fn datagram(message: &[u8]) -> Vec<u8> {
    let head = [547, 546, 8 + message.len() as u16, 0].map(u16::to_be_bytes).concat();
    frame(17, 64, ip("fe80::1"), [head, message.to_vec()].concat(), 6)
}

fn advertisement(flags: u8, options: &[u8]) -> Vec<u8> {
    let head = [134, 0, 0, 0, 64, flags, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    frame(58, 255, ip("fe80::1"), [&head[..], options].concat(), 2)
}

struct Six {
    client: Client6,
    now: Moment,
    lines: Vec<String>,
    transaction: [u8; 3],
}

impl Six {
    fn new(begin: Begin6) -> Self {
        let identity = Identity6 { mac: mac(), duid: DUID.to_vec(), link: LINK };
        let client = Client6::new(identity, begin, chance(3), START);
        let mut six = Self { client, now: START, lines: Vec::new(), transaction: [0; 3] };
        six.drain();
        six
    }

    fn run(&mut self, until: f64) -> &mut Self {
        let end = START + Duration::from_secs_f64(until);
        while let Some(next) = self.client.deadline().filter(|next| *next <= end) {
            self.now = next;
            self.client.handle(Event::Tick, self.now);
            self.drain();
        }
        self.now = end;
        self
    }

    fn hear(&mut self, frame: &[u8]) -> &mut Self {
        self.client.handle(Event::Frame(frame), self.now);
        self.drain();
        self
    }

    fn reply(&mut self, kind: u8, options: &[Vec<u8>]) -> &mut Self {
        let usual = [option(1, &DUID), option(2, &SERVER)].concat();
        let message = [&[kind][..], &self.transaction, &usual, &options.concat()].concat();
        self.hear(&datagram(&message))
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.poll() {
            let line = match output {
                Output6::Frame(frame) if frame[20] == 58 => {
                    if frame[54] == 133 {
                        "asks routers".to_owned()
                    } else {
                        "probes".to_owned()
                    }
                }
                Output6::Frame(frame) => {
                    assert_eq!(frame[54..58], [2, 34, 2, 35]);
                    self.transaction = frame[63..66].try_into().unwrap();
                    let names = [
                        "",
                        "SOLICIT",
                        "",
                        "REQUEST",
                        "",
                        "RENEW",
                        "REBIND",
                        "",
                        "RELEASE",
                        "DECLINE",
                        "",
                        "INFORMATION",
                    ];
                    names[usize::from(frame[62])].to_owned()
                }
                Output6::Leased(lease) => format!("leased {}", lease.address),
                Output6::Lost => "lost".to_owned(),
                Output6::Told { dns, search } => format!("told {dns:?} {search:?}"),
            };
            self.lines.push(line);
        }
    }

    fn said(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.lines), expected);
        self
    }
}

/// A client that has an address for 100 s.
fn bound() -> Six {
    let mut six = Six::new(Begin6::Ask(None));
    let lent = association(0, 0, ip("2001:db8::9"), 80, 100);
    six.hear(&advertisement(0x80, &[])).said(&["asks routers", "SOLICIT"]);
    six.reply(2, std::slice::from_ref(&lent)).said(&[]);
    six.run(1.5).said(&["REQUEST"]);
    six.reply(7, &[lent, option(23, &ip("2001:db8::53").octets())]).said(&["probes"]);
    six.run(4.0).said(&["leased 2001:db8::9"]);
    six
}

#[test]
fn a_managed_link_lends_an_address_after_a_probe_and_takes_it_back() {
    let mut six = bound();
    assert_eq!(six.client.lease().unwrap().dns, [ip("2001:db8::53")]);
    assert!(!six.client.is_listening());
    six.client.handle(Event::Release, six.now);
    six.drain();
    six.said(&["RELEASE"]);
    assert_eq!(six.client.deadline(), None);
}

#[test]
fn routers_are_asked_three_times_and_heard_for_ever() {
    let mut six = Six::new(Begin6::Ask(None));
    six.run(3600.0).said(&["asks routers", "asks routers", "asks routers"]);
    assert!(six.client.is_listening());
    six.hear(&advertisement(0x80, &[])).said(&["SOLICIT"]);
}

#[test]
fn an_unmanaged_link_lends_nothing_and_other_things_are_asked_for_once() {
    let mut six = Six::new(Begin6::Ask(None));
    let servers = [&[25, 3, 0, 0, 0, 0, 1, 0][..], &ip("2001:db8::53").octets()].concat();
    let domains = [&[31, 2, 0, 0, 0, 0, 1, 0][..], b"\x03lan\0\0\0\0"].concat();
    six.hear(&advertisement(0, &[servers, domains].concat()));
    six.said(&["asks routers", "told [2001:db8::53] [DnsName(\"lan\")]"]);
    six.hear(&advertisement(0x40, &[])).said(&["INFORMATION"]);
    six.reply(7, &[option(23, &ip("2001:db8::54").octets())]).said(&["told [2001:db8::54] []"]);
    six.hear(&advertisement(0x40, &[])).run(3600.0).said(&[]);
}

#[test]
fn a_lease_is_renewed_then_rebound_then_lost() {
    let mut six = bound();
    // Half of the preferred lifetime.
    six.run(43.0).said(&["RENEW"]);
    let lent = association(10, 20, ip("2001:db8::9"), 80, 100);
    six.reply(7, &[lent]).said(&["leased 2001:db8::9"]);
    assert_eq!(six.client.deadline().map(|next| (next - six.now).as_secs()), Some(7));
    six.run(150.0);
    assert_eq!(six.lines.first().map(String::as_str), Some("RENEW"));
    let rebinds = six.lines.iter().filter(|line| *line == "REBIND").count();
    assert!((2..6).contains(&rebinds), "{:?}", six.lines);
    assert!(six.lines.contains(&"lost".to_owned()) && six.lines.last().is_some_and(|line| line == "SOLICIT"));
    // Of a server that does not know it any more.
    let mut six = bound();
    six.run(43.0).said(&["RENEW"]);
    six.reply(7, &[option(13, &[0, 3])]).said(&["lost"]);
}

/// Found by the fuzzer `dhcp6`.
#[test]
fn what_an_answer_that_took_long_leaves_due_is_done_at_once() {
    let mut six = bound();
    six.run(43.0).said(&["RENEW"]).run(48.0).said(&[]);
    six.reply(7, &[association(5, 6, ip("2001:db8::9"), 80, 100)]).said(&["leased 2001:db8::9", "REBIND"]);
    assert!(six.client.deadline().is_some_and(|next| next > six.now));
}

#[test]
fn an_address_that_somebody_has_is_declined() {
    let mut six = Six::new(Begin6::Ask(None));
    let lent = association(0, 0, ip("2001:db8::9"), 80, 100);
    six.hear(&advertisement(0xc0, &[]));
    six.reply(2, &[lent.clone(), option(7, &[255])]).said(&["asks routers", "SOLICIT", "REQUEST"]);
    six.reply(7, &[lent]).said(&["probes"]);
    let claim = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &ip("2001:db8::9").octets()].concat();
    six.hear(&frame(58, 255, ip("2001:db8::9"), claim, 2)).said(&["DECLINE"]);
    six.run(5.0).said(&[]).run(10.5).said(&["SOLICIT"]);
}

#[test]
fn what_is_not_for_us_is_not_believed() {
    let lent = association(0, 0, ip("2001:db8::9"), 80, 100);
    let mut six = Six::new(Begin6::Ask(None));
    // From another link, from no router, with a broken sum.
    let head = [134, 0, 0, 0, 64, 0x80, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    six.hear(&frame(58, 64, ip("fe80::1"), head.clone(), 2));
    six.hear(&frame(58, 255, ip("2001:db8::1"), head, 2));
    let mut broken = advertisement(0x80, &[]);
    broken[60] ^= 1;
    six.hear(&broken).said(&["asks routers"]);
    six.hear(&advertisement(0x80, &[])).said(&["SOLICIT"]);
    let message = |transaction: &[u8], client: &[u8], rest: &[u8]| {
        datagram(&[&[2][..], transaction, &option(1, client), &option(2, &SERVER), rest, &option(7, &[255])].concat())
    };
    let (number, other) = (six.transaction, [6, 6, 6]);
    let bad = [
        association(0, 0, ip("fe80::9"), 80, 100),
        association(0, 0, ip("2001:db8::9"), 100, 80),
        association(0, 0, ip("2001:db8::9"), 0, 0),
    ];
    six.hear(&message(&other, &DUID, &lent)).hear(&message(&number, &[1], &lent)).said(&[]);
    for bad in &bad {
        six.hear(&message(&number, &DUID, bad));
    }
    six.said(&[]).hear(&message(&number, &DUID, &lent)).said(&["REQUEST"]);
}

#[test]
fn another_process_goes_on() {
    let lease = bound().client.lease().unwrap().clone();
    let resume = |elapsed| {
        let obtained = START - Duration::from_secs(elapsed);
        Six::new(Begin6::Resume(Lease6 { obtained, ..lease.clone() }))
    };
    resume(39).said(&[]);
    resume(41).said(&["RENEW"]);
    resume(70).said(&["REBIND"]);
    resume(100).said(&["lost", "SOLICIT"]);
}

#[derive(Debug, Clone)]
enum Step {
    Bytes(Vec<u8>),
    Icmp(Vec<u8>),
    Message(Vec<u8>),
    Reply(u8, Vec<u8>),
    Time(u32),
    Release,
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..120);
    prop_oneof![
        1 => bytes().prop_map(Step::Bytes),
        2 => (prop::sample::select(vec![134_u8, 135, 136]), bytes()).prop_map(|(kind, mut rest)| { rest.splice(0..0, [kind, 0, 0, 0]); Step::Icmp(rest) }),
        2 => (any::<u8>(), bytes()).prop_map(|(flags, rest)| Step::Icmp([&[134, 0, 0, 0, 64, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &rest].concat())),
        1 => bytes().prop_map(Step::Message),
        4 => (prop::sample::select(vec![2_u8, 7]), bytes()).prop_map(|(kind, rest)| Step::Reply(kind, rest)),
        4 => (prop::sample::select(vec![2_u8, 7]), any::<[u32; 4]>()).prop_map(|(kind, [a, b, c, d])| Step::Reply(kind, association(a, b, ip("2001:db8::9"), c, d))),
        3 => prop_oneof![0..2_000_u32, 0..20_000_000_u32].prop_map(Step::Time),
        1 => Just(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_can_be_read(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Reply6::read(&octets, LINK);
        prop_assert!(!matches!(frame6::read(&octets, MAC), Some(Heard6::Message(m)) if m.len() > octets.len()));
    }

    #[test]
    fn a_client_outlives_whatever_it_hears(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut six = Six::new(Begin6::Ask(None));
        let count = steps.len();
        for step in steps {
            match step {
                Step::Bytes(octets) => {
                    six.hear(&octets);
                }
                Step::Icmp(payload) => {
                    six.hear(&frame(58, 255, ip("fe80::1"), payload, 2));
                }
                Step::Message(message) => {
                    six.hear(&datagram(&message));
                }
                Step::Reply(kind, rest) => {
                    six.reply(kind, &[rest]);
                }
                Step::Time(ms) => {
                    six.now += Duration::from_millis(ms.into());
                    six.client.handle(Event::Tick, six.now);
                    six.drain();
                }
                Step::Release => {
                    six.client.handle(Event::Release, six.now);
                    six.drain();
                }
            }
            prop_assert!(six.client.deadline().is_none_or(|deadline| deadline > six.now), "{:?}", six.client);
        }
        prop_assert!(six.lines.len() <= 4 * count + 4);
    }
}
