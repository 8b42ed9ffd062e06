//! A lab from outside: starting it, running commands in it, ending it.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The longest that one command in a lab may take.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// The longest that a lab lives: then its processes are killed, and the test that uses it fails.
pub const LAB_LIMIT: Duration = Duration::from_secs(120);

const SETUP: &str = include_str!("../tools/setup.sh");
const PEER: &str = include_str!("../tools/peer.py");
const DHCP: &str = include_str!("../tools/dhcp.py");
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The ordinary user of a lab that has one.
pub const USER: &str = "podrl";
/// His number.
pub const USER_ID: u32 = 2000;

/// How mounts of the lab propagate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// As systemd makes them.
    Shared,
    /// As in a plain container or chroot.
    Private,
}

/// What sort of machine a lab is.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// `net.bridge.bridge-nf-call-iptables`: does bridged traffic pass the IP hooks too?
    pub bridge_nf: bool,
    /// How mounts propagate.
    pub mounts: Mounts,
    /// Size of the file system below `/var/lib`, in the words of `mount -t tmpfs -o size=`.
    pub size: &'static str,
    /// A plain cgroup2 tree at `/sys/fs/cgroup`, instead of the machine's own.
    pub cgroup2: bool,
    /// An ordinary user, [`USER`], with a home directory, a session and ranges of subordinate ids.
    pub user: bool,
    /// The longest that this lab lives.
    pub limit: Duration,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { bridge_nf: true, mounts: Mounts::Shared, size: "8g", cgroup2: true, user: false, limit: LAB_LIMIT }
    }
}

/// One test host and its neighbour. Ends, with everything in it, when dropped.
pub struct Lab {
    holder: Arc<Mutex<Child>>,
    /// Its end is what `labtool init` waits for.
    stdin: Option<ChildStdin>,
    pid: u32,
    dir: tempfile::TempDir,
    limit: Duration,
    over: Arc<AtomicBool>,
    transcript: RefCell<String>,
    echo: bool,
}

impl Lab {
    /// A lab as [`LabOptions::default`] says.
    pub fn new() -> Result<Self> {
        Self::with(&LabOptions::default())
    }

