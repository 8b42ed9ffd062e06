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
//! Each costs a socket, so there are bounds, for each sender and in all. What comes above a sender's own bound is not
//! heard, as on a busy network: the sender repeats it. When all places are taken, the one that has waited longest
//! makes room: whoever answers at all mostly does so before as many others have come.

use std::collections::{HashMap, VecDeque};
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
    senders: HashMap<IpAddr, usize>,
    /// By age, with those that are gone in between.
    order: VecDeque<(Ends, u64)>,
    /// By the time of their release, as above.
    released: VecDeque<(Ends, u64)>,
    serial: u64,
}

#[derive(Debug)]
struct Held<T> {
    octets: Box<[u8]>,
    sequence: u32,
    serial: u64,
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
    /// Its sender has too many.
    Shed,
}

impl<T> Syns<T> {
    /// None.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: HashMap::new(),
            senders: HashMap::new(),
            order: VecDeque::new(),
            released: VecDeque::new(),
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
    pub fn offer(&mut self, ends: Ends, sequence: u32) -> (Offer, Option<T>) {
        let former = match self.held.get(&ends) {
            Some(held) if held.sequence == sequence && held.is_released => return (Offer::Again, None),
            Some(held) if held.sequence == sequence => return (Offer::Waits, None),
            Some(_) => self.take(&ends),
            None => None,
        };
        match self.senders.get(&ends.0.ip()) {
            Some(count) if *count >= self.bounds.sender => (Offer::Shed, former),
            _ => (Offer::New, former),
        }
    }

    /// Holds a SYN that was offered as [`Offer::New`]. What was kept for one that had to make room is given back.
    pub fn hold(&mut self, ends: Ends, sequence: u32, octets: &[u8], what: T, now: Instant) -> Option<T> {
        let evicted = if self.held.len() >= self.bounds.all { self.take_oldest() } else { None };
        self.serial += 1;
        let held = Held {
            octets: octets.into(),
            sequence,
            serial: self.serial,
            until: now + self.bounds.patience,
            is_released: false,
            what,
        };
        self.order.push_back((ends, self.serial));
        *self.senders.entry(ends.0.ip()).or_default() += 1;
        self.held.insert(ends, held);
        evicted
    }

    /// The destination is there: the SYN, to be written back to the TUN.
    pub fn release(&mut self, ends: &Ends, now: Instant) -> Option<&[u8]> {
        let held = self.held.get_mut(ends)?;
        if !held.is_released {
            held.is_released = true;
            held.until = now + self.bounds.handshake;
            self.released.push_back((*ends, held.serial));
        }
        Some(&held.octets)
    }

    /// What is kept for one, and its SYN as it is now.
    pub fn get(&self, ends: &Ends) -> Option<(&T, &[u8])> {
        self.held.get(ends).map(|held| (&held.what, &*held.octets))
    }

    /// The end of the wait: what was kept.
    pub fn take(&mut self, ends: &Ends) -> Option<T> {
        let held = self.held.remove(ends)?;
        if let Some(count) = self.senders.get_mut(&ends.0.ip()) {
            *count -= 1;
            if *count == 0 {
                self.senders.remove(&ends.0.ip());
            }
        }
        for order in [&mut self.order, &mut self.released] {
            // Half of it are gone: one pass for as many as were taken since the last one.
            if order.len() > 64 && order.len() > 2 * self.held.len() {
                order.retain(|(ends, serial)| self.held.get(ends).is_some_and(|held| held.serial == *serial));
            }
        }
        Some(held.what)
    }

    /// What was kept for one that nobody waits for any more; to be called until it is `None`.
    pub fn take_overdue(&mut self, now: Instant) -> Option<T> {
        self.forget_gone();
        let overdue = |(ends, _): &(Ends, u64)| self.held.get(ends).is_some_and(|held| held.until <= now);
        let first = [self.released.front(), self.order.front()].into_iter().flatten().find(|entry| overdue(entry));
        let (ends, _) = *first?;
        self.take(&ends)
    }

