//! The OCI runtime specification of a container (`config.json`).
//!
//! Written as a JSON value rather than by types: a handful of fields are ours, and `ociVersion` must stay at
//! 1.0.2, above which crun 1.8.1 refuses to read.

use std::path::{Path, PathBuf};

use linux::userns::{IdRange, UserNs};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::config::{Inside, NetworkMode, SecurityConfig, Space, Ulimit};
use crate::devices::devices;
use crate::error::Result;
use crate::lookup::ZONES;
use crate::pods::{Joined, Share};
use crate::record::{ContainerRecord, Mount, Settings};
use crate::user::User;
use crate::{Error, seccomp};

/// Podman's default capabilities.
pub(crate) const DEFAULT_CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All that Linux knows, by number from 0 (include/uapi/linux/capability.h).
const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 6] = ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the record does not say about a container that is being started.
pub(crate) struct Surroundings<'a> {
    /// The mounted root file system.
    pub(crate) root: &'a Path,
    pub(crate) user: &'a User,
    /// Its network stack.
    pub(crate) stack: Stack<'a>,
    /// What it shares with its pod or with others.
    pub(crate) joined: &'a Joined,
    /// How many group ids there are, in a user namespace.
    pub(crate) groups: Option<u32>,
    /// The user namespace, when it is not our own.
    pub(crate) users: Option<&'a UserNs>,
    /// Does the network stack belong to the user namespace?
    pub(crate) owns_stack: bool,
    /// Our files to appear in the container: host path and place.
    pub(crate) files: &'a [(PathBuf, &'static str)],
    /// Rows and columns of the terminal that watches from the start.
    pub(crate) console: Option<(u16, u16)>,
    /// Where another's /dev/shm is, which it has.
    pub(crate) memory: Option<&'a Path>,
    /// How gladly the kernel kills it when memory is short (proc_pid_oom_score_adj(5)).
    pub(crate) oom_score_adj: i32,
}

/// Whose network stack a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stack<'a> {
    /// The host's.
    Host,
    /// A new one, without any link but `lo`, which the runtime makes.
    New,
    /// The one of this namespace.
    At(&'a Path),
}

/// The whole `config.json`.
pub(crate) fn document(record: &ContainerRecord, around: &Surroundings<'_>) -> Result<Value> {
    let settings = &record.settings;
    let capabilities = capabilities(&settings.security);
    let inside = &settings.inside;
    let mut linux = json!({ "namespaces": namespaces(around, inside) });
    if let Some(users) = around.users {
        linux["uidMappings"] = id_mappings(&users.maps().uids);
        linux["gidMappings"] = id_mappings(&users.maps().gids);
    }
    let mut sysctls = inside.sysctls.clone();
    if around.stack != Stack::Host && around.owns_stack && around.has_group(0) {
        sysctls.entry("net.ipv4.ping_group_range".to_owned()).or_insert_with(|| "0 0".to_owned());
    }
    if !sysctls.is_empty() {
        linux["sysctl"] = json!(sysctls);
    }
    if !settings.security.privileged {
        linux["maskedPaths"] = json!(masked(&settings.security));
        linux["readonlyPaths"] = json!(unmasked(&settings.security, READ_ONLY.iter().copied()));
    }
    if let Some(profile) = seccomp::of(&settings.security, &capabilities) {
        linux["seccomp"] = profile?;
    }
    let devices =
        devices(&inside.devices, settings.security.privileged, around.groups.is_none() && around.users.is_none());
    if !devices.made.is_empty() {
        linux["devices"] = json!(devices.made);
    }
    let mut argv = settings.argv();
    if settings.care.init.is_some() {
        argv.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    }
    let mut process = process(settings, around.user, &argv, &environment(settings, around.user), None);
    process["oomScoreAdj"] = json!(inside.oom_score_adj.unwrap_or(around.oom_score_adj));
    if let Some((rows, columns)) = around.console.filter(|_| settings.tty) {
        process["consoleSize"] = json!({ "height": rows, "width": columns });
    }
    let mut document = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": around.root, "readonly": settings.security.read_only },
        "mounts": mounts(settings, around, devices.mounts),
        "annotations": annotations(settings),
        "linux": linux,
    });
    if inside.uts == Space::Private && around.joined.path(Share::Uts).is_none() {
        document["hostname"] = json!(settings.hostname);
    }
    Ok(document)
}

