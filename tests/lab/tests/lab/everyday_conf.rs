//! containers.conf, and the client that most people have: podman-compose.

use lab::trial::{Need, Sentence};
use lab::{HOST4, Lab, LabOptions, executable, sentences};

use crate::words::{banner_comes, get, load};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        containers_conf_gives_defaults_that_flags_take_the_place_of,
    ];
    all.extend(sentences![LabOptions::default(); &[Need::Compose];
        podman_compose_runs_its_files_with_podwire,
    ]);
    all
}

fn containers_conf_gives_defaults_that_flags_take_the_place_of(lab: &Lab) {
    load(lab);
    let text = "[containers]\\nenv = [\"SHOP=yes\", \"PATH=/x\"]\\numask = \"0077\"\\ndns_servers = [\"192.0.2.1\"]\\n\
                default_ulimits = [\"nofile=50:60\"]\\ndefault_capabilities = [\"CHOWN\"]\\nunknown = 1\\n\
                [engine]\\nstop_timeout = 3\\n";
    lab.host(&format!("printf '{text}' >/run/conf")).ok();
    let run = |flags: &str, line: &str| {
        lab.ok(&format!("CONTAINERS_CONF=/run/conf podwire run --rm {flags} banner sh -c '{line}'"))
    };
    assert_eq!(
        run("", "echo $SHOP; umask; ulimit -n; echo $PATH | cut -c-6"),
        "yes\n0077\n50\n/usr/l",
        "the image's PATH wins"
    );
    assert_eq!(run("-e SHOP=no --umask 022 --ulimit nofile=70:80", "echo $SHOP; umask; ulimit -n"), "no\n0022\n70");
    assert_eq!(run("", "grep nameserver /etc/resolv.conf"), "nameserver 192.0.2.1");
    assert_eq!(run("--dns 192.0.2.9", "grep nameserver /etc/resolv.conf"), "nameserver 192.0.2.9");
    assert_eq!(run("", "grep CapBnd /proc/self/status"), "CapBnd:\t0000000000000001");
    lab.host("CONTAINERS_CONF=/run/conf podwire create --name c banner").ok();
    assert_eq!(lab.ok("podwire inspect -f '{{.Config.StopTimeout}}' c"), "3");
    lab.host("printf '[containers]\\numask = \"0007\"\\n' >/run/over").ok();
    let over = "CONTAINERS_CONF=/run/conf CONTAINERS_CONF_OVERRIDE=/run/over podwire run --rm banner sh -c umask";
    assert_eq!(lab.ok(over), "0007");
    lab.host("printf 'nonsense' >/run/bad").ok();
    lab.host("CONTAINERS_CONF=/run/bad podwire run --rm banner true").refuses(125, "/run/bad: ");
}

fn podman_compose_runs_its_files_with_podwire(lab: &Lab) {
    load(lab);
    let podwire = executable("podwire").expect("podwire is built");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|directory| directory.join("podman-compose"));
    let program = programs.find(|program| program.is_file()).expect("it is installed");
    let (program, podwire) = (program.display(), podwire.display());
    let compose = format!("cd /run/shop && {program} --podman-path {podwire} --in-pod=false");
    lab.host(&format!("mkdir /run/shop && cat >/run/shop/compose.yaml <<'E'\n{FILE}E")).ok();
    lab.host(&format!("{compose} up -d")).ok();
    assert_eq!(lab.ok("podwire ps --format '{{.Names}}' | sort"), "shop_client_1\nshop_web_1");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host(&format!("{compose} exec -T client wget -qO- http://www/")).ok().says(lab::BANNER);
    lab.host(&format!("{compose} exec -T client cat /data/file")).ok().says("kept");
    lab.host(&format!("{compose} ps")).ok().says("(healthy)");
    lab.host(&format!("{compose} restart -t 0 web && {compose} stop -t 0 && {compose} start")).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host(&format!("{compose} down -v -t 0")).ok();
    assert_eq!(lab.ok("podwire ps -aq; podwire volume ls -q; podwire network ls -q"), "podman");
}

const FILE: &str = r#"
services:
  web:
    image: localhost/banner
    command: sh -c 'echo kept >/data/file; exec httpd -f -p 80 -h /www'
    ports: ["8080:80"]
    networks: { shop: { aliases: [www] } }
    volumes: ["stuff:/data"]
    restart: unless-stopped
    healthcheck: { test: ["CMD", "wget", "-qO-", "http://127.0.0.1/"], interval: 1s, retries: 3 }
  client:
    image: localhost/banner
    command: sleep 1000
    depends_on: { web: { condition: service_healthy } }
    networks: [shop]
    volumes: ["stuff:/data"]
networks: { shop: {} }
volumes: { stuff: {} }
"#;
