//! `--filter key=value`: one key's values are alternatives (labels all hold), different keys all hold.

use std::collections::BTreeMap;

use regex_lite::Regex;

use crate::outcome::Failure;

/// Podman's words for an unknown key where images are looked for.
pub(crate) fn unsupported_for_images(key: &str) -> String {
    format!("unsupported image filter {key:?}")
}

/// Podman's words for an unknown key of events, pods and containers that are pruned.
pub(crate) fn is_invalid(key: &str) -> String {
    format!("{key} is an invalid filter")
}

/// What was asked for, by key.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Refuses what is not `key=value` and keys that are not among `known`.
    pub(crate) fn parse(flags: &[String], known: &[&str]) -> Result<Self, Failure> {
        Self::parse_refusing(flags, known, |key| format!("invalid filter {key:?}"))
    }

    /// As [`Filters::parse`]; an unknown key is refused in these words.
    pub(crate) fn parse_refusing(flags: &[String], known: &[&str], words: fn(&str) -> String) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for flag in flags {
            let Some((key, value)) = flag.split_once('=') else {
                return Err(Failure::new(format!(
                    "filter input must be in the form of filter=value: {flag} is invalid"
                )));
            };
            if !known.contains(&key) {
                return Err(Failure::new(words(key)));
            }
            filters.0.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Ok(filters)
    }

    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// True when the key was not given or one of its values is `right`.
    pub(crate) fn any(&self, key: &str, right: impl FnMut(&String) -> bool) -> bool {
        !self.has(key) || self.values(key).iter().any(right)
    }

    /// The key's only value, read; a second one is an error.
    pub(crate) fn one<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        match self.values(key) {
            [] => Ok(None),
            [value] => read(value).map(Some),
            _ => Err(Failure::new(format!("got more than one value for filter key {key:?}"))),
        }
    }

    /// The key's values as regular expressions.
    pub(crate) fn patterns(&self, key: &str) -> Result<Vec<Regex>, Failure> {
        let compile = |text: &String| {
            Regex::new(text)
                .map_err(|e| Failure::new(format!("invalid filter {key:?}: error parsing regexp {text:?}: {e}")))
        };
        self.values(key).iter().map(compile).collect()
    }

    /// `label` (all hold) and `label!` (none holds).
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wish: &String| match wish.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wish),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }
}

/// `dangling=true`
pub(crate) fn dangling(text: &str) -> Result<bool, Failure> {
    crate::flags::switch(text).map_err(|_| Failure::new(format!("invalid dangling filter value {text:?}")))
}

/// No patterns, or one that matches.
pub(crate) fn matches(patterns: &[Regex], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|p| p.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(flags: &[&str]) -> Result<Filters, Failure> {
        let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
        Filters::parse(&flags, &["name", "label", "label!", "dangling"])
    }

    #[test]
    fn wrong_filters_are_answered_in_podmans_words() {
        let check = |flag: &str, message: &str| assert_eq!(filters(&[flag]).unwrap_err().message, message);
        check("badfilter", "filter input must be in the form of filter=value: badfilter is invalid");
        check("foo=bar", "invalid filter \"foo\"");
        let twice = filters(&["dangling=true", "dangling=false"]).unwrap();
        assert_eq!(
            twice.one("dangling", dangling).unwrap_err().message,
            "got more than one value for filter key \"dangling\""
        );
        let wrong = filters(&["dangling=foo"]).unwrap();
        assert_eq!(wrong.one("dangling", dangling).unwrap_err().message, "invalid dangling filter value \"foo\"");
    }

    #[test]
    fn labels_hold_all_and_not_any() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
        let check =
            |flags: &[&str], holds: bool| assert_eq!(filters(flags).unwrap().labels(&labels), holds, "{flags:?}");
        check(&[], true);
        check(&["label=a"], true);
        check(&["label=a=b", "label=c"], true);
        check(&["label=a=b", "label=d"], false);
        check(&["label=a=zzz"], false);
        check(&["label!=a"], false);
        check(&["label!=a=c"], true);
    }
}
