//! What the loop waits for.

/// As everywhere, of these.
pub(super) type Poller = crate::poller::Poller<Token>;

/// Whose descriptor something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// A command came.
    Bell,
    /// The host's resolv.conf changed.
    HostServers,
    /// A query or a connection came.
    Listener(u32),
    /// A client's connection.
    Client(u64),
    /// A socket to an upstream: its place, and which one in that place.
    Question { place: u32, serial: u32 },
}

/// Of 64 bits the upper four say what a token is.
const KIND: u32 = 60;
const NUMBER: u64 = (1 << KIND) - 1;
const PLACE: u32 = 32;

impl crate::poller::Token for Token {
    fn word(self) -> u64 {
        let (kind, number) = match self {
            Self::Bell => (0, 0),
            Self::HostServers => (1, 0),
            Self::Listener(number) => (2, number.into()),
            Self::Client(number) => (3, number),
            Self::Question { place, serial } => (4, u64::from(place) << PLACE | u64::from(serial)),
        };
        kind << KIND | number & NUMBER
    }

    fn parse(word: u64) -> Option<Self> {
        let number = word & NUMBER;
        match word >> KIND {
            0 => Some(Self::Bell),
            1 => Some(Self::HostServers),
            2 => Some(Self::Listener(number as u32)),
            3 => Some(Self::Client(number)),
            4 => Some(Self::Question { place: (number >> PLACE) as u32, serial: number as u32 }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::Token as _;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Bell,
            Token::HostServers,
            Token::Listener(u32::MAX),
            Token::Client(NUMBER),
            Token::Question { place: 511, serial: u32::MAX },
        ] {
            assert_eq!(Token::parse(token.word()), Some(token));
        }
    }
}
