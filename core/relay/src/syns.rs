//! SYNs that wait for what their destination says.
//!
//! ```text
//!   TUN ──SYN──> offer ──New────> the socket side connects ──refused──> take ──> answered
//!                  │                                       └─connected─> release ──octets──> TUN
//!                  ├─Again────> the same octets back to the TUN: what the kernel answered was lost
//!                  └─Waits────> nothing: the sender asks again while it wants to
//!   accepted ──────────────────────────────────────────────────────────> take ──> a flow
//! ```
//!
//! Each costs a socket, so there are bounds, for each sender and in all.
//!
//! **At the bounds.** A sender who has all its places loses the one that has waited longest without an answer, for the
//! new one: whoever answers at all mostly does so before as many others have come, and nobody has to wait for what a
//! flood has left. That many times a second; more is not heard, as on a busy network: to hold a SYN is a hundred
//! times dearer than not to, and a flood must leave time for others. When all places are taken the same happens to the
//! sender who has most of them. Only when all of a sender's have their answer, the oldest of those goes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Who wants to talk to whom.
pub type Ends = (SocketAddr, SocketAddr);

/// How many may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub all: usize,
    /// From one address.
    pub sender: usize,
    /// How many of a sender that has as many give way to new ones in a second, and at once.
    pub shed_per_second: u32,
    /// So long an answer is waited for.
    pub patience: Duration,
    /// So long the sender's part of the handshake is waited for, once there is an answer.
    pub handshake: Duration,
}

/// SYNs that are held; with each, what the caller keeps for it.
#[derive(Debug)]
pub struct Syns<T> {
    bounds: Bounds,
    held: HashMap<Ends, Held<T>>,
    senders: HashMap<IpAddr, Sender>,
    /// Senders by how many they have.
    by_count: BTreeSet<(usize, IpAddr)>,
    ages: Ages,
    serial: u64,
}

/// In the order of their time, with those that are gone, or not in that state any more, in between.
#[derive(Debug, Default)]
struct Ages {
    /// Of those without an answer.
    waiting: VecDeque<(Ends, u64)>,
    /// Of those that were released.
    released: VecDeque<(Ends, u64)>,
}

#[derive(Debug, Default)]
struct Sender {
    count: usize,
    ages: Ages,
    /// When the bucket of places that it may give up is full again.
    full: Option<Instant>,
}

#[derive(Debug)]
struct Held<T> {
    octets: Box<[u8]>,
    sequence: u32,
    serial: u64,
    since: Instant,
    until: Instant,
    is_released: bool,
    what: T,
}

/// What is to be done about a SYN.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer {
    /// It may be held: see [`Syns::hold`].
    New,
    /// It is held, and there is no answer yet.
    Waits,
    /// It was released: to be written back to the TUN again, the octets as they came now.
    Again,
    /// Its sender has too many, and begins too many: it is not heard.
    Shed,
}

