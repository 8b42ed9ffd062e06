//! The cage, from inside: what is not done in it cannot be done.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// How it ends when it tries that in the cage.
fn tries(what: &str) -> ExitStatus {
    let program = env!("CARGO_BIN_EXE_podwire-relay-alone");
    Command::new(program).args(["try", what]).status().unwrap()
}

fn is_root() -> bool {
    let is_root = linux::process::is_root();
    if !is_root {
        // Not by eprintln!, which the test runner hides.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: needs root\n");
    }
    is_root
}

#[test]
fn what_the_relay_does_not_need_is_refused_in_its_cage() {
    if !is_root() {
        return;
    }
    for what in
        ["read", "list", "write", "thread", "unix socket", "netlink socket", "epoll", "memory", "init", "transparent"]
    {
        assert_eq!(tries(what).code(), Some(0), "{what}");
    }
    assert_eq!(tries("socket").code(), Some(1), "it can do what it is there for");
}

#[test]
fn what_only_an_intruder_does_ends_the_relay() {
    if !is_root() {
        return;
    }
    for what in ["unshare", "exec"] {
        let status = tries(what);
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{what}: {status}");
    }
}
