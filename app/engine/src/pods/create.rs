//! From what a user asked for to a pod's records.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use linux::file::{Durability, write_atomic};
use model::{ContainerId, ContainerName, PodId};
use store::PodRow;

use super::pause::PAUSE_NAME;
use super::{Common, InfraConfig, PodConfig, PodPlace, PodRecord, PodRemoval, PodVolume, Role, Share};
use crate::config::{ContainerConfig, NetworkMode, SecurityConfig, Space, UsersWish, VolumeMount, VolumeSource};
use crate::create::{id_file_exists, published, write_id_file};
use crate::engine::{Engine, insert};
use crate::error::{Error, Result};
use crate::record::{ContainerRecord, Mount, Settings};
use crate::talk::Talk;

impl Engine {
    /// Makes a pod and its infra container, without starting them.
    pub fn create_pod(&mut self, config: PodConfig, talk: &mut Talk<'_>) -> Result<PodId> {
        check(&config)?;
        if let Some(path) = config.id_file.as_ref().filter(|path| path.exists()) {
            return Err(id_file_exists(path, "pod"));
        }
        if config.replace {
            self.clear_pod_name(config.name.as_ref())?;
        }
        let id = PodId::from_bytes(linux::machine::random().map_err(Error::usage)?);
        let name = config.name.clone().map_or_else(|| self.free_name(), Ok)?;
        let mut pod = PodRecord {
            id,
            name,
            created: Timestamp::now(),
            labels: config.labels.clone(),
            hostname: config.hostname.clone(),
            share: if config.infra.is_some() { config.share.clone() } else { Vec::new() },
            infra: None,
            exit_policy: config.exit_policy,
            id_file: config.id_file.clone(),
            common: config.common.clone(),
            // The default limit of processes is each container's.
            limits: crate::config::Limits { pids: Some(config.limits.pids.unwrap_or(-1)), ..config.limits.clone() },
            shares_users: config.users != UsersWish::Host,
            shares_group: config.shares_group,
            create_command: config.create_command.clone(),
        };
        pod.share.sort_unstable();
        pod.share.dedup();
        let mut infra = config.infra.as_ref().map(|wish| self.infra(&config, wish, &pod, talk)).transpose()?;
        pod.infra = infra.as_ref().map(|infra| infra.id);
        self.insert_pod(&pod, infra.as_mut())?;
        let id_file = || pod.id_file.as_ref().map_or(Ok(()), |path| write_id_file(path, "pod", &pod.id.to_string()));
        let made = infra.map_or(Ok(()), |infra| self.fill_volumes(&infra, &config.volumes)).and_then(|()| id_file());
        made.map(|()| id).inspect_err(|_| self.unmake_pod(Some(pod.id)))
    }

