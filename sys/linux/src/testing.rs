//! Tests that touch the kernel do so on a thread in mount and network namespaces of their own.

use std::io;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

use crate::netns::{on_fresh_thread, unshare};

/// Returns from the test, saying so, unless run by root.
macro_rules! needs_root {
    () => {
        if !crate::process::is_root() {
            // Not by eprintln!, which the test runner hides.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: needs root\n");
            return;
        }
    };
}
pub(crate) use needs_root;

/// Runs `f` in fresh mount and network namespaces with an empty /run.
pub(crate) fn alone(f: impl FnOnce() + Send) {
    on_fresh_thread(|| {
        unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount("none", "/run", "tmpfs", MountFlags::empty(), c"mode=755")?;
        f();
        Ok(())
    })
    .unwrap();
}

/// Runs `f` on a thread with no effective capability.
pub(crate) fn without_capabilities<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    on_fresh_thread(|| {
        let mut sets = capabilities(None)?;
        sets.effective = CapabilitySet::empty();
        set_capabilities(None, sets)?;
        f()
    })
}

/// Brings `lo` up in the calling thread's network namespace.
pub(crate) fn loopback_up() {
    let status = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(status.success());
}

/// Between fork and exec a child has copies of all our descriptors, which for that long keep ports and locks
/// that a test has let go. So tests that start programs and tests that let go do not run at the same time.
static FORKS: RwLock<()> = RwLock::new(());

/// For tests that start programs.
pub(crate) fn starting_programs() -> RwLockReadGuard<'static, ()> {
    FORKS.read().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that need what they close to be closed.
pub(crate) fn undisturbed() -> RwLockWriteGuard<'static, ()> {
    FORKS.write().unwrap_or_else(PoisonError::into_inner)
}
