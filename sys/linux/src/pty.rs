//! Terminals.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// A pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// Our end: reads what the program writes, writes what it reads.
    pub master: OwnedFd,
    /// The program's end.
    pub slave: OwnedFd,
}

/// How many characters a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Pty {
    /// A new one, of both ends close-on-exec.
    pub fn open() -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        Ok(Self { master, slave })
    }
}

/// The terminal's size.
pub fn window_size(terminal: impl AsFd) -> io::Result<WindowSize> {
    let size = tcgetwinsize(terminal)?;
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the terminal's size; the programs in its foreground get SIGWINCH when it differs.
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Is it a terminal?
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// A terminal that passes every key and character on as it is, until dropped.
pub struct RawMode {
    terminal: File,
    before: Termios,
}

impl RawMode {
    /// Sets `terminal` to raw mode.
    pub fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = File::from(terminal.as_fd().try_clone_to_owned()?);
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Drain, so that what the program wrote in raw mode is not shown in the other. A terminal that has
        // gone needs no mode.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::LocalModes;

    #[test]
    fn a_terminal_has_the_size_set_and_its_mode_back_after_raw() {
        let pty = Pty::open().unwrap();
        assert!(is_terminal(&pty.slave) && !is_terminal(File::open("/dev/null").unwrap()));
        set_window_size(&pty.master, WindowSize { rows: 40, columns: 132 }).unwrap();
        assert_eq!(window_size(&pty.slave).unwrap(), WindowSize { rows: 40, columns: 132 });
        let echoes = || tcgetattr(&pty.slave).unwrap().local_modes.contains(LocalModes::ECHO);
        assert!(echoes());
        let raw = RawMode::enter(&pty.slave).unwrap();
        assert!(!echoes());
        drop(raw);
        assert!(echoes());
    }
}
