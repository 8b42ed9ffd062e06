//! Tests as sentences: what each needs, and what it prints when it fails.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{Lab, LabOptions, executable};

/// Something that is not on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// `docker-registry` and `skopeo`.
    Registry,
    /// The kernel speaks SCTP.
    Sctp,
    /// `LAB_BIG=1`: minutes, not seconds.
    Big,
    /// The kernel has `br_netfilter` loaded.
    BridgeNetfilter,
    /// `dig`, the witness of what a DNS server says.
    Dig,
    /// `newuidmap` and `newgidmap`, without which an ordinary user has one id.
    UidMap,
    /// `podman`, whose network files are read and written.
    Podman,
    /// `podman-compose` (PyPI), which is to drive podwire.
    Compose,
    /// `dnsmasq`, a DHCP server.
    Dnsmasq,
    /// `dhcpd`, ISC's DHCP server.
    Dhcpd,
    /// `tcpdump`, the witness of what is on the wire.
    Tcpdump,
    /// The kernel makes ipvlan links.
    Ipvlan,
}

impl Need {
    /// Why a test that needs this can not be run here; `None` when it can.
    fn missing(self) -> Option<&'static str> {
        match self {
            Self::Registry if !have("docker-registry") => Some("docker-registry is not installed"),
            Self::Registry if !have("skopeo") => Some("skopeo is not installed"),
            Self::Compose if !have("podman-compose") => Some("podman-compose (PyPI) is not installed"),
            Self::Ipvlan if !makes_ipvlan() => Some("this kernel has no ipvlan links"),
            Self::Sctp if !speaks_sctp() => Some("this kernel has no SCTP"),
            Self::Dnsmasq if !have("dnsmasq") => Some("dnsmasq is not installed"),
            Self::Dhcpd if !have("dhcpd") => Some("dhcpd (isc-dhcp-server) is not installed"),
            Self::Tcpdump if !have("tcpdump") => Some("tcpdump is not installed"),
            Self::Dig if !have("dig") => Some("dig (bind9-dnsutils) is not installed"),
            Self::UidMap if !have("newuidmap") || !have("newgidmap") => Some("uidmap is not installed"),
            Self::Podman if !have("podman") => Some("podman is not installed"),
            Self::Big if std::env::var_os("LAB_BIG").is_none() => Some("takes minutes: set LAB_BIG=1"),
            Self::BridgeNetfilter if !Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() => {
                Some("this kernel has no br_netfilter loaded")
            }
            _ => None,
        }
    }
}

/// One test: its sentence, what it needs, the sort of lab, and what happens there.
pub struct Sentence {
    /// The name.
    pub name: Cow<'static, str>,
    /// What is needed.
    pub needs: &'static [Need],
    /// The lab it runs in.
    pub options: LabOptions,
    /// The test itself; it panics when it fails.
    pub body: Box<dyn Fn(&Lab) + Send>,
}

/// `sentences![default; a, b, c]`: functions with the sort of lab they run in, named by themselves.
#[macro_export]
macro_rules! sentences {
    ($options:expr; $needs:expr; $($name:ident),* $(,)?) => {
        vec![$($crate::trial::Sentence {
            name: stringify!($name).into(), needs: $needs, options: $options, body: Box::new($name)
        }),*]
    };
}

/// Runs the tests as `cargo test` would; the process ends with its exit code.
pub fn run(sentences: Vec<Sentence>) -> ! {
    let arguments = Arguments::from_args();
    // What failed is told once, with the lab's state, in the list of failures; not by a backtrace of the harness.
    std::panic::set_hook(Box::new(|panic| {
        PLACE.set(panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default());
    }));
    let trials = sentences.into_iter().map(trial).collect();
    let done = libtest_mimic::run(&arguments, trials);
    remove_groups();
    for (name, reason) in SECOND.lock().unwrap_or_else(|poison| poison.into_inner()).iter() {
        println!("FLAKY: {name}: failed beside other tests, passed alone; the first time it said:\n{reason}\n");
    }
    done.exit()
}

