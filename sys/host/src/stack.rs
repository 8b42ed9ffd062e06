//! One network namespace, held open, with an rtnetlink socket in it.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use linux::netns::{NetNs, NsId};
use netlink::rtnetlink::{self, Link, LinkAddress, MainRoute};
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

    /// One family's main table.
    pub(crate) fn routes(&mut self, ipv4: bool) -> io::Result<Vec<MainRoute>> {
        match self.route.dump(rtnetlink::routes(ipv4)) {
            // ENOENT: no route was ever added to that table; the others: the kernel has no such family.
            Err(e) if matches!(Errno::code_of(&e), libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {
                Ok(Vec::new())
            }
            replies => Ok(replies?.iter().filter_map(MainRoute::read).collect()),
        }
    }

    /// The addresses this stack answers to, without those of loopback and link-local ones.
    pub(crate) fn global_addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        let addresses = self.addresses(0)?.into_iter().map(|address| address.ip);
        Ok(addresses.filter(|ip| !ip.is_loopback() && !is_link_local(*ip)).collect())
    }

    /// A setting's text without its line end; `None` when the kernel has no such setting.
    pub(crate) fn sysctl(&self, path: &str) -> io::Result<Option<String>> {
        let file = sysctl_file(path)?;
        match self.within(|| std::fs::read_to_string(file))? {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes a setting.
    pub(crate) fn write_sysctl(&self, path: &str, value: &str) -> io::Result<()> {
        let file = sysctl_file(path)?;
        self.within(|| std::fs::write(file, value))?
    }

    /// Whether the kernel has IPv6 at all here.
    pub(crate) fn has_ipv6(&self) -> io::Result<bool> {
        self.within(|| std::path::Path::new("/proc/sys/net/ipv6").exists())
    }

    fn within<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        if self.here { Ok(f()) } else { self.namespace.within(f) }
    }
}

/// `fe80::/10`, whatever link it is on, and `169.254.0.0/16`.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
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
    fn link_local_addresses_are_known_in_both_families() {
        let known = |text: &str| is_link_local(text.parse().unwrap());
        assert!(known("fe80::1") && known("169.254.3.4"));
        assert!(!known("fd00::1") && !known("10.88.0.1"));
    }
}