    /// A lab of this sort.
    pub fn with(options: &LabOptions) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("podwire-lab.").tempdir()?;
        std::fs::write(dir.path().join("setup.sh"), SETUP)?;
        std::fs::write(dir.path().join("peer.py"), PEER)?;
        std::fs::write(dir.path().join("dhcp.py"), DHCP)?;
        let mut holder = unshare(options, dir.path()).spawn().context("unshare (util-linux) is needed")?;
        let pid = holder.id();
        let stdin = holder.stdin.take();
        await_ready(&mut holder)?;
        let holder = Arc::new(Mutex::new(holder));
        let over = Arc::new(AtomicBool::new(false));
        watch(Arc::clone(&holder), Arc::clone(&over), options.limit);
        Ok(Self { holder, stdin, pid, dir, limit: options.limit, over, transcript: RefCell::default(), echo: false })
    }

    /// Prints every command and its output, for people who watch.
    pub fn echoing(mut self) -> Self {
        self.echo = true;
        self
    }

    /// A directory of the lab's own, at the same path inside and outside; gone with the lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path of the lab as it is seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// The mount table of the lab, one mount a line.
    pub fn mountinfo(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)).unwrap_or_default()
    }

    /// Runs a shell line on the host.
    pub fn host(&self, line: &str) -> Run {
        self.run("#", &self.enter(None, line), line)
    }

    /// Runs a shell line on the host as its ordinary user, in his home directory.
    pub fn user(&self, line: &str) -> Run {
        self.run("$", &self.enter_as_user(line), line)
    }

    /// Starts a shell line as [`Lab::user`] and goes on; it is killed when the value is dropped.
    pub fn background_user(&self, line: &str) -> Background {
        self.start_as("$", &self.enter_as_user(line), line)
    }

    /// As [`Lab::host`], without showing or remembering it.
    pub fn quietly(&self, line: &str) -> Run {
        finish(timeout(COMMAND_LIMIT.as_secs(), &self.enter(None, line)), line)
    }

    /// Runs a shell line on the neighbour.
    pub fn outside(&self, line: &str) -> Run {
        self.run("(outside)#", &self.enter(Some(OUTSIDE), line), line)
    }

    /// Runs a shell line in the network namespace of this file, with the host's own files.
    pub fn inside(&self, sandbox: &Sandboxed, line: &str) -> Run {
        self.run(&format!("({})#", sandbox.name), &self.enter(Some(&sandbox.path), line), line)
    }

    /// As [`Lab::host`], and it must succeed; what it printed, without the last line's end.
    pub fn ok(&self, line: &str) -> String {
        self.host(line).ok().out.trim_end().to_owned()
    }

    /// Starts a shell line on the host and goes on; it is killed when the value is dropped.
    pub fn background(&self, line: &str) -> Background {
        self.start(None, line)
    }

    /// As [`Lab::background`], on the neighbour.
    pub fn background_outside(&self, line: &str) -> Background {
        self.start(Some(OUTSIDE), line)
    }

    /// As [`Lab::background`], in a network namespace.
    pub fn background_inside(&self, sandbox: &Sandboxed, line: &str) -> Background {
        self.start(Some(&sandbox.path), line)
    }

    /// What was run here and what it said.
    pub fn transcript(&self) -> String {
        self.transcript.borrow().clone()
    }

    /// What a person would look at after a failure.
    pub fn dump(&self) -> String {
        let mut text = format!("--- what was run ---\n{}", self.transcript());
        let over = if self.over.load(Ordering::SeqCst) { "--- the lab was ended at its time limit ---\n" } else { "" };
        text += over;
        for line in ["ip -d a", "ip r", "ip -6 r", "nft list ruleset", "podwire ps -a", "podwire network ls"] {
            let run = finish(timeout(10, &self.enter(None, line)), line);
            text += &format!("--- {line} ---\n{}{}", run.out, run.err);
        }
        let run = finish(timeout(10, &self.enter(Some(OUTSIDE), "ip -d a; ip r")), "ip -d a; ip r");
        text + &format!("--- outside: ip -d a; ip r ---\n{}{}", run.out, run.err)
    }

    fn enter(&self, network: Option<&str>, line: &str) -> Vec<String> {
        let proc = format!("/proc/{}", self.pid);
        let network = network.map_or(format!("{proc}/ns/net"), |path| format!("{proc}/root{path}"));
        [
            "nsenter".to_owned(),
            format!("--mount={proc}/ns/mnt"),
            format!("--uts={proc}/ns/uts"),
            format!("--ipc={proc}/ns/ipc"),
            format!("--pid={proc}/ns/pid_for_children"),
            format!("--net={network}"),
            "sh".to_owned(),
            "-c".to_owned(),
            line.to_owned(),
        ]
        .into()
    }

    fn enter_as_user(&self, line: &str) -> Vec<String> {
        let mut argv = self.enter(None, &format!("cd; {line}"));
        let session = [
            "setpriv".to_owned(),
            format!("--reuid={USER}"),
            format!("--regid={USER}"),
            "--init-groups".to_owned(),
            "--reset-env".to_owned(),
            "env".to_owned(),
            format!("XDG_RUNTIME_DIR=/run/user/{USER_ID}"),
            format!("PATH=/run/lab/bin:{PATH}"),
        ];
        // Before the shell.
        let at = argv.len() - 3;
        argv.splice(at..at, session);
        argv
    }

    fn run(&self, prompt: &str, argv: &[String], line: &str) -> Run {
        if self.echo {
            println!("{prompt} {line}");
        }
        let begun = Instant::now();
        let mut run = finish(timeout(COMMAND_LIMIT.as_secs(), argv), line);
        run.took = begun.elapsed();
        if self.echo {
            print!("{}{}", run.out, run.err);
        }
        let entry = format!("{prompt} {line}\n{}{}[{} in {:?}]\n", run.out, run.err, run.code, run.took);
        self.transcript.borrow_mut().push_str(&entry);
        run
    }

    fn start(&self, network: Option<&str>, line: &str) -> Background {
        self.start_as("#", &self.enter(network, line), line)
    }

    fn start_as(&self, prompt: &str, argv: &[String], line: &str) -> Background {
        self.transcript.borrow_mut().push_str(&format!("{prompt} {line} &\n"));
        let out = tempfile::tempfile().expect("a temporary file");
        let mut command = timeout(self.limit.as_secs(), argv);
        command
            .stdin(Stdio::piped())
            .stdout(out.try_clone().expect("a descriptor"))
            .stderr(out.try_clone().expect("a descriptor"));
        let child = command.spawn().expect("timeout and nsenter are part of Debian's base system");
        Background { child, out, line: line.to_owned() }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let groups = crate::groups::of_lab(self.pid);
        drop(self.stdin.take());
        self.over.store(true, Ordering::SeqCst);
        let mut holder = self.holder.lock().unwrap_or_else(|e| e.into_inner());
        let _ = holder.kill();
        let _ = holder.wait();
        crate::groups::remove(&groups);
    }
}

/// The network namespace of one container.
#[derive(Debug, Clone)]
pub struct Sandboxed {
    /// The container.
    pub name: String,
    /// The namespace file, inside the lab.
    pub path: String,
}

/// A command that ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The shell line.
    pub line: String,
    /// Its exit code; 128 + n for signal n, 124 when it took too long.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took, with entering the lab.
    pub took: Duration,
}

