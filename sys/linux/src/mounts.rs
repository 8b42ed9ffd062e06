//! Mounting, in the mount namespace of the calling thread.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statfs, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_bind,
    mount_bind_recursive, mount_change, mount_remount, move_mount, open_tree,
};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use crate::netns::{on_fresh_thread, unshare};
use crate::userns::UserNs;

/// May what is mounted be written to?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As the source allows.
    ReadWrite,
    /// Not by this mount, nor by those below it.
    ReadOnly,
}

/// How far a bind mount or a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The one mount.
    One,
    /// With all mounts below it.
    All,
}

/// Where mounts made at one place also appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nowhere else.
    Private,
    /// The host's appear here, not ours there (`rslave`).
    Slave,
    /// Both ways.
    Shared,
}

/// The attribute that hides what lower layers have in a directory, with the value `y`, where we are the host's root.
pub const OPAQUE: &str = "trusted.overlay.opaque";
/// The same in a user namespace (`userxattr` in Documentation/filesystems/overlayfs.rst).
pub const OPAQUE_FOR_USERS: &str = "user.overlay.opaque";

/// Mounts on `target` the `lower` directories, topmost first, with `upper` above them all. `work` is an
/// empty directory on the file system of `upper`.
///
/// In a user namespace, where nobody may set `trusted.` attributes, overlay's own are `user.` ones: see
/// [`OPAQUE`] and [`OPAQUE_FOR_USERS`].
///
/// At least 128 layers fit: kernels before 6.7, which take one page of options, are given names
/// relative to the directory that the layers share.
pub fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
    // strndup_user in fs/fsopen.c: a parameter of the mount API holds 255 bytes.
    let short = |path: &Path| path.as_os_str().len() <= 255;
    let all_short = lower.iter().all(|path| short(path)) && short(upper) && short(work);
    if all_short && overlay_by_parameters(lower, upper, work, target)? {
        return Ok(());
    }
    overlay_by_page(lower, upper, work, target)
}

/// `false` when the kernel has no `lowerdir+`.
fn overlay_by_parameters(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> io::Result<bool> {
    let context = match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NOSYS) => return Ok(false),
        context => context?,
    };
    for (n, path) in lower.iter().enumerate() {
        match fsconfig_set_string(&context, "lowerdir+", path.as_path()) {
            Err(Errno::INVAL) if n == 0 && !complaint(&context).contains("failed to resolve") => return Ok(false),
            set => set.map_err(|e| explained(e, &context, path))?,
        }
    }
    for (key, path) in [("upperdir", upper), ("workdir", work)] {
        fsconfig_set_string(&context, key, path).map_err(|e| explained(e, &context, path))?;
    }
    if !crate::userns::is_initial() {
        fsconfig_set_flag(&context, "userxattr").map_err(|e| explained(e, &context, target))?;
    }
    // A file's data never stays below when its owner or mode changed: layers are also read without overlay.
    fsconfig_set_string(&context, "metacopy", "off").map_err(|e| explained(e, &context, target))?;
    fsconfig_create(&context).map_err(|e| explained(e, &context, target))?;
    let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&made, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| at(e, "cannot mount overlay on", target))?;
    Ok(true)
}

/// mount(2) takes one page of options, so layers are named from the directory they share.
fn overlay_by_page(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
    let absolute = |path: &Path| path.canonicalize().map_err(|e| io_at(&e, "cannot find", path));
    let lower = lower.iter().map(|path| absolute(path)).collect::<io::Result<Vec<_>>>()?;
    let (upper, work, target) = (absolute(upper)?, absolute(work)?, absolute(target)?);
    let shared = shared_directory(lower.iter().chain([&upper, &work]));
    let own_attributes = if crate::userns::is_initial() { "" } else { "userxattr," };
    let mut options = format!("{own_attributes}metacopy=off,lowerdir=").into_bytes();
    for (n, path) in lower.iter().enumerate() {
        options.extend_from_slice(if n > 0 { b":" } else { b"" });
        escape(&mut options, path.strip_prefix(&shared).unwrap_or(path));
    }
    for (key, path) in [(&b",upperdir="[..], &upper), (b",workdir=", &work)] {
        options.extend_from_slice(key);
        escape(&mut options, path.strip_prefix(&shared).unwrap_or(path));
    }
    let options = CString::new(options)?;
    on_fresh_thread(|| {
        // A working directory of this thread alone, so that nobody else's relative paths move.
        unshare(UnshareFlags::FS)?;
        rustix::process::chdir(&shared)?;
        mount("overlay", &target, "overlay", MountFlags::empty(), options.as_c_str())
            .map_err(|e| at(e, "cannot mount overlay on", &target))
    })
}

