//! What podwire and this machine are: `info`.

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::record::State;
use crate::seccomp::go_arch;

/// Neither netavark nor CNI.
const NETWORK_BACKEND: &str = "podwire";

impl Engine {
    /// Host, store and version, with Podman's field names as far as they mean something here.
    pub fn info(&self) -> Result<Value> {
        let containers = self.list()?;
        let running = containers.iter().filter(|container| container.state == State::Running).count();
        let images = self.images()?.list()?.len();
        let runtime = self.runtime();
        let options = self.options();
        let runtime = match &runtime {
            Ok(runtime) => json!({ "name": runtime.name, "path": runtime.path }),
            Err(missing) => json!({ "name": "", "path": "", "error": missing.message }),
        };
        let executable = std::env::current_exe().unwrap_or_default();
        let rootless = options.rootless;
        let cgroup = if linux::mounts::is_cgroup2(std::path::Path::new("/sys/fs/cgroup")) { "v2" } else { "v1" };
        Ok(json!({
            "host": {
                "arch": go_arch(),
                "cgroupManager": "disabled",
                "cgroupVersion": cgroup,
                "cpus": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
                "distribution": distribution(),
                "idMappings": id_mappings(),
                "hostname": linux::machine::host_name(),
                "kernel": linux::machine::kernel_release(),
                "logDriver": "k8s-file",
                "memFree": memory("MemFree"),
                "memTotal": memory("MemTotal"),
                "networkBackend": NETWORK_BACKEND,
                "networkBackendInfo": {
                    "backend": NETWORK_BACKEND,
                    "version": concat!("podwire ", env!("CARGO_PKG_VERSION")),
                    "path": executable,
                    "dns": { "version": concat!("podwire ", env!("CARGO_PKG_VERSION")), "path": executable },
                },
                "ociRuntime": runtime,
                "os": std::env::consts::OS,
                "security": { "rootless": rootless, "seccompEnabled": true },
                "serviceIsRemote": false,
            },
            "store": {
                "containerStore": {
                    "number": containers.len(),
                    "paused": 0,
                    "running": running,
                    "stopped": containers.len() - running,
                },
                "graphDriverName": "overlay",
                "graphRoot": options.root,
                "imageStore": { "number": images },
                "runRoot": options.runroot,
                "volumePath": options.root.join("volumes"),
                "freeSpace": linux::machine::free_space(&options.root).map_err(Error::usage)?,
            },
            "version": { "OsArch": format!("{}/{}", std::env::consts::OS, go_arch()), "Version": env!("CARGO_PKG_VERSION") },
        }))
    }
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
