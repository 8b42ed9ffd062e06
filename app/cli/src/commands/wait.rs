//! `podwire wait`

use engine::{Engine, State, Summary};

use super::each;
use crate::choice::Choice;
use crate::flags::{Command, strings};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct Wait {
    /// What to wait for: created, running, paused, stopped, exited, healthy, unhealthy … (default: stopped)
    #[arg(long, value_name = "strings")]
    condition: Vec<String>,
    /// A container that is not there is no error: -1 is printed
    #[arg(long)]
    ignore: bool,
    /// Podman looks so often; podwire is told when something happens
    #[arg(short, long, value_name = "string")]
    interval: Option<String>,
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Wait {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.is_empty() && !self.latest {
            return Err(Failure::new("\"podwire wait\" requires a name, id, or the \"--latest\" flag"));
        }
        if let Some(interval) = &self.interval {
            // Obeyed by never being late.
            let valid = interval.parse::<u64>().is_ok() || crate::ages::parse_duration(interval).is_some();
            if !valid {
                return Err(Failure::new(format!("time: invalid duration {interval:?}")));
            }
        }
        let conditions = strings(&self.condition).iter().map(|text| condition(text)).collect::<Result<Vec<_>, _>>()?;
        let mut engine = podwire.engine()?;
        let choice = Choice { latest: self.latest, ..Choice::default() };
        let names = choice.names(podwire, &engine, self.arguments, false, |_| true)?;
        each(&names, engine::Error::exit_code, |name| match wait(&mut engine, name, &conditions) {
            Err(error) if self.ignore && error.kind == engine::Kind::NotFound => Ok(Some("-1".to_owned())),
            code => Ok(Some(code?.to_string())),
        })
    }
}

fn wait(engine: &mut Engine, name: &str, conditions: &[Condition]) -> Result<i32, engine::Error> {
    if conditions.is_empty() {
        return engine.wait(name);
    }
    let id = engine.find(name)?;
    engine.wait_until(&id, &|container| conditions.iter().any(|condition| condition.holds(container)))
}

/// What a container is waited for to be.
#[derive(Debug, PartialEq, Eq)]
enum Condition {
    State(State),
    /// Down, whether or not it has run.
    Stopped,
    Health(&'static str),
}

impl Condition {
    fn holds(&self, container: &Summary) -> bool {
        match self {
            Self::State(state) => container.state == *state,
            Self::Stopped => !container.state.is_running() && container.state != State::Starting,
            Self::Health(word) => container.health.as_deref() == Some(word),
        }
    }
}

/// Podman's words.
fn condition(text: &str) -> Result<Condition, Failure> {
    Ok(match text {
        "configured" | "created" => Condition::State(State::Created),
        "initialized" => Condition::State(State::Starting),
        "running" => Condition::State(State::Running),
        "paused" => Condition::State(State::Paused),
        "stopping" => Condition::State(State::Stopping),
        "exited" => Condition::State(State::Exited),
        "stopped" => Condition::Stopped,
        "healthy" => Condition::Health("healthy"),
        "unhealthy" => Condition::Health("unhealthy"),
        other => return Err(Failure::new(format!("invalid container state: {other}: invalid argument"))),
    })
}
