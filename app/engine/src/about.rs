//! What podwire and this machine are: `info`.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::record::State;
use crate::seccomp::go_arch;

/// Neither netavark nor CNI.
const NETWORK_BACKEND: &str = "podwire";

/// The Podman whose words these are: tools that drive it read versions.
pub const AS_PODMAN: &str = "5.4.2";

/// Where we would have to ask a package manager, which Podman runs; this is its word when that knows nothing.
const PACKAGE: &str = "Unknown";

const VERSION: &str = concat!("podwire ", env!("CARGO_PKG_VERSION"));

impl Engine {
    /// Host, store and version, with Podman's field names in Podman's order. What podwire has no program for is empty.
    pub fn info(&self) -> Result<Value> {
        let images = self.images()?;
        Ok(json!({
            "host": self.host()?,
            "store": self.store_shown(images.list()?.len())?,
            "registries": images.registries_shown()?,
            "plugins": {
                "volume": ["local"],
                "network": ["bridge", "macvlan", "ipvlan"],
                "log": ["k8s-file", "json-file", "none"],
                "authorization": null,
            },
            "version": {
                "APIVersion": AS_PODMAN,
                "Version": env!("CARGO_PKG_VERSION"),
                "GoVersion": "",
                "GitCommit": "",
                "BuiltTime": "Thu Jan  1 00:00:00 1970",
                "Built": 0,
                "OsArch": format!("{}/{}", std::env::consts::OS, go_arch()),
                "Os": std::env::consts::OS,
            },
        }))
    }

    fn host(&self) -> Result<Value> {
        let options = self.options();
        let executable = std::env::current_exe().unwrap_or_default();
        let nothing = json!({ "executable": "", "package": "", "version": "" });
        Ok(json!({
            "arch": go_arch(),
            "buildahVersion": "",
            "cgroupManager": "cgroupfs",
            "cgroupVersion": if linux::mounts::is_cgroup2(Path::new(CGROUPS)) { "v2" } else { "v1" },
            "cgroupControllers": controllers(options.rootless),
            "conmon": { "package": PACKAGE, "path": executable, "version": VERSION },
            "cpus": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
            "cpuUtilization": utilization(&read("/proc/stat")),
            "databaseBackend": "sqlite",
            "distribution": distribution(&read("/etc/os-release")),
            "eventLogger": "file",
            "freeLocks": 0,
            "hostname": linux::machine::host_name(),
            "idMappings": id_mappings(),
            "kernel": linux::machine::kernel_release(),
            "logDriver": "k8s-file",
            "memFree": memory("MemFree"),
            "memTotal": memory("MemTotal"),
            "networkBackend": NETWORK_BACKEND,
            "networkBackendInfo": {
                "backend": NETWORK_BACKEND,
                "version": VERSION,
                "package": PACKAGE,
                "path": executable,
                "dns": { "version": VERSION, "package": PACKAGE, "path": executable },
            },
            "ociRuntime": self.runtime_shown(),
            "os": std::env::consts::OS,
            "remoteSocket": { "path": "", "exists": false },
            "rootlessNetworkCmd": "pasta",
            "serviceIsRemote": false,
            "security": {
                "apparmorEnabled": false,
                "capabilities": crate::spec::DEFAULT_CAPABILITIES.join(","),
                "rootless": options.rootless,
                "seccompEnabled": true,
                "seccompProfilePath": "",
                "selinuxEnabled": false,
            },
            "slirp4netns": nothing,
            "pasta": nothing,
            "swapFree": memory("SwapFree"),
            "swapTotal": memory("SwapTotal"),
            "uptime": uptime(&read("/proc/uptime")),
            "variant": if cfg!(target_arch = "aarch64") { "v8" } else { "" },
            "linkmode": if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" },
        }))
    }

