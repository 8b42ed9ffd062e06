//! `podwire network connect`

use std::net::IpAddr;

use engine::Mode;
use engine::config::AttachmentConfig;

use crate::flags::{self, Command, strings};
use crate::global::Podwire;
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct NetworkConnect {
    /// A name for the container on the network
    #[arg(long, value_name = "strings")]
    alias: Vec<String>,
    /// A fixed IPv4 address
    #[arg(long, value_name = "ip")]
    ip: Option<String>,
    /// A fixed IPv6 address
    #[arg(long, value_name = "ip")]
    ip6: Option<String>,
    /// A fixed MAC address
    #[arg(long, value_name = "string")]
    mac_address: Option<String>,
    /// Of a container's networks the one with the highest priority gives the default route; of equals the first
    #[arg(long, value_name = "int", value_parser = priority, default_value = "0", hide_default_value = true)]
    gw_priority: i32,
    /// Show the plan for the machine's network; change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkConnect {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(2, &self.arguments)?;
        let ips = [("--ip", &self.ip), ("--ip6", &self.ip6)];
        let ips = ips.into_iter().filter_map(|(flag, text)| Some((flag, text.as_deref()?)));
        let asked = AttachmentConfig {
            static_ips: ips.map(|(flag, text)| address(podwire, flag, text)).collect::<Result<_, _>>()?,
            mac: self.mac_address.as_deref().map(str::parse).transpose()?,
            aliases: strings(&self.alias).iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            gw_priority: self.gw_priority,
            ..AttachmentConfig::default()
        };
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Apply };
        podwire.show(&podwire.engine()?.connect_network(&self.arguments[0], &self.arguments[1], asked, mode)?)
    }
}

fn priority(text: &str) -> Result<i32, String> {
    let value = flags::signed(text)?;
    value.try_into().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: value out of range"))
}

fn address(podwire: &Podwire, flag: &str, text: &str) -> Result<IpAddr, Failure> {
    text.parse().map_err(|_| {
        podwire.usage(format_args!("invalid argument {text:?} for \"{flag}\" flag: failed to parse IP: {text:?}"))
    })
}
