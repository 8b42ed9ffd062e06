//! Network devices whose packets a process reads and writes: /dev/net/tun.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use model::LinkName;
use rustix::fs::{Mode, OFlags};

/// One end of a layer 3 link; the kernel has the other one. The link goes with the last descriptor.
#[derive(Debug)]
pub struct Tun(OwnedFd);

/// The device of which TUN links are made.
pub const DEVICE: &str = "/dev/net/tun";

/// May we make such links? `PermissionDenied`, `NotFound` or `ENXIO` when not.
pub fn check() -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(DEVICE, flags, Mode::empty()).map(drop)?)
}

impl Tun {
    /// Makes the link `name` in the network namespace that the calling thread is in, down. Reading does not block.
    ///
    /// Errors: `PermissionDenied` when the device file is closed to us, `NotFound` when there is none, `EBUSY` when
    /// somebody has the other end of a link of this name.
    pub fn create(name: &LinkName) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(DEVICE, flags, Mode::empty())?;
        // SAFETY: ifreq is integers, arrays of them and pointers, for all of which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
            *to = from.cast_signed();
        }
        // Packets begin with their IP header.
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
        // SAFETY: TUNSETIFF reads and writes an ifreq, which is ours for the length of the call; a link's name is at
        // most 15 octets long, so the name ends with NUL.
        match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(Self(fd)),
        }
    }

    /// The next packet that was routed to the link, into `room`; a longer one is cut. `WouldBlock` when there is none.
    pub fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, room)?)
    }

    /// Has a packet come in by the link. The kernel takes it to its end, however far that is, before this returns.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.0, packet)?;
        Ok(())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
