//! `--mount`, `--volumes-from` and what Docker's spelling of a mount means.

use std::path::Path;

use engine::config::{VolumeMount, VolumeSource};

use super::volume;
use crate::flags;
use crate::global::absolute;
use crate::outcome::Failure;

/// One `--mount`.
pub(super) enum Mounted {
    Volume(VolumeMount),
    /// Path and options.
    Tmpfs(String, String),
}

/// `type=bind|volume|tmpfs,KEY[=VALUE]…`
pub(super) fn parse(text: &str) -> Result<Mounted, Failure> {
    let fields = flags::strings(&[text.to_owned()]);
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|field| field.split_once('=').unwrap_or((field.as_str(), ""))).collect();
    let given = |names: &[&str]| fields.iter().find(|(key, _)| names.contains(key)).map(|(_, value)| *value);
    let kind = given(&["type"]).unwrap_or("volume");
    let target = given(&["target", "dst", "destination"])
        .filter(|target| !target.is_empty())
        .ok_or_else(|| Failure::new("must set volume destination"))?;
    let source = given(&["source", "src"]).filter(|source| !source.is_empty());
    let rest = fields
        .iter()
        .filter(|(key, _)| !["type", "target", "dst", "destination", "source", "src"].contains(key))
        .map(|(key, value)| (*key, *value));
    match kind {
        "bind" => {
            let source = source.ok_or_else(|| Failure::new("must set source for a bind mount"))?;
            let source = VolumeSource::Bind(absolute(Path::new(source))?);
            Ok(Mounted::Volume(mount(source, target, options(rest)?)?))
        }
        "volume" => {
            let source = source.map_or(Ok(VolumeSource::Anonymous), volume::named)?;
            Ok(Mounted::Volume(mount(source, target, options(rest)?)?))
        }
        "tmpfs" if source.is_some() => Err(Failure::new("\"source\" option not supported for \"tmpfs\" mount types")),
        "tmpfs" => Ok(Mounted::Tmpfs(volume::inside(target)?, tmpfs_options(rest)?)),
        "image" | "devpts" | "ramfs" | "glob" | "artifact" => {
            Err(Failure::new(format!("--mount type={kind} is not supported by podwire yet")))
        }
        other => Err(Failure::new(format!("invalid filesystem type {other:?}"))),
    }
}

fn mount(source: VolumeSource, target: &str, options: String) -> Result<VolumeMount, Failure> {
    Ok(VolumeMount { source, target: volume::inside(target)?, options: volume::mount_options(&options)? })
}

/// As `-v` has them, in a list.
fn options<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<String, Failure> {
    let mut words = Vec::new();
    for (key, value) in fields {
        let on = || switch(key, value);
        match key {
            "ro" | "readonly" => words.push(if on()? { "ro" } else { "rw" }),
            "rw" => words.push(if on()? { "rw" } else { "ro" }),
            "bind-propagation" | "propagation" => words.push(value),
            "bind-nonrecursive" => words.push(if on()? { "bind" } else { "rbind" }),
            "relabel" if value == "shared" => words.push("z"),
            "relabel" if value == "private" => words.push("Z"),
            "volume-nocopy" | "nocopy" if on()? => words.push("nocopy"),
            "copy" if on()? => words.push("copy"),
            "consistency" => {}
            "exec" | "noexec" | "dev" | "nodev" | "suid" | "nosuid" | "z" | "Z" | "private" | "rprivate" | "shared"
            | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" => words.push(key),
            "U" | "chown" if !on()? => {}
            "U" | "chown" => words.push("U"),
            "idmap" | "volume-label" | "volume-driver" | "volume-opt" | "subpath" | "volume-subpath" => {
                return Err(Failure::new(format!("the mount option {key} is not supported by podwire yet")));
            }
            other => return Err(Failure::new(format!("{other}: invalid mount option"))),
        }
    }
    Ok(words.join(","))
}

fn tmpfs_options<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<String, Failure> {
    let mut words = Vec::new();
    for (key, value) in fields {
        match key {
            "tmpfs-size" | "size" => words.push(format!("size={value}")),
            "tmpfs-mode" | "mode" => words.push(format!("mode={value}")),
            "ro" | "readonly" => words.push(if switch(key, value)? { "ro" } else { "rw" }.to_owned()),
            "rw" | "exec" | "noexec" | "dev" | "nodev" | "suid" | "nosuid" | "notmpcopyup" => {
                words.push(key.to_owned())
            }
            // What is done without being asked.
            "tmpcopyup" | "consistency" => {}
            "U" | "chown" => {
                return Err(Failure::new(format!("the mount option {key} is not supported by podwire yet")));
            }
            other => return Err(Failure::new(format!("{other}: invalid mount option"))),
        }
    }
    Ok(words.join(","))
}

fn switch(key: &str, value: &str) -> Result<bool, Failure> {
    if value.is_empty() {
        return Ok(true);
    }
    flags::switch(value).map_err(|why| Failure::new(format!("{key}: {why}")))
}

/// `CONTAINER[:OPTIONS]`
pub(crate) fn volumes_from(text: &str) -> Result<(String, Vec<String>), Failure> {
    let (name, options) = text.split_once(':').unwrap_or((text, ""));
    let options = volume::mount_options(options)?;
    match options.iter().find(|option| !["ro", "rw", "z"].contains(&option.as_str())) {
        Some(wrong) => Err(Failure::new(format!(
            "invalid options {wrong:?}, can only specify 'ro', 'rw', and 'z' when using --volumes-from"
        ))),
        None if name.is_empty() => Err(Failure::new("--volumes-from needs the name of a container")),
        None => Ok((name.to_owned(), options)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, means: &str) {
        let said = match parse(text) {
            Ok(Mounted::Volume(v)) => format!("{:?} {} {}", v.source, v.target, v.options.join(",")),
            Ok(Mounted::Tmpfs(target, options)) => format!("tmpfs {target} {options}"),
            Err(failure) => failure.message,
        };
        assert_eq!(said, means, "--mount {text}");
    }

    #[test]
    fn mounts_are_read_as_podman_reads_them() {
        check("type=bind,source=/srv,target=/data,ro=true", "Bind(\"/srv\") /data ro");
        check("type=bind,src=/srv,dst=/data,bind-propagation=rslave,relabel=shared", "Bind(\"/srv\") /data rslave,z");
        check("type=volume,src=db,destination=/data", "Named(\"db\") /data ");
        check("target=/data", "Anonymous /data ");
        check("type=tmpfs,target=/t,tmpfs-size=64k,tmpfs-mode=1777", "tmpfs /t size=64k,mode=1777");
        check("type=bind,target=/data", "must set source for a bind mount");
        check("type=bind,source=/srv", "must set volume destination");
        check("type=foo,target=/data", "invalid filesystem type \"foo\"");
        check("type=bind,source=/srv,target=/data,foo=1", "foo: invalid mount option");
        check("type=image,source=x,target=/data", "--mount type=image is not supported by podwire yet");
    }
}
