//! `podwire pod create`

use std::collections::BTreeSet;
use std::path::PathBuf;

use engine::config::{NetworkMode, Space};
use engine::pods::{Common, ExitPolicy, InfraConfig, PodConfig, Share};

use crate::container::{
    NetworkFlags, PodLimitFlags, UserFlags, Usual, care, entrypoint, from_here, inside, labels, security, volume,
    volumes_from,
};
use crate::flags::{self, Command, switch};
use crate::global::{Podwire, complain, say};
use crate::outcome::{Failure, Outcome};
use crate::progress::talking;

#[derive(clap::Args)]
pub(crate) struct PodCreate {
    /// Assign a name to the pod
    #[arg(short, long, value_name = "string")]
    name: Option<String>,
    /// Set the host name that the containers share (default: the pod's name)
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Set metadata on the pod
    #[arg(short, long, value_name = "stringArray")]
    label: Vec<String>,
    /// What becomes of the pod when its last container ends: continue or stop
    #[arg(long, value_name = "string", default_value = "continue")]
    exit_policy: String,
    /// Make an infra container, which holds what the containers share (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    infra: Option<bool>,
    /// The infra container's command, of --infra-image: a word or a JSON array
    #[arg(long, value_name = "string")]
    infra_command: Option<String>,
    /// An image for the infra container (default: none is needed)
    #[arg(long, value_name = "string")]
    infra_image: Option<String>,
    /// Assign a name to the infra container
    #[arg(long, value_name = "string")]
    infra_name: Option<String>,
    /// Write the pod ID to the file
    #[arg(long, value_name = "string")]
    pod_id_file: Option<PathBuf>,
    /// If a pod with the same name exists, replace it
    #[arg(long)]
    replace: bool,
    /// Restart policy of the containers that have none themselves: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    restart: String,
    /// What the containers share: ipc, net, pid, uts, none; with + before it: beside the default (default ipc,net,uts)
    #[arg(long, value_name = "string")]
    share: Option<String>,
    /// Make the containers' control groups in the pod's (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    share_parent: Option<bool>,
    /// Size of the /dev/shm that the containers share (NUMBER[b|k|m|g], default 65536000)
    #[arg(long, value_name = "string")]
    shm_size: Option<String>,
    /// Read labels from a file
    #[arg(long, value_name = "strings")]
    label_file: Vec<String>,
    /// Mount a directory or a named volume into each container (SOURCE:TARGET[:OPTIONS])
    #[arg(short, long, value_name = "stringArray")]
    volume: Vec<String>,
    /// Add a device of the host to each container (HOST[:CONTAINER][:rwm])
    #[arg(long, value_name = "strings")]
    device: Vec<String>,
    /// Kernel settings of the containers' namespaces (NAME=VALUE)
    #[arg(long, value_name = "strings")]
    sysctl: Vec<String>,
    /// Of each container: no-new-privileges, seccomp=FILE|unconfined, mask=PATHS, unmask=PATHS|ALL, label=disable
    #[arg(long, value_name = "stringArray")]
    security_opt: Vec<String>,
    /// Mount the volumes of other containers into each container (CONTAINER[:OPTIONS])
    #[arg(long, value_name = "stringArray")]
    volumes_from: Vec<String>,
    /// PID namespace that the containers share with --share pid: private, host, ns:PATH
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pid: String,
    /// UTS namespace that the containers share: private, host, ns:PATH
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    uts: String,
    #[command(flatten)]
    users: UserFlags,
    #[command(flatten)]
    limits: PodLimitFlags,
    #[command(flatten)]
    network: NetworkFlags,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for PodCreate {
    fn run(mut self, podwire: &Podwire) -> Outcome {
        flags::at_most(1, &self.arguments)?;
        if let Some(name) = self.arguments.pop() {
            if self.name.is_some() {
                return Err(Failure::new("cannot specify --name and NAME at the same time"));
            }
            self.name = Some(name);
        }
        if self.replace && self.name.as_deref().unwrap_or_default().is_empty() {
            return Err(Failure::new("cannot replace pod without --name being set"));
        }
        let (config, remarks) = self.config(podwire)?;
        let mut engine = podwire.engine()?;
        remarks.iter().for_each(complain);
        say(talking(true, |talk| engine.create_pod(config, talk))?)?;
        Ok(0)
    }
}

impl PodCreate {
    pub(crate) fn config(self, podwire: &Podwire) -> Result<(PodConfig, Vec<String>), Failure> {
        let has_infra = self.infra.unwrap_or(true);
        if !has_infra {
            self.check_without_infra()?;
        }
        let common = self.common()?;
        let mut remarks = Vec::new();
        let publishes = self.network.publishes();
        let network = self.network.parse(&Usual::of(podwire, false)?, &mut remarks)?;
        // Before what is published nowhere is left out with a remark.
        if publishes && matches!(network.mode, NetworkMode::None | NetworkMode::Host | NetworkMode::Path(_)) {
            return Err(Failure::new("PortMappings can only be used with Bridge or pasta networking"));
        }
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let infra = InfraConfig {
            name: text(self.infra_name).map(|name| name.parse()).transpose()?,
            image: text(self.infra_image),
            command: text(self.infra_command).map_or_else(Vec::new, |command| entrypoint(&command)),
            ..InfraConfig::default()
        };
        let config = PodConfig {
            name: text(self.name).map(|name| name.parse()).transpose()?,
            hostname: text(self.hostname).map(|name| name.parse()).transpose()?,
            labels: labels(&self.label_file, &self.label)?,
            network,
            share: share(self.share.as_deref())?,
            infra: has_infra.then_some(infra),
            exit_policy: self.exit_policy.parse::<ExitPolicy>()?,
            id_file: self.pod_id_file.as_deref().map(from_here).transpose()?,
            shm_size: self.shm_size.as_deref().map(bytes).transpose()?,
            common,
            volumes: Vec::new(),
            limits: self.limits.parse()?,
            shares_group: self.share_parent.unwrap_or(true),
            users: self.users.parse(std::env::var("PODMAN_USERNS").ok().filter(|_| has_infra))?,
            replace: self.replace,
            create_command: podwire.argv.clone(),
        };
        Ok((config, remarks))
    }

