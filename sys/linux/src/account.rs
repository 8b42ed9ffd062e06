//! Who the users of this machine are (passwd(5)).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The home directory of the user we are outside: $HOME, unless it is another's, as `su` without `-` leaves it.
pub fn home() -> Option<PathBuf> {
    let given = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    home_of(given.as_deref(), || Account::of(crate::userns::outer_uid()).home)
}

/// As [`home`], where $HOME is `given` and the account has the home `own`.
pub fn home_of(given: Option<&Path>, own: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    let ours = given.filter(|home| is_own_directory(home)).map(Path::to_owned);
    ours.or_else(own).or_else(|| given.map(Path::to_owned))
}

/// Is it a directory of whoever we are: the user outside; root, who is the user, inside?
pub fn is_own_directory(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == own)
}

/// What /etc/passwd says of a user. Nothing is known of who is not there.
#[derive(Debug, Default)]
pub struct Account {
    /// The login name.
    pub name: Option<String>,
    /// The first part of what passwd calls a comment.
    pub full_name: Option<String>,
    /// The home directory.
    pub home: Option<PathBuf>,
}

impl Account {
    /// The user of this number.
    pub fn of(uid: u32) -> Self {
        Self::in_text(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), uid)
    }

    /// The user of this number, by the text of a passwd file.
    pub fn in_text(passwd: &str, uid: u32) -> Self {
        let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let line = lines.find(|fields| fields.len() > 5 && fields[2].parse() == Ok(uid));
        let Some(fields) = line else { return Self::default() };
        let full_name = fields[4].split(',').next().map(str::to_owned);
        Self { name: Some(fields[0].to_owned()), full_name, home: Some(fields[5].into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nweb:x:1001:1001:,,,:/srv/web:/bin/sh\n";
        let web = Account::in_text(passwd, 1001);
        assert_eq!(
            (web.name, web.full_name, web.home),
            (Some("web".to_owned()), Some(String::new()), Some("/srv/web".into()))
        );
        assert!(Account::in_text(passwd, 1002).name.is_none());
    }
}
