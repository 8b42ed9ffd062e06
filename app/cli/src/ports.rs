//! Port mappings as Podman writes them: neighbours merged, by protocol.

use model::{HostAddress, PortMapping, Protocol};

/// `0.0.0.0:9000-9001->90-91/tcp, 99/tcp`: published ports, then the exposed ones that are not published.
pub(crate) fn text(published: &[PortMapping], exposed: &[(u16, u16, Protocol)]) -> String {
    let merged = merge(published);
    let published_text = merged.iter().map(|m| {
        format!("{}:{}->{}/{}", host(m.host), span(m.host_port, m.range), span(m.container_port, m.range), m.protocol)
    });
    let hidden = |port: u16, protocol: Protocol| {
        merged.iter().any(|m| m.protocol == protocol && covers(m.container_port, m.range, port))
    };
    let mut ports: Vec<(Protocol, u16)> = exposed
        .iter()
        .flat_map(|&(first, count, protocol)| (0..count).map(move |n| (protocol, first.saturating_add(n))))
        .filter(|&(protocol, port)| !hidden(port, protocol))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let mut spans: Vec<(Protocol, u16, u16)> = Vec::new();
    for (protocol, port) in ports {
        match spans.last_mut() {
            Some((p, first, count)) if *p == protocol && u32::from(*first) + u32::from(*count) == u32::from(port) => {
                *count += 1
            }
            _ => spans.push((protocol, port, 1)),
        }
    }
    let exposed_text = spans.iter().map(|(protocol, first, count)| format!("{}/{protocol}", span(*first, *count)));
    published_text.chain(exposed_text).collect::<Vec<_>>().join(", ")
}

/// Sorted by protocol, address and port; neighbours become one.
pub(crate) fn merge(published: &[PortMapping]) -> Vec<PortMapping> {
    let mut ports = published.to_vec();
    ports.sort_by_key(|m| (m.protocol, m.host, m.host_port));
    let mut merged: Vec<PortMapping> = Vec::new();
    for port in ports {
        let follows = |m: &PortMapping| {
            (m.protocol, m.host) == (port.protocol, port.host)
                && u32::from(m.host_port) + u32::from(m.range) == u32::from(port.host_port)
                && u32::from(m.container_port) + u32::from(m.range) == u32::from(port.container_port)
        };
        match merged.last_mut().filter(|m| follows(m)) {
            Some(last) => last.range += port.range,
            None => merged.push(port),
        }
    }
    merged
}

/// Podman shows every address as that of IPv4.
pub(crate) fn host(host: HostAddress) -> String {
    match host {
        HostAddress::Any => "0.0.0.0".to_owned(),
        HostAddress::Ip(ip) => ip.to_string(),
    }
}

fn span(first: u16, count: u16) -> String {
    match count {
        0 | 1 => first.to_string(),
        count => format!("{first}-{}", u32::from(first) + u32::from(count) - 1),
    }
}

fn covers(first: u16, count: u16, port: u16) -> bool {
    port >= first && u32::from(port) < u32::from(first) + u32::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> PortMapping {
        let spec: model::PortSpec = text.parse().unwrap();
        spec.at(spec.host_port.unwrap())
    }

    fn check(published: &[&str], exposed: &[(u16, u16, Protocol)], shown: &str) {
        let published: Vec<PortMapping> = published.iter().map(|p| mapping(p)).collect();
        assert_eq!(text(&published, exposed), shown);
    }

    #[test]
    fn ports_are_merged_and_sorted_as_in_podman_ps() {
        check(&["8080:80"], &[], "0.0.0.0:8080->80/tcp");
        check(&["8080:80", "8081:81", "8082:82"], &[], "0.0.0.0:8080-8082->80-82/tcp");
        check(&["8080-8083:80-83"], &[], "0.0.0.0:8080-8083->80-83/tcp");
        check(&["[::1]:8080:80"], &[], "::1:8080->80/tcp");
        check(
            &["8080:80", "8080:80/udp", "9000:90", "9001:91", "7000:70"],
            &[(99, 1, Protocol::Tcp), (100, 2, Protocol::Udp), (80, 1, Protocol::Tcp)],
            "0.0.0.0:7000->70/tcp, 0.0.0.0:8080->80/tcp, 0.0.0.0:9000-9001->90-91/tcp, 0.0.0.0:8080->80/udp, 99/tcp, 100-101/udp",
        );
    }

    #[test]
    fn the_highest_ports_do_not_overflow() {
        check(&["1-65535:1-65535"], &[(65535, 1, Protocol::Udp)], "0.0.0.0:1-65535->1-65535/tcp, 65535/udp");
        check(&["65534:65534", "65535:65535"], &[], "0.0.0.0:65534-65535->65534-65535/tcp");
    }
}
