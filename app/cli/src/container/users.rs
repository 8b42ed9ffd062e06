//! `--userns`, `--uidmap`, `--gidmap`, `--subuidname`, `--subgidname`.

use engine::config::UsersWish;
use engine::idmaps;
use engine::idmaps::IdRange;

use crate::flags::strings;
use crate::outcome::Failure;

/// Flags that say which users a container has.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct UserFlags {
    /// The user namespace: host, keep-id, auto, nomap, container:NAME or ns:PATH
    #[arg(long, value_name = "string")]
    userns: Option<String>,
    /// Map user ids of the container to others ([+ug]container:[@]host[:amount])
    #[arg(long, value_name = "strings")]
    uidmap: Vec<String>,
    /// Map group ids of the container to others ([+ug]container:[@]host[:amount])
    #[arg(long, value_name = "strings")]
    gidmap: Vec<String>,
    /// Map user ids to somebody's ranges in /etc/subuid
    #[arg(long, value_name = "string")]
    subuidname: Option<String>,
    /// Map group ids to somebody's ranges in /etc/subgid
    #[arg(long, value_name = "string")]
    subgidname: Option<String>,
}

impl UserFlags {
    /// `default` is what the environment says: PODMAN_USERNS.
    pub(crate) fn parse(self, default: Option<String>) -> Result<UsersWish, Failure> {
        let named = |name: Option<String>| name.filter(|name| !name.is_empty());
        let (subuid, subgid) = (named(self.subuidname), named(self.subgidname));
        let (uids, gids) = (strings(&self.uidmap), strings(&self.gidmap));
        if uids.is_empty() && gids.is_empty() && subuid.is_none() && subgid.is_none() {
            return mode(&self.userns.or(default).unwrap_or_default());
        }
        if self.userns.is_some() {
            return Err(Failure::new(
                "--userns and --uidmap/--gidmap/--subuidname/--subgidname are mutually exclusive",
            ));
        }
        Ok(UsersWish::Mapped { uids: idmaps::parse("UID", &uids)?, gids: idmaps::parse("GID", &gids)?, subuid, subgid })
    }
}

pub(crate) fn mode(text: &str) -> Result<UsersWish, Failure> {
    let (word, options) = text.split_once(':').map_or((text, None), |(word, options)| (word, Some(options)));
    let invalid = |kind: &str| Failure::new(format!("invalid config provided: namespace mode {kind} requires a value"));
    match (word, options) {
        ("" | "host", None) => Ok(UsersWish::Host),
        ("nomap", None) => Ok(UsersWish::NoMap),
        ("private", None) => {
            Err(Failure::new("must provide at least one UID or GID mapping to configure a user namespace"))
        }
        ("pod", None) => Err(Failure::new(
            "cannot use pod namespace as container is not joining a pod or pod has no infra container: invalid argument",
        )),
        ("keep-id", options) => keep_id(options),
        ("auto", options) => auto(options),
        ("container", Some(name)) if !name.is_empty() => Ok(UsersWish::Container(name.to_owned())),
        ("container", _) => Err(invalid("container")),
        ("ns", Some(path)) if !path.is_empty() => Ok(UsersWish::Path(path.into())),
        ("ns", _) => Err(invalid("path")),
        _ => Err(Failure::new(format!("unrecognized namespace mode {text} passed"))),
    }
}

fn keep_id(options: Option<&str>) -> Result<UsersWish, Failure> {
    let (mut uid, mut gid, mut size) = (None, None, None);
    for option in options.iter().flat_map(|text| text.split(',')) {
        let (key, value) = pair(option)?;
        match key {
            "uid" => uid = Some(number(value)?),
            "gid" => gid = Some(number(value)?),
            "size" => size = Some(number(value)?),
            _ => return Err(unknown(key)),
        }
    }
    if size == Some(0) {
        return Err(Failure::new("invalid userns size 0, must be greater than 0"));
    }
    Ok(UsersWish::KeepId { uid, gid, size })
}

fn auto(options: Option<&str>) -> Result<UsersWish, Failure> {
    let (mut size, mut uids, mut gids) = (None, Vec::new(), Vec::new());
    for option in options.iter().flat_map(|text| text.split(',')) {
        let (key, value) = pair(option)?;
        match key {
            "size" => size = Some(number(value)?),
            "uidmapping" => uids.extend(mapping("UID", value)?),
            "gidmapping" => gids.extend(mapping("GID", value)?),
            _ => return Err(unknown(key)),
        }
    }
    // Podman takes 0 for not given.
    Ok(UsersWish::Auto { size: size.filter(|size| *size > 0), uids, gids })
}

