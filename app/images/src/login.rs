//! `login` and `logout`: credentials are tried, then written down.

use std::path::{Path, PathBuf};

use ureq::http::StatusCode;

use crate::access::Access;
use crate::auth::{self, Credentials};
use crate::error::{ImageError, Result};
use crate::registries::{Machine, Registries};
use crate::registry::{Client, authorized, refusal};

/// Where to log in, and how to get there.
#[derive(Debug, Clone)]
pub struct Login<'a> {
    machine: &'a Machine,
    access: &'a Access,
    /// As it is written in auth.json: `quay.io`, `quay.io/team`.
    key: String,
}

/// What is known of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoggedIn {
    /// Nothing.
    No,
    /// With this user's name; none for a token.
    As(Option<String>),
}

impl<'a> Login<'a> {
    /// For the registry `typed`, perhaps with a repository; none means the first search registry.
    pub fn new(typed: Option<&str>, access: &'a Access, machine: &'a Machine) -> Result<Self> {
        let key = match typed {
            Some(typed) => {
                typed.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/').to_owned()
            }
            None => Registries::read(machine)?.search().first().cloned().ok_or_else(|| {
                ImageError::Invalid("no registries found in registries.conf, a registry must be provided".to_owned())
            })?,
        };
        // What is a repository without a name is a registry with one.
        let name = if key.contains('/') { key.clone() } else { format!("{key}/x") };
        match name.parse::<crate::Reference>() {
            Ok(_) => Ok(Self { machine, access, key }),
            Err(_)
                if key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'))
                    && !key.is_empty() =>
            {
                // `myregistry` in /etc/hosts: a host without a dot.
                Ok(Self { machine, access, key })
            }
            Err(_) => Err(ImageError::Invalid(format!("{:?} is no registry", typed.unwrap_or_default()))),
        }
    }

    /// The registry, as messages name it.
    pub fn registry(&self) -> &str {
        &self.key
    }

    /// The file that credentials are written to.
    pub fn file(&self) -> PathBuf {
        self.access.auth_files(self.machine).into_iter().next().unwrap_or_else(|| "auth.json".into())
    }

    /// Whom we are logged in as.
    pub fn who(&self) -> Result<LoggedIn> {
        Ok(match self.known()? {
            None => LoggedIn::No,
            Some(Credentials::Password { user, .. }) => LoggedIn::As(Some(user)),
            Some(Credentials::IdentityToken(_)) => LoggedIn::As(None),
        })
    }

    /// Are the credentials that are written down still good?
    pub fn still_good(&self) -> Result<bool> {
        match self.known()? {
            None => Ok(false),
            Some(credentials) => self.good(credentials),
        }
    }

    /// Tries the credentials, and writes them down.
    pub fn log_in(&self, user: &str, password: &str) -> Result<()> {
        let credentials = Credentials::Password { user: user.to_owned(), password: password.to_owned() };
        match self.good(credentials)? {
            true => {
                let registries = Registries::read(self.machine)?;
                auth::keep(registries.helpers(), &self.file(), &self.key, user, password)
            }
            false => Err(ImageError::Invalid(format!("logging into {:?}: invalid username/password", self.key))),
        }
    }

    /// Forgets the credentials; `false` when there were none in the file that we write.
    pub fn log_out(&self) -> Result<bool> {
        auth::forget(Registries::read(self.machine)?.helpers(), &self.file(), &self.key)
    }

    fn known(&self) -> Result<Option<Credentials>> {
        let registries = Registries::read(self.machine)?;
        auth::find(registries.helpers(), &self.access.auth_files(self.machine), &self.key)
    }

    /// Does the registry know us?
    fn good(&self, credentials: Credentials) -> Result<bool> {
        let registry = self.key.split('/').next().unwrap_or(&self.key);
        let insecure = Registries::read(self.machine)?.is_insecure(&self.key);
        let what = format!("authenticating creds for {:?}", self.key);
        let client = Client::visit(registry, insecure, Some(credentials), self.access, self.machine);
        let client = client.map_err(|e| e.within(&what))?;
        let url = format!("{}/v2/", client.origin());
        let asked = client.ask(&|right| authorized(client.agent().get(&url), right).call());
        match asked {
            Ok(response) if response.status() == StatusCode::OK => Ok(true),
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => Ok(false),
            Ok(response) => Err(refusal(response, "no registry is there").within(&what)),
            // The token server's no.
            Err(ImageError::Registry { message, .. })
                if message.contains("unauthorized") || message.contains("denied: ") =>
            {
                Ok(false)
            }
            Err(error) => Err(error.within(&what)),
        }
    }
}

/// Forgets all credentials of `file`.
pub fn log_out_everywhere(file: &Path) -> Result<()> {
    auth::erase_all(file)
}
