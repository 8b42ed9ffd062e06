//! `podwire network create`

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::{Engine, NetworkRequest};

use crate::container::MODES;
use crate::flags::{self, Command, strings};
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct NetworkCreate {
    /// Serve no names on the network
    #[arg(long)]
    disable_dns: bool,
    /// DNS servers for names that are not served on the network
    #[arg(long, value_name = "strings")]
    dns: Vec<String>,
    /// The kind of network
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// The gateway of the nth subnet
    #[arg(long, value_name = "ipSlice")]
    gateway: Vec<String>,
    /// A network of that name is no error
    #[arg(long)]
    ignore: bool,
    /// The bridge's name, or the parent
    #[arg(long, value_name = "string")]
    interface_name: Option<String>,
    /// No way out of the network
    #[arg(long)]
    internal: bool,
    /// Take addresses of the nth subnet from this range (CIDR or FIRST-LAST)
    #[arg(long, value_name = "stringArray")]
    ip_range: Vec<String>,
    /// Who chooses addresses: host-local, dhcp or none
    #[arg(long, value_name = "string")]
    ipam_driver: Option<String>,
    /// Enable IPv6
    #[arg(long)]
    ipv6: bool,
    /// Set metadata on the network
    #[arg(long, value_name = "stringArray")]
    label: Vec<String>,
    /// Set an option of the driver (key=value)
    #[arg(short, long, value_name = "stringArray")]
    opt: Vec<String>,
    /// A route for every container (DESTINATION,GATEWAY[,METRIC]; for GATEWAY also blackhole, unreachable, prohibit)
    #[arg(long, value_name = "stringArray")]
    route: Vec<String>,
    /// A subnet in CIDR form
    #[arg(long, value_name = "stringArray")]
    subnet: Vec<String>,
    /// Show the plan for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkCreate {
    fn run(self, podwire: &Podwire) -> Outcome {
        let (ignore, dry_run) = (self.ignore, self.dry_run);
        let request = self.request(podwire)?;
        let mut engine = podwire.engine()?;
        if ignore && is_there(&engine, &request)? {
            say(request.name.unwrap_or_default())?;
            return Ok(0);
        }
        if dry_run {
            return podwire.show(&engine.plan_create_network(&request)?);
        }
        match engine.create_network(&request) {
            // Somebody was faster.
            Err(_) if ignore && is_there(&engine, &request)? => say(request.name.unwrap_or_default())?,
            created => say(created?.name)?,
        }
        Ok(0)
    }
}

/// Is there a network of the name that was asked for?
fn is_there(engine: &Engine, request: &NetworkRequest) -> Result<bool, Failure> {
    let Some(name) = &request.name else { return Ok(false) };
    Ok(engine.networks()?.iter().any(|network| network.name.as_str() == name))
}

impl NetworkCreate {
    fn request(self, podwire: &Podwire) -> Result<NetworkRequest, Failure> {
        flags::at_most(1, &self.arguments)?;
        let name = self.arguments.into_iter().next().filter(|name| !name.is_empty());
        if let Some(name) = name.as_deref().filter(|n| MODES.contains(n)) {
            return Err(Failure::new(format!(
                "cannot create network with name {name:?} because it conflicts with a valid network mode"
            )));
        }
        let gateways = strings(&self.gateway).iter().map(|text| address(podwire, text)).collect::<Result<_, _>>()?;
        let dns = |text: &String| {
            text.parse().map_err(|_| Failure::new(format!("invalid IP address syntax in --dns: {text:?}")))
        };
        Ok(NetworkRequest {
            name,
            driver: if self.driver.is_empty() { "bridge".to_owned() } else { self.driver },
            subnets: self.subnet,
            gateways,
            ranges: self.ip_range,
            routes: self.route,
            link: self.interface_name.filter(|name| !name.is_empty()),
            internal: self.internal,
            ipv6: self.ipv6,
            disable_dns: self.disable_dns,
            dns_servers: strings(&self.dns).iter().map(dns).collect::<Result<_, _>>()?,
            ipam: self.ipam_driver.filter(|driver| !driver.is_empty()),
            options: pairs(&self.opt).map_err(|wrong| Failure::new(format!("unable to parse options: {wrong}")))?,
            labels: pairs(&self.label).map_err(|wrong| Failure::new(format!("failed to parse labels: {wrong}")))?,
        })
    }
}

fn address(podwire: &Podwire, text: &str) -> Result<IpAddr, Failure> {
    text.parse().map_err(|_| {
        podwire.usage(format_args!(
            "invalid argument {text:?} for \"--gateway\" flag: invalid string being converted to IP address: {text}"
        ))
    })
}

/// `key=value`, or `key` alone for an empty value; the last one of a key counts.
fn pairs(flags: &[String]) -> Result<BTreeMap<String, String>, String> {
    let pair = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(format!("invalid label format: {text:?}")),
        (key, value) => Ok((key.to_owned(), value.to_owned())),
    };
    flags.iter().map(pair).collect()
}
