//! Namespaces of others that a container is started in: of its pod, of the containers that `--pid`, `--ipc` and `--uts`
//! name, or of files.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use linux::ProcessRef;

use super::Share;
use crate::config::Space;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::record::{ContainerRecord, State};

/// Those that are not its own. Held open: whatever becomes of their processes' numbers, they are the ones meant.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    namespaces: Vec<(Share, Namespace)>,
    /// The pod's directory to be seen as `/dev/shm`.
    pub(crate) shm: Option<PathBuf>,
    /// Whose `/dev/shm` it has by `--ipc container:`.
    pub(crate) memory: Option<ProcessRef>,
}

#[derive(Debug)]
enum Namespace {
    Of(File),
    At(PathBuf),
}

impl Joined {
    /// Those that the container shares, of containers that run.
    pub(crate) fn of(engine: &Engine, record: &ContainerRecord) -> Result<Self> {
        if record.held().is_some_and(|held| held.contains(&Share::Ipc)) {
            return Ok(Self { shm: Some(engine.places(&record.id).shm()), ..Self::default() });
        }
        let mut joined = Self::named(engine, record)?;
        let Some((infra, shares)) = record.shares() else { return Ok(joined) };
        let inside = &record.settings.inside;
        // What the container asks for itself goes before what it has of its pod.
        let own = |share| match share {
            Share::Ipc => inside.ipc != Space::Private,
            Share::Pid => inside.pid != Space::Private,
            Share::Uts => inside.uts != Space::Private,
            Share::Net => true,
        };
        let shares: Vec<Share> = shares.iter().copied().filter(|share| !own(*share)).collect();
        let owner = engine.record(infra)?;
        joined.open(&owner, &shares, &format!("the pod's infra container {infra}"))?;
        joined.shm = shares.contains(&Share::Ipc).then(|| engine.places(infra).shm());
        Ok(joined)
    }

    /// By `--pid`, `--ipc`, `--uts`.
    fn named(engine: &Engine, record: &ContainerRecord) -> Result<Self> {
        let inside = &record.settings.inside;
        let mut joined = Self::default();
        for (share, space) in [(Share::Pid, &inside.pid), (Share::Ipc, &inside.ipc), (Share::Uts, &inside.uts)] {
            match space {
                Space::Private | Space::Host => {}
                Space::Path(path) => joined.namespaces.push((share, Namespace::At(path.clone()))),
                Space::Container(id) => {
                    let owner = engine.record(&id.parse()?)?;
                    let init = joined.open(&owner, &[share], &format!("container {id}"))?;
                    if share == Share::Ipc {
                        joined.memory = Some(init);
                    }
                }
            }
        }
        Ok(joined)
    }

    /// Of a container's first process, which this gives.
    fn open(&mut self, owner: &ContainerRecord, shares: &[Share], whose: &str) -> Result<ProcessRef> {
        let wrong = || {
            let text =
                format!("cannot join the namespaces of {whose}, which is {}: container state improper", owner.state);
            Error::new(Kind::CannotStart, text)
        };
        let init = owner.init.filter(|_| owner.state == State::Running).ok_or_else(wrong)?;
        for share in shares {
            self.namespaces.push((*share, Namespace::Of(namespace_of(init, *share)?)));
        }
        // The number is still its own, and was when they were opened.
        if init.alive() { Ok(init) } else { Err(wrong()) }
    }

    /// A path to the namespace for the runtime, good as long as this is.
    pub(crate) fn path(&self, share: Share) -> Option<PathBuf> {
        let (_, namespace) = self.namespaces.iter().find(|(shared, _)| *shared == share)?;
        Some(match namespace {
            Namespace::Of(file) => PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())),
            Namespace::At(path) => path.clone(),
        })
    }
}

fn namespace_of(process: ProcessRef, share: Share) -> Result<File> {
    let path = format!("/proc/{}/ns/{}", process.pid, share.word());
    File::open(&path).map_err(|e| Error::cannot_start(format!("cannot join the {} namespace: {e}", share.word())))
}