    /// When [`Self::take_overdue`] wants to be called; not later than the first is overdue.
    pub fn deadline(&self) -> Option<Instant> {
        let until = |(ends, _): &(Ends, u64)| self.held.get(ends).map(|held| held.until);
        [self.released.front(), self.order.front()].into_iter().flatten().filter_map(until).min()
    }

    /// So that each queue begins with one that is there, and in that queue's state.
    fn forget_gone(&mut self) {
        let held = &self.held;
        let is_there = |(ends, serial): &(Ends, u64)| held.get(ends).filter(|held| held.serial == *serial);
        while self.order.front().is_some_and(|entry| is_there(entry).is_none_or(|held| held.is_released)) {
            self.order.pop_front();
        }
        while self.released.front().is_some_and(|entry| is_there(entry).is_none()) {
            self.released.pop_front();
        }
    }

    fn take_oldest(&mut self) -> Option<T> {
        self.forget_gone();
        // One that has its answer is nearer to its end.
        let (ends, _) = *self.order.front().or(self.released.front())?;
        self.take(&ends)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { all: 3, sender: 2, patience: Duration::from_secs(10), handshake: Duration::from_secs(2) };

    fn ends(from: &str) -> Ends {
        (from.parse().unwrap(), "192.0.2.1:80".parse().unwrap())
    }

    fn hold(syns: &mut Syns<u32>, from: &str, what: u32, now: Instant) -> Option<u32> {
        assert_eq!(syns.offer(ends(from), 7), (Offer::New, None), "{from}");
        syns.hold(ends(from), 7, &[1, 2], what, now)
    }

    #[test]
    fn a_syn_is_held_once_and_released_again_and_again() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        hold(&mut syns, "10.0.0.1:1", 5, now);
        assert_eq!(syns.offer(ends("10.0.0.1:1"), 7), (Offer::Waits, None));
        assert_eq!(syns.release(&ends("10.0.0.1:1"), now), Some(&[1, 2][..]));
        assert_eq!(syns.offer(ends("10.0.0.1:1"), 7), (Offer::Again, None));
        assert_eq!(syns.take(&ends("10.0.0.1:1")), Some(5));
        assert_eq!(syns.take(&ends("10.0.0.1:1")), None);
    }

    #[test]
    fn who_begins_anew_with_the_same_ports_gives_up_the_former_try() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        hold(&mut syns, "10.0.0.1:1", 5, now);
        assert_eq!(syns.offer(ends("10.0.0.1:1"), 8), (Offer::New, Some(5)));
        assert!(syns.is_empty());
    }

    #[test]
    fn a_sender_has_its_own_bound_and_others_do_not_feel_it() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        hold(&mut syns, "10.0.0.1:1", 1, now);
        hold(&mut syns, "10.0.0.1:2", 2, now);
        assert_eq!(syns.offer(ends("10.0.0.1:3"), 7), (Offer::Shed, None));
        assert_eq!(hold(&mut syns, "10.0.0.2:1", 3, now), None);
        assert_eq!(syns.take(&ends("10.0.0.1:1")), Some(1));
        assert_eq!(syns.offer(ends("10.0.0.1:3"), 7), (Offer::New, None));
    }

    #[test]
    fn when_all_places_are_taken_the_oldest_makes_room() {
        let (mut syns, now) = (Syns::new(BOUNDS), Instant::now());
        for (n, from) in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].into_iter().enumerate() {
            assert_eq!(hold(&mut syns, from, n as u32, now), None);
        }
        syns.take(&ends("10.0.0.1:1"));
        assert_eq!(hold(&mut syns, "10.0.0.4:1", 3, now), None);
        assert_eq!(hold(&mut syns, "10.0.0.5:1", 4, now), Some(1));
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
        assert!(syns.order.len() <= 65 && syns.released.len() <= 65 && syns.senders.is_empty());
    }
}
