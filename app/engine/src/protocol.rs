//! What a monitor and the commands that watch its container say to each other.
//!
//! ```text
//!   [kind: 1 byte][length: 4 bytes, little-endian][that many bytes]
//!
//!   command ──> monitor   Watch  Stdin  StdinEnd  Resize  Hold  Settle
//!   monitor ──> command   Started | Failed (to the one that started it), then to those who watch
//!                         Stdout  Stderr …, then to all Exited; Held | Failed to Hold, Held to Settle
//! ```

use linux::ProcessRef;
use linux::pty::WindowSize;
use model::PortMapping;

use crate::{Error, Kind};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Stdin(Vec<u8>),
    /// Our standard input is at its end.
    StdinEnd,
    Resize(WindowSize),
    /// The container's first process runs.
    Started(ProcessRef),
    /// It does not, and nothing of the attempt is left.
    Failed(Kind, String),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// It has ended with this code, and is down.
    Exited(i32),
    /// Send me the output from now on.
    Watch,
    /// Hold these published ports too, until I settle or am gone.
    Hold(Vec<PortMapping>),
    /// They are held, or settled.
    Held,
    /// Hold what the store says, and nothing else.
    Settle,
}

/// More than any frame of ours: a longer one is not from us.
const LONGEST: usize = 1 << 20;

const HEADER: usize = 5;

impl Frame {
    /// Appends the message as bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Stdin(bytes) => put(out, 0, bytes),
            Self::StdinEnd => put(out, 1, &[]),
            Self::Resize(size) => {
                put(out, 2, &[size.rows.to_le_bytes(), size.columns.to_le_bytes()].concat());
            }
            Self::Started(init) => {
                put(out, 3, &[&init.pid.to_le_bytes()[..], &init.start_time.to_le_bytes()].concat());
            }
            Self::Failed(kind, message) => put(out, 4, &[&[kind_code(*kind)], message.as_bytes()].concat()),
            Self::Stdout(bytes) => put(out, 5, bytes),
            Self::Stderr(bytes) => put(out, 6, bytes),
            Self::Exited(code) => put(out, 7, &code.to_le_bytes()),
            Self::Watch => put(out, 8, &[]),
            // A list of plain values always has a text.
            Self::Hold(ports) => put(out, 9, &serde_json::to_vec(ports).unwrap_or_default()),
            Self::Held => put(out, 10, &[]),
            Self::Settle => put(out, 11, &[]),
        }
    }

    fn read(kind: u8, body: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_le_bytes(body.get(at..at + 2)?.try_into().ok()?));
        Some(match kind {
            0 => Self::Stdin(body.to_vec()),
            1 => Self::StdinEnd,
            2 => Self::Resize(WindowSize { rows: half(0)?, columns: half(2)? }),
            3 => Self::Started(ProcessRef {
                pid: u32::from_le_bytes(body.get(..4)?.try_into().ok()?),
                start_time: u64::from_le_bytes(body.get(4..12)?.try_into().ok()?),
            }),
            4 => {
                let (kind, message) = body.split_first()?;
                Self::Failed(kind_of(*kind), String::from_utf8_lossy(message).into_owned())
            }
            5 => Self::Stdout(body.to_vec()),
            6 => Self::Stderr(body.to_vec()),
            7 => Self::Exited(i32::from_le_bytes(body.get(..4)?.try_into().ok()?)),
            8 => Self::Watch,
            9 => Self::Hold(serde_json::from_slice(body).ok()?),
            10 => Self::Held,
            11 => Self::Settle,
            _ => return None,
        })
    }
}

fn put(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}

/// The kinds by their place in this list.
const KINDS: [Kind; 6] =
    [Kind::Usage, Kind::NotFound, Kind::WrongState, Kind::InUse, Kind::CannotStart, Kind::CommandNotFound];

fn kind_code(kind: Kind) -> u8 {
    KINDS.iter().position(|k| *k == kind).unwrap_or_default() as u8
}

fn kind_of(code: u8) -> Kind {
    KINDS.get(usize::from(code)).copied().unwrap_or(Kind::Usage)
}

/// Puts messages together again from the pieces a stream socket delivers.
#[derive(Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    /// Where the first message not yet taken begins.
    at: usize,
}

impl Decoder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message. An error when what came is none of ours.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Error> {
        let rest = &self.bytes[self.at..];
        let Some((header, rest)) = rest.split_at_checked(HEADER) else { return Ok(None) };
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > LONGEST {
            return Err(Error::usage("a container's monitor and this podwire do not understand each other"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::read(header[0], body)
            .ok_or_else(|| Error::usage("a container's monitor and this podwire do not understand each other"))?;
        self.at += HEADER + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent_whatever_the_pieces() {
        let sent = [
            Frame::Started(ProcessRef { pid: 7, start_time: u64::MAX }),
            Frame::Stdout(vec![0; 70_000]),
            Frame::Stderr(Vec::new()),
            Frame::Stdin(b"x".to_vec()),
            Frame::StdinEnd,
            Frame::Resize(WindowSize { rows: 24, columns: 80 }),
            Frame::Failed(Kind::CommandNotFound, "ä".to_owned()),
            Frame::Exited(-1),
            Frame::Watch,
            Frame::Hold(vec!["[::1]:8080:80/udp".parse::<model::PortSpec>().unwrap().at(8080)]),
            Frame::Held,
            Frame::Settle,
        ];
        let mut bytes = Vec::new();
        sent.iter().for_each(|frame| frame.write(&mut bytes));
        for piece in [1, 3, 4096, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for part in bytes.chunks(piece) {
                decoder.feed(part);
                while let Some(frame) = decoder.next().unwrap() {
                    got.push(frame);
                }
            }
            assert!(got == sent, "in pieces of {piece}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [&[99, 0, 0, 0, 0][..], &[9, 0, 0, 0, 0], &[5, 255, 255, 255, 255], &[7, 1, 0, 0, 0, 1]] {
            let mut decoder = Decoder::default();
            decoder.feed(nonsense);
            assert!(decoder.next().is_err(), "{nonsense:?}");
        }
    }
}