    /// What each container has that says nothing else.
    fn common(&self) -> Result<Common, Failure> {
        let common = Common {
            restart: care::restart(&self.restart)?,
            volumes: self.volume.iter().map(|text| volume::parse(text)).collect::<Result<_, _>>()?,
            devices: inside::devices(&self.device)?,
            sysctls: inside::sysctls(&self.sysctl)?,
            security: security::options(&self.security_opt)?,
            volumes_from: self.volumes_from.iter().map(|text| volumes_from(text)).collect::<Result<_, _>>()?,
            pid: pod_space("pid", &self.pid)?,
            uts: pod_space("uts", &self.uts)?,
        };
        let targets: BTreeSet<&str> = common.volumes.iter().map(|volume| volume.target.as_str()).collect();
        match targets.len() == common.volumes.len() {
            true => Ok(common),
            false => Err(Failure::new("--volume: duplicate mount destination")),
        }
    }

    /// What only an infra container can have.
    fn check_without_infra(&self) -> Result<(), Failure> {
        let shares = self.share.as_deref().filter(|share| !matches!(*share, "" | "none"));
        if let Some(share) = shares {
            return Err(Failure::new(format!("cannot set share({share}) namespaces without an infra container")));
        }
        for (flag, given) in [
            ("infra-command", self.infra_command.is_some()),
            ("infra-image", self.infra_image.is_some()),
            ("infra-name", self.infra_name.is_some()),
            ("shm-size", self.shm_size.is_some()),
            ("hostname", self.hostname.is_some()),
            ("pid", !self.pid.is_empty()),
            ("uts", !self.uts.is_empty()),
        ] {
            if given {
                return Err(Failure::new(format!("cannot set {flag} without an infra container")));
            }
        }
        self.network.check_without_infra()
    }
}

/// `ipc,net`, `+pid`, `none`
fn share(text: Option<&str>) -> Result<Vec<Share>, Failure> {
    let Some(text) = text else { return Ok(Share::DEFAULT.to_vec()) };
    let (mut shares, words) = match text.strip_prefix('+') {
        Some(more) => (Share::DEFAULT.to_vec(), more),
        None => (Vec::new(), text),
    };
    for word in words.split(',').filter(|word| !matches!(*word, "" | "none")) {
        shares.push(word.parse()?);
    }
    Ok(shares)
}

/// A container's is none that a pod could have: its containers have that by `--share`.
fn pod_space(kind: &str, text: &str) -> Result<Space, Failure> {
    match inside::space(kind, text)? {
        Space::Container(_) => {
            Err(Failure::new(format!("--{kind} of a pod takes private, host or ns:PATH, not {text:?}")))
        }
        space => Ok(space),
    }
}

/// `64m`: bytes, in units of 1024.
fn bytes(text: &str) -> Result<u64, Failure> {
    let wrong = || Failure::new(format!("unable to translate --shm-size: invalid size: '{text}'"));
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_a_list_or_more_than_the_default() {
        let check = |text: Option<&str>, means: &[Share]| assert_eq!(share(text).unwrap(), means, "{text:?}");
        check(None, &[Share::Ipc, Share::Net, Share::Uts]);
        check(Some("none"), &[]);
        check(Some(""), &[]);
        check(Some("net,pid"), &[Share::Net, Share::Pid]);
        check(Some("+pid"), &[Share::Ipc, Share::Net, Share::Uts, Share::Pid]);
        let wrong = |text: &str| share(Some(text)).unwrap_err().message;
        assert!(wrong("net,foo").starts_with("invalid kernel namespace to share: foo."), "{}", wrong("net,foo"));
        assert!(wrong("cgroup").contains("--share cgroup is not supported"), "{}", wrong("cgroup"));
    }

    #[test]
    fn sizes_have_units_of_1024() {
        let size = |text: &str| bytes(text).map_err(|failure| failure.message);
        assert_eq!((size("64m"), size("1G"), size("5"), size("2kb")), (Ok(64 << 20), Ok(1 << 30), Ok(5), Ok(2048)));
        for wrong in ["foo", "", "-1", "0", "1t", "99999999999g"] {
            assert_eq!(size(wrong).unwrap_err(), format!("unable to translate --shm-size: invalid size: '{wrong}'"));
        }
    }
}
