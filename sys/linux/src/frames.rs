//! Whole Ethernet frames of one link, past the network stack: packet(7).
//!
//! For who speaks before the link has an address. The socket sees what comes in, also what the stack would drop, and
//! sends past routes and firewall.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use model::LinkName;
use rustix::net::netdevice;

/// One instruction of a classic BPF program, as in Linux' networking/filter.rst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when the condition holds.
    pub then: u8,
    /// As above, when it does not.
    pub otherwise: u8,
    /// The operand.
    pub operand: u32,
}

/// A socket that hears and sends the frames of one link. Does not block.
#[derive(Debug)]
pub struct FrameSocket {
    fd: OwnedFd,
    mac: [u8; 6],
}

impl FrameSocket {
    /// On the link `name` of the network namespace that the calling thread is in; hears what comes in and passes
    /// `filter`.
    ///
    /// Errors: `NotFound` or `ENODEV` when there is no such link, `InvalidInput` when it is not Ethernet,
    /// `PermissionDenied` without CAP_NET_RAW.
    pub fn open(name: &LinkName, filter: &[Instruction]) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket(2) takes three numbers. Of protocol 0 it hears nothing until it is bound.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel gave us this descriptor just now, and nobody else has it.
        let fd = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        attach(&fd, filter)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let index = netdevice::name_to_index(&fd, name.as_str())?;
        bind(&fd, index)?;
        let mac = station(&fd)?;
        Ok(Self { fd, mac })
    }

    /// The link's MAC address when the socket was opened.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The next frame, into `room`; a longer one is cut. `WouldBlock` when there is none.
    pub fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, room)?)
    }

    /// Sends a frame, its Ethernet header included.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, frame)?;
        Ok(())
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn attach(fd: &OwnedFd, filter: &[Instruction]) -> io::Result<()> {
    let to_libc = |i: &Instruction| libc::sock_filter { code: i.code, jt: i.then, jf: i.otherwise, k: i.operand };
    let mut program: Vec<libc::sock_filter> = filter.iter().map(to_libc).collect();
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The kernel copies the program before the call returns, so that `program` outlives what points to it.
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is a whole value of the type that this option has, with its size; it is only read.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn address() -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is integers and an array of them, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn bind(fd: &OwnedFd, index: u32) -> io::Result<()> {
    let mut address = address();
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is a whole sockaddr_ll with its size; it is only read.
    match unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The MAC address of the link that the socket is bound to.
fn station(fd: &OwnedFd) -> io::Result<[u8; 6]> {
    let mut address = address();
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets to `address`, which has room for them, and the length.
    if unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    match (address.sll_hatype, address.sll_halen) {
        (libc::ARPHRD_ETHER, 6) => Ok(std::array::from_fn(|n| address.sll_addr[n])),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the link is not an Ethernet link")),
    }
}
