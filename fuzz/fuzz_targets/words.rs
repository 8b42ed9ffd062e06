//! Every noun that is parsed from text: printed, it is read as the same; what comes through is safe in paths and files.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use model::{
    Addr, ContainerId, ContainerName, DnsName, HostAddress, Hostname, LinkName, MacAddr, NetworkName, Pool, Protocol,
    Subnet,
};
use plan::{Mark, SandboxName};

/// The value, after it was printed and read again.
fn read<T: FromStr + Display + Debug + PartialEq>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let printed = value.to_string();
    assert_eq!(printed.parse::<T>().ok().as_ref(), Some(&value), "{text:?} is printed as {printed:?}");
    Some(value)
}

/// Nothing that a shell, a path, a hosts file or a ruleset could take for more than a name.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && text != ".." && text != "."
}

fuzz_target!(|text: &str| {
    if let Some(subnet) = read::<Subnet>(text) {
        assert_eq!(Subnet::around(subnet.network(), subnet.len()), Ok(subnet));
        assert!(subnet.contains(subnet.last()) && subnet.overlaps(&subnet));
    }
    if let Some(addr) = read::<Addr>(text) {
        assert!(addr.subnet().contains(addr.ip));
    }
    if let Some(mac) = read::<MacAddr>(text) {
        assert_eq!(mac.octets()[0] & 1, 0);
    }
    read::<HostAddress>(text);
    read::<Protocol>(text);
    read::<ContainerId>(text);
    let names = [
        read::<LinkName>(text).map(|name| name.to_string()),
        read::<NetworkName>(text).map(|name| name.to_string()),
        read::<ContainerName>(text).map(|name| name.to_string()),
        read::<DnsName>(text).map(|name| name.to_string()),
        read::<Hostname>(text).map(|name| name.to_string()),
        read::<SandboxName>(text).map(|name| name.to_string()),
    ];
    for name in names.into_iter().flatten() {
        assert!(name == text && is_plain(&name), "{name:?}");
    }
    if let Some(mark) = Mark::read(text) {
        assert_eq!(Mark::new(mark.instance(), mark.owner()).as_str(), text);
    }
    // `SUBNET RANGE`, as in `--subnet` and `--ip-range`.
    let (subnet, range) = text.split_once(' ').unwrap_or((text, text));
    if let Some(Ok(pool)) = subnet.parse().ok().map(|subnet| Pool::parse(subnet, range)) {
        let subnet: Subnet = subnet.parse().expect("as before");
        assert!(subnet.contains(pool.first()) && subnet.contains(pool.last()) && pool.first() <= pool.last());
    }
});