/// Paths that show nothing, Podman's and the user's.
fn masked(security: &SecurityConfig) -> Vec<&str> {
    let mut paths = unmasked(security, MASKED.iter().copied());
    paths.extend(security.mask.iter().map(String::as_str));
    paths
}

/// Less those that the user wants to see: by name, below a `*`, or all.
fn unmasked<'a>(security: &SecurityConfig, paths: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let shown = |path: &str| {
        security.unmask.iter().any(|wish| {
            wish.eq_ignore_ascii_case("all")
                || wish == path
                || wish.strip_suffix('*').is_some_and(|all| path.starts_with(all))
        })
    };
    paths.filter(|path| !shown(path)).collect()
}

/// One process: the container's first, or one of `exec`.
pub(crate) fn process(
    settings: &Settings,
    user: &User,
    argv: &[String],
    env: &[String],
    workdir: Option<&str>,
) -> Value {
    let capabilities = capabilities(&settings.security);
    // As Podman: another user than root gets none but those asked for by name.
    let active: Vec<String> = if user.uid == 0 { capabilities.clone() } else { added(&settings.security) };
    json!({
        "terminal": settings.tty,
        "user": {
            "uid": user.uid, "gid": user.gid, "additionalGids": user.groups,
            "umask": settings.inside.umask.unwrap_or(0o022),
        },
        "args": argv,
        "env": env,
        "cwd": workdir.unwrap_or(&settings.workdir),
        "capabilities": {
            "bounding": capabilities,
            "effective": active,
            "permitted": active,
            "inheritable": added_for_others(user, &active),
            "ambient": added_for_others(user, &active),
        },
        "noNewPrivileges": settings.security.no_new_privileges,
        "rlimits": rlimits(&settings.inside.ulimits),
    })
}

/// Capabilities survive the change to another user only as ambient ones.
fn added_for_others(user: &User, active: &[String]) -> Vec<String> {
    if user.uid == 0 { Vec::new() } else { active.to_vec() }
}

/// What the user asked for, and Podman's defaults where he did not.
pub(crate) fn rlimits(wishes: &[Ulimit]) -> Vec<Value> {
    let named = |name: &str| wishes.iter().any(|wish| wish.name == name);
    let defaults = [("nofile", Resource::Nofile, 1 << 20), ("nproc", Resource::Nproc, 1 << 22)];
    let mut all: Vec<Value> = wishes
        .iter()
        .map(|wish| json!({ "type": format!("RLIMIT_{}", wish.name.to_uppercase()), "soft": wish.soft, "hard": wish.hard }))
        .collect();
    for (name, resource, wish) in defaults.into_iter().filter(|(name, ..)| !named(name)) {
        all.push(limit(&format!("RLIMIT_{}", name.to_uppercase()), resource, wish));
    }
    all
}

/// Podman's limit, or the machine's hard one where that is lower: raising it is not everybody's right.
fn limit(name: &str, resource: Resource, wish: u64) -> Value {
    let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX).min(wish);
    json!({ "type": name, "soft": hard, "hard": hard })
}

/// The container's environment, in Podman's order. What the image and the user say wins over our own.
pub(crate) fn environment(settings: &Settings, user: &User) -> Vec<String> {
    let hostname = format!("HOSTNAME={}", settings.hostname);
    let home = format!("HOME={}", user.home);
    let terminal = settings.tty.then_some("TERM=xterm");
    with_defaults(settings, LASTING.into_iter().chain([home.as_str(), &hostname]).chain(terminal))
}

/// What of it an image of the container has, too.
pub(crate) fn lasting_environment(settings: &Settings) -> Vec<String> {
    with_defaults(settings, LASTING.into_iter())
}

/// Where nobody says otherwise, in whatever place and for whomever it runs.
const LASTING: [&str; 2] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=podman"];

