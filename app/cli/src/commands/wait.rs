//! `podwire wait`

use super::each;
use crate::flags::Command;
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct Wait {
    /// A container that is not there is no error: -1 is printed
    #[arg(long)]
    ignore: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Wait {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.is_empty() {
            return Err(Failure::new("\"podwire wait\" requires a name, id, or the \"--latest\" flag"));
        }
        let mut engine = podwire.engine()?;
        each(&self.arguments, engine::Error::exit_code, |name| match engine.wait(name) {
            Err(error) if self.ignore && error.kind == engine::Kind::NotFound => Ok(Some("-1".to_owned())),
            code => Ok(Some(code?.to_string())),
        })
    }
}
