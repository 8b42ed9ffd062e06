//! `image diff`: what an image's topmost layer changed, read from the layers on disk.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::mounts;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};

use crate::error::{ImageError, Result};
use crate::image::Image;
use crate::images::Images;
use crate::tree;

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

impl Images<'_> {
    /// What is different in `image` from `other`, or from the same image without its topmost layer: absolute paths.
    pub fn diff(&self, image: &Image, other: Option<&Image>) -> Result<Vec<(Kind, String)>> {
        let changes = match other {
            None => top(image)?,
            Some(other) => between(image, other)?,
        };
        Ok(changes.into_iter().map(|(path, kind)| (kind, String::from_utf8_lossy(&path).into_owned())).collect())
    }
}

/// The changes that the topmost layer makes to those below.
fn top(image: &Image) -> Result<BTreeMap<Path8, Kind>> {
    let Some((top, below)) = image.layers.split_first() else { return Ok(BTreeMap::new()) };
    let before = merged(below)?;
    let after = merged(&image.layers)?;
    let mut changes = compared(&before, &after);
    // What the layer has anew is a change even if nothing but its content differs, which is not compared.
    for path in own(top)?.into_iter().filter(|path| before.contains_key(path) && after.contains_key(path)) {
        changes.entry(path).or_insert(Kind::Changed);
    }
    Ok(with_parents(changes, &before))
}

fn between(image: &Image, other: &Image) -> Result<BTreeMap<Path8, Kind>> {
    let (before, after) = (merged(&other.layers)?, merged(&image.layers)?);
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
struct Seen {
    mode: u32,
    uid: u32,
    gid: u32,
    size: i64,
    modified: (i64, i64),
    device: u64,
}

type Tree = BTreeMap<Path8, Seen>;

fn compared(before: &Tree, after: &Tree) -> BTreeMap<Path8, Kind> {
    let gone = before.keys().filter(|path| !after.contains_key(*path)).map(|path| (path.clone(), Kind::Deleted));
    let there = after.iter().filter_map(|(path, seen)| match before.get(path) {
        None => Some((path.clone(), Kind::Added)),
        Some(was) if was != seen => Some((path.clone(), Kind::Changed)),
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
fn merged(layers: &[std::path::PathBuf]) -> Result<Tree> {
    let mut all = Tree::new();
    for layer in layers.iter().rev() {
        walk(layer, &mut |path, stat, opaque| {
            if tree::is_whiteout(stat) {
                forget_below(&mut all, path);
                all.remove(path);
                return all.len();
            }
            let directory = tree::file_type(stat) == FileType::Directory;
            if opaque || !directory {
                forget_below(&mut all, path);
            }
            all.insert(path.to_vec(), seen(stat, directory));
            all.len()
        })?;
    }
    Ok(all)
}

/// The paths that a layer has itself, whiteouts and directories left out.
fn own(layer: &Path) -> Result<Vec<Path8>> {
    let mut all = Vec::new();
    walk(layer, &mut |path, stat, _| {
        if !tree::is_whiteout(stat) && tree::file_type(stat) != FileType::Directory {
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

fn seen(stat: &Stat, directory: bool) -> Seen {
    Seen {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        // A directory's own size and time are its file system's affair.
        size: if directory { 0 } else { stat.st_size },
        modified: if directory { (0, 0) } else { (stat.st_mtime, stat.st_mtime_nsec as i64) },
        device: stat.st_rdev,
    }
}

/// Everything in a layer, parents first, with whether it hides what is below it.
fn walk(layer: &Path, take: &mut dyn FnMut(&[u8], &Stat, bool) -> usize) -> Result<()> {
    let failed = |error: io::Error| ImageError::file(layer, error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, layer, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let mut waiting: Vec<Path8> = vec![Vec::new()];
    while let Some(at) = waiting.pop() {
        let directory = reopen(&root, &at).map_err(failed)?;
        for name in tree::names(&directory).map_err(failed)? {
            let Some(stat) = tree::stat(&directory, &name).map_err(failed)? else { continue };
            let path = [at.as_slice(), b"/", &name].concat();
            let is_directory = tree::file_type(&stat) == FileType::Directory;
            let opaque = is_directory && is_opaque(&tree::open_directory(&directory, &name).map_err(failed)?);
            if take(&path, &stat, opaque) > PATHS_MAX {
                return Err(ImageError::Content(format!("the image has more than {PATHS_MAX} paths")));
            }
            if is_directory {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

fn reopen(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let mut fd = root.try_clone()?;
    for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        fd = tree::open_directory(&fd, name)?;
    }
    Ok(fd)
}

fn is_opaque(directory: &OwnedFd) -> bool {
    [mounts::OPAQUE, mounts::OPAQUE_FOR_USERS].iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::fgetxattr(directory.as_fd(), *name, &mut value[..]).is_ok_and(|n| n == 1 && value == *b"y")
    })
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
