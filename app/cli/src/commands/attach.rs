//! `podwire attach`

use engine::{Attach, Foreground, RunEnd};

use super::run::exit_status;
use crate::choice;
use crate::flags::{Command, switch};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct AttachCommand {
    /// Keys that detach from the container (default ctrl-p,ctrl-q)
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// The container created last
    #[arg(short, long)]
    latest: bool,
    /// Do not pass standard input on
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    sig_proxy: Option<bool>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for AttachCommand {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.len() + usize::from(self.latest) != 1 {
            return Err(Failure::new("attach requires the name or id of one running container or the latest flag"));
        }
        let mut engine = podwire.engine()?;
        let name = choice::one(podwire, &engine, self.arguments.first(), self.latest)?;
        let attach = Attach::Foreground(Foreground {
            stdin: !self.no_stdin,
            signals: self.sig_proxy.unwrap_or(true),
            detach_keys: self.detach_keys.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            ..Foreground::default()
        });
        match engine.attach(&name, &attach)?.end {
            RunEnd::Exited(code) => Ok(exit_status(code)),
            RunEnd::Detached => Ok(0),
        }
    }
}
