//! Commands on containers that people type every day: cp, top, attach, pause, choosing by filter.

use lab::trial::Sentence;
use lab::{Lab, LabOptions, sentences};

use crate::words::{eventually, load, peer};

pub(crate) fn sentences() -> Vec<Sentence> {
    sentences![LabOptions::default(); &[];
        files_are_copied_both_ways_whether_a_container_runs_or_not,
        a_copy_goes_where_podmans_rules_say,
        tar_streams_go_in_and_out,
        links_in_a_container_do_not_lead_a_copy_out_of_it,
        top_shows_the_processes_of_a_container,
        attach_takes_part_in_what_a_container_says_and_hears,
        a_terminal_is_left_by_the_detach_keys,
        a_paused_container_stands_still_and_goes_on,
        containers_are_chosen_by_filter_file_and_latest,
    ]
}

fn files_are_copied_both_ways_whether_a_container_runs_or_not(lab: &Lab) {
    load(lab);
    let dir = lab.dir().display();
    lab.host("podwire create --name web -u web -v data:/data banner sleep 1000").ok();
    lab.host(&format!("mkdir -p {dir}/src/below && echo one >{dir}/src/one && ln -s one {dir}/src/link && echo two >{dir}/src/below/two")).ok();
    lab.host(&format!("podwire cp {dir}/src web:/data/copy")).ok();
    assert_eq!(lab.ok("podwire ps -a --format '{{.State}}'"), "created");
    lab.host("podwire start web").ok();
    lab.host("podwire exec web cat /data/copy/link /data/copy/below/two").ok().says("one\ntwo");
    assert_eq!(lab.ok("podwire exec web stat -c %U /data/copy/one"), "web", "copied files are the container's user's");
    lab.host(&format!("podwire cp -a=false {dir}/src/one web:/tmp/root")).ok();
    assert_eq!(lab.ok("podwire exec web stat -c %u /tmp/root"), "0");
    lab.host("podwire exec -u 0 web sh -c 'echo three >/data/copy/three'").ok();
    lab.host(&format!("podwire cp web:/data/copy {dir}/back")).ok();
    assert_eq!(
        lab.ok(&format!("cat {dir}/back/three {dir}/back/below/two; readlink {dir}/back/link")),
        "three\ntwo\none"
    );
    lab.host("podwire stop -t 0 web").ok();
    lab.host(&format!("podwire cp web:data/copy/three {dir}/again")).ok();
    assert_eq!(lab.ok(&format!("cat {dir}/again; stat -c %u {dir}/again")), "three\n0");
    lab.host("podwire create --name other banner").ok();
    lab.host("podwire cp web:/data/copy/. other:/tmp && podwire start other").ok();
    lab.host("podwire exec other cat /tmp/three /tmp/below/two").ok().says("three\ntwo");
    lab.host("podwire cp web:/data/copy/three web:/etc/three").ok();
}

fn a_copy_goes_where_podmans_rules_say(lab: &Lab) {
    load(lab);
    let dir = lab.dir().display();
    lab.host("podwire run -d --name web banner").ok();
    lab.host(&format!("mkdir -p {dir}/d && echo x >{dir}/d/f && echo y >{dir}/g")).ok();
    let inside = |path: &str| lab.host(&format!("podwire exec web cat {path}"));
    lab.host(&format!("podwire cp {dir}/d/f web:/tmp")).ok();
    inside("/tmp/f").ok().says("x");
    lab.host(&format!("podwire cp {dir}/g web:/tmp/f")).ok();
    inside("/tmp/f").ok().says("y");
    lab.host(&format!("podwire cp {dir}/d web:/tmp")).ok();
    inside("/tmp/d/f").ok().says("x");
    lab.host(&format!("podwire cp {dir}/d/. web:/tmp/d")).ok();
    lab.host(&format!("podwire cp {dir}/d web:/tmp/new")).ok();
    inside("/tmp/new/f").ok().says("x");
    lab.host(&format!("podwire cp {dir}/d web:/tmp/f")).refuses(125, "must be a directory when copying a directory");
    lab.host(&format!("podwire cp {dir}/nope web:/tmp")).refuses(125, "could not be found on the host: no such file");
    lab.host(&format!("podwire cp {dir}/g web:/no/such/place")).refuses(125, "could not be found on container web");
    lab.host(&format!("podwire cp web:/nope {dir}")).refuses(125, "\"/nope\" could not be found on container web");
    lab.host(&format!("podwire cp {dir}/d {dir}/e")).refuses(125, "you must specify one container");
    lab.host(&format!("podwire cp nope:/x {dir}")).refuses(125, "no such container");
    lab.host(&format!("podwire exec web mkdir /tmp/g && podwire cp {dir}/d/f web:/tmp/g/f")).ok();
    lab.host(&format!("mkdir {dir}/x && mkdir {dir}/x/f && podwire cp {dir}/x/. web:/tmp/d"))
        .refuses(125, "cannot overwrite non-directory");
    lab.host(&format!("podwire cp --overwrite {dir}/x/. web:/tmp/d")).ok();
}

