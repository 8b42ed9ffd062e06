//! The process that stays while networks have containers: their names, and the watch over what was made.
//!
//! ```text
//!   command ──INSTANCE.sock──> control ──┬─ the socket that owns the firewall's tables, by SCM_RIGHTS
//!   (host lock)                          ├─ Serve{network} ──> dns: listens on the gateways
//!                                        └─ Changed ─────────> store ─> Directory ─> zones swapped
//!   kernel ──link, addr, netconf, nftables──> watch ──> Engine::heal (host lock) ──> control
//! ```
//!
//! **How it works.** The first command that needs netd starts it, and its conversation is netd's standard input.
//! netd reads the store, takes over the firewall's tables, listens, and only then answers. It keeps nothing
//! that the store does not have: killed, it is started again by a container's monitor or the next command, and
//! serves as before. It leaves with the last container that is on a network.
//!
//! **Invariants.** It changes the kernel's networks only with the host lock held, by the same plans as commands.
//! Its sockets are bound to gateways' addresses and a port of their own, never to 53: the firewall sends it
//! what members of a network ask its gateway there, and nobody else.
//!
//! **Limits.** One store in one network namespace. A client of its control socket must be of its own user.
//!
//! **Start reading** at [`netd_main`], then `control.rs`, `dns/mod.rs`, `watch.rs`.

mod control;
mod dhcp;
pub mod dns;
mod firewall;
mod log;
mod poller;
pub mod watch;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use engine::error::Result;
use engine::netd::{NETD_NAME, Order};
use engine::{Engine, EngineOptions, SETTINGS_FILE};
use linux::cage::{self, Files};
use linux::{PacketListener, Packets};
use rustix::thread::CapabilitySet;

use control::Control;
use watch::{Outcome, Watch};

/// What `main` runs when its own name is [`NETD_NAME`]. Returns the process's exit code.
pub fn netd_main() -> i32 {
    // Started as /proc/self/exe, it would be shown as `exe`; nothing depends on the name.
    let _ = linux::process::set_name(NETD_NAME);
    let Ok(first) = first_conversation() else {
        // Somebody has called it so by hand.
        return 1;
    };
    let started = order().and_then(|order| {
        log::start(&order.options.runroot);
        start(order)
    });
    match started {
        Ok((control, listener)) => serve(&control, &listener, first),
        Err(error) => {
            control::refuse(&first, &error);
            1
        }
    }
}

fn order() -> Result<Order> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    serde_json::from_str(&argument).map_err(|e| engine::Error::at("netd's order", e))
}

/// Everything is in place when this returns: names are answered, tables owned.
fn start(order: Order) -> Result<(Arc<Control>, PacketListener)> {
    // Before there are other threads.
    engine::enter_for_netd(&order.options)?;
    let engine = Engine::open_for_netd(order.options)?;
    let wrong = |e: io::Error| engine::Error::at("cannot start netd", e);
    let namespace = linux::netns::NetNs::current().and_then(|namespace| namespace.inode()).map_err(wrong)?;
    let places = control::Places::make(namespace, engine.instance()).map_err(wrong)?;
    let firewall = firewall::take(&places)?;
    let watch = watch_over(engine.options().clone(), &firewall).map_err(wrong)?;
    let control = Control::new(engine, firewall, watch, places)?;
    control.follow_store(None)?;
    let listener = control.listen()?;
    Ok((Arc::new(control), listener))
}

/// The watch opens the store again for itself, when there is something to look at.
fn watch_over(options: EngineOptions, firewall: &netlink::Socket) -> io::Result<Watch> {
    let socket = firewall.as_fd().try_clone_to_owned()?;
    let mut engine = None;
    Watch::start(move |suspicion| {
        if engine.is_none() {
            match Engine::open_for_netd(options.clone()) {
                Ok(opened) => engine = Some(opened),
                Err(error) => {
                    tracing::warn!(%error, "cannot look at what may be amiss");
                    return Outcome::Failed;
                }
            }
        }
        match (&engine, socket.try_clone()) {
            (Some(engine), Ok(socket)) => watch::look(engine, Some(socket), suspicion, Path::new(SETTINGS_FILE)),
            _ => Outcome::Failed,
        }
    })
}

fn serve(control: &Arc<Control>, listener: &PacketListener, first: Packets) -> i32 {
    control.converse(first);
    loop {
        match listener.accept() {
            Ok(packets) => control.converse(packets),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a conversation");
                // Descriptors or memory are short: they will not be less so at once.
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }
}

fn first_conversation() -> io::Result<Packets> {
    Packets::from_fd(io::stdin().as_fd().try_clone_to_owned()?)
}

/// Takes from the calling thread, for ever, what one that reads what strangers wrote does not need: all capabilities
/// but these, and the right to change any file by its path.
fn read_strangers(kept: CapabilitySet) -> io::Result<()> {
    cage::keep_only(kept)?;
    if !cage::touch_files(Files::Read)? {
        tracing::warn!("this kernel has no Landlock: files that root may write are not closed to netd's threads");
    }
    Ok(())
}
