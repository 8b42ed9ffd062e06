//! Probes as health checks, and quantities.

use std::time::Duration;

use engine::config::{HealthCheck, Limits, OnUnhealthy, Restart};

use crate::node::Node;
use crate::{Refused, Result};

/// Ports of a container by name.
pub(crate) type PortNames = Vec<(String, u16)>;

/// `livenessProbe`, which counts from when `startupProbe`'s time is over.
pub(crate) fn health(node: &mut Node, ports: &PortNames, policy: Restart) -> Result<Option<HealthCheck>> {
    // It says when others may ask the container, not what becomes of it.
    node.pass_over(&["readinessProbe"]);
    let (live, start) = (node.node("livenessProbe")?, node.node("startupProbe")?);
    let start_place = node.at("startupProbe");
    let start = start.map(|probe| Probe::read(probe, ports)).transpose()?;
    let Some(live) = live.map(|probe| Probe::read(probe, ports)).transpose()? else {
        return match start {
            None => Ok(None),
            Some(_) => Err(Refused(format!("{start_place} is only supported by podwire beside a livenessProbe"))),
        };
    };
    let mut start_period = live.delay;
    if let Some(start) = start {
        if start.command != live.command {
            return Err(Refused(format!("{start_place} must ask what livenessProbe asks: podwire has one check")));
        }
        start_period = start_period.max(start.delay + start.period.saturating_mul(start.failures));
    }
    Ok(Some(HealthCheck {
        command: live.command,
        shell: live.shell,
        interval: Some(live.period),
        timeout: live.timeout,
        start_period,
        retries: live.failures,
        // As Podman: without a policy the container is only called unhealthy.
        on_failure: if policy == Restart::No { OnUnhealthy::None } else { OnUnhealthy::Restart },
    }))
}

struct Probe {
    command: Vec<String>,
    shell: bool,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    failures: u32,
}

impl Probe {
    /// With Kubernetes' defaults; asked with the programs that Podman asks with, of the container's image.
    fn read(mut node: Node, ports: &PortNames) -> Result<Self> {
        let place = node.at("exec");
        let asks = [node.node("exec")?, node.node("httpGet")?, node.node("tcpSocket")?];
        let (command, shell) = match asks {
            [Some(mut exec), None, None] => {
                let command = exec.texts("command")?.unwrap_or_default();
                exec.finish()?;
                (command, false)
            }
            [None, Some(http), None] => (vec![http_get(http, ports)?], true),
            [None, None, Some(mut tcp)] => {
                let (host, port) = (host(&mut tcp)?, port(&mut tcp, ports)?);
                tcp.finish()?;
                (vec![format!("nc -z -v {host} {port} || exit 1")], true)
            }
            _ => return Err(Refused(format!("{place}, httpGet or tcpSocket: one of them is needed"))),
        };
        if command.is_empty() {
            return Err(Refused(format!("{place} has no command")));
        }
        let mut seconds = |key: &str, default: u32, least: u32| -> Result<u32> {
            let place = node.at(key);
            match node.number::<u32>(key)? {
                None => Ok(default),
                Some(number) if number >= least => Ok(number),
                Some(_) => Err(Refused(format!("{place} must be at least {least}"))),
            }
        };
        let probe = Self {
            command,
            shell,
            delay: Duration::from_secs(seconds("initialDelaySeconds", 0, 0)?.into()),
            period: Duration::from_secs(seconds("periodSeconds", 10, 1)?.into()),
            timeout: Duration::from_secs(seconds("timeoutSeconds", 1, 1)?.into()),
            failures: seconds("failureThreshold", 3, 1)?,
        };
        // Of a probe that decides over life it must be 1.
        node.pass_over(&["successThreshold"]);
        for key in ["grpc", "terminationGracePeriodSeconds"] {
            node.refuse(key, "is not supported by podwire yet")?;
        }
        node.finish()?;
        Ok(probe)
    }
}

