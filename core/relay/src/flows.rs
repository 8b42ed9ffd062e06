//! The table of flows that have no end of their own: UDP and echo.
//!
//! ```text
//!   admit(source, now)  ─no─> too many new ones from this source just now
//!        │yes
//!   open(key, source, now) ──> Opened { flow, instead_of }   a new one, and which one had to go for it
//!   went(flow, Outward | Inward, now)                        used
//!   expired(now) ──> flow                                    not used for too long
//! ```
//!
//! **Invariants.** At most [`Limits::all`] flows, at most [`Limits::per_source`] of one source. A flow's number
//! is not given again before 2³² others had its place.
//!
//! **At the bounds.** A source that has all its flows loses the one that was silent for longest, answered or not. When
//! all places are taken the same happens to the source that has most of them, so that one source with many cannot
//! take them from others with few. New flows are limited in time as well, by a bucket of each source: to open one is
//! a hundred times dearer than to use one, and a flood from one source must leave time for the others.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Silence after which a flow is over that was not answered, or only once, at its start.
pub const BRIEF: Duration = Duration::from_secs(30);

/// The same for a conversation: still answered [`TALK`] after its start.
pub const LONG: Duration = Duration::from_secs(120);

/// The same for a question that has its answer (DNS).
pub const ASKED: Duration = Duration::from_secs(5);

/// What a new flow takes out of the bucket of a source that has all its flows: each costs another one.
const AT_BOUND: u32 = 4;

/// When an exchange becomes a conversation (nf_conntrack_proto_udp.c does likewise).
const TALK: Duration = Duration::from_secs(2);

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Flows in all.
    pub all: usize,
    /// Flows of one source.
    pub per_source: usize,
    /// New flows of one source in a second, or at once; a quarter of it while it has all its flows.
    pub new_per_second: u32,
}

/// A flow: its place, and which one in that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId {
    /// Below [`Limits::all`].
    pub place: u32,
    /// Counts up.
    pub serial: u32,
}

/// What kind of exchange a flow is expected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// One question, one answer.
    Question,
    /// Anything.
    Open,
}

/// Which way something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who began the flow.
    Outward,
    /// The answer.
    Inward,
}

/// A new flow.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<K> {
    /// Its number.
    pub flow: FlowId,
    /// The flow that had to go for it.
    pub instead_of: Option<(FlowId, K)>,
}

/// The table: of flows known by their keys, each of a source.
#[derive(Debug)]
pub struct Flows<K, S> {
    limits: Limits,
    places: Vec<Place<K, S>>,
    free: Vec<u32>,
    by_key: HashMap<K, FlowId>,
    sources: HashMap<S, Source>,
    /// When to look at each. A flow that was used since is given another time then, not at each use.
    due: BTreeSet<(Instant, FlowId)>,
    /// How many that are over, or had to go, of which [`Self::expired`] and [`Self::open`] have told.
    pub shed: u64,
}

#[derive(Debug)]
struct Place<K, S> {
    serial: u32,
    flow: Option<Flow<K, S>>,
}

#[derive(Debug)]
struct Flow<K, S> {
    key: K,
    source: S,
    exchange: Exchange,
    begun: Instant,
    used: Instant,
    answered: Answered,
    due: Instant,
    /// Its place among those of its source: when it was used, as far as was looked.
    seen: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Never,
    AtOnce,
    Later,
}

#[derive(Debug)]
struct Source {
    /// The one that was silent for longest is first, once those that were used since have been put in their place.
    flows: BTreeSet<(Instant, FlowId)>,
    bucket: Bucket,
}

/// One, in a bucket's level.
const ONE: u64 = 1_000_000;

/// Lets `rate` through in a second, or at once.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// In millionths.
    level: u64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: u32, now: Instant) -> Self {
        Self { level: u64::from(rate) * ONE, filled: now }
    }

    /// Takes so many out, if they are there.
    pub fn take(&mut self, count: u32, rate: u32, now: Instant) -> bool {
        self.level = self.level_at(rate, now);
        self.filled = now;
        let wanted = u64::from(count) * ONE;
        let enough = self.level >= wanted;
        self.level -= if enough { wanted } else { 0 };
        enough
    }

    fn is_full(self, rate: u32, now: Instant) -> bool {
        self.level_at(rate, now) == u64::from(rate) * ONE
    }

    fn level_at(self, rate: u32, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.filled).min(Duration::from_secs(1)).as_micros() as u64;
        (self.level + passed * u64::from(rate)).min(u64::from(rate) * ONE)
    }
}

