//! `--memory`, `--cpus` and the like.

use std::path::PathBuf;

use engine::config::{DeviceRate, Groups, Limits, RateKind};

use crate::flags::{signed, strings};
use crate::outcome::Failure;
use crate::sizes;

/// Limits that a container and a pod can have.
#[derive(clap::Args, Debug, Default)]
struct SharedFlags {
    /// Limit memory (NUMBER[UNIT]; b, k, m, g)
    #[arg(short = 'm', long, value_name = "string")]
    memory: Option<String>,
    /// Limit memory and swap together; -1 for no limit
    #[arg(long, value_name = "string")]
    memory_swap: Option<String>,
    /// Limit processors
    #[arg(long, value_name = "float")]
    cpus: Option<String>,
    /// Weight when processors are short (default 1024)
    #[arg(short = 'c', long, value_name = "uint")]
    cpu_shares: Option<u64>,
    /// Processors it may run on (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Weight when disks are busy (10 to 1000)
    #[arg(long, value_name = "string")]
    blkio_weight: Option<String>,
    /// Weight when that disk is busy (DEVICE:WEIGHT)
    #[arg(long, value_name = "stringArray")]
    blkio_weight_device: Vec<String>,
    /// Limit bytes read from a disk in a second (DEVICE:NUMBER[UNIT])
    #[arg(long, value_name = "stringArray")]
    device_read_bps: Vec<String>,
    /// Limit bytes written to a disk in a second (DEVICE:NUMBER[UNIT])
    #[arg(long, value_name = "stringArray")]
    device_write_bps: Vec<String>,
}

/// Limits that a container has, and that `update` changes.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct ResourceFlags {
    #[command(flatten)]
    shared: SharedFlags,
    /// Keep memory below this when the machine is short of it
    #[arg(long, value_name = "string")]
    memory_reservation: Option<String>,
    /// How gladly its memory is swapped out (0 to 100; control groups of version 1 alone)
    #[arg(long, value_name = "int", value_parser = signed)]
    memory_swappiness: Option<i64>,
    /// Length of a period of processor time, in microseconds
    #[arg(long, value_name = "uint")]
    cpu_period: Option<u64>,
    /// Limit processor time in a period, in microseconds
    #[arg(long, value_name = "int", value_parser = signed)]
    cpu_quota: Option<i64>,
    /// Length of a period of real-time scheduling, in microseconds (control groups of version 1 alone)
    #[arg(long, value_name = "uint")]
    cpu_rt_period: Option<u64>,
    /// Limit real-time scheduling in a period, in microseconds (control groups of version 1 alone)
    #[arg(long, value_name = "int", value_parser = signed)]
    cpu_rt_runtime: Option<i64>,
    /// Limit processes; -1 for no limit (default 2048)
    #[arg(long, value_name = "int", value_parser = signed)]
    pids_limit: Option<i64>,
    /// Limit readings of a disk in a second (DEVICE:NUMBER)
    #[arg(long, value_name = "stringArray")]
    device_read_iops: Vec<String>,
    /// Limit writings of a disk in a second (DEVICE:NUMBER)
    #[arg(long, value_name = "stringArray")]
    device_write_iops: Vec<String>,
}

/// Those of `run` and `create`.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct LimitFlags {
    #[command(flatten)]
    resources: ResourceFlags,
    /// Let processes wait for memory instead of killing one (control groups of version 1 alone)
    #[arg(long)]
    oom_kill_disable: bool,
    /// Write to files of the control group (FILE=TEXT; version 2 alone)
    #[arg(long, value_name = "strings")]
    cgroup_conf: Vec<String>,
    /// Control groups: enabled or disabled
    #[arg(long, value_name = "string", default_value = "enabled", hide_default_value = true)]
    cgroups: String,
    /// The control group that the container's is made in
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
}

/// Those of `pod create`.
#[derive(clap::Args, Debug, Default)]
#[command(
    mut_arg("memory", |flag| flag.help("Limit the containers' memory together (NUMBER[UNIT]; b, k, m, g)")),
    mut_arg("cpus", |flag| flag.help("Limit the containers' processors together")),
    mut_arg("cpuset_cpus", |flag| flag.help("Processors the containers may run on (0-3, 0,1)")),
    mut_arg("cpuset_mems", |flag| flag.help("Memory nodes the containers may use (0-3, 0,1)"))
)]
pub(crate) struct PodLimitFlags {
    #[command(flatten)]
    shared: SharedFlags,
    /// The control group that the pod's is made in
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
}

