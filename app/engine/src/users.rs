//! The users of a container: its user namespace, and the accounts it is given.
//!
//! ```text
//!   --userns keep-id ──resolve──> record: Users::Own { maps } ──start──> UserNs ──> its network namespace, by netns
//!                                                                          └──> monitor: files, runtime
//! ```
//!
//! A container's network namespace belongs to its user namespace: root in there may then bind ports below 1024,
//! mount /sys and, with `--cap-add`, change links. So that one is made first, and the monitor finds it again as
//! the owner of the network namespace.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use images::Image;
use linux::userns::{self, IdMaps, IdRange, UserNs};
use model::ContainerId;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use store::Tx;

use crate::config::{ContainerConfig, NetworkMode, UsersWish};
use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, Kind, Result};
use crate::idmaps::{self, Auto, IdMapWish, Pool};
use crate::record::{ContainerRecord, Settings, State};
use crate::rootless;
use crate::user::{open_inside, read_inside};

/// Whose user namespace a container has, when it is not podwire's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Users {
    /// One of its own, with these ids.
    Own {
        /// Not chosen yet when `auto` is set and these are empty.
        maps: IdMaps,
        /// `--userns auto`
        auto: Option<Auto>,
    },
    /// Another container's.
    Of(ContainerId),
    /// The one that this file stands for.
    At(PathBuf),
}

/// The user of an image that nobody runs as unless he asks for it.
const NOBODY: u32 = 65534;

/// How many ids `--userns auto` gives at least, and at most without being asked.
const AUTO_SIZES: std::ops::RangeInclusive<u32> = 1024..=65536;

/// Whose subordinate ids `--userns auto` gives away when root asks (podman-run(1)).
const AUTO_USER: &str = "containers";

impl Engine {
    /// What `--userns` and the like mean here; `auto` without an image is as many as there are at most.
    pub(crate) fn users_of(&self, wish: &UsersWish, image: Option<&Image>) -> Result<Option<Users>> {
        let own = |maps: IdMaps| Ok(Some(Users::Own { maps, auto: None }));
        let rootless = self.options().rootless;
        match wish {
            UsersWish::Host => Ok(None),
            UsersWish::KeepId { .. } if !rootless => own(ours()?),
            UsersWish::KeepId { uid, gid, size } => {
                let (ours, (own_uid, own_gid)) = (ours()?, outer_ids()?);
                own(IdMaps {
                    uids: idmaps::keep(uid.unwrap_or(own_uid), idmaps::total(&ours.uids), *size),
                    gids: idmaps::keep(gid.unwrap_or(own_gid), idmaps::total(&ours.gids), *size),
                })
            }
            UsersWish::NoMap if !rootless => Err(Error::usage("nomap is only supported in rootless mode")),
            UsersWish::NoMap => {
                let ours = ours()?;
                let maps = IdMaps {
                    uids: idmaps::others(idmaps::total(&ours.uids)),
                    gids: idmaps::others(idmaps::total(&ours.gids)),
                };
                if maps.uids.is_empty() || maps.gids.is_empty() {
                    return Err(Error::usage(
                        "--userns nomap needs ids beside your own, and there are none: see /etc/subuid and /etc/subgid",
                    ));
                }
                own(maps)
            }
            UsersWish::Auto { size, uids, gids } => {
                let of_image = || image.map_or(Ok(*AUTO_SIZES.end()), size_for);
                let size = size.map_or_else(of_image, Ok)?;
                let fixed = IdMaps { uids: uids.clone(), gids: gids.clone() };
                Ok(Some(Users::Own { maps: IdMaps::default(), auto: Some(Auto { size, fixed }) }))
            }
            UsersWish::Mapped { uids, gids, subuid, subgid } => {
                own(self.mapped(uids, gids, subuid.as_deref(), subgid.as_deref())?)
            }
            UsersWish::Container(name) => {
                let other =
                    self.named(name).map_err(|e| Error::at("looking up container to share user namespace with", e))?;
                // Whoever shares with a sharer shares with the first.
                Ok(match other.settings.users {
                    None => None,
                    Some(Users::Own { .. }) => Some(Users::Of(other.id)),
                    Some(shared) => Some(shared),
                })
            }
            UsersWish::Path(path) if !path.exists() => Err(Error::usage(format!(
                "cannot find specified user namespace path: stat {}: no such file or directory",
                path.display()
            ))),
            UsersWish::Path(path) => Ok(Some(Users::At(path.clone()))),
        }
    }

