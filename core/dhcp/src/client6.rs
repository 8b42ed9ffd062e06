//! The machine of IPv6: routers say whether addresses are lent, servers lend them.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

use model::{DnsName, MacAddr};
use serde::{Deserialize, Serialize};

use crate::frame6::{self, Heard6, Router};
use crate::message6::{Association, Draft6, Kind6, Reply6};
use crate::{Chance, Event, Moment, SHORTEST};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// RFC 4861 section 10.
const ROUTER_QUESTIONS: u32 = 3;
const ROUTER_PAUSE: Duration = seconds(4);
/// RetransTimer (RFC 4861 section 10): how long an answer to a probe may take.
const PROBE_PAUSE: Duration = seconds(1);
/// As with IPv4: after the first DECLINE.
const DECLINE_PAUSE: Duration = seconds(10);
const FOR_EVER: u32 = u32::MAX;

/// How a question is repeated (RFC 8415 sections 7.6 and 15).
struct Pace {
    first: Duration,
    longest: Duration,
    tries: u32,
}

const SOLICIT: Pace = Pace { first: seconds(1), longest: seconds(3600), tries: u32::MAX };
const REQUEST: Pace = Pace { first: seconds(1), longest: seconds(30), tries: 10 };
const RENEW: Pace = Pace { first: seconds(10), longest: seconds(600), tries: u32::MAX };
const INFORM: Pace = Pace { first: seconds(1), longest: seconds(3600), tries: u32::MAX };

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity6 {
    /// The link's; its link-local address follows from it.
    pub mac: MacAddr,
    /// The DUID.
    pub duid: Vec<u8>,
    /// The IAID: which of its links.
    pub link: u32,
}

/// Where a client begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin6 {
    /// With a question to the routers; the address it would like to have.
    Ask(Option<Ipv6Addr>),
    /// It has this lease, and its link has the address.
    Resume(Lease6),
}

/// An address that is lent to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease6 {
    /// The address; which prefix is on the link, routers say.
    pub address: Ipv6Addr,
    /// Who lent it.
    pub server: Vec<u8>,
    /// When we asked for it.
    pub obtained: Moment,
    /// Seconds until the server is asked to renew (T1).
    pub renew: u32,
    /// Seconds until any server is asked (T2).
    pub rebind: u32,
    /// Seconds until it ends; all ones: never.
    pub valid: u32,
    /// Whom to ask for names.
    pub dns: Vec<Ipv6Addr>,
    /// Where to look for them.
    pub search: Vec<DnsName>,
}

impl Lease6 {
    /// When it ends; `None`: never.
    pub fn end(&self) -> Option<Moment> {
        self.after(self.valid)
    }

    fn after(&self, time: u32) -> Option<Moment> {
        (time != FOR_EVER).then(|| self.obtained + seconds(time.into()))
    }

