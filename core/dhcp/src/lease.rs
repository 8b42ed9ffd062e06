//! What a server has lent, and on which terms.

use std::net::Ipv4Addr;
use std::time::Duration;

use model::{Addr, DnsName, Invalid, Subnet};
use serde::{Deserialize, Serialize};

/// A moment: the time since the machine's boot, sleep included (CLOCK_BOOTTIME).
pub type Moment = Duration;

/// How long something is lent, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Seconds from [`Lease::obtained`] to the end; `None`: for ever.
    pub seconds: Option<u32>,
    /// T1: seconds until the server is asked to renew.
    pub renew: u32,
    /// T2: seconds until any server is asked.
    pub rebind: u32,
}

/// A term shorter than this would have us talk all the time: such an offer is no good.
pub const SHORTEST: u32 = 5;

/// The value on the wire that means for ever (RFC 2131 section 3.3).
const FOR_EVER: u32 = u32::MAX;

impl Term {
    /// From what a server said. T1 and T2 that are missing, or in no order, become 1/2 and 7/8 (RFC 2131 section
    /// 4.4.5). `None`: too short.
    pub fn new(seconds: u32, renew: Option<u32>, rebind: Option<u32>) -> Option<Self> {
        if seconds == FOR_EVER {
            return Some(Self { seconds: None, renew: FOR_EVER, rebind: FOR_EVER });
        }
        if seconds < SHORTEST {
            return None;
        }
        let usual = Self { seconds: Some(seconds), renew: seconds / 2, rebind: seconds - seconds.div_ceil(8) };
        let asked = Self { renew: renew.unwrap_or(usual.renew), rebind: rebind.unwrap_or(usual.rebind), ..usual };
        let in_order = (2..asked.rebind).contains(&asked.renew) && asked.rebind < seconds;
        Some(if in_order { asked } else { usual })
    }
}

/// A way to somewhere that a server told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub destination: Subnet,
    /// The next hop; `None`: it is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

/// What comes along with an address (RFC 2132, 3442, 3397).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Routes as they are to be made: option 121, else a default route by the first router of option 3.
    pub routes: Vec<Route>,
    /// Option 26: the link's MTU in bytes.
    pub mtu: Option<u16>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<DnsName>,
    /// Option 119.
    pub search: Vec<DnsName>,
    /// Option 42; for those who ask for it.
    pub ntp: Vec<Ipv4Addr>,
}

/// An address that is lent to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its prefix.
    pub length: u8,
    /// Who lent it.
    pub server: Ipv4Addr,
    /// The link-layer address the server's messages come from: its own, or a relay's or router's.
    pub server_mac: [u8; 6],
    /// When we asked for what it was lent by: the term runs from there.
    pub obtained: Moment,
    /// For how long.
    pub term: Term,
    /// What came along.
    pub configuration: Configuration,
}

impl Lease {
    /// The address with its prefix.
    pub fn addr(&self) -> Result<Addr, Invalid> {
        Addr::new(self.address.into(), self.length)
    }

    /// When it ends; `None`: never.
    pub fn end(&self) -> Option<Moment> {
        self.term.seconds.map(|seconds| self.after(seconds))
    }

    pub(crate) fn renew_at(&self) -> Option<Moment> {
        self.term.seconds.map(|_| self.after(self.term.renew))
    }

    pub(crate) fn rebind_at(&self) -> Option<Moment> {
        self.term.seconds.map(|_| self.after(self.term.rebind))
    }

    fn after(&self, seconds: u32) -> Moment {
        self.obtained + Duration::from_secs(seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(seconds: u32, renew: Option<u32>, rebind: Option<u32>) -> Option<(Option<u32>, u32, u32)> {
        Term::new(seconds, renew, rebind).map(|term| (term.seconds, term.renew, term.rebind))
    }

    #[test]
    fn times_to_renew_are_half_and_seven_eighths_unless_told_otherwise() {
        assert_eq!(term(3600, None, None), Some((Some(3600), 1800, 3150)));
        assert_eq!(term(3600, Some(60), Some(120)), Some((Some(3600), 60, 120)));
        assert_eq!(term(3600, Some(60), None), Some((Some(3600), 60, 3150)));
        assert_eq!(term(10, None, None), Some((Some(10), 5, 8)));
    }

    #[test]
    fn times_to_renew_that_make_no_sense_are_not_believed() {
        for (renew, rebind) in [(0, 100), (1, 100), (200, 100), (100, 100), (10, 3600), (4000, 5000), (10, u32::MAX)] {
            assert_eq!(term(3600, Some(renew), Some(rebind)), Some((Some(3600), 1800, 3150)), "{renew} {rebind}");
        }
    }

    #[test]
    fn a_term_of_a_moment_is_none_and_all_ones_are_for_ever() {
        assert_eq!(term(4, None, None), None);
        assert_eq!(term(0, Some(0), Some(0)), None);
        assert_eq!(term(5, None, None), Some((Some(5), 2, 4)));
        assert_eq!(term(u32::MAX, Some(1), Some(2)), Some((None, u32::MAX, u32::MAX)));
    }
}