/// Labs share the machine's control groups, and one that ended with containers in it has left theirs. One in which
/// somebody is cannot be removed; a new one may be somebody else's, who is about to enter it.
fn remove_groups() {
    let below = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_old = |path: &PathBuf| {
        let made = path.metadata().and_then(|about| about.modified());
        made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > OLD_GROUP))
    };
    for tree in below(Path::new("/sys/fs/cgroup")).chain(["/sys/fs/cgroup".into()]) {
        let ours =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"podwire-"));
        for group in below(&tree).filter(ours).filter(is_old) {
            // Those of a pod's containers are in the pod's.
            below(&group).filter(ours).for_each(|inner| drop(std::fs::remove_dir(inner)));
            drop(std::fs::remove_dir(group));
        }
    }
}

const OLD_GROUP: Duration = Duration::from_secs(300);

thread_local! {
    /// Where this thread last panicked.
    static PLACE: Cell<String> = const { Cell::new(String::new()) };
}

fn trial(sentence: Sentence) -> Trial {
    let name = sentence.name.replace('_', " ");
    Trial::ignorable_test(name, move || {
        let missing = sentence.needs.iter().find_map(|need| need.missing()).or_else(machine_lacks);
        match missing {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => twice(&sentence).map(|()| Completion::Completed),
        }
    })
}

/// Labs that run beside each other read; one that is tried again, alone, writes.
static BESIDE: RwLock<()> = RwLock::new(());

/// Second chances that were given.
static CHANCES: AtomicUsize = AtomicUsize::new(0);

/// Tests that used theirs, and why they needed it.
static SECOND: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// How many second chances a run gives: what breaks more is broken.
const SECOND_CHANCES: usize = 5;

/// A test with a clock in it can fail because others took the processor. It is tried once more, with the machine to
/// itself; that it was needed is said at the end.
fn twice(sentence: &Sentence) -> Result<(), Failed> {
    let first = {
        let _beside = BESIDE.read();
        in_a_lab(sentence)
    };
    let Err(failed) = first else { return Ok(()) };
    // A sweep of hours is not begun again.
    if std::env::var_os("LAB_SWEEP").is_some() {
        return Err(failed);
    }
    if CHANCES.fetch_add(1, Ordering::Relaxed) >= SECOND_CHANCES {
        return Err(failed);
    }
    let _alone = BESIDE.write();
    in_a_lab(sentence)?;
    let reason = failed.message().unwrap_or_default().lines().take(12).collect::<Vec<_>>().join("\n");
    let mut second = SECOND.lock().unwrap_or_else(|poison| poison.into_inner());
    second.push((sentence.name.replace('_', " "), reason));
    Ok(())
}

fn in_a_lab(sentence: &Sentence) -> Result<(), Failed> {
    let lab = Lab::with(&sentence.options).map_err(|error| Failed::from(format!("{error:#}")))?;
    catch_unwind(AssertUnwindSafe(|| (sentence.body)(&lab))).map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        let said = said.unwrap_or_else(|| "a panic".to_owned());
        Failed::from(format!("{}: {said}\n{}", PLACE.take(), lab.dump()))
    })
}

/// What every test needs; asked once.
fn machine_lacks() -> Option<&'static str> {
    static LACKS: OnceLock<Option<&str>> = OnceLock::new();
    *LACKS.get_or_init(|| {
        let tools = ["unshare", "nsenter", "ip", "nft", "curl", "python3", "crun", "busybox"];
        if !rustix::process::geteuid().is_root() {
            return Some("labs need root");
        }
        if executable("podwire").is_err() {
            return Some("podwire is not built: run `cargo build --workspace` first");
        }
        tools
            .into_iter()
            .find(|tool| !have(tool))
            .map(|_| "unshare, nsenter, ip, nft, curl, python3, crun and busybox are needed")
    })
}

fn have(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin".into(), "/sbin".into()];
    std::env::split_paths(&path).chain(sbin).any(|dir| dir.join(tool).is_file())
}

fn makes_ipvlan() -> bool {
    let ask = "ip link add name below type veth && ip link add name above link below type ipvlan";
    Command::new("unshare").args(["--net", "sh", "-c", ask]).output().is_ok_and(|out| out.status.success())
}

fn speaks_sctp() -> bool {
    let ask = "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)";
    Command::new("python3").args(["-c", ask]).output().is_ok_and(|out| out.status.success())
}
