//! A line that is typed and not shown: a password.

use std::fs::File;
use std::io::{self, Read};

use linux::pty::RawMode;

/// What the keys send that have a meaning here (a terminal in raw mode passes them on).
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

/// The longest line taken.
const LINE_MAX: usize = 4096;

/// Reads a line from `terminal`, showing nothing of it; `prompt` asks for it once nothing is shown any more.
/// `Interrupted` when the user pressed Ctrl-C.
pub fn hidden_line(terminal: &File, prompt: impl FnOnce() -> io::Result<()>) -> io::Result<String> {
    let _raw = RawMode::enter(terminal)?;
    prompt()?;
    let mut line = Vec::new();
    let mut key = [0];
    let mut input = terminal;
    while line.len() < LINE_MAX {
        if input.read(&mut key)? == 0 {
            break;
        }
        match key[0] {
            b'\r' | b'\n' | END => break,
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            BACKSPACE | DELETE => drop(line.pop()),
            other => line.push(other),
        }
    }
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use linux::pty::Pty;

    use super::*;

    #[test]
    fn what_is_typed_is_read_and_not_shown() {
        let pty = Pty::open().unwrap();
        let (mut master, slave) = (File::from(pty.master), File::from(pty.slave));
        let (asked, hears) = std::sync::mpsc::channel();
        let prompt = move || asked.send(()).map_err(io::Error::other);
        let reader = std::thread::spawn(move || (hidden_line(&slave, prompt).unwrap(), slave));
        hears.recv().unwrap();
        master.write_all(b"secx\x7fret\r").unwrap();
        let (line, slave) = reader.join().unwrap();
        assert_eq!(line, "secret");
        (&slave).write_all(b"after").unwrap();
        let mut shown = [0; 64];
        let n = master.read(&mut shown).unwrap();
        assert!(!String::from_utf8_lossy(&shown[..n]).contains("sec"), "{:?}", &shown[..n]);
    }
}