    fn new(reply: &Reply6, association: &Association, obtained: Moment) -> Option<Self> {
        let (address, preferred, valid) = *association.addresses.first()?;
        if valid < SHORTEST {
            return None;
        }
        // Section 21.4: what is 0 or in no order, the client chooses: 0.5 and 0.8 of the preferred lifetime.
        let base = if preferred < SHORTEST { valid } else { preferred };
        let part =
            |tenths: u32| if base == FOR_EVER { FOR_EVER } else { (u64::from(base) * u64::from(tenths) / 10) as u32 };
        let (asked, later) = (association.renew, association.rebind);
        let is_good = asked >= 2 && asked < later && later < valid;
        let (renew, rebind) = if is_good { (asked, later) } else { (part(5), part(8)) };
        let (dns, search) = (reply.dns.clone(), reply.search.clone());
        Some(Self { address, server: reply.server.clone(), obtained, renew, rebind, valid, dns, search })
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output6 {
    /// Send this frame by the link.
    Frame(Vec<u8>),
    /// The link has to have this address.
    Leased(Lease6),
    /// The link must not have it any more.
    Lost,
    /// What was told about names, without an address.
    Told {
        /// Whom to ask.
        dns: Vec<Ipv6Addr>,
        /// Where to look.
        search: Vec<DnsName>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asking {
    transaction: u32,
    tries: u32,
    pause: Duration,
    sent: Moment,
    next: Moment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Routers are asked, then listened to.
    Listening {
        asked: u32,
        next: Option<Moment>,
    },
    Soliciting {
        asking: Asking,
        best: Option<Reply6>,
    },
    Requesting {
        asking: Asking,
        server: Vec<u8>,
        address: Ipv6Addr,
    },
    Informing {
        asking: Asking,
    },
    Probing {
        lease: Lease6,
        until: Moment,
    },
    Waiting {
        until: Moment,
    },
    Bound {
        lease: Lease6,
    },
    Renewing {
        lease: Lease6,
        asking: Asking,
    },
    Rebinding {
        lease: Lease6,
        asking: Asking,
    },
    Released,
}

/// The client of one link.
#[derive(Debug)]
pub struct Client6 {
    identity: Identity6,
    state: State,
    begun: Moment,
    wished: Option<Ipv6Addr>,
    /// What routers said last.
    router: Option<Router>,
    chance: Chance,
    out: VecDeque<Output6>,
}

impl Client6 {
    /// A client that begins now.
    pub fn new(identity: Identity6, begin: Begin6, chance: Chance, now: Moment) -> Self {
        let (state, wished) = match begin {
            Begin6::Ask(wished) => (State::Listening { asked: 0, next: Some(now) }, wished),
            Begin6::Resume(lease) => (State::Bound { lease }, None),
        };
        let mut new = Self { identity, state, begun: now, wished, router: None, chance, out: VecDeque::new() };
        new.expire(now);
        new
    }

    /// Takes in what happened. Drain [`Self::poll`] after each event.
    pub fn handle(&mut self, event: Event<'_>, now: Moment) {
        if event == Event::Release {
            return self.release(now);
        }
        self.expire(now);
        if let Event::Frame(octets) = event {
            match frame6::read(octets, self.identity.mac.octets()) {
                Some(Heard6::Message(message)) => self.hear(message, now),
                Some(Heard6::Router(router)) => self.hear_router(router, now),
                Some(Heard6::Taken(address)) => self.hear_taken(address, now),
                None => {}
            }
            // A lease counts from when it was asked for: an answer that took long may leave something due at once.
            self.expire(now);
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output6> {
        self.out.pop_front()
    }

    /// When [`Event::Tick`] is due; `None`: never.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Listening { next, .. } => *next,
            State::Soliciting { asking, .. } | State::Requesting { asking, .. } | State::Informing { asking } => {
                Some(asking.next)
            }
            State::Probing { until, .. } | State::Waiting { until } => Some(*until),
            State::Bound { lease } => lease.after(lease.renew),
            State::Renewing { lease, asking } => lease.after(lease.rebind).into_iter().chain([asking.next]).min(),
            State::Rebinding { lease, asking } => lease.end().into_iter().chain([asking.next]).min(),
            State::Released => None,
        }
    }

    /// Does it want to hear frames?
    pub fn is_listening(&self) -> bool {
        !matches!(self.state, State::Bound { .. } | State::Waiting { .. } | State::Released)
    }

    /// What it has.
    pub fn lease(&self) -> Option<&Lease6> {
        match &self.state {
            State::Bound { lease } | State::Renewing { lease, .. } | State::Rebinding { lease, .. } => Some(lease),
            _ => None,
        }
    }

    fn expire(&mut self, now: Moment) {
        for _ in 0..4 {
            if self.deadline().is_none_or(|deadline| deadline > now) {
                return;
            }
            self.step(now);
        }
    }

    fn step(&mut self, now: Moment) {
        match std::mem::replace(&mut self.state, State::Released) {
            State::Listening { asked, .. } if asked < ROUTER_QUESTIONS => {
                self.out.push_back(Output6::Frame(frame6::write_router_question(self.identity.mac)));
                self.state = State::Listening { asked: asked + 1, next: Some(now + ROUTER_PAUSE) };
            }
            // They tell of themselves every few minutes.
            State::Listening { asked, .. } => self.state = State::Listening { asked, next: None },
            State::Soliciting { best: Some(best), .. } => self.request(&best, now),
            State::Soliciting { asking, best: None } => self.solicit(Some(asking), now),
            State::Requesting { asking, server, address } if asking.tries < REQUEST.tries => {
                self.send_request(Some(asking), server, address, now);
            }
            State::Requesting { .. } | State::Waiting { .. } => self.solicit(None, now),
            State::Informing { asking } => self.inform(Some(asking), now),
            State::Probing { lease, .. } => {
                self.out.push_back(Output6::Leased(lease.clone()));
                self.state = State::Bound { lease };
            }
            State::Bound { lease } => self.renew(lease, None, now),
            // Another message is another transaction.
            State::Renewing { lease, .. } if lease.after(lease.rebind).is_some_and(|rebind| rebind <= now) => {
                self.renew(lease, None, now);
            }
            State::Renewing { lease, asking } | State::Rebinding { lease, asking } => {
                self.renew(lease, Some(asking), now);
            }
            State::Released => {}
        }
    }

    fn hear_router(&mut self, router: Router, now: Moment) {
        let State::Listening { .. } = self.state else { return };
        // Told once: routers repeat themselves.
        if self.router.as_ref() == Some(&router) {
            return;
        }
        let (managed, other) = (router.managed, router.other);
        if !router.dns.is_empty() || !router.search.is_empty() {
            self.out.push_back(Output6::Told { dns: router.dns.clone(), search: router.search.clone() });
        }
        self.router = Some(router);
        match (managed, other) {
            (true, _) => self.solicit(None, now),
            (false, true) => self.inform(None, now),
            (false, false) => self.state = State::Listening { asked: ROUTER_QUESTIONS, next: None },
        }
    }

    fn solicit(&mut self, asking: Option<Asking>, now: Moment) {
        let asking = self.ask(asking, &SOLICIT, now);
        let draft = Draft6 { address: self.wished, ..self.draft(Kind6::Solicit, &asking, now) };
        let message = draft.write();
        self.send(&message);
        self.state = State::Soliciting { asking, best: None };
    }

    fn request(&mut self, advertised: &Reply6, now: Moment) {
        let address = advertised.association.as_ref().and_then(|association| association.addresses.first());
        match address {
            Some((address, ..)) => self.send_request(None, advertised.server.clone(), *address, now),
            None => self.solicit(None, now),
        }
    }

    fn send_request(&mut self, asking: Option<Asking>, server: Vec<u8>, address: Ipv6Addr, now: Moment) {
        let asking = self.ask(asking, &REQUEST, now);
        let draft =
            Draft6 { server: Some(&server), address: Some(address), ..self.draft(Kind6::Request, &asking, now) };
        let message = draft.write();
        self.send(&message);
        self.state = State::Requesting { asking, server, address };
    }

    fn inform(&mut self, asking: Option<Asking>, now: Moment) {
        let asking = self.ask(asking, &INFORM, now);
        let message = Draft6 { association: None, ..self.draft(Kind6::Information, &asking, now) }.write();
        self.send(&message);
        self.state = State::Informing { asking };
    }

    /// T1, T2 or the end is here, or it is time to ask again.
    fn renew(&mut self, lease: Lease6, asking: Option<Asking>, now: Moment) {
        let is_over = |moment: Option<Moment>| moment.is_some_and(|moment| moment <= now);
        if is_over(lease.end()) {
            self.wished = Some(lease.address);
            self.out.push_back(Output6::Lost);
            return self.solicit(None, now);
        }
        let rebinds = is_over(lease.after(lease.rebind));
        let asking = self.ask(asking, &RENEW, now);
        let kind = if rebinds { Kind6::Rebind } else { Kind6::Renew };
        let server = (!rebinds).then_some(&lease.server[..]);
        let message = Draft6 { server, address: Some(lease.address), ..self.draft(kind, &asking, now) }.write();
        self.send(&message);
        self.state = match rebinds {
            true => State::Rebinding { lease, asking },
            false => State::Renewing { lease, asking },
        };
    }

    fn release(&mut self, now: Moment) {
        let lease = match std::mem::replace(&mut self.state, State::Released) {
            State::Probing { lease, .. }
            | State::Bound { lease }
            | State::Renewing { lease, .. }
            | State::Rebinding { lease, .. } => lease,
            _ => return,
        };
        self.give_up(Kind6::Release, &lease, now);
    }

    fn give_up(&mut self, kind: Kind6, lease: &Lease6, now: Moment) {
        let asking = self.ask(None, &REQUEST, now);
        let draft =
            Draft6 { server: Some(&lease.server), address: Some(lease.address), ..self.draft(kind, &asking, now) };
        let message = draft.write();
        self.send(&message);
    }

    fn hear(&mut self, message: &[u8], now: Moment) {
        let asking = match &self.state {
            State::Soliciting { asking, .. }
            | State::Requesting { asking, .. }
            | State::Informing { asking }
            | State::Renewing { asking, .. }
            | State::Rebinding { asking, .. } => *asking,
            _ => return,
        };
        let Some(reply) = Reply6::read(message, self.identity.link) else { return };
        if reply.transaction != asking.transaction || reply.client != self.identity.duid || reply.server.is_empty() {
            return;
        }
        let lease = reply.association.as_ref().and_then(|association| Lease6::new(&reply, association, asking.sent));
        let lease = lease.filter(|_| reply.success);
        match (&mut self.state, reply.is_reply) {
            (State::Soliciting { best, .. }, false) if lease.is_some() => {
                if best.as_ref().is_none_or(|best| best.preference < reply.preference) {
                    *best = Some(reply);
                }
                // Others have the first pause to answer, too (section 18.2.1).
                if let State::Soliciting { asking, best: Some(best) } = &self.state
                    && (best.preference == u8::MAX || asking.tries > 1)
                {
                    let best = best.clone();
                    self.request(&best, now);
                }
            }
            (State::Requesting { server, .. }, true) if *server == reply.server => match lease {
                Some(lease) => {
                    self.out.push_back(Output6::Frame(frame6::write_probe(self.identity.mac, lease.address)));
                    self.state = State::Probing { lease, until: now + PROBE_PAUSE };
                }
                None => self.state = State::Waiting { until: now + DECLINE_PAUSE },
            },
            (State::Informing { .. }, true) => {
                self.out.push_back(Output6::Told { dns: reply.dns, search: reply.search });
                self.state = State::Listening { asked: ROUTER_QUESTIONS, next: None };
            }
            (State::Renewing { lease: old, .. } | State::Rebinding { lease: old, .. }, true) => {
                let is_lender = old.server == reply.server || matches!(self.state, State::Rebinding { .. });
                match lease {
                    Some(lease) if is_lender => self.renewed(lease),
                    // NoBinding, or lifetimes of zero: it is not lent any more.
                    None if is_lender => {
                        self.out.push_back(Output6::Lost);
                        self.state = State::Waiting { until: now + seconds(1) };
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn renewed(&mut self, lease: Lease6) {
        self.out.push_back(Output6::Leased(lease.clone()));
        self.state = State::Bound { lease };
    }

    fn hear_taken(&mut self, address: Ipv6Addr, now: Moment) {
        let State::Probing { lease, .. } = &self.state else { return };
        if lease.address == address {
            let lease = lease.clone();
            self.give_up(Kind6::Decline, &lease, now);
            self.wished = None;
            self.state = State::Waiting { until: now + DECLINE_PAUSE };
        }
    }

    /// The next try of a question, or the first one of another.
    fn ask(&mut self, asking: Option<Asking>, pace: &Pace, now: Moment) -> Asking {
        if asking.is_none() {
            self.begun = now;
        }
        // A tenth less or more (section 15).
        let spread = |chance: &mut Chance, pause: Duration| pause * (900 + chance.number() % 201) / 1000;
        let pause = match asking {
            None => spread(&mut self.chance, pace.first),
            Some(asking) => spread(&mut self.chance, (asking.pause * 2).min(pace.longest)),
        };
        let transaction = asking.map_or_else(|| self.chance.number() & 0xff_ffff, |asking| asking.transaction);
        let tries = asking.map_or(0, |asking| asking.tries).saturating_add(1);
        Asking { transaction, tries, pause, sent: now, next: now + pause }
    }

    fn draft(&self, kind: Kind6, asking: &Asking, now: Moment) -> Draft6<'_> {
        let elapsed = now.saturating_sub(self.begun).as_millis() / 10;
        Draft6 {
            kind,
            transaction: asking.transaction,
            elapsed: elapsed.min(u16::MAX.into()) as u16,
            client: &self.identity.duid,
            server: None,
            association: Some(self.identity.link),
            address: None,
        }
    }

    fn send(&mut self, message: &[u8]) {
        self.out.push_back(Output6::Frame(frame6::write_message(self.identity.mac, message)));
    }
}
