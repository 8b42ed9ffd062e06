//! The host's devices in containers.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use linux::device_filter::{DeviceKind, DeviceRule};
use serde_json::{Value, json};

use crate::config::{Device, Inside};
use crate::error::{Error, Result};

/// Device files for a container.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Devices {
    /// As `linux.devices`: made anew, which takes root of the host.
    pub(crate) made: Vec<Value>,
    /// As mounts of the host's own files, for everybody else.
    pub(crate) mounts: Vec<Value>,
}

/// Those asked for; with `all`, all of the host's but terminals. `make`: may the runtime make device files?
pub(crate) fn devices(wishes: &[Device], all: bool, make: bool) -> Devices {
    let mut found = Devices::default();
    if all {
        walk(Path::new(DEV), DEV, make, 0, &mut found);
    }
    for wish in wishes {
        if wish.host.is_dir() {
            walk(&wish.host, &wish.target, make, 0, &mut found);
        } else if let Ok(meta) = wish.host.metadata() {
            add(&wish.host, &wish.target, &meta, make, &mut found);
        }
    }
    found
}

/// Can the kernel hold a container to this? Of an ordinary user's it only looks at the files of devices themselves.
pub(crate) fn check(inside: &Inside, rootless: bool) -> Result<()> {
    if !rootless {
        return Ok(());
    }
    if !inside.device_rules.is_empty() {
        return Err(Error::usage("--device-cgroup-rule takes root: an ordinary user may use what its files say"));
    }
    match inside.devices.iter().find(|device| !(device.access.contains('r') && device.access.contains('w'))) {
        None => Ok(()),
        Some(Device { host, access, .. }) => Err(Error::usage(format!(
            "--device {}: an ordinary user's container cannot be held to {access:?}: give it rw, or no permissions",
            host.display()
        ))),
    }
}

/// What the processes of a container that is not privileged may open, beside files: what runtimes let every container
/// have (config-linux.md, "Default Devices"), its own, and what its user wants. Anything may be made by who may make it.
pub(crate) fn allowed(inside: &Inside) -> Vec<DeviceRule> {
    let rule = |kind, major, minor, access: &str| DeviceRule { kind, major, minor, access: access.to_owned() };
    let usual = |(major, minor)| rule(Some(DeviceKind::Char), Some(major), minor, "rwm");
    let mut rules = vec![rule(None, None, None, "m")];
    rules.extend(USUAL.map(usual));
    let mut found = Devices::default();
    for wish in &inside.devices {
        found.made.clear();
        if wish.host.is_dir() {
            walk(&wish.host, &wish.target, true, 0, &mut found);
        } else if let Ok(meta) = wish.host.metadata() {
            add(&wish.host, &wish.target, &meta, true, &mut found);
        }
        rules.extend(found.made.iter().map(|device| {
            let number = |key: &str| device[key].as_u64().and_then(|n| u32::try_from(n).ok());
            let kind = if device["type"] == "b" { DeviceKind::Block } else { DeviceKind::Char };
            rule(Some(kind), number("major"), number("minor"), &wish.access)
        }));
    }
    rules.extend(inside.device_rules.iter().cloned());
    rules
}

/// Of memory: null, zero, full, random, urandom; the terminal, console and ptmx; all pseudo-terminals.
const USUAL: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

const DEV: &str = "/dev";

/// What a container has of its own below /dev, or must not have at all.
const OWN: [&str; 9] = ["pts", "shm", "fd", "mqueue", "console", "stdin", "stdout", "stderr", "core"];

/// What the runtime makes in every container (config-linux.md, "Default Devices").
const ALWAYS: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];

/// /dev is shallow; whoever makes it deeper gets no more.
const DEEPEST: u32 = 6;

fn walk(directory: &Path, target: &str, make: bool, depth: u32, found: &mut Devices) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let top = directory == Path::new(DEV);
        if top && (OWN.contains(&name) || ALWAYS.contains(&name) || is_terminal(name)) {
            continue;
        }
        // Links are not followed: what they lead to is there itself.
        let Ok(meta) = path.symlink_metadata() else { continue };
        let target = format!("{target}/{name}");
        if meta.is_dir() && depth < DEEPEST {
            walk(&path, &target, make, depth + 1, found);
        } else {
            add(&path, &target, &meta, make, found);
        }
    }
}

/// Virtual consoles, which a program in a container would take from whoever sits there.
fn is_terminal(name: &str) -> bool {
    name.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

fn add(path: &Path, target: &str, meta: &Metadata, make: bool, found: &mut Devices) {
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return,
    };
    if make {
        found.made.push(json!({
            "path": target, "type": kind, "major": rustix::fs::major(meta.rdev()), "minor": rustix::fs::minor(meta.rdev()),
            "fileMode": meta.mode() & 0o7777, "uid": meta.uid(), "gid": meta.gid(),
        }));
    } else {
        found.mounts.push(json!({
            "destination": target, "type": "bind", "source": path, "options": ["bind", "rprivate", "nosuid", "noexec"],
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_asked_for_appears_where_it_was_asked_for() {
        let wish = [Device { host: "/dev/null".into(), target: "/dev/nothing".to_owned(), access: "rwm".to_owned() }];
        let made = devices(&wish, false, true);
        assert_eq!(made.made[0]["path"], "/dev/nothing");
        assert_eq!(
            (&made.made[0]["type"], &made.made[0]["major"], &made.made[0]["minor"]),
            (&json!("c"), &json!(1), &json!(3))
        );
        let bound = devices(&wish, false, false);
        assert_eq!(bound.mounts[0]["source"], "/dev/null");
        assert!(bound.made.is_empty());
    }

    #[test]
    fn what_may_be_opened_is_the_usual_and_what_was_asked_for() {
        let kmsg = Device { host: "/dev/full".into(), target: "/dev/x".to_owned(), access: "r".to_owned() };
        let rules = allowed(&Inside { devices: vec![kmsg], ..Inside::default() });
        let is = |rule: &DeviceRule, minor, access: &str| {
            rule.major == Some(1) && rule.minor == Some(minor) && rule.access == access
        };
        assert!(rules.iter().any(|rule| is(rule, 3, "rwm")), "null");
        assert!(rules.iter().any(|rule| is(rule, 7, "r")), "what was asked for, as it was asked for");
        assert!(!rules.iter().any(|rule| is(rule, 1, "rwm")), "mem");
    }

    #[test]
    fn consoles_and_what_a_container_has_itself_are_left_out() {
        let all = devices(&[], true, true);
        let paths: Vec<_> = all.made.iter().map(|device| device["path"].as_str().unwrap()).collect();
        assert!(!paths.iter().any(|path| ["/dev/null", "/dev/tty1", "/dev/console"].contains(path)), "{paths:?}");
        assert!(!paths.iter().any(|path| path.starts_with("/dev/pts")), "{paths:?}");
    }
}
