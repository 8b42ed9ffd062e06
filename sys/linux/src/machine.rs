//! Chance, clocks and facts about the machine: what pure code takes as arguments.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

/// `N` random bytes fit for keys and ids.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::io::retry_on_intr(|| getrandom(&mut bytes[filled..], GetRandomFlags::empty()))?;
    }
    Ok(bytes)
}

/// Another text after each boot: 36 characters.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

/// Seconds since boot, time asleep included. Unlike the wall clock nobody sets it.
pub fn boottime() -> i64 {
    clock_gettime(ClockId::Boottime).tv_sec
}

/// As [`boottime`], to the nanosecond.
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Seconds since some moment of this boot, time asleep excluded.
pub fn monotonic() -> i64 {
    clock_gettime(ClockId::Monotonic).tv_sec
}

/// Sets which permissions new files of this process do not get; the earlier mask.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Bytes that can still be written to the file system of `path`.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let fs = rustix::fs::statvfs(path)?;
    Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Bytes of the whole file system of `path`, and those that are free.
pub fn space(path: &Path) -> io::Result<(u64, u64)> {
    let fs = rustix::fs::statvfs(path)?;
    Ok((fs.f_blocks.saturating_mul(fs.f_frsize), fs.f_bfree.saturating_mul(fs.f_frsize)))
}

/// The kind of file system of `path`, by the names that container tools have for them.
pub fn file_system(path: &Path) -> io::Result<String> {
    // include/uapi/linux/magic.h
    let magic = rustix::fs::statfs(path)?.f_type as u64 & 0xffff_ffff;
    let name = match magic {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x6969 => "nfs",
        other => return Ok(format!("<unknown> (0x{other:x})")),
    };
    Ok(name.to_owned())
}

/// The kernel's release, for example `6.1.0-18-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_differ_and_clocks_advance_together() {
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(boottime() >= monotonic());
    }
}
