//! Taking containers down, and repairing what the dead left: one way for both.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use linux::ProcessRef;
use model::ContainerId;

use crate::config::NetworkMode;
use crate::engine::{Engine, EngineOptions, FIRST_OWNED_STATE, change_if_owned, load, owner_in, remove_tree, save};
use crate::error::{Error, Result};
use crate::monitor::{self, Mode, Order};
use crate::networking::Leaving;
use crate::pods::unmount_shm;
use crate::ports::hold_what_is_free;
use crate::pump::UNKNOWN;
use crate::record::{ContainerRecord, Fate, State};

impl Engine {
    /// Takes down whatever of the container may be up, then says so in the record, or removes it when that
    /// is its fate. `code`: the exit code, when it ran to its end. Idempotent: it may have been begun before.
    pub(crate) fn take_down(&mut self, id: &ContainerId, owner: ProcessRef, code: Option<i32>) -> Result<()> {
        match self.begin_take_down(id, owner, code)? {
            Some(leaving) => self.networking().gone(leaving),
            None => Ok(()),
        }
    }

    /// As [`Engine::take_down`], up to where nobody can see or reach anything of the container; what the kernel
    /// still does then ends with `networking().gone(…)`.
    pub(crate) fn begin_take_down(
        &mut self,
        id: &ContainerId,
        owner: ProcessRef,
        code: Option<i32>,
    ) -> Result<Option<Leaving>> {
        let out_of_memory = crate::groups::ran_out_of_memory(&self.places(id));
        let ended = change_if_owned(&self.store, id, owner, |record| {
            record.paused = false;
            if record.state == State::Running {
                record.oom_killed = out_of_memory;
                record.state = State::Stopping;
                record.exit_code = code.unwrap_or(UNKNOWN);
                record.finished = Some(Timestamp::now());
                if code.is_none() {
                    record.error = "nobody saw how it ended".to_owned();
                }
            }
        })?;
        // Somebody else has it now, and does this.
        let Some(record) = ended else { return Ok(None) };
        if code.is_none() {
            kill_for_sure(&record)?;
        }
        self.kill_in_pod(&record)?;
        self.end_with_last_member(&record)?;
        // Without a runtime there is nothing it could have made, or it was deinstalled since.
        if let Ok(runtime) = self.runtime_of(&record) {
            if code.is_some() { runtime.forget(id)? } else { runtime.kill(id)? }
        }
        crate::groups::remove(&self.places(id))?;
        self.unshare_hosts(&record)?;
        unmount_shm(&record, &self.places(id))?;
        let mode = &record.settings.network.mode;
        let ours = mode.is_networked() || (*mode == NetworkMode::None && !self.options().rootless);
        let leaving = ours.then(|| self.networking().down(id)).transpose()?;
        let vanishes = match record.fate {
            Some(Fate::Vanish { volumes }) => Some(volumes),
            None => record.settings.remove.then_some(true),
            Some(Fate::Return(_)) => None,
        };
        if let Some(volumes) = vanishes {
            self.forget(&record, volumes)?;
            return Ok(leaving);
        }
        remove_tree(self.places(id).run())?;
        change_if_owned(&self.store, id, owner, |record| {
            record.state = match record.fate.take() {
                Some(Fate::Return(state)) => state,
                Some(Fate::Vanish { .. }) | None => State::Exited,
            };
            record.init = None;
            record.monitor = None;
            record.netns = None;
            record.mount_namespace = None;
        })?;
        Ok(leaving)
    }

    /// Finishes or takes back what processes that died were at. Costs a query and a look at each owner's
    /// /proc entry when all are alive.
    pub(crate) fn repair(&mut self) -> Result<()> {
        let rebooted = self.notice_reboot()?;
        let owned = self.store.read(|tx| tx.container_states_from(FIRST_OWNED_STATE))?;
        for (id, column) in owned {
            match owner_in(&column) {
                Some(owner) if !rebooted && owner.alive() => {}
                Some(owner) => self.repair_container(&id, owner, rebooted)?,
                None => {
                    return Err(Error::usage(format!("the store says {column:?} of container {id}, but not by whom")));
                }
            }
        }
        self.finish_removals()?;
        // What was left half made or half removed takes space and nothing else: no reason not to go on.
        let EngineOptions { root, runroot, .. } = self.options();
        for directory in [runroot, root, &self.pod_groups_path(), &self.volumes_path()] {
            if let Err(error) = linux::file::remove_leftovers(directory) {
                tracing::warn!(%error, path = %directory.display(), "cannot remove what a process that died has left");
            }
        }
        if let Err(error) = self.images().and_then(|images| Ok(images.leftovers()?)) {
            tracing::warn!(%error, "cannot remove what a process that died has left of an image");
        }
        self.networking().repair()
    }

