//! Pods: one sandbox for several containers, of root and of an ordinary user.

use lab::trial::{Need, Sentence};
use lab::{BANNER, HOST4, HOST6, Lab, LabOptions, Run, sentences};

use crate::words::{banner_comes, eventually, get, ip4, load, load_for_user, no_banner};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        the_guides_pod_talks_over_localhost_and_is_reached_at_its_address_name_and_port,
        a_pods_hosts_file_follows_its_containers_and_its_address_stays,
        what_belongs_to_the_pod_is_refused_on_its_containers_in_podmans_words,
        a_pod_is_created_listed_and_inspected_as_podman_does_it,
        a_pods_status_follows_what_its_containers_do,
        containers_of_a_pod_share_what_it_says_and_nothing_else,
        what_shares_process_numbers_with_its_pod_is_killed_whole,
        the_infra_container_is_no_way_out_for_who_shares_its_process_numbers,
        a_pod_that_is_to_stop_stops_with_its_last_container,
        a_pod_made_for_a_container_that_cannot_start_is_gone_again,
        a_pod_without_an_infra_container_holds_containers_together_by_name_alone,
        an_infra_container_may_have_an_image,
        a_pods_ports_change_while_it_runs,
        a_pod_on_the_hosts_network_or_none_has_that,
        a_killed_first_process_of_a_pod_frees_its_sandbox,
        a_pod_survives_the_monitors_of_all_its_containers,
        a_paused_pod_stands_still_goes_on_and_is_removed,
        a_pods_processes_are_shown_together,
        a_pods_containers_are_started_again_by_its_policy_and_stay_down_when_it_is_stopped,
        a_pods_containers_have_its_volumes_settings_and_devices,
        a_pods_containers_have_its_process_numbers_host_name_and_volumes_from_where_it_says,
        a_pods_containers_have_its_users,
        pods_that_have_stopped_are_pruned_by_filter,
        namespaces_of_a_container_that_a_member_names_go_before_its_pods,
    ];
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        an_ordinary_users_pod_talks_over_localhost_and_is_reached_at_its_address_name_and_port,
        an_ordinary_users_pod_needs_no_network_by_name,
        an_ordinary_users_pod_keeps_his_id,
    ]);
    all
}

fn a_paused_pod_stands_still_goes_on_and_is_removed(lab: &Lab) {
    load(lab);
    let pod = lab.ok("podwire pod create --name p");
    for name in ["a", "b"] {
        lab.host(&format!("podwire run -d --pod p --name {name} banner sleep 1000")).ok();
    }
    lab.host("podwire create --pod p --name idle banner").ok();
    lab.host("podwire rm idle").ok();
    let status = || lab.ok("podwire pod ps --format '{{.Status}}'");
    if lab.host("podwire pause a").code != 0 {
        println!("skipped: no control group can be frozen here");
        return;
    }
    assert_eq!(status(), "Degraded");
    assert_eq!(lab.ok("podwire pod pause p"), pod);
    assert_eq!(status(), "Paused");
    let states = lab.ok("podwire ps --format '{{.Names}} {{.State}}'");
    assert!(states.contains("a paused") && states.contains("b paused"), "{states}");
    assert_eq!(lab.ok("podwire pod pause p"), pod, "those that are paused are passed over");
    assert_eq!(lab.ok("podwire pod unpause p"), pod);
    assert_eq!(status(), "Running");
    lab.host("podwire exec a true").ok();
    lab.host("podwire pod pause p && podwire pod stop -t 0 p").ok();
    assert_eq!(status(), "Exited");
    lab.host("podwire pod start p && podwire pod pause --all && podwire pod rm -f -t 0 p").ok();
    lab.host("podwire pod pause p").refuses(125, "no such pod");
}

fn a_pods_processes_are_shown_together(lab: &Lab) {
    load(lab);
    lab.host("podwire pod create --name p").ok();
    lab.host("podwire pod top p").refuses(125, "pod top can only be used on pods with at least one running container");
    lab.host("podwire run -d --pod p --name a banner sleep 1111").ok();
    lab.host("podwire run -d --pod p --name b banner sleep 2222").ok();
    let shown = lab.ok("podwire pod top p user args");
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [vec!["USER", "COMMAND"], vec!["root", "sleep", "1111"], vec!["root", "sleep", "2222"]]);
    assert!(lab.ok("podwire pod top --latest").starts_with("USER "), "as top shows it");
    lab.host("podwire pod top p nonsense").refuses(125, "nonsense: unknown descriptor");
    lab.host("podwire pod top").refuses(125, "you must provide the name or id of a running pod");
}