fn with_defaults<'a>(settings: &Settings, defaults: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut env = settings.env.clone();
    let unset =
        |text: &str| settings.unset_env.all || settings.unset_env.names.iter().any(|name| name_of(text) == name);
    for default in defaults {
        if !unset(default) && !env.iter().any(|set| name_of(set) == name_of(default)) {
            env.push(default.to_owned());
        }
    }
    env
}

/// Adds `NAME=VALUE`, in the place of an earlier value.
pub(crate) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let text = format!("{name}={value}");
    match env.iter_mut().find(|set| name_of(set) == name) {
        Some(set) => *set = text,
        None => env.push(text),
    }
}

fn name_of(text: &str) -> &str {
    text.split('=').next().unwrap_or_default()
}

/// What a container with these settings may do, in the kernel's order for `all`, sorted otherwise.
pub(crate) fn capabilities(security: &SecurityConfig) -> Vec<String> {
    let all = || ALL_CAPABILITIES.iter().filter(|name| allowed_to_us(name)).map(|name| (*name).to_owned());
    if security.privileged || names_all(&security.cap_add) {
        return all().filter(|name| !listed(&security.cap_drop, name)).collect();
    }
    let default: Vec<String> = match &security.default {
        Some(names) => names.iter().map(|name| full_name(name)).collect(),
        None => DEFAULT_CAPABILITIES.map(str::to_owned).into(),
    };
    let mut granted: Vec<String> = if names_all(&security.cap_drop) {
        Vec::new()
    } else {
        default.into_iter().filter(|c| !listed(&security.cap_drop, c)).collect()
    };
    granted.extend(added(security));
    granted.sort_unstable();
    granted.dedup();
    granted
}

/// The `--cap-add` ones.
fn added(security: &SecurityConfig) -> Vec<String> {
    security.cap_add.iter().filter(|name| !name.eq_ignore_ascii_case("all")).map(|name| full_name(name)).collect()
}

fn names_all(list: &[String]) -> bool {
    list.iter().any(|name| name.eq_ignore_ascii_case("all"))
}

fn listed(list: &[String], name: &str) -> bool {
    list.iter().any(|wanted| full_name(wanted) == name)
}

fn full_name(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

/// Is it in our own bounding set? The runtime cannot give what we have not.
fn allowed_to_us(name: &str) -> bool {
    let number = ALL_CAPABILITIES.iter().position(|n| *n == name);
    let set = number.map(|n| rustix::thread::CapabilitySet::from_bits_retain(1 << n));
    set.is_some_and(|set| rustix::thread::capabilities(None).is_ok_and(|ours| ours.permitted.contains(set)))
}

/// Checks that the names are known, in Podman's words.
pub(crate) fn check_capabilities(security: &SecurityConfig) -> Result<()> {
    let mut names = security.cap_add.iter().chain(&security.cap_drop).chain(security.default.iter().flatten());
    match names.find(|name| !name.eq_ignore_ascii_case("all") && !ALL_CAPABILITIES.contains(&full_name(name).as_str()))
    {
        None => Ok(()),
        Some(name) => Err(Error::usage(format!("{:?} is not a valid capability: unknown capability", full_name(name)))),
    }
}

impl Surroundings<'_> {
    /// Is there a group with this number?
    fn has_group(&self, id: u32) -> bool {
        self.users.is_none_or(|users| crate::idmaps::outside(&users.maps().gids, id).is_some())
    }
}

fn id_mappings(map: &[IdRange]) -> Value {
    let one = |r: &IdRange| json!({ "containerID": r.inside, "hostID": r.outside, "size": r.count });
    map.iter().map(one).collect()
}

fn namespaces(around: &Surroundings<'_>, inside: &Inside) -> Value {
    let mut list = vec![json!({ "type": "mount" })];
    for (kind, space, path) in [
        ("pid", &inside.pid, around.joined.path(Share::Pid)),
        ("ipc", &inside.ipc, around.joined.path(Share::Ipc)),
        ("uts", &inside.uts, around.joined.path(Share::Uts)),
        ("cgroup", &inside.cgroup, None),
    ] {
        match (space, path) {
            (Space::Host, _) => {}
            (_, Some(path)) => list.push(json!({ "type": kind, "path": path })),
            (_, None) => list.push(json!({ "type": kind })),
        }
    }
    if let Some(users) = around.users {
        list.push(json!({ "type": "user", "path": users.path() }));
    }
    match around.stack {
        Stack::Host => {}
        Stack::New => list.push(json!({ "type": "network" })),
        Stack::At(path) => list.push(json!({ "type": "network", "path": path })),
    }
    Value::Array(list)
}

