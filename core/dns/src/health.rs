//! Which upstreams to pass over for a while.
//!
//! Two tries in a row without an answer in time, or one that the network refused, and an upstream goes behind the
//! others for 5 s, then 10, 20 … 60 s. When that is over, one query tries it; the others follow when it answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The first pause; doubled by every further strike.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// One lost datagram is nobody's fault.
const STRIKES: u32 = 2;

/// How long the query that tries it again is alone.
const PROBE: Duration = Duration::from_secs(1);

/// More than any host has; beyond it new troubles are not remembered.
const REMEMBERED_MAX: usize = 256;

/// What is held against upstreams. One without an entry is well.
#[derive(Debug, Default)]
pub(crate) struct Health {
    troubles: HashMap<SocketAddr, Trouble>,
}

#[derive(Debug)]
struct Trouble {
    strikes: u32,
    /// Passed over until then.
    until: Instant,
}

impl Health {
    /// `upstreams` with the troubled ones last. The first one whose pause is over is tried by this query.
    pub(crate) fn order(&mut self, upstreams: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        let (mut well, troubled): (Vec<_>, Vec<_>) =
            upstreams.iter().partition(|upstream| !self.passed_over(upstream, now));
        if let Some(first) = well.first().and_then(|first| self.troubles.get_mut(first))
            && first.strikes >= STRIKES
        {
            first.until = now + PROBE;
        }
        well.extend(troubled);
        well
    }

    /// It answered in time.
    pub(crate) fn well(&mut self, upstream: SocketAddr) {
        self.troubles.remove(&upstream);
    }

    /// It has not answered in time.
    pub(crate) fn silent(&mut self, upstream: SocketAddr, now: Instant) {
        self.strike(upstream, 1, now);
    }

    /// The network says that nobody is there.
    pub(crate) fn refused(&mut self, upstream: SocketAddr, now: Instant) {
        self.strike(upstream, STRIKES, now);
    }

    fn passed_over(&self, upstream: &SocketAddr, now: Instant) -> bool {
        self.troubles.get(upstream).is_some_and(|trouble| trouble.strikes >= STRIKES && now < trouble.until)
    }

    fn strike(&mut self, upstream: SocketAddr, strikes: u32, now: Instant) {
        if self.troubles.len() >= REMEMBERED_MAX && !self.troubles.contains_key(&upstream) {
            self.troubles.retain(|_, trouble| now < trouble.until);
            if self.troubles.len() >= REMEMBERED_MAX {
                return;
            }
        }
        // Queries in flight together are one piece of evidence: a pause is not lengthened while it lasts.
        if self.passed_over(&upstream, now) && !self.is_probed(&upstream, now) {
            return;
        }
        let trouble = self.troubles.entry(upstream).or_insert(Trouble { strikes: 0, until: now });
        trouble.strikes = trouble.strikes.saturating_add(strikes);
        let doublings = trouble.strikes.saturating_sub(STRIKES).min(8);
        trouble.until = now + (PAUSE * (1 << doublings)).min(PAUSE_MAX);
    }

    /// Is the pause no longer than a probe's?
    fn is_probed(&self, upstream: &SocketAddr, now: Instant) -> bool {
        self.troubles.get(upstream).is_some_and(|trouble| trouble.until <= now + PROBE)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use super::*;

    fn upstream(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 53))
    }

    /// Of two upstreams, who is asked first at each of these seconds?
    fn first(health: &mut Health, start: Instant, seconds: &[u64]) -> Vec<u8> {
        let ask = |&s: &u64| match health.order(&[upstream(1), upstream(2)], start + Duration::from_secs(s))[0] {
            SocketAddr::V4(first) => first.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!(),
        };
        seconds.iter().map(ask).collect()
    }

    #[test]
    fn one_lost_datagram_changes_nothing_and_two_do() {
        let (start, mut health) = (Instant::now(), Health::default());
        health.silent(upstream(1), start);
        assert_eq!(first(&mut health, start, &[0, 1]), [1, 1]);
        health.silent(upstream(1), start);
        assert_eq!(first(&mut health, start, &[0, 4]), [2, 2]);
    }

    #[test]
    fn after_the_pause_one_query_tries_it_and_the_others_wait() {
        let (start, mut health) = (Instant::now(), Health::default());
        health.refused(upstream(1), start);
        assert_eq!(first(&mut health, start, &[4, 5, 5, 5]), [2, 1, 2, 2]);
        health.well(upstream(1));
        assert_eq!(first(&mut health, start, &[5]), [1]);
    }

    #[test]
    fn the_pause_doubles_up_to_a_minute() {
        let (mut now, mut health) = (Instant::now(), Health::default());
        health.refused(upstream(1), now);
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(first(&mut health, now, &[pause - 1, pause]), [2, 1], "{pause}");
            now += Duration::from_secs(pause);
            health.silent(upstream(1), now);
        }
    }

    #[test]
    fn strikes_of_queries_in_flight_together_count_once() {
        let (start, mut health) = (Instant::now(), Health::default());
        (0..50).for_each(|_| health.silent(upstream(1), start));
        assert_eq!(first(&mut health, start, &[4, 5]), [2, 1]);
    }

    #[test]
    fn when_all_are_troubled_they_are_asked_in_their_order() {
        let (start, mut health) = (Instant::now(), Health::default());
        health.refused(upstream(1), start);
        health.refused(upstream(2), start);
        assert_eq!(first(&mut health, start, &[1]), [1]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (start, mut health) = (Instant::now(), Health::default());
        (0..10_000).for_each(|n| health.silent(SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 53)), start));
        assert_eq!(health.troubles.len(), REMEMBERED_MAX);
    }
}
