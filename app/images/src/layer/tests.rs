//! Ordinary and hostile layers, unpacked for real.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use proptest::prelude::*;
use tar::EntryType;

use super::*;
use crate::testing::{Tar, pax_record, root};

/// Small, so that reaching them takes no time.
const LIMITS: Limits = Limits { unpacked: 8 << 20, entries: 100, ratio: 250, ratio_free: 4 << 20 };

/// Unpacks into `layer` inside a directory that has other things: the listing of the layer, or the error. In
/// any case nothing beside the layer may have changed.
fn unpacked(archive: &[u8]) -> String {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let layer = outside.path().join("layer/diff");
    fs::create_dir_all(&layer).unwrap();
    let said = match unpack(archive, None, &layer, &LIMITS) {
        Ok(_) => listing(&layer),
        Err(error) => error.to_string().replace(&format!("{}/layer/diff", outside.path().display()), "layer"),
    };
    let secret = fs::metadata(outside.path().join("secret")).unwrap();
    assert_eq!((secret.nlink(), secret.len()), (1, 6), "the file outside was linked or written");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2, "something was made outside");
    said
}

/// An empty directory for a layer's files.
struct Diff {
    diff: PathBuf,
    _dir: tempfile::TempDir,
}

impl Diff {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let diff = dir.path().join("diff");
        fs::create_dir(&diff).unwrap();
        Self { diff, _dir: dir }
    }

    fn path(&self) -> &Path {
        &self.diff
    }
}

fn check(name: &str, archive: Tar, means: &str) {
    if root(name) {
        let means: String = means.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        assert_eq!(unpacked(&archive.bytes()), means);
    }
}

/// One line per file: type and mode, path, and what there is to say of it.
fn listing(layer: &Path) -> String {
    let mut lines = Vec::new();
    walk(layer, layer, &mut lines);
    lines.sort();
    lines.join("\n")
}

fn walk(layer: &Path, at: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut line = path.strip_prefix(layer).unwrap().display().to_string();
        let kind = meta.file_type();
        if kind.is_symlink() {
            write!(line, " -> {}", fs::read_link(&path).unwrap().display()).unwrap();
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap();
            write!(line, " {:o} {:?} x{}", meta.mode() & 0o7777, String::from_utf8_lossy(&content), meta.nlink())
                .unwrap();
        } else if kind.is_dir() {
            let opaque = attribute(&path, "trusted.overlay.opaque").is_some();
            write!(line, "/ {:o}{}", meta.mode() & 0o7777, if opaque { " opaque" } else { "" }).unwrap();
        } else if kind.is_fifo() {
            line += " fifo";
        } else {
            let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            write!(line, " {} {major}:{minor}", if kind.is_char_device() { "char" } else { "block" }).unwrap();
        }
        lines.push(line);
        if kind.is_dir() {
            walk(layer, &path, lines);
        }
    }
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn files_of_all_kinds_but_devices_come_out_as_they_are() {
    check(
        "files_of_all_kinds_but_devices_come_out_as_they_are",
        Tar::new()
            .dir("./")
            .dir("bin/")
            .entry(EntryType::Regular, "bin/su", "", 0o4755, b"su")
            .symlink("sbin", "bin")
            .link("bin/sudo", "bin/su")
            .device("dev/null", EntryType::Char, 1, 3)
            .device("dev/sda", EntryType::Block, 8, 0)
            .entry(EntryType::Fifo, "run/pipe", "", 0o600, b"")
            .entry(EntryType::Directory, "tmp", "", 0o1777, b""),
        "bin/ 755
         bin/su 4755 \"su\" x2
         bin/sudo 4755 \"su\" x2
         dev/ 755
         run/ 755
         run/pipe fifo
         sbin -> bin
         tmp/ 1777",
    );
}

#[test]
fn a_whiteout_hides_what_is_below_and_keeps_what_this_layer_has() {
    check(
        "a_whiteout_hides_what_is_below_and_keeps_what_this_layer_has",
        Tar::new()
            .file("etc/.wh.passwd", b"")
            .file("kept", b"new")
            .file(".wh.kept", b"")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/x", b"x")
            .file(".wh.replaced", b"")
            .dir("replaced")
            .dir("merged")
            .file(".wh.merged", b"")
            .file(".wh..wh.plnk", b""),
        "etc/ 755
         etc/passwd char 0:0
         kept 644 \"new\" x1
         merged/ 755 opaque
         opaque/ 755 opaque
         opaque/x 644 \"x\" x1
         replaced/ 755 opaque",
    );
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    check(
        "a_later_entry_replaces_an_earlier_one",
        Tar::new().file("d/x/y", b"1").file("f", b"1").file("d/x", b"2").dir("f").symlink("l", "d").file("l", b"3"),
        "d/ 755
         d/x 644 \"2\" x1
         f/ 755
         l 644 \"3\" x1",
    );
}