    /// Its records name them: whoever removes those removes them.
    fn fill_volumes(&self, infra: &ContainerRecord, volumes: &[PodVolume]) -> Result<()> {
        self.make_volumes(infra)?;
        for volume in volumes {
            for file in &volume.files {
                let path = self.volume_path(&volume.name).join(&file.path);
                let wrong = |e: io::Error| Error::at(format!("cannot write {}", path.display()), e);
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).map_err(wrong)?;
                }
                write_atomic(&path, file.text.as_bytes(), file.mode, Durability::ThisBoot).map_err(wrong)?;
            }
        }
        Ok(())
    }

    fn clear_pod_name(&mut self, name: Option<&ContainerName>) -> Result<()> {
        let name = name.ok_or_else(|| Error::usage("cannot replace pod without --name being set"))?;
        match self.store.read(|tx| tx.pod_named(name.as_str()))? {
            Some(id) => self.remove_pod(&id.to_string(), &PodRemoval { force: true, time: None }).map(drop),
            None => Ok(()),
        }
    }

    fn insert_pod(&self, pod: &PodRecord, infra: Option<&mut ContainerRecord>) -> Result<()> {
        let asked = infra.as_ref().map_or_else(|| Ok(Vec::new()), |infra| self.addresses_asked(infra))?;
        let in_use =
            || Error::usage(format!("adding pod to state: name {:?} is in use: pod already exists", pod.name.as_str()));
        let row = PodRow {
            id: pod.id,
            name: pod.name.to_string(),
            created: i64::try_from(pod.created.as_nanosecond()).unwrap_or(i64::MAX),
            leaving: None,
        };
        self.store.write(|tx| {
            if tx.container_named(pod.name.as_str())?.is_some() {
                return Err(in_use());
            }
            if let Some(infra) = infra {
                self.choose_ids(tx, infra)?;
                insert(tx, infra)?;
                asked.iter().try_for_each(|(network, ip)| tx.address_keep(&infra.id, network, ip, true))?;
            }
            match tx.pod_insert(&row, pod)? {
                true => Ok(tx.event_add(&pod.event("create"))?),
                false => Err(in_use()),
            }
        })
    }

    /// The record of the infra container.
    fn infra(
        &mut self,
        config: &PodConfig,
        wish: &InfraConfig,
        pod: &PodRecord,
        talk: &mut Talk<'_>,
    ) -> Result<ContainerRecord> {
        let mut record = match &wish.image {
            Some(image) => self.infra_of_image(config, wish, image, pod, talk)?,
            None => self.infra_of_ours(config, wish, pod, talk)?,
        };
        for volume in &config.volumes {
            if self.store.read(|tx| tx.volume::<serde::de::IgnoredAny>(&volume.name))?.is_some() {
                return Err(Error::usage(format!(
                    "volume with name {} already exists: volume already exists",
                    volume.name
                )));
            }
            let mount = self.resolve_volume(&VolumeMount {
                source: VolumeSource::Named(volume.name.clone()),
                target: String::new(),
                options: Vec::new(),
            })?;
            record.settings.mounts.push(Mount { anonymous: true, ..mount });
        }
        // Its networks know it by the pod's name.
        record.settings.hostname_given = true;
        record.settings.pod = Some(PodPlace {
            id: pod.id,
            name: pod.name.clone(),
            role: Role::Infra { holds: held(&pod.share, &pod.common), shm_size: config.shm_size },
            exit_policy: pod.exit_policy,
        });
        Ok(record)
    }

    fn infra_of_image(
        &mut self,
        config: &PodConfig,
        wish: &InfraConfig,
        image: &str,
        pod: &PodRecord,
        talk: &mut Talk<'_>,
    ) -> Result<ContainerRecord> {
        let config = ContainerConfig {
            name: Some(infra_name(wish, pod)?),
            image: image.to_owned(),
            rootfs: None,
            command: Vec::new(),
            entrypoint: (!wish.command.is_empty()).then(|| wish.command.clone()),
            default_env: Vec::new(),
            unset_env: crate::config::UnsetEnv::default(),
            volumes_from: Vec::new(),
            limits: crate::config::Limits::default(),
            inside: crate::config::Inside::default(),
            care: crate::config::Care::default(),
            platform: None,
            env: Vec::new(),
            volumes: Vec::new(),
            workdir: None,
            user: None,
            hostname: Some(pod.shown_hostname().parse()?),
            tty: false,
            interactive: false,
            pod: None,
            remove: false,
            replace: false,
            id_file: None,
            pid_file: None,
            labels: pod.labels.clone(),
            annotations: BTreeMap::new(),
            stop_signal: None,
            stop_timeout: None,
            users: config.users.clone(),
            security: SecurityConfig::default(),
            network: config.network.clone(),
            tmpfs: Vec::new(),
            pull: wish.pull,
            tls_verify: true,
            create_command: config.create_command.clone(),
        };
        self.prepare(config, talk)
    }

    fn infra_of_ours(
        &self,
        config: &PodConfig,
        wish: &InfraConfig,
        pod: &PodRecord,
        talk: &mut Talk<'_>,
    ) -> Result<ContainerRecord> {
        let network = self.look_up_network(&config.network)?;
        let expose = network.expose.clone();
        let settings = Settings {
            rootfs: None,
            entrypoint: Vec::new(),
            command: vec![PAUSE_NAME.to_owned()],
            env: Vec::new(),
            user: String::new(),
            workdir: "/".to_owned(),
            hostname: pod.shown_hostname(),
            hostname_given: false,
            tty: false,
            interactive: false,
            remove: false,
            id_file: None,
            pid_file: None,
            labels: pod.labels.clone(),
            annotations: BTreeMap::new(),
            stop_signal: linux::Signal::TERM.number(),
            stop_timeout: 10,
            users: self.users_of(&config.users, None)?,
            current_user: false,
            security: SecurityConfig::default(),
            limits: crate::config::Limits::default(),
            inside: crate::config::Inside::default(),
            care: crate::config::Care::default(),
            unset_env: crate::config::UnsetEnv::default(),
            ports: published(&network, &expose, talk.warn)?,
            network,
            expose,
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            create_command: config.create_command.clone(),
            pod: None,
        };
        let id = ContainerId::from_bytes(linux::machine::random().map_err(Error::usage)?);
        Ok(ContainerRecord::new(id, infra_name(wish, pod)?, settings, pod.created))
    }
}

