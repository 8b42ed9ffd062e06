//! The monitor's loop: output to the log and to those who watch, input the other way, until the end.
//!
//! A client that does not read stops the output, and with it the container, once [`FULL`] bytes wait for it;
//! its bytes are exact. Clients beyond [`CLIENTS`] are turned away.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use linux::{ProcessRef, Signal, SignalFd, pty};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::engine::Places;
use crate::error::{Error, Result};
use crate::keeper::Keeper;
use crate::log::{LogWriter, Stream};
use crate::monitor::{Up, through};
use crate::ports::Holds;
use crate::protocol::{Decoder, Frame};
use crate::revival::Guard;

/// Bytes that may wait for one client, or for the container's input.
const FULL: usize = 1 << 20;

/// Watching commands at a time.
const CLIENTS: usize = 64;

/// Bytes read at once; a pipe holds 65,536.
const CHUNK: usize = 1 << 16;

/// The name of the socket that commands connect to.
pub(crate) const ATTACH: &str = "attach";

/// Something the container writes.
pub(crate) struct Source {
    file: File,
    kind: SourceKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SourceKind {
    Output,
    Error,
    Terminal,
}

impl Source {
    /// Standard output; `file` does not block.
    pub(crate) fn output(file: File) -> Self {
        Self { file, kind: SourceKind::Output }
    }

    /// Standard error; `file` does not block.
    pub(crate) fn error(file: File) -> Self {
        Self { file, kind: SourceKind::Error }
    }

    /// The master of a terminal.
    pub(crate) fn terminal(master: OwnedFd) -> Result<Self> {
        set_nonblocking(&master)?;
        Ok(Self { file: master.into(), kind: SourceKind::Terminal })
    }

    /// Its master, when it is a terminal.
    pub(crate) fn as_terminal(&self) -> Option<BorrowedFd<'_>> {
        (self.kind == SourceKind::Terminal).then(|| self.file.as_fd())
    }
}

fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, true).map_err(Error::usage)
}

/// One command that is connected.
struct Client {
    /// Which of all there ever were.
    number: u64,
    socket: UnixStream,
    decoder: Decoder,
    outbox: Outbox,
    watches: bool,
    gone: bool,
}

impl Client {
    fn answer(&mut self, frame: &Frame) {
        frame.write(&mut self.outbox.bytes);
        self.gone |= self.outbox.push_to(&self.socket).is_err();
    }
}