/// The longest directory that all `paths` lie in.
fn shared_directory<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> PathBuf {
    paths
        .map(|path| path.parent().unwrap_or(path).to_owned())
        .reduce(|a, b| a.components().zip(b.components()).take_while(|(x, y)| x == y).map(|(x, _)| x).collect())
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// Overlay's own separators are escaped by a backslash (ovl_parse_param_lowerdir in fs/overlayfs/params.c).
fn escape(options: &mut Vec<u8>, path: &Path) {
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(byte);
    }
}

/// Makes `source` appear at `target` as well. With [`Access::ReadOnly`], all mounts below are read-only too.
pub fn bind(source: &Path, target: &Path, depth: Depth, access: Access) -> io::Result<()> {
    match depth {
        Depth::One => mount_bind(source, target),
        Depth::All => mount_bind_recursive(source, target),
    }
    .map_err(|e| at(e, &format!("cannot bind {} on", source.display()), target))?;
    if access == Access::ReadWrite {
        return Ok(());
    }
    read_only(target, depth).inspect_err(|_| {
        // Rather nothing than something writable; the error that matters is the first one.
        let _ = unmount(target);
    })
}

/// Makes `source`, with the mounts below it when `depth` says so, appear at `target` with other owners: an id of
/// its files is what the same id in `users` is outside (`MOUNT_ATTR_IDMAP` in mount_setattr(2), Linux 5.12). Not
/// every file system can; nor may any but the root of the user namespace that mounted the file system.
pub fn bind_mapped(source: &Path, target: &Path, depth: Depth, users: &UserNs) -> io::Result<()> {
    use std::os::fd::{AsFd, AsRawFd};
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mut reach = libc::AT_EMPTY_PATH;
    if depth == Depth::All {
        flags |= OpenTreeFlags::AT_RECURSIVE;
        reach |= libc::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, source, flags).map_err(|e| at(e, "cannot open", source))?;
    let users = u64::try_from(users.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: users };
    // SAFETY: mount_setattr reads an empty NUL-terminated path and `size_of::<mount_attr>()` bytes of attributes;
    // both live until the call returns, as do the two descriptors, and it writes to neither.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            reach,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if set != 0 {
        return Err(io_at(&io::Error::last_os_error(), "cannot map the owners of", source));
    }
    move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| at(e, &format!("cannot bind {} on", source.display()), target))
}

fn read_only(target: &Path, depth: Depth) -> io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    let recursive = if depth == Depth::All { libc::AT_RECURSIVE } else { 0 };
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: mount_setattr reads a NUL-terminated path and `size_of::<mount_attr>()` bytes of attributes;
    // both live until the call returns, and it writes to neither.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if set == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // Before Linux 5.12: only the one mount.
        e if e.raw_os_error() == Some(libc::ENOSYS) => {
            Ok(mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?)
        }
        e => Err(io_at(&e, "cannot make read-only", target)),
    }
}

/// Sets where mounts below `target` also appear; `target` must be a mount point.
pub fn propagate(target: &Path, propagation: Propagation, depth: Depth) -> io::Result<()> {
    let kind = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
    };
    let reach = if depth == Depth::All { MountPropagationFlags::REC } else { MountPropagationFlags::empty() };
    mount_change(target, kind | reach).map_err(|e| at(e, "cannot change propagation of", target))
}

/// A copy of the mount at `path` as `process` sees it, to be put somewhere else by [`put`].
pub fn copy_of(process: &crate::ProcessRef, path: &Path) -> io::Result<OwnedFd> {
    let pidfd = process.pidfd()?;
    on_fresh_thread(|| {
        // Who shares a working directory with others may not change the mount namespace (setns(2)).
        unshare(UnshareFlags::FS)?;
        move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::MOUNT)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(CWD, path, flags)?)
    })
}

