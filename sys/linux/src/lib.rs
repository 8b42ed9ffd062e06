//! What podwire asks of Linux beyond the standard library: namespaces, mounts, processes, ports, terminals.
//!
//! ```text
//!   netns    /run/netns/podwire-2f259bab93aa ──open──> NetNs ──within(|| …)──> this thread, and back
//!   mounts   overlay · bind · cgroup2 · private namespace
//!   spawn    Command + chosen descriptors + session + the OCI runtime's mounts ──> Child
//!   process  ProcessRef (pid + start time) ── alive · signal · wait
//!   ports    8080/tcp on every address ──hold──> [0.0.0.0]:8080 and [::]:8080, bound, never listening
//!   userns   /etc/subuid ──newuidmap──> a user namespace ──join(pidfd)──> root in there
//!   tun      /dev/net/tun ──create("pwrelay")──> packets · transparent: sockets with addresses of others
//!   trains   UDP at any address ──recvmmsg──> Batch ──pass_on, UDP_SEGMENT──> another socket · complaints (ICMP)
//!   cage     capabilities · files · system calls: given up for good
//!   held     new namespaces for a thread and what it starts, which then holds them for others
//!   lock     one per network namespace     file  temp + fsync + rename
//!   cgroups  version 1, 2 and both ──group(name)──> make · write · freeze · kill · remove
//!   device_filter  rules ──bpf──> which devices a group's processes may open
//!   pty · fds · signal · machine
//! ```
//!
//! **How it works.** Each module wraps a handful of system calls, mostly by `rustix`, into one operation
//! that either happened or left nothing. Descriptors are owned and close-on-exec from their first moment.
//!
//! **Invariants.** The only crate with `unsafe`; each block names its callee's conditions. Decides nothing:
//! no names, paths or policies beyond those of its arguments. A process is never known by its number alone,
//! nor a namespace by its path alone.
//!
//! **Limits.** Linux 5.10 and later; what newer kernels do better (`lowerdir+`, recursive read-only binds)
//! is used when there.
//!
//! **Start reading** at [`netns::NetNs`], then [`spawn::Spawn`].

#![allow(unsafe_code)] // the one place for it; see each block's SAFETY comment

pub mod account;
pub mod cage;
pub mod cgroups;
pub mod datagrams;
pub mod device_filter;
pub mod fds;
pub mod file;
pub mod frames;
#[doc(hidden)]
pub mod fuzzing;
pub mod held;
pub mod lock;
pub mod machine;
pub mod mounts;
pub mod netlink_socket;
pub mod netns;
pub mod packets;
pub mod ports;
pub mod process;
pub mod pty;
pub mod signal;
pub mod signalfd;
pub mod spawn;
#[cfg(test)]
mod testing;
pub mod trains;
pub mod transparent;
pub mod tun;
pub mod userns;

pub use lock::HostLock;
pub use netns::{NetNs, NsId};
pub use packets::{PacketListener, Packets};
pub use process::ProcessRef;
pub use signal::Signal;
pub use signalfd::SignalFd;
pub use spawn::Spawn;
pub use tun::Tun;
