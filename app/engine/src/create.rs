//! From what a user asked for to a container's record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use images::{Access, Image, PullOptions};
use jiff::Timestamp;
use linux::Signal;
use model::{ContainerId, ContainerName, NetworkId, PortMapping, Protocol};
use oci_spec::image::Config as ImageConfig;
use plan::Plan;

use crate::RemoveOptions;
use crate::config::{
    ContainerConfig, NetworkConfig, NetworkMode, PullPolicy, Rootfs, UsersWish, VolumeMount, VolumeSource,
};
use crate::definitions::DEFAULT_NETWORK;
use crate::endpoints::Identity;
use crate::engine::{Engine, insert};
use crate::error::{Error, Kind, Result};
use crate::lookup::care;
use crate::networking::SandboxWish;
use crate::record::{ContainerRecord, Mount, Settings};
use crate::rootless_net::{self, settle_mode};
use crate::spec;
use crate::talk::Talk;
use crate::users;

impl Engine {
    /// Makes a container, without starting it. Pulls the image when the policy says so.
    pub fn create(&mut self, config: ContainerConfig, talk: &mut Talk<'_>) -> Result<ContainerId> {
        let (config, pod) = self.make_pod_of(config, talk)?;
        self.create_in_its_pod(config, talk).inspect_err(|_| self.unmake_pod(pod))
    }

    fn create_in_its_pod(&mut self, config: ContainerConfig, talk: &mut Talk<'_>) -> Result<ContainerId> {
        let mut record = self.prepare(config, talk)?;
        self.insert(&mut record)?;
        self.make_volumes(&record)?;
        Ok(record.id)
    }

    /// The plan for the network of a container with this configuration; changes nothing. The image must be
    /// here already.
    pub fn plan_run(&mut self, config: &ContainerConfig) -> Result<Plan> {
        let image = match &config.rootfs {
            Some(rootfs) => check_rootfs(rootfs).map(|()| None)?,
            None => Some(self.images()?.find(&config.image)?),
        };
        let record = self.resolve(config, image.as_ref(), &mut |_| {})?;
        let mode = &record.settings.network.mode;
        if *mode == NetworkMode::None && self.options().rootless {
            return Ok(Plan::default());
        }
        let Some(attachments) = rootless_net::wishes(mode)? else { return Ok(Plan::default()) };
        self.could_hold(&record.settings.ports)?;
        self.networking().plan_of_up(&SandboxWish {
            container: record.id,
            identity: Identity::of(&record),
            attachments: &attachments,
            ports: &record.settings.ports,
            users: None,
        })
    }

    /// The plan for the networks of these containers when they are removed; changes nothing.
    pub fn plan_remove(&mut self, names: &[String], options: &RemoveOptions) -> Result<Plan> {
        let mut running = Vec::new();
        for name in names {
            let record = self.named(name)?;
            if !record.state.at_rest() {
                running.push(record.id);
            }
        }
        if let Some(id) = running.first().filter(|_| !options.force) {
            let text = format!(
                "cannot remove container {id} as it is running - running or paused containers cannot be removed without \
                 force: container state improper"
            );
            return Err(Error::new(Kind::WrongState, text));
        }
        if running.is_empty() { Ok(Plan::default()) } else { self.networking().plan_of_down(&running) }
    }

    /// The record of a container with this configuration; nothing is made yet but the image pulled.
    /// A container that is to be replaced is gone then, as Podman does it.
    pub(crate) fn prepare(&mut self, config: ContainerConfig, talk: &mut Talk<'_>) -> Result<ContainerRecord> {
        if let Some(path) = config.id_file.as_ref().filter(|path| path.exists()) {
            return Err(id_file_exists(path, "container"));
        }
        let image = match &config.rootfs {
            Some(rootfs) => check_rootfs(rootfs).map(|()| None)?,
            None => Some(self.image(&config, talk)?),
        };
        if config.replace {
            self.clear_name(config.name.as_ref())?;
        }
        self.resolve(&config, image.as_ref(), talk.warn)
    }

