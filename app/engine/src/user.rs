//! Who a command runs as: `-u` looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::record::Settings;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Groups beside `gid`.
    pub(crate) groups: Vec<u32>,
    /// The home directory; `/` when nobody says.
    pub(crate) home: String,
}

/// `USER[:GROUP]`, by name or number; empty is root. The error is what is wrong with it.
pub(crate) fn resolve(wish: &str, root: impl AsFd) -> Result<User, String> {
    // An image without these files is as one with empty ones.
    let passwd = read_inside(root.as_fd(), "etc/passwd").unwrap_or_default();
    let group = read_inside(root.as_fd(), "etc/group").unwrap_or_default();
    look_up(wish, &passwd, &group)
}

/// As [`resolve`], with the groups of `--group-add`.
pub(crate) fn of_container(settings: &Settings, wish: &str, root: impl AsFd) -> Result<User, String> {
    let mut user = resolve(wish, root.as_fd())?;
    if !settings.inside.groups.is_empty() {
        let group = read_inside(root.as_fd(), "etc/group").unwrap_or_default();
        for wish in &settings.inside.groups {
            user.groups.push(group_id(wish, &group)?);
        }
        user.groups.sort_unstable();
        user.groups.dedup();
    }
    Ok(user)
}

/// A file's text, with `root` as the root directory of every symbolic link on the way. At most 1 MiB.
pub(crate) fn read_inside(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let file = open_inside(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens `path` as a process in the container would.
pub(crate) fn open_inside(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<File> {
    // In this image nobody races us: it is not running yet. EAGAIN is then no answer to retry on.
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), inside)?.into())
}

pub(crate) fn look_up(wish: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_wish) = match wish.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (wish, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    // A name of digits is first a name, as in Podman.
    let entry = passwd.lines().filter_map(Account::parse).find(|a| a.name == name || Some(a.uid) == number);
    let (uid, gid) = match (&entry, number) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(format!("unable to find user {name}: no matching entries in passwd file")),
    };
    let home = entry.as_ref().map(|a| a.home).filter(|home| !home.is_empty());
    let home = home.unwrap_or(if uid == 0 { "/root" } else { "/" }).to_owned();
    if let Some(text) = group_wish {
        return Ok(User { uid, gid: group_id(text, group)?, groups: Vec::new(), home });
    }
    let mut groups: Vec<u32> = match &entry {
        Some(account) => group.lines().filter_map(|line| membership(line, account.name)).collect(),
        None => Vec::new(),
    };
    groups.retain(|id| *id != gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups, home })
}

fn group_id(text: &str, group: &str) -> Result<u32, String> {
    let named = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    named
        .or_else(|| text.parse().ok())
        .ok_or_else(|| format!("unable to find group {text}: no matching entries in group file"))
}

/// The group's number, if `name` is one of its members.
fn membership(line: &str, name: &str) -> Option<u32> {
    let mut fields = line.trim_end().split(':');
    let id = fields.nth(2)?.parse().ok()?;
    fields.next()?.split(',').any(|member| member == name).then_some(id)
}

/// One line of a passwd file (passwd(5)).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim_end().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n\nbroken\nweb:x:33:33:web:/www:/bin/false\n42:x:7:7::/seven:/\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlog:x:50:other,web\nlog2:x:50:web\nweird:x:nope:web\nadm:x:4:web\n";

    fn check(wish: &str, expected: &str) {
        let said = match look_up(wish, PASSWD, GROUP) {
            Ok(user) => format!("{}:{} {:?} {}", user.uid, user.gid, user.groups, user.home),
            Err(why) => why,
        };
        assert_eq!(said, expected, "-u {wish}");
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        check("", "0:0 [] /root");
        check("web", "33:33 [4, 50] /www");
        check("33", "33:33 [4, 50] /www");
        check("42", "7:7 [] /seven");
        check("1000", "1000:0 [] /");
        check("1000:1000", "1000:1000 [] /");
        check("web:log", "33:50 [] /www");
        check("web:", "33:33 [4, 50] /www");
        check(":50", "0:50 [] /root");
    }

    #[test]
    fn an_unknown_name_is_an_error_in_podmans_words() {
        check("nobody", "unable to find user nobody: no matching entries in passwd file");
        check("web:nogroup", "unable to find group nogroup: no matching entries in group file");
        check("4294967296", "unable to find user 4294967296: no matching entries in passwd file");
    }

    #[test]
    fn a_symbolic_link_in_the_image_leads_nowhere_outside_it() {
        let image = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("passwd"), "evil:x:0:0::/:/\n").unwrap();
        std::fs::create_dir(image.path().join("etc")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("passwd"), image.path().join("etc/passwd")).unwrap();
        let root = File::open(image.path()).unwrap();
        assert!(resolve("evil", &root).is_err());
    }
}