fn a_pods_containers_are_started_again_by_its_policy_and_stay_down_when_it_is_stopped(lab: &Lab) {
    load(lab);
    lab.host("podwire pod create --name p --restart always --exit-policy stop").ok();
    lab.host("podwire run -d --pod p --name web banner").ok();
    lab.host("podwire run -d --pod p --name own --restart no banner sleep 1000").ok();
    let policy =
        |name: &str| lab.ok(&format!("podwire inspect --format '{{{{.HostConfig.RestartPolicy.Name}}}}' {name}"));
    assert_eq!((policy("web").as_str(), policy("own").as_str()), ("always", "no"));
    lab.host("podwire stop -t 0 own").ok();
    let address = ip4(lab, "web");
    // Killed by somebody else, the last of its pod begins anew.
    lab.host("kill -9 $(podwire inspect --format '{{.State.Pid}}' web)").ok();
    let count = || lab.host("podwire inspect --format '{{.RestartCount}} {{.State.Status}}' web");
    eventually(count, |run| run.out.trim() == "1 running").ok();
    assert_eq!(ip4(lab, "web"), address);
    lab.host("podwire pod stop -t 0 p").ok();
    assert_eq!(lab.ok("podwire pod ps --format '{{.Status}}'"), "Exited");
    // Whoever would start it again has waited less than that.
    lab.host("sleep 0.5").ok();
    assert_eq!(lab.ok("podwire pod ps --format '{{.Status}}'"), "Exited");
    lab.host("podwire pod start p").ok();
    assert_eq!(lab.ok("podwire pod ps --format '{{.Status}}'"), "Running");
    lab.host("podwire pod create --restart nope").refuses(125, "\"nope\" is not a valid restart policy");
}

fn a_pods_containers_have_its_volumes_settings_and_devices(lab: &Lab) {
    load(lab);
    let flags = "-v shared:/shared -v /tmp:/host:ro --device /dev/null:/dev/nothing --sysctl net.ipv4.ip_default_ttl=77 \
                 --sysctl kernel.msgmax=4321 --security-opt no-new-privileges";
    lab.host(&format!("podwire pod create --name p {flags}")).ok();
    lab.host("podwire run -d --pod p --name a banner sleep 1000").ok();
    lab.host("podwire run -d --pod p --name b -v other:/shared banner sleep 1000").ok();
    let inside = |name: &str, line: &str| lab.ok(&format!("podwire exec {name} {line}"));
    for name in ["a", "b"] {
        assert_eq!(inside(name, "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax"), "77\n4321");
        assert!(inside(name, "ls -l /dev/nothing").starts_with('c'));
        assert!(inside(name, "grep NoNewPrivs /proc/1/status").ends_with('1'));
        let touched = lab.host(&format!("podwire exec {name} touch /host/x"));
        assert!(touched.code == 1 && touched.err.contains("Read-only file system"), "{touched:?}");
    }
    lab.host("podwire exec a touch /shared/mine").ok();
    assert_eq!(inside("b", "ls /shared"), "", "what a container says itself goes before what its pod says");
    lab.host("podwire run --rm --pod p banner ls /shared").ok().says("mine");
    lab.host("podwire pod create -v /data").refuses(125, "--volume of a pod needs a name or a path of the host");
    lab.host("podwire pod create -v a:/x -v b:/x").refuses(125, "duplicate mount destination");
}

fn pods_that_have_stopped_are_pruned_by_filter(lab: &Lab) {
    load(lab);
    let make = |name: &str| {
        lab.host(&format!("podwire run -d --pod new:{name} banner && podwire pod stop -t 0 {name}")).ok();
        lab.ok(&format!("podwire pod inspect --format '{{{{.Id}}}}' {name}"))
    };
    let (one, _two) = (make("one"), make("two"));
    lab.host("podwire pod prune -f --filter foo=x").refuses(125, "foo is an invalid filter");
    assert_eq!(lab.ok("podwire pod prune -f --filter name=one"), one);
    assert_eq!(lab.ok("podwire pod ps --format '{{.Name}}'"), "two");
}

fn namespaces_of_a_container_that_a_member_names_go_before_its_pods(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name lone --hostname lonely banner sleep 1000").ok();
    lab.host("podwire pod create --name p").ok();
    lab.host("podwire run -d --pod p --name a --ipc container:lone --pid container:lone banner sleep 1000").ok();
    for kind in ["ipc", "pid"] {
        assert_eq!(namespace(lab, "a", kind), namespace(lab, "lone", kind), "{kind}");
    }
    lab.host("podwire exec lone touch /dev/shm/here").ok();
    lab.host("podwire exec a ls /dev/shm").ok().says("here");
    lab.host("podwire exec a hostname").ok().says("p");
    lab.host("podwire stop -t 0 a && podwire stop -t 0 lone").ok();
}

