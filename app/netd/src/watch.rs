//! The watch over what was made: hears what others delete, and has it made again.
//!
//! ```text
//!   kernel ── News ──> Known: which link was that, was it up? ──> Suspicion ─┐
//!                      20 ms of quiet, at most 100 ms  <─────────────────────┤
//!                      Pace: five at once, then one a second  <──────────────┘
//!                        └──> Engine::heal ──> Outcome ──> Pace
//! ```
//!
//! **How it works.** Announcements cost a look at their first bytes; what cannot concern us is forgotten there.
//! Commands of ours delete links, too, and are not told apart here: whether a link is still wanted says the
//! store, whether it is missing says the kernel under the host lock, which a command holds until it is done.
//! Rules that a process called `podwire…` has deleted are no news. At the start, and whenever
//! announcements were missed, everything is looked at.
//!
//! **Invariants.** The first look comes at once. A program that keeps deleting costs one look a second, and one
//! a minute when looks fail; what is suspected is not forgotten meanwhile.
//!
//! A link of others that comes up may be the parent of links that went with it: whether one of this name is, says
//! the store.
//!
//! **Limits.** Sees what is deleted, set down, taken off its bridge, or given another name or MTU, and forwarding
//! that is switched off. Sees no links inside containers, no other settings, and no element that was added.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Engine, LINK_GROUP, Settings, Suspicion};
use netlink::rtnetlink::{self, Link};
use netlink::{Event, News, Protocol, Socket};

/// As /proc/PID/comm shows it. What the thread does to rules is no news to it.
const THREAD: &str = "podwire-watch";
/// Under which names our processes change rules.
const OURS: &str = "podwire";
/// Our tables' name, and their families: NFPROTO_INET, NFPROTO_BRIDGE.
const TABLE: &str = "podwire";
const FAMILIES: [u8; 2] = [1, 7];

/// When so long nothing more was heard, it is over.
const QUIET: Duration = Duration::from_millis(20);
/// Though it may never be over.
const ENOUGH: Duration = Duration::from_millis(100);

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was amiss.
    Fine,
    /// It was made again.
    Healed,
    /// It was not, or not all of it.
    Failed,
}

/// The thread that watches; it ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    /// Closed to end the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the calling thread's network namespace from now on. `look` is asked to find out what is amiss, and
    /// to heal it: see [`look`]. Never twice at a time.
    pub fn start(look: impl FnMut(&Suspicion) -> Outcome + Send + 'static) -> io::Result<Self> {
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut watcher = Watcher::new(stopped, look)?;
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || watcher.run())?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It says itself why, when it panics.
            let _ = thread.join();
        }
    }
}

/// Has the engine look, unless `settings` turns that off, and logs what was done. `engine` is the watch's own: its
/// user waits for the host lock, whose holder may wait for netd. `firewall`: the socket that owns the tables.
pub fn look(engine: &Engine, firewall: Option<OwnedFd>, suspicion: &Suspicion, settings: &Path) -> Outcome {
    let wanted = Settings::read(settings).map(|settings| settings.network.heal);
    match wanted {
        Ok(true) => {}
        Ok(false) => return Outcome::Fine,
        Err(error) => tracing::warn!(%error, "healing goes on as by default"),
    }
    match engine.heal(suspicion, firewall) {
        Ok(healed) => {
            for left in &healed.left_out {
                tracing::warn!(error = %left.error, "{} cannot be healed", left.what);
            }
            match (healed.plan.is_empty(), healed.left_out.is_empty()) {
                (_, false) => Outcome::Failed,
                (true, true) => Outcome::Fine,
                (false, true) => {
                    tracing::info!(steps = healed.plan.ops.len(), "healed");
                    Outcome::Healed
                }
            }
        }
        Err(error) => {
            tracing::warn!(%error, "cannot heal");
            Outcome::Failed
        }
    }
}

struct Watcher<F> {
    stopped: OwnedFd,
    news: News,
    known: Known,
    pace: Pace,
    suspicion: Suspicion,
    look: F,
}

impl<F: FnMut(&Suspicion) -> Outcome> Watcher<F> {
    fn new(stopped: OwnedFd, look: F) -> io::Result<Self> {
        // Listens first: what is announced twice is known, what is announced never is missed.
        let news = News::open()?;
        let known = Known::here()?;
        // Nobody may have watched before. Costs a look into the store when nobody is attached yet.
        Ok(Self { stopped, news, known, pace: Pace::new(), suspicion: Suspicion::of_everything(), look })
    }

