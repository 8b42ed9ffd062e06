//! What leases change in the store and in the kernel, done by a thread that may wait for the host lock.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};

use engine::{Engine, EngineOptions, Given};

use super::Handle;
use super::seat::Place;
use super::serve::Command;

/// The container is to have this, or nothing.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) given: Given,
    /// Told back when it is done.
    pub(super) serial: u64,
}

pub(super) fn start(options: EngineOptions, handle: Handle) -> io::Result<Sender<Job>> {
    let (jobs, receiver) = mpsc::channel();
    let work = move || follow(&options, &handle, &receiver);
    std::thread::Builder::new().name("dhcp-follower".to_owned()).spawn(work)?;
    Ok(jobs)
}

fn follow(options: &EngineOptions, handle: &Handle, jobs: &Receiver<Job>) {
    let mut engine = None;
    for job in jobs {
        let done = open(&mut engine, options)
            .and_then(|engine| engine.follow_lease(&job.place.container, &job.place.network, &job.given));
        if let Err(error) = &done {
            tracing::warn!(%error, place = %job.place, "what was leased is not in place");
        }
        let outcome = done.map_err(|error| error.to_string());
        if handle.say(Command::Followed { place: job.place, serial: job.serial, outcome }).is_err() {
            return;
        }
    }
}

fn open<'e>(engine: &'e mut Option<Engine>, options: &EngineOptions) -> engine::error::Result<&'e Engine> {
    Ok(match engine {
        Some(engine) => engine,
        None => engine.insert(Engine::open_for_netd(options.clone())?),
    })
}
