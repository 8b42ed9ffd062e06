//! Options of the drivers whose containers are on a LAN themselves: macvlan and ipvlan.
//!
//! Names of modes are those of `ip link` (include/uapi/linux/if_link.h), words of refusals those of netavark.

use std::collections::BTreeMap;

use crate::Invalid;
use crate::network::Options;

/// Who exchanges frames with whom among the macvlan links of one parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// All with all.
    #[default]
    Bridge,
    /// None with another.
    Private,
    /// By way of the switch that the parent is plugged into, if it sends frames back.
    Vepa,
    /// There is only one, and it has the parent's MAC address.
    Passthru,
    /// As private; and only frames of listed senders come in, of which there are none to begin with.
    Source,
}

/// How an ipvlan link and its parent share addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Neighbours are asked for as on a switch.
    #[default]
    L2,
    /// The parent's namespace routes; no broadcast, no multicast.
    L3,
    /// As L3, with the host's connection tracking.
    L3s,
}

/// What the parents of both kinds of links, and nobody else, are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LanOptions {
    /// Link MTU in bytes; the parent's when absent or 0.
    pub mtu: Option<u32>,
    /// Metric of the default route in the sandbox; 99 when absent, so that it wins over a bridge's.
    pub metric: Option<u32>,
    /// `no_default_route=true`
    pub no_default_route: Option<bool>,
}

/// `-o` options of the macvlan driver, beside `parent`, which becomes the network's link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MacvlanOptions {
    /// What ipvlan has too.
    pub lan: LanOptions,
    /// Absent means `bridge` and is not shown.
    pub mode: Option<MacvlanMode>,
    /// So many receivers may a broadcast or multicast address have for its frames to be dealt out at once, others in
    /// a queue: `bclim` (IFLA_MACVLAN_BC_CUTOFF, Linux 6.3); 1 in the kernel when absent.
    pub bclim: Option<i32>,
    /// `host_access=true`: host and containers reach each other, by a link of the host's own on the same parent.
    pub host_access: Option<bool>,
}

/// `-o` options of the ipvlan driver, beside `parent`, which becomes the network's link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpvlanOptions {
    /// What macvlan has too.
    pub lan: LanOptions,
    /// Absent means `l2` and is not shown.
    pub mode: Option<IpvlanMode>,
}

impl MacvlanMode {
    const WORDS: [(Self, &str); 5] = [
        (Self::Bridge, "bridge"),
        (Self::Private, "private"),
        (Self::Vepa, "vepa"),
        (Self::Passthru, "passthru"),
        (Self::Source, "source"),
    ];

    /// As `ip link` names it.
    pub fn word(self) -> &'static str {
        word(&Self::WORDS, self)
    }

    fn named(text: &str) -> Result<Self, Invalid> {
        named(&Self::WORDS, text).ok_or_else(|| Invalid(format!("invalid macvlan mode {text:?}")))
    }
}

impl IpvlanMode {
    const WORDS: [(Self, &str); 3] = [(Self::L2, "l2"), (Self::L3, "l3"), (Self::L3s, "l3s")];

    /// As `ip link` names it.
    pub fn word(self) -> &'static str {
        word(&Self::WORDS, self)
    }

    fn named(text: &str) -> Result<Self, Invalid> {
        named(&Self::WORDS, text).ok_or_else(|| Invalid(format!("invalid ipvlan mode {text:?}")))
    }
}

