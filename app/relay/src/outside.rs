//! The thread that stays in the host's network namespace.

use std::io;
use std::sync::mpsc::{self, Sender};

/// Does things in the network namespace in which it was made: sockets made there belong there, whoever uses them.
#[derive(Debug, Clone)]
pub struct Outside(Sender<Errand>);

type Errand = Box<dyn FnOnce() + Send>;

impl Outside {
    /// Starts the thread in the caller's namespace. It ends with the last copy of this.
    pub fn here() -> io::Result<Self> {
        let (errands, received) = mpsc::channel::<Errand>();
        let work = move || received.into_iter().for_each(|errand| errand());
        std::thread::Builder::new().name("outside".to_owned()).spawn(work)?;
        Ok(Self(errands))
    }

    /// Runs `f` there, one at a time, and waits for it.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "the thread outside has ended");
        let (done, wait) = mpsc::sync_channel(1);
        let errand = move || {
            // Whoever asked waits.
            let _ = done.send(f());
        };
        self.0.send(Box::new(errand)).map_err(|_| ended())?;
        wait.recv().map_err(|_| ended())?
    }
}
