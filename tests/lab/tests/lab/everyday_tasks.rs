//! The tasks of docs/book/everyday.md, typed: what they do, what they print, how they end. And templates as people write
//! them.

use lab::trial::{Need, Sentence};
use lab::{Lab, LabOptions, Run, sentences};

use crate::words::{eventually, load, load_for_user};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        the_tasks_of_podmans_manual_are_done_by_root,
        go_templates_are_understood_as_they_are_written_in_the_wild,
    ];
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        the_tasks_of_podmans_manual_are_done_by_an_ordinary_user,
    ]);
    all
}

fn the_tasks_of_podmans_manual_are_done_by_root(lab: &Lab) {
    load(lab);
    let typed = |line: &str| lab.host(&format!("cd /tmp && {line}"));
    processes_are_run_and_looked_at(&typed);
    files_go_in_and_out(&typed);
    volumes_keep_data(&typed);
    lives_are_looked_after(&typed);
    networks_and_images_are_used(&typed);
    // Needs control groups of one's own.
    typed("podwire run -d --name ice banner && podwire pause ice").ok();
    assert_eq!(out(&typed, "podwire ps --filter name=ice --format '{{.State}}'"), "paused");
    assert_eq!(out(&typed, "podwire unpause ice"), "ice");
}

fn the_tasks_of_podmans_manual_are_done_by_an_ordinary_user(lab: &Lab) {
    load_for_user(lab);
    let typed = |line: &str| lab.user(line);
    processes_are_run_and_looked_at(&typed);
    files_go_in_and_out(&typed);
    volumes_keep_data(&typed);
    lives_are_looked_after(&typed);
    networks_and_images_are_used(&typed);
}

#[track_caller]
fn out(typed: &dyn Fn(&str) -> Run, line: &str) -> String {
    typed(line).ok().out.trim_end().to_owned()
}

fn processes_are_run_and_looked_at(typed: &dyn Fn(&str) -> Run) {
    assert_eq!(out(typed, "podwire run --rm banner echo hello"), "hello");
    typed("podwire run --rm banner sh -c 'exit 7'").code(7);
    typed("podwire run --rm banner nosuch").code(127);
    let id = out(
        typed,
        "podwire run -d --name web -p 8080:80 banner sh -c 'echo ready; echo last; exec httpd -f -p 80 -h /www'",
    );
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let table = out(typed, "podwire ps");
    let (heading, row) = table.split_once('\n').expect("two lines");
    assert_eq!(
        heading.split_whitespace().collect::<Vec<_>>().join(" "),
        "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES"
    );
    for says in [&id[..12], "localhost/banner:latest", "Up ", "0.0.0.0:8080->80/tcp", " web"] {
        assert!(row.contains(says), "{says}: {row}");
    }
    assert_eq!(out(typed, "podwire inspect -f '{{.State.Status}}' web"), "running");
    typed("podwire inspect nosuch").refuses(125, "no such object");
    let last = eventually(|| typed("podwire logs --tail 1 web"), |run| run.out == "last\n");
    assert_eq!(last.out, "last\n");
    let top = out(typed, "podwire top web pid,user,args");
    assert_eq!(
        top.lines().next().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).as_deref(),
        Some("PID USER COMMAND")
    );
    assert!(top.contains("httpd -f -p 80 -h /www"), "{top}");
    assert_eq!(out(typed, "echo 'echo in $(hostname)' | podwire exec -i -e A=b web sh"), format!("in {}", &id[..12]));
    typed("podwire exec web sh -c 'exit 5'").code(5);
    let join = "podwire run -d --name talker banner sh -c 'until test -e /go; do echo tick; sleep 0.05; done; exit 3'; \
                (podwire attach --no-stdin talker >talker.out; echo $? >talker.code) & \
                until grep -q tick talker.out; do sleep 0.05; done; podwire exec talker touch /go; wait; cat talker.code";
    assert_eq!(out(typed, join).lines().last(), Some("3"));
}

fn files_go_in_and_out(typed: &dyn Fn(&str) -> Run) {
    typed("mkdir -p site && echo mine >site/index.html && podwire cp site web:/www/").ok();
    assert_eq!(out(typed, "podwire exec web cat /www/site/index.html"), "mine");
    assert_eq!(
        out(typed, "podwire cp web:/www/site/index.html copy && cat copy && test -O copy && echo own"),
        "mine\nown"
    );
    assert_eq!(out(typed, "podwire cp web:/www/site - | tar t | sort"), "site/\nsite/index.html");
    typed("podwire cp web:/nosuch .").code(125);
}

