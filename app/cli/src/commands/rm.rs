//! `podwire rm`

use engine::Kind;

use super::{each, removal_code};
use crate::choice::Choice;
use crate::flags::{Command, patience};
use crate::global::Podwire;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Rm {
    /// All containers
    #[arg(short, long)]
    all: bool,
    /// Remove containers that depend on it first
    #[arg(long)]
    depend: bool,
    /// Stop it when it runs
    #[arg(short, long)]
    force: bool,
    /// A container that is not there is no error
    #[arg(short, long)]
    ignore: bool,
    /// Seconds to wait before a running container is killed (default: its own, else 10)
    #[arg(short, long, visible_alias = "timeout", value_name = "int", value_parser = patience)]
    time: Option<u32>,
    /// Remove its anonymous volumes
    #[arg(short, long)]
    volumes: bool,
    /// Show the plan for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Those whose ids these files have
    #[arg(long, value_name = "stringArray")]
    cidfile: Vec<String>,
    /// Those that fit: as in ps
    #[arg(long, value_name = "strings")]
    filter: Vec<String>,
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Rm {
    fn run(self, podwire: &Podwire) -> Outcome {
        let choice = Choice { cidfile: self.cidfile, filter: self.filter, latest: self.latest };
        choice.check(&self.arguments, self.all)?;
        let mut engine = podwire.engine()?;
        let names = choice.names(podwire, &engine, self.arguments, self.all, |c| !c.is_infra)?;
        let options =
            engine::RemoveOptions { force: self.force, time: self.time, volumes: self.volumes, depend: self.depend };
        // Podman's `rm -f` does not mind what is not there.
        let lenient = self.ignore || self.force || self.all;
        if self.dry_run {
            return podwire.show(&engine.plan_remove(&names, &options)?);
        }
        each(&names, removal_code, |name| {
            let removed = match engine.remove(name, &options) {
                Err(error) if lenient && error.kind == Kind::NotFound => return Ok(None),
                removed => removed?,
            };
            // Those that depended on it by id, the one that was named as it was named.
            let others = removed.iter().rev().skip(1).rev().map(ToString::to_string);
            Ok(Some(others.chain([name.to_owned()]).collect::<Vec<_>>().join("\n")))
        })
    }
}
