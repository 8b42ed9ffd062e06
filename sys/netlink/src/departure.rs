//! Removing a link without waiting for what nobody needs.
//!
//! ```text
//!   RTM_DELLINK ──> closed, off all lists, addresses and routes gone ──> RTM_DELLINK to listeners   ~1 ms
//!                   rcu_barrier, references dropped (netdev_run_todo) ──> the answer              15–50 ms
//! ```
//!
//! The kernel answers a removal only when the device's memory can be freed (net/core/dev.c,
//! unregister_netdevice_many_notify and netdev_run_todo). By then its name has been free for a long time. So a
//! thread waits for the answer, and the caller goes on when the kernel has announced that the link is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;

use crate::socket::Listener;
use crate::{Errno, Socket, rtnetlink};

/// A pair of sockets of one namespace that can remove one link.
#[derive(Debug)]
pub struct Departure {
    sender: Socket,
    listener: Listener,
}

impl Departure {
    /// Opens the sockets in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self { listener: Listener::open(rtnetlink::LINKS_GROUP)?, sender: Socket::open(crate::Protocol::Route)? })
    }

    /// Sends the removal from a thread of its own, which waits for the answer.
    ///
    /// For a bridge even the announcement takes as long as the answer: `br_multicast_dev_del` waits for RCU
    /// (rcu_barrier in net/bridge/br_multicast.c) in between. It is off all lists before that.
    pub fn begin(self, index: u32) -> io::Result<std::thread::JoinHandle<io::Result<Result<(), Errno>>>> {
        let Self { mut sender, .. } = self;
        let send = move || Ok(sender.batch(&[rtnetlink::delete_link(index)])?.pop().unwrap_or(Ok(())));
        std::thread::Builder::new().name("link removal".to_owned()).stack_size(128 << 10).spawn(send)
    }

    /// Removes the link with this index. When this returns `Ok`, the link, its veth peer, addresses and routes
    /// are gone and its name is free.
    pub fn remove(self, index: u32) -> io::Result<Result<(), Errno>> {
        let Self { mut sender, mut listener } = self;
        let (answered, answer_comes) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (put, answer) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("link removal".to_owned()).stack_size(128 << 10).spawn(move || {
            let result = sender.batch(&[rtnetlink::delete_link(index)]);
            // Nobody may listen any more: the link was heard to be gone.
            let _ = put.send(result);
            drop::<OwnedFd>(answer_comes);
        })?;
        loop {
            let mut fds = [PollFd::new(&listener, PollFlags::IN), PollFd::new(&answered, PollFlags::IN)];
            retry_on_intr(|| poll(&mut fds, None))?;
            // The end of the pipe: the thread is through.
            if !fds[1].revents().is_empty() {
                let mut results = answer.recv().map_err(|_| io::Error::other("a removal was given up"))??;
                return Ok(results.pop().unwrap_or(Ok(())));
            }
            // A listener that missed something is no witness: the answer is.
            let heard = listener.heard(|reply| rtnetlink::is_departure(reply, index));
            match heard {
                Ok(true) => return Ok(Ok(())),
                Ok(false) => {}
                Err(_) => poll(&mut [PollFd::new(&answered, PollFlags::IN)], None).map(drop)?,
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
