//! What a user asked for, with names looked up and joined with what the image says.

use std::path::Path;
use std::time::Duration;

use images::Image;
use model::ContainerId;
use serde_json::Value;

use crate::config::{Care, ContainerConfig, HealthCheck, Inside, OnUnhealthy, Space};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::record::{ContainerRecord, Mount};

impl Engine {
    /// The wish with containers by their ids; files must be there.
    pub(crate) fn look_up_inside(&self, wish: &Inside) -> Result<Inside> {
        let mut inside = wish.clone();
        for (kind, space) in [("pid", &mut inside.pid), ("ipc", &mut inside.ipc), ("uts", &mut inside.uts)] {
            match space {
                Space::Container(name) => *space = Space::Container(self.space_owner(kind, name)?.to_string()),
                Space::Path(path) if !path.exists() => {
                    return Err(Error::usage(format!(
                        "cannot find specified {kind} namespace path: faccessat {}: no such file or directory",
                        path.display()
                    )));
                }
                _ => {}
            }
        }
        if let Some(device) = wish.devices.iter().find(|device| !device.host.exists()) {
            return Err(Error::usage(format!("stat {}: no such file or directory", device.host.display())));
        }
        if let Some(zone) = wish.timezone.as_deref().filter(|zone| *zone != "local")
            && (zone.contains("..") || !Path::new(ZONES).join(zone).is_file())
        {
            return Err(Error::usage(format!(
                "finding timezone for container: stat {ZONES}/{zone}: no such file or directory"
            )));
        }
        Ok(inside)
    }

    /// With the containers it requires by their ids.
    pub(crate) fn look_up_care(&self, mut care: Care) -> Result<Care> {
        for name in &mut care.requires {
            *name = self.find(name)?.to_string();
        }
        Ok(care)
    }

    fn space_owner(&self, kind: &str, name: &str) -> Result<ContainerId> {
        self.find(name).map_err(|e| match e.kind {
            Kind::NotFound => Error::usage(format!("looking up container to share {kind} namespace with: {e}")),
            _ => e,
        })
    }

    /// The volumes of the containers that `--volumes-from` names.
    pub(crate) fn volumes_from(&self, wishes: &[(String, Vec<String>)]) -> Result<Vec<Mount>> {
        let mut mounts: Vec<Mount> = Vec::new();
        for (name, options) in wishes {
            for mut mount in self.named(name)?.settings.mounts {
                if !options.is_empty() {
                    mount.options.clone_from(options);
                }
                // It belongs to whom it was made for.
                mount.anonymous = false;
                mounts.retain(|earlier| earlier.target != mount.target);
                mounts.push(mount);
            }
        }
        Ok(mounts)
    }
}

/// Where names of time zones are files.
pub(crate) const ZONES: &str = "/usr/share/zoneinfo";

/// The user's wish; the image's check where the user has none.
pub(crate) fn care(config: &ContainerConfig, image: Option<&Image>) -> Care {
    let mut care = config.care.clone();
    if care.no_health {
        care.health = None;
    } else if care.health.is_none() {
        care.health = image.and_then(|image| image_check(&serde_json::from_str(&image.raw_config).ok()?));
    }
    care
}

/// Docker's `HEALTHCHECK`: times are in nanoseconds, 0 means the default.
pub(crate) fn image_check(config: &Value) -> Option<HealthCheck> {
    let says = config.pointer("/config/Healthcheck")?;
    let words: Vec<String> = serde_json::from_value(says.get("Test")?.clone()).ok()?;
    let (shell, command) = match words.split_first()? {
        (kind, rest) if kind == "CMD" && !rest.is_empty() => (false, rest.to_vec()),
        (kind, rest) if kind == "CMD-SHELL" && !rest.is_empty() => (true, rest.to_vec()),
        _ => return None,
    };
    let time = |key: &str| says.get(key).and_then(Value::as_u64).filter(|n| *n > 0).map(Duration::from_nanos);
    Some(HealthCheck {
        command,
        shell,
        interval: Some(time("Interval").unwrap_or(DEFAULT_INTERVAL)),
        timeout: time("Timeout").unwrap_or(DEFAULT_TIMEOUT),
        start_period: time("StartPeriod").unwrap_or_default(),
        retries: says.get("Retries").and_then(Value::as_u64).filter(|n| *n > 0).map_or(DEFAULT_RETRIES, |n| n as u32),
        on_failure: OnUnhealthy::None,
    })
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_RETRIES: u32 = 3;

/// Whoever must be up before this container: by the namespaces of theirs that it uses, or by name.
pub(crate) fn needs(record: &ContainerRecord) -> Vec<String> {
    let inside = &record.settings.inside;
    [&inside.pid, &inside.ipc, &inside.uts]
        .into_iter()
        .filter_map(|space| if let Space::Container(id) = space { Some(id.clone()) } else { None })
        .chain(record.settings.care.requires.iter().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_check_is_read_as_docker_writes_it() {
        let check = |json: Value| image_check(&serde_json::json!({ "config": { "Healthcheck": json } }));
        let shell =
            check(serde_json::json!({ "Test": ["CMD-SHELL", "curl x"], "Interval": 5_000_000_000_u64, "Retries": 2 }));
        let shell = shell.unwrap();
        assert!(shell.shell && shell.command == ["curl x"] && shell.retries == 2);
        assert_eq!((shell.interval, shell.timeout), (Some(Duration::from_secs(5)), DEFAULT_TIMEOUT));
        let plain = check(serde_json::json!({ "Test": ["CMD", "a", "b"] })).unwrap();
        assert!(!plain.shell && plain.command == ["a", "b"] && plain.retries == 3);
        for none in [serde_json::json!({ "Test": ["NONE"] }), serde_json::json!({}), serde_json::json!({ "Test": [] })]
        {
            assert_eq!(check(none), None);
        }
    }
}
