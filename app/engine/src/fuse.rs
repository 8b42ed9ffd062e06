//! Overlays by a program, for an ordinary user where the kernel gives him none of its own: Linux before 5.11, or
//! a root on a file system that cannot be an upper directory (NFS, another overlay).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use linux::Spawn;

use crate::runtime::in_path;

const PROGRAM: &str = "fuse-overlayfs";

/// As [`linux::mounts::overlay`]. The program serves until the mount is gone from the last mount namespace.
/// The error is a clause.
pub(crate) fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<(), String> {
    let program = in_path(PROGRAM).ok_or_else(|| format!("{PROGRAM} is not installed"))?;
    let mut call = Spawn::new(&program);
    call.command().arg("-o").arg(options(lower, upper, work)).arg(target);
    call.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // It comes back when it serves, and goes on in the background.
    let child = call.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
    let done = child.wait_with_output().map_err(|e| format!("{PROGRAM}: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(format!("{PROGRAM}: {}", said.lines().next_back().unwrap_or("it ended without saying why")))
}

/// Its own separators are escaped by a backslash.
fn options(lower: &[PathBuf], upper: &Path, work: &Path) -> OsString {
    let mut text = b"lowerdir=".to_vec();
    let add = |text: &mut Vec<u8>, path: &Path| {
        for &byte in path.as_os_str().as_bytes() {
            if matches!(byte, b':' | b',' | b'\\') {
                text.push(b'\\');
            }
            text.push(byte);
        }
    };
    for (n, path) in lower.iter().enumerate() {
        text.extend_from_slice(if n > 0 { b":" } else { b"" });
        add(&mut text, path);
    }
    for (key, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
        text.extend_from_slice(key);
        add(&mut text, path);
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_paths_are_escaped() {
        let text = options(&["/a:b".into(), "/c".into()], Path::new("/u,v"), Path::new("/w\\"));
        assert_eq!(text, r"lowerdir=/a\:b:/c,upperdir=/u\,v,workdir=/w\\");
    }
}
