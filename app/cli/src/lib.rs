//! The `podwire` command: Podman's words for the engine.
//!
//! ```text
//!   argv ──flags──> one command's struct ──container──> ContainerConfig ──> Engine
//!                                                        Engine ──> records ──formats──> table, JSON, template
//! ```
//!
//! **How it works.** [`commands`] is the list of commands, one file each; [`flags`] finds the one that is called
//! and parses its flags by pflag's rules; what the engine gives back is shown by [`formats`], with Go's
//! templates ([`template`]) and Go's columns ([`table`]).
//!
//! **Invariants.** Nothing is done before the whole command line has been understood. A flag is obeyed or
//! refused, never ignored. Only this crate prints.
//!
//! **Limits.** What Podman has beyond this is refused by name ([`unsupported`]).
//!
//! **Start reading** at [`commands::COMMANDS`], then `commands/run.rs`.

mod ages;
mod choice;
mod commands;
mod conf;
mod confirm;
mod container;
mod filters;
mod flags;
mod foreground;
mod formats;
#[doc(hidden)]
pub mod fuzzing;
mod global;
mod help;
mod networks;
mod outcome;
mod pods;
mod ports;
mod progress;
mod registry_access;
mod sizes;
mod table;
mod template;
mod tree;
mod unsupported;
mod volumes;

use std::process::ExitCode;

use outcome::Failure;

/// The whole program, whatever name it was started under: what `main` is made of.
pub fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    // The engine starts us again under these names to stay with a container.
    let named = |name| argv.first().is_some_and(|arg| arg == name);
    if named(engine::MONITOR_NAME) {
        return ExitCode::from((engine::monitor_main() & 0xff) as u8);
    }
    if named(engine::HEALTH_NAME) {
        return ExitCode::from((engine::health_main() & 0xff) as u8);
    }
    if named(engine::netd::NETD_NAME) {
        return ExitCode::from((netd::netd_main() & 0xff) as u8);
    }
    if named(engine::KEEPER_NAME) {
        return ExitCode::from((engine::keeper_main() & 0xff) as u8);
    }
    if named(engine::pods::PAUSE_NAME) {
        return ExitCode::from((engine::pods::pause_main() & 0xff) as u8);
    }
    if named(engine::relay_client::RELAY_NAME) {
        return ExitCode::from((relay::relay_main() & 0xff) as u8);
    }
    if named(engine::relay_client::LOOKOUT_NAME) {
        return ExitCode::from((relay::lookout_main() & 0xff) as u8);
    }
    if named(engine::rootless::HOLDER_NAME) {
        return ExitCode::from((engine::rootless::holder_main() & 0xff) as u8);
    }
    std::panic::set_hook(Box::new(|panic| {
        let panic = panic.to_string().replace('\n', " ");
        global::complain(format_args!("Error: podwire met a state it does not know (a bug): {panic}"));
    }));
    let run = || commands::completion::answer(&argv).unwrap_or_else(|| flags::run(argv));
    match std::panic::catch_unwind(run).unwrap_or_else(|_| Err(Failure::new(""))) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.message.is_empty() {
                global::complain(format_args!("Error: {}", failure.message));
            }
            ExitCode::from(failure.code)
        }
    }
}
