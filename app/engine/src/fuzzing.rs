//! Doors for fuzzers: whatever the text, these return.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::HostEntry;
use crate::copy::{Owner, Tree, Unpacking};
use crate::endpoints::AttachedEndpoint;
use crate::files::{HostsFile, ResolvConf};
use crate::log::{LogLine, Stream, format_chunk};
use crate::pods::PodRecord;
use crate::protocol::Decoder;
use crate::record::ContainerRecord;
use crate::talk::{KeyWatch, Typed};
use crate::{DetachKeys, idmaps, inspect, lookup, spec, user};

/// Reads `text` as the host's resolv.conf: what a file made of it says is the same.
pub fn resolv_conf(text: &str) {
    let conf = ResolvConf::parse(text);
    assert_eq!(ResolvConf::parse(&conf.text()), conf, "{}", conf.text());
}

/// Makes a container's hosts file beside the host's `text`; every line of it must be an address and names.
pub fn hosts(text: &str) {
    let ip = IpAddr::from(Ipv4Addr::new(10, 88, 0, 2));
    let added = [HostEntry { names: vec!["db".parse().expect("a name")], ip: None }];
    let file = HostsFile { added: &added, host_file: text, host_ip: Some(ip), own: &[ip], own_names: &["web"] };
    let made = file.text();
    for line in made.lines() {
        let (ip, names) = line.split_once('\t').expect("an address, a tabulator, names");
        assert!(ip.parse::<IpAddr>().is_ok() && names.split(' ').all(|name| !name.is_empty()), "{line:?}");
    }
    assert!(made.lines().any(|line| line == "10.88.0.2\tdb") && made.lines().any(|line| line == "10.88.0.2\tweb"));
}

/// Reads `bytes` as what a monitor and a command say to each other, in pieces of `piece`: whole or in pieces, it is the
/// same, and said again it is understood as the same.
pub fn frames(bytes: &[u8], piece: usize) {
    let hear = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece);
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => return (frames, false),
                }
            }
        }
        (frames, true)
    };
    let whole = hear(&mut std::iter::once(bytes));
    assert!(hear(&mut bytes.chunks(piece.max(1))) == whole, "{whole:?} in pieces of {piece}");
    let mut again = Vec::new();
    whole.0.iter().for_each(|frame| frame.write(&mut again));
    assert!(hear(&mut std::iter::once(&again[..])) == (whole.0, true));
}

/// Reads `text` as each document that the store keeps, and shows it: read and written it is the same.
pub fn record(text: &str) {
    if let Some(record) = kept::<ContainerRecord>(text) {
        let _ = (record.shown_state(), inspect::state(&record), inspect::config(&record));
        let _ = inspect::host_config(&record, "/log".into());
        let _ = (spec::capabilities(&record.settings.security), spec::rlimits(&record.settings.inside.ulimits));
        record.settings.mounts.iter().for_each(|mount| drop(inspect::mount(mount)));
    }
    if let Some(pod) = kept::<PodRecord>(text) {
        let _ = pod.shown_hostname();
    }
    kept::<AttachedEndpoint>(text);
    kept::<crate::Volume>(text);
    kept::<crate::Health>(text);
    kept::<dhcp::Lease>(text);
    kept::<dhcp::Lease6>(text);
    kept::<linux::cgroups::Group>(text);
}

fn kept<T: Serialize + DeserializeOwned>(text: &str) -> Option<T> {
    let read: T = serde_json::from_str(text).ok()?;
    let written = serde_json::to_value(&read).expect("what is kept can be written");
    let again: T = serde_json::from_value(written.clone()).unwrap_or_else(|e| panic!("{e}: {written}"));
    assert_eq!(serde_json::to_value(&again).expect("as before"), written);
    Some(read)
}

/// Looks `wish` up in an image's files of users and groups: everything has a number, and a number is what it says.
pub fn user(wish: &str, passwd: &str, group: &str) {
    let Ok(user) = user::look_up(wish, passwd, group) else { return };
    assert!(user.groups.is_sorted() && !user.groups.contains(&user.gid), "{user:?}");
    if let Some((uid, gid)) =
        wish.split_once(':').and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)))
    {
        let named = |file: &str, name: &str| file.lines().any(|line| line.split(':').next() == Some(name));
        let (uid_text, gid_text) = wish.split_once(':').unwrap_or_default();
        assert!(named(passwd, uid_text) || user.uid == uid);
        assert!(named(group, gid_text) || user.gid == gid);
    }
}