    /// Until it is told to stop.
    fn run(&mut self) {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "the watch cannot hear; it looks instead");
                    self.suspicion = Suspicion::of_everything();
                    // Better deaf than busy.
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// One look, or one wait. `false`: stop.
    fn step(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        let due = (!self.suspicion.is_empty()).then(|| self.pace.next(now));
        if due.is_none_or(|due| due > now) {
            let timeout = due.map(|due| due.saturating_duration_since(now));
            let go_on = self.news.wait(self.stopped.as_fd(), timeout)?;
            self.hear()?;
            return Ok(go_on);
        }
        if !self.wait_for_quiet()? {
            return Ok(false);
        }
        let suspicion = std::mem::take(&mut self.suspicion);
        let outcome = (self.look)(&suspicion);
        self.pace.took(Instant::now(), suspicion.everything, outcome);
        if outcome == Outcome::Failed {
            self.suspicion.everything = true;
        }
        Ok(true)
    }

    /// A flush, or a command, comes as many announcements.
    fn wait_for_quiet(&mut self) -> io::Result<bool> {
        let begun = Instant::now();
        while begun.elapsed() < ENOUGH {
            let asked = Instant::now();
            if !self.news.wait(self.stopped.as_fd(), Some(QUIET))? {
                return Ok(false);
            }
            if asked.elapsed() >= QUIET {
                break;
            }
            self.hear()?;
        }
        Ok(true)
    }

    fn hear(&mut self) -> io::Result<()> {
        for event in self.news.read()? {
            if event == Event::Lost {
                self.known = Known::here()?;
            }
            self.known.take(event, &mut self.suspicion);
        }
        Ok(())
    }
}

/// Links as they were last heard of, by index.
#[derive(Debug, Default)]
struct Known {
    ours: BTreeMap<u32, Link>,
    /// Those of others that are up, by their names.
    up: BTreeMap<u32, String>,
}

impl Known {
    fn here() -> io::Result<Self> {
        let mut known = Self::default();
        for link in Socket::open(Protocol::Route)?.dump(rtnetlink::links())?.iter().filter_map(Link::read) {
            match link {
                link if is_ours(&link) => drop(known.ours.insert(link.index, link)),
                link => drop(known.take_other(link)),
            }
        }
        Ok(known)
    }

    /// Remembers a link of others; its name if it has come up since, or has this name since.
    fn take_other(&mut self, link: Link) -> Option<String> {
        if !link.is_up() {
            self.up.remove(&link.index);
            return None;
        }
        let before = self.up.insert(link.index, link.name.clone());
        Some(link.name).filter(|name| before.as_ref() != Some(name))
    }

    /// What an event makes us suspect.
    fn take(&mut self, event: Event, suspicion: &mut Suspicion) {
        let suspect = |suspicion: &mut Suspicion, link: &Link| {
            suspicion.links.extend(link.name.parse());
        };
        match event {
            Event::Lost => suspicion.everything = true,
            Event::Link(link) => {
                let before = self.ours.remove(&link.index);
                let was_ours = before.is_some();
                if let Some(before) = before.filter(|before| has_lost(before, &link)) {
                    suspect(suspicion, &before);
                }
                if is_ours(&link) {
                    self.ours.insert(link.index, link);
                } else if let Some(name) = self.take_other(link).filter(|_| !was_ours) {
                    suspicion.parents.extend(name.parse());
                }
            }
            Event::LinkGone(link) => {
                self.up.remove(&link.index);
                let known = self.ours.remove(&link.index);
                // It may have had another name when it was ours.
                for gone in known.iter().chain(is_ours(&link).then_some(&link)) {
                    suspect(suspicion, gone);
                }
            }
            Event::AddressGone(index) | Event::NotForwarding(Some(index)) => {
                if let Some(link) = self.ours.get(&index) {
                    suspect(suspicion, link);
                }
            }
            Event::NotForwarding(None) => {
                tracing::debug!("forwarding was switched off");
                suspicion.everything = true;
            }
            Event::RulesGone { tables, by, pid } => {
                let ours = |(family, name): &(u8, String)| name == TABLE && FAMILIES.contains(family);
                if tables.iter().any(ours) && !by.starts_with(OURS) {
                    if !suspicion.everything {
                        tracing::info!("{by} (process {pid}) has deleted rules of ours");
                    }
                    suspicion.everything = true;
                }
            }
        }
    }
}

fn is_ours(link: &Link) -> bool {
    link.group == LINK_GROUP
}

/// Is a link less than it was? While a command makes one, it only becomes more.
fn has_lost(before: &Link, now: &Link) -> bool {
    let down = before.is_up() && !now.is_up();
    let left = before.master.is_some() && before.master != now.master;
    down || left || before.name != now.name || before.mtu != now.mtu || !is_ours(now)
}

