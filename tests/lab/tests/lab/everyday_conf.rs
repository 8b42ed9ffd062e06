//! containers.conf, and the client that most people have: podman-compose.

use lab::trial::{Need, Sentence};
use lab::{HOST4, Lab, LabOptions, executable, sentences};

use crate::words::{banner_comes, get, load};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        containers_conf_gives_defaults_that_flags_take_the_place_of,
        containers_conf_says_which_networks_and_subnets_there_are,
        containers_conf_says_what_hosts_files_begin_with,
        drop_ins_add_to_containers_conf_and_settings_are_every_commands,
        registries_conf_names_programs_that_keep_passwords,
    ];
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        an_ordinary_users_containers_conf_chooses_how_he_reaches_the_network,
    ]);
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

fn containers_conf_says_which_networks_and_subnets_there_are(lab: &Lab) {
    load(lab);
    let with = |text: &str, line: &str| {
        lab.host(&format!("printf '{text}' >/run/conf && export CONTAINERS_CONF=/run/conf; {line}"))
    };
    let subnet = |name: &str| {
        lab.ok(&format!("podwire network inspect -f '{{{{range .Subnets}}}}{{{{.Subnet}}}}{{{{end}}}}' {name}"))
    };
    let pools = "default_subnet_pools = [{\"base\" = \"172.20.0.0/23\", \"size\" = 24}, {\"base\" = \"172.30.0.0/16\", \"size\" = 20}]";
    let pools = format!("[network]\\ndefault_subnet = \"10.77.0.0/16\"\\n{pools}\\n");
    with(&pools, "podwire network create a && podwire network create b && podwire network create c").ok();
    assert_eq!(
        (subnet("a"), subnet("b"), subnet("c")),
        ("172.20.0.0/24".into(), "172.20.1.0/24".into(), "172.30.0.0/20".into())
    );
    with(&pools, "podwire run --rm banner hostname -i").ok().says("10.77.0.");
    assert_eq!(subnet("podman"), "10.77.0.0/16");
    with(
        "[network]\\ndefault_network = \"main\"\\ndefault_subnet = \"10.66.0.0/16\"\\n",
        "podwire run -d --name m banner",
    )
    .ok();
    assert_eq!(lab.ok("podwire inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}' m"), "main");
    assert_eq!(subnet("main"), "10.66.0.0/16");
    with(
        "[containers]\\nnetns = \"none\"\\n",
        "podwire run --rm banner ip -o link; podwire run --rm --network a banner ip -o link",
    )
    .ok()
    .says("eth0");
    assert_eq!(
        with("[containers]\\nnetns = \"none\"\\n", "podwire run --rm banner ip -o link | wc -l").ok().out.trim(),
        "1"
    );
    with("[network]\\nnetwork_config_dir = \"/run/nets\"\\n", "podwire network create other && podwire network ls -q")
        .ok()
        .says("other");
    assert!(!lab.ok("podwire network ls -q").contains("other"));
    with(
        "[network]\\ndefault_subnet_pools = [{\"base\" = \"fd00::/64\", \"size\" = 80}]\\n",
        "podwire network create x",
    )
    .refuses(125, "containers.conf: default_subnet_pools: ");
}

fn containers_conf_says_what_hosts_files_begin_with(lab: &Lab) {
    load(lab);
    lab.host("echo '192.0.2.7 printer' >/run/base").ok();
    let hosts = |text: &str, flags: &str| {
        let line = format!("podwire run --rm {flags} banner cat /etc/hosts");
        lab.ok(&format!("printf '[containers]\\n{text}\\n' >/run/conf && CONTAINERS_CONF=/run/conf {line}"))
    };
    assert!(hosts("base_hosts_file = \"/run/base\"", "").starts_with("192.0.2.7\tprinter\n"));
    assert!(!hosts("base_hosts_file = \"/run/base\"", "--hosts-file none").contains("printer"));
    assert!(hosts("", "--hosts-file /run/base").contains("printer"));
    assert!(hosts("base_hosts_file = \"image\"", "").starts_with("127.0.0.1\tlocalhost\n"));
    assert!(hosts("host_containers_internal_ip = \"192.0.2.9\"", "").contains("192.0.2.9\thost.containers.internal"));
    assert!(!hosts("host_containers_internal_ip = \"none\"", "").contains("host.containers.internal"));
    lab.host("podwire run --rm --no-hosts --hosts-file none banner true")
        .refuses(125, "--no-hosts and --hosts-file cannot be set together");
}

