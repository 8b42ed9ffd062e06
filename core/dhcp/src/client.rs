//! The machine: events in, outputs and a deadline out.

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use model::MacAddr;

use crate::frame::{self, BROADCAST, Heard, Mac};
use crate::lease::{Lease, Moment};
use crate::message::{Draft, Kind, Loan, Reply, Unusable};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The first pause between two broadcasts, and the longest (RFC 2131 section 4.1), each a second more or less.
const FIRST_PAUSE: Duration = seconds(4);
const LONGEST_PAUSE: Duration = seconds(64);

/// How long an answer to INIT-REBOOT is waited for: a server that knows nothing of the address says nothing.
const REBOOT_PATIENCE: Duration = seconds(2);

/// So many requests for an offer get no answer, then another offer is looked for.
const REQUESTS_MAX: u32 = 4;

/// ARP probes before an address is used, and how far they are apart.
const PROBES: u32 = 2;
const PROBE_PAUSE: Duration = Duration::from_millis(120);
/// Announcements when it is used, and the time between them (RFC 5227 section 1.1).
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_PAUSE: Duration = seconds(2);

/// After a DECLINE that was not the first (RFC 2131 section 3.1 number 5), and after many (RFC 5227 section 1.1).
const DECLINE_PAUSE: Duration = seconds(10);
const MANY_DECLINES: u32 = 10;
const RATE_LIMIT_PAUSE: Duration = seconds(60);

/// Between requests to renew: half of what is left, but not less than this (RFC 2131 section 4.4.5), or a tenth of a
/// short term.
const RENEWAL_PAUSE: Duration = seconds(60);

/// More silent or refusing servers than this are not remembered.
const SHUNNED_MAX: usize = 8;

/// Where numbers come from that nobody can guess. A seeded generator in tests.
pub struct Chance(Box<dyn FnMut() -> u32 + Send>);

impl Chance {
    /// Wraps a generator.
    pub fn new(next: impl FnMut() -> u32 + Send + 'static) -> Self {
        Self(Box::new(next))
    }

    pub(crate) fn number(&mut self) -> u32 {
        (self.0)()
    }

    /// `time`, up to a second less or more.
    fn about(&mut self, time: Duration) -> Duration {
        time - seconds(1) + Duration::from_millis((self.number() % 2001).into())
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance")
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The link's.
    pub mac: MacAddr,
    /// Option 61, its type included: what the server knows us by, whatever the MAC.
    pub client_id: Vec<u8>,
    /// Option 12.
    pub hostname: Option<String>,
}

/// Where a client begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// INIT.
    Discover {
        /// The address it would like to have.
        wished: Option<Ipv4Addr>,
    },
    /// INIT-REBOOT: it had this address and has not given it back.
    Reboot(Ipv4Addr),
    /// It has this lease, and its link has the address; another process looked after it until now.
    Resume(Lease),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A frame came in by the link. Only of interest while [`Client::is_listening`].
    Frame(&'a [u8]),
    /// The deadline is here.
    Tick,
    /// The address is not needed any more.
    Release,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this frame by the link.
    Frame(Vec<u8>),
    /// Send this datagram from port 68 of the leased address to port 67 of the server.
    Datagram {
        /// The leased address.
        from: Ipv4Addr,
        /// The server.
        to: Ipv4Addr,
        /// All of it.
        message: Vec<u8>,
    },
    /// The link has to have this address and what came along; at first, and again after each renewal.
    Leased(Lease),
    /// The link must not have it any more.
    Lost(Loss),
}

/// Why an address may not be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nobody renewed it in time.
    Ended,
    /// A server took it back.
    Refused,
    /// Another station has it.
    Contested,
}

