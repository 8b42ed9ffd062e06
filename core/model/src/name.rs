//! Names: one validating type per kind of name.

use std::fmt;
use std::str::FromStr;

use crate::{Invalid, serde_as_text};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> Result<(), Invalid> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        serde_as_text!($name);
    };
}

name!(
    /// A network's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    NetworkName,
    |text| podman_name(text).map_err(|()| Invalid(format!(
        "Invalid characters in network name {text:?}: must match [a-zA-Z0-9][a-zA-Z0-9_.-]*"
    )))
);

name!(
    /// A container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    ContainerName,
    |text| podman_name(text).map_err(|()| Invalid(
        "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument".to_owned()
    ))
);

/// 15, not 16: the kernel's IFNAMSIZ counts the terminating NUL (include/uapi/linux/if.h).
const LINK_NAME_MAX: usize = 15;

name!(
    /// A network device's name: 1 to 15 of `[a-zA-Z0-9_.-]`, not `.` or `..`. The kernel allows more
    /// (dev_valid_name in net/core/dev.c); quoting and paths are safe only with these.
    LinkName,
    |text| {
        if text.len() > LINK_NAME_MAX {
            return Err(Invalid(format!(
                "Interface name is too long: interface names must be 15 characters or less: {text}"
            )));
        }
        if text.contains('/') {
            return Err(Invalid("Interface name cannot contain \"/\"".to_owned()));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if text.is_empty() || text == "." || text == ".." || !text.bytes().all(plain) {
            return Err(Invalid(format!("invalid interface name {text:?}: must match [a-zA-Z0-9_.-]{{1,15}}")));
        }
        Ok(())
    }
);

/// Longest host name in octets (RFC 1035 section 2.3.4, less the root label; Linux's HOST_NAME_MAX is 64).
const HOSTNAME_MAX: usize = 64;

name!(
    /// A container's host name: dot-separated labels of letters, digits, `-` and `_`, at most 64 octets.
    Hostname,
    |text| {
        if text.len() > HOSTNAME_MAX || !text.split('.').all(label) {
            return Err(Invalid(format!(
                "invalid hostname {text:?}: must be labels of [a-zA-Z0-9_-] separated by dots, at most {HOSTNAME_MAX} characters"
            )));
        }
        Ok(())
    }
);

name!(
    /// A name that can be looked up: dot-separated labels (RFC 1123 and `_`), at most 253 octets.
    DnsName,
    |text| {
        if text.len() > 253 || !text.split('.').all(label) {
            // Podman's sentence, on one line whatever the text.
            let shown = if text.is_empty() { "\"\"".to_owned() } else { text.escape_debug().to_string() };
            return Err(Invalid(format!("{shown} is not a valid domain")));
        }
        Ok(())
    }
);

/// One label: 1 to 63 of `[a-zA-Z0-9_-]`, not beginning or ending with `-`.
fn label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// 255: a name may become part of a file name (NAME_MAX in include/uapi/linux/limits.h).
const PODMAN_NAME_MAX: usize = 255;

fn podman_name(text: &str) -> Result<(), ()> {
    let ok = text.len() <= PODMAN_NAME_MAX
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    ok.then_some(()).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_names_are_podmans() {
        for good in ["podman", "a", "9.x_y-z"] {
            assert!(good.parse::<NetworkName>().is_ok(), "{good}");
        }
        for bad in ["", "bad name", "-x", "../../tmp", "a\nb", "_a", "ä"] {
            assert!(bad.parse::<NetworkName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn link_names_hold_15_plain_characters() {
        assert!("podman0".parse::<LinkName>().is_ok());
        for bad in ["", "toolonginterfacename", "a/b", "a b", "..", "b\";EVIL"] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_is_refused_on_one_line() {
        let check = |text: &str, shown: &str| {
            assert_eq!(text.parse::<DnsName>().unwrap_err().0, format!("{shown} is not a valid domain"));
        };
        check("b@d", "b@d");
        check("", "\"\"");
        check("a\n1.2.3.4 b", "a\\n1.2.3.4 b");
        check("a,b", "a,b");
        check(&"x".repeat(64), &"x".repeat(64));
        assert!("x".repeat(63).parse::<DnsName>().is_ok());
    }

    #[test]
    fn no_line_break_gets_into_a_hosts_file() {
        for bad in ["h\n1.2.3.4 evil.example", "a b", "", ".", "a..b", "-a", &"x".repeat(65)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }
}