    /// `--uidmap`, `--gidmap`, `--subuidname`, `--subgidname`.
    fn mapped(
        &self,
        uids: &[IdMapWish],
        gids: &[IdMapWish],
        subuid: Option<&str>,
        subgid: Option<&str>,
    ) -> Result<IdMaps> {
        let parent = ours()?;
        let (subuid, subgid) = (subuid.or(subgid), subgid.or(subuid));
        // Who maps only users or only groups means both.
        let (uids, gids) = match (uids, gids) {
            ([], both) | (both, []) => (both, both),
            each => each,
        };
        let map = |wishes: &[IdMapWish], users: bool, name: Option<&str>, parent: &[IdRange]| {
            let mut all = name.map_or(Ok(Vec::new()), |name| subordinate(name, users))?;
            all.extend(wishes.iter().filter(|wish| if users { wish.users } else { wish.groups }));
            let map = idmaps::combine(&all, parent, self.options().rootless)?;
            // Of what nobody said anything everything is as outside.
            let as_outside = || parent.iter().map(|range| IdRange { outside: range.inside, ..*range }).collect();
            let map = if map.is_empty() { as_outside() } else { map };
            idmaps::check_ours(&map, parent).map(|()| map)
        };
        Ok(IdMaps { uids: map(uids, true, subuid, &parent.uids)?, gids: map(gids, false, subgid, &parent.gids)? })
    }

    /// Chooses ids for a container that is to have any, in the transaction that records it.
    pub(crate) fn choose_ids(&self, tx: &Tx<'_>, record: &mut ContainerRecord) -> Result<()> {
        let Some(Users::Own { maps, auto: Some(auto) }) = &mut record.settings.users else { return Ok(()) };
        let pool = pool(self.options())?;
        let records = tx.containers()?.into_iter().filter_map(|(_, doc)| serde_json::from_value(doc).ok());
        let others: Vec<IdMaps> = records
            .filter_map(|record: ContainerRecord| match record.settings.users {
                Some(Users::Own { maps, .. }) => Some(maps),
                _ => None,
            })
            .collect();
        *maps = auto.choose(&pool, &others.iter().collect::<Vec<_>>())?;
        Ok(())
    }

    /// The user namespace that a container is to be started in, when it is not our own.
    pub(crate) fn open_users(&self, settings: &Settings) -> Result<Option<UserNs>> {
        let wrong = |e| Error::cannot_start(format!("cannot make the container's user namespace: {e}"));
        match &settings.users {
            None => Ok(None),
            Some(Users::Own { maps, .. }) => UserNs::create(maps.clone()).map(Some).map_err(wrong),
            Some(Users::Of(id)) => {
                let owner = self.record(id)?;
                let init = owner.init.filter(|init| owner.state == State::Running && init.alive());
                let init = init.ok_or_else(|| {
                    let text = format!(
                        "cannot join the user namespace of container {id}, which is not running: container state improper"
                    );
                    Error::new(Kind::CannotStart, text)
                })?;
                joined(&PathBuf::from(format!("/proc/{}/ns/user", init.pid))).map(Some)
            }
            Some(Users::At(path)) => joined(path).map(Some),
        }
    }
}

fn joined(path: &Path) -> Result<UserNs> {
    UserNs::open(path)
        .map_err(|e| Error::cannot_start(format!("cannot join the user namespace {}: {e}", path.display())))
}

/// Has the container a network namespace that was made for it, and so belongs to its user namespace?
pub(crate) fn own_stack(mode: &NetworkMode) -> bool {
    !matches!(mode, NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Path(_))
}

/// The ids of podwire's own user namespace.
fn ours() -> Result<IdMaps> {
    let map = |map: std::io::Result<Vec<IdRange>>| {
        map.map_err(|e| Error::at("cannot read the ids of our own user namespace", e))
    };
    Ok(IdMaps { uids: map(userns::uid_map())?, gids: map(userns::gid_map())? })
}

/// Is there nobody in our own user namespace but root?
pub(crate) fn we_have_one_id() -> bool {
    ours().is_ok_and(|ours| idmaps::total(&ours.uids) == 1)
}

/// The user and group whom root of our namespace is outside.
fn outer_ids() -> Result<(u32, u32)> {
    let ours = ours()?;
    let outer = |map: &[IdRange]| idmaps::outside(map, 0).unwrap_or(0);
    Ok((outer(&ours.uids), outer(&ours.gids)))
}

/// Somebody's ranges of /etc/subuid or /etc/subgid, one after the other from 0.
fn subordinate(name: &str, users: bool) -> Result<Vec<IdMapWish>> {
    let mut next = 0;
    let wish = |(outside, count): (u32, u32)| {
        let count = count.min(u32::MAX - outside).min(u32::MAX - next);
        let range = IdRange { inside: next, outside, count };
        next += count;
        IdMapWish { range, of_host: true, extends: false, users, groups: !users }
    };
    Ok(ranges_of(name, users)?.into_iter().map(wish).collect())
}