fn the_guides_pod_talks_over_localhost_and_is_reached_at_its_address_name_and_port(lab: &Lab) {
    load(lab);
    let empty = lab.settled_state();
    lab.host("podwire network create --ipv6 --subnet 10.90.0.0/24 --subnet fd90::/64 shop").ok();
    let pod = lab.ok("podwire pod create --name store --network shop -p 8080:80");
    assert_eq!(pod.len(), 64, "pod create prints the pod's id: {pod}");
    lab.host("podwire run -d --pod store --name web banner").ok();
    lab.host("podwire run -d --pod store --name db banner sleep 1000").ok();
    banner_comes(|| lab.host("podwire exec db wget -qO- http://127.0.0.1/"));
    let address = ip4(lab, "web");
    assert_eq!(ip4(lab, "db"), address, "one address for all");
    for url in [address.as_str(), "store", "store.dns.podman"] {
        banner_comes(|| lab.host(&format!("podwire run --rm --network shop banner wget -qO- http://{url}/")));
    }
    for url in [format!("{HOST4}:8080"), format!("[{HOST6}]:8080")] {
        banner_comes(|| lab.outside(&get(&url)));
    }
    assert_eq!(lab.ok("podwire port web"), "80/tcp -> 0.0.0.0:8080");
    assert_eq!(lab.ok("podwire pod rm -f -t 0 store"), pod);
    no_banner(lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire network rm shop").ok();
    empty.same(lab, "after pod rm -f");
}

fn an_ordinary_users_pod_talks_over_localhost_and_is_reached_at_its_address_name_and_port(lab: &Lab) {
    load_for_user(lab);
    lab.user("podwire network create shop").ok();
    lab.user("podwire run --rm --network shop banner true").ok();
    let empty = lab.settled_state();
    lab.user("podwire pod create --name store --network shop -p 8080:80").ok();
    lab.user("podwire run -d --pod store --name web banner").ok();
    lab.user("podwire run -d --pod store --name db banner sleep 1000").ok();
    banner_comes(|| lab.user("podwire exec db wget -qO- http://127.0.0.1/"));
    let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = lab.user(&format!("podwire inspect -f '{template}' db")).ok().out.trim_end().to_owned();
    for url in [address.as_str(), "store"] {
        banner_comes(|| lab.user(&format!("podwire run --rm --network shop banner timeout 2 wget -qO- http://{url}/")));
    }
    for url in [format!("{HOST4}:8080"), format!("[{HOST6}]:8080")] {
        banner_comes(|| lab.outside(&get(&url)));
    }
    lab.user("podwire restart -t 0 web").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.user("podwire pod rm -f -t 0 store").ok();
    no_banner(lab.outside(&get(&format!("{HOST4}:8080"))));
    empty.same(lab, "after pod rm -f");
}

fn an_ordinary_users_pod_needs_no_network_by_name(lab: &Lab) {
    load_for_user(lab);
    let empty = lab.settled_state();
    lab.user("podwire run -d --pod new:store -p 8080:80 --name web banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.user("podwire run --rm --pod store banner wget -qO- http://127.0.0.1/"));
    lab.user("podwire pod inspect -f '{{json .InfraConfig.Networks}}' store").ok().says("null");
    lab.user("podwire exec web hostname").ok().says("store");
    lab.user("podwire pod rm -f -t 0 store").ok();
    empty.same(lab, "after pod rm -f");
}

fn a_pods_hosts_file_follows_its_containers_and_its_address_stays(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.90.0.0/24 shop").ok();
    let pod = lab.ok("podwire pod create --name store --network shop --add-host printer:10.0.0.9");
    let short = &pod[..12];
    lab.host("podwire run -d --pod store --name web banner").ok();
    lab.host("podwire run -d --pod store --name db banner sleep 1000").ok();
    let hosts = |name: &str| lab.ok(&format!("podwire exec {name} cat /etc/hosts"));
    let both = hosts("web");
    assert!(both.starts_with("10.0.0.9\tprinter\n"), "{both}");
    let own = format!("10.90.0.2\tstore {short}-infra\n127.0.0.1\tweb\n127.0.0.1\tdb");
    assert!(both.ends_with(&own), "{both}\nmust end with\n{own}");
    assert_eq!(hosts("db"), both, "one file for all");
    lab.host("podwire stop db").ok();
    assert!(!hosts("web").contains("\tdb"), "{}", hosts("web"));
    lab.host("podwire run --rm --pod store --name job banner cat /etc/hosts").ok().says("127.0.0.1\tjob");
    assert!(!hosts("web").contains("\tjob"), "{}", hosts("web"));
    lab.host("podwire start db").ok();
    lab.host("podwire restart -t 0 web").ok();
    assert!(hosts("db").contains("127.0.0.1\tweb\n") || hosts("db").ends_with("127.0.0.1\tweb"), "{}", hosts("db"));
    assert_eq!(ip4(lab, "web"), "10.90.0.2");
    lab.host("podwire pod restart store").ok();
    assert_eq!(ip4(lab, "db"), "10.90.0.2", "a pod that is restarted has its address again");
    banner_comes(|| lab.host("podwire exec db wget -qO- http://store/"));
    // Its infra container is a container like any other for its networks.
    lab.host("podwire network create --subnet 10.91.0.0/24 more").ok();
    lab.host(&format!("podwire network connect more {short}-infra")).ok();
    lab.host("podwire exec web ip -4 addr show dev eth1").ok().says("10.91.0.2/24");
    assert!(hosts("web").contains("10.91.0.2\tstore"), "{}", hosts("web"));
}

fn what_belongs_to_the_pod_is_refused_on_its_containers_in_podmans_words(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.90.0.0/24 shop").ok();
    lab.host("podwire pod create --name store").ok();
    lab.host("podwire run -d --pod store --name web banner").ok();
    let before = lab.settled_state();
    let refused =
        |flags: &str, words: &str| lab.host(&format!("podwire run --rm {flags} banner true")).refuses(125, words);
    let ports = "invalid config provided: published or exposed ports must be defined when the pod is created: network cannot be configured when it is shared with a pod";
    refused("--pod store -p 8091:81", ports);
    let networks = "invalid config provided: networks must be defined when the pod is created: network cannot be configured when it is shared with a pod";
    refused("--pod store --ip 10.88.9.9", networks);
    refused("--pod store --network-alias x", networks);
    refused("--pod store --mac-address 02:00:00:00:00:77", networks);
    refused(
        "--pod store --add-host a:1.2.3.4",
        "invalid config provided: extra host entries must be specified on the pod: network cannot be configured when it is shared with a pod",
    );
    refused(
        "--pod store --hostname x",
        "invalid config provided: cannot set hostname when joining the pod UTS namespace: invalid configuration",
    );
    // Podman takes this one and forgets it.
    refused(
        "--pod store --dns 1.2.3.4",
        "DNS servers, search domains and options must be defined when the pod is created",
    );
    refused("--pod nope", "no pod with name or ID nope found: no such pod");
    refused("--pod new:", "new pod name must be at least one character");
    refused("--pod new:store", "adding pod to state: name \"store\" is in use: pod already exists");
    let infra = lab.ok("podwire pod inspect -f '{{.InfraContainerID}}' store");
    lab.host(&format!("podwire rm -f {infra}")).refuses(125, "and cannot be removed without removing the pod");
    lab.host(&format!("podwire exec {infra} true")).refuses(255, "holds the namespaces of a pod");
    let create =
        |flags: &str, words: &str| lab.host(&format!("podwire pod create --name p2 {flags}")).refuses(125, words);
    create("--infra=false -p 80:80", "you must have an infra container to publish port bindings to the host");
    create("--infra=false --network shop", "NoInfra and network modes cannot be used together");
    create("--infra=false --ip 10.88.0.9", "cannot set --ip without infra container: invalid argument");
    create("--infra=false --share net", "cannot set share(net) namespaces without an infra container");
    create("--network host -p 80:80", "PortMappings can only be used with Bridge or pasta networking");
    create("--network none -p 80:80", "PortMappings can only be used with Bridge or pasta networking");
    create("--network host --ip 10.88.3.3", "--ip can only be set when the network mode is bridge: invalid argument");
    create("--network container:web", "pods presently do not support network mode container");
    create("--network nope", "unable to find network with name or ID nope: network not found");
    create("--infra-command sh", "--infra-command needs --infra-image");
    create("--exit-policy foo", "invalid pod exit policy: \"foo\"");
    lab.host("podwire pod create store")
        .refuses(125, "adding pod to state: name \"store\" is in use: pod already exists");
    lab.host("podwire pod create --name web")
        .refuses(125, "adding pod to state: name \"web\" is in use: pod already exists");
    lab.host("podwire create --name store banner").refuses(125, "name \"store\" is in use");
    lab.host("podwire pod rm store").refuses(125, "running or paused containers cannot be removed without force");
    lab.host("podwire pod rm store nope").refuses(1, "no pod with name or ID nope found: no such pod");
    lab.host("podwire pod start nope").refuses(125, "no pod with name or ID nope found: no such pod");
    lab.host("podwire pod stop").refuses(125, "you must provide at least one name or id");
    before.same(lab, "after refusals");
    // A network of its own is the user's choice, as in Podman.
    lab.host("podwire run --rm --pod store --network shop banner hostname -i").ok().says("10.90.0.");
}

fn a_pod_is_created_listed_and_inspected_as_podman_does_it(lab: &Lab) {
    load(lab);
    let file = lab.dir().join("pod-id");
    let create = format!("podwire pod create --name p1 -p 8090:80 --label a=b --pod-id-file {}", file.display());
    let id = lab.ok(&create);
    assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), id, "--pod-id-file");
    lab.host(&create.replace("p1", "p9"))
        .refuses(125, "pod ID file exists. Ensure another pod is not using it or delete");
    let infra = lab.ok("podwire pod inspect p1 -f '{{.InfraContainerID}}'");
    let (short, infra_short) = (&id[..12], &infra[..12]);
    let table = lab.ok("podwire pod ps");
    assert!(table.starts_with("POD ID        NAME        STATUS      CREATED"), "{table}");
    assert!(table.contains("INFRA ID      # OF CONTAINERS\n"), "{table}");
    assert!(table.contains(&format!("{short}  p1          Created     ")), "{table}");
    assert!(table.ends_with(&format!("{infra_short}  1")), "{table}");
    let all = "{{.State}} {{.NumContainers}} {{.SharedNamespaces}} {{.ExitPolicy}} {{(index .Containers 0).Name}} {{.Labels}}";
    assert_eq!(
        lab.ok(&format!("podwire pod inspect p1 -f '{all}'")),
        format!("Created 1 [ipc net uts] continue {short}-infra map[a:b]")
    );
    lab.host("podwire pod inspect p1").ok().says("\"HostPort\": \"8090\"").says("\"InfraConfig\": {");
    lab.host("podwire pod inspect nope").refuses(125, "no such pod nope");
    lab.host(&format!("podwire run -d --pod-id-file {} --name web banner", file.display())).ok();
    let rows = lab.ok("podwire ps -a --pod --format '{{.Names}} {{.Ports}} {{.PodName}} {{.Pod}} {{.Networks}}'");
    let expected =
        format!("{short}-infra 0.0.0.0:8090->80/tcp p1 {short} podman\nweb 0.0.0.0:8090->80/tcp p1 {short} ");
    assert_eq!(rows, expected.trim_end());
    assert_eq!(lab.ok("podwire ps --filter pod=p1 --format '{{.Names}}'").lines().count(), 2);
    assert_eq!(
        lab.ok("podwire inspect -f '{{.Pod}} {{.IsInfra}} {{.HostConfig.NetworkMode}}' web"),
        format!("{id} false container:{infra}")
    );
    assert_eq!(
        lab.ok(&format!("podwire inspect -f '{{{{.Pod}}}} {{{{.IsInfra}}}}' {short}-infra")),
        format!("{id} true")
    );
    assert_eq!(
        lab.ok(
            "podwire pod ps --filter ctr-names=web --ctr-names --noheading --format '{{.Name}} {{.ContainerNames}}'"
        ),
        format!("p1 {short}-infra,web")
    );
    lab.host("podwire pod exists p1").ok();
    assert_eq!(lab.host("podwire pod exists nope").code, 1);
    lab.host("podwire pod ps --filter foo=bar").refuses(125, "foo is an invalid filter");
    lab.host("podwire pod ps --filter status=bogus").refuses(125, "bogus is not a valid pod status");
    let replaced = lab.ok("podwire pod create --replace --name p1");
    assert_ne!(replaced, id);
    assert!(!file.exists(), "the id file goes with the pod");
    assert_eq!(lab.ok(&format!("podwire pod rm {}", &replaced[..6])), replaced, "a prefix of the id will do");
    assert_eq!(lab.ok("podwire ps -aq"), "");
}

