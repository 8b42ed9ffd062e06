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
];

fn main() {
    if std::env::args().next().as_deref() == Some(engine::MONITOR_NAME) {
        std::process::exit(engine::monitor_main());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match (std::env::var_os(INSIDE), arguments.split_first()) {
        (Some(root), Some((command, rest))) if command == "run" => run_command(Path::new(&root), rest),
        (Some(root), _) => run_tests(Path::new(&root)),
        (None, _) if !linux::process::is_root() => println!("{} tests SKIPPED: needs root", TESTS.len()),
        (None, _) => enter(),
    }
}

/// Starts this binary in fresh namespaces, with an empty /run.
fn enter() {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount --make-rprivate / && mount -t tmpfs -o mode=755 none /run && mkdir -p /run/lock /run/netns && \
                  ip link set lo up && exec \"$0\"";
    let status = Command::new("unshare")
        .args(["-n", "-m", "-u", "-i", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, directory.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn run_tests(root: &Path) {
    import(root);
    let before = traces();
    for (name, test) in TESTS {
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
    for dir in
        [root.join("overlay-containers"), PathBuf::from("/run/podwire/overlay-containers"), "/run/podwire/crun".into()]
    {
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
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        entrypoint: None,
        env: Vec::new(),
        volumes: Vec::new(),
        workdir: None,
        user: None,
        hostname: None,
        tty: false,
        interactive: false,
        remove: false,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        stop_signal: None,
        stop_timeout: None,
        security: SecurityConfig::default(),
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
        },
        tmpfs: Vec::new(),
        pull: PullPolicy::Never,
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
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0("containers").arg("run").args(arguments);
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
    let id =
        start(&mut open(root), config(&["sh", "-c", "for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.1; done; exit 4"]));
    let id = id.unwrap();
    let monitor = |engine: &Engine| {
        let shown = engine.inspect(&engine.find(&id).unwrap()).unwrap();
        shown["State"]["ConmonPid"].as_u64().unwrap()
    };
    let first = monitor(&open(root));
    let process = linux::ProcessRef::of(u32::try_from(first).unwrap()).unwrap();
    process.signal(linux::Signal::KILL).unwrap();
    process.wait_end(None).unwrap();
    let mut engine = open(root);
    assert_ne!(monitor(&engine), first);
    assert_eq!(engine.list().unwrap()[0].state, State::Running);
    engine.wait(&id).unwrap();
    let mut said = Vec::new();
    let take = &mut |line: &engine::LogLine<'_>| {
        said.extend_from_slice(line.text);
        Ok(())
    };
    engine.logs(&id, &LogOptions::default(), take).unwrap();
    assert_eq!(String::from_utf8(said).unwrap(), "1\n2\n3\n4\n5\n6\n7\n8\n");
    remove(&mut engine, &id);
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
