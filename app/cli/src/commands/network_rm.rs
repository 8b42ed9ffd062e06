//! `podwire network rm`

use std::cell::RefCell;
use std::collections::BTreeSet;

use engine::Kind;

use super::{each, removal_code};
use crate::flags::{self, Command, patience};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct NetworkRm {
    /// Remove the containers that use it too
    #[arg(short, long)]
    force: bool,
    /// Seconds to wait for running containers before they are killed
    #[arg(short, long, visible_alias = "timeout", value_name = "int", value_parser = patience)]
    time: Option<u32>,
    /// A network that is not there is no error
    #[arg(short, long)]
    ignore: bool,
    /// Show the plan for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkRm {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.time.is_some() && !self.force {
            return Err(Failure::new("--force option must be specified to use the --time option"));
        }
        flags::at_least(1, &self.arguments)?;
        let mut engine = podwire.engine()?;
        // 2 is told before 1, and 1 before 125.
        let codes = RefCell::new(BTreeSet::new());
        let code = |error: &engine::Error| {
            codes.borrow_mut().insert(removal_code(error));
            removal_code(error)
        };
        let worst = each(&self.arguments, code, |name| {
            let removed = match self.dry_run {
                true => engine.plan_remove_network(name, self.force).map(|plan| plan.to_string().trim_end().to_owned()),
                false => engine.remove_network(name, self.force, self.time).map(|()| name.to_owned()),
            };
            match removed {
                Err(error) if (self.force || self.ignore) && error.kind == Kind::NotFound => Ok(None),
                other => other.map(Some),
            }
        })?;
        Ok([2, 1].into_iter().find(|code| codes.borrow().contains(code)).unwrap_or(worst))
    }
}