fn a_pods_status_follows_what_its_containers_do(lab: &Lab) {
    load(lab);
    let id = lab.ok("podwire pod create p1");
    let status = || lab.ok("podwire pod ps --format '{{.Status}}'");
    assert_eq!(status(), "Created");
    lab.host("podwire create --pod p1 --name web banner").ok();
    assert_eq!(lab.ok("podwire pod start p1"), "p1");
    assert_eq!(status(), "Running");
    lab.host("podwire pod start p1").ok();
    lab.host("podwire stop web").ok();
    assert_eq!(status(), "Degraded");
    assert_eq!(lab.ok("podwire pod stop -t 0 p1"), "p1");
    assert_eq!(status(), "Exited");
    lab.host("podwire create --pod p1 --name db banner sleep 1000").ok();
    assert_eq!(status(), "Stopped");
    assert_eq!(lab.ok("podwire pod restart -a"), id);
    assert_eq!(status(), "Running");
    assert_eq!(lab.ok("podwire pod kill --latest"), id);
    assert_eq!(status(), "Exited");
    lab.host("podwire start web").ok();
    assert_eq!(status(), "Degraded", "a container starts the infra container that it needs");
    lab.host("podwire pod logs p1").ok();
    lab.host("podwire run --name talks --pod p1 banner echo hello").ok();
    assert_eq!(lab.ok("podwire pod logs -n -c talks p1"), "talks hello");
    lab.host("podwire pod stop -t 0 p1").ok();
    lab.host("podwire pod prune").refuses(125, "EOF");
    assert_eq!(lab.ok("podwire pod prune -f"), id);
    assert_eq!(lab.ok("podwire ps -aq"), "");
    let events = lab.ok("podwire events --stream=false --filter type=pod --format '{{.Status}}'");
    for word in ["create", "start", "stop", "restart", "kill", "remove"] {
        assert!(events.lines().any(|line| line == word), "an event {word} in\n{events}");
    }
}

