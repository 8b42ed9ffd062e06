//! How to get at registries: what a command line says beyond the machine's files.

use std::fmt;
use std::path::PathBuf;

use crate::auth::{self, Credentials};
use crate::error::Result;
use crate::registries::{Machine, Registries};

/// What a command line says about getting at registries.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Must certificates be known, and is plain HTTP refused? When not said: as registries.conf says, and for
    /// registries on loopback nothing is required.
    pub tls_verify: Option<bool>,
    /// User and password, instead of those in files.
    pub credentials: Option<(String, String)>,
    /// The file with credentials, instead of the usual ones.
    pub authfile: Option<PathBuf>,
    /// A directory with certificates (`*.crt`, `*.cert`, `*.key`), instead of certs.d.
    pub cert_dir: Option<PathBuf>,
}

impl fmt::Debug for Access {
    /// Without the password: this may get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("tls_verify", &self.tls_verify)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("authfile", &self.authfile)
            .field("cert_dir", &self.cert_dir)
            .finish()
    }
}

impl Access {
    /// Files with credentials, those that count first.
    pub(crate) fn auth_files(&self, machine: &Machine) -> Vec<PathBuf> {
        self.authfile.as_ref().map_or_else(|| machine.auth_files.clone(), |file| vec![file.clone()])
    }

    /// Who we are at `name`: a registry, or a repository at one.
    pub(crate) fn credentials_for(&self, machine: &Machine, name: &str) -> Result<Option<Credentials>> {
        match &self.credentials {
            Some((user, password)) => {
                Ok(Some(Credentials::Password { user: user.clone(), password: password.clone() }))
            }
            None => auth::find(Registries::read(machine)?.helpers(), &self.auth_files(machine), name),
        }
    }
}