/// Why there is no lease yet, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A server offered something, then refused it.
    Refused {
        /// Who.
        server: Ipv4Addr,
        /// In its own words.
        reason: Option<String>,
    },
    /// What a server offered has another station already.
    InUse {
        /// What.
        address: Ipv4Addr,
        /// Who.
        by: Mac,
    },
    /// An offer that is none.
    Unusable(Unusable),
    /// A server that offered something did not answer the request for it.
    Silent(Ipv4Addr),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { server, reason: None } => write!(f, "server {server} refused what it had offered"),
            Self::Refused { server, reason: Some(reason) } => write!(f, "server {server} refused: {reason:?}"),
            Self::InUse { address, by: [a, b, c, d, e, g] } => {
                write!(f, "the address {address} that was offered is in use by ")?;
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Self::Unusable(Unusable::Address(address)) => write!(f, "no host can have the offered address {address}"),
            Self::Unusable(Unusable::Mask) => f.write_str("the offered subnet mask is none"),
            Self::Unusable(Unusable::Term) => {
                write!(f, "the offered lease has no time, or less than {} seconds", crate::SHORTEST)
            }
            Self::Silent(server) => write!(f, "server {server} offered an address and was silent then"),
        }
    }
}

/// Where a client is (RFC 2131 figure 5).
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Waiting,
    Selecting,
    Requesting,
    Rebooting,
    Probing,
    Bound,
    Renewing,
    Rebinding,
    Released,
}

/// What was asked last, and when it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asking {
    transaction: u32,
    /// How often it was asked.
    tries: u32,
    /// When, the last time.
    sent: Moment,
    next: Moment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    server: Ipv4Addr,
    loan: Loan,
}

/// What is still to be announced of an address that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watch {
    announced: u32,
    next: Moment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting { until: Moment },
    Selecting { asking: Asking, spare: Option<Offer> },
    Requesting { asking: Asking, offer: Offer, spare: Option<Offer> },
    Rebooting { asking: Asking, address: Ipv4Addr },
    Probing { lease: Lease, sent: u32, next: Moment },
    Bound { lease: Lease, watch: Option<Watch> },
    Renewing { lease: Lease, asking: Asking },
    Rebinding { lease: Lease, asking: Asking },
    Released,
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    state: State,
    /// When it began to ask for what it has not got yet.
    begun: Moment,
    wished: Option<Ipv4Addr>,
    /// Servers that did not keep their word, the latest last.
    shunned: VecDeque<Ipv4Addr>,
    refusals: u32,
    declines: u32,
    trouble: Option<Trouble>,
    chance: Chance,
    out: VecDeque<Output>,
}

impl Client {
    /// A client that begins now.
    pub fn new(identity: Identity, begin: Begin, chance: Chance, now: Moment) -> Self {
        let mut client = Self {
            identity,
            state: State::Released,
            begun: now,
            wished: None,
            shunned: VecDeque::new(),
            refusals: 0,
            declines: 0,
            trouble: None,
            chance,
            out: VecDeque::new(),
        };
        match begin {
            Begin::Discover { wished } => {
                client.wished = wished;
                client.select(now);
            }
            Begin::Reboot(address) => client.reboot(address, now),
            Begin::Resume(lease) => {
                client.state = State::Bound { lease, watch: None };
                client.expire(now);
            }
        }
        client
    }

