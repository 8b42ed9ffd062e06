//! `-p`, and `--publish-rm` of what was published: each line a `-p`, the last one what is taken back.
#![no_main]

use std::collections::BTreeSet;

use engine::config::PortText;
use libfuzzer_sys::fuzz_target;
use model::port::Unpublish;
use model::{PortMapping, PortSpec};

/// What is understood can be said again, stays within the ports there are, and is stored as what it is.
fn check(text: &str) -> Option<PortSpec> {
    let spec: PortSpec = text.parse().ok()?;
    let printed = spec.to_string();
    assert_eq!(printed.parse(), Ok(spec), "{text:?} is printed as {printed:?}");
    assert!(spec.range >= 1 && spec.container_port >= 1 && spec.host_port != Some(0));
    let last = |first: u16| u32::from(first) + u32::from(spec.range) - 1;
    assert!(last(spec.container_port) <= 65_535 && spec.host_port.is_none_or(|port| last(port) <= 65_535));
    let stored = serde_json::to_string(&text.parse::<PortText>().expect("parsed before")).expect("a text");
    assert_eq!(serde_json::from_str::<PortText>(&stored).expect("stored before").spec, spec);
    Some(spec)
}

/// Each port with where it leads.
fn ports(mappings: &[PortMapping]) -> BTreeSet<(String, u16, u16)> {
    let each = |m: &PortMapping| {
        let key = format!("{} {}", m.host, m.protocol);
        let container = m.container_port;
        m.host_ports().enumerate().map(move |(n, port)| (key.clone(), port, container + n as u16)).collect::<Vec<_>>()
    };
    mappings.iter().flat_map(each).collect()
}

fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.lines().take(8).collect();
    let mut published: Vec<PortMapping> = Vec::new();
    for spec in lines.iter().filter_map(|line| check(line)) {
        let mapping = spec.at(spec.host_port.unwrap_or(spec.container_port));
        assert!(mapping.clashes(&mapping));
        if mapping.range <= 1_000 && !published.iter().any(|other| other.clashes(&mapping)) {
            published.push(mapping);
        }
    }
    let Some(Ok(unpublish)) = lines.last().map(|line| line.parse::<Unpublish>()) else { return };
    assert_eq!(unpublish.to_string().parse(), Ok(unpublish), "printed as {unpublish}");
    if let Ok(remaining) = unpublish.remains_of(&published) {
        let (before, after) = (ports(&published), ports(&remaining));
        assert!(after.len() < before.len() && after.is_subset(&before), "{unpublish} of {published:?}: {remaining:?}");
    }
});
