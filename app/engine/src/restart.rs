//! What follows the end of a container that nobody asked to end: `--restart`.
//!
//! The monitor that saw the end starts the container anew, with a monitor of its own, and ends. It waits before
//! that: a tenth of a second after the first time, twice as long each time up to a minute, and a tenth again after
//! a run of ten seconds, so that a container that cannot live does not take the machine with it.

use std::time::Duration;

use jiff::Timestamp;
use model::ContainerId;

use crate::engine::{Engine, load};
use crate::error::{Kind, Result};
use crate::record::{ContainerRecord, State};
use crate::talk::Attach;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(60);
/// Who lives so long has not failed at once.
const LIVED: Duration = Duration::from_secs(10);

/// After a container has come to its end with this code, and is down.
pub(crate) fn follow_end(engine: &mut Engine, id: &ContainerId) -> Result<()> {
    let Some(record) = engine.store.read(|tx| load(tx, id))?.filter(wants) else { return Ok(()) };
    std::thread::sleep(wait(&record));
    match engine.start_again(id, record.finished) {
        // Removed, started by somebody else, or ended by its user meanwhile.
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::WrongState) => Ok(()),
        started => started.map(drop),
    }
}

/// Does its policy want it to be started?
pub(crate) fn wants(record: &ContainerRecord) -> bool {
    record.state == State::Exited && follows(record)
}

/// Will its policy want that, once it is down?
pub(crate) fn follows(record: &ContainerRecord) -> bool {
    let policy = record.settings.care.restart;
    !record.stopped_by_user && policy.wants(record.exit_code, record.restarts)
}

fn wait(record: &ContainerRecord) -> Duration {
    let lived = match (record.started, record.finished) {
        (Some(started), Some(finished)) => Duration::try_from(finished.duration_since(started)).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    if lived >= LIVED { FIRST } else { after(record.restarts) }
}

fn after(times: u32) -> Duration {
    FIRST.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(LONGEST)
}

impl Engine {
    /// Starts a container that ended at `finished`, unless something else has happened to it since.
    fn start_again(&mut self, id: &ContainerId, finished: Option<Timestamp>) -> Result<crate::RunResult> {
        self.start_if(id, Attach::Detached, move |record| {
            let same = record.finished == finished && wants(record);
            record.restarts += 1;
            same
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute() {
        let seconds: Vec<f64> = [0, 1, 2, 9, 10, 40].map(|times| after(times).as_secs_f64()).into();
        assert_eq!(seconds, [0.1, 0.2, 0.4, 51.2, 60.0, 60.0]);
    }
}
