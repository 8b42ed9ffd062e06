//! Containers on a real kernel, in namespaces made for it: nothing of the machine is touched.
//!
//! The binary plays four parts: the one cargo calls, which starts itself in fresh namespaces; the tests
//! there; commands (`run …`), because a command in the foreground uses a process's own streams; monitors.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use podwire_engine as engine;

use engine::config::{
    AttachmentConfig, ContainerConfig, Dns, NetworkConfig, NetworkMode, PullPolicy, SecurityConfig, VolumeMount,
    VolumeSource,
};
use engine::{
    Attach, Engine, EngineOptions, ExecConfig, Foreground, Kind, LogOptions, RemoveOptions, RunEnd, State, Talk,
};

const INSIDE: &str = "PODWIRE_TEST_ROOT";

/// A sentence, and what shows it on the engine's root directory.
type Test = (&'static str, fn(&Path));

const TESTS: &[Test] = &[
    ("output_and_exit_code_come_back_whole_and_nothing_stays", output_and_exit_code_come_back),
    ("a_command_that_is_not_there_leaves_no_container", a_command_that_is_not_there),
    ("a_published_port_answers_until_the_container_is_removed", a_published_port_answers),
    ("a_busy_port_is_refused_before_anything_is_made", a_busy_port_is_refused),
    ("a_killed_monitor_is_replaced_and_the_container_lives_on", a_killed_monitor_is_replaced),
    ("a_command_killed_at_any_moment_leaves_all_or_nothing", a_killed_command_leaves_all_or_nothing),
    ("a_stopped_container_starts_again_with_its_files", a_stopped_container_starts_again),
    ("exec_has_the_commands_code_and_podmans_for_none", exec_codes),
    ("a_new_volume_has_what_the_image_has_there", a_new_volume_is_filled),
    ("a_terminal_outlives_its_monitor_and_its_keeper", a_terminal_outlives_its_monitor),
    ("an_input_outlives_its_monitor_and_still_has_an_end", an_input_outlives_its_monitor),
    ("a_keeper_ends_with_its_container_whatever_was_killed", a_keeper_ends_with_its_container),
    ("a_monitor_or_keeper_killed_at_any_moment_leaves_all_or_nothing", a_killed_monitor_leaves_all_or_nothing),
    ("what_cannot_hear_the_stop_signal_is_not_waited_for", what_cannot_hear_is_not_waited_for),
    ("a_container_without_network_knows_the_hosts_address", without_network),
    ("replace_takes_the_name_of_a_container_that_runs", replace_takes_the_name),
    ("id_and_pid_files_are_there_as_long_as_they_are_true", id_and_pid_files),
    ("privileges_are_podmans_defaults_or_all", privileges),
    ("a_read_only_root_has_writable_places", a_read_only_root),
    ("a_tmpfs_has_the_size_that_was_asked_for", a_tmpfs),
    ("a_network_namespace_of_somebody_else_is_joined_and_left_alone", a_foreign_namespace),
    ("runc_does_what_crun_does", runc),
    ("after_a_reboot_containers_are_down_and_start_again", after_a_reboot),
    ("a_system_call_that_fails_leaves_nothing_half_done", failing_calls),
    ("what_a_killed_pull_left_goes_with_the_next_command", leftovers_go),
    ("a_hundred_containers_cost_a_command_little", a_hundred_containers),
];

fn main() {
    if std::env::args().next().as_deref() == Some(engine::MONITOR_NAME) {
        std::process::exit(engine::monitor_main());
    }
    if std::env::args().next().as_deref() == Some(engine::netd::NETD_NAME) {
        std::process::exit(netd::netd_main());
    }
    if std::env::args().next().as_deref() == Some(engine::KEEPER_NAME) {
        std::process::exit(engine::keeper_main());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match (std::env::var_os(INSIDE), arguments.split_first()) {
        (Some(root), Some((command, rest))) if command == "run" => run_command(Path::new(&root), rest),
        (Some(root), Some((command, rest))) if command == "attach" => {
            let attach = Attach::Foreground(Foreground::default());
            let RunEnd::Exited(code) = open(Path::new(&root)).attach(&rest[0], &attach).unwrap().end else { return };
            std::process::exit(code);
        }
        (Some(root), Some((command, rest))) if command == "remove" => remove(&mut open(Path::new(&root)), &rest[0]),
        (Some(root), _) => run_tests(Path::new(&root)),
        (None, _) if !linux::process::is_root() => println!("{} tests SKIPPED: needs root", TESTS.len()),
        (None, _) => enter(),
    }
}

/// Starts this binary in fresh namespaces, with an empty /run.
fn enter() {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount --make-rprivate / && mount -t tmpfs -o mode=755 none /run && mkdir -p /run/lock /run/netns && \
                  ip link set lo up && exec \"$0\" \"$@\"";
    let status = Command::new("unshare")
        .args(["-n", "-m", "-u", "-i", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args().nth(1).filter(|name| !name.starts_with('-')))
        .env(INSIDE, directory.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn run_tests(root: &Path) {
    import(root);
    let before = traces();
    let chosen = std::env::args().nth(1).unwrap_or_default();
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&chosen)) {
        test(root);
        let left = remains(root);
        assert!(left.is_empty(), "{name} left {left:?}");
        assert_eq!(traces(), before, "{name} changed the namespaces");
        println!("test {name} ... ok");
    }
}

/// What a user could see of us: links, rules, namespaces, mounts.
fn traces() -> String {
    let script = "ip -br link; nft list ruleset; ls /run/netns; grep -c podwire /proc/self/mountinfo";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Containers, and directories of containers.
fn remains(root: &Path) -> Vec<String> {
    let mut found: Vec<String> = open(root).list().unwrap().iter().map(|c| c.name.to_string()).collect();
    for dir in [
        root.join("overlay-containers"),
        PathBuf::from("/run/podwire/overlay-containers"),
        "/run/podwire/crun".into(),
        "/run/podwire/runc".into(),
    ] {
        found.extend(std::fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().path().display().to_string()));
    }
    found
}

fn options(root: &Path) -> EngineOptions {
    EngineOptions { root: root.to_owned(), ..EngineOptions::default() }
}

fn open(root: &Path) -> Engine {
    Engine::open(options(root)).unwrap()
}

/// An image of busybox alone.
fn import(root: &Path) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        match kind {
            tar::EntryType::Symlink => tar.append_link(&mut header, path, link).unwrap(),
            _ => tar.append_data(&mut header, path, content).unwrap(),
        }
    };
    let busybox = std::fs::read("/bin/busybox").expect("these tests need the package busybox-static");
    for dir in ["bin", "etc", "www", "tmp"] {
        add(dir, tar::EntryType::Directory, 0o755, "", b"");
    }
    add("bin/busybox", tar::EntryType::Regular, 0o755, "", &busybox);
    for applet in ["sh", "true", "cat", "sleep", "httpd", "seq", "touch"] {
        add(&format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, "busybox", b"");
    }
    add("etc/passwd", tar::EntryType::Regular, 0o644, "", b"root:x:0:0::/root:/bin/sh\n");
    add("www/index.html", tar::EntryType::Regular, 0o644, "", b"hello\n");
    let archive = tar.into_inner().unwrap();
    let wish = images::Import {
        name: Some("box"),
        changes: &[],
        message: None,
        created: jiff::Timestamp::now(),
        platform: images::Platform::host(),
    };
    open(root).images().unwrap().import(&mut archive.as_slice(), &wish).unwrap();
}

fn config(command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        name: None,
        image: "box".to_owned(),
        rootfs: None,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        entrypoint: None,
        default_env: Vec::new(),
        env: Vec::new(),
        unset_env: engine::config::UnsetEnv::default(),
        volumes: Vec::new(),
        volumes_from: Vec::new(),
        workdir: None,
        user: None,
        hostname: None,
        tty: false,
        interactive: false,
        pod: None,
        remove: false,
        replace: false,
        id_file: None,
        pid_file: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        stop_signal: None,
        stop_timeout: None,
        security: SecurityConfig::default(),
        limits: engine::config::Limits::default(),
        inside: engine::config::Inside::default(),
        care: engine::config::Care::default(),
        network: NetworkConfig {
            mode: NetworkMode::None,
            publish: Vec::new(),
            publish_all: false,
            expose: Vec::new(),
            add_hosts: Vec::new(),
            no_hosts: false,
            dns: Dns::Host,
            dns_search: None,
            dns_options: Vec::new(),
            ..NetworkConfig::default()
        },
        users: engine::config::UsersWish::Host,
        tmpfs: Vec::new(),
        pull: PullPolicy::Never,
        platform: None,
        tls_verify: true,
        create_command: Vec::new(),
    }
}