fn volumes_keep_data(typed: &dyn Fn(&str) -> Run) {
    assert_eq!(out(typed, "podwire volume create --label shop=yes db"), "db");
    typed("podwire run --rm -v db:/data banner sh -c 'echo kept >/data/f'").ok();
    assert_eq!(out(typed, "podwire run --rm --mount type=volume,source=db,target=/data banner cat /data/f"), "kept");
    typed("podwire volume create spare && podwire create --name holds -v db:/data banner").ok();
    let asked = out(typed, "echo y | podwire volume prune");
    assert!(asked.starts_with("WARNING! This will remove all volumes not used") && asked.ends_with("spare"), "{asked}");
    assert_eq!(out(typed, "podwire volume ls --format '{{.Name}}'"), "db");
    typed("podwire volume rm db").refuses(2, "volume is being used");
}

fn lives_are_looked_after(typed: &dyn Fn(&str) -> Run) {
    typed("podwire run -d --name small --memory 64m --pids-limit 50 banner").ok();
    assert_eq!(
        out(typed, "podwire inspect -f '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}' small"),
        "67108864 50"
    );
    typed("podwire run -d --name failing --restart on-failure:2 banner false").ok();
    let tried = "podwire inspect -f '{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}' failing";
    assert_eq!(eventually(|| typed(tried), |run| run.out == "exited 2 1\n").out, "exited 2 1\n");
    typed("podwire create --name ever --restart always banner").ok();
    assert_eq!(out(typed, "podwire start --all --filter restart-policy=always"), "ever");
    typed("podwire run -d --name well --health-cmd 'test -e /www/index.html' --health-interval 1s banner").ok();
    typed("podwire wait --condition healthy well && podwire healthcheck run well").ok();
    typed("podwire exec well rm /www/index.html").ok();
    assert_eq!(typed("podwire healthcheck run well").code(1).out, "unhealthy\n");
    typed("podwire run -d --name ending banner sh -c 'exit 4'").ok();
    assert_eq!(out(typed, "podwire wait ending"), "4");
    assert_eq!(out(typed, "podwire stop -t 0 small ever"), "small\never");
    typed("podwire rm small ever && podwire rename well fine && podwire rm -f -t 0 fine").ok();
    typed("podwire rm nosuch").refuses(1, "no such container");
    typed("podwire rm web").refuses(2, "running or paused containers cannot be removed without force");
}

fn networks_and_images_are_used(typed: &dyn Fn(&str) -> Run) {
    assert_eq!(out(typed, "podwire network create shop"), "shop");
    typed("podwire run -d --name db --network shop --network-alias store banner").ok();
    let page = "podwire run --rm --network shop banner wget -qO- http://store/";
    eventually(|| typed(page), |run| run.code == 0).ok().says(lab::BANNER);
    typed("podwire network rm shop").refuses(2, "network is being used");
    assert_eq!(out(typed, "podwire port web"), "80/tcp -> 0.0.0.0:8080");
    eventually(|| typed("curl -sS -m 5 http://127.0.0.1:8080/"), |run| run.code == 0).ok().says(lab::BANNER);
    typed("podwire tag banner shop/web:1 && podwire save -q -o web.tar shop/web:1 && podwire untag shop/web:1").ok();
    typed("podwire image exists shop/web:1").code(1);
    assert_eq!(out(typed, "podwire load -q -i web.tar"), "Loaded image: localhost/shop/web:1");
    let images = out(typed, "podwire images");
    let heading = images.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(heading, "REPOSITORY TAG IMAGE ID CREATED SIZE");
    assert_eq!(out(typed, "podwire rmi shop/web:1"), "Untagged: localhost/shop/web:1");
    typed("podwire rmi nosuch").code(1);
    let happened = out(
        typed,
        "podwire events --stream=false --filter container=ending --filter event=died --format '{{.Name}} {{.ContainerExitCode}}'",
    );
    assert_eq!(happened, "ending 4");
    typed("podwire pod create --name p && podwire run -d --pod p --name member banner").ok();
    assert_eq!(out(typed, "podwire pod ps --format '{{.Name}} {{.Status}} {{.NumberOfContainers}}'"), "p Running 2");
    typed("podwire pod rm -f -t 0 p").ok();
}