#[test]
fn a_directory_replaced_by_a_link_is_not_written_through_anymore() {
    check(
        "a_directory_replaced_by_a_link_is_not_written_through_anymore",
        Tar::new().file("d/a", b"1").dir("e").symlink("d", "e").file("d/b", b"2"),
        "d -> e
         e/ 755
         e/b 644 \"2\" x1",
    );
}

#[test]
fn a_path_that_leads_outside_is_refused() {
    for path in ["../secret", "a/../../secret", "/../secret", "./../secret"] {
        check(
            "a_path_that_leads_outside_is_refused",
            Tar::new().file(path, b"evil"),
            &format!("malformed layer: entry {path:?} leads outside"),
        );
    }
    check(
        "a_path_that_leads_outside_is_refused",
        Tar::new().file("/etc/motd", b"hi"),
        "etc/ 755\netc/motd 644 \"hi\" x1",
    );
}

#[test]
fn a_symlink_to_the_outside_leads_back_inside() {
    check(
        "a_symlink_to_the_outside_leads_back_inside",
        Tar::new().symlink("up", "../../../..").file("up/secret", b"evil"),
        "secret 644 \"evil\" x1
         up -> ../../../..",
    );
    // Absolute: what is at /etc in the layer, not on the host.
    check(
        "a_symlink_to_the_outside_leads_back_inside",
        Tar::new().dir("etc").symlink("host", "/etc").file("host/podwire-evil", b"evil"),
        "etc/ 755
         etc/podwire-evil 644 \"evil\" x1
         host -> /etc",
    );
    assert!(!Path::new("/etc/podwire-evil").exists());
}

#[test]
fn a_file_over_a_symlink_replaces_the_link() {
    check(
        "a_file_over_a_symlink_replaces_the_link",
        Tar::new().symlink("x", "../secret").file("x", b"evil"),
        "x 644 \"evil\" x1",
    );
}

#[test]
fn a_hard_link_reaches_only_this_layer() {
    let name = "a_hard_link_reaches_only_this_layer";
    check(name, Tar::new().link("x", "../secret"), "malformed layer: hard link to \"../secret\" leads outside");
    check(name, Tar::new().link("x", "/etc/passwd"), "hard link to /etc/passwd, which is not in this layer");
    check(
        name,
        Tar::new().symlink("up", "..").link("x", "up/secret"),
        "hard link to up/secret, which is not in this layer",
    );
    // A link to a symlink is another name of the symlink.
    check(name, Tar::new().symlink("l", "/secret").link("x", "l"), "l -> /secret\nx -> /secret");
}

#[test]
fn a_whiteout_of_nothing_or_of_a_parent_is_refused() {
    for path in ["a/.wh.", "a/.wh..", "a/.wh..."] {
        check(
            "a_whiteout_of_nothing_or_of_a_parent_is_refused",
            Tar::new().file(path, b""),
            &format!("malformed layer: whiteout {path:?} leads outside"),
        );
    }
}

#[test]
fn a_path_through_a_file_is_an_error() {
    check(
        "a_path_through_a_file_is_an_error",
        Tar::new().file("f", b"").file("f/x", b""),
        "layer/f/x: Not a directory",
    );
}

