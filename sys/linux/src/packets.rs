//! Conversations between our own processes: whole messages over a Unix socket, with a descriptor where needed.
//!
//! ```text
//!   command ── Packets::connect(path) ── SOCK_SEQPACKET ── PacketListener ── netd
//!                    {"Hello"} ──────────────────────────────>
//!                    <──────────────────────── {"Done"} + descriptor
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg, sockopt,
};

/// The longest message in bytes: every port of a host, published one by one, is told of in less.
pub const MESSAGE_MAX: usize = 32 << 20;

/// What goes over the socket at a time, which a socket's buffer surely holds.
const PIECE_MAX: usize = 64 << 10;
/// A piece that begins so is not a message's last one. No message does: they are texts.
const MORE: u8 = 0;

/// How long the other side may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One end of a conversation.
#[derive(Debug)]
pub struct Packets(OwnedFd);

impl Packets {
    /// Two ends that are connected.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::patient(a)?, Self::patient(b)?))
    }

    /// To whoever listens at `path`, who must be of our own user. `NotFound` and `ConnectionRefused` mean that
    /// nobody does.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &SocketAddrUnix::new(path)?))?;
        Self::of_our_user(socket)
    }

    /// A descriptor that this process was started with.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Self::patient(fd)
    }

    /// Sends one message, and a descriptor with it.
    pub fn send(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if message.len() > MESSAGE_MAX || message.first() == Some(&MORE) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message is too long, or no text"));
        }
        let mut left = message;
        while left.len() > PIECE_MAX {
            let (piece, rest) = left.split_at(PIECE_MAX - 1);
            self.send_piece(&[IoSlice::new(&[MORE]), IoSlice::new(piece)], None)?;
            left = rest;
        }
        self.send_piece(&[IoSlice::new(left)], fd)
    }

    fn send_piece(&self, octets: &[IoSlice<'_>], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        rustix::io::retry_on_intr(|| sendmsg(&self.0, octets, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// The next message with the descriptor that came along; `None` when the other side has ended.
    /// `WouldBlock` when it says nothing for half a minute.
    pub fn receive(&self) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
        let mut message = Vec::new();
        let mut piece = vec![0; PIECE_MAX];
        loop {
            let (length, fd) = self.receive_piece(&mut piece)?;
            match &piece[..length] {
                // An empty message is never sent, so this is the end.
                [] => return Ok(None),
                [MORE, more @ ..] if message.len() + more.len() <= MESSAGE_MAX => message.extend(more),
                [MORE, ..] => return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long")),
                last => {
                    message.extend(last);
                    return Ok(Some((message, fd)));
                }
            }
        }
    }

    fn receive_piece(&self, room: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::io::retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(room)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        if got.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a piece of a message is too long"));
        }
        let mut fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fd = fds.next().and_then(|mut fds| fds.next());
        Ok((got.bytes, fd))
    }

    /// Waits for the next message however long it takes.
    pub fn wait_for_ever(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, None)?)
    }

    fn patient(fd: OwnedFd) -> io::Result<Self> {
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(PATIENCE))?;
        Ok(Self(fd))
    }

    fn of_our_user(fd: OwnedFd) -> io::Result<Self> {
        let peer = sockopt::socket_peercred(&fd)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user is at the other end"));
        }
        Self::patient(fd)
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Packets> for OwnedFd {
    fn from(packets: Packets) -> Self {
        packets.0
    }
}

/// Where conversations begin.
#[derive(Debug)]
pub struct PacketListener(OwnedFd);

impl PacketListener {
    /// Listens at `path`, for our own user alone. A socket there that nobody listens at any more is replaced:
    /// the caller holds a lock that keeps two from doing so at a time.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
        rustix::net::listen(&socket, 128)?;
        Ok(Self(socket))
    }

    /// The next who connects. `PermissionDenied` for another user, who is sent away.
    pub fn accept(&self) -> io::Result<Packets> {
        let socket = rustix::io::retry_on_intr(|| rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC))?;
        Packets::of_our_user(socket)
    }
}

impl AsFd for PacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_borders_and_bring_a_descriptor() {
        let (a, b) = Packets::pair().unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        a.send(b"one", None).unwrap();
        a.send(b"two", Some(writer.as_fd())).unwrap();
        drop(a);
        assert!(matches!(b.receive().unwrap(), Some((text, None)) if text == b"one"));
        assert!(matches!(b.receive().unwrap(), Some((text, Some(_))) if text == b"two"));
        assert!(b.receive().unwrap().is_none());
    }

    #[test]
    fn a_long_message_goes_in_pieces_and_arrives_whole_with_its_descriptor() {
        let (a, b) = Packets::pair().unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        for length in [PIECE_MAX - 1, PIECE_MAX, PIECE_MAX + 1, 3 * PIECE_MAX, 5 << 20] {
            let message: Vec<u8> = (0..length).map(|n| b'a' + (n % 23) as u8).collect();
            std::thread::scope(|scope| {
                scope.spawn(|| a.send(&message, Some(writer.as_fd())).unwrap());
                assert!(matches!(b.receive().unwrap(), Some((text, Some(_))) if text == message), "{length}");
            });
        }
        assert!(a.send(&[0, 1], None).is_err());
        a.send_piece(&[IoSlice::new(&[MORE, 7])], None).unwrap();
        drop(a);
        assert!(b.receive().unwrap().is_none(), "half a message is none");
    }

    #[test]
    fn a_socket_left_by_the_dead_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(PacketListener::bind(&path).unwrap());
        assert_eq!(Packets::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let listener = PacketListener::bind(&path).unwrap();
        let client = Packets::connect(&path).unwrap();
        client.send(b"hello", None).unwrap();
        assert_eq!(listener.accept().unwrap().receive().unwrap().unwrap().0, b"hello");
    }
}