impl SharedFlags {
    fn parse(&self) -> Result<Limits, Failure> {
        let limits = Limits {
            memory: size("memory", &self.memory)?,
            memory_swap: match self.memory_swap.as_deref() {
                Some("-1") => Some(-1),
                _ => size("memory-swap", &self.memory_swap)?.map(|bytes| bytes as i64),
            },
            nano_cpus: self.cpus.as_deref().map(cpus).transpose()?.flatten(),
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpuset_cpus: set("cpuset-cpus", &self.cpuset_cpus)?,
            cpuset_mems: set("cpuset-mems", &self.cpuset_mems)?,
            blkio_weight: self.blkio_weight.as_deref().filter(|text| !text.is_empty()).map(weight).transpose()?,
            blkio_weight_device: self
                .blkio_weight_device
                .iter()
                .map(|text| weight_device(text))
                .collect::<Result<_, _>>()?,
            rates: rates(&[
                (RateKind::ReadBytes, &self.device_read_bps),
                (RateKind::WriteBytes, &self.device_write_bps),
            ])?,
            ..Limits::default()
        };
        if let (Some(memory), Some(swap)) = (limits.memory, limits.memory_swap)
            && swap > 0
            && (swap as u64) < memory
        {
            return Err(Failure::new("minimum memoryswap limit should be larger than memory limit"));
        }
        Ok(limits)
    }
}

impl ResourceFlags {
    pub(crate) fn parse(&self) -> Result<Limits, Failure> {
        let shared = self.shared.parse()?;
        let operations =
            rates(&[(RateKind::Reads, &self.device_read_iops), (RateKind::Writes, &self.device_write_iops)])?;
        let limits = Limits {
            memory_reservation: size("memory-reservation", &self.memory_reservation)?,
            memory_swappiness: match self.memory_swappiness {
                None | Some(-1) => None,
                Some(number @ 0..=100) => Some(number as u64),
                Some(number) => {
                    return Err(Failure::new(format!(
                        "invalid value: {number}, valid memory swappiness range is 0-100"
                    )));
                }
            },
            cpu_period: self.cpu_period.filter(|period| *period > 0),
            cpu_quota: self.cpu_quota.filter(|quota| *quota != 0),
            cpu_rt_period: self.cpu_rt_period.filter(|period| *period > 0),
            cpu_rt_runtime: self.cpu_rt_runtime.filter(|runtime| *runtime != 0),
            pids: self.pids_limit,
            rates: [shared.rates.clone(), operations].concat(),
            ..shared
        };
        if limits.nano_cpus.is_some() && (limits.cpu_period.is_some() || limits.cpu_quota.is_some()) {
            return Err(Failure::new("--cpus and --cpu-period or --cpu-quota cannot be set together"));
        }
        Ok(limits)
    }
}

impl LimitFlags {
    pub(crate) fn parse(&self) -> Result<Limits, Failure> {
        let pair = |text: &String| match text.split_once('=') {
            Some((file, text)) if file.contains('.') && !file.contains('/') => Ok((file.to_owned(), text.to_owned())),
            _ => Err(Failure::new(format!(
                "invalid --cgroup-conf {text:?}: must be FILE=TEXT, as memory.high=1073741824"
            ))),
        };
        Ok(Limits {
            oom_kill_disable: self.oom_kill_disable,
            conf: strings(&self.cgroup_conf).iter().map(pair).collect::<Result<_, _>>()?,
            groups: match self.cgroups.as_str() {
                "enabled" | "no-conmon" | "" => Groups::Enabled,
                "disabled" => Groups::Disabled,
                "split" => return Err(Failure::new("--cgroups split is not supported by podwire yet")),
                other => {
                    return Err(Failure::new(format!(
                        "running container create option: invalid cgroup mode {other:?} - must be one of enabled, \
                         disabled, no-conmon or split: invalid argument"
                    )));
                }
            },
            parent: self.cgroup_parent.clone().filter(|parent| !parent.is_empty()),
            ..self.resources.parse()?
        })
    }
}