    fn clear_name(&mut self, name: Option<&ContainerName>) -> Result<()> {
        let name = name.ok_or_else(|| Error::usage("cannot replace container without --name being set"))?;
        match self.store.read(|tx| tx.container_named(name.as_str()))? {
            Some(id) => self.remove_forced(&id, None),
            None => Ok(()),
        }
    }

    pub(crate) fn image(&self, config: &ContainerConfig, talk: &Talk<'_>) -> Result<Image> {
        let images = self.images()?;
        let pull = || -> Result<Image> {
            let access = Access { tls_verify: (!config.tls_verify).then_some(false), ..Access::default() };
            let options = PullOptions { access, platform: config.platform.clone(), ..PullOptions::default() };
            let id = images.pull(&config.image, &options, talk.progress)?;
            Ok(images.by_id(&id)?)
        };
        match config.pull {
            PullPolicy::Always => pull(),
            PullPolicy::Newer => pull().or_else(|failed| images.find(&config.image).map_err(|_| failed)),
            PullPolicy::Never => Ok(images.find(&config.image)?),
            PullPolicy::Missing => match images.find(&config.image) {
                Err(images::ImageError::NotKnown(_)) => pull(),
                Ok(found) if config.platform.as_ref().is_some_and(|wish| !is_for(&found, wish)) => pull(),
                found => Ok(found?),
            },
        }
    }

