//! What podwire and this machine are: `info`.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::config::SecurityConfig;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::record::State;
use crate::seccomp::go_arch;
use crate::spec;

/// Neither netavark nor CNI.
const NETWORK_BACKEND: &str = "podwire";

impl Engine {
    /// Host, store and version, with Podman's field names as far as they mean something here.
    pub fn info(&self) -> Result<Value> {
        let containers = self.list()?;
        let count = |state: State| containers.iter().filter(|container| container.state == state).count();
        let (running, paused) = (count(State::Running), count(State::Paused));
        let images = self.images()?.list()?.len();
        let options = self.options();
        let executable = std::env::current_exe().unwrap_or_default();
        let own_version = concat!("podwire ", env!("CARGO_PKG_VERSION"));
        let ours = json!({ "package": "", "path": executable, "version": own_version });
        let cgroup2 = linux::mounts::is_cgroup2(Path::new("/sys/fs/cgroup"));
        let capabilities = spec::capabilities(&SecurityConfig::default());
        let (allocated, used) = linux::machine::space(&options.root).map_err(Error::usage)?;
        let registries = images::Registries::read(&images::Machine::here())?;
        let search = registries.search();
        Ok(json!({
            "host": {
                "arch": go_arch(),
                // There is none in podwire.
                "buildahVersion": "",
                "cgroupControllers": controllers(cgroup2),
                "cgroupManager": "disabled",
                "cgroupVersion": if cgroup2 { "v2" } else { "v1" },
                "conmon": ours,
                "cpuUtilization": utilization(),
                "cpus": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
                "databaseBackend": "sqlite",
                "distribution": distribution(),
                "eventLogger": "file",
                "freeLocks": 0,
                "hostname": linux::machine::host_name(),
                "idMappings": id_mappings(),
                "kernel": linux::machine::kernel_release(),
                "linkmode": "static",
                "logDriver": "k8s-file",
                "memFree": memory("MemFree"),
                "memTotal": memory("MemTotal"),
                "networkBackend": NETWORK_BACKEND,
                "networkBackendInfo": {
                    "backend": NETWORK_BACKEND,
                    "package": "",
                    "version": own_version,
                    "path": executable,
                    "dns": { "package": "", "version": own_version, "path": executable },
                },
                "ociRuntime": self.about_runtime(),
                "os": std::env::consts::OS,
                "pasta": { "executable": "", "package": "", "version": "" },
                "remoteSocket": { "exists": false, "path": "" },
                "rootlessNetworkCmd": "podwire",
                "security": {
                    "apparmorEnabled": is_yes("/sys/module/apparmor/parameters/enabled"),
                    "capabilities": capabilities.join(","),
                    "rootless": options.rootless,
                    "seccompEnabled": true,
                    // It is built in.
                    "seccompProfilePath": "",
                    "selinuxEnabled": Path::new("/sys/fs/selinux/enforce").exists(),
                },
                "serviceIsRemote": false,
                "slirp4netns": { "executable": "", "package": "", "version": "" },
                "swapFree": memory("SwapFree"),
                "swapTotal": memory("SwapTotal"),
                "uptime": uptime(linux::machine::boottime()),
                "variant": "",
            },
            "plugins": {
                "authorization": null,
                "log": ["k8s-file", "none"],
                "network": ["bridge", "macvlan", "ipvlan"],
                "volume": ["local"],
            },
            "registries": if search.is_empty() { json!({}) } else { json!({ "search": search }) },
            "store": {
                "configFile": "",
                "containerStore": {
                    "number": containers.len(),
                    "paused": paused,
                    "running": running,
                    "stopped": containers.len() - running - paused,
                },
                "freeSpace": linux::machine::free_space(&options.root).map_err(Error::usage)?,
                "graphDriverName": "overlay",
                "graphOptions": {},
                "graphRoot": options.root,
                "graphRootAllocated": allocated,
                "graphRootUsed": used,
                "graphStatus": {
                    "Backing Filesystem": linux::machine::file_system(&options.root).map_err(Error::usage)?,
                    "Native Overlay Diff": "true",
                    "Supports d_type": "true",
                    "Using metacopy": "false",
                },
                "imageCopyTmpDir": options.tmpdir,
                "imageStore": { "number": images },
                "runRoot": options.runroot,
                "transientStore": false,
                "volumePath": options.root.join("volumes"),
            },
            "version": {
                "APIVersion": AS_PODMAN,
                "Built": 0,
                "BuiltTime": NOT_TOLD,
                "GitCommit": "",
                "GoVersion": "",
                "Os": std::env::consts::OS,
                "OsArch": format!("{}/{}", std::env::consts::OS, go_arch()),
                "Version": env!("CARGO_PKG_VERSION"),
            },
        }))
    }

    fn about_runtime(&self) -> Value {
        match &self.runtime() {
            Ok(runtime) => {
                let told = std::process::Command::new(&runtime.path).arg("--version").stdin(Stdio::null()).output();
                let version =
                    told.map_or_else(|e| e.to_string(), |told| String::from_utf8_lossy(&told.stdout).into_owned());
                json!({ "name": runtime.name, "package": "", "path": runtime.path, "version": version.trim_end() })
            }
            Err(missing) => json!({ "name": "", "package": "", "path": "", "version": "", "error": missing.message }),
        }
    }
}

/// The Podman whose words these are: tools that drive it look at that version.
pub const AS_PODMAN: &str = "5.4.2";

/// When podwire was built: nobody is told, so that the same source makes the same program.
pub const NOT_TOLD: &str = "Thu Jan  1 00:00:00 1970";

/// What processes can be held back by.
fn controllers(cgroup2: bool) -> Vec<String> {
    let text = match cgroup2 {
        true => std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default(),
        false => String::new(),
    };
    text.split_whitespace().map(str::to_owned).collect()
}

/// Since boot, in percent, from the first line of /proc/stat (proc(5)).
fn utilization() -> Value {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let times: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let of = |n: usize| times.get(n).copied().unwrap_or_default();
    let total: f64 = times.iter().sum::<f64>().max(1.0);
    let percent = |time: f64| (time / total * 10_000.0).round() / 100.0;
    json!({
        "idlePercent": percent(of(3)),
        "systemPercent": percent(of(2)),
        "userPercent": percent(of(0) + of(1)),
    })
}

/// `4h 4m 57.00s (Approximately 0.17 days)`
fn uptime(seconds: i64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let days = match hours {
        0 => String::new(),
        _ => format!(" (Approximately {:.2} days)", hours as f64 / 24.0),
    };
    match (hours, minutes) {
        (0, 0) => format!("{rest}.00s"),
        (0, _) => format!("{minutes}m {rest}.00s"),
        _ => format!("{hours}h {minutes}m {rest}.00s{days}"),
    }
}

fn is_yes(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.starts_with('Y'))
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
fn distribution() -> Value {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let says = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or("unknown").trim_matches('"').to_owned()
    };
    json!({ "codename": says("VERSION_CODENAME"), "distribution": says("ID"), "version": says("VERSION_ID") })
}

/// A line of /proc/meminfo, in bytes.
fn memory(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_the_machine_is_up_is_said_as_podman_says_it() {
        assert_eq!(uptime(14_697), "4h 4m 57.00s (Approximately 0.17 days)");
        assert_eq!(uptime(61), "1m 1.00s");
        assert_eq!(uptime(7), "7.00s");
    }
}