impl PodLimitFlags {
    pub(crate) fn parse(&self) -> Result<Limits, Failure> {
        Ok(Limits { parent: self.cgroup_parent.clone().filter(|parent| !parent.is_empty()), ..self.shared.parse()? })
    }
}

fn rates(wishes: &[(RateKind, &Vec<String>)]) -> Result<Vec<DeviceRate>, Failure> {
    wishes.iter().flat_map(|(kind, texts)| texts.iter().map(|text| rate(*kind, text))).collect()
}

fn weight(text: &str) -> Result<u16, Failure> {
    let weight: u16 = text.parse().map_err(|_| {
        Failure::new(format!("invalid value for blkio-weight: strconv.ParseUint: parsing {text:?}: invalid syntax"))
    })?;
    match weight {
        10..=1000 => Ok(weight),
        _ => Err(Failure::new(format!("range of blkio weight is from 10 to 1000, not {weight}"))),
    }
}

/// `DEVICE:WEIGHT`
fn weight_device(text: &str) -> Result<(PathBuf, u16), Failure> {
    match text.rsplit_once(':') {
        Some((device, number)) if device.starts_with("/dev/") => Ok((device.into(), weight(number)?)),
        _ => Err(Failure::new(format!("bad format for device path: {text}: must be /dev/DISK:WEIGHT"))),
    }
}

/// `DEVICE:NUMBER[UNIT]`
fn rate(kind: RateKind, text: &str) -> Result<DeviceRate, Failure> {
    let wrong = || Failure::new(format!("bad format: {text}: must be /dev/DISK:NUMBER, of a second"));
    let (device, number) = text.rsplit_once(':').filter(|(device, _)| device.starts_with("/dev/")).ok_or_else(wrong)?;
    let most = match kind {
        RateKind::ReadBytes | RateKind::WriteBytes => sizes::parse(number),
        RateKind::Reads | RateKind::Writes => number.parse().ok(),
    };
    Ok(DeviceRate { device: device.into(), kind, most: most.ok_or_else(wrong)? })
}

fn size(flag: &str, text: &Option<String>) -> Result<Option<u64>, Failure> {
    let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let bytes =
        sizes::parse(text).ok_or_else(|| Failure::new(format!("invalid value for {flag}: invalid size: '{text}'")))?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// Billionths; 0 is no limit.
fn cpus(text: &str) -> Result<Option<u64>, Failure> {
    let wrong = || {
        Failure::new(format!(
            "invalid argument {text:?} for \"--cpus\" flag: strconv.ParseFloat: parsing {text:?}: invalid syntax"
        ))
    };
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if !number.is_finite() || number < 0.0 {
        return Err(wrong());
    }
    Ok(Some((number * 1e9).round() as u64).filter(|nano| *nano > 0))
}

/// `0-3,5`
fn set(flag: &str, text: &Option<String>) -> Result<Option<String>, Failure> {
    let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let number = |text: &str| text.parse::<u32>().is_ok();
    let fits = text.split(',').all(|part| part.split_once('-').map_or(number(part), |(a, b)| number(a) && number(b)));
    if fits {
        Ok(Some(text.to_owned()))
    } else {
        Err(Failure::new(format!("invalid value for --{flag}: {text:?} (0-3, 0,1)")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_disks_name_a_device_and_a_number() {
        let check = |text: &str, kind: RateKind, most: Option<u64>| {
            assert_eq!(rate(kind, text).ok().map(|rate| rate.most), most, "{text}");
        };
        check("/dev/sda:1mb", RateKind::ReadBytes, Some(1 << 20));
        check("/dev/sda:100", RateKind::Reads, Some(100));
        check("/dev/sda:1mb", RateKind::Reads, None);
        check("sda:1mb", RateKind::ReadBytes, None);
        check("/dev/sda", RateKind::ReadBytes, None);
        assert_eq!(weight_device("/dev/sda:500").ok(), Some((PathBuf::from("/dev/sda"), 500)));
        for wrong in ["9", "1001", "x", "-1"] {
            assert!(weight(wrong).is_err(), "{wrong}");
        }
    }
}
