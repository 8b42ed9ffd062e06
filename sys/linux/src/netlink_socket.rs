//! Netlink socket options, which rustix does not have.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Turns one of the boolean `SOL_NETLINK` options on: `NETLINK_EXT_ACK`, `NETLINK_GET_STRICT_CHK`, …
pub fn enable(fd: BorrowedFd<'_>, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: setsockopt(2) reads `size_of_val(&on)` bytes from `&on`, which lives until it returns; `fd` is open.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
