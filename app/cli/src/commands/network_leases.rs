//! `podwire network leases`

use std::time::Duration;

use engine::LeaseRow;
use jiff::Timestamp;

use crate::ages;
use crate::flags::{self, Command};
use crate::formats::Listing;
use crate::global::Podwire;
use crate::outcome::Outcome;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct NetworkLeases {
    /// Change the output format to JSON or a Go template: .Container, .Network, .Address, .Server, .Expires …
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Print no headings
    #[arg(short, long)]
    noheading: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for NetworkLeases {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::at_most(1, &self.arguments)?;
        let engine = podwire.engine()?;
        let network = self.arguments.first().map(|name| engine.network(name)).transpose()?;
        let leases = engine.leases(network.map(|network| network.id).as_ref())?;
        let (now, since_boot) = (Timestamp::now(), engine::since_boot());
        let rows: Vec<_> = leases.iter().map(|lease| row(lease, now, since_boot)).collect();
        Listing {
            name: "leases",
            format: &self.format,
            default: "table {{.Container}}\t{{.Network}}\t{{.Address}}\t{{.Server}}\t{{.Expires}}",
            headings: &[],
            header: !self.noheading,
        }
        .print(&rows)?;
        Ok(0)
    }
}

/// `since_boot` is now on the clock of leases, whose ends are told on the calendar.
fn row(row: &LeaseRow, now: Timestamp, since_boot: Duration) -> Value {
    let configuration = &row.configuration;
    let time = |moment: Duration| whole_seconds(now, moment, since_boot);
    let texts = |all: Vec<String>| Value::list(all.into_iter().map(Value::text));
    let routes = configuration.routes.iter().map(|route| match route.gateway {
        Some(gateway) => format!("{},{gateway}", route.destination),
        None => route.destination.to_string(),
    });
    Value::record(
        "network.Lease",
        vec![
            Field::named("Container", "container", row.container_name.as_str()),
            Field::named("ContainerID", "container_id", row.container.to_string()),
            Field::named("Network", "network", row.network_name.as_str()),
            Field::named("NetworkID", "network_id", row.network.to_string()),
            Field::named("Address", "address", row.address.to_string()),
            Field::named("Server", "server", row.server.as_str()),
            Field::named("Obtained", "obtained", time(row.obtained)),
            Field::named("Expires", "expires", row.end.map_or_else(|| Value::text("never"), time)),
            Field::named("Routes", "routes", texts(routes.collect())),
            Field::named("DNS", "dns", texts(row.dns.iter().map(ToString::to_string).collect())),
            Field::named("Domain", "domain", configuration.domain.as_ref().map_or("", |name| name.as_str())),
            Field::named("Search", "search", texts(configuration.search.iter().map(ToString::to_string).collect())),
            Field::named("NTP", "ntp", texts(configuration.ntp.iter().map(ToString::to_string).collect())),
            Field::named("MTU", "mtu", Value::Int(configuration.mtu.unwrap_or(0).into())),
        ],
    )
}

fn whole_seconds(now: Timestamp, moment: Duration, since_boot: Duration) -> Value {
    let from_now = moment.as_secs().cast_signed() - since_boot.as_secs().cast_signed();
    // A lease of 2^32 seconds from now is still within the calendar of jiff.
    let time = Timestamp::from_second(now.as_second().saturating_add(from_now)).unwrap_or(Timestamp::MAX);
    Value::shown(ages::go_time(time), ages::go_time(time), time.to_string())
}