fn word<T: PartialEq>(words: &[(T, &'static str)], mode: T) -> &'static str {
    words.iter().find(|(known, _)| *known == mode).map_or("", |(_, word)| word)
}

/// No text is the usual mode, which is the first.
fn named<T: Copy>(words: &[(T, &'static str)], text: &str) -> Option<T> {
    words.iter().find(|(_, word)| *word == text || text.is_empty()).map(|(mode, _)| *mode)
}

impl LanOptions {
    fn take(options: &mut Options) -> Result<Self, Invalid> {
        let taken = Self {
            mtu: options.take("mtu")?,
            metric: options.take("metric")?,
            no_default_route: options.take_switch("no_default_route")?,
        };
        // ETH_MIN_MTU and ETH_MAX_MTU (net/core/dev.c); what the parent carries is known when it is looked at.
        match taken.mtu.filter(|mtu| *mtu != 0 && !(68..=65535).contains(mtu)) {
            Some(mtu) => Err(Invalid(format!("mtu {mtu} is not possible: it must be between 68 and 65535"))),
            None => Ok(taken),
        }
    }

    fn texts(&self) -> [(&'static str, Option<String>); 3] {
        [
            ("mtu", self.mtu.map(|v| v.to_string())),
            ("metric", self.metric.map(|v| v.to_string())),
            ("no_default_route", self.no_default_route.map(|v| v.to_string())),
        ]
    }
}

impl MacvlanOptions {
    /// Parses `-o key=value` pairs but `parent`; any key left over is an error that names it.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        let mut options = Options(options.clone());
        let parsed = Self {
            lan: LanOptions::take(&mut options)?,
            mode: options.take_with("mode", MacvlanMode::named)?,
            bclim: options.take("bclim")?,
            host_access: options.take_switch("host_access")?,
        };
        options.none_left("macvlan")?;
        let mode = parsed.mode.unwrap_or_default();
        if parsed.host_access == Some(true) && mode != MacvlanMode::Bridge {
            let text = format!("option host_access needs mode bridge: in mode {} links reach no others", mode.word());
            return Err(Invalid(text));
        }
        Ok(parsed)
    }

    pub(crate) fn to_map(&self) -> BTreeMap<String, String> {
        let own = [
            ("mode", self.mode.map(|v| v.word().to_owned())),
            ("bclim", self.bclim.map(|v| v.to_string())),
            ("host_access", self.host_access.map(|v| v.to_string())),
        ];
        shown(self.lan.texts().into_iter().chain(own))
    }
}

impl IpvlanOptions {
    /// Parses `-o key=value` pairs but `parent`; any key left over is an error that names it.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        let mut options = Options(options.clone());
        let parsed = Self { lan: LanOptions::take(&mut options)?, mode: options.take_with("mode", IpvlanMode::named)? };
        options.none_left("ipvlan")?;
        Ok(parsed)
    }

    pub(crate) fn to_map(&self) -> BTreeMap<String, String> {
        shown(self.lan.texts().into_iter().chain([("mode", self.mode.map(|v| v.word().to_owned()))]))
    }
}

fn shown(texts: impl Iterator<Item = (&'static str, Option<String>)>) -> BTreeMap<String, String> {
    texts.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(line: &str) -> BTreeMap<String, String> {
        let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    proptest! {
        #[test]
        fn options_are_read_as_they_are_written(
            mtu in proptest::option::of(68u32..=65535), metric in any::<Option<u32>>(),
            no_default_route in any::<Option<bool>>(), bclim in any::<Option<i32>>(),
            mode in 0usize..6, host_access in any::<Option<bool>>(),
        ) {
            let lan = LanOptions { mtu, metric, no_default_route };
            let mode_of_macvlan = MacvlanMode::WORDS.get(mode).map(|(mode, _)| *mode);
            let host_access = host_access.filter(|on| !on || mode_of_macvlan.unwrap_or_default() == MacvlanMode::Bridge);
            let macvlan = MacvlanOptions { lan: lan.clone(), mode: mode_of_macvlan, bclim, host_access };
            prop_assert_eq!(MacvlanOptions::parse(&macvlan.to_map()), Ok(macvlan));
            let ipvlan = IpvlanOptions { lan, mode: IpvlanMode::WORDS.get(mode).map(|(mode, _)| *mode) };
            prop_assert_eq!(IpvlanOptions::parse(&ipvlan.to_map()), Ok(ipvlan));
        }
    }

    #[test]
    fn what_no_link_can_be_is_refused_in_netavarks_words() {
        let macvlan = |line| MacvlanOptions::parse(&typed(line)).map(drop).map_err(|e| e.0);
        let ipvlan = |line| IpvlanOptions::parse(&typed(line)).map(drop).map_err(|e| e.0);
        assert_eq!(macvlan("mode=foo").unwrap_err(), "invalid macvlan mode \"foo\"");
        assert_eq!(macvlan("bclim=abc").unwrap_err(), "unable to parse \"bclim\": invalid digit found in string");
        assert_eq!(macvlan("isolate=true").unwrap_err(), "unsupported macvlan network option isolate");
        assert_eq!(macvlan("mtu=67").unwrap_err(), "mtu 67 is not possible: it must be between 68 and 65535");
        assert_eq!(
            macvlan("mode=private host_access=true").unwrap_err(),
            "option host_access needs mode bridge: in mode private links reach no others"
        );
        assert_eq!(ipvlan("mode=bridge").unwrap_err(), "invalid ipvlan mode \"bridge\"");
        assert_eq!(ipvlan("bclim=5").unwrap_err(), "unsupported ipvlan network option bclim");
        assert!(macvlan("no_default_route=1 mode= mtu=0").is_ok());
    }
}
