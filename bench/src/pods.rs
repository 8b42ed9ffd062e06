//! A pod of many containers, started and removed.

use anyhow::Result;

use crate::peers::Peer;
use crate::table::{Case, Table};

/// Debian's podman has no pause image of its own without a network to build it from.
fn create(peer: &Peer) -> &'static str {
    if peer.is_ours() {
        "pod create --name pod -p 8080:80"
    } else {
        "pod create --name pod -p 8080:80 --infra-image banner"
    }
}

fn fill(peer: &Peer, count: usize) {
    peer.quietly(create(peer));
    for i in 0..count {
        peer.quietly(&format!("create --pod pod --name member{i} banner sleep 1000"));
    }
}

/// `pod start` of pods with so many containers beside the infra container, and `pod rm -f`.
pub(crate) fn measure(rounds: usize, peers: &[Peer]) -> Result<()> {
    let mut table = Table::new("Pods", peers);
    for count in [1, 10, 50] {
        let rounds = rounds.min(if count == 50 { 3 } else { 7 });
        table.case(Case::new(&format!("`pod start`, {count} containers")), rounds, |peer, _| {
            fill(peer, count);
            let took = peer.time("pod start pod");
            peer.quietly("pod rm -f -t 0 pod");
            took
        });
        table.case(Case::new(&format!("`pod rm -f -t 0`, {count} containers")), rounds, |peer, _| {
            fill(peer, count);
            peer.quietly("pod start pod");
            peer.time("pod rm -f -t 0 pod")
        });
    }
    table.case(Case::new("`run -d` in a pod"), rounds, |peer, _| {
        peer.quietly(create(peer));
        peer.quietly("pod start pod");
        let took = peer.time("run -d --pod pod banner sleep 1000");
        peer.quietly("pod rm -f -t 0 pod");
        took
    });
    table.print();
    Ok(())
}
