//! One network namespace, held open, with an rtnetlink socket in it.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use linux::netns::{NetNs, NsId};
use netlink::rtnetlink::{self, Link, LinkAddress, LinkNeighbour, PortVlans, TableRoute};
use netlink::{Departure, Errno, Message, Protocol, Socket};

/// One network namespace.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) namespace: NetNs,
    pub(crate) id: NsId,
    pub(crate) route: Socket,
    /// Whether threads of this process are in it anyway.
    here: bool,
}

impl Stack {
    /// The calling thread's.
    pub(crate) fn here() -> io::Result<Self> {
        let namespace = NetNs::current()?;
        Ok(Self { id: namespace.inode()?, namespace, route: Socket::open(Protocol::Route)?, here: true })
    }

    /// Another one.
    pub(crate) fn inside(namespace: NetNs) -> io::Result<Self> {
        let route = namespace.within(|| Socket::open(Protocol::Route))??;
        Ok(Self { id: namespace.inode()?, namespace, route, here: false })
    }

    /// Sends messages; one result per message.
    pub(crate) fn batch(&mut self, messages: &[Message]) -> io::Result<Vec<Result<(), Errno>>> {
        self.route.batch(messages)
    }

    /// The link of this name, or with this as an alternative name.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.route.get(rtnetlink::link_named(name))?.as_ref().and_then(Link::read))
    }

    /// The link with this index.
    pub(crate) fn link_at(&mut self, index: u32) -> io::Result<Option<Link>> {
        Ok(self.route.get(rtnetlink::link_indexed(index))?.as_ref().and_then(Link::read))
    }

    /// Removes the link with this index; returns when it is gone, which is before the kernel answers.
    pub(crate) fn remove_link(&self, index: u32) -> io::Result<Result<(), Errno>> {
        self.departure()?.remove(index)
    }

    /// Sockets to remove a link with.
    pub(crate) fn departure(&self) -> io::Result<Departure> {
        if self.here { Departure::open() } else { self.namespace.within(Departure::open)? }
    }

    /// All links.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        Ok(self.route.dump(rtnetlink::links())?.iter().filter_map(Link::read).collect())
    }

    /// The addresses of one link, or of all with index 0.
    pub(crate) fn addresses(&mut self, index: u32) -> io::Result<Vec<LinkAddress>> {
        let replies = self.route.dump(rtnetlink::addresses(index))?;
        // A kernel without strict checks ignores the filter.
        let wanted = |address: &LinkAddress| index == 0 || address.index == index;
        Ok(replies.iter().filter_map(LinkAddress::read).filter(wanted).collect())
    }

    /// All neighbours whose MAC addresses are known.
    pub(crate) fn neighbours(&mut self) -> io::Result<Vec<LinkNeighbour>> {
        Ok(self.route.dump(rtnetlink::neighbours())?.iter().filter_map(LinkNeighbour::read).collect())
    }

    /// One family's routes in one table, or in all with `None`.
    pub(crate) fn routes(&mut self, ipv4: bool, table: Option<u32>) -> io::Result<Vec<TableRoute>> {
        match self.route.dump(rtnetlink::routes(ipv4, table)) {
            // ENOENT: no route was ever added to that table; the others: the kernel has no such family.
            Err(e) if matches!(Errno::code_of(&e), libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {
                Ok(Vec::new())
            }
            replies => {
                // A kernel without strict checks ignores the filter.
                let wanted = |route: &TableRoute| table.is_none_or(|table| table == route.table);
                Ok(replies?.iter().filter_map(TableRoute::read).filter(wanted).collect())
            }
        }
    }

    /// The VLANs of a bridge's member; `None` when the kernel or the bridge knows none.
    pub(crate) fn port_vlans(&mut self, index: u32) -> io::Result<Option<PortVlans>> {
        let replies = self.route.dump(rtnetlink::port_vlans())?;
        Ok(replies.iter().filter_map(PortVlans::read).find(|port| port.index == index && !port.vlans.is_empty()))
    }

    /// The addresses this stack answers to, without those of loopback and link-local ones.
    pub(crate) fn global_addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        let addresses = self.addresses(0)?.into_iter().map(|address| address.ip);
        Ok(addresses.filter(|ip| !ip.is_loopback() && !is_link_local(*ip)).collect())
    }

    /// A setting's text without its line end; `None` when the kernel has no such setting.
    pub(crate) fn sysctl(&self, path: &str) -> io::Result<Option<String>> {
        let file = sysctl_file(path)?;
        self.within(|| read_setting(file))?
    }

    /// As [`Stack::sysctl`], for several, with one change of namespace.
    pub(crate) fn sysctls(&self, paths: &[String]) -> io::Result<Vec<Option<String>>> {
        let files = paths.iter().map(|path| sysctl_file(path)).collect::<io::Result<Vec<_>>>()?;
        self.within(|| files.into_iter().map(read_setting).collect())?
    }

    /// Writes a setting.
    pub(crate) fn write_sysctl(&self, path: &str, value: &str) -> io::Result<()> {
        let file = sysctl_file(path)?;
        self.within(|| std::fs::write(file, value))?
    }

    /// Is a setting as wished, with `value` or none there? Where there is no IPv6 there is nothing to be set; nor are
    /// there limits of the whole kernel in any but its first namespace. Of such limits a higher one is as good.
    pub(crate) fn satisfies(&self, value: Option<&str>, path: &str, wanted: &str) -> io::Result<bool> {
        Ok(match value {
            Some(value) => value == wanted || (is_limit(path) && at_least(value, wanted)),
            None => is_limit(path) || (path.starts_with("net/ipv6/") && !self.has_ipv6()?),
        })
    }

    /// Whether the kernel has IPv6 at all here.
    fn has_ipv6(&self) -> io::Result<bool> {
        self.within(|| std::path::Path::new("/proc/sys/net/ipv6").exists())
    }

    fn within<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        if self.here { Ok(f()) } else { self.namespace.within(f) }
    }
}