/// Mounts at `target` what [`copy_of`] has copied.
pub fn put(copy: &OwnedFd, target: &Path) -> io::Result<()> {
    move_mount(copy, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| at(e, "cannot mount at", target))
}

/// Moves the calling thread into a mount namespace of its own, in which the host's later mounts appear but
/// whose own mounts the host never sees. Threads it starts later are in it too; those that run already are not.
pub fn enter_private_namespace() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    propagate(Path::new("/"), Propagation::Slave, Depth::All)
}

/// Mounts an empty file system in memory, of at most `size` bytes (half the memory when `None`).
pub fn tmpfs(target: &Path, size: Option<u64>, mode: u32) -> io::Result<()> {
    let size = size.map_or(String::new(), |bytes| format!(",size={bytes}"));
    let options = CString::new(format!("mode={mode:o}{size}"))?;
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .map_err(|e| at(e, "cannot mount tmpfs on", target))
}

/// Mounts the version 2 control group tree. In a user namespace, where the host's may not be mounted, the calling
/// thread first gets a control group namespace of its own.
pub fn cgroup2(target: &Path) -> io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    mount_cgroup2(&path).map_err(|e| at(e, "cannot mount cgroup2 on", target))
}

/// As [`cgroup2`], for between fork and exec: it allocates nothing.
pub(crate) fn mount_cgroup2(target: &CStr) -> rustix::io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount(c"cgroup2", target, c"cgroup2", flags, None) {
        // cgroup_get_tree asks for CAP_SYS_ADMIN over the control group namespace (kernel/cgroup/cgroup.c).
        Err(Errno::PERM) => {
            unshare(UnshareFlags::NEWCGROUP).map_err(|_| Errno::PERM)?;
            mount(c"cgroup2", target, c"cgroup2", flags, None)
        }
        done => done,
    }
}

/// Is a version 2 control group tree mounted there?
pub fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.f_type as u64 == CGROUP2_MAGIC)
}

/// CGROUP2_SUPER_MAGIC in include/uapi/linux/magic.h
pub(crate) const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// Takes away what is mounted on `target`, at once for all who look, later for those who use it. Nothing
/// mounted there, or nothing there, is not an error.
pub fn unmount(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(e) => Err(at(e, "cannot unmount", target)),
    }
}

/// Is `path` the root of a mount? A missing path is not.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::TYPE) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The mount points at or below `directory` in the calling thread's namespace, innermost last.
pub fn below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/thread-self/mountinfo")?;
    let points = table.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    Ok(points.map(unescape).filter(|point| point.starts_with(directory)).collect())
}

/// Blanks and backslashes are written as three octal digits (mangle_path in fs/seq_file.c).
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let octal = if *first == b'\\' { tail.get(..3) } else { None };
        let octal = octal.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// What the kernel wrote into the mount context's log.
fn complaint(context: &OwnedFd) -> String {
    let mut text = [0; 512];
    let read = context.try_clone().and_then(|fd| File::from(fd).read(&mut text)).unwrap_or(0);
    String::from_utf8_lossy(&text[..read]).trim_start_matches("e ").trim_end().to_owned()
}

fn explained(e: Errno, context: &OwnedFd, path: &Path) -> io::Error {
    let what = match complaint(context) {
        why if why.is_empty() => "cannot mount overlay with".to_owned(),
        why => format!("cannot mount overlay ({why}) with"),
    };
    at(e, &what, path)
}

fn at(e: Errno, what: &str, path: &Path) -> io::Error {
    io_at(&e.into(), what, path)
}