/// Reads `bytes` as a container's log, and writes them to one: what was written is read again, byte by byte.
pub fn log(bytes: &[u8]) {
    bytes.split_inclusive(|byte| *byte == b'\n').for_each(|line| {
        let _ = LogLine::parse(line);
    });
    let (mut written, mut read) = (Vec::new(), Vec::new());
    format_chunk(&mut written, jiff::Timestamp::UNIX_EPOCH, Stream::Stdout, bytes);
    for line in written.split_inclusive(|byte| *byte == b'\n') {
        let line = LogLine::parse(line).expect("a line of ours");
        assert!(line.time.parse::<jiff::Timestamp>().is_ok());
        read.extend_from_slice(line.text);
    }
    assert!(read == bytes);
}

/// Reads `text` as a seccomp profile: what it says for all that is not named stays what it says.
pub fn seccomp(text: &str) {
    for capabilities in [&[][..], &["CAP_SYS_ADMIN".to_owned(), "CAP_SYS_CHROOT".to_owned()]] {
        let Some(profile) = crate::seccomp::from_file(text, capabilities) else { continue };
        let said: serde_json::Value = serde_json::from_str(text).expect("as before");
        assert_eq!(profile["defaultAction"], said["defaultAction"]);
    }
}

/// Types `bytes`, in pieces of `piece`, where `keys` detach: nothing that is typed before is lost.
pub fn typed(keys: &str, bytes: &[u8], piece: usize) {
    let Ok(keys) = keys.parse::<DetachKeys>() else { return };
    let mut watch = KeyWatch::new(&keys);
    let (mut passed, mut typed) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        match watch.feed(piece) {
            Typed::Pass(bytes) => passed.extend(bytes),
            Typed::Detach(bytes) => {
                passed.extend(bytes);
                passed.extend(watch.held_back());
                typed.extend(piece);
                assert!(typed.starts_with(&passed), "{passed:?} of {typed:?}");
                return;
            }
        }
        typed.extend(piece);
        assert!([&passed, watch.held_back()].concat() == typed, "{passed:?} of {typed:?}");
    }
}

/// Reads the lines as `--uidmap`: no id is there twice, inside or outside.
pub fn id_map(lines: &str) {
    let texts: Vec<String> = lines.lines().map(str::to_owned).collect();
    let Ok(wishes) = idmaps::parse("UID", &texts) else { return };
    let parent = [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 4_294_900_000, 60_000)];
    let parent = parent.map(|(inside, outside, count)| idmaps::IdRange { inside, outside, count });
    for fill in [false, true] {
        let Ok(map) = idmaps::combine(&wishes, &parent, fill) else { continue };
        let mut sides = [map.iter().map(|r| (r.inside, r.count)).collect::<Vec<_>>(), Vec::new()];
        sides[1] = map.iter().map(|r| (r.outside, r.count)).collect();
        for side in &mut sides {
            side.sort_unstable();
            let apart =
                side.windows(2).all(|pair| pair[0].0.checked_add(pair[0].1).is_some_and(|end| end <= pair[1].0));
            assert!(apart, "{map:?}");
        }
    }
    for wish in wishes {
        let range = wish.range;
        let map = idmaps::keep(range.inside, range.count, Some(range.outside));
        assert!(idmaps::total(&map) <= range.count.max(1), "{map:?}");
    }
}

/// Shows the image with this configuration, and looks for its health check.
pub fn image_config(text: &str) {
    let Some(image) = images::fuzzing::image(text) else { return };
    let shown = crate::inspect_image(&image);
    assert!(shown["Id"].is_string());
    if let Ok(raw) = serde_json::from_str(text) {
        let check = lookup::image_check(&raw);
        assert!(check.is_none_or(|check| !check.command.is_empty()));
    }
}

/// Reads `text` as podwire.conf, and as what an OCI runtime has written before it failed.
pub fn settings(text: &str) {
    let _ = crate::Settings::parse(text);
    assert!(!crate::runtime::explain("crun", text).to_string().is_empty());
}

/// Reads `text` as the kernel's statistics of a container.
pub fn statistics(text: &str) {
    crate::stats::read_anything(text);
}

/// Unpacks `bytes` as `podwire cp` does, below `inside/there`, an empty directory, as from and as to a container.
pub fn copy(bytes: &[u8], inside: &Path) {
    let how = Unpacking { owner: Owner::These(0, 0), overwrite: bytes.len().is_multiple_of(2) };
    let Ok(root) = File::open(inside) else { return };
    let _ = Tree::container(root).unpack(Path::new("/there"), bytes, how);
    if let Ok(root) = File::open(inside) {
        let _ = Tree::container(root).pack(Path::new("/there"), Path::new("x"), std::io::sink());
    }
}
