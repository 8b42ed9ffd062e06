//! This process as the terminal or pipe of a container.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use linux::pty::{self, RawMode, WindowSize};
use linux::{ProcessRef, Signal, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use crate::error::{Error, Kind, Result};
use crate::protocol::{Decoder, Frame};
use crate::record::Settings;
use crate::talk::{Attach, Foreground, KeyWatch, RunEnd, Typed};

/// What a command takes part in, given what the container has.
pub(crate) struct Watch {
    wish: Foreground,
    tty: bool,
}

impl Watch {
    /// `None` when it takes part in nothing.
    pub(crate) fn of(settings: &Settings, attach: &Attach) -> Option<Self> {
        let Attach::Foreground(wish) = attach else { return None };
        let mut wish = wish.clone();
        wish.stdin &= settings.interactive;
        Some(Self { wish, tty: settings.tty })
    }

    /// Rows and columns, when both the container and we have a terminal.
    pub(crate) fn console(&self) -> Option<(u16, u16)> {
        our_size().filter(|_| self.tty).map(|size| (size.rows, size.columns))
    }
}

/// The size of the terminal we are on, if we are on one.
pub(crate) fn our_size() -> Option<WindowSize> {
    let sizes = [pty::window_size(io::stdin()), pty::window_size(io::stdout())];
    sizes.into_iter().flatten().next()
}

/// The conversation with a monitor.
pub(crate) struct Connection {
    socket: UnixStream,
    decoder: Decoder,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, decoder: Decoder::default() }
    }

    /// Says something, and waits until it is said.
    pub(crate) fn say(&mut self, frame: &Frame) -> Result<()> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        self.socket.write_all(&bytes).map_err(lost)
    }

    /// The next message; `None` when the monitor has gone.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(Some(frame));
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(length) => self.decoder.feed(&bytes[..length]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(lost(e)),
            }
        }
    }
}

fn lost(e: io::Error) -> Error {
    Error::at("lost the container's monitor", e)
}

/// Waits until the container runs; its first process.
pub(crate) fn wait_started(connection: &mut Connection) -> Result<ProcessRef> {
    match connection.next()? {
        Some(Frame::Started(init)) => Ok(init),
        Some(Frame::Failed(kind, message)) => Err(Error::new(kind, message)),
        Some(_) | None => Err(Error::new(Kind::CannotStart, "the container's monitor ended before the container ran")),
    }
}

/// Signals that a user means for the container: HUP, INT, QUIT, USR1, USR2, TERM; numbers that are the same on
/// every Linux but MIPS and SPARC (signal(7)).
const PROXIED: [i32; 6] = [1, 2, 3, 10, 12, 15];

/// Passes everything on in both directions until the container ends or the user detaches.
pub(crate) fn follow(connection: Connection, watch: Watch, init: ProcessRef) -> Result<RunEnd> {
    let signals = signals_to_read(&watch)?;
    let raw = if watch.tty && watch.wish.stdin && pty::is_terminal(io::stdin()) {
        Some(RawMode::enter(io::stdin()).map_err(|e| Error::at("cannot set the terminal to raw mode", e))?)
    } else {
        None
    };
    connection.socket.set_nonblocking(true).map_err(Error::usage)?;
    let keys = raw.is_some().then(|| KeyWatch::new(&watch.wish.detach_keys));
    let mut follower = Follower {
        reads_stdin: watch.wish.stdin,
        connection,
        watch,
        init,
        signals,
        keys,
        unsent: VecDeque::new(),
        end: None,
    };
    follower.resize();
    follower.run()
}

