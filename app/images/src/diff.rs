//! `diff`: what the topmost of some layers changed, an image's or a container's, read from the layers on disk.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::error::{ImageError, Result};
use crate::tree::{self, Seen};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `C`: it was there before.
    Changed,
    /// `A`
    Added,
    /// `D`
    Deleted,
}

/// So many paths are compared at most: a layer has no more entries ([`crate::Limits`]).
const PATHS_MAX: usize = 4_000_000;

/// Names of strangers are bytes, and so are paths made of them.
type Path8 = Vec<u8>;

/// What is different in a stack of layers, topmost first, from `other`, or from itself without the topmost: absolute paths.
pub fn diff(layers: &[PathBuf], other: Option<&[PathBuf]>) -> Result<Vec<(Kind, String)>> {
    let changes = match other {
        None => top(layers)?,
        Some(other) => between(layers, other)?,
    };
    Ok(changes.into_iter().map(|(path, kind)| (kind, String::from_utf8_lossy(&path).into_owned())).collect())
}

/// Bytes of the files of a layer; one that has several names counts once.
pub fn size_of(layer: &Path) -> Result<u64> {
    let (mut size, mut linked) = (0, HashSet::new());
    walk(layer, &mut |_, seen| {
        if let Seen::Other(stat) = seen
            && tree::file_type(stat) == FileType::RegularFile
            && (stat.st_nlink == 1 || linked.insert((stat.st_dev, stat.st_ino)))
        {
            size += stat.st_size.cast_unsigned();
        }
        0
    })?;
    Ok(size)
}

/// The changes that the topmost layer makes to those below.
fn top(layers: &[PathBuf]) -> Result<BTreeMap<Path8, Kind>> {
    let Some((top, below)) = layers.split_first() else { return Ok(BTreeMap::new()) };
    let before = merged(below)?;
    let after = merged(layers)?;
    let mut changes = compared(&before, &after);
    // What the layer has anew is a change even if nothing but its content differs, which is not compared; a directory,
    // if something was made or removed in it.
    for path in own(top)? {
        if let (Some(was), Some(is)) = (before.get(&path), after.get(&path))
            && (!is.directory || was.modified != is.modified)
        {
            changes.entry(path).or_insert(Kind::Changed);
        }
    }
    Ok(with_parents(changes, &before))
}

fn between(layers: &[PathBuf], other: &[PathBuf]) -> Result<BTreeMap<Path8, Kind>> {
    let (before, after) = (merged(other)?, merged(layers)?);
    let changes = compared(&before, &after);
    Ok(with_parents(changes, &before))
}

/// A directory in which something changed has changed, as Podman has it.
fn with_parents(mut changes: BTreeMap<Path8, Kind>, before: &Tree) -> BTreeMap<Path8, Kind> {
    let paths: Vec<Path8> = changes.keys().cloned().collect();
    for path in paths {
        for above in ancestors(&path).filter(|above| before.contains_key(*above)) {
            changes.entry(above.to_vec()).or_insert(Kind::Changed);
        }
    }
    changes
}

/// The directories that a path is in, the nearest first, without the root.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let above = |path: &&[u8]| path.iter().rposition(|b| *b == b'/').filter(|slash| *slash > 0);
    std::iter::successors(Some(path), move |path| above(path).map(|slash| &path[..slash])).skip(1)
}

/// What there is of a path to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    mode: u32,
    uid: u32,
    gid: u32,
    size: i64,
    modified: (i64, i64),
    device: u64,
    directory: bool,
}

impl Facts {
    fn of(stat: &Stat) -> Self {
        let directory = tree::file_type(stat) == FileType::Directory;
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            // A directory's own size is its file system's affair.
            size: if directory { 0 } else { stat.st_size },
            modified: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            device: stat.st_rdev,
            directory,
        }
    }

    /// Not by the time of a directory, which an archive need not have told.
    fn differs(&self, other: &Self) -> bool {
        match self.directory {
            true => *self != Self { modified: self.modified, ..other.clone() },
            false => self != other,
        }
    }
}

type Tree = BTreeMap<Path8, Facts>;