fn tar_streams_go_in_and_out(lab: &Lab) {
    load(lab);
    let dir = lab.dir().display();
    lab.host("podwire run -d --name web banner").ok();
    assert_eq!(lab.ok("podwire cp web:/www - | tar tf -"), "www/\nwww/index.html");
    lab.host(&format!("mkdir {dir}/t && echo in >{dir}/t/f && tar cf - -C {dir} t | podwire cp - web:/tmp")).ok();
    lab.host("podwire exec web cat /tmp/t/f").ok().says("in");
    lab.host(&format!("tar cf - -C {dir} t | podwire cp - web:/www/index.html"))
        .refuses(125, "destination must be a directory when copying from stdin");
    let sum = lab.ok("podwire exec web sh -c 'head -c 30000000 /dev/urandom >/tmp/big; md5sum </tmp/big'");
    lab.host(&format!("podwire cp web:/tmp/big {dir}/big")).ok();
    assert_eq!(lab.ok(&format!("md5sum <{dir}/big")), sum);
}

fn links_in_a_container_do_not_lead_a_copy_out_of_it(lab: &Lab) {
    load(lab);
    let dir = lab.dir().display();
    lab.host(&format!("mkdir {dir}/victim && echo secret >{dir}/victim/file && echo new >{dir}/new")).ok();
    for state in ["running", "stopped"] {
        lab.host(&format!("podwire run -d --name {state} banner")).ok();
        lab.host(&format!(
            "podwire exec {state} sh -c 'ln -s {dir}/victim /out; ln -s ../../../../../../../../{dir}/victim /up'"
        ))
        .ok();
        if state == "stopped" {
            lab.host(&format!("podwire stop -t 0 {state}")).ok();
        }
        for link in ["out", "up"] {
            lab.host(&format!("podwire cp {state}:/{link}/file {dir}/stolen")).code(125);
            lab.host(&format!("podwire cp {dir}/new {state}:/{link}/new")).code(125);
        }
    }
    // A link that the stream itself brings is not followed on the host either.
    lab.host("podwire exec running sh -c 'mkdir /evil; ln -s /etc /evil/link'").ok();
    lab.host(&format!("mkdir {dir}/to && podwire cp running:/evil/. {dir}/to")).ok();
    assert_eq!(lab.ok(&format!("readlink {dir}/to/link")), "/etc");
    assert_eq!(lab.ok(&format!("ls {dir}/victim; cat {dir}/victim/file")), "file\nsecret");
    assert!(!lab.ok(&format!("ls {dir}")).contains("stolen"));
}

fn top_shows_the_processes_of_a_container(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web -u web banner sh -c 'sleep 1000 & sleep 2000'").ok();
    let all = eventually(|| lab.host("podwire top web"), |run| run.out.lines().count() == 3);
    assert!(all.out.starts_with("USER        PID         PPID        %CPU        ELAPSED"), "{}", all.out);
    assert!(all.out.contains("web         1           0 ") && all.out.contains("sleep 2000\n"), "{}", all.out);
    let some = lab.ok("podwire top web pid,comm huser");
    assert_eq!(some.lines().next().unwrap_or_default(), "PID         COMMAND     HUSER");
    assert!(some.contains("1           sleep       33"), "{some}");
    lab.host("podwire top web -o pid,args").ok().says("sleep 1000");
    lab.host("podwire stop -t 0 web").ok();
    lab.host("podwire top web").refuses(125, "top can only be used on running containers");
    lab.host("podwire top").refuses(125, "you must provide the name or id of a running container");
}