/// Bytes on their way to somebody who may be slow.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Writes as much as is taken at once.
    fn push_to(&mut self, mut target: impl Write) -> io::Result<()> {
        while self.waiting() > 0 {
            match target.write(&self.bytes[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(())
    }
}

/// Where the container reads from.
struct Input {
    file: File,
    outbox: Outbox,
    /// To be closed when the outbox is empty.
    ends: bool,
}

/// See the module's description.
pub(crate) struct Pump {
    log: LogWriter,
    /// The container's published ports.
    holds: Holds,
    clients: Vec<Client>,
    /// How many there ever were.
    counted: u64,
    listener: Option<UnixListener>,
    sources: Vec<Source>,
    input: Option<Input>,
    /// Whoever else has the input's descriptor, which with a terminal is that of the output too.
    keeper: Option<Keeper>,
    /// Set before [`Pump::run`] for a container that needs netd, or a relay.
    pub(crate) guards: Vec<Guard>,
    /// The process that checks its health.
    pub(crate) health: Option<crate::health::Watcher>,
    /// When it is killed, if it has not ended before.
    pub(crate) timeout: Option<Instant>,
    buffer: Vec<u8>,
    /// SIGCHLD to be read: of the runtime's helpers, which end after it and are ours then.
    children: Option<SignalFd>,
    /// The exit code of the container's first process, once we have reaped it.
    code: Option<i32>,
}

/// Who has something for us.
#[derive(Clone, Copy)]
enum Token {
    End,
    Listener,
    Source(usize),
    Client(usize),
    Input,
    Keeper,
    Children,
    Guard(usize),
}

impl Pump {
    /// `holds`: for as long as the container has its ports.
    /// `log`: where it writes, and how much at most.
    pub(crate) fn new((log, limit): (&Path, Option<u64>), holds: Holds) -> Result<Self> {
        let log = LogWriter::open(log, limit).map_err(|e| Error::at(log.display(), e))?;
        Ok(Self {
            log,
            holds,
            clients: Vec::new(),
            counted: 0,
            listener: None,
            sources: Vec::new(),
            input: None,
            keeper: None,
            guards: Vec::new(),
            health: None,
            timeout: None,
            buffer: vec![0; CHUNK],
            children: None,
            code: None,
        })
    }

    /// The command that started us; its place among the clients.
    pub(crate) fn add_client(&mut self, socket: UnixStream, watches: bool) -> Result<usize> {
        socket.set_nonblocking(true).map_err(Error::usage)?;
        self.counted += 1;
        self.clients.push(Client {
            number: self.counted,
            socket,
            decoder: Decoder::default(),
            outbox: Outbox::default(),
            watches,
            gone: false,
        });
        Ok(self.clients.len() - 1)
    }

    /// Lets commands connect.
    pub(crate) fn listen(&mut self, places: &Places) -> Result<()> {
        let wrong = |e: io::Error| Error::at("cannot make the attach socket", e);
        let directory = File::open(places.run_data()).map_err(wrong)?;
        // A killed monitor leaves its own behind.
        let _ = std::fs::remove_file(places.run_data().join(ATTACH));
        // The directory is root's alone, so the socket needs no mode of its own.
        let listener = UnixListener::bind(through(&directory, ATTACH)).map_err(wrong)?;
        listener.set_nonblocking(true).map_err(wrong)?;
        self.listener = Some(listener);
        Ok(())
    }

    pub(crate) fn tell_started(&mut self, init: ProcessRef) {
        self.tell(&Frame::Started(init));
    }

    /// Answers the starter, and nobody else, for nobody else is there.
    pub(crate) fn answer_failure(&mut self, starter: Option<usize>, error: &Error) {
        if starter.is_some() {
            self.tell(&Frame::Failed(error.kind, error.message.clone()));
            self.flush();
        }
    }

    /// The last word to all. Waits for those who are slow, for as long as they are there.
    pub(crate) fn tell_exited(&mut self, code: i32) {
        self.tell(&Frame::Exited(code));
        self.flush();
    }

    /// Lets go of the container's ports.
    pub(crate) fn release_ports(&mut self) {
        self.holds.release();
    }

    fn tell(&mut self, frame: &Frame) {
        for client in &mut self.clients {
            frame.write(&mut client.outbox.bytes);
        }
        self.push();
    }

    /// Runs until the container's first process has ended; its exit code.
    pub(crate) fn run(&mut self, up: Up) -> Result<i32> {
        let init = up.init;
        self.sources = up.sources;
        self.input = self.open_input(up.stdin)?;
        self.keeper = up.keeper;
        // Only now: the runtime, and the container, would have inherited it.
        self.children = Some(SignalFd::block(&[Signal::CHLD]).map_err(Error::usage)?);
        self.holds.serve();
        self.reap(init);
        // Our child, alive or a zombie: its number is its own until we reap it. If not our child, it may be
        // gone already.
        let Ok(end) = init.pidfd() else { return Ok(self.ended(init, None)) };
        loop {
            self.kill_when_late(init);
            // Numbers may mean the next one after somebody has gone in this round. Nobody here blocks, so
            // that one is then only asked in vain.
            for (token, events) in self.wait(&end)? {
                match token {
                    Token::End => return Ok(self.ended(init, Some(&end))),
                    Token::Listener => self.accept(),
                    Token::Source(n) => self.read_source(n),
                    Token::Client(n) => self.serve(n, events),
                    Token::Input => self.feed(),
                    Token::Keeper => self.replace_keeper(),
                    Token::Children => self.reap(init),
                    Token::Guard(n) => self.guards[n].step(),
                }
            }
            self.drop_gone();
        }
    }

    /// `--timeout`
    fn kill_when_late(&mut self, init: ProcessRef) {
        if self.timeout.is_some_and(|end| Instant::now() >= end) {
            self.timeout = None;
            // It may have ended just now.
            let _ = init.signal(Signal::KILL);
        }
    }

    fn drop_gone(&mut self) {
        for client in self.clients.extract_if(.., |client| client.gone) {
            self.holds.settle(client.number);
        }
    }

    fn open_input(&self, stdin: Option<OwnedFd>) -> Result<Option<Input>> {
        let terminal = self.sources.iter().find(|source| source.kind == SourceKind::Terminal);
        let file = match (stdin, terminal) {
            (Some(stdin), _) => {
                set_nonblocking(&stdin)?;
                File::from(stdin)
            }
            (None, Some(terminal)) => terminal.file.try_clone().map_err(Error::usage)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Input { file, outbox: Outbox::default(), ends: false }))
    }

    /// Who is ready.
    fn wait(&self, end: &OwnedFd) -> Result<Vec<(Token, PollFlags)>> {
        let mut tokens = vec![Token::End];
        let mut fds = vec![PollFd::new(end, PollFlags::IN)];
        if let Some(listener) = &self.listener {
            tokens.push(Token::Listener);
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Some(children) = &self.children {
            tokens.push(Token::Children);
            fds.push(PollFd::new(children, PollFlags::IN));
        }
        for (n, fd) in self.guards.iter().enumerate().filter_map(|(n, guard)| Some((n, guard.fd()?))) {
            tokens.push(Token::Guard(n));
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if self.clients.iter().all(|client| client.outbox.waiting() < FULL) {
            for (n, source) in self.sources.iter().enumerate() {
                tokens.push(Token::Source(n));
                fds.push(PollFd::new(&source.file, PollFlags::IN));
            }
        }
        let input_full = self.input.as_ref().is_some_and(|input| input.outbox.waiting() >= FULL);
        for (n, client) in self.clients.iter().enumerate() {
            let mut events = if input_full { PollFlags::empty() } else { PollFlags::IN };
            events.set(PollFlags::OUT, client.outbox.waiting() > 0);
            tokens.push(Token::Client(n));
            fds.push(PollFd::new(&client.socket, events));
        }
        if let Some(input) = self.input.as_ref().filter(|input| input.outbox.waiting() > 0) {
            tokens.push(Token::Input);
            fds.push(PollFd::new(&input.file, PollFlags::OUT));
        }
        if let Some(keeper) = &self.keeper {
            tokens.push(Token::Keeper);
            fds.push(PollFd::new(keeper, PollFlags::IN));
        }
        let left = self.timeout.map(|end| Timespec::try_from(end.saturating_duration_since(Instant::now())));
        let left = left.transpose().map_err(Error::usage)?;
        rustix::io::retry_on_intr(|| poll(&mut fds, left.as_ref())).map_err(Error::usage)?;
        let ready = fds.iter().map(PollFd::revents);
        // The end comes last: what was written before it is read first.
        let mut ready: Vec<_> = tokens.into_iter().zip(ready).filter(|(_, events)| !events.is_empty()).collect();
        let ended = matches!(ready.first(), Some((Token::End, _)));
        ready.rotate_left(usize::from(ended));
        Ok(ready)
    }

    fn accept(&mut self) {
        let Some(Ok((socket, _))) = self.listener.as_ref().map(UnixListener::accept) else { return };
        if self.clients.len() < CLIENTS {
            // A connection that cannot be served is closed, which its command sees.
            let _ = self.add_client(socket, false);
        }
    }

    /// Reads once. A source at its end is not asked again.
    fn read_source(&mut self, n: usize) {
        let Some(source) = self.sources.get_mut(n) else { return };
        match source.file.read(&mut self.buffer) {
            Ok(0) => drop(self.sources.remove(n)),
            Ok(length) => {
                let kind = source.kind;
                self.distribute(kind, length);
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // EIO: nobody has the terminal open any more.
            Err(_) => drop(self.sources.remove(n)),
        }
    }

    fn distribute(&mut self, kind: SourceKind, length: usize) {
        let bytes = &self.buffer[..length];
        let stream = if kind == SourceKind::Error { Stream::Stderr } else { Stream::Stdout };
        self.log.write(Timestamp::now(), stream, bytes);
        let frame = if kind == SourceKind::Error { Frame::Stderr } else { Frame::Stdout };
        if self.clients.iter().any(|client| client.watches) {
            let frame = frame(bytes.to_vec());
            for client in self.clients.iter_mut().filter(|client| client.watches) {
                frame.write(&mut client.outbox.bytes);
            }
            self.push();
        }
    }

    /// Sends what clients take at once.
    fn push(&mut self) {
        for client in &mut self.clients {
            client.gone |= client.outbox.push_to(&client.socket).is_err();
        }
        self.drop_gone();
    }

    fn serve(&mut self, n: usize, events: PollFlags) {
        let Some(client) = self.clients.get_mut(n) else { return };
        if events.contains(PollFlags::OUT) {
            client.gone |= client.outbox.push_to(&client.socket).is_err();
        }
        if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            let mut bytes = [0; CHUNK];
            match client.socket.read(&mut bytes) {
                Ok(0) => client.gone = true,
                Ok(length) => client.decoder.feed(&bytes[..length]),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => client.gone = true,
            }
        }
        self.obey(n);
    }

    fn obey(&mut self, n: usize) {
        while let Some(client) = self.clients.get_mut(n) {
            match client.decoder.next() {
                Ok(Some(Frame::Watch)) => client.watches = true,
                Ok(Some(Frame::Stdin(bytes))) => {
                    if let Some(input) = &mut self.input {
                        input.outbox.bytes.extend_from_slice(&bytes);
                    }
                    self.feed();
                }
                Ok(Some(Frame::StdinEnd)) => {
                    // A terminal has no end of input, only a key that says so.
                    let terminal = self.sources.iter().any(|source| source.kind == SourceKind::Terminal);
                    if let Some(input) = self.input.as_mut().filter(|_| !terminal) {
                        input.ends = true;
                    }
                    self.feed();
                }
                Ok(Some(Frame::Resize(size))) => self.resize(size),
                Ok(Some(Frame::Hold(ports))) => {
                    let answer = match self.holds.hold(client.number, &ports) {
                        Ok(()) => Frame::Held,
                        Err(error) => Frame::Failed(error.kind, error.message),
                    };
                    client.answer(&answer);
                }
                Ok(Some(Frame::Settle)) => {
                    self.holds.settle(client.number);
                    client.answer(&Frame::Held);
                }
                Ok(Some(_)) | Err(_) => client.gone = true,
                Ok(None) => return,
            }
            if self.clients.get(n).is_none_or(|client| client.gone) {
                return;
            }
        }
    }

    /// Gives the container what it takes at once.
    fn feed(&mut self) {
        let Some(input) = &mut self.input else { return };
        let refused = input.outbox.push_to(&input.file).is_err();
        if refused || (input.ends && input.outbox.waiting() == 0) {
            self.end_input();
        }
    }

    fn end_input(&mut self) {
        // The keeper first: if we are killed in between, the input ends all the same.
        if let Some(keeper) = self.keeper.take() {
            keeper.release();
        }
        self.input = None;
    }

    /// The keeper never says anything, so it has been killed.
    fn replace_keeper(&mut self) {
        let both = self.keeper.take().zip(self.input.as_ref());
        self.keeper = both.and_then(|(keeper, input)| keeper.again(input.file.as_fd()));
    }

    fn resize(&self, size: pty::WindowSize) {
        if let Some(terminal) = self.sources.iter().find(|source| source.kind == SourceKind::Terminal) {
            // Fails only when the terminal is gone; then its size matters to nobody.
            let _ = pty::set_window_size(&terminal.file, size);
        }
    }

    /// What the container wrote last, and its exit code.
    fn ended(&mut self, init: ProcessRef, end: Option<&OwnedFd>) -> i32 {
        self.listener = None;
        // All its processes have died with the first one of their PID namespace: nothing more can come.
        for n in 0..self.sources.len() {
            while let Ok(length @ 1..) = self.sources[n].file.read(&mut self.buffer) {
                let kind = self.sources[n].kind;
                self.distribute(kind, length);
            }
        }
        self.sources.clear();
        self.end_input();
        self.own_code(init).or_else(|| foreign_code(init, end)).unwrap_or(UNKNOWN)
    }

    /// Takes the children that have ended: the runtime's helpers, and maybe the first process itself.
    fn reap(&mut self, init: ProcessRef) {
        while let Some(Ok(Some(_))) = self.children.as_mut().map(SignalFd::next) {}
        while let Ok(Some(ended)) = linux::process::reap() {
            if ended.pid == init.pid {
                self.code = Some(ended.code);
            } else if let Some(health) = &mut self.health {
                health.ended(ended.pid);
            }
        }
    }

    /// The exit code of a first process that is our child. It is one of the runtime's last process, which may
    /// end a moment after it; only then is it ours to reap. Of other children, helpers that we brought back, we
    /// do not wait for the end.
    fn own_code(&mut self, init: ProcessRef) -> Option<i32> {
        while self.code.is_none() && linux::process::is_descendant(init.pid) {
            let ended = linux::process::wait_any().ok()??;
            if ended.pid == init.pid {
                self.code = Some(ended.code);
            }
        }
        self.code
    }

    /// Waits until every client has everything or is gone.
    fn flush(&mut self) {
        self.push();
        loop {
            let waiting: Vec<usize> =
                (0..self.clients.len()).filter(|n| self.clients[*n].outbox.waiting() > 0).collect();
            if waiting.is_empty() {
                return;
            }
            let mut fds: Vec<PollFd<'_>> =
                waiting.iter().map(|n| PollFd::new(&self.clients[*n].socket, PollFlags::OUT)).collect();
            if rustix::io::retry_on_intr(|| poll(&mut fds, None)).is_err() {
                return;
            }
            self.push();
        }
    }
}

/// The exit code when nobody can tell: Podman's for a container whose end it did not see.
pub(crate) const UNKNOWN: i32 = 255;

/// The exit code of a process that is somebody else's child: the kernel tells it until that one has reaped
/// it, and since Linux 6.15 also after that.
fn foreign_code(init: ProcessRef, end: Option<&OwnedFd>) -> Option<i32> {
    let end = end?;
    if let Some(code) = init.zombie_code().or_else(|| linux::process::exit_code_by(end)) {
        return Some(code);
    }
    // The hang-up says it has been reaped.
    let patience = Timespec::try_from(Duration::from_millis(200)).ok()?;
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(end, PollFlags::empty())], Some(&patience))).ok()?;
    linux::process::exit_code_by(end)
}
