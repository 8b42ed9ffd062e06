//! Threads that stay in a network namespace and do there what others ask.

use std::io;
use std::sync::mpsc::{self, Sender};

/// Does things in the network namespace in which it was made: sockets made there belong there, whoever uses them.
#[derive(Debug, Clone)]
pub struct Outside(Errands);

impl Outside {
    /// Starts the thread in the caller's namespace. It ends with the last copy of this.
    pub fn here() -> io::Result<Self> {
        Errands::start("outside").map(Self)
    }

    /// Runs `f` there, one at a time, and waits for it.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        self.0.run(f)
    }
}

/// A thread that does one thing after the other, and ends with the last copy of this.
#[derive(Debug, Clone)]
pub(crate) struct Errands(Sender<Errand>);

type Errand = Box<dyn FnOnce() + Send>;

impl Errands {
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let (errands, received) = mpsc::channel::<Errand>();
        let work = move || received.into_iter().for_each(|errand| errand());
        std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self(errands))
    }

    pub(crate) fn run<T: Send + 'static>(&self, f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "a thread that does errands has ended");
        let (done, wait) = mpsc::sync_channel(1);
        let errand = move || {
            // Whoever asked waits.
            let _ = done.send(f());
        };
        self.0.send(Box::new(errand)).map_err(|_| ended())?;
        wait.recv().map_err(|_| ended())?
    }
}