fn web(port: &str) -> ContainerConfig {
    let mut config = config(&["httpd", "-f", "-h", "/www"]);
    config.network.mode = NetworkMode::Networks(vec![AttachmentConfig::default()]);
    config.network.publish = vec![port.parse().unwrap()];
    config
}

fn start(engine: &mut Engine, config: ContainerConfig) -> engine::error::Result<String> {
    let talk = &mut Talk { warn: &mut |text| panic!("{text}"), progress: &images::Quiet };
    engine.run(config, Attach::Detached, talk).map(|result| result.id.to_string())
}

/// `run [-d] [-i] [--rm] COMMAND…`, as a process of its own.
fn run_command(root: &Path, arguments: &[String]) {
    let flags = arguments.iter().take_while(|word| word.starts_with('-')).count();
    let has = |flag: &str| arguments[..flags].iter().any(|word| word == flag);
    let command: Vec<&str> = arguments[flags..].iter().map(String::as_str).collect();
    let mut config = if has("-p") { web("8080:80") } else { config(&command) };
    config.interactive = has("-i");
    config.tty = has("-t");
    config.remove = has("--rm");
    let attach = if has("-d") { Attach::Detached } else { Attach::Foreground(Foreground::default()) };
    let talk = &mut Talk { warn: &mut |text| eprintln!("{text}"), progress: &images::Quiet };
    match open(root).run(config, attach, talk) {
        Ok(result) => match result.end {
            RunEnd::Exited(code) => std::process::exit(code),
            RunEnd::Detached => {}
        },
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(error.exit_code().into());
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = command_line(&["run"]);
    command.args(arguments);
    command
}

fn command_line(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0("containers").args(arguments);
    command
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child =
        command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A command that does not read its input closes it.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    })
}

