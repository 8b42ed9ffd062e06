//! Who is measured, each in a lab of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Lab, LabOptions, USER, image};
use serde_json::json;

/// podwire, or a program with the same commands.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What stands before a command.
    program: String,
    pub(crate) lab: Lab,
}

impl Peer {
    pub(crate) fn is_ours(&self) -> bool {
        self.name == "podwire"
    }

    /// What stands before a command.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Milliseconds of one command; `None` when it failed.
    pub(crate) fn time(&self, command: &str) -> Option<f64> {
        let run = self.lab.quietly(&format!("labtool time {} {command}", self.program));
        (run.code == 0).then(|| run.out.trim().parse().ok()).flatten()
    }

    /// A command whose time does not count.
    pub(crate) fn quietly(&self, command: &str) {
        self.lab.quietly(&format!("{} {command}", self.program));
    }

    /// Makes containers `from` to `to`.
    pub(crate) fn fill(&self, from: usize, to: usize) {
        for i in from..to {
            self.quietly(&format!("run -d --name other{i} banner"));
        }
    }

    pub(crate) fn version(&self) -> String {
        let run = self.lab.quietly(&format!("{} --version; crun --version | head -1", self.program));
        run.out.trim().replace('\n', ", ")
    }
}

/// Without these settings Debian's podman does not run in a lab: no rlimits can be raised, no cgroup is had.
const CONTAINERS_CONF: &str = r#"
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
pids_limit = 0
cgroups = "disabled"
[network]
network_backend = "netavark"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
crun = ["/usr/bin/crun"]
"#;

/// podwire, and podman when it is installed.
pub(crate) fn found() -> Result<Vec<Peer>> {
    let ours = Peer { name: "podwire", program: "podwire".to_owned(), lab: lab()? };
    load(&ours)?;
    let mut peers = vec![ours];
    if Path::new("/usr/bin/podman").exists() && Path::new(NETAVARK).exists() {
        let lab = lab()?;
        std::fs::write(lab.dir().join("containers.conf"), CONTAINERS_CONF)?;
        let program = format!("env CONTAINERS_CONF={}/containers.conf podman", lab.dir().display());
        let podman = Peer { name: "podman", program, lab };
        load(&podman)?;
        peers.push(podman);
    } else {
        eprintln!("podman and netavark are not installed: measuring podwire alone");
    }
    Ok(peers)
}

pub(crate) fn lab() -> Result<Lab> {
    Lab::with(&LabOptions { limit: Duration::from_secs(2 * 3600), ..LabOptions::default() })
}

/// A lab of podwire's with an image.
pub(crate) fn lab_with_banner() -> Result<Lab> {
    let peer = Peer { name: "podwire", program: "podwire".to_owned(), lab: lab()? };
    load(&peer)?;
    Ok(peer.lab)
}

/// A lab with an ordinary user, who has the image.
pub(crate) fn lab_with_user() -> Result<Lab> {
    let lab = Lab::with(&LabOptions { user: true, limit: Duration::from_secs(2 * 3600), ..LabOptions::default() })?;
    let archive = lab.dir().join("banner.tar");
    image::docker_archive(&image::banner(), &archive)?;
    lab.host(&format!("install -m 644 {} /home/{USER}/banner.tar", archive.display())).ok();
    lab.user("podwire load -q -i banner.tar").ok();
    Ok(lab)
}

fn load(peer: &Peer) -> Result<()> {
    let archive = peer.lab.dir().join("banner.tar");
    image::docker_archive(&image::banner(), &archive)?;
    peer.lab.quietly(&format!("{} load -q -i {}", peer.program, archive.display())).ok();
    Ok(())
}

const NETAVARK: &str = "/usr/lib/podman/netavark";

/// `netavark setup` and `teardown` as podman calls them, without podman: the network part alone.
pub(crate) fn netavark_alone(rounds: usize) -> Result<()> {
    if !Path::new(NETAVARK).exists() {
        return Ok(());
    }
    let lab = lab()?;
    println!("\n## netavark alone, the network part of one container\n\n| | setup ms | teardown ms |\n|---|---|---|");
    for ports in [0, 1, 100] {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for _ in 0..if ports == 100 { 3 } else { rounds } {
            std::fs::write(lab.dir().join("setup.json"), request(ports).to_string())?;
            let call = |verb: &str| {
                let file = lab.dir().join("setup.json");
                let line = format!(
                    "labtool time sh -c '{NETAVARK} --config /run/netavark {verb} /run/netns/one <{}'",
                    file.display()
                );
                let run = lab.quietly(&line);
                let shown = format!("netavark {verb}: {}{}", run.out, run.err);
                (run.code == 0).then(|| run.out.trim().parse::<f64>().ok()).flatten().context(shown)
            };
            lab.quietly("mkdir -p /run/netavark; ip netns add one").ok();
            up.push(call("setup")?);
            down.push(call("teardown")?);
            lab.quietly("ip netns del one").ok();
        }
        for times in [&mut up, &mut down] {
            times.sort_by(f64::total_cmp);
        }
        println!("| {ports} ports | {:.1} | {:.1} |", up[up.len() / 2], down[down.len() / 2]);
    }
    Ok(())
}

/// What podman 4 writes to netavark's standard input.
fn request(ports: u16) -> serde_json::Value {
    let mapping =
        |i: u16| json!({"host_ip": "", "container_port": 80, "host_port": 10_000 + i, "range": 1, "protocol": "tcp"});
    json!({
        "container_id": "2d0fe608dc86d7ba65dcec724a335b618328f08daa62afd2ee7fa9d41f74e5a9",
        "container_name": "one",
        "port_mappings": (0..ports).map(mapping).collect::<Vec<_>>(),
        "networks": {"podman": {"static_ips": ["10.88.0.2"], "interface_name": "eth0"}},
        "network_info": {"podman": {
            "name": "podman",
            "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
            "driver": "bridge",
            "network_interface": "podman0",
            "created": "2026-01-01T00:00:00Z",
            "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
            "ipv6_enabled": false,
            "internal": false,
            "dns_enabled": false,
            "ipam_options": {"driver": "host-local"}
        }}
    })
}