/// Where one can write with `--read-only`, as with Podman's `--read-only-tmpfs`, which is on by default.
const WRITABLE: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// Bytes; Podman's `--shm-size`.
pub(crate) const SHM_SIZE: u64 = 65_536_000;

/// Of an IPC namespace that is not its own, a container has the memory and queues too.
fn shared_memory(settings: &Settings, around: &Surroundings<'_>) -> [Value; 2] {
    let bound = |place: &str, source: &Path| {
        let options = &["rbind", "rprivate", "nosuid", "noexec", "nodev"];
        json!({ "destination": place, "type": "bind", "source": source, "options": options })
    };
    if settings.inside.ipc == Space::Host {
        return ["/dev/mqueue", "/dev/shm"].map(|place| bound(place, Path::new(place)));
    }
    let size = format!("size={}", settings.inside.shm_size.unwrap_or(SHM_SIZE));
    let memory = match around.memory.or(around.joined.shm.as_deref()) {
        Some(source) => bound("/dev/shm", source),
        None => mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]),
    };
    // Of an IPC namespace there is one mqueue file system, however often it is mounted.
    [mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]), memory]
}

fn mounts(settings: &Settings, around: &Surroundings<'_>, devices: Vec<Value>) -> Value {
    let sys = if settings.security.privileged { "rw" } else { "ro" };
    let [queues, memory] = shared_memory(settings, around);
    // The group of terminals, where it can be somebody's.
    let tty: &[&str] =
        if around.groups.is_none_or(|count| count > 5) && around.has_group(5) { &["gid=5"] } else { &[] };
    let mut list = vec![
        match (around.groups.or(around.users.map(|_| 0)), &settings.inside.pid) {
            // Only the owner of a PID namespace may mount its proc (proc_init_fs_context()).
            (Some(_), Space::Host) => {
                mount("/proc", "bind", "/proc", &["rprivate", "nosuid", "noexec", "nodev", "rbind"])
            }
            _ => mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        },
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        match around.groups.or(around.users.map(|_| 0)) {
            // sysfs shows a network stack's links, so only the owner of that may mount it (sysfs_init_fs_context()).
            Some(_) if around.stack == Stack::Host || !around.owns_stack => {
                mount("/sys", "bind", "/sys", &["rprivate", "nosuid", "noexec", "nodev", sys, "rbind"])
            }
            _ => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        },
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"], tty].concat(),
        ),
        queues,
        memory,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys]),
    ];
    for (source, target) in around.files {
        list.push(json!({
            "destination": target, "type": "bind", "source": source, "options": ["bind", "rprivate", "nosuid", "nodev", "noexec"],
        }));
    }
    list.extend(devices);
    if let Some(program) = &settings.care.init {
        let options = ["bind", "ro", "rprivate", "nosuid", "nodev"];
        list.push(json!({ "destination": INIT, "type": "bind", "source": program, "options": options }));
    }
    if let Some(zone) = &settings.inside.timezone {
        list.push(timezone(zone));
    }
    for (path, options) in &settings.tmpfs {
        list.push(tmpfs(path, options));
    }
    list.extend(settings.mounts.iter().map(volume));
    // A user's mount takes the place of one of ours.
    let ours = list.len() - settings.mounts.len();
    let places: Vec<Value> = list[ours..].iter().map(|mount| mount["destination"].clone()).collect();
    let mut n = 0;
    list.retain(|mount| {
        n += 1;
        n > ours || !places.contains(&mount["destination"])
    });
    if settings.security.read_only && !settings.security.no_tmpfs {
        let taken = |place: &str| list.iter().any(|mount| mount["destination"] == place);
        let free: Vec<_> = WRITABLE.into_iter().filter(|place| !taken(place)).collect();
        list.extend(free.into_iter().map(|place| tmpfs(place, "rw")));
    }
    // Outer places first: a mount below another must come after it.
    list.sort_by_key(|m| m["destination"].as_str().unwrap_or_default().matches('/').count());
    Value::Array(list)
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