fn drop_ins_add_to_containers_conf_and_settings_are_every_commands(lab: &Lab) {
    load(lab);
    lab.host("mkdir -p /run/etc && mount --bind /run/etc /etc/containers && mkdir /etc/containers/containers.conf.d")
        .ok();
    lab.host("printf '[containers]\\nenv = [\"A=1\"]\\nlog_tag = \"shop\"\\n' >/etc/containers/containers.conf").ok();
    lab.host("printf '[containers]\\nenv = [\"B=2\", {append=true}]\\noom_score_adj = 300\\n' >/etc/containers/containers.conf.d/10-b.conf").ok();
    lab.host(
        "printf '[engine]\\nenv = [\"http_proxy=http://proxy:1\"]\\n' >/etc/containers/containers.conf.d/20-c.conf",
    )
    .ok();
    lab.host("printf 'nonsense' >/etc/containers/containers.conf.d/README").ok();
    let said = lab.ok("podwire run --rm banner sh -c 'echo $A $B $http_proxy; cat /proc/self/oom_score_adj'");
    assert_eq!(said, "1 2 http://proxy:1\n300");
    lab.host("podwire create --name c banner").ok();
    assert_eq!(lab.ok("podwire inspect -f '{{.HostConfig.LogConfig.Tag}}' c"), "shop");
    lab.host("printf 'nonsense' >/etc/containers/containers.conf.d/30-d.conf && podwire ps")
        .refuses(125, "30-d.conf: ");
}

fn registries_conf_names_programs_that_keep_passwords(lab: &Lab) {
    lab.host("mkdir /run/bin && cat >/run/bin/docker-credential-shop <<'E'\n#!/bin/sh\nread registry\necho \"$1 $registry\" >>/run/asked\n\
              test $registry = quay.io || { echo credentials not found in native keychain; exit 1; }\n\
              echo '{\"Username\":\"me\",\"Secret\":\"x\"}'\nE\nchmod +x /run/bin/docker-credential-shop").ok();
    lab.host("echo 'credential-helpers = [\"containers-auth.json\", \"shop\"]' >/run/registries.conf").ok();
    let env = "REGISTRY_AUTH_FILE=/run/auth.json CONTAINERS_REGISTRIES_CONF=/run/registries.conf PATH=/run/bin:$PATH";
    let who = |registry: &str| lab.host(&format!("{env} podwire login --get-login {registry}"));
    who("quay.io").ok().says("me");
    who("quay.io/team/app").ok().says("me");
    who("docker.io").refuses(125, "not logged into docker.io");
    lab.host("echo '{\"auths\": {\"quay.io\": {\"auth\": \"Zmlyc3Q6eA==\"}}}' >/run/auth.json").ok();
    who("quay.io").ok().says("first");
    lab.host(&format!("{env} podwire logout quay.io && cat /run/asked")).ok().says("erase quay.io");
}

fn an_ordinary_users_containers_conf_chooses_how_he_reaches_the_network(lab: &Lab) {
    crate::words::load_for_user(lab);
    let conf = |text: &str| {
        lab.user(&format!(
            "mkdir -p .config/containers && printf '[network]\\n{text}\\n' >.config/containers/containers.conf"
        ))
        .ok();
    };
    let mode = |flags: &str| {
        lab.user(&format!("podwire run -d --name c {flags} banner >/dev/null && podwire inspect -f '{{{{.HostConfig.NetworkMode}}}}' c; podwire rm -f -t 0 c >/dev/null")).ok().out.trim().to_owned()
    };
    assert_eq!(mode(""), "pasta");
    conf("default_rootless_network_cmd = \"slirp4netns\"");
    assert_eq!(mode(""), "slirp4netns");
    assert_eq!(mode("--network none"), "none");
    conf("pasta_options = [\"--map-gw\"]");
    assert_eq!(mode(""), "pasta");
    conf("pasta_options = [\"--nonsense\"]");
    lab.user("podwire run --rm banner true").refuses(126, "pasta failed with exit code 1");
    conf("default_rootless_network_cmd = \"vpn\"");
    lab.user("podwire run --rm banner true").refuses(125, "pasta or slirp4netns, not \"vpn\"");
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
