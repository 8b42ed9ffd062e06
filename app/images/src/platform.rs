//! What machine an image is for.

use std::fmt;
use std::str::FromStr;

use model::Invalid;

/// `OS/ARCHITECTURE[/VARIANT]` in Go's words: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `v7`, `v8`; most architectures have none.
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            same => (same, None),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// This machine's, as far as nothing else is said; nothing when nothing is. Another architecture has no variant
    /// unless one is said. Names of uname(1) are understood.
    pub fn said(os: Option<&str>, architecture: Option<&str>, variant: Option<&str>) -> Result<Option<Self>, Invalid> {
        if os.is_none() && architecture.is_none() && variant.is_none() {
            return Ok(None);
        }
        let host = Self::host();
        let architecture = architecture.map(|typed| match typed {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            "armhf" | "armv7l" => "arm",
            other => other,
        });
        let own = architecture.is_none_or(|wanted| wanted == host.architecture);
        let variant = variant.map(str::to_owned).or(host.variant.filter(|_| own));
        let architecture = architecture.unwrap_or(&host.architecture);
        let text = format!("{}/{architecture}", os.unwrap_or(&host.os));
        match variant {
            Some(variant) => format!("{text}/{variant}").parse().map(Some),
            None => text.parse().map(Some),
        }
    }

    /// Variants in the order they suit: the same, older ones of 32-bit ARM, none at all.
    fn variants(&self) -> Vec<Option<&str>> {
        let older: &[&str] = match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm", Some("v8")) => &["v7", "v6", "v5"],
            ("arm", Some("v7")) => &["v6", "v5"],
            ("arm", Some("v6")) => &["v5"],
            // An arm64 image without a variant is for v8, and the other way round.
            ("arm64", None) => &["v8"],
            _ => &[],
        };
        let same = self.variant.as_deref();
        let mut all = vec![same];
        all.extend(older.iter().copied().map(Some));
        if same.is_some() {
            all.push(None);
        }
        all
    }

    /// The best of those `offered` for this machine.
    pub(crate) fn choose<'a, T>(&self, offered: &'a [T], platform: impl Fn(&T) -> Option<&Platform>) -> Option<&'a T> {
        let fits = |item: &T, variant: Option<&str>| {
            platform(item).is_some_and(|p| {
                p.os == self.os && p.architecture == self.architecture && p.variant.as_deref() == variant
            })
        };
        self.variants().into_iter().find_map(|variant| offered.iter().find(|item| fits(item, variant)))
    }
}

impl FromStr for Platform {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.split('/').map(str::to_owned);
        let word = |part: &String| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let wrong = || Invalid(format!("invalid platform {text:?}: must be OS/ARCH[/VARIANT], like linux/arm64"));
        let os = parts.next().filter(word).ok_or_else(wrong)?;
        let architecture = parts.next().filter(word).ok_or_else(wrong)?;
        let variant = parts.next();
        if parts.next().is_some() || variant.as_ref().is_some_and(|v| !word(v)) {
            return Err(wrong());
        }
        Ok(Self { os, architecture, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, offered: &[&str], chosen: Option<&str>) {
        let wanted: Platform = wanted.parse().unwrap();
        let offered: Vec<Platform> = offered.iter().map(|text| text.parse().unwrap()).collect();
        let found = wanted.choose(&offered, |p| Some(p)).map(ToString::to_string);
        assert_eq!(found.as_deref(), chosen, "{wanted}");
    }

    #[test]
    fn the_image_for_the_machine_is_chosen() {
        check("linux/amd64", &["linux/arm64", "windows/amd64", "linux/amd64"], Some("linux/amd64"));
        check("linux/arm64/v8", &["linux/amd64", "linux/arm64"], Some("linux/arm64"));
        check("linux/arm64", &["linux/arm64/v8"], Some("linux/arm64/v8"));
        check("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], Some("linux/arm/v6"));
        check("linux/s390x", &["linux/amd64"], None);
    }

    #[test]
    fn what_is_not_said_of_a_platform_is_this_machines() {
        let said = |os, arch, variant| Platform::said(os, arch, variant).unwrap().map(|p| p.to_string());
        assert_eq!(said(None, None, None), None);
        assert_eq!(said(None, Some("aarch64"), Some("v8")).as_deref(), Some("linux/arm64/v8"));
        assert_eq!(said(Some("wasi"), Some("wasm"), None).as_deref(), Some("wasi/wasm"));
        assert_eq!(said(Some("linux"), None, None), Some(Platform::host().to_string()));
        assert!(Platform::said(Some("a b"), None, None).is_err());
    }

    #[test]
    fn a_platform_has_two_or_three_words() {
        for bad in ["", "linux", "linux/", "linux/a/b/c", "linux/arm/", "a b/c"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