/// Where the program of `--init` is in the container, as in Podman's.
const INIT: &str = "/run/podman-init";

/// The zone's file, or the host's own.
fn timezone(zone: &str) -> Value {
    let file = if zone == "local" { PathBuf::from("/etc/localtime") } else { Path::new(ZONES).join(zone) };
    // What is mounted must not be a link to what the container has elsewhere.
    let file = file.canonicalize().unwrap_or(file);
    let options = ["bind", "ro", "rprivate", "nosuid", "nodev", "noexec"];
    json!({ "destination": "/etc/localtime", "type": "bind", "source": file, "options": options })
}

fn tmpfs(path: &str, options: &str) -> Value {
    json!({ "destination": path, "type": "tmpfs", "source": "tmpfs", "options": tmpfs_options(options) })
}

/// Those that a user asked for, and those that every such file system has.
fn tmpfs_options(given: &str) -> Vec<&str> {
    let given = given.split(',').filter(|option| !option.is_empty());
    ["rprivate", "nosuid", "nodev", "tmpcopyup"].into_iter().chain(given).collect()
}

/// As `inspect` tells them.
pub(crate) fn tmpfs_text(given: &str) -> String {
    let options = tmpfs_options(given);
    let told = options.iter().any(|option| matches!(*option, "rw" | "ro"));
    if told { options.join(",") } else { format!("rw,{}", options.join(",")) }
}

fn volume(volume: &Mount) -> Value {
    let mut options = vec!["rbind".to_owned()];
    // z, Z: SELinux labels, which Debian has not; U and copy are done before the start.
    let ours = ["z", "Z", "U", "idmap", "copy", "nocopy"];
    options.extend(volume.options.iter().filter(|option| !ours.contains(&option.as_str())).cloned());
    if !options.iter().any(|o| o.ends_with("private") || o.ends_with("slave") || o.ends_with("shared")) {
        options.push("rprivate".to_owned());
    }
    json!({ "destination": volume.target, "type": "bind", "source": volume.source, "options": options })
}

fn annotations(settings: &Settings) -> Value {
    let mut all = settings.annotations.clone();
    all.insert("org.opencontainers.image.stopSignal".to_owned(), settings.stop_signal.to_string());
    json!(all)
}

/// Does the network mode give the container a stack of its own, or somebody's?
pub(crate) fn own_stack(mode: &NetworkMode) -> bool {
    !matches!(mode, NetworkMode::Host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(add: &[&str], drop: &[&str]) -> SecurityConfig {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        SecurityConfig { cap_add: owned(add), cap_drop: owned(drop), ..SecurityConfig::default() }
    }

    #[test]
    fn capabilities_are_podmans_defaults_plus_and_minus_what_was_asked() {
        assert_eq!(capabilities(&security(&[], &[])), DEFAULT_CAPABILITIES);
        let some = capabilities(&security(&["net_admin"], &["CAP_CHOWN", "kill"]));
        assert!(some.contains(&"CAP_NET_ADMIN".to_owned()) && some.contains(&"CAP_FOWNER".to_owned()));
        assert!(!some.contains(&"CAP_CHOWN".to_owned()) && !some.contains(&"CAP_KILL".to_owned()));
        assert_eq!(capabilities(&security(&["sys_chroot"], &["ALL"])), ["CAP_SYS_CHROOT"]);
        assert!(check_capabilities(&security(&["nope"], &[])).is_err());
        assert!(check_capabilities(&security(&["all", "CAP_Sys_Admin"], &[])).is_ok());
    }

    #[test]
    fn a_later_value_of_a_variable_takes_the_earlier_ones_place() {
        let mut env = vec!["A=1".to_owned(), "B=2".to_owned()];
        set_env(&mut env, "A", "3=4");
        set_env(&mut env, "C", "");
        assert_eq!(env, ["A=3=4", "B=2", "C="]);
    }
}
