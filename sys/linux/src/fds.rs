//! Descriptors sent over Unix sockets, and the limit on how many a process may have.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Sends `fd` with one byte of data, which a stream socket needs to carry it.
pub fn send(socket: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one descriptor and drops the data that came with it: how an OCI runtime hands over the master
/// of a container's terminal (`--console-socket`). `UnexpectedEof` when the peer closed without sending one.
pub fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // Runtimes send the terminal's path or name along; at most this much is taken with the descriptor.
    let mut data = [0; 4096];
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut data)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fd = fds.next().and_then(|mut fds| fds.next());
    fd.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no descriptor was sent"))
}

/// Gives the calling thread a table of descriptors of its own (unshare(CLONE_FILES)), in which there is nothing but
/// copies of these, and of the last of them under the numbers of standard input, output and error: what a panic writes
/// goes to no connection. What a process may have of descriptors it may have in each of its tables.
///
/// What the thread owned before is not open for it any more: it must not use it, nor close it.
pub fn own_table<const N: usize>(keep: [&OwnedFd; N]) -> io::Result<[OwnedFd; N]> {
    // SAFETY: from here on this thread's numbers are not those of other threads; the caller knows.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }?;
    let copies: io::Result<Vec<OwnedFd>> = keep.iter().map(|fd| Ok(fcntl_dupfd_cloexec(fd, 3)?)).collect();
    let copies = copies?;
    let mut numbers: Vec<u32> = copies.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    numbers.sort_unstable();
    let mut first = 0;
    for number in numbers {
        close_range(first, number.saturating_sub(1), number > first)?;
        first = number + 1;
    }
    close_range(first, u32::MAX, true)?;
    for number in 0..3 {
        // SAFETY: no descriptor of this table has these numbers any more.
        if unsafe { libc::dup2(copies[N - 1].as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    copies.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn close_range(first: u32, last: u32, is_any: bool) -> io::Result<()> {
    if !is_any {
        return Ok(());
    }
    // SAFETY: the numbers belong to nobody in this thread, see `own_table`.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends two descriptors and a message over a packet socket.
pub fn send_two(socket: impl AsFd, fds: [BorrowedFd<'_>; 2], message: &[u8]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// What [`send_two`] has sent, without waiting: the message's length in `room`, and the descriptors.
pub fn receive_two(socket: impl AsFd, room: &mut [u8]) -> io::Result<(usize, [OwnedFd; 2])> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::io::retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(&mut *room)], &mut control, flags))?;
    let mut fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    match (fds.next(), fds.next()) {
        (Some(first), Some(second)) => Ok((got.bytes, [first, second])),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no two descriptors were sent")),
    }
}

/// Lets this process, and those it starts, have as many descriptors as its hard limit allows; that many.
pub fn raise_limit() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// How many descriptors this process has open.
pub fn count() -> io::Result<u64> {
    // One of the entries is the descriptor that lists them.
    Ok((std::fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn a_descriptor_arrives_and_closes_on_exec() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&a, writer.as_fd()).unwrap();
        drop(writer);
        let arrived = receive(&b).unwrap();
        assert!(rustix::io::fcntl_getfd(&arrived).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        drop(arrived);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the last writer is gone");
    }

    #[test]
    fn a_peer_that_sends_none_is_an_error() {
        let (a, b) = UnixStream::pair().unwrap();
        drop(a);
        assert_eq!(receive(&b).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
