//! `podwire cp`

use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use engine::{Engine, Found, Owner, Tree, Unpacking};

use crate::flags::{self, Command, switch};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome, plain};

#[derive(clap::Args)]
pub(crate) struct Cp {
    /// Give copied files to the container's user (default true); with =false they stay whose they were
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    archive: Option<bool>,
    /// Let directories take the place of files and the other way round
    #[arg(long)]
    overwrite: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// `-`
    Stream,
    /// `PATH`
    Host(PathBuf),
    /// `CONTAINER:PATH`
    Container(String, PathBuf),
}

/// Does this mean a file of a container's?
pub(crate) fn is_in_container(text: &str) -> bool {
    matches!(Place::parse(text), Place::Container(..))
}

impl Place {
    /// Whole: in a container's mount namespace there is another current directory. A `/.` at the end stays.
    fn whole(self) -> Result<Self, Failure> {
        match self {
            Self::Host(path) => Ok(Self::Host(std::env::current_dir()?.join(path))),
            other => Ok(other),
        }
    }

    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((name, path)) if !text.starts_with(['/', '.']) && !name.is_empty() => {
                Self::Container(name.to_owned(), PathBuf::from(if path.is_empty() { "/" } else { path }))
            }
            _ => Self::Host(PathBuf::from(text)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Stream => Path::new("-"),
            Self::Host(path) | Self::Container(_, path) => path,
        }
    }
}

impl Command for Cp {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(2, &self.arguments)?;
        let (from, to) = (Place::parse(&self.arguments[0]).whole()?, Place::parse(&self.arguments[1]).whole()?);
        if !matches!((&from, &to), (Place::Container(..), _) | (_, Place::Container(..))) {
            return Err(Failure::new("you must specify one container: CONTAINER:PATH on at least one side"));
        }
        let stream = self.options();
        match (from, to) {
            (Place::Container(name, path), Place::Stream) => {
                if io::stdout().is_terminal() {
                    return Err(Failure::new("will not write a tar stream to a terminal: redirect standard output"));
                }
                let mut engine = podwire.engine()?;
                engine.with_files(&name, |tree, _| {
                    Ok(pack(tree, &path, &name_in_stream(&path), io::stdout().lock()))
                })??;
            }
            (Place::Stream, Place::Container(name, path)) => {
                let mut engine = podwire.engine()?;
                engine.with_files(&name, |tree, user| Ok(unpack_stream(tree, &path, stream(user))))??;
            }
            (from, to) => copy(podwire, &from, &to, stream)?,
        }
        Ok(0)
    }
}

impl Cp {
    /// How files are written into a container whose user this is.
    fn options(&self) -> impl Fn((u32, u32)) -> Unpacking + Send + Sync + Copy + 'static {
        let (archive, overwrite) = (self.archive.unwrap_or(true), self.overwrite);
        move |(uid, gid)| Unpacking { owner: if archive { Owner::These(uid, gid) } else { Owner::Same }, overwrite }
    }
}

fn name_in_stream(path: &Path) -> PathBuf {
    PathBuf::from(path.file_name().unwrap_or_else(|| ".".as_ref()))
}

fn unpack_stream(tree: &Tree, path: &Path, how: Unpacking) -> Result<(), Failure> {
    if tree.find(path).map_err(|e| at(path, &e))? != Found::Directory {
        return Err(Failure::new(format!(
            "destination must be a directory when copying from stdin: {}",
            path.display()
        )));
    }
    tree.unpack(path, io::stdin().lock(), how).map_err(|e| at(path, &e))
}

/// From one side to the other, through a pipe: each side has a thread, and a mount namespace if it needs one.
fn copy(
    podwire: &Podwire,
    from: &Place,
    to: &Place,
    into: impl Fn((u32, u32)) -> Unpacking + Send + Sync + Copy,
) -> Result<(), Failure> {
    // Where it goes is found out first: it decides how things are called on the way.
    let mut engine = podwire.engine()?;
    let (source, target) = (look(&mut engine, from)?, look(&mut engine, to)?);
    let plan = Copying::plan(from, source, to, target)?;
    if matches!((from, to), (Place::Container(..), Place::Container(..))) {
        // It may be the same one, and one that is down is only worked on by one side at a time.
        let mut spool = engine.spool()?;
        let theirs = spool.try_clone()?;
        with(&mut engine, from, |tree, _| pack(tree, from.path(), &plan.name, theirs))?;
        io::Seek::rewind(&mut spool)?;
        return with(&mut engine, to, |tree, user| receive(tree, &plan, spool, into(user)));
    }
    drop(engine);
    let (reader, writer) = io::pipe()?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let write = std::thread::Builder::new().spawn_scoped(scope, || {
            let mut engine = podwire.engine()?;
            with(&mut engine, from, |tree, _| pack(tree, from.path(), &plan.name, writer))
        });
        let unpacked = podwire.engine().and_then(|mut engine| {
            with(&mut engine, to, |tree, user| {
                let how = match to {
                    Place::Container(..) => into(user),
                    // What was somebody's in the container belongs to who asked for it: to us.
                    _ => Unpacking { owner: Owner::These(0, 0), ..into(user) },
                };
                receive(tree, &plan, reader, how)
            })
        });
        let packed = match write {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(Failure::new("reading the files failed: a bug"))),
            Err(error) => Err(error.into()),
        };
        (packed, unpacked)
    });
    // Of a copy that could not be written, the reader only saw that nobody listens.
    unpacked.and(packed)
}

