//! The process that keeps a container's terminal or input open when its monitor is killed.
//!
//! ```text
//!   monitor ──socket── keeper ──> terminal's master, or the write end of the input pipe
//!      ✗                  │           (the last one closed hangs up the container, or ends its input)
//!   another ──userdata/keeper──> keeper ── the descriptor ──> monitor
//! ```
//!
//! **How it works.** Only for containers with `-t` or `-i`; the output of others goes through FIFOs, which
//! nobody needs to hold. A keeper's three standard streams are all it has: the socket to its monitor, what it
//! keeps, and the listening socket for the next monitor. A monitor whose socket hangs up knows that its
//! keeper was killed and starts another one.
//!
//! **Invariants.** It has no capability, and can open no file. It ends with the container's first process, whoever else was killed. While it runs, either
//! it has a monitor, or it answers the next.
//!
//! **Limits.** Monitor and keeper killed at the same moment hang up the container.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::cage::{self, Files};
use linux::{ProcessRef, Spawn, fds};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::CapabilitySet;

use crate::engine::Places;
use crate::error::{Error, Result};
use crate::monitor::through;
use crate::pods::pause;

/// The name (`argv[0]`) under which the binary is a keeper.
pub const KEEPER_NAME: &str = "podwire-keeper";

/// The name of the socket that the next monitor connects to.
const SOCKET: &str = "keeper";

/// A monitor's view of its keeper.
pub(crate) struct Keeper {
    /// Where the socket is.
    directory: PathBuf,
    init: ProcessRef,
    /// Hangs up when the keeper has gone.
    socket: UnixStream,
}

impl Keeper {
    /// Starts one that keeps `kept` until `init` ends.
    pub(crate) fn start(places: &Places, init: ProcessRef, kept: BorrowedFd<'_>) -> Result<Self> {
        Self::start_in(places.run_data(), init, kept).map_err(|e| Error::at("cannot start the container's keeper", e))
    }

    fn start_in(directory: PathBuf, init: ProcessRef, kept: BorrowedFd<'_>) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut call = Spawn::new("/proc/self/exe");
        call.new_session();
        let command = call.command();
        command.arg0(KEEPER_NAME).args([init.pid.to_string(), init.start_time.to_string()]).env_clear();
        command.stdin(OwnedFd::from(theirs)).stdout(kept.try_clone_to_owned()?);
        command.stderr(OwnedFd::from(listen(&directory)?));
        // Its monitor reaps whatever ends; when it outlives its monitor, somebody else does.
        call.spawn().map(drop)?;
        Ok(Self { directory, init, socket })
    }

    /// The keeper that a killed monitor has left, and what it kept; `None` when it was killed too.
    pub(crate) fn find(places: &Places, init: ProcessRef) -> Option<(Self, OwnedFd)> {
        let directory = File::open(places.run_data()).ok()?;
        let socket = UnixStream::connect(through(&directory, SOCKET)).ok()?;
        // One that is stopped is as good as none.
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let kept = fds::receive(&socket).ok()?;
        Some((Self { directory: places.run_data(), init, socket }, kept))
    }

    /// Another one in the place of one that was killed; `None` when there is nothing to keep any more.
    pub(crate) fn again(self, kept: BorrowedFd<'_>) -> Option<Self> {
        // Without it everything goes on as before, until we are killed too.
        let start = || Self::start_in(self.directory, self.init, kept).ok();
        self.init.alive().then(start).flatten()
    }

    /// It need not keep it any more.
    pub(crate) fn release(mut self) {
        // It may have been killed.
        let _ = self.socket.write_all(&[0]);
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// In the place of a socket that a killed keeper may have left.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    let opened = File::open(directory)?;
    let path = directory.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(through(&opened, SOCKET))?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// What `main` runs when its own name is [`KEEPER_NAME`]. Returns the process's exit code.
pub fn keeper_main() -> i32 {
    let _ = linux::process::set_name(KEEPER_NAME);
    // Nobody is there to be told of an error: its monitor sees the hang-up.
    init_from_arguments().map_or(1, |init| i32::from(keep(init).is_err()))
}

fn init_from_arguments() -> Option<ProcessRef> {
    let mut numbers = std::env::args().skip(1);
    Some(ProcessRef { pid: numbers.next()?.parse().ok()?, start_time: numbers.next()?.parse().ok()? })
}

fn keep(init: ProcessRef) -> io::Result<()> {
    let ended = init.pidfd()?;
    let mut monitor = Some(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?));
    let listener = UnixListener::from(io::stderr().as_fd().try_clone_to_owned()?);
    // Else the copy that is standard input would keep our monitor's socket open.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    shut_in()?;
    loop {
        let mut wait = vec![PollFd::new(&ended, PollFlags::IN), PollFd::new(&listener, PollFlags::IN)];
        wait.extend(monitor.as_ref().map(|socket| PollFd::new(socket, PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut wait, None))?;
        let ready: Vec<bool> = wait.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            return Ok(());
        }
        if ready.get(2) == Some(&true) {
            // One byte says that nothing is to be kept; the end, that it was killed.
            if matches!(monitor.as_mut().map(|socket| socket.read(&mut [0])), Some(Ok(1))) {
                return Ok(());
            }
            monitor = None;
        }
        if ready[1] {
            let (socket, _) = listener.accept()?;
            // One that has gone again is not the next monitor.
            monitor = fds::send(&socket, io::stdout().as_fd()).is_ok().then_some(socket).or(monitor);
        }
    }
}

/// What it has is all that it needs from now on. Of a kernel without Landlock or seccomp it has no more than its
/// monitor.
fn shut_in() -> io::Result<()> {
    cage::keep_only(CapabilitySet::empty())?;
    cage::touch_files(Files::None)?;
    cage::call_only(&pause::enough(), &[])?;
    Ok(())
}