impl<T> Syns<T> {
    /// None.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: HashMap::new(),
            senders: HashMap::new(),
            by_count: BTreeSet::new(),
            ages: Ages::default(),
            serial: 0,
        }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Is none held?
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What to do about a SYN with this sequence number. When the sender began anew with the same ports, what was
    /// kept for its former try is given back.
    pub fn offer(&mut self, ends: Ends, sequence: u32, now: Instant) -> (Offer, Option<T>) {
        let former = match self.held.get(&ends) {
            Some(held) if held.sequence == sequence && held.is_released => return (Offer::Again, None),
            Some(held) if held.sequence == sequence => return (Offer::Waits, None),
            Some(_) => self.take(&ends),
            None => None,
        };
        let Bounds { sender: bound, shed_per_second: rate, .. } = self.bounds;
        let sender = self.senders.get_mut(&ends.0.ip()).filter(|sender| sender.count >= bound);
        let may = sender.is_none_or(|sender| sender.may_shed(rate, now));
        (if may { Offer::New } else { Offer::Shed }, former)
    }

    /// Holds a SYN that was offered as [`Offer::New`]. What was kept for one that had to make room is given back.
    pub fn hold(&mut self, ends: Ends, sequence: u32, octets: &[u8], what: T, now: Instant) -> Option<T> {
        let ip = ends.0.ip();
        let has_all = self.senders.get(&ip).is_some_and(|sender| sender.count >= self.bounds.sender);
        let most = || self.by_count.last().map(|(_, ip)| *ip);
        let loser = if has_all { Some(ip) } else { most().filter(|_| self.held.len() >= self.bounds.all) };
        let shed = loser.and_then(|loser| self.take_oldest_of(loser));
        self.serial += 1;
        let held = Held {
            octets: octets.into(),
            sequence,
            serial: self.serial,
            since: now,
            until: now + self.bounds.patience,
            is_released: false,
            what,
        };
        let entry = (ends, self.serial);
        self.ages.waiting.push_back(entry);
        self.senders.entry(ip).or_default().ages.waiting.push_back(entry);
        self.count(ip, |count| count + 1);
        self.held.insert(ends, held);
        shed
    }

    /// The destination is there: the SYN, to be written back to the TUN.
    pub fn release(&mut self, ends: &Ends, now: Instant) -> Option<&[u8]> {
        let held = self.held.get_mut(ends)?;
        if !held.is_released {
            held.is_released = true;
            held.until = now + self.bounds.handshake;
            let entry = (*ends, held.serial);
            self.ages.released.push_back(entry);
            if let Some(sender) = self.senders.get_mut(&ends.0.ip()) {
                sender.ages.released.push_back(entry);
            }
            self.ages.skip(&self.held);
        }
        self.held.get(ends).map(|held| &*held.octets)
    }

    /// What is kept for one, and its SYN as it is now.
    pub fn get(&self, ends: &Ends) -> Option<(&T, &[u8])> {
        self.held.get(ends).map(|held| (&held.what, &*held.octets))
    }

    /// Since when one is held.
    pub fn since(&self, ends: &Ends) -> Option<Instant> {
        self.held.get(ends).map(|held| held.since)
    }

    /// The end of the wait: what was kept.
    pub fn take(&mut self, ends: &Ends) -> Option<T> {
        let held = self.held.remove(ends)?;
        let ip = ends.0.ip();
        self.count(ip, |count| count - 1);
        self.ages.skip(&self.held);
        self.ages.thin(self.held.len(), &self.held);
        if let Some(sender) = self.senders.get_mut(&ip) {
            sender.ages.thin(sender.count, &self.held);
        }
        Some(held.what)
    }

    /// What was kept for one that nobody waits for any more; to be called until it is `None`.
    pub fn take_overdue(&mut self, now: Instant) -> Option<T> {
        let ends =
            self.ages.firsts(&self.held).find(|ends| self.held.get(ends).is_some_and(|held| held.until <= now))?;
        self.take(&ends)
    }

    /// When [`Self::take_overdue`] wants to be called; not later than the first is overdue.
    pub fn deadline(&self) -> Option<Instant> {
        // The first of each are there: whatever takes one away, or answers it, skips it.
        let until = |(ends, _): &(Ends, u64)| self.held.get(ends).map(|held| held.until);
        [self.ages.released.front(), self.ages.waiting.front()].into_iter().flatten().filter_map(until).min()
    }

    fn take_oldest_of(&mut self, ip: IpAddr) -> Option<T> {
        let ends = self.senders.get_mut(&ip)?.ages.firsts(&self.held).next()?;
        self.take(&ends)
    }

    /// Changes how many a sender has.
    fn count(&mut self, ip: IpAddr, change: impl Fn(usize) -> usize) {
        let Some(sender) = self.senders.get_mut(&ip) else { return };
        self.by_count.remove(&(sender.count, ip));
        sender.count = change(sender.count);
        if sender.count == 0 {
            self.senders.remove(&ip);
        } else {
            self.by_count.insert((sender.count, ip));
        }
    }
}

impl Ages {
    /// The oldest one without an answer, then the oldest that has one: the latter is nearer to its end.
    fn firsts<T>(&mut self, held: &HashMap<Ends, Held<T>>) -> impl Iterator<Item = Ends> + use<T> {
        self.skip(held);
        let firsts = [self.waiting.front(), self.released.front()].map(|first| first.map(|(ends, _)| *ends));
        firsts.into_iter().flatten()
    }