fn ranges_of(name: &str, users: bool) -> Result<Vec<(u32, u32)>> {
    let (kind, file) = if users { ("subuid", "/etc/subuid") } else { ("subgid", "/etc/subgid") };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // By number too, but nobody has this one.
    let ranges = userns::subordinate(&text, Some(name), u32::MAX);
    match ranges.is_empty() {
        true => Err(Error::usage(format!("no {kind} ranges found for user {name:?} in {file}"))),
        false => Ok(ranges),
    }
}

/// What `--userns auto` chooses from: for root the ids of a user who is there for that, for an ordinary user all of his but his own.
fn pool(options: &EngineOptions) -> Result<Pool> {
    if options.rootless {
        let ours = ours()?;
        let beside = |map: &[IdRange]| vec![(1, idmaps::total(map).saturating_sub(1))];
        return Ok(Pool { uids: beside(&ours.uids), gids: beside(&ours.gids) });
    }
    let ranges = |users| {
        ranges_of(AUTO_USER, users).map_err(|e| Error::at(format!("cannot find mappings for user {AUTO_USER:?}"), e))
    };
    Ok(Pool { uids: ranges(true)?, gids: ranges(false)? })
}

/// How many ids an image needs: all that own its files, and all of its accounts but `nobody`.
fn size_for(image: &Image) -> Result<u32> {
    let highest = images::highest_owner(&image.layers)?.max(highest_account(&image.layers));
    let size = highest.saturating_add(1).max(*AUTO_SIZES.start());
    if size > *AUTO_SIZES.end() {
        return Err(Error::usage(format!(
            "the container needs a user namespace with size {size} that is bigger than the maximum value allowed with userns=auto {}",
            AUTO_SIZES.end()
        )));
    }
    Ok(size)
}

fn highest_account(layers: &[PathBuf]) -> u32 {
    // The topmost file is the one that counts.
    let text = |path: &str| {
        let mut found = layers.iter().filter_map(|layer| read_inside(File::open(layer).ok()?.as_fd(), path).ok());
        found.next().unwrap_or_default()
    };
    let ids = |text: &str, fields: &[usize]| -> u32 {
        let numbers = text.lines().flat_map(|line| {
            let all: Vec<&str> = line.split(':').collect();
            fields.iter().filter_map(|n| all.get(*n)?.parse().ok()).collect::<Vec<u32>>()
        });
        numbers.filter(|id| *id != NOBODY).max().unwrap_or(0)
    };
    ids(&text("etc/passwd"), &[2, 3]).max(ids(&text("etc/group"), &[2]))
}

/// The user a container runs as when nobody says: with `keep-id` who runs podwire, else the image's.
pub(crate) fn default_user(config: &ContainerConfig, rootless: bool) -> Result<Option<String>> {
    let UsersWish::KeepId { uid, gid, .. } = &config.users else { return Ok(None) };
    let own = if rootless { outer_ids()? } else { (0, 0) };
    Ok(Some(format!("{}:{}", uid.unwrap_or(own.0), gid.unwrap_or(own.1))))
}

/// Adds whoever runs podwire to the container's accounts, as Podman does with `keep-id`: his name, and as home
/// his own directory if a volume brings it, else where the command starts.
pub(crate) fn add_current_user(record: &ContainerRecord, root: &File) -> Result<()> {
    let (uid, gid) = outer_ids()?;
    let account = linux::account::Account::of(uid);
    let home =
        match account.home.filter(|home| record.settings.mounts.iter().any(|mount| home.starts_with(&mount.target))) {
            Some(home) => home.display().to_string(),
            None => record.settings.workdir.clone(),
        };
    let name = account.name.unwrap_or_else(|| uid.to_string());
    let full = account.full_name.unwrap_or_default();
    let group = rootless::group_name(gid).unwrap_or_else(|| gid.to_string());
    append(root, "etc/passwd", uid, &format!("{name}:*:{uid}:{gid}:{full}:{home}:/bin/sh\n"))?;
    append(root, "etc/group", gid, &format!("{group}:x:{gid}:{name}\n"))
}

/// Adds a line for `id` to a file that has its id in the third field, unless there is one. An image without the
/// file gets none.
fn append(root: &File, path: &str, id: u32, line: &str) -> Result<()> {
    use std::io::Write;
    let Ok(text) = read_inside(root.as_fd(), path) else { return Ok(()) };
    let known = text.lines().any(|line| line.split(':').nth(2).and_then(|n| n.parse().ok()) == Some(id));
    if known {
        return Ok(());
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let file = open_inside(root.as_fd(), Path::new(path), OFlags::WRONLY | OFlags::APPEND);
    file.and_then(|mut file| file.write_all(format!("{gap}{line}").as_bytes()))
        .map_err(|e| Error::cannot_start(format!("cannot add the user to /{path} of the container: {e}")))
}
