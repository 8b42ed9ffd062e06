//! Control groups that a lab's containers leave when the lab is killed: they are the machine's, not the lab's.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Directories that podwire has written down in the lab whose first process has this number.
pub(crate) fn of_lab(pid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for run in ["podwire", "other"] {
        let run = PathBuf::from(format!("/proc/{pid}/root/run/{run}"));
        let below =
            |name: &str| std::fs::read_dir(run.join(name)).into_iter().flatten().flatten().map(|entry| entry.path());
        // The containers' first: they are in the pods'.
        let files = below("overlay-containers").map(|path| path.join("userdata/cgroup.json")).chain(below("pods"));
        for file in files {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let group: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let legacy = group["legacy"].as_object().into_iter().flat_map(|map| map.values());
            found.extend(legacy.chain([&group["unified"]]).filter_map(|path| path.as_str()).map(on_machine));
        }
    }
    found
}

/// A lab may have the version 2 tree where the machine has a mixture.
fn on_machine(path: &str) -> PathBuf {
    let mixed = Path::new("/sys/fs/cgroup/unified");
    match path.strip_prefix("/sys/fs/cgroup/") {
        Some(rest) if mixed.is_dir() && !Path::new(path).is_dir() => mixed.join(rest),
        _ => PathBuf::from(path),
    }
}

/// Waits a moment for the processes in them, which have been killed.
pub(crate) fn remove(groups: &[PathBuf]) {
    let end = Instant::now() + Duration::from_secs(3);
    for path in groups {
        while path.is_dir() && std::fs::remove_dir(path).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
