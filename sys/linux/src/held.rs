//! Namespaces that a process of ours holds for others.

use std::io;

use rustix::thread::UnshareFlags;

use crate::netns::unshare;

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