fn signals_to_read(watch: &Watch) -> Result<Option<SignalFd>> {
    let mut wanted: Vec<Signal> = Vec::new();
    if watch.wish.signals {
        wanted.extend(PROXIED.iter().filter_map(|number| Signal::new(*number)));
    }
    if watch.tty {
        wanted.push(Signal::WINCH);
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    SignalFd::block(&wanted).map(Some).map_err(Error::usage)
}

struct Follower {
    connection: Connection,
    watch: Watch,
    init: ProcessRef,
    signals: Option<SignalFd>,
    keys: Option<KeyWatch>,
    reads_stdin: bool,
    /// On its way to the monitor.
    unsent: VecDeque<u8>,
    end: Option<RunEnd>,
}

impl Follower {
    fn run(&mut self) -> Result<RunEnd> {
        // What came together with the news of the start: of a short container everything, its end included.
        self.take_frames()?;
        while self.end.is_none() {
            let [socket, stdin, signals] = self.wait()?;
            if socket.contains(PollFlags::OUT) {
                self.send()?;
            }
            if socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.receive()?;
            }
            if !stdin.is_empty() {
                self.read_stdin()?;
            }
            if !signals.is_empty() {
                self.proxy()?;
            }
        }
        Ok(self.end.unwrap_or(RunEnd::Detached))
    }

    /// What happened to the socket, our standard input, and our signals.
    fn wait(&self) -> Result<[PollFlags; 3]> {
        let stdin = io::stdin();
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, !self.unsent.is_empty());
        let mut fds = vec![PollFd::new(&self.connection.socket, events)];
        let stdin_at = (self.reads_stdin && self.unsent.is_empty()).then(|| {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
            fds.len() - 1
        });
        let signals_at = self.signals.as_ref().map(|signals| {
            fds.push(PollFd::new(signals, PollFlags::IN));
            fds.len() - 1
        });
        rustix::io::retry_on_intr(|| poll(&mut fds, None)).map_err(Error::usage)?;
        let at = |index: Option<usize>| index.map_or(PollFlags::empty(), |n| fds[n].revents());
        Ok([at(Some(0)), at(stdin_at), at(signals_at)])
    }

    fn send(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.connection.socket.write(self.unsent.as_slices().0) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The end of the container is read, not noticed by what it no longer takes.
                Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.unsent.clear();
                    self.reads_stdin = false;
                }
                Err(e) => return Err(lost(e)),
            }
        }
        Ok(())
    }

    fn queue(&mut self, frame: &Frame) -> Result<()> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        self.unsent.extend(bytes);
        self.send()
    }

    fn receive(&mut self) -> Result<()> {
        let mut bytes = [0; 1 << 16];
        match self.connection.socket.read(&mut bytes) {
            Ok(0) => {
                return Err(Error::usage("the container's monitor was killed; the container may go on without us"));
            }
            Ok(length) => self.connection.decoder.feed(&bytes[..length]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(()),
            Err(e) => return Err(lost(e)),
        }
        self.take_frames()
    }

    fn take_frames(&mut self) -> Result<()> {
        while let Some(frame) = self.connection.decoder.next()? {
            match frame {
                Frame::Stdout(bytes) if self.watch.wish.stdout => write_all(rustix::stdio::stdout(), &bytes)?,
                Frame::Stderr(bytes) if self.watch.wish.stderr => write_all(rustix::stdio::stderr(), &bytes)?,
                Frame::Exited(code) => self.end = Some(RunEnd::Exited(code)),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_stdin(&mut self) -> Result<()> {
        let mut bytes = [0; 1 << 16];
        let length = match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(length) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            // A terminal that hung up, or a standard input that was closed from the beginning.
            Err(_) => 0,
        };
        if length == 0 {
            self.reads_stdin = false;
            return self.queue(&Frame::StdinEnd);
        }
        match self.keys.as_mut().map(|keys| keys.feed(&bytes[..length])) {
            None => self.queue(&Frame::Stdin(bytes[..length].to_vec())),
            Some(Typed::Pass(typed)) => self.queue(&Frame::Stdin(typed)),
            Some(Typed::Detach(typed)) => {
                self.end = Some(RunEnd::Detached);
                self.queue(&Frame::Stdin(typed))
            }
        }
    }

    fn proxy(&mut self) -> Result<()> {
        while let Some(signal) = self.signals.as_mut().map_or(Ok(None), SignalFd::next).map_err(Error::usage)? {
            if signal == Signal::WINCH {
                self.resize();
            } else if let Err(e) = self.init.signal(signal)
                && e.kind() != io::ErrorKind::NotFound
            {
                return Err(Error::at(format!("cannot send {signal} to the container"), e));
            }
        }
        Ok(())
    }

    fn resize(&mut self) {
        if let Some(size) = our_size().filter(|_| self.watch.tty) {
            let mut bytes = Vec::new();
            Frame::Resize(size).write(&mut bytes);
            self.unsent.extend(bytes);
        }
    }
}

/// Writes to one of our standard streams.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(rustix::io::Errno::INTR) => {}
            // Somebody made the terminal or pipe we share non-blocking.
            Err(rustix::io::Errno::AGAIN) => wait_writable(to)?,
            Err(e) => return Err(Error::at("cannot write the container's output", e)),
        }
    }
    Ok(())
}

fn wait_writable(fd: impl AsFd) -> Result<()> {
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None)).map(drop).map_err(Error::usage)
}

/// A terminal of ours joined to the master of another, until `ended` is readable.
pub(crate) fn join_terminals(
    master: impl AsFd,
    ended: impl AsFd,
    stdin: bool,
    keys: &crate::talk::DetachKeys,
) -> Result<RunEnd> {
    let signals = SignalFd::block(&[Signal::WINCH]).map_err(Error::usage)?;
    let raw = if stdin && pty::is_terminal(io::stdin()) {
        Some(RawMode::enter(io::stdin()).map_err(|e| Error::at("cannot set the terminal to raw mode", e))?)
    } else {
        None
    };
    let mut keys = raw.is_some().then(|| KeyWatch::new(keys));
    let mut signals = signals;
    let mut reads_stdin = stdin;
    let size = || our_size().map_or(Ok(()), |size| pty::set_window_size(&master, size));
    size().map_err(Error::usage)?;
    loop {
        let stdin = io::stdin();
        let mut fds = vec![
            PollFd::new(&master, PollFlags::IN),
            PollFd::new(&ended, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        if reads_stdin {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut fds, None)).map_err(Error::usage)?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[2] && signals.next().map_err(Error::usage)?.is_some() {
            size().map_err(Error::usage)?;
        }
        if ready.get(3) == Some(&true) {
            let mut bytes = [0; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
                Ok(length @ 1..) => match keys.as_mut().map(|keys| keys.feed(&bytes[..length])) {
                    None => write_all(master.as_fd(), &bytes[..length])?,
                    Some(Typed::Pass(typed)) => write_all(master.as_fd(), &typed)?,
                    Some(Typed::Detach(_)) => return Ok(RunEnd::Detached),
                },
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                _ => reads_stdin = false,
            }
        }
        if ready[0] {
            let mut bytes = [0; 1 << 16];
            match rustix::io::read(&master, &mut bytes) {
                Ok(length @ 1..) => {
                    write_all(rustix::stdio::stdout(), &bytes[..length])?;
                    continue;
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // EIO: nobody has the terminal open any more.
                _ => return Ok(RunEnd::Exited(0)),
            }
        }
        if ready[1] && !ready[0] {
            return Ok(RunEnd::Exited(0));
        }
    }
}