fn attach_takes_part_in_what_a_container_says_and_hears(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d -i --name cat banner sh -c 'read line; echo \"heard $line\"; exit 3'").ok();
    let run = lab.host("echo hello | podwire attach cat");
    assert_eq!((run.code, run.out.trim()), (3, "heard hello"));
    lab.host("podwire attach cat").refuses(125, "you can only attach to running containers");
    lab.host("podwire run -d --name talker banner sh -c 'trap \"echo got; exit 5\" INT; echo ready; while true; do sleep 0.1; done'").ok();
    eventually(|| lab.host("podwire logs talker"), |run| run.out.contains("ready"));
    let hearer = lab.host("timeout -s INT 1 podwire attach --no-stdin talker");
    assert!(hearer.out.contains("got"), "{}", hearer.out);
    lab.host("podwire attach").refuses(125, "attach requires the name or id of one running container");
}

fn a_terminal_is_left_by_the_detach_keys(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d -it --name shell banner sh").ok();
    let keys = "(sleep 1; printf 'echo hi\\n'; sleep 1; printf 'a\\003'; sleep 1)";
    let run = lab.host(&format!("{keys} | {}", peer(lab, "pty podwire attach --detach-keys a,ctrl-c shell")));
    assert!(run.out.contains("hi"), "{}", run.out);
    assert_eq!(lab.ok("podwire inspect -f '{{.State.Status}}' shell"), "running");
}

fn a_paused_container_stands_still_and_goes_on(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name web banner sh -c 'while true; do echo tick; sleep 0.05; done'").ok();
    assert_eq!(lab.ok("podwire pause web"), "web");
    assert_eq!(lab.ok("podwire ps --filter status=paused --format '{{.Status}} {{.State}}'"), "Paused paused");
    assert_eq!(lab.ok("podwire inspect -f '{{.State.Paused}} {{.State.Running}}' web"), "true false");
    let before = lab.ok("podwire logs web | wc -l");
    lab.host("sleep 0.4").ok();
    assert_eq!(lab.ok("podwire logs web | wc -l"), before);
    lab.host("podwire exec web true").code(255);
    lab.host("podwire pause web").refuses(125, "is not running, can't pause: container state improper");
    assert_eq!(lab.ok("podwire unpause web"), "web");
    lab.host("podwire unpause web").refuses(125, "is not paused, can't unpause: container state improper");
    eventually(|| lab.host("podwire logs web | wc -l"), |run| run.out.trim() != before);
    lab.host("podwire pause -a && podwire stop -t 0 web").ok();
    assert_eq!(lab.ok("podwire ps -a --format '{{.State}}'"), "exited");
    lab.host("podwire start web && podwire pause web && podwire rm -f -t 0 web").ok();
}

fn containers_are_chosen_by_filter_file_and_latest(lab: &Lab) {
    load(lab);
    lab.host("podwire run -d --name one --label shop=yes --cidfile /run/one banner").ok();
    lab.host("podwire run -d --name two --restart always banner").ok();
    let state = |name: &str| lab.ok(&format!("podwire inspect -f '{{{{.State.Status}}}}' {name}"));
    lab.host("podwire stop -t 0 --filter label=shop=yes").ok();
    assert_eq!((state("one"), state("two")), ("exited".to_owned(), "running".to_owned()));
    lab.host("podwire start --filter label=shop").ok();
    lab.host("podwire kill --latest").ok();
    assert_eq!((state("one"), state("two")), ("running".to_owned(), "exited".to_owned()));
    let id = lab.ok("cat /run/one");
    assert_eq!(lab.ok("podwire stop -t 0 --cidfile /run/one"), id);
    assert_eq!(lab.ok("podwire start --all --filter restart-policy=always").lines().count(), 1);
    assert_eq!(state("two"), "running");
    lab.host("podwire stop --latest one").refuses(125, "--all, --latest, and containers cannot be used together");
    lab.host("podwire rm --filter status=exited").ok();
    assert_eq!(lab.ok("podwire ps -a --format '{{.Names}}'"), "two");
}