#[test]
fn attributes_are_kept_unless_they_would_steer_overlayfs() {
    if !root("attributes_are_kept_unless_they_would_steer_overlayfs") {
        return;
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records = [
        pax_record("SCHILY.xattr.user.note", b"kept"),
        pax_record("SCHILY.xattr.security.capability", &capability),
        pax_record("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        pax_record("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        pax_record("SCHILY.xattr.security.selinux", b"x"),
    ]
    .concat();
    let dir = Diff::new();
    let archive = Tar::new().pax(&records).file("ping", b"x").bytes();
    unpack(archive.as_slice(), None, dir.path(), &LIMITS).unwrap();
    let ping = dir.path().join("ping");
    assert_eq!(attribute(&ping, "user.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(attribute(&ping, "security.capability").as_deref(), Some(&capability[..]));
    for unwelcome in ["trusted.overlay.redirect", "user.overlay.redirect", "security.selinux"] {
        assert_eq!(attribute(&ping, unwelcome), None, "{unwelcome}");
    }
}

#[test]
fn times_hold_also_for_directories_that_are_filled_later() {
    if !root("times_hold_also_for_directories_that_are_filled_later") {
        return;
    }
    let dir = Diff::new();
    let archive = Tar::new().dir("./").dir("a").dir("a/b").file("a/b/f", b"x").symlink("a/l", "b").bytes();
    unpack(archive.as_slice(), None, dir.path(), &LIMITS).unwrap();
    for path in ["", "a", "a/b", "a/b/f", "a/l"] {
        assert_eq!(fs::symlink_metadata(dir.path().join(path)).unwrap().mtime(), 1_700_000_000, "{path:?}");
    }
}

#[test]
fn long_zeros_become_holes() {
    let dir = Diff::new();
    let mut content = vec![0; 3 << 20];
    content[1 << 20] = 1;
    let archive = Tar::new().file("image", &content).file("tail", &[vec![1; 4096], vec![0; 10_000]].concat()).bytes();
    let done = unpack(archive.as_slice(), None, dir.path(), &LIMITS).unwrap();
    let meta = fs::metadata(dir.path().join("image")).unwrap();
    assert_eq!(fs::read(dir.path().join("image")).unwrap(), content);
    assert!(meta.blocks() * 512 <= 64 << 10, "{} blocks", meta.blocks());
    assert_eq!(fs::metadata(dir.path().join("tail")).unwrap().len(), 14_096);
    assert_eq!(done.diff.size, (3 << 20) + 14_096);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn both_digests_are_right_whatever_the_compression() {
    let plain = Tar::new().file("f", b"hello").bytes();
    let zstd = zstd::encode_all(plain.as_slice(), 3).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd.as_slice()].concat();
    for blob in [plain.clone(), gzip(&plain), zstd, skippable] {
        let dir = Diff::new();
        let done = unpack(blob.as_slice(), Some(&Digest::of(&blob)), dir.path(), &LIMITS).unwrap();
        assert_eq!(done.blob, Some((Digest::of(&blob), blob.len() as u64)));
        assert_eq!((done.diff.id, done.diff.archive), (Digest::of(&plain), plain.len() as u64));
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"hello");
    }
}

#[test]
fn what_cannot_be_decompressed_is_one_clear_line() {
    let said = |bytes: &[u8]| unpacked(bytes);
    assert_eq!(said(b"\xfd7zXZ\0rest"), "xz compression is not supported; decompress it with xz -d first");
    assert_eq!(said(b"not an archive at all"), "unexpected end: the archive is cut short");
    let whole = gzip(&Tar::new().file("f", &[7; 5000]).bytes());
    assert!(said(&whole[..whole.len() / 2]).starts_with("unexpected end"), "{}", said(&whole[..whole.len() / 2]));
    let mut damaged = whole.clone();
    let at = damaged.len() - 6;
    damaged[at] ^= 1;
    assert!(said(&damaged).contains("corrupt"), "{}", said(&damaged));
}

#[test]
fn a_layer_that_asks_too_much_is_stopped_early() {
    let zeros = Tar::new().file("zeros", &vec![0; 6 << 20]).bytes();
    assert_eq!(
        unpacked(&zstd::encode_all(zeros.as_slice(), 1).unwrap()),
        "the layer unpacks to more than 250 times its size; refused as a decompression bomb"
    );
    let large = Tar::new().file("large", &vec![7; 9 << 20]).bytes();
    assert_eq!(unpacked(&large), "the layer unpacks to more than 8 MiB");
    let many = (0..60).fold(Tar::new(), |tar, n| tar.dir(&format!("a{n}/b/c")));
    check("a_layer_that_asks_too_much_is_stopped_early", many, "the layer has more than 100 entries");
    // Says to be large, with nothing behind it.
    let mut sparse = tar::Header::new_gnu();
    sparse.set_path("s").unwrap();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_size(0);
    sparse.set_mode(0o644);
    sparse.set_uid(0);
    sparse.set_gid(0);
    sparse.as_gnu_mut().unwrap().set_real_size(1 << 40);
    sparse.set_cksum();
    assert_eq!(unpacked(sparse.as_bytes()), "the layer unpacks to more than 8 MiB");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_entries_stay_inside(entries in prop::collection::vec((0_usize..6, "[a-c./]{0,8}", "[a-c./]{0,12}"), 1..12)) {
        if root("any_entries_stay_inside") {
            let tar = entries.iter().fold(Tar::new(), |tar, (kind, path, target)| match kind {
                0 => tar.file(path, b"x"),
                1 => tar.dir(path),
                2 => tar.symlink(path, target),
                3 => tar.link(path, target),
                4 => tar.file(&format!("{path}/.wh.{}", target.replace('/', "")), b""),
                _ => tar.symlink(path, &format!("../../{target}")),
            });
            unpacked(&tar.bytes());
        }
    }

    #[test]
    fn random_bytes_in_any_compression_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), kind in 0..3) {
        let blob = match kind {
            0 => bytes,
            1 => gzip(&bytes),
            _ => zstd::encode_all(bytes.as_slice(), 1).unwrap(),
        };
        unpacked(&blob);
    }
}