fn infra_name(wish: &InfraConfig, pod: &PodRecord) -> Result<ContainerName> {
    Ok(wish.name.clone().map_or_else(|| format!("{}-infra", pod.id.short()).parse(), Ok)?)
}

/// What of it the infra container holds: not what is the host's or a file's.
pub(super) fn held(share: &[Share], common: &Common) -> Vec<Share> {
    let elsewhere = |share: &Share| match share {
        Share::Pid => common.pid != Space::Private,
        Share::Uts => common.uts != Space::Private,
        Share::Ipc | Share::Net => false,
    };
    share.iter().copied().filter(|share| !elsewhere(share)).collect()
}

/// Can a pod have all this together?
fn check(config: &PodConfig) -> Result<()> {
    let mode = &config.network.mode;
    let publishes = !config.network.publish.is_empty() || config.network.publish_all;
    if config.common.volumes.iter().any(|volume| volume.source == VolumeSource::Anonymous) {
        return Err(Error::usage("--volume of a pod needs a name or a path of the host before the container's path"));
    }
    let Some(infra) = &config.infra else {
        return match config.users {
            UsersWish::Host => Ok(()),
            _ => Err(Error::usage("cannot set user namespace without an infra container")),
        };
    };
    for (flag, space, share) in [("pid", &config.common.pid, Share::Pid), ("uts", &config.common.uts, Share::Uts)] {
        if *space != Space::Private && !config.share.contains(&share) {
            return Err(Error::usage(format!(
                "--{flag} of a pod needs --share {flag}: without it no container has that"
            )));
        }
    }
    if config.hostname.is_some() && config.common.uts == Space::Host {
        return Err(Error::usage("cannot set hostname when running in the host UTS namespace"));
    }
    let holds_pids = held(&config.share, &config.common).contains(&Share::Pid);
    if config.users != UsersWish::Host && holds_pids && infra.image.is_none() {
        return Err(Error::usage(
            "--userns and --share pid of a pod cannot be used together without --infra-image: podwire's own infra \
             container cannot hold process numbers for other users",
        ));
    }
    if let NetworkMode::Container(_) = mode {
        return Err(Error::usage("pods presently do not support network mode container"));
    }
    if publishes && !mode.is_networked() {
        return Err(Error::usage("PortMappings can only be used with Bridge or pasta networking"));
    }
    if !infra.command.is_empty() && infra.image.is_none() {
        return Err(Error::usage(
            "--infra-command needs --infra-image: podwire's own infra container has no files to run a command from",
        ));
    }
    if config.shm_size.is_some() && !config.share.contains(&Share::Ipc) {
        return Err(Error::usage("--shm-size needs --share ipc: without it each container has a /dev/shm of its own"));
    }
    Ok(())
}
