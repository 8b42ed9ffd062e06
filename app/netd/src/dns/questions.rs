//! Sockets to upstreams: one for each question, with a port of the kernel's random choice.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use dns::{Socket, Transport};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};

use super::poller::{Poller, Token};

/// All open questions; their number is bounded by the server.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// By [`Socket::index`].
    places: Vec<Option<Question>>,
    serial: u32,
}

/// What [`Questions::hear`] heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nothing so far.
    Nothing,
    /// A message of the upstream's.
    Message { socket: Socket, from: SocketAddr, length: usize },
    /// The upstream cannot be reached, or has closed the connection.
    Failed { socket: Socket },
}

#[derive(Debug)]
struct Question {
    socket: Socket,
    to: SocketAddr,
    fd: OwnedFd,
    serial: u32,
    stream: Option<Stream>,
}

/// A message each way, with its length in front.
#[derive(Debug)]
struct Stream {
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Questions {
    /// Opens a socket and sends, or begins to.
    pub(super) fn ask(
        &mut self,
        poller: &Poller,
        socket: Socket,
        to: SocketAddr,
        transport: Transport,
        message: &[u8],
    ) -> std::io::Result<()> {
        let place = socket.index();
        self.serial = self.serial.wrapping_add(1);
        let token = Token::Question { place: place as u32, serial: self.serial };
        let (fd, stream) = match transport {
            Transport::Udp => {
                let fd = open(to, SocketType::DGRAM)?;
                connect(&fd, &to)?;
                send(&fd, message, SendFlags::NOSIGNAL)?;
                poller.add(&fd, token, EventFlags::IN)?;
                (fd, None)
            }
            Transport::Tcp => {
                let fd = open(to, SocketType::STREAM)?;
                match connect(&fd, &to) {
                    Ok(()) | Err(Errno::INPROGRESS) => {}
                    Err(error) => return Err(error.into()),
                }
                poller.add(&fd, token, EventFlags::OUT)?;
                let output = [&(message.len() as u16).to_be_bytes(), message].concat();
                (fd, Some(Stream { output, input: Vec::new() }))
            }
        };
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] = Some(Question { socket, to, fd, serial: self.serial, stream });
        Ok(())
    }

    /// Closes a socket, if it was ever opened.
    pub(super) fn close(&mut self, socket: Socket) {
        if let Some(place) = self.places.get_mut(socket.index())
            && place.as_ref().is_some_and(|question| question.socket == socket)
        {
            *place = None;
        }
    }

    /// Reads at most one message into `buffer`, and sends what is left to send.
    pub(super) fn hear(&mut self, poller: &Poller, place: u32, serial: u32, buffer: &mut [u8]) -> Heard {
        let question = self.places.get_mut(place as usize).and_then(Option::as_mut);
        let Some(question) = question.filter(|question| question.serial == serial) else { return Heard::Nothing };
        let (socket, from) = (question.socket, question.to);
        let token = Token::Question { place, serial };
        match question.hear(poller, token, buffer) {
            Ok(Some(length)) => Heard::Message { socket, from, length },
            Ok(None) | Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
            Err(_) => Heard::Failed { socket },
        }
    }
}

impl Question {
    /// The length of a message that is now in `buffer`.
    fn hear(&mut self, poller: &Poller, token: Token, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        let Some(stream) = &mut self.stream else {
            return Ok(Some(recv(&self.fd, &mut *buffer, RecvFlags::empty())?.0));
        };
        if !stream.output.is_empty() {
            // Also how the connection came about: an error of it is this call's.
            let sent = send(&self.fd, &stream.output, SendFlags::NOSIGNAL)?;
            stream.output.drain(..sent);
            if stream.output.is_empty() {
                poller.change(&self.fd, token, EventFlags::IN).map_err(|_| Errno::NOMEM)?;
            }
            return Ok(None);
        }
        let (_, length) = recv(&self.fd, &mut *buffer, RecvFlags::empty())?;
        if length == 0 {
            return Err(Errno::CONNRESET);
        }
        stream.input.extend_from_slice(&buffer[..length]);
        Ok(stream.take(buffer))
    }
}

impl Stream {
    /// The first whole message, moved into `buffer`.
    fn take(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let length = usize::from(u16::from_be_bytes(*self.input.first_chunk()?));
        let message = self.input.get(2..2 + length)?;
        buffer.get_mut(..length)?.copy_from_slice(message);
        self.input.drain(..2 + length);
        Some(length)
    }
}

fn open(to: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // An ordinary user's upstreams are the host's, which netd's own namespace is not.
    linux::netns::home().run(|| socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None))
}
