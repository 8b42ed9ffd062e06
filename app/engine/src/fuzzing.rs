//! Doors for fuzzers: whatever the text, these return.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::HostEntry;
use crate::files::{HostsFile, ResolvConf};

/// Reads `text` as the host's resolv.conf: what a file made of it says is the same.
pub fn resolv_conf(text: &str) {
    let conf = ResolvConf::parse(text);
    assert_eq!(ResolvConf::parse(&conf.text()), conf, "{}", conf.text());
}

/// Makes a container's hosts file beside the host's `text`; every line of it must be an address and names.
pub fn hosts(text: &str) {
    let ip = IpAddr::from(Ipv4Addr::new(10, 88, 0, 2));
    let added = [HostEntry { names: vec!["db".parse().expect("a name")], ip: None }];
    let file = HostsFile { added: &added, host_file: text, host_ip: Some(ip), own: &[ip], own_names: &["web"] };
    let made = file.text();
    for line in made.lines() {
        let (ip, names) = line.split_once('\t').expect("an address, a tabulator, names");
        assert!(ip.parse::<IpAddr>().is_ok() && names.split(' ').all(|name| !name.is_empty()), "{line:?}");
    }
    assert!(made.lines().any(|line| line == "10.88.0.2\tdb") && made.lines().any(|line| line == "10.88.0.2\tweb"));
}