/// When the next look may be.
#[derive(Debug)]
struct Pace {
    /// Looks so far, as if they had come one an interval (GCRA): how far they are ahead of time.
    ahead_until: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Pace {
    /// So many may come at once.
    const BURST: u32 = 5;
    const INTERVAL: Duration = Duration::from_secs(1);
    /// Between looks that fail.
    const LONGEST: Duration = Duration::from_secs(60);

    fn new() -> Self {
        Self { ahead_until: None, failures: 0, not_before: None }
    }

    fn next(&self, now: Instant) -> Instant {
        let turn = self.ahead_until.and_then(|ahead| ahead.checked_sub(Self::INTERVAL * (Self::BURST - 1)));
        turn.into_iter().chain(self.not_before).fold(now, Instant::max)
    }

    /// A look was taken. One at a single link that turned out well costs too little to count.
    fn took(&mut self, now: Instant, everything: bool, outcome: Outcome) {
        if everything || outcome != Outcome::Fine {
            self.ahead_until = Some(self.ahead_until.map_or(now, |ahead| ahead.max(now)) + Self::INTERVAL);
        }
        self.failures = if outcome == Outcome::Failed { self.failures.saturating_add(1) } else { 0 };
        let wait = Self::INTERVAL * 2_u32.saturating_pow(self.failures.min(6));
        self.not_before = (self.failures > 0).then(|| now + wait.min(Self::LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, flags: u32) -> Link {
        Link { index, name: name.to_owned(), mtu: 1500, group: LINK_GROUP, master: Some(1), flags, ..Link::default() }
    }

    fn suspected(known: &mut Known, event: Event) -> Suspicion {
        let mut suspicion = Suspicion::default();
        known.take(event, &mut suspicion);
        suspicion
    }

    fn of_link(name: &str) -> Suspicion {
        Suspicion { links: [name.parse().unwrap()].into(), ..Suspicion::default() }
    }

    #[test]
    fn a_link_that_is_being_made_is_not_suspected_one_that_loses_something_is() {
        let mut known = Known::default();
        let alone = Link { master: None, ..link(7, "pw0", 0) };
        for step in [alone, link(7, "pw0", 0), link(7, "pw0", rtnetlink::UP)] {
            assert!(suspected(&mut known, Event::Link(step)).is_empty());
        }
        let up = link(7, "pw0", rtnetlink::UP);
        for less in [
            link(7, "pw0", 0),
            Link { master: None, ..up.clone() },
            Link { master: Some(9), ..up.clone() },
            Link { mtu: 1400, ..up.clone() },
            Link { name: "mine".to_owned(), ..up.clone() },
            Link { group: 0, ..up.clone() },
        ] {
            let mut known = Known { ours: [(7, up.clone())].into(), ..Known::default() };
            assert_eq!(suspected(&mut known, Event::Link(less.clone())), of_link("pw0"), "{less:?}");
        }
    }

    #[test]
    fn links_of_others_are_nothing_to_us_but_that_they_come_up_for_others_may_be_on_them() {
        let mut known = Known::default();
        let theirs = |name, flags| Link { group: 0, ..link(8, name, flags) };
        let up = || Event::Link(theirs("eth0", rtnetlink::UP));
        let came_up = |name: &str| Suspicion { parents: [name.parse().unwrap()].into(), ..Suspicion::default() };
        assert!(suspected(&mut known, Event::Link(theirs("eth0", 0))).is_empty());
        assert_eq!(suspected(&mut known, up()), came_up("eth0"));
        for event in [up(), Event::AddressGone(8), Event::LinkGone(theirs("eth0", 0))] {
            assert!(suspected(&mut known, event).is_empty());
        }
        assert_eq!(suspected(&mut known, up()), came_up("eth0"));
        assert_eq!(suspected(&mut known, Event::Link(theirs("lan0", rtnetlink::UP))), came_up("lan0"));
        assert_eq!(suspected(&mut known, Event::LinkGone(link(7, "pw0", 0))), of_link("pw0"));
    }

    #[test]
    fn only_others_deletions_in_our_tables_are_news() {
        let mut known = Known::default();
        let mut news = |family, table: &str, by: &str| {
            let tables = vec![(2, "filter".to_owned()), (family, table.to_owned())];
            suspected(&mut known, Event::RulesGone { tables, by: by.to_owned(), pid: 1 }).everything
        };
        assert!(news(1, "podwire", "nft") && news(7, "podwire", "firewalld"));
        assert!(!news(1, "podwire", "podwire") && !news(1, "podwire", "podwire-monitor"));
        assert!(!news(1, "other", "nft") && !news(2, "podwire", "nft"));
    }

    #[test]
    fn the_first_looks_come_at_once_then_one_a_second() {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(), start);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = pace.next(now);
            waits.push((next - now).as_millis());
            now = next;
            pace.took(now, true, Outcome::Healed);
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 1000, 1000, 1000]);
        // After a quiet minute it is as at the start.
        now += Duration::from_secs(60);
        assert_eq!(pace.next(now), now);
        pace.took(now, true, Outcome::Healed);
        assert_eq!(pace.next(now), now);
    }

    #[test]
    fn looks_that_fail_become_rare_and_one_that_helps_ends_that() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..9 {
            pace.took(now, true, Outcome::Failed);
            let next = pace.next(now);
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
        pace.took(now, true, Outcome::Healed);
        assert_eq!(pace.next(now), now);
    }
}