fn go_templates_are_understood_as_they_are_written_in_the_wild(lab: &Lab) {
    load(lab);
    lab.host("podwire network create --subnet 10.99.0.0/24 shop && podwire volume create --label a=b data").ok();
    lab.host("podwire run -d --name web --network shop:ip=10.99.0.5 --network podman -p 8080:80 --label tier=front -e A=b banner").ok();
    lab.host("podwire run -d --name lone banner && podwire pod create --name p").ok();
    let check = |command: &str, format: &str, expected: &str| {
        let said = lab.ok(&format!("podwire {command} --format '{format}'"));
        assert_eq!(said, expected, "{command} {format}");
    };
    let id = lab.ok("podwire ps -q --no-trunc --filter name=web");
    let short = &id[..12];
    check("ps --filter name=web", "{{.ID}}", short);
    check("ps --filter name=web", "{{.Names | upper}}", "WEB");
    check(
        "ps --filter name=web",
        "{{.Names}}: {{.Image}} {{.Ports}}",
        "web: localhost/banner:latest 0.0.0.0:8080->80/tcp",
    );
    check("ps --filter name=web", "{{.Labels.tier}}{{index .Labels \"tier\"}}", "frontfront");
    let table = lab.ok("podwire ps --filter name=web --format 'table {{.Names}}\\t{{.Status}}'");
    assert!(table.starts_with("NAMES       STATUS\nweb         Up "), "{table}");
    check("ps --filter name=web --no-trunc", "{{.ID}}", &id);
    check("inspect lone", "{{.NetworkSettings.IPAddress}}", &lab.ok("podwire exec lone hostname -i"));
    check("inspect web", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}", &{
        let podman = lab.ok("podwire inspect web --format '{{.NetworkSettings.Networks.podman.IPAddress}}'");
        format!("podman={podman} shop=10.99.0.5")
    });
    check("inspect web", "{{(index .NetworkSettings.Networks \"shop\").IPAddress}}", "10.99.0.5");
    check("inspect web", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080");
    check(
        "inspect web",
        "{{range .Config.Env}}{{println .}}{{end}}",
        &lab.ok("podwire inspect web --format '{{join .Config.Env \"\\n\"}}'"),
    );
    check(
        "inspect web",
        "{{json .State.Status}} {{.State.Running}} {{.HostConfig.RestartPolicy.Name}}",
        "\"running\" true no",
    );
    check(
        "inspect web",
        "{{if .State.Running}}up{{else}}down{{end}} {{len .Mounts}} {{.Name | printf \"%-5s|\"}}",
        "up 0 web  |",
    );
    check(
        "inspect web",
        "{{with .Config.Labels}}{{.tier}}{{end}} {{eq .State.ExitCode 0}} {{slice .Id 0 12}}",
        &format!("front true {short}"),
    );
    check("images", "{{.Repository}}:{{.Tag}}", "localhost/banner:latest");
    assert_eq!(lab.ok("podwire images --format 'table {{.Repository}} {{.Tag}}' | head -1"), "REPOSITORY        TAG");
    assert!(lab.ok("podwire images --format '{{json .}}'").starts_with("{\"Id\":"));
    check("image inspect banner", "{{.Architecture}}/{{.Os}}", "amd64/linux");
    check("info", "{{.Host.OS}} {{.Host.OCIRuntime.Name}}", "linux crun");
    check(
        "events --stream=false --filter container=web --filter event=start",
        "{{.Type}} {{.Status}} {{.Name}}",
        "container start web",
    );
    check("network ls", "{{.Name}} {{.Driver}}", "podman bridge\nshop bridge");
    check("network inspect shop", "{{range .Subnets}}{{.Subnet}}{{end}}", "10.99.0.0/24");
    check("volume ls", "{{.Name}} {{.Driver}} {{.Labels}}", "data local map[a:b]");
    check("pod ps", "{{.Name}} {{.NumberOfContainers}}", "p 1");
    check("system df", "{{.Type}}", "Images\nContainers\nLocal Volumes");
    check("version", "{{.Client.Version}}", env!("CARGO_PKG_VERSION"));
    lab.host("podwire ps --format '{{.Nope}}'").refuses(125, "can't evaluate field Nope in type");
    lab.host("podwire ps --format '{{.Names'").refuses(125, "unclosed action");
}
