//! The flags of every command that asks a registry.

use std::path::PathBuf;

use engine::hidden_line;
use images::Access;

use crate::flags::switch;
use crate::outcome::{Failure, plain};

#[derive(clap::Args)]
pub(crate) struct RegistryAccess {
    /// The file with credentials (default: REGISTRY_AUTH_FILE, or containers/auth.json in XDG_RUNTIME_DIR)
    #[arg(long, value_name = "string")]
    authfile: Option<PathBuf>,
    /// A directory with certificates and keys to use with the registry
    #[arg(long, value_name = "string")]
    cert_dir: Option<PathBuf>,
    /// Require HTTPS and verify certificates (default: not for registries on this host)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    tls_verify: Option<bool>,
}

/// The same, and who to be.
#[derive(clap::Args)]
pub(crate) struct RegistryUser {
    #[command(flatten)]
    access: RegistryAccess,
    /// USERNAME[:PASSWORD] to use with the registry
    #[arg(long, value_name = "Credentials")]
    creds: Option<String>,
    /// Docker's flag; there are no signatures here to be asked for
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

impl RegistryAccess {
    pub(crate) fn read(self) -> Result<Access, Failure> {
        if let Some(file) = &self.authfile {
            // A file that somebody names must be there; the usual ones need not.
            std::fs::metadata(file).map_err(|e| missing("credential file is not accessible: stat", file, &e))?;
        }
        self.read_or_make()
    }

    /// For `login`, which makes the file.
    pub(crate) fn read_or_make(self) -> Result<Access, Failure> {
        if let Some(directory) = &self.cert_dir {
            std::fs::metadata(directory).map_err(|e| missing("--cert-dir: stat", directory, &e))?;
        }
        let Self { authfile, cert_dir, tls_verify } = self;
        Ok(Access { tls_verify, authfile, cert_dir, credentials: None })
    }
}

impl RegistryUser {
    pub(crate) fn read(self) -> Result<Access, Failure> {
        let credentials = self.creds.as_deref().map(user_and_password).transpose()?;
        Ok(Access { credentials, ..self.access.read()? })
    }
}

fn missing(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{what} {}: {}", path.display(), plain(error).to_lowercase()))
}

fn user_and_password(creds: &str) -> Result<(String, String), Failure> {
    match creds.split_once(':') {
        Some(("", _)) => Err(Failure::new("username cannot be empty")),
        Some((user, password)) => Ok((user.to_owned(), password.to_owned())),
        None if creds.is_empty() => Err(Failure::new("credentials can't be empty")),
        None => Ok((creds.to_owned(), ask_password()?)),
    }
}

/// Asks on the terminal.
pub(crate) fn ask_password() -> Result<String, Failure> {
    let stdin = std::fs::File::open("/dev/stdin");
    let typed = stdin.and_then(|terminal| hidden_line(&terminal, || ask("Password: ")));
    let password = typed.map_err(|e| Failure::new(format!("reading password: {}", plain(&e).to_lowercase())))?;
    crate::global::write("\n")?;
    Ok(password)
}

fn ask(question: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    out.write_all(question.as_bytes())?;
    out.flush()
}