    fn repair_container(&mut self, id: &ContainerId, dead: ProcessRef, rebooted: bool) -> Result<()> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        let claimed = change_if_owned(&self.store, id, dead, |record| record.owner = Some(me))?;
        // Another command was faster.
        let Some(record) = claimed else { return Ok(()) };
        tracing::info!(container = %id, state = %record.state, "repairing what a process that died has left");
        let survives = !rebooted && record.state == State::Running && record.init.is_some_and(|init| init.alive());
        if survives { self.adopt(&record, me) } else { self.take_down(id, me, None) }
    }

    /// A container whose monitor was killed gets another one.
    fn adopt(&self, record: &ContainerRecord, me: ProcessRef) -> Result<()> {
        // Traffic goes by DNAT all the same where somebody has taken the port meanwhile.
        let held = match self.options().rootless {
            true => Vec::new(),
            false => hold_what_is_free(&record.settings.ports),
        };
        let runtime = self.runtime_of(record)?;
        let order = Order { options: self.options_with(&runtime), id: record.id, mode: Mode::Adopt { finder: me } };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(Error::usage)?;
        monitor::spawn(&order, held, Some(theirs), &self.places(&record.id))?;
        // It says so when the record is its own: until then we, whose it is, must be alive.
        crate::foreground::wait_started(&mut crate::foreground::Connection::new(ours)).map(drop)
    }

    /// After a reboot nothing in the kernel is ours any more. Also when the root is used from another
    /// network namespace (an ordinary user's: from other user and mount namespaces) than before, unless somebody
    /// there is still at work.
    fn notice_reboot(&self) -> Result<bool> {
        let boot = linux::machine::boot_id().map_err(Error::usage)?;
        let namespace = match self.options().rootless {
            true => crate::rootless::identity(self.options())?,
            false => linux::NetNs::current().and_then(|ns| ns.inode()).map_err(Error::usage)?.ino.to_string(),
        };
        let identity = format!("{boot} {namespace}");
        if self.store.read(|tx| tx.identity())?.as_ref() == Some(&identity) {
            return Ok(false);
        }
        self.store.write(|tx| {
            let known = tx.identity()?;
            // Another command may have been faster, and may have started containers since.
            if known.as_ref() == Some(&identity) {
                return Ok(false);
            }
            let same_boot = known.as_ref().is_some_and(|known| known.starts_with(&boot));
            let owned = tx.container_states_from(FIRST_OWNED_STATE)?;
            let alive = |(_, column): &&(ContainerId, String)| owner_in(column).is_some_and(|owner| owner.alive());
            if let Some((id, _)) = owned.iter().find(alive).filter(|_| same_boot) {
                return Err(Error::usage(format!(
                    "{} is in use from another {} namespace: container {id} runs there",
                    self.options().root.display(),
                    if self.options().rootless { "user" } else { "network" },
                )));
            }
            if known.is_some() {
                tx.drop_runtime()?;
            }
            tx.set_identity(&identity)?;
            Ok(known.is_some())
        })
    }

    /// Makes this process the owner of a container that is at rest, so that nobody starts it meanwhile, and
    /// whoever finds us dead goes on removing it. `None` when it is not at rest.
    pub(crate) fn claim_for_removal(&self, id: &ContainerId, volumes: bool) -> Result<Option<ContainerRecord>> {
        let me = ProcessRef::me().map_err(Error::usage)?;
        self.store.write(|tx| {
            let Some(mut record) = load(tx, id)?.filter(|record| record.state.at_rest()) else { return Ok(None) };
            record.state = State::Stopping;
            record.owner = Some(me);
            record.fate = Some(Fate::Vanish { volumes });
            save(tx, &record)?;
            Ok(Some(record))
        })
    }

    /// Waits until the container is not being started any more.
    pub(crate) fn wait_settled(&mut self, id: &ContainerId) -> Result<()> {
        loop {
            let record = self.store.read(|tx| load(tx, id))?.filter(|record| record.state == State::Starting);
            let Some(owner) = record.and_then(|record| record.owner) else { return Ok(()) };
            // Its record alone tells that a start has come to its end; one takes some hundredths of a second.
            let gone = owner.wait_end(Some(Duration::from_millis(5)));
            if gone.map_err(|e| Error::at("waiting for the container's start", e))? {
                self.repair()?;
            }
        }
    }

    /// Waits until nobody is at work on the container any more.
    pub(crate) fn wait_down(&mut self, id: &ContainerId) -> Result<()> {
        loop {
            let Some(record) = self.store.read(|tx| load(tx, id))? else { return Ok(()) };
            let Some(owner) = record.owner else { return Ok(()) };
            if !self.hear_end(id)? {
                owner.wait_end(None).map_err(|e: io::Error| Error::at("waiting for the container's monitor", e))?;
            }
            // Its owner has finished, or died; then this is what it left.
            self.repair()?;
        }
    }
}

/// Kills the container's first process, and with it all of its PID namespace.
fn kill_for_sure(record: &ContainerRecord) -> Result<()> {
    let Some(init) = record.init else { return Ok(()) };
    match init.signal(linux::Signal::KILL).and_then(|()| init.wait_end(None)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::at(format!("cannot kill container {}", record.id), e))
        }
        _ => Ok(()),
    }
}