/// What `look` sees, once it is `wanted`; at most ten seconds later.
fn eventually<T>(mut look: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let begin = Instant::now();
    loop {
        let seen = look();
        if wanted(&seen) || begin.elapsed() > Duration::from_secs(10) {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove(engine: &mut Engine, id: &str) {
    engine.remove(id, &RemoveOptions { force: true, volumes: true, ..RemoveOptions::default() }).unwrap();
}

fn output_and_exit_code_come_back(_: &Path) {
    let output = run(&["--rm", "sh", "-c", "echo out; echo err >&2; exit 7"], "");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.status.code(), Some(7));
    for _ in 0..20 {
        assert_eq!(run(&["--rm", "true"], "").status.code(), Some(0));
    }
    let lines: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    assert!(run(&["--rm", "-i", "cat"], &lines).stdout == lines.as_bytes());
    assert_eq!(run(&["--rm", "cat"], "not for it").stdout, b"");
    // Its first process itself is immune to its own SIGKILL (pid_namespaces(7)).
    assert_eq!(run(&["--rm", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], "").status.code(), Some(137));
}

fn a_command_that_is_not_there(root: &Path) {
    let output = run(&["nosuch"], "");
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("executable file `nosuch` not found in $PATH"));
    assert_eq!(run(&["/etc/passwd"], "").status.code(), Some(126));
    let missing = start(&mut open(root), ContainerConfig { image: "nosuch".to_owned(), ..config(&["true"]) });
    assert_eq!(missing.unwrap_err().kind, Kind::NotFound);
}

fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn a_published_port_answers(root: &Path) {
    let engine = &mut open(root);
    let id = start(engine, web("8080:80")).unwrap();
    let page = eventually(|| get(8080), |page| page.as_ref().is_ok_and(|text| text.ends_with("hello\n")));
    assert!(page.unwrap().ends_with("hello\n"));
    let shown = engine.inspect(&engine.find(&id[..12]).unwrap()).unwrap();
    assert_eq!(shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"], "8080");
    assert_eq!(shown["NetworkSettings"]["Gateway"], "10.88.0.1");
    remove(engine, &id);
    assert_eq!(get(8080).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

fn a_busy_port_is_refused(root: &Path) {
    let engine = &mut open(root);
    let id = start(engine, ContainerConfig { name: Some("first".parse().unwrap()), ..web("8080:80") }).unwrap();
    let error = start(engine, web("8080:80")).unwrap_err();
    assert_eq!(error.exit_code(), 126);
    assert_eq!(error.message, "cannot bind tcp port :8080: address already in use (by the container first)");
    assert_eq!(engine.list().unwrap().len(), 1);
    remove(engine, &id);
    let _held = std::net::TcpListener::bind("127.0.0.1:8081").unwrap();
    let error = start(engine, web("127.0.0.1:8081:80")).unwrap_err();
    assert_eq!(error.message, "cannot bind tcp port 127.0.0.1:8081: address already in use");
}

fn a_killed_monitor_is_replaced(root: &Path) {
    // It speaks while nobody listens, and after; not at the moment of the kill, for what the monitor had just
    // read is lost with it.
    let script = "sleep 0.5; for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.1; done; exit 4";
    let id = start(&mut open(root), config(&["sh", "-c", script])).unwrap();
    let first = monitor(&open(root), &id);
    kill(first);
    std::thread::sleep(Duration::from_millis(800));
    let mut engine = open(root);
    assert_ne!(monitor(&engine, &id), first);
    assert_eq!(engine.list().unwrap()[0].state, State::Running);
    assert_eq!(engine.wait(&id).unwrap(), 4);
    assert_eq!(said(&engine, &id), "1\n2\n3\n4\n5\n6\n7\n8\n");
    remove(&mut engine, &id);
}

fn monitor(engine: &Engine, id: &str) -> u32 {
    let shown = engine.inspect(&engine.find(id).unwrap()).unwrap();
    shown["State"]["ConmonPid"].as_u64().unwrap().try_into().unwrap()
}

fn kill(pid: u32) {
    let process = linux::ProcessRef::of(pid).unwrap();
    process.signal(linux::Signal::KILL).unwrap();
    process.wait_end(None).unwrap();
}

/// All that the log holds.
fn said(engine: &Engine, id: &str) -> String {
    let mut said = Vec::new();
    let take = &mut |line: &engine::LogLine<'_>| {
        said.extend_from_slice(line.text);
        Ok(())
    };
    engine.logs(id, &LogOptions::default(), take).unwrap();
    String::from_utf8(said).unwrap()
}

/// The processes that live under this name.
fn processes(name: &str) -> Vec<u32> {
    let numbers =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let named = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    };
    numbers.filter(named).collect()
}

fn keepers() -> Vec<u32> {
    processes(engine::KEEPER_NAME)
}

fn a_terminal_outlives_its_monitor(root: &Path) {
    let count = "trap 'echo hup' HUP; n=0; while [ $n -lt 15 ]; do n=$((n + 1)); echo $n; sleep 0.1; done; exit 4";
    let id = start(&mut open(root), ContainerConfig { tty: true, ..config(&["sh", "-c", count]) }).unwrap();
    assert_eq!(keepers().len(), 1);
    kill(monitor(&open(root), &id));
    // Written to a terminal that nobody reads.
    std::thread::sleep(Duration::from_millis(300));
    let first = keepers();
    let engine = open(root);
    assert_eq!(keepers(), first, "the new monitor has the old keeper");
    kill(first[0]);
    let second = eventually(keepers, |pids| pids.len() == 1);
    assert_ne!(second, first);
    kill(monitor(&engine, &id));
    let engine = &mut open(root);
    assert_eq!(engine.list().unwrap()[0].state, State::Running);
    let attached = command_line(&["attach", &id]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(attached.status.code(), Some(4), "{attached:?}");
    assert!(attached.stdout.ends_with(b"15\r\n"), "{attached:?}");
    let lines: String = (1..=15).map(|n| format!("{n}\r\n")).collect();
    assert_eq!(said(engine, &id), lines);
    assert_eq!(engine.wait(&id).unwrap(), 4);
    remove(engine, &id);
    assert_eq!(eventually(keepers, Vec::is_empty), [0; 0]);
}

fn an_input_outlives_its_monitor(root: &Path) {
    let read = "read line; echo got $line; cat; exit 3";
    let id = start(&mut open(root), ContainerConfig { interactive: true, ..config(&["sh", "-c", read]) }).unwrap();
    kill(monitor(&open(root), &id));
    kill(monitor(&open(root), &id));
    let engine = &mut open(root);
    let mut child = command_line(&["attach", &id]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"got one\ntwo\n"[..]));
    remove(engine, &id);
    assert_eq!(eventually(keepers, Vec::is_empty), [0; 0]);
}

fn a_keeper_ends_with_its_container(root: &Path) {
    let id = start(&mut open(root), ContainerConfig { tty: true, ..config(&["sleep", "100"]) }).unwrap();
    let shown = open(root).inspect(&open(root).find(&id).unwrap()).unwrap();
    kill(monitor(&open(root), &id));
    kill(shown["State"]["Pid"].as_u64().unwrap().try_into().unwrap());
    assert_eq!(eventually(keepers, Vec::is_empty), [0; 0]);
    let engine = &mut open(root);
    assert_eq!(engine.list().unwrap()[0].state, State::Exited);
    remove(engine, &id);
    let id = start(engine, ContainerConfig { tty: true, interactive: true, ..config(&["sleep", "100"]) }).unwrap();
    let both = [monitor(engine, &id), keepers()[0]];
    both.into_iter().for_each(kill);
    // The terminal hangs up, and the container's sleep does not hear it.
    assert_eq!(open(root).list().unwrap()[0].state, State::Running);
    remove(engine, &id);
}

fn a_killed_monitor_leaves_all_or_nothing(root: &Path) {
    let moments = [0, 1, 2, 4, 6, 8, 10, 14, 18, 24, 30, 40, 60];
    for (victim, milliseconds) in moments.iter().flat_map(|m| [(engine::MONITOR_NAME, *m), (engine::KEEPER_NAME, *m)]) {
        let mut child = command(&["-d", "-t", "sleep", "100"]).stderr(Stdio::null()).spawn().unwrap();
        let here = eventually(|| processes(victim), |pids| !pids.is_empty());
        std::thread::sleep(Duration::from_millis(milliseconds));
        // What a monitor has forked has its name until it is the runtime.
        here.iter().copied().filter(|pid| linux::ProcessRef::of(*pid).is_ok()).for_each(kill);
        let ran = child.wait().unwrap().success();
        let engine = &mut open(root);
        let states: Vec<State> = engine.list().unwrap().iter().map(|c| c.state).collect();
        let wanted: &[State] = if ran { &[State::Running] } else { &[] };
        assert_eq!(states, wanted, "{victim} killed after {milliseconds} ms");
        assert!(ran || victim == engine::MONITOR_NAME, "a keeper that is killed hurts nobody");
        assert_eq!(eventually(keepers, |pids| pids.len() == states.len()).len(), states.len());
        for container in engine.list().unwrap() {
            remove(engine, &container.id.to_string());
        }
        assert_eq!(eventually(keepers, Vec::is_empty), [0; 0]);
        assert!(remains(root).is_empty(), "{victim} {milliseconds} ms: {:?}", remains(root));
    }
}

fn what_cannot_hear_is_not_waited_for(root: &Path) {
    let engine = &mut open(root);
    let begin = Instant::now();
    let id = start(engine, config(&["sleep", "100"])).unwrap();
    assert_eq!(engine.stop(&id, None).unwrap().warning, None);
    assert_eq!(engine.list().unwrap()[0].exit_code, 137);
    remove(engine, &id);
    let id = start(engine, config(&["sleep", "100"])).unwrap();
    remove(engine, &id);
    let mute = config(&["sh", "-c", "trap 'echo no' TERM; echo ready; while true; do sleep 0.05; done"]);
    for seconds in [0, 1] {
        let id = start(engine, mute.clone()).unwrap();
        eventually(|| said(engine, &id), |text| text == "ready\n");
        let warning = engine.stop(&id, Some(seconds)).unwrap().warning;
        assert_eq!(warning.is_some(), seconds == 1, "{warning:?}");
        assert_eq!(said(engine, &id).contains("no\n"), seconds == 1);
        remove(engine, &id);
    }
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    let id = start(
        engine,
        config(&["sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.05; done"]),
    );
    let id = id.unwrap();
    eventually(|| said(engine, &id), |text| text == "ready\n");
    let log = root.join("overlay-containers").join(&id).join("userdata/ctr.log");
    let kept = std::fs::File::open(log).unwrap();
    remove(engine, &id);
    assert!(std::io::read_to_string(kept).unwrap().contains("bye"), "rm -f asks first");
}

fn a_killed_command_leaves_all_or_nothing(root: &Path) {
    for milliseconds in [0, 2, 4, 6, 8, 10, 14, 18, 24, 30, 40, 60, 100] {
        let mut child = command(&["-d", "-p"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        // A monitor that had the container already goes on with it.
        let settled = |engine: &Engine| engine.list().unwrap().iter().all(|c| c.state == State::Running);
        let mut engine = eventually(|| open(root), settled);
        for container in engine.list().unwrap() {
            assert_eq!(container.state, State::Running, "after {milliseconds} ms");
            remove(&mut engine, &container.id.to_string());
        }
        assert!(remains(root).is_empty(), "after {milliseconds} ms: {:?}", remains(root));
    }
}

fn a_stopped_container_starts_again(root: &Path) {
    let engine = &mut open(root);
    let count = "trap 'exit 3' TERM; echo x >>/tmp/runs; cat /tmp/runs; while true; do sleep 0.05; done";
    let id = start(engine, config(&["sh", "-c", count])).unwrap();
    let logged = |engine: &Engine| {
        let mut lines = 0;
        engine
            .logs(&id, &LogOptions::default(), &mut |_| {
                lines += 1;
                Ok(())
            })
            .unwrap();
        lines
    };
    assert_eq!(eventually(|| logged(engine), |lines| *lines == 1), 1);
    let error = engine.remove(&id, &RemoveOptions::default()).unwrap_err();
    assert_eq!(error.kind, Kind::WrongState);
    assert_eq!(engine.stop(&id, Some(5)).unwrap().warning, None);
    assert_eq!((engine.list().unwrap()[0].state, engine.list().unwrap()[0].exit_code), (State::Exited, 3));
    let full = engine.find(&id).unwrap();
    engine.start(&full, Attach::Detached).unwrap();
    assert_eq!(eventually(|| logged(engine), |lines| *lines == 3), 3, "the file of the first run is there");
    engine.stop(&id, Some(5)).unwrap();
    assert_eq!(engine.remove(&id, &RemoveOptions::default()).unwrap(), [full]);
}

fn exec_codes(root: &Path) {
    let engine = &mut open(root);
    let id = start(engine, config(&["sleep", "100"])).unwrap();
    let id = engine.find(&id).unwrap();
    let mut exec = |command: &[&str]| {
        let config =
            ExecConfig { command: command.iter().map(|word| (*word).to_owned()).collect(), ..ExecConfig::default() };
        engine.exec(&id, config, Attach::Foreground(Foreground::default()))
    };
    assert_eq!(exec(&["sh", "-c", "exit 5"]).unwrap(), RunEnd::Exited(5));
    assert_eq!(exec(&["nosuch"]).unwrap_err().exit_code(), 127);
    assert_eq!(exec(&["/etc/passwd"]).unwrap_err().exit_code(), 126);
    remove(engine, &id.to_string());
}

fn a_new_volume_is_filled(_: &Path) {
    let root = PathBuf::from(std::env::var_os(INSIDE).unwrap());
    let engine = &mut open(&root);
    let mut wish = config(&["sh", "-c", "cat /www/index.html; touch /www/more"]);
    wish.volumes = vec![VolumeMount {
        source: VolumeSource::Named("pages".to_owned()),
        target: "/www".to_owned(),
        options: Vec::new(),
    }];
    let id = start(engine, wish).unwrap();
    assert_eq!(engine.wait(&id).unwrap(), 0);
    let volume = root.join("volumes/pages/_data");
    assert_eq!(std::fs::read_to_string(volume.join("index.html")).unwrap(), "hello\n");
    assert!(volume.join("more").exists());
    remove(engine, &id);
}

/// Runs it to its end in the background; what it said and its exit code.
fn spoken(root: &Path, config: ContainerConfig) -> (String, i32) {
    let engine = &mut open(root);
    let id = start(engine, config).unwrap();
    let code = engine.wait(&id).unwrap();
    let text = said(engine, &id);
    remove(engine, &id);
    (text, code)
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn without_network(root: &Path) {
    sh("ip addr add 198.51.100.7/32 dev lo");
    let (hosts, _) = spoken(root, config(&["cat", "/etc/hosts"]));
    sh("ip addr del 198.51.100.7/32 dev lo");
    assert!(hosts.contains("198.51.100.7\thost.containers.internal host.docker.internal\n"), "{hosts}");
}

fn replace_takes_the_name(root: &Path) {
    let engine = &mut open(root);
    let named = || ContainerConfig { name: Some("web".parse().unwrap()), ..web("8080:80") };
    let first = start(engine, named()).unwrap();
    let refused = start(engine, named()).unwrap_err();
    assert!(refused.message.contains(&format!("already in use by {first}")), "{refused}");
    let second = start(engine, ContainerConfig { replace: true, ..named() }).unwrap();
    let ids: Vec<String> = engine.list().unwrap().iter().map(|c| c.id.to_string()).collect();
    assert_eq!(ids, [second.as_str()]);
    assert!(eventually(|| get(8080), Result::is_ok).is_ok());
    remove(engine, &second);
    let third = start(engine, ContainerConfig { replace: true, ..named() }).unwrap();
    remove(engine, &third);
    let nameless = start(engine, ContainerConfig { replace: true, ..web("8080:80") }).unwrap_err();
    assert_eq!(nameless.message, "cannot replace container without --name being set");
}

fn id_and_pid_files(root: &Path) {
    let engine = &mut open(root);
    let (id_file, pid_file) = (root.join("id"), root.join("pid"));
    let with_files = |command: &[&str]| ContainerConfig {
        id_file: Some(id_file.clone()),
        pid_file: Some(pid_file.clone()),
        ..config(command)
    };
    assert_eq!(start(engine, with_files(&["nosuch"])).unwrap_err().exit_code(), 127);
    assert!(!id_file.exists() && !pid_file.exists());
    let id = start(engine, with_files(&["sleep", "100"])).unwrap();
    assert_eq!(std::fs::read_to_string(&id_file).unwrap(), id);
    let shown = engine.inspect(&engine.find(&id).unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), shown["State"]["Pid"].to_string());
    assert_eq!(shown["PidFile"], pid_file.to_str().unwrap());
    let refused = start(engine, with_files(&["true"])).unwrap_err();
    let words = "container ID file exists. Ensure another container is not using it or delete";
    assert_eq!(refused.message, format!("{words} {}", id_file.display()));
    assert_eq!(std::fs::read_to_string(&id_file).unwrap(), id, "another container's is not touched");
    remove(engine, &id);
    assert!(!id_file.exists());
    std::fs::remove_file(&pid_file).unwrap();
}

fn privileges(root: &Path) {
    let look = "exec 2>&1; busybox grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; cat /proc/self/oom_score_adj; \
                echo 0 >/proc/sys/net/ipv4/ip_forward && echo written; ls /dev >/dev/null";
    let (text, _) = spoken(root, config(&["sh", "-c", look]));
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let expected = format!(
        "NoNewPrivs:\t0\nSeccomp:\t2\n{own}sh: can't create /proc/sys/net/ipv4/ip_forward: Read-only file system\n"
    );
    assert_eq!(text.replace("CapEff:\t00000000800405fb\nCapBnd:\t00000000800405fb\n", ""), expected);
    let mut all = config(&["sh", "-c", look]);
    all.security.privileged = true;
    let (text, _) = spoken(root, all);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = status.lines().find(|line| line.starts_with("CapBnd:")).unwrap();
    assert!(text.contains(ours) && text.contains("Seccomp:\t0\n") && text.ends_with("written\n"), "{text} {ours}");
}

fn a_read_only_root(root: &Path) {
    let mut wish =
        config(&["sh", "-c", "exec 2>&1; touch /x /etc/x || touch /tmp/x /run/x /var/tmp/x /dev/shm/x && echo ok"]);
    wish.security.read_only = true;
    let (text, code) = spoken(root, wish);
    assert!(text.contains("/x: Read-only file system") && text.ends_with("ok\n") && code == 0, "{text}");
}

fn a_tmpfs(root: &Path) {
    let mut wish = config(&["sh", "-c", "busybox grep ' /scratch ' /proc/mounts; touch /scratch/x"]);
    wish.tmpfs = vec![("/scratch".to_owned(), "size=1m,noexec".to_owned())];
    let (text, code) = spoken(root, wish);
    assert!(text.contains("tmpfs") && text.contains("size=1024k") && text.contains("noexec") && code == 0, "{text}");
}

fn a_foreign_namespace(root: &Path) {
    sh("ip netns add foreign");
    let mut wish = config(&["sh", "-c", "busybox readlink /proc/self/ns/net; busybox ip link"]);
    wish.network.mode = NetworkMode::Path("/run/netns/foreign".into());
    let (text, _) = spoken(root, wish.clone());
    let inside = sh("ip netns exec foreign readlink /proc/self/ns/net");
    assert!(text.starts_with(&inside) && !text.contains("eth0"), "{text} {inside}");
    sh("ip netns del foreign");
    let gone = start(&mut open(root), wish).unwrap_err();
    let words = "cannot find specified network namespace path: faccessat /run/netns/foreign: no such file or directory";
    assert_eq!(gone.message, words);
}

fn runc(root: &Path) {
    if !Command::new("runc").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return println!("test runc SKIPPED: runc is not installed");
    }
    let options = EngineOptions { runtime: Some("runc".to_owned()), ..options(root) };
    let engine = &mut Engine::open(options).unwrap();
    let id = start(engine, ContainerConfig { tty: true, ..web("8080:80") }).unwrap();
    let page = eventually(|| get(8080), |page| page.as_ref().is_ok_and(|text| text.ends_with("hello\n")));
    assert!(page.unwrap().ends_with("hello\n"));
    let full = engine.find(&id).unwrap();
    let exec = ExecConfig { command: vec!["sh".into(), "-c".into(), "exit 5".into()], ..ExecConfig::default() };
    let exec = engine.exec(&full, exec, Attach::Foreground(Foreground::default())).unwrap();
    assert_eq!(exec, RunEnd::Exited(5));
    kill(monitor(engine, &id));
    engine.stop(&id, None).unwrap();
    engine.start(&full, Attach::Detached).unwrap();
    remove(engine, &id);
    assert_eq!(start(engine, config(&["nosuch"])).unwrap_err().exit_code(), 127);
    let id = start(engine, config(&["sh", "-c", "exit 3"])).unwrap();
    assert_eq!(engine.wait(&id).unwrap(), 3);
    remove(engine, &id);
}

fn after_a_reboot(root: &Path) {
    let engine = &mut open(root);
    let id = start(engine, web("8080:80")).unwrap();
    let shown = engine.inspect(&engine.find(&id).unwrap()).unwrap();
    kill(monitor(engine, &id));
    kill(shown["State"]["Pid"].as_u64().unwrap().try_into().unwrap());
    processes(engine::netd::NETD_NAME).into_iter().for_each(kill);
    eventually(|| processes(engine::netd::NETD_NAME), Vec::is_empty);
    // What a reboot leaves of it: nothing in the kernel, nothing in /run.
    sh("ip link del podman0; nft flush ruleset; umount /run/netns/podwire-*; \
        rm -r /run/podwire /run/netns/* /run/lock/podwire-*");
    let store = store::Store::open(root).unwrap();
    store.write(|tx| tx.set_identity("00000000-0000-0000-0000-000000000000 1")).unwrap();
    let engine = &mut open(root);
    assert_eq!(engine.list().unwrap()[0].state, State::Exited);
    engine.start(&engine.find(&id).unwrap(), Attach::Detached).unwrap();
    let page = eventually(|| get(8080), Result::is_ok);
    assert!(page.unwrap().ends_with("hello\n"));
    remove(engine, &id);
}

/// One failure each time a command runs, of a call that the command itself makes.
fn failing_calls(root: &Path) {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return println!("test failing_calls SKIPPED: strace is not installed");
    }
    let before = traces();
    let (mut failed, mut tried) = (0, 0);
    let mut try_one = |call: &str, error: &str, when: u32, follow: &[&str], arguments: &[&str]| {
        let inject = format!("inject={call}:error={error}:when={when}");
        let mut strace = Command::new("timeout");
        strace.args(["30", "strace", "-o", "/dev/null"]).args(follow).args(["-e", &inject, "--"]);
        strace.arg(std::env::current_exe().unwrap()).args(arguments);
        let output = strace.stdin(Stdio::null()).output().unwrap();
        assert_ne!(output.status.code(), Some(124), "hangs at {call} {error} {when}");
        tried += 1;
        failed += usize::from(!output.status.success());
        let engine = &mut open(root);
        for container in engine.list().unwrap() {
            // An rm that could not wait for the end leaves that to the monitor.
            let settles = matches!(container.state, State::Running | State::Stopping | State::Exited);
            assert!(settles, "{call} {error} {when}: {output:?}");
            remove(engine, &container.id.to_string());
        }
        assert!(remains(root).is_empty(), "{call} {error} {when}: {:?} {output:?}", remains(root));
        assert_eq!(eventually(traces, |now| *now == before), before, "{call} {error} {when}: {output:?}");
    };
    let calls = [
        ("openat", "EMFILE", [30, 60, 90]),
        ("pwrite64", "ENOSPC", [1, 4, 9]),
        ("write", "EIO", [1, 2, 4]),
        ("mkdir", "ENOSPC", [1, 4, 7]),
        ("rename", "EIO", [1, 2, 3]),
        ("socket", "EMFILE", [1, 2, 4]),
        ("sendmsg", "ENOBUFS", [1, 3, 6]),
        ("fsync", "EIO", [1, 2, 3]),
        ("mount", "ENOSPC", [1, 2, 3]),
        ("socketpair", "EMFILE", [1, 2, 3]),
    ];
    for (call, error, places) in calls {
        for when in places {
            try_one(call, error, when, &[], &["run", "-d", "-p"]);
            let id = start(&mut open(root), web("8080:80")).unwrap();
            try_one(call, error, when, &[], &["remove", &id]);
            try_one(call, error, when, &["-f"], &["run", "--rm", "true"]);
        }
    }
    assert!(failed > 10, "{failed} of {tried} failed: they should hit something");
}

fn leftovers_go(root: &Path) {
    let orphan = root.join("overlay/4711/diff");
    std::fs::create_dir_all(&orphan).unwrap();
    let layers = |root: &Path| std::fs::read_dir(root.join("overlay")).unwrap().count();
    let before = layers(root);
    drop(open(root));
    assert!(!orphan.exists());
    assert!(layers(root) < before && layers(root) > 0, "the image's own stay");
}

fn a_hundred_containers(root: &Path) {
    let engine = &mut open(root);
    let ids: Vec<String> = (0..100).map(|_| start(engine, config(&["sleep", "1000"])).unwrap()).collect();
    let begin = Instant::now();
    drop(open(root));
    println!("opening with 100 containers: {:?}", begin.elapsed());
    ids.iter().for_each(|id| remove(engine, id));
}
