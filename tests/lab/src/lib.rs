//! Labs: a whole test host with its neighbourhood, in namespaces of its own, gone when its holder ends.
//!
//! ```text
//!  one lab = one `unshare` process (mount, net, uts, ipc and pid namespaces) with a reaping init
//!
//!   network "outside"                         network of the lab itself: "the host"
//!   eth0 192.168.99.1/24  fd99::1/64 ──veth── eth0 192.168.99.109/24  fd99::109/64
//!   curl, other hosts' misbehaviour           podwire, its containers, docker-registry
//!                                             /run, /var/lib, /sys, resolv.conf of its own
//! ```
//!
//! **How it works.** [`Lab::new`] starts `unshare … labtool init`, which runs `tools/setup.sh` and then reaps
//! orphans until its standard input ends: whatever happens to the test, its lab dies with it. Commands are
//! shell lines run inside by `nsenter` ([`Lab::host`], [`Lab::outside`]); a lab remembers what it ran and
//! prints that, with links, routes and rules, when a test fails. [`State`] is everything that a container
//! could leave behind, and compares. `labtool trace` kills a podwire process at its n-th system call, or
//! makes that call fail.
//!
//! **Invariants.** Nothing outside the lab changes: no link, mount, process or file of the machine. Labs do
//! not see each other. No command runs longer than [`COMMAND_LIMIT`], no lab longer than [`LAB_LIMIT`].
//!
//! **Limits.** Needs root, a kernel with namespaces and overlayfs, and Debian's iproute2, nftables, curl,
//! python3, crun and busybox-static. What else a test needs it names ([`trial::Need`]), and is skipped with the
//! reason where that is missing.
//!
//! **Start reading** at [`Lab`], then `tests/lab/publish.rs`.

pub mod image;
pub mod registry;
pub mod state;
pub mod trace;
pub mod trial;

mod groups;
mod holder;

pub use holder::{
    Background, COMMAND_LIMIT, LAB_LIMIT, Lab, LabOptions, Mounts, Run, Sandboxed, USER, USER_ID, executable,
};
pub use state::State;

/// The address of the lab's host as its neighbours see it.
pub const HOST4: &str = "192.168.99.109";
/// As [`HOST4`], for IPv6.
pub const HOST6: &str = "fd99::109";
/// The address of the neighbour.
pub const OUTSIDE4: &str = "192.168.99.1";
/// As [`OUTSIDE4`], for IPv6.
pub const OUTSIDE6: &str = "fd99::1";
/// The line that the web server of [`image::banner`] answers with.
pub const BANNER: &str = "podwire: the web server in the container says hello";