fn pair(option: &str) -> Result<(&str, &str), Failure> {
    option.split_once('=').ok_or_else(|| Failure::new(format!("invalid option specified: {option:?}")))
}

fn unknown(key: &str) -> Failure {
    Failure::new(format!("unknown option specified: {key:?}"))
}

fn number(text: &str) -> Result<u32, Failure> {
    text.parse().map_err(|_| {
        let why = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            "value out of range"
        } else {
            "invalid syntax"
        };
        Failure::new(format!("strconv.ParseUint: parsing {text:?}: {why}"))
    })
}

fn mapping(setting: &str, text: &str) -> Result<Vec<IdRange>, Failure> {
    let failed = |error: engine::Error| {
        Failure::new(format!("failed to create Parse{setting}Map {setting}=[{text}]: {}", error.message))
    };
    let wishes = idmaps::parse(setting, &[text.to_owned()]).map_err(failed)?;
    match wishes.iter().any(|wish| wish.of_host || wish.extends) {
        true => Err(Failure::new(format!("--userns auto takes no flags in a mapping: {text:?}"))),
        false => Ok(wishes.into_iter().map(|wish| wish.range).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, means: &str) {
        let said = match mode(text) {
            Ok(wish) => format!("{wish:?}"),
            Err(failure) => failure.message,
        };
        assert_eq!(said, means, "--userns {text}");
    }

    #[test]
    fn modes_are_podmans() {
        check("", "Host");
        check("host", "Host");
        check("nomap", "NoMap");
        check("keep-id", "KeepId { uid: None, gid: None, size: None }");
        check("keep-id:uid=5,gid=7,size=9", "KeepId { uid: Some(5), gid: Some(7), size: Some(9) }");
        check("auto", "Auto { size: None, uids: [], gids: [] }");
        check(
            "auto:size=2000,uidmapping=0:1:1",
            "Auto { size: Some(2000), uids: [IdRange { inside: 0, outside: 1, count: 1 }], gids: [] }",
        );
        check("container:web", "Container(\"web\")");
        check("ns:/run/x", "Path(\"/run/x\")");
    }

    #[test]
    fn wrong_modes_are_answered_in_podmans_words() {
        check("foo", "unrecognized namespace mode foo passed");
        check("host:x", "unrecognized namespace mode host:x passed");
        check("private", "must provide at least one UID or GID mapping to configure a user namespace");
        check("container:", "invalid config provided: namespace mode container requires a value");
        check("ns", "invalid config provided: namespace mode path requires a value");
        check("auto:", "invalid option specified: \"\"");
        check("auto:foo=1", "unknown option specified: \"foo\"");
        check("auto:size=x", "strconv.ParseUint: parsing \"x\": invalid syntax");
        check("keep-id:uid=99999999999", "strconv.ParseUint: parsing \"99999999999\": value out of range");
        check(
            "auto:uidmapping=0:x:1",
            "failed to create ParseUIDMap UID=[0:x:1]: initializing ID mappings: UID setting is malformed expected \
             [\"[+ug]uint32:[@]uint32[:uint32]\"] : [\"0:x:1\"]",
        );
    }

    #[test]
    fn a_mode_and_maps_exclude_each_other_and_the_environment_is_the_default() {
        let maps = UserFlags { uidmap: vec!["0:1:5,7:8".to_owned()], ..UserFlags::default() };
        assert!(
            matches!(maps.parse(Some("keep-id".to_owned())), Ok(UsersWish::Mapped { uids, .. }) if uids.len() == 2)
        );
        let both = UserFlags { uidmap: vec!["0:1:5".to_owned()], userns: Some(String::new()), ..UserFlags::default() };
        assert!(both.parse(None).unwrap_err().message.ends_with("are mutually exclusive"));
        assert_eq!(UserFlags::default().parse(Some("nomap".to_owned())).unwrap(), UsersWish::NoMap);
        let given = UserFlags { userns: Some(String::new()), ..UserFlags::default() };
        assert_eq!(given.parse(Some("nomap".to_owned())).unwrap(), UsersWish::Host);
    }
}