/// The namespace of a container's first process.
fn namespace(lab: &Lab, name: &str, kind: &str) -> String {
    let pid = lab.ok(&format!("podwire inspect -f '{{{{.State.Pid}}}}' {name}"));
    lab.ok(&format!("readlink /proc/{pid}/ns/{kind}"))
}

fn containers_of_a_pod_share_what_it_says_and_nothing_else(lab: &Lab) {
    load(lab);
    for (share, shared) in [
        ("", "ipc net uts"),
        ("--share net,ipc", "ipc net"),
        ("--share +pid", "ipc net pid uts"),
        ("--share uts", "uts"),
        ("--share none", ""),
    ] {
        lab.host(
            &format!("podwire pod create {share} --shm-size 3m p1")
                .replace("--shm-size 3m", if shared.contains("ipc") { "--shm-size 3m" } else { "" }),
        )
        .ok();
        for name in ["one", "two"] {
            lab.host(&format!("podwire run -d --pod p1 --name {name} banner sleep 1000")).ok();
        }
        for kind in ["ipc", "net", "pid", "uts", "mnt"] {
            let same = namespace(lab, "one", kind) == namespace(lab, "two", kind);
            assert_eq!(same, shared.contains(kind), "{kind} with {share:?}");
        }
        lab.host("podwire exec one sh -c 'echo x >/dev/shm/x'").ok();
        let seen = lab.host("podwire exec two cat /dev/shm/x").code == 0;
        assert_eq!(seen, shared.contains("ipc"), "/dev/shm with {share:?}");
        if seen {
            lab.host("podwire exec two df -k /dev/shm").ok().says("3072");
        }
        let named = lab.ok("podwire exec one hostname") == "p1";
        assert_eq!(named, shared.contains("uts"), "the host's name with {share:?}");
        assert_eq!(lab.ok("podwire exec one cat /etc/hostname"), lab.ok("podwire exec one hostname"));
        lab.host("podwire pod rm -f -t 0 p1").ok();
    }
    lab.host("podwire pod create --share foo").refuses(125, "invalid kernel namespace to share: foo");
    lab.host("podwire pod create --share none --shm-size 3m").refuses(125, "--shm-size needs --share ipc");
}

