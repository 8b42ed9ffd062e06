//! `--privileged`, `--cap-add`, `--security-opt` and the like.

use engine::config::{Seccomp, SecurityConfig};

use crate::flags::{self, strings};
use crate::global::absolute;
use crate::outcome::Failure;

#[derive(clap::Args, Debug, Default)]
pub(crate) struct SecurityFlags {
    /// Give extended privileges to the container
    #[arg(long)]
    privileged: bool,
    /// Make the container's root file system read-only
    #[arg(long)]
    read_only: bool,
    /// With --read-only, /run, /tmp and /var/tmp are writable all the same (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = flags::switch)]
    read_only_tmpfs: Option<bool>,
    /// Add capabilities to the container
    #[arg(long, value_name = "strings")]
    pub(super) cap_add: Vec<String>,
    /// Drop capabilities from the container
    #[arg(long, value_name = "strings")]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=FILE|unconfined, mask=PATHS, unmask=PATHS|ALL, label=disable, apparmor=unconfined
    #[arg(long, value_name = "stringArray")]
    security_opt: Vec<String>,
}

impl SecurityFlags {
    pub(crate) fn parse(&self) -> Result<SecurityConfig, Failure> {
        Ok(SecurityConfig {
            privileged: self.privileged,
            read_only: self.read_only,
            cap_add: strings(&self.cap_add),
            cap_drop: strings(&self.cap_drop),
            no_tmpfs: self.read_only_tmpfs == Some(false),
            ..options(&self.security_opt)?
        })
    }
}

/// `--security-opt` alone.
pub(crate) fn options(texts: &[String]) -> Result<SecurityConfig, Failure> {
    let mut security = SecurityConfig { options: texts.to_vec(), ..SecurityConfig::default() };
    texts.iter().try_for_each(|option| apply(option, &mut security))?;
    Ok(security)
}

fn apply(text: &str, security: &mut SecurityConfig) -> Result<(), Failure> {
    // Docker's older spelling has a colon.
    let (key, value) = text.split_once('=').or(text.split_once(':')).unwrap_or((text, ""));
    let paths = || value.split(':').filter(|path| !path.is_empty()).map(str::to_owned);
    match (key, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", path) if !path.is_empty() => security.seccomp = Seccomp::Profile(absolute(path.as_ref())?),
        ("mask", _) => security.mask.extend(paths()),
        ("unmask", _) => security.unmask.extend(paths()),
        // Neither is applied by podwire, so nothing is to be turned off.
        ("label", "disable" | "nested") | ("apparmor", "unconfined") => {}
        ("label" | "apparmor" | "proc-opts", _) => {
            return Err(Failure::new(format!("--security-opt {text} is not supported by podwire yet")));
        }
        _ => return Err(Failure::new(format!("invalid --security-opt 2: {text:?}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_obeyed_or_refused() {
        let read = |text: &str| {
            let mut security = SecurityConfig::default();
            apply(text, &mut security).map(|()| security)
        };
        assert!(read("no-new-privileges").unwrap().no_new_privileges);
        assert_eq!(read("seccomp=unconfined").unwrap().seccomp, Seccomp::Unconfined);
        assert_eq!(read("unmask=/proc/acpi:/sys/firmware").unwrap().unmask, ["/proc/acpi", "/sys/firmware"]);
        assert!(read("label=disable").is_ok() && read("apparmor=unconfined").is_ok());
        assert!(read("label=type:x").is_err() && read("foo").is_err());
    }
}
