//! `--memory`, `--cpus` and the like.

use engine::config::{Groups, Limits};

use crate::flags::signed;
use crate::outcome::Failure;
use crate::sizes;

#[derive(clap::Args, Debug, Default)]
pub(crate) struct LimitFlags {
    /// Limit memory (NUMBER[UNIT]; b, k, m, g)
    #[arg(short = 'm', long, value_name = "string")]
    memory: Option<String>,
    /// Keep memory below this when the machine is short of it
    #[arg(long, value_name = "string")]
    memory_reservation: Option<String>,
    /// Limit memory and swap together; -1 for no limit
    #[arg(long, value_name = "string")]
    memory_swap: Option<String>,
    /// Limit processors
    #[arg(long, value_name = "float")]
    cpus: Option<String>,
    /// Length of a period of processor time, in microseconds
    #[arg(long, value_name = "uint")]
    cpu_period: Option<u64>,
    /// Limit processor time in a period, in microseconds
    #[arg(long, value_name = "int", value_parser = signed)]
    cpu_quota: Option<i64>,
    /// Weight when processors are short (default 1024)
    #[arg(short = 'c', long, value_name = "uint")]
    cpu_shares: Option<u64>,
    /// Processors it may run on (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Limit processes; -1 for no limit (default 2048)
    #[arg(long, value_name = "int", value_parser = signed)]
    pids_limit: Option<i64>,
    /// Control groups: enabled or disabled
    #[arg(long, value_name = "string", default_value = "enabled", hide_default_value = true)]
    cgroups: String,
    /// The control group that the container's is made in
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
}

impl LimitFlags {
    pub(crate) fn parse(&self) -> Result<Limits, Failure> {
        let limits = Limits {
            memory: size("memory", &self.memory)?,
            memory_reservation: size("memory-reservation", &self.memory_reservation)?,
            memory_swap: match self.memory_swap.as_deref() {
                Some("-1") => Some(-1),
                _ => size("memory-swap", &self.memory_swap)?.map(|bytes| bytes as i64),
            },
            nano_cpus: self.cpus.as_deref().map(cpus).transpose()?.flatten(),
            cpu_period: self.cpu_period.filter(|period| *period > 0),
            cpu_quota: self.cpu_quota.filter(|quota| *quota != 0),
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpuset_cpus: set("cpuset-cpus", &self.cpuset_cpus)?,
            cpuset_mems: set("cpuset-mems", &self.cpuset_mems)?,
            pids: self.pids_limit,
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
        };
        if limits.nano_cpus.is_some() && (limits.cpu_period.is_some() || limits.cpu_quota.is_some()) {
            return Err(Failure::new("--cpus and --cpu-period or --cpu-quota cannot be set together"));
        }
        if let (Some(memory), Some(swap)) = (limits.memory, limits.memory_swap)
            && swap > 0
            && (swap as u64) < memory
        {
            return Err(Failure::new("minimum memoryswap limit should be larger than memory limit"));
        }
        Ok(limits)
    }
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
