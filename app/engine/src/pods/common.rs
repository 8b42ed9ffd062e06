//! What a pod's containers have from their pod unless they say otherwise themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{ContainerConfig, Device, Restart, Seccomp, SecurityConfig, Space, VolumeMount};

/// `--restart`, `--volume` and the like of `pod create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Common {
    /// `--restart`: of those that say nothing, and are not to be removed when they end.
    pub restart: Restart,
    /// `--volume`: none without a name or a path of the host.
    pub volumes: Vec<VolumeMount>,
    /// `--device`
    pub devices: Vec<Device>,
    /// `--sysctl`
    pub sysctls: BTreeMap<String, String>,
    /// `--security-opt` alone.
    pub security: SecurityConfig,
    /// `--volumes-from`: containers, and options.
    pub volumes_from: Vec<(String, Vec<String>)>,
    /// `--pid`, of those that share it: not a container's.
    pub pid: Space,
    /// `--uts`, likewise.
    pub uts: Space,
}

impl Common {
    /// Adds what the container does not say itself.
    pub(super) fn add_to(&self, config: &mut ContainerConfig) {
        let care = &mut config.care;
        if care.restart == Restart::No && !care.restart_given && !config.remove {
            care.restart = self.restart;
        }
        let free = |target: &str| {
            config.volumes.iter().all(|own| own.target != target) && config.tmpfs.iter().all(|(own, _)| own != target)
        };
        let volumes: Vec<_> = self.volumes.iter().filter(|volume| free(&volume.target)).cloned().collect();
        config.volumes.extend(volumes);
        config.volumes_from.splice(0..0, self.volumes_from.iter().cloned());
        let inside = &mut config.inside;
        for (own, pods) in [(&mut inside.pid, &self.pid), (&mut inside.uts, &self.uts)] {
            if *own == Space::Private {
                own.clone_from(pods);
            }
        }
        let devices = self.devices.iter().filter(|ours| inside.devices.iter().all(|own| own.target != ours.target));
        let devices: Vec<_> = devices.cloned().collect();
        inside.devices.extend(devices);
        for (name, value) in &self.sysctls {
            inside.sysctls.entry(name.clone()).or_insert_with(|| value.clone());
        }
        add_security(&self.security, &mut config.security);
    }
}

fn add_security(pod: &SecurityConfig, own: &mut SecurityConfig) {
    own.no_new_privileges |= pod.no_new_privileges;
    if own.seccomp == Seccomp::Default {
        own.seccomp = pod.seccomp.clone();
    }
    own.mask.extend(pod.mask.iter().cloned());
    own.unmask.extend(pod.unmask.iter().cloned());
    own.options.extend(pod.options.iter().cloned());
}
