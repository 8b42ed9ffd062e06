//! How many of the process's descriptors go where.
//!
//! ```text
//!   1,024 = 160 reserve + 256 upstream sockets + 304 clients' connections + 304 listeners (76 networks)
//! ```

use ::dns::Limits;

/// For all else but the DHCP clients: the store, the control socket, the watcher, the log.
const RESERVE: u64 = 160;

/// More connections than this are of use to nobody; each may hold 128 KiB.
const CONNECTIONS_MAX: u64 = 1024;

/// What may be open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) limits: Limits,
    /// TCP connections of clients, in all.
    pub(super) connections: usize,
    /// As above, of one address.
    pub(super) connections_each: usize,
}

impl Budget {
    /// Divides `descriptors`; `wish` is not exceeded.
    pub(super) fn new(descriptors: u64, wish: Limits) -> Self {
        let in_flight = (descriptors / 8).clamp(4, wish.in_flight.max(4) as u64);
        let left = descriptors.saturating_sub(RESERVE + 2 * in_flight);
        let connections = (left / 2).clamp(8, CONNECTIONS_MAX) as usize;
        let in_flight = in_flight as usize;
        Self {
            limits: Limits { in_flight, per_client: wish.per_client.clamp(1, in_flight / 2) },
            connections,
            connections_each: connections / 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_fit_and_no_wish_is_exceeded() {
        let wish = Limits { in_flight: 256, per_client: 128 };
        for descriptors in [1024, 4096, 20_000, 1 << 20, u64::MAX] {
            let budget = Budget::new(descriptors, wish);
            let listeners = 4 * 64;
            let used = RESERVE as usize + 2 * budget.limits.in_flight + budget.connections + listeners;
            assert!(used as u64 <= descriptors, "{descriptors}: {budget:?}");
            assert!(budget.limits.in_flight <= 256 && budget.limits.per_client <= 128);
        }
        assert_eq!(Budget::new(1024, wish).limits, Limits { in_flight: 128, per_client: 64 });
        assert_eq!(Budget::new(20_000, wish).limits, wish);
    }

    #[test]
    fn with_next_to_nothing_there_is_a_little_of_all() {
        let budget = Budget::new(64, Limits::default());
        assert_eq!((budget.limits.in_flight, budget.limits.per_client), (8, 4));
        assert_eq!((budget.connections, budget.connections_each), (8, 2));
    }
}