fn receive(tree: &Tree, plan: &Copying, mut reader: impl Read, how: Unpacking) -> Result<(), Failure> {
    let done = match plan.replaces {
        true => tree.overwrite(&plan.below, &mut reader, how),
        false => tree.unpack(&plan.below, &mut reader, how),
    };
    // Padding, and what was not wanted any more: the other side must not be left writing.
    let rest = io::copy(&mut reader, &mut io::sink());
    done.and(rest.map(drop)).map_err(|e| at(&plan.below, &e))
}

fn pack(tree: &Tree, path: &Path, name: &Path, out: impl Write) -> Result<(), Failure> {
    tree.pack(path, name, io::BufWriter::with_capacity(1 << 16, out)).map_err(|e| at(path, &e))
}

fn with<T: Send>(
    engine: &mut Engine,
    place: &Place,
    work: impl FnOnce(&Tree, (u32, u32)) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    match place {
        Place::Container(name, _) => engine.with_files(name, |tree, user| Ok(work(tree, user)))?,
        _ => work(&Tree::host()?, (0, 0)),
    }
}

/// What a place leads to, and what its directory does.
#[derive(Debug, Clone, Copy)]
struct Seen {
    itself: Found,
    parent: Found,
}

fn look(engine: &mut Engine, place: &Place) -> Result<Seen, Failure> {
    let path = absolute(place)?;
    with(engine, place, |tree, _| {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let find = |path: &Path| tree.find(path).map_err(|e| at(path, &e));
        Ok(Seen { itself: find(&path)?, parent: find(parent)? })
    })
}

/// A path of the host from here; one of a container from its root.
fn absolute(place: &Place) -> Result<PathBuf, Failure> {
    match place {
        Place::Host(path) => std::path::absolute(path).map_err(|e| at(path, &e)),
        place => Ok(place.path().to_owned()),
    }
}

/// What becomes of what, as docker cp and podman-cp(1) have it.
#[derive(Debug, PartialEq, Eq)]
struct Copying {
    /// What the stream's top is called.
    name: PathBuf,
    /// Where the stream goes.
    below: PathBuf,
    /// Is it a file, whose content is replaced?
    replaces: bool,
}

impl Copying {
    fn plan(from: &Place, source: Seen, to: &Place, target: Seen) -> Result<Self, Failure> {
        let typed = |place: &Place| place.path().to_string_lossy().into_owned();
        let missing = |place: &Place| {
            let wherein = if let Place::Container(name, _) = place {
                format!(" on container {name}")
            } else {
                " on the host".to_owned()
            };
            Failure::new(format!("{:?} could not be found{wherein}: no such file or directory", typed(place)))
        };
        let (source_path, target_path) = (absolute(from)?, absolute(to)?);
        let content_only = typed(from).ends_with("/.") || typed(from) == ".";
        let base = |path: &Path| path.file_name().map(PathBuf::from).unwrap_or_default();
        match (source.itself, target.itself) {
            (Found::Nothing, _) => Err(missing(from)),
            (Found::Directory, Found::File) => {
                Err(Failure::new(format!("destination must be a directory when copying a directory: {}", typed(to))))
            }
            (Found::Directory, Found::Directory) if content_only => {
                Ok(Self { name: PathBuf::new(), below: target_path, replaces: false })
            }
            (_, Found::Directory) => Ok(Self { name: base(&source_path), below: target_path, replaces: false }),
            (Found::File, Found::File) => Ok(Self { name: base(&source_path), below: target_path, replaces: true }),
            (_, Found::Nothing) if target.parent != Found::Directory => Err(missing(to)),
            (Found::File, Found::Nothing) if typed(to).ends_with('/') => Err(missing(to)),
            (_, Found::Nothing) => {
                let below = target_path.parent().unwrap_or(Path::new("/")).to_owned();
                Ok(Self { name: base(&target_path), below, replaces: false })
            }
        }
    }
}

fn at(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("copying {}: {}", path.display(), plain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let container = |name: &str, path: &str| Place::Container(name.to_owned(), path.into());
        assert_eq!(Place::parse("web:/etc/hosts"), container("web", "/etc/hosts"));
        assert_eq!(Place::parse("web:"), container("web", "/"));
        assert_eq!(Place::parse("./a:b"), Place::Host("./a:b".into()));
        assert_eq!(Place::parse("/a:b"), Place::Host("/a:b".into()));
        assert_eq!(Place::parse("-"), Place::Stream);
    }

    #[test]
    fn where_a_copy_goes_depends_on_what_is_there() {
        let plan = |from: &str, source, to: &str, target| {
            let seen = |itself| Seen { itself, parent: Found::Directory };
            let planned = Copying::plan(&Place::parse(from), seen(source), &Place::parse(to), seen(target));
            planned.map_or_else(
                |f| f.message,
                |c| format!("{} in {}{}", c.name.display(), c.below.display(), if c.replaces { "!" } else { "" }),
            )
        };
        assert_eq!(plan("/a/f", Found::File, "c:/d", Found::Nothing), "d in /");
        assert_eq!(plan("/a/f", Found::File, "c:/d", Found::Directory), "f in /d");
        assert_eq!(plan("/a/f", Found::File, "c:/d", Found::File), "f in /d!");
        assert_eq!(plan("/a/b", Found::Directory, "c:/d", Found::Nothing), "d in /");
        assert_eq!(plan("/a/b", Found::Directory, "c:/d", Found::Directory), "b in /d");
        assert_eq!(plan("/a/b/.", Found::Directory, "c:/d", Found::Directory), " in /d");
        assert!(plan("/a/b", Found::Directory, "c:/d", Found::File).contains("must be a directory"));
        assert!(plan("/a/b", Found::Nothing, "c:/d", Found::File).contains("could not be found on the host"));
        assert!(plan("/a/f", Found::File, "c:/d/", Found::Nothing).contains("on container c"));
    }
}