    /// Begins with those that are there.
    fn skip<T>(&mut self, held: &HashMap<Ends, Held<T>>) {
        let is_there = |(ends, serial): &(Ends, u64), released| {
            held.get(ends).is_some_and(|held| held.serial == *serial && held.is_released == released)
        };
        while self.waiting.front().is_some_and(|entry| !is_there(entry, false)) {
            self.waiting.pop_front();
        }
        while self.released.front().is_some_and(|entry| !is_there(entry, true)) {
            self.released.pop_front();
        }
    }

    /// Half of it are gone: one pass for as many as were taken since the last one.
    fn thin<T>(&mut self, count: usize, held: &HashMap<Ends, Held<T>>) {
        for order in [&mut self.waiting, &mut self.released] {
            if order.len() > 64 && order.len() > 2 * count {
                order.retain(|(ends, serial)| held.get(ends).is_some_and(|held| held.serial == *serial));
            }
        }
    }
}

impl Sender {
    /// Takes one out of the bucket of places that it may give up, which holds those of a second.
    fn may_shed(&mut self, per_second: u32, now: Instant) -> bool {
        let full = self.full.map_or(now, |full| full.max(now)) + Duration::from_secs(1) / per_second.max(1);
        let may = full <= now + Duration::from_secs(1);
        if may {
            self.full = Some(full);
        }
        may
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        all: 3,
        sender: 2,
        shed_per_second: 4,
        patience: Duration::from_secs(10),
        handshake: Duration::from_secs(2),
    };

    fn ends(from: &str) -> Ends {
        (from.parse().unwrap(), "192.0.2.1:80".parse().unwrap())
    }

    fn hold(syns: &mut Syns<u32>, from: &str, what: u32, now: Instant) -> Option<u32> {
        assert_eq!(syns.offer(ends(from), 7, now), (Offer::New, None), "{from}");
        syns.hold(ends(from), 7, &[1, 2], what, now)
    }