fn read_setting(file: PathBuf) -> io::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `fe80::/10`, whatever link it is on, and `169.254.0.0/16`.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The size of a table that all namespaces share.
fn is_limit(path: &str) -> bool {
    path.contains("/neigh/default/gc_thresh")
}

fn at_least(value: &str, wanted: &str) -> bool {
    matches!((value.parse::<u64>(), wanted.parse::<u64>()), (Ok(value), Ok(wanted)) if value >= wanted)
}

/// The file of a setting of the network stack; every part is one plain name, so that no path leads elsewhere.
fn sysctl_file(path: &str) -> io::Result<PathBuf> {
    let plain = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(known)
    };
    if path.starts_with("net/") && path.split('/').all(plain) {
        Ok(PathBuf::from("/proc/sys").join(path))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is not a setting of the network stack")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_file_below_proc_sys_net() {
        let file = |path| sysctl_file(path).map(|file| file.display().to_string()).map_err(|e| e.to_string());
        assert_eq!(file("net/ipv4/conf/br.1/forwarding").unwrap(), "/proc/sys/net/ipv4/conf/br.1/forwarding");
        for bad in
            ["kernel/core_pattern", "net/../kernel/core_pattern", "/net/x", "net//x", "net/", "net/a b", "net/./x", ""]
        {
            assert_eq!(file(bad).unwrap_err(), format!("{bad:?} is not a setting of the network stack"));
        }
    }

    #[test]
    fn a_higher_limit_is_kept_and_one_that_cannot_be_set_is_let_be() {
        let stack = Stack::here().unwrap();
        let fine = |value, path| stack.satisfies(value, path, "16384").unwrap();
        let limit = "net/ipv6/neigh/default/gc_thresh2";
        assert!(fine(Some("16384"), limit) && fine(Some("100000"), limit) && fine(None, limit));
        assert!(!fine(Some("512"), limit) && !fine(Some(""), limit));
        assert!(!fine(Some("100000"), "net/ipv4/conf/all/x") && !fine(None, "net/ipv4/conf/all/x"));
    }

    #[test]
    fn link_local_addresses_are_known_in_both_families() {
        let known = |text: &str| is_link_local(text.parse().unwrap());
        assert!(known("fe80::1") && known("169.254.3.4"));
        assert!(!known("fd00::1") && !known("10.88.0.1"));
    }
}
