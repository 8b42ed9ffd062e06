//! What the machine's administrator has set: `/etc/podwire/podwire.conf`.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The file, in TOML. It need not be there.
pub const SETTINGS_FILE: &str = "/etc/podwire/podwire.conf";

/// What can be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `[network]`
    pub network: NetworkSettings,
}

/// How networks are looked after.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// Is what others delete of ours made again, without a command?
    pub heal: bool,
    /// May containers behind an ordinary user's relay reach what listens at addresses of the host?
    pub host_services: bool,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self { heal: true, host_services: true }
    }
}

impl Settings {
    /// Reads a file; what it does not say is as by default.
    pub fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|e| Error::at(path.display(), e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::at(path.display(), e)),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Settings::read(file.path())
    }

    #[test]
    fn healing_is_on_unless_it_is_said_to_be_off() {
        assert!(Settings::read(Path::new("/nonexistent")).unwrap().network.heal);
        assert!(read("").unwrap().network.heal && read("[network]\n").unwrap().network.heal);
        assert!(!read("[network]\nheal = false\n").unwrap().network.heal);
    }

    #[test]
    fn services_of_the_host_are_reached_unless_it_is_said_that_they_are_not() {
        assert!(read("").unwrap().network.host_services);
        assert!(!read("[network]\nhost_services = false\n").unwrap().network.host_services);
    }

    #[test]
    fn a_word_that_is_not_known_is_told() {
        let error = read("[network]\nheel = false\n").unwrap_err().to_string();
        assert!(error.contains("heel") && error.contains("heal"), "{error}");
    }
}