fn io_at(e: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(e.kind(), format!("{what} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alone, needs_root};

    /// An empty file system to work in, with `n` layers each of one file, and upper, work and target.
    fn layers(n: usize) -> Vec<PathBuf> {
        tmpfs(Path::new("/run"), None, 0o755).unwrap();
        for directory in ["upper", "work", "target"] {
            std::fs::create_dir(Path::new("/run").join(directory)).unwrap();
        }
        let layer = |i: usize| {
            let path = PathBuf::from(format!("/run/a:b,c/overlay/{i}/diff"));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(format!("f{i}")), "").unwrap();
            std::fs::write(path.join("which"), i.to_string()).unwrap();
            path
        };
        (0..n).map(layer).collect()
    }

    fn check_overlay(mount: impl Fn(&[PathBuf], &Path, &Path, &Path)) {
        let lower = layers(128);
        let [upper, work, target] = ["upper", "work", "target"].map(|name| Path::new("/run").join(name));
        mount(&lower, &upper, &work, &target);
        assert!(is_mount_point(&target).unwrap());
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 129);
        assert_eq!(std::fs::read_to_string(target.join("which")).unwrap(), "0", "the first layer is on top");
        std::fs::write(target.join("new"), "x").unwrap();
        assert!(upper.join("new").exists());
        unmount(&target).unwrap();
        unmount(&target).unwrap();
        assert!(!is_mount_point(&target).unwrap());
    }

    #[test]
    fn overlay_takes_128_layers() {
        needs_root!();
        alone(|| check_overlay(|l, u, w, t| overlay(l, u, w, t).unwrap()));
    }

    #[test]
    fn overlay_takes_128_layers_on_kernels_without_lowerdir_plus() {
        needs_root!();
        alone(|| check_overlay(|l, u, w, t| overlay_by_page(l, u, w, t).unwrap()));
    }

    #[test]
    fn overlay_names_what_is_missing() {
        needs_root!();
        alone(|| {
            let mut lower = layers(2);
            lower.push("/run/gone".into());
            let [upper, work, target] = ["upper", "work", "target"].map(|name| Path::new("/run").join(name));
            let e = overlay(&lower, &upper, &work, &target).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::NotFound);
            assert!(e.to_string().contains("/run/gone"), "{e}");
            assert!(!is_mount_point(&target).unwrap());
        });
    }

    #[test]
    fn overlay_takes_names_longer_than_the_mount_apis_parameters() {
        needs_root!();
        alone(|| {
            layers(0);
            let long = Path::new("/run").join("x".repeat(200)).join("y".repeat(200));
            std::fs::create_dir_all(&long).unwrap();
            let [upper, work, target] = ["upper", "work", "target"].map(|name| Path::new("/run").join(name));
            overlay(&[long], &upper, &work, &target).unwrap();
            assert!(is_mount_point(&target).unwrap());
        });
    }

    #[test]
    fn a_read_only_bind_holds_for_the_mounts_below() {
        needs_root!();
        alone(|| {
            layers(0);
            std::fs::create_dir_all("/run/upper/inner").unwrap();
            tmpfs(Path::new("/run/upper/inner"), Some(65536), 0o700).unwrap();
            bind(Path::new("/run/upper"), Path::new("/run/target"), Depth::All, Access::ReadOnly).unwrap();
            for path in ["/run/target/f", "/run/target/inner/f"] {
                assert_eq!(std::fs::write(path, "").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
            }
            std::fs::write("/run/upper/inner/f", "").unwrap();
            assert_eq!(below(Path::new("/run/target")).unwrap().len(), 2);
        });
    }

    #[test]
    fn a_mount_point_with_a_blank_is_listed() {
        needs_root!();
        alone(|| {
            std::fs::create_dir("/run/a b\\").unwrap();
            tmpfs(Path::new("/run/a b\\"), None, 0o755).unwrap();
            assert_eq!(below(Path::new("/run/a b\\")).unwrap(), [Path::new("/run/a b\\")]);
        });
    }

    #[test]
    fn mounts_of_a_private_namespace_stay_there() {
        needs_root!();
        alone(|| {
            std::fs::create_dir("/run/target").unwrap();
            on_fresh_thread(|| {
                enter_private_namespace()?;
                tmpfs(Path::new("/run/target"), None, 0o755)?;
                assert!(is_mount_point(Path::new("/run/target"))?);
                Ok(())
            })
            .unwrap();
            assert!(!is_mount_point(Path::new("/run/target")).unwrap());
        });
    }
}
