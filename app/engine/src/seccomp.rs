//! Which system calls a container may make.
//!
//! The machine's `/usr/share/containers/seccomp.json` (package golang-github-containers-common, the file
//! Podman reads) is used when it is there. Otherwise a profile of our own: everything is allowed but the
//! calls below, which have been ways out of containers or change the whole machine. A list of what is
//! *denied* because without the file there is nobody to keep a list of 400 allowed calls in step with the
//! C library of next year's images; capabilities and namespaces still hold for the rest.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Seccomp, SecurityConfig};
use crate::error::{Error, Result};

/// Where Podman looks.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// Denied by our own profile, with the capability that allows them all the same.
const DENIED: &[(&str, &[&str])] = &[
    ("", &["add_key", "keyctl", "request_key", "kexec_load", "kexec_file_load", "nfsservctl", "uselib", "userfaultfd"]),
    ("CAP_SYS_MODULE", &["init_module", "finit_module", "delete_module"]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_PTRACE", &["kcmp", "process_vm_readv", "process_vm_writev", "process_madvise"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "swapoff",
            "swapon",
            "syslog",
            "umount2",
            "unshare",
        ],
    ),
];

/// EPERM in include/uapi/asm-generic/errno-base.h
const EPERM: u32 = 1;

/// The `linux.seccomp` object for a container; `None` when nothing is filtered.
pub(crate) fn of(security: &SecurityConfig, capabilities: &[String]) -> Option<Result<Value>> {
    match &security.seccomp {
        Seccomp::Unconfined => None,
        Seccomp::Default if security.privileged => None,
        Seccomp::Default => Some(Ok(profile(capabilities))),
        Seccomp::Profile(path) => Some(read(path, capabilities)),
    }
}

/// A profile in containers/common's form, or as the runtime takes it.
fn read(path: &Path, capabilities: &[String]) -> Result<Value> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::cannot_start(format!("opening seccomp profile failed: open {}: {e}", path.display())))?;
    from_file(&text, capabilities).ok_or_else(|| {
        Error::cannot_start(format!("loading seccomp profile {} failed: it is no profile in JSON", path.display()))
    })
}

/// The `linux.seccomp` object for a container with these capabilities.
fn profile(capabilities: &[String]) -> Value {
    let read = std::fs::read_to_string(Path::new(PROFILE)).ok();
    // A file that cannot be understood must not open the container more than our own profile does.
    read.and_then(|text| from_file(&text, capabilities)).unwrap_or_else(|| ours(capabilities))
}

fn ours(capabilities: &[String]) -> Value {
    let has = |capability: &str| capabilities.iter().any(|c| c == capability);
    let names: Vec<&str> = DENIED.iter().filter(|(but, _)| !has(but)).flat_map(|(_, names)| *names).copied().collect();
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM }],
    })
}

/// containers/common's form: rules for all architectures and capabilities, of which some apply here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
    errno_ret: Option<u32>,
}

#[derive(Deserialize, Default)]
struct Filter {
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    caps: Vec<String>,
}

pub(crate) fn from_file(text: &str, capabilities: &[String]) -> Option<Value> {
    let profile: Profile = serde_json::from_str(text).ok()?;
    let arch = go_arch();
    let holds = |wanted: &str| capabilities.iter().any(|c| c == wanted);
    let applies = |rule: &Rule| {
        (rule.includes.arches.is_empty() || rule.includes.arches.iter().any(|a| a == arch))
            && rule.includes.caps.iter().all(|c| holds(c))
            && !rule.excludes.arches.iter().any(|a| a == arch)
            && !rule.excludes.caps.iter().any(|c| holds(c))
    };
    let mut seccomp = json!({ "defaultAction": profile.default_action });
    if let Some(errno) = profile.default_errno_ret {
        seccomp["defaultErrnoRet"] = errno.into();
    }
    if let Some(map) = profile.arch_map.iter().find(|map| map.architecture == scmp_arch()) {
        let all: Vec<&String> = std::iter::once(&map.architecture).chain(&map.sub_architectures).collect();
        seccomp["architectures"] = json!(all);
    }
    seccomp["syscalls"] = profile.syscalls.iter().filter(|rule| applies(rule)).map(rule_value).collect();
    Some(seccomp)
}

fn rule_value(rule: &Rule) -> Value {
    let mut value = json!({ "names": rule.names, "action": rule.action });
    if let Some(args) = rule.args.as_ref().filter(|args| !args.is_empty()) {
        value["args"] = json!(args);
    }
    if let Some(errno) = rule.errno_ret {
        value["errnoRet"] = errno.into();
    }
    value
}

/// This machine's architecture as Go says it.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn scmp_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "SCMP_ARCH_X86_64",
        "aarch64" => "SCMP_ARCH_AARCH64",
        "riscv64" => "SCMP_ARCH_RISCV64",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_other_architectures_and_missing_capabilities_are_left_out() {
        let text = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "archMap": [{ "architecture": scmp_arch(), "subArchitectures": ["SCMP_ARCH_X32"] }],
            "syscalls": [
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {} },
                { "names": ["chroot"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": { "caps": ["CAP_SYS_CHROOT"] } },
                { "names": ["chroot"], "action": "SCMP_ACT_ERRNO", "args": [], "excludes": { "caps": ["CAP_SYS_CHROOT"] }, "errnoRet": 1 },
                { "names": ["s390_only"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": { "arches": ["s390x"] } },
            ],
        })
        .to_string();
        let with = from_file(&text, &["CAP_SYS_CHROOT".to_owned()]).unwrap();
        assert_eq!(
            with["syscalls"],
            json!([{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }, { "names": ["chroot"], "action": "SCMP_ACT_ALLOW" }])
        );
        let without = from_file(&text, &[]).unwrap();
        assert_eq!(without["syscalls"][1], json!({ "names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }));
        assert_eq!(without["defaultErrnoRet"], 38);
    }

    #[test]
    fn our_own_profile_denies_what_no_capability_allows() {
        let denied = |capabilities: &[String]| ours(capabilities)["syscalls"][0]["names"].to_string();
        assert!(denied(&[]).contains("\"bpf\"") && denied(&[]).contains("\"keyctl\""));
        let admin = ["CAP_SYS_ADMIN".to_owned()];
        assert!(!denied(&admin).contains("\"bpf\"") && denied(&admin).contains("\"keyctl\""));
    }
}
