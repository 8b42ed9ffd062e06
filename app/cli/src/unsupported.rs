//! What Podman has and podwire does not have yet: refused by name, never ignored.

/// Flags by command (its first name), a letter behind a slash.
const FLAGS: &[(&str, &str)] = &[
    (
        "run",
        "authfile cert-dir chrootdirs conmon-pidfile creds decryption-key disable-content-trust env-merge \
         group-entry gpus health-log-destination health-max-log-count health-max-log-size \
         health-startup-cmd health-startup-interval health-startup-retries health-startup-success \
         health-startup-timeout hostuser image-volume intel-rdt-closid \
         no-hostname passwd passwd-entry personality preserve-fd \
         preserve-fds rdt-class retry retry-delay rmi sdnotify seccomp-policy secret \
         shm-size-systemd systemd",
    ),
    ("create", "attach/a init-ctr"),
    ("pod create", "gpus infra-conmon-pidfile no-hostname shm-size-systemd"),
    (
        "kube play",
        "authfile build cert-dir context-dir creds no-hostname no-trunc seccomp-profile-root service-container wait/w",
    ),
    ("kube generate", "podman-only"),
    ("pull", "decryption-key retry retry-delay"),
    (
        "push",
        "compression-level encrypt-layer encryption-key force-compression retry retry-delay sign-by \
      sign-by-sigstore sign-by-sigstore-private-key sign-passphrase-file",
    ),
    ("login", "compat-auth-file secret"),
    ("logout", "compat-auth-file"),
    ("image prune", "build-cache external"),
    ("exec", "cidfile no-session preserve-fd preserve-fds"),
    (
        "update",
        "health-cmd health-interval health-log-destination health-max-log-count health-max-log-size health-on-failure \
         health-retries health-start-period health-startup-cmd health-startup-interval health-startup-retries \
         health-startup-success health-startup-timeout health-timeout no-healthcheck",
    ),
    ("system prune", "build include-pinned"),
    ("wait", "exit-first-match return-on-first"),
    ("info", "debug/D"),
    ("commit", "config"),
    (
        "",
        "cdi-spec-dir config connection/c hooks-dir identity imagestore module \
         namespace network-cmd-path no-out noout out pull-option remote/r runtime-flag ssh storage-opt \
         syslog tls-ca tls-cert tls-key transient-store url volumepath",
    ),
];

/// Commands, and nouns with all that belongs to them.
const COMMANDS: &str = "artifact auto-update build farm \
    init machine manifest mount quadlet secret \
    umount unmount";

const CONTAINER_COMMANDS: &str = "checkpoint clone init mount \
    restore runlabel umount unmount";
const IMAGE_COMMANDS: &str = "build mount scp sign trust umount unmount";

const SYSTEM_COMMANDS: &str = "check connection dial-stdio hyperv-prep locks service";
const KUBE_COMMANDS: &str = "apply";
const GENERATE_COMMANDS: &str = "spec systemd";
const POD_COMMANDS: &str = "clone";

/// Is `words` (`pod`, `network connect`) a command that Podman has?
pub(crate) fn is_command(words: &str) -> bool {
    let (list, word) = match words.split_once(' ') {
        Some(("container", word)) => (CONTAINER_COMMANDS, word),
        Some(("image", word)) => (IMAGE_COMMANDS, word),
        Some(("pod", word)) => (POD_COMMANDS, word),
        Some(("system", word)) => (SYSTEM_COMMANDS, word),
        Some(("kube", word)) => (KUBE_COMMANDS, word),
        Some(("generate", word)) => (GENERATE_COMMANDS, word),
        _ => (COMMANDS, words),
    };
    list.split_whitespace().any(|known| known == word)
}

/// The flag, if Podman's `command` has it: `typed` is `--memory`, `--memory=5` or `-m`.
pub(crate) fn flag(command: &str, typed: &str) -> Option<String> {
    let typed = typed.split('=').next().unwrap_or(typed);
    let lists =
        FLAGS.iter().filter(|(name, _)| *name == command || name.is_empty() || (*name == "run" && command == "create"));
    lists.flat_map(|(_, flags)| flags.split_whitespace()).find_map(|known| {
        let (long, letter) = known.split_once('/').unwrap_or((known, ""));
        let is_it =
            typed.strip_prefix("--") == Some(long) || (!letter.is_empty() && typed.strip_prefix('-') == Some(letter));
        is_it.then(|| format!("--{long}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_flags_are_known_by_both_spellings() {
        assert_eq!(flag("run", "--secret=5m").as_deref(), Some("--secret"));
        assert_eq!(flag("kube play", "-w").as_deref(), Some("--wait"));
        assert_eq!(flag("ps", "--connection").as_deref(), Some("--connection"));
        assert_eq!(flag("run", "--nonsense"), None);
    }

    #[test]
    fn nothing_is_supported_and_unsupported_at_once() {
        for entry in crate::commands::COMMANDS {
            for arg in entry.clap().get_arguments() {
                for long in arg.get_long_and_visible_aliases().into_iter().flatten() {
                    assert_eq!(flag(entry.names[0], &format!("--{long}")), None, "{}", entry.names[0]);
                }
            }
        }
    }
}
