//! `podwire system prune`

use engine::{Engine, Error, Kind};

use super::{container_prune, image_prune, network_ls, network_prune, volume_prune};
use crate::ages::human_size_4;
use crate::confirm::confirmed;
use crate::filters::Filters;
use crate::flags::{self, Command};
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};
use crate::volumes;

#[derive(clap::Args)]
pub(crate) struct SystemPrune {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove only what killed commands have left in the store
    #[arg(long)]
    external: bool,
    /// Remove what fits: label=, label!=, until=
    #[arg(long, value_name = "stringArray")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove volumes that no container uses, too
    #[arg(long)]
    volumes: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for SystemPrune {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        if self.external {
            return self.external(podwire);
        }
        let filters = container_prune::parse(&self.filter)?;
        container_prune::Selection::read(&filters)?;
        if !self.force && !confirmed(&self.warning())? {
            return Ok(0);
        }
        let mut engine = podwire.engine()?;
        let freed = self.prune(&mut engine, &filters)?;
        say(format_args!("Total reclaimed space: {}", human_size_4(freed)))?;
        Ok(0)
    }
}

impl SystemPrune {
    /// Every command does it when it begins.
    fn external(&self, podwire: &Podwire) -> Outcome {
        if self.all || self.volumes || !self.filter.is_empty() {
            return Err(Failure::new("system prune --external cannot be combined with other options"));
        }
        podwire.engine()?;
        Ok(0)
    }

    fn warning(&self) -> String {
        let volumes = if self.volumes { "\n\t- all volumes not used by at least one container" } else { "" };
        let (images, cache) = match self.all {
            true => ("images without at least one container associated with them", "build cache"),
            false => ("dangling images", "dangling build cache"),
        };
        format!(
            "WARNING! This command removes:\n\t- all stopped containers\n\t- all networks not used by at least one \
             container{volumes}\n\t- all {images}\n\t- all {cache}\n"
        )
    }

    /// What goes first is what keeps others in use. How many bytes are free then.
    fn prune(&self, engine: &mut Engine, filters: &Filters) -> Result<u64, Failure> {
        let pods = engine.prune_pods(|_| true)?;
        let selection = container_prune::Selection::read(filters)?;
        let containers = engine.prune_containers(|container| selection.fits(container))?;
        let mut freed: u64 = containers.iter().map(|(_, written)| written).sum();
        let before = engine.images()?.usage()?.1;
        let images = image_prune::remove_unused(engine, filters, self.all)?;
        freed += before.saturating_sub(engine.images()?.usage()?.1);
        let networks = remove(network_prune::unused(engine, &network_ls::Selection::new(filters)?)?, |name| {
            engine.remove_network(name, false, None)
        })?;
        let mut volumes = Vec::new();
        if self.volumes {
            let sizes = engine.disk_usage()?.volumes;
            let unused = volume_prune::unused(engine, &volumes::parse(&self.filter)?)?;
            volumes = remove(unused, |name| engine.remove_volume(name, false, None).map(drop))?;
            freed += sizes.iter().filter(|v| volumes.contains(&v.name)).map(|v| v.size).sum::<u64>();
        }
        heading("Containers", containers.iter().map(|(id, _)| id.to_string()))?;
        heading("Pods", pods.iter().map(ToString::to_string))?;
        heading("Volumes", volumes)?;
        heading("Images", images.iter().map(ToString::to_string))?;
        heading("Networks", networks)?;
        Ok(freed)
    }
}

fn heading(what: &str, names: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let mut names = names.into_iter().peekable();
    if names.peek().is_some() {
        say(format_args!("Deleted {what}"))?;
    }
    names.try_for_each(say)
}

/// Those that are gone then: somebody may have begun to use one, or have removed it, since it was looked at.
fn remove(names: Vec<String>, mut act: impl FnMut(&str) -> Result<(), Error>) -> Result<Vec<String>, Failure> {
    let mut removed = Vec::new();
    for name in names {
        match act(&name) {
            Ok(()) => removed.push(name),
            Err(error) if matches!(error.kind, Kind::InUse | Kind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}
