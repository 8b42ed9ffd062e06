//! One netlink socket: send, and attribute the answers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};

use crate::message::{text, u32_at};
use crate::{Attrs, Errno, Message, Reply, flags};

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

impl Protocol {
    fn number(self) -> Option<rustix::net::Protocol> {
        match self {
            Self::Route => None, // protocol 0 is NETLINK_ROUTE
            Self::Netfilter => Some(netlink::NETFILTER),
        }
    }
}

/// A socket in the network namespace the calling thread was in when it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

/// The largest piece of a dump is 32 KiB (netlink_dump in af_netlink.c); one link can be a little longer.
const RECEIVE: usize = 128 << 10;
/// Kernel memory that one short answer occupies in the receive queue, rounded up.
const ANSWER_COST: usize = 2 << 10;
/// Kernel memory for announcements that nobody has read yet.
const REMEMBERED: usize = 1 << 20;
/// How often a dump is asked for again when the kernel says that it was disturbed.
const DUMP_TRIES: u32 = 32;
/// The kernel answers at once; whoever waits so long has lost an answer. Better an error than a command that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

impl Socket {
    /// Opens a socket that asks for the kernel's words with errors and for strict checks of dump filters.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol.number())?;
        Self::with_options(fd, 0)
    }

    /// A netlink socket that another process has opened, in the namespace it was opened in, and that others may
    /// go on to use after us, one at a time. `InvalidInput` when it is another kind of socket.
    ///
    /// Answers that a user who was killed has not read are dropped. Its numbers are not used again, or they
    /// would be taken for answers to ours.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if sockopt::socket_domain(&fd)? != AddressFamily::NETLINK {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a netlink socket"));
        }
        let mut socket = Self::with_options(fd, std::process::id().wrapping_mul(0x9e37_79b9))?;
        socket.drain();
        Ok(socket)
    }

    fn with_options(fd: OwnedFd, seq: u32) -> io::Result<Self> {
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK, libc::NETLINK_GET_STRICT_CHK] {
            linux::netlink_socket::enable(fd.as_fd(), option)?;
        }
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { fd, seq, buffer: vec![0; RECEIVE] })
    }

    /// The kernel's name for this socket, whoever holds it: mostly the process that opened it; 0 before its first
    /// message.
    pub fn port_id(&self) -> io::Result<u32> {
        let name = netlink::SocketAddrNetlink::try_from(rustix::net::getsockname(&self.fd)?)?;
        Ok(name.pid())
    }

    /// Sends all messages in one `sendmsg`; returns one result per message, in order.
    ///
    /// A message without `NLM_F_ACK` counts as done unless the kernel complained about it. The outer error
    /// is for the socket itself: then nothing is known about what was done, except that `EMSGSIZE` and an
    /// overlong attribute mean that nothing was sent. Only messages that the kernel acknowledges may ask for it:
    /// the begin and end of an nf_tables batch do not before Linux 6.10.
    pub fn batch(&mut self, messages: &[Message]) -> io::Result<Vec<Result<(), Errno>>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let acks = messages.iter().filter(|m| m.flags() & flags::ACK != 0).count();
        self.make_room_for_answers(messages.len().max(acks) * ANSWER_COST);
        let first = self.send(messages)?;
        let mut results: Vec<Option<Result<(), Errno>>> = vec![None; messages.len()];
        while let Some(replies) = self.receive(RecvFlags::DONTWAIT)? {
            for reply in replies.iter().filter(|r| r.kind == NLMSG_ERROR) {
                let place = usize::try_from(reply.seq.wrapping_sub(first)).ok().and_then(|n| results.get_mut(n));
                // The first complaint about a message is the one that names the cause.
                if let Some(place) = place.filter(|p| !matches!(p, Some(Err(_)))) {
                    *place = Some(answer(reply));
                }
            }
        }
        let refused = results.iter().any(|r| matches!(r, Some(Err(_))));
        messages.iter().zip(results).map(|(message, result)| settle(message, result, refused)).collect()
    }

    /// Everything of a kind. `message` needs no flags.
    pub fn dump(&mut self, message: Message) -> io::Result<Vec<Reply>> {
        let message = message.with_flags(flags::DUMP);
        for _ in 0..DUMP_TRIES {
            if let Some(replies) = self.dump_once(&message)? {
                return Ok(replies);
            }
        }
        Err(io::Error::other("the kernel's tables change too fast to be read"))
    }

    /// One object; `None` when the kernel knows none such (`ENODEV`, `ENOENT`, `ESRCH`).
    pub fn get(&mut self, message: Message) -> io::Result<Option<Reply>> {
        let seq = self.send(std::slice::from_ref(&message))?;
        while let Some(replies) = self.receive(RecvFlags::empty())? {
            let Some(reply) = replies.into_iter().find(|reply| reply.seq == seq) else { continue };
            if reply.kind != NLMSG_ERROR {
                return Ok(Some(reply));
            }
            return match answer(&reply) {
                Ok(()) => Ok(None),
                Err(e) if [libc::ENODEV, libc::ENOENT, libc::ESRCH].contains(&e.code) => Ok(None),
                Err(e) => Err(e.into()),
            };
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// `None` when the dump was disturbed and must be asked for again.
    fn dump_once(&mut self, message: &Message) -> io::Result<Option<Vec<Reply>>> {
        let seq = self.send(std::slice::from_ref(message))?;
        let (mut all, mut disturbed) = (Vec::new(), false);
        loop {
            let replies = match self.receive(RecvFlags::empty()) {
                Ok(Some(replies)) => replies,
                Ok(None) => return Err(io::ErrorKind::TimedOut.into()),
                Err(e) if Errno::code_of(&e) == libc::ENOBUFS => {
                    disturbed = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            for reply in replies.into_iter().filter(|r| r.seq == seq) {
                disturbed |= reply.flags & flags::DUMP_INTR != 0;
                match reply.kind {
                    NLMSG_DONE => {
                        done(&reply)?;
                        return Ok((!disturbed).then_some(all));
                    }
                    NLMSG_ERROR => answer(&reply)?,
                    _ => all.push(reply),
                }
            }
        }
    }

    /// Returns the first message's sequence number; the others follow it.
    fn send(&mut self, messages: &[Message]) -> io::Result<u32> {
        if messages.iter().any(Message::is_too_long) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a netlink attribute is longer than 64 KiB"));
        }
        // Whatever a request that failed halfway has left in the queue is answered to nobody.
        self.drain();
        let first = self.seq.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.iter().map(Message::size).sum());
        for message in messages {
            self.seq = self.seq.wrapping_add(1);
            message.write(self.seq, &mut bytes);
        }
        self.make_room_to_send(bytes.len());
        let sent = retry_on_intr(|| send(&self.fd, &bytes, SendFlags::empty()))?;
        if sent == bytes.len() { Ok(first) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Empties the queue. `ENOBUFS` says that it was full, and comes before what is in it.
    fn drain(&mut self) {
        loop {
            match self.receive(RecvFlags::DONTWAIT) {
                Ok(Some(_)) => {}
                Err(e) if Errno::code_of(&e) == libc::ENOBUFS => {}
                Ok(None) | Err(_) => break,
            }
        }
    }

    /// What one `recv` returns; `None` when nothing is there (or nothing came for as long as we wait).
    fn receive(&mut self, flags: RecvFlags) -> io::Result<Option<Vec<Reply>>> {
        let fd = &self.fd;
        let buffer = &mut self.buffer;
        match retry_on_intr(|| recv(fd, &mut buffer[..], flags | RecvFlags::TRUNC)) {
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
            Ok((_, len)) => match self.buffer.get(..len) {
                Some(bytes) => Ok(Some(Reply::split(bytes))),
                None => Err(io::Error::other("an answer of the kernel does not fit into the buffer")),
            },
        }
    }

    /// A send must fit into the send buffer as a whole, less 32 bytes (netlink_sendmsg). Beyond the system's
    /// limit where we may, up to it otherwise; what is still too small then shows as `EMSGSIZE`.
    fn make_room_to_send(&self, len: usize) {
        let want = len + 4096;
        if sockopt::socket_send_buffer_size(&self.fd).is_ok_and(|have| have < want)
            && sockopt::set_socket_send_buffer_size_force(&self.fd, want).is_err()
        {
            let _ = sockopt::set_socket_send_buffer_size(&self.fd, want);
        }
    }

    /// As above; what is still too small then shows as `ENOBUFS`.
    fn make_room_for_answers(&self, want: usize) {
        if sockopt::socket_recv_buffer_size(&self.fd).is_ok_and(|have| have < want)
            && sockopt::set_socket_recv_buffer_size_force(&self.fd, want).is_err()
        {
            let _ = sockopt::set_socket_recv_buffer_size(&self.fd, want);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket that hears what the kernel announces to a multicast group.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Listener {
    /// Hears the rtnetlink groups of this bit mask (`RTMGRP_…`) from now on.
    pub(crate) fn open(groups: u32) -> io::Result<Self> {
        Self::open_for(Protocol::Route, groups)
    }

    /// Hears the groups of this bit mask from now on, and remembers some thousand announcements.
    pub(crate) fn open_for(protocol: Protocol, groups: u32) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol.number())?;
        if sockopt::set_socket_recv_buffer_size_force(&fd, REMEMBERED).is_err() {
            // Not allowed beyond the system's limit: what is missed is told as ENOBUFS.
            let _ = sockopt::set_socket_recv_buffer_size(&fd, REMEMBERED);
        }
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd, buffer: vec![0; RECEIVE] })
    }

    /// The next announcements; `None` when there are no more. `ENOBUFS`: some were missed.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<Reply>>> {
        let (fd, buffer) = (&self.fd, &mut self.buffer);
        match retry_on_intr(|| recv(fd, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)) {
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
            // One that does not fit was missed, too.
            Ok((_, len)) => match self.buffer.get(..len) {
                Some(bytes) => Ok(Some(Reply::split(bytes))),
                None => Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
            },
        }
    }

    /// Has anything that is there to be read this property?
    pub(crate) fn heard(&mut self, is_it: impl Fn(&Reply) -> bool) -> io::Result<bool> {
        let (fd, buffer) = (&self.fd, &mut self.buffer);
        let mut heard = false;
        loop {
            match retry_on_intr(|| recv(fd, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)) {
                Err(rustix::io::Errno::AGAIN) => return Ok(heard),
                Err(e) => return Err(e.into()),
                Ok((_, len)) => heard |= buffer.get(..len).is_some_and(|b| Reply::split(b).iter().any(&is_it)),
            }
        }
    }
}

/// An `NLMSG_ERROR`: a negative error number (0 for an ack), the request's header, perhaps the kernel's words.
pub(crate) fn answer(reply: &Reply) -> Result<(), Errno> {
    let code = u32_at(&reply.payload, 0).map_or(libc::EBADMSG, |code| code.cast_signed().wrapping_neg());
    if code == 0 {
        return Ok(());
    }
    let request = u32_at(&reply.payload, 4).unwrap_or(16) as usize;
    let echoed = if reply.flags & NLM_F_CAPPED != 0 { 16 } else { request.next_multiple_of(4) };
    let words = reply.payload.get(4 + echoed..).filter(|_| reply.flags & NLM_F_ACK_TLVS != 0);
    Err(Errno { code, text: kernel_words(words.unwrap_or_default()) })
}

/// An `NLMSG_DONE` carries an error number too, and words after it.
pub(crate) fn done(reply: &Reply) -> Result<(), Errno> {
    let code = u32_at(&reply.payload, 0).map_or(0, |code| code.cast_signed().wrapping_neg());
    if code <= 0 { Ok(()) } else { Err(Errno { code, text: kernel_words(reply.payload.get(4..).unwrap_or_default()) }) }
}

fn kernel_words(attributes: &[u8]) -> String {
    Attrs::new(attributes).find(NLMSGERR_ATTR_MSG).and_then(text).unwrap_or_default().to_owned()
}

/// A missing answer is normal where none was asked for, and when another message made the kernel drop the
/// whole batch (nf_tables); alone it means that an answer was lost.
fn settle(message: &Message, result: Option<Result<(), Errno>>, refused: bool) -> io::Result<Result<(), Errno>> {
    match result {
        Some(result) => Ok(result),
        None if message.flags() & flags::ACK == 0 => Ok(Ok(())),
        None if refused => Ok(Err(Errno::new(libc::ECANCELED))),
        None => Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, flags: u16, rest: &[u8]) -> Reply {
        let mut payload = (-code).to_ne_bytes().to_vec();
        payload.extend([40, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        payload.extend(rest);
        Reply { kind: NLMSG_ERROR, flags, seq: 7, payload }
    }

    #[test]
    fn an_answer_of_zero_is_an_ack() {
        assert_eq!(answer(&error(0, NLM_F_CAPPED, &[])), Ok(()));
    }

    #[test]
    fn the_kernels_words_are_found_after_a_capped_and_after_an_echoed_request() {
        let words = [&[8, 0, 1, 0][..], b"no!\0"].concat();
        let flags = NLM_F_ACK_TLVS | NLM_F_CAPPED;
        assert_eq!(answer(&error(22, flags, &words)), Err(Errno { code: 22, text: "no!".into() }));
        let echoed = [&[0; 24][..], &words].concat();
        assert_eq!(answer(&error(22, NLM_F_ACK_TLVS, &echoed)), Err(Errno { code: 22, text: "no!".into() }));
        assert_eq!(answer(&error(22, NLM_F_CAPPED, &words)), Err(Errno::new(22)));
    }

    #[test]
    fn a_mutilated_answer_is_an_error_and_no_panic() {
        let reply = Reply { kind: NLMSG_ERROR, flags: NLM_F_ACK_TLVS, seq: 7, payload: vec![1] };
        assert_eq!(answer(&reply), Err(Errno::new(libc::EBADMSG)));
        // The one number that has no negative (found by fuzzing).
        let payload = i32::MIN.to_ne_bytes().to_vec();
        let reply = Reply { payload, ..reply };
        assert_eq!(answer(&reply), Err(Errno::new(i32::MIN)));
        assert_eq!(done(&reply), Ok(()));
    }

    #[test]
    fn an_unanswered_message_is_done_cancelled_or_lost_by_what_was_asked() {
        let (asked, unasked) = (Message::new(1, flags::ACK), Message::new(1, 0));
        assert!(matches!(settle(&unasked, None, true), Ok(Ok(()))));
        assert!(matches!(settle(&asked, None, true), Ok(Err(e)) if e.code == libc::ECANCELED));
        assert!(settle(&asked, None, false).is_err());
    }
}
