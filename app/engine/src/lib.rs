//! Containers, images and networks as a library that never prints.
//!
//! ```text
//!   cli ──> Engine ──┬─ create ─> start ──┬─ ports held ─> Networking::up ─> files ─> monitor ─> crun
//!                    │                    └─ Stream <──── frames ────> monitor (stdin, output, exit code)
//!                    ├─ pods (an infra container, and members that use its sandbox)
//!                    ├─ stop · kill · remove · exec · logs · list · inspect
//!                    ├─ networking: desired() ─> plan ─> journal ─> host::apply
//!                    ├─ images (crate)
//!                    └─ repair: what dead commands and monitors left
//! ```
//!
//! **How it works.** A command opens an [`Engine`], which first repairs what commands that died left
//! behind, then changes the store and the machine, then ends. A process of its own, the
//! [monitor](monitor_main), stays with each running container: it owns the log, the exit code and the held
//! ports, and it takes the container down when its init process ends. With `-t` or `-i` a
//! [keeper](keeper_main) holds what would end the container's session or input if the monitor were killed.
//!
//! **Invariants.** A container in the store that changes state has an owner process; whoever finds the
//! owner dead takes over by writing itself into the same row. `run` is all or nothing: it fails before the
//! command runs and leaves no container, or the command ran.
//!
//! **Limits.** As root, or as root of an ordinary user's namespaces ([`rootless`]). One container is one process tree.
//!
//! **Start reading** at [`Engine`], then [`config::ContainerConfig`], then `start.rs`.

mod about;
mod blockers;
mod commit;
pub mod config;
mod connect;
mod control;
mod conversation;
mod copy;
mod create;
mod definitions;
mod devices;
mod dhcp;
mod down;
mod durations;
mod endpoints;
mod engine;
pub mod error;
mod etc;
mod events;
mod exchange;
mod exec;
mod files;
mod foreground;
mod fuse;
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod heal;
mod health;
mod hidden;
mod host_servers;
pub mod idmaps;
mod inspect;
mod keeper;
mod known;
mod list;
mod log;
mod logs;
mod lookup;
mod monitor;
mod names;
pub mod netd;
mod networking;
mod networks;
pub mod pods;
mod ports;
mod protocol;
mod prune;
mod pump;
mod record;
mod relay;
pub mod relay_client;
mod rename;
mod reset;
mod restart;
mod revival;
pub mod rootless;
mod rootless_net;
mod runtime;
mod seccomp;
mod settings;
mod spec;
mod stage;
mod start;
mod stats;
mod talk;
mod top;
mod usage;
mod user;
mod users;
mod volumes;

pub use about::AS_PODMAN;
pub use commit::CommitWish;
pub use connect::Mode;
pub use control::{RemoveOptions, Stopped};
pub use copy::{Found, Owner, Tree, Unpacking};
pub use dhcp::{Given, LanBegin, LanWish, LeaseRow};
pub use durations::go_duration;
pub use engine::{Engine, EngineOptions};
pub use error::{Error, Kind};
pub use events::EventSpan;
pub use exchange::{CNI_NETWORKS, PODMAN_NETWORKS};
pub use exec::ExecConfig;
pub use files::{RESOLV_CONF, RESOLVED_SERVERS, RESOLVED_STUB, nameservers};
pub use groups::Update;
pub use heal::{Healed, LeftOut, Suspicion};
pub use health::{Check, HEALTH_NAME, Health, health_main};
pub use hidden::hidden_line;
pub use host::LINK_GROUP;
pub use host_servers::HostServers;
pub use inspect::inspect_image;
pub use ipam::{NetworkRequest, SubnetPool};
pub use keeper::{KEEPER_NAME, keeper_main};
pub use known::{Known, known};
pub use linux::machine::since_boot;
pub use linux::process::set_environment;
pub use list::{MountSummary, Summary};
pub use log::{LogLine, Stream};
pub use logs::{LogOptions, LogSink};
pub use monitor::{MONITOR_NAME, monitor_main};
pub use names::{DNS_SUFFIX, Served};
pub use networks::{InterfaceAddress, NetworkContainer, NetworkInterface};
pub use ports::PortsUpdate;
pub use record::State;
pub use rootless_net::enter_for_netd;
pub use settings::{NetworkSettings, SETTINGS_FILE, Settings};
pub use stats::{Measured, Stats, Traffic};
pub use store::Event;
pub use talk::{Attach, DetachKeys, Foreground, RunEnd, RunResult, Talk};
pub use usage::{ContainerUsage, DiskUsage, VolumeUsage};
pub use volumes::{Volume, VolumeSummary};