impl<K: Clone + Eq + Hash, S: Copy + Eq + Hash> Flows<K, S> {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            places: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            sources: HashMap::new(),
            due: BTreeSet::new(),
            shed: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The flow that has this key.
    pub fn find(&self, key: &K) -> Option<FlowId> {
        self.by_key.get(key).copied()
    }

    /// The key of a flow that there is.
    pub fn key(&self, flow: FlowId) -> Option<&K> {
        self.get(flow).map(|flow| &flow.key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, FlowId)> {
        self.by_key.iter().map(|(key, flow)| (key, *flow))
    }

    /// May `source` begin a flow, or be told why it may not? Each answer yes counts.
    pub fn admit(&mut self, source: S, now: Instant) -> bool {
        let rate = self.limits.new_per_second;
        if self.sources.len() > self.limits.all {
            self.sources.retain(|_, source| !source.flows.is_empty() || !source.bucket.is_full(rate, now));
        }
        let new = || Source { flows: BTreeSet::new(), bucket: Bucket::new(rate, now) };
        let source = self.sources.entry(source).or_insert_with(new);
        let price = if source.flows.len() < self.limits.per_source { 1 } else { AT_BOUND };
        source.bucket.take(price, rate, now)
    }

    /// A place for a flow that `source`, which was admitted, begins. The key must not be in use.
    pub fn open(&mut self, key: K, source: S, exchange: Exchange, now: Instant) -> Opened<K> {
        let new = || Source { flows: BTreeSet::new(), bucket: Bucket::new(self.limits.new_per_second, now) };
        let count = self.sources.entry(source).or_insert_with(new).flows.len();
        let instead_of = if count >= self.limits.per_source {
            self.close_most_silent(source)
        } else if self.len() >= self.limits.all {
            let biggest = self.sources.iter().max_by_key(|(_, source)| source.flows.len()).map(|(ip, _)| *ip);
            // Everybody has one: the one that was silent for longest, whosever.
            match self.sources.get(&biggest.unwrap_or(source)).map_or(0, |source| source.flows.len()) {
                0 | 1 => self.close_most_silent_of_all(),
                _ => self.close_most_silent(biggest.unwrap_or(source)),
            }
        } else {
            None
        };
        let flow = self.put(Flow {
            key,
            source,
            exchange,
            begun: now,
            used: now,
            answered: Answered::Never,
            due: now + BRIEF,
            seen: now,
        });
        Opened { flow, instead_of }
    }

    /// Something went through a flow that there is.
    pub fn went(&mut self, flow: FlowId, direction: Direction, now: Instant) {
        let Some(flow) = self.get_mut(flow) else { return };
        flow.used = now;
        if direction == Direction::Inward {
            flow.answered = match now.saturating_duration_since(flow.begun) {
                since if since >= TALK => Answered::Later,
                _ if flow.answered == Answered::Never => Answered::AtOnce,
                _ => flow.answered,
            };
        }
    }

    /// Was anything of it answered, and when did it begin?
    pub fn unanswered_since(&self, flow: FlowId) -> Option<Instant> {
        self.get(flow).filter(|flow| flow.answered == Answered::Never).map(|flow| flow.begun)
    }

    /// Ends a flow; its key, if there was such a flow.
    pub fn close(&mut self, id: FlowId) -> Option<K> {
        self.get(id)?;
        let place = self.places.get_mut(id.place as usize)?;
        let flow = place.flow.take()?;
        place.serial = place.serial.wrapping_add(1);
        self.free.push(id.place);
        self.by_key.remove(&flow.key);
        self.due.remove(&(flow.due, id));
        if let Some(source) = self.sources.get_mut(&flow.source) {
            source.flows.remove(&(flow.seen, id));
        }
        Some(flow.key)
    }

    /// A flow that nothing went through for too long, if there is one; it has ended.
    pub fn expired(&mut self, now: Instant) -> Option<(FlowId, K)> {
        while let Some(&(due, id)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, id));
            let Some(flow) = self.get_mut(id) else { continue };
            let over = flow.used + flow.patience();
            if over <= now {
                self.shed += 1;
                return self.close(id).map(|key| (id, key));
            }
            flow.due = over;
            self.due.insert((over, id));
        }
        None
    }

    /// When [`Self::expired`] may have something to say.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn put(&mut self, flow: Flow<K, S>) -> FlowId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { serial: 0, flow: None });
            // Not more than `Limits::all`.
            (self.places.len() - 1) as u32
        });
        let id = FlowId { place, serial: self.places[place as usize].serial };
        self.by_key.insert(flow.key.clone(), id);
        self.due.insert((flow.due, id));
        if let Some(source) = self.sources.get_mut(&flow.source) {
            source.flows.insert((flow.seen, id));
        }
        self.places[place as usize].flow = Some(flow);
        id
    }

    fn close_most_silent(&mut self, source: S) -> Option<(FlowId, K)> {
        loop {
            let (seen, id) = *self.sources.get(&source)?.flows.first()?;
            let flow = self.get_mut(id)?;
            let used = flow.used;
            if used == seen {
                self.shed += 1;
                return self.close(id).map(|key| (id, key));
            }
            flow.seen = used;
            let flows = &mut self.sources.get_mut(&source)?.flows;
            flows.remove(&(seen, id));
            flows.insert((used, id));
        }
    }

    fn close_most_silent_of_all(&mut self) -> Option<(FlowId, K)> {
        let oldest = self.by_key.values().copied().min_by_key(|id| (self.get(*id).map(|flow| flow.used), *id))?;
        self.shed += 1;
        self.close(oldest).map(|key| (oldest, key))
    }

    fn get(&self, id: FlowId) -> Option<&Flow<K, S>> {
        let place = self.places.get(id.place as usize)?;
        place.flow.as_ref().filter(|_| place.serial == id.serial)
    }

    fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow<K, S>> {
        let place = self.places.get_mut(id.place as usize)?;
        place.flow.as_mut().filter(|_| place.serial == id.serial)
    }
}

