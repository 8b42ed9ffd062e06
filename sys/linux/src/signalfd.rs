//! Signals as something to read, so that one loop waits for them together with everything else.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Signal;

/// Signals of the calling thread that wait to be read instead of acting; as before when dropped.
///
/// Programs started meanwhile inherit that these signals are blocked: start them before.
#[derive(Debug)]
pub struct SignalFd {
    file: File,
    before: libc::sigset_t,
}

impl SignalFd {
    /// From now on these signals can be read, and do nothing else.
    pub fn block(signals: &[Signal]) -> io::Result<Self> {
        let set = set_of(signals);
        let mut before = MaybeUninit::uninit();
        // SAFETY: pthread_sigmask reads a set that was initialised and writes the earlier mask to memory of
        // that type; it is initialised when the call succeeds, which is checked before it is used.
        let before = match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()) } {
            // SAFETY: as above.
            0 => unsafe { before.assume_init() },
            errno => return Err(io::Error::from_raw_os_error(errno)),
        };
        // SAFETY: signalfd reads the set and returns a new descriptor or -1.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd == -1 {
            let error = io::Error::last_os_error();
            restore(&before);
            return Err(error);
        }
        // SAFETY: the descriptor was just made and nobody else knows it.
        Ok(Self { file: File::from(unsafe { OwnedFd::from_raw_fd(fd) }), before })
    }

    /// The next signal that waits, if one does.
    #[expect(clippy::should_implement_trait, reason = "it never ends, it only has nothing yet")]
    pub fn next(&mut self) -> io::Result<Option<Signal>> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        match self.file.read(&mut record) {
            // ssi_signo is the first field (signalfd(2)).
            Ok(_) => Ok(Signal::new(i32::from_ne_bytes([record[0], record[1], record[2], record[3]]))),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given; sigaddset changes an initialised one, and fails
    // without effect for numbers that are no signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal.number());
        }
        set.assume_init()
    }
}

fn restore(before: &libc::sigset_t) {
    // SAFETY: reads a mask that pthread_sigmask itself gave us; no place for the earlier one is asked for.
    // It cannot fail: the first argument is one of the three known ones.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read_and_does_nothing_else() {
        let usr1 = Signal::new(10).unwrap();
        let mut signals = SignalFd::block(&[usr1]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // SAFETY: raise sends a signal to the calling thread, which has it blocked.
        assert_eq!(unsafe { libc::raise(usr1.number()) }, 0);
        assert_eq!(signals.next().unwrap(), Some(usr1));
        assert_eq!(signals.next().unwrap(), None);
    }
}
