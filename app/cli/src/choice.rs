//! How containers are chosen by commands that work on several: by name, file, filter, `--latest` or `--all`.

use engine::{Engine, Summary};

use crate::commands::ps;
use crate::filters::Filters;
use crate::flags::{self, strings};
use crate::global::Podwire;
use crate::outcome::{Failure, plain};

/// The flags, beside names and `--all`.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Choice {
    /// Those whose ids these files have
    #[arg(long, value_name = "stringArray")]
    pub(crate) cidfile: Vec<String>,
    /// Those that fit: as in ps
    #[arg(short, long, value_name = "strings")]
    pub(crate) filter: Vec<String>,
    /// The container created last
    #[arg(short, long)]
    pub(crate) latest: bool,
}

impl Choice {
    /// Is anything chosen but by name?
    pub(crate) fn is_made(&self) -> bool {
        self.latest || !self.filter.is_empty() || !self.cidfile.is_empty()
    }

    /// Refuses what contradicts itself, and what names nobody; to be called before anything is opened.
    pub(crate) fn check(&self, named: &[String], all: bool) -> Result<(), Failure> {
        let files = !self.cidfile.is_empty();
        if self.latest {
            return match all || files || !named.is_empty() {
                true => Err(Failure::new("--all, --latest, and containers cannot be used together")),
                false => Ok(()),
            };
        }
        if files || (!self.filter.is_empty() && !all) {
            return Ok(());
        }
        flags::names_or_all(named, all)
    }

    /// The containers meant; `wanted` are those that `--all` and filters are about.
    pub(crate) fn names(
        &self,
        podwire: &Podwire,
        engine: &Engine,
        mut named: Vec<String>,
        all: bool,
        wanted: impl Fn(&Summary) -> bool,
    ) -> Result<Vec<String>, Failure> {
        named.extend(ids_in(&self.cidfile)?);
        if self.latest {
            if all || !named.is_empty() {
                return Err(Failure::new("--all, --latest, and containers cannot be used together"));
            }
            return Ok(vec![podwire.latest(engine)?]);
        }
        flags::names_or_all(&named, all || (named.is_empty() && !self.filter.is_empty()))?;
        if self.filter.is_empty() && !all {
            return Ok(named);
        }
        let filters = Filters::parse(&strings(&self.filter), ps::KNOWN)?;
        let containers = engine.list()?;
        let selection = ps::Selection::read(&filters, &containers)?;
        let among = named.iter().map(|name| engine.find(name)).collect::<Result<Vec<_>, _>>()?;
        let fits = |c: &&Summary| {
            let meant = if among.is_empty() { wanted(c) } else { among.contains(&c.id) };
            meant && selection.fits(c)
        };
        Ok(containers.iter().filter(fits).map(|c| c.id.to_string()).collect())
    }
}

/// The ids in files that `--cidfile` made.
fn ids_in(files: &[String]) -> Result<Vec<String>, Failure> {
    let read = |path: &String| {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::new(format!("reading CIDFile: open {path}: {}", plain(&e))))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    files.iter().map(read).collect()
}

/// `--latest`, for commands that take one container.
pub(crate) fn one(podwire: &Podwire, engine: &Engine, name: Option<&String>, latest: bool) -> Result<String, Failure> {
    match (name, latest) {
        (Some(_), true) => Err(Failure::new("--latest and containers cannot be used together")),
        (Some(name), false) => Ok(name.clone()),
        (None, true) => podwire.latest(engine),
        (None, false) => Err(Failure::new("you must provide at least one name or id")),
    }
}