fn what_shares_process_numbers_with_its_pod_is_killed_whole(lab: &Lab) {
    load(lab);
    lab.host("podwire pod create --share +pid p1").ok();
    lab.host("podwire run -d --pod p1 --name stays banner sleep 1000").ok();
    // In brackets: not itself.
    let left = || lab.host("pgrep -f 'sleep 471[1]'").out;
    lab.host("podwire run -d --pod p1 --name forks banner sh -c 'for n in 1 2 3; do sleep 4711 & done; sleep 4711'")
        .ok();
    lab.host("podwire exec stays ps").ok().says("podwire-pause").says("sleep 4711");
    assert_eq!(left().lines().count(), 4, "the last one in the shell's place");
    lab.host("podwire rm -f -t 0 forks").ok();
    assert_eq!(left(), "");
    lab.host("podwire exec stays true").ok();
    // Over before anybody can look at it.
    lab.host("podwire run --rm --pod p1 banner true").ok();
    lab.host("podwire run --rm --pod p1 banner sh -c 'sleep 4711 & sleep 0.1'").ok();
    assert_eq!(left(), "", "also when the first process ends by itself");
    lab.host("podwire pod rm -f -t 0 p1").ok();
}

fn the_infra_container_is_no_way_out_for_who_shares_its_process_numbers(lab: &Lab) {
    load(lab);
    lab.host("podwire pod create --share +pid p1").ok();
    lab.host("podwire run -d --pod p1 --name web banner sleep 1000").ok();
    for try_it in
        ["ls /proc/1/root/", "ls /proc/1/root/etc", "cat /proc/1/environ", "readlink /proc/1/fd/0", "ls /proc/1/cwd/"]
    {
        let tried = lab.host(&format!("podwire exec web {try_it}"));
        assert!(tried.code != 0, "{try_it}: {}", tried.out);
    }
    let mighty = lab.host("podwire run --rm --privileged --pod p1 banner ls -A /proc/1/root/").ok();
    assert_eq!(mighty.out, "", "even who may look sees nothing");
    let pid = lab.ok("podwire inspect -f '{{.State.Pid}}' $(podwire pod inspect -f '{{.InfraContainerID}}' p1)");
    lab.host(&format!("grep -E '^(CapEff|CapPrm|CapBnd):' /proc/{pid}/status"))
        .ok()
        .says("CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000");
    lab.host(&format!("grep NoNewPrivs /proc/{pid}/status")).ok().says("NoNewPrivs:\t1");
    assert_eq!(lab.ok(&format!("wc -l </proc/{pid}/mountinfo")), "1");
}

