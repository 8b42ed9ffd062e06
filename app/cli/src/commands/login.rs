//! `podwire login`, `podwire logout`

use std::io::{BufRead as _, Read as _, stdin};

use images::{LoggedIn, Login as At, Machine, log_out_everywhere};

use crate::flags::{self, Command};
use crate::global::{Podwire, say, write};
use crate::outcome::{Failure, Outcome};
use crate::registry_access::{RegistryAccess, ask_password};

/// The longest password taken from standard input.
const PASSWORD_MAX: u64 = 64 << 10;

#[derive(clap::Args)]
pub(crate) struct Login {
    #[command(flatten)]
    registry: RegistryAccess,
    /// Print whom we are logged in as
    #[arg(long)]
    get_login: bool,
    /// The password; others on this machine can see it, so --password-stdin is better
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// The user's name
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    /// Say which file is written
    #[arg(short, long)]
    verbose: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Login {
    fn run(self, _: &Podwire) -> Outcome {
        flags::at_most(1, &self.arguments)?;
        let (access, machine) = (self.registry.read_or_make()?, Machine::here());
        let at = At::new(self.arguments.first().map(String::as_str), &access, &machine)?;
        let known = at.who()?;
        if self.get_login {
            return match known {
                LoggedIn::As(user) => say(user.as_deref().unwrap_or("<token>")).map(|()| 0),
                LoggedIn::No => Err(Failure::new(format!("not logged into {}", at.registry()))),
            };
        }
        if self.password_stdin && self.password.is_some() {
            return Err(Failure::new("Can't specify both --password-stdin and --password"));
        }
        if self.password_stdin && self.username.is_none() {
            return Err(Failure::new("Must provide --username with --password-stdin"));
        }
        if known != LoggedIn::No && self.username.is_none() && self.password.is_none() {
            say(format_args!("Authenticating with existing credentials for {}", at.registry()))?;
            if at.still_good()? {
                say(format_args!("Existing credentials are valid. Already logged in to {}", at.registry()))?;
                return Ok(0);
            }
            say("Existing credentials are invalid, please enter valid username and password")?;
        }
        let user = match self.username {
            Some(user) => user,
            None => ask_user(&known)?,
        };
        let password = match (self.password, self.password_stdin) {
            (Some(password), _) => password,
            (None, true) => from_stdin()?,
            (None, false) => {
                ask_password().map_err(|e| Failure::new(format!("getting username and password: {}", e.message)))?
            }
        };
        at.log_in(&user, &password)?;
        if self.verbose {
            say(format_args!("Used:  {}", at.file().display()))?;
        }
        say("Login Succeeded!")?;
        Ok(0)
    }
}

fn ask_user(known: &LoggedIn) -> Result<String, Failure> {
    let known = match known {
        LoggedIn::As(Some(user)) => Some(user),
        _ => None,
    };
    write(&known.map_or("Username: ".to_owned(), |user| format!("Username ({user}): ")))?;
    let mut line = String::new();
    if stdin().lock().read_line(&mut line)? == 0 {
        return Err(Failure::new("getting username and password: reading username: EOF"));
    }
    match (line.trim(), known) {
        ("", Some(user)) => Ok(user.clone()),
        ("", None) => Err(Failure::new("getting username and password: username cannot be empty")),
        (typed, _) => Ok(typed.to_owned()),
    }
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    stdin().lock().take(PASSWORD_MAX).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[derive(clap::Args)]
pub(crate) struct Logout {
    /// All registries of the file
    #[arg(short, long)]
    all: bool,
    /// The file with credentials (default: REGISTRY_AUTH_FILE, or containers/auth.json in XDG_RUNTIME_DIR)
    #[arg(long, value_name = "string")]
    authfile: Option<std::path::PathBuf>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for Logout {
    fn run(self, _: &Podwire) -> Outcome {
        flags::at_most(1, &self.arguments)?;
        let (access, machine) = (images::Access { authfile: self.authfile, ..Default::default() }, Machine::here());
        if self.all {
            if !self.arguments.is_empty() {
                return Err(Failure::new("--all takes no arguments"));
            }
            let file = access.authfile.as_ref().or(machine.auth_files.first());
            file.map_or(Ok(()), |file| log_out_everywhere(file))?;
            say("Removed login credentials for all registries")?;
            return Ok(0);
        }
        let at = At::new(self.arguments.first().map(String::as_str), &access, &machine)?;
        if at.log_out()? {
            say(format_args!("Removed login credentials for {}", at.registry()))?;
            return Ok(0);
        }
        match at.who()? {
            // In a file that another program writes (Docker's).
            LoggedIn::As(_) => Err(Failure::new(format!(
                "not logged into {} with podwire; existing credentials are of another tool's file and stay",
                at.registry()
            ))),
            LoggedIn::No => Err(Failure::new(format!("not logged into {}", at.registry()))),
        }
    }
}