    /// With what the runtime says of itself.
    fn runtime_shown(&self) -> Value {
        let runtime = match self.runtime() {
            Ok(runtime) => runtime,
            Err(missing) => {
                return json!({ "name": "", "package": "", "path": "", "version": "", "error": missing.message });
            }
        };
        let mut call = Command::new(&runtime.path);
        call.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
        let said = call.output().map(|output| String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        json!({
            "name": runtime.name, "package": PACKAGE, "path": runtime.path, "version": said.unwrap_or_default(),
        })
    }

    fn store_shown(&self, images: usize) -> Result<Value> {
        let options = self.options();
        let containers = self.list()?;
        let number = |state| containers.iter().filter(|container| container.state == state).count();
        let (running, paused) = (number(State::Running), number(State::Paused));
        let (size, free) = linux::machine::space(&options.root).map_err(Error::usage)?;
        Ok(json!({
            "configFile": "",
            "containerStore": {
                "number": containers.len(),
                "paused": paused,
                "running": running,
                "stopped": containers.len() - running - paused,
            },
            "graphDriverName": "overlay",
            "graphOptions": {},
            "graphRoot": options.root,
            "graphRootAllocated": size,
            "graphRootUsed": size.saturating_sub(free),
            "graphStatus": {
                "Backing Filesystem": linux::machine::file_system(&options.root).map_err(Error::usage)?,
                "Supports d_type": "true",
                "Using metacopy": "false",
            },
            "imageCopyTmpDir": options.root.join("overlay"),
            "imageStore": { "number": images },
            "runRoot": options.runroot,
            "volumePath": options.root.join("volumes"),
            "transientStore": false,
        }))
    }
}

const CGROUPS: &str = "/sys/fs/cgroup";

/// A file of the kernel's, or what there is of it.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The controllers that containers can be given limits by; version 1 has none for ordinary users.
fn controllers(rootless: bool) -> Vec<String> {
    if linux::mounts::is_cgroup2(Path::new(CGROUPS)) {
        let own = read("/proc/self/cgroup");
        // An ordinary user's are what his session was given.
        let group = own.lines().find_map(|line| line.strip_prefix("0::")).filter(|_| rootless).unwrap_or("/");
        return read(&format!("{CGROUPS}{group}/cgroup.controllers")).split_whitespace().map(str::to_owned).collect();
    }
    let enabled = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.len() == 4 && !line.starts_with('#') && words[3] == "1").then(|| words[0].to_owned())
    };
    if rootless { Vec::new() } else { read("/proc/cgroups").lines().filter_map(enabled).collect() }
}

/// Since the machine's start, in hundredths of per cent, from the first line of /proc/stat.
fn utilization(stat: &str) -> Value {
    let times: Vec<f64> = stat.lines().next().unwrap_or_default().split(' ').filter_map(|n| n.parse().ok()).collect();
    let [user, _, system, idle, ..] = times[..] else { return Value::Null };
    let whole = (user + system + idle).max(1.0);
    let share = |part: f64| (part / whole * 10000.0).round() / 100.0;
    json!({ "userPercent": share(user), "systemPercent": share(system), "idlePercent": share(idle) })
}

/// `3h 38m 55.00s (Approximately 0.12 days)`
fn uptime(text: &str) -> String {
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or(0);
    let (hours, minutes) = (seconds / 3600, seconds / 60);
    let time = format!("{hours}h {}m {}.00s", minutes % 60, seconds % 60);
    if hours == 0 { time } else { format!("{time} (Approximately {:.2} days)", hours as f64 / 24.0) }
}

/// Podman's: none for root.
fn id_mappings() -> Value {
    let Some((uids, gids)) = crate::rootless::id_maps() else { return json!({ "gidmap": null, "uidmap": null }) };
    let show = |map: &[linux::userns::IdRange]| -> Value {
        let one =
            |r: &linux::userns::IdRange| json!({ "container_id": r.inside, "host_id": r.outside, "size": r.count });
        map.iter().map(one).collect()
    };
    json!({ "gidmap": show(&gids), "uidmap": show(&uids) })
}

/// From os-release(5).
fn distribution(text: &str) -> Value {
    let says = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let known = |key: &str| says(key).unwrap_or_else(|| "unknown".to_owned());
    let mut distribution = json!({ "distribution": known("ID"), "version": known("VERSION_ID") });
    for (name, key) in [("variant", "VARIANT_ID"), ("codename", "VERSION_CODENAME")] {
        if let Some(value) = says(key) {
            distribution[name] = value.into();
        }
    }
    distribution
}

/// A line of /proc/meminfo, in bytes.
pub(crate) fn memory(key: &str) -> u64 {
    let text = read("/proc/meminfo");
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_told_as_podman_tells_them() {
        let stat = utilization("cpu  2000 7 1000 1000 5 0 0 0 0 0\ncpu0 1 2 3 4\n");
        assert_eq!(stat, json!({ "userPercent": 50.0, "systemPercent": 25.0, "idlePercent": 25.0 }));
        assert_eq!(uptime("13135.53 8000.10\n"), "3h 38m 55.00s (Approximately 0.12 days)");
        assert_eq!(uptime("75.99 1.0\n"), "0h 1m 15.00s");
        let debian = distribution("ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n");
        assert_eq!(debian, json!({ "distribution": "debian", "version": "12", "codename": "bookworm" }));
        assert_eq!(distribution(""), json!({ "distribution": "unknown", "version": "unknown" }));
    }
}