fn a_pod_that_is_to_stop_stops_with_its_last_container(lab: &Lab) {
    load(lab);
    lab.host("podwire pod create --exit-policy stop p1").ok();
    let status = || lab.host("podwire pod ps --format '{{.Status}}'");
    let is = |run: &Run, word: &str| run.out.trim() == word;
    lab.host("podwire run -d --pod p1 --name one banner sleep 1000").ok();
    lab.host("podwire run -d --pod p1 --name two banner sleep 1000").ok();
    lab.host("podwire restart -t 0 one two").ok();
    assert!(is(&status(), "Running"), "a restart is no end: {}", status().out);
    lab.host("podwire stop -t 0 one").ok();
    assert!(is(&status(), "Degraded"), "{}", status().out);
    lab.host("podwire stop -t 0 two").ok();
    assert!(is(&eventually(status, |run| is(run, "Exited")), "Exited"), "{}", status().out);
    lab.host("podwire run --rm --pod p1 banner true").ok();
    assert!(is(&eventually(status, |run| is(run, "Exited")), "Exited"), "{}", status().out);
    // Nobody is there to see the last one's end but the next command.
    lab.host("podwire start one").ok();
    let pids = lab.ok("podwire inspect -f '{{.State.Pid}} {{.State.ConmonPid}}' one");
    lab.host(&format!("kill -9 {pids}; timeout 5 sh -c 'while kill -0 {pids} 2>/dev/null; do sleep 0.01; done'")).ok();
    assert!(is(&eventually(status, |run| is(run, "Exited")), "Exited"), "{}", status().out);
    lab.host("podwire pod rm p1").ok();
}

fn a_pod_made_for_a_container_that_cannot_start_is_gone_again(lab: &Lab) {
    load(lab);
    lab.host("podwire run --rm banner true").ok();
    let before = lab.settled_state();
    lab.host("podwire run --pod new:p1 -p 8080:80 --name web banner nosuch").refuses(127, "not found");
    lab.host("podwire run --pod new:p1 --name web nosuch").refuses(125, "nosuch");
    lab.host("podwire create --pod new:p1 --pull never nosuch").refuses(125, "nosuch");
    assert_eq!(lab.ok("podwire pod ps -q"), "");
    before.same(lab, "after failed runs with new pods");
    lab.host("podwire run -d --pod new:p1 -p 8080:80 --hostname shop --name web banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    assert_eq!(lab.ok("podwire exec web hostname"), "shop");
    lab.host("podwire pod rm -f -t 0 p1").ok();
    before.same(lab, "after pod rm -f");
}

fn a_pod_without_an_infra_container_holds_containers_together_by_name_alone(lab: &Lab) {
    load(lab);
    lab.host("podwire pod create --infra=false p1").ok();
    lab.host("podwire pod inspect p1").ok().says("\"CreateInfra\": false").says("\"InfraContainerID\": \"\"");
    lab.host("podwire run -d --pod p1 -p 8080:80 --name web banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire run -d --pod p1 --name db banner sleep 1000").ok();
    assert_ne!(namespace(lab, "web", "net"), namespace(lab, "db", "net"));
    assert_eq!(
        lab.ok("podwire pod ps --format '{{.Status}} {{.NumberOfContainers}} {{.InfraID}}'").trim_end(),
        "Running 2"
    );
    lab.host("podwire pod rm -f -t 0 p1").ok();
    assert_eq!(lab.ok("podwire ps -aq"), "");
}

fn an_infra_container_may_have_an_image(lab: &Lab) {
    load(lab);
    let create = "podwire pod create --infra-image banner --infra-command '[\"sleep\",\"1000\"]' --infra-name holder";
    lab.host(&format!("{create} --network podman -p 8080:80 p1")).ok();
    lab.host("podwire run -d --pod p1 --name web banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire ps --format '{{.Names}} {{.Image}} {{.Command}}'").ok().says("holder localhost/banner:latest");
    lab.host("podwire exec holder ps").ok().says("sleep 1000");
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(namespace(lab, "web", kind), namespace(lab, "holder", kind), "{kind}");
    }
    lab.host("podwire exec holder sh -c 'echo x >/dev/shm/x'").ok();
    lab.host("podwire exec web cat /dev/shm/x").ok().says("x");
    lab.host("podwire pod rm -f -t 0 p1").ok();
    assert_eq!(lab.ok("podwire ps -aq"), "");
}

fn a_pods_ports_change_while_it_runs(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --pod new:p1 -p 8080:80 --name web banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let infra = lab.ok("podwire pod inspect -f '{{.InfraContainerID}}' p1");
    lab.host(&format!("podwire update --publish-add 8081:80 --publish-rm 8080:80 {infra}")).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8081"))));
    no_banner(lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire pod inspect p1").ok().says("\"HostPort\": \"8081\"");
}

fn a_pod_on_the_hosts_network_or_none_has_that(lab: &Lab) {
    load(lab);
    lab.host("podwire pod create --network host p1").ok();
    lab.host("podwire run -d --pod p1 --name web banner").ok();
    banner_comes(|| lab.outside(&get(HOST4)));
    lab.host("podwire pod inspect -f '{{.InfraConfig.HostNetwork}}' p1").ok().says("true");
    lab.host("podwire pod create --network none p2").ok();
    lab.host("podwire run -d --pod p2 --name alone banner").ok();
    banner_comes(|| lab.host("podwire run --rm --pod p2 banner wget -qO- http://127.0.0.1/"));
    let links = lab.ok("podwire exec alone ip -o link");
    assert!(links.lines().count() == 1 && links.contains(" lo:"), "{links}");
    lab.host("podwire pod rm -f -t 0 -a").ok();
}

