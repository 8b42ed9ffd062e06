//! `--pid`, `--ulimit`, `--device` and the like.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::config::{Device, DeviceKind, DeviceRule, Inside, Space, ULIMITS, Ulimit};

use crate::flags::strings;
use crate::outcome::Failure;
use crate::sizes;

#[derive(clap::Args, Debug, Default)]
pub(crate) struct InsideFlags {
    /// PID namespace: private, host, container:NAME, ns:PATH
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pid: String,
    /// IPC namespace: private, shareable, host, container:NAME, ns:PATH
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    ipc: String,
    /// UTS namespace: private, host, container:NAME, ns:PATH
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    uts: String,
    /// Control group namespace: private or host
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    cgroupns: String,
    /// Size of /dev/shm (NUMBER[UNIT]; default 65536k)
    #[arg(long, value_name = "string")]
    shm_size: Option<String>,
    /// Kernel settings of its namespaces (NAME=VALUE)
    #[arg(long, value_name = "strings")]
    sysctl: Vec<String>,
    /// Add a device of the host (HOST[:CONTAINER][:rwm])
    #[arg(long, value_name = "strings")]
    device: Vec<String>,
    /// Let it use devices that it has no file of yet (a|b|c MAJOR:MINOR [r][w][m])
    #[arg(long, value_name = "stringArray")]
    device_cgroup_rule: Vec<String>,
    /// Limits of each process (NAME=SOFT[:HARD]), or host for podwire's own
    #[arg(long, value_name = "strings")]
    ulimit: Vec<String>,
    /// Permissions that new files do not get (default 0022)
    #[arg(long, value_name = "string")]
    umask: Option<String>,
    /// Add groups to the first process
    #[arg(long, value_name = "strings")]
    group_add: Vec<String>,
    /// Time zone, or local for the host's
    #[arg(long, value_name = "string")]
    tz: Option<String>,
    /// How gladly the kernel kills it when memory is short (-1000 to 1000)
    #[arg(long, value_name = "int", value_parser = crate::flags::signed)]
    oom_score_adj: Option<i64>,
}

impl InsideFlags {
    pub(crate) fn parse(&self) -> Result<Inside, Failure> {
        let inside = Inside {
            pid: space("pid", &self.pid)?,
            ipc: space("ipc", &self.ipc)?,
            uts: space("uts", &self.uts)?,
            cgroup: space("cgroup", &self.cgroupns)?,
            shm_size: self.shm_size.as_deref().filter(|text| !text.is_empty()).map(shm_size).transpose()?,
            sysctls: sysctls(&self.sysctl)?,
            devices: devices(&self.device)?,
            device_rules: self.device_cgroup_rule.iter().map(|text| device_rule(text)).collect::<Result<_, _>>()?,
            ulimits: ulimits(&strings(&self.ulimit))?,
            umask: self.umask.as_deref().filter(|text| !text.is_empty()).map(umask).transpose()?,
            groups: strings(&self.group_add),
            timezone: self.tz.clone().filter(|zone| !zone.is_empty()),
            oom_score_adj: self.oom_score_adj.map(oom_score_adj).transpose()?,
        };
        if matches!(inside.cgroup, Space::Container(_) | Space::Path(_)) {
            return Err(Failure::new("--cgroupns takes private or host: podwire has no other yet"));
        }
        if inside.groups.iter().any(|group| group == "keep-groups") {
            return Err(Failure::new("--group-add keep-groups is not supported by podwire yet"));
        }
        if inside.shm_size.is_some() && inside.ipc == Space::Host {
            return Err(Failure::new("cannot set shmsize when running in the {host } IPC Namespace"));
        }
        Ok(inside)
    }
}

pub(crate) fn sysctls(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::new(format!("invalid sysctl value {text:?}: must be NAME=VALUE"))),
    };
    strings(texts).iter().map(pair).collect()
}

pub(crate) fn devices(texts: &[String]) -> Result<Vec<Device>, Failure> {
    strings(texts).iter().map(|text| device(text)).collect()
}

pub(crate) fn space(kind: &str, text: &str) -> Result<Space, Failure> {
    match text.split_once(':') {
        None if matches!(text, "" | "private") || (kind == "ipc" && text == "shareable") => Ok(Space::Private),
        None if text == "host" => Ok(Space::Host),
        None if kind == "ipc" && text == "none" => Err(Failure::new("--ipc none is not supported by podwire yet")),
        Some(("container", name)) if !name.is_empty() => Ok(Space::Container(name.to_owned())),
        Some(("ns", path)) if !path.is_empty() => Ok(Space::Path(PathBuf::from(path))),
        _ => Err(Failure::new(format!("unrecognized {kind} namespace mode {text:?} passed"))),
    }
}

pub(crate) fn shm_size(text: &str) -> Result<u64, Failure> {
    sizes::parse(text).ok_or_else(|| Failure::new(format!("unable to translate --shm-size: invalid size: '{text}'")))
}

pub(crate) fn umask(text: &str) -> Result<u32, Failure> {
    let wrong = || Failure::new(format!("invalid umask string {text}: invalid argument"));
    let octal = text.len() <= 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if octal { u32::from_str_radix(text, 8).map_err(|_| wrong()) } else { Err(wrong()) }
}

fn oom_score_adj(number: i64) -> Result<i32, Failure> {
    match number {
        -1000..=1000 => Ok(number as i32),
        _ => Err(Failure::new(format!("--oom-score-adj {number} is out of range: it goes from -1000 to 1000"))),
    }
}

