//! `podwire port`

use model::{PortMapping, Protocol};

use super::network_reload::latest;
use crate::flags::Command;
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};
use crate::ports;

#[derive(clap::Args)]
pub(crate) struct Port {
    /// All running containers
    #[arg(short, long)]
    all: bool,
    /// The container that was created last
    #[arg(short, long)]
    latest: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Port {
    fn run(self, podwire: &Podwire) -> Outcome {
        if self.arguments.len() > 2 {
            return Err(Failure::new("`port` accepts at most 2 arguments"));
        }
        if self.all && self.latest {
            return Err(Failure::new("--all and --latest cannot be used together"));
        }
        let mut arguments = self.arguments;
        if self.latest {
            arguments.insert(0, latest(&podwire.engine()?)?);
        }
        match (self.all, &arguments[..]) {
            (true, []) => {
                for container in podwire.engine()?.list()?.iter().filter(|c| c.state.is_running()) {
                    for line in lines(&container.ports, None) {
                        say(format_args!("{}\t{line}", container.id.short()))?;
                    }
                }
                Ok(0)
            }
            (true, _) => Err(Failure::new("no arguments are needed with --all")),
            (false, []) => Err(Failure::new("you must supply a running container name or id")),
            (false, [name, rest @ ..]) => {
                let wish = rest.first().map(|text| Wanted::parse(text)).transpose()?;
                let engine = podwire.engine()?;
                let mappings = engine.port(name)?;
                let found = lines(&mappings, wish.as_ref());
                if let Some(text) = rest.first().filter(|_| found.is_empty()) {
                    return Err(Failure::new(format!("failed to find published port {text:?}")));
                }
                found.iter().try_for_each(say)?;
                Ok(0)
            }
        }
    }
}

/// Is this a port of a container, as the command takes it?
pub(crate) fn is_port(text: &str) -> bool {
    Wanted::parse(text).is_ok()
}

/// `80` or `80/udp`.
struct Wanted {
    port: u16,
    protocol: Protocol,
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut parts = text.split('/');
        let number = parts.next().unwrap_or_default();
        let protocol = parts.next().unwrap_or("tcp");
        if parts.next().is_some() {
            return Err(Failure::new(format!("port formats are port/protocol. '{text}' is invalid")));
        }
        let port = number.parse().map_err(|e: std::num::ParseIntError| {
            let range = matches!(e.kind(), std::num::IntErrorKind::PosOverflow);
            let what = if range { "value out of range" } else { "invalid syntax" };
            Failure::new(format!("strconv.ParseUint: parsing {number:?}: {what}"))
        })?;
        Ok(Self { port, protocol: protocol.parse()? })
    }
}

/// `80/tcp -> 0.0.0.0:8080`, one line per port; only the host's side when one port is wanted.
fn lines(mappings: &[PortMapping], wanted: Option<&Wanted>) -> Vec<String> {
    let single = mappings.iter().flat_map(|m| {
        (0..m.range).map(|n| (m.container_port.saturating_add(n), m.host, m.host_port.saturating_add(n), m.protocol))
    });
    single
        .filter(|(port, _, _, protocol)| wanted.is_none_or(|w| (w.port, w.protocol) == (*port, *protocol)))
        .map(|(port, host, host_port, protocol)| {
            let outside = format!("{}:{host_port}", ports::host(host));
            if wanted.is_some() { outside } else { format!("{port}/{protocol} -> {outside}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_as_podman_lists_them() {
        let spec: model::PortSpec = "127.0.0.1:8080-8081:80-81".parse().unwrap();
        let mappings = [spec.at(8080)];
        assert_eq!(lines(&mappings, None), ["80/tcp -> 127.0.0.1:8080", "81/tcp -> 127.0.0.1:8081"]);
        assert_eq!(lines(&mappings, Wanted::parse("81").ok().as_ref()), ["127.0.0.1:8081"]);
        assert!(lines(&mappings, Wanted::parse("80/udp").ok().as_ref()).is_empty());
    }

    #[test]
    fn wrong_ports_are_answered_in_podmans_words() {
        let check = |text: &str, message: &str| assert_eq!(Wanted::parse(text).err().unwrap().message, message);
        check("80/tcp/x", "port formats are port/protocol. '80/tcp/x' is invalid");
        check("abc", "strconv.ParseUint: parsing \"abc\": invalid syntax");
    }
}
