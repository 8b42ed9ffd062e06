//! `podwire system migrate`, `system renumber`

use crate::flags::{self, Command};
use crate::global::{Podwire, say};
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct SystemMigrate {
    /// The OCI runtime of all containers from now on: a name or a path
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    new_runtime: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for SystemMigrate {
    /// Records move to a new podwire by themselves; an ordinary user's namespaces, in which later ranges of
    /// /etc/subuid count, are made anew when nobody is in them any more.
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let runtime =
            podwire.conf()?.runtime(Some(&self.new_runtime).filter(|name| !name.is_empty()).map(String::as_str));
        let mut told = Ok(());
        podwire.engine()?.migrate(runtime.as_deref().filter(|_| !self.new_runtime.is_empty()), |id| {
            if told.is_ok() {
                told = say(format_args!("stopped {id}"));
            }
        })?;
        told.map(|()| 0)
    }
}

#[derive(clap::Args)]
pub(crate) struct SystemRenumber {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for SystemRenumber {
    /// Podman's locks have numbers, which can run out or be given twice; podwire's are rows and files with names.
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        podwire.engine()?;
        Ok(0)
    }
}
