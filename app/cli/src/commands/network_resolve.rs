//! `podwire network resolve`

use model::DnsName;

use crate::flags::{self, Command};
use crate::formats::Listing;
use crate::global::{Podwire, complain, say};
use crate::outcome::Outcome;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct NetworkResolve {
    /// Change the output format to JSON or a Go template: .Name, .Address, .Network
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkResolve {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let name: DnsName = self.arguments[0].trim_end_matches('.').parse()?;
        let found = podwire.engine()?.resolve_name(&name)?;
        if found.is_empty() {
            complain(format_args!(
                "Error: no running container has the name {name} on a network with DNS: name not found"
            ));
            return Ok(1);
        }
        if self.format.is_empty() {
            found.iter().try_for_each(|(_, ip)| say(ip))?;
            return Ok(0);
        }
        let row = |(network, ip): &(model::NetworkName, std::net::IpAddr)| {
            Value::record(
                "network.Resolved",
                vec![
                    Field::named("Name", "name", name.as_str()),
                    Field::named("Address", "address", ip.to_string()),
                    Field::named("Network", "network", network.as_str()),
                ],
            )
        };
        let rows: Vec<_> = found.iter().map(row).collect();
        let default = "table {{.Name}}\t{{.Address}}\t{{.Network}}";
        Listing { name: "resolve", format: &self.format, default, headings: &[], header: true }.print(&rows)?;
        Ok(0)
    }
}
