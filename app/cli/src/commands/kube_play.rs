//! `podwire kube play`, `kube down`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use engine::config::{AttachmentConfig, NetworkConfig, NetworkMode};
use engine::pods::PodRemoval;
use engine::{Attach, Engine, Kind, NetworkRequest};
use kube::{Around, HostPath, Play};
use model::PodId;

use crate::container::{NetworkFlags, Usual, annotations, care, users};
use crate::flags::{self, Command, strings, switch};
use crate::global::{Podwire, complain, say};
use crate::outcome::{Failure, Outcome, USAGE, plain};
use crate::progress::talking;

/// What pods of files are on that name no network: made with the first of them, gone with the last.
const DEFAULT_NETWORK: &str = "podman-default-kube-network";

#[derive(clap::Args)]
pub(crate) struct KubePlay {
    /// Add annotations to the containers (key=value)
    #[arg(long, value_name = "strings")]
    annotation: Vec<String>,
    /// Where the containers' output is kept: k8s-file, json-file or none
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    log_driver: String,
    /// Options of the log: path=, max-size=, tag=
    #[arg(long, value_name = "strings")]
    log_opt: Vec<String>,
    /// The user namespace of the pods: host, keep-id, auto or nomap
    #[arg(long, value_name = "string")]
    userns: Option<String>,
    /// Add ConfigMaps of these files
    #[arg(long, value_name = "strings")]
    configmap: Vec<PathBuf>,
    /// Stop and remove the pods of the file
    #[arg(long)]
    down: bool,
    /// With --down: remove the volumes that they claim, too
    #[arg(long)]
    force: bool,
    /// Suppress the output of pulling
    #[arg(short, long)]
    quiet: bool,
    /// Remove pods of the same names first
    #[arg(long)]
    replace: bool,
    /// Start the pods (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    start: Option<bool>,
    /// Require HTTPS and verify certificates when pulling (default: not for registries on this host)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    tls_verify: Option<bool>,
    #[command(flatten)]
    network: NetworkFlags,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for KubePlay {
    fn run(mut self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let text = read(&self.arguments[0])?;
        if self.down {
            return down(&mut podwire.engine()?, &text, self.force);
        }
        let config_maps = self.configmap.iter().map(|path| read_file(path)).collect::<Result<Vec<_>, _>>()?;
        let mut network = std::mem::take(&mut self.network).parse(&Usual::of(podwire, true)?, &mut Vec::new())?;
        let mut engine = podwire.engine()?;
        let is_default = network.mode == NetworkConfig::default().mode;
        if is_default {
            let named = AttachmentConfig { network: Some(DEFAULT_NETWORK.to_owned()), ..AttachmentConfig::default() };
            network.mode = NetworkMode::Networks(vec![named]);
        }
        let around = Around {
            publish: std::mem::take(&mut network.publish),
            publish_all: std::mem::take(&mut network.publish_all),
            network,
            volumes: engine.volumes_path(),
            tls_verify: self.tls_verify.unwrap_or(true),
            log: care::log(&self.log_driver, &strings(&self.log_opt))?,
            annotations: annotations(&strings(&self.annotation))?,
            users: users::mode(self.userns.as_deref().unwrap_or_default())?,
            create_command: podwire.argv.clone(),
        };
        let plays = kube::read(&text, &config_maps, &around).map_err(Failure::new)?;
        let on_default = |play: &Play| play.pod.network.mode == around.network.mode;
        if is_default && plays.iter().any(on_default) {
            make_default_network(&mut engine)?;
        }
        let mut code = 0;
        for play in plays {
            play.remarks.iter().for_each(complain);
            let played = self.play(&mut engine, play);
            if played.is_err() {
                remove_default_network(&mut engine);
            }
            let (pod, containers, failures) = played?;
            say("Pod:")?;
            say(pod)?;
            say(if containers.len() == 1 { "Container:" } else { "Containers:" })?;
            containers.iter().try_for_each(say)?;
            say("")?;
            if !failures.is_empty() {
                failures.iter().for_each(|failure| complain(format_args!("Error: {failure}")));
                code = USAGE;
            }
        }
        Ok(code)
    }
}

impl KubePlay {
    /// Makes the pod and its containers, or nothing; then starts what can be started.
    fn play(&self, engine: &mut Engine, play: Play) -> Result<(PodId, Vec<String>, Vec<engine::Error>), Failure> {
        let pod = engine::pods::PodConfig { replace: self.replace, ..play.pod };
        for (path, missing) in &play.paths {
            prepare(path, *missing)?;
        }
        let id = talking(self.quiet, |talk| engine.create_pod(pod, talk))?;
        let mut containers = Vec::new();
        for config in play.containers {
            match talking(self.quiet, |talk| engine.create(config, talk)) {
                Ok(container) => containers.push(container),
                Err(error) => {
                    engine.remove_pod(&id.to_string(), &PodRemoval { force: true, time: Some(0) })?;
                    return Err(error.into());
                }
            }
        }
        let mut failures = Vec::new();
        if self.start.unwrap_or(true) {
            for container in &containers {
                failures.extend(engine.start(container, Attach::Detached).err());
            }
        }
        Ok((id, containers.iter().map(ToString::to_string).collect(), failures))
    }
}

/// Makes what is to be made; what is to be there must be of its kind.
fn prepare(path: &Path, kind: HostPath) -> Result<(), Failure> {
    use std::os::unix::fs::FileTypeExt;
    let failed = |e: std::io::Error| Failure::new(format!("cannot use the hostPath {}: {}", path.display(), plain(&e)));
    if !path.exists() {
        match kind {
            HostPath::DirectoryOrCreate => std::fs::create_dir_all(path).map_err(failed)?,
            HostPath::FileOrCreate => std::fs::File::create_new(path).map(drop).map_err(failed)?,
            _ => {}
        }
    }
    let found = path.metadata().map_err(failed)?.file_type();
    let (fits, what) = match kind {
        HostPath::DirectoryOrCreate | HostPath::Directory => (found.is_dir(), "a directory"),
        HostPath::FileOrCreate | HostPath::File => (found.is_file(), "a file"),
        HostPath::Socket => (found.is_socket(), "a socket"),
        // A device's number says which kind it is; either is a device.
        HostPath::CharDevice | HostPath::BlockDevice => (found.is_char_device() || found.is_block_device(), "a device"),
    };
    if fits { Ok(()) } else { Err(Failure::new(format!("the hostPath {} must be {what}", path.display()))) }
}

fn make_default_network(engine: &mut Engine) -> Result<(), Failure> {
    let request = NetworkRequest {
        name: Some(DEFAULT_NETWORK.to_owned()),
        driver: "bridge".to_owned(),
        ..NetworkRequest::default()
    };
    match engine.create_network(&request) {
        Err(_) if engine.network_exists(DEFAULT_NETWORK)? => Ok(()),
        made => Ok(made.map(drop)?),
    }
}

/// When its last pod is gone. Whoever uses it again meanwhile keeps it.
fn remove_default_network(engine: &mut Engine) {
    match engine.remove_network(DEFAULT_NETWORK, false, None) {
        Err(error) if !matches!(error.kind, Kind::InUse | Kind::NotFound) => complain(error),
        _ => {}
    }
}

#[derive(clap::Args)]
pub(crate) struct KubeDown {
    /// Remove the volumes that they claim, too
    #[arg(long)]
    force: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for KubeDown {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let text = read(&self.arguments[0])?;
        down(&mut podwire.engine()?, &text, self.force)
    }
}

fn down(engine: &mut Engine, text: &str, force: bool) -> Outcome {
    let names = kube::names(text).map_err(Failure::new)?;
    let mut pods = Vec::new();
    for (name, _) in &names {
        match engine.find_pod(name) {
            Err(error) if error.kind == Kind::NotFound => {}
            id => pods.push(id?),
        }
    }
    say("Pods stopped:")?;
    for id in &pods {
        engine.stop_pod(&id.to_string(), None)?.iter().for_each(complain);
        say(id)?;
    }
    say("Pods removed:")?;
    for id in &pods {
        say(engine.remove_pod(&id.to_string(), &PodRemoval { force: true, time: None })?)?;
    }
    say("Secrets removed:")?;
    say("Volumes removed:")?;
    for volume in names.iter().flat_map(|(_, volumes)| volumes).filter(|_| force) {
        if engine.remove_claimed_volume(volume)? {
            say(volume)?;
        }
    }
    remove_default_network(engine);
    Ok(0)
}

/// A file, or standard input.
fn read(name: &str) -> Result<String, Failure> {
    if name != "-" {
        return read_file(Path::new(name));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn read_file(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format!("open {}: {}", path.display(), plain(&e).to_lowercase())))
}