    /// Takes in what happened. Drain [`Self::poll`] after each event.
    pub fn handle(&mut self, event: Event<'_>, now: Moment) {
        if event == Event::Release {
            return self.release();
        }
        self.expire(now);
        if let Event::Frame(octets) = event {
            match frame::read(octets, self.mac()) {
                Some(Heard::Message { mac, message, .. }) => self.hear(mac, message, now),
                Some(Heard::Arp(arp)) => self.hear_arp(arp, now),
                None => {}
            }
            // A lease counts from when it was asked for: an answer that took long may leave something due at once.
            self.expire(now);
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Event::Tick`] is due; `None`: never.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Waiting { until: next } | State::Probing { next, .. } => Some(*next),
            State::Selecting { asking, .. } | State::Requesting { asking, .. } | State::Rebooting { asking, .. } => {
                Some(asking.next)
            }
            State::Bound { lease, watch } => earlier(watch.map(|watch| watch.next), lease.renew_at()),
            State::Renewing { lease, asking } => earlier(Some(asking.next), lease.rebind_at()),
            State::Rebinding { lease, asking } => earlier(Some(asking.next), lease.end()),
            State::Released => None,
        }
    }

    /// Does it want to hear frames?
    pub fn is_listening(&self) -> bool {
        !matches!(self.state, State::Waiting { .. } | State::Bound { watch: None, .. } | State::Released)
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        match self.state {
            State::Waiting { .. } => Stage::Waiting,
            State::Selecting { .. } => Stage::Selecting,
            State::Requesting { .. } => Stage::Requesting,
            State::Rebooting { .. } => Stage::Rebooting,
            State::Probing { .. } => Stage::Probing,
            State::Bound { .. } => Stage::Bound,
            State::Renewing { .. } => Stage::Renewing,
            State::Rebinding { .. } => Stage::Rebinding,
            State::Released => Stage::Released,
        }
    }

    /// What it has, once it may be used.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } | State::Renewing { lease, .. } | State::Rebinding { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// The last thing that went wrong since there was a lease.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    fn mac(&self) -> Mac {
        self.identity.mac.octets()
    }

    /// Goes on where time has come; a long sleep may have passed several moments.
    fn expire(&mut self, now: Moment) {
        // Each step leads to a state whose deadline is later, but for those that a sleep has passed: at most
        // Bound, the end, Selecting.
        for _ in 0..4 {
            if self.deadline().is_none_or(|deadline| deadline > now) {
                return;
            }
            self.step(now);
        }
    }

    /// The deadline is here.
    fn step(&mut self, now: Moment) {
        match std::mem::replace(&mut self.state, State::Released) {
            State::Waiting { .. } => self.select(now),
            State::Selecting { asking, spare: Some(offer) } => self.request(offer, asking.transaction, now),
            State::Selecting { asking, spare: None } => self.discover(asking, now),
            State::Requesting { asking, offer, spare } => self.request_again(asking, offer, spare, now),
            State::Rebooting { address, .. } => {
                self.wished = Some(address);
                self.select(now);
            }
            State::Probing { lease, sent, .. } if sent < PROBES => self.probe(lease, sent, now),
            State::Probing { lease, .. } => self.bind(lease, now),
            State::Bound { lease, watch } => self.step_bound(lease, watch, now),
            State::Renewing { lease, asking } => self.renew(lease, Some(asking), now),
            State::Rebinding { lease, asking } => self.renew(lease, Some(asking), now),
            State::Released => {}
        }
    }

    fn step_bound(&mut self, lease: Lease, watch: Option<Watch>, now: Moment) {
        match watch.filter(|watch| watch.next <= now) {
            Some(watch) if watch.announced < ANNOUNCEMENTS => self.announce(lease, watch.announced, now),
            Some(_) => {
                (self.refusals, self.declines) = (0, 0);
                self.state = State::Bound { lease, watch: None };
            }
            None => self.renew(lease, None, now),
        }
    }

    // --- without an address

    fn select(&mut self, now: Moment) {
        self.begun = now;
        let transaction = self.chance.number();
        self.discover(Asking { transaction, tries: 0, sent: now, next: now }, now);
    }

    fn discover(&mut self, asking: Asking, now: Moment) {
        let asking = self.again(asking, now);
        let draft = Draft { requested: self.wished, ..self.draft(Kind::Discover, asking.transaction, now) };
        let message = draft.write();
        self.broadcast(Ipv4Addr::UNSPECIFIED, &message);
        self.state = State::Selecting { asking, spare: None };
    }

    fn reboot(&mut self, address: Ipv4Addr, now: Moment) {
        let transaction = self.chance.number();
        let draft = Draft { requested: Some(address), ..self.draft(Kind::Request, transaction, now) };
        let message = draft.write();
        self.broadcast(Ipv4Addr::UNSPECIFIED, &message);
        let asking = Asking { transaction, tries: 1, sent: now, next: now + REBOOT_PATIENCE };
        self.state = State::Rebooting { asking, address };
    }

    fn request(&mut self, offer: Offer, transaction: u32, now: Moment) {
        self.send_request(Asking { transaction, tries: 0, sent: now, next: now }, offer, None, now);
    }

    fn send_request(&mut self, asking: Asking, offer: Offer, spare: Option<Offer>, now: Moment) {
        let asking = self.again(asking, now);
        let draft = Draft {
            requested: Some(offer.loan.address),
            server: Some(offer.server),
            ..self.draft(Kind::Request, asking.transaction, now)
        };
        let message = draft.write();
        self.broadcast(Ipv4Addr::UNSPECIFIED, &message);
        self.state = State::Requesting { asking, offer, spare };
    }

    /// The server whose offer we took is silent.
    fn request_again(&mut self, asking: Asking, offer: Offer, spare: Option<Offer>, now: Moment) {
        match spare {
            None if asking.tries < REQUESTS_MAX => self.send_request(asking, offer, None, now),
            other => {
                self.shun(offer.server, Trouble::Silent(offer.server));
                match other {
                    Some(other) => self.request(other, asking.transaction, now),
                    None => self.select(now),
                }
            }
        }
    }

    fn shun(&mut self, server: Ipv4Addr, trouble: Trouble) {
        self.trouble = Some(trouble);
        if !self.shunned.contains(&server) {
            self.shunned.push_back(server);
        }
        if self.shunned.len() > SHUNNED_MAX {
            self.shunned.pop_front();
        }
    }

    /// Begins anew when `pause` is over.
    fn wait(&mut self, pause: Duration, now: Moment) {
        if pause.is_zero() {
            return self.select(now);
        }
        self.state = State::Waiting { until: now + pause };
    }

    /// The next time of the same question: 4, 8, 16, 32, 64, 64 … s later.
    fn again(&mut self, asking: Asking, now: Moment) -> Asking {
        let pause = FIRST_PAUSE.saturating_mul(1 << asking.tries.min(4)).min(LONGEST_PAUSE);
        Asking { tries: asking.tries.saturating_add(1), sent: now, next: now + self.chance.about(pause), ..asking }
    }

    // --- with an address

    fn probe(&mut self, lease: Lease, sent: u32, now: Moment) {
        let probe = frame::write_arp(self.mac(), Ipv4Addr::UNSPECIFIED, lease.address);
        self.out.push_back(Output::Frame(probe));
        self.state = State::Probing { lease, sent: sent + 1, next: now + PROBE_PAUSE };
    }

    fn bind(&mut self, lease: Lease, now: Moment) {
        self.trouble = None;
        self.shunned.clear();
        self.wished = Some(lease.address);
        self.out.push_back(Output::Leased(lease.clone()));
        self.announce(lease, 0, now);
    }

    fn announce(&mut self, lease: Lease, announced: u32, now: Moment) {
        let announcement = frame::write_arp(self.mac(), lease.address, lease.address);
        self.out.push_back(Output::Frame(announcement));
        let watch = Some(Watch { announced: announced + 1, next: now + ANNOUNCE_PAUSE });
        self.state = State::Bound { lease, watch };
    }

    /// T1, T2 or the end is here, or it is time to ask again.
    fn renew(&mut self, lease: Lease, asking: Option<Asking>, now: Moment) {
        let is_over = |moment: Option<Moment>| moment.is_some_and(|moment| moment <= now);
        if is_over(lease.end()) {
            self.wished = Some(lease.address);
            self.out.push_back(Output::Lost(Loss::Ended));
            return self.select(now);
        }
        let rebinds = is_over(lease.rebind_at());
        let limit = if rebinds { lease.end() } else { lease.rebind_at() };
        if asking.is_none() {
            self.begun = now;
        }
        let transaction = asking.map_or_else(|| self.chance.number(), |asking| asking.transaction);
        let tries = asking.map_or(0, |asking| asking.tries).saturating_add(1);
        let asking = Asking { transaction, tries, sent: now, next: now + renewal_pause(&lease, limit, now) };
        let draft = Draft { client: Some(lease.address), ..self.draft(Kind::Request, transaction, now) };
        let message = draft.write();
        if rebinds {
            self.broadcast(lease.address, &message);
            self.state = State::Rebinding { lease, asking };
        } else {
            self.out.push_back(Output::Datagram { from: lease.address, to: lease.server, message });
            self.state = State::Renewing { lease, asking };
        }
    }

    fn release(&mut self) {
        let lease = match std::mem::replace(&mut self.state, State::Released) {
            State::Probing { lease, .. }
            | State::Bound { lease, .. }
            | State::Renewing { lease, .. }
            | State::Rebinding { lease, .. } => lease,
            _ => return,
        };
        let transaction = self.chance.number();
        let draft = Draft {
            client: Some(lease.address),
            server: Some(lease.server),
            seconds: 0,
            ..self.draft(Kind::Release, transaction, self.begun)
        };
        let message = draft.write();
        // In one frame to where its messages came from: the link may be gone before ARP had an answer.
        self.send(lease.server_mac, lease.address, lease.server, &message);
    }

    /// Another station has the address.
    fn decline(&mut self, lease: &Lease, by: Mac, now: Moment) {
        let transaction = self.chance.number();
        let draft = Draft {
            requested: Some(lease.address),
            server: Some(lease.server),
            ..self.draft(Kind::Decline, transaction, now)
        };
        let message = draft.write();
        self.broadcast(Ipv4Addr::UNSPECIFIED, &message);
        self.trouble = Some(Trouble::InUse { address: lease.address, by });
        self.wished = None;
        self.declines = self.declines.saturating_add(1);
        let pause = match self.declines {
            1 => Duration::ZERO,
            few if few < MANY_DECLINES => DECLINE_PAUSE,
            _ => RATE_LIMIT_PAUSE,
        };
        self.wait(pause, now);
    }

    // --- what is heard

    fn hear(&mut self, mac: Mac, message: &[u8], now: Moment) {
        let asking = match &self.state {
            State::Selecting { asking, .. }
            | State::Requesting { asking, .. }
            | State::Rebooting { asking, .. }
            | State::Renewing { asking, .. }
            | State::Rebinding { asking, .. } => *asking,
            State::Waiting { .. } | State::Probing { .. } | State::Bound { .. } | State::Released => return,
        };
        let Some(reply) = Reply::read(message) else { return };
        let Some(server) = reply.server else { return };
        if reply.transaction != asking.transaction || reply.mac != self.mac() {
            return;
        }
        match reply.kind {
            Kind::Offer => self.offered(server, reply.loan, now),
            Kind::Ack => self.acknowledged(server, mac, reply.loan, asking.sent, now),
            _ => self.refused(server, reply.reason, now),
        }
    }

    fn offered(&mut self, server: Ipv4Addr, loan: Result<Loan, Unusable>, now: Moment) {
        let loan = match loan {
            Ok(loan) => loan,
            Err(unusable) => {
                if self.stage() == Stage::Selecting {
                    self.trouble = Some(Trouble::Unusable(unusable));
                }
                return;
            }
        };
        let is_shunned = self.shunned.contains(&server);
        let offer = Offer { server, loan };
        match &mut self.state {
            State::Selecting { spare, .. } if is_shunned => *spare = Some(offer),
            State::Selecting { asking, .. } => {
                let transaction = asking.transaction;
                self.request(offer, transaction, now);
            }
            State::Requesting { offer: taken, spare, .. } if taken.server != server && !is_shunned => {
                spare.get_or_insert(offer);
            }
            _ => {}
        }
    }

    fn acknowledged(
        &mut self,
        server: Ipv4Addr,
        server_mac: Mac,
        loan: Result<Loan, Unusable>,
        asked: Moment,
        now: Moment,
    ) {
        let Ok(Loan { address, length, term, configuration }) = loan else { return };
        let lease = Lease { address, length, server, server_mac, obtained: asked, term, configuration };
        match &self.state {
            State::Requesting { offer, .. } if offer.server == server && offer.loan.address == address => {
                self.probe(lease, 0, now);
            }
            State::Rebooting { address: ours, .. } if *ours == address => self.probe(lease, 0, now),
            State::Renewing { lease: old, .. } if old.server == server && old.address == address => self.renewed(lease),
            State::Rebinding { lease: old, .. } if old.address == address => self.renewed(lease),
            _ => {}
        }
    }

    fn renewed(&mut self, lease: Lease) {
        self.out.push_back(Output::Leased(lease.clone()));
        self.state = State::Bound { lease, watch: None };
    }

    fn refused(&mut self, server: Ipv4Addr, reason: Option<String>, now: Moment) {
        let asking = match &mut self.state {
            State::Requesting { asking, offer, spare } if offer.server == server => {
                let (transaction, spare) = (asking.transaction, spare.take());
                self.shun(server, Trouble::Refused { server, reason });
                if let Some(other) = spare {
                    return self.request(other, transaction, now);
                }
                true
            }
            State::Rebooting { .. } => true,
            State::Renewing { lease, .. } if lease.server == server => false,
            State::Rebinding { .. } => false,
            _ => return,
        };
        if !asking {
            self.out.push_back(Output::Lost(Loss::Refused));
        }
        self.wished = None;
        self.refusals = self.refusals.saturating_add(1);
        // The first is a change of mind; a server that goes on so is asked 1, 2, 4 … 64 s later.
        let pause = self.refusals.checked_sub(2).map_or(Duration::ZERO, |n| seconds(1 << n.min(6)));
        self.wait(pause, now);
    }

    fn hear_arp(&mut self, arp: frame::Arp, now: Moment) {
        let ours = self.mac();
        match &self.state {
            State::Probing { lease, .. } if arp.contests(lease.address, ours) => {
                let lease = lease.clone();
                self.decline(&lease, arp.mac, now);
            }
            // By now the kernel answers those who only ask.
            State::Bound { lease, watch: Some(_) } if arp.sender == lease.address && arp.mac != ours => {
                let lease = lease.clone();
                self.out.push_back(Output::Lost(Loss::Contested));
                self.decline(&lease, arp.mac, now);
            }
            _ => {}
        }
    }

    // --- what is sent

    fn draft(&self, kind: Kind, transaction: u32, now: Moment) -> Draft<'_> {
        let seconds = now.saturating_sub(self.begun).as_secs().min(u16::MAX.into()) as u16;
        Draft {
            kind,
            transaction,
            seconds,
            mac: self.mac(),
            client: None,
            requested: None,
            server: None,
            client_id: &self.identity.client_id,
            hostname: self.identity.hostname.as_deref(),
        }
    }

    fn broadcast(&mut self, from: Ipv4Addr, message: &[u8]) {
        self.send(BROADCAST, from, Ipv4Addr::BROADCAST, message);
    }

    fn send(&mut self, mac: Mac, from: Ipv4Addr, to: Ipv4Addr, message: &[u8]) {
        self.out.push_back(Output::Frame(frame::write_message(self.mac(), mac, from, to, message)));
    }
}

fn earlier(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    a.into_iter().chain(b).min()
}

/// Until the next request to renew or rebind: half of what is left until `limit`.
fn renewal_pause(lease: &Lease, limit: Option<Moment>, now: Moment) -> Duration {
    let term = lease.term.seconds.map_or(RENEWAL_PAUSE, |term| seconds(term.into()));
    let least = (term / 10).clamp(seconds(1), RENEWAL_PAUSE);
    limit.map_or(least, |limit| (limit.saturating_sub(now) / 2).max(least))
}