fn a_killed_first_process_of_a_pod_frees_its_sandbox(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire run -d --pod new:p1 -p 8080:80 --name web banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("kill -9 $(pgrep -x podwire-pause)").ok();
    let status = || lab.host("podwire pod ps --format '{{.Status}}'");
    assert_eq!(eventually(status, |run| run.out.contains("Degraded")).out.trim(), "Degraded");
    no_banner(lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire pod restart p1").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire pod rm -f -t 0 p1").ok();
    before.same(lab, "after rm -f");
}

fn a_pod_survives_the_monitors_of_all_its_containers(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire run -d --pod new:p1 -p 8080:80 --name web banner").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("kill -9 $(pgrep -x podwire-monitor)").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire pod ps").ok().says("Running");
    assert_eq!(lab.ok("pgrep -xc podwire-monitor"), "2", "both are there again");
    lab.host("podwire run --rm --pod p1 banner wget -qO- http://127.0.0.1/").ok().says(BANNER);
    lab.host("podwire pod rm -f -t 0 p1").ok();
    before.same(lab, "after rm -f of an adopted pod");
}

fn a_pods_containers_have_its_process_numbers_host_name_and_volumes_from_where_it_says(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name files -v stock:/stock banner sh -c 'echo full >/stock/shelf; exec sleep 1000'")
        .ok();
    lab.host("podwire pod create --name p --share +pid --pid host --uts host --volumes-from files:ro").ok();
    lab.host("podwire run -d --pod p --name a banner sleep 4713").ok();
    let host = lab.ok("hostname");
    assert_eq!(lab.ok("podwire exec a hostname"), host);
    assert_eq!(lab.ok("podwire exec a readlink /proc/self/ns/pid"), lab.ok("readlink /proc/self/ns/pid"));
    lab.host("podwire exec a cat /stock/shelf").ok().says("full");
    lab.host("podwire exec a touch /stock/no").code(1);
    assert_eq!(
        lab.ok("podwire pod inspect -f '{{.InfraConfig.pid_ns}} {{.InfraConfig.uts_ns}} {{.VolumesFrom}}' p"),
        "host host [files]"
    );
    lab.host("podwire pod rm -f -t 0 p").ok();
    assert_eq!(lab.ok("pgrep -fc 'sleep 471[3]' || true"), "0");
    lab.host("podwire pod create --uts host --hostname x").refuses(125, "cannot set hostname");
}

fn a_pods_containers_have_its_users(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    lab.host("podwire network create shop").ok();
    lab.host("podwire pod create --name p --uidmap 0:200000:5000 --network shop -p 8080:80").ok();
    lab.host("podwire run -d --pod p --name a banner").ok();
    lab.host("podwire run -d --pod p --name b banner sleep 1000").ok();
    for name in ["a", "b"] {
        let map = lab.ok(&format!("podwire exec {name} sh -c 'set -- $(cat /proc/self/uid_map); echo $*'"));
        assert_eq!(map, "0 200000 5000", "{name}");
    }
    banner_comes(|| lab.host("podwire exec b wget -qO- http://127.0.0.1/"));
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    assert_eq!(lab.ok("podwire exec b hostname"), "p");
    lab.host("podwire exec b sh -c 'mount -t proc proc /proc || :; touch /dev/shm/x && ls /dev/mqueue'").ok();
    lab.host("podwire exec a test -e /dev/shm/x").ok();
    let infra = lab.ok("podwire pod inspect -f '{{.InfraContainerID}}' p");
    let namespace = |id: &str| {
        let pid = lab.ok(&format!("podwire inspect -f '{{{{.State.Pid}}}}' {id}"));
        lab.ok(&format!("readlink /proc/{pid}/ns/user"))
    };
    assert_eq!(namespace("a"), namespace("b"));
    assert_eq!(namespace("a"), namespace(&infra), "whose it is");
    lab.host("podwire restart -t 0 a").ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire pod restart p").ok();
    assert_eq!(namespace("a"), namespace("b"));
    lab.host("podwire pod rm -f -t 0 p").ok();
    lab.host("podwire network rm shop").ok();
    before.same(lab, "after pod rm");
    lab.host("podwire pod create --userns nonsense").refuses(125, "unrecognized namespace mode nonsense");
    lab.host("podwire pod create --userns auto:size=10 --share +pid")
        .refuses(125, "--userns and --share pid of a pod cannot be used together without --infra-image");
}

fn an_ordinary_users_pod_keeps_his_id(lab: &Lab) {
    load_for_user(lab);
    lab.user("podwire pod create --name p --userns keep-id").ok();
    lab.user("podwire run -d --pod p --name a banner").ok();
    let id = lab.user("id -u").ok().out;
    let inside = lab.user("podwire exec a sh -c 'set -- $(cat /proc/self/uid_map); echo $*'").ok().out;
    assert!(!inside.trim().starts_with("0 0"), "{inside} of {id}");
    banner_comes(|| lab.user("podwire exec a wget -qO- http://127.0.0.1/"));
    lab.user("podwire pod rm -f -t 0 p").ok();
}