fn http_get(mut http: Node, ports: &PortNames) -> Result<String> {
    let scheme_place = http.at("scheme");
    let scheme = match http.text("scheme")?.as_deref() {
        None | Some("HTTP") => "http",
        Some("HTTPS") => "https",
        Some(other) => return Err(Refused(format!("{scheme_place} {other} is not known: HTTP and HTTPS are"))),
    };
    let path_place = http.at("path");
    let path = http.text("path")?.unwrap_or_else(|| "/".to_owned());
    // It goes through a shell.
    if path.bytes().any(|b| b"'\\ \n".contains(&b)) {
        return Err(Refused(format!("{path_place}: {path:?} must be a path of a URL")));
    }
    let (host, port) = (host(&mut http)?, port(&mut http, ports)?);
    http.refuse("httpHeaders", "is not supported by podwire yet")?;
    http.finish()?;
    Ok(format!("curl -f '{scheme}://{host}:{port}{path}' || exit 1"))
}

fn host(node: &mut Node) -> Result<String> {
    let place = node.at("host");
    let host = node.text("host")?.unwrap_or_else(|| "localhost".to_owned());
    match host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)) {
        true => Ok(host),
        false => Err(Refused(format!("{place}: {host:?} is no host"))),
    }
}

/// A number, or the name of one of the container's ports.
fn port(node: &mut Node, ports: &PortNames) -> Result<u16> {
    let place = node.at("port");
    let text = node.scalar("port")?.ok_or_else(|| Refused(format!("{place} is missing")))?;
    let named = ports.iter().find(|(name, _)| *name == text).map(|(_, port)| *port);
    named
        .or_else(|| text.parse().ok().filter(|port| *port != 0))
        .ok_or_else(|| Refused(format!("{place}: {text} is neither a port nor the name of one of the container's")))
}

/// `resources.limits`, and of what is requested the memory: it is kept when the machine is short of it, as Podman does
/// it. The rest says where to schedule.
pub(crate) fn limits(node: &mut Node) -> Result<Limits> {
    let mut limits = Limits::default();
    let Some(mut resources) = node.node("resources")? else { return Ok(limits) };
    if let Some(mut most) = resources.node("limits")? {
        let mut amount = |key: &str| -> Result<Option<f64>> {
            let place = most.at(key);
            let Some(text) = most.scalar(key)? else { return Ok(None) };
            let wrong = || Refused(format!("{place}: {text:?} is no quantity, such as 500m or 64Mi"));
            quantity(&text).map(Some).ok_or_else(wrong)
        };
        limits.nano_cpus = amount("cpu")?.map(|cpus| (cpus * 1e9).round() as u64).filter(|nano| *nano > 0);
        limits.memory = amount("memory")?.map(|bytes| bytes.ceil() as u64).filter(|bytes| *bytes > 0);
        most.finish()?;
    }
    let place = resources.at("requests");
    if let Some(mut least) = resources.node("requests")?
        && let Some(text) = least.scalar("memory")?
    {
        let bytes = quantity(&text).map(|bytes| bytes.ceil() as u64);
        let bytes = bytes.ok_or_else(|| Refused(format!("{place}.memory: {text:?} is no quantity, such as 64Mi")))?;
        if limits.memory.is_some_and(|most| bytes > most) {
            return Err(Refused(format!("{place}.memory is more than resources.limits.memory")));
        }
        limits.memory_reservation = Some(bytes).filter(|bytes| *bytes > 0);
    }
    resources.pass_over(&["claims"]);
    resources.finish()?;
    Ok(limits)
}

/// `500m`, `0.5`, `64Mi`, `1e3` (Kubernetes, resource.Quantity); none below 0, none without end.
fn quantity(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, times) = unit.map_or((text, 1.0), |(unit, times)| (&text[..text.len() - unit.len()], *times));
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let amount = number.parse::<f64>().ok().filter(|_| plain)? * times;
    (amount.is_finite() && (0.0..1e18).contains(&amount)).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_kubernetes() {
        let check = |text: &str, means: Option<f64>| assert_eq!(quantity(text), means, "{text}");
        check("500m", Some(0.5));
        check("2", Some(2.0));
        check("64Mi", Some(67_108_864.0));
        check("129M", Some(129e6));
        check("1e3", Some(1000.0));
        for wrong in ["", "m", "-1", "x", "inf", "NaN", "1 Mi", "1e99"] {
            check(wrong, None);
        }
    }
}
