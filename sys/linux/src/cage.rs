//! A process of ours that holds namespaces for others, and can do nothing else.
//!
//! ```text
//!   a thread ──hold──> new ipc, uts (network, pid) ──spawn──> its child is in them ──shut_in──> no files, no rights
//! ```

use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount};
use rustix::process::{DumpableBehavior, chdir, pivot_root, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

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

/// Takes every file and every right from this process, which must have one thread only: its root becomes an empty
/// directory that cannot be written to, and nobody without rights over all of the user namespace can look into it
/// (ptrace(2)), so that it is no way out for those who share its process numbers.
pub fn shut_in() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Any directory that is everywhere will do: it is covered, and gone with all else.
    let root = Path::new("/proc");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", root, "tmpfs", flags, Some(c"size=4k,nr_inodes=1,mode=555"))?;
    chdir(root)?;
    // The old root comes to lie on the new one (pivot_root(2)), and goes with its mounts.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    mount_remount("/", flags | MountFlags::RDONLY, c"")?;
    give_up_rights()
}

fn give_up_rights() -> io::Result<()> {
    set_no_new_privs(true)?;
    let own = capabilities(None)?.permitted;
    own.iter().try_for_each(remove_capability_from_bounding_set)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alone, needs_root};

    #[test]
    fn who_is_shut_in_sees_nothing_and_may_nothing() {
        needs_root!();
        alone(|| {
            hold(Held::default(), "held").unwrap();
            assert_eq!(crate::machine::host_name(), "held");
            shut_in().unwrap();
            assert_eq!(std::fs::read_dir("/").unwrap().count(), 0);
            assert_eq!(std::fs::read_dir("/..").unwrap().count(), 0);
            let written = std::fs::write("/x", "").unwrap_err();
            assert_eq!(written.kind(), io::ErrorKind::ReadOnlyFilesystem);
            assert!(capabilities(None).unwrap().permitted.is_empty());
            assert!(mount("tmpfs", "/", "tmpfs", MountFlags::empty(), None).is_err());
        });
    }
}
