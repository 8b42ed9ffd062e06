//! Signals by name and number.

use std::fmt;
use std::str::FromStr;

use model::Invalid;

/// A signal, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

impl Signal {
    /// Ask to hang up.
    pub const HUP: Self = Self(1);
    /// Interrupt from the keyboard.
    pub const INT: Self = Self(2);
    /// End at once.
    pub const KILL: Self = Self(9);
    /// Ask to end.
    pub const TERM: Self = Self(15);
    /// A child has ended; the same number on every Linux we know but MIPS and SPARC (signal(7)).
    pub const CHLD: Self = Self(17);
    /// Stop running until told to go on.
    pub const STOP: Self = Self(19);
    /// The terminal's size has changed.
    pub const WINCH: Self = Self(28);

    /// The signal with this number.
    pub fn new(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=RTMAX).contains(n)).map(Self)
    }

    /// Its number.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    pub(crate) fn raw(self) -> rustix::process::Signal {
        // SAFETY: asks for a signal that libc does not keep for itself, when it is *raised or handled* here;
        // ours are only sent, and the number is 1 to 64 by construction.
        unsafe { rustix::process::Signal::from_raw_unchecked(self.number()) }
    }
}

/// First and last real-time signal as programs count them: glibc keeps 32 and 33 for itself.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// The names for x86, ARM and RISC-V (include/uapi/asm-generic/signal.h), by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Second names.
const ALIASES: [(&str, u8); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

impl FromStr for Signal {
    type Err = Invalid;

    /// `15`, `TERM`, `SIGTERM`, `RTMIN+3`, `SIGRTMAX-2`, in any case.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid(format!("invalid signal: {text}"));
        if let Ok(number) = text.parse::<i32>() {
            return Self::new(number).ok_or_else(wrong);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        named(name).or_else(|| real_time(name)).ok_or_else(wrong)
    }
}

fn named(name: &str) -> Option<Signal> {
    let first = NAMES.iter().position(|n| *n == name).and_then(|n| u8::try_from(n + 1).ok());
    first.or_else(|| ALIASES.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)).map(Signal)
}

fn real_time(name: &str) -> Option<Signal> {
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(offset(rest, '+')?)?
    } else {
        RTMAX.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(Signal(number))
}

fn offset(text: &str, sign: char) -> Option<u8> {
    if text.is_empty() { Some(0) } else { text.strip_prefix(sign)?.parse().ok() }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (NAMES.get(usize::from(self.0) - 1), self.0.checked_sub(RTMIN)) {
            (Some(name), _) => write!(f, "SIG{name}"),
            (None, Some(0)) => f.write_str("SIGRTMIN"),
            (None, Some(n)) => write!(f, "SIGRTMIN+{n}"),
            (None, None) => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_said_in_many_ways() {
        for (text, number) in [
            ("15", 15),
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
        ] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for wrong in ["", "0", "65", "-1", "FOO", "SIG", "RTMIN+40", "RTMIN-1", "RTMAX+1", "TERM "] {
            assert_eq!(wrong.parse::<Signal>().unwrap_err().0, format!("invalid signal: {wrong}"));
        }
    }

    #[test]
    fn a_printed_signal_reads_back() {
        for signal in (1..=64).filter_map(Signal::new) {
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
    }
}