impl Run {
    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// It must have ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "exit code {code} expected:\n# {}\n{}{}[{}]",
            self.line,
            self.out,
            self.err,
            self.code
        );
        self
    }

    /// Its output must contain this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.out.contains(text),
            "‘{text}’ expected on stdout:\n# {}\n{}{}[{}]",
            self.line,
            self.out,
            self.err,
            self.code
        );
        self
    }

    /// It must have refused with this code and with one clear line on standard error that contains this text.
    #[track_caller]
    pub fn refuses(self, code: i32, text: &str) -> Self {
        let shown = format!("# {}\n{}{}[{}]", self.line, self.out, self.err, self.code);
        assert!(self.code == code, "exit code {code} expected:\n{shown}");
        assert!(self.err.contains(text), "‘{text}’ expected on stderr:\n{shown}");
        let errors = self.err.lines().filter(|line| line.starts_with("Error: ")).count();
        assert!(errors == 1, "one line that begins with ‘Error: ’ expected:\n{shown}");
        assert!(!self.err.contains("panicked"), "a panic:\n{shown}");
        self
    }
}

/// A command that goes on.
pub struct Background {
    child: Child,
    out: std::fs::File,
    line: String,
}

impl Background {
    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("the command reads its stdin");
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What it has printed so far, on both of its outputs.
    pub fn output(&mut self) -> String {
        use std::os::unix::fs::FileExt;
        let length = self.out.metadata().map_or(0, |m| m.len());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let _ = self.out.read_exact_at(&mut bytes, 0);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it has printed this text.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let out = self.output();
            if out.contains(text) {
                return out;
            }
            let ended = self.child.try_wait().ok().flatten();
            assert!(ended.is_none() && begun.elapsed() < COMMAND_LIMIT, "‘{text}’ expected from {}:\n{out}", self.line);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Run {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                _ if begun.elapsed() > COMMAND_LIMIT => break self.kill(),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let out = self.output();
        Run { line: self.line.clone(), code: code(status), out, err: String::new(), took: begun.elapsed() }
    }

    fn kill(&mut self) -> std::process::ExitStatus {
        // `timeout` leads a process group of its own: what it started dies with it.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        self.child.wait().expect("a child of ours")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

const OUTSIDE: &str = "/run/lab/outside";

/// The file of a program of this build: beside the running one, or one directory up as for tests.
/// `PODWIRE_BIN` names podwire's when it is somewhere else.
pub fn executable(name: &str) -> Result<PathBuf> {
    if let (true, Some(path)) = (name == "podwire", std::env::var_os("PODWIRE_BIN")) {
        return Ok(std::fs::canonicalize(path)?);
    }
    let me = std::env::current_exe()?;
    let near = me.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    near.with_context(|| format!("{name} is not built: run `cargo build --workspace` first"))
}

fn unshare(options: &LabOptions, dir: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(executable("labtool").unwrap_or_else(|_| "labtool".into()))
        .arg("init")
        .arg(dir)
        .env("LAB_BRIDGE_NF", if options.bridge_nf { "1" } else { "0" })
        .env("LAB_MOUNTS", if options.mounts == Mounts::Shared { "shared" } else { "private" })
        .env("LAB_SIZE", options.size)
        .env("LAB_USER", if options.user { USER } else { "" })
        .env("LAB_UID", USER_ID.to_string())
        .env("LAB_PODWIRE", executable("podwire").unwrap_or_else(|_| "podwire".into()))
        .env("LAB_CGROUP", if options.cgroup2 { "v2" } else { "machine" })
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn await_ready(holder: &mut Child) -> Result<()> {
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
    if line.trim() == "ready" {
        return Ok(());
    }
    let mut error = String::new();
    let _ = holder.kill();
    holder.stderr.take().context("stderr is piped")?.read_to_string(&mut error)?;
    bail!("the lab could not be made: {error}")
}

/// Ends a lab that lives too long.
fn watch(holder: Arc<Mutex<Child>>, over: Arc<AtomicBool>, limit: Duration) {
    let end = Instant::now() + limit;
    std::thread::spawn(move || {
        while Instant::now() < end {
            if over.load(Ordering::SeqCst) {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        over.store(true, Ordering::SeqCst);
        let _ = holder.lock().unwrap_or_else(|e| e.into_inner()).kill();
    });
}

fn timeout(seconds: u64, argv: &[String]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", &seconds.to_string()]).args(argv);
    let bins = [executable("podwire"), executable("labtool")].into_iter().flatten();
    let mut path: Vec<PathBuf> = bins.filter_map(|file| file.parent().map(Path::to_owned)).collect();
    path.extend(std::env::split_paths(PATH));
    command.env_clear();
    command.env("PATH", std::env::join_paths(path).unwrap_or_else(|_| PATH.into()));
    command.env("HOME", "/root").env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    command
}

fn finish(mut command: Command, line: &str) -> Run {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let output = output.expect("timeout and nsenter are part of Debian's base system");
    Run {
        line: line.to_owned(),
        code: code(output.status),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: begun.elapsed(),
    }
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
