//! `podwire volume create`

use std::collections::BTreeMap;

use crate::container::label;
use crate::flags::{self, Command, strings};
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct VolumeCreate {
    /// Where its files are kept: local
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// A volume that is there is no error
    #[arg(long)]
    ignore: bool,
    /// Set metadata on the volume
    #[arg(short, long, value_name = "strings")]
    label: Vec<String>,
    /// Options of the driver; local has none yet
    #[arg(short, long, value_name = "stringArray")]
    opt: Vec<String>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for VolumeCreate {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_most(1, &self.arguments)?;
        let name = self.arguments.first().map(String::as_str).filter(|name| !name.is_empty());
        if self.driver != "local" {
            return Err(Failure::new(format!(
                "volume {} uses volume plugin {driver} but it could not be retrieved: no volume plugin with name \
                 {driver} available: required plugin missing",
                name.unwrap_or_default(),
                driver = self.driver
            )));
        }
        if let Some(option) = self.opt.first() {
            return Err(unsupported_option(option));
        }
        let labels: BTreeMap<_, _> = strings(&self.label).iter().map(|text| label(text)).collect();
        say(podwire.engine()?.create_volume(name, &labels, self.ignore)?)?;
        Ok(0)
    }
}

/// Podman's options of the driver `local` are refused by name, others in its words.
fn unsupported_option(option: &str) -> Failure {
    let name = option.split('=').next().unwrap_or(option);
    match ["type", "device", "o", "size", "inodes", "uid", "gid", "noquota", "copy", "nocopy", "timeout"]
        .contains(&name)
    {
        true => Failure::new(format!("the volume option {name} is not supported by podwire yet")),
        false => Failure::new(format!("invalid mount option {name} for driver 'local': invalid argument")),
    }
}