    #[test]
    fn a_syn_is_held_once_and_released_again_and_again() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        hold(&mut syns, "10.0.0.1:1", 5, now);
        assert_eq!(syns.offer(ends("10.0.0.1:1"), 7, now + BOUNDS.handshake), (Offer::Waits, None));
        assert_eq!((syns.since(&ends("10.0.0.1:1")), syns.since(&ends("10.0.0.1:2"))), (Some(now), None));
        assert_eq!(syns.release(&ends("10.0.0.1:1"), now), Some(&[1, 2][..]));
        assert_eq!(syns.offer(ends("10.0.0.1:1"), 7, now), (Offer::Again, None));
        assert_eq!(syns.take(&ends("10.0.0.1:1")), Some(5));
        assert_eq!(syns.take(&ends("10.0.0.1:1")), None);
    }

    #[test]
    fn who_begins_anew_with_the_same_ports_gives_up_the_former_try() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        hold(&mut syns, "10.0.0.1:1", 5, now);
        assert_eq!(syns.offer(ends("10.0.0.1:1"), 8, now), (Offer::New, Some(5)));
        assert!(syns.is_empty());
    }

    /// Found while the fuzzer's properties were written.
    #[test]
    fn the_deadline_is_that_of_those_who_are_there() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        let later = now + Duration::from_secs(1);
        hold(&mut syns, "10.0.0.1:1", 1, now);
        hold(&mut syns, "10.0.0.2:1", 2, later);
        assert_eq!(syns.deadline(), Some(now + BOUNDS.patience));
        syns.take(&ends("10.0.0.1:1"));
        assert_eq!(syns.deadline(), Some(later + BOUNDS.patience));
        hold(&mut syns, "10.0.0.1:1", 3, later);
        let late = later + BOUNDS.patience - Duration::from_secs(1);
        syns.release(&ends("10.0.0.2:1"), late);
        assert_eq!(syns.deadline(), Some(later + BOUNDS.patience));
        assert_eq!(syns.take_overdue(later + BOUNDS.patience), Some(3));
        assert_eq!(syns.deadline(), Some(late + BOUNDS.handshake));
    }

    #[test]
    fn a_sender_at_its_bound_loses_its_oldest_and_others_do_not_feel_it() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        hold(&mut syns, "10.0.0.1:1", 1, now);
        hold(&mut syns, "10.0.0.1:2", 2, now);
        assert_eq!(hold(&mut syns, "10.0.0.2:1", 3, now), None);
        assert_eq!(hold(&mut syns, "10.0.0.1:3", 4, now), Some(1));
        // One that has its answer goes last.
        syns.release(&ends("10.0.0.1:2"), now);
        assert_eq!(hold(&mut syns, "10.0.0.1:4", 5, now), Some(4));
        syns.release(&ends("10.0.0.1:4"), now);
        assert_eq!(hold(&mut syns, "10.0.0.1:5", 6, now), Some(2));
        assert_eq!(syns.take(&ends("10.0.0.2:1")), Some(3));
    }

    #[test]
    fn a_flood_is_heard_so_often_and_its_sender_again_as_soon_as_it_is_over() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        let mut heard = 0;
        let flood = |syns: &mut Syns<u32>, ms: u64| {
            let from = ends(&format!("10.0.0.1:{}", ms + 1));
            let now = now + Duration::from_millis(ms);
            let new = syns.offer(from, 7, now).0 == Offer::New;
            if new {
                syns.hold(from, 7, &[1], 0, now);
            }
            new
        };
        for ms in 0..10_000 {
            heard += u32::from(flood(&mut syns, ms));
        }
        // Two places, what the bucket holds, and four a second.
        assert!((44..=46).contains(&heard), "{heard}");
        assert_eq!(syns.len(), 2);
        assert!(flood(&mut syns, 10_250), "after a quarter of a second");
    }

    #[test]
    fn when_all_places_are_taken_the_oldest_of_who_has_most_makes_room() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        for (n, from) in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:2"].into_iter().enumerate() {
            assert_eq!(hold(&mut syns, from, n as u32, now), None);
        }
        assert_eq!(hold(&mut syns, "10.0.0.3:1", 3, now), Some(1), "and not the oldest of all");
        syns.take(&ends("10.0.0.1:1"));
        assert_eq!(hold(&mut syns, "10.0.0.4:1", 4, now), None);
        assert_eq!(syns.len(), 3);
    }

    #[test]
    fn nothing_waits_longer_than_there_is_patience() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        let later = now + Duration::from_secs(5);
        hold(&mut syns, "10.0.0.1:1", 1, now);
        hold(&mut syns, "10.0.0.1:2", 2, later);
        assert_eq!(syns.deadline(), Some(now + BOUNDS.patience));
        assert_eq!(syns.take_overdue(later), None);
        assert_eq!(syns.take_overdue(now + BOUNDS.patience), Some(1));
        assert_eq!(syns.take_overdue(now + BOUNDS.patience), None);
        assert_eq!(syns.take_overdue(later + BOUNDS.patience), Some(2));
        assert_eq!(syns.deadline(), None);
    }

    #[test]
    fn a_handshake_that_is_not_finished_ends_sooner() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        hold(&mut syns, "10.0.0.1:1", 1, now);
        hold(&mut syns, "10.0.0.1:2", 2, now);
        syns.release(&ends("10.0.0.1:1"), now);
        assert_eq!(syns.take_overdue(now), None);
        assert_eq!(syns.deadline(), Some(now + BOUNDS.handshake));
        assert_eq!(syns.take_overdue(now + BOUNDS.handshake), Some(1));
        assert_eq!(syns.take_overdue(now + BOUNDS.handshake), None);
        assert_eq!(syns.take_overdue(now + BOUNDS.patience), Some(2));
    }

    #[test]
    fn what_is_remembered_does_not_grow_with_what_went() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        for n in 1..10_000_u16 {
            hold(&mut syns, &format!("10.0.0.1:{n}"), 0, now);
            syns.release(&ends(&format!("10.0.0.1:{n}")), now);
            syns.take(&ends(&format!("10.0.0.1:{n}")));
        }
        hold(&mut syns, "10.0.0.1:10000", 0, now);
        let all = [&syns.ages, &syns.senders[&ends("10.0.0.1:1").0.ip()].ages];
        for ages in all {
            assert!(ages.waiting.len() <= 65 && ages.released.len() <= 65);
        }
        syns.take(&ends("10.0.0.1:10000"));
        assert!(syns.senders.is_empty() && syns.by_count.is_empty());
    }
}