impl<K, S> Flow<K, S> {
    fn patience(&self) -> Duration {
        match (self.answered, self.exchange) {
            (Answered::Later, _) => LONG,
            (Answered::AtOnce, Exchange::Question) => ASKED,
            _ => BRIEF,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { all: 8, per_source: 3, new_per_second: 10 };

    struct Rig {
        flows: Flows<(u8, u16), u8>,
        start: Instant,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
            let start = Instant::now();
            Self { flows: Flows::new(LIMITS), start, now: start }
        }

        fn at(&mut self, seconds: f64) -> &mut Self {
            self.now = self.start + Duration::from_secs_f64(seconds);
            self
        }

        fn open(&mut self, source: u8, port: u16) -> Option<(u8, u16)> {
            self.flows.open((source, port), source, Exchange::Open, self.now).instead_of.map(|(_, key)| key)
        }

        fn went(&mut self, source: u8, port: u16, direction: Direction) {
            let flow = self.flows.find(&(source, port)).unwrap();
            self.flows.went(flow, direction, self.now);
        }

        fn expired(&mut self) -> Vec<(u8, u16)> {
            let now = self.now;
            let mut keys: Vec<_> = std::iter::from_fn(|| self.flows.expired(now)).map(|(_, key)| key).collect();
            keys.sort_unstable();
            keys
        }
    }

    #[test]
    fn silence_ends_an_exchange_after_30_seconds_and_a_conversation_after_120() {
        let mut rig = Rig::new();
        for port in 1..=3 {
            rig.open(1, port);
        }
        rig.flows.open((2, 53), 2, Exchange::Question, rig.now);
        rig.at(0.1).went(1, 2, Direction::Inward);
        rig.went(2, 53, Direction::Inward);
        rig.at(3.0).went(1, 3, Direction::Inward);
        assert!(rig.at(29.9).expired().is_empty());
        assert_eq!(rig.at(30.1).expired(), [(1, 1), (1, 2), (2, 53)]);
        assert!(rig.at(122.9).expired().is_empty());
        assert_eq!(rig.at(123.1).expired(), [(1, 3)]);
        assert!(rig.flows.is_empty() && rig.flows.deadline().is_none());
    }

    #[test]
    fn what_is_used_stays() {
        let mut rig = Rig::new();
        rig.open(1, 1);
        for second in 1..200 {
            rig.at(second.into()).went(1, 1, Direction::Outward);
            assert!(rig.expired().is_empty());
        }
        assert_eq!(rig.at(229.5).expired(), [(1, 1)]);
    }

    #[test]
    fn a_source_that_has_all_its_flows_loses_its_most_silent_one() {
        let mut rig = Rig::new();
        for port in 1..=3 {
            rig.at(f64::from(port)).open(1, port);
        }
        rig.open(2, 1);
        rig.at(4.0).went(1, 1, Direction::Outward);
        assert_eq!(rig.open(1, 4), Some((1, 2)));
        assert_eq!(rig.at(5.0).open(1, 5), Some((1, 3)));
        assert!(rig.flows.find(&(2, 1)).is_some());
    }

    #[test]
    fn when_all_places_are_taken_the_biggest_loses_one() {
        let mut rig = Rig::new();
        for port in 1..=3 {
            rig.open(1, port);
        }
        for source in 2..=6 {
            rig.open(source, 1);
        }
        assert_eq!(rig.at(1.0).open(7, 1), Some((1, 1)));
        assert_eq!(rig.open(8, 1), Some((1, 2)));
        // All have one.
        assert_eq!(rig.open(9, 1), Some((1, 3)));
        rig.went(2, 1, Direction::Outward);
        assert!(rig.open(10, 1).is_some_and(|(source, _)| (3..=6).contains(&source)));
        assert_eq!(rig.flows.len(), LIMITS.all);
    }

    #[test]
    fn a_flood_of_new_flows_is_refused_and_others_are_not() {
        let mut rig = Rig::new();
        let admitted = |rig: &mut Rig, source| (0..1000).filter(|_| rig.flows.admit(source, rig.now)).count();
        assert_eq!(admitted(&mut rig, 1), 10);
        assert_eq!(admitted(&mut rig, 2), 10);
        assert_eq!(admitted(rig.at(0.5), 1), 5);
        for port in 1..=3 {
            rig.open(1, port);
        }
        assert_eq!(admitted(rig.at(1.5), 1), 2);
    }

    #[test]
    fn a_number_of_a_flow_that_has_ended_means_nothing() {
        let mut rig = Rig::new();
        rig.open(1, 1);
        let old = rig.flows.find(&(1, 1)).unwrap();
        assert_eq!(rig.flows.close(old), Some((1, 1)));
        rig.open(1, 2);
        let new = rig.flows.find(&(1, 2)).unwrap();
        assert_eq!((old.place, old.serial + 1), (new.place, new.serial));
        assert_eq!(rig.flows.close(old), None);
        assert_eq!(rig.flows.key(new), Some(&(1, 2)));
    }

    proptest! {
        #[test]
        fn bounds_hold_and_nothing_is_lost(steps in proptest::collection::vec((0_u8..4, 0_u8..12, 0_u16..6, 0_u32..40_000), 0..200)) {
            let mut rig = Rig::new();
            let mut alive = BTreeSet::new();
            for (what, source, port, ms) in steps {
                rig.now += Duration::from_millis(ms.into());
                let key = (source, port);
                match (what, rig.flows.find(&key)) {
                    (0 | 1, None) => if rig.flows.admit(source, rig.now) {
                        alive.insert(key);
                        if let Some((_, gone)) = rig.flows.open(key, source, Exchange::Open, rig.now).instead_of {
                            prop_assert!(alive.remove(&gone));
                        }
                    },
                    (0 | 1, Some(flow)) => rig.flows.went(flow, if what == 0 { Direction::Outward } else { Direction::Inward }, rig.now),
                    (2, Some(flow)) => { rig.flows.close(flow); alive.remove(&key); },
                    _ => for gone in rig.expired() { prop_assert!(alive.remove(&gone)); },
                }
                prop_assert_eq!(alive.len(), rig.flows.len());
                prop_assert!(rig.flows.len() <= LIMITS.all);
                for source in 0..12 {
                    prop_assert!(alive.iter().filter(|(of, _)| *of == source).count() <= LIMITS.per_source);
                }
                prop_assert!(rig.flows.sources.len() <= LIMITS.all + 12);
            }
            rig.now += Duration::from_secs(1000);
            rig.expired();
            prop_assert!(rig.flows.is_empty() && rig.flows.due.is_empty());
        }
    }
}