/// `HOST[:CONTAINER][:ACCESS]`
pub(crate) fn device(text: &str) -> Result<Device, Failure> {
    let is_access = |part: &str| !part.is_empty() && part.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, target, access) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, access] if is_access(access) => (host, host, access),
        [host, target] => (host, target, "rwm"),
        [host, target, access] if is_access(access) => (host, target, access),
        [_, _, access] => return Err(Failure::new(format!("invalid device mode: {access}"))),
        _ => return Err(Failure::new(format!("invalid device specification: {text}"))),
    };
    if !host.starts_with('/') || !target.starts_with('/') {
        return Err(Failure::new(format!("invalid device specification: {text}: paths must be absolute")));
    }
    Ok(Device { host: Path::new(host).to_owned(), target: target.to_owned(), access: access.to_owned() })
}

/// `c 10:229 rwm`, `a *:* m`
fn device_rule(text: &str) -> Result<DeviceRule, Failure> {
    let wrong = || Failure::new(format!("invalid device cgroup rule {text:?}: must be a|b|c MAJOR:MINOR [r][w][m]"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[kind, numbers, access] = &words[..] else { return Err(wrong()) };
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse::<u32>().map(Some).map_err(|_| wrong()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let kind = match kind {
        "a" => None,
        "b" => Some(DeviceKind::Block),
        "c" => Some(DeviceKind::Char),
        _ => return Err(wrong()),
    };
    if access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(wrong());
    }
    Ok(DeviceRule { kind, major: number(major)?, minor: number(minor)?, access: access.to_owned() })
}

/// `NAME=SOFT[:HARD]`; `host` for the limits that podwire itself has.
pub(crate) fn ulimits(texts: &[String]) -> Result<Vec<Ulimit>, Failure> {
    if texts.iter().any(|text| text == "host") {
        return match texts.len() {
            1 => Ok(own_limits()),
            _ => Err(Failure::new("ulimit can use host only once, and nothing else: invalid argument")),
        };
    }
    let mut all: Vec<Ulimit> = Vec::new();
    for text in texts {
        let limit = ulimit(text)?;
        // Of two for one name the later counts.
        all.retain(|earlier| earlier.name != limit.name);
        all.push(limit);
    }
    Ok(all)
}

fn ulimit(text: &str) -> Result<Ulimit, Failure> {
    let wrong =
        |why: &str| Failure::new(format!("ulimit option {text:?} requires name=SOFT:HARD, failed to be parsed: {why}"));
    let (name, values) = text.split_once('=').ok_or_else(|| wrong(&format!("invalid ulimit argument: {text}")))?;
    let name = name.to_ascii_lowercase();
    if !ULIMITS.contains(&name.as_str()) {
        return Err(wrong(&format!("invalid ulimit type: {name}")));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| wrong(&format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(wrong(&format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")));
    }
    Ok(Ulimit { name, soft, hard })
}

/// From /proc/self/limits (proc_pid_limits(5)).
fn own_limits() -> Vec<Ulimit> {
    const LINES: [(&str, &str); 16] = [
        ("Max cpu time", "cpu"),
        ("Max file size", "fsize"),
        ("Max data size", "data"),
        ("Max stack size", "stack"),
        ("Max core file size", "core"),
        ("Max resident set", "rss"),
        ("Max processes", "nproc"),
        ("Max open files", "nofile"),
        ("Max locked memory", "memlock"),
        ("Max address space", "as"),
        ("Max file locks", "locks"),
        ("Max pending signals", "sigpending"),
        ("Max msgqueue size", "msgqueue"),
        ("Max nice priority", "nice"),
        ("Max realtime priority", "rtprio"),
        ("Max realtime timeout", "rttime"),
    ];
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    LINES
        .iter()
        .filter_map(|(line, name)| {
            let mut words = text.lines().find_map(|l| l.strip_prefix(line))?.split_whitespace();
            Some(Ulimit { name: (*name).to_owned(), soft: number(words.next()?)?, hard: number(words.next()?)? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_limits_are_read_as_podman_reads_them() {
        let check = |text: &str, means: &str| {
            let said =
                device(text).map_or_else(|f| f.message, |d| format!("{} {} {}", d.host.display(), d.target, d.access));
            assert_eq!(said, means, "{text}");
        };
        check("/dev/fuse", "/dev/fuse /dev/fuse rwm");
        check("/dev/fuse:rw", "/dev/fuse /dev/fuse rw");
        check("/dev/fuse:/dev/x:rwm", "/dev/fuse /dev/x rwm");
        check("/dev/fuse:/dev/x:y", "invalid device mode: y");
        check("/dev/fuse:r", "/dev/fuse /dev/fuse r");
        let rule = |text: &str| device_rule(text).map_err(|failure| failure.message);
        let fuse =
            DeviceRule { kind: Some(DeviceKind::Char), major: Some(10), minor: Some(229), access: "rw".to_owned() };
        assert_eq!(rule("c 10:229 rw"), Ok(fuse));
        assert_eq!(rule("a *:* rwm").unwrap().kind, None);
        for wrong in ["", "c 10:229", "x 1:1 r", "c 1 r", "c 1:y r", "c 1:1 q", "c 1:1 r x"] {
            assert!(rule(wrong).unwrap_err().contains("invalid device cgroup rule"), "{wrong}");
        }
        let limit =
            |text: &str| ulimit(text).map_or_else(|f| f.message, |l| format!("{} {} {}", l.name, l.soft, l.hard));
        assert_eq!(limit("nofile=10:20"), "nofile 10 20");
        assert_eq!(limit("NPROC=5"), "nproc 5 5");
        assert_eq!(limit("core=-1"), format!("core {0} {0}", u64::MAX));
        assert!(limit("nope=1").contains("invalid ulimit type: nope"));
        assert!(limit("nofile=20:10").contains("must be less than or equal"));
        assert!(own_limits().iter().any(|limit| limit.name == "nofile"));
    }
}