fn compared(before: &Tree, after: &Tree) -> BTreeMap<Path8, Kind> {
    let gone = before.keys().filter(|path| !after.contains_key(*path)).map(|path| (path.clone(), Kind::Deleted));
    let there = after.iter().filter_map(|(path, seen)| match before.get(path) {
        None => Some((path.clone(), Kind::Added)),
        Some(was) if was.differs(seen) => Some((path.clone(), Kind::Changed)),
        Some(_) => None,
    });
    let mut all: BTreeMap<Path8, Kind> = there.collect();
    // Below a directory that is gone nothing else is said.
    let gone: Vec<(Path8, Kind)> = gone.collect();
    for (path, kind) in gone {
        if ancestors(&path).all(|above| all.get(above) != Some(&Kind::Deleted)) {
            all.insert(path, kind);
        }
    }
    all
}

/// All paths of layers stacked on each other, topmost first.
fn merged(layers: &[PathBuf]) -> Result<Tree> {
    let mut all = Tree::new();
    for layer in layers.iter().rev() {
        walk(layer, &mut |path, seen| {
            match seen {
                Seen::Whiteout => {
                    forget_below(&mut all, path);
                    all.remove(path);
                }
                Seen::Directory { stat, opaque } => {
                    if *opaque {
                        forget_below(&mut all, path);
                    }
                    all.insert(path.to_vec(), Facts::of(stat));
                }
                Seen::Other(stat) => {
                    forget_below(&mut all, path);
                    all.insert(path.to_vec(), Facts::of(stat));
                }
            }
            all.len()
        })?;
    }
    Ok(all)
}

/// The paths that a layer has itself, whiteouts left out.
fn own(layer: &Path) -> Result<Vec<Path8>> {
    let mut all = Vec::new();
    walk(layer, &mut |path, seen| {
        if !matches!(seen, Seen::Whiteout) {
            all.push(path.to_vec());
        }
        all.len()
    })?;
    Ok(all)
}

fn forget_below(all: &mut Tree, path: &[u8]) {
    let begin = [path, b"/"].concat();
    let below: Vec<Path8> = all
        .range(begin.clone()..)
        .take_while(|(path, _)| path.starts_with(&begin))
        .map(|(path, _)| path.clone())
        .collect();
    for path in &below {
        all.remove(path);
    }
}

/// Everything in a layer, parents first.
fn walk(layer: &Path, take: &mut dyn FnMut(&[u8], &Seen) -> usize) -> Result<()> {
    let failed = |error: io::Error| ImageError::file(layer, error);
    let mut waiting: Vec<Path8> = vec![Vec::new()];
    while let Some(at) = waiting.pop() {
        let directory = match tree::open_below(layer, &at) {
            // The layer may be a container's that runs.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !at.is_empty() => continue,
            opened => opened.map_err(failed)?,
        };
        for name in tree::names(&directory).map_err(failed)? {
            let Some((name, seen)) = tree::seen(&directory, &name).map_err(failed)? else { continue };
            let path = [at.as_slice(), b"/", &name].concat();
            if take(&path, &seen) > PATHS_MAX {
                return Err(ImageError::Content(format!("the image has more than {PATHS_MAX} paths")));
            }
            if matches!(seen, Seen::Directory { .. }) {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{self, Limits};
    use crate::testing::{Tar, root};

    #[test]
    fn a_layer_adds_changes_and_deletes() {
        if !root("a_layer_adds_changes_and_deletes") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let unpack = |name: &str, tar: Tar| {
            let diff = dir.path().join(name).join("diff");
            std::fs::create_dir_all(&diff).unwrap();
            layer::unpack(tar.bytes().as_slice(), None, &diff, &Limits::STRANGERS).unwrap();
            diff
        };
        let below = unpack(
            "below",
            Tar::new().dir("etc").file("etc/a", b"1").file("etc/b", b"1").dir("var").dir("var/x").file("var/x/y", b"1"),
        );
        let above = unpack(
            "above",
            Tar::new().dir("etc").file("etc/a", b"22").file(".wh.var", b"").file("etc/.wh.b", b"").file("new", b"1"),
        );
        let before = merged(std::slice::from_ref(&below)).unwrap();
        let after = merged(&[above, below]).unwrap();
        let changes = with_parents(compared(&before, &after), &before);
        let said: Vec<String> =
            changes.iter().map(|(path, kind)| format!("{kind:?} {}", String::from_utf8_lossy(path))).collect();
        assert_eq!(said, ["Changed /etc", "Changed /etc/a", "Deleted /etc/b", "Added /new", "Deleted /var"]);
    }
}
