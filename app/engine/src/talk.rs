//! How a command talks with its user and with the container's streams.

use std::str::FromStr;

use model::ContainerId;

use crate::{Error, error::Result};

/// What the engine says while it works.
pub struct Talk<'a> {
    /// Called with a whole sentence for each thing the user asked for that is not done.
    pub warn: &'a mut dyn FnMut(&str),
    /// How far a pull is.
    pub progress: &'a dyn images::Progress,
}

/// Which streams of a container this process takes part in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// None: it runs in the background.
    Detached,
    /// These, until it ends or the user detaches.
    Foreground(Foreground),
}

/// This process as the container's terminal or pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreground {
    /// Our standard input goes to the container, if it was created with `-i`.
    pub stdin: bool,
    /// Its standard output comes to ours.
    pub stdout: bool,
    /// Its standard error comes to ours.
    pub stderr: bool,
    /// Signals we get go to the container.
    pub signals: bool,
    /// Keys that detach, when there is a terminal.
    pub detach_keys: DetachKeys,
}

impl Default for Foreground {
    fn default() -> Self {
        Self { stdin: true, stdout: true, stderr: true, signals: true, detach_keys: DetachKeys::default() }
    }
}

/// What became of the part we took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunResult {
    /// The container.
    pub id: ContainerId,
    /// How it ended for us.
    pub end: RunEnd,
}

/// How a container's run ended for the one who started or joined it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// It runs on.
    Detached,
    /// It has ended with this code.
    Exited(i32),
}

/// The keys that detach from a terminal, as the bytes it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// `ctrl-p,ctrl-q`
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    /// Letters and `ctrl-X` with X one of `a`–`z`, `@`, `[`, `\`, `]`, `^`, `_`, separated by commas; empty
    /// for none.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(key).collect::<Option<Vec<u8>>>().map(Self).ok_or_else(|| {
            Error::usage(format!("invalid detach keys {text:?}: must be letters or ctrl-LETTER, separated by commas"))
        })
    }
}

fn key(text: &str) -> Option<u8> {
    let lower = text.to_ascii_lowercase();
    match (lower.strip_prefix("ctrl-").map(str::as_bytes), text.as_bytes()) {
        (Some(&[letter @ b'a'..=b'z']), _) => Some(letter - b'a' + 1),
        (Some(b"@"), _) => Some(0),
        (Some(&[sign @ b'['..=b'_']), _) => Some(sign - b'[' + 27),
        (None, &[plain]) if plain.is_ascii_graphic() => Some(plain),
        _ => None,
    }
}

/// Finds the detach keys in what is typed.
pub(crate) struct KeyWatch {
    keys: Vec<u8>,
    /// How many of them have been typed in a row.
    matched: usize,
}

/// What to do with what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Pass this on.
    Pass(Vec<u8>),
    /// Pass this on, then detach.
    Detach(Vec<u8>),
}

impl KeyWatch {
    pub(crate) fn new(keys: &DetachKeys) -> Self {
        Self { keys: keys.0.clone(), matched: 0 }
    }

    /// How many bytes are held back.
    pub(crate) fn held_back(&self) -> &[u8] {
        &self.keys[..self.matched]
    }

    /// Keys that may be the beginning of the sequence are held back until the next one tells.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Typed {
        if self.keys.is_empty() {
            return Typed::Pass(bytes.to_vec());
        }
        let mut pass = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte != self.keys[self.matched] {
                pass.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
            } else {
                pass.push(byte);
            }
            if self.matched == self.keys.len() {
                return Typed::Detach(pass);
            }
        }
        Typed::Pass(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_written_as_podman_writes_them() {
        assert_eq!("ctrl-p,ctrl-q".parse::<DetachKeys>().unwrap(), DetachKeys::default());
        assert_eq!("a,ctrl-[,ctrl-@".parse::<DetachKeys>().unwrap(), DetachKeys(vec![b'a', 27, 0]));
        assert_eq!("".parse::<DetachKeys>().unwrap(), DetachKeys(vec![]));
        for wrong in ["ctrl-", "ctrl-pp", "ab", ",", "ctrl-1"] {
            assert!(wrong.parse::<DetachKeys>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn detach_keys_are_found_across_reads_and_false_starts_are_passed_on() {
        let mut watch = KeyWatch::new(&DetachKeys::default());
        assert_eq!(watch.feed(b"ls\x10"), Typed::Pass(b"ls".to_vec()));
        assert_eq!(watch.feed(b"x"), Typed::Pass(b"\x10x".to_vec()));
        assert_eq!(watch.feed(b"\x10\x10"), Typed::Pass(b"\x10".to_vec()));
        assert_eq!(watch.feed(b"\x11rest"), Typed::Detach(Vec::new()));
    }
}
