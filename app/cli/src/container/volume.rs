//! `-v` and `--tmpfs`.

use std::path::Path;

use engine::config::{VolumeMount, VolumeSource};

use crate::global::absolute;
use crate::outcome::Failure;

/// Groups of options of which a mount has at most one.
const GROUPS: &[&[&str]] = &[
    &["ro", "rw"],
    &["z", "Z"],
    &["exec", "noexec"],
    &["dev", "nodev"],
    &["suid", "nosuid"],
    &["bind", "rbind"],
    &["copy", "nocopy"],
    &["U"],
    &["idmap"],
    &["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"],
];

/// Podman has them, we do not yet.
const LATER: &[&str] = &["O"];

/// `[SOURCE:]TARGET[:OPTIONS]`
pub(crate) fn parse(text: &str) -> Result<VolumeMount, Failure> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(Failure::new("incorrect volume format, should be [host-dir:]ctr-dir[:option]")),
    };
    let source = match source {
        None => VolumeSource::Anonymous,
        Some("") => return Err(Failure::new("host directory cannot be empty")),
        Some(path) if path.starts_with(['/', '.']) => VolumeSource::Bind(absolute(Path::new(path))?),
        Some(name) => named(name)?,
    };
    Ok(VolumeMount { source, target: inside(target)?, options: mount_options(options)? })
}

pub(super) fn named(name: &str) -> Result<VolumeSource, Failure> {
    name.parse::<model::ContainerName>()?;
    Ok(VolumeSource::Named(name.to_owned()))
}

/// `TARGET[:OPTIONS]`
pub(super) fn tmpfs(text: &str) -> Result<(String, String), Failure> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    Ok((inside(target)?, options.to_owned()))
}

pub(super) fn inside(target: &str) -> Result<String, Failure> {
    match target {
        "" => Err(Failure::new("container directory cannot be empty")),
        target if !target.starts_with('/') => {
            Err(Failure::new(format!("invalid container path {target:?}, must be an absolute path")))
        }
        target => Ok(target.to_owned()),
    }
}

pub(super) fn mount_options(text: &str) -> Result<Vec<String>, Failure> {
    let options: Vec<&str> = text.split(',').filter(|o| !o.is_empty()).collect();
    for option in &options {
        if LATER.contains(&option.split('=').next().unwrap_or(option)) {
            return Err(Failure::new(format!("the volume option {option:?} is not supported by podwire yet")));
        }
        if !GROUPS.iter().any(|group| group.contains(option)) {
            return Err(Failure::new(format!("unknown mount option {option:?}: invalid mount option")));
        }
    }
    for group in GROUPS {
        let given: Vec<&&str> = options.iter().filter(|o| group.contains(o)).collect();
        if given.len() > 1 {
            let list = group.iter().map(|o| format!("'{o}'")).collect::<Vec<_>>().join(", ");
            return Err(Failure::new(format!("can only specify one of {list} once: invalid mount option")));
        }
    }
    Ok(options.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, means: &str) {
        let said = match parse(text) {
            Ok(v) => format!("{:?} {} {:?}", v.source, v.target, v.options),
            Err(failure) => failure.message,
        };
        assert_eq!(said, means, "-v {text}");
    }

    #[test]
    fn volumes_are_paths_names_or_new() {
        check("/data", "Anonymous /data []");
        check("/srv/x:/data:ro,z", "Bind(\"/srv/x\") /data [\"ro\", \"z\"]");
        check("db:/data", "Named(\"db\") /data []");
    }

    #[test]
    fn wrong_volumes_are_answered_in_podmans_words() {
        check(":/data", "host directory cannot be empty");
        check("/srv:", "container directory cannot be empty");
        check("/srv:data", "invalid container path \"data\", must be an absolute path");
        check("/srv:/data:foo", "unknown mount option \"foo\": invalid mount option");
        check("/srv:/data:ro,rw", "can only specify one of 'ro', 'rw' once: invalid mount option");
        check("a b:/data", "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument");
    }

    #[test]
    fn tmpfs_takes_options_behind_a_colon() {
        assert_eq!(tmpfs("/tmp:size=64k,mode=1777").unwrap(), ("/tmp".to_owned(), "size=64k,mode=1777".to_owned()));
        assert_eq!(tmpfs("tmp").unwrap_err().message, "invalid container path \"tmp\", must be an absolute path");
    }
}