    pub(crate) fn resolve(
        &self,
        typed: &ContainerConfig,
        image: Option<&Image>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<ContainerRecord> {
        let id = ContainerId::from_bytes(linux::machine::random().map_err(Error::usage)?);
        let in_pod = self.place_in_pod(typed)?;
        let config = in_pod.as_ref().map_or(typed, |(config, _)| config);
        let pod = in_pod.as_ref().map(|(_, place)| place.clone());
        let name = match &config.name {
            Some(name) => name.clone(),
            None => self.free_name()?,
        };
        let mut settings = self.settings(config, image, &id, warn)?;
        // The pod's is none of the container's own names.
        settings.hostname_given &= typed.hostname.is_some();
        settings.pod = pod;
        Ok(ContainerRecord {
            image: image.map(|image| image.id),
            image_name: image.map_or_else(String::new, |image| full_name(image, &config.image)),
            image_digest: image.map_or_else(String::new, |image| image.digest.to_string()),
            runtime: self.wished_runtime()?,
            ..ContainerRecord::new(id, name, settings, Timestamp::now())
        })
    }

    fn settings(
        &self,
        config: &ContainerConfig,
        image: Option<&Image>,
        id: &ContainerId,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Settings> {
        let says = image.and_then(|image| image.config.config().clone()).unwrap_or_default();
        spec::check_capabilities(&config.security)?;
        crate::devices::check(&config.inside, self.options().rootless)?;
        let (entrypoint, command) = argv(config, &says)?;
        let network = self.look_up_network(&config.network)?;
        let expose = exposed(&network, &says)?;
        let user = config
            .user
            .clone()
            .map_or_else(|| users::default_user(config, self.options().rootless), |user| Ok(Some(user)))?;
        Ok(Settings {
            rootfs: config.rootfs.clone(),
            entrypoint,
            command,
            env: environment(config, &says),
            user: user.or_else(|| says.user().clone()).unwrap_or_default(),
            users: self.users_of(&config.users, image)?,
            current_user: matches!(config.users, UsersWish::KeepId { uid: None, gid: None, .. }),
            workdir: workdir(config, &says)?,
            hostname: hostname(config, id),
            hostname_given: config.hostname.is_some(),
            tty: config.tty,
            interactive: config.interactive,
            remove: config.remove,
            id_file: config.id_file.clone(),
            pid_file: config.pid_file.clone(),
            labels: labels(config, &says),
            annotations: config.annotations.clone(),
            stop_signal: stop_signal(config, &says)?,
            stop_timeout: config.stop_timeout.unwrap_or(10),
            security: config.security.clone(),
            limits: config.limits.clone(),
            inside: self.look_up_inside(&config.inside)?,
            care: self.look_up_care(care(config, image))?,
            unset_env: config.unset_env.clone(),
            ports: published(&network, &expose, warn)?,
            network,
            expose,
            mounts: self.mounts(config, &says)?,
            tmpfs: config.tmpfs.clone(),
            create_command: config.create_command.clone(),
            pod: None,
        })
    }

    /// The wish with what it names looked up.
    pub(crate) fn look_up_network(&self, wish: &NetworkConfig) -> Result<NetworkConfig> {
        let mut network = NetworkConfig { mode: settle_mode(&wish.mode, self.options().rootless)?, ..wish.clone() };
        rootless_net::check_outbound(&network.mode)?;
        match &network.mode {
            NetworkMode::Container(name) => {
                network.mode = NetworkMode::Container(self.network_owner(name)?.to_string())
            }
            NetworkMode::Networks(attachments) => {
                let mut known: Vec<NetworkId> = Vec::new();
                // The default network alone is always there.
                for attachment in attachments.iter().filter(|a| a.network.is_some() || attachments.len() > 1) {
                    let network = self.networking().get(attachment.network.as_deref().unwrap_or(DEFAULT_NETWORK))?;
                    if known.contains(&network.id) {
                        let text = format!("network {} is given twice: a container joins a network once", network.name);
                        return Err(Error::usage(text));
                    }
                    known.push(network.id);
                }
            }
            NetworkMode::Path(path) if !path.exists() => {
                return Err(Error::usage(format!(
                    "cannot find specified network namespace path: faccessat {}: no such file or directory",
                    path.display()
                )));
            }
            NetworkMode::None
            | NetworkMode::Host
            | NetworkMode::Path(_)
            | NetworkMode::Private(_)
            | NetworkMode::Pasta(_)
            | NetworkMode::Slirp4netns(_) => {}
        }
        Ok(network)
    }

    /// What `-v` asks for, then the image's volumes that it does not cover.
    fn mounts(&self, config: &ContainerConfig, says: &ImageConfig) -> Result<Vec<Mount>> {
        let mapped = |volume: &&VolumeMount| volume.options.iter().any(|option| option == "idmap");
        if let Some(volume) = config.volumes.iter().find(mapped).filter(|_| config.users == UsersWish::Host) {
            return Err(Error::usage(format!(
                "the volume option \"idmap\" of {} needs a user namespace: add --userns or --uidmap",
                volume.target
            )));
        }
        let own = config.volumes.iter().map(|volume| self.resolve_volume(volume)).collect::<Result<Vec<_>>>()?;
        let mut mounts = self.volumes_from(&config.volumes_from)?;
        mounts.retain(|theirs| !own.iter().any(|mount| mount.target == theirs.target));
        mounts.extend(own);
        for target in says.volumes().iter().flatten() {
            let covered =
                mounts.iter().any(|mount| mount.target == *target) || config.tmpfs.iter().any(|(t, _)| t == target);
            if !covered {
                let volume =
                    VolumeMount { source: VolumeSource::Anonymous, target: target.clone(), options: Vec::new() };
                mounts.push(self.resolve_volume(&volume)?);
            }
        }
        Ok(mounts)
    }

    /// Writes the record, and the id file if one is asked for; its image must still be there.
    pub(crate) fn insert(&self, record: &mut ContainerRecord) -> Result<()> {
        self.insert_record(record)?;
        let written = record
            .settings
            .id_file
            .as_ref()
            .map_or(Ok(()), |path| write_id_file(path, "container", &record.id.to_string()));
        written.inspect_err(|_| {
            // Nothing else is there yet. What cannot be removed now, the next command finds.
            let _ = self.forget(record, true);
        })
    }

    fn insert_record(&self, record: &mut ContainerRecord) -> Result<()> {
        let asked = self.addresses_asked(record)?;
        self.store.write(|tx| {
            let image = record.image.map(|image| tx.image_doc::<serde_json::Value>(&image)).transpose()?;
            if image.is_some_and(|found| found.is_none()) {
                return Err(Error::new(Kind::NotFound, format!("{}: image not known", record.image_name)));
            }
            self.choose_ids(tx, record)?;
            insert(tx, record)?;
            Ok(asked.iter().try_for_each(|(network, ip)| tx.address_keep(&record.id, network, ip, true))?)
        })
    }

    /// The addresses that a user asked for, with their networks.
    pub(crate) fn addresses_asked(&self, record: &ContainerRecord) -> Result<Vec<(NetworkId, IpAddr)>> {
        let NetworkMode::Networks(attachments) = &record.settings.network.mode else { return Ok(Vec::new()) };
        let mut asked = Vec::new();
        for attachment in attachments.iter().filter(|attachment| !attachment.static_ips.is_empty()) {
            let network = self.networking().get(attachment.network.as_deref().unwrap_or(DEFAULT_NETWORK))?;
            asked.extend(attachment.static_ips.iter().map(|ip| (network.id, *ip)));
        }
        Ok(asked)
    }

    pub(crate) fn free_name(&self) -> Result<ContainerName> {
        let random: [u8; 64] = linux::machine::random().map_err(Error::usage)?;
        let words = random.chunks(4).map(|r| {
            let pick =
                |list: &[&str], a: u8, b: u8| list[(usize::from(a) << 8 | usize::from(b)) % list.len()].to_owned();
            format!("{}_{}", pick(&ADJECTIVES, r[0], r[1]), pick(&NAMES, r[2], r[3]))
        });
        // With thousands of containers all words may be taken; digits then tell.
        let numbered = format!("container_{}", random_hex::<6>()?);
        for name in words.chain([numbered]) {
            if self
                .store
                .read(|tx| Ok::<_, Error>(tx.container_named(&name)?.is_none() && tx.pod_named(&name)?.is_none()))?
            {
                return Ok(name.parse()?);
            }
        }
        Err(Error::usage("no free container name found: give one by --name"))
    }
}

/// Podman's sentence where there is nothing.
fn check_rootfs(rootfs: &Rootfs) -> Result<()> {
    let path = rootfs.path.display();
    match std::fs::metadata(&rootfs.path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::usage(format!("--rootfs takes a directory: {path} is none"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Error::usage(format!("running container create option: stat {path}: no such file or directory")))
        }
        Err(e) => Err(Error::at(format!("running container create option: stat {path}"), e)),
    }
}

/// Is it for this machine? Where it says nothing of a variant, any will do.
fn is_for(image: &Image, wish: &images::Platform) -> bool {
    image.config.architecture().to_string() == wish.architecture && image.config.os().to_string() == wish.os
}

/// `kind`: of what it is the id.
pub(crate) fn id_file_exists(path: &Path, kind: &str) -> Error {
    let path = path.display();
    Error::usage(format!("{kind} ID file exists. Ensure another {kind} is not using it or delete {path}"))
}

/// Made by us, or by nobody: another container's is not touched.
pub(crate) fn write_id_file(path: &Path, kind: &str, id: &str) -> Result<()> {
    let wrong = |e: io::Error| match e.kind() {
        io::ErrorKind::AlreadyExists => id_file_exists(path, kind),
        _ => Error::at(format!("cannot write the {kind} ID file {}", path.display()), e),
    };
    let mut file = File::options().write(true).create_new(true).mode(0o644).open(path).map_err(wrong)?;
    write!(file, "{id}").map_err(|e| {
        let _ = std::fs::remove_file(path);
        wrong(e)
    })
}

/// Random bytes as hexadecimal digits.
pub(crate) fn random_hex<const N: usize>() -> Result<String> {
    let bytes: [u8; N] = linux::machine::random().map_err(Error::usage)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The image's own name that was meant.
fn full_name(image: &Image, typed: &str) -> String {
    let fits = |name: &&String| {
        name.as_str() == typed
            || name.ends_with(&format!("/{typed}"))
            || name.strip_suffix(":latest").is_some_and(|bare| bare == typed || bare.ends_with(&format!("/{typed}")))
    };
    image.names.iter().find(fits).or(image.names.first()).cloned().unwrap_or_else(|| image.id.to_string())
}

/// Entrypoint and command. An entrypoint of the user's own also drops the image's command, as in Podman.
fn argv(config: &ContainerConfig, says: &ImageConfig) -> Result<(Vec<String>, Vec<String>)> {
    let entrypoint = config.entrypoint.clone().or_else(|| says.entrypoint().clone()).unwrap_or_default();
    let command = if config.command.is_empty() && config.entrypoint.is_none() {
        says.cmd().clone().unwrap_or_default()
    } else {
        config.command.clone()
    };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(Error::usage("no command or entrypoint provided, and no CMD or ENTRYPOINT from image"));
    }
    Ok((entrypoint, command))
}

fn environment(config: &ContainerConfig, says: &ImageConfig) -> Vec<String> {
    let mut env = Vec::new();
    let defaults = config.default_env.iter().chain(says.env().iter().flatten());
    for text in defaults.filter(|_| !config.unset_env.all) {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        spec::set_env(&mut env, name, value);
    }
    for (name, value) in &config.env {
        // Without a value: ours, if we have one.
        if let Some(value) = value.clone().or_else(|| std::env::var(name).ok()) {
            spec::set_env(&mut env, name, &value);
        }
    }
    let unset = |text: &String| config.unset_env.names.iter().any(|name| text.split('=').next() == Some(name));
    env.retain(|text| !unset(text));
    env
}

fn workdir(config: &ContainerConfig, says: &ImageConfig) -> Result<String> {
    let image = says.working_dir().clone().filter(|dir| !dir.is_empty());
    match config.workdir.clone().or(image) {
        Some(dir) if !dir.starts_with('/') => {
            Err(Error::usage(format!("the working directory {dir:?} is invalid, it needs to be an absolute path")))
        }
        dir => Ok(dir.unwrap_or_else(|| "/".to_owned())),
    }
}

fn hostname(config: &ContainerConfig, id: &ContainerId) -> String {
    match (&config.hostname, &config.network.mode) {
        (Some(name), _) => name.to_string(),
        (None, NetworkMode::Host) => linux::machine::host_name(),
        (None, _) => id.short(),
    }
}

fn labels(config: &ContainerConfig, says: &ImageConfig) -> BTreeMap<String, String> {
    let image = says.labels().iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
    image.chain(config.labels.clone()).collect()
}

fn stop_signal(config: &ContainerConfig, says: &ImageConfig) -> Result<i32> {
    let text = config.stop_signal.clone().or_else(|| says.stop_signal().clone()).filter(|text| !text.is_empty());
    Ok(text.map_or(Ok(Signal::TERM), |text| text.parse::<Signal>())?.number())
}

/// The image's exposed ports and the user's, each once.
fn exposed(network: &NetworkConfig, says: &ImageConfig) -> Result<Vec<(u16, u16, Protocol)>> {
    let mut all = Vec::new();
    for text in says.exposed_ports().iter().flatten() {
        let spec: model::PortSpec =
            text.parse().map_err(|e| Error::at(format!("the image's exposed port {text:?}"), e))?;
        all.push((spec.container_port, spec.range, spec.protocol));
    }
    all.extend(&network.expose);
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// What `-p` and `-P` mean, with the host ports chosen that were left open.
pub(crate) fn published(
    network: &NetworkConfig,
    expose: &[(u16, u16, Protocol)],
    warn: &mut dyn FnMut(&str),
) -> Result<Vec<PortMapping>> {
    if !network.mode.is_networked() {
        let mode = network.mode.word();
        if !network.publish.is_empty() {
            warn(&format!(
                "Port mappings have been discarded because \"{mode}\" network namespace mode does not support them"
            ));
        }
        return Ok(Vec::new());
    }
    let mut ports: Vec<PortMapping> = Vec::new();
    for port in &network.publish {
        let spec = port.spec;
        let first = spec.host_port.map_or_else(|| crate::ports::choose(spec.host, spec.range, spec.protocol), Ok)?;
        let mapping = spec.at(first);
        if !ports.iter().any(|earlier| says_as_much(earlier, &mapping)) {
            ports.push(mapping);
        }
    }
    for &(first, range, protocol) in expose.iter().filter(|_| network.publish_all) {
        let covers = |m: &PortMapping| m.protocol == protocol && m.container_port == first && m.range == range;
        if !ports.iter().any(covers) {
            let host = model::HostAddress::Any;
            let host_port = crate::ports::choose(host, range, protocol)?;
            ports.push(PortMapping { host, host_port, container_port: first, range, protocol });
        }
    }
    if let NetworkMode::Pasta(options) = &network.mode {
        ports.extend(&options.ports);
    }
    let clash = ports.iter().enumerate().find_map(|(n, a)| Some((a, ports[..n].iter().find(|b| a.clashes(b))?)));
    match clash {
        // Podman reads ranges together, and leaves what is wanted twice otherwise to the kernel.
        Some((port, other)) if port.host == other.host && port.range.max(other.range) > 1 => {
            Err(Error::usage(format!(
                "conflicting port mappings for host port {} (protocol {})",
                port.host_port.max(other.host_port),
                port.protocol
            )))
        }
        Some((port, _)) => Err(Error::cannot_start(format!(
            "cannot bind {} port :{}: address already in use (this container wants it twice)",
            port.protocol, port.host_port
        ))),
        None => Ok(ports),
    }
}

/// Does the first mapping publish all that the second does?
fn says_as_much(one: &PortMapping, other: &PortMapping) -> bool {
    let skipped = |of: fn(&PortMapping) -> u16| of(other).checked_sub(of(one));
    one.host == other.host
        && one.protocol == other.protocol
        && skipped(|m| m.host_port) == skipped(|m| m.container_port)
        && skipped(|m| m.host_port).is_some_and(|n| n.saturating_add(other.range) <= one.range)
}

const ADJECTIVES: [&str; 72] = [
    "able", "agile", "amber", "ample", "azure", "bold", "brave", "bright", "brisk", "calm", "candid", "civil", "clear",
    "clever", "crisp", "deep", "deft", "early", "eager", "even", "fair", "fast", "fine", "firm", "fleet", "fond",
    "frank", "free", "fresh", "gentle", "glad", "golden", "grand", "green", "happy", "hardy", "honest", "humble",
    "jolly", "keen", "kind", "light", "lively", "loyal", "lucid", "merry", "mild", "modest", "neat", "nimble", "noble",
    "open", "patient", "plain", "proud", "quick", "quiet", "rapid", "ready", "sage", "sharp", "silent", "sleek",
    "smart", "solid", "steady", "swift", "tidy", "vivid", "warm", "wise", "witty",
];

/// People to whom computing and networking owe something.
const NAMES: [&str; 72] = [
    "allen",
    "babbage",
    "backus",
    "baran",
    "bartik",
    "boole",
    "borg",
    "brooks",
    "cerf",
    "chappe",
    "clarke",
    "codd",
    "conway",
    "cray",
    "curry",
    "davies",
    "dijkstra",
    "easley",
    "eckert",
    "engelbart",
    "erdos",
    "estrin",
    "euler",
    "feinler",
    "floyd",
    "gauss",
    "godel",
    "goldberg",
    "goldwasser",
    "gray",
    "hamilton",
    "hamming",
    "herschel",
    "hoare",
    "holberton",
    "hopper",
    "huffman",
    "jacobson",
    "johnson",
    "kahn",
    "karp",
    "kay",
    "kilby",
    "kleinrock",
    "knuth",
    "lamarr",
    "lamport",
    "liskov",
    "lovelace",
    "mauchly",
    "mccarthy",
    "meitner",
    "metcalfe",
    "mills",
    "milner",
    "minsky",
    "moore",
    "naur",
    "noether",
    "noyce",
    "perlman",
    "postel",
    "ritchie",
    "roberts",
    "shannon",
    "sinclair",
    "thompson",
    "torvalds",
    "turing",
    "wilkes",
    "wirth",
    "zuse",
];
