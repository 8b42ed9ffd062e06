//! Namespaces that a process of ours holds for others.

use std::io;

use std::fs::File;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::netns::unshare;
use crate::userns::UserNs;

/// Which namespaces are made beside those of System V IPC and of the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// A network stack with a `lo` that is down.
    pub network: bool,
    /// Process numbers: the next child is number 1, and when it ends all others are killed.
    pub processes: bool,
}

/// Moves the calling thread, and whatever it starts from now on, into new namespaces, where the host is called
/// `hostname`. Of process numbers only its children are moved (pid_namespaces(7)).
pub fn hold(held: Held, hostname: &str) -> io::Result<()> {
    let mut flags = UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    flags.set(UnshareFlags::NEWNET, held.network);
    flags.set(UnshareFlags::NEWPID, held.processes);
    unshare(flags)?;
    Ok(rustix::system::sethostname(hostname.as_bytes())?)
}

/// As [`hold`], and the new namespaces belong to `users`. Process numbers cannot: a namespace of them can be joined only
/// when it has a process.
pub fn hold_in(users: &UserNs, held: Held, hostname: &str) -> io::Result<()> {
    if held.processes {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut flags = UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    flags.set(UnshareFlags::NEWNET, held.network);
    let child = users.with_new(flags)?;
    let network = held.network.then_some(("net", LinkNameSpaceType::Network));
    let kinds =
        [("ipc", LinkNameSpaceType::InterProcessCommunication), ("uts", LinkNameSpaceType::HostNameAndNISDomainName)];
    for (name, kind) in kinds.into_iter().chain(network) {
        move_into_link_name_space(File::open(child.namespace_file(name))?.as_fd(), Some(kind))?;
    }
    Ok(rustix::system::sethostname(hostname.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alone, needs_root};

    #[test]
    fn the_hosts_name_is_another_one_for_the_thread_alone() {
        needs_root!();
        let before = crate::machine::host_name();
        alone(|| {
            hold(Held { network: true, processes: true }, "held").unwrap();
            assert_eq!(crate::machine::host_name(), "held");
        });
        assert_eq!(crate::machine::host_name(), before);
    }
}
