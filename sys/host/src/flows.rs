//! Connection tracking entries that would keep clients away from a port's new owner.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use model::{HostAddress, PortMapping, Protocol};
use netlink::conntrack::{self, Entry};

use crate::{Host, HostError};

impl Host {
    /// Forgets the UDP and SCTP flows that were begun towards these host ports: those sent to the mapping's
    /// address (any of the host's own when it is open), and those that `containers` are to answer.
    ///
    /// To be called when a mapping has come into effect and when it is gone. A client that keeps sending
    /// then reaches whoever has the port now with its next packet. Flows that only pass through on the same
    /// port number stay.
    pub fn flush_udp(&mut self, mappings: &[PortMapping], containers: &[IpAddr]) -> Result<(), HostError> {
        let mappings: Vec<_> = mappings.iter().filter(|m| m.protocol != Protocol::Tcp).collect();
        if mappings.is_empty() {
            return Ok(());
        }
        self.flush(&mappings, containers).map_err(|cause| HostError::io("connection tracking entries", cause))
    }

    fn flush(&mut self, mappings: &[&PortMapping], containers: &[IpAddr]) -> io::Result<()> {
        let mut found = Vec::new();
        for (ipv4, protocol, port) in questions(mappings) {
            found.extend(conntrack::entries(self.netfilter()?, ipv4, protocol.number(), port)?);
        }
        if found.is_empty() {
            return Ok(());
        }
        let own = self.here.global_addresses()?;
        found.retain(|entry| mappings.iter().any(|mapping| stale(entry, mapping, &own, containers)));
        conntrack::delete_all(self.netfilter()?, &found)
    }
}

/// One question per family and protocol, with the port where it is a single one.
fn questions(mappings: &[&PortMapping]) -> BTreeSet<(bool, Protocol, Option<u16>)> {
    let mut all = BTreeSet::new();
    for protocol in [Protocol::Udp, Protocol::Sctp] {
        for ipv4 in [true, false] {
            let mut of: Vec<_> = mappings.iter().filter(|m| m.protocol == protocol && m.host.includes(ipv4)).collect();
            let Some(last) = of.pop() else { continue };
            let single = of.iter().all(|m| m.host_port == last.host_port) && last.range == 1;
            all.insert((ipv4, protocol, single.then_some(last.host_port)));
        }
    }
    all
}

/// Was the flow begun towards this mapping?
fn stale(entry: &Entry, mapping: &PortMapping, own: &[IpAddr], containers: &[IpAddr]) -> bool {
    let distance = entry.to_port.checked_sub(mapping.host_port);
    let port = entry.protocol == mapping.protocol.number() && distance.is_some_and(|n| n < mapping.range);
    let ours = |ip: IpAddr| own.contains(&ip) || ip.is_loopback();
    let address = match mapping.host {
        HostAddress::Ip(ip) if !ip.is_unspecified() => entry.to == ip,
        open => open.includes(entry.to.is_ipv4()) && ours(entry.to),
    };
    port && (address || (containers.contains(&entry.answers) && entry.answers != entry.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> PortMapping {
        let spec: model::PortSpec = text.parse().unwrap();
        spec.at(spec.host_port.unwrap())
    }

    fn check(mappings: &[&str], asked: &str) {
        let mappings: Vec<_> = mappings.iter().map(|text| mapping(text)).collect();
        let said: Vec<_> = questions(&mappings.iter().collect::<Vec<_>>())
            .into_iter()
            .map(|(ipv4, protocol, port)| format!("{}{protocol}{port:?}", if ipv4 { "ip " } else { "ip6 " }))
            .collect();
        assert_eq!(said.join(", "), asked);
    }

    #[test]
    fn one_question_per_family_and_protocol_is_asked() {
        check(&["127.0.0.1:53:53/udp"], "ip udpSome(53)");
        check(&["53:53/udp"], "ip6 udpSome(53), ip udpSome(53)");
        check(&["0.0.0.0:53:53/udp", "0.0.0.0:54:54/udp"], "ip udpNone");
        check(&["0.0.0.0:53-60:53-60/sctp"], "ip sctpNone");
    }
}
